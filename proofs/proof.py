"""Proofs as data: hypotheses and steps, each step checked by machine or the proof is none.

A counterexample to a step makes the statement REFUTED, and is its witness; a step that neither holds nor has one
leaves the statement INCONCLUSIVE. Before any step, everything that was divided by is shown to differ from zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from proofs.steps import NonzeroDivisor, Setting, Step
from proofs.symbolic import GramSpace, reduce
from sensverify.exhibits import Derivation, ProofLine
from sensverify.verdicts import Finding, Status


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proof:
    """A statement with its hypotheses and steps; ``spaces`` are those in which its vectors were computed."""

    title: str
    hypotheses: Sequence[str]
    steps: Sequence[Step]
    setting: Setting = dataclasses.field(default_factory=Setting)
    spaces: Sequence[GramSpace] = ()
    conclusion: str = ""

    def check(self) -> Checked:
        """Decide the steps in order, up to the first that is false.

        After a step that is neither shown nor broken the others are still tried: one may have a counterexample.
        """
        lines = [ProofLine(text=f"Let {text}.", taken="hypothesis") for text in self.hypotheses]
        lines += [ProofLine(text=f"Given that {g.text}.", taken="hypothesis") for g in self.setting.givens]
        status, failed, witness, shown = Status.PROVED, None, None, 0
        if not self.steps:
            status, failed = Status.INCONCLUSIVE, "there is no step"
        elif not self.setting.givens_have_a_model():
            status, failed = Status.INCONCLUSIVE, "the hypotheses were not seen to hold together"
        steps: list[Step] = [*self._divisions(), *self.steps]
        for step in steps:
            decision = step.decide(self.setting)
            lines.append(ProofLine(text=step.text, latex=step.latex, checked_by=decision.how))
            if decision.holds:
                shown += 1
            elif decision.counterexample is not None:
                status, failed, witness = Status.REFUTED, step.text, decision.counterexample
                break
            elif status is Status.PROVED:
                status, failed = Status.INCONCLUSIVE, step.text
        if self.conclusion and status is Status.PROVED:
            lines.append(ProofLine(text=self.conclusion, taken="follows from the lines above"))
        return Checked(proof=self, status=status, lines=lines, steps=shown, failed=failed, witness=witness)

    def _divisions(self) -> list[Step]:
        """One step per different number that a vector was divided by."""
        distinct = dict.fromkeys(reduce(d) for space in self.spaces for d in space.divisors)
        return [NonzeroDivisor(divisor=d) for d in distinct if not d.is_Number or d == 0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """The outcome of checking a proof; ``steps`` counts those that hold."""

    proof: Proof
    status: Status
    lines: Sequence[ProofLine]
    steps: int
    failed: str | None = None
    witness: Mapping[str, Any] | None = None

    def finding(self, evidence: Mapping[str, Any] | None = None) -> Finding:
        """The outcome as a finding, with the derivation as its exhibit."""
        summary: dict[str, Any] = {"proof": f"{self.steps} steps checked by machine", **(evidence or {})}
        witness = None
        if self.failed is not None:
            summary["failed_step"] = self.failed
        if self.status is Status.REFUTED:
            witness = {"false_step": self.failed, **(self.witness or {})}
        return Finding(status=self.status, evidence=summary, witness=witness, exhibits=(self.derivation(),))

    def derivation(self) -> Derivation:
        """The proof as it is shown to a reader."""
        caption = "Every formula was checked by machine, as noted beside it; the words say how they fit together."
        if self.failed is not None:
            caption = f"This is no proof: a line does not hold or was not shown. {self.failed}"
        return Derivation(title=self.proof.title, caption=caption, lines=tuple(self.lines))
