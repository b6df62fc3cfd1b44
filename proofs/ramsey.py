"""Upper bounds on Ramsey numbers that need no more than counting, and the set sizes that they guarantee.

``R(a, b)`` is the least ``n`` such that every graph on ``n`` vertices has a clique of ``a`` or an independent set
of ``b``. The bounds, proved in :mod:`proofs.logarithmic_size`:

- :func:`binomial_bound`: ``R(a, b) ≤ C(a+b−2, a−1)`` (Erdős and Szekeres 1935);
- :func:`parity_bound`: the same recursion less one where both terms are even (Greenwood and Gleason 1955);
- :func:`enough`: the same recursion for sets that miss one of several colours, proved in :mod:`proofs.finder_cost`;
- :func:`greedy_bound`, :func:`multinomial_bound`: ``R_r(k)`` for ``r`` colours, proved in :mod:`proofs.constant_sets`.
"""

from __future__ import annotations

import functools
import math


def binomial_bound(a: int, b: int) -> int:
    """``C(a+b−2, a−1) ≥ R(a, b)`` for ``a, b ≥ 1``."""
    bound: int = math.comb(a + b - 2, a - 1)
    return bound


def greedy_bound(r: int, k: int) -> int:
    """``(r^(r(k−2)+1) + r − 2)/(r − 1) ≥ R_r(k)`` for ``r, k ≥ 2`` (RA-5)."""
    power: int = r ** (r * (k - 2) + 1)
    return (power + r - 2) // (r - 1)


def multinomial_bound(r: int, k: int) -> int:
    """``(r(k−1))!/((k−1)!)^r ≥ R_r(k)`` for ``r ≥ 2``, ``k ≥ 1`` (RA-5)."""
    return int(math.factorial(r * (k - 1)) // math.factorial(k - 1) ** r)


@functools.cache
def parity_bound(a: int, b: int) -> int:
    """An upper bound on ``R(a, b)`` by ``R(a−1, b) + R(a, b−1)``, less 1 if both are even."""
    if min(a, b) == 1:
        return 1
    if min(a, b) == 2:
        return max(a, b)
    left, right = parity_bound(a - 1, b), parity_bound(a, b - 1)
    return left + right - (left % 2 == 0 and right % 2 == 0)


@functools.cache
def enough(sizes: tuple[int, ...]) -> int:
    """So many points that, in any colouring of their pairs, some ``sizes[i]`` of them have no pair of colour ``i``.

    There are ``t ≥ 2`` colours, one per size; a pair may have others too if they are merged into one of these. For two
    colours that is ``C(a+b−2, a−1)``. In general 1 if a size is 1, and otherwise ``⌊Σ(p_i − 1)/(t − 1)⌋ + 2``, where
    ``p_i`` are enough with size ``i`` less one: a point is in ``t − 1`` of ``t`` sets for each of the others (RA-6).
    """
    if min(sizes) <= 0:
        return 0
    if len(sizes) == 2:
        return binomial_bound(*sizes)
    if min(sizes) == 1:
        return 1
    lowered = (tuple(sorted((*sizes[:i], sizes[i] - 1, *sizes[i + 1 :]))) for i in range(len(sizes)))
    return sum(enough(one) - 1 for one in lowered) // (len(sizes) - 1) + 2


def guaranteed_size(points: int, kept: tuple[int, ...] = (0, 0)) -> int:
    """The largest ``k`` for which ``points`` are :func:`enough` for ``k − kept[i]`` more of some kind ``i``.

    ``kept[i]`` points were taken that have no pair of colour ``i``, neither among them nor with the ``points``.
    """
    k = max(kept)
    while points and enough(tuple(sorted(k + 1 - taken for taken in kept))) <= points:
        k += 1
    return k


def half_logarithm(points: int) -> int:
    """``⌊½ log₂ m⌋``, exactly."""
    return (points.bit_length() - 1) // 2
