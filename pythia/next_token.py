"""The effect of an intervention on the next-token distribution, in nats, without ever holding logits ``[S, B, V]``.

The final block's output at ``p+t`` goes through the final norm, which makes ``n [B, d]`` of clean contexts and
``n' [S, B, d]`` of interventions, and through the unembedding ``W [V, d]`` into logits. What is wanted of those is one
number for each pair, ``KL(P ‖ Q)`` between ``P = softmax(Wn + c)`` and ``Q = softmax(Wn' + c)``. With
``dz = W(n' − n)``, its mean ``μ = Σ P dz = ⟨WᵀP, n' − n⟩``, known beforehand from ``d`` numbers for each context, and
``u = dz − μ``,

    KL = log Σ P eᵘ = log(1 + Σ P φ(u)),    φ(u) = eᵘ − 1 − u ≥ 0,

since ``Σ P u = 0``. No term is negative, so nothing cancels: a divergence of 1e-9 keeps as many digits as one of 1,
where ``log P − log Q`` would leave rounding alone. The gradients are sums of the same kind,

    ∂KL/∂n' = Σ P (eᵘ − 1)(w − WᵀP) / Σ P eᵘ,    ∂KL/∂n = −Σ P u (w − WᵀP),

taken in the same pass over the vocabulary, tile by tile: the unembedding is multiplied twice for each pair, once for
``u`` and once for the gradient with respect to ``n'``, and the backward pass is a multiplication by one number for each
pair. A third product is made only if ``n`` wants a gradient too, as it does when effects are measured from presence 0.

``φ`` is a Taylor polynomial in ``u/2ʲ`` followed ``j`` times by ``φ(2h) = (eʰ − 1)² + 2φ(h)``, again without a
difference: cheaper than the exponential, and precise near 0. Tiles in which an effect is huge are computed by
exponentials, with sums kept relative to their largest term, so that nothing overflows.

Precision ends where that of the streams does: where they differ by a share ``δ`` of their length, float32 knows the
difference, and so the divergence, to a few times ``1e-7/δ``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakTensorKeyDictionary

from pythia.architectures import Linear
from pythia.loading import LanguageModel
from pythia.readout import LanguageModelReadout, Reading, check_site
from pythia.suffix import CleanRun
from sensverify.errors import InputError
from sensverify.readout import Batch

TILE, ACCELERATOR_TILE = (1024, 2**18), (8192, 2**25)
"""Tokens, and entries (tokens times pairs), of the largest table that is made at once, beside a row for each context:
on a CPU, whose cache it has to fit with two more of its size and a piece of the unembedding, and elsewhere."""

SERIES_REACH = 16.0
"""Up to this ``|u|`` the polynomial and its doublings serve; each doubling doubles the relative rounding error."""

OVERFLOW = 40.0
"""``log(P eᵘ)`` from which sums are kept relative to their largest term: sums of ``V`` terms of ``e⁴⁰`` fit float32."""


class NextTokenDivergence:
    """``KL(P ‖ Q)`` in nats between the next-token distributions behind final-normed streams.

    A :data:`sensverify.scoring.Distance`, for :class:`sensverify.sensitivity.Probe`: ``clean [B, d]`` or ``[S, B, d]``
    and ``perturbed [S, B, d]`` give ``[S, B]``, differentiable once in both. Computed in float32 at least.

    Args:
        unembedding: ``W [V, d]`` with or without a bias.
        tile: tokens and entries of the largest table that is made at once, by default :data:`TILE` or what there is
            instead for other devices; it never changes results beyond rounding.
    """

    def __init__(self, unembedding: Linear, *, tile: tuple[int, int] | None = None) -> None:
        accelerated = unembedding.weight.device.type != "cpu"
        self.unembedding = unembedding
        self.tokens, self.entries = tile or (ACCELERATOR_TILE if accelerated else TILE)
        self._anchors: Any = WeakTensorKeyDictionary()

    @property
    def __name__(self) -> str:
        """What results call it."""
        return "next_token_kl"

    def __call__(self, clean: Tensor, perturbed: Tensor) -> Tensor:
        """The divergences in nats; leading axes broadcast."""
        dtype = torch.promote_types(perturbed.dtype, torch.float32)
        anchor = self._anchor(clean, dtype) if perturbed.shape[1:] == clean.shape else None
        if anchor is None and clean.shape != perturbed.shape:
            clean, perturbed = torch.broadcast_tensors(clean, perturbed)  # type: ignore[no-untyped-call]
        shape, width = perturbed.shape[:-1], perturbed.shape[-1]
        n = clean.to(dtype).reshape(-1, width)
        moved = perturbed.to(dtype).reshape(-1, len(n), width)
        divergence: Tensor = _Divergence.apply(n, moved, anchor or self.anchor(n.detach()), self)  # type: ignore[no-untyped-call]
        return divergence.reshape(shape)

    def _anchor(self, clean: Tensor, dtype: torch.dtype) -> _Anchor:
        """:meth:`anchor`, remembered for as long as the tensor lives: the engine passes the same one for every lot of
        directions."""
        volatile = clean.requires_grad or clean.is_inference()
        kept = None if volatile else self._anchors.get(clean)
        if kept is not None and kept[0] == (clean._version, dtype):
            return cast(_Anchor, kept[1])
        anchor = self.anchor(clean.detach().to(dtype).reshape(-1, clean.shape[-1]))
        if not volatile:
            self._anchors[clean] = (clean._version, dtype), anchor
        return anchor

    @torch.no_grad()
    def anchor(self, n: Tensor) -> _Anchor:
        """What the clean distributions of ``n [B, d]`` have once for all directions."""
        normaliser, mean = n.new_zeros(len(n)), torch.zeros_like(n)
        for chosen in _spans(len(n), max(1, self.entries // self.tokens)):
            part = n[chosen]
            peak = part.new_full((len(part), 1), -torch.inf)
            mass, total = torch.zeros_like(peak), torch.zeros_like(part)
            for weight, bias in self.chunks(n.dtype):
                logits = _logits(part, weight, bias)
                higher = torch.maximum(peak, logits.amax(-1, keepdim=True))
                shrink, share = torch.exp(peak - higher), logits.sub_(higher).exp_()
                mass = mass * shrink + share.sum(-1, keepdim=True)
                total = (total * shrink).addmm_(share, weight)
                peak = higher
            normaliser[chosen], mean[chosen] = (peak + mass.log())[:, 0], total / mass
        return _Anchor(normaliser, mean)

    def chunks(self, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Rows ``[v, d]`` of the unembedding and their biases ``[v]``, a few tokens at a time."""
        weight, bias = self.unembedding.weight, self.unembedding.bias
        for span in _spans(len(weight), self.tokens):
            yield weight[span].to(dtype), None if bias is None else bias[span].to(dtype)


@dataclasses.dataclass(frozen=True)
class _Anchor:
    """Of ``B`` clean contexts: ``log Σ exp(Wn + c)``, ``[B]``, and ``WᵀP``, ``[B, d]``."""

    normaliser: Tensor
    mean: Tensor


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, n: Tensor, moved: Tensor, anchor: _Anchor, measure: NextTokenDivergence) -> Tensor:
        wanted = (bool(ctx.needs_input_grad[0]), bool(ctx.needs_input_grad[1]))
        values = moved.new_empty(moved.shape[:-1])
        gradients = [torch.empty_like(moved) if one else None for one in wanted]
        pairs = max(1, measure.entries // measure.tokens)
        for here in _spans(len(n), pairs):
            clean, mean = n[here], anchor.mean[here]
            lots = list(_spans(len(moved), max(1, pairs // len(clean))))
            sums = [_Sums(moved[lot, here] - clean, mean, wanted) for lot in lots]
            _sum_up(sums, clean, anchor.normaliser[here], measure)
            for lot, one in zip(lots, sums, strict=True):
                values[lot, here] = one.divergence()
                for whole, part in zip(gradients, one.gradients(), strict=True):
                    if whole is not None and part is not None:
                        whole[lot, here] = part
        ctx.save_for_backward(*gradients)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        of_clean, of_moved = ctx.saved_tensors
        return (
            None if of_clean is None else torch.einsum("sb,sbd->bd", gradient, of_clean),
            None if of_moved is None else gradient[..., None] * of_moved,
            None,
            None,
        )


def _sum_up(lots: Sequence[_Sums], clean: Tensor, normaliser: Tensor, measure: NextTokenDivergence) -> None:
    """Take all tokens into the sums of some lots of pairs, all of the contexts ``clean [B, d]``."""
    contexts = len(clean)
    # the clean logits come out of the first lot's product: on their own, a few rows cost as much as many
    joined = torch.cat([clean, lots[0].step])
    rows = max([len(joined), *(len(lot.step) for lot in lots)])
    work = [clean.new_empty(rows, measure.tokens).flatten() for _ in range(3)]
    for weight, bias in measure.chunks(clean.dtype):
        tokens = len(weight)
        for number, lot in enumerate(lots):
            left = lot.step if number else joined
            size = len(left) * tokens
            product = torch.mm(left, weight.T, out=work[0][:size].view(-1, tokens))
            if not number:
                log_p = product[:contexts] - normaliser[:, None]
                log_p = log_p if bias is None else log_p.add_(bias)
                p = log_p.exp()
            u, phi, spare = (
                table[:size].view(-1, contexts, tokens)[-lot.directions :] for table in (product, *work[1:])
            )
            lot.add(u.sub_(lot.offset), (phi, spare), (log_p, p), weight)


class _Sums:
    """Sums over the tokens so far for the pairs of ``S`` directions and ``B`` contexts, the first three relative to
    ``exp(peak)``, ``[S, B, 1]``.

    ``excess [S, B, 1]`` of ``Pφ(u)``, ``gain [S, B, 1]`` of ``P(eᵘ − 1)``, ``pull [S·B, d]`` of ``P(eᵘ − 1)w``;
    ``drift [S, B, 1]`` of ``Pu``, which is 0 but for rounding, and ``push [S·B, d]`` of ``Puw``. ``pull`` is None if
    ``n'`` wants no gradient, ``push`` if ``n`` wants none. ``step [S·B, d]`` is ``n' − n``, ``offset [S, B, 1]`` its
    ``μ``.
    """

    def __init__(self, step: Tensor, mean: Tensor, wanted: tuple[bool, bool]) -> None:
        self.directions, self.mean = len(step), mean
        self.offset = (step * mean).sum(-1, keepdim=True)
        self.step = step.flatten(0, 1)
        self.push, self.pull = (torch.zeros_like(self.step) if one else None for one in wanted)
        self.peak, self.excess, self.gain, self.drift = (torch.zeros_like(self.offset) for _ in range(4))
        self.raised = False

    def add(self, u: Tensor, work: tuple[Tensor, Tensor], clean: tuple[Tensor, Tensor], weight: Tensor) -> None:
        """Take in a tile of tokens: ``u [S, B, v]``, given ``log P`` and ``P [B, v]`` and ``w [v, d]``. ``u`` and the
        tables in ``work``, of its size, are overwritten."""
        log_p, p = clean
        phi, spare = work
        if self.push is not None:
            torch.mul(u, p, out=spare)
            self.drift += spare.sum(-1, keepdim=True)
            self.push.addmm_(spare.flatten(0, 1), weight)
        low, high = u.aminmax()
        reach = max(-float(low), float(high))
        if reach <= SERIES_REACH:
            _series(u, reach, phi, spare)
            rise = u.add_(phi).mul_(p)
            phi.mul_(p)
            if self.raised:
                shrink = torch.exp(-self.peak)
                rise.mul_(shrink)
                phi.mul_(shrink)
        else:  # NaN among them
            rise, phi = self._exponentials(u, log_p, p)
        self.excess += phi.sum(-1, keepdim=True)
        if self.pull is not None:
            self.gain += rise.sum(-1, keepdim=True)
            self.pull.addmm_(rise.flatten(0, 1), weight)

    def _exponentials(self, u: Tensor, log_p: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """``P(eᵘ − 1)`` and ``Pφ(u)``, relative to ``exp(peak)``, of any ``u``; raises the peak where need be."""
        log_q = log_p + u
        self._raise(log_q.amax(-1, keepdim=True))
        before = p * torch.exp(-self.peak)
        # log P has lost digits that P has; it serves only where P might be zero and Peᵘ is not
        after = torch.where(u > OVERFLOW, torch.exp(log_q - self.peak), before * torch.exp(u.clamp_max(OVERFLOW)))
        near, small = u.abs() <= 1, u.clamp(-1, 1)
        phi, spare = torch.empty_like(u), torch.empty_like(u)
        _series(small, 1.0, phi, spare)
        rise = torch.where(near, before * (small + phi), after - before)
        return rise, torch.where(near, before * phi, after - before * (1 + u))

    def _raise(self, top: Tensor) -> None:
        """Make the sums relative to the largest term, ``exp(top)``, where it is huge."""
        peak = torch.where(top > OVERFLOW, torch.maximum(top, self.peak), self.peak)
        shrink = torch.exp(self.peak - peak)
        self.excess *= shrink
        self.gain *= shrink
        if self.pull is not None:
            self.pull *= shrink.view(-1, 1)
        self.peak, self.raised = peak, True

    def divergence(self) -> Tensor:
        """``KL [S, B]``."""
        far = self.peak + torch.log(torch.exp(-self.peak) + self.excess)
        return torch.where(self.peak > 0, far, torch.log1p(self.excess))[..., 0]

    def gradients(self) -> tuple[Tensor | None, Tensor | None]:
        """With respect to ``n`` and ``n'``, ``[S, B, d]`` each, where wanted."""
        shape = (self.directions, *self.mean.shape)
        first = None if self.push is None else (self.drift * self.mean).sub_(self.push.view(shape))
        if self.pull is None:
            return first, None
        return first, (self.pull.view(shape) - self.gain * self.mean).div_(torch.exp(-self.peak) + self.gain)


def _series(u: Tensor, reach: float, phi: Tensor, spare: Tensor) -> None:
    """``phi`` becomes ``φ(u) = eᵘ − 1 − u`` where ``|u| ≤ reach``: a polynomial in ``u/2ʲ``, at most 1, and doublings.

    Kept is ``F = 2ʲφ(u/2ʲ)``: then doubling is ``F + (u + F)²/2ʲ⁺¹``, two passes over the table.
    """
    halvings = math.ceil(math.log2(reach)) if reach > 1 else 0
    terms, omitted = 1, 2 * reach / 2**halvings / 6  # relative to the first, u²/2
    while omitted > torch.finfo(u.dtype).eps / 4:
        terms += 1
        omitted *= reach / 2**halvings / (terms + 2)
    coefficients = [2.0 ** (-halvings * (i - 1)) / math.factorial(i) for i in range(2, terms + 2)]
    if terms == 1:
        phi.fill_(coefficients[0])
    else:
        torch.add(u.new_tensor(coefficients[-2]), u, alpha=coefficients[-1], out=phi)
        for coefficient in reversed(coefficients[:-2]):
            torch.addcmul(u.new_tensor(coefficient), phi, u, out=phi)
    phi.mul_(u).mul_(u)
    for j in range(halvings, 0, -1):
        torch.add(u, phi, out=spare)
        phi.addcmul_(spare, spare, value=2.0 ** -(j + 1))


def _logits(n: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return n @ weight.T if bias is None else torch.addmm(bias, n, weight.T)


def _spans(length: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, length, size))


class NextTokenReadout(LanguageModelReadout):
    """The final-normed stream at ``p + offset``, given block ``layer``'s output at ``p``; :attr:`distance` is what the
    next-token distribution makes of two of them.

    Everything is as :class:`pythia.readout.LanguageModelReadout` has it with the last block as target, but for what
    comes out: that block's output behind the final norm, ``d`` wide. A batch has the clean one ready.

    Raises :class:`~sensverify.errors.InputError` as that does, and for a target that is not the last block.
    """

    closed_form = False

    def __init__(
        self,
        model: LanguageModel,
        windows: Tensor,
        *,
        layer: int,
        offset: int,
        target: int | None = None,
        **reading: Unpack[Reading],
    ) -> None:
        target = model.depth - 1 if target is None else target
        check_next_token_site(model.depth, layer=layer, target=target, offset=offset)
        super().__init__(model, windows, layer=layer, target=target, offset=offset, **reading)
        self._norm = model.architecture.final_norm
        self.distance = NextTokenDivergence(model.architecture.unembedding)

    def at(self, rows: Tensor, positions: Tensor) -> Batch[CleanRun]:
        """The contexts of windows ``rows [B]`` intervened on at ``positions [B]``; their target is final-normed."""
        batch = super().at(rows, positions)
        return Batch(batch.x, dataclasses.replace(batch.state, target=self._norm(batch.state.target)))

    def read(self, batch: Batch[CleanRun], x: Tensor) -> Tensor:
        """The final-normed stream ``[S, B, d]`` with ``x [S, B, d]`` in place of block ``layer``'s output at ``p``."""
        return self._norm(super().read(batch, x))

    def read_plane(self, batch: Batch[CleanRun], directions: Tensor, along: Tensor, across: Tensor) -> Tensor:
        """As :meth:`read`, of activations by their coordinates (:class:`sensverify.planes.PlanarReadout`)."""
        return self._norm(super().read_plane(batch, directions, along, across))

    def read_angles(self, batch: Batch[CleanRun], directions: Tensor, along: Tensor, across: Tensor) -> None:
        """None: the closed form knows angles of the stream before the norm."""

    def read_pairs(self, batch: Batch[CleanRun], contexts: Tensor, x: Tensor) -> Tensor:
        """``[N, d]`` of activations ``x [N, d]``, the ``i``-th in context number ``contexts[i]`` of the batch."""
        return self._norm(super().read_pairs(batch, contexts, x))

    def describe(self) -> Mapping[str, Any]:
        """As any language model's, and that this is the next-token read-out."""
        return {**super().describe(), "readout": "next_token"}


def check_next_token_site(depth: int, *, layer: int, target: int, offset: int) -> None:
    """Raise :class:`~sensverify.errors.InputError` as :func:`pythia.readout.check_site` does, and for a target that is
    not the last block."""
    check_site(depth, layer=layer, target=target, offset=offset)
    if target != depth - 1:
        raise InputError(
            expected=f"the last block, {depth - 1}, as target of the next-token read-out",
            got=str(target),
            remedy=f"pass --target {depth - 1}, or read the residual stream",
        )
