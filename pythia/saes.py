"""Published autoencoders against a language model: which of its layers they read, and whether they fit it.

The layouts on disk are the kernel's business (:mod:`sensverify.sae_layouts`); here a place in the words of its
author becomes a block of the model at hand. What can be checked is checked: the width and the number of blocks. How
much of the model's own activations the autoencoder explains is reported, since one of another model of the same width
explains nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from pythia.readout import LanguageModelReadout
from sensverify.errors import InputError
from sensverify.sae_layouts import Location, choose, locate, read_sae
from sensverify.saes import Sae

__all__ = ["available", "choose", "locate", "positions", "read_for", "read_sae"]


def available(path: Path, depth: int) -> Mapping[int, Location]:
    """The autoencoders in ``path`` by the block after whose output they lie, of a model with ``depth`` blocks.

    One of which nothing says where it belongs stands for every block. Raises
    :class:`~sensverify.errors.InputError` where none lies on the residual stream after a block that has a next one.
    """
    found = locate(path)
    layers = range(depth - 1)
    if len(found) == 1 and found[0].hook is None:
        return dict.fromkeys(layers, found[0])
    fitting = sorted({one.layer for one in found if one.layer in layers and one.layer is not None})
    if not fitting:
        raise InputError(
            expected=f"a hook on the residual stream after block 0 to {depth - 2}, such as "
            f"blocks.0.hook_resid_post or layers.{depth - 2}",
            got=", ".join(sorted(one.name for one in found)),
            remedy="pass --sae with an autoencoder of the residual stream of this model",
        )
    return {layer: choose(path, layer) for layer in fitting}


def read_for(location: Location, width: int, model: str) -> Sae:
    """The autoencoder at ``location``, of a model of this ``width``.

    Raises :class:`~sensverify.errors.InputError` for another width, and as :func:`sensverify.sae_layouts.read_sae`.
    """
    sae = read_sae(location)
    if sae.width != width:
        raise InputError(
            expected=f"an autoencoder of width {width}, the width of {model}",
            got=f"width {sae.width} in {location.file}",
            remedy="pass --sae with an autoencoder of this model, or --model with the model of this autoencoder",
        )
    return sae


def positions(readout: LanguageModelReadout) -> Iterator[Tensor]:
    """The activations ``[n, d]`` of all windows at every position that may be intervened on, a few at a time."""
    start = 0
    for block in readout.residual_blocks():
        yield torch.as_tensor(block)[readout.counted[start : start + len(block)].to(block.device)]
        start += len(block)
