"""Rules by which figures of toys become predictions of language models: an order, and half of an excess.

Both make a prediction only of what every toy shows (:mod:`toy_models.predictions`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sensverify.claims import Run
from sensverify.predictions import Prediction
from sensverify.statistics import Interval
from toy_models import planted


def order(
    name: str, quantity: str, figures: Sequence[Interval], derived_from: str, *, above: float = 1.0
) -> Prediction | None:
    """The quantity is at least ``above``, if the whole interval is above it on every toy."""
    if min(figure.low for figure in figures) <= above:
        return None
    return Prediction(id=name, quantity=quantity, low=above, high=None, derived_from=derived_from)


def half_the_excess(name: str, quantity: str, lowest: float, chance: float, derived_from: str) -> Prediction | None:
    """At least half of what ``lowest``, the lowest end of any interval, exceeds ``chance`` by; None if it does not."""
    if lowest <= chance:
        return None
    low = chance + (lowest - chance) / 2
    return Prediction(id=name, quantity=quantity, low=low, high=None, derived_from=derived_from)


def extent(figures: Sequence[Interval]) -> str:
    """Smallest and largest value, and the lowest end, as text."""
    values = [figure.value for figure in figures]
    lowest = min(figure.low for figure in figures)
    return f"{_digits(min(values))} to {_digits(max(values))} (lowest interval bound {_digits(lowest)})"


def _digits(value: float) -> str:
    """Three decimals, or none of a hundred and more, or two digits of what is large."""
    size = abs(value)
    return f"{value:.3f}" if size < 100 else f"{value:,.0f}" if size < 1e5 else f"{value:.1e}"


def seed_text(seeds: Iterable[int]) -> str:
    """``0, 1, 2``."""
    return ", ".join(str(seed) for seed in seeds)


def planted_seeds(run: Run) -> str:
    """Those of the planted transformers."""
    return seed_text(subject.seed for subject in planted.subjects(run))
