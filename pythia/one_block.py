"""Angular distances one block later, at a later position, without writing a single read-out.

Take ``b = a+1``, ``t ≥ 1`` and a block whose attention and MLP run in parallel. Of all that the block computes for the
position ``p+t``, an intervention at ``p`` changes one key and one value. By coordinates in the plane of direction and
activation (:mod:`sensverify.planes`), with ``r`` the rate of the norm, ``a = r·along`` and ``c = r·(across − 1)``:

- key and value at ``p`` move by ``aK_s + cK_x`` and ``aV_s + cV_x``, where ``K_s = W_Kγs`` and so on;
- the logit of head ``h`` moves by ``a⟨q̂_h, K_s⟩ + c⟨q̂_h, K_x⟩``, with its query turned back by the rotation at ``p``;
- ``w``, the weight of position ``p`` in the softmax, is a sigmoid of that logit over the mass of all other positions,
  and what the head mixes moves by ``wa·V_s + wc·V_x + Δw·E``, ``E = v_p − (mix of the other positions)``;
- so the read-out moves by ``δ = Σ_h O_h(w_h a·V_s + w_h c·V_x + Δw_h·E_h)``: with one head, a combination of three
  vectors, of which one depends on the direction and two on the context.

The angular distance of ``y`` and ``y + δ`` needs ``‖δ‖²`` and ``⟨y, δ⟩`` alone, and these are quadratic and linear
forms of the coefficients: their entries are inner products of ``V_s`` with vectors that each context has once, taken in
the ``e`` dimensions of a head, not in the ``d`` of the stream. A pair (direction, context) costs ``H(2H + 2)e``
multiplications; key, value and output projection would cost ``3d²``, forty times as many in Pythia-70M.

Small effects keep their digits: every term of ``δ`` vanishes with the intervention, and ``1 − cos`` is taken from
``‖δ‖²`` and the change in length. Where activation and direction are nearly parallel the terms of ``V_s`` and ``V_x``
cancel, and their squares twice as much; such pairs are read (:data:`sensverify.planes.NEARLY_PARALLEL_CLOSED`).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pythia.architectures import Block


@dataclasses.dataclass(frozen=True)
class Context:
    """What ``B`` contexts have once for all directions.

    ``rate [B]``; ``log_odds [H, B]`` of position ``p`` in each head's softmax; ``queries [H, e, B]`` turned back;
    ``logits [H, B]`` of ``K_x``; ``forms [H, e, (2H+1)·B]``, what
    ``V_s`` meets: ``O_hᵀO_h'V_x``, ``O_hᵀO_h'E_h'`` and ``O_hᵀy``; ``squares [B, 2H, 2H]`` and
    ``along_clean [2H, B]``, the inner products of ``O_hV_x`` and ``O_hE_h`` among themselves and with ``y``;
    ``length [B]`` of ``y``.
    """

    rate: Tensor
    log_odds: Tensor
    queries: Tensor
    logits: Tensor
    forms: Tensor
    squares: Tensor
    along_clean: Tensor
    length: Tensor


class OneBlock:
    """The closed form for one parallel block, read ``offset`` t ≥ 1 positions later."""

    def __init__(self, block: Block, offset: int) -> None:
        self.block, self.offset = block, offset
        heads, groups, width = block.heads, block.groups, block.head_width
        self._shape = (heads, groups, width)
        self._weight, shift = block.keys_and_values.folded.weight, block.keys_and_values.folded.bias
        self._key, self._value = self._weight.chunk(2)  # [Ge, d] each
        self._shift = None if shift is None else self._by_head(shift.chunk(2)[1].view(1, groups, width))  # of a value
        self._out = block.output.weight.unflatten(1, (heads, width))  # O [d, H, e]
        self._written = self._out.permute(1, 2, 0).contiguous()
        self._overlap = torch.einsum("dhe,dgf->hegf", self._out, self._out)  # O_hᵀO_g

    def _by_head(self, of_groups: Tensor) -> Tensor:
        """``[N, G, e] -> [N, H, e]``: the heads of a group have the same."""
        heads, groups, _ = self._shape
        return of_groups if heads == groups else of_groups.repeat_interleave(heads // groups, 1)

    def _folds(self, directions: int, contexts: int) -> bool:
        """Whether it is less work to put queries through the key projection than to make keys of directions."""
        heads, groups, width = self._shape
        made = 2 * directions * (groups * width * self._key.shape[1] + heads * width * contexts)
        folded = contexts * heads * self._key.shape[1] * (width + 2 * directions)
        return folded < made

    @torch.no_grad()
    def others(self, stream: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """What all other positions are to the attention at ``p + t``, for each ``p``: ``[N, L, H, e + 1]``.

        First what each head mixes of them, then the log odds of ``p`` against them. Taken from whole windows at once,
        this is one pass of attention; left at ``p``, it replaces all keys and values that a context would need. 0 where
        ``p + t`` lies beyond the window.

        Args:
            stream: ``[N, L, d]`` before the block.
            keys, values: ``[N, L, G, e]``, keys rotated.
        """
        block, offset, (heads, groups, width) = self.block, self.offset, self._shape
        every = torch.arange(stream.shape[1], device=stream.device)
        query = block.rotate(block.queries(stream).unflatten(-1, (heads, width)), every) * block.scale
        logits = torch.einsum("nqgre,nkge->ngrqk", query.unflatten(2, (groups, -1)), keys)
        own = logits.diagonal(-offset, -2, -1)
        hidden = (every > every[:, None]) | (every == every[:, None] - offset)
        logits = logits.masked_fill(hidden, float("-inf"))
        mass = logits.logsumexp(-1)
        mixed = torch.einsum("ngrqk,nkge->nqgre", (logits - mass[..., None]).exp(), values)
        table = stream.new_zeros(*stream.shape[:2], heads, width + 1)
        table[:, : len(every) - offset, :, :-1] = mixed[:, offset:].flatten(2, 3)
        table[:, : len(every) - offset, :, -1] = (own - mass[..., offset:]).flatten(1, 2).mT
        return table

    @torch.no_grad()
    def prepare(self, x: Tensor, later: Tensor, positions: Tensor, others: Tensor, clean: Tensor) -> Context:
        """Prepare ``B`` contexts.

        Args:
            x, later: ``[B, d]``, the stream before the block at ``p`` and at ``p+t``.
            positions: ``p [B]``.
            others: ``[B, H, e + 1]``, :meth:`others` of ``p``.
            clean: ``y [B, d]``, behind the block at ``p+t``.
        """
        block, (heads, groups, width) = self.block, self._shape
        query = block.queries(later).unflatten(-1, (heads, width))
        query = block.rotate(query, positions + self.offset) * block.scale
        turned = block.rotate(query, positions, back=True)
        rate = block.attention_norm.rate(x)
        projected = block.attention_norm.centring.project(x) @ self._weight.T
        key, value = (self._by_head(part.unflatten(-1, (groups, width))) for part in projected.chunk(2, -1))
        own = value * rate[:, None, None]
        apart = (own if self._shift is None else own + self._shift) - others[..., :-1]
        moving = torch.stack([value, apart], 1)  # V_x and E: [B, 2, H, e]
        seen_by = torch.einsum("hegf,bkgf->hekgb", self._overlap, moving)  # O_hᵀO_g of them
        back = torch.einsum("bd,dhe->heb", clean, self._out)
        return Context(
            rate=rate,
            log_odds=others[..., -1].T.contiguous(),
            queries=turned.permute(1, 2, 0).contiguous(),
            logits=(turned * key).sum(-1).T.contiguous(),
            forms=torch.cat([seen_by.flatten(2, 3), back[:, :, None]], 2).flatten(2).contiguous(),
            squares=torch.einsum("bkhe,hejgb->bkhjg", moving, seen_by).flatten(3).flatten(1, 2),
            along_clean=torch.einsum("bkhe,heb->khb", moving, back).flatten(0, 1),
            length=torch.linalg.vector_norm(clean, dim=-1),
        )

    def distances(self, contexts: Context, directions: Tensor, along: Tensor, across: Tensor) -> Tensor:
        """Angular distances ``[S, B]`` between the read-outs with and without the intervention of these coordinates;
        differentiable, once, in the last three."""
        _, groups, width = self._shape
        count, batch = along.shape
        a, c = along * contexts.rate, (across - 1) * contexts.rate
        value = self._by_head((directions @ self._value.T).unflatten(-1, (groups, width))).transpose(0, 1)
        if self._folds(count, batch):
            keys = self._by_head(self._key.unflatten(0, (groups, width)).transpose(0, 1)).transpose(0, 1)
            folded = torch.bmm(contexts.queries.mT, keys).flatten(0, 1)  # [H·B, d]
            scores = (directions @ folded.T).view(count, -1, batch).transpose(0, 1)
        else:
            key = self._by_head((directions @ self._key.T).unflatten(-1, (groups, width)))
            scores = torch.bmm(key.transpose(0, 1), contexts.queries)
        written = torch.bmm(value, self._written)  # O_hV_s [H, S, d]
        distances: Tensor = _Distances.apply(contexts, scores, value, written, a, c)  # type: ignore[no-untyped-call]
        return distances


class _Distances(torch.autograd.Function):
    """From what the logits gain by direction, ``scores [H, S, B]``; ``V_s [H, S, e]``; ``O_hV_s [H, S, d]``; and the
    coordinates ``a`` and ``c [S, B]``.

    The gradient is written out: a dozen small tables, where autograd keeps fifty.
    """

    @staticmethod
    def forward(
        ctx: Any, contexts: Context, scores: Tensor, value: Tensor, written: Tensor, a: Tensor, c: Tensor
    ) -> Tensor:
        count, batch = a.shape
        before = contexts.log_odds[:, None]
        rise = (scores * a).addcmul_(contexts.logits[:, None], c)
        after = before + rise
        weight = torch.sigmoid(after)
        by_direction = (weight * a).transpose(0, 1)  # P [S, H, B]
        by_context = torch.cat([weight * c, _sigmoid_change(before, after, rise)]).transpose(0, 1)  # g [S, 2H, B]
        met = torch.bmm(value, contexts.forms).view(len(value), count, -1, batch)  # T [H, S, 2H + 1, B]
        crossed = (met[:, :, :-1] * by_context).sum(2).transpose(0, 1)  # [S, H, B]
        clean = met[:, :, -1].transpose(0, 1)
        by_head = written.transpose(0, 1)
        gram = torch.bmm(by_head, by_head.mT)  # [S, H, H]
        own = torch.bmm(gram, by_direction)
        shared = torch.bmm(contexts.squares, by_context.permute(2, 1, 0)).permute(2, 1, 0)  # [S, 2H, B]
        squared = (by_direction * (own + 2 * crossed)).sum(1).add_((by_context * shared).sum(1))
        length = contexts.length
        linear = (by_direction * clean).sum(1).add_((by_context * contexts.along_clean).sum(1))
        longer = 2 * linear + squared  # ‖y + δ‖² − ‖y‖²
        moved = (length.square() + longer).sqrt()
        stretch = longer / (moved + length)
        distance = (squared - stretch.square()) / (4 * moved * length)
        ctx.contexts = contexts
        ctx.save_for_backward(
            scores, written, a, c, weight, by_direction, by_context, met, own + crossed, clean, shared, moved,
            stretch, distance,
        )  # fmt: skip
        return distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        contexts = ctx.contexts
        (
            scores, written, a, c, weight, by_direction, by_context, met, own, clean, shared, moved, stretch,
            distance,
        ) = ctx.saved_tensors  # fmt: skip
        # D = (m − k²)/(4ℓl), k = ℓ − l, with m = ‖δ‖² and ℓ² = l² + 2n + m, n = ⟨y, δ⟩; dℓ/dm = 1/(2ℓ), dℓ/dn = 1/ℓ
        scale = gradient / (4 * moved * contexts.length)
        of_moved = -scale * (2 * stretch + 4 * contexts.length * distance) / moved
        of_squared = (scale + of_moved / 2)[:, None] * 2  # twice, as it always comes
        of_linear = of_moved[:, None]
        of_direction = (own * of_squared).addcmul_(clean, of_linear)  # [S, H, B]
        crossed = (met[:, :, :-1] * by_direction.transpose(0, 1)[:, :, None]).sum(0)
        of_context = crossed.add_(shared).mul_(of_squared).addcmul_(contexts.along_clean, of_linear)
        pulled = by_direction * of_squared
        of_met = torch.cat([pulled[:, :, None] * by_context[:, None], (by_direction * of_linear)[:, :, None]], 2)
        of_value = torch.bmm(of_met.transpose(0, 1).flatten(2), contexts.forms.mT)
        of_gram = torch.bmm(pulled, by_direction.mT)
        of_written = torch.bmm(of_gram, written.transpose(0, 1)).transpose(0, 1)
        heads = len(weight)
        of_direction, of_size = of_direction.transpose(0, 1), of_context[:, :heads].transpose(0, 1)
        of_weight = (of_direction * a).addcmul_(of_size, c).add_(of_context[:, heads:].transpose(0, 1))
        of_rise = of_weight.mul_(weight).mul_(1 - weight)
        return (
            None,
            of_rise * a,
            of_value,
            of_written,
            (of_direction * weight).addcmul_(of_rise, scores).sum(0),
            (of_size * weight).addcmul_(of_rise, contexts.logits[:, None]).sum(0),
        )


def _sigmoid_change(before: Tensor, after: Tensor, rise: Tensor) -> Tensor:
    """``σ(y) − σ(x)``, ``y = x + δ``, without cancellation and for any ``δ``."""
    # σ(y) − σ(x) = σ(y)σ(−x)(1 − e^(x−y)), with the larger of both as y: nothing overflows
    top, bottom = torch.maximum(before, after), torch.minimum(before, after)
    size = torch.sigmoid(top).mul_(torch.sigmoid(-bottom)).mul_(torch.expm1(-rise.abs()))
    return size.mul_(-rise.sign())
