"""Checkpoints of a search: one safetensors file, checksummed, written atomically, resumable bit for bit on CPU."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from sensverify.discovery import SearchState
from sensverify.errors import InputError
from sensverify.files import write_atomically

FILE_NAME = "search.checkpoint"


def save_checkpoint(folder: Path, state: SearchState, configuration: dict[str, Any]) -> None:
    """Write ``state`` and the ``configuration`` (options and subject) it belongs to."""
    tensors = {
        "directions": state.directions,
        "momentum": state.momentum,
        "second_moment": state.second_moment,
        "running_score": state.running_score,
        "history": torch.tensor(state.history, dtype=torch.float64),
        "generator": state.generator.get_state(),
    }
    payload = safetensors.torch.save(
        {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
        metadata={"step": str(state.step), "configuration": _canonical(configuration)},
    )
    write_atomically(folder / FILE_NAME, hashlib.sha256(payload).digest() + payload)


def load_checkpoint(folder: Path, configuration: dict[str, Any], device: torch.device) -> SearchState | None:
    """The state saved in ``folder``, or None if there is none.

    Raises :class:`~sensverify.errors.InputError` for a damaged file and for one of another configuration.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    content = path.read_bytes()
    digest, payload = content[:32], content[32:]
    if hashlib.sha256(payload).digest() != digest:
        raise InputError(
            expected="an intact checkpoint",
            got=f"{path} whose checksum does not fit",
            remedy="delete it and start the search again",
        )
    header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])["__metadata__"]
    if header["configuration"] != _canonical(configuration):
        raise InputError(
            expected="--resume with the options, model and text of the interrupted search",
            got=f"a checkpoint of another search in {folder} ({_difference(header['configuration'], configuration)})",
            remedy="repeat the original options, or pass another --out",
        )
    tensors = safetensors.torch.load(payload)
    generator = torch.Generator(device=device)
    generator.set_state(tensors.pop("generator"))
    history = tensors.pop("history").tolist()
    on_device = {name: value.to(device) for name, value in tensors.items()}
    return SearchState(**on_device, history=history, step=int(header["step"]), generator=generator)


def _canonical(configuration: dict[str, Any]) -> str:
    return json.dumps(configuration, sort_keys=True, default=str)


def _difference(recorded: str, configuration: dict[str, Any]) -> str:
    """The names of the entries that differ."""
    old, new = json.loads(recorded), json.loads(_canonical(configuration))
    return ", ".join(sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)))
