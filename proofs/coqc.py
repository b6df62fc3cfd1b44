"""Asking Coq: does this file compile, and does what it proves rest on no axiom?

- :func:`compile_library`: files that build on each other, each accepted only without axioms;
- :func:`ask`: one more file on top of them;
- :func:`second_opinion`: Coq's own checker of compiled files.

An answer counts if Coq ends with exit code 0 and answers every ``Print Assumptions`` with :data:`CLOSED`. Every file is
compiled in a folder of its own, without the user's settings. Source: The Coq Proof Assistant, version 8.16.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
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
    r"\b(Axioms?|Parameters?|Hypothes[ie]s|Variables?|Context|Conjecture|Admitted|admit|give_up|Abort|Set|Unset|Global"
    r"|Declare|Load|Add|Notation|Primitive|Register|Redirect|Extraction|bypass_check)\b"
)


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
    """Compile the files in a folder of their own; each must end without axioms and hold no refused word."""
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    objects: dict[str, bytes] = {}
    seconds, objection = 0.0, ""
    for name, text in texts.items():
        if found := REFUSED.search(text):
            objection = f"{name}.v has the word {found[0]}, which a proof without assumptions does not need"
        elif "Print Assumptions" not in text:
            objection = f"{name}.v does not ask what it assumes"
        if objection:
            break
        answer, compiled = ask(program, objects, name, text)
        seconds, objection = seconds + answer.seconds, answer.objection
        if objection:
            break
        objects[name] = compiled
    return Library(objects=objects, sha256=digests, objection=objection, seconds=seconds)


def ask(program: str, objects: Mapping[str, bytes], name: str, text: str) -> tuple[Answer, bytes]:
    """Compile one file on top of ``objects``; accepted if each of its Print Assumptions finds none."""
    with tempfile.TemporaryDirectory() as folder:
        for other, compiled in objects.items():
            (Path(folder) / f"{other}.vo").write_bytes(compiled)
        (Path(folder) / f"{name}.v").write_text(text, encoding="utf-8")
        answer = _start([program, "-q", "-Q", ".", "Colourings", f"{name}.v"], folder, TIME_LIMIT)
        objection = answer.objection
        if not objection and answer.output.splitlines() != [CLOSED] * text.count("Print Assumptions"):
            objection = " ".join(answer.output.split()) or "Coq says nothing about what is assumed"
        compiled = b"" if objection else (Path(folder) / f"{name}.vo").read_bytes()
    return Answer(objection=f"{name}.v: {objection}"[:600] if objection else "", seconds=answer.seconds), compiled


def _start(command: Sequence[str], folder: str, limit: float) -> Answer:
    """Run one of Coq's programs in ``folder``, without the user's own libraries."""
    environment = {key: value for key, value in os.environ.items() if key != "COQPATH"}
    begin = time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            encoding="utf-8", errors="replace", timeout=limit, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Answer(objection=f"no answer within {limit:.0f} s", seconds=limit)
    seconds = time.perf_counter() - begin
    objection = " ".join(done.stderr.split()) or f"exit code {done.returncode}" if done.returncode else ""
    return Answer(output=done.stdout, remarks=done.stderr, objection=objection, seconds=seconds)


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
