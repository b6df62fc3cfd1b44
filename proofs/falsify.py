"""Search for a number that breaks a formula: small numbers first, then random ones.

Finding none proves nothing. What is found is confirmed in exact arithmetic, so that a rounding error can
never pass for a counterexample; small numbers come first, so that the witness is one that a person can check.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import sympy

Expression = Any
Assignment = dict[Any, Any]
Violated = Callable[[Sequence[Any], float], bool]

COARSE, FINE = 1e-12, 1e-30

SMALL_SHARE, RANDOM_SHARE = 3000, 1000
# Ordered by how easily a person checks them; the large and small ones probe limits.
_SMALL = [Fraction(n) for n in (0, 1, 2, -1, -2, 3)]
_SMALL += [Fraction(1, n) * sign for n in (2, 3, 10, 100, 1000) for sign in (1, -1)]
_SMALL += [Fraction(n) * sign for n in (5, 10, 100, 1000, 10**6) for sign in (1, -1)]


def search(
    expressions: Sequence[Expression],
    violated: Violated,
    *,
    givens: Sequence[tuple[Expression, bool]] = (),
    seed: int = 0,
) -> Assignment | None:
    """An assignment of rationals at which ``violated(values, tolerance)``, or None if none of those tried is.

    ``givens`` are pairs ``(expression, strict)`` that must be ``≥ 0``, or ``> 0`` where strict. ``violated``
    is asked twice: on floats with a coarse tolerance, to pass over the many assignments that plainly violate
    nothing, and on exact or 50-digit values. A value of None stands for "undefined there".
    """
    symbols = sorted(set().union(*(e.free_symbols for e in expressions)), key=str)
    if not expressions:
        symbols = sorted(set().union(*(bound.free_symbols for bound, _ in givens)), key=str)
    inside = [given for given in givens if given[0].free_symbols <= set(symbols)]
    outside = [given for given in givens if given not in inside]
    quick = sympy.lambdify(symbols, [list(expressions), [bound for bound, _ in inside]], modules="math")
    for assignment in _assignments(symbols, random.Random(seed)):
        try:
            values, limits = quick(*(float(assignment[s]) for s in symbols))
            if min(limits, default=0.0) < -COARSE or not violated(values, COARSE):
                continue
        except (ZeroDivisionError, ValueError, OverflowError):
            pass  # undefined there, or out of a float's reach: let exact arithmetic say
        if not _admissible(inside, assignment):
            continue
        if not violated([_exact(e, assignment) for e in expressions], FINE):
            continue
        if not outside:
            return assignment
        # The other hypotheses tie in symbols that the expressions do not use: they must have values too.
        rest = [(bound.subs(assignment), strict) for bound, strict in outside]
        completion = search([], lambda values, tolerance: True, givens=rest, seed=seed)
        if completion is not None:
            return {**assignment, **completion}
    return None


def _exact(expression: Expression, assignment: Assignment) -> Expression | None:
    """The value as a rational if it is one, else to 50 digits; None if it is no finite real number."""
    value = sympy.sympify(expression).subs(assignment)
    if not value.is_Rational:
        value = sympy.N(value, 50, maxn=400, chop=True)
    return value if value.is_Rational or (value.is_Float and value.is_finite) else None


def _admissible(givens: Sequence[tuple[Expression, bool]], assignment: Assignment) -> bool:
    values = [(_exact(bound, assignment), strict) for bound, strict in givens]
    return all(value is not None and (value > FINE or (value >= -FINE and not strict)) for value, strict in values)


def _assignments(symbols: Sequence[Any], generator: random.Random) -> Iterator[Assignment]:
    candidates = [[sympy.Rational(v) for v in _SMALL if _fits(s, v)] for s in symbols]
    if any(not c for c in candidates):
        return
    yield from itertools.islice(_by_size(symbols, candidates), SMALL_SHARE)
    for _ in range(RANDOM_SHARE):
        draw = {s: random_value(s, generator) for s in symbols}
        yield {s: sympy.Rational(v) for s, v in draw.items()}


def _by_size(symbols: Sequence[Any], candidates: Sequence[Sequence[Any]]) -> Iterator[Assignment]:
    """Every combination, those with early candidates first."""
    for total in range(sum(len(c) - 1 for c in candidates) + 1):
        for indices in _compositions(total, [len(c) for c in candidates]):
            yield {s: c[i] for s, c, i in zip(symbols, candidates, indices, strict=True)}


def _compositions(total: int, sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Index tuples below ``sizes`` that sum to ``total``."""
    if not sizes:
        if total == 0:
            yield ()
        return
    for first in range(min(total, sizes[0] - 1) + 1):
        for rest in _compositions(total - first, sizes[1:]):
            yield (first, *rest)


def _fits(symbol: Any, value: Fraction) -> bool:
    """Whether the assumptions made about ``symbol`` allow ``value``."""
    return not (
        (symbol.is_integer and value.denominator != 1)
        or (symbol.is_positive and value <= 0)
        or (symbol.is_negative and value >= 0)
        or (symbol.is_nonnegative and value < 0)
        or (symbol.is_nonzero and value == 0)
    )


def simplest(symbol: Any) -> Expression:
    """The first small number that ``symbol`` may be."""
    return next(sympy.Rational(v) for v in _SMALL if _fits(symbol, v))


def random_value(symbol: Any, generator: random.Random) -> Fraction:
    """A fraction that the assumptions about ``symbol`` allow."""
    while True:
        value = Fraction(generator.randint(-1000, 1000), generator.choice((1, 7, 100, 1000)))
        if _fits(symbol, value):
            return value


def to_text(value: Expression) -> str | int:
    """A number for a witness: an integer as it is, anything else as exact text such as ``3/4``."""
    value = sympy.sympify(value)
    return int(value) if value.is_Integer else str(value)
