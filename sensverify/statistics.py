"""Intervals for what the engine estimates: paired, resampled, and honest about what was drawn at random.

A table ``[S, B]`` of effects has two sources of chance: which contexts were drawn and, for random directions,
which directions. Resampling both ways gives an interval for the group, not for these very directions.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate with a central 95 % interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """``{"value", "low", "high"}``."""
        return dataclasses.asdict(self)

    def text(self) -> str:
        """``value [low, high]`` to three digits, for a cell of a table."""
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def _weights(items: int, resamples: int, generator: torch.Generator) -> Tensor:
    """Bootstrap weights ``[resamples, items]``: how often each item is drawn, over the number of draws."""
    drawn = torch.randint(items, (resamples, items), generator=generator)
    counts = torch.zeros(resamples, items, dtype=torch.float64)
    counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
    return counts / items


def _interval(value: Tensor, replicates: Tensor) -> Interval:
    low, high = torch.quantile(replicates, torch.tensor([0.025, 0.975], dtype=replicates.dtype))
    return Interval(float(value), float(low), float(high))


def mean_interval(values: Tensor, generator: torch.Generator, resamples: int = 2000) -> Interval:
    """Bootstrap interval for the mean of ``values [B]``."""
    values = values.double().cpu()
    return _interval(values.mean(), _weights(len(values), resamples, generator) @ values)


def group_mean(effects: Tensor, generator: torch.Generator, resamples: int = 2000) -> Interval:
    """Interval for the mean of ``effects [S, B]``, directions and contexts both resampled."""
    return _interval(*_group_replicates(effects, resamples, generator, None))


def group_ratio(numerator: Tensor, denominator: Tensor, generator: torch.Generator, resamples: int = 2000) -> Interval:
    """Interval for the ratio of the means of two tables ``[S₁, B]`` and ``[S₂, B]`` over the *same* contexts.

    Contexts are resampled jointly, since easy contexts are easy for both; directions independently.
    """
    if numerator.shape[1] != denominator.shape[1]:
        raise ValueError("paired tables need the same contexts")
    contexts = _weights(numerator.shape[1], resamples, generator)
    top, tops = _group_replicates(numerator, resamples, generator, contexts)
    bottom, bottoms = _group_replicates(denominator, resamples, generator, contexts)
    return _interval(top / bottom, tops / bottoms)


def _group_replicates(
    effects: Tensor, resamples: int, generator: torch.Generator, contexts: Tensor | None
) -> tuple[Tensor, Tensor]:
    effects = effects.double().cpu()
    if contexts is None:
        contexts = _weights(effects.shape[1], resamples, generator)
    directions = _weights(effects.shape[0], resamples, generator)
    return effects.mean(), ((directions @ effects) * contexts).sum(1)
