"""Sensitivity ``SeS^t_{a⇝b}(s) = E_{x,α} D(f_b(x), f_b(I_s^α(x)))`` with standard errors.

Contexts are the unit of chance: every standard error is over contexts, the draws of ``α`` inside one context
being averaged first. All directions see the same contexts and the same ``α``, so comparisons are paired.

What is compared with ``f_b(I_s^α(x))`` is a choice. The published *clean* reference is ``f_b(x)``: the step from the
presence ``ρ`` that there was to ``α`` is the larger the more negative ``ρ``, so that leaning against what is always
there, the mean activation first of all, is rewarded. The *absent* reference is ``f_b(I_s^0(x))``: the model with
presence ``α`` against the model with none. Then the step is the same in every context, ``arcsin α``, and since
``I_s^α ∘ I_s^0 = I_s^α`` (RN-2) no presence of ``s`` itself is taken away. What is orthogonal to ``s`` still shrinks by
``√(1 − α²)`` (RN-3). It costs a second read.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from sensverify import formulas
from sensverify.claims import Progress, silent
from sensverify.geometry import presence
from sensverify.planes import angle_entries, angles_moved, read_moved
from sensverify.readout import Batch, Readout
from sensverify.scoring import Distance, angular_distance

TABLE, ACCELERATOR_TABLE = 2**19, 2**27
"""Entries of the largest table that is made at once, on a CPU and elsewhere: what fits a CPU's cache is worked on
several times as fast as what does not, and an accelerator wants all it can get."""
SMALL = 2**13
"""Pairs up to which one thread is faster than two in a closed form: its steps are so short that threads would spend
most of them waiting for each other."""
LEAST_LOT, LEAST_CLOSED_LOT = 64, 4096
"""Pairs that one of several threads has to get, where every pair is read and in a closed form: with fewer, threads wait
for each other's turn in the interpreter."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PresenceLaw:
    """``α ~ U(low, high)``; the published interval is ``(0, 7/8)``."""

    low: float = 0.0
    high: float = 0.875

    def __post_init__(self) -> None:
        if not -1 <= self.low <= self.high <= 1:
            raise ValueError(f"presence lies in [-1, 1] and low <= high, got ({self.low}, {self.high})")

    def stratified(self, draws: int, contexts: int, generator: torch.Generator) -> Tensor:
        """``α [draws, contexts]`` in float64, draw ``j`` uniform in the ``j``-th of ``draws`` equal strata."""
        # In float64, so that a law of a single presence means that presence in every dtype.
        uniform = torch.rand(draws, contexts, generator=generator, device=generator.device).double()
        strata = torch.arange(draws, device=generator.device)[:, None]
        return self.low + (self.high - self.low) * (strata + uniform) / draws


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weighting:
    """Which contexts count: all, those where the direction is inactive (soft, ``exp(−ρ²/σ²)``), or ``|ρ| < τ``.

    ``scale`` is ``σ`` or ``τ``. The estimate is the weighted mean ``Σ wD / Σ w``.
    """

    kind: Literal["none", "soft", "hard"] = "none"
    scale: float = 0.1

    def weights(self, rho: Tensor) -> Tensor:
        """``w [S, B]`` from presences ``ρ [S, B]``."""
        if self.kind == "soft":
            weight: Tensor = formulas.inactive_weight(rho, self.scale)
            return weight
        if self.kind == "hard":
            return (rho.abs() < self.scale).to(rho.dtype)
        return torch.ones_like(rho)


Reference = Literal["clean", "absent"]
"""What an intervention is compared with: the activation as it was, or with presence 0."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """How sensitivity is measured: law of ``α``, weighting, distance, reference. The same in search and evaluation."""

    law: PresenceLaw = PresenceLaw()
    weighting: Weighting = Weighting()
    distance: Distance = angular_distance
    reference: Reference = "clean"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for the result's configuration."""
        return {
            "alpha": [self.law.low, self.law.high],
            "weighting": self.weighting.kind,
            "weighting_scale": None if self.weighting.kind == "none" else self.weighting.scale,
            "distance": getattr(self.distance, "__name__", str(self.distance)),
            "reference": self.reference,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class SensitivityEstimate:
    """``effects [S, B]`` per direction and context (averaged over α) and the weights they enter with."""

    effects: Tensor
    weights: Tensor
    configuration: Mapping[str, Any]

    @property
    def mean(self) -> Tensor:
        """``SeS [S]``; NaN for a direction to which no context has any weight."""
        return (self.weights * self.effects).sum(1) / self.weights.sum(1)

    @property
    def standard_error(self) -> Tensor:
        """Standard error of the weighted mean over contexts, ``[S]`` (linearised)."""
        contexts = self.effects.shape[1]
        residual = self.weights * (self.effects - self.mean[:, None]) / self.weights.mean(1, keepdim=True)
        return residual.square().sum(1).div(contexts * (contexts - 1)).sqrt()


def effects(
    readout: Readout,
    batch: Batch[Any],
    clean: Tensor,
    directions: Tensor,
    alpha: Tensor,
    distance: Distance = angular_distance,
    reference: Reference = "clean",
) -> Tensor:
    """``D(f(x), f(I_s^α(x))) [S, B]``, differentiable in ``directions [S, d]``; ``alpha`` is ``[B]`` or ``[S, B]``."""
    if distance is angular_distance and reference == "clean":
        known = angles_moved(readout, batch, clean, directions, alpha)
        if known is not None:
            return known
    return distance(*compared(readout, batch, clean, directions, alpha, reference))


def compared(
    readout: Readout, batch: Batch[Any], clean: Tensor, directions: Tensor, alpha: Tensor, reference: Reference
) -> tuple[Tensor, Tensor]:
    """What the effect of an intervention is measured between: the reference, ``[B, d_out]`` if clean and
    ``[S, B, d_out]`` if absent, and the read-out with presence ``alpha``, ``[S, B, d_out]``."""
    if reference == "clean":
        (moved,) = read_moved(readout, batch, directions, [alpha])
        return clean, moved
    without, moved = read_moved(readout, batch, directions, [0.0, alpha])
    return without, moved


def directions_at_once(clean: Tensor, width: int, pairs: int | None = None) -> int:
    """How many directions are worked on together, given the clean read-out ``[B, d_out]`` and ``d``: at least 1.

    So many that tables ``[S, B, d_out]`` and ``[S, B, d]`` have at most :data:`TABLE` entries, or, if ``pairs`` is
    given, ``[S, B]`` so many.
    """
    if pairs is not None:
        return max(1, pairs // len(clean))
    table = TABLE if clean.device.type == "cpu" else ACCELERATOR_TABLE
    return max(1, table // (len(clean) * max(width, clean.shape[-1])))


@dataclasses.dataclass(frozen=True)
class Tables:
    """What effects are made from: ``entries`` numbers of a pair in the largest table; ``closed``, by a closed form."""

    entries: int
    closed: bool

    @staticmethod
    def of(readout: Readout, clean: Tensor, probe: Probe) -> Tables:
        """Those of :func:`effects`, given the clean read-out ``[B, d_out]``."""
        known = None
        if probe.distance is angular_distance and probe.reference == "clean" and torch.finfo(clean.dtype).bits >= 32:
            known = angle_entries(readout)
        return Tables(known or max(readout.width, clean.shape[-1]), known is not None)

    def directions(self, contexts: int, device: torch.device, pairs: int | None = None) -> int:
        """How many directions are worked on together: at least 1, and so many that tables have at most :data:`TABLE`
        entries or, if ``pairs`` is given, so many pairs."""
        table = TABLE if device.type == "cpu" else ACCELERATOR_TABLE
        return max(1, (table // self.entries if pairs is None else pairs) // contexts)

    def lots(self, count: int, at_once: int, contexts: int) -> int:
        """How many threads share ``count`` directions, of which ``at_once`` are worked on at once: as many
        as torch has, if every one of them gets enough for it to pay."""
        enough = LEAST_CLOSED_LOT if self.closed else LEAST_LOT
        return max(1, min(torch.get_num_threads(), min(count, at_once) * contexts // enough))

    @contextlib.contextmanager
    def threads(self, pairs: int) -> Iterator[None]:
        """As many threads as ``pairs`` at once are worth: the small steps of a closed form are done sooner by one."""
        usual = torch.get_num_threads()
        if not self.closed or usual == 1 or pairs > SMALL:
            yield
            return
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(usual)


def estimate(
    readout: Readout,
    directions: Tensor,
    *,
    generator: torch.Generator,
    contexts: int = 256,
    draws: int = 4,
    probe: Probe | None = None,
    pairs_per_chunk: int | None = None,
) -> SensitivityEstimate:
    """Estimate SeS of each row of ``directions [S, d]`` on ``contexts`` freshly drawn contexts.

    ``pairs_per_chunk`` bounds how many (direction, context) pairs are in memory, by default as
    :func:`directions_at_once` has it; it never changes results
    beyond rounding. Raises ``ValueError`` for fewer than two contexts, which have no standard error.
    """
    if contexts < 2:
        raise ValueError("a standard error needs at least two contexts")
    batch = readout.sample(contexts, generator)
    return estimate_on(
        readout,
        batch,
        directions,
        generator=generator,
        draws=draws,
        probe=probe,
        pairs_per_chunk=pairs_per_chunk,
    )


@torch.no_grad()
def estimate_on(
    readout: Readout,
    batch: Batch[Any],
    directions: Tensor,
    *,
    generator: torch.Generator,
    draws: int = 4,
    probe: Probe | None = None,
    pairs_per_chunk: int | None = None,
) -> SensitivityEstimate:
    """As :func:`estimate`, on given contexts: groups of directions scored on one batch are paired."""
    probe = probe or Probe()
    clean = readout.clean(batch)
    alphas = probe.law.stratified(draws, len(batch), generator).to(batch.x)
    tables = Tables.of(readout, clean, probe)
    size = tables.directions(len(clean), clean.device, pairs_per_chunk)
    with tables.threads(min(size, len(directions)) * len(clean)):
        chunks = [
            sum(effects(readout, batch, clean, chunk, alpha, probe.distance, probe.reference) for alpha in alphas)
            / draws
            for chunk in torch.split(directions, size)
        ]
    rho = presence(batch.x, directions, readout.centring)
    return SensitivityEstimate(
        effects=torch.cat([torch.as_tensor(chunk) for chunk in chunks]),
        weights=probe.weighting.weights(rho),
        configuration={**probe.to_json(), "contexts": len(batch), "draws": draws},
    )


def estimate_groups(
    readout: Readout,
    batch: Batch[Any],
    groups: Mapping[str, Tensor],
    *,
    generator: torch.Generator,
    draws: int = 4,
    probe: Probe | None = None,
    progress: Progress = silent,
) -> dict[str, SensitivityEstimate]:
    """:func:`estimate_on` for several groups of directions ``[S, d]`` that all meet the same contexts *and* the same
    presences ``α``: differences and ratios between groups are paired."""

    def of(directions: Tensor) -> SensitivityEstimate:
        return estimate_on(readout, batch, directions, generator=generator, draws=draws, probe=probe)

    return with_same_draws(groups, of, generator, progress)


def with_same_draws(
    groups: Mapping[str, Tensor],
    estimate: Callable[[Tensor], SensitivityEstimate],
    generator: torch.Generator,
    progress: Progress,
) -> dict[str, SensitivityEstimate]:
    """``estimate`` of each group, with ``generator`` set back in between."""
    start = generator.get_state()
    estimates = {}
    for done, (name, directions) in enumerate(groups.items()):
        progress("scoring", done, len(groups))
        generator.set_state(start)
        estimates[name] = estimate(directions)
    progress("scoring", len(groups), len(groups))
    return estimates


@torch.no_grad()
def null_effects(
    readout: Readout, batch: Batch[Any], directions: Tensor, distance: Distance = angular_distance
) -> Tensor:
    """Effects ``[S, B]`` of setting each presence to what it already is: the null control, 0 up to rounding."""
    clean, rho = readout.clean(batch), presence(batch.x, directions, readout.centring)
    size = Tables.of(readout, clean, Probe(distance=distance)).directions(len(clean), clean.device)
    lots = zip(torch.split(directions, size), torch.split(rho, size), strict=True)
    return torch.cat([effects(readout, batch, clean, *lot, distance) for lot in lots])
