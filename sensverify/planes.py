"""Minimal interventions by their coordinates in the plane of activation and direction.

``I_s^α(x)`` lies in the plane of ``Px`` and ``s``: it is ``along·s + across·Px`` beside the part that ``P`` removes,
with ``across = √(1−α²)/√(1−ρ²)`` and ``along = ‖Px‖(α − across·ρ)`` (RN-1). Whatever a model does linearly to it,
before its first nonlinearity, it does to ``s`` and ``x`` apart: of ``S`` directions and ``B`` contexts, ``S + B``
vectors go through the matrix in place of ``S·B``, and what is left to do for each pair is two multiplications and an
addition per unit. A norm does not stand in the way, since the intervention keeps ``‖Px‖``.

Where ``x`` is nearly parallel to ``s`` the two terms cancel and digits are lost. Those pairs are few, and are told
apart: they go the long way, through :func:`sensverify.interventions.set_presence`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor

from sensverify.geometry import Centring, unit_directions
from sensverify.interventions import set_presence, set_presence_of_pairs
from sensverify.readout import Batch, Readout
from sensverify.scoring import angular_distance, derivatives

NEARLY_PARALLEL, NEARLY_PARALLEL_CLOSED = 0.03, 0.25
"""The sine of the angle between activation and direction below which a pair goes the long way: about five of the seven
digits of float32 are left at it. The latter is for distances that are known without reading: they are made of squares
of what cancels, and lose twice as many."""


class PlanarReadout(Readout, Protocol):
    """What a :class:`sensverify.readout.Readout` has beside the rest if it can read coordinates in the plane."""

    def read_plane(self, batch: Batch[Any], directions: Tensor, along: Tensor, across: Tensor) -> Tensor:
        """``[S, B, d_out]``, as :meth:`~sensverify.readout.Readout.read` would have it of the activations
        ``along·s + across·Px + (x − Px)``, with ``along`` and ``across [S, B]`` and ``directions [S, d]`` that are
        unit vectors in the image of ``P``; differentiable in all three."""

    def read_pairs(self, batch: Batch[Any], contexts: Tensor, x: Tensor) -> Tensor:
        """``[N, d_out]`` of activations ``x [N, d]``, the ``i``-th in context number ``contexts[i]`` of the batch."""


class AngularReadout(PlanarReadout, Protocol):
    """What a :class:`PlanarReadout` has beside the rest if it may know distances without making the read-outs."""

    @property
    def angle_entries(self) -> int | None:
        """By how many numbers a pair counts where :meth:`read_angles` is given many at once; None where it is of no
        use."""

    def read_angles(self, batch: Batch[Any], directions: Tensor, along: Tensor, across: Tensor) -> Tensor | None:
        """Angular distances ``[S, B]`` between the clean read-out and :meth:`PlanarReadout.read_plane`,
        differentiable in the same; None where there is no way but that."""


def is_planar(readout: Readout) -> TypeGuard[PlanarReadout]:
    """Whether ``readout`` can read coordinates in the plane, and reads the same thing then.

    A subclass that changes :meth:`read` alone would be passed by; it is read the long way.
    """
    return _goes_with_read(type(readout), ("read_plane", "read_pairs")) and bool(getattr(readout, "planar", True))


def _is_angular(readout: Readout) -> TypeGuard[AngularReadout]:
    return is_planar(readout) and _goes_with_read(type(readout), ("read_angles",))


def angle_entries(readout: Readout) -> int | None:
    """By how many numbers a pair counts where ``readout`` knows distances without reading; None if it does not."""
    return readout.angle_entries if _is_angular(readout) else None


@functools.cache
def _goes_with_read(kind: type, names: tuple[str, ...]) -> bool:
    where = {name: i for i, one in reversed(list(enumerate(kind.__mro__))) for name in vars(one)}
    return all(where.get(name, math.inf) <= where["read"] for name in names)


class Plane:
    """The planes of activations ``x [B, d]`` and ``directions [S, d]``, for interventions that set any presence.

    ``directions`` become unit vectors in the image of ``P``. Coordinates are computed in float64, since ``1 − ρ²``
    loses twice the digits that ``ρ`` does. ``steep [N, 2]``: the pairs (direction, context) that are too nearly
    parallel; their coordinates mean nothing.

    Raises ``ValueError`` for a direction that vanishes under centring.
    """

    def __init__(
        self, x: Tensor, directions: Tensor, centring: Centring, nearly_parallel: float = NEARLY_PARALLEL
    ) -> None:
        self.x, self.centring = x, centring
        self.directions = unit_directions(directions, centring).to(x)
        self.centred = centring.project(x).double()
        lengths = torch.linalg.vector_norm(self.centred, dim=1)
        self.lengths = torch.where(lengths > 0, lengths, 1.0)
        rho, self.scale = _presences(self.directions.detach().double(), self.centred, self.lengths)
        # a zero activation, and NaN, among them
        self.is_steep = ~((1 - rho) * (1 + rho) * (lengths > 0) > nearly_parallel**2)
        self.steep = self.is_steep.nonzero()
        self.rho = rho.masked_fill(self.is_steep, 0.0) if len(self.steep) else rho

    def coordinates(self, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """``(along, across)``, ``[S, B]`` each in the dtype of ``x``, for presences ``alpha``, ``[]`` or ``[B]`` or
        ``[S, B]``."""
        along, across = _Coordinates.apply(  # type: ignore[no-untyped-call]
            self.directions, self, alpha.double()
        )
        return along, across

    def outcomes(self, alpha: Tensor) -> Tensor:
        """Where the interventions on the steep pairs lead, ``[N, d]``."""
        which, context = self.steep.T
        presence = alpha.expand(self.is_steep.shape)[which, context]
        return set_presence_of_pairs(self.x[context], self.directions[which], presence, self.centring)


def _presences(units: Tensor, centred: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """``ρ [S, B]``, and the lengths of the directions, ``[S, 1]``: 1 but for the rounding of their dtype."""
    scale = torch.linalg.vector_norm(units, dim=1, keepdim=True)
    return units @ centred.T / (scale * lengths), scale


def _coordinates(rho: Tensor, scale: Tensor, lengths: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """``(along, across)`` in float64."""
    across = ((1 - alpha) * (1 + alpha)).sqrt() / ((1 - rho) * (1 + rho)).sqrt()  # apart: it may be √0 on top
    return lengths * (alpha - across * rho) / scale, across


class _Coordinates(torch.autograd.Function):
    """:func:`_coordinates` with the gradient written out: ``d across/dρ = across·ρ/(1 − ρ²)`` and
    ``d along/dρ = −‖Px‖·across/(1 − ρ²)``, a few small tables where autograd keeps twenty."""

    @staticmethod
    def forward(ctx: Any, directions: Tensor, plane: Plane, alpha: Tensor) -> tuple[Tensor, Tensor]:
        along, across = _coordinates(plane.rho, plane.scale, plane.lengths, alpha)
        ctx.constants = plane.centred, plane.lengths, plane.is_steep, alpha
        ctx.save_for_backward(directions, along, across, plane.rho, plane.scale)
        return along.to(directions.dtype), across.to(directions.dtype)

    @staticmethod
    def backward(ctx: Any, of_along: Tensor, of_across: Tensor) -> tuple[Tensor | None, ...]:
        directions, along, across, rho, scale = ctx.saved_tensors
        centred, lengths, steep, alpha = ctx.constants
        if torch.is_grad_enabled():  # whoever asks for second derivatives gets those of the formula
            again, its_scale = _presences(directions.double(), centred, lengths)
            found = _coordinates(again.masked_fill(steep, 0.0), its_scale, lengths, alpha)
            outputs = [one.to(directions.dtype) for one in found]
            return *derivatives(outputs, [directions], [of_along, of_across], [True]), None, None
        of_along, of_across = of_along.double(), of_across.double()
        of_rho = (of_across * rho - of_along * (lengths / scale)) * (across / ((1 - rho) * (1 + rho)))
        inward = (of_rho * rho + of_along * along).sum(1, keepdim=True) / scale.square()
        gradient = (of_rho / (scale * lengths)) @ centred - inward * directions
        return gradient.to(directions.dtype), None, None


def read_moved(
    readout: Readout, batch: Batch[Any], directions: Tensor, alphas: Sequence[Tensor | float]
) -> list[Tensor]:
    """``f_b(I_s^α(x)) [S, B, d_out]`` for each of ``alphas``, the shorter way if the read-out knows one.

    ``directions [S, d]``, in which the answer is differentiable; an ``α`` is a number, ``[B]`` or ``[S, B]``.
    """
    if not is_planar(readout) or torch.finfo(batch.x.dtype).bits < 32:  # the two terms would cancel to nothing
        return [readout.read(batch, set_presence(batch.x, directions, alpha, readout.centring)) for alpha in alphas]
    plane = Plane(batch.x, directions, readout.centring)
    which, context = plane.steep.T
    answers = []
    for alpha in (torch.as_tensor(alpha, dtype=batch.x.dtype, device=batch.x.device) for alpha in alphas):
        y = readout.read_plane(batch, plane.directions, *plane.coordinates(alpha))
        if len(which):
            y = y.index_put((which, context), _read_pairs(readout, batch, context, plane.outcomes(alpha)))
        answers.append(y)
    return answers


def angles_moved(
    readout: Readout, batch: Batch[Any], clean: Tensor, directions: Tensor, alpha: Tensor
) -> Tensor | None:
    """``D(f_b(x), f_b(I_s^α(x))) [S, B]`` for the angular distance, if the read-out knows it without reading; else
    None. ``directions [S, d]``, in which it is differentiable; ``alpha`` is ``[B]`` or ``[S, B]``."""
    if not _is_angular(readout) or torch.finfo(batch.x.dtype).bits < 32:
        return None
    plane = Plane(batch.x, directions, readout.centring, NEARLY_PARALLEL_CLOSED)
    distances = readout.read_angles(batch, plane.directions, *plane.coordinates(alpha))
    if distances is None or not len(plane.steep):
        return distances
    which, context = plane.steep.T
    outcomes = _read_pairs(readout, batch, context, plane.outcomes(alpha))
    return distances.index_put((which, context), angular_distance(clean[context], outcomes))


def _read_pairs(readout: PlanarReadout, batch: Batch[Any], contexts: Tensor, x: Tensor) -> Tensor:
    """As the read-out has it, no more pairs at once than there are contexts: each may take a context of its own."""
    lots = zip(torch.split(contexts, len(batch)), torch.split(x, len(batch)), strict=True)
    return torch.cat([readout.read_pairs(batch, *lot) for lot in lots])


def combine(
    of_directions: Tensor, of_contexts: Tensor, along: Tensor, across: Tensor, constant: Tensor | None = None
) -> Tensor:
    """``along·of_directions + across·of_contexts + constant [S, B, n]``: what a linear map makes of activations in the
    plane.

    Given are what it makes of the directions, ``[S, n]``, and of the contexts, ``[B, n]``, coordinates ``[S, B]``, and
    what it adds, ``[n]`` or ``[B, n]``, which gets no gradient. The gradient is written out: autograd would make tables
    ``[S, B, n]`` only to sum them.
    """
    combined: Tensor = _Combination.apply(  # type: ignore[no-untyped-call]
        of_directions, of_contexts, along, across, constant
    )
    return combined


class _Combination(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, of_directions: Tensor, of_contexts: Tensor, along: Tensor, across: Tensor, constant: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(of_directions, of_contexts, along, across)
        if constant is None:
            first = of_directions[:, None] * along[..., None]
        else:
            first = torch.addcmul(constant, of_directions[:, None], along[..., None])
        return first.addcmul_(of_contexts, across[..., None])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        of_directions, of_contexts, along, across = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            torch.bmm(along[:, None], gradient)[:, 0] if wanted[0] else None,
            torch.bmm(across.T[:, None], gradient.transpose(0, 1))[:, 0] if wanted[1] else None,
            torch.bmm(of_directions[:, None], gradient.transpose(1, 2))[:, 0] if wanted[2] else None,
            (gradient * of_contexts).sum(-1) if wanted[3] else None,
            None,
        )
