"""A heatmap is painted cell by cell as its numbers say, on any page, and told in numbers too."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from sensverify import plots
from sensverify.exhibits import Heatmap, Table
from sensverify.palette import SERIES

pytest.importorskip("matplotlib")


def heatmap(values, **options):
    return Heatmap(title="Title", caption="Caption", x_label="across", y_label="down", values=values, **options)


def drawn(exhibit, uid="plot-1"):
    drawing = plots.draw(exhibit, uid=uid)
    assert drawing is not None
    return drawing


def areas(svg):
    """The painted area of each fill colour, from the corners of its shapes."""
    result = {}
    for path in ET.fromstring(svg).iter("path"):
        fill = re.search(r"fill: (var\(--series-\d+, )?(#[0-9a-f]{6})", path.get("style", ""))
        if fill is None:
            continue
        total = 0.0
        for shape in path.get("d").split("z"):
            points = [tuple(map(float, pair)) for pair in re.findall(r"[ML] (-?[\d.]+) (-?[\d.]+)", shape)]
            pairs = zip(points, points[1:] + points[:1], strict=True) if points else ()
            total += abs(sum(a * d - b * c for (a, b), (c, d) in pairs)) / 2
        result[fill[2]] = result.get(fill[2], 0.0) + total
    return result


@pytest.mark.parametrize("seed", range(3))
def test_the_painted_areas_are_the_shares_of_the_categories(seed):
    cells = np.random.default_rng(seed).integers(3, size=(40, 40))
    painted = areas(drawn(heatmap(cells.tolist(), categories=("a", "b", "c"))).svg)
    counts = np.bincount(cells.ravel(), minlength=3) / cells.size
    cells_only = np.array([painted[SERIES[i]] for i in range(3)])
    assert cells_only / cells_only.sum() == pytest.approx(counts, abs=0.02)  # the legend's patches are small


def test_the_same_heatmap_gives_the_same_bytes_and_its_own_ids():
    exhibit = heatmap([[0.0, 1.0], [2.0, 3.0]], value_label="share")
    assert drawn(exhibit).svg == drawn(exhibit).svg
    ids = re.findall(r'id="([^"]+)"', drawn(exhibit, uid="plot-7").svg)
    assert all(name.startswith("plot-7-") for name in ids)


def test_labels_and_few_numbers_are_written_as_text():
    exhibit = heatmap(
        [[0.25, 1.0]], rows=("row $x$",), columns=("one", "two"), value_label="share", outline=(0, 1, 0, 1)
    )
    text = " ".join(element.text or "" for element in ET.fromstring(drawn(exhibit).svg).iter("text"))
    for word in ("row $x$", "one", "two", "share", "0.25", "across", "down"):
        assert word in text


def test_the_svg_needs_no_image_and_no_style_sheet():
    cells = np.random.default_rng(0).random((60, 60)).tolist()
    tags = {element.tag for element in ET.fromstring(drawn(heatmap(cells)).svg).iter()}
    assert not tags & {"image", "style", "script", "foreignObject"}


def test_a_large_matrix_is_drawn_in_part_and_says_so():
    cells = np.random.default_rng(0).integers(3, size=(500, 500)).tolist()
    drawing = drawn(heatmap(cells, categories=("0", "1", "2")))
    assert len(drawing.svg) < 2_000_000
    assert drawing.notes == ("Drawn: the first 200 of each side.",)


@pytest.mark.parametrize("values", [[[float("nan"), 1.0]], [[float("nan")]], [[1.0, 1.0]], [[-2.0]], [], [[]]], ids=str)
def test_odd_matrices_are_drawn_all_the_same(values):
    exhibit = heatmap(values)
    assert "<svg" in drawn(exhibit).svg
    assert isinstance(plots.as_table(exhibit), Table)


def test_what_is_not_finite_is_left_empty_and_mentioned():
    assert drawn(heatmap([[float("nan"), 1.0]])).notes == ("Empty cells have no finite value.",)


def test_more_categories_than_series_colours_are_told_apart():
    names = tuple(f"value {i}" for i in range(9))
    svg = drawn(heatmap([list(range(9))], categories=names)).svg
    assert len(areas(svg)) >= 9


def test_a_small_heatmap_is_told_cell_by_cell_and_a_large_one_by_counts():
    small = plots.as_table(heatmap([[0, 1], [1, 1]], categories=("no", "yes"), rows=("a", "b")))
    assert [list(row) for row in small.rows] == [["a", "no", "yes"], ["b", "yes", "yes"]]
    cells = [[(i + j) % 2 for j in range(20)] for i in range(20)]
    large = plots.as_table(heatmap(cells, categories=("even", "odd")))
    assert [list(row) for row in large.rows] == [["even", 200, 0.5], ["odd", 200, 0.5]]
    numbers = plots.as_table(heatmap([[float(j) for j in range(21)] for _ in range(3)]))
    assert list(numbers.rows[0]) == [63, 0.0, 5.0, 10.0, 15.0, 20.0]


@pytest.mark.parametrize("size", [1, 8, 9, 30, 200, 300])
def test_a_tick_stands_in_the_middle_of_a_cell(size, monkeypatch):
    from matplotlib.axis import Axis

    asked = []
    real = Axis.set_ticks
    monkeypatch.setattr(
        Axis,
        "set_ticks",
        lambda self, ticks, *rest, **kw: (asked.append(list(ticks)), real(self, ticks, *rest, **kw))[1],
    )
    drawn(heatmap(np.zeros((size, size)).tolist(), categories=("a",)))
    across, down = asked[-2:]
    assert across == down
    assert all(place % 1 == 0.5 for place in across)
    assert across[0] == 0.5
    assert 1 <= len(across) <= 8


def test_labels_that_are_too_many_are_thinned_not_dropped():
    names = [f"d{i}" for i in range(40)]
    svg = drawn(heatmap(np.zeros((40, 40)).tolist(), rows=names, columns=names)).svg
    words = [element.text for element in ET.fromstring(svg).iter("text")]
    assert words.count("d0") == words.count("d10") == 2
    assert "d11" not in words


def test_zero_is_marked_on_a_scale_that_crosses_it():
    assert "The line on the scale marks 0." in drawn(heatmap([[-1.0, 1.0]])).notes
    assert drawn(heatmap([[0.5, 1.0]])).notes == ()


def test_cells_are_numbered_alike_in_the_table_and_on_the_axes():
    table = plots.as_table(heatmap([[1.0, 2.0], [3.0, 4.0]]))
    assert list(table.columns) == ["down", "0", "1"]
    assert [row[0] for row in table.rows] == ["0", "1"]
