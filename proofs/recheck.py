"""Check a published witness with the standard library and networkx, and nothing of this project.

Run as ``python recheck.py witnesses/RA-3.json``: exit code 0 if the witness refutes what it says it refutes, 1
with the objections if not. The functions return the list of objections, empty for a good witness.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from math import isqrt
from pathlib import Path
from typing import Any

import networkx


def recheck_colouring(witness: Mapping[str, Any]) -> list[str]:
    """Does this symmetric ``F`` have no set of ``k`` points that misses a value, on ``2^(k+2)`` points or more?

    Every value's claimed largest set is compared with an exact clique search, on all points and on the subset.
    """
    k, rows, values = witness["k"], witness["F"], witness["values"]
    n = len(rows)
    if n != witness["points"] or any(len(row) != n for row in rows):
        return ["F is not a square table of the stated size"]
    if set("".join(rows)) - {str(value) for value in values} or len(values) != 3:
        return ["F takes other values than the three stated"]
    if any(rows[i][j] != rows[j][i] for i in range(n) for j in range(i)):
        return ["F is not symmetric"]
    objections = []
    subset = witness.get("subset_256", [])
    if subset and (len(set(subset)) != len(subset) or not set(subset) <= set(range(n))):
        return ["the subset repeats a point or leaves the table"]
    for name, points in (("all points", range(n)), ("the subset", subset)):
        if points and len(points) < 2 ** (k + 2):
            objections.append(f"{name}: {len(points)} points are fewer than 2^(k+2)")
        for value in values if points else ():
            largest = _largest_set_missing(rows, str(value), points)
            if largest >= k:
                objections.append(f"{name}: a set of {largest} points misses the value {value}")
            if name == "all points" and largest != witness["largest_set_missing"][str(value)]:
                objections.append(f"the largest set missing {value} has {largest} points, not as stated")
    return objections


def _largest_set_missing(rows: Sequence[str], value: str, points: Iterable[int]) -> int:
    """The exact size of the largest set of ``points`` on which ``F`` never takes ``value``, diagonal included."""
    free = [i for i in points if rows[i][i] != value]
    graph: networkx.Graph[int] = networkx.Graph()
    graph.add_nodes_from(free)
    graph.add_edges_from((i, j) for i in free for j in free if i < j and rows[i][j] != value)
    sizes = [
        networkx.max_weight_clique(graph.subgraph(part), weight=None)[1]
        for part in networkx.connected_components(graph)
    ]
    return max(sizes, default=0)


def recheck_block(witness: Mapping[str, Any]) -> list[str]:
    """Does this pre-norm block break the law it says it breaks? In exact rational arithmetic."""
    x = [Fraction(value) for value in witness["x"]]
    k = Fraction(witness["k"])
    if k <= 0:
        return ["k is not positive"]
    at_x, at_kx = (_block(witness["branches"], point) for point in (x, [k * a for a in x]))
    if at_x is None or at_kx is None:
        return ["the variance is zero or not the square of a rational"]
    objections = []
    for name, value in (("F(x)", at_x), ("F(kx)", at_kx), ("kF(x)", [k * a for a in at_x])):
        if value != [Fraction(a) for a in witness[name]]:
            objections.append(f"{name} is {[str(a) for a in value]}, not as stated")
    parallel = _dot(at_x, at_kx) ** 2 == _dot(at_x, at_x) * _dot(at_kx, at_kx)
    holds = {
        "F(kx) = kF(x)": at_kx == [k * a for a in at_x],
        "F(kx) = F(x)": at_kx == at_x,
        "F(kx) is parallel to F(x)": parallel,
    }
    if holds[witness["law"]]:
        objections.append(f"the law {witness['law']} holds here")
    return objections


def _block(branches: Sequence[Sequence[Sequence[Any]]], x: Sequence[Fraction]) -> list[Fraction] | None:
    """``x + Σ W·LN(x)``, or None where the standard deviation is not a positive rational."""
    mean = sum(x, Fraction(0)) / len(x)
    variance = sum(((a - mean) ** 2 for a in x), Fraction(0)) / len(x)
    deviation = Fraction(isqrt(variance.numerator), isqrt(variance.denominator))
    if deviation == 0 or deviation**2 != variance:
        return None
    normed = [(a - mean) / deviation for a in x]
    outputs = [[_dot([Fraction(w) for w in row], normed) for row in matrix] for matrix in branches]
    return [a + sum((output[i] for output in outputs), Fraction(0)) for i, a in enumerate(x)]


def _dot(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    return sum((p * q for p, q in zip(a, b, strict=True)), Fraction(0))


CHECKERS: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "pre-norm block": recheck_block,
    "colouring": recheck_colouring,
}


def recheck(witness: Mapping[str, Any]) -> list[str]:
    """The objections to a witness, by the checker of its kind."""
    checker = CHECKERS.get(witness.get("kind", ""))
    if checker is None:
        return [f"expected a witness of a kind among {', '.join(CHECKERS)}, got {witness.get('kind')!r}"]
    return checker(witness)


def main(arguments: Sequence[str]) -> int:
    """Re-check the witness files named; the exit code counts for a script, the text for a person."""
    faults = 0
    for name in arguments:
        objections = recheck(json.loads(Path(name).read_text(encoding="utf-8")))
        sys.stdout.write(f"{name}: {'; '.join(objections) or 'the witness stands'}\n")
        faults += bool(objections)
    return 1 if faults or not arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
