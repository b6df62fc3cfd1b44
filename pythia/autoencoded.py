"""PY-3: decoder directions of sparse autoencoders against random ones, on held-out contexts, layer by layer.

An autoencoder of another model, or one with weights that are no good, has directions too, and they have scores. About
autoencoders these say nothing: what explains no more of the model's activations than their mean does is none of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from pythia import compared_exhibits, subject
from pythia.compared import RANDOM, SAE, layers
from pythia.group_scores import UNTOUCHED, LayerScores, scores
from pythia.layerwise import judge_layers
from pythia.subject import prediction
from sensverify.claims import Run
from sensverify.exhibits import Histogram
from sensverify.predictions import Side
from sensverify.verdicts import Finding, Status

PREDICTION = "PY-3"
SIDE: Side = "low"
"""The side of its interval that the claim cannot do without."""


def preflight(run: Run) -> None:
    """As :func:`pythia.subject.preflight` does for every claim, with the prediction of PY-3."""
    subject.preflight(run, {PREDICTION: SIDE})


def check_sae_against_random(run: Run) -> Finding:
    """PY-3 on the run's model: the user's autoencoder where there is one, else our own."""
    rows = _rows(run)
    evidence, shown = compared_exhibits.comparison(run, rows, PREDICTION, next(iter(rows)))
    finding = judge_layers(
        {layer: row.ratio(SAE, RANDOM) for layer, row in rows.items()},
        *prediction(run, PREDICTION, SIDE),
        rows=rows,
        evidence=evidence,
        exhibits=(*shown, *map(_histogram, rows.values())),
    )
    return unless_it_explains_nothing(finding, rows)


def unless_it_explains_nothing(finding: Finding, rows: Mapping[int, LayerScores]) -> Finding:
    """``finding``, or INCONCLUSIVE where the autoencoder of a layer explains none of the held-out variance."""
    explained = {layer: float(row.sae["held_out_variance_explained"]) for layer, row in rows.items()}
    failed = {layer: share for layer, share in explained.items() if not share > 0}  # NaN included
    if not failed:
        return finding
    told = ", ".join(f"{share:.3g} at layer {layer}" for layer, share in failed.items())
    reason = f"the autoencoder is none of this model: variance explained of held-out activations is {told}, not above 0"
    return dataclasses.replace(
        finding, status=Status.INCONCLUSIVE, witness=None, evidence={"reason": reason, **finding.evidence}
    )


def check_untouched_against_random(run: Run) -> Finding:
    """False twin: the same directions, with presence left as it is, in the place of those that are set."""
    rows = _rows(run)
    ratios = {layer: row.ratio(UNTOUCHED, RANDOM) for layer, row in rows.items()}
    return judge_layers(ratios, *prediction(run, PREDICTION, SIDE), rows=rows)


def _rows(run: Run) -> dict[int, LayerScores]:
    return {layer: scores(run, layer) for layer in layers(run)}


def _histogram(row: LayerScores) -> Histogram:
    return compared_exhibits.histogram("Sensitivity of latents and of random directions", row, (SAE, RANDOM))
