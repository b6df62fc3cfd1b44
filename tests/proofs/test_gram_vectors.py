"""Vectors known by their inner products behave as vectors with coordinates do."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.symbolic import GramSpace, GramVector, reduce
from sensverify import formulas

COORDINATES = st.lists(st.integers(-4, 4), min_size=3, max_size=3)
NUMBERS = st.fractions(min_value=-3, max_value=3, max_denominator=4)


def space_of(x: list[int], y: list[int]) -> GramSpace:
    def dot(a: list[int], b: list[int]) -> int:
        return sum(p * q for p, q in zip(a, b, strict=True))

    ones = [1] * len(x)
    vectors = {"x": x, "y": y, "1": ones}
    names = [("x", "x"), ("x", "y"), ("y", "y"), ("x", "1"), ("y", "1")]
    return GramSpace(dimension=sympy.Integer(len(x)), gram={(a, b): dot(vectors[a], vectors[b]) for a, b in names})


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(x=COORDINATES, y=COORDINATES, a=NUMBERS, b=NUMBERS)
def test_arithmetic_agrees_with_coordinates(x: list[int], y: list[int], a: Fraction, b: Fraction) -> None:
    space = space_of(x, y)
    u, v = space.vector("x"), space.vector("y")
    rational_a, rational_b = sympy.Rational(a), sympy.Rational(b)
    combined = rational_a * u - v + rational_b
    coordinates = [a * p - q + b for p, q in zip(x, y, strict=True)]
    assert combined.squared_norm() == sympy.Rational(sum(c * c for c in coordinates))
    assert combined.coordinate_sum() == sympy.Rational(sum(coordinates))
    assert (1 - u).coordinate_sum() == 3 - sum(x)


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(x=COORDINATES.filter(lambda c: len(set(c)) > 1), epsilon=st.integers(0, 3))
def test_layer_norm_agrees_with_numpy(x: list[int], epsilon: int) -> None:
    space = space_of(x, [1, 2, 3])
    normed = formulas.layer_norm(space.vector("x"), sympy.Integer(epsilon))
    array = np.array(x, dtype=float)
    oracle = (array - array.mean()) / np.sqrt(array.var() + epsilon)
    assert float(normed.inner_product(space.vector("y"))) == pytest.approx(oracle @ [1, 2, 3], abs=1e-12)
    assert float(normed.squared_norm()) == pytest.approx(oracle @ oracle, abs=1e-12)


def test_is_an_abstract_vector() -> None:
    assert isinstance(space_of([1, 0, 0], [0, 1, 0]).vector("x"), formulas.AbstractVector)


def test_numpy_scalars_leave_the_arithmetic_to_the_vector() -> None:
    assert isinstance(np.float64(2.0) * space_of([1, 0, 0], [0, 1, 0]).vector("x"), GramVector)


def test_an_unknown_inner_product_is_named() -> None:
    space = GramSpace(dimension=sympy.Integer(2), gram={("x", "x"): 1})
    with pytest.raises(KeyError, match="'x' and '1'"):
        space.vector("x").coordinate_sum()


def test_every_division_is_recorded() -> None:
    space = space_of([1, 2, 3], [0, 0, 1])
    formulas.perpendicular_unit(space.vector("x"), space.vector("y"))
    assert [sympy.simplify(d) for d in space.divisors] == [sympy.sqrt(5)]


def test_reduce_opens_roots_only_where_the_sign_is_known() -> None:
    t, x = sympy.Symbol("t", positive=True), sympy.Symbol("x", real=True)
    assert reduce(sympy.sqrt(t**2 + 2 * t + 1) - t - 1) == 0
    assert reduce(sympy.sqrt(x**2 + 2 * x + 1) - x - 1) != 0
