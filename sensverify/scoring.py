"""Distances between a clean read-out and a perturbed one. Each maps ``([..., d], [..., d]) -> [...]``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sensverify import formulas

Distance = Callable[[Tensor, Tensor], Tensor]


def angular_distance(clean: Tensor, perturbed: Tensor) -> Tensor:
    """``(1 − cos)/2 ∈ [0, 1]`` over the last axis; the inputs broadcast.

    A zero vector has no direction: two zeros are at distance 0, a zero and a nonzero vector at 1/2 (as if
    orthogonal). Read-outs behind a ReLU can be zero.
    """
    zero_clean = (clean == 0).all(-1)
    zero_perturbed = (perturbed == 0).all(-1)
    if not bool(zero_clean.any()) and not bool(zero_perturbed.any()):
        return _unsafe_angular(clean, perturbed)
    # Substituting ones keeps the gradient of the vectors that are not zero free of NaN.
    distance = _unsafe_angular(
        torch.where(zero_clean[..., None], torch.ones_like(clean), clean),
        torch.where(zero_perturbed[..., None], torch.ones_like(perturbed), perturbed),
    )
    both, either = zero_clean & zero_perturbed, zero_clean | zero_perturbed
    distance = torch.where(either, torch.full_like(distance, 0.5), distance)
    return torch.where(both, torch.zeros_like(distance), distance)


def _unsafe_angular(clean: Tensor, perturbed: Tensor) -> Tensor:
    distance: Tensor = formulas.angular_distance(clean, perturbed)
    return distance[..., 0]


def kullback_leibler(clean: Tensor, perturbed: Tensor) -> Tensor:
    """``KL(clean ‖ perturbed)`` in nats between the distributions with these logits over the last axis.

    Zero if and only if the distributions agree; not symmetric; unbounded.
    """
    log_clean = torch.log_softmax(clean, -1)
    log_perturbed = torch.log_softmax(perturbed, -1)
    return (log_clean.exp() * (log_clean - log_perturbed)).sum(-1)
