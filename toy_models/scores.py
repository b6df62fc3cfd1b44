"""Thirteen ways to say how much a direction matters to a read-out, under one signature, so that they can be compared.

All start from the same interventions: ``y`` is the clean read-out, ``y'`` the one with the presence set, ``Δ`` the
difference. They differ in what they take from ``Δ``, and that decides which features they tell from random directions:

- *Adding up over units.* Angular distance is, to second order, a quadratic form in ``Δ``; KL at temperature 1 nearly,
  its exponential favouring the units that rise most. If the features form a tight frame, ``Σ⟨w_i, s⟩²`` is the same for
  every direction ``s``; behind a linear read-out a feature then moves one unit by much and a random direction many by
  little, and the sum cannot tell.
- *A threshold breaks the tie.* Behind ``ReLU(· − θ)`` a step spread over many units leaves most of them off, and what a
  feature does to its own unit survives. Sparse models learn such a threshold (a negative bias), dense ones cannot
  afford it: so plain sensitivity separates where features are sparse. Counting only units that switch
  (:func:`switched`, :func:`switched_on`) makes more of whatever threshold there is, the ReLU's own at 0 included.
- *Not adding up.* The largest change (:func:`largest_change`), fourth powers (:func:`fourth_powers`), a softmax at low
  temperature and the concentration of :mod:`sensverify.selectivity` ignore spread effects, threshold or not.
- *Inactive weighting* compares all directions from the same presence, about 0. Dense activations have a large mean, and
  how far the intervention moves them depends on how a direction lies to that mean more than on what it means: this is
  the noise in which plain sensitivity drowns, and weighting takes it away. It does not help where energies are equal.

Sizes are relative to the read-out: a sum of ``k``-th powers is divided by ``E‖y‖^k`` over the contexts, once for all
directions. A quotient context by context would be ruled by contexts in which the read-out is almost zero, as behind a
ReLU it can be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from sensverify import selectivity
from sensverify.geometry import presence
from sensverify.interventions import set_presence
from sensverify.readout import Batch, Readout
from sensverify.scoring import Distance, angular_distance, kullback_leibler
from sensverify.selectivity import Averaging, Concentrations, concentrations
from sensverify.sensitivity import Probe, SensitivityEstimate, Weighting, estimate_on

COLD = 0.1
"""The low temperature: a fully active feature stands 10 nats above a silent one."""
PAIRS_PER_CHUNK = 4096
"""Tables of that many read-outs of 128 units stay in the processor's cache; the engine's default does not."""
DRAWS = 2
EVERYWHERE = Weighting()


def kl_temperature_1(clean: Tensor, perturbed: Tensor) -> Tensor:
    """``KL(softmax(y) ‖ softmax(y'))``: units taken as logits. Nats."""
    return kullback_leibler(clean, perturbed)


def kl_cold(clean: Tensor, perturbed: Tensor) -> Tensor:
    """``KL(softmax(y/T) ‖ softmax(y'/T))``, ``T = 0.1``: the largest units carry nearly all the probability. Nats."""
    return kullback_leibler(clean / COLD, perturbed / COLD)


def jensen_shannon(clean: Tensor, perturbed: Tensor) -> Tensor:
    """Jensen–Shannon divergence of ``y/Σy`` and ``y'/Σy'``, nonnegative read-outs as distributions: in ``[0, ln 2]``.

    In place of ``KL(y/Σy ‖ y'/Σy')``, which is infinite as soon as a unit falls silent and does not see one that wakes
    up. A read-out of zeros counts as the uniform distribution.
    """
    p, q = _shares(clean), _shares(perturbed)
    divergence = _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2
    return divergence.clamp_min(0)


def _entropy(p: Tensor) -> Tensor:
    entropy: Tensor = -(p * p.clamp_min(torch.finfo(p.dtype).tiny).log()).sum(-1)  # 0 log 0 is 0
    return entropy


def _shares(y: Tensor) -> Tensor:
    total = y.sum(-1, keepdim=True)
    return torch.where(total > 0, y / torch.where(total > 0, total, 1.0), 1 / y.shape[-1])


def switched(clean: Tensor, perturbed: Tensor) -> Tensor:
    """``Σ Δ_i²`` over the units that go from off to on or from on to off; a unit is on if it is above 0."""
    crossed = (clean > 0) != (perturbed > 0)
    return ((perturbed - clean).square() * crossed).sum(-1)


def switched_on(clean: Tensor, perturbed: Tensor) -> Tensor:
    """``Σ Δ_i²`` over the units that go from off to on."""
    return (perturbed.square() * (clean <= 0)).clamp_min(0).sum(-1)


def largest_change(clean: Tensor, perturbed: Tensor) -> Tensor:
    """``max_i |Δ_i|``."""
    return (perturbed - clean).abs().amax(-1)


def largest_rise(clean: Tensor, perturbed: Tensor) -> Tensor:
    """``max_i Δ_i``, and 0 if every unit falls: what is added, not what is taken away."""
    return (perturbed - clean).amax(-1).clamp_min(0)


def fourth_powers(clean: Tensor, perturbed: Tensor) -> Tensor:
    """``‖Δ‖₄⁴``: the numerator of the concentration."""
    squares = (perturbed - clean).square()
    return squares.square().sum(-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """A distance with its weighting, or the concentration of the effect with its averaging.

    ``power``: the distance is homogeneous of that degree and is divided by ``E‖y‖^power``; 0 for one that is relative
    by itself. ``averaging`` makes it the selective score; ``distance`` then plays no part. ``why``: what the score
    makes of an effect that is spread over many units.
    """

    label: str
    why: str
    distance: Distance = angular_distance
    weighting: Weighting = EVERYWHERE
    power: int = 0
    averaging: Averaging | None = None

    @property
    def probe(self) -> Probe:
        """The engine's probe, with its default law of presence."""
        return Probe(weighting=self.weighting, distance=self.distance)

    def estimate(
        self,
        readout: Readout,
        batch: Batch[Any],
        directions: Tensor,
        generator: torch.Generator,
        draws: int = DRAWS,
    ) -> SensitivityEstimate:
        """Score each row of ``directions [S, d]`` on the contexts of ``batch``, by the engine.

        Raises :class:`~sensverify.errors.InputError` for a selective score of a read-out whose basis means nothing.
        """
        options: dict[str, Any] = {"generator": generator, "draws": draws, "pairs_per_chunk": PAIRS_PER_CHUNK}
        if self.averaging is not None:
            return selectivity.estimate_on(readout, batch, directions, averaging=self.averaging, **options)
        plain = estimate_on(readout, batch, directions, probe=self.probe, **options)
        return dataclasses.replace(
            plain,
            effects=plain.effects / self.unit(readout.clean(batch)),
            configuration={**plain.configuration, "relative_to": f"mean of |y|^{self.power}" if self.power else None},
        )

    def unit(self, clean: Tensor) -> Tensor:
        """``E‖y‖^power`` over the contexts; 1 where no power is needed, or if all of ``clean [B, n]`` is zero."""
        if not self.power:
            return clean.new_ones(())
        size = clean.norm(dim=-1).pow(self.power).mean()
        return torch.where(size > 0, size, torch.ones_like(size))


SCORES: Mapping[str, Score] = {
    "angular": Score(label="angular", why="adds it up: blind to how it is spread"),
    "kl": Score(
        label="KL, temperature 1", why="adds it up, large units counting a little more", distance=kl_temperature_1
    ),
    "kl_cold": Score(label="KL, temperature 0.1", why="the largest units count for nearly all", distance=kl_cold),
    "jensen_shannon": Score(
        label="JS of shares", why="concave in the shares: many small changes count for most", distance=jensen_shannon
    ),
    "inactive_soft": Score(
        label="angular, inactive (soft)", why="adds it up, from presence 0", weighting=Weighting(kind="soft")
    ),
    "inactive_hard": Score(
        label="angular, inactive (hard)", why="adds it up, from presence 0", weighting=Weighting(kind="hard")
    ),
    "switched": Score(label="units that switch", why="killed by a threshold, if any", distance=switched, power=2),
    "switched_on": Score(
        label="units switched on", why="killed by a threshold, if any; no removals", distance=switched_on, power=2
    ),
    "per_unit": Score(label="largest change", why="only one unit counts", distance=largest_change, power=1),
    "per_unit_rise": Score(
        label="largest rise", why="only one unit counts; no removals", distance=largest_rise, power=1
    ),
    "peak": Score(label="fourth powers", why="large changes count for nearly all", distance=fourth_powers, power=4),
    "selective": Score(label="selective, by effect", why="lowers the score, as 1/n", averaging="effects"),
    "selective_contexts": Score(label="selective, by context", why="lowers the score, as 1/n", averaging="contexts"),
}
"""Every score by its name; angular is the published one."""


@torch.no_grad()
def estimate_all(
    readout: Readout,
    batch: Batch[Any],
    directions: Tensor,
    generator: torch.Generator,
    names: Iterable[str] = tuple(SCORES),
    draws: int = DRAWS,
) -> dict[str, Tensor]:
    """The means ``[S]`` of several scores at the cost of few: the read-out is computed once per draw, not per score.

    What :meth:`Score.estimate` gives for each name with a generator in the same state, up to rounding. NaN where no
    context has any weight.
    """
    wanted = {name: SCORES[name] for name in names}
    selective = any(score.averaging is not None for score in wanted.values())
    if selective:
        selectivity.check_privileged(readout)
    clean = readout.clean(batch)
    alphas = Probe().law.stratified(draws, len(batch), generator).to(batch.x)
    distances = {score.distance for score in wanted.values() if score.averaging is None}
    means: dict[str, list[Tensor]] = {name: [] for name in wanted}
    for chunk in torch.split(directions, max(1, PAIRS_PER_CHUNK // len(batch))):
        moved = [readout.read(batch, set_presence(batch.x, chunk, alpha, readout.centring)) for alpha in alphas]
        effects = {distance: sum(distance(clean, y) for y in moved) / draws for distance in distances}
        drawn = [concentrations(clean, y) for y in moved] if selective else []
        rho = presence(batch.x, chunk, readout.centring)
        for name, score in wanted.items():
            if score.averaging is None:
                weights = score.weighting.weights(rho)
                mean = (weights * effects[score.distance]).sum(1) / weights.sum(1) / score.unit(clean)
            else:
                mean = _concentration(drawn, score.averaging)
            means[name].append(mean)
    return {name: torch.cat(parts) for name, parts in means.items()}


def _concentration(drawn: list[Concentrations], averaging: Averaging) -> Tensor:
    """Weighted mean over draws and contexts together."""
    found = Concentrations(
        values=torch.cat([one.values for one in drawn], 1), sizes=torch.cat([one.sizes for one in drawn], 1)
    )
    weights = found.weights(averaging)
    return (weights * found.values).sum(1) / weights.sum(1)
