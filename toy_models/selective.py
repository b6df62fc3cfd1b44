"""TM-9: features found by large effects on few units, at every density.

Three searches side by side, with the same ``2n`` directions, steps and contexts: *peak* (peak sensitivity against the
absent reference), *selective* (concentration of the effect, as SE-5 has it) and *plain* (as published); and a TopK
autoencoder that is told how many features are active on average, which no search is told. None has a sparsity term.

Recovery is of the features that the model represents, by optimal matching at cosine 0.9. A random direction meets none.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from torch import Tensor

from sensverify import selectivity, sensitivity
from sensverify.claims import Run
from sensverify.exhibits import Curve, Exhibit, Histogram, Table
from sensverify.geometry import random_directions
from sensverify.sensitivity import Probe
from sensverify.statistics import Interval, group_ratio, mean_interval
from sensverify.verdicts import Finding, Status
from toy_models.autoencoders import TopK
from toy_models.methods import SparseAutoencoder, draw_subject
from toy_models.recovery import Matching, match
from toy_models.searching import PEAK, PLAIN, SELECTIVE, fingerprint, in_budget, searched, shares, twice
from toy_models.store import store_of
from toy_models.superposition import SuperpositionConfig, SuperpositionModel, SuperpositionReadout
from toy_models.trained import models, seeds

SIZE = SuperpositionConfig(features=128, width=64, batch=256)
QUICK_SIZE = SuperpositionConfig(features=64, width=32, batch=256)
LOADED = SuperpositionConfig(features=512, width=64, density=0.05)
REQUIRED_SHARE, REQUIRED_LOADED = 0.95, 0.8
CONTEXTS = 4096
"""What the autoencoder is trained on; the searches draw theirs afresh."""

SEARCHES = {"peak": PEAK, "selective": SELECTIVE, "plain": PLAIN}
AUTOENCODER = "TopK autoencoder told k"
METHODS = (*SEARCHES, AUTOENCODER)


def densities(run: Run) -> tuple[float, ...]:
    """The ends of the range in the quick profile."""
    return (0.05, 0.4) if run.profile == "quick" else (0.05, 0.1, 0.2, 0.4)


def subjects(run: Run, density: float) -> list[SuperpositionModel]:
    """Three models."""
    return models(run, dataclasses.replace(_size(run), density=density), seeds(run)[:3])


def _size(run: Run) -> SuperpositionConfig:
    return QUICK_SIZE if run.profile == "quick" else SIZE


def check_selective(run: Run) -> Finding:
    """TM-9."""
    table = {density: {name: _matchings(run, density, name) for name in METHODS} for density in densities(run)}
    scores = {density: _ratios(run, density) for density in densities(run)}
    evidence: dict[str, Any] = {
        f"p = {density}": {
            **{
                name: {
                    "recovered_share": _mean(run, shares(group)).to_json(),
                    "of_all_features": _mean(run, _of_all(run, density, group)).to_json(),
                    "share_of_directions_at_a_feature": _mean(run, _precise(group)).to_json(),
                    "per_seed": [matching.to_json() for matching in group],
                }
                for name, group in table[density].items()
            },
            "feature_to_random": {name: ratio.to_json() for name, ratio in scores[density].items()},
            "represented": [int(model.represented.sum()) for model in subjects(run, density)],
        }
        for density in densities(run)
    }
    first = subjects(run, densities(run)[0])[0]
    evidence["searches_of_the_first_model"] = {
        name: twice(first, in_budget(run, first, options)).to_json() for name, options in SEARCHES.items()
    }
    return _judge(
        run, {density: row["peak"] for density, row in table.items()}, evidence, _exhibits(run, table, scores)
    )


def check_plain(run: Run) -> Finding:
    """False twin: plain sensitivity finds them at every density."""
    return _judge(run, {density: _matchings(run, density, "plain") for density in densities(run)}, {}, ())


def check_random(run: Run) -> Finding:
    """False twin: as many random directions."""
    return _judge(run, {density: _matchings(run, density, "random") for density in densities(run)}, {}, ())


def check_another_model(run: Run) -> Finding:
    """False twin: what is found on one model are the features of the next."""
    moved = {}
    for density in densities(run):
        found = [_directions(run, model, "peak") for model in subjects(run, density)]
        pairs = zip([*found[1:], found[0]], subjects(run, density), strict=True)
        moved[density] = [match(directions, model.feature_directions) for directions, model in pairs]
    return _judge(run, moved, {}, ())


def _judge(
    run: Run, found: dict[float, list[Matching]], evidence: dict[str, Any], exhibits: tuple[Exhibit, ...]
) -> Finding:
    """SUPPORTED if the interval over seeds reaches the share at every density, REFUTED by a density where it cannot."""
    intervals = {density: _mean(run, shares(group)) for density, group in found.items()}
    failing = [density for density, interval in intervals.items() if interval.high < REQUIRED_SHARE]
    status = Status.INCONCLUSIVE
    if failing:
        status = Status.REFUTED
    elif all(interval.low >= REQUIRED_SHARE for interval in intervals.values()):
        status = Status.SUPPORTED
    measured = {
        "recovered_share": {f"p = {density}": interval.to_json() for density, interval in intervals.items()},
        "required": REQUIRED_SHARE,
        "seeds": [model.seed for model in subjects(run, densities(run)[0])],
        "model": _size(run).to_json() | {"density": list(densities(run))},
    }
    return Finding(
        status=status,
        evidence={**measured, **evidence},
        witness={**measured, "density": failing[0]} if failing else None,
        exhibits=exhibits,
    )


# --- Many features for few dimensions ------------------------------------------------------------------


def check_loaded(run: Run) -> Finding:
    """TM-9.crowded: eight features per dimension."""
    found = {name: _loaded(run, name) for name in ("peak", "plain")}
    evidence = {
        name: {
            "recovered_share": _mean(run, shares(group)).to_json(),
            "per_seed": [matching.to_json() for matching in group],
        }
        for name, group in found.items()
    }
    evidence["represented"] = {
        f"seed {model.seed}": int(model.represented.sum()) for model in _crowded(run)
    }  # fmt: skip
    table = Table(
        title="Eight features per dimension",
        caption="Share of the represented features at cosine 0.9, mean over seeds, K = 2n directions.",
        columns=["score", "recovered share", "share of directions at a feature"],
        rows=[
            [name, _mean(run, shares(group)).text(), _mean(run, _precise(group)).text()]
            for name, group in found.items()
        ],
    )
    return _judge_loaded(run, found["peak"], evidence, (table,))


def check_loaded_plain(run: Run) -> Finding:
    """False twin: plain sensitivity finds them too."""
    return _judge_loaded(run, _loaded(run, "plain"), {}, ())


def check_loaded_random(run: Run) -> Finding:
    """False twin: random directions."""
    return _judge_loaded(run, _loaded(run, "random"), {}, ())


def _crowded(run: Run) -> list[SuperpositionModel]:
    """The full size needs minutes; the quick profile takes the same load in fewer dimensions."""
    config = LOADED if run.profile == "full" else dataclasses.replace(LOADED, features=160, width=20, batch=256)
    return models(run, config, seeds(run)[:3])


def _loaded(run: Run, name: str) -> list[Matching]:
    return [match(_directions(run, model, name), model.feature_directions) for model in _crowded(run)]


def _judge_loaded(run: Run, found: list[Matching], evidence: dict[str, Any], exhibits: tuple[Exhibit, ...]) -> Finding:
    share = _mean(run, shares(found))
    status = Status.INCONCLUSIVE
    if share.low >= REQUIRED_LOADED:
        status = Status.SUPPORTED
    elif share.high < REQUIRED_LOADED:
        status = Status.REFUTED
    measured = {
        "recovered_share_of_represented": share.to_json(),
        "required": REQUIRED_LOADED,
        "seeds": [model.seed for model in _crowded(run)],
        "model": _crowded(run)[0].config.to_json(),
    }
    return Finding(
        status=status,
        evidence={**measured, **evidence},
        witness=measured if status is Status.REFUTED else None,
        exhibits=exhibits,
    )


# --- What is compared ---------------------------------------------------------------------------------------------


def _directions(run: Run, model: SuperpositionModel, name: str) -> Tensor:
    """``[2n, d]``."""
    readout, count = SuperpositionReadout(model), 2 * model.config.features
    generator = torch.Generator().manual_seed(model.seed + 40)
    if name == "random":
        return random_directions(count, readout.width, readout.centring, generator)
    if name in SEARCHES:
        return searched(run, readout, twice(model, in_budget(run, model, SEARCHES[name])))
    active = max(1, round(model.config.features * model.config.density))
    shown = in_budget(run, model, PLAIN).steps * PLAIN.contexts
    method = SparseAutoencoder(sparsity=TopK(active=active))

    def make() -> dict[str, Tensor]:
        subject = draw_subject(readout, CONTEXTS, generator, presentations=shown)
        return {"directions": method.find(subject, count, generator).directions}

    key = {**fingerprint(readout), "method": repr(method), "count": count, "contexts": CONTEXTS, "presentations": shown}
    return store_of(run).keep("autoencoder", key, make)["directions"]


def _matchings(run: Run, density: float, name: str) -> list[Matching]:
    def make() -> list[Matching]:
        return [match(_directions(run, model, name), model.feature_directions) for model in subjects(run, density)]

    return run.shared(f"toy_models.selective {density} {name}", make)


def _ratios(run: Run, density: float) -> dict[str, Interval]:
    """Features over random directions on the first model, by each score, with interval over directions and contexts."""
    model = subjects(run, density)[0]
    readout, generator = SuperpositionReadout(model), torch.Generator().manual_seed(model.seed + 41)
    batch = readout.sample(128, generator)
    random = random_directions(64, readout.width, readout.centring, generator)
    groups = [model.feature_directions[:64], random]
    absent = functools.partial(selectivity.estimate_on, probe=Probe(reference="absent"), measure="peak")
    ratios = {}
    for name, estimate in {
        "peak": absent, "selective": selectivity.estimate_on, "plain": sensitivity.estimate_on
    }.items():  # fmt: skip
        effects = []
        for group in groups:
            again = torch.Generator().manual_seed(model.seed + 42)
            effects.append(estimate(readout, batch, group, generator=again).effects)
        ratios[name] = group_ratio(effects[0], effects[1], torch.Generator().manual_seed(model.seed))
    return ratios


def _of_all(run: Run, density: float, group: list[Matching]) -> Tensor:
    """Share of all features that the model was given, represented or not."""
    return torch.tensor([matching.recovered / _size(run).features for matching in group], dtype=torch.float64)


def _precise(group: list[Matching]) -> Tensor:
    return torch.tensor([matching.precise_share for matching in group], dtype=torch.float64)


def _mean(run: Run, values: Tensor) -> Interval:
    return mean_interval(values, torch.Generator().manual_seed(run.seed))


def _exhibits(
    run: Run, table: dict[float, dict[str, list[Matching]]], scores: dict[float, dict[str, Interval]]
) -> tuple[Exhibit, ...]:
    at = list(densities(run))
    intervals = {name: [_mean(run, shares(table[p][name])) for p in at] for name in METHODS}
    densest = table[at[-1]]
    return (
        Curve(
            title="Features recovered, over their density",
            caption="Share of the represented features at cosine 0.9 with K = 2n directions; bands over seeds. Large "
            "effects on few units lead to the features at every density; plain sensitivity loses them as they become "
            "dense, and so does an autoencoder, although it is told how many are active.",
            x_label="density p",
            y_label="recovered share",
            x=at,
            log_x=True,
            series={name: [interval.value for interval in row] for name, row in intervals.items()},
            bands={name: [(interval.low, interval.high) for interval in row] for name, row in intervals.items()},
        ),
        Histogram(
            title=f"From every feature to the nearest direction, p = {at[-1]}",
            caption="One count per feature, all seeds. At 0.9 a feature counts as recovered.",
            x_label="cosine",
            groups={name: torch.cat([m.best_of_features for m in densest[name]]).tolist() for name in METHODS},
        ),
        Table(
            title="Recovery and separation by score",
            caption="Recovered: mean over seeds. Feature to random: ratio of the mean score of features to that of "
            "random directions, on one model.",
            columns=["density", "method", "recovered share", "share of directions at a feature", "feature to random"],
            rows=[
                [
                    density,
                    name,
                    _mean(run, shares(group)).text(),
                    _mean(run, _precise(group)).text(),
                    scores[density][name].text() if name in SEARCHES else "",
                ]
                for density, row in table.items()
                for name, group in row.items()
            ],
        ),
    )
