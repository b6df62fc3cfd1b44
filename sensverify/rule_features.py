"""What a rule may speak about: features of a token in its context, made of token ids and token strings alone.

A *family* asks one question of every position, e.g. which token stands there, which word is being written, how deep in
brackets it is. Its answer is a code at each position (a *categorical* family; an *ordered* one if codes are numbers)
or any number of codes (tokens that occur among the last few). Families look left only: what a model knows at a position
is what stands there and before. No tokenizer is needed, so that toy models can be explained in the same words.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

Codes = NDArray[numpy.int64]

SENTENCE_END = frozenset(".!?")
CLOSING = "\"'”’)]}"
BRACKETS = ("([{", ")]}")
SMALL_VOCABULARY = 256
"""Up to so many different tokens a text is taken to be written in characters or bytes, where n-grams are longer."""
MOST_AFFIXES = 4
"""A set of more beginnings or endings says nothing of the form of words; it is a list of tokens in disguise."""
VERBS = {
    "is": "is not", "hold": "do not hold", "ends in": "does not end in", "begins with": "does not begin with"
}  # fmt: skip
NEAR, FAR, PAIRED = 4, 16, 8
"""How many tokens back skip-grams look; and how many the first of a pair may stand before the second."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contexts:
    """Windows ``tokens [N, L]``, the string of every id in them, and where they start being real text.

    Positions before ``first_position`` (a BOS token) are context, but no rule is asked about them; nor about those that
    are not ``counted [N, L - first_position]``, by default all are.
    """

    tokens: Codes
    strings: Mapping[int, str]
    first_position: int = 0
    counted: NDArray[numpy.bool_] | None = None

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or not 0 <= self.first_position < self.tokens.shape[1]:
            raise ValueError(f"expected windows [N, L] with L > {self.first_position}, got {self.tokens.shape}")
        if missing := set(numpy.unique(self.tokens).tolist()) - set(self.strings):
            raise ValueError(f"expected a string for every token, got none for {sorted(missing)[:5]}")
        if self.counted is not None and self.counted.shape != (len(self.tokens), self.positions):
            raise ValueError(f"expected counted [{len(self.tokens)}, {self.positions}], got {self.counted.shape}")

    @property
    def positions(self) -> int:
        """Positions asked about in each window."""
        return int(self.tokens.shape[1]) - self.first_position

    @property
    def asked(self) -> NDArray[numpy.bool_]:
        """Which positions are asked about, ``[N, L - first_position]``."""
        return numpy.ones((len(self.tokens), self.positions), bool) if self.counted is None else self.counted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """One question: ``codes[i]`` is the answer at position ``where[i]`` of all windows, flattened.

    With ``single`` every position has at most one answer, else any number of distinct ones. ``labels`` name the codes;
    ``subject`` and ``verb`` (of :data:`VERBS`) make a sentence with them, in which ``most`` of them may stand.
    ``token_alone``: whether the token that stands at the position decides it. ``exact``: whether each answer is one
    token. ``complete``: whether there is an answer everywhere.
    """

    name: str
    subject: str
    where: Codes
    codes: Codes
    labels: Sequence[str]
    verb: str = "is"
    ordered: bool = False
    single: bool = True
    most: int | None = None
    token_alone: bool = False
    exact: bool = False
    complete: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def sentence(self, members: Sequence[int], *, negated: bool) -> str:
        """``the token is one of ' she', ' her'``: the rule that holds where the answer is among ``members``."""
        if self.ordered:
            low, high = min(members), max(members)
            span = self.labels[low] if low == high else f"{self.labels[low]} to {self.labels[high]}"
            return f"{self.subject} is {'not ' if negated else ''}{span}"
        values = ", ".join(self.labels[member] for member in members)
        if len(members) > 1:
            return f"{self.subject} {self.verb} {'none' if negated else 'one'} of {values}"
        return f"{self.subject} {VERBS[self.verb] if negated else self.verb} {values}"


def families_of(contexts: Contexts) -> list[Family]:
    """Every family of ``contexts``; positions are those from ``first_position`` on, window after window."""
    return _Maker(contexts).families()


def folded(string: str) -> str:
    """``string`` without the spaces around it and in lower case; white space stays what it is."""
    return string.strip().casefold() or string


def token_class(string: str) -> str:
    """What a token is made of."""
    bare = string.strip()
    if not bare:
        return "a line break" if "\n" in string else "white space"
    if bare.isalpha():
        return "letters"
    if bare.isdigit():
        return "digits"
    if not any(character.isalnum() for character in bare):
        return "punctuation"
    return "mixed characters"


def token_shape(string: str) -> str:
    """How a token is written: a space before it or not, and its capitals."""
    bare = string.strip()
    letters = [character for character in bare if character.isalpha()]
    space = "a space, then " if bare and string[:1].isspace() else ""
    if not letters:
        return space + "no letters"
    if len(letters) > 1 and all(character.isupper() for character in letters):
        return space + "capitals"
    return space + ("a capital first" if letters[0].isupper() else "small letters")


class _Maker:
    """The families of one set of contexts."""

    def __init__(self, contexts: Contexts) -> None:
        self.contexts = contexts
        ids, self.tokens = numpy.unique(contexts.tokens, return_inverse=True)
        self.tokens = self.tokens.reshape(contexts.tokens.shape)
        self.strings = [contexts.strings[int(index)] for index in ids]
        self.first, self.length = contexts.first_position, contexts.tokens.shape[1]
        self.everywhere = numpy.arange(len(self.tokens) * contexts.positions)

    def families(self) -> list[Family]:
        real = numpy.unique(self.tokens[:, self.first :][self.contexts.asked]).tolist()
        characters = all(len(self.strings[token]) <= 1 for token in real)
        lower, lower_names = self._by_token(folded)
        made = [
            self._of_codes("token", "the token", self.tokens, [repr(s) for s in self.strings], token=True, exact=True),
            self._of_codes(
                "token in any case", "the token (in any case, with or without a space)", lower, lower_names, token=True,
                exact=True,
            ),
            self._of_token("class", "the token's class", token_class, quote=False),
            self._of_token("shape", "the token's shape", token_shape, quote=False),
            *([] if characters else self._parts_of_tokens()),
            self._of_codes("token before", "the token before", _shifted(lower, 1), lower_names),
            self._of_codes("token before the last", "the token two back", _shifted(lower, 2), lower_names),
            self._of_codes("class before", "the class of the token before", *self._class_before()),
            *self._n_grams(lower, lower_names),
            *self._running(),
            self._of_codes("seen before", "whether the token has occurred before", self._seen(), ["no", "yes"]),
            self._position(),
            self._skip_gram(lower, lower_names, NEAR),
            self._skip_gram(lower, lower_names, FAR),
            self._skip_pair(lower, lower_names),
        ]  # fmt: skip
        return [family for family in made if len(family) > 1]

    def _of_codes(
        self, name: str, subject: str, codes: Codes, labels: Sequence[str], *, token: bool = False,
        exact: bool = False, ordered: bool = False,
    ) -> Family:  # fmt: skip
        """A family with one code ``[N, L]`` at each position; a negative code is no answer."""
        flat = codes[:, self.first :].reshape(-1)
        kept = flat >= 0
        return Family(
            name=name, subject=subject, where=self.everywhere[kept], codes=flat[kept], labels=labels, ordered=ordered,
            token_alone=token, exact=exact, complete=bool(kept.all()),
        )  # fmt: skip

    def _by_token(self, question: Callable[[str], Hashable], *, quote: bool = True) -> tuple[Codes, list[str]]:
        """Codes ``[N, L]`` of a question that a token's string answers."""
        table, answers = _numbered(question(string) for string in self.strings)
        return table[self.tokens], [repr(answer) if quote else str(answer) for answer in answers]

    def _of_token(self, name: str, subject: str, question: Callable[[str], Hashable], *, quote: bool = True) -> Family:
        return self._of_codes(name, subject, *self._by_token(question, quote=quote), token=True)

    def _parts_of_tokens(self) -> list[Family]:
        made = []
        for verb, cut, lengths in (("ends in", _end, (3, 2, 1)), ("begins with", _start, (3, 2))):
            for count in lengths:
                family = self._of_token(f"{verb} {count}", "the token", functools.partial(cut, count))
                made.append(dataclasses.replace(family, verb=verb, most=MOST_AFFIXES))
        return [*made, self._numbers("length", "the token's length", self._lengths(), token=True)]

    def _lengths(self) -> Codes:
        return numpy.array([len(string.strip()) for string in self.strings])[self.tokens]

    def _class_before(self) -> tuple[Codes, list[str]]:
        codes, names = self._by_token(token_class, quote=False)
        return _shifted(codes, 1), names

    def _n_grams(self, lower: Codes, names: Sequence[str]) -> list[Family]:
        """Two and three tokens in a row that end at the position; up to five where tokens are characters."""
        made: list[Family] = []
        codes = lower
        parts: list[tuple[int, ...]] = [(index,) for index in range(len(names))]
        for n in range(2, 6 if len(self.strings) <= SMALL_VOCABULARY else 4):
            before = _shifted(lower, n - 1)
            joined = numpy.where((before >= 0) & (codes >= 0), before * len(parts) + codes, -1)
            keys, inverse = numpy.unique(joined, return_inverse=True)
            absent = int(keys[0] < 0)
            codes = inverse.reshape(joined.shape) - absent
            parts = [(int(key) // len(parts), *parts[int(key) % len(parts)]) for key in keys[absent:]]
            labels = ["+".join(names[index] for index in part) for part in parts]
            made.append(self._of_codes(f"{n}-gram", f"the last {n} tokens (in any case)", codes, labels))
        return made

    def _running(self) -> list[Family]:
        """What only reading from the left tells: word, last mark, sentence, brackets and quotation marks."""
        skipped = [""] * self.first
        windows = self.tokens[:, self.first :].tolist()
        rows = [_read(skipped + [self.strings[token] for token in window]) for window in windows]
        columns: dict[str, list[list[Any]]] = {key: [row[key] for row in rows] for key in rows[0]}
        word, word_names = _table(columns["word"])
        before, before_names = _table(columns["word before"])
        mark, mark_names = _table(columns["mark"])
        depth, quotes = numpy.array(columns["depth"]), numpy.array(columns["quotes"])
        return [
            self._of_codes("word", "the word so far", word, word_names),
            self._of_codes("word before", "the word before", before, before_names),
            self._numbers("word length", "the length of the word so far", numpy.array(columns["word length"])),
            self._of_codes("mark", "the last punctuation mark", mark, mark_names),
            self._numbers("sentence", "the number of tokens since the sentence began", numpy.array(columns["since"])),
            self._of_codes("brackets", "the depth of brackets", depth, ["0", "1", "2 or more"]),
            self._of_codes("quotation", "the place", quotes, ["outside quotation marks", "inside quotation marks"]),
        ]

    def _numbers(self, name: str, subject: str, values: Codes, *, token: bool = False) -> Family:
        """An ordered family: each value is its own code."""
        labels = [str(value) for value in range(int(values.max()) + 1)]
        return self._of_codes(name, subject, values, labels, token=token, ordered=True)

    def _position(self) -> Family:
        positions = numpy.broadcast_to(numpy.arange(self.length) - self.first, self.tokens.shape)
        return self._numbers("position", "the position in the context", positions)

    def _seen(self) -> Codes:
        """Whether the token has occurred before in its window."""
        seen = numpy.zeros_like(self.tokens)
        for row, window in enumerate(self.tokens):
            first = numpy.unique(window, return_index=True)[1]
            seen[row] = 1
            seen[row, first] = 0
        return seen

    def _skip_gram(self, lower: Codes, names: Sequence[str], span: int) -> Family:
        where, before, _ = self._pairs(lower, span)
        where, codes = _distinct(where, before, len(names))
        subject = f"the {span} tokens before"
        return Family(
            name=f"within {span}", subject=subject, where=where, codes=codes, labels=names, verb="hold", single=False
        )

    def _skip_pair(self, lower: Codes, names: Sequence[str]) -> Family:
        """A token, and another among those before it."""
        where, before, here = self._pairs(lower, PAIRED)
        keys, codes = numpy.unique(before * len(names) + here, return_inverse=True)
        where, codes = _distinct(where, codes, len(keys))
        labels = [f"{names[int(key) // len(names)]} … {names[int(key) % len(names)]}" for key in keys]
        subject = f"the token with one of the {PAIRED} before it"
        return Family(name="pair", subject=subject, where=where, codes=codes, labels=labels, single=False)

    def _pairs(self, lower: Codes, span: int) -> tuple[Codes, Codes, Codes]:
        """Position, code of a token up to ``span`` before it, code of its own token."""
        parts = []
        for back in range(1, span + 1):
            before = _shifted(lower, back)[:, self.first :].reshape(-1)
            kept = before >= 0
            parts.append((self.everywhere[kept], before[kept], lower[:, self.first :].reshape(-1)[kept]))
        where, before, here = (numpy.concatenate(column) for column in zip(*parts, strict=True))
        return where, before, here


def _end(count: int, string: str) -> str:
    return folded(string)[-count:]


def _start(count: int, string: str) -> str:
    return folded(string)[:count]


def _shifted(codes: Codes, back: int) -> Codes:
    """The code ``back`` positions earlier in the same window, −1 before its start."""
    moved = numpy.full_like(codes, -1)
    if back < codes.shape[1]:
        moved[:, back:] = codes[:, :-back]
    return moved


def _distinct(where: Codes, codes: Codes, count: int) -> tuple[Codes, Codes]:
    """Each pair (position, code) once."""
    keys = numpy.unique(where * count + codes)
    return keys // count, keys % count


def _numbered(answers: Iterable[Hashable]) -> tuple[Codes, list[Hashable]]:
    numbers: dict[Hashable, int] = {}
    codes = [-1 if answer is None else numbers.setdefault(answer, len(numbers)) for answer in answers]
    return numpy.array(codes, dtype=numpy.int64), list(numbers)


def _table(rows: Sequence[Sequence[Hashable]]) -> tuple[Codes, list[str]]:
    """Codes ``[N, L]`` of answers ``[N][L]``, where None is no answer."""
    codes, answers = _numbered(answer for row in rows for answer in row)
    return codes.reshape(len(rows), -1), [repr(answer) for answer in answers]


def _read(strings: Sequence[str]) -> dict[str, list[Any]]:
    """One window read from the left; a cut word or sentence at its start is known only from there on."""
    out: dict[str, list[Any]] = {
        key: [] for key in ("word", "word before", "word length", "mark", "since", "depth", "quotes")
    }
    word, previous, mark, since, ended = "", None, None, -1, False
    depth = quotes = 0
    for string in strings:
        if ended and string.strip() and string.strip() not in CLOSING:
            since, ended = 0, False
        elif since >= 0:
            since += 1
        for character in string:
            if character.isalnum() or (character in "'’" and word):
                word += character.casefold()
                continue
            if word:
                word, previous = "", word
            if character in BRACKETS[0]:
                depth += 1
            elif character in BRACKETS[1]:
                depth = max(0, depth - 1)
            elif character in '"“”':
                quotes = {"“": 1, "”": 0}.get(character, 1 - quotes)
            if not character.isspace():
                mark = character
        ended = ended or string.strip().rstrip(CLOSING)[-1:] in SENTENCE_END
        values = (word or None, previous, min(len(word), 20), mark, min(since, 40), min(depth, 2), quotes)
        for column, value in zip(out.values(), values, strict=True):
            column.append(value)
    return out
