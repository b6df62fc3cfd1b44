"""The trained models on which :mod:`toy_models.boundary` is judged: what each is, and its measured ratio.

Why these: widths, densities and seeds that the theory was not developed on, see :mod:`toy_models.boundary_check`;
in the quick profile the small ones among them, trained in the same way."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch

from sensverify.claims import Run
from sensverify.geometry import random_directions
from sensverify.sensitivity import estimate_groups
from sensverify.statistics import Interval, group_ratio
from toy_models.boundary import Statistics
from toy_models.superposition import SuperpositionConfig, SuperpositionModel, SuperpositionReadout
from toy_models.trained import grid

QUICK = {
    (54, 18): (0.025, 0.07, 0.18, 0.38),
    (108, 18): (0.025, 0.12, 0.3),
    (36, 18): (0.025, 0.25),
}
FULL = QUICK | {
    (280, 28): (0.02, 0.12, 0.3),
    (80, 40): (0.02, 0.2),
    (140, 40): (0.02, 0.07, 0.18, 0.38),
    (200, 40): (0.02, 0.1, 0.3),
    (168, 56): (0.02, 0.07, 0.18, 0.38),
}
SEEDS = 3
TRAINING = {"steps": 1500, "batch": 256, "learning_rate": 3e-2}
DIRECTIONS = 64
CONTEXTS = 512
ANTIPODAL = -0.9
"""Below this cosine two features are partners."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One configuration: measured ``ratio``, the mean of the seeds' ratios, and what the trained models look like."""

    features: int
    width: int
    density: float
    ratio: Interval
    seeds: tuple[float, ...]
    feature: float
    random: float
    statistics: tuple[Statistics, ...]

    @property
    def name(self) -> str:
        """For witnesses and progress."""
        return f"n={self.features}, d={self.width}, p={self.density:g}"


def seeds_of(run: Run) -> list[int]:
    """No other claim's, nor those of development."""
    return [1000 * run.seed + 700 + i for i in range(SEEDS)]


def cells(run: Run) -> list[Cell]:
    """All cells of the run's profile, measured."""

    def make() -> list[Cell]:
        wanted = [
            SuperpositionConfig(
                features=n,
                width=d,
                density=p,
                steps=int(TRAINING["steps"]),
                batch=int(TRAINING["batch"]),
                learning_rate=TRAINING["learning_rate"],
            )
            for (n, d), densities in (QUICK if run.profile == "quick" else FULL).items()
            for p in densities
        ]
        found = []
        for done, (config, models) in enumerate(zip(wanted, grid(run, wanted, seeds_of(run)), strict=True)):
            run.progress("scoring cells", done, len(wanted))
            found.append(_measure(config, models))
        run.progress("scoring cells", len(wanted), len(wanted))
        return found

    return run.shared("toy_models.boundary.cells", make)


def _measure(config: SuperpositionConfig, models: Sequence[SuperpositionModel]) -> Cell:
    ratios, feature, random = [], [], []
    for model in models:
        generator = torch.Generator().manual_seed(model.seed + 2)
        readout = SuperpositionReadout(model)
        features = model.feature_directions
        features = features[torch.randperm(len(features), generator=generator)[:DIRECTIONS]]
        others = random_directions(DIRECTIONS, readout.width, readout.centring, generator)
        batch = readout.sample(CONTEXTS, generator)
        groups = {"feature": features, "random": others}
        estimates = estimate_groups(readout, batch, groups, generator=generator, draws=2)
        top, bottom = (estimates[name].effects for name in groups)
        ratios.append(group_ratio(top, bottom, generator, 500))
        feature.append(float(top.mean()))
        random.append(float(bottom.mean()))
    return Cell(
        features=config.features,
        width=config.width,
        density=config.density,
        ratio=_mean(ratios),
        seeds=tuple(ratio.value for ratio in ratios),
        feature=sum(feature) / len(feature),
        random=sum(random) / len(random),
        statistics=tuple(statistics_of(model) for model in models),
    )


def _mean(intervals: Sequence[Interval]) -> Interval:
    """The mean of independent estimates; half widths add in quadrature, each side by itself."""
    count = len(intervals)
    value = sum(one.value for one in intervals) / count
    below = math.sqrt(sum((one.value - one.low) ** 2 for one in intervals)) / count
    above = math.sqrt(sum((one.high - one.value) ** 2 for one in intervals)) / count
    return Interval(value, value - below, value + above)


def statistics_of(model: SuperpositionModel) -> Statistics:
    """What of a trained model enters the theory; ``b`` is the mean over represented units, ``c²`` the mean square."""
    kept = model.represented
    directions, count = model.feature_directions, int(kept.sum())
    gram = directions @ directions.T
    others = gram[~torch.eye(count, dtype=torch.bool)].double()
    first, second, third = (float(others.pow(m).sum()) / count for m in (1, 2, 3))
    dropped = model.bias[~kept].clamp_min(0).square()
    return Statistics(
        represented=count,
        scale=math.sqrt(float(model.weights[:, kept].square().sum(0).mean())),
        threshold=float(model.bias[kept].mean()),
        moments=(first, second, third),
        atoms=((-1.0, float((gram.min(1).values < ANTIPODAL).float().mean())),),
        dropped=math.sqrt(float(dropped.mean())) if len(dropped) else 0.0,
    )
