"""What ``sensverify inspect`` says in a terminal, or in a file that its output is piped to.

A terminal marks a token by colour; a file has none, and there it stands in brackets. Lines of context are shortened at
words to the width there is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table as TerminalTable
from rich.text import Text

from sensverify.clipping import clip_end, clip_start
from sensverify.exhibits import Excerpt, FoundRule
from sensverify.numerals import estimate_texts, number
from sensverify.statistics import Interval
from sensverify.templates import aligned, signed, token, visible

if TYPE_CHECKING:
    from sensverify.inspection import Inspected, Inspection


def inspected_renderable(inspected: Inspected) -> RenderableType:
    """All directions, after what is common to them."""
    head = Text("; ".join(f"{label}: {fact}" for label, fact in inspected.facts.items()) + "\n")
    hints = [Text(f"\n{hint}") for hint in inspected.hints]
    return Group(head, *(inspection_renderable(one) for one in inspected.inspections), *hints)


def inspection_renderable(inspection: Inspection) -> RenderableType:
    """One direction."""
    parts: list[RenderableType] = [Text(f"direction {inspection.index}{_scores(inspection)}", style="bold")]
    for chosen in inspection.contexts:
        parts.append(_heading(chosen.title))
        parts += [_Context(excerpt) for excerpt in chosen.excerpts]
    parts.append(_WhatIsMarked())
    parts.append(Text(f"\npresence: {_quantiles(inspection)}"))
    if inspection.rule is not None:
        parts.append(Text(f"rule: {visible(inspection.rule.text)} ({accuracy(inspection.rule)})"))
    for verb, tokens in (("promotes", inspection.promoted), ("demotes", inspection.demoted)):
        shown = "  ".join(f"{token(text)} {aligned(weight)}" for text, weight in tokens)
        parts.append(Text(f"{verb}: {shown}"))
    parts.append(Text(inspection.logit_note, style="dim"))
    parts += _effects(inspection)
    parts += _samples(inspection)
    parts += _neighbours(inspection)
    parts += [Text(f"\nnote: {note}") for note in inspection.notes]
    return Group(*parts)


def accuracy(rule: FoundRule) -> str:
    """The accuracy of a rule in words."""
    bounds = "" if rule.low is None or rule.high is None else f" [{rule.low:.2f}, {rule.high:.2f}]"
    return f"balanced accuracy on held-out contexts {rule.accuracy:.2f}{bounds}; 0.5 is guessing"


def in_words(interval: Interval) -> str:
    """``value [low, high]``, to the digits that the interval leaves."""
    value, low, high = estimate_texts(interval.value, interval.low, interval.high)
    return f"{value} [{low}, {high}]"


def every_position(left_alone: Sequence[str]) -> str:
    """All positions but those named."""
    return f"every position but {listed(left_alone)}" if left_alone else "every position"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _scores(inspection: Inspection) -> str:
    """The scores of the direction and of its negative, as far as the file has them."""
    pairs = [
        (sign, score, error)
        for sign, score, error in (
            ("+s", inspection.score_plus, inspection.score_plus_se),
            ("−s", inspection.score_minus, inspection.score_minus_se),
        )
        if score is not None
    ]
    if not pairs:
        return ""
    shown = [
        f"of {sign} {number(score, 3)}" + ("" if error is None else f" ± {number(error, 2)}")
        for sign, score, error in pairs
    ]
    errors = " (± standard error)" if any(error is not None for *_, error in pairs) else ""
    return f": {inspection.score_name} {', '.join(shown)}{errors}"


def _quantiles(inspection: Inspection) -> str:
    return ", ".join(f"{name} {signed(value)}" for name, value in inspection.quantiles.items())


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="italic")


class _Context:
    """One line: the presence, and as much of the context as fits, the token marked."""

    def __init__(self, excerpt: Excerpt) -> None:
        self.excerpt = excerpt

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        excerpt, bare = self.excerpt, console.color_system is None
        line = Text(f"{signed(excerpt.presence)}  ", no_wrap=True, overflow="ellipsis", end="\n")
        marked = _bracketed(excerpt.token) if bare else token(excerpt.token, blank_only=True)
        room = max(0, options.max_width - len(line) - len(marked))
        before, after = visible(excerpt.before), visible(excerpt.after)
        behind = min(len(after), max(room // 3, room - len(before)))
        line.append(clip_start(before, room - behind))
        line.append(marked, style="reverse" if excerpt.presence >= 0 else "underline")
        line.append(clip_end(after, behind))
        yield line


def _bracketed(text: str) -> str:
    """A token in brackets, a space before its word outside them."""
    shown = token(text, blank_only=True)
    bare = shown.lstrip(" ")
    return f"{' ' * (len(shown) - len(bare))}[{bare}]"


class _WhatIsMarked:
    """What the marks in contexts mean."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        how = "in brackets" if console.color_system is None else "highlighted, or underlined if it is negative"
        yield Text(f"\nThe token where the presence was measured is {how}.", style="dim")


def _plain_table(*columns: str) -> TerminalTable:
    table = TerminalTable(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _effects(inspection: Inspection) -> Iterator[RenderableType]:
    """A small table for each quantity, narrow enough for eighty columns."""
    if not inspection.effects:
        return
    yield _heading("What it does")
    yield Text(inspection.effects_caption(), style="dim")

    for group in inspection.groups_of_effects():
        first = group[0]
        yield Text(f"\n{visible(first.where)}. {first.caption()}")
        table = _plain_table("set to", "change", "random directions", "least to greatest")
        for effect in group:
            control = effect.control
            beside = ("—", "—") if control is None else (in_words(control.mean), control.spread)
            table.add_row(effect.intervention, in_words(effect.change), *beside)
        yield table


def _samples(inspection: Inspection) -> Iterator[RenderableType]:
    if not inspection.samples:
        return
    yield _heading("What is written with it pinned")
    yield Text(inspection.samples_caption(), style="dim")
    for sample in inspection.samples:
        yield Text("")
        table = TerminalTable(box=None, pad_edge=False, show_header=False)
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, text in (("prompt", sample.prompt), ("untouched", sample.plain), ("pinned", sample.pinned)):
            table.add_row(Text(name), Text(visible(text)))
        yield table


def _neighbours(inspection: Inspection) -> Iterator[RenderableType]:
    if not inspection.neighbours:
        return
    yield _heading(f"Nearest and most opposed directions by cosine, among {inspection.neighbours_of}")
    table = _plain_table("direction", "cosine")
    for one in inspection.neighbours:
        table.add_row(Text(one.name), signed(one.cosine))
    yield table
