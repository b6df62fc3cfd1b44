"""PY-2: what a model's next token depends on, the direction of an activation or its norm.

Swaps (:mod:`pythia.swaps`) after the blocks nearest to three depths, measured in nats of the next-token distribution at
the same position. Norms of tokens differ little and directions differ a lot, so a plain swap compares changes of
unequal size; PY-2.matched compares a turn and a change of norm of the same length. For small changes both divergences
grow as the square of that length, so their ratio there is one number, which the ladder shows.

Behind a norm the change of norm would do nothing at all (LN-2); in the stream it weighs what this token has
accumulated so far against what later blocks add (LN-6). At later positions it is felt only through blocks that follow
another block: with one block left it can reach them through that block's norm alone, that is, not at all.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pythia import compared, subject
from pythia.swaps import Swaps, layers_at, measure
from sensverify.claims import Run
from sensverify.exhibits import Curve, Exhibit, Table
from sensverify.multiplicity import holm, median_interval, sign_interval, sign_test
from sensverify.numerals import number
from sensverify.predictions import JUDGED, Side, judged
from sensverify.statistics import Interval, mean_interval
from sensverify.swaps import DIRECTION, FLOOR, HALVED, LADDER, NORM, OWN, RANDOM, TOWARDS, TURN, TURN_RANDOM, UP
from sensverify.verdicts import Finding, Status

CONTEXTS = {"quick": 128, "full": 512}
LATER = {"quick": (1, 4), "full": (1, 2, 4, 8)}
"""How many tokens later the two swaps are measured too."""
LEVEL = 0.05
PLAIN, MATCHED = "PY-2", "PY-2.matched"
SIDE: Side = "low"
"""The side of both intervals that the claims cannot do without."""
PUBLISHED = {
    "median_ratio_at_25_50_75_per_cent_depth": [87, 219, 2560],
    "nats_for_halving_one_norm_at_25_per_cent": 3.1,
    "where": "a 36-layer RMSNorm model; figures of others, shown for orientation only",
}


def preflight(run: Run) -> None:
    """As :func:`pythia.subject.preflight` does for every claim, with the predictions of PY-2."""
    subject.preflight(run, {PLAIN: SIDE, MATCHED: SIDE})


def measured(run: Run) -> list[Swaps]:
    """At every depth, once per run."""

    def make() -> list[Swaps]:
        loaded, text = subject.model(run), subject.corpus(run)
        found = []
        places = layers_at(loaded.depth)
        for done, layer in enumerate(places):
            run.progress("swapping directions and norms", done, len(places))
            found.append(
                measure(
                    loaded, text, layer, contexts=CONTEXTS[run.profile], later=LATER[run.profile], seed=run.seed + 41
                )
            )
        run.progress("swapping directions and norms", len(places), len(places))
        return found

    return run.shared("pythia.relative_norm", make)


def check_swaps(run: Run) -> Finding:
    """PY-2: at every depth the direction matters more than the norm."""
    control = _on_shuffled_weights(run)
    evidence = {
        "contexts": len(measured(run)[0].change),
        "share_of_depth": {swaps.place: (swaps.layer + 1) / swaps.depth for swaps in measured(run)},
        "positions": "one per window, a token of the text there and in the partner; never a window's first",
        "later_positions": f"mean over {', '.join(f'p+{t}' for t in LATER[run.profile])}",
        "depths": {swaps.place: _figures(swaps, run) for swaps in measured(run)},
        "shuffled_weights": {swaps.place: _ratio(swaps, run).to_json() for swaps in control},
        "published_elsewhere": PUBLISHED,
    }
    return _judge(
        run,
        PLAIN,
        (DIRECTION, NORM),
        evidence,
        (_table(run, control), _beside(run), *(_ladder(one, run.seed) for one in measured(run))),
    )


def check_own_direction(run: Run) -> Finding:
    """False twin of both: the context's own direction in the place of another's, where nothing is swapped."""
    return _judge(run, PLAIN, (OWN, NORM))


def check_opposite_order(run: Run) -> Finding:
    """False twin of PY-2: the norm matters more than the direction."""
    return _judge(run, PLAIN, (NORM, DIRECTION))


def check_turns(run: Run) -> Finding:
    """PY-2.matched: a turn as long as the change of norm matters more than that change."""
    evidence = {
        "depths": {
            swaps.place: {
                "turned_towards_another": _ratio(swaps, run, TURN).to_json(),
                "turned_at_random": _ratio(swaps, run, TURN_RANDOM).to_json(),
                "median_relative_change": float(swaps.change.median()),
            }
            for swaps in measured(run)
        },
        "turned_at_random": "a control: a direction that no context has; not judged",
        "shuffled_weights": {one.place: _ratio(one, run, TURN).to_json() for one in _on_shuffled_weights(run)},
    }
    return _judge(run, MATCHED, (TURN, NORM), evidence)


def _on_shuffled_weights(run: Run) -> list[Swaps]:
    """The same where nothing is left of what training put into the weights: a control of both."""

    def make() -> list[Swaps]:
        model, text, contexts = compared.shuffled_model(run), subject.corpus(run), CONTEXTS[run.profile] // 2
        return [
            measure(model, text, layer, contexts=contexts, seed=run.seed + 41, ladder=False)
            for layer in layers_at(model.depth)
        ]

    return run.shared("pythia.relative_norm shuffled", make)


def _judge(
    run: Run,
    name: str,
    pair: tuple[str, str],
    evidence: Mapping[str, object] | None = None,
    exhibits: tuple[Exhibit, ...] = (),
) -> Finding:
    """SUPPORTED if the median ratio of the pair is above what is predicted at every depth, REFUTED if below at any:
    sign tests, Holm's level. The ledger's intervals are of single depths, and of level 90 %: what one-sided tests at
    5 % on either side leave."""
    predicted, origin = subject.prediction(run, name, SIDE)
    assert predicted.low is not None  # as SIDE asks
    swaps, (top, bottom), edge = measured(run), pair, predicted.low
    ratios = [one.ratio(top, bottom) for one in swaps]
    above = holm([sign_test(int((ratio > edge).sum()), len(ratio)) for ratio in ratios])
    below = holm([sign_test(int((ratio < edge).sum()), len(ratio)) for ratio in ratios])
    rows = [
        {
            "layer": one.layer,
            "place": one.place,
            "compared": [top, bottom],
            "median_ratio": _ratio(one, run, top, bottom).to_json(),
            "share_of_contexts_above": float((ratio > edge).double().mean()),
            "p_above": p_above,
            "p_below": p_below,
        }
        for one, ratio, p_above, p_below in zip(swaps, ratios, above, below, strict=True)
    ]
    failing = next((row for row, p in zip(rows, below, strict=True) if p < LEVEL), None)
    status = Status.INCONCLUSIVE
    if failing is not None:
        status = Status.REFUTED
    elif all(p < LEVEL for p in above):
        status = Status.SUPPORTED
    single = f", {100 - 200 * LEVEL:g} % interval: sign tests at {100 * LEVEL:g} % on either side" + (
        "; the verdict is by Holm" if len(swaps) > 1 else ""
    )
    return Finding(
        status=status,
        evidence={
            JUDGED: [
                judged(
                    predicted, sign_interval(one.ratio(top, bottom), LEVEL), of=f"{one.place}{single}", origin=origin
                )
                for one in swaps
            ],
            "median_ratios": rows,
            "test": f"sign tests over contexts against a ratio of {edge:g}, Holm over depths, 5 %",
            "intervals_of_median_ratios": "95 %, bootstrap over contexts; those of the ledger are 90 %, by sign tests",
            **(evidence or {}),
        },
        witness=failing,
        exhibits=exhibits,
    )


def _ratio(swaps: Swaps, run: Run, top: str = DIRECTION, bottom: str = NORM) -> Interval:
    return median_interval(swaps.ratio(top, bottom), torch.Generator().manual_seed(run.seed))


def _figures(swaps: Swaps, run: Run) -> dict[str, object]:
    figures: dict[str, object] = {
        "layer": swaps.layer,
        "median_nats": {name: float(effect.median()) for name, effect in swaps.effects.items()},
        "largest_of_own_direction": float(swaps.effects[OWN].max()),
        "nats_for_halving_the_norm": mean_interval(
            swaps.effects[HALVED], torch.Generator().manual_seed(run.seed)
        ).to_json(),
        "median_relative_change_of_norm": float(swaps.change.median()),
        "median_cosine_of_directions": float(swaps.cosine.median()),
        # to second order the divergence is this times the square of the relative change
        "median_nats_per_squared_relative_change": {
            name: float(effect[0].median()) / LADDER[0] ** 2 for name, effect in swaps.ladder.items()
        },
    }
    if swaps.later:
        figures["median_nats_later"] = {name: float(effect.median()) for name, effect in swaps.later.items()}
    return figures


def _table(run: Run, control: list[Swaps]) -> Table:
    shuffled = {swaps.layer: swaps for swaps in control}
    return Table(
        title="Direction against norm",
        caption="Median nats by which the next-token distribution moves, and medians over contexts of ratios within a "
        "context, with 95 % intervals (bootstrap over contexts; those of the predictions are 90 %, of one-sided sign "
        "tests). The matched ratio compares a turn and a change of norm of the same length: that is the fair one; the "
        "plain ratio also says that directions differ more than norms do. On a copy with shuffled weights the plain "
        f"ratio is {_against(run, control)} (“alike” where the 95 % intervals overlap).",
        columns=[
            "where", "direction swapped", "norm swapped", "ratio", "matched ratio", "ratio, shuffled weights",
        ],
        rows=[
            [
                one.place,
                _digits(one.effects[DIRECTION].median()),
                _digits(one.effects[NORM].median()),
                _ratio(one, run),
                _ratio(one, run, TURN),
                _ratio(shuffled[one.layer], run),
            ]
            for one in measured(run)
        ],
    )  # fmt: skip


def _beside(run: Run) -> Table:
    return Table(
        title="What else moves the next token",
        caption="Median nats where the direction is replaced by a random one, and where the norm is halved; the "
        "largest where an activation is given its own direction, which is to say where nothing is changed; by how much "
        "the swapped norms differ, median; and the plain ratio of what is felt later, mean over positions up to "
        f"{max(LATER[run.profile])} tokens on.",
        columns=[
            "where",
            "random direction",
            "norm halved",
            "own direction, largest",
            "norms differ by",
            "ratio later",
        ],
        rows=[
            [
                one.place,
                _digits(one.effects[RANDOM].median()),
                _digits(one.effects[HALVED].median()),
                _digits(one.effects[OWN].max(), 1),
                f"{100 * float(one.change.median()):.0f} %",
                _later_ratio(one),
            ]
            for one in measured(run)
        ],
    )


def _against(run: Run, control: list[Swaps]) -> str:
    """How the plain ratio on shuffled weights compares with that of the model, depth by depth."""
    shuffled = {swaps.layer: swaps for swaps in control}
    outcomes: dict[str, list[str]] = {}
    for one in measured(run):
        words = _ratio(shuffled[one.layer], run).beside(_ratio(one, run))
        outcomes.setdefault(words, []).append(f"{one.layer + 1}")
    return "; ".join(f"{words} after {', '.join(n)} blocks" for words, n in outcomes.items())


def _digits(value: torch.Tensor, digits: int = 3) -> float:
    """As many significant digits as are worth showing."""
    return float(f"{float(value):.{digits}g}")


def _later_ratio(swaps: Swaps) -> object:
    """The median ratio at later positions, or a bound where what the norm does there is rounding."""
    if not swaps.later:
        return "no later position"
    if float(swaps.later[NORM].median()) < 1e3 * FLOOR:
        return "norm without effect"
    return _digits((swaps.later[DIRECTION] / swaps.later[NORM].clamp_min(FLOOR)).median())


def _ladder(swaps: Swaps, seed: int) -> Curve:
    points = {
        name: [median_interval(step.clamp_min(FLOOR), torch.Generator().manual_seed(seed)) for step in steps]
        for name, steps in swaps.ladder.items()
    }
    return Curve(
        title=f"What changes of the same length do, {swaps.place}",
        caption="Median nats over contexts, with 95 % intervals (bootstrap over contexts). Lines of slope 2 mean a "
        "second-order effect; the height between those of turning and those of a changed norm is how much more a model "
        f"reads of the direction, size for size: {_size_for_size(points)}.",
        x_label="length of the change over the norm",
        y_label="nats",
        x=LADDER,
        series={name: [point.value for point in line] for name, line in points.items()},
        bands={name: [(point.low, point.high) for point in line] for name, line in points.items()},
        log_x=True,
        log_y=True,
    )


def _size_for_size(points: Mapping[str, list[Interval]]) -> str:
    """How many times as much as a longer activation one does that is turned as far, at the ends of the ladder."""
    times = [number(points[TOWARDS][i].value / points[UP][i].value, 2) for i in (0, -1)]
    return (
        f"a turn towards another context's direction moves the distribution {times[0]} times as much as making the "
        f"activation longer does at a length of {LADDER[0]:g}, and {times[1]} times as much at {LADDER[-1]:g}"
    )
