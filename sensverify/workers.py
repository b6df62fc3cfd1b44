"""Work done side by side, in a process per processor, with results in the order of the items.

Processes, not threads: where tensors are small, Python spends as long on an operation as the operation takes, and two
threads of one process take turns at that. Each process has one thread, so that figures do not depend on how many
processors there are: sums that are split otherwise round otherwise.

What items share they share within one process (:meth:`sensverify.claims.Run.shared`) or on disk. Items of one *kind*
are therefore done by the same process, one after another.

A process is joined to its caller by one pipe and nothing else: no lock is shared that a killed process might hold.
Closing the pipe is how either tells the other that it has gone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, TypeVar, cast

from sensverify.claims import Run
from sensverify.errors import InputError, Interrupted

Item = TypeVar("Item", contravariant=True)
Result = TypeVar("Result", covariant=True)
Unit = Sequence[tuple[int, Any]]

MOST_WORKERS = 8
GRACE = 5.0
"""Seconds that a process has to stop, the next time that it reports progress, before it is killed."""
PAUSE = 0.1
"""Seconds between two reports of progress on the same work."""

ENVIRONMENT: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # glibc gives memory of this size back and asks for it again at every step, which costs more than using it.
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**29),
}


class Work(Protocol[Item, Result]):
    """What is done with an item: it can be pickled, and so can items and results."""

    def __call__(self, item: Item, /, *, run: Run) -> Result:
        """The result; ``run`` is that of the process, alike in all but what is shared."""


def side_by_side(
    work: Work[Item, Result],
    items: Sequence[Item],
    run: Run,
    *,
    kind: Callable[[Item], object] = id,
    count: int | None = None,
) -> Generator[Result]:
    """``work`` of each of ``items``, in order, in ``count`` processes, by default one per processor.

    Items of one ``kind`` are done by the same process. An exception is raised when its item's turn comes. When the
    caller goes away, by an exception or because it asks for no more, no further item is begun, and those under way are
    stopped the next time that they report progress, or killed after :data:`GRACE`. Whatever is written atomically is
    whole even then.

    Raises :class:`~sensverify.errors.InputError` when a process does not begin, or is killed from outside.
    """
    units = _units(items, kind)
    crew: dict[Connection, _Worker] = {}
    outcomes: dict[int, tuple[bool, Any]] = {}
    try:
        with _environment(ENVIRONMENT), _deaf_to_interrupts():
            for _ in range(min(count or _processors(), MOST_WORKERS, len(units))):
                worker = _Worker(work, run)
                crew[worker.pipe] = worker
        for index in range(len(items)):
            while index not in outcomes:
                for pipe in multiprocessing.connection.wait(list(crew)):
                    worker = crew[cast(Connection, pipe)]
                    if not worker.attend(outcomes, run, units):
                        del crew[worker.pipe]
                if not crew:  # who is to do the rest?
                    outcomes |= {lost: (False, worker.error) for unit in units for lost, _ in unit}
            succeeded, outcome = outcomes.pop(index)
            if not succeeded:
                raise outcome
            yield outcome
    finally:
        _dismiss(list(crew.values()))


def _units(items: Sequence[Any], kind: Callable[[Any], object]) -> deque[Unit]:
    """Numbered items, those of one kind together, in the order of the first of each."""
    groups: dict[str, list[tuple[int, Any]]] = {}
    for entry in enumerate(items):
        groups.setdefault(str(kind(entry[1])), []).append(entry)
    return deque(groups.values())


def _processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """One process, as its caller sees it."""

    def __init__(self, work: Work[Any, Any], run: Run) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may wait for a lock for ever
        self.pipe, theirs = context.Pipe()
        same = {"seed": run.seed, "directory": run.directory, "profile": run.profile, "subject": run.subject}
        arguments = (theirs, work, same, run.conclusions)
        self.process: BaseProcess = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()  # so that its end is heard of
        self.begun, self.unit = False, deque[tuple[int, Any]]()
        self.error: InputError | None = None

    def attend(self, outcomes: dict[int, tuple[bool, Any]], run: Run, units: deque[Unit]) -> bool:
        """Hear one message and act on it; false if the process has gone: then its items have failed."""
        try:
            what, content = self.pipe.recv()
            if what == "free":
                self.begun, self.unit = True, deque(units.popleft() if units else ())
                self.pipe.send(list(self.unit))
        except (EOFError, OSError):
            self.error = self._gone()
            outcomes |= {index: (False, self.error) for index, _ in self.unit}
            return False
        if what == "progress":
            run.progress(*content)
        elif what != "free":
            index, _ = self.unit.popleft()
            outcomes[index] = (what == "done", content)
        return True

    def _gone(self) -> InputError:
        self.process.join(GRACE)
        if not self.begun:
            return InputError(
                expected="a process that begins",
                got=f"one that ended at once, with exit code {self.process.exitcode}",
                remedy='in a program of your own, keep what it does under `if __name__ == "__main__":`, in a file',
            )
        return InputError(
            expected="processes that live until their work is done",
            got=f"one that ended with exit code {self.process.exitcode}, perhaps for want of memory",
            remedy="free memory and start again: what was finished is kept under --out",
        )


def _dismiss(crew: Sequence[_Worker]) -> None:
    """Close the pipes, which stops whoever reports progress, waits or answers; kill who does not hear it."""
    for worker in crew:
        worker.pipe.close()
    end = time.monotonic() + GRACE
    for worker in crew:
        worker.process.join(max(0.0, end - time.monotonic()))
    for worker in crew:
        if worker.process.is_alive():
            worker.process.kill()
        worker.process.join()


@contextlib.contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """The environment that processes begun meanwhile have: most of it is read when a process begins, and only then."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let processes begin with Ctrl-C blocked, which goes to all of them at once; the caller hears it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- In the processes ------------------------------------------------------------------------------------------------


def _serve(pipe: Connection, work: Work[Any, Any], same: Mapping[str, Any], conclusions: Mapping[str, Any]) -> None:
    """Ask for units of work and do them, until there are none or the caller has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()
    said: dict[str, float] = {}

    def report(label: str, done: int, total: int) -> None:
        if pipe.poll():  # nothing is sent while there is work: the caller has gone
            raise Interrupted("stopped")
        now = time.monotonic()
        if done >= total or now - said.get(label, 0.0) >= PAUSE:
            said[label] = now
            pipe.send(("progress", (label, done, total)))

    run = Run(**same, progress=report)
    run.conclusions.update(conclusions)
    with contextlib.suppress(EOFError, OSError):  # the caller has gone
        while True:
            pipe.send(("free", None))
            for _, item in pipe.recv() or pipe.recv():  # where nothing is left to do, wait for the caller to go
                answer: tuple[str, Any]
                try:
                    answer = "done", work(item, run=run)
                except Exception as error:
                    answer = "failed", _sendable(error)
                pipe.send(answer)


def _sendable(error: Exception) -> Exception:
    """``error``, or, if it does not survive being pickled, one that says what it said."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _follow() -> None:
    """End with the caller, however it ended."""
    caller = multiprocessing.parent_process()
    assert caller is not None
    multiprocessing.connection.wait([caller.sentinel])
    os._exit(1)
