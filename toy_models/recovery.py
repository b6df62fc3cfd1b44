"""How well directions recover known features."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from sensverify.discovery import count_duplicates
from sensverify.geometry import nearest

RECOVERED_COSINE = 0.9


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
