"""How many points force a set of ``k`` that misses a value: exactly ``3R(k, k) − 2``.

- RA-1 (:func:`check_threshold`): for symmetric ``F: X × X → {0, 1, 2}``, diagonal included, and ``k ≥ 2``, let ``N(k)``
  be the least ``|X|`` that forces a ``k``-set missing a value. Then ``N(k) = 3R(k, k) − 2``, ``R`` Ramsey's number.

Upper side: some diagonal value ``b`` is shared by ``R(k, k)`` points; colour their pairs "is p" / "is not p" for one
``p ≠ b``. Lower side: :func:`proofs.colourings.three_classes` on a graph with ``R(k, k) − 1`` vertices. The general
argument is checked step by step; ``N(2) = 4`` and ``N(3) = 16`` are checked by exact search as well, and ``N(4) = 52``
with ``R(4, 4) = 18`` from Paley's graph and the parity step.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import sympy

from proofs.colourings import (
    VALUES,
    Colouring,
    complement,
    largest_sets,
    monochromatic_free,
    paley,
    random_colouring,
    rows,
    three_classes,
    values_on,
)
from proofs.finder import find_missing_set
from proofs.proof import Proof
from proofs.ramsey import parity_bound
from proofs.steps import Computation, Given, Identity, Inequality, Setting
from sensverify.claims import Finding, Run, Status

R = sympy.Symbol("R", integer=True, positive=True)
CLASSES = sympy.symbols("m_0 m_1 m_2", integer=True, nonnegative=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Threshold:
    """``N(k) = 3R(k, k) − less``; the default is RA-1, other values its false twins."""

    less: int = 2


def check_threshold(run: Run, statement: Threshold = Threshold()) -> Finding:
    """RA-1."""
    points = 3 * R - statement.less
    small_classes = tuple(
        Given(text=f"no more than R − 1 points have the diagonal value {b}", quantity=R - 1 - m)
        for b, m in enumerate(CLASSES)
    )
    proof = Proof(
        title="The exact threshold for missing a value",
        hypotheses=(
            "F be symmetric with three values on N points, k ≥ 2 and R = R(k, k)",
            "m_b be the number of points with diagonal value b; suppose, to contradict, that all are below R",
        ),
        setting=Setting(givens=(Given(text="R ≥ 2", quantity=R - 2), *small_classes), realise=_realise, seed=run.seed),
        steps=(
            Inequality(
                text=f"The classes cannot hold N = 3R − {statement.less} points, so one of them has R at least:",
                larger=points,
                smaller=sum(CLASSES),
                because=[*([R - 1 - m] for m in CLASSES), [sympy.Integer(3 - statement.less)]],
                strict=True,
            ),
            Computation(
                text="In it some k points have all their pairs p, or none: they miss a value, for every b and p ≠ b.",
                run=_upper_cases,
                how="all 12 cases of b, p and kind",
            ),
            Identity(
                text="The construction with three classes of R − 1 points has one point fewer than N:",
                left=points - 1,
                right=3 * (R - 1),
            ),
            Computation(
                text="In it every set of k points sees all three values, whichever classes it meets.",
                run=_lower_cases,
                how="all pairs of different classes, and each class alone",
            ),
            *_instances(run),
        ),
        conclusion="Hence N(k) = 3R(k, k) − 2 for every k ≥ 2.",
    ).check()
    evidence = {
        "proved_for": "every k ≥ 2, with R(k, k) as it is by definition; the number is known for k ≤ 4 only",
        "instances": {"N(2)": 4, "N(3)": 16, "N(4)": 52},
        "how_instances": "N(2): all tables on 4 points and one on 3. N(3): R(3,3) = 6 by all 2¹⁵ graphs on 6 vertices, "
        "and the colouring of 15 points by exact clique search. N(4): R(4,4) ≥ 18 by Paley's graph of 17, whose 51 "
        "points are searched exactly; R(4,4) ≤ 18 by the parity step of RA-2 from R(3,3) = 6",
    }
    return proof.finding(evidence if proof.status is Status.PROVED else {})


def _realise(numbers: Mapping[str, Any]) -> Mapping[str, Any]:
    """At ``R = R(2, 2) = 2`` the failing count is a failing threshold: show why, on 3 or on 4 points."""
    if numbers.get("R") != 2:
        return {}
    table = three_classes(np.zeros((1, 1), dtype=bool))
    free = sum(1 for table in all_tables(4) if not misses_on_a_pair(table))
    return {
        "k": 2,
        "three_points": {
            "F": rows(table),
            "largest_set_missing": {str(y): len(s) for y, s in largest_sets(table).items()},
        },
        "four_points": {"tables": 3**10, "tables_without_a_pair_missing_a_value": free},
        "reading": "on 3 points a pair that misses a value is not forced, on 4 points it is: N(2) = 4",
    }


def _upper_cases() -> Mapping[str, Any] | None:
    for b, p in itertools.permutations(VALUES, 2):
        for kind, pairs in (("all p", {p}), ("none p", set(VALUES) - {p})):
            if {b} | pairs == set(VALUES):
                return {"b": b, "p": p, "pairs": kind}
    return None


def _lower_cases() -> Mapping[str, Any] | None:
    """A ``k``-set in two classes sees both diagonals and the third value; in one class, that class's diagonal and,
    not being one-coloured there, both other values."""
    table = three_classes(np.array([[False, True], [True, False]]))  # two points per class
    for i, j in itertools.permutations(VALUES, 2):
        if values_on(table, [2 * i, 2 * j]) != set(VALUES):
            return {"classes": [i, j]}
    for i in VALUES:
        edge = int(table[2 * i, 2 * i + 1])
        other = int(three_classes(np.zeros((2, 2), dtype=bool))[2 * i, 2 * i + 1])
        if {i, edge, other} != set(VALUES):
            return {"class": i}
    return None


def all_tables(points: int) -> Iterator[Colouring]:
    """Every symmetric table with three values on so many points."""
    upper = np.triu_indices(points)
    for values in itertools.product(VALUES, repeat=len(upper[0])):
        table = np.zeros((points, points), dtype=int)
        table[upper] = values
        yield np.maximum(table, table.T)


def misses_on_a_pair(table: Colouring) -> bool:
    """Whether two of the points miss a value."""
    return any(len({table[i, i], table[j, j], table[i, j]}) < 3 for i in range(len(table)) for j in range(i))


def _instances(run: Run) -> Iterator[Computation]:
    yield Computation(
        text="N(2) = 4: every table on 4 points has a pair that misses a value, and one on 3 has none.",
        run=_two,
        how="all 3¹⁰ tables",
    )
    yield Computation(
        text="R(3, 3) = 6: every graph on 6 vertices has a triangle or three vertices without an edge; the 5-cycle has "
        "neither.",
        run=six_points_force_three,
        how="all 2¹⁵ graphs",
    )
    for k, q in ((3, 5), (4, 17)):
        yield Computation(
            text=f"N({k}) ≥ {3 * q + 1}: three classes on Paley's graph of {q} vertices have no {k}-set that misses a "
            "value.",
            run=lambda k=k, q=q: _construction(k, q),  # type: ignore[misc]
            how="exact clique search",
        )
    yield Computation(
        text="R(4, 4) ≤ 18, so that N(4) = 52:",
        latex=r"R(3,4) \leq 4 + 6 - 1 = 9, R(4,4) \leq 9 + 9 = 18",
        run=lambda: None if parity_bound(4, 4) == 18 else {"bound": parity_bound(4, 4)},
        how="the recursion of RA-2",
    )
    yield Computation(
        text="The finder carries the upper side out: at N(k) points it returns a k-set that misses a value, k = 2, 3.",
        run=lambda: _finder(run),
        how="random and adversarial tables, each result verified",
    )


def _two() -> Mapping[str, Any] | None:
    # All tables at once: a column per pair of points with i ≤ j, a row per table.
    grid = np.indices((3,) * 10, dtype=np.int8).reshape(10, -1)
    value = {pair: grid[n] for n, pair in enumerate(itertools.combinations_with_replacement(range(4), 2))}
    forced = np.zeros(grid.shape[1], dtype=bool)
    for i, j in itertools.combinations(range(4), 2):
        a, b, c = value[i, i], value[j, j], value[i, j]
        forced |= ~((a != b) & (a != c) & (b != c))
    if not forced.all():
        return {"tables_without": int((~forced).sum())}
    three = three_classes(np.zeros((1, 1), dtype=bool))
    return {"F": rows(three)} if misses_on_a_pair(three) else None


def six_points_force_three() -> Mapping[str, Any] | None:
    """None if ``R(3, 3) = 6``: by all graphs on 6 vertices, and the 5-cycle; else the graph that says otherwise."""
    graphs = np.arange(2**15)
    bit = {pair: (graphs >> n) & 1 for n, pair in enumerate(itertools.combinations(range(6), 2))}
    forced = np.zeros(len(graphs), dtype=bool)
    for i, j, k in itertools.combinations(range(6), 3):
        edges = bit[i, j] + bit[i, k] + bit[j, k]
        forced |= (edges == 0) | (edges == 3)
    if not forced.all():
        return {"graph": int(graphs[~forced][0])}
    cycle = paley(5)
    return None if monochromatic_free(cycle, (3, 3)) else {"cycle": complement(cycle).tolist()}


def _construction(k: int, q: int) -> Mapping[str, Any] | None:
    largest = largest_sets(three_classes(paley(q)))
    bad = {str(value): points for value, points in largest.items() if len(points) >= k}
    return bad or None


def _finder(run: Run) -> Mapping[str, Any] | None:
    generator = np.random.default_rng(run.seed)
    draws = 300 if run.profile == "quick" else 20_000
    for k, graph in ((2, np.zeros((1, 1), dtype=bool)), (3, paley(5))):
        adversary = three_classes(graph)
        for number in range(draws):
            table = random_colouring(generator, len(adversary) + 1)
            if number % 2:  # the colouring that has no such set, and one point more
                order = generator.permutation(len(adversary))
                table[:-1, :-1] = adversary[np.ix_(order, order)]
            found = find_missing_set(lambda a, b, table=table: int(table[a, b]), len(table))  # type: ignore[misc]
            if len(found.points) < k or found.missed in values_on(table, found.points):
                return {"k": k, "F": rows(table), "found": list(found.points), "missed": found.missed}
    return None


def twin_one_point_fewer(run: Run) -> Finding:
    """False: ``N(k) = 3R(k, k) − 3``."""
    return check_threshold(run, Threshold(less=3))


def twin_one_point_more(run: Run) -> Finding:
    """False: ``N(k) = 3R(k, k) − 1``."""
    return check_threshold(run, Threshold(less=1))
