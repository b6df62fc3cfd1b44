"""What is kept of the clean pass, and what a batch of contexts needs of it.

Of every window and position are kept block ``a``'s output, block ``b``'s output, and the keys and values of blocks
``a+1..b``. One operation is asked of a :class:`Store`: to gather what a batch of contexts needs. Keys and values lie
position by position, so that those on a context's left and those of the positions that it recomputes are one piece,
however many heads and blocks there are: one copy, or one read, of no more than is needed.

Where effects have a closed form (:mod:`pythia.one_block`), what a read needs of all these keys and values is one
vector and one number per head. They are kept of every position as well, and keys and values are fetched only if they
are asked for.

Contexts are gathered in the order in which they are asked for. A search that works on them in parts takes those of like
position together (:mod:`sensverify.parts`): no part is then longer than it must be.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import threading
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from sensverify.claims import Progress, silent

_FETCHING = threading.RLock()


@dataclasses.dataclass(frozen=True)
class BlockCache:
    """Keys (rotated) and values ``[B, G, L, e]`` of one block."""

    keys: Tensor
    values: Tensor


@dataclasses.dataclass(frozen=True)
class Activations:
    """Of ``N`` windows: ``source [N, L, d]``, block ``a``'s output, ``target [N, L, d]``, block ``b``'s, and ``cache
    [N, L, b-a, 2, G, e]``, rotated keys and values of the blocks between; ``others [N, L, H, e + 1]``, if there is a
    closed form (:meth:`pythia.one_block.OneBlock.others`)."""

    source: Tensor
    target: Tensor
    cache: Tensor
    others: Tensor | None = None

    def to_dict(self) -> dict[str, Tensor]:
        """Those that there are, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """How much is kept of a window: its ``length`` L, ``width`` d, ``blocks`` b − a, ``groups`` G, ``head_width`` e;
    ``heads`` H if there is a closed form, else 0."""

    length: int
    width: int
    blocks: int
    groups: int
    head_width: int
    dtype: torch.dtype
    heads: int = 0

    @property
    def cached(self) -> tuple[int, int, int, int]:
        """Shape of one position's keys and values."""
        return self.blocks, 2, self.groups, self.head_width

    def shapes(self, windows: int) -> dict[str, tuple[int, ...]]:
        """Of the tensors of :class:`Activations`, by name."""
        stream = (windows, self.length, self.width)
        shapes = {"cache": (windows, self.length, *self.cached), "source": stream, "target": stream}
        return {**shapes, "others": (windows, self.length, *self.apart)} if self.heads else shapes

    @property
    def apart(self) -> tuple[int, int]:
        """Shape of what one position's attention is without the position that is intervened on."""
        return self.heads, self.head_width + 1

    def size(self, windows: int) -> int:
        """Bytes of :class:`Activations`."""
        return sum(map(math.prod, self.shapes(windows).values())) * self.dtype.itemsize

    def context_size(self, offset: int) -> int:
        """Bytes that gathering takes for one context, at most."""
        return (math.prod(self.cached) * (self.length + offset) + self.width * (offset + 2)) * self.dtype.itemsize


@dataclasses.dataclass(frozen=True, kw_only=True)
class CleanPass:
    """The clean run over ``windows [N, L]``, ``windows_per_pass`` at a time, ``run`` making one pass."""

    run: Callable[[Tensor], Activations]
    windows: Tensor
    layout: Layout
    windows_per_pass: int

    @functools.cached_property
    def parts(self) -> tuple[Tensor, ...]:
        """The windows of each pass."""
        return torch.split(self.windows, self.windows_per_pass)

    @torch.no_grad()
    def __call__(self, number: int) -> Activations:
        """The pass of this number."""
        return self.run(self.parts[number])


@dataclasses.dataclass(frozen=True, eq=False)
class Gathered:
    """What is kept of ``B`` contexts of windows ``rows`` that are intervened on at ``positions`` p, to be read
    ``offset`` t positions later.

    ``residuals [t+1, B, d]``: block ``a``'s output at ``p..p+t``; ``target [B, d]``: block ``b``'s at ``p+t``;
    ``others [B, H, e + 1]`` of ``p``, if they are kept.
    """

    store: Store
    rows: Tensor
    positions: Tensor
    offset: int
    residuals: Tensor
    target: Tensor
    others: Tensor | None

    @property
    def cache(self) -> Tensor:
        """``[b-a, 2, B, G, left + t + 1, e]``: keys and values at positions ``0..left-1``, ``left`` being the largest
        ``p``, then those at ``p+1..p+t`` and, last, ``p``. What is not on a context's left is 0 there."""
        with _FETCHING:  # once, however many threads ask
            if "fetched" not in vars(self):
                vars(self)["fetched"] = self.store.keys_and_values(self.rows, self.positions, self.offset)
            return typing.cast(Tensor, vars(self)["fetched"])

    @property
    def left(self) -> int:
        """How many positions on the left there are room for."""
        return self.cache.shape[-2] - self.offset - 1

    @property
    def left_blocks(self) -> tuple[BlockCache, ...]:
        """Keys and values of the left context alone, of each block; shares memory."""
        return tuple(BlockCache(keys, values) for keys, values in self.cache[..., : self.left, :])

    def at(self, contexts: Tensor) -> Gathered:
        """The contexts of these numbers ``[N]``, which may repeat."""
        if "fetched" not in vars(self):  # a few of them are fetched sooner than all
            return self.store.gather(self.rows[contexts], self.positions[contexts], self.offset)
        chosen = Gathered(
            store=self.store,
            rows=self.rows[contexts],
            positions=self.positions[contexts],
            offset=self.offset,
            residuals=self.residuals[:, contexts],
            target=self.target[contexts],
            others=None if self.others is None else self.others[contexts],
        )
        vars(chosen)["fetched"] = self.cache[:, :, contexts]
        return chosen


class Store(Protocol):
    """The activations of ``N`` windows."""

    def gather(self, rows: Tensor, positions: Tensor, offset: int) -> Gathered:
        """What the contexts of windows ``rows [B]`` at ``positions [B]`` need, with ``p + offset < L``."""

    def keys_and_values(self, rows: Tensor, positions: Tensor, offset: int) -> Tensor:
        """Theirs, as :attr:`Gathered.cache` has them."""

    def residuals(self) -> Iterator[Tensor]:
        """Block ``a``'s outputs ``[n, L, d]`` of all windows, in order, as many at a time as there is room for."""


class MemoryStore:
    """All activations in memory, on the device where they were made."""

    def __init__(self, clean: CleanPass, progress: Progress = silent) -> None:
        self._layout, count = clean.layout, len(clean.windows)
        # Filled as passes go: putting passes together at the end would take twice the memory.
        self._kept = Activations(
            **{
                name: torch.empty(shape, dtype=clean.layout.dtype, device=clean.windows.device)
                for name, shape in clean.layout.shapes(count).items()
            }
        )
        done = 0
        progress("clean pass", done, count)
        for number, part in enumerate(clean.parts):
            made = clean(number)
            for name, kept in self._kept.to_dict().items():
                kept[done : done + len(part)] = getattr(made, name)
            done += len(part)
            progress("clean pass", done, count)

    def gather(self, rows: Tensor, positions: Tensor, offset: int) -> Gathered:
        """See :class:`Store`."""
        kept = self._kept
        if kept.source.device.type == "cpu":  # elsewhere, to look would be to wait
            where_of(rows, positions, offset, kept.source.shape)
        index = positions + torch.arange(offset + 1, device=positions.device)[:, None]
        return Gathered(
            store=self,
            rows=rows,
            positions=positions,
            offset=offset,
            residuals=kept.source[rows, index],
            target=kept.target[rows, index[-1]],
            others=None if kept.others is None else kept.others[rows, positions],
        )

    def keys_and_values(self, rows: Tensor, positions: Tensor, offset: int) -> Tensor:
        """See :class:`Store`."""
        cache = self._kept.cache
        if cache.device.type != "cpu":
            return gather_together(cache, rows, positions, offset)
        where = where_of(rows, positions, offset, cache.shape)
        gathering = Gathering(self._layout, where[1], offset)
        for context, (row, position) in enumerate(zip(*where, strict=True)):
            gathering.put(context, cache[row, : position + offset + 1])
        return gathering.finish()

    def residuals(self) -> Iterator[Tensor]:
        """See :class:`Store`."""
        yield self._kept.source


def gather_together(cache: Tensor, rows: Tensor, positions: Tensor, offset: int) -> Tensor:
    """:meth:`Store.keys_and_values` out of ``cache [N, L, b-a, 2, G, e]``, of all contexts in a few steps: for a device
    on which a step costs more than its copying."""
    index = positions + torch.arange(offset + 1, device=positions.device)[:, None]
    longest = int(positions.max())
    beyond = torch.arange(longest, device=positions.device) >= positions[:, None]
    blocks, two, groups, width = cache.shape[2:]
    gathered = cache.new_empty(blocks, two, len(rows), groups, longest + offset + 1, width)
    for block in range(blocks):  # what is on the way is that of one block
        left = cache[rows, :longest, block].masked_fill_(beyond[..., None, None, None], 0)
        gathered[block, ..., :longest, :] = left.permute(2, 0, 3, 1, 4)
    gathered[..., longest:, :] = cache[rows, index.roll(-1, 0)].permute(2, 3, 1, 4, 0, 5)
    return gathered


class Gathering:
    """Keys and values of a batch on a CPU, put together context by context."""

    def __init__(self, layout: Layout, positions: Sequence[int], offset: int) -> None:
        self._positions, self._left = positions, max(positions)
        blocks, two, groups, width = layout.cached
        shape = (blocks, two, len(positions), groups, self._left + offset + 1, width)
        self._cache = torch.empty(shape, dtype=layout.dtype)

    def put(self, context: int, piece: Tensor) -> None:
        """``piece [p+t+1, b-a, 2, G, e]`` is what lies at positions ``0..p+t``."""
        position, by_head = self._positions[context], piece.permute(1, 2, 3, 0, 4)
        own = self._cache[:, :, context]
        own[..., :position, :] = by_head[..., :position, :]
        own[..., position : self._left, :] = 0
        own[..., self._left :, :] = by_head[..., position:, :]

    def finish(self) -> Tensor:
        """All contexts."""
        later = self._cache[..., self._left :, :]
        later.copy_(later.roll(-1, -2))  # p last
        return self._cache


def where_of(rows: Tensor, positions: Tensor, offset: int, shape: Sequence[int]) -> tuple[list[int], list[int]]:
    """Rows and positions as numbers; raises ``IndexError`` unless what they ask for lies in ``shape (N, L, ...)``."""
    where: tuple[list[int], list[int]] = rows.tolist(), positions.tolist()
    for values, bound in zip(where, (shape[0], shape[1] - offset), strict=True):
        if not 0 <= min(values) <= max(values) < bound:
            raise IndexError(f"expected numbers from 0 to {bound - 1}, got {min(values)} to {max(values)}")
    return where
