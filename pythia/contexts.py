"""Contexts of a direction as running text, cut at words, for a reader who looks at one direction for longer.

What a token says depends on what surrounds it, and decoding a part of a window can lose the space in front of it. So
the whole window is decoded, and what stands before and behind a token is told apart by what decoding adds.
"""

from __future__ import annotations

from torch import Tensor

from pythia.gallery import extreme_positions
from pythia.loading import LanguageModel
from pythia.logit_weights import text_of
from sensverify.clipping import ELLIPSIS, clip_end, clip_start
from sensverify.exhibits import Excerpt

BEFORE, AFTER = 80, 48
"""Characters shown on either side."""


def extreme_contexts(
    model: LanguageModel, windows: Tensor, rho: Tensor, count: int, *, largest: bool
) -> tuple[Excerpt, ...]:
    """The ``count`` of ``windows [N, L']`` with the highest or lowest presence ``rho [N, L']``, each where it is so, as
    :func:`pythia.gallery.extreme_positions` finds them."""
    return contexts_at(model, windows, rho, *extreme_positions(rho, count, largest=largest))


def contexts_at(
    model: LanguageModel, windows: Tensor, rho: Tensor, rows: Tensor, positions: Tensor
) -> tuple[Excerpt, ...]:
    """The contexts of ``windows [N, L']`` in ``rows [m]`` at ``positions [m]``, with their presence ``rho [N, L']``."""
    excerpts = []
    for row, at in zip(rows.tolist(), positions.tolist(), strict=True):
        before, token, after = _parts(model, windows[row].tolist(), at)
        excerpts.append(
            Excerpt(
                before=_begun(clip_start(before, BEFORE), token),
                token=token,
                after=clip_end(after, AFTER, goes_on=True) if after else _unfinished(token),
                presence=float(rho[row, at]),
            )
        )
    return tuple(excerpts)


def _begun(before: str, token: str) -> str:
    """The same, with an ellipsis where a window begins in the middle of a sentence and maybe of a word.

    It is no less than what the model saw, so nothing is left out.
    """
    return ELLIPSIS + before if (before + token)[:1].islower() else before


def _unfinished(token: str) -> str:
    """What is shown behind the last token of a window, which may be the first of a word."""
    return ELLIPSIS if token[-1:].isalnum() else ""


def _parts(model: LanguageModel, tokens: list[int], at: int) -> tuple[str, str, str]:
    """What stands before the token ``at``, the token, and what follows in the window."""
    before, with_token, whole = (text_of(model, tokens[:end]) for end in (at, at + 1, len(tokens)))
    if with_token.startswith(before) and whole.startswith(with_token) and len(with_token) > len(before):
        return before, with_token[len(before) :], whole[len(with_token) :]
    return before, text_of(model, [tokens[at]]), text_of(model, tokens[at + 1 :])  # a part of a character
