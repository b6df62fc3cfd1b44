"""TM-2: what a search for sensitivity alone finds, compared with the features that are truly there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.exhibits import Curve, Histogram
from sensverify.geometry import random_directions
from sensverify.statistics import mean_interval
from sensverify.verdicts import Finding, Status
from toy_models.recovery import RECOVERED_COSINE, Recovery, recovery
from toy_models.trained import DIRECTIONS, evaluation_generator, found_directions, trained_models

REQUIRED_COSINE = 0.95
REQUIRED_DISTINCT_SHARE = 0.8


def check_recovery(run: Run) -> Finding:
    """TM-2."""
    states = found_directions(run)
    recovered = _recoveries(run, [state.directions for state in states])
    chance = _recoveries(run, _random_groups(run))
    exhibits = (
        Histogram(
            title="Cosine to the nearest true feature",
            caption="One count per direction, all seeds. What is found points along true features; random directions "
            "do not come near one.",
            x_label="cosine",
            groups={
                "found": torch.cat([item.cosines for item in recovered]).tolist(),
                "random": torch.cat([item.cosines for item in chance]).tolist(),
            },
        ),
        Curve(
            title="The search on the toys",
            caption="Mean SeS of the directions at each step, one line per seed.",
            x_label="step",
            y_label="mean SeS",
            x=list(range(1, len(states[0].history) + 1)),
            series={
                f"seed {trained.seed}": state.history
                for trained, state in zip(trained_models(run), states, strict=True)
            },
        ),
    )
    return _judge(run, recovered, exhibits)


def check_recovery_by_random(run: Run) -> Finding:
    """False twin: random directions in the place of found ones."""
    return _judge(run, _recoveries(run, _random_groups(run)), ())


def check_recovery_of_another_model(run: Run) -> Finding:
    """False twin: each model's findings held against the features of the next model."""
    groups = [state.directions for state in found_directions(run)]
    return _judge(run, _recoveries(run, [*groups[1:], groups[0]]), ())


def _random_groups(run: Run) -> list[Tensor]:
    return [
        random_directions(DIRECTIONS, m.readout.width, m.readout.centring, evaluation_generator(m))
        for m in trained_models(run)
    ]


def _recoveries(run: Run, groups: Sequence[Tensor]) -> list[Recovery]:
    models = trained_models(run)
    return [recovery(group, m.model.feature_directions) for m, group in zip(models, groups, strict=True)]


def _judge(run: Run, recovered: list[Recovery], exhibits: tuple[Histogram | Curve, ...]) -> Finding:
    """SUPPORTED if every seed reaches both thresholds with its interval, REFUTED by a seed that is wholly below one."""
    seeds = [trained.seed for trained in trained_models(run)]
    rows = {}
    failing, all_reach = None, True
    for seed, item in zip(seeds, recovered, strict=True):
        cosine = mean_interval(item.cosines, torch.Generator().manual_seed(seed))
        row = {
            "mean_cosine": cosine.to_json(),
            "recovered_share": float((item.cosines >= RECOVERED_COSINE).double().mean()),
            "distinct_features": item.distinct,
            "distinct_share": item.distinct_share,
            "coverage_of_all_features": item.coverage,
            "duplicates": item.duplicates,
        }
        rows[f"seed {seed}"] = row
        if cosine.high < REQUIRED_COSINE or item.distinct_share < REQUIRED_DISTINCT_SHARE:
            failing = failing or {"seed": seed, **row}
        all_reach = all_reach and cosine.low >= REQUIRED_COSINE
    status = Status.REFUTED if failing else Status.SUPPORTED if all_reach else Status.INCONCLUSIVE
    return Finding(
        status=status,
        evidence={
            "directions": DIRECTIONS,
            "required_mean_cosine": REQUIRED_COSINE,
            "required_distinct_share": REQUIRED_DISTINCT_SHARE,
            "seeds": rows,
        },
        witness=failing,
        exhibits=exhibits,
    )
