"""Several comparisons at once: exact sign tests, and Holm's correction for how many there are.

A claim that holds "at every layer" makes as many comparisons as there are layers. Holm's step-down procedure keeps the
chance of even one false rejection among them at the level asked for, whatever their dependence, and rejects whatever
Bonferroni would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sensverify.statistics import Interval


def sign_test(wins: int, trials: int) -> float:
    """The chance of at least ``wins`` of ``trials`` fair tosses: small if the median difference is above 0.

    Exact. Ties are left out of ``trials``, or counted as losses, by whoever counts. No trials give 1.

    >>> sign_test(5, 5)
    0.03125
    """
    tail = sum(math.comb(trials, k) for k in range(wins, trials + 1))
    return tail / (1 << trials)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given: reject those of at most the level of the whole family (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def sign_interval(values: Tensor, level: float) -> Interval:
    """The median of ``values [B]`` between the order statistics that sign tests, one-sided at ``level`` on either side,
    leave possible: wholly above a number if and only if the test against that number rejects.

    >>> sign_interval(torch.tensor([3.0, 1, 2, 5, 4, 6]), 0.05)
    Interval(value=3.0, low=1.0, high=6.0)
    """
    ordered = values.double().cpu().sort().values
    count, cut = len(ordered), 0
    while cut < count // 2 and sign_test(count - cut, count) < level:
        cut += 1
    outer = max(cut - 1, 0)
    return Interval(float(values.double().median()), float(ordered[outer]), float(ordered[count - 1 - outer]))


def median_interval(values: Tensor, generator: torch.Generator, resamples: int = 2000) -> Interval:
    """Bootstrap interval of the median of ``values [B]``, which may hold infinities; ``B`` independent contexts."""
    values = values.double().cpu()
    drawn = torch.randint(len(values), (resamples, len(values)), generator=generator)
    ordered = values[drawn].median(dim=1).values.sort().values
    low, high = (ordered[round(share * (resamples - 1))] for share in (0.025, 0.975))
    return Interval(float(values.median()), float(low), float(high))
