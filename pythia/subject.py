"""What the claims of this suite share in one run: model, corpus, predictions, and the directions found."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pythia.corpus import DEFAULT_LENGTH, Corpus, read_corpus
from pythia.loading import LanguageModel, load_model
from pythia.site import site_of
from sensverify.claims import Run
from sensverify.directions import save_directions
from sensverify.discovery import SearchOptions, SearchState, search
from sensverify.errors import InputError
from sensverify.evaluation import Evaluation, evaluate_directions
from sensverify.predictions import PREDICTIONS_NAME, Prediction, load_predictions
from sensverify.sites import Site, SiteOptions

SHIPPED_PREDICTIONS = Path(__file__).parent / PREDICTIONS_NAME


@dataclasses.dataclass(frozen=True)
class Found:
    """The outcome of a search at one site."""

    site: Site
    state: SearchState
    options: SearchOptions
    evaluation: Evaluation


def preflight(run: Run) -> None:
    """Refuse a model, text or predictions file that cannot be used, before anything else runs.

    Raises :class:`~sensverify.errors.InputError`.
    """
    if run.subject.predictions is not None:
        load_predictions(run.subject.predictions)
    corpus(run)


def model(run: Run) -> LanguageModel:
    """The run's language model, loaded once."""
    subject = run.subject
    return run.shared(
        "pythia.model",
        lambda: load_model(
            subject.model,
            revision=subject.revision,
            device=subject.device,
            dtype=subject.dtype,
            offline=subject.offline,
        ),
    )


def corpus(run: Run) -> Corpus:
    """The run's text as windows of the run's model."""
    loaded = model(run)
    # A model whose context is shorter than the usual window is read in windows of its own length.
    length = min(DEFAULT_LENGTH, int(getattr(loaded.config, "max_position_embeddings", DEFAULT_LENGTH)))
    return run.shared("pythia.corpus", lambda: read_corpus(loaded, run.subject.text, length=length, seed=run.seed))


def prediction(run: Run, name: str) -> tuple[Prediction, str]:
    """The prediction of this ID to judge by, and where it comes from.

    In this order: the file given by the user; the file that this run's own toy suite has just written, if what the
    prediction needs was part of the run; the file shipped with the package. Raises
    :class:`~sensverify.errors.InputError` for a file that was edited, and for a user's file without this prediction.
    """
    given = run.subject.predictions
    if given is not None:
        loaded = load_predictions(given)
        if name not in loaded:
            raise InputError(
                expected=f"a prediction {name}",
                got=f"{given} with {', '.join(loaded) or 'none'}",
                remedy="derive all with `sensverify verify toy_models --out DIR`, or leave out --predictions",
            )
        return loaded[name], "given by --predictions"
    written = run.directory / PREDICTIONS_NAME
    if written.exists() and name in (loaded := load_predictions(written)):
        return loaded[name], "written by the toy suite into the results folder"
    return load_predictions(SHIPPED_PREDICTIONS)[name], "shipped with the package"


def found(run: Run) -> Found:
    """Search once per run, a third of the way into the model; the directions are written as an artefact."""
    loaded, windows = model(run), corpus(run)

    def make() -> Found:
        layer = min(loaded.depth // 3, loaded.depth - 2)
        site = site_of(loaded, windows, SiteOptions(layer=layer, target=layer + 1, offset=1, seed=run.seed))
        options = SearchOptions(
            directions=16 if run.profile == "quick" else 64,
            steps=200 if run.profile == "quick" else 400,
            seed=run.seed,
        )
        state = search(site.search, options, progress=run.progress)
        evaluation = evaluate_directions(site, state.directions, seed=run.seed, progress=run.progress)
        save_directions(
            run.directory,
            evaluation.to_directions({**site.description, "search": options.to_json(), "seed": run.seed}),
        )
        return Found(site, state, options, evaluation)

    return run.shared("pythia.found", make)
