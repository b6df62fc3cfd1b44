"""What is known of ``N(k) = 3R(k, k) − 2``, with the source of every bound, and what of it is shown here.

Lower bounds "shown here" come from graphs whose cliques and independent sets were searched exactly; upper bounds from
the recursion with the parity step (RA-2). The others are literature: they are quoted, not checked.

Sources: Greenwood and Gleason 1955; Kalbfleisch 1965; Shearer 1986; Exoo 1989; Angeltveit and McKay 2024; Radziszowski,
Small Ramsey Numbers, Electronic Journal of Combinatorics, dynamic survey DS1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from proofs.colourings import clique_number, complement, paley
from proofs.ramsey import parity_bound
from sensverify.claims import Run
from sensverify.exhibits import Table

SURVEY = "Radziszowski's survey"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Known:
    """Literature on ``R(k, k)``: ``lower ≤ R(k, k) ≤ upper``; None where no upper bound is quoted."""

    lower: int
    lower_source: str
    upper: int | None = None
    upper_source: str = ""


LITERATURE: Mapping[int, Known] = {
    2: Known(lower=2, lower_source="a point", upper=2, upper_source="a pair"),
    3: Known(lower=6, lower_source="the 5-cycle", upper=6, upper_source="all graphs on 6 points"),
    4: Known(lower=18, lower_source="Paley 17 (Greenwood, Gleason 1955)", upper=18, upper_source="the same, parity"),
    5: Known(lower=43, lower_source="Exoo 1989", upper=46, upper_source="Angeltveit, McKay 2024"),
    6: Known(lower=102, lower_source="Paley 101 (Kalbfleisch 1965)", upper=160, upper_source=SURVEY),
    7: Known(lower=205, lower_source="Paley 101 doubled (Shearer 1986)", upper=492, upper_source=SURVEY),
    8: Known(lower=282, lower_source="Paley 281", upper=1518, upper_source=SURVEY),
    9: Known(lower=565, lower_source="Paley 281 doubled (Shearer 1986)", upper=4956, upper_source=SURVEY),
    10: Known(lower=798, lower_source="Paley 797 (Shearer 1986)", upper=16064, upper_source=SURVEY),
}
COLUMNS = ("k", "R(k,k)", "N(k)", "N(k), shown here", "lower bound from", "upper bound from")


def searched_here(run: Run) -> dict[int, int]:
    """Lower bounds on ``R(k, k)`` from Paley's graphs, searched exactly; the largest in the full profile only."""
    graphs = {2: 1, 3: 5, 4: 17, 5: 37, **({8: 281} if run.profile == "full" else {})}
    bounds = {}
    for k, q in graphs.items():
        run.progress("exact search in Paley's graphs", k - 2, 7)
        graph = paley(q) if q > 1 else np.zeros((1, 1), dtype=bool)
        if max(clique_number(graph), clique_number(complement(graph))) < k:
            bounds[k] = q + 1
    run.progress("exact search in Paley's graphs", 7, 7)
    return bounds


def known_values(shown: Mapping[int, int]) -> Table:
    """The table for ``k = 2, …, 10``; ``shown`` has the lower bounds on ``R(k, k)`` that were searched here."""
    rows: list[tuple[Any, ...]] = []
    for k, known in LITERATURE.items():
        proved = parity_bound(k, k)
        upper, source = (known.upper, known.upper_source) if known.upper else (proved, "the recursion of RA-2")
        lower_here = max((number for size, number in shown.items() if size <= k), default=1)
        rows.append(
            (
                k,
                _interval(known.lower, upper),
                _interval(3 * known.lower - 2, 3 * upper - 2),
                _interval(3 * lower_here - 2, 3 * proved - 2),
                known.lower_source,
                source,
            )
        )
    return Table(
        title="What is known of the threshold",
        caption="$N(k) = 3R(k,k)-2$. Shown here: lower bounds by exact search in graphs, upper bounds by the recursion "
        "with the parity step; the rest is literature, quoted and not checked.",
        columns=COLUMNS,
        rows=rows,
    )


def _interval(low: int, high: int) -> str:
    return str(low) if low == high else f"{low:,} to {high:,}"
