"""What the engine's interventions, distances and steps on the sphere are held to, in plain linear algebra.

- ``set_presence`` and ``scale_norm``: the norm, presence and mean that their names promise, for any ``x``: parallel to
  the direction, nearly so, on top of a mean as large as can be;
- ``angular_distance`` with its conventions for zero vectors; KL divergence;
- random directions, tangents, great circles, nearest references; the strata from which ``α`` is drawn.

Part of the check of SE-1. Bounds are multiples of ``γ(d + 8)``, times the condition of the centring where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from proofs.small_readouts import Case
from sensverify import scoring
from sensverify.geometry import Centring, gram, nearest, presence, random_directions, step_on_sphere, tangent
from sensverify.interventions import scale_norm, set_presence
from sensverify.sensitivity import PresenceLaw

Law = tuple[str, float, float]
"""Name, error, bound."""

_TILTS, _OFFSETS = (0.0, 1e-6, 1e-3), (0.0, 1.0, 1000.0)


def laws(case: Case, rounding: float) -> Iterator[Law]:
    """Name, error and bound of every law, tried on this case; ``rounding`` is its ``γ(d + 8)``."""
    yield from _intervention(case, rounding)
    yield from _sphere(case, rounding)
    yield from _alphas(case)
    yield from _distances(case, rounding)


def _intervention(case: Case, rounding: float) -> Iterator[Law]:
    centring, x = case.readout.centring, case.readout.contexts
    # Parallel to s and nearly so, on top of a mean as large as can be: there rounding is all that is left of x. The
    # last direction is a negative axis, which must not be taken for its own orthogonal complement.
    directions = torch.cat([case.directions, -torch.eye(case.readout.width, dtype=x.dtype)[:1]])
    tilt, offset = _TILTS[case.seed % 3], _OFFSETS[case.seed // 3 % 3] if centring is Centring.MEAN else 0.0
    near = directions[-1 - case.seed % 2][None] * 2 + tilt * x[:1] / x[:1].abs().max() + offset
    s = _centred(directions, centring)
    shrunk = float((_length(directions.double()) / _length(s)).max())
    unit = s / _length(s)
    for points in (x, near):
        whole = _centred(points, centring)
        length = _length(whole)
        bound = 32 * rounding * shrunk * float((_length(points.double()) / length).max())
        moved = set_presence(points, directions, case.alpha, centring).double()
        after = _centred(moved, centring)
        cosine = (after * unit[:, None]).sum(-1) / _length(after)[..., 0]
        unseen = (moved - after) - (points.double() - whole)
        yield "set_presence keeps the norm", largest(_length(after) / length - 1), bound
        yield "set_presence sets the presence", largest(cosine - case.alpha), bound
        yield "set_presence keeps what the norm cannot see", largest(unseen / length), bound
        # The nearest such point is a rotation by arccos ρ − arccos α; near x ∥ s the sine is all that tells it apart.
        rho = (unit @ (whole / length).T)[..., None]
        sine = _length(whole / length - rho * unit[:, None])
        said = 2 * (1 - case.alpha * rho - (1 - case.alpha**2) ** 0.5 * sine)
        apart = (_length(after - whole) / length) ** 2 - said
        tells = sine**2 > 32 * bound
        yield "set_presence goes to the nearest point", largest(torch.where(tells, apart * sine, 0.0)), 2 * bound
        scaled = scale_norm(points, 3.0, centring).double()
        grown = _centred(scaled, centring)
        unseen = (scaled - grown) - (points.double() - whole)
        yield "scale_norm scales what the norm sees", largest((grown - 3 * whole) / length), bound
        yield "scale_norm keeps what the norm cannot see", largest(unseen / length), bound
    multiples = torch.cat([directions * factor for factor in (1.0, -1.0, 3.7, 0.1)])
    outside = presence(multiples, directions, centring).abs() - 1
    yield "presence never leaves [−1, 1]", largest(outside, signed=True), 0.0
    constant = torch.ones_like(x[:1]) * (3.0 if centring is Centring.MEAN else 0.0)
    stays = set_presence(constant, directions, case.alpha, centring) - constant
    yield "set_presence leaves alone what the norm cannot see", largest(stays), bound
    # Of the points of this norm and presence the nearest one lies in the plane of x and s, on x's side.
    moved = _centred(set_presence(x, directions, case.alpha, centring), centring)
    whole = _centred(x, centring)
    side = whole - (whole @ unit.T).T[..., None] * unit[:, None]
    across = (side * moved).sum(-1) / (whole**2).sum(-1)
    yield "set_presence stays on x's side", largest(-across, signed=True), 32 * rounding


def _sphere(case: Case, rounding: float) -> Iterator[Law]:
    centring = case.readout.centring
    generator = torch.Generator().manual_seed(case.seed)
    s = random_directions(4, case.readout.width, centring, generator, case.readout.contexts.dtype)
    wide, bound = s.double(), 8 * rounding
    yield "random directions are unit vectors", largest(_length(wide) - 1), bound
    yield "random directions are centred", largest(wide - _centred(wide, centring)), bound
    yield "the Gram matrix", largest(gram(s) - wide @ wide.T), bound
    step = tangent(s, s.flip(0) * 0.5)
    along = wide.flip(0) * 0.5
    exact = along - (along * wide).sum(1, keepdim=True) * wide
    yield "a tangent is what is left", largest(step - exact), bound
    angle = _length(exact)
    circle = torch.cos(angle) * wide + torch.sin(angle) * exact / angle
    moved = step_on_sphere(s, step)
    yield "a step follows its great circle", largest(moved - circle), 8 * bound / min(float(angle.min()), 1.0)
    cosine, index = nearest(s, -s)
    table = wide @ -wide.T
    best = table.max(1).values
    yield "the nearest reference", largest(cosine - best), bound
    yield "and which it is", largest(best - table.gather(1, index[:, None])[:, 0]), bound


def _alphas(case: Case) -> Iterator[Law]:
    """Draw ``j`` of ``n`` lies in the ``j``-th of ``n`` equal parts of the interval."""
    low, high = sorted((case.alpha, 0.875))
    draws = PresenceLaw(low=low, high=high).stratified(4, 3, torch.Generator().manual_seed(case.seed))
    uniform = torch.rand(4, 3, generator=torch.Generator().manual_seed(case.seed)).double()
    part = (high - low) / 4
    for j, row in enumerate(draws.double()):
        yield "presences are uniform, one per stratum", largest(row - low - part * (j + uniform[j])), 1e-12


def _distances(case: Case, rounding: float) -> Iterator[Law]:
    """``(1 − cos)/2``, zero vectors by convention, and ``Σ p log(p/q)`` of two softmaxes."""
    y, z = case.readout.inner[:2]
    zero, (wide_y, wide_z) = torch.zeros_like(y), (y.double(), z.double())
    cosine = (wide_y @ wide_z) / (_length(wide_y) * _length(wide_z))[0]
    for name, pair, exact in (
        ("angular distance", (y, z), float(1 - cosine) / 2),
        ("a zero read-out is at distance 1/2", (y, zero), 0.5),
        ("also the other way", (zero, y), 0.5),
        ("two zero read-outs agree", (zero, zero), 0.0),
    ):
        yield name, abs(float(scoring.angular_distance(*pair)) - exact), 16 * rounding
    p, q = (torch.softmax(row, 0) for row in (wide_y, wide_z))
    divergence = float((p * torch.log(p / q)).sum())
    size = 1 + float(case.readout.inner.abs().max())
    yield "KL", abs(float(scoring.kullback_leibler(y, z)) - divergence), 32 * rounding * size


def _centred(x: Tensor, centring: Centring) -> Tensor:
    x = x.double()
    return x - x.mean(-1, keepdim=True) if centring is Centring.MEAN else x


def _length(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length


def largest(error: Tensor, *, signed: bool = False) -> float:
    """The largest error, by size unless only positive ones count; NaN if anything is."""
    error = error.double()
    return float(error.max() if signed else error.abs().max())
