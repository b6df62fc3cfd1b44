"""``run.json``: what a run is, how far it is, and how it ended, for whoever looks at its folder.

It is written when a run begins, with every checkpoint, and at the end, each time whole or not at all. A status of
``running`` with no process behind it means that the process was killed: ``--resume`` goes on. Seconds, and how often it
was resumed, are carried over from one process to the next; what a killed one did after its last checkpoint is not in
them, as it is not in the search. Nothing depends on this file, so that one that cannot be written is no reason to stop.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from sensverify.errors import InputError
from sensverify.files import write_atomically

FILE_NAME = "run.json"
SCHEMA_VERSION = 1

Status = Literal["running", "finished", "interrupted", "failed"]


class RunRecord:
    """The record of one run in ``folder``.

    ``identity``, plain JSON (options, site, seed), is what makes two runs the same one; ``circumstances``, such as the
    machine, are those of the process that wrote last. ``started``: when this process did, by :func:`now`.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        circumstances: Mapping[str, Any],
        *,
        resumed: bool,
        started: str,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._path, self._warn, self._warned = folder / FILE_NAME, warn, False
        self._part: tuple[str, float] | None = None
        identity = _strict(identity)
        before = _read(self._path) if resumed else {}
        if any(before.get(name) != value for name, value in identity.items()):
            before = {}
        kept = before.get("seconds")
        self._seconds: dict[str, float] = {k: float(v) for k, v in kept.items()} if isinstance(kept, dict) else {}
        self.document: dict[str, Any] = {
            "schema": SCHEMA_VERSION,
            "status": "running",
            "reason": None,
            "started": before.get("started") or started,
            "finished": None,
            "resumed": int(before.get("resumed") or 0) + resumed,
            **identity,
            **circumstances,
        }

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Seconds spent inside are added to those of the part called ``name``."""
        self._part = name, time.monotonic()
        try:
            yield
        finally:
            self.add_seconds(name, time.monotonic() - self._part[1])
            self._part = None

    def add_seconds(self, name: str, seconds: float) -> None:
        """Seconds that were spent on the part called ``name``, measured elsewhere."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def write(self, **entries: Any) -> None:
        """Put ``entries`` into the record and write it; where that fails, say so once."""
        self.document.update(entries)
        seconds = dict(self._seconds)
        if self._part is not None:
            name, began = self._part
            seconds[name] = seconds.get(name, 0.0) + time.monotonic() - began
        document = {**self.document, "seconds": {name: round(value, 3) for name, value in seconds.items()}}
        try:
            write_atomically(self._path, json.dumps(_strict(document), indent=1, allow_nan=False) + "\n")
        except InputError as error:
            if not self._warned:
                self._warn(f"no {FILE_NAME}, the run goes on: {error}")
            self._warned = True

    def end(self, status: Status, reason: str | None = None, **entries: Any) -> None:
        """The last entries; ``reason`` becomes one line."""
        line = None if reason is None else " ".join(reason.split())
        self.write(status=status, reason=line, finished=now(), **entries)


def now() -> str:
    """The time of day, in UTC."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read(path: Path) -> dict[str, Any]:
    """The record that was there, or nothing if there is none that can be read."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _strict(value: Any) -> Any:
    """``value`` as strict JSON: text for what JSON has no word for, None for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {str(key): _strict(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
