"""TM-9: features found by large effects on few units, at every density.

Three searches side by side, with the same ``2n`` directions, steps and contexts: *peak* (peak sensitivity against the
absent reference), *selective* (concentration of the effect, as SE-5 has it) and *plain* (as published); a TopK
autoencoder that is told how many features are active on average, which no search is told; and FastICA with both signs.
No search has a sparsity term.

Where ``n = 2d`` a trained model lays its features in opposite pairs on ``d`` nearly orthogonal axes (the evidence says
how nearly). That is a mixture that ICA undoes, taken with both signs, as long as the features are sparse enough to be
far from normal. So at low density recovery by peak is nothing that only peak could do. At high density it is a matter
of contexts: with as many as the autoencoder's, about as many as a search is shown, ICA finds nothing; with several
times more (``MORE_CONTEXTS``) it may. What it cannot do is TM-9.crowded, with more features than components and their
negatives.

``2n`` directions take a guess at ``n``. How much is lost by a worse one is told by recovery over ``K/n``.

Recovery is of the features that the model represents, by optimal matching at cosine 0.9. A random direction meets none.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sensverify import selectivity, sensitivity
from sensverify.autoencoders import TopK
from sensverify.claims import Run
from sensverify.exhibits import Curve, Exhibit, Histogram, Table
from sensverify.geometry import random_directions
from sensverify.sensitivity import Probe
from sensverify.statistics import Interval, group_ratio, share_interval
from sensverify.verdicts import Finding, Status
from toy_models.judging import at_least, precise, recovered
from toy_models.methods import IndependentComponents, SparseAutoencoder, draw_subject
from toy_models.recovery import RECOVERED_COSINE, Matching, match
from toy_models.searching import PEAK, PLAIN, SELECTIVE, autoencoded, fingerprint, in_budget, searched, twice
from toy_models.store import store_of
from toy_models.superposition import SuperpositionConfig, SuperpositionModel, SuperpositionReadout
from toy_models.trained import models, seeds

SIZE = SuperpositionConfig(features=128, width=64, batch=256)
QUICK_SIZE = SuperpositionConfig(features=64, width=32, batch=256)
LOADED = SuperpositionConfig(features=512, width=64, density=0.05)
REQUIRED_SHARE, REQUIRED_LOADED = 0.95, 0.8
CONTEXTS = 4096
"""What the autoencoder is trained on, and FastICA fitted to; the searches draw theirs afresh."""
PER_FEATURE = {"quick": (0.5, 1.0, 2.0), "full": (0.5, 1.0, 2.0, 4.0)}
"""``K/n``."""

SEARCHES = {"peak": PEAK, "selective": SELECTIVE, "plain": PLAIN}
AUTOENCODER = "TopK autoencoder told k"
INDEPENDENT = "FastICA, both signs"
METHODS = (*SEARCHES, AUTOENCODER, INDEPENDENT)
MORE = "FastICA, both signs, more contexts"
"""At the highest density alone: where the other needs them."""
MORE_CONTEXTS = 16 * CONTEXTS


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
    densest = densities(run)[-1]
    if run.profile == "full":
        table[densest][MORE] = _matchings(run, densest, MORE)
    scores = {density: _ratios(run, density) for density in densities(run)}
    evidence: dict[str, Any] = {
        f"p = {density}": {
            **{
                name: {
                    "recovered_share": recovered(run, group).to_json(),
                    "of_all_features": _of_all(run, group).to_json(),
                    "share_of_directions_at_a_feature": precise(run, group).to_json(),
                    "per_seed": [matching.to_json() for matching in group],
                }
                for name, group in table[density].items()
            },
            "feature_to_random": {name: ratio.to_json() for name, ratio in scores[density].items()},
            "represented": [int(model.represented.sum()) for model in subjects(run, density)],
            "geometry": _geometry(run, subjects(run, density)),
        }
        for density in densities(run)
    }
    first = subjects(run, densities(run)[0])[0]
    evidence["searches_of_the_first_model"] = {
        name: twice(first, in_budget(run, first, options)).to_json() for name, options in SEARCHES.items()
    }
    counted = _counted(run)
    evidence["peak_with_K_directions"] = {
        "seeds": [model.seed for model in _counted_models(run)],
        "model": _counted_models(run)[0].config.to_json(),
        **{
            f"K = {ratio:g}n": {
                "recovered_share": recovered(run, group).to_json(),
                "share_of_directions_at_a_feature": precise(run, group).to_json(),
            }
            for ratio, group in counted.items()
        },
    }
    exhibits = (*_exhibits(run, table, scores), _curve_of_counts(run, counted))
    return _judge(run, {density: row["peak"] for density, row in table.items()}, evidence, exhibits)


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
    intervals = {density: recovered(run, group) for density, group in found.items()}
    status = at_least(intervals.values(), REQUIRED_SHARE)
    worst = min(intervals, key=lambda density: intervals[density].high)
    measured = {
        "recovered_share": {f"p = {density}": interval.to_json() for density, interval in intervals.items()},
        "required": REQUIRED_SHARE,
        "seeds": [model.seed for model in subjects(run, densities(run)[0])],
        "model": _size(run).to_json() | {"density": list(densities(run))},
    }
    return Finding(
        status=status,
        evidence={**measured, **evidence},
        witness={**measured, "density": worst} if status is Status.REFUTED else None,
        exhibits=exhibits,
    )


# --- Many features for few dimensions ------------------------------------------------------------------


def check_loaded(run: Run) -> Finding:
    """TM-9.crowded: eight features per dimension."""
    found = {name: _loaded(run, name) for name in ("peak", "plain", INDEPENDENT)}
    evidence: dict[str, Any] = {
        name: {
            "recovered_share": recovered(run, group).to_json(),
            "per_seed": [matching.to_json() for matching in group],
        }
        for name, group in found.items()
    }
    evidence["represented"] = {
        f"seed {model.seed}": int(model.represented.sum()) for model in _crowded(run)
    }  # fmt: skip
    table = Table(
        title="Eight features per dimension",
        caption="Share of the represented features at cosine 0.9, mean over seeds with interval, K = 2n directions. "
        f"The interval of peak should lie wholly above {REQUIRED_LOADED}; plain stands beside it, and FastICA, which "
        "has no more than 2d directions and cannot exceed one quarter here.",
        columns=["method", "recovered share", "share of directions at a feature"],
        rows=[[name, recovered(run, group).text(), precise(run, group).text()] for name, group in found.items()],
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
    share = recovered(run, found)
    status = at_least([share], REQUIRED_LOADED)
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
    seed = model.seed + 40
    if name == "random":
        return random_directions(count, readout.width, readout.centring, torch.Generator().manual_seed(seed))
    if name in SEARCHES:
        return searched(run, readout, twice(model, in_budget(run, model, SEARCHES[name])))
    shown = in_budget(run, model, PLAIN).steps * PLAIN.contexts
    if name in (INDEPENDENT, MORE):
        contexts = CONTEXTS if name == INDEPENDENT else MORE_CONTEXTS
        return _independent(run, readout, directions=count, contexts=contexts, seed=seed)
    method = SparseAutoencoder(sparsity=TopK(active=max(1, round(model.config.features * model.config.density))))
    return autoencoded(run, readout, method, directions=count, contexts=CONTEXTS, presentations=shown, seed=seed)


def _independent(run: Run, readout: SuperpositionReadout, *, directions: int, contexts: int, seed: int) -> Tensor:
    """``[2d, d]``: components and their negatives; with ``CONTEXTS``, of those that the autoencoder is trained on.

    One start in the quick profile: it matters where starts do not converge, which costs most.
    """
    method = IndependentComponents(iterations=150, starts=1 if run.profile == "quick" else 4)
    given = {"directions": directions, "contexts": contexts, "seed": seed}

    def make() -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        subject = draw_subject(readout, contexts, generator, presentations=contexts)  # iterations bound it
        return {"directions": method.find(subject, directions, generator).directions}

    key = {**fingerprint(readout), "method": repr(method), **given}
    return store_of(run).keep("independent-components", key, make)["directions"]


def _geometry(run: Run, group: list[SuperpositionModel]) -> dict[str, Any]:
    """How far the features are from opposite pairs on orthogonal axes: the share of them with an opposite (cosine −0.9
    or less), and, per seed, the median over features of the largest absolute cosine with any but the most opposite."""
    paired, others = [], []
    for model in group:
        features = model.feature_directions.double()
        cosines = features @ features.T
        cosines.fill_diagonal_(0)
        least, which = cosines.min(dim=1)
        paired.append(least <= -RECOVERED_COSINE)
        cosines[torch.arange(len(features)), which] = 0
        others.append(float(cosines.abs().max(dim=1).values.median()))
    interval = share_interval(paired, torch.Generator().manual_seed(run.seed))
    return {"share_with_an_opposite": interval.to_json(), "largest_cosine_with_others": others}


def _counted_models(run: Run) -> list[SuperpositionModel]:
    """Small models of the highest density: one in the quick profile, which it has anyhow, three in the full one."""
    density = densities(run)[-1]
    if run.profile == "quick":
        return subjects(run, density)[:1]
    return models(run, dataclasses.replace(QUICK_SIZE, density=density), seeds(run)[:3])


def _counted(run: Run) -> dict[float, list[Matching]]:
    """What the peak search recovers, by ``K/n``; same steps, contexts and seed."""
    found: dict[float, list[Matching]] = {}
    for ratio in PER_FEATURE[run.profile]:
        found[ratio] = []
        for model in _counted_models(run):
            options = twice(model, in_budget(run, model, SEARCHES["peak"]))
            options = dataclasses.replace(options, directions=round(ratio * model.config.features))
            directions = searched(run, SuperpositionReadout(model), options)
            found[ratio].append(match(directions, model.feature_directions))
    return found


def _curve_of_counts(run: Run, found: dict[float, list[Matching]]) -> Curve:
    config, count = _counted_models(run)[0].config, len(_counted_models(run))
    figures = {
        "features recovered": [recovered(run, group) for group in found.values()],
        "directions at a feature": [precise(run, group) for group in found.values()],
    }
    return Curve(
        title="How many directions to search for",
        caption=f"Peak, n = {config.features}, d = {config.width}, p = {config.density:g}, {count} model"
        f"{'s' if count > 1 else ''}; bands over features (directions){' and seeds' if count > 1 else ''}. At K/n the "
        "first line cannot exceed K/n. See from where on it is level: there n need not be known, and more directions "
        "cost time alone. The second line tells how many of them end at features, duplicates included.",
        x_label="directions per feature, K/n",
        y_label="share",
        x=list(found),
        log_x=True,
        series={name: [interval.value for interval in row] for name, row in figures.items()},
        bands={name: [(interval.low, interval.high) for interval in row] for name, row in figures.items()},
    )


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
    estimates: dict[str, Callable[..., Any]] = {
        "peak": absent,
        "selective": selectivity.estimate_on,
        "plain": sensitivity.estimate_on,
    }
    ratios = {}
    for name, estimate in estimates.items():
        effects = []
        for group in groups:
            again = torch.Generator().manual_seed(model.seed + 42)
            effects.append(estimate(readout, batch, group, generator=again).effects)
        ratios[name] = group_ratio(effects[0], effects[1], torch.Generator().manual_seed(model.seed))
    return ratios


def _of_all(run: Run, group: list[Matching]) -> Interval:
    """Share of all features that the models were given, represented or not."""
    hits = [torch.arange(_size(run).features) < matching.recovered for matching in group]
    return share_interval(hits, torch.Generator().manual_seed(run.seed))


def _exhibits(
    run: Run, table: dict[float, dict[str, list[Matching]]], scores: dict[float, dict[str, Interval]]
) -> tuple[Exhibit, ...]:
    at = list(densities(run))
    intervals = {name: [recovered(run, table[p][name]) for p in at] for name in METHODS}
    densest = table[at[-1]]
    return (
        Curve(
            title="Features recovered, over their density",
            caption="Share of the represented features at cosine 0.9 with K = 2n directions; bands over seeds. Peak is "
            f"judged: its band should lie above {REQUIRED_SHARE} at every density, so its line should be level and at "
            "the top. A line that falls to the right loses features as they become dense. The autoencoder alone is "
            "told how many are active. FastICA has 2d directions, all that it needs if features lie in opposite pairs "
            "on d axes; compare where its line ends.",
            x_label="density p",
            y_label="recovered share",
            x=at,
            log_x=True,
            series={name: [interval.value for interval in row] for name, row in intervals.items()},
            bands={name: [(interval.low, interval.high) for interval in row] for name, row in intervals.items()},
        ),
        Histogram(
            title=f"From every feature to the nearest direction, p = {at[-1]}",
            caption="One count per feature, all seeds. From 0.9 on a feature can count as recovered; what stands left "
            r"of it is missed. Random directions would stand near $\sqrt{2 \ln K / d}$.",
            x_label="cosine",
            groups={name: torch.cat([m.best_of_features for m in densest[name]]).tolist() for name in METHODS},
        ),
        Table(
            title="Recovery and separation by score",
            caption="Recovered: mean over seeds with interval; that of peak should lie wholly above "
            f"{REQUIRED_SHARE} at every density. Feature to random: ratio of the mean score of features to that of "
            "random directions, on one model. At 1 the score does not tell them apart; compare how it changes with "
            f"density. FastICA is given {CONTEXTS} contexts; in the full profile, in the last row, {MORE_CONTEXTS}.",
            columns=["density", "method", "recovered share", "share of directions at a feature", "feature to random"],
            rows=[
                [
                    density,
                    name,
                    recovered(run, group).text(),
                    precise(run, group).text(),
                    scores[density][name].text() if name in SEARCHES else "",
                ]
                for density, row in table.items()
                for name, group in row.items()
            ],
        ),
    )
