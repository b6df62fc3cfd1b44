"""PY-4.stable: whether searches from different seeds find the same directions, and how far that is from chance.

What is measured, the *stability* ``(c − c₀)/(1 − c₀)`` of matched cosines, is in :mod:`sensverify.matching`. How much
of it there is depends on how many directions are as good as those that are asked for: of many more, each search finds a
few, and others than the one before. The toys show both (claim TM-8.stable), and predict that at least half of the
smaller stability is found in a language model. Whether searches are nearer to the same directions than to chance,
stability at least one half, is said in the evidence.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pythia import subject
from pythia.compared import FOUND, directions, search_at, site
from sensverify.claims import Run
from sensverify.exhibits import Histogram
from sensverify.geometry import Centring, random_directions
from sensverify.matching import Matching, assignment, match_searches, random_cosines
from sensverify.predictions import JUDGED, Side, judged
from sensverify.verdicts import Finding, Status

OTHER_SEEDS = (1001, 1002)
"""Added to the run's seed: of the searches beside the run's own."""
RANDOM_SETS = 12
"""Of the false twin: where directions are few, few random sets may be alike by chance."""
NEARER = 0.5
PREDICTION = "PY-4.stable"
SIDE: Side = "low"
"""The side of its interval that the claim cannot do without."""


def preflight(run: Run) -> None:
    """As :func:`pythia.subject.preflight` does for every claim, with the prediction of PY-4.stable; what matches
    directions has to be installed."""
    assignment()
    subject.preflight(run, {PREDICTION: SIDE})


def check_stability(run: Run) -> Finding:
    """PY-4.stable on the run's model, at the layer of :func:`pythia.subject.found`."""
    matching = _matched(run)
    exhibit = Histogram(
        title="Matched directions of searches from different seeds",
        caption="Absolute cosine of each direction with its match in another search, and of random sets matched alike. "
        "A peak near 1 is directions found again.",
        x_label="|cosine|",
        groups={"found": matching.cosines.flatten().tolist(), "random sets": _null_cosines(run).flatten().tolist()},
    )
    return _judge(run, matching, exhibits=(exhibit,))


def check_random_sets(run: Run) -> Finding:
    """False twin: random sets of directions, in the place of those that searches from different seeds found."""
    found = directions(run)[FOUND]
    generator = torch.Generator().manual_seed(run.seed + 53)
    sets = [random_directions(len(found), found.shape[1], _centring(run), generator) for _ in range(RANDOM_SETS)]
    return _judge(run, match_searches(sets, _null(run)))


def _matched(run: Run) -> Matching:
    def make() -> Matching:
        place = site(run, subject.searched_layer(run))
        others = [search_at(run, place, seed=run.seed + seed).cpu() for seed in OTHER_SEEDS]
        return match_searches([directions(run)[FOUND].cpu(), *others], _null(run))

    return run.shared("pythia.stability", make)


def _centring(run: Run) -> Centring:
    centring: Centring = site(run, subject.searched_layer(run)).search.centring
    return centring


def _null_cosines(run: Run) -> Tensor:
    """Matched absolute cosines of pairs of random sets, ``[pairs, K]``."""
    found, generator = directions(run)[FOUND], torch.Generator().manual_seed(run.seed + 59)
    return run.shared(
        "pythia.stability null", lambda: random_cosines(len(found), found.shape[1], _centring(run), generator)
    )


def _null(run: Run) -> float:
    """Mean matched cosine of random sets."""
    return float(_null_cosines(run).mean())


def _judge(run: Run, matching: Matching, exhibits: tuple[Histogram, ...] = ()) -> Finding:
    """SUPPORTED or REFUTED when the whole interval lies on one side of the prediction; else INCONCLUSIVE."""
    predicted, origin = subject.prediction(run, PREDICTION, SIDE)
    stability = matching.stability(torch.Generator().manual_seed(run.seed + 61))
    outcome = predicted.judge(stability)
    status = {"inside": Status.SUPPORTED, "outside": Status.REFUTED, "undecided": Status.INCONCLUSIVE}[outcome]
    found = directions(run)[FOUND]
    seen = found.shape[1] - (_centring(run) is Centring.MEAN)
    witness = {"stability": stability.to_json(), "predicted": predicted.to_json()}
    return Finding(
        status=status,
        evidence={
            JUDGED: [judged(predicted, stability, origin=origin)],
            "stability": stability.to_json(),
            "nearer_to_the_same_directions_than_to_chance": stability.low >= NEARER,
            "mean_matched_cosine": float(matching.cosines.mean()),
            "mean_matched_cosine_of_random_sets": matching.null,
            "share_matched_above_0.9": float((matching.cosines > 0.9).double().mean()),
            "shared_span": matching.span,
            # K of the dimensions that are seen
            "shared_span_of_random_sets": min(1.0, len(found) / seen),
            "searches": 1 + len(OTHER_SEEDS),
            "directions": matching.cosines.shape[1],
            "search": subject.search_options(run).to_json(),
            "layer": subject.searched_layer(run),
        },
        witness=witness if status is Status.REFUTED else None,
        exhibits=exhibits,
    )
