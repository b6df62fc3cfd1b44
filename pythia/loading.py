"""Loading a language model: the embedded one, a local folder in Hugging Face layout, or a hub name.

Every way in is checked before anything else happens: architecture, config switches that the suffix computation
does not implement, and weights that are missing or not finite are refused with one line. Nothing is ever unpickled:
weights are read from safetensors if there are any, and else from ``.bin`` files by a reader that knows tensors only.

Of a hub model the commit is resolved first, and configuration, weights and tokenizer are all read at that commit, which
results name: a branch may move, a commit does not. The hub library reads HF_HOME, HF_TOKEN and HF_HUB_OFFLINE from the
environment; a token goes nowhere else, not even into an error's words.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pythia.architectures import Architecture, adapt, check_config
from pythia.embedded import FOLDER
from pythia.folding import Folded, fold_norms
from pythia.weights import cast, check_complete, check_finite, weights_digest
from sensverify.claims import Subject, Weights
from sensverify.errors import InputError, MissingExtraError

EMBEDDED = "embedded"
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """A causal language model in evaluation mode, with its tokenizer and what identifies it.

    ``weights_sha256`` is that of the weights as stored, folded or not. ``commit``: of a hub model, the revision that a
    name such as ``main`` stood for when it was read. ``folded``: how weights were folded; None for weights as stored.
    """

    name: str
    revision: str | None
    network: nn.Module
    tokenizer: Any
    weights_sha256: str
    commit: str | None = None
    folded: Folded | None = None

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
    def vocabulary(self) -> int:
        """How many tokens have an embedding; a tokenizer may know more, or fewer."""
        return len(self.network.get_input_embeddings().weight)

    @property
    def bos(self) -> int | None:
        """The token put before every context, if the tokenizer has one that the model knows."""
        token = self.tokenizer.bos_token_id
        return None if token is None or not 0 <= int(token) < self.vocabulary else int(token)

    def describe(self) -> dict[str, Any]:
        """Plain JSON that says which model this is, for results."""
        return {
            "model": self.name,
            "revision": self.revision,
            "commit": self.commit,
            "weight_processing": "raw" if self.folded is None else "folded",
            **({} if self.folded is None else {"folding": self.folded.to_json()}),
            "dtype": str(self.network.dtype).removeprefix("torch."),
            "weights_sha256": self.weights_sha256,
        }


def load_model(
    name: str = EMBEDDED,
    *,
    revision: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    offline: bool = False,
    weights: Weights = "raw",
) -> LanguageModel:
    """Load ``name``: ``"embedded"``, a folder in Hugging Face layout, or a name on the hub at ``revision``.

    ``weights="folded"``: with the norms folded into the maps behind them (:mod:`pythia.folding`).
    Raises :class:`~sensverify.errors.InputError` for a folder that is missing or unreadable, a hub that cannot
    be reached, an unsupported architecture or switch, weights that are missing, that hold NaN or infinity or that
    cannot be folded, or an unknown device or dtype; :class:`~sensverify.errors.MissingExtraError` without the ``lm``
    extra.
    """
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when the hub library is imported
    target = _resolve_device(device)
    if dtype not in DTYPES:
        raise InputError(expected=f"a dtype out of {', '.join(DTYPES)}", got=repr(dtype), remedy="pass --dtype float32")
    transformers = import_transformers()
    place = _place(name, revision, offline)
    config = _read(transformers.AutoConfig, place, "config.json")
    check_config(config, name)
    place = dataclasses.replace(place, commit=place.commit or _commit(place))
    # In float32 first, which holds what any file of weights has: digest, folding and rounding start from the same.
    network, loaded = _read(
        transformers.AutoModelForCausalLM,
        place,
        "weights, as safetensors or as .bin files of tensors alone",
        config=config,
        dtype=torch.float64 if dtype == "float64" else torch.float32,
        weights_only=True,
        output_loading_info=True,
        attn_implementation="eager",
    )
    check_complete(loaded, int(config.num_hidden_layers), name)
    tokenizer = _read(transformers.AutoTokenizer, place, "a tokenizer")
    check_finite(network, name)
    network = network.eval().requires_grad_(False)
    digest = weights_digest(network)
    folded = fold_norms(network, name) if weights == "folded" else None
    cast(network, DTYPES[dtype])
    return LanguageModel(name, revision, network.to(target), tokenizer, digest, place.commit, folded)


def load_subject(subject: Subject) -> LanguageModel:
    """The model of a run; raises what :func:`load_model` does."""
    return load_model(
        subject.model,
        revision=subject.revision,
        device=subject.device,
        dtype=subject.dtype,
        offline=subject.offline,
        weights=subject.weights,
    )


def import_transformers() -> Any:
    """The library, kept quiet, and kept from asking the hub to convert a model in the user's name.

    Raises :class:`~sensverify.errors.MissingExtraError` where it is not installed.
    """
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a model is read from: a folder, or the hub and its cache. ``name`` is what the user called it."""

    name: str
    source: str
    revision: str | None
    commit: str | None
    local: bool
    offline: bool


def _place(name: str, revision: str | None, offline: bool) -> _Place:
    source = _source(name)
    local = Path(source).is_dir()
    if local and revision is not None:
        raise InputError(expected="--revision with a hub name only", got=f"a folder, {name}", remedy="drop --revision")
    snapshot = Path(source).resolve()  # a folder of the hub's own cache is named after its commit
    cached = local and snapshot.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", snapshot.name)
    commit = snapshot.name if cached else None
    return _Place(name=name, source=source, revision=revision, commit=commit, local=local, offline=offline)


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


def _commit(place: _Place) -> str | None:
    """What the revision of a hub model stood for when its configuration was read, which is in the cache by now."""
    if place.local:
        return None
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(place.source, "config.json", revision=place.revision or "main")
    return Path(found).parent.name if isinstance(found, str) else None


def _read(loader: Any, place: _Place, what: str, **options: Any) -> Any:
    """``loader.from_pretrained`` with every failure told as what it means for the user."""
    try:
        return loader.from_pretrained(
            place.source,
            revision=(not place.local and place.commit) or place.revision or "main",
            local_files_only=place.local or place.offline,
            trust_remote_code=False,
            **options,
        )
    except Exception as error:  # the libraries below raise a dozen kinds, down to bare Exception
        lines = str(error).strip().splitlines() or [""]
        reason = f"{type(error).__name__}: {without_tokens(lines[0])}"
        if isinstance(error, pickle.UnpicklingError):
            raise InputError(
                expected=f"weights of {place.name} as tensors and nothing else",
                got="a .bin file that is damaged, or that would run code of its own when opened; it was not",
                remedy="use a copy of the model in safetensors",
            ) from error
        if place.local:
            raise InputError(
                expected=f"{what} in {place.name} (config.json, *.safetensors, tokenizer.json)",
                got=reason,
                remedy="check that the folder is complete and readable",
            ) from error
        raise InputError(
            expected=f"{what} of {place.name!r} from the hub or its local cache",
            got=reason,
            remedy="check name, revision and network, and HF_TOKEN for a gated model; or download the folder once and "
            "pass it with --model FOLDER; with a filled cache pass --offline or set HF_HUB_OFFLINE=1",
        ) from error


def without_tokens(text: str) -> str:
    """``text`` with any access token of this user's blotted out."""
    import huggingface_hub

    names = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN")
    tokens = {os.environ.get(name, "").strip() for name in names} | {huggingface_hub.get_token() or ""}
    for token in filter(None, tokens):
        text = text.replace(token, "***")
    return re.sub(r"hf_[A-Za-z0-9]{8,}", "***", text)
