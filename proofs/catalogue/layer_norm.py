"""What a norm can and cannot see (LN-1 to LN-8)."""

from __future__ import annotations

from proofs.catalogue.sources import SENSITIVITY
from sensverify.claims import Claim, FalseTwin, Status

_LAYER_NORM = "LayerNorm: Ba, Kiros and Hinton 2016; used by the relative-norm hypothesis of " + SENSITIVITY

CLAIMS = (
    Claim(
        id="LN-1",
        statement="LN(kx + c1) = LN(x) and LN(−x) = −LN(x).",
        formula=r"LN(kx + c\mathbf{1}) = LN(x), \quad LN(-x) = -LN(x)",
        hypotheses=("LN(x) = (x − μ)/√(σ² + ε), before the affine part", "ε = 0", "k > 0", "d ≥ 2", "σ > 0"),
        source=_LAYER_NORM,
        expected=Status.PROVED,
        check="proofs.layer_norm:check_invariance",
        false_twins=(
            FalseTwin(statement="The same with ε = 10⁻⁵.", check="proofs.layer_norm:twin_epsilon_does_not_matter"),
            FalseTwin(statement="The same for k < 0.", check="proofs.layer_norm:twin_negative_scale"),
            FalseTwin(statement="LN(−x) = LN(x).", check="proofs.layer_norm:twin_even"),
        ),
    ),
    Claim(
        id="LN-2",
        statement="LN(kx) = g·LN(x) with g² = (σ²+ε)/(σ²+ε/k²): the direction is kept exactly, and the gain is off by "
        "|g²−1| ≤ ε(1−k⁻²)/σ² for k ≥ 1, by |g²−1| ≤ min(1, ε(k⁻²−1)/(σ²+ε)) for k ≤ 1.",
        formula=r"LN(kx) = g LN(x), \quad g^2 = \frac{\sigma^2 + \varepsilon}{\sigma^2 + \varepsilon / k^2}, \quad "
        r"|g^2 - 1| \leq \frac{\varepsilon (1 - k^{-2})}{\sigma^2}",
        hypotheses=("ε > 0", "k > 0", "d ≥ 2", "σ > 0"),
        source=_LAYER_NORM,
        expected=Status.PROVED,
        check="proofs.layer_norm_gain:check_gain",
        false_twins=(
            FalseTwin(statement="LN(kx) = g²·LN(x).", check="proofs.layer_norm_gain:twin_gain_unsquared"),
            FalseTwin(
                statement="The bounds hold when lowered by one per cent.",
                check="proofs.layer_norm_gain:twin_tighter_bound",
            ),
        ),
    ),
    Claim(
        id="LN-6",
        statement="A pre-norm residual block F(x) = x + f(LN(x)) is scale-invariant: F(kx) = kF(x).",
        formula=r"F(x) = x + f(LN(x)), \quad F(kx) = k F(x)",
        hypotheses=("ε = 0", "k > 0", "σ > 0"),
        source="A reading of the relative-norm hypothesis of " + SENSITIVITY + " that it does not survive",
        expected=Status.REFUTED,
        check="proofs.residual_block:check_block",
        false_twins=(
            FalseTwin(
                statement="F(kx) = kF(x) for the parallel block F(x) = x + Attn(LN₁x) + MLP(LN₂x).",
                check="proofs.residual_block:twin_parallel_block",
            ),
            FalseTwin(
                statement="At least the direction of F(x) does not depend on the scale of x.",
                check="proofs.residual_block:twin_direction",
            ),
            FalseTwin(statement="F(kx) = F(x).", check="proofs.residual_block:twin_same_output"),
        ),
    ),
)
