"""Recompute only what an intervention can reach.

An intervention at position ``p`` of block ``a``'s output reaches, at read-out ``(b, p+t)``, the positions
``p..p+t`` of blocks ``a+1..b`` and nothing else. So the clean model runs once per context; of it we keep, for each
block of the suffix, the keys and values left of ``p`` and the residuals at ``p..p+t``. Then

- left context is shared by all directions: its keys and values are never copied per direction;
- a position that the intervention has not reached yet is computed once, not once per direction: every tensor
  below has a leading axis of length ``S`` where it depends on the direction and 1 where it does not, and
  broadcasting does the rest. With ``b = a+1`` and ``t ≥ 1`` the queries and, if attention and MLP are parallel, the MLP
  at ``p+t`` are such;
- in the last block queries, MLP and output are computed at ``p+t`` alone;
- the first block's projections at ``p`` are those of activation and direction, combined by two numbers for each pair
  (:mod:`sensverify.planes`): its norm does not stand in the way, since the intervention keeps ``‖Px‖``.

Attention over the left context and over the recomputed positions is merged by their log-sum-exp, so the shared
part is reduced once wherever its query is shared.

The equality of this with the full forward pass of the Hugging Face implementation is a test.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pythia.activations import Activations, BlockCache, CleanPass, Gathered, Layout, Store
from pythia.architectures import Architecture, Block, NormedLinear
from pythia.disk_store import Keeping, open_store
from pythia.one_block import Context, OneBlock
from sensverify.geometry import Centring
from sensverify.planes import combine


@dataclasses.dataclass(frozen=True)
class CleanRun:
    """What a read needs of the clean pass, for ``B`` contexts intervened on at ``positions [B]``.

    ``residuals [t+1, B, d]`` are block ``a``'s outputs at ``p..p+t``; ``target [B, d]`` is block ``b``'s at ``p+t``.
    ``gathered`` has keys and values; ``one_block``: what the closed form needs, where there is one
    (:mod:`pythia.one_block`).
    """

    positions: Tensor
    residuals: Tensor
    target: Tensor
    gathered: Gathered
    one_block: Context | None = None

    @property
    def blocks(self) -> tuple[BlockCache, ...]:
        """Keys and values on the left, of each block."""
        return self.gathered.left_blocks

    def at(self, contexts: Tensor) -> CleanRun:
        """The contexts of these numbers ``[N]``, which may repeat; without the closed form."""
        return CleanRun(
            positions=self.positions[contexts],
            residuals=self.residuals[:, contexts],
            target=self.target[contexts],
            gathered=self.gathered.at(contexts),
        )


@dataclasses.dataclass(frozen=True)
class Stream:
    """The residual stream at one position: ``x [S|1, B, d]``."""

    x: Tensor

    def through(self, normed: NormedLinear) -> Tensor:
        """``[S|1, B, out]``."""
        return normed(self.x)


@dataclasses.dataclass(frozen=True)
class PlanarStream(Stream):
    """The same of ``x = along·s + across·Px₀ + (x₀ − Px₀)``, directions ``s [S, d]`` and contexts ``x₀ [B, d]``."""

    directions: Tensor
    contexts: Tensor
    along: Tensor
    across: Tensor

    @staticmethod
    def of(directions: Tensor, contexts: Tensor, along: Tensor, across: Tensor, centring: Centring) -> PlanarStream:
        """With ``x`` put together."""
        centred = centring.project(contexts)
        x = combine(directions, centred, along, across, None if centring is Centring.NONE else contexts - centred)
        return PlanarStream(x, directions, contexts, along, across)

    def through(self, normed: NormedLinear) -> Tensor:
        """As for any stream, by two multiplications per pair and output."""
        folded, norm = normed.folded, normed.norm
        rate = norm.rate(self.contexts)
        of_directions = self.directions @ folded.weight.T
        of_contexts = norm.centring.project(self.contexts) @ folded.weight.T
        return combine(of_directions, of_contexts, self.along * rate, self.across * rate, folded.bias)


class Suffix:
    """The suffix of a transformer from block ``layer + 1`` to block ``target``, read ``offset`` tokens later."""

    def __init__(
        self, architecture: Architecture, *, layer: int, target: int, offset: int, closed: bool = True
    ) -> None:
        self.layer, self.target, self.offset = layer, target, offset
        self.architecture = architecture
        self.blocks = architecture.blocks[layer + 1 : target + 1]
        closed = closed and len(self.blocks) == 1 and offset > 0 and self.blocks[0].parallel
        self.one_block = OneBlock(self.blocks[0], offset) if closed else None

    # --- The clean pass ----------------------------------------------------------------------------------------

    def store(self, windows: Tensor, keeping: Keeping, identity: Mapping[str, Any]) -> Store:
        """Run the model once over ``windows [N, L]``, a few at a time, and keep what reads will need.

        ``identity`` names weights and configuration, see :func:`pythia.disk_store.open_store`.
        """
        length, block = windows.shape[1], self.blocks[0]
        for one in self.blocks:
            if one.rotary is not None:
                one.rotary.reserve(length)
        layout = self.layout(length)
        # Of a window: what is kept, twice while it is put together; the streams on the way and the widest layer's
        # output, with what its activation makes; three tables of attention.
        streams = (len(self.blocks) + 8) * layout.width + 3 * len(block.mlp.into.weight)
        cost = 2 * layout.size(1) + length * (streams + 3 * block.heads * length) * layout.dtype.itemsize
        clean = CleanPass(
            run=self._one_pass,
            windows=windows,
            layout=layout,
            windows_per_pass=keeping.windows_per_pass(windows, cost),
        )
        identity = {**identity, "layer": self.layer, "target": self.target}
        if self.one_block is not None:
            identity["offset"] = self.offset
        return open_store(clean, identity, keeping)

    def layout(self, length: int) -> Layout:
        """What is kept of a window of ``length`` tokens."""
        block = self.blocks[0]
        return Layout(
            length=length,
            width=len(block.attention_norm.gain),
            blocks=len(self.blocks),
            groups=block.groups,
            head_width=block.head_width,
            dtype=block.output.weight.dtype,
            heads=0 if self.one_block is None else block.heads,
        )

    def _one_pass(self, tokens: Tensor) -> Activations:
        residuals = self._residual_streams(tokens)
        every = torch.arange(tokens.shape[1], device=tokens.device)
        caches = []
        for block, stream in zip(self.blocks, residuals[:-1], strict=True):
            _, keys, values = block.split(block.keys_and_values(stream))
            caches.append(torch.stack([block.rotate(keys, every), values], 2))
        others = None
        if self.one_block is not None:
            others = self.one_block.others(residuals[0], *caches[0].unbind(2))
        return Activations(residuals[0], residuals[-1], torch.stack(caches, 2), others)

    def _residual_streams(self, tokens: Tensor) -> list[Tensor]:
        """Outputs ``[B, L, d]`` of blocks ``layer..target``, by the model's own forward, stopped at ``target``."""
        kept: list[Tensor] = []

        class Reached(Exception):
            """Control flow, not an error: the rest of the model need not run."""

        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            kept.append(output if isinstance(output, Tensor) else output[0])

        def stop(module: Any, inputs: Any, output: Any) -> None:
            keep(module, inputs, output)
            raise Reached

        layers = self.architecture.modules
        handles = [layers[i].register_forward_hook(keep) for i in range(self.layer, self.target)]
        handles.append(layers[self.target].register_forward_hook(stop))
        try:
            self.architecture.body(input_ids=tokens, use_cache=False)
        except Reached:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return kept

    def select(self, store: Store, rows: Tensor, positions: Tensor) -> CleanRun:
        """The contexts of windows ``rows [B]`` intervened on at ``positions [B]``, with ``p + offset < L``."""
        gathered = store.gather(rows, positions, self.offset)
        form, residuals = None, gathered.residuals
        if self.one_block is not None and gathered.others is not None:
            form = self.one_block.prepare(residuals[0], residuals[-1], positions, gathered.others, gathered.target)
        return CleanRun(positions, residuals, gathered.target, gathered, form)

    # --- The perturbed one -------------------------------------------------------------------------------------

    def read(self, clean: CleanRun, x: Tensor) -> Tensor:
        """Block ``target``'s output at ``p + offset``, ``[S, B, d]``, with block ``layer``'s at ``p`` set to ``x``."""
        return self._follow(clean, Stream(x)).expand_as(x)

    def read_plane(self, clean: CleanRun, directions: Tensor, along: Tensor, across: Tensor) -> Tensor:
        """The same of activations by their coordinates, see :class:`sensverify.planes.PlanarReadout`."""
        first = PlanarStream.of(directions, clean.residuals[0], along, across, self.architecture.centring)
        return self._follow(clean, first)

    def read_angles(self, clean: CleanRun, directions: Tensor, along: Tensor, across: Tensor) -> Tensor | None:
        """``[S, B]``, angular distances of :meth:`read_plane` to the clean read-out; None without a closed form."""
        if self.one_block is None or clean.one_block is None:
            return None
        return self.one_block.distances(clean.one_block, directions, along, across)

    def _follow(self, clean: CleanRun, first: Stream) -> Tensor:
        streams: list[Stream] = [first, *map(Stream, clean.residuals[1:, None])]  # one per position p..p+t
        last = len(self.blocks) - 1
        for depth, (block, cache) in enumerate(zip(self.blocks, clean.blocks, strict=True)):
            wanted = range(self.offset, self.offset + 1) if depth == last else range(self.offset + 1)
            streams = _through(block, cache, clean.positions, streams, wanted)
        return streams[-1].x


def _through(block: Block, cache: BlockCache, positions: Tensor, streams: list[Stream], wanted: range) -> list[Stream]:
    """One block on the recomputed positions; returns the outputs of the ``wanted`` ones only."""
    projected = []
    for j, stream in enumerate(streams):
        query, key, value = block.split(stream.through(block.sees if j in wanted else block.keys_and_values))
        here = (positions + j)[None]
        projected.append((None if query is None else block.rotate(query, here), block.rotate(key, here), value))
    outputs = []
    for j in wanted:
        query = projected[j][0]
        assert query is not None
        own = projected[: j + 1]
        mixed = _attend(block, query, cache, positions, [key for _, key, _ in own], [value for *_, value in own])
        outputs.append(Stream(_close(block, streams[j], block.output(mixed))))
    return outputs


def _attend(
    block: Block, query: Tensor, cache: BlockCache, positions: Tensor, own_keys: list[Tensor], own_values: list[Tensor]
) -> Tensor:
    """Attention of ``query [S|1, B, H, e]`` over the left context and over the recomputed positions: ``[S|1, B, He]``.

    Heads are taken by the group whose keys and values they share: ``[S|1, B, G, R, e]``.
    """
    query = query.unflatten(2, (block.groups, -1)) * block.scale
    left = torch.einsum("sbgre,bgle->sbgrl", query, cache.keys)
    beyond = torch.arange(cache.keys.shape[2], device=query.device) >= positions[:, None]
    left = left.masked_fill(beyond[:, None, None], float("-inf"))
    own = torch.stack(torch.broadcast_tensors(*[(query * key[..., None, :]).sum(-1) for key in own_keys]), dim=-1)
    # Softmax over both parts: each is reduced under its own maximum, then weighed by its mass. At p = 0
    # there is no left context and its maximum is -inf; the finite floor gives it mass zero, not NaN.
    if left.shape[-1]:
        left_peak = left.detach().amax(-1, keepdim=True).clamp_min(torch.finfo(left.dtype).min)
    else:
        left_peak = torch.full_like(left.detach().sum(-1, keepdim=True), torch.finfo(left.dtype).min)
    peak = torch.maximum(left_peak, own.detach().amax(-1, keepdim=True))
    left_weight = torch.exp(left - left_peak)
    left_mass = left_weight.sum(-1, keepdim=True)
    left_mixed = torch.einsum("sbgrl,bgle->sbgre", left_weight, cache.values)
    correction = torch.exp(left_peak - peak)
    own_weight = torch.exp(own - peak)
    mixed = left_mixed * correction
    for j, value in enumerate(own_values):
        mixed = mixed + own_weight[..., j : j + 1] * value[..., None, :]
    return (mixed / (left_mass * correction + own_weight.sum(-1, keepdim=True))).flatten(2)


def _close(block: Block, stream: Stream, attention: Tensor) -> Tensor:
    """The block's output from its input and its attention output; parallel or sequential residual."""
    if block.parallel:
        return stream.x + attention + _mlp(block, stream)
    after = stream.x + attention
    return after + _mlp(block, Stream(after))


def _mlp(block: Block, stream: Stream) -> Tensor:
    gate = None if block.gate_sees is None else stream.through(block.gate_sees)
    return block.mlp.close(stream.through(block.mlp_sees), gate)
