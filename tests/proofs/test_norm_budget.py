"""RN-4 and RN-5 on concrete directions, against numpy's eigenvalues and exhaustive small cases."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.norm_budget import crowd_of, equiangular
from proofs.welch_bound import _not_attained, icosahedron, simplex
from sensverify import formulas

seeded = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def unit_rows(seed: int, count: int, dimension: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, dimension))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def largest_overlap(rows: np.ndarray) -> float:
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return float(np.abs(np.tril(rows @ rows.T, -1)).max())


@seeded
@given(seed=st.integers(0, 10**6), count=st.integers(1, 12), dimension=st.integers(2, 8))
def test_squared_presences_stay_within_the_largest_eigenvalue(seed: int, count: int, dimension: int) -> None:
    rows = unit_rows(seed, count, dimension)
    values, vectors = np.linalg.eigh(rows @ rows.T)
    x = np.random.default_rng(seed + 1).standard_normal(dimension)
    assert np.sum((rows @ x / np.linalg.norm(x)) ** 2) <= values[-1] + 1e-12
    best = vectors[:, -1] @ rows  # the x for which equality holds
    assert np.sum((rows @ best / np.linalg.norm(best)) ** 2) == pytest.approx(values[-1])


def test_one_is_no_budget_for_directions_that_overlap() -> None:
    assert np.sum((np.array([[1.0, 0], [1, 0]]) @ [1, 0]) ** 2) == 2


@seeded
@given(seed=st.integers(0, 10**6), count=st.integers(2, 8), dimension=st.integers(2, 40), noise=st.floats(0, 0.5))
def test_the_count_stays_within_the_bound(seed: int, count: int, dimension: int, noise: float) -> None:
    rows = unit_rows(seed, count, dimension)
    x = rows.sum(0) + noise * np.random.default_rng(seed + 1).standard_normal(dimension)
    tau, mu = np.abs(rows @ x / np.linalg.norm(x)).min(), largest_overlap(rows)
    if mu < tau**2:
        assert count <= formulas.norm_budget(tau, mu) * (1 + 1e-9)


@pytest.mark.parametrize(("k", "mu"), [(2, "0"), (3, "1/4"), (5, "1/8"), (7, "9/10")])
def test_equal_inner_products_reach_the_bound(k: int, mu: str) -> None:
    rows = np.array(equiangular(k, sympy.Rational(mu)), dtype=float)
    np.testing.assert_allclose(rows @ rows.T, np.where(np.eye(k), 1.0, float(sympy.Rational(mu))), atol=1e-12)
    x = rows.sum(0) / np.linalg.norm(rows.sum(0))
    assert formulas.norm_budget((rows @ x).min(), float(sympy.Rational(mu))) == pytest.approx(k)
    assert np.sum((rows @ x) ** 2) == pytest.approx(np.linalg.eigvalsh(rows @ rows.T)[-1])


@pytest.mark.parametrize(("tau", "mu"), [(0.5, 0.1), (0.4, 0.0), (0.9, 0.7), (0.6, 0.3)])
def test_the_integer_part_of_the_bound_occurs(tau: float, mu: float) -> None:
    k = math.floor(formulas.norm_budget(tau, mu))
    rows = np.array(equiangular(k, sympy.Rational(str(mu))), dtype=float)
    x = rows.sum(0) / np.linalg.norm(rows.sum(0))
    assert (rows @ x).min() >= tau - 1e-12


def test_in_the_plane_the_bound_is_not_reached() -> None:
    # τ² = 0.6 and μ = 1/2 allow 5, but two directions 60° apart fill the 78° around x that τ leaves.
    assert formulas.norm_budget(math.sqrt(0.6), 0.5) == pytest.approx(5)
    angles = [math.radians(a) for a in range(-39, 40) if math.cos(math.radians(a)) ** 2 >= 0.6]
    apart = [
        trio
        for trio in itertools.combinations(angles, 3)
        if all(abs(math.cos(a - b)) <= 0.5 for a, b in itertools.combinations(trio, 2))
    ]
    assert not apart
    assert any(abs(math.cos(a - b)) <= 0.5 for a, b in itertools.combinations(angles, 2))


def test_a_counterexample_is_made_of_real_vectors() -> None:
    shown = crowd_of({"k": sympy.Integer(3), "mu": sympy.Rational(1, 4), "tau": sympy.Rational(1, 2)})
    rows = np.array([[float(sympy.sympify(c)) for c in row] for row in shown["s"]])
    x = np.array([float(sympy.sympify(c)) for c in shown["x"]])
    np.testing.assert_allclose(rows @ rows.T, np.where(np.eye(3), 1.0, 0.25), atol=1e-12)
    np.testing.assert_allclose(rows @ x, 0.5, atol=1e-12)
    assert np.linalg.norm(x) == pytest.approx(1)


@seeded
@given(seed=st.integers(0, 10**6), count=st.integers(2, 40), dimension=st.integers(1, 12))
def test_no_frame_is_below_the_floor(seed: int, count: int, dimension: int) -> None:
    assert largest_overlap(unit_rows(seed, count, dimension)) >= formulas.welch_bound(count, dimension) - 1e-12


@pytest.mark.parametrize(("count", "dimension"), [(2, 2), (3, 5), (1, 1), (4, 100)])
def test_there_is_no_floor_while_orthonormal_vectors_exist(count: int, dimension: int) -> None:
    assert formulas.welch_bound(count, dimension) == 0


@pytest.mark.parametrize("dimension", [1, 2, 3, 10])
def test_the_simplex_attains_the_floor(dimension: int) -> None:
    rows = np.array(simplex(dimension), dtype=float)
    assert np.linalg.matrix_rank(rows) == dimension
    assert largest_overlap(rows) == pytest.approx(formulas.welch_bound(dimension + 1, dimension))


def test_the_icosahedron_attains_the_floor() -> None:
    assert largest_overlap(np.array(icosahedron(), dtype=float)) == pytest.approx(1 / math.sqrt(5))
    assert formulas.welch_bound(6, 3) == pytest.approx(1 / math.sqrt(5))


def test_a_frame_that_misses_the_floor_is_named() -> None:
    lines = [[sympy.Integer(a), sympy.Integer(b)] for a, b in ((1, 0), (1, 1), (0, 1), (1, -1))]
    found = _not_attained(lines, 2)
    assert found is not None
    assert found["floor_squared"] == "1/3"


def test_four_lines_in_the_plane_do_not_reach_the_floor() -> None:
    grid = np.linspace(0, math.pi, 25)[:-1]
    best = min(
        max(abs(math.cos(a - b)) for a, b in itertools.combinations((0.0, *rest), 2))
        for rest in itertools.combinations(grid[1:], 3)
    )
    assert best == pytest.approx(1 / math.sqrt(2))
    assert best > formulas.welch_bound(4, 2) + 0.1


@pytest.mark.parametrize(("dimension", "load"), [(1, 2), (8, 2), (64, 2), (512, 8), (512, 1000)])
def test_twice_as_many_directions_as_dimensions_overlap_by_a_constant_over_the_root(dimension: int, load: int) -> None:
    floor = formulas.welch_bound(load * dimension, dimension)
    assert 1 / math.sqrt(2 * dimension) < floor <= 1 / math.sqrt(dimension)
