"""TM-7: what LayerNorm hides from a trained residual network, and what it does not (LN-1, LN-2 and LN-6 inside it).

For every trained network, fresh activation ``h`` and scale ``k``:

- *at both norms*, with ``z`` what the norm reads: ``LN(kz) = g LN(z)`` and ``|g² − 1|`` within LN-2's bound;
- *the update*: ``‖f(LN(kh)) − f(LN(h))‖ ≤ ‖W₂‖‖W₁‖ |g − 1| ‖LN(h)‖``, what ``ε`` lets through, for no ReLU stretches;
- *the stream* (``ε = 0``): ``F(kh) = kh + f(LN(h))``, and so the exact cosine of LN-6, with ``X = ⟨h,h⟩``,
  ``C = ⟨h,f⟩``, ``Q = ⟨f,f⟩``: ``cos(F(kh), kF(h)) = (kX + (k+1)C + Q)/(√(k²X + 2kC + Q)·√(X + 2C + Q))``;
- *far out*: that cosine differs from ``cos(h, F(h))`` by at most ``(π/2)‖f‖/(k‖h‖)``, the angle between ``kh + f`` and
  ``h``;
- the stream does turn: its direction is not kept.

Each law is held against a bound on rounding, in float32 and float64, derived from the unit round-off ``u`` with
``γ(n) = nu/(1 − nu)`` (Higham, *Accuracy and Stability of Numerical Algorithms*, chapter 3) for these very weights: LN
loses at most ``5γ(d+8)κ`` of its length, where ``κ = ‖h‖/‖Ph‖`` is what centring cancels; a product with a matrix ``M``
adds ``γ‖|M||z| + |b|‖`` and passes earlier errors on times ``‖M‖₂``; an error ``e`` turns ``F`` by at most
``(π/2)e/‖F‖``. No tolerance is chosen.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from sensverify import formulas
from sensverify.claims import Run
from sensverify.exhibits import Curve, IntervalRow, Intervals, Table
from sensverify.geometry import random_directions
from sensverify.scoring import angular_distance
from sensverify.statistics import Interval, group_ratio, mean_interval
from sensverify.verdicts import Finding, Status
from toy_models.residual import NAMES, ResidualConfig, ResidualModel, ResidualReadout, assemble, train
from toy_models.scores import SCORES
from toy_models.store import store_of

SCALES = (0.25, 1 / 3, 0.5, 2.0, 3.0, 8.0, 64.0)
FAR = (64.0, 4096.0, 2.0**20)
SHOWN_SCALES = (1 / 64, 1 / 16, 1 / 4, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)
DTYPES = (torch.float32, torch.float64)
CONTEXTS = {"quick": 256, "full": 2048}
SEEDS = {"quick": 3, "full": 8}
RESAMPLES = 1000
NEEDED = 0.5
"""The block counts as used if it brings the loss below this share of the loss without it, on every seed."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A network and its twin without the block."""

    model: ResidualModel
    without: ResidualModel
    h: Tensor


def trained(run: Run) -> list[Trained]:
    """One per seed, with the fresh activations on which all laws are tried."""

    def make() -> list[Trained]:
        seeds = [1000 * run.seed + i for i in range(SEEDS[run.profile])]
        pairs = zip(
            _networks(run, ResidualConfig(), seeds), _networks(run, ResidualConfig(block=False), seeds), strict=True
        )
        found = []
        for model, without in pairs:
            generator = torch.Generator().manual_seed(model.seed + 10**6)
            found.append(Trained(model, without, ResidualReadout(model).sample(CONTEXTS[run.profile], generator).x))
        return found

    return run.shared("toy_models.residual", make)


def _networks(run: Run, config: ResidualConfig, seeds: list[int]) -> list[ResidualModel]:
    def make() -> dict[str, Tensor]:
        kept: dict[str, Tensor] = {}
        for i, model in enumerate(train(config, seeds, run.progress)):
            kept |= {f"{name}.{i}": getattr(model, name) for name in NAMES}
            kept[f"losses.{i}"] = torch.tensor([model.loss, model.loss_of_zero], dtype=torch.float64)
        return kept

    tensors = store_of(run).keep("residual", {"config": config.to_json(), "seeds": seeds}, make)
    return [
        assemble(config, seed, {name: tensors[f"{name}.{i}"] for name in NAMES}, *tensors[f"losses.{i}"].tolist())
        for i, seed in enumerate(seeds)
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """A law on all contexts at one scale: its error beside the bound on it, both ``[B]`` in float64."""

    law: str
    scale: float
    error: Tensor
    bound: Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statement:
    """TM-7 by default. ``tightness`` multiplies LN-2's bound; ``invariant``: the stream is said not to turn."""

    tightness: float = 1.0
    invariant: bool = False


def gamma(count: int, dtype: torch.dtype) -> float:
    """``γ(n) = nu/(1 − nu)``."""
    u = torch.finfo(dtype).eps / 2
    return count * u / (1 - count * u)


def length(x: Tensor) -> Tensor:
    """``‖x‖ [B]`` in float64, by torch alone: a bound computed by the engine would be as broken as the engine."""
    norm: Tensor = torch.linalg.vector_norm(x.double(), dim=-1)
    return norm


def norm_error(z: Tensor, dtype: torch.dtype) -> Tensor:
    """By how much ``LN(z)`` or ``LN(kz)`` may be off, relative to ``√d``: ``5γ(d+8)κ(z)``, ``[B]``."""
    centred = z.double() - z.double().mean(-1, keepdim=True)
    error: Tensor = 5 * gamma(z.shape[-1] + 8, dtype) * length(z) / length(centred)
    return error


def update_error(model: ResidualModel, h: Tensor) -> Tensor:
    """By how much ``f(LN(h))`` or ``f(LN(kh))`` may be off, ``[B]``."""
    dtype = h.dtype
    normed = model.norm(h)
    first, second = model.first.double(), model.second.double()
    spent = normed.double().abs() @ first.abs().T + model.first_bias.double().abs()
    error: Tensor = torch.linalg.matrix_norm(first, 2) * norm_error(h, dtype) * math.sqrt(h.shape[-1])
    error = error + gamma(h.shape[-1] + 2, dtype) * length(spent)
    spent = model.hidden(normed).double().abs() @ second.abs().T + model.second_bias.double().abs()
    whole: Tensor = torch.linalg.matrix_norm(second, 2) * error + gamma(second.shape[1] + 2, dtype) * length(spent)
    return whole


def at_norms(model: ResidualModel, h: Tensor, scale: float, tightness: float) -> list[Comparison]:
    """LN-1 and LN-2 at what each norm puts out."""
    compared = []
    for name, z in (("the block's norm", h), ("the last norm", model.stream(h))):
        root, error = math.sqrt(z.shape[-1]), norm_error(z, h.dtype)
        normed, scaled = model.norm(z).double(), model.norm(scale * z).double()
        variance = z.double().var(-1, correction=0)
        gain_squared = formulas.layer_norm_gain_squared(variance, model.epsilon, scale)
        kind = formulas.layer_norm_gain_bound if scale >= 1 else formulas.layer_norm_gain_bound_shrinking
        allowed = kind(variance, model.epsilon, scale)
        share = length(normed) / root  # below 1 by what ε takes
        compared += [
            Comparison(
                law=f"LN(kz) = g LN(z) at {name}",
                scale=scale,
                error=length(scaled - gain_squared.sqrt()[:, None] * normed) / root,
                bound=error * (1 + gain_squared.sqrt()),
            ),
            Comparison(
                law=f"|g² − 1| within its bound at {name}",
                scale=scale,
                error=((length(scaled) / length(normed)).square() - 1).abs(),
                bound=tightness * allowed + 3 * (1 + gain_squared) * error / share,
            ),
        ]
    return compared


def of_update(model: ResidualModel, h: Tensor, scale: float) -> Comparison:
    """What ``ε`` lets through to the update."""
    variance = h.double().var(-1, correction=0)
    gain = formulas.layer_norm_gain_squared(variance, model.epsilon, scale).sqrt()
    normed = model.norm(h)
    lipschitz = torch.linalg.matrix_norm(model.first.double(), 2) * torch.linalg.matrix_norm(model.second.double(), 2)
    return Comparison(
        law="f(LN(kh)) = f(LN(h)) up to what ε lets through",
        scale=scale,
        error=length(model.update(model.norm(scale * h)) - model.update(normed)),
        bound=lipschitz * (gain - 1).abs() * length(normed) + 2 * update_error(model, h),
    )


def exact_cosine(h: Tensor, update: Tensor, scale: float) -> Tensor:
    """LN-6's formula for ``cos(F(kh), kF(h))`` in float64, ``[B]``."""
    h, update = h.double(), update.double()
    x, c, q = (h * h).sum(-1), (h * update).sum(-1), (update * update).sum(-1)
    top = scale * x + (scale + 1) * c + q
    return top / ((scale**2 * x + 2 * scale * c + q).sqrt() * (x + 2 * c + q).sqrt())


def measured_cosine(model: ResidualModel, h: Tensor, scale: float) -> Tensor:
    """The same from what the network puts out, ``[B]``."""
    cosine: Tensor = torch.cosine_similarity(model.stream(scale * h).double(), model.stream(h).double(), dim=-1)
    return cosine


def cosine_error(model: ResidualModel, h: Tensor, scale: float) -> Tensor:
    """By how much the two may differ for rounding, ``[B]``."""
    u, update = torch.finfo(h.dtype).eps / 2, length(model.update(model.norm(h)))
    near, far = length(model.stream(h)), length(model.stream(scale * h))
    turned = (2 * update_error(model, h) + 2 * u * scale * length(h) + u * far) / far + u
    cancelled = ((scale * length(h) + update) / far) ** 2 + ((length(h) + update) / near) ** 2
    return math.pi / 2 * turned + 16 * gamma(h.shape[-1] + 8, torch.float64) * cancelled


def of_stream(model: ResidualModel, h: Tensor, statement: Statement) -> list[Comparison]:
    """LN-6 on the residual stream, and its limit; or, of a twin, that the stream keeps its direction."""
    update = model.update(model.norm(h))
    compared = []
    for scale in SCALES:
        compared.append(
            Comparison(
                law="cos(F(kh), kF(h)) is LN-6's",
                scale=scale,
                error=(measured_cosine(model, h, scale) - exact_cosine(h, update, scale)).abs(),
                bound=cosine_error(model, h, scale),
            )
        )
        if statement.invariant:
            compared.append(
                Comparison(
                    law="F(kh) is parallel to F(h)",
                    scale=scale,
                    error=(1 - measured_cosine(model, h, scale)).abs(),
                    bound=cosine_error(model, h, scale),
                )
            )
    for scale in FAR:
        limit = torch.cosine_similarity(h.double(), model.stream(h).double(), dim=-1)
        angle = math.pi / 2 * length(update) / (scale * length(h))
        compared.append(
            Comparison(
                law="the limit cos(h, F(h)) for large k",
                scale=scale,
                error=(measured_cosine(model, h, scale) - limit).abs(),
                bound=angle + cosine_error(model, h, scale),
            )
        )
    return compared


def compare(one: Trained, dtype: torch.dtype, statement: Statement) -> list[Comparison]:
    """All laws on one network in one precision."""
    model, h = one.model.to(dtype), one.h.to(dtype)
    compared = [c for scale in SCALES for c in at_norms(model, h, scale, statement.tightness)]
    compared += [of_update(model, h, scale) for scale in SCALES]
    return compared + of_stream(one.model.to(dtype, epsilon=0.0), h, statement)


@torch.no_grad()
def check_residual(run: Run, statement: Statement = Statement()) -> Finding:
    """TM-7."""
    networks = trained(run)
    fractions: dict[str, float] = {}
    broken: dict[str, Any] | None = None
    for one in networks:
        for dtype in DTYPES:
            for compared in compare(one, dtype, statement):
                fraction = (compared.error / compared.bound).nan_to_num(nan=torch.inf)
                worst = int(fraction.argmax())
                key = f"{compared.law}, {str(dtype).removeprefix('torch.')}"
                fractions[key] = max(fractions.get(key, 0.0), float(fraction[worst]))
                if float(fraction[worst]) > 1 and broken is None:
                    broken = {
                        "law": compared.law,
                        "k": compared.scale,
                        "seed": one.model.seed,
                        "dtype": str(dtype).removeprefix("torch."),
                        "context": worst,
                        "error": float(compared.error[worst]),
                        "bound": float(compared.bound[worst]),
                        "h": one.h[worst].tolist(),
                    }
    losses = [{"seed": one.model.seed, **_losses(one)} for one in networks]
    used = all(loss["with_block"] < NEEDED * loss["without_block"] for loss in losses)
    turns = {f"seed {one.model.seed}": _turning(one) for one in networks}
    turned = all(row["distance"]["low"] > row["rounding"] for rows in turns.values() for row in rows.values())
    status = Status.SUPPORTED if used and turned else Status.INCONCLUSIVE
    whole = statement == Statement()
    seeds = [one.model.seed for one in networks]
    evidence: dict[str, Any] = {"seeds": seeds, "largest_error_over_bound": fractions, "losses": losses}
    if whole:
        ratios = {one.model.seed: _ratios(one) for one in networks}
        evidence["stream_turns"] = turns
        evidence["feature_to_random"] = {
            f"seed {seed}": {name: ratio.to_json() for name, ratio in row.items()} for seed, row in ratios.items()
        }
    return Finding(
        status=status if broken is None else Status.REFUTED,
        evidence=evidence,
        witness=broken,
        exhibits=(_curve(networks), _intervals(ratios), _table(fractions)) if whole else (),
    )


def twin_invariant(run: Run) -> Finding:
    """False: the block's output keeps its direction, whatever the scale of its input."""
    return check_residual(run, Statement(invariant=True))


def twin_smaller_gain(run: Run) -> Finding:
    """False: the gain stays within a thousandth of LN-2's bound."""
    return check_residual(run, Statement(tightness=0.001))


def _losses(one: Trained) -> dict[str, float]:
    """As shares of the loss of answering 0."""
    return {
        "with_block": one.model.loss / one.model.loss_of_zero,
        "without_block": one.without.loss / one.without.loss_of_zero,
    }


def _turning(one: Trained) -> dict[str, Any]:
    """By how much the stream and the answer turn, in the network as trained: angular distances over contexts."""
    model, h = one.model, one.h
    rows = {}
    for scale in SCALES:
        stream = angular_distance(model.stream(h), model.stream(scale * h))
        answer = angular_distance(model.answer(h), model.answer(scale * h))
        rows[f"k = {scale:.4g}"] = {
            "distance": _interval(stream, model.seed).to_json(),
            "distance_of_answers": _interval(answer, model.seed).to_json(),
            "rounding": float(cosine_error(model, h, scale).max() / 2),
        }
    return rows


def _interval(values: Tensor, seed: int) -> Interval:
    return mean_interval(values, torch.Generator().manual_seed(seed), resamples=RESAMPLES)


def _ratios(one: Trained) -> dict[str, Interval]:
    """Features against random directions by three scores, on the same contexts with the same presences."""
    readout, generator = ResidualReadout(one.model), torch.Generator().manual_seed(one.model.seed + 10**6 + 1)
    batch = readout.sample(256, generator)
    groups = (one.model.feature_directions, random_directions(64, readout.width, readout.centring, generator))
    ratios = {}
    for name in ("angular", "per_unit", "peak"):
        features, random = (
            SCORES[name].estimate(readout, batch, group, torch.Generator().manual_seed(one.model.seed)).effects
            for group in groups
        )
        ratios[SCORES[name].label] = group_ratio(features, random, torch.Generator().manual_seed(one.model.seed))
    return ratios


def _curve(networks: list[Trained]) -> Curve:
    series: dict[str, list[float]] = {}
    bands: dict[str, list[tuple[float, float]]] = {}
    one = networks[0]
    model = one.model
    measured = [_interval(measured_cosine(model, one.h, k), model.seed) for k in SHOWN_SCALES]
    series["stream, measured"] = [interval.value for interval in measured]
    bands["stream, measured"] = [(interval.low, interval.high) for interval in measured]
    update = model.update(model.norm(one.h))
    series["stream, LN-6"] = [float(exact_cosine(one.h, update, k).mean()) for k in SHOWN_SCALES]
    series["the norm's output"] = [
        float(torch.cosine_similarity(model.norm(k * one.h), model.norm(one.h), dim=-1).mean()) for k in SHOWN_SCALES
    ]
    series["limit for large k"] = [float(torch.cosine_similarity(one.h, model.stream(one.h), dim=-1).mean())] * len(
        SHOWN_SCALES
    )
    return Curve(
        title="What scaling its input does to a trained block",
        caption=f"Mean cosine between what comes out for kh and for h, seed {model.seed}. The norm's output "
        "should stay at 1 for every k; the residual stream should leave 1 on both sides of k = 1, lie on LN-6's line, "
        "and go to the limit cos(h, F(h)) on the right.",
        x_label="k",
        y_label="cosine",
        x=list(SHOWN_SCALES),
        series=series,
        bands=bands,
        log_x=True,
    )


def _intervals(ratios: dict[int, dict[str, Interval]]) -> Intervals:
    rows = [
        IntervalRow(name=f"{name}, seed {seed}", value=ratio.value, low=ratio.low, high=ratio.high)
        for seed, row in ratios.items()
        for name, ratio in row.items()
    ]
    return Intervals(
        title="Features against random directions in the residual network",
        caption="Mean score of the features over that of random directions, intervening on h, in front of the block, "
        "and reading y; 95 % intervals over directions and contexts. Right of 1 a score sets features apart: compare "
        "angular distance with the scores of single units.",
        x_label="ratio of mean scores",
        rows=rows,
        reference=1.0,
    )


def _table(fractions: dict[str, float]) -> Table:
    return Table(
        title="Errors beside what rounding may do",
        caption="The largest error of each law over its bound, over all seeds, contexts and scales; the law is broken "
        "above 1. The bounds on the gain are not made of rounding alone: near 1 they could hardly be better.",
        columns=["law", "largest error over bound"],
        rows=[[law, f"{fraction:.3g}"] for law, fraction in fractions.items()],
    )
