"""The models that the claims of one run share: one per seed, trained once, and what was found on each."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.discovery import SearchOptions, SearchState, search
from toy_models.superposition import SuperpositionConfig, SuperpositionModel, SuperpositionReadout, train

CONFIG = SuperpositionConfig()
DIRECTIONS = 64
EVALUATION_CONTEXTS = 512


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model with its read-out; ``seed`` fixes training, search and evaluation, each on draws of its own."""

    seed: int
    model: SuperpositionModel
    readout: SuperpositionReadout


def seeds(run: Run) -> list[int]:
    """Three seeds in the quick profile, eight in the full one; other runs' seeds give other models."""
    return [1000 * run.seed + i for i in range(3 if run.profile == "quick" else 8)]


def trained_models(run: Run) -> list[Trained]:
    """One trained model per seed."""

    def make() -> list[Trained]:
        models = [train(CONFIG, seed, run.progress) for seed in seeds(run)]
        return [Trained(model.seed, model, SuperpositionReadout(model)) for model in models]

    return run.shared("toy_models.trained", make)


def found_directions(run: Run) -> list[SearchState]:
    """The outcome of a parallel search on each model, for sensitivity alone."""

    def make() -> list[SearchState]:
        states = []
        for trained in trained_models(run):
            options = SearchOptions(directions=DIRECTIONS, steps=150, contexts=128, seed=trained.seed + 1)
            states.append(search(trained.readout, options, progress=run.progress))
        return states

    return run.shared("toy_models.found", make)


def evaluation_generator(trained: Trained) -> torch.Generator:
    """Draws that neither training nor search has seen."""
    return torch.Generator().manual_seed(trained.seed + 2)


def some_features(trained: Trained, count: int, generator: torch.Generator) -> Tensor:
    """``count`` of the represented features' directions, drawn without replacement."""
    features = trained.model.feature_directions
    return features[torch.randperm(len(features), generator=generator)[:count]]
