"""``discover`` from beginning to end, so that nobody need stand by: open, search, evaluate, write, and leave a record.

Whatever happens on the way, ``--resume`` goes on from what is on disk, and on a CPU ends with the same bits. Each thing
that can go wrong for hours of work at once has its answer here or below: a process killed at any moment
(:mod:`sensverify.checkpoints`, :mod:`sensverify.directions`), a disk that fills up (:mod:`sensverify.waiting`), memory
that runs out (:mod:`sensverify.chunking`), directions that die or are done (:mod:`sensverify.discovery`), a second
process in the same folder, processes that share the work and are lost (:mod:`sensverify.distributed`), and a search in
few digits whose scores may not be what they seem: what was searched for in less than float32 is evaluated in float32,
and both figures are in the record.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from sensverify import __version__, checkpoints
from sensverify.checkpoints import Warn, unheard
from sensverify.chunking import memory_expected, release
from sensverify.claims import Progress, Subject, silent
from sensverify.directions import CONFIG_NAME, save_directions
from sensverify.directions import FILE_NAME as DIRECTIONS_NAME
from sensverify.discovery import count_duplicates, search, start_search
from sensverify.distributed import Group, LostRank, Shard, device_of_rank, joined, ranks_here
from sensverify.errors import InputError, Interrupted, MissingExtraError
from sensverify.evaluation import Evaluation, evaluate_directions, measured_as
from sensverify.files import check_writable, make_directory
from sensverify.memory import LEAST, Budget, available
from sensverify.parts import check_shared
from sensverify.readout import Readout
from sensverify.report import machine
from sensverify.run_record import FILE_NAME as RECORD_NAME
from sensverify.run_record import RunRecord, now
from sensverify.search_state import SearchOptions, SearchState, total_steps
from sensverify.sites import Site, SiteOpener, SiteOptions, open_site
from sensverify.waiting import INTERVAL, CheckpointSaver, Listener, Pace, interruptible

FULL_PRECISION = ("float32", "float64")

AGREEMENT = 0.05
"""Scores in fewer digits agree with float32 if their mean over the directions found is within this share of it."""

NOTE_EVERY = 0.25
"""Seconds between two changes of the rates beside a bar."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """A search to be done: on what, where in it, how, and the folder ``out`` for everything that comes of it.

    ``site.memory`` is what each process may use; by default what is worked on at once may take half of what is free.
    ``shard``: what is dealt out where a launcher began several processes.
    """

    subject: Subject
    site: SiteOptions
    search: SearchOptions
    out: Path
    resume: bool = False
    interval: float = INTERVAL
    shard: Shard = "contexts"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """The file of directions, and what was found about them."""

    path: Path
    evaluation: Evaluation


def discover(
    request: Request, *, listener: Listener | None = None, warn: Warn = unheard, opener: SiteOpener = open_site
) -> Outcome | None:
    """Do what is asked for; ``warn`` hears, a line at a time, of what went wrong and was got over.

    Where a launcher began several processes, each calls this: all search, and the first one alone evaluates, writes,
    and says anything. The others return None.

    Raises :class:`~sensverify.errors.InputError` for what cannot be done, before a folder is made where that can be
    known; :class:`~sensverify.errors.Interrupted` when it was stopped or lost a process, resumable.
    """
    check_writable(request.out)
    device = device_of_rank(request.subject.device)
    request = dataclasses.replace(request, subject=dataclasses.replace(request.subject, device=device))
    with joined(device, request.shard) as group:
        if group.rank:
            _follow(request, group, opener)
            return None
        try:
            return _lead(request, group, listener or Listener(), warn, opener)
        except BaseException:
            group.give_up()
            raise


def _open(
    request: Request, group: Group, opener: SiteOpener, progress: Progress = silent
) -> tuple[Request, Site, dict[str, Any]]:
    """The site, ``request`` measured as it has it, and what makes two searches the same one."""
    with memory_expected("the model and its clean pass", "lower --context, or pass a --text with less in it"):
        site = opener(request.subject, request.site, progress)
    request = dataclasses.replace(request, search=_as_read(request.search, site))
    for readout in (site.search, _stopping(site)):
        check_shared(readout, request.search, group)
    return request, site, {**site.description, "search": request.search.to_json()}


def _stopping(site: Site) -> Readout:
    """Where a plateau looks."""
    chosen: Readout = getattr(site, "stopping", None) or site.held_out
    return chosen


def _budget(request: Request, device: torch.device) -> Budget:
    if request.site.memory is not None:
        return Budget(total=request.site.memory)
    free = available(str(device))
    if device.type == "cpu":  # what is free is free for all processes together
        free //= ranks_here()
    # An eighth of a budget is for contexts and another one for tables: here a quarter each of what is free. Two runs of
    # one seed are to have the same bits: what happens to be free counts only where it is nearly too little.
    return Budget(total=max(LEAST, 2 * free))


def _follow(request: Request, group: Group, opener: SiteOpener) -> None:
    """Take every step that the first process takes."""
    request, site, configuration = _open(request, group, opener)
    state = checkpoints.unpacked(group.share(None), configuration, site.search.device)

    def after_step(state: SearchState) -> None:
        if group.agreed.is_set():
            raise Interrupted(f"rank {group.rank} stopped after step {state.step}; rank 0 keeps the checkpoint")

    with interruptible() as stop_requested:
        group.listen(stop_requested)
        search(site.search, request.search, state=state, after_step=after_step, held_out=_stopping(site), group=group)
        group.part_ways()


def _lead(request: Request, group: Group, listener: Listener, warn: Warn, opener: SiteOpener) -> Outcome:
    """Search with the others, if there are any, and do what is done once."""
    started, began = now(), time.monotonic()
    request, site, configuration = _open(request, group, opener, listener)
    opened = time.monotonic()
    state = None
    if request.resume:
        state = checkpoints.load_checkpoint(request.out, configuration, site.search.device, warn)
    resumed = state is not None
    # The last thing that can refuse, so before the folder.
    with memory_expected("the start of the search", "lower --directions, or pass --start random"):
        state = state or start_search(site.search, request.search, _budget(request, site.search.device))
    make_directory(request.out)
    with alone_in(request.out):
        sweep(request.out)
        if resumed:
            with contextlib.suppress(InputError, OSError):
                checkpoints.settle(request.out)
        if group.size > 1:
            group.share(checkpoints.packed(state, configuration))
        identity = {"site": dict(site.description), "options": request.search.to_json(), "seed": request.search.seed}
        circumstances = {
            "version": __version__,
            "machine": {**machine(), "device": _device_name(site.search.device)},
            "processes": group.size,
            "dtype": request.subject.dtype,
            "matmul_precision": torch.get_float32_matmul_precision(),
            "steps_planned": total_steps(request.search),
        }
        record = RunRecord(request.out, identity, circumstances, resumed=resumed, started=started, warn=warn)
        record.add_seconds("opening", opened - began)
        for part, seconds in dict(getattr(site, "seconds", {})).items():
            record.add_seconds(part, seconds)
        run = _Run(request, configuration, record, listener, warn, group)
        try:
            with interruptible() as stop_requested:
                state = run.search(site, state, stop_requested, resumed=resumed)
                evaluation, checked = run.evaluate(site, state, stop_requested), None
                if request.subject.dtype not in FULL_PRECISION:
                    del site  # both copies of the weights at once may be too much
                    evaluation, checked = run.check_in_float32(evaluation, opener)
            path = run.write(evaluation, checked)
        except (Interrupted, KeyboardInterrupt) as stop:
            record.end("interrupted", str(stop) or "interrupted")
            raise
        except BaseException as error:
            reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            record.end("failed", reason)
            raise
    return Outcome(path=path, evaluation=evaluation)


def _as_read(options: SearchOptions, site: Site) -> SearchOptions:
    """``options`` with the distance that the site's read-out has of its own, if it has one."""
    return dataclasses.replace(options, probe=measured_as(options.probe, site.search))


class _Run:
    """The parts of one run, and what they share."""

    def __init__(
        self,
        request: Request,
        configuration: dict[str, Any],
        record: RunRecord,
        listener: Listener,
        warn: Warn,
        group: Group,
    ) -> None:
        self.request, self.configuration, self.record = request, configuration, record
        self.listener, self.warn, self.group = listener, warn, group
        self.pace = Pace()
        self.saver: CheckpointSaver | None = None
        self.limits: tuple[int | None, int | None] = (None, None)
        self.noted = 0.0

    def search(self, site: Site, state: SearchState, stop: threading.Event, *, resumed: bool) -> SearchState:
        """The search, with checkpoints, to its end."""
        options = self.request.search
        self.group.listen(stop)
        saver = self.saver = CheckpointSaver(
            self._save,
            self.group.agreed,
            steps_per_stage=options.steps if options.method == "sequential" else None,
            interval=self.request.interval,
            warn=self.warn,
        )
        self.limits = state.chunking.limit, state.chunking.contexts
        with self.record.part("search"):
            if resumed:
                saver.last_good = state.step
            elif total_steps(options) and saver.try_to_save(state):
                checkpoints.forget_previous(self.request.out)
            self.record.write(**self._progress(state))
            try:
                state = search(
                    site.search,
                    options,
                    state=state,
                    progress=self.listener,
                    after_step=self._after_step,
                    held_out=_stopping(site),
                    group=self.group,
                )
                self.group.part_ways()
            except LostRank as lost:  # the state is that after the last step that all took
                if saver.last_good != state.step:
                    saver.try_to_save(state)
                raise lost.with_remedy(f"repeat with --resume{self._kept()}, with any number of processes") from lost
            if total_steps(options) and saver.last_good != state.step:
                saver.try_to_save(state)
        self.record.write(**self._progress(state))
        return state

    def _after_step(self, state: SearchState) -> None:
        options = self.request.search
        moving = 1 if options.method == "sequential" else int((~state.frozen).sum())
        self.pace.count(moving * options.contexts)
        if (now := time.monotonic()) - self.noted > NOTE_EVERY:
            self.listener.note("searching", self.pace.note(state.history[-1]))
            self.noted = now
        if (limits := (state.chunking.limit, state.chunking.contexts)) != self.limits:
            what = f"{limits[0]} directions" if limits[0] != self.limits[0] else f"{limits[1]} contexts"
            self.limits = limits
            self.warn(f"out of memory at step {state.step}: going on with {what} at once")
        assert self.saver is not None
        self.saver(state)

    def _save(self, state: SearchState) -> None:
        checkpoints.save_checkpoint(self.request.out, state, self.configuration)
        self.record.write(**self._progress(state), checkpoint_step=state.step)

    def _progress(self, state: SearchState) -> dict[str, Any]:
        begun = state.running_score[(state.age > 0).to(state.running_score.device)]
        return {
            "step": state.step,
            "steps_done": len(state.history),
            "directions_at_once": state.chunking.used or None,
            "contexts_at_once": state.chunking.used_contexts or None,
            "mean_score": float(begun.mean()) if len(begun) else None,
            "duplicates": count_duplicates(state.directions),
            "frozen": int(state.frozen.sum()),
            "pace": self.pace.to_json(max(0, total_steps(self.request.search) - state.step)),
        }

    def evaluate(self, site: Site, state: SearchState, stop: threading.Event) -> Evaluation:
        """Scores on held-out contexts; with matrices multiplied in all digits, whatever the search did."""

        def progress(label: str, done: int, total: int) -> None:
            if stop.is_set():
                raise Interrupted(f"stopped after the search, in its evaluation{self._kept()}; go on with --resume")
            self.listener(label, done, total)

        options = self.request.search
        remedy = f"free memory and repeat with --resume{self._kept()}"
        with self.record.part("evaluation"), _all_digits(), memory_expected("the evaluation", remedy):
            return evaluate_directions(
                site, state.directions, seed=options.seed, probe=options.probe, score=options.score, progress=progress
            )

    def check_in_float32(self, low: Evaluation, opener: SiteOpener) -> tuple[Evaluation, dict[str, Any]]:
        """The same directions, contexts and presences with float32 weights, if there are any, and how far off ``low``
        was."""
        request, dtype = self.request, self.request.subject.dtype
        release()
        try:
            with self.record.part("evaluation in float32"), memory_expected("float32 weights", "free memory"):
                site = opener(dataclasses.replace(request.subject, dtype="float32"), request.site)
                options = _as_read(request.search, site)
                with _all_digits():
                    full = evaluate_directions(
                        site, low.directions, seed=options.seed, probe=options.probe, score=options.score
                    )
        except (InputError, MissingExtraError) as error:
            self.warn(f"scores are those of {dtype}, not checked in float32: {error}")
            return low, {"dtype": dtype, "float32": None, "agrees": None, "reason": str(error)}
        few, many = (float(one.plus.mean.double().mean()) for one in (low, full))
        agrees = abs(few - many) <= AGREEMENT * abs(many)
        if not agrees:
            self.warn(
                f"the mean score in {dtype} is {few:.3e}, in float32 {many:.3e}: the search saw more rounding than "
                "effect; search again with --dtype float32"
            )
        return full, {"dtype": dtype, dtype: few, "float32": many, "agrees": agrees}

    def write(self, evaluation: Evaluation, checked: dict[str, Any] | None) -> Path:
        """The files of directions, then the end of the record."""
        config = {**self.configuration, "version": __version__, "seed": self.request.search.seed}
        if checked is not None:
            config["precision"] = checked
        try:
            path = save_directions(self.request.out, evaluation.to_directions(config))
        except InputError as error:
            raise InputError(
                expected=error.expected,
                got=error.got,
                remedy=f"{error.remedy}, then repeat with --resume{self._kept()}",
            ) from error
        result = evaluation.to_json()
        del result["scores"]  # as many as directions; they are beside the directions
        self.record.end("finished", result=result, precision=checked, duplicates=evaluation.duplicates)
        return path

    def _kept(self) -> str:
        if self.saver is None or self.saver.last_good is None:
            return " (there is no checkpoint)"
        return f" (the last good checkpoint is {self.request.out / checkpoints.FILE_NAME}, step {self.saver.last_good})"


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Two processes that write the same checkpoints would lose both searches: the second one is refused.

    The lock is the system's and on the folder itself: it leaves no file, and goes when the process does, however.
    Where a file system has no locks, there is none.
    """
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                expected="an --out that no other run is writing to",
                got=f"{folder}, which one is",
                remedy="wait for it or stop it, or pass another --out",
            ) from error
        except OSError:
            pass
        yield
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written under names that nothing reads."""
    for name in (checkpoints.FILE_NAME, DIRECTIONS_NAME, CONFIG_NAME, RECORD_NAME):
        for pattern in (f".{name}.*", f"..next.{name}.*", f".next.{name}"):
            for path in folder.glob(pattern):
                with contextlib.suppress(OSError):
                    path.unlink()


@contextlib.contextmanager
def _all_digits() -> Iterator[None]:
    """float32 matrices are multiplied in float32 inside, not in TF32 or bfloat16 as the search may have them."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
