"""Shortens text to a number of characters, at words: half a word at the edge of a context reads as a word of its own.

Where no word ends in the half that is farther from the middle, as in a language without spaces, text is cut inside one.
"""

from __future__ import annotations

ELLIPSIS = "…"


def clip_end(text: str, most: int, *, goes_on: bool = False) -> str:
    """The beginning of ``text``, at most ``most`` characters long; with an ellipsis if anything is left out.

    ``goes_on``: more follows that nobody knows, so that a word at the very end may be half of one and is left out.
    """
    half_a_word = goes_on and text[-1:].isalnum()
    if len(text) <= most and not half_a_word:
        return text
    if most < 1:
        return ""
    kept = text[: most - 1]
    if kept[-1:].isalnum():
        end = _word_ends(kept)
        return kept[:end] + (ELLIPSIS if end == len(kept) else f" {ELLIPSIS}")
    return kept + ELLIPSIS


def clip_start(text: str, most: int) -> str:
    """The end of ``text``, as :func:`clip_end` has its beginning."""
    return clip_end(text[::-1], most)[::-1]


def _word_ends(text: str) -> int:
    """Where the last whole word of ``text`` ends, if it has one in its second half; else where the text does."""
    for at in range(len(text) - 1, len(text) // 2 - 1, -1):
        if text[at].isspace():
            return at
    return len(text)
