"""What a finding shows a person: data for mathematics, plots, tables and highlighted text.

Exhibits are plain data. They are written to ``exhibits.json`` beside the verdicts, and drawn by
:mod:`sensverify.report`, so that ``sensverify report DIR`` can re-draw a report without running anything.

Prose (titles, captions, the text of a proof line) may hold inline LaTeX between dollar signs and code between
backticks. Labels, names and contexts are shown letter for letter.
"""

from __future__ import annotations

import collections
import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from sensverify.plain_data import as_data, decode
from sensverify.verdicts import to_plain

JUDGED = "predictions_judged"
"""The key of the evidence under which a claim lists the predictions it was judged by, as plain data of
:class:`JudgedPrediction`; :func:`sensverify.predictions.judged` makes them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exhibit:
    """Base: a title and a caption that says what to see."""

    kind: ClassVar[str] = ""
    title: str
    caption: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, with the kind by which :func:`from_json` finds the class."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"kind": self.kind, **to_plain(as_data(fields))}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProofLine:
    """One line of a proof: what is shown, in words, in LaTeX, and how a machine checked it.

    What no machine checked says what it is taken for instead, e.g. a hypothesis.
    """

    text: str
    latex: str = ""
    checked_by: str = ""
    taken: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Derivation(Exhibit):
    """A proof in readable mathematics."""

    kind: ClassVar[str] = "derivation"
    lines: Sequence[ProofLine]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Histogram(Exhibit):
    """Distributions of one quantity for several groups, e.g. SeS of features, negated and random ones."""

    kind: ClassVar[str] = "histogram"
    x_label: str
    groups: Mapping[str, Sequence[float]]
    log_x: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class IntervalRow:
    """A named estimate with its interval."""

    name: str
    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Intervals(Exhibit):
    """Estimates with intervals on one axis."""

    kind: ClassVar[str] = "intervals"
    x_label: str
    rows: Sequence[IntervalRow]
    log_x: bool = False
    reference: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve(Exhibit):
    """One or several lines ``y(x)``, e.g. the search's score over its steps.

    ``bands`` gives a series its interval ``(low, high)`` at each ``x``. Raises ``ValueError`` when a series
    or band has not one entry per ``x``, or a band belongs to no series.
    """

    kind: ClassVar[str] = "curve"
    x_label: str
    y_label: str
    x: Sequence[float]
    series: Mapping[str, Sequence[float]]
    log_x: bool = False
    log_y: bool = False
    bands: Mapping[str, Sequence[tuple[float, float]]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, values in [*self.series.items(), *self.bands.items()]:
            if len(values) != len(self.x):
                raise ValueError(f"expected {len(self.x)} values in {name!r}, one per x, got {len(values)}")
        if unknown := set(self.bands) - set(self.series):
            raise ValueError(f"expected bands of the series {sorted(self.series)}, got {sorted(unknown)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table(Exhibit):
    """A small table; cells are strings, numbers, or estimates ``{"value", "low", "high"}``.

    An estimate may be given as any dataclass with these three fields. Raises ``ValueError`` for a row of another
    length.
    """

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"expected {len(self.columns)} cells in each row, got {len(row)}: {row!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heatmap(Exhibit):
    """A matrix as coloured cells, first row on top: a phase diagram, or a colouring of pairs.

    With ``categories`` each value is the index of one of them; without, it is a number on a scale called
    ``value_label``, and one that is not finite leaves its cell empty. ``outline`` frames the rows and columns
    ``(first row, end row, first column, end column)``, ends excluded. Raises ``ValueError`` for rows of different
    lengths, labels that are not one per row or column, a value that is no category, an outline that is not inside.
    """

    kind: ClassVar[str] = "heatmap"
    x_label: str
    y_label: str
    values: Sequence[Sequence[float]]
    columns: Sequence[str] = ()
    rows: Sequence[str] = ()
    categories: Sequence[str] = ()
    value_label: str = ""
    outline: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        height, width = len(self.values), len(self.values[0]) if len(self.values) else 0
        if any(len(row) != width for row in self.values):
            raise ValueError(f"expected {width} values in each row of the heatmap {self.title!r}")
        for name, labels, count in (("rows", self.rows, height), ("columns", self.columns, width)):
            if len(labels) not in (0, count):
                raise ValueError(f"expected {count} labels of the {name}, or none, got {len(labels)}")
        if self.categories and any(value not in range(len(self.categories)) for row in self.values for value in row):
            raise ValueError(f"expected indices of the {len(self.categories)} categories as values")
        if self.outline is not None:
            top, bottom, left, right = self.outline
            if not (0 <= top < bottom <= height and 0 <= left < right <= width):
                raise ValueError(f"expected an outline inside {height} rows and {width} columns, got {self.outline}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arrows(Exhibit):
    """Vectors of the plane drawn from the origin, group by group: the geometry of a model with two dimensions.

    ``outlines`` are closed lines through the points given, in the plane of the arrows, e.g. a sensitivity as radius
    over the angle; ``unit_circle`` draws that circle. Raises ``ValueError`` for a vector or point that is no pair, and
    for a name that is both a group's and an outline's.
    """

    kind: ClassVar[str] = "arrows"
    groups: Mapping[str, Sequence[tuple[float, float]]]
    outlines: Mapping[str, Sequence[tuple[float, float]]] = dataclasses.field(default_factory=dict)
    unit_circle: bool = False

    def __post_init__(self) -> None:
        for field, mapping in (("groups", self.groups), ("outlines", self.outlines)):
            for name, vectors in mapping.items():
                if any(len(vector) != 2 for vector in vectors):
                    raise ValueError(f"expected pairs of numbers in {field}[{name!r}] of the arrows {self.title!r}")
        if both := set(self.groups) & set(self.outlines):
            raise ValueError(f"expected names in outlines that are not in groups, got {sorted(both)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Excerpt:
    """A context with the token at the intervened position highlighted, and the presence measured there."""

    before: str
    token: str
    after: str
    presence: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measured value with its interval; both ends are the value where nothing was sampled."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoundRule:
    """A rule that says when a direction is present, and how often it is right where it was not made.

    ``accuracy`` is the balanced detection accuracy in ``[0, 1]``, chance is 1/2; its interval may be missing.
    """

    text: str
    accuracy: float
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class PresenceCounts:
    """How many contexts have which presence: ``counts`` of equally wide bins from ``low`` to ``high``.

    Raises ``ValueError`` for no bin, a negative count, or bins without width.
    """

    low: float
    high: float
    counts: Sequence[int]

    def __post_init__(self) -> None:
        if not self.counts or min(self.counts) < 0 or not self.low < self.high:
            raise ValueError(f"expected counts of bins from low to high, got {self!r}"[:300])


@dataclasses.dataclass(frozen=True, kw_only=True)
class DirectionCard:
    """One direction: its scores, the contexts where it is most present, the tokens it moves up and down.

    ``group`` says where it comes from (found, SAE, random ...), ``ratio`` is its score over the mean score of random
    directions, ``presence_share`` the share of contexts where it counts as present. ``lowest`` are the contexts of
    lowest presence, the lowest first. What was not measured is ``None`` or empty.
    """

    name: str
    score_plus: float
    score_minus: float | None
    excerpts: Sequence[Excerpt]
    promoted: Sequence[tuple[str, float]]
    demoted: Sequence[tuple[str, float]]
    group: str = "found"
    ratio: float | None = None
    rule: FoundRule | None = None
    presence_share: float | None = None
    presences: PresenceCounts | None = None
    lowest: Sequence[Excerpt] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class DirectionGallery(Exhibit):
    """Directions to browse: searched, sorted and filtered by group, each with a card of its own.

    Groups are offered in the order in which they first appear.
    """

    kind: ClassVar[str] = "directions"
    cards: Sequence[DirectionCard]

    @property
    def groups(self) -> dict[str, int]:
        """How many directions each group has."""
        return dict(collections.Counter(card.group for card in self.cards))


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedPrediction:
    """One prediction and what was measured: the interval predicted (``None``: open), and the outcome.

    ``of`` says what was measured where one prediction judges several things (a layer, a group); ``origin`` is the file
    that the prediction was read from.
    """

    id: str
    quantity: str
    low: float | None
    high: float | None
    measured: Estimate
    outcome: Literal["inside", "outside", "undecided"]
    derived_from: str
    of: str = ""
    origin: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictions(Exhibit):
    """Predictions beside their outcomes, each row drawn on an axis of its own."""

    kind: ClassVar[str] = "predictions"
    rows: Sequence[JudgedPrediction]


KINDS: Mapping[str, type[Exhibit]] = {
    kind.kind: kind
    for kind in (
        Derivation, Histogram, Intervals, Curve, Table, Heatmap, Arrows, DirectionGallery, Predictions
    )
}  # fmt: skip


def from_json(data: Any) -> Exhibit:
    """The exhibit that :meth:`Exhibit.to_json` wrote; sequences come back as tuples.

    Raises ``ValueError`` that names the first field that does not fit.
    """
    kind = data.get("kind") if isinstance(data, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"expected an exhibit of a kind among {', '.join(KINDS)}, got {kind!r}")
    fields = {key: value for key, value in data.items() if key != "kind"}
    return typing.cast(Exhibit, decode(fields, KINDS[kind], kind))
