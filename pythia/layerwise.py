"""Judging a ratio at several layers at once: one-sided tests against a prediction, Holm's correction over layers.

A claim about all layers is SUPPORTED if the ratio lies inside the prediction at every layer, REFUTED if it lies outside
at any. The test statistic is the distance of the ratio's logarithm from the prediction's edge in standard errors, which
are read off the half of the bootstrap interval on the side of that edge (its length over 1.96); each test is one-sided
at 2.5 %, so that with a single layer a verdict means what it means everywhere: the whole 95 % interval is inside, or
outside.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pythia.group_scores import ROUNDING, LayerScores
from sensverify.exhibits import Exhibit
from sensverify.multiplicity import holm
from sensverify.predictions import JUDGED, Prediction, judged
from sensverify.statistics import Interval
from sensverify.verdicts import Finding, Status

LEVEL = 0.025
QUANTILE = 1.96
RESAMPLES = 2000
"""Of the intervals that p-values are read off (:func:`sensverify.statistics.group_ratio`)."""
SINGLE = ", single 95 % interval; the verdict is by Holm over all layers"


def p_above(ratio: Interval, bound: float) -> float:
    """The chance of so large a ratio, or a larger one, if the true one is ``bound``; 1 where nothing was measured."""
    if not all(math.isfinite(end) for end in (ratio.value, ratio.low, ratio.high)):
        return 1.0
    value, low, edge = _logarithms(ratio, ratio.value, ratio.low, bound)
    return _tail(value - edge, value - low)


def p_below(ratio: Interval, bound: float) -> float:
    """As :func:`p_above`, of so small a ratio."""
    if not all(math.isfinite(end) for end in (ratio.value, ratio.low, ratio.high)):
        return 1.0
    value, high, edge = _logarithms(ratio, ratio.value, ratio.high, bound)
    return _tail(edge - value, high - value)


def _logarithms(ratio: Interval, *numbers: float) -> Iterable[float]:
    """Of ``numbers``, one of them the bound; they themselves where one of all is not positive."""
    positive = min(ratio.low, *numbers) > 0
    return (math.log(number) if positive else number for number in numbers)


def _tail(distance: float, half: float) -> float:
    """The chance of lying ``distance`` or farther beyond an edge, ``half`` being 1.96 standard errors."""
    if half <= 0:
        return 0.0 if distance > half else 1.0
    return 0.5 * math.erfc(distance * QUANTILE / half / math.sqrt(2))


def shown(p_value: float) -> float:
    """As evidence has it: a normal tail says nothing below what so many resamples can show, and 0 is no p-value."""
    return max(p_value, 1 / (1 + RESAMPLES))


def p_inside(ratio: Interval, predicted: Prediction) -> float:
    """Small if the ratio is inside on every side that the prediction has."""
    sides = [p_above(ratio, predicted.low)] if predicted.low is not None else []
    sides += [p_below(ratio, predicted.high)] if predicted.high is not None else []
    return max(sides)


def p_outside(ratio: Interval, predicted: Prediction) -> float:
    """Small if the ratio is outside on some side. Not corrected for two: a value inside is far from one of them."""
    sides = [p_below(ratio, predicted.low)] if predicted.low is not None else []
    sides += [p_above(ratio, predicted.high)] if predicted.high is not None else []
    return min(sides)


def judge_layers(
    ratios: Mapping[int, Interval],
    predicted: Prediction,
    origin: str,
    *,
    rows: Mapping[int, LayerScores],
    evidence: Mapping[str, Any] | None = None,
    exhibits: tuple[Exhibit, ...] = (),
) -> Finding:
    """The finding about ``ratios``, one for each layer; INCONCLUSIVE whatever they are if a null control failed."""
    inside = holm([p_inside(ratio, predicted) for ratio in ratios.values()])
    outside = holm([p_outside(ratio, predicted) for ratio in ratios.values()])
    untrusted = [layer for layer, row in rows.items() if not row.null_share <= ROUNDING]
    if untrusted:
        status = Status.INCONCLUSIVE
    elif min(outside) < LEVEL:
        status = Status.REFUTED
    else:
        status = Status.SUPPORTED if max(inside) < LEVEL else Status.INCONCLUSIVE
    worst = list(ratios)[outside.index(min(outside))]
    witness = {"layer": worst, "ratio": ratios[worst].to_json(), "predicted": predicted.to_json()}
    return Finding(
        status=status,
        evidence={
            JUDGED: [
                judged(predicted, ratio, of=f"layer {layer}{SINGLE if len(ratios) > 1 else ''}", origin=origin)
                for layer, ratio in ratios.items()
            ],
            "ratio": {f"layer {layer}": ratio.to_json() for layer, ratio in ratios.items()},
            "p_inside": dict(zip((f"layer {layer}" for layer in ratios), map(shown, inside), strict=True)),
            "p_outside": dict(zip((f"layer {layer}" for layer in ratios), map(shown, outside), strict=True)),
            "test": f"one-sided at {LEVEL}, Holm over {len(ratios)} layers",
            "p_values": f"read off intervals of {RESAMPLES} resamples; none is given as less than 1/{1 + RESAMPLES}",
            **({"null_control_failed_at_layers": untrusted} if untrusted else {}),
            "predicted": predicted.to_json(),
            "predictions": origin,
            **(evidence or {}),
        },
        witness=witness if status is Status.REFUTED else None,
        exhibits=exhibits,
    )
