"""PY-11.rules: are directions found by their peaks told better by rules than those of plain sensitivity and of SAEs?

What acts on few neurons might be one thing that the model computes with, and such a thing might be told in few words.
The measure is that of PY-5 (:mod:`pythia.explained`): the mean held-out detection accuracy of the best rule of each
direction, the same windows, halves and search for every group. Directions found by maximising concentration itself are
shown beside, and not judged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from torch import Tensor

from pythia import compared, concentrations, explained, subject
from pythia.compared import FOUND, SAE
from pythia.concentrations import CONCENTRATION, PEAK
from pythia.explain import explain_all
from pythia.explained import LEVEL, Layer, Means, group_means, judge_all
from pythia.gallery import presences
from sensverify.claims import Run
from sensverify.exhibits import Exhibit, IntervalRow, Intervals, Table
from sensverify.predictions import JUDGED, Prediction, judged
from sensverify.rules import Explanations
from sensverify.verdicts import Finding, Status

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
SHOWN = 4


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
        "mean_bits_of_rules": {name: _mean([e.rule.bits for e in _all(layers, name)]) for name in means.values},
    }
    return _judge(means, PEAK, evidence, _exhibits(layers, means))


def check_moved_presences(run: Run) -> Finding:
    """False twin: the same directions with their presences moved to other contexts."""
    rows = []
    for row in measured(run):
        rho = _presences(run, row.layer, concentrations.searched(run, row.layer, PEAK))
        rows.append(
            dataclasses.replace(row, groups={**row.groups, MOVED: _explain(run, row.layer, rho.roll((1, 7), (1, 2)))})
        )
    return _judge(group_means(rows, run.seed), MOVED, {}, ())


def measured(run: Run) -> list[Layer]:
    """The layers of PY-5 at which there are directions found by their peaks, with the groups of this claim added."""

    def make() -> list[Layer]:
        rows, chosen = [], concentrations.layers(run)
        for row in explained.measured(run):
            if row.layer in chosen:
                ours = {
                    name: _explain(
                        run, row.layer, _presences(run, row.layer, concentrations.searched(run, row.layer, name))
                    )
                    for name in (PEAK, CONCENTRATION)
                }
                rows.append(dataclasses.replace(row, groups={**ours, **row.groups}))
        return rows

    return run.shared("pythia.selective_rules", make)


def _presences(run: Run, layer: int, directions: Tensor) -> Tensor:
    _, held_out = compared.language_readouts(compared.site(run, layer))
    return presences(held_out, directions)


def _explain(run: Run, layer: int, rho: Tensor) -> Explanations:
    _, held_out = compared.language_readouts(compared.site(run, layer))
    return explain_all(
        subject.model(run),
        held_out.windows,
        rho,
        first_position=held_out.first_position,
        counted=held_out.counted_inside,
        options=explained.options(run),
        seed=run.seed,
    )


def _judge(means: Means, group: str, evidence: Mapping[str, object], exhibits: tuple[Exhibit, ...]) -> Finding:
    """SUPPORTED if both differences, corrected for being two, lie above 0; REFUTED by one that lies below."""
    together = {name: means.difference(group, name, LEVEL / len(COMPARED_WITH)) for name in COMPARED_WITH}
    status, worst = judge_all(together, ORDER)
    differences = {
        f"{group}_minus_{name}": {
            **means.difference(group, name).to_json(),
            "low_corrected": together[name].low,
            "high_corrected": together[name].high,
        }
        for name in COMPARED_WITH
    }
    witness = None
    if status is Status.REFUTED:
        witness = {
            "accuracy": means.interval(group).to_json(),
            f"accuracy_{worst}": means.interval(worst).to_json(),
            f"{group}_minus_{worst}": together[worst].to_json(),
        }
    correction = f"Bonferroni over {len(COMPARED_WITH)} comparisons"
    return Finding(
        status=status,
        evidence={
            JUDGED: [
                judged(ORDER, interval, of=f"{group} minus {name}, {correction}", origin="stated by the theory")
                for name, interval in together.items()
            ],
            **differences,
            "correction": correction,
            "predicted": ORDER.to_json(),
            **evidence,
        },
        witness=witness,
        exhibits=exhibits,
    )


def _all(layers: Sequence[Layer], group: str):  # type: ignore[no-untyped-def]
    return [explanation for row in layers for explanation in row.groups[group].each]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _exhibits(layers: Sequence[Layer], means: Means) -> tuple[Exhibit, ...]:
    return (
        Intervals(
            title="How well rules tell directions found by their peaks",
            caption="Balanced accuracy on held-out windows, mean over directions (and layers), 95 % intervals, windows "
            "and directions resampled. The claim needs 'peak' right of 'found' and of 'SAE'. The line is chance.",
            x_label="held-out detection accuracy",
            rows=[IntervalRow(name=name, **means.interval(name).to_json()) for name in means.values],
            reference=0.5,
        ),
        Table(
            title="Rules of directions that were found selectively",
            caption=f"Of each search the {SHOWN} directions that are told best; bits are the rule's length, the "
            "p-value is against the same search on shuffled labels.",
            columns=["search", "layer", "rule", "accuracy", "shuffled", "p", "bits"],
            rows=[
                [name, row.layer, e.rule.words, e.accuracy.text(), e.null_mean, e.p_value, round(e.rule.bits)]
                for row in layers
                for name in (PEAK, CONCENTRATION, FOUND)
                for e in sorted(row.groups[name].each, key=lambda e: -e.accuracy.value)[:SHOWN]
            ],
        ),
    )
