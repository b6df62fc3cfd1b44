"""TM-3.scores: the score decides up to which density features can be told from random directions.

What is measured and how is told in :mod:`toy_models.score_survey`, what the scores are and why they differ in
:mod:`toy_models.scores`. The claim is judged in dense configurations that were chosen, like the two thresholds, on
other seeds. Every interval of the seeds' mean has to be wholly on the right side.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

from sensverify.claims import Run
from sensverify.exhibits import Curve, Exhibit, Heatmap, Table
from sensverify.verdicts import Finding, Status
from toy_models.score_survey import (
    BIASES,
    CAUSES,
    CONTEXTS,
    DENSE,
    DIRECTIONS,
    FAMILIES,
    SEEDS,
    THRESHOLD_SCORES,
    Family,
    Separation,
    Survey,
    survey,
)
from toy_models.scores import SCORES

SEPARATES, DOES_NOT = 0.9, 0.75
"""Which AUC is said to separate, and which not."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statement:
    """``high``: scores said to separate ``group`` from random directions in the dense configurations; ``low``: scores
    said not to."""

    high: tuple[str, ...] = ("per_unit", "selective")
    low: tuple[str, ...] = ("angular",)
    group: str = "feature"


def check_scores(run: Run, statement: Statement = Statement()) -> Finding:
    """TM-3.scores: every interval of the seeds' mean has to be wholly on the right side."""
    found = survey(run)
    rows = []
    for family, density in DENSE:
        for score in (*statement.high, *statement.low):
            separations = found.separations[family, density]
            auc = found.interval(functools.partial(Separation.auc, score=score, group=statement.group), separations)
            up = score in statement.high
            right = auc.low >= SEPARATES if up else auc.high <= DOES_NOT
            wrong = auc.high < SEPARATES if up else auc.low > DOES_NOT
            rows.append(
                {
                    "model": family.label,
                    "density": density,
                    "score": score,
                    "auc": auc.to_json(),
                    "said": f"at least {SEPARATES}" if up else f"at most {DOES_NOT}",
                    "right": right,
                    "wrong": wrong,
                }
            )
    failures = [row for row in rows if row["wrong"]]
    if failures:
        status = Status.REFUTED
    else:
        status = Status.SUPPORTED if all(row["right"] for row in rows) else Status.INCONCLUSIVE
    whole = statement == Statement()
    return Finding(
        status=status,
        evidence={"judged": rows, **(_evidence(found) if whole else {})},
        witness={**failures[0], "seeds": SEEDS[run.profile]} if failures else None,
        exhibits=_exhibits(found) if whole else (),
    )


def twin_random(run: Run) -> Finding:
    """False: no feature is involved at all."""
    return check_scores(run, Statement(group="random again"))


def twin_angular(run: Run) -> Finding:
    """False: angular distance separates as well."""
    return check_scores(run, Statement(high=("per_unit", "selective", "angular"), low=()))


def _evidence(found: Survey) -> dict[str, Any]:
    cells = {}
    for (family, density), separations in found.separations.items():
        loss = found.losses[family, density]
        cells[f"{family.label}, p = {density}"] = {
            "loss_over_loss_of_zero": None if math.isnan(loss) else loss,
            **{
                score: {
                    "auc": found.auc(family, density, score).to_json(),
                    "auc_against_negated": found.auc(family, density, score, "negated feature").to_json(),
                    "ratio": found.interval(functools.partial(Separation.ratio, score=score), separations).to_json(),
                }
                for score in SCORES
            },
        }
    return {
        "seeds": len(next(iter(found.separations.values()))),
        "directions_per_group": DIRECTIONS,
        "contexts": CONTEXTS,
        "boundary": {
            family.label: {score: found.boundary(family, score).to_json() for score in SCORES} for family in FAMILIES
        },
        "correlation_with_mean_presence": {
            score: found.interval(
                functools.partial(Separation.correlation, score=score), found.separations[CAUSES]
            ).to_json()
            for score in SCORES
        },
        "with_a_bias_put_in": {
            f"bias {bias}": {
                score: found.interval(functools.partial(Separation.auc, score=score), separations).to_json()
                for score in THRESHOLD_SCORES
            }
            for bias, separations in found.thresholds.items()
        },
        "configurations": cells,
    }


def _exhibits(found: Survey) -> tuple[Exhibit, ...]:
    return (*(_heatmap(found, family) for family in FAMILIES), _curve(found), _threshold_curve(found), _table(found))


def _heatmap(found: Survey, family: Family) -> Heatmap:
    captions = (
        "Angular distance falls below chance where features are dense: these lie in opposite pairs on orthogonal axes, "
        "where every direction has the same energy. Scores of single units do not notice.",
        "Angular distance fails where the model can no longer afford a threshold; scores of single units go on.",
        "Without a learned threshold angular distance fades as density grows; scores of single units hardly notice.",
    )
    return Heatmap(
        title=f"Features against random directions: {family.label}",
        caption="Probability that a feature scores above a random direction, mean over seeds. "
        + captions[FAMILIES.index(family)],
        x_label="density p",
        y_label="score",
        values=[[found.auc(family, density, score).value for density in found.densities] for score in SCORES],
        rows=[score.label for score in SCORES.values()],
        columns=[f"{density:g}" for density in found.densities],
        value_label="AUC",
    )


def _curve(found: Survey) -> Curve:
    family = FAMILIES[2]
    shown = ("angular", "kl", "inactive_soft", "per_unit", "peak", "selective")
    lines = {SCORES[score].label: [found.auc(family, density, score) for density in found.densities] for score in shown}
    return Curve(
        title="Where the boundary lies",
        caption=f"{family.label}. Angular distance falls to chance as features become dense; the same effects, read "
        "unit by unit, tell features apart at every density. Bands: 95 % over seeds.",
        x_label="density p",
        y_label="AUC",
        x=list(found.densities),
        series={name: [one.value for one in line] for name, line in lines.items()},
        bands={name: [(one.low, one.high) for one in line] for name, line in lines.items()},
        log_x=True,
    )


def _threshold_curve(found: Survey) -> Curve:
    lines = {
        SCORES[score].label: [
            found.interval(functools.partial(Separation.auc, score=score), found.thresholds[bias]) for bias in BIASES
        ]
        for score in THRESHOLD_SCORES
    }
    return Curve(
        title="A threshold kills spread effects",
        caption=f"{CAUSES[0].label}, p = {CAUSES[1]}: nothing is trained, only the bias of all units is lowered. "
        "With that threshold angular distance comes to separate them too; scores of single units did so without.",
        x_label="threshold (minus the bias)",
        y_label="AUC",
        x=[-bias for bias in BIASES],
        series={name: [one.value for one in line] for name, line in lines.items()},
        bands={name: [(one.low, one.high) for one in line] for name, line in lines.items()},
    )


def _table(found: Survey) -> Table:
    top, where = found.densities[-1], f"random features, p = {CAUSES[1]}"

    def cell(family: Family, score: str) -> str:
        value = found.boundary(family, score)
        texts = [
            "never" if p == 0 else f"> {top:g}" if p == math.inf else f"{p:.2g}" for p in dataclasses.astuple(value)
        ]
        return texts[0] if len(set(texts)) == 1 else f"{texts[0]} [{texts[1]}, {texts[2]}]"

    return Table(
        title="Up to which density each score separates",
        caption="The density at which the AUC of features against random directions falls below 0.75, with its "
        "interval over seeds; beside it the AUC against negated features and what the score makes of an effect spread "
        "over many units. Thresholds kill spread effects, and dense models have none: then the scores that add up lose "
        "the features, and those that look at single units keep them. Starting from presence 0 helps in between: it "
        "takes away the differences that come from how directions lie to the mean activation (last column but one).",
        columns=[
            "score",
            *(family.label for family in FAMILIES),
            f"against negated ({where})",
            f"correlation with mean presence ({where})",
            "spread",
        ],
        rows=[
            [
                score.label,
                *(cell(family, name) for family in FAMILIES),
                found.auc(*CAUSES, name, "negated feature").text(),
                found.interval(functools.partial(Separation.correlation, score=name), found.separations[CAUSES]).text(),
                score.why,
            ]
            for name, score in SCORES.items()
        ],
    )
