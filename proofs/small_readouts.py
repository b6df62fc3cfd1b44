"""Small read-outs whose every number can be recomputed by hand, and a plain reading of the definition to do so.

:class:`SmallReadout` implements :class:`sensverify.readout.Readout`. :func:`definition` computes the sensitivities
that the engine should find, context by context and direction by direction, in numpy and float64: it shares no code
with :mod:`sensverify`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from proofs.draws import DTYPES
from sensverify.geometry import Centring
from sensverify.planes import combine
from sensverify.readout import Batch

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmallReadout:
    """``f(x) = W·ReLU(V·z) (+ x)`` with ``z = LN(x)`` or ``z = x``.

    ``contexts [N, d]`` are what :meth:`sample` deals out, in order; ``inner [h, d]`` is ``V``, ``outer [d, h]`` ``W``.
    If ``planar``, interventions come by their coordinates (:mod:`sensverify.planes`).
    """

    contexts: Tensor
    inner: Tensor
    outer: Tensor
    centring: Centring = Centring.MEAN
    through_norm: bool = True
    residual: bool = False
    planar: bool = False

    @property
    def width(self) -> int:
        """``d``."""
        return self.contexts.shape[1]

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return self.contexts.device

    def sample(self, count: int, generator: torch.Generator) -> Batch[None]:
        """The first ``count`` contexts."""
        return Batch(x=self.contexts[:count], state=None)

    def clean(self, batch: Batch[Any]) -> Tensor:
        """``f(x) [B, d]``."""
        return self.read(batch, batch.x[None])[0]

    def read(self, batch: Batch[Any], x: Tensor) -> Tensor:
        """``f(x) [S, B, d]``."""
        z = torch.nn.functional.layer_norm(x, x.shape[-1:], eps=0.0) if self.through_norm else x
        y = torch.relu(z @ self.inner.T) @ self.outer.T
        return y + x if self.residual else y

    def read_plane(self, batch: Batch[Any], directions: Tensor, along: Tensor, across: Tensor) -> Tensor:
        """``f(along·s + across·Px + (x − Px)) [S, B, d]``."""
        seen = self.centring.project(batch.x)
        return self.read(batch, combine(directions, seen, along, across) + (batch.x - seen))

    def read_pairs(self, batch: Batch[Any], contexts: Tensor, x: Tensor) -> Tensor:
        """``f(x) [N, d]``: the context plays no other part."""
        return self.read(batch, x)

    def describe(self) -> Mapping[str, Any]:
        """The shape of the read-out."""
        return {"width": self.width, "through_norm": self.through_norm, "residual": self.residual}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A read-out with directions ``[S, d]`` and one presence to set in every context."""

    readout: SmallReadout
    directions: Tensor
    alpha: float
    seed: int

    def to_json(self) -> dict[str, Any]:
        """The case as plain numbers."""
        readout = self.readout
        return {
            "dtype": str(readout.contexts.dtype).removeprefix("torch."),
            "centring": readout.centring.value,
            "through_norm": readout.through_norm,
            "residual": readout.residual,
            "planar": readout.planar,
            "contexts": readout.contexts.tolist(),
            "directions": self.directions.tolist(),
            "inner": readout.inner.tolist(),
            "outer": readout.outer.tolist(),
            "alpha": self.alpha,
        }


@st.composite
def cases(pick: st.DrawFn) -> Case:
    """Read-outs of width 2 to 6, or 32, with two to nine contexts; norms from 1e-3 to 1e3, presences up to ±1."""
    dtype = pick(st.sampled_from(DTYPES))
    centring = pick(st.sampled_from(Centring))
    width = pick(st.integers(3 if centring is Centring.MEAN else 2, 6))
    count, directions = pick(st.integers(2, 5)), pick(st.integers(1, 3))
    if pick(st.integers(0, 3)) == 3:  # now and then as wide as a toy model, with enough pairs for several chunks
        width, count, directions = 32, 9, 7
    seed = pick(st.integers(0, 10**6))
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    scale = 10.0 ** pick(st.integers(-3, 3))
    readout = SmallReadout(
        contexts=(normal(count, width) * scale).to(dtype),
        inner=normal(width + 1, width).to(dtype),
        outer=normal(width, width + 1).to(dtype),
        centring=centring,
        through_norm=pick(st.booleans()),
        residual=pick(st.booleans()),
        planar=pick(st.booleans()),
    )
    alpha = pick(st.one_of(st.integers(-8, 8).map(lambda n: n / 8), st.sampled_from((0.999, -0.999))))
    return Case(readout=readout, directions=normal(directions, width).to(dtype), alpha=alpha, seed=seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Definition:
    """What the definition gives for a :class:`Case`: effects and presences ``[S, B]``.

    ``amplification`` bounds how much larger a relative rounding error is in ``y/‖y‖`` than in ``x``.
    """

    effects: Array
    presences: Array
    amplification: float


def definition(case: Case) -> Definition:
    """``D(f(x), f(I_s^α(x)))`` for every direction and context, each step written out."""
    readout, wanted = case.readout, case.alpha
    inner, outer = (m.double().numpy() for m in (readout.inner, readout.outer))
    weights = math.sqrt(float((inner**2).sum()) * float((outer**2).sum()))
    effects = np.zeros((len(case.directions), len(readout.contexts)))
    presences, amplification = np.zeros_like(effects), 1.0

    def centred(vector: Array) -> Array:
        return vector - vector.mean() if readout.centring is Centring.MEAN else vector

    def read(x: Array) -> tuple[Array, float]:
        z, condition = x, 1.0
        if readout.through_norm:
            deviation = math.sqrt(float(((x - x.mean()) ** 2).mean()))
            z = (x - x.mean()) / deviation
            condition = float(np.abs(x).max()) / deviation
        y = outer @ np.maximum(inner @ z, 0.0)
        size = weights * math.sqrt(float((z**2).sum()))
        if readout.residual:
            y, size = y + x, size + math.sqrt(float((x**2).sum()))
        length = math.sqrt(float((y**2).sum()))
        return y, math.inf if length == 0 else condition * size / length

    for i, direction in enumerate(case.directions.double().numpy()):
        s = centred(direction)
        s = s / math.sqrt(float((s**2).sum()))
        for j, x in enumerate(readout.contexts.double().numpy()):
            whole = centred(x)
            length = math.sqrt(float((whole**2).sum()))
            along = float(whole @ s)
            side = whole - along * s
            sine = math.sqrt(float((side**2).sum())) / length
            moved = length * (wanted * s + math.sqrt(1 - wanted**2) * side / (sine * length)) + (x - whole)
            (y, a), (z, b) = read(x), read(moved)
            amplification = max(amplification, a / sine, b / sine)
            cosine = float(y @ z) / math.sqrt(float(y @ y) * float(z @ z)) if math.isfinite(a + b) else math.nan
            effects[i, j], presences[i, j] = (1 - cosine) / 2, along / length
    return Definition(effects=effects, presences=presences, amplification=amplification)
