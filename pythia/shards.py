"""One shard: a few tensors in a file that is whole and right, or is not read.

A shard is a safetensors file, which any tool for that format opens. Any row of a tensor can be read by itself, since
nothing is compressed. It is read by seek and read, not by mapping the file: where a mapped file is truncated by another
process, or its disk fails, the program ends by a signal; here what was read is short, or the read is an error.

The header names the shard and holds the sha256 of its data. A file is right if its header is, byte for byte, the one
that its data would be given, and if it ends where they end: one flipped bit is noticed wherever it is, and so is a
right shard in a wrong place. The checksum lies in the shard, not beside it, so that no crash and no deletion can part
the two.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

PAGE = 4096
"""Data begin at a page."""
CHUNK = 2**20
"""Bytes hashed at a time: a processor's cache holds them."""
ABANDONED = 3600
"""Seconds after which a file that nobody has renamed was left by a killed process: to write one takes a few."""
FORGOTTEN = 30 * 24 * 3600
"""Seconds after which activations that nobody has opened are forgotten."""

_NAMES = {torch.float32: "F32", torch.float64: "F64", torch.bfloat16: "BF16", torch.float16: "F16"}


class DamagedShardError(Exception):
    """A file is not what was written."""


@dataclasses.dataclass(frozen=True)
class ShardFormat:
    """What a shard holds: tensors of one ``dtype``, by name, of these shapes; ``label`` says which shard it is."""

    dtype: torch.dtype
    shapes: Mapping[str, tuple[int, ...]]
    label: str

    @property
    def data_size(self) -> int:
        """Bytes of all tensors."""
        return sum(map(math.prod, self.shapes.values())) * self.dtype.itemsize

    @property
    def file_size(self) -> int:
        """Bytes of the file."""
        return len(self.header("0" * 64)) + self.data_size

    def header(self, digest: str) -> bytes:
        """What stands before data of this sha256, as many bytes whatever the digest."""
        entries: dict[str, object] = {"__metadata__": {"label": self.label, "sha256": digest}}
        end = 0
        for name, shape in self.shapes.items():
            start, end = end, end + math.prod(shape) * self.dtype.itemsize
            entries[name] = {"dtype": _NAMES[self.dtype], "shape": shape, "data_offsets": [start, end]}
        text = json.dumps(entries, separators=(",", ":")).encode()
        size = -(-(8 + len(text)) // PAGE) * PAGE - 8
        return size.to_bytes(8, "little") + text.ljust(size)

    def write(self, path: Path, tensors: Mapping[str, Tensor]) -> os.stat_result:
        """Write ``tensors``, on a CPU and contiguous, to ``path``: there is the whole file or none.

        Nothing waits for the disk: what a power failure takes is noticed by its checksum, and computed again.
        Raises ``OSError``.
        """
        parts = [bytes_of(tensors[name]) for name in self.shapes]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            with open(temporary, "xb", buffering=0) as stream:
                for part in (memoryview(self.header(digest.hexdigest())), *parts):
                    _write_all(stream, part)
                written = os.fstat(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        return written

    def verify(self, stream: BinaryIO) -> None:
        """Raise :class:`DamagedShardError` unless the file holds what was written; may raise ``OSError``."""
        if os.fstat(stream.fileno()).st_size != self.file_size:
            raise DamagedShardError
        length = len(self.header("0" * 64))
        head = bytearray(length)
        _read_all(stream, memoryview(head), 0)
        digest, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
        for start in range(length, self.file_size, CHUNK):
            part = buffer[: min(CHUNK, self.file_size - start)]
            _read_all(stream, part, start)
            digest.update(part)
        if head != self.header(digest.hexdigest()):
            raise DamagedShardError

    @functools.cached_property
    def places(self) -> dict[str, int]:
        """Where in the file each tensor begins."""
        places, place = {}, len(self.header("0" * 64))
        for name, shape in self.shapes.items():
            places[name] = place
            place += math.prod(shape) * self.dtype.itemsize
        return places


def read_into(stream: BinaryIO, place: int, tensor: Tensor) -> None:
    """Fill ``tensor``, on a CPU and contiguous, with the bytes from ``place`` on.

    Raises :class:`DamagedShardError` if the file ends before, and ``OSError``.
    """
    _read_all(stream, bytes_of(tensor), place)


def bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a tensor that is contiguous and on a CPU."""
    return tensor.view(-1).view(torch.uint8).numpy().data


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written in ``folder``."""
    with contextlib.suppress(OSError):
        for path in folder.glob(".*.safetensors.*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED:
                    path.unlink()


def prune(cache: Path, prefix: str) -> None:
    """Remove shards in folders of ``cache`` that are named ``prefix`` and a hash, and that nobody has opened for a long
    time: what is in them is computed again if it is ever asked for, and otherwise nobody would ever delete it. Anything
    else that lies there, and a folder with something else in it, stays."""
    with contextlib.suppress(OSError):
        for folder in cache.glob(f"{prefix}*"):
            ours = re.fullmatch(re.escape(prefix) + "[0-9a-f]{24}", folder.name) and folder.is_dir()
            with contextlib.suppress(OSError):
                if ours and time.time() - folder.stat().st_mtime > FORGOTTEN:
                    for path in (*folder.glob("[0-9]*.safetensors"), *folder.glob(".*.safetensors.*")):
                        path.unlink()
                    folder.rmdir()


def _read_all(stream: BinaryIO, into: memoryview, place: int) -> None:
    stream.seek(place)
    while len(into):
        count = stream.readinto(into)  # type: ignore[attr-defined]
        if not count:
            raise DamagedShardError
        into = into[count:]


def _write_all(stream: BinaryIO, data: memoryview) -> None:
    while len(data):  # one call writes 2 GB at most
        data = data[stream.write(data) :]
