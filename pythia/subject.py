"""What the claims of this suite share in one run: model, corpus, predictions, and the directions found."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from pythia.corpus import DEFAULT_LENGTH, Corpus, read_subject
from pythia.loading import LanguageModel, load_subject
from pythia.readout import check_depth
from pythia.saes import available, read_for
from pythia.site import site_of
from sensverify.claims import Run
from sensverify.directions import save_directions
from sensverify.discovery import SearchOptions, SearchState, search
from sensverify.errors import InputError
from sensverify.evaluation import Evaluation, evaluate_directions
from sensverify.predictions import PREDICTIONS_NAME, Prediction, Side, load_predictions
from sensverify.sae_layouts import Location
from sensverify.saes import Sae
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
    """Refuse a model, text, autoencoder or predictions file that cannot be used, before anything else runs.

    ``needed`` are the predictions that a claim is judged by, each with the side of its interval that the claim cannot
    do without. Raises :class:`~sensverify.errors.InputError`.
    """
    if run.subject.predictions is not None:
        _loaded(run, run.subject.predictions)
    for name, side in (needed or {}).items():
        prediction(run, name, side)
    check_depth(model(run).depth)
    corpus(run)
    for layer in published_saes(run):
        published_sae(run, layer)


def model(run: Run) -> LanguageModel:
    """The run's language model, loaded once."""
    return run.shared("pythia.model", lambda: load_subject(run.subject))


def corpus(run: Run) -> Corpus:
    """The run's text as windows of the run's model."""
    loaded = model(run)
    # A model whose context is shorter than the usual window is read in windows of its own length.
    length = min(DEFAULT_LENGTH, int(getattr(loaded.config, "max_position_embeddings", DEFAULT_LENGTH)))
    return run.shared(
        "pythia.corpus", lambda: read_subject(loaded, run.subject, length=length, seed=run.seed, pad=False)
    )


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


def published_saes(run: Run) -> Mapping[int, Location]:
    """The autoencoders that the user gave, by the block after whose output they lie; none if none was given."""
    folder = run.subject.sae
    if folder is None:
        return {}
    return run.shared("pythia.published_saes", lambda: available(folder, model(run).depth))


def published_sae(run: Run, layer: int) -> Sae | None:
    """The user's autoencoder at this layer, if there is one.

    Raises :class:`~sensverify.errors.InputError` for one that is damaged or does not fit the model.
    """
    location = published_saes(run).get(layer)
    if location is None:
        return None
    # by file, since one without a hook stands for every layer
    key = f"pythia.published_sae {location.file}"
    return run.shared(key, lambda: read_for(location, model(run).width, run.subject.model))


def searched_layer(run: Run) -> int:
    """Where :func:`found` searches: a third of the way into the model or, if the user gave autoencoders, the layer
    nearest to that which one of them reads."""
    depth = model(run).depth
    third = min(depth // 3, depth - 2)
    return min(published_saes(run), key=lambda layer: (abs(layer - third), layer), default=third)


def site(run: Run, layer: int) -> Site:
    """The run's model and text, intervened on after block ``layer``, read one block and one token later.

    What is kept of the clean model there is large: only the site of :func:`found` and the last other one are.
    """
    kept: dict[int, Site] = run.shared("pythia.sites", dict)
    if layer not in kept:
        for other in set(kept) - {searched_layer(run)}:
            del kept[other]
        kept[layer] = site_after(run, model(run), layer)
    return kept[layer]


def site_after(run: Run, loaded: LanguageModel, layer: int) -> Site:
    """As :func:`site`, of any model on the run's text; not kept."""
    return site_of(loaded, corpus(run), SiteOptions(layer=layer, target=layer + 1, offset=1, seed=run.seed))


def search_options(run: Run) -> SearchOptions:
    """The one search of this suite: that of :func:`found`, and of the same on other layers and models."""
    quick = run.profile == "quick"
    return SearchOptions(directions=16 if quick else 64, steps=200 if quick else 400, seed=run.seed)


def found(run: Run) -> Found:
    """Search once per run, at :func:`searched_layer`; the directions are written as an artefact."""

    def make() -> Found:
        place = site(run, searched_layer(run))
        options = search_options(run)
        state = search(place.search, options, progress=run.progress)
        evaluation = evaluate_directions(place, state.directions, seed=run.seed, progress=run.progress)
        save_directions(
            run.directory,
            evaluation.to_directions({**place.description, "search": options.to_json(), "seed": run.seed}),
        )
        return Found(place, state, options, evaluation)

    return run.shared("pythia.found", make)
