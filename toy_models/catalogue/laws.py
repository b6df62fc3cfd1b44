"""Exact laws, seen to hold inside trained models: the norm budget (TM-6) and LayerNorm in a residual network (TM-7)."""

from __future__ import annotations

from sensverify.claims import Claim, FalseTwin, Status

claims: tuple[Claim, ...] = (
    Claim(
        id="TM-6",
        statement=(
            "No activation of a trained superposition model, sparse or dense, overspends the norm budget: the squared "
            "presences of all features sum to at most λ_max(G), and k ≤ 64 features with presence at least τ in size "
            "and pairwise overlap at most μ < τ² are at most (1−μ)/(τ²−μ)."
        ),
        formula=r"\sum_i \rho_i^2 \leq \lambda_{\max}(G), \qquad k \leq \frac{1 - \mu}{\tau^2 - \mu}",
        hypotheses=(
            "unit directions of the represented features; d = 32, n = 2d, 4d, 8d, p = 0.02 and p = 0.2",
            "for every context and every k from 2 to 64: the k most present features, τ the presence of the last of "
            "them, μ the largest overlap within this set; once with |ρ| and |⟨s_i, s_j⟩|, once with their signs",
            "larger sets are tried by the sum of squares alone",
            "nothing is claimed of a set with μ ≥ τ²; float64, up to rounding",
        ),
        source="THEORY TM-6, RN-4",
        expected=Status.SUPPORTED,
        check="toy_models.budget:check_budget",
        false_twins=(
            FalseTwin(
                statement="The squared presences sum to at most half of λ_max(G).",
                check="toy_models.budget:twin_half_the_squares",
            ),
            FalseTwin(
                statement="At most half of (1−μ)/(τ²−μ) features are present.",
                check="toy_models.budget:twin_half_the_count",
            ),
            FalseTwin(
                statement="The squared presences sum to at most 1, as if features were orthonormal.",
                check="toy_models.budget:twin_orthonormal",
            ),
        ),
    ),
    Claim(
        id="TM-7",
        statement=(
            "In a trained residual network with LayerNorm, scaling the activation in front of the block changes "
            "nothing at each norm's output but a gain within LN-2's bound, while the residual stream turns by exactly "
            "the angle of LN-6; all to float error."
        ),
        formula=(
            r"LN(kz) = g\,LN(z), \quad F(kh) = kh + f(LN(h)), \quad \cos(F(kh), kF(h)) = "
            r"\frac{kX + (k+1)C + Q}{\sqrt{k^2 X + 2kC + Q} \sqrt{X + 2C + Q}} \to \cos(h, F(h))"
        ),
        hypotheses=(
            "h = Wx, F(h) = h + W₂ReLU(W₁LN(h) + b₁) + b₂, y = U LN(F(h)) + c, trained to give the sizes |x|/‖x‖ of "
            "signed features; the loss is less than half of that without the block",
            "X = ⟨h,h⟩, C = ⟨h,f⟩, Q = ⟨f,f⟩; the stream's law with ε = 0, the norms' with the ε of training",
            "k = 1/4, 1/3, 1/2, 2, 3, 8, 64 and, for the limit, up to 2²⁰; float32 and float64",
            "bounds on rounding derived from the unit round-off for these weights",
        ),
        source="THEORY TM-7, LN-1, LN-2, LN-6",
        expected=Status.SUPPORTED,
        check="toy_models.residual_check:check_residual",
        false_twins=(
            FalseTwin(
                statement="The block's output keeps its direction, whatever the scale of its input.",
                check="toy_models.residual_check:twin_invariant",
            ),
            FalseTwin(
                statement="The gain stays within a thousandth of LN-2's bound.",
                check="toy_models.residual_check:twin_smaller_gain",
            ),
        ),
    ),
)
