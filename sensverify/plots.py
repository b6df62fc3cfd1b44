"""Exhibits as inline SVG: small figures that are read at 340 pixels, on a light page and on a dark one.

Text stays text and takes the page's font and colour; series take the page's ``--series-N`` colours (Okabe and
Ito's, which colour-blind readers can tell apart) and differ in dashes too. The same exhibit gives the same
bytes. matplotlib is optional: :func:`draw` raises :class:`~sensverify.errors.MissingExtraError` without it,
:func:`as_table` gives the same data in words and numbers.
"""

from __future__ import annotations

import dataclasses
import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree as ET

import numpy as np
from markupsafe import Markup

from sensverify.arrows import ARROWS_HEIGHT, arrows_table, paint_arrows
from sensverify.errors import MissingExtraError
from sensverify.exhibits import Arrows, Curve, Exhibit, Heatmap, Histogram, Intervals, Table
from sensverify.heatmaps import heatmap_height, heatmap_table, paint_heatmap
from sensverify.numerals import number
from sensverify.palette import INK as _INK
from sensverify.palette import RULE as _RULE
from sensverify.palette import SERIES as _SERIES
from sensverify.palette import group_of, group_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 4.6, 2.9  # inches; shown 340 pixels wide, 9 pt is 9 pixels
_Y_LABEL = 28  # letters that fit beside the axis when a legend stands above it
_PAGE_COLOURS = {
    _INK: "currentColor",
    _RULE: "var(--rule, #8884)",
    **{colour: f"var(--series-{i}, {colour})" for i, colour in enumerate(_SERIES, 1)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _RULE,
    "grid.linewidth": 0.6,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "font.size": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.6,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing:
    """An SVG element, and sentences on what it marks or leaves out."""

    svg: Markup
    notes: tuple[str, ...]


def draw(exhibit: Exhibit, *, uid: str) -> Drawing | None:
    """``exhibit`` as SVG whose ids all start with ``uid``; ``None`` for the kinds that are no plots.

    Raises :class:`~sensverify.errors.MissingExtraError` without matplotlib.
    """
    paint, height = _painter(exhibit)
    if paint is None:
        return None
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(package="matplotlib", extra="plots") from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a reader's own style file must not change a report
        matplotlib.rcParams.update({**_STYLE, "svg.hashsalt": uid})
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        notes = paint(figure, figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    label = f"{exhibit.title}. {exhibit.caption}"
    return Drawing(svg=_inline(buffer.getvalue(), uid=uid, label=label), notes=tuple(notes))


def as_table(exhibit: Exhibit, *, most_rows: int = 12) -> Table | None:
    """What a plot shows, in numbers: quantiles of a histogram, at most ``most_rows`` points of a curve or
    arrows of a group.

    ``None`` for the kinds that are no plots.
    """
    title, caption = exhibit.title, exhibit.caption
    if isinstance(exhibit, Histogram):
        columns = ["group", "n", "least", "lower quartile", "median", "upper quartile", "greatest"]
        rows: list[list[Any]] = []
        for name, values in exhibit.groups.items():
            finite = _finite(values)
            quartiles = np.quantile(finite, [0, 0.25, 0.5, 0.75, 1]).tolist() if len(finite) else ["—"] * 5
            rows.append([name, len(values), *quartiles])
        return Table(title=title, caption=caption, columns=columns, rows=rows)
    if isinstance(exhibit, Intervals):
        columns = ["estimate", "value", "low", "high"]
        rows = [[row.name, row.value, row.low, row.high] for row in exhibit.rows]
        return Table(title=title, caption=caption, columns=columns, rows=rows)
    if isinstance(exhibit, Curve):
        count = len(exhibit.x)
        shown = sorted({round(i) for i in np.linspace(0, count - 1, min(count, most_rows))}) if count else []
        rows = [[exhibit.x[i], *(values[i] for values in exhibit.series.values())] for i in shown]
        return Table(title=title, caption=caption, columns=[exhibit.x_label, *exhibit.series], rows=rows)
    if isinstance(exhibit, Heatmap):
        return heatmap_table(exhibit, most_rows)
    if isinstance(exhibit, Arrows):
        return arrows_table(exhibit, most_rows)
    return None


Paint = Callable[["Figure", "Axes"], list[str]]


def _painter(exhibit: Exhibit) -> tuple[Paint | None, float]:
    """The function that paints ``exhibit``, and the height it needs in inches."""
    if isinstance(exhibit, Histogram):
        return lambda figure, axes: _histogram(exhibit, figure, axes), _HEIGHT
    if isinstance(exhibit, Curve):
        extra = max(0, -(-len(exhibit.series) // _columns(list(exhibit.series))) - 2)
        return lambda figure, axes: _curve(exhibit, figure, axes), _HEIGHT + 0.18 * extra
    if isinstance(exhibit, Intervals):
        lines = sum(len(_wrapped(row.name).splitlines()) + 0.9 for row in exhibit.rows)
        return lambda figure, axes: _intervals(exhibit, axes), max(1.3, 0.75 + 0.16 * lines)
    if isinstance(exhibit, Heatmap):
        return lambda figure, axes: paint_heatmap(exhibit, figure, axes), heatmap_height(exhibit)
    if isinstance(exhibit, Arrows):
        return lambda figure, axes: paint_arrows(exhibit, figure, axes), ARROWS_HEIGHT
    return None, 0.0


def _histogram(exhibit: Histogram, figure: Figure, axes: Axes) -> list[str]:
    groups = {name: _drawable(values, log=exhibit.log_x) for name, values in exhibit.groups.items()}
    pooled = np.concatenate([*groups.values(), np.empty(0)])
    edges = _edges(pooled, log=exhibit.log_x)
    styles = group_styles(groups)
    for name, values in groups.items():
        if not len(values):
            continue
        share = np.histogram(values, edges)[0] / len(values)
        colour, dashes = styles[name]
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.22, linewidth=0)
        axes.stairs(share, edges, color=colour, linestyle=dashes, linewidth=1.3, label=name)
        axes.axvline(float(np.median(values)), color=colour, linestyle=(0, (1, 1.5)), linewidth=1)
    axes.set_xlabel(exhibit.x_label)
    axes.set_ylabel("share of group" if len(groups) > 1 else "share")
    axes.set_ylim(bottom=0)
    _scale(axes, "y", log=False)
    _scale(axes, "x", log=exhibit.log_x)
    _legend(figure, axes)
    dropped = sum(map(len, exhibit.groups.values())) - len(pooled)
    return [*_dropped(dropped, log=exhibit.log_x), "Dotted lines mark the medians."]


def _intervals(exhibit: Intervals, axes: Axes) -> list[str]:
    dropped = 0
    grouped = any(group_of(row.name) for row in exhibit.rows)  # rows that are groups have their colours
    styles = group_styles(row.name for row in exhibit.rows)
    for position, row in enumerate(exhibit.rows):
        ends = [row.value, row.low, row.high]
        colour = _SERIES[0] if not grouped else styles[row.name][0] if group_of(row.name) else _INK
        kept = _drawable(ends, log=exhibit.log_x)
        dropped += len(ends) - len(kept)
        if len(kept) == len(ends):
            axes.plot([row.low, row.high], [position, position], color=colour, solid_capstyle="butt")
        if len(_drawable([row.value], log=exhibit.log_x)):
            axes.plot([row.value], [position], "o", color=colour, markersize=4.5)
    axes.set_yticks(range(len(exhibit.rows)), [_wrapped(row.name) for row in exhibit.rows])
    axes.set_ylim(len(exhibit.rows) - 0.4, -0.6)  # first row on top
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(exhibit.x_label)
    axes.grid(axis="x")
    notes = _dropped(dropped, log=exhibit.log_x)
    if exhibit.reference is not None and len(_drawable([exhibit.reference], log=exhibit.log_x)):
        axes.axvline(exhibit.reference, color=_INK, linestyle=(0, (4, 2)), linewidth=0.9)
        notes.append(f"The dashed line marks {number(exhibit.reference)}.")
    _scale(axes, "x", log=exhibit.log_x)
    return notes


def _curve(exhibit: Curve, figure: Figure, axes: Axes) -> list[str]:
    x = np.asarray(exhibit.x, dtype=float)
    visible = np.isfinite(x) & ((x > 0) | (not exhibit.log_x))
    dropped = 0
    styles = group_styles(exhibit.series)
    for name, series in exhibit.series.items():
        y = np.asarray(series, dtype=float)
        keep = visible & np.isfinite(y) & ((y > 0) | (not exhibit.log_y))
        dropped += int((~keep).sum())
        colour, dashes = styles[name]
        marker = "o" if len(x) <= 15 else ""
        y_shown = np.where(keep, y, np.nan)  # a gap, not a bridge, where a value is missing
        axes.plot(x, y_shown, color=colour, linestyle=dashes, marker=marker, markersize=3.5, label=name)
        if name in exhibit.bands:
            low, high = np.asarray(exhibit.bands[name], dtype=float).T
            axes.fill_between(x, low, high, where=keep, color=colour, alpha=0.18, linewidth=0)
    axes.set_xlabel(exhibit.x_label)
    axes.set_ylabel(textwrap.fill(exhibit.y_label, _Y_LABEL))
    axes.grid(axis="y")
    whole = bool(visible.any()) and bool((x[visible] == np.round(x[visible])).all())
    _scale(axes, "x", log=exhibit.log_x, integer=whole)
    _scale(axes, "y", log=exhibit.log_y)
    _legend(figure, axes)
    shaded = ["Shaded: intervals."] if exhibit.bands else []
    return [*_dropped(dropped, log=exhibit.log_x or exhibit.log_y), *shaded]


def _finite(values: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]


def _drawable(values: Sequence[float], *, log: bool) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The values that have a place on the axis."""
    finite = _finite(values)
    return finite[finite > 0] if log else finite


def _dropped(count: int, *, log: bool) -> list[str]:
    why = "finite and positive" if log else "finite"
    return [f"Not drawn: {number(count)} value{'s' * (count != 1)} not {why}."] if count else []


def _edges(values: np.ndarray[Any, np.dtype[np.float64]], *, log: bool) -> Sequence[float]:
    """Shared bin edges, equally wide on the axis that is drawn."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (1.0, 2.0)
    if log:
        low, high = math.log10(low), math.log10(high)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        margin = max(abs(low), 1.0) * 0.05
        low, high = low - margin, high + margin
    bins = min(40, max(8, round(2 * len(values) ** 0.5)))
    edges = np.linspace(low, high, bins + 1)
    return list(np.power(10.0, edges) if log else edges)


def _scale(axes: Axes, name: Literal["x", "y"], *, log: bool, integer: bool = False) -> None:
    """Few ticks, whole ones where only whole numbers can be met, and numbers written as in the text beside the plot."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axis = axes.xaxis if name == "x" else axes.yaxis
    if not (log and math.isfinite(axis.get_minpos())):  # no positive value: nothing to take logarithms of
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=integer))
    else:
        axes.set(**{f"{name}scale": "log"})
        low, high = sorted(axis.get_view_interval())
        narrow = math.log10(high / low) < 2.2
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,), numticks=6))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def _legend(figure: Figure, axes: Axes) -> None:
    """A legend above the axes, where it hides nothing; none for a single series."""
    labels = axes.get_legend_handles_labels()[1]
    if len(labels) > 1:
        figure.legend(loc="outside upper left", ncols=_columns(labels), columnspacing=1.4)


def _columns(labels: Sequence[str]) -> int:
    """How many columns of a legend with these labels fit above the axes."""
    return max(1, min(len(labels), 56 // (max(map(len, labels), default=0) + 7)))


def _wrapped(name: str) -> str:
    return textwrap.fill(name, 24) or name


def _inline(svg: str, *, uid: str, label: str) -> Markup:
    """matplotlib's SVG file as an element of a page.

    Its style sheet would reach the whole page, its metadata name other sites, its ids clash with those of the
    next figure; all three go, as do digits that no eye can see.
    """
    root = ET.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    referenced = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg))
    used = {name for pair in referenced for name in pair if name}
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.tail = None
        if element.tag != "text":
            element.text = None
        element.attrib = {
            name.rpartition("}")[2]: _attribute(name.rpartition("}")[2], value, uid)
            for name, value in element.attrib.items()
            if not (name == "id" and value not in used) and "rotate(-0 " not in value
        }
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "class": "plot",
        "style": "stroke-linejoin: round; stroke-linecap: butt",
        "role": "img",
        "aria-label": label,
    }
    return Markup(ET.tostring(root, encoding="unicode"))


def _attribute(name: str, value: str, uid: str) -> str:
    """One attribute with the page's colours and font, ids of this figure, and two decimals."""
    if name == "id":
        return f"{uid}-{value}"
    if name == "style":
        value = re.sub(r"\s*font-family: [^;]+;?", "", value)
        return re.sub(r"#[0-9a-f]{6}", lambda m: _PAGE_COLOURS.get(m[0], m[0]), value)
    value = re.sub(r"(^|url\()#", rf"\g<1>#{uid}-", value)
    value = re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), value)
    return " ".join(value.split())
