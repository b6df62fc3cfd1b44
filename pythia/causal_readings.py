"""Three readings of a direction, and how far two of them agree, for PY-9.

Each reading of a direction ``s`` is a number for every token of the text:

- *logit weights*: ``W_U(γ ⊙ Ps)``, the direct path, without running the model (:mod:`pythia.logit_weights`);
- *ablation*: how much higher a token's logit is at the same position for what presence there is, against presence 0, as
  the slope through the origin over contexts, ``Σ ρ(ℓ(x) − ℓ(I_s^0 x)) / Σ ρ²``: contexts where the direction is absent
  say nothing;
- *pinned sampling*: the log ratio of a token's expected frequency in text written with the direction pinned, over that
  in text written without, from the same prompts with the same random numbers.

Two readings of one direction *agree* as far as their ranks over tokens correlate. That alone proves little: all
interventions push towards frequent tokens, or away from them. So agreement is held against that of one direction's
reading with another's, ``m_i = ½(mean_{j≠i} C_ij + mean_{j≠i} C_ji)``, by which what all directions have in common
counts for nothing. Agreement *beyond chance* is ``(C_ii − m_i)/(1 − m_i)``, as Cohen's κ is of agreement: the share of
what there is room for, since directions that nearly point the same way leave little.

All directions are read at the same tokens, and what two readings have in common by chance at these, many directions
show at once: as samples they are not independent, least of all in a vocabulary of a few characters. So tokens are the
samples: one null permutes the tokens of one reading, for all directions alike. Another permutes which direction goes
with which, since what all directions share may weigh more in some than in others; p is the larger of the two. Intervals
resample tokens, for all directions alike, and directions; where a reading is of nothing they are wider than they need
to be (Owen 2007), never narrower. Contexts and prompts, which all directions share too, are those that were drawn.

A constant that all tokens share, such as the logarithm of the softmax's denominator, leaves ranks as they are: logits
serve for log-probabilities.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pythia.intervened import LOGITS_AT_ONCE, Pin, write
from pythia.loading import LanguageModel
from pythia.logit_weights import logit_weights
from pythia.next_token import NextTokenReadout
from sensverify.geometry import presence
from sensverify.interventions import set_presence
from sensverify.statistics import bootstrap_weights

WEIGHTS, ABLATION, PINNED, BOOST = "logit weights", "ablation", "pinned sampling", "boost"
PRESENCE = 0.5
"""What a direction is boosted and pinned to: the middle of what searches set, and far above chance in any width."""
CONTEXTS, NULL_CONTEXTS, PROMPTS, PROMPT, STEPS = 256, 32, 16, 8, 24
PERMUTATIONS = 1999
AT_ONCE = 1 << 22
"""So many numbers of a table of resamples or permutations are held at once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two readings of each of ``S`` directions agree: ``first`` and ``second [S, v]`` are their ranks over the
    same tokens, centred and of length 1."""

    first: Tensor
    second: Tensor

    @functools.cached_property
    def table(self) -> Tensor:
        """``C [S, S]``, rank correlations of the first reading of direction ``i`` with the second of ``j``."""
        return self.first @ self.second.T

    @property
    def matched(self) -> Tensor:
        """``C_ii [S]``."""
        return self.table.diagonal()

    @property
    def mispaired(self) -> Tensor:
        """For each direction the mean over all others, either way round, ``[S]``."""
        return _mispaired(self.matched, self.table.sum(1), self.table.sum(0))

    @property
    def beyond_chance(self) -> Tensor:
        """How much of the way from ``mispaired`` to full agreement, 1, there is in ``matched``, ``[S]``."""
        return _beyond(self.matched, self.mispaired)

    def resampled(self, weights: Tensor) -> Tensor:
        """``beyond_chance [R, S]`` where tokens count by ``weights [R, v]``, each row of sum 1; a token's rank stays
        what it is among all."""
        size = math.sqrt(self.first.shape[1])  # ranks of variance 1: what rounding leaves of none is 0
        first, second = size * self.first, size * self.second
        mean, other_mean = weights @ first.T, weights @ second.T
        deviation = (weights @ first.T.square() - mean.square()).clamp(min=1e-12).sqrt()
        other_deviation = (weights @ second.T.square() - other_mean.square()).clamp(min=1e-12).sqrt()
        scale, other_scale = 1 / deviation, 1 / other_deviation
        matched = (weights @ (first * second).T - mean * other_mean) * scale * other_scale
        # Σ_j C_ij is the covariance with one variable, Σ_j of the second ranks over their deviations: no table is made.
        rows = (weights * (other_scale @ second)) @ first.T - mean * (other_mean * other_scale).sum(1, keepdim=True)
        columns = (weights * (scale @ first)) @ second.T - other_mean * (mean * scale).sum(1, keepdim=True)
        return _beyond(matched, _mispaired(matched, rows * scale, columns * other_scale))

    def p_value(self, generator: torch.Generator, permutations: int = PERMUTATIONS) -> float:
        """The larger one of those by ``permutations`` of tokens and of directions: both nulls have to be rejected."""
        return max(self.p_by_tokens(generator, permutations), self.p_by_directions(generator, permutations))

    def p_by_directions(self, generator: torch.Generator, permutations: int) -> float:
        """The share of permutations of which direction goes with which, the order as it is included, with as high a
        mean agreement."""
        orders = torch.rand(permutations, len(self.table), generator=generator).argsort(1)
        permuted = self.table.gather(1, orders.T).mean(0)  # [S, P] -> [P]
        return (1 + int((permuted >= self.matched.mean() - 1e-12).sum())) / (1 + permutations)

    def p_by_tokens(self, generator: torch.Generator, permutations: int) -> float:
        """The share of permutations of the second reading's tokens, for all directions alike and the order as it is
        included, with as much agreement beyond chance in the mean over directions."""
        (count, tokens), as_high = self.first.shape, 0
        at_once = max(1, AT_ONCE // (count * tokens))
        own = float(self.beyond_chance.mean()) - 1e-12
        first_sum, second_sum = self.first.sum(0), self.second.sum(0)
        for start in range(0, permutations, at_once):
            some = min(at_once, permutations - start)
            orders = torch.rand(some, tokens, generator=generator).argsort(1)
            second = self.second[:, orders]  # [S, P, v]
            matched = (second @ self.first[:, :, None])[..., 0].T  # [P, S]
            rows, columns = second_sum[orders] @ self.first.T, (second @ first_sum).T
            as_high += int((_beyond(matched, _mispaired(matched, rows, columns)).mean(1) >= own).sum())
        return (1 + as_high) / (1 + permutations)


def _mispaired(matched: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Mean of a table's entries off the diagonal ``matched``, from its sums by row and by column; all ``[..., S]``."""
    return (rows + columns - 2 * matched) / (2 * (matched.shape[-1] - 1))


def _beyond(matched: Tensor, mispaired: Tensor) -> Tensor:
    return (matched - mispaired) / (1 - mispaired).clamp(min=1e-6)


def resampled_tokens(tokens: int, resamples: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Bootstrap weights of ``tokens``, ``[r, tokens]`` at a time, ``resamples`` of them in all."""
    at_once = max(1, AT_ONCE // tokens)
    for start in range(0, resamples, at_once):
        yield bootstrap_weights(tokens, min(at_once, resamples - start), generator)


def ranks(values: Tensor) -> Tensor:
    """Ranks along the last axis of ``values [S, v]``, ties sharing their mean, centred and of length 1."""
    rows = []
    for row in values.double().cpu():
        _, group, counts = torch.unique(row, return_inverse=True, return_counts=True)
        last = counts.cumsum(0).double()
        rank = (last - (counts.double() - 1) / 2)[group]
        centred = rank - rank.mean()
        rows.append(centred / centred.norm().clamp(min=1e-12))
    return torch.stack(rows)


def agree(first: Tensor, second: Tensor) -> Agreement:
    """Spearman's rank correlations of two readings ``[S, v]`` of the same directions over the same tokens."""
    return Agreement(first=ranks(first), second=ranks(second))


def readings(
    loaded: LanguageModel, readout: NextTokenReadout, directions: Tensor, tokens: Tensor, *, seed: int
) -> dict[str, Tensor]:
    """All readings of ``directions [S, d]`` after block ``readout.layer`` at ``tokens [v]``, ``[S, v]`` each."""
    ablated, boosted = interventions_on_logits(readout, directions, tokens, seed=seed)
    return {
        WEIGHTS: logit_weights(loaded, directions)[:, tokens],
        ABLATION: ablated,
        PINNED: pinned_log_ratios(loaded, readout, directions, tokens, seed=seed),
        BOOST: boosted,
    }


@torch.no_grad()
def largest_null_change(readout: NextTokenReadout, directions: Tensor, tokens: Tensor, *, seed: int) -> float:
    """The largest change of any logit when each presence is set to what it is: 0 up to rounding."""
    generator = torch.Generator(device=readout.device).manual_seed(seed + 41)
    batch = readout.sample(min(NULL_CONTEXTS, len(readout.windows)), generator)
    clean, unembedding = readout.clean(batch), readout.model.architecture.unembedding.weight[tokens]
    rho, largest = presence(batch.x, directions, readout.centring), 0.0
    for s, one in zip(directions, rho, strict=True):
        same = readout.read(batch, set_presence(batch.x, s[None], one, readout.centring))[0]
        largest = max(largest, float(((same - clean) @ unembedding.T).abs().max()))
    return largest


@torch.no_grad()
def interventions_on_logits(
    readout: NextTokenReadout, directions: Tensor, tokens: Tensor, *, seed: int
) -> tuple[Tensor, Tensor]:
    """The effect of ablation on logits per unit of presence, and that of presence 0 to :data:`PRESENCE`, ``[S, v]``."""
    generator = torch.Generator(device=readout.device).manual_seed(seed + 41)
    batch = readout.sample(min(CONTEXTS, len(readout.windows)), generator)
    clean, rows = readout.clean(batch), []
    rho = presence(batch.x, directions, readout.centring)
    for s, one in zip(directions, rho, strict=True):
        without, boosted = (
            readout.read(batch, set_presence(batch.x, s[None], alpha, readout.centring))[0] for alpha in (0.0, PRESENCE)
        )
        slope = one @ (clean - without) / one.square().sum().clamp(min=1e-12)
        rows.append(torch.stack([slope, (boosted - without).mean(0)]))
    # Logits are linear in the final-normed stream: means are taken of d numbers, not of as many as there are tokens.
    unembedding = readout.model.architecture.unembedding.weight[tokens]
    ablated, raised = torch.stack(rows, 1) @ unembedding.T
    return ablated, raised


def pinned_log_ratios(
    loaded: LanguageModel, readout: NextTokenReadout, directions: Tensor, tokens: Tensor, *, seed: int
) -> Tensor:
    """Log ratios ``[S, v]`` of tokens' expected frequencies, pinned over not."""
    first, windows = readout.first_position, readout.windows
    generator = torch.Generator().manual_seed(seed + 43)
    chosen = torch.randperm(len(windows), generator=generator)[:PROMPTS].to(windows.device)
    length = first + min(PROMPT, (windows.shape[1] - first) // 2)
    prompts, where = windows[chosen, :length], readout.counted[chosen, :length]
    plain = write(loaded, prompts, STEPS, seed=seed, first=first).frequencies.mean(0)
    vocabulary = len(loaded.architecture.unembedding.weight)
    at_once = max(1, LOGITS_AT_ONCE // (len(prompts) * vocabulary))
    found = []
    for part in torch.split(directions, at_once):
        pin = Pin(
            layer=readout.layer,
            directions=part.repeat_interleave(len(prompts), 0),
            presence=torch.full((len(part) * len(prompts),), PRESENCE, device=part.device),
        )
        written = write(
            loaded, prompts.repeat(len(part), 1), STEPS, seed=seed, pin=pin, first=first,
            where=where.repeat(len(part), 1), copies=len(part),
        )  # fmt: skip
        found.append(written.frequencies.view(len(part), len(prompts), -1).mean(1))
    frequencies = torch.cat(found)[:, tokens].clamp(min=1e-30)
    return frequencies.log() - plain[tokens].clamp(min=1e-30).log()
