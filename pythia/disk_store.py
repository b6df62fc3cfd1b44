"""Activations on disk, if the budget has no room for them in memory; and never a bit different.

A shard (:mod:`pythia.shards`) holds what one pass through the model made. Which windows share a pass is settled by the
text and the budget, not by the store, and a shard that must be made again is made by the same pass: results do not
depend on where activations are kept.

A folder is named by a hash of all that decides its content: weights, configuration, tokens, blocks, passes, versions of
the libraries, the text of the modules that compute it, device and number of threads (sums that are split otherwise
round otherwise). The offset is not among them unless there is a closed form, since elsewhere it only decides what is
gathered. So nothing stale is ever read, any file may be deleted at any time, and several processes may build one cache.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import itertools
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from pythia.activations import CleanPass, Gathered, Gathering, MemoryStore, Store, where_of
from pythia.shards import DamagedShardError, ShardFormat, bytes_of, prune, read_into, sweep
from sensverify.claims import Progress, silent
from sensverify.errors import InputError
from sensverify.memory import Budget, format_size

TOKENS_PER_PASS, TOKENS_PER_ACCELERATOR_PASS = 2**11, 2**15
"""Enough for matrices to be worked on at full speed."""
SOURCES = tuple(
    f"pythia.{name}" for name in ("activations", "architectures", "disk_store", "one_block", "shards", "suffix")
)
"""Modules whose text decides what is kept."""
PREFIX = "activations-"
"""What names of folders begin with."""
TRIES = 3
"""How often a shard is made that is gone or damaged again when it is to be read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keeping:
    """Where activations are kept: in memory, unless a ``budget`` says that they are too many; then under ``cache``,
    by default :func:`default_cache`. ``progress`` hears of the clean pass."""

    budget: Budget | None = None
    cache: Path | None = None
    progress: Progress = silent

    def windows_per_pass(self, windows: Tensor, cost: int) -> int:
        """For ``windows [N, L]`` of which one costs a pass ``cost`` bytes."""
        tokens = TOKENS_PER_PASS if windows.device.type == "cpu" else TOKENS_PER_ACCELERATOR_PASS
        most = max(1, min(len(windows), tokens // windows.shape[1]))
        return most if self.budget is None else self.budget.windows_per_pass(cost, most)

    def part(self, share: float) -> Keeping:
        """The same for one of several texts, of whose activations it makes up ``share``."""
        return self if self.budget is None else dataclasses.replace(self, budget=self.budget.part(share))


def open_store(clean: CleanPass, identity: Mapping[str, Any], keeping: Keeping) -> Store:
    """The activations of ``clean``, run at once as far as they are not on disk already.

    ``identity``, plain JSON, names weights, configuration and blocks. Raises
    :class:`~sensverify.errors.InputError` when they fit neither in memory nor on disk.
    """
    size = clean.layout.size(len(clean.windows))
    if keeping.budget is None or keeping.budget.holds(size):
        return MemoryStore(clean, keeping.progress)
    folder = (keeping.cache or default_cache()) / f"{PREFIX}{recipe_hash(clean, identity)[:24]}"
    return DiskStore(clean, folder, keeping.progress)


def default_cache() -> Path:
    """``sensverify`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "sensverify"


def recipe_hash(clean: CleanPass, identity: Mapping[str, Any]) -> str:
    """sha256 of all that decides the activations' bits."""
    device, windows = clean.windows.device, clean.windows.cpu().contiguous()
    recipe = {
        "identity": dict(identity),
        "tokens": [str(windows.dtype), list(windows.shape), hashlib.sha256(bytes_of(windows)).hexdigest()],
        "layout": {name: str(value) for name, value in vars(clean.layout).items()},
        "windows_per_pass": clean.windows_per_pass,
        "versions": {name: _version(name) for name in ("torch", "transformers")},
        "source": _source_hash(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "arithmetic": [
            torch.backends.cpu.get_cpu_capability(),
            torch.get_num_threads(),
            torch.get_float32_matmul_precision(),
        ],
    }
    return hashlib.sha256(json.dumps(recipe, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _version(package: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


@functools.cache
def _source_hash() -> str:
    digest = hashlib.sha256()
    for name in SOURCES:
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.origin is not None
        digest.update(hashlib.sha256(Path(found.origin).read_bytes()).digest())
    return digest.hexdigest()


class DiskStore:
    """Activations in ``folder``, one shard for each pass, of which only what is gathered is in memory.

    Every shard is checked when the store is opened, and again if the file has changed when it is read; one that is
    missing or damaged is made again. Raises :class:`~sensverify.errors.InputError` if that cannot be written.
    """

    def __init__(self, clean: CleanPass, folder: Path, progress: Progress = silent) -> None:
        self._clean, self._folder, self._progress = clean, folder, progress
        self._formats = [
            ShardFormat(clean.layout.dtype, clean.layout.shapes(len(part)), f"{folder.name}/{number}")
            for number, part in enumerate(clean.parts)
        ]
        self._checked: dict[int, tuple[int, ...]] = {}
        self._written: set[int] = set()
        with contextlib.suppress(OSError):
            os.utime(folder)  # opened now
        prune(folder.parent, PREFIX)
        self._check_room()
        done, count = 0, len(clean.windows)
        progress("clean pass", done, count)
        for number, part in enumerate(clean.parts):
            if not self._intact(number):
                self._make(number)
            done += len(part)
            progress("clean pass", done, count)

    def gather(self, rows: Tensor, positions: Tensor, offset: int) -> Gathered:
        """See :class:`Store`."""
        layout = self._clean.layout
        where = where_of(rows, positions, offset, self._clean.windows.shape)
        residuals = torch.empty(len(rows), offset + 1, layout.width, dtype=layout.dtype)
        target = torch.empty(len(rows), layout.width, dtype=layout.dtype)
        others = torch.empty(len(rows), *layout.apart, dtype=layout.dtype) if layout.heads else None
        one = layout.dtype.itemsize
        width, apart = layout.width * one, math.prod(layout.apart) * one

        def read(stream: BinaryIO, places: Mapping[str, int], context: int, first: int) -> None:
            position = first + where[1][context]
            read_into(stream, places["source"] + position * width, residuals[context])
            read_into(stream, places["target"] + (position + offset) * width, target[context])
            if others is not None:
                read_into(stream, places["others"] + position * apart, others[context])

        self._of_each(where[0], read)
        device = self._clean.windows.device
        return Gathered(
            store=self,
            rows=rows,
            positions=positions,
            offset=offset,
            residuals=residuals.transpose(0, 1).contiguous().to(device),
            target=target.to(device),
            others=None if others is None else others.to(device),
        )

    def keys_and_values(self, rows: Tensor, positions: Tensor, offset: int) -> Tensor:
        """See :class:`Store`."""
        layout = self._clean.layout
        where = where_of(rows, positions, offset, self._clean.windows.shape)
        gathering = Gathering(layout, where[1], offset)
        piece = torch.empty(max(where[1]) + offset + 1, *layout.cached, dtype=layout.dtype)
        cached = math.prod(layout.cached) * layout.dtype.itemsize

        def read(stream: BinaryIO, places: Mapping[str, int], context: int, first: int) -> None:
            own = piece[: where[1][context] + offset + 1]
            read_into(stream, places["cache"] + first * cached, own)
            gathering.put(context, own)

        self._of_each(where[0], read)
        return gathering.finish().to(self._clean.windows.device)

    def _of_each(self, rows: Sequence[int], read: Callable[[BinaryIO, Mapping[str, int], int, int], None]) -> None:
        """``read`` from the shard of each context: its stream and places, the context's number, and which position of
        the shard its window begins at."""
        each, length = self._clean.windows_per_pass, self._clean.layout.length

        def read_all(stream: BinaryIO, number: int, contexts: Sequence[int]) -> None:
            for context in contexts:
                read(stream, self._formats[number].places, context, (rows[context] - number * each) * length)

        # In the order in which they lie, which a disk is fastest in.
        order = sorted(range(len(rows)), key=rows.__getitem__)
        for number, contexts in itertools.groupby(order, key=lambda context: rows[context] // each):
            self._reading(number, functools.partial(read_all, number=number, contexts=list(contexts)))

    def residuals(self) -> Iterator[Tensor]:
        """See :class:`Store`."""
        for number, form in enumerate(self._formats):
            source = torch.empty(form.shapes["source"], dtype=form.dtype)

            def read(stream: BinaryIO, place: int = form.places["source"], into: Tensor = source) -> None:
                read_into(stream, place, into)

            self._reading(number, read)
            yield source.to(self._clean.windows.device)

    # --- Shards ------------------------------------------------------------------------------------------------

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.safetensors"

    def _reading(self, number: int, read: Callable[[BinaryIO], None]) -> None:
        """``read`` from a shard known to be right; made again, and read from the beginning, if it is not."""
        for _ in range(TRIES):
            try:
                with open(self._path(number), "rb", buffering=0) as stream:
                    found = _fingerprint(os.fstat(stream.fileno()))
                    if self._checked.get(number) != found:
                        self._formats[number].verify(stream)
                        self._checked[number] = found
                    read(stream)
                    return
            except (OSError, DamagedShardError):
                self._checked.pop(number, None)
                self._make(number)
        raise InputError(
            expected=f"files in {self._folder} to stay while they are read",
            got="some that vanish or change again and again",
            remedy="pass another --cache",
        )

    def _intact(self, number: int) -> bool:
        try:
            with open(self._path(number), "rb", buffering=0) as stream:
                self._formats[number].verify(stream)
                self._checked[number] = _fingerprint(os.fstat(stream.fileno()))
                return True
        except (OSError, DamagedShardError):
            return False

    def _make(self, number: int) -> None:
        """Run the pass of this number and keep it, unless another process is just doing that."""
        with self._locked():
            if self._intact(number):
                return
            made = self._clean(number)
            tensors = {name: value.detach().cpu().contiguous() for name, value in made.to_dict().items()}
            try:
                self._folder.mkdir(parents=True, exist_ok=True)  # it may have been deleted meanwhile
                written = self._formats[number].write(self._path(number), tensors)
            except OSError as error:
                self._withdraw()
                raise self._no_room(error.strerror or type(error).__name__) from error
            self._checked[number] = _fingerprint(written)
            self._written.add(number)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among the processes that build this cache; a lock goes with its process."""
        lock = FileLock(self._folder.with_name(f".{self._folder.name}.lock"))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            while not lock.is_locked:
                try:
                    lock.acquire(timeout=0.5)
                except Timeout:
                    self._progress("waiting for another process", 0, 1)  # where an interrupted run is stopped
        except (OSError, NotImplementedError) as error:
            raise self._no_room(str(error) or type(error).__name__) from error
        try:
            sweep(self._folder)
            yield
        finally:
            with contextlib.suppress(OSError):  # some systems keep a file that is open
                Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def _check_room(self) -> None:
        """Refuse before hours of work what the disk cannot hold."""
        needed = sum(form.file_size - _size(self._path(number)) for number, form in enumerate(self._formats))
        above = next((folder for folder in self._folder.absolute().parents if folder.is_dir()), None)
        with contextlib.suppress(OSError):
            if above is not None and (free := shutil.disk_usage(above).free) < needed:
                raise self._no_room(f"{format_size(free)} free")

    def _withdraw(self) -> None:
        """Remove what this run has written."""
        with contextlib.suppress(OSError):
            for number in self._written:
                self._path(number).unlink(missing_ok=True)
            self._folder.rmdir()
        self._written.clear()

    def _no_room(self, got: str) -> InputError:
        size = format_size(sum(form.file_size for form in self._formats))
        return InputError(
            expected=f"a folder that takes {size} of activations, {self._folder.parent}",
            got=got,
            remedy="free space there, pass another --cache, or a --memory of which half holds them, or use less text",
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _fingerprint(status: os.stat_result) -> tuple[int, ...]:
    """Changes whenever the file is written to or replaced."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
