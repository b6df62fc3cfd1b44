"""Directions on disk: ``directions.safetensors`` with ``cfg.json`` beside it.

The tensor names follow the layout that sparse-autoencoder tools read (``W_dec [K, d]``, unit rows). Directions are
bound to the weights they were found on, by hash, and refused elsewhere unless told otherwise.

Two files cannot be replaced at one moment. Both are first written whole under other names; then the old ``cfg.json`` is
removed, the tensors are put in place, and last the new ``cfg.json``, which holds the sha256 of their file. Whoever
looks in between, or after the process was killed, finds the old pair, tensors with nothing beside them, which are
refused, or the new pair; and if somebody mixes up files later, the digest tells.

The folder of a sparse autoencoder is read as well (:mod:`sensverify.sae_layouts`): its decoder rows are directions.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from sensverify.errors import InputError
from sensverify.files import write_atomically
from sensverify.readout import Readout
from sensverify.sae_layouts import FILES, choose, holds_sae, read_sae
from sensverify.saes import Sae

FILE_NAME = "directions.safetensors"
CONFIG_NAME = "cfg.json"
SCHEMA_VERSION = 1
MOST_LATENTS = 256
"""So many latents of an autoencoder are scored, a sample fixed by the seed; the most have tens of thousands."""
LOOKED_AT = (256,) * 4
"""At so many positions, so many at a time, it is seen which latents fire."""
DIGEST = "directions_sha256"
"""Under this name ``cfg.json`` has the sha256 of the file of tensors that it belongs to."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DirectionSet:
    """``K`` unit directions ``[K, d]``, their scores ``[K]`` with standard errors, and their provenance.

    Scores are None for directions that were not scored yet. ``latents``: which latents of the autoencoder ``sae`` the
    directions are ``[K]``; None for directions that a search found.
    """

    directions: Tensor
    config: Mapping[str, Any]
    score_plus: Tensor | None = None
    score_minus: Tensor | None = None
    score_plus_se: Tensor | None = None
    score_minus_se: Tensor | None = None
    latents: Tensor | None = None
    sae: Sae | None = None

    @property
    def called(self) -> str:
        """What tables call these directions."""
        return "found" if self.latents is None else "autoencoder"

    def autoencoder_json(self) -> dict[str, Any]:
        """Plain JSON: which latents of which autoencoder; nothing for directions that a search found."""
        return {} if self.latents is None else {"latents": self.latents.tolist(), "sae": self.config["sae"]}


def save_directions(folder: Path, found: DirectionSet) -> Path:
    """Write both files into the existing ``folder``, as the module tells; returns the path of the tensors.

    Raises :class:`~sensverify.errors.InputError` when the folder cannot be written; the pair that was there is still,
    unless it fails after the old ``cfg.json`` was removed: then both new files lie beside it under their other names.
    """
    tensors = {"W_dec": found.directions.detach().cpu().float().contiguous()}
    for name in ("score_plus", "score_minus", "score_plus_se", "score_minus_se"):
        value = getattr(found, name)
        if value is not None:
            tensors[name] = value.detach().cpu().float().contiguous()
    payload = safetensors.torch.save(tensors)
    config = {"schema": SCHEMA_VERSION, **found.config, DIGEST: hashlib.sha256(payload).hexdigest()}
    contents: dict[str, str | bytes] = {
        FILE_NAME: payload,
        CONFIG_NAME: json.dumps(config, indent=1, allow_nan=False) + "\n",
    }
    for name, content in contents.items():
        write_atomically(folder / f".next.{name}", content)
    try:
        (folder / CONFIG_NAME).unlink(missing_ok=True)
        for name in contents:
            os.replace(folder / f".next.{name}", folder / name)
    except OSError as error:
        raise InputError(
            expected=f"to be able to replace {FILE_NAME} and {CONFIG_NAME} in {folder}",
            got=error.strerror or type(error).__name__,
            remedy="check the folder's permissions and save again",
        ) from error
    return folder / FILE_NAME


def load_directions(path: Path, *, layer: int | None = None) -> DirectionSet:
    """Read directions from a file, or from the folder that holds ``directions.safetensors``.

    A folder or file of a sparse autoencoder gives its decoder rows; where it holds several, those after block
    ``layer``.

    Raises :class:`~sensverify.errors.InputError` for files that are missing, damaged, without ``W_dec``, with values
    that are not finite, or not of one search; for autoencoders as :func:`sensverify.sae_layouts.choose` and
    :func:`sensverify.sae_layouts.read_sae`.
    """
    if is_autoencoder(path):
        return _latents(path, layer)
    file = own_file(path)
    if not file.exists():
        raise InputError(
            expected=f"{FILE_NAME}, or a sparse autoencoder ({', '.join(FILES)})",
            got=f"{path}, {'which has none of them' if path.exists() else 'missing'}",
            remedy="pass what `sensverify discover` wrote, or an autoencoder as it was published",
        )
    config_file = file.parent / CONFIG_NAME
    try:
        payload = file.read_bytes()  # once, so that the digest is that of the tensors in hand
        tensors = safetensors.torch.load(payload)
    except Exception as error:  # safetensors raises its own kinds beside OSError
        raise InputError(
            expected=f"a readable {FILE_NAME}",
            got=f"{file}: {type(error).__name__}",
            remedy="pass a file that `sensverify discover` wrote",
        ) from error
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            expected=f"{CONFIG_NAME} beside {file.name}",
            got=f"{config_file}: {type(error).__name__}",
            remedy="keep both files together",
        ) from error
    if not isinstance(config, dict):
        raise InputError(
            expected=f"an object in {CONFIG_NAME} beside {file.name}",
            got=f"{config_file}: {type(config).__name__}",
            remedy="keep both files as they were written",
        )
    directions = tensors.get("W_dec")
    if directions is None or directions.ndim != 2 or not len(directions):
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
    if DIGEST in config and config[DIGEST] != hashlib.sha256(payload).hexdigest():
        raise InputError(
            expected=f"{file.name} and {CONFIG_NAME} of one search",
            got=f"{file} with another sha256 than {CONFIG_NAME} has",
            remedy="keep both files together, or find the directions again",
        )
    return DirectionSet(
        directions=directions,
        config=config,
        score_plus=tensors.get("score_plus"),
        score_minus=tensors.get("score_minus"),
        score_plus_se=tensors.get("score_plus_se"),
        score_minus_se=tensors.get("score_minus_se"),
    )


def is_autoencoder(path: Path) -> bool:
    """Whether :func:`load_directions` reads ``path`` as a sparse autoencoder."""
    return not (path / FILE_NAME).exists() and holds_sae(path)


def own_file(path: Path) -> Path:
    """The file of tensors that is read where ``path`` is no autoencoder: itself, or that in it."""
    return path / FILE_NAME if path.is_dir() else path


def _latents(path: Path, layer: int | None) -> DirectionSet:
    sae = read_sae(choose(path, layer))
    latents = sae.usable.nonzero()[:, 0]
    rows = sae.decoder[latents]
    config: dict[str, Any] = {"model": sae.description["model"], "hook_name": sae.hook, "sae": dict(sae.description)}
    # An autoencoder knows where it reads, but of no effect: what is one token later is what searches look at.
    config |= {"offset": 1} if sae.layer is None else {"offset": 1, "layer": sae.layer}
    return DirectionSet(directions=rows / rows.norm(dim=1, keepdim=True), config=config, latents=latents, sae=sae)


def living(found: DirectionSet, readout: Readout, seed: int) -> DirectionSet:
    """Of an autoencoder's latents those that fire somewhere on the read-out's contexts, at most :data:`MOST_LATENTS` of
    them, drawn by ``seed``; other directions as they are.

    Raises :class:`~sensverify.errors.InputError` where none fires: the autoencoder is not of this model or place.
    """
    if found.latents is None or found.sae is None:
        return found
    generator = torch.Generator(device=readout.device).manual_seed(seed)
    fires = found.sae.fires(readout.sample(count, generator).x.detach().float().cpu() for count in LOOKED_AT)
    firing = fires[found.latents].nonzero()[:, 0]
    if not len(firing):
        raise InputError(
            expected="an autoencoder with latents that fire on this text",
            got=f"none of {len(found.latents)} at {sum(LOOKED_AT)} positions ({found.sae.hook or 'no hook is named'})",
            remedy="check that it is of this model and layer, and that its weights are whole",
        )
    drawn = torch.randperm(len(firing), generator=torch.Generator().manual_seed(seed))[:MOST_LATENTS]
    chosen = firing[drawn].sort().values
    config = {**found.config, "sae": {**found.config["sae"], "latents_that_fire": len(firing)}}
    return dataclasses.replace(found, directions=found.directions[chosen], latents=found.latents[chosen], config=config)


def check_belongs(found: DirectionSet, *, width: int, weights_sha256: str, model: str, allow_other_model: bool) -> None:
    """Refuse directions of the wrong width always, and those of other weights unless ``allow_other_model``.

    Autoencoders do not record the weights that they were trained on.
    """
    if found.directions.shape[1] != width:
        raise InputError(
            expected=f"directions of width {width}, the width of {model}",
            got=f"width {found.directions.shape[1]}",
            remedy="pass the model on which they were found",
        )
    if found.latents is not None:
        return
    recorded = found.config.get("weights_sha256")
    if recorded != weights_sha256 and not allow_other_model:
        raise InputError(
            expected=f"directions found on the weights of {model} (sha256 {weights_sha256[:12]}…)",
            got=f"directions of {found.config.get('model')!r} (sha256 {str(recorded)[:12]}…)",
            remedy="pass that model, or --allow-other-model to score them here all the same",
        )
