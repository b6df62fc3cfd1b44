"""What is kept on disk: found again bit for bit, made again when anything differs or is damaged."""

import pytest
import torch
from filelock import FileLock

from sensverify.claims import Run
from sensverify.errors import InputError
from toy_models import store as store_module
from toy_models import trained
from toy_models.store import Store, store_of
from toy_models.superposition import SuperpositionConfig

TINY = SuperpositionConfig(features=8, width=3, density=0.2, steps=20, batch=16)


class Making:
    """Makes a result that differs each time, and counts."""

    def __init__(self):
        self.times = 0

    def __call__(self):
        self.times += 1
        generator = torch.Generator().manual_seed(self.times)
        return {
            "a": torch.randn(3, 4, generator=generator).T,
            "b": torch.tensor([float("nan"), 1.0, -0.0], dtype=torch.float64),
            "whole": torch.arange(3),
        }


def bits(tensors):
    return {name: value.contiguous().numpy().tobytes() for name, value in tensors.items()}


def test_what_is_kept_is_made_once_and_read_back_bit_for_bit(tmp_path):
    make = Making()
    made = Store(tmp_path / "cache").keep("thing", {"n": 1}, make)
    read = Store(tmp_path / "cache").keep("thing", {"n": 1}, make)
    assert make.times == 1
    assert bits(made) == bits(read)
    assert [value.dtype for value in made.values()] == [value.dtype for value in read.values()]


@pytest.mark.parametrize(("kind", "key"), [("thing", {"n": 2}), ("other", {"n": 1}), ("thing", {"n": 1, "m": None})])
def test_another_kind_or_key_is_made_anew(tmp_path, kind, key):
    make = Making()
    store = Store(tmp_path)
    store.keep("thing", {"n": 1}, make)
    store.keep(kind, key, make)
    assert make.times == 2


def test_the_order_of_a_keys_entries_means_nothing(tmp_path):
    store = Store(tmp_path)
    assert store.path("thing", {"a": 1, "b": 2}) == store.path("thing", {"b": 2, "a": 1})


def test_another_source_or_torch_is_another_result(tmp_path, monkeypatch):
    paths = {Store(tmp_path).path("thing", {})}
    monkeypatch.setattr(store_module, "source_hash", lambda: "other")
    paths.add(Store(tmp_path).path("thing", {}))
    monkeypatch.setattr(torch, "__version__", "0")
    paths.add(Store(tmp_path).path("thing", {}))
    assert len(paths) == 3


def test_the_source_hash_reads_every_module(tmp_path, monkeypatch):
    package = tmp_path / "some_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "module.py").write_text("A = 1")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(store_module, "PACKAGES", ("some_package",))
    hashes = set()
    for text in ("A = 1", "A = 2"):
        (package / "module.py").write_text(text)
        hashes.add(store_module.source_hash.__wrapped__())
    (package / "module.py").rename(package / "renamed.py")
    hashes.add(store_module.source_hash.__wrapped__())
    assert len(hashes) == 3


@pytest.mark.parametrize("damage", ["first byte", "middle byte", "last byte", "truncated", "empty", "a folder"])
def test_a_damaged_file_is_made_again(tmp_path, damage):
    make, store = Making(), Store(tmp_path)
    store.keep("thing", {}, make)
    path = store.path("thing", {})
    content = bytearray(path.read_bytes())
    if damage == "a folder":
        path.unlink()
        path.mkdir()
        with pytest.raises(InputError):  # made again, but a folder cannot be written over
            store.keep("thing", {}, make)
        assert make.times == 2
        return
    if damage.endswith("byte"):
        content[{"first": 0, "middle": len(content) // 2, "last": -1}[damage.split()[0]]] ^= 1
    path.write_bytes({"truncated": bytes(content[:50]), "empty": b""}.get(damage, bytes(content)))
    again = store.keep("thing", {}, make)
    assert make.times == 2
    assert bits(store.keep("thing", {}, make)) == bits(again)
    assert make.times == 2


def test_making_that_is_stopped_half_way_leaves_nothing(tmp_path):
    store = Store(tmp_path / "cache")

    def stopped():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.keep("thing", {}, stopped)
    assert not list((tmp_path / "cache").iterdir())


def test_writing_that_is_stopped_half_way_leaves_no_part_of_a_file(tmp_path, monkeypatch):
    store, make = Store(tmp_path), Making()

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            store.keep("thing", {}, make)
    assert list(tmp_path.iterdir()) == []
    store.keep("thing", {}, make)
    assert make.times == 2


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(InputError, match="pass another --out"):
        Store(tmp_path / "cache").keep("thing", {}, Making())


def test_models_are_trained_once_and_the_next_run_reads_the_same_bits(tmp_path, monkeypatch):
    first = trained.models(Run(seed=0, directory=tmp_path), TINY, [3, 5])

    def never(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(trained, "train_grid", never)
    second = trained.models(Run(seed=0, directory=tmp_path), TINY, [3, 5])
    for a, b in zip(first, second, strict=True):
        assert (a.config, a.seed, a.loss, a.loss_of_zero, a.loss_change) == (
            b.config, b.seed, b.loss, b.loss_of_zero, b.loss_change,
        )  # fmt: skip
        assert a.weights.equal(b.weights)
        assert a.bias.equal(b.bias)
        assert a.weights.stride() == b.weights.stride()
    with pytest.raises(AssertionError, match="trained again"):
        trained.models(Run(seed=0, directory=tmp_path), TINY, [3, 6])
    assert store_of(Run(seed=0, directory=tmp_path)).folder == tmp_path / "cache"


def test_a_grid_has_a_row_per_configuration_and_a_column_per_seed(tmp_path):
    other = SuperpositionConfig(features=6, width=3, density=0.2, steps=20, batch=16)
    denser = SuperpositionConfig(features=8, width=3, density=0.5, steps=20, batch=16)
    found = trained.grid(Run(seed=0, directory=tmp_path), [TINY, other, denser], [1, 2])
    assert [[(model.config, model.seed) for model in row] for row in found] == [
        [(config, seed) for seed in (1, 2)] for config in (TINY, other, denser)
    ]


def test_what_another_process_makes_is_waited_for_and_made_once(tmp_path):
    """The other process holds the lock; whoever waits reports it, so that it can be stopped."""
    store, make, waits = Store(tmp_path), Making(), []
    other = FileLock(tmp_path / f".{store.path('thing', {}).name}.lock")
    other.acquire()

    def report(label, done, total):
        waits.append(label)
        Store(tmp_path / "elsewhere").keep("thing", {}, make)
        (tmp_path / store.path("thing", {}).name).write_bytes(
            (tmp_path / "elsewhere" / store.path("thing", {}).name).read_bytes()
        )
        other.release()

    found = Store(tmp_path, report).keep("thing", {}, lambda: pytest.fail("it was there already"))
    assert waits == ["waiting for another process"]
    assert found.keys() == store.keep("thing", {}, make).keys()
