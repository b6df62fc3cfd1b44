"""Spectral discovery: the closed form that second-order theory gives for small interventions (claim SE-3).

For a small change of presence, ``D ≈ (Δθ²/4)‖x‖²‖P_y^⊥ J v_s‖²/‖y‖²``. So the locally most sensitive directions
are the top eigenvectors of ``M = E[‖x‖² P_x^⊥ Jᵀ P_y^⊥ J P_x^⊥ / ‖y‖²]``, found all at once by subspace iteration
with Jacobian–vector products; ``M`` itself, ``[d, d]``, is never formed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sensverify import formulas
from sensverify.errors import InputError
from sensverify.geometry import random_directions
from sensverify.readout import Batch, Readout


def spectral_directions(
    readout: Readout,
    count: int,
    *,
    generator: torch.Generator,
    contexts: int = 128,
    iterations: int = 20,
) -> Tensor:
    """``[count, d]`` orthonormal directions, by falling eigenvalue.

    Raises :class:`~sensverify.errors.InputError` for more directions than the centred space has dimensions.
    """
    available = most_directions(readout)
    if count > available:
        raise InputError(
            expected=f"at most {available} spectral directions, the dimension of the space",
            got=str(count),
            remedy="ask for fewer, or use --method parallel",
        )
    batch = readout.sample(contexts, generator)
    basis = random_directions(count, readout.width, readout.centring, generator).to(batch.x)
    for _ in range(iterations):
        basis = _orthonormal(apply_operator(readout, batch, basis), readout)
    image = apply_operator(readout, batch, basis)
    eigenvalues, rotation = torch.linalg.eigh(image @ basis.T)
    directions: Tensor = (rotation.T @ basis)[eigenvalues.argsort(descending=True)]
    unit: Tensor = directions / torch.linalg.vector_norm(directions, dim=1, keepdim=True)
    return unit


def most_directions(readout: Readout) -> int:
    """The dimension of the centred space: there are no more orthonormal directions than that."""
    return readout.width - (1 if readout.centring == "mean" else 0)


def _orthonormal(vectors: Tensor, readout: Readout) -> Tensor:
    """An orthonormal basis of the span of the rows ``[S, d]``, inside the centred space.

    Where the rank is lower than ``S``, rounding fills up the basis, and may leave that space: hence the second pass.
    """
    basis = torch.linalg.qr(vectors.T).Q.T
    again: Tensor = torch.linalg.qr(readout.centring.project(basis).T).Q.T
    return again


def apply_operator(readout: Readout, batch: Batch[Any], vectors: Tensor) -> Tensor:
    """``Mv [S, d]`` for each row ``v`` of ``vectors [S, d]``, the expectation being taken over ``batch``."""
    vectors = readout.centring.project(vectors)
    centred = readout.centring.project(batch.x)
    length = formulas.norm(centred)
    x_unit = centred / length
    x = batch.x.repeat(len(vectors), 1, 1)  # forward differentiation needs memory of its own, not an expanded view
    tangents = formulas.perpendicular(vectors[:, None].expand_as(x), x_unit) * length

    def read(moved: Tensor) -> Tensor:
        return readout.read(batch, moved)

    y, pushed = torch.func.jvp(read, (x,), (tangents,))  # type: ignore[misc]
    y_length = formulas.norm(y)
    pushed = formulas.perpendicular(pushed, y / y_length) / y_length**2
    _, pull_back = torch.func.vjp(read, x)  # type: ignore[misc]
    (pulled,) = pull_back(pushed)
    image: Tensor = formulas.perpendicular(readout.centring.project(pulled) * length, x_unit)
    return image.mean(1)
