"""RMSNorm does not see the scale of its input, but sees its mean.

- LN-5 (:func:`check_rms_norm`): ``RMS(kx) = RMS(x)`` for ``k > 0`` at ``ε = 0``, and ``RMS(kx) = g·RMS(x)`` with
  ``g² = (m+ε)/(m+ε/k²)``, ``m = ‖x‖²/d``, for ``ε > 0``. A shift is seen: ``RMS(x + c1) = RMS(x)`` only if
  ``x + c1`` is a positive multiple of ``x``. The witness of that is published, and re-checked by :mod:`proofs.recheck`.

So for a model with RMSNorm nothing is centred: its presence is that in the whole space.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sympy
import torch

from proofs import falsify, recheck
from proofs.counterexamples import publish
from proofs.draws import Draws
from proofs.floating import Comparison, distance, sweep, where_informative
from proofs.layer_norm import SCALE, SHIFT, D
from proofs.layer_norm_gain import EPSILON
from proofs.proof import Checked, Proof
from proofs.steps import Given, Identity, Setting
from proofs.symbolic import Expression, GramSpace
from sensverify import formulas
from sensverify.claims import Finding, Run, Status

MEAN_SQUARE = sympy.Symbol("m", positive=True)
COSINE = sympy.Symbol("tau", real=True)
SIZE, OTHER_SIZE = sympy.symbols("r R", positive=True)
SPREAD = sympy.Symbol("sigma", positive=True)
MEAN = sympy.Symbol("mu", real=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RmsNorm:
    """LN-5 by default. ``shift_seen``: whether a shift is said to matter; ``power``: of the gain ``g``."""

    scale: Expression = SCALE
    epsilon: Expression = 0
    power: int = 1
    shift_seen: bool = True


def check_rms_norm(run: Run, statement: RmsNorm = RmsNorm()) -> Finding:
    """LN-5: the scale by proof, the shift by a witness that stands by itself."""
    proved = _scale(run, statement).check()
    if proved.status is not Status.PROVED:
        return proved.finding()
    shifted = run.shared("proofs: RMSNorm and a shift", lambda: refute_shift(run))
    if shifted.status is not Status.REFUTED or shifted.witness is None:
        return Finding(status=Status.INCONCLUSIVE, evidence={"a_shift_is_seen": shifted.status.value})
    if not statement.shift_seen:
        return shifted.finding()
    witness = shift_witness(shifted.witness["x"], shifted.witness["c"])
    objections = recheck.recheck(witness)
    if objections:
        return Finding(status=Status.INCONCLUSIVE, evidence={"objections": objections})
    publish(run, "LN-5", witness)
    evidence = {
        "proved_for": "every dimension d ≥ 2, every x ≠ 0, k > 0, ε ≥ 0",
        "shift": "‖RMS(x + c1) − RMS(x)‖² = 2d(1 − cos(x, x + c1)): zero exactly if x + c1 is a positive multiple of x",
        "witness_of_the_shift": witness,
    }
    bounds = {
        "RMS(kx) = RMS(x)": "8γ(d+8)√d",
        "RMS(−x) = −RMS(x)": "0: the bits agree",
        "RMS(2ʲx) = RMS(x)": "0: the bits agree",
        "RMS(kx) = g·RMS(x)": "16γ(d+8)√d",
        "‖RMS(x + c1) − RMS(x)‖": "8γ(d+8)√d against √(2d(1 − cos))",
        "torch.nn.RMSNorm": "8γ(d+8)√d",
    }
    return sweep(run, "LN-5", _compare_rms_norm).join(proved.finding(evidence), bounds=bounds)


def _scale(run: Run, statement: RmsNorm) -> Proof:
    """What scaling does, at ``ε = 0`` (or what is said to be enough) and above; and what a shift does exactly."""
    space = GramSpace(dimension=D, gram={("x", "x"): D * MEAN_SQUARE, ("x", "1"): D * MEAN})
    x, k, epsilon = space.vector("x"), statement.scale, statement.epsilon
    scaled = formulas.rms_norm(x * k, epsilon) - formulas.rms_norm(x, epsilon)
    gain_squared = formulas.layer_norm_gain_squared(MEAN_SQUARE, EPSILON, SCALE)
    gained = formulas.rms_norm(x * SCALE, EPSILON) - formulas.rms_norm(x, EPSILON) * (
        sympy.sqrt(gain_squared) ** statement.power
    )
    pair = {("u", "u"): SIZE**2, ("v", "v"): OTHER_SIZE**2, ("u", "v"): SIZE * OTHER_SIZE * COSINE}
    two = GramSpace(dimension=D, gram=pair)
    u, v = two.vector("u"), two.vector("v")
    apart = (formulas.rms_norm(u) - formulas.rms_norm(v)).squared_norm()
    onto = (v - u * (OTHER_SIZE / SIZE)).squared_norm()
    return Proof(
        title="RMSNorm sees a shift, not a scale",
        hypotheses=(
            "x ≠ 0 be a vector of dimension d ≥ 2 with mean μ and mean square m > 0",
            f"k {'>' if k.is_positive else '<'} 0, and ε = {epsilon} where no ε > 0 is written",
            "u and v be any two nonzero vectors with cosine τ, such as x and x + c1",
        ),
        setting=Setting(
            givens=(Given(text="d ≥ 2", quantity=D - 2), Given(text="m ≥ μ²", quantity=MEAN_SQUARE - MEAN**2)),
            realise=_realise,
            seed=run.seed,
        ),
        spaces=(space, two),
        steps=(
            Identity(
                text="The scale is not seen:",
                left=scaled.squared_norm(),
                shown=r"\|RMS(kx) - RMS(x)\|^2 = 0",
            ),
            Identity(
                text="With ε > 0 a gain comes through, the one of LayerNorm with m in the place of σ²:",
                left=gained.squared_norm(),
                shown=r"\|RMS(kx) - g RMS(x)\|^2 = 0, g^2 = \frac{m + \varepsilon}{m + \varepsilon / k^2}",
            ),
            Identity(
                text="The length of the output is fixed, its mean is not taken out:",
                left=formulas.rms_norm(x).squared_norm(),
                right=D,
                shown=r"\|RMS(x)\|^2 = d",
            ),
            Identity(
                text="The mean of the output is that of the input over its root mean square:",
                left=formulas.mean(formulas.rms_norm(x)),
                right=MEAN / sympy.sqrt(MEAN_SQUARE),
                shown=r"\frac{1}{d} \langle RMS(x), \mathbf{1} \rangle = \frac{\mu}{\sqrt{m}}",
            ),
            Identity(
                text="Two outputs differ by the angle between the inputs alone,",
                left=apart,
                right=2 * D * (1 - COSINE),
                shown=r"\|RMS(u) - RMS(v)\|^2 = 2d(1 - \tau)",
            ),
            Identity(
                text="so they agree exactly if one is a positive multiple of the other; a shift by c ≠ 0 makes it one "
                "only if x itself is a multiple of 1:",
                left=onto,
                right=2 * OTHER_SIZE**2 * (1 - COSINE),
                shown=r"\left\|v - \frac{\|v\|}{\|u\|} u\right\|^2 = 2\|v\|^2(1 - \tau)",
            ),
        ),
    )


def _realise(numbers: Mapping[str, Any]) -> Mapping[str, Any]:
    """Two coordinates with the mean and mean square of a counterexample."""
    if "m" not in numbers:
        return {}
    mean = numbers.get("mu", sympy.Integer(0))
    half = sympy.sqrt(numbers["m"] - mean**2)
    return {"x_in_two_dimensions": [falsify.to_text(mean + half), falsify.to_text(mean - half)]}


def refute_shift(run: Run) -> Checked:
    """Try to prove "RMSNorm does not see a shift"; REFUTED with the smallest witness, in dimension 2."""
    space = GramSpace(dimension=D, gram={("x", "x"): D * (SPREAD**2 + MEAN**2), ("x", "1"): D * MEAN})
    x = space.vector("x")
    moved = formulas.rms_norm(x + SHIFT) - formulas.rms_norm(x)

    def realise(numbers: Mapping[str, Any]) -> Mapping[str, Any]:
        mean, spread = numbers.get("mu", sympy.Integer(0)), numbers["sigma"]
        return shift_witness([mean + spread, mean - spread], numbers["c"])

    return Proof(
        title="Does RMSNorm see a shift?",
        hypotheses=("x be a vector of dimension d ≥ 2 with mean μ and variance σ² > 0, c any real number",),
        setting=Setting(givens=(Given(text="d ≥ 2", quantity=D - 2),), realise=realise, seed=run.seed),
        spaces=(space,),
        steps=(Identity(text="For every x and c: RMS(x + c1) = RMS(x)", left=moved.squared_norm()),),
    ).check()


def shift_witness(x: list[Any], shift: Any) -> dict[str, Any]:
    """``x`` and ``c`` with what RMSNorm and LayerNorm make of ``x`` and ``x + c1``, as squares with their signs."""
    x, shift = [sympy.Rational(a) for a in x], sympy.Rational(shift)
    moved = [a + shift for a in x]

    def signed_squares(vector: list[Any]) -> list[str | int]:
        mean_square = sum(a**2 for a in vector) / len(vector)
        return [falsify.to_text(sympy.sign(a) * a**2 / mean_square) for a in vector]

    return {
        "kind": "shift of a norm",
        "reading": "RMS(x) = x/√(mean of the squares), no epsilon; each coordinate a is written sign(a)·a², which is "
        "exact; all numbers are fractions",
        "x": [falsify.to_text(a) for a in x],
        "c": falsify.to_text(shift),
        "RMS(x)": signed_squares(x),
        "RMS(x + c1)": signed_squares(moved),
    }


def _compare_rms_norm(draws: Draws) -> list[Comparison]:
    # Nothing is centred, so nothing cancels: one evaluation is off by γ(d+8), two and the rounding of kx by 4γ. With
    # ε, the gain has the same again. The shift's closed form is evaluated in float64 on the rounded x + c1.
    x, k, c, epsilon = draws.x, draws.scale, draws.shift, draws.epsilon
    root_d = x.shape[-1] ** 0.5
    normed = formulas.rms_norm(x)
    moved = x + c
    power = torch.exp2(torch.round(torch.log2(k)))
    gain = torch.sqrt(formulas.layer_norm_gain_squared(formulas.inner(x, x) / x.shape[-1], epsilon, k))
    apart = torch.sqrt(4 * formulas.angular_distance(x.double(), moved.double()))
    oracle = torch.nn.RMSNorm(x.shape[-1], eps=1e-5, elementwise_affine=False, dtype=x.dtype)
    gamma, exact = draws.gamma * torch.ones_like(apart), torch.zeros_like(apart)
    return [
        Comparison(law="RMS(kx) = RMS(x)", error=distance(formulas.rms_norm(k * x), normed) / root_d, bound=8 * gamma),
        Comparison(law="RMS(−x) = −RMS(x)", error=distance(formulas.rms_norm(-x), -normed), bound=exact),
        Comparison(law="RMS(2ʲx) = RMS(x)", error=distance(formulas.rms_norm(power * x), normed), bound=exact),
        Comparison(
            law="RMS(kx) = g·RMS(x)",
            error=distance(formulas.rms_norm(k * x, epsilon), gain * formulas.rms_norm(x, epsilon)) / root_d,
            bound=16 * gamma,
        ),
        Comparison(
            law="‖RMS(x + c1) − RMS(x)‖",
            error=(distance(formulas.rms_norm(moved), normed) / root_d - apart).abs(),
            bound=where_informative(formulas.norm(moved) > 0, 8 * gamma),  # x + c1 may be the zero vector
        ),
        Comparison(
            law="torch.nn.RMSNorm",
            error=distance(oracle(x), formulas.rms_norm(x, 1e-5)) / root_d,
            bound=8 * gamma,
        ),
    ]


def twin_shift(run: Run) -> Finding:
    """False: RMSNorm does not see a shift."""
    return check_rms_norm(run, RmsNorm(shift_seen=False))


def twin_epsilon(run: Run) -> Finding:
    """False: ``RMS(kx) = RMS(x)`` with ``ε = 10⁻⁵``."""
    return check_rms_norm(run, RmsNorm(epsilon=sympy.Rational(1, 10**5)))


def twin_negative_scale(run: Run) -> Finding:
    """False: ``RMS(kx) = RMS(x)`` for ``k < 0``."""
    return check_rms_norm(run, RmsNorm(scale=sympy.Symbol("k", negative=True)))


def twin_gain_unsquared(run: Run) -> Finding:
    """False: ``RMS(kx) = g²·RMS(x)``."""
    return check_rms_norm(run, RmsNorm(power=2))
