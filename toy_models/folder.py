"""A toy model as a folder that anyone can make: plant features of your own and see whether they are found.

- ``toy.json``: ``{"schema": 1, "kind": "superposition", "density": 0.01}``, and, if wanted, the other fields of
  :class:`~toy_models.features.SuperpositionConfig` (``correlation``, ``group``, ``signed``, ``norm``; training's only
  describe), ``seed``, ``loss``, ``loss_of_zero``, ``loss_change``, and ``planted``: if false, the model was trained and
  features no longer than 0.5 do not count, since it gave them up (if not given, true: all count).
- ``toy.safetensors``: ``features [n, d]``, what each feature writes, of any length but 0: twice the length is written
  twice as strongly; ``readout [n, d]``, what each unit reads (if not given, ``features``); ``bias [n]`` (if not, 0).

The model is ``h = featuresᵀ x`` and ``ReLU(readout · h + bias)`` (see :mod:`toy_models.superposition` for ``norm`` and
``signed``). Whatever cannot be such a model is refused with one line.
"""

from __future__ import annotations

import dataclasses
import json
import math
import reprlib
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.errors import InputError
from sensverify.files import make_directory, write_atomically
from sensverify.geometry import Centring, gram, random_directions
from toy_models.features import LARGEST, SuperpositionConfig
from toy_models.superposition import SuperpositionModel, SuperpositionReadout
from toy_models.training import normed

DESCRIPTION, TENSORS = "toy.json", "toy.safetensors"
SCHEMA, KIND = 1, "superposition"
SHORTEST = 1e-12
"""A feature shorter than this counts as zero: the square of its length is lost in float32."""
SAMPLE = 512
"""Over so many contexts :func:`explain` takes its means."""

_CONFIG = {field.name for field in dataclasses.fields(SuperpositionConfig)} - {"features", "width"}
_FIGURES = ("loss", "loss_of_zero", "loss_change")
_FIELDS = {"schema", "kind", "seed", "planted", *_CONFIG, *_FIGURES}
_NAMES = {"features", "readout", "bias"}


def is_toy_folder(path: Path) -> bool:
    """Whether ``path`` is a folder with a ``toy.json``; it may still be refused."""
    return (path / DESCRIPTION).is_file()


def save_toy(folder: Path, model: SuperpositionModel) -> None:
    """Write ``model`` to ``folder``, which is made if need be; the description last, so that none is half-written.

    Raises :class:`~sensverify.errors.InputError` when the folder cannot be written or the disk is full.
    """
    tensors = {"features": model.weights.T, "bias": model.bias}
    if model.reading is not None:
        tensors["readout"] = model.reading.T
    description = {
        "schema": SCHEMA,
        "kind": KIND,
        **{name: value for name, value in model.config.to_json().items() if name in _CONFIG},
        "seed": model.seed,
        "planted": model.planted,
        **{name: getattr(model, name) for name in _FIGURES if math.isfinite(getattr(model, name))},
    }
    make_directory(folder)
    (folder / DESCRIPTION).unlink(missing_ok=True)
    payload = safetensors.torch.save(
        {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    )
    write_atomically(folder / TENSORS, payload)
    write_atomically(folder / DESCRIPTION, json.dumps(description, indent=1) + "\n")


def load_toy(folder: Path) -> SuperpositionModel:
    """The model in ``folder``.

    Raises :class:`~sensverify.errors.InputError` for a missing or unreadable file, for fields and tensors that are
    unknown, missing or of the wrong type or shape, for NaN or infinity, and for a feature that is zero (behind a
    LayerNorm: parallel to the all-ones vector).
    """
    description = _description(folder / DESCRIPTION)
    tensors = _tensors(folder / TENSORS)
    features = tensors["features"]
    count, width = features.shape
    fields = {name: value for name, value in description.items() if name in _CONFIG}
    try:
        config = SuperpositionConfig(**{"steps": 0, **fields}, features=count, width=width)
    except InputError as error:
        raise _refusal(error.expected, f"{error.got} in {folder / DESCRIPTION}") from error
    seen = (Centring.MEAN if config.norm == "layer" else Centring.NONE).project(features)
    lengths, scale = seen.norm(dim=1), features.norm(dim=1)
    if not bool(torch.isfinite(scale).all()):
        raise _refusal("features whose length is a number in float32", f"overflow in {folder / TENSORS}")
    vanished = (lengths <= SHORTEST) | (lengths <= 1e-6 * scale)
    if bool(vanished.any()):
        behind = " behind a LayerNorm, which takes the mean off" if config.norm == "layer" else ""
        which = int(vanished.int().argmax())
        raise _refusal(f"features of some length{behind}", f"feature {which} of length {float(lengths[which]):.3g}")
    readout = tensors.get("readout")
    return SuperpositionModel(
        config=config,
        seed=description.get("seed", 0),
        weights=features.T.contiguous(),
        bias=tensors.get("bias", torch.zeros(count)),
        **{name: float(description.get(name, math.nan)) for name in _FIGURES},
        reading=None if readout is None else readout.T.contiguous(),
        planted=description.get("planted", True),
    )


def toy_given(run: Run) -> SuperpositionModel | None:
    """The model in the folder given as ``--model``; None if that is no toy model folder.

    Raises :class:`~sensverify.errors.InputError` as :func:`load_toy` does, for a model that has given up all its
    features, and for a folder that the run itself will write.
    """
    folder = Path(run.subject.model)
    try:
        if not is_toy_folder(folder):
            return None
    except OSError:  # a name that no file can have, or a folder that may not be read
        return None
    if (run.directory / "planted").resolve() in folder.resolve().parents:
        raise InputError(
            expected="a toy model that this run does not write itself",
            got=str(folder),
            remedy="copy the folder elsewhere, or pass another --out",
        )
    model = run.shared("toy_models.folder.given", lambda: load_toy(folder))
    if not bool(model.represented.any()):
        raise _refusal("features longer than 0.5, or a planted model, in which all count", f"none in {folder}")
    return model


def plant(
    features: int,
    width: int,
    seed: int,
    density: float,
    *,
    threshold: float = 0.0,
    **families: Any,
) -> SuperpositionModel:
    """A model that nobody trained: random unit features, read by themselves, ``bias = −threshold``.

    Features are uniform on the sphere (behind a LayerNorm, on that of centred vectors). ``families`` are further fields
    of :class:`~toy_models.features.SuperpositionConfig`: ``correlation``, ``group``, ``signed``, ``norm``. Raises
    :class:`~sensverify.errors.InputError` for values that make no model.
    """
    if not math.isfinite(threshold):
        raise _refusal("a threshold that is a number", repr(threshold))
    config = SuperpositionConfig(features=features, width=width, density=density, **{"steps": 0, **families})
    centring = Centring.MEAN if config.norm == "layer" else Centring.NONE
    directions = random_directions(features, width, centring, torch.Generator().manual_seed(seed))
    return SuperpositionModel(
        config=config,
        seed=seed,
        weights=directions.T.contiguous(),
        bias=torch.full((features,), -float(threshold)),
        loss=math.nan,
        loss_of_zero=math.nan,
        planted=True,
    )


def explain(model: SuperpositionModel) -> dict[str, Any]:
    """What makes features hard to find, as plain JSON.

    ``coherence``: the largest cosine between two features, and the mean over features of that to the nearest other one.
    ``reading``: cosine between what a feature writes and what its unit reads. ``threshold``: minus the median bias over
    the root mean square of what units see before it, and the share of units that fire.
    """
    features, config = model.feature_directions, model.config
    count, width = len(features), config.width
    overlap = gram(features).fill_diagonal_(-1.0).max(dim=1).values if count > 1 else torch.zeros(1)
    readings = model.weights if model.reading is None else model.reading
    seen_reading = model.centring.project(readings.T)[model.represented]
    agreement = torch.nn.functional.cosine_similarity(seen_reading, features, dim=1)
    hidden = SuperpositionReadout(model).sample(SAMPLE, torch.Generator().manual_seed(0)).x
    seen = normed(config, hidden) @ readings
    typical = float(seen.square().mean().sqrt())
    return {
        "features": count,
        "width": width,
        "density": config.density,
        "load": {
            "features_per_dimension": count / width,
            "features_over_d(d+2)/3": 3 * count / (width * (width + 2)),
        },
        "coherence": {"largest": float(overlap.max()), "mean_nearest": float(overlap.mean())},
        "lengths": _spread(model.columns[model.represented].norm(dim=1)),
        "reading": _spread(agreement),
        "threshold": {
            "over_typical_preactivation": -float(model.bias.median()) / typical if typical > 0 else None,
            "share_of_units_firing": float((seen + model.bias > 0).double().mean()),
        },
    }


def _description(path: Path) -> dict[str, Any]:
    """The fields of ``toy.json``; those of a configuration are checked later."""
    try:
        found = json.loads(_content(path).decode())
    except (ValueError, RecursionError) as error:  # neither text nor JSON, a number of too many digits, too deep
        raise _refusal("JSON", f"{path}, which is not ({error})") from error
    if not isinstance(found, dict):
        raise _refusal("a JSON object", f"{type(found).__name__} in {path}")
    if type(found.get("schema")) is not int or found["schema"] != SCHEMA:
        raise _refusal(f'"schema": {SCHEMA}', f"{reprlib.repr(found.get('schema'))} in {path}")
    if found.get("kind") != KIND:
        raise _refusal(f'"kind": "{KIND}"', f"{reprlib.repr(found.get('kind'))} in {path}")
    unknown = sorted(found.keys() - _FIELDS)
    if unknown:
        raise _refusal(f"no other fields than {', '.join(sorted(_FIELDS))}", f"{reprlib.repr(unknown)} in {path}")
    if "density" not in found:
        raise _refusal('"density", how often a feature is active', f"none in {path}")
    seed = found.get("seed", 0)
    if type(seed) is not int or not 0 <= seed < 2**62:
        raise _refusal("a seed, a whole number from 0", f"{reprlib.repr(seed)} in {path}")
    planted = found.get("planted", True)
    if not isinstance(planted, bool):
        raise _refusal("planted, true or false", f"{reprlib.repr(planted)} in {path}")
    for name in _FIGURES:
        value = found.get(name, 0.0)
        if type(value) not in (int, float) or not abs(value) < LARGEST:
            raise _refusal(f"{name}, a number", f"{reprlib.repr(value)} in {path}")
    return found


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of ``toy.safetensors`` in float32, of fitting shapes and finite."""
    content = _content(path)
    try:
        found = safetensors.torch.load(content)
    except Exception as error:  # whatever the library makes of damaged bytes, of a header it does not know
        raise _refusal("a safetensors file", f"{path}, which is not ({error})") from error
    unknown = sorted(found.keys() - _NAMES)
    if unknown:
        raise _refusal(f"no other tensors than {', '.join(sorted(_NAMES))}", f"{reprlib.repr(unknown)} in {path}")
    if "features" not in found:
        raise _refusal("a tensor features [n, d]", f"none in {path}")
    shape = tuple(found["features"].shape)
    if len(shape) != 2 or shape[0] < 1 or shape[1] < 2:
        raise _refusal("features [n, d], n at least 1, d at least 2", f"shape {list(shape)} in {path}")
    wanted = {"features": shape, "readout": shape, "bias": shape[:1]}
    for name, tensor in found.items():
        if tuple(tensor.shape) != wanted[name]:
            got = f"shape {list(tensor.shape)} in {path}"
            raise _refusal(f"{name} {list(wanted[name])}, to fit features {list(shape)}", got)
        if not tensor.is_floating_point():
            raise _refusal(f"{name} in floating point", f"{tensor.dtype} in {path}")
        if not bool(torch.isfinite(tensor.float()).all()):
            raise _refusal(f"finite numbers in {name}", f"NaN, or infinity in float32, in {path}")
    return {name: tensor.float() for name, tensor in found.items()}


def _spread(values: Tensor) -> dict[str, float]:
    return {"least": float(values.min()), "median": float(values.median()), "largest": float(values.max())}


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _refusal(f"a file {path}", error.strerror or type(error).__name__) from error


def _refusal(expected: str, got: str) -> InputError:
    return InputError(expected=expected, got=got, remedy="correct the toy model; toy_models/folder.py says what it is")
