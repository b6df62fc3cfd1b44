"""The colours of figures: Okabe and Ito's, which colour-blind readers can tell apart, and two stand-ins.

The stand-ins are exchanged for the page's own ink and rule colour when a figure is put on it; the series have page
colours too, one for a light page and one for a dark one. A group of directions has one colour and one kind of line
wherever it is drawn, so that a reader need not learn it again in every plot.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

INK, RULE = "#010203", "#040506"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#b0619a", "#a67c00", "#5f6773", "#9e2a2b")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1)))

Style = tuple[str, Any]
"""A colour and matplotlib's name of a kind of line."""

GROUP_STYLES: dict[str, Style] = {
    "found": (SERIES[0], DASHES[0]),
    "feature": (SERIES[2], DASHES[0]),
    "features": (SERIES[2], DASHES[0]),
    "negated": (SERIES[0], DASHES[1]),
    "SAE": (SERIES[1], DASHES[1]),
    "PCA": (SERIES[2], DASHES[3]),
    "shuffled model": (SERIES[3], DASHES[4]),
    "peak": (SERIES[4], DASHES[0]),
    "random": (SERIES[5], DASHES[2]),
    "concentration": (SERIES[6], DASHES[3]),
}


def group_of(name: str) -> str | None:
    """The group that ``name`` is of: itself, or its first words, as in "found / random" and "SAE, layer 2"."""
    fits = [
        group for group in GROUP_STYLES if name == group or (name.startswith(group) and not name[len(group)].isalnum())
    ]
    return max(fits, key=len, default=None)


def group_styles(names: Iterable[str]) -> dict[str, Style]:
    """A style for each of ``names``, no two alike while there are enough: that of a known group is always the same.

    A name that starts with a group's takes its colour, with another kind of line where both stand in one plot; any
    other name takes the first colour that none of the plot's groups has.
    """
    names = list(dict.fromkeys(names))
    chosen = {name: GROUP_STYLES[name] for name in names if name in GROUP_STYLES}
    for name in names:
        group = group_of(name)
        if name not in chosen and group is not None:
            colour, own = GROUP_STYLES[group]
            chosen[name] = _free([(colour, dashes) for dashes in (own, *DASHES)], chosen.values())
    others = [name for name in names if name not in chosen]
    taken = {colour for colour, _ in chosen.values()}
    colours = [colour for colour in SERIES if colour not in taken] or list(SERIES)
    for i, name in enumerate(others):
        first = i + i // len(colours)  # the second round of colours starts with another kind of line
        dashes = [DASHES[(first + j) % len(DASHES)] for j in range(len(DASHES))]
        chosen[name] = _free([(colours[i % len(colours)], kind) for kind in dashes], chosen.values())
    return {name: chosen[name] for name in names}


def _free(candidates: list[Style], taken: Iterable[Style]) -> Style:
    used = list(taken)
    return next((style for style in candidates if style not in used), candidates[0])
