"""Text into contexts: real tokens only, cut so that search and evaluation never share a page.

Each document is tokenised by itself and cut into windows of equal length, each opened by the BOS token if the
tokenizer has one. ``packed``: what does not fill a window is dropped and counted, and documents too short for a window
are joined, a separator between them, until they fill some; nothing is padded. ``documents``: no window holds more than
one document, and what does not fill a window is padded on the right, where a causal model's tokens of the text do not
see it.

Of every document's windows the first two thirds are for search, the rest is held out for evaluation; documents too
short to be shared out go to one side whole. A held-out window that says the same as one for search is dropped.

``search_real`` and ``held_out_real`` say which positions hold tokens of the text: not BOS, no other special token, no
padding. Only these are intervened on and only these count (:mod:`pythia.positions`).
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from pythia.documents import open_text
from pythia.loading import LanguageModel
from pythia.positions import Allowed
from sensverify.claims import Packing, Subject
from sensverify.errors import InputError

DEFAULT_LENGTH = 64
SHORTEST = 4
SEARCH_SHARE = 2 / 3
MINIMUM_WINDOWS = 8
MOST_UNREADABLE = 0.02
"""Characters that a tokenizer has no token for are left out, and counted, up to this share of the text."""
PATIENCE = 10_000
"""A text is not judged by fewer characters before its end."""
MINIMUM_TOKENS = 4
"""A document, or what is left of one, with fewer tokens is dropped rather than padded."""
ENOUGH = 4
"""Of a collection that may have no end, documents are read until there are so many times the windows wanted."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextOptions:
    """How a text is read: see :class:`sensverify.claims.Subject`, whose options these are.

    ``pad``: whether, in ``documents``, what does not fill a window is padded; else it is dropped, for whoever works on
    whole windows.
    """

    field: str = "text"
    packing: Packing = "packed"
    outlier_norms: float | None = None
    offline: bool = False
    pad: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """Token windows ``[N, L]`` for search and for held-out evaluation, and how they were made.

    ``search_real`` and ``held_out_real [N, L]``: which positions hold tokens of the text. ``commit``: of a data set on
    the hub.
    """

    search: Tensor
    held_out: Tensor
    search_real: Tensor
    held_out_real: Tensor
    source: str
    documents: int
    read_tokens: int
    dropped_tokens: int
    padding: int
    repeated_windows: int
    unknown_tokens: int
    unreadable_characters: int
    first_position: int
    commit: str | None = None
    options: TextOptions = TextOptions()

    def allowed(self, part: str) -> Allowed:
        """Which positions of the ``search`` or ``held_out`` windows may be intervened on."""
        return Allowed(real=getattr(self, f"{part}_real"), outlier_norms=self.options.outlier_norms)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the windows, token by token: whatever the text was called, these were read."""
        digest = hashlib.sha256()
        for windows in (self.search, self.held_out):
            digest.update(repr(tuple(windows.shape)).encode())
            digest.update(windows.cpu().numpy().astype("<i8").tobytes())
        return digest.hexdigest()

    def to_json(self) -> dict[str, object]:
        """Plain JSON for a result's configuration."""
        real = torch.cat([self.search_real, self.held_out_real])
        bos = self.first_position * len(real)
        return {
            "text": self.source,
            "text_commit": self.commit,
            "windows_sha256": self.fingerprint,
            "packing": self.options.packing,
            "documents": self.documents,
            "context_length": self.search.shape[1],
            "search_windows": len(self.search),
            "held_out_windows": len(self.held_out),
            "read_tokens": self.read_tokens,
            "dropped_tokens": self.dropped_tokens,
            "repeated_windows": self.repeated_windows,
            "unknown_tokens": self.unknown_tokens,
            "unreadable_characters": self.unreadable_characters,
            "bos_excluded": self.first_position == 1,
            "excluded_positions": {
                "bos": bos,
                "padding": self.padding,
                "other special tokens": int((~real).sum()) - bos - self.padding,
            },
        }


def read_subject(
    model: LanguageModel,
    subject: Subject,
    *,
    length: int = DEFAULT_LENGTH,
    limit: int = 512,
    seed: int = 0,
    pad: bool = True,
) -> Corpus:
    """The text of a run; see :func:`read_corpus`.

    Without ``pad``, documents that are to stay apart are read in windows of ``length`` tokens, or of a half, a quarter
    or an eighth, the longest that keep half of the text at least.
    """
    options = TextOptions(
        field=subject.text_field,
        packing=subject.packing,
        outlier_norms=subject.outlier_norms,
        offline=subject.offline,
        pad=pad,
    )
    read = functools.partial(read_corpus, model, subject.text, limit=limit, seed=seed, options=options)
    if not pad and subject.packing == "documents":
        for shorter in (one for one in (length, length // 2, length // 4) if one >= min(length, SHORTEST)):
            with contextlib.suppress(TooShort):
                corpus = read(length=shorter)
                if corpus.dropped_tokens <= corpus.read_tokens / 2:
                    return corpus
        length = max(min(length, SHORTEST), length // 8)
    return read(length=length)


class TooShort(InputError):
    """A text with too few windows in it."""


def read_corpus(
    model: LanguageModel,
    text: Path | str | None = None,
    *,
    length: int = DEFAULT_LENGTH,
    limit: int = 512,
    seed: int = 0,
    options: TextOptions | None = None,
) -> Corpus:
    """Windows of ``length`` tokens from ``text`` (the shipped held-out pages by default).

    At most ``limit`` search windows and half as many held-out ones are kept, a sample fixed by ``seed``.
    Raises :class:`~sensverify.errors.InputError` for a text that cannot be read (:mod:`pythia.documents`), that the
    model has no tokens for, or that is too short, and for a window longer than the model's context.
    """
    options = options or TextOptions()
    longest = int(getattr(model.config, "max_position_embeddings", length))
    if not SHORTEST <= length <= longest:
        raise InputError(
            expected=f"a context length from {SHORTEST} to {longest}", got=str(length), remedy="pass another --context"
        )
    held_out_limit = max(MINIMUM_WINDOWS, limit // 2)
    opened = open_text(text, options.field, offline=options.offline)
    cutter = _Cutter(model, length, options)
    for document in opened.documents:
        cutter.add(document)
        if opened.endless and cutter.count >= ENOUGH * (limit + held_out_limit):
            break
    cutter.finish()
    cutter.check_readable()
    if not cutter.read:
        raise InputError(
            expected=f"a tokenizer of {model.name} that makes tokens of text",
            got=f"none from {opened.name}",
            remedy="use the tokenizer that belongs to the model, and text of the kind that the model was trained on",
        )
    said = set(map(tuple, cutter.search))
    held_out = [window for window in cutter.held_out if tuple(window) not in said]
    if min(len(cutter.search), len(held_out)) < MINIMUM_WINDOWS:
        raise TooShort(
            expected=f"text for at least {MINIMUM_WINDOWS} search and as many held-out windows of {length} tokens",
            got=f"{len(cutter.search)} and {len(held_out)} from {opened.name}",
            remedy="pass a longer --text, or a shorter --context",
        )
    generator = torch.Generator().manual_seed(seed)
    chosen = {
        part: _sample(windows, most, generator)
        for part, windows, most in (("search", cutter.search, limit), ("held_out", held_out, held_out_limit))
    }
    tables = {part: cutter.table(windows) for part, windows in chosen.items()}
    return Corpus(
        **{part: tokens.to(model.device) for part, (tokens, _) in tables.items()},
        **{f"{part}_real": real.to(model.device) for part, (_, real) in tables.items()},
        source=opened.name,
        documents=cutter.documents,
        read_tokens=cutter.read,
        dropped_tokens=cutter.dropped,
        padding=sum(cutter.missing(windows) for windows in chosen.values()),
        repeated_windows=len(cutter.held_out) - len(held_out),
        unknown_tokens=sum(cutter.count_unknown(tokens, real) for tokens, real in tables.values()),
        unreadable_characters=cutter.unreadable,
        first_position=len(cutter.prefix),
        commit=opened.commit,
        options=options,
    )


class _Cutter:
    """Cuts documents, one after another, into windows ``list[int]`` for search and for held-out evaluation."""

    def __init__(self, model: LanguageModel, length: int, options: TextOptions) -> None:
        self._model, self._length, self._packing = model, length, options.packing
        self._padded = options.packing == "documents" and options.pad
        self.prefix = [] if model.bos is None else [model.bos]
        self._body = length - len(self.prefix)
        tokenizer = model.tokenizer
        names = ("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id")
        self._special = torch.tensor(
            sorted({i for name in names if (i := self._known(getattr(tokenizer, name, None))) >= 0})
        )
        self._unknown = self._known(getattr(tokenizer, "unk_token_id", None))
        self._filling = max(0, self._known(getattr(tokenizer, "pad_token_id", None)), *self.prefix)
        self.search: list[list[int]] = []
        self.held_out: list[list[int]] = []
        self.documents = self.read = self.dropped = self.characters = self.unreadable = 0
        self._complaint = ""
        self._joined: list[int] = []

    @property
    def count(self) -> int:
        """Windows so far, those that what was put aside will fill among them."""
        return len(self.search) + len(self.held_out) + len(self._joined) // self._body

    def add(self, document: str) -> None:
        """Cut ``document``, or put it aside if it is to be joined with others."""
        self.documents += 1
        ids = self._tokens(document)
        self.read += len(ids)
        if self._packing == "packed" and len(ids) < self._body:
            self._joined += [*(self._separator() if self._joined else []), *ids]
        else:
            self._share_out(ids)

    def finish(self) -> None:
        """Cut what was put aside."""
        joined, self._joined = self._joined, []
        self._share_out(joined)

    def _separator(self) -> list[int]:
        ending = self._known(getattr(self._model.tokenizer, "eos_token_id", None))
        return [ending] if ending >= 0 else self.prefix or self._blank_line

    @functools.cached_property
    def _blank_line(self) -> list[int]:
        """Not of the text, and so not counted; nothing where the tokenizer has no token for it."""
        return [] if self._fails("\n\n") else self._ids("\n\n")

    def _share_out(self, ids: list[int]) -> None:
        windows = list(self._windows(ids))
        self.dropped += len(ids) - sum(len(window) - len(self.prefix) for window in windows)
        if len(windows) > 2:
            cut = round(len(windows) * SEARCH_SHARE)
        else:  # whole, to the side that lacks windows
            total = len(self.search) + len(self.held_out) + len(windows)
            cut = len(windows) if len(self.search) < SEARCH_SHARE * total else 0
        self.search += windows[:cut]
        self.held_out += windows[cut:]

    def _windows(self, ids: list[int]) -> Iterator[list[int]]:
        for start in range(0, len(ids), self._body):
            body = ids[start : start + self._body]
            if len(body) == self._body or (self._padded and len(body) >= MINIMUM_TOKENS):
                yield self.prefix + body

    def _tokens(self, text: str) -> list[int]:
        self.characters += len(text)
        try:
            ids = self._ids(text)
        except Exception:  # a tokenizer without a word for what it does not know raises a bare Exception
            ids = self._ids_of_the_rest(text)
        if ids and not 0 <= min(ids) <= max(ids) < self._model.vocabulary:
            raise InputError(
                expected=f"a tokenizer of {self._model.name} with numbers below {self._model.vocabulary}",
                got=f"token number {max(ids)}",
                remedy="use the tokenizer that belongs to the model",
            )
        return ids

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def _ids_of_the_rest(self, text: str) -> list[int]:
        """Without the characters that the tokenizer cannot read by themselves, as long as they are few."""
        counts = collections.Counter(text)
        strange = {character for character in counts if self._fails(character)}
        if strange:  # else it is words that the tokenizer does not know, or what stands together
            at = next(place for place, character in enumerate(text) if character in strange)
            line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
            self._complaint = self._complaint or (
                f"the character {text[at]!r} in line {line}, column {column} of document {self.documents}, "
                "which it has no token for"
            )
            self.unreadable += sum(counts[character] for character in strange)
            self.check_readable(at_least=PATIENCE)
        try:
            return self._ids(text.translate(dict.fromkeys(map(ord, strange))))
        except Exception as error:
            raise self._refusal(f"{type(error).__name__}: {error}") from error

    def check_readable(self, *, at_least: int = 0) -> None:
        """Raise :class:`~sensverify.errors.InputError` if more was left out than a text of the model's kind has."""
        if self.unreadable > MOST_UNREADABLE * max(self.characters, at_least):
            raise self._refusal(self._complaint)

    def _refusal(self, got: str) -> InputError:
        return InputError(
            expected=f"text that the tokenizer of {self._model.name} can read",
            got=got,
            remedy="pass a --text of the kind that the model was trained on",
        )

    def _fails(self, text: str) -> bool:
        try:
            self._ids(text)
        except Exception:
            return True
        return False

    def _known(self, token: int | None) -> int:
        """The token's number, or -1 if the model has none such."""
        return int(token) if token is not None and 0 <= int(token) < self._model.vocabulary else -1

    def table(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Tokens ``[N, L]``, padded on the right, and which of them are of the text."""
        tokens = torch.tensor([row + [self._filling] * (self._length - len(row)) for row in rows])
        ends = torch.tensor([len(row) for row in rows])
        position = torch.arange(self._length)
        real = (position >= len(self.prefix)) & (position < ends[:, None]) & ~torch.isin(tokens, self._special)
        return tokens, real

    def missing(self, windows: list[list[int]]) -> int:
        """How many tokens the windows are short of their length."""
        return sum(self._length - len(window) for window in windows)

    def count_unknown(self, tokens: Tensor, real: Tensor) -> int:
        """How many tokens of the text stand for what the tokenizer does not know; special ones are counted as such."""
        return int(((tokens == self._unknown) & real).sum())


def _sample(windows: list[list[int]], limit: int, generator: torch.Generator) -> list[list[int]]:
    """At most ``limit`` of the windows, in reading order."""
    if len(windows) <= limit:
        return windows
    return [windows[i] for i in torch.randperm(len(windows), generator=generator)[:limit].sort().values.tolist()]
