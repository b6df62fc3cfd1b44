"""All directions of a run at one layer, to browse: every group with its scores, its contexts and its rules.

The groups are those of :mod:`pythia.compared`, scored on the contexts that PY-3 and PY-4 are judged on; the rules are
those that PY-5 counts, found by the same search on the same halves of the held-out windows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pythia import compared, subject
from pythia.compared import FOUND, RANDOM
from pythia.explain import explain_all
from pythia.gallery import CardGroup, gallery, presences
from pythia.group_scores import NEGATED, scores
from pythia.readout import LanguageModelReadout
from sensverify.claims import Run
from sensverify.exhibits import DirectionGallery, FoundRule
from sensverify.rules import RuleOptions

BARE = RuleOptions(shuffles=0)
"""The rule and its accuracy alone: chance is PY-5's concern."""


def browsable(run: Run, layer: int) -> DirectionGallery:
    """Cards of all groups at ``layer``."""
    held_out = compared.language_readouts(compared.site(run, layer))[1]
    row = scores(run, layer)
    groups = [
        CardGroup(
            name=name,
            directions=directions,
            plus=_means(row.effects[name]),
            minus=_means(row.effects[NEGATED]) if name == FOUND else None,
            rules=_rules(run, held_out, directions),
        )
        for name, directions in compared.directions(run, layer).items()
    ]
    random_mean = float(_means(row.effects[RANDOM]).mean())
    return gallery(subject.model(run), held_out, groups, random_mean=random_mean)


def _means(effects: Tensor) -> Tensor:
    return effects.double().mean(1)


def _rules(run: Run, readout: LanguageModelReadout, directions: Tensor) -> dict[int, FoundRule]:
    explanations = explain_all(
        subject.model(run),
        readout.windows,
        torch.cat([presences(readout, rows) for rows in directions.split(32)]),
        first_position=readout.first_position,
        counted=readout.counted_inside,
        options=BARE,
        seed=run.seed,
    )
    return {
        index: FoundRule(text=one.rule.words, accuracy=one.accuracy.value, low=one.accuracy.low, high=one.accuracy.high)
        for index, one in enumerate(explanations.each)
    }
