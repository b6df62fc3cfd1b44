"""How claims about several seeds are decided, and the intervals that they are decided by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from sensverify.claims import Run
from sensverify.statistics import Interval
from sensverify.verdicts import Status
from toy_models import recovery
from toy_models.recovery import Matching


def at_least(intervals: Iterable[Interval], required: float) -> Status:
    """REFUTED by one interval wholly below ``required``, SUPPORTED if all are wholly at or above it."""
    intervals = list(intervals)
    if any(one.high < required for one in intervals):
        return Status.REFUTED
    if intervals and all(one.low >= required for one in intervals):
        return Status.SUPPORTED
    return Status.INCONCLUSIVE  # also of no interval, and of NaN


def recovered(run: Run, matchings: Sequence[Matching]) -> Interval:
    """Share of the features that are recovered, :func:`toy_models.recovery.recovered_interval`."""
    return recovery.recovered_interval(matchings, torch.Generator().manual_seed(run.seed))


def precise(run: Run, matchings: Sequence[Matching]) -> Interval:
    """Share of the directions that lie at a feature, :func:`toy_models.recovery.precise_interval`."""
    return recovery.precise_interval(matchings, torch.Generator().manual_seed(run.seed))
