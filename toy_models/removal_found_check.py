"""TM-4.found, TM-4.bias and TM-4.lean: what searches make of removal.

- What share of its effect a found direction owes to removal follows from its presences alone, to second order, where
  the read-out turns as its input does: without biases, or beside a direction in every context that dwarfs them.
- Where negative biases silence small overlaps, units that are silent already lose nothing: less is removed than that.
- Where activations have a mean, a search with the clean reference finds directions that lean against it.

The sweep that both read: :mod:`toy_models.removal_found`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from sensverify.claims import Run
from sensverify.exhibits import Curve, Exhibit, IntervalRow, Intervals, Table
from sensverify.statistics import Interval, mean_interval
from sensverify.verdicts import Finding
from toy_models.removal import LEANING_LENGTH, removal_threshold
from toy_models.removal_check import finding, seeded
from toy_models.removal_found import (
    Found,
    Row,
    Setting,
    final_losses,
    removal_prediction,
    rows,
    seeds,
    sweep,
    trained_models,
)

REQUIRED_ERROR, REQUIRED_LEAN = 0.1, -0.2
SILENCED = 0.5
"""Of what presences predict, less than this is left in sparse models with biases; fixed on the developing seeds."""
BIASED, PAIRED, CONSTANT = (
    Setting(trained=True, density=0.02, constant=False),
    Setting(trained=True, density=0.02, constant=False, paired=True),
    Setting(trained=True, density=0.02, constant=True),
)


def check_found(run: Run) -> Finding:
    """TM-4.found."""
    table = rows(sweep(run))
    evidence = {
        "seeds": seeds(run),
        "majority_of_removal_below_presence": removal_threshold(),
        "found": {f"{row.setting.label}; {row.reference} reference": row.to_json() for row in table},
        "prediction_for_language_models": removal_prediction(run),
        "trained_models": final_losses(model for row in trained_models(run).values() for model in row),
    }
    return _judge_error(_unbiased(run), lambda item: item.predicted, evidence, (_found_table(table),))


def check_found_by_negatives(run: Run) -> Finding:
    """False twin: predicted from the presences of ``−s``."""
    return _judge_error(_unbiased(run), lambda item: item.predicted_of_negative, {}, ())


def _unbiased(run: Run) -> list[Found]:
    """Searches with the clean reference where biases are 0, or small beside what is always there.

    Random features have none, and models of ``n = 2d`` with features in opposite pairs need none.
    """
    clean = [item for item in sweep(run) if item.reference == "clean"]
    return [item for item in clean if item.setting.constant or item.setting.paired or not item.setting.trained]


def _judge_error(
    items: Sequence[Found],
    predicted: Callable[[Found], Tensor],
    evidence: dict[str, Any],
    exhibits: tuple[Exhibit, ...],
) -> Finding:
    errors = [(item, mean_interval((item.share - predicted(item)).abs(), seeded(item.seed))) for item in items]
    listed = [{"setting": i.setting.label, "seed": i.seed, "mean_absolute_error": e.to_json()} for i, e in errors]
    failing = next((row for row, (_, e) in zip(listed, errors, strict=True) if e.low > REQUIRED_ERROR), None)
    holds = all(error.high < REQUIRED_ERROR for _, error in errors)
    return finding(failing, holds, {"required": REQUIRED_ERROR, "errors": listed, **evidence}, exhibits)


def check_bias(run: Run) -> Finding:
    """TM-4.bias."""
    sparse = trained_models(run)[BIASED.config]
    evidence = {
        "seeds": seeds(run),
        "mean_bias": [float(model.bias.mean()) for model in sparse],
        "trained_models": final_losses(sparse),
    }
    return _judge_silenced(run, BIASED, evidence)


def check_bias_of_pairs(run: Run) -> Finding:
    """False twin: models of ``n = 2d``, whose biases are about 0."""
    return _judge_silenced(run, PAIRED, {})


def check_bias_beside_a_constant(run: Run) -> Finding:
    """False twin: with a direction always there, beside which the same biases are small."""
    return _judge_silenced(run, CONSTANT, {})


def _judge_silenced(run: Run, setting: Setting, evidence: dict[str, Any]) -> Finding:
    """On every model: the mean over directions of ``share − predicted/2`` is below 0."""
    items = [item for item in sweep(run) if item.reference == "clean" and item.setting == setting]
    over = [mean_interval(item.share - SILENCED * item.predicted, seeded(item.seed)) for item in items]
    listed = [
        {
            "setting": item.setting.label,
            "seed": item.seed,
            "share": mean_interval(item.share, seeded(item.seed)).to_json(),
            "predicted": mean_interval(item.predicted, seeded(item.seed)).to_json(),
            "share_less_half_of_predicted": value.to_json(),
        }
        for item, value in zip(items, over, strict=True)
    ]
    failing = next((row for row, value in zip(listed, over, strict=True) if value.low > 0), None)
    holds = bool(over) and all(value.high < 0 for value in over)
    exhibits = (_silenced_intervals(listed),) if evidence else ()
    return finding(failing, holds, {"allowed_part": SILENCED, "models": listed, **evidence}, exhibits)


def _silenced_intervals(listed: Sequence[dict[str, Any]]) -> Intervals:
    intervals = [
        (f"{name}; seed {row['seed']}", Interval(**row[key]))
        for row in listed
        for name, key in (("measured", "share"), ("predicted from presences", "predicted"))
    ]
    return Intervals(
        title="Removal share of found directions in sparse trained models",
        caption="Measured beside what presences predict, 95 % intervals over directions. On every seed the measured "
        "share lies below half of the predicted one: a unit that its bias silences already has nothing to lose.",
        x_label="removal share",
        rows=[IntervalRow(name=name, value=value.value, low=value.low, high=value.high) for name, value in intervals],
    )


def check_lean(run: Run) -> Finding:
    """TM-4.lean."""
    table = rows(sweep(run))
    evidence = {f"{row.setting.label}; {row.reference} reference": row.lean.to_json() for row in table}
    return _judge_lean(run, "clean", {"seeds": seeds(run), "lean": evidence}, _lean_exhibits(table))


def check_lean_absent(run: Run) -> Finding:
    """False twin: with the absent reference too."""
    return _judge_lean(run, "absent", {}, ())


def check_lean_of_features(run: Run) -> Finding:
    """False twin: the features themselves in the place of found directions."""
    return _judge_lean(run, "clean", {}, (), of=lambda item: item.feature_lean)


def _judge_lean(
    run: Run,
    reference: str,
    evidence: dict[str, Any],
    exhibits: tuple[Exhibit, ...],
    of: Callable[[Found], Tensor] = lambda item: item.lean,
) -> Finding:
    """On every model whose unit activations have a mean of at least ``LEANING_LENGTH``."""
    items = [i for i in sweep(run) if i.reference == reference and i.mean_length >= LEANING_LENGTH]
    leans = [(item, mean_interval(of(item), seeded(item.seed))) for item in items]
    listed = [
        {"setting": i.setting.label, "seed": i.seed, "mean_length": i.mean_length, "lean": value.to_json()}
        for i, value in leans
    ]
    failing = next((row for row, (_, v) in zip(listed, leans, strict=True) if v.low > REQUIRED_LEAN), None)
    holds = bool(leans) and all(value.high < REQUIRED_LEAN for _, value in leans)
    return finding(failing, holds, {"required": REQUIRED_LEAN, "models": listed, **evidence}, exhibits)


def _found_table(table: Sequence[Row]) -> Table:
    return Table(
        title="Removal directions among found ones",
        caption="Share of removal in the effect of found directions, share of directions in which it is the majority, "
        "cosine to the mean of unit activations; 95 % intervals over models. Compare how many lean with how many "
        "remove, and settings with a direction always there with those without.",
        columns=["model", "reference", "length of the mean", "lean", "removal share", "removing", "cosine to feature"],
        rows=[
            [
                row.setting.label,
                row.reference,
                f"{row.mean_length:.2f}",
                row.lean.text(),
                row.share.text(),
                row.removing.text(),
                row.cosine.text(),
            ]
            for row in table
        ],
    )


def _lean_exhibits(table: Sequence[Row]) -> tuple[Exhibit, ...]:
    """Lean over density on random features, for both references and the features; and all settings as intervals."""
    plain = [row for row in table if not row.setting.trained and not row.setting.constant]
    densities = sorted({row.setting.density for row in plain})
    clean, absent = (
        sorted((row for row in plain if row.reference == name), key=lambda row: row.setting.density)
        for name in ("clean", "absent")
    )
    series = {
        "clean reference": [row.lean for row in clean],
        "absent reference": [row.lean for row in absent],
        "features": [row.feature_lean for row in clean],
    }
    curve = Curve(
        title="How found directions lean, over density",
        caption="Random features, cosine to the mean of unit activations, bands over models. Below 0 directions lean "
        "against the mean: compare the clean reference with the absent one, and both with the features, from sparse "
        "(left) to dense (right).",
        x_label="density p",
        y_label="cosine to the mean",
        x=densities,
        series={name: [value.value for value in values] for name, values in series.items()},
        bands={name: [(value.low, value.high) for value in values] for name, values in series.items()},
        log_x=True,
    )
    intervals = Intervals(
        title="Lean of found directions, model by model",
        caption="95 % intervals over models. For each setting compare the clean reference with the absent one: the "
        "nearer the second lies to 0, the more of the lean is made by the reference.",
        x_label="cosine to the mean of unit activations",
        rows=[
            IntervalRow(
                name=f"{row.setting.label}; {row.reference}", value=row.lean.value, low=row.lean.low, high=row.lean.high
            )
            for row in table
        ],
        reference=0.0,
    )
    return curve, intervals
