"""Sparse autoencoders, the usual way to find features, as a baseline for searches by sensitivity.

``f(x) = σ(W_enc (x − b_dec) + b_enc)``, ``x̂ = b_dec + W_decᵀ f(x)``: the decoder's bias is also taken off before the
encoder. Two ways to keep ``f`` sparse:

- :class:`TopK`: ReLU, then all but the ``k`` largest latents of a row are set to 0 (Gao et al. 2024, *Scaling and
  evaluating sparse autoencoders*).
- :class:`Penalty`: ReLU, and the sum of the latents is added to the loss (Bricken et al. 2023, *Towards
  Monosemanticity*).

Decoder rows are unit vectors: the gradient's radial part is removed, Adam steps, and rows are normalised again.

Dead latents are *resampled*, with no auxiliary loss: at regular times in the first part of training, a latent that has
not fired since the last time is aimed at what the autoencoder leaves out of one row, drawn with probability
proportional to the squared error; its share of Adam's memory is cleared.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from sensverify.claims import Progress, silent
from sensverify.errors import InputError
from sensverify.geometry import tangent

RESAMPLED_ENCODER_NORM = 0.5
"""Length of a resampled latent's encoder row: short enough that it does not at once outweigh the latents that live."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TopK:
    """At most ``active`` latents fire on a row."""

    active: int

    def apply(self, preactivations: Tensor) -> Tensor:
        """``[B, K] -> [B, K]``: the ``active`` largest, as far as they are positive; the others 0."""
        largest = preactivations.topk(min(self.active, preactivations.shape[1]), dim=1)
        kept = torch.zeros_like(preactivations).scatter(1, largest.indices, largest.values)
        return torch.relu(kept)

    def penalty(self, latents: Tensor) -> Tensor:
        """None: sparsity is exact."""
        return latents.new_zeros(())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Penalty:
    """ReLU latents with ``strength · Σ f`` in the loss; activations are scaled to variance 1 (see ``Autoencoder``)."""

    strength: float

    def apply(self, preactivations: Tensor) -> Tensor:
        """``[B, K] -> [B, K]``."""
        return torch.relu(preactivations)

    def penalty(self, latents: Tensor) -> Tensor:
        """Mean over rows of the ℓ1 norm; decoder rows are unit vectors, so it cannot be evaded by scaling."""
        return self.strength * latents.sum(1).mean()


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderOptions:
    """What is trained and how. The learning rate falls linearly to 0 over the last fifth of the ``steps``.

    Dead latents are resampled every ``resample_every`` steps during the first ``resample_until`` of all steps.
    """

    latents: int
    sparsity: TopK | Penalty
    steps: int = 2000
    batch: int = 256
    learning_rate: float = 3e-3
    resample_every: int = 100
    resample_until: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        numbers = {name: getattr(self, name) for name in ("latents", "steps", "batch", "resample_every")}
        if isinstance(self.sparsity, TopK):
            numbers["active"] = self.sparsity.active
            if self.sparsity.active > self.latents:
                _refuse(f"at most {self.latents} active latents, as many as there are", self.sparsity.active)
        elif not 0 <= self.sparsity.strength < float("inf"):
            _refuse("a penalty's strength of at least 0", self.sparsity.strength)
        for name, number in numbers.items():
            if number < 1:
                _refuse(f"{name} of at least 1", number)
        if not 0 < self.learning_rate < float("inf"):
            _refuse("a positive learning rate", self.learning_rate)
        if not 0 <= self.resample_until <= 1:
            _refuse("resample_until as a share of all steps, from 0 to 1", self.resample_until)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for a result's configuration."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "sparsity": {"kind": type(self.sparsity).__name__, **dataclasses.asdict(self.sparsity)}}


def _refuse(expected: str, got: object) -> None:
    raise InputError(expected=expected, got=repr(got), remedy="change the autoencoder's options")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Autoencoder:
    """Trained ``encoder [K, d]``, ``encoder_bias [K]``, ``decoder [K, d]`` (unit rows), ``decoder_bias [d]``.

    They act on activations divided by ``scale``, the root of the total variance of the training data: a loss of 1 is
    that of predicting the mean. ``history``: the loss of every step, on its batch. The rest is on all training data:
    ``loss`` with the penalty; ``variance_explained``; ``dead_share`` of latents that never fire; ``mean_active``
    latents per row.
    """

    options: AutoencoderOptions
    encoder: Tensor
    encoder_bias: Tensor
    decoder: Tensor
    decoder_bias: Tensor
    scale: float
    history: tuple[float, ...]
    loss: float
    variance_explained: float
    dead_share: float
    mean_active: float

    @property
    def directions(self) -> Tensor:
        """The decoder's unit rows, ``[K, d]``; signed, since latents are never negative."""
        return self.decoder

    def encode(self, x: Tensor) -> Tensor:
        """``[B, d] -> [B, K]``."""
        centred = x.to(self.decoder) / self.scale - self.decoder_bias
        return self.options.sparsity.apply(centred @ self.encoder.T + self.encoder_bias)

    def decode(self, latents: Tensor) -> Tensor:
        """``[B, K] -> [B, d]``."""
        return self.scale * (latents @ self.decoder + self.decoder_bias)


def train_autoencoder(x: Tensor, options: AutoencoderOptions, progress: Progress = silent) -> Autoencoder:
    """Train on activations ``x [N, d]`` in float32; the same seed gives the same bits on the same machine.

    Raises :class:`~sensverify.errors.InputError` for activations that are not a table of at least two finite rows, or
    that are all alike.
    """
    check_activations(x)
    x = x.detach().float()
    scale = float((x - x.mean(0)).square().sum(1).mean().sqrt())
    training = _Training(x / scale, options)
    history = []
    for step in range(options.steps):
        history.append(training.step(step))
        progress(f"training autoencoder, seed {options.seed}", step + 1, options.steps)
    return training.finish(scale, tuple(history))


def check_activations(x: Tensor) -> None:
    """Raise :class:`~sensverify.errors.InputError` unless ``x`` is ``[N, d]``, ``N ≥ 2``, finite and not constant."""
    problem = None
    if x.ndim != 2 or x.shape[0] < 2 or x.shape[1] < 1:
        problem = f"shape {tuple(x.shape)}"
    elif not x.is_floating_point():
        problem = f"dtype {x.dtype}"
    elif not bool(torch.isfinite(x).all()):
        problem = "NaN or infinity among them"
    elif bool((x == x[0]).all()):
        problem = "rows that are all alike"
    if problem:
        raise InputError(
            expected="finite activations [N, d] in floating point, with at least two different rows",
            got=problem,
            remedy="draw more contexts, and drop those that are not finite",
        )


class _Training:
    """Parameters, optimiser and what must be remembered between steps."""

    def __init__(self, x: Tensor, options: AutoencoderOptions) -> None:
        self.x, self.options = x, options
        self.generator = torch.Generator(device=x.device).manual_seed(options.seed)
        directions = torch.randn(options.latents, x.shape[1], generator=self.generator, device=x.device)
        directions = torch.nn.functional.normalize(directions)
        self.decoder = directions.clone().requires_grad_()
        self.encoder = directions.clone().requires_grad_()  # the transpose, so that latents mean something at once
        self.encoder_bias = torch.zeros(options.latents, device=x.device, requires_grad=True)
        self.decoder_bias = x.mean(0).clone().requires_grad_()
        self.parameters = [self.encoder, self.encoder_bias, self.decoder, self.decoder_bias]
        self.optimiser = torch.optim.Adam(self.parameters, lr=options.learning_rate, fused=True)
        self.fired = torch.zeros(options.latents, dtype=torch.bool, device=x.device)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(latents [B, K], error x − x̂ [B, d])``."""
        pre = (x - self.decoder_bias) @ self.encoder.T + self.encoder_bias
        latents = self.options.sparsity.apply(pre)
        return latents, x - latents @ self.decoder - self.decoder_bias

    def step(self, step: int) -> float:
        """One step of Adam on a fresh batch; returns the loss before it."""
        options = self.options
        rows = torch.randint(len(self.x), (options.batch,), generator=self.generator, device=self.x.device)
        latents, error = self.forward(self.x[rows])
        loss = error.square().sum(1).mean() + options.sparsity.penalty(latents)
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        self.set_rate(step)
        self.keep_decoder_gradient_tangent()
        self.optimiser.step()
        with torch.no_grad():
            self.decoder.copy_(torch.nn.functional.normalize(self.decoder))
            self.fired |= (latents > 0).any(0)
        if (step + 1) % options.resample_every == 0:
            if step + 1 <= options.resample_until * options.steps:
                self.resample(~self.fired)
            self.fired.zero_()
        return float(loss.detach())

    def set_rate(self, step: int) -> None:
        """Constant, then linearly to 0 over the last fifth."""
        share_left = 1 - step / self.options.steps
        self.optimiser.param_groups[0]["lr"] = self.options.learning_rate * min(1.0, 5 * share_left)

    def keep_decoder_gradient_tangent(self) -> None:
        """A radial step would be undone by normalising, but Adam would remember it."""
        assert self.decoder.grad is not None
        self.decoder.grad.copy_(tangent(self.decoder.detach(), self.decoder.grad))

    @torch.no_grad()
    def resample(self, dead: Tensor) -> None:
        """Aim the latents marked in ``dead [K]`` at what is left out of rows that are explained badly."""
        count = int(dead.sum())
        if not count:
            return
        rows = torch.randint(len(self.x), (min(len(self.x), 4096),), generator=self.generator, device=self.x.device)
        _, error = self.forward(self.x[rows])
        squared = error.square().sum(1)
        if float(squared.max()) == 0:
            return  # nothing is left out
        chosen = torch.multinomial(squared, count, replacement=True, generator=self.generator)
        aims = torch.nn.functional.normalize(error[chosen])
        self.decoder[dead] = aims
        self.encoder[dead] = RESAMPLED_ENCODER_NORM * aims
        self.encoder_bias[dead] = 0.0
        for parameter in (self.encoder, self.encoder_bias, self.decoder):
            for moment in ("exp_avg", "exp_avg_sq"):
                self.optimiser.state[parameter][moment][dead] = 0.0

    @torch.no_grad()
    def finish(self, scale: float, history: tuple[float, ...]) -> Autoencoder:
        """Measure on all the data and freeze."""
        squared, penalty, active = 0.0, 0.0, 0.0
        fires = torch.zeros_like(self.fired)
        for rows in torch.split(self.x, 8192):
            latents, error = self.forward(rows)
            squared += float(error.square().sum())
            penalty += float(self.options.sparsity.penalty(latents)) * len(rows)
            active += float((latents > 0).sum())
            fires |= (latents > 0).any(0)
        total = float((self.x - self.x.mean(0)).square().sum())
        return Autoencoder(
            options=self.options,
            encoder=self.encoder.detach(),
            encoder_bias=self.encoder_bias.detach(),
            decoder=self.decoder.detach(),
            decoder_bias=self.decoder_bias.detach(),
            scale=scale,
            history=history,
            loss=(squared + penalty) / len(self.x),
            variance_explained=1 - squared / total,
            dead_share=float((~fires).double().mean()),
            mean_active=active / len(self.x),
        )
