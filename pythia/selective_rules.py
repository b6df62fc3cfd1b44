"""PY-11.rules: are directions found by their peaks told better by rules than those of plain sensitivity and of SAEs?

What acts on few neurons might be one thing that the model computes with, and such a thing might be told in few words.
The measure is that of PY-5 (:mod:`pythia.explained`): the mean held-out detection accuracy of the best rule of each
direction, the same windows, halves and search for every group. Directions found by maximising concentration itself are
shown beside, and not judged.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from torch import Tensor

from pythia import concentrations, explained
from pythia.compared import FOUND, SAE
from pythia.concentrations import CONCENTRATION, PEAK
from pythia.explained import (
    Layer,
    Means,
    explanations,
    group_means,
    judge_differences,
    rows_of,
    rules_table,
    told_apart,
)
from pythia.gallery import presences
from sensverify.claims import Run
from sensverify.exhibits import Exhibit, Intervals
from sensverify.predictions import Prediction
from sensverify.rules import Explanations
from sensverify.verdicts import Finding

COMPARED_WITH = (FOUND, SAE)
ORDER = Prediction(
    id="PY-11.rules",
    quantity="held-out detection accuracy of rules, directions found by peak sensitivity minus those of another group",
    low=0.0,
    high=None,
    derived_from="THEORY PY-11, the order that is asked for there: above plain sensitivity, and above autoencoders. No "
    "toy shows it: in TM-8.rules rules tell directions found either way, and an autoencoder's, alike.",
)
MOVED = "peak, presences moved"


def check_peak_rules(run: Run) -> Finding:
    """PY-11.rules on the run's model."""
    layers = measured(run)
    means = group_means(layers, run.seed)
    evidence = {
        "layers": [row.layer for row in layers],
        "held_out_windows": layers[0].groups[PEAK].hits.shape[1],
        "detection_accuracy": {name: means.interval(name).to_json() for name in means.values},
        "peak_minus_others_not_judged": {
            name: means.difference(PEAK, name).to_json() for name in means.values if name not in (PEAK, *COMPARED_WITH)
        },
        "mean_bits_of_rules": {
            name: statistics.fmean(e.rule.bits for e in explanations(layers, name)) for name in means.values
        },
    }
    return _judge(means, PEAK, evidence, _exhibits(layers, means))


def check_moved_presences(run: Run) -> Finding:
    """False twin: the same directions with their presences moved to other contexts."""
    rows = []
    for row in measured(run):
        moved = explained.explain(run, row.layer, _presences(run, row.layer, PEAK).roll((1, 7), (1, 2)))
        rows.append(dataclasses.replace(row, groups={**row.groups, MOVED: moved}))
    return _judge(group_means(rows, run.seed), MOVED, {}, ())


def measured(run: Run) -> list[Layer]:
    """The layers of PY-5 at which there are directions found by their peaks, with the groups of this claim added."""

    def make() -> list[Layer]:
        rows, chosen = [], concentrations.layers(run)
        for row in explained.measured(run):
            if row.layer in chosen:
                ours = {name: _explain(run, row.layer, name) for name in (PEAK, CONCENTRATION)}
                rows.append(dataclasses.replace(row, groups={**ours, **row.groups}))
        return rows

    return run.shared("pythia.selective_rules", make)


def _explain(run: Run, layer: int, name: str) -> Explanations:
    return explained.explain(run, layer, _presences(run, layer, name))


def _presences(run: Run, layer: int, name: str) -> Tensor:
    return presences(explained.held_out(run, layer), concentrations.searched(run, layer, name))


def _judge(means: Means, group: str, evidence: Mapping[str, object], exhibits: tuple[Exhibit, ...]) -> Finding:
    """SUPPORTED if both differences, corrected for being two, lie above 0; REFUTED by one that lies below."""
    predicted = dict.fromkeys(COMPARED_WITH, (ORDER, "stated by the theory"))
    return judge_differences(means, group, predicted, {"predicted": ORDER.to_json(), **evidence}, exhibits)


def _exhibits(layers: Sequence[Layer], means: Means) -> tuple[Exhibit, ...]:
    return (
        Intervals(
            title="How well rules tell directions found by their peaks",
            caption="Balanced accuracy on held-out windows, mean over directions (and layers), 95 % intervals, windows "
            "and directions resampled. The line is chance. The claim needs “peak” above “found” and “SAE”. "
            f"{told_apart(means, PEAK, COMPARED_WITH)}",
            x_label="held-out detection accuracy",
            rows=rows_of(means),
            reference=0.5,
        ),
        rules_table(layers, (PEAK, CONCENTRATION, FOUND), "Rules of directions that were found selectively"),
    )
