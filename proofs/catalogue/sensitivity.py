"""Sensitivity: its range, its second order, its asymmetry, its concentration and its peak (SE-1 to SE-5.peak)."""

from __future__ import annotations

from proofs.catalogue.sources import SENSITIVITY
from sensverify.claims import Claim, FalseTwin, Status

_CODE = "The research code published with " + SENSITIVITY

CLAIMS = (
    Claim(
        id="SE-1",
        statement="0 ≤ SeS ≤ 1 for any weights; an effect is zero where the read-out is constant on the orbit, hence "
        "under the null control α = ρ_s(x); and x → kx changes nothing for a read-out through a norm with ε = 0.",
        formula=r"0 \leq SeS \leq 1, \quad I_s^{\rho}(x) = x, \quad LN(I_s^\alpha(kx)) = LN(I_s^\alpha(x))",
        hypotheses=("weights w ≥ 0 with a positive sum", "read-outs ≠ 0", "|ρ| < 1, |α| < 1", "k > 0"),
        source=SENSITIVITY,
        expected=Status.PROVED,
        check="proofs.sensitivity_range:check_range",
        false_twins=(
            FalseTwin(statement="An effect is at most 99/100.", check="proofs.sensitivity_range:twin_below_one"),
            FalseTwin(
                statement="Setting the presence to 0 changes nothing.",
                check="proofs.sensitivity_range:twin_null_at_zero",
            ),
            FalseTwin(
                statement="The weights may be of either sign.", check="proofs.sensitivity_range:twin_any_weights"
            ),
            FalseTwin(
                statement="The same with ε = 10⁻⁵.", check="proofs.sensitivity_range:twin_epsilon_does_not_matter"
            ),
        ),
    ),
    Claim(
        id="SE-2",
        statement="A score that replaces x by a unit-norm x' = αs + √(1−α²)v, and keeps x as its baseline, vanishes "
        "under the null rotation α = ρ_s(x).",
        formula=r"x' = \alpha s + \sqrt{1 - \alpha^2} v, \quad \alpha = \rho_s(x): \quad D(F(x), F(x')) = 0",
        hypotheses=("F(x) = x + f(LN(x)), a residual block", "ε = 0"),
        source=_CODE,
        expected=Status.REFUTED,
        check="proofs.unit_norm_score:check_null",
        false_twins=(
            FalseTwin(
                statement="It vanishes in a block with two parallel branches, as in GPT-NeoX.",
                check="proofs.unit_norm_score:twin_parallel_block",
            ),
            FalseTwin(
                statement="At the null rotation it is at most 1/100.",
                check="proofs.unit_norm_score:twin_at_most_one_per_cent",
            ),
        ),
    ),
    Claim(
        id="SE-3",
        statement="D = (Δθ²/4)·‖x‖²‖P_y^⊥ J v_s‖²/‖y‖² + o(Δθ²) with Δθ = arccos ρ − arccos α and v_s = "
        "(s − ρx̂)/√(1−ρ²); so for steps Δθ = τ√(1−ρ²) the most sensitive directions are top eigenvectors of "
        "E[‖x‖² P_x^⊥ Jᵀ P_y^⊥ J P_x^⊥/‖y‖²].",
        formula=r"D = \frac{\Delta\theta^2}{4} \cdot \frac{\|x\|^2 \|P_y^\perp J v_s\|^2}{\|y\|^2} + o(\Delta\theta^2)",
        hypotheses=(
            "f_b twice differentiable at x",
            "y = f_b(x) ≠ 0",
            "|ρ| < 1, |α| < 1",
            "the mean is over finitely many contexts",
        ),
        source="Second-order theory of the definitions in " + SENSITIVITY,
        expected=Status.PROVED,
        check="proofs.second_order:check_expansion",
        false_twins=(
            FalseTwin(statement="The factor is Δθ²/2.", check="proofs.second_order:twin_half"),
            FalseTwin(
                statement="The part of the change along y counts as well.",
                check="proofs.second_order:twin_not_projected",
            ),
            FalseTwin(
                statement="The mean effect is a quadratic form in s for equal Δθ in all contexts.",
                check="proofs.second_order:twin_equal_angles",
            ),
            FalseTwin(
                statement="The rotation starts along s itself, whatever the presence.",
                check="proofs.second_order:twin_along_the_direction",
            ),
        ),
    ),
    Claim(
        id="SE-4",
        statement="A direction and its negative are equally sensitive: SeS(−s) = SeS(s).",
        formula=r"SeS(-s) = SeS(s)",
        hypotheses=("any read-out", "any law of α", "any data"),
        source=_CODE + ", which copies one to the other",
        expected=Status.REFUTED,
        check="proofs.opposite_direction:check_opposite",
        false_twins=(
            FalseTwin(statement="They are equal for linear read-outs.", check="proofs.opposite_direction:twin_linear"),
            FalseTwin(
                statement="They are equal if the data hold −x with every x and s is absent from all of them.",
                check="proofs.opposite_direction:twin_mirrored",
            ),
        ),
    ),
    Claim(
        id="SE-5",
        statement="For a tight frame of n unit features in d dimensions and a linear read-out, a feature's effect has "
        "concentration C ≥ (d/n)² and a random direction's has mean 3d/(n(d+2)), a factor of at least d(d+2)/(3n), "
        "whatever the density; and C curves down at every feature if the coherence satisfies μ² < d/(3n).",
        formula=r"C(w_i) \geq \frac{d^2}{n^2}, \quad E\, C(s) = \frac{3d}{n(d+2)}, \quad "
        r"\frac{C(w_i)}{E\, C(s)} \geq \frac{d(d+2)}{3n}",
        hypotheses=("Σ⟨w_j, s⟩² = n/d for every unit s", "‖w_j‖ = 1", "n ≥ d ≥ 2", "C = ‖Δ‖₄⁴/‖Δ‖₂⁴"),
        source="Selective sensitivity; related: maximisation of the ℓ4 norm over the sphere, overcomplete ICA",
        expected=Status.PROVED,
        check="proofs.concentrated_effects:check_concentration",
        false_twins=(
            FalseTwin(statement="C(w_i) ≥ 1.01·(d/n)².", check="proofs.concentrated_effects:twin_one_per_cent_more"),
            FalseTwin(
                statement="Random directions have mean concentration 2/n.",
                check="proofs.concentrated_effects:twin_random_is_lower",
            ),
            FalseTwin(statement="The frame need not be tight.", check="proofs.concentrated_effects:twin_any_frame"),
        ),
    ),
    Claim(
        id="SE-5.peak",
        statement="For any unit features in d dimensions, tight or not, and a linear read-out, F = Σ⟨w_j, s⟩⁴ is at "
        "least 1 at a feature and has mean 3n/(d(d+2)) over random directions; at a feature it has a slope of at most "
        "4μ²√(λ(λ−1)) and second derivatives of at most 12μ²λ − 4, with a strict maximum nearby if the slope is small "
        "enough; the quotient C of SE-5 can have its maxima elsewhere.",
        formula=r"F(w_i) \geq 1, \quad E\, F(s) = \frac{3n}{d(d+2)}, \quad \frac{F(w_i)}{E\, F(s)} \geq "
        r"\frac{d(d+2)}{3n}, \quad F'' \leq 12 \mu^2 \lambda - 4",
        hypotheses=(
            "‖w_j‖ = 1",
            "μ ≥ |⟨w_j, w_i⟩| for j ≠ i",
            "λ the largest eigenvalue of Σ w_j w_jᵀ",
            "‖s‖ = 1",
            "near: slope g < κσ, κ = 4 − 20σ² − 12λ(μ+σ)², then at angle ≤ g/κ",
        ),
        source="Peak sensitivity; related: maximisation of the ℓ4 norm over the sphere, overcomplete ICA",
        expected=Status.PROVED,
        check="proofs.peak_effects:check_peak",
        false_twins=(
            FalseTwin(
                statement="Random directions have mean n/(d(d+2)).", check="proofs.peak_effects:twin_third_of_the_mean"
            ),
            FalseTwin(
                statement="Second derivatives at a feature are at most 6μ²λ − 4.",
                check="proofs.peak_effects:twin_half_the_curvature",
            ),
            FalseTwin(
                statement="C and F have the same maximisers in every frame.",
                check="proofs.peak_effects:twin_same_maximisers",
            ),
        ),
    ),
)
