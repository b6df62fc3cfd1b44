"""Inputs meant to hurt: the cases on which the exact claims are run in floating point.

Two sources with the same ranges. :func:`draw` makes thousands of cases at once; :func:`cases` is a hypothesis
strategy for one case, slower, but hypothesis tries its own corners and shrinks what fails to something that a person
can read. Both give norms from 1e-6 to 1e6, vectors nearly parallel to the direction, presences next to ±1, dimension
2, repeated coordinates, and factors ``k`` from 1e-6 to 1e6.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

DIMENSIONS = (2, 3, 8, 64, 512)
DTYPES = (torch.float32, torch.float64)
_SMALL_DIMENSIONS = (2, 3, 4, 8)
_DECADES = 6  # of norms and factors, either way


def gamma(count: int, dtype: torch.dtype) -> float:
    """``γ(n) = nu/(1 − nu)`` with the unit round-off ``u`` of ``dtype``."""
    rounding = count * torch.finfo(dtype).eps / 2
    return rounding / (1 - rounding)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Draws:
    """``N`` cases of one dimension and dtype: vectors ``[N, d]`` (``s`` and ``u`` unit), scalars ``[N, 1]``."""

    x: Tensor
    s: Tensor
    u: Tensor
    alpha: Tensor
    beta: Tensor
    scale: Tensor
    shift: Tensor
    epsilon: Tensor

    @property
    def gamma(self) -> float:
        """``γ(d + 8)``, room for the handful of operations around an inner product."""
        return gamma(self.x.shape[-1] + 8, self.x.dtype)

    @property
    def sine(self) -> Tensor:
        """``√(1 − ρ²)``, the sine of the angle between ``x`` and ``s``, computed in float64 ``[N, 1]``."""
        return sine(self.x, self.s)

    def case(self, row: int) -> dict[str, Any]:
        """One row as plain numbers; a float32 is a float64 exactly."""
        fields = {field.name: getattr(self, field.name)[row].tolist() for field in dataclasses.fields(self)}
        return {name: value[0] if len(value) == 1 else value for name, value in fields.items()}


def sine(x: Tensor, s: Tensor) -> Tensor:
    """The sine of the angle between the rows of ``x [N, d]`` and ``s [N, d]``, in float64 ``[N, 1]``."""
    x, s = _unit(x.double(), torch.float64), _unit(s.double(), torch.float64)
    rejected = x - (x * s).sum(-1, keepdim=True) * s
    ratio: Tensor = torch.linalg.vector_norm(rejected, dim=-1, keepdim=True)
    return ratio


def _closest(dtype: torch.dtype) -> int:
    """How many decades may lie between a near-parallel ``x`` and ``s``, or a presence and ±1."""
    return 5 if dtype == torch.float32 else 12


def _unit(vector: Tensor, dtype: torch.dtype) -> Tensor:
    vector = vector.to(dtype)
    # Not the engine's own norm: if that is broken, the inputs must still be what they are said to be.
    unit: Tensor = vector / torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    return unit


def draw(generator: torch.Generator, *, count: int, dimension: int, dtype: torch.dtype) -> Draws:
    """``count`` hurtful cases, the same on every run with the same generator state."""

    def normal() -> Tensor:
        return torch.randn(count, dimension, generator=generator, dtype=torch.float64)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, generator=generator, dtype=torch.float64)

    def kind() -> Tensor:
        return torch.randint(8, (count, 1), generator=generator)

    def sign() -> Tensor:
        return torch.where(uniform(-1, 1) > 0, 1.0, -1.0)

    closest = _closest(dtype)
    s, x, which = _unit(normal(), dtype), normal(), kind()
    x = torch.where(which < 2, sign() * s.double() + 10 ** uniform(-closest, 0) * _unit(x, dtype).double(), x)
    repeated = torch.ones_like(x)
    repeated[:, :1] = uniform(-2, 2)
    x = torch.where(which == 2, repeated, x)
    x = _unit(x, torch.float64) * 10 ** uniform(-_DECADES, _DECADES)

    def presences() -> Tensor:
        middle, edge = uniform(-1, 1), sign() * (1 - 10 ** uniform(-closest, 0))
        return torch.where(kind() < 2, edge, middle).to(dtype)

    powers = torch.exp2(torch.round(uniform(-20, 20)))
    size = x.abs().amax(-1, keepdim=True)
    return Draws(
        x=x.to(dtype),
        s=s,
        u=_unit(normal(), dtype),
        alpha=presences(),
        beta=presences(),
        scale=torch.where(kind() < 2, powers, 10 ** uniform(-_DECADES, _DECADES)).to(dtype),
        shift=(sign() * size * 10 ** uniform(-6, 3)).to(dtype),
        epsilon=(10 ** uniform(-12, 0)).to(dtype),
    )


def _vectors(dimension: int) -> st.SearchStrategy[list[float]]:
    """Nonzero vectors of short binary fractions, which shrink to small whole numbers."""
    coordinate = st.builds(lambda n, k: n / 2**k, st.integers(-4096, 4096), st.sampled_from((0, 4, 12)))
    return st.lists(coordinate, min_size=dimension, max_size=dimension).filter(any)


@st.composite
def cases(pick: st.DrawFn) -> Draws:
    """One hurtful case, as :class:`Draws` with ``N = 1``."""
    dtype = pick(st.sampled_from(DTYPES))
    dimension = pick(st.sampled_from(_SMALL_DIMENSIONS))
    closest = _closest(dtype)
    decades = st.integers(-_DECADES, _DECADES)

    def vector() -> Tensor:
        return torch.tensor([pick(_vectors(dimension))], dtype=torch.float64)

    def presence() -> float:
        if pick(st.booleans()):
            return pick(st.integers(-16, 16)) / 17
        return pick(st.sampled_from((1, -1))) * (1 - 10.0 ** -pick(st.integers(1, closest)))

    def scalar(value: float) -> Tensor:
        return torch.tensor([[value]], dtype=torch.float64).to(dtype)

    s = _unit(vector(), dtype)
    x = _unit(vector(), torch.float64)
    if pick(st.booleans()):
        x = _unit(s.double() * pick(st.sampled_from((1, -1))) + 10.0 ** -pick(st.integers(1, closest)) * x, x.dtype)
    assume(bool(torch.isfinite(x).all()))  # the two parts of x may cancel
    x = x * 10.0 ** pick(decades)
    scale = pick(st.one_of(st.integers(-20, 20).map(lambda n: 2.0**n), decades.map(lambda n: 1.3 * 10.0**n)))
    shift = float(x.abs().max()) * 10.0 ** pick(st.integers(-6, 3)) * pick(st.sampled_from((1, -1)))
    return Draws(
        x=x.to(dtype),
        s=s,
        u=_unit(vector(), dtype),
        alpha=scalar(presence()),
        beta=scalar(presence()),
        scale=scalar(scale),
        shift=scalar(shift),
        epsilon=scalar(10.0 ** -pick(st.integers(0, 12))),
    )
