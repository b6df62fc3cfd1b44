"""Training toy models fast: many at once, with the gradient in closed form, computed only where inputs are active.

For inputs ``x [B, n]``, weights ``W [d, n]``, ``h = Wx``, ``r = ReLU(Wᵀh + b)`` and importances ``I`` the loss is
``mean_b Σ_i I_i (r_bi − x_bi)²``. With ``g = (2/B) I (r − x)`` where ``r > 0``, else 0,

    ``∂b = Σ_b g_b``,   ``∂W = hᵀg (reading) + (gWᵀ)ᵀx (writing)``.

Three products of dense matrices are left per step (``Wᵀh``, ``hᵀg``, ``gWᵀ``); ``Wx`` and the product with ``x`` visit
active entries alone while these are few. A norm between writing and reading, ``u = Ph/‖Ph‖``, takes the place of ``h``
where one reads, and ``∂h = P(∂u − u⟨u, ∂u⟩)/‖Ph‖``; its target is ``x/‖x‖`` (why: :mod:`toy_models.superposition`).
Signed features have a second unit, ``ReLU(−Wᵀh + b)``, for their negative part.

Models of one shape are trained at once as one batched product. Each draws from a generator of its own, so that its
inputs do not depend on its companions. Adam; the learning rate falls to 0 along a cosine.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sensverify.claims import Progress, silent
from toy_models.features import SuperpositionConfig, draw_active, draw_features

SPARSE_DENSITY = 0.05
"""Up to this density, sums over active entries are faster than products with dense inputs (measured, one core)."""
EVALUATION_ROWS = 8192
"""Fresh inputs on which a model's final loss is measured."""
DRAWN_AHEAD = 20_000
"""About how many active entries are drawn at a time."""
TINY = 1e-12
BETAS, EPSILON = (0.9, 0.999), 1e-8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """Trained ``weights [d, n]`` and ``bias [n]``; losses on fresh data.

    ``loss_of_zero`` is that of answering 0; ``change`` is by which part of the final loss the loss still fell during
    the last tenth of training, on the same fresh data.
    """

    weights: Tensor
    bias: Tensor
    loss: float
    loss_of_zero: float
    change: float


def shape_of(config: SuperpositionConfig) -> tuple[object, ...]:
    """What models that are trained at once must have in common."""
    sparse = config.density <= SPARSE_DENSITY
    steps = (config.steps, config.batch, config.learning_rate)
    return (config.features, config.width, *steps, config.signed, config.norm, sparse)


def fit(pairs: Sequence[tuple[SuperpositionConfig, int]], progress: Progress = silent) -> list[Fit]:
    """Train one model per (configuration, seed), all of one :func:`shape_of`, at once."""
    assert len({shape_of(config) for config, _ in pairs}) == 1, "models of different shapes are not trained at once"
    steps = pairs[0][0].steps
    training = _Training(pairs)
    before = None
    for step in range(steps):
        if steps // 10 and step == steps - steps // 10:
            before = training.evaluate()
        training.step(step)
        progress(f"training {len(pairs)} toy models", step + 1, steps)
    fits = []
    for m, (loss, zero) in enumerate(training.evaluate()):
        change = (before[m][0] - loss) / max(loss, TINY) if before else math.nan
        weights, bias = training.table[m].T.contiguous(), training.bias[m].clone()
        fits.append(Fit(weights=weights, bias=bias, loss=loss, loss_of_zero=zero, change=change))
    return fits


def read_units(hidden: Tensor, reading: Tensor, bias: Tensor, *, signed: bool) -> Tensor:
    """``ReLU(Rh + b)``, and behind it ``ReLU(−Rh + b)`` if ``signed``: ``[..., d] -> [..., units]``, R ``[n, d]``."""
    return units_of(hidden @ reading.T, bias, signed=signed)


def units_of(seen: Tensor, bias: Tensor, *, signed: bool) -> Tensor:
    """``ReLU(seen + b)``, and behind it ``ReLU(−seen + b)`` if ``signed``: ``[..., n] -> [..., units]``."""
    units = (seen + bias).relu_()
    return torch.cat([units, (bias - seen).relu_()], -1) if signed else units


def targets(config: SuperpositionConfig, x: Tensor) -> Tensor:
    """What the read-out shall say of inputs ``x [B, n]``: ``[B, units]``."""
    if config.norm != "none":
        x = x / x.norm(dim=-1, keepdim=True).clamp_min(TINY)
    return torch.cat([x.clamp_min(0), (-x).clamp_min(0)], -1) if config.signed else x


def normed(config: SuperpositionConfig, hidden: Tensor) -> Tensor:
    """``Ph/‖Ph‖`` behind a norm (``P`` takes the mean off for ``"layer"``), else ``h``: ``[..., d] -> [..., d]``."""
    if config.norm == "none":
        return hidden
    if config.norm == "layer":
        hidden = hidden - hidden.mean(-1, keepdim=True)
    unit: Tensor = hidden / hidden.norm(dim=-1, keepdim=True).clamp_min(TINY)
    return unit


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """Active entries of ``[M, B, n]``: where, ``unit = m·n + i``, ``row = m·B + b``, values and target values."""

    position: Tensor
    unit: Tensor
    row: Tensor
    values: Tensor
    target: Tensor


class _Adam:
    """Adam (Kingma & Ba 2015) on one tensor, in place. torch's own loads its compiler first, which takes seconds."""

    def __init__(self, parameter: Tensor) -> None:
        self.parameter, self.steps = parameter, 0
        self.first, self.second = torch.zeros_like(parameter), torch.zeros_like(parameter)
        self.gradient = torch.zeros_like(parameter)

    def step(self, gradient: Tensor, rate: float) -> None:
        """Move by about ``rate`` against ``gradient``."""
        self.steps, self.gradient = self.steps + 1, gradient
        self.first.lerp_(gradient, 1 - BETAS[0])
        self.second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        corrections = [1 - beta**self.steps for beta in BETAS]
        size = self.second.sqrt().mul_(1 / math.sqrt(corrections[1])).add_(EPSILON)
        self.parameter.addcdiv_(self.first, size, value=-rate / corrections[0])


class _Training:
    """Parameters of ``M`` models: ``table [M, n, d]`` (transposed weights) and ``bias [M, n]``; their optimiser."""

    def __init__(self, pairs: Sequence[tuple[SuperpositionConfig, int]]) -> None:
        self.pairs = pairs
        self.config = config = pairs[0][0]
        self.models, self.features, self.rows = len(pairs), config.features, config.batch
        self.sparse = config.density <= SPARSE_DENSITY
        self.generators = [torch.Generator().manual_seed(seed) for _, seed in pairs]
        start = [torch.randn(config.features, config.width, generator=generator) for generator in self.generators]
        self.table = torch.stack(start) / math.sqrt(config.width)
        self.bias = torch.zeros(self.models, config.features)
        self.optimisers = (_Adam(self.table), _Adam(self.bias))
        self.importance: Tensor | None = None
        if any(one.importance_decay != 1 for one, _ in pairs):
            self.importance = torch.stack([one.importance for one, _ in pairs])[:, None, :]
        self.ahead: list[list[tuple[Tensor, Tensor]]] = [[] for _ in pairs]

    def next_inputs(self) -> _Inputs:
        """One step's inputs of all models."""
        cells = self.rows * self.features
        parts = []
        for m, (ahead, (config, _), generator) in enumerate(zip(self.ahead, self.pairs, self.generators, strict=True)):
            if not ahead:
                ahead.extend(self.draw_ahead(config, generator))
            position, values = ahead.pop()
            parts.append((m * cells + position, values))
        position, values = (torch.cat(part) for part in zip(*parts, strict=True))
        row = position // self.features
        unit = row // self.rows * self.features + position % self.features
        target = values
        if self.config.norm != "none":
            squares = torch.zeros(self.models * self.rows).index_add_(0, row, values.square())
            target = values / squares[row].sqrt().clamp_min(TINY)
        return _Inputs(position, unit, row, values, target)

    def draw_ahead(self, config: SuperpositionConfig, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
        """Inputs of several steps, last first: per step, positions in ``[B, n]`` and values.

        How many depends on the model alone: what it draws is then the same in any company.
        """
        cells = self.rows * self.features
        steps = max(1, min(100, int(DRAWN_AHEAD / (cells * config.density))))
        positions, values = draw_active(config, steps * self.rows, generator)
        ends = torch.searchsorted(positions, cells * torch.arange(1, steps + 1)).tolist()
        starts = [0, *ends[:-1]]
        drawn = [(positions[a:b] - k * cells, values[a:b]) for k, (a, b) in enumerate(zip(starts, ends, strict=True))]
        return drawn[::-1]

    def step(self, step: int) -> None:
        """One step of Adam on fresh inputs."""
        inputs, table = self.next_inputs(), self.table
        dense = None if self.sparse else self.dense(inputs)
        hidden = self.write(inputs) if dense is None else torch.bmm(dense, table)
        length = None
        if self.config.norm != "none":
            if self.config.norm == "layer":
                hidden = hidden - hidden.mean(-1, keepdim=True)
            length = hidden.norm(dim=-1, keepdim=True).clamp_min(TINY)
            hidden = hidden / length
        error, error_of_bias = self.error(hidden, inputs)
        table_grad = torch.bmm(error.transpose(1, 2), hidden)
        hidden_grad = torch.bmm(error, table)
        if length is not None:
            hidden_grad -= hidden * (hidden * hidden_grad).sum(-1, keepdim=True)
            hidden_grad /= length
            if self.config.norm == "layer":
                hidden_grad -= hidden_grad.mean(-1, keepdim=True)
        if dense is None:
            table_grad += self.written(inputs, hidden_grad)
        else:
            table_grad.baddbmm_(dense.transpose(1, 2), hidden_grad)
        rate = self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / self.config.steps))
        for optimiser, gradient in zip(self.optimisers, (table_grad, error_of_bias.sum(1)), strict=True):
            optimiser.step(gradient, rate)

    def error(self, hidden: Tensor, inputs: _Inputs) -> tuple[Tensor, Tensor]:
        """The loss's gradient with respect to what the read-out sees and to the bias, both ``[M, B, n]``."""
        position = inputs.position
        if not self.config.signed:
            error = torch.baddbmm(self.bias[:, None], hidden, self.table.transpose(1, 2)).relu_()
            _take_off(error, position, inputs.target)
            self.weight(error)
            return error, error
        seen = torch.bmm(hidden, self.table.transpose(1, 2))
        positive, negative = (self.bias[:, None] + seen).relu_(), (self.bias[:, None] - seen).relu_()
        _take_off(positive, position, inputs.target.clamp_min(0))
        _take_off(negative, position, (-inputs.target).clamp_min(0))
        self.weight(positive)
        self.weight(negative)
        return positive - negative, positive + negative

    def weight(self, error: Tensor) -> None:
        """Scale in place: importance, and the mean of the square over rows."""
        error *= 2 / self.rows
        if self.importance is not None:
            error *= self.importance

    def write(self, inputs: _Inputs) -> Tensor:
        """``h [M, B, d]``, summed over active entries."""
        starts = torch.searchsorted(inputs.row, torch.arange(self.models * self.rows))
        rows = self.table.view(-1, self.config.width)
        hidden = torch.nn.functional.embedding_bag(
            inputs.unit, rows, starts, mode="sum", per_sample_weights=inputs.values
        )
        return hidden.view(self.models, self.rows, -1)

    def written(self, inputs: _Inputs, hidden_grad: Tensor) -> Tensor:
        """``xᵀ ∂h [M, n, d]``, summed over active entries."""
        unit, order = torch.sort(inputs.unit)
        starts = torch.searchsorted(unit, torch.arange(self.models * self.features))
        rows = hidden_grad.view(-1, self.config.width)
        grad = torch.nn.functional.embedding_bag(
            inputs.row[order], rows, starts, mode="sum", per_sample_weights=inputs.values[order]
        )
        return grad.view(self.models, self.features, -1)

    def dense(self, inputs: _Inputs) -> Tensor:
        """``x [M, B, n]``."""
        x = torch.zeros(self.models * self.rows * self.features)
        x[inputs.position] = inputs.values
        return x.view(self.models, self.rows, self.features)

    def evaluate(self) -> list[tuple[float, float]]:
        """Per model, the loss and the loss of zero on inputs that training never sees; each time the same inputs."""
        losses = []
        for m, (config, seed) in enumerate(self.pairs):
            generator = torch.Generator().manual_seed(seed + 2**40)
            loss = zero = 0.0
            for _ in range(EVALUATION_ROWS // 1024):
                x = draw_features(config, 1024, generator)
                wanted, hidden = targets(config, x), normed(config, x @ self.table[m])
                units = read_units(hidden, self.table[m], self.bias[m], signed=config.signed)
                importance = config.importance.repeat(2) if config.signed else config.importance
                loss += float(((units - wanted).square() @ importance).double().sum())
                zero += float((wanted.square() @ importance).double().sum())
            losses.append((loss / EVALUATION_ROWS, zero / EVALUATION_ROWS))
        return losses


def _take_off(units: Tensor, position: Tensor, values: Tensor) -> None:
    """``r − x`` where ``r > 0``, else 0, in place: only active entries change, a clamped unit has no gradient."""
    flat = units.view(-1)
    read = flat[position]
    flat[position] = read - values * (read > 0)
