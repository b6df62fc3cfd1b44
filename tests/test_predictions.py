import json
import re

import pytest

from sensverify.errors import InputError
from sensverify.predictions import Prediction, load_predictions, write_predictions
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
