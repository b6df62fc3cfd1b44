"""Vectors of which only the inner products are known, so that one calculation holds in every dimension.

A :class:`GramVector` is a combination of named vectors; the table of their inner products may hold symbols,
and so may the dimension. It implements :class:`sensverify.formulas.AbstractVector`, hence the formulas of the
theory run on it as they stand: what is proved is the code that the engine runs.

Every division is recorded in :attr:`GramSpace.divisors`. Symbols cancel without asking whether they may be
zero; a proof has to ask (see :mod:`proofs.proof`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import sympy

Expression = Any
ONES = "1"


def reduce(expression: Expression) -> Expression:
    """``expression`` in a normal form: one fraction, cancelled, roots opened where their factors allow it.

    The result equals the argument wherever both are defined. Zero comes out as ``0`` for rational functions
    and for the nested square roots of this theory; for others it may not, which is never taken for a proof
    of being different.
    """
    return _reduce(sympy.sympify(expression))


@functools.lru_cache(maxsize=4096)  # a false twin repeats most of its claim's calculation
def _reduce(expression: Expression) -> Expression:
    for _ in range(4):
        simpler = sympy.cancel(sympy.together(_open_roots(expression)))
        if simpler == expression:
            break
        expression = simpler
    return expression


def _open_roots(expression: Expression) -> Expression:
    """``√(t²(1+t)²)`` as ``t(1+t)`` for ``t ≥ 0``: factor under each root and pull out what is not negative."""

    def is_root(e: Expression) -> bool:
        return bool(e.is_Pow and e.exp.is_Rational and e.exp.q == 2)

    return expression.replace(is_root, lambda e: sympy.expand_power_base(sympy.factor(e.base) ** e.exp))


class GramSpace:
    """An inner-product space spanned by named vectors and the all-ones vector ``1``.

    ``gram`` maps pairs of names to inner products, one order of each pair; ``⟨1, 1⟩ = d`` is understood.
    Only products that are needed have to be given: asking for another raises ``KeyError``.
    """

    def __init__(self, *, dimension: Expression, gram: Mapping[tuple[str, str], Expression]) -> None:
        self.dimension = dimension
        self.divisors: list[Expression] = []
        self._gram = {frozenset(pair): sympy.sympify(value) for pair, value in gram.items()}
        self._gram[frozenset({ONES})] = dimension

    def vector(self, name: str) -> GramVector:
        """The vector called ``name``."""
        return GramVector(self, {name: sympy.Integer(1)})

    def product(self, a: str, b: str) -> Expression:
        """``⟨a, b⟩`` of two named vectors."""
        try:
            return self._gram[frozenset({a, b})]
        except KeyError:
            raise KeyError(f"expected the inner product of {a!r} and {b!r} in the Gram table, got none") from None


@dataclasses.dataclass(frozen=True, eq=False)
class GramVector:
    """``Σ cᵢ·vᵢ`` over named vectors ``vᵢ`` of a :class:`GramSpace`. Adding a scalar ``c`` adds ``c·1``."""

    space: GramSpace
    coefficients: Mapping[str, Expression]
    __array_ufunc__ = None  # numpy scalars must leave the arithmetic to this class

    @property
    def dimension(self) -> Expression:
        """The dimension of the space."""
        return self.space.dimension

    def inner_product(self, other: GramVector) -> Expression:
        """``⟨self, other⟩``, reduced."""
        return reduce(
            sympy.Add(
                *(
                    a * b * self.space.product(name, other_name)
                    for name, a in self.coefficients.items()
                    for other_name, b in other.coefficients.items()
                )
            )
        )

    def coordinate_sum(self) -> Expression:
        """``⟨self, 1⟩``."""
        return self.inner_product(self.space.vector(ONES))

    def squared_norm(self) -> Expression:
        """``‖self‖²``: zero exactly for the zero vector."""
        return self.inner_product(self)

    def _combine(self, other: Any, sign: int) -> GramVector:
        terms = other.coefficients if isinstance(other, GramVector) else {ONES: sympy.sympify(other)}
        total = dict(self.coefficients)
        for name, value in terms.items():
            total[name] = reduce(total.get(name, 0) + sign * value)
        return GramVector(self.space, {name: value for name, value in total.items() if value != 0})

    def __add__(self, other: Any) -> GramVector:
        return self._combine(other, 1)

    __radd__ = __add__

    def __sub__(self, other: Any) -> GramVector:
        return self._combine(other, -1)

    def __rsub__(self, other: Any) -> GramVector:
        return (-self)._combine(other, 1)

    def __neg__(self) -> GramVector:
        return self * -1

    def __mul__(self, factor: Expression) -> GramVector:
        return GramVector(self.space, {name: reduce(c * factor) for name, c in self.coefficients.items()})

    __rmul__ = __mul__

    def __truediv__(self, divisor: Expression) -> GramVector:
        self.space.divisors.append(sympy.sympify(divisor))
        return self.__mul__(1 / sympy.sympify(divisor))
