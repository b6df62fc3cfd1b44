"""PY-9: do a direction's logit weights, its ablation and pinned sampling tell the same story? ([TM]'s causal reading.)

What the readings are and when two of them agree is in :mod:`pythia.causal_readings`. Here they are taken of the found
directions, and of decoder directions of an autoencoder and random ones as controls: that readings agree shows that they
read the same thing, not that the direction is a feature. As far as a direction does what the direct path writes for it,
the readings of any direction agree, and the evidence says by how much those of found directions agree more or less.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pythia import compared, subject
from pythia.causal_readings import (
    ABLATION,
    BOOST,
    CONTEXTS,
    PERMUTATIONS,
    PINNED,
    PRESENCE,
    PROMPTS,
    STEPS,
    WEIGHTS,
    Agreement,
    agree,
    largest_null_change,
    readings,
    resampled_tokens,
)
from pythia.logit_weights import seen_tokens
from pythia.next_token import NextTokenReadout
from pythia.subject import corpus, model
from sensverify.claims import Run
from sensverify.exhibits import Exhibit, Heatmap, IntervalRow, Intervals, Table
from sensverify.multiplicity import holm
from sensverify.predictions import JUDGED, Prediction, judged
from sensverify.statistics import Interval, bootstrap_weights, percentile_interval
from sensverify.verdicts import Finding, Status

JUDGED_READINGS = (WEIGHTS, ABLATION, PINNED)
PAIRS = tuple(itertools.combinations(JUDGED_READINGS, 2))
GROUPS = (compared.FOUND, compared.SAE, compared.RANDOM)
SHOWN = (*PAIRS, *((BOOST, other) for other in JUDGED_READINGS))
LEVEL, TAIL = 0.05, 0.025
RESAMPLES = 2000
BEYOND_EITHER_END = 5
"""At least so many resamples lie beyond either end of an interval."""
SINGLE = ", single 95 % interval; refuted only by those that hold together"

PREDICTION = Prediction(
    id="PY-9",
    quantity="agreement beyond chance of two readings of one direction: how much of the way from the rank correlation "
    "of two directions' readings to 1 there is in that of one direction's; mean over directions",
    low=0.1,
    high=None,
    derived_from="THEORY PY-9 (agreement above chance, which is 0), with a tenth of what there is room for as the "
    "least worth the name: less is a small correlation (Cohen 1988) and a slight κ (Landis and Koch 1977). No toy has "
    "anything to say: what a planted transformer reads, it writes anew at right angles before it is unembedded, so "
    "that logit weights by the direct path are 0 there",
)
"""Stated by the theory; no toy model derives one."""


def preflight(run: Run) -> None:
    """As :func:`pythia.subject.preflight` does for every claim."""
    subject.preflight(run)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """The readings of every group of directions after one block."""

    layer: int
    groups: Mapping[str, Mapping[str, Tensor]]
    tokens: int
    largest_null_change: float


def measured(run: Run) -> list[Measured]:
    """The readings of found, SAE and random directions at the layers of the profile, once per run."""

    def make() -> list[Measured]:
        loaded, text = model(run), corpus(run)
        tokens = seen_tokens(text)
        most = 16 if run.profile == "quick" else 64
        rows = []
        for done, layer in enumerate(layers := compared.layers(run)):
            run.progress("causal readings", done, len(layers))
            readout = NextTokenReadout(
                loaded, text.held_out, layer=layer, offset=0, first_position=text.first_position,
                allowed=text.allowed("held_out"),
            )  # fmt: skip
            directions = compared.directions(run, layer)
            groups = {
                name: readings(loaded, readout, directions[name][:most], tokens, seed=run.seed)
                for name in GROUPS
                if name == compared.FOUND or len(directions[name]) > 1  # one has no other to be mistaken for
            }
            null = largest_null_change(readout, directions[compared.FOUND][:most], tokens, seed=run.seed)
            rows.append(Measured(layer=layer, groups=groups, tokens=len(tokens), largest_null_change=null))
        run.progress("causal readings", len(layers), len(layers))
        return rows

    return run.shared("pythia.causal", make)


def check_agreement(run: Run) -> Finding:
    """PY-9 on the found directions."""
    return judge(measured(run), seed=run.seed)


def check_reversed(run: Run) -> Finding:
    """False twin: the effect of ablation the other way round, as if taking a direction away raised what it writes."""
    rows = []
    for row in measured(run):
        found = row.groups[compared.FOUND]
        rows.append(dataclasses.replace(row, groups={compared.FOUND: {**found, ABLATION: -found[ABLATION]}}))
    return judge(rows, seed=run.seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """One pair of readings of one group at one layer, with agreement beyond chance in resamples of tokens, ``[R, S]``.

    Resample ``r`` is of the same tokens in all groups and pairs of a layer.
    """

    layer: int
    pair: tuple[str, str]
    agreement: Agreement
    resampled: Tensor
    seed: int

    @property
    def name(self) -> str:
        """As tables and evidence have it."""
        return f"{self.pair[0]} and {self.pair[1]}, layer {self.layer}"

    @property
    def value(self) -> float:
        """Agreement beyond chance, mean over directions."""
        return float(self.agreement.beyond_chance.mean())

    @functools.cached_property
    def beyond_chance(self) -> Interval:
        """With the 95 % interval of this pair alone."""
        return self.interval(TAIL)

    def interval(self, tail: float) -> Interval:
        """Bootstrap over tokens and directions, ``tail`` left out at either end."""
        return percentile_interval(self.value, self.means(torch.Generator().manual_seed(self.seed + 59)), tail)

    def means(self, generator: torch.Generator) -> Tensor:
        """``[R]``: the mean over directions, these resampled too."""
        resamples, directions = self.resampled.shape
        return (bootstrap_weights(directions, resamples, generator) * self.resampled).sum(1)

    def p_value(self, permutations: int = PERMUTATIONS) -> float:
        """By permutations of tokens and of directions (:meth:`pythia.causal_readings.Agreement.p_value`)."""
        return self.agreement.p_value(torch.Generator().manual_seed(self.seed), permutations)


def compare(
    row: Measured, group: str, pairs: Sequence[tuple[str, str]], *, seed: int, resamples: int = RESAMPLES
) -> list[Compared]:
    """All ``pairs`` of readings of one group."""
    agreements = [agree(*(row.groups[group][name] for name in pair)) for pair in pairs]
    generator = torch.Generator().manual_seed(seed + 53)
    drawn = [
        [agreement.resampled(weights) for agreement in agreements]
        for weights in resampled_tokens(row.tokens, resamples, generator)
    ]
    return [
        Compared(layer=row.layer, pair=pair, agreement=agreement, resampled=torch.cat(parts), seed=seed)
        for pair, agreement, parts in zip(pairs, agreements, zip(*drawn, strict=True), strict=True)
    ]


ByGroup = Mapping[str, Sequence[Compared]]


def judge(rows: Sequence[Measured], *, seed: int) -> Finding:
    """SUPPORTED if every pair's interval lies inside the prediction and its p-value, after Holm, is at most
    :data:`LEVEL`; REFUTED if the interval of one lies wholly outside, all intervals holding together (Bonferroni); else
    INCONCLUSIVE."""
    count = len(rows) * len(PAIRS)
    tail = TAIL / count
    resamples = max(RESAMPLES, math.ceil(BEYOND_EITHER_END / tail))
    permutations = max(PERMUTATIONS, math.ceil(2 * count / LEVEL))
    groups: ByGroup = {
        group: [
            one
            for row in rows
            if group in row.groups
            for one in compare(row, group, SHOWN, seed=seed, resamples=resamples)
        ]
        for group in dict.fromkeys(name for row in rows for name in row.groups)
    }
    results = _of(groups[compared.FOUND], PAIRS)
    p_values = [one.p_value(permutations) for one in results]
    adjusted = holm(p_values)
    together = [one.interval(tail) for one in results]
    failed = [one for one, interval in zip(results, together, strict=True) if PREDICTION.judge(interval) == "outside"]
    inside = all(PREDICTION.judge(one.beyond_chance) == "inside" for one in results)
    agreeing = inside and max(adjusted) <= LEVEL
    status = Status.REFUTED if failed else Status.SUPPORTED if agreeing else Status.INCONCLUSIVE
    over_random = _over_random(groups, seed)
    pairs = {
        one.name: {**_plain(one), "beyond_chance_all_together": interval.to_json(), "p_value": p, "p_value_holm": holms}
        for one, interval, p, holms in zip(results, together, p_values, adjusted, strict=True)
    }
    evidence = {
        JUDGED: [
            judged(PREDICTION, one.beyond_chance, of=f"{one.name}{SINGLE}", origin="stated by the theory")
            for one in results
        ],
        "directions": len(results[0].agreement.table),
        "tokens": rows[0].tokens,
        "contexts": CONTEXTS,
        "presence_pinned": PRESENCE,
        "tokens_written_per_direction": PROMPTS * STEPS,
        "permutations": permutations,
        "resamples": resamples,
        "largest_logit_change_of_the_null_intervention": max(row.largest_null_change for row in rows),
        "corrected": f"Holm over {count} pairs of readings; intervals are 95 % each, by bootstrap over tokens and "
        f"directions; refuted by those that hold together (Bonferroni: 2.5 %/{count} left out at either end)",
        "pairs": pairs,
        "shuffled_tokens": {one.name: one.beyond_chance.to_json() for row in rows for one in _token_control(row, seed)},
        **(
            {"over_random_directions": {name: one.to_json() for name, one in over_random.items()}}
            if over_random
            else {}
        ),
        "controls_left_out_for_want_of_a_second_direction": [
            f"{group}, layer {row.layer}" for row in rows for group in GROUPS if group not in row.groups
        ],
        "controls": {
            group: {one.name: _plain(one) for one in _of(found, PAIRS)}
            for group, found in groups.items()
            if group != compared.FOUND
        },
    }
    worst = min(failed, key=lambda one: one.value) if failed else None
    return Finding(
        status=status,
        evidence=evidence,
        witness=None if worst is None else {"pair": worst.name, **pairs[worst.name]},
        exhibits=_exhibits(
            groups, dict(zip((one.name for one in results), p_values, strict=True)), permutations, over_random
        ),
    )


def _of(found: Sequence[Compared], pairs: Sequence[tuple[str, str]]) -> list[Compared]:
    return [one for one in found if one.pair in pairs]


def _over_random(groups: ByGroup, seed: int) -> dict[str, Interval]:
    """By how much found directions agree more than random ones, with 95 % intervals."""
    if compared.RANDOM not in groups:
        return {}
    generator = torch.Generator().manual_seed(seed + 61)
    both = zip(*(_of(groups[name], PAIRS) for name in (compared.FOUND, compared.RANDOM)), strict=True)
    return {found.name: difference(found, random, generator) for found, random in both}


def difference(first: Compared, second: Compared, generator: torch.Generator) -> Interval:
    """``first`` less ``second``: tokens are resampled for both at once, directions of each by themselves."""
    return percentile_interval(first.value - second.value, first.means(generator) - second.means(generator), TAIL)


def _token_control(row: Measured, seed: int) -> list[Compared]:
    """The found directions with the tokens of the first reading of each pair shuffled: no agreement can be left."""
    order = torch.randperm(row.tokens, generator=torch.Generator().manual_seed(seed + 47))
    found = row.groups[compared.FOUND]
    shuffled = {f"{name}, tokens shuffled": reading[:, order.to(reading.device)] for name, reading in found.items()}
    mixed = dataclasses.replace(row, groups={compared.FOUND: {**found, **shuffled}})
    pairs = [(f"{first}, tokens shuffled", second) for first, second in PAIRS]
    return compare(mixed, compared.FOUND, pairs, seed=seed)


def _plain(one: Compared) -> dict[str, object]:
    return {
        "beyond_chance": one.beyond_chance.to_json(),
        "agreement": float(one.agreement.matched.mean()),
        "of_two_directions": float(one.agreement.mispaired.mean()),
    }


def against_random(over_random: Mapping[str, Interval]) -> str:
    """A sentence on how found directions fare against random ones, from the intervals of their differences."""
    if not over_random:
        return ""
    more = sum(one.low > 0 for one in over_random.values())
    less = sum(one.high < 0 for one in over_random.values())
    smallest, largest = (pick(one.value for one in over_random.values()) for pick in (min, max))
    told = (
        f" Beyond chance, found directions agree more than random ones in {more} of {len(over_random)} judged rows and "
        f"less in {less}, by 95 % intervals of the difference, each by itself; the differences are {smallest:+.2f} to "
        f"{largest:+.2f}."
    )
    if more < len(over_random):
        told += " Where they do not agree more, the agreement is what any direction shows."
    return told


def _exhibits(
    groups: ByGroup, p_values: Mapping[str, float], permutations: int, over_random: Mapping[str, Interval]
) -> tuple[Exhibit, ...]:
    all_of_them = [(name, one) for name, found in groups.items() for one in found]
    table = Table(
        title="Agreement of causal readings",
        caption="Mean over directions of the rank correlation over tokens; of two directions: the same between a "
        f"reading of one and a reading of another. Boost, from presence 0 to {PRESENCE:g}, is shown beside and not "
        "judged. SAE and random directions are controls: as far as a direction does what the direct path writes for "
        f"it, readings of any direction agree, feature or not.{against_random(over_random)} p: of what is judged, "
        f"before Holm's correction, by {permutations} permutations, so that none is below "
        f"{1 / (1 + permutations):.1g}.",
        columns=["directions", "readings", "agreement", "of two directions", "beyond chance", "p"],
        rows=[
            [name, one.name, float(one.agreement.matched.mean()), float(one.agreement.mispaired.mean()),
             one.beyond_chance.to_json(), p_values.get(one.name, "") if name == compared.FOUND else ""]
            for name, one in all_of_them
        ],
    )  # fmt: skip
    first_layer = groups[compared.FOUND][0].layer
    of_first = [one.name for one in groups[compared.FOUND] if one.layer == first_layer]
    intervals = Intervals(
        title=f"Agreement beyond what all directions share, layer {first_layer}",
        caption="The share of the way from the agreement of two directions to full agreement, mean over directions, "
        "with 95 % intervals of each by itself (tokens and directions resampled); 0 is chance."
        f"{against_random({name: over_random[name] for name in of_first if name in over_random})}",
        x_label="agreement beyond chance",
        rows=[
            IntervalRow(
                name=f"{name}: {one.name}",
                value=one.beyond_chance.value,
                low=one.beyond_chance.low,
                high=one.beyond_chance.high,
            )
            for name, one in all_of_them
            if one.pair in PAIRS and one.layer == first_layer
        ],
        reference=0.0,
    )
    first = _of(groups[compared.FOUND], [PAIRS[1]])[0]
    labels = [str(index) for index in range(len(first.agreement.table))]
    heatmap = Heatmap(
        title=f"Whose readings agree, layer {first.layer}",
        caption=f"Rank correlation over tokens of one found direction's {first.pair[0]} (row) with another's "
        f"{first.pair[1]} (column); 0 is no correlation. Agreement of a direction with itself lies on the diagonal.",
        x_label=f"direction, by its {first.pair[1]}",
        y_label=f"direction, by its {first.pair[0]}",
        rows=labels,
        columns=labels,
        values=first.agreement.table.tolist(),
        value_label="rank correlation",
    )
    return (intervals, table, heatmap)
