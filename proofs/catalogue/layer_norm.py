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
        id="LN-3",
        statement="‖LN(x)‖² = dσ²/(σ²+ε) and ⟨LN(x), 1⟩ = 0: for ε = 0 every output has squared length d.",
        formula=r"\|LN(x)\|^2 = \frac{d \sigma^2}{\sigma^2 + \varepsilon}, \quad \langle LN(x), \mathbf{1} \rangle = 0",
        hypotheses=("ε ≥ 0", "d ≥ 2", "σ > 0"),
        source=_LAYER_NORM,
        expected=Status.PROVED,
        check="proofs.norm_output:check_output",
        false_twins=(
            FalseTwin(statement="‖LN(x)‖² = d for ε > 0 too.", check="proofs.norm_output:twin_no_epsilon"),
            FalseTwin(statement="‖LN(x)‖² = (d−1)σ²/(σ²+ε).", check="proofs.norm_output:twin_unbiased"),
            FalseTwin(statement="⟨LN(x), 1⟩ = dμ/√(σ²+ε).", check="proofs.norm_output:twin_keeps_the_mean"),
        ),
    ),
    Claim(
        id="LN-4",
        statement="With c = x − μ1 the Jacobian of LN is J = (I − 11ᵀ/d − ccᵀ/(d(σ²+ε)))/√(σ²+ε). At ε = 0 its kernel "
        "is exactly span{1, c} and J(kx) = J(x)/k; and ‖Jh‖ ≤ √d‖h‖/‖c‖, so that a small step counts relative to ‖c‖.",
        formula=r"J = \frac{1}{\sqrt{\sigma^2 + \varepsilon}} \left(I - \frac{\mathbf{1}\mathbf{1}^T}{d} - "
        r"\frac{cc^T}{d(\sigma^2 + \varepsilon)}\right)",
        hypotheses=("ε ≥ 0; ε = 0 for the kernel and the scaling", "k > 0", "d ≥ 2", "σ > 0"),
        source=_LAYER_NORM,
        expected=Status.PROVED,
        check="proofs.norm_jacobian:check_jacobian",
        false_twins=(
            FalseTwin(statement="The same with + ccᵀ.", check="proofs.norm_jacobian:twin_sign_flipped"),
            FalseTwin(
                statement="The same with ccᵀ/(dσ²) for ε > 0.", check="proofs.norm_jacobian:twin_epsilon_dropped"
            ),
            FalseTwin(statement="At ε = 0 the kernel is span{1}.", check="proofs.norm_jacobian:twin_smaller_kernel"),
        ),
    ),
    Claim(
        id="LN-5",
        statement="RMSNorm sees no scale but does see a shift: RMS(kx) = RMS(x) at ε = 0, RMS(kx) = g·RMS(x) with "
        "g² = (m+ε)/(m+ε/k²), m = ‖x‖²/d, for ε > 0; and at ε = 0 RMS(x + c1) ≠ RMS(x) unless x + c1 is a "
        "positive multiple of x.",
        formula=r"RMS(kx) = RMS(x), \quad RMS(x + c\mathbf{1}) \neq RMS(x)",
        hypotheses=("RMS(x) = x/√(‖x‖²/d + ε), before the affine part", "k > 0", "x ≠ 0", "d ≥ 2"),
        source="RMSNorm: Zhang and Sennrich 2019",
        expected=Status.PROVED,
        check="proofs.rms_norm:check_rms_norm",
        false_twins=(
            FalseTwin(statement="RMS(x + c1) = RMS(x).", check="proofs.rms_norm:twin_shift"),
            FalseTwin(statement="RMS(kx) = RMS(x) for ε = 10⁻⁵.", check="proofs.rms_norm:twin_epsilon"),
            FalseTwin(statement="RMS(kx) = RMS(x) for k < 0.", check="proofs.rms_norm:twin_negative_scale"),
            FalseTwin(statement="RMS(kx) = g²·RMS(x) for ε > 0.", check="proofs.rms_norm:twin_gain_unsquared"),
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
    Claim(
        id="LN-7",
        statement="A post-norm block F(x) = LN(x + f(x)) does not see the scale of its input: F(kx) = F(x).",
        formula=r"F(x) = LN(x + f(x)), \quad F(kx) = F(x)",
        hypotheses=("ε = 0", "k > 0", "x + f(x) is not constant"),
        source="Post-norm as in Vaswani et al. 2017; a negative control for the relative-norm hypothesis of "
        + SENSITIVITY,
        expected=Status.REFUTED,
        check="proofs.post_norm:check_post_norm",
        false_twins=(
            FalseTwin(statement="F(kx) = kF(x).", check="proofs.post_norm:twin_homogeneous"),
            FalseTwin(
                statement="At least the direction of F(x), up to its sign, does not depend on the scale of x.",
                check="proofs.post_norm:twin_direction",
            ),
        ),
    ),
    Claim(
        id="LN-8",
        statement="Folding γ and β into the next linear map leaves the function unchanged, W(γ⊙z + β) + b = (Wγ)z + "
        "(Wβ + b), and centring the rows of Wγ changes nothing; presence does change with γ, so it is taken before γ. "
        "After γ every presence is the same exactly if d = 2 or all |γ_i| are equal.",
        formula=r"W(\gamma \odot z + \beta) + b = (W \, \mathrm{diag}(\gamma)) z + (W\beta + b)",
        hypotheses=("z = LN(x)", "γ ≠ 0 in every coordinate, for the presences", "d ≥ 2", "σ > 0"),
        source=_LAYER_NORM,
        expected=Status.PROVED,
        check="proofs.folding:check_folding",
        false_twins=(
            FalseTwin(
                statement="Folding γ alone is enough: the bias stays b.", check="proofs.folding:twin_forgotten_bias"
            ),
            FalseTwin(statement="γ multiplies the rows of W.", check="proofs.folding:twin_rows"),
            FalseTwin(statement="Presence is the same after γ.", check="proofs.folding:twin_presence_after"),
        ),
    ),
)
