"""Loading a language model: the embedded one, a local folder in Hugging Face layout, or a hub name.

Every way in is checked before anything else happens: architecture, config switches that the suffix computation
does not implement, and weights that are not finite are refused with one line. Nothing is ever unpickled:
weights are read from safetensors.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pythia.architectures import Architecture, adapt, check_config
from pythia.embedded import FOLDER
from sensverify.errors import InputError, MissingExtraError

EMBEDDED = "embedded"
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """A causal language model in evaluation mode, with its tokenizer and what identifies it."""

    name: str
    revision: str | None
    network: nn.Module
    tokenizer: Any
    weights_sha256: str

    @property
    def config(self) -> Any:
        """The Hugging Face configuration."""
        return self.network.config

    @functools.cached_property
    def architecture(self) -> Architecture:
        """Its parts, by the adapter of its kind."""
        return adapt(self.network)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return int(self.config.num_hidden_layers)

    @property
    def width(self) -> int:
        """``d``, the width of the residual stream."""
        return int(self.config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def bos(self) -> int | None:
        """The token put before every context, if the tokenizer has one."""
        token = self.tokenizer.bos_token_id
        return None if token is None else int(token)


def load_model(
    name: str = EMBEDDED,
    *,
    revision: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    offline: bool = False,
) -> LanguageModel:
    """Load ``name``: ``"embedded"``, a folder in Hugging Face layout, or a name on the hub at ``revision``.

    Raises :class:`~sensverify.errors.InputError` for a folder that is missing or unreadable, a hub that cannot
    be reached, an unsupported architecture or switch, weights with NaN or infinity, or an unknown device or
    dtype; :class:`~sensverify.errors.MissingExtraError` without the ``lm`` extra.
    """
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when the hub library is imported
    target = _resolve_device(device)
    if dtype not in DTYPES:
        raise InputError(expected=f"a dtype out of {', '.join(DTYPES)}", got=repr(dtype), remedy="pass --dtype float32")
    transformers = import_transformers()
    source = _source(name)
    config = _read(transformers.AutoConfig, source, name, revision, "config.json")
    check_config(config, name)
    network = _read(
        transformers.AutoModelForCausalLM,
        source,
        name,
        revision,
        "weights as safetensors",
        dtype=DTYPES[dtype],
        use_safetensors=True,
        attn_implementation="eager",
    )
    tokenizer = _read(transformers.AutoTokenizer, source, name, revision, "a tokenizer")
    check_finite(network, name)
    network = network.to(target).eval().requires_grad_(False)
    return LanguageModel(name, revision, network, tokenizer, weights_digest(network))


def import_transformers() -> Any:
    """The library, kept quiet. Raises :class:`~sensverify.errors.MissingExtraError` where it is not installed."""
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError(package="transformers", extra="lm") from error
    import huggingface_hub

    huggingface_hub.logging.set_verbosity_error()  # its retries are told once, by our own error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def _resolve_device(device: str) -> torch.device:
    try:
        target = torch.device(device)
        torch.empty(1, device=target)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            expected="a device that this machine has", got=repr(device), remedy="pass --device cpu"
        ) from error
    return target


def _source(name: str) -> str:
    """The folder or hub name to read from; a path that does not exist is not mistaken for a hub name."""
    if name == EMBEDDED:
        return str(FOLDER)
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if path.exists():
        raise InputError(
            expected="a folder in Hugging Face layout",
            got=f"the file {name}",
            remedy="pass the folder that holds it",
        )
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") != 1
    if looks_like_path:
        raise InputError(
            expected="'embedded', a model folder, or a hub name such as EleutherAI/pythia-70m-deduped",
            got=f"{name!r}, which does not exist",
            remedy="check the path",
        )
    return name


def _read(loader: Any, source: str, name: str, revision: str | None, what: str, **options: Any) -> Any:
    """``loader.from_pretrained`` with every failure told as what it means for the user."""
    local = Path(source).is_dir()
    if local and revision is not None:
        raise InputError(expected="--revision with a hub name only", got=f"a folder, {name}", remedy="drop --revision")
    try:
        return loader.from_pretrained(source, revision=revision or "main", local_files_only=local, **options)
    except Exception as error:  # the libraries below raise a dozen kinds, down to bare Exception
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        if local:
            raise InputError(
                expected=f"{what} in {name} (config.json, *.safetensors, tokenizer.json)",
                got=reason,
                remedy="check that the folder is complete and readable",
            ) from error
        raise InputError(
            expected=f"{what} of {name!r} from the hub or its local cache",
            got=reason,
            remedy="check name, revision and network; or download the folder once and pass it with "
            "--model FOLDER; with a filled cache set HF_HUB_OFFLINE=1",
        ) from error


def check_finite(network: nn.Module, name: str) -> None:
    """Refuse weights that hold NaN or infinity, naming the first such tensor."""
    for key, value in network.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise InputError(
                expected=f"finite weights in {name}",
                got=f"{bad} NaN or infinite values in {key}",
                remedy="fetch or export the weights again",
            )


def weights_digest(network: nn.Module) -> str:
    """sha256 over names, shapes, dtypes and bytes of all weights: what a directions file is bound to."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if value.numel() else b""
