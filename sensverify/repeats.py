"""What several claims of one run share, shown once: the configuration of the run, a table that they all rest on.

Claims about one model carry the same facts in their evidence, since each entry of the record stands by itself. On a
page that is read from top to bottom the second time is a reference to the first.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

LEAST = 5
"""So many facts that two claims share are referred to; fewer are as quickly read again."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
    """Where something stands: the claim, the place on the page, and what it is called there."""

    claim: str
    fragment: str
    names: tuple[str, ...]


class Shown:
    """What the page has shown so far."""

    def __init__(self) -> None:
        self._facts: dict[tuple[str, str], tuple[str, str]] = {}
        self._figures: dict[str, Reference] = {}

    def evidence(
        self, claim: str, fragment: str, evidence: Mapping[str, Any]
    ) -> tuple[dict[str, Any], tuple[Reference, ...]]:
        """What of ``evidence`` is new, or too little to refer to; and where the rest was shown."""
        keys = {name: (name, json.dumps(item, sort_keys=True)) for name, item in evidence.items()}
        before: dict[tuple[str, str], list[str]] = {}
        for name, key in keys.items():
            if key in self._facts:
                before.setdefault(self._facts[key], []).append(name)
        before = {place: names for place, names in before.items() if len(names) >= LEAST}
        gone = {name for names in before.values() for name in names}
        for name, key in keys.items():
            if name not in gone:
                self._facts.setdefault(key, (claim, fragment))
        references = tuple(Reference(claim=c, fragment=f, names=tuple(names)) for (c, f), names in before.items())
        return {name: item for name, item in evidence.items() if name not in gone}, references

    def figure(self, claim: str, fragment: str, exhibit: Mapping[str, Any]) -> Reference | None:
        """Where the same exhibit was shown; if nowhere, it is noted as shown at ``fragment``."""
        key = json.dumps(exhibit, sort_keys=True)
        if key in self._figures:
            return self._figures[key]
        self._figures[key] = Reference(claim=claim, fragment=fragment, names=(str(exhibit.get("title", "")),))
        return None
