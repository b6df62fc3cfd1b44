"""Intervals for what the engine estimates: paired, resampled, and honest about what was drawn at random.

A table ``[S, B]`` of effects has two sources of chance: which contexts were drawn and, for random directions,
which directions. Resampling both ways gives an interval for the group, not for these very directions.

Figures of several models have two sources as well: the seed of the model and, within a model, which of its features a
search happens to meet. Resampling three seeds alone gives little more than their range, which holds the true mean in
three cases of four. :func:`share_interval` draws both anew; :func:`seed_mean` takes Student's quantile where a model
gives one number.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import mpmath
import numpy
import torch
from torch import Tensor

_NORMAL = 1.96
"""The two-sided 95 % quantile of the normal distribution; :func:`_student` gives that of Student's."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate with a central 95 % interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """``{"value", "low", "high"}``."""
        return dataclasses.asdict(self)

    def around_value(self) -> Interval:
        """The same, widened to the estimate where that lies outside: replicates of a skewed figure may all be on one
        side of it."""
        return dataclasses.replace(self, low=min(self.low, self.value), high=max(self.high, self.value))

    def beside(self, other: Interval) -> str:
        """``smaller`` or ``larger`` than ``other`` where the two do not overlap, else ``alike``."""
        return "smaller" if self.high < other.low else "larger" if self.low > other.high else "alike"

    def text(self) -> str:
        """``value [low, high]`` to three digits, for a cell of a table."""
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def bootstrap_weights(items: int, resamples: int, generator: torch.Generator) -> Tensor:
    """Bootstrap weights ``[resamples, items]``: how often each item is drawn, over the number of draws."""
    drawn = torch.randint(items, (resamples, items), generator=generator)
    counts = torch.zeros(resamples, items, dtype=torch.float64)
    counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
    return counts / items


def percentile_interval(value: Tensor | float, replicates: Tensor, tail: float = 0.025) -> Interval:
    """``value`` with the interval that leaves ``tail`` of the ``replicates [R]`` of a resampling on either side."""
    low, high = torch.quantile(replicates, torch.tensor([tail, 1 - tail], dtype=replicates.dtype)).tolist()
    return Interval(float(value), low, high)


def mean_interval(values: Tensor, generator: torch.Generator, resamples: int = 2000) -> Interval:
    """Bootstrap interval for the mean of ``values [B]``."""
    values = values.double().cpu()
    return percentile_interval(values.mean(), bootstrap_weights(len(values), resamples, generator) @ values)


def share_interval(hits: Sequence[Tensor], generator: torch.Generator, resamples: int = 2000) -> Interval:
    """Interval for the mean over models of a share; ``hits``: for each model, yes or no for each of its items, ``[n]``.

    Models are resampled, and the share of each drawn from its posterior after Jeffreys' prior (of which each model has
    its part), so that all or none leaves a width. Where models differ by more than their items make them differ, by a
    variance ``τ²``, few of them say little about the next: then the interval is at least as wide as with Student's
    quantile for ``τ`` and the normal one for the items. ``tests/test_statistics.py`` counts how often it misses.
    """
    yes = numpy.array([float(one.sum()) for one in hits])
    items = numpy.array([float(len(one)) for one in hits])
    models, shares = len(hits), yes / items
    random = numpy.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    drawn, prior = random.integers(models, size=(resamples, models)), 0.5 / models
    replicates = random.beta((yes + prior)[drawn], (items - yes + prior)[drawn]).mean(1)
    value = float(shares.mean())
    low, high = (float(end) for end in numpy.quantile(replicates, (0.025, 0.975)))
    if models > 1:
        within = float((shares * (1 - shares) / items).mean())
        between = float(shares.var(ddof=1)) - within
        if between > 0:
            half = half_width(within, between, models)
            low, high = min(low, max(0.0, value - half)), max(high, min(1.0, value + half))
    return Interval(value, min(low, value), max(high, value))


def half_width(within: float, between: float, models: int) -> float:
    """Half of the 95 % interval for the mean over ``models`` of figures that vary by ``within`` each, which is known,
    and by ``between`` from model to model, which is estimated: the normal quantile for the one, Student's for the
    other."""
    return math.sqrt((_NORMAL**2 * within + _student(models - 1) ** 2 * between) / models)


def seed_mean(values: Sequence[float] | Tensor, *, within: tuple[float, float] = (-math.inf, math.inf)) -> Interval:
    """Student's interval for the mean of ``values``, one number for each independent model.

    ``within`` is the range of what is possible, as 0 to 1 for a share; the interval ends there. Raises ``ValueError``
    for fewer than two values: one model says nothing about the next.
    """
    table = torch.as_tensor(values, dtype=torch.float64)
    if len(table) < 2:
        raise ValueError("an interval over seeds needs at least two of them")
    value, half = float(table.mean()), _student(len(table) - 1) * float(table.std()) / math.sqrt(len(table))
    return Interval(value, max(value - half, within[0]), min(value + half, within[1]))


@functools.cache
def _student(freedom: int) -> float:
    """The two-sided 95 % quantile of Student's distribution: the tails beyond ``t`` are an incomplete beta integral."""

    def beyond(t: mpmath.mpf) -> mpmath.mpf:
        return mpmath.betainc(freedom / 2, 0.5, 0, freedom / (freedom + t * t), regularized=True) - 0.05

    return float(mpmath.findroot(beyond, (1.9, 13), solver="anderson"))


def group_mean(
    effects: Tensor, generator: torch.Generator, resamples: int = 2000, *, weights: Tensor | None = None
) -> Interval:
    """Interval for the mean of ``effects [S, B]``, directions and contexts both resampled.

    With ``weights [S, B]`` it is the mean over directions of each one's weighted mean over contexts.
    """
    return percentile_interval(*_group_replicates(effects, resamples, generator, None, weights))


def group_ratio(
    numerator: Tensor,
    denominator: Tensor,
    generator: torch.Generator,
    resamples: int = 2000,
    *,
    weights: tuple[Tensor, Tensor] | None = None,
    tail: float = 0.025,
) -> Interval:
    """Interval for the ratio of the means of two tables ``[S₁, B]`` and ``[S₂, B]`` over the *same* contexts.

    Contexts are resampled jointly, since easy contexts are easy for both; directions independently. ``weights``: of
    each table, as in :func:`group_mean`. ``tail``: what is left out at either end; ``0.025/m`` for ``m`` intervals that
    are to hold together (Bonferroni).
    """
    if numerator.shape[1] != denominator.shape[1]:
        raise ValueError("paired tables need the same contexts")
    contexts = bootstrap_weights(numerator.shape[1], resamples, generator)
    of_top, of_bottom = weights or (None, None)
    top, tops = _group_replicates(numerator, resamples, generator, contexts, of_top)
    bottom, bottoms = _group_replicates(denominator, resamples, generator, contexts, of_bottom)
    return percentile_interval(top / bottom, tops / bottoms, tail)


def _group_replicates(
    effects: Tensor, resamples: int, generator: torch.Generator, contexts: Tensor | None, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    effects = effects.double().cpu()
    if contexts is None:
        contexts = bootstrap_weights(effects.shape[1], resamples, generator)
    directions = bootstrap_weights(effects.shape[0], resamples, generator)
    if weights is not None:
        weights = weights.double().cpu()
        each = (contexts @ (weights * effects).T) / (contexts @ weights.T)  # [resamples, S]
        return ((weights * effects).sum(1) / weights.sum(1)).mean(), (directions * each).sum(1)
    return effects.mean(), ((directions @ effects) * contexts).sum(1)
