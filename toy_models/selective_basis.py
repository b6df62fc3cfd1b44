"""TM-9.basis: a search for large effects on few units needs units that mean something.

Peak sensitivity ``E‖Δ‖₄⁴`` is not invariant under a rotation ``y → Qy`` of the read-out: behind a random one every
effect is spread over all units, ``‖QΔ‖₄⁴ ≈ 3‖Δ‖₂⁴/n`` whatever ``Δ``, so that what is left to maximise is the length of
the effect, as for plain sensitivity. So the engine refuses a read-out that does not say its basis is privileged. Here
one lies about it and is searched; then its units are read behind the rotation; and between the two stand mixtures
``y + σAy``. Plain sensitivity, an angle, is the same before and behind a rotation, but for rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from sensverify.claims import Run
from sensverify.discovery import SearchOptions, start_search
from sensverify.errors import InputError
from sensverify.exhibits import Curve, Exhibit, Table
from sensverify.readout import Readout
from sensverify.sensitivity import estimate_on
from sensverify.verdicts import Finding, Status
from toy_models import judging
from toy_models.readouts import BehindRotation, Mixed, Rotated
from toy_models.recovery import Matching
from toy_models.searching import PEAK, PLAIN, recovered, search_seed, twice
from toy_models.selective_load import LABEL
from toy_models.superposition import SuperpositionConfig, SuperpositionModel, SuperpositionReadout
from toy_models.trained import models, seeds

SIZE = {
    "quick": SuperpositionConfig(features=48, width=24, density=0.1, batch=128, steps=1000),
    "full": SuperpositionConfig(features=64, width=32, density=0.1, batch=256),
}
BUDGET = {"quick": (150, 6), "full": (200, 8)}
"""Steps and contexts of a search."""
RATE = 0.3
STRENGTHS = {"quick": (0.3, 1.0), "full": (0.1, 0.3, 0.5, 1.0, 3.0)}
KEPT, LOST = 0.9, 0.1
"""At least, and at most, so many of the features: chosen beforehand, and checked on seeds from 9000 on."""

View = Callable[[SuperpositionModel], Readout]


def plainly(model: SuperpositionModel) -> Readout:
    """The toy's own units."""
    return SuperpositionReadout(model)


def rotated(model: SuperpositionModel) -> Readout:
    """Behind a rotation, passed off as privileged."""
    return Rotated(SuperpositionReadout(model), search_seed(LABEL, "rotation", model.seed), claims_privilege=True)


def honestly_rotated(model: SuperpositionModel) -> Readout:
    """Behind the same rotation, without the claim."""
    return Rotated(SuperpositionReadout(model), search_seed(LABEL, "rotation", model.seed))


def behind(model: SuperpositionModel) -> Readout:
    """The units behind that rotation, read by undoing it."""
    inner = Rotated(SuperpositionReadout(model), search_seed(LABEL, "rotation", model.seed))
    return BehindRotation(inner)


def mixed(strength: float) -> View:
    """Each unit with ``strength`` times a random mixture of all of them, passed off as privileged."""
    return lambda model: Mixed(
        SuperpositionReadout(model), strength, search_seed(LABEL, "mixing", model.seed), claims_privilege=True
    )


def subjects(run: Run) -> list[SuperpositionModel]:
    """Three trained models in the quick profile, four in the full one."""
    return models(run, SIZE[run.profile], seeds(run)[:4])


def budget(run: Run, model: SuperpositionModel, options: SearchOptions) -> SearchOptions:
    """``options`` for two directions per feature, with the budget of these claims and a seed that is a hash."""
    steps, contexts = BUDGET[run.profile]
    seed = search_seed(LABEL, "search", model.seed)
    return dataclasses.replace(twice(model, options), steps=steps, contexts=contexts, learning_rate=RATE, seed=seed)


def check_basis(run: Run) -> Finding:
    """TM-9.basis."""
    finding = _judge(run, kept={"own units": plainly, "behind the rotation": behind},
                     lost={"rotated units": rotated}, refused=honestly_rotated)  # fmt: skip
    mixtures = {strength: _found(run, mixed(strength)) for strength in STRENGTHS[run.profile]}
    plain = {name: _found(run, view, PLAIN) for name, view in (("own units", plainly), ("rotated units", rotated))}
    peak = {
        name: _found(run, view)
        for name, view in (("own units", plainly), ("rotated units", rotated), ("behind the rotation", behind))
    }
    evidence: dict[str, Any] = {
        **finding.evidence,
        "mixed": {
            f"strength {strength:g}": judging.recovered(run, group).to_json() for strength, group in mixtures.items()
        },
        "plain": {name: judging.recovered(run, group).to_json() for name, group in plain.items()},
        "plain_effects_differ_by_at_most": [_difference_of_plain(model) for model in subjects(run)],
        "searches": [budget(run, subjects(run)[0], options).to_json() for options in (PEAK, PLAIN)],
    }
    return dataclasses.replace(finding, evidence=evidence, exhibits=_exhibits(run, peak, plain, mixtures))


def twin_rotation_does_not_matter(run: Run) -> Finding:
    """False: the search finds the features behind a rotation as well."""
    return _judge(run, kept={"rotated units": rotated}, lost={}, refused=honestly_rotated)


def twin_nothing_mends_it(run: Run) -> Finding:
    """False: they stay lost if the units are read behind the rotation."""
    return _judge(run, kept={}, lost={"behind the rotation": behind}, refused=honestly_rotated)


def twin_lie_is_noticed(run: Run) -> Finding:
    """False: the engine notices that a privileged basis is claimed wrongly."""
    return _judge(run, kept={}, lost={}, refused=rotated)


def refuses(readout: Readout) -> bool:
    """Whether a search by peak sensitivity refuses ``readout``."""
    try:
        start_search(readout, PEAK)
    except InputError:
        return True
    return False


def _judge(run: Run, *, kept: dict[str, View], lost: dict[str, View], refused: View) -> Finding:
    """Mean over seeds: ``kept`` wholly at or above :data:`KEPT`, ``lost`` wholly at or below :data:`LOST`."""
    at = {name: judging.recovered(run, _found(run, view)) for name, view in {**kept, **lost}.items()}
    right = [at[name].low >= KEPT for name in kept] + [at[name].high <= LOST for name in lost]
    fails = [name for name in kept if at[name].high < KEPT] + [name for name in lost if at[name].low > LOST]
    refusals = {f"seed {model.seed}": refuses(refused(model)) for model in subjects(run)}
    if not all(refusals.values()):
        fails.append("refusal")
    status = Status.REFUTED if fails else Status.SUPPORTED if all(right) else Status.INCONCLUSIVE
    said = {
        "recovered_share": {name: one.to_json() for name, one in at.items()},
        "at_least": dict.fromkeys(kept, KEPT),
        "at_most": dict.fromkeys(lost, LOST),
        "refused": refusals,
        "seeds": [model.seed for model in subjects(run)],
        "represented": [int(model.represented.sum()) for model in subjects(run)],
        "model": SIZE[run.profile].to_json(),
    }
    return Finding(status=status, evidence=said, witness={"fails": fails, **said} if fails else None)


def _found(run: Run, view: View, options: SearchOptions = PEAK) -> list[Matching]:
    return [recovered(run, view(model), budget(run, model, options)) for model in subjects(run)]


def _difference_of_plain(model: SuperpositionModel) -> float:
    """The largest difference that the rotation makes to an angular distance, over features and contexts."""
    tables = []
    for view in (plainly, rotated):
        readout, generator = view(model), torch.Generator().manual_seed(search_seed(LABEL, "plain", model.seed))
        batch = readout.sample(64, generator)
        tables.append(estimate_on(readout, batch, model.feature_directions, generator=generator).effects)
    return float((tables[0] - tables[1]).abs().max())


def _exhibits(
    run: Run, peak: dict[str, list[Matching]], plain: dict[str, list[Matching]], mixtures: dict[float, list[Matching]]
) -> tuple[Exhibit, ...]:
    strengths = list(mixtures)
    at = [judging.recovered(run, group) for group in mixtures.values()]
    rows = [("peak", name, group) for name, group in peak.items()]
    rows += [("peak", f"mixed, strength {strength:g}", group) for strength, group in mixtures.items()]
    rows += [("plain", name, group) for name, group in plain.items()]
    return (
        Curve(
            title="What the search finds as units lose their meaning",
            caption="Share of the features at cosine 0.9, band over seeds. To each unit is added the strength times a "
            f"random mixture of all units: at 1 half of what it says is the others'. Above {KEPT} mixing is borne, "
            f"below {LOST} next to nothing is left; see at which strengths the band passes from one to the other, if "
            "it does.",
            x_label="strength of the mixture",
            y_label="recovered share",
            x=strengths,
            log_x=True,
            series={"peak": [one.value for one in at]},
            bands={"peak": [(one.low, one.high) for one in at]},
        ),
        Table(
            title="Units rotated, and read behind the rotation",
            caption=f"Recovered at cosine 0.9, with intervals. Peak on rotated units should stand wholly below {LOST}, "
            f"on the model's own units and behind the rotation wholly above {KEPT}. An angle does not change under a "
            "rotation, so that the two rows of plain should agree but for where rounding leads two searches.",
            columns=["score", "read-out", "recovered share", "share of directions at a feature"],
            rows=[
                [score, name, judging.recovered(run, group).text(),
                 judging.precise(run, group).text()]
                for score, name, group in rows
            ],
        ),
    )  # fmt: skip
