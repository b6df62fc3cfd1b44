"""Frames of the plane with rational coordinates, on which what SE-5.peak says is decided in exact arithmetic.

``F(s) = Σ_j ⟨w_j, s⟩⁴`` on the unit circle and its quotient ``C(s) = F(s)/(Σ_j ⟨w_j, s⟩²)²``: second derivatives at
features (:func:`curvatures`), and all local maxima of both (:func:`plane_maximisers`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import sympy

from proofs.symbolic import Expression

Vector = tuple[Fraction, ...]
NEAR, FAR = Fraction(99, 100), Fraction(24, 25)
"""In the frame of :data:`APART`: cosines to the nearest feature, at least and at most, of the maximisers of F and C."""

ROTATED_BASIS = ((Fraction(3, 5), Fraction(4, 5)), (Fraction(-4, 5), Fraction(3, 5)))
APART = ((Fraction(3, 5), Fraction(4, 5)), (Fraction(-33, 65), Fraction(56, 65)))  # ⟨w_1, w_2⟩ = 5/13
NEARLY_SQUARE = ((Fraction(1), Fraction(0)), (Fraction(200, 10001), Fraction(9999, 10001)))
CROWDED = ((Fraction(1), Fraction(0)), (Fraction(3, 5), Fraction(4, 5)), (Fraction(3, 5), Fraction(-4, 5)))


def _dot(a: Sequence[Any], b: Sequence[Any]) -> Any:
    return sum(x * y for x, y in zip(a, b, strict=True))


def curvatures(factor: Expression) -> Mapping[str, Any] | None:
    """A feature of an exact frame of the plane whose second derivative exceeds the bound."""
    for frame in (CROWDED, ROTATED_BASIS, APART, NEARLY_SQUARE):
        trace = Fraction(len(frame))
        entries = [_dot([w[a] for w in frame], [w[b] for w in frame]) for a, b in ((0, 0), (0, 1), (1, 1))]
        determinant = entries[0] * entries[2] - entries[1] ** 2
        largest = _exact(trace) / 2 + sympy.sqrt(_exact(trace**2 / 4 - determinant))
        for i, w in enumerate(frame):
            u = (-w[1], w[0])  # in the plane there is one great circle
            curvature = sum(12 * _dot(v, w) ** 2 * _dot(v, u) ** 2 - 4 * _dot(v, w) ** 4 for v in frame)
            coherence = max(abs(_dot(v, w)) for j, v in enumerate(frame) if j != i)
            bound = factor * _exact(coherence) ** 2 * largest - 4
            if bool(_exact(curvature) > bound):
                return {
                    "frame": _texts(frame),
                    "feature": i,
                    "second_derivative": str(curvature),
                    "coherence": str(coherence),
                    "largest_eigenvalue": str(largest),
                    "bound": f"{float(bound):.6f}",
                }
    return None


def _exact(value: Fraction) -> Expression:
    return sympy.Rational(value.numerator, value.denominator)


def _texts(frame: Sequence[Vector]) -> list[list[str]]:
    return [[str(c) for c in w] for w in frame]


def plane_maximisers(frame: Sequence[Vector], *, quotient: bool) -> list[tuple[Fraction, Fraction]]:
    """Slopes ``t = tan φ`` of the lines on which ``F``, or the quotient ``C``, has its local maxima, each as an
    interval with rational ends less than 1e-6 long that holds no other critical point.

    ``frame`` are vectors of the plane; raises ``ValueError`` if the vertical line, ``t = ∞``, is critical.
    """
    t = sympy.Symbol("t")
    readings = [_exact(a) + _exact(b) * t for a, b in frame]
    top = sum(y**4 for y in readings)
    bottom = sum(y**2 for y in readings) if quotient else 1 + t**2
    slope = sympy.Poly(sympy.diff(top, t) * bottom - 2 * top * sympy.diff(bottom, t), t)  # times a positive factor
    if slope.degree() < 4:
        raise ValueError("expected a frame for which the vertical line is not critical, turn it a little")
    found = []
    for (low, high), _ in slope.intervals(eps=sympy.Rational(1, 10**6)):
        margin = sympy.Rational(1, 10**7)  # an exact root has an interval of length 0
        low, high = low - margin, high + margin
        if slope.eval(low) > 0 > slope.eval(high):
            found.append((Fraction(int(low.p), int(low.q)), Fraction(int(high.p), int(high.q))))
    return found


def _nearest(frame: Sequence[Vector], t: Fraction) -> Fraction:
    """The largest squared cosine of the line with slope ``t`` to a feature."""
    largest: Fraction = max(_dot(w, (1, t)) ** 2 for w in frame)
    return largest / (1 + t**2)


def maximisers_differ(same: bool) -> Mapping[str, Any] | None:
    """Where the maximisers are not where they are said to be."""
    for frame in (ROTATED_BASIS, APART):
        peaks, quotients = (plane_maximisers(frame, quotient=quotient) for quotient in (False, True))
        together = len(peaks) == len(quotients) and all(
            any(low <= other_high and other_low <= high for other_low, other_high in quotients) for low, high in peaks
        )
        slack = Fraction(1, 10**5)  # the intervals are shorter: a squared cosine changes less than its angle
        apart = all(_nearest(frame, low) >= NEAR**2 + slack for low, _ in peaks) and all(
            _nearest(frame, low) <= FAR**2 - slack for low, _ in quotients
        )
        if together if frame == ROTATED_BASIS or same else apart and not together:
            continue
        return {
            "frame": _texts(frame),
            "maximisers_of_F": [f"{float(low):.5f}" for low, _ in peaks],
            "maximisers_of_C": [f"{float(low):.5f}" for low, _ in quotients],
            "given_as": "slopes of lines through 0, within 1e-6",
        }
    return None
