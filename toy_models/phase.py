"""TM-3: every method on every cell of dimension ``d``, load ``n/d`` and density ``p``, against the features.

A cell is a configuration of the superposition model, trained from several seeds. In each, every method of
:func:`toy_models.methods.standard_methods` looks at the same 4,096 contexts, is asked for the same number of directions
and shows each of them equally many contexts; what it finds is matched one to one with the features that the model
represents. Beside it stands what a search could go by: how much more sensitive features are than random directions.

What was chosen, and why:

- *Directions*: ``3n/2``. Searches collect coupons, each direction ending at the feature whose basin it started in; with
  ``n`` of them a fifth of the features have none. Up to 256: above, ``n``, for time.
- *Presentations*: 100 steps of 16 contexts (8 where ``n > 128``, where arithmetic and not overhead takes the time).
  Longer searches find a little more, which is coupon collecting, but not in other cells.
- *Autoencoders* are cheap to train and have 60 times the presentations (200 times where ``n > 128``).
- *Sequential* search, 4 directions: each costs a search. Its share of recovered features is bounded by ``4/n``: read
  its precision.
- *Sign*: PCA, FastICA and the spectral solution have ``d`` components and leave their sign open. They hand out both
  signs, ``2d`` directions: their share of recovered features is bounded by ``2d/n``. Random directions are matched by
  absolute cosine.

All that was found is kept in the run's store, per cell, seed and method: an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.geometry import random_directions
from sensverify.sensitivity import Probe, Reference, estimate_groups
from sensverify.statistics import Interval, seed_mean
from toy_models.methods import (
    PEAK,
    PLAIN,
    PLAIN_ABSENT,
    RELU,
    SEQUENTIAL,
    Method,
    draw_subject,
    standard_methods,
)
from toy_models.recovery import Matching, match, over_seeds
from toy_models.store import store_of
from toy_models.superposition import SuperpositionConfig, SuperpositionModel, SuperpositionReadout
from toy_models.trained import grid

SEEDS = 3
SAMPLE = 4096
STEPS = 100
MANY_FEATURES = 128
MOST_DIRECTIONS = 256
SEQUENTIAL_DIRECTIONS = 4
RATIO_DIRECTIONS, RATIO_CONTEXTS = 64, 128
REFERENCES: tuple[Reference, ...] = ("clean", "absent")
TRAINING = {"steps": 800, "batch": 256, "learning_rate": 3e-2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One configuration: ``width`` d, ``load`` n/d, ``density`` p."""

    width: int
    load: int
    density: float

    @property
    def features(self) -> int:
        """``n``."""
        return self.width * self.load

    @property
    def active(self) -> int:
        """The mean number of active features, rounded; at least 1. The TopK autoencoder is told."""
        return max(1, round(self.features * self.density))

    @property
    def directions(self) -> int:
        """How many every method is asked for."""
        return max(self.features, min(MOST_DIRECTIONS, self.features * 3 // 2))

    @property
    def contexts(self) -> int:
        """How many a search shows every direction in each of its steps."""
        return 16 if self.features <= MANY_FEATURES else 8

    @property
    def presentations(self) -> int:
        """How many contexts every direction is shown."""
        return STEPS * self.contexts

    @property
    def generosity(self) -> int:
        """How many times a search's presentations an autoencoder has: 375 steps of 256 rows, or 625 of a large one."""
        return 60 if self.features <= MANY_FEATURES else 200

    @property
    def config(self) -> SuperpositionConfig:
        """The model's."""
        return SuperpositionConfig(
            features=self.features,
            width=self.width,
            density=self.density,
            steps=int(TRAINING["steps"]),
            batch=int(TRAINING["batch"]),
            learning_rate=TRAINING["learning_rate"],
        )

    @property
    def name(self) -> str:
        """For witnesses."""
        return f"d = {self.width}, n/d = {self.load}, p = {self.density:g}"


QUICK = tuple(Cell(width=d, load=load, density=p) for d, load in ((16, 2), (32, 4)) for p in (0.02, 0.1, 0.4))
FULL = tuple(
    Cell(width=d, load=load, density=p)
    for d, load in ((16, 2), (16, 4), (16, 8), (32, 2), (32, 4), (32, 8), (64, 2))
    for p in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
)
ONLY_IN_FULL = (PLAIN_ABSENT, SEQUENTIAL, RELU)
"""Variants that would make the quick profile too long."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """What one method found in one cell: a ``matching`` and the ``presentations`` per direction for each seed."""

    matchings: tuple[Matching, ...]
    presentations: tuple[int, ...]
    asked: int

    @functools.cached_property
    def figures(self) -> Mapping[str, Interval]:
        """Mean over seeds of every figure of a matching, with its interval."""
        return over_seeds(self.matchings, torch.Generator().manual_seed(0))

    @property
    def pairs(self) -> int:
        """Cost: (direction, context) pairs shown, the most of any seed."""
        return max(p * m.directions for p, m in zip(self.presentations, self.matchings, strict=True))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """One cell: what every method found, how many features are represented, and SeS(feature)/SeS(random) per seed."""

    cell: Cell
    seeds: tuple[int, ...]
    represented: tuple[int, ...]
    found: Mapping[str, Findings]
    ratios: Mapping[Reference, tuple[float, ...]]

    def ratio(self, reference: Reference) -> Interval:
        """Mean of the seeds' ratios, with Student's interval."""
        return seed_mean(self.ratios[reference])

    def figure(self, method: str, figure: str = "recovered_share") -> Interval:
        """Of :data:`toy_models.recovery.FIGURES`."""
        return self.found[method].figures[figure]


MakeMethods = Callable[[Cell], Mapping[str, Method]]


def all_methods(cell: Cell) -> dict[str, Method]:
    """Every method, as it is used in ``cell``."""
    return standard_methods(
        active=cell.active,
        contexts=cell.contexts,
        sequential=SEQUENTIAL_DIRECTIONS,
        generosity=cell.generosity,
    )


def quick_methods(cell: Cell) -> dict[str, Method]:
    """Those of the quick profile."""
    return {name: method for name, method in all_methods(cell).items() if name not in ONLY_IN_FULL}


def seeds(run: Run) -> list[int]:
    """Of this claim alone; thresholds were set on runs with other seeds."""
    return [1000 * run.seed + 300 + i for i in range(SEEDS)]


def diagram(run: Run) -> tuple[Result, ...]:
    """All cells of the run's profile."""

    def make() -> tuple[Result, ...]:
        quick = run.profile == "quick"
        return measure(run, QUICK if quick else FULL, quick_methods if quick else all_methods)

    return run.shared("toy_models.phase", make)


def measure(run: Run, cells: Sequence[Cell], methods: MakeMethods) -> tuple[Result, ...]:
    """Train the models of ``cells`` and let every method search on each."""
    models = grid(run, [cell.config for cell in cells], seeds(run))
    results = []
    for done, (cell, group) in enumerate(zip(cells, models, strict=True)):
        run.progress("searching cells", done, len(cells))
        results.append(_measure(run, cell, group, methods(cell)))
    run.progress("searching cells", len(cells), len(cells))
    return tuple(results)


def _measure(run: Run, cell: Cell, models: Sequence[SuperpositionModel], methods: Mapping[str, Method]) -> Result:
    found = {}
    for name, method in methods.items():
        kept = [_find(run, cell, model, method) for model in models]
        found[name] = Findings(
            matchings=tuple(
                match(one["directions"], model.feature_directions, signed=bool(one["signed"]))
                for one, model in zip(kept, models, strict=True)
            ),
            presentations=tuple(int(one["presentations"]) for one in kept),
            asked=cell.directions,
        )
    measured = [_ratios(run, model) for model in models]
    return Result(
        cell=cell,
        seeds=tuple(model.seed for model in models),
        represented=tuple(len(model.feature_directions) for model in models),
        found=found,
        ratios={reference: tuple(float(one[reference]) for one in measured) for reference in REFERENCES},
    )


def _find(run: Run, cell: Cell, model: SuperpositionModel, method: Method) -> dict[str, Tensor]:
    """What ``method`` finds on one model, from disk or now. Which contexts it looks at does not depend on it."""

    def make() -> dict[str, Tensor]:
        contexts = torch.Generator().manual_seed(model.seed + 10**6)
        subject = draw_subject(SuperpositionReadout(model), SAMPLE, contexts, presentations=cell.presentations)
        found = method.find(subject, cell.directions, torch.Generator().manual_seed(model.seed + 2 * 10**6))
        return {
            "directions": found.directions,
            "signed": torch.tensor(found.signed),
            "presentations": torch.tensor(found.figures["presentations"]),
        }

    return store_of(run).keep("phase", {**_key(model), "cell": dataclasses.asdict(cell), "method": method.name}, make)


def _ratios(run: Run, model: SuperpositionModel) -> dict[str, Tensor]:
    """SeS of features over that of random directions, on the same contexts, for each reference."""

    def make() -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(model.seed + 3 * 10**6)
        readout = SuperpositionReadout(model)
        features = model.feature_directions
        features = features[torch.randperm(len(features), generator=generator)[:RATIO_DIRECTIONS]]
        others = random_directions(RATIO_DIRECTIONS, readout.width, readout.centring, generator)
        batch = readout.sample(RATIO_CONTEXTS, generator)
        groups, presences = {"feature": features, "random": others}, generator.get_state()
        ratios: dict[str, Tensor] = {}
        for reference in REFERENCES:
            generator.set_state(presences)  # both references with the same presences too
            probe = Probe(reference=reference)
            found = estimate_groups(readout, batch, groups, generator=generator, draws=2, probe=probe)
            ratios[reference] = found["feature"].effects.double().mean() / found["random"].effects.double().mean()
        return ratios

    return store_of(run).keep("phase-ratio", _key(model), make)


def _key(model: SuperpositionModel) -> dict[str, Any]:
    return {"config": model.config.to_json(), "seed": model.seed}


def best_other(result: Result, method: str = PLAIN) -> str:
    """Which method other than ``method`` recovers most; of several, the first."""
    others = [name for name in result.found if name != method]
    return max(others, key=lambda name: result.figure(name).value)


def winner(result: Result, first: str = PEAK, second: str = "TopK autoencoder") -> int:
    """1 if ``first`` recovers more than ``second`` on every seed, -1 if less, else 0."""
    pairs = zip(result.found[first].matchings, result.found[second].matchings, strict=True)
    differences = [one.recovered_share - other.recovered_share for one, other in pairs]
    return 1 if min(differences) > 0 else -1 if max(differences) < 0 else 0
