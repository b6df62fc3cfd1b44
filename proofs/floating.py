"""What rounding may do to an exact claim, and a search for draws where it does more.

A claim proved for real numbers is run in float32 and float64 on draws meant to hurt: norms from 1e-6 to 1e6,
vectors nearly parallel to the direction, presences next to ±1, dimension 2, repeated coordinates. The error
seen is compared with a bound derived from the unit round-off ``u``, never with a chosen tolerance. With
``γ(n) = nu/(1 − nu)`` (Higham, Accuracy and Stability of Numerical Algorithms, chapter 3):

- a sum or inner product of ``d`` terms has error at most ``γ(d)`` times the sum of the sizes, in any order;
- a unit vector ``a/‖a‖`` comes out with squared norm within ``γ(d+4)`` of 1;
- :func:`sensverify.formulas.rejection` leaves ``|⟨r, s⟩| ≤ 3γ(d+4)‖r‖`` while ``‖r‖ ≥ 16γ(d+8)‖x‖``, and moves
  the unit vector along it by at most ``4u‖x‖/‖r‖``.

A draw whose bound exceeds 1/2 says nothing and is left out of the count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sensverify import formulas
from sensverify.claims import Run
from sensverify.verdicts import Finding, Status

DIMENSIONS = (2, 3, 8, 64, 512)
DTYPES = (torch.float32, torch.float64)
DRAWS = {"quick": 512, "full": 8192}
VACUOUS = 0.5


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
        x, s = self.x.double(), self.s.double()
        ratio: Tensor = formulas.norm(formulas.rejection(x, s / formulas.norm(s))) / formulas.norm(x)
        return ratio

    def case(self, row: int) -> dict[str, Any]:
        """One row as plain numbers; a float32 is a float64 exactly."""
        fields = {field.name: getattr(self, field.name)[row].tolist() for field in dataclasses.fields(self)}
        return {name: value[0] if len(value) == 1 else value for name, value in fields.items()}


def draw(generator: torch.Generator, *, count: int, dimension: int, dtype: torch.dtype) -> Draws:
    """``count`` hurtful cases, the same on every run with the same generator state."""

    def normal() -> Tensor:
        return torch.randn(count, dimension, generator=generator, dtype=torch.float64)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, generator=generator, dtype=torch.float64)

    def kind() -> Tensor:
        return torch.randint(8, (count, 1), generator=generator)

    def unit(vector: Tensor) -> Tensor:
        vector = vector.to(dtype)
        scaled: Tensor = vector / formulas.norm(vector)
        return scaled

    def sign() -> Tensor:
        return torch.where(uniform(-1, 1) > 0, 1.0, -1.0)

    closest = 5 if dtype == torch.float32 else 12  # decades between a near-parallel x and s
    s, x, which = unit(normal()), normal(), kind()
    x = torch.where(which < 2, sign() * s.double() + 10 ** uniform(-closest, 0) * unit(x).double(), x)
    repeated = torch.ones_like(x)
    repeated[:, :1] = uniform(-2, 2)
    x = torch.where(which == 2, repeated, x)
    x = x / formulas.norm(x) * 10 ** uniform(-6, 6)

    def presences() -> Tensor:
        middle, edge = uniform(-1, 1), sign() * (1 - 10 ** uniform(-closest, 0))
        return torch.where(kind() < 2, edge, middle).to(dtype)

    powers = torch.exp2(torch.round(uniform(-20, 20)))
    size = x.abs().amax(-1, keepdim=True)
    return Draws(
        x=x.to(dtype),
        s=s,
        u=unit(normal()),
        alpha=presences(),
        beta=presences(),
        scale=torch.where(kind() < 2, powers, 10 ** uniform(-3, 3)).to(dtype),
        shift=(sign() * size * 10 ** uniform(-6, 3)).to(dtype),
        epsilon=(10 ** uniform(-12, 0)).to(dtype),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """One law on all draws: its error and the bound on it ``[N, 1]``; where the bound is 0, bits must agree."""

    law: str
    error: Tensor
    bound: Tensor

    def fraction(self) -> Tensor:
        """Error over bound in float64 ``[N]``; 0 where the bound says nothing, infinite where nothing came out."""
        error, bound = self.error.double()[:, 0], self.bound.double()[:, 0]
        ratio = torch.where(error == 0, 0.0, error / bound).nan_to_num(nan=torch.inf)
        return torch.where(bound <= VACUOUS, ratio, 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep saw: cases that say something, largest share of its bound that any error used, a failure."""

    cases: int
    largest: Mapping[str, float]
    failure: Mapping[str, Any] | None

    def join(self, proved: Finding, *, bounds: Mapping[str, str]) -> Finding:
        """``proved`` with the sweep in its evidence; REFUTED by the failing case if there is one.

        ``bounds`` says in words, for each law, the bound that the error was held against.
        """
        laws = {law: {"bound": bounds[law], "largest_error_over_bound": share} for law, share in self.largest.items()}
        evidence = {**proved.evidence, "floating_point": {"cases": self.cases, "laws": laws}}
        status = proved.status if self.failure is None else Status.REFUTED
        witness = proved.witness if self.failure is None else self.failure
        return Finding(status=status, evidence=evidence, witness=witness, exhibits=proved.exhibits)


def sweep(run: Run, label: str, compare: Callable[[Draws], list[Comparison]]) -> Sweep:
    """Hold ``compare`` against its own bounds on all dtypes and dimensions, smallest first."""
    generator = torch.Generator().manual_seed(run.seed)
    grid = [(dtype, dimension) for dimension in DIMENSIONS for dtype in DTYPES]
    cases, failure = 0, None
    largest: dict[str, float] = {}
    for done, (dtype, dimension) in enumerate(grid):
        run.progress(f"{label} in floating point", done, len(grid))
        draws = draw(generator, count=DRAWS[run.profile], dimension=dimension, dtype=dtype)
        for comparison in compare(draws):
            fraction = comparison.fraction()
            worst = int(fraction.argmax())
            share = float(fraction[worst])
            cases += int((comparison.bound <= VACUOUS).sum())
            largest[comparison.law] = max(largest.get(comparison.law, 0.0), share)
            if failure is None and share > 1:
                failure = {
                    "law": comparison.law,
                    "dtype": str(dtype).removeprefix("torch."),
                    "dimension": dimension,
                    **draws.case(worst),
                    "error": float(comparison.error[worst]),
                    "bound": float(comparison.bound[worst]),
                }
    run.progress(f"{label} in floating point", len(grid), len(grid))
    return Sweep(cases=cases, largest=largest, failure=failure)


def distance(a: Tensor, b: Tensor) -> Tensor:
    """``‖a − b‖`` in float64 ``[N, 1]``."""
    result: Tensor = formulas.norm(a.double() - b.double())
    return result


def where_informative(condition: Tensor, bound: Tensor) -> Tensor:
    """``bound`` where its derivation holds, infinity elsewhere."""
    return torch.where(condition, bound, torch.inf)
