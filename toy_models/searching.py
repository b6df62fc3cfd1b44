"""Searches on toy models by name, and what they recover: made once, kept on disk, so that claims and twins share them.

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


def searched(run: Run, readout: Readout, options: SearchOptions) -> Tensor:
    """Directions ``[K, d]`` that the search finds."""
    key = {**fingerprint(readout), "options": options.to_json()}

    def make() -> dict[str, Tensor]:
        return {"directions": search(readout, options, progress=run.progress).directions}

    return store_of(run).keep("search", key, make)["directions"]


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
    return dataclasses.replace(options, directions=2 * model.config.features, seed=model.seed + 1)


def in_budget(run: Run, model: SuperpositionModel, options: SearchOptions) -> SearchOptions:
    """``options`` with half the steps in the quick profile, and for more than ``LARGE`` features, where a step costs
    most: a little less is found, by every score alike."""
    halved = run.profile == "quick" or model.config.features > LARGE
    return dataclasses.replace(options, steps=options.steps // 2) if halved else options


def shares(matchings: list[Matching]) -> Tensor:
    """``recovered_share`` of each, ``[M]``."""
    return torch.tensor([matching.recovered_share for matching in matchings], dtype=torch.float64)
