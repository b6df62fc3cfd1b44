"""TM-3.boundary: the ratio that :mod:`toy_models.boundary` predicts from ``(n, d, p)`` against trained models.

**Development.** First on ``d ∈ {16, 32}``, ``n/d ∈ {2, 4, 8}`` (29 cells, two seeds, the same training); from its
errors the requirements below were set, and not changed since. A first set of held-out cells, ``(n, d)`` of (48,
24), (60, 20), (120, 20), (288, 24), (96, 48), (144, 48), (240, 48), (192, 64), was predicted by that first theory
to a mean error of 0.078, not 0.06: it took every dictionary for a 3-design of loose vectors, which sparse ones of
load 3 in many dimensions are not (ratio 2.43 measured, 1.64 predicted). The theory as it stands was made on these
cells too; over all of them its mean error is 0.029, the largest 0.11. **The cells judged here were trained for the
first time after that**: other widths, densities and seeds.

Three figures are judged. The mean over cells of ``|ln predicted − ln measured|``. The skill, ``1 − mean error² /
mean (ln measured − mean)²``: 0 for whoever knows the mean measured ratio and nothing else. And for each ``(n, d)``
with ``n ≥ 3d`` the factor between the densities where predicted and measured ratio fall to 1, both interpolated in
``ln p`` between the same densities. At ``n = 2d`` both ratios are near 1 at every density: there is no boundary to
predict.

Intervals resample cells (not for the boundary) and redraw each measured ratio within its own interval, which comes
from resampling directions and contexts on each seed. The spread that skill is relative to is that of all cells, a
property of the design: it is not resampled. (It was at first, in ten cells; a sample of cells that are alike then
has none.)"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.exhibits import Curve, Exhibit, Heatmap, Table
from sensverify.statistics import percentile_interval
from sensverify.verdicts import Finding, Status
from toy_models.boundary import Ingredients, Prediction, boundary, predicted_ratio, predicted_ratio_given
from toy_models.boundary_cells import SEEDS, TRAINING, Cell, cells, seeds_of

LARGEST_ERROR = 0.06
LEAST_SKILL = 0.8
LARGEST_FACTOR = 2.0

RESAMPLES = 2000
TWO_STEPS = (
    "The theory takes two steps: from n, d and p to what training makes, and from there to the ratio. With the trained "
    "models' own statistics only the second is left. Where that alone errs more than both, errors of the two cancel: "
    "the smaller figure is then no measure of either step."
)
NO_CROSSING = 100.0
"""The factor reported where the measured ratio falls to 1 and the predicted one never does."""


def predictions(run: Run, ingredients: Ingredients) -> list[Prediction]:
    """The theory's, cell by cell, from ``(n, d, p)`` alone."""

    def make() -> list[Prediction]:
        return [predicted_ratio(cell.features, cell.width, cell.density, ingredients) for cell in cells(run)]

    return run.shared(f"toy_models.boundary.predictions {ingredients}", make)


def check_theory(run: Run) -> Finding:
    """TM-3.boundary."""
    found, predicted = cells(run), predictions(run, Ingredients())
    given = [_given(cell) for cell in found]
    return _judge(
        run,
        [one.ratio for one in predicted],
        {
            "training": TRAINING,
            "seeds_per_cell": SEEDS,
            "cells": {
                cell.name: {
                    "measured": cell.ratio.to_json(),
                    "seeds": list(cell.seeds),
                    "predicted": one.ratio,
                    "signed_error": math.log(one.ratio / cell.ratio.value),
                    "predicted_from_the_trained_models": other,
                }
                for cell, one, other in zip(found, predicted, given, strict=True)
            },
            "mean_errors": {
                "from_n_d_p_alone": _error(found, [one.ratio for one in predicted]),
                "with_the_trained_models_own_statistics": _error(found, given),
                "how_to_read": TWO_STEPS,
            },
            "by_predicted_regime": _grouped(found, predicted, _regime),
            "by_dimension": _grouped(found, predicted, lambda cell, _: f"d = {cell.width}"),
            "by_density": _grouped(found, predicted, lambda cell, _: f"p = {cell.density:g}"),
            **_densities(run, found),
        },
        _exhibits(run, found, predicted, given),
    )


def check_without_threshold(run: Run) -> Finding:
    """False twin: training and reading as if ``b`` were 0."""
    return _judge(run, [one.ratio for one in predictions(run, Ingredients(threshold=False))], {}, ())


def check_without_interference(run: Run) -> Finding:
    """False twin: as if features were orthogonal."""
    return _judge(run, [one.ratio for one in predictions(run, Ingredients(interference=False))], {}, ())


def check_constant(run: Run) -> Finding:
    """False twin: the mean of the measured ratios, everywhere. It is told more than the theory is."""
    found = cells(run)
    mean = math.exp(sum(math.log(cell.ratio.value) for cell in found) / len(found))
    return _judge(run, [mean] * len(found), {}, ())


def check_one(run: Run) -> Finding:
    """False twin: features are never more sensitive."""
    return _judge(run, [1.0] * len(cells(run)), {}, ())


def _given(cell: Cell) -> float:
    ratios = [
        predicted_ratio_given(cell.features, cell.width, cell.density, one, contexts=2048).ratio
        for one in cell.statistics
    ]
    return sum(ratios) / len(ratios)


def _error(found: Sequence[Cell], predicted: Sequence[float]) -> float:
    """Mean of ``|ln predicted − ln measured|``."""
    errors = [abs(math.log(one / cell.ratio.value)) for cell, one in zip(found, predicted, strict=True)]
    return sum(errors) / len(errors)


def _regime(cell: Cell, one: Prediction) -> str:
    """Whether a threshold is predicted to be left."""
    return "threshold (k > 2d)" if one.statistics.represented > 2 * cell.width else "cross-polytope (k = 2d)"


def _grouped(
    found: Sequence[Cell], predicted: Sequence[Prediction], name: Callable[[Cell, Prediction], str]
) -> dict[str, object]:
    """``ln predicted − ln measured`` of the cells of one name: one sign throughout is a bias that a mean may hide."""
    groups: dict[str, list[float]] = {}
    for cell, one in sorted(zip(found, predicted, strict=True), key=lambda pair: (pair[0].density, pair[0].width)):
        groups.setdefault(name(cell, one), []).append(math.log(one.ratio / cell.ratio.value))
    return {
        key: {
            "cells": len(signed),
            "mean_error": sum(map(abs, signed)) / len(signed),
            "largest_error": max(map(abs, signed)),
            "mean_signed_error": sum(signed) / len(signed),
        }
        for key, signed in groups.items()
    }


def _densities(run: Run, found: Sequence[Cell]) -> dict[str, object]:
    """The boundary by bisection, in the full profile, beside where the measured ratio falls to 1."""
    if run.profile == "quick":
        return {}
    return {
        "density_where_the_ratio_falls_to_1": {
            f"n={n}, d={d}": {
                "predicted_by_bisection": boundary(n, d, contexts=2048),
                "measured_between_densities": crossing(*_curve(found, [c.ratio.value for c in found], (n, d))),
            }
            for n, d in _judged_shapes(found)
        }
    }


def _shapes(found: Sequence[Cell]) -> list[tuple[int, int]]:
    return list(dict.fromkeys((cell.features, cell.width) for cell in found))


def _judged_shapes(found: Sequence[Cell]) -> list[tuple[int, int]]:
    """Those with a boundary to predict."""
    return [(n, d) for n, d in _shapes(found) if n >= 3 * d]


def _curve(found: Sequence[Cell], values: Sequence[float], shape: tuple[int, int]) -> tuple[list[float], list[float]]:
    """Densities, ascending, and the values of the cells of one ``(n, d)``."""
    pairs = [
        (cell.density, value) for cell, value in zip(found, values, strict=True) if (cell.features, cell.width) == shape
    ]
    return [p for p, _ in pairs], [value for _, value in pairs]


def crossing(densities: Sequence[float], ratios: Sequence[float]) -> float:
    """The largest density where the ratio falls to 1, linear in ``ln p`` between neighbours; NaN if it never does."""
    for i in reversed(range(len(densities) - 1)):
        before, after = ratios[i] - 1, ratios[i + 1] - 1
        if before > 0 >= after:
            step = math.log(densities[i + 1] / densities[i])
            return densities[i] * math.exp(step * before / (before - after))
    return math.nan


def _factor(found: Sequence[Cell], predicted: Sequence[float], measured: Sequence[float]) -> float:
    """The largest factor between predicted and measured densities; NaN if no measured ratio falls to 1."""
    factors = []
    for n, d in _judged_shapes(found):
        here, there = (crossing(*_curve(found, values, (n, d))) for values in (measured, predicted))
        if math.isnan(here):
            continue
        factors.append(NO_CROSSING if math.isnan(there) else math.exp(abs(math.log(here / there))))
    return max(factors) if factors else math.nan


def _judge(run: Run, predicted: Sequence[float], evidence: dict[str, object], exhibits: tuple[Exhibit, ...]) -> Finding:
    """SUPPORTED if all three whole intervals are within what is required, REFUTED if one is wholly outside."""
    found = cells(run)
    measured = torch.tensor([cell.ratio.value for cell in found], dtype=torch.float64)
    deviation = torch.tensor([(cell.ratio.high - cell.ratio.low) / 3.92 for cell in found], dtype=torch.float64)
    generator = torch.Generator().manual_seed(run.seed)
    noise = torch.randn(RESAMPLES, len(found), generator=generator, dtype=torch.float64)
    redrawn = (measured + deviation * noise).clamp_min(1e-3)
    chosen = torch.randint(len(found), (RESAMPLES, len(found)), generator=generator)
    target = torch.tensor(predicted, dtype=torch.float64).log()
    error = percentile_interval(
        _errors(target, measured.log()), _errors(target[chosen], redrawn.log().gather(1, chosen))
    )
    skill = percentile_interval(
        _skill(target, measured.log(), measured.log()),
        _skill(target[chosen], redrawn.log().gather(1, chosen), measured.log()),
    )
    factors = torch.tensor([_factor(found, predicted, row) for row in redrawn[:200].tolist()], dtype=torch.float64)
    value = torch.tensor(_factor(found, predicted, measured.tolist()), dtype=torch.float64)
    # Where no measured ratio falls to 1 there is no boundary that a prediction could be held against.
    crossed = factors[~factors.isnan()]
    factor = None if value.isnan() or not len(crossed) else percentile_interval(value, crossed)
    outside = error.low > LARGEST_ERROR or skill.high < LEAST_SKILL
    within = error.high <= LARGEST_ERROR and skill.low >= LEAST_SKILL
    if factor is not None:
        outside, within = outside or factor.low > LARGEST_FACTOR, within and factor.high <= LARGEST_FACTOR
    status = Status.REFUTED if outside else Status.SUPPORTED if within and factor else Status.INCONCLUSIVE
    judged = {"mean_error": error, "skill": skill, "largest_factor_between_densities": factor}
    figures = {name: interval and interval.to_json() for name, interval in judged.items()}
    if factor is None:
        evidence = {"reason": "no measured ratio with n >= 3d falls to 1: there is no boundary to predict", **evidence}
    worst = int((target - measured.log()).abs().argmax())
    constant = bool((target == target[0]).all())
    return Finding(
        status=status,
        evidence={
            **figures,
            "redraws_without_a_boundary": int(len(factors) - len(crossed)),
            "required": {"mean_error": LARGEST_ERROR, "skill": LEAST_SKILL, "factor": LARGEST_FACTOR},
            "correlation_of_logs": None
            if constant
            else float(torch.corrcoef(torch.stack([target, measured.log()]))[0, 1]),
            "seeds": seeds_of(run),
            **evidence,
        },
        witness={
            "worst_cell": found[worst].name,
            "measured": found[worst].ratio.to_json(),
            "predicted": predicted[worst],
            **figures,
        }
        if outside
        else None,
        exhibits=exhibits,
    )


def _errors(target: Tensor, measured: Tensor) -> Tensor:
    return (target - measured).abs().mean(-1)


def _skill(target: Tensor, measured: Tensor, design: Tensor) -> Tensor:
    """``1 − mean error²`` over the spread of ``design``, the measured values of all cells."""
    return 1 - (target - measured).square().mean(-1) / (design - design.mean()).square().mean()


def _exhibits(
    run: Run, found: Sequence[Cell], predicted: Sequence[Prediction], given: Sequence[float]
) -> tuple[Exhibit, ...]:
    curves = []
    for n, d in _shapes(found):
        x, measured = _curve(found, [cell.ratio.value for cell in found], (n, d))
        low, high = (_curve(found, [getattr(cell.ratio, end) for cell in found], (n, d))[1] for end in ("low", "high"))
        curves.append(
            Curve(
                title=f"The ratio over density: {n} features in {d} dimensions",
                caption=_caption(judged=(n, d) in _judged_shapes(found)),
                x_label="density p",
                y_label="SeS of features / of random directions",
                x=x,
                series={"measured": measured, "predicted": _curve(found, [one.ratio for one in predicted], (n, d))[1]},
                bands={"measured": list(zip(low, high, strict=True))},
                log_x=True,
            )
        )
    return (*curves, _table(found, predicted, given), *([] if run.profile == "quick" else [_heatmap()]))


def _caption(*, judged: bool) -> str:
    """``judged``: whether the density at the boundary is."""
    said = (
        "The predicted line was computed from $n$, $d$, $p$ alone: over all cells it should lie within "
        f"{LARGEST_ERROR:.0%} of the measured one on average"
    )
    if not judged:
        return (
            f"{said}. With fewer than three features to a dimension the ratio is near 1 at every density: where the "
            "lines cross 1 is not judged here."
        )
    return (
        f"{said}. Where the measured line falls to 1 the predicted one should do so at a density within a factor of "
        f"{LARGEST_FACTOR:g}. At 1 or just below, the theory has a cross-polytope and no threshold."
    )


def _table(found: Sequence[Cell], predicted: Sequence[Prediction], given: Sequence[float]) -> Table:
    rows = []
    for cell, one, other in zip(found, predicted, given, strict=True):
        seen, theory = cell.statistics, one.statistics
        kept = sum(s.represented for s in seen) / len(seen) / cell.features
        scale = sum(s.scale**2 for s in seen) / len(seen)
        threshold = sum(s.threshold for s in seen) / len(seen)
        third = sum(s.moments[2] for s in seen) / len(seen)
        rows.append(
            [
                cell.features, cell.width, cell.density, cell.ratio.text(), f"{one.ratio:.3f}", f"{other:.3f}",
                f"{kept:.2f} / {one.share:.2f}", f"{scale:.2f} / {theory.scale**2:.2f}",
                f"{threshold:.2f} / {theory.threshold:.2f}", f"{third:.2f} / {theory.moments[2]:.2f}",
                f"{cell.feature:.3f} / {one.feature:.3f}", f"{cell.random:.3f} / {one.random:.3f}",
            ]
        )  # fmt: skip
    return Table(
        title="Measured and predicted, cell by cell",
        caption="Pairs are measured / predicted, means over seeds: look for pairs that disagree. Beside the ratio "
        "stands what the theory makes it of: the share of "
        "features that training keeps, their squared length, the threshold, the third moment of their overlaps, times "
        "$k - 1$, and both sensitivities. 'Given' uses the trained models' own statistics.",
        columns=(
            "n", "d", "p", "ratio measured", "predicted", "given", "share kept", "c²", "b", "third moment",
            "SeS feature", "SeS random",
        ),
        rows=rows,
    )  # fmt: skip


def _heatmap() -> Heatmap:
    loads, densities, width = (2, 3, 4, 6, 8, 12), (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4), 32
    values = [[predicted_ratio(load * width, width, p, contexts=2048).ratio for p in densities] for load in loads]
    return Heatmap(
        title=f"The predicted ratio in {width} dimensions",
        caption="By the theory alone; nothing is measured. Above 1 features should stand out. Follow the rows to the "
        "right, where training keeps fewer features, and compare the first, load 2, where a cross-polytope needs no "
        "threshold, with the others.",
        x_label="density p",
        y_label="load n/d",
        values=values,
        columns=[f"{p:g}" for p in densities],
        rows=[str(load) for load in loads],
        value_label="predicted ratio",
    )
