"""What is known of the sign of an expression: from the assumptions about its symbols and from given inequalities.

Everything here answers "shown" or "not shown"; not shown is never taken for the opposite. Answers are kept, because a
false twin asks most of what its claim has asked.
"""

from __future__ import annotations

import functools
import random
from typing import Any

import sympy

from proofs.falsify import random_value
from proofs.symbolic import reduce

Expression = Any
Givens = tuple[tuple[Expression, bool], ...]
"""Pairs of an expression that is ``≥ 0`` and whether it is ``> 0``."""

_KEPT = 4096
_PLAINLY = 1e-12


@functools.lru_cache(_KEPT)
def sign_shown(whole: Expression, strict: bool, givens: Givens) -> bool:
    """Whether ``whole ≥ 0`` (``> 0`` where strict) follows, factor by factor."""
    whole = sympy.factor(whole)
    if whole == 0:
        return not strict
    if whole.is_positive or (not strict and whole.is_nonnegative):
        return True
    for given, positive in givens:
        share = sympy.factor(whole / given)
        if (positive or not strict) and (share.is_positive or (share.is_nonnegative and not strict)):
            return True
    sign = 1
    for part in sympy.fraction(whole):
        for factor in sympy.Mul.make_args(part):
            base, power = factor.as_base_exp()
            if not power.is_Integer:  # a root: its own sign is what counts
                base, power = factor, sympy.Integer(1)
            sign *= 1 if power % 2 == 0 and not strict else _sign(base, strict, givens) ** power
    return bool(sign > 0)


@functools.lru_cache(_KEPT)
def _sign(base: Expression, strict: bool, givens: Givens) -> int:
    """1 or -1 if ``base`` was shown to have that sign (or to vanish, where not strict), 0 if neither was."""
    for sign in (1, -1):
        signed = sign * base
        if signed.is_positive or (not strict and signed.is_nonnegative):
            return sign
        for given, positive in givens:
            if reduce(signed / given).is_positive and (positive or not strict):
                return sign
    return 0


@functools.lru_cache(_KEPT)
def nonzero_shown(expression: Expression, givens: Givens) -> bool:
    """Whether ``expression ≠ 0`` was shown."""
    form = sympy.factor(expression)
    return bool(form.is_nonzero) or sign_shown(form, True, givens) or sign_shown(-form, True, givens)


@functools.lru_cache(_KEPT)
def zero_shown(reduced: Expression) -> bool:
    """Whether a reduced expression was shown to vanish."""
    return bool(reduced == 0 or (not _plainly_nonzero(reduced) and sympy.simplify(reduced) == 0))


def _plainly_nonzero(expression: Expression) -> bool:
    """Whether a number put for each symbol gives a real number that is not 0: then there is no need to simplify."""
    generator = random.Random(0)
    symbols = sorted(expression.free_symbols, key=str)
    value = expression.subs({s: sympy.Rational(random_value(s, generator)) for s in symbols}).evalf(30)
    return bool(value.is_Float and value.is_finite and abs(value) > _PLAINLY)
