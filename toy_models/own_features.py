"""TM-9.planted: features that somebody plants in a toy model folder, and a search that sees only effects.

Whoever doubts that the toys of this project are fair makes one: a folder of two files
(:mod:`toy_models.folder`), given as ``--model``. It is searched with three seeds, and the features in it are used for
nothing but counting. Without such a folder the suite plants some itself, random unit features read by themselves,
sparse ones behind a threshold and dense ones without; they are written below the run's folder and loaded back, so that
what is tested is the way that a user's model goes.

A search begins at random directions, and features may come from the same generator with the same seed: then it would
begin at the features. So seeds of searches are hashes, which nobody uses by accident, and beside what every search
recovers stands what the very directions do that it begins with.

A search goes in :data:`ROUNDS` rounds. The gain of the unit that reads a feature enters peak sensitivity to the fourth
power: directions flow to the features that are read most strongly, and one round misses many of those read more
weakly. So each round reads every unit in units of the largest effect that any direction found so far
has on it. Where a feature has been found that is its unit's gain; where not, the effect is small, and the unit counts
for more in the next round. Effects alone are used for it. What counts is what all rounds have found together; beside it
stand as many random directions.

Every round has one direction for each feature, as long as ``K · n`` stays within :data:`LARGEST_TABLE`; of a larger
model only as many features are sought as a round has directions. A model in which they are not found is an honest
refutation; beside it stands what explains it (:func:`toy_models.folder.explain`): how alike the features are, how long,
whether units read what features write, how many there are against ``d(d+2)/3`` (SE-5), and how high the threshold is
against what units see.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.discovery import SearchOptions, start_search
from sensverify.exhibits import Exhibit, Histogram, Table
from sensverify.readout import Readout
from sensverify.sensitivity import compared, directions_at_once
from sensverify.statistics import Interval, share_interval
from sensverify.verdicts import Finding, Status
from toy_models import judging
from toy_models.folder import explain, load_toy, plant, save_toy, toy_given
from toy_models.readouts import Wrapped
from toy_models.recovery import RECOVERED_COSINE, Matching, match
from toy_models.searching import CONTEXTS, PEAK, PLAIN, SELECTIVE, STEPS, fingerprint, search_seed, searched
from toy_models.superposition import SuperpositionModel, SuperpositionReadout

REQUIRED = 0.8
"""At least this share of the features sought has to be recovered, each by a direction of its own at cosine 0.9."""

BY_CHANCE = 0.4
"""Where random directions recover more than this, as in a plane they do, finding features means nothing."""

ROUNDS = 4

LARGEST_TABLE = 2**15
"""At most this many pairs of direction and feature in a round: a direction each for up to 181 features, 64 directions
for 512."""

SAMPLE, LEAST_EFFECT = 256, 1e-3
"""Effects of what a round found are taken over so many contexts; none counts as smaller than this share of the
largest, so that units that nothing moves do not become infinitely loud."""

FEATURES, WIDTH = 64, 32
CELLS = {"quick": ((0.05, 0.1), (0.4, 0.0)), "full": ((0.05, 0.0), (0.05, 0.1), (0.4, 0.1), (0.4, 0.0))}
"""Density and threshold of what the suite plants itself; the last one, dense, is where all searches are compared."""

BUDGET = {"quick": (75, 6), "full": (STEPS // 2, CONTEXTS)}
"""Steps and contexts of a round on what the suite plants itself."""

USER_BUDGET = {"quick": (150, CONTEXTS // 2), "full": (STEPS // 2, CONTEXTS)}
"""And on a user's model, which may be harder."""

LABEL = "TM-9.planted search"
OWN_SEEDS = {"quick": 3, "full": 5}
SEARCH_SEEDS = 3
SEARCHES = {"plain": PLAIN, "selective": SELECTIVE, "peak": PEAK}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One model, and a search on it: its ``seed``, and the ``steps`` and ``contexts`` of a round."""

    model: SuperpositionModel
    seed: int
    steps: int
    contexts: int

    @property
    def features(self) -> Tensor:
        """``[n, d]``, unit rows: used for counting alone."""
        return self.model.feature_directions

    @property
    def sought(self) -> int:
        """How many directions a round has, and features are to be found: all, within :data:`LARGEST_TABLE`."""
        return max(1, min(len(self.features), LARGEST_TABLE // len(self.features)))

    @property
    def directions(self) -> int:
        """``K``, of all rounds together."""
        return ROUNDS * self.sought

    def options(self, base: SearchOptions, number: int) -> SearchOptions:
        """``base`` with this trial's budget, and the seed of round ``number``."""
        return dataclasses.replace(
            base, directions=self.sought, steps=self.steps, contexts=self.contexts, seed=self.seed + number
        )

    def start(self) -> Tensor:
        """The random directions that all rounds begin with, ``[K, d]``."""
        readout = SuperpositionReadout(self.model)
        return torch.cat([start_search(readout, self.options(PEAK, i)).directions for i in range(ROUNDS)])

    def hits(self, matching: Matching) -> Tensor:
        """``[sought]`` yes or no: of the features sought so many are recovered; more than those count for nothing.

        Which they are is left open where fewer than all are sought: any of them will do.
        """
        return torch.arange(self.sought) < matching.recovered

    def share(self, matching: Matching) -> float:
        """Of features sought, the recovered."""
        return float(self.hits(matching).double().mean())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Trials that are judged together: several models of one kind, or several searches on one model."""

    label: str
    trials: tuple[Trial, ...]

    def interval(self, hits: Sequence[Tensor]) -> Interval:
        """Of the mean share over trials: trials and the items of each are resampled, of one trial its items alone."""
        return share_interval(hits, torch.Generator().manual_seed(self.trials[0].seed + 2))

    def text(self, hits: Sequence[Tensor]) -> str:
        """For a cell of a table."""
        return self.interval(hits).text() + ("" if len(hits) > 1 else " (one seed)")


class InUnits(Wrapped):
    """``y / gains``: each unit of a read-out in a unit of its own, ``gains [units]``."""

    def __init__(self, inner: Readout, gains: Tensor) -> None:
        super().__init__(inner)
        self.gains = gains

    def change(self, y: Tensor) -> Tensor:
        """Divided by them."""
        return y / self.gains

    def changed(self) -> Mapping[str, Any]:
        """The gains."""
        return {"gains": self.gains.tolist()}


@torch.no_grad()
def largest_effects(readout: Readout, directions: Tensor, options: SearchOptions) -> Tensor:
    """``[units]``: ``(E Δ⁴)^¼`` on each unit of that direction which has the largest, and at least ``LEAST_EFFECT`` of
    the largest of all.

    ``Δ`` is the effect as the search takes it, over contexts and presences. Where nothing has any effect: ones.
    """
    generator = torch.Generator(device=readout.device).manual_seed(options.seed)
    batch = readout.sample(SAMPLE, generator)
    clean = readout.clean(batch)
    alpha = options.probe.law.stratified(1, SAMPLE, generator)[0].to(batch.x)
    largest = torch.zeros_like(clean[0])
    for chunk in torch.split(directions, directions_at_once(clean, readout.width)):
        reference, moved = compared(readout, batch, clean, chunk, alpha, options.probe.reference)
        effect = torch.linalg.vector_norm(moved - reference, ord=4, dim=1) / SAMPLE**0.25
        largest = torch.maximum(largest, effect.amax(0))
    least = LEAST_EFFECT * float(largest.max())
    return largest.clamp_min(least) if least > 0 else torch.ones_like(largest)


def in_rounds(run: Run, trial: Trial, base: SearchOptions) -> Tensor:
    """What :data:`ROUNDS` searches find together, ``[K, d]``, each on units in units of what those before it found."""
    readout = SuperpositionReadout(trial.model)

    def make() -> Tensor:
        found = [searched(run, readout, trial.options(base, 0))]
        for number in range(1, ROUNDS):
            options = trial.options(base, number)
            gains = largest_effects(readout, torch.cat(found), options)
            found.append(searched(run, InUnits(readout, gains), options))
        return torch.cat(found)

    key = (fingerprint(readout), trial.options(base, 0).to_json())
    return run.shared(f"toy_models.own_features.in_rounds {key}", make)


Find = Callable[[Group], list[Tensor]]


def preflight(run: Run) -> None:
    """Refuse a toy model folder that is none before anything runs.

    Raises :class:`~sensverify.errors.InputError` as :func:`~toy_models.folder.load_toy` does, for a model that has
    given up all its features, and for a folder that the run itself will write.
    """
    toy_given(run)


def check_planted(run: Run) -> Finding:
    """TM-9.planted: the interval of every group has to be wholly on the right side."""
    model, groups = toy_given(run), subjects(run)
    finding = _judge(groups, _found_by(run, "peak"))
    chance = {group.label: _hits(group, _start(group)) for group in groups}
    evidence = {
        **finding.evidence,
        "recovered_by_random_directions": {g.label: g.interval(chance[g.label]).to_json() for g in groups},
        "searches": {f"{name}, {group.label}": _rows(group, find) for name, group, find in _compared(run, groups)},
        "models": {group.label: explain(group.trials[0].model) for group in groups},
    }  # fmt: skip
    witness = finding.witness and {**finding.witness, "models": evidence["models"]}
    status = finding.status
    largest = max(float(hits.double().mean()) for trials in chance.values() for hits in trials)
    if model is not None and largest > BY_CHANCE:
        status, witness = Status.INCONCLUSIVE, None
        evidence["reason"] = "random directions meet the features too: in so few dimensions nothing is told by it"
    exhibits = _exhibits(run, groups)
    return Finding(status=status, evidence=evidence, witness=witness, exhibits=exhibits)


def twin_random(run: Run) -> Finding:
    """False: random directions in the place of found ones."""
    return _judge(planted(run)[-1:], _start)


def twin_plain(run: Run) -> Finding:
    """False: the same budget spent on plain sensitivity."""
    return _judge(planted(run)[-1:], _found_by(run, "plain"))


def twin_another(run: Run) -> Finding:
    """False: each model's findings held against the features of the next one."""
    find = _found_by(run, "peak")

    def moved(group: Group) -> list[Tensor]:
        first, *others = find(group)
        return [*others, first]

    return _judge(planted(run)[-1:], moved)


def subjects(run: Run) -> tuple[Group, ...]:
    """The user's model with three seeds of search, or else what the suite plants itself."""
    model = toy_given(run)
    if model is None:
        return planted(run)
    steps, contexts = USER_BUDGET[run.profile]
    trials = tuple(
        Trial(model=model, seed=search_seed(LABEL, run.seed, i), steps=steps, contexts=contexts)
        for i in range(SEARCH_SEEDS)
    )
    return (Group(label="the folder given", trials=trials),)


def planted(run: Run) -> tuple[Group, ...]:
    """Models that the suite plants, each written to ``planted/SEED`` in the run's folder and loaded from there."""

    def make() -> tuple[Group, ...]:
        steps, contexts = BUDGET[run.profile]
        groups = []
        for cell, (density, threshold) in enumerate(CELLS[run.profile]):
            trials = []
            for i in range(OWN_SEEDS[run.profile]):
                seed = 1000 * run.seed + 500 + 10 * cell + i
                folder = run.directory / "planted" / str(seed)
                save_toy(folder, plant(FEATURES, WIDTH, seed, density, threshold=threshold))
                trials.append(
                    Trial(
                        model=load_toy(folder),
                        seed=search_seed(LABEL, seed),
                        steps=steps,
                        contexts=contexts,
                    )
                )
            groups.append(Group(label=f"p = {density:g}, threshold {threshold:g}", trials=tuple(trials)))
        return tuple(groups)

    return run.shared("toy_models.own_features.planted", make)


def _found_by(run: Run, name: str) -> Find:
    return lambda group: [in_rounds(run, trial, SEARCHES[name]) for trial in group.trials]


def _first_round(run: Run) -> Find:
    """What the search that is judged had found before units were divided by anything."""
    find = _found_by(run, "peak")
    return lambda group: [found[: len(found) // ROUNDS] for found in find(group)]


def _start(group: Group) -> list[Tensor]:
    return [trial.start() for trial in group.trials]


def _compared(run: Run, groups: Sequence[Group]) -> list[tuple[str, Group, Find]]:
    """All searches on the last group, on the others peak alone; all on all in the full profile.

    In the quick profile a user's model is searched once by those that are not judged.
    """
    rows: list[tuple[str, Group, Find]] = []
    full, user = run.profile == "full", toy_given(run) is not None
    for group in groups:
        for name in SEARCHES:
            judged = name == "peak"
            if judged or full or group is groups[-1]:
                once = dataclasses.replace(group, trials=group.trials[:1])
                rows.append((name, group if judged or full or not user else once, _found_by(run, name)))
        rows.append(("peak, first round alone", group, _first_round(run)))
        rows.append(("random directions", group, _start))
    return rows


def _matched(group: Group, found: Sequence[Tensor]) -> list[tuple[Trial, Matching]]:
    return [(trial, match(directions, trial.features)) for trial, directions in zip(group.trials, found, strict=True)]


def _hits(group: Group, found: Sequence[Tensor]) -> list[Tensor]:
    return [trial.hits(matching) for trial, matching in _matched(group, found)]


def _rows(group: Group, find: Find) -> list[dict[str, Any]]:
    return [
        {"seed": trial.seed, "sought": trial.sought, "share": trial.share(matching), **matching.to_json()}
        for trial, matching in _matched(group, find(group))
    ]


def _judge(groups: Sequence[Group], find: Find) -> Finding:
    """Decided by every group's interval, :func:`toy_models.judging.at_least` :data:`REQUIRED`."""
    judged, intervals = [], []
    for group in groups:
        found = find(group)
        pairs = _matched(group, found)
        interval = group.interval(_hits(group, found))
        intervals.append(interval)
        judged.append(
            {
                "models": group.label,
                "recovered_share": interval.to_json(),
                "seeds": [trial.seed for trial, _ in pairs],
                "model_seeds": [trial.model.seed for trial, _ in pairs],
                "recovered": [matching.recovered for _, matching in pairs],
                "sought": group.trials[0].sought,
                "directions": group.trials[0].directions,
                "right": interval.low >= REQUIRED,
                "wrong": interval.high < REQUIRED,
            }
        )
    said = {"required": REQUIRED, "cosine": RECOVERED_COSINE}
    return Finding(
        status=judging.at_least(intervals, REQUIRED),
        evidence={"judged": judged, **said},
        witness=next(({**row, **said} for row in judged if row["wrong"]), None),
    )


def _exhibits(run: Run, groups: Sequence[Group]) -> tuple[Exhibit, ...]:
    rows, cosines = [], {}
    for name, group, find in _compared(run, groups):
        pairs = _matched(group, find(group))
        rows.append(
            [
                name,
                group.label,
                group.text([trial.hits(matching) for trial, matching in pairs]),
                group.text([matching.precise for _, matching in pairs]),
                ", ".join(str(matching.duplicates) for _, matching in pairs),
            ]
        )
        if group.label == groups[-1].label:
            cosines[name] = torch.cat([matching.best_of_features for _, matching in pairs]).tolist()
    one = groups[-1].trials[0]
    return (
        Table(
            title="Searches for features that somebody planted",
            caption=f"{one.directions} directions, found in {ROUNDS} rounds, look for {one.sought} of "
            f"{len(one.features)} features in {one.model.config.width} dimensions. Share of those sought that a "
            f"direction of its own meets at cosine {RECOVERED_COSINE}, share of the directions that meet some feature "
            f"(intervals: {len(groups[-1].trials)} seeds and the items of each resampled, of one seed its items), and "
            "repeated directions for each seed. The rows to read are those of peak, which the claim wants at "
            f"{REQUIRED:g} or above; beside them stands what other searches recover, the first round before units were "
            "brought to one scale, and the random directions that every search begins with.",
            columns=["search", "models", "features recovered", "directions on a feature", "duplicates"],
            rows=rows,
        ),
        Histogram(
            title="How near the planted features come the directions found",
            caption=f"One count per feature ({groups[-1].label}): its cosine to the nearest direction. Features that "
            "were found lie right of 0.9; random directions show what chance reaches.",
            x_label="cosine",
            groups=cosines,
        ),
    )
