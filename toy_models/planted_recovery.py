"""TM-8.plain, TM-8.selective, TM-8.peak, TM-8.sparse: which searches find the planted features of a transformer.

The judge is the same for all: the share of the directions found that lie within cosine 0.9 of a planted feature. That
plain and size-blind searches fail is said only if the same judge sees the search of TM-8.peak succeed.

Where features are sparse and thresholds high, the search of TM-8.peak is said to fail. A failure may be that of the
models, of the budget, of the start or of the score; so two more searches look at the very same models with the same
budget (:data:`toy_models.planted.CONTROLS`). One counts rises alone: with few features in a token, what is there is
there strongly, and the largest effect of *any* intervention is that it shrinks; a peak of rises does not see that. The
other begins at activations, near features, where the score that fails from random directions may still have its maxima.
The claim is refuted only if the first control finds what was planted.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sensverify import selectivity
from sensverify.claims import Run
from sensverify.exhibits import Exhibit, Heatmap, Histogram, Table
from sensverify.sensitivity import Probe
from sensverify.statistics import Interval, group_ratio, seed_mean, share_interval
from sensverify.verdicts import Finding, Status
from toy_models.judging import at_least
from toy_models.planted import (
    CONFIG,
    CONTROLS,
    EVALUATION_CONTEXTS,
    PEAK,
    RISES,
    SIZE_BLIND,
    Subject,
    carried_share,
    directions_of,
    find,
    found_directions,
    score,
    searches,
    subjects,
)
from toy_models.planting import plant
from toy_models.recovery import RECOVERED_COSINE, match

MOST = 0.5
"""More than this share of the directions found has to be a planted feature at cosine 0.9."""
MORE_THAN_MOST = math.nextafter(MOST, 1.0)
SPARSE: dict[str, Any] = {"most_active": 3, "threshold": 0.4}
ACTIVE, THRESHOLDS = (1, 3, 8, 24), (0.1, 0.2, 0.3, 0.4)
"""The phase diagram of the full profile: most features of a token, thresholds of units."""


def check_plain_recovery(run: Run) -> Finding:
    """TM-8.plain."""
    finding = _beside_peak(run, _judge_recovery(subjects(run), found_directions(run, "plain"), _recovery_exhibits(run)))
    held_out = {
        f"seed {subject.seed}": _found_to_planted(subject, directions)
        for subject, directions in zip(subjects(run), found_directions(run, "plain"), strict=True)
    }
    return dataclasses.replace(finding, evidence={**finding.evidence, "SeS_of_found_to_planted": held_out})


def _found_to_planted(subject: Subject, directions: Tensor) -> dict[str, float]:
    """Above 1 if the search does what it is told, and it is the score that has its maxima elsewhere."""
    scores = score(subject.readout(1), subject, {"found": directions, "planted": subject.planted.features})
    return scores.ratio("found", "planted").to_json()


def check_selective_recovery(run: Run) -> Finding:
    """TM-8.selective: concentration, whatever the size of the effect."""
    return _beside_peak(run, _judge_recovery(subjects(run), found_directions(run, SIZE_BLIND)))


def _beside_peak(run: Run, finding: Finding) -> Finding:
    """A failure means something only where success is seen: REFUTED only if the same judge says SUPPORTED of the search
    of TM-8.peak, on the same models with the same budget."""
    control = _judge_recovery(subjects(run), found_directions(run, PEAK))
    evidence = {**finding.evidence, "positive_control": {PEAK: _control(control)}}
    if finding.status is Status.REFUTED and control.status is not Status.SUPPORTED:
        evidence["reason"] = "no search with this budget is seen to find what is planted in these models"
        return dataclasses.replace(finding, status=Status.INCONCLUSIVE, evidence=evidence, witness=None)
    return dataclasses.replace(finding, evidence=evidence)


def check_peak_recovery(run: Run) -> Finding:
    """TM-8.peak: large effects on few units."""
    exhibits = (_phase_diagram(run),) if run.profile == "full" else ()
    return _judge_recovery(subjects(run), found_directions(run, PEAK), exhibits)


def check_recovery_of_sparse_features(run: Run) -> Finding:
    """TM-8.sparse: the same search where few features are present, and only strong presence is read."""
    models = sparse_subjects(run)
    finding = _judge_recovery(models, [find(run, subject, PEAK) for subject in models])
    controls = {name: _judge_recovery(models, [find(run, s, name) for s in models]) for name in CONTROLS}
    evidence = {
        **finding.evidence,
        "controls": {name: _control(control) for name, control in controls.items()},
        "peak_of_found_to_planted": {f"seed {s.seed}": _peaks(s, find(run, s, PEAK)).to_json() for s in models},
    }
    if finding.status is Status.REFUTED and controls[RISES].status is not Status.SUPPORTED:
        evidence["reason"] = "no search with this budget is seen to find what is planted in these models"
        return dataclasses.replace(finding, status=Status.INCONCLUSIVE, evidence=evidence, witness=None)
    witness = finding.witness and {**finding.witness, "controls": evidence["controls"]}
    exhibit = _controls_table(models, {PEAK: finding, **controls})
    return dataclasses.replace(finding, evidence=evidence, witness=witness, exhibits=(exhibit,))


def _peaks(subject: Subject, directions: Tensor) -> Interval:
    """Peak sensitivity of ``directions`` over that of the planted features: above 1 if the score prefers what is found,
    below if the ascent ended short of what the score has its maxima at."""
    readout = subject.readout(1, units=True)
    batch, probe = readout.sample(EVALUATION_CONTEXTS, subject.generator(1)), Probe(reference="absent")
    top, bottom = (
        selectivity.estimate_on(
            readout, batch, group, generator=subject.generator(3), draws=2, probe=probe, measure="peak"
        ).effects
        for group in (directions, subject.planted.features)
    )
    return group_ratio(top, bottom, subject.generator(2))


def sparse_subjects(run: Run) -> list[Subject]:
    """The models of TM-8.sparse."""
    return subjects(run, dataclasses.replace(CONFIG, **SPARSE))


def _control(finding: Finding) -> dict[str, Any]:
    """A control's share of directions at planted features, on all models and on each."""
    return {
        "share_of_directions_recovered": finding.evidence["share_of_directions_recovered"],
        "finds_most": finding.status is Status.SUPPORTED,
        "by_model": {seed: row["precise_share"] for seed, row in finding.evidence["seeds"].items()},
    }


def check_sparse_recovery_by_random(run: Run) -> Finding:
    """False twin of TM-8.sparse, on its models: random directions of ``A`` in the place of found ones."""
    return _judge_random(run, sparse_subjects(run))


def check_recovery_by_random(run: Run) -> Finding:
    """False twin: random directions of ``A``, which is more than a search is told, in the place of found ones."""
    return _judge_random(run, subjects(run))


def _judge_random(run: Run, models: Sequence[Subject]) -> Finding:
    count = searches(run)["plain"].options.directions
    return _judge_recovery(models, [directions_of(s, "random in A", count, s.generator(5)) for s in models])


def check_recovery_of_another_model(run: Run) -> Finding:
    """False twin: each model's findings held against the features planted in the next one."""
    groups = found_directions(run, PEAK)
    return _judge_recovery(subjects(run), [*groups[1:], groups[0]])


def _judge_recovery(models: Sequence[Subject], groups: Sequence[Tensor], exhibits: tuple[Exhibit, ...] = ()) -> Finding:
    """SUPPORTED if the interval of the mean over models, models and directions resampled, is wholly above a half, and
    every model's share is; REFUTED if that interval is nowhere above."""
    hits = [_hits(subject, directions) for subject, directions in zip(models, groups, strict=True)]
    share = share_interval(hits, models[0].generator(2))
    rows = {
        f"seed {subject.seed}": {
            **match(directions, subject.planted.features).to_json(),
            "share_in_A": carried_share(subject, directions).to_json(),
        }
        for subject, directions in zip(models, groups, strict=True)
    }
    status = at_least([share], MORE_THAN_MOST)
    if status is Status.SUPPORTED and not all(float(hit.double().mean()) > MOST for hit in hits):
        status = Status.INCONCLUSIVE
    evidence = {"share_of_directions_recovered": share.to_json(), "more_than": MOST, "cosine": RECOVERED_COSINE}
    return Finding(
        status=status,
        evidence={"model": models[0].planted.describe(), **evidence, "seeds": rows},
        witness={**evidence, "seeds": rows} if status is Status.REFUTED else None,
        exhibits=exhibits,
    )


def _hits(subject: Subject, directions: Tensor) -> Tensor:
    """``[K]``: which directions are within cosine 0.9 of a planted feature."""
    return match(directions, subject.planted.features).precise


def _recovery_exhibits(run: Run) -> tuple[Exhibit, ...]:
    cosines, rows = {}, []
    for name in searches(run):
        matchings = [
            match(d, s.planted.features) for s, d in zip(subjects(run), found_directions(run, name), strict=True)
        ]
        best = torch.cat([matching.best_of_directions for matching in matchings])
        cosines[name] = best.tolist()
        resample = torch.Generator().manual_seed(run.seed)
        share = share_interval([matching.precise for matching in matchings], resample)
        distinct = ", ".join(str(matching.recovered) for matching in matchings)
        cosine = seed_mean([matching.directions_to_features for matching in matchings])
        carried = seed_mean(
            [carried_share(s, d).value for s, d in zip(subjects(run), found_directions(run, name), strict=True)]
        )
        rows.append([name, share.text(), cosine.text(), distinct, carried.text()])
    return (
        Table(
            title="Searches for planted features",
            caption=f"Same budget for all; {len(subjects(run))} models. The share of directions within cosine 0.9 of a "
            "planted feature (models and directions resampled), their mean cosine to the nearest one, how many "
            f"different features of {CONFIG.features} were found on each model, and what share of a direction's "
            "squared length lies where attention carries it (Student's intervals). A search finds features if the "
            f"first interval lies above {MOST:g}.",
            columns=["search", "share recovered", "mean cosine", "different features", "share in A"],
            rows=rows,
        ),
        Histogram(
            title="Cosine of what is found to the nearest planted feature",
            caption="One count per direction, all models. Directions at features lie right of 0.9; those that ended "
            "between features or elsewhere lie left of it. Compare the searches.",
            x_label="cosine",
            groups=cosines,
        ),
    )


def _controls_table(models: Sequence[Subject], findings: dict[str, Finding]) -> Table:
    rows = []
    for name, finding in findings.items():
        share = Interval(**finding.evidence["share_of_directions_recovered"])
        each = (f"{row['precise_share']:.2f}" for row in finding.evidence["seeds"].values())
        rows.append([name, share.text(), ", ".join(each)])
    return Table(
        title="Sparse features behind high thresholds: three searches of the same models",
        caption="Share of directions within cosine 0.9 of a planted feature, same models, same budget "
        f"({', '.join(f'seed {subject.seed}' for subject in models)}). The first row is judged; the others change its "
        "score or its start alone. If they lie above a half where it does not, features could be found with this "
        "budget, and what failed is its score, or its way there from random directions.",
        columns=["search", "share recovered", "by model"],
        rows=rows,
    )


def _phase_diagram(run: Run) -> Heatmap:
    """One model in each cell."""

    def share(active: int, threshold: float) -> float:
        subject = Subject(plant(dataclasses.replace(CONFIG, most_active=active, threshold=threshold), 1000 * run.seed))
        return float(_hits(subject, find(run, subject, PEAK)).double().mean())

    values = []
    for done, active in enumerate(ACTIVE):
        run.progress("planted phase diagram", done, len(ACTIVE))
        values.append([share(active, threshold) for threshold in THRESHOLDS])
    run.progress("planted phase diagram", len(ACTIVE), len(ACTIVE))
    return Heatmap(
        title="Where a search for peaks finds planted features",
        caption=f"Share of directions within cosine 0.9 of a planted feature, one model, seed {1000 * run.seed}, in "
        "each cell. To be compared: the left with the right, where units fire only above a high presence, and the top "
        "with the bottom. Where few features are in a token, each is present strongly, and shrinking it, as every "
        "intervention does, moves few units far; and a unit is silent to directions that do not reach its threshold. "
        "Both would show as a low share in the upper right corner.",
        x_label="presence above which a unit fires",
        y_label="most features in a token",
        values=values,
        columns=[f"{threshold:g}" for threshold in THRESHOLDS],
        rows=[f"{active}" for active in ACTIVE],
        value_label="share recovered",
    )
