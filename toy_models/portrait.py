"""A portrait of superposition in the plane: five features, what a search finds among them, and sensitivity all around.

Five sparse features in two dimensions settle on a regular pentagon (Elhage et al. 2022). There a direction is an angle,
so that SeS of *every* direction fits into one closed line, and one sees where an ascent must end.

Of several starts the model with the lowest loss, as a share of the loss of answering 0, is shown: some starts stay in
worse arrangements. The search has no repulsion. In the plane features overlap so much (``|cos 72°| = 0.31``,
``|cos 144°| = 0.81``) that a barrier against overlap would push directions off them; without it, several may end on
one feature.

SeS is shown over its mean over all directions, which is what a random direction scores on average. Both are measured
on the same contexts, so that most of the noise of SeS cancels in the ratio.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.discovery import SearchOptions, search
from sensverify.exhibits import Arrows, Curve, Exhibit
from sensverify.sensitivity import estimate
from sensverify.statistics import Interval, group_ratio
from toy_models.superposition import SuperpositionConfig, SuperpositionModel, SuperpositionReadout
from toy_models.trained import models

CONFIG = SuperpositionConfig(features=5, width=2, density=0.05, steps=600, batch=512, learning_rate=2e-2)
STARTS = 4
DIRECTIONS = 8
SEARCH_STEPS = 200
SEARCH_CONTEXTS = 128
CONTEXTS = 8192
DRAWS = 2
RESAMPLES = 1000
ANGLES = 72
NEAR = 5.0
"""Degrees within which a direction found counts as lying on a feature."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plane:
    """A model in the plane and what was measured on it; ratios are SeS over its mean over all directions.

    ``found [K, 2]`` are unit directions; ``radius [A]`` and its ``standard_error [A]`` over contexts belong to ``A``
    equally spaced ``angles [A]`` in degrees; ``of_features`` is the ratio for the mean over the features.
    """

    model: SuperpositionModel
    found: Tensor
    angles: Tensor
    radius: Tensor
    standard_error: Tensor
    of_features: Interval

    @property
    def columns(self) -> Tensor:
        """``[n', 2]``: the represented columns of ``W``, at their own length."""
        return self.model.weights.T[self.model.represented]

    @property
    def gaps(self) -> Tensor:
        """Degrees from each feature to the next one around the origin; they add up to 360."""
        turns = degrees(self.columns).sort().values
        return (turns.roll(-1) - turns) % 360 if len(turns) > 1 else torch.full((len(turns),), 360.0)

    def distance_to_feature(self, directions: Tensor) -> Tensor:
        """Degrees from each of ``directions [S, 2]`` to the nearest feature, ``[S]``."""
        return apart(directions, self.columns).min(dim=1).values

    @property
    def on_feature(self) -> int:
        """How many directions found lie on a feature."""
        return int((self.distance_to_feature(self.found) <= NEAR).sum())

    @property
    def reached(self) -> int:
        """How many features have a direction found on them."""
        return int((apart(self.columns, self.found).min(dim=1).values <= NEAR).sum())

    @property
    def chance(self) -> float:
        """The share of all directions that lie on a feature."""
        return float((self.distance_to_feature(unit(torch.arange(0, 360, 0.1))) <= NEAR).double().mean())


def portrait(run: Run) -> tuple[Exhibit, ...]:
    """The plane as arrows with SeS around the origin, and SeS over the angle; the same for the same ``run.seed``."""
    plane = run.shared("toy_models.portrait", lambda: examine(run))
    return as_arrows(plane), as_curve(plane)


def examine(run: Run) -> Plane:
    """Train, search, and measure all around."""
    model = best_model(run)
    readout = SuperpositionReadout(model)
    options = SearchOptions(
        directions=DIRECTIONS,
        steps=SEARCH_STEPS,
        contexts=SEARCH_CONTEXTS,
        repulsion=0.0,
        seed=model.seed + 1,
    )
    found = search(readout, options, progress=run.progress).directions
    angles = torch.arange(ANGLES) * (360.0 / ANGLES)
    directions = torch.cat([unit(angles), model.feature_directions])
    generator = torch.Generator().manual_seed(model.seed + 2)
    effects = estimate(readout, directions, generator=generator, contexts=CONTEXTS, draws=DRAWS).effects.double()
    around, of_features = effects[:ANGLES], effects[ANGLES:]
    mean = around.mean(dim=0, keepdim=True)
    radius = around.mean(dim=1) / mean.mean()
    # The ratio of two means over the same contexts, linearised.
    residual = (around - radius[:, None] * mean) / mean.mean()
    return Plane(
        model=model,
        found=found,
        angles=angles,
        radius=radius,
        standard_error=(residual.square().sum(dim=1) / (CONTEXTS * (CONTEXTS - 1))).sqrt(),
        of_features=group_ratio(of_features.mean(dim=0, keepdim=True), mean, generator, RESAMPLES),
    )


def best_model(run: Run) -> SuperpositionModel:
    """Of :data:`STARTS` starts the one with the lowest loss, as a share of the loss of answering 0."""
    starts = models(run, CONFIG, [1000 * run.seed + i for i in range(STARTS)])
    return min(starts, key=lambda model: model.loss / model.loss_of_zero)


def as_arrows(plane: Plane) -> Arrows:
    """Features, directions found, and SeS as a closed line around the origin."""
    config, gaps, lengths = plane.model.config, plane.gaps, plane.columns.norm(dim=1)
    settled = "ends" if plane.on_feature > len(plane.found) / 2 else "does not end"
    sentences = (
        f"Of {STARTS} models trained at density {config.density:g}, the one with the lowest loss.",
        f"Thick arrows: the {len(plane.columns)} features that it represents, the columns of $W$,",
        f"{float(lengths.min()):.2f} to {float(lengths.max()):.2f} long and {float(gaps.min()):.1f}° to",
        f"{float(gaps.max()):.1f}° from one to the next (72° in a regular pentagon).",
        f"Thin arrows: {len(plane.found)} directions found by a parallel search for plain SeS without repulsion;",
        f"{plane.on_feature} of them lie within {NEAR:g}° of a feature, where {plane.chance:.0%} of all",
        f"directions lie, and they reach {plane.reached} of the features:",
        f"here an ascent of sensitivity {settled} on features.",
        "Line: SeS in every direction over its mean over all directions, as distance from the origin; the dashed",
        "circle is that mean, which random directions score on average.",
        standing(plane),
    )
    return Arrows(
        title=f"{config.features} features in {config.width} dimensions",
        caption=" ".join(sentences),
        groups={"features": _pairs(plane.columns), "found": _pairs(plane.found)},
        outlines={"SeS / its mean": _pairs(unit(plane.angles) * plane.radius[:, None])},
        unit_circle=True,
    )


def as_curve(plane: Plane) -> Curve:
    """SeS over the angle, with its interval."""
    turns = ", ".join(f"{turn:.0f}°" for turn in degrees(plane.columns).sort().values.tolist())
    angles = [*plane.angles.tolist(), 360.0]
    radius, error = (torch.cat([values, values[:1]]).tolist() for values in (plane.radius, plane.standard_error))
    name = "SeS / its mean"
    return Curve(
        title="Sensitivity in every direction of the plane",
        caption=f"The features lie at {turns}: if they are what the model is most sensitive to, the line has its "
        f"peaks there. {standing(plane)} Intervals are 95 % over "
        f"{CONTEXTS} contexts that all directions share.",
        x_label="angle of the direction in degrees",
        y_label=name,
        x=angles,
        series={name: radius},
        bands={name: [(r - 1.96 * e, r + 1.96 * e) for r, e in zip(radius, error, strict=True)]},
    )


def standing(plane: Plane) -> str:
    """How far features stand out from random directions, in words that follow from the interval."""
    ratio = plane.of_features
    figures = f"Features score {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] times the mean"
    lowest = f"the lowest direction {float(plane.radius.min()):.3f} times"
    if ratio.low <= 1:
        return f"{figures}, {lowest}: in two dimensions they do not stand out from random directions."
    return (
        f"{figures}, {lowest}: in two dimensions features are more sensitive than random directions, but by so little "
        "that their score alone does not single them out."
    )


def unit(angles: Tensor) -> Tensor:
    """Unit vectors ``[A, 2]`` at ``angles [A]`` in degrees."""
    turns = torch.deg2rad(angles)
    return torch.stack([turns.cos(), turns.sin()], dim=1)


def degrees(vectors: Tensor) -> Tensor:
    """Angles in ``[0, 360)`` of ``vectors [S, 2]``, ``[S]``."""
    return torch.rad2deg(torch.atan2(vectors[:, 1], vectors[:, 0])) % 360


def apart(vectors: Tensor, others: Tensor) -> Tensor:
    """Angles ``[S, R]`` in degrees between ``vectors [S, 2]`` and ``others [R, 2]``, in ``[0, 180]``."""
    difference = (degrees(vectors)[:, None] - degrees(others)[None]) % 360
    return torch.minimum(difference, 360 - difference)


def _pairs(vectors: Tensor) -> list[tuple[float, float]]:
    return [(x, y) for x, y in vectors.tolist()]
