"""Claims decided side by side: a thread per processor, verdicts in the order of the claims.

Numerical libraries leave Python's lock while they compute, so threads are enough; and what claims share stays shared.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from sensverify.claims import Run, resolve
from sensverify.errors import Interrupted

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_WORKERS = 8
PATIENCE = 10.0
"""Seconds that an interrupted run waits for its threads to notice."""


def side_by_side(
    decide: Callable[[Item], Result], items: Sequence[Item], worker: str, run: Run, count: int | None = None
) -> Iterator[Result]:
    """``decide`` of each of ``items``, in order, computed in ``count`` threads, by default one per processor.

    ``worker`` is a reference to what each thread calls first. An exception is raised when its item's turn comes. When
    the caller goes away, by an exception or because it asks for no more, no further item is begun, and those under way
    are stopped the next time that they report progress.
    """
    waiting: queue.SimpleQueue[tuple[int, Item]] = queue.SimpleQueue()
    for entry in enumerate(items):
        waiting.put(entry)
    results: dict[int, queue.SimpleQueue[Result | BaseException]] = {i: queue.SimpleQueue() for i in range(len(items))}
    stop = threading.Event()
    listener = run.progress

    def report(label: str, done: int, total: int) -> None:
        if stop.is_set():
            raise Interrupted("stopped")
        listener(label, done, total)

    def work() -> None:
        begun = False
        while not stop.is_set():
            try:
                index, item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                if not begun:
                    resolve(worker)()
                begun = True
                results[index].put(decide(item))
            except BaseException as error:
                results[index].put(error)

    number = min(count or os.cpu_count() or 1, MOST_WORKERS, len(items))
    threads = [threading.Thread(target=work, name=f"worker {i}", daemon=True) for i in range(number)]
    run.progress = report
    try:
        for thread in threads:
            thread.start()
        for index in range(len(items)):
            result = results[index].get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        stop.set()
        until = time.monotonic() + PATIENCE
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        if not any(thread.is_alive() for thread in threads):  # else they have still to be stopped
            run.progress = listener
