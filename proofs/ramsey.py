"""Upper bounds on Ramsey numbers that need no more than counting, and the set sizes that they guarantee.

``R(a, b)`` is the least ``n`` such that every graph on ``n`` vertices has a clique of ``a`` or an independent set
of ``b``. The bounds, proved in :mod:`proofs.logarithmic_size`:

- :func:`binomial_bound`: ``R(a, b) ≤ C(a+b−2, a−1)`` (Erdős and Szekeres 1935);
- :func:`parity_bound`: the same recursion less one where both terms are even (Greenwood and Gleason 1955).
"""

from __future__ import annotations

import functools
import math

# R(k, k) lies between these. Up to k = 4 that is part of RA-1; k = 5: Exoo 1989, Angeltveit and McKay 2024.
KNOWN = {2: (2, 2), 3: (6, 6), 4: (18, 18), 5: (43, 46)}


def binomial_bound(a: int, b: int) -> int:
    """``C(a+b−2, a−1) ≥ R(a, b)`` for ``a, b ≥ 1``."""
    return math.comb(a + b - 2, a - 1)


@functools.cache
def parity_bound(a: int, b: int) -> int:
    """An upper bound on ``R(a, b)`` by ``R(a−1, b) + R(a, b−1)``, less 1 if both are even."""
    if min(a, b) == 1:
        return 1
    if min(a, b) == 2:
        return max(a, b)
    left, right = parity_bound(a - 1, b), parity_bound(a, b - 1)
    return left + right - (left % 2 == 0 and right % 2 == 0)


def guaranteed_size(points: int, *, red: int = 0, blue: int = 0) -> int:
    """The largest ``k`` with ``C(2k−2−red−blue, k−1−red) ≤ points``.

    In any 2-coloured complete graph on that many points there is a set that, with ``red`` points joined to all in
    red or ``blue`` points joined to all in blue, is one-coloured and has ``k`` points.
    """
    k = max(red, blue)
    while points and (k < max(red, blue) + 1 or binomial_bound(k + 1 - red, k + 1 - blue) <= points):
        k += 1
    return k


def half_logarithm(points: int) -> int:
    """``⌊½ log₂ m⌋``, exactly."""
    return (points.bit_length() - 1) // 2
