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
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch

from sensverify.claims import Progress, Subject, silent
from sensverify.directions import DirectionSet, is_autoencoder, load_directions, own_file
from sensverify.entries import lay_out
from sensverify.errors import InputError, MissingExtraError
from sensverify.exhibits import Excerpt, Exhibit, FoundRule, Histogram, Table
from sensverify.files import check_writable, make_directory, write_atomically
from sensverify.inspection_terminal import (
    accuracy,
    every_position,
    in_words,
    inspected_renderable,
    inspection_renderable,
    listed,
)
from sensverify.numerals import estimate_texts
from sensverify.recorded import recorded_weights
from sensverify.sae_layouts import choose, read_sae
from sensverify.statistics import Interval
from sensverify.templates import render
from sensverify.verdicts import to_plain

if TYPE_CHECKING:
    from rich.console import RenderableType
    from torch import Tensor

ENTRY_POINT_GROUP, NAME = "sensverify.inspectors", "language_model"
SCHEMA = 1
RECORD, PAGE = "inspection.json", "inspection.html"
EFFECT_COLUMNS = ("presence set to", "change", "random directions", "least to greatest")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InspectionRequest:
    """Which rows ``indices`` of the file ``directions`` to look at, in which model, on which text.

    No indices: the row with the best score, or the first where there are no scores. ``layer`` is the recorded one if
    None. ``tasks`` is a folder of task sets, ``sae`` a file or folder with directions to look for neighbours in,
    ``pin`` the presence that a direction is boosted and pinned to, in ``(0, 1]``, by default about the greatest that it
    has in the text, ``out`` the folder for a page.
    ``recorded_weights``: the subject's weights are to be raw or folded as ``cfg.json`` has it, whatever it says.
    """

    directions: Path
    subject: Subject
    indices: tuple[int, ...] = ()
    layer: int | None = None
    context: int = 64
    tasks: Path | None = None
    sae: Path | None = None
    pin: float | None = None
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
class Control:
    """What the same intervention does along so many random ``directions``.

    ``mean``: over them and over items, with a 95 % interval; ``least`` and ``greatest``: of their own means over items.
    """

    directions: int
    mean: Interval
    least: float
    greatest: float

    @property
    def spread(self) -> str:
        """From the least to the greatest, to the decimals that show two digits of half of what lies between them."""
        _, least, greatest = estimate_texts(self.mean.value, self.least, self.greatest)
        return f"{least} to {greatest}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Effect:
    """By how much an intervention changes a quantity, on average over ``items``; both with 95 % intervals.

    ``control``: the same along random directions, None where that was not measured.
    """

    where: str
    quantity: str
    intervention: str
    items: int
    clean: Interval
    change: Interval
    control: Control | None = None

    def caption(self) -> str:
        """What was measured, and what it is without any intervention."""
        return f"{self.quantity[:1].upper()}{self.quantity[1:]}; {self.items} items; untouched {self.clean_text()}."

    def clean_text(self) -> str:
        """The quantity without any intervention, with its interval."""
        return in_words(self.clean)


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

    The scores are those of the direction and of its negative in its file, each with its standard error, of what
    ``score_name`` says. ``presences`` stand for those at all ``positions`` held out, in even steps of rank, the least
    and the greatest included; ``quantiles`` are of all of them. ``left_alone`` says which positions of the text are
    neither counted nor set, ``left_alone_in_tasks`` the same of prompts, if any. ``mean_presence``, of the search
    windows, is what is set where an effect says so. ``rule`` is None where none was found; then ``notes`` say why.
    ``logit_note`` says what ``promoted`` and ``demoted`` are of, ``pin_note`` why ``pinned_presence`` is what it is.
    """

    index: int
    score_plus: float | None
    score_minus: float | None
    score_plus_se: float | None = None
    score_minus_se: float | None = None
    score_name: str = "score"
    contexts: tuple[ContextList, ...]
    presences: tuple[float, ...]
    positions: int
    left_alone: tuple[str, ...]
    left_alone_in_tasks: tuple[str, ...] | None = None
    quantiles: Mapping[str, float]
    mean_presence: float
    rule: FoundRule | None
    promoted: tuple[tuple[str, float], ...]
    demoted: tuple[tuple[str, float], ...]
    logit_note: str
    effects: tuple[Effect, ...]
    pinned_presence: float
    pin_note: str
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
            caption=self._presence_caption(),
            x_label="presence",
            groups={f"direction {self.index}": self.presences},
        )
        neighbours = Table(
            title="Nearest and most opposed directions",
            caption=f"By cosine, among {self.neighbours_of}.",
            columns=["direction", "cosine"],
            rows=[[one.name, round(one.cosine, 3)] for one in self.neighbours],
        )
        return (histogram, *self._effect_tables(), *([neighbours] if neighbours.rows else []))

    def groups_of_effects(self) -> list[list[Effect]]:
        """The effects on one quantity together, which have items and what is untouched in common."""
        groups = itertools.groupby(self.effects, lambda effect: (effect.where, effect.quantity))
        return [list(group) for _, group in groups]

    def _effect_tables(self) -> list[Table]:
        return [
            Table(
                title=f"What it does: {group[0].where}",
                caption=group[0].caption() + ("" if number else f" {self.effects_caption()}"),
                columns=EFFECT_COLUMNS,
                rows=[
                    [
                        effect.intervention,
                        effect.change.to_json(),
                        *(
                            ("—", "—")
                            if effect.control is None
                            else (effect.control.mean.to_json(), effect.control.spread)
                        ),
                    ]
                    for effect in group
                ],
            )
            for number, group in enumerate(self.groups_of_effects())
        ]

    def _presence_caption(self) -> str:
        shown, mean = len(self.presences), f"The mean over the search windows is {self.mean_presence:.3f}."
        mean += f" Not counted: {listed(self.left_alone)}." if self.left_alone else ""
        if shown == self.positions:
            return f"At all {self.positions} held-out positions. {mean}"
        return (
            f"{shown} of the presences at all {self.positions} held-out positions, in even steps of rank from the "
            f"least to the greatest. {mean}"
        )

    def effects_caption(self) -> str:
        """What the table of effects is of, and how the random directions fared beside this one."""
        counts = {e.control.directions for e in self.effects if e.control is not None}
        beside = (
            f" Random directions: the same along {max(counts)} of them, each set to its own mean, to 0 and to the same "
            "high presence; their mean, directions and items resampled, and the least and greatest of single ones."
            if counts
            else ""
        )
        where, tasks = every_position(self.left_alone), self.left_alone_in_tasks
        if tasks is not None and tasks != self.left_alone:
            where += f" (in prompts of tasks, {every_position(tasks)})"
        return (
            f"The presence is set at {where}: to its mean or to 0, which ablates it, or to "
            f"{self.pinned_presence:.3g}, which boosts it. Change: the mean over items, windows of text or prompts of "
            f"a task, with its 95 % interval, items resampled.{beside}"
        )

    def samples_caption(self) -> str:
        """How the texts were written."""
        return (
            f"With its presence pinned to {self.pinned_presence:.3g} ({self.pin_note}) at all that is written "
            f"and, in the prompt, at {every_position(self.left_alone)}; and by the untouched model with the same "
            "random numbers. Both go on where the prompt stops, be it inside a word."
        )

    def terminal(self) -> RenderableType:
        """The same for a terminal."""
        return inspection_renderable(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspected:
    """The directions looked at, and ``facts`` about where: label and value, for the head of a page.

    ``hints`` say what else could have been asked. ``page`` is the one that was written, if any.
    """

    facts: Mapping[str, str]
    inspections: tuple[Inspection, ...]
    hints: tuple[str, ...] = ()
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
        return inspected_renderable(self)


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
    if request.pin is not None and not 0 < request.pin <= 1:
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
    if not is_autoencoder(path):
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
    found = load_directions(path, layer=layer)
    return found.directions, torch.arange(len(found.directions)) if found.latents is None else found.latents


def source_file(path: Path, layer: int | None) -> Path:
    """The file that :func:`usable_rows` reads, links resolved, so that two paths to it are known to be one."""
    return (choose(path, layer).file if is_autoencoder(path) else own_file(path)).resolve()


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
                lay_out(exhibit, anchor=f"direction-{inspection.index}", index=i)
                for i, exhibit in enumerate(inspection.exhibits(), 1)
            ],
        )
        for inspection in inspected.inspections
    ]
    page = render(
        "inspection.html.j2", facts=inspected.facts, hints=inspected.hints, shown=shown, record_name=RECORD,
        accuracy=accuracy,
    )  # fmt: skip
    record = json.dumps(inspected.to_json(), ensure_ascii=False, indent=1, allow_nan=False)
    write_atomically(directory / RECORD, record + "\n")
    write_atomically(directory / PAGE, page)
    return dataclasses.replace(inspected, page=directory / PAGE)
