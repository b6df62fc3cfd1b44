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

A search that is left alone has to notice what a person would. A direction that is no longer finite starts afresh at
once. With ``revive`` so do dead ones (:func:`dead_directions`), at the moments when duplicates do, and whoever starts
afresh brings nothing along: by default a re-seeded direction keeps the second moment of the duplicate that it replaces
(its root is 1.2 to 3 times the median one on toys, for the barrier's sake), so that its first steps are that much
shorter, and Adam's correction for young averages goes by the step of the search. With a ``plateau`` directions that
gain no more are frozen (:mod:`sensverify.plateau`). Where memory runs out, a step is repeated with fewer directions at
once (:mod:`sensverify.chunking`). How the scores of a step are made, in parts and by several processes, is told in
:mod:`sensverify.parts`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor

from sensverify import chunking, selectivity
from sensverify.claims import Progress, silent
from sensverify.distributed import ALONE, Group, LostRank
from sensverify.errors import InputError
from sensverify.geometry import gram, random_directions, step_on_sphere, tangent, unit_directions
from sensverify.memory import Budget
from sensverify.parts import check_shared, draw, look
from sensverify.parts import climb as _climb
from sensverify.plateau import Plateau, Watch
from sensverify.readout import Readout
from sensverify.scoring import angular_distance
from sensverify.search_state import Method, Score, SearchOptions, SearchState, Start, total_steps
from sensverify.spectral import most_directions, spectral_directions

DUPLICATE_COSINE = 0.9
"""Two directions closer than this are one found twice: in absolute cosine, or signed unless the score is plain."""

SAME = 1e-6
"""Two directions whose squared cosine is within this of 1 are one: there is no way in which to push them apart."""

LEAST_MEAN = 256
"""Over at least so many contexts is the mean taken that activations are freed of before they start a search."""

RESEEDINGS = (1 / 8, 1 / 4, 3 / 8, 1 / 2)
"""When, as shares of all steps, a parallel search starts duplicates afresh: early enough for them to arrive."""

DEAD_SHARE = 0.01
"""A direction with less than this share of the median score is dead. Found directions have been seen at up to 14 times
the score of random ones (PY-8): one so far behind has less than a seventh of what a random one has, and to start afresh
is a gain before the first step."""

HELD_OUT_SEED = 3
"""Added to the seed of a search: of the contexts at which a plateau looks. 1 and 2 are the evaluation's."""

BETA_FIRST, BETA_SECOND = 0.9, 0.99
"""How slowly Adam's two moments forget."""


__all__ = [
    "DEAD_SHARE", "DUPLICATE_COSINE", "LEAST_MEAN", "RESEEDINGS", "SAME", "Method", "Plateau", "Score",
    "SearchOptions", "SearchState", "Start", "count_duplicates", "dead_directions", "search", "start_search",
    "total_steps",
]  # fmt: skip


def start_search(readout: Readout, options: SearchOptions, budget: Budget | None = None) -> SearchState:
    """The state before the first step: random directions, activations, or the spectral solution.

    ``budget``: of memory for what is worked on at once (:func:`sensverify.chunking.planned`).

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
        age=torch.zeros(len(directions), dtype=torch.int64),
        watch=Watch.begin(len(directions)),
        chunking=chunking.planned(readout, budget, options.probe if options.score == "plain" else None),
    )


def search(
    readout: Readout,
    options: SearchOptions,
    *,
    state: SearchState | None = None,
    progress: Progress = silent,
    after_step: Callable[[SearchState], None] | None = None,
    held_out: Readout | None = None,
    group: Group = ALONE,
) -> SearchState:
    """Run, or go on with, a search; returns the final state with unit ``directions [K, d]``.

    ``after_step`` is called with the state after every step; a caller that writes checkpoints does it there.
    ``held_out`` is where a plateau looks, by default ``readout``, at contexts that its steps meet only by chance.
    ``group``: the processes that take every step together, each of which calls this with the same state.
    Raises as :func:`start_search`, :class:`~sensverify.errors.InputError` where there is not even memory for one
    direction at a time, and as :meth:`sensverify.distributed.Group.total`.
    """
    _check_score(readout, options)
    check_shared(readout, options, group)
    if options.plateau is not None and held_out is not None:
        check_shared(held_out, options, group)
    state = state or start_search(readout, options)
    steps = total_steps(options)
    while state.step < steps and not bool(state.frozen.all()):
        _step(readout, held_out or readout, options, state, group)
        progress("searching", state.step, steps)
        if after_step is not None:
            after_step(state)
    return state


def _step(readout: Readout, held_out: Readout, options: SearchOptions, state: SearchState, group: Group) -> None:
    """Ascend, look whether that led anywhere, and count; all of it again if memory did not suffice.

    If a rank was lost on the way, the state is that before the step.
    """
    before, drawn, steps_taken = copy.copy(state), state.generator.get_state(), len(state.history)

    def attempt() -> None:
        _ascend_once(readout, options, state, group)
        if options.plateau is not None and (state.step % options.steps + 1) % options.plateau.every == 0:
            _look(held_out, options, options.plateau, state, group)

    def undo() -> None:
        vars(state).update(vars(before))
        del state.history[steps_taken:]
        state.generator.set_state(drawn)

    try:
        chunking.with_less_at_once(attempt, undo, state.chunking, shared=group.size > 1)
    except LostRank:
        undo()
        raise
    state.step += 1
    if options.method == "sequential":
        stage = (state.step - 1) // options.steps
        if bool(state.frozen[stage]):  # what is left of its steps is not taken
            state.step = (stage + 1) * options.steps


def _check_score(readout: Readout, options: SearchOptions) -> None:
    if options.method == "spectral" and options.probe.reference != "clean":
        raise InputError(
            expected="the clean reference with the method spectral, which solves for small steps from it",
            got=f"the reference {options.probe.reference}",
            remedy="pass another method, or the clean reference",
        )
    if options.method == "spectral" and options.probe.distance is not angular_distance:
        raise InputError(
            expected="the angular distance with the method spectral, which solves for the turn of the read-out",
            got=f"the distance {options.probe.distance.__name__}",
            remedy="pass another method; an ascent may still start from the spectral solution",
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


def _active(options: SearchOptions, state: SearchState) -> slice | Tensor:
    """Which directions move in this step: one if they are searched for in sequence, else all that are not frozen."""
    if options.method == "sequential":
        stage = state.step // options.steps
        return slice(stage, stage + 1)
    if bool(state.frozen.any()):
        return (~state.frozen).nonzero()[:, 0]
    return slice(0, options.directions)


def _ascend_once(readout: Readout, options: SearchOptions, state: SearchState, group: Group = ALONE) -> None:
    """One step of Riemannian Adam on the active directions.

    The second moment is one number per direction: a second moment per coordinate would tie the path to the
    coordinate axes, which mean nothing on the sphere.
    """
    step_in_stage = state.step % options.steps
    active = _active(options, state)
    directions = state.directions[active].clone()
    given = draw(readout, options, options.contexts, state.generator, state.chunking, group)
    scores, gradient = _climb(readout, options, given, directions, state.chunking, group)
    # Deflation keeps sequential directions apart to the end: they have only those found before to keep clear of.
    fading = min(1.0, 2 * (1 - step_in_stage / options.steps)) if options.method == "parallel" else 1.0
    found = state.directions[: active.start] if isinstance(active, slice) else state.directions[state.frozen]
    repulsion = fading * options.barrier * _repulsion(directions, found, options)
    slower = None if options.plateau is None else options.plateau.rates(state.watch, active).to(repulsion)
    gradient = gradient - (repulsion if slower is None or options.method == "sequential" else slower * repulsion)

    age = _Ages(state.age[active])
    gradient = torch.nan_to_num(gradient)
    momentum = BETA_FIRST * state.momentum[active] + (1 - BETA_FIRST) * gradient
    second = BETA_SECOND * state.second_moment[active] + (1 - BETA_SECOND) * gradient.square().sum(1, True)
    rate = options.learning_rate * 0.5 * (1 + math.cos(math.pi * step_in_stage / options.steps))
    corrected = momentum / age.each(lambda t: 1 - BETA_FIRST ** (t + 1), gradient)
    scale = (second / age.each(lambda t: 1 - BETA_SECOND ** (t + 1), gradient)).sqrt() + 1e-12
    steps = rate * corrected / scale
    moved = step_on_sphere(directions, steps if slower is None else slower * steps)
    kept = age.each(lambda t: BETA_FIRST if t else 0.0, gradient)
    new = age.each(lambda t: 1 - BETA_FIRST if t else 1.0, gradient)
    running = (kept * state.running_score[active, None] + new * scores[:, None])[:, 0]
    state.running_score = _replaced(state.running_score, active, running)
    state.directions = _replaced(state.directions, active, moved)
    state.momentum = _replaced(state.momentum, active, tangent(moved, momentum))
    state.second_moment = _replaced(state.second_moment, active, second)
    state.age = _replaced(state.age, active, age.ages + 1)
    state.history.append(float(scores.mean()))
    lost = ~torch.isfinite(state.directions).all(1)
    if bool(lost.any()):  # at once: the next step could not be taken
        _start_afresh(readout, options, state, lost, with_age=True)
    moments = {int(share * options.steps) for share in RESEEDINGS} - {0}  # a search of few steps has fewer of them
    if step_in_stage in moments:
        if options.revive and bool((dead := dead_directions(state, options)).any()):
            _start_afresh(readout, options, state, dead, with_age=True)
        if options.method == "parallel":
            _reseed_duplicates(readout, options, state)


def _replaced(whole: Tensor, which: slice | Tensor, part: Tensor) -> Tensor:
    """A copy of ``whole`` with the rows ``which`` replaced: what a step began with is still there to go back to."""
    copied = whole.clone()
    copied[which] = part.to(whole.dtype)
    return copied


class _Ages:
    """How many steps each of ``ages [S]`` directions has taken."""

    def __init__(self, ages: Tensor) -> None:
        self.ages, self.first = ages, int(ages[0])
        self.of_one_age = bool((ages == self.first).all())

    def each(self, value: Callable[[int], float], like: Tensor) -> float | Tensor:
        """``value`` of each age, as ``[S, 1]``; as one number where all directions are of one age."""
        if self.of_one_age:
            return value(self.first)
        # In float64 up to here, as Python's numbers are: the same bits as for one age.
        return torch.tensor([[value(t)] for t in self.ages.tolist()], dtype=torch.float64).to(like)


def _look(
    held_out: Readout, options: SearchOptions, plateau: Plateau, state: SearchState, group: Group = ALONE
) -> None:
    """Score the directions that moved on the held-out batch, and freeze those that gain no more.

    The batch is drawn anew for every look, always the same: there is nothing to keep in memory or in checkpoints.
    """
    generator = torch.Generator(device=held_out.device).manual_seed(options.seed + HELD_OUT_SEED)
    given = draw(held_out, options, plateau.contexts, generator, state.chunking, group)
    which = torch.arange(options.directions)[_active(options, state)]
    scores = look(held_out, options, given, state.directions[which], state.chunking, group)
    state.watch = state.watch.look(which, scores, plateau)


def _repulsion(directions: Tensor, found: Tensor, options: SearchOptions) -> Tensor:
    """The gradient ``[S, d]`` of the penalty on overlap with each other and with ``found [F, d]``, which do not move.

    Squared cosine with ``found`` alone (sequential) or, between every two (parallel), the barrier
    ``−log(1 − c²) − c²``: it grows as ``c⁴/2`` for small cosine ``c``, so that true features, which overlap a little in
    superposition, are not pushed off their places, and without bound between duplicates. Its derivative is
    ``2c³/(1 − c²)``.
    """
    if options.method == "sequential":
        return 2 * _likeness(directions, found, options) @ found
    pushed = _barrier_slope(_likeness(directions, directions, options).fill_diagonal_(0.0)) @ directions
    if len(found):
        pushed = pushed + _barrier_slope(_likeness(directions, found, options)) @ found
    return pushed


def _barrier_slope(cosines: Tensor) -> Tensor:
    squared = cosines.square()
    slope = 2 * cosines * squared / (1 - squared).clamp_min(SAME)
    return slope.masked_fill_(squared > 1 - SAME, 0.0)  # of the same, neither can be pushed off the other


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
    if bool(duplicate.any()):
        _start_afresh(readout, options, state, duplicate, with_age=options.revive)


def dead_directions(state: SearchState, options: SearchOptions) -> Tensor:
    """Which ``[K]`` of the directions that have moved are dead: anything about them is not finite, or their running
    score is below :data:`DEAD_SHARE` of the median of those that have moved, or zero.

    An ascent multiplies scores, since it climbs their logarithm: whoever is so far behind is on a flat of the score,
    where there is no gradient, or at a step size that a gradient out of all proportion has spoilt.
    """
    begun = (state.age > 0).to(state.directions.device)
    finite = torch.isfinite(state.running_score) & torch.isfinite(state.second_moment[:, 0])
    finite &= torch.isfinite(state.directions).all(1) & torch.isfinite(state.momentum).all(1)
    usual = state.running_score[begun & finite]
    least = DEAD_SHARE * usual.median() if len(usual) else torch.zeros(()).to(state.running_score)
    dead = begun & (~finite | (state.running_score < least) | (state.running_score == 0))
    if options.method == "sequential":  # those found before are done with
        stage = state.step // options.steps
        dead[:stage] = False
    return dead


def _start_afresh(
    readout: Readout, options: SearchOptions, state: SearchState, which: Tensor, *, with_age: bool
) -> None:
    """New directions in place of ``which [K]``; only ``with_age`` are their step sizes those of a beginner."""
    fresh = _fresh(readout, options, int(which.sum()), state.generator).to(state.directions)
    state.directions = _replaced(state.directions, which, fresh)
    state.momentum = state.momentum.masked_fill(which[:, None], 0.0)
    state.running_score = state.running_score.masked_fill(which, 0.0)
    state.watch = state.watch.forget(which)
    if with_age:
        state.second_moment = state.second_moment.masked_fill(which[:, None], 0.0)
        state.age = state.age.masked_fill(which.cpu(), 0)


def _fresh(readout: Readout, options: SearchOptions, count: int, generator: torch.Generator) -> Tensor:
    """Directions ``[count, d]`` that know nothing of those there are: activations less their mean, or random ones."""
    if options.start != "activations":
        return random_directions(count, readout.width, readout.centring, generator)
    x = readout.centring.project(readout.sample(max(count, LEAST_MEAN), generator).x)
    return unit_directions((x - x.mean(0))[:count], readout.centring)


def count_duplicates(directions: Tensor) -> int:
    """How many rows of ``directions [K, d]`` repeat, in absolute cosine, an earlier row."""
    return int((gram(directions).abs().tril(-1) > DUPLICATE_COSINE).any(1).sum())
