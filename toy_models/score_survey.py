"""The survey behind TM-3.scores: which score tells features from random directions, and up to which density.

A *configuration* is a kind of model (trained, or random features read back with tied weights and no threshold), a load
``n/d`` and a density ``p``, at ``d = 32``. In each, for every score of :mod:`toy_models.scores` and every seed:

- the probability that a feature scores above a random direction (the area under the ROC curve, AUC; 1/2 is chance);
- the same against negated features, leaving out a feature whose negative is (nearly) another feature: dense models with
  ``n = 2d`` put all of theirs in opposite pairs;
- the ratio of the means of features and random directions.

Seeds are the unit of chance: intervals are Student's for their mean. A score's *boundary* is the density at which its
AUC falls below 0.75 for the first time, interpolated in ``log p``; its interval is where the two ends of the AUC's do.

The causes are tested by themselves, on dense random features: with no training, a bias put in by hand stands for the
threshold that a sparse model learns; and the scores of random directions are correlated with their mean presence.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.geometry import gram, presence, random_directions
from sensverify.statistics import Interval, seed_mean
from toy_models.scores import SCORES, estimate_all
from toy_models.store import store_of
from toy_models.superposition import SuperpositionConfig, SuperpositionModel, SuperpositionReadout
from toy_models.trained import grid

WIDTH, STEPS, BATCH, LEARNING_RATE = 32, 600, 128, 1e-2
DIRECTIONS, CONTEXTS = 64, 128
GROUPS = ("feature", "negated feature", "random", "random again")
OPPOSITE = 0.9
"""A negated feature at that cosine to another feature is that feature."""
BOUNDARY = 0.75
FIRST_SEED = 900
"""Thresholds and configurations were chosen on seeds below this one."""
DENSITIES = {"quick": (0.01, 0.05, 0.2, 0.5), "full": (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5)}
SEEDS = {"quick": 3, "full": 5}
THRESHOLD_SCORES = ("angular", "switched_on", "per_unit", "selective")
BIASES = (0.0, -0.4, -0.8, -1.2, -1.6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """Models that differ in density and seed only."""

    trained: bool
    load: int

    @property
    def label(self) -> str:
        """For tables and evidence."""
        return f"{'trained' if self.trained else 'random features'}, n = {self.load}d"


FAMILIES = (Family(trained=True, load=2), Family(trained=True, load=4), Family(trained=False, load=4))
DENSE = ((FAMILIES[0], 0.2), (FAMILIES[1], 0.5), (FAMILIES[2], 0.5))
"""Where the claim is judged: densities at which the developing seeds had angular distance fail."""
CAUSES = (FAMILIES[2], 0.2)
"""Where causes are tested: dense, and the model does what it is told."""


@dataclasses.dataclass(frozen=True)
class Separation:
    """What each score makes of one model: ``means`` of features, negated ones and two groups of random directions.

    ``presence``: the mean presence of the first random ones over contexts.
    """

    means: dict[str, dict[str, Tensor]]
    presence: Tensor

    def auc(self, score: str, group: str = "feature", against: str = "random") -> float:
        """The probability that one of ``group`` scores above one of ``against``; NaN if either is undefined."""
        return area(self.means[score][group], self.means[score][against])

    def ratio(self, score: str) -> float:
        """Mean of the features over that of random directions."""
        return float(self.means[score]["feature"].nanmean() / self.means[score]["random"].nanmean())

    def correlation(self, score: str) -> float:
        """Over random directions, of the score with their mean presence."""
        return float(torch.corrcoef(torch.stack([self.means[score]["random"], self.presence]))[0, 1])


def area(higher: Tensor, lower: Tensor) -> float:
    """Probability that a draw from ``higher`` exceeds one from ``lower``, ties counting half; NaN if one is empty.

    Entries that are NaN, directions without a context of any weight, are left out.
    """
    higher, lower = (values[~values.isnan()].double() for values in (higher, lower))
    if not len(higher) or not len(lower):
        return math.nan
    difference = higher[:, None] - lower[None, :]
    return float(((difference > 0).double() + (difference == 0).double() / 2).mean())


def separate(model: SuperpositionModel, names: Iterable[str] = tuple(SCORES)) -> Separation:
    """All groups on the same contexts with the same presences, from draws that training has not seen."""
    readout = SuperpositionReadout(model)
    generator = torch.Generator().manual_seed(model.seed + 10**6)
    batch = readout.sample(CONTEXTS, generator)
    features = model.feature_directions
    chosen = torch.randperm(len(features), generator=generator)[:DIRECTIONS]
    alone = gram(features)[chosen].amin(1) > -OPPOSITE
    random = random_directions(2 * DIRECTIONS, readout.width, readout.centring, generator)
    groups = (features[chosen], -features[chosen[alone]], random[:DIRECTIONS], random[DIRECTIONS:])
    found = estimate_all(readout, batch, torch.cat(groups), generator, names)
    ends = torch.tensor([len(group) for group in groups]).cumsum(0)[:-1]
    parts = {name: torch.tensor_split(mean, ends) for name, mean in found.items()}
    return Separation(
        means={name: dict(zip(GROUPS, part, strict=True)) for name, part in parts.items()},
        presence=presence(batch.x, groups[2], readout.centring).mean(1),
    )


def seeds_of(run: Run) -> list[int]:
    """No other claim's, nor those of development."""
    return [1000 * run.seed + FIRST_SEED + i for i in range(SEEDS[run.profile])]


def models(run: Run) -> dict[tuple[Family, float], list[SuperpositionModel]]:
    """One model per seed in every configuration."""
    cells = [(family, density) for family in FAMILIES for density in DENSITIES[run.profile]]
    seeds = seeds_of(run)
    trained = [cell for cell in cells if cell[0].trained]
    made = dict(zip(trained, grid(run, [configure(*cell) for cell in trained], seeds), strict=True))
    return {cell: made.get(cell) or [planted(configure(*cell), seed) for seed in seeds] for cell in cells}


def configure(family: Family, density: float) -> SuperpositionConfig:
    """The model of a configuration and how it is trained."""
    return SuperpositionConfig(
        features=family.load * WIDTH,
        width=WIDTH,
        density=density,
        steps=STEPS,
        batch=BATCH,
        learning_rate=LEARNING_RATE,
    )


def planted(config: SuperpositionConfig, seed: int, bias: float = 0.0) -> SuperpositionModel:
    """Random unit features, read back by themselves, every unit with the same bias; there is no loss to speak of."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.nn.functional.normalize(torch.randn(config.features, config.width, generator=generator))
    return SuperpositionModel(
        config=config,
        seed=seed,
        weights=weights.T.contiguous(),
        bias=torch.full((config.features,), bias),
        loss=math.nan,
        loss_of_zero=math.nan,
        planted=True,
    )


@dataclasses.dataclass(frozen=True)
class Survey:
    """Every configuration: ``separations[family, density]`` has one entry per seed, ``losses`` the mean share left."""

    densities: Sequence[float]
    separations: dict[tuple[Family, float], list[Separation]]
    losses: dict[tuple[Family, float], float]
    thresholds: dict[float, list[Separation]]
    seeds: Sequence[int]

    def interval(
        self,
        figure: Callable[[Separation], float],
        separations: list[Separation],
        within: tuple[float, float] = (-math.inf, math.inf),
    ) -> Interval:
        """Mean over seeds of a figure that lies ``within`` these bounds; NaN if it is NaN for one of them."""
        values = torch.tensor([figure(one) for one in separations], dtype=torch.float64)
        if values.isnan().any():
            return Interval(math.nan, math.nan, math.nan)
        return seed_mean(values, within=within)

    def auc(self, family: Family, density: float, score: str, against: str = "random") -> Interval:
        """Features against another group."""
        return self.area(self.separations[family, density], score, against=against)

    def area(
        self, separations: list[Separation], score: str, group: str = "feature", against: str = "random"
    ) -> Interval:
        """The AUC of one group against another: a share, and so is its interval."""
        figure = functools.partial(Separation.auc, score=score, group=group, against=against)
        return self.interval(figure, separations, within=(0.0, 1.0))

    def correlation(self, separations: list[Separation], score: str) -> Interval:
        """Of the score with mean presence, over random directions."""
        return self.interval(functools.partial(Separation.correlation, score=score), separations, within=(-1.0, 1.0))

    def boundary(self, family: Family, score: str) -> Interval:
        """The density where the seeds' mean AUC falls below 0.75, and where the ends of its interval do.

        Infinite for one that never does, 0 for one that starts below.
        """
        curve = [self.auc(family, density, score) for density in self.densities]
        return Interval(
            crossing(self.densities, [one.value for one in curve]),
            crossing(self.densities, [one.low for one in curve]),
            crossing(self.densities, [one.high for one in curve]),
        )


def crossing(densities: Sequence[float], auc: Sequence[float]) -> float:
    """The first density at which ``auc`` falls below :data:`BOUNDARY`, interpolated linearly in its logarithm.

    0 if it starts below; infinite if it never falls; where it is NaN the score separates nothing.
    """
    values = [0.0 if math.isnan(value) else value for value in auc]
    if values[0] < BOUNDARY:
        return 0.0
    for i in range(1, len(values)):
        if values[i] < BOUNDARY:
            share = (values[i - 1] - BOUNDARY) / (values[i - 1] - values[i])
            return math.exp((1 - share) * math.log(densities[i - 1]) + share * math.log(densities[i]))
    return math.inf


def survey(run: Run) -> Survey:
    """All configurations, once per run; what has been measured is kept on disk."""

    def make() -> Survey:
        made = models(run)
        separations, losses = {}, {}
        for done, (cell, group) in enumerate(made.items()):
            run.progress("comparing scores", done, len(made))
            separations[cell] = _kept(run, cell, group, tuple(SCORES))
            losses[cell] = sum(model.loss / model.loss_of_zero for model in group) / len(group)
        thresholds = {}
        for bias in BIASES:
            lowered = [planted(model.config, model.seed, bias) for model in made[CAUSES]]
            thresholds[bias] = _kept(run, CAUSES, lowered, THRESHOLD_SCORES)
        run.progress("comparing scores", len(made), len(made))
        return Survey(DENSITIES[run.profile], separations, losses, thresholds, seeds_of(run))

    return run.shared("toy_models.scores_compared", make)


def _kept(
    run: Run, cell: tuple[Family, float], group: Sequence[SuperpositionModel], names: Sequence[str]
) -> list[Separation]:
    """One separation per model of a configuration, from disk or measured now."""

    def make() -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for i, model in enumerate(group):
            found = separate(model, names)
            tensors[f"{i}/presence"] = found.presence
            tensors |= {f"{i}/{name}/{kind}": mean for name, row in found.means.items() for kind, mean in row.items()}
        return tensors

    key = {
        "trained": cell[0].trained,
        "config": group[0].config.to_json(),
        "seeds": [model.seed for model in group],
        "bias": [float(model.bias[0]) for model in group],
        "scores": list(names),
    }
    tensors = store_of(run).keep("separation", key, make)
    return [
        Separation(
            means={name: {kind: tensors[f"{i}/{name}/{kind}"] for kind in GROUPS} for name in names},
            presence=tensors[f"{i}/presence"],
        )
        for i in range(len(group))
    ]
