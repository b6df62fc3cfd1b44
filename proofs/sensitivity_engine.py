"""The engine's estimate of sensitivity against its definition, on read-outs small enough to write out.

Held to the definition, in float32 and float64, with bounds that follow from the unit round-off:

- every effect ``D(f(x), f(I_s^α(x)))``, both ways of centring, through a norm or not, in a residual stream or not;
- presences, weights (soft, hard, none), the weighted mean, the standard error over contexts;
- the null control, the range, and that ``kx`` scores as ``x`` behind a norm;
- interventions, distances and the geometry of the search, in :mod:`proofs.engine_geometry`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from proofs import engine_geometry
from proofs.draws import gamma
from proofs.engine_geometry import Law, largest
from proofs.hunting import EXAMPLES, Witness, hunt
from proofs.small_readouts import Case, Definition, cases, definition
from sensverify.claims import Finding, Run
from sensverify.geometry import presence
from sensverify.readout import Batch
from sensverify.sensitivity import PresenceLaw, Probe, Weighting, estimate_on, null_effects
from sensverify.verdicts import Status

_SIGMA, _TAU = 0.3, 0.5
_VACUOUS = 0.25
_PAIRS = 20  # small enough for wide cases to be cut into chunks


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineOutcome:
    """How many cases hypothesis tried, and the smallest that broke a law, if any."""

    examples: int
    failure: Witness | None

    def join(self, proved: Finding) -> Finding:
        """``proved`` with this in its evidence; REFUTED by the failing case if there is one."""
        evidence = {**proved.evidence, "engine_against_definition": {"hypothesis_examples": self.examples}}
        failed = self.failure is not None
        return Finding(
            status=Status.REFUTED if failed else proved.status,
            evidence=evidence,
            witness=self.failure if failed else proved.witness,
            exhibits=proved.exhibits,
        )


def hold_engine_to_definition(run: Run) -> EngineOutcome:
    """Hunt for a case in which the engine and the definition part."""

    def failure(case: Case) -> Witness | None:
        for law, error, bound in _laws(case):
            if bound <= _VACUOUS and not error <= bound:
                return {"law": law, **case.to_json(), "error": error, "bound": bound}
        return None

    return EngineOutcome(examples=EXAMPLES[run.profile], failure=hunt(run, cases(), failure))


def _laws(case: Case) -> Iterator[Law]:
    """Name, error and bound of every law that the engine is held to."""
    rounding = gamma(case.readout.width + 8, case.readout.contexts.dtype)
    yield from engine_geometry.laws(case, rounding)
    if abs(case.alpha) == 1:
        return  # where the side that x came from is forgotten, the estimate below has no second opinion to compare
    expected = definition(case)
    if np.isfinite(expected.effects).all():
        yield from _estimates(case, expected, rounding)


def _estimates(case: Case, expected: Definition, rounding: float) -> Iterator[Law]:
    readout, directions = case.readout, case.directions
    batch = readout.sample(len(readout.contexts), torch.Generator())
    # An error δ in y/‖y‖ moves D = ‖y/‖y‖ − z/‖z‖‖²/4 by at most δ; 64γ covers intervention, norm and both products.
    bound = 64 * rounding * expected.amplification

    def measured(weighting: Weighting | None = None, x: Batch[Any] = batch) -> Any:
        probe = Probe(law=PresenceLaw(low=case.alpha, high=case.alpha), weighting=weighting or Weighting())
        return estimate_on(
            readout, x, directions, generator=torch.Generator(), draws=2, probe=probe, pairs_per_chunk=_PAIRS
        )

    plain = measured()
    yield "effects are as defined", largest(plain.effects - torch.as_tensor(expected.effects)), bound
    yield "effects lie in [0, 1]", largest((plain.effects.double() - 0.5).abs() - 0.5, signed=True), bound
    rho = presence(batch.x, directions, readout.centring)
    yield "presences are as defined", largest(rho - torch.as_tensor(expected.presences)), bound
    yield (
        "setting the presence that is there changes nothing",
        largest(null_effects(readout, batch, directions)),
        bound,
    )
    if readout.through_norm and not readout.residual:
        scaled = measured(x=Batch(x=batch.x * 3, state=None))
        yield "3x scores as x behind a norm", largest(scaled.effects - plain.effects), 2 * bound
    effects = plain.effects.double().numpy()  # what follows is arithmetic on the engine's own effects
    count = effects.shape[1]
    weights = {
        "none": np.ones_like(effects),
        "soft": np.exp(-((expected.presences / _SIGMA) ** 2)),
        "hard": (np.abs(expected.presences) < _TAU).astype(float),
    }
    edge = float(np.abs(np.abs(expected.presences) - _TAU).min())
    for kind, w in weights.items():
        if (w.sum(1) <= 0.01).any() or (kind == "hard" and edge <= bound):
            continue
        estimate = measured(Weighting(kind=kind, scale=_TAU if kind == "hard" else _SIGMA))  # type: ignore[arg-type]
        sensitive = 8 * bound / _SIGMA**2  # the derivative of exp(−ρ²/σ²), and of a mean in its weights
        share = count / float(w.sum(1).min())
        recorded = (estimate.configuration["weighting"], estimate.configuration["weighting_scale"])
        used = (kind, None if kind == "none" else _TAU if kind == "hard" else _SIGMA)
        yield "what was used is what is recorded", float(recorded != used), 0.0
        yield f"weights ({kind}) are as defined", largest(estimate.weights - torch.as_tensor(w)), sensitive
        mean = (w * effects).sum(1) / w.sum(1)
        yield f"mean ({kind})", largest(estimate.mean - torch.as_tensor(mean)), sensitive * share
        spread = w * (effects - mean[:, None]) / w.mean(1, keepdims=True)
        error = np.sqrt((spread**2).sum(1) / (count * (count - 1)))
        yield (
            f"standard error ({kind})",
            largest(estimate.standard_error - torch.as_tensor(error)),
            sensitive * share**2,
        )
    sampled = effects.std(1, ddof=1) / math.sqrt(count)
    yield "unweighted standard error", largest(plain.standard_error - torch.as_tensor(sampled)), bound
