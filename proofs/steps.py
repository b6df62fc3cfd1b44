"""The steps of a proof, each decided by machine: identities, inequalities, finite computations.

- An :class:`Identity` holds if its two sides differ by an expression that reduces to zero.
- An :class:`Inequality` holds if its slack equals an exhibited sum of products of factors that are not negative.
- A :class:`Computation` holds if a finite search, run to its end, says so.
- A :class:`NonzeroDivisor` holds if its factors have known signs: a symbol cancels without asking.

A step that fails is attacked with numbers. "Not found" is not "there is none": without a counterexample it is
undecided.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import sympy

from proofs import falsify, signs
from proofs.symbolic import Expression, reduce


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
    """A hypothesis ``quantity ≥ 0``, or ``> 0`` where strict, beyond what the symbols' assumptions say."""

    text: str
    quantity: Expression
    strict: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What the steps of a proof share.

    ``parametrisation`` replaces a symbol by an expression in others, onto its whole range; it is used to
    check, not to display. ``realise`` adds to a counterexample something concrete, such as vectors.
    """

    givens: tuple[Given, ...] = ()
    parametrisation: Mapping[Expression, Expression] = dataclasses.field(default_factory=dict)
    realise: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    seed: int = 0

    def inner_form(self, expression: Expression) -> Expression:
        """``expression`` in the free parameters, reduced."""
        return reduce(sympy.sympify(expression).subs(self.parametrisation))

    def _bounds(self) -> signs.Givens:
        return tuple((self.inner_form(given.quantity), given.strict) for given in self.givens)

    def is_zero(self, expression: Expression) -> bool:
        """Whether it was shown to vanish; False means "not shown"."""
        return signs.zero_shown(self.inner_form(expression))

    def sign_shown(self, expression: Expression, *, strict: bool) -> bool:
        """Whether ``expression ≥ 0`` (``> 0`` where strict) follows from assumptions and givens, factor by factor."""
        return signs.sign_shown(self.inner_form(expression), strict, self._bounds())

    def nonzero_shown(self, expression: Expression) -> bool:
        """Whether ``expression ≠ 0`` was shown."""
        return signs.nonzero_shown(self.inner_form(expression), self._bounds())

    def givens_have_a_model(self) -> bool:
        """Whether some numbers satisfy all givens at once: from hypotheses that contradict each other all follows."""
        bounds = [(sympy.sympify(g.quantity).subs(self.parametrisation), g.strict) for g in self.givens]
        return (
            not bounds or falsify.search([], lambda values, tolerance: True, givens=bounds, seed=self.seed) is not None
        )

    def attack(self, expressions: Sequence[Expression], violated: falsify.Violated) -> Mapping[str, Any] | None:
        """A counterexample as plain data, or None if none was found."""
        found = falsify.search(
            [sympy.sympify(e).subs(self.parametrisation) for e in expressions],
            violated,
            givens=[(sympy.sympify(g.quantity).subs(self.parametrisation), g.strict) for g in self.givens],
            seed=self.seed,
        )
        if found is None:
            return None
        values = dict(found)
        for symbol, expression in self.parametrisation.items():
            inner = sympy.sympify(expression)
            # A parameter that did not matter takes the simplest value that it may.
            idle = {s: falsify.simplest(s) for s in inner.free_symbols - set(found)}
            values[symbol] = inner.subs({**found, **idle})
            values.update(idle)
        numbers = {str(symbol): value for symbol, value in values.items()}
        witness = {"at": {name: falsify.to_text(value) for name, value in sorted(numbers.items())}}
        return {**witness, **(self.realise(numbers) if self.realise else {})}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """What became of one step: True, False with a counterexample, or None if undecided."""

    holds: bool | None
    how: str
    counterexample: Mapping[str, Any] | None = None


class Step(Protocol):
    """One step of a proof."""

    @property
    def text(self) -> str:
        """What the step says, in words."""

    @property
    def latex(self) -> str:
        """The same as a formula."""

    def decide(self, setting: Setting) -> Decision:
        """Check it."""


def _as_latex(value: Expression) -> str:
    return str(sympy.latex(value, ln_notation=True))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """``left = right``. For vectors give ``‖left − right‖²`` and 0: it vanishes only for equal vectors."""

    text: str
    left: Expression
    right: Expression = 0
    shown: str = ""

    @property
    def latex(self) -> str:
        """The formula given, or the two sides as sympy writes them."""
        return self.shown or f"{_as_latex(self.left)} = {_as_latex(self.right)}"

    def decide(self, setting: Setting) -> Decision:
        """Reduce the difference to zero, after showing that nothing is divided by zero."""
        divisors = _denominators(self.left) | _denominators(self.right)
        defined = all(setting.nonzero_shown(divisor) for divisor in divisors)
        if defined and setting.is_zero(sympy.sympify(self.left) - self.right):
            return Decision(holds=True, how="the difference of the two sides reduces to 0")

        def violated(values: Sequence[Any], tolerance: float) -> bool:
            left, right = values
            return left is None or right is None or bool(abs(left - right) > tolerance * (1 + abs(left)))

        found = setting.attack([self.left, self.right], violated)
        return Decision(
            holds=None if found is None else False,
            how="the difference does not reduce to 0",
            counterexample=_with_values(found, setting, left=self.left, right=self.right),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inequality:
    """``larger ≥ smaller`` (``>`` where strict), because the slack is a sum of products of nonnegative factors."""

    text: str
    larger: Expression
    smaller: Expression
    because: Sequence[Sequence[Expression]]
    strict: bool = False
    shown: str = ""

    @property
    def latex(self) -> str:
        """The formula given, or slack = sum of products as sympy writes it."""
        if self.shown:
            return self.shown
        certificate = " + ".join(" \\cdot ".join(rf"\left({_as_latex(f)}\right)" for f in p) for p in self.because)
        relation = ">" if self.strict else r"\geq"
        return rf"{_as_latex(self.larger)} - \left({_as_latex(self.smaller)}\right) = {certificate} {relation} 0"

    def decide(self, setting: Setting) -> Decision:
        """Compare slack and certificate, after showing that nothing is divided by zero; then every factor's sign."""
        written = (self.larger, self.smaller, *(factor for product in self.because for factor in product))
        divisors = set().union(*(_denominators(part) for part in written))
        defined = all(setting.nonzero_shown(divisor) for divisor in divisors)
        slack = sympy.sympify(self.larger) - self.smaller
        certificate = sympy.Add(*(sympy.Mul(*product) for product in self.because))
        signs = all(setting.sign_shown(f, strict=False) for product in self.because for f in product)
        strictly = any(all(setting.sign_shown(f, strict=True) for f in product) for product in self.because)
        if defined and signs and (strictly or not self.strict) and setting.is_zero(slack - certificate):
            return Decision(holds=True, how="the slack equals a sum of products of factors of known sign")

        def violated(values: Sequence[Any], tolerance: float) -> bool:
            larger, smaller = values
            if larger is None or smaller is None:
                return True
            coarse = tolerance == falsify.COARSE  # rounding must not hide a violation from exact arithmetic
            margin = tolerance * (1 + abs(larger)) * (1 if coarse or self.strict else -1)
            return bool(larger - smaller < margin)

        found = setting.attack([self.larger, self.smaller], violated)
        return Decision(
            holds=None if found is None else False,
            how="the slack was not shown to be nonnegative",
            counterexample=_with_values(found, setting, larger=self.larger, smaller=self.smaller),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Computation:
    """A step that a finite computation decides: it returns a counterexample, or None when there is none."""

    text: str
    run: Callable[[], Mapping[str, Any] | None]
    how: str
    latex: str = ""

    def decide(self, setting: Setting) -> Decision:
        """Run it to its end."""
        counterexample = self.run()
        return Decision(holds=counterexample is None, how=self.how, counterexample=counterexample)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NonzeroDivisor:
    """What a vector was divided by is not zero."""

    divisor: Expression

    @property
    def text(self) -> str:
        """The same sentence for every divisor."""
        return "The divisor in a formula is not zero:"

    @property
    def latex(self) -> str:
        """The divisor, as sympy writes it."""
        return rf"{_as_latex(self.divisor)} \neq 0"

    def decide(self, setting: Setting) -> Decision:
        """Look at the signs of its factors."""
        if setting.nonzero_shown(self.divisor):
            return Decision(holds=True, how="its factors have known signs")

        def violated(values: Sequence[Any], tolerance: float) -> bool:
            return values[0] is None or bool(abs(values[0]) < tolerance)

        found = setting.attack([self.divisor], violated)
        return Decision(
            holds=None if found is None else False,
            how="the divisor was not shown to differ from 0",
            counterexample=found and {**found, "division_by_zero": str(self.divisor)},
        )


def _denominators(expression: Expression) -> set[Expression]:
    """What the expression, as written, divides by."""
    powers = sympy.sympify(expression).atoms(sympy.Pow)
    return {p.base for p in powers if p.exp.is_number and p.exp < 0 and not p.base.is_Number}


def _with_values(found: Mapping[str, Any] | None, setting: Setting, **sides: Expression) -> Mapping[str, Any] | None:
    """The counterexample with the value of each side there, exactly and as a decimal."""
    if found is None:
        return None
    numbers = {name: sympy.Rational(value) for name, value in found["at"].items()}
    values = {}
    for name, side in sides.items():
        inner = sympy.sympify(side).subs(setting.parametrisation)
        value = inner.subs({s: numbers[str(s)] for s in inner.free_symbols})
        values[name] = falsify.to_text(sympy.simplify(value))
    return {**found, **values}
