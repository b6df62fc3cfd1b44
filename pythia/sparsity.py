"""PY-7: how often the found directions are present, and whether they keep to their norm budget (RN-4).

Presence is measured at every held-out position but BOS: about zero, as the claim says, and about the mean activation
too. A direction that leans on the mean is present everywhere and yet tells contexts apart by what remains.

Below :data:`~sensverify.sparsity.LEAST_WIDTH` coordinates hardly anything can be present, and nothing is judged.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pythia import subject
from pythia.gallery import presences
from pythia.readout import LanguageModelReadout
from pythia.subject import found, model, prediction
from sensverify import formulas
from sensverify.claims import Run
from sensverify.exhibits import Histogram, Table
from sensverify.geometry import Centring, presence, random_directions, unit_directions
from sensverify.predictions import JUDGED, Prediction, Side, judged
from sensverify.sparsity import LEAST_WIDTH, PresenceSummary, presence_threshold, summarise_presence
from sensverify.statistics import Interval, percentile_interval
from sensverify.verdicts import Finding, Status

PREDICTION = "PY-7"
SIDE: Side = "high"
"""The side of its interval that the claim cannot do without."""
BUDGET = Prediction(
    id="PY-7.budget",
    quantity="largest sum over found directions of squared presences in any context, as a share of the largest "
    "eigenvalue of their Gram matrix",
    low=None,
    high=1.0,
    derived_from="RN-4, a theorem, up to rounding. What breaks it is an error of measurement.",
)
RESAMPLES = 2000
DRAWN = 4000
"""About so many presences of a group are drawn: enough for a histogram, small enough for a report."""


def preflight(run: Run) -> None:
    """As :func:`pythia.subject.preflight` does for every claim, with the prediction of PY-7."""
    subject.preflight(run, {PREDICTION: SIDE})


def check_found_presence(run: Run) -> Finding:
    """PY-7 on the directions of PY-4; SKIPPED for a model too narrow for rare presence to mean anything."""
    width = model(run).width
    if width < LEAST_WIDTH:
        return Finding(
            status=Status.SKIPPED,
            evidence={
                "reason": f"in {width} dimensions a direction counts as present from {presence_threshold(width):.2f} "
                f"on, where hardly any can be: rare presence says something from a width of {LEAST_WIDTH} on, where "
                f"that threshold is {presence_threshold(LEAST_WIDTH):g}",
                "width": width,
                "least_width": LEAST_WIDTH,
            },
        )
    outcome = found(run)
    readout = outcome.site.held_out
    assert isinstance(readout, LanguageModelReadout)
    directions = outcome.evaluation.directions
    generator = torch.Generator(device=readout.device).manual_seed(run.seed + 23)
    random = random_directions(64, readout.width, readout.centring, generator)
    table, counted = presences(readout, directions), readout.counted_inside
    tables = {"found": table[:, counted], "random": presences(readout, random)[:, counted]}
    about_mean = _presences_about_mean(readout, directions)
    mean = unit_directions(_mean_activation(readout)[None], readout.centring)
    mean_cosines = presence(_mean_activation(readout)[None], directions, readout.centring)[:, 0]
    rows = {
        "found": _summary(tables["found"], directions),
        "found, about the mean": _summary(about_mean, directions),
        "random": _summary(tables["random"], random),
        "mean activation": _summary(presences(readout, mean)[:, counted], mean),
    }
    evidence = {
        "held_out_positions": tables["found"][0].numel(),
        "presence_threshold": rows["found"].threshold,
        "cosine_to_mean_activation": {
            "mean": float(mean_cosines.mean()), "largest_in_size": float(mean_cosines.abs().max())
        },
        **{name: _plain(row) for name, row in rows.items()},
    }  # fmt: skip
    exhibits = (
        Histogram(
            title=f"Presence of found and random directions, layer {readout.layer}",
            caption="Presence at held-out positions, all directions pooled: of each group an even sample of about "
            f"{DRAWN} presences, which the table below has all of. Sparse presence is a narrow peak at 0 "
            "with far tails; a direction that leans on the mean activation is displaced as a whole.",
            x_label="presence",
            groups={
                "found": _thinned(tables["found"]),
                "found, about the mean": _thinned(about_mean),
                "random": _thinned(tables["random"]),
            },
        ),
        Table(
            title=f"Sparsity of presence, layer {readout.layer}",
            caption="Median over directions, at all held-out positions. A direction is present where its presence is "
            f"at least {rows['found'].threshold:.2f} in size. Budget used is the largest sum of squared presences of "
            "any position over its bound (RN-4): at most 1.",
            columns=["directions", "share present", "excess kurtosis", "budget used", "most at once"],
            rows=[
                [name, row.median_share, float(row.excess_kurtosis.median()), row.budget_used, row.most_present_at_once]
                for name, row in rows.items()
            ],
        ),
    )
    return _judge(run, table, counted, directions, evidence, exhibits)


def check_own_direction_presence(run: Run) -> Finding:
    """False twin: at every position the activation's own direction, in the place of one direction for all. Whatever
    the model, its presence is 1 everywhere."""
    readout = found(run).site.held_out
    assert isinstance(readout, LanguageModelReadout)
    residuals, counted = readout.residuals[:, readout.first_position :], readout.counted_inside
    own = own_presences(residuals, counted, readout.centring)
    # the budget of one direction is 1, whichever it is
    direction = unit_directions(residuals[counted][:1], readout.centring)
    return _judge(run, own, counted, direction, {}, ())


def own_presences(residuals: Tensor, counted: Tensor, centring: Centring) -> Tensor:
    """The presence ``[1, N, L]`` in each of ``residuals [N, L, d]`` of its own direction; 0 where not ``counted``."""
    own = torch.zeros(counted.shape, dtype=residuals.dtype, device=residuals.device)
    rows = residuals[counted]
    one_to_one = formulas.presence(centring.project(rows), unit_directions(rows, centring))
    assert isinstance(one_to_one, Tensor)
    own[counted] = one_to_one[..., 0].clamp(-1, 1)
    return own[None]


def _mean_activation(readout: LanguageModelReadout) -> Tensor:
    return readout.residuals[readout.counted].mean(0)


def _presences_about_mean(readout: LanguageModelReadout, directions: Tensor) -> Tensor:
    residuals = readout.residuals[readout.counted] - _mean_activation(readout)
    return presence(residuals, directions.to(residuals), readout.centring)


def _summary(rho: Tensor, directions: Tensor) -> PresenceSummary:
    return summarise_presence(rho, directions)


def _plain(row: PresenceSummary) -> dict[str, float]:
    return {
        "median_share_present": row.median_share,
        "largest_share_present": float(row.shares.max()),
        "median_excess_kurtosis": float(row.excess_kurtosis.median()),
        "budget_used": row.budget_used,
        "most_present_at_once": row.most_present_at_once,
    }


def _thinned(rho: Tensor, count: int = DRAWN) -> list[float]:
    """An even sample of the pooled presences."""
    flat = rho.flatten()
    return flat[:: max(1, len(flat) // count)].tolist()


def median_share_interval(
    rho: Tensor, threshold: float, generator: torch.Generator, counted: Tensor | None = None
) -> Interval:
    """Interval of the median over directions of the share present, from ``rho [S, N, L]`` where ``counted [N, L]``.

    Windows are resampled whole, since the positions of one window are not independent. Directions are not: the claim
    is about these.
    """
    counted = torch.ones(rho.shape[1:], dtype=torch.bool, device=rho.device) if counted is None else counted
    present = ((rho.abs() >= threshold) & counted).sum(2).double().cpu()  # [S, N]
    positions = counted.sum(1).double().cpu()
    windows = len(positions)
    drawn = torch.randint(windows, (RESAMPLES, windows), generator=generator)
    shares = torch.stack([(present[:, rows].sum(1) / positions[rows].sum()).median() for rows in drawn])
    return percentile_interval((present.sum(1) / positions.sum()).median(), shares)


def _judge(
    run: Run,
    rho: Tensor,
    counted: Tensor,
    directions: Tensor,
    evidence: dict[str, object],
    exhibits: tuple[Histogram | Table, ...],
) -> Finding:
    """REFUTED by a broken norm budget or a share wholly outside the prediction; SUPPORTED if wholly inside."""
    predicted, origin = prediction(run, PREDICTION, SIDE)
    summary = _summary(rho[:, counted], directions)
    share = median_share_interval(rho, summary.threshold, torch.Generator().manual_seed(run.seed), counted)
    # RN-4 is a theorem: what exceeds the budget by more than rounding is an error of ours, and must not pass.
    budget = Interval(summary.budget_used, summary.budget_used - 1e-4, summary.budget_used)
    status = predicted.status(share) if BUDGET.judge(budget) != "outside" else Status.REFUTED
    measured = {
        "median_share_present": share.to_json(),
        "predicted": predicted.to_json(),
        "predictions": origin,
        "budget_used": summary.budget_used,
    }
    return Finding(
        status=status,
        evidence={
            JUDGED: [judged(predicted, share, origin=origin), judged(BUDGET, budget, origin="a theorem")],
            **measured,
            **evidence,
        },
        witness=measured if status is Status.REFUTED else None,
        exhibits=exhibits,
    )
