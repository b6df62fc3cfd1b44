"""What a direction looks like: the held-out contexts where it is most present, the tokens it writes for.

Logit weights are those of the direct path (:mod:`pythia.logit_weights`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from pythia.intervened import presences_in
from pythia.loading import LanguageModel
from pythia.logit_weights import extreme_tokens, logit_weights, text_of
from pythia.readout import LanguageModelReadout
from sensverify.exhibits import DirectionCard, DirectionGallery, Excerpt, FoundRule, PresenceCounts
from sensverify.sparsity import CHANCE_MULTIPLE

EXCERPTS, LOWEST = 6, 3
"""Contexts of highest and of lowest presence on a card: hundreds of cards have to fit into one page."""
BEFORE, AFTER = 12, 6
CHUNK = 32
"""So many directions are held against all positions at once."""
FINE_BINS = 400


@dataclasses.dataclass(frozen=True, kw_only=True)
class CardGroup:
    """Directions ``[K, d]`` that are shown under one name, with the scores ``[K]`` of them and of their negatives.

    ``rules``: the rule found for a direction, by its index, where there is one.
    """

    name: str
    directions: Tensor
    plus: Tensor
    minus: Tensor | None = None
    rules: Mapping[int, FoundRule] = dataclasses.field(default_factory=dict)


def gallery(
    model: LanguageModel, readout: LanguageModelReadout, groups: Sequence[CardGroup], *, random_mean: float
) -> DirectionGallery:
    """A card for each direction of ``groups``, by score; ``random_mean`` is the mean SeS of random directions.

    All that is shown is measured on the windows of ``readout``, which should be held out from the search.
    """
    seen = torch.unique(readout.windows[readout.counted])
    made = [card for group in groups for card in _cards(model, readout, group, seen, random_mean)]
    reach = max((_reach(fine) for _, fine in made), default=1)
    cards = [dataclasses.replace(card, presences=_counts(fine, reach)) for card, fine in made]
    return DirectionGallery(
        title=f"Directions to browse, layer {readout.layer}",
        caption="Score: mean SeS on held-out contexts; ratio: over the mean of random directions; present: share of "
        f"held-out positions with a presence of at least $4/\\sqrt d = {threshold(readout.width):.2f}$ in size, of "
        f"either sign. Each card has the {EXCERPTS} held-out contexts of highest presence and the {LOWEST} of lowest, "
        "one per window, with the presence there; the token at that position is highlighted. A highest presence below "
        "0 says that activations point away from the direction everywhere. Then follow the tokens of this text that "
        "the direction raises and lowers most by the direct path to the logits, and its presence at all held-out "
        "positions.",
        cards=sorted(cards, key=lambda card: -card.score_plus),
    )


def threshold(width: int) -> float:
    """The size from which a presence counts: :data:`sensverify.sparsity.CHANCE_MULTIPLE` over ``√width``."""
    return CHANCE_MULTIPLE / math.sqrt(width)


def _cards(
    model: LanguageModel, readout: LanguageModelReadout, group: CardGroup, seen: Tensor, random_mean: float
) -> Iterator[tuple[DirectionCard, Tensor]]:
    """The cards of one group, each with its fine histogram of presence."""
    least, counted = threshold(readout.width), readout.counted_inside
    for start in range(0, len(group.directions), CHUNK):
        directions = group.directions[start : start + CHUNK]
        weights, rho = logit_weights(model, directions), presences(readout, directions)
        for row in range(len(directions)):
            index = start + row
            score = float(group.plus[index])
            card = DirectionCard(
                name=f"{group.name} {index}",
                group=group.name,
                score_plus=score,
                score_minus=None if group.minus is None else float(group.minus[index]),
                ratio=score / random_mean if random_mean > 0 else None,
                rule=group.rules.get(index),
                presence_share=float((rho[row][counted].abs() >= least).double().mean()),
                excerpts=_excerpts(model, readout, rho[row].masked_fill(~counted, -torch.inf), EXCERPTS),
                lowest=_excerpts(model, readout, rho[row].masked_fill(~counted, torch.inf), LOWEST, largest=False),
                promoted=extreme_tokens(model, weights[row], seen, largest=True),
                demoted=extreme_tokens(model, weights[row], seen, largest=False),
            )
            yield card, torch.histc(rho[row][counted].float().cpu().clamp(-1, 1), FINE_BINS, -1, 1).long()


def _reach(fine: Tensor) -> int:
    """In tenths, how far from 0 the presences go."""
    occupied = fine.nonzero()[:, 0] - FINE_BINS // 2
    if not len(occupied):
        return 1
    farthest = max(int(occupied.max()) + 1, -int(occupied.min()))
    return -(-farthest * 20 // FINE_BINS)


def _counts(fine: Tensor, reach: int) -> PresenceCounts:
    """The fine histogram from ``-reach`` to ``reach`` tenths in 40 bins, alike for all cards of a gallery."""
    middle, half = FINE_BINS // 2, reach * FINE_BINS // 20
    counts = fine[middle - half : middle + half].view(40, -1).sum(1)
    return PresenceCounts(low=-reach / 10, high=reach / 10, counts=counts.tolist())


def presences(readout: LanguageModelReadout, directions: Tensor) -> Tensor:
    """``ρ [S, N, L - first_position]`` of ``directions [S, d]`` at every position behind BOS; those that count are
    :attr:`pythia.readout.LanguageModelReadout.counted_inside`."""
    return presences_in(readout.residuals[:, readout.first_position :], directions, readout.centring)


def _excerpts(
    model: LanguageModel, readout: LanguageModelReadout, rho: Tensor, count: int, *, largest: bool = True
) -> list[Excerpt]:
    """The windows with the highest or lowest presence ``rho [N, L']``, each where it is so."""
    return extreme_excerpts(model, readout.windows[:, readout.first_position :], rho, count, largest=largest)


def extreme_excerpts(model: LanguageModel, windows: Tensor, rho: Tensor, count: int, *, largest: bool) -> list[Excerpt]:
    """The ``count`` of ``windows [N, L']`` with the highest or lowest presence ``rho [N, L']``, each where it is so."""
    return excerpts_at(model, windows, rho, *extreme_positions(rho, count, largest=largest))


def extreme_positions(rho: Tensor, count: int, *, largest: bool) -> tuple[Tensor, Tensor]:
    """Rows ``[m]`` of the at most ``count`` windows with the highest or lowest presence ``rho [N, L']``, and where in
    each it is so, ``[m]``.

    Positions that do not count have an infinite presence, below or above all others; a window of such is left out.
    """
    peak, position = rho.max(dim=1) if largest else rho.min(dim=1)
    rows = peak.topk(min(count, int(peak.isfinite().sum())), largest=largest).indices
    return rows, position[rows]


def excerpts_at(model: LanguageModel, windows: Tensor, rho: Tensor, rows: Tensor, positions: Tensor) -> list[Excerpt]:
    """The contexts of ``windows [N, L']`` in ``rows [m]`` at ``positions [m]``, with their presence ``rho [N, L']``."""
    excerpts = []
    for row, at in zip(rows.tolist(), positions.tolist(), strict=True):
        tokens = windows[row].tolist()
        excerpts.append(
            Excerpt(
                before=_beside(model, tokens[:at], BEFORE, last=True),
                token=text_of(model, [tokens[at]]),
                after=_beside(model, tokens[at + 1 :], AFTER, last=False),
                presence=float(rho[row, at]),
            )
        )
    return excerpts


def _beside(model: LanguageModel, tokens: list[int], count: int, *, last: bool) -> str:
    """The first or last ``count`` of ``tokens`` as text; four times as many where they are short, as characters are."""
    text = ""
    for many in (count, 4 * count):
        text = text_of(model, tokens[-many:] if last else tokens[:many])
        if len(text) > 2 * count:
            break
    return text
