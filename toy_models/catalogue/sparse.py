"""Sensitivity of features and what a search for it finds, in the sparse regime (TM-1, TM-2)."""

from __future__ import annotations

from sensverify.claims import Claim, FalseTwin
from sensverify.verdicts import Status

MODEL = (
    "h = Wx with x_i ~ U(0, 1) with probability p, else 0; read-out ReLU(Wᵀh + b), trained on squared error",
    "n = 512 features, d = 128 dimensions, p = 0.01; at least 3 training seeds",
)

claims: tuple[Claim, ...] = (
    Claim(
        id="TM-1",
        statement=(
            "In a sparse superposition model the true features are at least 2.5 times as sensitive as random "
            "directions."
        ),
        formula=(r"\frac{\overline{\mathrm{SeS}}(\text{feature})}{\overline{\mathrm{SeS}}(\text{random})} \geq 2.5"),
        hypotheses=(
            *MODEL,
            "one size; that the ratio grows with d is TM-1.growth",
        ),
        source="THEORY TM-1; Stambler 2025 (sensitivity hypothesis); Elhage et al. 2022 (model)",
        expected=Status.SUPPORTED,
        check="toy_models.separation:check_features_against_random",
        false_twins=(
            FalseTwin(
                statement="Random directions are at least 2.5 times as sensitive as other random directions.",
                check="toy_models.separation:check_random_against_random",
            ),
            FalseTwin(
                statement="Random directions are at least 2.5 times as sensitive as the true features.",
                check="toy_models.separation:check_random_against_features",
            ),
        ),
    ),
    Claim(
        id="TM-1.growth",
        statement=(
            "At fixed load and density the separation of features from random directions grows with the dimension: it "
            "is below 1.25 in 8 dimensions, and larger by a tenth or more wherever the dimension is fourfold."
        ),
        formula=r"n = 4d, \quad p = 0.01, \quad d = 8, 16, 32, 64 \text{ (full: } 128)",
        hypotheses=(
            "trained superposition models of independent features; 3 seeds, each judged by itself",
            "at n = 2d there is no such growth: trained to the end, features lie in opposite pairs on orthogonal axes",
        ),
        source="THEORY TM-1; TM-3.boundary for the reason",
        expected=Status.SUPPORTED,
        check="toy_models.growth:check_growth",
        false_twins=(
            FalseTwin(
                statement="The separation falls as the dimension grows.",
                check="toy_models.growth:check_shrinkage",
            ),
            FalseTwin(
                statement="So does the ratio of random directions to other random directions.",
                check="toy_models.growth:check_random_growth",
            ),
        ),
    ),
    Claim(
        id="TM-2",
        statement=(
            "Maximising sensitivity alone, 64 directions at once, finds true features: mean cosine at least 0.95 "
            "to the nearest one, and at least 80 % of the directions recover different features at cosine 0.9."
        ),
        formula=r"\frac{1}{K} \sum_{k} \max_i \langle s_k, w_i \rangle \geq 0.95",
        hypotheses=(
            *MODEL,
            "the search sees neither W nor the features, only effects on the read-out; no sparsity term",
            "each seed is judged by itself: intervals over its directions, of the mean cosine and of the share",
        ),
        source="THEORY TM-2; Stambler 2025 (discovery)",
        expected=Status.SUPPORTED,
        check="toy_models.discovery:check_recovery",
        false_twins=(
            FalseTwin(
                statement="Random directions are true features just as well.",
                check="toy_models.discovery:check_recovery_by_random",
            ),
            FalseTwin(
                statement="Directions found on one model are the features of a model trained from another seed.",
                check="toy_models.discovery:check_recovery_of_another_model",
            ),
        ),
    ),
)
