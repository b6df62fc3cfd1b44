"""Refuted statements keep their witnesses: plain JSON that anyone can check without this package.

The smallest witnesses found are shipped in ``proofs/witnesses``, listed in :data:`COUNTEREXAMPLES`; a run publishes
the ones that it made itself under ``witnesses`` in its own folder. Both are read by :mod:`proofs.recheck`, a single
file that needs the standard library and networkx alone: ``python proofs/recheck.py proofs/witnesses/*.json``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sensverify.claims import Run
from sensverify.files import write_atomically
from sensverify.verdicts import to_plain

FOLDER = Path(__file__).with_name("witnesses")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counterexample:
    """A statement that is false, and the file that shows it."""

    claim: str
    name: str
    refutes: str

    @property
    def path(self) -> Path:
        """Where the shipped witness lies."""
        return FOLDER / f"{self.name}.json"

    def load(self) -> dict[str, Any]:
        """The shipped witness."""
        witness: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        return witness


def _counterexample(claim: str, refutes: str, name: str = "") -> Counterexample:
    return Counterexample(claim=claim, name=name or claim, refutes=refutes)


COUNTEREXAMPLES = (
    _counterexample("LN-5", "RMSNorm does not see a shift of its input."),
    _counterexample("LN-6", "A pre-norm residual block is scale-invariant."),
    _counterexample("LN-7", "A post-norm block does not see the scale of its input."),
    _counterexample("LN-8", "Presence may as well be taken after the gain."),
    _counterexample("SE-2", "The published score vanishes under the null rotation."),
    _counterexample("SE-4", "A direction and its negative are equally sensitive."),
    _counterexample("RA-3", "2^(k+2) points force a k-set that misses a value: false at k = 6, on 303 and 256 points."),
    _counterexample("RA-3", "The same: false at k = 7, on 612 and 512 points.", "RA-3-k7"),
    _counterexample("RA-5", "Enough points force a k-set on which F is constant, diagonal included."),
)


def publish(run: Run, name: str, witness: Mapping[str, Any]) -> Path:
    """Write a witness into the run's folder and return its path; a reader sees the old file or the new, never half."""
    folder = run.directory / "witnesses"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    write_atomically(path, json.dumps(to_plain(witness), ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    return path
