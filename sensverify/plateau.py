"""When a direction has climbed as far as it will: no gain of score on contexts that do not steer it.

The score that a step sees is of fresh contexts and presences each time, and noisier than the gains of a late search;
and it is the score of what the gradient was taken of. What is watched instead is the score on one batch, fixed for the
whole search and never climbed on, with fixed presences: a function of the direction alone, without noise between two
looks at it. A direction is on a plateau if its held-out score has not risen above its best by more than ``tolerance``,
relatively, for ``patience`` looks in a row.

At a fixed length of step there is a plateau below the top: a direction wanders about it, the further off the longer its
steps; and repulsion keeps it off its place. A search whose number of steps is known lets both fade. Here the first
``cuts`` plateaus do: they multiply the direction's steps, and in a parallel search the repulsion on it, by ``cut``. On
the next one it is *frozen*: it stays where it is, is read no more, and goes on repelling the others.

What stops is decided on the held-out batch; which direction is kept is not, since a frozen one stays where it stopped.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plateau:
    """A look every ``every`` steps of a direction, at ``contexts`` contexts that are drawn once.

    A gain counts if the score exceeds ``1 + tolerance`` times the best before. ``patience`` looks without one are a
    plateau: the first ``cuts`` of them multiply steps and repulsion by ``cut``, the next one freezes.
    """

    every: int = 20
    patience: int = 3
    tolerance: float = 0.01
    contexts: int = 256
    cuts: int = 1
    cut: float = 0.25

    def __post_init__(self) -> None:
        if min(self.every, self.patience, self.contexts) < 1 or not 0 <= self.tolerance < float("inf"):
            raise ValueError("every, patience and contexts are at least 1, the tolerance is not negative")
        if self.cuts < 0 or not 0 < self.cut <= 1:
            raise ValueError("there are no fewer than 0 cuts, each to a share from above 0 to 1")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for ``cfg.json``."""
        return dataclasses.asdict(self)

    def rates(self, watch: Watch, which: slice | Tensor) -> Tensor:
        """What steps of the directions ``which``, and repulsion on them, are multiplied by, ``[S, 1]``."""
        return self.cut ** watch.cuts[which, None].float()


@dataclasses.dataclass(frozen=True)
class Watch:
    """What is known of each of ``K`` directions, on the CPU; never changed in place.

    ``best [K]`` held-out score so far, ``stale [K]`` looks since it rose or there was a cut, ``cuts [K]`` so far,
    ``frozen [K]``.
    """

    best: Tensor
    stale: Tensor
    cuts: Tensor
    frozen: Tensor

    @classmethod
    def begin(cls, count: int) -> Watch:
        """Nothing is known yet of ``count`` directions."""
        none = torch.zeros(count, dtype=torch.int64)
        return cls(torch.full((count,), -torch.inf), none, none, none.bool())

    def look(self, which: Tensor, scores: Tensor, plateau: Plateau) -> Watch:
        """After a look at the directions numbered ``which [S]``, whose held-out ``scores [S]`` are these.

        A score that is not finite is no gain.
        """
        scores = scores.cpu().float()
        best = self.best[which]
        gained = torch.isfinite(scores) & ((best == -torch.inf) | (scores > best * (1 + plateau.tolerance)))
        stale = torch.where(gained, 0, self.stale[which] + 1)
        plateaued = stale >= plateau.patience
        cut = plateaued & (self.cuts[which] < plateau.cuts)
        after = Watch(self.best.clone(), self.stale.clone(), self.cuts.clone(), self.frozen.clone())
        after.best[which] = torch.where(gained, scores, best)
        after.stale[which] = stale.masked_fill(cut, 0)
        after.cuts[which] += cut
        after.frozen[which] |= plateaued & ~cut
        return after

    def forget(self, which: Tensor) -> Watch:
        """Directions that start afresh, ``which [K]`` of them, are known nothing of; frozen ones move again."""
        which = which.cpu()
        return Watch(
            self.best.masked_fill(which, -torch.inf),
            self.stale.masked_fill(which, 0),
            self.cuts.masked_fill(which, 0),
            self.frozen & ~which,
        )
