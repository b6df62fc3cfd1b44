"""Removal directions (TM-4) by mechanism; what tells removing directions from adding ones is the kernel's
(:mod:`sensverify.removal`), since language models are judged by the same.

**Attribution to mechanisms** (RN-3). The move changes the negative part of the ``s``-component (removal), its positive
part (addition or reduction), and multiplies the rest by ``√((1−α²)/(1−ρ²))`` (shrinkage). Each of the eight
combinations is a point to read at; the Shapley values of the three players add up to ``D`` exactly.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import torch
from torch import Tensor

from sensverify.geometry import presence, unit_directions
from sensverify.readout import Batch, Readout
from sensverify.removal import (
    LEANING_LENGTH,
    MAJORITY,
    SIGNIFICANT,
    Classification,
    Decomposition,
    arcsines,
    classify,
    decompose,
    drawn_presences,
    lean,
    mean_direction,
    on_sphere,
    over_chunks,
    predicted_share,
    removal_threshold,
    verdicts,
)
from sensverify.sensitivity import PresenceLaw, Reference

__all__ = [
    "LEANING_LENGTH", "MAJORITY", "PLAYERS", "SIGNIFICANT", "Classification", "Decomposition", "Mechanisms",
    "Reference", "classify", "decompose", "lean", "mean_direction", "mechanisms", "on_sphere", "predicted_share",
    "removal_threshold", "step_gain", "verdicts",
]  # fmt: skip

PLAYERS = ("removal", "positive part", "shrinkage")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mechanisms:
    """Parts of the effects by mechanism (RN-3), ``[S, B]`` under each name of ``PLAYERS``, averaged over ``α``.

    ``alone``: the distance when this mechanism acts and the others do not. ``shapley``: they add up to ``effect``.
    """

    effect: Tensor
    alone: dict[str, Tensor]
    shapley: dict[str, Tensor]


@torch.no_grad()
def mechanisms(
    readout: Readout,
    directions: Tensor,
    *,
    batch: Batch[Any],
    generator: torch.Generator,
    draws: int = 4,
    law: PresenceLaw | None = None,
    pairs_per_chunk: int = 16_384,
) -> Mechanisms:
    """Split the effects by mechanism (RN-3): eight read-outs per direction, context and draw.

    Points at which only some mechanisms act have another norm than ``x``; a read-out that sees norms will say so.
    """
    alphas = drawn_presences(law, draws, batch, generator)
    clean = on_sphere(readout.clean(batch))
    coalitions = list(itertools.product((False, True), repeat=len(PLAYERS)))

    def of_chunk(chunk: Tensor) -> list[Tensor]:
        units = unit_directions(chunk, readout.centring).to(batch.x)[:, None]
        centred = readout.centring.project(batch.x)
        length = centred.norm(dim=-1)
        rho = presence(batch.x, chunk, readout.centring)
        rest = centred - (length * rho)[..., None] * units
        alone = [torch.zeros_like(rho) for _ in PLAYERS]
        shapley = [torch.zeros_like(rho) for _ in PLAYERS]
        effect = torch.zeros_like(rho)
        for alpha in alphas:
            value: dict[tuple[bool, ...], Tensor] = {}
            shrinkage = ((1 - alpha.square()) / (1 - rho.square()).clamp_min(torch.finfo(rho.dtype).tiny)).sqrt()
            for removes, moves, shrinks in coalitions:
                along = (0 if removes else rho.clamp_max(0)) + (alpha if moves else rho.clamp_min(0))
                scale = shrinkage if shrinks else torch.ones_like(rho)
                point = (length * along)[..., None] * units + scale[..., None] * rest + (batch.x - centred)
                reached = on_sphere(readout.read(batch, point))
                value[removes, moves, shrinks] = (reached - clean).square().sum(-1) / 4
            effect += value[True, True, True] / draws
            for player in range(len(PLAYERS)):
                only = tuple(other == player for other in range(len(PLAYERS)))
                alone[player] += value[only] / draws
                shapley[player] += _shapley(value, player) / draws
        return [effect, *alone, *shapley]

    effect, *parts = over_chunks(of_chunk, directions, batch, pairs_per_chunk)
    return Mechanisms(
        effect=effect,
        alone=dict(zip(PLAYERS, parts[:3], strict=True)),
        shapley=dict(zip(PLAYERS, parts[3:], strict=True)),
    )


def _shapley(value: dict[tuple[bool, ...], Tensor], player: int) -> Tensor:
    """The player's mean contribution over all orders; the value of nobody moving is 0 by definition, not rounding."""
    count = len(PLAYERS)
    total = torch.zeros_like(value[(True,) * count])
    for others in itertools.product((False, True), repeat=count - 1):
        without = (*others[:player], False, *others[player:])
        having = (*others[:player], True, *others[player:])
        before = sum(others)
        weight = math.factorial(before) * math.factorial(count - before - 1) / math.factorial(count)
        gained = value[having] if before == 0 else value[having] - value[without]
        total = total + weight * gained
    return total


def step_gain(rho: float, law: PresenceLaw | None = None, points: int = 20_001) -> float:
    """By how much larger the mean squared step ``E(arccos ρ − arccos α)²`` is than at ``ρ = 0`` (SE-3)."""
    a = arcsines(law, points)
    r = -math.asin(rho)
    return float((a + r).square().mean() / a.square().mean())
