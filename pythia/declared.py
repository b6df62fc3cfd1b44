"""What a model's config.json declares, held against its files before a network is built of it.

A configuration that does not belong to the weights describes another network, of any size: one of the wrong family
gets the defaults of that family, billions of weights, which the library would then fill in at random. So the network
is described first without any memory for it (on torch's meta device), and the names and shapes of its weights are held
against those in the headers of the files.

Names are compared as the library does: with or without the prefix of the headless network, tied weights being there
once at least. Weights that are missing under their names may be there under others, which the library knows of; that is
left to it as long as the files have tensors of these shapes, or so many numbers, to spare.
"""

from __future__ import annotations

import json
import math
import types
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pythia.architectures import SUPPORTED, check_config
from sensverify.errors import InputError

Shapes = Mapping[str, tuple[int, ...]]

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Where weights are looked for, in this order: one file, or the list of several."""
COMPLETE = "check that the folder is complete and readable"
BELONGING = "use the config.json that belongs to the weights"


def read_settings(path: Path, name: str) -> dict[str, Any]:
    """What config.json holds. Raises :class:`~sensverify.errors.InputError` for no JSON object of a known family."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(expected=f"config.json of {name} as JSON", got=reason, remedy=COMPLETE) from error
    kind = settings.get("model_type") if isinstance(settings, dict) else None
    if not isinstance(kind, str):
        got = f"model_type {kind!r}" if isinstance(settings, dict) else "no JSON object"
        raise InputError(
            expected=f"config.json of {name} with a model_type out of {', '.join(SUPPORTED)}",
            got=got,
            remedy="fetch or export the model again, config.json among it",
        )
    if kind not in SUPPORTED:  # told before the library is asked, which knows other families, but not all
        check_config(types.SimpleNamespace(model_type=kind), name)
    return dict(settings)


def check_sizes(config: Any, activations: Mapping[str, Any], name: str) -> None:
    """Refuse a width that the heads do not divide, no blocks, and an activation that the library does not have."""
    names = getattr(config, "attribute_map", {})
    width, heads = int(config.hidden_size), int(config.num_attention_heads)
    if heads < 1 or (getattr(config, "head_dim", None) is None and width % heads):
        fields = [names.get(field, field) for field in ("hidden_size", "num_attention_heads")]
        raise InputError(
            expected=f"{fields[0]} in config.json of {name} divisible by {fields[1]}",
            got=f"{width} and {heads}",
            remedy=BELONGING,
        )
    if int(config.num_hidden_layers) < 1:
        raise InputError(
            expected=f"one block at least in config.json of {name}",
            got=f"{names.get('num_hidden_layers', 'num_hidden_layers')} = {config.num_hidden_layers}",
            remedy=BELONGING,
        )
    for field in ("hidden_act", "activation_function"):
        activation = getattr(config, field, None)
        if activation is not None and activation not in activations:
            raise InputError(
                expected=f"an activation that the library transformers has, such as 'gelu', as {field} in config.json "
                f"of {name}",
                got=repr(activation),
                remedy="correct the name, or use a model without it",
            )


def weight_files(fetch: Callable[[str], Path | None], where: str, remedy: str = COMPLETE) -> list[Path]:
    """The files that the weights are in. ``fetch``: a file of the model by its name, None if there is none.

    ``where``, ``remedy``: where they are looked for, and what helps if they are not there, in words.
    Raises :class:`~sensverify.errors.InputError` for no weights, an unreadable list, and a file that the list names
    and that is not there.
    """
    for known in WEIGHTS:
        path = fetch(known)
        if path is None:
            continue
        if not known.endswith(".json"):
            return [path]
        shards = _shards(path, where)
        with ThreadPoolExecutor(8) as pool:  # they may have to be downloaded
            found = list(pool.map(fetch, shards))
        missing = [shard for shard, file in zip(shards, found, strict=True) if file is None]
        if missing:
            raise InputError(
                expected=f"{len(shards)} files of weights in {where}, as {known} lists them",
                got=f"{len(missing)} missing, first {missing[0]}",
                remedy=remedy,
            )
        return [file for file in found if file is not None]
    raise InputError(
        expected=f"weights in {where}, as safetensors or as .bin files of tensors alone",
        got=f"none of {', '.join(WEIGHTS)}",
        remedy=remedy,
    )


def _shards(path: Path, where: str) -> list[str]:
    try:
        shards = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        if shards and all(isinstance(shard, str) and Path(shard).name == shard for shard in shards):
            return shards
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        pass
    raise InputError(
        expected=f"{path.name} in {where} with a weight_map from weights to files beside it",
        got="something else",
        remedy=COMPLETE,
    )


def read_shapes(files: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights in files, none of which is read into memory. Raises what the readers raise."""
    return {key: shape for path in files for key, shape in _shapes(path)}


def _shapes(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    if path.suffix == ".safetensors":
        import safetensors

        with safetensors.safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 (it is no mapping)
                yield key, tuple(file.get_slice(key).get_shape())
        return
    # The reader of tensors alone; only a file of the newer kind, an archive, can be left on the disk meanwhile.
    tensors = torch.load(path, map_location="meta", weights_only=True, mmap=zipfile.is_zipfile(path))
    for key, value in tensors.items():
        if isinstance(value, torch.Tensor):
            yield key, tuple(value.shape)


def check_declared(describe: Callable[[int], nn.Module], depth: int, held: Shapes, name: str) -> None:
    """Refuse a network of ``depth`` blocks whose weights are not those in the files, naming the first that differs.

    ``describe``: builds it with so many blocks. ``held``: names and shapes in the files. Raises
    :class:`~sensverify.errors.InputError`, and whatever ``describe`` raises; it is called under torch's meta device,
    for no more blocks than there are tensors: even the description of a block takes memory.
    """
    with torch.device("meta"):
        network = describe(max(1, min(depth, len(held))))
    _compare(network, held, name, at_least="at least " if depth > len(held) else "")
    if depth > len(held):
        raise InputError(
            expected=f"weights of the {depth} blocks that config.json of {name} names",
            got=f"{len(held)} tensors in all",
            remedy=BELONGING,
        )


def _compare(network: nn.Module, held: Shapes, name: str, at_least: str) -> None:
    prefix = f"{getattr(network, 'base_model_prefix', '')}."
    groups: dict[int, list[tuple[str, nn.Parameter]]] = {}
    for key, parameter in network.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append((key, parameter))
    missing: list[tuple[str, nn.Parameter]] = []
    used = set()
    for tied in groups.values():
        present = False
        for key, parameter in tied:
            stored = key if key in held else key.removeprefix(prefix)
            if stored not in held:
                continue
            present = True
            used.add(stored)
            if held[stored] != tuple(parameter.shape):
                raise InputError(
                    expected=f"{stored} of shape {list(parameter.shape)} in the weights of {name}, as its config.json "
                    "describes them",
                    got=f"shape {list(held[stored])}",
                    remedy=BELONGING,
                )
        if not present:
            missing.append(tied[0])
    spare = {key: shape for key, shape in held.items() if key not in used}
    lost = []
    for key, parameter in missing:  # of the shape of one to spare: the library may know it under that name
        twin = next((other for other, shape in spare.items() if shape == tuple(parameter.shape)), None)
        if twin is None:
            lost.append((key, parameter))
        else:
            del spare[twin]
    if sum(parameter.numel() for _, parameter in lost) > sum(map(math.prod, spare.values())):
        key, parameter = lost[0]
        other = next((f"; there is {key} of shape {list(shape)}" for key, shape in spare.items()), "")
        raise InputError(
            expected=f"all weights of {name}, as its config.json describes it",
            got=f"{at_least}{len(lost)} missing, first {key} of shape {list(parameter.shape)}{other}",
            remedy=f"fetch or export the weights again, or {BELONGING}",
        )
