"""Every way of finding directions behind one interface, so that a table can loop over them.

All methods get the same :class:`Subject`: one fixed sample of contexts, from which searches too must draw, and a
budget: every direction is shown at most ``presentations`` contexts, repeats counted. To show one costs a search a pass
through the read-out (two with the absent reference) and an autoencoder a few multiplications per coordinate; so that a
baseline does not lose for want of training, the cheap ones have a ``generosity``, by which their budget is multiplied.
``figures`` tell what was used.

PCA, ICA and the spectral solution have at most as many components as the space has dimensions, ``d``, and leave their
sign open. Asked for more they hand out the negatives of the first ones too, for trained features often lie in opposite
pairs: up to ``2d`` directions, whose signs are then theirs. Beyond that they return fewer; ``asked`` says so, and
shares of features recovered remain comparable.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from sensverify.autoencoders import AutoencoderOptions, Penalty, TopK, train_autoencoder
from sensverify.discovery import SearchOptions, search, total_steps
from sensverify.errors import InputError
from sensverify.geometry import random_directions, unit_directions
from sensverify.readout import Batch, Readout
from sensverify.sensitivity import Probe
from sensverify.spectral import most_directions, spectral_directions
from toy_models.decompositions import (
    LARGEST_SEED,
    Decomposition,
    independent_components,
    most_components,
    principal_components,
    require_sklearn,
)
from toy_models.readouts import Wrapped

PLAIN, PLAIN_ABSENT, SELECTIVE, PEAK = "plain", "plain, absent", "selective", "peak"
SEQUENTIAL, TOP_K, RELU = "plain, sequential", "TopK autoencoder", "ReLU autoencoder"
SPECTRAL, PCA, ICA, RANDOM = "spectral", "PCA", "FastICA", "random"

SPECTRAL_CONTEXTS = 1024
"""At most this many, since the spectral method holds all of them, times all directions, in memory at once."""


class FixedSample(Wrapped):
    """A read-out on a fixed batch: contexts are drawn from it, with replacement, instead of afresh."""

    def __init__(self, inner: Readout, batch: Batch[Any]) -> None:
        if batch.state is not None and not isinstance(batch.state, Tensor):
            raise InputError(
                expected="a read-out whose batches keep nothing, or one tensor with a row per context",
                got=f"a state of type {type(batch.state).__name__}",
                remedy="let the read-out keep its state in one tensor",
            )
        super().__init__(inner)
        self.batch = batch

    def sample(self, count: int, generator: torch.Generator) -> Batch[Any]:
        """``count`` of the fixed contexts."""
        rows = torch.randint(len(self.batch), (count,), generator=generator, device=generator.device)
        state = self.batch.state
        return Batch(self.batch.x[rows], None if state is None else state[rows])

    def describe(self) -> Mapping[str, Any]:
        """The read-out's, and how many contexts there are."""
        return {**self.inner.describe(), "fixed_contexts": len(self.batch)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """What a method may look at: ``readout``, restricted to a fixed sample, and how long (``presentations``)."""

    readout: FixedSample
    presentations: int

    def __post_init__(self) -> None:
        if self.presentations < 1:
            raise InputError(
                expected="at least 1 presentation per direction",
                got=str(self.presentations),
                remedy="raise the budget",
            )

    @property
    def activations(self) -> Tensor:
        """``[N, d]``, without what the model's norm cannot see."""
        return self.readout.centring.project(self.readout.batch.x)


def draw_subject(
    readout: Readout, contexts: int, generator: torch.Generator, *, presentations: int = 150 * 128
) -> Subject:
    """Fix ``contexts`` contexts of ``readout``; by default with the budget of a search of 150 steps on 128 contexts."""
    return Subject(readout=FixedSample(readout, readout.sample(contexts, generator)), presentations=presentations)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Directions:
    """Unit ``directions [K, d]``, ``K ≤ asked``, inside the centred space.

    ``signed``: whether the method itself tells a direction from its negative, or hands out both. ``figures``: plain
    JSON on how it went, always with ``presentations`` used per direction. ``seconds`` of wall-clock time.
    """

    method: str
    directions: Tensor
    asked: int
    signed: bool
    figures: Mapping[str, Any]
    seconds: float


class Method(Protocol):
    """One way of finding directions."""

    @property
    def name(self) -> str:
        """What a table calls it; different for differently configured methods."""

    def find(self, subject: Subject, count: int, generator: torch.Generator) -> Directions:
        """Up to ``count`` directions within the subject's budget; all chance comes from ``generator``.

        Raises :class:`~sensverify.errors.InputError` for a ``count`` below 1 or a budget below one step.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineSearch:
    """The engine's ascent, parallel or sequential, with ``options``; count, steps and seed are set by ``find``.

    ``label`` names it where a table holds several, such as two probes. ``most``: no more directions than that, however
    many are asked for, where each costs a search of its own.
    """

    options: SearchOptions = dataclasses.field(default_factory=lambda: SearchOptions(contexts=128))
    label: str = ""
    most: int | None = None

    def __post_init__(self) -> None:
        if self.options.method == "spectral":
            raise InputError(expected="a search by steps", got="'spectral'", remedy="use Spectral()")

    @property
    def name(self) -> str:
        """``label``, else ``parallel search`` or ``sequential search``."""
        return self.label or f"{self.options.method} search"

    def find(self, subject: Subject, count: int, generator: torch.Generator) -> Directions:
        """``count`` directions, at most ``most``. Steps are per direction when sequential: so a direction's budget is
        the same. ``passes`` through the read-out are twice the presentations with the absent reference."""
        started = _start(count)
        steps = _steps(subject, self.options.contexts)
        sought = count if self.most is None else min(count, self.most)
        options = dataclasses.replace(self.options, directions=sought, steps=steps, seed=_seed(generator))
        state = search(subject.readout, options)
        figures = {
            "presentations": steps * options.contexts,
            "passes": steps * options.contexts * (2 if options.probe.reference == "absent" else 1),
            "steps": total_steps(options),
            "final_score": state.history[-1],
        }
        return _directions(self.name, subject, state.directions, count, True, figures, started)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spectral:
    """The engine's closed form for small interventions; ``iterations`` of subspace iteration."""

    iterations: int = 20
    name: str = SPECTRAL

    def find(self, subject: Subject, count: int, generator: torch.Generator) -> Directions:
        """Orthonormal eigenvectors, then their negatives: no more of either than the space has dimensions."""
        started = _start(count)
        passes = self.iterations + 1
        contexts = min(_steps(subject, passes), len(subject.readout.batch), SPECTRAL_CONTEXTS)
        found = spectral_directions(
            subject.readout,
            min(count, most_directions(subject.readout)),
            generator=_engine_generator(subject, generator),
            contexts=contexts,
            iterations=self.iterations,
        )
        signs = _both_signs(found, count)
        figures = {"presentations": _shared_out(passes * contexts, found, signs), "contexts": contexts}
        return _directions(self.name, subject, signs, count, len(signs) > len(found), figures, started)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseAutoencoder:
    """One latent per direction; other options as in ``AutoencoderOptions``."""

    sparsity: TopK | Penalty
    batch: int = 128
    learning_rate: float = 3e-3
    generosity: int = 20
    label: str = ""

    @property
    def name(self) -> str:
        """``label``, else with its sparsity, since that decides what is found."""
        if isinstance(self.sparsity, TopK):
            return self.label or f"TopK autoencoder, k = {self.sparsity.active}"
        return self.label or f"ReLU autoencoder, penalty {self.sparsity.strength:g}"

    def find(self, subject: Subject, count: int, generator: torch.Generator) -> Directions:
        """The decoder's rows, dead latents among them (``dead_share``)."""
        started = _start(count)
        sparsity = self.sparsity
        if isinstance(sparsity, TopK):  # no more can be active than there are
            sparsity = TopK(active=min(sparsity.active, count))
        options = AutoencoderOptions(
            latents=count,
            sparsity=sparsity,
            steps=_steps(subject, self.batch, self.generosity),
            batch=self.batch,
            learning_rate=self.learning_rate,
            seed=_seed(generator),
        )
        trained = train_autoencoder(subject.activations, options)
        figures = {
            "presentations": options.steps * options.batch,
            "loss": trained.loss,
            "variance_explained": trained.variance_explained,
            "dead_share": trained.dead_share,
            "mean_active": trained.mean_active,
        }
        return _directions(self.name, subject, trained.directions, count, True, figures, started)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrincipalComponents:
    """scikit-learn's PCA."""

    name: str = PCA

    def find(self, subject: Subject, count: int, generator: torch.Generator) -> Directions:
        """Closed form: looks at every context once and uses no chance. Negatives if ``count`` exceeds the rank."""
        require_sklearn()  # imported before the clock runs
        started = _start(count)
        x = subject.activations
        result = principal_components(x, min(count, most_components(x)))
        return _decomposed(self.name, subject, result, count, started)


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndependentComponents:
    """scikit-learn's FastICA. An iteration shows every context to every direction, so the budget caps iterations."""

    iterations: int = 500
    starts: int = 4
    generosity: int = 800
    name: str = ICA

    def find(self, subject: Subject, count: int, generator: torch.Generator) -> Directions:
        """Columns of the mixing matrix, and negatives if ``count`` exceeds the rank; if not ``converged``, as far as
        the budget went."""
        require_sklearn()  # imported before the clock runs
        started = _start(count)
        x = subject.activations
        iterations = min(self.iterations, _steps(subject, self.starts * len(x), self.generosity))
        result = independent_components(
            x,
            min(count, most_components(x)),
            seed=_seed(generator),
            iterations=iterations,
            starts=self.starts,
        )
        return _decomposed(self.name, subject, result, count, started)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomDirections:
    """The control: uniform on the sphere, no data looked at."""

    name: str = RANDOM

    def find(self, subject: Subject, count: int, generator: torch.Generator) -> Directions:
        """``count`` draws."""
        started = _start(count)
        readout = subject.readout
        drawn = random_directions(count, readout.width, readout.centring, _engine_generator(subject, generator))
        return _directions(self.name, subject, drawn, count, False, {"presentations": 0}, started)


def standard_methods(
    *, active: int, contexts: int = 16, penalty: float = 0.15, sequential: int | None = None, generosity: int = 60
) -> dict[str, Method]:
    """One of each, by name.

    - The published score, *plain*: with the clean reference, as published, with the absent one, and sequentially, then
      at most ``sequential`` directions. The parallel ones repel as weakly as the other scores (0.1): the engine's
      default for plain, 1, keeps as many directions as there are features from settling on them.
    - *selective* (clean reference) and *peak* (absent reference), with the engine's defaults.
    - The closed form; a TopK autoencoder that is told the true number of ``active`` features, which no other method is;
      one with a ``penalty``; PCA, FastICA; random directions.

    Searches show every direction ``contexts`` contexts per step: few, for more and noisier steps are worth more than
    fewer and steadier ones; and with few steps, early ones of 0.3 radians find more than the engine's 0.1. Likewise
    autoencoders learn at 1e-2, which in short training finds more than 3e-3, and have ``generosity`` times the budget.
    """
    absent = Probe(reference="absent")

    def engine(name: str, most: int | None = None, **options: Any) -> EngineSearch:
        search_options = SearchOptions(contexts=contexts, learning_rate=0.3, **options)
        return EngineSearch(options=search_options, label=name, most=most)

    def autoencoder(name: str, sparsity: TopK | Penalty) -> SparseAutoencoder:
        return SparseAutoencoder(sparsity=sparsity, batch=256, learning_rate=1e-2, generosity=generosity, label=name)

    methods: tuple[Method, ...] = (
        engine(PLAIN, repulsion=0.1),
        engine(PLAIN_ABSENT, repulsion=0.1, probe=absent),
        engine(SEQUENTIAL, method="sequential", most=sequential),
        engine(SELECTIVE, score="selective"),
        engine(PEAK, score="peak", probe=absent),
        Spectral(),
        autoencoder(TOP_K, TopK(active=active)),
        autoencoder(RELU, Penalty(strength=penalty)),
        PrincipalComponents(),
        IndependentComponents(iterations=150, starts=1),
        RandomDirections(),
    )
    return {method.name: method for method in methods}


def _start(count: int) -> float:
    if count < 1:
        raise InputError(expected="at least 1 direction", got=str(count), remedy="ask for one or more")
    return time.perf_counter()


def _steps(subject: Subject, contexts: int, generosity: int = 1) -> int:
    """How many steps on ``contexts`` contexts the budget pays for."""
    presentations = generosity * subject.presentations
    if presentations < contexts:
        raise InputError(
            expected=f"a budget of at least {contexts} presentations, one step",
            got=str(presentations),
            remedy="raise the budget, or use fewer contexts per step",
        )
    return presentations // contexts


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(LARGEST_SEED, (), generator=generator, device=generator.device))


def _engine_generator(subject: Subject, generator: torch.Generator) -> torch.Generator:
    """A generator where the read-out lives."""
    return torch.Generator(device=subject.readout.device).manual_seed(_seed(generator))


def _decomposed(name: str, subject: Subject, result: Decomposition, count: int, started: float) -> Directions:
    components = result.directions
    signs = _both_signs(components, count)
    figures = {
        "presentations": _shared_out(max(1, result.iterations) * len(subject.readout.batch), components, signs),
        "variance_explained": result.variance_explained,
        "converged": result.converged,
    }
    return _directions(name, subject, signs, count, len(signs) > len(components), figures, started)


def _both_signs(components: Tensor, count: int) -> Tensor:
    """``components [K, d]``, then their negatives, ``count`` at most."""
    return torch.cat([components, -components])[:count]


def _shared_out(presentations: int, components: Tensor, signs: Tensor) -> int:
    """Per direction handed out: a negative costs nothing."""
    return -(-presentations * len(components) // len(signs))


def _directions(
    name: str,
    subject: Subject,
    found: Tensor,
    asked: int,
    signed: bool,
    figures: dict[str, Any],
    started: float,
) -> Directions:
    """Unit rows without what the norm cannot see, and the clock stopped."""
    return Directions(
        method=name,
        directions=unit_directions(found.detach(), subject.readout.centring),
        asked=asked,
        signed=signed,
        figures=figures,
        seconds=time.perf_counter() - started,
    )
