"""How sparse presence is, and whether it stays within its norm budget (claim RN-4).

A direction counts as *present* in a context when ``|ρ| ≥ 4/√d``: four times the scale of chance, since a random
direction in ``d`` dimensions has a presence of order ``1/√d``. Chance alone makes it present in about 6 contexts of
100,000.

In narrow models four times chance is much: 1/2 at d = 64, and 1 at d = 16, where no direction can be present unless
it is the activation itself. Rare presence says nothing about such a model (:data:`LEAST_WIDTH`).
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from sensverify.geometry import gram

CHANCE_MULTIPLE = 4.0
LEAST_WIDTH = 64
"""The least ``d`` where the threshold ``4/√d`` is at most 1/2."""


def presence_threshold(width: int) -> float:
    """``4/√d``, from which on a direction counts as present."""
    return CHANCE_MULTIPLE / math.sqrt(width)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PresenceSummary:
    """Statistics of presences ``ρ [S, B]`` of unit directions.

    ``shares [S]``: the share of contexts in which each direction is present. ``excess_kurtosis [S]``: 0 for a
    Gaussian, positive where presence is mostly near its mean and rarely far from it. ``budget_used``: the largest
    ``Σρ_i²`` of any context over ``λ_max(G)``, at most 1 by RN-4.
    """

    threshold: float
    shares: Tensor
    excess_kurtosis: Tensor
    budget_used: float
    most_present_at_once: int

    @property
    def median_share(self) -> float:
        """Of the directions, the median share of contexts in which one is present."""
        return float(self.shares.median())


def summarise_presence(rho: Tensor, directions: Tensor) -> PresenceSummary:
    """Summarise ``rho [S, B]``, the presences of unit ``directions [S, d]``."""
    threshold = presence_threshold(directions.shape[1])
    present = rho.abs() >= threshold
    centred = (rho - rho.mean(1, keepdim=True)).double()
    kurtosis = centred.pow(4).mean(1) / centred.square().mean(1).square() - 3
    budget = float(torch.linalg.eigvalsh(gram(directions.double()))[-1])
    return PresenceSummary(
        threshold=threshold,
        shares=present.double().mean(1),
        excess_kurtosis=kurtosis,
        budget_used=float(rho.double().square().sum(0).max()) / budget,
        most_present_at_once=int(present.sum(0).max()),
    )
