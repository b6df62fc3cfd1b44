"""What rounding may do to an exact claim, and a search for draws where it does more.

A claim proved for real numbers is run in float32 and float64 on draws meant to hurt (:mod:`proofs.draws`). The error
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
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from proofs.draws import DIMENSIONS, DTYPES, Draws, cases, draw
from proofs.hunting import EXAMPLES, Witness, hunt
from sensverify import formulas
from sensverify.claims import Run
from sensverify.verdicts import Finding, Status

DRAWS = {"quick": 512, "full": 8192}
VACUOUS = 0.5
LEAST_INFORMATIVE = 0.01  # below this share of draws a law was not tried, whatever its error


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
        ratio = torch.where(bound <= VACUOUS, ratio, 0.0)
        return torch.where(bound.isnan(), torch.inf, ratio)

    def informative(self) -> float:
        """The share of draws whose bound says something."""
        return float((self.bound <= VACUOUS).double().mean())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep saw: cases that say something, largest share of its bound that any error used, a failure."""

    cases: int
    examples: int
    largest: Mapping[str, float]
    failure: Mapping[str, Any] | None
    untried: Sequence[str] = ()

    def trouble(self) -> Finding | None:
        """Why what is said to hold instead of a refuted law was not seen to: it failed somewhere, or was not tried."""
        if self.failure is None and not self.untried:
            return None
        evidence = {"law_fails_in_floating_point": self.failure, "not_tried": list(self.untried)}
        return Finding(status=Status.INCONCLUSIVE, evidence=evidence)

    def summary(self) -> dict[str, Any]:
        """Cases and errors, for the evidence of a refutation."""
        return {"cases": self.cases, "largest_error_over_bound": dict(self.largest)}

    def join(self, proved: Finding, *, bounds: Mapping[str, str]) -> Finding:
        """``proved`` with the sweep in its evidence; REFUTED by the failing case if there is one.

        ``bounds`` says in words, for each law, the bound that the error was held against.
        """
        laws = {law: {"bound": bounds[law], "largest_error_over_bound": share} for law, share in self.largest.items()}
        tried = {"cases": self.cases, "hypothesis_examples": self.examples, "laws": laws}
        evidence = {**proved.evidence, "floating_point": tried}
        status = proved.status if self.failure is None else Status.REFUTED
        if self.untried and status is Status.PROVED:
            status, evidence = Status.INCONCLUSIVE, {**evidence, "not_tried": list(self.untried)}
        witness = proved.witness if self.failure is None else self.failure
        return Finding(status=status, evidence=evidence, witness=witness, exhibits=proved.exhibits)


def sweep(run: Run, label: str, compare: Callable[[Draws], list[Comparison]]) -> Sweep:
    """Hold ``compare`` against its own bounds: by hypothesis, then on all dtypes and dimensions, smallest first.

    The witness of a failure is the one that hypothesis shrank, if it found one.
    """
    shrunk = hunt(run, cases(), lambda case: next(filter(None, (_failure(case, law) for law in compare(case))), None))
    generator = torch.Generator().manual_seed(run.seed)
    grid = [(dtype, dimension) for dimension in DIMENSIONS for dtype in DTYPES]
    count, failure = 0, shrunk
    largest: dict[str, float] = {}
    untried: list[str] = []
    for done, (dtype, dimension) in enumerate(grid):
        run.progress(f"{label} in floating point", done, len(grid))
        draws = draw(generator, count=DRAWS[run.profile], dimension=dimension, dtype=dtype)
        for comparison in compare(draws):
            fraction = comparison.fraction()
            count += int((comparison.bound <= VACUOUS).sum())
            largest[comparison.law] = max(largest.get(comparison.law, 0.0), float(fraction.max()))
            failure = failure or _failure(draws, comparison)
            if comparison.informative() < LEAST_INFORMATIVE:
                untried.append(f"{comparison.law} in {dtype} at d = {dimension}")
    run.progress(f"{label} in floating point", len(grid), len(grid))
    return Sweep(cases=count, examples=EXAMPLES[run.profile], largest=largest, failure=failure, untried=untried)


def _failure(draws: Draws, comparison: Comparison) -> Witness | None:
    """The worst case of one law, if its error exceeds its bound."""
    fraction = comparison.fraction()
    worst = int(fraction.argmax())
    if not fraction[worst] > 1:
        return None
    return {
        "law": comparison.law,
        "dtype": str(draws.x.dtype).removeprefix("torch."),
        "dimension": draws.x.shape[-1],
        **draws.case(worst),
        "error": float(comparison.error[worst]),
        "bound": float(comparison.bound[worst]),
    }


def distance(a: Tensor, b: Tensor) -> Tensor:
    """``‖a − b‖`` in float64 ``[N, 1]``."""
    result: Tensor = formulas.norm(a.double() - b.double())
    return result


def where_informative(condition: Tensor, bound: Tensor) -> Tensor:
    """``bound`` where its derivation holds, infinity elsewhere."""
    return torch.where(condition, bound, torch.inf)
