"""Arrows are painted where their numbers say, to one scale, on any page, and told in numbers too."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from sensverify import plots
from sensverify.exhibits import Arrows, Table
from sensverify.palette import GROUP_STYLES, INK, SERIES

pytest.importorskip("matplotlib")

FEATURES = GROUP_STYLES["features"][0]


def arrows(groups, **options):
    return Arrows(title="Title", caption="Caption", groups=groups, **options)


def pentagon(radius=1.0):
    turns = np.arange(5) * 2 * np.pi / 5
    return [(radius * math.cos(turn), radius * math.sin(turn)) for turn in turns]


def drawn(exhibit, uid="plot-1"):
    drawing = plots.draw(exhibit, uid=uid)
    assert drawing is not None
    return drawing


def shapes(svg, colour, *, filled):
    """The corners of the filled or of the stroked paths of one colour, one list per unbroken piece."""
    found = []
    for path in ET.fromstring(svg).iter("path"):
        style = path.get("style", "")
        if colour not in style or filled != ("fill: none" not in style):
            continue
        for piece in re.split(r"(?=M )", path.get("d"))[1:]:
            corners = [tuple(map(float, pair)) for pair in re.findall(r"[ML] (-?[\d.]+) (-?[\d.]+)", piece)]
            found.append(np.array(corners))
    return [corners for corners in found if len(corners) >= 2]


def tips(svg, colour):
    """Head of each arrow in the order given: the corner its path starts from."""
    return np.array([corners[0] for corners in shapes(svg, colour, filled=True)])


def origin(svg, colour):
    starts = np.array([corners[0] for corners in shapes(svg, colour, filled=False)[:-1]])  # the last is in the legend
    assert np.ptp(starts, axis=0) == pytest.approx([0, 0], abs=0.02)
    return starts[0]


def test_tips_lie_where_the_numbers_say_to_one_scale_in_both_directions():
    vectors = np.random.default_rng(0).normal(size=(7, 2)) * [3.0, 0.4]
    svg = drawn(arrows({"found": vectors.tolist()})).svg
    seen = tips(svg, SERIES[0]) - origin(svg, SERIES[0])
    scale = np.linalg.norm(seen) / np.linalg.norm(vectors)
    assert seen == pytest.approx(vectors * scale * [1, -1], abs=0.05)  # SVG counts downwards


def test_a_pentagon_is_seen_as_one():
    svg = drawn(arrows({"features": pentagon()})).svg
    seen = tips(svg, FEATURES) - origin(svg, FEATURES)
    assert np.hypot(*seen.T) == pytest.approx([np.hypot(*seen[0])] * 5, abs=0.05)
    turns = np.diff(np.unwrap(np.arctan2(-seen[:, 1], seen[:, 0])))
    assert np.degrees(turns) == pytest.approx([72] * 4, abs=0.1)


def test_the_unit_circle_passes_through_the_tips_of_unit_arrows():
    svg = drawn(arrows({"features": pentagon()}, unit_circle=True)).svg
    (circle,) = (line for line in shapes(svg, "currentColor", filled=False) if len(line) > 20)
    centre, reach = origin(svg, FEATURES), tips(svg, FEATURES)
    radius = np.hypot(*(reach[0] - centre))
    assert np.hypot(*(circle - centre).T) == pytest.approx([radius] * len(circle), abs=0.1)
    assert INK not in svg


def test_an_outline_is_one_closed_line_below_the_arrows():
    corners = pentagon(2.0)
    svg = drawn(arrows({"features": pentagon()}, outlines={"SeS": corners})).svg
    line = max(shapes(svg, SERIES[0], filled=False), key=len)
    assert len(line) == 6
    assert line[0] == pytest.approx(line[-1])
    centre, reach = origin(svg, FEATURES), tips(svg, FEATURES)
    assert line[:5] - centre == pytest.approx(2 * (reach - centre), abs=0.05)
    assert svg.index(SERIES[0]) < svg.index(FEATURES)


def test_everything_is_inside_the_picture():
    svg = drawn(
        arrows({"far": [(100.0, 0.0)], "near": [(0.0, -1.0)]}, outlines={"o": [(0.0, 120.0), (-120.0, 0.0)]})
    ).svg
    root = ET.fromstring(svg)
    _, _, width, height = map(float, root.get("viewBox").split())
    for colour in SERIES[:3]:
        for corners in (*shapes(svg, colour, filled=True), *shapes(svg, colour, filled=False)):
            assert (corners >= 0).all()
            assert (corners <= [width, height]).all()


def test_groups_that_lie_on_each_other_stay_visible():
    """Later ones are thinner and dashed, in their own colour, with their own entry in the legend."""
    exhibit = arrows({name: pentagon() for name in ("features", "found", "random")})
    svg = drawn(exhibit).svg
    styles = {
        name: next(
            p.get("style") for p in ET.fromstring(svg).iter("path") if f"stroke: var(--series-{i}," in p.get("style")
        )
        for name, i in (("features", 3), ("found", 1), ("random", 6))  # groups of directions have colours of their own
    }
    widths = [float(re.search(r"stroke-width: ([\d.]+)", styles[name])[1]) for name in exhibit.groups]
    assert widths == sorted(widths, reverse=True)
    assert len(set(widths)) == 3
    assert ["stroke-dasharray" in styles[name] for name in exhibit.groups] == [False, True, True]
    text = [element.text for element in ET.fromstring(svg).iter("text")]
    assert [word for word in text if word in exhibit.groups] == ["features", "found", "random"]


def test_the_same_arrows_give_the_same_bytes_and_their_own_ids():
    exhibit = arrows({"found": pentagon()}, unit_circle=True)
    assert drawn(exhibit).svg == drawn(exhibit).svg
    ids = re.findall(r'id="([^"]+)"', drawn(exhibit, uid="plot-7").svg)
    assert all(name.startswith("plot-7-") for name in ids)


def test_a_reader_who_sees_no_picture_is_told_title_and_caption():
    root = ET.fromstring(drawn(arrows({"found": pentagon()})).svg)
    assert (root.get("role"), root.get("aria-label")) == ("img", "Title. Caption")


def test_the_svg_takes_the_colours_of_the_page_and_needs_no_image_and_no_style_sheet():
    svg = drawn(arrows({"a": pentagon(), "b": pentagon(0.5)}, outlines={"c": pentagon()}, unit_circle=True)).svg
    assert not {element.tag for element in ET.fromstring(svg).iter()} & {"image", "style", "script", "foreignObject"}
    colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg))
    allowed = {"none", "currentColor", *(f"var(--series-{i}, {SERIES[i - 1]})" for i in (1, 2, 3))}
    assert colours <= allowed


def test_names_are_shown_letter_for_letter():
    text = " ".join(e.text or "" for e in ET.fromstring(drawn(arrows({"<b>$x_1$": pentagon()})).svg).iter("text"))
    assert "<b>$x_1$" in text


@pytest.mark.parametrize(
    "vectors",
    [
        [], [(0.0, 0.0)], [(0.0, 0.0), (1.0, 0.0)], [(math.nan, 1.0)], [(1e-30, 0.0)], [(1e30, 1e-30)],
        [(1e308, 1e308)], [(math.inf, -math.inf), (1.0, 1.0)], [(5e-324, 0.0)],
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_odd_vectors_are_drawn_or_counted(vectors):
    for exhibit in (
        arrows({"g": vectors}),
        arrows({}, outlines={"o": vectors}),
        arrows({"g": vectors}, unit_circle=True),
    ):
        assert "<svg" in drawn(exhibit).svg
        assert isinstance(plots.as_table(exhibit), Table)


def test_notes_count_what_is_not_drawn_and_name_the_circle():
    exhibit = arrows({"a": [(math.nan, 0.0), (1.0, 0.0)], "b": [(0.0, math.inf)]}, unit_circle=True)
    notes = drawn(exhibit).notes
    assert notes == ("Not drawn: 2 vectors not finite or too large.", "The dashed circle has radius 1.")
    assert drawn(arrows({"a": [(1.0, 0.0)]})).notes == ()


def test_of_very_many_arrows_some_are_drawn_and_it_is_said():
    cloud = np.random.default_rng(0).normal(size=(3000, 2)).tolist()
    drawing = drawn(arrows({"cloud": cloud}))
    assert len(tips(drawing.svg, SERIES[0])) == 200
    assert drawing.notes == ("Drawn: the first 200 of each group.",)


def test_the_numbers_give_coordinates_length_and_angle():
    table = plots.as_table(arrows({"a": [(3.0, 4.0), (0.0, -2.0)]}, outlines={"o": [(1.0, 0.0)]}))
    assert list(table.columns) == ["group", "x", "y", "length", "angle in degrees"]
    assert list(table.rows[0]) == ["a", 3.0, 4.0, 5.0, pytest.approx(53.1301, abs=1e-4)]
    assert list(table.rows[1]) == ["a", 0.0, -2.0, 2.0, -90.0]
    assert list(table.rows[2]) == ["o", 1.0, 0.0, 1.0, 0.0]
    many = plots.as_table(arrows({"a": pentagon() * 20}))
    assert len(many.rows) == 12
