"""The catalogue of exact claims: pure data, so that listing it imports nothing heavy.

Each claim names the function that decides it and false twins: wrong statements that the same function, given other
parameters, has to refute.
"""

from __future__ import annotations

from sensverify.claims import Claim, FalseTwin, Status, Suite

_SF = "Stambler, Sensitivity-Based Feature Discovery Without Sparsity Assumptions, 2025"
_RT = "Stambler, Ramsey Theory is Fun: a surprising fact when F(x,y)=F(y,x), 2025"
_LAYER_NORM = "LayerNorm: Ba, Kiros and Hinton 2016; used by the relative-norm hypothesis of " + _SF
_COLOURING = "F: X × X → {0, 1, 2} with F(x, y) = F(y, x), diagonal included"

_LAYER_NORM_CLAIMS = (
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
        source="A reading of the relative-norm hypothesis of " + _SF + " that it does not survive",
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

_RELATIVE_NORM_CLAIMS = (
    Claim(
        id="RN-1",
        statement="The minimal intervention I_s^α(x) has norm ‖x‖ and presence α, is the nearest such point (the only "
        "one unless x ∥ s), and ‖I_s^α(x) − x‖² = 2‖x‖²(1 − cos(arccos ρ − arccos α)).",
        formula=r"\|I_s^\alpha(x) - x\|^2 = 2 \|x\|^2 (1 - \cos(\arccos \rho - \arccos \alpha))",
        hypotheses=("‖s‖ = 1", "x ≠ 0", "|α| ≤ 1", "ρ = ρ_s(x), |ρ| < 1 for uniqueness"),
        source=_SF,
        expected=Status.PROVED,
        check="proofs.nearest_point:check_nearest",
        false_twins=(
            FalseTwin(statement="I_s^α(x) has norm 1.", check="proofs.nearest_point:twin_unit_norm"),
            FalseTwin(
                statement="I_s^α(x) is the nearest point of presence α, whatever its norm.",
                check="proofs.nearest_point:twin_nearest_of_any_norm",
            ),
            FalseTwin(
                statement="Every point of that norm and presence is farther by one per cent of the squared distance.",
                check="proofs.nearest_point:twin_nearest_by_one_per_cent",
            ),
        ),
    ),
    Claim(
        id="RN-2",
        statement="I_s^β(I_s^α(x)) = I_s^β(x); I_s^ρ(x) = x at x's own presence ρ; I_s^α(kx) = k·I_s^α(x).",
        formula=r"I_s^\beta(I_s^\alpha(x)) = I_s^\beta(x), \quad I_s^{\rho}(x) = x, \quad "
        r"I_s^\alpha(kx) = k I_s^\alpha(x)",
        hypotheses=("‖s‖ = 1", "x not parallel to s", "|α| < 1 for the composition", "|β| ≤ 1", "k > 0"),
        source=_SF,
        expected=Status.PROVED,
        check="proofs.relative_norm:check_composition",
        false_twins=(
            FalseTwin(
                statement="The composition holds for α = 1 too.",
                check="proofs.relative_norm:twin_composition_at_the_pole",
            ),
            FalseTwin(
                statement="I_s^α(kx) = k·I_s^α(x) for k < 0.",
                check="proofs.relative_norm:twin_negative_homogeneity",
            ),
        ),
    ),
    Claim(
        id="RN-3",
        statement="For every unit u the presence after x' = I_s^α(x) is ρ_u(x') = α⟨s,u⟩ + √((1−α²)/(1−ρ²))·(ρ_u(x) − "
        "ρ⟨s,u⟩). So every direction orthogonal to s is multiplied by one factor, and shrinks exactly when |α| > |ρ|.",
        formula=r"\rho_u(x') = \alpha \langle s, u \rangle + \sqrt{\frac{1 - \alpha^2}{1 - \rho^2}} "
        r"(\rho_u(x) - \rho \langle s, u \rangle)",
        hypotheses=("‖s‖ = ‖u‖ = 1", "x ≠ 0", "|ρ| < 1", "|α| < 1"),
        source=_SF,
        expected=Status.PROVED,
        check="proofs.relative_norm:check_presence_of_others",
        false_twins=(
            FalseTwin(
                statement="Every presence orthogonal to s shrinks whenever α > ρ.",
                check="proofs.relative_norm:twin_addition_always_shrinks",
            ),
            FalseTwin(
                statement="ρ_u(x') is one per cent lower than that.",
                check="proofs.relative_norm:twin_one_per_cent_less",
            ),
        ),
    ),
)

_COLOURING_CLAIMS = (
    Claim(
        id="RA-1",
        statement="The least number of points that forces a set of k points missing one of the three values is "
        "N(k) = 3R(k,k) − 2.",
        formula=r"N(k) = 3 R(k, k) - 2",
        hypotheses=(_COLOURING, "a set misses y if F(a, b) ≠ y for all a, b in it", "k ≥ 2"),
        source=_RT + ", made exact",
        expected=Status.PROVED,
        check="proofs.symmetric_colouring:check_threshold",
        false_twins=(
            FalseTwin(statement="N(k) = 3R(k,k) − 3.", check="proofs.symmetric_colouring:twin_one_point_fewer"),
            FalseTwin(statement="N(k) = 3R(k,k) − 1.", check="proofs.symmetric_colouring:twin_one_point_more"),
        ),
    ),
    Claim(
        id="RA-2",
        statement="On n points there is a set S that misses a value with |S| ≥ 1 + ⌊½ log₂⌈n/3⌉⌋ ≥ ⌊½ log₂(n/3)⌋; more "
        "sharply, |S| ≥ k for the largest k with C(2k−2, k−1) ≤ ⌈n/3⌉.",
        formula=r"|S| \geq \left\lfloor \frac{1}{2} \log_2 \frac{n}{3} \right\rfloor",
        hypotheses=(_COLOURING, "a set misses y if F(a, b) ≠ y for all a, b in it"),
        source=_RT + "; Erdős and Szekeres 1935; Greenwood and Gleason 1955",
        expected=Status.PROVED,
        check="proofs.logarithmic_size:check_guarantee",
        false_twins=(
            FalseTwin(
                statement="R(a,b) ≤ R(a−1,b) + R(a,b−1) − 1, even terms or not.",
                check="proofs.logarithmic_size:twin_parity_always",
            ),
            FalseTwin(
                statement="C(2k−2, k−1) ≤ 3.96^(k−1).",
                check="proofs.logarithmic_size:twin_growth_one_per_cent_slower",
            ),
            FalseTwin(
                statement="|S| ≥ 1 + ⌊log₂⌈n/3⌉⌋, without the half.",
                check="proofs.logarithmic_size:twin_whole_logarithm",
            ),
        ),
    ),
    Claim(
        id="RA-3",
        statement="For every k, 2^(k+2) points are enough for a set of k points that misses a value.",
        formula=r"N(k) \leq 2^{k+2}",
        hypotheses=(_COLOURING, "a set misses y if F(a, b) ≠ y for all a, b in it"),
        source=_RT + ", as printed",
        expected=Status.REFUTED,
        check="proofs.printed_bound:check_printed_bound",
        false_twins=(
            FalseTwin(
                statement="No 5 of the 303 points miss a value, which would refute it at k = 5 as well.",
                check="proofs.printed_bound:twin_no_five",
            ),
        ),
    ),
)

claims = Suite(claims=(*_LAYER_NORM_CLAIMS, *_RELATIVE_NORM_CLAIMS, *_COLOURING_CLAIMS))
