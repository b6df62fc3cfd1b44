"""Searches whose contexts are worked on in parts: in one process, in threads that play ranks, and in real processes.

Run as a program, this file is one rank, which searches as the command line does, or it forks pairs of ranks and kills
them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from sensverify import chunking, parts, sensitivity, unattended, waiting
from sensverify.checkpoints import load_checkpoint, save_checkpoint
from sensverify.chunking import Chunking, planned
from sensverify.claims import Subject
from sensverify.directions import load_directions
from sensverify.discovery import search, start_search
from sensverify.distributed import TIMEOUT_VARIABLE, Group, device_of_rank, joined
from sensverify.errors import InputError, Interrupted
from sensverify.geometry import Centring, random_directions
from sensverify.memory import LEAST, Budget
from sensverify.plateau import Plateau
from sensverify.readout import Batch
from sensverify.search_state import SearchOptions
from sensverify.sensitivity import Probe, Weighting
from sensverify.sites import Site, SiteOptions, open_site

ROOT = Path(__file__).parent.parent
WIDTH, WINDOWS, LENGTH = 12, 40, 9
NO_MEMORY = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 B"


class Text:
    """Activations of "windows" and what is added to them further on, read through a small network with a ReLU.

    ``room`` is for how many pairs (direction, context) there is memory; contexts differ in size a hundredfold.
    """

    width, device, centring, privileged = WIDTH, torch.device("cpu"), Centring.MEAN, True

    def __init__(self, room=10**9, dtype=torch.float32):
        generator = torch.Generator().manual_seed(7)
        sizes = 10 ** (2 * torch.rand(WINDOWS, 1, 1, generator=generator) - 1)
        self.x = (torch.randn(WINDOWS, LENGTH, WIDTH, generator=generator) + 0.3) * sizes
        self.context = torch.randn(WINDOWS, LENGTH, 20, generator=generator) * sizes
        self.first = torch.randn(WIDTH, 20, generator=generator) / WIDTH**0.5
        self.second = torch.randn(20, 9, generator=generator) / 20**0.5
        for name in ("x", "context", "first", "second"):
            setattr(self, name, getattr(self, name).to(dtype))
        self.room, self.asked, self.drawn = room, [], 0

    def sample(self, count, generator):
        return self.at(*self.draw(count, generator))

    def draw(self, count, generator):
        self.drawn += 1
        rows = torch.randint(WINDOWS, (count,), generator=generator)
        return rows, torch.randint(LENGTH, (count,), generator=generator)

    def at(self, rows, positions):
        return Batch(self.x[rows, positions], self.context[rows, positions])

    def clean(self, batch):
        return self._read(batch, batch.x)

    def read(self, batch, x):
        self.asked.append(tuple(x.shape[:2]))
        if x.shape[0] * x.shape[1] > self.room:
            raise RuntimeError(NO_MEMORY)
        return self._read(batch, x)

    def _read(self, batch, x):
        return torch.relu(torch.tanh(x @ self.first + batch.state) @ self.second + 0.1 * x[..., :9])

    def describe(self):
        return {}


class Undivided(Text):
    """The same contexts, which cannot be had in parts."""

    draw = at = None

    def sample(self, count, generator):
        rows, positions = Text.draw(self, count, generator)
        return Text.at(self, rows, positions)


class Costly(Text):
    """A pair takes so many numbers that the smallest budget is for ten of them."""

    context_size = 8

    def entries_per_pair(self, left, *, gradient):
        assert left == LENGTH
        return Budget(total=LEAST).entries(4) // 10


OPTIONS = SearchOptions(directions=5, steps=30, contexts=14, seed=3, repulsion=0.1)
SOFT = Probe(weighting=Weighting(kind="soft", scale=0.3))
SCORES = {
    "plain": OPTIONS,
    "inactive": dataclasses.replace(OPTIONS, probe=SOFT),
    "hard": dataclasses.replace(OPTIONS, probe=Probe(weighting=Weighting(kind="hard", scale=0.25), reference="absent")),
    "selective": dataclasses.replace(OPTIONS, score="selective"),
    "selective, inactive": dataclasses.replace(OPTIONS, score="selective", probe=SOFT),
    "selective, by contexts": dataclasses.replace(OPTIONS, score="selective", averaging="contexts"),
    "peak": dataclasses.replace(OPTIONS, score="peak"),
    "peak, inactive": dataclasses.replace(OPTIONS, score="peak", probe=SOFT),
}
KINDS = {
    "plain": OPTIONS,
    "sequential": dataclasses.replace(OPTIONS, directions=2, steps=15, method="sequential"),
    "plateau": dataclasses.replace(
        OPTIONS, revive=True, plateau=Plateau(every=4, patience=2, tolerance=0.02, contexts=21)
    ),
    "selective": SCORES["selective, inactive"],
    "peak": SCORES["peak"],
}


def close(found, expected, tolerance=1e-5):
    """Relatively."""
    assert torch.isfinite(found).all()
    error = torch.linalg.vector_norm((found - expected).double()) / torch.linalg.vector_norm(expected.double())
    assert float(error) < tolerance


def agree(found, expected):
    close(found.directions, expected.directions)
    close(torch.tensor(found.history), torch.tensor(expected.history))
    close(found.running_score, expected.running_score)
    assert found.frozen.equal(expected.frozen)


# --- Parts ----------------------------------------------------------------------------------------------------------


def climbed(options, at_once):
    """Scores and gradients of some directions, on the same contexts, with digits that leave no room for doubt."""
    readout, generator = Text(dtype=torch.float64), torch.Generator().manual_seed(1)
    directions = random_directions(6, WIDTH, readout.centring, generator, torch.float64)
    given = parts.draw(readout, options, 29, generator, at_once)
    scores, gradients = parts.climb(readout, options, given, directions, at_once)
    close(parts.look(readout, options, given, directions, at_once), scores, 1e-11)
    return given, scores, gradients


@pytest.mark.parametrize("name", SCORES)
def test_scores_and_gradients_in_parts_are_those_of_the_whole(name):
    options = SCORES[name]
    whole, scores, gradients = climbed(options, Chunking())
    assert isinstance(whole, parts.Whole)
    for contexts, limit in ((28, None), (10, 4), (1, 1)):
        given, *found = climbed(options, Chunking(contexts=contexts, limit=limit))
        assert isinstance(given, parts.Parted)
        close(found[0], scores, 1e-11)
        close(found[1], gradients, 1e-11)


@pytest.mark.parametrize("processes", [1, 3])
def test_contexts_of_like_length_are_worked_on_together_and_no_process_has_all_that_are_long(processes):
    positions = torch.randint(100, (300,), generator=torch.Generator().manual_seed(0))
    order = parts._like_beside_like(positions, processes)
    assert torch.equal(order.sort().values, torch.arange(300))
    shares = positions[order].view(processes, -1)
    assert bool((shares.diff(dim=1) >= 0).all())
    assert float(shares.double().mean(1).std(unbiased=False)) < 1
    padded = sum(len(part) * int(part.max()) for part in shares.flatten().split(20))
    assert padded < 1.2 * int(positions.sum())  # in the order of chance: twice the sum


@pytest.mark.parametrize(("name", "forgotten"), [("selective", "largest"), ("peak", "units"), ("inactive", "of_w")])
def test_parts_that_do_not_know_their_unit_or_their_weights_gradient_are_found_out(name, forgotten, monkeypatch):
    _, scores, gradients = climbed(SCORES[name], Chunking())
    if forgotten == "largest":
        table = parts._table
        monkeypatch.setattr(parts, "_table", lambda *given: (*table(*given)[:2], None))
    elif forgotten == "units":
        monkeypatch.setattr(parts._Sums, "_mean_unit", 1.0)
    else:
        monkeypatch.setattr(parts, "_is_weighted", lambda options: False)
    _, *found = climbed(SCORES[name], Chunking(contexts=4))
    with pytest.raises(AssertionError):
        close(torch.cat([found[0], found[1].flatten()]), torch.cat([scores, gradients.flatten()]))


def test_a_direction_without_any_weight_scores_nothing_and_stays():
    options = dataclasses.replace(OPTIONS, probe=Probe(weighting=Weighting(kind="hard", scale=1e-9)))
    for at_once in (Chunking(), Chunking(contexts=4)):
        readout, generator = Text(), torch.Generator().manual_seed(1)
        directions = random_directions(3, WIDTH, readout.centring, generator)
        given = parts.draw(readout, options, 9, generator, at_once)
        scores, gradients = parts.climb(readout, options, given, directions, at_once)
        assert not scores.any()
        assert not torch.nan_to_num(gradients).any()  # as the ascent takes them


@pytest.mark.parametrize("name", KINDS)
def test_one_part_has_the_bits_of_a_read_out_without_parts(name):
    found, expected = (search(kind(), KINDS[name], held_out=kind()) for kind in (Text, Undivided))
    assert found.directions.equal(expected.directions)
    assert found.history == expected.history
    assert found.generator.get_state().equal(expected.generator.get_state())


@pytest.mark.parametrize("name", KINDS)
def test_a_search_in_parts_is_the_search(name):
    whole = search(Text(), KINDS[name], held_out=Text())
    state = start_search(Text(), KINDS[name])
    state.chunking.contexts = 4
    agree(search(Text(), KINDS[name], held_out=Text(), state=state), whole)


def test_a_subclass_with_contexts_of_its_own_is_not_asked_for_parts_of_others():
    class Other(Text):
        def sample(self, count, generator):
            return Batch(torch.ones(count, WIDTH), torch.ones(count, 20))

    assert parts.is_parted(Text())
    assert not parts.is_parted(Other())
    replaced = Text()
    replaced.sample = Other().sample
    assert not parts.is_parted(replaced)


# --- Memory ---------------------------------------------------------------------------------------------------------


def test_no_more_pairs_are_asked_for_at_once_than_a_budget_allows_and_results_agree():
    found = {}
    for factor in (1, 100):
        readout, held_out = Costly(), Costly()
        options = KINDS["plateau"]
        state = start_search(readout, options, Budget(total=factor * LEAST))
        found[factor] = search(readout, options, state=state, held_out=held_out)
        asked = [directions * contexts for directions, contexts in readout.asked + held_out.asked]
        assert max(asked) <= 10 * factor
        assert max(asked) >= min(5 * factor, options.directions * options.contexts)  # and it is made use of
    agree(found[1], found[100])
    assert found[1].chunking.used_contexts < found[100].chunking.used_contexts


@pytest.mark.parametrize(("limit", "threads"), [(1, 4), (5, 4), (5, 16), (7, 2)])
def test_threads_together_work_on_no_more_than_is_allowed_at_once(limit, threads, monkeypatch):
    at_once, lock, most = [0], threading.Lock(), []

    class Shared(Text):
        thread_safe = True

        def read(self, batch, x):
            with lock:
                at_once[0] += len(x)
                most.append(at_once[0])
            time.sleep(0.002)
            answer = Text.read(self, batch, x)
            with lock:
                at_once[0] -= len(x)
            return answer

    monkeypatch.setattr(sensitivity, "LEAST_LOT", 1)
    usual = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        options = dataclasses.replace(OPTIONS, directions=20)
        given = parts.draw(Shared(), options, 14, torch.Generator().manual_seed(1), Chunking())
        directions = random_directions(20, WIDTH, Shared().centring, torch.Generator().manual_seed(2))
        with torch.no_grad():
            parts.look(Shared(), options, given, directions, Chunking(limit=limit))
    finally:
        torch.set_num_threads(usual)
    assert max(most) <= limit


def test_what_contexts_take_counts_as_well():
    class Large(Costly):
        context_size = LEAST // 8 // 3

    assert planned(Large(), Budget(total=LEAST)).contexts == 2
    assert planned(Text(), Budget(total=LEAST)) == Chunking()
    assert planned(Costly(), None) == Chunking()


def test_how_much_is_worked_on_at_once_is_kept_in_checkpoints_and_settled_once(tmp_path):
    options = KINDS["plateau"]
    state = start_search(Costly(), options, Budget(total=LEAST))
    whole = search(
        Costly(),
        options,
        state=state,
        held_out=Costly(),
        after_step=lambda s: s.step == 11 and save_checkpoint(tmp_path, s, {}),
    )
    resumed = load_checkpoint(tmp_path, {}, torch.device("cpu"))
    assert (resumed.chunking.pairs, resumed.chunking.contexts) == (state.chunking.pairs, state.chunking.contexts)
    found = search(Costly(), options, state=resumed, held_out=Costly())
    assert found.directions.equal(whole.directions)
    assert not found.directions.equal(search(Costly(), options, held_out=Costly()).directions)  # rounding tells


def test_memory_for_less_than_all_contexts_is_enough(monkeypatch):
    monkeypatch.setattr(chunking, "release", lambda: None)
    readout = Text(room=3)
    found = search(readout, OPTIONS)
    agree(found, search(Text(), OPTIONS))
    assert (found.chunking.limit, found.chunking.contexts) == (1, 3)
    with pytest.raises(InputError, match="one direction at a time"):
        search(Text(room=0), OPTIONS)


# --- Ranks that are threads -----------------------------------------------------------------------------------------


class Threads(Group):
    """Ranks in one process; ``spoil`` may change what one of them sends."""

    def __init__(self, rank, size, shard, common):
        super().__init__(rank, size, shard)
        self.common = common

    def _summed(self, flat):
        common = self.common
        common["sent"][self.rank] = common["spoil"](self.rank, flat.clone())
        common["barrier"].wait(20)
        total = common["sent"][0]
        for other in common["sent"][1:]:
            total = total + other
        common["barrier"].wait(20)
        return total


def ranks(options, size=2, shard="contexts", readouts=None, spoil=lambda rank, flat: flat, prepare=None):
    """The states that ``size`` ranks end with, or the error of the first one that has one."""
    common = {"sent": [None] * size, "barrier": threading.Barrier(size), "spoil": spoil}
    results = [None] * size

    def work(rank):
        group = Threads(rank, size, shard, common)
        readout = readouts[rank] if readouts else Text()
        state = start_search(readout, options)
        after_step = prepare(rank, group, state) if prepare else None
        try:
            results[rank] = search(readout, options, state=state, held_out=Text(), group=group, after_step=after_step)
        except BaseException as error:
            results[rank] = error
            time.sleep(0.3)  # others may be about to have the same
            common["barrier"].abort()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    return results


@pytest.mark.parametrize(
    ("name", "size", "shard"),
    [
        *((name, 2, "contexts") for name in KINDS),
        ("plateau", 3, "contexts"),
        ("sequential", 2, "directions"),  # of which there is one at a time
        ("plateau", 3, "directions"),
        ("plain", 7, "directions"),  # more ranks than directions
    ],
)
def test_ranks_take_the_steps_of_one_and_have_the_same_bits(name, size, shard):
    one = search(Text(), KINDS[name], held_out=Text())
    states = ranks(KINDS[name], size, shard)
    for state in states:
        agree(state, one)
        assert state.directions.equal(states[0].directions)
        assert state.momentum.equal(states[0].momentum)
        assert state.second_moment.equal(states[0].second_moment)
        assert state.history == states[0].history
        assert state.generator.get_state().equal(states[0].generator.get_state())


def test_each_rank_reads_its_share_alone():
    for shard, most in (("contexts", (5, 5)), ("directions", (3, 14))):
        readouts = [Text() for _ in range(3 if shard == "contexts" else 2)]
        ranks(OPTIONS, len(readouts), shard, readouts)
        for readout in readouts:
            assert max(directions for directions, _ in readout.asked) <= most[0]
            assert max(contexts for _, contexts in readout.asked) <= most[1]


@pytest.mark.parametrize("which", ["N", "W", "gradient of N", "gradient of W"])
def test_a_reduction_that_forgets_what_one_rank_has_is_found_out(which):
    options = KINDS["selective"]
    count, entries = options.directions, options.directions * WIDTH
    starts = {"N": (0, count), "W": (count, count), "gradient of N": (2 * count + 2, entries)}
    start, length = starts.get(which, (2 * count + 2 + entries, entries))

    def spoil(rank, flat):
        if rank == 1:
            flat[start : start + length] = 0
        return flat

    with pytest.raises(AssertionError):
        agree(ranks(options, spoil=spoil)[0], search(Text(), options, held_out=Text()))


def test_a_rank_that_draws_its_own_contexts_is_noticed():
    def prepare(rank, group, state):
        if rank == 1:
            state.generator.manual_seed(99)

    for shard in ("contexts", "directions"):
        for error in ranks(OPTIONS, 3, shard, prepare=prepare):
            assert isinstance(error, InputError)
            assert "the same directions, contexts and presences" in str(error)
            assert "rank 1" in str(error)


def test_a_rank_whose_directions_are_off_by_one_bit_is_noticed():
    def prepare(rank, group, state):
        if rank == 2:
            state.directions[3, 7] = torch.nextafter(state.directions[3, 7], torch.tensor(2.0))

    assert all("rank 2" in str(error) for error in ranks(OPTIONS, 3, prepare=prepare))


@pytest.mark.parametrize("shard", ["contexts", "directions"])
def test_all_ranks_go_on_with_less_at_once_when_one_runs_out_of_memory(shard, monkeypatch):
    monkeypatch.setattr(chunking, "release", lambda: None)  # which takes long where there is much to look through
    options = dataclasses.replace(OPTIONS, steps=12)
    states = ranks(options, 2, shard, readouts=[Text(), Text(room=14)])
    agree(states[0], search(Text(), options))
    assert states[0].directions.equal(states[1].directions)
    assert states[0].chunking.limit == states[1].chunking.limit
    assert states[0].chunking.limit in (1, 2)
    if shard == "directions":
        return
    short = ranks(options, 2, readouts=[Text(), Text(room=2)])
    agree(short[0], search(Text(), options))
    assert [(s.chunking.limit, s.chunking.contexts) for s in short] == [(1, 1)] * 2
    none = ranks(options, 2, readouts=[Text(), Text(room=0)])
    assert all(isinstance(error, InputError) and "rank 1 is out of memory" in str(error) for error in none)


def test_want_of_memory_that_the_others_cannot_hear_of_ends_the_run():
    class Late(Text):
        """Has no memory for activations in place of a duplicate, which every rank draws for itself."""

        begun = False

        def draw(self, count, generator):
            return super().draw(count, generator)

        def at(self, rows, positions):
            if self.begun and len(rows) >= 256:
                raise RuntimeError(NO_MEMORY)
            return super().at(rows, positions)

        def sample(self, count, generator):
            return self.at(*self.draw(count, generator))

    readouts = [Text(), Late()]

    def prepare(rank, group, state):
        state.directions[1] = state.directions[0] + 0.01 * state.directions[1]  # not the same: one has to be better
        readouts[rank].begun = True

    options = dataclasses.replace(OPTIONS, start="activations", steps=16, repulsion=0.0)
    results = ranks(options, readouts=readouts, prepare=prepare)
    assert isinstance(results[1], InputError)
    assert "what every process does by itself" in str(results[1])
    assert isinstance(results[0], threading.BrokenBarrierError)  # to a group of processes, a lost rank


def test_a_stop_that_one_rank_is_asked_for_ends_all_after_the_same_step():
    steps = {}

    def prepare(rank, group, state):
        asked = threading.Event()
        group.listen(asked)

        def after_step(state):
            steps[rank] = state.step
            if rank == 1 and state.step == 6:
                asked.set()
            if group.agreed.is_set():
                raise Interrupted("stopped")

        return after_step

    assert all(isinstance(error, Interrupted) for error in ranks(OPTIONS, 3, prepare=prepare))
    assert steps == {0: 7, 1: 7, 2: 7}


def test_what_cannot_be_shared_is_refused_in_one_line():
    for error in ranks(OPTIONS, readouts=[Undivided(), Undivided()]):
        assert isinstance(error, InputError)
        assert "Undivided, which has them all at once" in str(error)
    agree(ranks(OPTIONS, shard="directions", readouts=[Undivided(), Undivided()])[1], search(Undivided(), OPTIONS))
    few = ranks(dataclasses.replace(OPTIONS, contexts=2), 3)
    assert all("at least one context for each of 3 processes" in str(error) for error in few)


# --- Ranks that are processes ---------------------------------------------------------------------------------------


class Victim(Text):
    """A read-out that is slow, and kills, stops or disturbs its process at a draw."""

    def __init__(self, plan):
        super().__init__()
        self.plan = plan

    def draw(self, count, generator):
        if self.plan.get("rank") == int(os.environ.get("RANK", "0")) and self.drawn == self.plan["draw"]:
            os.kill(os.getpid(), getattr(signal, self.plan["signal"]))
        return super().draw(count, generator)

    def at(self, rows, positions):
        return super().at(rows, positions)

    def sample(self, count, generator):
        return self.at(*self.draw(count, generator))


def _toy(plan):
    def opener(subject, options, progress=None):
        description = {"model": "toy", "dtype": "float32", "weights_sha256": "ab" * 32}
        return Site(
            search=Undivided() if plan.get("undivided") else Victim(plan),
            held_out=Text(),
            independent_contexts=32,
            weights_sha256="ab" * 32,
            description=description,
        )

    return opener


def asked_for(out, plan):
    return unattended.Request(
        subject=Subject(),
        site=SiteOptions(layer=1, target=2, offset=1, context=16, limit=64),
        search=KINDS["plateau"],
        out=out,
        resume=plan.get("resume", False),
        interval=plan.get("interval", 0.0),
        shard=plan.get("shard", "contexts"),
    )


def _program(out, plan):
    """One rank, as the command line would run it."""
    torch.set_num_threads(1)
    waiting.SHARE = 1e9
    opener = open_site if plan.get("embedded") else _toy(plan)
    try:
        outcome = unattended.discover(asked_for(Path(out), plan), opener=opener)
    except Interrupted as error:
        sys.stderr.write(f"interrupted: {error}\n")
        return 3
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write("nothing\n" if outcome is None else f"{outcome.path}\n")
    return 0


def environment(**more):
    variables = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", **more}
    variables["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # as the command line has it
    return {**os.environ, **variables}


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def run_ranks(out, timeout="20", **plan):
    """What two ranks, forked here, end with: exit codes, what they said, and the record there is then."""
    port, crew, ends = free_port(), {}, {}
    for rank in (0, 1):
        crew[rank] = pid = os.fork()
        if not pid:
            code = 1
            try:
                for number, name in ((1, f"{out} out {rank}"), (2, f"{out} err {rank}")):
                    os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
                own = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
                os.environ |= {**own, TIMEOUT_VARIABLE: timeout}
                code = _program(out, plan)
            finally:
                sys.stdout.flush()
                os._exit(code)
    deadline = time.monotonic() + 40
    while crew and time.monotonic() < deadline:
        for rank, pid in list(crew.items()):
            gone, status = os.waitpid(pid, os.WNOHANG)
            if gone:
                ends[rank] = os.waitstatus_to_exitcode(status)
                del crew[rank]
            elif plan.get("signal") == "SIGSTOP" and set(crew) == {plan["rank"]}:
                deadline = 0  # it will not end by itself
        time.sleep(0.02)
    for pid in crew.values():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    said = {kind: [Path(f"{out} {kind} {rank}").read_text() for rank in (0, 1)] for kind in ("out", "err")}
    return {"ends": [ends.get(rank) for rank in (0, 1)], **said, "record": record(Path(out))}


LIVES = {
    "whole": [{}],
    "chain": [
        {"rank": 1, "draw": 12, "signal": "SIGKILL", "interval": 1e9},
        {"resume": True, "rank": 0, "draw": 8, "signal": "SIGKILL"},
        {"resume": True, "rank": 1, "draw": 4, "signal": "SIGTERM"},
        {"resume": True},
    ],
    "hangs": [{"timeout": "2", "rank": 1, "draw": 9, "signal": "SIGSTOP"}],
}
"""Runs one after another in one folder each. Draw number ``n`` is that of step ``n + 1``."""


def files(out):
    return (out / "directions.safetensors").read_bytes()


def record(out):
    return json.loads((out / "run.json").read_text())


@pytest.fixture(scope="module")
def lives(tmp_path_factory):
    """The folder of them, and what they were like."""
    folder = tmp_path_factory.mktemp("lives")
    done = subprocess.run(
        [sys.executable, __file__, str(folder)], capture_output=True, text=True, env=environment(), timeout=100
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_two_processes_find_what_one_does_and_the_first_alone_speaks_and_writes(lives):
    folder, (life,) = lives[0], lives[1]["whole"]
    assert life["ends"] == [0, 0], life
    one = search(Text(), KINDS["plateau"], held_out=Text())
    close(load_directions(folder / "whole").directions, one.directions)
    assert life["record"]["mean_score"] == pytest.approx(float(one.running_score.mean()), rel=1e-5)
    assert (life["record"]["processes"], life["record"]["status"]) == (2, "finished")
    assert life["out"] == [f"{folder / 'whole' / 'directions.safetensors'}\n", "nothing\n"]
    assert life["err"] == ["", ""]


def test_whichever_rank_is_killed_or_asked_to_stop_the_search_resumes_bit_for_bit(lives):
    folder, (killed, first, asked, end) = lives[0], lives[1]["chain"]
    expected = (
        "interrupted: expected every rank to answer within 20 s, got no answer from rank {}, which ended or hangs"
    )
    assert killed["ends"] == [3, -signal.SIGKILL], killed
    # The one that is left has every step that was taken, on disk though no checkpoint was due.
    kept = f"{folder / 'chain' / 'search.checkpoint'}, step 12"
    remedy = f"; remedy: repeat with --resume (the last good checkpoint is {kept}), with any number of processes\n"
    assert killed["err"][0] == expected.format(1) + remedy
    assert killed["record"]["status"] == "interrupted"
    # Where the first is lost, what it wrote last counts.
    assert first["ends"] == [-signal.SIGKILL, 3], first
    assert first["err"][1] == expected.format(0) + "; remedy: go on with --resume\n"
    assert asked["ends"] == [3, 3], asked
    assert asked["err"] == [
        "interrupted: stopped after step 25; go on with --resume\n",
        "interrupted: rank 1 stopped after step 25; rank 0 keeps the checkpoint\n",
    ]
    assert end["ends"] == [0, 0], end
    assert end["record"]["resumed"] == 3
    assert files(folder / "chain") == files(folder / "whole")


def test_a_rank_that_hangs_is_given_up_and_one_process_goes_on_where_two_were(lives):
    folder, (life,) = lives[0], lives[1]["hangs"]
    assert life["ends"] == [3, None], life
    assert "within 2 s, got no answer from rank 1" in life["err"][0]
    outcome = unattended.discover(asked_for(folder / "hangs", {"resume": True}), opener=_toy({}))
    close(outcome.evaluation.directions, load_directions(folder / "whole").directions)
    assert (record(folder / "hangs")["resumed"], record(folder / "hangs")["processes"]) == (1, 1)


def test_a_launcher_begins_processes_that_search_a_language_model_as_one_does(tmp_path):
    one = unattended.discover(asked_for(tmp_path / "one", {}), opener=open_site).evaluation
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port()]
    program = [__file__, str(tmp_path / "two"), json.dumps({"embedded": True})]
    done = subprocess.run([*launcher, *program], capture_output=True, text=True, env=environment(), timeout=50)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted(["nothing", str(tmp_path / "two" / "directions.safetensors")])
    two = load_directions(tmp_path / "two")
    close(two.directions, one.directions)
    close(two.score_plus, one.plus.mean)
    close(two.score_minus, one.minus.mean)
    assert record(tmp_path / "two")["processes"] == 2
    assert record(tmp_path / "two")["mean_score"] == pytest.approx(record(tmp_path / "one")["mean_score"], rel=1e-5)


def test_what_processes_cannot_share_and_what_a_launcher_left_out_is_told_in_one_line(tmp_path, monkeypatch):
    for rank in (0, 1):
        with monkeypatch.context() as patch:
            patch.setattr(unattended, "joined", lambda *given, rank=rank: contextlib.nullcontext(Group(rank, 2)))
            with pytest.raises(InputError, match="Undivided, which has them all at once; remedy: start one process"):
                unattended.discover(asked_for(tmp_path / "out", {}), opener=_toy({"undivided": True}))
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv("WORLD_SIZE", "2")
    for missing in ("RANK", "MASTER_ADDR"):
        monkeypatch.delenv(missing, raising=False)
        with (
            pytest.raises(InputError, match=f"expected {missing} in the environment.*got none.*torchrun"),
            joined("cpu"),
        ):
            pass
        monkeypatch.setenv(missing, "0")
    monkeypatch.setenv(TIMEOUT_VARIABLE, "soon")
    with pytest.raises(InputError, match=f"got {TIMEOUT_VARIABLE}=soon"), joined("cpu"):
        pass
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [device_of_rank(name) for name in ("cuda", "cuda:1", "cpu")] == ["cuda:3", "cuda:1", "cpu"]


def test_a_request_says_how_much_memory_its_search_may_use(tmp_path):
    def opener(subject, options, progress):
        return dataclasses.replace(_toy({})(subject, options), search=Costly(), held_out=Costly())

    def request(name, memory):
        site = SiteOptions(layer=0, target=1, offset=1, memory=memory)
        return unattended.Request(subject=Subject(), site=site, search=OPTIONS, out=tmp_path / name)

    little = unattended.discover(request("little", LEAST), opener=opener)
    much = unattended.discover(request("much", 100 * LEAST), opener=opener)
    assert (record(tmp_path / "little")["contexts_at_once"], record(tmp_path / "much")["contexts_at_once"]) == (7, 14)
    close(little.evaluation.directions, much.evaluation.directions)


if __name__ == "__main__":
    if sys.argv[2:]:
        sys.exit(_program(sys.argv[1], json.loads(sys.argv[2])))
    found = {}
    for life, plans in LIVES.items():
        found[life] = [run_ranks(f"{sys.argv[1]}/{life}", **plan) for plan in plans]
    sys.stdout.write(json.dumps(found))
