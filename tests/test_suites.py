import importlib.metadata

import pytest

from sensverify import suites
from sensverify.claims import Claim, Suite
from sensverify.errors import SuiteError, UsageError
from sensverify.verdicts import Status


def claim(name):
    return Claim(id=name, statement="A statement.", source="here", expected=Status.PROVED, check="m:f")


def entry(name, value):
    return importlib.metadata.EntryPoint(name, value, suites.ENTRY_POINT_GROUP)


def install(monkeypatch, *entries):
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: entries)


def test_our_suites_come_in_reading_order():
    assert list(suites.load_suites())[:3] == ["proofs", "toy_models", "pythia"]


def test_a_suite_may_be_a_plain_iterable_of_claims_or_a_function(monkeypatch, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from sensverify.claims import Claim\nfrom sensverify.verdicts import Status\n"
        "def claim(i):\n"
        "    return Claim(id=i, statement='S.', source='', expected=Status.PROVED, check='m:f')\n"
        "plain = [claim('A-1')]\n"
        "def made():\n    return (claim('B-1'),)\n"
        "wrong = [1, 2]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    install(monkeypatch, entry("plain", "mine:plain"), entry("made", "mine:made"))
    loaded = suites.load_suites()
    assert {c.id for s in loaded.values() for c in s} == {"A-1", "B-1"}
    install(monkeypatch, entry("wrong", "mine:wrong"))
    with pytest.raises(SuiteError, match="iterable of Claims"):
        suites.load_suites()


def test_a_suite_that_fails_to_import_is_named_with_its_file(monkeypatch, tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    install(monkeypatch, entry("broken", "broken:claims"))
    with pytest.raises(SuiteError, match=r"broken\.py.*ZeroDivisionError"):
        suites.load_suites()


def test_duplicate_ids_are_refused():
    with pytest.raises(SuiteError, match="'X-1' in both 'one' and 'two'"):
        suites.check_unique_ids({"one": [claim("X-1")], "two": [claim("X-1")]})


def test_selection_keeps_order_and_ignores_case():
    table = {
        "one": Suite(claims=(claim("X-1"), claim("X-2"))),
        "two": Suite(claims=(claim("Y-1"),)),
    }
    assert [c.id for _, c in suites.select(table, ids=["y-1", "X-2"])] == ["X-2", "Y-1"]
    assert [c.id for _, c in suites.select(table, names=["two"])] == ["Y-1"]
    with pytest.raises(UsageError, match="out of X-1, X-2"):
        suites.select(table, names=["one"], ids=["Y-1"])
