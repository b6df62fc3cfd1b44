"""The checker of refutations, against brute force, a slow checker of its own kind, and proofs made to mislead it."""

from __future__ import annotations

import ast
import itertools
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.certificates import drup
from proofs.certificates.drup import Formula, Line, Malformed, check, parse_formula, parse_proof

Clause = tuple[int, ...]
SQUARE = "p cnf 2 4\n1 2 0\n-1 2 0\n1 -2 0\n-1 -2 0\n"
SQUARE_PROOF = "2 0\n0\n"


def outcome(formula: str, proof: str) -> drup.Outcome:
    read = parse_formula(formula.encode())
    return check(read, parse_proof(proof.encode(), read.variables))


def has_a_model(formula: Formula) -> bool:
    for signs in itertools.product((1, -1), repeat=formula.variables):
        true = {sign * variable for variable, sign in enumerate(signs, start=1)}
        if all(true & set(clause) for clause in formula.clauses):
            return True
    return False


def slowly(formula: Formula, proof: Sequence[Line]) -> bool:
    """Whether the proof stands, with every deletion honoured."""
    present = [frozenset(clause) for clause in formula.clauses]
    for line in proof:
        clause = frozenset(line.clause)
        if line.deletes:
            if clause in present:
                present.remove(clause)
            continue
        if not follows(clause, present):
            return False
        if not clause:
            return True
        present.append(clause)
    return False


def follows(clause: Iterable[int], present: Sequence[frozenset[int]]) -> bool:
    """Reverse unit propagation from its definition: propagate until nothing changes, in a list of sets."""
    true = {-literal for literal in clause}
    if any(-literal in true for literal in true):
        return True
    changed = True
    while changed:
        changed = False
        for premise in present:
            if premise & true:
                continue
            open_literals = [literal for literal in premise if -literal not in true]
            if not open_literals:
                return True
            if len(open_literals) == 1:
                true.add(open_literals[0])
                changed = True
    return False


def long_proof(generator: random.Random) -> tuple[Formula, list[Line]]:
    """A random formula of 8 to 12 variables and many clauses that follow one after another, with no empty one yet."""
    variables = generator.randint(8, 12)

    def clause(size: int) -> Clause:
        return tuple(v * generator.choice((1, -1)) for v in generator.sample(range(1, variables + 1), size))

    clauses = [clause(3) for _ in range(int(4.6 * variables))] + [clause(2) for _ in range(generator.randint(0, 4))]
    present, proof = [frozenset(c) for c in clauses], []
    for size in (4, 3, 2, 1, 3, 2, 1, 3, 2):
        for _ in range(15):
            lemma = clause(size)
            if frozenset(lemma) not in present and follows(lemma, present):
                present.append(frozenset(lemma))
                proof.append(Line(clause=lemma))
    return Formula(variables=variables, clauses=clauses), proof


def tree_proof(variables: int) -> list[Line]:
    """Exclude every assignment, then every partial one, down to the empty: a proof for each formula without model."""
    lines = []
    for depth in range(variables, -1, -1):
        for signs in itertools.product((1, -1), repeat=depth):
            lines.append(Line(clause=tuple(sign * v for v, sign in enumerate(signs, start=1))))
    return lines


@st.composite
def formulas(draw: st.DrawFn, most_variables: int = 4) -> Formula:
    variables = draw(st.integers(1, most_variables))
    literals = st.integers(-variables, variables).filter(bool)
    clauses = draw(st.lists(st.lists(literals, min_size=1, max_size=3).map(tuple), max_size=18))
    return Formula(variables=variables, clauses=clauses)


@st.composite
def formulas_with_proofs(draw: st.DrawFn, deletions: bool = True) -> tuple[Formula, list[Line]]:
    formula = draw(formulas())
    literals = st.integers(-formula.variables, formula.variables).filter(bool)
    clause = st.lists(literals, max_size=3).map(tuple)
    added = st.builds(Line, clause=clause)
    choices = [added, st.just(Line(clause=()))]
    if deletions:
        choices.append(st.builds(Line, clause=st.sampled_from(formula.clauses or [()]) | clause, deletes=st.just(True)))
    return formula, draw(st.lists(st.one_of(choices), max_size=12))


# --- Soundness and completeness -------------------------------------------------------------------------


@settings(max_examples=250, deadline=None)
@given(case=formulas_with_proofs())
def test_no_proof_whatever_passes_for_a_formula_with_a_model(case: tuple[Formula, list[Line]]) -> None:
    formula, proof = case
    if check(formula, proof).stands:
        assert not has_a_model(formula)


@settings(max_examples=150, deadline=None)
@given(formula=formulas())
def test_the_proof_by_all_cases_passes_exactly_where_there_is_no_model(formula: Formula) -> None:
    assert check(formula, tree_proof(formula.variables)).stands is not has_a_model(formula)


@settings(max_examples=150, deadline=None)
@given(case=formulas_with_proofs(deletions=False))
def test_it_agrees_with_a_checker_that_does_it_slowly(case: tuple[Formula, list[Line]]) -> None:
    formula, proof = case
    assert check(formula, proof).stands is slowly(formula, proof)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_it_agrees_clause_by_clause_on_long_proofs(seed: int) -> None:
    generator = random.Random(seed)
    formula, proof = long_proof(generator)
    present = [frozenset(clause) for clause in (*formula.clauses, *(line.clause for line in proof))]
    assert check(formula, proof).reason == "the proof ends without the empty clause"
    for _ in range(20):
        size = generator.choice((0, 1, 1, 2, 3))
        last = tuple(v * generator.choice((1, -1)) for v in generator.sample(range(1, formula.variables + 1), size))
        found = check(formula, [*proof, Line(clause=last), Line(clause=())])
        if not follows(last, present):
            assert (found.stands, found.lemmas) == (False, len(proof) + 1)
        else:
            assert found.stands is follows((), [*present, frozenset(last)])
        if found.stands:
            lines = [*proof, Line(clause=last), Line(clause=())]
            assert slowly(formula, [lines[number] for number in found.needed])


@settings(max_examples=150, deadline=None)
@given(case=formulas_with_proofs())
def test_what_stands_with_every_deletion_honoured_stands(case: tuple[Formula, list[Line]]) -> None:
    formula, proof = case
    assert check(formula, proof).stands or not slowly(formula, proof)


@settings(max_examples=100, deadline=None)
@given(formula=formulas(), data=st.data())
def test_what_was_needed_is_a_proof_by_itself(formula: Formula, data: st.DataObject) -> None:
    proof = tree_proof(formula.variables)
    for _ in range(data.draw(st.integers(0, 3))):
        gone = data.draw(st.sampled_from(proof[:-1] or proof))
        proof.insert(data.draw(st.integers(0, len(proof))), Line(clause=gone.clause, deletes=True))
    first = check(formula, proof)
    if first.stands:
        kept = [proof[number] for number in first.needed]
        assert slowly(formula, kept)
        assert check(formula, kept).stands


@settings(max_examples=60, deadline=None)
@given(formula=formulas(most_variables=7))
def test_the_proofs_of_a_solver_pass(formula: Formula) -> None:
    solvers = pytest.importorskip("pysat.solvers")
    with solvers.Solver(name="cadical153", bootstrap_with=formula.clauses, with_proof=True) as solver:
        if solver.solve():
            assert has_a_model(formula)
        else:
            text = "\n".join(solver.get_proof())
            assert check(formula, parse_proof(text.encode(), formula.variables)).stands


# --- Right and wrong proofs made by hand ----------------------------------------------------------------


@pytest.mark.parametrize(
    "proof",
    [
        "2 0\n0\n",
        "2 0 0",
        "c a comment\n2 0\nc\n0\n",
        "2 2 2 0\n0\n",
        "1 -1 0\n2 0\n0\n",
        "1 -1 0\nd -1 1 0\n2 0\n0\n",
        "1 2 0\n1 2 0\nd 2 1 0\nd 1 2 2 0\n2 0\n0\n",
        "d 1 0\n2 0\n0\n",
        "2 0\nd 1 2 0\nd -1 2 0\n0\n",
        "2 0\n0\n1 0\n-1 0\nd 1 0\n",
        "2\n0 0",
        "\r\n2 0\r\n0\r\n",
    ],
)
def test_strange_but_valid_proofs_stand(proof: str) -> None:
    assert outcome(SQUARE, proof).stands


@pytest.mark.parametrize(
    ("proof", "reason"),
    [
        ("", "without the empty clause"),
        ("2 0\n", "without the empty clause"),
        ("0\n", "number 1 (the empty one) does not follow"),
        ("d 1 2 0\n2 0\n0\n", "number 1 (2) does not follow"),
        ("d 1 2 0 1 2 2 0 0", "number 1 (1 2 2) does not follow"),
        ("2 0\nd 2 0\nd 1 -2 0\nd -1 -2 0\nd 2 0\n", "without the empty clause"),
        ("1 -1 0\n0\n", "number 2 (the empty one) does not follow"),
        ("d 1 2 0\nd -1 2 0\n-2 0\nd 1 2 0\n0\n", "number 2 (the empty one) does not follow"),
    ],
)
def test_wrong_proofs_are_rejected_with_the_reason(proof: str, reason: str) -> None:
    found = outcome(SQUARE, proof)
    assert not found.stands
    assert reason in found.reason


def test_a_proof_of_another_formula_is_rejected() -> None:
    assert not outcome(SQUARE.replace("-1 -2", "-1 2"), SQUARE_PROOF).stands


def test_a_formula_that_contradicts_itself_still_needs_its_proof() -> None:
    formula = "p cnf 1 2\n1 0\n-1 0\n"
    assert not outcome(formula, "").stands
    assert outcome(formula, "0\n").stands
    assert outcome("p cnf 1 1\n0\n", "0\n").stands


def test_one_of_two_copies_survives_a_deletion() -> None:
    doubled = SQUARE.replace("2 4\n1 2 0\n", "2 5\n1 2 0\n2 1 0\n")
    assert outcome(doubled, "d 1 2 0\n2 0\n0\n").stands
    assert not outcome(doubled, "d 1 2 0\nd 1 2 0\n2 0\n0\n").stands


def test_what_is_needed_goes_through_the_first_clause() -> None:
    found = outcome("p cnf 4 5\n-1 2 0\n1 3 0\n1 -3 0\n-2 4 0\n-2 -4 0\n", "-2 3 0\n1 0\n0\n")
    assert found.stands
    assert found.needed == [1, 2]


def test_deletions_without_effect_are_counted() -> None:
    assert outcome(SQUARE, "d 1 0\nd 2 0\n2 0\nd 2 0\n0\n").ignored == 3
    assert outcome(SQUARE, "2 0\nd 1 2 0\n0\n").ignored == 0


def test_a_unit_that_is_deleted_goes_on_to_hold() -> None:
    chain = "p cnf 3 4\n1 0\n-1 2 3 0\n-1 2 -3 0\n-1 -2 0\n"
    found = outcome(chain, "d 1 0\n0\n")
    assert found.stands
    assert found.ignored == 1


# --- Large proofs take a time in proportion -------------------------------------------------------------


def test_a_clause_of_many_literals_is_read_once() -> None:
    size = 50_000
    formula = Formula(variables=size, clauses=[tuple(range(1, size + 1)), (1,), (-1,)])
    wide = tuple(range(size, 0, -1))
    start = time.perf_counter()
    assert check(formula, [Line(clause=wide), Line(clause=(*wide, -7)), Line(clause=())]).stands
    assert time.perf_counter() - start < 5


def test_many_deletions_of_clauses_that_share_a_literal_are_no_search_each() -> None:
    size = 20_000
    pairs = [(1, v) for v in range(2, size)]
    copies = [(1, 2, 3)] * size
    formula = Formula(variables=size, clauses=[*pairs, *copies, (-1, -2), (-1, 2), (1, -2)])
    gone = [Line(clause=c, deletes=True) for c in (*reversed(pairs[1:]), *copies)]
    start = time.perf_counter()
    outcome = check(formula, [*gone, Line(clause=(1,)), Line(clause=())])
    assert time.perf_counter() - start < 5
    assert (outcome.stands, outcome.ignored) == (True, 0)


def test_a_deleted_clause_is_used_no_more() -> None:
    formula = parse_formula(b"p cnf 3 5\n1 2 0\n1 -2 0\n-1 3 0\n-1 -3 0\n1 2 3 0\n")
    assert check(formula, parse_proof(b"1 0\n0\n", 3)).stands
    for deleted in ("1 2", "1 -2", "-1 3", "-1 -3"):
        found = check(formula, parse_proof(f"d {deleted} 0\n0\n".encode(), 3))
        assert not found.stands
        assert not check(formula, parse_proof(f"d {deleted} 0\n1 0\n0\n".encode(), 3)).stands


# --- Files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c only a comment\n",
        "1 2 0\n",
        "p cnf 2\n1 0\n",
        "p cnf 2 1 1\n1 0\n",
        "p dnf 2 1\n1 0\n",
        "p cnf -2 1\n1 0\n",
        "p cnf 2 1\n1 2\n",
        "p cnf 2 1\n1 3 0\n",
        "p cnf 2 1\n1 -3 0\n",
        "p cnf 2 2\n1 0\n",
        "p cnf 2 1\n1 0\n2 0\n",
        "p cnf 2 1\np cnf 2 1\n1 0\n",
        "p cnf 2 1\n1 0\n%\n0\n",
        "p cnf 2 1\n1.0 0\n",
        "p cnf 2 1\n+1 0\n",
        "p cnf 2 1\n01 0\n",
        "p cnf 2 1\n-0\n",
        "p cnf 2 1\nd 1 0\n",
        "p cnf 99999999999 1\n1 0\n",
        "p cnf 999999999 1\n1 0\n",
        "p cnf 2 1\n1 ٢ 0\n",
        "p cnf 2 1\n1\x1f2 0\n",
        "cnf 2 1\n1 0\n",
    ],
)
def test_what_is_no_formula_is_malformed(text: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_formula(text.encode())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("comment", ["c Erdős", "c\tgrüße", "c \x1b[1m"])
@pytest.mark.parametrize("encoding", ["utf-8", "iso8859-2"])
def test_a_comment_may_be_in_any_encoding(comment: str, encoding: str) -> None:
    line = comment.encode(encoding) + b"\n"
    header, rest = SQUARE.encode().split(b"\n", 1)
    formula = parse_formula(line + header + b"\n" + line + rest + line)
    assert formula == parse_formula(SQUARE.encode())
    assert check(formula, parse_proof(line + b"2 0\n" + line + b"0\n", 2)).stands


def test_what_is_no_text_outside_a_comment_is_named_with_its_place() -> None:
    with pytest.raises(Malformed, match="byte 255 at position 13"):
        parse_formula(b"c \xff\xff\np cnf 1 \xff 1\n1 0\n")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"2", "not closed by 0"),
        (b"2 0\n1 2", "not closed by 0"),
        (b"d", "not closed by 0"),
        (b"3 0\n0\n", "variables are 1 to 2"),
        (b"d -3 0\n0\n", "variables are 1 to 2"),
        (b"2 d 0\n0\n", "whole numbers"),
        (b"d d 2 0\n0\n", "whole numbers"),
        (b"two 0\n", "whole numbers"),
        (b"1e0 0\n", "whole numbers"),
        (b"-0\n", "whole numbers"),
        (b"a\x04\x00a\x00", "binary"),
        (b"d\x04\x00a\x00", "binary"),
        (b"2 0\n\xff\n0\n", "no text"),
        (b"PK\x03\x04", "binary"),
    ],
)
def test_what_is_no_proof_is_malformed(data: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        parse_proof(data, 2)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a copy of the checker and nothing else."""
    folder = tmp_path_factory.mktemp("alone")
    shutil.copy(drup.__file__, folder / "drup.py")
    return folder


@pytest.mark.parametrize(
    ("formula", "proof", "code", "said"),
    [
        (SQUARE, SQUARE_PROOF, 0, "the proof stands: 2 clauses"),
        (SQUARE, "2 0\n", 1, "ends without the empty clause"),
        (SQUARE, "2 0\n0", 0, "the proof stands"),
        (SQUARE, "2", 2, "not closed by 0"),
        ("p cnf 2 1\n1 2 0\n", SQUARE_PROOF, 1, "does not follow"),
        ("garbage", SQUARE_PROOF, 2, "p cnf"),
        (SQUARE, None, 2, "No such file"),
    ],
)
def test_the_script_runs_alone_and_ends_with_the_right_code(
    formula: str, proof: str | None, code: int, said: str, alone: Path, tmp_path: Path
) -> None:
    (tmp_path / "formula.cnf").write_text(formula, encoding="utf-8")
    if proof is not None:
        (tmp_path / "proof.drup").write_text(proof, encoding="utf-8")
    command = [
        sys.executable,
        "-I",
        str(alone / "drup.py"),
        *(str(tmp_path / n) for n in ("formula.cnf", "proof.drup")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    line = done.stderr if code == 2 else done.stdout
    assert said in line
    assert line.count("\n") == 1


def run_alone(alone: Path, folder: Path, proof: str, redirection: str) -> subprocess.CompletedProcess[str]:
    (folder / "formula.cnf").write_text(SQUARE, encoding="utf-8")
    (folder / "proof.drup").write_text(proof, encoding="utf-8")
    command = f'"{sys.executable}" -I "{alone / "drup.py"}" "{folder / "formula.cnf"}" "{folder / "proof.drup"}"'
    return subprocess.run(
        ["sh", "-c", f"{command} {redirection}"], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
@pytest.mark.parametrize("proof", [SQUARE_PROOF, "2 0\n"], ids=["stands", "does not stand"])
@pytest.mark.parametrize("redirection", [">&-", ">/dev/full", ">&- 2>&-", ">/dev/full 2>&1"])
def test_an_outcome_that_cannot_be_written_is_no_rejection(
    proof: str, redirection: str, alone: Path, tmp_path: Path
) -> None:
    if "full" in redirection and not Path("/dev/full").exists():
        pytest.skip("needs a device that is full")
    done = run_alone(alone, tmp_path, proof, redirection)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == ("2>" not in redirection)


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
def test_a_message_that_cannot_be_written_leaves_the_exit_code(alone: Path, tmp_path: Path) -> None:
    assert run_alone(alone, tmp_path, "two 0\n", "2>&-").returncode == 2


def test_the_script_wants_two_files(alone: Path) -> None:
    done = subprocess.run([sys.executable, "-I", str(alone / "drup.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_it_imports_the_standard_library_alone() -> None:
    tree = ast.parse(Path(drup.__file__).read_text(encoding="utf-8"))
    modules = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert {name.partition(".")[0] for name in modules} <= set(sys.stdlib_module_names)
