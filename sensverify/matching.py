"""Whether searches from different seeds find the same directions.

The directions of two searches are matched one to one so that the sum of absolute cosines is largest (Hungarian
assignment). Chance alone matches well where there are many directions in few dimensions, so that what counts is how far
the mean matched cosine ``c`` has come from that of random sets of as many directions, ``c₀``, towards 1:
``(c − c₀)/(1 − c₀)``, the *stability*, which is 0 for random sets and 1 for the same directions.

Beside it: how much of one search's span lies in the other's. Searches may find the same subspace and different
directions in it.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import torch
from torch import Tensor

from sensverify.errors import MissingExtraError
from sensverify.geometry import Centring, random_directions
from sensverify.statistics import Interval, mean_interval

NULL_PAIRS = 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matching:
    """Absolute cosines of matched directions, ``[pairs of searches, K]``, and the mean that random sets reach.

    ``span`` is the share of one search's span that lies in another's, averaged over pairs.
    """

    cosines: Tensor
    null: float
    span: float

    def stability(self, generator: torch.Generator) -> Interval:
        """``(c − c₀)/(1 − c₀)`` with an interval over matched directions, those of each being resampled together.

        A direction of the first search appears in several pairs; what is drawn is the direction.
        """
        mean = mean_interval(self.cosines.mean(0), generator)
        value, low, high = ((end - self.null) / (1 - self.null) for end in (mean.value, mean.low, mean.high))
        return Interval(value, low, high)


def match_searches(found: list[Tensor], null: float) -> Matching:
    """Match every later set ``[K, d]`` of unit directions, and every two of those, in the order of the first's.

    ``null``: the mean matched cosine of random sets. Raises :class:`~sensverify.errors.MissingExtraError` without
    scipy.
    """
    orders = [torch.arange(len(found[0])), *(matched_to(found[0], other) for other in found[1:])]
    cosines, spans = [], []
    for first, second in itertools.combinations(range(len(found)), 2):
        start = found[first][orders[first]]
        order = matched_to(start, found[second])
        cosines.append((start * found[second][order]).sum(1).abs())
        spans.append(shared_span(found[first], found[second]))
    return Matching(cosines=torch.stack(cosines), null=null, span=sum(spans) / len(spans))


def shared_span(first: Tensor, second: Tensor) -> float:
    """Mean squared cosine of the principal angles between the spans of two sets ``[K, d]``: 1 for one subspace."""
    bases = [torch.linalg.qr(rows.double().T).Q for rows in (first, second)]
    return float((bases[0].T @ bases[1]).square().sum() / min(basis.shape[1] for basis in bases))


def matched_to(first: Tensor, second: Tensor) -> Tensor:
    """For each row of ``first [K, d]`` the row of ``second [K, d]`` that is matched to it.

    Raises :class:`~sensverify.errors.MissingExtraError` without scipy.
    """
    cosines = (first.double() @ second.double().T).abs().cpu()
    _, columns = assignment()(cosines.numpy(), maximize=True)
    return torch.as_tensor(columns)


def random_cosines(
    count: int, width: int, centring: Centring, generator: torch.Generator, pairs: int = NULL_PAIRS
) -> Tensor:
    """Matched absolute cosines of ``pairs`` of random sets of ``count`` directions in ``width`` dimensions, ``[pairs,
    count]``: what there is by chance."""
    rows = []
    for _ in range(pairs):
        first, second = (random_directions(count, width, centring, generator) for _ in range(2))
        rows.append((first * second[matched_to(first, second)]).sum(1).abs())
    return torch.stack(rows)


def assignment() -> Any:
    """What matches. Raises :class:`~sensverify.errors.MissingExtraError` without scipy."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise MissingExtraError(package="scipy", extra="lm") from error
    return linear_sum_assignment
