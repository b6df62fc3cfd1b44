"""Folding: the norms' gains and shifts go into the linear maps behind them, and nothing that comes out changes (LN-8).

``W(γ⊙n + β) + b = (Wγ)n + (Wβ + b)``: with the right-hand side's weights a norm has nothing left to learn. Where every
reader of the residual stream is a LayerNorm, which cannot see the mean, what writes into the stream is centred too:
``P`` before each writer, and every norm makes of the sum what it made before. RMSNorm does see the mean, so there
writers stay as they are.

Of the stream itself folding changes its mean, where writers are centred, and nothing else. Presence is measured on the
centred stream, before any gain: it is the same for raw and for folded weights.

That the function is the same is not taken on trust: the logits of both are compared, in float64, on tokens drawn at
random, before the folded weights are rounded and used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sensverify.errors import InputError

TOLERANCE = 1e-5
"""Logits agree if they differ by no more than this share of how far they spread. Some networks take their softmax and
their norms in float32 whatever the dtype, hence no less."""
PARITY_WINDOWS, PARITY_LENGTH = 4, 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folded:
    """How weights were folded. ``parity``: the largest difference of logits, as a share of their spread."""

    writes_centred: bool
    parity: float

    def to_json(self) -> dict[str, object]:
        """Plain JSON. Of the parity only the bound: its last digits depend on the machine, and this identifies runs."""
        return {"writes_centred": self.writes_centred, "logits_equal_within": TOLERANCE}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Of a network: each norm with the maps that read it, and every module that writes into the residual stream.

    ``centred``: the norms cannot see the mean of the stream.
    """

    readers: Sequence[tuple[nn.Module, Sequence[nn.Module]]]
    writers: Sequence[nn.Module]
    centred: bool


@torch.no_grad()
def fold_norms(network: Any, name: str) -> Folded:
    """Fold ``network`` in place; its parameters are float64 afterwards, for the caller to round once.

    Raises :class:`~sensverify.errors.InputError` where the logits change by more than :data:`TOLERANCE`; the network is
    not to be used then.
    """
    for parameter in network.parameters():
        parameter.data = parameter.data.double()
    tokens = _tokens(network.config)
    before = _logits(network, tokens)
    _untie(network)
    plan = _PLANS[network.config.model_type](network)
    for norm, maps in plan.readers:
        _fold(norm, maps)
    if plan.centred:
        for writer in plan.writers:
            _centre(writer)
    parity = difference(before, _logits(network, tokens))
    if not parity <= TOLERANCE:  # NaN too
        raise InputError(
            expected=f"folded weights of {name} that give the same logits, within {TOLERANCE:g} of their spread",
            got=f"a difference of {parity:.2g}",
            remedy="pass --weights raw",
        )
    return Folded(writes_centred=plan.centred, parity=parity)


def difference(before: Tensor, after: Tensor) -> float:
    """The largest difference of logits ``[..., v]`` over the largest distance of one from their mean."""
    spread = (before - before.mean(-1, keepdim=True)).abs().amax()
    return float((before - after).abs().amax() / spread.clamp_min(torch.finfo(before.dtype).tiny))


def _tokens(config: Any) -> Tensor:
    length = min(PARITY_LENGTH, int(getattr(config, "max_position_embeddings", PARITY_LENGTH)))
    generator = torch.Generator().manual_seed(0)
    return torch.randint(int(config.vocab_size), (PARITY_WINDOWS, length), generator=generator)


def _logits(network: Any, tokens: Tensor) -> Tensor:
    logits: Tensor = network(input_ids=tokens.to(next(network.parameters()).device), use_cache=False).logits
    return logits.double()


def _untie(network: Any) -> None:
    """The unembedding gets weights of its own: the final norm's gain is to go into it, not into the embedding."""
    unembedding, embedding = network.get_output_embeddings(), network.get_input_embeddings()
    if unembedding.weight is embedding.weight:
        unembedding.weight = nn.Parameter(unembedding.weight.detach().clone(), requires_grad=False)
        network.config.tie_word_embeddings = False


def _fold(norm: Any, maps: Sequence[Any]) -> None:
    gain, shift = norm.weight, getattr(norm, "bias", None)
    for one in maps:
        weight = _rows(one)  # [out, in]
        if shift is not None and bool(shift.any()):
            added = weight @ shift
            bias = added if one.bias is None else one.bias + added
            one.bias = nn.Parameter(bias, requires_grad=False)
        weight.mul_(gain)
    gain.data.fill_(1.0)
    if shift is not None:
        shift.data.zero_()


def _centre(writer: Any) -> None:
    rows = writer.weight.data.T if isinstance(writer, nn.Embedding) else _rows(writer)  # [d, in]
    rows -= rows.mean(0)
    bias = getattr(writer, "bias", None)
    if bias is not None:
        bias.data -= bias.data.mean()


def _rows(module: Any) -> Tensor:
    """The weight as ``[out, in]``, sharing memory; GPT-2's own kind of linear map keeps it the other way round."""
    weight: Tensor = module.weight.data
    return weight if isinstance(module, nn.Linear) else weight.T


def _gpt_neox(network: Any) -> Plan:
    body = network.gpt_neox
    readers: list[tuple[nn.Module, list[nn.Module]]] = [(body.final_layer_norm, [network.get_output_embeddings()])]
    writers: list[nn.Module] = [body.embed_in]
    for layer in body.layers:
        readers.append((layer.input_layernorm, [layer.attention.query_key_value]))
        readers.append((layer.post_attention_layernorm, [layer.mlp.dense_h_to_4h]))
        writers += [layer.attention.dense, layer.mlp.dense_4h_to_h]
    return Plan(readers=readers, writers=writers, centred=True)


def _gpt2(network: Any) -> Plan:
    body = network.transformer
    readers: list[tuple[nn.Module, list[nn.Module]]] = [(body.ln_f, [network.get_output_embeddings()])]
    writers: list[nn.Module] = [body.wte, body.wpe]
    for layer in body.h:
        readers.append((layer.ln_1, [layer.attn.c_attn]))
        readers.append((layer.ln_2, [layer.mlp.c_fc]))
        writers += [layer.attn.c_proj, layer.mlp.c_proj]
    return Plan(readers=readers, writers=writers, centred=True)


def _llama(network: Any) -> Plan:
    body = network.model
    readers: list[tuple[nn.Module, list[nn.Module]]] = [(body.norm, [network.get_output_embeddings()])]
    for layer in body.layers:
        attention, mlp = layer.self_attn, layer.mlp
        readers.append((layer.input_layernorm, [attention.q_proj, attention.k_proj, attention.v_proj]))
        readers.append((layer.post_attention_layernorm, [mlp.up_proj, mlp.gate_proj]))
    return Plan(readers=readers, writers=[], centred=False)


_PLANS: Mapping[str, Callable[[Any], Plan]] = {"gpt_neox": _gpt_neox, "gpt2": _gpt2, "llama": _llama}
