"""Models in which it is known what a direction does: features planted by hand, with or without one always there.

``h = W x + c m``: feature ``i`` is active with probability ``p`` and then uniform on ``(0, 1)``; ``m`` is a unit
direction present in every context at the same amplitude ``c`` (``c = 0``: none). Read-out ``ReLU(Wᵀh + b)``, and a unit
``ReLU(⟨m, h⟩)`` where there is an ``m``. ``W`` is orthonormal, random, or taken from a trained model.

With orthonormal ``W`` and no bias it is clear by construction what acts. ``−f`` turns unit ``f`` off where it is on and
nothing else: it *removes*, all of its effect. ``f`` *adds*. Where random features overlap, ``−f`` also adds, to the
features that have a negative cosine with ``f``; if ``f`` is rarely active, that is nearly all it does.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sensverify.geometry import Centring, random_directions
from sensverify.readout import Batch
from toy_models.superposition import SuperpositionModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlantedReadout:
    """``features [n, d]`` (rows of length ``‖w_i‖``), ``bias [n]``, ``constant [d]`` (``c m``; zero: none).

    The batch's state is ``[B, n]``, the amplitudes ``x`` of the features.
    """

    features: Tensor
    bias: Tensor
    constant: Tensor
    density: float
    name: str

    @property
    def width(self) -> int:
        """``d``."""
        return self.features.shape[1]

    @property
    def centring(self) -> Centring:
        """No norm, so nothing is invisible."""
        return Centring.NONE

    @property
    def device(self) -> torch.device:
        """Toys live on the CPU."""
        return torch.device("cpu")

    @property
    def privileged(self) -> bool:
        """Each unit reads one feature."""
        return True

    @property
    def directions(self) -> Tensor:
        """Unit rows ``[n, d]``."""
        return torch.nn.functional.normalize(self.features)

    def sample(self, count: int, generator: torch.Generator) -> Batch[Tensor]:
        """Contexts with a nonzero activation."""
        kept, states = [], []
        missing = count
        while missing > 0:
            active = torch.rand(count, len(self.features), generator=generator) < self.density
            amplitudes = active * torch.rand(count, len(self.features), generator=generator)
            hidden = amplitudes @ self.features + self.constant
            nonzero = hidden.norm(dim=1) > 1e-3
            kept.append(hidden[nonzero])
            states.append(amplitudes[nonzero])
            missing -= int(nonzero.sum())
        return Batch(torch.cat(kept)[:count], torch.cat(states)[:count])

    def clean(self, batch: Batch[Any]) -> Tensor:
        """``[B, d_out]``."""
        return self._units(batch.x)

    def read(self, batch: Batch[Any], x: Tensor) -> Tensor:
        """``[S, B, d_out]`` from ``x [S, B, d]``."""
        return self._units(x)

    def _units(self, x: Tensor) -> Tensor:
        read = torch.relu(x @ self.features.T + self.bias)
        length = self.constant.norm()
        if not length:
            return read
        return torch.cat([read, torch.relu(x @ (self.constant / length))[..., None]], dim=-1)

    def describe(self) -> Mapping[str, Any]:
        """What is planted."""
        return {
            "name": self.name,
            "features": len(self.features),
            "width": self.width,
            "density": self.density,
            "constant": float(self.constant.norm()),
        }


def planted(
    *, features: int, width: int, density: float, constant: float, orthonormal: bool, generator: torch.Generator
) -> PlantedReadout:
    """Orthonormal (``features < width``) or random unit features; ``m`` is random, orthogonal to them if they are."""
    drawn = torch.randn(features + 1, width, generator=generator)
    if orthonormal:
        drawn = torch.linalg.qr(drawn.T).Q.T
    rows = torch.nn.functional.normalize(drawn)
    kind = "orthonormal" if orthonormal else "random"
    return PlantedReadout(
        features=rows[:features],
        bias=torch.zeros(features),
        constant=constant * rows[features],
        density=density,
        name=f"{kind} features" + (", one always there" if constant else ""),
    )


def around(
    model: SuperpositionModel, *, constant: float = 0.0, generator: torch.Generator | None = None
) -> PlantedReadout:
    """A trained model as it is, or with ``c m`` added in a random direction that its bias does not allow for."""
    weights = model.weights.T
    added = torch.zeros(weights.shape[1])
    if constant:
        assert generator is not None
        added = constant * torch.nn.functional.normalize(torch.randn(weights.shape[1], generator=generator), dim=0)
    return PlantedReadout(
        features=weights,
        bias=model.bias,
        constant=added,
        density=model.config.density,
        name="trained" + (", a direction always there" if constant else ""),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """Directions ``[K, d]`` of one family on one model. ``removes``: by construction; ``None`` where it is open."""

    family: str
    removes: bool | None
    readout: PlantedReadout
    directions: Tensor


def cases(seed: int, count: int, *, width: int = 32) -> list[Case]:
    """``count`` directions of each family: five that remove, five that add, and four that construction leaves open.

    A direction always there has twice, or in the open family half, the root mean square length of the rest: a presence
    of 0.9, or of 0.45. Mixtures are ``f − λm``, normalised.
    """
    generator = torch.Generator().manual_seed(seed)
    dense, sparse, ample, scarce = 0.4, 0.02, 2.0, 0.5
    few, many = width * 3 // 4, 2 * width

    def model(features: int, density: float, strength: float, orthonormal: bool) -> PlantedReadout:
        length = math.sqrt(features * density / 3)  # root mean square of the sum, were the features orthogonal
        return planted(
            features=features,
            width=width,
            density=density,
            constant=strength * length,
            orthonormal=orthonormal,
            generator=generator,
        )

    def feature(readout: PlantedReadout) -> Tensor:
        rows = readout.directions
        return rows[torch.randperm(len(rows), generator=generator)[:count]]

    def mixture(readout: PlantedReadout, share: float) -> Tensor:
        always = torch.nn.functional.normalize(readout.constant, dim=0)
        return torch.nn.functional.normalize(feature(readout) - share * always)

    def against(readout: PlantedReadout) -> Tensor:
        """Many directions close to ``−m``: an angle of about 0.3 away, so that they are not one direction repeated."""
        noise = random_directions(count, width, Centring.NONE, generator)
        return torch.nn.functional.normalize(0.3 * noise - torch.nn.functional.normalize(readout.constant, dim=0))

    apart_dense, apart_sparse = model(few, dense, 0, True), model(few, sparse, 0, True)
    crowded_dense, crowded_sparse = model(many, dense, 0, False), model(many, sparse, 0, False)
    apart_constant, crowded_constant = model(few, dense, ample, True), model(many, dense, ample, False)
    faint_constant = model(many, dense, scarce, False)

    def case(family: str, removes: bool | None, readout: PlantedReadout, directions: Tensor) -> Case:
        return Case(family=family, removes=removes, readout=readout, directions=directions)

    return [
        case("−f, orthonormal, dense", True, apart_dense, -feature(apart_dense)),
        case("−f, orthonormal, sparse", True, apart_sparse, -feature(apart_sparse)),
        case("near −m, orthonormal", True, apart_constant, against(apart_constant)),
        case("near −m, overlapping", True, crowded_constant, against(crowded_constant)),
        case("f − 2m, overlapping", True, crowded_constant, mixture(crowded_constant, 2.0)),
        case("f, orthonormal, dense", False, apart_dense, feature(apart_dense)),
        case("f, overlapping, dense", False, crowded_dense, feature(crowded_dense)),
        case("f, overlapping, sparse", False, crowded_sparse, feature(crowded_sparse)),
        case("−f, overlapping, sparse", False, crowded_sparse, -feature(crowded_sparse)),
        case(
            "random, overlapping",
            False,
            crowded_dense,
            random_directions(count, width, Centring.NONE, generator),
        ),
        case("−f, overlapping, dense", None, crowded_dense, -feature(crowded_dense)),
        case("f − m/2, overlapping", None, crowded_constant, mixture(crowded_constant, 0.5)),
        case("f − m, overlapping", None, crowded_constant, mixture(crowded_constant, 1.0)),
        case("near −m, half as long", None, faint_constant, against(faint_constant)),
    ]
