"""How concentrated the effects of groups of directions are on neurons and logits, and what stands beside for control.

Sites, searches and measurements of PY-11 are here; :mod:`pythia.selective` judges and shows them. All groups
meet the same held-out contexts with the same presences. Directions found by peak sensitivity and by concentration come
from two searches of the same budget, on the search windows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from pythia import compared, subject
from pythia.positions import permuted
from pythia.privileged import LogitReadout, UnitReadout, has_neurons, tokens_of
from pythia.site import site_of
from sensverify import selectivity
from sensverify.claims import Run
from sensverify.discovery import SearchOptions, search
from sensverify.geometry import unit_directions
from sensverify.interventions import scale_norm
from sensverify.readout import Batch
from sensverify.sensitivity import Probe, SensitivityEstimate
from sensverify.sensitivity import compared as read_compared
from sensverify.sites import Site, SiteOptions
from sensverify.statistics import Interval, group_mean, group_ratio

PEAK, CONCENTRATION = "peak", "concentration"
"""The groups that this module adds to those of :mod:`pythia.compared`: what is judged, and the positive control."""
FOUND_BY: Mapping[str, Literal["peak", "selective"]] = {PEAK: "peak", CONCENTRATION: "selective"}
PROBE = Probe(reference="absent")
CONTEXTS, DRAWS = 256, 2
LOGIT_CONTEXTS = 64
FEW = 32
"""Random directions where all of them would add nothing but time."""
HALFWAY = 0.4375
"""The mean of the presences that are set: one for all, where single units are looked at."""
FACTOR = 2.0
"""What the norm is multiplied by, as a control."""

Kind = Literal["neurons", "logits"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """Concentrations at one layer, by group: on the units, on the rotated units, and the controls on the peak group.

    ``peaks`` are peak sensitivities; ``strongest`` the number of each direction's strongest unit and its share.
    """

    layer: int
    site: Site
    groups: Mapping[str, SensitivityEstimate]
    rotated: Mapping[str, SensitivityEstimate]
    shuffled_tokens: Mapping[str, SensitivityEstimate]
    nothing_set: SensitivityEstimate
    norm_only: SensitivityEstimate
    peaks: Mapping[str, SensitivityEstimate]
    strongest: Mapping[str, tuple[Tensor, Tensor]]

    def ratio(self, top: str, bottom: str = compared.RANDOM, *, seed: int, tail: float = 0.025) -> Interval:
        """Concentration of one group over that of another; directions and contexts resampled."""
        return ratio_of(self.groups[top], self.groups[bottom], seed=seed, tail=tail)


def kind_of(run: Run) -> Kind:
    """What is read: neurons, or the logits of a model so shallow that no MLP sees what an intervention does."""
    model = subject.model(run)
    return "neurons" if any(has_neurons(model, layer + 1) for layer in compared.layers(run)) else "logits"


def layers(run: Run) -> tuple[int, ...]:
    """Those of :func:`pythia.compared.layers` behind which there are units to read."""
    model = subject.model(run)
    chosen = tuple(layer for layer in compared.layers(run) if has_neurons(model, layer + 1))
    return chosen or compared.layers(run)


def site(run: Run, layer: int) -> Site:
    """The run's model and text, intervened on after block ``layer``, units read one token later."""
    model, kind = subject.model(run), kind_of(run)
    target = layer + 1 if kind == "neurons" else model.depth - 1
    options = SiteOptions(layer=layer, target=target, offset=1, readout=kind, seed=run.seed)
    return run.shared(f"pythia.selective site {layer}", lambda: site_of(model, subject.corpus(run), options))


def search_options(run: Run, score: Literal["peak", "selective"]) -> SearchOptions:
    """The searches of this claim: fewer steps than the plain one, each of which costs two reads of many units."""
    quick = run.profile == "quick"
    return SearchOptions(
        directions=16 if quick else 32, steps=100 if quick else 200, score=score, probe=PROBE, seed=run.seed
    )


def searched(run: Run, layer: int, group: str) -> Tensor:
    """What the search of ``group``, :data:`PEAK` or :data:`CONCENTRATION`, finds at this layer: unit rows."""

    def make() -> Tensor:
        place = site(run, layer)
        state = search(place.search, search_options(run, FOUND_BY[group]), progress=run.progress)
        return unit_directions(state.directions, place.search.centring)

    return run.shared(f"pythia.selective {group} {layer}", make)


def groups(run: Run, layer: int) -> Mapping[str, Tensor]:
    """All groups of directions, unit rows ``[K, d]``."""
    ours = {name: searched(run, layer, name) for name in FOUND_BY}
    return {**ours, **compared.directions(run, layer)}


# -- Measuring --------------------------------------------------------------------------------------------------------


def measured(run: Run, layer: int) -> Measured:
    """Everything at one layer, measured once per run."""
    return run.shared(f"pythia.selective measured {layer}", lambda: _measure(run, layer))


def _measure(run: Run, layer: int) -> Measured:
    place, directions = site(run, layer), groups(run, layer)
    readout = place.held_out
    assert isinstance(readout, UnitReadout)
    rows, positions, batch = _contexts(run, readout, place.independent_contexts)
    directions = {name: group.to(batch.x) for name, group in directions.items()}
    few = {PEAK: directions[PEAK], compared.RANDOM: directions[compared.RANDOM][:FEW]}
    turned = readout.rotated(run.seed, claims_privilege=True)
    mixed = _on_shuffled_tokens(run, readout)
    return Measured(
        layer=layer,
        site=place,
        groups=_concentrations(run, readout, batch, directions),
        rotated=_concentrations(run, turned, turned.at(rows, positions), few),
        shuffled_tokens=_concentrations(run, mixed, mixed.at(rows, positions), few),
        nothing_set=_as_estimate(selectivity.null_effects(readout, batch, few[PEAK])),
        norm_only=_as_estimate(_norm_only(readout, batch)),
        peaks=selectivity.estimate_groups(
            readout, batch, {**few, compared.FOUND: directions[compared.FOUND]},
            generator=_generator(run), draws=1, probe=PROBE, measure="peak",
        ),
        strongest={name: _strongest(readout, batch, group[:FEW]) for name, group in directions.items()},
    )  # fmt: skip


def _contexts(run: Run, readout: UnitReadout, independent: int) -> tuple[Tensor, Tensor, Batch[Any]]:
    generator = torch.Generator(device=readout.device).manual_seed(run.seed + 41)
    rows, positions = readout.draw(min(CONTEXTS, independent), generator)
    return rows, positions, readout.at(rows, positions)


def _generator(run: Run) -> torch.Generator:
    """Presences are the same for every group and read-out."""
    return torch.Generator(device=subject.model(run).device).manual_seed(run.seed + 43)


def _concentrations(
    run: Run, readout: UnitReadout, batch: Batch[Any], directions: Mapping[str, Tensor], draws: int = DRAWS
) -> dict[str, SensitivityEstimate]:
    return selectivity.estimate_groups(
        readout, batch, directions, generator=_generator(run), draws=draws, probe=PROBE, progress=run.progress
    )


def _as_estimate(found: selectivity.Concentrations) -> SensitivityEstimate:
    return SensitivityEstimate(effects=found.values, weights=found.weights("effects"), configuration={})


def _on_shuffled_tokens(run: Run, readout: UnitReadout) -> UnitReadout:
    """The same site on windows whose tokens, of the positions that count, are in random order."""
    where: dict[str, Any] = {"layer": readout.layer, "target": readout.target, "offset": readout.offset}
    if isinstance(readout, LogitReadout):
        where["tokens"] = readout.tokens
    mixed = permuted(readout.windows, readout.counted, torch.Generator().manual_seed(run.seed + 47))
    allowed = dataclasses.replace(readout.allowed, real=readout.counted)
    return type(readout)(readout.model, mixed, first_position=readout.first_position, allowed=allowed, **where)


@torch.no_grad()
def _norm_only(readout: UnitReadout, batch: Batch[Any]) -> selectivity.Concentrations:
    """The effect of multiplying the activation's length by :data:`FACTOR`, ``[1, B]``."""
    scaled = readout.read(batch, scale_norm(batch.x, FACTOR, readout.centring)[None])
    return selectivity.concentrations(readout.clean(batch), scaled)


@torch.no_grad()
def _strongest(readout: UnitReadout, batch: Batch[Any], directions: Tensor) -> tuple[Tensor, Tensor]:
    """Of each direction the unit with the largest part of ``E‖Δ‖₄⁴`` at a presence of :data:`HALFWAY`, ``[S]``, and
    that part, ``[S]``."""
    clean, alpha = readout.clean(batch), torch.full_like(batch.x[:, 0], HALFWAY)
    shares = []
    for direction in torch.split(directions, 1):
        without, moved = read_compared(readout, batch, clean, direction, alpha, "absent")
        by_unit = (moved - without).double().pow(4).mean(1)
        shares.append(by_unit / by_unit.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny))
    best = torch.cat(shares).max(-1)
    return best.indices, best.values


def on_logits(run: Run, layer: int) -> Mapping[str, SensitivityEstimate]:
    """Concentrations on the centred logits, on fewer contexts; in the full profile with a search for peaks there."""

    def make() -> Mapping[str, SensitivityEstimate]:
        model, windows = subject.model(run), subject.corpus(run)
        first = windows.first_position
        tokens = tokens_of(model, windows.search[windows.search_real], windows.held_out[windows.held_out_real])

        def readout(part: str) -> LogitReadout:
            where: dict[str, Any] = {"first_position": first, "allowed": windows.allowed(part), "tokens": tokens}
            return LogitReadout(model, getattr(windows, part), layer=layer, offset=1, **where)

        directions = dict(groups(run, layer))
        directions[compared.RANDOM] = directions[compared.RANDOM][:FEW]
        directions[compared.SAE] = directions[compared.SAE][:FEW]
        if run.profile == "full":
            options = dataclasses.replace(search_options(run, "peak"), directions=16, steps=60)
            directions["peak of logits"] = search(readout("search"), options, progress=run.progress).directions
        held_out = readout("held_out")
        *_, batch = _contexts(run, held_out, min(LOGIT_CONTEXTS, len(held_out.positions.rows)))
        return _concentrations(
            run, held_out, batch, {name: group.to(batch.x) for name, group in directions.items()}, draws=1
        )

    return run.shared(f"pythia.selective logits {layer}", make)


def ratio_of(top: SensitivityEstimate, bottom: SensitivityEstimate, *, seed: int, tail: float = 0.025) -> Interval:
    """Ratio of the mean concentrations of two groups on the same contexts; both resampled."""
    resampling = torch.Generator().manual_seed(seed + 53)
    return group_ratio(top.effects, bottom.effects, resampling, weights=(top.weights, bottom.weights), tail=tail)


def mean_of(estimate: SensitivityEstimate, seed: int) -> Interval:
    """Mean concentration of a group; directions and contexts resampled."""
    return group_mean(estimate.effects, torch.Generator().manual_seed(seed + 53), weights=estimate.weights)
