"""Where a proof ends without a verdict: a step that nothing finite decides, and a refutation that refutes nothing.

- :class:`Judgement`: a step whose check may answer "not shown";
- :func:`only_if_contradicted`: numbers that break one step of an argument do not refute the statement by themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from proofs.proof import Checked
from proofs.steps import Decision, Setting
from sensverify.verdicts import Status


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judgement:
    """A step that a function decides: it holds, has a counterexample, or is left open."""

    text: str
    judge: Callable[[], Decision]
    latex: str = ""

    def decide(self, setting: Setting) -> Decision:
        """What the function says."""
        return self.judge()


def only_if_contradicted(checked: Checked) -> Checked:
    """INCONCLUSIVE in place of REFUTED if an algebraic step broke, but nothing concrete contradicts the statement.

    The concrete thing is what the setting's ``realise`` adds to the numbers (``"at"``): with a ``"said"`` in it, it
    contradicts what was said; without, the argument failed and the statement may hold all the same.
    """
    witness = checked.witness
    if checked.status is Status.REFUTED and witness is not None and "at" in witness and "said" not in witness:
        return dataclasses.replace(checked, status=Status.INCONCLUSIVE, witness=None)
    return checked
