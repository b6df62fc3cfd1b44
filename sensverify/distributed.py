"""Several processes that take every step of a search together, each with its part of the work.

A step of the search needs sums over contexts (:mod:`sensverify.parts`). Every process, or *rank*, draws the same
contexts, reads its part of them, and all add up what they have; from the sums each takes the same step. Nothing else
passes between them, so that any number of ranks has the state of one rank, up to the rounding of sums in parts.

The sum is made in the order of the ranks, whatever the transport: each rank receives one slice of everybody's numbers
(all-to-all), adds it up from rank 0 to the last, and all gather the slices. That is as much traffic as a ring has, and
all ranks hold the same bits, the same ones each time that there are as many ranks. With the sums travel, from each
rank, a fingerprint of the directions, contexts and presences that it has, so that ranks that went apart are noticed at
once; whether it was asked to stop; and whether it ran out of memory. All ranks therefore know the same, and do the
same about it.

A rank that is killed closes its connections, which the others notice at once; one that hangs they wait for as long as
``SENSVERIFY_RANK_TIMEOUT`` says, in seconds. Whoever notices says so to the common store; who has not, is lost.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from sensverify.chunking import ShortOfMemory
from sensverify.errors import InputError, Interrupted

Shard = Literal["contexts", "directions"]
"""What is dealt out among ranks: the contexts of a step, or its directions."""

TIMEOUT_VARIABLE, TIMEOUT = "SENSVERIFY_RANK_TIMEOUT", 60.0
"""Seconds that a rank may be behind the others in a step, or spend on a checkpoint."""
START_TIMEOUT = 1800.0
"""Seconds that one rank may take longer than another to open the model and make its clean pass."""
GRACE = 2.0
"""Seconds in which all ranks that are left notice that one is lost."""
BACKEND_VARIABLE = "SENSVERIFY_BACKEND"
"""The transport, by default nccl on CUDA and gloo elsewhere; gloo is needed where ranks have one device in common."""

_LARGEST = 2**48
"""Fingerprints are below it: float64, in which they travel, has 53 bits."""


class LostRank(Interrupted):
    """A rank has gone, or does not answer; what was finished is on disk."""

    def __init__(self, ranks: Sequence[int], seconds: float, remedy: str = "go on with --resume") -> None:
        who = f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}" if ranks else "some rank"
        self.ranks, self.seconds = tuple(ranks), seconds
        super().__init__(
            f"expected every rank to answer within {seconds:g} s, got no answer from {who}, which ended or hangs; "
            f"remedy: {remedy}"
        )

    def with_remedy(self, remedy: str) -> LostRank:
        """The same, with another remedy."""
        return LostRank(self.ranks, self.seconds, remedy)


class Group:
    """The ranks that take steps together; as it stands, a single one.

    ``agreed`` is set on every rank in the same step once a stop was asked for on one, by the event given to
    :meth:`listen`.
    """

    def __init__(self, rank: int = 0, size: int = 1, shard: Shard = "contexts") -> None:
        self.rank, self.size, self.shard = rank, size, shard
        self.agreed, self._asked = threading.Event(), threading.Event()

    def listen(self, asked: threading.Event) -> None:
        """From now on ``asked`` is how this rank is asked to stop."""
        self._asked = asked
        if self.size == 1:
            self.agreed = asked

    def part(self, count: int) -> range:
        """Which of ``count`` things are this rank's: neighbours, as many as others have, up to one."""
        return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def most(self, count: int) -> int:
        """How many of ``count`` things any rank has at most."""
        return -(-count // self.size)

    def total(self, numbers: Tensor, given: Sequence[Tensor], *, short: bool = False, used: int = 0) -> Tensor:
        """The sum over ranks of ``numbers [n]``, float64; ``given`` is what has to be the same on all of them.

        ``short``: this rank ran out of memory, with ``used`` directions at once. Raises
        :class:`~sensverify.chunking.ShortOfMemory` if any did, :class:`~sensverify.errors.InputError` if ``given``
        differs, and :class:`LostRank`.
        """
        words = torch.zeros(3, self.size, dtype=torch.float64)
        words[:, self.rank] = torch.tensor([_digest(given), self._asked.is_set() + 2 * short, used])
        padding = -(len(numbers) + words.numel()) % self.size
        flat = torch.cat([numbers, words.flatten().to(numbers), numbers.new_zeros(padding)])
        summed = self._summed(flat)
        prints, flags, sizes = summed[len(numbers) : len(numbers) + words.numel()].cpu().view(3, -1).tolist()
        if len(set(prints)) > 1:
            usual = max(prints, key=prints.count)
            other = [rank for rank, one in enumerate(prints) if one != usual]
            raise InputError(
                expected="the same directions, contexts and presences on every rank",
                got=f"others on rank {', '.join(map(str, other))}",
                remedy="start every rank with the same options, text and versions, on the same kind of machine",
            )
        if any(int(flag) & 1 for flag in flags):
            self.agreed.set()
        if starved := [rank for rank, flag in enumerate(flags) if int(flag) & 2]:
            raise ShortOfMemory(starved[0], int(min(filter(None, sizes), default=0)))
        return summed[: len(numbers)]

    def share(self, content: bytes | None) -> bytes:
        """What rank 0 gave, on every rank. Raises :class:`~sensverify.errors.Interrupted` where it gave up."""
        return content or b""

    def give_up(self) -> None:
        """On rank 0: tell those that wait for what it has to :meth:`share` that nothing will come."""

    def part_ways(self) -> None:
        """Wait until all ranks have come here, after which none needs another."""

    def _summed(self, flat: Tensor) -> Tensor:
        return flat


ALONE = Group()


def _digest(given: Sequence[Tensor]) -> int:
    """A number that differs, but for one chance in 2⁴⁸, where any bit of ``given`` does."""
    total = 0
    for one in given:
        words = one.detach().contiguous().view(-1).view(torch.uint8)
        padded = torch.nn.functional.pad(words, (0, -len(words) % 8)).view(torch.int64)
        places = torch.arange(1, len(padded) + 1, device=padded.device, dtype=torch.int64)
        mixed = (padded ^ (padded >> 29)) * (places * 0x2545F4914F6CDD1D + 0x1B873593)  # wraps around
        mixed = (mixed ^ (mixed >> 32)) * 0x27D4EB2F165667C5
        total = (total * 1000003 + int((mixed ^ (mixed >> 31)).sum())) % 2**64
    return (total ^ (total >> 33)) % _LARGEST


def ranks_asked_for() -> int:
    """How many processes the launcher began, by ``WORLD_SIZE``; 1 without a launcher."""
    return _number("WORLD_SIZE", 1)


def device_of_rank(device: str) -> str:
    """Plain ``cuda`` is the accelerator with the number of this rank on its machine."""
    return f"cuda:{_number('LOCAL_RANK', 0)}" if device == "cuda" and ranks_asked_for() > 1 else device


def ranks_here() -> int:
    """How many of the processes are on this machine."""
    return _number("LOCAL_WORLD_SIZE", 1) if ranks_asked_for() > 1 else 1


def _number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name, "")
    if text.isascii() and text.isdigit():
        return int(text)
    if not text and default is not None:
        return default
    raise InputError(
        expected=f"{name} in the environment, as a launcher sets it",
        got=repr(text) if text else "none",
        remedy="start with torchrun --nproc-per-node N -m sensverify discover …, or without WORLD_SIZE",
    )


def _timeout() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    with contextlib.suppress(ValueError):
        seconds = float(text) if text else TIMEOUT
        if 0 < seconds < 1e6:
            return seconds
    raise InputError(
        expected="a number of seconds", got=f"{TIMEOUT_VARIABLE}={text}", remedy="set another, or none for the default"
    )


@contextlib.contextmanager
def joined(device: str, shard: Shard = "contexts") -> Iterator[Group]:
    """The processes that the launcher began; :data:`ALONE`'s like if it began one, or there is no launcher.

    Raises :class:`~sensverify.errors.InputError` for an environment that does not tell who and where they are.
    """
    size = ranks_asked_for()
    if size <= 1:
        yield Group()
        return
    rank, seconds = _number("RANK"), _timeout()
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            _number(name)
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    cuda = device.startswith("cuda")
    os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")  # else a lost rank ends this one without a word
    backend = os.environ.get(BACKEND_VARIABLE) or ("nccl" if cuda else "gloo")
    if cuda:
        torch.cuda.set_device(device)
    long, short = (datetime.timedelta(seconds=s) for s in (START_TIMEOUT, seconds))
    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=long)))
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=long)
        steps = dist.new_group(timeout=short)
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(
            expected=f"{size} processes that reach each other at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}",
            got=str(error),
            remedy="check MASTER_ADDR and MASTER_PORT, or start again with torchrun",
        ) from error
    on = device if backend == "nccl" else "cpu"
    group = Processes(rank, size, shard, steps=steps, store=store, seconds=seconds, on=on)
    del steps, store
    whole = False
    try:
        yield group
        whole = True
    finally:
        group.leave()
        if whole or backend == "gloo":  # another transport might wait for the lost
            # Else threads of its own may still be at work when the interpreter ends, which takes the exit code along.
            dist.destroy_process_group()


class Processes(Group):
    """Ranks that are processes, joined by ``torch.distributed``."""

    def __init__(self, rank: int, size: int, shard: Shard, *, steps: Any, store: Any, seconds: float, on: str) -> None:
        super().__init__(rank, size, shard)
        self._steps, self._store, self._seconds, self._on = steps, store, seconds, on
        self._shared = False

    def _summed(self, flat: Tensor) -> Tensor:
        import torch.distributed as dist

        sent = flat.to(self._on)
        received, whole = torch.empty_like(sent), torch.empty_like(sent)

        def exchange() -> None:
            dist.all_to_all_single(received, sent, group=self._steps)
            total, *others = received.view(self.size, -1).unbind(0)
            for other in others:
                total = total + other
            dist.all_gather(list(whole.view(self.size, -1).unbind(0)), total, group=self._steps)

        self._answered(exchange)
        return whole.to(flat.device)

    def share(self, content: bytes | None) -> bytes:
        """On other ranks than the first ``content`` is not looked at; on the first, None gives up."""
        import torch.distributed as dist

        self._shared = True
        size = torch.tensor([-1 if content is None else len(content)], device=self._on)
        self._answered(lambda: dist.broadcast(size, 0))
        if int(size) < 0:
            raise Interrupted("rank 0 could not begin, and says why")
        sent = bytearray(content) if self.rank == 0 and content is not None else bytearray(int(size))
        buffer = torch.frombuffer(sent, dtype=torch.uint8).to(self._on)
        self._answered(lambda: dist.broadcast(buffer, 0))
        return bytes(buffer.cpu().numpy())

    def give_up(self) -> None:
        """See :meth:`Group.give_up`; once something was shared, nobody waits."""
        if not self._shared:
            with contextlib.suppress(Interrupted):
                self.share(None)

    def part_ways(self) -> None:
        """See :meth:`Group.part_ways`."""
        self._summed(torch.zeros(self.size, dtype=torch.float64))

    def leave(self) -> None:
        """Hold on to nothing that is shared."""
        self._steps = self._store = None

    def _answered(self, exchange: Callable[[], None]) -> None:
        """What a transport raises in an ``exchange``, for whatever reason, means that a rank is not there any more."""
        try:
            exchange()
            return
        except RuntimeError:
            pass  # and nothing is kept of it: its traceback would keep the transport
        raise LostRank(self._lost(), self._seconds)

    def _lost(self) -> list[int]:
        """Who does not say within :data:`GRACE` that it noticed, too; if there is nowhere to say it, whoever kept the
        store, which is rank 0 unless a launcher does."""
        others = [rank for rank in range(self.size) if rank != self.rank]
        missing: list[int] = []
        try:
            self._store.set_timeout(datetime.timedelta(seconds=GRACE))
            self._store.set(f"noticed {self.rank}", "yes")
            end = time.monotonic() + GRACE
            while True:
                missing = [rank for rank in others if not self._store.check([f"noticed {rank}"])]
                if not missing or time.monotonic() > end:
                    return missing
                time.sleep(0.1)
        except RuntimeError:
            launcher_keeps_it = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
            return missing or ([] if launcher_keeps_it or self.rank == 0 else [0])
