"""Text into contexts: real tokens only, cut so that search and evaluation never share a page.

A text file is UTF-8; a line holding only a form feed separates documents. Each document is tokenised by itself and
cut into windows of equal length, each opened by the BOS token if the tokenizer has one; what does not fill a window
is dropped and counted. There is no padding, so none can be drawn by accident. The first two thirds of every
document's windows are for search, the rest is held out for evaluation.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from pythia.embedded import HELD_OUT_PAGES
from pythia.loading import LanguageModel
from sensverify.errors import InputError

FORM_FEED = "\f"
DEFAULT_LENGTH = 64
SEARCH_SHARE = 2 / 3
MINIMUM_WINDOWS = 8


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Token windows ``[N, L]`` for search and for held-out evaluation, and how they were made."""

    search: Tensor
    held_out: Tensor
    source: str
    documents: int
    dropped_tokens: int
    first_position: int

    def to_json(self) -> dict[str, object]:
        """Plain JSON for a result's configuration."""
        return {
            "text": self.source,
            "documents": self.documents,
            "context_length": self.search.shape[1],
            "search_windows": len(self.search),
            "held_out_windows": len(self.held_out),
            "dropped_tokens": self.dropped_tokens,
            "bos_excluded": self.first_position == 1,
        }


def read_corpus(
    model: LanguageModel,
    text: Path | None = None,
    *,
    length: int = DEFAULT_LENGTH,
    limit: int = 512,
    seed: int = 0,
) -> Corpus:
    """Windows of ``length`` tokens from ``text`` (the shipped held-out pages by default).

    At most ``limit`` search windows and half as many held-out ones are kept, a sample fixed by ``seed``.
    Raises :class:`~sensverify.errors.InputError` for a file that is missing, not UTF-8, empty or too short, and
    for a window longer than the model's context.
    """
    path = text or HELD_OUT_PAGES
    documents = [part for part in _read_text(path).split(FORM_FEED) if part.strip()]
    longest = int(getattr(model.config, "max_position_embeddings", length))
    if not 4 <= length <= longest:
        raise InputError(
            expected=f"a context length from 4 to {longest}", got=str(length), remedy="pass another --context"
        )
    prefix = [] if model.bos is None else [model.bos]
    body = length - len(prefix)
    search: list[list[int]] = []
    held_out: list[list[int]] = []
    dropped = 0
    for document in documents:
        ids = model.tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"]
        windows = [prefix + ids[i : i + body] for i in range(0, len(ids) - body + 1, body)]
        dropped += len(ids) - body * len(windows)
        cut = round(len(windows) * SEARCH_SHARE)
        search += windows[:cut]
        held_out += windows[cut:]
    if min(len(search), len(held_out)) < MINIMUM_WINDOWS:
        raise InputError(
            expected=f"text for at least {MINIMUM_WINDOWS} search and as many held-out windows of {length} tokens",
            got=f"{len(search)} and {len(held_out)} from {path.name}",
            remedy="pass a longer --text file, or a shorter --context",
        )
    generator = torch.Generator().manual_seed(seed)
    return Corpus(
        search=_sample(search, limit, generator).to(model.device),
        held_out=_sample(held_out, max(MINIMUM_WINDOWS, limit // 2), generator).to(model.device),
        source="held-out pages (shipped)" if text is None else path.name,
        documents=len(documents),
        dropped_tokens=dropped,
        first_position=len(prefix),
    )


def _read_text(path: Path) -> str:
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            expected="a readable UTF-8 text file",
            got=f"{path}: {type(error).__name__}",
            remedy="check --text",
        ) from error
    if not content.strip():
        raise InputError(expected="a text file with words in it", got=f"{path}, empty", remedy="check --text")
    return content


def _sample(windows: list[list[int]], limit: int, generator: torch.Generator) -> Tensor:
    """At most ``limit`` of the windows, ``[N, L]``, kept in reading order."""
    table = torch.tensor(windows)
    if len(table) <= limit:
        return table
    return table[torch.randperm(len(table), generator=generator)[:limit].sort().values]
