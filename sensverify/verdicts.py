"""What a check may conclude, and how it is written down.

A check returns a :class:`Finding`; the runner adds seed and time and makes it a :class:`Verdict`.
``REFUTED`` always carries a witness: an object that can be re-checked by itself, or what was measured and predicted.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sensverify.claims import Claim
    from sensverify.exhibits import Exhibit

SCHEMA_VERSION = 1


class Status(enum.StrEnum):
    """The six words a verdict may use."""

    PROVED = "PROVED"
    SUPPORTED = "SUPPORTED"
    REFUTED = "REFUTED"
    INCONCLUSIVE = "INCONCLUSIVE"
    SKIPPED = "SKIPPED"
    ERROR = "ERROR"

    @property
    def meaning(self) -> str:
        """One sentence for the reader of a report."""
        return _MEANINGS[self]

    def differs_from(self, expected: Status) -> bool:
        """Whether something else was concluded than expected; SKIPPED concludes nothing."""
        return self is not expected and self is not Status.SKIPPED


_MEANINGS = {
    Status.PROVED: "Every step was checked by machine, symbolically or by certificate.",
    Status.SUPPORTED: "Tested with the draws, seeds and intervals given; not proved.",
    Status.REFUTED: "False as stated; the witness attached says why.",
    Status.INCONCLUSIVE: "The evidence does not decide it.",
    Status.SKIPPED: "Not run; the reason is given.",
    Status.ERROR: "The check itself failed; nothing is known about the claim.",
}

REFUTED_EXACTLY = "False as stated: the attached witness can be re-checked by itself."
REFUTED_BY_MEASUREMENT = (
    "False of what was measured: the whole interval lies outside what was predicted. To check it, measure again."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check concludes, before the runner adds seed and time.

    ``evidence`` and ``witness`` hold plain JSON values. Raises ``ValueError`` for a refutation without
    a witness and for a witness on anything else: neither could be re-checked.
    """

    status: Status
    evidence: Mapping[str, Any]
    witness: Mapping[str, Any] | None = None
    exhibits: tuple[Exhibit, ...] = ()

    def __post_init__(self) -> None:
        if (self.status is Status.REFUTED) != (self.witness is not None):
            raise ValueError(f"a finding has a witness exactly when it is REFUTED, got {self.status}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """A finding about a named claim, as it is reported."""

    claim: Claim
    suite: str
    finding: Finding
    seed: int
    seconds: float

    @property
    def status(self) -> Status:
        """The status word of the finding."""
        return self.finding.status

    @property
    def as_expected(self) -> bool:
        """Whether the status is the one that the claim's author expected.

        PROVED where SUPPORTED was expected is not "as expected": it should be looked at and recorded.
        """
        return self.status is self.claim.expected

    @property
    def differs(self) -> bool:
        """Whether something else was concluded than expected; a claim that was SKIPPED concludes nothing."""
        return self.status.differs_from(self.claim.expected)

    def to_json(self) -> dict[str, Any]:
        """The claim's entry in ``verdicts.json`` (schema 1)."""
        return {
            "id": self.claim.id,
            "suite": self.suite,
            "statement": self.claim.statement,
            "source": self.claim.source,
            "status": self.status.value,
            "expected": self.claim.expected.value,
            "evidence": to_plain(self.finding.evidence),
            "witness": to_plain(self.finding.witness),
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
        }


def to_plain(value: Any) -> Any:
    """``value`` with tuples as lists, enums as words and non-finite floats as strings, for strict JSON."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "item") and not getattr(value, "shape", ()):  # a numpy or torch scalar
        return to_plain(value.item())
    raise TypeError(f"evidence holds plain JSON values, got {type(value).__name__}: {value!r}")
