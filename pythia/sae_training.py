"""A sparse autoencoder of our own on the residual stream, for models of which none was published.

The kernel's TopK autoencoder (:mod:`sensverify.autoencoders`) is trained on centred activations of the windows that
searches use too, each divided by its norm: what is compared is presence, which has no size, and without it the first
tokens of a context, whose activations are many times as long as all others, would be all that is learnt. What it makes
of activations that it has never seen is measured on the held-out windows.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from pythia.readout import LanguageModelReadout
from pythia.saes import positions
from sensverify.autoencoders import Autoencoder, AutoencoderOptions, TopK, train_autoencoder
from sensverify.claims import Progress, silent


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedSae:
    """A trained autoencoder and what it does on held-out activations.

    ``alive [K]``: which latents fire on training or held-out data. ``held_out_variance_explained`` and
    ``held_out_active`` (L0, latents per activation) are over all held-out positions that count.
    """

    autoencoder: Autoencoder
    alive: Tensor
    held_out_variance_explained: float
    held_out_active: float
    training_rows: int

    @property
    def directions(self) -> Tensor:
        """Decoder rows of the latents that fire, ``[K', d]``."""
        return self.autoencoder.directions[self.alive]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for evidence."""
        return {
            "options": self.autoencoder.options.to_json(),
            "activations": "centred, divided by their norm, divided by the root of their total variance",
            "training_rows": self.training_rows,
            "variance_explained": self.autoencoder.variance_explained,
            "held_out_variance_explained": self.held_out_variance_explained,
            "held_out_active": self.held_out_active,
            "dead": int((~self.alive).sum()),
        }


def train_sae(
    search: LanguageModelReadout,
    held_out: LanguageModelReadout,
    options: AutoencoderOptions,
    progress: Progress = silent,
) -> TrainedSae:
    """Train on the activations of ``search`` and measure on those of ``held_out``.

    Raises as :func:`sensverify.autoencoders.train_autoencoder`.
    """
    x, unseen = normalised_activations(search), normalised_activations(held_out)
    autoencoder = train_autoencoder(x, options, progress)
    alive = torch.zeros(options.latents, dtype=torch.bool, device=x.device)
    for rows in torch.split(x, 8192):
        alive |= (autoencoder.encode(rows) > 0).any(0)
    squared, active = 0.0, 0.0
    for rows in torch.split(unseen, 8192):
        latents = autoencoder.encode(rows)
        squared += float((rows - autoencoder.decode(latents)).square().sum())
        active += float((latents > 0).sum())
        alive |= (latents > 0).any(0)
    total = float((unseen - unseen.mean(0)).square().sum())
    return TrainedSae(
        autoencoder=autoencoder,
        alive=alive,
        held_out_variance_explained=1 - squared / total,
        held_out_active=active / len(unseen),
        training_rows=len(x),
    )


def normalised_activations(readout: LanguageModelReadout) -> Tensor:
    """``Px/‖Px‖ [N, d]`` of all windows at the positions that count, in float32."""
    parts = [torch.nn.functional.normalize(readout.centring.project(rows.float())) for rows in positions(readout)]
    return torch.cat(parts)


QUICK_WORK, FULL_WORK = 5e11, 2e12
"""Floating-point operations that training may take on a CPU: about 20 seconds and 80 seconds of one core."""


def default_options(width: int, *, quick: bool, seed: int, device: torch.device | None = None) -> AutoencoderOptions:
    """Four latents per dimension (quick) or eight, at most 16 active; fewer latents where a CPU would take too long.

    A step forwards and backwards through two matrices of ``latents × width`` is 12 operations for each entry and row.
    """
    steps, batch = (600, 256) if quick else (2000, 256)
    latents = (4 if quick else 8) * width
    if device is None or device.type == "cpu":
        most = int((QUICK_WORK if quick else FULL_WORK) / (12 * steps * batch * width))
        latents = max(32, min(latents, most))
    return AutoencoderOptions(
        latents=latents,
        sparsity=TopK(active=min(16, latents)),
        steps=steps,
        batch=batch,
        learning_rate=3e-3,
        seed=seed,
    )
