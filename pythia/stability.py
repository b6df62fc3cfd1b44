"""PY-4.stable: whether searches from different seeds find the same directions, and how far that is from chance.

What is measured, the *stability* ``(c − c₀)/(1 − c₀)`` of matched cosines, is in :mod:`sensverify.matching`. Searches
look in the same few dimensions of a stream, where unrelated directions are alike as well: chance, ``c₀``, is random
sets with the second moment of what all searches found. Stability over sets of the whole sphere is larger, and given
beside it, not judged. How much
of it there is depends on how many directions are as good as those that are asked for: of many more, each search finds a
few, and others than the one before. The toys show both (claim TM-8.stable), and predict that at least half of the
smaller stability is found in a language model. Whether searches are nearer to the same directions than to chance,
stability at least one half, is said in the evidence.
"""

from __future__ import annotations

import torch

from pythia import subject
from pythia.compared import FOUND, directions, search_at, site
from sensverify.claims import Run
from sensverify.exhibits import Histogram
from sensverify.geometry import Centring
from sensverify.matching import Comparison, Draw, alike_sets, assignment, compare, compare_drawn, sphere_sets
from sensverify.predictions import JUDGED, Side, judged
from sensverify.verdicts import Finding, Status

OTHER_SEEDS = (1001, 1002)
"""Added to the run's seed: of the searches beside the run's own."""
REPEATS = 40
"""Of each false twin: where directions are few, few random sets may be alike by chance."""
NEARER = 0.5
AGAIN = 0.9
"""Above this cosine a direction counts as found again, in what is shown."""
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
    compared = _compared(run)
    groups = {
        "found": compared.matching.cosines.flatten().tolist(),
        "random sets, same second moment": compared.alike.flatten().tolist(),
        "random sets, whole sphere": compared.sphere.flatten().tolist(),
    }
    again = [f"{name} {100 * sum(c > AGAIN for c in cosines) / len(cosines):.0f} %" for name, cosines in groups.items()]
    exhibit = Histogram(
        title=f"Matched directions of searches from different seeds, layer {subject.searched_layer(run)}",
        caption="Absolute cosine of each direction with its match in another search, and of random sets matched alike: "
        "with the second moment of the found directions, and of the whole sphere. Directions found again are those "
        f"near 1. Above {AGAIN:g}: {', '.join(again)}.",
        x_label="|cosine|",
        groups=groups,
    )
    return _judge(run, compared, exhibits=(exhibit,))


def check_random_sets(run: Run) -> Finding:
    """False twin: random sets of directions, in the place of those that searches from different seeds found."""
    count, width = directions(run)[FOUND].shape
    return _judge_drawn(run, sphere_sets(count, width, _centring(run)))


def check_sets_of_the_same_moment(run: Run) -> Finding:
    """False twin: random sets in the dimensions of the found directions, each as much as they are, in their place."""
    return _judge_drawn(run, alike_sets(_searches(run), _centring(run)))


def _judge_drawn(run: Run, draw: Draw) -> Finding:
    """Sets drawn at random, with all that is done to those that searches found, again and again."""
    generator = torch.Generator().manual_seed(run.seed + 53)
    return _judge(run, compare_drawn(draw, 1 + len(OTHER_SEEDS), REPEATS, _centring(run), generator))


def _searches(run: Run) -> list[torch.Tensor]:
    """What each search found, ``[K, d]``; that of :func:`pythia.subject.found` first."""

    def make() -> list[torch.Tensor]:
        place = site(run, subject.searched_layer(run))
        others = [search_at(run, place, seed=run.seed + seed).cpu() for seed in OTHER_SEEDS]
        return [directions(run)[FOUND].cpu(), *others]

    return run.shared("pythia.stability searches", make)


def _compared(run: Run) -> Comparison:
    return run.shared("pythia.stability", lambda: _compare(run, _searches(run)))


def _compare(run: Run, sets: list[torch.Tensor]) -> Comparison:
    return compare(sets, _centring(run), torch.Generator().manual_seed(run.seed + 59))


def _centring(run: Run) -> Centring:
    centring: Centring = site(run, subject.searched_layer(run)).search.centring
    return centring


def _judge(run: Run, compared: Comparison, exhibits: tuple[Histogram, ...] = ()) -> Finding:
    """SUPPORTED or REFUTED when the whole interval lies on one side of the prediction; else INCONCLUSIVE."""
    predicted, origin = subject.prediction(run, PREDICTION, SIDE)
    matching = compared.matching
    stability = matching.stability(torch.Generator().manual_seed(run.seed + 61))
    status = predicted.status(stability)
    found = directions(run)[FOUND]
    seen = found.shape[1] - (_centring(run) is Centring.MEAN)
    on_sphere = compared.stability_on_the_sphere(torch.Generator().manual_seed(run.seed + 61))
    witness = {"stability": stability.to_json(), "predicted": predicted.to_json()}
    return Finding(
        status=status,
        evidence={
            JUDGED: [judged(predicted, stability, origin=origin)],
            "stability": stability.to_json(),
            "nearer_to_the_same_directions_than_to_chance": stability.low >= NEARER,
            "mean_matched_cosine": float(matching.cosines.mean()),
            "mean_matched_cosine_of_random_sets_of_the_same_second_moment": matching.null,
            "over_random_sets_of_the_whole_sphere_not_judged": {
                "stability": on_sphere.to_json(),
                "mean_matched_cosine_of_random_sets": float(compared.sphere.mean()),
            },
            f"share_matched_above_{AGAIN:g}": float((matching.cosines > AGAIN).double().mean()),
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
