"""PY-5: how well rules tell where a direction is present, for found, SAE, random and other directions.

**Which end.** A direction and its negative are two directions (SE-4), and each group has a sense of its own in which it
is *present*: found directions are those whose addition the search scored, latents of an autoencoder fire on one side,
those of random directions are alike, and a principal component is turned to its longer tail. So the end explained is
that of positive presence for every group; none has the better of its two ends picked. The other end is shown beside it.

**Which null.** Presence of *any* direction follows the tokens, random ones included, since the stream carries the
token. What shuffled labels give is chance; what is to be beaten is the group of random directions.

All groups are explained on the same held-out windows, which no search and no training of an autoencoder has seen,
halved alike, with the same search for every direction. A group's figure is the mean over its directions, which its size
does not shift. What is asked is about the directions that such a search finds, so that where one search finds few, more
of them are run.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from pythia import compared, subject
from pythia.compared import FOUND, RANDOM, SAE
from pythia.explain import explain_all
from pythia.gallery import presences
from pythia.readout import LanguageModelReadout
from sensverify.claims import Run
from sensverify.exhibits import Exhibit, Histogram, IntervalRow, Intervals, Table
from sensverify.predictions import JUDGED, Prediction, Side, judged
from sensverify.rules import Explanation, Explanations, RuleOptions
from sensverify.statistics import Interval, bootstrap_weights, percentile_interval
from sensverify.verdicts import Finding, Status

RESAMPLES = 2000
LEVEL = 0.05
COMPARED_WITH = (SAE, RANDOM)
PREDICTION = "PY-5"
SIDE: Side = "low"
"""The side of its interval that the claim cannot do without."""
ORDER = Prediction(
    id="PY-5.sae",
    quantity="held-out detection accuracy of rules, mean of found directions less that of an autoencoder's",
    low=0.0,
    high=None,
    derived_from="THEORY PY-5, the order stated there after Stambler 2025. No toy shows it: rules tell found "
    "directions and those of an autoencoder alike where both are about one token (TM-8.rules).",
)
"""Found above SAE is what the theory states; found above random is predicted by the toys."""
PUBLISHED = {
    "SAE": (0.585, 0.531, 0.550, 0.543, 0.551),
    "sensitivity": (0.725, 0.706, 0.746, 0.665, 0.653),
}
"""Stambler 2025, pythia-70m-deduped, layers 0 to 4, explanations by a language model: shown, never judged by."""
MORE_SEEDS = (1001, 1002, 1003)
"""Added to the run's seed: of further searches where one finds few directions, since their accuracies differ much."""
ENOUGH = 64
SHOWN = 4
MOVED = "found, presences moved"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    """At one layer: every group's explanations, and the mean accuracy at the other end of its directions."""

    layer: int
    groups: Mapping[str, Explanations]
    other_end: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Means:
    """Mean accuracy of each group over directions and layers: the estimate, and bootstrap replicates ``[R]``.

    Windows are resampled alike for all groups, directions within each; the rules stay those that were fitted.
    """

    values: Mapping[str, float]
    replicates: Mapping[str, Tensor]

    def interval(self, group: str, level: float = LEVEL) -> Interval:
        """Of one group's mean."""
        return percentile_interval(self.values[group], self.replicates[group], level / 2)

    def difference(self, group: str, other: str, level: float = LEVEL) -> Interval:
        """Of the difference between two groups' means, paired in the windows."""
        replicates = self.replicates[group] - self.replicates[other]
        return percentile_interval(self.values[group] - self.values[other], replicates, level / 2)


def check_found_are_detected_better(run: Run) -> Finding:
    """PY-5 on the run's model."""
    layers = measured(run)
    means = group_means(layers, run.seed)
    evidence = {
        "layers": [row.layer for row in layers],
        "directions": {name: len(explanations(layers, name)) for name in means.values},
        "held_out_windows": layers[0].groups[FOUND].hits.shape[1],
        "strong_share": options(run).share,
        "null_searches_for_each_direction": options(run).shuffles,
        "detection_accuracy": {name: means.interval(name).to_json() for name in means.values},
        "other_end": {name: _mean(row.other_end[name] for row in layers) for name in means.values},
        "shuffled_labels": {name: _mean(e.null_mean for e in explanations(layers, name)) for name in means.values},
        "mean_bits_of_rules": {name: _mean(e.rule.bits for e in explanations(layers, name)) for name in means.values},
        "rules_about_the_token_alone": {
            name: _mean(float(e.rule.token_alone) for e in explanations(layers, name)) for name in means.values
        },
        "found_minus_others_not_judged": {
            name: means.difference(FOUND, name).to_json()
            for name in means.values if name not in (FOUND, *COMPARED_WITH)
        },
        "found_minus_others_by_layer": {
            str(row.layer): {
                name: group_means([row], run.seed).difference(FOUND, name).to_json() for name in COMPARED_WITH
            }
            for row in layers
        },
    }  # fmt: skip
    return _judge(run, means, FOUND, COMPARED_WITH, evidence, _exhibits(layers, means))


def check_moved_presences(run: Run) -> Finding:
    """False twin: the found directions with their presences moved to other windows, against all, themselves too."""
    layers = []
    for row in measured(run):
        rho = presences(held_out(run, row.layer), _directions(run, row.layer)[FOUND])
        moved = explain(run, row.layer, rho.roll((1, 7), dims=(1, 2)))
        layers.append(dataclasses.replace(row, groups={**row.groups, MOVED: moved}))
    return _judge(run, group_means(layers, run.seed), MOVED, (*COMPARED_WITH, FOUND), {}, ())


def measured(run: Run) -> list[Layer]:
    """Every group of directions explained, at every layer of this run; once per run."""
    return run.shared("pythia.explained", lambda: [_measure(run, layer) for layer in compared.layers(run)])


def options(run: Run) -> RuleOptions:
    """The same search for every direction."""
    return RuleOptions(shuffles=10 if run.profile == "quick" else 20)


def group_means(layers: Sequence[Layer], seed: int) -> Means:
    """Means over directions, then over layers; all layers share their windows."""
    generator = torch.Generator().manual_seed(seed)
    windows = bootstrap_weights(next(iter(layers[0].groups.values())).hits.shape[1], RESAMPLES, generator)
    values, replicates = {}, {}
    for name in layers[0].groups:
        parts = [row.groups[name] for row in layers]
        drawn = [
            (part.resampled(windows) * bootstrap_weights(len(part), RESAMPLES, generator)).sum(1) for part in parts
        ]
        values[name] = _mean(_mean(e.accuracy.value for e in part.each) for part in parts)
        replicates[name] = torch.stack(drawn).mean(0)
    return Means(values=values, replicates=replicates)


def preflight(run: Run) -> None:
    """As :func:`pythia.subject.preflight` does for every claim, with the prediction of PY-5."""
    subject.preflight(run, {PREDICTION: SIDE})


def judge_all(
    intervals: Mapping[str, Interval], prediction: Prediction | Mapping[str, Prediction]
) -> tuple[Status, str]:
    """SUPPORTED if all lie inside the prediction, or each in its own; REFUTED if one lies outside, named; else
    INCONCLUSIVE.

    ``intervals`` are expected to hold all together (Bonferroni).
    """
    own = dict.fromkeys(intervals, prediction) if isinstance(prediction, Prediction) else prediction
    outcomes = {name: own[name].judge(interval) for name, interval in intervals.items()}
    for name, outcome in outcomes.items():
        if outcome == "outside":
            return Status.REFUTED, name
    return (Status.SUPPORTED if set(outcomes.values()) == {"inside"} else Status.INCONCLUSIVE), ""


def judge_differences(
    means: Means,
    group: str,
    predicted: Mapping[str, tuple[Prediction, str]],
    evidence: Mapping[str, object],
    exhibits: tuple[Exhibit, ...],
) -> Finding:
    """``group`` less each of the others, against the prediction (and its origin) given for each; corrected for being
    several."""
    together = {name: means.difference(group, name, LEVEL / len(predicted)) for name in predicted}
    status, worst = judge_all(together, {name: one for name, (one, _) in predicted.items()})
    differences = {
        f"{group}_minus_{name}": {
            **means.difference(group, name).to_json(),
            "low_corrected": together[name].low, "high_corrected": together[name].high,
        }
        for name in predicted
    }  # fmt: skip
    witness = {
        "accuracy": means.interval(group).to_json(), f"accuracy_{worst}": means.interval(worst).to_json(),
        f"{group}_minus_{worst}": together[worst].to_json(),
    } if status is Status.REFUTED else None  # fmt: skip
    correction = f"Bonferroni over {len(predicted)} comparisons"
    return Finding(
        status=status,
        evidence={
            JUDGED: [
                judged(one, together[name], of=f"{group} minus {name}, {correction}", origin=where)
                for name, (one, where) in predicted.items()
            ],
            **differences,
            "correction": correction,
            **evidence,
        },
        witness=witness,
        exhibits=exhibits,
    )


def explain(run: Run, layer: int, rho: Tensor, chosen: RuleOptions | None = None) -> Explanations:
    """Rules for presences ``rho [S, N, T]`` on the held-out windows, with the run's options if none are ``chosen``."""
    readout = held_out(run, layer)
    return explain_all(
        subject.model(run),
        readout.windows,
        rho,
        first_position=readout.first_position,
        counted=readout.counted_inside,
        options=chosen or options(run),
        seed=run.seed,
    )


def held_out(run: Run, layer: int) -> LanguageModelReadout:
    """The windows that no search and no training of an autoencoder has seen."""
    return compared.language_readouts(compared.site(run, layer))[1]


def explanations(layers: Sequence[Layer], group: str) -> list[Explanation]:
    """Of one group, at all layers."""
    return [explanation for row in layers for explanation in row.groups[group].each]


def rows_of(means: Means) -> list[IntervalRow]:
    """Every group's mean with its interval, to be drawn."""
    return [IntervalRow(name=name, **means.interval(name).to_json()) for name in means.values]


def told_apart(means: Means, group: str, others: Sequence[str]) -> str:
    """A sentence on the differences between ``group`` and each of ``others``, with single 95 % intervals."""
    differences = {name: means.difference(group, name) for name in others}
    told = [f"{name} {one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]" for name, one in differences.items()]
    return f"“{group}” less each of the others: {', '.join(told)} (95 % intervals of the difference, each by itself)."


def rules_table(layers: Sequence[Layer], groups: Collection[str], title: str) -> Table:
    """The rules of the directions that are told best, :data:`SHOWN` of each group and layer."""
    shuffles = max(len(e.null) for row in layers for name in groups for e in row.groups[name].each)
    return Table(
        title=title,
        caption=f"Of each group the {SHOWN} directions that are told best; accuracy with its 95 % interval. Bits are "
        f"the rule's length. p is against the same search on shuffled labels, {shuffles} times for each direction, so "
        f"that none is below 1/{1 + shuffles} = {1 / (1 + shuffles):.2g}.",
        columns=["group", "layer", "rule", "accuracy", "shuffled", "p", "bits"],
        rows=[
            [name, row.layer, e.rule.words, e.accuracy, e.null_mean, float(f"{e.p_value:.2g}"), round(e.rule.bits)]
            for row in layers
            for name in groups
            for e in sorted(row.groups[name].each, key=lambda e: -e.accuracy.value)[:SHOWN]
        ],
    )


def _judge(
    run: Run,
    means: Means,
    group: str,
    others: Sequence[str],
    evidence: Mapping[str, object],
    exhibits: tuple[Exhibit, ...],
) -> Finding:
    order = subject.prediction(run, PREDICTION, SIDE)
    predicted = {name: (ORDER, "stated by the theory") if name == SAE else order for name in others}
    return judge_differences(means, group, predicted, evidence, exhibits)


def _measure(run: Run, layer: int) -> Layer:
    groups, other_end = {}, {}
    for name, directions in _directions(run, layer).items():
        rho = presences(held_out(run, layer), directions)
        groups[name] = explain(run, layer, rho)
        bare = dataclasses.replace(options(run), shuffles=0)
        other_end[name] = _mean(e.accuracy.value for e in explain(run, layer, -rho, bare).each)
    return Layer(layer=layer, groups=groups, other_end=other_end)


def _directions(run: Run, layer: int) -> Mapping[str, Tensor]:
    """The groups compared, with the found directions of as many searches as give enough of them."""

    def make() -> Mapping[str, Tensor]:
        groups = compared.directions(run, layer)
        found = [groups[FOUND]]
        for more in MORE_SEEDS:
            if sum(map(len, found)) < ENOUGH:
                found.append(compared.search_at(run, compared.site(run, layer), seed=run.seed + more).to(found[0]))
        return {**groups, FOUND: torch.cat(found)}

    return run.shared(f"pythia.explained directions {layer}", make)


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def _exhibits(layers: Sequence[Layer], means: Means) -> tuple[Exhibit, ...]:
    return (
        Intervals(
            title="How well a rule tells where a direction is present",
            caption="Balanced accuracy on held-out windows, mean over directions (and layers), with 95 % intervals, "
            f"windows and directions resampled. The line is chance. {told_apart(means, FOUND, COMPARED_WITH)}",
            x_label="held-out detection accuracy",
            rows=rows_of(means),
            reference=0.5,
        ),
        Histogram(
            title="Detection accuracy of single directions",
            caption="Each count is one direction's best rule on held-out windows; shuffled labels are the same search "
            "with the found directions' strong positions rotated through the text.",
            x_label="held-out detection accuracy",
            groups={
                **{name: [e.accuracy.value for e in explanations(layers, name)] for name in (FOUND, *COMPARED_WITH)},
                "shuffled labels": [value for e in explanations(layers, FOUND) for value in e.null],
            },
        ),
        rules_table(layers, tuple(means.values), "Rules"),
        Table(
            title="Published figures",
            caption="Not measured here: Stambler 2025, pythia-70m-deduped, 100 directions, explanations written and "
            "scored by a language model. Accuracies of another procedure; only their order is comparable.",
            columns=["layer", *(f"{name} (published)" for name in PUBLISHED)],
            rows=[
                [layer, *(f"{accuracy:.3f}" for accuracy in row)]
                for layer, row in enumerate(zip(*PUBLISHED.values(), strict=True))
            ],
        ),
    )
