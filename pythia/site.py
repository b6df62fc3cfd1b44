"""Opens language models for the command line and for the claims of this suite."""

from __future__ import annotations

from pythia.corpus import Corpus, read_corpus
from pythia.disk_store import Keeping
from pythia.loading import LanguageModel, load_model
from pythia.next_token import NextTokenReadout, check_next_token_site
from pythia.readout import LanguageModelReadout, check_site
from sensverify.claims import Progress, Subject, silent
from sensverify.distributed import ranks_here
from sensverify.memory import LEAST, Budget, budget_of
from sensverify.sites import Site, SiteOptions


def open_site(subject: Subject, options: SiteOptions, progress: Progress = silent) -> Site:
    """The subject's model, read on its text at the given site; see :class:`sensverify.sites.Site`.

    Raises :class:`~sensverify.errors.InputError` for anything in ``subject`` or ``options`` that does not fit.
    """
    model = load_model(
        subject.model,
        revision=subject.revision,
        device=subject.device,
        dtype=subject.dtype,
        offline=subject.offline,
    )
    check = check_next_token_site if options.readout == "next_token" else check_site
    check(model.depth, layer=options.layer, target=options.target, offset=options.offset)
    corpus = read_corpus(model, subject.text, length=options.context, limit=options.limit, seed=options.seed)
    if options.memory is None:  # what is free is free for all processes on this machine together
        budget = Budget(total=max(LEAST, budget_of(device=str(model.device)).total // ranks_here()))
    else:
        budget = Budget(total=options.memory)
    keeping = Keeping(budget=budget, cache=options.cache, progress=progress)
    return site_of(model, corpus, options, keeping)


def site_of(model: LanguageModel, corpus: Corpus, options: SiteOptions, keeping: Keeping | None = None) -> Site:
    """The site of a model and corpus that are already in memory."""
    kind = NextTokenReadout if options.readout == "next_token" else LanguageModelReadout
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
            keeping=keeping and keeping.part(len(windows) / total),
        )

    search, held_out = readout("search"), readout("held_out")
    return Site(
        search=search,
        held_out=held_out,
        independent_contexts=len(corpus.held_out),
        weights_sha256=model.weights_sha256,
        description={**search.describe(), **corpus.to_json()},
    )
