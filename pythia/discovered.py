"""PY-4: directions found by sensitivity against random ones, on held-out contexts."""

from __future__ import annotations

import torch

from pythia import subject
from pythia.gallery import direction_gallery
from pythia.subject import Found, found, model, prediction
from sensverify.claims import Run
from sensverify.evaluation import evaluate_directions
from sensverify.exhibits import Curve, Histogram, IntervalRow, Intervals
from sensverify.geometry import random_directions
from sensverify.predictions import Side
from sensverify.statistics import Interval
from sensverify.verdicts import Finding, Status

PREDICTION = "PY-4"
SIDE: Side = "low"
"""The side of its interval that the claim cannot do without."""


def preflight(run: Run) -> None:
    """As :func:`pythia.subject.preflight` does for every claim, with the prediction of PY-4."""
    subject.preflight(run, {PREDICTION: SIDE})


def check_found_against_random(run: Run) -> Finding:
    """PY-4 on the run's model."""
    outcome = found(run)
    evaluation = outcome.evaluation
    evidence = {
        **outcome.site.description,
        "search": outcome.options.to_json(),
        **{name: interval.to_json() for name, interval in evaluation.groups.items()},
        "held_out_contexts": evaluation.plus.effects.shape[1],
        "duplicates": evaluation.duplicates,
        "largest_null_effect": evaluation.largest_null_effect,
    }
    exhibits = (
        _score_histogram(outcome),
        _group_intervals(outcome),
        _search_curve(outcome),
        direction_gallery(model(run), outcome),
    )
    return _judge(run, evaluation.ratio, evidence, exhibits)


def check_random_against_random(run: Run) -> Finding:
    """False twin: random directions, put in the place of the found ones."""
    outcome = found(run)
    readout = outcome.site.held_out
    generator = torch.Generator(device=readout.device).manual_seed(run.seed + 17)
    impostors = random_directions(outcome.options.directions, readout.width, readout.centring, generator)
    evaluation = evaluate_directions(outcome.site, impostors, seed=run.seed)
    return _judge(run, evaluation.ratio, {}, ())


def _judge(run: Run, ratio: Interval, evidence: dict[str, object], exhibits: tuple[object, ...]) -> Finding:
    """SUPPORTED or REFUTED when the whole interval lies on one side of the prediction; else INCONCLUSIVE."""
    predicted, origin = prediction(run, PREDICTION, SIDE)
    outcome = predicted.judge(ratio)
    status = {
        "inside": Status.SUPPORTED, "outside": Status.REFUTED, "undecided": Status.INCONCLUSIVE
    }[outcome]  # fmt: skip
    witness = {"ratio": ratio.to_json(), "predicted": predicted.to_json()}
    return Finding(
        status=status,
        evidence={
            "ratio_found_to_random": ratio.to_json(),
            "predicted": predicted.to_json(),
            "predictions": origin,
            **evidence,
        },
        witness=witness if status is Status.REFUTED else None,
        exhibits=exhibits,  # type: ignore[arg-type]
    )


def _score_histogram(outcome: Found) -> Histogram:
    evaluation = outcome.evaluation
    return Histogram(
        title="Sensitivity of found, negated and random directions",
        caption="Each count is one direction's SeS over all held-out contexts. Found directions lie to the right of "
        "random ones; their negatives show how much of the effect is bound to the sign.",
        x_label="SeS",
        groups={
            "found": evaluation.plus.mean.tolist(),
            "negated": evaluation.minus.mean.tolist(),
            "random": evaluation.random.mean.tolist(),
        },
        log_x=True,
    )


def _group_intervals(outcome: Found) -> Intervals:
    return Intervals(
        title="Mean sensitivity by group",
        caption="95 % intervals, directions and contexts resampled; all groups on the same contexts and presences.",
        x_label="mean SeS",
        rows=[
            IntervalRow(name=name, value=interval.value, low=interval.low, high=interval.high)
            for name, interval in outcome.evaluation.groups.items()
        ],
        log_x=True,
    )


def _search_curve(outcome: Found) -> Curve:
    history = outcome.state.history
    return Curve(
        title="The search",
        caption="Mean SeS of all directions at each step, each on freshly drawn search contexts (hence the noise).",
        x_label="step",
        y_label="mean SeS",
        x=list(range(1, len(history) + 1)),
        series={"parallel search": history},
        log_y=True,
    )
