"""Exhibits survive the way to disk and back, and nothing else passes for one."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from sensverify.exhibits import (
    KINDS,
    Arrows,
    Curve,
    Derivation,
    DirectionCard,
    DirectionGallery,
    Estimate,
    Excerpt,
    Exhibit,
    FoundRule,
    Heatmap,
    Histogram,
    IntervalRow,
    Intervals,
    JudgedPrediction,
    Predictions,
    PresenceCounts,
    ProofLine,
    Table,
    from_json,
)
from sensverify.statistics import Interval

CARD = DirectionCard(
    name="found 0",
    score_plus=0.4,
    score_minus=0.1,
    excerpts=(Excerpt(before="the ", token="cat", after=" sat\n", presence=0.7),),
    promoted=((" mat", 2.5),),
    demoted=(("</s>", -1.0),),
)
FULL_CARD = dataclasses.replace(
    CARD,
    group="SAE",
    ratio=2.5,
    rule=FoundRule(text="after x", accuracy=0.8, low=0.7, high=0.9),
    presence_share=0.01,
    presences=PresenceCounts(low=-1.0, high=1.0, counts=(1, 0, 5)),
    lowest=(Excerpt(before="a ", token="dog", after="", presence=-0.4),),
)
JUDGEMENT = JudgedPrediction(
    id="PY-4", quantity="ratio", low=1.5, high=None, measured=Estimate(value=3.0, low=2.0, high=4.0), outcome="inside",
    derived_from="TM-1",
)  # fmt: skip
EXAMPLES: tuple[Exhibit, ...] = (
    Derivation(title="Proof", caption="c", lines=(ProofLine(text="so", latex="a<b", checked_by="sympy"),)),
    Histogram(title="SeS", caption="c", x_label="x", groups={"found": (1.0, 2.0), "none": ()}, log_x=True),
    Intervals(
        title="Ratio", caption="c", x_label="x", rows=(IntervalRow(name="a", value=1.0, low=0.5, high=1.5),),
        reference=1.0,
    ),
    Intervals(title="No row", caption="c", x_label="x", rows=()),
    Curve(
        title="Score", caption="c", x_label="x", y_label="y", x=(0.0, 1.0), series={"found": (0.0, 2.0)},
        bands={"found": ((0.0, 0.1), (1.5, 2.5))},
    ),
    Table(title="Cells", caption="c", columns=("name", "value"), rows=(("a", 1), ("b", 0.5), ("c", None))),
    DirectionGallery(title="Cards", caption="c", cards=(CARD, FULL_CARD)),
    Predictions(title="Foretold", caption="c", rows=(JUDGEMENT,)),
    Heatmap(
        title="Phases", caption="c", x_label="p", y_label="n/d", values=((0.5, 1.0), (0.0, 0.25)), rows=("2", "4"),
        value_label="share", outline=(0, 1, 0, 2),
    ),
    Heatmap(title="F", caption="c", x_label="", y_label="", values=((0.0, 1.0),), categories=("red", "blue")),
    Arrows(title="Plane", caption="c", groups={"features": ((1.0, 0.0), (0.0, 1.0)), "none": ()}),
    Arrows(
        title="Plane with lines", caption="c", groups={"found": ((0.5, -0.5),)}, unit_circle=True,
        outlines={"SeS": ((1.0, 0.0), (0.0, 1.0), (-1.0, -1.0))},
    ),
)  # fmt: skip


FULL_CARD_JSON = DirectionGallery(title="", caption="", cards=(FULL_CARD,)).to_json()["cards"][0]


@pytest.mark.parametrize("exhibit", EXAMPLES, ids=lambda exhibit: f"{exhibit.kind}: {exhibit.title}")
def test_an_exhibit_comes_back_from_strict_json_as_it_was(exhibit):
    text = json.dumps(exhibit.to_json(), allow_nan=False)
    assert from_json(json.loads(text)) == exhibit


def test_every_kind_has_an_example():
    assert {exhibit.kind for exhibit in EXAMPLES} == set(KINDS)


def test_numbers_that_json_lacks_come_back():
    curve = Curve(title="", caption="", x_label="", y_label="", x=(1.0, 2.0), series={"s": (math.inf, math.nan)})
    back = from_json(json.loads(json.dumps(curve.to_json(), allow_nan=False)))
    assert isinstance(back, Curve)
    assert back.series["s"][0] == math.inf
    assert math.isnan(back.series["s"][1])


def test_a_card_written_before_there_were_groups_is_one_of_those_found():
    card = DirectionGallery(title="", caption="", cards=(CARD,)).to_json()["cards"][0]
    new = {"group", "ratio", "rule", "presence_share", "presences", "lowest"}
    old = {key: value for key, value in card.items() if key not in new}
    gallery = from_json({"kind": "directions", "title": "", "caption": "", "cards": [old, FULL_CARD_JSON]})
    assert gallery.groups == {"found": 1, "SAE": 1}
    assert gallery.cards[0].rule is None
    assert gallery.cards[0].lowest == ()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"rule": {"text": "x"}}, r"cards\[0\].rule"),
        ({"rule": "x"}, r"cards\[0\].rule"),
        ({"ratio": "high"}, r"cards\[0\].ratio"),
        ({"group": None}, r"cards\[0\].group"),
        ({"lowest": [{"before": "a"}]}, r"cards\[0\].lowest\[0\]"),
        ({"presences": {"low": 0, "high": 1, "counts": []}}, "counts of bins"),
        ({"presences": {"low": 0, "high": 1, "counts": [-1]}}, "counts of bins"),
        ({"presences": {"low": 1, "high": 1, "counts": [1]}}, "counts of bins"),
        ({"presences": {"low": 0, "high": 1, "counts": [0.5]}}, r"counts\[0\]"),
    ],
)
def test_a_card_that_does_not_fit_is_refused_by_name(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        from_json({"kind": "directions", "title": "", "caption": "", "cards": [{**FULL_CARD_JSON, **change}]})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"outcome": "maybe"}, "outcome"),
        ({"measured": {"value": 1.0}}, "measured"),
        ({"low": "1"}, "low"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_judged_prediction_that_does_not_fit_is_refused_by_name(change, complaint):
    data = Predictions(title="", caption="", rows=(JUDGEMENT,)).to_json()
    with pytest.raises(ValueError, match=complaint):
        from_json({**data, "rows": [{**data["rows"][0], **change}]})


def test_estimates_in_a_table_may_be_intervals():
    table = Table(title="", caption="", columns=("layer", "ratio"), rows=((0, Interval(2.0, 1.0, 3.0)),))
    assert from_json(table.to_json()).rows == ((0, {"value": 2.0, "low": 1.0, "high": 3.0}),)


def test_arrays_are_written_as_lists():
    histogram = Histogram(title="", caption="", x_label="", groups={"g": np.array([1.0, 2.0])})
    assert histogram.to_json()["groups"] == {"g": [1.0, 2.0]}


def test_an_exhibit_written_before_bands_existed_still_opens():
    curve = EXAMPLES[4]
    assert isinstance(curve, Curve)
    old = curve.to_json()
    del old["bands"]
    assert from_json(old) == dataclasses.replace(curve, bands={})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kind": "sculpture"}, "kind among"),
        ({"x": "abc"}, "curve.x"),
        ({"x": [0, "one"]}, r"curve.x\[1\]"),
        ({"x": [0, True]}, r"curve.x\[1\]"),
        ({"series": {"found": [0, 1, 2]}}, "one per x"),
        ({"bands": {"lost": [[0, 1], [0, 1]]}}, "bands of the series"),
        ({"bands": {"found": [[0, 1, 2], [0, 1]]}}, r"curve.bands\['found'\]\[0\]"),
        ({"log_x": "yes"}, "curve.log_x"),
        ({"colour": "red"}, "colour"),
        ({"title": None}, "curve.title"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        from_json({**EXAMPLES[4].to_json(), **change})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"values": [[0, 1], [0]]}, "2 values in each row"),
        ({"rows": ["2"]}, "2 labels of the rows"),
        ({"columns": ["1", "2", "3"]}, "2 labels of the columns"),
        ({"categories": ["red"]}, "indices of the 1 categories"),
        ({"categories": ["a", "b"]}, "indices of the 2 categories"),
        ({"outline": [0, 3, 0, 1]}, "outline inside"),
        ({"outline": [1, 1, 0, 1]}, "outline inside"),
        ({"outline": [0, 1.5, 0, 1]}, r"heatmap.outline\[1\]"),
        ({"outline": [0, 1, 0]}, r"heatmap.outline"),
        ({"values": [["one"]]}, r"heatmap.values\[0\]\[0\]"),
    ],
)
def test_a_heatmap_that_does_not_fit_is_refused(change, complaint):
    heatmap = next(exhibit for exhibit in EXAMPLES if exhibit.title == "Phases")
    with pytest.raises(ValueError, match=complaint):
        from_json({**heatmap.to_json(), **change})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"groups": {"found": [[1, 2, 3]]}}, r"arrows.groups\['found'\]\[0\]"),
        ({"groups": {"found": [[1, 2], [1]]}}, r"arrows.groups\['found'\]\[1\]"),
        ({"groups": {"found": [["1", 2]]}}, r"arrows.groups\['found'\]\[0\]\[0\]"),
        ({"groups": {"found": [1, 2]}}, r"arrows.groups\['found'\]\[0\]"),
        ({"groups": {"found": 1}}, r"arrows.groups\['found'\]"),
        ({"groups": [[1, 2]]}, r"arrows.groups"),
        ({"groups": None}, r"arrows.groups"),
        ({"outlines": {"SeS": [[1, 2, 3]]}}, r"arrows.outlines\['SeS'\]\[0\]"),
        ({"outlines": {"found": [[1, 2]]}}, r"names in outlines .* \['found'\]"),
        ({"unit_circle": 1}, "arrows.unit_circle"),
        ({"unit_circle": None}, "arrows.unit_circle"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_arrows_that_do_not_fit_are_refused_by_name(change, complaint):
    arrows = next(exhibit for exhibit in EXAMPLES if exhibit.title == "Plane with lines")
    with pytest.raises(ValueError, match=complaint):
        from_json({**arrows.to_json(), **change})


def test_arrows_need_only_groups():
    arrows = from_json({"kind": "arrows", "title": "Plane", "caption": "c", "groups": {"a": [[1, 2]]}})
    assert arrows == Arrows(title="Plane", caption="c", groups={"a": ((1.0, 2.0),)})
    with pytest.raises(ValueError, match="groups"):
        from_json({"kind": "arrows", "title": "Plane", "caption": "c"})


@pytest.mark.parametrize("field", ["groups", "outlines"])
def test_vectors_that_are_no_pairs_are_refused_where_they_are_made(field):
    with pytest.raises(ValueError, match=rf"{field}\['a'\]"):
        Arrows(title="", caption="", **{"groups": {}, field: {"a": ((1.0, 2.0, 3.0),)}})


def test_a_missing_field_is_refused_by_name():
    data = EXAMPLES[4].to_json()
    del data["y_label"]
    with pytest.raises(ValueError, match="y_label"):
        from_json(data)


@pytest.mark.parametrize("data", [None, [], "curve", {}, {"kind": ["curve"]}])
def test_what_is_no_exhibit_at_all_is_refused(data):
    with pytest.raises(ValueError, match="kind among"):
        from_json(data)


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 cells"):
        Table(title="", caption="", columns=("a", "b"), rows=((1, 2), (1, 2, 3)))
