"""What is costly is kept on disk under the run's folder, so that an interrupted run goes on where it stopped.

A file is found by its content's recipe: what it is (``kind``), its parameters (``key``), a hash of this program's
source and the version of torch. Change any and it is made again: nothing stale can be read. A file is one safetensors
payload behind its sha256; one that is damaged, truncated or unreadable is made again without a word, for nothing is
lost but time. What is read back has the very bits that were made.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from filelock import BaseFileLock, FileLock, Timeout
from torch import Tensor

from sensverify.claims import Progress, Run, silent
from sensverify.errors import InputError
from sensverify.files import write_atomically

PACKAGES = ("sensverify", "toy_models")
"""Whose source decides what a result is."""


@functools.cache
def source_hash() -> str:
    """sha256 over the names and texts of all Python files of :data:`PACKAGES`."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        assert found is not None
        for folder in found.submodule_search_locations or ():
            for path in sorted(Path(folder).rglob("*.py")):
                text = path.read_bytes()
                name = f"{package}/{path.relative_to(folder).as_posix()}"
                digest.update(f"{name}\0{len(text)}\0".encode())
                digest.update(text)
    return digest.hexdigest()


class Store:
    """Results kept in ``folder``, which is made only when there is something to keep."""

    def __init__(self, folder: Path, progress: Progress = silent) -> None:
        self.folder, self.progress = folder, progress

    def path(self, kind: str, key: Mapping[str, Any]) -> Path:
        """Where the result of this recipe is kept. ``key`` is plain JSON."""
        recipe = {"kind": kind, "key": key, "source": source_hash(), "torch": torch.__version__}
        text = json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return self.folder / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"

    def keep(self, kind: str, key: Mapping[str, Any], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors kept under ``kind`` and ``key``; if there are none, those of ``make()``, which are then kept.

        Raises :class:`~sensverify.errors.InputError` when the folder cannot be written or the disk is full.
        """
        path = self.path(kind, key)
        if (found := _read(path)) is not None:
            return found
        self._make_folder()
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        self._wait_for(lock)
        try:
            if (found := _read(path)) is not None:
                return found
            made = {name: _own(value) for name, value in sorted(make().items())}
            payload = safetensors.torch.save(made)
            write_atomically(path, hashlib.sha256(payload).digest() + payload)
            return made
        finally:
            with contextlib.suppress(OSError):  # some systems keep a file that is open
                Path(lock.lock_file).unlink(missing_ok=True)  # whoever comes later finds the result
            lock.release()

    def _wait_for(self, lock: BaseFileLock) -> None:
        """Of two processes that need the same, one makes it and the other waits; a lock goes with its process."""
        while True:
            try:
                lock.acquire(timeout=0.5)
                return
            except Timeout:
                self.progress("waiting for another process", 0, 1)  # where an interrupted run is stopped
            except (OSError, NotImplementedError) as error:
                raise InputError(
                    expected=f"a folder in which files can be locked, {self.folder}",
                    got=str(error) or type(error).__name__,
                    remedy="pass another --out",
                ) from error

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                expected=f"to be able to make the folder {self.folder}",
                got=error.strerror or type(error).__name__,
                remedy="pass another --out",
            ) from error


def store_of(run: Run) -> Store:
    """The store in the run's folder."""
    return Store(run.directory / "cache", run.progress)


def _read(path: Path) -> dict[str, Tensor] | None:
    """None for a file that is missing, unreadable or not what was written."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, payload = content[:32], content[32:]
    if hashlib.sha256(payload).digest() != digest:
        return None
    return dict(sorted(safetensors.torch.load(payload).items()))


def _own(value: Tensor) -> Tensor:
    """The same numbers, contiguous and in memory of their own, as they will be when read back."""
    return value.detach().cpu().clone(memory_format=torch.contiguous_format)
