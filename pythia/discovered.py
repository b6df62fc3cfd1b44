"""PY-4: directions found by sensitivity against random ones, and against those of sparse autoencoders (PY-4.sae)."""

from __future__ import annotations

from pythia import compared_exhibits, subject
from pythia.autoencoded import unless_it_explains_nothing
from pythia.browsed import browsable
from pythia.compared import FOUND, RANDOM, SAE, layers
from pythia.group_scores import FOUND_UNTOUCHED, RANDOM_AGAIN, LayerScores, scores
from pythia.layerwise import judge_layers
from pythia.subject import Found, found, prediction
from sensverify.claims import Run
from sensverify.exhibits import Curve, Histogram
from sensverify.predictions import Side
from sensverify.verdicts import Finding

PREDICTION, SAE_PREDICTION = "PY-4", "PY-4.sae"
SIDE: Side = "low"
"""The side of its interval that neither claim can do without."""


def preflight(run: Run) -> None:
    """As :func:`pythia.subject.preflight` does for every claim, with the predictions of PY-4."""
    subject.preflight(run, {PREDICTION: SIDE, SAE_PREDICTION: SIDE})


def check_found_against_random(run: Run) -> Finding:
    """PY-4 on the run's model."""
    rows, outcome = _rows(run), found(run)
    evaluation = outcome.evaluation
    ratios = {layer: row.ratio(FOUND, RANDOM) for layer, row in rows.items()}
    at = subject.searched_layer(run)
    comparison, shown = compared_exhibits.comparison(run, rows, PREDICTION, at)
    evidence = {
        **comparison,
        "duplicates": evaluation.duplicates,
        "largest_null_effect": evaluation.largest_null_effect,
    }
    elsewhere = compared_exhibits.shown_with(run, PREDICTION)
    exhibits = (
        *shown,
        compared_exhibits.group_intervals(rows[at], "" if elsewhere == PREDICTION else elsewhere),
        _score_histogram(outcome, at),
        _search_curve(outcome, at),
        browsable(run, at),
    )
    return judge_layers(ratios, *prediction(run, PREDICTION, SIDE), rows=rows, evidence=evidence, exhibits=exhibits)


def check_random_against_random(run: Run) -> Finding:
    """False twin: random directions, put in the place of the found ones."""
    rows = _rows(run)
    ratios = {layer: row.ratio(RANDOM_AGAIN, RANDOM) for layer, row in rows.items()}
    return judge_layers(ratios, *prediction(run, PREDICTION, SIDE), rows=rows)


def check_found_against_sae(run: Run) -> Finding:
    """PY-4.sae on the run's model."""
    rows = _rows(run)
    ratios = {layer: row.ratio(FOUND, SAE) for layer, row in rows.items()}
    at = subject.searched_layer(run)
    evidence, shown = compared_exhibits.comparison(run, rows, SAE_PREDICTION, at)
    title = "Sensitivity of found directions and of latents"
    exhibits = (*shown, compared_exhibits.histogram(title, rows[at], (FOUND, SAE, RANDOM)))
    predicted = prediction(run, SAE_PREDICTION, SIDE)
    finding = judge_layers(ratios, *predicted, rows=rows, evidence=evidence, exhibits=exhibits)
    return unless_it_explains_nothing(finding, rows)


def check_untouched_against_sae(run: Run) -> Finding:
    """False twin: the found directions, with presence left as it is, in the place of those that are set."""
    rows = _rows(run)
    ratios = {layer: row.ratio(FOUND_UNTOUCHED, SAE) for layer, row in rows.items()}
    return judge_layers(ratios, *prediction(run, SAE_PREDICTION, SIDE), rows=rows)


def _rows(run: Run) -> dict[int, LayerScores]:
    return {layer: scores(run, layer) for layer in layers(run)}


def _score_histogram(outcome: Found, layer: int) -> Histogram:
    evaluation = outcome.evaluation
    groups = {
        "found": evaluation.plus.mean.tolist(),
        "negated": evaluation.minus.mean.tolist(),
        "random": evaluation.random.mean.tolist(),
    }
    return compared_exhibits.single_directions(
        f"Sensitivity of found, negated and random directions, layer {layer}", groups
    )


def _search_curve(outcome: Found, layer: int) -> Curve:
    history = outcome.state.history
    return Curve(
        title=f"The search, layer {layer}",
        caption="Mean SeS of all directions at each step, each on freshly drawn search contexts (hence the noise).",
        x_label="step",
        y_label="mean SeS",
        x=list(range(1, len(history) + 1)),
        series={"parallel search": history},
        log_y=True,
    )
