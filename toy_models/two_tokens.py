"""TM-8.rules and TM-8.shuffled: what presences say of tokens, where the stream carries more than one of them.

After block 0 of a planted transformer the stream is the token's embedding: the token decides the presence of *every*
direction, and rules tell planted features, found and random directions alike. After block 1 it carries a copy of the
token before as well, in a subspace of its own, and a random direction mixes the two. Block 2 reads the copy alone. So a
search for large effects there finds directions of one source, which a rule about one token can tell; random directions
take two.

Shuffle the entries of every matrix, and block 2 reads nothing in particular. The copy of the token before is spread
over all dimensions and weakened, while the token itself reaches the stream as it did: its identity explains most of any
direction's presence, where on the model it explains nothing of those found.

PY-5 rests on the first, PY-6 on the second.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.discovery import search
from sensverify.exhibits import Exhibit, Histogram, IntervalRow, Intervals
from sensverify.geometry import Centring, presence
from sensverify.rule_features import Contexts
from sensverify.rules import Explanations, RuleOptions, explain_presence
from sensverify.statistics import Interval, bootstrap_weights, percentile_interval
from sensverify.token_identity import TokenIdentity, token_identity
from sensverify.verdicts import Finding, Status
from toy_models import planted, sae_sensitivity
from toy_models.judging import at_least
from toy_models.planted import ABOVE_ONE, PEAK, Subject
from toy_models.planting import LAYER
from toy_models.store import store_of
from toy_models.transformer import Transformer

CARRIES_TWO = 1
"""The block after which the stream carries two tokens; block 2, behind it, reads one of them at the same position."""
TEXT_WINDOWS, TEXT_LENGTH = 512, 16
RULES = RuleOptions(shuffles=0)
RESAMPLES = 2000
POINTS = 0.03
"""By so much more of balanced accuracy found directions are to be told than random ones; the theory asks for more
than 0, and after block 0, where nothing differs, differences are below 0.02."""
HALF = ABOVE_ONE / 2
FOUND, RANDOM, SAE, PEAKS, MOVED, BEFORE = (
    "found", "random", "autoencoder", "found by peaks", "found, presences moved", "found after block 0"
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Told:
    """Of one model, how well rules tell each group of directions after block 1, and those of :data:`BEFORE` with the
    random ones beside them after block 0; all on the same windows."""

    subject: Subject
    groups: Mapping[str, Explanations]
    before: Mapping[str, Explanations]

    def accuracy(self, group: str) -> Interval:
        """Mean over directions."""
        return self._interval(self.groups, group)

    def difference(self, group: str, other: str = RANDOM) -> Interval:
        """Of two groups' means, windows resampled alike for both and directions in each."""
        return self._interval(self.before if group == BEFORE else self.groups, group, other)

    def _interval(self, groups: Mapping[str, Explanations], group: str, other: str | None = None) -> Interval:
        generator = self.subject.generator(31)
        windows = bootstrap_weights(groups[group].hits.shape[1], RESAMPLES, generator)

        def mean(name: str) -> tuple[float, Tensor]:
            part = groups[name]
            drawn = part.resampled(windows) * bootstrap_weights(len(part), RESAMPLES, generator)
            return sum(one.accuracy.value for one in part.each) / len(part), drawn.sum(1)

        value, replicates = mean(group)
        if other is not None:
            less, less_replicates = mean(other)
            value, replicates = value - less, replicates - less_replicates
        return percentile_interval(value, replicates)


@dataclasses.dataclass(frozen=True)
class Identity:
    """Of one model, what the token at the position explains of the presence of found directions: on a copy with
    shuffled weights, and on the model itself."""

    subject: Subject
    copy: TokenIdentity
    model: TokenIdentity
    random: TokenIdentity
    """Random directions on the copy: shown beside, not judged."""

    @property
    def covered(self) -> bool:
        """Whether enough positions have tokens that are known."""
        return self.copy.covered and self.model.covered

    def figures(self) -> tuple[Interval, Interval]:
        """The median of ``R²`` on the copy, and the mean there less that on the model; windows and directions
        resampled."""
        generator = self.subject.generator(32)
        windows = bootstrap_weights(self.copy.error.shape[1], RESAMPLES, generator)

        def redrawn(part: TokenIdentity) -> Tensor:
            values = part.explained(windows)
            return values.gather(1, torch.randint(values.shape[1], values.shape, generator=generator))

        copy, model, on_copy, on_model = *map(redrawn, (self.copy, self.model)), self.copy, self.model
        difference = float(on_copy.explained().mean() - on_model.explained().mean())
        return (
            percentile_interval(float(on_copy.explained().median()), copy.median(1).values),
            percentile_interval(difference, copy.mean(1) - model.mean(1)),
        )


def told(run: Run) -> list[Told]:
    """On every planted transformer, once per run."""
    return run.shared("toy_models.two_tokens.told", lambda: [_told(run, subject) for subject in planted.subjects(run)])


def identities(run: Run) -> list[Identity]:
    """On every planted transformer and its copy, once per run."""
    return run.shared("toy_models.two_tokens.identities", lambda: _identities(run, moved=0))


# -- TM-8.rules -------------------------------------------------------------------------------------------------------


def check_rules(run: Run) -> Finding:
    """TM-8.rules."""
    rows = told(run)
    beside = {
        "accuracy": {
            f"seed {row.subject.seed}": {name: row.accuracy(name).to_json() for name in row.groups} for row in rows
        },
        "found_minus_autoencoder_not_judged": {
            f"seed {row.subject.seed}": row.difference(FOUND, SAE).to_json() for row in rows
        },
        "found_by_peaks_minus_found_not_judged": {
            f"seed {row.subject.seed}": row.difference(PEAKS, FOUND).to_json() for row in rows
        },
    }
    return _judge_rules(rows, FOUND, beside, (_accuracies(rows),))


def check_moved_presences(run: Run) -> Finding:
    """False twin: found directions with their presences moved to other windows."""
    return _judge_rules(told(run), MOVED)


def check_one_token(run: Run) -> Finding:
    """False twin: the same after block 0, where the stream carries the token alone."""
    return _judge_rules(told(run), BEFORE)


def _judge_rules(
    rows: Sequence[Told], group: str, beside: Mapping[str, Any] | None = None, exhibits: tuple[Exhibit, ...] = ()
) -> Finding:
    """Every model by itself: SUPPORTED if all differences are high enough, REFUTED by one wholly below."""
    differences = {row.subject.seed: row.difference(group) for row in rows}
    status, lowest = at_least(differences.values(), POINTS), min(differences, key=lambda seed: differences[seed].high)
    return Finding(
        status=status,
        evidence={
            "minus_random": {f"seed {seed}": one.to_json() for seed, one in differences.items()},
            "required": POINTS,
            "seeds": list(differences),
            "windows": [TEXT_WINDOWS, TEXT_LENGTH],
            **(beside or {}),
        },
        witness={"seed": lowest, "group": group, "minus_random": differences[lowest].to_json()}
        if status is Status.REFUTED
        else None,
        exhibits=exhibits,
    )


def _told(run: Run, subject: Subject) -> Told:
    model, windows = subject.planted.transformer, _text(subject)
    random = planted.directions_of(subject, "random", subject.planted.config.features, subject.generator(4))
    found = _find(run, subject, model, "plain")
    streams = model.residuals(windows)

    def explained(directions: Tensor, layer: int = CARRIES_TWO, moved: tuple[int, int] = (0, 0)) -> Explanations:
        rho = _presences(streams[layer], directions).roll(moved, (1, 2))
        # the names tell nothing but which token it is
        strings = {token: f"w{token:03d}" for token in range(len(model.embedding))}
        contexts = Contexts(tokens=windows.numpy(), strings=strings)
        return explain_presence(contexts, rho, torch.Generator().manual_seed(subject.seed), RULES)

    groups = {
        FOUND: explained(found),
        PEAKS: explained(_find(run, subject, model, PEAK)),
        SAE: explained(_autoencoder(run, subject)),
        RANDOM: explained(random),
        MOVED: explained(found, moved=(1, 7)),
    }
    before = {BEFORE: explained(planted.find(run, subject, "plain"), LAYER), RANDOM: explained(random, LAYER)}
    return Told(subject, groups, before)


def _autoencoder(run: Run, subject: Subject) -> Tensor:
    """Directions of an autoencoder on the stream after block 1, told that there are two tokens in it."""
    config, readout = subject.planted.config, subject.readout(20, layer=CARRIES_TWO, offset=0)
    x = readout.centring.project(readout.sample(sae_sensitivity.ACTIVATIONS, subject.generator(21)).x)
    return sae_sensitivity.living_directions(
        x, latents=2 * config.features, active=1 + config.most_active, seed=subject.generator(22).initial_seed(),
        progress=run.progress,
    )  # fmt: skip


def _accuracies(rows: Sequence[Told]) -> Intervals:
    return Intervals(
        title="How well rules about tokens tell where directions are present",
        caption="Balanced accuracy on held-out windows, mean over directions, 95 % intervals, after block 1. The claim "
        "needs 'found' right of 'random'. Directions of an autoencoder and those found by peaks are shown beside.",
        x_label="held-out detection accuracy",
        rows=tuple(
            IntervalRow(name=f"{name}, seed {row.subject.seed}", **row.accuracy(name).to_json())
            for name in rows[0].groups
            for row in rows
        ),
        reference=0.5,
    )


# -- TM-8.shuffled ----------------------------------------------------------------------------------------------------


def check_shuffled(run: Run) -> Finding:
    """TM-8.shuffled."""
    rows = identities(run)
    values = {
        "on the copy": torch.cat([row.copy.explained() for row in rows]).tolist(),
        "random on the copy": torch.cat([row.random.explained() for row in rows]).tolist(),
        "on the model": torch.cat([row.model.explained() for row in rows]).tolist(),
    }
    exhibit = Histogram(
        title="How much of a presence the current token decides",
        caption="Variance of presence that the token explains on held-out windows, one count per found direction, all "
        "models: found on copies with shuffled weights, and on the models themselves. Random directions on the copies "
        "are shown beside: as far as they lie where found ones do, it is the stream that is about single tokens.",
        x_label="variance explained by the token",
        groups=values,
    )
    return _judge_identity(rows, (exhibit,))


def check_tokens_of_other_windows(run: Run) -> Finding:
    """False twin: the token at the same position of another window explains it as well."""
    return _judge_identity(_identities(run, moved=1))


def _judge_identity(rows: Sequence[Identity], exhibits: tuple[Exhibit, ...] = ()) -> Finding:
    """Every model by itself: medians on copies above one half, and means above those on the models; INCONCLUSIVE
    where too few positions are scored on any."""
    figures = {row.subject.seed: row.figures() for row in rows}
    halves, more = (list(column) for column in zip(*figures.values(), strict=True))
    status = _both(at_least(halves, HALF), at_least(more, ABOVE_ONE - 1))
    if not all(row.covered for row in rows):
        status = Status.INCONCLUSIVE
    by_model = {
        f"seed {row.subject.seed}": {
            "median_on_the_copy": figures[row.subject.seed][0].to_json(),
            "median_of_random_directions_on_the_copy_not_judged": float(row.random.explained().median()),
            "mean_there_minus_on_the_model": figures[row.subject.seed][1].to_json(),
            "coverage": min(row.copy.coverage, row.model.coverage),
        }
        for row in rows
    }
    evidence: dict[str, Any] = {"seeds": list(figures), **by_model}
    return Finding(
        status=status, evidence=evidence, witness=evidence if status is Status.REFUTED else None, exhibits=exhibits
    )


def _both(first: Status, second: Status) -> Status:
    if Status.REFUTED in (first, second):
        return Status.REFUTED
    return Status.SUPPORTED if first is second is Status.SUPPORTED else Status.INCONCLUSIVE


def _identities(run: Run, moved: int) -> list[Identity]:
    rows = []
    for subject in planted.subjects(run):
        model = subject.planted.transformer
        copy = model.shuffled(subject.generator(33))
        random = planted.directions_of(subject, "random", subject.planted.config.features, subject.generator(4))

        def identity(one: Transformer, directions: Tensor, subject: Subject = subject) -> TokenIdentity:
            windows = _text(subject)
            rho = _presences(one.residuals(windows)[CARRIES_TWO], directions)
            return token_identity(windows.roll(moved, 0), rho, torch.Generator().manual_seed(subject.seed))

        on_copy, on_model = (identity(one, _find(run, subject, one, "plain")) for one in (copy, model))
        rows.append(Identity(subject, on_copy, on_model, identity(copy, random)))
    return rows


# -- What both need ---------------------------------------------------------------------------------------------------


def _text(subject: Subject) -> Tensor:
    return subject.planted.windows(TEXT_WINDOWS, TEXT_LENGTH, subject.generator(40))


def _presences(stream: Tensor, directions: Tensor) -> Tensor:
    """``[K, N, L]``."""
    return presence(stream.flatten(0, 1), directions, Centring.MEAN).view(-1, *stream.shape[:2])


def _find(run: Run, subject: Subject, model: Transformer, name: str) -> Tensor:
    """What the search of that name finds after block 1, read after block 2 at the same position; kept on disk."""
    row = planted.searches(run)[name]
    options = dataclasses.replace(row.options, seed=subject.generator(34).initial_seed())
    readout = subject.readout(0, layer=CARRIES_TWO, offset=0, units=row.units, transformer=model)
    key = {"site": dict(readout.describe()), "windows": subject.seed, "search": options.to_json()}

    def make() -> dict[str, Tensor]:
        return {"directions": search(readout, options, progress=run.progress).directions}

    return store_of(run).keep("two-tokens-search", key, make)["directions"]
