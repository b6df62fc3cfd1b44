"""Constant sets, more than three values, the finder's cost and the exact searches, against brute force and networkx."""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import networkx
import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs import ramsey, recheck
from proofs.clique import masks, search_clique
from proofs.colourings import (
    cubic_residues,
    doubled,
    largest_constant,
    paley,
    rows,
    separate_classes,
    three_classes,
    values_on,
)
from proofs.constant_sets import Constant, check_constant, separately_constant
from proofs.exhaustive import seeing_all, threshold_search
from proofs.finder import find_missing_set, plan, points_needed
from proofs.finder_cost import Cost, K, adversary, check_cost, worst_case
from proofs.known_values import LITERATURE, known_values
from proofs.logarithmic_size import Guarantee, Logarithm, check_guarantee
from proofs.more_values import COLOURS_THREE, THREE, FewEntries, MoreValues, check_more_values, not_exact, upper_bound
from proofs.printed_bound import check_printed_bound
from sensverify.claims import Run
from sensverify.verdicts import Finding, Status

seeded = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def symmetric(seed: int, points: int, values: int) -> np.ndarray[Any, np.dtype[np.int_]]:
    upper = np.triu(np.random.default_rng(seed).integers(values, size=(points, points)))
    return np.asarray(upper + np.triu(upper, 1).T)


# --- Constant sets (RA-5) ---


def test_no_three_elements_of_the_field_have_differences_in_one_class() -> None:
    table = cubic_residues()
    assert (table == table.T).all()
    assert {int(v) for v in np.unique(table)} == {0, 1, 2}
    for a, b, c in itertools.combinations(range(16), 3):
        assert len({table[a, b], table[a, c], table[b, c]}) > 1


@pytest.mark.parametrize(("pairs", "classes"), [(paley(5).astype(int), 2), (np.zeros((1, 1), dtype=int), 4)])
def test_separate_classes_hold_no_larger_set_than_one_class(pairs: Any, classes: int) -> None:
    table = separate_classes(pairs, classes)
    size = 3 if len(pairs) > 1 else 2
    assert (table == table.T).all()
    assert not any(separately_constant(table, s) for s in itertools.combinations(range(len(table)), size))


@seeded
@given(seed=st.integers(0, 10**6), points=st.integers(1, 7), diagonal=st.booleans())
def test_the_largest_constant_set_is_found_by_brute_force(seed: int, points: int, diagonal: bool) -> None:
    table = symmetric(seed, points, 2)

    def constant(s: tuple[int, ...]) -> bool:
        return len({int(table[a, b]) for a in s for b in s if diagonal or a != b}) <= 1

    sizes = [n for n in range(1, points + 1) if any(map(constant, itertools.combinations(range(points), n)))]
    assert max(len(s) for s in largest_constant(table, diagonal=diagonal)) == max(sizes)


@pytest.mark.parametrize(("r", "k", "exact"), [(2, 3, 6), (2, 4, 18), (3, 3, 17), (4, 2, 2)])
def test_bounds_on_ramsey_numbers_are_never_below_them(r: int, k: int, exact: int) -> None:
    assert ramsey.greedy_bound(r, k) >= exact
    assert ramsey.multinomial_bound(r, k) >= exact
    assert ramsey.multinomial_bound(2, k) == math.comb(2 * k - 2, k - 1)


@pytest.fixture(scope="module")
def constant_witness(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("constant")
    check_constant(Run(seed=0, directory=directory))
    witness: dict[str, Any] = json.loads((directory / "witnesses" / "RA-5.json").read_text(encoding="utf-8"))
    assert recheck.recheck(witness) == []
    return witness


def one_value(witness: dict[str, Any]) -> None:
    witness["rule"]["pairs"] = 0
    witness["F"] = ["0" * 16] * 16


def a_constant_pair(witness: dict[str, Any]) -> None:
    witness["F"][0] = "00" + witness["F"][0][2:]
    witness["F"][1] = "00" + witness["F"][1][2:]


def another_rule(witness: dict[str, Any]) -> None:
    witness["rule"]["diagonal"] = 2


def one_point(witness: dict[str, Any]) -> None:
    witness["points"], witness["F"] = 1, ["0"]


def single_points(witness: dict[str, Any]) -> None:
    witness["k"] = 1


@pytest.mark.parametrize(
    "tamper", [one_value, a_constant_pair, another_rule, one_point, single_points], ids=lambda tamper: tamper.__name__
)
def test_a_tampered_constant_set_is_rejected(
    tamper: Callable[[dict[str, Any]], None], constant_witness: dict[str, Any]
) -> None:
    witness = copy.deepcopy(constant_witness)
    tamper(witness)
    assert recheck.recheck(witness)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(seed=0, directory=tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("weaker", [Constant(greedy_less=-1), Constant(threshold_less=-1)], ids=str)
def test_a_bound_that_is_only_weaker_is_not_refuted(weaker: Constant, run: Run) -> None:
    finding = check_constant(run, weaker)
    assert finding.status is Status.INCONCLUSIVE
    assert finding.witness is None


@pytest.mark.parametrize(
    ("false", "said"),
    [
        (Constant(greedy_less=1), "R_2(2) ≤ 1"),
        (Constant(saved=2), "R(3, 3, 3) ≤ 3R(2, 3, 3) − 3 + 2 − 2 = 15"),
        (Constant(threshold_less=2), "9 points are enough"),
    ],
    ids=str,
)
def test_a_false_bound_is_refuted_by_what_it_says(false: Constant, said: str, run: Run) -> None:
    finding = check_constant(run, false)
    assert finding.status is Status.REFUTED
    assert finding.witness is not None
    assert said in finding.witness["said"]


# --- The guaranteed size (RA-2) ---


def refutes_by_a_colouring(finding: Finding) -> bool:
    witness = finding.witness
    assert witness is not None
    return bool(finding.status is Status.REFUTED and witness["promised"] > witness["largest"])


def test_a_size_that_nobody_can_prove_is_not_proved(run: Run) -> None:
    """``1 + ⌊⅔ log₂ m⌋`` would mean ``R(k, k) ≤ 2^(1.5(k−1))``: unknown, and true at every graph that is tried."""
    for size in (Logarithm(share=Fraction(2, 3)), lambda m: 1 + ((m * m).bit_length() - 1) // 3):
        assert check_guarantee(run, Guarantee(size=size)).status is Status.INCONCLUSIVE


@pytest.mark.parametrize("least", [1, 100])
def test_a_size_that_is_wrong_only_for_larger_graphs_is_refuted(least: int, run: Run) -> None:
    true = Logarithm()
    assert refutes_by_a_colouring(
        check_guarantee(run, Guarantee(size=lambda m: max(6, true(m)) if m >= least else true(m)))
    )


def test_a_size_above_the_guarantee_between_the_graphs_is_not_proved(run: Run) -> None:
    true = Logarithm()
    for size in (lambda m: true(m) + (m == 100), lambda m: true(m) + (m > 10**6)):
        assert check_guarantee(run, Guarantee(size=size)).status is Status.INCONCLUSIVE


@given(m=st.integers(1, 10**6), p=st.integers(1, 4), q=st.integers(1, 4))
def test_the_logarithm_is_in_integers(m: int, p: int, q: int) -> None:
    k = Logarithm(share=Fraction(p, q))(m)
    assert 2 ** (q * (k - 1)) <= m**p < 2 ** (q * k)


@pytest.mark.parametrize("growth", ["3999/1000", "39999/10000"])
def test_a_growth_that_no_small_number_breaks_is_left_open(growth: str, run: Run) -> None:
    finding = check_guarantee(run, Guarantee(growth=sympy.Rational(growth)))
    assert (finding.status, finding.witness) == (Status.INCONCLUSIVE, None)


def test_a_growth_that_a_small_number_breaks_is_refuted_by_it(run: Run) -> None:
    witness = check_guarantee(run, Guarantee(growth=sympy.Rational(39, 10))).witness
    assert witness is not None
    k = witness["first_k_that_breaks_it"]
    assert math.comb(2 * k - 2, k - 1) > Fraction(39, 10) ** (k - 1)
    assert math.comb(2 * k - 4, k - 2) <= Fraction(39, 10) ** (k - 2)


# --- More values (RA-8) ---


@pytest.mark.parametrize("r", [4, 5, 6, 7, 8, 16, 20, 37])
def test_the_bound_is_exact_for_three_values_only(r: int, run: Run) -> None:
    finding = check_more_values(run, MoreValues(exact_at=(3, r)))
    assert finding.status is Status.REFUTED
    witness = finding.witness
    assert witness is not None
    k = witness["k"]
    exact = witness[f"N_{r}({k})"]
    assert witness.get("bound", witness.get("bound_at_least")) > exact
    assert threshold_search(exact, r, k).table is None
    assert exact == k or threshold_search(exact - 1, r, k).table is not None


def test_the_bound_is_larger_for_every_number_of_values_above_three(run: Run) -> None:
    assert all(not_exact(run, r) for r in range(4, 200))


@pytest.mark.parametrize("exact_at", [(), (2, 3), (3, 3)])
def test_what_is_said_of_exactness_is_what_was_shown(exact_at: tuple[int, ...], run: Run) -> None:
    assert check_more_values(run, MoreValues(exact_at=exact_at)).status is Status.INCONCLUSIVE


@pytest.mark.parametrize(
    ("three", "status"),
    [
        ({**THREE, 3: 17}, Status.REFUTED),
        ({**THREE, 3: 15}, Status.REFUTED),
        ({**THREE, 4: 10}, Status.REFUTED),
        ({**THREE, 4: 1000}, Status.REFUTED),
        ({**THREE, 9: 4}, Status.REFUTED),
        ({**THREE, 9: 3}, Status.PROVED),
        ({**THREE, 2: 3}, Status.INCONCLUSIVE),
        ({}, Status.INCONCLUSIVE),
        ({r: n for r, n in THREE.items() if r != 5}, Status.INCONCLUSIVE),
    ],
    ids=str,
)
def test_only_decided_numbers_pass(three: dict[int, int], status: Status, run: Run) -> None:
    finding = check_more_values(run, MoreValues(three=three))
    assert finding.status is status
    if finding.witness is not None and "F" in finding.witness:
        table = np.array([[int(digit) for digit in row] for row in finding.witness["F"]])
        values = len(np.unique(table))
        assert all(len(values_on(table, s)) == values for s in itertools.combinations(range(len(table)), 3))


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        (lambda r, k: k == 1 or k * (k + 1) // 2 < r or r > 12, Status.REFUTED),
        (lambda r, k: k == 1 or k * (k + 1) // 2 < r or r > 10**6, Status.INCONCLUSIVE),
        (FewEntries(entries=K * (K + 1) / 2 + 1), Status.REFUTED),
        (FewEntries(entries=(K**2 + K) / 2), Status.PROVED),
    ],
    ids=["wrong above 12", "wrong above a million", "an entry more", "the same otherwise written"],
)
def test_a_rule_for_the_smallest_sets_is_proved_for_every_number_of_values_or_not(
    rule: Callable[[int, int], bool], status: Status, run: Run
) -> None:
    assert check_more_values(run, MoreValues(trivial=rule)).status is status


@pytest.mark.parametrize(("points", "values", "k"), [(2, 3, 2), (3, 3, 2), (4, 3, 2), (3, 5, 3), (2, 4, 2)])
def test_the_exhaustive_search_agrees_with_all_tables(points: int, values: int, k: int) -> None:
    upper = list(itertools.combinations_with_replacement(range(points), 2))

    def sees_all(entries: tuple[int, ...]) -> bool:
        value = dict(zip(upper, entries, strict=True))
        return all(
            len({value[pair] for pair in itertools.combinations_with_replacement(s, 2)}) == values
            for s in itertools.combinations(range(points), k)
        )

    exists = any(map(sees_all, itertools.product(range(values), repeat=len(upper))))
    assert (threshold_search(points, values, k).table is not None) == exists


@pytest.mark.parametrize(("points", "values", "k"), [(15, 3, 3), (8, 4, 3), (5, 5, 3), (3, 6, 3), (4, 9, 4)])
def test_a_table_found_sees_every_value_on_every_set(points: int, values: int, k: int) -> None:
    table = threshold_search(points, values, k).table
    assert table is not None
    assert (table == table.T).all()
    assert all(len(values_on(table, s)) == values for s in itertools.combinations(range(points), k))


@pytest.mark.parametrize("t", COLOURS_THREE)
def test_the_bound_on_sets_missing_a_colour_is_never_below_the_exact_number(t: int) -> None:
    exact = COLOURS_THREE[t]
    assert ramsey.enough((3,) * t) >= exact
    assert seeing_all(exact, t, 3, diagonal=None).table is None


@pytest.mark.parametrize(("a", "b"), list(itertools.product(range(1, 8), repeat=2)))
def test_for_two_colours_enough_is_the_binomial(a: int, b: int) -> None:
    lowered = 1 if min(a, b) == 1 else ramsey.enough((a - 1, b)) + ramsey.enough((a, b - 1))
    assert ramsey.enough((a, b)) == lowered == math.comb(a + b - 2, a - 1)


def test_the_upper_bound_for_three_values_is_the_threshold() -> None:
    assert [upper_bound(3, {2: number}) for number in (2, 6, 18)] == [4, 16, 52]
    assert upper_bound(6, {2: 6, 3: 5, 4: 3, 5: 3}) == 7  # by t = 4


# --- The finder (RA-6) ---


def test_the_worst_cases_are_these() -> None:
    assert [worst_case(k) for k in range(1, 8)] == [1, 5, 26, 129, 608, 2735, 11956]


@pytest.mark.parametrize("diagonal", list(itertools.product(range(3), repeat=4)))
def test_a_pair_is_found_at_the_first_shared_value_and_one_evaluation_names_what_it_misses(
    diagonal: tuple[int, ...],
) -> None:
    asked: list[tuple[int, int]] = []

    def colour(a: int, b: int) -> int:
        asked.append((a, b))
        return diagonal[a] if a == b else 2

    found = find_missing_set(colour, 4, wanted=2)
    looked_at = next(n for n in range(2, 5) if len(set(diagonal[:n])) < n)
    assert asked == [*((a, a) for a in range(looked_at)), tuple(found.points)]
    assert found.missed not in {diagonal[found.points[0]], 2}


@pytest.mark.parametrize("k", [3, 4, 5])
def test_the_last_two_points_cost_one_evaluation(k: int) -> None:
    asked: list[tuple[int, int]] = []
    find_missing_set(lambda a, b: asked.append((a, b)) or adversary(a, b), 10**6, wanted=k)  # type: ignore[func-returns-value]
    pairs = [pair for pair in asked if pair[0] != pair[1]]
    from_each = [len(list(group)) for _, group in itertools.groupby(pairs, key=lambda pair: pair[0])]
    m = math.comb(2 * k - 2, k - 1)
    assert from_each == [*(m - j for j in range(1, 2 * k - 3)), 1]


@pytest.mark.parametrize(
    ("statement", "status"),
    [
        (Cost(steps=2 * K), Status.PROVED),
        (Cost(less=-1), Status.PROVED),
        (Cost(less=2), Status.REFUTED),
        (Cost(steps=2 * K - 6), Status.REFUTED),
    ],
    ids=str,
)
def test_weaker_costs_stand_and_lower_ones_fall(statement: Cost, status: Status, run: Run) -> None:
    finding = check_cost(run, statement)
    assert finding.status is status
    if finding.witness is not None and "needed" in finding.witness:
        assert finding.witness["said"] < finding.witness["needed"] == worst_case(finding.witness["k"])


@pytest.mark.parametrize("k", range(2, 8))
def test_the_adversary_costs_exactly_the_worst_case(k: int) -> None:
    asked: set[tuple[int, int]] = set()

    def colour(a: int, b: int) -> int:
        assert (a, b) not in asked, "no pair is asked for twice"
        asked.add((a, b))
        return adversary(a, b)

    found = find_missing_set(colour, 10**9, wanted=k)
    assert found.evaluations == len(asked) == worst_case(k)
    assert len(found.points) == k
    assert all(adversary(a, b) == adversary(b, a) != found.missed for a in found.points for b in found.points)


@seeded
@given(seed=st.integers(0, 10**6), k=st.integers(1, 5), more=st.integers(0, 50))
def test_no_colouring_costs_more_than_the_worst_case(seed: int, k: int, more: int) -> None:
    points = points_needed(k, 3, 2) + more
    generator = np.random.default_rng(seed)
    table = np.where(generator.random((points, points)) < generator.random(), adversary_table(points), 0)
    table = np.triu(table) + np.triu(table, 1).T
    found = find_missing_set(lambda a, b: int(table[a, b]), points, wanted=k)
    assert found.evaluations <= worst_case(k)
    assert len(found.points) == k
    assert found.missed not in values_on(table, found.points)


def adversary_table(points: int) -> Any:
    return np.array([[adversary(a, b) for b in range(points)] for a in range(points)])


@seeded
@given(seed=st.integers(0, 10**6), points=st.integers(1, 120), r=st.integers(3, 9), stop=st.booleans())
def test_the_finder_keeps_its_promise_for_more_values(seed: int, points: int, r: int, stop: bool) -> None:
    table = symmetric(seed, points, r)
    sure = plan(points, r).size
    found = find_missing_set(lambda a, b: int(table[a, b]), points, values=range(r), wanted=sure if stop else None)
    assert found.missed in range(r)
    assert found.missed not in values_on(table, found.points)
    assert len(set(found.points)) == len(found.points) >= found.guaranteed == sure


@pytest.mark.parametrize(("points", "r", "k"), [(3, 3, 1), (15, 3, 2), (8, 4, 2), (2, 6, 2), (3, 6, 2), (3, 7, 3)])
def test_no_more_is_guaranteed_than_the_thresholds_allow(points: int, r: int, k: int) -> None:
    assert plan(points, r).size <= k


@pytest.mark.parametrize(("r", "size"), [(1, 0), (2, 1)])
def test_one_or_two_values_guarantee_next_to_nothing(r: int, size: int) -> None:
    assert plan(10**6, r).size == size


def test_the_finder_refuses_what_it_cannot_promise() -> None:
    with pytest.raises(ValueError, match="guaranteed"):
        find_missing_set(lambda a, b: 0, 10, wanted=7)
    with pytest.raises(ValueError, match="three values"):
        find_missing_set(lambda a, b: 0, 10, values=(0, 1))


# --- Exact cliques ---


def test_a_search_that_is_stopped_says_so_and_bounds_what_it_did_not_see() -> None:
    x = np.arange(256)
    differs = (x[:, None] ^ x[None, :]) % 3 != 1
    graph = differs & ~np.eye(256, dtype=bool)
    stopped = search_clique(masks(graph), seconds=0.05)
    assert not stopped.is_largest
    assert all(graph[a, b] for a, b in itertools.combinations(stopped.vertices, 2))
    finished = search_clique(masks(graph[:40, :40]), seconds=60)
    assert finished.is_largest
    assert len(finished.vertices) == networkx.max_weight_clique(networkx.from_numpy_array(graph[:40, :40]), None)[1]


@seeded
@given(seed=st.integers(0, 10**6), vertices=st.integers(1, 24), density=st.floats(0.1, 1.0))
def test_the_searches_agree_with_networkx(seed: int, vertices: int, density: float) -> None:
    upper = np.triu(np.random.default_rng(seed).random((vertices, vertices)) < density, 1)
    graph = upper | upper.T
    number = networkx.max_weight_clique(networkx.from_numpy_array(graph), weight=None)[1]
    assert search_clique(masks(graph)).at_most == number
    assert recheck._clique_number(networkx.from_numpy_array(graph)) == number


def test_a_complete_graph_needs_no_recursion() -> None:
    complete = ~np.eye(1500, dtype=bool)
    assert search_clique(masks(complete), seconds=10).at_most == 1500


def test_the_search_of_the_recheck_agrees_with_networkx_on_a_doubled_graph() -> None:
    graph = networkx.from_numpy_array(doubled(paley(37)))
    assert recheck._clique_number(graph) == networkx.max_weight_clique(graph, weight=None)[1]


def test_a_large_witness_is_rechecked_on_all_points_and_on_its_subset() -> None:
    table = three_classes(paley(101))
    subset = [b * 101 + i for b, share in enumerate((86, 85, 85)) for i in range(share)]
    witness = {
        "kind": "colouring",
        "k": 6,
        "points": 303,
        "values": [0, 1, 2],
        "F": rows(table),
        "subset": subset,
        "largest_set_missing": dict.fromkeys("012", 5),
    }
    assert recheck.recheck(witness) == []
    assert recheck.recheck({**witness, "subset": subset[1:]})
    assert recheck.recheck({**witness, "subset": [*subset[1:], 303]})
    assert recheck.recheck({**witness, "k": 5})
    assert recheck.recheck({**witness, "largest_set_missing": dict.fromkeys("012", 4)})


# --- What is known of N(k) ---


def test_the_table_of_known_values_keeps_its_bounds_in_order() -> None:
    shown = {2: 2, 3: 6, 4: 18, 5: 38, 6: 102, 7: 205}
    table = known_values(shown)
    rows = {row[0]: row for row in table.rows}
    assert [rows[k][2] for k in (2, 3, 4)] == [rows[k][3] for k in (2, 3, 4)] == ["4", "16", "52"]
    assert rows[5][1:4] == ("43 to 46", "127 to 136", "112 to 184")
    assert rows[7][3] == "613 to 2,440"
    assert [rows[k][1] for k in (9, 10)] == ["565 to 4,956", "798 to 16,064"]
    assert all(known.upper and known.upper_source for known in LITERATURE.values())
    for k, known in LITERATURE.items():
        assert shown.get(k, 0) <= known.lower <= (known.upper or ramsey.parity_bound(k, k)) <= ramsey.parity_bound(k, k)


def test_the_two_tables_of_the_printed_bound_say_the_same_of_each_number(run: Run) -> None:
    evidence = check_printed_bound(run).evidence["by_k"]
    for row in evidence:
        known = LITERATURE[row["k"]]
        assert row["R(k,k)"] == (str(known.lower) if known.lower == known.upper else f"{known.lower} to {known.upper}")
    by = {row["k"]: row["R(k,k): at least, at most, by"] for row in evidence}
    assert by[5] == "Exoo 1989; Angeltveit, McKay 2024"
    assert all(by[k].startswith("shown here; ") for k in (6, 7))
