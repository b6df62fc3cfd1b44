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
    # A zero vector is moved to the ones before dividing, so that no gradient meets 0/0; its distance is set after.
    zero_clean = formulas.inner(clean, clean) == 0
    zero_perturbed = formulas.inner(perturbed, perturbed) == 0
    distance: Tensor = formulas.angular_distance(clean + zero_clean, perturbed + zero_perturbed)
    either, both = (zero_clean | zero_perturbed)[..., 0], (zero_clean & zero_perturbed)[..., 0]
    return distance[..., 0].masked_fill(either, 0.5).masked_fill(both, 0.0)


def kullback_leibler(clean: Tensor, perturbed: Tensor) -> Tensor:
    """``KL(clean ‖ perturbed)`` in nats between the distributions with these logits over the last axis.

    Zero if and only if the distributions agree; not symmetric; unbounded.
    """
    log_clean = torch.log_softmax(clean, -1)
    log_perturbed = torch.log_softmax(perturbed, -1)
    return (log_clean.exp() * (log_clean - log_perturbed)).sum(-1)
