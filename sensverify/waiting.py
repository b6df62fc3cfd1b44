"""What the command line does while nobody, or a person, waits: checkpoints now and then, rates, bars, a clean stop.

Checkpoints go by the clock. Steps take from a millisecond to minutes, and what a crash may cost is time, not steps;
and a checkpoint of many directions on a slow disk must not become what the time is spent on. So there is one whenever
``interval`` seconds have gone by, or, if that is longer, so many that writing takes at most :data:`SHARE` of the time.
A disk that is full is no reason to lose a search that has what it needs in memory: it goes on, says so once, and tries
again when the next checkpoint is due.
"""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from sensverify.errors import InputError, Interrupted

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from sensverify.search_state import SearchState

INTERVAL = 20.0
"""Seconds between two checkpoints."""

SHARE = 0.02
"""Checkpoints take at most this share of the time."""

RATE_OVER = 30.0
"""Seconds over which rates are taken."""


class CheckpointSaver:
    """Called after every search step: saves a checkpoint when one is due, and when asked to stop.

    ``steps_per_stage``: after so many steps something ends that is worth keeping, a direction of a sequential search
    or the search, and a checkpoint is due as soon as writing has not taken more than its share of the time.
    """

    def __init__(
        self,
        save: Callable[[SearchState], None],
        stop_requested: threading.Event,
        *,
        steps_per_stage: int | None = None,
        interval: float = INTERVAL,
        warn: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._save, self._stop, self._stage, self._warn = save, stop_requested, steps_per_stage, warn
        self._interval, self._clock = interval, clock
        self._ended, self._cost = clock(), 0.0
        self.last_good: int | None = None
        self.failure: InputError | None = None

    def __call__(self, state: SearchState) -> None:
        """Raises :class:`~sensverify.errors.Interrupted`, after saving, when a stop was asked for."""
        if self._stop.is_set():
            if self.try_to_save(state):
                raise Interrupted(f"stopped after step {state.step}; go on with --resume")
            kept = "no checkpoint" if self.last_good is None else f"the last checkpoint is of step {self.last_good}"
            raise Interrupted(f"stopped after step {state.step}, which could not be saved ({self.failure}); {kept}")
        waited, rest = self._clock() - self._ended, self._cost / SHARE
        stage_ends = self._stage is not None and state.step % self._stage == 0
        if waited >= (rest if stage_ends else max(self._interval, rest)):
            self.try_to_save(state)

    def try_to_save(self, state: SearchState) -> bool:
        """Save now; false, and one warning for as long as it lasts, if that cannot be done."""
        began = self._clock()
        try:
            self._save(state)
        except InputError as error:
            if self.failure is None:
                self._warn(f"no checkpoint at step {state.step}, the search goes on: {error}")
            self.failure = error
        else:
            self.last_good, self.failure = state.step, None
        self._ended = self._clock()
        self._cost = self._ended - began
        return self.failure is None


class Pace:
    """How fast a search goes: steps and (direction, context) pairs per second over the last :data:`RATE_OVER`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: deque[tuple[float, int, int]] = deque([(clock(), 0, 0)])

    def count(self, pairs: int) -> None:
        """One more step has been taken, with so many pairs."""
        now, (_, steps, before) = self._clock(), self._marks[-1]
        self._marks.append((now, steps + 1, before + pairs))
        while len(self._marks) > 2 and now - self._marks[1][0] >= RATE_OVER:
            self._marks.popleft()
        if len(self._marks) > 1024:  # thinned out: one mark in two is enough
            self._marks = deque([*list(self._marks)[:-1:2], self._marks[-1]])

    def to_json(self, steps_left: int) -> dict[str, Any]:
        """``steps_per_s``, ``pairs_per_s`` and ``seconds_left`` until ``steps_left`` are done; None before a step."""
        (began, steps, pairs), (now, steps_now, pairs_now) = self._marks[0], self._marks[-1]
        seconds, taken = now - began, steps_now - steps
        if taken == 0 or seconds <= 0:
            return {"steps_per_s": None, "pairs_per_s": None, "seconds_left": None}
        return {
            "steps_per_s": taken / seconds,
            "pairs_per_s": (pairs_now - pairs) / seconds,
            "seconds_left": steps_left * seconds / taken,
        }

    def note(self, mean_score: float) -> str:
        """The rates and the mean score of the last step, for a line beside a bar."""
        rates = self.to_json(0)
        if rates["steps_per_s"] is None:
            return ""
        score = f"mean {mean_score:.3e}" if math.isfinite(mean_score) else "mean not finite"
        return f"{rates['steps_per_s']:.3g} steps/s · {rates['pairs_per_s']:,.0f} pairs/s · {score}"


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


class Listener:
    """A listener for progress (:class:`sensverify.claims.Progress`) that draws nothing."""

    def __call__(self, label: str, done: int, total: int) -> None:
        """``done`` of ``total`` steps of the work called ``label``."""

    def note(self, label: str, text: str) -> None:
        """What stands beside the bar of ``label`` from now on."""


class _Drawn(Listener):
    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, label: str, done: int, total: int) -> None:
        if label not in self._tasks:
            self._tasks[label] = self._bars.add_task(label, total=total, note="")
        self._bars.update(self._tasks[label], completed=done, total=total, visible=label == "claims" or done < total)

    def note(self, label: str, text: str) -> None:
        if label in self._tasks:
            self._bars.update(self._tasks[label], note=text)


@contextlib.contextmanager
def progress_bars(*, quiet: bool) -> Iterator[Listener]:
    """A listener that draws bars on stderr, or does nothing if stderr is no terminal or ``quiet``."""
    if quiet or not sys.stderr.isatty():
        yield Listener()
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Drawn(bars)
