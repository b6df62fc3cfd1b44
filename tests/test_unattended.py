"""Searches that nobody watches: killed at any moment, out of disk, out of memory, out of breath.

Run as a program, this file is the victim: it forks runs of :func:`sensverify.unattended.discover` and kills them.
"""

from __future__ import annotations

import copy
import dataclasses
import errno
import hashlib
import itertools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sensverify import checkpoints, discovery, files, unattended, waiting
from sensverify.checkpoints import load_checkpoint, save_checkpoint
from sensverify.claims import Subject
from sensverify.directions import DirectionSet, load_directions, save_directions
from sensverify.discovery import SearchOptions, dead_directions, search, start_search
from sensverify.errors import InputError, Interrupted
from sensverify.geometry import Centring, random_directions, step_on_sphere, tangent
from sensverify.plateau import Plateau, Watch
from sensverify.readout import Batch
from sensverify.scoring import kullback_leibler
from sensverify.sensitivity import Probe, effects
from sensverify.sites import Site, SiteOptions
from sensverify.waiting import CheckpointSaver, Listener, Pace

ROOT = Path(__file__).parent.parent
WIDTH = 12
NO_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 B"
)


class Network:
    """A small random network as a read-out; ``room`` is for how many directions there is memory."""

    width, device, centring = WIDTH, torch.device("cpu"), Centring.MEAN

    def __init__(self, room=10**9, error=None, gain=1.0):
        generator = torch.Generator().manual_seed(7)
        self.first = torch.randn(WIDTH, 20, generator=generator) / WIDTH**0.5
        self.second = torch.randn(20, 9, generator=generator) / 20**0.5
        self.room, self.error, self.gain = room, error or RuntimeError(NO_MEMORY), gain
        self.asked = []

    def sample(self, count, generator):
        return Batch(torch.randn(count, WIDTH, generator=generator) + 0.3, None)

    def clean(self, batch):
        return self._read(batch.x)

    def read(self, batch, x):
        self.asked.append(len(x))
        if len(x) > self.room:
            raise self.error
        return self._read(x)

    def _read(self, x):
        return torch.tanh(self.gain * torch.tanh(x @ self.first) @ self.second)

    def describe(self):
        return {}


class Flat(Network):
    """Nothing that is done to it has any effect."""

    def _read(self, x):
        return torch.ones(*x.shape[:-1], 9) + 0 * x.sum(-1, keepdim=True)


OPTIONS = SearchOptions(directions=4, steps=9, contexts=8, seed=3)
SITE = SiteOptions(layer=0, target=1, offset=1)


def opened(search=None, held_out=None, dtype="float32"):
    """An opener of a toy."""
    description = {"model": "toy", "dtype": dtype, "weights_sha256": "ab" * 32}

    def opener(subject, options, progress=None):
        return Site(
            search=search or Network(),
            held_out=held_out or Network(),
            independent_contexts=32,
            weights_sha256="ab" * 32,
            description=description,
        )

    return opener


def request(out, options=OPTIONS, dtype="float32", **more):
    return unattended.Request(subject=Subject(dtype=dtype), site=SITE, search=options, out=out, interval=0, **more)


def record(folder):
    return json.loads((folder / "run.json").read_text())


def tensors(folder):
    return (folder / "directions.safetensors").read_bytes()


def same(first, second):
    return first.directions.equal(second.directions) and first.history == second.history


@pytest.fixture
def often(monkeypatch):
    """A checkpoint after every step, whatever it costs."""
    monkeypatch.setattr(waiting, "SHARE", 1e9)


# --- The same bits as ever ------------------------------------------------------------------------------------------


def plain_search(readout, options):
    """The search as it was before anything could freeze, die or run out of memory, written out once more."""
    generator = torch.Generator().manual_seed(options.seed)
    s = random_directions(options.directions, WIDTH, readout.centring, generator)
    momentum, second, running = torch.zeros_like(s), torch.zeros(len(s), 1), torch.zeros(len(s))
    sequential = options.method == "sequential"
    for step in range(options.steps * (len(s) if sequential else 1)):
        stage, t = divmod(step, options.steps)
        now = slice(stage, stage + 1) if sequential else slice(None)
        leaf = s[now].clone().requires_grad_()
        batch = readout.sample(options.contexts, generator)
        alpha = options.probe.law.stratified(1, len(batch), generator)[0].float()
        scores = effects(readout, batch, readout.clean(batch), leaf, alpha).mean(1)
        (gradient,) = torch.autograd.grad(torch.log(scores + torch.finfo(scores.dtype).tiny).sum(), leaf)
        here = s[now]
        if sequential:
            gradient = gradient - options.barrier * 2 * (here @ s[:stage].T) @ s[:stage]
        else:
            c = (here @ here.T).fill_diagonal_(0.0)
            slope = (2 * c * c.square() / (1 - c.square()).clamp_min(1e-6)).masked_fill_(c.square() > 1 - 1e-6, 0.0)
            gradient = gradient - min(1.0, 2 * (1 - t / options.steps)) * options.barrier * (slope @ here)
        momentum[now] = 0.9 * momentum[now] + (1 - 0.9) * gradient
        second[now] = 0.99 * second[now] + (1 - 0.99) * gradient.square().sum(1, True)
        rate = options.learning_rate * 0.5 * (1 + math.cos(math.pi * t / options.steps))
        scale = (second[now] / (1 - 0.99 ** (t + 1))).sqrt() + 1e-12
        moved = step_on_sphere(here, rate * (momentum[now] / (1 - 0.9 ** (t + 1))) / scale)
        decay = 0.9 if t else 0.0
        running[now] = decay * running[now] + (1 - decay) * scores.detach()
        s[now], momentum[now] = moved, tangent(moved, momentum[now])
        if not sequential and t in {int(share * options.steps) for share in (1 / 8, 1 / 4, 3 / 8, 1 / 2)} - {0}:
            close = (s @ s.T).abs() > 0.9
            duplicate = (close & (running[None, :] > running[:, None])).any(1)
            if duplicate.any():
                s[duplicate] = random_directions(int(duplicate.sum()), WIDTH, readout.centring, generator)
                momentum[duplicate], running[duplicate] = 0.0, 0.0
    return s


@pytest.mark.parametrize(
    "options",
    [
        SearchOptions(directions=5, steps=40, contexts=8, seed=1),
        SearchOptions(directions=30, steps=40, contexts=8, seed=2, repulsion=0.0),  # duplicates, and many
        SearchOptions(directions=3, steps=12, contexts=8, seed=3, method="sequential"),
    ],
    ids=["parallel", "duplicates", "sequential"],
)
def test_a_search_that_is_asked_for_nothing_new_has_the_bits_that_it_had(options):
    found = search(Network(), options).directions
    assert found.equal(plain_search(Network(), options))
    assert "plateau" not in options.to_json()
    assert "revive" not in options.to_json()
    if options.directions == 30:  # which tells that some did start afresh
        assert not found.equal(search(Network(), dataclasses.replace(options, revive=True)).directions)


# --- Killed ---------------------------------------------------------------------------------------------------------


class _Events:
    """Counts what reaches the disk; at the event numbered ``last`` the process is killed, in the middle of it."""

    def __init__(self, last=None):
        self.count, self.last = 0, last
        replace, unlink = os.replace, Path.unlink
        os.replace = lambda *given: (self.happens(), replace(*given))[1]
        os.fsync = lambda *given: self.happens()  # a process that is killed does not need it
        Path.unlink = lambda *given, **more: (self.happens(), unlink(*given, **more))[1]
        files.open = lambda path, mode: _Torn(path, mode, self)

    def happens(self, stream=None, content=b""):
        if self.count == self.last:
            if stream is not None:
                stream.write(content[: len(content) // 2])
                stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1


class _Torn:
    """A file of which half is written when the end comes."""

    def __init__(self, path, mode, events):
        self.stream, self.events = path.open(mode), events

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stream.close()

    def write(self, content):
        self.events.happens(self.stream, content)
        return self.stream.write(content)

    def flush(self):
        self.stream.flush()

    def fileno(self):
        return self.stream.fileno()


VICTIMS = {
    "parallel": OPTIONS,
    "sequential": dataclasses.replace(OPTIONS, directions=2, steps=5, method="sequential"),
    "all": dataclasses.replace(
        OPTIONS, steps=20, revive=True, plateau=Plateau(every=2, patience=1, tolerance=0.05, contexts=16)
    ),
}


def _earlier(folder):
    """What another search left in the folder: a pair of files that must not be mixed with the new one."""
    folder.mkdir(parents=True)
    rows = random_directions(4, WIDTH, Centring.MEAN, torch.Generator().manual_seed(99))
    save_directions(folder, DirectionSet(directions=rows, config={"seed": 99}))


def _victims(folder):
    """Every kind of search: once to its end, then killed at many moments, and each time gone on with."""
    torch.set_num_threads(1)
    waiting.SHARE = 1e9
    chance = random.Random(11)
    totals = {}
    for kind, options in VICTIMS.items():
        whole = folder / kind / "whole"
        _earlier(whole)
        reading, writing = os.pipe()

        def child(out, resume=False, last=None, tell=None, options=options):
            pid = os.fork()
            if pid:
                return pid
            try:
                events = _Events(last)
                unattended.discover(request(out, options, resume=resume), opener=opened())
                if tell is not None:
                    os.write(tell, json.dumps(events.count).encode())
                os._exit(0)
            except BaseException as error:
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
            finally:
                os._exit(1)

        began = time.monotonic()
        assert os.waitpid(child(whole, tell=writing), 0)[1] == 0
        seconds = time.monotonic() - began
        totals[kind] = total = json.loads(os.read(reading, 100))
        at_the_end = range(total - 12, total) if kind == "parallel" else ()  # where the results are written
        moments = [*chance.sample(range(total - 13), 3 if at_the_end else 2), *at_the_end]
        for name, last in [*((f"event {m}", m) for m in moments), *((f"moment {i}", None) for i in range(1))]:
            out = folder / kind / name
            _earlier(out)
            pid = child(out, last=last)
            if last is None:
                time.sleep(chance.uniform(0.1, 1) * seconds)
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            shutil.copytree(out, folder / kind / f"killed at {name}")
            assert os.waitpid(child(out, resume=True), 0)[1] == 0, name
    sys.stdout.write(json.dumps(totals))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_killed_search_resumes_bit_for_bit_whenever_it_was_killed(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)], capture_output=True, text=True, env=environment, timeout=100
    )
    assert done.returncode == 0, done.stderr
    for kind, options in VICTIMS.items():
        whole = tmp_path / kind / "whole"
        direct = search(Network(), options, held_out=Network()).directions
        torch.testing.assert_close(load_directions(whole).directions, direct)
        names = [path.name for path in (tmp_path / kind).iterdir() if path.name.startswith("killed at ")]
        assert len(names) >= 3
        interrupted = 0
        for name in names:
            killed, resumed = tmp_path / kind / name, tmp_path / kind / name.removeprefix("killed at ")
            assert tensors(resumed) == tensors(whole), name
            assert (resumed / "cfg.json").read_bytes() == (whole / "cfg.json").read_bytes()
            assert record(resumed)["status"] == "finished"
            expected = {"cfg.json", "directions.safetensors", "run.json", "search.checkpoint"}
            left = {path.name for path in resumed.iterdir()}
            assert expected <= left <= expected | {"search.checkpoint.previous"}  # nothing half-written is left behind
            if (killed / "cfg.json").exists():
                pair = load_directions(killed)  # of one search, the earlier one or this one
                ours = pair.config["seed"] == options.seed
                assert pair.directions.equal(load_directions(whole).directions) == ours
            else:
                with pytest.raises(InputError, match=r"cfg\.json"):
                    load_directions(killed)
            interrupted += not (killed / "run.json").exists() or record(killed)["status"] == "running"
        assert interrupted >= 2  # the kills did come in the middle


def test_every_step_can_be_gone_on_from_with_everything_switched_on(tmp_path):
    options = VICTIMS["all"]

    def keep(state):
        (tmp_path / str(state.step)).mkdir(exist_ok=True)
        save_checkpoint(tmp_path / str(state.step), state, {})

    state = start_search(Network(), options)
    state.second_moment[1] = math.inf
    whole = search(Network(), options, state=state, after_step=keep)
    assert bool(whole.frozen.any())  # so that there was something to forget
    assert whole.age[1] < whole.age[0]
    assert bool((whole.watch.cuts > 0).any())
    for step in (1, 4, 6, 9, whole.step - 1):
        resumed = load_checkpoint(tmp_path / str(step), {}, torch.device("cpu"))
        assert same(search(Network(), options, state=resumed), whole)


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path):
    states = []
    search(Network(), OPTIONS, after_step=lambda s: (states.append(s.step), save_checkpoint(tmp_path, s, {})))
    newest = tmp_path / checkpoints.FILE_NAME
    content = newest.read_bytes()
    for damaged in (content[:-1], content[:40] + b"\0" + content[41:], b""):
        newest.write_bytes(damaged)
        heard = []
        state = load_checkpoint(tmp_path, {}, torch.device("cpu"), heard.append)
        assert state.step == states[-2]
        assert len(heard) == 1
        assert "checksum" in heard[0]
    checkpoints.settle(tmp_path)  # what is damaged is not what is fallen back on the next time
    save_checkpoint(tmp_path, state, {})
    newest.write_bytes(b"junk")
    assert load_checkpoint(tmp_path, {}, torch.device("cpu")).step == states[-2]
    (tmp_path / checkpoints.PREVIOUS_NAME).write_bytes(b"junk")
    with pytest.raises(InputError, match="checksum"):
        load_checkpoint(tmp_path, {}, torch.device("cpu"))


def test_a_checkpoint_that_was_complete_but_not_yet_in_place_is_the_newest(tmp_path, monkeypatch):
    replace, taken = os.replace, []

    def stop(source, target):
        if Path(target).name == checkpoints.FILE_NAME and taken.count(checkpoints.FILE_NAME) == 2:
            raise KeyboardInterrupt
        taken.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        search(Network(), OPTIONS, after_step=lambda s: save_checkpoint(tmp_path, s, {}))
    assert not (tmp_path / checkpoints.FILE_NAME).exists()
    assert load_checkpoint(tmp_path, {}, torch.device("cpu")).step == 3


def test_a_fresh_start_forgets_the_checkpoints_of_the_search_before(tmp_path, often):
    unattended.discover(request(tmp_path), opener=opened())
    other = dataclasses.replace(OPTIONS, seed=4)
    seen = []

    class Look(Listener):
        def __call__(self, label, done, total):
            if label == "searching" and done == 1:
                seen.extend(p.name for p in tmp_path.glob("search.checkpoint*"))

    unattended.discover(request(tmp_path, other), opener=opened(), listener=Look())
    assert seen == ["search.checkpoint"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_says_how_to_go_on_and_costs_no_bits(tmp_path, number):
    class Kill(Listener):
        def __call__(self, label, done, total):
            if label == "searching" and done == 5:
                os.kill(os.getpid(), number)

    unattended.discover(request(tmp_path / "whole"), opener=opened())
    with pytest.raises(Interrupted, match=r"stopped after step 5; go on with --resume"):
        unattended.discover(request(tmp_path / "killed"), opener=opened(), listener=Kill())
    assert record(tmp_path / "killed")["status"] == "interrupted"
    unattended.discover(request(tmp_path / "killed", resume=True), opener=opened())
    assert tensors(tmp_path / "killed") == tensors(tmp_path / "whole")
    document = record(tmp_path / "killed")
    assert (document["status"], document["resumed"], document["steps_done"]) == ("finished", 1, OPTIONS.steps)
    assert (document["seed"], document["options"]["steps"], document["site"]["model"]) == (3, OPTIONS.steps, "toy")
    assert set(document["seconds"]) >= {"opening", "search", "evaluation"}
    assert document["result"]["duplicates"] == document["duplicates"]
    assert document["directions_at_once"] == OPTIONS.directions


def test_a_read_out_with_a_distance_of_its_own_is_searched_and_scored_by_it(tmp_path):
    readout = Network()
    readout.distance = kullback_leibler
    outcome = unattended.discover(request(tmp_path), opener=opened(readout))
    options = dataclasses.replace(OPTIONS, probe=Probe(distance=kullback_leibler))
    torch.testing.assert_close(outcome.evaluation.directions, search(Network(), options).directions)
    assert not outcome.evaluation.directions.equal(search(Network(), OPTIONS).directions)
    config = json.loads((tmp_path / "cfg.json").read_text())
    assert config["search"]["probe"]["distance"] == config["evaluation"]["distance"] == "kullback_leibler"


def test_two_runs_do_not_write_into_one_folder(tmp_path):
    with (
        unattended.alone_in(tmp_path),
        pytest.raises(InputError, match="no other run"),
        unattended.alone_in(tmp_path),
    ):
        pass
    with unattended.alone_in(tmp_path):  # the lock went with who held it
        pass


def test_a_run_that_fails_says_why_in_its_record(tmp_path):
    with pytest.raises(ZeroDivisionError):
        unattended.discover(request(tmp_path), opener=opened(held_out=Network(room=0, error=ZeroDivisionError("a\nb"))))
    assert record(tmp_path)["status"] == "failed"
    assert record(tmp_path)["reason"] == "ZeroDivisionError: a b"


# --- No room on the disk --------------------------------------------------------------------------------------------


class Disk:
    """A disk that is full from one step of the search to another."""

    def __init__(self, monkeypatch, first, last):
        self.step, self.first, self.last = 0, first, last
        fsync = os.fsync

        def full(handle):
            if self.first <= self.step <= self.last:
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(handle)

        monkeypatch.setattr(files.os, "fsync", full)

    def __call__(self, label, done, total):
        self.step = done if label == "searching" else 10**6

    def note(self, label, text):
        pass


def test_a_full_disk_does_not_stop_a_search(tmp_path, monkeypatch, often):
    unattended.discover(request(tmp_path / "whole"), opener=opened())
    heard = []
    disk = Disk(monkeypatch, 3, 6)
    unattended.discover(request(tmp_path / "full"), opener=opened(), listener=disk, warn=heard.append)
    assert tensors(tmp_path / "full") == tensors(tmp_path / "whole")
    assert [line.split(":")[0] for line in heard] == [
        "no checkpoint at step 3, the search goes on",
        "no run.json, the run goes on",
    ][: len(heard)]
    assert any("No space left" in line for line in heard)
    assert record(tmp_path / "full")["status"] == "finished"


def test_results_that_cannot_be_written_are_told_with_the_last_good_checkpoint(tmp_path, monkeypatch, often):
    unattended.discover(request(tmp_path / "whole"), opener=opened())
    _earlier(tmp_path / "full")
    before = tensors(tmp_path / "full")
    with monkeypatch.context() as patch:
        disk = Disk(patch, 5, 10**9)
        with pytest.raises(InputError) as caught:
            unattended.discover(request(tmp_path / "full"), opener=opened(), listener=disk)
    assert "directions.safetensors" in str(caught.value)
    assert "search.checkpoint, step 4" in str(caught.value)
    assert "--resume" in str(caught.value)
    assert tensors(tmp_path / "full") == before
    load_directions(tmp_path / "full")  # the pair that was there
    unattended.discover(request(tmp_path / "full", resume=True), opener=opened())
    assert tensors(tmp_path / "full") == tensors(tmp_path / "whole")


def test_checkpoints_go_by_the_clock_and_never_take_more_than_their_share():
    seconds, saved = [0.0], []

    def save(state):
        saved.append((seconds[0], state.step))
        seconds[0] += cost

    state = start_search(Network(), OPTIONS)
    for cost, expected in ((0.001, 20.0), (1.0, 1.0 / waiting.SHARE)):
        seconds[0], saved = 0.0, []
        saver = CheckpointSaver(save, threading.Event(), interval=20.0, clock=lambda: seconds[0])
        for step in range(1, 4000):
            state.step = step
            seconds[0] += 0.1
            saver(state)
        gaps = [later - sooner - cost for (sooner, _), (later, _) in itertools.pairwise(saved[1:])]
        assert gaps
        assert all(gap == pytest.approx(expected, abs=0.2) for gap in gaps)


def test_the_end_of_a_stage_is_worth_a_checkpoint():
    seconds, saved = [0.0], []
    saver = CheckpointSaver(
        lambda s: saved.append(s.step), threading.Event(), steps_per_stage=7, clock=lambda: seconds[0]
    )
    state = start_search(Network(), OPTIONS)
    for step in range(1, 30):
        state.step = step
        seconds[0] += 0.1
        saver(state)
    assert saved == [7, 14, 21, 28]


def test_a_stop_that_cannot_be_saved_says_what_there_is():
    def save(state):
        if state.step > 2:
            raise InputError(expected="to be able to write", got="No space left on device", remedy="none")

    stop = threading.Event()
    saver = CheckpointSaver(save, stop, interval=0.0)
    state = start_search(Network(), OPTIONS)
    state.step = 2
    saver.try_to_save(state)
    state.step = 3
    stop.set()
    with pytest.raises(Interrupted, match=r"could not be saved .*No space left.*the last checkpoint is of step 2"):
        saver(state)


def test_the_pace_is_that_of_the_last_half_minute():
    seconds = [0.0]
    pace = Pace(lambda: seconds[0])
    for _ in range(3000):
        seconds[0] += 0.01
        pace.count(50)
    for _ in range(200):
        seconds[0] += 0.5
        pace.count(50)
    rates = pace.to_json(steps_left=10)
    assert rates["steps_per_s"] == pytest.approx(2.0, rel=0.05)
    assert rates["pairs_per_s"] == pytest.approx(100.0, rel=0.05)
    assert rates["seconds_left"] == pytest.approx(5.0, rel=0.05)
    assert pace.note(0.5) == "2 steps/s · 100 pairs/s · mean 5.000e-01"
    assert Pace(lambda: 0.0).to_json(5) == {"steps_per_s": None, "pairs_per_s": None, "seconds_left": None}


# --- No memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [RuntimeError(NO_MEMORY), torch.OutOfMemoryError("CUDA out of memory"), MemoryError()], ids=repr
)
def test_a_step_that_memory_does_not_suffice_for_is_taken_in_parts(error):
    options = SearchOptions(directions=9, steps=12, contexts=8, seed=5, repulsion=0.2)
    usual = search(Network(), options)
    tight = search(Network(room=3, error=error), options)
    assert tight.chunking.limit == 2  # of nine, four, two
    torch.testing.assert_close(tight.directions, usual.directions, atol=1e-4, rtol=0)
    assert tight.history == pytest.approx(usual.history, rel=1e-4)
    assert usual.chunking.limit is None


def test_memory_that_runs_out_late_in_a_step_leaves_no_trace_of_the_attempt():
    """The look of a plateau comes after the directions have moved."""
    options = SearchOptions(directions=4, steps=20, contexts=8, seed=5, plateau=Plateau(every=5, contexts=8))
    usual, full = search(Network(), options), Network()
    read, reads = full.read, []

    def once(batch, x):
        reads.append(len(x))
        if len(reads) == 6:  # five steps, then the look
            raise RuntimeError(NO_MEMORY)
        return read(batch, x)

    full.read = once
    found = search(Network(), options, held_out=full)
    assert found.chunking.limit is None  # the look's own read-out is asked five times at most
    reads.clear()
    found = search(full, options)
    assert reads[5:8] == [4, 2, 2]
    torch.testing.assert_close(found.directions, usual.directions, atol=1e-4, rtol=0)
    assert len(found.history) == len(usual.history)
    assert found.age.equal(usual.age)


def test_no_memory_for_one_direction_is_told_with_what_to_lower():
    with pytest.raises(InputError, match=r"one direction at a time.*--contexts"):
        search(Network(room=0), OPTIONS)
    with pytest.raises(ZeroDivisionError):  # what is not want of memory is not taken for it
        search(Network(room=0, error=ZeroDivisionError()), OPTIONS)
    with pytest.raises(RuntimeError, match="shapes"):
        search(Network(room=0, error=RuntimeError("shapes do not fit")), OPTIONS)


def test_a_checkpoint_from_before_contexts_were_had_in_parts_is_gone_on_from(tmp_path):
    whole = search(Network(), OPTIONS, after_step=lambda s: s.step == 4 and save_checkpoint(tmp_path, s, {}))
    path = tmp_path / checkpoints.FILE_NAME
    payload = path.read_bytes()[32:]
    tensors, header = safetensors.torch.load(payload), checkpoints._header(payload)
    kept = {name: value for name, value in header.items() if name not in ("contexts_at_once", "pairs_at_once")}
    assert len(kept) == len(header) - 2
    older = safetensors.torch.save(tensors, metadata=kept)
    path.write_bytes(hashlib.sha256(older).digest() + older)
    resumed = load_checkpoint(tmp_path, {}, torch.device("cpu"))
    assert (resumed.step, resumed.chunking.pairs, resumed.chunking.contexts) == (4, None, None)
    assert same(search(Network(), OPTIONS, state=resumed), whole)


def test_a_lowered_number_of_directions_at_once_outlives_the_process(tmp_path):
    state = search(Network(room=2), OPTIONS)
    save_checkpoint(tmp_path, state, {})
    assert load_checkpoint(tmp_path, {}, torch.device("cpu")).chunking.limit == 2


def test_no_memory_for_the_evaluation_is_told(tmp_path):
    with pytest.raises(InputError, match=r"memory for the evaluation.*--resume"):
        unattended.discover(request(tmp_path), opener=opened(held_out=Network(room=0)))
    assert record(tmp_path)["status"] == "failed"


# --- Plateaus -------------------------------------------------------------------------------------------------------

LOOKS = Plateau(every=4, patience=2, tolerance=0.01, contexts=32, cuts=0)


def test_a_gain_is_a_gain_over_the_best_before():
    watch = Watch.begin(4)
    which = torch.arange(4)
    course = [
        [1.0, 1.0, 1.0, math.nan],
        [1.005, 1.2, 0.5, math.nan],  # too little; a gain; a loss
        [1.012, 1.2, 0.9, 0.1],  # enough in two looks; none; a gain over the last, not over the best
    ]
    frozen = []
    for scores in course:
        watch = watch.look(which, torch.tensor(scores), LOOKS)
        frozen.append(watch.frozen.tolist())
    assert frozen == [[False] * 4, [False, False, False, True], [False, False, True, True]]
    again = watch.forget(torch.tensor([False, False, True, False]))
    assert again.frozen.tolist() == [False, False, False, True]
    assert again.look(which[2:3], torch.tensor([0.2]), LOOKS).best[2] == pytest.approx(0.2)


def test_a_direction_at_its_maximum_is_frozen_and_one_that_still_climbs_is_not():
    best = search(Network(), SearchOptions(directions=1, steps=150, contexts=64, seed=6)).directions[0]
    # One that has half a circle to go, so slowly that it climbs throughout.
    options = SearchOptions(
        directions=2, steps=40, contexts=64, seed=7, repulsion=0.0, learning_rate=0.02, plateau=LOOKS
    )
    readout = Network()
    state = start_search(readout, options)
    state.directions[0] = best
    across = tangent(best[None], state.directions[1:])[0]
    state.directions[1] = across / across.norm()
    courses = []
    search(
        readout,
        options,
        state=state,
        after_step=lambda s: courses.append((s.step, s.frozen.tolist(), s.directions.clone())),
        held_out=Network(),
    )
    frozen = {step: which for step, which, _ in courses}
    assert frozen[12] == [True, False]
    assert frozen[20] == [True, False]
    at, later = courses[11][2], courses[19][2]
    assert at[0].equal(later[0])
    assert not at[1].equal(later[1])
    assert readout.asked[:12] == [2] * 12
    assert readout.asked[12:20] == [1] * 8  # it costs nothing more


def test_what_is_looked_at_is_the_held_out_score_and_not_the_one_that_is_climbed():
    options = SearchOptions(directions=3, steps=60, contexts=64, seed=8, plateau=LOOKS)
    stopped = search(Network(), options, held_out=Flat())  # climbs, and nothing comes of it elsewhere
    assert stopped.frozen.all()
    assert len(stopped.history) == stopped.step == LOOKS.every * (1 + LOOKS.patience)
    assert stopped.history[-1] > 1.1 * stopped.history[0]

    class Rising(Network):
        looks = 0

        def sample(self, count, generator):
            self.looks += 1
            return super().sample(count, generator)

        def _read(self, x):
            return super()._read(x) + 300 * 0.7**self.looks  # the more sensitive, the longer one waits

    rising = Rising()
    assert len(search(Flat(), options, held_out=rising).history) == 60
    assert rising.looks == 15


@pytest.mark.parametrize("repulsion", [0.0, 5.0])
def test_a_plateau_first_makes_steps_shorter_and_repulsion_weaker(repulsion):
    """Two searches that are the same up to the first cut, which is none in one of them."""
    courses = {}
    for cut in (0.25, 1.0):
        looks = dataclasses.replace(LOOKS, cuts=1, cut=cut)
        options = SearchOptions(directions=3, steps=60, contexts=16, seed=12, repulsion=repulsion, plateau=looks)
        course = courses[cut] = []
        state = search(
            Network() if repulsion == 0 else Flat(),  # where nothing but repulsion moves anything
            options,
            held_out=Flat(),
            after_step=lambda s, course=course: course.append((s.directions.clone(), s.second_moment.clone())),
        )
        assert len(state.history) == 4 * (1 + 2 + 2)
    short, usual = courses[0.25], courses[1.0]
    assert short[11][0].equal(usual[11][0])
    angles = [torch.acos((course[11][0].double() * course[12][0].double()).sum(1)) for course in (short, usual)]
    if repulsion == 0:
        torch.testing.assert_close(angles[0], 0.25 * angles[1], rtol=1e-2, atol=1e-5)
    else:  # the second moment takes in the gradient's square
        pushes = [((course[12][1] - 0.99 * course[11][1]).sum() / 0.01).sqrt() for course in (short, usual)]
        assert float(pushes[0] / pushes[1]) == pytest.approx(0.25, rel=0.05)


def test_each_direction_of_a_sequential_search_is_left_when_it_gains_no_more():
    options = SearchOptions(
        directions=3, steps=40, contexts=16, seed=9, method="sequential", plateau=LOOKS, learning_rate=0.01
    )
    steps = []
    state = search(Network(), options, held_out=Flat(), after_step=lambda s: steps.append(s.step))
    assert steps == [*range(1, 12), 40, *range(41, 52), 80, *range(81, 92), 120]
    assert state.age.tolist() == [12, 12, 12]
    assert len(state.history) == 36


# --- The dead -------------------------------------------------------------------------------------------------------


def test_dead_is_who_is_not_finite_or_far_behind():
    options = SearchOptions(directions=11, steps=8, contexts=4)
    state = start_search(Network(), options)
    state.running_score[:] = torch.tensor([1.0, 1.2, 0.8, 1.0, 1.1, 0.9, 0.011, 0.007, math.nan, 0.0, 0.0])
    state.age[:] = torch.tensor([5] * 10 + [0])
    state.second_moment[1] = math.inf
    assert dead_directions(state, options).nonzero()[:, 0].tolist() == [1, 7, 8, 9]


@pytest.mark.parametrize("revive", [True, False])
def test_a_direction_that_cannot_move_any_more_starts_afresh_if_that_is_asked_for(revive):
    options = SearchOptions(directions=4, steps=40, contexts=32, seed=10, revive=revive)
    state = start_search(Network(), options)
    state.second_moment[2] = math.inf  # what a gradient past all bounds leaves behind: steps of length zero
    stuck = state.directions[2].clone()
    courses = {}
    search(
        Network(), options, state=state, after_step=lambda s: courses.update({s.step: (s.directions.clone(), s.age)})
    )
    torch.testing.assert_close(courses[5][0][2], stuck, atol=1e-6, rtol=0)
    ends = courses[40][0]
    assert (float(ends[2] @ stuck) > 0.999) != revive
    if revive:
        assert courses[40][1].tolist() == [40, 40, 34, 40]
        # Adam's first step is as long as the learning rate, whatever the gradient; that of a direction that kept
        # the moments or the age of another is not.
        rate = options.learning_rate * 0.5 * (1 + math.cos(math.pi * 6 / 40))
        angle = math.acos(float(courses[6][0][2] @ courses[7][0][2]))
        assert angle == pytest.approx(rate, rel=1e-2)


def test_a_direction_that_is_no_longer_finite_starts_afresh_at_once(monkeypatch):
    calls = []

    def step(directions, steps):
        moved = step_on_sphere(directions, steps)
        calls.append(0)
        if len(calls) == 3:
            moved[1] = math.nan
        return moved

    monkeypatch.setattr(discovery, "step_on_sphere", step)
    ages = []
    found = search(Network(), OPTIONS, after_step=lambda s: ages.append(s.age.tolist()))
    assert torch.isfinite(found.directions).all()
    assert ages[1:4] == [[2] * 4, [3, 0, 3, 3], [4, 1, 4, 4]]


# --- Few digits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gain", "agrees"), [(1.0, True), (3.0, False)])
def test_what_was_found_in_few_digits_is_scored_in_float32(tmp_path, gain, agrees):
    opened_as, heard = [], []

    def opener(subject, options, progress=None):
        opened_as.append(subject.dtype)
        readout = Network(gain=gain if subject.dtype == "bfloat16" else 1.0)
        return opened(readout, readout, subject.dtype)(subject, options)

    outcome = unattended.discover(request(tmp_path, dtype="bfloat16"), opener=opener, warn=heard.append)
    assert opened_as == ["bfloat16", "float32"]
    document = record(tmp_path)
    assert document["precision"]["agrees"] is agrees
    assert len(heard) == (not agrees)
    full = float(outcome.evaluation.plus.mean.mean())
    assert document["precision"]["float32"] == pytest.approx(full)
    assert float(load_directions(tmp_path).score_plus.mean()) == pytest.approx(full)
    assert json.loads((tmp_path / "cfg.json").read_text())["dtype"] == "bfloat16"


def test_scores_that_cannot_be_checked_in_float32_are_told_as_such(tmp_path):
    def opener(subject, options, progress=None):
        if subject.dtype == "float32":
            raise InputError(expected="weights", got="none", remedy="none")
        return opened(dtype=subject.dtype)(subject, options)

    heard = []
    unattended.discover(request(tmp_path, dtype="bfloat16"), opener=opener, warn=heard.append)
    assert record(tmp_path)["precision"]["agrees"] is None
    assert len(heard) == 1
    assert "not checked in float32" in heard[0]


def test_a_state_that_was_copied_is_not_changed_by_the_steps_after():
    """What makes it cheap to take a step back."""
    states = []
    search(
        Network(),
        VICTIMS["all"],
        after_step=lambda s: states.append((copy.copy(s), s.directions.clone(), s.momentum.clone(), s.age.clone())),
    )
    for state, directions, momentum, age in states:
        assert state.directions.equal(directions)
        assert state.momentum.equal(momentum)
        assert state.age.equal(age)


if __name__ == "__main__":
    _victims(Path(sys.argv[1]))
