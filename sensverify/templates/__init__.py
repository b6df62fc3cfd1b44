"""The page's templates, and the filters that turn values into something a person reads.

Everything is escaped unless it is :class:`markupsafe.Markup`. Filters shorten; the whole value is always in
``verdicts.json``, and the page says so where it matters.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup, escape

from sensverify.exhibits import JudgedPrediction
from sensverify.mathematics import display, prose
from sensverify.miniatures import outcome_figure, predicted_text, presence_figure
from sensverify.numerals import decimals_of, estimate_texts, number, numeric_cell, parsed_estimate, with_decimals

_MOST_ITEMS, _MOST_KEYS, _MOST_TEXT, _LINE = 12, 40, 240, 84
NOT_FINITE = ("inf", "-inf", "nan")
"""How strict JSON carries numbers that are not finite."""
_SHAPELESS = ("Cc", "Cf", "Zl", "Zp")
_MARKS = {"\n": "⏎", "\r": "␍", "\t": "⇥"}


def render(template: str, /, **context: Any) -> str:
    """The text of one template of this package; an undefined name in it is an error."""
    return _environment().get_template(template).render(**context)


def source(name: str) -> str:
    """One file of this package as it stands, e.g. the page's script."""
    loader = _environment().loader
    assert loader is not None
    return loader.get_source(_environment(), name)[0]


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sensverify"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters = (
        abbreviated, aligned, decimals, display, ends, estimates, grid, height, in_series, label, number,
        outcome_figure, percent, predicted_text, presence_figure, prose, scalar, signed, token, visible,
    )  # fmt: skip
    environment.filters.update({function.__name__: function for function in filters})
    environment.tests.update(scalar=is_scalar, scalars=is_scalars, interval=is_interval, estimate=is_estimate)
    return environment


def is_scalar(value: Any) -> bool:
    """Whether ``value`` is one JSON number, string, truth value or null."""
    return value is None or isinstance(value, str | bool | int | float)


def is_scalars(value: Any) -> bool:
    """Whether ``value`` is a list of scalars, none of which is a long text."""
    items = value if isinstance(value, list | tuple) else [{}]
    return all(is_scalar(item) and len(str(item)) <= 48 for item in items)


def is_interval(value: Any) -> bool:
    """Whether ``value`` is an estimate with its interval, which reads best on one line.

    An end may be a word of a claim's own, such as where no end was found; then it is a record like any other.
    """
    return (
        isinstance(value, Mapping) and list(value) == ["value", "low", "high"] and all(map(_is_number, value.values()))
    )


def _is_number(value: Any) -> bool:
    """Whether ``value`` is a number, or a word by which strict JSON carries one that is not finite."""
    return isinstance(value, int | float) or value in NOT_FINITE


def is_estimate(value: Any) -> bool:
    """Whether a cell of a table is an estimate, as a record or as text."""
    return is_interval(value) or (isinstance(value, str) and parsed_estimate(value) is not None)


def label(key: str) -> str:
    """A key of the evidence as words."""
    return str(key).replace("_", " ")


def scalar(value: Any, *, decimals: int | None = None) -> Markup:
    """One JSON value as text; a shortened number carries its full value in the tooltip.

    ``decimals``, zeros included, are those of a column; without, a number has as many as it needs.
    """
    if value is None:
        return Markup("—")
    if isinstance(value, bool):
        return Markup("yes" if value else "no")
    if isinstance(value, int | float):
        return _with_tooltip(value, number(value) if decimals is None else with_decimals(value, decimals))
    if "\n" in value:
        return Markup('<pre tabindex="0">{}</pre>').format(value)
    written = parsed_estimate(value)
    return escape(numeric_cell(value) if written is None else f"{written[0]} [{written[1]}, {written[2]}]")


def ends(estimate: Mapping[str, Any] | str) -> tuple[Markup, Markup]:
    """An estimate and its interval as text, all three to the digits that the interval leaves; no interval if none.

    An estimate that was written as text, ``1.4 [1.26, 1.82]``, keeps its interval.
    """
    if isinstance(estimate, str):
        written = parsed_estimate(estimate)
        assert written is not None  # is_interval
        return escape(written[0]), Markup("[{}, {}]").format(*written[1:])
    values = [float(estimate[name]) for name in ("value", "low", "high")]  # strict JSON carries infinity as a word
    value, low, high = map(_with_tooltip, values, estimate_texts(*values))
    return value, Markup("") if values[1] == values[2] else Markup("[{}, {}]").format(low, high)


def decimals(rows: Sequence[Sequence[Any]]) -> list[int | None]:
    """For each column of a table the decimals of its numbers, where they share a form."""
    return [decimals_of(cell for cell in column if not isinstance(cell, bool)) for column in zip(*rows, strict=True)]


def _with_tooltip(value: float, shown: str) -> Markup:
    """The whole value where ``shown`` is not all of it."""
    full = repr(value).removesuffix(".0")
    short = shown.rstrip("0").rstrip(".") if "." in shown else shown
    if short.replace("−", "-") == full or not math.isfinite(value):
        return escape(shown)
    return Markup('<span title="{}">{}</span>').format(repr(value), shown)


def signed(value: float) -> str:
    """A presence with its sign and two decimals, so that a column of them reads as one."""
    return f"{value:+.2f}".replace("-", "−") if math.isfinite(value) else number(value)


def percent(share: float) -> str:
    """A share in per cent, to one decimal, or two digits where that would be nothing."""
    value = 100 * share
    shown = number(value, 2) if 0 < abs(value) < 0.1 or not math.isfinite(value) else f"{value:.1f}"
    return f"{shown}\u202f%"


def aligned(value: float, digits: int = 3) -> str:
    """A number to so many digits, zeros included, so that a column of them reads as one."""
    if not 1e-3 <= abs(value) < 10.0 ** (digits - 1):
        return number(value, digits)
    return f"{value:#.{digits}g}".removesuffix(".").replace("-", "−")


def visible(text: str) -> str:
    """Tokens as a reader must see them: line ends and tabs marked, what has no shape of its own spelt out."""
    return "".join(
        _MARKS.get(character)
        or (f"\\u{ord(character):04x}" if unicodedata.category(character) in _SHAPELESS else character)
        for character in text
    )


def token(text: str, *, blank_only: bool = False) -> str:
    """A token by itself, its spaces as ␣; with ``blank_only`` those of a blank token alone, as in running text."""
    if not text:
        return "(empty)"
    if blank_only and text.strip():
        return visible(text)
    return "".join("␣" if unicodedata.category(character) == "Zs" else visible(character) for character in text)


def estimates(rows: Sequence[Sequence[Any]]) -> list[bool]:
    """For each column of a table whether it holds an estimate with its interval anywhere."""
    return [any(map(is_estimate, column)) for column in zip(*rows, strict=True)]


def grid(value: Any) -> tuple[list[str], list[list[Any]]] | None:
    """Records with the same keys as the columns and rows of a table; ``None`` for anything else."""
    records = list(value.values()) if isinstance(value, Mapping) else value
    if not isinstance(records, list | tuple) or len(records) < 2:
        return None
    if not all(isinstance(record, Mapping) and record and not is_interval(record) for record in records):
        return None
    columns = list(records[0])
    if len(columns) > 9 or any(list(record) != columns for record in records):
        return None
    rows = [list(record.values()) for record in records]
    if not all(is_scalar(c) or is_interval(c) or (is_scalars(c) and len(c) <= 3) for row in rows for c in row):
        return None
    if isinstance(value, Mapping):
        return ["", *columns], [[label(key), *row] for key, row in zip(value, rows, strict=True)]
    return columns, rows


def height(value: Any) -> int:
    """About how many lines ``value`` takes on the page: one for a scalar, an interval or a folded list."""
    table = grid(value)
    if table:
        return 1 + len(table[1])
    if is_scalar(value) or is_interval(value) or is_scalars(value):
        return 1
    if not isinstance(value, Mapping) and len(value) > 8:
        return 1  # folded, see evidence.html.j2
    return max(1, sum(map(height, value.values() if isinstance(value, Mapping) else value)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """A row among those of one prediction: what only it says, and, with the first, what all of them share."""

    first: bool
    many: bool
    own: str
    shared: str


def in_series(rows: Sequence[JudgedPrediction], claims: Sequence[str] | None = None) -> list[Place]:
    """The place of each row; rows that follow each other with one prediction (and claim) are a series."""

    def key(index: int) -> tuple[str, ...]:
        row = rows[index]
        return (claims[index] if claims else "", row.id, row.quantity, row.derived_from, row.origin)

    places: list[Place] = []
    for _, indices in itertools.groupby(range(len(rows)), key=key):
        parts = [rows[index].of.split(", ") for index in indices]
        count = 0
        while len(parts) > 1 and count + 1 < min(map(len, parts)) and len({each[-1 - count] for each in parts}) == 1:
            count += 1
        shared = ", ".join(parts[0][len(parts[0]) - count :])
        own = [", ".join(each[: len(each) - count]) for each in parts]
        places += [Place(first=i == 0, many=len(parts) > 1, own=text, shared=shared) for i, text in enumerate(own)]
    return places


def abbreviated(value: Any) -> tuple[str, bool]:
    """``value`` as indented JSON, long lists and texts cut; and whether anything was cut."""
    short = _shortened(value)
    return _pretty(short), short != value


def _shortened(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {key: _shortened(item) for key, item in list(value.items())[:_MOST_KEYS]}
        return kept if len(kept) == len(value) else {**kept, "…": f"{len(value) - len(kept)} more"}
    if isinstance(value, list | tuple):
        items = [_shortened(item) for item in value[:_MOST_ITEMS]]
        return items if len(items) == len(value) else [*items, f"… {len(value) - len(items)} more"]
    if isinstance(value, str) and len(value) > _MOST_TEXT:
        return f"{value[:_MOST_TEXT]}… ({len(value)} characters)"
    return value


def _pretty(value: Any, indent: int = 0) -> str:
    """JSON in which whatever fits on a line is on one line, as people write small matrices."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + indent <= _LINE or not isinstance(value, Mapping | list):
        return line
    inner = " " * (indent + 2)
    if isinstance(value, Mapping):
        keys = [json.dumps(key, ensure_ascii=False) for key in value]
        items = [f"{key}: {_pretty(item, indent + 2)}" for key, item in zip(keys, value.values(), strict=True)]
    else:
        items = [_pretty(item, indent + 2) for item in value]
    left, right = line[0], line[-1]
    return f"{left}\n{inner}" + f",\n{inner}".join(items) + f"\n{' ' * indent}{right}"
