"""PY-4: directions found by sensitivity against random ones, and against those of sparse autoencoders (PY-4.sae)."""

from __future__ import annotations

from pythia import compared_exhibits, group_scores, subject
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
    evidence = {
        **_evidence(run, rows),
        "duplicates": evaluation.duplicates,
        "largest_null_effect": evaluation.largest_null_effect,
    }
    searched = rows[subject.searched_layer(run)]
    exhibits = (
        *compared_exhibits.exhibits(rows, run.subject.model),
        _score_histogram(outcome),
        compared_exhibits.group_intervals(searched),
        _search_curve(outcome),
        browsable(run, searched.layer),
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
    evidence = _evidence(run, rows)
    exhibits = (_against_sae(rows[subject.searched_layer(run)]),)
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


def _evidence(run: Run, rows: dict[int, LayerScores]) -> dict[str, object]:
    return {
        **group_scores.describe(run, subject.searched_layer(run)),
        "layers": {f"layer {layer}": group_scores.evidence(row) for layer, row in rows.items()},
    }


def _against_sae(row: LayerScores) -> Histogram:
    return Histogram(
        title=f"Sensitivity of found directions and of latents, layer {row.layer}",
        caption="Each count is one direction's SeS over all held-out contexts.",
        x_label="SeS",
        groups={name: row.effects[name].double().mean(1).tolist() for name in (FOUND, SAE, RANDOM)},
        log_x=True,
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
