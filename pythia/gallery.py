"""What a direction looks like: the held-out contexts where it is most present, the tokens it writes for.

Logit weights are those of the direct path: the direction, centred and multiplied by the final norm's gain, against
the unembedding. The final norm's division by the activation's size is left out: it scales all logits alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pythia.loading import LanguageModel
from pythia.readout import LanguageModelReadout
from pythia.subject import Found
from sensverify.exhibits import DirectionCard, DirectionGallery, Excerpt
from sensverify.geometry import presence

CARDS = 6
EXCERPTS = 6
TOKENS = 8
BEFORE, AFTER = 12, 6


def logit_weights(model: LanguageModel, directions: Tensor) -> Tensor:
    """``W_U (γ ⊙ Ps) [S, V]`` for ``directions [S, d]``: the direct path's effect on each token's logit."""
    architecture = model.architecture
    read = architecture.centring.project(directions) * architecture.final_norm.gain
    return read.to(model.network.dtype) @ architecture.unembedding.weight.T


def direction_gallery(model: LanguageModel, outcome: Found) -> DirectionGallery:
    """Cards of the best found directions by held-out score."""
    readout = outcome.site.held_out
    assert isinstance(readout, LanguageModelReadout)
    scores = outcome.evaluation.plus.mean
    best = scores.argsort(descending=True)[:CARDS]
    directions = outcome.evaluation.directions[best]
    weights = logit_weights(model, directions)
    seen = torch.unique(readout.windows[:, readout.first_position :])
    rho = presences(readout, directions)
    cards = [
        DirectionCard(
            name=f"direction {int(index)}",
            score_plus=float(scores[index]),
            score_minus=float(outcome.evaluation.minus.mean[index]),
            excerpts=_excerpts(model, readout, rho[rank]),
            promoted=_tokens(model, weights[rank], seen, largest=True),
            demoted=_tokens(model, weights[rank], seen, largest=False),
        )
        for rank, index in enumerate(best)
    ]
    return DirectionGallery(
        title="The most sensitive directions found",
        caption="Held-out contexts where each is most present, one per window, the token at the intervened position "
        "highlighted with its presence; and those tokens of this text that it raises and lowers most by the direct "
        "path to the logits.",
        cards=cards,
    )


def presences(readout: LanguageModelReadout, directions: Tensor) -> Tensor:
    """``ρ [S, N, L - first_position]`` of ``directions [S, d]`` at every real token of every window."""
    residuals = readout.residuals[:, readout.first_position :]
    flat = presence(residuals.flatten(0, 1), directions.to(residuals), readout.centring)
    return flat.unflatten(1, residuals.shape[:2])


def _excerpts(model: LanguageModel, readout: LanguageModelReadout, rho: Tensor) -> list[Excerpt]:
    """The windows with the highest presence ``rho [N, L']``, each at its highest position."""
    peak, position = rho.max(dim=1)
    excerpts = []
    for window in peak.topk(min(EXCERPTS, len(peak))).indices.tolist():
        tokens = readout.windows[window, readout.first_position :].tolist()
        at = int(position[window])
        excerpts.append(
            Excerpt(
                before=_text(model, tokens[max(0, at - BEFORE) : at]),
                token=_text(model, [tokens[at]]),
                after=_text(model, tokens[at + 1 : at + 1 + AFTER]),
                presence=float(peak[window]),
            )
        )
    return excerpts


def _tokens(model: LanguageModel, weights: Tensor, seen: Tensor, *, largest: bool) -> list[tuple[str, float]]:
    """The tokens out of ``seen`` with the largest or smallest weights.

    Only tokens that occur in the text: rows of the unembedding that were hardly ever trained otherwise fill the list.
    """
    top = torch.topk(weights[seen], min(TOKENS, len(seen)), largest=largest)
    return [
        (_text(model, [token]), float(value))
        for token, value in zip(seen[top.indices].tolist(), top.values.tolist(), strict=True)
    ]


def _text(model: LanguageModel, tokens: list[int]) -> str:
    return str(model.tokenizer.decode(tokens, clean_up_tokenization_spaces=False))
