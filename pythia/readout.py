"""A language model as a read-out: intervene at ``(layer, p)``, measure at ``(target, p + offset)``.

The clean model runs once over all windows when the read-out is made; a sample is then an index into what was kept, in
memory or on disk (:mod:`pythia.disk_store`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

import torch
from torch import Tensor

from pythia.disk_store import Keeping
from pythia.loading import LanguageModel
from pythia.positions import Allowed, Positions
from pythia.suffix import CleanRun, Suffix
from sensverify.errors import InputError
from sensverify.geometry import Centring
from sensverify.readout import Batch

UNIMPORTANT = ("_name_or_path", "transformers_version")
"""Of a configuration: where it lay, and who wrote it."""


class Reading(TypedDict, total=False):
    """What every read-out of a language model is told beside its site, as :class:`LanguageModelReadout` has it."""

    first_position: int
    allowed: Allowed | None
    keeping: Keeping | None


class LanguageModelReadout:
    """Residual stream of a language model after block ``target`` at ``p + offset``, given block ``layer``'s at ``p``.

    Args:
        model: a loaded model.
        windows: token contexts ``[N, L]``; position ``p`` is drawn uniformly from ``first_position .. L-1-offset``, as
            far as :mod:`pythia.positions` allows.
        layer, target, offset: ``a``, ``b`` and ``t``.
        first_position: 1 if every window opens with BOS, which is never intervened on, else 0.
        allowed: which positions are tokens of the text, and which norms are outliers; padding must be on the right,
            where the tokens of the text do not see it.
        keeping: where what the clean model makes is kept, by default in memory.

    Raises :class:`~sensverify.errors.InputError` for a layer, target or offset out of range, and for activations that
    fit neither in memory nor on disk.
    """

    closed_form = True
    """Whether distances are asked for that a closed form may know: those of the residual stream itself."""
    thread_safe = True
    """Reading changes nothing (:mod:`sensverify.threads`)."""

    def __init__(
        self,
        model: LanguageModel,
        windows: Tensor,
        *,
        layer: int,
        target: int,
        offset: int,
        first_position: int = 0,
        allowed: Allowed | None = None,
        keeping: Keeping | None = None,
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
        self.allowed = allowed or Allowed()
        known = self.closed_form and torch.finfo(model.network.dtype).bits >= 32  # with fewer it is read
        self._suffix = Suffix(model.architecture, layer=layer, target=target, offset=offset, closed=known)
        self._store = self._suffix.store(windows, keeping or Keeping(), _identity(model))
        self.positions = Positions(
            (windows.shape[0], windows.shape[1]),
            first=first_position,
            offset=offset,
            allowed=self.allowed,
            residuals=self._store.residuals(),
            device=self.device,
        )

    @property
    def width(self) -> int:
        """``d``, the width of the residual stream."""
        return self.model.width

    @property
    def centring(self) -> Centring:
        """What the model's norms cannot see: the mean of LayerNorm, nothing of RMSNorm."""
        return self.model.architecture.centring

    @property
    def suffix(self) -> Suffix:
        """What is recomputed."""
        return self._suffix

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def counted(self) -> Tensor:
        """Which positions are tokens of the text, ``[N, L]``: what is summed up over positions is summed over these."""
        return self.positions.counted

    @property
    def counted_inside(self) -> Tensor:
        """The same ``[N, L - first_position]``, for tables that begin behind BOS."""
        return self.positions.counted[:, self.first_position :]

    @property
    def residuals(self) -> Tensor:
        """Clean activations ``[N, L, d]`` at the point of intervention, every window and position, all in memory."""
        blocks = list(self.residual_blocks())
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks)

    def residual_blocks(self) -> Iterator[Tensor]:
        """The same ``[n, L, d]`` a few windows at a time, in order, as there is room for them."""
        return self._store.residuals()

    @property
    def context_size(self) -> int:
        """Bytes of one context's clean activations, at most (:meth:`sensverify.memory.Budget.contexts`)."""
        layout, block = self._suffix.layout(self.windows.shape[1]), self._suffix.blocks[0]
        closed = 0 if self._suffix.one_block is None else 4 * block.heads * self.width
        return layout.context_size(self.offset) + closed * layout.dtype.itemsize

    @property
    def angle_entries(self) -> int | None:
        """By how many numbers a pair counts in a closed form (:class:`sensverify.planes.AngularReadout`), if there is
        one: its tables are ``H(2H + 1)`` wide, but come from products that are the faster the larger they are."""
        return None if self._suffix.one_block is None else 4 * self._suffix.blocks[0].heads

    def entries_per_pair(self, left: int, *, gradient: bool, angles: bool = False) -> int:
        """Numbers alive at once for a pair (direction, context) with ``left`` positions on its left, at most
        (:func:`sensverify.memory.at_once`).

        Bounds what was seen of GPT-NeoX, GPT-2 and Llama: with gradients every recomputed position of every block
        leaves its tables behind; without, those of one position live at a time. ``angles``: of the closed form.
        """
        if angles:
            heads = self._suffix.blocks[0].heads
            # with what a direction has in each head, its gradient and its way there, shared by 16 contexts at least
            return heads * (6 * heads + 24) + 40 + 3 * heads * self.width // 16
        block, depth = self._suffix.blocks[0], len(self._suffix.blocks)
        hidden, scores = len(block.mlp.into.weight), 2 * block.heads * left
        if not gradient:
            return (20 + 4 * (self.offset + 1)) * self.width + 4 * hidden + scores
        recomputed = (depth - 1) * (self.offset + 1) + 1
        return 20 * self.width + recomputed * (8 * (self.width + hidden) + scores)

    def sample(self, count: int, generator: torch.Generator) -> Batch[CleanRun]:
        """``count`` contexts; the windows are distinct as long as there are enough of them."""
        return self.at(*self.draw(count, generator))

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rows and positions ``[count]`` of the contexts that :meth:`sample` takes, for whoever gathers them in parts.

        Their order is that of chance, so that any first few are a fair sample.
        """
        return self.positions.draw(count, generator)

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

    def read_plane(self, batch: Batch[CleanRun], directions: Tensor, along: Tensor, across: Tensor) -> Tensor:
        """As :meth:`read`, of activations by their coordinates (:class:`sensverify.planes.PlanarReadout`)."""
        return self._suffix.read_plane(batch.state, directions, along, across)

    def read_angles(self, batch: Batch[CleanRun], directions: Tensor, along: Tensor, across: Tensor) -> Tensor | None:
        """Angular distances ``[S, B]`` to the clean read-out (:class:`sensverify.planes.AngularReadout`)."""
        return self._suffix.read_angles(batch.state, directions, along, across)

    def read_pairs(self, batch: Batch[CleanRun], contexts: Tensor, x: Tensor) -> Tensor:
        """``[N, d]`` of activations ``x [N, d]``, the ``i``-th in context number ``contexts[i]`` of the batch."""
        return self._suffix.read(batch.state.at(contexts), x[None])[0]

    def describe(self) -> Mapping[str, Any]:
        """Model, site and data, for results."""
        return {
            **self.model.describe(),
            "layer": self.layer,
            "target": self.target,
            "offset": self.offset,
            "hook_name": f"blocks.{self.layer}.hook_resid_post",
        }


def _identity(model: LanguageModel) -> dict[str, Any]:
    """What decides the model's activations: its weights, what was made of them, and the configuration, which holds what
    no weight does."""
    configuration = {key: str(value) for key, value in model.config.to_dict().items() if key not in UNIMPORTANT}
    attention = str(getattr(model.config, "_attn_implementation", None))
    weights = {
        "weights": model.weights_sha256,
        "folding": None if model.folded is None else model.folded.to_json(),
        "dtype": str(next(model.network.parameters()).dtype),
    }
    return {**weights, "configuration": configuration, "attention": attention}


def check_depth(depth: int) -> None:
    """Raise :class:`~sensverify.errors.InputError` for a model too shallow to have a site."""
    if depth < 2:
        raise InputError(
            expected="a model of 2 blocks at least: one that writes, one that reads it",
            got=str(depth),
            remedy="pass another --model",
        )


def check_site(depth: int, *, layer: int, target: int, offset: int) -> None:
    """Raise :class:`~sensverify.errors.InputError` unless ``0 ≤ layer < target < depth`` and ``offset ≥ 0``."""
    check_depth(depth)
    if not 0 <= layer <= depth - 2:
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
