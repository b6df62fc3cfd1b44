"""What LayerNorm puts out lies on one sphere, orthogonal to ``1``.

- LN-3 (:func:`check_output`): ``‖LN(x)‖² = dσ²/(σ²+ε)`` and ``⟨LN(x), 1⟩ = 0``. So at ``ε = 0`` the squared length is
  ``d`` whatever the input, and for ``ε > 0`` it stays below ``d``: all that is left of ``x`` is its direction.
"""

from __future__ import annotations

import dataclasses

import sympy
import torch

from proofs.draws import Draws
from proofs.floating import Comparison, sweep
from proofs.layer_norm import ANY_VECTOR, MEAN, VARIANCE, D, any_vector, condition, setting
from proofs.layer_norm_gain import EPSILON
from proofs.proof import Proof
from proofs.steps import Identity, Inequality
from proofs.symbolic import Expression
from sensverify import formulas
from sensverify.claims import Finding, Run, Status


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """``‖LN(x)‖²`` and ``⟨LN(x), 1⟩``; the defaults are LN-3, other values its false twins."""

    squared_norm: Expression = D * VARIANCE / (VARIANCE + EPSILON)
    total: Expression = 0


def check_output(run: Run, statement: Output = Output()) -> Finding:
    """LN-3."""
    x = any_vector()
    normed, sharp = formulas.layer_norm(x, EPSILON), formulas.layer_norm(x)
    proof = Proof(
        title="Length and sum of what LayerNorm puts out",
        hypotheses=(ANY_VECTOR, "ε > 0, or ε = 0 where the line says so"),
        setting=setting(run),
        spaces=(x.space,),
        steps=(
            Identity(
                text="The squared length:",
                left=normed.squared_norm(),
                right=statement.squared_norm,
                shown=rf"\|LN(x)\|^2 = {sympy.latex(statement.squared_norm)}",
            ),
            Identity(
                text="The sum of the coordinates:",
                left=normed.coordinate_sum(),
                right=statement.total,
                shown=rf"\langle LN(x), \mathbf{{1}} \rangle = {sympy.latex(statement.total)}",
            ),
            Identity(
                text="At ε = 0 the length does not depend on x:",
                left=sharp.squared_norm(),
                right=D,
                shown=r"\|LN(x)\|^2 = d, \varepsilon = 0",
            ),
            Identity(
                text="nor is there a sum:",
                left=sharp.coordinate_sum(),
                shown=r"\langle LN(x), \mathbf{1} \rangle = 0, \varepsilon = 0",
            ),
            Inequality(
                text="For ε > 0 the output is strictly shorter:",
                larger=D,
                smaller=normed.squared_norm(),
                because=[[D, EPSILON, 1 / (VARIANCE + EPSILON)]],
                strict=True,
                shown=r"d - \|LN(x)\|^2 = \frac{d \varepsilon}{\sigma^2 + \varepsilon} > 0",
            ),
        ),
    ).check()
    if proof.status is not Status.PROVED:
        return proof.finding()
    evidence = {
        "proved_for": "every dimension d ≥ 2, every mean, σ > 0, ε ≥ 0",
        "at_sigma_0": "for ε > 0 the formula gives 0, as LN does; for ε = 0 LN is undefined there",
    }
    bounds = {
        "‖LN(x)‖² = dσ²/(σ²+ε)": "12γ(d+8)κ(x)·d, κ = ‖x‖/‖Px‖",
        "⟨LN(x), 1⟩ = 0": "6γ(d+8)κ(x)·d",
        "‖LN(x)‖² of torch.nn.LayerNorm": "24γ(d+8)κ(x)·d",
    }
    return sweep(run, "LN-3", _compare_output).join(proof.finding(evidence), bounds=bounds)


def _compare_output(draws: Draws) -> list[Comparison]:
    # LN has error 4γκ√d (see LN-1), which moves its squared length by 2√d times that; the variance on the other side
    # is off by 4γκ of itself. Against 1 the error comes to 4γκd, and 2γd for the sum itself.
    x, epsilon = draws.x, draws.epsilon
    d = x.shape[-1]
    kappa = condition(x)
    normed = formulas.layer_norm(x, epsilon)
    # The layer of torch wants one ε for all; 12γκ for it and as much room for an algorithm that is not ours.
    oracle = torch.nn.LayerNorm(d, eps=1e-5, elementwise_affine=False, dtype=x.dtype)(x)
    return [
        Comparison(
            law="‖LN(x)‖² = dσ²/(σ²+ε)",
            error=(formulas.norm(normed.double()) ** 2 / d - _share(x, epsilon.double())).abs(),
            bound=12 * draws.gamma * kappa,
        ),
        Comparison(
            law="⟨LN(x), 1⟩ = 0",
            error=formulas.mean(normed).double().abs(),
            bound=6 * draws.gamma * kappa,
        ),
        Comparison(
            law="‖LN(x)‖² of torch.nn.LayerNorm",
            error=(formulas.norm(oracle.double()) ** 2 / d - _share(x, 1e-5)).abs(),
            bound=24 * draws.gamma * kappa,
        ),
    ]


def _share(x: torch.Tensor, epsilon: torch.Tensor | float) -> torch.Tensor:
    """``σ²/(σ²+ε)`` in float64 ``[N, 1]``."""
    variance: torch.Tensor = formulas.variance(x.double())
    return variance / (variance + epsilon)


def twin_no_epsilon(run: Run) -> Finding:
    """False: ``‖LN(x)‖² = d`` for ``ε > 0`` too."""
    return check_output(run, Output(squared_norm=D))


def twin_unbiased(run: Run) -> Finding:
    """False: ``‖LN(x)‖² = (d−1)σ²/(σ²+ε)``, as with the unbiased variance."""
    return check_output(run, Output(squared_norm=(D - 1) * VARIANCE / (VARIANCE + EPSILON)))


def twin_keeps_the_mean(run: Run) -> Finding:
    """False: ``⟨LN(x), 1⟩ = dμ/√(σ²+ε)``, as without centring."""
    return check_output(run, Output(total=D * MEAN / sympy.sqrt(VARIANCE + EPSILON)))
