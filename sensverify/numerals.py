"""Numbers that are read together: an estimate with its interval, a column of a table, figures inside a text.

An estimate is written to the digits that its interval leaves it: two of the half-width, as the Particle Data Group
rounds errors. A column keeps the zeros that make its numbers comparable. What was written elsewhere (``3.96e+03``,
``-0.2``) is put into the form of the rest of the page (``3960``, ``−0.2``). The whole value is always in the record.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import Decimal

_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_DIGITS, _MOST_DIGITS = 4, 6
# A point or a signed exponent tells a power of ten from a commit such as 12e45. All of these take linear time.
_POWER = re.compile(
    r"(?<![\w.])(?P<mantissa>[-−]?[0-9]+(?:\.[0-9]+|(?=e[-+])))e(?P<exponent>[-+]?[0-9]{1,3})(?![\w.]*\w)",
    re.IGNORECASE,
)
_SIGN = re.compile(r"(?<![\w.)\]-])-(?=\d)")
_NUMBER = r"[-−]?[0-9]+(?:\.[0-9]+)?(?:e[-+][0-9]{2,3})?"
_ESTIMATE = re.compile(rf"({_NUMBER}) \[({_NUMBER}), ({_NUMBER})\]")
_OURS = re.compile(rf"{_NUMBER}(?: ?%)? \[{_NUMBER}, {_NUMBER}\]|[-−]?[0-9](?:\.[0-9]+)?e[-+][0-9]{{2,3}}")


def number(value: float, digits: int = _DIGITS) -> str:
    """A number as people write it: ``0.3142``, ``3.2×10⁻⁷``; integers keep every digit.

    >>> number(0.31415926), number(3.2e-7), number(-2), number(float("inf"))
    ('0.3142', '3.2×10⁻⁷', '−2', '∞')
    """
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if isinstance(value, int) or 10 ** (digits - 1) <= abs(value) < 1e7:
        whole = round(value)
        grouped = f"{whole:,}".replace(",", "\u202f") if abs(whole) >= 10_000 else str(whole)
        return grouped.replace("-", "−")
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return f"{value:.{digits}g}".replace("-", "−")
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".").replace("-", "−")
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
    return f"{mantissa[:-1]}{power}" if mantissa in ("1", "−1") else f"{mantissa}×{power}"


def estimate_texts(value: float, low: float, high: float, *, most: int | None = None) -> tuple[str, str, str]:
    """Value, lower and upper end, all with the decimals that show two digits of half the interval's width, or ``most``.

    >>> estimate_texts(11.1369, 9.0964, 13.8881)
    ('11.1', '9.1', '13.9')
    """
    ends = (value, low, high)
    largest = max(map(abs, ends))
    if not all(map(math.isfinite, ends)) or high <= low:
        a, b, c = map(number if high == low else _four, ends)
        return a, b, c
    decimals = 1 - _exponent((high - low) / 2)
    decimals = decimals if most is None else min(decimals, most)
    if 1e-4 <= largest < 1e7:
        decimals = min(decimals, _MOST_DIGITS - 1 - _exponent(largest))
        a, b, c = (_fixed(end, decimals) for end in ends)
    else:
        a, b, c = (
            number(end, min(max(_exponent(end) + 1 + decimals, 1), _MOST_DIGITS)) if end else "0" for end in ends
        )
    return a, b, c


def decimals_of(column: Iterable[object]) -> int | None:
    """The decimals of the number in ``column`` that has most; ``None`` where all are whole, or have powers of ten."""
    plain = [value for value in column if isinstance(value, float) and _is_plain(value)]
    return max((len(number(value).partition(".")[2]) for value in plain), default=0) or None


def with_decimals(value: float, decimals: int) -> str:
    """``value`` with so many decimals, zeros included, but with no more digits than :func:`number` gives."""
    return _fixed(value, min(decimals, _DIGITS - 1 - _exponent(value))) if _is_plain(value) else number(value)


def _is_plain(value: float) -> bool:
    """Whether :func:`number` writes it without a power of ten, and with decimals if it has any."""
    return 1e-3 <= abs(value) < 10.0 ** (_DIGITS - 1)


def as_written_here(text: str) -> str:
    """Numbers in ``text`` in the form of the page: powers of ten, and minus signs.

    >>> as_written_here("at most 1.04e-14, or -0.452")
    'at most 1.04×10⁻¹⁴, or −0.452'
    """
    return _SIGN.sub("−", _POWER.sub(_power, text))


def numeric_cell(text: str) -> str:
    """:func:`as_written_here` for a cell that is a number with its interval, or one as Python writes powers of ten.

    Every other cell stays as it is: ``1e5``, ``-1`` or ``17%`` may be a token, or quoted in a rule.

    >>> numeric_cell("-0.2 [-0.3, 0.1]"), numeric_cell("3.96e+03"), numeric_cell("1e5")
    ('−0.2 [−0.3, 0.1]', '3960', '1e5')
    """
    return as_written_here(text) if _OURS.fullmatch(text) else text


def parsed_estimate(text: str) -> tuple[str, str, str] | None:
    """The parts of an estimate written as ``1.4 [1.26, 1.82]``, in the form of the page but with no digit added."""
    match = _ESTIMATE.fullmatch(text)
    if match is None:
        return None
    parts = [Decimal(part.replace("−", "-")) for part in match.groups()]
    if not all(math.isfinite(float(part)) for part in parts):
        return None
    written = max(-place for part in parts if isinstance(place := part.as_tuple().exponent, int))
    three_digits = 2 - _exponent(float(max(map(abs, parts))))  # as "%.3g" writes them, zeros at the end left out
    return estimate_texts(*map(float, parts), most=min(written, three_digits))


def _power(match: re.Match[str]) -> str:
    mantissa = match["mantissa"].replace("−", "-")
    value = float(f"{mantissa}e{match['exponent']}")
    if not math.isfinite(value) or not value:
        return match[0]
    return number(value, len(re.sub(r"\D", "", mantissa).lstrip("0")) or 1)


def _exponent(value: float) -> int:
    return math.floor(math.log10(abs(value))) if value else -400


def _fixed(value: float, decimals: int) -> str:
    """So many decimals, a minus as a minus, and none before zero."""
    if decimals <= 0:
        return number(round(round(value, decimals)))
    text = f"{value:.{decimals}f}"
    if not float(text):
        text = text.removeprefix("-")
    whole, _, rest = text.partition(".")
    return f"{number(int(whole))}.{rest}" if abs(int(whole)) >= 10_000 else text.replace("-", "−")


def _four(value: float) -> str:
    if not math.isfinite(value) or not 1e-3 <= abs(value) < 1e3:
        return number(value)
    return f"{value:#.4g}".replace("-", "−")
