"""The ReLU superposition model: more features than dimensions, and the truth known.

``h = Wx`` squeezes ``n`` features into ``d`` dimensions; ``ReLU(Wᵀh + b)`` reads them back; ``W`` and ``b`` are trained
on squared error. Feature ``i`` is active with probability ``p`` and then uniform on ``(0, 1)``. The true features are
the unit columns of ``W``. Source: Elhage et al. 2022, *Toy Models of Superposition*. Families of it, by the fields of
:class:`~toy_models.features.SuperpositionConfig`:

**Importance and correlation** change what is worth representing and what interferes with what.

**Signed features** take both signs. A ReLU cannot say −0.3, so each feature is read by two units, ``ReLU(Wᵀh + b)`` and
``ReLU(−Wᵀh + b)``, for its positive and its negative part. The features stay the ``n`` columns.

**A norm** between writing and reading: ``ReLU(Wᵀu + b)`` with ``u = Ph/‖Ph‖``. For ``"layer"`` ``P`` takes the mean
off, for ``"rms"`` it is the identity: LayerNorm and RMSNorm at ``ε = 0`` with the constant gain ``1/√d``, for the
length of the columns already is a gain. No read-out behind a norm can tell ``x`` from ``kx``, ``k > 0``; so the target
is what is left, ``x/‖x‖``. Features that a norm can see are the centred columns, at unit length.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sensverify.claims import Progress, silent
from sensverify.errors import InputError
from sensverify.geometry import Centring
from sensverify.planes import combine
from sensverify.readout import Batch
from toy_models.features import SuperpositionConfig, draw_features, draw_nonempty
from toy_models.training import TINY, fit, normed, shape_of, units_of

__all__ = [
    "REPRESENTED_NORM",
    "SuperpositionConfig",
    "SuperpositionModel",
    "SuperpositionReadout",
    "draw_features",
    "train",
    "train_all",
    "train_grid",
]

REPRESENTED_NORM = 0.5
"""A column of ``W`` shorter than this is a feature that the model gave up; trained ones cluster near 0 and 1."""

NEARLY_ZERO = 1e-3
"""An activation shorter than this, relative to the shortest feature, has no direction worth the name."""

AT_ONCE = 2**21
"""How many units, over all models and rows of a batch, are trained at once: more would not fit a processor's cache."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuperpositionModel:
    """Trained ``weights W [d, n]`` and ``bias b [n]``, with the loss it reached on fresh data.

    ``loss_change`` is the part of the final loss by which it still fell during the last tenth of training. A model that
    somebody ``planted`` instead may read with other weights than it writes with (``reading [d, n]``), and all its
    features count as represented, however weakly they are written.
    """

    config: SuperpositionConfig
    seed: int
    weights: Tensor
    bias: Tensor
    loss: float
    loss_of_zero: float
    loss_change: float = math.nan
    reading: Tensor | None = None
    planted: bool = False

    @property
    def centring(self) -> Centring:
        """What the norm, if there is one, cannot see."""
        return Centring.MEAN if self.config.norm == "layer" else Centring.NONE

    @property
    def columns(self) -> Tensor:
        """``[n, d]``: what each feature writes, as far as it can be seen."""
        return self.centring.project(self.weights.T)

    @property
    def represented(self) -> Tensor:
        """Which features have a direction at all, ``[n]``."""
        return _lengths(self.columns) > (0 if self.planted else REPRESENTED_NORM)

    @property
    def feature_directions(self) -> Tensor:
        """Unit directions ``[n', d]`` of the represented features."""
        columns = self.columns[self.represented]
        return columns / _lengths(columns)[:, None]

    def write(self, x: Tensor) -> Tensor:
        """``h = Wx``: ``[..., n] -> [..., d]``."""
        hidden: Tensor = x @ self.weights.T
        return hidden

    def read(self, hidden: Tensor) -> Tensor:
        """``ReLU(Wᵀu + b)``, ``u`` being ``h`` behind the norm; twice if signed: ``[..., d] -> [..., units]``."""
        return units_of(self.see(hidden), self.bias, signed=self.config.signed)

    def see(self, hidden: Tensor) -> Tensor:
        """``Wᵀu``, what the units' weights see: ``[..., d] -> [..., n]``."""
        seen: Tensor = normed(self.config, hidden) @ self.reads
        return seen

    @property
    def reads(self) -> Tensor:
        """``[d, n]``: the weights it reads with."""
        return self.weights if self.reading is None else self.reading


def _lengths(rows: Tensor) -> Tensor:
    lengths: Tensor = rows.norm(dim=1)
    return lengths


def train(config: SuperpositionConfig, seed: int, progress: Progress = silent) -> SuperpositionModel:
    """Train with Adam under a cosine schedule; the same seed gives the same weights on the same machine."""
    return train_all(config, [seed], progress)[0]


def train_all(
    config: SuperpositionConfig, seeds: Sequence[int], progress: Progress = silent
) -> list[SuperpositionModel]:
    """One model per seed, trained at once. A seed's draws do not depend on which others are trained with it."""
    return train_grid([(config, seed) for seed in seeds], progress)


def train_grid(
    pairs: Sequence[tuple[SuperpositionConfig, int]], progress: Progress = silent
) -> list[SuperpositionModel]:
    """One model per (configuration, seed), in that order; those of one shape are trained at once."""
    models: dict[int, SuperpositionModel] = {}
    for chunk in chunks(pairs):
        fits = fit([pairs[i] for i in chunk], progress)
        for i, found in zip(chunk, fits, strict=True):
            config, seed = pairs[i]
            models[i] = SuperpositionModel(
                config=config,
                seed=seed,
                weights=found.weights,
                bias=found.bias,
                loss=found.loss,
                loss_of_zero=found.loss_of_zero,
                loss_change=found.change,
            )
    return [models[i] for i in range(len(pairs))]


def chunks(pairs: Sequence[tuple[SuperpositionConfig, int]]) -> list[list[int]]:
    """Which of ``pairs``, by position, are trained at once: equal in shape and not too many."""
    groups: dict[object, list[int]] = {}
    for i, (config, _) in enumerate(pairs):
        groups.setdefault(shape_of(config), []).append(i)
    answer = []
    for group in groups.values():
        config = pairs[group[0]][0]
        size = max(1, AT_ONCE // (config.batch * config.units))
        answer += [group[start : start + size] for start in range(0, len(group), size)]
    return answer


class SuperpositionReadout:
    """The trained toy as a read-out: intervene on ``h``, measure ``ReLU(Wᵀh + b)``.

    A batch's ``state`` are the inputs ``x [B, n]`` behind its activations: which features are active is known.
    """

    def __init__(self, model: SuperpositionModel) -> None:
        self.model = model

    @property
    def width(self) -> int:
        """``d``."""
        return self.model.config.width

    @property
    def centring(self) -> Centring:
        """Without a norm, and behind an RMSNorm, no direction is invisible."""
        return self.model.centring

    @property
    def device(self) -> torch.device:
        """Toys live on the CPU."""
        return torch.device("cpu")

    @property
    def privileged(self) -> bool:
        """Each unit reads one feature."""
        return True

    @functools.cached_property
    def _shortest(self) -> float:
        """Activations that are no longer than this count as zero."""
        lengths, represented = _lengths(self.model.columns), self.model.represented
        shortest = NEARLY_ZERO * float(lengths[represented].min() if represented.any() else lengths.max())
        if not shortest > 0:
            raise InputError(expected="features that are written", got="zeros alone", remedy="train or plant a model")
        return shortest

    def sample(self, count: int, generator: torch.Generator) -> Batch[Tensor]:
        """Hidden activations of ``count`` inputs with at least one active feature: a zero has no presence."""
        model, shortest = self.model, self._shortest
        kept: list[Tensor] = []
        while sum(map(len, kept)) < count:
            x = draw_nonempty(model.config, count, generator)
            kept.append(x[model.centring.project(model.write(x)).norm(dim=1) > shortest])
        inputs = torch.cat(kept)[:count]
        return Batch(model.write(inputs), inputs)

    def clean(self, batch: Batch[Any]) -> Tensor:
        """``[B, units]``."""
        return self.of_seen(self.model.see(batch.x))

    def read(self, batch: Batch[Any], x: Tensor) -> Tensor:
        """``[S, B, units]`` from ``x [S, B, d]``."""
        return self.of_seen(self.model.see(x))

    def read_plane(self, batch: Batch[Any], directions: Tensor, along: Tensor, across: Tensor) -> Tensor:
        """``[S, B, units]``; behind a norm ``Px`` has length 1, whatever the intervention."""
        model, x = self.model, self.centring.project(batch.x)
        if model.config.norm != "none":
            gain = 1 / x.norm(dim=1).clamp_min(TINY)
            along, across = along * gain, across * gain
        return self.of_seen(combine(directions @ model.reads, x @ model.reads, along, across))

    def read_pairs(self, batch: Batch[Any], contexts: Tensor, x: Tensor) -> Tensor:
        """``[N, units]`` from ``x [N, d]``, in whatever contexts."""
        return self.read(batch, x)

    def of_seen(self, seen: Tensor) -> Tensor:
        """The units ``[..., units]`` of what their weights see, ``Wᵀu [..., n]``."""
        return units_of(seen, self.model.bias, signed=self.model.config.signed)

    def describe(self) -> Mapping[str, Any]:
        """Configuration, seed, the loss reached and whether it still fell."""
        model = self.model
        figures = {"loss": model.loss, "loss_of_zero": model.loss_of_zero, "loss_change": model.loss_change}
        return {
            **model.config.to_json(),
            "seed": model.seed,
            **{name: value if math.isfinite(value) else None for name, value in figures.items()},
            "represented": int(model.represented.sum()),
        }
