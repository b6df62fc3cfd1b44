"""TM-4: what ``SeS(−f)`` is made of in sparse trained models.

It exceeds the sensitivity of random directions, and what exceeds is *addition*, in contexts where ``f`` is inactive: a
ReLU makes negative overlaps free, so that ``−f`` comes close to another feature, and adds that one. Addition is the
leg from presence ``max(ρ, 0)`` up to ``α``, with the shrinkage of all else that is built into it (RN-3); where a
positive ``ρ`` exceeds ``α`` the same leg *reduces*, and that is not counted as addition.

All this needs more features than can be paired. With ``n = 2d`` the best a model can do is to write features in
opposite pairs along ``d`` orthogonal axes: ``−f`` is a feature, and since ``h`` is then read back as its positive and
negative parts, which together lose nothing, no direction is much more sensitive than another. Models of ``n = 2d`` that
are trained briefly have not got there, and show an excess that longer training takes away (:func:`converged_pairs`).

Decomposition and derivation: :mod:`toy_models.removal`. Thresholds were chosen on seeds 100 to 102; a run judges on its
own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.exhibits import Exhibit, IntervalRow, Intervals, Table
from sensverify.geometry import gram, random_directions
from sensverify.readout import Batch
from sensverify.statistics import Interval, bootstrap_weights, group_ratio, mean_interval, percentile_interval
from sensverify.verdicts import Finding, Status
from toy_models.removal import PLAYERS, Decomposition, Mechanisms, decompose, mechanisms
from toy_models.removal_found import final_losses, paired_config, seeds, trained_config, trained_models
from toy_models.removal_planted import PlantedReadout, around, planted
from toy_models.superposition import SuperpositionConfig, SuperpositionModel
from toy_models.trained import models

SPARSE = 0.02
LARGER = SuperpositionConfig(features=256, width=64, density=0.01, steps=1000, batch=256, learning_rate=1e-2)
CONTEXTS, MECHANISM_CONTEXTS, DRAWS, DIRECTIONS = 512, 128, 2, 64
RESAMPLES = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Negatives:
    """Negated features beside random directions on one model, same contexts, same ``α``.

    ``active [S, B]``: where ``f`` is; ``closest [S]``: ``max_j ⟨−f_i, f_j⟩``; ``by_mechanism``: both groups' effects by
    mechanism, on fewer contexts, since each takes eight read-outs.
    """

    model: str
    seed: int
    negated: Decomposition
    random: Decomposition
    active: Tensor
    closest: Tensor
    by_mechanism: tuple[Mechanisms, Mechanisms]

    def swapped(self) -> Negatives:
        """With the two groups in each other's place; a random direction negates no feature that could be active."""
        none = torch.zeros_like(self.random.effect, dtype=torch.bool)
        return dataclasses.replace(self, negated=self.random, random=self.negated, active=none)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Excess:
    """``ratio`` to random; of what exceeds, the shares that are ``addition`` and come from where ``f`` is inactive.

    What ``addition`` leaves of 1 is removal and ``reduction``.
    """

    model: str
    seed: int
    ratio: Interval
    addition: Interval
    reduction: Interval
    inactive: Interval

    def to_json(self) -> dict[str, Any]:
        """For evidence."""
        names = ("ratio", "addition", "reduction", "inactive")
        return {"model": self.model, "seed": self.seed, **{name: getattr(self, name).to_json() for name in names}}


def negatives(readout: PlantedReadout, kept: Tensor, seed: int) -> Negatives:
    """Score the negatives of the features marked in ``kept [n]``."""
    generator = torch.Generator().manual_seed(seed + 2)
    features = readout.directions[kept]
    others = random_directions(DIRECTIONS, readout.width, readout.centring, generator)
    batch = readout.sample(CONTEXTS, generator)
    state = generator.get_state()
    few = Batch(batch.x[:MECHANISM_CONTEXTS], batch.state[:MECHANISM_CONTEXTS])
    parts, by_mechanism = [], []
    for directions in (-features, others):
        generator.set_state(state)
        parts.append(decompose(readout, directions, batch=batch, generator=generator, draws=DRAWS))
        generator.set_state(state)
        by_mechanism.append(mechanisms(readout, directions, batch=few, generator=generator, draws=DRAWS))
    return Negatives(
        model=f"{readout.name}, n = {len(readout.features)}, d = {readout.width}, p = {readout.density:g}",
        seed=seed,
        negated=parts[0],
        random=parts[1],
        active=(batch.state > 0).T[kept],
        closest=(-gram(features)).max(1).values,
        by_mechanism=(by_mechanism[0], by_mechanism[1]),
    )


def excess(item: Negatives, wanted: Callable[[Decomposition], Tensor] = lambda parts: parts.addition) -> Excess:
    """Bootstrap over directions and, jointly for both groups, contexts; ``wanted``: the part counted as addition.

    ``active`` contexts of the first group are held against the random directions' effects in the same contexts.
    """
    generator = torch.Generator().manual_seed(item.seed)
    first, second = item.negated.effect.double(), item.random.effect.double()
    inactive = (~item.active).double()
    of_context, of_first, of_second = (_resampled(n, generator) for n in (first.shape[1], len(first), len(second)))
    whole = ((of_first @ first - of_second @ second) * of_context).sum(1)

    def share(part: Tensor, other: Tensor) -> Interval:
        return _percentiles(((of_first @ part.double() - of_second @ other.double()) * of_context).sum(1) / whole)

    apart = ((of_first @ (first * inactive) - (of_first @ inactive) * (of_second @ second)) * of_context).sum(1)
    return Excess(
        model=item.model,
        seed=item.seed,
        ratio=group_ratio(item.negated.effect, item.random.effect, generator),
        addition=share(wanted(item.negated), wanted(item.random)),
        reduction=share(item.negated.reduction, item.random.reduction),
        inactive=_percentiles(apart / whole),
    )


def _resampled(items: int, generator: torch.Generator) -> Tensor:
    """Weights ``[1 + RESAMPLES, items]``: the sample itself, then bootstrap samples."""
    sample = torch.ones(1, items, dtype=torch.float64) / items
    return torch.cat([sample, bootstrap_weights(items, RESAMPLES, generator)])


def _percentiles(values: Tensor) -> Interval:
    return percentile_interval(values[0], values[1:])


def sparse_models(run: Run) -> list[SuperpositionModel]:
    """One size per seed, and in the full profile a larger one too; of both, ``n = 4d``."""
    return trained_models(run)[trained_config(SPARSE)] + (
        models(run, LARGER, seeds(run)) if run.profile == "full" else []
    )


def sparse_negatives(run: Run) -> list[Negatives]:
    """On sparse trained models."""

    def make() -> list[Negatives]:
        return [negatives(around(model), model.represented, model.seed) for model in sparse_models(run)]

    return run.shared("toy_models.removal_negatives", make)


def converged_pairs(run: Run) -> list[Negatives]:
    """On models of ``n = 2d`` trained until their features lie in opposite pairs, so that ``−f`` is a feature."""

    def make() -> list[Negatives]:
        return [negatives(around(one), one.represented, one.seed) for one in _paired_models(run)]

    return run.shared("toy_models.removal_pairs", make)


def _paired_models(run: Run) -> list[SuperpositionModel]:
    return trained_models(run)[paired_config(SPARSE)]


def check_negatives(run: Run) -> Finding:
    """TM-4."""
    items = sparse_negatives(run)
    correlations, overlaps = {}, {}
    for item in items:
        correlations[_name(item)] = _correlation(item.negated.effect.mean(1), item.closest, item.seed).to_json()
        overlaps[_name(item)] = mean_interval(item.closest, _generator(item)).to_json()
    presence = {
        _name(item): {name: float(share.mean()) for name, share in item.negated.by_presence(0.1).items()}
        for item in items
    }
    pairs = [excess(item) for item in converged_pairs(run)]
    evidence: dict[str, Any] = {
        "trained_models": final_losses(sparse_models(run)),
        "opposite_pairs_at_n_2d": {
            "trained_models": final_losses(_paired_models(run)),
            "mean_cosine_of_-f_to_nearest_feature": [float(item.closest.mean()) for item in converged_pairs(run)],
            "ratio": [{"seed": one.seed, **one.ratio.to_json()} for one in pairs],
        },
        "correlation_of_SeS(-f)_with_cosine_of_-f_to_nearest_feature": correlations,
        "mean_cosine_of_-f_to_nearest_feature": overlaps,
        "shares_of_SeS(-f)_by_presence_of_-f": presence,
    }
    found = [excess(item) for item in items]
    evidence["by_mechanism"] = {_name(item): _by_mechanism(item) for item in items}
    return _judge_excess(found, evidence, (_shares(items), _excess_intervals(found), _mechanism_table(items)))


def check_random_above_negated(run: Run) -> Finding:
    """False twin: the wrong way round."""
    return _judge_excess([excess(item.swapped()) for item in sparse_negatives(run)], {}, ())


def check_excess_is_removal(run: Run) -> Finding:
    """False twin: removal counted in the place of addition."""
    return _judge_excess([excess(item, lambda parts: parts.removal) for item in sparse_negatives(run)], {}, ())


def check_converged_pairs(run: Run) -> Finding:
    """False twin: converged models of ``n = 2d``, where ``−f`` is a feature: what it exceeds random directions by
    comes from contexts in which ``f`` is active."""
    return _judge_excess([excess(item) for item in converged_pairs(run)], {}, ())


def check_orthonormal_negatives(run: Run) -> Finding:
    """False twin: orthonormal dense features, where ``−f`` adds nothing at all."""
    found = []
    for seed in seeds(run):
        generator = seeded(seed)
        readout = planted(features=24, width=32, density=0.4, constant=0.0, orthonormal=True, generator=generator)
        found.append(excess(negatives(readout, torch.ones(24, dtype=torch.bool), seed)))
    return _judge_excess(found, {}, ())


def _judge_excess(found: Sequence[Excess], evidence: dict[str, Any], exhibits: tuple[Exhibit, ...]) -> Finding:
    """On every seed: the ratio above 1, and more than half of the excess addition, and from inactive contexts."""
    bounds = {"ratio": 1.0, "addition": 0.5, "inactive": 0.5}
    pairs = [(item, name, getattr(item, name), bound) for item in found for name, bound in bounds.items()]
    failing = next(
        (
            {"model": i.model, "seed": i.seed, "of": n, "interval": v.to_json(), "required_above": b}
            for i, n, v, b in pairs
            if v.high < b
        ),
        None,
    )
    holds = all(value.low > bound for _, _, value, bound in pairs)
    return finding(failing, holds, {"excess": [item.to_json() for item in found], **evidence}, exhibits)


def finding(
    failing: dict[str, Any] | None, holds: bool, evidence: dict[str, Any], exhibits: tuple[Exhibit, ...]
) -> Finding:
    """REFUTED with ``failing`` as the witness, SUPPORTED if all that is required ``holds``, else INCONCLUSIVE."""
    status = Status.REFUTED if failing else Status.SUPPORTED if holds else Status.INCONCLUSIVE
    return Finding(status=status, evidence=evidence, witness=failing, exhibits=exhibits)


def _correlation(a: Tensor, b: Tensor, seed: int) -> Interval:
    """Over features, with an interval that resamples them."""
    weights = _resampled(len(a), seeded(seed))
    a, b = a.double(), b.double()
    mean_a, mean_b = weights @ a, weights @ b
    covariance = weights @ (a * b) - mean_a * mean_b
    spread = (weights @ a.square() - mean_a.square()) * (weights @ b.square() - mean_b.square())
    return _percentiles(covariance / spread.sqrt())


def seeded(seed: int) -> torch.Generator:
    """Draws for the intervals of one model."""
    return torch.Generator().manual_seed(seed)


def _name(item: Negatives | Excess) -> str:
    return f"{item.model}, seed {item.seed}"


def _generator(item: Negatives) -> torch.Generator:
    return seeded(item.seed)


def _shares(items: Sequence[Negatives]) -> Table:
    table = []
    for item in items:
        for name, parts in (("−f", item.negated), ("random", item.random)):
            cells = [
                mean_interval(part.mean(1), _generator(item)).text()
                for part in (parts.effect, parts.removal, parts.addition, parts.reduction)
            ]
            table.append([f"{name}; {_name(item)}", *cells])
    return Table(
        title="What SeS(−f) is made of in sparse trained models",
        caption="Mean over directions with 95 % intervals; the parts add up to SeS. Compare −f with random directions "
        "column by column: the claim needs more than half of the difference in SeS to lie in addition.",
        columns=["directions", "SeS", "removal", "addition", "reduction"],
        rows=table,
    )


def _by_mechanism(item: Negatives) -> dict[str, dict[str, Any]]:
    """Mean Shapley values with intervals, per group of directions."""
    groups = zip(("negated feature", "random"), item.by_mechanism, strict=True)
    return {
        group: {name: mean_interval(found.shapley[name].mean(1), _generator(item)).to_json() for name in PLAYERS}
        for group, found in groups
    }


def _mechanism_table(items: Sequence[Negatives]) -> Table:
    table = []
    for item in items:
        for group, parts in _by_mechanism(item).items():
            table.append([f"{group}; {_name(item)}", *(Interval(**parts[name]).text() for name in PLAYERS)])
    return Table(
        title="The same by mechanism",
        caption="Shapley values of what the move is made of: negative presence taken away, presence set beyond that, "
        "and everything else shrinking with it (RN-3). Compare the two groups column by column: where they differ most "
        "is what sets −f apart. The positive part is addition and reduction together.",
        columns=["directions", *PLAYERS],
        rows=table,
    )


def _excess_intervals(found: Sequence[Excess]) -> Intervals:
    table = [
        IntervalRow(name=f"{label}; {_name(item)}", value=value.value, low=value.low, high=value.high)
        for item in found
        for label, value in (("addition", item.addition), ("f inactive", item.inactive))
    ]
    return Intervals(
        title="Where the excess of SeS(−f) over random directions comes from",
        caption="Shares of the excess: that which is addition, and that from contexts in which f is inactive, so that "
        "there is nothing of it to remove; 95 % intervals over directions and contexts. The claim needs every interval "
        "right of the line at one half.",
        x_label="share of the excess",
        rows=table,
        reference=0.5,
    )
