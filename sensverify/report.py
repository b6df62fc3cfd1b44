"""From verdicts to what people and programs read: a terminal table, strict JSON, one self-contained page.

``verdicts.json`` is the record, with the keys that outside checks rely on. ``exhibits.json`` beside it holds
what the page shows besides: formulas, hypotheses, plots' data. ``report.html`` is drawn from these two files
alone, so it can be drawn again, elsewhere and later, without running anything. Files appear whole or not at
all.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from markupsafe import Markup
from rich.table import Table as TerminalTable
from rich.text import Text

from sensverify import exhibits
from sensverify.claims import Run
from sensverify.entries import ABOUT_MODELS, SHIPPED, SHIPPED_KEY, Entry, is_shipped
from sensverify.entries import EXHIBITS as EXHIBITS
from sensverify.entries import VERDICTS as VERDICTS
from sensverify.entries import entries as entries_of
from sensverify.errors import InputError
from sensverify.naming import public_name
from sensverify.templates import render, source
from sensverify.terms import elsewhere, terms_in, words
from sensverify.verdicts import SCHEMA_VERSION, Status, Verdict, to_plain

PAGE = "report.html"
_PACKAGES = ("torch", "numpy", "sympy", "transformers")
_COLOURS = {
    Status.PROVED: "green",
    Status.SUPPORTED: "cyan",
    Status.REFUTED: "magenta",
    Status.INCONCLUSIVE: "yellow",
    Status.SKIPPED: "bright_black",
    Status.ERROR: "bold red",
}


# --- The record -----------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What the software ran on: versions and hardware, no names of hosts, users or folders."""
    return {
        "sensverify": _version("sensverify"),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
    }


def environment(run: Run) -> dict[str, Any]:
    """What a verdict depends on beside the claim. Of a local model or file only its own name is told."""
    subject = run.subject
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seed": run.seed,
        "profile": run.profile,
        "model": public_name(subject.model),
        SHIPPED_KEY: subject.model == SHIPPED,
        "revision": subject.revision,
        "device": subject.device,
        "dtype": subject.dtype,
        "text": subject.text_name,
        "packing": subject.packing,
        "outlier_norms": subject.outlier_norms,
        "weights": subject.weights,
        "sae": subject.sae.name if subject.sae else None,
        "predictions": subject.predictions.name if subject.predictions else None,
        **machine(),
    }


def verdicts_document(verdicts: Sequence[Verdict], environment: Mapping[str, Any]) -> dict[str, Any]:
    """The object of ``verdicts.json`` and of ``verify --json``."""
    return {
        "schema": SCHEMA_VERSION,
        "claims": [verdict.to_json() for verdict in verdicts],
        "environment": to_plain(environment),
    }


def write_verdicts(
    directory: Path, verdicts: Sequence[Verdict], environment: Mapping[str, Any], *, complete: bool
) -> None:
    """Write ``exhibits.json`` and ``verdicts.json``; ``complete=False`` marks an interrupted run.

    Raises :class:`~sensverify.errors.InputError` if the folder cannot be written, ``TypeError`` or
    ``ValueError`` for evidence that is no strict JSON; the files that were there stay as they were.
    """
    shown = {
        "schema": SCHEMA_VERSION,
        "exhibits": {v.claim.id: [exhibit.to_json() for exhibit in v.finding.exhibits] for v in verdicts},
        "claims": {v.claim.id: {"formula": v.claim.formula, "hypotheses": list(v.claim.hypotheses)} for v in verdicts},
    }
    document = verdicts_document(verdicts, {**environment, "complete": complete})
    texts = {EXHIBITS: _strict_json(shown, indent=None), VERDICTS: _strict_json(document, indent=2)}
    for name, text in texts.items():  # the record comes last: when it is there, all of it is there
        _write_whole(directory / name, text)


def _strict_json(document: Mapping[str, Any], *, indent: int | None) -> str:
    return json.dumps(document, allow_nan=False, ensure_ascii=False, indent=indent) + "\n"


def _write_whole(path: Path, text: str) -> None:
    """Write ``path`` so that a reader, or a crash, meets the old file or the new one, never half of one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise InputError(
            expected=f"to be able to write {path}",
            got=error.strerror or str(error),
            remedy="pass a folder that can be written",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name; ``platform`` alone knows only its family on Linux."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


# --- The terminal ---------------------------------------------------------------------------------------


def terminal_table(verdicts: Sequence[Verdict]) -> TerminalTable:
    """One row per verdict; a verdict that differs from the expected one says what was expected."""
    table = TerminalTable(box=None, pad_edge=False, header_style="bold")
    table.add_column("claim", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("expected", no_wrap=True)
    table.add_column("statement", ratio=1, overflow="fold")
    table.add_column("seconds", justify="right", no_wrap=True)
    for verdict in verdicts:
        differs = Text(verdict.claim.expected.value, "bold red")
        table.add_row(
            Text(verdict.claim.id, "bold"),
            Text(verdict.status.value, _COLOURS[verdict.status]),
            Text("✓", "green") if verdict.as_expected else differs if verdict.differs else Text("–"),
            Text(verdict.claim.statement),
            f"{verdict.seconds:.2f}",
        )
    return table


def summary_line(verdicts: Sequence[Verdict]) -> str:
    """The run in one line: how many of each status, how many as expected, and which differ."""
    counts = collections.Counter(verdict.status for verdict in verdicts)
    tally = ", ".join(f"{counts[status]} {status.value}" for status in Status if counts[status])
    differ = [verdict.claim.id for verdict in verdicts if verdict.differs]
    skipped = [verdict for verdict in verdicts if verdict.status is Status.SKIPPED]
    agree = "" if len(skipped) == len(verdicts) else ", all others as expected" if skipped else ", all as expected"
    end = f"; not as expected: {', '.join(differ)}" if differ else agree
    for verdict in skipped:
        end += f"; {verdict.claim.id} skipped: {verdict.finding.evidence.get('remedy', 'no remedy known')}"
    noun = "claim" if len(verdicts) == 1 else "claims"
    return f"{len(verdicts)} {noun}{': ' if tally else ''}{tally}{end}"


# --- The page -------------------------------------------------------------------------------------------


def write_html(directory: Path) -> Path:
    """Draw ``report.html`` from the two JSON files in ``directory``; the same files give the same bytes.

    Raises :class:`~sensverify.errors.InputError` for a file that is missing, unreadable or not ours.
    """
    verdicts = _read_document(directory / VERDICTS)
    shown = _read_document(directory / EXHIBITS)
    try:
        entries = entries_of(verdicts, shown)
    except (ValueError, OverflowError) as error:
        _refuse(directory, str(error))
    suites: dict[str, list[Entry]] = {}
    for entry in entries:
        suites.setdefault(entry.record["suite"], []).append(entry)
    galleries = {
        shown.uid: (entry.record["id"], len(shown.exhibit.cards))
        for entry in entries
        for shown in entry.shown
        if isinstance(shown.exhibit, exhibits.DirectionGallery)
    }
    judged = [(entry, row) for entry in entries for row in entry.judged]
    texts = [*words(verdicts["claims"]), *words(shown)]
    model = verdicts["environment"].get("model")
    subject = "the shipped model" if model is not None and is_shipped(verdicts["environment"]) else model
    # Only a page with something to browse carries a script; its hash in the page's policy lets no other run.
    script = source("report.js") if galleries else ""
    page = render(
        "report.html.j2",
        galleries=galleries,
        judged=judged,
        outcomes=collections.Counter(row.outcome for _, row in judged),
        script=Markup(script),
        script_digest=Markup(base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()),
        entries=entries,
        suites=suites,
        differing=[entry for entry in entries if entry.alarming],
        unlike=[entry for entry in entries if entry.differs and not entry.alarming],
        foreign=any(entry.elsewhere for entry in entries),
        subject=subject if ABOUT_MODELS in suites else None,
        terms=terms_in(texts),
        not_here=elsewhere(texts, [entry.record["id"] for entry in entries]),
        skipped=sum(entry.status is Status.SKIPPED for entry in entries),
        tally={status: n for status in Status if (n := sum(entry.status is status for entry in entries))},
        environment=verdicts["environment"],
        complete=verdicts["environment"].get("complete", True) is True,
        record_name=VERDICTS,
    )
    _write_whole(directory / PAGE, page)
    return directory / PAGE


def _read_document(path: Path) -> dict[str, Any]:
    """A JSON object of our schema."""
    try:
        document = json.loads(path.read_bytes().decode("utf-8"), parse_constant=_no_constant)
    except FileNotFoundError:
        _refuse(path, "no such file")
    except OSError as error:
        _refuse(path, error.strerror or str(error))
    except (ValueError, RecursionError) as error:
        _refuse(path, f"no strict JSON ({error})")
    if not isinstance(document, dict) or document.get("schema") != SCHEMA_VERSION:
        _refuse(path, f"no object of schema {SCHEMA_VERSION}")
    return document


def _refuse(path: Path, got: str) -> NoReturn:
    expected = f"{VERDICTS} and {EXHIBITS} as `sensverify verify --out` writes them"
    remedy = "pass the folder of a finished or interrupted run, or run `sensverify verify --out DIR` again"
    raise InputError(expected=expected, got=f"{path}: {got}", remedy=remedy)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
