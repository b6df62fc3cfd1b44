"""The score of the research code published with the sensitivity hypothesis, beside ours, one ingredient at a time.

Both rotate a direction's presence to ``α`` and measure ``(1 − cos)/2`` between what the model makes of the activation
before and after. The published score differs in what it calls after: a *unit-norm* ``x' = αs + √(1−α²)v`` against a
baseline that keeps ``x`` (:func:`sensverify.formulas.unit_norm_intervention`). Since ``I_s^α`` keeps the norm, that is
``I_s^α(x)/‖x‖``: the intervention followed by a change of norm which is the same for every direction
(:class:`UnitNormReadout`). At the null rotation, ``α = ρ_s(x)``, nothing is rotated and ``D(F(x), F(x/‖x‖))`` remains
(claim SE-2); how much of a score that is, its *null share*, says how much of it is made by the score.

Its ``α`` is uniform and multiplied by 7/8, which is the law of our default written differently
(:data:`PUBLISHED_LAW`). It draws positions from padding as well, and reads weights folded by TransformerLens; both are
matters of the subject, not of the score.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sensverify import formulas
from sensverify.geometry import Centring
from sensverify.readout import Batch, Readout
from sensverify.sensitivity import PresenceLaw, SensitivityEstimate, null_effects
from sensverify.statistics import Interval, bootstrap_weights, percentile_interval

PUBLISHED_LAW = PresenceLaw(low=0.0, high=7 / 8)
"""``α = 7/8 · U(0, 1)``."""
UNLIMITED_LAW = PresenceLaw(low=0.0, high=1.0)
"""The same without the factor."""


@dataclasses.dataclass(frozen=True)
class UnitNormReadout:
    """Reads ``x`` with ``Px`` divided by its norm; the clean read-out stays that of ``x`` itself.

    With this in place of a read-out every estimate of ours becomes that of the published score. What ``P`` takes away
    is carried over, as by every intervention of ours; in folded weights it is zero.
    """

    inner: Readout

    @property
    def width(self) -> int:
        """``d``."""
        return self.inner.width

    @property
    def centring(self) -> Centring:
        """That of what is read."""
        return self.inner.centring

    @property
    def device(self) -> torch.device:
        """That of what is read."""
        return self.inner.device

    def sample(self, count: int, generator: torch.Generator) -> Batch[Any]:
        """The same contexts as without."""
        return self.inner.sample(count, generator)

    def clean(self, batch: Batch[Any]) -> Tensor:
        """The untouched read-out ``[B, d_out]``: its activations keep their norm."""
        return self.inner.clean(batch)

    def read(self, batch: Batch[Any], x: Tensor) -> Tensor:
        """What is made of ``x [S, B, d]`` at norm 1, ``[S, B, d_out]``."""
        centred = self.inner.centring.project(x)
        length: Tensor = formulas.norm(centred)
        tiny = torch.finfo(x.dtype).tiny
        return self.inner.read(batch, centred / length.clamp_min(tiny) + (x - centred))

    def describe(self) -> Mapping[str, Any]:
        """What is read, and that interventions are brought to norm 1."""
        return {**self.inner.describe(), "intervention_norm": 1}


def null_share(readout: Readout, batch: Batch[Any], estimate: SensitivityEstimate, directions: Tensor) -> Tensor:
    """``[2, B]``: of each context the effect at the null rotation and that of the score, means over ``directions
    [S, d]`` with the estimate's effects ``[S, B]``. The share is the quotient of their means."""
    nothing = null_effects(readout, batch, directions)
    return torch.stack([nothing.mean(0), estimate.effects.mean(0)])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """The ratio of two groups of directions under one variant, and its quotient by the ratio under another."""

    ratio: Interval
    change: Interval


def compare_ratios(
    top: Mapping[str, Tensor],
    bottom: Mapping[str, Tensor],
    base: str,
    generator: torch.Generator,
    resamples: int = 2000,
) -> dict[str, Comparison]:
    """Of every variant ``mean(top)/mean(bottom)``, and its quotient by that of the variant ``base``.

    ``top`` and ``bottom`` hold effects ``[S₁, B]`` and ``[S₂, B]`` under each variant: of the same directions, context
    ``i`` of every variant from the same window. Directions and contexts are resampled, the same ones for all variants.

    Raises ``ValueError`` for tables that are not of one shape in all variants.
    """
    shapes = {(top[name].shape, bottom[name].shape) for name in top}
    if len(shapes) != 1 or set(top) != set(bottom):
        raise ValueError("variants are compared on the same directions and as many contexts")
    contexts = bootstrap_weights(top[base].shape[1], resamples, generator)
    upper, lower = (bootstrap_weights(len(table[base]), resamples, generator) for table in (top, bottom))

    def drawn(table: Tensor, directions: Tensor) -> Tensor:
        return ((directions @ table.double().cpu()) * contexts).sum(1)

    values = {name: float(top[name].double().mean() / bottom[name].double().mean()) for name in top}
    replicates = {name: drawn(top[name], upper) / drawn(bottom[name], lower) for name in top}
    return {
        name: Comparison(
            ratio=percentile_interval(values[name], replicates[name]).around_value(),
            change=percentile_interval(values[name] / values[base], replicates[name] / replicates[base]).around_value(),
        )
        for name in top
    }


def share_interval(parts: Tensor, generator: torch.Generator, resamples: int = 2000) -> Interval:
    """The quotient of the means of ``parts [2, B]``, contexts resampled."""
    contexts = bootstrap_weights(parts.shape[1], resamples, generator)
    part, whole = (contexts @ row for row in parts.double().cpu())
    return percentile_interval(parts[0].double().mean() / parts[1].double().mean(), part / whole).around_value()
