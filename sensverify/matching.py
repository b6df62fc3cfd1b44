"""Whether searches from different seeds find the same directions.

The directions of two searches are matched one to one so that the sum of absolute cosines is largest (Hungarian
assignment). Chance alone matches well where there are many directions in few dimensions, so that what counts is how far
the mean matched cosine ``c`` has come from that of random sets of as many directions, ``c₀``, towards 1:
``(c − c₀)/(1 − c₀)``, the *stability*, which is 1 for the same directions.

Random sets of what? Searches of one site lean to the same few dimensions of it, and unrelated directions in a subspace
of dimension ``m`` have matched cosines of order ``1/√m``, not ``1/√d``. So ``c₀`` is that of sets with the second
moment of the found directions, those of all searches pooled. What is measured is then what searches share beyond the
region that they search in. Such sets are normal vectors, normalised; since normalising flattens the moment, the scales
of the normal are fitted so that it is right after that (an angular central Gaussian). Pooled directions are a sample,
and fill fewer dimensions than what they were drawn from, so that unrelated sets have a stability *below* 0 on average.
That over sets from the whole sphere is given beside it (:attr:`Comparison.sphere`), with the share of one search's span
that lies in another's.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sensverify.errors import MissingExtraError
from sensverify.geometry import Centring, random_directions, unit_directions
from sensverify.statistics import Interval, mean_interval

NULL_PAIRS = 200
ALL_ALIKE = 1e-6
"""Where random sets come as near to cosine 1 as this, one line is all there is, and nothing can be told."""

FITTING_DRAWS, FITTING_STEPS = 2048, 50

Draw = Callable[[torch.Generator], Tensor]
"""Of one random set ``[K, d]`` of unit directions."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matching:
    """Absolute cosines of matched directions, ``[pairs of searches, K]``, and the mean that random sets reach.

    ``span`` is the share of one search's span that lies in another's, averaged over pairs.
    """

    cosines: Tensor
    null: float
    span: float

    def stability(self, generator: torch.Generator) -> Interval:
        """``(c − c₀)/(1 − c₀)`` with an interval over matched directions, those of each being resampled together.

        A direction of the first search appears in several pairs; what is drawn is the direction. Where random sets
        are the same directions as well, up to rounding, nothing is known: from 0 to 1.
        """
        if 1 - self.null < ALL_ALIKE:
            return Interval(0.0, 0.0, 1.0)
        mean = mean_interval(self.cosines.mean(0), generator)
        value, low, high = ((end - self.null) / (1 - self.null) for end in (mean.value, mean.low, mean.high))
        return Interval(value, low, high)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Matched searches, with the absolute cosines ``[pairs, K]`` of two kinds of random sets matched alike: ``alike``
    have the second moment of the pooled searches, and give ``matching.null``; ``sphere`` are of the whole sphere."""

    matching: Matching
    alike: Tensor
    sphere: Tensor

    def stability_on_the_sphere(self, generator: torch.Generator) -> Interval:
        """As :meth:`Matching.stability`, over sets of the whole sphere."""
        return dataclasses.replace(self.matching, null=float(self.sphere.mean())).stability(generator)


def compare(
    found: Sequence[Tensor], centring: Centring, generator: torch.Generator, pairs: int = NULL_PAIRS
) -> Comparison:
    """Match sets ``[K, d]`` of unit directions, and ``pairs`` of random sets of either kind.

    Raises :class:`~sensverify.errors.MissingExtraError` without scipy.
    """
    count, width = found[0].shape
    alike = random_cosines(alike_sets(found, centring), generator, pairs)
    sphere = random_cosines(sphere_sets(count, width, centring), generator, pairs)
    return Comparison(matching=match_searches(found, float(alike.mean())), alike=alike, sphere=sphere)


def compare_drawn(
    draw: Draw, searches: int, repeats: int, centring: Centring, generator: torch.Generator, pairs: int = 10
) -> Comparison:
    """What :func:`compare` says of so many random sets in the place of searches, each time with the ``c₀`` of *their*
    moment; repeated, with all directions of all repeats side by side, so that chance has a narrow interval."""
    parts = [compare([draw(generator) for _ in range(searches)], centring, generator, pairs) for _ in range(repeats)]
    matching = Matching(
        cosines=torch.cat([part.matching.cosines for part in parts], 1),
        null=sum(part.matching.null for part in parts) / repeats,
        span=sum(part.matching.span for part in parts) / repeats,
    )
    alike, sphere = torch.cat([part.alike for part in parts]), torch.cat([part.sphere for part in parts])
    return Comparison(matching=matching, alike=alike, sphere=sphere)


def match_searches(found: Sequence[Tensor], null: float) -> Matching:
    """Match every later set ``[K, d]`` of unit directions, and every two of those, in the order of the first's.

    ``null``: the mean matched cosine of random sets. Raises :class:`~sensverify.errors.MissingExtraError` without
    scipy.
    """
    orders = [torch.arange(len(found[0])), *(matched_to(found[0], other) for other in found[1:])]
    bases = [_basis(one) for one in found]
    cosines, spans = [], []
    for first, second in itertools.combinations(range(len(found)), 2):
        start = found[first][orders[first]]
        order = matched_to(start, found[second])
        cosines.append((start * found[second][order]).sum(1).abs())
        spans.append(_overlap(bases[first], bases[second]))
    return Matching(cosines=torch.stack(cosines), null=null, span=sum(spans) / len(spans))


def shared_span(first: Tensor, second: Tensor) -> float:
    """Mean squared cosine of the principal angles between the spans of two sets ``[K, d]``: 1 for one subspace."""
    return _overlap(_basis(first), _basis(second))


def _basis(rows: Tensor) -> Tensor:
    basis: Tensor = torch.linalg.qr(rows.double().T).Q
    return basis


def _overlap(first: Tensor, second: Tensor) -> float:
    return float((first.T @ second).square().sum() / min(first.shape[1], second.shape[1]))


def matched_to(first: Tensor, second: Tensor) -> Tensor:
    """For each row of ``first [K, d]`` the row of ``second [K, d]`` that is matched to it.

    Raises :class:`~sensverify.errors.MissingExtraError` without scipy.
    """
    cosines = (first.double() @ second.double().T).abs().cpu()
    _, columns = assignment()(cosines.numpy(), maximize=True)
    return torch.as_tensor(columns)


def sphere_sets(count: int, width: int, centring: Centring) -> Draw:
    """Sets of ``count`` directions in ``width`` dimensions, uniform on the sphere."""
    return lambda generator: random_directions(count, width, centring, generator)


def alike_sets(found: Sequence[Tensor], centring: Centring) -> Draw:
    """Sets of as many directions as the first of ``found [K, d]``, with the second moment of all of them pooled: normal
    vectors, normalised. Nothing of the single directions is left in them."""
    pooled, count = unit_directions(torch.cat(list(found)).cpu().double(), centring), len(found[0])
    _, singular, axes = torch.linalg.svd(pooled, full_matrices=False)
    moment = singular.square() / len(pooled)
    moment, axes = moment[moment > ALL_ALIKE], axes[moment > ALL_ALIKE]
    scaled = (_variances(moment / moment.sum()).sqrt()[:, None] * axes).float()

    def draw(generator: torch.Generator) -> Tensor:
        return unit_directions(torch.randn(count, len(scaled), generator=generator) @ scaled, centring)

    return draw


def _variances(moment: Tensor) -> Tensor:
    """Of independent normal coordinates which, when the vector is normalised, have the second moments ``moment [r]`` of
    sum 1; by fixed-point iteration on draws of its own, which are always the same."""
    squares = torch.randn(
        FITTING_DRAWS, len(moment), generator=torch.Generator().manual_seed(0), dtype=moment.dtype
    ).square()
    variances = moment.clone()
    for _ in range(FITTING_STEPS):
        reached = variances * (squares / (squares @ variances)[:, None]).mean(0)
        variances = variances * moment / reached
        variances = variances / variances.sum()
    return variances


def random_cosines(draw: Draw, generator: torch.Generator, pairs: int = NULL_PAIRS) -> Tensor:
    """Matched absolute cosines of ``pairs`` of random sets, ``[pairs, K]``: what there is by chance."""
    rows = []
    for _ in range(pairs):
        first, second = (draw(generator) for _ in range(2))
        rows.append((first * second[matched_to(first, second)]).sum(1).abs())
    return torch.stack(rows)


def assignment() -> Any:
    """What matches. Raises :class:`~sensverify.errors.MissingExtraError` without scipy."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise MissingExtraError(package="scipy", extra="lm") from error
    return linear_sum_assignment
