"""Classical baselines: principal components, independent components, random directions.

The first two are scikit-learn's (extra ``toys``). A component has no sign of its own; it is given the one under which
its coordinate over the data is skewed to the right, because a sparse feature is absent or positive. So signed figures
are as good as the method allows; report unsigned ones beside them.

No decomposition has more components than the space has dimensions, ``d``: more features than that, or than ``2d`` if
the negative of every component is taken too, are out of reach.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import warnings
from typing import Any

import torch
from torch import Tensor

from sensverify.autoencoders import check_activations
from sensverify.errors import InputError, MissingExtraError

LARGEST_SEED = 2**31 - 1
_ALONE = threading.Lock()
"""Warnings are caught for the whole program: of two fits at once, one would get those of the other."""

NORMAL_LOG_COSH = 0.374567207488
"""``E log cosh ν`` for a standard normal ``ν``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decomposition:
    """Unit ``directions [K, d]``; ``variance_explained`` by the plane they span; how many ``iterations`` it took
    (0 for a closed form) and whether it ``converged``."""

    directions: Tensor
    variance_explained: float
    iterations: int = 0
    converged: bool = True


def principal_components(x: Tensor, count: int) -> Decomposition:
    """The ``count`` orthonormal directions of largest variance of ``x [N, d]``, by falling variance.

    Raises :class:`~sensverify.errors.InputError` for more components than the data have,
    :class:`~sensverify.errors.MissingExtraError` without scikit-learn.
    """
    _check(x, count)
    model = require_sklearn().PCA(n_components=count, svd_solver="full").fit(x.detach().double().cpu().numpy())
    components = torch.as_tensor(model.components_)
    return _finish(x, components, _centred(x) @ components.T)


def independent_components(
    x: Tensor, count: int, *, seed: int, iterations: int = 500, starts: int = 4, tolerance: float = 1e-4
) -> Decomposition:
    """FastICA (symmetric, ``log cosh``) of ``x [N, d]`` on its ``count`` principal components.

    A direction is a column of the mixing matrix: where the activation goes when that source is present. A single start
    can end in a local optimum, so the one of ``starts`` whose sources are least normal, by the contrast that FastICA
    maximises, is returned; ``iterations`` are those of all starts, at most the number asked for in each. Not converging
    is told by ``converged``, not by a warning. Source: Hyvärinen & Oja 2000. Raises
    :class:`~sensverify.errors.InputError` for more components than the data have, a seed out of range or no start,
    :class:`~sensverify.errors.MissingExtraError` without scikit-learn.
    """
    _check(x, count)
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError(
            expected=f"a seed from 0 to {LARGEST_SEED}", got=str(seed), remedy="draw the seed from that range"
        )
    if starts < 1 or iterations < 1:
        raise InputError(
            expected="at least 1 start and 1 iteration", got=f"{starts} and {iterations}", remedy="allow one of each"
        )
    fits = [_fast_ica(x, count, seed + start, iterations, tolerance) for start in range(starts)]
    best = max(fits, key=lambda fit: _contrast(fit.sources))
    total = sum(fit.iterations for fit in fits)
    return _finish(x, best.mixing, best.sources, iterations=total, converged=best.converged)


@dataclasses.dataclass(frozen=True)
class _Fit:
    """One start: ``sources [N, K]`` of variance 1, ``mixing [K, d]``."""

    sources: Tensor
    mixing: Tensor
    iterations: int
    converged: bool


def _fast_ica(x: Tensor, count: int, seed: int, iterations: int, tolerance: float) -> _Fit:
    decomposition = require_sklearn()
    from sklearn.exceptions import ConvergenceWarning

    model = decomposition.FastICA(
        n_components=count, whiten="unit-variance", max_iter=iterations, tol=tolerance, random_state=seed
    )
    with _ALONE, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sources = torch.as_tensor(model.fit_transform(x.detach().double().cpu().numpy()))
    failed = any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    return _Fit(sources, torch.as_tensor(model.mixing_).T, int(model.n_iter_), not failed)


def _contrast(sources: Tensor) -> float:
    """``Σ_k (E log cosh s_k − E log cosh ν)²``, ``ν`` normal: how far from normal the columns of ``[N, K]`` are."""
    log_cosh = torch.logaddexp(sources, -sources) - math.log(2)
    return float((log_cosh.mean(0) - NORMAL_LOG_COSH).square().sum())


def require_sklearn() -> Any:
    """``sklearn.decomposition``; raises :class:`~sensverify.errors.MissingExtraError` where it is not installed."""
    try:
        from sklearn import decomposition
    except ImportError as error:
        raise MissingExtraError(package="scikit-learn", extra="toys") from error
    return decomposition


def _centred(x: Tensor) -> Tensor:
    x = x.detach().double().cpu()
    return x - x.mean(0)


def most_components(x: Tensor) -> int:
    """How many components ``x [N, d]`` has: the rank of the centred data, at most ``min(N − 1, d)``."""
    return int(torch.linalg.matrix_rank(_centred(x), rtol=1e-6))


def _check(x: Tensor, count: int) -> None:
    check_activations(x)
    available = most_components(x)
    if not 1 <= count <= available:
        raise InputError(
            expected=f"from 1 to {available} components, the rank of the data",
            got=str(count),
            remedy="ask for no more than that, or draw more contexts",
        )


def _finish(x: Tensor, components: Tensor, coordinates: Tensor, **told: Any) -> Decomposition:
    """Unit rows, skewed to the right along ``coordinates [N, K]``, in the dtype of ``x``."""
    skew = (coordinates - coordinates.mean(0)).pow(3).mean(0)
    sign = torch.where(skew < 0, -1.0, 1.0).double()[:, None]
    unit = sign * torch.nn.functional.normalize(components)
    centred = _centred(x)
    basis = torch.linalg.qr(unit.T).Q
    share = (centred @ basis).square().sum() / centred.square().sum()
    return Decomposition(directions=unit.to(x), variance_explained=float(share), **told)
