"""Activations in memory and on disk: the same bits from both, whatever happens to the files in between."""

import contextlib
import dataclasses
import errno
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pythia import disk_store, shards
from pythia.activations import Activations, CleanPass, Layout, MemoryStore, gather_together
from pythia.disk_store import DiskStore, Keeping, default_cache, open_store, recipe_hash
from pythia.readout import LanguageModelReadout
from sensverify.errors import InputError, Interrupted
from sensverify.geometry import Centring, random_directions
from sensverify.memory import LEAST, Budget
from sensverify.sensitivity import effects

WINDOWS, LENGTH, PER_PASS = 11, 9, 3
NO_ROOM = Budget(total=LEAST, share=0.0)
"""Nothing may be kept in memory."""


class Network:
    """Makes activations out of tokens by a rule, and counts how often it is asked."""

    def __init__(self, layout):
        self.layout, self.passes, self._lock = layout, 0, threading.Lock()
        generator = torch.Generator().manual_seed(0)
        self._tables = {
            name: torch.randn(60, *shape[2:], generator=generator).to(layout.dtype)
            for name, shape in layout.shapes(1).items()
        }

    def __call__(self, tokens):
        with self._lock:
            self.passes += 1
        assert not torch.is_grad_enabled()
        place = torch.arange(tokens.shape[1])
        seen = (tokens * 7 + place * 13 + tokens.cumsum(1)) % 60
        return Activations(**{name: table[seen] for name, table in self._tables.items()})


def clean_pass(dtype=torch.float32, blocks=2, seed=0):
    heads = 4 if blocks == 1 else 0
    layout = Layout(length=LENGTH, width=6, blocks=blocks, groups=2, head_width=4, dtype=dtype, heads=heads)
    windows = torch.randint(60, (WINDOWS, LENGTH), generator=torch.Generator().manual_seed(seed))
    return CleanPass(run=Network(layout), windows=windows, layout=layout, windows_per_pass=PER_PASS)


def contexts(offset=1, count=16, seed=1):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(WINDOWS, (count,), generator=generator)
    return rows, torch.randint(LENGTH - offset, (count,), generator=generator), offset


def same_bits(one, other):
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and one.contiguous().numpy(force=True).tobytes() == other.contiguous().numpy(force=True).tobytes()
        if one.dtype != torch.bfloat16
        else same_bits(one.view(torch.int16), other.view(torch.int16))
    )


def agree(one, other):
    parts = ("residuals", "target", "cache") + (() if one.others is None else ("others",))
    same = all(same_bits(getattr(one, name), getattr(other, name)) for name in parts)
    return one.left == other.left and (one.others is None) == (other.others is None) and same


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


# --- What is gathered ------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    offset=st.integers(0, 4),
    blocks=st.integers(1, 3),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    data=st.data(),
)
def test_every_way_of_gathering_gives_what_was_kept_bit_for_bit(tmp_path_factory, offset, blocks, dtype, data):
    positions = data.draw(st.lists(st.integers(0, LENGTH - 1 - offset), min_size=1, max_size=12))
    rows = data.draw(st.lists(st.integers(0, WINDOWS - 1), min_size=len(positions), max_size=len(positions)))
    clean = clean_pass(dtype, blocks)
    asked = torch.tensor(rows), torch.tensor(positions), offset
    found = MemoryStore(clean).gather(*asked)
    assert agree(found, DiskStore(clean, tmp_path_factory.mktemp("cache") / "a").gather(*asked))
    with torch.no_grad():
        whole = clean.run(clean.windows)
    assert same_bits(found.cache, gather_together(whole.cache, *asked))
    # and position by position, as its description has it
    assert found.left == max(positions)
    for i, (row, p) in enumerate(zip(rows, positions, strict=True)):
        assert same_bits(found.residuals[:, i], whole.source[row, p : p + offset + 1])
        assert same_bits(found.target[i], whole.target[row, p + offset])
        assert blocks > 1 or same_bits(found.others[i], whole.others[row, p])
        by_head = whole.cache[row].permute(1, 2, 3, 0, 4)
        expected = torch.zeros_like(found.cache[:, :, i])
        expected[..., :p, :] = by_head[..., :p, :]
        expected[..., found.left : -1, :] = by_head[..., p + 1 : p + offset + 1, :]
        expected[..., -1, :] = by_head[..., p, :]
        assert same_bits(found.cache[:, :, i], expected)
        for block, cache in enumerate(found.left_blocks):
            assert same_bits(cache.keys[i], expected[block, 0, :, : found.left])
            assert same_bits(cache.values[i], expected[block, 1, :, : found.left])


@pytest.mark.parametrize(("row", "position"), [(WINDOWS, 0), (-1, 0), (0, LENGTH - 1), (0, -1)])
def test_what_lies_outside_the_text_is_refused_by_both(tmp_path, row, position):
    for store in (MemoryStore(clean_pass()), DiskStore(clean_pass(), tmp_path / "a")):
        with pytest.raises(IndexError):
            store.gather(torch.tensor([0, row]), torch.tensor([0, position]), 1)


def test_all_activations_are_walked_through_in_order_from_both(tmp_path):
    clean = clean_pass()
    on_disk = DiskStore(clean, tmp_path / "a")
    blocks = list(on_disk.residuals())
    assert [len(block) for block in blocks] == [3, 3, 3, 2]
    assert same_bits(torch.cat(blocks), torch.cat(list(MemoryStore(clean).residuals())))


def test_activations_that_nobody_has_opened_for_a_month_are_removed_and_nothing_else(tmp_path):
    old, new, mine, full = (f"activations-{letter * 24}" for letter in "abcd")
    names = (old, new, mine, full, "activations-thesis", "other-" + "a" * 24)
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "000000.safetensors").write_bytes(b"x")
    (tmp_path / full / "notes.txt").write_text("mine")
    month = time.time() - 31 * 24 * 3600
    for name in names:
        if name != new:
            os.utime(tmp_path / name, (month, month))
    DiskStore(clean_pass(), tmp_path / mine)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == set(names) - {old}
    assert (tmp_path / full / "notes.txt").read_text() == "mine"
    assert (tmp_path / "activations-thesis/000000.safetensors").exists()


# --- What may happen to files ----------------------------------------------------------------------------------------


def test_a_second_opening_runs_no_pass(tmp_path):
    first, second = clean_pass(), clean_pass()
    one = DiskStore(first, tmp_path / "a").gather(*contexts())
    other = DiskStore(second, tmp_path / "a").gather(*contexts())
    assert (first.run.passes, second.run.passes) == (4, 0)
    assert agree(one, other)


def test_any_file_may_be_deleted_between_two_reads(tmp_path):
    clean = clean_pass()
    store = DiskStore(clean, tmp_path / "a")
    expected, done = store.gather(*contexts()), clean.run.passes
    for path in files_of(tmp_path):
        content = path.read_bytes()
        path.unlink()
        assert agree(store.gather(*contexts()), expected), path.name
        assert path.read_bytes() == content
    assert clean.run.passes == done + 4  # one for each file
    for path in files_of(tmp_path):
        path.unlink()
    (tmp_path / "a").rmdir()
    assert agree(store.gather(*contexts()), expected)


def damages(size):
    """Ways to spoil a file of this many bytes: a flipped bit, here and there, and wrong lengths."""

    def flip(place):
        def spoil(content):
            content[place] ^= 1 << (place % 8)

        return spoil

    places = (0, 9, 100, shards.PAGE - 1, shards.PAGE, shards.PAGE + 5, size // 2, size - 1)
    return [*map(flip, places), lambda content: content.pop(), lambda content: content.append(0), bytearray.clear]


@pytest.mark.parametrize("while_open", [False, True])
def test_one_flipped_bit_is_noticed_wherever_it_is(tmp_path, while_open):
    clean = clean_pass()
    store = DiskStore(clean, tmp_path / "a")
    expected = store.gather(*contexts())
    path = files_of(tmp_path)[1]
    whole = path.read_bytes()
    for i, damage in enumerate(damages(len(whole))):
        content = bytearray(whole)
        damage(content)
        path.write_bytes(content)
        os.utime(path, (i, i))  # later than it was written, however coarse the clock
        before = clean.run.passes
        store = store if while_open else DiskStore(clean, tmp_path / "a")
        assert agree(store.gather(*contexts()), expected)
        assert clean.run.passes == before + 1
        assert path.read_bytes() == whole


def test_without_the_checksum_a_flipped_bit_would_be_read(tmp_path, monkeypatch):
    """The test above is worth something only if it fails on a store that trusts its files."""
    clean = clean_pass()
    expected = DiskStore(clean, tmp_path / "a").gather(*contexts())
    for path in files_of(tmp_path):
        content = bytearray(path.read_bytes())
        content[shards.PAGE :: 4] = bytes(b ^ 1 for b in content[shards.PAGE :: 4])
        path.write_bytes(content)
    monkeypatch.setattr(shards.ShardFormat, "verify", lambda self, stream: None)
    assert not agree(DiskStore(clean, tmp_path / "a").gather(*contexts()), expected)


def test_a_right_shard_in_a_wrong_place_is_noticed(tmp_path):
    clean = clean_pass()
    expected = DiskStore(clean, tmp_path / "a").gather(*contexts())
    first, second, *_ = files_of(tmp_path)
    second.write_bytes(first.read_bytes())
    assert agree(DiskStore(clean, tmp_path / "a").gather(*contexts()), expected)
    assert clean.run.passes == 5


def test_a_shard_is_a_safetensors_file_that_others_read(tmp_path):
    clean = clean_pass(torch.bfloat16)
    DiskStore(clean, tmp_path / "a")
    with torch.no_grad():
        expected = clean.run(clean.windows).to_dict()
    for path, start in zip(files_of(tmp_path), range(0, WINDOWS, PER_PASS), strict=True):
        found = safetensors.torch.load_file(path)
        for name, value in expected.items():
            assert torch.equal(found[name], value[start : start + PER_PASS])


class Killed(BaseException):
    """What no code expects."""


def test_a_writer_that_is_stopped_half_way_leaves_nothing_that_is_read(tmp_path, monkeypatch):
    clean, written = clean_pass(), []
    real = shards._write_all

    def stop(stream, data):
        written.append(len(data))
        if len(written) == 7:  # into the second shard
            stream.write(data[: len(data) // 2])
            raise Killed
        real(stream, data)

    monkeypatch.setattr(shards, "_write_all", stop)
    with pytest.raises(Killed):
        DiskStore(clean, tmp_path / "a")
    assert [path.name for path in files_of(tmp_path)] == ["000000.safetensors"]
    monkeypatch.undo()
    again = clean_pass()
    assert agree(DiskStore(again, tmp_path / "a").gather(*contexts()), MemoryStore(clean).gather(*contexts()))
    assert again.run.passes == 3


def test_what_a_killed_process_left_is_swept_up_unless_it_may_be_at_work(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    abandoned, busy = folder / ".000001.safetensors.0123", folder / ".000002.safetensors.4567"
    for path in (abandoned, busy):
        path.write_bytes(b"half")
    os.utime(abandoned, (0, 0))
    DiskStore(clean_pass(), folder)
    assert not abandoned.exists()
    assert busy.exists()


def test_two_that_build_one_cache_at_once_do_no_pass_twice(tmp_path):
    clean, found, barrier = clean_pass(), [], threading.Barrier(2)

    def build():
        barrier.wait()
        found.append(DiskStore(clean, tmp_path / "a").gather(*contexts()))

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert agree(*found)
    assert clean.run.passes == 4
    assert len(files_of(tmp_path)) == 4


def test_whoever_waits_for_another_says_so_and_can_be_stopped(tmp_path):
    heard = []

    def progress(label, done, total):
        heard.append(label)
        if label.startswith("waiting"):
            raise Interrupted("stopped")

    with FileLock(tmp_path / ".a.lock"), pytest.raises(Interrupted):
        DiskStore(clean_pass(), tmp_path / "a", progress)
    assert heard == ["clean pass", "waiting for another process"]


@contextlib.contextmanager
def largest_file(size):
    """A system that lets no file grow beyond ``size`` bytes: writing fails half-way, as on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_is_told_in_one_line_and_no_litter_stays(tmp_path):
    clean, other = clean_pass(), clean_pass(seed=5)
    DiskStore(other, tmp_path / "other")
    kept = files_of(tmp_path)
    store = DiskStore(clean, tmp_path / "a")
    files_of(tmp_path / "a")[1].unlink()
    with largest_file(shards.PAGE + 100), pytest.raises(InputError, match="--cache, or a --memory"):
        store.gather(*contexts())
    assert files_of(tmp_path) == kept
    assert not (tmp_path / "a").exists()


def test_the_second_of_several_shards_without_room_takes_the_first_with_it(tmp_path, monkeypatch):
    clean, real = clean_pass(), shards.ShardFormat.write

    def full(self, path, tensors):
        if path.name.startswith("000001"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, path, tensors)

    monkeypatch.setattr(shards.ShardFormat, "write", full)
    with pytest.raises(InputError, match="No space left"):
        DiskStore(clean, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_known_to_be_too_small_is_refused_before_any_pass(tmp_path, monkeypatch):
    clean = clean_pass()
    monkeypatch.setattr(disk_store.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 20_000})())
    with pytest.raises(InputError, match=r"got 20 kB free; remedy: free space there, pass another --cache"):
        DiskStore(clean, tmp_path / "a")
    assert clean.run.passes == 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder that takes"):
        DiskStore(clean_pass(), tmp_path / "file" / "a")


# --- Which store, and where ------------------------------------------------------------------------------------------


def test_activations_that_fit_the_budget_touch_no_disk(tmp_path):
    clean = clean_pass()
    size = clean.layout.size(WINDOWS)
    assert isinstance(open_store(clean, {}, Keeping(cache=tmp_path)), MemoryStore)
    budget = Budget(total=LEAST, share=2.01 * size / LEAST)
    assert isinstance(open_store(clean, {}, Keeping(budget=budget, cache=tmp_path)), MemoryStore)
    assert list(tmp_path.iterdir()) == []
    assert isinstance(open_store(clean, {}, Keeping(budget=budget.part(0.99), cache=tmp_path)), DiskStore)
    assert len(files_of(tmp_path)) == 4


def test_whatever_decides_the_activations_names_the_folder(monkeypatch):
    clean = clean_pass()
    names = {
        recipe_hash(clean, {"weights": "a"}),
        recipe_hash(clean, {"weights": "b"}),
        recipe_hash(clean_pass(seed=1), {"weights": "a"}),
        recipe_hash(clean_pass(torch.bfloat16), {"weights": "a"}),
        recipe_hash(dataclasses.replace(clean, windows_per_pass=2), {"weights": "a"}),
    }
    with monkeypatch.context() as patched:
        patched.setattr(torch, "get_num_threads", lambda: 99)
        names.add(recipe_hash(clean, {"weights": "a"}))
    with monkeypatch.context() as patched:
        patched.setattr(disk_store, "_version", lambda name: "0")
        names.add(recipe_hash(clean, {"weights": "a"}))
    assert len(names) == 7
    assert recipe_hash(clean_pass(), {"weights": "a"}) in names


def test_the_default_folder_is_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "sensverify"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard has it ignored
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert default_cache() == tmp_path / "home/.cache/sensverify"


@pytest.mark.parametrize("kind", [MemoryStore, lambda clean, progress: DiskStore(clean, Path("unused"), progress)])
def test_progress_is_told_in_windows(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    heard = []
    kind(clean_pass(), lambda *report: heard.append(report))
    assert heard == [("clean pass", done, WINDOWS) for done in (0, 3, 6, 9, 11)]


HUNGRY = """
import json, sys, torch  # what follows is a program of its own, so that its peak is its own
from pathlib import Path
from pythia.activations import Activations, CleanPass, Layout, MemoryStore
from pythia.disk_store import DiskStore
from sensverify.memory import largest_resident
layout = Layout(length=64, width=256, blocks=1, groups=4, head_width=64, dtype=torch.float32)

def run(tokens):
    stream = torch.full((len(tokens), 64, 256), 0.5)
    return Activations(stream, stream.clone(), torch.full((len(tokens), 64, *layout.cached), 0.25))

def growth(windows, folder):
    clean = CleanPass(run=run, windows=torch.zeros(windows, 64, dtype=torch.long), layout=layout, windows_per_pass=4)
    before = largest_resident()
    store = MemoryStore(clean) if folder is None else DiskStore(clean, Path(sys.argv[1]) / folder)
    for seed in range(3):
        rows = torch.randint(windows, (16,), generator=torch.Generator().manual_seed(seed))
        assert float(store.gather(rows, rows % 63, 1).residuals.mean()) == 0.5
    return (largest_resident() - before) / layout.size(windows)

growth(4, "small")  # whatever libraries set up, they have now
print(json.dumps({"disk": growth(600, "large"), "memory": growth(600, None)}))
"""


def test_a_text_on_disk_needs_a_fraction_of_its_size_in_memory(tmp_path):
    """157 MB of activations; the checker is held against the store in memory, which needs them all."""
    pytest.importorskip("resource")
    command = [sys.executable, "-c", HUNGRY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    grown = json.loads(done.stdout)
    assert grown["memory"] > 0.6  # some of it goes where memory had been given back before
    assert grown["disk"] < 0.2


# --- Models ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parity():
    """The oracle of the suffix computation: the whole Hugging Face model, hooked."""
    pytest.importorskip("transformers")
    spec = importlib.util.spec_from_file_location("parity_oracle", Path(__file__).with_name("test_suffix.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def many_passes(monkeypatch):
    monkeypatch.setattr(disk_store, "TOKENS_PER_PASS", 30)  # two windows of 12


def readouts(model, cache, *, layer=0, target=2, offset=1):
    windows = torch.randint(60, (9, 12), generator=torch.Generator().manual_seed(3))
    return [
        LanguageModelReadout(model, windows, layer=layer, target=target, offset=offset, keeping=keeping)
        for keeping in (None, Keeping(budget=NO_ROOM, cache=cache))
    ]


@pytest.mark.parametrize(
    ("kind", "site", "dtype"),
    [
        ("gpt_neox", {"layer": 1, "target": 2, "offset": 1}, None),
        ("gpt_neox", {"layer": 0, "target": 3, "offset": 2}, torch.bfloat16),
        ("gpt2", {"layer": 0, "target": 3, "offset": 0}, None),
        ("llama", {"layer": 1, "target": 3, "offset": 3}, torch.float64),
    ],
)
def test_models_read_the_same_bits_from_memory_and_from_disk(parity, many_passes, tmp_path, kind, site, dtype):
    model = parity.random_model(kind, groups=2, dtype=dtype)
    batches, reads = [], []
    for readout in readouts(model, tmp_path, **site):
        batch = readout.sample(14, torch.Generator().manual_seed(0))
        x = torch.randn(3, 14, 32, generator=torch.Generator().manual_seed(1)).to(batch.x)
        directions = random_directions(3, 32, Centring.MEAN, torch.Generator().manual_seed(2)).to(batch.x)
        batches.append(batch)
        alpha = torch.full((14,), 0.4, dtype=batch.x.dtype)
        reads.append([readout.read(batch, x), effects(readout, batch, readout.clean(batch), directions, alpha)])
    assert len(files_of(tmp_path)) == 5
    one, other = (batch.state for batch in batches)
    assert torch.equal(one.positions, other.positions)
    assert same_bits(one.residuals, other.residuals)
    assert same_bits(one.target, other.target)
    for ours, theirs in zip(one.blocks, other.blocks, strict=True):
        assert same_bits(ours.keys, theirs.keys)
        assert same_bits(ours.values, theirs.values)
    if one.one_block is not None:
        assert all(same_bits(value, vars(other.one_block)[name]) for name, value in vars(one.one_block).items())
    assert all(same_bits(*pair) for pair in zip(*reads, strict=True))


def test_a_read_out_on_disk_runs_the_network_once_for_all_offsets(parity, many_passes, tmp_path):
    model, calls = parity.random_model(), []
    handle = model.network.gpt_neox.register_forward_pre_hook(lambda *_: calls.append(1))
    windows = torch.randint(60, (9, 12))
    for offset, expected in ((1, 5), (1, 5), (0, 5), (4, 5)):
        readout = LanguageModelReadout(
            model, windows, layer=0, target=2, offset=offset, keeping=Keeping(budget=NO_ROOM, cache=tmp_path)
        )
        readout.sample(20, torch.Generator().manual_seed(0))
        assert len(calls) == expected
    handle.remove()


def test_a_configuration_that_no_weight_tells_of_makes_other_activations(parity, many_passes, tmp_path):
    """Same weights, by their name, and same text: only the reach of the rotation differs, as after a correction."""
    narrow, wide = parity.random_model(rotary=0.25), parity.random_model(rotary=1.0)
    assert narrow.weights_sha256 == wide.weights_sha256
    rows, positions, _ = contexts()
    for model in (narrow, wide):
        in_memory, on_disk = (readout.at(rows % 9, positions) for readout in readouts(model, tmp_path))
        assert same_bits(on_disk.state.target, in_memory.state.target)


def test_a_store_that_returns_the_neighbours_row_fails_the_parity_test(parity, many_passes, tmp_path):
    model = parity.random_model()
    readout = readouts(model, tmp_path)[1]
    rows, positions = torch.tensor([0, 3, 4, 8]), torch.tensor([0, 4, 7, 10])
    x = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(1))
    windows = readout.windows[rows]
    theirs = parity.hooked_forward(model, windows, positions, x, layer=0, target=2, offset=1)
    assert parity.relative_error(readout.read(readout.at(rows, positions), x), theirs) < parity.TOLERANCE

    class Neighbour:
        def __init__(self, store):
            self.store = store

        def gather(self, rows, positions, offset):
            return self.store.gather((rows + 1) % len(readout.windows), positions, offset)

        def keys_and_values(self, rows, positions, offset):
            return self.store.keys_and_values((rows + 1) % len(readout.windows), positions, offset)

    readout._store = Neighbour(readout._store)
    assert parity.relative_error(readout.read(readout.at(rows, positions), x), theirs) > 100 * parity.TOLERANCE


def test_contexts_worked_on_in_parts_have_the_effects_of_the_whole(parity, many_passes, tmp_path):
    readout = readouts(parity.random_model(), tmp_path)[1]
    rows, positions = readout.draw(20, torch.Generator().manual_seed(0))
    whole = readout.sample(20, torch.Generator().manual_seed(0))
    directions = random_directions(3, 32, Centring.MEAN, torch.Generator().manual_seed(2))
    alpha = torch.rand(20, generator=torch.Generator().manual_seed(4))
    expected = effects(readout, whole, readout.clean(whole), directions, alpha)
    found = torch.empty_like(expected)
    for part in torch.split(positions.sort(stable=True).indices, 6):
        batch = readout.at(rows[part], positions[part])
        assert batch.state.blocks[0].keys.shape[2] == int(positions[part].max())
        found[:, part] = effects(readout, batch, readout.clean(batch), directions, alpha[part])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def left_behind(readout, batch, count):
    """Numbers that autograd keeps of the effects of ``count`` directions, each piece of memory counted once."""
    kept = {}

    def keep(tensor):
        memory = tensor.untyped_storage()
        kept[memory.data_ptr()] = memory.nbytes() // tensor.element_size()
        return tensor

    directions = random_directions(count, 32, readout.centring, torch.Generator().manual_seed(2)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        graph = effects(readout, batch, readout.clean(batch), directions, torch.full((len(batch),), 0.4))
    assert graph.requires_grad  # and alive, so that no memory was used twice
    return sum(kept.values())


@pytest.mark.parametrize("kind", ["gpt_neox", "gpt2", "llama"])
@pytest.mark.parametrize("site", [{"target": 1, "offset": 0}, {"target": 1, "offset": 2}, {"target": 3, "offset": 2}])
def test_pairs_and_contexts_take_no_more_than_they_are_said_to(parity, kind, site):
    readout = LanguageModelReadout(parity.random_model(kind), torch.randint(60, (9, 12)), layer=0, **site)
    batch = readout.at(torch.arange(8), torch.full((8,), 9))
    seen = (left_behind(readout, batch, 60) - left_behind(readout, batch, 20)) / (40 * 8)
    closed = readout._suffix.one_block is not None
    said = readout.entries_per_pair(9, gradient=True, angles=closed)
    assert seen <= said
    assert seen > said / 8  # what is said is not just something large

    state = batch.state
    tensors = [state.residuals, state.target, *(x for cache in state.blocks for x in (cache.keys, cache.values))]
    tensors += [] if state.one_block is None else [x for x in vars(state.one_block).values() if x is not None]
    memory = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}
    assert 0.5 * readout.context_size < sum(memory.values()) / 8 <= readout.context_size


def test_a_site_keeps_both_texts_within_one_budget(tiny_model_folder, tiny_text, tmp_path):
    from pythia.corpus import read_corpus
    from pythia.loading import load_model
    from pythia.site import site_of
    from sensverify.sites import SiteOptions

    model = load_model(str(tiny_model_folder))
    options = SiteOptions(layer=1, target=2, offset=1, context=32, limit=60)
    corpus = read_corpus(model, tiny_text, length=options.context, limit=options.limit, seed=options.seed)
    in_memory = site_of(model, corpus, options)
    # x, y, key, value, what other positions mix, and one number for each of 4 heads
    numbers = [(5 * 32 + 4) * part.windows.numel() for part in (in_memory.search, in_memory.held_out)]
    size = 4 * sum(numbers)
    for share, files in ((2.01, 0), (1.99, 2)):
        keeping = Keeping(budget=Budget(total=2**26, share=share * size / 2**26), cache=tmp_path)
        site = site_of(model, corpus, options, keeping)
        assert len(files_of(tmp_path)) == files
        for ours, theirs in ((site.search, in_memory.search), (site.held_out, in_memory.held_out)):
            assert same_bits(ours.residuals, theirs.residuals)
            one, other = (part.sample(9, torch.Generator().manual_seed(7)) for part in (ours, theirs))
            assert same_bits(one.x, other.x)
            assert torch.equal(one.state.positions, other.state.positions)


def test_an_opened_site_keeps_activations_where_its_options_say(tiny_model_folder, tiny_text, tmp_path, monkeypatch):
    from pythia import site
    from sensverify.claims import Subject
    from sensverify.sites import SiteOptions

    monkeypatch.setattr(site, "site_of", lambda model, corpus, options, keeping: keeping)
    subject = Subject(model=str(tiny_model_folder), text=tiny_text)
    options = SiteOptions(layer=1, target=2, offset=1, context=32, limit=60, memory=2**27, cache=tmp_path)
    heard = []
    keeping = site.open_site(subject, options, lambda *said: heard.append(said))
    assert (keeping.budget, keeping.cache) == (Budget(total=2**27), tmp_path)
    keeping.progress("running", 1, 2)
    assert heard == [("running", 1, 2)]
    assert site.open_site(subject, SiteOptions(layer=1, target=2, offset=1, context=32)).budget.total > 2**24
