"""The protocol that every subject implements: toy models, toy transformers, language models.

A read-out is a point of intervention and a point of measurement. The engine asks it for activations, for what
the model makes of them untouched, and for what it makes of activations that were moved. How little of the model
must be recomputed for that is the read-out's own business.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from sensverify.geometry import Centring

State = TypeVar("State")


@dataclasses.dataclass(frozen=True)
class Batch(Generic[State]):
    """Activations ``x [B, d]`` at the point of intervention, with whatever the read-out keeps about them."""

    x: Tensor
    state: State

    def __len__(self) -> int:
        return self.x.shape[0]


class Readout(Protocol):
    """``B`` contexts, ``S`` directions, ``d`` wide where one intervenes, ``d_out`` wide where one measures."""

    @property
    def width(self) -> int:
        """``d``, the width of the activation at the point of intervention."""

    @property
    def centring(self) -> Centring:
        """What the model's norm cannot see at the point of intervention."""

    @property
    def device(self) -> torch.device:
        """Where activations live."""

    def sample(self, count: int, generator: torch.Generator) -> Batch[Any]:
        """``count`` contexts drawn with ``generator``; never padding, never BOS, never a zero activation."""

    def clean(self, batch: Batch[Any]) -> Tensor:
        """The untouched read-out, ``[B, d_out]``; without gradient."""

    def read(self, batch: Batch[Any], x: Tensor) -> Tensor:
        """The read-out with activations replaced by ``x [S, B, d]``: ``[S, B, d_out]``; differentiable in ``x``."""

    def describe(self) -> Mapping[str, Any]:
        """Plain JSON that identifies model, layers, offset and data; written into every result."""


@runtime_checkable
class PrivilegedReadout(Protocol):
    """What a :class:`Readout` has beside the rest if it can tell whether its units mean something one by one."""

    @property
    def privileged(self) -> bool:
        """True behind a ReLU, in the neurons of an MLP, at the logits; False where a rotation would change nothing."""
