"""The entries of a report's page: each claim's record joined with what is drawn beside it.

Both JSON files may have been edited, or come from elsewhere: anything that we would not write is refused by name before
a page is made of it. What an earlier claim has shown already is referred to.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sensverify import exhibits, plots
from sensverify.errors import MissingExtraError
from sensverify.plain_data import decode
from sensverify.repeats import Reference
from sensverify.repeats import Shown as Seen
from sensverify.verdicts import REFUTED_BY_MEASUREMENT, REFUTED_EXACTLY, Status

VERDICTS, EXHIBITS = "verdicts.json", "exhibits.json"
ABOUT_MODELS, SHIPPED = "pythia", "embedded"
"""The suite whose verdicts depend on the run's model, and the model that they are expected of."""
SHIPPED_KEY = "shipped_model"
"""The key of the environment that says whether the run was about that model."""
_BELOW_FLOATS = "below 10⁻³⁰⁰"
_SHOWN_APART = ("reason", "remedy", "false_twins_refuted")
_CLAIM_KEYS: dict[str, type | tuple[type, ...]] = {
    "id": str, "suite": str, "statement": str, "source": str, "status": str, "expected": str,
    "evidence": dict, "witness": (dict, type(None)), "seed": int, "seconds": (int, float),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown:
    """An exhibit to lay out; a plot has its numbers in ``table`` and, with matplotlib, its ``drawing``."""

    uid: str
    exhibit: exhibits.Exhibit
    drawing: plots.Drawing | None
    table: exhibits.Table | None
    remedy: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A claim as the page shows it: its record, and what ``exhibits.json`` adds.

    ``evidence`` is what is folded below the figures; reasons, remedies, twins and predictions have places of their own.
    ``facts_before`` and ``shown_before`` lead to evidence and figures that an earlier claim has shown. ``elsewhere``:
    the verdict is expected of another model than the run's.
    """

    record: Mapping[str, Any]
    anchor: str
    formula: str
    hypotheses: tuple[str, ...]
    shown: tuple[Shown, ...]
    judged: tuple[exhibits.JudgedPrediction, ...]
    evidence: Mapping[str, Any]
    facts_before: tuple[Reference, ...]
    shown_before: tuple[Reference, ...]
    elsewhere: bool

    @property
    def measured(self) -> bool:
        """Whether a prediction that came out wrong is what refutes the claim."""
        return self.status is Status.REFUTED and any(row.outcome == "outside" for row in self.judged)

    @property
    def meaning(self) -> str:
        """What the verdict says of this claim."""
        if self.status is not Status.REFUTED:
            return self.status.meaning
        return REFUTED_BY_MEASUREMENT if self.measured else REFUTED_EXACTLY

    @property
    def alarming(self) -> bool:
        """Whether it differs and should not: what another model does differently is a finding, an error is none."""
        return self.differs and (not self.elsewhere or self.status is Status.ERROR)

    @property
    def status(self) -> Status:
        """What the run came to."""
        return Status(self.record["status"])

    @property
    def expected(self) -> Status:
        """What it was expected to come to."""
        return Status(self.record["expected"])

    @property
    def as_expected(self) -> bool:
        """Whether both are the same."""
        return self.status is self.expected

    @property
    def differs(self) -> bool:
        """Whether something else was concluded than expected."""
        return self.status.differs_from(self.expected)


def entries(verdicts: Mapping[str, Any], shown: Mapping[str, Any]) -> list[Entry]:
    """The claims of both documents, joined. Raises ``ValueError`` for anything that we would not write."""
    records, extra, drawn = verdicts.get("claims"), shown.get("claims"), shown.get("exhibits")
    if not isinstance(records, list) or not isinstance(verdicts.get("environment"), dict):
        raise ValueError(f"no list of claims with an environment in {VERDICTS}")
    if not isinstance(extra, dict) or not isinstance(drawn, dict):
        raise ValueError(f"no formulas and exhibits by claim in {EXHIBITS}")
    made: list[Entry] = []
    before, shipped = Seen(), is_shipped(verdicts["environment"])
    for position, record in enumerate(records):
        _check_record(record, position)
        identity = record["id"]
        about = extra.get(identity, {"formula": "", "hypotheses": []})
        if not isinstance(about, dict) or not isinstance(about.get("formula"), str):
            raise ValueError(f"no formula of claim {identity} in {EXHIBITS}")
        hypotheses = about.get("hypotheses")
        if not isinstance(hypotheses, list) or not all(isinstance(item, str) for item in hypotheses):
            raise ValueError(f"no hypotheses of claim {identity} in {EXHIBITS}")
        items = drawn.get(identity, [])
        if not isinstance(items, list):
            raise ValueError(f"no list of exhibits of claim {identity} in {EXHIBITS}")
        anchor = re.sub(r"[^A-Za-z0-9._-]+", "-", identity) or str(position)
        if any(anchor == entry.anchor for entry in made):
            anchor = f"{anchor}-{position}"
        figures: list[Shown] = []
        shown_before: list[Reference] = []
        for index, item in enumerate(items, 1):
            exhibit = exhibits.from_json(item)
            where = before.figure(identity, f"figure-{anchor}-{index}", item)
            if where is None:
                figures.append(lay_out(exhibit, anchor=anchor, index=index))
            else:
                shown_before.append(where)
        judged = _judged(record["evidence"])
        apart = {*_SHOWN_APART, *((exhibits.JUDGED,) if judged else ())}
        facts = {key: _no_zero(key, item) for key, item in record["evidence"].items() if key not in apart}
        new, facts_before = before.evidence(identity, f"evidence-{anchor}", facts)
        entry = Entry(
            record=record,
            anchor=anchor,
            formula=about["formula"],
            hypotheses=tuple(hypotheses),
            shown=tuple(figures),
            judged=judged,
            evidence=new,
            facts_before=facts_before,
            shown_before=tuple(shown_before),
            elsewhere=not shipped and record["suite"] == ABOUT_MODELS,
        )
        made.append(entry)
    return made


def is_shipped(environment: Mapping[str, Any]) -> bool:
    """Whether the run was about the shipped model. A folder may have the same name: what the run was given decides.

    Records without the key tell no more than the name. Raises ``ValueError`` for a key that is neither true nor false.
    """
    told = environment.get(SHIPPED_KEY, environment.get("model") in (None, SHIPPED))
    if not isinstance(told, bool):
        raise ValueError(f"{SHIPPED_KEY} of the environment is {told!r}"[:200])
    return told


def _no_zero(key: str, item: Any) -> Any:
    """``item``, where ``key`` says that it holds p-values, without zeros: a chance is smaller than floats go, not 0."""
    if key != "p" and not key.startswith("p_"):
        return item
    if isinstance(item, dict):
        return {name: _no_zero(key, value) for name, value in item.items()}
    return _BELOW_FLOATS if isinstance(item, float) and item == 0 else item


def _judged(evidence: Mapping[str, Any]) -> tuple[exhibits.JudgedPrediction, ...]:
    """The predictions under their key of the evidence; none if anything else stands there, which is shown as it is."""
    try:
        rows = decode(evidence.get(exhibits.JUDGED, ()), Sequence[exhibits.JudgedPrediction], exhibits.JUDGED)
    except ValueError:
        return ()
    return tuple(rows)


def _check_record(record: Any, position: int) -> None:
    if not isinstance(record, dict) or set(record) != set(_CLAIM_KEYS):
        raise ValueError(f"claim number {position + 1} has not the keys {', '.join(_CLAIM_KEYS)}")
    for key, kind in _CLAIM_KEYS.items():
        if not isinstance(record[key], kind) or isinstance(record[key], bool):
            raise ValueError(f"{key} of claim number {position + 1} is {record[key]!r}"[:200])
    for key in ("status", "expected"):
        if record[key] not in set(Status):
            raise ValueError(f"{key} of {record['id']} is {record[key]!r}, none of {', '.join(Status)}")


def lay_out(exhibit: exhibits.Exhibit, *, anchor: str, index: int) -> Shown:
    """An exhibit for the macros of the templates: a plot if it can be drawn here, its numbers either way."""
    drawing, remedy, uid = None, None, f"plot-{anchor}-{index}"
    try:
        drawing = plots.draw(exhibit, uid=uid)
    except MissingExtraError as error:
        remedy = error.remedy
    return Shown(
        uid=uid.removeprefix("plot-"), exhibit=exhibit, drawing=drawing, table=plots.as_table(exhibit), remedy=remedy
    )
