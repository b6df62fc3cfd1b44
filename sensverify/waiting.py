"""What the command line does while a person waits: progress bars, checkpoints now and then, a clean stop on Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sensverify.claims import Progress, silent
from sensverify.errors import Interrupted

if TYPE_CHECKING:
    from sensverify.discovery import SearchState


class CheckpointSaver:
    """Called after every search step: saves a checkpoint now and then, and when asked to stop."""

    def __init__(self, save: Callable[[SearchState], None], stop_requested: threading.Event) -> None:
        self._save, self._stop, self._steps_since = save, stop_requested, 0

    def __call__(self, state: SearchState) -> None:
        """Raises :class:`~sensverify.errors.Interrupted`, after saving, when a stop was asked for."""
        self._steps_since += 1
        if self._stop.is_set():
            self._save(state)
            raise Interrupted(f"stopped after step {state.step}; go on with --resume")
        if self._steps_since >= 25:
            self._save(state)
            self._steps_since = 0


@contextlib.contextmanager
def interruptible() -> Iterator[threading.Event]:
    """While open, the first SIGINT or SIGTERM asks for a stop at the next safe point; a second one insists."""
    requested = threading.Event()

    def ask(_number: int, _frame: object) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def progress_bars(*, quiet: bool) -> Iterator[Progress]:
    """A listener that draws bars on stderr, or does nothing if stderr is no terminal or ``quiet``."""
    if quiet or not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID, TimeRemainingColumn

    columns = (*Bars.get_default_columns()[:-1], TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def listen(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(label, total=total)
            bars.update(tasks[label], completed=done, total=total, visible=label == "claims" or done < total)

        yield listen
