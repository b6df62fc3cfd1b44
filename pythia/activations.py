"""What is kept of the clean pass, and what a batch of contexts needs of it.

Of every window and position are kept block ``a``'s output, block ``b``'s output, and the keys and values of blocks
``a+1..b``. One operation is asked of a :class:`Store`: to gather what a batch of contexts needs. Keys and values lie
position by position, so that those on a context's left and those of the positions that it recomputes are one piece,
however many heads and blocks there are: one copy, or one read, of no more than is needed.

Contexts are gathered in the order in which they are asked for. Whoever works on a batch in parts should take those of
like position together (:func:`by_position`): no part is then longer than it must be.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from sensverify.claims import Progress, silent


@dataclasses.dataclass(frozen=True)
class BlockCache:
    """Keys (rotated) and values ``[B, G, L, e]`` of one block."""

    keys: Tensor
    values: Tensor


@dataclasses.dataclass(frozen=True)
class Activations:
    """Of ``N`` windows: ``source [N, L, d]``, block ``a``'s output, ``target [N, L, d]``, block ``b``'s, and ``cache
    [N, L, b-a, 2, G, e]``, rotated keys and values of the blocks between."""

    source: Tensor
    target: Tensor
    cache: Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """How much is kept of a window: its ``length`` L, ``width`` d, ``blocks`` b − a, ``groups`` G, ``head_width`` e."""

    length: int
    width: int
    blocks: int
    groups: int
    head_width: int
    dtype: torch.dtype

    @property
    def cached(self) -> tuple[int, int, int, int]:
        """Shape of one position's keys and values."""
        return self.blocks, 2, self.groups, self.head_width

    def shapes(self, windows: int) -> dict[str, tuple[int, ...]]:
        """Of the tensors of :class:`Activations`, by name."""
        stream = (windows, self.length, self.width)
        return {"cache": (windows, self.length, *self.cached), "source": stream, "target": stream}

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


@dataclasses.dataclass(frozen=True)
class Gathered:
    """What is kept of ``B`` contexts that are intervened on at ``p``, to be read ``t`` positions later.

    ``residuals [t+1, B, d]``: block ``a``'s output at ``p..p+t``; ``target [B, d]``: block ``b``'s at ``p+t``;
    ``cache [b-a, 2, B, G, left + t + 1, e]``: keys and values at positions ``0..left-1``, ``left`` being the largest
    ``p``, then those at ``p+1..p+t`` and, last, ``p``. What is not on a context's left is 0 there.
    """

    residuals: Tensor
    target: Tensor
    cache: Tensor
    left: int

    @property
    def blocks(self) -> tuple[BlockCache, ...]:
        """All keys and values of each block."""
        return tuple(BlockCache(keys, values) for keys, values in self.cache)

    @property
    def left_blocks(self) -> tuple[BlockCache, ...]:
        """Those of the left context alone; shares memory."""
        return tuple(BlockCache(keys, values) for keys, values in self.cache[..., : self.left, :])


class Store(Protocol):
    """The activations of ``N`` windows."""

    def gather(self, rows: Tensor, positions: Tensor, offset: int) -> Gathered:
        """What the contexts of windows ``rows [B]`` at ``positions [B]`` need, with ``p + offset < L``."""

    def residuals(self) -> Iterator[Tensor]:
        """Block ``a``'s outputs ``[n, L, d]`` of all windows, in order, as many at a time as there is room for."""


def by_position(positions: Tensor, at_once: int) -> tuple[Tensor, ...]:
    """The numbers of the contexts at ``positions [B]``, in parts of ``at_once``, from the left to the right of a text.

    Of contexts drawn uniformly, in ``k`` parts, this halves the left context that is worked on, but for a share 1/k.
    """
    return torch.split(positions.sort(stable=True).indices, at_once)


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
            for name, kept in vars(self._kept).items():
                kept[done : done + len(part)] = getattr(made, name)
            done += len(part)
            progress("clean pass", done, count)

    def gather(self, rows: Tensor, positions: Tensor, offset: int) -> Gathered:
        """See :class:`Store`."""
        kept = self._kept
        if kept.cache.device.type == "cpu":
            where = where_of(rows, positions, offset, kept.source.shape)
            gathering = Gathering(self._layout, where[1], offset)
            for context, (row, position) in enumerate(zip(*where, strict=True)):
                gathering.put(context, kept.cache[row, : position + offset + 1])
            index = positions + torch.arange(offset + 1)[:, None]
            return gathering.finish(kept.source[rows, index], kept.target[rows, index[-1]])
        return gather_together(kept, rows, positions, offset)

    def residuals(self) -> Iterator[Tensor]:
        """See :class:`Store`."""
        yield self._kept.source


def gather_together(kept: Activations, rows: Tensor, positions: Tensor, offset: int) -> Gathered:
    """:meth:`Store.gather` of all contexts in a few steps: for a device on which a step costs more than its copying."""
    index = positions + torch.arange(offset + 1, device=positions.device)[:, None]
    longest = int(positions.max())
    beyond = torch.arange(longest, device=positions.device) >= positions[:, None]
    left = kept.cache[rows, :longest].masked_fill_(beyond[..., None, None, None, None], 0)
    own = kept.cache[rows, index.roll(-1, 0)].transpose(0, 1)
    cache = torch.cat([left, own], 1).permute(2, 3, 0, 4, 1, 5).contiguous()
    return Gathered(kept.source[rows, index], kept.target[rows, index[-1]], cache, longest)


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

    def finish(self, residuals: Tensor, target: Tensor) -> Gathered:
        """All contexts, on the device of ``residuals``."""
        later = self._cache[..., self._left :, :]
        later.copy_(later.roll(-1, -2))  # p last
        return Gathered(residuals, target, self._cache.to(residuals.device), self._left)


def where_of(rows: Tensor, positions: Tensor, offset: int, shape: Sequence[int]) -> tuple[list[int], list[int]]:
    """Rows and positions as numbers; raises ``IndexError`` unless what they ask for lies in ``shape (N, L, ...)``."""
    where: tuple[list[int], list[int]] = rows.tolist(), positions.tolist()
    for values, bound in zip(where, (shape[0], shape[1] - offset), strict=True):
        if not 0 <= min(values) <= max(values) < bound:
            raise IndexError(f"expected numbers from 0 to {bound - 1}, got {min(values)} to {max(values)}")
    return where
