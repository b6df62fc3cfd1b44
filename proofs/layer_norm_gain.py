"""With ``ε > 0`` LayerNorm keeps the direction exactly and lets a known gain through.

- LN-2 (:func:`check_gain`): ``LN(kx) = g·LN(x)`` with ``g² = (σ²+ε)/(σ²+ε/k²)``, hence ``|g²−1| ≤ ε(1−k⁻²)/σ²`` for
  ``k ≥ 1`` and ``|g²−1| ≤ min(1, ε(k⁻²−1)/(σ²+ε))`` for ``0 < k ≤ 1``. No bound can be lowered by a constant factor.
"""

from __future__ import annotations

import dataclasses

import sympy
import torch

from proofs.draws import Draws
from proofs.floating import VACUOUS, Comparison, distance, sweep, where_informative
from proofs.layer_norm import ANY_VECTOR, SCALE, VARIANCE, any_vector, condition, setting
from proofs.proof import Proof
from proofs.steps import Identity, Inequality
from proofs.symbolic import Expression
from sensverify import formulas
from sensverify.claims import Finding, Run, Status

EPSILON = sympy.Symbol("epsilon", positive=True)
EXCESS = sympy.Symbol("h", nonnegative=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gain:
    """``LN(kx) = g·LN(x)`` and both bounds times ``tightness``; the defaults are LN-2, other values its false twins."""

    power: int = 1
    tightness: Expression = 1


def check_gain(run: Run, statement: Gain = Gain()) -> Finding:
    """LN-2."""
    x = any_vector()
    gain_squared = formulas.layer_norm_gain_squared(VARIANCE, EPSILON, SCALE)
    difference = formulas.layer_norm(x * SCALE, EPSILON) - formulas.layer_norm(x, EPSILON) * (
        sympy.sqrt(gain_squared) ** statement.power
    )
    proof = Proof(
        title="The gain that ε lets through",
        hypotheses=(ANY_VECTOR, "ε > 0 and k > 0"),
        setting=setting(run),
        spaces=(x.space,),
        steps=(
            Identity(
                text="The direction is kept exactly, the length is multiplied by g:",
                left=difference.squared_norm(),
                shown=rf"\|LN(kx) - g LN(x)\|^2 = 0, g^2 = {sympy.latex(gain_squared)}",
            ),
            *_growing(statement.tightness),
            *_shrinking(statement.tightness),
        ),
    ).check()
    if proof.status is not Status.PROVED:
        return proof.finding()
    evidence = {
        "proved_for": "every dimension d ≥ 2, every mean, σ > 0, ε > 0, k > 0",
        "bound_growing": "|g²−1| ≤ ε(1−k⁻²)/σ² for k ≥ 1, approached as k → ∞; with |1−k⁻²| it holds for k < 1 too",
        "bound_shrinking": "|g²−1| ≤ min(1, ε(k⁻²−1)/(σ²+ε)) for k ≤ 1, each part approached: the first as k → 0, the "
        "second as k → 1",
    }
    bounds = {
        "LN(kx) = g·LN(x)": "16γ(d+8)κ(x)√d",
        "torch.nn.LayerNorm": "8γ(d+8)κ(x)√d",
        "the bound on |g² − 1|": "16u(1 + g²), both sides evaluated as written",
    }
    return sweep(run, "LN-2", _compare_gain).join(proof.finding(evidence), bounds=bounds)


def _growing(tightness: Expression) -> list[Identity | Inequality]:
    k = 1 + EXCESS
    change = formulas.layer_norm_gain_squared(VARIANCE, EPSILON, k) - 1
    bound = formulas.layer_norm_gain_bound(VARIANCE, EPSILON, k)
    share = 1 - k**-2
    rest = VARIANCE + EPSILON / k**2
    ratio = (formulas.layer_norm_gain_squared(VARIANCE, EPSILON, SCALE) - 1) / formulas.layer_norm_gain_bound(
        VARIANCE, EPSILON, SCALE
    )
    return [
        Inequality(
            text="For k = 1 + h with h ≥ 0 the gain does not fall:",
            larger=change,
            smaller=0,
            because=[[EPSILON * share, 1 / rest]],
            shown=r"g^2 - 1 = \frac{\varepsilon (1 - k^{-2})}{\sigma^2 + \varepsilon / k^2} \geq 0",
        ),
        Inequality(
            text="and it rises by no more than the bound; the slack is a product of nonnegative factors:",
            larger=tightness * bound,
            smaller=change,
            because=[[EPSILON * share, EPSILON / k**2, 1 / VARIANCE, 1 / rest]],
            shown=r"\frac{\varepsilon (1 - k^{-2})}{\sigma^2} - (g^2 - 1) = "
            r"\frac{\varepsilon^2 k^{-2} (1 - k^{-2})}{\sigma^2 (\sigma^2 + \varepsilon k^{-2})} \geq 0",
        ),
        Identity(
            text="The bound is approached when k grows:",
            left=sympy.limit(ratio, SCALE, sympy.oo),
            right=1,
            shown=r"\frac{g^2 - 1}{\varepsilon (1 - k^{-2}) / \sigma^2} \to 1, k \to \infty",
        ),
    ]


def _shrinking(tightness: Expression) -> list[Identity | Inequality]:
    k = 1 / (1 + EXCESS)
    fall = 1 - formulas.layer_norm_gain_squared(VARIANCE, EPSILON, k)
    bound = formulas.layer_norm_gain_bound_shrinking(VARIANCE, EPSILON, k)
    share = k**-2 - 1
    rest = VARIANCE + EPSILON / k**2
    at_k = 1 - formulas.layer_norm_gain_squared(VARIANCE, EPSILON, SCALE)
    ratio = at_k / formulas.layer_norm_gain_bound_shrinking(VARIANCE, EPSILON, SCALE)
    return [
        Inequality(
            text="For k = 1/(1 + h) the gain does not rise:",
            larger=fall,
            smaller=0,
            because=[[EPSILON * share, 1 / rest]],
            shown=r"1 - g^2 = \frac{\varepsilon (k^{-2} - 1)}{\sigma^2 + \varepsilon / k^2} \geq 0",
        ),
        Inequality(
            text="and it falls by no more than the bound, because its denominator is at least σ² + ε:",
            larger=tightness * bound,
            smaller=fall,
            because=[[EPSILON * share, EPSILON * share, 1 / (VARIANCE + EPSILON), 1 / rest]],
            shown=r"\frac{\varepsilon (k^{-2} - 1)}{\sigma^2 + \varepsilon} - (1 - g^2) = "
            r"\frac{\varepsilon^2 (k^{-2} - 1)^2}{(\sigma^2 + \varepsilon)(\sigma^2 + \varepsilon k^{-2})} \geq 0",
        ),
        Inequality(
            text="which is the smaller one: the bound for growing k, with |1 − k⁻²|, holds here as well:",
            larger=-formulas.layer_norm_gain_bound(VARIANCE, EPSILON, k),
            smaller=fall,
            because=[[EPSILON * share, EPSILON / k**2, 1 / VARIANCE, 1 / rest]],
            shown=r"\frac{\varepsilon (k^{-2} - 1)}{\sigma^2} - (1 - g^2) = "
            r"\frac{\varepsilon^2 k^{-2} (k^{-2} - 1)}{\sigma^2 (\sigma^2 + \varepsilon k^{-2})} \geq 0",
        ),
        Inequality(
            text="nor by more than 1, because the gain stays positive:",
            larger=1,
            smaller=fall,
            because=[[VARIANCE + EPSILON, 1 / rest]],
            strict=True,
            shown=r"1 - (1 - g^2) = \frac{\sigma^2 + \varepsilon}{\sigma^2 + \varepsilon k^{-2}} > 0",
        ),
        Identity(
            text="Both parts of the bound are approached: the first when k goes to 1,",
            left=sympy.limit(ratio, SCALE, 1, "-"),
            right=1,
            shown=r"\frac{1 - g^2}{\varepsilon (k^{-2} - 1) / (\sigma^2 + \varepsilon)} \to 1, k \to 1",
        ),
        Identity(
            text="the second when k goes to 0:",
            left=sympy.limit(at_k, SCALE, 0, "+"),
            right=1,
            shown=r"1 - g^2 \to 1, k \to 0",
        ),
    ]


def _compare_gain(draws: Draws) -> list[Comparison]:
    # Three evaluations as in LN-1 (both sides, and the variance inside g), and the rounding of kx: 4 + 4 + 4 + 1.
    x, k, epsilon = draws.x, draws.scale, draws.epsilon
    root_d = x.shape[-1] ** 0.5
    kappa = condition(x)
    variance = formulas.variance(x)
    gain_squared = formulas.layer_norm_gain_squared(variance, epsilon, k)
    predicted = torch.sqrt(gain_squared) * formulas.layer_norm(x, epsilon)
    bound = torch.where(
        k >= 1,
        formulas.layer_norm_gain_bound(variance, epsilon, k),
        formulas.layer_norm_gain_bound_shrinking(variance, epsilon, k).clamp(max=1),
    )
    oracle = torch.nn.LayerNorm(x.shape[-1], eps=1e-5, elementwise_affine=False, dtype=x.dtype)
    unit = torch.finfo(x.dtype).eps / 2
    excess = ((gain_squared - 1).abs() - bound).clamp(min=0)
    return [
        Comparison(
            law="LN(kx) = g·LN(x)",
            error=distance(formulas.layer_norm(k * x, epsilon), predicted) / root_d,
            bound=16 * draws.gamma * kappa,
        ),
        Comparison(
            law="torch.nn.LayerNorm",
            error=distance(oracle(x), formulas.layer_norm(x, 1e-5)) / root_d,
            bound=8 * draws.gamma * kappa,
        ),
        # Relative to 1 + g², so that a gain of a million and one of 1 are judged alike.
        Comparison(
            law="the bound on |g² − 1|",
            error=excess / (1 + gain_squared),
            bound=where_informative(draws.gamma * kappa <= VACUOUS, torch.full_like(kappa, 16 * unit)),
        ),
    ]


def twin_gain_unsquared(run: Run) -> Finding:
    """False: ``LN(kx) = g²·LN(x)``."""
    return check_gain(run, Gain(power=2))


def twin_tighter_bound(run: Run) -> Finding:
    """False: LN-2 with its bounds lowered by one per cent."""
    return check_gain(run, Gain(tightness=sympy.Rational(99, 100)))
