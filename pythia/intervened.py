"""The whole model with the presence of a direction set after one block: losses, logits, and text it then writes.

Beside the search, which moves one position at a time, this asks what a direction does to the model's behaviour: its
presence is set at *every* position of a text (but BOS, which is never intervened on), and everything behind runs as it
always does. Setting is ``I_s^α`` (RN-1), so the norm of every activation stays what it was. Ablation is to presence 0,
or to the mean presence, which takes away what tells contexts apart and leaves what is always there; boosting and
pinning are to a high presence.

Text is drawn by the Gumbel trick: the next token is the largest of logits plus noise. Two ways of running the model
that share the noise write the same text for as long as their logits agree, so that differences are the intervention's.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pythia.loading import LanguageModel
from sensverify.claims import Progress, silent
from sensverify.geometry import Centring, presence, unit_directions
from sensverify.interventions import set_presence_of_pairs

LOGITS_AT_ONCE = 2**24
"""Entries of the largest table of logits that is made at once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pin:
    """Set the presence of a direction after block ``layer``.

    ``directions [R, d]`` are one for each row of a batch, or ``[1, d]`` the same for all; ``presence [R]`` or ``[1]``.
    """

    layer: int
    directions: Tensor
    presence: Tensor

    def rows(self, chosen: slice) -> Pin:
        """The pin of some rows of a batch."""
        if len(self.directions) == 1 and len(self.presence) == 1:
            return self
        count = max(len(self.directions), len(self.presence))
        directions, level = self.directions.expand(count, -1), self.presence.expand(count)
        return dataclasses.replace(self, directions=directions[chosen], presence=level[chosen])


@contextlib.contextmanager
def pinned(model: LanguageModel, pin: Pin | None, *, skip: int = 0, where: Tensor | None = None) -> Iterator[None]:
    """Within, every forward pass has the presence set at all positions but the first ``skip`` of each row, or of these
    at those alone that ``where [R, L]`` names."""
    if pin is None:
        yield
        return
    centring = model.architecture.centring
    units = unit_directions(pin.directions.to(model.device), centring)
    level = pin.presence.to(model.device)

    def set_everywhere(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        x = output if isinstance(output, Tensor) else output[0]
        rows, length, width = x.shape
        if length > skip:
            s = units.to(x).expand(rows, width)[:, None].expand(rows, length - skip, width)
            alpha = level.to(x).expand(rows)[:, None].expand(rows, length - skip)
            moved = set_presence_of_pairs(x[:, skip:].flatten(0, 1), s.flatten(0, 1), alpha.flatten(), centring)
            moved = torch.cat([x[:, :skip], moved.view(rows, length - skip, width)], 1)
            x = moved if where is None else torch.where(where[..., None], moved, x)
        return x if isinstance(output, Tensor) else (x, *output[1:])

    handle = model.architecture.modules[pin.layer].register_forward_hook(set_everywhere)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def residuals_after(model: LanguageModel, layer: int, windows: Tensor) -> Tensor:
    """Block ``layer``'s output ``[N, L, d]`` for ``windows [N, L]``, nothing moved."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        kept.append(output if isinstance(output, Tensor) else output[0])

    handle = model.architecture.modules[layer].register_forward_hook(keep)
    try:
        for part in torch.split(windows, _rows_at_once(windows.shape[1] * model.width)):
            model.architecture.body(input_ids=part, use_cache=False)
    finally:
        handle.remove()
    return torch.cat(kept)


def presences_in(residuals: Tensor, directions: Tensor, centring: Centring) -> Tensor:
    """``ρ [S, N, L]`` of ``directions [S, d]`` in ``residuals [N, L, d]``."""
    flat = presence(residuals.flatten(0, 1), directions.to(residuals), centring)
    return flat.unflatten(1, residuals.shape[:2])


@torch.no_grad()
def window_losses(
    model: LanguageModel, windows: Tensor, pin: Pin | None = None, *, first: int = 0, where: Tensor | None = None
) -> Tensor:
    """Mean next-token loss in nats of each of ``windows [N, L]``, ``[N]``, over the positions that are intervened on:
    those of ``where [N, L]`` whose next token is one of them, or all from ``first`` on. NaN for a window without any.

    What BOS predicts is left out: nothing is intervened on there; so is what special tokens and padding follow on.
    """
    losses = []
    for chosen in _spans(len(windows), windows.shape[1] * len(model.architecture.unembedding.weight)):
        part, here = windows[chosen], None if where is None else where[chosen]
        with pinned(model, pin and pin.rows(chosen), skip=first, where=here):
            stream = model.architecture.body(input_ids=part, use_cache=False).last_hidden_state[:, first:-1]
        logits = model.architecture.unembedding(stream).float()
        each = functional.cross_entropy(logits.flatten(0, 1), part[:, first + 1 :].flatten(), reduction="none")
        counted = torch.ones_like(part[:, first:-1], dtype=torch.bool)
        if here is not None:
            counted = here[:, first:-1] & here[:, first + 1 :]
        losses.append((each.view(len(part), -1) * counted).sum(1) / counted.sum(1))
    return torch.cat(losses)


@torch.no_grad()
def last_log_probabilities(
    model: LanguageModel, prompts: Tensor, tokens: Tensor, pin: Pin | None = None, *, first: int = 0
) -> Tensor:
    """``log p [N, m]`` of ``tokens [N, m]`` after ``prompts [N, L]``."""
    found = []
    for chosen in _spans(len(prompts), prompts.shape[1] * len(model.architecture.unembedding.weight)):
        with pinned(model, pin and pin.rows(chosen), skip=first):
            stream = model.architecture.body(input_ids=prompts[chosen], use_cache=False).last_hidden_state[:, -1]
        logits = model.architecture.unembedding(stream).float()
        found.append(logits.log_softmax(-1).gather(1, tokens[chosen]))
    return torch.cat(found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """What was written: ``tokens [N, T]``, and for each row the mean over its ``T`` steps of the distribution that the
    next token was drawn from, ``[N, V]``: the expected frequencies of tokens, with far less noise than a count."""

    tokens: Tensor
    frequencies: Tensor


@torch.no_grad()
def write(
    model: LanguageModel,
    prompts: Tensor,
    steps: int,
    *,
    seed: int,
    pin: Pin | None = None,
    first: int = 0,
    where: Tensor | None = None,
    copies: int = 1,
    progress: Progress = silent,
) -> Written:
    """Go on from ``prompts [N, L]`` for ``steps`` tokens, or as many as fit in the model's context.

    The pin is set at the positions ``where [N, L]`` of the prompts, by default all from ``first`` on, and at all that
    is written. Rows are ``copies`` groups of ``N / copies``; row ``i`` of every group has the same noise, drawn from
    ``seed``.
    """
    limit = int(getattr(model.config, "max_position_embeddings", prompts.shape[1] + steps))
    steps = max(1, min(steps, limit - prompts.shape[1]))
    generator = torch.Generator().manual_seed(seed)
    vocabulary = len(model.architecture.unembedding.weight)
    own = len(prompts) // copies
    cache, entered, skip = None, prompts, first
    total = torch.zeros(len(prompts), vocabulary, dtype=torch.float32, device=model.device)
    tokens = []
    for step in range(steps):
        with pinned(model, pin, skip=skip, where=where):
            out = model.architecture.body(input_ids=entered, past_key_values=cache, use_cache=True)
        logits = model.architecture.unembedding(out.last_hidden_state[:, -1]).float()
        total += logits.softmax(-1)
        # Uniform numbers are drawn in float32 above 0, so that their double logarithm is finite.
        uniform = torch.rand(own, vocabulary, generator=generator).clamp_(1e-7, 1 - 1e-7)
        noise = -(-uniform.log()).log()
        chosen = (logits.view(copies, own, -1) + noise.to(logits)).argmax(-1).view(-1, 1)
        tokens.append(chosen)
        cache, entered, skip, where = out.past_key_values, chosen, 0, None
        progress("writing", step + 1, steps)
    return Written(tokens=torch.cat(tokens, 1), frequencies=total / steps)


def _rows_at_once(entries_of_a_row: int) -> int:
    return max(1, LOGITS_AT_ONCE // max(1, entries_of_a_row))


def _spans(rows: int, entries_of_a_row: int) -> Iterator[slice]:
    size = _rows_at_once(entries_of_a_row)
    return (slice(start, start + size) for start in range(0, rows, size))
