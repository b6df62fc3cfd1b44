"""Where selective search ends: too many features, units that mean nothing; and where it does not (TM-9)."""

from __future__ import annotations

from sensverify.claims import Claim, FalseTwin
from sensverify.verdicts import Status

_TRAINED = (
    "n = 64 features in d = 32 dimensions, p = 0.1, four trained models (quick profile: n = 48, d = 24, three); "
    "interval of their mean, with models and the features of each resampled",
    "2 directions for every unit of the read-out; recovered at cosine 0.9, one to one, of the features represented",
    "seeds of searches are hashes; thresholds were set on other seeds",
)

claims: tuple[Claim, ...] = (
    Claim(
        id="TM-9.load",
        statement=(
            "Of random unit features with a linear read-out, an ascent of Σ⟨w_j, s⟩⁴ from random starts ends at "
            "features, in half of all cases, up to a number that grows at least quadratically with d between the "
            "dimensions tested and lies between a quarter of d(d+2)/3 and d(d+2)/3; behind a ReLU, peak sensitivity "
            "still ends at features in more than half of all cases at d(d+2)/3."
        ),
        formula=(
            r"n_{1/2}(d) \propto d^{\beta},\ \beta \geq 2, \qquad "
            r"\tfrac14 \leq \frac{n_{1/2}}{d(d+2)/3} \leq 1, \qquad "
            r"\mathrm{ReLU}:\ \Pr\Bigl[\max_i \langle s, w_i \rangle \geq 0.9\Bigr] > \tfrac12"
            r"\ \text{at}\ n = d(d+2)/3"
        ),
        hypotheses=(
            "random unit features, not trained; p = 0.3; no bias",
            "linear: d = 24, 32, 48, 64 (quick profile: 24 and 64); presence 0.02, so that Δ ∝ Wᵀs but for 1 %; "
            "cosines by absolute value",
            "ReLU: d = 16, 24, 32 (quick profile: 24)",
            "share of directions at a feature (cosine 0.9) beyond what random directions have; d is at least 16, since "
            "for d = 8 the share stays above one half at every load tried",
            "the budget of the search is fixed: 150 steps; exponents hold for these sizes, not as d → ∞",
            "intervals of means over 5 seeds, behind the ReLU 3: Student's for exponents and boundaries, of which a "
            "seed has one; of shares, seeds and the directions of each are resampled",
        ),
        source="THEORY TM-9, SE-5, SE-5.peak",
        expected=Status.SUPPORTED,
        check="toy_models.selective_load:check_load",
        false_twins=(
            FalseTwin(
                statement="The number of features at which half of the directions are lost grows in proportion to d.",
                check="toy_models.selective_load:twin_linear_growth",
            ),
            FalseTwin(
                statement="It lies at n = d, up to a factor of two.",
                check="toy_models.selective_load:twin_at_the_width",
            ),
            FalseTwin(
                statement="An ascent with a linear read-out ends at features for as long as these are above the mean, "
                "up to d(d+2)/3 and beyond.",
                check="toy_models.selective_load:twin_up_to_the_bound",
            ),
            FalseTwin(
                statement="Behind a ReLU plain sensitivity ends at features at d(d+2)/3 as well.",
                check="toy_models.selective_load:twin_plain",
            ),
        ),
    ),
    Claim(
        id="TM-9.basis",
        statement=(
            "Peak sensitivity needs a privileged basis: on rotated units that are passed off as privileged it recovers "
            "at most 10 % of the features, on the units read behind the rotation at least 90 %, as on the model's own; "
            "and a read-out that does not claim a privileged basis is refused."
        ),
        formula=r"\|Q\Delta\|_4^4 \approx \frac{3}{n} \|\Delta\|_2^4 \text{ for random orthogonal } Q",
        hypotheses=(
            *_TRAINED,
            "one random rotation for each model; a false claim of privilege is not noticed",
        ),
        source="THEORY TM-9, SE-5",
        expected=Status.SUPPORTED,
        check="toy_models.selective_basis:check_basis",
        false_twins=(
            FalseTwin(
                statement="A rotation of the read-out does not matter: at least 90 % are recovered.",
                check="toy_models.selective_basis:twin_rotation_does_not_matter",
            ),
            FalseTwin(
                statement="Reading the units behind the rotation does not mend it: at most 10 % are recovered.",
                check="toy_models.selective_basis:twin_nothing_mends_it",
            ),
            FalseTwin(
                statement="A read-out that claims a privileged basis wrongly is refused.",
                check="toy_models.selective_basis:twin_lie_is_noticed",
            ),
        ),
    ),
    Claim(
        id="TM-9.families",
        statement=(
            "Features that are always active together, by twos or fours, are found one by one by peak sensitivity, "
            "since effects, not statistics, tell them apart: at least 90 % are recovered; as many are if features are "
            "independent or signed (both signs), behind a LayerNorm, and, in the full profile, behind an RMSNorm, if "
            "they exclude each other, or are of unequal importance."
        ),
        formula=r"\#\{i : \max_k \langle s_k, w_i \rangle \geq 0.9\} \geq 0.9\,n",
        hypotheses=(
            *_TRAINED,
            "groups are of consecutive features; values within a group are independent of each other",
            "signed features are read by two units, so that w and −w count as two directions to be found",
            "the TopK autoencoder of the twin has 2n latents, is told the mean number of active features and sees "
            "64000 activations; the same budget suffices it on independent features, which stand beside",
        ),
        source="THEORY TM-9",
        expected=Status.SUPPORTED,
        check="toy_models.selective_families:check_families",
        false_twins=(
            FalseTwin(
                statement="An autoencoder that is told how many features are active recovers at least 90 % of those "
                "that are always active together.",
                check="toy_models.selective_families:twin_autoencoder",
            ),
            FalseTwin(
                statement="Plain sensitivity finds at least 90 % of the features that are always active together.",
                check="toy_models.selective_families:twin_plain",
            ),
            FalseTwin(
                statement="Directions found on one model are the features of the model of another seed.",
                check="toy_models.selective_families:twin_another_model",
            ),
        ),
    ),
)
