"""Presence and the minimal intervention (RN-1 to RN-5)."""

from __future__ import annotations

from proofs.catalogue.sources import SENSITIVITY
from sensverify.claims import Claim, FalseTwin, Status

CLAIMS = (
    Claim(
        id="RN-1",
        statement="The minimal intervention I_s^α(x) has norm ‖x‖ and presence α, is the nearest such point (the only "
        "one unless x ∥ s), and ‖I_s^α(x) − x‖² = 2‖x‖²(1 − cos(arccos ρ − arccos α)).",
        formula=r"\|I_s^\alpha(x) - x\|^2 = 2 \|x\|^2 (1 - \cos(\arccos \rho - \arccos \alpha))",
        hypotheses=("‖s‖ = 1", "x ≠ 0", "|α| ≤ 1", "ρ = ρ_s(x), |ρ| < 1 for uniqueness"),
        source=SENSITIVITY,
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
        source=SENSITIVITY,
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
        source=SENSITIVITY,
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
    Claim(
        id="RN-4",
        statement="For unit s_1, .., s_n with Gram matrix G, Σρ_i² ≤ λ_max(G); if k of them have |ρ_i| ≥ τ and "
        "pairwise |⟨s_i, s_j⟩| ≤ μ < τ² then k ≤ (1−μ)/(τ²−μ). Both are sharp: the largest k is the integer part of "
        "that bound wherever d is at least as large.",
        formula=r"\sum_i \rho_i^2 \leq \lambda_{\max}(G), \quad k \leq \frac{1 - \mu}{\tau^2 - \mu}",
        hypotheses=("‖s_i‖ = 1", "x ≠ 0", "0 ≤ μ < τ² ≤ 1 for the second"),
        source=SENSITIVITY + ", its sparsity without assuming it, made exact",
        expected=Status.PROVED,
        check="proofs.norm_budget:check_budget",
        false_twins=(
            FalseTwin(
                statement="The bound on k can be lowered by one per cent.",
                check="proofs.norm_budget:twin_one_per_cent_fewer",
            ),
            FalseTwin(
                statement="k ≤ (1−μ)/(τ²−μ) also where μ > τ².",
                check="proofs.norm_budget:twin_any_coherence",
            ),
            FalseTwin(
                statement="Σρ_i² ≤ 1 for directions that are not orthogonal.",
                check="proofs.norm_budget:twin_unit_budget",
            ),
        ),
    ),
    Claim(
        id="RN-5",
        statement="Among n ≥ d unit vectors of R^d, n ≥ 2, two have |⟨s_i, s_j⟩| ≥ √((n−d)/(d(n−1))), which is above "
        "1/√(2d) for n ≥ 2d; the simplex n = d + 1 attains it in every dimension. For n ≤ d orthonormal vectors have "
        "no overlap: there is no floor.",
        formula=r"\max_{i \neq j} |\langle s_i, s_j \rangle| \geq \sqrt{\frac{n - d}{d(n - 1)}}",
        hypotheses=("‖s_i‖ = 1", "n ≥ 2", "n ≥ d ≥ 1 but in the last sentence"),
        source="Welch, Lower bounds on the maximum cross correlation of signals, 1974",
        expected=Status.PROVED,
        check="proofs.welch_bound:check_floor",
        false_twins=(
            FalseTwin(
                statement="The floor is one per cent higher.", check="proofs.welch_bound:twin_one_per_cent_higher"
            ),
            FalseTwin(
                statement="The same floor for max ⟨s_i, s_j⟩, without the absolute value.",
                check="proofs.welch_bound:twin_signed",
            ),
            FalseTwin(
                statement="The same floor for vectors of length 1/2.", check="proofs.welch_bound:twin_half_length"
            ),
        ),
    ),
)
