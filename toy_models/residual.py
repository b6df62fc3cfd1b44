"""A small residual network with two LayerNorms that has to use its block: sizes of features kept in superposition.

    ``h = Wx``,   ``F(h) = h + W₂ ReLU(W₁ LN(h) + b₁) + b₂``,   ``y = U LN(F(h)) + c``

``x [n]`` is signed: one feature, drawn uniformly, is always active, each other one with probability ``p``; their sizes
are uniform on ``(1/4, 1)``. The target is ``|x|/‖x‖``: a norm hides the scale, so the scale is not asked for. Without
the block ``y`` is linear in a norm's output and odd in ``x`` but for ``c``, the target is even: next to nothing can be
learnt. That the block is used is seen in the loss, beside that of the same network trained without it.

LayerNorm is :func:`sensverify.formulas.layer_norm`, the function that the proofs are about; its gain and shift would
fold into ``W₁`` and ``U`` (claim LN-8) and are left out. Trained by Adam, all seeds at once as batched products, each
seed with draws of its own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sensverify import formulas
from sensverify.claims import Progress, silent
from sensverify.geometry import Centring, unit_directions
from sensverify.readout import Batch

EPSILON = 1e-5
"""LayerNorm's ``ε`` in training, that of ``torch.nn.LayerNorm``."""
LEAST = 0.25
"""The least size of an active feature: tiny activations would be ruled by ``ε``."""
EVALUATION_ROWS = 4096
NAMES = ("write", "first", "first_bias", "second", "second_bias", "read", "read_bias")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualConfig:
    """``n`` signed features in ``d`` dimensions, a block with ``hidden`` units, and how the network is trained.

    ``block=False``: the same network without the block, ``F(h) = h``.
    """

    features: int = 24
    width: int = 20
    hidden: int = 96
    density: float = 0.03
    steps: int = 700
    batch: int = 128
    learning_rate: float = 1e-2
    block: bool = True

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualModel:
    """Trained weights, and the loss on fresh data beside that of answering 0.

    ``write W [d, n]``, ``first W₁ [m, d]``, ``first_bias [m]``, ``second W₂ [d, m]``, ``second_bias [d]``,
    ``read U [n, d]``, ``read_bias [n]``. ``epsilon`` may be set to another value than in training.
    """

    config: ResidualConfig
    seed: int
    write: Tensor
    first: Tensor
    first_bias: Tensor
    second: Tensor
    second_bias: Tensor
    read: Tensor
    read_bias: Tensor
    loss: float
    loss_of_zero: float
    epsilon: float = EPSILON

    def norm(self, h: Tensor) -> Tensor:
        """``LN(h)``, either of the two: ``[..., d] -> [..., d]``."""
        normed: Tensor = formulas.layer_norm(h, self.epsilon)
        return normed

    def hidden(self, normed: Tensor) -> Tensor:
        """``ReLU(W₁z + b₁)`` from a norm's output: ``[..., d] -> [..., m]``."""
        return torch.relu(normed @ self.first.T + self.first_bias)

    def update(self, normed: Tensor) -> Tensor:
        """What the block adds, ``f(z) = W₂ ReLU(W₁z + b₁) + b₂``: ``[..., d] -> [..., d]``."""
        return self.hidden(normed) @ self.second.T + self.second_bias

    def stream(self, h: Tensor) -> Tensor:
        """``F(h) = h + f(LN(h))``, the residual stream behind the block; ``h`` itself in a network without one."""
        return h + self.update(self.norm(h)) if self.config.block else h

    def answer(self, h: Tensor) -> Tensor:
        """``y = U LN(F(h)) + c``: ``[..., d] -> [..., n]``."""
        return self.norm(self.stream(h)) @ self.read.T + self.read_bias

    def to(self, dtype: torch.dtype, epsilon: float | None = None) -> ResidualModel:
        """The same weights in another precision, and if given another ``ε``."""
        weights = {name: getattr(self, name).to(dtype) for name in NAMES}
        moved = assemble(self.config, self.seed, weights, self.loss, self.loss_of_zero)
        return dataclasses.replace(moved, epsilon=self.epsilon if epsilon is None else epsilon)

    @property
    def feature_directions(self) -> Tensor:
        """``[n, d]``: centred unit columns of ``W``. Their negatives are features too, those of negative values."""
        return unit_directions(self.write.T, Centring.MEAN)


def draw(config: ResidualConfig, count: int, generator: torch.Generator) -> Tensor:
    """Inputs ``x [count, n]``, never zero."""
    active = torch.rand(count, config.features, generator=generator) < config.density
    always = torch.randint(config.features, (count, 1), generator=generator)
    uniform = 2 * torch.rand(count, config.features, generator=generator) - 1
    values = uniform.sign() * (LEAST + (1 - LEAST) * uniform.abs())
    return values * active.scatter(1, always, True)


def target(x: Tensor) -> Tensor:
    """``|x|/‖x‖``."""
    share: Tensor = x.abs() / x.norm(dim=-1, keepdim=True)
    return share


def train(config: ResidualConfig, seeds: Sequence[int], progress: Progress = silent) -> list[ResidualModel]:
    """One network per seed; the same bits again for the same seeds on the same machine."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    parameters = _start(config, generators)
    optimiser = torch.optim.Adam(parameters.values(), lr=config.learning_rate, fused=True)
    for step in range(config.steps):
        x = torch.stack([draw(config, config.batch, generator) for generator in generators])
        optimiser.zero_grad()
        with torch.enable_grad():
            torch.autograd.backward(_losses(config, parameters, x).sum())
        rate = 0.5 * (1 + math.cos(math.pi * step / config.steps))
        optimiser.param_groups[0]["lr"] = config.learning_rate * rate
        optimiser.step()
        progress(f"training {len(seeds)} residual networks", step + 1, config.steps)
    with torch.no_grad():
        x = torch.stack([draw(config, EVALUATION_ROWS, generator) for generator in generators])
        losses = _losses(config, parameters, x).tolist()
        zeros = target(x).square().sum(-1).mean(-1).tolist()
    models = []
    for m, seed in enumerate(seeds):
        weights = {name: parameters[name].detach()[m].clone().reshape(shape) for name, shape in _shape(config).items()}
        models.append(assemble(config, seed, weights, losses[m], zeros[m]))
    return models


def assemble(
    config: ResidualConfig, seed: int, weights: Mapping[str, Tensor], loss: float, loss_of_zero: float
) -> ResidualModel:
    """A model from its tensors by name, as in :data:`NAMES`."""
    write, first, first_bias, second, second_bias, read, read_bias = (weights[name] for name in NAMES)
    return ResidualModel(
        config=config,
        seed=seed,
        write=write,
        first=first,
        first_bias=first_bias,
        second=second,
        second_bias=second_bias,
        read=read,
        read_bias=read_bias,
        loss=loss,
        loss_of_zero=loss_of_zero,
    )


def _shape(config: ResidualConfig) -> dict[str, tuple[int, ...]]:
    n, d, m = config.features, config.width, config.hidden
    return dict(zip(NAMES, ((d, n), (m, d), (m,), (d, m), (d,), (n, d), (n,)), strict=True))


def _start(config: ResidualConfig, generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
    """``[M, ...]``: unit columns in ``W``, normal ``W₁`` and ``W₂`` with variance one over the fan-in, biases 0.

    ``U = Wᵀ/√d`` to begin with: each unit reads its own feature from a norm's output, whose length is ``√d``. Biases
    are kept as ``[M, 1, size]``, so that they add to batches.
    """
    shapes = _shape(config)

    def normal(name: str) -> Tensor:
        return torch.stack([torch.randn(*shapes[name], generator=generator) for generator in generators])

    write = torch.nn.functional.normalize(normal("write"), dim=1)
    first, second = (normal(name) / math.sqrt(shapes[name][1]) for name in ("first", "second"))
    weights = {"write": write, "first": first, "second": second, "read": write.mT / math.sqrt(config.width)}
    biases = {name: torch.zeros(len(generators), 1, *shape) for name, shape in shapes.items() if len(shape) == 1}
    return {name: value.clone().requires_grad_() for name, value in {**weights, **biases}.items()}


def _losses(config: ResidualConfig, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Mean squared error of each network, ``[M]``, on ``x [M, B, n]``."""

    def linear(z: Tensor, name: str) -> Tensor:
        return torch.baddbmm(parameters[f"{name}_bias"], z, parameters[name].transpose(1, 2))

    h = torch.bmm(x, parameters["write"].transpose(1, 2))
    if config.block:
        h = h + linear(torch.relu(linear(formulas.layer_norm(h, EPSILON), "first")), "second")
    y = linear(formulas.layer_norm(h, EPSILON), "read")
    return (y - target(x)).square().sum(-1).mean(-1)


class ResidualReadout:
    """The trained network as a read-out: intervene on ``h``, measure ``y``; no norm sees the mean of ``h``."""

    def __init__(self, model: ResidualModel) -> None:
        self.model = model

    @property
    def width(self) -> int:
        """``d``."""
        return self.model.config.width

    @property
    def centring(self) -> Centring:
        """Whatever reads ``h`` does so through a LayerNorm; the residual passes the mean on to the next one."""
        return Centring.MEAN

    @property
    def device(self) -> torch.device:
        """Toys live on the CPU."""
        return torch.device("cpu")

    @property
    def privileged(self) -> bool:
        """Each unit reads the size of one feature."""
        return True

    def sample(self, count: int, generator: torch.Generator) -> Batch[None]:
        """``h [count, d]`` of fresh inputs."""
        return Batch(draw(self.model.config, count, generator).to(self.model.write) @ self.model.write.T, None)

    def clean(self, batch: Batch[None]) -> Tensor:
        """``[B, n]``."""
        return self.model.answer(batch.x)

    def read(self, batch: Batch[None], x: Tensor) -> Tensor:
        """``[S, B, n]`` from ``x [S, B, d]``."""
        return self.model.answer(x)

    def describe(self) -> Mapping[str, Any]:
        """Configuration, seed, and the loss reached."""
        model = self.model
        return {**model.config.to_json(), "seed": model.seed, "loss": model.loss, "loss_of_zero": model.loss_of_zero}
