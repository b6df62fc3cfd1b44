"""A claim reads like a theorem: a statement, its hypotheses, where it comes from, and what decides it.

Checks are named by reference (``"proofs.layer_norm:check_scale_invariance"``) and imported only when they
run, so that listing a thousand claims costs no heavy import.
"""

from __future__ import annotations

import dataclasses
import importlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast

from sensverify.verdicts import Finding, Status, Verdict

T = TypeVar("T")
Profile = Literal["quick", "full"]
Weights = Literal["raw", "folded"]
Packing = Literal["packed", "documents"]
HUB_TEXT = "hf:"
"""With this a text is a data set on the hub, not a file."""


class Progress(Protocol):
    """Where a long check tells how far it is. The kernel never prints; the command line draws the bar."""

    def __call__(self, label: str, done: int, total: int) -> None:
        """Report ``done`` of ``total`` steps of the work called ``label``."""


def silent(label: str, done: int, total: int) -> None:
    """The progress listener that listens to nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """Which language model, text and predictions a run is about (used by suites that read a model).

    ``text``: a file (.txt, .jsonl or .ndjson, .parquet) or ``hf:NAME[@REVISION][:CONFIG][:SPLIT]``; ``text_field``:
    which field or column of it holds the text. ``weights``: as they are in the file, or with each norm's gain and shift
    folded into the linear maps behind it, which is the same function. ``packing``: windows cut one after another
    out of each document, or each document a context of its own. ``outlier_norms``: positions whose residual norm is
    more than so many times the median are never intervened on (None: all are). ``sae``: a sparse autoencoder's
    folder or file.
    """

    model: str = "embedded"
    revision: str | None = None
    device: str = "cpu"
    dtype: str = "float32"
    text: Path | str | None = None
    text_field: str = "text"
    packing: Packing = "packed"
    outlier_norms: float | None = None
    weights: Weights = "raw"
    sae: Path | None = None
    predictions: Path | None = None
    offline: bool = False

    @property
    def text_name(self) -> str | None:
        """What the text is called, without the folders it lies in."""
        if self.text is None or str(self.text).startswith(HUB_TEXT):
            return None if self.text is None else str(self.text)
        return Path(self.text).name


class Run:
    """What a check may use: seed, profile, subject, a folder for artefacts, progress, shared work.

    ``directory`` always exists while a check runs; it is the user's ``--out`` or a temporary folder.
    """

    def __init__(
        self,
        *,
        seed: int,
        directory: Path,
        profile: Profile = "quick",
        subject: Subject | None = None,
        progress: Progress = silent,
    ) -> None:
        self.seed = seed
        self.directory = directory
        self.profile: Profile = profile
        self.subject = subject or Subject()
        self.progress = progress
        self.conclusions: dict[str, Any] = {}
        self._shared: dict[str, Any] = {}
        self._locks: dict[str, threading.RLock] = {}
        self._guard = threading.Lock()

    def shared(self, key: str, make: Callable[[], T]) -> T:
        """The value of ``make()``, computed once per run under ``key``: claims about one model train it once.

        Whoever asks for it meanwhile, in another thread, waits. Shared work may itself use shared work.
        """
        with self._guard:
            lock = self._locks.setdefault(key, threading.RLock())
        with lock:  # one per key, so that claims with nothing in common do not wait for each other
            if key not in self._shared:
                self._shared[key] = make()
            return cast(T, self._shared[key])


@dataclasses.dataclass(frozen=True, kw_only=True)
class FalseTwin:
    """A deliberately wrong statement that the claim's own checker must refute."""

    statement: str
    check: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement under test.

    ``statement`` is plain text for terminals and JSON; ``formula`` is the same in LaTeX for the report.
    ``expected`` is the verdict that the present state of knowledge predicts: a known refutation is expected
    to be REFUTED. ``expected_full`` is that of the full profile where it is another one, since more is
    measured there. ``check`` names a function ``Run -> Finding``; ``preflight`` one ``Run -> None`` that
    raises :class:`~sensverify.errors.InputError` for bad input before anything runs.
    """

    id: str
    statement: str
    source: str
    expected: Status
    check: str
    formula: str = ""
    hypotheses: tuple[str, ...] = ()
    false_twins: tuple[FalseTwin, ...] = ()
    preflight: str | None = None
    expected_full: Status | None = None

    def at(self, profile: Profile) -> Claim:
        """This claim with the verdict that is expected in ``profile``."""
        if profile == "quick" or self.expected_full is None:
            return self
        return dataclasses.replace(self, expected=self.expected_full)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
    """The claims of one folder, and what is done with their verdicts when all have been decided.

    ``conclude`` names a function ``(verdicts, *, run) -> Any``; the toy suite derives its predictions for language
    models there. What it returns is kept in :attr:`Run.conclusions` under the suite's name, for suites that come later.
    With ``side_by_side`` claims are decided, and concluded, in one process per processor: checks share what
    :meth:`Run.shared` gives them only with those of the same module, and everything else on disk.
    """

    claims: tuple[Claim, ...]
    conclude: str | None = None
    side_by_side: bool = False

    def __iter__(self) -> Iterator[Claim]:
        return iter(self.claims)


def resolve(reference: str) -> Callable[..., Any]:
    """The function named by ``"package.module:function"``.

    Raises ``ImportError`` or ``AttributeError`` when there is none; a test resolves every reference.
    """
    module_name, _, attribute = reference.partition(":")
    return cast(Callable[..., Any], getattr(importlib.import_module(module_name), attribute))


__all__ = [
    "HUB_TEXT", "Claim", "FalseTwin", "Finding", "Packing", "Profile", "Progress", "Run", "Status", "Subject", "Suite",
    "Verdict", "Weights", "resolve", "silent",
]  # fmt: skip
