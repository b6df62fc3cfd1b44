"""PY-11: on how few units of a privileged basis do directions act, and do those found by their peaks act on fewer?

A search for peak sensitivity, ``E‖Δ‖₄⁴`` of the effect ``Δ`` on the neurons of a later MLP, is what found planted
features in the toys where plain sensitivity did not (TM-8), and what it found acted on fewer units than random
directions do. Here the same is asked of a language model. Concentration ``C = E‖Δ‖₄⁴/E‖Δ‖₂⁴`` (absent reference) of
all groups is measured on the same held-out contexts with the same presences:

- directions found by peak sensitivity, which are judged; those found plainly, of an autoencoder, random ones, principal
  components, and those found on a model with shuffled weights;
- as a positive control those found by maximising ``C`` itself. That peaks are no more concentrated than random effects
  is said only if the same judge sees that directions which are can be found with the same budget;
- as negative controls the same neurons in a rotated basis, where single coordinates mean nothing and ``C`` falls to
  that of noise, about ``3/n``; contexts of shuffled tokens; presences set to what they are, and the activation's length
  alone changed, which have no effect but what LayerNorm's ``ε`` and rounding make of them, and count as spread.

``C`` says nothing of size. Beside it stand peak sensitivity over that of random directions, and the unit that takes the
largest share of a direction's ``E‖Δ‖₄⁴``: how many different ones a group has, and how large the share is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from pythia import compared, subject
from pythia.concentrations import (
    CONCENTRATION,
    FACTOR,
    LOGIT_CONTEXTS,
    PEAK,
    Measured,
    kind_of,
    layers,
    mean_of,
    measured,
    on_logits,
    ratio_of,
    search_options,
)
from sensverify.claims import Run
from sensverify.exhibits import Exhibit, Histogram, IntervalRow, Intervals, Table
from sensverify.predictions import JUDGED, Side, judged
from sensverify.statistics import Interval, group_ratio
from sensverify.verdicts import Finding, Status

PREDICTION = "PY-11.peak"
DRAWN = (PEAK, CONCENTRATION, compared.FOUND, compared.SAE, compared.RANDOM)
"""Of single directions no more groups are drawn over each other: more cannot be told apart."""
SIDE: Side = "low"
"""The side of its interval that the claim cannot do without."""


def preflight(run: Run) -> None:
    """As :func:`pythia.subject.preflight` does for every claim, with the prediction of PY-11."""
    subject.preflight(run, {PREDICTION: SIDE})


# -- Judging ----------------------------------------------------------------------------------------------------------


def check_peak_concentration(run: Run) -> Finding:
    """PY-11 on the run's model."""
    rows = [measured(run, layer) for layer in layers(run)]
    tail = 0.025 / len(rows)
    control = _judge(run, {row.layer: row.ratio(CONCENTRATION, seed=run.seed, tail=tail) for row in rows})
    finding = _judge(run, {row.layer: row.ratio(PEAK, seed=run.seed, tail=tail) for row in rows})
    evidence = {
        **finding.evidence,
        "read": kind_of(run),
        "search": search_options(run, "peak").to_json(),
        "held_out_contexts": rows[0].groups[PEAK].effects.shape[1],
        "positive_control": {
            "group": CONCENTRATION,
            "ratio_to_random": control.evidence["ratio_peak_to_random"],
            "more_concentrated_than_random": control.status is Status.SUPPORTED,
        },
        "layers": {str(row.layer): _evidence(run, row) for row in rows},
    }
    finding = dataclasses.replace(finding, evidence=evidence, exhibits=_exhibits(run, rows))
    if finding.status is Status.REFUTED and control.status is not Status.SUPPORTED:
        reason = "no search with this budget is seen to find directions that act on fewer units than random ones"
        finding = dataclasses.replace(
            finding, status=Status.INCONCLUSIVE, witness=None, evidence={**evidence, "reason": reason}
        )
    return finding


def check_peak_in_a_rotated_basis(run: Run) -> Finding:
    """False twin: the neurons' basis is rotated, so that single coordinates mean nothing."""
    rows = [measured(run, layer) for layer in layers(run)]
    return _judge(
        run,
        {row.layer: ratio_of(row.rotated[PEAK], row.groups[compared.RANDOM], seed=run.seed) for row in rows},
    )


def check_nothing_set(run: Run) -> Finding:
    """False twin: every presence is set to what it already is; what is left is rounding."""
    rows = [measured(run, layer) for layer in layers(run)]
    return _judge(
        run,
        {row.layer: ratio_of(row.nothing_set, row.groups[compared.RANDOM], seed=run.seed) for row in rows},
    )


def _judge(run: Run, ratios: Mapping[int, Interval]) -> Finding:
    """SUPPORTED if the interval at every layer is inside the prediction, REFUTED by one that is wholly outside."""
    predicted, origin = subject.prediction(run, PREDICTION, SIDE)
    outcomes = {layer: predicted.judge(ratio) for layer, ratio in ratios.items()}
    failing = [layer for layer, outcome in outcomes.items() if outcome == "outside"]
    if failing:
        status = Status.REFUTED
    else:
        inside = all(outcome == "inside" for outcome in outcomes.values())
        status = Status.SUPPORTED if inside else Status.INCONCLUSIVE
    together = f", interval for {len(ratios)} layers together" if len(ratios) > 1 else ""
    evidence: dict[str, Any] = {
        JUDGED: [
            judged(predicted, ratio, of=f"layer {layer}{together}", origin=origin) for layer, ratio in ratios.items()
        ],
        "ratio_peak_to_random": {str(layer): ratio.to_json() for layer, ratio in ratios.items()},
        "predicted": predicted.to_json(),
        "predictions": origin,
    }
    if len(ratios) > 1:
        evidence["multiple_testing"] = f"{len(ratios)} layers, intervals that hold together (Bonferroni)"
    witness = None
    if failing:
        witness = {"layer": failing[0], "ratio": ratios[failing[0]].to_json(), "predicted": predicted.to_json()}
    return Finding(status=status, evidence=evidence, witness=witness)


def _evidence(run: Run, row: Measured) -> dict[str, Any]:
    """Plain JSON of one layer."""
    seed = run.seed
    against = {
        name: row.ratio(PEAK, name, seed=seed).to_json() for name in row.groups if name not in (PEAK, compared.RANDOM)
    }
    peaks = {
        name: group_ratio(
            row.peaks[name].effects, row.peaks[compared.RANDOM].effects, torch.Generator().manual_seed(seed + 53)
        ).to_json()
        for name in (PEAK, compared.FOUND)
    }
    return {
        "site": dict(row.site.held_out.describe()),
        "concentration": {name: mean_of(one, seed).to_json() for name, one in row.groups.items()},
        "ratio_to_random": {
            name: row.ratio(name, seed=seed).to_json() for name in row.groups if name != compared.RANDOM
        },
        "ratio_peak_to_others_not_judged": against,
        "peak_sensitivity_ratio_to_random": peaks,
        "controls": {name: one.to_json() for name, one in _controls(row, seed).items()},
        "concentration_on_logits": {
            name: mean_of(one, seed).to_json() for name, one in on_logits(run, row.layer).items()
        },
        "different_strongest_units": {name: len(set(units.tolist())) for name, (units, _) in row.strongest.items()},
        "share_of_strongest_unit": {name: float(part.mean()) for name, (_, part) in row.strongest.items()},
    }


def _controls(row: Measured, seed: int) -> dict[str, Interval]:
    return {
        "peak, rotated basis": mean_of(row.rotated[PEAK], seed),
        "random, rotated basis": mean_of(row.rotated[compared.RANDOM], seed),
        "peak, shuffled tokens": mean_of(row.shuffled_tokens[PEAK], seed),
        "random, shuffled tokens": mean_of(row.shuffled_tokens[compared.RANDOM], seed),
        "presences set to what they are": mean_of(row.nothing_set, seed),
        f"norm times {FACTOR:g}, no direction": mean_of(row.norm_only, seed),
    }


# -- Showing ----------------------------------------------------------------------------------------------------------


def _exhibits(run: Run, rows: list[Measured]) -> tuple[Exhibit, ...]:
    seed, first, units = run.seed, rows[0], "tokens" if kind_of(run) == "logits" else "neurons"
    levels = {name: mean_of(one, seed) for name, one in first.groups.items()}
    over = [f"{name} / random is {first.ratio(name, seed=seed).text()}" for name in (PEAK, CONCENTRATION)]
    return (
        Intervals(
            title=f"On how few {units} directions act, layer {first.layer}",
            caption="Concentration of effects, 95 % intervals, directions and contexts resampled; all groups on the "
            "same held-out contexts and presences. “concentration” is found by maximising what is measured here. The "
            f"claim needs “peak” above “random”: {', '.join(over)}. Controls are in the table below.",
            x_label="concentration",
            rows=[IntervalRow(name=name, **level.to_json()) for name, level in levels.items()],
            log_x=True,
        ),
        Histogram(
            title=f"Concentration of single directions on {units}, layer {first.layer}",
            caption="One count per direction, averaged by effect over held-out contexts. The other groups are in the "
            "plot above.",
            x_label="concentration",
            groups={name: first.groups[name].mean.tolist() for name in DRAWN},
            log_x=True,
        ),
        Table(
            title=f"Concentration on {units} and on logits",
            caption="Means over directions. A ratio above 1 says that effects land on fewer units than those of random "
            "directions. The strongest unit of a direction is the one with the largest part of its effects; where a "
            "group has few different ones, its directions act on the same units. Effects on logits are measured on "
            f"{LOGIT_CONTEXTS} contexts. The rows below the groups are controls: in a rotated basis single units mean "
            "nothing, with shuffled tokens the text does not, and where nothing is set, or the norm alone, there is no "
            "effect beyond rounding to be concentrated.",
            columns=[
                "layer",
                "directions",
                units,
                "ratio to random",
                "logits",
                "different strongest units",
                "their share",
            ],
            rows=[line for row in rows for line in _lines(run, row)],
        ),
    )


def _lines(run: Run, row: Measured) -> list[list[Any]]:
    logits = on_logits(run, row.layer)
    lines: list[list[Any]] = []
    for name, estimate in row.groups.items():
        units, share = row.strongest[name]
        ratio = "" if name == compared.RANDOM else row.ratio(name, seed=run.seed)
        different = f"{len(set(units.tolist()))} of {len(units)}"
        level, on_tokens = mean_of(estimate, run.seed), mean_of(logits[name], run.seed)
        lines.append([row.layer, name, level, ratio, on_tokens, different, float(share.mean())])
    for name in logits.keys() - row.groups.keys():
        lines.append([row.layer, name, "", "", mean_of(logits[name], run.seed), "", ""])
    for name, control in _controls(row, run.seed).items():
        lines.append([row.layer, name, control, "", "", "", ""])
    return lines
