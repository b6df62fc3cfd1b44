"""Sparse autoencoders on disk, in the three layouts in use.

- *SAELens*: ``sae_weights.safetensors`` beside ``cfg.json``; ``W_enc [d, K]``, ``b_enc``, ``W_dec [K, d]``, ``b_dec``,
  with ``threshold`` (JumpReLU) or ``b_gate``, ``r_mag``, ``b_mag`` (gated).
- *sparsify*: a folder for each hook (``layers.2``, ``layers.2.mlp``) with ``sae.safetensors`` and ``cfg.json``;
  ``encoder.weight [K, d]``, ``encoder.bias``, ``W_dec [K, d]``, ``b_dec``; TopK.
- *dictionary_learning*: ``ae.pt``, with or without ``config.json``; ``encoder.weight [K, d]``, ``encoder.bias``,
  ``decoder.weight [d, K]`` and ``bias`` or ``b_dec``; or names as SAELens has them. A pickle can run whatever its
  author likes, so it is opened with ``weights_only=True``, which builds tensors and nothing else.

What does not fit is refused in one line. Only the residual stream after a block counts as a place: that is where one
intervenes.
"""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import safetensors.torch
import torch
from torch import Tensor

from sensverify.errors import InputError
from sensverify.sae_switches import unknown_switch
from sensverify.saes import NORMALISATIONS, Activation, Normalisation, Sae

FILES: Mapping[str, str] = {
    "sae_weights.safetensors": "SAELens",
    "sae.safetensors": "sparsify",
    "ae.pt": "dictionary_learning",
}
CONFIGS: Mapping[str, str] = {"SAELens": "cfg.json", "sparsify": "cfg.json", "dictionary_learning": "config.json"}
DEEPEST = 4
"""So many folders below the one given are looked into."""
LONGEST_NAME = 80
REMEDY = "pass a folder in the layout of SAELens, sparsify or dictionary_learning, as it was published"

_AFTER = re.compile(
    r"^(?:blocks\.(\d{1,6})\.hook_resid_post|(?:[a-z_]+\.)?(?:layers|h)\.(\d{1,6})|resid_(?:post|out)_layer_?(\d{1,6}))$"
)
_ELSEWHERE = re.compile(r"_layer_?\d+$|^embed$")
_BEFORE = re.compile(r"^blocks\.(\d{1,6})\.hook_resid_pre$")
_NUMBERS = frozenset(
    {torch.float16, torch.bfloat16, torch.float32, torch.float64}
    | {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Location:
    """One autoencoder on disk; ``hook`` and ``layer`` are None where nothing says."""

    file: Path
    layout: str
    hook: str | None
    layer: int | None
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The hook, or else the folder, to be shown: no longer than fits on a line."""
        name = self.hook or self.file.parent.name
        return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"

    @property
    def on_stream(self) -> bool:
        """Whether it is known to lie on the residual stream after a block."""
        return self.layer is not None and self.layer >= 0


def layer_of(hook: str) -> int | None:
    """The block after whose output a hook lies, -1 for the embedding; None if it is not on the residual stream.

    >>> layer_of("blocks.3.hook_resid_post"), layer_of("blocks.3.hook_resid_pre"), layer_of("layers.3.mlp")
    (3, 2, None)
    """
    if after := _AFTER.match(hook):
        return int(next(number for number in after.groups() if number is not None))
    before = _BEFORE.match(hook)
    return int(before.group(1)) - 1 if before else None


def holds_sae(path: Path) -> bool:
    """Whether a file or folder is meant as an autoencoder."""
    return bool(_files(path))


def locate(path: Path) -> list[Location]:
    """Every autoencoder in ``path``: a file of one, its folder, or a folder of such folders.

    Raises :class:`~sensverify.errors.InputError` where there is none and for a configuration that cannot be read.
    """
    found = [_location(file) for file in _files(path)]
    if not found:
        _refuse(f"a sparse autoencoder ({', '.join(FILES)})", f"{path}, {'none in it' if path.exists() else 'missing'}")
    return found


def choose(path: Path, layer: int | None = None) -> Location:
    """The autoencoder in ``path`` on the residual stream after block ``layer``; the only one, if no layer is given.

    An autoencoder of which nothing says where it belongs is taken at its owner's word. Raises
    :class:`~sensverify.errors.InputError` for a hook that is not there or not on the residual stream, naming those that
    are, and where it is not clear which is meant.
    """
    found = locate(path)
    fitting = [one for one in found if one.on_stream and layer in (None, one.layer)]
    if not fitting:
        fitting = [one for one in found if one.hook is None]
    if len(fitting) == 1:
        return fitting[0]
    there = {one.layer: one.name for one in found if one.on_stream}
    if not fitting and there:
        valid = ", ".join(f"{number} ({name})" for number, name in sorted(there.items()))
        raise InputError(
            expected=f"the layer of an autoencoder on the residual stream that is here: {valid}",
            got=str(layer),
            remedy="pass one of these, with a model that has it, or another folder",
        )
    if not fitting:
        raise InputError(
            expected=f"a hook on the residual stream after {'a block' if layer is None else f'block {layer}'}",
            got=", ".join(sorted(one.name for one in found)),
            remedy="pass another folder",
        )
    raise InputError(
        expected="one autoencoder",
        got=f"{len(fitting)} of them: {', '.join(sorted(_relative(one, path) for one in fitting))}",
        remedy="pass --layer, or the folder of one of them",
    )


def read_sae(location: Location) -> Sae:
    """The autoencoder at ``location``.

    Raises :class:`~sensverify.errors.InputError` for a file that is damaged, is more than tensors, lacks some, has
    others of wrong shape or values that are not finite, and for a switch of its author's that is not known here.
    """
    tensors = _tensors(location)
    readers = {"SAELens": _sae_lens, "sparsify": _sparsify, "dictionary_learning": _dictionary_learning}
    sae = readers[location.layout](_Parts(location, tensors), location.config)
    description = {
        "layout": location.layout,
        "hook": location.hook,
        "activation": sae.activation.kind,
        "normalisation": sae.normalisation,
        "bias_off_input": sae.bias_off_input,
        "latents": len(sae.decoder),
        "model": _model(location.config),
    }
    return dataclasses.replace(sae, hook=location.hook, layer=location.layer, description=description)


class _Parts:
    """The tensors of a file, asked for by name and shape."""

    def __init__(self, location: Location, tensors: Mapping[str, Tensor]) -> None:
        self.location, self.tensors = location, tensors
        self.latents = self.width = 0

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def decoder(self, name: str, *, transposed: bool = False) -> Tensor:
        """The decoder ``[K, d]``, which fixes both numbers."""
        matrix = self._named(name)
        if matrix.ndim != 2 or 0 in matrix.shape:
            self.refuse(f"{name} as a matrix", f"shape {list(matrix.shape)}")
        matrix = matrix.T.contiguous() if transposed else matrix
        self.latents, self.width = matrix.shape
        lengths = matrix.norm(dim=1)
        if not bool((lengths > 0).any()):
            self.refuse(f"{name} with values other than zero", "zeros")
        if not bool(torch.isfinite(lengths).all()):
            self.refuse(f"{name} with rows of finite length", "a length past float32")
        return matrix

    def check(self, config: Mapping[str, Any]) -> None:
        """Refuse a configuration at odds with the decoder, or with a switch that is not known."""
        refused = unknown_switch(self.location.layout, config, latents=self.latents, width=self.width)
        if refused is not None:
            self.refuse(*refused)

    def matrix(self, name: str, *, transposed: bool = False) -> Tensor:
        """Like the decoder, ``[K, d]``; stored ``[d, K]`` if ``transposed``."""
        shape = (self.width, self.latents) if transposed else (self.latents, self.width)
        value = self._shaped(name, shape)
        return value.T.contiguous() if transposed else value

    def latent(self, name: str) -> Tensor:
        """``[K]``."""
        return self._shaped(name, (self.latents,))

    def vector(self, name: str) -> Tensor:
        """``[d]``."""
        return self._shaped(name, (self.width,))

    def single(self, name: str) -> Tensor | None:
        """``[1]``: the number under this name; None where there is no tensor, or one of more numbers."""
        return self._named(name).reshape(1) if name in self and self.tensors[name].numel() == 1 else None

    def _shaped(self, name: str, shape: tuple[int, ...]) -> Tensor:
        value = self._named(name)
        if tuple(value.shape) != shape:
            self.refuse(f"{name} of shape {list(shape)}", f"shape {list(value.shape)}")
        return value

    def _named(self, name: str) -> Tensor:
        if name not in self.tensors:
            self.refuse(f"a tensor {name}", f"only {', '.join(sorted(self.tensors)) or 'none'}")
        stored = self.tensors[name]
        if stored.dtype not in _NUMBERS or stored.layout is not torch.strided or stored.is_nested or stored.is_meta:
            kind = f"{str(stored.dtype).removeprefix('torch.')}, {str(stored.layout).removeprefix('torch.')}"
            self.refuse(f"{name} as a dense tensor of real numbers", kind)
        value = stored.float()
        if not bool(torch.isfinite(value).all()):
            self.refuse("finite weights", f"NaN or infinity in {name}")
        return value

    def refuse(self, expected: str, got: str) -> NoReturn:
        """In one line, with the file's name."""
        _refuse(f"{expected} in {self.location.file.name}", f"{got} ({self.location.file})")


def _sae_lens(parts: _Parts, config: Mapping[str, Any]) -> Sae:
    decoder = parts.decoder("W_dec")
    parts.check(config)
    kind = str(config.get("architecture", "standard"))
    arguments = config.get("activation_fn_kwargs")
    k = config.get("k", arguments.get("k") if isinstance(arguments, dict) else None)
    topk = kind == "topk" or str(config.get("activation_fn_str", config.get("activation_fn"))) == "topk"
    if kind not in ("standard", "topk", "jumprelu", "gated"):
        parts.refuse("an architecture out of standard, topk, jumprelu, gated", repr(kind))
    if kind == "gated":
        bias = parts.latent("b_mag")
        activation = Activation(kind="gated", gate_bias=parts.latent("b_gate"), log_magnitude=parts.latent("r_mag"))
    else:
        bias = parts.latent("b_enc")
        activation = _activation(parts, k=k if topk else None, jump=kind == "jumprelu")
    normalisation, scale = _normalisation(parts, config)
    options = config.get("model_from_pretrained_kwargs")
    encoder = parts.matrix("W_enc", transposed=True)
    if config.get("rescale_acts_by_decoder_norm"):  # what is compared by the k largest is how much each writes
        lengths = decoder.norm(dim=1).clamp_min(1e-30)
        encoder, bias, decoder = encoder * lengths[:, None], bias * lengths, decoder / lengths[:, None]
    return Sae(
        encoder=encoder,
        encoder_bias=bias,
        decoder=decoder,
        decoder_bias=parts.vector("b_dec"),
        activation=activation,
        bias_off_input=bool(config.get("apply_b_dec_to_input", True)),
        normalisation=normalisation,
        centred_input=bool(options.get("center_writing_weights", False)) if isinstance(options, dict) else False,
        input_scale=scale,
    )


def _sparsify(parts: _Parts, config: Mapping[str, Any]) -> Sae:
    decoder = parts.decoder("W_dec")
    parts.check(config)
    return Sae(
        encoder=parts.matrix("encoder.weight"),
        encoder_bias=parts.latent("encoder.bias"),
        decoder=decoder,
        decoder_bias=parts.vector("b_dec"),
        activation=_activation(parts, k=config.get("k"), jump=False),
        bias_off_input=True,
    )


def _dictionary_learning(parts: _Parts, config: Mapping[str, Any]) -> Sae:
    trainer = config.get("trainer")
    options: Mapping[str, Any] = trainer if isinstance(trainer, dict) else config
    # as SAELens names them: JumpReLU, and TopK by batches with groups of latents
    lens = "W_dec" in parts and "decoder.weight" not in parts
    decoder = parts.decoder("W_dec") if lens else parts.decoder("decoder.weight", transposed=True)
    parts.check(config)
    encoder = parts.matrix("W_enc", transposed=True) if lens else parts.matrix("encoder.weight")
    if "gate_bias" in parts:
        activation = Activation(kind="gated", gate_bias=parts.latent("gate_bias"), log_magnitude=parts.latent("r_mag"))
        encoder_bias, decoder_bias, off = parts.latent("mag_bias"), parts.vector("decoder_bias"), True
    else:
        by_batch = "Batch" in str(options.get("dict_class", ""))  # keeps a threshold in place of k
        jump = "threshold" in parts and (by_batch or "k" not in parts)
        stored = parts.single("k")
        k = options.get("k") if stored is None else int(stored)
        activation = _activation(parts, k=None if jump else k, jump=jump)
        encoder_bias = parts.latent("b_enc" if lens else "encoder.bias")
        # one variant has a bias of the decoder alone, which is not taken off the input
        bias = next((name for name in ("b_dec", "bias", "decoder.bias") if name in parts), "bias")
        decoder_bias = parts.vector(bias)
        off = bias != "decoder.bias" and not (jump and not by_batch)
    return Sae(
        encoder=encoder,
        encoder_bias=encoder_bias,
        decoder=decoder,
        decoder_bias=decoder_bias,
        activation=activation,
        bias_off_input=off,
    )


def _activation(parts: _Parts, *, k: Any, jump: bool) -> Activation:
    if jump:
        shared = parts.single("threshold")
        return Activation(kind="jumprelu", threshold=parts.latent("threshold") if shared is None else shared)
    if k is None:
        return Activation(kind="relu")
    if isinstance(k, bool) or not isinstance(k, int | float) or not 1 <= k <= parts.latents:
        parts.refuse(f"k from 1 to {parts.latents}", repr(k))
    return Activation(kind="topk", k=int(k))


def _normalisation(parts: _Parts, config: Mapping[str, Any]) -> tuple[Normalisation, float]:
    """The way in; a constant scale counts only where the configuration gives it, else it is in the weights."""
    named = config.get("normalize_activations") or "none"
    known = next((one for one in NORMALISATIONS if one == named), None)
    if known is None:
        parts.refuse(f"normalize_activations out of {', '.join(NORMALISATIONS)}", repr(named))
    scale = config.get("norm_scaling_factor")
    if known != "expected_average_only_in" or scale is None:
        return known, 1.0
    limits = torch.finfo(torch.float32)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not limits.tiny <= scale <= limits.max:
        parts.refuse("a finite norm_scaling_factor above 0 beside the weights", repr(scale))
    return known, float(scale)


def _tensors(location: Location) -> dict[str, Tensor]:
    try:
        if location.file.suffix == ".pt":
            with warnings.catch_warnings():  # what is odd about a file is told once, by our own error
                warnings.simplefilter("ignore")
                content = torch.load(location.file, map_location="cpu", weights_only=True)
        else:
            content = safetensors.torch.load_file(location.file)
    except Exception as error:  # each library has its own kinds, down to RuntimeError
        refused = "nothing but tensors" if location.file.suffix == ".pt" else "whole"
        _refuse(f"a readable {location.file.name}, {refused}", f"{location.file}: {type(error).__name__}")
    if not isinstance(content, Mapping):
        _refuse(f"named tensors in {location.file.name}", type(content).__name__)
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if content and not tensors:
        inside = ", ".join(sorted(repr(name) for name in content)[:8])
        _refuse(
            f"tensors by their names in {location.file.name}, nothing around them", f"{location.file}, with {inside}"
        )
    return tensors


def _files(path: Path) -> list[Path]:
    if path.name in FILES and path.is_file():
        return [path]
    if not path.is_dir():
        return []
    found: list[Path] = []
    below = [path]
    for _ in range(DEEPEST):
        here = [folder / name for folder in below for name in FILES if (folder / name).is_file()]
        found += here
        taken = {file.parent for file in here}
        below = sorted(child for folder in below if folder not in taken for child in folder.iterdir() if child.is_dir())
    return found


def _location(file: Path) -> Location:
    layout = FILES[file.name]
    config = _config(file.parent / CONFIGS[layout], needed=layout != "dictionary_learning")
    hook = _hook(file, layout, config)
    return Location(file=file, layout=layout, hook=hook, layer=None if hook is None else layer_of(hook), config=config)


def _config(path: Path, *, needed: bool) -> Mapping[str, Any]:
    if not needed and not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        _refuse(f"a readable {path.name} beside the weights", f"{path}: {type(error).__name__}")
    if not isinstance(content, dict):
        _refuse(f"an object in {path.name}", f"{path}: {type(content).__name__}")
    return content


def _hook(file: Path, layout: str, config: Mapping[str, Any]) -> str | None:
    """Where the autoencoder belongs: as its configuration says or, where it does not, its folders' names."""
    inner = [part for part in (config, config.get("metadata"), config.get("trainer")) if isinstance(part, dict)]
    for part in inner:
        for key in ("hook_name", "hook_point", "submodule_name"):
            if isinstance(part.get(key), str):
                return str(part[key])
    folders: Sequence[str] = [parent.name for parent in file.parents][:3]
    if layout == "sparsify" and re.search(r"(layers|h)\.\d|embed", folders[0]):
        return folders[0]
    return next((name for name in folders if layer_of(name) is not None or _ELSEWHERE.search(name)), None)


def _model(config: Mapping[str, Any]) -> str | None:
    inner = [part for part in (config, config.get("metadata"), config.get("trainer")) if isinstance(part, dict)]
    names = (part.get(key) for part in inner for key in ("model_name", "lm_name"))
    return next((name for name in names if isinstance(name, str)), None)


def _relative(location: Location, path: Path) -> str:
    folder = location.file.parent
    return str(folder.relative_to(path)) if folder.is_relative_to(path) else str(folder)


def _refuse(expected: str, got: str) -> NoReturn:
    raise InputError(expected=expected, got=got, remedy=REMEDY)
