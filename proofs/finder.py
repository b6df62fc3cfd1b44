"""Find a large set that misses a value, quickly: the most frequent diagonal values, then halving (RA-2, RA-6, RA-8).

For ``r`` values choose ``2 ≤ t ≤ r − 1`` (for three values ``t = 2``). The points with one of the ``r − t`` most
frequent diagonal values are kept, and these values merged into one of the ``t`` others, the targets. Take a point,
look at its pairs with the rest, and keep, for one target, those whose pair is not of it: the target whose guaranteed
final size is the largest. Repeat. The points taken for one target have no pair of it and no such diagonal value: they
miss it.

Told to stop at ``k``, it does not go on for nothing: any point completes a set of ``k − 1``, and one pair decides
between two sets of ``k − 2``, as it is of one target at most. Only as many points are looked at as the guarantee
needs, however many there are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from proofs.ramsey import enough, guaranteed_size

Colour = Callable[[int, int], int]
MOST_TARGETS = 5  # more of them guarantee hardly more, and the recursion of the guarantee takes longer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A set that misses ``missed``, the size that was guaranteed, and how often ``F`` was evaluated."""

    points: Sequence[int]
    missed: int
    guaranteed: int
    evaluations: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A set of ``size`` is certain, by halving for ``targets`` values, or, if 0, because it has too few entries."""

    size: int
    targets: int


def plan(count: int, r: int) -> Plan:
    """The best guarantee for ``count ≥ 1`` points and ``r`` values.

    With one or two values that is no more than 0 or 1: RA-5's colouring, 0 on the diagonal and 1 off it.
    """
    trivial = max(k for k in range(min(count, r) + 1) if k * (k + 1) // 2 < r)
    plans = [Plan(size=trivial, targets=0)]
    for targets in range(2, min(r - 1, MOST_TARGETS) + 1):
        kept = -(-count * (r - targets) // r)
        plans.append(Plan(size=guaranteed_size(kept, (0,) * targets), targets=targets))
    return max(plans, key=lambda p: (p.size, p.targets > 0, -p.targets))


def points_needed(k: int, r: int, targets: int) -> int:
    """So many points that the kept classes hold enough of them for ``k``; ``3C(2k−2, k−1) − 2`` for ``r = 3``."""
    return r * (enough((k,) * targets) - 1) // (r - targets) + 1


def find_missing_set(
    colour: Colour, count: int, *, values: Sequence[int] = (0, 1, 2), wanted: int | None = None
) -> Found:
    """A set of the points ``0, …, count − 1`` that misses one of the ``values`` of the symmetric ``colour``.

    With ``wanted`` it stops at that size, which bounds the evaluations for every ``F`` (RA-6); without, it goes on
    until no point is left. Raises ``ValueError`` if there are no points, fewer than three values, or more is wanted
    than is guaranteed.
    """
    if count < 1 or len(values) < 3:
        raise ValueError(f"expected a point and three values or more, got {count} points and {len(values)} values")
    chosen = plan(count, len(values))
    if wanted is not None and not 1 <= wanted <= chosen.size:
        raise ValueError(f"expected to want from 1 to the {chosen.size} points that are guaranteed, got {wanted}")
    calls = _Counted(colour)
    if chosen.targets == 0:
        return _any_points(calls, chosen, values, wanted)
    size = chosen.size if wanted is None else wanted
    pool, targets = _keep(calls, count, size, chosen.targets, values, early=wanted is not None)
    kept = _halve(calls, pool, targets, size if wanted is not None else None)
    best = max(range(len(targets)), key=lambda i: len(kept[i]))
    return Found(points=kept[best], missed=targets[best], guaranteed=chosen.size, evaluations=calls.made)


class _Counted:
    """``F``, and how often it was asked."""

    def __init__(self, colour: Colour) -> None:
        self._colour, self.made = colour, 0

    def __call__(self, a: int, b: int) -> int:
        self.made += 1
        return self._colour(a, b)


def _any_points(calls: _Counted, chosen: Plan, values: Sequence[int], wanted: int | None) -> Found:
    """So few points that they have fewer entries than there are values."""
    points = range(chosen.size if wanted is None else wanted)
    seen = {calls(a, b) for a in points for b in points if a <= b}
    missed = next(value for value in values if value not in seen)
    return Found(points=list(points), missed=missed, guaranteed=chosen.size, evaluations=calls.made)


def _keep(
    calls: _Counted, count: int, size: int, targets: int, values: Sequence[int], *, early: bool
) -> tuple[list[int], list[int]]:
    """The points whose diagonal value is among the most frequent, and the other values; no more if ``early``."""
    needed = enough((size,) * targets)
    classes: dict[int, list[int]] = {value: [] for value in values}
    for point in range(min(count, points_needed(size, len(values), targets))):
        classes[calls(point, point)].append(point)
        if early and sum(sorted(map(len, classes.values()))[targets:]) >= needed:
            break
    rarest_first = sorted(values, key=lambda value: len(classes[value]))
    pool = sorted(point for value in rarest_first[targets:] for point in classes[value])
    return pool[:needed] if early else pool, rarest_first[:targets]


def _halve(calls: _Counted, pool: list[int], targets: Sequence[int], wanted: int | None) -> list[list[int]]:
    """For each target points without a pair of it, by taking points from the pool until it is empty.

    If ``wanted`` is given, the pool is enough for so many, and they are all that is looked for.
    """
    index = {target: i for i, target in enumerate(targets)}
    everyone = range(len(targets))
    kept: list[list[int]] = [[] for _ in everyone]
    while pool:
        point, *rest = pool
        longest = max(everyone, key=lambda i: len(kept[i]))
        if not rest or (wanted is not None and len(kept[longest]) >= wanted - 1):
            kept[longest].append(point)  # any point left completes any set: it fits those taken before
            break
        nearly = [i for i in everyone if wanted is not None and len(kept[i]) == wanted - 2]
        if len(nearly) > 1:  # two points complete any of these sets but one, at most: that of their pair's value
            merged = index.get(calls(point, rest[0]), 0)
            kept[next(i for i in nearly if i != merged)] += [point, rest[0]]
            break
        sides: list[list[int]] = [[] for _ in everyone]
        for other in rest:
            merged = index.get(calls(point, other), 0)
            for i in everyone:
                if i != merged:
                    sides[i].append(other)

        def promise(i: int, sides: list[list[int]] = sides) -> tuple[int, int]:
            sizes = tuple(len(kept[j]) + (j == i) for j in everyone)
            return guaranteed_size(len(sides[i]), sizes), len(sides[i])

        best = max(everyone, key=promise)
        kept[best].append(point)
        pool = sides[best]
    return kept
