"""How much memory there is, how much of it may be used, and how much is worked on at once so that no more is.

Three things grow with model and text: the clean pass over the text, what is kept of it, and the tables over pairs of
directions and contexts. A :class:`Budget` is a number of bytes in which each has its share; what does not fit is done
in smaller parts, or kept on disk. It is a bound on what this program makes in proportion to its input; the weights of
the model and the libraries are not in it.

Parts change results by rounding at most. A context's effects depend on that context alone, so a table ``[S, B]`` may be
made a few directions and a few contexts at a time (:func:`at_once`). An average over contexts made in parts is
``Σ_c N_c / Σ_c W_c``, with ``N_c = Σ wD`` and ``W_c = Σ w`` of each part ``c``; its logarithm has the gradient
``Σ_c ∇N_c / N − Σ_c ∇W_c / W``: each part's gradients are taken as soon as it is read, and its graph is then let go.

Nothing here needs torch, except to ask an accelerator.
"""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from pathlib import Path

from sensverify.errors import InputError

DEFAULT_SHARE = 4
"""By default one part in so many of what is free is used: others need memory too, and an estimate may be wrong."""
FALLBACK = 2**30
"""Bytes taken to be free where no system tells."""
LEAST = 2**24
"""Bytes of the smallest budget: below it not one context of a small model can be worked on."""

_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)(b?)", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of a size such as ``3GB``, ``1.5 GiB`` or ``512M``: ``k``, ``M``, ``G``, ``T`` are powers of 1000, with an
    ``i`` of 1024; upper or lower case.

    Raises :class:`~sensverify.errors.InputError` for anything else, and for less than :data:`LEAST`.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None or not (found[2] or found[4]) or (found[3] and not found[2]):
        # A number alone may be meant in bytes or in gigabytes: which, nobody can tell.
        raise InputError(
            expected="an amount of memory with its unit, such as 3GB, 1.5GiB or 512MB",
            got=repr(text),
            remedy="pass another --memory",
        )
    size: float = float(found[1]) * (1024 if found[3] else 1000) ** _UNITS[found[2].lower()]
    if not LEAST <= size < 2**62:
        raise InputError(
            expected=f"an amount of memory of at least {format_size(LEAST)} that a machine can have",
            got=repr(text),
            remedy="pass another --memory",
        )
    return math.floor(size)


def format_size(size: int) -> str:
    """``size`` bytes as a person writes them, in powers of 1000.

    >>> format_size(2**24)
    '16.8 MB'
    """
    power = min(4, max(0, len(str(size)) - 1) // 3)
    return f"{size} bytes" if power == 0 else f"{size / 1000**power:.3g} {' kMGT'[power]}B"


def available(device: str = "cpu", *, root: Path = Path("/")) -> int:
    """Bytes that can be used on ``device`` without taking them from anybody.

    On a CPU the least of what the system has free and of what is left under the limits of the control groups that this
    process is in, versions 1 and 2, files that the system keeps in memory counted as free; :data:`FALLBACK` if neither
    tells. On a CUDA device what the driver has free, and what torch holds unused. ``root`` is where ``/proc`` and
    ``/sys`` lie.
    """
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    known = [size for size in (_of_system(root), *_of_groups(root)) if size is not None]
    return max(0, min(known)) if known else FALLBACK


def largest_resident(*, root: Path = Path("/")) -> int:
    """Bytes of the largest resident memory that this process has had since its program began; 0 if no system tells.

    What ``getrusage`` says includes, on Linux, what the process had before it ran this program: a copy of its parent.
    """
    for line in _lines(root / "proc/self/status"):
        found = re.fullmatch(r"VmHWM:\s+([0-9]+) kB", line.strip())
        if found:
            return int(found[1]) * 1024
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _of_system(root: Path) -> int | None:
    for line in _lines(root / "proc/meminfo"):
        found = re.fullmatch(r"MemAvailable:\s+([0-9]+) kB", line.strip())
        if found:
            return int(found[1]) * 1024
    return None


def _of_groups(root: Path) -> list[int]:
    """What is left in each limited group that this process is in, and in the groups around it."""
    left = []
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.strip().partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # Inside a container the path may be the host's, of which only the top is seen.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            limit, used, reclaimable = names
            group = top.joinpath(*parts[:depth])
            most, now = _number(group / limit), _number(group / used)
            if most is not None and now is not None:
                left.append(most - now + _statistic(group / "memory.stat", reclaimable))
    return left


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    """None for a file that is missing or says ``max``."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _statistic(path: Path, name: str) -> int:
    for line in _lines(path):
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdigit():
            return int(value)
    return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """``total`` bytes: half of it for what is kept of the clean pass, a quarter for a pass while it runs, an eighth for
    the contexts that are worked on and an eighth for tables over them.

    ``share``: which part of what may be kept is meant, where several texts are kept (:meth:`part`).
    """

    total: int
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.total < LEAST:
            raise InputError(
                expected=f"at least {format_size(LEAST)} of memory that may be used",
                got=format_size(max(0, self.total)),
                remedy="free memory, or pass a larger --memory",
            )

    def part(self, share: float) -> Budget:
        """The same budget, of which ``share`` of what may be kept is for one of several texts."""
        return dataclasses.replace(self, share=self.share * share)

    def holds(self, size: int) -> bool:
        """Whether ``size`` bytes may be kept in memory for as long as the run lasts."""
        return size <= self.share * (self.total // 2)

    def windows_per_pass(self, cost: int, most: int) -> int:
        """How many windows go through the model at once, of ``cost`` bytes each: ``most``, or, where that is too much,
        that halved as often as is needed.

        Halved, so that two budgets seldom differ in it: how many rows a matrix has may change the rounding of each.
        Raises :class:`~sensverify.errors.InputError` where one window is too much.
        """
        allowed = self.total // 4
        if cost > allowed:
            raise InputError(
                expected=f"memory for one window at a time, {format_size(4 * cost)}",
                got=f"a budget of {format_size(self.total)}",
                remedy="pass a larger --memory or a shorter --context",
            )
        windows = max(1, most)
        while windows * cost > allowed:
            windows = (windows + 1) // 2
        return windows

    def contexts(self, cost: int) -> int:
        """How many contexts, of ``cost`` bytes each with what they have on their left, are in memory at once: at
        least 1."""
        return max(1, self.total // 8 // max(1, cost))

    def entries(self, itemsize: int) -> int:
        """How many numbers of ``itemsize`` bytes all tables over pairs have together."""
        return self.total // 8 // itemsize


@dataclasses.dataclass(frozen=True)
class AtOnce:
    """``directions`` × ``contexts``: the pairs that are worked on together."""

    directions: int
    contexts: int


def budget_of(memory: str | None = None, device: str = "cpu") -> Budget:
    """The budget that the user names (:func:`parse_size`), by default a safe share of what is free on ``device``."""
    return Budget(total=max(LEAST, available(device) // DEFAULT_SHARE) if memory is None else parse_size(memory))


def at_once(*, preferred: int, contexts: int, entries_per_pair: int, entries: int) -> AtOnce:
    """How many directions and contexts to work on together, so that tables have at most ``entries`` numbers.

    As many directions as are ``preferred`` (what a processor is fastest at), fewer if memory is short, and if even one
    direction is too much for all ``contexts``, as few contexts as are needed, in parts of equal size. One pair is
    worked on whatever it takes.

    Args:
        preferred: directions, at least 1.
        contexts: ``B``.
        entries_per_pair: numbers alive at once for one pair, with what the gradient needs; a read-out knows it best.
        entries: :meth:`Budget.entries`.
    """
    if min(preferred, contexts, entries_per_pair) < 1:
        raise ValueError(f"counts are at least 1, got {preferred}, {contexts}, {entries_per_pair}")
    pairs = max(1, entries // entries_per_pair)
    if pairs >= contexts:
        return AtOnce(min(preferred, pairs // contexts), contexts)
    parts = math.ceil(contexts / pairs)
    return AtOnce(1, math.ceil(contexts / parts))
