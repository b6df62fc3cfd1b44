"""PY-9: do a direction's logit weights, its ablation and pinned sampling tell the same story? ([TM]'s causal reading.)

What the readings are and when two of them agree is in :mod:`pythia.causal_readings`. Here they are taken of the found
directions, and of decoder directions of an autoencoder and random ones as controls: that readings agree shows that they
read the same thing, not that the direction is a feature. As far as a direction does what the direct path writes for it,
the readings of any direction agree, and the evidence says by how much those of found directions agree more or less.
"""

from __future__ import annotations

import dataclasses
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
)
from pythia.logit_weights import seen_tokens
from pythia.next_token import NextTokenReadout
from pythia.subject import corpus, model
from sensverify.claims import Run
from sensverify.exhibits import Exhibit, Heatmap, IntervalRow, Intervals, Table
from sensverify.multiplicity import holm
from sensverify.predictions import JUDGED, Prediction, judged
from sensverify.statistics import Interval, seed_mean
from sensverify.verdicts import Finding, Status

JUDGED_READINGS = (WEIGHTS, ABLATION, PINNED)
PAIRS = tuple(itertools.combinations(JUDGED_READINGS, 2))
GROUPS = (compared.FOUND, compared.SAE, compared.RANDOM)
LEVEL = 0.05

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
                name: readings(loaded, readout, directions[name][:most], tokens, seed=run.seed) for name in GROUPS
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
    """One pair of readings at one layer: agreement, its interval over directions, the chance of it by permutation."""

    layer: int
    pair: tuple[str, str]
    agreement: Agreement
    beyond_chance: Interval
    p_value: float

    @property
    def name(self) -> str:
        """As tables and evidence have it."""
        return f"{self.pair[0]} and {self.pair[1]}, layer {self.layer}"


def compare(row: Measured, group: str, pairs: Sequence[tuple[str, str]], *, seed: int) -> list[Compared]:
    """All ``pairs`` of readings of one group."""
    found = []
    for pair in pairs:
        agreement = agree(*(row.groups[group][name] for name in pair))
        found.append(
            Compared(
                layer=row.layer,
                pair=pair,
                agreement=agreement,
                beyond_chance=seed_mean(agreement.beyond_chance, within=(-math.inf, 1)),
                p_value=agreement.p_value(torch.Generator().manual_seed(seed)),
            )
        )
    return found


def judge(rows: Sequence[Measured], *, seed: int) -> Finding:
    """SUPPORTED if every pair's interval lies inside the prediction and its p-value, after Holm, is at most
    :data:`LEVEL`; REFUTED if the interval of one lies wholly outside; else INCONCLUSIVE."""
    results = [one for row in rows for one in compare(row, compared.FOUND, PAIRS, seed=seed)]
    adjusted = holm([one.p_value for one in results])
    outcomes = [PREDICTION.judge(one.beyond_chance) for one in results]
    failed = [one for one, outcome in zip(results, outcomes, strict=True) if outcome == "outside"]
    agreeing = all(outcome == "inside" for outcome in outcomes) and max(adjusted) <= LEVEL
    status = Status.REFUTED if failed else Status.SUPPORTED if agreeing else Status.INCONCLUSIVE
    evidence = {
        JUDGED: [judged(PREDICTION, one.beyond_chance, of=one.name, origin="stated by the theory") for one in results],
        "directions": len(results[0].agreement.table),
        "tokens": rows[0].tokens,
        "contexts": CONTEXTS,
        "presence_pinned": PRESENCE,
        "tokens_written_per_direction": PROMPTS * STEPS,
        "permutations": PERMUTATIONS,
        "largest_logit_change_of_the_null_intervention": max(row.largest_null_change for row in rows),
        "corrected": f"Holm over {len(results)} pairs of readings; intervals are 95 % each (Student, over directions)",
        "pairs": {one.name: _plain(one, p) for one, p in zip(results, adjusted, strict=True)},
        "shuffled_tokens": {one.name: one.beyond_chance.to_json() for row in rows for one in _token_control(row, seed)},
        **_over_random(rows, seed),
        "controls": {
            group: {one.name: _plain(one, None) for row in rows for one in compare(row, group, PAIRS, seed=seed)}
            for group in rows[0].groups
            if group != compared.FOUND
        },
    }
    worst = min(failed, key=lambda one: one.beyond_chance.value) if status is Status.REFUTED else None
    return Finding(
        status=status,
        evidence=evidence,
        witness=None if worst is None else {"pair": worst.name, **_plain(worst, None)},
        exhibits=_exhibits(rows, seed),
    )


def _over_random(rows: Sequence[Measured], seed: int) -> dict[str, object]:
    """By how much found directions agree more than random ones, with 95 % intervals, directions of both resampled."""
    generator = torch.Generator().manual_seed(seed + 53)
    over: dict[str, object] = {}
    for row in rows:
        if compared.RANDOM not in row.groups:
            continue
        groups = (compare(row, group, PAIRS, seed=seed) for group in (compared.FOUND, compared.RANDOM))
        for found, random in zip(*groups, strict=True):
            over[found.name] = difference(
                found.agreement.beyond_chance, random.agreement.beyond_chance, generator
            ).to_json()
    return {"over_random_directions": over} if over else {}


def difference(first: Tensor, second: Tensor, generator: torch.Generator, resamples: int = 2000) -> Interval:
    """Bootstrap interval of ``mean(first) − mean(second)``, two independent samples ``[n]`` and ``[m]``."""
    means = [
        values.double()[torch.randint(len(values), (resamples, len(values)), generator=generator)].mean(1)
        for values in (first, second)
    ]
    low, high = torch.quantile(means[0] - means[1], torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(float(first.double().mean() - second.double().mean()), low, high)


def _token_control(row: Measured, seed: int) -> list[Compared]:
    """The found directions with the tokens of the first reading of each pair shuffled: no agreement can be left."""
    order = torch.randperm(row.tokens, generator=torch.Generator().manual_seed(seed + 47))
    found = row.groups[compared.FOUND]
    shuffled = {f"{name}, tokens shuffled": reading[:, order.to(reading.device)] for name, reading in found.items()}
    mixed = dataclasses.replace(row, groups={compared.FOUND: {**found, **shuffled}})
    pairs = [(f"{first}, tokens shuffled", second) for first, second in PAIRS]
    return compare(mixed, compared.FOUND, pairs, seed=seed)


def _plain(one: Compared, adjusted: float | None) -> dict[str, object]:
    plain: dict[str, object] = {
        "beyond_chance": one.beyond_chance.to_json(),
        "agreement": float(one.agreement.matched.mean()),
        "of_two_directions": float(one.agreement.mispaired.mean()),
        "p_value": one.p_value,
    }
    return plain if adjusted is None else {**plain, "p_value_holm": adjusted}


def _exhibits(rows: Sequence[Measured], seed: int) -> tuple[Exhibit, ...]:
    pairs = (*PAIRS, *((BOOST, other) for other in JUDGED_READINGS))
    all_of_them = [(name, one) for row in rows for name in row.groups for one in compare(row, name, pairs, seed=seed)]
    table = Table(
        title="Agreement of causal readings",
        caption="Mean over directions of the rank correlation over tokens; of two directions: the same between a "
        f"reading of one and a reading of another. Boost, from presence 0 to {PRESENCE:g}, is shown beside and not "
        "judged. SAE and random directions are controls: as far as a direction does what the direct path writes for "
        "it, readings of any direction agree, feature or not.",
        columns=["directions", "readings", "agreement", "of two directions", "beyond chance", "p"],
        rows=[
            [name, one.name, float(one.agreement.matched.mean()), float(one.agreement.mispaired.mean()),
             one.beyond_chance.to_json(), one.p_value]
            for name, one in all_of_them
        ],
    )  # fmt: skip
    intervals = Intervals(
        title="Agreement beyond what all directions share",
        caption="The share of the way from the agreement of two directions to full agreement, mean over directions, "
        "with Student's 95 % interval; 0 is chance.",
        x_label="agreement beyond chance",
        rows=[
            IntervalRow(
                name=f"{name}: {one.name}",
                value=one.beyond_chance.value,
                low=one.beyond_chance.low,
                high=one.beyond_chance.high,
            )
            for name, one in all_of_them
            if one.pair in PAIRS and one.layer == rows[0].layer
        ],
        reference=0.0,
    )
    first = compare(rows[0], compared.FOUND, [PAIRS[1]], seed=seed)[0]
    heatmap = Heatmap(
        title="Whose readings agree",
        caption=f"Rank correlation over tokens of one found direction's {first.pair[0]} (row) with another's "
        f"{first.pair[1]} (column), layer {first.layer}. Agreement of a direction with itself lies on the diagonal.",
        x_label=first.pair[1],
        y_label=first.pair[0],
        values=first.agreement.table.tolist(),
        value_label="rank correlation",
    )
    return (intervals, table, heatmap)
