"""TM-2: what a search for sensitivity alone finds, compared with the features that are truly there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.exhibits import Curve, Histogram
from sensverify.geometry import random_directions
from sensverify.statistics import mean_interval, share_interval
from sensverify.verdicts import Finding, Status
from toy_models.judging import at_least
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
            caption="One count per direction, all seeds; random directions show what chance gives. What is found "
            f"counts as a feature from {RECOVERED_COSINE} on, and its mean should be {REQUIRED_COSINE} or more: look "
            "for a group at the right end, and for what is left between it and chance.",
            x_label="cosine",
            groups={
                "found": torch.cat([item.cosines for item in recovered]).tolist(),
                "random": torch.cat([item.cosines for item in chance]).tolist(),
            },
        ),
        Curve(
            title="The search on the toys",
            caption="Mean SeS of the directions at each step, one line per seed. A line that still rises at the end "
            "was stopped too early; where duplicates start afresh, in the first half, it may fall.",
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
    """On every seed both intervals, of the mean cosine and of the share of directions at a feature of their own."""
    seeds = [trained.seed for trained in trained_models(run)]
    rows, cosines, shares = {}, [], []
    for seed, item in zip(seeds, recovered, strict=True):
        generator = torch.Generator().manual_seed(seed)
        cosines.append(mean_interval(item.cosines, generator))
        shares.append(share_interval([torch.arange(len(item.cosines)) < item.distinct], generator))
        rows[f"seed {seed}"] = {
            "mean_cosine": cosines[-1].to_json(),
            "recovered_share": float((item.cosines >= RECOVERED_COSINE).double().mean()),
            "distinct_features": item.distinct,
            "distinct_share": shares[-1].to_json(),
            "coverage_of_all_features": item.coverage,
            "duplicates": item.duplicates,
        }
    judged = [at_least(cosines, REQUIRED_COSINE), at_least(shares, REQUIRED_DISTINCT_SHARE)]
    if Status.REFUTED in judged:
        status = Status.REFUTED
    else:
        status = Status.SUPPORTED if set(judged) == {Status.SUPPORTED} else Status.INCONCLUSIVE
    lowest = min(range(len(seeds)), key=lambda i: (shares[i].high, cosines[i].high))
    witness = {"seed": seeds[lowest], **rows[f"seed {seeds[lowest]}"]}
    return Finding(
        status=status,
        evidence={
            "directions": DIRECTIONS,
            "required_mean_cosine": REQUIRED_COSINE,
            "required_distinct_share": REQUIRED_DISTINCT_SHARE,
            "seeds": rows,
        },
        witness=witness if status is Status.REFUTED else None,
        exhibits=exhibits,
    )
