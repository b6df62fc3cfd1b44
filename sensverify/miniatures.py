"""Figures small enough to stand in a row: where a prediction and its outcome lie, how presence is distributed.

They are drawn here by hand, hundreds to a page, at a few hundred bytes each, in the page's own colours; the same data
gives the same bytes. What they show stands in numbers beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from markupsafe import Markup

from sensverify.exhibits import JudgedPrediction, PresenceCounts
from sensverify.numerals import estimate_texts, number

_WIDTH, _HEIGHT, _ROW, _BELOW = 240, 64, 26, 13
_MANY_TIMES = 30.0
"""Ends this many times apart, all positive, are drawn on a logarithmic axis."""


def presence_figure(presences: PresenceCounts) -> Markup:
    """The histogram as one filled outline, heights as square roots of counts: a context in a thousand stays visible."""
    counts, base = presences.counts, _HEIGHT - 14
    most, step = max(max(counts), 1), _WIDTH / len(counts)
    path, level = f"M0 {base}", base
    for position, count in enumerate(counts):
        top = round(base - (base - 3) * math.sqrt(count / most))
        if top != level:
            path, level = f"{path}H{_short(position * step)}V{top}", top
    path += f"H{_WIDTH}V{base}Z"
    total = sum(counts)
    label = (
        f"Histogram of presence at {number(total)} positions, from {_plain(presences.low)} to {_plain(presences.high)}"
    )
    zero = ""
    if presences.low < 0 < presences.high:
        at = _short(_WIDTH * -presences.low / (presences.high - presences.low))
        zero = (
            f'<path class="tick" d="M{at} 0V{base + 3}"/><text x="{at}" y="{_HEIGHT - 2}" text-anchor="middle">0</text>'
        )
    return Markup(
        f'<svg class="mini presences" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f'<path class="bars" d="{path}"/><path class="axis" d="M0 {base}H{_WIDTH}"/>{zero}'
        f'<text x="0" y="{_HEIGHT - 2}">{_plain(presences.low)}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 2}" text-anchor="end">{_plain(presences.high)}</text></svg>'
    )


def outcome_figure(row: JudgedPrediction) -> Markup:
    """The interval predicted as a band, open sides running to the edge; the measured one as a line with a dot."""
    place, value_at, scale = _axis(row)
    left = 0.0 if row.low is None else place(row.low)
    right = float(_WIDTH) if row.high is None else place(row.high)
    middle = _ROW / 2
    parts = [
        f'<rect class="band" x="{_short(left)}" y="3" width="{_short(max(right - left, 1.5))}" height="{_ROW - 6}"/>'
    ]
    edges = [_short(place(end)) for end in (row.low, row.high) if end is not None]
    parts += [f'<path class="edge" d="M{edge} 3V{_ROW - 3}"/>' for edge in edges]
    parts.append(f'<path class="axis" d="M0 {_short(middle)}H{_WIDTH}"/>')
    ends = (row.measured.low, row.measured.high)
    if all(map(math.isfinite, ends)):
        parts.append(f'<path class="range" d="M{_short(place(ends[0]))} {_short(middle)}H{_short(place(ends[1]))}"/>')
    if math.isfinite(row.measured.value):
        parts.append(f'<circle cx="{_short(place(row.measured.value))}" cy="{_short(middle)}" r="4"/>')
    first, last = _told_apart(value_at(0), value_at(_WIDTH))
    below = _ROW + _BELOW - 3
    parts.append(
        f'<text x="0" y="{below}">{first}</text><text x="{_WIDTH}" y="{below}" text-anchor="end">{last}</text>'
    )
    if scale == "logarithmic":
        parts.append(f'<text x="{_WIDTH // 2}" y="{below}" text-anchor="middle">log scale</text>')
    elif 0.2 < place(0) / _WIDTH < 0.8:
        at = _short(place(0))
        parts.append(f'<path class="tick" d="M{at} {_ROW - 5}V{_ROW + 2}"/>')
        parts.append(f'<text x="{at}" y="{below}" text-anchor="middle">0</text>')
    value, low, high = estimate_texts(row.measured.value, row.measured.low, row.measured.high)
    label = (
        f"predicted {predicted_text(row)}, measured {value} [{low}, {high}]: {row.outcome}; "
        f"{scale} axis from {first} to {last}"
    )
    return Markup(
        f'<svg class="mini outcome {row.outcome}" viewBox="0 0 {_WIDTH} {_ROW + _BELOW}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def predicted_text(row: JudgedPrediction) -> str:
    """The interval predicted, in words where a side is open."""
    if row.low is None and row.high is not None:
        return f"at most {number(row.high)}"
    if row.high is None and row.low is not None:
        return f"at least {number(row.low)}"
    return " to ".join(number(end) for end in (row.low, row.high) if end is not None) or "anything"


def _told_apart(first: float, last: float) -> tuple[str, str]:
    """Both ends of an axis in as few digits as tell them apart."""
    for digits in range(2, 6):
        texts = _rounded(first, digits), _rounded(last, digits)
        if texts[0] != texts[1]:
            break
    return texts


def _rounded(value: float, digits: int) -> str:
    return number(float(f"{value:.{digits}g}"), digits)


Axis = tuple[Callable[[float], float], Callable[[float], float], str]


def _axis(row: JudgedPrediction) -> Axis:
    """Where a value lies in the figure, with a margin on both sides for what is open; which value lies where; and the
    kind of axis."""
    candidates = (row.low, row.high, row.measured.value, row.measured.low, row.measured.high)
    values = [value for value in candidates if value is not None and math.isfinite(value)] or [0.0]
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low > _MANY_TIMES
    transform: Callable[[float], float] = math.log if logarithmic else float
    start, end = transform(low), transform(high)
    margin = 0.2 * (end - start) or 0.2 * (abs(start) or 1.0)
    start, end = start - margin, end + margin
    if not logarithmic and low > 0:  # where nothing negative was predicted or measured, none is on the axis
        start = max(start, 0.0)
    back: Callable[[float], float] = _exp if logarithmic else float
    return (
        lambda value: _WIDTH * (transform(value) - start) / (end - start),
        lambda at: back(start + at / _WIDTH * (end - start)),
        "logarithmic" if logarithmic else "linear",
    )


def _exp(value: float) -> float:
    return math.exp(value) if value < 709 else math.inf


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _plain(value: float) -> str:
    return number(value, 2)
