"""The two questions whose answers are certified, as their definitions say them; nothing here knows of formulas.

A colouring of ``n`` points is a symmetric table, written as ``n`` rows of digits, one per value; where a question does
not colour the diagonal there is a dot. A *bad set* is what the question says cannot be avoided on enough points:

- :class:`Ramsey`: ``sizes[v]`` points whose pairs all have the value ``v``, for some ``v``; ``R(sizes)`` is the least
  number of points on which every colouring of the pairs has one;
- :class:`Missing`: ``k`` points on which some of three values does not occur, diagonal included; the least number of
  points is ``N(k)``.

Both are hereditary: a colouring without a bad set has none on fewer points. :func:`objection_to_model` looks at every
set there is; the constructions give colourings that were known before any solver.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from proofs.colourings import Graph, paley, three_classes
from proofs.colourings import rows as digits

Rows = Sequence[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ramsey:
    """Which ``n`` force, for some value ``v``, ``sizes[v]`` points with all pairs coloured ``v``?"""

    sizes: tuple[int, ...]
    diagonal = False

    @property
    def name(self) -> str:
        """Such as ``R(3,4)``."""
        return f"R({','.join(map(str, self.sizes))})"

    @property
    def values(self) -> int:
        """How many colours."""
        return len(self.sizes)

    def bad_set(self, rows: Rows) -> Sequence[int] | None:
        """The first one-coloured set of the size for its colour, by looking at all sets."""
        for value, size in enumerate(self.sizes):
            for points in itertools.combinations(range(len(rows)), size):
                if all(rows[a][b] == str(value) for a, b in itertools.combinations(points, 2)):
                    return points
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Missing:
    """Which ``n`` force ``k`` points that miss one of three values, diagonal included?"""

    k: int
    values = 3
    diagonal = True

    @property
    def name(self) -> str:
        """Such as ``N(3)``."""
        return f"N({self.k})"

    def bad_set(self, rows: Rows) -> Sequence[int] | None:
        """The first ``k`` points that miss a value, by looking at all sets."""
        seen = [[1 << int(digit) for digit in row] for row in rows]
        everything = (1 << self.values) - 1
        for points in itertools.combinations(range(len(rows)), self.k):
            values = 0
            for a, b in itertools.combinations_with_replacement(points, 2):
                values |= seen[a][b]
            if values != everything:
                return points
        return None


Question = Ramsey | Missing


def objection_to_model(question: Question, points: int, rows: object) -> str | None:
    """Why ``rows`` is no colouring of so many points without a bad set, or None if it is one."""
    if not isinstance(rows, list) or len(rows) != points:
        return f"the table has not {points} rows"
    allowed = set("0123456789"[: question.values])
    for a, row in enumerate(rows):
        if not isinstance(row, str) or len(row) != points:
            return f"row {a} is not a text of {points} digits"
        own = allowed if question.diagonal else {"."}
        if row[a] not in own or not set(row[:a] + row[a + 1 :]) <= allowed:
            return f"row {a} holds something else than the values 0 to {question.values - 1}"
    for a, b in itertools.combinations(range(points), 2):
        if rows[a][b] != rows[b][a]:
            return f"the table is not symmetric at {a}, {b}"
    found = question.bad_set(rows)
    return None if found is None else f"the points {', '.join(map(str, found))} are a set that should not be there"


# --- Colourings known before any solver -----------------------------------------------------------------


def from_graph(graph: Graph) -> list[str]:
    """Two colours: 0 for the pairs that are joined, 1 for the others."""
    return ["".join("." if i == j else "10"[int(edge)] for j, edge in enumerate(row)) for i, row in enumerate(graph)]


def five_cycle() -> list[str]:
    """5 points, two colours, no triangle of one colour."""
    return from_graph(paley(5))


def moebius_ladder() -> list[str]:
    """8 points, joined when 1 or 4 apart: no triangle, and no four without an edge."""
    return _circulant(8, {1: 0, 4: 0, 7: 0})


def paley_17() -> list[str]:
    """17 points, two colours, no four points of one colour."""
    return from_graph(paley(17))


def cubes_of_16() -> list[str]:
    """16 points, three colours, no triangle of one colour (Greenwood and Gleason 1955).

    The points are the polynomials over two elements modulo ``z⁴ + z + 1``; the colour of a pair is the exponent of
    their difference as a power of ``z``, modulo 3.
    """
    power, exponent = 1, {}
    for n in range(15):
        exponent[power] = n
        power = (power << 1) ^ (0b10011 if power & 0b1000 else 0)
    return ["".join("." if a == b else str(exponent[a ^ b] % 3) for b in range(16)) for a in range(16)]


def classes_of_points(count: int) -> list[str]:
    """Three classes on Paley's graph of 5 or 17 vertices, or on a single vertex (RA-1)."""
    if count == 3:
        return ["021", "210", "102"]
    return list(digits(three_classes(paley(count // 3))))


def _circulant(points: int, differences: dict[int, int]) -> list[str]:
    return [
        "".join("." if a == b else str(differences.get((a - b) % points, 1)) for b in range(points))
        for a in range(points)
    ]
