"""What the claims of this suite share in one run: model, corpus, predictions, and the directions found."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from pythia.corpus import DEFAULT_LENGTH, Corpus, read_corpus
from pythia.loading import LanguageModel, load_model
from pythia.site import site_of
from sensverify.claims import Run
from sensverify.directions import save_directions
from sensverify.discovery import SearchOptions, SearchState, search
from sensverify.errors import InputError
from sensverify.evaluation import Evaluation, evaluate_directions
from sensverify.predictions import PREDICTIONS_NAME, Prediction, Side, load_predictions
from sensverify.sites import Site, SiteOptions

PREDICTING_SUITE = "toy_models"
SHIPPED_PREDICTIONS = Path(__file__).parent / PREDICTIONS_NAME


@dataclasses.dataclass(frozen=True)
class Found:
    """The outcome of a search at one site."""

    site: Site
    state: SearchState
    options: SearchOptions
    evaluation: Evaluation


def preflight(run: Run, needed: Mapping[str, Side] | None = None) -> None:
    """Refuse a model, text or predictions file that cannot be used, before anything else runs.

    ``needed`` are the predictions that a claim is judged by, each with the side of its interval that the claim cannot
    do without. Raises :class:`~sensverify.errors.InputError`.
    """
    if run.subject.predictions is not None:
        _loaded(run, run.subject.predictions)
    for name, side in (needed or {}).items():
        prediction(run, name, side)
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


def prediction(run: Run, name: str, side: Side | None = None) -> tuple[Prediction, str]:
    """The prediction of this ID to judge by, and where it comes from.

    In this order: the file given by the user; what this run's own toy suite has just derived; the file that a toy suite
    left in the results folder before; the file shipped with the package. Raises
    :class:`~sensverify.errors.InputError` for a file that was edited, for an interval that is open on ``side``, and for
    a user's file without this prediction.
    """
    given, folder = run.subject.predictions, run.directory / PREDICTIONS_NAME
    derived: dict[str, Prediction] | None = run.conclusions.get(PREDICTING_SUITE)
    if given is not None:
        candidates, origin = _loaded(run, given), "given by --predictions"
        if name not in candidates:
            raise _unusable(f"a prediction {name}", f"{given} with {', '.join(candidates) or 'none'}")
    elif derived is not None:
        candidates, origin = derived, "derived by the toy suite in this run"
    elif folder.exists():
        candidates, origin = _loaded(run, folder), "left in the results folder by an earlier run of the toy suite"
    else:
        candidates, origin = {}, ""
    if name not in candidates:
        candidates, origin = _loaded(run, SHIPPED_PREDICTIONS), "shipped with the package"
    if side is not None and getattr(candidates[name], side) is None:
        raise _unusable(f"a number as {side} of the prediction {name}", f"null in the file {origin}")
    return candidates[name], origin


def _loaded(run: Run, path: Path) -> dict[str, Prediction]:
    """The file, read once: what was checked before anything ran is what judges, whatever happens to it meanwhile."""
    return run.shared(f"pythia.predictions {path}", lambda: load_predictions(path))


def _unusable(expected: str, got: str) -> InputError:
    remedy = "derive all with `sensverify verify toy_models --out DIR`, or leave out --predictions"
    return InputError(expected=expected, got=got, remedy=remedy)


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
