"""Certificates of small numbers: the formulas against the definition, the lemmas, and files that were tampered with."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs import claims
from proofs.certificates import drup, folder, solve
from proofs.certificates.encoding import (
    Lemma,
    SharedDiagonal,
    SharedNeighbours,
    SortedNeighbours,
    changed_clause,
    dimacs,
    encode,
    layout_of,
    with_lemmas,
)
from proofs.certificates.problems import PROBLEMS, Problem, class_too_small, not_implied
from proofs.certificates.questions import Missing, Question, Ramsey, objection_to_model
from proofs.colourings import largest_set_missing
from proofs.small_numbers import SmallNumbers, check_small_numbers
from sensverify.claims import Run
from sensverify.errors import InputError, MissingExtraError
from sensverify.runner import run_claim
from sensverify.verdicts import Finding, Status

CLAIM = next(claim for claim in claims if claim.id == "RA-4")
WITH_REFUTATION = [problem for problem in PROBLEMS.values() if problem.refutation_files is not None]


def is_model(true: set[int], clauses: list[tuple[int, ...]]) -> bool:
    return all(any(literal in true if literal > 0 else -literal not in true for literal in c) for c in clauses)


@st.composite
def tables(draw: st.DrawFn, question: Question, most_points: int) -> list[str]:
    points = draw(st.integers(1, most_points))
    value = {}
    for a, b in itertools.combinations_with_replacement(range(points), 2):
        value[a, b] = value[b, a] = str(draw(st.integers(0, question.values - 1)))
        if a == b and not question.diagonal:
            value[a, a] = "."
    return ["".join(value[a, b] for b in range(points)) for a in range(points)]


def has_bad_set(question: Question, rows: list[str]) -> bool:
    """By searches that share nothing with the definition as it is coded: cliques."""
    n = len(rows)
    if isinstance(question, Missing):
        table = np.array([[int(digit) for digit in row] for row in rows])
        return any(len(largest_set_missing(table, value)) >= question.k for value in range(3))
    for value, size in enumerate(question.sizes):
        graph = networkx.empty_graph(n)
        graph.add_edges_from((i, j) for i in range(n) for j in range(i) if rows[i][j] == str(value))
        if max(map(len, networkx.find_cliques(graph))) >= size:
            return True
    return False


QUESTIONS = [Ramsey(sizes=(3, 3)), Ramsey(sizes=(3, 4)), Ramsey(sizes=(3, 3, 3)), Missing(k=2), Missing(k=3)]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.name)
def test_the_formula_says_what_the_definition_says(question: Question) -> None:
    @settings(max_examples=60, deadline=None)
    @given(rows=tables(question, 6))
    def agree(rows: list[str]) -> None:
        bad = question.bad_set(rows) is not None
        layout = layout_of(question, len(rows))
        true = {layout.literal(a, b, int(rows[a][b])) for a, b in layout.cells}
        assert bad is has_bad_set(question, rows)
        assert is_model({literal for literal in true if literal > 0}, encode(question, len(rows))) is not bad
        assert layout.rows(true) == rows

    agree()


@pytest.mark.parametrize("question", [*QUESTIONS, Ramsey(sizes=(4, 4))], ids=lambda q: q.name)
@pytest.mark.parametrize("points", [2, 5, 9])
def test_each_value_of_each_pair_has_a_literal_of_its_own(question: Question, points: int) -> None:
    layout = layout_of(question, points)
    literals = [layout.literal(a, b, value) for a, b in layout.cells for value in range(layout.values)]
    assert len(set(literals)) == len(literals)
    assert {abs(literal) for literal in literals} == set(range(1, layout.variables + 1))
    assert layout.literal(0, 1, 1) == layout.literal(1, 0, 1)


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=lambda p: p.name)
def test_the_known_colourings_are_what_they_are_known_for(problem: Problem) -> None:
    rows = problem.known()
    assert objection_to_model(problem.question, problem.value - 1, rows) is None
    assert not has_bad_set(problem.question, rows)


@pytest.mark.parametrize(
    "rows",
    [
        None,
        [],
        [".01", "0.0", "10"],
        [".01", "0.0", "100"],
        [".01", "0.0", "10x"],
        [".02", "0.0", "20."],
        [".01", "0.0", "11."],
        [".00", "0.0", "00."],
        [".01", "0.0", 7],
        [".01", "0.0", "10.", "111."],
    ],
)
def test_what_is_no_colouring_is_objected_to(rows: object) -> None:
    assert objection_to_model(Ramsey(sizes=(3, 3)), 3, [".01", "0.0", "10."]) is None
    assert objection_to_model(Ramsey(sizes=(3, 3)), 3, rows)


# --- Without loss of generality -------------------------------------------------------------------------


@pytest.mark.parametrize("problem", WITH_REFUTATION, ids=lambda p: p.name)
@pytest.mark.parametrize("fewer", [0, 1, 2])
def test_the_lemmas_lose_no_colouring(problem: Problem, fewer: int) -> None:
    """At the number there is none with or without them; on fewer points there is one with them."""
    pytest.importorskip("pysat")
    points = problem.value - fewer
    lemmas = problem.lemmas
    if fewer and problem.name == "R(4,4)":  # one neighbour fewer to be sorted
        lemmas = (SharedNeighbours(), SortedNeighbours(pivot=1, first=2, last=-(-(points - 1) // 2)))
    if fewer and problem.name == "R(3,4)":
        lemmas = (SortedNeighbours(pivot=0, first=1, last=points - 1),)
    for position, lemma in enumerate(lemmas):
        before = with_lemmas(problem.question, points, lemmas[:position])
        assert lemma.objection(problem.question, points, before) is None
    answer = solve.solve(with_lemmas(problem.question, points, lemmas))
    assert (answer.model is None) is (fewer == 0)
    if answer.model is not None:
        rows = layout_of(problem.question, points).rows(answer.model)
        assert objection_to_model(problem.question, points, rows) is None


@pytest.mark.parametrize(
    ("question", "points", "lemmas"),
    [
        (Ramsey(sizes=(3, 4)), 9, (SharedNeighbours(),)),
        (Ramsey(sizes=(2, 4)), 3, (SharedNeighbours(),)),
        (Ramsey(sizes=(4, 4)), 18, (SharedNeighbours(more=1),)),
        (Ramsey(sizes=(3, 3, 3)), 17, (SharedNeighbours(more=1),)),
        (Ramsey(sizes=(3, 3)), 6, (SharedNeighbours(), SharedNeighbours())),
        (Missing(k=3), 16, (SharedDiagonal(more=1),)),
        (Missing(k=2), 3, (SharedDiagonal(), SharedDiagonal())),
        (Ramsey(sizes=(3, 3)), 6, (SortedNeighbours(pivot=1, first=0, last=3),)),
        (Ramsey(sizes=(3, 3)), 6, (SortedNeighbours(pivot=0, first=1, last=6),)),
        (Ramsey(sizes=(3, 3)), 6, (SharedNeighbours(), SortedNeighbours(pivot=1, first=2, last=4))),
        (Ramsey(sizes=(3, 3)), 6, (SharedNeighbours(), SortedNeighbours(pivot=4, first=2, last=5))),
    ],
)
def test_a_wrong_lemma_is_caught(question: Question, points: int, lemmas: tuple[Lemma, ...]) -> None:
    before = with_lemmas(question, points, lemmas[:-1])
    assert lemmas[-1].objection(question, points, before)


def test_the_swap_of_colours_would_prove_something_false() -> None:
    """R(2,4) = 4; with the swap, 3 points would do. Three points in the second colour are the model that it loses."""
    question, lemma = Ramsey(sizes=(2, 4)), SharedNeighbours()
    layout = layout_of(question, 3)
    formula = drup.Formula(variables=layout.variables, clauses=with_lemmas(question, 3, (lemma,)))
    assert drup.check(formula, [drup.Line(clause=())]).stands
    assert question.bad_set([".11", "1.1", "11."]) is None


def test_a_renumbering_is_compared_clause_by_clause() -> None:
    question = Ramsey(sizes=(3, 3))
    layout, clauses = layout_of(question, 5), encode(question, 5)
    for order in itertools.permutations(range(5)):
        assert changed_clause(layout, clauses, dict(enumerate(order)), {0: 1, 1: 0}) is None
        lost = changed_clause(layout, clauses[1:], dict(enumerate(order)), {})
        assert (lost is None) is ({order[0], order[1], order[2]} == {0, 1, 2})


def test_a_diagonal_class_turns_one_question_into_the_other() -> None:
    assert [not_implied(k) for k in (2, 3, 4)] == [None] * 3
    assert class_too_small(52, 18) is None
    sizes = class_too_small(51, 18)
    assert sizes is not None
    assert sum(sizes["class_sizes"]) == 51


# --- The claim and its files ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finding]:
    pytest.importorskip("pysat")
    directory = tmp_path_factory.mktemp("made")
    return directory, check_small_numbers(Run(seed=0, directory=directory))


@pytest.fixture
def copied(made: tuple[Path, Finding], tmp_path: Path) -> Path:
    """A run's folder with certificates to tamper with."""
    shutil.copytree(made[0] / "certificates", tmp_path / "certificates")
    return tmp_path


def refresh_index(directory: Path) -> None:
    """What a forger does who knows of the index."""
    path = directory / "certificates" / "index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    for name in index["files"]:
        data = (path.parent / name).read_bytes()
        index["files"][name]["sha256"] = hashlib.sha256(data).hexdigest()
    path.write_text(json.dumps(index), encoding="utf-8")


def without_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pysat", "pysat.solvers"):
        monkeypatch.setitem(sys.modules, name, None)


def test_all_seven_numbers_are_proved(made: tuple[Path, Finding]) -> None:
    finding = made[1]
    assert finding.status is Status.PROVED
    numbers = finding.evidence["numbers"]
    published = {"R(3,3)": 6, "R(3,4)": 9, "R(4,4)": 18, "R(3,3,3)": 17, "N(2)": 4, "N(3)": 16, "N(4)": 52}
    assert {name: about["refuted_at_points"] for name, about in numbers.items()} == published
    assert {name: about["colouring_of_points"] + 1 for name, about in numbers.items()} == published
    assert {exhibit.kind for exhibit in finding.exhibits} == {"derivation", "table"}


def test_nothing_is_left_but_what_the_index_lists(made: tuple[Path, Finding]) -> None:
    assert [path.name for path in made[0].iterdir()] == ["certificates"]
    index = json.loads((made[0] / "certificates" / "index.json").read_text(encoding="utf-8"))
    names = sorted(path.name for path in (made[0] / "certificates").iterdir())
    assert names == sorted([*index["files"], "index.json"])
    assert index["solver"] == {"name": "cadical153", "package": "python-sat", "version": solve.solver_version()}


def test_anyone_can_check_the_proofs_alone(made: tuple[Path, Finding], tmp_path: Path) -> None:
    shutil.copy(drup.__file__, tmp_path / "drup.py")
    for problem in WITH_REFUTATION:
        files = [str(made[0] / "certificates" / name) for name in problem.refutation_files or ()]
        done = subprocess.run(
            [sys.executable, "-I", str(tmp_path / "drup.py"), *files], capture_output=True, check=False
        )
        assert done.returncode == 0, done


def test_found_certificates_are_checked_without_a_solver(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_solver(monkeypatch)
    before = {path: path.read_bytes() for path in (copied / "certificates").iterdir()}
    finding = check_small_numbers(Run(seed=0, directory=copied))
    assert finding.status is Status.PROVED
    assert "found" in finding.evidence["certificates"]
    assert {path: path.read_bytes() for path in (copied / "certificates").iterdir()} == before


def test_without_solver_and_certificates_the_claim_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_solver(monkeypatch)
    with pytest.raises(MissingExtraError):
        check_small_numbers(Run(seed=0, directory=tmp_path))
    verdict = run_claim(CLAIM, "proofs", Run(seed=0, directory=tmp_path))
    assert verdict.status is Status.SKIPPED
    assert verdict.finding.evidence["remedy"] == "pip install 'sensverify[sat]'"
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_leaves_no_half_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pysat")

    def interrupt(label: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_small_numbers(Run(seed=0, directory=tmp_path, progress=interrupt))
    assert not list(tmp_path.iterdir())


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Restrict the certificates to some numbers, to be quick."""
    monkeypatch.setattr(folder, "PROBLEMS", {name: PROBLEMS[name] for name in names})


def silence(label: str, done: int, total: int) -> None:
    """No progress."""


def test_an_empty_folder_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pysat")
    only(monkeypatch, "R(3,3)")
    (tmp_path / "certificates").mkdir()
    found = folder.certificates(tmp_path / "certificates", silence)
    assert (found.refuted, found.objections, found.made_now) == ({"R(3,3)": 6}, [], True)


def test_comments_and_order_do_not_matter(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "R(3,4)")
    path = copied / "certificates" / "R_3_4_at_9.cnf"
    header, *clauses = [line for line in path.read_text(encoding="ascii").splitlines() if not line.startswith("c")]
    turned = [" ".join([*reversed(clause.split()[:-1]), "0"]) for clause in reversed(clauses)]
    path.write_text("\n".join([header, "c nothing to see", *turned]), encoding="ascii")
    refresh_index(copied)
    assert folder.certificates(copied / "certificates", silence).refuted == {"R(3,4)": 9}


def edit(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def tamper(certificates: Path) -> None:
        path = certificates / name
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")

    return tamper


def other(name: str, source: str) -> Callable[[Path], None]:
    return lambda certificates: (certificates / name).write_bytes((certificates / source).read_bytes())  # type: ignore[return-value]


def with_a_unit(text: str) -> str:
    """One clause more, and an easier proof."""
    header = next(line for line in text.splitlines() if line.startswith("p"))
    words = header.split()
    return text.replace(header, f"p cnf {words[2]} {int(words[3]) + 1}") + "-1 0\n"


def with_another_clause(text: str) -> str:
    return text.replace("\n-1 -2 -9 0\n", "\n-1 -2 0\n", 1)


def of_fewer_points(text: str) -> str:
    model = json.loads(text)
    model["F"] = [row[:-1] for row in model["F"][:-1]]
    return json.dumps(model)


def with_a_bad_set(text: str) -> str:
    model = json.loads(text)
    n = len(model["F"])
    model["F"] = ["".join("." if i == j else "0" for j in range(n)) for i in range(n)]
    return json.dumps(model)


TAMPERINGS = {
    "a truncated proof": ("R_4_4_at_18.drup", edit("R_4_4_at_18.drup", lambda text: text[: len(text) // 2])),
    "a proof without its end": ("R_3_4_at_9.drup", edit("R_3_4_at_9.drup", lambda text: text.removesuffix("0\n"))),
    "an empty proof": ("N_3_at_16.drup", edit("N_3_at_16.drup", lambda text: "")),
    "a claim in place of a proof": ("R_4_4_at_18.drup", edit("R_4_4_at_18.drup", lambda text: "0\n")),
    "the proof of another formula": ("R_3_3_3_at_17.drup", other("R_3_3_3_at_17.drup", "N_3_at_16.drup")),
    "another formula and its proof": ("R_4_4_at_18.cnf", lambda c: [
        other("R_4_4_at_18.cnf", "R_3_4_at_9.cnf")(c), other("R_4_4_at_18.drup", "R_3_4_at_9.drup")(c)]),
    "a formula with a clause more": ("R_3_4_at_9.cnf", edit("R_3_4_at_9.cnf", with_a_unit)),
    "a formula with another clause": ("R_3_4_at_9.cnf", edit("R_3_4_at_9.cnf", with_another_clause)),
    "a formula of garbage": ("N_2_at_4.cnf", edit("N_2_at_4.cnf", lambda text: "garbage")),
    "a proof of garbage": ("N_2_at_4.drup", lambda c: (c / "N_2_at_4.drup").write_bytes(bytes(range(256)))),
    "a colouring of fewer points": ("R_4_4_at_17.model.json", edit("R_4_4_at_17.model.json", of_fewer_points)),
    "a colouring with a bad set": ("R_3_3_at_5.model.json", edit("R_3_3_at_5.model.json", with_a_bad_set)),
    "another colouring": ("R_3_3_3_at_16.model.json", other("R_3_3_3_at_16.model.json", "N_3_at_15.model.json")),
    "a colouring that is no JSON": ("N_4_at_51.model.json", edit("N_4_at_51.model.json", lambda text: text[:-9])),
    "a colouring of another number": (
        "R_3_3_at_5.model.json", edit("R_3_3_at_5.model.json", lambda text: text.replace("R(3,3)", "R(9,9)"))),
    "a colouring that counts its points wrong": (
        "R_3_3_at_5.model.json", edit("R_3_3_at_5.model.json", lambda text: text.replace(": 5,", ": 5.0,"))),
    "a colouring that says it is something else": (
        "R_3_3_at_5.model.json", edit("R_3_3_at_5.model.json", lambda text: text.replace("without", "with"))),
    "a colouring that is a list": ("N_4_at_51.model.json", edit("N_4_at_51.model.json", lambda text: "[1]")),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERINGS)
@pytest.mark.parametrize("index", ["index as it was", "index made to fit"])
def test_a_tampered_certificate_proves_nothing(
    name: str, index: str, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, tamper = TAMPERINGS[name]
    stem = file.partition("_at_")[0]
    number = next(problem for problem in PROBLEMS.values() if problem.stem == stem)
    only(monkeypatch, number.name)
    tamper(copied / "certificates")
    if index == "index made to fit":
        refresh_index(copied)
    run = Run(seed=0, directory=copied)
    found = run.shared("proofs: certificates", lambda: folder.certificates(copied / "certificates", silence))
    assert len(found.objections) == 1
    assert file in found.objections[0]["file"]
    assert found.objections[0]["reason"]
    finding = check_small_numbers(run, SmallNumbers(numbers={number.name: number.value}))
    assert finding.status is Status.INCONCLUSIVE
    assert finding.evidence["remedy"] == "delete the folder to make new ones"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        "[]",
        "{}",
        '{"schema": true}',
        '{"schema": 1, "files": 3, "numbers": [], "solver": null}',
        "[" * 100_000,
    ],
)
def test_a_damaged_index_proves_nothing(text: str | None, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "R(3,3)")
    path = copied / "certificates" / "index.json"
    path.unlink() if text is None else path.write_text(text, encoding="utf-8")
    found = folder.certificates(copied / "certificates", silence)
    assert found.objections
    assert not found.models
    assert not found.refuted


@pytest.mark.parametrize(
    "tamper",
    [
        lambda c: (c / "R_4_4_at_18.drup").unlink(),
        lambda c: ((c / "R_4_4_at_18.drup").unlink(), (c / "R_4_4_at_18.drup").mkdir()),
        lambda c: (shutil.rmtree(c), c.write_text("a file", encoding="utf-8")),
    ],
    ids=["a missing file", "a folder for a file", "a file for the folder"],
)
def test_the_whole_claim_is_inconclusive_and_nothing_is_made_again(
    tamper: Callable[[Path], None], copied: Path
) -> None:
    """Through the runner, twins included: they need no certificates, so a damaged folder is no ERROR."""
    tamper(copied / "certificates")
    before = sorted(copied.rglob("*"))
    verdict = run_claim(CLAIM, "proofs", Run(seed=0, directory=copied))
    assert verdict.status is Status.INCONCLUSIVE, verdict.finding.evidence
    assert verdict.finding.evidence["objections"]
    assert sorted(copied.rglob("*")) == before


@pytest.mark.parametrize("schema", [2, True, 1.0, "1", None])
def test_an_index_of_another_schema_proves_nothing(schema: object, copied: Path) -> None:
    """All files are as they were, and fit the index."""
    path = copied / "certificates" / "index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**index, "schema": schema}), encoding="utf-8")
    verdict = run_claim(CLAIM, "proofs", Run(seed=0, directory=copied))
    assert verdict.status is Status.INCONCLUSIVE, verdict.finding.evidence
    assert verdict.finding.evidence["objections"][0]["file"] == "index.json"


def test_an_objection_to_another_number_leaves_it_open_too(copied: Path) -> None:
    (copied / "certificates" / "N_3_at_16.drup").unlink()
    finding = check_small_numbers(Run(seed=0, directory=copied), SmallNumbers(numbers={"R(3,3)": 6}))
    assert finding.status is Status.INCONCLUSIVE
    assert finding.evidence["objections"]


def test_what_an_index_says_does_not_replace_what_was_checked(copied: Path) -> None:
    path = copied / "certificates" / "index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    lies = {"value": 99, "colouring_of_points": 98, "refuted_at_points": 99, "lemmas": "none", "clauses": 1}
    for about in index["numbers"].values():
        about.update({**lies, "proof_lemmas": 0, "proof_bytes": 10**11, "seconds_checking": 0.5, "motto": "trust me"})
    path.write_text(json.dumps(index), encoding="utf-8")
    finding = check_small_numbers(Run(seed=0, directory=copied))
    assert finding.status is Status.PROVED
    for name, about in finding.evidence["numbers"].items():
        problem = PROBLEMS[name]
        assert (about["value"], about["colouring_of_points"]) == (problem.value, problem.value - 1)
        assert about["refuted_at_points"] == problem.value
        assert isinstance(about["lemmas"], list)
        assert "motto" not in about
        if problem.refutation_files is None:
            assert "clauses" not in about
        else:
            assert about["clauses"] > 10
            assert about["proof_bytes"] == (copied / "certificates" / problem.refutation_files[1]).stat().st_size


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["index.json", "R_4_4_at_18.drup", "R_3_3_at_5.model.json"])
def test_a_pipe_in_place_of_a_file_is_refused_without_waiting(name: str, copied: Path) -> None:
    path = copied / "certificates" / name
    path.unlink()
    os.mkfifo(path)
    found = folder.certificates(copied / "certificates", silence)
    assert any("no regular file" in objection["reason"] for objection in found.objections)


def test_a_file_without_end_is_not_read_to_its_end(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MOST_BYTES", 1000)
    only(monkeypatch, "R(4,4)")
    found = folder.certificates(copied / "certificates", silence)
    assert not found.refuted
    assert any("more than the 1,000 bytes" in objection["reason"] for objection in found.objections)


@pytest.mark.parametrize("leads", ["nowhere", "to a folder", "to a file"])
def test_a_link_in_place_of_the_folder_is_the_users_to_mend(leads: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    if leads == "to a folder":
        target.mkdir()
    elif leads == "to a file":
        target.write_text("", encoding="utf-8")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "certificates").symlink_to(target)
    with pytest.raises(InputError) as caught:
        run_claim(CLAIM, "proofs", Run(seed=0, directory=tmp_path / "run"))
    assert caught.value.got == "a link"
    assert "remove the link" in caught.value.remedy
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["certificates"]
    assert not target.is_dir() or not list(target.iterdir())


def test_four_of_51_points_rest_on_the_lemmas_of_another_number(made: tuple[Path, Finding]) -> None:
    finding = check_small_numbers(Run(seed=0, directory=made[0]), SmallNumbers(numbers={"N(4)": 52}))
    assert finding.status is Status.PROVED
    texts = [line.text for line in finding.exhibits[0].lines]  # type: ignore[attr-defined]
    for lemma in PROBLEMS["R(4,4)"].lemmas:
        assert lemma.text(PROBLEMS["R(4,4)"].question, 18) in texts
    about = finding.evidence["numbers"]["N(4)"]
    assert (about["follows_from"], about["formula"]) == ("R(4,4)", "R_4_4_at_18.cnf")
    assert len(about["lemmas"]) == 2


def test_a_wrong_lemma_of_the_other_number_is_caught(
    made: tuple[Path, Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = dataclasses.replace(PROBLEMS["R(4,4)"], lemmas=(SharedNeighbours(more=1),))
    run = Run(seed=0, directory=made[0])
    run.shared("proofs: certificates", lambda: folder.certificates(made[0] / "certificates", silence))
    monkeypatch.setitem(PROBLEMS, "R(4,4)", wrong)  # type: ignore[arg-type]
    assert check_small_numbers(run, SmallNumbers(numbers={"N(4)": 52})).status is Status.REFUTED


def test_the_witness_against_a_larger_number_is_the_formula_that_was_refuted(made: tuple[Path, Finding]) -> None:
    finding = check_small_numbers(Run(seed=0, directory=made[0]), SmallNumbers(numbers={"N(4)": 53}))
    assert finding.status is Status.REFUTED
    witness = finding.witness
    assert witness is not None
    assert len(json.dumps(witness)) < 500_000
    assert witness["formula"] == dimacs(Ramsey(sizes=(4, 4)), 18, PROBLEMS["R(4,4)"].lemmas).splitlines()
    assert "3·17 < 52" in witness["derivation"]


def test_a_refutation_counts_for_its_own_lemmas_only(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lemmas that are right, but not those of the formula that was refuted."""
    only(monkeypatch, "R(3,3)")
    lemmas = {"R(3,3)": (SortedNeighbours(pivot=0, first=1, last=5),)}
    statement = SmallNumbers(numbers={"R(3,3)": 6}, lemmas=lemmas)
    assert check_small_numbers(Run(seed=0, directory=copied), statement).status is Status.INCONCLUSIVE


@pytest.mark.parametrize("problem", WITH_REFUTATION, ids=lambda p: p.name)
def test_the_file_of_a_formula_is_read_back_as_the_formula(problem: Problem) -> None:
    text = dimacs(problem.question, problem.value, problem.lemmas)
    read = drup.parse_formula(text.encode())
    assert read.variables == layout_of(problem.question, problem.value).variables
    assert list(read.clauses) == with_lemmas(problem.question, problem.value, problem.lemmas)
