"""The benchmark that is registered under the entry-point group ``sensverify.benchmarks``; the kernel has no model."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sensverify.claims import Progress, silent
from sensverify.errors import MissingExtraError

if TYPE_CHECKING:
    from rich.table import Table

ENTRY_POINT_GROUP, NAME = "sensverify.benchmarks", "effects"
SCHEMA = 1
_OTHERS = {"plain": "plain hooks", "cached": "cached, stopped", "transformer_lens": "TransformerLens"}


def run_benchmark(
    *,
    quick: bool,
    alone: bool,
    seconds: float,
    progress: Progress = silent,
    after_row: Callable[[list[dict[str, Any]]], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Rows of plain JSON; ``after_row`` gets those there are, after each.

    Raises :class:`~sensverify.errors.MissingExtraError` where no benchmark is installed, or what it needs is not.
    """
    found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP, name=NAME)
    if not found:
        raise MissingExtraError(package="a benchmark of effects", extra="lm")
    rows: list[dict[str, Any]] = next(iter(found)).load()(
        quick=quick, alone=alone, seconds=seconds, progress=progress, after_row=after_row
    )
    return rows


def document(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What ``bench --json`` prints."""
    import torch

    from sensverify.report import machine

    about = {**machine(), "threads": torch.get_num_threads(), "dtype": "float32", "seed": 0}
    return {"schema": SCHEMA, "benchmark": "effects", "machine": about, "rows": list(rows)}


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """The rows for a terminal."""
    from rich.table import Table

    shown = Table(
        title="(direction, context) pairs per second, gradient included",
        caption="times: ours over that way of doing it, in one run; floor: share of what the matrix products that "
        "cannot be avoided allow at this machine's rate",
    )
    for column in (
        "case",
        "S",
        "B",
        "context",
        "pairs/s",
        *(f"times {name}" for name in _OTHERS.values()),
        "floor",
        "MB",
    ):
        shown.add_column(column, justify="left" if column == "case" else "right")
    for row in rows:
        measured = [row[f"ratio_{name}"] for name in _OTHERS]
        shown.add_row(
            row["case"],
            *(str(row[name]) for name in ("S", "B", "context")),
            f"{row['pairs_per_s']:,.0f}",
            *("" if ratio is None else f"{ratio:,.0f}" for ratio in measured),
            f"{row['floor_share']:.0%}",
            f"{row['peak_mb']:,.0f}",
        )
    return shown
