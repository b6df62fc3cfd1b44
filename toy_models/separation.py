"""TM-1: the true features against random directions.

All groups are scored on the same contexts with the same presences; the interval of a ratio resamples directions and
contexts. The claim has to hold on every seed by itself: pooling could hide a seed on which it fails.
"""

from __future__ import annotations

import dataclasses

import torch

from sensverify.claims import Run
from sensverify.exhibits import Exhibit, Histogram, IntervalRow, Intervals
from sensverify.geometry import random_directions
from sensverify.sensitivity import SensitivityEstimate, estimate_groups, null_effects
from sensverify.statistics import Interval, group_mean, group_ratio
from sensverify.verdicts import Finding, Status
from toy_models.judging import at_least
from toy_models.portrait import portrait
from toy_models.store import store_of
from toy_models.trained import (
    DIRECTIONS,
    EVALUATION_CONTEXTS,
    Trained,
    evaluation_generator,
    found_directions,
    some_features,
    trained_models,
)

REQUIRED_RATIO = 2.5


@dataclasses.dataclass(frozen=True)
class Scores:
    """SeS of every group on one model, on one sample of contexts."""

    seed: int
    groups: dict[str, SensitivityEstimate]
    largest_null_effect: float

    def ratio(self, numerator: str, denominator: str) -> Interval:
        """Ratio of group means with its interval."""
        generator = torch.Generator().manual_seed(self.seed)
        return group_ratio(self.groups[numerator].effects, self.groups[denominator].effects, generator)

    def mean(self, group: str) -> Interval:
        """Group mean with its interval."""
        return group_mean(self.groups[group].effects, torch.Generator().manual_seed(self.seed))


def score_groups(run: Run) -> list[Scores]:
    """Per model: features, negated features, found directions, and two independent groups of random ones."""

    def make() -> list[Scores]:
        pairs = list(zip(trained_models(run), found_directions(run), strict=True))
        scores = []
        for done, (trained, state) in enumerate(pairs):
            run.progress("scoring toys", done, len(pairs))
            scores.append(_kept(run, trained, state.directions))
        run.progress("scoring toys", len(pairs), len(pairs))
        return scores

    return run.shared("toy_models.scores", make)


def _kept(run: Run, trained: Trained, found: torch.Tensor) -> Scores:
    """:func:`_score`, kept on disk: a prediction rests on these figures too, and is derived by another process."""

    def make() -> dict[str, torch.Tensor]:
        scores = _score(trained, found)
        tensors = {"null": torch.tensor(scores.largest_null_effect, dtype=torch.float64)}
        for name, estimate in scores.groups.items():
            tensors |= {f"effects.{name}": estimate.effects, f"weights.{name}": estimate.weights}
        return tensors

    key = {"config": trained.model.config.to_json(), "seed": trained.seed, "found": found.tolist()}
    sizes = {"contexts": EVALUATION_CONTEXTS, "directions": DIRECTIONS}
    kept = store_of(run).keep("separation", key | sizes, make)
    groups = {
        name: SensitivityEstimate(effects=kept[f"effects.{name}"], weights=kept[f"weights.{name}"], configuration={})
        for name in (kind.partition(".")[2] for kind in kept if kind.startswith("effects."))
    }
    return Scores(trained.seed, groups, float(kept["null"]))


def _score(trained: Trained, found: torch.Tensor) -> Scores:
    generator = evaluation_generator(trained)
    readout = trained.readout
    features = some_features(trained, DIRECTIONS, generator)
    groups = {
        "feature": features,
        "negated feature": -features,
        "found": found,
        "random": random_directions(DIRECTIONS, readout.width, readout.centring, generator),
        "random again": random_directions(DIRECTIONS, readout.width, readout.centring, generator),
    }
    batch = readout.sample(EVALUATION_CONTEXTS, generator)
    estimates = estimate_groups(readout, batch, groups, generator=generator, draws=2)
    return Scores(trained.seed, estimates, float(null_effects(readout, batch, features).max()))


def check_features_against_random(run: Run) -> Finding:
    """TM-1."""
    scores = score_groups(run)
    names = ("feature", "negated feature", "found", "random")
    evidence = {
        "models": [trained.readout.describe() for trained in trained_models(run)],
        "contexts_per_seed": EVALUATION_CONTEXTS,
        "mean_SeS": {f"seed {score.seed}": {name: score.mean(name).to_json() for name in names} for score in scores},
        "ratio_negated_to_random": {
            f"seed {score.seed}": score.ratio("negated feature", "random").to_json() for score in scores
        },
        "largest_null_effect": max(score.largest_null_effect for score in scores),
    }
    return _judge(run, "feature", "random", evidence, (_histogram(scores[0]), _intervals(scores), *portrait(run)))


def check_random_against_random(run: Run) -> Finding:
    """False twin: no feature is involved at all."""
    return _judge(run, "random again", "random", {}, ())


def check_random_against_features(run: Run) -> Finding:
    """False twin: the wrong way round."""
    return _judge(run, "random", "feature", {}, ())


def _judge(
    run: Run,
    numerator: str,
    denominator: str,
    evidence: dict[str, object],
    exhibits: tuple[Exhibit, ...],
) -> Finding:
    """SUPPORTED if the whole interval of every seed is high enough, REFUTED by a seed whose whole interval is not."""
    ratios = {score.seed: score.ratio(numerator, denominator) for score in score_groups(run)}
    lowest = min(ratios, key=lambda seed: ratios[seed].high)
    status = at_least(ratios.values(), REQUIRED_RATIO)
    return Finding(
        status=status,
        evidence={
            f"ratio_{numerator}_to_{denominator}".replace(" ", "_"): {
                f"seed {seed}": ratio.to_json() for seed, ratio in ratios.items()
            },
            "required": REQUIRED_RATIO,
            **evidence,
        },
        witness={"seed": lowest, "ratio": ratios[lowest].to_json()} if status is Status.REFUTED else None,
        exhibits=exhibits,
    )


def _histogram(score: Scores) -> Histogram:
    names = ("feature", "negated feature", "random")
    return Histogram(
        title="Sensitivity of features, their negatives and random directions",
        caption=f"One count per direction, seed {score.seed}. Look for a gap between features and random directions; "
        "where the two overlap, sensitivity does not tell them apart. Where negatives of features lie to the right of "
        "random directions, taking a feature away is felt too.",
        x_label="SeS",
        groups={name: score.groups[name].mean.tolist() for name in names},
    )


def _intervals(scores: list[Scores]) -> Intervals:
    rows = []
    for score in scores:
        for name in ("feature", "found", "negated feature"):
            ratio = score.ratio(name, "random")
            rows.append(
                IntervalRow(name=f"{name}, seed {score.seed}", value=ratio.value, low=ratio.low, high=ratio.high)
            )
    return Intervals(
        title="Ratio to random directions",
        caption="Mean SeS over that of random directions, 95 % intervals. The line marks the ratio that is required of "
        "features: their rows should lie wholly to its right. At 1 a group is no more sensitive than random. Compare "
        "what is found with the features of the same seed; nothing is required of it, nor of negated features.",
        x_label="ratio of mean SeS",
        rows=rows,
        reference=REQUIRED_RATIO,
    )
