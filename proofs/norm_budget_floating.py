"""The rounding errors of the norm budget RN-4 (see :mod:`proofs.floating` for ``γ``)."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from proofs.draws import Draws
from proofs.floating import Comparison
from sensverify import formulas


def compare_budget(draws: Draws) -> list[Comparison]:
    """RN-4 on six directions per case, and on directions with equal inner products."""
    draws = first_of(draws)
    # A computed cosine of two vectors is off by at most γ(d+8)(1 + 1/2 + 1/2) = 2γ.
    gamma, x = draws.gamma, draws.x
    size = formulas.norm(x)
    six = [draws.s, draws.u, x / size, draws.s.roll(1, -1), draws.u.roll(1, -1), (x / size).roll(1, -1)]
    frame = torch.stack(six, dim=-2)
    rho = _presences(x, frame)
    squares = (rho.double() ** 2).sum(-1, keepdim=True)
    # Entries of G move by 2γ each, hence its eigenvalues by 2nγ; the squares by 2·2γ each and n of them: 4nγ; the
    # rounding in the defect itself by γ(n) times a few norms, each at most n: 6nγ in all leaves room for it.
    values, defect = _largest_eigenvalue(_gram(frame))
    count = frame.shape[-2]
    energy = Comparison(law="Σρ² ≤ λ_max(G)", error=(squares - values).clamp(min=0), bound=12 * count * gamma + defect)
    along = (frame * torch.where(rho < 0, -1.0, 1.0).to(x.dtype)[..., None]).sum(-2)
    any_frame = _excess(along, frame)
    # Vectors with inner products μ = |β|, carried by a reflection to general position, and x along their sum.
    mu, k = draws.beta.abs(), min(x.shape[-1], 8)
    crowd = _equal_inner_products(mu, k, x.shape[-1])
    crowd = crowd - 2 * draws.s[:, None] * formulas.inner(crowd, draws.s[:, None])
    # s is unit within γ, so that the reflection moves inner products by 4γ, and rounding by 4γ more: 8γ for each. The
    # presence ⟨t, s⟩/‖t‖ with ‖t‖ = kτ moves by k·8γ/(kτ) + 8γ, measuring it adds 2γ: 2τ times that is at most 36γ in
    # τ², and μ moves by 8γ + 2γ. Times k, on both sides of the bound: 48kγ.
    middle = size * crowd.sum(-2) / formulas.norm(crowd.sum(-2))
    equal = _excess(middle, crowd)
    # The k squares move by 36γ each, the eigenvalue by 10kγ and the rounding in its defect by less than 2kγ.
    largest, equal_defect = _largest_eigenvalue(_gram(crowd))
    reached = (_presences(middle, crowd).double() ** 2).sum(-1, keepdim=True)
    return [
        energy,
        Comparison(
            law="Σρ² = λ_max(G), equal inner products",
            error=(reached - largest).abs(),
            bound=48 * k * gamma + equal_defect,
        ),
        Comparison(
            law="k ≤ (1−μ)/(τ²−μ), any frame",
            error=any_frame.clamp(min=0),
            bound=torch.full_like(defect, 12 * count * gamma),
        ),
        Comparison(
            law="k = (1−μ)/(τ²−μ), equal inner products",
            error=equal.abs(),
            bound=torch.full_like(equal, 48 * k * gamma),
        ),
    ]


def first_of(draws: Draws) -> Draws:
    """The first draws, so many that a frame of ten vectors for each of them takes some 20 MB and no more."""
    rows = 2**18 // draws.x.shape[-1]
    parts = {field.name: getattr(draws, field.name)[:rows] for field in dataclasses.fields(draws)}
    return dataclasses.replace(draws, **parts)


def _presences(x: Tensor, frame: Tensor) -> Tensor:
    """Presence of each of the ``n`` directions ``[N, n]``."""
    return formulas.presence(x[:, None], frame)[..., 0]  # type: ignore[no-any-return]


def _gram(frame: Tensor) -> Tensor:
    """All cosines ``[N, n, n]``."""
    unit = frame / formulas.norm(frame)
    return torch.einsum("bid,bjd->bij", unit, unit)


def _largest_eigenvalue(gram: Tensor) -> tuple[Tensor, Tensor]:
    """The largest eigenvalue ``[N, 1]`` and by how much the computed eigenvectors let it be wrong.

    ``G = VΛVᵀ + E`` gives ``λ_max(G) ≤ λ̂(1 + ‖VᵀV − I‖) + ‖E‖``: no constant of the library is trusted.
    """
    values, vectors = torch.linalg.eigh(gram)
    values, vectors, gram = values.double(), vectors.double(), gram.double()
    defect = gram - vectors * values[:, None] @ vectors.mT
    skew = vectors.mT @ vectors - torch.eye(gram.shape[-1], dtype=torch.float64)
    largest = values[:, -1:]
    return largest, largest * skew.flatten(1).norm(dim=-1)[:, None] + defect.flatten(1).norm(dim=-1)[:, None]


def _excess(x: Tensor, frame: Tensor) -> Tensor:
    """``(k − budget)(τ² − μ)`` with the ``τ`` and ``μ`` seen: positive where RN-4 is broken, 0 where it is silent."""
    k = frame.shape[-2]
    tau = _presences(x, frame).abs().amin(-1, keepdim=True)
    off_diagonal = (_gram(frame) - torch.eye(k, dtype=x.dtype) * 2).tril(-1).abs()
    mu = off_diagonal.flatten(1).amax(-1, keepdim=True)
    margin = tau**2 - mu
    return torch.where(margin > 0, (k - formulas.norm_budget(tau, mu)) * margin, 0.0).double()


def _equal_inner_products(mu: Tensor, k: int, dimension: int) -> Tensor:
    """``k`` unit vectors ``[N, k, d]`` with inner products ``μ``, as in :func:`proofs.norm_budget.equiangular`."""
    wide = mu.double()
    own = (1 - wide).sqrt()
    common = ((1 + (k - 1) * wide).sqrt() - own) / k
    square = common[..., None] + own[..., None] * torch.eye(k, dtype=torch.float64)
    return torch.nn.functional.pad(square, (0, dimension - k)).to(mu.dtype)
