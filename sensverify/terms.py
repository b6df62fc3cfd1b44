"""The words of a report, explained in a line each: only those that the report uses.

Figures and tables are short because they take these words for known. A reader who meets one of them for the first time
should not have to look for it elsewhere.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_IDENTITY = re.compile(r"(?<![\w-])[A-Z]{2}-\d+(?:\.[a-z]\w*)?(?![\w-])")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term:
    """A word, the pattern that finds it in a text, and what it means; ``meaning`` may hold inline LaTeX."""

    name: str
    pattern: str
    meaning: str


TERMS = (
    Term(
        name="presence, $\\rho$",
        pattern=r"[Pp]resen(?:ce|ces|t)\b",
        meaning="The cosine between a direction and an activation, its mean taken off if the model has LayerNorm: what "
        "share of the activation's length lies along the direction, with its sign.",
    ),
    Term(
        name="SeS, sensitivity",
        pattern=r"\bSeS\b|[Ss]ensitiv",
        meaning="How far, on average over contexts and presences set, what the model computes later moves when a "
        "direction's presence is set to another value and the activation's length is kept. 0: nothing moves.",
    ),
    Term(
        name="layer",
        pattern=r"\blayers?\b",
        meaning="Layer $a$ is the residual stream after block $a$, the first block being 0.",
    ),
    Term(
        name="held out",
        pattern=r"[Hh]eld[- _]out",
        meaning="Text that no search, rule or autoencoder was made on.",
    ),
    Term(
        name="found, negated, random",
        pattern=r"\b(?:found|negated|random)\b.*\bdirections?\b|\bdirections? found\b",
        meaning="Groups of directions: those that a search for high sensitivity ends at, the same with the opposite "
        "sign, and directions drawn at random.",
    ),
    Term(
        name="SAE, latent",
        pattern=r"\bSAEs?\b|[Aa]utoencoder|\b[Ll]atents?\b",
        meaning="Sparse autoencoder, and one of its units, taken as the direction that its decoder writes.",
    ),
    Term(
        name="shuffled model",
        pattern=r"[Ss]huffled[ _](?:model|weights)",
        meaning="A copy of the model whose weights are permuted within each matrix: what is found in it owes nothing "
        "to training. In tables of groups, directions that the same search found on that copy.",
    ),
    Term(
        name="clean, absent (reference)",
        pattern=r"\b(?:clean|absent)\b",
        meaning="What an effect is measured against: the model as it runs (clean), or the model with the direction's "
        "presence set to 0 (absent).",
    ),
    Term(
        name="null rotation, $\\alpha = \\rho$",
        pattern=r"[Nn]ull[ _](?:rotation|intervention|effect|control)|α = ρ",
        meaning="Setting presence to the value that it has. Nothing is changed, so that the effect must be 0 up to "
        "rounding.",
    ),
    Term(
        name="removal",
        pattern=r"\b[Rr]emov(?:al|es?)\b",
        meaning="The part of an effect that comes from taking away what was present, not from adding something.",
    ),
    Term(
        name="concentration",
        pattern=r"\b[Cc]oncentration",
        meaning="On how few units an effect lands: near 1 for a single unit, small if it is spread over many.",
    ),
    Term(
        name="[low, high]",
        pattern=r"[Ii]ntervals?\b|\bbounds?\b",
        meaning="An interval, at 95 % unless another level is named with it.",
    ),
    Term(
        name="Holm, Bonferroni",
        pattern=r"\bHolm\b|\bBonferroni\b",
        meaning="Corrections for judging several comparisons at once.",
    ),
    Term(
        name="false twin",
        pattern=r"false[ _]twins?",
        meaning="A statement that is wrong on purpose. A checker counts only if it refutes its false twins as well.",
    ),
    Term(
        name="THEORY",
        pattern=r"\bTHEORY\b",
        meaning="The written list of definitions and claims under test; an ID such as PY-7 or LN-6 is an entry of it.",
    ),
)  # fmt: skip


def terms_in(texts: Iterable[str]) -> list[Term]:
    """Those of :data:`TERMS` that occur in ``texts``."""
    kept = list(texts)
    return [term for term in TERMS if any(re.search(term.pattern, text) for text in kept)]


def elsewhere(texts: Iterable[str], known: Iterable[str]) -> list[str]:
    """IDs of claims that ``texts`` name and that are none of ``known`` nor a part of one, in order of the alphabet."""
    own = set(known)
    named = {match for text in texts for match in _IDENTITY.findall(text)}
    named = {name for name in named if name not in own and name.partition(".")[0] not in own}
    return sorted(named, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])


def words(value: Any) -> Iterator[str]:
    """Every text in plain JSON, keys included; what the cards of single directions quote is no word of ours."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            if key != "cards":
                yield from words(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from words(item)
