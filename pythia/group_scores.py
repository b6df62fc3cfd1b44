"""All groups of directions through one score: the same contexts, the same presences, at each layer.

Beside the groups of :mod:`pythia.compared` stand the found directions negated, a second random group, and the controls:

- *shuffled tokens*: found, SAE and random directions on windows whose tokens are permuted (BOS stays where it is): what
  is left is not bound to text;
- *α = ρ*: each presence set to what it is, which must have no effect beyond rounding;
- *norm only*: the activation made longer, and shorter, by the way that an intervention from presence 0 to ``α`` goes,
  ``2 sin(arcsin(α)/2)`` of its length, without turning it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pythia import subject
from pythia.compared import FOUND, RANDOM, SAE, directions, language_readouts, sae_group, site
from pythia.positions import permuted
from pythia.readout import LanguageModelReadout
from sensverify.claims import Run
from sensverify.evaluation import HELD_OUT_CONTEXTS
from sensverify.geometry import random_directions
from sensverify.readout import Batch
from sensverify.scoring import angular_distance
from sensverify.sensitivity import PresenceLaw, directions_at_once, estimate_groups, null_effects
from sensverify.sites import Site
from sensverify.statistics import Interval, group_mean, group_ratio

NEGATED, RANDOM_AGAIN = "found, negated", "random, another draw"
UNTOUCHED = "SAE, presence left as it is"
FOUND_UNTOUCHED = "found, presence left as it is"
LONGER, SHORTER = "norm only, longer", "norm only, shorter"
ON_SHUFFLED_TOKENS = (FOUND, SAE, RANDOM)
DRAWS = 4
ROUNDING = 0.01
"""The null control's mean effect as a share of random directions': more is no rounding, and nothing can be said."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerScores:
    """Effects ``[S, B]`` of each group at one layer, paired over its contexts, and those on shuffled tokens."""

    layer: int
    effects: Mapping[str, Tensor]
    shuffled_tokens: Mapping[str, Tensor]
    sae: Mapping[str, Any]
    seed: int

    def mean(self, group: str, *, shuffled_tokens: bool = False) -> Interval:
        """Mean SeS of a group; directions and contexts are resampled."""
        table = self.shuffled_tokens if shuffled_tokens else self.effects
        return group_mean(table[group], torch.Generator().manual_seed(self.seed))

    def ratio(self, top: str, bottom: str, *, shuffled_tokens: bool = False) -> Interval:
        """Mean SeS of one group over that of another, paired over contexts."""
        table = self.shuffled_tokens if shuffled_tokens else self.effects
        return group_ratio(table[top], table[bottom], torch.Generator().manual_seed(self.seed))

    @property
    def contexts(self) -> int:
        """``B``."""
        return self.effects[FOUND].shape[1]

    @property
    def null_share(self) -> float:
        """Mean effect of leaving presence as it is, of the group where it is larger, over that of random directions;
        NaN if that is 0. Means on both sides: the largest of as many roundings grows with their number, and is not what
        adds to a group's mean."""
        return self._null_over_random(lambda effects: effects.double().mean())

    @property
    def largest_null_share(self) -> float:
        """As :attr:`null_share`, of the largest single null effect; shown beside it, and not judged."""
        return self._null_over_random(lambda effects: effects.double().max())

    def _null_over_random(self, size: Callable[[Tensor], Tensor]) -> float:
        null = max(float(size(self.effects[name])) for name in (UNTOUCHED, FOUND_UNTOUCHED))
        usual = float(self.effects[RANDOM].double().mean())
        return null / usual if usual > 0 else math.nan


def scores(run: Run, layer: int) -> LayerScores:
    """All groups and controls at this layer, computed once per run."""
    return run.shared(f"pythia.group_scores {layer}", lambda: _scores(run, layer))


def _scores(run: Run, layer: int) -> LayerScores:
    place = site(run, layer)
    _, held_out = language_readouts(place)
    groups = dict(directions(run, layer))
    generator = torch.Generator(device=held_out.device).manual_seed(run.seed + 41)
    again = random_directions(len(groups[RANDOM]), held_out.width, held_out.centring, generator)
    groups = {**groups, NEGATED: -groups[FOUND], RANDOM_AGAIN: again.to(groups[RANDOM])}
    batch = held_out.sample(_contexts(place), generator)
    as_contexts = {name: group.to(batch.x) for name, group in groups.items()}
    estimates = estimate_groups(held_out, batch, as_contexts, generator=generator, draws=DRAWS, progress=run.progress)
    effects = {name: estimate.effects for name, estimate in estimates.items()}
    effects[UNTOUCHED] = untouched(held_out, batch, as_contexts[SAE])
    effects[FOUND_UNTOUCHED] = untouched(held_out, batch, as_contexts[FOUND])
    effects |= norm_only(held_out, batch, generator)
    shuffled = shuffled_tokens(held_out, generator)
    other = shuffled.sample(_contexts(place), generator)
    without_order = estimate_groups(
        shuffled, other, {name: as_contexts[name] for name in ON_SHUFFLED_TOKENS}, generator=generator, draws=DRAWS
    )
    return LayerScores(
        layer=layer,
        effects=effects,
        shuffled_tokens={name: estimate.effects for name, estimate in without_order.items()},
        sae=sae_group(run, layer).to_json(),
        seed=run.seed + 43,
    )


def _contexts(place: Site) -> int:
    return max(2, min(HELD_OUT_CONTEXTS, place.independent_contexts))


def untouched(readout: LanguageModelReadout, batch: Batch[Any], group: Tensor) -> Tensor:
    """Effects ``[S, B]`` of setting each presence of ``group [S, d]`` to what it is, a few directions at a time."""
    at_once = directions_at_once(readout.clean(batch), readout.width)
    return torch.cat([null_effects(readout, batch, rows) for rows in torch.split(group, at_once)])


def shuffled_tokens(readout: LanguageModelReadout, generator: torch.Generator) -> LanguageModelReadout:
    """The same place in the same model, on windows with their tokens permuted, each by itself. What does not count
    (BOS, special tokens, padding, outliers) stays in its place, and is not intervened on there either."""
    return LanguageModelReadout(
        readout.model,
        permuted(readout.windows, readout.counted, generator),
        layer=readout.layer,
        target=readout.target,
        offset=readout.offset,
        first_position=readout.first_position,
        allowed=dataclasses.replace(readout.allowed, real=readout.counted),
    )


@torch.no_grad()
def norm_only(readout: LanguageModelReadout, batch: Batch[Any], generator: torch.Generator) -> Mapping[str, Tensor]:
    """Effects ``[1, B]`` of making activations longer by the factor ``1 + 2 sin(arcsin(α)/2)``, and shorter by it."""
    alpha = PresenceLaw().stratified(DRAWS, len(batch), generator).to(batch.x)
    factors = 1 + 2 * torch.sin(torch.asin(alpha) / 2)
    clean = readout.clean(batch)
    moved = {LONGER: factors, SHORTER: 1 / factors}
    return {
        name: angular_distance(clean, readout.read(batch, factor[..., None] * batch.x)).mean(0, keepdim=True)
        for name, factor in moved.items()
    }


def evidence(row: LayerScores) -> dict[str, Any]:
    """Plain JSON of one layer: group means, controls, and the autoencoder."""
    names = [name for name in row.effects if name not in (UNTOUCHED, FOUND_UNTOUCHED)]
    return {
        "held_out_contexts": row.contexts,
        "mean_ses": {name: row.mean(name).to_json() for name in names},
        "found_to_random_on_shuffled_tokens": row.ratio(FOUND, RANDOM, shuffled_tokens=True).to_json(),
        "sae_to_random_on_shuffled_tokens": row.ratio(SAE, RANDOM, shuffled_tokens=True).to_json(),
        "mean_null_effect_to_random": row.null_share,
        "largest_null_effect_to_random": row.largest_null_share,
        "sae": dict(row.sae),
    }


def describe(run: Run, layer: int) -> Mapping[str, Any]:
    """Model, site, data and search, for evidence."""
    return {**site(run, layer).description, "search": subject.search_options(run).to_json()}
