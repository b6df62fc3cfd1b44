"""What is known of a network's weights before they are used: that all are there, that they are finite, which they are.

Their digest is what directions are bound to. It is taken of the parameters, each once, by name, as float32: it does not
depend on the files they came in (one or many, safetensors or not, tied weights written once or twice), nor on buffers,
which come and go with versions of the library, nor on the dtype asked for, nor on folding.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sensverify.errors import InputError

_BLOCK = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.")
"""A block's number in the name of one of its weights."""


def check_complete(loaded: Mapping[str, Any], depth: int, name: str) -> None:
    """Refuse what lacks a weight, which would be filled in at random, or has blocks that the configuration leaves out.

    ``loaded``: what the library tells of its loading. Raises :class:`~sensverify.errors.InputError`.
    """
    missing = sorted(loaded.get("missing_keys", ()))
    if missing:
        raise InputError(
            expected=f"all weights of {name}, as its config.json describes it",
            got=f"{len(missing)} missing, first {missing[0]}",
            remedy="fetch or export the weights again",
        )
    beyond = [key for key in loaded.get("unexpected_keys", ()) if (m := _BLOCK.search(key)) and int(m[1]) >= depth]
    if beyond:
        raise InputError(
            expected=f"weights of the {depth} blocks that config.json of {name} names",
            got=f"{len(beyond)} weights of further blocks, first {min(beyond)}",
            remedy="use the config.json that belongs to the weights",
        )


def check_finite(network: nn.Module, name: str) -> None:
    """Refuse weights that hold NaN or infinity, naming the first such tensor."""
    for key, value in network.named_parameters():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise InputError(
                expected=f"finite weights in {name}",
                got=f"{bad} NaN or infinite values in {key}",
                remedy="fetch or export the weights again",
            )


def weights_digest(network: nn.Module) -> str:
    """sha256 over names, shapes and values of all parameters as float32, in the order of names; hexadecimal."""
    digest = hashlib.sha256()
    for key, value in sorted(network.named_parameters(), key=lambda pair: pair[0]):
        digest.update(f"{key}{tuple(value.shape)}{torch.float32}".encode())
        digest.update(_bytes(value.detach().float()))
    return digest.hexdigest()


def cast(network: Any, dtype: torch.dtype) -> None:
    """Round the parameters to ``dtype``, in place; buffers stay, rotary frequencies being float32 in any network."""
    for parameter in network.parameters():
        parameter.data = parameter.data.to(dtype)
    network.config.dtype = dtype


def _bytes(value: Tensor) -> bytes:
    return value.cpu().contiguous().view(torch.uint8).numpy().tobytes() if value.numel() else b""
