"""What norms see of the residual stream: PY-1."""

from sensverify.claims import Claim, FalseTwin
from sensverify.verdicts import Status

CLAIMS = (
    Claim(
        id="PY-1",
        statement=(
            "In a pre-norm language model, scaling the residual stream by k > 0 leaves the direction of every "
            "norm's output unchanged up to rounding, and its gain within the bound of LN-2; the residual "
            "stream after the block is not invariant (LN-6)."
        ),
        formula=r"\mathrm{LN}(kx) = g\,\mathrm{LN}(x), \qquad F(kx) = kx + f(\mathrm{LN}(kx)) \neq k F(x)",
        hypotheses=(
            "k ∈ {1/2, 2, 8}, at every block, every held-out context and position but BOS",
            "directions after centring, before the norm's affine part",
        ),
        source="THEORY PY-1; Stambler 2025 (relative-norm hypothesis); claims LN-2 and LN-6",
        expected=Status.SUPPORTED,
        check="pythia.invariance:check_scaling",
        false_twins=(
            FalseTwin(
                statement="The residual stream after a block is invariant under scaling too.",
                check="pythia.invariance:check_residual_invariance",
            ),
            FalseTwin(
                statement="The gain stays within a thousandth of LN-2's bound.",
                check="pythia.invariance:check_tightened_gain",
            ),
        ),
        preflight="pythia.invariance:preflight",
    ),
)
