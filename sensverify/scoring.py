"""Distances between a clean read-out and a perturbed one. Each maps ``([..., d], [..., d]) -> [...]``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sensverify import formulas

Distance = Callable[[Tensor, Tensor], Tensor]


def angular_distance(clean: Tensor, perturbed: Tensor) -> Tensor:
    """``(1 − cos)/2 ∈ [0, 1]`` over the last axis; the inputs broadcast.

    A zero vector has no direction: two zeros are at distance 0, a zero and a nonzero vector at 1/2 (as if
    orthogonal). Read-outs behind a ReLU can be zero.
    """
    distance: Tensor = _AngularDistance.apply(clean, perturbed)  # type: ignore[no-untyped-call]
    return distance


class _AngularDistance(torch.autograd.Function):
    """The formula of the theory, with its gradient written out.

    The gradient with respect to ``z`` is ``−(u − (u·w)w)/(2‖z‖)`` for the unit vectors ``u`` and ``w`` of ``y`` and
    ``z``; as ``(u − w) + 2Dw`` it is without the cancellation where they nearly agree. Autograd would make twice as
    many tables of the size of ``z``.
    """

    @staticmethod
    def forward(ctx: Any, clean: Tensor, perturbed: Tensor) -> Tensor:
        given = clean, perturbed
        clean, zero_clean = _nonzero(clean)
        perturbed, zero_perturbed = _nonzero(perturbed)
        difference = formulas.unit_difference(clean, perturbed)
        distance: Tensor = formulas.inner(difference, difference)[..., 0] / 4
        either = zero_clean | zero_perturbed
        ctx.save_for_backward(*given, clean, perturbed, difference, distance, either)
        return distance.masked_fill(either, 0.5).masked_fill(zero_clean & zero_perturbed, 0.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *given, clean, perturbed, difference, distance, either = ctx.saved_tensors
        if torch.is_grad_enabled():  # whoever asks for second derivatives gets those of the formula
            ones = [torch.where((y == 0).all(-1, keepdim=True), 1.0, y) for y in given]
            again = formulas.angular_distance(*ones)[..., 0].masked_fill(either, 0.0)
            return derivatives([again], given, [gradient], ctx.needs_input_grad)
        twice = 2 * distance[..., None]
        gradient = gradient.masked_fill(either, 0.0)[..., None] / 2  # a zero vector's distance is a constant
        answer: list[Tensor | None] = []
        for vector, away, wanted in zip((clean, perturbed), (-1, 1), ctx.needs_input_grad, strict=True):
            if not wanted:
                answer.append(None)
                continue
            inverse = 1 / torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
            turned = (vector * (twice * inverse)).add_(difference, alpha=away).mul_(gradient * inverse)
            answer.append(turned.neg_().sum_to_size(vector.shape))
        return answer[0], answer[1]


def derivatives(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], gradients: Sequence[Tensor], wanted: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """The gradients of ``inputs`` that are wanted, None for the others, from those of ``outputs``; they can be
    differentiated again."""
    chosen = [one for one, is_wanted in zip(inputs, wanted, strict=True) if is_wanted]
    found = iter(torch.autograd.grad(outputs, chosen, gradients, create_graph=True))
    return tuple(next(found) if is_wanted else None for is_wanted in wanted)


def _nonzero(y: Tensor) -> tuple[Tensor, Tensor]:
    """``y [..., d]`` with zeros moved to the ones, to be divided by their norms; and which they were, ``[...]``."""
    zero = torch.linalg.vector_norm(y, dim=-1) == 0
    return (y + zero[..., None] if bool(zero.any()) else y), zero


def kullback_leibler(clean: Tensor, perturbed: Tensor) -> Tensor:
    """``KL(clean ‖ perturbed)`` in nats between the distributions with these logits over the last axis.

    Zero if and only if the distributions agree; not symmetric; unbounded.
    """
    log_clean = torch.log_softmax(clean, -1)
    log_perturbed = torch.log_softmax(perturbed, -1)
    return (log_clean.exp() * (log_clean - log_perturbed)).sum(-1)
