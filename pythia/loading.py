"""Loading a language model: the embedded one, a local folder in Hugging Face layout, or a hub name.

Every way in is checked before anything else happens: architecture, config switches that the suffix computation
does not implement, a tokenizer without a vocabulary, a configuration that does not belong to the weights
(:mod:`pythia.declared`), and weights that are missing or not finite are refused with one line. Nothing is ever
unpickled: weights are read from safetensors if there are any, and else from ``.bin`` files by a reader that knows
tensors only.

Of a hub model the commit is resolved first, and configuration, weights and tokenizer are all read at that commit, which
results name: a branch may move, a commit does not. Where the hub cannot be reached the local cache is used. The hub
library reads HF_HOME, HF_TOKEN and HF_HUB_OFFLINE from the environment; a token goes nowhere else, not even into an
error's words.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib.util
import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pythia import declared
from pythia.architectures import Architecture, adapt, check_config
from pythia.embedded import FOLDER
from pythia.folding import Folded, fold_norms
from pythia.hub import SECONDS, ask, first_words, forbid, forbidden, import_hub
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
        forbid()
    target = _resolve_device(device)
    if dtype not in DTYPES:
        raise InputError(expected=f"a dtype out of {', '.join(DTYPES)}", got=repr(dtype), remedy="pass --dtype float32")
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtraError(package="transformers", extra="lm")
    place, config_file = _settle(_place(name, revision, offline))  # before the library, whose import takes its time
    declared.read_settings(config_file, name)
    transformers = import_transformers()
    config = _read(transformers.AutoConfig, place, "config.json")
    check_config(config, name)
    declared.check_sizes(config, transformers.activations.ACT2FN, name)
    tokenizer = _tokenizer(transformers, place)
    _check_weights(transformers, config, place)
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
    import_hub()
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


def _settle(place: _Place) -> tuple[_Place, Path]:
    """config.json of the model, and the place with the commit that it is of; offline if the hub cannot be reached."""
    if place.local:
        path = Path(place.source) / "config.json"
        try:
            files = os.listdir(place.source)
        except OSError as error:
            raise _refusal(place, "config.json", error) from error
        if not path.is_file():
            got = "none" if files else "an empty folder"
            raise InputError(expected=f"config.json in {place.name}", got=got, remedy=declared.COMPLETE)
        return place, path
    hub, unreachable = import_hub(), None
    told_to_be = place.offline or forbidden()
    if not told_to_be:
        asked = ask(lambda: hub.HfApi().model_info(place.source, revision=place.revision, timeout=SECONDS))
        unreachable = asked.unreachable
    place = dataclasses.replace(place, offline=told_to_be or unreachable is not None)
    try:
        found = _fetch(place, "config.json")
    except Exception as error:
        raise _refusal(place, "config.json", error) from error
    if found is None:
        missing = "config.json there"
        if place.offline:
            missing = f"config.json of {place.revision or 'main'} in the cache, {hub.constants.HF_HUB_CACHE}"
        raise InputError(
            expected=f"the model {place.name!r} "
            + ("in the local cache" if told_to_be else "on the hub or in its cache"),
            got=(f"{unreachable} and " if unreachable else "") + f"no {missing}",
            remedy=_FETCH_ONCE,
        )
    return dataclasses.replace(place, commit=found.parent.name), found


_FETCH_ONCE = (
    "download the folder once and pass it with --model FOLDER; or fill the cache, with network, without --offline and "
    "HF_HUB_OFFLINE=1"
)


def _fetch(place: _Place, file: str) -> Path | None:
    """A file of the model, downloaded if need be; None if it has none such (offline: none in the cache)."""
    if place.local:
        path = Path(place.source) / file
        return path if path.is_file() else None
    hub = import_hub()
    revision = place.commit or place.revision or "main"
    try:
        return Path(hub.hf_hub_download(place.source, file, revision=revision, local_files_only=place.offline))
    except hub.errors.LocalEntryNotFoundError:
        if place.offline:
            return None
        raise
    except hub.errors.EntryNotFoundError:
        return None


def _check_weights(transformers: Any, config: Any, place: _Place) -> None:
    """Hold the names and shapes in the files of weights against the configuration, before a network is built."""
    where, remedy = place.name, declared.COMPLETE
    if not place.local:
        where, remedy = f"the {'cache' if place.offline else 'hub'} for {place.name!r}", _FETCH_ONCE
    try:
        files = declared.weight_files(functools.partial(_fetch, place), where, remedy)
        held = declared.read_shapes(files)
    except InputError:
        raise
    except Exception as error:
        raise _refusal(place, "weights, as safetensors or as .bin files of tensors alone", error) from error

    def describe(depth: int) -> nn.Module:
        smaller = copy.deepcopy(config)
        smaller.num_hidden_layers = depth
        network: nn.Module = transformers.AutoModelForCausalLM.from_config(smaller, attn_implementation="eager")
        return network

    try:
        declared.check_declared(describe, int(config.num_hidden_layers), held, place.name)
    except InputError:
        raise
    except Exception as error:  # torch's and the library's, for sizes that nothing can have
        raise InputError(
            expected=f"a network that can be built as config.json of {place.name} describes it",
            got=f"{type(error).__name__}: {first_words(error)}",
            remedy=declared.BELONGING,
        ) from error


def _tokenizer(transformers: Any, place: _Place) -> Any:
    """The tokenizer. The library makes an empty one up where there is none, which is refused here."""
    remedy = "check that the folder is complete: add the tokenizer's files, tokenizer.json at best"
    refused = None
    try:
        tokenizer = _read(transformers.AutoTokenizer, place, "a tokenizer")
        if set(tokenizer.get_vocab()) - set(tokenizer.get_added_vocab()):
            return tokenizer
    except InputError as error:  # one of bytes needs no file, so that files are looked at only now
        refused = error
    if place.local and not any(path.name.endswith(_VOCABULARIES) for path in Path(place.source).iterdir()):
        got = "no tokenizer.json, nor any other file with a vocabulary"
        raise InputError(expected=f"a tokenizer in {place.name}", got=got, remedy=remedy) from refused
    raise refused or InputError(
        expected=f"a tokenizer of {place.name} with a vocabulary", got="an empty one", remedy=remedy
    )


_VOCABULARIES = (".model", ".tiktoken", "tokenizer.json", "vocab.json", "vocab.txt", "tekken.json", "vocab.bpe")
"""How the files end that a tokenizer's vocabulary is in."""


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
        raise _refusal(place, what, error) from error


def _refusal(place: _Place, what: str, error: Exception) -> InputError:
    """A library's error as what it means for the user."""
    if isinstance(error, pickle.UnpicklingError):
        return InputError(
            expected=f"weights of {place.name} as tensors and nothing else",
            got="a .bin file that is damaged, or that would run code of its own when opened; it was not",
            remedy="use a copy of the model in safetensors",
        )
    known = [_TOLD[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _TOLD]
    reason = known[0] if known else f"{type(error).__name__}: {first_words(error)}"
    if place.local:
        return InputError(
            expected=f"{what} in {place.name} (config.json, *.safetensors, tokenizer.json)",
            got=reason,
            remedy=declared.COMPLETE,
        )
    return InputError(
        expected=f"{what} of {place.name!r} from the hub or its local cache",
        got=reason,
        remedy="check name, revision and network, and HF_TOKEN for a gated model; or download the folder once and "
        "pass it with --model FOLDER; with a filled cache pass --offline or set HF_HUB_OFFLINE=1",
    )


_TOLD = {
    "GatedRepoError": "a gated model, to which this user has no access",
    "RepositoryNotFoundError": "no model of this name, or a private one",
    "RevisionNotFoundError": "no such revision of the model",
}
"""What errors of the hub's library mean, the particular before the general."""
