"""Numbers keep the digits that mean something, and one form on the whole page."""

from __future__ import annotations

import math
import random
import re
import signal

import pytest

from sensverify import mathematics
from sensverify.numerals import (
    as_written_here,
    decimals_of,
    estimate_texts,
    number,
    numeric_cell,
    parsed_estimate,
    with_decimals,
)


def read(text):
    """The number that a text of ours stands for."""
    powers = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
    text = text.replace("−", "-").replace("\u202f", "")
    parts = re.fullmatch("(-?)(?:([0-9.]+)×)?10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)", text)
    if parts is None:
        return float(text)
    return (-1 if parts[1] else 1) * float(parts[2] or 1) * 10.0 ** int(parts[3].translate(powers))


@pytest.mark.parametrize(
    ("ends", "shown"),
    [
        ((11.1369, 9.0964, 13.8881), ("11.1", "9.1", "13.9")),
        ((1.4724, 1.3934, 1.5556), ("1.472", "1.393", "1.556")),
        ((1273.7, 879.87, 1963.0), ("1270", "880", "1960")),
        ((-0.2162, -0.21889, -0.21295), ("−0.2162", "−0.2189", "−0.2130")),
        ((0.00063, 0.00039, 0.00093), ("0.00063", "0.00039", "0.00093")),
        ((1.5e-14, 1.2e-14, 1.9e-14), ("1.5×10⁻¹⁴", "1.2×10⁻¹⁴", "1.9×10⁻¹⁴")),
        ((36441.0, 35000.0, 38000.0), ("36\u202f400", "35\u202f000", "38\u202f000")),
        ((0.0004, -0.0106, 0.0105), ("0.000", "−0.011", "0.011")),
    ],
)
def test_an_estimate_has_the_digits_that_its_interval_leaves_it(ends, shown):
    assert estimate_texts(*ends) == shown


def test_what_an_estimate_loses_is_small_beside_its_interval():
    draw = random.Random(0)
    for _ in range(2000):
        value = draw.choice((-1, 1)) * 10 ** draw.uniform(-14, 6)
        half = abs(value) * 10 ** draw.uniform(-3, 1)
        ends = (value, value - half, value + half)
        for text, end in zip(estimate_texts(*ends), ends, strict=True):
            assert abs(read(text) - end) <= 0.06 * half, (ends, text)


@pytest.mark.parametrize("ends", [(2.5, 2.5, 2.5), (0.12345, 0.1, math.inf), (math.nan, math.nan, math.nan)])
def test_an_estimate_without_a_width_has_the_digits_of_a_plain_number(ends):
    assert estimate_texts(*ends)[0] == number(ends[0])


def column(*values):
    return [with_decimals(value, decimals_of(values)) for value in values]


def test_zeros_at_the_end_stay_where_the_column_has_such_digits():
    assert column(0.0647, 0.0440, 0.0719, 0.1097) == ["0.0647", "0.0440", "0.0719", "0.1097"]
    assert column(2.11, 3.4, 3.76, -0.55) == ["2.11", "3.40", "3.76", "−0.55"]


def test_a_column_gives_no_number_digits_that_nobody_measured():
    assert column(0.1365, 0.455, 0.01496) == ["0.1365", "0.4550", "0.01496"]


def test_very_small_numbers_and_zero_keep_their_own_form_in_a_column():
    assert column(0.19, 7.854e-4, 0.1972, 0.0, -0.007978) == ["0.1900", "7.854×10⁻⁴", "0.1972", "0", "−0.007978"]
    assert column(0.5, 500.0, 12345.6, math.inf) == ["0.5", "500.0", "12\u202f346", "∞"]


@pytest.mark.parametrize("values", [(1.0, 2.0), (3, 4), (), ("a", None), (math.inf, 1e-12)])
def test_whole_numbers_and_powers_of_ten_have_no_decimals_to_share(values):
    assert decimals_of(values) is None


@pytest.mark.parametrize(
    ("written", "here"),
    [
        ("at most 1.04e-14, or -0.452", "at most 1.04×10⁻¹⁴, or −0.452"),
        ("1.27e+03 [823, 2.02e+03]", "1270 [823, 2020]"),
        ("6.2e+06 to 7.7e+06", "6\u202f200\u202f000 to 7\u202f700\u202f000"),
        ("(-3)", "(−3)"),
        ("1.5e3 times, 2e-3 or 2E+3", "1500 times, 0.002 or 2000"),
        ("PY-2 on 2026-11-21, GPT-2, 1-2, a-1, 0x1e5, v1e5b", "PY-2 on 2026-11-21, GPT-2, 1-2, a-1, 0x1e5, v1e5b"),
    ],
)
def test_numbers_written_elsewhere_take_the_form_of_the_page(written, here):
    assert as_written_here(written) == here
    assert str(mathematics.prose(written)) == here


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1 [0.94, 1.07]", ("1.00", "0.94", "1.07")),
        ("1.14 [1.05, 1.24]", ("1.14", "1.05", "1.24")),  # half the interval would bear another digit: nobody wrote it
        ("1.02 [0.919, 1.11]", ("1.02", "0.92", "1.11")),
        ("0.9 [0.8, 1]", ("0.9", "0.8", "1.0")),
        ("1.27e+03 [823, 2.02e+03]", ("1270", "820", "2020")),
        ("-1.15e-09 [-0.00285, 0.0031]", ("0.0000", "−0.0029", "0.0031")),
    ],
)
def test_an_estimate_written_as_text_is_read_back_and_given_no_digit(text, parts):
    assert parsed_estimate(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.4",
        "[1, 2]",
        "1 [2, 3] more",
        "x [1, 2]",
        "1 [2, 3, 4]",
        "1e400 [1, 2]",
        "1e+400 [1, 2]",
        f"1e+{'9' * 20} [1, 2]",
    ],
)
def test_other_texts_are_no_estimates(text):
    assert parsed_estimate(text) is None


def test_code_and_cells_with_words_stay_as_they_were_written():
    assert "1e-3" in mathematics.prose("`x < 1e-3` says")
    assert numeric_cell('the token is "-1"') == 'the token is "-1"'
    assert numeric_cell("-1e-09 [-0.2, 0.3]") == "−10⁻⁹ [−0.2, 0.3]"
    assert numeric_cell("-1.2 % [-2, 0.3]") == "−1.2 % [−2, 0.3]"
    assert numeric_cell("3.35e+03") == "3350"


@pytest.mark.parametrize("text", ["1e5", "1E5", "1e-5", "12e45", "-1", "17%", "[1, -2]", "-", "e", "2024", "(-3)", ""])
def test_a_token_that_looks_like_a_number_stays_as_it_was_written(text):
    assert numeric_cell(text) == text


@pytest.mark.parametrize("text", ["commit 12e45", "at 3e7, built", "12e4567890", "revision 1.5e1234", "1e-4567"])
def test_commits_of_digits_and_an_e_are_no_powers_of_ten(text):
    assert as_written_here(text) == text
    assert str(mathematics.prose(text)) == text


@pytest.fixture
def deadline():
    """Ends a search that would take hours; in linear time it takes a fraction of a second."""

    def expired(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("text", ["1" * 10**6 + "x", "1." * 10**6, "1e+" + "1" * 10**6 + "x", "1 [1, " + "1" * 10**6])
@pytest.mark.usefixtures("deadline")
def test_a_long_text_of_digits_does_not_hold_the_page_up(text):
    assert numeric_cell(text) == as_written_here(text) == text
    assert parsed_estimate(text) is None
