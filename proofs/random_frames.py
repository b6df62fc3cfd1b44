"""Random frames that are not tight: the bounds of SE-5.peak measured, and where ascents of F and of C end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sensverify import formulas
from sensverify.claims import Run
from sensverify.geometry import Centring, random_directions

COLUMNS = (
    "n", "d", "μ²λ", "feature, F", "random, F", "3n/(d(d+2))", "F's maximum to feature", "C's to feature",
    "C's to dual", "√(1 − d/n)", "theorem applies to", "angle allowed", "angle seen",
)  # fmt: skip


def random_frame(run: Run, n: int, d: int) -> Tensor:
    """``[n, d]`` random unit vectors of this run, not tight."""
    generator = torch.Generator().manual_seed(run.seed + 1)
    return run.shared(
        f"proofs: random frame of {n} in {d}",
        lambda: random_directions(n, d, Centring.NONE, generator, torch.float64),
    )


def at_features(frame: Tensor) -> Mapping[str, Tensor]:
    """At each row of ``frame [n, d]``, unit vectors: the length ``slope`` of the gradient and the coherence ``mu``,
    each ``[n]``; and ``largest``, the largest eigenvalue of the frame operator."""
    off = frame @ frame.T - torch.eye(len(frame), dtype=frame.dtype)
    gradient = 4 * (off**3 @ frame - (off**4).sum(1, keepdim=True) * frame)
    largest = torch.linalg.eigvalsh(frame.T @ frame)[-1]
    return {"slope": gradient.norm(dim=1), "mu": off.abs().amax(1), "largest": largest}


def largest_curvatures(frame: Tensor) -> Tensor:
    """The largest second derivative of ``F`` along a great circle at each row of ``frame [n, d]``: ``[n]``."""
    gram = frame @ frame.T
    found = []
    for i, feature in enumerate(frame):
        across = torch.eye(frame.shape[1], dtype=frame.dtype) - torch.outer(feature, feature)
        others = (gram[i] ** 2)[:, None] * (frame @ across)
        hessian = 12 * (frame @ across).T @ others - 4 * (gram[i] ** 4).sum() * across
        # Along the feature itself the projected matrix is 0; moved out of the way, it cannot be taken for the largest.
        found.append(torch.linalg.eigvalsh(hessian - 1e3 * torch.outer(feature, feature))[-1])
    return torch.stack(found)


def allowed_angles(frame: Tensor) -> Tensor:
    """The least ``g/κ`` over ``σ ≤ 0.4`` with ``g < κσ``, in radians, ``[n]``; infinite where none is."""
    at = at_features(frame)
    slope, mu = at["slope"][:, None], at["mu"][:, None]
    sigma = torch.linspace(0, 0.4, 401, dtype=frame.dtype)[1:]
    kappa = 4 - 20 * sigma**2 - 12 * at["largest"] * (mu + sigma) ** 2
    return torch.where(slope < kappa * sigma, slope / kappa, math.inf).amin(1)


def angles(directions: Tensor, others: Tensor) -> Tensor:
    """Angles in radians between unit rows, accurate when small."""
    return 2 * torch.arcsin((directions - others).norm(dim=1) / 2)


def maxima_near_features(run: Run) -> Mapping[str, Any] | None:
    """A feature from which an ascent leaves the ball that it cannot leave."""
    frame = random_frame(run, 96, 384)
    allowed, seen = allowed_angles(frame), angles(ascend(frame, frame), frame)
    applies = allowed < math.inf
    outside = applies & (seen > allowed + 1e-7)
    if bool(applies.any()) and not bool(outside.any()):
        return None
    return {"n": 96, "d": 384, "features_covered": int(applies.sum()), "outside": outside.nonzero()[:, 0].tolist()}


def within_bounds(run: Run) -> Mapping[str, Any] | None:
    """A frame in which a mean, a slope or a second derivative is not what SE-5.peak says; None if there is none."""
    for n, d in ((96, 48), (256, 48)):
        frame = random_frame(run, n, d)
        random = random_directions(4096, d, Centring.NONE, torch.Generator().manual_seed(run.seed)).double()
        squares = (random @ frame.T) ** 2
        found = formulas.inner(squares, squares)[..., 0]
        exact, error = 3 * n / (d * (d + 2)), float(found.std()) / len(found) ** 0.5
        if not abs(float(found.mean()) - exact) <= 5 * error:
            return {"n": n, "d": d, "mean": float(found.mean()), "derived": exact, "standard_error": error}
        own = ((frame @ frame.T) ** 4).sum(1)
        at = at_features(frame)
        mu, largest = at["mu"], at["largest"]
        curvature = largest_curvatures(frame)
        bounds = torch.minimum(4 * (n - 1) * mu**3, 4 * mu**2 * (largest * (largest - 1)).sqrt())
        allowed = 1 + 1e-9
        if not bool((own * allowed >= 1).all() and (at["slope"] <= bounds * allowed).all()):
            return {"n": n, "d": d, "slope": float((at["slope"] / bounds).max()), "least": float(own.min())}
        if not bool((curvature <= 12 * mu**2 * largest - 4 + 1e-9).all()):
            return {"n": n, "d": d, "second_derivative": float((curvature - 12 * mu**2 * largest).max())}
    return None


def ascend(frame: Tensor, starts: Tensor, iterations: int = 100) -> Tensor:
    """Local maximisers of ``Σ⟨w_j, s⟩⁴`` from unit rows ``starts [S, d]``: a convex function's power iteration never
    goes down. The rows of ``frame [n, d]`` need not have length 1."""
    s = starts
    for _ in range(iterations):
        s = ((s @ frame.T) ** 3) @ frame
        s = s / s.norm(dim=1, keepdim=True)
    return s


def maximiser_table(run: Run) -> list[tuple[Any, ...]]:
    """Where ascents of ``F`` and ``C`` from each feature end, in random frames, and what the theorem says of them."""
    rows = []
    for n, d in ((64, 32), (128, 64), (256, 128), (96, 384)):
        frame = random_frame(run, n, d)
        values, axes = torch.linalg.eigh(frame.T @ frame)
        kept = values > 1e-9
        root = (axes[:, kept] / values[kept].sqrt()) @ axes[:, kept].T
        whitened, dual = frame @ root, torch.nn.functional.normalize(frame @ root @ root, dim=1)
        peak = ascend(frame, frame)
        quotient = torch.nn.functional.normalize(
            ascend(whitened, torch.nn.functional.normalize(whitened, dim=1)) @ root, dim=1
        )
        at, allowed, seen = at_features(frame), allowed_angles(frame), angles(peak, frame)
        applies = allowed < math.inf
        random = random_directions(1024, d, Centring.NONE, torch.Generator().manual_seed(run.seed)).double()
        rows.append(
            (
                n,
                d,
                round(float(at["mu"].max() ** 2 * at["largest"]), 3),
                round(float(((frame @ frame.T) ** 4).sum(1).mean()), 3),
                round(float(((random @ frame.T) ** 4).sum(1).mean()), 4),
                round(3 * n / (d * (d + 2)), 4),
                *(
                    round(float((a * b).sum(1).median()), 4)
                    for a, b in ((peak, frame), (quotient, frame), (quotient, dual))
                ),
                round(math.sqrt(1 - d / n), 4) if n > d else "",
                f"{int(applies.sum())} of {n}",
                f"{float(allowed[applies].max()):.3g}" if applies.any() else "",
                f"{float(seen[applies].max()):.3g}" if applies.any() else "",
            )
        )
    return rows
