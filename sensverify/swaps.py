"""Swaps: an activation is given the direction of another, or its norm, and whatever reads it answers.

Of the centred activation ``Px`` the direction or the norm is replaced by a partner's, the other kept; what ``P`` takes
away stays. Norms of activations differ little and directions differ a lot, so beside the swaps stand changes of equal
size: a turn towards the partner's direction, or a random one, by a chord exactly as long as the change of norm; and a
ladder of changes of given relative length ``‖x' − x‖/‖Px‖``, along the activation and across it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sensverify.geometry import Centring

LADDER = (0.01, 0.03, 0.1, 0.3, 0.9)
FLOOR = 1e-12
"""Nats below which a divergence is rounding; ratios take everything below for this."""

DIRECTION, NORM, TURN = "direction swapped", "norm swapped", "turned by as much"
OWN, RANDOM, TURN_RANDOM, HALVED = "own direction", "random direction", "turned at random by as much", "norm halved"
UP, DOWN, TOWARDS, ANYWHERE = "longer", "shorter", "turned towards another", "turned at random"


def ratio(top: Tensor, bottom: Tensor) -> Tensor:
    """Of two tables of divergences, entry by entry, what is rounding taken for :data:`FLOOR`."""
    return top.clamp_min(FLOOR) / bottom.clamp_min(FLOOR)


def swapped(x: Tensor, other: Tensor, centring: Centring, generator: torch.Generator) -> dict[str, Tensor]:
    """The activations ``[B, d]`` that each intervention makes of ``x [B, d]``, given the partners' ``other [B, d]``."""
    centred, partner = centring.project(x), centring.project(other)
    length, other_length = (one.norm(dim=-1, keepdim=True) for one in (centred, partner))
    unit, towards, rest = centred / length, partner / other_length, x - centred
    random = centring.project(torch.randn(x.shape, generator=generator, device=generator.device).to(x))
    random = random / random.norm(dim=-1, keepdim=True)
    chord = (other_length / length - 1).abs()
    return {
        DIRECTION: length * towards + rest,
        NORM: other_length * unit + rest,
        TURN: length * turned(unit, towards, chord) + rest,
        OWN: length * unit + rest,
        RANDOM: length * random + rest,
        TURN_RANDOM: length * turned(unit, random, chord) + rest,
        HALVED: 0.5 * centred + rest,
    }


def laddered(x: Tensor, other: Tensor, centring: Centring, generator: torch.Generator) -> dict[str, Tensor]:
    """For each kind of change activations ``[len(LADDER), B, d]``, that far from ``x [B, d]`` relative to its norm."""
    centred, partner = centring.project(x), centring.project(other)
    length = centred.norm(dim=-1, keepdim=True)
    unit, rest = centred / length, x - centred
    random = centring.project(torch.randn(x.shape, generator=generator, device=generator.device).to(x))
    kinds: dict[str, list[Tensor]] = {UP: [], DOWN: [], TOWARDS: [], ANYWHERE: []}
    for step in LADDER:
        chord = torch.full_like(length, step)
        kinds[UP].append((1 + step) * centred + rest)
        kinds[DOWN].append((1 - step) * centred + rest)
        kinds[TOWARDS].append(length * turned(unit, partner, chord) + rest)
        kinds[ANYWHERE].append(length * turned(unit, random, chord) + rest)
    return {name: torch.stack(steps) for name, steps in kinds.items()}


def turned(unit: Tensor, towards: Tensor, chord: Tensor) -> Tensor:
    """``unit [B, d]`` moved along the great circle towards ``towards`` until it is ``chord [B, 1]`` from where it was.

    A chord above 2, for norms that differ more than threefold, leads to the opposite point.
    """
    across = towards - (towards * unit).sum(-1, keepdim=True) * unit
    across = across / across.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(unit.dtype).tiny)
    angle = 2 * torch.asin((chord / 2).clamp(max=1))
    moved: Tensor = unit * angle.cos() + across * angle.sin()
    return moved
