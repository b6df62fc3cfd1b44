"""What the engine needs to know of a transformer, in one vocabulary for every architecture that it reads.

An adapter takes a Hugging Face network and hands over its parts: norms, projections, rotary positions, how residuals
are added. Everything else is written once, in terms of these. The parts share the network's memory where their layout
allows; GPT-NeoX interleaves queries, keys and values by head, and Llama keeps them apart: those are copied, once per
block.

An architecture, or a switch of a configuration, that no adapter implements is refused by name. What an adapter says is
held against the network's own forward pass by the parity tests.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from sensverify.errors import InputError
from sensverify.geometry import Centring


class Rotary(Protocol):
    """Positions ``[...]`` to cosines and sines ``[..., r]`` for the first ``r`` coordinates of every head."""

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The angles of positions below what was reserved."""

    def reserve(self, length: int) -> None:
        """Be ready for positions below ``length``."""


@dataclasses.dataclass(frozen=True)
class Linear:
    """``x ↦ Wx + b``: ``weight [out, in]``, ``bias [out]`` or None."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """``[..., in] -> [..., out]``."""
        return functional.linear(x, self.weight, self.bias)

    def rows(self, start: int, end: int | None = None) -> Linear:
        """The outputs from number ``start`` on, up to ``end``; shares memory."""
        return Linear(self.weight[start:end], None if self.bias is None else self.bias[start:end])


@dataclasses.dataclass(frozen=True)
class Norm:
    """LayerNorm (``centring`` MEAN) or RMSNorm (NONE): ``γ⊙Px/√(‖Px‖²/d + ε) + β``; ``shift`` is None without ``β``."""

    gain: Tensor
    shift: Tensor | None
    epsilon: float
    centring: Centring

    def __call__(self, x: Tensor) -> Tensor:
        """``[..., d] -> [..., d]``."""
        if self.centring is Centring.MEAN:
            return functional.layer_norm(x, self.gain.shape, self.gain, self.shift, self.epsilon)
        return functional.rms_norm(x, self.gain.shape, self.gain, self.epsilon)

    def rate(self, x: Tensor) -> Tensor:
        """``1/√(‖Px‖²/d + ε)``, ``[..., d] -> [...]``: what ``Px`` is multiplied by; it depends on its length alone."""
        centred = self.centring.project(x)
        return torch.rsqrt(centred.square().mean(-1) + self.epsilon)


@dataclasses.dataclass(frozen=True)
class NormedLinear:
    """A linear map behind a norm."""

    norm: Norm
    linear: Linear

    def __call__(self, x: Tensor) -> Tensor:
        """``[..., d] -> [..., out]``."""
        return self.linear(self.norm(x))

    @functools.cached_property
    def folded(self) -> Linear:
        """``(Wγ, Wβ + b)``: what is made of ``x`` is ``rate·WγPx + (Wβ + b)`` (LN-8)."""
        weight, bias, shift = self.linear.weight, self.linear.bias, self.norm.shift
        if shift is not None:
            bias = weight @ shift if bias is None else torch.addmv(bias, weight, shift)
        return Linear(weight * self.norm.gain, bias)


@dataclasses.dataclass(frozen=True)
class Mlp:
    """``out(act(into(x)))``, or with a gate ``out(act(gate(x)) ⊙ into(x))``."""

    into: Linear
    gate: Linear | None
    activation: Callable[[Tensor], Tensor]
    out: Linear

    def __call__(self, x: Tensor) -> Tensor:
        """``[..., d] -> [..., d]``."""
        return self.close(self.into(x), None if self.gate is None else self.gate(x))

    def close(self, seen: Tensor, gate: Tensor | None) -> Tensor:
        """The output from what the first layer sees, ``[..., n] -> [..., d]``."""
        hidden = self.activation(seen) if gate is None else self.activation(gate) * seen
        return self.out(hidden)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """One pre-norm block.

    ``projections`` makes ``heads`` queries, ``groups`` keys and ``groups`` values, of ``head_width`` each and in this
    order, of the normed stream. ``parallel``: attention and MLP both read the block's input.
    """

    attention_norm: Norm
    mlp_norm: Norm
    projections: Linear
    output: Linear
    mlp: Mlp
    heads: int
    groups: int
    head_width: int
    scale: float
    rotary: Rotary | None
    parallel: bool

    @functools.cached_property
    def sees(self) -> NormedLinear:
        """:attr:`projections` behind their norm."""
        return NormedLinear(self.attention_norm, self.projections)

    @functools.cached_property
    def queries(self) -> NormedLinear:
        """The part of :attr:`sees` before keys and values."""
        return NormedLinear(self.attention_norm, self.projections.rows(0, self.heads * self.head_width))

    @functools.cached_property
    def keys_and_values(self) -> NormedLinear:
        """The part of :attr:`sees` behind the queries."""
        return NormedLinear(self.attention_norm, self.projections.rows(self.heads * self.head_width))

    @functools.cached_property
    def mlp_sees(self) -> NormedLinear:
        """The MLP's first layer behind its norm."""
        return NormedLinear(self.mlp_norm, self.mlp.into)

    @functools.cached_property
    def gate_sees(self) -> NormedLinear | None:
        """The MLP's gate behind its norm."""
        return None if self.mlp.gate is None else NormedLinear(self.mlp_norm, self.mlp.gate)

    def split(self, projected: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Queries ``[..., H, e]``, keys and values ``[..., G, e]``, before rotation; queries only if they are there."""
        kv = self.groups * self.head_width
        rest = projected.shape[-1] - 2 * kv
        query, key, value = torch.split(projected, (rest, kv, kv), -1)
        shape = (self.groups, self.head_width)
        queries = query.unflatten(-1, (self.heads, self.head_width)) if rest else None
        return queries, key.unflatten(-1, shape), value.unflatten(-1, shape)

    def rotate(self, x: Tensor, positions: Tensor, *, back: bool = False) -> Tensor:
        """``x [..., heads, e]`` turned to ``positions [...]``, or turned back from them."""
        if self.rotary is None:
            return x
        cos, sin = (table[..., None, :].to(x) for table in self.rotary(positions))
        half = cos.shape[-1] // 2
        first, second, passed = torch.split(x, (half, half, x.shape[-1] - 2 * half), -1)
        (c, d), (s, t) = cos.chunk(2, -1), (-sin if back else sin).chunk(2, -1)
        return torch.cat((first * c - second * s, second * d + first * t, passed), -1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network in parts: ``blocks``, the modules that hold them, the body that runs them, final norm, unembedding."""

    body: nn.Module
    modules: Sequence[nn.Module]
    blocks: tuple[Block, ...]
    final_norm: Norm
    unembedding: Linear

    @property
    def centring(self) -> Centring:
        """What the blocks' norms cannot see."""
        return self.final_norm.centring


def adapt(network: nn.Module) -> Architecture:
    """The parts of a loaded network. Call :func:`check_config` on its configuration first."""
    return _ADAPTERS[network.config.model_type](network)


def check_config(config: Any, name: str) -> None:
    """Refuse, by name, an architecture or a switch that is not implemented.

    Raises :class:`~sensverify.errors.InputError`; ``name`` is what the user called the model.
    """
    kind = config.model_type
    if kind not in _ADAPTERS:
        raise InputError(
            expected=f"an architecture out of {', '.join(SUPPORTED)}",
            got=f"{kind!r} in {name}",
            remedy="use a model of one of these families, e.g. Pythia, GPT-2 or a Llama",
        )
    for switch, allowed in _SWITCHES[kind].items():
        value = getattr(config, switch, allowed[0])
        if value not in allowed:
            raise InputError(
                expected=f"{switch} = {' or '.join(map(repr, allowed))} in the configuration of a {kind} model",
                got=f"{value!r} in {name}",
                remedy="use a model without it",
            )
    rope_type = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope_type not in _ROPE_TYPES:
        raise InputError(
            expected=f"rotary positions of type {', '.join(_ROPE_TYPES)}",
            got=f"rope_type {rope_type!r} in {name}",
            remedy="use a model whose rotary scaling does not depend on the length of the context",
        )


_ROPE_TYPES = ("default", "linear", "llama3", "yarn")
"""Those whose angles depend on the position alone."""


def _linear(module: Any) -> Linear:
    return Linear(module.weight, module.bias)


def _of_conv(module: Any) -> Linear:
    """GPT-2 keeps its matrices the other way round."""
    return Linear(module.weight.T, module.bias)


def _layer_norm(module: Any) -> Norm:
    return Norm(module.weight, module.bias, float(module.eps), Centring.MEAN)


def _rms_norm(module: Any) -> Norm:
    return Norm(module.weight, None, float(module.variance_epsilon), Centring.NONE)


class _Table:
    """Cosines and sines of a network's own rotary module, computed once for every position met so far."""

    def __init__(self, module: Any, like: Tensor) -> None:
        self._module, self._like = module, like
        self._length = 0
        self.reserve(64)

    def reserve(self, length: int) -> None:
        if length <= self._length:  # other read-outs of this network may have longer windows
            return
        self._length = length
        positions = torch.arange(length, device=self._like.device)[None]
        cos, sin = self._module(self._like, positions)
        self._cos, self._sin = cos[0], sin[0]

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return self._cos[positions], self._sin[positions]


def _gpt_neox(network: Any) -> Architecture:
    body, config = network.gpt_neox, network.config
    heads = int(config.num_attention_heads)
    width = int(config.hidden_size) // heads
    angles = _Table(body.rotary_emb, body.embed_in.weight)
    blocks = []
    for layer in body.layers:
        joint = layer.attention.query_key_value
        weight = joint.weight.unflatten(0, (heads, 3, width)).transpose(0, 1).flatten(0, 2)
        bias = None if joint.bias is None else joint.bias.unflatten(0, (heads, 3, width)).transpose(0, 1).flatten()
        mlp = layer.mlp
        blocks.append(
            Block(
                attention_norm=_layer_norm(layer.input_layernorm),
                mlp_norm=_layer_norm(layer.post_attention_layernorm),
                projections=Linear(weight, bias),
                output=_linear(layer.attention.dense),
                mlp=Mlp(_linear(mlp.dense_h_to_4h), None, mlp.act, _linear(mlp.dense_4h_to_h)),
                heads=heads,
                groups=heads,
                head_width=width,
                scale=float(layer.attention.scaling),
                rotary=angles,
                parallel=bool(layer.use_parallel_residual),
            )
        )
    return Architecture(
        body=body,
        modules=body.layers,
        blocks=tuple(blocks),
        final_norm=_layer_norm(body.final_layer_norm),
        unembedding=_linear(network.get_output_embeddings()),
    )


def _gpt2(network: Any) -> Architecture:
    body, config = network.transformer, network.config
    heads = int(config.num_attention_heads)
    blocks = tuple(
        Block(
            attention_norm=_layer_norm(layer.ln_1),
            mlp_norm=_layer_norm(layer.ln_2),
            projections=_of_conv(layer.attn.c_attn),
            output=_of_conv(layer.attn.c_proj),
            mlp=Mlp(_of_conv(layer.mlp.c_fc), None, layer.mlp.act, _of_conv(layer.mlp.c_proj)),
            heads=heads,
            groups=heads,
            head_width=int(config.hidden_size) // heads,
            scale=float(layer.attn.scaling),
            rotary=None,
            parallel=False,
        )
        for layer in body.h
    )
    return Architecture(
        body=body,
        modules=body.h,
        blocks=blocks,
        final_norm=_layer_norm(body.ln_f),
        unembedding=_linear(network.get_output_embeddings()),
    )


def _llama(network: Any) -> Architecture:
    body, config = network.model, network.config
    angles = _Table(body.rotary_emb, body.embed_tokens.weight)
    blocks = []
    for layer in body.layers:
        attention, mlp = layer.self_attn, layer.mlp
        parts = [attention.q_proj, attention.k_proj, attention.v_proj]
        bias = None if attention.q_proj.bias is None else torch.cat([part.bias for part in parts])
        blocks.append(
            Block(
                attention_norm=_rms_norm(layer.input_layernorm),
                mlp_norm=_rms_norm(layer.post_attention_layernorm),
                projections=Linear(torch.cat([part.weight for part in parts]), bias),
                output=_linear(attention.o_proj),
                mlp=Mlp(_linear(mlp.up_proj), _linear(mlp.gate_proj), mlp.act_fn, _linear(mlp.down_proj)),
                heads=int(config.num_attention_heads),
                groups=int(config.num_key_value_heads),
                head_width=int(attention.head_dim),
                scale=float(attention.scaling),
                rotary=angles,
                parallel=False,
            )
        )
    return Architecture(
        body=body,
        modules=body.layers,
        blocks=tuple(blocks),
        final_norm=_rms_norm(body.norm),
        unembedding=_linear(network.get_output_embeddings()),
    )


_ADAPTERS: Mapping[str, Callable[[Any], Architecture]] = {"gpt_neox": _gpt_neox, "gpt2": _gpt2, "llama": _llama}
SUPPORTED = tuple(_ADAPTERS)
_SWITCHES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "gpt_neox": {"is_decoder": (False, True)},
    "gpt2": {"add_cross_attention": (False,), "reorder_and_upcast_attn": (False, True)},
    "llama": {"pretraining_tp": (1,)},
}
"""Switches that would change what is computed, with the values that are implemented."""
