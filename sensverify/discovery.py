"""Discovery: directions of large sensitivity, found on the sphere.

One ascent serves both ways of searching. *Parallel* moves all ``K`` directions at once, kept apart by a
repulsion that is negligible between nearly orthogonal directions and a barrier between duplicates.
*Sequential*, the published way, finds one after another with a squared-cosine penalty on overlap with those
already found. *Spectral* (:mod:`sensverify.spectral`) needs no ascent and can also start one.

The objective is ``Σ log SeS(s_i)``: the maximisers of SeS are its own, and step sizes and the strength of
repulsion mean the same on a toy whose effects are 0.1 as on a language model whose effects are 0.001.

With ``score="selective"`` or ``"peak"`` it is ``Σ log`` of the effect's concentration or of peak sensitivity
(:mod:`sensverify.selectivity`), on read-outs with a privileged basis. A direction and its negative move different
units; there, both may be found.

Repulsion fades out over the second half of a search: it is there to spread directions over features, and would in the
end keep them off their places, most of all where there are more directions than features.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from sensverify import selectivity
from sensverify.claims import Progress, silent
from sensverify.errors import InputError
from sensverify.geometry import gram, presence, random_directions, step_on_sphere, tangent, unit_directions
from sensverify.readout import Batch, Readout
from sensverify.selectivity import Averaging
from sensverify.sensitivity import Probe, directions_at_once, effects
from sensverify.spectral import most_directions, spectral_directions

Method = Literal["parallel", "sequential", "spectral"]
Score = Literal["plain", "selective", "peak"]
Start = Literal["random", "spectral", "activations"]

DUPLICATE_COSINE = 0.9
"""Two directions closer than this are one found twice: in absolute cosine, or signed unless the score is plain."""

SAME = 1e-6
"""Two directions whose squared cosine is within this of 1 are one: there is no way in which to push them apart."""

LEAST_MEAN = 256
"""Over at least so many contexts is the mean taken that activations are freed of before they start a search."""

RESEEDINGS = (1 / 8, 1 / 4, 3 / 8, 1 / 2)
"""When, as shares of all steps, a parallel search starts duplicates afresh: early enough for them to arrive."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What a search is; written whole into ``cfg.json``.

    ``steps`` is per direction in sequential mode and for all directions together in parallel mode.
    ``learning_rate`` is the angle in radians of an early step. ``contexts`` are drawn afresh every step.
    ``averaging`` is how the selective score averages over them; the others have no use for it. ``repulsion`` is the
    strength of the penalty on overlap, by default 1, but 0.1 in a parallel search by another score than the plain one:
    those are meant for more directions than there are features, where a strong barrier keeps surplus directions hanging
    beside features.
    """

    directions: int = 16
    steps: int = 200
    method: Method = "parallel"
    contexts: int = 64
    learning_rate: float = 0.1
    repulsion: float | None = None
    start: Start = "random"
    score: Score = "plain"
    averaging: Averaging = selectivity.AVERAGING
    seed: int = 0
    probe: Probe = dataclasses.field(default_factory=Probe)

    def __post_init__(self) -> None:
        if min(self.directions, self.steps, self.contexts) < 1:
            raise ValueError("directions, steps and contexts are at least 1")

    @property
    def barrier(self) -> float:
        """The strength of repulsion in force."""
        if self.repulsion is not None:
            return self.repulsion
        return 1.0 if self.score == "plain" or self.method == "sequential" else 0.1

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for ``cfg.json``."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["repulsion"] = self.barrier
        probe = self.probe.to_json()
        if self.score != "selective":
            del fields["averaging"]
        if self.score != "plain":
            probe["distance"] = None  # what is measured of the effect takes its place
        return {**fields, "probe": probe}


@dataclasses.dataclass
class SearchState:
    """Everything needed to go on: a search resumed from it takes the same steps as one never stopped."""

    directions: Tensor
    momentum: Tensor
    second_moment: Tensor
    running_score: Tensor
    history: list[float]
    step: int
    generator: torch.Generator


def total_steps(options: SearchOptions) -> int:
    """Number of ascent steps in the whole search."""
    if options.method == "spectral":
        return 0
    return options.steps * (options.directions if options.method == "sequential" else 1)


def start_search(readout: Readout, options: SearchOptions) -> SearchState:
    """The state before the first step: random directions, activations, or the spectral solution.

    A search that starts from the spectral solution has random directions beside it if there are not enough of those.
    Activations less their mean point, where features are sparse, near every feature as often as it is active; a random
    direction is near the features with the widest basins.

    Raises :class:`~sensverify.errors.InputError` for a score that the read-out or the method does not have.
    """
    _check_score(readout, options)
    generator = torch.Generator(device=readout.device).manual_seed(options.seed)
    closed_form = 0
    if options.method == "spectral":
        closed_form = options.directions
    elif options.start == "spectral":
        closed_form = min(options.directions, most_directions(readout))
    parts = []
    if closed_form:
        parts.append(spectral_directions(readout, closed_form, generator=generator))
    if rest := options.directions - closed_form:
        parts.append(_fresh(readout, options, rest, generator))
    directions = torch.cat([part.to(parts[-1]) for part in parts])
    return SearchState(
        directions=directions,
        momentum=torch.zeros_like(directions),
        second_moment=torch.zeros(len(directions), 1, device=directions.device),
        running_score=torch.zeros(len(directions), device=directions.device),
        history=[],
        step=0,
        generator=generator,
    )


def search(
    readout: Readout,
    options: SearchOptions,
    *,
    state: SearchState | None = None,
    progress: Progress = silent,
    after_step: Callable[[SearchState], None] | None = None,
) -> SearchState:
    """Run, or go on with, a search; returns the final state with unit ``directions [K, d]``.

    ``after_step`` is called with the state after every step; a caller that writes checkpoints does it there.
    Raises as :func:`start_search`.
    """
    _check_score(readout, options)
    state = state or start_search(readout, options)
    steps = total_steps(options)
    while state.step < steps:
        _ascend_once(readout, options, state)
        state.step += 1
        progress("searching", state.step, steps)
        if after_step is not None:
            after_step(state)
    return state


def _check_score(readout: Readout, options: SearchOptions) -> None:
    if options.method == "spectral" and options.probe.reference != "clean":
        raise InputError(
            expected="the clean reference with the method spectral, which solves for small steps from it",
            got=f"the reference {options.probe.reference}",
            remedy="pass another method, or the clean reference",
        )
    if options.score == "plain":
        return
    if options.method == "spectral":
        raise InputError(
            expected=f"the method parallel or sequential with the score {options.score}",
            got="spectral, which solves for plain sensitivity",
            remedy="pass another method; an ascent may still start from the spectral solution",
        )
    selectivity.check_privileged(readout)


def _ascend_once(readout: Readout, options: SearchOptions, state: SearchState) -> None:
    """One step of Riemannian Adam on the active directions.

    The second moment is one number per direction: a second moment per coordinate would tie the path to the
    coordinate axes, which mean nothing on the sphere.
    """
    stage, step_in_stage = divmod(state.step, options.steps)
    active = slice(stage, stage + 1) if options.method == "sequential" else slice(0, options.directions)
    directions = state.directions[active].clone()
    batch = readout.sample(options.contexts, state.generator)
    clean = readout.clean(batch)
    alpha = options.probe.law.stratified(1, len(batch), state.generator)[0].to(batch.x)
    scores, gradient = _climb(readout, options, batch, clean, directions, alpha)
    # Deflation keeps sequential directions apart to the end: they have only those found before to keep clear of.
    fading = min(1.0, 2 * (1 - step_in_stage / options.steps)) if options.method == "parallel" else 1.0
    found = state.directions[: active.start]
    gradient = gradient - fading * options.barrier * _repulsion(directions, found, options)

    beta_first, beta_second = 0.9, 0.99
    gradient = torch.nan_to_num(gradient)
    momentum = beta_first * state.momentum[active] + (1 - beta_first) * gradient
    second = beta_second * state.second_moment[active] + (1 - beta_second) * gradient.square().sum(1, True)
    rate = options.learning_rate * 0.5 * (1 + math.cos(math.pi * step_in_stage / options.steps))
    corrected = momentum / (1 - beta_first ** (step_in_stage + 1))
    scale = (second / (1 - beta_second ** (step_in_stage + 1))).sqrt() + 1e-12
    moved = step_on_sphere(directions, rate * corrected / scale)
    decay = beta_first if step_in_stage else 0.0
    state.running_score[active] = decay * state.running_score[active] + (1 - decay) * scores
    state.directions[active] = moved
    state.momentum[active] = tangent(moved, momentum)
    state.second_moment[active] = second
    state.history.append(float(scores.mean()))
    moments = {int(share * options.steps) for share in RESEEDINGS} - {0}  # a search of few steps has fewer of them
    if options.method == "parallel" and step_in_stage in moments:
        _reseed_duplicates(readout, options, state)


def _climb(
    readout: Readout, options: SearchOptions, batch: Batch[Any], clean: Tensor, directions: Tensor, alpha: Tensor
) -> tuple[Tensor, Tensor]:
    """Scores ``[S]`` and the gradients ``[S, d]`` of their logarithms, which a direction has to itself."""
    parts = []
    for chunk in torch.split(directions, directions_at_once(clean, readout.width)):
        leaf = chunk.clone().requires_grad_()
        scores = _scores(readout, options, batch, clean, leaf, alpha)
        (gradient,) = torch.autograd.grad(torch.log(scores + torch.finfo(scores.dtype).tiny).sum(), leaf)
        parts.append((scores.detach(), gradient))
    scores, gradients = (torch.cat(part) for part in zip(*parts, strict=True))
    return scores, gradients


def _repulsion(directions: Tensor, found: Tensor, options: SearchOptions) -> Tensor:
    """The gradient ``[S, d]`` of the penalty on overlap.

    Squared cosine with ``found`` (sequential) or, between every two (parallel), the barrier ``−log(1 − c²) − c²``: it
    grows as ``c⁴/2`` for small cosine ``c``, so that true features, which overlap a little in superposition, are not
    pushed off their places, and without bound between duplicates. Its derivative is ``2c³/(1 − c²)``.
    """
    if options.method == "sequential":
        return 2 * _likeness(directions, found, options) @ found
    cosines = _likeness(directions, directions, options).fill_diagonal_(0.0)
    squared = cosines.square()
    slope = 2 * cosines * squared / (1 - squared).clamp_min(SAME)
    return slope.masked_fill_(squared > 1 - SAME, 0.0) @ directions  # of the same, neither can be pushed off the other


def _scores(
    readout: Readout, options: SearchOptions, batch: Batch[Any], clean: Tensor, directions: Tensor, alpha: Tensor
) -> Tensor:
    """The score ``[S]`` of each direction on this batch; the weights are part of it and carry gradient."""
    probe = options.probe
    weights = None
    if options.score == "plain":
        table = effects(readout, batch, clean, directions, alpha, probe.distance, probe.reference)
    else:
        found = selectivity.effects(readout, batch, clean, directions, alpha, probe.reference)
        if options.score == "peak":
            table = selectivity.peaks(found, clean)
        else:
            table, weights = found.values, found.weights(options.averaging)
    if probe.weighting.kind != "none":
        inactive = probe.weighting.weights(presence(batch.x, directions, readout.centring))
        weights = inactive if weights is None else inactive * weights
    if weights is None:
        return table.mean(1)
    return (weights * table).sum(1) / weights.sum(1).clamp_min(torch.finfo(table.dtype).tiny)


def _likeness(directions: Tensor, others: Tensor, options: SearchOptions) -> Tensor:
    """Cosines ``[S, R]``, of which those count as far, 0, that are not to be kept apart.

    A direction and its negative have the same plain sensitivity where effects are linear, and different units
    otherwise: for scores other than the plain one, negative cosines are far. Where features come in opposite pairs, as
    trained toys with ``n = 2d`` have them, absolute cosines would keep half of them from being found.
    """
    cosines = directions @ others.T
    return cosines if options.score == "plain" else cosines.clamp_min(0)


def _reseed_duplicates(readout: Readout, options: SearchOptions, state: SearchState) -> None:
    """Of each pair of duplicates, start the one with the lower running score afresh."""
    close = _likeness(state.directions, state.directions, options).abs() > DUPLICATE_COSINE
    better = state.running_score[None, :] > state.running_score[:, None]
    duplicate = (close & better).any(1)
    count = int(duplicate.sum())
    if count:
        state.directions[duplicate] = _fresh(readout, options, count, state.generator).to(state.directions)
        state.momentum[duplicate] = 0.0
        state.running_score[duplicate] = 0.0


def _fresh(readout: Readout, options: SearchOptions, count: int, generator: torch.Generator) -> Tensor:
    """Directions ``[count, d]`` that know nothing of those there are: activations less their mean, or random ones."""
    if options.start != "activations":
        return random_directions(count, readout.width, readout.centring, generator)
    x = readout.centring.project(readout.sample(max(count, LEAST_MEAN), generator).x)
    return unit_directions((x - x.mean(0))[:count], readout.centring)


def count_duplicates(directions: Tensor) -> int:
    """How many rows of ``directions [K, d]`` repeat, in absolute cosine, an earlier row."""
    return int((gram(directions).abs().tril(-1) > DUPLICATE_COSINE).any(1).sum())
