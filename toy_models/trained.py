"""The models that the claims of one run share: trained once, kept on disk, and what was found on each."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.discovery import SearchOptions
from toy_models.searching import Outcome, outcome, search_seed
from toy_models.store import store_of
from toy_models.superposition import SuperpositionConfig, SuperpositionModel, SuperpositionReadout, chunks, train_grid

CONFIG = SuperpositionConfig()
DIRECTIONS = 64
EVALUATION_CONTEXTS = 256


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model with its read-out; ``seed`` fixes training, search and evaluation, each on draws of its own."""

    seed: int
    model: SuperpositionModel
    readout: SuperpositionReadout


def seeds(run: Run) -> list[int]:
    """Three seeds in the quick profile, eight in the full one; other runs' seeds give other models."""
    return [1000 * run.seed + i for i in range(3 if run.profile == "quick" else 8)]


def models(run: Run, config: SuperpositionConfig, seeds: Sequence[int]) -> list[SuperpositionModel]:
    """One model of ``config`` per seed, in that order: trained once, and kept for a run that goes on in this folder."""
    return grid(run, [config], seeds)[0]


def grid(run: Run, configs: Sequence[SuperpositionConfig], seeds: Sequence[int]) -> list[list[SuperpositionModel]]:
    """For each of ``configs``, one model per seed. Whatever is trained at once is kept at once."""
    pairs = [(config, seed) for config in configs for seed in seeds]
    found: dict[int, SuperpositionModel] = {}
    for chunk in chunks(pairs):
        for i, model in zip(chunk, _kept(run, [pairs[i] for i in chunk]), strict=True):
            found[i] = model
    return [[found[row * len(seeds) + column] for column in range(len(seeds))] for row in range(len(configs))]


def _kept(run: Run, pairs: list[tuple[SuperpositionConfig, int]]) -> list[SuperpositionModel]:
    """Models trained at once, from this run, from disk, or now. Same bits whichever it is."""
    key = {"pairs": [[config.to_json(), seed] for config, seed in pairs]}

    def train_now() -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for i, model in enumerate(train_grid(pairs, run.progress)):
            figures = torch.tensor([model.loss, model.loss_of_zero, model.loss_change], dtype=torch.float64)
            tensors |= {f"weights.{i}": model.weights, f"bias.{i}": model.bias, f"figures.{i}": figures}
        return tensors

    def load() -> list[SuperpositionModel]:
        tensors = store_of(run).keep("models", key, train_now)
        kept = []
        for i, (config, seed) in enumerate(pairs):
            loss, loss_of_zero, change = tensors[f"figures.{i}"].tolist()
            kept.append(
                SuperpositionModel(
                    config=config,
                    seed=seed,
                    weights=tensors[f"weights.{i}"],
                    bias=tensors[f"bias.{i}"],
                    loss=loss,
                    loss_of_zero=loss_of_zero,
                    loss_change=change,
                )
            )
        return kept

    return run.shared(f"toy_models.models {json.dumps(key, sort_keys=True)}", load)


def trained_models(run: Run) -> list[Trained]:
    """One trained model per seed."""

    def make() -> list[Trained]:
        return [Trained(model.seed, model, SuperpositionReadout(model)) for model in models(run, CONFIG, seeds(run))]

    return run.shared("toy_models.trained", make)


def search_options(trained: Trained) -> SearchOptions:
    """The search of :func:`found_directions`."""
    seed = search_seed("found on the trained", trained.seed)
    return SearchOptions(directions=DIRECTIONS, steps=300, contexts=16, seed=seed)


def found_directions(run: Run) -> list[Outcome]:
    """The outcome of a parallel search on each model, for sensitivity alone."""

    def make() -> list[Outcome]:
        outcomes = []
        for trained in trained_models(run):
            outcomes.append(outcome(run, trained.readout, search_options(trained)))
        return outcomes

    return run.shared("toy_models.found", make)


def evaluation_generator(trained: Trained) -> torch.Generator:
    """Draws that no training and no search has seen."""
    return torch.Generator().manual_seed(search_seed("evaluation", trained.seed))


def some_features(trained: Trained, count: int, generator: torch.Generator) -> Tensor:
    """``count`` of the represented features' directions, drawn without replacement."""
    features = trained.model.feature_directions
    return features[torch.randperm(len(features), generator=generator)[:count]]
