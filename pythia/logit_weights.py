"""What a direction writes by the direct path: its logit weights, and the tokens it raises and lowers.

The stream that a block leaves is added to by the blocks behind it and read, at the end, by the final norm and the
unembedding: ``logits = W_U(γ ⊙ Px / √(‖Px‖²/d + ε) + β)``. Along a direction ``s`` the part that depends on ``s`` alone
is ``W_U(γ ⊙ Ps)``: the norm's gain is folded into the unembedding (LN-8), and its division by the activation's size is
left out, which scales all logits of a context alike and so leaves the order of tokens as it is. What later blocks make
of ``s`` is not in it; whether they agree is what PY-9 asks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pythia.corpus import Corpus
from pythia.loading import LanguageModel
from sensverify.geometry import Centring

TOKENS = 8


def logit_weights(model: LanguageModel, directions: Tensor) -> Tensor:
    """``W_U (γ ⊙ Ps) [S, V]`` for ``directions [S, d]``: the direct path's effect on each token's logit."""
    architecture = model.architecture
    read = architecture.centring.project(directions) * architecture.final_norm.gain
    return read.to(model.network.dtype) @ architecture.unembedding.weight.T


def tied(model: LanguageModel) -> bool:
    """Whether the unembedding is the embedding, so that logit weights are also how alike a token's embedding is."""
    return model.network.get_input_embeddings().weight.data_ptr() == model.architecture.unembedding.weight.data_ptr()


def how_weighed(model: LanguageModel) -> str:
    """One sentence on what these logit weights are."""
    mean = model.architecture.centring is Centring.MEAN
    norm = "LayerNorm: its mean taken away and" if mean else "RMSNorm:"
    kind = "the embedding itself (tied)" if tied(model) else "a matrix of its own (untied)"
    return (
        f"Direct path through the final {norm} its gain γ folded in, its division by the activation's size left out, "
        f"which scales all logits of a context alike; the unembedding is {kind}."
    )


def seen_tokens(corpus: Corpus) -> Tensor:
    """The tokens of the text, without special ones, in order, ``[v]``: rows of the unembedding that were hardly ever
    trained would otherwise fill every list."""
    return torch.unique(torch.cat([corpus.search[corpus.search_real], corpus.held_out[corpus.held_out_real]]))


def extreme_tokens(
    model: LanguageModel, weights: Tensor, seen: Tensor, *, largest: bool, count: int = TOKENS
) -> list[tuple[str, float]]:
    """The tokens out of ``seen [v]`` with the largest or smallest ``weights [V]``, as text."""
    top = torch.topk(weights[seen], min(count, len(seen)), largest=largest)
    return [
        (text_of(model, [token]), float(value))
        for token, value in zip(seen[top.indices].tolist(), top.values.tolist(), strict=True)
    ]


def text_of(model: LanguageModel, tokens: list[int]) -> str:
    """The tokens as the text they stand for."""
    return str(model.tokenizer.decode(tokens, clean_up_tokenization_spaces=False))
