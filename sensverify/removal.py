"""Removal directions: does ``I_s^α`` act by adding ``s``, or by taking away what is there?

The intervention sets the presence of ``s`` to ``α ~ U(0, 7/8)`` whatever it was. From ``ρ = ρ_s(x)`` it goes through
the waypoint ``I_s^{max(ρ, 0)}(x)``: up to it, negative presence is *removed* (nothing happens where ``ρ ≥ 0``); beyond
it presence is *added* if ``α > max(ρ, 0)``, and *reduced* where a positive ``ρ`` exceeds ``α``. A direction *removes*
when more than half of its effect belongs to the first leg.

**Attribution to legs.** Put read-outs on the unit sphere, ``u = y/‖y‖`` (a zero read-out gets an axis of its own, as in
:func:`~sensverify.scoring.angular_distance`). Then ``D(y, y') = ‖u − u'‖²/4``: the distance is a squared chord. The
chord of the whole move is the sum of the legs' chords, ``δ = δ₁ + δ₂``, so each leg is given ``⟨δᵢ, δ⟩/4`` and the
parts add up to ``D`` exactly. With two legs this is their Shapley value, ``(D₁ + D − D₂)/2``, where ``Dᵢ`` is the
distance along leg ``i`` alone: what the legs do jointly is halved. A part is negative where a leg moves the read-out
against the whole.

**Why directions lean against the mean.** To second order (SE-3) an effect grows as the squared angle of the step,
``Δθ = arccos ρ − arccos α``. With ``a = arcsin α`` and ``r = −arcsin ρ`` it is ``(a + r)²``, of mean ``E a² + 2r E a +
r²``: at ``ρ = 0`` its logarithm falls by ``2 E a / E a² ≈ 3.03`` per unit of ``ρ``. A direction that nothing else
distinguishes gains by leaning against whatever is always there, and the mean direction is the extreme: ``E ρ_s = ⟨s,
E x̂⟩``. For constant ``ρ`` removal gets ``E r(a + r)``, more than half if and only if ``r² > E a²``: ``ρ < −0.53``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sensverify import formulas
from sensverify.errors import InputError
from sensverify.geometry import Centring, presence, unit_directions
from sensverify.interventions import set_presence
from sensverify.readout import Batch, Readout
from sensverify.sensitivity import PresenceLaw

MAJORITY = 0.5
"""A direction removes if more than this share of its effect is removal. Fixed before anything was measured."""
SIGNIFICANT = 1.96
LEANING_LENGTH = 0.25
"""Below this length of ``E x̂`` there is too little of a mean to lean against; fixed on the toys' developing seeds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decomposition:
    """Parts of the effects, each ``[S, B]``, averaged over draws of ``α``.

    ``effect = removal + addition + reduction`` up to rounding. ``removal_alone`` is the distance from ``f(x)`` to the
    waypoint's read-out, ``onward_alone`` from there to the end: with the presence starting at 0 or above, nothing is
    left to remove. ``presence`` is ``ρ``.
    """

    effect: Tensor
    removal: Tensor
    addition: Tensor
    reduction: Tensor
    removal_alone: Tensor
    onward_alone: Tensor
    presence: Tensor

    @property
    def removal_share(self) -> Tensor:
        """Removal over effect, summed over contexts, ``[S]``; NaN for a direction without effect."""
        return self.removal.sum(1) / self.effect.sum(1)

    @property
    def standard_error(self) -> Tensor:
        """Of the removal share, over contexts, ``[S]`` (linearised ratio)."""
        contexts = self.effect.shape[1]
        residual = (self.removal - self.removal_share[:, None] * self.effect) / self.effect.mean(1, keepdim=True)
        return residual.square().sum(1).div(contexts * (contexts - 1)).sqrt()

    def by_presence(self, threshold: float) -> dict[str, Tensor]:
        """Shares ``[S]`` of the total effect by where ``s`` was: ``opposite`` (``ρ ≤ −τ``), ``absent``, ``present``.

        They add up to 1.
        """
        rho, total = self.presence, self.effect.sum(1)
        where = {
            "opposite": rho <= -threshold,
            "absent": rho.abs() < threshold,
            "present": rho >= threshold,
        }
        return {name: (self.effect * mask).sum(1) / total for name, mask in where.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification:
    """Per direction ``[S]``: the removal share, its standard error, whether it ``removes``, and whether that is
    ``decided``, i.e. the 95 % interval over contexts is on one side of one half."""

    share: Tensor
    standard_error: Tensor
    removes: Tensor
    decided: Tensor


def on_sphere(y: Tensor) -> Tensor:
    """``[..., d] -> [..., d + 1]``: unit vectors ``u`` with ``‖u − u'‖²/4`` the angular distance, zeros included."""
    length = y.norm(dim=-1, keepdim=True)
    zero = length == 0
    return torch.cat([y / torch.where(zero, 1.0, length), zero.to(y.dtype)], dim=-1)


@torch.no_grad()
def decompose(
    readout: Readout,
    directions: Tensor,
    *,
    batch: Batch[Any],
    generator: torch.Generator,
    draws: int = 4,
    law: PresenceLaw | None = None,
    pairs_per_chunk: int = 16_384,
) -> Decomposition:
    """Split the effects of each of ``directions [S, d]`` on ``batch`` by legs; see the module's docstring."""
    alphas = drawn_presences(law, draws, batch, generator)
    clean = on_sphere(readout.clean(batch))

    def of_chunk(chunk: Tensor) -> list[Tensor]:
        rho = presence(batch.x, chunk, readout.centring)
        opposite = (rho < 0)[..., None]
        waypoint = on_sphere(readout.read(batch, set_presence(batch.x, chunk, rho.clamp_min(0), readout.centring)))
        waypoint = torch.where(opposite, waypoint, clean)  # where nothing is removed the first leg is exactly nothing
        first = waypoint - clean
        parts = [torch.zeros_like(rho) for _ in range(5)]
        for alpha in alphas:
            end = on_sphere(readout.read(batch, set_presence(batch.x, chunk, alpha, readout.centring)))
            second, whole = end - waypoint, end - clean
            onward = (second * whole).sum(-1) / 4
            adds = alpha >= rho
            found = (
                whole.square().sum(-1) / 4,
                (first * whole).sum(-1) / 4,
                onward * adds,
                onward * ~adds,
                second.square().sum(-1) / 4,
            )
            for part, value in zip(parts, found, strict=True):
                part += value / draws
        return [*parts, first.square().sum(-1) / 4, rho]

    effect, removal, addition, reduction, onward, alone, rho = over_chunks(of_chunk, directions, batch, pairs_per_chunk)
    return Decomposition(
        effect=effect,
        removal=removal,
        addition=addition,
        reduction=reduction,
        removal_alone=alone,
        onward_alone=onward,
        presence=rho,
    )


def classify(
    readout: Readout,
    directions: Tensor,
    generator: torch.Generator,
    *,
    contexts: int = 256,
    draws: int = 4,
    law: PresenceLaw | None = None,
) -> Classification:
    """Which of ``directions [S, d]`` act mostly by removal, on freshly drawn contexts.

    A direction without any effect has the share NaN; it does not remove and is not decided. Raises
    :class:`~sensverify.errors.InputError` for fewer than two contexts, which have no standard error.
    """
    if contexts < 2:
        raise InputError(expected="at least two contexts", got=str(contexts), remedy="draw more contexts")
    batch = readout.sample(contexts, generator)
    parts = decompose(readout, directions, batch=batch, generator=generator, draws=draws, law=law)
    return verdicts(parts)


def verdicts(parts: Decomposition) -> Classification:
    """What :func:`classify` concludes, from parts already computed."""
    share, error = parts.removal_share, parts.standard_error
    return Classification(
        share=share,
        standard_error=error,
        removes=share > MAJORITY,
        decided=(share - MAJORITY).abs() > SIGNIFICANT * error,
    )


def mean_direction(x: Tensor, centring: Centring) -> tuple[Tensor, float]:
    """Unit ``[d]`` along ``E x̂``, the mean of the unit activations, and the length of ``E x̂``.

    ``E ρ_s = ⟨s, E x̂⟩``: the mean presence of ``s`` is its cosine to this direction times that length.
    """
    centred = centring.project(x)
    mean = (centred / formulas.norm(centred)).mean(0)
    length = float(mean.norm())
    return mean / length, length


def lean(x: Tensor, directions: Tensor, centring: Centring) -> Tensor:
    """Cosine ``[S]`` of each of ``directions [S, d]`` to the mean of the unit activations of ``x [B, d]``."""
    towards, _ = mean_direction(x, centring)
    return unit_directions(directions, centring).to(x) @ towards


def predicted_share(rho: Tensor, law: PresenceLaw | None = None, points: int = 2_001) -> Tensor:
    """Removal shares ``[S]`` expected from presences ``ρ [S, B]`` alone, where effects are second order in the angle.

    ``Σ r⁺(a + r) / Σ (a + r)²`` over contexts, ``r = −arcsin ρ``: nothing is known about the read-out but that it turns
    equally fast everywhere (SE-3).
    """
    a = arcsines(law, points)
    first, second = a.mean(), a.square().mean()
    r = -torch.arcsin(rho.double())
    whole = second + 2 * first * r + r.square()
    return (r.clamp_min(0) * (first + r)).sum(1) / whole.sum(1)


def removal_threshold(law: PresenceLaw | None = None, points: int = 20_001) -> float:
    """``ρ* = −sin √(E arcsin² α)``: locally linear read-outs see removal in the majority below this presence."""
    return -math.sin(float(arcsines(law, points).square().mean().sqrt()))


def arcsines(law: PresenceLaw | None, points: int) -> Tensor:
    """``arcsin α`` at the midpoints of equal strata of the law."""
    law = law or PresenceLaw()
    middle = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    return torch.arcsin(law.low + (law.high - law.low) * middle)


def drawn_presences(law: PresenceLaw | None, draws: int, batch: Batch[Any], generator: torch.Generator) -> Tensor:
    """``α [draws, B]`` by the law, in the dtype of the activations."""
    return (law or PresenceLaw()).stratified(draws, len(batch), generator).to(batch.x)


def over_chunks(
    of_chunk: Callable[[Tensor], list[Tensor]], directions: Tensor, batch: Batch[Any], pairs_per_chunk: int
) -> list[Tensor]:
    """The parts ``[S, B]`` that ``of_chunk`` makes of a few directions at a time, put together."""
    chunks = [of_chunk(chunk) for chunk in torch.split(directions, max(1, pairs_per_chunk // len(batch)))]
    return [torch.cat(list(part)) for part in zip(*chunks, strict=True)]
