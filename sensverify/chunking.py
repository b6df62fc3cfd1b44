"""How many directions are worked on together, and what is done when memory does not suffice for so many.

Directions do not see each other inside a step's read-outs, so that any number of them at once gives the same scores and
gradients up to rounding. A search may therefore go on with fewer at once where it ran out of memory, and must: what
was free when it began may not be free hours later. The number is lowered by halves and never raised, so that a
search resumed from a checkpoint, which keeps the limit, rounds as the one that was interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sensverify.errors import InputError
from sensverify.sensitivity import directions_at_once

_SIGNS = ("defaultcpuallocator", "can't allocate memory", "not enough memory", "out of memory", "alloc_failed")
"""What allocators say that raise a bare ``RuntimeError``, in small letters."""


@dataclasses.dataclass
class Chunking:
    """At most ``limit`` directions at once, if there is one; ``used`` is the number last worked with."""

    limit: int | None = None
    used: int = 0

    def size(self, clean: Tensor, width: int, count: int) -> int:
        """How many of ``count`` directions to take at once, given the clean read-out ``[B, d_out]`` and ``d``.

        The one place where a search decides it: a budget of memory belongs here.
        """
        allowed = directions_at_once(clean, width)
        self.used = min(count, allowed, self.limit or allowed)
        return self.used

    def lower(self, reason: str) -> None:
        """Half as many from now on. Raises :class:`~sensverify.errors.InputError` if it was one already."""
        if self.used <= 1:
            raise InputError(
                expected="memory for one direction at a time",
                got=reason,
                remedy="lower --contexts, then --context or --directions, or free memory; a search goes on with "
                "--resume where only memory was freed",
            )
        self.limit = self.used = self.used // 2


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory did not suffice, on an accelerator or elsewhere."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def with_less_at_once(attempt: Callable[[], None], undo: Callable[[], None], chunking: Chunking) -> None:
    """Do ``attempt``; for want of memory ``undo`` what it changed and do it again, with half as many directions.

    Raises as :meth:`Chunking.lower`, and whatever else ``attempt`` raises.
    """
    while True:
        reason = ""
        try:
            attempt()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error) or type(error).__name__
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
