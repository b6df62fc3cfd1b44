"""What a reader needs to make sense of a page: terms, expectations, one style per group, nothing twice."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from pathlib import Path

import pytest

from sensverify import palette, plots, report, templates
from sensverify.claims import Run, Subject
from sensverify.errors import InputError
from sensverify.exhibits import Curve, Histogram, IntervalRow, Intervals, Table
from sensverify.predictions import JUDGED, Prediction, judged
from sensverify.statistics import Interval
from sensverify.terms import TERMS, elsewhere, terms_in
from sensverify.verdicts import Status

spec = importlib.util.spec_from_file_location("test_report", Path(__file__).with_name("test_report.py"))
shared = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shared)
Page, verdict = shared.Page, shared.verdict


def written(directory, *verdicts, model="embedded"):
    facts = report.environment(Run(seed=0, directory=directory, subject=Subject(model=model)))
    report.write_verdicts(directory, verdicts, facts, complete=True)
    return report.write_html(directory).read_text("utf-8")


def judgement(value, low, high, *, of="", quantity="q", identity="PY-4"):
    prediction = Prediction(id=identity, quantity=quantity, low=1.0, high=None, derived_from="TM-1")
    return judged(prediction, Interval(value, low, high), of=of)


# --- Expectations ---------------------------------------------------------------------------------------


def about_model(status, expected, **options):
    return verdict(options.pop("identity", "PY-4"), status, expected=expected, suite="pythia", **options)


def test_another_model_than_the_shipped_one_raises_no_alarm_and_says_whose_expectations_these_are(tmp_path):
    page = written(tmp_path, about_model(Status.INCONCLUSIVE, Status.SUPPORTED), model="somebody/model")
    text = Page(page).text
    assert "alarm" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert "1 verdict is other than on the shipped model." in text
    assert "recorded for the model that comes with the package" in text
    assert "shipped model: SUPPORTED" in text
    assert "not as expected" not in text


def test_the_shipped_model_still_raises_an_alarm(tmp_path):
    page = written(tmp_path, about_model(Status.INCONCLUSIVE, Status.SUPPORTED))
    assert "1 verdict differs from the expected one" in Page(page).text
    assert 'class="notice alarm"' in page


@pytest.mark.parametrize("suite", ["proofs", "toy_models"])
def test_what_does_not_depend_on_the_model_raises_an_alarm_beside_any_model(tmp_path, suite):
    broken = verdict("LN-1", Status.INCONCLUSIVE, expected=Status.PROVED, suite=suite)
    page = written(tmp_path, broken, about_model(Status.REFUTED, Status.SUPPORTED), model="somebody/model")
    assert "1 verdict differs from the expected one" in Page(page).text
    assert "1 verdict is other than on the shipped model." in Page(page).text


def test_a_folder_with_the_name_of_the_shipped_model_is_another_model(tmp_path, monkeypatch):
    folder = tmp_path / "models" / "embedded"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder.parent)
    for given in (str(folder), "./embedded"):
        page = written(tmp_path, about_model(Status.INCONCLUSIVE, Status.SUPPORTED), model=given)
        assert 'class="notice alarm"' not in page
        assert "<h1>Verification report: embedded</h1>" in page
        assert "1 verdict is other than on the shipped model." in Page(page).text
    page = written(tmp_path, about_model(Status.INCONCLUSIVE, Status.SUPPORTED), model="embedded")
    assert 'class="notice alarm"' in page  # the name alone is the shipped model, whatever lies in this folder
    assert "<h1>Verification report: the shipped model</h1>" in page


def redrawn(directory, **facts):
    """The page of the record in ``directory`` with other facts of its environment; ``None`` takes a fact away."""
    path = directory / report.VERDICTS
    document = json.loads(path.read_text("utf-8"))
    document["environment"] = {k: v for k, v in {**document["environment"], **facts}.items() if v is not None}
    path.write_text(json.dumps(document), "utf-8")
    return report.write_html(directory).read_text("utf-8")


def test_an_older_record_is_of_the_model_that_it_names(tmp_path):
    written(tmp_path, about_model(Status.INCONCLUSIVE, Status.SUPPORTED))
    assert 'class="notice alarm"' in redrawn(tmp_path, shipped_model=None)
    assert 'class="notice alarm"' not in redrawn(tmp_path, shipped_model=None, model="somebody/model")


def test_a_record_that_does_not_say_yes_or_no_of_the_shipped_model_is_refused(tmp_path):
    written(tmp_path, about_model(Status.SUPPORTED, Status.SUPPORTED))
    with pytest.raises(InputError, match="shipped_model of the environment is 'perhaps'"):
        redrawn(tmp_path, shipped_model="perhaps")


def test_an_error_is_an_alarm_on_any_model(tmp_path):
    page = written(tmp_path, about_model(Status.ERROR, Status.SUPPORTED, evidence={"reason": "x"}), model="a/b")
    assert "1 verdict differs from the expected one" in Page(page).text


def test_the_page_is_named_after_its_model_where_a_claim_depends_on_one(tmp_path):
    about = about_model(Status.SUPPORTED, Status.SUPPORTED)
    assert "<h1>Verification report: somebody/model</h1>" in written(tmp_path, about, model="somebody/model")
    assert "<h1>Verification report: the shipped model</h1>" in written(tmp_path, about)
    assert "<h1>Verification report</h1>" in written(tmp_path, verdict())


# --- Refutations ----------------------------------------------------------------------------------------


def test_a_refutation_by_measurement_does_not_claim_a_witness_that_can_be_checked_by_itself(tmp_path):
    row = judgement(0.5, 0.4, 0.6)
    measured = written(tmp_path, about_model(Status.REFUTED, Status.REFUTED, evidence={JUDGED: [row]}))
    assert "the whole interval lies outside what was predicted" in Page(measured).text
    assert "can be re-checked by itself" not in measured
    assert "Witness: what was measured and predicted" in measured
    exact = written(tmp_path, verdict(status=Status.REFUTED))
    assert "the attached witness can be re-checked by itself" in exact
    assert "outside what was predicted" not in exact


# --- Terms ----------------------------------------------------------------------------------------------


def test_only_the_terms_that_occur_are_explained(tmp_path):
    row = verdict("PY-7", statement="The presence of latents is rare.", evidence={}, source="THEORY PY-7 and RN-4")
    text = Page(written(tmp_path, row)).text
    assert "Sparse autoencoder, and one of its units" in text
    assert "The cosine between a direction and an activation" in text
    assert "Corrections for judging several comparisons" not in text
    assert "RN-4 Claims that are referred to and not part of this run" in text
    assert "Terms" not in Page(written(tmp_path, verdict(source="a book", evidence={}))).text


def test_terms_of_keys_and_captions_are_found_and_those_of_quoted_contexts_are_not(tmp_path):
    table = Table(title="SeS", caption="clean reference", columns=("a",), rows=(("Holm",),))
    text = Page(written(tmp_path, verdict(evidence={"false_twins_refuted": ["x"]}, exhibits=(table,)))).text
    for words in ("wrong on purpose", "What an effect is measured against", "How far, on average", "Corrections for"):
        assert words in text
    card = dataclasses.replace(shared.CARD, excerpts=(), promoted=((" autoencoder", 1.0),))
    gallery = dataclasses.replace(shared.EXAMPLES[7], cards=(card,))
    assert "Sparse autoencoder, and" not in Page(written(tmp_path, verdict(exhibits=(gallery,)))).text


def test_every_term_can_be_found_and_is_said_in_a_line_or_two():
    samples = ("presence SeS layer held-out found directions SAE shuffled model clean null rotation removal", "THEORY")
    rest = ("concentration Holm false twin interval",)
    assert terms_in((*samples, *rest)) == list(TERMS)
    assert all(len(term.meaning) < 260 for term in TERMS)


def test_ids_of_claims_are_told_from_other_words_with_hyphens():
    texts = ["see LN-6, TM-4.lean and RN-12 of GPT-2, UTF-8, PY-7-ish", "ours: PY-7, judged by PY-7.budget."]
    assert elsewhere(texts, ["PY-7"]) == ["LN-6", "RN-12", "TM-4.lean"]


# --- Nothing twice --------------------------------------------------------------------------------------

CONFIGURATION = {f"setting_{i}": f"value number {i}" for i in range(8)}


def test_the_configuration_of_a_run_is_shown_once_and_referred_to(tmp_path):
    first = verdict("PY-3", evidence={**CONFIGURATION, "own": 1})
    second = verdict("PY-4", evidence={**CONFIGURATION, "setting_3": "another value", "own": 2})
    page = written(tmp_path, first, second)
    text = Page(page).text
    assert text.count("value number 5") == 1
    assert "another value" in text
    assert 'as under <a href="#evidence-PY-3">PY-3</a>' in page
    assert "setting 0, setting 1, setting 2, setting 4" in text
    record = json.loads((tmp_path / report.VERDICTS).read_text("utf-8"))
    assert record["claims"][1]["evidence"]["setting_5"] == "value number 5"  # the record holds all of it


def test_a_few_equal_facts_are_shown_again(tmp_path):
    text = Page(written(tmp_path, verdict("A-1", evidence={"a": "same"}), verdict("A-2", evidence={"a": "same"}))).text
    assert text.count("same") == 2


def test_a_figure_is_drawn_once_and_the_second_claim_leads_to_it(tmp_path):
    table = Table(title="Means by layer", caption="c", columns=("a",), rows=((1.5,),))
    other = dataclasses.replace(table, rows=((2.5,),))
    page = written(tmp_path, verdict("PY-3", exhibits=(table,)), verdict("PY-4", exhibits=(table, other)))
    assert page.count("<h4>Means by layer</h4>") == 2
    assert '<a href="#figure-PY-3-1">Means by layer</a> (PY-3)' in page
    assert 'id="figure-PY-3-1"' in page


def test_what_rows_of_one_prediction_share_is_said_once(tmp_path):
    rows = [
        judgement(2.0, 1.5, 2.5, of=f"layer {i}, a single interval; by Holm", quantity="mean ratio") for i in range(4)
    ]
    rows.append(judgement(3.0, 2.5, 3.5, of="alone", quantity="another", identity="PY-5"))
    page = written(tmp_path, verdict("PY-4", evidence={JUDGED: rows}))
    text = Page(page).text
    assert text.count("a single interval; by Holm") == 2  # on the ledger and in the claim's section
    assert text.count("mean ratio") == 2
    assert [text.count(f"layer {i}") for i in range(4)] == [2] * 4
    assert text.count("alone") == 2


def test_rows_that_share_no_note_keep_theirs():
    cases = ["a, b", "c, d"]
    rows = [shared.plain_data.decode(judgement(2, 1, 3, of=of), shared.JudgedPrediction, "row") for of in cases]
    assert [(place.own, place.shared) for place in templates.in_series(rows)] == [("a, b", ""), ("c, d", "")]
    assert all(place.first for place in templates.in_series(rows, ["PY-3", "PY-4"]))  # of two claims: no series


def test_a_chance_below_all_floats_is_not_shown_as_zero(tmp_path):
    evidence = {"p_inside": {"layer 0": 0.0, "layer 1": 0.5}, "p": 0.0, "planted": 0.0}
    text = Page(written(tmp_path, verdict(evidence=evidence))).text
    assert text.count("below 10⁻³⁰⁰") == 2
    assert "planted 0" in text


# --- Plots ----------------------------------------------------------------------------------------------

GROUPS = ("peak", "concentration", "found", "SAE", "random", "PCA", "shuffled model", "negated")


def test_no_two_groups_of_one_plot_look_alike():
    for names in (GROUPS, GROUPS[::-1], ("found on the copy", "found on the model", "random on the copy", "random")):
        styles = palette.group_styles(names)
        assert len({str(style) for style in styles.values()}) == len(names)
    many = palette.group_styles([f"series {i}" for i in range(20)])
    assert len({str(style) for style in many.values()}) == 20


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_looks_the_same_in_every_plot(name):
    alone = palette.group_styles([name])[name]
    assert palette.group_styles(["other", *GROUPS[::-1]])[name] == alone
    assert palette.group_styles([f"{name} / random", "x"])[f"{name} / random"][0] == alone[0]


def test_names_that_only_begin_like_a_group_are_none_of_it():
    assert palette.group_of("foundation") is None
    assert palette.group_of("random, another draw") == "random"
    assert palette.group_of("shuffled model, layer 2") == "shuffled model"


def strokes(svg):
    return set(re.findall(r"stroke: (?:var\(--series-\d, )?(#[0-9a-f]{6}|currentColor)", svg))


def test_plots_draw_groups_in_their_own_styles():
    pytest.importorskip("matplotlib")
    random, sae = palette.GROUP_STYLES["random"][0], palette.GROUP_STYLES["SAE"][0]
    values = (1.0, 2.0, 3.0)
    for names in (("SAE", "random"), ("random", "SAE")):
        for plot in (
            Histogram(title="t", caption="c", x_label="x", groups=dict.fromkeys(names, values)),
            Curve(title="t", caption="c", x_label="x", y_label="y", x=values, series=dict.fromkeys(names, values)),
            Intervals(
                title="t", caption="c", x_label="x",
                rows=[IntervalRow(name=name, value=2.0, low=1.0, high=3.0) for name in names],
            ),
        ):  # fmt: skip
            assert {random, sae} <= strokes(plots.draw(plot, uid="u").svg)
    plain = Histogram(title="t", caption="c", x_label="x", groups={"SAE": values})
    assert palette.SERIES[0] not in strokes(plots.draw(plain, uid="u").svg)


def labels(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_an_axis_of_whole_numbers_has_no_ticks_between_them():
    pytest.importorskip("matplotlib")
    options = {"title": "t", "caption": "c", "x_label": "block", "y_label": "y", "series": {"s": (5.0, 6.0, 7.0)}}
    whole = labels(plots.draw(Curve(x=(0, 1, 2), **options), uid="u").svg)
    assert "0.5" not in whole
    assert "0.5" in labels(plots.draw(Curve(x=(0, 0.9, 2), **options), uid="u").svg)
