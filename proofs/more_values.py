"""More than three values: how many points force a ``k``-set that misses one of ``r``.

- RA-8 (:func:`check_more_values`): let ``N_r(k)`` be the least number of points that forces a ``k``-set missing one of
  ``r ≥ 3`` values, and ``C_t(k)`` the least number such that every colouring of the *pairs* with ``t`` colours has a
  ``k``-set missing a colour, so that ``C_2(k) = R(k, k)``. Then

  * ``N_r(k) ≤ min_{2≤t≤r−1} ⌊r(C_t(k) − 1)/(r − t)⌋ + 1``, with equality for all ``k`` if, and only if, ``r = 3``;
  * ``N_{r+1}(k) ≤ N_r(k)``, and ``N_r(k) = k`` exactly if ``k = 1`` or ``k(k+1)/2 < r``.

Exact small values are found by the exhaustive search of :mod:`proofs.exhaustive`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import sympy

from proofs.colourings import (
    Colouring,
    clique_number,
    complement,
    largest_set_missing,
    paley,
    rows,
    three_classes,
    values_on,
)
from proofs.exhaustive import seeing_all, threshold_search
from proofs.judgement import Judgement, only_if_contradicted
from proofs.proof import Proof
from proofs.steps import Computation, Decision, Given, Inequality, Setting
from proofs.symbolic import Expression
from sensverify.claims import Finding, Run, Status
from sensverify.exhibits import Table

R, T, K = sympy.symbols("r t k", integer=True, positive=True)
TOTAL, DROPPED = sympy.symbols("n d", integer=True, nonnegative=True)
COLOURS = sympy.Symbol("C", integer=True, positive=True)
J = sympy.Symbol("j", integer=True, nonnegative=True)
# By number of values: N_r(3), and C_t(3) by number of colours; both recomputed below.
THREE = {3: 16, 4: 9, 5: 6, 6: 4, 7: 3}
COLOURS_THREE = {2: 6, 3: 5, 4: 3}
MOST_VALUES = 40  # up to which the rule for the smallest sets is tried
FOUR = {7: 8, 8: 5, 9: 5, 10: 5, 11: 4}
# Seven values on seven points, found by the same search in a quarter of a minute: all four points see every value.
_ROWS = ("0214365", "2105634", "1026543", "4563012", "3650421", "6341250", "5432106")
SEVEN = np.array([list(map(int, row)) for row in _ROWS])


def upper_bound(r: int, colours: Mapping[int, int]) -> int:
    """``min_t ⌊r(C_t − 1)/(r − t)⌋ + 1`` over the ``t`` from 2 to ``r − 1`` whose ``C_t`` is given."""
    return min(r * (c - 1) // (r - t) + 1 for t, c in colours.items() if 2 <= t <= r - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewEntries:
    """Any ``k`` points miss a value if ``k = 1`` or ``entries``, an expression in :data:`K`, is below ``r``."""

    entries: Expression = K * (K + 1) / 2

    def __call__(self, r: int, k: int) -> bool:
        """Whether they do, by this rule."""
        return k == 1 or bool(self.entries.subs(K, k) < r)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoreValues:
    """RA-8 by default. ``less``: points taken off the upper bound; ``trivial``: up to which ``k`` any ``k`` points do;
    ``exact_at``: the ``r`` at which the bound is said to be exact; ``three``: what is said of ``N_r(3)``.

    Any rule ``trivial`` can be refuted, but only one that is :class:`FewEntries` can be proved for every ``r``.
    """

    less: int = 0
    trivial: Callable[[int, int], bool] = FewEntries()
    exact_at: tuple[int, ...] = (3,)
    three: Mapping[int, int] = dataclasses.field(default_factory=lambda: THREE)


def check_more_values(run: Run, statement: MoreValues = MoreValues()) -> Finding:
    """RA-8."""
    kept = TOTAL - DROPPED
    givens = (
        Given(text="t ≤ r − 1", quantity=R - T, strict=True),
        Given(text="each of the r − t kept classes has as many points as each of the t dropped ones, which hold d",
              quantity=T * (TOTAL - DROPPED) - (R - T) * DROPPED),
        Given(text="n = ⌊r(C − 1)/(r − t)⌋ + 1 for C = C_t(k), so that n(r − t) > r(C − 1)",
              quantity=(TOTAL + statement.less) * (R - T) - R * (COLOURS - 1), strict=True),
    )  # fmt: skip
    proof = Proof(
        title="Missing one of r values",
        hypotheses=(
            "F be symmetric with r ≥ 3 values on n points, 2 ≤ t ≤ r − 1",
            "the t diagonal values that the fewest points have be dropped, with these points",
        ),
        setting=Setting(givens=givens, realise=lambda numbers: _realise(statement), seed=run.seed),
        steps=(
            Inequality(
                text="More than C − 1 points are kept:",
                larger=R * kept,
                smaller=R * (COLOURS - 1),
                because=[
                    [T * (TOTAL - DROPPED) - (R - T) * DROPPED],
                    [(TOTAL + statement.less) * (R - T) - R * (COLOURS - 1)],
                ],
                strict=True,
            ),
            Computation(
                text="Merge the values of the kept diagonals into one of the t others. Some k of the C points miss a "
                "colour c of the merged pairs; they miss the value c of F, on the diagonal too, whether others were "
                "merged into c or not.",
                run=_merging,
                how="both cases, for all r ≤ 8 and t; only whether a value is kept, is c, or neither enters",
            ),
            Judgement(
                text="At r = 3 the bound is 3(R(k, k) − 1) + 1, the N(k) of RA-1; at k = 1 it is 1. It is said to be "
                f"exact for all k at r = {', '.join(map(str, statement.exact_at)) or 'none'}.",
                judge=lambda: _exact(run, statement),
            ),
            Computation(
                text="N_{r+1}(k) ≤ N_r(k): merge two values; a set that misses one after merging missed one before.",
                run=_monotone,
                how="both cases, for all r ≤ 8",
            ),
            Judgement(
                text="N_r(k) = k exactly if k = 1 or k(k+1)/2 < r: k points have k(k+1)/2 entries, too few to see r "
                "values; otherwise they can see all.",
                judge=lambda: _trivial(statement),
            ),
            Inequality(
                text="The bound is not exact for r ≥ 7: take the largest k with k(k+1)/2 < r; it is at least 3, say "
                "3 + j, and r ≤ (k+1)(k+2)/2 ≤ k²(k−1)/2 + k:",
                larger=((K**2 * (K - 1)) / 2 + K).subs(K, 3 + J),
                smaller=((K + 1) * (K + 2) / 2).subs(K, 3 + J),
                because=[[sympy.Rational(1, 2), J**3 + 7 * J**2 + 14 * J + 4]],
                strict=True,
            ),
            Inequality(
                text="If C_t(k) > k then r(C_t(k) − 1) ≥ rk > (r − t)k, and the bound exceeds k = N_r(k):",
                larger=R * K,
                smaller=(R - T) * K,
                because=[[T, K]],
                strict=True,
            ),
            Inequality(
                text="If C_t(k) = k then t > k(k−1)/2, as k points with as many pairs can see t colours; "
                "then tk ≥ k²(k−1)/2 + k ≥ r, so that r(k − 1) ≥ (r − t)k, and again the bound exceeds k; with "
                "t = k(k−1)/2 + 1 + j:",
                larger=((K * (K - 1) / 2) + 1 + J) * K,
                smaller=K**2 * (K - 1) / 2 + K,
                because=[[J, K]],
            ),
            Computation(
                text="C_2(3) = 6, C_3(3) = 5 and C_t(3) = 3 for t ≥ 4.",
                run=_colours_three,
                how="exhaustive search on that many points, and a colouring of one point fewer",
            ),
            Judgement(
                text="N_3(3) = 16 (RA-1), N_4(3) = 9, N_5(3) = 6, N_6(3) = 4, N_r(3) = 3 for r ≥ 7; the bound gives "
                "16, 11, 9, 7, 5 for r = 3 to 7, and 3 for N_4(2) = 2: it is not exact for r = 4, 5, 6 either.",
                judge=lambda: _three(run, statement),
            ),
        ),
        conclusion="Hence the bound, exact for all k at r = 3 only, and the two other laws, for every r ≥ 3.",
    ).check()
    proof = only_if_contradicted(proof)
    if proof.status is not Status.PROVED:
        return proof.finding()
    finding = proof.finding(
        {
            "proved_for": "every r ≥ 3 and k ≥ 1; N_r(3) for every r",
            "searched": _searched(run),
            "also, by the same search": {f"N_{r}(4)": n for r, n in _four(run).items()},
        }
    )
    table = Table(
        title="Three points that miss one of r values",
        caption="$N_r(3)$ by exhaustive search beside the upper bound, which is exact at $r = 3$ only.",
        columns=("r", "N_r(3)", "upper bound", "entries of 3 points below r"),
        rows=[(r, n, upper_bound(r, _colours(r)), "yes" if r > 6 else "no") for r, n in THREE.items()],
    )
    return Finding(status=finding.status, evidence=finding.evidence, exhibits=(*finding.exhibits, table))


def _colours(r: int) -> dict[int, int]:
    """``C_t(3)`` for the ``t`` that matter at ``r``."""
    return {t: COLOURS_THREE[min(t, 4)] for t in range(2, r)}


def _realise(statement: MoreValues) -> Mapping[str, Any]:
    """Three points without a pair that misses a value; nothing for a bound that is only weaker."""
    if statement.less <= 0:
        return {}
    table = three_classes(np.zeros((1, 1), dtype=bool))
    return {
        "said": f"N_3(2) ≤ {upper_bound(3, {2: 2}) - statement.less}",
        "F": rows(table),
        "largest_set_missing": {str(value): len(largest_set_missing(table, value)) for value in range(3)},
    }


def _merging() -> Mapping[str, Any] | None:
    for r in range(3, 9):
        for t in range(2, r):
            kept, others = set(range(t, r)), set(range(t))
            merge = {value: 0 if value in kept else value for value in range(r)}
            for missed in others:  # pairs take any value but those merged into the missed colour
                seen = kept | {value for value in range(r) if merge[value] != missed}
                if missed in seen or seen == set(range(r)):
                    return {"r": r, "t": t, "missed": missed}
    return None


def _monotone() -> Mapping[str, Any] | None:
    for r in range(3, 9):
        merge = {value: min(value, r - 1) for value in range(r + 1)}
        for missed in range(r):
            if {value for value in range(r + 1) if merge[value] != missed} == set(range(r + 1)):
                return {"r": r, "missed": missed}
    return None


def _found(counterexample: Mapping[str, Any]) -> Decision:
    return Decision(holds=False, how="numbers say otherwise", counterexample=counterexample)


def _exact(run: Run, statement: MoreValues) -> Decision:
    """RA-1's numbers; at any other ``r`` that is said to be exact, a small ``k`` decides."""
    for k, ramsey in ((1, 1), (2, 2), (3, 6), (4, 18)):
        if upper_bound(3, {2: ramsey}) != 3 * ramsey - 2:
            return _found({"r": 3, "k": k})
    graph = paley(17)
    if clique_number(graph) != 3 or clique_number(complement(graph)) != 3:
        return _found({"graph": 17})
    for r in statement.exact_at:
        if r > 3 and (counterexample := not_exact(run, r)) is not None:
            return _found(counterexample)
    if tuple(statement.exact_at) != (3,):
        return Decision(holds=None, how="proved for r = 3 alone")
    return Decision(holds=True, how="k = 1, 2, 3, 4 by the numbers of RA-1; its proof covers every k ≥ 2")


def not_exact(run: Run, r: int) -> Mapping[str, Any] | None:
    """A ``k`` at which the bound for ``r > 3`` values is larger than ``N_r(k)``, both of them computed."""
    if r <= 6:
        for k, bound in ((2, upper_bound(r, dict.fromkeys(range(2, r), 2))), (3, upper_bound(r, _colours(r)))):
            exact = _threshold(r, 2) if k == 2 else _decided(run, r)
            if bound != exact:
                return {"r": r, "k": k, "bound": bound, f"N_{r}({k})": exact, "entries_of_k_points": k * (k + 1) // 2}
        return None
    k = max(k for k in range(1, r) if k * (k + 1) // 2 < r)
    # C_t(k) is k only if k points have fewer pairs than colours, and k + 1 at least otherwise.
    bound = upper_bound(r, {t: k if k * (k - 1) // 2 < t else k + 1 for t in range(2, r)})
    if bound <= k:
        return None
    return {"r": r, "k": k, "bound_at_least": bound, f"N_{r}({k})": k, "entries_of_k_points": k * (k + 1) // 2}


def _threshold(r: int, k: int) -> int:
    """``N_r(k)`` by exhaustive search from below."""
    return next(n for n in itertools.count(k) if threshold_search(n, r, k).table is None)


def _trivial(statement: MoreValues) -> Decision:
    for r, k in itertools.product(range(3, MOST_VALUES + 1), range(1, 10)):
        table = _greedy_table(r, k)
        sees_all = len(np.unique(table)) == r
        if statement.trivial(r, k) == sees_all:
            shown = rows(table) if r <= 10 else table.tolist()
            return _found({"r": r, "k": k, "F": shown, "sees_all": sees_all})
    how = f"for all r ≤ {MOST_VALUES} and k ≤ 9, with a table for each that sees all"
    rule = statement.trivial
    entries = sympy.summation(J, (J, 1, K))  # point j has an entry with itself and one with each of the points before
    if not isinstance(rule, FewEntries) or sympy.expand(rule.entries - entries) != 0:
        return Decision(holds=None, how=f"{how}; nothing is known of other r")
    return Decision(holds=True, how=f"1 + 2 + … + k = k(k+1)/2 entries; besides, {how}")


def _greedy_table(r: int, k: int) -> Colouring:
    """``k`` points that see as many of ``r`` values as they have entries."""
    table = np.zeros((k, k), dtype=int)
    for n, (i, j) in enumerate(itertools.combinations_with_replacement(range(k), 2)):
        table[i, j] = table[j, i] = n % r
    return table


def _colours_three() -> Mapping[str, Any] | None:
    for t, number in COLOURS_THREE.items():
        above, below = (seeing_all(n, t, 3, diagonal=None) for n in (number, number - 1))
        if above.table is not None or below.table is None:
            return {"t": t, "points": number, "pairs": rows(above.table) if above.table is not None else None}
    return None


def _decided(run: Run, r: int) -> int | None:
    """``N_r(3)`` by the two searches that decide it, RA-1's number at ``r = 3``; None if they do not."""
    number = THREE.get(min(r, 7))
    if number is None or r == 3:
        table = three_classes(paley(5))
        return number if not any(len(largest_set_missing(table, value)) >= 3 for value in range(3)) else None
    above = _search(run, number, r).table
    below = number == 3 or _search(run, number - 1, r).table is not None
    return number if above is None and below else None


def _three(run: Run, statement: MoreValues) -> Decision:
    for r, said in statement.three.items():
        decided = _decided(run, r) if r >= 3 else None
        if decided is None:
            return Decision(holds=None, how=f"N_{r}(3) was not decided")
        if said == decided:
            continue
        wrong: dict[str, Any] = {"said": f"N_{r}(3) = {said}", "N_r(3)": decided}
        if said < decided:
            table = three_classes(paley(5)) if r == 3 else _search(run, decided - 1, r).table
            return _found({**wrong, "points": decided - 1, "every_triple_sees_all": True, "F": rows(table)})
        how = "RA-1, with R(3, 3) = 6" if r == 3 else f"{_search(run, decided, r).branches} branches searched"
        return _found({**wrong, "points": decided, "some_triple_misses_a_value_in_every_table": how})
    if missing := sorted(set(THREE) - set(statement.three)):
        return Decision(holds=None, how=f"nothing is said of N_{missing[0]}(3)")
    if (upper_bound(4, {2: 2, 3: 2}), _threshold(4, 2)) != (3, 2):
        return _found({"N_4(2)": _threshold(4, 2)})
    bounds = {r: upper_bound(r, _colours(r)) for r in THREE}
    if bounds != {3: 16, 4: 11, 5: 9, 6: 7, 7: 5}:
        return _found({"bounds": {str(r): bound for r, bound in bounds.items()}})
    how = "exhaustive search up to the names of points and values, and a table with one point fewer"
    return Decision(holds=True, how=how)


def _search(run: Run, points: int, r: int) -> Any:
    return run.shared(f"proofs: exhaustive {points} {r} 3", lambda: threshold_search(points, r, 3))


def _searched(run: Run) -> list[dict[str, Any]]:
    """What the exhaustive searches for ``k = 3`` found; at ``r = 3`` only the side that is not RA-1's."""
    below = {r: _search(run, n - 1, r) for r, n in THREE.items() if n > 3}
    above = {r: _search(run, n, r) for r, n in THREE.items() if r > 3}
    return [
        {
            "r": r,
            "N_r(3)": n,
            "table on N − 1 points": "found" if r in below and below[r].table is not None else "—",
            "branches on N points, none left": above[r].branches if r in above else "RA-1",
        }
        for r, n in THREE.items()
    ]


def _four(run: Run) -> dict[int, int]:
    """``N_r(4)`` where the search ends soon; ``r = 7`` takes a third of a minute and is left to the full profile."""
    known = {r: n for r, n in FOUR.items() if r > (8 if run.profile == "quick" else 6)}
    result = {}
    for done, (r, n) in enumerate(known.items()):
        run.progress("RA-8: exhaustive search, k = 4", done, len(known))
        table = SEVEN if r == 7 else threshold_search(n - 1, r, 4).table
        sets = itertools.combinations(range(n - 1), 4)  # none at all where n = 4
        below = table is not None and all(len(values_on(table, s)) == r for s in sets)
        if below and threshold_search(n, r, 4).table is None:
            result[r] = n
    run.progress("RA-8: exhaustive search, k = 4", len(known), len(known))
    return result


def twin_bound_less_one(run: Run) -> Finding:
    """False: the upper bound, less one."""
    return check_more_values(run, MoreValues(less=1))


def twin_exact_for_four(run: Run) -> Finding:
    """False: the bound is exact at ``r = 4`` as well."""
    return check_more_values(run, MoreValues(exact_at=(3, 4)))


def twin_pairs_alone(run: Run) -> Finding:
    """False: ``N_r(k) = k`` exactly if ``k = 1`` or ``k(k−1)/2 < r``, as if the diagonal did not count."""
    return check_more_values(run, MoreValues(trivial=lambda r, k: k == 1 or k * (k - 1) // 2 < r))


def twin_eight_points(run: Run) -> Finding:
    """False: ``N_4(3) = 8``."""
    return check_more_values(run, MoreValues(three={**THREE, 4: 8}))
