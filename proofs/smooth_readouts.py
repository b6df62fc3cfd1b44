"""Smooth read-outs with dense Jacobians, for the second-order theory (SE-3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from sensverify.geometry import Centring
from sensverify.readout import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmoothReadout:
    """``f(x) = W·tanh(V·x) + Ux`` in float64, with its contexts ``[N, d]`` and a direction to probe, ``[d]``."""

    contexts: Tensor
    inner: Tensor
    outer: Tensor
    skip: Tensor
    probe: Tensor
    centring: Centring

    @property
    def width(self) -> int:
        """``d``."""
        return self.contexts.shape[1]

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return self.contexts.device

    def function(self, x: Tensor) -> Tensor:
        """``f`` over the last axis."""
        return torch.tanh(x @ self.inner.T) @ self.outer.T + x @ self.skip.T

    def sample(self, count: int, generator: torch.Generator) -> Batch[None]:
        """The first ``count`` contexts."""
        return Batch(x=self.contexts[:count], state=None)

    def clean(self, batch: Batch[Any]) -> Tensor:
        """``f(x) [B, d]``."""
        return self.function(batch.x)

    def read(self, batch: Batch[Any], x: Tensor) -> Tensor:
        """``f(x) [S, B, d]``."""
        return self.function(x)

    def describe(self) -> Mapping[str, Any]:
        """The shape of the read-out."""
        return {"width": self.width}

    @property
    def condition(self) -> float:
        """How much a relative rounding error of ``x`` or of the weights may grow in ``y/‖y‖`` and in the Jacobian."""
        centred = self.centring.project(self.contexts)
        y = self.function(self.contexts)
        sizes = torch.linalg.vector_norm(self.contexts, dim=1) / torch.linalg.vector_norm(centred, dim=1)
        written = self.outer.norm() * (1 + self.inner.norm() * self.contexts.norm()) + self.skip.norm()
        return float(
            sizes.max() * (1 + written * (1 + self.contexts.norm()) / torch.linalg.vector_norm(y, dim=1).min())
        )

    def to_json(self) -> dict[str, Any]:
        """The read-out as plain numbers."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value.tolist() if isinstance(value, Tensor) else value.value for name, value in fields.items()}

    def dense_operator(self) -> tuple[Tensor, float]:
        """``E[‖x‖² P_x^⊥ Jᵀ P_y^⊥ J P_x^⊥/‖y‖²] [d, d]``, matrix by matrix, and the size of what it is summed from.

        ``x`` is centred where the norm centres, and so are the rows and columns of the result.
        """
        identity = torch.eye(self.width, dtype=torch.float64)
        centring = identity - 1 / self.width if self.centring is Centring.MEAN else identity
        total, size = torch.zeros_like(identity), 0.0
        for x in self.contexts:
            jacobian = torch.func.jacrev(self.function)(x)
            y, centred = self.function(x), centring @ x
            off_x = identity - torch.outer(centred, centred) / (centred @ centred)
            off_y = identity - torch.outer(y, y) / (y @ y)
            form = centring @ off_x @ jacobian.T @ off_y @ jacobian @ off_x @ centring
            total += form * (centred @ centred) / (y @ y)
            size += float((centred @ centred) / (y @ y) * jacobian.square().sum())
        return total / len(self.contexts), size / len(self.contexts)


@st.composite
def readouts(pick: st.DrawFn) -> SmoothReadout:
    """Read-outs of width 4 to 12 with one to six contexts of norm about 1 to 10."""
    width, count = pick(st.integers(4, 12)), pick(st.integers(1, 6))
    centring = pick(st.sampled_from(Centring))
    generator = torch.Generator().manual_seed(pick(st.integers(0, 10**6)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return SmoothReadout(
        contexts=normal(count, width) * pick(st.sampled_from((0.3, 1.0, 3.0))),
        inner=normal(width + 2, width) / width,
        outer=normal(width, width + 2),
        skip=normal(width, width) * pick(st.sampled_from((0.0, 1.0))),
        probe=centring.project(normal(width)),
        centring=centring,
    )
