"""Certificates on disk: made once, then only ever re-checked.

The folder holds, per number, ``NAME_at_N.cnf`` with its refutation ``NAME_at_N.drup``, and ``NAME_at_M.model.json``, a
colouring of ``M = N − 1`` points; ``index.json`` says which solver wrote them, with the SHA-256 of each. It appears
whole or not at all. To be believed, a file has to be the one in the index; a formula has to be, clause for clause,
the one that :mod:`proofs.certificates.encoding` writes; a proof has to pass :mod:`proofs.certificates.drup`; a
colouring is held against the definition. Re-checking needs no solver.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from proofs.certificates import drup, solve
from proofs.certificates.encoding import Clause, dimacs, layout_of, with_lemmas
from proofs.certificates.problems import PROBLEMS, Problem, derived_from
from proofs.certificates.questions import Question, objection_to_model
from sensverify.claims import Progress
from sensverify.errors import InputError
from sensverify.files import make_directory, write_atomically

INDEX, SCHEMA = "index.json", 1
REMEDY = "delete the folder to make new ones"
MOST_BYTES = 64_000_000  # of one file; the largest that is written has well under a million
MODEL_KIND = "colouring without a bad set"
# What the index says of a number beyond what is measured here: shown, not believed.
_FROM_INDEX = ("model_from", "seconds_model", "seconds_refutation", "solver_proof_bytes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Knowledge:
    """What was checked: colourings without a bad set, and numbers of points on which there is none.

    ``details`` are sizes and seconds per number, ``objections`` what was wrong with which file.
    """

    models: Mapping[str, Sequence[str]]
    refuted: Mapping[str, int]
    details: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    objections: Sequence[Mapping[str, str]] = ()
    solver: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    made_now: bool = False


class Unbelievable(ValueError):
    """What a file holds is not what it should be; the message says why."""


def certificates(folder: Path, progress: Progress) -> Knowledge:
    """Make the certificates if there is no folder (or an empty one), then check what is there.

    Raises :class:`~sensverify.errors.MissingExtraError` if they have to be made and there is no solver, and
    :class:`~sensverify.errors.InputError` if the folder cannot be written, or is a link, wherever that leads.
    """
    if folder.is_symlink():
        raise InputError(
            expected=f"a folder of certificates, or none yet, at {folder.name} in the run's folder",
            got="a link",
            remedy=f"remove the link {folder.name}, or put the folder itself in its place",
        )
    make_now = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if make_now:
        make(folder, progress)
    return dataclasses.replace(recheck(folder, progress), made_now=make_now)


# --- Making ---------------------------------------------------------------------------------------------


def make(folder: Path, progress: Progress) -> None:
    """Solve everything and write the folder."""
    solve.require_solver()
    make_directory(folder.parent)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        index: dict[str, Any] = {
            "schema": SCHEMA,
            "solver": {"name": solve.SOLVER, "package": solve.PACKAGE, "version": solve.solver_version()},
            "numbers": {},
        }
        for done, problem in enumerate(PROBLEMS.values()):
            progress(f"RA-4: solving {problem.name}", done, len(PROBLEMS))
            index["numbers"][problem.name] = _write(problem, temporary)
        names = sorted(path.name for path in temporary.iterdir())
        index["files"] = {name: {"sha256": _sha256((temporary / name).read_bytes())} for name in names}
        write_atomically(temporary / INDEX, json.dumps(index, indent=1) + "\n")
        os.chmod(temporary, 0o755)
        with contextlib.suppress(OSError):  # another run was faster: its folder is checked instead
            if folder.exists():
                folder.rmdir()
            os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(problem: Problem, folder: Path) -> Mapping[str, Any]:
    """The files of one number; what the index says about them."""
    question, points = problem.question, problem.value - 1
    about: dict[str, Any] = {}
    rows = problem.known()
    if problem.by_solver:
        answer = solve.solve(with_lemmas(question, points, ()))
        about["seconds_model"] = round(answer.seconds, 4)
        if answer.model is None:
            raise RuntimeError(f"the solver says that {question.name} is at most {points}")
        rows = layout_of(question, points).rows(answer.model)
    about["model_from"] = "solver" if problem.by_solver else "three classes on Paley's graph of 17 vertices"
    diagonal = "on the diagonal too" if question.diagonal else "the diagonal has none"
    model = {
        "kind": MODEL_KIND,
        "number": question.name,
        "points": points,
        "F": rows,
        "reading": f"F[i][j] is the digit j of row i, the value of the pair i, j ({diagonal})",
    }
    write_atomically(folder / problem.model_file, json.dumps(model, indent=1) + "\n")
    if problem.refutation_files is not None:
        clauses = with_lemmas(question, problem.value, problem.lemmas)
        answer = solve.solve(clauses)
        about["seconds_refutation"] = round(answer.seconds, 4)
        if answer.proof is None:
            raise RuntimeError(f"the solver says that {question.name} is more than {problem.value}")
        variables = layout_of(question, problem.value).variables
        about["solver_proof_bytes"] = len(answer.proof)
        proof = solve.trimmed(drup.Formula(variables=variables, clauses=clauses), answer.proof)
        cnf, drup_file = problem.refutation_files
        write_atomically(folder / cnf, dimacs(question, problem.value, problem.lemmas))
        write_atomically(folder / drup_file, proof)
    return about


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- Checking -------------------------------------------------------------------------------------------


def recheck(folder: Path, progress: Progress) -> Knowledge:
    """Check every certificate in the folder, without a solver; never raises for what the files hold."""
    objections: list[Mapping[str, str]] = []
    index: Mapping[str, Any] = {}
    try:
        index = _read_json(folder / INDEX)
        schema = index.get("schema")
        if type(schema) is not int or schema != SCHEMA:  # True and 1.0 equal 1 too
            raise Unbelievable(f"its schema is {repr(schema)[:40]}, not {SCHEMA}")
    except Unbelievable as error:
        index = {}  # and then no file is listed
        objections.append({"file": INDEX, "reason": str(error)})
    models: dict[str, Sequence[str]] = {}
    refuted: dict[str, int] = {}
    details: dict[str, Mapping[str, Any]] = {}
    for done, problem in enumerate(PROBLEMS.values()):
        progress(f"RA-4: checking {problem.name}", done, len(PROBLEMS))
        numbers = index.get("numbers")
        stated = _plain(numbers.get(problem.name) if isinstance(numbers, Mapping) else None)
        about = {key: stated[key] for key in _FROM_INDEX if key in stated}
        start = time.perf_counter()
        file = problem.model_file
        try:
            models[problem.name] = _model(problem, _read_listed(folder, file, index))
            if problem.refutation_files is not None:
                file = " with ".join(problem.refutation_files)
                formula, proof = (_read_listed(folder, name, index) for name in problem.refutation_files)
                about |= {**refute(problem, formula, proof), "proof_bytes": len(proof)}
                refuted[problem.name] = problem.value
        except Unbelievable as error:
            objections.append({"file": file, "reason": str(error)})
        details[problem.name] = {**about, "seconds_checking": round(time.perf_counter() - start, 3)}
    progress("RA-4: checking certificates", len(PROBLEMS), len(PROBLEMS))
    return Knowledge(
        models=models,
        refuted=with_derived(refuted),
        details=details,
        objections=objections,
        solver=_plain(index.get("solver")),
    )


def with_derived(refuted: Mapping[str, int]) -> dict[str, int]:
    """``refuted`` with what follows from it: three classes of fewer points do not fill so many (RA-1)."""
    result = dict(refuted)
    for problem in PROBLEMS.values():
        source = derived_from(problem.question)
        if source is not None and source.name in refuted:
            result[problem.name] = 3 * (refuted[source.name] - 1) + 1
    return result


def refute(problem: Problem, formula: bytes, proof: bytes) -> dict[str, Any]:
    """Check a refutation against the formula that it has to refute; raises :class:`Unbelievable`."""
    try:
        read = drup.parse_formula(formula)
        lines = drup.parse_proof(proof, read.variables)
    except drup.Malformed as error:
        raise Unbelievable(str(error)) from error
    wanted = with_lemmas(problem.question, problem.value, problem.lemmas)
    if read.variables != layout_of(problem.question, problem.value).variables or _bag(read.clauses) != _bag(wanted):
        differing = (_bag(wanted) - _bag(read.clauses)) + (_bag(read.clauses) - _bag(wanted))
        raise Unbelievable(f"the formula is another one: {differing.total()} clauses differ from the encoding's")
    outcome = drup.check(read, lines)
    if not outcome.stands:
        raise Unbelievable(f"the proof does not stand: {outcome.reason}")
    return {"variables": read.variables, "clauses": len(read.clauses), "proof_lemmas": outcome.lemmas}


def _bag(clauses: Sequence[Clause]) -> Counter[Clause]:
    """The clauses, each as often as it occurs, whatever the order inside or among them."""
    return Counter(tuple(sorted(clause)) for clause in clauses)


def _model(problem: Problem, data: bytes) -> Sequence[str]:
    content = _parse_json(data)
    question: Question = problem.question
    wanted = {"kind": MODEL_KIND, "number": question.name, "points": problem.value - 1}
    for key, value in wanted.items():
        if type(content.get(key)) is not type(value) or content[key] != value:
            raise Unbelievable(f"its {key} is {str(content.get(key))[:40]}, not {value}")
    reason = objection_to_model(question, problem.value - 1, content.get("F"))
    if reason is not None:
        raise Unbelievable(reason)
    rows: Sequence[str] = content["F"]
    return rows


def _read_listed(folder: Path, name: str, index: Mapping[str, Any]) -> bytes:
    data = _read(folder / name)
    files = index.get("files")
    entry = files.get(name) if isinstance(files, Mapping) else None
    stated = entry.get("sha256") if isinstance(entry, Mapping) else None
    if stated != _sha256(data):
        raise Unbelievable(f"{name} is not the file in {INDEX}: another SHA-256, or not listed")
    return data


def _read(path: Path) -> bytes:
    """The bytes of a regular file; anything else could be endless, or wait for ever."""
    try:
        # Without blocking: to open a pipe for reading waits for a writer.
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Unbelievable(f"{path.name} is no regular file")
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise Unbelievable(f"{path.name} cannot be read: {error.strerror or type(error).__name__}") from error
    if len(data) > MOST_BYTES:
        raise Unbelievable(f"{path.name} has more than the {MOST_BYTES:,} bytes that are read")
    return data


def _read_json(path: Path) -> Mapping[str, Any]:
    return _parse_json(_read(path))


def _parse_json(data: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unbelievable(f"it is no JSON: {type(error).__name__}") from error
    if not isinstance(content, dict):
        raise Unbelievable("it is no JSON object")
    return content


def _plain(value: Any) -> dict[str, Any]:
    """The entries of ``value`` that are short texts or finite numbers: what an index says is shown, not believed."""
    if not isinstance(value, Mapping):
        return {}
    texts = {str(key)[:40]: item[:80] for key, item in value.items() if isinstance(item, str)}
    numbers = {
        str(key)[:40]: item
        for key, item in value.items()
        if isinstance(item, (int, float)) and not isinstance(item, bool) and abs(item) < 1e12
    }
    return {**texts, **numbers}
