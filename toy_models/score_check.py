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
from sensverify.statistics import Interval
from sensverify.verdicts import Finding, Status
from toy_models.score_survey import (
    BIASES,
    CAUSES,
    CONTEXTS,
    DENSE,
    DIRECTIONS,
    FAMILIES,
    THRESHOLD_SCORES,
    Family,
    Separation,
    Survey,
    survey,
)
from toy_models.scores import SCORES

SEPARATES, DOES_NOT = 0.9, 0.75
"""Which AUC is said to separate, and which not."""

BELOW, BEYOND = "below the densities tried", "beyond the densities tried"
ALL_IN_PAIRS = "undefined: in one of the models every feature's negative is a feature"
NO_CONTEXT = "undefined: for one of the directions no context has any weight"


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
            figure = functools.partial(Separation.auc, score=score, group=statement.group)
            auc = found.area(separations, score, statement.group)
            up = score in statement.high
            right = auc.low >= SEPARATES if up else auc.high <= DOES_NOT
            wrong = auc.high < SEPARATES if up else auc.low > DOES_NOT
            rows.append(
                {
                    "model": family.label,
                    "density": density,
                    "score": score,
                    "auc": auc.to_json(),
                    "auc_by_seed": [figure(one) for one in separations],
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
        evidence={"seeds": list(found.seeds), "judged": rows, **(_evidence(found) if whole else {})},
        witness={**failures[0], "seeds": list(found.seeds)} if failures else None,
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
                    "auc_against_negated": _defined(found.auc(family, density, score, "negated feature"), ALL_IN_PAIRS),
                    "ratio": found.interval(
                        functools.partial(Separation.ratio, score=score), separations, within=(0.0, math.inf)
                    ).to_json(),
                }
                for score in SCORES
            },
        }
    return {
        "directions_per_group": DIRECTIONS,
        "contexts": CONTEXTS,
        "boundary": {
            family.label: {score: boundary_in_words(found.boundary(family, score)) for score in SCORES}
            for family in FAMILIES
        },
        "densities_tried": list(found.densities),
        "correlation_with_mean_presence": {
            score: _defined(found.correlation(found.separations[CAUSES], score), NO_CONTEXT) for score in SCORES
        },
        "with_a_bias_put_in": {
            f"bias {bias}": {score: found.area(separations, score).to_json() for score in THRESHOLD_SCORES}
            for bias, separations in found.thresholds.items()
        },
        "configurations": cells,
    }


def boundary_in_words(boundary: Interval) -> str | dict[str, float | str]:
    """A boundary for evidence: an end that no density tried has reached is a word, not an infinity."""
    ends = {name: BELOW if p == 0 else BEYOND if p == math.inf else p for name, p in boundary.to_json().items()}
    first = ends["value"]
    return first if isinstance(first, str) and set(ends.values()) == {first} else ends


def _defined(figure: Interval, why_not: str) -> str | dict[str, float]:
    return why_not if math.isnan(figure.value) else figure.to_json()


def _exhibits(found: Survey) -> tuple[Exhibit, ...]:
    return (*(_heatmap(found, family) for family in FAMILIES), _curve(found), _threshold_curve(found), _table(found))


def _heatmap(found: Survey, family: Family) -> Heatmap:
    captions = (
        "Here dense features lie in opposite pairs on orthogonal axes, where every direction has the same energy: read "
        "the first row for what angular distance makes of them, the rows of single units for what it may miss.",
        "A denser model can afford less of a threshold: follow the first row to the right, and beside it the scores of "
        "single units.",
        "No threshold was learned here: follow the first row to the right, and beside it the scores of single units.",
    )
    return Heatmap(
        title=f"Features against random directions: {family.label}",
        caption="Probability that a feature scores above a random direction, mean over seeds: 1 separates all, 0.5 is "
        "chance. " + captions[FAMILIES.index(family)],
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
        caption=f"{family.label}. Where a line falls below {DOES_NOT:g} the score no longer tells features from random "
        f"directions, at {SEPARATES:g} it does; 0.5 is chance. All scores read the same effects: angular distance adds "
        "them up over units, others look at single ones. Bands: Student's 95 % over seeds.",
        x_label="density p",
        y_label="AUC",
        x=list(found.densities),
        series={name: [one.value for one in line] for name, line in lines.items()},
        bands={name: [(one.low, one.high) for one in line] for name, line in lines.items()},
        log_x=True,
    )


def _threshold_curve(found: Survey) -> Curve:
    lines = {
        SCORES[score].label: [found.area(found.thresholds[bias], score) for bias in BIASES]
        for score in THRESHOLD_SCORES
    }
    return Curve(
        title="A threshold kills spread effects",
        caption=f"{CAUSES[0].label}, p = {CAUSES[1]}: nothing is trained, only the bias of all units is lowered. "
        "If thresholds are what angular distance needs, its line rises from left to right; compare those of single "
        "units at a bias of 0.",
        x_label="threshold (minus the bias)",
        y_label="AUC",
        x=[-bias for bias in BIASES],
        series={name: [one.value for one in line] for name, line in lines.items()},
        bands={name: [(one.low, one.high) for one in line] for name, line in lines.items()},
    )


def _table(found: Survey) -> Table:
    least, top, where = found.densities[0], found.densities[-1], f"random features, p = {CAUSES[1]}"

    def cell(family: Family, score: str) -> str:
        value, low, high = (
            f"below {least:g}" if p == 0 else f"beyond {top:g}" if p == math.inf else f"{p:.2g}"
            for p in dataclasses.astuple(found.boundary(family, score))
        )
        return value if value == low == high else f"{value} [{low}, {high}]"

    return Table(
        title="Up to which density each score separates",
        caption="The density at which the AUC of features against random directions falls below 0.75, with its "
        f"interval over seeds; densities from {least:g} to {top:g} were tried, and a boundary below or beyond them is "
        "not known more closely. Beside it stand the AUC against negated features and what the score "
        "makes of an effect spread over many units. Compare scores that add effects up with those of single units. A "
        "correlation far from 0 (last column but one) says that the score goes by how a direction lies to the mean "
        "activation; compare scores that start from presence 0.",
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
                found.correlation(found.separations[CAUSES], name).text(),
                score.why,
            ]
            for name, score in SCORES.items()
        ],
    )
