"""Directions and activations as geometry: centring, presence, overlap, and motion on the unit sphere.

Shapes used throughout the engine: ``S`` or ``K`` directions, ``B`` contexts, width ``d``.
"""

from __future__ import annotations

import enum

import torch
from torch import Tensor

from sensverify import formulas


class Centring(enum.StrEnum):
    """The projection ``P`` applied before presence is taken.

    ``MEAN`` removes the all-ones direction, which LayerNorm cannot see; ``NONE`` is the identity, for RMSNorm
    and for models without a norm.
    """

    MEAN = "mean"
    NONE = "none"

    def project(self, x: Tensor) -> Tensor:
        """``Px`` over the last axis; same shape as ``x``."""
        return x if self is Centring.NONE else _tensor(formulas.centre(x))


def _tensor(value: object) -> Tensor:
    assert isinstance(value, Tensor)
    return value


def unit_directions(directions: Tensor, centring: Centring) -> Tensor:
    """``Ps/‖Ps‖`` for each row ``s`` of ``directions [S, d]``.

    Raises ``ValueError`` if a row vanishes under ``P``: such a direction has no presence at all.
    """
    projected = centring.project(directions)
    lengths = _tensor(formulas.norm(projected))
    scale = lengths if centring is Centring.NONE else _tensor(formulas.norm(directions))
    if bool((lengths <= 1e-6 * scale).any()) or not bool(torch.isfinite(lengths).all()):
        raise ValueError("a direction is zero, not finite, or parallel to the all-ones vector")
    return projected / lengths


def presence(x: Tensor, directions: Tensor, centring: Centring) -> Tensor:
    """``ρ_s(x) [S, B]``, the cosine of each ``directions [S, d]`` with each ``x [B, d]`` after centring.

    Rounding can carry the cosine of nearly parallel vectors past 1, where setting that presence has no meaning; it is
    clamped to ``[-1, 1]``.
    """
    units = unit_directions(directions, centring).to(x)
    return _tensor(formulas.presence(centring.project(x), units[:, None]))[..., 0].clamp(-1, 1)


def random_directions(
    count: int, width: int, centring: Centring, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Tensor:
    """``[count, width]`` unit vectors, uniform on the sphere of the centred space.

    Drawn on the generator's device. These are the control of every comparison.
    """
    normal = torch.randn(count, width, generator=generator, device=generator.device, dtype=dtype)
    return unit_directions(normal, centring)


def gram(directions: Tensor) -> Tensor:
    """``G [S, S]``, the inner products of ``directions [S, d]``."""
    return directions @ directions.T


def tangent(directions: Tensor, vectors: Tensor) -> Tensor:
    """The part of each row of ``vectors [S, d]`` tangent to the sphere at the unit row of ``directions [S, d]``."""
    return _tensor(formulas.perpendicular(vectors, directions))


def step_on_sphere(directions: Tensor, steps: Tensor) -> Tensor:
    """Follow the great circle from each unit row of ``directions [S, d]`` along its tangent ``steps [S, d]``.

    The length of a step is the angle travelled, in radians.
    """
    angle = _tensor(formulas.norm(steps))
    moved = directions * torch.cos(angle) + steps * torch.sinc(angle / torch.pi)
    return moved / _tensor(formulas.norm(moved))


def nearest(directions: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """For each unit row of ``directions [S, d]``: the largest cosine to a unit row of ``references [R, d]``, and which.

    Returns ``(cosine [S], index [S])``; signed, since a direction and its negative are different interventions.
    """
    best = (directions @ references.T).max(dim=1)
    return best.values, best.indices
