"""How much of a direction's presence the token at its position decides, context left aside.

Presence is predicted by the mean presence of the same token in one half of the windows, and the share of its variance
that this explains is measured in the other half: ``R² = 1 − Σ(ρ − ρ̂)² / Σ(ρ − ρ̄)²``, where the token's mean is drawn
towards the mean of all by one position's weight. ``R²`` is 1 where the token alone decides, 0 where it says nothing.

Of a token that the first half does not have, or has once, nothing is known, and most tokens of a short text are such:
counted as unexplained, they would hold ``R²`` far below 1 where the token decides everything. So only positions are
scored whose token occurs at least twice in the first half, and the *coverage*, their share of all positions, is said.
Of a token seen twice the shrunken mean leaves a ninth of the variance: held out, ``R²`` lies a little below the true
share, and it says nothing of rare tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

SHRINKAGE = 1.0
"""Positions with the mean of all that each token's mean counts besides its own."""
OFTEN_ENOUGH = 2
"""Positions of the fitting half that a token must stand at to be scored in the other."""
COVERED = 0.5
"""The share of positions that has to be scored before anything is concluded."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenIdentity:
    """Sums over the scored positions of each held-out window ``[K, W]``: squared error of the prediction, and of the
    mean. ``coverage``: the share of the positions that were scored."""

    error: Tensor
    total: Tensor
    coverage: float

    @property
    def covered(self) -> bool:
        """Whether enough positions were scored to conclude anything."""
        return self.coverage >= COVERED

    def explained(self, weights: Tensor | None = None) -> Tensor:
        """``R²`` of each direction, ``[K]``; or ``[R, K]`` when windows weigh ``weights [R, W]``. 0 where nothing
        varies, or nothing was scored."""
        windows = torch.ones(1, self.error.shape[1], dtype=torch.float64) if weights is None else weights
        total = windows @ self.total.T
        tiny = torch.finfo(torch.float64).tiny
        values = torch.where(total > 0, 1 - (windows @ self.error.T) / total.clamp(min=tiny), 0.0)
        return values[0] if weights is None else values

    @classmethod
    def joined(cls, parts: Sequence[TokenIdentity]) -> TokenIdentity:
        """The directions of all ``parts``, measured in the same windows; covered as the least of them."""
        return cls(
            error=torch.cat([part.error for part in parts]),
            total=torch.cat([part.total for part in parts]),
            coverage=min(part.coverage for part in parts),
        )


def token_identity(
    tokens: Tensor, presence: Tensor, generator: torch.Generator, counted: Tensor | None = None
) -> TokenIdentity:
    """What ``tokens [N, L]`` say of ``presence [K, N, L]`` at the positions ``counted [N, L]``, by default all; windows
    are halved at random.

    Raises ``ValueError`` for shapes that do not fit and for a single window.
    """
    if presence.shape[1:] != tokens.shape or len(tokens) < 2:
        raise ValueError(f"expected presences [K, {tokens.shape}] of two windows or more, got {tuple(presence.shape)}")
    order = torch.randperm(len(tokens), generator=generator)
    codes = torch.unique(tokens.cpu(), return_inverse=True)[1]
    fit, held = order[: len(order) // 2], order[len(order) // 2 :].sort().values
    weight = torch.ones(tokens.shape, dtype=torch.float64) if counted is None else counted.cpu().double()
    rho = presence.detach().cpu().double().masked_fill(weight == 0, 0.0)
    mean = rho[:, fit].sum(dim=(1, 2)) / weight[fit].sum().clamp(min=1)
    deviations = ((rho - mean[:, None, None]) * weight).permute(1, 2, 0)  # [N, L, K], 0 where nothing counts
    size = int(codes.max()) + 1
    sums = torch.zeros(size, len(rho), dtype=torch.float64)
    sums.index_add_(0, codes[fit].flatten(), deviations[fit].flatten(0, 1))
    counts = torch.bincount(codes[fit].flatten(), weights=weight[fit].flatten(), minlength=size)
    predicted = (sums / (counts + SHRINKAGE)[:, None])[codes[held]]
    scored = weight[held] * (counts >= OFTEN_ENOUGH)[codes[held]]
    here = scored[..., None]
    held_mean = (deviations[held] * here).sum(dim=(0, 1)) / here.sum().clamp(min=1)
    return TokenIdentity(
        error=((deviations[held] - predicted).square() * here).sum(1).T,
        total=((deviations[held] - held_mean).square() * here).sum(1).T,
        coverage=float(scored.sum() / weight[held].sum().clamp(min=1)),
    )


def largest_token_share(tokens: Tensor, presence: Tensor, count: int = 20, counted: Tensor | None = None) -> Tensor:
    """``[K]``: of the ``count`` windows ``tokens [N, L]`` with the highest ``presence [K, N, L]``, how large a share
    have the same token at their highest position. 1 for a direction that one token alone calls up.

    Positions that are not ``counted [N, L]`` have no peak.
    """
    some = len(tokens)
    if counted is not None:
        some, presence = int(counted.any(1).sum()), presence.masked_fill(~counted.to(presence.device), -torch.inf)
    peaks, at = presence.max(dim=2)  # [K, N]
    windows = peaks.topk(min(count, some), dim=1).indices
    chosen = tokens[windows, at.gather(1, windows)].cpu()
    most = (chosen[:, :, None] == chosen[:, None, :]).sum(2).max(1).values
    return most / chosen.shape[1]
