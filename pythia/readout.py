"""A language model as a read-out: intervene at ``(layer, p)``, measure at ``(target, p + offset)``.

The clean model runs once over all windows when the read-out is made; a sample is then an index into what was kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pythia.loading import LanguageModel
from pythia.suffix import CleanRun, NeoXSuffix
from sensverify.errors import InputError
from sensverify.geometry import Centring
from sensverify.readout import Batch

WINDOWS_PER_PASS = 32


class LanguageModelReadout:
    """Residual stream of a GPT-NeoX model after block ``target`` at ``p + offset``, given block ``layer``'s at ``p``.

    Args:
        model: a loaded model.
        windows: token contexts ``[N, L]``; position ``p`` is drawn uniformly from ``first_position .. L-1-offset``.
        layer, target, offset: ``a``, ``b`` and ``t``.
        first_position: 1 if every window opens with BOS, which is never intervened on, else 0.

    Raises :class:`~sensverify.errors.InputError` for a layer, target or offset out of range.
    """

    def __init__(
        self,
        model: LanguageModel,
        windows: Tensor,
        *,
        layer: int,
        target: int,
        offset: int,
        first_position: int = 0,
    ) -> None:
        check_site(model.depth, layer=layer, target=target, offset=offset)
        if offset > windows.shape[1] - 1 - first_position:
            raise InputError(
                expected=f"an offset from 0 to {windows.shape[1] - 1 - first_position}, inside the context",
                got=str(offset),
                remedy="pass a smaller --offset or a longer --context",
            )
        self.model, self.windows, self.first_position = model, windows, first_position
        self.layer, self.target, self.offset = layer, target, offset
        self._suffix = NeoXSuffix(model, layer=layer, target=target, offset=offset)
        self._store = self._suffix.store(windows, WINDOWS_PER_PASS)

    @property
    def width(self) -> int:
        """``d``, the width of the residual stream."""
        return self.model.width

    @property
    def centring(self) -> Centring:
        """LayerNorm cannot see the mean."""
        return Centring.MEAN

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def residuals(self) -> Tensor:
        """Clean activations ``[N, L, d]`` at the point of intervention, every window and position."""
        return self._store.source

    def sample(self, count: int, generator: torch.Generator) -> Batch[CleanRun]:
        """``count`` contexts; the windows are distinct as long as there are enough of them."""
        total = len(self.windows)
        permutations = [
            torch.randperm(total, generator=generator, device=generator.device) for _ in range(-(-count // total))
        ]
        rows = torch.cat(permutations)[:count].to(self.device)
        last = self.windows.shape[1] - self.offset
        positions = torch.randint(self.first_position, last, (count,), generator=generator, device=generator.device).to(
            self.device
        )
        return self.at(rows, positions)

    def at(self, rows: Tensor, positions: Tensor) -> Batch[CleanRun]:
        """The contexts of windows ``rows [B]`` intervened on at ``positions [B]``."""
        clean = self._suffix.select(self._store, rows, positions)
        return Batch(clean.residuals[0], clean)

    def clean(self, batch: Batch[CleanRun]) -> Tensor:
        """Block ``target``'s clean output at ``p + offset``, ``[B, d]``."""
        return batch.state.target

    def read(self, batch: Batch[CleanRun], x: Tensor) -> Tensor:
        """Block ``target``'s output ``[S, B, d]`` with ``x [S, B, d]`` in place of block ``layer``'s at ``p``."""
        return self._suffix.read(batch.state, x)

    def describe(self) -> Mapping[str, Any]:
        """Model, site and data, for results."""
        return {
            "model": self.model.name,
            "revision": self.model.revision,
            "layer": self.layer,
            "target": self.target,
            "offset": self.offset,
            "hook_name": f"blocks.{self.layer}.hook_resid_post",
            "weight_processing": "raw",
            "dtype": str(self.model.network.dtype).removeprefix("torch."),
            "weights_sha256": self.model.weights_sha256,
        }


def check_site(depth: int, *, layer: int, target: int, offset: int) -> None:
    """Raise :class:`~sensverify.errors.InputError` unless ``0 ≤ layer < target < depth`` and ``offset ≥ 0``."""
    if depth < 2 or not 0 <= layer <= depth - 2:
        raise InputError(
            expected=f"a layer from 0 to {depth - 2} (the model has {depth} blocks)",
            got=str(layer),
            remedy="pass another --layer",
        )
    if not layer < target < depth:
        raise InputError(
            expected=f"a target from {layer + 1} to {depth - 1}",
            got=str(target),
            remedy="pass another --target",
        )
    if offset < 0:
        raise InputError(expected="an offset of 0 or more", got=str(offset), remedy="pass another --offset")
