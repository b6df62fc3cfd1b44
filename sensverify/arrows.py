"""Vectors from the origin of a plane: how :mod:`sensverify.plots` paints :class:`~sensverify.exhibits.Arrows`.

Both axes have one scale, so that angles and lengths are seen as they are. Groups that lie on top of each other, found
directions on features say, stay visible: each later group is drawn thinner and in other dashes over the earlier ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sensverify.exhibits import Arrows, Table
from sensverify.numerals import number
from sensverify.palette import DASHES, INK, group_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARROWS_HEIGHT = 3.9
"""Inches; the plane is square."""

_MOST_ARROWS = 200  # of a group
_WIDTHS = (3.4, 1.5, 1.1)
_HEAD = 0.065  # length of an arrow's head over half the side of the plane
_DRAWABLE = 1e150  # squares of greater numbers overflow

Points = np.ndarray[Any, np.dtype[np.float64]]


def arrows_table(exhibit: Arrows, most_rows: int) -> Table:
    """At most ``most_rows`` arrows of each group and points of each outline, spread evenly over it."""
    rows: list[list[Any]] = []
    for name, vectors in [*exhibit.groups.items(), *exhibit.outlines.items()]:
        count = len(vectors)
        for i in sorted({round(i) for i in np.linspace(0, count - 1, min(count, most_rows))}) if count else ():
            x, y = map(float, vectors[i])
            angle: Any = math.degrees(math.atan2(y, x)) if math.isfinite(x) and math.isfinite(y) else "—"
            rows.append([name, x, y, math.hypot(x, y), angle])
    columns = ["group", "x", "y", "length", "angle in degrees"]
    return Table(title=exhibit.title, caption=exhibit.caption, columns=columns, rows=rows)


def paint_arrows(exhibit: Arrows, figure: Figure, axes: Axes) -> list[str]:
    """Paint outlines, unit circle and arrows to one scale, with a legend; returns notes for the reader."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    groups = {name: _points(vectors) for name, vectors in exhibit.groups.items()}
    outlines = {name: _points(points) for name, points in exhibit.outlines.items()}
    kept = {name: points[_drawable(points)][:_MOST_ARROWS] for name, points in groups.items()}
    half = _half_side([*kept.values(), *(p[_drawable(p)] for p in outlines.values())], exhibit.unit_circle)
    axes.axhline(0, color=INK, linewidth=0.5, alpha=0.35)
    axes.axvline(0, color=INK, linewidth=0.5, alpha=0.35)
    if exhibit.unit_circle:
        turn = np.linspace(0, 2 * np.pi, 181)
        axes.plot(np.cos(turn), np.sin(turn), color=INK, linestyle=(0, (4, 2)), linewidth=0.8)
    handles: list[Line2D] = []
    styles = group_styles([*groups, *outlines])
    for name, points in outlines.items():  # below the arrows
        style: dict[str, Any] = {"color": styles[name][0], "linestyle": "-", "linewidth": 1.3}
        closed = np.concatenate([points, points[:1]])
        axes.plot(*np.where(_drawable(closed)[:, None], closed, np.nan).T, **style)
        handles.append(Line2D([], [], label=name, **style))
    for i, (name, vectors) in enumerate(kept.items()):
        width = _WIDTHS[min(i, len(_WIDTHS) - 1)]
        style = {"color": styles[name][0], "linestyle": DASHES[i % len(DASHES)], "linewidth": width}
        _paint_group(vectors, style, _HEAD * half * (1.25 if i == 0 else 1.0), axes)
        handles.insert(i, Line2D([], [], label=name, **style))
    axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    if handles:  # even one group has a name that the picture does not tell otherwise
        columns = max(1, min(len(handles), 56 // (max(len(str(handle.get_label())) for handle in handles) + 7)))
        figure.legend(handles=handles, loc="outside upper left", ncols=columns, columnspacing=1.4)
    return _notes(exhibit, groups, outlines)


def _notes(exhibit: Arrows, groups: dict[str, Points], outlines: dict[str, Points]) -> list[str]:
    drawable = {name: int(_drawable(points).sum()) for name, points in [*groups.items(), *outlines.items()]}
    lost = sum(len(points) - drawable[name] for name, points in [*groups.items(), *outlines.items()])
    notes = [f"Not drawn: {number(lost)} vector{'s' * (lost != 1)} not finite or too large."] if lost else []
    if any(drawable[name] > _MOST_ARROWS for name in groups):
        notes.append(f"Drawn: the first {_MOST_ARROWS} of each group.")
    if exhibit.unit_circle:
        notes.append("The dashed circle has radius 1.")
    return notes


def _paint_group(vectors: Points, style: dict[str, Any], head: float, axes: Axes) -> None:
    """All shafts of a group as one line and all heads as one shape; a vector of length 0 is a dot."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    lengths = np.hypot(*vectors.T)
    shafts: list[tuple[float, float]] = []
    corners: list[Any] = []
    for vector, length in zip(vectors[lengths > 0], lengths[lengths > 0], strict=True):
        along = vector / length
        across = np.array([-along[1], along[0]])
        base = vector - min(head, float(length)) * along
        # The shaft ends inside the head: a wide one that went to the tip would blunt it.
        shafts += [(0.0, 0.0), tuple((base + 0.3 * (vector - base)).tolist()), (math.nan, math.nan)]
        corners += [vector, base + 0.45 * head * across, base - 0.45 * head * across, vector]
    if shafts:
        axes.plot(*np.array(shafts).T, **style, solid_capstyle="butt", dash_capstyle="butt")
        codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * (len(corners) // 4)
        axes.add_patch(PathPatch(Path(corners, codes), facecolor=style["color"], linewidth=0, zorder=2))
    if (lengths == 0).any():
        axes.plot([0.0], [0.0], "o", color=style["color"], markersize=2 + style["linewidth"])


def _points(vectors: Sequence[tuple[float, float]]) -> Points:
    return np.asarray(vectors, dtype=np.float64).reshape(-1, 2)


def _drawable(points: Points) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which points have a place in a picture; comparisons with NaN are false."""
    return np.asarray((np.abs(points) < _DRAWABLE).all(axis=1), dtype=np.bool_)


def _half_side(shown: Sequence[Points], unit_circle: bool) -> float:
    """Half the side of the square that holds everything, with a margin; 1 when there is nothing to hold."""
    reach = max([float(np.abs(points).max()) for points in shown if len(points)], default=0.0)
    return 1.08 * max(reach, 1.0 if unit_circle else 0.0) or 1.0
