"""Claims decided side by side: a thread per processor, verdicts in the order of the claims.

Numerical libraries leave Python's lock while they compute, so threads are enough; and what claims share stays shared.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sensverify.claims import Run, resolve
from sensverify.errors import Interrupted

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_WORKERS = 8


def side_by_side(
    decide: Callable[[Item], Result], items: Sequence[Item], worker: str, run: Run, count: int | None = None
) -> Iterator[Result]:
    """``decide`` of each of ``items``, in order, computed in ``count`` threads, by default one per processor.

    ``worker`` is a reference to what each thread calls first. An exception is raised when its item's turn comes. When
    the caller goes away, by an exception or because it asks for no more, no further item is begun, and those under way
    are stopped the next time that they report progress.
    """
    stop, speaking = threading.Event(), threading.Lock()
    listener = run.progress

    def report(label: str, done: int, total: int) -> None:
        if stop.is_set():
            raise Interrupted("stopped")
        with speaking:  # listeners are written for one thread
            listener(label, done, total)

    pool = ThreadPoolExecutor(min(count or os.cpu_count() or 1, MOST_WORKERS), initializer=resolve(worker))
    run.progress = report
    try:
        for future in [pool.submit(decide, item) for item in items]:
            yield future.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        run.progress = listener
