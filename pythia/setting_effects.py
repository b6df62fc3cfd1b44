"""What setting the presence of a direction does to a text and to tasks, beside what it does with random directions.

An effect says something about a direction only as far as random directions do not have it: whatever is set, an
activation is moved, and a model that meets activations it never met does worse. So random directions go through the
same interventions on the same items: presence 0, each one's own mean, and the same high presence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

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


class Quantity:
    """Something measured of a model, for each of several items, and by how much random directions change it.

    ``random [R, d]`` are unit rows. What they do is measured once for each level, however many directions are asked of.
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
