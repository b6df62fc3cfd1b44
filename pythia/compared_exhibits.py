"""What the comparison of groups shows: a table for each layer, controls, and the published figures beside them.

The published figures are those of [REF] on pythia-70m-deduped, as THEORY PY-3 has them: 100 directions of an
autoencoder and 100 random ones at each of layers 0 to 4. That score shortens activations to length 1 as well as turning
them (SE-2), so that its size is not comparable with ours; the ratios are what can be laid side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath

from pythia.compared import FOUND, GROUPS, PCA, RANDOM, SAE, SHUFFLED
from pythia.group_scores import LONGER, NEGATED, RANDOM_AGAIN, SHORTER, LayerScores
from sensverify.exhibits import Curve, Exhibit, IntervalRow, Intervals, Table

PUBLISHED_MODEL = "pythia-70m-deduped"
PUBLISHED_SAE = (0.1365, 0.1494, 0.2706, 0.4550, 0.01496)
PUBLISHED_RANDOM = (0.0647, 0.0440, 0.0719, 0.1097, 0.00670)
PUBLISHED = f"published ({PUBLISHED_MODEL})"
NONE = "–"
RATIOS = ((FOUND, RANDOM), (SAE, RANDOM), (FOUND, SAE), (PCA, RANDOM), (SHUFFLED, RANDOM), (RANDOM_AGAIN, RANDOM))


def exhibits(rows: Mapping[int, LayerScores], model: str) -> tuple[Exhibit, ...]:
    """The tables, and a curve over layers where there are several."""
    shown: list[Exhibit] = [_means(rows), _ratios(rows, model), _controls(rows)]
    if not is_published_model(model):
        shown.append(_published())
    if len(rows) > 1:
        shown.append(_curve(rows))
    return tuple(shown)


def is_published_model(name: str) -> bool:
    """Whether the model is the one of the published figures, by the last part of its name."""
    return PurePath(name).name == PUBLISHED_MODEL


def group_intervals(row: LayerScores) -> Intervals:
    """All groups of one layer on one axis."""
    names = (*GROUPS, NEGATED, LONGER, SHORTER)
    return Intervals(
        title=f"Mean sensitivity by group, layer {row.layer}",
        caption="95 % intervals, directions and contexts resampled; all groups on the same contexts and presences.",
        x_label="mean SeS",
        rows=[IntervalRow(name=name, **row.mean(name).to_json()) for name in names],
        log_x=True,
    )


def _means(rows: Mapping[int, LayerScores]) -> Table:
    names = (*GROUPS, NEGATED)
    return Table(
        title="Sensitivity by layer and group",
        caption="Mean SeS on held-out contexts with 95 % intervals (directions and contexts resampled), read one block "
        "and one token later. In each row all groups meet the same contexts and presences.",
        columns=["layer", *names],
        rows=[[layer, *(row.mean(name) for name in names)] for layer, row in rows.items()],
    )


def _ratios(rows: Mapping[int, LayerScores], model: str) -> Table:
    columns = ["layer", *(f"{top} / {bottom}" for top, bottom in RATIOS)]
    cells: list[list[object]] = [
        [layer, *(row.ratio(top, bottom) for top, bottom in RATIOS)] for layer, row in rows.items()
    ]
    caption = "Ratios of mean SeS, contexts paired, with 95 % intervals. 1 is what directions that mean nothing give."
    if is_published_model(model):
        columns.append(f"SAE / random, {PUBLISHED}")
        cells = [[*row, _published_ratio(int(str(row[0])))] for row in cells]
        caption += " The last column is published, not ours."
    return Table(title="Ratios by layer", caption=caption, columns=columns, rows=cells)


def _controls(rows: Mapping[int, LayerScores]) -> Table:
    return Table(
        title="Controls by layer",
        caption="α = ρ: mean and largest effect of setting presence to what it is, over the mean effect of random "
        "directions; it must be 0 up to rounding. Norm only: activations scaled by as much as an intervention moves "
        "them, and not turned; one block and one token later they are read through a norm alone, so that it is 0 as "
        "well (LN-1). Shuffled tokens: windows with their tokens permuted.",
        columns=[
            "layer",
            "α = ρ, mean",
            "α = ρ, largest",
            f"{LONGER} / random",
            f"{SHORTER} / random",
            "found / random, shuffled tokens",
            "SAE / random, shuffled tokens",
        ],
        rows=[
            [
                layer,
                row.null_share,
                row.largest_null_share,
                row.ratio(LONGER, RANDOM),
                row.ratio(SHORTER, RANDOM),
                row.ratio(FOUND, RANDOM, shuffled_tokens=True),
                row.ratio(SAE, RANDOM, shuffled_tokens=True),
            ]
            for layer, row in rows.items()
        ],
    )


def _published() -> Table:
    layers: Sequence[int] = range(len(PUBLISHED_SAE))
    return Table(
        title=f"Published figures ({PUBLISHED_MODEL}), for another model than the one measured here",
        caption="Not ours: mean score of 100 directions of an autoencoder and of 100 random ones by the author's "
        "research code, which also shortens activations to length 1. Shown for the order of the ratios alone.",
        columns=["layer", f"SAE, {PUBLISHED}", f"random, {PUBLISHED}", f"SAE / random, {PUBLISHED}"],
        rows=[[layer, PUBLISHED_SAE[layer], PUBLISHED_RANDOM[layer], _published_ratio(layer)] for layer in layers],
    )


def _published_ratio(layer: int) -> object:
    if layer >= len(PUBLISHED_SAE):
        return NONE
    return round(PUBLISHED_SAE[layer] / PUBLISHED_RANDOM[layer], 2)


def _curve(rows: Mapping[int, LayerScores]) -> Curve:
    shown = ((FOUND, RANDOM), (SAE, RANDOM), (PCA, RANDOM), (SHUFFLED, RANDOM))
    ratios = {f"{top} / {bottom}": [row.ratio(top, bottom) for row in rows.values()] for top, bottom in shown}
    return Curve(
        title="Sensitivity over that of random directions, layer by layer",
        caption="Ratios of mean SeS with 95 % intervals.",
        x_label="layer",
        y_label="ratio of mean SeS",
        x=list(rows),
        series={name: [one.value for one in values] for name, values in ratios.items()},
        bands={name: [(one.low, one.high) for one in values] for name, values in ratios.items()},
        log_y=True,
    )
