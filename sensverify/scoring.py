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
    """:func:`sensverify.formulas.angular_distance` with its gradient written out, in four passes over the table of
    perturbed read-outs and two more for the gradient.

    With the unit vectors ``u`` and ``w`` of ``y`` and ``z`` the gradient with respect to ``z`` is
    ``−(u − (u·w)w)/(2‖z‖)``; as ``(u − w) + 2Dw`` it is without the cancellation where they nearly agree.
    """

    @staticmethod
    def forward(ctx: Any, clean: Tensor, perturbed: Tensor) -> Tensor:
        (inverse, zero), (other_inverse, other_zero) = _inverse_length(clean), _inverse_length(perturbed)
        unit, other = clean * inverse, perturbed * other_inverse
        difference = torch.sub(unit, other, out=other) if _fits(unit, other) else unit - other
        distance: Tensor = torch.linalg.vector_norm(difference, dim=-1).square_().div_(4)
        ctx.save_for_backward(clean, perturbed, inverse, other_inverse, difference, distance, zero | other_zero)
        return distance.masked_fill(zero | other_zero, 0.5).masked_fill(zero & other_zero, 0.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        clean, perturbed, inverse, other_inverse, difference, distance, either = ctx.saved_tensors
        if torch.is_grad_enabled():  # whoever asks for second derivatives gets those of the formula
            ones = [torch.where((y == 0).all(-1, keepdim=True), 1.0, y) for y in (clean, perturbed)]
            again = formulas.angular_distance(*ones)[..., 0].masked_fill(either, 0.0)
            return derivatives([again], (clean, perturbed), [gradient], ctx.needs_input_grad)
        gradient = gradient.masked_fill(either, 0.0)[..., None] / 2  # a zero vector's distance is a constant
        twice = 2 * distance[..., None]
        answer: list[Tensor | None] = []
        sides = ((clean, inverse, 1), (perturbed, other_inverse, -1))
        for (vector, by_length, sign), wanted in zip(sides, ctx.needs_input_grad, strict=True):
            if not wanted:
                answer.append(None)
                continue
            pull = gradient * by_length
            turned = (difference * (sign * pull)).addcmul_(vector, -twice * by_length * pull)
            answer.append(turned.sum_to_size(vector.shape))
        return answer[0], answer[1]


def _fits(one: Tensor, other: Tensor) -> bool:
    """Whether what is made of both has the shape and dtype of ``other``, and may be written over it."""
    if one.dtype != other.dtype or one.dim() > other.dim():
        return False
    return all(m in (1, n) for m, n in zip(reversed(one.shape), reversed(other.shape), strict=False))


def _inverse_length(y: Tensor) -> tuple[Tensor, Tensor]:
    """``1/‖y‖ [..., 1]``, 1 for zeros; and which of ``y [..., d]`` are zeros, ``[...]``."""
    length = torch.linalg.vector_norm(y, dim=-1, keepdim=True)
    zero = length == 0
    return 1 / (length + zero), zero[..., 0]


def derivatives(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], gradients: Sequence[Tensor], wanted: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """The gradients of ``inputs`` that are wanted, None for the others, from those of ``outputs``; they can be
    differentiated again."""
    chosen = [one for one, is_wanted in zip(inputs, wanted, strict=True) if is_wanted]
    found = iter(torch.autograd.grad(outputs, chosen, gradients, create_graph=True))
    return tuple(next(found) if is_wanted else None for is_wanted in wanted)


def kullback_leibler(clean: Tensor, perturbed: Tensor) -> Tensor:
    """``KL(clean ‖ perturbed)`` in nats between the distributions with these logits over the last axis.

    Zero if and only if the distributions agree; not symmetric; unbounded.
    """
    log_clean = torch.log_softmax(clean, -1)
    log_perturbed = torch.log_softmax(perturbed, -1)
    return (log_clean.exp() * (log_clean - log_perturbed)).sum(-1)
