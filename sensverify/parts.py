"""The scores of one step's directions and the gradients of their logarithms, made in parts: of directions, of contexts,
and by several processes.

Every score is ``N/W``, two sums over contexts: ``N = Σ wD``, ``W = Σ w``, with the effect ``D`` of the direction in a
context and the weight ``w`` of the context. Contexts do not see each other, so both, and their gradients, are sums
over parts of the contexts as well, and of the score's logarithm the gradient is ``∇N/N − ∇W/W``. Each part's graph is
let go before the next is read. Two scores are measured in units of the whole batch, which no part knows:

- Averages by effect weigh a context by ``(‖Δ‖/max‖Δ‖)⁴``. A factor that all weights have in common cancels, but each
  part has another: its sums are multiplied by its ``max‖Δ‖⁴`` before they are added.
- Peak sensitivity divides by ``E‖f_b(x)‖₂⁴``. The sums of each part are multiplied by what they were divided by, and
  the score divided in the end by the mean over all contexts, whose parts are added up beside the sums.

Sums are kept in float64, in which fourth powers do not overflow and parts in any order agree to all of float32's
digits. Where there is one part and one process, none of this is done: scores and gradients have the bits that
they have without parts.

Contexts can be had in parts from a read-out that tells apart which contexts are drawn and what is known of them
(:class:`PartedReadout`). Directions can be dealt out among processes on any read-out.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeGuard, TypeVar

import torch
from torch import Tensor

from sensverify import selectivity
from sensverify.chunking import Chunking, is_out_of_memory
from sensverify.distributed import ALONE, Group
from sensverify.errors import InputError
from sensverify.geometry import presence
from sensverify.readout import Batch, Readout
from sensverify.search_state import SearchOptions
from sensverify.sensitivity import Tables, effects
from sensverify.threads import in_threads

LEAST_UNIT = 1e-300
"""In place of the unit of a part in which nothing had any effect: next to any other it counts for nothing."""


class PartedReadout(Readout, Protocol):
    """What a :class:`sensverify.readout.Readout` has beside the rest if contexts can be had a few at a time."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rows and positions ``[count]`` of the contexts that ``sample`` takes."""

    def at(self, rows: Tensor, positions: Tensor) -> Batch[Any]:
        """The contexts at ``rows`` and ``positions [B]``, in that order."""


def is_parted(readout: Readout) -> TypeGuard[PartedReadout]:
    """Whether ``readout`` has contexts in parts, and the same ones: a subclass that changes ``sample`` alone draws
    others, and so does an object whose ``sample`` was replaced."""
    if not all(callable(getattr(readout, name, None)) for name in ("draw", "at")) or "sample" in vars(readout):
        return False
    defined = {name: i for i, one in reversed(list(enumerate(type(readout).__mro__))) for name in vars(one)}
    last = len(type(readout).__mro__)
    return all(defined.get(name, last) <= defined.get("sample", last) for name in ("draw", "at"))


def check_shared(readout: Readout, options: SearchOptions, group: Group) -> None:
    """Raise :class:`~sensverify.errors.InputError` for what the ranks of ``group`` cannot share."""
    if group.size == 1 or group.shard == "directions":
        return
    if not is_parted(readout):
        raise InputError(
            expected=f"a read-out whose contexts can be dealt out among {group.size} processes (draw and at)",
            got=f"{type(readout).__name__}, which has them all at once",
            remedy="start one process, or deal out directions",
        )
    fewest = options.contexts if options.plateau is None else min(options.contexts, options.plateau.contexts)
    if fewest < group.size:
        raise InputError(
            expected=f"at least one context for each of {group.size} processes",
            got=str(fewest),
            remedy="pass a larger --contexts, or start fewer processes",
        )


@dataclasses.dataclass(frozen=True)
class Whole:
    """What all directions are scored on: contexts, their clean read-out ``[B, d_out]``, presences ``[B]``."""

    batch: Batch[Any]
    clean: Tensor
    alpha: Tensor

    @property
    def same(self) -> tuple[Tensor, ...]:
        """What has to be the same in every process."""
        return self.batch.x, self.alpha


@dataclasses.dataclass(frozen=True)
class Parted:
    """The same, of which nothing has been read yet: where the contexts are, ``[B]`` each, and presences ``[B]``."""

    readout: PartedReadout
    rows: Tensor
    positions: Tensor
    alpha: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def same(self) -> tuple[Tensor, ...]:
        """What has to be the same in every process."""
        return self.rows, self.positions, self.alpha

    def parts(self, mine: range, count: int) -> Iterator[Whole]:
        """Of the contexts numbered ``mine``, ``count`` parts of like size."""
        for i in range(count):
            which = slice(*(mine.start + len(mine) * edge // count for edge in (i, i + 1)))
            if which.start < which.stop:
                batch = self.readout.at(self.rows[which], self.positions[which])
                yield Whole(batch, self.readout.clean(batch), self.alpha[which].to(batch.x))


Given = Whole | Parted
R = TypeVar("R")


def draw(
    readout: Readout,
    options: SearchOptions,
    contexts: int,
    generator: torch.Generator,
    chunking: Chunking,
    group: Group = ALONE,
) -> Given:
    """The contexts and presences of a step, the same ones whether or not they are had in parts."""
    chunking.in_parts = is_parted(readout)
    dealt = group.size > 1 and group.shard == "contexts"
    if is_parted(readout) and (dealt or chunking.contexts_at_once(contexts) < contexts):
        rows, positions = readout.draw(contexts, generator)
        alpha = options.probe.law.stratified(1, len(rows), generator)[0]
        order = _like_beside_like(positions, group.size if dealt else 1)
        return Parted(readout, rows[order], positions[order], alpha[order.to(alpha.device)])
    batch = readout.sample(contexts, generator)
    clean = readout.clean(batch)
    return Whole(batch, clean, options.probe.law.stratified(1, len(batch), generator)[0].to(batch.x))


def _like_beside_like(positions: Tensor, processes: int) -> Tensor:
    """An order in which every process has contexts of all lengths, each from short to long: what is worked on at once
    is padded to the longest, and one process should not have all that are long."""
    order = positions.sort(stable=True).indices
    return torch.cat([order[first::processes] for first in range(processes)])


def climb(
    readout: Readout,
    options: SearchOptions,
    given: Given,
    directions: Tensor,
    chunking: Chunking,
    group: Group = ALONE,
) -> tuple[Tensor, Tensor]:
    """Scores ``[S]`` and the gradients ``[S, d]`` of their logarithms, which a direction has to itself.

    Raises as :meth:`sensverify.distributed.Group.total`.
    """
    if group.size == 1 or group.shard == "contexts":
        return _climb(readout, options, given, directions, chunking, group)
    both = directions.new_zeros(len(directions), 1 + directions.shape[1], dtype=torch.float64)
    mine = group.part(len(directions))

    def fill() -> None:
        if len(mine):
            here = directions[mine.start : mine.stop]
            scores, gradients = _climb(readout, options, given, here, chunking, ALONE)
            both[mine.start : mine.stop] = torch.cat([scores[:, None].to(both), gradients.to(both)], 1)

    # Whose a direction is not adds 0 to it, which changes no bit.
    total = _added_up(fill, both.view(-1), (directions, *given.same), chunking, group).view_as(both)
    return total[:, 0].to(directions.dtype), total[:, 1:].to(directions.dtype)


@torch.no_grad()
def look(
    readout: Readout,
    options: SearchOptions,
    given: Given,
    directions: Tensor,
    chunking: Chunking,
    group: Group = ALONE,
) -> Tensor:
    """Scores ``[S]`` alone; directions are not dealt out. Raises as :func:`climb`."""
    if isinstance(given, Parted):
        return _in_parts(options, given, directions, chunking, group, gradients=False).scores.to(directions.dtype)
    whole, directions = given, directions.to(given.batch.x)
    scores: list[Tensor] = []

    def one(which: slice) -> Tensor:
        return score(readout, options, whole.batch, whole.clean, directions[which], whole.alpha)

    def fill() -> None:
        scores.extend(_each(one, readout, options, whole.clean, len(directions), chunking))

    if group.size == 1:
        fill()
    else:  # each reads all: there is nothing to add up, but to agree upon
        nothing = directions.new_zeros(0, dtype=torch.float64)
        _added_up(fill, nothing, (directions, *given.same), chunking, group)
    return torch.cat(scores)


def score(
    readout: Readout, options: SearchOptions, batch: Batch[Any], clean: Tensor, directions: Tensor, alpha: Tensor
) -> Tensor:
    """The score ``[S]`` of each direction on this batch; the weights are part of it and carry gradient."""
    table, weights, _ = _table(readout, options, Whole(batch, clean, alpha), directions)
    if weights is None:
        return table.mean(1)
    return (weights * table).sum(1) / weights.sum(1).clamp_min(torch.finfo(table.dtype).tiny)


def _table(
    readout: Readout, options: SearchOptions, given: Whole, directions: Tensor
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Effects ``[S, B]``, their weights if they are not all 1, and the largest ``‖Δ‖`` per direction, if that is what
    they were divided by."""
    probe, batch, largest = options.probe, given.batch, None
    weights = None
    if options.score == "plain":
        table = effects(readout, batch, given.clean, directions, given.alpha, probe.distance, probe.reference)
    else:
        found = selectivity.effects(readout, batch, given.clean, directions, given.alpha, probe.reference)
        if options.score == "peak":
            table = selectivity.peaks(found, given.clean)
        else:
            table, weights = found.values, found.weights(options.averaging)
            largest = found.sizes.detach().amax(-1) if options.averaging == "effects" else None
    if probe.weighting.kind != "none":
        inactive = probe.weighting.weights(presence(batch.x, directions, readout.centring))
        weights = inactive if weights is None else inactive * weights
    return table, weights, largest


def _climb(
    readout: Readout, options: SearchOptions, given: Given, directions: Tensor, chunking: Chunking, group: Group
) -> tuple[Tensor, Tensor]:
    if isinstance(given, Parted):
        sums = _in_parts(options, given, directions, chunking, group, gradients=True)
        return sums.scores.to(directions.dtype), sums.gradients.to(directions.dtype)
    whole = given

    def one(which: slice) -> tuple[Tensor, Tensor]:
        leaf = directions[which].clone().requires_grad_()
        scores = score(readout, options, whole.batch, whole.clean, leaf, whole.alpha)
        (gradient,) = torch.autograd.grad(torch.log(scores + torch.finfo(scores.dtype).tiny).sum(), leaf)
        return scores.detach(), gradient

    parts = _each(one, readout, options, whole.clean, len(directions), chunking)
    scores, gradients = (torch.cat(part) for part in zip(*parts, strict=True))
    return scores, gradients


def _each(
    work: Callable[[slice], R],
    readout: Readout,
    options: SearchOptions,
    clean: Tensor,
    count: int,
    chunking: Chunking,
    contexts: int | None = None,
) -> list[R]:
    """``work`` of all ``count`` directions, as many at once as are worked on at once, in as many threads as they are
    worth."""
    if options.score == "plain":
        tables = Tables.of(readout, clean, options.probe)
    else:
        tables = Tables(max(readout.width, clean.shape[-1]), closed=False)
    size = chunking.size(tables, clean, count, contexts)
    shared = bool(getattr(readout, "thread_safe", False)) and clean.device.type == "cpu"
    threads = min(size, tables.lots(count, size, len(clean))) if shared else 1
    if threads == 1:
        with tables.threads(size * len(clean)):
            return [work(lot) for lot in _lots(count, size)]
    # So many rounds, all threads at work in each, none with much more than another, together never more than ``size``.
    rounds = -(-count // size)
    return in_threads(work, _lots(count, min(size // threads, -(-count // (rounds * threads)))), threads)


def _lots(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _in_parts(
    options: SearchOptions, given: Parted, directions: Tensor, chunking: Chunking, group: Group, *, gradients: bool
) -> _Sums:
    sums = _Sums(directions, gradients=gradients, weighted=_is_weighted(options))
    # Alike on every rank, also where one has a context less.
    widest = group.most(len(given))
    count = -(-widest // chunking.contexts_at_once(widest))

    def fill() -> None:
        for part in given.parts(group.part(len(given)), count):
            add = functools.partial(sums.add, options, given.readout, part)
            _each(add, given.readout, options, part.clean, len(directions), chunking, -(-widest // count))

    if group.size == 1:
        fill()
    else:
        sums.take(_added_up(fill, sums.numbers, (directions, *given.same), chunking, group))
    return sums


def _added_up(
    fill: Callable[[], None], numbers: Tensor, given: Sequence[Tensor], chunking: Chunking, group: Group
) -> Tensor:
    """What ``fill`` puts into ``numbers`` on each rank, added up; want of memory on one is heard of by all."""
    short = False
    try:
        fill()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        short = True
    return group.total(numbers, given, short=short, used=chunking.used)


def _is_weighted(options: SearchOptions) -> bool:
    """Whether weights have a gradient; those that are 0 or 1 have none."""
    by_effect = options.score == "selective" and options.averaging == "effects"
    return by_effect or options.probe.weighting.kind == "soft"


class _Sums:
    """Sums over contexts for ``directions [S, d]``, one after another in ``numbers``, float64: ``N`` and ``W [S]``, the
    number of contexts and the sum of the units of peak sensitivity; then ``∇N`` and, unless it is 0, ``∇W [S, d]``."""

    def __init__(self, directions: Tensor, *, gradients: bool, weighted: bool) -> None:
        self._directions, self._gradients, self._weighted = directions, gradients, weighted
        count, entries = len(directions), directions.numel() if gradients else 0
        self._sizes = [count, count, 1, 1, entries, entries if weighted else 0]
        self.take(directions.new_zeros(sum(self._sizes), dtype=torch.float64))

    def take(self, numbers: Tensor) -> None:
        """Have these numbers instead."""
        self.numbers = numbers
        self.n, self.w, self.contexts, self.units, of_n, of_w = torch.split(numbers, self._sizes)
        self.of_n, self.of_w = (of.view(-1, self._directions.shape[1]) for of in (of_n, of_w))

    def add(self, options: SearchOptions, readout: Readout, part: Whole, which: slice) -> None:
        """What the directions ``which`` have on the contexts of ``part``."""
        with torch.set_grad_enabled(self._gradients):
            leaf = self._directions[which].clone().requires_grad_(self._gradients)
            table, weights, largest = _table(readout, options, part, leaf if self._gradients else leaf.to(part.batch.x))
            table = table.double()
            if weights is None:
                n, w = table.sum(1), torch.full_like(table[:, 0], table.shape[1])
            else:
                weights = weights.double()
                n, w = (weights * table).sum(1), weights.sum(1)
        unit, common = self.n.new_ones(()), self.n.new_ones(len(leaf))
        if options.score == "peak":
            unit = torch.linalg.vector_norm(part.clean.double(), dim=-1).pow(4).mean()
            common = common * torch.where(unit > 0, unit, 1.0)
        elif largest is not None:
            common = largest.double().pow(4).clamp_min(LEAST_UNIT)
        self.n[which] += n.detach() * common
        self.w[which] += w.detach() * (common if largest is not None else 1.0)
        if which.start == 0:
            self.contexts += len(part.batch)
            self.units += len(part.batch) * unit
        if not self._gradients:
            return
        if self._weighted:
            (of_w,) = torch.autograd.grad(w.sum(), leaf, retain_graph=True)
            self.of_w[which] += of_w.double() * (common[:, None] if largest is not None else 1.0)
        (of_n,) = torch.autograd.grad(n.sum(), leaf)
        self.of_n[which] += of_n.double() * common[:, None]

    @property
    def _mean_unit(self) -> Tensor:
        unit = self.units / self.contexts
        return torch.where(unit > 0, unit, 1.0)

    @property
    def scores(self) -> Tensor:
        """``[S]``; 0 for a direction to which no context has any weight."""
        return torch.where(self.w > 0, self.n / self.w, self.n * 0) / self._mean_unit

    @property
    def gradients(self) -> Tensor:
        """``[S, d]``, of the logarithms of the scores and the least positive number."""
        quotient = torch.where(self.w > 0, self.n / self.w, self.n * 0)
        change = self.of_n - quotient[:, None] * self.of_w if self._weighted else self.of_n
        whole = self.n + torch.finfo(self._directions.dtype).tiny * self._mean_unit * self.w
        return torch.where((whole != 0)[:, None], change / whole[:, None], 0.0)
