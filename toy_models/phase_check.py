"""TM-3: does sensitivity find the features whatever their density? Where it does, where it does not, and what does.

The cells are those of :mod:`toy_models.phase`. A statement is a list of demands: that in every cell of a region a
method's figure is at least, or at most, so much. A demand holds in a cell if the whole interval of the mean over seeds
is on its side, and fails if the whole interval is on the other. Demands and regions were set on models of other seeds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from sensverify.claims import Run
from sensverify.errors import InputError
from sensverify.exhibits import Curve, Exhibit, Heatmap, Table
from sensverify.statistics import Interval
from sensverify.verdicts import Finding, Status
from toy_models.methods import ICA, PCA, PEAK, PLAIN, RANDOM, SEQUENTIAL, SPECTRAL, TOP_K
from toy_models.phase import REFERENCES, Result, best_other, diagram, winner

RECOVERS, FAILS = 0.9, 0.1
"""Shares of features from which a method is said to recover them, and below which it is said not to."""

Region = Callable[[Result], bool]


def anywhere(result: Result) -> bool:
    """Every cell."""
    return True


def sparse(result: Result) -> bool:
    """Few features active, many to tell apart, and room: d = 32, n = 4d, p ≤ 0.02."""
    cell = result.cell
    return cell.density <= 0.02 and cell.load == 4 and cell.width == 32


def sparse_but_small(result: Result) -> bool:
    """As sparse, in 16 dimensions."""
    return result.cell.density <= 0.02 and result.cell.width == 16


def dense(result: Result) -> bool:
    """p ≥ 0.1."""
    return result.cell.density >= 0.1


def very_dense(result: Result) -> bool:
    """p ≥ 0.4."""
    return result.cell.density >= 0.4


def in_pairs(result: Result) -> bool:
    """n = 2d: as many features as d components and their negatives could be."""
    return result.cell.load == 2


def crowded(result: Result) -> bool:
    """n = 4d: d components and their negatives are at most half of the features."""
    return result.cell.load == 4


def orderly(result: Result) -> bool:
    """n = 2d and at most a tenth of the features active: an autoencoder's home."""
    return result.cell.load == 2 and result.cell.density <= 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demand:
    """In every cell of ``region`` the ``figure`` of ``method`` is at least ``least`` and at most ``most``."""

    method: str
    region: Region
    least: float = 0.0
    most: float = 1.0
    figure: str = "recovered_share"

    def holds(self, found: Interval) -> bool:
        """The whole interval is on the right side."""
        return found.low >= self.least and found.high <= self.most

    def fails(self, found: Interval) -> bool:
        """The whole interval is on the wrong side."""
        return found.high < self.least or found.low > self.most

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, the region by its description."""
        told = {"method": self.method, "figure": self.figure, "where": (self.region.__doc__ or "").strip()}
        return told | {"least": self.least, "most": self.most}


WHATEVER = (Demand(method=PLAIN, region=anywhere, least=0.5),)
SPARSE = (
    Demand(method=PLAIN, region=sparse, least=0.5),
    Demand(method=PLAIN, region=dense, most=FAILS),
    Demand(method=PLAIN, region=dense, most=FAILS, figure="precise_share"),
)
METHODS = (
    Demand(method=PEAK, region=anywhere, least=0.4),
    Demand(method=TOP_K, region=very_dense, most=FAILS),
    Demand(method=TOP_K, region=orderly, least=RECOVERS),
)


def judge(table: Sequence[Result], demands: Sequence[Demand]) -> Finding:
    """REFUTED by a cell in which a demand fails (the worst is the witness), SUPPORTED if all hold in all their cells.

    The worst is furthest outside its interval; of several, the one where some other method recovers most. Raises
    :class:`~sensverify.errors.InputError` for a demand on no cell at all.
    """
    judged, failures, all_hold = [], [], True
    for demand in demands:
        region = [result for result in table if demand.region(result)]
        if not region:
            raise InputError(
                expected="cells in the region of every demand",
                got=f"none with {demand.region.__name__}",
                remedy="measure cells of that region too",
            )
        for result in region:
            found = result.figure(demand.method, demand.figure)
            all_hold = all_hold and demand.holds(found)
            row = {"cell": result.cell.name, **demand.to_json(), "found": found.to_json(), "holds": demand.holds(found)}
            judged.append(row)
            if demand.fails(found):
                margin = max(demand.least - found.high, found.low - demand.most)
                other = result.figure(best_other(result, demand.method)).value
                failures.append((margin, other, row, result))
    status = Status.REFUTED if failures else Status.SUPPORTED if all_hold else Status.INCONCLUSIVE
    witness = None
    if failures:
        *_, row, result = max(failures, key=lambda failure: failure[:2])
        witness = {**row, "seeds": list(result.seeds), "in_the_same_cell": _recovered(result)}
    return Finding(status=status, evidence={"seeds": list(table[0].seeds), "judged": judged}, witness=witness)


def _recovered(result: Result) -> dict[str, Any]:
    """What every method recovers in one cell."""
    return {name: result.figure(name).to_json() for name in result.found}


def check_whatever_the_density(run: Run) -> Finding:
    """TM-3."""
    finding = judge_whatever(diagram(run))
    return dataclasses.replace(finding, exhibits=exhibits(diagram(run)))


def judge_whatever(table: Sequence[Result]) -> Finding:
    """TM-3 with a positive control: REFUTED only if the same judge, asked for the same share, is seen to say SUPPORTED
    of a method that does find these features, else INCONCLUSIVE. Peak everywhere is told beside it."""
    finding = judge(table, WHATEVER)
    control = judge(table, [dataclasses.replace(demand, method=TOP_K, region=orderly) for demand in WHATEVER])
    peak = judge(table, [dataclasses.replace(demand, method=PEAK) for demand in WHATEVER])
    evidence = {
        **finding.evidence,
        **both_directions(table),
        "positive_control": {"status": control.status.value, "judged": control.evidence["judged"]},
        "peak_in_every_cell": {"status": peak.status.value, "judged": peak.evidence["judged"]},
    }
    if finding.status is Status.REFUTED and control.status is not Status.SUPPORTED:
        evidence["reason"] = "no method is seen to recover these features by the same judge"
        return dataclasses.replace(finding, status=Status.INCONCLUSIVE, evidence=evidence, witness=None)
    return dataclasses.replace(finding, evidence=evidence)


def check_by_components(run: Run) -> Finding:
    """False twin of TM-3: principal components, judged where their number does not forbid it."""
    return judge(diagram(run), [dataclasses.replace(demand, method=PCA, region=in_pairs) for demand in WHATEVER])


def check_by_independent_components(run: Run) -> Finding:
    """False twin of TM-3: independent components recover a third where their number allows one half."""
    return judge(diagram(run), [Demand(method=ICA, region=crowded, least=1 / 3)])


def check_by_random(run: Run) -> Finding:
    """False twin of TM-3: random directions."""
    return judge(diagram(run), [dataclasses.replace(demand, method=RANDOM) for demand in WHATEVER])


def check_sparse(run: Run) -> Finding:
    """TM-3.sparse."""
    return judge(diagram(run), SPARSE)


def check_sparse_by_random(run: Run) -> Finding:
    """False twin of TM-3.sparse: random directions where features are sparse."""
    return judge(diagram(run), [dataclasses.replace(demand, method=RANDOM) for demand in SPARSE])


def check_dense(run: Run) -> Finding:
    """False twin of TM-3.sparse: the same share where features are dense."""
    return judge(diagram(run), [dataclasses.replace(SPARSE[0], region=dense)])


def check_sparse_but_small(run: Run) -> Finding:
    """False twin of TM-3.sparse: the same share in 16 dimensions."""
    return judge(diagram(run), [dataclasses.replace(SPARSE[0], region=sparse_but_small)])


def check_methods(run: Run) -> Finding:
    """TM-3.methods."""
    table = diagram(run)
    finding = judge(table, METHODS)
    wins = {1: "peak", 0: "neither on every seed", -1: "autoencoder"}
    compared = {result.cell.name: wins[winner(result)] for result in table}
    evidence = {**finding.evidence, "who_recovers_more_on_every_seed": compared}
    return dataclasses.replace(finding, evidence=evidence, exhibits=(who_wins(table),))


def check_methods_swapped(run: Run) -> Finding:
    """False twin of TM-3.methods: the two methods change places."""
    places = {PEAK: TOP_K, TOP_K: PEAK}
    return judge(diagram(run), [dataclasses.replace(demand, method=places[demand.method]) for demand in METHODS])


def check_methods_plain(run: Run) -> Finding:
    """False twin of TM-3.methods: plain in the place of peak."""
    return judge(diagram(run), [dataclasses.replace(METHODS[0], method=PLAIN)])


def both_directions(table: Sequence[Result]) -> dict[str, Any]:
    """Where plain recovers and where it fails although another method recovers; every figure of every cell."""
    holds, fails = [], []
    for result in table:
        plain, name = result.figure(PLAIN), best_other(result)
        other = result.figure(name)
        row = {"cell": result.cell.name, "plain": plain.to_json(), "best_other": {"method": name, **other.to_json()}}
        if plain.low >= 0.5:
            holds.append(row)
        if plain.high < FAILS and other.value >= RECOVERS:
            fails.append(row)
    cells = {
        result.cell.name: {
            "represented": list(result.represented),
            "ratio": {reference: result.ratio(reference).to_json() for reference in REFERENCES},
            "presentations": {name: found.pairs for name, found in result.found.items()},
            "recovered_share": _recovered(result),
            "precise_share": {name: result.figure(name, "precise_share").to_json() for name in result.found},
        }
        for result in table
    }
    return {
        "plain_recovers_at_least_half": holds,
        f"plain_recovers_less_than_{FAILS:g}_where_another_recovers_{RECOVERS:g}": fails,
        "cells": cells,
    }


def exhibits(table: Sequence[Result]) -> tuple[Exhibit, ...]:
    """Heat maps of every method, of the ratio, curves over density and the whole table."""
    methods = list(table[0].found)
    return (*(_heatmap(table, name) for name in methods), _ratio(table), *_curves(table), _table(table))


_BOTH_SIGNS = "d components with both signs: the share cannot exceed 2d/n, one half at n = 4d."
_CAPTIONS = {
    PLAIN: "Compare sparse features (left) with dense ones (right), and small dimension and load with large ones: TM-3 "
    "wants one half everywhere.",
    SEQUENTIAL: "At most 4 directions were sought: the share cannot exceed 4/n. The table gives their precision.",
    PEAK: "TM-3.methods wants 0.4 in every cell: look for the lowest, and whether the rows fall to the right.",
    TOP_K: "It is told the true number of active features. Compare the left, where few are active, with the right.",
    ICA: f"{_BOTH_SIGNS} Where features lie in opposite pairs on d axes (n = 2d) that may be all of them. Compare the "
    "top rows, left with right.",
    PCA: f"{_BOTH_SIGNS} Components of largest variance: what second moments alone tell.",
    SPECTRAL: f"{_BOTH_SIGNS} The plain search in closed form, for small interventions.",
    RANDOM: "The control: what is above 0 here is chance.",
}


def _grid(table: Sequence[Result], value: Callable[[Result], float]) -> dict[str, Any]:
    """Rows ``(d, n/d)``, columns ``p``."""
    rows = list(dict.fromkeys((result.cell.width, result.cell.load) for result in table))
    densities = sorted({result.cell.density for result in table})
    at = {(result.cell.width, result.cell.load, result.cell.density): value(result) for result in table}
    return {
        "x_label": "density p",
        "y_label": "dimension and load",
        "values": [[at.get((*row, p), float("nan")) for p in densities] for row in rows],
        "columns": [f"{p:g}" for p in densities],
        "rows": [f"d = {d}, n/d = {load}" for d, load in rows],
    }


def _heatmap(table: Sequence[Result], name: str) -> Heatmap:
    return Heatmap(
        title=f"Share of features recovered: {name}",
        caption=f"{_CAPTIONS.get(name, 'To be compared, cell by cell, with plain and peak.')} "
        "Share of represented features matched one to one at cosine 0.9, mean over seeds.",
        value_label="recovered share",
        **_grid(table, lambda result: result.figure(name).value),
    )


def _ratio(table: Sequence[Result]) -> Heatmap:
    return Heatmap(
        title="How much more sensitive features are than random directions",
        caption="Ratio of mean plain sensitivities, clean reference, mean over seeds. At 1 or below there is nothing "
        "for a plain search to go by: hold the cells well above 1 against those in which it recovers features.",
        value_label="SeS(feature) / SeS(random)",
        **_grid(table, lambda result: result.ratio("clean").value),
    )


def _curves(table: Sequence[Result]) -> list[Curve]:
    """Over density, for the row of the largest ``d`` and load 4."""
    width = max(result.cell.width for result in table if result.cell.load == 4)
    line = [result for result in table if (result.cell.width, result.cell.load) == (width, 4)]
    figures = {name: [result.figure(name) for result in line] for name in line[0].found}
    return [
        Curve(
            title=f"Recovery over density, d = {width}, n = {4 * width}",
            caption="Follow each method from sparse features (left) to dense ones (right): one that does not need "
            "sparsity stays up. Bands: 95 %, models and their features resampled.",
            x_label="density p",
            y_label="recovered share",
            x=[result.cell.density for result in line],
            series={name: [one.value for one in values] for name, values in figures.items()},
            bands={name: [(one.low, one.high) for one in values] for name, values in figures.items()},
            log_x=True,
        )
    ]


def _table(table: Sequence[Result]) -> Table:
    rows = []
    for result in table:
        for name, found in result.found.items():
            figures = found.figures
            rows.append(
                [
                    result.cell.name,
                    name,
                    *(figures[key].text() for key in ("recovered_share", "precise_share")),
                    *(figures[key].text() for key in ("directions_to_features", "features_to_directions")),
                    figures["duplicates"].text(),
                    f"{found.matchings[0].directions} / {found.asked}",
                    found.pairs,
                ]
            )
    return Table(
        title="Every method in every cell",
        caption="Means over seeds with 95 % intervals (shares: models and their items resampled; others: Student's). "
        "Precise: share of directions at a feature. Cosines: mean of the largest, of directions and of features. "
        "Autoencoders may be shown 60 times what a search is shown and more, for they are cheap to train.",
        columns=(
            "cell",
            "method",
            "recovered",
            "precise",
            "cosine of directions",
            "cosine of features",
            "duplicates",
            "found / asked",
            "presentations",
        ),
        rows=rows,
    )


def who_wins(table: Sequence[Result]) -> Heatmap:
    """Peak against the autoencoder."""
    return Heatmap(
        title="Peak search less TopK autoencoder",
        caption="Difference of recovered shares, mean over seeds: above 0 peak recovers more, below 0 the autoencoder, "
        "which is told how many features are active. Compare sparse cells (left) with dense ones (right).",
        value_label="difference",
        **_grid(table, lambda result: result.figure(PEAK).value - result.figure(TOP_K).value),
    )
