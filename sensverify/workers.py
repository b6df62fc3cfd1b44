"""Work done side by side, in a process per processor, with results in the order of the items.

Processes, not threads: where tensors are small, Python spends as long on an operation as the operation takes, and two
threads of one process take turns at that. Each process has one thread, so that figures do not depend on how many
processors there are: sums that are split otherwise round otherwise.

What items share they share within one process (:meth:`sensverify.claims.Run.shared`) or on disk. Items of one *kind*
are therefore done by the same process, one after another.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, TypeVar

from sensverify.claims import Run
from sensverify.errors import InputError, Interrupted

Item = TypeVar("Item", contravariant=True)
Result = TypeVar("Result", covariant=True)

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

    Raises :class:`~sensverify.errors.InputError` when a process is killed from outside, as for want of memory.
    """
    answers: list[Future[Result]] = [Future() for _ in items]
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may wait for a lock for ever
    messages, stop = context.Queue(), context.Event()
    same = {"seed": run.seed, "directory": run.directory, "profile": run.profile, "subject": run.subject}
    ordered = sorted(enumerate(items), key=lambda entry: str(kind(entry[1])))
    units = [list(unit) for _, unit in itertools.groupby(ordered, key=lambda entry: str(kind(entry[1])))]
    units.sort(key=lambda unit: unit[0][0])
    known = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        max(1, min(count or os.cpu_count() or 1, MOST_WORKERS, len(units))),
        mp_context=context,
        initializer=_begin,
        initargs=(same, messages, stop),
    )
    listener = threading.Thread(target=_listen, args=(messages, answers, run), daemon=True)
    listener.start()
    try:
        with _environment(ENVIRONMENT):
            for unit in units:
                pool.submit(_do, work, unit).add_done_callback(_hand_out(answers, [index for index, _ in unit]))
        for answer in answers:
            yield answer.result()
    finally:
        stop.set()
        killing = threading.Timer(GRACE, _kill_all_but, [known])
        killing.daemon = True
        killing.start()
        pool.shutdown(cancel_futures=True)
        killing.cancel()
        messages.put(None)
        listener.join()


def _kill_all_but(known: Collection[BaseProcess]) -> None:
    for process in multiprocessing.active_children():
        if process not in known:
            process.kill()


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


def _listen(messages: Any, answers: Sequence[Future[Any]], run: Run) -> None:
    """In a thread of the caller: progress and results as they come."""
    while (message := messages.get()) is not None:
        index, content = message
        if index is None:
            run.progress(*content)
        else:
            _answer(answers[index], content)


def _hand_out(answers: Sequence[Future[Any]], indices: Sequence[int]) -> Callable[[Future[Any]], None]:
    """When a unit of work is done, whatever has not been heard of its items is in what it returns."""

    def hand_out(unit: Future[Any]) -> None:
        error: BaseException | None = Interrupted("stopped")
        results: Sequence[Any] = ()
        if not unit.cancelled():
            error = unit.exception()
            if error is None:
                results, error = unit.result()
        if isinstance(error, BrokenProcessPool):
            error = InputError(
                expected="processes that live until their work is done",
                got="one that was killed, perhaps for want of memory",
                remedy="free memory and start again: what was finished is kept under --out",
            )
        for index, result in zip(indices, results, strict=False):
            _answer(answers[index], result)
        for index in indices[len(results) :]:
            with contextlib.suppress(InvalidStateError):
                answers[index].set_exception(error or Interrupted("stopped"))

    return hand_out


def _answer(answer: Future[Any], result: Any) -> None:
    with contextlib.suppress(InvalidStateError):  # it came on the other way already
        answer.set_result(result)


# --- In the processes ------------------------------------------------------------------------------------------------

_run: Run
_messages: Any


def _begin(same: Mapping[str, Any], messages: Any, stop: Any) -> None:
    global _run, _messages
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes at once; the caller tells us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_follow, daemon=True).start()
    said: dict[str, float] = {}

    def report(label: str, done: int, total: int) -> None:
        if stop.is_set():
            raise Interrupted("stopped")
        now = time.monotonic()
        if done >= total or now - said.get(label, 0.0) >= PAUSE:
            said[label] = now
            messages.put((None, (label, done, total)))

    _run, _messages = Run(**same, progress=report), messages


def _follow() -> None:
    """End with the caller, however it ended."""
    caller = multiprocessing.parent_process()
    assert caller is not None
    multiprocessing.connection.wait([caller.sentinel])
    os._exit(1)


def _do(work: Work[Any, Any], unit: Sequence[tuple[int, Any]]) -> tuple[list[Any], Exception | None]:
    """The results of a unit's items, up to the first that fails, and how that failed."""
    results: list[Any] = []
    for index, item in unit:
        try:
            results.append(work(item, run=_run))
        except Exception as error:
            return results, error
        _messages.put((index, results[-1]))
    return results, None
