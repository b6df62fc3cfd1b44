"""From claim to verdict: run the check, then make the checker prove that it can fail.

A crash is ERROR, never REFUTED. A checker that accepts one of its own false twins is ERROR too: whatever it
said about the claim is worth nothing. Where it leaves a twin undecided, on a small sample say, it lacks the power to
refute a statement known to be false, and so to decide the claim: INCONCLUSIVE.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast

from sensverify.claims import Claim, Run, Suite, resolve
from sensverify.errors import InputError, Interrupted, MissingExtraError
from sensverify.verdicts import Finding, Status, Verdict
from sensverify.workers import Work, side_by_side

Item = TypeVar("Item")
Result = TypeVar("Result")


def preflight(selection: Sequence[tuple[str, Claim]], run: Run) -> None:
    """Let every selected claim refuse bad input before anything runs or is written.

    Raises :class:`~sensverify.errors.InputError`. A missing optional package is no bad input: it makes the
    claim SKIPPED later, with the line that installs it.
    """
    for reference in dict.fromkeys(claim.preflight for _, claim in selection if claim.preflight):
        try:
            resolve(reference)(run)
        except MissingExtraError:
            continue


def run_claims(selection: Sequence[tuple[str, Claim]], suites: dict[str, Suite], run: Run) -> Generator[Verdict]:
    """Yield a verdict per selected claim, in order, concluding each suite after its last claim.

    Call :func:`preflight` first. Raises what :func:`run_claim` raises.
    """
    for name, group in itertools.groupby(selection, key=lambda pair: pair[0]):
        suite, decided = suites[name], []
        # closed, not left to the garbage collector: whatever runs has ended when the caller's exception is handled
        decisions = _each(suite, functools.partial(run_claim, suite=name), [claim for _, claim in group], run, _module)
        with contextlib.closing(decisions):
            for verdict in decisions:
                decided.append(verdict)
                yield verdict
        if suite.conclude is not None:
            with contextlib.closing(_each(suite, resolve(suite.conclude), [decided], run, id)) as conclusions:
                (run.conclusions[name],) = conclusions


def _each(
    suite: Suite, work: Work[Item, Result], items: Sequence[Item], run: Run, kind: Callable[[Item], object]
) -> Generator[Result]:
    if suite.side_by_side:
        yield from side_by_side(work, items, run, kind=kind)
    else:
        yield from (work(item, run=run) for item in items)


def _module(claim: Claim) -> str:
    """Claims whose checks are in one module share what they are decided by."""
    return claim.check.partition(":")[0]


def run_claim(claim: Claim, suite: str, run: Run) -> Verdict:
    """Decide one claim and test its checker on the claim's false twins.

    Raises :class:`~sensverify.errors.InputError` (the user's to mend) and
    :class:`~sensverify.errors.Interrupted`; every other exception becomes an ERROR verdict.
    """
    start = time.perf_counter()
    try:
        finding = _with_twins(claim, cast(Finding, resolve(claim.check)(run)), run)
    except (InputError, Interrupted):
        raise
    except MissingExtraError as error:
        finding = Finding(status=Status.SKIPPED, evidence={"reason": str(error), "remedy": error.remedy})
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        finding = Finding(
            status=Status.ERROR,
            evidence={
                "reason": f"{type(error).__name__}: {error}",
                # the file's name alone: the folders above it are nobody's business
                "where": f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}",
            },
        )
    return Verdict(
        claim=claim.at(run.profile), suite=suite, finding=finding, seed=run.seed, seconds=time.perf_counter() - start
    )


def _with_twins(claim: Claim, finding: Finding, run: Run) -> Finding:
    """``finding`` with the fate of each false twin in its evidence, if all were refuted.

    ERROR if one was accepted, or its check failed; what is PROVED has to refute all of them. Else INCONCLUSIVE if one
    was left undecided. A checker that concluded nothing about the claim is not asked about the twins: its reason is
    what matters.
    """
    if not claim.false_twins or finding.status in (Status.SKIPPED, Status.ERROR, Status.INCONCLUSIVE):
        return finding
    fates = {twin.statement: cast(Finding, resolve(twin.check)(run)).status for twin in claim.false_twins}
    open_fates = {statement: fate for statement, fate in fates.items() if fate is not Status.REFUTED}
    if not open_fates:
        return dataclasses.replace(finding, evidence={**finding.evidence, "false_twins_refuted": list(fates)})
    not_refuted = {statement: fate.value for statement, fate in open_fates.items()}
    undecided = all(fate in (Status.INCONCLUSIVE, Status.SKIPPED) for fate in open_fates.values())
    if finding.status is Status.PROVED or not undecided:
        return Finding(
            status=Status.ERROR,
            evidence={"reason": "the checker does not refute a false statement", "not_refuted": not_refuted},
        )
    return _withheld(finding, not_refuted)


def _withheld(finding: Finding, not_refuted: Mapping[str, str]) -> Finding:
    """``finding`` as INCONCLUSIVE, with all that was measured, since a false statement could not be refuted here."""
    named = "; ".join(f"“{statement}” is {fate}" for statement, fate in not_refuted.items())
    evidence = {
        **finding.evidence,
        "reason": f"the checker did not have the power to refute a false statement here: {named}",
        "not_refuted": dict(not_refuted),
        "without_twins": finding.status.value,
    }
    if finding.witness is not None:
        evidence["witness_without_twins"] = finding.witness
    return Finding(status=Status.INCONCLUSIVE, evidence=evidence, exhibits=finding.exhibits)
