"""The derivative of LayerNorm: a small step acts in proportion to the length of what it perturbs.

- LN-4 (:func:`check_jacobian`): with ``c = Px``, ``J = (P − ccᵀ/(d(σ²+ε)))/√(σ²+ε)``. At ``ε = 0`` its kernel is
  exactly ``span{1, c}`` and ``J(kx) = J(x)/k``; for all ``ε ≥ 0``, ``‖Jh‖ ≤ √d‖h‖/‖Px‖``, with equality at ``ε = 0``
  for ``h`` orthogonal to ``1`` and ``c``. For ``ε > 0`` the kernel is ``span{1}`` alone: along ``c`` the factor is
  ``ε/(σ²+ε)^(3/2)``, the slope of the gain of LN-2.

:func:`sensverify.formulas.layer_norm` is run on ``x + th`` for vectors known by their means and covariances, in any
dimension, and differentiated at ``t = 0``; the full matrix is compared once more with coordinates, for ``d = 2..6``.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sympy

from proofs import falsify
from proofs.floating import sweep
from proofs.layer_norm import MEAN, SCALE, SHIFT, VARIANCE, D
from proofs.norm_jacobian_floating import compare_jacobian
from proofs.proof import Proof
from proofs.steps import Computation, Given, Identity, Inequality, NonzeroDivisor, Setting, Step
from proofs.symbolic import Expression, GramSpace, GramVector
from sensverify import formulas
from sensverify.claims import Finding, Run, Status

EPSILON, ACROSS = sympy.symbols("epsilon omega", nonnegative=True)
OWN_MEAN, COVARIANCE, TIME, LEVEL, MULTIPLE = sympy.symbols("eta kappa t a b", real=True)
SPREAD = VARIANCE + EPSILON
H_SQUARED = D * (COVARIANCE**2 / VARIANCE + ACROSS**2 + OWN_MEAN**2)
DIMENSIONS = range(2, 7)
Derivative = Callable[[Any, Any, Any], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Jacobian:
    """LN-4 by default. ``derivative``: another formula for ``Jh``; ``kernel``: multiples of ``c`` count as in it."""

    derivative: Derivative | None = None
    kernel_holds_c: bool = True


def realise(numbers: Mapping[str, Any]) -> Mapping[str, Any]:
    """``x`` and ``h`` in coordinates: in dimension 2 if ``h`` has nothing orthogonal to ``1`` and ``c``, else in 4."""

    def value(name: str, default: int) -> Expression:
        return numbers.get(name, sympy.Integer(default))

    sigma, omega, d = value("sigma", 1), value("omega", 0), value("d", 2)
    along = value("kappa", 0) / sigma
    if d % (4 if omega else 2) or d > 64:
        return {}
    signs = [((-1) ** i, (-1) ** (i // 2)) for i in range(int(d))]
    vectors = {
        "x": [value("mu", 0) + sigma * p for p, _ in signs],
        "h": [value("eta", 0) + along * p + omega * q for p, q in signs],
    }
    return {name: [falsify.to_text(sympy.simplify(c)) for c in vector] for name, vector in vectors.items()}


def _space() -> GramSpace:
    """``x`` with mean ``μ`` and variance ``σ²``, ``h`` with mean ``η``, covariance ``κ``, and ``ω`` beside both."""
    gram = {
        ("x", "x"): D * (VARIANCE + MEAN**2), ("x", "1"): D * MEAN,
        ("h", "h"): H_SQUARED, ("h", "1"): D * OWN_MEAN, ("x", "h"): D * (COVARIANCE + MEAN * OWN_MEAN),
    }  # fmt: skip
    return GramSpace(dimension=D, gram=gram)


def at_zero(vector: GramVector) -> GramVector:
    """The derivative of a vector that depends on ``t``, at ``t = 0``, coefficient by coefficient."""
    slopes = {name: sympy.diff(value, TIME).subs(TIME, 0) for name, value in vector.coefficients.items()}
    return GramVector(vector.space, slopes)


def check_jacobian(run: Run, statement: Jacobian = Jacobian()) -> Finding:
    """LN-4."""
    derivative = statement.derivative or formulas.layer_norm_jvp
    space, moving = _space(), _space()
    proof = Proof(
        title="The derivative of LayerNorm",
        hypotheses=(
            "x be a vector of dimension d ≥ 2 with mean μ and variance σ² > 0, c = x − μ1, ε ≥ 0 and k > 0",
            "h be any vector: mean η, covariance κ with x, and ω ≥ 0 the root mean square of its part orthogonal to 1 "
            "and c, so that ‖h‖² = d(κ²/σ² + ω² + η²)",
        ),
        setting=Setting(givens=(Given(text="d ≥ 2", quantity=D - 2),), realise=realise, seed=run.seed),
        spaces=(space,),
        steps=(
            *_directional(space, moving, derivative),
            *_kernel(space, statement),
            *_scaling(space),
            *_size(space),
            Computation(
                text="The full matrix, differentiated in coordinates, for d = 2 to 6:",
                run=lambda: run.shared("proofs: Jacobian in coordinates", lambda: _in_coordinates(DIMENSIONS)),
                how=f"all {sum(d * d for d in DIMENSIONS)} entries: each difference is the zero polynomial",
                latex=r"\frac{\partial LN_i}{\partial x_j} = \frac{1}{\sqrt{\sigma^2 + \varepsilon}} "
                r"\left(\delta_{ij} - \frac{1}{d} - \frac{c_i c_j}{d(\sigma^2 + \varepsilon)}\right)",
            ),
        ),
    ).check()
    if proof.status is not Status.PROVED:
        return proof.finding()
    evidence = {
        "proved_for": "every dimension d ≥ 2, every mean, σ > 0, ε ≥ 0",
        "singular_values": "0 on 1, ε/(σ²+ε)^(3/2) on c, 1/√(σ²+ε) on everything orthogonal to both",
        "relative": "at ε = 0 a small step of length δ moves the output by at most √d·δ/‖Px‖, and by exactly that if "
        "it is orthogonal to 1 and c; for steps of any size see the last line of LN-7's proof",
        "with_epsilon": "J(kx) at ε is J(x)/k at ε/k²; the kernel is span{1} alone",
    }
    bounds = {
        "autograd of torch.nn.LayerNorm, ε = 0": "32γ(d+8)κ(x)‖h‖/σ",
        "autograd of torch.nn.LayerNorm, ε = 10⁻⁵": "32γ(d+8)κ(x)‖h‖/√(σ²+ε)",
        "J c = 0": "16γ(d+8)κ(x)‖c‖/σ",
        "J(kx) = J(x)/k": "20γ(d+8)(κ(x) + κ(kx))‖h‖/(kσ)",
        "J(2ʲx) = 2⁻ʲJ(x)": "0: the bits agree",
        "‖Jh‖ ≤ √d‖h‖/‖Px‖": "16γ(d+8)κ(x)‖h‖/σ",
    }
    return sweep(run, "LN-4", compare_jacobian).join(proof.finding(evidence), bounds=bounds)


def _directional(space: GramSpace, moving: GramSpace, derivative: Derivative) -> list[Step]:
    along = moving.vector("x") + moving.vector("h") * TIME
    slope = at_zero(formulas.layer_norm(along, EPSILON))
    x, h = space.vector("x"), space.vector("h")
    difference = GramVector(space, slope.coefficients) - derivative(x, h, EPSILON)
    return [
        Identity(
            text="LN(x + th) divides by a root that is, at t = 0,",
            left=sympy.sqrt(formulas.variance(along) + EPSILON).subs(TIME, 0),
            right=sympy.sqrt(SPREAD),
            shown=r"\sqrt{\sigma^2(x + th) + \varepsilon} = \sqrt{\sigma^2 + \varepsilon}, t = 0",
        ),
        NonzeroDivisor(divisor=sympy.sqrt(SPREAD)),
        Identity(
            text="so that LN is differentiable there; its derivative along h is Jh:",
            left=difference.squared_norm(),
            shown=r"\left\| \frac{d}{dt} LN(x + th) - J h \right\|^2 = 0, t = 0",
        ),
    ]


def _kernel(space: GramSpace, statement: Jacobian) -> list[Step]:
    x, h = space.vector("x"), space.vector("h")
    c = formulas.centre(x)
    image = formulas.layer_norm_jvp(x, h, 0)
    if statement.kernel_holds_c:
        distance = (h - c * MULTIPLE - LEVEL).squared_norm()
        rest = D * (LEVEL - OWN_MEAN) ** 2 + D * VARIANCE * (MULTIPLE - COVARIANCE / VARIANCE) ** 2
        text, shown = "span{1, c}", r"\|h - a\mathbf{1} - bc\|^2 = \sigma^2 \|J h\|^2 + d(a - \eta)^2 + d\sigma^2 "
        shown += r"\left(b - \frac{\kappa}{\sigma^2}\right)^2"
    else:
        distance, rest = (h - LEVEL).squared_norm(), D * (LEVEL - OWN_MEAN) ** 2
        text, shown = "span{1}", r"\|h - a\mathbf{1}\|^2 = \sigma^2 \|J h\|^2 + d(a - \eta)^2"
    onto = formulas.layer_norm_jvp(x, c, EPSILON) - c * (EPSILON / SPREAD ** sympy.Rational(3, 2))
    return [
        Identity(
            text=f"At ε = 0, σ²‖Jh‖² is the squared distance of h from {text}, so that Jh = 0 exactly for the h in it:",
            left=distance,
            right=VARIANCE * image.squared_norm() + rest,
            shown=shown,
        ),
        Identity(
            text="For ε > 0 the direction c passes, with a small factor,",
            left=onto.squared_norm(),
            shown=r"\left\| J c - \frac{\varepsilon}{(\sigma^2 + \varepsilon)^{3/2}} c \right\|^2 = 0",
        ),
        Identity(
            text="and only the mean is lost:",
            left=SPREAD * formulas.layer_norm_jvp(x, h, EPSILON).squared_norm(),
            right=D * ACROSS**2 + (EPSILON / SPREAD) ** 2 * D * COVARIANCE**2 / VARIANCE,
            shown=r"(\sigma^2 + \varepsilon) \|J h\|^2 = d\omega^2 + "
            r"\frac{\varepsilon^2}{(\sigma^2 + \varepsilon)^2} \frac{d\kappa^2}{\sigma^2}",
        ),
    ]


def _scaling(space: GramSpace) -> list[Step]:
    x, h, k = space.vector("x"), space.vector("h"), SCALE
    scaled = formulas.layer_norm_jvp(x * k, h, 0) - formulas.layer_norm_jvp(x, h, 0) * (1 / k)
    shifted = formulas.layer_norm_jvp(x + SHIFT, h, EPSILON) - formulas.layer_norm_jvp(x, h, EPSILON)
    general = formulas.layer_norm_jvp(x * k, h, EPSILON) - formulas.layer_norm_jvp(x, h, EPSILON / k**2) * (1 / k)
    return [
        Identity(
            text="At ε = 0, an input k times as long feels a step k times less:",
            left=scaled.squared_norm(),
            shown=r"\|J(kx) h - J(x) h / k\|^2 = 0, \varepsilon = 0",
        ),
        Identity(
            text="In general with ε/k² in the place of ε:",
            left=general.squared_norm(),
            shown=r"\|J_\varepsilon(kx) h - J_{\varepsilon / k^2}(x) h / k\|^2 = 0",
        ),
        Identity(
            text="A shift changes nothing:",
            left=shifted.squared_norm(),
            shown=r"\|J(x + c\mathbf{1}) h - J(x) h\|^2 = 0",
        ),
    ]


def _size(space: GramSpace) -> list[Step]:
    x, h = space.vector("x"), space.vector("h")
    image = formulas.layer_norm_jvp(x, h, EPSILON).squared_norm()
    sharp = formulas.layer_norm_jvp(x, h, 0).squared_norm()
    left_over = SPREAD**3 - VARIANCE * EPSILON**2
    return [
        Inequality(
            text="A step h moves the output by no more than √d times its length relative to the centred input:",
            larger=D * h.squared_norm() / formulas.centre(x).squared_norm(),
            smaller=image,
            because=[
                [D, OWN_MEAN**2, 1 / VARIANCE],
                [D, ACROSS**2, EPSILON, 1 / VARIANCE, 1 / SPREAD],
                [D, COVARIANCE**2, sympy.expand(left_over), 1 / VARIANCE**2, 1 / SPREAD**3],
            ],
            shown=r"\|J h\|^2 \leq \frac{d \|h\|^2}{\|c\|^2}",
        ),
        Identity(
            text="with equality at ε = 0 for h orthogonal to 1 and c (η = κ = 0):",
            left=sharp.subs({OWN_MEAN: 0, COVARIANCE: 0}),
            right=(D * h.squared_norm() / formulas.centre(x).squared_norm()).subs({OWN_MEAN: 0, COVARIANCE: 0}),
            shown=r"\|J h\|^2 = \frac{d \|h\|^2}{\|c\|^2}, h \perp \mathbf{1}, c",
        ),
    ]


@dataclasses.dataclass(frozen=True)
class Coordinates:
    """A vector with its coordinates written out: a second implementation of ``AbstractVector``."""

    entries: Sequence[Expression]

    @property
    def dimension(self) -> int:
        """The number of coordinates."""
        return len(self.entries)

    def inner_product(self, other: Coordinates) -> Expression:
        """``Σ a_i b_i``."""
        return sympy.Add(*(a * b for a, b in zip(self.entries, other.entries, strict=True)))

    def coordinate_sum(self) -> Expression:
        """``Σ a_i``."""
        return sympy.Add(*self.entries)

    def __sub__(self, other: Any) -> Coordinates:
        subtracted = other.entries if isinstance(other, Coordinates) else [other] * len(self.entries)
        return Coordinates([a - b for a, b in zip(self.entries, subtracted, strict=True)])

    def __mul__(self, factor: Expression) -> Coordinates:
        return Coordinates([a * factor for a in self.entries])

    def __truediv__(self, divisor: Expression) -> Coordinates:
        return Coordinates([a / divisor for a in self.entries])


def _in_coordinates(dimensions: Sequence[int]) -> Mapping[str, Any] | None:
    """An entry of the matrix at which derivative, printed formula and engine disagree; None if there is none.

    Raises ``ArithmeticError`` if a difference is neither seen to vanish nor seen not to.
    """
    for d in dimensions:
        symbols = sympy.symbols(f"x_1:{d + 1}", real=True)
        x = Coordinates(symbols)
        spread, centred = formulas.variance(x) + EPSILON, formulas.centre(x).entries
        outputs = formulas.layer_norm(x, EPSILON).entries
        for i, j in itertools.product(range(d), repeat=2):
            unit = Coordinates([sympy.Integer(int(m == j)) for m in range(d)])
            slope = sympy.diff(outputs[i], symbols[j])
            across = centred[i] * centred[j] / (d * spread)
            said = {
                "the printed formula": (int(i == j) - sympy.Rational(1, d) - across) / sympy.sqrt(spread),
                "layer_norm_jvp": formulas.layer_norm_jvp(x, unit, EPSILON).entries[i],
            }
            for name, value in said.items():
                if _cleared(slope - value, spread) == 0:
                    continue
                at = {**{symbol: m**2 for m, symbol in enumerate(symbols)}, EPSILON: 1}
                numbers = [sympy.simplify(e.subs(at)) for e in (slope, value)]
                if numbers[0] == numbers[1]:
                    raise ArithmeticError(f"row {i}, column {j} of the matrix for d = {d} was not decided")
                entry = {"d": d, "row": i, "column": j, "x": [m**2 for m in range(d)], "epsilon": 1}
                return {**entry, "derivative": falsify.to_text(numbers[0]), name: falsify.to_text(numbers[1])}
    return None


def _cleared(expression: Expression, spread: Expression) -> Expression:
    """``expression·R³`` as a polynomial, where ``R = √(σ²+ε)`` and every denominator is a multiple of a power of it."""
    root = sympy.Symbol("R", positive=True)

    def is_root(e: Expression) -> bool:
        return bool(e.is_Pow and (e.exp.is_negative or not e.exp.is_Integer) and not e.base.is_number)

    def in_root(e: Expression) -> Expression:
        multiple = _multiple(e.base, spread)
        return e if multiple is None else multiple**e.exp * root ** (2 * e.exp)

    polynomial = sympy.expand(expression.replace(is_root, in_root) * root**3)
    return sympy.expand(polynomial.subs(root, sympy.sqrt(spread)))


@functools.lru_cache(maxsize=64)
def _multiple(base: Expression, spread: Expression) -> Expression | None:
    """The number ``m`` with ``base = m·spread``, or None: sympy multiplies numbers into sums."""
    base, spread = sympy.expand(base), sympy.expand(spread)
    multiple = base.coeff(EPSILON)
    return multiple if multiple.is_number and sympy.expand(base - multiple * spread) == 0 else None


def _sign_flipped(x: Any, h: Any, epsilon: Any) -> Any:
    centred, spread = formulas.centre(x), formulas.variance(x) + epsilon
    along = formulas.inner(centred, h) / (formulas.dimension(x) * spread)
    return (formulas.centre(h) + centred * along) / formulas.sqrt(spread)


def _epsilon_dropped(x: Any, h: Any, epsilon: Any) -> Any:
    centred, spread = formulas.centre(x), formulas.variance(x) + epsilon
    along = formulas.inner(centred, h) / formulas.inner(centred, centred)
    return (formulas.centre(h) - centred * along) / formulas.sqrt(spread)


def twin_sign_flipped(run: Run) -> Finding:
    """False: ``J`` with ``+ccᵀ``."""
    return check_jacobian(run, Jacobian(derivative=_sign_flipped))


def twin_epsilon_dropped(run: Run) -> Finding:
    """False: ``J`` with ``ccᵀ/(dσ²)`` for ``ε > 0``."""
    return check_jacobian(run, Jacobian(derivative=_epsilon_dropped))


def twin_smaller_kernel(run: Run) -> Finding:
    """False: at ``ε = 0`` the kernel is ``span{1}`` alone."""
    return check_jacobian(run, Jacobian(kernel_holds_c=False))
