"""Directions on disk: ``directions.safetensors`` with ``cfg.json`` beside it.

The tensor names follow the layout that sparse-autoencoder tools read (``W_dec [K, d]``, unit rows). Directions are
bound to the weights they were found on, by hash, and refused elsewhere unless told otherwise.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from sensverify.errors import InputError
from sensverify.files import write_atomically

FILE_NAME = "directions.safetensors"
CONFIG_NAME = "cfg.json"
SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class DirectionSet:
    """``K`` unit directions ``[K, d]``, their scores ``[K]`` with standard errors, and their provenance.

    Scores are None for directions that were not scored yet.
    """

    directions: Tensor
    config: Mapping[str, Any]
    score_plus: Tensor | None = None
    score_minus: Tensor | None = None
    score_plus_se: Tensor | None = None
    score_minus_se: Tensor | None = None


def save_directions(folder: Path, found: DirectionSet) -> Path:
    """Write both files into the existing ``folder``, each atomically; returns the path of the tensors.

    Raises :class:`~sensverify.errors.InputError` when the folder cannot be written.
    """
    tensors = {"W_dec": found.directions.detach().cpu().float().contiguous()}
    for name in ("score_plus", "score_minus", "score_plus_se", "score_minus_se"):
        value = getattr(found, name)
        if value is not None:
            tensors[name] = value.detach().cpu().float().contiguous()
    config = {"schema": SCHEMA_VERSION, **found.config}
    write_atomically(folder / FILE_NAME, safetensors.torch.save(tensors))
    write_atomically(folder / CONFIG_NAME, json.dumps(config, indent=1, allow_nan=False) + "\n")
    return folder / FILE_NAME


def load_directions(path: Path) -> DirectionSet:
    """Read directions from a file, or from the folder that holds ``directions.safetensors``.

    Raises :class:`~sensverify.errors.InputError` for files that are missing, damaged, without ``W_dec``, or with
    values that are not finite.
    """
    file = path / FILE_NAME if path.is_dir() else path
    config_file = file.parent / CONFIG_NAME
    try:
        tensors = safetensors.torch.load_file(file)
    except Exception as error:  # safetensors raises its own kinds beside OSError
        raise InputError(
            expected=f"a readable {FILE_NAME}",
            got=f"{file}: {type(error).__name__}",
            remedy="pass a file that `sensverify discover` wrote",
        ) from error
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            expected=f"{CONFIG_NAME} beside {file.name}",
            got=f"{config_file}: {type(error).__name__}",
            remedy="keep both files together",
        ) from error
    directions = tensors.get("W_dec")
    if directions is None or directions.ndim != 2 or not len(directions) or not isinstance(config, dict):
        raise InputError(
            expected="a tensor W_dec of shape [K, d]",
            got="none" if directions is None else str(list(directions.shape)),
            remedy="pass a file that `sensverify discover` wrote",
        )
    if not bool(torch.isfinite(directions).all()) or bool((directions.norm(dim=1) == 0).any()):
        raise InputError(
            expected="finite, nonzero directions",
            got=f"NaN, infinite or zero rows in {file.name}",
            remedy="find the directions again",
        )
    return DirectionSet(
        directions=directions,
        config=config,
        score_plus=tensors.get("score_plus"),
        score_minus=tensors.get("score_minus"),
        score_plus_se=tensors.get("score_plus_se"),
        score_minus_se=tensors.get("score_minus_se"),
    )


def check_belongs(found: DirectionSet, *, width: int, weights_sha256: str, model: str, allow_other_model: bool) -> None:
    """Refuse directions of the wrong width always, and those of other weights unless ``allow_other_model``."""
    if found.directions.shape[1] != width:
        raise InputError(
            expected=f"directions of width {width}, the width of {model}",
            got=f"width {found.directions.shape[1]}",
            remedy="pass the model on which they were found",
        )
    recorded = found.config.get("weights_sha256")
    if recorded != weights_sha256 and not allow_other_model:
        raise InputError(
            expected=f"directions found on the weights of {model} (sha256 {weights_sha256[:12]}…)",
            got=f"directions of {found.config.get('model')!r} (sha256 {str(recorded)[:12]}…)",
            remedy="pass that model, or --allow-other-model to score them here all the same",
        )
