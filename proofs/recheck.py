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
    k, rows, values = _whole(witness["k"], least=2), _table(witness), [str(value) for value in witness["values"]]
    n = len(rows)
    if set("".join(rows)) - set(values) or len(set(values)) != 3 or len(values) != 3:
        return ["F takes other values than the three different ones stated"]
    if any(rows[i][j] != rows[j][i] for i in range(n) for j in range(i)):
        return ["F is not symmetric"]
    objections = []
    subset = witness.get("subset_256") or witness.get("subset", [])
    if subset and (len(set(subset)) != len(subset) or not set(subset) <= set(range(n))):
        return ["the subset repeats a point or leaves the table"]
    for name, points in (("all points", range(n)), ("the subset", subset)):
        if len(points) < 2 ** (k + 2) and (points or name == "all points"):
            objections.append(f"{name}: {len(points)} points are fewer than 2^(k+2)")
        for value in values if points else ():
            largest = _largest_set_missing(rows, value, points)
            if largest >= k:
                objections.append(f"{name}: a set of {largest} points misses the value {value}")
            if name == "all points" and largest != witness["largest_set_missing"][value]:
                objections.append(f"the largest set missing {value} has {largest} points, not as stated")
    return objections


def _whole(value: Any, *, least: int) -> int:
    """``value`` if it is a whole number of at least ``least``; raises ``ValueError`` if not."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"expected a whole number of at least {least}, got {value!r}")
    return value


def _table(witness: Mapping[str, Any]) -> Sequence[str]:
    """The square table ``F`` as rows of digits, of the size stated; raises ``ValueError`` if it is none."""
    rows, n = witness["F"], _whole(witness["points"], least=1)
    if len(rows) != n or any(not isinstance(row, str) or len(row) != n for row in rows):
        raise ValueError(f"expected F to be {n} rows of {n} digits")
    return list(rows)


def _matrix(matrix: Any, columns: int, rows: int | None = None) -> list[list[Fraction]]:
    """A matrix of fractions of that size; raises ``ValueError`` if it has another."""
    if not matrix or any(len(row) != columns for row in matrix) or len(matrix) != (rows or len(matrix)):
        raise ValueError(f"expected a matrix of {rows or 'some'} rows of {columns}")
    return [[Fraction(entry) for entry in row] for row in matrix]


_MOST_FOR_NETWORKX = 128  # points; on 303 and 256 it takes 3 s, the search below 0.2 s; on 612 half a minute and 4 s


def _largest_set_missing(rows: Sequence[str], value: str, points: Iterable[int]) -> int:
    """The exact size of the largest set of ``points`` on which ``F`` never takes ``value``, diagonal included."""
    free = [i for i in points if rows[i][i] != value]
    graph: networkx.Graph[int] = networkx.Graph()
    graph.add_nodes_from(free)
    graph.add_edges_from((i, j) for i in free for j in free if i < j and rows[i][j] != value)
    parts = [graph.subgraph(part) for part in networkx.connected_components(graph)]
    if len(rows) <= _MOST_FOR_NETWORKX:
        sizes = [networkx.max_weight_clique(part, weight=None)[1] for part in parts]
    else:
        sizes = [_clique_number(part) for part in parts]
    return max(sizes, default=0)


def _clique_number(graph: networkx.Graph[int]) -> int:
    """The size of a largest clique by Östergård's search: vertex by vertex from the last, each with all later ones.

    ``known[i]`` is the largest clique of the vertices from ``i`` on; it grows by one at most from ``i + 1`` to ``i``.
    """
    place = {v: i for i, v in enumerate(sorted(graph, key=graph.degree))}
    later = [0] * len(place)
    for u, v in graph.edges:
        first, second = sorted((place[u], place[v]))
        later[first] |= 1 << second
    known = [0] * len(place)

    def larger(candidates: int, size: int, best: int) -> bool:
        if not candidates:
            return size > best
        while candidates and size + candidates.bit_count() > best:
            bit = candidates & -candidates
            v = bit.bit_length() - 1
            if size + known[v] <= best:
                return False
            candidates ^= bit
            if larger(candidates & later[v], size + 1, best):
                return True
        return False

    best = 0
    for v in reversed(range(len(place))):
        best += larger(later[v], 1, best)
        known[v] = best
    return best


def recheck_constant(witness: Mapping[str, Any]) -> list[str]:
    """Does this symmetric ``F`` have no set of ``k ≥ 2`` points on which it is constant, diagonal included?

    By a rule, for any number of points, and written out for some.
    """
    rows, rule = _table(witness), witness["rule"]
    n = len(rows)
    if n < _whole(witness["k"], least=2):
        return ["the table has fewer than k points"]
    objections = []
    if rule["diagonal"] == rule["pairs"]:
        objections.append("the rule is constant")
    stated = (str(rule["diagonal"]), str(rule["pairs"]))
    if any(rows[i][j] != stated[i != j] for i in range(n) for j in range(n)):
        objections.append("the table does not follow the rule")
    if any(rows[i][i] == rows[j][j] == rows[i][j] == rows[j][i] for i in range(n) for j in range(i)):
        objections.append("F is constant on a pair")
    return objections


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


def recheck_unit_norm_score(witness: Mapping[str, Any]) -> list[str]:
    """Is the unit-norm score of this block above the stated value at the null rotation? In exact arithmetic."""
    x: list[Fraction] = [Fraction(value) for value in witness["x"]]
    s: list[Fraction] = [Fraction(value) for value in witness["s"]]
    alpha, at_most = Fraction(witness["alpha"]), Fraction(witness["at_most"])
    if not 0 <= at_most < 1:
        return ["the stated bound on the score is not in [0, 1)"]
    length = _root(_dot(x, x))
    if not length or any(sum(v, Fraction(0)) for v in (x, s)) or _dot(s, s) != 1:
        return ["x is not centred with a positive rational norm, or s is no centred unit vector"]
    if _dot(x, s) != alpha * length:
        return ["alpha is not the presence of s in x: this is no null rotation"]
    if abs(alpha) == 1:
        return ["x is parallel to s, where v is not defined"]
    side = [a - alpha * length * b for a, b in zip(x, s, strict=True)]  # its norm is ‖x‖√(1−α²), so √(1−α²)v is:
    rotated = [alpha * b + c / length for b, c in zip(s, side, strict=True)]
    before, after = (_block(witness["branches"], point) for point in (x, rotated))
    if before is None or after is None:
        return ["the variance is zero or not the square of a rational"]
    objections = []
    for name, value in (("F(x)", before), ("F(x')", after)):
        if value != [Fraction(a) for a in witness[name]]:
            objections.append(f"{name} is {[str(a) for a in value]}, not as stated")
    lengths, product = _dot(before, before) * _dot(after, after), _dot(before, after)
    if lengths == 0:
        return [*objections, "F(x) or F(x') is zero and has no direction"]
    sign = (product > 0) - (product < 0)
    if Fraction(witness["cosine_squared"]) != product**2 / lengths or witness["cosine_sign"] != sign:
        objections.append("the cosine is not as stated")
    least = 1 - 2 * at_most  # the score is above at_most exactly if the cosine is below this
    below = (
        product < 0 or product**2 < least**2 * lengths
        if least >= 0
        else product < 0 and product**2 > least**2 * lengths
    )
    if not below:
        objections.append(f"the score is at most {at_most} here")
    return objections


def opposite_scores(witness: Mapping[str, Any]) -> tuple[Fraction, Fraction] | None:
    """The scores of ``s`` and of ``−s``, or None where a root is irrational or a read-out is zero."""
    direction, alpha = [Fraction(c) for c in witness["direction"]], Fraction(witness["alpha"])
    matrix = _matrix(witness["W"], len(direction))
    units: Callable[[Fraction], Fraction] = {
        "identity": lambda value: value,
        "relu": lambda value: max(value, Fraction(0)),
        "absolute value": abs,
    }[witness["activation"]]
    contexts = _matrix(witness["contexts"], len(direction))
    if abs(alpha) > 1:
        return None
    scores = []
    for s in (direction, [-c for c in direction]):
        total = Fraction(0)
        for x in contexts:
            side = [a - _dot(x, s) * b for a, b in zip(x, s, strict=True)]
            length, width, height = _root(_dot(x, x)), _root(_dot(side, side)), _root(1 - alpha**2)
            if _dot(s, s) != 1 or not length or not width or height is None:
                return None
            moved = [length * (alpha * b + height * c / width) for b, c in zip(s, side, strict=True)]
            before, after = ([units(_dot(row, point)) for row in matrix] for point in (x, moved))
            lengths = _root(_dot(before, before) * _dot(after, after))
            if not lengths:
                return None
            total += (1 - _dot(before, after) / lengths) / 2
        scores.append(total / len(contexts))
    return scores[0], scores[1]


def recheck_opposite(witness: Mapping[str, Any]) -> list[str]:
    """Do ``s`` and ``−s`` have the different scores stated? In exact rational arithmetic."""
    scores = opposite_scores(witness)
    if scores is None:
        return ["a norm or a cosine is irrational or zero, or the direction is no unit vector"]
    objections = []
    for name, score in zip(("score_plus", "score_minus"), scores, strict=True):
        if score != Fraction(witness[name]):
            objections.append(f"{name} is {score}, not as stated")
    if scores[0] == scores[1]:
        objections.append("both directions have the same score here")
    return objections


def _root(square: Fraction) -> Fraction | None:
    """The rational root, or None if there is none."""
    root = Fraction(isqrt(square.numerator), isqrt(square.denominator))
    return root if root**2 == square else None


def _block(branches: Sequence[Sequence[Sequence[Any]]], x: Sequence[Fraction]) -> list[Fraction] | None:
    """``x + Σ W·LN(x)``, or None where the standard deviation is not a positive rational."""
    mean = sum(x, Fraction(0)) / len(x)
    variance = sum(((a - mean) ** 2 for a in x), Fraction(0)) / len(x)
    deviation = Fraction(isqrt(variance.numerator), isqrt(variance.denominator))
    if deviation == 0 or deviation**2 != variance:
        return None
    normed = [(a - mean) / deviation for a in x]
    outputs = [[_dot(row, normed) for row in _matrix(matrix, len(x), len(x))] for matrix in branches]
    return [a + sum((output[i] for output in outputs), Fraction(0)) for i, a in enumerate(x)]


def _dot(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    return sum((p * q for p, q in zip(a, b, strict=True)), Fraction(0))


def recheck_shift(witness: Mapping[str, Any]) -> list[str]:
    """Does RMSNorm give another output for ``x + c1`` than for ``x``? Each output as squares with their signs."""
    x, shift = [Fraction(value) for value in witness["x"]], Fraction(witness["c"])
    _whole(len(x), least=2)
    outputs = {"RMS(x)": _signed_squares(x), "RMS(x + c1)": _signed_squares([a + shift for a in x])}
    if not all(outputs.values()):
        return ["RMSNorm is undefined at the zero vector"]
    objections = _disagreements(witness, outputs)
    if outputs["RMS(x)"] == outputs["RMS(x + c1)"]:
        objections.append("the shift is not seen here")
    return objections


def recheck_post_norm(witness: Mapping[str, Any]) -> list[str]:
    """Does the block ``F(x) = LN(x + Wx + b)`` break the law? Outputs as squares with their signs."""
    x, k, bias = [Fraction(a) for a in witness["x"]], Fraction(witness["k"]), [Fraction(a) for a in witness["b"]]
    if k <= 0:
        return ["k is not positive"]
    matrix = _matrix(witness["W"], len(x), len(x))
    inside = []
    for point in (x, [k * a for a in x]):
        branch = [_dot(row, point) for row in matrix]
        inside.append(_centred([a + f + b for a, f, b in zip(point, branch, bias, strict=True)]))
    at_x, at_kx = (_signed_squares(vector) for vector in inside)
    if not at_x or not at_kx:
        return ["LayerNorm is undefined at a constant vector"]
    scaled = [k * k * a for a in at_x]
    objections = _disagreements(witness, {"F(x)": at_x, "F(kx)": at_kx, "kF(x)": scaled})
    holds = {
        "F(kx) = F(x)": at_kx == at_x,
        "F(kx) = kF(x)": at_kx == scaled,
        "F(kx) is parallel to F(x)": at_kx in (at_x, [-a for a in at_x]),
    }
    if holds[witness["law"]]:
        objections.append(f"the law {witness['law']} holds here")
    return objections


def recheck_gain(witness: Mapping[str, Any]) -> list[str]:
    """Is a presence another one after the gain, while folding the gain into the next map leaves its output alone?"""
    x, s = (_centred([Fraction(a) for a in witness[name]]) for name in ("x", "s"))
    gain = [Fraction(a) for a in witness["gain"]]
    folded = [[w * g for w, g in zip(row, gain, strict=True)] for row in _matrix(witness["W"], len(gain))]
    gained = [[g * a for g, a in zip(gain, vector, strict=True)] for vector in (x, s)]
    if not all(map(any, (x, s, *gained))):
        return ["a presence of or in the zero vector is undefined"]
    presences = {
        "before": _signed_cosine(x, s),
        "after": _signed_cosine(*gained),
        "after_of_s": _signed_cosine(gained[0], s),
    }
    objections = []
    if [[Fraction(w) for w in row] for row in witness["folded_W"]] != folded:
        objections.append("folded_W is not W times the gain, column by column")
    for name, value in presences.items():
        if Fraction(witness["presence"][name]) != value:
            objections.append(f"the presence {name} is {value}, not as stated")
    if presences["before"] in (presences["after"], presences["after_of_s"]):
        objections.append("the presence does not change here")
    return objections


def _centred(vector: Sequence[Fraction]) -> list[Fraction]:
    mean = sum(vector, Fraction(0)) / len(vector)
    return [a - mean for a in vector]


def _signed_squares(vector: Sequence[Fraction]) -> list[Fraction]:
    """``sign(a)·a²`` of the coordinates over the root mean square, rational where the root is not; empty for zero."""
    mean_square = _dot(vector, vector) / len(vector)
    return [a * abs(a) / mean_square for a in vector] if mean_square else []


def _signed_cosine(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    """``sign(cos)·cos²``, rational where the cosine is not."""
    return _dot(a, b) * abs(_dot(a, b)) / (_dot(a, a) * _dot(b, b))


def _disagreements(witness: Mapping[str, Any], outputs: Mapping[str, Sequence[Fraction]]) -> list[str]:
    return [
        f"{name} is {[str(a) for a in value]}, not as stated"
        for name, value in outputs.items()
        if [Fraction(a) for a in witness[name]] != list(value)
    ]


def recheck_no_such_set(witness: Mapping[str, Any]) -> list[str]:
    """Do these ``factor·base^k`` points or more have no ``k`` on which ``F`` misses a value, or is constant?"""
    k, rows = _whole(witness["k"], least=1), _table(witness)
    n = len(rows)
    if set("".join(rows)) - set("012"):
        return ["F takes other values than 0, 1 and 2"]
    objections = []
    if n < _whole(witness["factor"], least=1) * _whole(witness["base"], least=2) ** k:
        objections.append("the points are too few for the statement to speak of them")
    if witness["symmetric"] and any(rows[i][j] != rows[j][i] for i in range(n) for j in range(i)):
        objections.append("F is not symmetric")
    for value in "012":
        allowed = {"misses": set("012") - {value}, "constant": {value}}[witness["reading"]]
        free = [i for i in range(n) if rows[i][i] in allowed]
        graph: networkx.Graph[int] = networkx.Graph()
        graph.add_nodes_from(free)
        graph.add_edges_from((i, j) for i in free for j in free if i < j and {rows[i][j], rows[j][i]} <= allowed)
        if networkx.max_weight_clique(graph, weight=None)[1] >= k:
            objections.append(f"with the value {value} there is such a set")
    return objections


CHECKERS: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "pre-norm block": recheck_block,
    "post-norm block": recheck_post_norm,
    "shift of a norm": recheck_shift,
    "presence after gain": recheck_gain,
    "colouring": recheck_colouring,
    "unit-norm score": recheck_unit_norm_score,
    "opposite direction": recheck_opposite,
    "constant set": recheck_constant,
    "no such set": recheck_no_such_set,
}


def recheck(witness: Any) -> list[str]:
    """The objections to a witness, by the checker of its kind; one that cannot be read does not stand either."""
    kind = witness.get("kind") if isinstance(witness, Mapping) else None
    checker = CHECKERS.get(kind) if isinstance(kind, str) else None
    if checker is None:
        return [f"expected a witness of a kind among {', '.join(CHECKERS)}, got {kind!r}"]
    try:
        return checker(witness)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        return [f"expected the fields of a {kind}, each with a fitting value, got {type(error).__name__}: {error}"]


def main(arguments: Sequence[str]) -> int:
    """Re-check the witness files named; the exit code counts for a script, the text for a person."""
    faults = 0
    for name in arguments:
        try:
            objections = recheck(json.loads(Path(name).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            objections = [f"expected a file of JSON, got {type(error).__name__}: {error}"]
        sys.stdout.write(f"{name}: {'; '.join(objections) or 'the witness stands'}\n")
        faults += bool(objections)
    return 1 if faults or not arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
