"""The printed bound ``|X| ≥ 2^(k+2)`` is not enough for a set of ``k`` that misses a value.

- RA-3 (:func:`check_printed_bound`): by RA-1 the bound is right at ``k`` exactly if ``R(k, k) ≤ (2^(k+2) + 2)/3``. It
  is, for ``k ≤ 4``. It is not for ``k = 6``: three classes on Paley's graph of 101 vertices make 303 points, of which
  256 are enough, without a 6-set that misses a value. Nor for ``k = 7``: the same on Shearer's doubling of that graph.
  At ``k = 5`` it is right exactly if ``R(5, 5) = 43``, which nobody knows. ``2^(2k+2)`` points are enough (RA-2).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from proofs import recheck
from proofs.colourings import (
    Colouring,
    Graph,
    clique_number,
    complement,
    doubled,
    largest_sets,
    paley,
    rows,
    three_classes,
)
from proofs.counterexamples import publish
from proofs.known_values import LITERATURE, known_values, searched_here
from proofs.ramsey import parity_bound
from sensverify.claims import Finding, Run, Status
from sensverify.exhibits import Table


def bound_is_enough(k: int, ramsey_number: int) -> bool:
    """Whether ``2^(k+2)`` points force a ``k``-set that misses a value, given ``R(k, k)`` (by RA-1)."""
    points: int = 2 ** (k + 2)
    return 3 * ramsey_number - 2 <= points


def judge(table: Colouring, k: int) -> tuple[dict[int, int], Mapping[str, Any] | None]:
    """The sizes of the largest sets missing each value, and a set of ``k`` or more if there is one."""
    sets = largest_sets(table)
    value, points = max(sets.items(), key=lambda item: len(item[1]))
    sizes = {missed: len(found) for missed, found in sets.items()}
    if len(points) < k:
        return sizes, None
    return sizes, {"set": points[:k], "missed_value": value}


def check_printed_bound(run: Run) -> Finding:
    """RA-3."""
    return refute_bound(run, graph=paley(101), k=6, also_doubled=True)


def refute_bound(run: Run, *, graph: Graph, k: int, also_doubled: bool = False) -> Finding:
    """Refute the printed bound at ``k`` by three classes on ``graph``: exact search here, another in the re-check."""
    table = three_classes(graph)
    size = len(graph)
    sizes, found = judge(table, k)
    subset = _subset(size, 2 ** (k + 2))
    if found is not None or not subset:
        doubt = {"k": k, "points": len(table), "reason": "this colouring does not refute the bound", **(found or {})}
        return Finding(status=Status.INCONCLUSIVE, evidence=doubt)
    witness = {
        **_witness(table, k, sizes),
        "subset_256": subset,
        "largest_set_missing_in_subset": {
            str(value): len(points) for value, points in largest_sets(table[np.ix_(subset, subset)]).items()
        },
        "construction": f"three classes on Paley's graph of {size} vertices",
    }
    objections = recheck.recheck_colouring(witness)
    if objections:
        return Finding(status=Status.INCONCLUSIVE, evidence={"objections": objections})
    publish(run, "RA-3", witness)
    rows_by_k = {j: _quoted(j) for j in range(2, 6)}
    rows_by_k[k] = _shown(k, size + 1)
    evidence: dict[str, Any] = {
        "refuted_at": {"k": k, "points_needed": 2 ** (k + 2), "points": len(table), "largest_set": max(sizes.values())},
        "searched": "exactly, by branch and bound, and once more by the stand-alone re-check, which searches otherwise",
        "repair": "2^(2k+2) points are enough: 3·4^(k−1) points already force a k-set (RA-2)",
    }
    shown = {**searched_here(run), k: size + 1}
    if also_doubled:
        evidence["searched_at_k_plus_1"] = run.shared(f"proofs: doubled {k + 1}", lambda: _doubled(run, graph, k + 1))
        if evidence["searched_at_k_plus_1"]["stands"]:
            shown[k + 1] = 2 * (size + 1) + 1
            rows_by_k[k + 1] = _shown(k + 1, shown[k + 1])
    by_k = _by_k(rows_by_k)
    evidence["by_k"] = [dict(zip(_COLUMNS, row, strict=True)) for row in by_k]
    exhibit = Table(
        title="Where the printed bound holds",
        caption="$2^{k+2}$ points force a set of $k$ that misses a value exactly if $R(k,k) \\leq (2^{k+2}+2)/3$. What "
        "refutes the bound is shown here; what is quoted is not checked.",
        columns=_COLUMNS,
        rows=by_k,
    )
    return Finding(status=Status.REFUTED, evidence=evidence, witness=witness, exhibits=(exhibit, known_values(shown)))


def _witness(table: Colouring, k: int, sizes: Mapping[int, int]) -> dict[str, Any]:
    """What a published colouring says of itself; a subset is added where fewer points are enough."""
    return {
        "kind": "colouring",
        "k": k,
        "points": len(table),
        "values": [0, 1, 2],
        "F": rows(table),
        "reading": "F[i][j] is the digit j of row i; F is symmetric; a set S misses y if F[a][b] is not y for all a, b "
        "in S, a = b included; no set of k points misses a value, neither of all points nor of the subset",
        "largest_set_missing": {str(value): count for value, count in sizes.items()},
    }


def _doubled(run: Run, graph: Graph, k: int) -> dict[str, Any]:
    """The bound at ``k`` on three classes of the doubled graph: by its cliques and independent sets (RA-1).

    In the full profile all points of the colouring are searched too, and the witness is published.
    """
    larger = doubled(graph)
    label = f"RA-3: exact search in the doubled graph, k = {k}"
    sizes = []
    for done, side in enumerate((larger, complement(larger))):
        run.progress(label, done, 4)
        sizes.append(clique_number(side))
    points = 3 * len(larger)
    result = {
        "k": k,
        "points_needed": 2 ** (k + 2),
        "points": points,
        "largest_clique_and_independent_set": sizes,
        "stands": max(sizes) < k and points >= 2 ** (k + 2),
    }
    if run.profile == "full" and result["stands"]:
        run.progress(label, 2, 4)
        table = three_classes(larger)
        witness = {
            **_witness(table, k, judge(table, k)[0]),
            "subset": _subset(len(larger), 2 ** (k + 2)),
            "construction": f"three classes on the doubling of Paley's graph of {len(graph)} vertices (Shearer 1986)",
        }
        run.progress(label, 3, 4)
        objections = recheck.recheck_colouring(witness)
        result["stands"] = not objections
        if objections:
            result["objections"] = objections
        else:
            result["published"] = publish(run, f"RA-3-k{k}", witness).name
    run.progress(label, 4, 4)
    return result


def _subset(class_size: int, points: int) -> Sequence[int]:
    """The first points of each of three classes, as even as can be; empty if there are not so many."""
    shares = [-(-(points - i) // 3) for i in range(3)]
    if max(shares) > class_size:
        return []
    return [b * class_size + i for b, share in enumerate(shares) for i in range(share)]


_COLUMNS = ("k", "R(k,k)", "enough if R(k,k) is at most", "printed bound", "R(k,k): at least, at most, by")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """``low ≤ R(k, k) ≤ high``, and who says so."""

    low: int
    high: int
    source: str


def _quoted(k: int) -> Interval:
    """What the literature says; the recursion where it says nothing."""
    known = LITERATURE[k]
    high, source = (known.upper, known.upper_source) if known.upper else (parity_bound(k, k), "the recursion of RA-2")
    return Interval(low=known.lower, high=high, source=f"{known.lower_source}; {source}")


def _shown(k: int, low: int) -> Interval:
    """A lower bound that was searched here, beside the same upper bound as in the table of what is known."""
    known = LITERATURE.get(k)
    if known is None or known.upper is None:
        return Interval(low=low, high=parity_bound(k, k), source="shown here; the recursion of RA-2")
    return Interval(low=low, high=known.upper, source=f"shown here; {known.upper_source}")


def _by_k(intervals: Mapping[int, Interval]) -> list[tuple[Any, ...]]:
    """What is known of ``R(k, k)`` decides the printed bound, or does not."""
    result = []
    for k, interval in sorted(intervals.items()):
        verdict = Status.INCONCLUSIVE.value
        if bound_is_enough(k, interval.high):
            verdict = "holds"
        elif not bound_is_enough(k, interval.low):
            verdict = Status.REFUTED.value
        number = str(interval.low) if interval.low == interval.high else f"{interval.low} to {interval.high}"
        result.append((k, number, (2 ** (k + 2) + 2) // 3, verdict, interval.source))
    return result


def twin_no_five(run: Run) -> Finding:
    """False: no 5-set of the 303 points misses a value, which would refute the bound at ``k = 5`` as well."""
    sizes, found = judge(three_classes(paley(101)), 5)
    if found is None:
        return Finding(status=Status.INCONCLUSIVE, evidence={"largest_sets": {str(v): s for v, s in sizes.items()}})
    witness = {"construction": "three classes on Paley's graph of 101 vertices", **found}
    return Finding(status=Status.REFUTED, evidence={"k": 5}, witness=witness)
