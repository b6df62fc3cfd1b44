"""The engine's estimate of sensitivity against its definition, on read-outs small enough to write out.

Held to the definition, in float32 and float64, with bounds that follow from the unit round-off:

- every effect ``D(f(x), f(I_s^α(x)))``, both ways of centring, through a norm or not, in a residual stream or not;
- presences, weights (soft, hard, none), the weighted mean, the standard error over contexts;
- the null control, the range, and that ``kx`` scores as ``x`` behind a norm;
- the geometry that the search moves by: random directions, tangents, great circles, nearest references;
- the laws that the interventions are named after: norm, presence and uncentred part of what ``set_presence`` and
  ``scale_norm`` return, for any ``x``, parallel to ``s`` included; the strata of ``α``; KL divergence.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from proofs.draws import gamma
from proofs.hunting import EXAMPLES, Witness, hunt
from proofs.small_readouts import Case, Definition, cases, definition
from sensverify import scoring
from sensverify.claims import Finding, Run
from sensverify.geometry import Centring, gram, nearest, presence, random_directions, step_on_sphere, tangent
from sensverify.interventions import scale_norm, set_presence
from sensverify.readout import Batch
from sensverify.sensitivity import PresenceLaw, Probe, Weighting, estimate_on, null_effects
from sensverify.verdicts import Status

_SIGMA, _TAU = 0.3, 0.5
_VACUOUS = 0.25


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


Law = tuple[str, float, float]


def _laws(case: Case) -> Iterator[Law]:
    """Name, error and bound of every law that the engine is held to."""
    rounding = gamma(case.readout.width + 8, case.readout.contexts.dtype)
    yield from _intervention(case, rounding)
    yield from _sphere(case, rounding)
    yield from _alphas(case)
    yield from _divergence(case, rounding)
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
        return estimate_on(readout, x, directions, generator=torch.Generator(), draws=2, probe=probe)

    plain = measured()
    yield "effects are as defined", _largest(plain.effects - torch.as_tensor(expected.effects)), bound
    yield "effects lie in [0, 1]", _largest((plain.effects.double() - 0.5).abs() - 0.5, signed=True), bound
    rho = presence(batch.x, directions, readout.centring)
    yield "presences are as defined", _largest(rho - torch.as_tensor(expected.presences)), bound
    yield (
        "setting the presence that is there changes nothing",
        _largest(null_effects(readout, batch, directions)),
        bound,
    )
    if readout.through_norm and not readout.residual:
        scaled = measured(x=Batch(x=batch.x * 3, state=None))
        yield "3x scores as x behind a norm", _largest(scaled.effects - plain.effects), 2 * bound
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
        yield f"weights ({kind}) are as defined", _largest(estimate.weights - torch.as_tensor(w)), sensitive
        mean = (w * effects).sum(1) / w.sum(1)
        yield f"mean ({kind})", _largest(estimate.mean - torch.as_tensor(mean)), sensitive * share
        spread = w * (effects - mean[:, None]) / w.mean(1, keepdims=True)
        error = np.sqrt((spread**2).sum(1) / (count * (count - 1)))
        yield (
            f"standard error ({kind})",
            _largest(estimate.standard_error - torch.as_tensor(error)),
            sensitive * share**2,
        )
    sampled = effects.std(1, ddof=1) / math.sqrt(count)
    yield "unweighted standard error", _largest(plain.standard_error - torch.as_tensor(sampled)), bound


def _intervention(case: Case, rounding: float) -> Iterator[Law]:
    """The defining properties of the interventions, in plain linear algebra; also with ``x`` parallel to ``s``."""
    centring, x = case.readout.centring, case.readout.contexts
    # Parallel to s and nearly so, on top of a mean as large as can be: there rounding is all that is left of x.
    offsets = (0.0, 1.0, 1000.0) if centring is Centring.MEAN else (0.0,)
    near = [case.directions[:1] * 2 + tilt * x[:1] / x[:1].abs().max() for tilt in (0.0, 1e-6, 1e-3)]
    for points in (x, *(point + offset for point in near for offset in offsets)):
        moved = set_presence(points, case.directions, case.alpha, centring).double()
        whole, s = _centred(points, centring), _centred(case.directions, centring)
        after = _centred(moved, centring)
        lengths = torch.linalg.vector_norm(whole, dim=-1)
        condition = float((torch.linalg.vector_norm(points.double(), dim=-1) / lengths).max())
        condition *= float(
            (torch.linalg.vector_norm(case.directions.double(), dim=-1) / torch.linalg.vector_norm(s, dim=-1)).max()
        )
        found = torch.linalg.vector_norm(after, dim=-1)
        yield "set_presence keeps the norm", _largest(found / lengths - 1), 32 * rounding * condition
        cosine = (after * s[:, None]).sum(-1) / (found * torch.linalg.vector_norm(s, dim=-1)[:, None])
        yield "set_presence sets the presence", _largest(cosine - case.alpha), 32 * rounding * condition
        left = (moved - after) - (points.double() - whole)
        yield (
            "set_presence keeps what the norm cannot see",
            _largest(left / lengths[:, None]),
            32 * rounding * condition,
        )
        scaled = _centred(scale_norm(points, 3.0, centring), centring)
        yield (
            "scale_norm scales what the norm sees",
            _largest((scaled - 3 * whole) / lengths[:, None]),
            32 * rounding * condition,
        )
    nearest = set_presence(x, case.directions, case.alpha, centring).double()
    whole, s = _centred(x, centring), _unit(_centred(case.directions, centring))
    # Of the points of this norm and presence the nearest one lies in the plane of x and s, on x's side.
    side = whole - (whole @ s.T).T[..., None] * s[:, None]
    aligned = (side * (_centred(nearest, centring))).sum(-1)
    yield "set_presence stays on x's side", _largest(-aligned / (whole**2).sum(-1), signed=True), 32 * rounding


def _sphere(case: Case, rounding: float) -> Iterator[Law]:
    """What the search moves by: unit directions, tangents, great circles, nearest references."""
    centring, width = case.readout.centring, case.readout.width
    generator = torch.Generator().manual_seed(case.seed)
    s = random_directions(4, width, centring, generator, case.readout.contexts.dtype)
    wide = s.double()
    yield "random directions are unit vectors", _largest(torch.linalg.vector_norm(wide, dim=1) - 1), 8 * rounding
    yield "random directions are centred", _largest(wide - _centred(wide, centring)), 8 * rounding
    yield "the Gram matrix", _largest(gram(s) - wide @ wide.T), 8 * rounding
    step = tangent(s, s.flip(0) * 0.5)
    yield "a tangent is orthogonal", _largest((step.double() * wide).sum(1)), 8 * rounding
    along = s.flip(0).double() * 0.5
    exact = along - (along * wide).sum(1, keepdim=True) * wide
    yield "a tangent is what is left", _largest(step - exact), 8 * rounding
    moved = step_on_sphere(s, step).double()
    angle = torch.linalg.vector_norm(exact, dim=1, keepdim=True)
    circle = torch.cos(angle) * wide + torch.sin(angle) * exact / angle
    yield "a step follows its great circle", _largest(moved - circle), 64 * rounding / min(float(angle.min()), 1.0)
    cosine, index = nearest(s, -s)
    table = wide @ -wide.T
    yield "the nearest reference", _largest(cosine - table.max(1).values), 8 * rounding
    yield "and which it is", _largest(table.max(1).values - table.gather(1, index[:, None])[:, 0]), 8 * rounding


def _alphas(case: Case) -> Iterator[Law]:
    """Draw ``j`` of ``n`` lies in the ``j``-th of ``n`` equal parts of the interval."""
    low, high = sorted((case.alpha, 0.875))
    draws = PresenceLaw(low=low, high=high).stratified(4, 3, torch.Generator().manual_seed(case.seed))
    part = (high - low) / 4
    for j, row in enumerate(draws.double()):
        outside = max(low + j * part - float(row.min()), float(row.max()) - (low + (j + 1) * part))
        yield "presences are drawn one per stratum", outside, 1e-6
    yield "presences differ", 0.0 if part == 0 or len(set(draws[0].tolist())) > 1 else 1.0, 0.0


def _divergence(case: Case, rounding: float) -> Iterator[Law]:
    """``Σ p log(p/q)`` of two softmaxes."""
    logits = case.readout.inner
    p, q = (torch.softmax(row.double(), 0) for row in logits[:2])
    said = scoring.kullback_leibler(logits[0], logits[1])
    yield (
        "KL is as defined",
        abs(float(said) - float((p * torch.log(p / q)).sum())),
        32 * rounding * (1 + float(logits.abs().max())),
    )


def _centred(x: Tensor, centring: Centring) -> Tensor:
    x = x.double()
    return x - x.mean(-1, keepdim=True) if centring is Centring.MEAN else x


def _unit(x: Tensor) -> Tensor:
    unit: Tensor = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return unit


def _largest(error: Tensor, *, signed: bool = False) -> float:
    """The largest error, by size unless only positive ones count; NaN if anything is."""
    error = error.double()
    return float(error.max() if signed else error.abs().max())
