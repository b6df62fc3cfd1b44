"""How many directions and contexts are worked on together, and what is done when memory does not suffice for so many.

Directions do not see each other inside a step's read-outs, and neither do contexts, so that any number of them at once
gives the same scores and gradients up to rounding. How many are allowed is settled once, when a search begins
(:func:`planned`), and kept in its checkpoints. A search may go on with fewer where it ran out of memory, and must: what
was free when it began may not be free hours later. The numbers are lowered by halves and never raised, so that a
search resumed from a checkpoint, which keeps them, rounds as the one that was interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sensverify.errors import InputError
from sensverify.memory import Budget, at_once
from sensverify.readout import Readout
from sensverify.sensitivity import Probe, Tables

_SIGNS = ("defaultcpuallocator", "can't allocate memory", "not enough memory", "out of memory", "alloc_failed")
"""What allocators say that raise a bare ``RuntimeError``, in small letters."""

LOOKED_AT = 1024
"""Contexts whose positions tell how long what is on their left may be."""


class ShortOfMemory(MemoryError):
    """Some process that shares the work ran out of memory: all of them go on with less at once.

    ``used``: how many directions were worked on at once by the process that had the fewest.
    """

    def __init__(self, rank: int, used: int) -> None:
        super().__init__(f"rank {rank} is out of memory")
        self.used = used


@dataclasses.dataclass
class Chunking:
    """At most ``limit`` directions, ``contexts`` contexts and ``pairs`` of the two at once, where these are given.

    ``used`` and ``used_contexts`` are the numbers last worked with. ``in_parts``: whether contexts can be worked on a
    few at a time.
    """

    limit: int | None = None
    used: int = 0
    contexts: int | None = None
    pairs: int | None = None
    used_contexts: int = 0
    in_parts: bool = False

    def contexts_at_once(self, count: int) -> int:
        """How many of ``count`` contexts to take at once, if contexts can be worked on a few at a time."""
        allowed = min(count, self.contexts or count)
        if self.pairs is not None:
            allowed = at_once(preferred=1, contexts=allowed, entries_per_pair=1, entries=self.pairs).contexts
        self.used_contexts = allowed
        return allowed

    def size(self, tables: Tables, clean: Tensor, count: int, contexts: int | None = None) -> int:
        """How many of ``count`` directions to take at once, given what their effects take and the clean read-out
        ``[B, d_out]``.

        The one place where a search decides it. ``contexts``: how many there are where they are most, if not ``B``.
        """
        contexts = contexts or len(clean)
        allowed = tables.directions(contexts, clean.device)
        self.used = min(count, allowed, self.limit or allowed)
        if self.pairs is not None:
            self.used = at_once(
                preferred=self.used, contexts=contexts, entries_per_pair=1, entries=self.pairs
            ).directions
        return self.used

    def lower(self, reason: str) -> None:
        """Half as many directions from now on, or half as many contexts if it was one direction already.

        Raises :class:`~sensverify.errors.InputError` if that was all that could be done.
        """
        if self.used > 1:
            self.limit = self.used = self.used // 2
        elif self.in_parts and self.used_contexts > 1:
            self.contexts = self.used_contexts = self.used_contexts // 2
        else:
            raise InputError(
                expected="memory for one direction at a time",
                got=reason,
                remedy="lower --contexts, then --context or --directions, or free memory; a search goes on with "
                "--resume where only memory was freed",
            )


def planned(readout: Readout, budget: Budget | None, probe: Probe | None = None) -> Chunking:
    """What ``budget`` allows of a read-out that knows what a pair (direction, context) takes, by its
    ``entries_per_pair(left, gradient=)``, and a context, by its ``context_size``; of any other, no limit.

    ``probe``: what effects are, if they are those of :func:`sensverify.sensitivity.effects`; where a closed form gives
    them, ``entries_per_pair`` is asked with ``angles=True``.

    Down to powers of 2, so that two budgets seldom differ in it, and results in their rounding.
    """
    entries_of, draw, at = (getattr(readout, name, None) for name in ("entries_per_pair", "draw", "at"))
    if budget is None or entries_of is None or draw is None or at is None:
        return Chunking()
    rows, positions = draw(LOOKED_AT, torch.Generator(device=readout.device).manual_seed(0))
    one = at(rows[:1], positions[:1])
    closed = probe is not None and Tables.of(readout, readout.clean(one), probe).closed
    entries = entries_of(int(positions.max()) + 1, gradient=True, **({"angles": True} if closed else {}))
    pairs = max(1, budget.entries(one.x.element_size()) // entries)
    size = getattr(readout, "context_size", None)
    contexts = None if size is None else _power_of_two(budget.contexts(size))
    return Chunking(contexts=contexts, pairs=_power_of_two(pairs))


def _power_of_two(count: int) -> int:
    return 1 << (count.bit_length() - 1)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory did not suffice, on an accelerator or elsewhere."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def with_less_at_once(
    attempt: Callable[[], None], undo: Callable[[], None], chunking: Chunking, *, shared: bool = False
) -> None:
    """Do ``attempt``; for want of memory ``undo`` what it changed and do it again, with half as much at once.

    In work that is ``shared`` with other processes all have to do so: where they were not told
    (:class:`ShortOfMemory`), there is no going on. Raises as :meth:`Chunking.lower`, and whatever else ``attempt``
    raises.
    """
    while True:
        reason = ""
        try:
            attempt()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error) or type(error).__name__
            if isinstance(error, ShortOfMemory):
                chunking.used = error.used
            elif shared:
                raise InputError(
                    expected="memory for what every process does by itself in a step",
                    got=reason,
                    remedy="lower --directions, or free memory and go on with --resume",
                ) from error
        if not reason:
            return
        undo()  # outside the handler, where the error's traceback no longer keeps the tables of the attempt
        release()
        chunking.lower(reason)


def release() -> None:
    """Give memory that nothing uses any more back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextlib.contextmanager
def memory_expected(what: str, remedy: str) -> Iterator[None]:
    """Turns want of memory inside into :class:`~sensverify.errors.InputError`, where it cannot be helped."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            expected=f"memory for {what}", got=str(error) or type(error).__name__, remedy=remedy
        ) from error
