"""What a search is and what it has come to: its options, written into every result, and its state, into checkpoints."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor

from sensverify import selectivity
from sensverify.chunking import Chunking
from sensverify.plateau import Plateau, Watch
from sensverify.selectivity import Averaging
from sensverify.sensitivity import Probe

Method = Literal["parallel", "sequential", "spectral"]
Score = Literal["plain", "selective", "peak"]
Start = Literal["random", "spectral", "activations"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What a search is; written whole into ``cfg.json``.

    ``steps`` is per direction in sequential mode and for all directions together in parallel mode.
    ``learning_rate`` is the angle in radians of an early step. ``contexts`` are drawn afresh every step.
    ``averaging`` is how the selective score averages over them; the others have no use for it. ``repulsion`` is the
    strength of the penalty on overlap, by default 1, but 0.1 in a parallel search by another score than the plain one:
    those are meant for more directions than there are features, where a strong barrier keeps surplus directions hanging
    beside features.

    ``revive`` re-seeds dead directions beside duplicates, and gives all that start afresh an optimiser state and an age
    of their own. ``plateau`` freezes directions that gain no more; None lets all of them take every step. Both change
    what is found, and are left out of the record unless they are asked for.
    """

    directions: int = 16
    steps: int = 200
    method: Method = "parallel"
    contexts: int = 64
    learning_rate: float = 0.1
    repulsion: float | None = None
    start: Start = "random"
    score: Score = "plain"
    averaging: Averaging = selectivity.AVERAGING
    seed: int = 0
    probe: Probe = dataclasses.field(default_factory=Probe)
    revive: bool = False
    plateau: Plateau | None = None

    def __post_init__(self) -> None:
        if min(self.directions, self.steps, self.contexts) < 1:
            raise ValueError("directions, steps and contexts are at least 1")

    @property
    def barrier(self) -> float:
        """The strength of repulsion in force."""
        if self.repulsion is not None:
            return self.repulsion
        return 1.0 if self.score == "plain" or self.method == "sequential" else 0.1

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for ``cfg.json``."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["repulsion"] = self.barrier
        probe = self.probe.to_json()
        if self.score != "selective":
            del fields["averaging"]
        if not self.revive:
            del fields["revive"]
        fields.pop("plateau")
        if self.plateau is not None:
            fields["plateau"] = self.plateau.to_json()
        if self.score != "plain":
            probe["distance"] = None  # what is measured of the effect takes its place
        return {**fields, "probe": probe}


@dataclasses.dataclass
class SearchState:
    """Everything needed to go on: a search resumed from it takes the same steps as one never stopped.

    ``age [K]``, on the CPU, counts the steps that each direction has taken since it started, ``history`` has the mean
    score of every step taken. A step changes no tensor in place.
    """

    directions: Tensor
    momentum: Tensor
    second_moment: Tensor
    running_score: Tensor
    history: list[float]
    step: int
    generator: torch.Generator
    age: Tensor
    watch: Watch
    chunking: Chunking

    @property
    def frozen(self) -> Tensor:
        """``[K]``, on the CPU: which directions have come to rest."""
        return self.watch.frozen


def total_steps(options: SearchOptions) -> int:
    """Number of ascent steps in the whole search."""
    if options.method == "spectral":
        return 0
    return options.steps * (options.directions if options.method == "sequential" else 1)
