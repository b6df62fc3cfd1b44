"""A search by hypothesis for a case that breaks a law, shrunk to the smallest one found.

Finding none proves nothing. It is a search with a fixed seed, part of every ``verify`` and longer in the full profile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import hypothesis
from hypothesis import strategies as st

from sensverify.claims import Run

T = TypeVar("T")
Witness = Mapping[str, Any]
EXAMPLES = {"quick": 40, "full": 600}


class _LawBrokenError(Exception):
    """Tells hypothesis that this case breaks a law."""


def hunt(run: Run, cases: st.SearchStrategy[T], failure: Callable[[T], Witness | None]) -> Witness | None:
    """What ``failure`` says of the smallest case found for which it is not None; None if there was no such case.

    A check that raises is a defect of the check, not a broken law: the exception passes through.
    """
    found: Witness | None = None

    @hypothesis.seed(run.seed)
    @hypothesis.settings(
        max_examples=EXAMPLES[run.profile],
        database=None,  # the seed alone decides what is tried
        deadline=None,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=list(hypothesis.HealthCheck),
        report_multiple_bugs=False,
        verbosity=hypothesis.Verbosity.quiet,
    )
    @hypothesis.given(cases)
    def every_law_holds(case: T) -> None:
        nonlocal found
        broken = failure(case)
        if broken is not None:
            found = broken  # the last one that hypothesis runs is the smallest
            raise _LawBrokenError

    try:
        every_law_holds()
    except _LawBrokenError:
        return found
    return None
