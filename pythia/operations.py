"""How many multiplications an effect cannot do without: the floor under every measurement of speed.

Counted are matrix products with weights, keys, values and the forms of :mod:`pythia.one_block`, on the cells (block,
position) that an intervention reaches; what two numbers per pair do to a vector that a direction or a context has once
is left out, as are norms, activations and softmax. The gradient with respect to directions passes every product once
more. Divided by the rate at which the machine multiplies matrices, this is the time below which no implementation of
this way of computing can be, however it is written; another way of computing may need less, and then moves the floor.
"""

from __future__ import annotations

import dataclasses

from pythia.architectures import Block, Mlp
from pythia.suffix import Suffix


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """``S`` directions and ``B`` contexts with ``left`` tokens left of ``p``, with or without gradient."""

    directions: int
    contexts: int
    left: int
    gradient: bool = True

    @property
    def pairs(self) -> int:
        """``S·B``."""
        return self.directions * self.contexts


def multiplications(suffix: Suffix, work: Work) -> int:
    """Multiplications of one evaluation of all pairs, with the gradient with respect to all directions if asked for."""
    once = _closed_form(suffix.blocks[0], work) if suffix.one_block is not None else _through_blocks(suffix, work)
    return once * (2 if work.gradient else 1)


def _closed_form(block: Block, work: Work) -> int:
    heads, width = block.heads, block.head_width
    model = block.output.weight.shape[0]
    of_direction = block.groups * width * model + heads * width * model  # V_s and O_hV_s
    keys = work.directions * block.groups * width * model + work.pairs * heads * width
    folded = work.pairs * heads * model
    forms = work.pairs * heads * width * (2 * heads + 1)
    return work.directions * of_direction + min(keys, folded) + forms


def _through_blocks(suffix: Suffix, work: Work) -> int:
    blocks, last = suffix.blocks, len(suffix.blocks) - 1
    total = 0
    for depth, block in enumerate(blocks):
        first, reads = depth == 0, _rows(block)
        wanted = {suffix.offset} if depth == last else set(range(suffix.offset + 1))
        per_pair, per_direction = 0, 0
        for position in range(suffix.offset + 1):
            planar, shared = first and position == 0, first and position > 0
            projected = (block.sees if position in wanted else block.keys_and_values).linear
            if planar:
                per_direction += projected.weight.numel()
            elif not shared:
                per_pair += projected.weight.numel()
            if position not in wanted:
                continue
            # a query that is shared meets one key that is not, at p; its own meets all there are
            per_pair += 2 * reads * (1 if shared else work.left + position + 1) + block.output.weight.numel()
            into, out = _mlp(block.mlp)
            if block.parallel and planar:
                per_direction, per_pair = per_direction + into, per_pair + out
            elif not (block.parallel and shared):
                per_pair += into + out
        total += work.pairs * per_pair + work.directions * per_direction
    return total


def _rows(block: Block) -> int:
    return block.heads * block.head_width


def _mlp(mlp: Mlp) -> tuple[int, int]:
    into = mlp.into.weight.numel() + (0 if mlp.gate is None else mlp.gate.weight.numel())
    return into, mlp.out.weight.numel()
