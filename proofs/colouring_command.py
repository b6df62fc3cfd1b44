"""What ``sensverify colouring`` finds out about a symmetric colouring: a large set that misses a value.

Three answers, from certain and coarse to exact and slow: what its number of points and values guarantees (RA-1, RA-2,
RA-8); what the finder returns (RA-6); and the largest set, by exact clique search, or bounds where the time ran out.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from proofs.clique import masks, search_clique
from proofs.colouring_input import Given, read
from proofs.colourings import values_on
from proofs.finder import Found, find_missing_set, plan
from proofs.more_values import THREE
from proofs.ramsey import parity_bound
from sensverify.claims import Progress, silent
from sensverify.colouring import ColouringAnswer, ColouringRequest
from sensverify.errors import InputError
from sensverify.exhibits import Heatmap

_MOST_SHOWN, _MOST_LABELS, _MOST_LISTED = 96, 6, 1000  # points and values in the picture, values in the record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Largest:
    """The largest set found, the value (as an index) that it misses, and a bound that holds whatever was searched."""

    points: Sequence[int]
    missed: int | None
    at_most: int
    seconds: float

    @property
    def is_optimal(self) -> bool:
        """Whether the search came to its end."""
        return len(self.points) == self.at_most


def examine(request: ColouringRequest, progress: Progress = silent) -> ColouringAnswer:
    """Find large sets that miss a value, verify them, and say what is certain.

    Raises :class:`~sensverify.errors.InputError` for a request that cannot be met.
    """
    if request.k is not None and request.k < 1:
        raise InputError(expected="--k of at least 1", got=str(request.k), remedy="pass --k 1 or more")
    if not (math.isfinite(request.seconds) and request.seconds >= 0):
        got, remedy = str(request.seconds), "pass --time-limit 60"
        raise InputError(expected="--time-limit of 0 seconds or more", got=got, remedy=remedy)
    given = read(request)
    n, r = len(given.table), len(given.values)
    certain = guaranteed(n, r)
    found = None
    if r >= 3:
        found = find_missing_set(lambda a, b: int(given.table[a, b]), n, values=range(r))
        _verify(given, found.points, found.missed, certain=found.guaranteed)
    largest = find_largest(given, found, request.seconds, progress)
    if largest.missed is not None:
        _verify(given, largest.points, largest.missed, certain=certain if largest.is_optimal else 0)
    document = _document(given, request, certain, found, largest)
    return ColouringAnswer(
        facts=_facts(given, request, certain, found, largest),
        document=document,
        exhibits=(_picture(given, largest),) if largest.points else (),
    )


def guaranteed(n: int, r: int) -> int:
    """The size that ``n`` points and ``r`` values make certain, by what is proved here."""
    size = plan(n, r).size
    if r >= 3:  # the parity step of RA-2 is sharper than the finder's binomial; RA-8 has N_r(3) exactly
        sharper = itertools.takewhile(lambda k: r * (parity_bound(k, k) - 1) // (r - 2) + 1 <= n, itertools.count(1))
        size = max(size, *sharper, 3 if n >= THREE[min(r, 7)] else 0)
    return size


def find_largest(given: Given, found: Found | None, seconds: float, progress: Progress) -> Largest:
    """Exact search for each value in turn, the rarest first, the remaining time shared among those that remain.

    Every value is taken somewhere, so that not all points miss it; nor do those that have it on the diagonal.
    """
    table, count, everyone = given.table, len(given.values), len(given.table) - 1
    start = time.monotonic()
    best: list[int] = sorted(found.points) if found else []
    missed = found.missed if found else None
    at_most = len(best)
    on_diagonal = np.bincount(table.diagonal(), minlength=count)
    rarest_first = np.argsort(np.bincount(table.ravel(), minlength=count), kind="stable")
    for done, value in enumerate(rarest_first.tolist()):
        limit = min(everyone, len(table) - int(on_diagonal[value]))
        if len(best) >= everyone:
            break
        if len(best) >= limit:
            continue
        left = seconds - (time.monotonic() - start)
        if left <= 0:
            at_most = max(at_most, limit)
            continue
        progress("exact search, by value", done, count)
        allowed = table != value
        points = np.flatnonzero(allowed.diagonal())
        graph = allowed[np.ix_(points, points)] & ~np.eye(len(points), dtype=bool)
        clique = search_clique(masks(graph), seconds=left / (count - done), more_than=len(best))
        if len(clique.vertices) > len(best):
            best, missed = [int(points[v]) for v in clique.vertices], value
        at_most = max(at_most, min(clique.at_most, limit))
    progress("exact search, by value", count, count)
    at_most = max(len(best), min(at_most, everyone))
    return Largest(points=best, missed=missed, at_most=at_most, seconds=time.monotonic() - start)


def _verify(given: Given, points: Sequence[int], missed: int, *, certain: int) -> None:
    """A result that is wrong must not be told; it would be a defect of ours."""
    if missed in values_on(given.table, points) or len(set(points)) != len(points) or len(points) < certain:
        raise AssertionError(f"a set of {len(points)} points was to miss the value {given.values[missed]}")


def _document(
    given: Given, request: ColouringRequest, certain: int, found: Found | None, largest: Largest
) -> dict[str, Any]:
    def named(points: Sequence[int]) -> list[int]:
        return [given.names[point] for point in points]

    finder = None
    if found is not None:
        finder = {
            "size": len(found.points),
            "points": named(found.points),
            "missed": given.values[found.missed],
            "guaranteed": found.guaranteed,
            "evaluations": found.evaluations,
        }
    return {
        "source": given.source,
        "read_as": given.read_as,
        "points": len(given.table),
        "values": list(given.values[:_MOST_LISTED]),
        "value_count": len(given.values),
        "symmetric": True,
        "guaranteed": certain,
        "finder": finder,
        "largest": {
            "size": len(largest.points),
            "points": named(largest.points),
            "missed": None if largest.missed is None else given.values[largest.missed],
            "at_most": largest.at_most,
            "optimal": largest.is_optimal,
            "seconds": round(largest.seconds, 3),
            "time_limit": request.seconds,
        },
        "asked": None if request.k is None else {"k": request.k, "answer": _answer(request.k, certain, largest)},
    }


def _answer(k: int, certain: int, largest: Largest) -> str:
    """What becomes of the question for ``k`` points, in a word."""
    if k <= certain:
        return "guaranteed"
    if k <= len(largest.points):
        return "found"
    return "impossible" if k > largest.at_most else "undecided"


def _facts(
    given: Given, request: ColouringRequest, certain: int, found: Found | None, largest: Largest
) -> Mapping[str, str]:
    n, r = len(given.table), len(given.values)
    labels = ", ".join(map(str, given.values[:12])) + (", …" if r > 12 else "")
    size = f"{_count(n, 'point')}, {_count(r, 'value')} ({labels})"
    facts = {"colouring": f"{given.source} ({given.read_as}): {size}, symmetric"}
    if r == 1:
        facts["guaranteed"] = "nothing: with one value every point takes it, so only the empty set misses one"
    elif r == 2:
        facts["guaranteed"] = (
            "1 point: with two values, missing one is being constant, diagonal included, and no number of points "
            "forces two such points (RA-5)"
        )
    else:
        every = f"for every F on {_count(n, 'point')} with {r} values"
        facts["guaranteed"] = f"{_count(certain, 'point')} missing a value, {every}"
    if found is not None:
        size, value = _count(len(found.points), "point"), given.values[found.missed]
        calls = f"{found.evaluations:,} of {n * (n + 1) // 2:,} evaluations of F"
        facts["finder"] = f"{size} missing {value}, after {calls}"
    size = _count(len(largest.points), "point")
    missing = "" if largest.missed is None else f" missing {given.values[largest.missed]}"
    if largest.is_optimal:
        facts["largest"] = f"{size}{missing}: optimal, by exact search in {largest.seconds:.2g} s"
    else:
        stopped = f"the search stopped after {largest.seconds:.3g} s"
        facts["largest"] = f"at least {size}{missing}, at most {largest.at_most}; {stopped}"
    if largest.points:
        names = [str(given.names[point]) for point in largest.points]
        facts["set"] = ", ".join(names[:40]) + (f", … ({len(names)} in all)" if len(names) > 40 else "")
    if request.k is not None:
        facts[f"k = {request.k}"] = {
            "guaranteed": "guaranteed by the number of points and values, "
            + ("and found" if request.k <= len(largest.points) else "but not found within the time limit"),
            "found": "found, though not guaranteed",
            "impossible": "impossible: exact search excludes it",
            "undecided": "undecided within the time limit: neither found nor excluded",
        }[_answer(request.k, certain, largest)]
    return facts


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _picture(given: Given, largest: Largest) -> Heatmap:
    """The table with the set first and framed, the others by their diagonal value; a sample of many points."""
    inside = list(largest.points)[: _MOST_SHOWN // 2]
    members = set(largest.points)
    others = sorted((p for p in range(len(given.table)) if p not in members), key=lambda p: (given.table[p, p], p))
    room = _MOST_SHOWN - len(inside)
    if len(others) > room:
        others = [others[i * len(others) // room] for i in range(room)]
    shown = [*inside, *others]
    cells = given.table[np.ix_(shown, shown)]
    missed = given.values[largest.missed] if largest.missed is not None else None
    if len(given.values) <= _MOST_LABELS:
        categories = [f"F = {value}" for value in given.values]
    else:
        cells = (cells == largest.missed).astype(int)
        categories = ["another value", f"F = {missed}"]
    part = (
        "" if len(shown) == len(given.table) else f" Shown: {len(shown)} of {len(given.table)} points, evenly chosen."
    )
    frame = (
        "" if len(inside) == len(largest.points) else f" The frame holds {len(inside)} of its {len(largest.points)}."
    )
    return Heatmap(
        title=f"F on {_count(len(given.table), 'point')}",
        caption=f"The {_count(len(inside), 'point')} of the set come first and are framed, the others follow by their "
        f"diagonal value. No cell in the frame has the colour of {missed}.{frame}{part}",
        x_label="point",
        y_label="point",
        values=cells.tolist(),
        rows=[str(given.names[point]) for point in shown],
        columns=[str(given.names[point]) for point in shown],
        categories=categories,
        outline=(0, len(inside), 0, len(inside)),
    )
