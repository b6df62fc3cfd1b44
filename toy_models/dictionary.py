"""Full dictionaries (TM-2.full), and whether searching in parallel costs quality (TM-5).

A search for all ``n`` features collects coupons: of ``2n`` random starts without interaction a share ``e^{-2}`` of the
features is missed even if every start ends at one. Starting duplicates afresh is what closes that gap; it needs all
directions to be there at once. The sequential search, the published way, keeps each new direction off those found
before by a penalty on overlap instead.

Cost is counted in reads of the model: a *pass* is one call of the read-out with its gradient, a *pair* is one direction
in one context. Sequential and parallel search show every direction the same pairs; what differs is in how many passes,
and passes are what a model on an accelerator costs. ``benchmarks/parallel_and_sequential.py`` has the seconds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.discovery import SearchOptions, total_steps
from sensverify.exhibits import Exhibit, Histogram, Table
from sensverify.geometry import gram, random_directions
from sensverify.sensitivity import estimate_on
from sensverify.statistics import Interval, group_ratio, half_width
from sensverify.verdicts import Finding, Status
from toy_models.judging import at_least, precise, recovered
from toy_models.recovery import Matching, match
from toy_models.searching import CONTEXTS, PEAK, PLAIN, in_budget, search_seed, searched, twice
from toy_models.superposition import SuperpositionConfig, SuperpositionModel, SuperpositionReadout
from toy_models.trained import models, seeds

QUICK = SuperpositionConfig(features=128, width=32, density=0.01, batch=256)
FULL = SuperpositionConfig(features=512, width=128, density=0.01)
REQUIRED_SHARE = 0.95
REQUIRED_RATIO = 0.9
"""Of the mean score of parallel to sequential directions: what is lost by searching in parallel is less than this."""
LARGEST_LOSS = 0.1
"""Of the share of directions at a feature, sequential less parallel, mean over seeds."""
SEQUENTIAL_STEPS = 150
QUICK_MODELS = 5
SEQUENTIAL_QUICK, SEQUENTIAL_FULL = 16, 64
"""Directions searched one after another, each of which costs as many passes as all parallel ones together. At most half
as many as there are dimensions: beyond, the published penalty, squared cosines with all that were found before, keeps
later directions off their places (of 256 in 128 dimensions .27 ended at a feature, of those in parallel .79), and what
is compared should be the sequential search at its best."""

SEARCHES = {
    "peak": dataclasses.replace(PEAK, start="activations"),
    "plain": dataclasses.replace(PLAIN, start="activations", repulsion=0.1),
}
"""Parallel searches with ``K = 2n``. Repulsion is weak, since there are more directions than features."""


def dictionaries(run: Run) -> list[SuperpositionModel]:
    """Three sparse models, in which every feature is represented."""
    return _all_dictionaries(run)[:3]


def _all_dictionaries(run: Run) -> list[SuperpositionModel]:
    """For TM-5, which compares two shares and takes more: in the full profile those of TM-1."""
    if run.profile == "full":
        return models(run, FULL, seeds(run))
    return models(run, QUICK, [seeds(run)[0] + i for i in range(QUICK_MODELS)])


def check_full_dictionary(run: Run) -> Finding:
    """TM-2.full."""
    found = {name: _found(run, options) for name, options in SEARCHES.items()}
    evidence = {
        name: {
            "recovered_share": recovered(run, matchings).to_json(),
            "per_seed": [matching.to_json() for matching in matchings],
            "searches": [twice(m, in_budget(run, m, options)).to_json() for m in dictionaries(run)],
        }
        for (name, options), matchings in zip(SEARCHES.items(), found.values(), strict=True)
    }
    exhibits = (
        Histogram(
            title="From every feature to the nearest direction found",
            caption="One count per feature, all seeds, K = 2n. What stands left of 0.9 is missed: of a full dictionary "
            f"by peak sensitivity no more than {1 - REQUIRED_SHARE:.0%} may. Counts just left of it were approached, "
            "those far left were met by no direction.",
            x_label="cosine",
            groups={name: torch.cat([m.best_of_features for m in group]).tolist() for name, group in found.items()},
        ),
        Table(
            title="Full dictionaries",
            caption=f"Means over seeds with intervals, K = 2n directions. The recovered share of peak is judged: its "
            f"interval should lie wholly above {REQUIRED_SHARE}. Plain stands beside it. Where a share of directions "
            "is high and the recovered share low, directions have gathered at the same features.",
            columns=["score", "recovered share", "share of directions at a feature", "duplicates"],
            rows=[
                [
                    name,
                    recovered(run, matchings).text(),
                    precise(run, matchings).text(),
                    sum(m.duplicates for m in matchings) / len(matchings),
                ]
                for name, matchings in found.items()
            ],
        ),
    )  # fmt: skip
    return _judge_dictionary(run, found["peak"], evidence, exhibits)


def check_dictionary_of_another_model(run: Run) -> Finding:
    """False twin: each model's findings held against the features of the next model."""
    subjects = dictionaries(run)
    found = [
        searched(run, SuperpositionReadout(model), twice(model, in_budget(run, model, SEARCHES["peak"])))
        for model in subjects
    ]
    moved = [*found[1:], found[0]]
    return _judge_dictionary(
        run, [match(f, m.feature_directions) for f, m in zip(moved, subjects, strict=True)], {}, ()
    )


def check_random_dictionary(run: Run) -> Finding:
    """False twin: as many random directions."""
    return _judge_dictionary(run, [match(_random(m, 2 * m.config.features), m.feature_directions)
                                   for m in dictionaries(run)], {}, ())  # fmt: skip


def _found(run: Run, options: SearchOptions) -> list[Matching]:
    return [
        match(
            searched(run, SuperpositionReadout(model), twice(model, in_budget(run, model, options))),
            model.feature_directions,
        )
        for model in dictionaries(run)
    ]


def _judge_dictionary(
    run: Run, matchings: list[Matching], evidence: dict[str, Any], exhibits: tuple[Exhibit, ...]
) -> Finding:
    """By the mean share over seeds."""
    share = recovered(run, matchings)
    status = at_least([share], REQUIRED_SHARE)
    measured = {"recovered_share": share.to_json(), "required": REQUIRED_SHARE, "seeds": seeds(run)[:3]}
    config = dataclasses.asdict(QUICK if run.profile == "quick" else FULL)
    return Finding(
        status=status,
        evidence={**measured, "model": config, **evidence},
        witness=measured if status is Status.REFUTED else None,
        exhibits=exhibits,
    )


# --- In parallel and one after another (TM-5) --------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality:
    """One group of directions on one model: SeS on held-out contexts ``[K, B]``, recovery, the largest overlap."""

    effects: Tensor
    matching: Matching
    largest_overlap: float


def check_parallel_against_sequential(run: Run) -> Finding:
    """TM-5."""
    groups = {name: _qualities(run, name) for name in ("parallel", "sequential", "random")}
    parallel, sequential = _options(run, "parallel"), _options(run, "sequential")
    evidence = {
        "directions": parallel.directions,
        "passes": {"parallel": total_steps(parallel), "sequential": total_steps(sequential)},
        "cost_ratio_in_passes": total_steps(parallel) / total_steps(sequential),
        "pairs_per_direction": {"parallel": parallel.steps * CONTEXTS, "sequential": sequential.steps * CONTEXTS},
        **{
            name: {
                "share_of_directions_at_a_feature": _precise(run, items).to_json(),
                "different_features": [item.matching.recovered for item in items],
                "duplicates": [item.matching.duplicates for item in items],
                "largest_overlap": [item.largest_overlap for item in items],
            }
            for name, items in groups.items()
        },
    }
    table = Table(
        title="In parallel and one after another",
        caption=f"{parallel.directions} directions, plain sensitivity, the same number of steps and contexts for each. "
        f"A pass is one read of the model with its gradient. If nothing is lost, parallel stands no more than "
        f"{LARGEST_LOSS} below sequential in the share of directions, in fewer passes; random stands for no search.",
        columns=[
            "search",
            "passes",
            "share of directions at a feature",
            "different features (mean)",
            "largest overlap",
        ],
        rows=[
            [
                name,
                0 if name == "random" else total_steps(_options(run, name)),
                _precise(run, items).text(),
                sum(item.matching.recovered for item in items) / len(items),
                max(item.largest_overlap for item in items),
            ]
            for name, items in groups.items()
        ],
    )
    return _judge_parallel(run, groups["parallel"], groups["sequential"], evidence, (table,))


def check_random_against_sequential(run: Run) -> Finding:
    """False twin: random directions in the place of those found in parallel."""
    return _judge_parallel(run, _qualities(run, "random"), _qualities(run, "sequential"), {}, ())


def check_hurried_against_sequential(run: Run) -> Finding:
    """False twin: a parallel search that stops after a twentieth of the steps."""
    return _judge_parallel(run, _qualities(run, "hurried"), _qualities(run, "sequential"), {}, ())


def _options(run: Run, name: str) -> SearchOptions:
    """Sequential: the published penalty on overlap at full strength. As many steps per direction either way."""
    directions = SEQUENTIAL_QUICK if run.profile == "quick" else SEQUENTIAL_FULL
    plain = dataclasses.replace(PLAIN, directions=directions, steps=SEQUENTIAL_STEPS)
    return {
        "parallel": plain,
        "sequential": dataclasses.replace(plain, method="sequential"),
        "hurried": dataclasses.replace(plain, steps=SEQUENTIAL_STEPS // 20),
    }[name]


def _qualities(run: Run, name: str) -> list[Quality]:
    def make() -> list[Quality]:
        answer = []
        for model in _all_dictionaries(run):
            readout = SuperpositionReadout(model)
            if name == "random":
                directions = _random(model, _options(run, "parallel").directions)
            else:
                directions = searched(
                    run, readout, dataclasses.replace(_options(run, name), seed=search_seed("TM-5", model.seed))
                )
            generator = torch.Generator().manual_seed(
                search_seed("TM-5 scores", model.seed)
            )  # the same for every group
            effects = estimate_on(readout, readout.sample(256, generator), directions, generator=generator).effects
            overlap = float(gram(directions).abs().fill_diagonal_(0).max())
            matching = match(directions, model.feature_directions)
            answer.append(Quality(effects=effects, matching=matching, largest_overlap=overlap))
        return answer

    return run.shared(f"toy_models.dictionary.{name}", make)


def _judge_parallel(
    run: Run,
    parallel: list[Quality],
    sequential: list[Quality],
    evidence: dict[str, Any],
    exhibits: tuple[Exhibit, ...],
) -> Finding:
    """On every seed the ratio of mean scores; and, as a mean over seeds, how many directions more are at a feature."""
    names = [f"seed {model.seed}" for model in _all_dictionaries(run)]
    ratios = {
        name: group_ratio(one.effects, other.effects, torch.Generator().manual_seed(model.seed))
        for name, model, one, other in zip(names, _all_dictionaries(run), parallel, sequential, strict=True)
    }
    differences = {
        name: one.matching.precise_share - other.matching.precise_share
        for name, one, other in zip(names, parallel, sequential, strict=True)
    }
    difference = difference_of_shares(
        [item.matching.precise for item in parallel], [item.matching.precise for item in sequential]
    )
    judged = [at_least(ratios.values(), REQUIRED_RATIO), at_least([difference], -LARGEST_LOSS)]
    if Status.REFUTED in judged:
        status = Status.REFUTED
    else:
        status = Status.SUPPORTED if set(judged) == {Status.SUPPORTED} else Status.INCONCLUSIVE
    measured = {
        "score_ratio": {name: ratio.to_json() for name, ratio in ratios.items()},
        "difference_in_share_of_directions_at_a_feature": {
            **difference.to_json(),
            "per_seed": differences,
        },
        "required_ratio": REQUIRED_RATIO,
        "required_difference": -LARGEST_LOSS,
    }
    return Finding(
        status=status,
        evidence={**measured, **evidence},
        witness=measured if status is Status.REFUTED else None,
        exhibits=exhibits,
    )


def difference_of_shares(ones: Sequence[Tensor], others: Sequence[Tensor]) -> Interval:
    """Interval for the mean over models of a difference of two shares; both: yes or no for each direction, ``[K]``.

    As :func:`sensverify.statistics.share_interval` widens its own: the normal quantile for the directions' part of the
    variance, Student's for what models differ by beyond that. Half a yes and half a no are added to each share for its
    variance, so that all or none leaves a width.
    """
    differences = torch.stack([a.double().mean() - b.double().mean() for a, b in zip(ones, others, strict=True)])
    models = len(differences)

    def variance(hits: Tensor) -> float:
        share = (float(hits.sum()) + 0.5) / (len(hits) + 1)
        return share * (1 - share) / len(hits)

    within = sum(variance(hits) for hits in (*ones, *others)) / models
    between = max(0.0, float(differences.var()) - within) if models > 1 else 0.0
    half = half_width(within, between, models) if models > 1 else math.inf
    value = float(differences.mean())
    return Interval(value, max(value - half, -1.0), min(value + half, 1.0))


def _precise(run: Run, items: list[Quality]) -> Interval:
    return precise(run, [item.matching for item in items])


def _random(model: SuperpositionModel, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(search_seed("random dictionary", model.seed))
    return random_directions(count, model.config.width, model.centring, generator)
