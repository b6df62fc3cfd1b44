"""Recompute only what an intervention can reach.

An intervention at position ``p`` of block ``a``'s output reaches, at read-out ``(b, p+t)``, the positions
``p..p+t`` of blocks ``a+1..b`` and nothing else. So the clean model runs once per context; of it we keep, for each
block of the suffix, the keys and values left of ``p`` and the residuals at ``p..p+t``. Then

- left context is shared by all directions: its keys and values are never copied per direction;
- a position that the intervention has not reached yet is computed once, not once per direction: every tensor
  below has a leading axis of length ``S`` where it depends on the direction and 1 where it does not, and
  broadcasting does the rest. With ``b = a+1`` and ``t ≥ 1`` the queries and the MLP at ``p+t`` are such;
- in the last block only position ``p+t`` is computed.

Attention over the left context and over the recomputed positions is merged by their log-sum-exp, so the shared
part is reduced once wherever its query is shared.

The equality of this with the full forward pass of the Hugging Face implementation is a test.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from pythia.loading import LanguageModel


@dataclasses.dataclass(frozen=True)
class BlockCache:
    """Keys (rotated) and values ``[B, H, L, d_h]`` of one block, for every position of the clean run."""

    keys: Tensor
    values: Tensor


@dataclasses.dataclass(frozen=True)
class Store:
    """The clean pass over ``N`` windows of ``L`` tokens, kept at every position.

    ``source [N, L, d]`` is block ``a``'s output, ``target [N, L, d]`` block ``b``'s, ``blocks`` are the caches of
    blocks ``a+1..b`` over all windows.
    """

    source: Tensor
    target: Tensor
    blocks: tuple[BlockCache, ...]


@dataclasses.dataclass(frozen=True)
class CleanRun:
    """What a read needs of the clean pass, for ``B`` contexts intervened on at ``positions [B]``.

    ``residuals [t+1, B, d]`` are block ``a``'s outputs at ``p..p+t``; ``target [B, d]`` is block ``b``'s at ``p+t``.
    """

    positions: Tensor
    residuals: Tensor
    target: Tensor
    blocks: tuple[BlockCache, ...]


class NeoXSuffix:
    """The suffix of a GPT-NeoX model from block ``layer + 1`` to block ``target``, read ``offset`` tokens later."""

    def __init__(self, model: LanguageModel, *, layer: int, target: int, offset: int) -> None:
        self.layer, self.target, self.offset = layer, target, offset
        body = model.network.gpt_neox
        self._body: Any = body
        self._blocks: list[Any] = list(body.layers[layer + 1 : target + 1])
        self.heads = int(model.config.num_attention_heads)
        self.head_width = model.width // self.heads

    @torch.no_grad()
    def store(self, windows: Tensor, windows_per_pass: int) -> Store:
        """Run the model once over ``windows [N, L]``, a few at a time, and keep what reads will need."""
        passes = [self._one_pass(part) for part in torch.split(windows, windows_per_pass)]
        return Store(
            source=torch.cat([part.source for part in passes]),
            target=torch.cat([part.target for part in passes]),
            blocks=tuple(
                BlockCache(torch.cat([c.keys for c in caches]), torch.cat([c.values for c in caches]))
                for caches in zip(*(part.blocks for part in passes), strict=True)
            ),
        )

    def _one_pass(self, tokens: Tensor) -> Store:
        residuals = self._residual_streams(tokens)
        every = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        caches = []
        for block, stream in zip(self._blocks, residuals[:-1], strict=True):
            _, keys, values = self._project(block, stream, every)
            caches.append(BlockCache(keys.transpose(1, 2), values.transpose(1, 2)))
        return Store(residuals[0], residuals[-1], tuple(caches))

    def select(self, store: Store, rows: Tensor, positions: Tensor) -> CleanRun:
        """The contexts of windows ``rows [B]`` intervened on at ``positions [B]``, with ``p + offset < L``."""
        index = positions + torch.arange(self.offset + 1, device=positions.device)[:, None]
        # No query ever looks left of p further than the longest left context of the batch.
        longest = int(positions.max())
        return CleanRun(
            positions=positions,
            residuals=store.source[rows, index],
            target=store.target[rows, index[-1]],
            blocks=tuple(
                BlockCache(cache.keys[rows, :, :longest], cache.values[rows, :, :longest]) for cache in store.blocks
            ),
        )

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

        layers = self._body.layers
        handles = [layers[i].register_forward_hook(keep) for i in range(self.layer, self.target)]
        handles.append(layers[self.target].register_forward_hook(stop))
        try:
            self._body(input_ids=tokens, use_cache=False)
        except Reached:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return kept

    def _project(self, block: Any, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries, rotated keys and values ``[..., H, d_h]`` of residuals ``x [..., d]`` at ``positions``.

        ``positions`` has the shape of ``x`` without its last axis, leading axes of length 1 allowed.
        """
        joint = block.attention.query_key_value(block.input_layernorm(x))
        joint = joint.unflatten(-1, (self.heads, 3 * self.head_width))
        query, key, value = joint.chunk(3, dim=-1)
        cos, sin = self._body.rotary_emb(x, positions)
        return _rotate(query, cos, sin), _rotate(key, cos, sin), value

    def read(self, clean: CleanRun, x: Tensor) -> Tensor:
        """Block ``target``'s output at ``p + offset``, ``[S, B, d]``, with block ``layer``'s at ``p`` set to ``x``."""
        streams = [x, *clean.residuals[1:, None]]  # one tensor [S or 1, B, d] per position p..p+t
        last = len(self._blocks) - 1
        for depth, (block, cache) in enumerate(zip(self._blocks, clean.blocks, strict=True)):
            wanted = range(self.offset, self.offset + 1) if depth == last else range(self.offset + 1)
            streams = self._block(block, cache, clean.positions, streams, wanted)
        return streams[-1].expand_as(x)

    def _block(
        self, block: Any, cache: BlockCache, positions: Tensor, streams: list[Tensor], wanted: range
    ) -> list[Tensor]:
        """One block on the recomputed positions; returns the outputs of the ``wanted`` ones only."""
        projected = [self._project(block, stream, (positions + j)[None]) for j, stream in enumerate(streams)]
        outputs = []
        for j in wanted:
            query = projected[j][0]
            own_keys = [key for _, key, _ in projected[: j + 1]]
            own_values = [value for _, _, value in projected[: j + 1]]
            mixed = self._attend(query, cache, positions, own_keys, own_values)
            outputs.append(_close_block(block, streams[j], block.attention.dense(mixed.flatten(-2))))
        return outputs

    def _attend(
        self,
        query: Tensor,
        cache: BlockCache,
        positions: Tensor,
        own_keys: list[Tensor],
        own_values: list[Tensor],
    ) -> Tensor:
        """Attention of ``query [S|1, B, H, d_h]`` over the left context and over the recomputed positions."""
        scale = self.head_width**-0.5
        left = torch.einsum("sbhe,bhle->sbhl", query, cache.keys) * scale
        beyond = torch.arange(cache.keys.shape[2], device=query.device) >= positions[:, None]
        left = left.masked_fill(beyond[:, None], float("-inf"))
        own = torch.stack(torch.broadcast_tensors(*[(query * key).sum(-1) * scale for key in own_keys]), dim=-1)
        # Softmax over both parts: each is reduced under its own maximum, then weighed by its mass. At p = 0
        # there is no left context and its maximum is -inf; the finite floor gives it mass zero, not NaN.
        left_peak = left.amax(-1, keepdim=True).clamp_min(torch.finfo(left.dtype).min)
        peak = torch.maximum(left_peak, own.amax(-1, keepdim=True)).detach()
        left_weight = torch.exp(left - left_peak.detach())
        left_mass = left_weight.sum(-1, keepdim=True)
        left_mixed = torch.einsum("sbhl,bhle->sbhe", left_weight, cache.values)
        correction = torch.exp(left_peak.detach() - peak)
        own_weight = torch.exp(own - peak)
        mixed = left_mixed * correction
        for j, value in enumerate(own_values):
            mixed = mixed + own_weight[..., j : j + 1] * value
        return mixed / (left_mass * correction + own_weight.sum(-1, keepdim=True))


def _close_block(block: Any, x: Tensor, attention: Tensor) -> Tensor:
    """The block's output from its input ``x`` and its attention output; parallel or sequential residual."""
    if block.use_parallel_residual:
        mlp: Tensor = block.mlp(block.post_attention_layernorm(x))
        return x + attention + mlp
    after = x + attention
    mlp = block.mlp(block.post_attention_layernorm(after))
    return after + mlp


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on the first ``cos.shape[-1]`` coordinates of each head of ``x [..., H, d_h]``."""
    rotary = cos.shape[-1]
    turned, passed = x[..., :rotary], x[..., rotary:]
    first, second = turned.chunk(2, dim=-1)
    quarter_turn = torch.cat((-second, first), dim=-1)
    return torch.cat((turned * cos[..., None, :] + quarter_turn * sin[..., None, :], passed), dim=-1)
