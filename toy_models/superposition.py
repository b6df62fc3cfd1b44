"""The ReLU superposition model: more features than dimensions, and the truth known.

``h = Wx`` squeezes ``n`` features into ``d`` dimensions; ``ReLU(Wᵀh + b)`` reads them back; ``W`` and ``b`` are trained
on squared error. Feature ``i`` is active with probability ``p`` and then uniform on ``(0, 1)``. The true features are
the unit columns of ``W``. Source: Elhage et al. 2022, *Toy Models of Superposition*.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sensverify.claims import Progress, silent
from sensverify.geometry import Centring
from sensverify.readout import Batch

REPRESENTED_NORM = 0.5
"""A column of ``W`` shorter than this is a feature that the model gave up; trained ones cluster near 0 and 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuperpositionConfig:
    """``n`` features in ``d`` dimensions at density ``p``, and how the model is trained."""

    features: int = 512
    width: int = 128
    density: float = 0.01
    steps: int = 1500
    batch: int = 512
    learning_rate: float = 5e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuperpositionModel:
    """Trained ``weights W [d, n]`` and ``bias b [n]``, with the loss it reached on fresh data."""

    config: SuperpositionConfig
    seed: int
    weights: Tensor
    bias: Tensor
    loss: float
    loss_of_zero: float

    @property
    def represented(self) -> Tensor:
        """Which features have a direction at all, ``[n]``."""
        return self.weights.norm(dim=0) > REPRESENTED_NORM

    @property
    def feature_directions(self) -> Tensor:
        """Unit directions ``[n', d]`` of the represented features."""
        kept = self.weights.T[self.represented]
        return torch.nn.functional.normalize(kept)

    def read(self, hidden: Tensor) -> Tensor:
        """``ReLU(Wᵀh + b)``: ``[..., d] -> [..., n]``."""
        return torch.relu(hidden @ self.weights + self.bias)


def draw_features(config: SuperpositionConfig, count: int, generator: torch.Generator) -> Tensor:
    """``x [count, n]``: each entry is ``U(0, 1)`` with probability ``p``, else 0."""
    active = torch.rand(count, config.features, generator=generator) < config.density
    return active * torch.rand(count, config.features, generator=generator)


def train(config: SuperpositionConfig, seed: int, progress: Progress = silent) -> SuperpositionModel:
    """Train with Adam under a cosine schedule; the same seed gives the same weights on the same machine."""
    generator = torch.Generator().manual_seed(seed)
    scale = 1 / math.sqrt(config.width)
    weights = (scale * torch.randn(config.width, config.features, generator=generator)).requires_grad_()
    bias = torch.zeros(config.features, requires_grad=True)
    optimiser = torch.optim.Adam([weights, bias], lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    for step in range(config.steps):
        x = draw_features(config, config.batch, generator)
        loss = (torch.relu(x @ weights.T @ weights + bias) - x).square().sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        progress(f"training toy model, seed {seed}", step + 1, config.steps)
    with torch.no_grad():
        x = draw_features(config, 8192, generator)
        final = (torch.relu(x @ weights.T @ weights + bias) - x).square().sum(1).mean()
        zero = x.square().sum(1).mean()
    return SuperpositionModel(
        config=config,
        seed=seed,
        weights=weights.detach(),
        bias=bias.detach(),
        loss=float(final),
        loss_of_zero=float(zero),
    )


class SuperpositionReadout:
    """The trained toy as a read-out: intervene on ``h``, measure ``ReLU(Wᵀh + b)``. There is no norm to centre for."""

    def __init__(self, model: SuperpositionModel) -> None:
        self.model = model

    @property
    def width(self) -> int:
        """``d``."""
        return self.model.config.width

    @property
    def centring(self) -> Centring:
        """No norm, so nothing is invisible."""
        return Centring.NONE

    @property
    def device(self) -> torch.device:
        """Toys live on the CPU."""
        return torch.device("cpu")

    @property
    def privileged(self) -> bool:
        """Each unit reads one feature."""
        return True

    def sample(self, count: int, generator: torch.Generator) -> Batch[None]:
        """Hidden activations of ``count`` inputs with at least one active feature: a zero has no presence."""
        kept: list[Tensor] = []
        while sum(map(len, kept)) < count:
            hidden = draw_features(self.model.config, count, generator) @ self.model.weights.T
            kept.append(hidden[hidden.norm(dim=1) > 1e-3])
        return Batch(torch.cat(kept)[:count], None)

    def clean(self, batch: Batch[None]) -> Tensor:
        """``[B, n]``."""
        return self.model.read(batch.x)

    def read(self, batch: Batch[None], x: Tensor) -> Tensor:
        """``[S, B, n]`` from ``x [S, B, d]``."""
        return self.model.read(x)

    def describe(self) -> Mapping[str, Any]:
        """Configuration, seed, and the loss reached."""
        model = self.model
        return {
            **dataclasses.asdict(model.config),
            "seed": model.seed,
            "loss": model.loss,
            "loss_of_zero": model.loss_of_zero,
            "represented": int(model.represented.sum()),
        }
