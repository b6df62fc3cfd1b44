"""What goes into a toy model: how many features, how often each is active, together with which, and how it is trained.

Marginally, feature ``i`` of an input ``x [n]`` is active with probability ``p`` (the density); if it is, its value is
uniform on ``(0, 1)``, or on ``(−1, 1)`` if features are ``signed``. ``correlation`` says how activities of features in
one group (``group`` consecutive ones) depend on each other; groups are independent of each other, values of each other:

- ``"none"``: activities are independent.
- ``"together"``: a group is active as a whole with probability ``p``: correlation 1 between its members' activities.
- ``"apart"``: a group has one active member with probability ``p · group``, which each of its members is equally often;
  never two. The correlation is ``−p/(1 − p)``.

Only the active entries are drawn: the distance from one to the next in a row of independent trials is geometric. Few
entries are active, so this costs a fraction of one random number per entry.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from sensverify.errors import InputError

Correlation = Literal["none", "together", "apart"]
Norm = Literal["none", "layer", "rms"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuperpositionConfig:
    """``n`` features in ``d`` dimensions at density ``p``, and how the model is trained.

    The squared error of feature ``i`` is weighted with its importance, ``importance_decay ** i``. ``norm`` stands
    between writing and reading (see :mod:`toy_models.superposition`). Defaults: independent, unsigned features of equal
    importance, no norm. Raises :class:`~sensverify.errors.InputError` for values that make no model.
    """

    features: int = 512
    width: int = 128
    density: float = 0.01
    steps: int = 1500
    batch: int = 512
    learning_rate: float = 5e-3
    importance_decay: float = 1.0
    correlation: Correlation = "none"
    group: int = 1
    signed: bool = False
    norm: Norm = "none"

    def __post_init__(self) -> None:
        for name in ("features", "width", "batch", "group"):
            _require(_is_count(getattr(self, name), 1), f"{name}, a whole number of at least 1", getattr(self, name))
        _require(_is_count(self.steps, 0), "steps, a whole number of at least 0", self.steps)
        _require(
            _is_number(self.density) and LEAST_DENSITY <= self.density <= 1,
            f"a density from {LEAST_DENSITY} to 1",
            self.density,
        )
        _require(_is_number(self.learning_rate) and self.learning_rate > 0, "a learning rate > 0", self.learning_rate)
        decay = self.importance_decay
        _require(_is_number(decay) and 0 < decay <= 1, "an importance decay above 0, up to 1", decay)
        _require(self.correlation in get_args(Correlation), "correlation none, together or apart", self.correlation)
        _require(self.norm in get_args(Norm), "norm none, layer or rms", self.norm)
        _require(isinstance(self.signed, bool), "signed, true or false", self.signed)
        _require(
            self.features % self.group == 0, f"a group that divides the {self.features} features evenly", self.group
        )
        if self.correlation == "apart":
            fits = self.density * self.group <= 1 + 1e-9
            _require(fits, "density · group of at most 1, for features that exclude each other", self.density)

    @property
    def units(self) -> int:
        """How many units the read-out has: one per feature, two if features are signed."""
        return 2 * self.features if self.signed else self.features

    @property
    def importance(self) -> Tensor:
        """``[n]``, from 1 downwards."""
        return self.importance_decay ** torch.arange(self.features)

    def to_json(self) -> dict[str, Any]:
        """Every field, as plain JSON."""
        return dataclasses.asdict(self)


LEAST_DENSITY = 1e-9
"""At least this often is a feature active: an input with none has no direction, and one with some must be found."""

LARGEST = 1e300
"""Numbers beyond are refused: they may be whole numbers that no float can hold."""


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _require(holds: bool, expected: str, got: object) -> None:
    if not holds:
        raise InputError(expected=expected, got=reprlib.repr(got), remedy="change the toy model's configuration")


def draw_features(config: SuperpositionConfig, count: int, generator: torch.Generator) -> Tensor:
    """``x [count, n]``: inputs drawn as ``config`` says."""
    positions, values = draw_active(config, count, generator)
    x = torch.zeros(count * config.features)
    x[positions] = values
    return x.view(count, config.features)


def draw_nonempty(config: SuperpositionConfig, count: int, generator: torch.Generator) -> Tensor:
    """Inputs ``[about count, n]`` in each of which at least one feature is active, however rarely that happens."""
    sites = config.features if config.correlation == "none" else config.features // config.group
    rate = min(1.0, config.density * (config.group if config.correlation == "apart" else 1))
    share = -math.expm1(sites * math.log1p(-rate)) if rate < 1 else 1.0
    positions, values = draw_active(config, math.ceil(count / share), generator)
    rows, which = torch.unique_consecutive(positions // config.features, return_inverse=True)
    x = torch.zeros(len(rows), config.features)
    x[which, positions % config.features] = values
    return x


def draw_active(config: SuperpositionConfig, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The active entries of :func:`draw_features`: positions ``row · n + i``, ascending, and values, ``[active]``."""
    if config.correlation == "none" or config.group == 1:
        positions = _successes(config.density, count * config.features, generator)
    else:
        together = config.correlation == "together"
        rate = config.density if together else min(1.0, config.density * config.group)
        first = config.group * _successes(rate, count * config.features // config.group, generator)
        if together:
            positions = (first[:, None] + torch.arange(config.group)).flatten()
        else:
            positions = first + torch.randint(config.group, first.shape, generator=generator)
    values = torch.rand(len(positions), generator=generator)
    return positions, 2 * values - 1 if config.signed else values


def _successes(probability: float, trials: int, generator: torch.Generator) -> Tensor:
    """Where independent trials succeed: ascending numbers from ``0`` to ``trials − 1``."""
    if probability == 1:
        return torch.arange(trials)
    expected = trials * probability
    enough = int(expected + 6 * expected**0.5) + 8  # rarely too few; then more follow
    runs: list[Tensor] = []
    last = -1
    while last < trials:
        distances = torch.empty(enough, dtype=torch.int64).geometric_(probability, generator=generator)
        runs.append(last + distances.cumsum(0))
        last = int(runs[-1][-1])
    found = torch.cat(runs)
    return found[: int(torch.searchsorted(found, trials))]
