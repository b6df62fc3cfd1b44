"""LayerNorm sees neither the scale nor the mean of its input.

- LN-1 (:func:`check_invariance`): with ``ε = 0``, ``LN(kx + c1) = LN(x)`` for ``k > 0`` and ``LN(−x) = −LN(x)``.

:func:`sensverify.formulas.layer_norm` itself is run on a vector of symbolic dimension with mean ``μ`` and biased
variance ``σ²``. Every vector with ``σ > 0`` is such a vector, so the proof holds for all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sympy
import torch

from proofs import falsify
from proofs.draws import Draws
from proofs.floating import VACUOUS, Comparison, distance, sweep, where_informative
from proofs.proof import Proof
from proofs.steps import Given, Identity, Setting
from proofs.symbolic import Expression, GramSpace, GramVector
from sensverify import formulas
from sensverify.claims import Finding, Run, Status

D = sympy.Symbol("d", integer=True, positive=True)
MEAN = sympy.Symbol("mu", real=True)
DEVIATION = sympy.Symbol("sigma", positive=True)
SHIFT = sympy.Symbol("c", real=True)
SCALE = sympy.Symbol("k", positive=True)
VARIANCE = DEVIATION**2
ANY_VECTOR = "x be a vector of dimension d ≥ 2 with mean μ and biased variance σ² > 0"


def any_vector() -> GramVector:
    """A vector of symbolic dimension, mean and variance: ``⟨x,x⟩ = d(σ² + μ²)``, ``⟨x,1⟩ = dμ``."""
    space = GramSpace(dimension=D, gram={("x", "x"): D * (VARIANCE + MEAN**2), ("x", "1"): D * MEAN})
    return space.vector("x")


def realise(numbers: Mapping[str, Any]) -> Mapping[str, Any]:
    """Coordinates with the mean and variance of a counterexample: ``μ ± σ`` in turn, if ``d`` is even."""
    dimension = numbers.get("d", 2)
    mean, deviation = numbers.get("mu", sympy.Integer(0)), numbers.get("sigma", sympy.Integer(1))
    if dimension % 2 or dimension > 64:
        return {}
    return {"x": [falsify.to_text(mean + deviation), falsify.to_text(mean - deviation)] * int(dimension / 2)}


def setting(run: Run, *givens: Given) -> Setting:
    """Dimension at least two, and whatever else is given."""
    return Setting(givens=(Given(text="d ≥ 2", quantity=D - 2), *givens), realise=realise, seed=run.seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Invariance:
    """``LN(kx + c1) = LN(x)`` and ``LN(−x) = parity·LN(x)``; the defaults are LN-1, other values its false twins."""

    scale: Expression = SCALE
    epsilon: Expression = 0
    parity: int = -1


def check_invariance(run: Run, statement: Invariance = Invariance()) -> Finding:
    """LN-1."""
    x, k, epsilon = any_vector(), statement.scale, statement.epsilon
    moved = formulas.layer_norm(x * k + SHIFT, epsilon) - formulas.layer_norm(x, epsilon)
    reflected = formulas.layer_norm(-x, epsilon) - formulas.layer_norm(x, epsilon) * statement.parity
    relation = ">" if k.is_positive else "<"
    proof = Proof(
        title="LayerNorm sees neither scale nor shift",
        hypotheses=(ANY_VECTOR, f"k {relation} 0, c be any real number, and ε = {epsilon}"),
        setting=setting(run),
        spaces=(x.space,),
        steps=(
            Identity(
                text="The variance of kx + c1 is k²σ²:",
                left=formulas.variance(x * k + SHIFT),
                right=k**2 * VARIANCE,
                shown=r"\sigma^2(kx + c\mathbf{1}) = k^2 \sigma^2",
            ),
            Identity(
                text="Scale and shift leave the output where it was:",
                left=moved.squared_norm(),
                shown=r"\|LN(kx + c\mathbf{1}) - LN(x)\|^2 = 0",
            ),
            Identity(
                text="The output is odd:" if statement.parity < 0 else "The output is even:",
                left=reflected.squared_norm(),
                shown=rf"\|LN(-x) {'+' if statement.parity < 0 else '-'} LN(x)\|^2 = 0",
            ),
        ),
    ).check()
    if proof.status is not Status.PROVED:
        return proof.finding()
    lost = formulas.layer_norm(torch.tensor([1.0, -1.0]) * 1.0 + 2.0**25)
    evidence = {
        "proved_for": "every dimension d ≥ 2, every mean, every variance > 0",
        "fails_in_float32": "where the shift swallows x: with x = (1, −1) and c = 2²⁵ the sum kx + c1 is constant, "
        f"and LN gives {lost.tolist()}",
    }
    bounds = {
        "LN(kx + c1) = LN(x)": "4γ(d+8)(κ(x) + κ(kx+c1)) + 2u(2‖kx‖ + |c|√d)/‖P(kx)‖, κ = ‖x‖/‖Px‖, times √d",
        "LN(−x) = −LN(x)": "0: the bits agree",
        "LN(2ʲx) = LN(x)": "0: the bits agree",
        "torch.nn.LayerNorm": "8γ(d+8)κ(x)√d",
    }
    return sweep(run, "LN-1", _compare_invariance).join(proof.finding(evidence), bounds=bounds)


def condition(x: torch.Tensor) -> torch.Tensor:
    """``κ(x) = ‖x‖/‖Px‖`` in float64: how much of ``x`` the centring cancels."""
    # In plain torch: a bound that the engine's own functions computed would be as broken as they are.
    x = x.double()
    centred = x - x.mean(-1, keepdim=True)
    ratio: torch.Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True) / torch.linalg.vector_norm(
        centred, dim=-1, keepdim=True
    )
    return ratio


def _compare_invariance(draws: Draws) -> list[Comparison]:
    # Centring has error at most γ(d)·rms(x) + u|x_i| per coordinate, relative to σ at most 2γ(d+8)κ; the variance
    # doubles it, and the division adds γ(d+8): together at most 4γ(d+8)κ for each evaluation of LN.
    x, k, c = draws.x, draws.scale, draws.shift
    root_d = x.shape[-1] ** 0.5
    unit = torch.finfo(x.dtype).eps / 2
    normed, moved = formulas.layer_norm(x), k * x + c
    scaled = (k * x).double()
    inputs = 2 * unit * (2 * formulas.norm(scaled) + c.abs().double() * root_d)
    inputs = inputs / formulas.norm(formulas.centre(scaled))
    power = torch.exp2(torch.round(torch.log2(k)))
    own = 4 * draws.gamma * condition(x)
    oracle = torch.nn.LayerNorm(x.shape[-1], eps=0.0, elementwise_affine=False, dtype=x.dtype)
    exact = where_informative(own <= VACUOUS, torch.zeros_like(own))  # else σ = 0 may come out
    return [
        Comparison(
            law="LN(kx + c1) = LN(x)",
            error=distance(formulas.layer_norm(moved), normed) / root_d,
            bound=own + 4 * draws.gamma * condition(moved) + inputs,
        ),
        Comparison(law="LN(−x) = −LN(x)", error=distance(formulas.layer_norm(-x), -normed), bound=exact),
        Comparison(law="LN(2ʲx) = LN(x)", error=distance(formulas.layer_norm(power * x), normed), bound=exact),
        Comparison(law="torch.nn.LayerNorm", error=distance(oracle(x), normed) / root_d, bound=2 * own),
    ]


def twin_epsilon_does_not_matter(run: Run) -> Finding:
    """False: LN-1 with ``ε = 10⁻⁵``."""
    return check_invariance(run, Invariance(epsilon=sympy.Rational(1, 10**5)))


def twin_negative_scale(run: Run) -> Finding:
    """False: LN-1 for ``k < 0``."""
    return check_invariance(run, Invariance(scale=sympy.Symbol("k", negative=True)))


def twin_even(run: Run) -> Finding:
    """False: ``LN(−x) = LN(x)``."""
    return check_invariance(run, Invariance(parity=1))
