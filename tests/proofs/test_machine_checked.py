"""Coq decides RA-7: no axiom, no gap and no other theorem than the one claimed passes; without Coq it is SKIPPED."""

from __future__ import annotations

import copy
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proofs import claims, coqc, machine_checked, recheck
from proofs.coqc import REFUSED, ask, compile_library
from proofs.machine_checked import Bound, Theorem, check_coq, claimed, counterexample, refuted, sources
from sensverify.claims import Run
from sensverify.mathematics import mathml
from sensverify.runner import run_claim
from sensverify.verdicts import Status

COQC = shutil.which("coqc") or ""
needs_coq = pytest.mark.skipif(not COQC, reason="needs Coq: apt-get install coq")
RA_7 = next(claim for claim in claims if claim.id == "RA-7")
FALSE = [Bound(base=2), Bound(symmetric=False), Bound(reading="constant")]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(seed=1, directory=tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def objects(run: Run) -> dict[str, bytes]:
    return dict(run.shared("RA-7 library", lambda: compile_library(COQC, sources())).objects)


def main_theorem(statement: Bound) -> str:
    """The file that states the bound afresh and takes the library's theorem for its proof."""
    theorem = Theorem(words="", latex="", in_coq=statement.in_coq(), proof="MissingValue.missing_value")
    return claimed([theorem])


# --- With Coq -------------------------------------------------------------------------------------------


@needs_coq
def test_the_claim_is_proved_and_its_twins_are_refuted(run: Run) -> None:
    verdict = run_claim(RA_7, "proofs", run)
    assert verdict.status is Status.PROVED, verdict.finding.evidence
    evidence = verdict.finding.evidence
    assert set(evidence["assumptions"].values()) == {"Closed under the global context"}
    assert len(evidence["assumptions"]) == 3
    assert len(evidence["false_twins_refuted"]) == 3
    assert evidence["coq"][0].isdigit()
    for line in verdict.finding.exhibits[0].lines:  # type: ignore[attr-defined]
        if line.latex:
            mathml(line.latex)


@needs_coq
@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("Theorem missing_value :", "Axiom cheat : False.\nTheorem missing_value :", "Axiom"),
        ("Qed.\n\nTheorem missing_value_logarithm", "Admitted.\n\nTheorem missing_value_logarithm", "Admitted"),
        ("Theorem missing_value :", "Unset Guard Checking.\nTheorem missing_value :", "Unset"),
        ("Theorem missing_value :", "Conjectures cheat : False.\nTheorem missing_value :", "Conjectures"),
        ("Theorem missing_value :", 'Cd "/".\nTheorem missing_value :', "Cd"),
        ("Theorem missing_value :", 'Print Universes "written".\nTheorem missing_value :', "Universes"),
        ("Theorem missing_value :", 'Redirect "written" Print nat.\nTheorem missing_value :', "Redirect"),
        ("Theorem missing_value :", 'Load "other".\nTheorem missing_value :', "Load"),
        ("Theorem missing_value :", "Admit Obligations.\nTheorem missing_value :", "Admit"),
        ("Print Assumptions main_theorems.", 'Goal True. idtac "Closed under the global context". Qed.', "idtac"),
        (
            "Theorem missing_value :",
            "From Coq Require Classical_Prop.\nTheorem excluded : forall P : Prop, P \\/ ~ P."
            "\nProof. exact Classical_Prop.classic. Qed.\nTheorem missing_value :",
            "Classical_Prop.classic",
        ),
        ("forall n k, n < k -> binom n k = 0", "forall n k, n <= k -> binom n k = 0", "Error"),
    ],
    ids=[
        "axiom",
        "gap",
        "unguarded",
        "conjectures",
        "folder",
        "writes",
        "redirects",
        "loads",
        "obligations",
        "prints",
        "an axiom of the standard library",
        "false lemma",
    ],
)
def test_a_source_that_assumes_or_does_not_compile_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: str, new: str, word: str
) -> None:
    texts = sources()
    assert old in texts["MissingValue"]
    texts["MissingValue"] = texts["MissingValue"].replace(old, new, 1)
    monkeypatch.setattr(machine_checked, "sources", lambda: texts)
    finding = check_coq(Run(seed=0, directory=tmp_path))
    assert finding.status is Status.INCONCLUSIVE
    assert word in finding.evidence["reason"]


@needs_coq
def test_what_a_file_asks_or_prints_itself_decides_nothing() -> None:
    """The host asks; a file may be silent, and one that prints the right words itself is not believed."""
    assert not compile_library(COQC, {"Quiet": "Theorem t : True. Proof. exact I. Qed.\n"}).objection
    excluded = "From Coq Require Classical_Prop.\nTheorem t : forall P : Prop, P \\/ ~ P.\n" + (
        "Proof. exact Classical_Prop.classic. Qed.\nTheorem u : True. Proof. exact I. Qed.\nPrint Assumptions u.\n"
    )
    assert "Classical_Prop.classic" in compile_library(COQC, {"Loud": excluded}).objection
    assert "no theorem" in compile_library(COQC, {"Empty": "Definition a := 0.\n"}).objection


@needs_coq
def test_the_users_own_libraries_are_not_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = tmp_path / "coq" / "Mine"
    library.mkdir(parents=True)
    (library / "A.v").write_text("Axiom cheat : False.\n", encoding="utf-8")
    subprocess.run([COQC, "-Q", ".", "Mine", "A.v"], cwd=library, check=True)
    text = "From Mine Require A.\nTheorem t : False. Proof. exact A.cheat. Qed.\nPrint Assumptions t.\n"
    monkeypatch.setenv("XDG_DATA_HOME", os.fspath(tmp_path))
    monkeypatch.setenv("COQPATH", os.fspath(tmp_path / "coq"))
    assert "Cannot find" in ask(COQC, {}, "Own", text)[0].objection


@needs_coq
@pytest.mark.parametrize(
    "smuggled",
    [
        "Axiom cheat : forall P : Prop, P.\nTheorem t : 0 = 1. Proof. apply cheat. Qed.",
        "Theorem t : 0 = 1. Proof. Admitted.",
        "Unset Guard Checking. Fixpoint f (n : nat) : 0 = 1 := f n.\nTheorem t : 0 = 1. Proof. exact (f 0). Qed.",
    ],
    ids=["axiom", "gap", "unguarded"],
)
def test_what_is_assumed_is_noticed_by_coq_as_well_as_by_its_word(smuggled: str) -> None:
    assert REFUSED.search(smuggled)
    answer, compiled = ask(COQC, {}, "Smuggled", f"{smuggled}\nPrint Assumptions t.\n")
    assert "Axioms:" in answer.objection
    assert not compiled


# A library that compiles, assumes nothing and has a theorem of the right name: but the theorem is another one.
POOR = """From Coq Require Import Arith List.
Definition three_values (F : nat -> nat -> nat) (n : nat) : Prop := {table}.
Definition symmetric (F : nat -> nat -> nat) (n : nat) : Prop := forall a b, a < n -> b < n -> F a b = F b a.
Definition misses (F : nat -> nat -> nat) (n y : nat) (S : list nat) : Prop := {misses}.
Theorem missing_value : forall k n F, three_values F n -> symmetric F n ->
  3 * 4 ^ k <= n -> {more}exists y S, y < 3 /\\ length S = k /\\ misses F n y S.
Proof. {proof} Qed.
"""
TRUE = {
    "table": "forall a b, a < n -> b < n -> F a b < 3",
    "misses": "NoDup S /\\ (forall a, In a S -> a < n) /\\ forall a b, In a S -> In b S -> F a b <> y",
    "more": "",
}
NOTHING = {"MissingValue": "", "Threshold": "Theorem t : True. Proof. exact I. Qed.\n"}


@needs_coq
@pytest.mark.parametrize(
    "changed",
    [
        {
            "more": "k = 0 -> ",
            "proof": "intros k n F _ _ _ ->. exists 0, nil. repeat split; auto; try constructor; easy.",
        },
        {"table": "False", "proof": "intros k n F []."},
        {
            "misses": "True",
            "proof": "intros k n F _ _ _. exists 0, (repeat 0 k). repeat split; [auto|apply repeat_length].",
        },
    ],
    ids=["a hypothesis more", "a hypothesis that never holds", "a conclusion that always holds"],
)
def test_another_theorem_of_the_same_name_is_not_what_is_claimed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: dict[str, str]
) -> None:
    texts = {
        "MissingValue": POOR.format(**{**TRUE, **changed}) + "Print Assumptions missing_value.\n",
        "Threshold": NOTHING["Threshold"] + "Print Assumptions t.\n",
    }
    monkeypatch.setattr(machine_checked, "sources", lambda: texts)
    finding = check_coq(Run(seed=0, directory=tmp_path))
    assert finding.status is Status.INCONCLUSIVE
    assert "not the ones claimed" in finding.evidence["reason"]
    assert "missing_value" in finding.evidence["reason"]


@needs_coq
def test_an_axiom_that_the_library_keeps_silent_about_is_found_below_the_statement() -> None:
    texts = {**NOTHING, "MissingValue": POOR.format(**TRUE, proof="intros. apply cheat.")}
    texts["MissingValue"] = "Axiom cheat : forall P : Prop, P.\n" + texts["MissingValue"]
    built: dict[str, bytes] = {}
    for name, text in texts.items():
        answer, built[name] = ask(COQC, built, name, text)
        assert answer.objection == ""
    assert "cheat : forall P : Prop, P" in ask(COQC, built, "Claimed", main_theorem(Bound()))[0].objection


@needs_coq
@pytest.mark.parametrize("statement", FALSE, ids=str)
def test_the_compiled_theorem_is_no_proof_of_a_false_variant(statement: Bound, objects: dict[str, bytes]) -> None:
    assert "The term" in ask(COQC, objects, "Claimed", main_theorem(statement))[0].objection


@needs_coq
def test_no_negation_in_the_library_is_one_of_the_true_statement(objects: dict[str, bytes]) -> None:
    assert "No applicable tactic" in ask(COQC, objects, "Refuted", refuted(Bound()))[0].objection


# --- Without Coq ----------------------------------------------------------------------------------------


def test_without_coq_the_claim_is_skipped_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    verdict = run_claim(RA_7, "proofs", Run(seed=0, directory=tmp_path))
    assert verdict.status is Status.SKIPPED
    assert verdict.finding.evidence["remedy"] == "apt-get install coq"


def unusable(folder: Path, text: str) -> str:
    """A program called coqc, on the path alone; a shell script or no program at all."""
    program = folder / "bin" / "coqc"
    program.parent.mkdir()
    program.write_text(text, encoding="utf-8")
    program.chmod(0o755)
    return os.fspath(program)


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no program", "cannot be started"),
        ("#!/nowhere/at/all\n", "cannot be started"),
        ("#!/bin/sh\nexit 3\n", "exit code 3"),
        ("#!/bin/sh\necho no prelude >&2; exit 1\n", "no prelude"),
        ("#!/bin/sh\necho Closed under the global context\n", "nothing was compiled"),
        ("#!/bin/sh\nsleep 30; true\n", "no answer within 0.3 s"),
    ],
    ids=["no format", "no interpreter", "silent failure", "failure", "says yes to everything", "never ends"],
)
def test_an_unusable_coq_is_inconclusive_with_its_reason(
    text: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = unusable(tmp_path, text)
    monkeypatch.setattr(coqc, "TIME_LIMIT", 0.3 if "sleep" in text else 20.0)
    monkeypatch.setattr(machine_checked.shutil, "which", lambda name: program)
    start = time.perf_counter()
    verdict = run_claim(RA_7, "proofs", Run(seed=0, directory=tmp_path))
    assert time.perf_counter() - start < 10
    assert verdict.status is Status.INCONCLUSIVE
    assert reason in verdict.finding.evidence["reason"]
    assert "apt-get install coq" in verdict.finding.evidence["remedy"]


@needs_coq
def test_a_library_of_coq_that_is_not_there_is_inconclusive_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COQLIB", "/nonexistent")
    verdict = run_claim(RA_7, "proofs", Run(seed=0, directory=tmp_path))
    assert verdict.status is Status.INCONCLUSIVE
    assert "/nonexistent" in verdict.finding.evidence["reason"]


@pytest.mark.parametrize("statement", FALSE, ids=str)
def test_a_false_variant_has_a_table_that_a_stranger_can_check(statement: Bound) -> None:
    witness = counterexample(statement)
    assert witness is not None
    table, n, k = witness["F"], witness["points"], witness["k"]
    assert n >= 3 * statement.base**k
    if statement.symmetric:
        assert all(table[i][j] == table[j][i] for i in range(n) for j in range(n))
    chosen = range(0, n, 1 if k == 2 else 3)  # all pairs; of the sets of four, those in every third point
    for points in itertools.combinations(chosen, k):
        seen = {table[i][j] for i in points for j in points}
        assert len(seen) == 3 if statement.reading == "misses" else len(seen) > 1


def test_the_true_statement_has_no_such_table() -> None:
    assert counterexample(Bound()) is None


def too_few_points(witness: dict[str, Any]) -> None:
    witness["base"] = 4


def larger_sets_than_there_are(witness: dict[str, Any]) -> None:
    witness["k"] = 0


def one_pair_changed(witness: dict[str, Any]) -> None:
    witness["F"][0] = witness["F"][0][:2] + str((int(witness["F"][0][2]) + 1) % 3) + witness["F"][0][3:]


def smaller_sets(witness: dict[str, Any]) -> None:
    witness["k"] = 3


def fourth_value(witness: dict[str, Any]) -> None:
    witness["F"][0] = "3" + witness["F"][0][1:]


@pytest.mark.parametrize(
    "tamper",
    [too_few_points, larger_sets_than_there_are, one_pair_changed, smaller_sets, fourth_value],
    ids=lambda tamper: tamper.__name__,
)
def test_a_tampered_table_is_rejected(tamper: Callable[[dict[str, Any]], None]) -> None:
    witness = copy.deepcopy(counterexample(Bound(base=2)))
    assert witness is not None
    assert recheck.recheck(witness) == []
    tamper(witness)
    assert recheck.recheck(witness)
