"""Asking Coq: does this file compile, and does what it proves rest on no axiom?

- :func:`compile_library`: files that build on each other, each accepted only if no theorem of it rests on an axiom;
- :func:`ask`: one more file on top of them;
- :func:`second_opinion`: Coq's own checker of compiled files.

An answer counts if Coq ends with exit code 0 and answers every ``Print Assumptions`` with :data:`CLOSED`. What a file
assumes is asked in another one, written here: what the file itself asks, or prints, decides nothing. Every file is
compiled in a folder of its own, without the user's settings. Source: The Coq Proof Assistant, version 8.16.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

CLOSED = "Closed under the global context"
TIME_LIMIT = 120.0  # seconds for one file; it takes 1 to 2
CHECKER_TIME_LIMIT = 280.0  # seconds for coqchk, which checks the standard library too; it takes 30
# The answer of Print Assumptions decides; this is a second look, at the whole text, comments included.
REFUSED = re.compile(
    r"\b(Axioms?|Parameters?|Hypothes[ie]s|Variables?|Context|Conjectures?|Admit(?:ted)?|admit|give_up|Abort|Set|Unset"
    r"|Global|Declare|Load|Add|Notation|Infix|Primitive|Register|Redirect|Cd|Universes?|idtac|Extraction|bypass_check)\b"
)
_THEOREM = re.compile(r"^(?:Theorem|Lemma|Corollary)\s+([A-Za-z_][\w']*)", re.MULTILINE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What one of Coq's programs says, on its two streams; ``objection`` is empty if it accepts."""

    seconds: float
    output: str = ""
    remarks: str = ""
    objection: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Library:
    """The compiled files, or the first objection to them."""

    objects: Mapping[str, bytes]
    sha256: Mapping[str, str]
    objection: str
    seconds: float


def compile_library(program: str, texts: Mapping[str, str]) -> Library:
    """Compile the files in a folder of their own; none may hold a refused word, or a theorem that rests on axioms."""
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    objects: dict[str, bytes] = {}
    seconds, objection = 0.0, ""
    for name, text in texts.items():
        if found := REFUSED.search(text):
            objection = f"{name}.v has the word {found[0]}, which a proof without assumptions does not need"
        elif not _THEOREM.search(text):
            objection = f"{name}.v states no theorem"
        if objection:
            break
        answer, compiled = _compile(program, objects, name, text)
        seconds, objection = seconds + answer.seconds, answer.objection
        if objection:
            break
        objects[name] = compiled
    if not objection:
        answer, _ = ask(program, objects, "Assumed", assumptions(texts))
        seconds, objection = seconds + answer.seconds, answer.objection
    return Library(objects=objects, sha256=digests, objection=objection, seconds=seconds)


def assumptions(texts: Mapping[str, str]) -> str:
    """A file that asks on what the theorems of the compiled files rest: all at once, as much lies below several."""
    theorems = [f"@{name}.{theorem}" for name, text in texts.items() for theorem in _THEOREM.findall(text)]
    return (
        f"From Colourings Require {' '.join(texts)}.\n"
        f"Definition all_theorems := ({', '.join(['0', *theorems])}).\nPrint Assumptions all_theorems.\n"
    )


def ask(program: str, objects: Mapping[str, bytes], name: str, text: str) -> tuple[Answer, bytes]:
    """Compile one file of ours on top of ``objects``; accepted if each of its Print Assumptions finds none."""
    answer, compiled = _compile(program, objects, name, text)
    if not answer.objection and answer.output.splitlines() != [CLOSED] * text.count("Print Assumptions"):
        objection = " ".join(answer.output.split()) or "Coq says nothing about what is assumed"
        return dataclasses.replace(answer, objection=f"{name}.v: {objection}"[:600]), b""
    return answer, compiled


def _compile(program: str, objects: Mapping[str, bytes], name: str, text: str) -> tuple[Answer, bytes]:
    """Compile one file on top of ``objects``, whatever it prints; empty if there is an objection."""
    with tempfile.TemporaryDirectory() as folder:
        for other, compiled in objects.items():
            (Path(folder) / f"{other}.vo").write_bytes(compiled)
        (Path(folder) / f"{name}.v").write_text(text, encoding="utf-8")
        answer = _start([program, "-q", "-Q", ".", "Colourings", f"{name}.v"], folder, TIME_LIMIT)
        objection, compiled = answer.objection, b""
        if not objection:
            try:
                compiled = (Path(folder) / f"{name}.vo").read_bytes()
            except OSError:
                objection = "exit code 0, but nothing was compiled"
    return dataclasses.replace(answer, objection=f"{name}.v: {objection}"[:600] if objection else ""), compiled


def _start(command: Sequence[str], folder: str, limit: float) -> Answer:
    """Run one of Coq's programs in ``folder``, without the user's own libraries; what cannot run is an objection."""
    own = {"COQPATH", "ROCQPATH", "XDG_DATA_HOME", "XDG_DATA_DIRS"}
    environment = {key: value for key, value in os.environ.items() if key not in own}
    environment |= {"XDG_DATA_HOME": folder, "XDG_DATA_DIRS": folder}
    begin = time.perf_counter()
    try:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        reason = f"{Path(command[0]).name} cannot be started: {error.strerror or type(error).__name__}"
        return Answer(objection=reason, seconds=time.perf_counter() - begin)
    _RUNNING.add(process)
    with process:
        try:
            output, remarks = process.communicate(timeout=limit)
        except BaseException as error:  # an interruption too must leave nothing running
            _end(process)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return Answer(objection=f"no answer within {limit:g} s", seconds=time.perf_counter() - begin)
        finally:
            _RUNNING.discard(process)
    seconds = time.perf_counter() - begin
    objection = " ".join(remarks.split()) or f"exit code {process.returncode}" if process.returncode else ""
    return Answer(output=output, remarks=remarks, objection=objection, seconds=seconds)


_RUNNING: set[subprocess.Popen[str]] = set()


@atexit.register
def _end_all() -> None:
    """An interrupted run must not leave Coq at work behind it."""
    for process in list(_RUNNING):
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """End the program and what it has started, so that no one holds the pipes open."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def version(program: str) -> str:
    """Coq's version, such as ``8.16.1``."""
    return (_start([program, "--print-version"], ".", TIME_LIMIT).output.split() or ["unknown"])[0]


def second_opinion(objects: Mapping[str, bytes]) -> Answer:
    """Coq's own checker of compiled files: a smaller program, which reads them without trusting the compiler."""
    program = shutil.which("coqchk")
    if program is None:
        return Answer(objection="expected coqchk beside coqc, got none on the path", seconds=0.0)
    with tempfile.TemporaryDirectory() as folder:
        for name, compiled in objects.items():
            (Path(folder) / f"{name}.vo").write_bytes(compiled)
        command = [program, "-silent", "-o", "-Q", ".", "Colourings", "Colourings.Claimed"]
        ended = _start(command, folder, CHECKER_TIME_LIMIT)
    summary = " ".join((ended.output + ended.remarks).split())
    if not ended.objection and "* Axioms: <none>" not in summary:
        return dataclasses.replace(ended, objection=f"coqchk: {summary}"[:600])
    return ended
