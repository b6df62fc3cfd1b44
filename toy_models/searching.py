"""Searches on toy models by name, and what they recover: made once, kept on disk, so that claims and twins share them.

Models are trained from consecutive seeds. A search whose seed were the next integer would begin with the draws that the
next model was trained on, so seeds of searches are hashes (:func:`search_seed`).

Every search gets the same budget: ``STEPS`` steps on ``CONTEXTS`` contexts, which every direction is shown. Few
contexts and many steps find more than the reverse at equal cost: a duplicate that starts afresh needs steps to arrive.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.discovery import SearchOptions, search
from sensverify.readout import Readout
from sensverify.sensitivity import Probe
from toy_models.methods import SparseAutoencoder, draw_subject
from toy_models.readouts import Wrapped
from toy_models.recovery import Matching, match
from toy_models.store import store_of
from toy_models.superposition import SuperpositionModel, SuperpositionReadout

STEPS, CONTEXTS = 400, 16
LARGE = 256

PLAIN = SearchOptions(steps=STEPS, contexts=CONTEXTS)
"""As published: angular distance from the clean activation."""
SELECTIVE = dataclasses.replace(PLAIN, score="selective")
"""Concentration of the effect, from the clean activation."""
PEAK = dataclasses.replace(PLAIN, score="peak", probe=Probe(reference="absent"))
"""Peak sensitivity from the activation without the direction: what this project recommends."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is kept of a search: ``directions [K, d]`` and their mean score at every step, ``history``."""

    directions: Tensor
    history: list[float]


def outcome(run: Run, readout: Readout, options: SearchOptions) -> Outcome:
    """The search's end and its course."""
    key = {**fingerprint(readout), "options": options.to_json()}

    def make() -> dict[str, Tensor]:
        state = search(readout, options, progress=run.progress)
        return {"directions": state.directions, "history": torch.tensor(state.history, dtype=torch.float64)}

    kept = store_of(run).keep("search", key, make)
    return Outcome(directions=kept["directions"], history=kept["history"].tolist())


def searched(run: Run, readout: Readout, options: SearchOptions) -> Tensor:
    """Directions ``[K, d]`` that the search finds."""
    return outcome(run, readout, options).directions


def autoencoded(
    run: Run,
    readout: Readout,
    method: SparseAutoencoder,
    *,
    directions: int,
    contexts: int,
    presentations: int,
    seed: int,
) -> Tensor:
    """The autoencoder's ``directions [K, d]``: trained on ``contexts`` activations, with the budget of a search that
    shows each direction ``presentations`` contexts. ``seed``: of the activations, then of the autoencoder."""
    key = {
        **fingerprint(readout),
        "method": repr(method),
        "directions": directions,
        "contexts": contexts,
        "presentations": presentations,
        "seed": seed,
    }

    def make() -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        subject = draw_subject(readout, contexts, generator, presentations=presentations)
        return {"directions": method.find(subject, directions, generator).directions}

    return store_of(run).keep("autoencoder", key, make)["directions"]


def search_seed(label: str, *parts: object) -> int:
    """A seed that no model was trained, and no features were drawn, with; ``label`` and ``parts`` say what it is for.

    48 bits of a hash, which fall on one of a million seeds of models with a probability below one in 10⁸.
    """
    return int.from_bytes(hashlib.sha256(f"{label} {parts}".encode()).digest()[:6], "big")


def fingerprint(readout: Readout) -> dict[str, Any]:
    """Plain JSON that tells read-outs of toy models apart, by their weights too."""
    digest = hashlib.sha256()
    model = model_of(readout)
    for tensor in (model.weights, model.bias, model.reading):
        digest.update(b"none" if tensor is None else tensor.contiguous().numpy().tobytes())
    return {"readout": dict(readout.describe()), "weights": digest.hexdigest()}


def model_of(readout: Readout) -> SuperpositionModel:
    """The model inside; raises ``TypeError`` for a read-out that has none."""
    while isinstance(readout, Wrapped):
        readout = readout.inner
    if not isinstance(readout, SuperpositionReadout):
        raise TypeError(f"expected a read-out of a toy model, got {type(readout).__name__}")
    return readout.model


def recovered(run: Run, readout: Readout, options: SearchOptions) -> Matching:
    """What the search recovers of the features that the model represents."""
    return match(searched(run, readout, options), model_of(readout).feature_directions)


def twice(model: SuperpositionModel, options: SearchOptions) -> SearchOptions:
    """``options`` for twice as many directions as the model was given features, with a seed of its own."""
    seed = search_seed("twice as many", model.seed)
    return dataclasses.replace(options, directions=2 * model.config.features, seed=seed)


def in_budget(run: Run, model: SuperpositionModel, options: SearchOptions) -> SearchOptions:
    """``options`` with half the steps in the quick profile, and for more than ``LARGE`` features, where a step costs
    most: a little less is found, by every score alike."""
    halved = run.profile == "quick" or model.config.features > LARGE
    return dataclasses.replace(options, steps=options.steps // 2) if halved else options


def shares(matchings: list[Matching]) -> Tensor:
    """``recovered_share`` of each, ``[M]``."""
    return torch.tensor([matching.recovered_share for matching in matchings], dtype=torch.float64)
