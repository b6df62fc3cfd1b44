"""Read-outs whose units mean something one by one: the neurons of an MLP, and the logits of tokens.

Selective sensitivity (SE-5, :mod:`sensverify.selectivity`) asks where among the units an effect lands. In the residual
stream the question has no answer: every block reads and writes it through matrices, so that a rotation of the stream,
put into these matrices as well, changes nothing that a model computes. A nonlinearity that acts on each unit by itself
singles out a basis, up to order and scale. In a transformer that is the case in two places:

- *The neurons* of an MLP, behind the activation and before the output map; with a gate, ``act(gate) ⊙ into``. Read at
  ``p + t`` are those of the first MLP that sees what the attention of block ``b`` writes there. In a sequential block
  that is the MLP of block ``b`` itself, which reads the stream with the attention's output added. In a parallel block
  (GPT-NeoX) the MLP runs beside the attention, and what it makes at ``p + t`` knows nothing of what the attention
  brings; there it is the MLP of block ``b + 1``, whose neurons are a function of block ``b``'s output at ``p + t`` and
  of nothing else. Either way, one block after the intervention is enough for an effect at a later token.
- *The logits* behind the last block, one for each token. The softmax ignores what all logits have in common, and so
  does this read-out: they are centred over tokens. Of a large vocabulary only the tokens that the text uses most are
  read: the others' rows were hardly trained, all move together, and would be thousands of units that say one thing. The
  softmax over the tokens that are kept is the next-token distribution given that it is one of them, and it, too,
  ignores what these have in common.

Both keep reading by planes (:mod:`sensverify.planes`). A *rotated* copy (:meth:`UnitReadout.rotated`) is the negative
control: lengths and angles are the same, single units mean nothing any more.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor

from pythia.architectures import Architecture, Block, Linear, Mlp
from pythia.loading import LanguageModel
from pythia.next_token import check_next_token_site
from pythia.readout import LanguageModelReadout, Reading, check_site
from pythia.suffix import CleanRun, Suffix
from sensverify.errors import InputError
from sensverify.readout import Batch

MOST_TOKENS = 4096
"""A vocabulary up to this size is read whole; of a larger one the tokens that occur in the text, at most so many."""


class UnitReadout(LanguageModelReadout):
    """Units at ``p + offset`` as a function of the residual stream there, given block ``layer``'s output at ``p``.

    What is intervened on, which contexts there are and what is recomputed is as
    :class:`pythia.readout.LanguageModelReadout` has it; :meth:`units` is what subclasses give. A batch has the clean
    units ready.
    """

    closed_form = False
    _signs: Tensor | None = None
    _claims_privilege = True

    def units(self, stream: Tensor) -> Tensor:
        """``[..., n]`` of the stream ``[..., d]`` that the units read."""
        raise NotImplementedError

    @property
    def outputs(self) -> int:
        """``n``, how many units there are."""
        raise NotImplementedError

    @property
    def privileged(self) -> bool:
        """True, unless :meth:`rotated`."""
        return self._claims_privilege

    def rotated(self, seed: int, *, claims_privilege: bool = False) -> UnitReadout:
        """The same units behind an orthogonal map that mixes each with all: ``Qy``, ``Q`` fixed by ``seed``.

        ``Q`` is Hartley's transform of units with random signs, ``Q_jk = ±(cos + sin)(2πjk/n)/√n``: as an effect on one
        unit is spread over all ``n`` with concentration ``3/(2n)`` at most, it does what a uniform rotation does, at
        the price of a Fourier transform. ``claims_privilege`` makes the copy pass its coordinates off as meaningful,
        for experiments that show what then happens.
        """
        turned = copy.copy(self)
        generator = torch.Generator().manual_seed(seed)
        signs = torch.randint(2, (self.outputs,), generator=generator) * 2.0 - 1.0
        turned._signs, turned._claims_privilege = signs.to(self.device), claims_privilege
        return turned

    def at(self, rows: Tensor, positions: Tensor) -> Batch[CleanRun]:
        """The contexts of windows ``rows [B]`` intervened on at ``positions [B]``; their target are the clean units."""
        batch = super().at(rows, positions)
        target = self._turn(self.units(self._clean_stream(batch)))
        return Batch(batch.x, dataclasses.replace(batch.state, target=target))

    def _clean_stream(self, batch: Batch[CleanRun]) -> Tensor:
        """What the units read without an intervention, ``[B, d]``."""
        return batch.state.target

    def read(self, batch: Batch[CleanRun], x: Tensor) -> Tensor:
        """The units ``[S, B, n]`` with ``x [S, B, d]`` in place of block ``layer``'s output at ``p``."""
        return self._turn(self.units(super().read(batch, x)))

    def read_plane(self, batch: Batch[CleanRun], directions: Tensor, along: Tensor, across: Tensor) -> Tensor:
        """As :meth:`read`, of activations by their coordinates (:class:`sensverify.planes.PlanarReadout`)."""
        return self._turn(self.units(super().read_plane(batch, directions, along, across)))

    def read_angles(self, batch: Batch[CleanRun], directions: Tensor, along: Tensor, across: Tensor) -> None:
        """None: the closed form knows angles of the stream alone."""

    def read_pairs(self, batch: Batch[CleanRun], contexts: Tensor, x: Tensor) -> Tensor:
        """``[N, n]`` of activations ``x [N, d]``, the ``i``-th in context number ``contexts[i]`` of the batch."""
        return self._turn(self.units(super().read_pairs(batch, contexts, x)))

    def entries_per_pair(self, left: int, *, gradient: bool, angles: bool = False) -> int:
        """As for any language model, and what the units make: what they see of the stream, with and without gate."""
        return super().entries_per_pair(left, gradient=gradient) + (12 if gradient else 5) * self.outputs

    def describe(self) -> Mapping[str, Any]:
        """As any language model's; and whether the units are rotated."""
        turned = {} if self._signs is None else {"rotated": True, "claims_privilege": self._claims_privilege}
        return {**super().describe(), **turned}

    def _turn(self, units: Tensor) -> Tensor:
        if self._signs is None:
            return units
        spectrum = torch.fft.fft(units * self._signs.to(units), norm="ortho")
        turned: Tensor = spectrum.real - spectrum.imag
        return turned


class NeuronReadout(UnitReadout):
    """The neurons ``[n]`` of the MLP that first sees what block ``target``'s attention writes at ``p + offset``.

    Args:
        model, windows, layer, target, offset, reading: as :class:`pythia.readout.LanguageModelReadout` has them.

    Raises :class:`~sensverify.errors.InputError` as that does, and where there is no such MLP: behind the last block of
    a model with parallel blocks.
    """

    def __init__(
        self,
        model: LanguageModel,
        windows: Tensor,
        *,
        layer: int,
        target: int,
        offset: int,
        **reading: Unpack[Reading],
    ) -> None:
        check_neuron_site(model, layer=layer, target=target, offset=offset)
        super().__init__(model, windows, layer=layer, target=target, offset=offset, **reading)
        self.block = block_of_neurons(model, target)
        self._read_by: Block = model.architecture.blocks[self.block]
        if self.block == target:  # what is kept of the clean run is the same; only the last block ends earlier
            self._suffix = Suffix(
                _without_mlp(model.architecture, target), layer=layer, target=target, offset=offset, closed=False
            )

    @property
    def outputs(self) -> int:
        """The number of neurons."""
        return len(self._read_by.mlp.into.weight)

    def units(self, stream: Tensor) -> Tensor:
        """The neurons ``[..., n]`` of the stream that their norm reads, ``[..., d]``."""
        block = self._read_by
        seen = block.mlp_sees(stream)
        gate = None if block.gate_sees is None else block.gate_sees(stream)
        return block.mlp.activation(seen) if gate is None else block.mlp.activation(gate) * seen

    def _clean_stream(self, batch: Batch[CleanRun]) -> Tensor:
        if self.block != self.target:
            return batch.state.target
        return self._suffix.read(batch.state, batch.x[None])[0]

    def describe(self) -> Mapping[str, Any]:
        """As any language model's; and which neurons, by block and by the name that interpretability tools have."""
        which = {"readout": "neurons", "units": self.outputs, "read_hook_name": f"blocks.{self.block}.mlp.hook_post"}
        return {**super().describe(), **which}


class LogitReadout(UnitReadout):
    """The logits of ``tokens [n]`` at ``p + offset``, less their mean.

    Args:
        model, windows, layer, offset, reading: as
            :class:`pythia.readout.LanguageModelReadout` has them; ``target``, the last block, may be left out.
        tokens: which are read, by default those of :func:`tokens_of` in ``windows``. Two read-outs whose figures are to
            be compared need the same.

    Raises :class:`~sensverify.errors.InputError` as :class:`pythia.next_token.NextTokenReadout` does.
    """

    def __init__(
        self,
        model: LanguageModel,
        windows: Tensor,
        *,
        layer: int,
        offset: int,
        target: int | None = None,
        tokens: Tensor | None = None,
        **reading: Unpack[Reading],
    ) -> None:
        target = model.depth - 1 if target is None else target
        check_next_token_site(model.depth, layer=layer, target=target, offset=offset)
        super().__init__(model, windows, layer=layer, target=target, offset=offset, **reading)
        whole = model.architecture.unembedding
        self.vocabulary = len(whole.weight)
        self.tokens = tokens_of(model, windows[self.counted]) if tokens is None else tokens
        weight, bias = whole.weight[self.tokens], None if whole.bias is None else whole.bias[self.tokens]
        self._norm = model.architecture.final_norm
        # The mean over tokens is linear in the stream: taken out of the rows, it is out of every logit.
        self._centred = Linear(weight - weight.mean(0), None if bias is None else bias - bias.mean())

    @property
    def outputs(self) -> int:
        """The number of tokens that are read."""
        return len(self.tokens)

    def units(self, stream: Tensor) -> Tensor:
        """The centred logits ``[..., n]`` of the last block's output ``[..., d]``."""
        return self._centred(self._norm(stream))

    def describe(self) -> Mapping[str, Any]:
        """As any language model's; and how many tokens are read out of how many."""
        return {**super().describe(), "readout": "logits", "units": self.outputs, "vocabulary": self.vocabulary}


def tokens_of(model: LanguageModel, *windows: Tensor) -> Tensor:
    """The tokens whose logits are read: all, or of a large vocabulary those most frequent in ``windows``, of any shape.

    At most :data:`MOST_TOKENS`, in ascending order; of two that are equally frequent the first.
    """
    size = len(model.architecture.unembedding.weight)
    if size <= MOST_TOKENS:
        return torch.arange(size, device=model.device)
    counts = torch.bincount(torch.cat([part.flatten() for part in windows]), minlength=size)
    order = counts.sort(descending=True, stable=True).indices[: min(MOST_TOKENS, int((counts > 0).sum()))]
    return order.sort().values


def block_of_neurons(model: LanguageModel, target: int) -> int:
    """The block whose MLP first sees what block ``target``'s attention writes: itself, or the next if parallel."""
    return target + 1 if model.architecture.blocks[target].parallel else target


def has_neurons(model: LanguageModel, target: int) -> bool:
    """Whether there is an MLP that sees what block ``target``'s attention writes."""
    return block_of_neurons(model, target) < model.depth


def check_neuron_site(model: LanguageModel, *, layer: int, target: int, offset: int) -> None:
    """Raise :class:`~sensverify.errors.InputError` as :func:`pythia.readout.check_site` does, and for a target that no
    MLP reads."""
    check_site(model.depth, layer=layer, target=target, offset=offset)
    if not has_neurons(model, target):
        raise InputError(
            expected=f"a target below {target}, the last block: where attention and MLP run in parallel, neurons are "
            "those of the block after it",
            got=str(target),
            remedy="pass a smaller --target, or read the logits",
        )


def _without_mlp(architecture: Architecture, target: int) -> Architecture:
    """The same, but that block ``target``, a sequential one, returns what its MLP would read."""
    block = architecture.blocks[target]
    into, out = block.mlp.into.weight, block.mlp.out.weight
    none = Mlp(Linear(into[:0], None), None, block.mlp.activation, Linear(out[:, :0], None))  # no neurons: adds 0
    blocks = list(architecture.blocks)
    blocks[target] = dataclasses.replace(block, mlp=none)
    return dataclasses.replace(architecture, blocks=tuple(blocks))
