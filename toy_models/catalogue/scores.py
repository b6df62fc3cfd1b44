"""Which score of an effect tells features from random directions (TM-3.scores)."""

from __future__ import annotations

from sensverify.claims import Claim, FalseTwin, Status

claims: tuple[Claim, ...] = (
    Claim(
        id="TM-3.scores",
        statement=(
            "The score decides where the boundary lies: in three dense configurations angular sensitivity does not "
            "separate features from random directions (AUC at most 0.75), while the largest change of a single unit "
            "and the concentration of the same effects do (AUC at least 0.9)."
        ),
        formula=(
            r"P(\mathrm{SeS}(f) > \mathrm{SeS}(s)) \leq 0.75, \quad "
            r"P(E \max_i |\Delta_i(f)| > E \max_i |\Delta_i(s)|) \geq 0.9, \quad P(C(f) > C(s)) \geq 0.9"
        ),
        hypotheses=(
            "h = Wx with x_i ~ U(0, 1) with probability p, else 0; read-out ReLU(Wᵀh + b); d = 32",
            "trained with n = 2d at p = 0.2 and with n = 4d at p = 0.5; random unit features, b = 0, n = 4d at p = 0.5",
            "s uniform on the sphere; 64 directions of each kind; the interval is Student's for the mean over seeds",
            "configurations and thresholds chosen on other seeds than those judged",
        ),
        source="THEORY TM-3 (which score moves the boundary, and why); SE-5",
        expected=Status.SUPPORTED,
        check="toy_models.score_check:check_scores",
        false_twins=(
            FalseTwin(
                statement="The same scores separate random directions from other random directions.",
                check="toy_models.score_check:twin_random",
            ),
            FalseTwin(
                statement="Angular sensitivity separates as well.",
                check="toy_models.score_check:twin_angular",
            ),
        ),
    ),
)
