"""Formulas that say "this colouring has no bad set", and the symmetry breaking that makes their refutations small.

A :class:`Layout` names the variables; :func:`encode` writes the definition down, set by set. Symmetry breaking adds
clauses, and stands outside the refutation: "without loss of generality" has to be a lemma. Each of the three here
says: *if the formula has a model, it has one that satisfies these clauses too*. Its proof renumbers points and renames
values, so the formula must not change when that is done. What is finite in it is checked by machine:

- that the formula, with all clauses added before, is mapped to itself by generators of the group of those renumberings
  and renamings, clause by clause;
- that so many neighbours, or points, must share a value: ``values × (count − 1)`` is less than there are of them.

The lemmas: :class:`SharedNeighbours`, :class:`SharedDiagonal`, :class:`SortedNeighbours`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from proofs.certificates.questions import Question, Ramsey

Clause = tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Which variable says what of a colouring.

    Two values without diagonal: one variable per pair, true for the value 0. Otherwise one variable per pair (per
    point, on the diagonal) and value.
    """

    points: int
    values: int
    diagonal: bool

    @property
    def cells(self) -> Sequence[tuple[int, int]]:
        """The pairs ``a < b``, and ``a = b`` where the diagonal is coloured."""
        first = 0 if self.diagonal else 1
        return [(a, b) for a in range(self.points) for b in range(a + first, self.points)]

    @property
    def one_variable(self) -> bool:
        """Whether a pair has one variable for both values."""
        return self.values == 2 and not self.diagonal

    @property
    def variables(self) -> int:
        """How many there are."""
        n = self.points
        return (n * (n + 1) // 2 if self.diagonal else n * (n - 1) // 2) * (1 if self.one_variable else self.values)

    def literal(self, a: int, b: int, value: int) -> int:
        """The literal that says: the value of ``a, b`` is this one."""
        a, b = min(a, b), max(a, b)
        n = self.points
        place = a * n - a * (a - 1) // 2 + b - a if self.diagonal else a * n - a * (a + 1) // 2 + b - a - 1
        if self.one_variable:
            return -(place + 1) if value else place + 1
        return place * self.values + value + 1

    def rows(self, model: set[int]) -> list[str]:
        """The colouring that a model (its true literals) describes."""
        value = {}
        for a, b in self.cells:
            value[a, b] = value[b, a] = next(v for v in range(self.values) if self.literal(a, b, v) in model)
        everyone = range(self.points)
        return ["".join(str(value.get((a, b), ".")) for b in everyone) for a in everyone]


def layout_of(question: Question, points: int) -> Layout:
    """The variables for a question on so many points."""
    return Layout(points=points, values=question.values, diagonal=question.diagonal)


def encode(question: Question, points: int) -> list[Clause]:
    """ "The colouring has no bad set", from the definition, without symmetry breaking."""
    layout = layout_of(question, points)
    clauses: list[Clause] = []
    if not layout.one_variable:
        for a, b in layout.cells:
            literals = [layout.literal(a, b, value) for value in range(layout.values)]
            clauses.append(_canonical(literals))
            clauses += [_canonical([-p, -q]) for p, q in itertools.combinations(literals, 2)]
    for value in range(question.values):
        if isinstance(question, Ramsey):  # not all pairs have this value
            for chosen in itertools.combinations(range(points), question.sizes[value]):
                pairs = list(itertools.combinations(chosen, 2))
                clauses.append(_canonical([-layout.literal(a, b, value) for a, b in pairs]))
        else:  # the value occurs
            for chosen in itertools.combinations(range(points), question.k):
                pairs = list(itertools.combinations_with_replacement(chosen, 2))
                clauses.append(_canonical([layout.literal(a, b, value) for a, b in pairs]))
    return clauses


def _canonical(literals: Sequence[int]) -> Clause:
    return tuple(sorted(literals, key=lambda literal: (abs(literal), literal)))


# --- Renumbering and renaming ---------------------------------------------------------------------------


def changed_clause(
    layout: Layout, clauses: Sequence[Clause], points: Mapping[int, int], values: Mapping[int, int]
) -> tuple[Clause, Clause] | None:
    """A clause whose image under this renumbering and renaming is not among the clauses, with that image.

    None if there is none: the map takes literals one to one, so the set of clauses is then mapped onto itself.
    """
    image: dict[int, int] = {}
    for a, b in layout.cells:
        for value in range(layout.values):
            source = layout.literal(a, b, value)
            target = layout.literal(points.get(a, a), points.get(b, b), values.get(value, value))
            image[source], image[-source] = target, -target
    present = set(clauses)
    for clause in clauses:
        moved = _canonical([image[literal] for literal in clause])
        if moved not in present:
            return clause, moved
    return None


def generators(items: Sequence[int]) -> Iterator[Mapping[int, int]]:
    """A transposition and a cycle, which generate all permutations of the items."""
    if len(items) > 1:
        yield {items[0]: items[1], items[1]: items[0]}
    if len(items) > 2:
        yield dict(zip(items, [*items[1:], items[0]], strict=True))


def _not_symmetric(
    layout: Layout, clauses: Sequence[Clause], points: Sequence[int], values: Sequence[int]
) -> Mapping[str, Any] | None:
    """A renumbering or renaming that changes the formula, with a clause that shows it."""
    nothing: Mapping[int, int] = {}
    maps = [("points", g, nothing) for g in generators(points)] + [("values", nothing, g) for g in generators(values)]
    for what, of_points, of_values in maps:
        found = changed_clause(layout, clauses, of_points, of_values)
        if found is not None:
            return {
                f"{what}_renamed": {str(a): b for a, b in (of_points or of_values).items()},
                "clause": list(found[0]),
                "image_is_not_in_the_formula": list(found[1]),
            }
    return None


# --- The lemmas -----------------------------------------------------------------------------------------


class Lemma(Protocol):
    """Clauses that may be added without loss of generality, why, and what a machine says to that."""

    def clauses(self, question: Question, points: int) -> list[Clause]:
        """The clauses to add."""

    def text(self, question: Question, points: int) -> str:
        """The lemma and its proof, for a reader."""

    def comment(self, question: Question, points: int) -> str:
        """The lemma in a few words of ASCII, for the formula's file."""

    def objection(self, question: Question, points: int, before: Sequence[Clause]) -> Mapping[str, Any] | None:
        """What is wrong with it for the formula ``before``, or None."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedNeighbours:
    """Point 0 has the value 0 with the points 1 to ``count``: as many as the pigeonhole gives, and ``more``."""

    more: int = 0

    def count(self, question: Question, points: int) -> int:
        """How many neighbours in one colour."""
        return -(-(points - 1) // question.values) + self.more

    def clauses(self, question: Question, points: int) -> list[Clause]:
        """One unit per neighbour."""
        layout = layout_of(question, points)
        return [(layout.literal(0, j, 0),) for j in range(1, self.count(question, points) + 1)]

    def text(self, question: Question, points: int) -> str:
        """The lemma and its proof."""
        count, values = self.count(question, points), question.values
        return (
            f"{question.name} at {points} points: a point has the same value with {count} of its {points - 1} "
            f"neighbours, as {values}·{count - 1} < {points - 1}. Points may be renumbered and values renamed, since "
            f"neither changes the formula: let the point be 0, these neighbours 1 to {count}, and the value 0."
        )

    def comment(self, question: Question, points: int) -> str:
        """In a few words."""
        return f"point 0 has the value 0 with {self.count(question, points)} points, numbered from 1"

    def objection(self, question: Question, points: int, before: Sequence[Clause]) -> Mapping[str, Any] | None:
        """The pigeonhole, then the symmetry."""
        count = self.count(question, points)
        return _not_shared(question, points - 1, count, "neighbours") or _not_symmetric(
            layout_of(question, points), before, range(points), range(question.values)
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedDiagonal:
    """The first ``count`` points have the diagonal value 0: as many as the pigeonhole gives, and ``more``."""

    more: int = 0

    def count(self, question: Question, points: int) -> int:
        """How many points of one diagonal value."""
        return -(-points // question.values) + self.more

    def clauses(self, question: Question, points: int) -> list[Clause]:
        """One unit per point."""
        layout = layout_of(question, points)
        return [(layout.literal(j, j, 0),) for j in range(self.count(question, points))]

    def text(self, question: Question, points: int) -> str:
        """The lemma and its proof."""
        count, values = self.count(question, points), question.values
        return (
            f"{question.name} at {points} points: {count} points share their diagonal value, as {values}·{count - 1} < "
            f"{points}. Points may be renumbered and values renamed, since neither changes the formula: let these be "
            f"the points 0 to {count - 1}, and the value 0."
        )

    def comment(self, question: Question, points: int) -> str:
        """In a few words."""
        return f"the first {self.count(question, points)} points have the diagonal value 0"

    def objection(self, question: Question, points: int, before: Sequence[Clause]) -> Mapping[str, Any] | None:
        """The pigeonhole, then the symmetry."""
        count = self.count(question, points)
        return _not_shared(question, points, count, "points") or _not_symmetric(
            layout_of(question, points), before, range(points), range(question.values)
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SortedNeighbours:
    """The values of ``pivot`` with the points ``first`` to ``last`` do not decrease."""

    pivot: int
    first: int
    last: int

    def clauses(self, question: Question, points: int) -> list[Clause]:
        """No larger value before a smaller one, at neighbouring points."""
        layout = layout_of(question, points)
        return [
            _canonical([-layout.literal(self.pivot, j, larger), -layout.literal(self.pivot, j + 1, smaller)])
            for j in range(self.first, self.last)
            for smaller, larger in itertools.combinations(range(question.values), 2)
        ]

    def text(self, question: Question, points: int) -> str:
        """The lemma and its proof."""
        return (
            f"{question.name} at {points} points: the points {self.first} to {self.last} may be renumbered among "
            "themselves, since that changes neither the formula nor what was added to it: let their values with point "
            f"{self.pivot}, which keeps its number, be in order."
        )

    def comment(self, question: Question, points: int) -> str:
        """In a few words."""
        return f"the values of point {self.pivot} with the points {self.first} to {self.last} are in order"

    def objection(self, question: Question, points: int, before: Sequence[Clause]) -> Mapping[str, Any] | None:
        """The pivot stays where it is, and the others are interchangeable."""
        moved = range(self.first, self.last + 1)
        if self.pivot in moved or not moved or moved[-1] >= points:
            return {"pivot": self.pivot, "renumbered": list(moved), "points": points}
        return _not_symmetric(layout_of(question, points), before, moved, ())


def _not_shared(question: Question, holes: int, count: int, what: str) -> Mapping[str, Any] | None:
    """The most even way to give ``holes`` things a value, if by it no value is given ``count`` times."""
    if question.values * (count - 1) < holes:
        return None
    shares = [(holes + value) // question.values for value in range(question.values)]
    return {"said": f"{count} {what} share a value", what: holes, "shares_that_are_all_smaller": shares}


def with_lemmas(question: Question, points: int, lemmas: Sequence[Lemma]) -> list[Clause]:
    """The formula with the clauses of all lemmas, in order."""
    clauses = encode(question, points)
    for lemma in lemmas:
        clauses += lemma.clauses(question, points)
    return clauses


def dimacs(question: Question, points: int, lemmas: Sequence[Lemma]) -> str:
    """The same as a file in DIMACS format, with comments that say what is what."""
    layout, formula = layout_of(question, points), encode(question, points)
    parts: list[tuple[str, Sequence[Clause]]] = [("the definition", formula)]
    parts += [(lemma.comment(question, points), lemma.clauses(question, points)) for lemma in lemmas]
    naming = (
        "one variable per pair a < b, in order, true for the value 0"
        if layout.one_variable
        else f"{layout.values} variables per pair a {'<=' if layout.diagonal else '<'} b, in order, one for each value"
    )
    lines = [f"c {question.name} at {points} points, refuted if this has no model", f"c {naming}"]
    lines.append(f"p cnf {layout.variables} {sum(len(clauses) for _, clauses in parts)}")
    for title, clauses in parts:
        lines.append(f"c {title}")
        lines += [" ".join(map(str, (*clause, 0))) for clause in clauses]
    return "\n".join(lines) + "\n"
