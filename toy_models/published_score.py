"""TM-8.published: what the published score makes of a stream's length. PY-10 rests on it.

The published score puts an activation of norm 1 in the place of ``x`` and compares with what ``x`` itself gave
(:mod:`sensverify.published`). How much is left of ``x`` then depends on how long it was, and that is a matter of how a
model is written down: multiply the embedding and all that blocks add by ``k``, and nothing that the model computes
changes, since everything reads the stream through a norm (LN-1; :meth:`toy_models.transformer.Transformer.scaled`).
Our score keeps the norm and does not see ``k``. Of the published score of random directions, same token, one block
later, the part that is there at the null rotation ``α = ρ_s(x)`` is nothing where activations have norm 1 and most of
it, or nearly half, where they have norm ``√d``, that of a norm's output.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from sensverify.claims import Run
from sensverify.exhibits import Exhibit, IntervalRow, Intervals
from sensverify.published import UnitNormReadout, null_share, share_interval
from sensverify.readout import Readout
from sensverify.sensitivity import estimate_on
from sensverify.statistics import Interval
from sensverify.verdicts import Finding, Status
from toy_models import planted
from toy_models.judging import at_least
from toy_models.planted import Subject
from toy_models.transformer import Transformer

SITES = ((0, 1), (1, 2))
"""One block later: the block with the head, and that with the units."""
NULL_DIRECTIONS = 4
"""The null rotation leads to the same activation whatever the direction."""
REQUIRED_SHARE = 1 / 3
PUBLISHED, OURS, SHORT, LATER = (
    "published, norm √d", "ours, norm √d", "published, norm 1", "published, norm √d, one token later"
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Shares:
    """Of one model, for each variant the share of random directions' score that is there at the null rotation, site by
    site; how far scaling moves any log-probability; and our mean score after scaling over that before."""

    seed: int
    shares: Mapping[str, Sequence[Interval]]
    largest_change: float
    ours_changed: float


def measured(run: Run) -> list[Shares]:
    """On every planted transformer, once per run."""
    return run.shared("toy_models.published_score", lambda: [_measure(subject) for subject in planted.subjects(run)])


def check_published(run: Run) -> Finding:
    """TM-8.published."""
    rows = measured(run)
    beside = {
        "null_share": {
            f"seed {row.seed}": {name: [one.to_json() for one in each] for name, each in row.shares.items()}
            for row in rows
        },
        "largest_change_of_a_log_probability_by_scaling": max(row.largest_change for row in rows),
        "our_score_after_scaling_over_before": {f"seed {row.seed}": row.ours_changed for row in rows},
    }
    return _judge(rows, PUBLISHED, beside, (_exhibit(rows),))


def check_ours(run: Run) -> Finding:
    """False twin: the same of our score."""
    return _judge(measured(run), OURS)


def check_short_streams(run: Run) -> Finding:
    """False twin: the same where the stream is as it was planted, of norm 1 and √2."""
    return _judge(measured(run), SHORT)


def check_next_token(run: Run) -> Finding:
    """False twin: the same one token later, where the norm of ``x'`` is felt through a norm alone."""
    return _judge(measured(run), LATER)


def _judge(
    rows: Sequence[Shares], variant: str, beside: Mapping[str, Any] | None = None, exhibits: tuple[Exhibit, ...] = ()
) -> Finding:
    """Every model and site by itself: SUPPORTED if all intervals are high enough, REFUTED by one wholly below."""
    shares = [one for row in rows for one in row.shares[variant]]
    status, lowest = at_least(shares, REQUIRED_SHARE), min(shares, key=lambda one: one.high)
    return Finding(
        status=status,
        evidence={"lowest_share": lowest.to_json(), "required": REQUIRED_SHARE, "seeds": [row.seed for row in rows],
                  **(beside or {})},
        witness={"score": variant, "share_at_the_null_rotation": lowest.to_json()}
        if status is Status.REFUTED
        else None,
        exhibits=exhibits,
    )  # fmt: skip


def _measure(subject: Subject) -> Shares:
    model = subject.planted.transformer
    long = model.scaled(subject.planted.config.width**0.5)
    shares: dict[str, list[Interval]] = {PUBLISHED: [], OURS: [], SHORT: [], LATER: []}
    before, after = [], []
    for layer, target in SITES:
        ours, mean_after = _share(subject, _at(subject, long, layer, target))
        _, mean_before = _share(subject, _at(subject, model, layer, target))
        before.append(mean_before)
        after.append(mean_after)
        shares[OURS].append(ours)
        shares[PUBLISHED].append(_share(subject, UnitNormReadout(_at(subject, long, layer, target)))[0])
        shares[SHORT].append(_share(subject, UnitNormReadout(_at(subject, model, layer, target)))[0])
    shares[LATER].append(_share(subject, UnitNormReadout(subject.readout(1, transformer=long)))[0])
    windows = subject.planted.windows(64, planted.LENGTH, subject.generator(1))
    change = (long.logits(windows).log_softmax(-1) - model.logits(windows).log_softmax(-1)).abs().max()
    return Shares(subject.seed, shares, float(change), sum(after) / sum(before))


def _at(subject: Subject, model: Transformer, layer: int, target: int) -> Readout:
    return subject.readout(1, transformer=model, layer=layer, target=target, offset=0)


def _share(subject: Subject, readout: Readout) -> tuple[Interval, float]:
    """The null share of random directions, and their mean score."""
    batch = readout.sample(planted.EVALUATION_CONTEXTS, subject.generator(1))
    directions = planted.directions_of(subject, "random", subject.planted.config.features, subject.generator(4))
    estimate = estimate_on(readout, batch, directions, generator=subject.generator(3), draws=2)
    parts = null_share(readout, batch, estimate, directions[:NULL_DIRECTIONS])
    return share_interval(parts, subject.generator(2)), float(estimate.mean.mean())


def _exhibit(rows: Sequence[Shares]) -> Intervals:
    return Intervals(
        title="How much of a score is there before anything is rotated",
        caption="Share of the score of random directions at the null rotation, 95 % intervals over contexts; one model "
        "written with streams of norm 1 and √d, which computes the same. Same token, one block later, unless said.",
        x_label="share at the null rotation",
        rows=tuple(
            IntervalRow(name=f"{name}, site {site}, seed {row.seed}", **one.to_json())
            for name in (PUBLISHED, SHORT, LATER, OURS)
            for row in rows
            for site, one in enumerate(row.shares[name])
        ),
        reference=REQUIRED_SHARE,
    )
