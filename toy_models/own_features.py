"""TM-9.planted: features that somebody plants in a toy model folder, and a search that sees only effects.

Whoever doubts that the toys of this project are fair makes one: a folder of two files
(:mod:`toy_models.folder`), given as ``--model``. It is searched with three seeds, and the features in it are used for
nothing but counting. Without such a folder the suite plants some itself, random unit features read by themselves,
sparse ones behind a threshold and dense ones without; they are written below the run's folder and loaded back, so that
what is tested is the way that a user's model goes.

A search begins at random directions, and features may come from the same generator with the same seed: then it would
begin at the features. So seeds of searches are hashes, which nobody uses by accident, and beside what every search
recovers stands what the very directions do that it begins with.

Every search has two directions for each feature, as long as ``K · n`` stays within :data:`LARGEST_TABLE`; of a larger
model only as many features are sought as there are pairs of directions. A model in which they are not found is an
honest refutation; beside it stands what explains it: how alike the features are, how long, whether units read what
features write, how many there are against ``d(d+2)/3`` (SE-5), and how high the threshold is against what units see.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.discovery import SearchOptions, start_search
from sensverify.errors import InputError
from sensverify.exhibits import Exhibit, Histogram, Table
from sensverify.geometry import gram
from sensverify.statistics import Interval, share_interval
from sensverify.verdicts import Finding, Status
from toy_models import judging
from toy_models.folder import is_toy_folder, load_toy, plant, save_toy
from toy_models.recovery import RECOVERED_COSINE, Matching, match
from toy_models.searching import CONTEXTS, PEAK, PLAIN, SELECTIVE, STEPS, searched
from toy_models.superposition import SuperpositionModel, SuperpositionReadout
from toy_models.training import normed

REQUIRED = 0.8
"""At least this share of the features sought has to be recovered, each by a direction of its own at cosine 0.9."""

BY_CHANCE = 0.4
"""Where random directions recover more than this, as in a plane they do, finding features means nothing."""

LARGEST_TABLE = 2**15
"""At most this many pairs of direction and feature in a search: two directions each for up to 128 features, 64
directions for 512."""

FEATURES, WIDTH = 64, 32
CELLS = {"quick": ((0.05, 0.1), (0.4, 0.0)), "full": ((0.05, 0.0), (0.05, 0.1), (0.4, 0.1), (0.4, 0.0))}
"""Density and threshold of what the suite plants itself; the last one, dense, is where all searches are compared."""

BUDGET = {"quick": (150, 6), "full": (STEPS, CONTEXTS)}
"""Steps and contexts of a search on what the suite plants itself."""

USER_BUDGET = {"quick": (STEPS, CONTEXTS // 2), "full": (STEPS, CONTEXTS)}
"""And on a user's model, which may be harder: all steps."""

OWN_SEEDS = {"quick": 3, "full": 5}
SEARCH_SEEDS = 3
SAMPLE = 512

SEARCHES = {"plain": PLAIN, "selective": SELECTIVE, "peak": PEAK}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One model, and a search on it: its ``seed``, ``steps`` and ``contexts``."""

    model: SuperpositionModel
    seed: int
    steps: int
    contexts: int

    @property
    def features(self) -> Tensor:
        """``[n, d]``, unit rows: used for counting alone."""
        return self.model.feature_directions

    @property
    def directions(self) -> int:
        """``K``: two for each feature, within :data:`LARGEST_TABLE`, and never fewer than two."""
        return max(2, min(2 * len(self.features), LARGEST_TABLE // len(self.features)))

    @property
    def sought(self) -> int:
        """How many features there are to be found: all, or half as many as directions if those are fewer than 2n."""
        return self.directions // 2

    def options(self, base: SearchOptions) -> SearchOptions:
        """``base`` with this trial's budget and seed."""
        return dataclasses.replace(
            base, directions=self.directions, steps=self.steps, contexts=self.contexts, seed=self.seed
        )

    def start(self) -> Tensor:
        """The random directions that a search begins with, ``[K, d]``."""
        return start_search(SuperpositionReadout(self.model), self.options(PEAK)).directions

    def hits(self, matching: Matching) -> Tensor:
        """``[sought]`` yes or no: of the features sought so many are recovered; more than those count for nothing.

        Which they are is left open where fewer than all are sought: any of them will do.
        """
        return torch.arange(self.sought) < matching.recovered

    def share(self, matching: Matching) -> float:
        """Recovered features as a share of those sought."""
        return float(self.hits(matching).double().mean())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Trials that are judged together: several models of one kind, or several searches on one model."""

    label: str
    trials: tuple[Trial, ...]

    def interval(self, hits: Sequence[Tensor]) -> Interval:
        """Of the mean over trials of a share, from each trial's yes and no: trials and their items are resampled.

        Of one trial the items alone are.
        """
        return share_interval(hits, torch.Generator().manual_seed(self.trials[0].seed + 2))

    def text(self, hits: Sequence[Tensor]) -> str:
        """The same for a cell of a table."""
        return self.interval(hits).text() + ("" if len(hits) > 1 else " (one seed)")


Find = Callable[[Group], list[Tensor]]


def preflight(run: Run) -> None:
    """Refuse a toy model folder that is none before anything runs.

    Raises :class:`~sensverify.errors.InputError` as :func:`~toy_models.folder.load_toy` does, for a model that has
    given up all its features, and for a folder that the run itself will write.
    """
    _user_model(run)


def check_planted(run: Run) -> Finding:
    """TM-9.planted: the interval of every group has to be wholly on the right side."""
    model, groups = _user_model(run), subjects(run)
    finding = _judge(groups, _found_by(run, "peak"))
    chance = {group.label: _hits(group, _start(group)) for group in groups}
    evidence = {
        **finding.evidence,
        "recovered_by_random_directions": {group.label: group.interval(chance[group.label]).to_json()
                                           for group in groups},
        "searches": {
            f"{name}, {group.label}": [_row(trial, matching) for trial, matching in _matched(group, find(group))]
            for name, group, find in _compared(run, groups)
        },
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
    model = _user_model(run)
    if model is None:
        return planted(run)
    seeds = [_search_seed(run.seed, i) for i in range(SEARCH_SEEDS)]
    steps, contexts = USER_BUDGET[run.profile]
    trials = tuple(Trial(model=model, seed=seed, steps=steps, contexts=contexts) for seed in seeds)
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
                trials.append(Trial(model=load_toy(folder), seed=_search_seed(seed), steps=steps, contexts=contexts))
            groups.append(Group(label=f"p = {density:g}, threshold {threshold:g}", trials=tuple(trials)))
        return tuple(groups)

    return run.shared("toy_models.own_features.planted", make)


def explain(model: SuperpositionModel) -> dict[str, Any]:
    """What makes features hard to find, as plain JSON.

    ``coherence``: the largest cosine between two features, and the mean over features of that to the nearest other one.
    ``reading``: cosine between what a feature writes and what its unit reads. ``threshold``: minus the median bias over
    the root mean square of what units see before it, and the share of units that fire.
    """
    features, config = model.feature_directions, model.config
    count, width = len(features), config.width
    overlap = gram(features).fill_diagonal_(-1.0).max(dim=1).values if count > 1 else torch.zeros(1)
    readings = model.weights if model.reading is None else model.reading
    seen_reading = model.centring.project(readings.T)[model.represented]
    agreement = torch.nn.functional.cosine_similarity(seen_reading, features, dim=1)
    hidden = SuperpositionReadout(model).sample(SAMPLE, torch.Generator().manual_seed(0)).x
    seen = normed(config, hidden) @ readings
    typical = float(seen.square().mean().sqrt())
    return {
        "features": count,
        "width": width,
        "density": config.density,
        "load": {
            "features_per_dimension": count / width,
            "features_over_d(d+2)/3": 3 * count / (width * (width + 2)),
        },
        "coherence": {"largest": float(overlap.max()), "mean_nearest": float(overlap.mean())},
        "lengths": _spread(model.columns[model.represented].norm(dim=1)),
        "reading": _spread(agreement),
        "threshold": {
            "over_typical_preactivation": -float(model.bias.median()) / typical if typical > 0 else None,
            "share_of_units_firing": float((seen + model.bias > 0).double().mean()),
        },
    }


def _search_seed(*parts: int) -> int:
    """A seed that no features were drawn with."""
    digest = hashlib.sha256(f"TM-9.planted search {parts}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def _user_model(run: Run) -> SuperpositionModel | None:
    """The model in the folder given as ``--model``; None if that is no toy model folder."""
    folder = Path(run.subject.model)
    try:
        if not is_toy_folder(folder):
            return None
    except OSError:  # a name that no file can have, or a folder that may not be read
        return None
    if (run.directory / "planted").resolve() in folder.resolve().parents:
        raise InputError(
            expected="a toy model that this run does not write itself",
            got=str(folder),
            remedy="copy the folder elsewhere, or pass another --out",
        )
    model = run.shared("toy_models.own_features.user", lambda: load_toy(folder))
    if not bool(model.represented.any()):
        raise InputError(
            expected="features longer than 0.5, or a planted model, in which all count",
            got=f"none in {folder}",
            remedy="correct the toy model; toy_models/folder.py says what it is",
        )
    return model


def _found_by(run: Run, name: str) -> Find:
    def find(group: Group) -> list[Tensor]:
        return [
            searched(run, SuperpositionReadout(trial.model), trial.options(SEARCHES[name])) for trial in group.trials
        ]

    return find


def _start(group: Group) -> list[Tensor]:
    return [trial.start() for trial in group.trials]


def _compared(run: Run, groups: Sequence[Group]) -> list[tuple[str, Group, Find]]:
    """All searches on the last group, on the others peak alone; all on all in the full profile.

    In the quick profile a user's model is searched once by those that are not judged.
    """
    rows: list[tuple[str, Group, Find]] = []
    full, user = run.profile == "full", _user_model(run) is not None
    for group in groups:
        for name in SEARCHES:
            judged = name == "peak"
            if judged or full or group is groups[-1]:
                once = dataclasses.replace(group, trials=group.trials[:1])
                rows.append((name, group if judged or full or not user else once, _found_by(run, name)))
        rows.append(("random directions", group, _start))
    return rows


def _matched(group: Group, found: Sequence[Tensor]) -> list[tuple[Trial, Matching]]:
    return [(trial, match(directions, trial.features)) for trial, directions in zip(group.trials, found, strict=True)]


def _hits(group: Group, found: Sequence[Tensor]) -> list[Tensor]:
    return [trial.hits(matching) for trial, matching in _matched(group, found)]


def _row(trial: Trial, matching: Matching) -> dict[str, Any]:
    return {"seed": trial.seed, "sought": trial.sought, "share": trial.share(matching), **matching.to_json()}


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


def _spread(values: Tensor) -> dict[str, float]:
    return {"least": float(values.min()), "median": float(values.median()), "largest": float(values.max())}


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
            caption=f"{one.directions} directions look for {one.sought} of {len(one.features)} features in "
            f"{one.model.config.width} dimensions. Share of those sought that a direction of its own meets at cosine "
            f"{RECOVERED_COSINE}, share of the directions that meet some feature (intervals: {len(groups[-1].trials)} "
            "seeds and the items of each resampled, of one seed its items), and repeated directions for each seed. The "
            f"rows to read are those of peak, which the claim wants at {REQUIRED:g} or above; beside them stands what "
            "other searches recover, and the random directions that every search begins with.",
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
