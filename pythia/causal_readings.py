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
what there is room for, since directions that nearly point the same way leave little. The null permutes which direction
goes with which.

A constant that all tokens share, such as the logarithm of the softmax's denominator, leaves ranks as they are: logits
serve for log-probabilities.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from pythia.intervened import LOGITS_AT_ONCE, Pin, write
from pythia.loading import LanguageModel
from pythia.logit_weights import logit_weights
from pythia.next_token import NextTokenReadout
from sensverify.geometry import presence
from sensverify.interventions import set_presence

WEIGHTS, ABLATION, PINNED, BOOST = "logit weights", "ablation", "pinned sampling", "boost"
PRESENCE = 0.5
"""What a direction is boosted and pinned to: the middle of what searches set, and far above chance in any width."""
CONTEXTS, NULL_CONTEXTS, PROMPTS, PROMPT, STEPS = 256, 32, 16, 8, 24
PERMUTATIONS = 9999


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two readings of each of ``S`` directions agree: ``table [S, S]``, rank correlations of the first reading
    of direction ``i`` with the second of direction ``j``."""

    table: Tensor

    @property
    def matched(self) -> Tensor:
        """``C_ii [S]``."""
        return self.table.diagonal()

    @property
    def mispaired(self) -> Tensor:
        """For each direction the mean over all others, either way round, ``[S]``."""
        others = len(self.table) - 1
        return (self.table.sum(0) + self.table.sum(1) - 2 * self.matched) / (2 * others)

    @property
    def beyond_chance(self) -> Tensor:
        """How much of the way from ``mispaired`` to full agreement, 1, there is in ``matched``, ``[S]``."""
        return (self.matched - self.mispaired) / (1 - self.mispaired).clamp(min=1e-6)

    def p_value(self, generator: torch.Generator) -> float:
        """The share of permutations of directions, this pairing included, whose mean agreement is as high."""
        count = len(self.table)
        orders = torch.rand(PERMUTATIONS, count, generator=generator).argsort(1)
        permuted = self.table.gather(1, orders.T).mean(0)  # [S, P] -> [P]
        as_high = int((permuted >= self.matched.mean() - 1e-12).sum())
        return (1 + as_high) / (1 + PERMUTATIONS)


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
    return Agreement(table=ranks(first) @ ranks(second).T)


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
