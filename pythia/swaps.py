"""Swaps in a language model: an activation is given the direction of another, or its norm, and the next-token
distribution answers.

Contexts are paired at equal positions, windows apart. What the swaps and the changes of equal size beside them make of
an activation is in :mod:`sensverify.swaps`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from pythia.corpus import Corpus
from pythia.loading import LanguageModel
from pythia.next_token import NextTokenReadout
from pythia.suffix import CleanRun
from sensverify.errors import InputError
from sensverify.readout import Batch
from sensverify.swaps import DIRECTION, NORM, laddered, ratio, swapped

DEPTHS = (0.25, 0.5, 0.75)


@dataclasses.dataclass(frozen=True)
class Swaps:
    """At one layer, divergences ``[B]`` of each intervention, one context per window.

    ``later`` has those of the two swaps, averaged over the later positions; ``ladder [len(LADDER), B]`` those of
    changes of given length; ``change [B]`` is ``|‖Px'‖/‖Px‖ − 1|``, ``cosine [B]`` that between the directions swapped.
    """

    layer: int
    depth: int
    effects: Mapping[str, Tensor]
    later: Mapping[str, Tensor]
    ladder: Mapping[str, Tensor]
    change: Tensor
    cosine: Tensor

    def ratio(self, top: str = DIRECTION, bottom: str = NORM) -> Tensor:
        """Context by context, ``[B]``."""
        return ratio(self.effects[top], self.effects[bottom])

    @property
    def place(self) -> str:
        """For tables, with the share of the depth that this is."""
        return (
            f"after {self.layer + 1} of {self.depth} blocks ({100 * (self.layer + 1) / self.depth:.0f} % of the depth)"
        )


def layers_at(depth: int) -> list[int]:
    """The blocks after which one is nearest to 25, 50 and 75 % of ``depth``, the deeper one of two that are as near.

    Never the last one; in shallow models they are fewer than three."""
    return sorted({max(0, min(depth - 2, int(share * depth + 0.5) - 1)) for share in DEPTHS})


@torch.no_grad()
def measure(
    model: LanguageModel,
    corpus: Corpus,
    layer: int,
    *,
    contexts: int,
    later: tuple[int, ...] = (),
    seed: int = 0,
    ladder: bool = True,
) -> Swaps:
    """Swap and turn after block ``layer``, at one position of each of at most ``contexts`` held-out windows.

    Windows are permuted; each one's partner is the next, at the same position, which is a token of the text in both,
    but not the first of the window. Raises :class:`~sensverify.errors.InputError` where there is no such position.
    """
    generator = torch.Generator(device=model.device).manual_seed(seed)
    rows = torch.randperm(len(corpus.held_out), generator=generator, device=generator.device)[:contexts]
    windows, real = corpus.held_out[rows], corpus.held_out_real[rows]
    later = tuple(offset for offset in later if offset < windows.shape[1] - 2)
    allowed = dataclasses.replace(corpus.allowed("held_out"), real=real)

    def opened(offset: int) -> NextTokenReadout:
        return NextTokenReadout(
            model, windows, layer=layer, offset=offset, first_position=corpus.first_position, allowed=allowed
        )

    readout = opened(0)
    own, positions = paired_positions(readout.counted, real, later, generator)
    batch, centring = readout.at(own, positions), readout.centring
    other = readout.residuals[(own + 1) % len(windows), positions]
    made = swapped(batch.x, other, centring, generator)
    effects = dict(zip(made, _divergences(readout, batch, torch.stack(list(made.values()))), strict=True))
    steps: dict[str, Tensor] = {}
    if ladder:
        kinds = laddered(batch.x, other, centring, generator)
        steps = {name: _divergences(readout, batch, x) for name, x in kinds.items()}
    two = torch.stack([made[DIRECTION], made[NORM]])
    places = [opened(offset) for offset in later]
    afterwards = [_divergences(place, place.at(own, positions), two) for place in places]
    x, y = centring.project(batch.x), centring.project(other)
    return Swaps(
        layer=layer,
        depth=model.depth,
        effects=effects,
        later=dict(zip((DIRECTION, NORM), torch.stack(afterwards).mean(0), strict=True)) if afterwards else {},
        ladder=steps,
        change=(y.norm(dim=-1) / x.norm(dim=-1) - 1).abs(),
        cosine=torch.nn.functional.cosine_similarity(x, y, dim=-1),
    )


def paired_positions(
    counted: Tensor, real: Tensor, later: tuple[int, ...], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Windows and in each a position ``[B]`` that is ``counted [N, L]`` in it and in the next window, not its first,
    and has ``real`` tokens so many positions ``later``. Windows without any are left out."""
    both, length = counted & counted.roll(-1, 0), counted.shape[1]
    both[:, 0] = False
    for offset in later:
        both[:, : length - offset] &= real[:, offset:]
        both[:, length - offset :] = False
    drawn = torch.rand(both.shape, generator=generator, device=generator.device).to(both.device)
    rows = both.any(1).nonzero()[:, 0]
    if not len(rows):
        raise InputError(
            expected="two held-out windows with tokens of the text at the same position",
            got="none",
            remedy="pass a longer --text file, or a shorter --context",
        )
    return rows, drawn.masked_fill(~both, -1).argmax(1)[rows]


def _divergences(readout: NextTokenReadout, batch: Batch[CleanRun], x: Tensor) -> Tensor:
    """``[S, B]`` nats, of activations ``x [S, B, d]``."""
    return readout.distance(readout.clean(batch), readout.read(batch, x))
