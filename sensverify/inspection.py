"""What ``sensverify inspect`` is asked and answers about single directions, and how the answer is written.

A direction is known by where it is present, by what it writes, and by what happens without it. Each of these can
mislead by itself: contexts of highest presence show the far tail alone, logit weights the direct path alone, and an
effect says nothing about where it is used. So they are shown side by side: contexts from the top, the bottom and all
between; a rule that was tested on contexts it was not made of; logit weights; effects of ablating and of boosting on
held-out text and on tasks; text written with the direction pinned beside text written without; nearest neighbours.

The kernel knows no architecture. Whoever can look into models registers an inspector under the entry-point group
``sensverify.inspectors``; the command line asks it, as it asks for models in :mod:`sensverify.sites`.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch

from sensverify import report
from sensverify.claims import Progress, Subject, silent
from sensverify.directions import FILE_NAME, DirectionSet, load_directions
from sensverify.errors import InputError, MissingExtraError
from sensverify.exhibits import Excerpt, Exhibit, FoundRule, Histogram, Table
from sensverify.files import check_writable, make_directory, write_atomically
from sensverify.recorded import recorded_weights
from sensverify.sae_layouts import choose, holds_sae, read_sae
from sensverify.statistics import Interval
from sensverify.templates import render, visible
from sensverify.verdicts import to_plain

if TYPE_CHECKING:
    from rich.console import RenderableType
    from torch import Tensor

ENTRY_POINT_GROUP, NAME = "sensverify.inspectors", "language_model"
SCHEMA = 1
RECORD, PAGE = "inspection.json", "inspection.html"


@dataclasses.dataclass(frozen=True, kw_only=True)
class InspectionRequest:
    """Which rows ``indices`` of the file ``directions`` to look at, in which model, on which text.

    No indices: the row with the best score, or the first where there are no scores. ``layer`` is the recorded one if
    None. ``tasks`` is a folder of task sets, ``sae`` a file or folder with directions to look for neighbours in,
    ``pin`` the presence that a direction is boosted and pinned to, in ``(0, 1]``, ``out`` the folder for a page.
    ``recorded_weights``: the subject's weights are to be raw or folded as ``cfg.json`` has it, whatever it says.
    """

    directions: Path
    subject: Subject
    indices: tuple[int, ...] = ()
    layer: int | None = None
    context: int = 64
    tasks: Path | None = None
    sae: Path | None = None
    pin: float = 0.5
    seed: int = 0
    allow_other_model: bool = False
    recorded_weights: bool = False
    out: Path | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContextList:
    """Contexts chosen in one way, e.g. those of highest presence."""

    title: str
    excerpts: tuple[Excerpt, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Effect:
    """By how much an intervention changes a quantity, on average over ``items``; both with 95 % intervals."""

    where: str
    quantity: str
    intervention: str
    items: int
    clean: Interval
    change: Interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """How a prompt goes on without and with the direction pinned, with the same random numbers."""

    prompt: str
    plain: str
    pinned: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Neighbour:
    """Another direction and its cosine to this one, signed."""

    name: str
    cosine: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """What there is to see of the direction in row ``index``.

    ``presences`` are an even sample of those at all held-out positions, ``mean_presence`` the one that is set to where
    an effect says so. ``rule`` is None where none was found; then ``notes`` say why. ``logit_note`` says what the
    weights in ``promoted`` and ``demoted`` are weights of.
    """

    index: int
    score_plus: float | None
    score_minus: float | None
    contexts: tuple[ContextList, ...]
    presences: tuple[float, ...]
    mean_presence: float
    rule: FoundRule | None
    promoted: tuple[tuple[str, float], ...]
    demoted: tuple[tuple[str, float], ...]
    logit_note: str
    effects: tuple[Effect, ...]
    pinned_presence: float
    samples: tuple[Sample, ...]
    neighbours_of: str
    neighbours: tuple[Neighbour, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return cast(dict[str, Any], to_plain(dataclasses.asdict(self)))

    def exhibits(self) -> tuple[Exhibit, ...]:
        """Figures and tables for a page; contexts and tokens are laid out by the page itself."""
        histogram = Histogram(
            title=f"Presence of direction {self.index}",
            caption=f"At all held-out positions; the mean on other text is {self.mean_presence:.3f}.",
            x_label="presence",
            groups={f"direction {self.index}": self.presences},
        )
        effects = Table(
            title="What it does",
            caption="Mean over items with 95 % intervals, items resampled; the presence is set at every position (but "
            "BOS). Ablated: to its mean, or to 0; boosted: to a high presence.",
            columns=["where", "quantity", "presence set to", "items", "untouched", "change"],
            rows=[
                [e.where, e.quantity, e.intervention, e.items, e.clean.to_json(), e.change.to_json()]
                for e in self.effects
            ],
        )
        samples = Table(
            title="What is written with it pinned",
            caption=f"Presence pinned to {self.pinned_presence:g} at every position, beside the untouched model with "
            "the same random numbers.",
            columns=["prompt", "untouched", "pinned"],
            rows=[[visible(text) for text in (s.prompt, s.plain, s.pinned)] for s in self.samples],
        )
        neighbours = Table(
            title="Nearest directions",
            caption=f"By cosine, among {self.neighbours_of}.",
            columns=["direction", "cosine"],
            rows=[[one.name, one.cosine] for one in self.neighbours],
        )
        filled = [table for table in (effects, samples, neighbours) if table.rows]
        return (histogram, *filled)

    def terminal(self) -> RenderableType:
        """The same for a terminal."""
        from rich.console import Group
        from rich.text import Text

        scores = "" if self.score_plus is None else f", score {self.score_plus:.3e}"
        parts: list[RenderableType] = [Text(f"direction {self.index}{scores}", style="bold")]
        for chosen in self.contexts:
            parts.append(Text(f"\n{chosen.title}", style="italic"))
            parts += [_highlighted(excerpt) for excerpt in chosen.excerpts]
        parts.append(Text(f"\npresence: {_quantiles(self.presences)}"))
        if self.rule is not None:
            parts.append(Text(f"rule: {visible(self.rule.text)} (held-out accuracy {_accuracy(self.rule)})"))
        for verb, tokens in (("promotes", self.promoted), ("demotes", self.demoted)):
            shown = "  ".join(f"{_token(token)} {weight:+.3g}" for token, weight in tokens)
            parts.append(Text(f"{verb}: {shown}"))
        parts.append(Text(self.logit_note, style="dim"))
        parts += [_terminal_table(table) for table in self.exhibits() if isinstance(table, Table)]
        parts += [Text(f"note: {note}") for note in self.notes]
        return Group(*parts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspected:
    """The directions looked at, and ``facts`` about where: label and value, for the head of a page.

    ``page`` is the one that was written, if any.
    """

    facts: Mapping[str, str]
    inspections: tuple[Inspection, ...]
    page: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The object of ``inspection.json`` and of ``inspect --json``."""
        return {
            "schema": SCHEMA,
            "about": dict(self.facts),
            "inspections": [inspection.to_json() for inspection in self.inspections],
        }

    def terminal(self) -> RenderableType:
        """All of it for a terminal."""
        from rich.console import Group
        from rich.text import Text

        head = Text("; ".join(f"{label}: {fact}" for label, fact in self.facts.items()) + "\n")
        return Group(head, *(inspection.terminal() for inspection in self.inspections))


class Inspector(Protocol):
    """Looks into a model; raises InputError for bad input and MissingExtraError for a missing optional package."""

    def __call__(
        self, request: InspectionRequest, found: DirectionSet, indices: tuple[int, ...], progress: Progress
    ) -> Inspected:
        """One inspection for each of ``indices``, which are rows of ``found``."""


def inspect_directions(
    request: InspectionRequest, progress: Progress = silent, inspector: Inspector | None = None
) -> Inspected:
    """Ask ``inspector``, or the installed one, about the directions of ``request``.

    Raises :class:`~sensverify.errors.InputError` for input that cannot be used, and
    :class:`~sensverify.errors.MissingExtraError` where no inspector is installed.
    """
    found = _load(request)
    indices = _indices(request, found)
    if request.recorded_weights:
        weights = recorded_weights(found.config)
        request = dataclasses.replace(request, subject=dataclasses.replace(request.subject, weights=weights))
    if not 0 < request.pin <= 1:
        raise InputError(
            expected="a presence above 0 and up to 1 to pin to", got=str(request.pin), remedy="pass another --pin"
        )
    for option, path in (("tasks", request.tasks), ("sae", request.sae)):
        if path is not None and not path.exists():
            raise InputError(expected=f"a path for --{option} that exists", got=str(path), remedy="check the path")
    if request.out is not None:
        check_writable(request.out)
    inspected = (inspector or _installed())(request, found, indices, progress)
    return inspected if request.out is None else write_inspection(request.out, inspected)


def _load(request: InspectionRequest) -> DirectionSet:
    """The file of directions, or all latents of an autoencoder, where an index is a latent's number."""
    path = request.directions
    if (path / FILE_NAME).exists() or not holds_sae(path):
        return load_directions(path)
    sae = read_sae(choose(path, request.layer))
    unusable = [index for index in request.indices if index < len(sae.decoder) and not sae.usable[index]]
    if unusable:
        raise InputError(
            expected="a latent with a decoder direction", got=f"latent {unusable[0]}, whose decoder row is zero",
            remedy="pass another --index",
        )  # fmt: skip
    config: dict[str, Any] = {"model": sae.description["model"], "sae": dict(sae.description)}
    return DirectionSet(
        directions=sae.decoder,
        config=config if sae.layer is None else {**config, "layer": sae.layer},
        latents=torch.arange(len(sae.decoder)),
    )


def usable_rows(path: Path, layer: int | None) -> tuple[Tensor, Tensor]:
    """Nonzero directions ``[R, d]`` in ``path`` and their rows ``[R]``: the latents of an autoencoder after block
    ``layer``, or a file of directions.

    Raises :class:`~sensverify.errors.InputError` as :func:`sensverify.directions.load_directions` does.
    """
    if (path / FILE_NAME).exists() or not holds_sae(path):
        directions = load_directions(path).directions
        return directions, torch.arange(len(directions))
    sae = read_sae(choose(path, layer))
    rows = sae.usable.nonzero()[:, 0]
    return sae.decoder[rows], rows


def _indices(request: InspectionRequest, found: DirectionSet) -> tuple[int, ...]:
    count = len(found.directions)
    for index in request.indices:
        if not 0 <= index < count:
            raise InputError(
                expected=f"an index from 0 to {count - 1} ({count} directions)",
                got=str(index),
                remedy="pass another --index",
            )
    if request.indices:
        return tuple(dict.fromkeys(request.indices))
    scores = found.score_plus
    return (0,) if scores is None else (int(scores.nan_to_num(-1.0).argmax()),)


def _installed() -> Inspector:
    found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP, name=NAME)
    if not found:
        raise MissingExtraError(package="an inspector of language models", extra="lm")
    return cast(Inspector, next(iter(found)).load())


def write_inspection(directory: Path, inspected: Inspected) -> Inspected:
    """Write ``inspection.json`` and the self-contained ``inspection.html``, and say where the page is.

    Raises :class:`~sensverify.errors.InputError` if the folder cannot be written.
    """
    make_directory(directory)
    shown = [
        (
            inspection,
            [
                report.lay_out(exhibit, anchor=f"direction-{inspection.index}", index=i)
                for i, exhibit in enumerate(inspection.exhibits(), 1)
            ],
        )
        for inspection in inspected.inspections
    ]
    page = render("inspection.html.j2", facts=inspected.facts, shown=shown, record_name=RECORD)
    record = json.dumps(inspected.to_json(), ensure_ascii=False, indent=1, allow_nan=False)
    write_atomically(directory / RECORD, record + "\n")
    write_atomically(directory / PAGE, page)
    return dataclasses.replace(inspected, page=directory / PAGE)


def _highlighted(excerpt: Excerpt) -> RenderableType:
    from rich.text import Text

    line = Text(f"{excerpt.presence:+.2f}  ", no_wrap=True)
    line.append(visible(excerpt.before))
    line.append(visible(excerpt.token), style="reverse" if excerpt.presence >= 0 else "underline")
    line.append(visible(excerpt.after))
    return line


def _token(token: str) -> str:
    return visible(token).replace(" ", "␣")


def _accuracy(rule: FoundRule) -> str:
    bounds = "" if rule.low is None or rule.high is None else f" [{rule.low:.2f}, {rule.high:.2f}]"
    return f"{rule.accuracy:.2f}{bounds}"


def _quantiles(values: tuple[float, ...]) -> str:
    ordered = sorted(values)
    names = ("least", "1 %", "median", "99 %", "greatest")
    at = (0.0, 0.01, 0.5, 0.99, 1.0)
    return ", ".join(
        f"{name} {ordered[round(share * (len(ordered) - 1))]:+.2f}" for name, share in zip(names, at, strict=True)
    )


def _terminal_table(table: Table) -> RenderableType:
    from rich.table import Table as TerminalTable
    from rich.text import Text

    shown = TerminalTable(title=table.title, title_justify="left", box=None, pad_edge=False)
    for column in table.columns:
        shown.add_column(column, overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(_cell(cell)) for cell in row))
    return shown


def _cell(cell: Any) -> str:
    if isinstance(cell, dict):
        return Interval(**cell).text()
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)
