"""Named interventions on activations, one function each. All keep the dtype and device of their input."""

from __future__ import annotations

import torch
from torch import Tensor

from sensverify import formulas
from sensverify.geometry import Centring, unit_directions

_NEARLY_PARALLEL = 0.01  # the sine below which set_presence takes its longer way


def set_presence(x: Tensor, directions: Tensor, alpha: Tensor | float, centring: Centring) -> Tensor:
    """The minimal intervention ``I_s^α``: nearest activation of equal norm in which ``s`` has presence ``α``.

    Args:
        x: activations ``[B, d]``.
        directions: ``[S, d]``, of any nonzero length and any floating dtype.
        alpha: presences to set, in ``[-1, 1]``: a number, ``[B]`` or ``[S, B]``.
        centring: what the model's norm cannot see. The part of ``x`` that ``P`` removes is carried over
            unchanged; norm and presence are those of ``Px``.

    Returns:
        ``[S, B, d]``. Where ``Px`` is parallel to ``s`` (or zero) every unit ``v ⊥ s`` is a minimiser; the one
        chosen is the coordinate axis least aligned with ``s``, centred and made orthogonal to it.

    Raises:
        ValueError: a direction that vanishes under centring.

    Source: Stambler 2025, restated as a nearest-point problem (RN-1).
    """
    s = unit_directions(directions, centring).to(x)[:, None]
    return _set_presence(x, s, torch.as_tensor(alpha, dtype=x.dtype, device=x.device), centring)


def set_presence_of_pairs(x: Tensor, units: Tensor, alpha: Tensor, centring: Centring) -> Tensor:
    """:func:`set_presence` row by row: ``[N, d]`` from ``x [N, d]``, ``units [N, d]`` and ``alpha [N]``.

    The rows of ``units`` are unit vectors in the image of ``P``; nothing is made of them here.
    """
    return _set_presence(x, units, alpha, centring)


def _set_presence(x: Tensor, s: Tensor, alpha: Tensor, centring: Centring) -> Tensor:
    centred = centring.project(x)
    rejected = formulas.rejection(centred, s)
    length, left = formulas.norm(centred), formulas.norm(rejected)
    if bool((left <= _NEARLY_PARALLEL * formulas.norm(x)).any()):
        # So little is left of x that the rounding of its centring shows: centre again, or the norm would be off.
        rejected = centring.project(rejected)
        # And below this it is nothing but rounding: its direction would be chosen by the last bits of x.
        parallel = left <= 8 * torch.finfo(x.dtype).eps * formulas.norm(x)
        rejected = torch.where(parallel, _least_aligned_axis(s, centring), rejected)
        left = formulas.norm(rejected)
    v = rejected / left
    moved: Tensor = formulas.at_presence(length, s, v, alpha[..., None])
    return moved + (x - centred)


def _least_aligned_axis(s: Tensor, centring: Centring) -> Tensor:
    """For each unit row of ``s [..., d]`` a vector orthogonal to it, ``[..., d]``, the same on every run."""
    axis = torch.nn.functional.one_hot(s.abs().argmin(dim=-1), s.shape[-1]).to(s.dtype)
    rejected: Tensor = formulas.rejection(centring.project(axis), s)
    return rejected


def scale_norm(x: Tensor, factor: float, centring: Centring) -> Tensor:
    """``Px`` multiplied by ``factor > 0``, the part removed by ``P`` unchanged; same shape as ``x [..., d]``.

    The direction, and with it every presence, stays as it was: only the norm changes.
    """
    centred = centring.project(x)
    return x + (factor - 1) * centred
