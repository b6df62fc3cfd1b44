"""TM-8: planted features of a transformer, which act on later positions through attention alone.

Three questions:

- :func:`check_sensitivity`: are planted features more sensitive than random directions, of the whole residual stream
  and, the hard comparison, of the very subspace ``A`` that attention carries?
- Does a search find them? All searches are the rows of one table, :func:`searches`; what they find is judged in
  :mod:`toy_models.planted_recovery`.
- :func:`check_carried`: are directions that attention does not carry left alone? Their effect is not zero. To give one
  of them presence ``α`` multiplies what is in ``A`` by ``√((1−α²)/(1−ρ²))`` (RN-3), and it is felt at ``p + 1`` that
  less arrives. LayerNorm alone would do the same: to add outside ``A`` is to shrink ``A``. But beyond ``α`` and ``ρ``
  it makes no difference which of them it is, and no other effect is smaller.

The planted directions are used for judging only; a search sees effects and nothing else.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.discovery import SearchOptions, search
from sensverify.exhibits import Exhibit, Histogram, IntervalRow, Intervals
from sensverify.geometry import Centring, presence, random_directions, unit_directions
from sensverify.interventions import set_presence
from sensverify.scoring import angular_distance
from sensverify.sensitivity import Probe, SensitivityEstimate, estimate_on
from sensverify.statistics import Interval, group_mean, group_ratio, mean_interval, seed_mean
from sensverify.verdicts import Finding, Status
from toy_models.judging import at_least
from toy_models.planting import LAYER, TARGET, Planted, PlantingConfig, plant
from toy_models.store import store_of
from toy_models.transformer import Transformer, TransformerReadout

CONFIG = PlantingConfig()
WINDOWS, LENGTH = 1024, 6
EVALUATION_CONTEXTS = 128
REQUIRED_CARRIED = 0.9
"""What share of a found direction's squared length has to lie in ``A``; a random direction has ``m/(d − 1)``."""
ABOVE_ONE = math.nextafter(1.0, 2.0)
"""More sensitive: a ratio of 1 is not enough."""
NO_EFFECT = 1e-5
"""SeS below this is rounding: a cosine in float32 is good to ``1e-7`` or so, and attention leaks some ``1e-5``."""
SHRINKAGE_TOLERANCE = 1e-5
SIZE_BLIND, PEAK = "concentration, absent", "peak, absent"
RISES, FROM_ACTIVATIONS = "peak of rises, absent", "peak, absent, from activations"
CONTROLS = (RISES, FROM_ACTIVATIONS)
"""Two searches with the budget of the others that change one thing about :data:`PEAK` each, the score or the start.
(The first is a plain score to the engine, which keeps it clear of negatives too.)"""


@dataclasses.dataclass(frozen=True)
class Search:
    """One row of the table: what is read, residual stream or ReLU units, and how it is searched."""

    units: bool
    options: SearchOptions


def rises(clean: Tensor, perturbed: Tensor) -> Tensor:
    """``Σ max(0, Δ_i)⁴``: a peak of what is added, blind to units that fall because the rest shrinks (RN-3)."""
    return (perturbed - clean).clamp_min(0).pow(4).sum(-1)


def searches(run: Run) -> dict[str, Search]:
    """Every search by name; add rows here. Budgets are the same for all; the full profile has more models instead."""
    options = SearchOptions(directions=24, steps=100, contexts=32)
    absent = Probe(reference="absent")
    replace = dataclasses.replace
    return {
        "plain": Search(units=False, options=options),
        "plain, absent": Search(units=False, options=replace(options, probe=absent)),
        SIZE_BLIND: Search(units=True, options=replace(options, score="selective", probe=absent)),
        PEAK: Search(units=True, options=replace(options, score="peak", probe=absent)),
        RISES: Search(units=True, options=replace(options, repulsion=0.1, probe=replace(absent, distance=rises))),
        FROM_ACTIVATIONS: Search(units=True, options=replace(options, score="peak", probe=absent, start="activations")),
    }


@dataclasses.dataclass(frozen=True)
class Subject:
    """A planted model; ``seed`` fixes planting, search and evaluation, each on draws of its own."""

    planted: Planted

    @property
    def seed(self) -> int:
        """The planting seed."""
        return self.planted.seed

    def generator(self, purpose: int) -> torch.Generator:
        """Draws for one purpose: 0 and 7 for the search, 1 for evaluation, 2 for resampling, others for groups."""
        return torch.Generator().manual_seed(10 * self.seed + 1_000_003 * (purpose + 1))

    def readout(
        self, purpose: int, *, units: bool = False, offset: int = 1, transformer: Transformer | None = None,
        layer: int = LAYER, target: int = TARGET,
    ) -> TransformerReadout:  # fmt: skip
        """The planted site, unless told otherwise, on windows drawn for ``purpose``."""
        windows = self.planted.windows(WINDOWS, LENGTH, self.generator(purpose))
        return TransformerReadout(
            transformer or self.planted.transformer, windows, layer=layer, target=target, offset=offset, units=units
        )


def subjects(run: Run, config: PlantingConfig | None = None) -> list[Subject]:
    """Three models in the quick profile, eight in the full one."""
    chosen, count = config or CONFIG, 3 if run.profile == "quick" else 8
    return run.shared(
        f"toy_models.planted.subjects.{chosen}",
        lambda: [Subject(plant(chosen, 1000 * run.seed + i)) for i in range(count)],
    )


def find(run: Run, subject: Subject, name: str, *, again: int = 0) -> Tensor:
    """What the search called ``name`` finds, ``[K, d]``; kept on disk. ``again`` numbers searches from other seeds."""
    row = searches(run)[name]
    options = dataclasses.replace(row.options, seed=subject.generator(7 + 100 * again).initial_seed())
    key = {"model": subject.planted.describe(), "units": row.units, "search": options.to_json()}

    def make() -> dict[str, Tensor]:
        readout = subject.readout(0, units=row.units)
        return {"directions": search(readout, options, progress=run.progress).directions}

    return store_of(run).keep("planted-search", key, make)["directions"]


def found_directions(run: Run, name: str) -> list[Tensor]:
    """What the search called ``name`` finds on each model."""
    return run.shared(
        f"toy_models.planted.found.{name}", lambda: [find(run, subject, name) for subject in subjects(run)]
    )


def in_carried(subject: Subject, directions: Tensor) -> Tensor:
    """``[K]``: the squared length of each direction's part in ``A``."""
    return (directions @ subject.planted.carried.T).square().sum(1)


def carried_share(subject: Subject, directions: Tensor) -> Interval:
    """Its mean over directions."""
    return mean_interval(in_carried(subject, directions), subject.generator(2))


# -- are they more sensitive? -----------------------------------------------------------------------------------------


def directions_of(subject: Subject, group: str, count: int, generator: torch.Generator) -> Tensor:
    """``[count, d]`` unit directions: planted, negated, random, random within or orthogonal to ``A``."""
    planted = subject.planted
    if group in ("planted", "negated"):
        return planted.features if group == "planted" else -planted.features
    if group == "random":
        return random_directions(count, planted.config.width, Centring.MEAN, generator)
    if group == "random in A":
        coordinates = torch.randn(count, len(planted.carried), generator=generator)
        return unit_directions(coordinates @ planted.carried, Centring.MEAN)
    drawn = random_directions(count, planted.config.width, Centring.MEAN, generator)
    return unit_directions(drawn - drawn @ planted.carried.T @ planted.carried, Centring.MEAN)


GROUPS = ("planted", "negated", "random in A", "random", "not carried")


@dataclasses.dataclass(frozen=True)
class Scores:
    """SeS of groups of directions on one model, all on the same contexts with the same presences."""

    subject: Subject
    groups: dict[str, SensitivityEstimate]

    def ratio(self, top: str, bottom: str) -> Interval:
        """Ratio of group means; directions and contexts are resampled."""
        return group_ratio(self.groups[top].effects, self.groups[bottom].effects, self.subject.generator(2))

    def mean(self, group: str) -> Interval:
        """Group mean."""
        return group_mean(self.groups[group].effects, self.subject.generator(2))


def score(readout: TransformerReadout, subject: Subject, groups: dict[str, Tensor]) -> Scores:
    """SeS of each group ``[S, d]``; the contexts are the same for all groups, and at every call."""
    batch = readout.sample(EVALUATION_CONTEXTS, subject.generator(1))
    estimates = {
        name: estimate_on(readout, batch, directions, generator=subject.generator(3), draws=2)
        for name, directions in groups.items()
    }
    return Scores(subject, estimates)


def _scores(run: Run) -> list[Scores]:
    def make() -> list[Scores]:
        return [score(subject.readout(1), subject, _groups(subject)) for subject in subjects(run)]

    return run.shared("toy_models.planted.scores", make)


def _groups(subject: Subject) -> dict[str, Tensor]:
    generator = subject.generator(4)
    return {name: directions_of(subject, name, CONFIG.features, generator) for name in GROUPS}


def check_sensitivity(run: Run) -> Finding:
    """TM-8."""
    return _judge_sensitivity(_scores(run), "planted", _sensitivity_exhibits)


def check_sensitivity_of_the_uncarried(run: Run) -> Finding:
    """False twin: directions that attention does not carry in the place of planted features."""
    return _judge_sensitivity(_scores(run), "not carried")


def check_sensitivity_without_attention(run: Run) -> Finding:
    """False twin: the value path is cut."""
    return _judge_sensitivity(
        [score(s.readout(1, transformer=s.planted.without_values().transformer), s, _groups(s)) for s in subjects(run)],
        "planted",
    )


def check_sensitivity_two_tokens_later(run: Run) -> Finding:
    """False twin: attention carries one token far, not two."""
    return _judge_sensitivity([score(s.readout(1, offset=2), s, _groups(s)) for s in subjects(run)], "planted")


def _judge_sensitivity(
    scores: Sequence[Scores], group: str, exhibits: Callable[[Sequence[Scores]], tuple[Exhibit, ...]] | None = None
) -> Finding:
    """SUPPORTED if on every seed both ratios are wholly above 1, REFUTED by one that is nowhere above, or by no
    effect."""
    evidence, ratios, failing = {}, [], None
    for score in scores:
        effect = score.mean(group)
        row: dict[str, object] = {"mean_SeS": {name: score.mean(name).to_json() for name in score.groups}}
        none = effect.high < NO_EFFECT
        for other in ("random", "random in A"):
            # Where nothing arrives a ratio is rounding over rounding.
            ratio = Interval(0.0, 0.0, 0.0) if none else score.ratio(group, other)
            row[f"ratio_to_{other}".replace(" ", "_")] = ratio.to_json()
            ratios.append(ratio)
            if ratio.high < ABOVE_ONE and failing is None:
                failing = {"seed": score.subject.seed, "group": group, "against": other, "no_effect": none,
                           "mean_SeS": effect.to_json(), "ratio": ratio.to_json()}  # fmt: skip
        evidence[f"seed {score.subject.seed}"] = row
    return Finding(
        status=at_least(ratios, ABOVE_ONE),
        evidence={"model": scores[0].subject.planted.describe(), "contexts": EVALUATION_CONTEXTS, "seeds": evidence},
        witness=failing,
        exhibits=exhibits(scores) if exhibits else (),
    )


def _sensitivity_exhibits(scores: Sequence[Scores]) -> tuple[Exhibit, ...]:
    rows = []
    for score in scores:
        for other in ("random", "random in A"):
            ratio = score.ratio("planted", other)
            rows.append(IntervalRow(name=f"{other}, seed {score.subject.seed}", **ratio.to_json()))
    return (
        Histogram(
            title="Sensitivity one token later, through attention",
            caption=f"One count per direction, seed {scores[0].subject.seed}. Compare planted features with random "
            "directions of the subspace that attention carries ('random in A'), the hard comparison: the claim needs "
            "the mean of the first to lie further right. Where directions that it does not carry ('not carried') lie "
            "is what shrinkage alone does; the narrower they lie, the less it matters which of them is added.",
            x_label="SeS",
            groups={name: scores[0].groups[name].mean.tolist() for name in GROUPS},
        ),
        Intervals(
            title="Planted features against random directions",
            caption="Ratio of mean SeS on every model, 95 % intervals over directions and contexts. Every interval has "
            "to lie right of 1. By as much as the rows 'random in A' lie left of the rows 'random', planted features "
            "owe their advantage to being carried.",
            x_label="ratio of mean SeS",
            rows=rows,
            reference=1.0,
        ),
    )


# -- is what attention does not carry left alone? ---------------------------------------------------------------------


def check_carried(run: Run) -> Finding:
    """TM-8.carried."""
    names = [name for name in searches(run) if name not in (SIZE_BLIND, *CONTROLS)]
    return _judge_carried(run, "not carried", {name: found_directions(run, name) for name in names})


def check_planted_act_by_shrinkage(run: Run) -> Finding:
    """False twin: shrinkage explains the effect of planted features too."""
    return _judge_carried(run, "planted", {})


def check_random_directions_are_carried(run: Run) -> Finding:
    """False twin: any direction lies in ``A`` as much as the found ones."""
    groups = [directions_of(s, "random", CONFIG.features, s.generator(5)) for s in subjects(run)]
    return _judge_carried(run, "not carried", {"random": groups})


def _judge_carried(run: Run, group: str, found: dict[str, list[Tensor]]) -> Finding:
    """REFUTED by an effect that shrinkage does not explain, or by directions that lie wholly too far outside ``A``.

    Shares are judged by Student's interval of one mean per model, and for SUPPORTED on every model besides.
    """
    models = subjects(run)
    errors = {f"seed {s.seed}": _beyond_shrinkage(s, directions_of(s, group, 16, s.generator(4))) for s in models}
    by_model = {
        name: {f"seed {s.seed}": float(in_carried(s, d).mean()) for s, d in zip(models, groups, strict=True)}
        for name, groups in found.items()
    }
    shares = {name: seed_mean(list(each.values())) for name, each in by_model.items()}
    evidence = {
        "largest_effect_beyond_shrinkage": errors,
        "tolerance": SHRINKAGE_TOLERANCE,
        "share_in_A": {name: share.to_json() for name, share in shares.items()},
        "share_in_A_by_model": by_model,
        "required_share_in_A": REQUIRED_CARRIED,
        "share_in_A_by_chance": CONFIG.dimension / (CONFIG.width - 1),
    }
    # Without shares, as of a twin, the errors decide alone.
    status = at_least(shares.values(), REQUIRED_CARRIED) if shares else Status.SUPPORTED
    if max(errors.values()) > SHRINKAGE_TOLERANCE:
        status = Status.REFUTED
    elif status is Status.SUPPORTED and any(v < REQUIRED_CARRIED for each in by_model.values() for v in each.values()):
        status = Status.INCONCLUSIVE
    return Finding(
        status=status,
        evidence={"model": models[0].planted.describe(), "seeds": [s.seed for s in models], **evidence},
        witness={"group": group, **evidence} if status is Status.REFUTED else None,
    )


@torch.no_grad()
def _beyond_shrinkage(subject: Subject, directions: Tensor) -> float:
    """Largest difference of effects ``D`` from those of shrinkage alone.

    Shrinkage alone: the part of ``x`` in ``A`` times ``√((1−α²)/(1−ρ²))``, and the norm made up with one filler that is
    orthogonal to ``A``, the same for all directions.
    """
    readout, generator = subject.readout(1), subject.generator(6)
    batch = readout.sample(EVALUATION_CONTEXTS, generator)
    alpha = Probe().law.stratified(1, len(batch), generator)[0].to(batch.x)
    rho = presence(batch.x, directions, readout.centring)
    moved = set_presence(batch.x, directions, alpha, readout.centring)
    centred = readout.centring.project(batch.x)
    kept = ((1 - alpha**2) / (1 - rho**2)).sqrt()[..., None] * (centred @ subject.planted.carried.T)
    missing = (centred.square().sum(-1) - kept.square().sum(-1)).clamp_min(0).sqrt()[..., None]
    shrunk = kept @ subject.planted.carried + missing * subject.planted.written[0]
    clean = readout.clean(batch)
    difference = angular_distance(clean, readout.read(batch, moved)) - angular_distance(
        clean, readout.read(batch, shrunk)
    )
    return float(difference.abs().max())
