"""`sensverify colouring` as a user meets it: any table of theirs, right or wrong, against brute force."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proofs import colouring_input
from proofs.colouring_command import examine, guaranteed
from proofs.colouring_input import MOST_POINTS
from proofs.colourings import paley, rows, three_classes
from proofs.exhaustive import threshold_search
from sensverify import cli
from sensverify.colouring import ColouringRequest
from sensverify.exhibits import Heatmap, from_json

Outcome = tuple[int, str, str]


def invoke(capsys: pytest.CaptureFixture[str], *arguments: object) -> Outcome:
    capsys.readouterr()
    code = cli.run(["colouring", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def assert_refused(outcome: Outcome, *fragments: str) -> None:
    code, out, err = outcome
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for fragment in ("expected", "got", "remedy", *fragments):
        assert fragment in err


def symmetric(seed: int, points: int, values: int) -> Any:
    upper = np.triu(np.random.default_rng(seed).integers(values, size=(points, points)))
    return upper + np.triu(upper, 1).T


def as_csv(table: Any) -> str:
    return "\n".join(",".join(map(str, row)) for row in table.tolist())


def as_blanks(table: Any) -> str:
    return "# a comment\n\n" + "\n".join("  ".join(map(str, row)) + " " for row in table.tolist()) + "\r\n"


def as_digits(table: Any) -> str:
    return "\n".join("".join(map(str, row)) for row in table.tolist())


def as_pairs(table: Any) -> str:
    pairs = itertools.combinations_with_replacement(range(len(table)), 2)
    return "\n".join(f"{b} {a} {table[a, b]}" for a, b in pairs)


def as_witness(table: Any) -> str:
    return json.dumps({"kind": "colouring", "F": rows(table)})


def as_json_lists(table: Any) -> str:
    return json.dumps(table.tolist())


def brute_force(table: Any) -> int:
    """The size of the largest set that misses one of the values that the table takes."""
    values, points = set(np.unique(table).tolist()), range(len(table))
    for size in range(len(table), 0, -1):
        for s in itertools.combinations(points, size):
            if {int(table[a, b]) for a in s for b in s} < values:
                return size
    return 0


@pytest.mark.parametrize("written", [as_csv, as_blanks, as_digits, as_pairs, as_witness, as_json_lists])
def test_every_way_to_write_a_table_gives_the_same_answer(
    written: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = symmetric(1, 9, 4)
    (tmp_path / "table").write_bytes(written(table).encode("utf-8-sig"))
    code, out, err = invoke(capsys, tmp_path / "table", "--json")
    answer = json.loads(out)
    assert (code, err) == (0, "")
    assert answer["schema"] == 1
    assert (answer["points"], answer["values"]) == (9, [0, 1, 2, 3])
    assert answer["largest"]["optimal"]
    assert answer["largest"]["size"] == brute_force(table)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), points=st.integers(1, 8), values=st.integers(1, 7))
def test_any_symmetric_table_is_answered_as_brute_force_does(
    seed: int, points: int, values: int, tmp_path: Path
) -> None:
    table = 10 * symmetric(seed, points, values) - 20
    (tmp_path / "table.csv").write_text(as_csv(table), encoding="utf-8")
    answer = examine(ColouringRequest(source=str(tmp_path / "table.csv"), k=3)).to_json()
    best = answer["largest"]
    assert best["optimal"]
    assert best["size"] == len(set(best["points"])) == brute_force(table)
    assert best["missed"] not in {int(table[a, b]) for a in best["points"] for b in best["points"]}
    assert answer["guaranteed"] <= best["size"]
    expected = "guaranteed" if answer["guaranteed"] >= 3 else "found" if best["size"] >= 3 else "impossible"
    assert answer["asked"] == {"k": 3, "answer": expected}
    if answer["finder"] is not None:
        taken = answer["finder"]["points"]
        assert answer["finder"]["missed"] not in {int(table[a, b]) for a in taken for b in taken}
        assert answer["finder"]["guaranteed"] <= len(taken) <= best["size"]
    json.dumps(answer, allow_nan=False)


@pytest.mark.parametrize(("points", "r"), [(3, 3), (15, 3), (8, 4), (5, 5), (3, 6)])
def test_nothing_is_guaranteed_that_some_table_lacks(points: int, r: int) -> None:
    k = guaranteed(points, r) + 1
    assert threshold_search(points, r, k).table is not None


def test_the_papers_graph_has_no_six_points(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = invoke(capsys, "--paley", 101, "--k", 6, "--out", tmp_path / "new")
    assert code == 0
    assert "303 points" in out
    assert "impossible" in out
    assert "optimal" in out
    record = json.loads((tmp_path / "new" / "colouring.json").read_text(encoding="utf-8"))
    assert (record["largest"]["size"], record["asked"]["answer"]) == (5, "impossible")


def test_the_page_shows_the_set_and_reaches_nothing_outside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert invoke(capsys, "--paley", 13, "--out", tmp_path)[0] == 0
    page = (tmp_path / "colouring.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "framed" in page
    assert not re.findall(r'(?:src|href)="(?!#)', page)
    assert "<script" not in page


def test_without_matplotlib_the_page_has_numbers_and_the_remedy(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['matplotlib'] = None; from sensverify.cli import run; "
        f"sys.exit(run(['colouring', '--paley', '13', '--out', {str(tmp_path)!r}]))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    page = (tmp_path / "colouring.html").read_text(encoding="utf-8")
    assert "<svg" not in page
    assert "pip install" in page


def test_the_picture_frames_a_block_without_the_missed_value() -> None:
    answer = examine(ColouringRequest(paley=37))
    picture = answer.exhibits[0]
    assert isinstance(picture, Heatmap)
    assert from_json(json.loads(json.dumps(picture.to_json()))).to_json() == picture.to_json()
    assert picture.outline is not None
    top, bottom, left, right = picture.outline
    assert bottom - top == right - left == answer.document["largest"]["size"]
    inside = {value for row in picture.values[top:bottom] for value in row[left:right]}
    assert picture.categories.index(f"F = {answer.document['largest']['missed']}") not in inside
    assert len(picture.values) < answer.document["points"]  # a sample, which the caption tells
    assert "evenly chosen" in picture.caption


def test_a_hostile_label_is_text_on_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "<img src=x onerror=alert(1)>.csv"
    path.write_text("0 1 2\n1 1 0\n2 0 2\n", encoding="utf-8")
    assert invoke(capsys, path, "--out", tmp_path / "out")[0] == 0
    assert "<img" not in (tmp_path / "out" / "colouring.html").read_text(encoding="utf-8")


def test_a_search_that_runs_out_of_time_says_what_is_known(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "table").write_text(as_digits(symmetric(0, 150, 3)), encoding="utf-8")
    code, out, _ = invoke(capsys, tmp_path / "table", "--time-limit", 0, "--json", "--k", 40)
    largest = json.loads(out)["largest"]
    assert code == 0
    assert not largest["optimal"]
    assert largest["size"] < 40 < largest["at_most"]
    assert json.loads(out)["asked"]["answer"] == "undecided"
    code, out, _ = invoke(capsys, tmp_path / "table", "--time-limit", 0)
    assert "at least" in out
    assert "stopped" in out


def test_many_values_are_soon_examined(tmp_path: Path) -> None:
    points = 120
    table = np.zeros((points, points), dtype=int)
    upper = np.triu_indices(points)
    table[upper] = np.arange(len(upper[0]))
    table = np.triu(table) + np.triu(table, 1).T
    (tmp_path / "table").write_text(as_csv(table), encoding="utf-8")
    answer = examine(ColouringRequest(source=str(tmp_path / "table"), seconds=20)).to_json()
    assert answer["value_count"] == points * (points + 1) // 2
    assert len(answer["values"]) == 1000
    assert answer["largest"]["optimal"]
    assert answer["largest"]["size"] == points - 1  # each value is on one pair only: leave out a point of one


@pytest.mark.parametrize(
    ("text", "words"),
    [("0\n", "with one value"), ("01\n10\n", "no number of points"), ("5 5\n5 5\n", "with one value")],
)
def test_one_or_two_values_get_an_answer_too(
    text: str, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "table").write_text(text, encoding="utf-8")
    code, out, _ = invoke(capsys, tmp_path / "table", "--k", 1)
    assert code == 0
    assert words in out


@pytest.mark.parametrize(
    ("text", "read_as", "points"),
    [
        ("0 0 1\n0 1 2\n1 1 0\n", "list of pairs", 2),
        ("0 1 2\n1 1 0\n2 0 2\n", "table", 3),
        ("7 7 3\n", "list of pairs", 1),
    ],
)
def test_lines_of_three_are_read_as_what_they_can_be(text: str, read_as: str, points: int, tmp_path: Path) -> None:
    (tmp_path / "table").write_text(text, encoding="utf-8")
    document = examine(ColouringRequest(source=str(tmp_path / "table"))).document
    assert (document["read_as"], document["points"]) == (read_as, points)


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("", ["at least one point", "none"]),
        ("# nothing\n\n", ["none"]),
        ("0 1\n2 0\n", ["F(0, 1) = 1 but F(1, 0) = 2"]),
        ("0 1 2 0\n1 0 0 0\n2 0 0 0\n", ["square", "4 in line 1"]),
        ("0 1\n1\n", ["square", "1 in line 2"]),
        ("a,b\n0,1\n", ["'a' on line 1", "header"]),
        ("0 0.5\n0.5 0\n", ["'0.5'"]),
        ("0 nan\nnan 0\n", ["'nan'"]),
        ("0,,1\n1,0,1\n0,1,0\n", ["''"]),
        ("01\n1x\n", ["'x'"]),
        ("0 1e3\n1e3 0\n", ["'1e3'"]),
        (f"0 {10**30}\n{10**30} 0\n", ["18 digits"]),
        ("1 1 0\n1 2 5\n2 2 0\n1 3 5\n", ["(2, 3)", "'2 3 value'"]),
        ("1 2 0\n1 3 0\n2 3 0\n1 1 0\n", ["(2, 2)"]),
        ("0 0 1\n0 1 1\n1 0 2\n1 1 0\n", ["2 on line 3 for (1, 0), which had 1"]),
        ("{}", ["without 'F'"]),
        ('{"F": 3}', ["3"]),
        ('{"F": ["01", "1"]}', ["1 in row 2"]),
        ('{"F": [[0, true], [true, 0]]}', ["True"]),
        ('{"F": [[0, 1.5], [1.5, 0]]}', ["1.5"]),
        ('{"F": [[0, null], [null, 0]]}', ["None"]),
        ("[]", ["at least one point"]),
        ("[[]]", ["0 in row 1"]),
        ("{broken", ["JSON"]),
        ("[" * 100_000, ["JSON"]),
        (f"[[{'9' * 5000}]]", ["JSON"]),
        ("\x00\x01", ["whole numbers"]),
    ],
    ids=lambda value: repr(value)[:24] if isinstance(value, str) else "",
)
def test_a_table_that_does_not_fit_is_refused_by_its_first_fault(
    text: str, fragments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "table").write_text(text, encoding="utf-8")
    assert_refused(invoke(capsys, tmp_path / "table"), *fragments)


MODULE = """
import sys
def good(x, y): print("not on stdout"); return (x ^ y) % 3
def skew(x, y): return x - y
def fails(x, y): return 1 // (x - y)
def leaves(x, y): sys.exit(0)
def halves(x, y): return 0.5
def empty(x, y): return None
def huge(x, y): return 10 ** 5000
def one(x): return 0
number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"module_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / f"{name}_broken.py").write_text("1/0", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return name


def test_a_function_of_the_current_folder_is_examined(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = list(sys.path)
    code, out, err = invoke(capsys, f"{module}:good", "--points", 20, "--json")
    assert code == 0
    assert json.loads(out)["points"] == 20
    assert "not on stdout" in err
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "options", "fragments"),
    [
        (":good", [], ["--points"]),
        (":good", ["--points", 0], ["at least one point"]),
        (":good", ["--points", -3], ["at least one point"]),
        (":good", ["--points", 10**7], [f"{MOST_POINTS:,} points", "memory", "10,000,000"]),
        (":skew", ["--points", 4], ["F(0, 1) = -1 but F(1, 0) = 1"]),
        (":fails", ["--points", 4], ["ZeroDivisionError at (0, 0)"]),
        (":leaves", ["--points", 4], ["SystemExit at (0, 0)"]),
        (":halves", ["--points", 4], ["0.5 at (0, 0)"]),
        (":empty", ["--points", 4], ["None at (0, 0)"]),
        (":huge", ["--points", 4], ["18 digits", "(0, 0)"]),
        (":one", ["--points", 4], ["TypeError at (0, 0)"]),
        (":number", ["--points", 4], ["'number'", "int"]),
        (":absent", ["--points", 4], ["'absent'", "no such name"]),
        ("_broken:f", ["--points", 4], ["ZeroDivisionError"]),
        ("_absent:f", ["--points", 4], ["ModuleNotFoundError"]),
    ],
)
def test_a_function_that_does_not_fit_is_refused_by_name(
    name: str, options: list[Any], fragments: list[str], module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(invoke(capsys, f"{module}{name}", *options), *fragments)


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ([], ["neither"]),
        (["table.csv", "--paley", 5], ["both"]),
        (["no-such-file.csv"], ["no file no-such-file.csv"]),
        (["."], ["directory"]),
        (["a\x00b"], ["null"]),
        (["--paley", 9], ["prime", "9"]),
        (["--paley", 7], ["prime", "7"]),
        (["--paley", -5], ["prime", "-5"]),
        (["--paley", 1009], ["memory", "3,027"]),
        (["--paley", "five"], ["--paley"]),
        (["--paley", 5, "--points", 4], ["--points"]),
        (["--paley", 5, "--k", 0], ["--k", "0"]),
        (["--paley", 5, "--k", -2], ["--k", "-2"]),
        (["--paley", 5, "--time-limit", -1], ["--time-limit"]),
        (["--paley", 5, "--time-limit", "nan"], ["--time-limit", "nan"]),
        (["--paley", 5, "--time-limit", "inf"], ["--time-limit", "inf"]),
    ],
    ids=str,
)
def test_a_request_that_makes_no_sense_is_refused(
    arguments: list[Any], fragments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(invoke(capsys, *arguments), *fragments)


def test_more_pairs_than_fit_into_memory_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colouring_input, "_MOST_PAIRS", 1000)
    (tmp_path / "pairs").write_text("1 1 0\n" * 1001, encoding="utf-8")
    assert_refused(invoke(capsys, tmp_path / "pairs"), "memory", "1,001", "square table")


def test_a_refused_request_leaves_no_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert_refused(invoke(capsys, "--paley", 9, "--out", tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_an_out_that_is_a_file_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("keep me")
    assert_refused(invoke(capsys, "--paley", 5, "--out", tmp_path / "file"), "--out")
    assert (tmp_path / "file").read_text() == "keep me"


def test_binary_input_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(b"\xff\xfe\x00\x81")
    assert_refused(invoke(capsys, tmp_path / "table"), "UTF-8")


def test_a_witness_of_the_proofs_is_examined_as_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "RA-3.json").write_text(json.dumps({"k": 4, "F": rows(three_classes(paley(17)))}), encoding="utf-8")
    code, out, _ = invoke(capsys, tmp_path / "RA-3.json", "--k", 4, "--json")
    assert code == 0
    assert json.loads(out)["asked"] == {"k": 4, "answer": "impossible"}  # 51 points, one fewer than N(4)


def test_fifty_two_points_guarantee_four(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = np.zeros((52, 52), dtype=int)
    table[:51, :51] = three_classes(paley(17))
    (tmp_path / "table").write_text(as_digits(table), encoding="utf-8")
    code, out, _ = invoke(capsys, tmp_path / "table", "--k", 4, "--json")
    assert code == 0
    assert json.loads(out)["asked"] == {"k": 4, "answer": "guaranteed"}
