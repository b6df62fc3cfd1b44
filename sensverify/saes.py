"""A sparse autoencoder as it was published: what its latents write, and when they fire.

``f(x) = σ(W_enc (n(x) − b_dec) + b_enc)``, ``x̂ = b_dec + W_decᵀ f``. What differs between authors is the sparsity ``σ``
(:class:`Activation`), whether ``b_dec`` is taken off the input, and how activations are normalised on their way in,
``n``. The direction of a latent is its decoder row, signed, since latents are never negative. A latent that fires
nowhere has no direction that means anything: :meth:`Sae.fires` tells which do.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from sensverify.autoencoders import TopK

Normalisation = Literal["none", "layer_norm", "constant_norm_rescale", "expected_average_only_in"]
NORMALISATIONS: tuple[Normalisation, ...] = ("none", "layer_norm", "constant_norm_rescale", "expected_average_only_in")
ROWS_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class Activation:
    """How latents are made sparse.

    - ``relu``: the positive ones.
    - ``topk``: the ``k`` largest, as far as they are positive.
    - ``jumprelu``: those above ``threshold``, one for each latent ``[K]`` or one for all ``[1]``.
    - ``gated``: where ``W_enc x + gate_bias`` is positive, ``relu(exp(r_mag) W_enc x + b_mag)``; then the bias of the
      encoder is ``b_mag``, and ``gate_bias`` and ``log_magnitude`` are ``[K]``.
    """

    kind: Literal["relu", "topk", "jumprelu", "gated"]
    k: int | None = None
    threshold: Tensor | None = None
    gate_bias: Tensor | None = None
    log_magnitude: Tensor | None = None

    def apply(self, linear: Tensor, bias: Tensor) -> Tensor:
        """Latents ``[B, K]`` from ``W_enc x [B, K]`` and the encoder's bias ``[K]``."""
        if self.gate_bias is not None and self.log_magnitude is not None:
            gate = (linear + self.gate_bias) > 0
            return torch.relu(self.log_magnitude.exp() * linear + bias) * gate
        preactivations = linear + bias
        if self.threshold is not None:
            return torch.relu(preactivations) * (preactivations > self.threshold)
        if self.k is not None:
            return TopK(active=self.k).apply(preactivations)
        return torch.relu(preactivations)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sae:
    """``encoder [K, d]``, ``encoder_bias [K]``, ``decoder [K, d]``, ``decoder_bias [d]`` in float32, and the switches.

    ``centred_input``: trained on activations without their mean over coordinates. ``input_scale`` multiplies them, for
    authors who scale by a constant. ``hook`` is where in the model, in the words of its author, ``layer`` the block
    after which that is, None if nothing says so. ``description`` is plain JSON for results.
    """

    encoder: Tensor
    encoder_bias: Tensor
    decoder: Tensor
    decoder_bias: Tensor
    activation: Activation
    bias_off_input: bool
    normalisation: Normalisation = "none"
    centred_input: bool = False
    input_scale: float = 1.0
    hook: str | None = None
    layer: int | None = None
    description: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def width(self) -> int:
        """``d``."""
        return self.decoder.shape[1]

    @property
    def usable(self) -> Tensor:
        """``[K]``: which latents write anything at all."""
        lengths: Tensor = self.decoder.norm(dim=1)
        return lengths > 0

    def prepared(self, x: Tensor) -> Tensor:
        """``n(x)`` of raw activations ``[B, d]``."""
        x = x.float()
        if self.centred_input:
            x = x - x.mean(-1, keepdim=True)
        if self.normalisation == "layer_norm":
            x = (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-5)
        elif self.normalisation == "constant_norm_rescale":
            x = x * (self.width**0.5 / x.norm(dim=-1, keepdim=True).clamp_min(1e-30))
        return self.input_scale * x

    def encode(self, x: Tensor) -> Tensor:
        """Latents ``[B, K]`` of raw activations ``x [B, d]``."""
        inside = self.prepared(x)
        if self.bias_off_input:
            inside = inside - self.decoder_bias
        return self.activation.apply(inside @ self.encoder.T, self.encoder_bias)

    def decode(self, latents: Tensor) -> Tensor:
        """What the latents ``[B, K]`` say of ``n(x)``, ``[B, d]``: normalised as it came in, not scaled back."""
        return latents @ self.decoder + self.decoder_bias

    @torch.no_grad()
    def fires(self, blocks: Iterable[Tensor]) -> Tensor:
        """``[K]``: which latents fire on any of the activations, given in blocks ``[B, d]``."""
        fired = torch.zeros(len(self.decoder), dtype=torch.bool)
        for block in blocks:
            for rows in torch.split(block.to(self.decoder.device), ROWS_AT_ONCE):
                fired |= (self.encode(rows) > 0).any(0).cpu()
        return fired

    @torch.no_grad()
    def explained(self, blocks: Iterable[Tensor]) -> tuple[float, float]:
        """Share of the variance of ``n(x)`` that is explained, and latents per activation (L0).

        The share is NaN where there is no variance to explain, and where the weights carry latents past float32.
        """
        squared = squares = active = count = 0.0
        sums = torch.zeros(self.width, dtype=torch.float64)
        for block in blocks:
            for rows in torch.split(block.to(self.decoder.device), ROWS_AT_ONCE):
                latents, inside = self.encode(rows), self.prepared(rows)
                squared += float((inside - self.decode(latents)).double().square().sum())
                active += float((latents > 0).sum())
                sums += inside.double().sum(0).cpu()
                squares += float(inside.double().square().sum())
                count += len(rows)
        if not count:
            return math.nan, math.nan
        total = squares - float(sums.square().sum()) / count
        explained = 1 - squared / total if total > 1e-12 * squares else math.nan  # below: rounding, and no variance
        return explained, active / count
