"""Selective sensitivity: effects that are concentrated on few units of the read-out (claim SE-5).

The effect of an intervention is ``Δ = f_b(I_s^α(x)) − f_b(x)``, or against the absent reference (see
:mod:`sensverify.sensitivity`). Two measures of it:

- *concentration* ``C = ‖Δ‖₄⁴/‖Δ‖₂⁴``, between ``1/n``, spread over all ``n`` units, and 1, all on one. It says where
  an effect lands, not how large it is.
- *peak sensitivity* ``‖Δ‖₄⁴/E‖f_b(x)‖₂⁴``, concentration times size: large effects on few units.

Both mean something only where single units mean something: behind a ReLU, in the neurons of an MLP, at the logits. A
residual stream may be rotated at will; a read-out therefore has to say that its basis is privileged
(:class:`sensverify.readout.PrivilegedReadout`), and any other is refused.

*Which to maximise.* Let the read-out be linear, ``Δ ∝ Wᵀs``. A quotient does not change when ``s`` is written in other
coordinates, so the maximisers of ``C`` are those of the whitened frame: near ``M⁻¹w_i`` with ``M = WWᵀ``, the *dual* of
a feature, which agrees with ``w_i`` if the frame is tight, as trained dictionaries nearly are, and otherwise has cosine
``√(1 − d/n)`` to it on random frames (thresholds and large steps blur this to a tendency). Peak sensitivity,
``Σ⟨w_j, s⟩⁴`` on the unit sphere, is 1 or more at a unit feature of any frame and ``3n/(d(d+2))`` at a random
direction, on average; its maximisers are near ``w_i`` itself (SE-5.peak).

*No effect* would be 0/0 and counts as spread, ``1/n``. So that nothing jumps there, and the concentration of rounding
errors is not taken for one of effects, the engine computes ``(‖Δ‖₄⁴ + φ⁴/n)/(‖Δ‖₂⁴ + φ⁴)`` with
``φ = 64·eps·‖f_b(x)‖``: smooth, in the same range, and for ``‖Δ‖ ≥ 100φ`` within ``1e-8`` of ``C``.

Concentration is averaged *by effect*, ``C(s) = E‖Δ‖₄⁴/E‖Δ‖₂⁴``, each context with the weight ``‖Δ‖₂⁴``, not as ``E C``:

- In the theory the read-out is linear and the step goes along ``s``: ``Δ`` is one vector up to a factor, and the two
  agree. The intervention also shrinks what else is active, and units have thresholds; then they do not. Where ``α`` is
  near the presence that there was, hardly any unit crosses its threshold, and an effect of no size is concentrated by
  accident.
- A quotient of two polynomials in ``Δ`` is smooth where effects vanish. The gradient of a single ``C`` grows as
  ``1/‖Δ‖``, so that in ``E C`` the contexts in which nothing happens steer the search. On the trained toys of
  ``benchmarks/selective_search.py`` (``n = 2d``) its noise has heavy tails, up to hundreds of times that of the
  quotient, and 60 to 92 of 100 directions end at a feature instead of 96 to 98.
- The price is a lower value, not a better estimate: large effects come with large ``α``, which also shrinks all else
  that was active. Features on the toys have 0.65 to 0.68 where ``E C`` gives 0.78 to 0.84. Each of the two is to be
  compared with its own value for random directions.

*A direction and its negative* can be equally selective, because ``Δ`` and ``−Δ`` are: taking a dense feature away lands
on its unit just as adding it does. What is found is a feature or the removal of one; the sign of the effect tells
which. With the absent reference no presence of ``s`` itself is there to be taken away.

*Units are taken as they come*: one whose scale is ten times that of the others draws every effect to itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from sensverify.claims import Progress, silent
from sensverify.errors import InputError
from sensverify.geometry import presence
from sensverify.readout import Batch, PrivilegedReadout, Readout
from sensverify.scoring import derivatives
from sensverify.sensitivity import (
    Probe,
    Reference,
    SensitivityEstimate,
    compared,
    directions_at_once,
    with_same_draws,
)

Averaging = Literal["contexts", "effects"]
"""How contexts are averaged: each with the same weight, ``E C``, or by effect, ``E‖Δ‖₄⁴/E‖Δ‖₂⁴``."""

AVERAGING: Averaging = "effects"
"""The default, for the reasons that the module gives."""

Measure = Literal["concentration", "peak"]
"""Where effects land, whatever their size, or large effects on few units."""

SCORE_OF: Mapping[Measure, str] = {"concentration": "selective", "peak": "peak"}
"""What a search that maximises the measure is called (:class:`sensverify.discovery.SearchOptions`)."""

ROUNDINGS = 64
"""Effects smaller than this many roundings of the read-out count as none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Concentrations:
    """``values [S, B]`` in ``[1/n, 1]`` and ``sizes [S, B]``, the length ``‖Δ‖`` of each effect (never below ``φ``)."""

    values: Tensor
    sizes: Tensor

    def weights(self, averaging: Averaging) -> Tensor:
        """``[S, B]``: with what weight each context enters, up to one factor per direction; at most 1."""
        if averaging == "contexts":
            return torch.ones_like(self.values)
        largest = self.sizes.detach().amax(-1, keepdim=True)
        nothing = largest == 0
        return ((self.sizes + nothing) / (largest + nothing)) ** 4


def peaks(found: Concentrations, clean: Tensor) -> Tensor:
    """Peak sensitivities ``‖Δ‖₄⁴/E‖f_b(x)‖₂⁴``, ``[S, B]``; the mean is over the contexts of ``clean [B, n]``.

    Divided by one number for all contexts, not by each one's own, which behind a ReLU may be zero. Standard errors take
    that number as known: they are right for ratios of two groups on the same contexts, where it cancels.
    """
    length = torch.linalg.vector_norm(clean.detach(), dim=-1)
    largest = length.max()
    typical = largest * (length / largest.clamp_min(torch.finfo(length.dtype).tiny)).pow(4).mean() ** 0.25
    relative: Tensor = (found.sizes / (typical + (typical == 0))) ** 4
    return found.values * relative


def concentrations(clean: Tensor, perturbed: Tensor) -> Concentrations:
    """Concentration and size of the effects ``perturbed [S, B, n] − clean``; differentiable in both.

    ``clean``, the reference, is ``[B, n]`` or ``[S, B, n]``.
    """
    floor = ROUNDINGS * torch.finfo(clean.dtype).eps * torch.linalg.vector_norm(clean.detach(), dim=-1)
    effect, second, fourth = _Moments.apply(clean, perturbed, floor)  # type: ignore[no-untyped-call]
    scale = effect + (nothing := effect == 0)  # no effect, and a clean read-out of zero
    rounding = (floor / scale) ** 4 + nothing
    total = second.square() + rounding
    return Concentrations(values=(fourth + rounding / clean.shape[-1]) / total, sizes=effect * total**0.25)


class _Moments(torch.autograd.Function):
    """Of an effect ``Δ = perturbed − clean`` its largest entry (at least ``floor``, and without gradient), and
    ``‖Δ‖₂²`` and ``‖Δ‖₄⁴`` in units of that.

    In these units an effect can be raised to the fourth power in any dtype. The gradient is written out: there are a
    dozen tables ``[S, B, n]`` less to make than autograd makes.
    """

    @staticmethod
    def forward(ctx: Any, clean: Tensor, perturbed: Tensor, floor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        effect = perturbed - clean
        scale = torch.maximum(effect.abs().amax(-1), floor)
        unit = effect.mul_(1 / (scale + (scale == 0))[..., None])
        squares = unit.square()
        ctx.save_for_backward(clean, perturbed, unit, scale)
        ctx.mark_non_differentiable(scale)
        return scale, squares.sum(-1), squares.square_().sum(-1)

    @staticmethod
    def backward(ctx: Any, _: Tensor, second: Tensor, fourth: Tensor) -> tuple[Tensor | None, ...]:
        clean, perturbed, unit, scale = ctx.saved_tensors
        inverse = 1 / (scale + (scale == 0))
        if torch.is_grad_enabled():  # whoever asks for second derivatives gets those of the formula
            squares = ((perturbed - clean) * inverse[..., None]).square()
            moments = squares.sum(-1), squares.square().sum(-1)
            return *derivatives(moments, (clean, perturbed), (second, fourth), ctx.needs_input_grad[:2]), None
        gradient = unit.square().mul_((4 * inverse * fourth)[..., None])
        gradient = gradient.add_((2 * inverse * second)[..., None]).mul_(unit)
        of_clean = -gradient.sum_to_size(clean.shape) if ctx.needs_input_grad[0] else None
        return of_clean, gradient, None


def is_privileged(readout: Readout) -> bool:
    """Whether the read-out says that its units mean something one by one; one that says nothing does not."""
    return isinstance(readout, PrivilegedReadout) and readout.privileged


def check_privileged(readout: Readout) -> None:
    """Raise :class:`~sensverify.errors.InputError` unless :func:`is_privileged`."""
    if not is_privileged(readout):
        raise InputError(
            expected="a read-out with a privileged basis (ReLU units, neurons of an MLP, logits)",
            got=f"{type(readout).__name__}, which does not say that it has one",
            remedy="read where single units mean something, or use the score plain",
        )


def effects(
    readout: Readout,
    batch: Batch[Any],
    clean: Tensor,
    directions: Tensor,
    alpha: Tensor,
    reference: Reference = "clean",
) -> Concentrations:
    """Concentrations ``[S, B]`` of setting the presence of ``directions [S, d]`` to ``alpha``, ``[B]`` or ``[S, B]``.

    Differentiable in ``directions``.
    """
    return concentrations(*compared(readout, batch, clean, directions, alpha, reference))


def estimate(
    readout: Readout,
    directions: Tensor,
    *,
    generator: torch.Generator,
    contexts: int = 256,
    draws: int = 4,
    probe: Probe | None = None,
    averaging: Averaging = AVERAGING,
    measure: Measure = "concentration",
    pairs_per_chunk: int | None = None,
) -> SensitivityEstimate:
    """Estimate the ``measure`` of each row of ``directions [S, d]`` on ``contexts`` freshly drawn contexts.

    Raises ``ValueError`` for fewer than two contexts, and as :func:`estimate_on`.
    """
    if contexts < 2:
        raise ValueError("a standard error needs at least two contexts")
    return estimate_on(
        readout,
        readout.sample(contexts, generator),
        directions,
        generator=generator,
        draws=draws,
        probe=probe,
        averaging=averaging,
        measure=measure,
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
    averaging: Averaging = AVERAGING,
    measure: Measure = "concentration",
    pairs_per_chunk: int | None = None,
) -> SensitivityEstimate:
    """As :func:`estimate`, on given contexts: groups of directions scored on one batch are paired.

    ``effects [S, B]`` of the result are concentrations or peaks (averaged over ``α``). ``weights`` are those of the
    probe, for concentrations times those of the averaging; mean and standard error over contexts follow. The probe's
    distance plays no part.

    Raises :class:`~sensverify.errors.InputError` for a read-out without a privileged basis.
    """
    check_privileged(readout)
    probe = probe or Probe()
    clean = readout.clean(batch)
    alphas = probe.law.stratified(draws, len(batch), generator).to(batch.x)
    values, weights = [], []
    for chunk in torch.split(directions, directions_at_once(clean, readout.width, pairs_per_chunk)):
        drawn = [effects(readout, batch, clean, chunk, alpha, probe.reference) for alpha in alphas]
        # Side by side as [S, draws·B], so that all weights of one direction have one factor in common.
        found = Concentrations(
            values=torch.cat([one.values for one in drawn], 1), sizes=torch.cat([one.sizes for one in drawn], 1)
        )
        if measure == "peak":
            value, weight = peaks(found, clean), torch.ones_like(found.values)
        else:
            value, weight = found.values, found.weights(averaging)
        value, weight = (t.reshape(len(chunk), draws, -1) for t in (value, weight))
        whole = weight.sum(1)
        values.append(torch.where(whole > 0, (weight * value).sum(1) / whole, value.mean(1)))
        weights.append(whole / draws)
    rho = presence(batch.x, directions, readout.centring)
    return SensitivityEstimate(
        effects=torch.cat(values),
        weights=torch.cat(weights) * probe.weighting.weights(rho),
        configuration={
            **probe.to_json(),
            "distance": None,
            "score": SCORE_OF[measure],
            "averaging": averaging if measure == "concentration" else None,
            "contexts": len(batch),
            "draws": draws,
        },
    )


def estimate_groups(
    readout: Readout,
    batch: Batch[Any],
    groups: Mapping[str, Tensor],
    *,
    generator: torch.Generator,
    draws: int = 4,
    probe: Probe | None = None,
    measure: Measure = "concentration",
    progress: Progress = silent,
) -> dict[str, SensitivityEstimate]:
    """:func:`estimate_on` for several groups of directions ``[S, d]`` that all meet the same contexts *and* the same
    presences ``α``, as :func:`sensverify.sensitivity.estimate_groups` has it of plain sensitivity."""

    def of(directions: Tensor) -> SensitivityEstimate:
        return estimate_on(readout, batch, directions, generator=generator, draws=draws, probe=probe, measure=measure)

    return with_same_draws(groups, of, generator, progress)


@torch.no_grad()
def null_effects(readout: Readout, batch: Batch[Any], directions: Tensor) -> Concentrations:
    """Setting each presence to what it already is: the null control, ``1/n`` everywhere but for rounding."""
    clean, rho = readout.clean(batch), presence(batch.x, directions, readout.centring)
    size = directions_at_once(clean, readout.width)
    lots = zip(torch.split(directions, size), torch.split(rho, size), strict=True)
    found = [effects(readout, batch, clean, *lot) for lot in lots]
    return Concentrations(
        values=torch.cat([one.values for one in found]), sizes=torch.cat([one.sizes for one in found])
    )
