"""TM-8.swaps: does a transformer's next token depend on an activation's direction, or on its norm? PY-2 rests on it.

After block 1 the stream holds an embedding and a copy of the one before; block 2 reads the copy through a norm and
writes what is predicted. Swaps there (:mod:`sensverify.swaps`) are felt at the position itself. Norms of the toys'
activations differ by half a percent, those of trained models by more, so beside the plain swap stands a norm that is
halved. After block 0 a swap would be felt at the position itself by its size alone, since what a token is there is read
one token later.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.exhibits import Exhibit, IntervalRow, Intervals
from sensverify.geometry import Centring
from sensverify.multiplicity import median_interval
from sensverify.statistics import Interval
from sensverify.swaps import DIRECTION, HALVED, NORM, OWN, TURN, ratio, swapped
from sensverify.verdicts import Finding, Status
from toy_models import planted
from toy_models.judging import at_least
from toy_models.planted import ABOVE_ONE, Subject
from toy_models.transformer import Transformer

LAYER, CONTEXTS = 1, 256
COMPARED = ((DIRECTION, NORM), (DIRECTION, HALVED), (TURN, NORM))


@dataclasses.dataclass(frozen=True)
class Swapped:
    """Of one model, divergences ``[B]`` in nats of each intervention, and by what share norms were changed, ``[B]``."""

    seed: int
    effects: Mapping[str, Tensor]
    change: Tensor

    def ratio(self, top: str, bottom: str) -> Interval:
        """Median over contexts."""
        generator = torch.Generator().manual_seed(self.seed)
        return median_interval(ratio(self.effects[top], self.effects[bottom]), generator)


def measured(run: Run) -> list[Swapped]:
    """On every planted transformer, once per run."""
    return run.shared("toy_models.swapping", lambda: [_measure(subject) for subject in planted.subjects(run)])


def check_swaps(run: Run) -> Finding:
    """TM-8.swaps."""
    rows = measured(run)
    beside = {
        "median_nats": {
            f"seed {row.seed}": {name: float(effect.median()) for name, effect in row.effects.items()} for row in rows
        },
        "median_relative_change_of_norm": {f"seed {row.seed}": float(row.change.median()) for row in rows},
    }
    return _judge(rows, COMPARED, beside, (_exhibit(rows),))


def check_opposite_order(run: Run) -> Finding:
    """False twin: the norm matters more than the direction."""
    return _judge(measured(run), ((NORM, DIRECTION),))


def check_own_direction(run: Run) -> Finding:
    """False twin: an activation's own direction in the place of another's, where nothing is swapped."""
    return _judge(measured(run), ((OWN, NORM),))


def _judge(
    rows: Sequence[Swapped],
    pairs: Sequence[tuple[str, str]],
    beside: Mapping[str, Any] | None = None,
    exhibits: tuple[Exhibit, ...] = (),
) -> Finding:
    """Every model and pair by itself: SUPPORTED if all medians are above 1, REFUTED by one that is nowhere above."""
    ratios = {(row.seed, *pair): row.ratio(*pair) for row in rows for pair in pairs}
    status, lowest = at_least(ratios.values(), ABOVE_ONE), min(ratios, key=lambda key: ratios[key].high)
    return Finding(
        status=status,
        evidence={
            "median_ratios": {
                f"seed {seed}, {top} over {bottom}": one.to_json() for (seed, top, bottom), one in ratios.items()
            },
            "contexts": CONTEXTS,
            "seeds": [row.seed for row in rows],
            **(beside or {}),
        },
        witness={"seed, compared": list(lowest), "median_ratio": ratios[lowest].to_json()}
        if status is Status.REFUTED
        else None,
        exhibits=exhibits,
    )


@torch.no_grad()
def _measure(subject: Subject) -> Swapped:
    """Window ``i``'s partner is the next one, at the same position, never the first."""
    readout = subject.readout(1, layer=LAYER, offset=0)
    generator, rows = subject.generator(30), torch.arange(CONTEXTS)
    positions = torch.randint(1, planted.LENGTH, (CONTEXTS,), generator=generator)
    batch, other = (readout.at(which, positions) for which in (rows, (rows + 1) % planted.WINDOWS))
    model, clean = subject.planted.transformer, readout.clean(batch)
    made = swapped(batch.x, other.x, Centring.MEAN, generator)
    moved = readout.read(batch, torch.stack(list(made.values())))
    own, partner = (Centring.MEAN.project(one.x).norm(dim=-1) for one in (batch, other))
    effects = dict(zip(made, divergence(model, clean, moved), strict=True))
    return Swapped(subject.seed, effects, (partner / own - 1).abs())


def divergence(model: Transformer, clean: Tensor, moved: Tensor) -> Tensor:
    """``KL [S, B]`` in nats between next-token distributions behind streams ``[B, d]`` and ``[S, B, d]``."""

    def log_probabilities(stream: Tensor) -> Tensor:
        return (model.final_norm(stream).double() @ model.unembedding.T.double()).log_softmax(-1)

    before, after = log_probabilities(clean), log_probabilities(moved)
    return (before.exp() * (before - after)).sum(-1).clamp_min(0)


def _exhibit(rows: Sequence[Swapped]) -> Intervals:
    return Intervals(
        title="Direction against norm",
        caption="Median over contexts of ratios of divergences of the next-token distribution, 95 % intervals. The "
        "fairest row compares a turn with a change of norm of the same length.",
        x_label="median ratio",
        rows=tuple(
            IntervalRow(name=f"{top} over {bottom}, seed {row.seed}", **row.ratio(top, bottom).to_json())
            for top, bottom in COMPARED
            for row in rows
        ),
        log_x=True,
        reference=1.0,
    )
