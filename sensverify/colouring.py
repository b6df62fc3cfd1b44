"""What ``sensverify colouring`` is asked and answers, and how the answer is written.

The kernel knows no mathematics of colourings. Whoever does registers a function under the entry-point group
``sensverify.colourings``; the command line asks it, as it asks for models in :mod:`sensverify.sites`.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from sensverify.claims import Progress, silent
from sensverify.entries import lay_out
from sensverify.errors import SuiteError
from sensverify.exhibits import Exhibit
from sensverify.files import make_directory, write_atomically
from sensverify.templates import render
from sensverify.verdicts import SCHEMA_VERSION, to_plain

ENTRY_POINT_GROUP = "sensverify.colourings"
RECORD, PAGE = "colouring.json", "colouring.html"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColouringRequest:
    """A symmetric ``F`` from a ``source`` (a file, or ``module:function`` on so many ``points``) or from Paley's graph
    of ``paley``; the size ``k`` that is asked about; and the ``seconds`` that the exact search may take."""

    source: str | None = None
    paley: int | None = None
    points: int | None = None
    k: int | None = None
    seconds: float = 60.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColouringAnswer:
    """``facts`` for a person, a label and a sentence each; the same as a plain JSON ``document``; pictures."""

    facts: Mapping[str, str]
    document: Mapping[str, Any]
    exhibits: tuple[Exhibit, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The object of ``colouring.json`` and of ``--json``."""
        return {"schema": SCHEMA_VERSION, **to_plain(self.document)}

    def lines(self) -> list[str]:
        """The facts as the terminal shows them."""
        width = max(map(len, self.facts))
        return [f"{label:<{width}}  {fact}" for label, fact in self.facts.items()]


class ColouringExaminer(Protocol):
    """Finds large sets that miss a value; raises InputError for a request that cannot be met."""

    def __call__(self, request: ColouringRequest, progress: Progress) -> ColouringAnswer:
        """The answer, verified."""


def examine_colouring(request: ColouringRequest, progress: Progress = silent) -> ColouringAnswer:
    """Ask the installed examiner. Raises :class:`~sensverify.errors.InputError` for bad input, or if there is none."""
    found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    if not found:
        raise SuiteError(
            expected=f"an installed package that registers {ENTRY_POINT_GROUP}",
            got="none",
            remedy="install sensverify again: pip install --force-reinstall sensverify",
        )
    return cast(ColouringExaminer, next(iter(found)).load())(request, progress)


def write_answer(directory: Path, answer: ColouringAnswer) -> Path:
    """Write ``colouring.json`` and the self-contained ``colouring.html`` and return the page's path.

    Without matplotlib the page has the picture's numbers and the line that installs it. Raises
    :class:`~sensverify.errors.InputError` if the folder cannot be written.
    """
    make_directory(directory)
    shown = [lay_out(exhibit, anchor="colouring", index=i) for i, exhibit in enumerate(answer.exhibits, 1)]
    page = render("colouring.html.j2", answer=answer, shown=shown, record_name=RECORD)
    text = json.dumps(answer.to_json(), ensure_ascii=False, indent=1, allow_nan=False)
    write_atomically(directory / RECORD, text + "\n")
    write_atomically(directory / PAGE, page)
    return directory / PAGE
