"""TM-8.sae: directions of sparse autoencoders on toys where the truth is known. PY-3 rests on it; PY-4.sae on how much
more sensitive found directions are, which is measured beside it.

A TopK autoencoder is trained on the activations of each model of TM-1 and of each planted transformer (TM-8: residual
stream after block 0, effect one token later). It is told the true number of features and how many are active on
average, which favours it: where it falls short of what a search finds, it is not for want of being told. Latents that
never fire on its training data have no direction that means anything and are dropped. On either kind of toy, all
groups of directions are scored on the same contexts with the same presences, which no search and no training has seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sensverify.autoencoders import AutoencoderOptions, TopK, train_autoencoder
from sensverify.claims import Progress, Run
from sensverify.exhibits import Exhibit, IntervalRow, Intervals
from sensverify.geometry import random_directions
from sensverify.sensitivity import estimate_groups
from sensverify.statistics import Interval, group_ratio
from sensverify.verdicts import Finding, Status
from toy_models import planted, trained
from toy_models.judging import at_least
from toy_models.searching import search_seed
from toy_models.store import store_of

ACTIVATIONS, STEPS, BATCH, LEARNING_RATE = 4096, 300, 128, 1e-2
"""Set on one model of TM-1 so that most latents end at a feature (cosine 0.9), whatever their SeS."""
CONTEXTS = 256
REQUIRED_RATIO = 1.5
_COMPARED: Mapping[str, Callable[[Ratios], Interval]] = {
    "autoencoder over random": lambda row: row.sae_to_random,
    "found over autoencoder": lambda row: row.found_to_sae,
}


@dataclasses.dataclass(frozen=True)
class Ratios:
    """On one model, ratios of mean SeS with 95 % intervals; directions and contexts are resampled."""

    toy: str
    seed: int
    sae_to_random: Interval
    found_to_sae: Interval
    random_to_random: Interval


def ratios(run: Run) -> list[Ratios]:
    """One entry per model of TM-1, then one per planted transformer; computed once per run."""
    return run.shared("toy_models.sae_sensitivity", lambda: [*_superposition(run), *_transformers(run)])


def check_directions_of_autoencoders(run: Run) -> Finding:
    """TM-8.sae."""
    rows = ratios(run)
    beside = {f"{row.toy}, seed {row.seed}": row.found_to_sae.to_json() for row in rows}
    return _judge(rows, lambda row: row.sae_to_random, {"found_to_sae": beside}, (_exhibit(rows),))


def check_random_directions(run: Run) -> Finding:
    """False twin: other random directions in the place of an autoencoder's."""
    return _judge(ratios(run), lambda row: row.random_to_random)


def _judge(
    rows: Sequence[Ratios],
    of: Callable[[Ratios], Interval],
    beside: Mapping[str, Any] | None = None,
    exhibits: tuple[Exhibit, ...] = (),
) -> Finding:
    """Every model by itself: SUPPORTED if the whole interval of each is high enough, REFUTED by one wholly below."""
    status = at_least(map(of, rows), REQUIRED_RATIO)
    lowest = min(rows, key=lambda row: of(row).high)
    return Finding(
        status=status,
        evidence={
            "ratio_to_random": {f"{row.toy}, seed {row.seed}": of(row).to_json() for row in rows},
            "required": REQUIRED_RATIO,
            "seeds": sorted({row.seed for row in rows}),
            **(beside or {}),
        },
        witness={"toy": lowest.toy, "seed": lowest.seed, "ratio": of(lowest).to_json()}
        if status is Status.REFUTED
        else None,
        exhibits=exhibits,
    )


def _exhibit(rows: Sequence[Ratios]) -> Intervals:
    return Intervals(
        title="Directions of autoencoders: how sensitive",
        caption="Ratios of mean SeS with 95 % intervals, on the models of TM-1 and the planted transformers of TM-8. "
        "Look whether autoencoder over random lies right of the line, and where found over autoencoder lies near 1: "
        "there the autoencoder, which has never seen an effect, found what is sensitive.",
        x_label="ratio of mean SeS",
        rows=tuple(
            IntervalRow(name=f"{name}, {row.toy}, seed {row.seed}", **of(row).to_json())
            for name, of in _COMPARED.items()
            for row in rows
        ),
        reference=REQUIRED_RATIO,
    )


def living_directions(x: Tensor, *, latents: int, active: int, seed: int, progress: Progress) -> Tensor:
    """Decoder rows ``[K', d]`` of the latents that fire on the activations ``x [N, d]`` they were trained on."""
    options = AutoencoderOptions(
        latents=latents,
        sparsity=TopK(active=active),
        steps=STEPS,
        batch=BATCH,
        learning_rate=LEARNING_RATE,
        seed=seed,
    )
    autoencoder = train_autoencoder(x, options, progress)
    fires = (autoencoder.encode(x) > 0).any(0)
    return autoencoder.directions[fires]


def _kept(run: Run, model: Mapping[str, Any], x: Tensor, **options: int) -> Tensor:
    key = {"model": dict(model), "options": options, "training": [ACTIVATIONS, STEPS, BATCH, LEARNING_RATE]}

    def make() -> dict[str, Tensor]:
        return {"directions": living_directions(x, progress=run.progress, **options)}

    return store_of(run).keep("sae-directions", key, make)["directions"]


def _superposition(run: Run) -> list[Ratios]:
    rows = []
    for one, state in zip(trained.trained_models(run), trained.found_directions(run), strict=True):
        config, readout = one.model.config, one.readout
        x = readout.sample(
            ACTIVATIONS, torch.Generator().manual_seed(search_seed("activations of an autoencoder", one.seed))
        ).x
        sae = _kept(
            run,
            {"config": config.to_json(), "seed": one.seed},
            x,
            latents=config.features,
            active=max(1, round(config.features * config.density)),
            seed=search_seed("autoencoder", one.seed),
        )
        generator = torch.Generator().manual_seed(search_seed("beside an autoencoder", one.seed))
        groups = {
            "sae": sae[torch.randperm(len(sae), generator=generator)[: trained.DIRECTIONS]],
            "found": state.directions,
            "random": random_directions(trained.DIRECTIONS, readout.width, readout.centring, generator),
            "random again": random_directions(trained.DIRECTIONS, readout.width, readout.centring, generator),
        }
        batch = readout.sample(CONTEXTS, generator)
        estimates = estimate_groups(readout, batch, groups, generator=generator, draws=2)
        effects = {name: estimate.effects for name, estimate in estimates.items()}

        def ratio(top: str, bottom: str, seed: int = one.seed, effects: dict[str, Tensor] = effects) -> Interval:
            return group_ratio(effects[top], effects[bottom], torch.Generator().manual_seed(seed))

        pairs = (("sae", "random"), ("found", "sae"), ("random again", "random"))
        rows.append(Ratios("TM-1", one.seed, *(ratio(*pair) for pair in pairs)))
    return rows


def _transformers(run: Run) -> list[Ratios]:
    rows = []
    for subject, found in zip(planted.subjects(run), planted.found_directions(run, "plain"), strict=True):
        config, readout = subject.planted.config, subject.readout(20)
        x = readout.centring.project(readout.sample(ACTIVATIONS, subject.generator(21)).x)
        sae = _kept(
            run,
            subject.planted.describe(),
            x,
            latents=config.features,
            active=(1 + config.most_active) // 2,
            seed=subject.generator(22).initial_seed(),
        )
        groups = {
            "sae": sae,
            "found": found,
            "random": planted.directions_of(subject, "random", config.features, subject.generator(4)),
            "random again": planted.directions_of(subject, "random", config.features, subject.generator(23)),
        }
        scores = planted.score(subject.readout(1), subject, groups)
        pairs = (("sae", "random"), ("found", "sae"), ("random again", "random"))
        rows.append(Ratios("TM-8", subject.seed, *(scores.ratio(*pair) for pair in pairs)))
    return rows
