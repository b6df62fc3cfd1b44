"""TM-8.plain, TM-8.selective, TM-8.peak: which searches find the planted features of a transformer.

The judge is the same for all: the share of the directions found that lie within cosine 0.9 of a planted feature.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.exhibits import Exhibit, Heatmap, Histogram, Table
from sensverify.statistics import mean_interval
from sensverify.verdicts import Finding, Status
from toy_models.planted import (
    CONFIG,
    PEAK,
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
SPARSE: dict[str, Any] = {"most_active": 3, "threshold": 0.4}
ACTIVE, THRESHOLDS = (1, 3, 8, 24), (0.1, 0.2, 0.3, 0.4)
"""The phase diagram of the full profile: most features of a token, thresholds of units."""


def check_plain_recovery(run: Run) -> Finding:
    """TM-8.plain."""
    finding = _judge_recovery(subjects(run), found_directions(run, "plain"), _recovery_exhibits(run))
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
    return _judge_recovery(subjects(run), found_directions(run, SIZE_BLIND))


def check_peak_recovery(run: Run) -> Finding:
    """TM-8.peak: large effects on few units."""
    exhibits = (_phase_diagram(run),) if run.profile == "full" else ()
    return _judge_recovery(subjects(run), found_directions(run, PEAK), exhibits)


def check_recovery_of_sparse_features(run: Run) -> Finding:
    """TM-8.sparse: the same search where few features are present, and only strong presence is read."""
    models = subjects(run, dataclasses.replace(CONFIG, **SPARSE))
    return _judge_recovery(models, [find(run, subject, PEAK) for subject in models])


def check_recovery_by_random(run: Run) -> Finding:
    """False twin: random directions of ``A``, which is more than a search is told, in the place of found ones."""
    count = searches(run)["plain"].options.directions
    return _judge_recovery(
        subjects(run), [directions_of(s, "random in A", count, s.generator(5)) for s in subjects(run)]
    )


def check_recovery_of_another_model(run: Run) -> Finding:
    """False twin: each model's findings held against the features planted in the next one."""
    groups = found_directions(run, PEAK)
    return _judge_recovery(subjects(run), [*groups[1:], groups[0]])


def _judge_recovery(models: Sequence[Subject], groups: Sequence[Tensor], exhibits: tuple[Exhibit, ...] = ()) -> Finding:
    """SUPPORTED if the interval over the directions of all models is wholly above a half, and every model's share is;
    REFUTED if that interval is wholly below."""
    hits = [_hits(subject, directions) for subject, directions in zip(models, groups, strict=True)]
    share = mean_interval(torch.cat(hits), models[0].generator(2))
    rows = {
        f"seed {subject.seed}": {
            **match(directions, subject.planted.features).to_json(),
            "share_in_A": carried_share(subject, directions).to_json(),
        }
        for subject, directions in zip(models, groups, strict=True)
    }
    status = Status.INCONCLUSIVE
    if share.high < MOST:
        status = Status.REFUTED
    elif share.low > MOST and all(float(hit.mean()) > MOST for hit in hits):
        status = Status.SUPPORTED
    evidence = {"share_of_directions_recovered": share.to_json(), "more_than": MOST, "cosine": RECOVERED_COSINE}
    return Finding(
        status=status,
        evidence={"model": models[0].planted.describe(), **evidence, "seeds": rows},
        witness={**evidence, "seeds": rows} if status is Status.REFUTED else None,
        exhibits=exhibits,
    )


def _hits(subject: Subject, directions: Tensor) -> Tensor:
    """``[K]``: 1 for a direction within cosine 0.9 of a planted feature, else 0."""
    return (match(directions, subject.planted.features).best_of_directions >= RECOVERED_COSINE).double()


def _recovery_exhibits(run: Run) -> tuple[Exhibit, ...]:
    cosines, rows = {}, []
    for name in searches(run):
        matchings = [
            match(d, s.planted.features) for s, d in zip(subjects(run), found_directions(run, name), strict=True)
        ]
        best = torch.cat([matching.best_of_directions for matching in matchings])
        cosines[name] = best.tolist()
        resample = torch.Generator().manual_seed(run.seed)
        shares = torch.tensor([matching.precise_share for matching in matchings])
        distinct = [matching.recovered for matching in matchings]
        carried = torch.tensor(
            [carried_share(s, d).value for s, d in zip(subjects(run), found_directions(run, name), strict=True)]
        )
        rows.append([name, mean_interval(shares, resample).text(), f"{float(best.mean()):.3f}", f"{distinct}",
                     f"{float(carried.mean()):.2f}"])  # fmt: skip
    return (
        Table(
            title="Searches for planted features",
            caption=f"Same budget for all; {len(subjects(run))} models. The share of directions within cosine 0.9 of a "
            "planted feature (interval over models), their mean cosine to the nearest one, how many different features "
            f"of {CONFIG.features} were found on each model, and the share of directions that lies where attention "
            "carries it.",
            columns=["search", "share recovered", "mean cosine", "different features", "share in A"],
            rows=rows,
        ),
        Histogram(
            title="Cosine of what is found to the nearest planted feature",
            caption="One count per direction, all models. Plain searches end between features, a search for peaks on "
            "them, a search for concentration elsewhere.",
            x_label="cosine",
            groups=cosines,
        ),
    )


def _phase_diagram(run: Run) -> Heatmap:
    """One model in each cell."""

    def share(active: int, threshold: float) -> float:
        subject = Subject(plant(dataclasses.replace(CONFIG, most_active=active, threshold=threshold), 1000 * run.seed))
        return float(_hits(subject, find(run, subject, PEAK)).mean())

    values = []
    for done, active in enumerate(ACTIVE):
        run.progress("planted phase diagram", done, len(ACTIVE))
        values.append([share(active, threshold) for threshold in THRESHOLDS])
    run.progress("planted phase diagram", len(ACTIVE), len(ACTIVE))
    return Heatmap(
        title="Where a search for peaks finds planted features",
        caption="Share of directions within cosine 0.9 of a planted feature, one model in each cell. It falls where "
        "units fire only above a high presence, and all the more the fewer features a token has. There what is present "
        "is present strongly, so that taking it away, as every intervention does, moves few units far; and a unit is "
        "silent to directions that do not reach its threshold, which gives the ascent nothing to follow.",
        x_label="presence above which a unit fires",
        y_label="most features in a token",
        values=values,
        columns=[f"{threshold:g}" for threshold in THRESHOLDS],
        rows=[f"{active}" for active in ACTIVE],
        value_label="share recovered",
    )
