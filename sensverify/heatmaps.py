"""A matrix as coloured cells: how :mod:`sensverify.plots` paints a :class:`~sensverify.exhibits.Heatmap`.

Cells of one colour that lie side by side are one shape, so that a page holds a few hundred rows. Categories take the
page's series colours; numbers take the steps of a scale whose lightness rises with the value, for readers who see no
colours, and are written into the cells where there are few.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from sensverify.exhibits import Heatmap, Table
from sensverify.numerals import number
from sensverify.palette import INK, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEVELS = 24  # colours of a scale
_MOST_CELLS = 200  # a side
_MOST_WRITTEN = 120  # cells with their number written into them


def heatmap_height(exhibit: Heatmap) -> float:
    """The height of the figure in inches: square cells where the matrix is about square."""
    rows, columns = max(1, len(exhibit.values)), max(1, len(exhibit.values[0]) if exhibit.values else 1)
    return max(1.6, 0.9 + 3.4 * min(1.0, min(rows, _MOST_CELLS) / min(columns, _MOST_CELLS)))


def heatmap_table(exhibit: Heatmap, most_rows: int) -> Table:
    """The matrix itself if it is small; else how often each category occurs, or quantiles."""
    cells = np.asarray(exhibit.values, dtype=float)
    width = cells.shape[1] if cells.ndim == 2 else 0
    if len(cells) <= most_rows and width <= most_rows:
        names = exhibit.rows or range(len(cells))
        columns = [exhibit.y_label, *(exhibit.columns or map(str, range(width)))]
        shown = [[exhibit.categories[int(v)] for v in row] if exhibit.categories else row for row in cells.tolist()]
        rows = [[str(name), *row] for name, row in zip(names, shown, strict=True)]
        return Table(title=exhibit.title, caption=exhibit.caption, columns=columns, rows=rows)
    if exhibit.categories:
        counts = [(name, int((cells == i).sum())) for i, name in enumerate(exhibit.categories)]
        rows = [[name, count, count / cells.size] for name, count in counts]
        return Table(title=exhibit.title, caption=exhibit.caption, columns=["value", "cells", "share"], rows=rows)
    finite = cells[np.isfinite(cells)]
    quantiles = np.quantile(finite, [0, 0.25, 0.5, 0.75, 1]).tolist() if len(finite) else ["—"] * 5
    columns = ["cells", "least", "lower quartile", "median", "upper quartile", "greatest"]
    return Table(title=exhibit.title, caption=exhibit.caption, columns=columns, rows=[[cells.size, *quantiles]])


def paint_heatmap(exhibit: Heatmap, figure: Figure, axes: Axes) -> list[str]:
    """Paint the cells, a frame around the outlined ones, and a legend or a scale; returns notes for the reader."""
    from matplotlib.patches import Patch, PathPatch, Rectangle
    from matplotlib.path import Path

    cells = np.asarray(exhibit.values, dtype=float)
    cells = cells if cells.ndim == 2 else np.empty((0, 0))
    notes = [f"Drawn: the first {_MOST_CELLS} of each side."] if max(cells.shape, default=0) > _MOST_CELLS else []
    cells = cells[:_MOST_CELLS, :_MOST_CELLS]
    if exhibit.categories:
        palette, levels = _category_colours(len(exhibit.categories)), cells
    else:
        palette, levels, crosses_zero = _scale_colours(exhibit, cells, figure, axes)
        notes += ["The line on the scale marks 0."] * crosses_zero
    for level, colour in enumerate(palette):
        codes: list[Any] = []
        corners: list[tuple[float, float]] = []
        for y, x, end in _runs(levels == level):
            corners += [(x, y), (end, y), (end, y + 1), (x, y + 1), (x, y)]
            codes += [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
        if corners:
            axes.add_patch(PathPatch(Path(corners, codes), facecolor=colour, linewidth=0, snap=False))
    if cells.size <= _MOST_WRITTEN and not exhibit.categories:
        for (row, column), value in np.ndenumerate(cells):
            if math.isfinite(value):
                dark = levels[row, column] < _LEVELS * 0.55
                text = number(value, 3)
                axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=8,
                          color="#ffffff" if dark else "#000000")  # fmt: skip
    height, width = cells.shape
    axes.set(xlim=(0, max(width, 1)), ylim=(max(height, 1), 0), xlabel=exhibit.x_label, ylabel=exhibit.y_label)
    axes.set_aspect("equal" if 0.5 <= max(width, 1) / max(height, 1) <= 2 else "auto")
    for axis, labels, count in ((axes.xaxis, exhibit.columns, width), (axes.yaxis, exhibit.rows, height)):
        shown = range(count) if 0 < len(labels) <= 24 else range(0, count, _stride(count))
        axis.set_ticks([i + 0.5 for i in shown], [labels[i] if labels else str(i) for i in shown])
    axes.tick_params(length=0)
    if exhibit.outline is not None:
        top, bottom, left, right = (min(end, _MOST_CELLS) for end in exhibit.outline)
        frame = Rectangle(
            (left, top), right - left, bottom - top, fill=False, edgecolor=INK, linewidth=2, clip_on=False
        )
        axes.add_patch(frame)
    if exhibit.categories:
        handles = [Patch(facecolor=c, label=name) for c, name in zip(palette, exhibit.categories, strict=True)]
        longest = max(map(len, exhibit.categories))
        columns = max(1, min(len(handles), 56 // (longest + 5)))
        figure.legend(handles=handles, loc="outside upper left", ncols=columns, columnspacing=1.4, handlelength=1)
        return notes
    return [*(["Empty cells have no finite value."] if not np.isfinite(cells).all() else []), *notes]


def _stride(count: int) -> int:
    """Every how many cells one is named, so that about eight are: a cell's name stands at its middle."""
    return next(step for step in (1, 2, 5, 10, 20, 50) if count <= 8 * step or step == 50)


def _runs(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> Iterator[tuple[int, int, int]]:
    """Row, first column and end column of each run of true cells: far fewer shapes than cells."""
    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(int)))
        for start, end in edges.reshape(-1, 2).tolist():
            yield y, start, end


def _category_colours(count: int) -> list[str]:
    """The page's series colours; for more categories than it has, steps of a scale that colour-blind readers see."""
    if count <= len(SERIES):
        return list(SERIES[:count])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["cividis"](i / (count - 1))) for i in range(count)]


def _scale_colours(
    exhibit: Heatmap, cells: np.ndarray[Any, np.dtype[np.float64]], figure: Figure, axes: Axes
) -> tuple[list[str], np.ndarray[Any, np.dtype[np.float64]], bool]:
    """The colours of a scale and each cell's step on it; draws the scale beside the cells, and whether 0 is inside."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize, to_hex
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    finite = cells[np.isfinite(cells)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if high <= low:
        low, high = low - max(abs(low), 1.0) * 0.05, high + max(abs(high), 1.0) * 0.05
    palette = [to_hex(colormaps["cividis"](i / (_LEVELS - 1))) for i in range(_LEVELS)]
    steps = np.where(np.isfinite(cells), cells, np.nan)
    levels = np.minimum(np.floor((steps - low) / (high - low) * _LEVELS), _LEVELS - 1)
    scale = ScalarMappable(Normalize(low, high), ListedColormap(palette))
    bar = figure.colorbar(scale, ax=axes, label=exhibit.value_label, shrink=0.9, drawedges=False)
    bar.ax.yaxis.set_major_locator(MaxNLocator(5))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    bar.outline.set_visible(False)
    if low < 0 < high:
        bar.ax.axhline(0, color="#ffffff", linewidth=2.4)
        bar.ax.axhline(0, color="#000000", linewidth=0.9)
    return palette, levels, low < 0 < high
