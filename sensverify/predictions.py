"""Predictions: what one suite derives before another looks, written so that an edited file is refused.

``predictions.json`` carries its date, the sentences that say which runs each prediction comes from, and a sha256 over
everything else in the file. A hash keeps honest people honest: it shows that what judged a model is what was derived.
The hash is of the content, whatever the order of its keys; so that the text says what the content is, a key given twice
and a number that is not spelled as it was written are refused too.

An order of means, "found > SAE > random", is two predictions: each ratio with ``low = 1`` and no upper side.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NoReturn

from sensverify import __version__
from sensverify.claims import Run
from sensverify.errors import InputError
from sensverify.exhibits import JUDGED as JUDGED
from sensverify.exhibits import Estimate, JudgedPrediction
from sensverify.files import write_atomically
from sensverify.statistics import Interval
from sensverify.verdicts import Status

PREDICTIONS_NAME = "predictions.json"
SCHEMA_VERSION = 1
DATE = "%Y-%m-%dT%H:%M:%SZ"
CLOCKS_DIFFER = datetime.timedelta(days=1)

Outcome = Literal["inside", "outside", "undecided"]
Side = Literal["low", "high"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """An interval for one quantity; ``None`` leaves that side open. ``derived_from`` names the runs and the rule.

    Raises ``ValueError`` for an interval that excludes everything or nothing, and for an empty text.
    """

    id: str
    quantity: str
    low: float | None
    high: float | None
    derived_from: str

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise ValueError("a prediction that excludes nothing predicts nothing")
        if not all(math.isfinite(end) for end in (self.low, self.high) if end is not None):
            raise ValueError("low and high are finite; None leaves a side open")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("low is above high")
        for name in ("id", "quantity", "derived_from"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} is empty")

    def judge(self, measured: Interval) -> Outcome:
        """Whether the measured interval lies wholly inside the prediction, wholly outside, or across its edge."""
        low = float("-inf") if self.low is None else self.low
        high = float("inf") if self.high is None else self.high
        if low <= measured.low and measured.high <= high:
            return "inside"
        if measured.high < low or high < measured.low:
            return "outside"
        return "undecided"

    def status(self, measured: Interval) -> Status:
        """What a claim that rests on this prediction alone comes to: INCONCLUSIVE across its edge."""
        outcomes = {"inside": Status.SUPPORTED, "outside": Status.REFUTED, "undecided": Status.INCONCLUSIVE}
        return outcomes[self.judge(measured)]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return dataclasses.asdict(self)


def judged(prediction: Prediction, measured: Interval, *, of: str = "", origin: str = "") -> dict[str, Any]:
    """The prediction with what was measured and the outcome, for the list ``evidence[JUDGED]``.

    ``of`` says what was measured where one prediction judges several things (``"layer 2"``, ``"SAE"``); ``origin``
    where the prediction was read. What was not sampled, such as the largest of all values, is an interval without
    width. The report draws these as the ledger of predictions (:class:`~sensverify.exhibits.JudgedPrediction`).
    """
    row = JudgedPrediction(
        **prediction.to_json(),
        measured=Estimate(**measured.to_json()),
        outcome=prediction.judge(measured),
        of=of,
        origin=origin,
    )
    return dataclasses.asdict(row)


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write ``path`` atomically, with date, version and hash. Raises ``ValueError`` for two of one ID."""
    entries = list(predictions)
    if len({entry.id for entry in entries}) < len(entries):
        raise ValueError(f"two predictions of one ID among {[entry.id for entry in entries]}")
    document: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "version": __version__,
        "date": datetime.datetime.now(datetime.UTC).strftime(DATE),
        "predictions": [entry.to_json() for entry in entries],
    }
    document["sha256"] = _digest(document)
    write_atomically(path, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def replace_predictions(run: Run, predictions: Iterable[Prediction]) -> None:
    """Make ``predictions.json`` in the run's folder that of this run, whatever an earlier run left there.

    With no predictions there is no file afterwards. A file that the user gave to judge by is input and stays as it is.
    Raises as :func:`write_predictions` and :class:`~sensverify.errors.InputError` when the folder cannot be written.
    """
    path, entries = run.directory / PREDICTIONS_NAME, list(predictions)
    given = run.subject.predictions
    if given is not None and given.resolve() == path.resolve():
        return
    if entries:
        write_predictions(path, entries)
    else:
        _remove(path)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            expected=f"to be able to remove {path}, which an earlier run left",
            got=error.strerror or type(error).__name__,
            remedy="check the folder's permissions, or pass another --out",
        ) from error


def load_predictions(path: Path) -> dict[str, Prediction]:
    """The predictions in ``path`` by ID.

    Raises :class:`~sensverify.errors.InputError` for a file that is missing, not of this schema, or edited, and for
    one whose hash fits but whose entries are no predictions or share an ID.
    """
    try:
        document = json.loads(
            path.read_text(encoding="utf-8"),
            parse_float=_as_spelled,
            parse_constant=_no_constant,
            object_pairs_hook=_each_key_once,
        )
        if not isinstance(document, dict) or document.get("schema") != SCHEMA_VERSION:
            _refuse(f"predictions of schema {SCHEMA_VERSION}", f"{path}")
        recorded = document.pop("sha256", None)
        fits = recorded == _digest(document)
    except OSError as error:
        _refuse("a readable predictions.json", f"{path}: {type(error).__name__}")
    except (ValueError, RecursionError) as error:  # ValueError: no UTF-8, no JSON, or refused by a hook
        _refuse("predictions as they were derived, in strict JSON", f"{path}: {error}")
    if not fits:
        _refuse("predictions as they were derived", f"{path}, edited: its hash does not fit its content")
    _check_origin(document, path)
    entries = document.get("predictions")
    if not isinstance(entries, list):
        _refuse("a list of predictions", f"{path} without one")
    predictions: dict[str, Prediction] = {}
    for position, entry in enumerate(entries, 1):
        where = f"{path}: prediction number {position}"
        prediction = _decode(entry, where)
        if prediction.id in predictions:
            _refuse("one prediction for each ID", f"{where}: {prediction.id!r} again")
        predictions[prediction.id] = prediction
    return predictions


def _check_origin(document: dict[str, Any], path: Path) -> None:
    """By which version predictions were made, and that it was before they are used."""
    if not isinstance(document.get("version"), str):
        _refuse("the version that derived the predictions", f"{path}: version {document.get('version')!r}")
    date = document.get("date")
    try:
        made = datetime.datetime.strptime(str(date), DATE).replace(tzinfo=datetime.UTC)
    except ValueError:
        _refuse("the date at which predictions were made", f"{path}: date {date!r}")
    if made > datetime.datetime.now(datetime.UTC) + CLOCKS_DIFFER:
        _refuse("predictions made before what they predict is measured", f"{path}, made {date}")


def _decode(entry: Any, where: str) -> Prediction:
    """One entry of the list, with exactly the fields of a prediction and their types."""
    names = [field.name for field in dataclasses.fields(Prediction)]
    expected = f"predictions with the fields {', '.join(names)}"
    if not isinstance(entry, dict):
        _refuse(expected, f"{where}: {entry!r}"[:300])
    for complaint, keys in (("without", set(names) - set(entry)), ("with unknown", set(entry) - set(names))):
        if keys:
            _refuse(expected, f"{where}: {complaint} {', '.join(sorted(map(repr, keys)))}"[:300])
    for name, value in entry.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (value is None or number if name in ("low", "high") else isinstance(value, str)):
            kind = "a number or null" if name in ("low", "high") else "a text"
            _refuse(f"{kind} as {name} of a prediction", f"{where}: {value!r}"[:300])
    try:
        return Prediction(**entry)
    except (ValueError, OverflowError) as error:  # OverflowError: a whole number beyond all floats
        _refuse("predictions that can be judged", f"{where}: {error}")


def _refuse(expected: str, got: str) -> NoReturn:
    remedy = "use the unedited file, or derive it again with `sensverify verify toy_models --out DIR`"
    raise InputError(expected=expected, got=got, remedy=remedy)


def _as_spelled(text: str) -> float:
    """The number, if this is how it is written: the last of 17 digits can change without changing the number."""
    value = float(text)
    if repr(value) != text:
        raise ValueError(f"edited: the number {text} is written {value!r}")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object, unless a key stands in it twice: one value would be read by people, the other judged by."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError(f"edited: a key given twice among {sorted(key for key, _ in pairs)}")
    return content


def _digest(document: dict[str, Any]) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
