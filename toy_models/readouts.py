"""The same model read in other ways, to see what a method's success hangs on.

Each class wraps a read-out and passes everything on but the output. ``privileged`` says whether single units still mean
something; a method that measures concentration on units (SE-5) needs that.

- :class:`Rotated`: the output turned by a random orthogonal matrix. Divergences that see only lengths and angles are
  unchanged; single units mean nothing any more. ``claims_privilege`` makes it say otherwise, so that an experiment
  can show what happens to a method that believes it.
- :class:`BehindRotation`: the units behind a rotation, read by undoing it.
- :class:`Mixed`: to each unit is added ``strength`` times a random mixture of all units.
- :class:`Linear`: the toy without its ReLU, ``Wᵀh + b``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sensverify.errors import InputError
from sensverify.geometry import Centring
from sensverify.planes import is_planar
from sensverify.readout import Batch, Readout
from sensverify.selectivity import is_privileged
from toy_models.superposition import SuperpositionReadout


class Wrapped:
    """A read-out whose output is changed by :meth:`change`, linearly or not, and by nothing else."""

    def __init__(self, inner: Readout) -> None:
        self.inner = inner

    def change(self, y: Tensor) -> Tensor:
        """What becomes of the output ``[..., d_out]``."""
        return y

    def changed(self) -> Mapping[str, Any]:
        """Plain JSON that says how."""
        return {}

    @property
    def width(self) -> int:
        """``d``."""
        return self.inner.width

    @property
    def centring(self) -> Centring:
        """As inside."""
        return self.inner.centring

    @property
    def device(self) -> torch.device:
        """As inside."""
        return self.inner.device

    @property
    def privileged(self) -> bool:
        """As inside."""
        return is_privileged(self.inner)

    def sample(self, count: int, generator: torch.Generator) -> Batch[Any]:
        """The same contexts as inside, from the same draws."""
        return self.inner.sample(count, generator)

    def clean(self, batch: Batch[Any]) -> Tensor:
        """``[B, d_out]``, changed."""
        return self.change(self.inner.clean(batch))

    def read(self, batch: Batch[Any], x: Tensor) -> Tensor:
        """``[S, B, d_out]``, changed."""
        return self.change(self.inner.read(batch, x))

    @property
    def planar(self) -> bool:
        """As inside."""
        return is_planar(self.inner)

    def read_plane(self, batch: Batch[Any], directions: Tensor, along: Tensor, across: Tensor) -> Tensor:
        """``[S, B, d_out]``, changed; only where :attr:`planar`."""
        assert is_planar(self.inner)
        return self.change(self.inner.read_plane(batch, directions, along, across))

    def read_pairs(self, batch: Batch[Any], contexts: Tensor, x: Tensor) -> Tensor:
        """``[N, d_out]``, changed; only where :attr:`planar`."""
        assert is_planar(self.inner)
        return self.change(self.inner.read_pairs(batch, contexts, x))

    def describe(self) -> Mapping[str, Any]:
        """What is inside, and how it is changed."""
        return {**self.inner.describe(), "read_out": {"kind": type(self).__name__, **self.changed()}}


class Rotated(Wrapped):
    """``Qy`` for an orthogonal matrix ``Q``, uniform over rotations and reflections, fixed by ``seed``."""

    def __init__(self, inner: Readout, seed: int, *, claims_privilege: bool = False) -> None:
        super().__init__(inner)
        self.seed, self.claims_privilege = seed, claims_privilege
        self.rotation = random_rotation(_outputs(inner), seed).to(inner.device)

    def change(self, y: Tensor) -> Tensor:
        """``Qy``."""
        return y @ self.rotation.T.to(y)

    def changed(self) -> Mapping[str, Any]:
        """The seed of ``Q``, and whether units are passed off as meaningful."""
        return {"seed": self.seed, "claims_privilege": self.claims_privilege}

    @property
    def privileged(self) -> bool:
        """False: another rotation would do as well. True only where that is claimed on purpose."""
        return self.claims_privilege


class BehindRotation(Wrapped):
    """``Qᵀ(Qy)``: what a rotation hides is found again by reading the units behind it."""

    def __init__(self, rotated: Rotated) -> None:
        super().__init__(rotated)
        self.rotation = rotated.rotation
        self._privileged = is_privileged(rotated.inner)

    def change(self, y: Tensor) -> Tensor:
        """``Qᵀy``."""
        return y @ self.rotation.to(y)

    @property
    def privileged(self) -> bool:
        """As before the rotation."""
        return self._privileged


class Mixed(Wrapped):
    """``y + strength · Ay``, the entries of ``A`` independent normal with variance ``1/d_out``, fixed by ``seed``.

    ``Ay`` is about as long as ``y``, so that at strength 1 half of what a unit says comes from all the others.
    """

    def __init__(self, inner: Readout, strength: float, seed: int = 0, *, claims_privilege: bool = False) -> None:
        if not 0 <= strength < math.inf:
            raise InputError(expected="a strength of at least 0", got=repr(strength), remedy="change the mixing")
        super().__init__(inner)
        self.strength, self.seed, self.claims_privilege = float(strength), seed, claims_privilege
        outputs, generator = _outputs(inner), torch.Generator().manual_seed(seed)
        self.mixing = (torch.randn(outputs, outputs, generator=generator) / math.sqrt(outputs)).to(inner.device)

    def change(self, y: Tensor) -> Tensor:
        """``y + strength · Ay``."""
        return y + self.strength * (y @ self.mixing.T.to(y))

    def changed(self) -> Mapping[str, Any]:
        """Strength, the seed of ``A``, and whether units are passed off as meaningful."""
        return {"strength": self.strength, "seed": self.seed, "claims_privilege": self.claims_privilege}

    @property
    def privileged(self) -> bool:
        """As inside while a unit's own part outweighs what is mixed in, ``strength < 1``; or if claimed on purpose."""
        return self.claims_privilege or (is_privileged(self.inner) and self.strength < 1)


class Linear(SuperpositionReadout):
    """The toy without its ReLU: ``Wᵀu + b`` (a signed feature's second unit is ``−Wᵀu + b``)."""

    @property
    def privileged(self) -> bool:
        """Each unit is still aimed at one feature, though it sees the others' interference too."""
        return True

    def of_seen(self, seen: Tensor) -> Tensor:
        """``[..., units]``."""
        bias = self.model.bias
        return torch.cat([seen + bias, bias - seen], -1) if self.model.config.signed else seen + bias

    def describe(self) -> Mapping[str, Any]:
        """As the toy, and that the ReLU is left out."""
        return {**super().describe(), "read_out": {"kind": "Linear"}}


def random_rotation(size: int, seed: int) -> Tensor:
    """An orthogonal matrix ``[size, size]``, Haar-distributed.

    The ``Q`` of a QR decomposition of normal entries, with the signs of ``R``'s diagonal moved into it, without which
    the distribution would not be uniform (Mezzadri 2007).
    """
    normal = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    orthogonal, triangular = torch.linalg.qr(normal)
    rotation: Tensor = (orthogonal * triangular.diagonal().sign()).float()
    return rotation


def _outputs(readout: Readout) -> int:
    """``d_out``, asked of one context, whatever it is."""
    generator = torch.Generator(device=readout.device).manual_seed(0)
    return readout.clean(readout.sample(1, generator)).shape[-1]
