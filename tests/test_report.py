"""The report is whole, safe, self-contained and the same every time; the record is strict JSON."""

from __future__ import annotations

import base64
import builtins
import hashlib
import html.parser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import rich.console

from sensverify import mathematics, miniatures, numerals, plain_data, plots, report, suites, templates
from sensverify.claims import Claim, Run, Subject
from sensverify.errors import InputError
from sensverify.exhibits import (
    KINDS,
    Arrows,
    Curve,
    Derivation,
    DirectionCard,
    DirectionGallery,
    Estimate,
    Excerpt,
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
)
from sensverify.predictions import JUDGED, Prediction, judged
from sensverify.statistics import Interval
from sensverify.verdicts import Finding, Status, Verdict

HOSTILE = "<script>alert(1)</script>"
CARD = DirectionCard(
    name="found 0",
    score_plus=0.4,
    score_minus=0.1,
    excerpts=(Excerpt(before="the ", token=" cat", after=" sat\n", presence=0.7),),
    promoted=((" mat", 2.5),),
    demoted=(("</s>", -1.0),),
    ratio=3.0,
    rule=FoundRule(text='the token is " cat"', accuracy=0.9),
    presence_share=0.01,
    presences=PresenceCounts(low=-0.5, high=1.0, counts=(0, 90, 5, 1)),
)
JUDGEMENT = JudgedPrediction(
    id="PY-4",
    quantity="ratio of $s$",
    low=1.5,
    high=None,
    measured=Estimate(value=3.0, low=2.0, high=4.0),
    outcome="inside",
    derived_from="TM-1",
    of="layer 2",
    origin="the file",
)
EXAMPLES = (
    Derivation(title="Proof", caption="c", lines=(ProofLine(text="so", latex="a<b", checked_by="sympy"),)),
    Histogram(title="SeS", caption="c", x_label="x", groups={"feature": (1.0, 2.0), "random": ()}),
    Intervals(
        title="Ratio",
        caption="c",
        x_label="x",
        rows=(IntervalRow(name="a", value=1.0, low=0.5, high=1.5),),
        reference=1.0,
        log_x=True,
    ),
    Curve(
        title="Score",
        caption="c",
        x_label="x",
        y_label="y",
        x=(0.0, 1.0),
        series={"found": (0.0, 2.0), "random": (0.1, 0.2)},
        bands={"found": ((0.0, 0.1), (1.5, 2.5))},
    ),
    Table(title="Cells", caption="c", columns=("name", "value"), rows=(("a", 1), ("b", 0.5), ("c", None))),
    Heatmap(title="Phases", caption="c", x_label="p", y_label="n/d", values=((0.5, 1.0), (0.0, 0.25))),
    Arrows(
        title="Plane",
        caption="c",
        groups={"feature": ((1.0, 0.0), (0.0, 1.0)), "none": ()},
        outlines={"around": ((1.0, 0.0), (0.0, 1.0), (-1.0, -1.0))},
        unit_circle=True,
    ),
    DirectionGallery(title="Cards", caption="c", cards=(CARD,)),
    Predictions(title="Foretold", caption="c", rows=(JUDGEMENT,)),
)
VOID = {"meta", "link", "br", "img", "input", "hr", "path", "use", "rect", "circle", "mspace"}


def verdict(identity="LN-1", status=Status.PROVED, **options):
    claim = Claim(
        id=identity,
        statement=options.get("statement", "A statement."),
        source=options.get("source", "[SF] section 2"),
        expected=options.get("expected", status),
        check="nowhere:check",
        formula=options.get("formula", r"\lVert x \rVert < 1"),
        hypotheses=("$d \\ge 2$",),
    )
    witness = options.get("witness", {"x": [1, -1]} if status is Status.REFUTED else None)
    finding = Finding(
        status=status,
        evidence=options.get("evidence", {"draws": 100}),
        witness=witness,
        exhibits=options.get("exhibits", ()),
    )
    return Verdict(claim=claim, suite=options.get("suite", "proofs"), finding=finding, seed=0, seconds=0.25)


def written(directory, *verdicts, complete=True):
    """The page that a run with these verdicts leaves in ``directory``."""
    facts = report.environment(Run(seed=0, directory=directory))
    report.write_verdicts(directory, verdicts, facts, complete=complete)
    return report.write_html(directory).read_text("utf-8")


class Page(html.parser.HTMLParser):
    """Collects tags, attributes, ids and text; notes every tag that is not closed in its turn."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.ids, self.words, self.open, self.unbalanced = [], [], [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.unbalanced.append(tag)

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory):
    """What a run leaves that met every kind of exhibit and of trouble."""
    directory = tmp_path_factory.mktemp("run")
    written(
        directory,
        verdict("LN-1", exhibits=EXAMPLES),
        verdict("LN-6", Status.REFUTED),
        verdict("TM-1", Status.SUPPORTED, suite="toy_models", exhibits=EXAMPLES),
        verdict("RA-7", Status.SKIPPED, expected=Status.PROVED, evidence={"reason": "no coqc", "remedy": "get it"}),
        verdict(
            "PY-1",
            Status.ERROR,
            suite="pythia",
            expected=Status.SUPPORTED,
            evidence={"reason": "it broke", "where": "a.py:1"},
        ),
    )
    return directory


@pytest.fixture(scope="module")
def full(run_directory):
    return (run_directory / report.PAGE).read_text("utf-8")


# --- The page -------------------------------------------------------------------------------------------


def test_the_page_is_well_formed_with_unique_ids(full):
    page = Page(full)
    assert (page.unbalanced, page.open) == ([], [])
    assert len(page.ids) == len(set(page.ids))


def test_every_link_and_reference_leads_to_an_id_of_the_page(full):
    page = Page(full)
    targets = [value for name, value in page.attributes if name in ("href", "xlink:href", "src", "action")]
    targets += [f"#{i}" for name, v in page.attributes if name == "aria-labelledby" for i in v.split()]
    targets += re.findall(r"url\((.*?)\)", full)
    assert targets
    assert all(target.startswith("#") and target[1:] in page.ids for target in targets)


def test_the_page_asks_nothing_of_anyone_and_runs_only_its_own_script(full):
    page = Page(full)
    [script] = re.findall(r"<script>(.*?)</script>", full, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(v for n, v in page.attributes if n == "content" and v and "default-src" in v)
    assert re.findall(r"script-src ([^;]*)", policy) == [f"'sha256-{digest}'"]
    assert not re.search(r"\b(fetch|eval|innerHTML|document\.write|XMLHttpRequest|localStorage)\b", script)
    assert "http://" not in full
    assert "https://" not in full
    assert "@import" not in full
    assert page.tags.count("script") == 1
    assert not {"link", "iframe", "img", "object"} & set(page.tags)
    assert ("http-equiv", "Content-Security-Policy") in page.attributes
    assert any(v and v.startswith("default-src 'none'") for n, v in page.attributes if n == "content")
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_a_page_with_nothing_to_browse_carries_no_script(tmp_path):
    page = written(tmp_path, verdict(exhibits=EXAMPLES[:7]))
    assert "<script" not in page
    assert "script-src" not in page


def test_every_kind_of_exhibit_is_drawn(full):
    assert {exhibit.kind for exhibit in EXAMPLES} == set(KINDS)
    page = Page(full)
    for exhibit in EXAMPLES:
        assert exhibit.title in page.text
    plotted = Histogram | Intervals | Curve | Heatmap | Arrows
    miniature = 2  # a histogram of presence, a prediction beside its outcome
    # The second claim has the same exhibits: it leads to them.
    assert page.tags.count("svg") == miniature + sum(isinstance(e, plotted) for e in EXAMPLES)
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert "SeS. c" in labels
    assert "math" in page.tags
    assert CARD.excerpts[0].token.strip() in page.text


def test_a_hostile_statement_key_or_witness_stays_text(tmp_path):
    page = written(
        tmp_path,
        verdict(
            f"X-{HOSTILE}",
            Status.REFUTED,
            statement=HOSTILE,
            source=HOSTILE,
            formula=rf"\text{{{HOSTILE}}}",
            suite=HOSTILE,
            evidence={HOSTILE: HOSTILE, "list": [HOSTILE, {HOSTILE: [HOSTILE]}], "line": f"a\n{HOSTILE}"},
            witness={HOSTILE: '"><img src=x onerror=alert(1)>'},
        ),
    )
    assert "<script" not in page
    assert "<img" not in page
    assert Page(page).text.count(HOSTILE) >= 8


def test_hostile_tokens_and_labels_are_escaped(tmp_path):
    excerpt = Excerpt(before=HOSTILE, token="</mark><b>", after="\u202e\x00\n", presence=-0.5)
    card = {"score_plus": 1.0, "score_minus": 0.0, "demoted": ()}
    card = type(CARD)(name=HOSTILE, excerpts=(excerpt,), promoted=((HOSTILE, 1.0),), **card)
    gallery = DirectionGallery(title=HOSTILE, caption=HOSTILE, cards=(card,))
    plot = Histogram(title='" onload="x', caption=HOSTILE, x_label=HOSTILE, groups={HOSTILE: (1.0,), "$x$": (2.0,)})
    page = written(tmp_path, verdict(exhibits=(gallery, plot)))
    assert page.count("<script") == 1
    assert HOSTILE not in page
    assert "</mark><b>" not in page
    assert "\u202e" not in page
    parsed = Page(page)
    assert (parsed.unbalanced, "onload" in dict(parsed.attributes)) == ([], False)
    assert "$x$" in parsed.text


def test_whatever_differs_from_what_was_expected_comes_first(full):
    text = Page(full).text
    assert text.index("1 verdict differs") < text.index("5 claims were put to the test") < text.index("Ledger")
    assert "expected SUPPORTED" in text
    assert "3 came out as expected, 1 did not, 1 was skipped." in text


def test_a_run_as_expected_raises_no_alarm(tmp_path):
    text = Page(written(tmp_path, verdict())).text
    assert "1 claim was put to the test; it came out as expected." in text
    assert "differ" not in text


def test_figures_come_first_and_long_evidence_is_folded_below_them(tmp_path):
    evidence = {f"figure_{i}": i / 7 for i in range(13)}
    page = written(tmp_path, verdict(evidence=evidence, exhibits=EXAMPLES[1:2]), verdict("LN-2", evidence={"few": 1}))
    first, second = page.split('<article id="LN-2"')
    assert first.index("<svg") < first.index('<details class="evidence" id="evidence-LN-1">')
    assert "Evidence: 13 rows" in Page(first).text
    assert "figure 12" in Page(first).text  # folded, not left out: a browser opens it without a script
    assert '<details class="evidence" id="evidence-LN-2" open>' in second


def test_a_claim_without_evidence_has_nothing_to_fold(tmp_path):
    page = written(tmp_path, verdict(evidence={"reason": "no coqc", "remedy": "get it"}))
    assert 'class="evidence"' not in page


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (3, 1),
        ({}, 1),
        ({"value": 1.0, "low": 0.5, "high": 1.5}, 1),
        (list(range(100)), 1),
        ([{"a": 1, "b": 2}, {"a": 3, "b": 4}], 3),  # a table and its head
        ([{"a": [{"b": 1}]}] * 9, 1),  # folded itself
        ({"x": {"y": 1, "z": "text"}, "u": [["long" * 20], ["long" * 20]]}, 4),
    ],
)
def test_the_height_of_evidence_is_that_of_its_layout(value, lines):
    assert templates.height(value) == lines


def test_reasons_of_skipped_and_failed_checks_are_shown(full):
    text = Page(full).text
    for words in ("no coqc", "get it", "it broke", "a.py:1"):
        assert words in text


def test_an_interrupted_run_says_so_at_the_top(tmp_path, full):
    assert "Interrupted" not in full
    text = Page(written(tmp_path, verdict(), complete=False)).text
    assert text.index("Interrupted run") < text.index("1 claim was put to the test")


def test_a_run_interrupted_before_its_first_verdict_has_a_page(tmp_path):
    assert "0 claims were put to the test" in Page(written(tmp_path, complete=False)).text


def test_a_large_witness_is_abbreviated_and_says_where_the_rest_is(tmp_path):
    colouring = [[0] * 300 for _ in range(300)]
    page = written(tmp_path, verdict(status=Status.REFUTED, witness={"colouring": colouring}))
    assert len(page) < 60_000
    assert "… 288 more" in page
    assert "the whole witness is in verdicts.json" in Page(page).text
    record = json.loads((tmp_path / report.VERDICTS).read_text("utf-8"))
    assert record["claims"][0]["witness"]["colouring"] == colouring


def test_arrows_are_drawn_on_the_page_with_their_numbers_beside_them(tmp_path):
    exhibit = next(exhibit for exhibit in EXAMPLES if isinstance(exhibit, Arrows))
    page = Page(written(tmp_path, verdict(exhibits=(exhibit,))))
    assert page.tags.count("svg") == 1
    assert "Plane. c" in [value for name, value in page.attributes if name == "aria-label"]
    assert "angle in degrees" in page.text
    assert "The dashed circle has radius 1." in page.text


@pytest.mark.parametrize("field", ["groups", "outlines", "unit_circle"])
def test_arrows_edited_into_nonsense_are_bad_input(tmp_path, field):
    exhibit = next(exhibit for exhibit in EXAMPLES if isinstance(exhibit, Arrows))
    written(tmp_path, verdict(exhibits=(exhibit,)))
    edited(tmp_path, report.EXHIBITS, lambda document: document["exhibits"]["LN-1"][0].update({field: {"a": [[1]]}}))
    with pytest.raises(InputError, match=f"arrows.{field}"):
        report.write_html(tmp_path)


def judgement(low, high, value, ends=None, **options):
    prediction = Prediction(id="PY-4", quantity="q", low=low, high=high, derived_from=options.pop("derived", "TM-1"))
    return judged(prediction, Interval(value, *(ends or (value, value))), **options)


def test_the_ledger_of_predictions_stands_between_the_claims_and_their_sections(tmp_path):
    rows = [
        judgement(1.5, None, 3.0, (2.0, 4.0), of="layer 2", origin="this file"),
        judgement(1.5, None, 1.0, (0.9, 1.2)),
        judgement(None, 1.5, 1.4, (1.3, 1.6)),
        judgement(1.0, 2.0, 1.5),
    ]
    page = written(tmp_path, verdict("PY-4", evidence={JUDGED: rows, "contexts": 256}), verdict("LN-1"))
    text = Page(page).text
    assert text.index("Ledger") < text.index("Predictions and outcomes") < text.index("Judged by these predictions")
    assert "4 comparisons with what was predicted before the measurement: 2 inside, 1 outside, 1 undecided." in text
    for words in ("at least 1.5", "at most 1.5", "1 to 2", "layer 2", "Read: this file."):
        assert text.count(words) >= 2  # on the ledger and in the claim's section
    assert "predictions judged" not in text  # the key of the evidence: it is shown apart
    assert "256" in text


def test_a_page_without_predictions_has_no_ledger_of_them(tmp_path):
    assert "Predictions" not in written(tmp_path, verdict())


@pytest.mark.parametrize("entry", ["text", [1], [{"id": "PY-4"}], {"id": "PY-4"}, [{**judgement(1, 2, 3), "x": 1}]])
def test_predictions_of_another_form_stay_with_the_evidence(tmp_path, entry):
    text = Page(written(tmp_path, verdict(evidence={JUDGED: entry}))).text
    assert "predictions judged" in text
    assert "Predictions and outcomes" not in text


def test_a_hostile_prediction_stays_text(tmp_path):
    row = {**judgement(1, 2, 3, of=HOSTILE, origin=HOSTILE, derived=HOSTILE), "id": HOSTILE, "quantity": HOSTILE}
    page = written(tmp_path, verdict(evidence={JUDGED: [row]}))
    assert "<script" not in page
    assert Page(page).text.count(HOSTILE) == 10


def drawn(row):
    """Ends of the band, and the dot, as places in the figure of a judged prediction; and the whole markup."""
    markup = str(miniatures.outcome_figure(plain_data.decode(row, JudgedPrediction, "row")))
    x, width = map(float, re.search(r'class="band" x="([\d.]+)" y="3" width="([\d.]+)"', markup).groups())
    dot = re.search(r'cx="([\d.]+)"', markup)
    return x, x + width, float(dot[1]) if dot else None, markup


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e9])
def test_the_dot_lies_in_the_band_exactly_when_the_value_is_inside(scale):
    ends = [None, 1.0, 5.0, 300.0]
    for low, high in ((a, b) for a in ends for b in ends if (a or b) and not (a and b and a > b)):
        for value in (0.5, 2.0, 60.0, 1000.0, -3.0, 0.0):
            row = judgement(low and low * scale, high and high * scale, value * scale)
            left, right, dot, _ = drawn(row)
            assert (left <= dot <= right) == (row["outcome"] == "inside"), (low, high, value)
            assert 0 <= left <= right <= 240.1
            assert 0 <= dot <= 240


def test_far_apart_ends_are_drawn_on_a_logarithmic_axis_and_say_so():
    left, right, dot, markup = drawn(judgement(None, 1e-6, 1e-12))
    assert (left, dot) == (0, pytest.approx(right - 240 / 1.4, abs=0.2))
    assert "logarithmic axis" in markup
    assert "linear axis" in drawn(judgement(None, 1.0, 0.0))[3]


def strip_texts(row):
    return re.findall(r"<text[^>]*>([^<]*)</text>", drawn(row)[3])


def test_the_axis_of_a_prediction_carries_its_ends_and_says_when_it_is_logarithmic():
    assert strip_texts(judgement(1.0, None, 2.0, (1.5, 3.0))) == ["0.6", "3.4"]
    assert strip_texts(judgement(None, 1e-6, 1e-12)) == ["6.3×10⁻¹⁴", "1.6×10⁻⁵", "log scale"]
    assert strip_texts(judgement(-1.0, None, 1.0)) == ["−1.4", "1.4", "0"]
    assert len(set(strip_texts(judgement(1000.0, None, 1000.5)))) == 2  # ends that two digits do not tell apart


def test_the_axis_of_a_positive_quantity_does_not_reach_below_zero():
    assert strip_texts(judgement(1.0, None, 20.0, (15.0, 28.0)))[0] == "0"


def test_what_could_not_be_measured_has_no_dot():
    row = {**judgement(1.0, None, 2.0), "measured": {"value": "nan", "low": "nan", "high": "inf"}}
    assert drawn(row)[2] is None


def test_the_histogram_of_presence_keeps_rare_presences_visible():
    counts = PresenceCounts(low=-1.0, high=1.0, counts=(0, 10_000, 0, 25))
    path = re.search(r'class="bars" d="([^"]*)"', str(miniatures.presence_figure(counts)))[1]
    tops = [50 - int(top) for top in re.findall(r"V(\d+)", path)]
    assert max(tops) == 47
    assert tops == [47, 0, 2, 0]  # the square root of 25 in 10,000 is a twentieth


@pytest.mark.parametrize(
    ("text", "alone", "inside"),
    [(" cat", "␣cat", " cat"), (" ", "␣", "␣"), ("\n", "⏎", "⏎"), ("\u00a0", "␣", "␣"), ("\t ", "⇥␣", "⇥␣"),
     ("", "(empty)", "(empty)"), ("\u200b", "\\u200b", "\\u200b"), ("\u2028", "\\u2028", "\\u2028")],
)  # fmt: skip
def test_a_token_is_never_invisible(text, alone, inside):
    assert (templates.token(text), templates.token(text, blank_only=True)) == (alone, inside)


def test_estimates_in_a_table_have_their_intervals_in_a_column_of_their_own(tmp_path):
    rows = [("0", Interval(3.0, 2.5, 3.5), 7), ("1", None, 8), ("2", Interval(0.123456, 0.1, float("inf")), 9)]
    table = Table(title="By layer", caption="c", columns=("layer", "found", "n"), rows=rows)
    page = written(tmp_path, verdict(exhibits=(table,)))
    assert '<th scope="col" colspan="2" class="estimate">found</th>' in page
    body = page[page.index("By layer") :]
    cells = [len(re.findall("<td", row)) for row in re.findall(r"<tr>(<td.*?)</tr>", body, re.DOTALL)]
    assert cells == [4, 4, 4]
    text = Page(page).text.replace(" ", "")
    assert "3.00[2.50,3.50]" in text  # two digits of half the interval
    assert "0.1235[0.1000,∞]" in text
    assert 'title="0.123456">0.1235</span>' in page


def test_an_interval_that_ends_in_words_is_told_as_a_record(tmp_path):
    """As where no density was found at which a boundary lies."""
    found = {"value": "beyond the densities tried", "low": 0.3, "high": "beyond the densities tried"}
    missing = {"value": None, "low": None, "high": None}
    endless = {"value": 1.5, "low": 1.25, "high": float("inf")}
    text = Page(written(tmp_path, verdict(evidence={"a": found, "b": missing, "c": endless, "d": [found, found]}))).text
    assert text.count("beyond the densities tried") == 6
    assert "[1.250, ∞]" in text


def test_estimates_written_as_text_stand_in_columns_as_well(tmp_path):
    table = Table(title="T", caption="c", columns=("group", "ratio"), rows=(("a", "1 [0.94, 1.07]"), ("b", "")))
    page = written(tmp_path, verdict(exhibits=(table,)))
    assert '<td class="number value">1.00</td><td class="bounds">[0.94, 1.07]</td>' in page


def test_the_formula_of_py_7_shows_both_halves_of_the_claim():
    formula = next(claim.formula for claim in claims_with_formulas() if claim.id == "PY-7")
    assert "median" in formula
    assert "lambda" in formula


def test_drawing_again_gives_the_same_bytes(tmp_path, run_directory):
    for name in (report.VERDICTS, report.EXHIBITS):
        shutil.copy(run_directory / name, tmp_path)
    report.write_html(tmp_path)
    assert (tmp_path / report.PAGE).read_bytes() == (run_directory / report.PAGE).read_bytes()


def test_without_matplotlib_the_numbers_stand_in_for_the_plots(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def no_matplotlib(name, *rest, **options):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real_import(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    page = Page(written(tmp_path, verdict(exhibits=EXAMPLES)))
    assert page.tags.count("svg") == 2  # the page's own miniatures, which need no matplotlib
    assert "pip install 'sensverify[plots]'" in page.text
    assert "lower quartile" in page.text


# --- The record -----------------------------------------------------------------------------------------


def test_the_record_is_strict_json_with_exactly_the_keys_of_the_contract(tmp_path):
    evidence = {"least": float("-inf"), "none": float("nan"), "pair": (1, 2)}
    written(tmp_path, verdict(evidence=evidence), verdict("LN-6", Status.REFUTED))

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    document = json.loads((tmp_path / report.VERDICTS).read_text("utf-8"), parse_constant=refuse)
    assert set(document) == {"schema", "claims", "environment"}
    assert document["schema"] == 1
    keys = {
        "id",
        "suite",
        "statement",
        "source",
        "status",
        "expected",
        "evidence",
        "witness",
        "seed",
        "seconds",
    }
    assert [set(claim) for claim in document["claims"]] == [keys, keys]
    assert document["claims"][0]["evidence"] == {"least": "-inf", "none": "nan", "pair": [1, 2]}
    assert document["environment"]["complete"] is True


def test_the_environment_names_no_folder(tmp_path):
    model = tmp_path / "secret" / "my-model"
    model.mkdir(parents=True)
    subject = Subject(model=str(model), text=tmp_path / "secret" / "words.txt")
    facts = report.environment(Run(seed=3, directory=tmp_path, subject=subject))
    assert (facts["model"], facts["text"], facts["seed"]) == ("my-model", "words.txt", 3)
    assert "secret" not in json.dumps(facts)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", facts["date"])


def test_the_old_files_stay_when_the_new_ones_cannot_be_written(tmp_path):
    written(tmp_path, verdict())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(TypeError, match="plain JSON"):
        report.write_verdicts(tmp_path, [verdict(evidence={"bad": object()})], {}, complete=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_crash_while_writing_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    written(tmp_path, verdict())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="No space left"):
        report.write_verdicts(tmp_path, [verdict("LN-2")], {}, complete=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_is_a_file_is_bad_input(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="pass a folder"):
        report.write_verdicts(tmp_path / "file", [verdict()], {}, complete=True)


def edited(directory: Path, name: str, change) -> None:
    document = json.loads((directory / name).read_text("utf-8"))
    change(document)
    (directory / name).write_text(json.dumps(document), "utf-8")


@pytest.mark.parametrize("name", [report.VERDICTS, report.EXHIBITS])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"schema": 2}', b'{"schema": 1}', b"\xff\xfe", b"NaN", b"[" * 100_000]
)
def test_a_damaged_file_is_bad_input(tmp_path, name, content):
    written(tmp_path, verdict())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"expected .* got .* remedy: .*"):
        report.write_html(tmp_path)


@pytest.mark.parametrize("name", [report.VERDICTS, report.EXHIBITS])
def test_a_missing_file_is_bad_input(tmp_path, name):
    written(tmp_path, verdict())
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match="no such file"):
        report.write_html(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("status", "TRUE"), ("id", 7), ("evidence", []), ("witness", "w"), ("seed", True), ("seconds", None)],
)
def test_a_record_edited_into_nonsense_is_bad_input(tmp_path, key, value):
    written(tmp_path, verdict())
    edited(tmp_path, report.VERDICTS, lambda document: document["claims"][0].update({key: value}))
    with pytest.raises(InputError, match=key):
        report.write_html(tmp_path)


@pytest.mark.parametrize("value", [None, [{"kind": "nothing"}], [{"kind": "table"}], [3]])
def test_exhibits_edited_into_nonsense_are_bad_input(tmp_path, value):
    written(tmp_path, verdict())
    edited(tmp_path, report.EXHIBITS, lambda document: document["exhibits"].update({"LN-1": value}))
    with pytest.raises(InputError):
        report.write_html(tmp_path)


# --- The terminal ---------------------------------------------------------------------------------------


def test_the_terminal_table_shows_square_brackets_as_text():
    console = rich.console.Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(report.terminal_table([verdict("LN-1", statement="[bold]x[/bold] in [0, 1]")]))
    assert "[bold]x[/bold] in [0, 1]" in console.export_text()


def test_the_summary_names_what_differs_and_what_was_skipped():
    differs = verdict("RA-6", Status.INCONCLUSIVE, expected=Status.PROVED)
    assert report.summary_line([verdict(), differs]) == "2 claims: 1 PROVED, 1 INCONCLUSIVE; not as expected: RA-6"
    skipped = verdict("RA-7", Status.SKIPPED, expected=Status.PROVED, evidence={"remedy": "get it"})
    line = "2 claims: 1 PROVED, 1 SKIPPED, all others as expected; RA-7 skipped: get it"
    assert report.summary_line([verdict(), skipped]) == line
    assert report.summary_line([verdict()]) == "1 claim: 1 PROVED, all as expected"


# --- Mathematics and plots ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "latex",
    [
        r"\operatorname{LN}(kx + c\mathbf{1}) = \operatorname{LN}(x)",
        r"J = \frac{1}{\sqrt{\sigma^2+\varepsilon}}\Bigl(I - \frac{\mathbf 1\mathbf 1^\top}{d}\Bigr)",
        r"\lVert I_s^\alpha(x) - x \rVert^2 = 2\lVert x\rVert^2\bigl(1 - \cos(\arccos\rho)\bigr)",
        r"\max_{i\ne j} |\langle s_i, s_j\rangle| \ge \sqrt{\tfrac{n-d}{d(n-1)}}",
        r"|S| \ge \bigl\lfloor \tfrac12 \log_2 \tfrac{|X|}{3} \bigr\rfloor",
        r"\begin{aligned} a &= b \\ &= \binom{2k-2}{k-1} \end{aligned}",
        r"\mathbb{E}_{x,\alpha}\,D\bigl(f_b(x), f_b(I_s^\alpha(x))\bigr)",
        r"F(x) = \begin{cases} 0 & \text{if } x \le 1 \\ 1 & \text{else} \end{cases}",
        r"\limsup_{k\to\infty} R(k,k)^{1/k} \le 2",
    ],
)
def test_the_formulas_of_the_theory_become_mathml(latex):
    markup = str(mathematics.display(latex))
    assert markup.startswith("<math")
    assert "\\" not in markup
    assert (Page(markup).unbalanced, Page(markup).open) == ([], [])


def claims_with_formulas():
    return [claim for suite in suites.load_suites().values() for claim in suite if claim.formula]


@pytest.mark.parametrize("claim", claims_with_formulas(), ids=lambda claim: claim.id)
def test_the_formula_of_every_claim_becomes_mathml(claim):
    assert mathematics.mathml(claim.formula, block=True).startswith("<math")  # raises where it is unknown


def test_arg_min_is_one_name_with_its_bound_below():
    markup = mathematics.display(r"\arg\min_b f(b)")
    assert "<munder><mo" in markup
    assert ">argmin</mo>" in markup


@pytest.mark.parametrize("latex", [r"\nosuchcommand{x} < 1", r"\frac{1", r"x_{", r"\left( x"])
def test_latex_that_cannot_be_translated_is_shown_as_written(latex):
    assert Page(str(mathematics.display(latex))).text == latex
    assert "<math" not in mathematics.display(latex)


def test_a_link_in_latex_leads_nowhere():
    assert "evil" not in mathematics.display(r"\href{javascript:evil()}{x}")


def test_prose_escapes_everything_but_formulas_and_code():
    markup = mathematics.prose("<b> for $d \\ge 2$, `x<1` and 5 $")
    assert str(markup).startswith("&lt;b&gt; for <math")
    assert "<code>x&lt;1</code> and 5 $" in markup


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.31415926, "0.3142"), (3.2e-7, "3.2×10⁻⁷"), (1e-9, "10⁻⁹"), (-2, "−2"), (0.0, "0"), (1.0, "1"),
        (43176.4, "43\u202f176"), (123456789, "123\u202f456\u202f789"), (float("inf"), "∞"), (9.99996, "10"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_people_write_them(value, shown):
    assert numerals.number(value) == shown


def test_a_long_label_beside_a_curve_is_broken_into_lines():
    label = "SeS of features / of random directions"
    drawing = plots.draw(Curve(title="", caption="", x_label="x", y_label=label, x=(1.0,), series={}), uid="u")
    assert label not in drawing.svg
    assert all(word in drawing.svg for word in ("SeS of features / of random", "directions"))


def test_values_without_a_place_on_the_axis_are_counted_not_hidden():
    plot = Histogram(title="", caption="", x_label="", groups={"g": (1.0, 2.0, 0.0, float("nan"))}, log_x=True)
    drawing = plots.draw(plot, uid="u")
    assert drawing is not None
    assert drawing.notes[0] == "Not drawn: 2 values not finite and positive."


@pytest.mark.parametrize("values", [(), (3.0,), (0.0, 0.0), (float("nan"),), (1e-30, 1e30)])
@pytest.mark.parametrize("log", [False, True])
def test_degenerate_data_is_drawn_without_a_crash(values, log):
    options = {"title": "t", "caption": "c", "x_label": "x", "log_x": log}
    for plot in (
        Histogram(groups={"a": values, "b": ()}, **options),
        Curve(y_label="y", x=values, series={"a": values}, log_y=log, **options),
        Curve(y_label="y", x=(), series={}, **options),
        Intervals(rows=(), reference=0.0, **options),
    ):
        assert plots.draw(plot, uid="u") is not None
        assert plots.as_table(plot) is not None


def test_importing_the_report_imports_neither_torch_nor_matplotlib():
    code = "import sys, sensverify.report; print(sorted({'torch', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
