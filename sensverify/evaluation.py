"""What ``discover`` and ``score`` report about directions: SeS of each, of its negative, and of random ones; or, on a
read-out with a privileged basis, what the search maximised there (:mod:`sensverify.selectivity`).

All are scored on the same held-out contexts with the same presences, so that differences are paired. The null
control stands beside them and has to be zero up to rounding: each presence set to what it already is or, if effects are
measured from presence 0, to 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sensverify import selectivity
from sensverify.claims import Progress, silent
from sensverify.directions import DirectionSet
from sensverify.discovery import count_duplicates
from sensverify.geometry import random_directions, unit_directions
from sensverify.interventions import set_presence
from sensverify.readout import Batch, Readout
from sensverify.scoring import angular_distance
from sensverify.search_state import Score
from sensverify.sensitivity import Probe, SensitivityEstimate, estimate_groups, null_effects
from sensverify.sites import Site
from sensverify.statistics import Interval, group_mean, group_ratio

if TYPE_CHECKING:
    from rich.table import Table

HELD_OUT_CONTEXTS = 256
RANDOM_DIRECTIONS = 64
MEASURES: Mapping[str, selectivity.Measure] = {score: name for name, score in selectivity.SCORE_OF.items()}
"""What is measured where a search maximised something else than plain sensitivity, by the score's name."""
NAMES: Mapping[Any, tuple[str, str]] = {
    "selective": ("C", "concentration of effects (C)"),
    "peak": ("peak", "peak sensitivity"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Estimates for ``directions [K, d]`` (``plus``), their negatives (``minus``) and random directions."""

    directions: Tensor
    plus: SensitivityEstimate
    minus: SensitivityEstimate
    random: SensitivityEstimate
    groups: Mapping[str, Interval]
    ratio: Interval
    duplicates: int
    largest_null_effect: float
    called: str = "found"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: per direction score ± standard error for +s and −s; group means; ratio to random."""
        return {
            "groups": {name: interval.to_json() for name, interval in self.groups.items()},
            "ratio_to_random": self.ratio.to_json(),
            "duplicates": self.duplicates,
            "largest_null_effect": self.largest_null_effect,
            "evaluation": dict(self.plus.configuration),
            "scores": [
                {"index": i, "plus": p, "plus_se": ps, "minus": m, "minus_se": ms}
                for i, (p, ps, m, ms) in enumerate(self._columns())
            ],
        }

    def _columns(self) -> list[tuple[float, float, float, float]]:
        columns = (self.plus.mean, self.plus.standard_error, self.minus.mean, self.minus.standard_error)
        return list(zip(*(column.double().tolist() for column in columns), strict=True))

    def to_directions(self, config: Mapping[str, Any]) -> DirectionSet:
        """The directions with these scores, for :func:`sensverify.directions.save_directions`."""
        return DirectionSet(
            directions=self.directions,
            config={**config, "evaluation": dict(self.plus.configuration)},
            score_plus=self.plus.mean,
            score_minus=self.minus.mean,
            score_plus_se=self.plus.standard_error,
            score_minus_se=self.minus.standard_error,
        )

    def table(self) -> Table:
        """The group table for a terminal; intervals are 95 %, over directions and contexts."""
        from rich.table import Table

        origin = ", from presence 0" if self.plus.configuration["reference"] == "absent" else ""
        name, title = NAMES.get(self.plus.configuration.get("score"), ("SeS", ""))
        if not title:
            distance = str(self.plus.configuration["distance"])
            unit = "" if distance == angular_distance.__name__ else f", {distance}"
            title = f"sensitivity (SeS{unit})"
        table = Table(
            title=f"{title}{origin} on held-out contexts, 95 % intervals",
            caption=f"{self.called}/random {self.ratio.value:.2f} [{self.ratio.low:.2f}, {self.ratio.high:.2f}]; "
            f"{self.duplicates} duplicates; largest null effect {self.largest_null_effect:.1e}",
        )
        table.add_column("group")
        for column in (name, "low", "high"):
            table.add_column(column, justify="right")
        for name, interval in self.groups.items():
            table.add_row(name, f"{interval.value:.3e}", f"{interval.low:.3e}", f"{interval.high:.3e}")
        return table


def measured_as(probe: Probe, readout: Readout) -> Probe:
    """``probe`` with the distance that ``readout`` has of its own, if it has one (its ``distance``)."""
    own = getattr(readout, "distance", None)
    return probe if own is None else dataclasses.replace(probe, distance=own)


def evaluate_directions(
    site: Site,
    directions: Tensor,
    *,
    seed: int,
    probe: Probe | None = None,
    score: Score = "plain",
    called: str = "found",
    progress: Progress = silent,
) -> Evaluation:
    """Score ``directions [K, d]``, their negatives and random directions on one held-out sample of ``site``.

    ``called`` is what tables name the directions by.
    Raises :class:`~sensverify.errors.InputError` for a ``score`` that needs a privileged basis where there is none.
    """
    probe = probe or Probe()
    readout = site.held_out
    generator = torch.Generator(device=readout.device).manual_seed(seed + 1)
    directions = unit_directions(directions.to(readout.device), readout.centring)
    random = random_directions(RANDOM_DIRECTIONS, readout.width, readout.centring, generator)
    batch = readout.sample(min(HELD_OUT_CONTEXTS, site.independent_contexts), generator)
    groups = {"plus": directions, "minus": -directions, "random": random}
    as_contexts = {name: group.to(batch.x) for name, group in groups.items()}
    if score == "plain":
        found = estimate_groups(readout, batch, as_contexts, generator=generator, probe=probe, progress=progress)
    else:
        measure = MEASURES[score]
        found = selectivity.estimate_groups(
            readout, batch, as_contexts, generator=generator, probe=probe, measure=measure, progress=progress
        )
    plus, minus, control = found.values()
    # Concentrations are averaged by effect, all else over contexts alike.
    weights = {name: one.weights if score == "selective" else None for name, one in found.items()}
    both = (plus.weights, control.weights) if score == "selective" else None
    resampling = torch.Generator().manual_seed(seed + 2)
    return Evaluation(
        directions=directions,
        plus=plus,
        minus=minus,
        random=control,
        groups={
            f"{called} (+s)": group_mean(plus.effects, resampling, weights=weights["plus"]),
            "negated (−s)": group_mean(minus.effects, resampling, weights=weights["minus"]),
            "random": group_mean(control.effects, resampling, weights=weights["random"]),
        },
        ratio=group_ratio(plus.effects, control.effects, resampling, weights=both),
        duplicates=count_duplicates(directions),
        largest_null_effect=float(_null(readout, batch, directions.to(batch.x), probe).max()),
        called=called,
    )


@torch.no_grad()
def _null(readout: Readout, batch: Batch[Any], directions: Tensor, probe: Probe) -> Tensor:
    """Effects ``[S, B]`` that must be zero up to rounding, for the probe's reference.

    Clean: each presence is set to what it is. Absent: what is there without the direction must not depend on how much
    of it there was, ``I_s^0 ∘ I_s^β = I_s^0`` (RN-2).
    """
    if probe.reference == "clean":
        return null_effects(readout, batch, directions, probe.distance)
    rows = []
    for s in torch.split(directions, 1):
        raised = set_presence(batch.x, s, 0.5, readout.centring)[0]
        without = [readout.read(batch, set_presence(x, s, 0.0, readout.centring)) for x in (batch.x, raised)]
        rows.append(probe.distance(*without))
    return torch.cat(rows)
