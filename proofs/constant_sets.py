"""The other reading of the companion claim: a set on which ``F`` is constant, instead of one that misses a value.

- RA-5 (:func:`check_constant`): for ``k ≥ 2`` *no* number of points forces a ``k``-set on which ``F`` is constant,
  diagonal included: take 0 on the diagonal and 1 off it. What holds instead, for ``r`` values:

  * constant off the diagonal: the threshold is Ramsey's number ``R_r(k)``, at most ``(r^(r(k−2)+1) + r − 2)/(r − 1)``
    and at most ``(r(k−1))!/((k−1)!)^r``; hence ``|S| ≥ 1 + ⌊log₂|X| / (r log₂ r)⌋``;
  * constant on the diagonal and, separately, off it: exactly ``r(R_r(k) − 1) + 1`` points.

Sources: Ramsey 1930; Greenwood and Gleason 1955 (``R(3,4)``, ``R(4,4)``, ``R(3,3,3)``).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import sympy

from proofs import recheck
from proofs.colourings import (
    Colouring,
    clique_number,
    complement,
    cubic_residues,
    graph_of,
    largest_constant,
    paley,
    rows,
    separate_classes,
)
from proofs.counterexamples import publish
from proofs.judgement import only_if_contradicted
from proofs.proof import Checked, Proof
from proofs.ramsey import greedy_bound, multinomial_bound, parity_bound
from proofs.steps import Computation, Given, Identity, Inequality, Setting
from proofs.symmetric_colouring import six_points_force_three
from sensverify.claims import Finding, Run, Status

R, A, J = sympy.symbols("r a j", integer=True, positive=True)
TERMS, POINTS, CLASSES = sympy.symbols("P d M", integer=True, nonnegative=True)
NUMBER = sympy.Symbol("R", integer=True, positive=True)
N, LARGEST, POWER = sympy.symbols("n V W", positive=True)
# Ramsey numbers that are recomputed here, by colours and size.
EXACT = {(2, 2): 2, (2, 3): 6, (2, 4): 18, (3, 2): 2, (3, 3): 17}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant:
    """RA-5 by default. ``diagonal``: whether "constant" includes it; the others are points taken off a bound: off the
    greedy one, off each step of the recursion, off the threshold for "separately"."""

    diagonal: bool = True
    greedy_less: int = 0
    saved: int = 0
    threshold_less: int = 0


def check_constant(run: Run, statement: Constant = Constant()) -> Finding:
    """RA-5: the refutation, and the proof of what holds instead."""
    repair = _repair(run, statement)
    if repair.status is not Status.PROVED:
        return repair.finding()
    points = 16
    table = np.ones((points, points), dtype=int) - np.eye(points, dtype=int)
    largest = max(largest_constant(table, diagonal=statement.diagonal), key=len)
    if len(largest) >= 2:
        counterexample = {"F": rows(table), "diagonal_counts": statement.diagonal, "constant_on": largest}
        return Finding(status=Status.REFUTED, evidence={"points": points}, witness=counterexample)
    witness = {
        "kind": "constant set",
        "k": 2,
        "rule": {"diagonal": 0, "pairs": 1},
        "points": points,
        "F": rows(table),
        "reading": "F(x, x) = 0 and F(x, y) = 1 for all x ≠ y, on any number of points; written out for 16: F[i][j] is "
        "the digit j of row i. F is constant on no set of two points or more, as it has both values there",
    }
    if objections := recheck.recheck(witness):
        return Finding(status=Status.INCONCLUSIVE, evidence={"objections": objections})
    publish(run, "RA-5", witness)
    evidence = {
        "refuted_for": "every k ≥ 2, every number of points and every number of values from 2 on",
        "proof": f"of what holds instead: {repair.steps} steps checked by machine",
        "instead": {
            "constant off the diagonal": "R_r(k) points, by definition of Ramsey's number",
            "bounds": "R_r(k) ≤ (r^(r(k−2)+1) + r − 2)/(r − 1) and R_r(k) ≤ (r(k−1))!/((k−1)!)^r",
            "size": "|S| ≥ 1 + ⌊log₂|X| / (r log₂ r)⌋",
            "constant on the diagonal and, separately, off it": "r(R_r(k) − 1) + 1 points, and no fewer",
        },
        "exact": [
            {
                "r": r,
                "k": k,
                "R_r(k)": number,
                "greedy bound": greedy_bound(r, k),
                "multinomial bound": multinomial_bound(r, k),
                "separately": r * (number - 1) + 1,
            }
            for (r, k), number in EXACT.items()
        ],
    }
    finding = repair.finding()
    return Finding(status=Status.REFUTED, evidence=evidence, witness=witness, exhibits=finding.exhibits)


def _repair(run: Run, statement: Constant) -> Checked:
    """The proof of what holds instead, for every number ``r ≥ 2`` of values and every ``k ≥ 2``."""
    greedy = (R ** (J - 1) + R - 2) / (R - 1) - statement.greedy_less
    threshold = R * (NUMBER - 1) + 1 - statement.threshold_less
    term = sympy.gammasimp(
        (sympy.factorial(N - 1) / sympy.factorial(A - 1)).rewrite(sympy.gamma)
        / (sympy.factorial(N) / sympy.factorial(A)).rewrite(sympy.gamma)
    )
    givens = (
        Given(text="r ≥ 2", quantity=R - 1, strict=True),
        Given(text="colour i has at most p_i − 1 neighbours: d ≤ P − r in all, P = Σ p_i", quantity=TERMS - R - POINTS),
        Given(
            text="a diagonal class has at most R − 1 points: M ≤ r(R − 1) in all", quantity=R * (NUMBER - 1) - CLASSES
        ),
        Given(text="a multinomial coefficient V of n − 1 is at most W = r^(n−1)", quantity=POWER - LARGEST),
    )
    proof = Proof(
        title="What holds in place of “constant”",
        hypotheses=(
            "F be symmetric with r values and k ≥ 2; off the diagonal F colours the pairs with r colours, and R_r(k) "
            "is by definition the least number of points that forces k of them with all pairs of one colour",
        ),
        setting=Setting(givens=givens, realise=lambda numbers: _realise(statement), seed=run.seed),
        steps=(
            Identity(
                text="Greedily: take a point, keep the largest of the r colours of its pairs with the others, repeat. "
                "A run of j points needs M(j) at the start, where M(1) = 1, as one point does for a run of one",
                left=greedy.subs(J, 1),
                right=1,
            ),
            Identity(
                text="and M(j+1) = r(M(j) − 1) + 2, as one of r colours then has M(j) of the r(M(j) − 1) + 1 others:",
                left=greedy.subs(J, J + 1),
                right=R * (greedy - 1) + 2,
            ),
            Inequality(
                text="Of a run of j = r(k−2) + 2 points all but the last have a colour: too many for k − 2 of each, "
                "so some k − 1 share theirs, and make k points with the last:",
                larger=R * (A - 2) + 2 - 1,
                smaller=R * (A - 2),
                because=[[sympy.Integer(1)]],
                strict=True,
                shown=r"r(k-2)+2-1 > r(k-2), \quad R_r(k) \leq M(r(k-2)+2) = \frac{r^{r(k-2)+1}+r-2}{r-1}",
            ),
            Inequality(
                text="With a size k_i per colour: let p_i be enough points when k_i is one less. Then Σ p_i − r + 2 "
                "points are enough: a point and its d neighbours do not fill them unless some colour i has p_i:",
                larger=TERMS - R + 2 - statement.saved,
                smaller=1 + POINTS,
                because=[[TERMS - R - POINTS], [sympy.Integer(1 - statement.saved)]],
                strict=True,
            ),
            Identity(
                text="With n = Σ a_i and a_i = k_i − 1, the multinomials n!/∏ a_i! satisfy the recursion without the "
                "− r + 2 ≤ 0: lowering a_i gives the share a_i/n of it, and the shares sum to 1:",
                left=term,
                right=A / N,
                shown=r"\frac{(n-1)!}{(a_i-1)!} \Big/ \frac{n!}{a_i!} = \frac{a_i}{n}, \quad \sum_i \frac{a_i}{n} = 1",
            ),
            Inequality(
                text="One of n is a sum of r of n − 1, each at most r^(n−1), so at most r^n; with n = r(k−1), "
                "r^(r(k−1)) ≤ |X| is enough for k points, which is |S| ≥ 1 + ⌊log₂|X| / (r log₂ r)⌋:",
                larger=R * POWER,
                smaller=R * LARGEST,
                because=[[R, POWER - LARGEST]],
            ),
            Inequality(
                text="Constant on the diagonal and, separately, off it. The r diagonal classes cannot hold "
                "n = r(R − 1) + 1 points with fewer than R = R_r(k) each, and in a class of R some k points do:",
                larger=threshold,
                smaller=CLASSES,
                because=[[R * (NUMBER - 1) - CLASSES], [sympy.Integer(1 - statement.threshold_less)]],
                strict=True,
            ),
            Identity(
                text="r classes of R − 1 points without such k points inside are one point fewer; a set with a "
                "constant diagonal stays in one class:",
                left=threshold - 1,
                right=R * (NUMBER - 1),
            ),
            Computation(
                text="R(3, 3) = 6: every graph on 6 vertices has a triangle or three vertices without an edge.",
                run=six_points_force_three,
                how="all 2¹⁵ graphs, and the 5-cycle",
            ),
            Computation(
                text="R(3, 4) = 9, R(4, 4) = 18 and R(3, 3, 3) = 17: the recursion above, less one where a parity "
                "argument saves it (RA-2), and a colouring with one point fewer.",
                run=_exact_numbers,
                how="a circulant graph on 8 vertices, Paley's on 17, the cubic residues of the field with 16 elements",
            ),
            Computation(
                text="The bounds are never below these numbers, and the size never above what they force.",
                run=_bounds_in_order,
                how="the five exact numbers; n up to 5,000",
            ),
            Computation(
                text="The separate threshold at k = 2, for r = 2 and 3: every table on 3, or 4, points has such a "
                "pair, and one with a point fewer has none.",
                run=_separate_pairs,
                how="all diagonals; the colour of the pair itself cannot matter",
            ),
            Computation(
                text="Its lower side at (r, k) = (2, 3), (2, 4) and (3, 3): 10, 34 and 48 points without such a set.",
                run=_separate_lower,
                how="exact clique search in each class, and all triples of all points where k = 3",
            ),
        ),
        conclusion="Hence the thresholds as stated, for every r ≥ 2 and k ≥ 2.",
    )
    return only_if_contradicted(proof.check())


def _realise(statement: Constant) -> Mapping[str, Any]:
    """A colouring, or a number, that contradicts a false bound; nothing for a bound that is only weaker."""
    if statement.greedy_less > 0:
        said = greedy_bound(2, 2) - statement.greedy_less
        return {"said": f"R_2(2) ≤ {said}", "reading": "one point is no set of two"}
    if statement.saved > 0:
        table = cubic_residues()
        return {
            "said": f"R(3, 3, 3) ≤ 3R(2, 3, 3) − 3 + 2 − {statement.saved} = {17 - statement.saved}",
            "pairs": rows(table),
            "largest_one_coloured_set": max(len(s) for s in largest_constant(table, diagonal=False)),
            "reading": "no three of the 16 points have pairs of one colour; the diagonal counts for nothing",
        }
    if statement.threshold_less <= 0:
        return {}
    table = separate_classes(graph_of(paley(5)), 2)
    return {
        "said": f"for r = 2, k = 3: {2 * 5 + 1 - statement.threshold_less} points are enough",
        "F": rows(table),
        "triples_constant_on_and_off_the_diagonal": sum(separately_constant(table, s) for s in _triples(table)),
    }


def separately_constant(table: Colouring, points: tuple[int, ...]) -> bool:
    """Whether ``F`` has one value on the diagonal of ``points`` and one on their pairs."""
    return (
        len({int(table[a, a]) for a in points}) == 1
        and len({int(table[a, b]) for a, b in itertools.combinations(points, 2)}) <= 1
    )


def _triples(table: Colouring) -> itertools.combinations[tuple[int, ...]]:
    return itertools.combinations(range(len(table)), 3)


def _exact_numbers() -> Mapping[str, Any] | None:
    eight = np.array([[(i - j) % 8 in (1, 4, 7) for j in range(8)] for i in range(8)])
    for name, graph, sizes, bound in (("R(3, 4)", eight, (2, 3), 9), ("R(4, 4)", paley(17), (3, 3), 18)):
        found = (clique_number(graph), clique_number(complement(graph)))
        upper = parity_bound(sizes[0] + 1, sizes[1] + 1)
        if found != sizes or len(graph) + 1 != bound or upper != bound:
            return {"number": name, "graph_on": len(graph), "clique_and_independent_set": list(found), "bound": upper}
    table = cubic_residues()
    largest = max(len(points) for points in largest_constant(table, diagonal=False))
    upper = 3 * parity_bound(3, 3) - 3 + 2  # R(2, 3, 3) = R(3, 3): a pair of the first colour is already enough
    return None if (len(table), largest, upper) == (16, 2, 17) else {"largest": largest, "bound": upper}


def _bounds_in_order() -> Mapping[str, Any] | None:
    for (r, k), number in EXACT.items():
        if not number <= min(greedy_bound(r, k), multinomial_bound(r, k)) <= r ** (r * (k - 1)):
            return {"r": r, "k": k, "number": number}
    for r in (2, 3, 4):
        for n in range(1, 5001):
            k = next(k for k in itertools.count(1) if r ** (r * k) > n)  # k − 1 = ⌊log_r n / r⌋, in integers
            if multinomial_bound(r, k) > n:
                return {"r": r, "n": n, "size": k}
    return None


def _separate_pairs() -> Mapping[str, Any] | None:
    for r, points in ((2, 3), (3, 4)):
        pairs = list(itertools.combinations(range(points), 2))
        for diagonal in itertools.product(range(r), repeat=points):
            if not any(diagonal[a] == diagonal[b] for a, b in pairs):
                return {"r": r, "diagonal": list(diagonal)}
        table = separate_classes(np.zeros((1, 1), dtype=int), r)
        if len(table) != points - 1 or any(separately_constant(table, pair) for pair in _pairs(table)):
            return {"r": r, "F": rows(table)}
    return None


def _pairs(table: Colouring) -> itertools.combinations[tuple[int, ...]]:
    return itertools.combinations(range(len(table)), 2)


def _separate_lower() -> Mapping[str, Any] | None:
    for r, k, pairs in ((2, 3, graph_of(paley(5))), (2, 4, graph_of(paley(17))), (3, 3, cubic_residues())):
        table = separate_classes(pairs, r)
        number = EXACT[r, k]
        largest = 0
        for value in range(r):
            points = np.flatnonzero(table.diagonal() == value)
            inside = table[np.ix_(points, points)]
            largest = max(largest, *(len(s) for s in largest_constant(inside, diagonal=False)))
        direct = k == 3 and any(separately_constant(table, triple) for triple in _triples(table))
        if len(table) != r * (number - 1) or largest >= k or direct:
            return {"r": r, "k": k, "points": len(table), "largest": largest}
    return None


def twin_off_the_diagonal_too(run: Run) -> Finding:
    """False: the same colouring has no set constant off the diagonal either."""
    return check_constant(run, Constant(diagonal=False))


def twin_greedy_less_one(run: Run) -> Finding:
    """False: the greedy bound, less one."""
    return check_constant(run, Constant(greedy_less=1))


def twin_recursion_saves_one(run: Run) -> Finding:
    """False: the recursion saves one more point."""
    return check_constant(run, Constant(saved=1))


def twin_separate_less_one(run: Run) -> Finding:
    """False: ``r(R_r(k) − 1)`` points are enough for constant on the diagonal and, separately, off it."""
    return check_constant(run, Constant(threshold_less=1))
