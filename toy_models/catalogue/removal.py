"""Removal directions (TM-4)."""

from __future__ import annotations

from sensverify.claims import Claim, FalseTwin
from sensverify.verdicts import Status

_PLANTED = (
    "h = Wx + cm in d = 32 dimensions, x_i ~ U(0, 1) with probability p, else 0; read-out ReLU(Wᵀh + b), with a unit "
    "for m where c > 0"
)
_LAW = "α ~ U(0, 7/8); 3 seeds or more; thresholds were fixed on other seeds"
_SEARCH = "12 directions searched at once by plain sensitivity with repulsion, 60 steps of 48 contexts"

claims = (
    Claim(
        id="TM-4",
        statement="In sparse trained models SeS(−f) exceeds that of random directions, and the excess is not removal: "
        "more than half of it is addition, and more than half comes from contexts in which f is inactive.",
        formula=r"\mathrm{SeS}(-f) > \mathrm{SeS}(\text{random}), \quad D = \tfrac14\|\delta\|^2 = "
        r"\tfrac14\langle\delta_{\text{removal}}, \delta\rangle + "
        r"\tfrac14\langle\delta_{\text{onward}}, \delta\rangle, \quad "
        r"\text{addition: onward where } \alpha \geq \rho",
        hypotheses=(
            "trained superposition models with n = 4d: n = 128, d = 32, p = 0.02; full profile also n = 256, d = 64, "
            "p = 0.01; seen while developing: four times the training changes no verdict",
            "more features than n = 2d: there a converged model has its features in opposite pairs, the negative of a "
            "feature is a feature, and the excess over random directions is a few per cent, from contexts in which f "
            "is active (a false twin)",
            "each effect split between the way from x to I_s^{max(ρ,0)}(x), removal, and from there on: addition where "
            "α ≥ ρ (with the shrinkage of the rest that is built into it, RN-3), reduction, which does not count as "
            "addition, where a positive ρ exceeds α",
            _LAW,
        ),
        source="THEORY TM-4, RN-3; Stambler 2025 (removal directions); Elhage et al. 2022 (model)",
        expected=Status.SUPPORTED,
        check="toy_models.removal_check:check_negatives",
        false_twins=(
            FalseTwin(
                statement="Random directions exceed −f.", check="toy_models.removal_check:check_random_above_negated"
            ),
            FalseTwin(
                statement="More than half of the excess is removal.",
                check="toy_models.removal_check:check_excess_is_removal",
            ),
            FalseTwin(
                statement="The same holds of dense orthonormal features.",
                check="toy_models.removal_check:check_orthonormal_negatives",
            ),
            FalseTwin(
                statement="The same holds at n = 2d, of models trained until their features lie in opposite pairs.",
                check="toy_models.removal_check:check_converged_pairs",
            ),
        ),
    ),
    Claim(
        id="TM-4.classifier",
        statement="To say that a direction removes if more than half of its effect is removal is right for at least "
        "90 % of planted directions, as many of which remove as add.",
        formula=r"\frac{\sum_x \langle\delta_{\text{removal}}, \delta\rangle}{\sum_x \|\delta\|^2} > \frac12",
        hypotheses=(
            _PLANTED,
            "remove by construction: −f among orthonormal features, dense or sparse; directions near −m or f − 2m, "
            "where m has presence 0.9",
            "add by construction: f, random directions, and −f where features overlap and p = 0.02",
            _LAW,
        ),
        source="THEORY TM-4",
        expected=Status.SUPPORTED,
        check="toy_models.removal_classifier:check_classifier",
        false_twins=(
            FalseTwin(
                statement="So is judging each direction by its negative.",
                check="toy_models.removal_classifier:check_flipped_classifier",
            ),
            FalseTwin(
                statement="So is the share predicted from presences, without the read-out.",
                check="toy_models.removal_classifier:check_presences_alone",
            ),
            FalseTwin(
                statement="It is right also about labels dealt out at random.",
                check="toy_models.removal_classifier:check_shuffled_labels",
            ),
        ),
    ),
    Claim(
        id="TM-4.found",
        statement="Where the read-out has next to no bias, or something is always there, the removal share of found "
        "directions is what their presences predict, to second order in the angle and for a read-out that turns "
        "equally fast everywhere: mean absolute error at most 0.1.",
        formula=r"\frac{\sum_x r^+ (\overline{a} + r)}{\sum_x (\overline{a^2} + 2 r \overline{a} + r^2)}, \quad "
        r"r = -\arcsin\rho, \quad a = \arcsin\alpha",
        hypotheses=(
            _PLANTED,
            "W random with b = 0, n = 64; or trained, n = 128, with a direction always there of twice the root mean "
            "square length of the rest; or trained, n = 64 = 2d, p = 0.02, 2,400 steps, where biases end near 0",
            "not meant are trained models with n = 4d and nothing always there, whose biases are not small: TM-4.bias",
            _SEARCH,
            "clean reference",
            _LAW,
        ),
        source="THEORY TM-4, SE-3",
        expected=Status.SUPPORTED,
        check="toy_models.removal_found_check:check_found",
        false_twins=(
            FalseTwin(
                statement="So it is from the presences of the negative.",
                check="toy_models.removal_found_check:check_found_by_negatives",
            ),
        ),
    ),
    Claim(
        id="TM-4.bias",
        statement="In sparse trained models whose biases silence small overlaps, found directions owe to removal less "
        "than half of what their presences predict.",
        formula=r"\frac1K \sum_k \Bigl( R(s_k) - \tfrac12 \hat R(s_k) \Bigr) < 0, \quad "
        r"R: \text{removal share}, \; \hat R: \text{predicted as in TM-4.found}",
        hypotheses=(
            "trained superposition models, n = 128 = 4d, p = 0.02, 800 steps, biases of about −0.3; seen while "
            "developing: four times the steps change no verdict",
            _SEARCH,
            "clean reference",
            _LAW,
        ),
        source="THEORY TM-4, SE-3 (which supposes a read-out that turns equally fast everywhere)",
        expected=Status.SUPPORTED,
        check="toy_models.removal_found_check:check_bias",
        false_twins=(
            FalseTwin(
                statement="So they do at n = 2d, in models trained until their features lie in opposite pairs.",
                check="toy_models.removal_found_check:check_bias_of_pairs",
            ),
            FalseTwin(
                statement="So they do beside a direction that is always there.",
                check="toy_models.removal_found_check:check_bias_beside_a_constant",
            ),
        ),
    ),
    Claim(
        id="TM-4.lean",
        statement="Where the mean of unit activations is at least 1/4 long, directions found with the clean reference "
        "lean against it: mean cosine below −0.2.",
        formula=r"\|E\hat{x}\| \geq \tfrac14 \;\Rightarrow\; \frac1K \sum_k \cos(s_k, E\hat{x}) < -\tfrac15",
        hypotheses=(
            _PLANTED,
            "W random with b = 0, n = 64; or trained, n = 128, with a direction always there",
            _SEARCH,
            "effects measured from f(x)",
            _LAW,
        ),
        source="THEORY TM-4, PY-8, SE-3",
        expected=Status.SUPPORTED,
        check="toy_models.removal_found_check:check_lean",
        false_twins=(
            FalseTwin(
                statement="So do directions found with effects measured from f(I_s^0(x)).",
                check="toy_models.removal_found_check:check_lean_absent",
            ),
            FalseTwin(statement="So do the features.", check="toy_models.removal_found_check:check_lean_of_features"),
        ),
    ),
)
