"""A small pre-norm transformer in plain torch, and its read-out: GPT-NeoX, part by part.

Every block is ``x + Attn(LN₁ x) + MLP(LN₂ x)`` (parallel residual), attention rotates queries and keys over the whole
width of a head and has biases, the MLP has ReLU units. The arithmetic is that of GPT-NeoX, so that the weights can be
written to a folder and read by any loader of language models (:mod:`toy_models.planting`); a test holds the two against
each other.

A block may lack attention or MLP. In the exported weights such a part is zero; here it is skipped, and with it
everything that only it would have needed. An intervention at position ``p`` of block ``a``'s output reaches, at
``(b, p + t)``, the positions ``p..p+t`` of blocks ``a+1..b``. Left of ``p`` keys and values of the clean run are kept;
positions that a later block does not attend to are not computed; and a position that the intervention has not reached
is computed once, not once per direction (its leading axis has length 1).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sensverify.errors import InputError
from sensverify.geometry import Centring
from sensverify.readout import Batch


@dataclasses.dataclass(frozen=True)
class Linear:
    """``x ↦ Wx + b`` with ``weight [out, in]`` (None for 0, a constant map) and ``bias [out]``."""

    weight: Tensor | None
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """``[..., out]`` from ``[..., in]``; a constant map gives ``[1, .., 1, out]``, once for all directions."""
        if self.weight is None:
            return self.bias.expand(*(1,) * (x.ndim - 1), -1)
        return torch.nn.functional.linear(x, self.weight, self.bias)

    def scaled(self, factor: float) -> Linear:
        """``x ↦ factor·(Wx + b)``."""
        return Linear(None if self.weight is None else factor * self.weight, factor * self.bias)


@dataclasses.dataclass(frozen=True)
class Norm:
    """LayerNorm with ``gain [d]`` and ``shift [d]``."""

    gain: Tensor
    shift: Tensor
    epsilon: float = 1e-5

    def __call__(self, x: Tensor) -> Tensor:
        """Same shape as ``x [..., d]``."""
        return torch.nn.functional.layer_norm(x, self.gain.shape, self.gain, self.shift, self.epsilon)


@dataclasses.dataclass(frozen=True)
class Attention:
    """Rotary causal attention; each map is ``d`` to ``d``, heads side by side in the output of the first three."""

    query: Linear
    key: Linear
    value: Linear
    out: Linear


@dataclasses.dataclass(frozen=True)
class Mlp:
    """``out(ReLU(enter(x)))``."""

    enter: Linear
    out: Linear

    def units(self, x: Tensor) -> Tensor:
        """The ReLU units ``[..., m]``."""
        return torch.relu(self.enter(x))


@dataclasses.dataclass(frozen=True)
class Block:
    """One block; ``None`` for a part that adds nothing."""

    norm_1: Norm
    norm_2: Norm
    attention: Attention | None = None
    mlp: Mlp | None = None

    def scaled(self, factor: float) -> Block:
        """What is added is multiplied by ``factor``."""
        attention = self.attention and dataclasses.replace(self.attention, out=self.attention.out.scaled(factor))
        mlp = self.mlp and dataclasses.replace(self.mlp, out=self.mlp.out.scaled(factor))
        return dataclasses.replace(self, attention=attention, mlp=mlp)


@dataclasses.dataclass(frozen=True)
class Transformer:
    """``embedding [V, d]``, the blocks, the final norm and ``unembedding [V, d]``."""

    embedding: Tensor
    blocks: tuple[Block, ...]
    final_norm: Norm
    unembedding: Tensor
    heads: int = 1
    rotary_base: float = 10_000.0

    @property
    def width(self) -> int:
        """``d``."""
        return self.embedding.shape[1]

    @torch.no_grad()
    def residuals(self, tokens: Tensor) -> list[Tensor]:
        """The residual stream ``[N, L, d]`` after every block, of ``tokens [N, L]``."""
        positions = torch.arange(tokens.shape[1])
        stream, streams = self.embedding[tokens], []
        for block in self.blocks:
            added = []
            if block.attention is not None:
                query, key, value = self.project(block, stream, positions)
                scores = torch.einsum("nqhe,nkhe->nhqk", query, key) * query.shape[-1] ** -0.5
                scores = scores.masked_fill(positions[:, None] < positions, float("-inf"))
                mixed = torch.einsum("nhqk,nkhe->nqhe", scores.softmax(-1), value)
                added.append(block.attention.out(mixed.flatten(-2)))
            if block.mlp is not None:
                added.append(block.mlp.out(block.mlp.units(block.norm_2(stream))))
            stream = sum(added, stream)
            streams.append(stream)
        return streams

    def logits(self, tokens: Tensor) -> Tensor:
        """``[N, L, V]``."""
        return self.final_norm(self.residuals(tokens)[-1]) @ self.unembedding.T

    def project(self, block: Block, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries, rotated keys and values ``[..., H, d_h]`` of ``x [..., d]``.

        ``positions`` has the shape of ``x`` without its last axis, or one that broadcasts to it.
        """
        attention = block.attention
        assert attention is not None
        normed = block.norm_1(x)
        outputs = (attention.query(normed), attention.key(normed), attention.value(normed))
        query, key, value = (output.reshape(*output.shape[:-1], self.heads, -1) for output in outputs)
        angles = positions[..., None] * rotary_frequencies(query.shape[-1], self.rotary_base)
        turn = torch.cat((angles, angles), dim=-1)[..., None, :]
        return _rotate(query, turn), _rotate(key, turn), value

    def scaled(self, factor: float) -> Transformer:
        """The same with a stream ``factor`` times as long: embedding and what blocks add are multiplied by it.

        Whatever reads the stream does so through a norm, so no prediction changes, up to the norms' ``ε``.
        """
        return dataclasses.replace(
            self, embedding=factor * self.embedding, blocks=tuple(block.scaled(factor) for block in self.blocks)
        )

    def shuffled(self, generator: torch.Generator) -> Transformer:
        """A copy with the entries of every matrix permuted; biases and norms are kept."""

        def shuffle(value: Any) -> Any:
            if isinstance(value, Tensor) and value.ndim > 1:
                return value.flatten()[torch.randperm(value.numel(), generator=generator)].view_as(value)
            if isinstance(value, tuple):
                return tuple(map(shuffle, value))
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                fields = dataclasses.fields(value)
                return dataclasses.replace(
                    value, **{field.name: shuffle(getattr(value, field.name)) for field in fields}
                )
            return value

        copy: Transformer = shuffle(self)
        return copy

    def digest(self) -> str:
        """sha256 over all weights."""
        digest = hashlib.sha256()
        for tensor in _tensors(self):
            digest.update(f"{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().contiguous().numpy().tobytes())
        return digest.hexdigest()


def rotary_frequencies(head_width: int, base: float) -> Tensor:
    """``base^(−2r/d_h)`` for ``r = 0 .. d_h/2 − 1``: how fast coordinates ``r`` and ``r + d_h/2`` of a head turn."""
    return base ** -(torch.arange(0, head_width, 2) / head_width)


def _rotate(x: Tensor, turn: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * turn.cos() + torch.cat((-second, first), dim=-1) * turn.sin()


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    if dataclasses.is_dataclass(value):
        return [tensor for field in dataclasses.fields(value) for tensor in _tensors(getattr(value, field.name))]
    return []


@dataclasses.dataclass(frozen=True)
class CleanRun:
    """What a read needs of the clean pass, for ``B`` contexts moved at ``positions [B]``.

    ``residuals [t+1, B, d]``: block ``a``'s outputs at ``p..p+t``. ``keys`` and ``values``: for each block of the
    suffix those of every position, ``[B, L, H, d_h]``, or None for a block without attention.
    """

    positions: Tensor
    residuals: Tensor
    keys: tuple[Tensor | None, ...]
    values: tuple[Tensor | None, ...]


class TransformerReadout:
    """Move block ``layer``'s output at ``p``, measure block ``target``'s at ``p + offset``.

    Args:
        model: the transformer.
        windows: token contexts ``[N, L]``; ``p`` is uniform on ``0 .. L-1-offset``.
        layer, target, offset: ``a``, ``b`` and ``t``.
        units: measure the ReLU units of block ``target``, a privileged basis, in place of the residual stream.

    Raises :class:`~sensverify.errors.InputError` for a site that the model does not have.
    """

    def __init__(
        self, model: Transformer, windows: Tensor, *, layer: int, target: int, offset: int, units: bool = False
    ) -> None:
        if not 0 <= layer < target < len(model.blocks) or not 0 <= offset < windows.shape[1]:
            raise InputError(
                expected=f"0 ≤ layer < target < {len(model.blocks)} and an offset from 0 to {windows.shape[1] - 1}",
                got=f"layer {layer}, target {target}, offset {offset}",
                remedy="pass a site inside the model and the windows",
            )
        if units and model.blocks[target].mlp is None:
            raise InputError(
                expected="a target block with an MLP to read the units of",
                got=f"block {target}, which has none",
                remedy="pass another target, or units=False",
            )
        self.model, self.windows, self.units = model, windows, units
        self.layer, self.target, self.offset = layer, target, offset
        self._blocks = model.blocks[layer + 1 : target + 1]
        streams = model.residuals(windows)[layer:target]  # what the blocks of the suffix take in
        self._source = streams[0]
        everywhere = torch.arange(windows.shape[1])
        caches: list[tuple[Tensor | None, Tensor | None]] = []
        for block, stream in zip(self._blocks, streams, strict=True):
            if block.attention is None:
                caches.append((None, None))
                continue
            _, key, value = model.project(block, stream, everywhere)
            key, value = (cache.expand(*windows.shape, -1, -1) for cache in (key, value))
            caches.append((key, value))
        self._keys, self._values = (tuple(part) for part in zip(*caches, strict=True))

    @property
    def width(self) -> int:
        """``d``."""
        return self.model.width

    @property
    def centring(self) -> Centring:
        """LayerNorm cannot see the mean."""
        return Centring.MEAN

    @property
    def device(self) -> torch.device:
        """Toys live on the CPU."""
        return torch.device("cpu")

    @property
    def privileged(self) -> bool:
        """True for the ReLU units, False for the residual stream."""
        return self.units

    def sample(self, count: int, generator: torch.Generator) -> Batch[CleanRun]:
        """``count`` contexts: windows drawn with replacement, positions uniform."""
        rows = torch.randint(len(self.windows), (count,), generator=generator)
        positions = torch.randint(self.windows.shape[1] - self.offset, (count,), generator=generator)
        return self.at(rows, positions)

    def at(self, rows: Tensor, positions: Tensor) -> Batch[CleanRun]:
        """The contexts of windows ``rows [B]`` moved at ``positions [B]``."""
        index = positions + torch.arange(self.offset + 1)[:, None]
        residuals = self._source[rows, index]

        def chosen(cache: Tensor | None) -> Tensor | None:
            return None if cache is None else cache[rows]

        keys, values = (tuple(map(chosen, caches)) for caches in (self._keys, self._values))
        return Batch(residuals[0], CleanRun(positions, residuals, keys, values))

    @torch.no_grad()
    def clean(self, batch: Batch[CleanRun]) -> Tensor:
        """``[B, d]``, or ``[B, m]`` for the units."""
        return self.read(batch, batch.x[None])[0]

    def read(self, batch: Batch[CleanRun], x: Tensor) -> Tensor:
        """``[S, B, d]``, or ``[S, B, m]`` for the units, with ``x [S, B, d]`` in the place of block ``layer``'s output.

        Where nothing of ``x`` reaches the read-out the result is the clean one, expanded.
        """
        clean, last = batch.state, len(self._blocks) - 1
        streams = dict(enumerate([x, *clean.residuals[1:, None]]))  # by position after p; each [S or 1, B, d]
        for depth, block in enumerate(self._blocks):
            attended = any(later.attention for later in self._blocks[depth + 1 :])
            wanted = range(self.offset + 1) if attended else (self.offset,)
            mixed = self._attend(block, clean, depth, streams, wanted)
            if depth == last and self.units:
                break
            streams = {j: self._close(block, streams[j], mixed.get(j)) for j in wanted}
        final = streams[self.offset]
        if self.units:
            block = self._blocks[last]
            assert block.mlp is not None
            final = block.mlp.units(block.norm_2(final))
        everywhere: Tensor = final.expand(len(x), *final.shape[1:])
        return everywhere

    @staticmethod
    def _close(block: Block, x: Tensor, attention: Tensor | None) -> Tensor:
        after = x if attention is None else x + attention
        return after if block.mlp is None else after + block.mlp.out(block.mlp.units(block.norm_2(x)))

    def _attend(
        self, block: Block, clean: CleanRun, depth: int, streams: dict[int, Tensor], wanted: range | tuple[int, ...]
    ) -> dict[int, Tensor]:
        """What attention adds at each of the ``wanted`` positions after ``p``; nothing for a block without it."""
        if block.attention is None:
            return {}
        left_keys, left_values = clean.keys[depth], clean.values[depth]
        assert left_keys is not None
        assert left_values is not None
        own = {j: self.model.project(block, x, (clean.positions + j)[None]) for j, x in streams.items()}
        beyond = torch.arange(left_keys.shape[1]) >= clean.positions[:, None]
        added = {}
        for j in wanted:
            query = own[j][0]
            left = torch.einsum("sbhe,blhe->sbhl", query, left_keys).masked_fill(beyond[:, None], float("-inf"))
            recomputed = [(query * own[i][1]).sum(-1, keepdim=True) for i in range(j + 1)]
            leading = max(len(score) for score in recomputed)
            scores = torch.cat([part.expand(leading, *part.shape[1:]) for part in (left, *recomputed)], dim=-1)
            pattern = (scores * query.shape[-1] ** -0.5).softmax(-1)
            length = left.shape[-1]
            mixed = torch.einsum("sbhl,blhe->sbhe", pattern[..., :length], left_values)
            for i in range(j + 1):
                mixed = mixed + pattern[..., length + i, None] * own[i][2]
            added[j] = block.attention.out(mixed.flatten(-2))
        return added

    def describe(self) -> Mapping[str, Any]:
        """Site, data and the weights' digest."""
        return {
            "model": "toy transformer",
            "weights_sha256": self.model.digest(),
            "layer": self.layer,
            "target": self.target,
            "offset": self.offset,
            "read": "units" if self.units else "residual stream",
            "windows": list(self.windows.shape),
        }
