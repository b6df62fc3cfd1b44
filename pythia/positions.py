"""Where one intervenes: at tokens of the text, never at what only surrounds them.

Not intervened on, and counted: the BOS token that opens a window, special tokens inside it, padding, and, where asked
for, positions whose residual norm is far above the median. Trained models keep such positions as places for attention
to rest: their activations are hundreds of times as large as the rest and hold nothing of the text, so a mean over
positions is otherwise a mean over them.

What is measured ``t`` tokens later is a token of the text too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor

from sensverify.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Allowed:
    """``real [N, L]``: which positions hold tokens of the text (all if None). ``outlier_norms``: how many times the
    median a residual norm may be (any if None)."""

    real: Tensor | None = None
    outlier_norms: float | None = None


class Positions:
    """The positions of ``N`` windows of ``L`` tokens.

    ``counted [N, L]``: tokens of the text whose norm is no outlier; ``eligible [N, L]``: those of them that have a
    token of the text ``offset`` later, so that one may intervene there; ``rows``: the windows that have any;
    ``outliers``: how many were left out for their norm.

    Args:
        shape: ``N`` and ``L``.
        first: positions before it are never counted.
        offset: ``t``.
        allowed: what else keeps a position out.
        residuals: activations ``[n, L, d]`` at the point of intervention, in parts; read only for outliers.
        device: where the tables are to be.

    Raises :class:`~sensverify.errors.InputError` if no position is left.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        first: int,
        offset: int,
        allowed: Allowed,
        residuals: Iterable[Tensor],
        device: torch.device,
    ) -> None:
        length = shape[1]
        self.first, self.offset = first, offset
        real = torch.ones(shape, dtype=torch.bool, device=device) if allowed.real is None else allowed.real.to(device)
        self.counted = real & (torch.arange(length, device=device) >= first)
        self.factor, self.outliers = allowed.outlier_norms, 0
        if self.factor is not None:
            norms = torch.cat([part.float().norm(dim=-1) for part in residuals]).to(device)
            outlying = self.counted & (norms > self.factor * norms[self.counted].median())
            self.outliers = int(outlying.sum())
            self.counted = self.counted & ~outlying
        self.eligible = self.counted.clone()
        self.eligible[:, : length - offset] &= real[:, offset:]
        self.eligible[:, length - offset :] = False
        self._each = self.eligible.sum(1)
        self.rows = self._each.nonzero()[:, 0]
        if not len(self.rows):
            raise InputError(
                expected=f"a window with two tokens {offset} apart that are neither special nor padding",
                got=f"none among {shape[0]}",
                remedy="pass a smaller --offset, or another --text",
            )
        self._everywhere = bool(self.eligible[:, first : length - offset].all())
        # the k-th eligible position of a row stands at place k
        self._order = None if self._everywhere else (~self.eligible).to(torch.uint8).sort(dim=1, stable=True).indices

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rows and positions ``[count]``: rows distinct as long as there are enough, each position of a row as likely
        as any other that is eligible there."""
        total, device = len(self.rows), self.counted.device
        permutations = [
            torch.randperm(total, generator=generator, device=generator.device) for _ in range(-(-count // total))
        ]
        rows = self.rows[torch.cat(permutations)[:count].to(device)]
        if self._order is None:
            last = self.counted.shape[1] - self.offset
            places = torch.randint(self.first, last, (count,), generator=generator, device=generator.device)
            return rows, places.to(device)
        share = torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64).to(device)
        each = self._each[rows]
        return rows, self._order[rows, (share * each).long().minimum(each - 1)]

    def to_json(self) -> dict[str, object]:
        """What was left out for its norm."""
        return {"outliers": self.outliers, "of_positions": self.outliers + int(self.counted.sum())}


def permuted(windows: Tensor, counted: Tensor, generator: torch.Generator) -> Tensor:
    """``windows [N, L]`` with the tokens of each at the positions ``counted [N, L]`` in random order; others stay."""
    keys = torch.rand(windows.shape, generator=generator, device=generator.device).to(windows.device)
    behind = 2 + torch.arange(windows.shape[1], device=windows.device, dtype=keys.dtype)  # in their order
    come_from = torch.where(counted, keys, behind).argsort(1)
    go_to = (~counted).to(torch.uint8).sort(dim=1, stable=True).indices
    return torch.empty_like(windows).scatter_(1, go_to, windows.gather(1, come_from))
