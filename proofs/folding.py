"""The affine part of a norm belongs to the map that reads it, and presence is taken before it.

- LN-8 (:func:`check_folding`): ``W(γ⊙z + β) + b = (Wγ)z + (Wβ + b)``; the rows of ``Wγ`` may be centred, because ``z``
  sums to zero. Two models that compute the same function, one with its ``γ`` folded and one without, agree on the
  presence before ``γ`` and differ on the one after it: a published witness, and the exact condition. All presences
  after ``γ`` are those before exactly if ``d = 2`` or all ``|γ_i|`` are equal.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import sympy
import torch

from proofs import falsify, recheck
from proofs.counterexamples import publish
from proofs.draws import Draws
from proofs.floating import Comparison, sweep, where_informative
from proofs.layer_norm import MEAN, VARIANCE, D, condition
from proofs.layer_norm_gain import EPSILON
from proofs.proof import Checked, Proof
from proofs.steps import Computation, Given, Identity, Inequality, Setting, Step
from proofs.symbolic import Expression, GramSpace, GramVector
from sensverify import formulas
from sensverify.claims import Finding, Run, Status

Fold = Callable[[Any, Any, Any, Any], tuple[Any, Any]]
WEIGHT, GAIN, INPUT, SHIFT, READ, ADDED = sympy.symbols("w gamma z beta B C", real=True)
OWN, OTHER, THIRD, SIZE = sympy.symbols("gamma_i gamma_j gamma_k g", positive=True)
LEAST, POSITIVE = sympy.symbols("q p", positive=True)
GAP = sympy.Symbol("v", nonnegative=True)
ALONG, ACROSS = sympy.symbols("a b", nonzero=True)
_SHAPES = ((1, 2), (2, 3), (3, 4))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folding:
    """LN-8 by default. ``fold``: another way to fold; ``presence_changes``: ``γ`` is said to change presence."""

    fold: Fold | None = None
    presence_changes: bool = True


def check_folding(run: Run, statement: Folding = Folding()) -> Finding:
    """LN-8: the function by proof, the presence by a witness that stands by itself and an exact condition."""
    proved = _proof(run, statement).check()
    if proved.status is not Status.PROVED:
        return proved.finding()
    moved = run.shared("proofs: presence after the gain", lambda: refute_presence(run))
    if moved.status is not Status.REFUTED or moved.witness is None:
        return Finding(status=Status.INCONCLUSIVE, evidence={"presence_changes": moved.status.value})
    if not statement.presence_changes:
        return moved.finding()
    witness = presence_witness(moved.witness["gain"])
    objections = recheck.recheck(witness)
    if objections:
        return Finding(status=Status.INCONCLUSIVE, evidence={"objections": objections})
    publish(run, "LN-8", witness)
    evidence = {
        "proved_for": "every dimension d ≥ 2 and every number of outputs",
        "centring": "⟨w, LN(x)⟩ = ⟨Pw, LN(x)⟩ = ⟨Pw, x⟩/√(σ²+ε): the centring may be folded too",
        "presence_after_gain": "the same for all x and s exactly if d = 2 or all |γ_i| are equal",
        "witness_of_the_presence": witness,
    }
    bounds = {
        "torch.nn.LayerNorm, then torch.nn.Linear": "12γ(d+8)κ(x)·max over outputs of (√d‖wγ‖ + Σ|wβ| + |b|)",
        "⟨Pw, LN(x)⟩ = ⟨w, LN(x)⟩": "12γ(d+8)κ(x)√d‖w‖",
        "presence after equal gains": "8γ(d+8)",
    }
    return sweep(run, "LN-8", _compare_folding).join(proved.finding(evidence), bounds=bounds)


def _proof(run: Run, statement: Folding) -> Proof:
    reading, space = _reading()
    corners, gained = _corners()
    return Proof(
        title="Folding, and where presence is taken",
        hypotheses=(
            "z = LN(x) for an x of dimension d ≥ 2 with mean μ and variance σ² > 0, and w a row of W",
            "e_i, e_j, e_k be different unit coordinate vectors, for d ≥ 3",
            "γ_i, γ_j, γ_k stand for the sizes |γ_i| > 0, on which ⟨γ⊙z, γ⊙s⟩ = Σγ_i² z_i s_i alone depends",
        ),
        setting=Setting(givens=(Given(text="d ≥ 2", quantity=D - 2),), realise=None, seed=run.seed),
        spaces=(space, corners),
        steps=(
            Identity(
                text="One more coordinate: if the output so far is B, read from z, plus C, from β, it stays so:",
                left=(READ + ADDED) + WEIGHT * (GAIN * INPUT + SHIFT),
                right=(READ + (WEIGHT * GAIN) * INPUT) + (ADDED + WEIGHT * SHIFT),
                shown=r"(B + C) + w(\gamma z + \beta) = (B + (w\gamma)z) + (C + w\beta)",
            ),
            Computation(
                text="The function that folds, on matrices of symbols with up to 3 outputs and 4 inputs:",
                run=lambda: _difference(statement.fold or formulas.fold_affine),
                how="every output expanded; the difference is the zero polynomial",
                latex=r"W(\gamma \odot z + \beta) + b = (W \, \mathrm{diag}(\gamma)) z + (W\beta + b)",
            ),
            *reading,
            *_condition(gained),
        ),
        conclusion="So for d ≥ 3 all presences agree only if all |γ_i| are equal: order any three of them.",
    )


def _difference(fold: Fold) -> Mapping[str, Any] | None:
    """The smallest numbers at which the folded map gives something else, or None if it never does."""
    for outputs, inputs in _SHAPES:
        names = [f"W{i}{j}" for i, j in itertools.product(range(outputs), range(inputs))]
        weight = np.array(sympy.symbols(names, real=True), dtype=object).reshape(outputs, inputs)
        bias, gain, shift, z = (
            np.array(sympy.symbols(f"{name}:{size}", real=True), dtype=object)
            for name, size in (("b", outputs), ("g", inputs), ("s", inputs), ("z", inputs))
        )
        plain = weight @ (gain * z + shift) + bias
        parts = {"W": weight, "b": bias, "gain": gain, "shift": shift, "z": z}
        symbols = np.concatenate([part.ravel() for part in parts.values()])
        values = {symbol: sympy.Integer(1 + i % 3) for i, symbol in enumerate(symbols)}

        def numbers(array: Any, values: Mapping[Any, Any] = values) -> Any:
            exact = np.vectorize(lambda e: falsify.to_text(sympy.sympify(e).subs(values)), otypes=[object])
            return exact(array).tolist()

        shown = {name: numbers(array) for name, array in parts.items()}
        try:
            folded, offset = fold(weight, bias, gain, shift)
            found = folded @ z + offset
            differences = [sympy.expand(entry) for entry in plain - found]
        except ValueError as error:
            return {**shown, "shapes_do_not_fit": str(error)}
        if any(entry != 0 for entry in differences):
            remainders = [str(entry) for entry in differences]
            return {**shown, "output": numbers(plain), "folded_output": numbers(found), "difference": remainders}
    return None


def _reading() -> tuple[list[Step], GramSpace]:
    """Centring the row that reads is the same as centring what is read."""
    overlap, total, size = sympy.symbols("t omega W", real=True)
    gram = {
        ("x", "x"): D * (VARIANCE + MEAN**2), ("x", "1"): D * MEAN,
        ("w", "w"): size, ("w", "1"): total, ("x", "w"): overlap,
    }  # fmt: skip
    space = GramSpace(dimension=D, gram=gram)
    x, w = space.vector("x"), space.vector("w")
    z = formulas.layer_norm(x, EPSILON)
    steps: list[Step] = [
        Identity(
            text="Centring the rows of the folded map changes nothing,",
            left=formulas.inner(formulas.centre(w), z),
            right=formulas.inner(w, z),
            shown=r"\langle Pw, LN(x) \rangle = \langle w, LN(x) \rangle",
        ),
        Identity(
            text="and after it the norm itself no longer has to centre:",
            left=formulas.inner(formulas.centre(w), x) / sympy.sqrt(VARIANCE + EPSILON),
            right=formulas.inner(w, z),
            shown=r"\frac{\langle Pw, x \rangle}{\sqrt{\sigma^2 + \varepsilon}} = \langle w, LN(x) \rangle",
        ),
    ]
    return steps, space


def _corners() -> tuple[GramSpace, Callable[..., Expression]]:
    """Coordinate vectors, and the presence of ``γ⊙(e_i − e_j)`` in ``γ⊙(e_i − e_k)``."""
    names = ("e_i", "e_j", "e_k")
    gram = {(a, b): int(a == b) for a, b in itertools.product(names, names)}
    space = GramSpace(dimension=D, gram={**gram, **{(name, "1"): 1 for name in names}})
    first, second, third = (space.vector(name) for name in names)

    def presence(own: Expression, other: Expression, third_gain: Expression) -> Expression:
        x: GramVector = first * own - third * third_gain
        return formulas.presence(x, first * own - second * other)

    return space, presence


def _condition(presence: Callable[..., Expression]) -> list[Step]:
    after = OWN**4 / ((OWN**2 + OTHER**2) * (OWN**2 + THIRD**2))
    steps: list[Step] = [
        Identity(
            text="If all |γ_i| are g, every term of ⟨γ⊙z, γ⊙s⟩ is g² times that of ⟨z, s⟩, so that presences stay; for "
            "either sign of γ_i:",
            left=sum(((e * SIZE * INPUT) * (e * SIZE * WEIGHT) - SIZE**2 * INPUT * WEIGHT) ** 2 for e in (1, -1)),
            shown=r"(\pm g z_i)(\pm g s_i) = g^2 z_i s_i",
        ),
        Identity(
            text="If d = 2, all centred vectors are multiples a(1, −1) and b(1, −1), and the product only changes by a "
            "positive factor:",
            left=(OWN * ALONG) * (OWN * ACROSS) + (OTHER * ALONG) * (OTHER * ACROSS),
            right=ALONG * ACROSS * (OWN**2 + OTHER**2),
            shown=r"\langle \gamma \odot z, \gamma \odot s \rangle = ab(\gamma_1^2 + \gamma_2^2)",
        ),
        Identity(
            text="For d ≥ 3 take x = e_i − e_k and s = e_i − e_j, whose presence is 1/2:",
            left=presence(1, 1, 1),
            right=sympy.Rational(1, 2),
            shown=r"\cos(e_i - e_k, e_i - e_j) = \frac{1}{2}",
        ),
        Identity(
            text="After γ it is, squared:",
            left=presence(OWN, OTHER, THIRD) ** 2,
            right=after,
            shown=r"\rho^2 = \frac{\gamma_i^4}{(\gamma_i^2 + \gamma_j^2)(\gamma_i^2 + \gamma_k^2)}",
        ),
    ]
    for high, middle, text in ((POSITIVE, GAP, "γ_i > γ_k ≥ γ_j"), (GAP, POSITIVE, "γ_i ≥ γ_k > γ_j")):
        # The squares of the three gains are q, q + m and q + m + h; what matters is that they are not all equal.
        largest, between = LEAST + middle + high, LEAST + middle
        shares = 1 / (4 * (largest + LEAST)), 1 / (largest + between)
        steps.append(
            Inequality(
                text=f"which is more than 1/4 if {text}, with q, q + {middle}, q + {middle + high} the squares of γ_j, "
                "γ_k, γ_i:",
                larger=after.subs({OWN: sympy.sqrt(largest), THIRD: sympy.sqrt(between), OTHER: sympy.sqrt(LEAST)}),
                smaller=sympy.Rational(1, 4),
                because=[
                    [2 * middle**2, *shares],
                    [3 * high**2, *shares],
                    [5 * middle * high, *shares],
                    [2 * LEAST * middle, *shares],
                    [4 * LEAST * high, *shares],
                ],
                strict=True,
                shown=r"\frac{\gamma_i^4}{(\gamma_i^2 + \gamma_j^2)(\gamma_i^2 + \gamma_k^2)} > \frac{1}{4}",
            )
        )
    return steps


def refute_presence(run: Run) -> Checked:
    """Try to prove "presence is the same after ``γ``"; REFUTED with the smallest gains, in dimension 3."""
    space, presence = _corners()

    def realise(numbers: Mapping[str, Any]) -> Mapping[str, Any]:
        gains = [numbers.get(str(symbol), sympy.Integer(1)) for symbol in (OWN, OTHER, THIRD)]
        return presence_witness([falsify.to_text(g) for g in gains])

    return Proof(
        title="Is presence the same after the gain?",
        hypotheses=("x = e_i − e_k and s = e_i − e_j, and γ be positive",),
        setting=Setting(realise=realise, seed=run.seed),
        spaces=(space,),
        steps=(
            Identity(
                text="For every γ: cos(γ⊙x, γ⊙s) = cos(x, s)", left=presence(OWN, OTHER, THIRD), right=presence(1, 1, 1)
            ),
        ),
    ).check()


def presence_witness(gains: list[Any]) -> dict[str, Any]:
    """``x``, ``s`` and ``γ`` in dimension 3 with the presences before and after ``γ``, as squares with their signs."""
    gain = [sympy.Rational(g) for g in gains]
    x, s = [1, 0, -1], [1, -1, 0]
    weight = [[1, 2, 3], [1, 1, 1]]
    folded = [[falsify.to_text(w * g) for w, g in zip(row, gain, strict=True)] for row in weight]

    def signed_square(a: list[Any], b: list[Any]) -> str | int:
        product, sizes = (sum(p * q for p, q in zip(*pair, strict=True)) for pair in ((a, b), (a, a)))
        other = sum(q * q for q in b)
        return falsify.to_text(sympy.Rational(product * abs(product)) / (sizes * other))

    gained = [[g * a for g, a in zip(gain, vector, strict=True)] for vector in (x, s)]
    return {
        "kind": "presence after gain",
        "reading": "x and s are centred, then multiplied by the gain coordinate by coordinate; a presence c = "
        "cos(x, s) is written sign(c)·c², which is exact: before the gain, after it on both, after it on x alone. "
        "W(γ⊙z) = folded_W z for every z, so that both describe one function",
        "x": x,
        "s": s,
        "gain": [falsify.to_text(g) for g in gain],
        "W": weight,
        "folded_W": folded,
        "presence": {
            "before": signed_square(x, s),
            "after": signed_square(*gained),
            "after_of_s": signed_square(gained[0], s),
        },
    }


def _compare_folding(draws: Draws) -> list[Comparison]:
    # LN of the engine and of torch differ by 8γκ√d (see LN-1). Reading them adds 2γ(d+8) of the sizes of all terms on
    # either side, and κ ≥ 1. One layer for all cases: its parameters come from the first of them.
    x, gamma = draws.x, draws.gamma
    d, kappa = x.shape[-1], condition(x)
    gain, shift = draws.s[0] * d**0.5, draws.u[0] * d**0.5
    weight = torch.stack([draws.s[0].roll(1), draws.u[0].roll(1), draws.u[0]])
    bias = torch.stack([draws.alpha[0, 0], draws.beta[0, 0], draws.alpha[0, 0] + 1])
    layer, linear = torch.nn.LayerNorm(d, eps=1e-5, dtype=x.dtype), torch.nn.Linear(d, 3, dtype=x.dtype)
    with torch.no_grad():
        for parameter, value in (
            (layer.weight, gain),
            (layer.bias, shift),
            (linear.weight, weight),
            (linear.bias, bias),
        ):
            parameter.copy_(value)
        said = linear(layer(x)).double()
    folded, offset = formulas.fold_affine(weight, bias, gain, shift)
    normed = formulas.layer_norm(x, 1e-5)
    found = (normed @ folded.mT + offset).double()
    sizes = formulas.norm(folded)[:, 0] * d**0.5 + (weight * shift).abs().sum(-1) + bias.abs()
    own = formulas.inner(normed, draws.s) - formulas.inner(normed, formulas.centre(draws.s))
    sign = torch.where(draws.u < 0, -1.0, 1.0).to(x.dtype) * draws.scale
    presences = [formulas.presence(a, b) for a, b in ((normed, draws.s), (sign * normed, sign * draws.s))]
    return [
        Comparison(
            law="torch.nn.LayerNorm, then torch.nn.Linear",
            error=(found - said).abs().amax(-1, keepdim=True) / sizes.max().double(),
            bound=12 * gamma * kappa,
        ),
        Comparison(law="⟨Pw, LN(x)⟩ = ⟨w, LN(x)⟩", error=own.abs().double() / d**0.5, bound=12 * gamma * kappa),
        Comparison(
            law="presence after equal gains",
            error=(presences[0] - presences[1]).abs().double(),
            bound=where_informative(formulas.norm(normed) > 0, torch.full_like(kappa, 8 * gamma)),
        ),
    ]


def _forgotten_bias(weight: Any, bias: Any, gain: Any, shift: Any) -> tuple[Any, Any]:
    return weight * gain, bias


def _rows(weight: Any, bias: Any, gain: Any, shift: Any) -> tuple[Any, Any]:
    return weight * gain[: len(weight), None], weight @ shift + bias


def twin_forgotten_bias(run: Run) -> Finding:
    """False: the bias stays ``b`` when ``γ`` is folded."""
    return check_folding(run, Folding(fold=_forgotten_bias))


def twin_rows(run: Run) -> Finding:
    """False: ``γ`` multiplies the rows of ``W``."""
    return check_folding(run, Folding(fold=_rows))


def twin_presence_after(run: Run) -> Finding:
    """False: presence is the same after ``γ``."""
    return check_folding(run, Folding(presence_changes=False))
