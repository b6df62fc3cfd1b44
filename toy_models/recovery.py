"""How well directions recover known features.

- :func:`recovery`: every direction votes for the feature nearest to it. It needs no optional package.
- :func:`match`: directions and features are paired one to one so that the sum of cosines is largest (Hungarian method),
  and every figure that follows from the table of cosines is read off. :func:`over_seeds` gives intervals.

A direction and its negative are different interventions, so cosines are signed. Methods that leave the sign open, such
as principal components, are also judged by absolute cosine (``signed=False``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sensverify.discovery import DUPLICATE_COSINE, count_duplicates
from sensverify.errors import InputError, MissingExtraError
from sensverify.geometry import gram, nearest
from sensverify.statistics import Interval, seed_mean, share_interval

RECOVERED_COSINE = 0.9
UNIT_TOLERANCE = 1e-3
"""How far from 1 the length of a row may be: half-precision rounding passes, vectors never normalised do not."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recovery:
    """``cosines [K]``: of each direction to the nearest true feature, signed.

    ``distinct``: how many *different* features are met at 0.9 by some direction. ``duplicates``: directions that
    repeat another one. ``features``: how many there are to be found.
    """

    cosines: Tensor
    distinct: int
    duplicates: int
    features: int

    @property
    def mean_cosine(self) -> float:
        """Mean over directions."""
        return float(self.cosines.mean())

    @property
    def distinct_share(self) -> float:
        """Different features recovered, per direction spent."""
        return self.distinct / len(self.cosines)

    @property
    def coverage(self) -> float:
        """Different features recovered, as a share of all that the model represents."""
        return self.distinct / self.features


def recovery(directions: Tensor, features: Tensor) -> Recovery:
    """Compare unit ``directions [K, d]`` with unit ``features [n, d]``.

    Signed: the negative of a feature is not the feature, since adding and removing are different interventions.
    """
    cosines, which = nearest(directions, features)
    met = torch.unique(which[cosines >= RECOVERED_COSINE])
    return Recovery(cosines=cosines, distinct=len(met), duplicates=count_duplicates(directions), features=len(features))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matching:
    """``K`` directions held against ``n`` features; all cosines are absolute values unless ``signed``.

    ``pairs [m, 2]``, ``m = min(K, n)``: direction and feature of each pair of the matching whose cosines, ``matched
    [m]``, have the largest sum. ``best_of_directions [K]``: of each direction to its nearest feature;
    ``best_of_features [n]``: of each feature to its nearest direction. ``recovered``: the largest number of features
    that can each be given a direction *of its own* at cosine ``threshold`` or more; ``met [n]``: which those are.
    ``duplicates``: ``K`` less the number of groups that directions fall into when those closer than
    ``DUPLICATE_COSINE`` are linked.
    """

    pairs: Tensor
    matched: Tensor
    best_of_directions: Tensor
    best_of_features: Tensor
    met: Tensor
    duplicates: int
    threshold: float
    signed: bool

    @property
    def directions(self) -> int:
        """``K``."""
        return len(self.best_of_directions)

    @property
    def features(self) -> int:
        """``n``."""
        return len(self.best_of_features)

    @property
    def recovered(self) -> int:
        """How many of ``met``."""
        return int(self.met.sum())

    @property
    def precise(self) -> Tensor:
        """Which directions have some feature at ``threshold``, ``[K]``."""
        return self.best_of_directions >= self.threshold

    @property
    def mean_matched_cosine(self) -> float:
        """Mean over the ``min(K, n)`` pairs; what is left without a partner does not count here."""
        return float(self.matched.mean())

    @property
    def directions_to_features(self) -> float:
        """Mean maximum cosine over directions (precision): do the directions found point at features?"""
        return float(self.best_of_directions.mean())

    @property
    def features_to_directions(self) -> float:
        """Mean maximum cosine over features (recall): is there a direction for every feature?"""
        return float(self.best_of_features.mean())

    @property
    def recovered_share(self) -> float:
        """``recovered / n``. With ``K < n`` it cannot exceed ``K/n``."""
        return self.recovered / self.features

    @property
    def covered_share(self) -> float:
        """Share of features with some direction at ``threshold``, where one direction may serve several features."""
        return float((self.best_of_features >= self.threshold).double().mean())

    @property
    def precise_share(self) -> float:
        """Share of directions with some feature at ``threshold``; duplicates count each time."""
        return float(self.precise.double().mean())

    def to_json(self) -> dict[str, Any]:
        """Every figure as plain JSON, without the tables behind them."""
        return {
            "directions": self.directions,
            "features": self.features,
            "signed": self.signed,
            "threshold": self.threshold,
            **{name: figure(self) for name, figure in FIGURES.items()},
        }


FIGURES: dict[str, Callable[[Matching], float]] = {
    "mean_matched_cosine": lambda matching: matching.mean_matched_cosine,
    "directions_to_features": lambda matching: matching.directions_to_features,
    "features_to_directions": lambda matching: matching.features_to_directions,
    "recovered_share": lambda matching: matching.recovered_share,
    "covered_share": lambda matching: matching.covered_share,
    "precise_share": lambda matching: matching.precise_share,
    "duplicates": lambda matching: float(matching.duplicates),
}
"""What a :class:`Matching` is summed up by, in the order of a table's columns."""


def match(
    directions: Tensor, features: Tensor, *, signed: bool = True, threshold: float = RECOVERED_COSINE
) -> Matching:
    """Match unit ``directions [K, d]`` with unit ``features [n, d]`` one to one, in float64.

    No figure depends on the order of either. Raises :class:`~sensverify.errors.InputError` for tables that are empty,
    of different widths, not finite or not of unit rows, :class:`~sensverify.errors.MissingExtraError` without scipy.
    """
    found, truth = _unit_rows(directions, "directions"), _unit_rows(features, "features")
    if found.shape[1] != truth.shape[1]:
        raise InputError(
            expected=f"directions of the features' width {truth.shape[1]}",
            got=f"width {found.shape[1]}",
            remedy="compare directions with the features of the model they were found on",
        )
    cosines, overlap = found @ truth.T, gram(found)
    if not signed:
        cosines, overlap = cosines.abs(), overlap.abs()
    pairs = _assign(cosines)
    ample = cosines >= threshold
    own = _assign(ample.double())
    met = torch.zeros(len(truth), dtype=torch.bool)
    met[own[:, 1]] = ample[own[:, 0], own[:, 1]]
    return Matching(
        pairs=pairs,
        matched=cosines[pairs[:, 0], pairs[:, 1]],
        best_of_directions=cosines.max(dim=1).values,
        best_of_features=cosines.max(dim=0).values,
        met=met,
        duplicates=len(found) - _count_groups(overlap > DUPLICATE_COSINE),
        threshold=threshold,
        signed=signed,
    )


def over_seeds(matchings: Sequence[Matching], generator: torch.Generator) -> dict[str, Interval]:
    """Mean over seeds of every one of :data:`FIGURES`, with a 95 % interval.

    Shares of features or of directions: seeds resampled, and items within each. Other figures: Student's interval of
    one number per seed. Raises :class:`~sensverify.errors.InputError` for fewer than two seeds, or if signed and
    unsigned matchings, or thresholds, are mixed.
    """
    if len(matchings) < 2:
        raise InputError(
            expected="at least 2 seeds to resample", got=str(len(matchings)), remedy="repeat the search with more seeds"
        )
    if len({(matching.signed, matching.threshold) for matching in matchings}) > 1:
        raise InputError(
            expected="matchings of one kind",
            got="signed and unsigned ones, or several thresholds",
            remedy="match all seeds with the same options",
        )
    intervals = {name: seed_mean([figure(one) for one in matchings]) for name, figure in FIGURES.items()}
    return intervals | {
        "recovered_share": recovered_interval(matchings, generator),
        "covered_share": share_interval([one.best_of_features >= one.threshold for one in matchings], generator),
        "precise_share": precise_interval(matchings, generator),
    }


def recovered_interval(matchings: Sequence[Matching], generator: torch.Generator) -> Interval:
    """Share of the features that are recovered: mean over seeds, with seeds and features resampled."""
    return share_interval([matching.met for matching in matchings], generator)


def precise_interval(matchings: Sequence[Matching], generator: torch.Generator) -> Interval:
    """Share of the directions that lie at a feature: mean over seeds, with seeds and directions resampled."""
    return share_interval([matching.precise for matching in matchings], generator)


def _unit_rows(table: Tensor, name: str) -> Tensor:
    """``table`` in float64 on the CPU if its rows are unit vectors, normalised to the last bit."""
    if table.ndim != 2 or 0 in table.shape:
        raise InputError(
            expected=f"a table of {name}, [count, width] with at least one row",
            got=f"shape {tuple(table.shape)}",
            remedy="pass one direction per row",
        )
    table = table.detach().double().cpu()
    lengths = table.norm(dim=1)
    worst = float((lengths - 1).abs().max())
    if not worst <= UNIT_TOLERANCE:  # written so that NaN is refused too
        raise InputError(
            expected=f"{name} of length 1",
            got=f"a length that differs by {worst:.3g}",
            remedy="divide every row by its norm, and leave out rows that are zero or not finite",
        )
    unit: Tensor = table / lengths[:, None]
    return unit


def _assign(table: Tensor) -> Tensor:
    """``[min(K, n), 2]``: rows and columns of the one-to-one choice from ``table [K, n]`` with the largest sum."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise MissingExtraError(package="scikit-learn", extra="toys") from error
    rows, columns = linear_sum_assignment(table.numpy(), maximize=True)
    return torch.stack([torch.as_tensor(rows), torch.as_tensor(columns)], dim=1)


def _count_groups(linked: Tensor) -> int:
    """How many connected groups the symmetric table ``linked [K, K]`` makes."""
    label = torch.arange(len(linked))
    reachable = linked | torch.eye(len(linked), dtype=torch.bool)
    while True:  # every row takes the least label it can reach, until none changes
        lowest = torch.where(reachable, label[None, :], len(linked)).min(dim=1).values
        if lowest.equal(label):
            return len(torch.unique(label))
        label = lowest
