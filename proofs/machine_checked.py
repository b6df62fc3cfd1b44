"""The logarithmic bound and the exact threshold, checked by Coq: nothing is trusted but its kernel.

- RA-7 (:func:`check_coq`): ``coq/MissingValue.v`` and ``coq/Threshold.v`` prove, from the standard library and without
  axioms, what RA-1 and RA-2 state: ``3·4^k`` points have ``k`` that miss a value, so have ``3C(2k−2, k−1) − 2``, and
  the least number is ``3R(k, k) − 2``.

A file that compiles may prove something else than it says. So each statement is written out afresh here, in terms of
the standard library alone (:data:`THEOREMS`), and Coq is asked whether the compiled theorem is that statement and on
which axioms it rests. A false variant needs a table that refutes it, which the stand-alone re-check has to accept; and
Coq has to accept the negation of the variant as well.
"""

from __future__ import annotations

import dataclasses
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from proofs import recheck
from proofs.colourings import Colouring, paley, rows, three_classes
from proofs.coqc import CLOSED, Library, ask, compile_library, second_opinion, version
from sensverify.claims import Finding, Run, Status
from sensverify.exhibits import Derivation, ProofLine

FOLDER = Path(__file__).parent / "coq"
FILES = ("MissingValue", "Threshold")  # in the order in which they build on each other
INSTALL = "apt-get install coq"
MEND = "see that coqc compiles a file by itself, without COQLIB or other settings, or install it again: " + INSTALL
PREAMBLE = """From Coq Require Import Arith List Factorial.
From Colourings Require MissingValue Threshold.
"""
_TABLE = "(forall a b, a < n -> b < n -> F a b < 3) ->"
_SYMMETRIC = "(forall a b, a < n -> b < n -> F a b = F b a) ->"
_SOME = "exists (y : nat) (S : list nat), y < 3 /\\"
_POINTS = "NoDup S /\\ (forall a, In a S -> a < n) /\\"
_MISSES = "(forall a b, In a S -> In b S -> F a b <> y)"
_CONSTANT = "(forall a b, In a S -> In b S -> F a b = y)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bound:
    """``3·base^k`` points have ``k`` on which ``F`` misses a value, or is constant. The default is true."""

    base: int = 4
    symmetric: bool = True
    reading: Literal["misses", "constant"] = "misses"

    def in_coq(self) -> str:
        """The statement as a Coq proposition over the standard library."""
        lines = [
            "forall (k n : nat) (F : nat -> nat -> nat),",
            _TABLE,
            *([_SYMMETRIC] if self.symmetric else []),
            f"3 * {self.base} ^ k <= n ->",
            _SOME,
            "length S = k /\\",
            _POINTS,
            _MISSES if self.reading == "misses" else _CONSTANT,
        ]
        return "\n  ".join(lines)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Theorem:
    """A statement in words, LaTeX and Coq, and the compiled theorem that must be it once definitions are unfolded."""

    words: str
    latex: str
    in_coq: str
    proof: str


# How the exact threshold is put: what it means that m points arrow, and that n points force, k.
DEFINITIONS = f"""Definition arrows (m k : nat) := forall c : nat -> nat -> bool,
  (forall x y, x < m -> y < m -> c x y = c y x) ->
  exists (v : bool) (S : list nat), NoDup S /\\ length S = k /\\ (forall x, In x S -> x < m) /\\
  (forall x y, In x S -> In y S -> x <> y -> c x y = v).
Definition forces (n k : nat) := forall F : nat -> nat -> nat, {_TABLE} {_SYMMETRIC}
  {_SOME} length S = k /\\ {_POINTS} {_MISSES}.
"""
_ON_EVERY_TABLE = f"forall (F : nat -> nat -> nat), {_TABLE} {_SYMMETRIC}"
_COLOUR = "length S = {0} + 1 /\\ (forall x y, In x S -> In y S -> x <> y -> c x y = {1})"
_ONE = "(exists S, NoDup S /\\ incl S L /\\ " + _COLOUR + ")"
THEOREMS = (
    Theorem(
        words="Sharper, with the binomial coefficient m = C(2j, j) and k = j + 1 points:",
        latex=r"n \geq 3 \binom{2k-2}{k-1} - 2 \implies \text{some } k \text{ points miss a value}",
        in_coq="forall j n m, m * (fact j * fact j) = fact (2 * j) -> 3 * m <= n + 2 ->\n  "
        f"{_ON_EVERY_TABLE}\n  {_SOME} length S = j + 1 /\\ {_POINTS} {_MISSES}",
        proof="fun j n m C H F V Y => MissingValue.missing_value_factorial j n m F V Y C H",
    ),
    Theorem(
        words="As a logarithm, for n ≥ 1:",
        latex=r"|S| = 1 + \left\lfloor \frac{1}{2} \lfloor \log_2 \lceil n/3 \rceil \rfloor \right\rfloor",
        in_coq=f"forall n, 1 <= n -> {_ON_EVERY_TABLE}\n  {_SOME} length S = 1 + Nat.log2 ((n + 2) / 3) / 2 /\\ "
        f"{_POINTS} {_MISSES}",
        proof="fun n H F V Y => MissingValue.missing_value_logarithm n F V Y H",
    ),
    Theorem(
        words="It rests on the theorem of Erdős and Szekeres, with m = C(a+b, a):",
        latex=r"R(a+1, b+1) \leq \binom{a+b}{a}",
        in_coq="forall (A : Type) (c : A -> A -> bool) (a b m : nat) (L : list A),\n  "
        "(forall x y, In x L -> In y L -> c x y = c y x) -> NoDup L ->\n  "
        "m * (fact a * fact b) = fact (a + b) -> m <= length L ->\n  "
        + " \\/\n  ".join((_ONE.format("a", "true"), _ONE.format("b", "false"))),
        proof="MissingValue.erdos_szekeres",
    ),
    Theorem(
        words="The least number of points, exactly, for k ≥ 2 and R the Ramsey number R(k, k), by definition the "
        "number with: m points arrow k if and only if m ≥ R:",
        latex=r"N(k) = 3 R(k, k) - 2",
        in_coq="forall k R, 2 <= k -> (forall m, arrows m k <-> R <= m) -> forall n, forces n k <-> 3 * R - 2 <= n",
        proof="Threshold.exact_threshold",
    ),
    Theorem(
        words="So, as R(2, 2) = 2 and R(3, 3) = 6, which Coq shows as well:",
        latex=r"N(2) = 4, \quad N(3) = 16",
        in_coq="(forall n, forces n 2 <-> 4 <= n) /\\ (forall n, forces n 3 <-> 16 <= n)",
        proof="conj Threshold.two_points Threshold.three_points",
    ),
)


_AHEAD = "RA-7 begun ahead"
_FALSE = (Bound(base=2), Bound(symmetric=False), Bound(reading="constant"))


class _Ahead:
    """The findings about the claim and its false variants, made by a thread beside the other claims.

    Coq is another program and takes some seconds: on two cores they need not be waited for.
    """

    def __init__(self, run: Run, statements: Sequence[Bound]) -> None:
        own = Run(seed=run.seed, directory=run.directory, profile=run.profile)
        self._outcomes: dict[Bound, Finding | Exception] = {}

        def work() -> None:
            for statement in statements:
                try:
                    self._outcomes[statement] = _decide(own, statement)
                except Exception as error:  # to be raised where the finding is asked for
                    self._outcomes[statement] = error

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def finding(self, statement: Bound) -> Finding | None:
        """What was found out about ``statement``, or None if nobody asked for it ahead."""
        self._thread.join()
        outcome = self._outcomes.get(statement)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def begin(run: Run) -> None:
    """Preflight: let Coq work beside the claims that are decided before this one."""
    if shutil.which("coqc") is not None:
        run.shared(_AHEAD, lambda: _Ahead(run, (Bound(), *_FALSE)))


def check_coq(run: Run, statement: Bound = Bound()) -> Finding:
    """RA-7. Without ``coqc`` it is SKIPPED, with the line that installs it."""
    ahead: _Ahead | None = run.shared(_AHEAD, lambda: None)
    return (ahead.finding(statement) if ahead else None) or _decide(run, statement)


def _decide(run: Run, statement: Bound) -> Finding:
    program = shutil.which("coqc")
    if program is None:
        reason = "expected Coq's compiler coqc, got none on the path"
        return Finding(status=Status.SKIPPED, evidence={"reason": reason, "remedy": INSTALL})
    library = run.shared("RA-7 library", lambda: compile_library(program, sources()))
    if library.objection:
        return Finding(status=Status.INCONCLUSIVE, evidence={"reason": library.objection, "remedy": MEND})
    witness = counterexample(statement)
    if witness is not None:
        return _refuted(program, library, statement, witness)
    main = Theorem(
        words="3·4^k points have k that miss a value: there is y with F(a, b) ≠ y for all a, b in S, a = b included.",
        latex=r"n \geq 3 \cdot 4^k \implies \exists y, S \subseteq \{0, \dots, n-1\}: |S| = k,\ y \notin F(S \times S)",
        in_coq=statement.in_coq(),
        proof="MissingValue.missing_value",
    )
    return _proved(run, program, library, (main, *THEOREMS))


def sources() -> dict[str, str]:
    """The Coq files that are shipped, by name."""
    return {name: (FOLDER / f"{name}.v").read_text(encoding="utf-8") for name in FILES}


def claimed(theorems: Sequence[Theorem]) -> str:
    """A file that states the theorems afresh and takes the library's for their proofs, nothing added."""
    names = [f"as_claimed_{number}" for number in range(1, len(theorems) + 1)]
    stated = [
        f"Theorem {name} :\n  {theorem.in_coq}.\nProof. exact ({theorem.proof}). Qed.\n"
        for name, theorem in zip(names, theorems, strict=True)
    ]
    # One question for all: each walks through everything that the proofs rest on.
    together = f"Definition all_as_claimed := ({', '.join(['0', *(f'@{name}' for name in names)])}).\n"
    return "\n".join([PREAMBLE, DEFINITIONS, *stated, together, "Print Assumptions all_as_claimed.\n"])


def refuted(statement: Bound) -> str:
    """A file that states that ``statement`` is false; one of the library's negations has to be its proof."""
    candidates = (
        "Threshold.base_two_is_too_small",
        "MissingValue.symmetry_is_needed",
        "MissingValue.constant_is_too_much",
    )
    attempts = " | ".join(f"exact {name}" for name in candidates)
    return (
        f"{PREAMBLE}\nTheorem is_false : ~ (\n  {statement.in_coq()}).\nProof. first [{attempts}]. Qed.\n"
        "Print Assumptions is_false.\n"
    )


def _proved(run: Run, program: str, library: Library, theorems: Sequence[Theorem]) -> Finding:
    answer, compiled = ask(program, library.objects, "Claimed", claimed(theorems))
    if answer.objection:
        reason = f"the compiled theorems are not the ones claimed: {answer.objection}"
        return Finding(status=Status.INCONCLUSIVE, evidence={"reason": reason, "sha256": library.sha256})
    coq = version(program)
    evidence: dict[str, Any] = {
        "proof": f"{len(theorems)} theorems, stated afresh on the standard library alone, and accepted",
        "coq": coq,
        "assumptions": dict.fromkeys((*library.objects, "the statements as claimed"), CLOSED),
        "seconds": round(library.seconds + answer.seconds, 2),
        "sha256": dict(library.sha256),
    }
    if run.profile == "full":
        second = second_opinion({**library.objects, "Claimed": compiled})
        if second.objection:
            return Finding(status=Status.INCONCLUSIVE, evidence={**evidence, "reason": second.objection})
        evidence["coqchk"] = f"accepts all compiled files and the standard library, no axioms, {second.seconds:.0f} s"
    lines = [
        ProofLine(text="A table F of three values on n points; symmetric, diagonal included.", taken="hypothesis"),
        ProofLine(text="Its hypotheses in Coq: " + f"`{_TABLE}` `{_SYMMETRIC}`".replace(" ->`", "`")),
    ]
    for theorem in theorems:
        how = f"Coq {coq}: `{theorem.proof}`; {CLOSED.lower()}"
        lines.append(ProofLine(text=theorem.words, latex=theorem.latex, checked_by=how))
        lines.append(ProofLine(text=f"As Coq was asked: `{' '.join(theorem.in_coq.split())}`"))
    derivation = Derivation(
        title="What Coq has accepted",
        caption="The definitions used in the exact threshold: `"
        + " ".join(DEFINITIONS.split())
        + "`. The proofs are the "
        "files `proofs/coq/MissingValue.v` and `proofs/coq/Threshold.v`.",
        lines=tuple(lines),
    )
    return Finding(status=Status.PROVED, evidence=evidence, exhibits=(derivation,))


def counterexample(statement: Bound) -> dict[str, Any] | None:
    """A table that refutes the statement, as the stand-alone re-check has accepted it; None if none of ours does."""
    for k, table in tables(statement.base):
        witness = {
            "kind": "no such set",
            "factor": 3,
            "base": statement.base,
            "k": k,
            "points": len(table),
            "symmetric": statement.symmetric,
            "reading": statement.reading,
            "F": rows(table),
        }
        if not recheck.recheck(witness):
            return witness
    return None


def tables(base: int) -> Iterator[tuple[int, Colouring]]:
    """Tables that are hard for some variant: three classes on graphs without one-coloured ``k``-sets, and rules that
    defeat every pair, on ``3·base²`` points."""
    for k, graph in ((2, np.zeros((1, 1), dtype=bool)), (3, paley(5)), (4, paley(17))):
        yield k, three_classes(graph)
    above = np.triu(np.ones((3 * base**2, 3 * base**2), dtype=int), 1)
    yield 2, above + above.T
    yield 2, above + 2 * above.T


def _refuted(program: str, library: Library, statement: Bound, witness: dict[str, Any]) -> Finding:
    answer, _ = ask(program, library.objects, "Refuted", refuted(statement))
    if answer.objection:
        reason = f"a table refutes it, but Coq does not accept the negation: {answer.objection}"
        return Finding(status=Status.INCONCLUSIVE, evidence={"reason": reason, "table": witness})
    evidence = {"negation": f"accepted by Coq: {CLOSED.lower()}", "table": "accepted by the stand-alone re-check"}
    return Finding(status=Status.REFUTED, evidence=evidence, witness=witness)


def twin_base_two(run: Run) -> Finding:
    """False: ``3·2^k`` points are enough; Paley's graph on 17 vertices, three times, is 51 ≥ 48 points without four."""
    return check_coq(run, _FALSE[0])


def twin_without_symmetry(run: Run) -> Finding:
    """False: symmetry is not needed; 0 on the diagonal, 1 above it and 2 below."""
    return check_coq(run, _FALSE[1])


def twin_constant(run: Run) -> Finding:
    """False: ``F`` is constant on ``k`` of the points, diagonal included; 0 on the diagonal and 1 off it."""
    return check_coq(run, _FALSE[2])
