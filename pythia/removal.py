"""PY-8: how many of the found directions act by removal, how they lean, and what of it is the mean direction.

The classifier is that of the toys (:mod:`sensverify.removal`), on held-out contexts. A search with the clean reference
is pulled against whatever is always there: the mean ``E x̂`` of the centred activations, each divided by its norm. Three
questions follow: are there more removal directions than the toys allow for a mean of this length (PY-8); do found
directions lean against the mean (PY-8.lean); and is what they remove largely the mean direction (PY-8.mean)? For the
last the mean direction is taken out of every found direction and what is left is classified again.

The claims are about these directions: intervals come from resampled windows. What another search may find is shown
beside it, by a second search that measures effects from presence 0, where leaning gains nothing (*absent*), and by an
interval of the share for which the directions are a sample.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from pythia import subject
from pythia.readout import LanguageModelReadout
from pythia.subject import Found, found, prediction
from sensverify.claims import Run
from sensverify.discovery import search
from sensverify.evaluation import HELD_OUT_CONTEXTS
from sensverify.exhibits import Exhibit, IntervalRow, Intervals, Table
from sensverify.geometry import presence, random_directions, unit_directions
from sensverify.predictions import JUDGED, Prediction, Side, judged
from sensverify.removal import (
    LEANING_LENGTH,
    MAJORITY,
    SIGNIFICANT,
    Decomposition,
    decompose,
    predicted_share,
    removal_threshold,
    verdicts,
)
from sensverify.sensitivity import Probe
from sensverify.statistics import Interval, bootstrap_weights, percentile_interval, share_interval
from sensverify.verdicts import Finding, Status

SHARE, LEAN = "PY-8", "PY-8.lean"
SIDE: Side = "high"
"""The side of both intervals that the claims cannot do without."""
RESAMPLES = 2000
RANDOM = 64
LARGELY = 0.5
"""Of what found directions remove beyond random ones, more than this goes with the mean direction (PY-8.mean)."""
LARGELY_MEAN = Prediction(
    id="PY-8.mean",
    quantity="what goes of the found directions' removal share when the mean direction is taken out of them, less half "
    "of that share beyond random directions'",
    low=0.0,
    high=None,
    derived_from="THEORY PY-8, what found directions remove is largely the mean direction: more than half",
)
ABSENT_STEPS = 0.5
"""Steps of the second search, which only stands beside, as a share of those of the first."""
SHOWN = 24

FOUND, WITHOUT_MEAN, NEGATED, RANDOMS, ABSENT = (
    "found", "found, mean taken out", "found, negated", "random", "found from presence 0"
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Measured:
    """Decompositions of each group on the same contexts and presences, and of the mean of unit activations ``E x̂`` the
    direction ``towards [d]``, the ``length``, and the sums over windows that it is made of (:func:`_window_sums`)."""

    groups: dict[str, Tensor]
    parts: dict[str, Decomposition]
    window_sums: Tensor
    towards: Tensor
    length: Interval


def preflight(run: Run) -> None:
    """As :func:`pythia.subject.preflight` does for every claim, with the predictions of PY-8."""
    subject.preflight(run, {SHARE: SIDE, LEAN: SIDE})


def without(directions: Tensor, taken: Tensor) -> Tensor:
    """Unit rows ``[K, d]``: ``directions [K, d]`` less their part along the unit vector ``taken [d]``.

    A row that is all but parallel to it stays as it is: nothing would be left.
    """
    rest = directions - (directions @ taken)[:, None] * taken
    left = rest.norm(dim=1, keepdim=True)
    return torch.where(left > 1e-3, rest / left.clamp_min(1e-3), directions)


def measured(run: Run) -> Measured:
    """All groups, once per run."""
    return run.shared("pythia.removal", lambda: _measure(run))


def _measure(run: Run) -> Measured:
    outcome = found(run)
    readout = _readout(outcome)
    generator = torch.Generator(device=readout.device).manual_seed(run.seed + 47)
    sums = _window_sums(readout)
    mean = _mean(sums.sum(0))
    towards = mean / mean.norm()
    directions = outcome.evaluation.directions
    groups = {
        FOUND: directions,
        WITHOUT_MEAN: without(directions, towards.to(directions)),
        NEGATED: -directions,
        RANDOMS: random_directions(RANDOM, readout.width, readout.centring, generator),
        ABSENT: _absent_search(run, outcome),
    }
    parts = {name: _parts(run, rows) for name, rows in groups.items()}
    lengths = _mean(_resampled(sums, run.seed)).norm(dim=1)
    return Measured(groups, parts, sums, towards, _quantiles(float(mean.norm()), lengths))


def _parts(run: Run, directions: Tensor) -> Decomposition:
    """On the contexts and presences that all groups share."""
    outcome = found(run)
    readout = outcome.site.held_out
    generator = torch.Generator(device=readout.device).manual_seed(run.seed + 48)
    batch = readout.sample(min(HELD_OUT_CONTEXTS, outcome.site.independent_contexts), generator)
    return decompose(readout, directions.to(batch.x), batch=batch, generator=generator)


def _absent_search(run: Run, outcome: Found) -> Tensor:
    options = dataclasses.replace(
        outcome.options, steps=max(1, round(ABSENT_STEPS * outcome.options.steps)), probe=Probe(reference="absent")
    )
    state = search(outcome.site.search, options, progress=run.progress)
    return unit_directions(state.directions, outcome.site.search.centring)


def _readout(outcome: Found) -> LanguageModelReadout:
    readout = outcome.site.held_out
    assert isinstance(readout, LanguageModelReadout)
    return readout


def _window_sums(readout: LanguageModelReadout) -> Tensor:
    """Of each held-out window the sum of ``x̂`` over its tokens of the text and how many there are, ``[N, d + 1]``."""
    x = readout.centring.project(readout.residuals).double()
    unit = x / x.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    unit = torch.cat([unit, torch.ones_like(unit[..., :1])], dim=-1)
    return (unit * readout.counted[..., None]).sum(1)


def _mean(sums: Tensor) -> Tensor:
    """``E x̂ [..., d]`` from sums and counts ``[..., d + 1]``."""
    return sums[..., :-1] / sums[..., -1:]


def _resampled(rows: Tensor, seed: int) -> Tensor:
    """Bootstrap means ``[RESAMPLES, ...]`` of ``rows [N, ...]``."""
    generator = torch.Generator().manual_seed(seed)
    return bootstrap_weights(len(rows), RESAMPLES, generator) @ rows.double().cpu().flatten(1)


def _quantiles(value: float, replicates: Tensor) -> Interval:
    return percentile_interval(value, replicates.double()).around_value()


def shares(parts: Decomposition, seed: int) -> tuple[Tensor, Tensor]:
    """Removal shares ``[S]``, and their replicates ``[RESAMPLES, S]`` on resampled contexts, the same for one seed."""
    removal, effect = (_resampled(part.T, seed) for part in (parts.removal, parts.effect))
    return parts.removal_share.double().cpu(), removal / effect


def removing(parts: Decomposition, seed: int) -> Interval:
    """Share of the directions that remove, contexts resampled."""
    share, replicates = shares(parts, seed)
    return _quantiles(float((share > MAJORITY).double().mean()), (replicates > MAJORITY).double().mean(1))


def adding(parts: Decomposition, seed: int) -> Interval:
    """Share of the directions that do not."""
    one = removing(parts, seed)
    return Interval(1 - one.value, 1 - one.high, 1 - one.low)


def mean_share(parts: Decomposition, seed: int) -> Interval:
    """Removal share, averaged over directions, contexts resampled."""
    share, replicates = shares(parts, seed)
    return _quantiles(float(share.mean()), replicates.mean(1))


def mean_lean(directions: Tensor, window_sums: Tensor, seed: int) -> Interval:
    """Mean cosine of ``directions [S, d]`` to ``E x̂``, windows resampled (sums and counts ``[N, d + 1]``)."""
    total = directions.double().cpu().mean(0)
    mean, replicates = _mean(window_sums.cpu().sum(0)), _mean(_resampled(window_sums, seed))
    return _quantiles(float(total @ mean / mean.norm()), replicates @ total / replicates.norm(dim=1))


def check_share(run: Run) -> Finding:
    """PY-8."""
    evidence = {"groups": _figures(run), "directions_are_the_claim": "contexts are resampled, directions are not"}
    return _judge_share(run, removing(measured(run).parts[FOUND], run.seed), evidence, _exhibits(run))


def check_share_of_adding(run: Run) -> Finding:
    """False twin: the other side of the classifier."""
    return _judge_share(run, adding(measured(run).parts[FOUND], run.seed), {}, ())


def check_lean(run: Run) -> Finding:
    """PY-8.lean."""
    at = measured(run)
    evidence = {
        name: mean_lean(rows, at.window_sums, run.seed).to_json() for name, rows in at.groups.items() if name != FOUND
    }
    return _judge_lean(run, FOUND, {"others": evidence})


def check_lean_of_random(run: Run) -> Finding:
    """False twin: random directions in the place of the found ones."""
    return _judge_lean(run, RANDOMS, {})


def check_mean_direction(run: Run) -> Finding:
    """PY-8.mean."""
    return _judge_explained(run, measured(run).parts[WITHOUT_MEAN])


def check_random_direction(run: Run) -> Finding:
    """False twin: a random direction taken out instead of the mean."""
    at = measured(run)
    rows = at.groups[FOUND]
    return _judge_explained(run, _parts(run, without(rows, at.groups[RANDOMS][0].to(rows))))


def _judge_share(run: Run, share: Interval, evidence: dict[str, object], exhibits: tuple[Exhibit, ...]) -> Finding:
    length, limit = measured(run).length, -removal_threshold()
    silent = f"‖E x̂‖ is {length.text()}: the toys predict a share of removal directions only up to {limit:.2f}"
    applies = True if length.high <= limit else False if length.low > limit else None
    return _judge(run, SHARE, share, applies, silent, evidence, exhibits)


def _judge_lean(run: Run, group: str, evidence: dict[str, object]) -> Finding:
    at = measured(run)
    length = at.length
    silent = f"‖E x̂‖ is {length.text()}: a lean is predicted only from {LEANING_LENGTH} on"
    applies = True if length.low >= LEANING_LENGTH else False if length.high < LEANING_LENGTH else None
    return _judge(run, LEAN, mean_lean(at.groups[group], at.window_sums, run.seed), applies, silent, evidence, ())


def _judge(
    run: Run,
    name: str,
    measured_value: Interval,
    applies: bool | None,
    silent: str,
    evidence: dict[str, object],
    exhibits: tuple[Exhibit, ...],
) -> Finding:
    """By the prediction if it applies; SKIPPED where it is silent, INCONCLUSIVE where that is not clear."""
    predicted, origin = prediction(run, name, SIDE)
    figures: dict[str, object] = {
        **({JUDGED: [judged(predicted, measured_value, origin=origin)]} if applies else {}),
        "measured": measured_value.to_json(),
        "length_of_mean_of_unit_activations": measured(run).length.to_json(),
        "predicted": predicted.to_json(),
        "predictions": origin,
        **evidence,
    }
    status = predicted.status(measured_value) if applies else Status.SKIPPED if applies is False else None
    if not applies:
        figures = {"reason": silent, **figures}
    witness = {"measured": measured_value.to_json(), "predicted": predicted.to_json()}
    return Finding(
        status=status or Status.INCONCLUSIVE,
        evidence=figures,
        witness=witness if status is Status.REFUTED else None,
        exhibits=exhibits,
    )


def _judge_explained(run: Run, left: Decomposition) -> Finding:
    """Whether more than :data:`LARGELY` of the removal share beyond that of random directions went with what was taken
    out; INCONCLUSIVE where there is no such excess."""
    at = measured(run)
    (share, replicates), (remaining, after), (chance, control) = (
        tuple(one.mean(-1) for one in shares(parts, run.seed)) for parts in (at.parts[FOUND], left, at.parts[RANDOMS])
    )
    excess = _quantiles(float(share - chance), replicates - control)
    gone = _quantiles(float(share - remaining), replicates - after)
    beyond = _quantiles(
        float(share - remaining - LARGELY * (share - chance)), replicates - after - LARGELY * (replicates - control)
    )
    figures: dict[str, object] = {
        "removal_share_beyond_random": excess.to_json(),
        "gone_with_what_was_taken_out": gone.to_json(),
        "part_gone": gone.value / excess.value if excess.low > 0 else None,
        "gone_less_half_of_excess": beyond.to_json(),
        "effect_left": float(left.effect.mean() / at.parts[FOUND].effect.mean()),
    }
    if excess.low <= 0:
        reason = "found directions remove no more than random ones: there is nothing to explain"
        return Finding(status=Status.INCONCLUSIVE, evidence={"reason": reason, **figures})
    status, ledger = LARGELY_MEAN.status(beyond), judged(LARGELY_MEAN, beyond, origin="stated by the theory")
    return Finding(
        status=status,
        evidence={JUDGED: [ledger], **figures},
        witness=figures if status is Status.REFUTED else None,
    )


def _figures(run: Run) -> dict[str, dict[str, object]]:
    """By group: what is in the table, with intervals."""
    at, readout = measured(run), _readout(found(run))
    x = readout.residuals[readout.counted]
    figures: dict[str, dict[str, object]] = {}
    for name, parts in at.parts.items():
        rows = at.groups[name]
        rho, about = (presence(x - zero, rows.to(x), readout.centring) for zero in (0.0, x.mean(0)))
        hits = verdicts(parts)
        figures[name] = {
            "directions": len(rows),
            "removing": removing(parts, run.seed).to_json(),
            "removing_if_directions_are_a_sample": share_interval(
                [hits.removes.cpu()], torch.Generator().manual_seed(run.seed)
            ).to_json(),
            "decided": float(hits.decided.double().mean()),
            "removal_share": mean_share(parts, run.seed).to_json(),
            "removal_share_predicted_from_presences": float(predicted_share(parts.presence).mean()),
            "cosine_to_mean": mean_lean(rows, at.window_sums, run.seed).to_json(),
            "mean_presence": float(rho.mean()),
            "mean_size_of_presence": float(rho.abs().mean()),
            "mean_size_of_presence_about_the_mean": float(about.abs().mean()),
            "mean_effect": float(parts.effect.mean()),
        }
    return figures


def _exhibits(run: Run) -> tuple[Exhibit, ...]:
    figures, parts, layer = _figures(run), measured(run).parts[FOUND], _readout(found(run)).layer
    table = Table(
        title=f"Removal among found directions, layer {layer}",
        caption="Share of directions that remove (its interval takes the directions for a sample), the part of the "
        "effect that is removal, the cosine to the mean of unit activations (95 % intervals over contexts or windows), "
        "and the mean size of presence about zero and about the mean activation. The first two rows differ by the mean "
        "direction alone, which the second is without.",
        columns=[
            "directions", "removing", "removal share", "predicted from presences", "cosine to mean", "presence",
            "about the mean", "effect",
        ],
        rows=[
            [
                name,
                row["removing_if_directions_are_a_sample"],
                row["removal_share"],
                f"{row['removal_share_predicted_from_presences']:.2f}",
                row["cosine_to_mean"],
                f"{row['mean_size_of_presence']:.3f}",
                f"{row['mean_size_of_presence_about_the_mean']:.3f}",
                float(f"{row['mean_effect']:.3g}"),
            ]
            for name, row in figures.items()
        ],
    )  # fmt: skip
    decided = verdicts(parts)
    order = decided.share.argsort(descending=True)[:SHOWN].tolist()
    intervals = Intervals(
        title=f"How much of its effect each found direction owes to removal, layer {layer}",
        caption=f"95 % intervals over contexts, the {len(order)} largest. Right of the line a direction mostly takes "
        "away what is there; left of it, it mostly adds.",
        x_label="removal share",
        rows=[
            IntervalRow(
                name=f"direction {index}",
                value=float(decided.share[index]),
                low=float(decided.share[index] - SIGNIFICANT * decided.standard_error[index]),
                high=float(decided.share[index] + SIGNIFICANT * decided.standard_error[index]),
            )
            for index in order
        ],
        reference=MAJORITY,
    )
    return table, intervals
