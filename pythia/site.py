"""Opens language models for the command line and for the claims of this suite."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from pythia.corpus import Corpus, read_subject
from pythia.disk_store import Keeping
from pythia.loading import LanguageModel, load_subject
from pythia.next_token import NextTokenReadout, check_next_token_site
from pythia.privileged import LogitReadout, NeuronReadout, check_neuron_site, tokens_of
from pythia.readout import LanguageModelReadout, check_site
from sensverify.claims import Progress, Subject, silent
from sensverify.distributed import ranks_here
from sensverify.memory import LEAST, Budget, budget_of
from sensverify.sites import Site, SiteOptions

KINDS: Mapping[str, Callable[..., LanguageModelReadout]] = {
    "residual": LanguageModelReadout,
    "next_token": NextTokenReadout,
    "neurons": NeuronReadout,
    "logits": LogitReadout,
}
"""What is read, by the names that :class:`sensverify.sites.SiteOptions` has for it."""


def open_site(subject: Subject, options: SiteOptions, progress: Progress = silent) -> Site:
    """The subject's model, read on its text at the given site; see :class:`sensverify.sites.Site`.

    Raises :class:`~sensverify.errors.InputError` for anything in ``subject`` or ``options`` that does not fit.
    """
    model = load_subject(subject)
    check_options(model, options)
    corpus = read_subject(model, subject, length=options.context, limit=options.limit, seed=options.seed)
    if options.memory is None:  # what is free is free for all processes on this machine together
        budget = Budget(total=max(LEAST, budget_of(device=str(model.device)).total // ranks_here()))
    else:
        budget = Budget(total=options.memory)
    keeping = Keeping(budget=budget, cache=options.cache, progress=progress)
    return site_of(model, corpus, options, keeping)


def check_options(model: LanguageModel, options: SiteOptions) -> None:
    """Raise :class:`~sensverify.errors.InputError` for a site that ``model`` does not have."""
    where = {"layer": options.layer, "target": options.target, "offset": options.offset}
    if options.readout == "neurons":
        check_neuron_site(model, **where)
        return
    check = check_site if options.readout == "residual" else check_next_token_site
    check(model.depth, **where)


def site_of(model: LanguageModel, corpus: Corpus, options: SiteOptions, keeping: Keeping | None = None) -> Site:
    """The site of a model and corpus that are already in memory."""
    kind = KINDS[options.readout]
    if kind is LogitReadout:  # the same units in search and evaluation
        tokens = tokens_of(model, corpus.search[corpus.search_real], corpus.held_out[corpus.held_out_real])
        kind = functools.partial(LogitReadout, tokens=tokens)
    total = len(corpus.search) + len(corpus.held_out)

    def readout(windows_of: str) -> LanguageModelReadout:
        windows = getattr(corpus, windows_of)
        return kind(
            model,
            windows,
            layer=options.layer,
            target=options.target,
            offset=options.offset,
            first_position=corpus.first_position,
            allowed=corpus.allowed(windows_of),
            keeping=keeping and keeping.part(len(windows) / total),
        )

    search, held_out = readout("search"), readout("held_out")
    description = {**search.describe(), **corpus.to_json()}
    if corpus.options.outlier_norms is not None:
        description["outlier_norms"] = {
            "times_the_median": corpus.options.outlier_norms,
            "search": search.positions.to_json(),
            "held_out": held_out.positions.to_json(),
        }
    return Site(
        search=search,
        held_out=held_out,
        independent_contexts=len(held_out.positions.rows),
        weights_sha256=model.weights_sha256,
        description=description,
    )
