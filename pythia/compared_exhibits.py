"""What the comparison of groups shows: tables with a row for each layer, controls, and the published figures beside.

The published figures are those of [REF] on pythia-70m-deduped, as THEORY PY-3 has them: 100 directions of an
autoencoder and 100 random ones at each of layers 0 to 4. That score shortens activations to length 1 as well as turning
them (SE-2), so that its size is not comparable with ours; the ratios are what can be laid side by side.

PY-3, PY-4 and PY-4.sae are about the same comparison. It is shown once, by the claim of a run that comes first, and the
others say where (:func:`shown_with`). Captions say what came out, computed from the figures that they stand under.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from pythia import group_scores, subject
from pythia.compared import FOUND, GROUPS, PCA, RANDOM, SAE, SHUFFLED
from pythia.group_scores import LONGER, NEGATED, ON_SHUFFLED_TOKENS, RANDOM_AGAIN, ROUNDING, SHORTER, LayerScores
from pythia.loading import LanguageModel
from sensverify.claims import Run
from sensverify.exhibits import Curve, Exhibit, Histogram, IntervalRow, Intervals, Table
from sensverify.statistics import Interval

PUBLISHED_MODEL = "pythia-70m-deduped"
PUBLISHED_SAE = ("0.1365", "0.1494", "0.2706", "0.4550", "0.01496")
PUBLISHED_RANDOM = ("0.0647", "0.0440", "0.0719", "0.1097", "0.00670")
"""As they were printed, with their last zeros."""
PUBLISHED_CONFIG = {
    "model_type": "gpt_neox", "num_hidden_layers": 6, "hidden_size": 512, "num_attention_heads": 8, "vocab_size": 50304,
}  # fmt: skip
NONE = "–"
RATIOS = ((FOUND, RANDOM), (SAE, RANDOM), (FOUND, SAE), (PCA, RANDOM), (SHUFFLED, RANDOM), (RANDOM_AGAIN, RANDOM))


def shown_with(run: Run, claim: str) -> str:
    """The claim with which the comparison is shown in this run: the first that had it to show, or else ``claim``."""
    return _shown(run).get("with", claim)


def _shown(run: Run) -> dict[str, str]:
    shown: dict[str, str] = run.shared("pythia.comparison shown", dict)
    return shown


def comparison(
    run: Run, rows: Mapping[int, LayerScores], claim: str, layer: int
) -> tuple[dict[str, Any], tuple[Exhibit, ...]]:
    """The evidence and exhibits of the comparison for ``claim``, or where they are if another claim shows them.

    ``layer``: whose site stands for the run's configuration.
    """
    first = shown_with(run, claim)
    if first != claim:
        return {"comparison": f"the run's configuration, all groups and controls by layer: shown with {first}"}, ()
    evidence = {
        **group_scores.describe(run, layer),
        "layers": {f"layer {at}": group_scores.evidence(row) for at, row in rows.items()},
    }
    made = exhibits(rows, subject.model(run))
    _shown(run)["with"] = claim  # not before it is there to be shown
    return evidence, made


def exhibits(rows: Mapping[int, LayerScores], model: LanguageModel) -> tuple[Exhibit, ...]:
    """The tables, and a curve over layers where there are several."""
    shown: list[Exhibit] = [_means(rows, model), _others(rows), _ratios(rows), _controls(rows)]
    if len(rows) > 1:
        shown.append(_curve(rows))
    return tuple(shown)


def by_name(model: LanguageModel) -> bool:
    """Whether the model is the one of the published figures, by the last part of its name."""
    return PurePath(model.name).name == PUBLISHED_MODEL


def by_configuration(model: LanguageModel) -> bool:
    """Whether it has that model's configuration, as a copy in a folder of another name does."""
    return all(getattr(model.config, name, None) == value for name, value in PUBLISHED_CONFIG.items())


def group_intervals(row: LayerScores, shown: str = "") -> Intervals:
    """All groups of one layer on one axis; ``shown``: the claim that shows the tables, where it is another one."""
    return Intervals(
        title=f"Mean sensitivity by group, layer {row.layer}",
        caption="95 % intervals, directions and contexts resampled; all groups on the same contexts and presences."
        + (f" The tables by layer, the controls and the published figures are shown with {shown}." if shown else ""),
        x_label="mean SeS",
        rows=[IntervalRow(name=name, **row.mean(name).to_json()) for name in (*GROUPS, NEGATED)],
        log_x=True,
    )


def histogram(title: str, row: LayerScores, names: Sequence[str]) -> Histogram:
    """SeS of single directions of the groups ``names``, the last of which the others are compared with."""
    groups = {name: row.effects[name].double().mean(1).tolist() for name in names}
    return single_directions(f"{title}, layer {row.layer}", groups)


def single_directions(title: str, groups: Mapping[str, Sequence[float]]) -> Histogram:
    """SeS of single directions by group, with what the medians and the highest random direction are to the others."""
    *others, base = groups
    usual, highest = statistics.median(groups[base]), max(groups[base])
    medians, above = [], []
    for name in others:
        over = f"{statistics.median(groups[name]) / usual:.2g} times" if usual > 0 else f"{NONE} times"
        medians.append(f"{name} {over}")
        above.append(f"{name} {sum(score > highest for score in groups[name])} of {len(groups[name])}")
    return Histogram(
        title=title,
        caption="Each count is one direction's SeS over all held-out contexts. Medians, over the median of the "
        f"group “{base}”: {', '.join(medians)}. Above the highest of its {len(groups[base])}: {', '.join(above)}.",
        x_label="SeS",
        groups=groups,
        log_x=True,
    )


def _means(rows: Mapping[int, LayerScores], model: LanguageModel) -> Table:
    layers = sorted(set(rows) | set(range(len(PUBLISHED_SAE))))
    groups = (FOUND, SAE, RANDOM)
    return Table(
        title="Sensitivity by layer, ours and published",
        caption="Found, SAE, random: our mean SeS on held-out contexts with 95 % intervals (directions and contexts "
        "resampled), read one block and one token later; in each row all groups meet the same contexts and presences. "
        f"The columns “published” are not ours: mean scores of 100 directions each on {PUBLISHED_MODEL} by the "
        "author's research code, which reads at the same token and also shortens activations to length 1, so that "
        "sizes cannot be compared; the order and the ratios can be laid side by side (PY-10 measures what that score "
        f"does to them). No mean score of found directions was published. {_whose(model)} {NONE}: not measured in this "
        "run, or not published.",
        columns=["layer", *groups, "published SAE", "published random", "published SAE / random"],
        rows=[
            [
                layer,
                *(rows[layer].mean(name) if layer in rows else NONE for name in groups),
                *_published(layer),
            ]
            for layer in layers
        ],
    )


def _whose(model: LanguageModel) -> str:
    if by_name(model):
        return "The model measured is, by its name, the published one."
    if by_configuration(model):
        return (
            f"The model measured has the configuration of {PUBLISHED_MODEL} (which does not tell whether its weights "
            "are that model's)."
        )
    return "The model measured is another one, whose layers are not those of the published figures."


def _published(layer: int) -> tuple[str, str, str]:
    if layer >= len(PUBLISHED_SAE):
        return NONE, NONE, NONE
    sae, random = PUBLISHED_SAE[layer], PUBLISHED_RANDOM[layer]
    return sae, random, f"{float(sae) / float(random):.2f}"


def _others(rows: Mapping[int, LayerScores]) -> Table:
    names = (PCA, SHUFFLED, NEGATED, RANDOM_AGAIN)
    return Table(
        title="Other groups by layer",
        caption="Mean SeS as above: principal components; directions found on a copy of the model with shuffled "
        "weights, scored on the model itself; the negatives of the found directions; a second draw of random ones.",
        columns=["layer", *names],
        rows=[[layer, *(row.mean(name) for name in names)] for layer, row in rows.items()],
    )


def _ratios(rows: Mapping[int, LayerScores]) -> Table:
    return Table(
        title="Ratios by layer",
        caption="Ratios of mean SeS, contexts paired, with 95 % intervals; beside them the same on windows with their "
        f"tokens shuffled. {_untrained(rows)} {_order(rows)}",
        columns=["layer", "ratio", "on text", "on shuffled tokens"],
        rows=[
            [
                layer,
                f"{top} / {bottom}",
                row.ratio(top, bottom),
                row.ratio(top, bottom, shuffled_tokens=True) if {top, bottom} <= set(ON_SHUFFLED_TOKENS) else NONE,
            ]
            for layer, row in rows.items()
            for top, bottom in RATIOS
        ],
    )


def _untrained(rows: Mapping[int, LayerScores]) -> str:
    """What directions reach about which the model's weights say nothing."""
    again = _span([row.ratio(RANDOM_AGAIN, RANDOM) for row in rows.values()])
    shuffled = _span([row.ratio(SHUFFLED, RANDOM) for row in rows.values()])
    sentence = (
        f"A second draw of random directions has {again} the mean of the first, and directions found on the copy with "
        f"shuffled weights have {shuffled} that mean: so much needs nothing that training has put into the matrices."
    )
    for name in (FOUND, SAE):
        if no_more := [layer for layer, row in rows.items() if not row.ratio(name, SHUFFLED).low > 1]:
            sentence += f" The group “{name}” is not shown to exceed the latter at {_at(no_more)}."
    return sentence


def _order(rows: Mapping[int, LayerScores]) -> str:
    """Whether ratios to random directions need the order of words."""
    told, needless = [], False
    for top in (FOUND, SAE):
        outcomes: dict[str, list[int]] = {"smaller": [], "larger": [], "alike": []}
        for layer, row in rows.items():
            outcomes[row.ratio(top, RANDOM, shuffled_tokens=True).beside(row.ratio(top, RANDOM))].append(layer)
        needless |= bool(outcomes["larger"] or outcomes["alike"])
        words = {"smaller": "smaller than on text", "larger": "larger than on text", "alike": "as on text"}
        places = "; ".join(f"{words[name]} at {_at(layers)}" for name, layers in outcomes.items() if layers)
        told.append(f"{top} / random is {places}")
    rest = " Where a ratio is not smaller there, it does not show that the order of tokens matters." if needless else ""
    return f"On shuffled tokens {', and '.join(told)} (“as on text” where the 95 % intervals overlap).{rest}"


def _span(ratios: Sequence[Interval]) -> str:
    if len(ratios) == 1:
        return f"{ratios[0].value:.2f} [{ratios[0].low:.2f}, {ratios[0].high:.2f}] times"
    return f"{min(one.value for one in ratios):.2f} to {max(one.value for one in ratios):.2f} times"


def _at(layers: Sequence[int]) -> str:
    return f"layer{'s' * (len(layers) > 1)} {', '.join(map(str, layers))}"


def _controls(rows: Mapping[int, LayerScores]) -> Table:
    return Table(
        title="Controls by layer",
        caption="α = ρ: mean and largest effect of setting presence to what it is, over the mean effect of random "
        "directions; it must be 0 up to rounding, and nothing is concluded where its mean is "
        f"above {ROUNDING:g}. Norm only: activations scaled by as much as an intervention moves them, and not turned; "
        "one block and one token later they are read through a norm alone, so that theory has it 0 as well (LN-1).",
        columns=["layer", "α = ρ, mean", "α = ρ, largest", f"{LONGER} / random", f"{SHORTER} / random"],
        rows=[
            [layer, row.null_share, row.largest_null_share, row.ratio(LONGER, RANDOM), row.ratio(SHORTER, RANDOM)]
            for layer, row in rows.items()
        ],
    )


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
