import hashlib
import json
import re
from pathlib import Path

import pytest

from sensverify.claims import Run, Subject
from sensverify.errors import InputError
from sensverify.predictions import Prediction, load_predictions, replace_predictions, write_predictions
from sensverify.statistics import Interval


def prediction(low=1.5, high=None, name="PY-4"):
    return Prediction(id=name, quantity="a ratio", low=low, high=high, derived_from="TM-1, seeds 0, 1, 2")


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "predictions.json"
    write_predictions(path, [prediction(), prediction(None, 0.05, "PY-7")])
    return path


def test_what_was_written_is_read(written):
    assert load_predictions(written) == {"PY-4": prediction(), "PY-7": prediction(None, 0.05, "PY-7")}


def test_an_edit_of_one_digit_is_refused_wherever_it_is(written):
    text = written.read_text()
    digits = [match.start() for match in re.finditer(r"\d", text)]
    for position in digits:
        other = str((int(text[position]) + 1) % 10)
        written.write_text(text[:position] + other + text[position + 1 :])
        with pytest.raises(InputError, match=r"edited|hash|schema"):
            load_predictions(written)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"schema": 2}', '{"schema": 1}', "not json"])
def test_anything_else_is_refused(tmp_path, content):
    path = tmp_path / "predictions.json"
    path.write_text(content)
    with pytest.raises(InputError, match="remedy"):
        load_predictions(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="FileNotFoundError"):
        load_predictions(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("low", "high", "measured", "outcome"),
    [
        (1.5, None, (1.6, 1.7), "inside"),
        (1.5, None, (1.4, 1.7), "undecided"),
        (1.5, None, (1.2, 1.4), "outside"),
        (None, 0.05, (0.01, 0.04), "inside"),
        (None, 0.05, (0.06, 0.07), "outside"),
        (0.1, 0.2, (0.1, 0.2), "inside"),
        (0.1, 0.2, (0.0, 0.3), "undecided"),
    ],
)
def test_an_interval_is_judged_as_a_whole(low, high, measured, outcome):
    assert prediction(low, high).judge(Interval(sum(measured) / 2, *measured)) == outcome


def test_a_prediction_that_excludes_nothing_is_none():
    with pytest.raises(ValueError, match="excludes nothing"):
        prediction(None, None)


def test_the_file_is_plain_json_with_date_and_hash(written):
    document = json.loads(written.read_text())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["date"])
    assert len(document["sha256"]) == 64


# --- Files that were edited, and files with a fitting hash that hold no predictions ----------------------

ENTRY = {"id": "PY-4", "quantity": "a ratio", "low": 1.5, "high": None, "derived_from": "TM-1, seeds 0, 1, 2"}
SHIPPED = Path(__file__).parent.parent / "pythia" / "predictions.json"


def sealed(path, predictions, **origin):
    """A file whose hash fits, whatever it holds; the hash is written out here, independently of the loader."""
    document = {"schema": 1, "version": "0.1.0", "date": "2026-01-01T00:00:00Z", "predictions": predictions, **origin}
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    document["sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    path.write_text(json.dumps(document))
    return path


def test_a_file_sealed_by_hand_is_read(tmp_path):
    assert load_predictions(sealed(tmp_path / "p.json", [ENTRY])) == {"PY-4": prediction()}
    assert load_predictions(sealed(tmp_path / "p.json", [])) == {}


@pytest.mark.parametrize(
    ("origin", "complaint"),
    [
        ({"date": "2999-01-01T00:00:00Z"}, "made before what they predict is measured"),
        ({"date": None}, "the date"),
        ({"date": "yesterday"}, "the date"),
        ({"version": None}, "the version"),
        ({"schema": 2}, "schema 1"),
    ],
)
def test_predictions_without_an_origin_or_made_afterwards_are_refused(tmp_path, origin, complaint):
    with pytest.raises(InputError, match=complaint):
        load_predictions(sealed(tmp_path / "p.json", [ENTRY], **origin))


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        (None, "a list of predictions"),
        ({"PY-4": ENTRY}, "a list of predictions"),
        (["PY-4"], "number 1: 'PY-4'"),
        ([ENTRY, {}], "number 2: without 'derived_from', 'high', 'id', 'low', 'quantity'"),
        ([{key: value for key, value in ENTRY.items() if key != "id"}], "without 'id'"),
        ([{key: value for key, value in ENTRY.items() if key != "high"}], "without 'high'"),
        ([{**ENTRY, "runs": [1]}], "with unknown 'runs'"),
        ([{**ENTRY, "id": 4}], "a text as id"),
        ([{**ENTRY, "id": ["PY-4"]}], "a text as id"),
        ([{**ENTRY, "quantity": None}], "a text as quantity"),
        ([{**ENTRY, "derived_from": {}}], "a text as derived_from"),
        ([{**ENTRY, "low": "1.5"}], "a number or null as low"),
        ([{**ENTRY, "low": True}], "a number or null as low"),
        ([{**ENTRY, "high": [2.0]}], "a number or null as high"),
        ([{**ENTRY, "low": None}], "excludes nothing"),
        ([{**ENTRY, "high": 1.0}], "low is above high"),
        ([{**ENTRY, "low": 10**400}], "number 1: "),
        ([{**ENTRY, "low": float("nan")}], "NaN is no JSON number"),
        ([{**ENTRY, "high": float("inf")}], "Infinity is no JSON number"),
        ([{**ENTRY, "derived_from": " "}], "derived_from is empty"),
        ([{**ENTRY, "id": ""}], "id is empty"),
        ([ENTRY, {**ENTRY, "id": "PY-7"}, ENTRY], "number 3: 'PY-4' again"),
    ],
)
def test_entries_that_are_no_predictions_are_refused_in_one_line(tmp_path, entries, complaint):
    with pytest.raises(InputError, match=re.escape(complaint)) as caught:
        load_predictions(sealed(tmp_path / "p.json", entries))
    assert "\n" not in str(caught.value)
    assert "remedy" in str(caught.value)


def test_every_digit_of_the_shipped_file_counts(tmp_path):
    text = SHIPPED.read_text(encoding="utf-8")
    path = tmp_path / "p.json"
    for match in re.finditer(r"\d", text):
        other = str((int(match[0]) + 1) % 10)
        path.write_text(text[: match.start()] + other + text[match.end() :], encoding="utf-8")
        with pytest.raises(InputError, match=r"edited|schema|strict JSON"):
            load_predictions(path)


def test_an_edited_date_is_refused(written):
    document = json.loads(written.read_text())
    written.write_text(json.dumps({**document, "date": "2020-02-02T00:00:00Z"}))
    with pytest.raises(InputError, match="hash does not fit"):
        load_predictions(written)


def test_the_order_of_keys_and_the_white_space_do_not_matter(written):
    def turned(value):
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(item) for item in value] if isinstance(value, list) else value

    before = load_predictions(written)
    text = json.dumps(turned(json.loads(written.read_text())), separators=(",", ":"))
    assert text.index('"sha256"') < text.index('"schema"')
    written.write_text(text + "  \n\n")
    assert load_predictions(written) == before


def test_the_order_of_the_predictions_is_part_of_the_content(written):
    document = json.loads(written.read_text())
    document["predictions"].reverse()
    written.write_text(json.dumps(document))
    with pytest.raises(InputError, match="hash does not fit"):
        load_predictions(written)


@pytest.mark.parametrize("garbage", ["x", "{}", "]", "\0", " 1"])
def test_trailing_garbage_is_refused(written, garbage):
    written.write_text(written.read_text() + garbage)
    with pytest.raises(InputError, match="Extra data"):
        load_predictions(written)


def test_a_key_given_twice_is_refused_though_the_hash_would_fit(written):
    text = written.read_text()
    written.write_text(text.replace('"low": 1.5', '"low": 0.5, "low": 1.5'))
    with pytest.raises(InputError, match="a key given twice"):
        load_predictions(written)


def test_a_number_spelled_otherwise_is_refused(written):
    written.write_text(written.read_text().replace('"low": 1.5', '"low": 1.50'))
    with pytest.raises(InputError, match=r"1\.50 is written 1\.5"):
        load_predictions(written)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff\xfe", b'{"schema": 1, "date": "\\ud800"}'])
def test_bytes_that_no_writer_leaves_are_refused(tmp_path, content):
    path = tmp_path / "p.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="strict JSON"):
        load_predictions(path)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="IsADirectoryError"):
        load_predictions(tmp_path)


def test_two_predictions_of_one_id_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="one ID"):
        write_predictions(tmp_path / "p.json", [prediction(), prediction(2.0)])
    assert not list(tmp_path.iterdir())


def test_an_order_is_a_ratio_above_one():
    order = prediction(1, None)
    assert order.judge(Interval(1.3, 1.1, 1.5)) == "inside"
    assert order.judge(Interval(0.8, 0.7, 0.9)) == "outside"
    assert order.judge(Interval(1.0, 0.9, 1.1)) == "undecided"


@pytest.mark.parametrize("ends", [(2.0, 1.0), (float("nan"), None), (0.0, float("inf"))])
def test_an_interval_that_cannot_be_judged_is_none(ends):
    with pytest.raises(ValueError, match=r"low"):
        prediction(*ends)


# --- What a run leaves in its folder ---------------------------------------------------------------------------------


def test_a_runs_predictions_replace_those_of_an_earlier_run(written):
    replace_predictions(Run(seed=0, directory=written.parent), [prediction(name="PY-9")])
    assert load_predictions(written) == {"PY-9": prediction(name="PY-9")}


def test_no_predictions_remove_what_an_earlier_run_left(written):
    replace_predictions(Run(seed=0, directory=written.parent), [])
    assert not written.exists()
    replace_predictions(Run(seed=0, directory=written.parent), [])


def test_what_cannot_be_removed_is_told_in_one_line(tmp_path):
    (tmp_path / "predictions.json").mkdir()
    with pytest.raises(InputError, match="which an earlier run left") as caught:
        replace_predictions(Run(seed=0, directory=tmp_path), [])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entries", [[], [prediction(3.0)]])
def test_the_file_that_judges_is_not_replaced(written, entries):
    before = written.read_bytes()
    link = written.parent / "link.json"
    link.symlink_to(written)
    for given in (written, link):
        run = Run(seed=0, directory=written.parent, subject=Subject(predictions=given))
        replace_predictions(run, entries)
        assert written.read_bytes() == before
