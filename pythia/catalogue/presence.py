"""How often directions are present: PY-7."""

from sensverify.claims import Claim, FalseTwin
from sensverify.verdicts import Status

CLAIMS = (
    Claim(
        id="PY-7",
        statement=(
            "The presence of the found directions is sparse, and within the norm budget of RN-4, without any "
            "sparsity term in the search."
        ),
        formula=(
            r"\operatorname{median}_i \Pr\bigl(|\rho_i| \geq 4/\sqrt d\bigr) \leq \pi_{\text{predicted}}, \qquad "
            r"\sum_i \rho_i^2 \leq \lambda_{\max}(G)"
        ),
        hypotheses=(
            "the directions of PY-4, at every held-out position but BOS",
            "width 64 at least: below, 4/√d is above 1/2, and hardly any direction can be present",
        ),
        source="THEORY PY-7 and RN-4; Stambler 2025 (sparsity without assuming it)",
        # Known on the shipped model: the found directions lean against the mean activation, are present several
        # times as often as the toys allow, and their presence has no heavier tails than a Gaussian.
        expected=Status.REFUTED,
        check="pythia.sparsity:check_found_presence",
        false_twins=(
            FalseTwin(
                statement="The presence of each activation's own direction, position by position, is sparse.",
                check="pythia.sparsity:check_own_direction_presence",
            ),
        ),
        preflight="pythia.sparsity:preflight",
    ),
)
