"""The engine's peak sensitivity against what SE-5.peak takes it to be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from proofs.draws import DTYPES, gamma
from proofs.hunting import Witness
from proofs.random_frames import random_frame
from sensverify import selectivity
from sensverify.claims import Run
from sensverify.geometry import Centring, random_directions
from sensverify.readout import Batch
from sensverify.sensitivity import PresenceLaw, Probe


class _Linear:
    """``Wx``, read unit by unit, of dense contexts."""

    centring, device, privileged = Centring.NONE, torch.device("cpu"), True

    def __init__(self, frame: Tensor) -> None:
        self.frame, self.width = frame, frame.shape[1]

    def sample(self, count: int, generator: torch.Generator) -> Batch[None]:
        return Batch(torch.randn(count, self.width, generator=generator, dtype=torch.float64) + 0.3, None)

    def clean(self, batch: Batch[Any]) -> Tensor:
        return batch.x @ self.frame.T

    def read(self, batch: Batch[Any], x: Tensor) -> Tensor:
        return x @ self.frame.T

    def describe(self) -> Mapping[str, Any]:
        return {}


def against_theory(run: Run) -> Mapping[str, Any] | None:
    """A direction whose estimate, absent reference, is not what the formulas of the intervention give."""
    alpha, frame = 0.7, random_frame(run, 96, 48)
    readout, generator = _Linear(frame), torch.Generator().manual_seed(run.seed)
    batch = readout.sample(64, generator)
    s = random_directions(16, 48, Centring.NONE, generator, torch.float64)
    probe = Probe(law=PresenceLaw(low=alpha, high=alpha), reference="absent")
    found = selectivity.estimate_on(readout, batch, s, generator=generator, draws=1, probe=probe, measure="peak")
    length = batch.x.norm(dim=1, keepdim=True)
    whole = float((batch.x @ frame.T).norm(dim=1).pow(4).mean())
    for i in range(len(s)):
        rejected = batch.x - (batch.x @ s[i])[:, None] * s[i]
        step = alpha * s[i] + (math.sqrt(1 - alpha**2) - 1) * rejected / rejected.norm(dim=1, keepdim=True)
        derived = float(((length * step) @ frame.T).pow(4).sum(1).mean()) / whole
        if not abs(float(found.mean[i]) / derived - 1) <= 1e-9:
            return {"direction": s[i].tolist(), "peak": float(found.mean[i]), "derived": derived}
    return None


@st.composite
def pairs(pick: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Two read-outs ``[n]`` of whole numbers, clean and perturbed; the clean one is not zero."""
    number = st.integers(-1000, 1000)
    clean = pick(st.lists(number, min_size=1, max_size=8).filter(any))
    perturbed = pick(st.lists(number, min_size=len(clean), max_size=len(clean)))
    dtype = pick(st.sampled_from(DTYPES))
    return torch.tensor(clean, dtype=dtype), torch.tensor(perturbed, dtype=dtype)


def failure(pair: tuple[Tensor, Tensor]) -> Witness | None:
    """Where the engine's peak sensitivity, with its floor, is not the exact one, up to rounding."""
    clean, perturbed = pair
    before, after = ([Fraction(int(value)) for value in part.tolist()] for part in pair)
    floor = Fraction(selectivity.ROUNDINGS * torch.finfo(clean.dtype).eps) ** 4
    whole = sum(c**2 for c in before) ** 2
    exact = float((sum((b - a) ** 4 for a, b in zip(before, after, strict=True)) / whole) + floor / len(before))
    bound = 16 * gamma(len(before) + 16, clean.dtype) * exact  # every term is positive: all errors are relative
    found = selectivity.peaks(selectivity.concentrations(clean[None], perturbed[None, None]), clean[None])
    if abs(float(found) - exact) <= bound:
        return None
    dtype = str(clean.dtype).removeprefix("torch.")
    return {
        "clean": clean.tolist(),
        "perturbed": perturbed.tolist(),
        "dtype": dtype,
        "peak": float(found),
        "exact": exact,
    }
