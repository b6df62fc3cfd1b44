"""Cliques, colourings, bounds and the finder, against networkx and brute force."""

from __future__ import annotations

import itertools
import math

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs import ramsey
from proofs.clique import largest_clique, masks
from proofs.colourings import (
    clique_number,
    complement,
    doubled,
    largest_set_missing,
    paley,
    random_colouring,
    rows,
    three_classes,
    values_on,
)
from proofs.finder import find_missing_set
from proofs.printed_bound import bound_is_enough
from proofs.symmetric_colouring import all_tables, misses_on_a_pair

seeded = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@seeded
@given(seed=st.integers(0, 10**6), vertices=st.integers(1, 16), density=st.floats(0.1, 0.9))
def test_the_largest_clique_is_that_of_networkx(seed: int, vertices: int, density: float) -> None:
    upper = np.triu(np.random.default_rng(seed).random((vertices, vertices)) < density, 1)
    graph = upper | upper.T
    clique = largest_clique(masks(graph))
    assert all(graph[i, j] for i, j in itertools.combinations(clique, 2))
    assert len(clique) == networkx.max_weight_clique(networkx.from_numpy_array(graph), weight=None)[1]


def test_no_vertices_no_clique() -> None:
    assert largest_clique([]) == []
    assert largest_clique([0b10, 0b01], vertices=0) == []


@seeded
@given(seed=st.integers(0, 10**6), points=st.integers(1, 7), value=st.integers(0, 2))
def test_the_largest_set_missing_a_value_is_found_by_brute_force(seed: int, points: int, value: int) -> None:
    table = random_colouring(np.random.default_rng(seed), points)
    found = largest_set_missing(table, value)
    sets = itertools.chain.from_iterable(itertools.combinations(range(points), n) for n in range(points + 1))
    best = max(len(s) for s in sets if value not in {int(table[a, b]) for a in s for b in s})
    assert len(found) == best
    assert value not in values_on(table, found)


@pytest.mark.parametrize(("q", "number"), [(5, 2), (13, 3), (17, 3), (29, 4), (37, 4), (101, 5)])
def test_paley_graphs_have_the_published_clique_numbers(q: int, number: int) -> None:
    graph = paley(q)
    assert (clique_number(graph), clique_number(complement(graph))) == (number, number)


@pytest.mark.parametrize("q", [1, 2, 4, 7, 9, 21, 25])
def test_no_paley_graph_where_squares_are_not_symmetric_or_no_field(q: int) -> None:
    with pytest.raises(ValueError, match="prime"):
        paley(q)


@pytest.mark.parametrize("q", [5, 13, 17])
def test_doubling_adds_one_to_cliques_and_independent_sets(q: int) -> None:
    graph, larger = paley(q), doubled(paley(q))
    assert len(larger) == 2 * (q + 1)
    assert (larger == larger.T).all()
    assert clique_number(larger) == clique_number(graph) + 1
    assert clique_number(complement(larger)) == clique_number(graph) + 1


@pytest.mark.parametrize("q", [5, 13])
def test_three_classes_leave_only_one_coloured_sets(q: int) -> None:
    table = three_classes(paley(q))
    assert (table == table.T).all()
    assert len(rows(table)) == len(rows(table)[0]) == 3 * q
    assert {len(largest_set_missing(table, value)) for value in range(3)} == {clique_number(paley(q))}


def test_four_points_force_a_pair_and_three_do_not() -> None:
    assert any(not misses_on_a_pair(table) for table in all_tables(3))
    sample = itertools.islice(all_tables(4), 0, None, 97)
    assert all(misses_on_a_pair(table) for table in sample)


@seeded
@given(a=st.integers(1, 12), b=st.integers(1, 12))
def test_bounds_are_symmetric_and_in_order(a: int, b: int) -> None:
    assert ramsey.parity_bound(a, b) == ramsey.parity_bound(b, a) <= ramsey.binomial_bound(a, b)


@pytest.mark.parametrize(("a", "b", "exact"), [(3, 3, 6), (3, 4, 9), (3, 5, 14), (4, 4, 18), (4, 5, 25)])
def test_the_parity_bound_is_never_below_the_exact_number(a: int, b: int, exact: int) -> None:
    assert ramsey.parity_bound(a, b) >= exact


@seeded
@given(points=st.integers(1, 10**6))
def test_the_guaranteed_size_is_the_largest_whose_binomial_fits(points: int) -> None:
    k = ramsey.guaranteed_size(points)
    assert math.comb(2 * k - 2, k - 1) <= points < math.comb(2 * k, k)
    assert ramsey.half_logarithm(points) == math.floor(math.log2(points) / 2 + 1e-12)
    assert k >= 1 + ramsey.half_logarithm(points)


@seeded
@given(seed=st.integers(0, 10**6), points=st.integers(1, 250))
def test_the_finder_keeps_its_promise(seed: int, points: int) -> None:
    table = random_colouring(np.random.default_rng(seed), points)
    calls = 0

    def colour(a: int, b: int) -> int:
        nonlocal calls
        calls += 1
        return int(table[a, b])

    found = find_missing_set(colour, points)
    assert found.missed not in values_on(table, found.points)
    assert len(set(found.points)) == len(found.points) >= found.guaranteed
    assert found.guaranteed == ramsey.guaranteed_size(-(-points // 3))
    assert found.evaluations == calls


def test_the_finder_does_not_look_at_more_points_when_there_are_more() -> None:
    evaluations = {n: find_missing_set(lambda a, b: math.gcd(a, b) % 3, n).evaluations for n in (208, 300, 600)}
    assert len(set(evaluations.values())) == 1


def test_the_finder_is_tight_where_no_larger_set_exists() -> None:
    table = three_classes(paley(5))
    found = find_missing_set(lambda a, b: int(table[a, b]), 15)
    assert len(found.points) == found.guaranteed == 2


@pytest.mark.parametrize(("k", "number", "enough"), [(4, 18, True), (5, 43, True), (5, 44, False), (6, 102, False)])
def test_the_printed_bound_is_enough_up_to_a_third(k: int, number: int, enough: bool) -> None:
    assert bound_is_enough(k, number) is enough
