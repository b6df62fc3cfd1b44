"""Checkpoints of a search: safetensors files, checksummed, replaced atomically, resumable bit for bit on CPU.

There are up to three files. A checkpoint is first written whole beside the others (``.next``); only then does the
newest become the previous one, and the new one the newest. Whenever the process is killed, and whichever write fails,
one that was complete before is complete still. What a checkpoint says is believed if its checksum fits; where that of
the newest does not, because the disk failed or somebody touched it, the previous one is used, with a warning.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from sensverify.chunking import Chunking
from sensverify.errors import InputError
from sensverify.files import write_atomically
from sensverify.plateau import Watch
from sensverify.search_state import SearchState

FILE_NAME = "search.checkpoint"
NEXT_NAME, PREVIOUS_NAME = f"{FILE_NAME}.next", f"{FILE_NAME}.previous"

Warn = Callable[[str], None]
"""Told one line about something that went wrong and was got over."""


def unheard(_line: str) -> None:
    """For whoever wants no warnings."""


def save_checkpoint(folder: Path, state: SearchState, configuration: dict[str, Any]) -> None:
    """Write ``state`` and the ``configuration`` (options and subject) it belongs to.

    Raises :class:`~sensverify.errors.InputError` when that fails; the checkpoints that there were are good still.
    """
    payload = packed(state, configuration)
    write_atomically(folder / NEXT_NAME, hashlib.sha256(payload).digest() + payload)
    _put_in_place(folder)


def packed(state: SearchState, configuration: dict[str, Any]) -> bytes:
    """``state`` and ``configuration`` as one safetensors file."""
    tensors = {
        "directions": state.directions,
        "momentum": state.momentum,
        "second_moment": state.second_moment,
        "running_score": state.running_score,
        "history": torch.tensor(state.history, dtype=torch.float64),
        "generator": state.generator.get_state(),
        "age": state.age,
        "best": state.watch.best,
        "stale": state.watch.stale,
        "cuts": state.watch.cuts,
        "frozen": state.watch.frozen,
    }
    return safetensors.torch.save(
        {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()},  # none shares memory
        metadata={
            "step": str(state.step),
            "at_once": json.dumps(state.chunking.limit),
            "contexts_at_once": json.dumps(state.chunking.contexts),
            "pairs_at_once": json.dumps(state.chunking.pairs),
            "threads": json.dumps(torch.get_num_threads()),
            "configuration": _canonical(configuration),
        },
    )


def _put_in_place(folder: Path) -> None:
    """The newest becomes the previous, the next the newest."""
    try:
        if (folder / FILE_NAME).exists():
            os.replace(folder / FILE_NAME, folder / PREVIOUS_NAME)
        os.replace(folder / NEXT_NAME, folder / FILE_NAME)
    except OSError as error:
        raise InputError(
            expected=f"to be able to rename files in {folder}",
            got=error.strerror or type(error).__name__,
            remedy="check the folder's permissions",
        ) from error


def load_checkpoint(
    folder: Path, configuration: dict[str, Any], device: torch.device, warn: Warn = unheard
) -> SearchState | None:
    """The state saved last in ``folder`` that is intact, or None if none was saved.

    Raises :class:`~sensverify.errors.InputError` if all are damaged, and for one of another configuration or version.
    """
    damaged = []
    for name in (NEXT_NAME, FILE_NAME, PREVIOUS_NAME):  # the newest first
        path = folder / name
        if not path.exists():
            continue
        payload = _intact(path)
        if payload is None:
            damaged.append(path)
            continue
        state = _state(payload, folder, configuration, device)
        for other in damaged:
            warn(f"the checksum of {other} does not fit: going on from {path}, step {state.step}")
        if (threads := _threads(payload)) not in (None, torch.get_num_threads()):
            warn(f"begun with {threads} threads and going on with {torch.get_num_threads()}: sums may round otherwise")
        return state
    if damaged:
        raise InputError(
            expected="an intact checkpoint",
            got=f"{' and '.join(map(str, damaged))} whose checksum does not fit",
            remedy="delete what is damaged and start the search again",
        )
    return None


def _threads(payload: bytes) -> int | None:
    """With how many threads of torch's the checkpoint was written; None in those of earlier versions."""
    known = _header(payload).get("threads")
    return None if known is None else int(known)


def settle(folder: Path) -> None:
    """Finish what a process was killed in, and put an intact checkpoint in the place of a damaged one, which would be
    kept as the previous one otherwise.

    Raises :class:`~sensverify.errors.InputError` when that fails.
    """
    newest, previous = folder / FILE_NAME, folder / PREVIOUS_NAME
    if newest.exists() and _intact(newest) is None and previous.exists():
        newest.unlink()
        if not (folder / NEXT_NAME).exists():
            previous.replace(newest)
    if (folder / NEXT_NAME).exists() and _intact(folder / NEXT_NAME) is not None:
        _put_in_place(folder)


def forget_previous(folder: Path) -> None:
    """Remove all but the newest checkpoint: those before it belong to a search that was given up."""
    for name in (NEXT_NAME, PREVIOUS_NAME):
        with contextlib.suppress(OSError):
            (folder / name).unlink(missing_ok=True)


def _intact(path: Path) -> bytes | None:
    """What the file holds, if it can be read and its checksum fits."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, payload = content[:32], content[32:]
    return payload if hashlib.sha256(payload).digest() == digest else None


def unpacked(payload: bytes, configuration: dict[str, Any], device: torch.device) -> SearchState:
    """What another process that takes part in the same search :func:`packed`.

    Raises :class:`~sensverify.errors.InputError` if that one is at another search than ``configuration`` says.
    """
    header = _header(payload)
    if header["configuration"] != _canonical(configuration):
        raise InputError(
            expected="every process to be started with the same options, model and text",
            got=f"others on rank 0 ({_difference(header['configuration'], configuration)})",
            remedy="start all of them with one command, and with the same versions and files on every machine",
        )
    return _assembled(safetensors.torch.load(payload), header, device)


def _header(payload: bytes) -> dict[str, str]:
    header: dict[str, str] = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])["__metadata__"]
    return header


def _state(payload: bytes, folder: Path, configuration: dict[str, Any], device: torch.device) -> SearchState:
    header = _header(payload)
    if header["configuration"] != _canonical(configuration):
        raise InputError(
            expected="--resume with the options, model and text of the interrupted search",
            got=f"a checkpoint of another search in {folder} ({_difference(header['configuration'], configuration)})",
            remedy="repeat the original options, or pass another --out",
        )
    tensors = safetensors.torch.load(payload)
    try:
        return _assembled(tensors, header, device)
    except KeyError as error:
        raise InputError(
            expected="a checkpoint of this version",
            got=f"one without {error} in {folder}",
            remedy="go on with the version that wrote it, or start the search again",
        ) from error


def _assembled(tensors: dict[str, Tensor], header: dict[str, str], device: torch.device) -> SearchState:
    generator = torch.Generator(device=device)
    generator.set_state(tensors["generator"])
    return SearchState(
        directions=tensors["directions"].to(device),
        momentum=tensors["momentum"].to(device),
        second_moment=tensors["second_moment"].to(device),
        running_score=tensors["running_score"].to(device),
        history=tensors["history"].tolist(),
        step=int(header["step"]),
        generator=generator,
        age=tensors["age"],
        watch=Watch(tensors["best"], tensors["stale"], tensors["cuts"], tensors["frozen"]),
        chunking=Chunking(  # those of earlier versions had no parts
            limit=json.loads(header["at_once"]),
            contexts=json.loads(header.get("contexts_at_once", "null")),
            pairs=json.loads(header.get("pairs_at_once", "null")),
        ),
    )


def _canonical(configuration: dict[str, Any]) -> str:
    return json.dumps(configuration, sort_keys=True, default=str)


def _difference(recorded: str, configuration: dict[str, Any]) -> str:
    """The names of the entries that differ."""
    old, new = json.loads(recorded), json.loads(_canonical(configuration))
    return ", ".join(sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)))
