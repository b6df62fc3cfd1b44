"""A post-norm block sees the scale of its input.

- LN-7 (:func:`check_post_norm`): "``F(kx) = F(x)`` for ``F(x) = LN(x + f(x))``, ``ε = 0``" is false, and so are
  "``F(kx) = kF(x)``" and "``F(kx)`` is parallel to ``F(x)``". The first two already fail in dimension 2 with a constant
  branch; the last one needs dimension 3, because in the plane every output is ``±(1, −1)``.
- What holds instead (:func:`law_of_the_post_norm_block`): the output has squared length ``d``; ``F(kx) = F(x)`` exactly
  if the centred ``kx + f(kx)`` is a positive multiple of the centred ``x + f(x)``, as it is for ``f(kx) = kf(x)``; and
  ``‖F(kx) − LN(x)‖ ≤ 2√d‖Pf(kx)‖/(k‖Px‖)``, so that for a bounded branch the block loses sight of the scale, and of its
  branch, as ``k`` grows.
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
from proofs.floating import Comparison, distance, sweep
from proofs.layer_norm import SCALE, SHIFT, D, any_vector, condition
from proofs.proof import Checked, Proof
from proofs.steps import Given, Identity, Inequality, Setting
from proofs.symbolic import Expression, GramSpace, GramVector
from sensverify import formulas
from sensverify.claims import Finding, Run, Status

SIZE = sympy.Symbol("sigma", positive=True)
WEIGHT = sympy.Symbol("w", real=True)
SPREAD, OTHER_SPREAD = sympy.symbols("sigma s", positive=True)
MEAN, OTHER_MEAN, COSINE = sympy.symbols("mu m tau", real=True)
_AXES = {2: ((1, -1),), 3: ((1, -1, 0), (1, 1, -2))}  # orthogonal, and orthogonal to 1


class Law(enum.Enum):
    """What may be said of a block."""

    SAME = "F(kx) = F(x)"
    HOMOGENEOUS = "F(kx) = kF(x)"
    DIRECTION = "F(kx) is parallel to F(x)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PostNorm:
    """A law said to hold for every block ``LN(x + f(x))``; ``bias``: ``f`` is constant, or else linear."""

    law: Law = Law.SAME
    bias: bool = True


def refute(run: Run, block: PostNorm) -> Checked:
    """Try to prove the law for ``f(x) = b``, or for ``f(x) = wx``; REFUTED with explicit vectors if that fails."""
    dimension = 3 if block.law is Law.DIRECTION else 2
    axes = _AXES[dimension]
    names = [f"a{i}" for i in range(len(axes))]
    gram = {
        (name, other): sum(p * q for p, q in zip(a, b, strict=True))
        for name, a in zip(names, axes, strict=True)
        for other, b in zip(names, axes, strict=True)
    }
    gram |= {(name, "1"): 0 for name in names}
    space = GramSpace(dimension=sympy.Integer(dimension), gram=gram)
    across = [space.vector(name) for name in names]
    biases = [sympy.Symbol(f"b_{i + 1}", real=True) for i in range(len(axes))] if block.bias else []
    x, weight = across[0] * SIZE, sympy.Integer(0) if block.bias else WEIGHT

    def inside(point: GramVector) -> GramVector:
        total: GramVector = point + point * weight
        for axis, bias in zip(across, biases, strict=False):
            total = total + axis * bias
        return total

    before, after = inside(x), inside(x * SCALE)
    at_x, at_kx = formulas.layer_norm(before), formulas.layer_norm(after)
    if block.law is Law.SAME:
        excess = (at_kx - at_x).squared_norm()
    elif block.law is Law.HOMOGENEOUS:
        excess = (at_kx - at_x * SCALE).squared_norm()
    else:
        excess = at_kx.squared_norm() * at_x.squared_norm() - at_kx.inner_product(at_x) ** 2

    def realise(numbers: Mapping[str, Any]) -> Mapping[str, Any]:
        def value(symbol: Expression) -> Expression:
            return numbers.get(str(symbol), falsify.simplest(symbol))

        bias = [sum(value(b) * axis[i] for b, axis in zip(biases, axes, strict=False)) for i in range(dimension)]
        point = [value(SIZE) * a for a in axes[0]]
        return _witness(block.law, point, value(SCALE), value(WEIGHT) if not block.bias else sympy.Integer(0), bias)

    defined = tuple(
        Given(text=f"{name} is not constant", quantity=formulas.sqrt(formulas.variance(point)), strict=True)
        for name, point in (("x + f(x)", before), ("kx + f(kx)", after))
    )
    return Proof(
        title="Does a post-norm block see the scale?",
        hypotheses=("F(x) = LN(x + f(x)) with ε = 0 and k > 0",),
        setting=Setting(givens=defined, realise=realise, seed=run.seed),
        spaces=(space,),
        steps=(Identity(text=f"For every x and every f: {block.law.value}", left=excess),),
    ).check()


def _witness(law: Law, x: list[Any], scale: Expression, weight: Expression, bias: list[Any]) -> dict[str, Any]:
    """The block as data: ``f(x) = Wx + b`` with ``W = wI``, outputs as squares with their signs."""

    def output(k: Expression) -> list[Expression]:
        inner = [k * a * (1 + weight) + b for a, b in zip(x, bias, strict=True)]
        mean = sum(inner) / len(inner)
        variance = sum((a - mean) ** 2 for a in inner) / len(inner)
        return [sympy.sign(a - mean) * (a - mean) ** 2 / variance for a in inner]

    outputs = {"F(x)": output(sympy.Integer(1)), "F(kx)": output(scale)}
    outputs["kF(x)"] = [scale**2 * a for a in outputs["F(x)"]]
    identity = [[falsify.to_text(weight if i == j else 0) for j in range(len(x))] for i in range(len(x))]
    return {
        "kind": "post-norm block",
        "law": law.value,
        "reading": "F(x) = LN(x + Wx + b), LN(x) = (x − mean)/√variance, biased variance, no epsilon; each coordinate "
        "a of an output is written sign(a)·a², which is exact; all numbers are fractions",
        "x": [falsify.to_text(a) for a in x],
        "k": falsify.to_text(scale),
        "W": identity,
        "b": [falsify.to_text(b) for b in bias],
        **{name: [falsify.to_text(a) for a in values] for name, values in outputs.items()},
    }


def law_of_the_post_norm_block(run: Run) -> Checked:
    """What does hold, for every dimension and every ``f``, proved."""
    y = any_vector()
    normed = formulas.layer_norm(y)
    gram = {
        ("u", "u"): D * (SPREAD**2 + MEAN**2), ("u", "1"): D * MEAN,
        ("v", "v"): D * (OTHER_SPREAD**2 + OTHER_MEAN**2), ("v", "1"): D * OTHER_MEAN,
        ("u", "v"): D * (SPREAD * OTHER_SPREAD * COSINE + MEAN * OTHER_MEAN),
    }  # fmt: skip
    space = GramSpace(dimension=D, gram=gram)
    u, v = space.vector("u"), space.vector("v")
    apart = (formulas.layer_norm(u) - formulas.layer_norm(v)).squared_norm()
    onto = formulas.centre(v) - formulas.centre(u) * (OTHER_SPREAD / SPREAD)
    lengths = sympy.sqrt(D) * (SPREAD + OTHER_SPREAD)
    return Proof(
        title="What scaling its input does to a post-norm block",
        hypotheses=(
            "F(x) = LN(x + f(x)) with ε = 0, k > 0, and neither x + f(x) nor kx + f(kx) constant",
            "u and v be any two vectors of dimension d ≥ 2 with means μ, m, deviations σ, s > 0 and τ the cosine of Pu "
            "and Pv; such as x + f(x) and kx + f(kx), or kx and kx + f(kx)",
        ),
        setting=Setting(
            givens=(
                Given(text="d ≥ 2", quantity=D - 2),
                Given(text="τ ≥ −1, as for any cosine", quantity=1 + COSINE),
            ),
            seed=run.seed,
        ),
        spaces=(space, y.space),
        steps=(
            Identity(
                text="Every output has the same length, whatever the scale:",
                left=normed.squared_norm(),
                right=D,
                shown=r"\|F(x)\|^2 = d",
            ),
            Identity(
                text="Two outputs differ by the angle between what goes into the norm,",
                left=apart,
                right=2 * D * (1 - COSINE),
                shown=r"\|LN(u) - LN(v)\|^2 = 2d(1 - \tau)",
            ),
            Identity(
                text="so they agree exactly if one is a positive multiple of the other, up to a shift:",
                left=onto.squared_norm(),
                right=2 * D * OTHER_SPREAD**2 * (1 - COSINE),
                shown=r"\left\|Pv - \frac{s}{\sigma} Pu\right\|^2 = 2ds^2(1 - \tau)",
            ),
            Identity(
                text="That is so if f(kx) = kf(x), for then kx + f(kx) = k(x + f(x)):",
                left=(formulas.layer_norm(y * SCALE + SHIFT) - normed).squared_norm(),
                shown=r"\|LN(ky + c\mathbf{1}) - LN(y)\|^2 = 0",
            ),
            Inequality(
                text="In general, the outputs are no farther apart than the inputs are, relative to their lengths:",
                larger=4 * D * formulas.centre(u - v).squared_norm(),
                smaller=lengths**2 * apart,
                because=[[2 * D**2, (SPREAD - OTHER_SPREAD) ** 2, 1 + COSINE]],
                shown=r"\|LN(u) - LN(v)\| \leq \frac{2\sqrt{d} \|P(u - v)\|}{\|Pu\| + \|Pv\|}",
            ),
        ),
        conclusion="With u = kx and v = kx + f(kx): ‖F(kx) − LN(x)‖ ≤ 2√d‖Pf(kx)‖/(k‖Px‖), which goes to 0 for a "
        "bounded f as k grows.",
    ).check()


def check_post_norm(run: Run, block: PostNorm = PostNorm()) -> Finding:
    """LN-7: the law is refuted, and what holds instead is proved.

    REFUTED needs all three: a counterexample, an independent re-check of it, the proof of what holds instead.
    """
    refuted = refute(run, block)
    if refuted.status is not Status.REFUTED or refuted.witness is None:
        return refuted.finding()
    objections = recheck.recheck(refuted.witness)
    instead = run.shared("proofs: law of the post-norm block", lambda: law_of_the_post_norm_block(run))
    if objections or instead.status is not Status.PROVED:
        doubts = {"objections": objections, "law_of_the_block": instead.status.value}
        return Finding(status=Status.INCONCLUSIVE, evidence=doubts, exhibits=(instead.derivation(),))
    swept = run.shared("proofs: post-norm in floating point", lambda: sweep(run, "LN-7", _compare_post_norm))
    if trouble := swept.trouble():
        return trouble
    evidence = {
        "what_holds": f"‖F(x)‖² = d; F(kx) = F(x) exactly if P(kx + f(kx)) is a positive multiple of P(x + f(x)), as "
        f"for f(kx) = kf(x); {instead.steps} steps checked by machine",
        "limit": "‖F(kx) − LN(x)‖ ≤ 2√d‖Pf(kx)‖/(k‖Px‖): a bounded branch is forgotten as k → ∞",
        "smallest_dimension": "2 for F(kx) = F(x) and F(kx) = kF(x), 3 for the direction",
        "floating_point": swept.summary(),
    }
    if block == PostNorm():
        publish(run, "LN-7", refuted.witness)
    return Finding(status=Status.REFUTED, evidence=evidence, witness=refuted.witness, exhibits=(instead.derivation(),))


def _compare_post_norm(draws: Draws) -> list[Comparison]:
    # LN is off by 4γκ√d. The branch |⟨x, s⟩|u is homogeneous; it comes out within 2γ‖x‖, at x and, relative to k, at
    # kx, where the rounding of kx adds as much: y = x + f(x) is off by 8γ‖x‖, which LN divides by ‖Py‖/√d.
    x, k, gamma = draws.x, draws.scale, draws.gamma
    root_d = x.shape[-1] ** 0.5

    def inside(point: torch.Tensor) -> torch.Tensor:
        written: torch.Tensor = point + formulas.inner(point, draws.s).abs() * draws.u
        return written

    y = inside(x)
    kappa = condition(y)
    output = formulas.layer_norm(y)
    moved = distance(formulas.layer_norm(inside(k * x)), output)
    inputs = formulas.norm(x.double()) / formulas.norm(formulas.centre(y.double()))
    # A constant branch: kx + u against kx, both as they come out in the dtype.
    far, near = (k * x).double(), (k * x + draws.u).double()
    ceiling = 2 * formulas.norm(formulas.centre(near - far))
    ceiling = ceiling / (formulas.norm(formulas.centre(far)) + formulas.norm(formulas.centre(near)))
    gap = distance(formulas.layer_norm(k * x + draws.u), formulas.layer_norm(k * x)) / root_d
    return [
        Comparison(
            law="F(kx) = F(x) for a homogeneous branch",
            error=moved / root_d,
            bound=8 * gamma * (kappa + condition(inside(k * x))) + 16 * gamma * inputs,
        ),
        Comparison(
            law="‖F(x)‖² = d",
            error=(formulas.norm(output.double()) ** 2 / x.shape[-1] - 1).abs(),
            bound=12 * gamma * kappa,
        ),
        Comparison(
            law="‖LN(u) − LN(v)‖ ≤ 2√d‖P(u−v)‖/(‖Pu‖+‖Pv‖)",
            error=(gap - ceiling).clamp(min=0),
            bound=8 * gamma * (condition(far) + condition(near)),
        ),
    ]


def twin_homogeneous(run: Run) -> Finding:
    """False: ``F(kx) = kF(x)``."""
    return check_post_norm(run, PostNorm(law=Law.HOMOGENEOUS))


def twin_direction(run: Run) -> Finding:
    """False: the direction of the output does not depend on the scale of the input."""
    return check_post_norm(run, PostNorm(law=Law.DIRECTION))
