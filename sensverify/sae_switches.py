"""Switches in the configurations of published autoencoders that change what is computed, and are not known here.

An autoencoder that is read as if a switch were off explains something else than its author meant, and nobody would see
it. So every such switch is refused by name, with what is known instead; switches of the training alone (losses,
warm-ups, multiples of ``k`` that are no part of what was kept) are nobody's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Refused = tuple[str, str]
"""What is expected, and what came."""

DICTIONARIES = (
    "AutoEncoder", "AutoEncoderNew", "AutoEncoderTopK", "BatchTopKSAE", "GatedAutoEncoder", "JumpReluAutoEncoder",
    "MatryoshkaBatchTopKSAE",
)  # fmt: skip


def unknown_switch(layout: str, config: Mapping[str, Any], *, latents: int, width: int) -> Refused | None:
    """The first thing in ``config`` that cannot be honoured or is at odds with a decoder ``[latents, width]``."""
    return next(_READERS[layout](config, latents, width), None)


def _sae_lens(config: Mapping[str, Any], latents: int, width: int) -> Iterator[Refused]:
    for name in ("activation_fn", "activation_fn_str"):
        yield from _one_of(config, name, (None, "relu", "topk"))
    yield from _one_of(config, "reshape_activations", (None, "none"))
    for name in ("finetuning_scaling_factor", "hook_head_index"):
        yield from _off(config, name)
    yield from _off(config.get("metadata"), "hook_head_index")
    yield from _size(config, "d_in", width)
    yield from _size(config, "d_sae", latents)
    arguments = config.get("activation_fn_kwargs")
    for options in (config, arguments if isinstance(arguments, dict) else {}):
        yield from _count(options, "k")


def _sparsify(config: Mapping[str, Any], latents: int, width: int) -> Iterator[Refused]:
    yield from _one_of(config, "activation", (None, "topk"))
    for name in ("signed", "skip_connection", "transcode"):
        yield from _off(config, name)
    yield from _size(config, "d_in", width)
    if config.get("num_latents"):  # 0: as many as the expansion factor says
        yield from _size(config, "num_latents", latents)
    yield from _count(config, "k")


def _dictionary_learning(config: Mapping[str, Any], latents: int, width: int) -> Iterator[Refused]:
    trainer = config.get("trainer")
    options: Mapping[str, Any] = trainer if isinstance(trainer, dict) else config
    named = options.get("dict_class")
    if named is not None:
        bare = str(named).rstrip("'>").rpartition(".")[2]
        if bare not in DICTIONARIES:
            yield f"a dict_class out of {', '.join(DICTIONARIES)}", repr(named)
    yield from _size(options, "activation_dim", width)
    yield from _size(options, "dict_size", latents)
    yield from _count(options, "k")


_READERS: Mapping[str, Callable[[Mapping[str, Any], int, int], Iterator[Refused]]] = {
    "SAELens": _sae_lens,
    "sparsify": _sparsify,
    "dictionary_learning": _dictionary_learning,
}


def _one_of(config: Mapping[str, Any], name: str, known: tuple[str | None, ...]) -> Iterator[Refused]:
    value = config.get(name)
    if value not in known:
        yield f"{name} out of {', '.join(filter(None, known))}", repr(value)


def _off(config: Any, name: str) -> Iterator[Refused]:
    value = config.get(name) if isinstance(config, dict) else None
    if value is not None and value is not False:
        yield f"{name} switched off, for what it does is not known here,", repr(value)


def _size(config: Mapping[str, Any], name: str, actual: int) -> Iterator[Refused]:
    told = config.get(name)
    if told is not None and (isinstance(told, bool) or told != actual):
        yield f"{name} {actual}, as its decoder has it,", repr(told)


def _count(config: Mapping[str, Any], name: str) -> Iterator[Refused]:
    told = config.get(name)
    if isinstance(told, float) and not told.is_integer():
        yield f"a whole number {name}", repr(told)
