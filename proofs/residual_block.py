"""A pre-norm residual block is not scale-invariant: only what its norms put out is.

- LN-6 (:func:`check_block`): "``F(kx) = kF(x)`` for ``F(x) = x + f(LN(x))``, ``ε = 0``" is false, and so is "the
  direction of ``F(x)`` does not depend on the scale of ``x``". The smallest witness lives in dimension 2: in
  dimension 1 there is no variance to divide by.
- What holds instead (:func:`law_of_the_block`): the update ``F(x) − x`` does not see the scale, whence
  ``F(kx) − kF(x) = −(k−1)f``, the exact cosine, and its limit ``cos(x, F(x))`` for ``k → ∞``. The direction is kept
  exactly if ``f ∥ x``.
- GPT-NeoX's parallel form ``x + Attn(LN₁x) + MLP(LN₂x)`` is the same with ``f`` the sum of both branches.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

import sympy
import torch

from proofs import falsify, recheck
from proofs.counterexamples import publish
from proofs.draws import Draws
from proofs.floating import VACUOUS, Comparison, sweep, where_informative
from proofs.layer_norm import SHIFT, any_vector, condition
from proofs.proof import Checked, Proof
from proofs.steps import Given, Identity, Inequality, Setting
from proofs.symbolic import Expression, GramSpace, GramVector
from sensverify import formulas
from sensverify.claims import Finding, Run, Status

D = sympy.Symbol("d", integer=True, positive=True)
SCALE, SIZE = sympy.symbols("k sigma", positive=True)
XX = sympy.Symbol("X", positive=True)
XF = sympy.Symbol("C", real=True)
FF = sympy.Symbol("Q", nonnegative=True)
# Orthogonal axes of equal length; LN of any positive multiple of the first is the first itself.
_AXES = {1: ((1, -1), (1, 1)), 2: ((1, -1, 1, -1), (1, 1, 1, 1), (1, 1, -1, -1))}


class Law(enum.Enum):
    """What may be said of a block; all three are false unless every branch returns zero."""

    HOMOGENEOUS = "F(kx) = kF(x)"
    DIRECTION = "F(kx) is parallel to F(x)"
    SAME = "F(kx) = F(x)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """A law said to hold for every block ``x + Σ f_i(LN(x))`` with that many branches; the default is LN-6."""

    law: Law = Law.HOMOGENEOUS
    branches: int = 1


def refute(run: Run, block: Block) -> Checked:
    """Try to prove the law; REFUTED with explicit vectors if that fails, PROVED for a block without branches.

    Up to an isometry the vectors ``x, f_1, f_2`` lie in the span of the first axes, each using one more: what
    is shown for these coordinates is shown for every dimension.
    """
    axes = _AXES[max(block.branches, 1)]
    coordinates = {"x": [SIZE]}
    for i in range(block.branches):
        coordinates[f"f{i + 1}"] = [sympy.Symbol(f"f{i + 1}_{j + 1}", real=True) for j in range(i + 2)]
    gram = {
        (a, b): len(axes[0]) * sum(p * q for p, q in zip(coordinates[a], coordinates[b], strict=False))
        for a in coordinates
        for b in coordinates
    }
    space = GramSpace(dimension=D, gram=gram)
    branches = [space.vector(name) for name in coordinates if name != "x"]
    x = space.vector("x")

    def block_of(point: GramVector) -> GramVector:
        return sum(branches, start=point)  # the branches read LN(kx) = LN(x), see law_of_the_block

    left, right = block_of(x * SCALE), block_of(x)
    if block.law is Law.HOMOGENEOUS:
        excess = (left - right * SCALE).squared_norm()
    elif block.law is Law.SAME:
        excess = (left - right).squared_norm()
    else:
        excess = left.squared_norm() * right.squared_norm() - left.inner_product(right) ** 2

    def realise(numbers: Mapping[str, Any]) -> Mapping[str, Any]:
        def value(symbol: Expression) -> Expression:
            return numbers.get(str(symbol), falsify.simplest(symbol))

        chosen = {name: [value(c) for c in symbols] for name, symbols in coordinates.items()}
        return _witness(block, axes, chosen, value(SCALE))

    return Proof(
        title="Is the block scale-invariant?",
        hypotheses=("F(x) = x + Σ f(LN(x)) with ε = 0, σ(x) > 0 and k > 0",),
        setting=Setting(realise=realise, seed=run.seed),
        spaces=(space,),
        steps=(Identity(text=f"For every x and every branch: {block.law.value}", left=excess),),
    ).check()


def _witness(
    block: Block, axes: tuple[tuple[int, ...], ...], coordinates: Mapping[str, Any], scale: Expression
) -> dict[str, Any]:
    """A block of diagonal linear branches that maps the first axis to the wanted outputs."""
    vectors = {
        name: [sum(c * axis[i] for c, axis in zip(values, axes, strict=False)) for i in range(len(axes[0]))]
        for name, values in coordinates.items()
    }
    x = vectors.pop("x")
    size = len(x)
    matrices = [
        [[falsify.to_text(f[i] * axes[0][i] if i == j else 0) for j in range(size)] for i in range(size)]
        for f in vectors.values()
    ]
    outputs = [sum(f[i] for f in vectors.values()) for i in range(size)]
    at_x = [a + f for a, f in zip(x, outputs, strict=True)]
    at_kx = [scale * a + f for a, f in zip(x, outputs, strict=True)]

    def product(a: list[Any], b: list[Any]) -> Any:
        return sum(p * q for p, q in zip(a, b, strict=True))

    lengths = product(at_x, at_x) * product(at_kx, at_kx)
    cosine_squared = product(at_x, at_kx) ** 2 / lengths if lengths else sympy.nan
    return {
        "kind": "pre-norm block",
        "law": block.law.value,
        "reading": "F(x) = x + the sum of W·LN(x) over the matrices W in branches; LN(x) = (x − mean)/√variance, "
        "biased variance, no epsilon; all numbers exact",
        "x": [falsify.to_text(a) for a in x],
        "k": falsify.to_text(scale),
        "branches": matrices,
        "F(x)": [falsify.to_text(a) for a in at_x],
        "F(kx)": [falsify.to_text(a) for a in at_kx],
        "kF(x)": [falsify.to_text(scale * a) for a in at_x],
        "cosine_squared_of_F(kx)_and_kF(x)": falsify.to_text(cosine_squared),
    }


def law_of_the_block(run: Run) -> Checked:
    """What does hold, for every dimension and every ``f``, proved."""
    y = any_vector()
    normed = formulas.layer_norm(y * SCALE + SHIFT) - formulas.layer_norm(y)
    space = GramSpace(dimension=D, gram={("x", "x"): XX, ("x", "f"): XF, ("f", "f"): FF})
    x, f = space.vector("x"), space.vector("f")
    at_x, at_kx = x + f, x * SCALE + f
    lengths = sympy.sqrt(SCALE**2 * XX + 2 * SCALE * XF + FF) * sympy.sqrt(XX + 2 * XF + FF)
    cosine = (SCALE * XX + (SCALE + 1) * XF + FF) / lengths
    gram_determinant = at_kx.squared_norm() * at_x.squared_norm() - at_kx.inner_product(at_x) ** 2
    far = XX + 2 * XF + FF
    givens = (
        Given(text="⟨x,x⟩⟨f,f⟩ ≥ ⟨x,f⟩², by Cauchy and Schwarz", quantity=XX * FF - XF**2),
        Given(text="F(x) ≠ 0", quantity=far, strict=True),
        Given(text="F(kx) ≠ 0", quantity=SCALE**2 * XX + 2 * SCALE * XF + FF, strict=True),
    )
    return Proof(
        title="What scaling its input does to a pre-norm block",
        hypotheses=(
            "F(x) = x + f(LN(x)) with ε = 0, σ(x) > 0 and k > 0; f is also the value f(LN(x)), of one branch or the "
            "sum over several",
            "X = ⟨x, x⟩, C = ⟨x, f⟩ and Q = ⟨f, f⟩",
        ),
        setting=Setting(givens=givens, seed=run.seed),
        spaces=(space, y.space),
        steps=(
            Identity(
                text="What a norm puts out does not see scale or shift, so f is the same at x and at kx:",
                left=normed.squared_norm(),
                shown=r"\|LN(kx + c\mathbf{1}) - LN(x)\|^2 = 0",
            ),
            Identity(
                text="The update does not see the scale:",
                left=((at_kx - x * SCALE) - (at_x - x)).squared_norm(),
                shown=r"\|(F(kx) - kx) - (F(x) - x)\|^2 = 0",
            ),
            Identity(
                text="hence the block does, unless f = 0 or k = 1:",
                left=(at_kx - at_x * SCALE).squared_norm(),
                right=(SCALE - 1) ** 2 * FF,
                shown=r"\|F(kx) - kF(x)\|^2 = (k - 1)^2 Q",
            ),
            Identity(
                text="The cosine, exactly:",
                left=at_kx.inner_product(at_x * SCALE),
                right=SCALE * lengths * cosine,
                shown=rf"\cos(F(kx), kF(x)) = {sympy.latex(cosine)}",
            ),
            Inequality(
                text="The direction turns, unless f and x are parallel or k = 1:",
                larger=gram_determinant,
                smaller=0,
                because=[[(SCALE - 1) ** 2, XX * FF - XF**2]],
                shown=r"\|F(kx)\|^2 \|F(x)\|^2 - \langle F(kx), F(x) \rangle^2 = (k - 1)^2 (X Q - C^2) \geq 0",
            ),
            Identity(
                text="For k → ∞ the cosine goes to that between x and F(x):",
                left=sympy.limit(cosine, SCALE, sympy.oo),
                right=x.inner_product(at_x) / (sympy.sqrt(XX) * sympy.sqrt(far)),
                shown=r"\cos(F(kx), kF(x)) \to \frac{X + C}{\sqrt{X} \sqrt{X + 2C + Q}} = \cos(x, F(x))",
            ),
        ),
    ).check()


def check_block(run: Run, block: Block = Block()) -> Finding:
    """LN-6: the law is refuted, and what holds instead is proved.

    REFUTED needs all three: a counterexample, an independent re-check of it, the proof of what holds instead.
    """
    refuted = refute(run, block)
    if refuted.status is not Status.REFUTED or refuted.witness is None:
        return refuted.finding()
    objections = recheck.recheck_block(refuted.witness)
    instead = run.shared("proofs: law of the block", lambda: law_of_the_block(run))
    if objections or instead.status is not Status.PROVED:
        doubts = {"objections": objections, "law_of_the_block": instead.status.value}
        return Finding(status=Status.INCONCLUSIVE, evidence=doubts, exhibits=(instead.derivation(),))
    swept = run.shared("proofs: block in floating point", lambda: sweep(run, "LN-6", _compare_block))
    if trouble := swept.trouble():
        return trouble
    evidence = {
        "what_holds": f"the update F(x) − x does not see the scale of x; {instead.steps} steps checked by machine",
        "cosine": "cos(F(kx), kF(x)) = (kX + (k+1)C + Q)/(√(k²X + 2kC + Q)·√(X + 2C + Q)) with X = ⟨x,x⟩, C = ⟨x,f⟩, "
        "Q = ⟨f,f⟩",
        "limit": "cos(x, F(x)) for k → ∞",
        "kept": "the direction is kept for all k exactly if f(LN(x)) is parallel to x",
        "floating_point": swept.summary(),
    }
    if block == Block():
        publish(run, "LN-6", refuted.witness)
    return Finding(status=Status.REFUTED, evidence=evidence, witness=refuted.witness, exhibits=(instead.derivation(),))


def _compare_block(draws: Draws) -> list[Comparison]:
    # The branch reads s and writes u, so it passes errors on without enlarging them: 4γκ√d for each LN. An error
    # in f, or in a term of the closed formula, reaches the cosine amplified by what cancels in F.
    x, k, gamma = draws.x, draws.scale, draws.gamma
    root_d = x.shape[-1] ** 0.5

    def branch(point: torch.Tensor) -> torch.Tensor:
        written: torch.Tensor = draws.u * formulas.inner(formulas.layer_norm(point), draws.s)
        return written

    f, at_x, at_kx = branch(x), x + branch(x), k * x + branch(k * x)
    wide_x, wide_f, wide_k = x.double(), f.double(), k.double()
    xx, xf, ff = (formulas.inner(a, b) for a, b in ((wide_x, wide_x), (wide_x, wide_f), (wide_f, wide_f)))
    lengths = torch.sqrt(wide_k**2 * xx + 2 * wide_k * xf + ff) * torch.sqrt(xx + 2 * xf + ff)
    said = (wide_k * xx + (wide_k + 1) * xf + ff) / lengths
    kappa = condition(x)

    def cancelled(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        share: torch.Tensor = (formulas.norm(part.double()) + root_d) / formulas.norm(whole.double())
        return share

    worst = torch.maximum(cancelled(x, at_x), cancelled(k * x, at_kx)) ** 2
    return [
        Comparison(
            law="f(LN(kx)) = f(LN(x))",
            error=formulas.norm((branch(k * x) - f).double()) / root_d,
            bound=16 * gamma * kappa,
        ),
        Comparison(
            law="cos(F(kx), kF(x))",
            error=(formulas.presence(at_kx, k * at_x).double() - said).abs(),
            bound=where_informative(gamma * kappa <= VACUOUS, 64 * gamma * kappa * worst),
        ),
    ]


def twin_parallel_block(run: Run) -> Finding:
    """False: GPT-NeoX's parallel block is homogeneous."""
    return check_block(run, Block(branches=2))


def twin_direction(run: Run) -> Finding:
    """False: at least the direction of the output does not depend on the scale of the input."""
    return check_block(run, Block(law=Law.DIRECTION))


def twin_same_output(run: Run) -> Finding:
    """False: the block does not see the scale of its input at all."""
    return check_block(run, Block(law=Law.SAME))
