"""Predictions: what one suite derives before another looks, written so that an edited file is refused.

``predictions.json`` carries its date, the sentences that say which runs each prediction comes from, and a sha256 over
everything else in the file. A hash keeps honest people honest: it shows that what judged a model is what was derived.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from sensverify import __version__
from sensverify.errors import InputError
from sensverify.files import write_atomically
from sensverify.statistics import Interval

PREDICTIONS_NAME = "predictions.json"
SCHEMA_VERSION = 1

Outcome = Literal["inside", "outside", "undecided"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """An interval for one quantity; ``None`` leaves that side open."""

    id: str
    quantity: str
    low: float | None
    high: float | None
    derived_from: str

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise ValueError("a prediction that excludes nothing predicts nothing")

    def judge(self, measured: Interval) -> Outcome:
        """Whether the measured interval lies wholly inside the prediction, wholly outside, or across its edge."""
        low = float("-inf") if self.low is None else self.low
        high = float("inf") if self.high is None else self.high
        if low <= measured.low and measured.high <= high:
            return "inside"
        if measured.high < low or high < measured.low:
            return "outside"
        return "undecided"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return dataclasses.asdict(self)


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write ``path`` atomically, with date, version and hash."""
    document: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "version": __version__,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "predictions": [prediction.to_json() for prediction in predictions],
    }
    document["sha256"] = _digest(document)
    write_atomically(path, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def load_predictions(path: Path) -> dict[str, Prediction]:
    """The predictions in ``path`` by ID.

    Raises :class:`~sensverify.errors.InputError` for a file that is missing, not of this schema, or edited.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            expected="a readable predictions.json",
            got=f"{path}: {type(error).__name__}",
            remedy="pass a file that `sensverify verify toy_models --out DIR` wrote",
        ) from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA_VERSION:
        raise InputError(
            expected=f"predictions of schema {SCHEMA_VERSION}",
            got=f"{path}",
            remedy="derive them again with `sensverify verify toy_models --out DIR`",
        )
    recorded = document.pop("sha256", None)
    if recorded != _digest(document):
        raise InputError(
            expected="predictions as they were derived",
            got=f"{path} whose hash does not fit its content",
            remedy="use the unedited file, or derive it again with `sensverify verify toy_models --out DIR`",
        )
    return {entry["id"]: Prediction(**entry) for entry in document["predictions"]}


def _digest(document: dict[str, Any]) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
