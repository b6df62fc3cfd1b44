"""Find a large set that misses a value, quickly: majority on the diagonal, then halving (RA-2).

Of all points, only ``3C(2k−2, k−1) − 2`` are looked at, where ``k`` is the size guaranteed; some diagonal value ``b``
is shared by ``C(2k−2, k−1)`` of these. Inside that class pairs are split into "is p" and "is not p" for one
``p ≠ b``. Take a point, look at its pairs with the rest, keep the side whose guaranteed final size is larger, and
repeat. The points that kept "is p" miss the third value; those that kept "is not p" miss ``p``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from proofs.ramsey import binomial_bound, guaranteed_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A set that misses ``missed``, the size that was guaranteed, and how often ``F`` was evaluated."""

    points: Sequence[int]
    missed: int
    guaranteed: int
    evaluations: int


def find_missing_set(colour: Callable[[int, int], int], count: int) -> Found:
    """A set of ``count ≥ 1`` points ``0, 1, …`` that misses a value of the symmetric ``colour`` into ``{0, 1, 2}``."""
    guaranteed = guaranteed_size(-(-count // 3))
    wanted = binomial_bound(guaranteed, guaranteed)
    classes: dict[int, list[int]] = {0: [], 1: [], 2: []}
    looked_at = min(count, 3 * wanted - 2)
    for point in range(looked_at):
        classes[colour(point, point)].append(point)
    b = max(classes, key=lambda value: len(classes[value]))
    p, third = (b + 1) % 3, (b + 2) % 3
    pool, evaluations = classes[b], looked_at
    kept: dict[bool, list[int]] = {True: [], False: []}
    while pool:
        point, *rest = pool
        sides: dict[bool, list[int]] = {True: [], False: []}
        for other in rest:
            sides[colour(point, other) == p].append(other)
        evaluations += len(rest)

        def promise(side: bool, sides: dict[bool, list[int]] = sides) -> tuple[int, int]:
            red, blue = (len(kept[is_p]) + (side is is_p) for is_p in (True, False))
            return guaranteed_size(len(sides[side]), red=red, blue=blue), len(sides[side])

        best = max((True, False), key=promise)
        if not rest:  # the last point fits either kind
            best = len(kept[True]) >= len(kept[False])
        kept[best].append(point)
        pool = sides[best]
    best = len(kept[True]) >= len(kept[False])
    return Found(points=kept[best], missed=third if best else p, guaranteed=guaranteed, evaluations=evaluations)
