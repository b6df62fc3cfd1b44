"""What setting the presence of a direction does to a text and to tasks, beside what it does with random directions.

An effect says something about a direction only as far as random directions do not have it: whatever is set, an
activation is moved, and a model that meets activations it never met does worse. So random directions go through the
same interventions on the same items: presence 0, each one's own mean, and the same high presence.

How much presence is high is told by random directions too. Whatever the activation, a direction that is drawn uniformly
among unit vectors of ``n`` dimensions has a squared presence that follows the beta distribution with parameters ``1/2``
and ``(n − 1)/2``; in few dimensions its tail is shorter than that of a normal distribution of variance ``1/n``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import mpmath
import torch
from torch import Tensor

from pythia.intervened import Pin
from sensverify.inspection import Control, Effect
from sensverify.statistics import group_mean, mean_interval

Read = Callable[[Pin | None], Tensor]
"""A number for each of several items, ``[m]``, of the model with a presence set."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Level:
    """What presence is set to: ``own [1]`` that of the direction, ``control [R]`` that of random ones; called ``name``.

    ``key``: what is the same for levels whose control is the same.
    """

    name: str
    key: str
    own: Tensor
    control: Tensor


def quantile_of_chance(dimensions: int, share: float) -> float:
    """The presence below which there is this ``share``, from 1/2 to 1, of random directions in so many dimensions.

    By bisection: more than ``r`` is as likely as a beta variable of parameters ``(n − 1)/2`` and ``1/2`` below
    ``1 − r²``, halved for the sign.
    """
    if dimensions < 2:
        return 1.0
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        beyond = mpmath.betainc((dimensions - 1) / 2, 0.5, 0, 1 - middle**2, regularized=True) / 2
        low, high = (middle, high) if beyond > 1 - share else (low, middle)
    return high


class Quantity:
    """Something measured of a model, for each of several items, and by how much random directions change it.

    ``random [R, d]`` are unit rows. What they do is measured once for each key of a level: once for presence 0 and for
    their own means, however many directions are asked of, but again, with ``R`` readings, for every high presence that
    is another, as it is for each direction unless all are pinned to the same.
    """

    def __init__(self, where: str, quantity: str, read: Read, *, layer: int, random: Tensor, seed: int) -> None:
        self.where, self.quantity, self._read = where, quantity, read
        self._layer, self._random, self._seed = layer, random, seed
        self.clean = read(None)
        self._controls: dict[str, Tensor] = {}

    def effects(self, direction: Tensor, levels: Sequence[Level]) -> tuple[Effect, ...]:
        """One effect of ``direction [1, d]`` for each level."""
        return tuple(self._effect(direction, level) for level in levels)

    def _effect(self, direction: Tensor, level: Level) -> Effect:
        if level.key not in self._controls:
            changes = [self._change(s[None], alpha[None]) for s, alpha in zip(self._random, level.control, strict=True)]
            self._controls[level.key] = torch.stack(changes)
        control, generator = self._controls[level.key], torch.Generator().manual_seed(self._seed)
        means = control.double().mean(1)
        return Effect(
            where=self.where,
            quantity=self.quantity,
            intervention=level.name,
            items=len(self.clean),
            clean=mean_interval(self.clean, generator),
            change=mean_interval(self._change(direction, level.own), generator),
            control=Control(
                directions=len(control),
                mean=group_mean(control, generator),
                least=float(means.min()),
                greatest=float(means.max()),
            ),
        )

    def _change(self, direction: Tensor, alpha: Tensor) -> Tensor:
        return self._read(Pin(layer=self._layer, directions=direction, presence=alpha)) - self.clean
