r"""Why plain sensitivity stops telling features from random directions: the ratio, predicted from ``(n, d, p)`` alone.

No weight matrix enters. Units are exchangeable, and only the law of one unit's surroundings counts.

**The geometries training chooses from.** Each is a balanced tight frame of ``k ≤ n`` kept features: ``Σ s_i = 0``
and ``Σ s_i s_iᵀ = (k/d) I``. The cosine ``g`` of a feature with another then has ``E g = −1/(k−1)`` and ``E g² =
(k/d − 1)/(k−1)`` (Welch's bound, met). Negative cosines are free behind a ReLU, so the third moment is as low as it
can be: ``(k−1) E g³ ≥ −1``, for ``Σ_ij g_ij³ ≥ 0`` (Schur), with equality for spherical 3-designs.

- the cross-polytope, ``k = 2d``: one partner at −1, all else at 0. A 3-design;
- products of pentagons, square antiprisms or icosahedra, ``k = 5d/2, 8d/3, 4d``. 3-designs with known cosines;
- antipodal frames, ``2d < k ≤ n``: one partner at −1, else cosines symmetric about 0. 3-designs;
- generic frames: a beta law on ``[−1, M]``. These are 3-designs only with enough freedom: ``kd`` coordinates
  against ``C(d+2, 3)`` cubic equations. With ``r`` their quotient, trained ones have ``(k−1) E g³ ≈ −r/(r + 1/4)``,
  where 1/4 is the only number in this theory that was fitted.

**What training makes of it.** Pre-activation of unit ``i``: ``c²(x_i + η_i) + b``, with interference ``η_i = Σ_j
g_ij x_j``. Geometry, ``k``, ``c`` and ``b`` minimise ``E(ReLU(c²(x+η)+b) − x)²``, averaged over the ``k`` features
that are kept and the ``n − k`` that are not, which are best answered with the constant ``E x = p/2``.

**What the intervention does.** With ``v = (s − ρĥ)/√(1−ρ²)`` it is a rotation by ``φ = arccos ρ − arccos α``,

    ``z_i = cos φ · u_i + sin φ · ‖h‖ ⟨w_i, v⟩ + b``,   ``u_i = ⟨w_i, h⟩``.

Feature and random direction differ in the law of ``⟨w_i, s⟩`` over the ``k`` units alone: for a feature one unit at
``c`` and the rest at ``c g``; for a random direction all at ``c · N(0, 1/d)``. These laws have the same first two
moments, in a 3-design the same three. The threshold tells them apart: it passes one effect of size ``c`` and stops
many of size ``c/√d``.

**The boundary.** As ``p`` grows, interference grows, and training gives up features (``k`` falls) and the threshold
(``b`` rises to 0): from generic over antipodal frames and products of small polytopes to ``k = 2d``, the
cross-polytope, where ``h`` is read as its positive and its negative parts. There is no threshold any more, and the
ratio is 1 or just below. At ``n = 2d`` this geometry is the optimum at every density.

What is not exact: overlaps are independent of each other but for their sum along a row, all kept features are
alike, and training is taken to reach the least loss.

Expectations over contexts are Monte Carlo over these scalars, by a fixed seed: the same arguments give the
same figures.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sensverify.errors import InputError

Array = npt.NDArray[np.float64]

SEED = 20_250_915
CONTEXTS = 6144
DRAWS = 4
HIGHEST_PRESENCE = 0.875
"""``α ~ U(0, 7/8)``, as the engine draws it."""
UNITS = 96
"""How many of a context's inactive units are simulated; each stands for its share of them."""
FIT_ROWS = 16_384
GENERIC = 0.25
"""The one number that was fitted: how fast the third moment is attained with the freedom there is, see above."""
KEPT = 7
"""How many numbers of kept features are tried between ``2d`` and ``n``."""
POLYTOPES: tuple[tuple[int, int, tuple[tuple[float, float], ...]], ...] = (
    (5, 2, ((math.cos(0.4 * math.pi), 2), (math.cos(0.8 * math.pi), 2))),
    (8, 3, ((1 / 3, 2), (-1 / 3, 1), ((math.sqrt(2) - 1) / 3, 2), (-(math.sqrt(2) + 1) / 3, 2))),
    (12, 3, ((-1.0, 1), (math.sqrt(0.2), 5), (-math.sqrt(0.2), 5))),
)
"""Points, dimension, and cosines with their counts: pentagon, square antiprism, icosahedron. All are 3-designs."""
TABLE = 2**14


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ingredients:
    """What the theory is allowed to use; without one of them it is a false theory (the claim's twins)."""

    threshold: bool = True
    interference: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statistics:
    """What of a model enters: ``represented`` features, ``scale c``, ``threshold b``, ``moments`` of overlaps.

    ``moments`` are ``(k−1) E g^m`` for ``m = 1, 2, 3``; ``atoms`` are
    cosines that come up, with the mean number of others at each. ``dropped`` is the constant that
    the units of features which were given up read.
    """

    represented: int
    scale: float
    threshold: float
    moments: tuple[float, float, float]
    atoms: tuple[tuple[float, float], ...]
    dropped: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """Mean SeS of ``feature`` and ``random`` directions, and what it was computed from.

    ``share`` of the features is represented; ``interference`` is the standard deviation of an inactive unit's
    pre-activation, ``norm`` the mean ``‖h‖``, ``loss`` the least loss relative to answering 0 (NaN if none was sought);
    ``error`` the Monte Carlo standard error of ``ratio``.
    """

    statistics: Statistics
    share: float
    interference: float
    norm: float
    loss: float
    feature: float
    random: float
    error: float

    @property
    def ratio(self) -> float:
        """``SeS(feature)/SeS(random)``."""
        return float(self.feature / self.random)


@dataclasses.dataclass(frozen=True)
class Geometry:
    """``kept`` features; a feature has ``count`` others at each ``value`` of ``atoms``; all have ``moments``."""

    kept: int
    moments: tuple[float, float, float]
    atoms: tuple[tuple[float, float], ...] = ()


def geometries(features: int, width: int) -> list[Geometry]:
    """What training may choose from, for ``n`` features in ``R^d``.

    ``d`` orthogonal features; ``2d`` in antipodal pairs (for ``n < 2d`` what can be had of that: between the two the
    loss is linear in ``k``, so only the ends can be best); products of small polytopes; generic and
    antipodal frames.
    """
    if features <= 2 * width:
        paired = max(0.0, 2 * (features - width) / features)
        alone = [Geometry(width, (0.0, 0.0, 0.0))] if features > width else []
        return [*alone, Geometry(features, (-paired, paired, -paired), ((-1.0, paired),))]
    found = [Geometry(width, (0.0, 0.0, 0.0))]
    for size, dimension, atoms in POLYTOPES:
        kept = width * size // dimension
        if kept <= features:
            found.append(Geometry(kept, (-1.0, size / dimension - 1, -1.0), atoms))
    for kept in sorted(set(np.geomspace(2 * width, features, KEPT).round().astype(int).tolist())):
        square, freedom = kept / width - 1, kept * width / math.comb(width + 2, 3)
        found.append(Geometry(kept, (-1.0, square, -1.0), ((-1.0, 1.0),)))
        if kept > 2 * width:
            found.append(Geometry(kept, (-1.0, square, -freedom / (freedom + GENERIC))))
    return found


def overlaps_of(geometry: Geometry) -> Array:
    """The cosines of one feature with the ``k − 1`` others: its atoms, as often as they come up, else beta quantiles.

    What is left beside the atoms is 0 where it has no variance.
    """
    total = max(geometry.kept - 1, 1)
    values = [np.full(round(count), value) for value, count in geometry.atoms]
    atoms = np.concatenate([np.zeros(0), *values])[:total]
    others = total - len(atoms)
    first, second, third = (
        (moment - float((atoms**m).sum())) / max(others, 1) for m, moment in enumerate(geometry.moments, 1)
    )
    variance = second - first**2
    if variance <= 1e-6 or others < 2 or abs(first) >= 1:
        return np.sort(np.concatenate([atoms, np.zeros(others)]))
    lowest = first + variance / (first + 1)  # the upper atom of the two-atom law {−1, M}

    def beta(upper: float) -> tuple[float, float]:
        mean = (first + 1) / (upper + 1)
        size = mean * (1 - mean) * (upper + 1) ** 2 / variance - 1
        return mean * size, (1 - mean) * size

    def excess(upper: float) -> float:
        a, b = beta(upper)
        skewness = 2 * (b - a) * math.sqrt(a + b + 1) / ((a + b + 2) * math.sqrt(a * b))
        return float(skewness * variance**1.5 + 3 * first * variance + first**3 - third)

    low, high = math.log(1e-9), math.log(50.0)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(lowest + math.exp(middle)) > 0 else (middle, high)
    upper = lowest + math.exp(low)
    a, b = beta(upper)
    table = np.sort(np.random.default_rng(SEED).beta(a, b, TABLE))
    drawn = table[((np.arange(others) + 0.5) * TABLE / others).astype(int)]
    drawn = (drawn - drawn.mean()) * math.sqrt(variance) / drawn.std() + first
    return np.sort(np.concatenate([atoms, drawn]))


@dataclasses.dataclass(frozen=True)
class _Fit:
    statistics: Statistics
    loss: float


def fit(features: int, width: int, density: float, ingredients: Ingredients | None = None) -> _Fit:
    """What training makes of ``(n, d, p)``: the ``(k, c, b)`` of least mean-field loss."""
    use = ingredients or Ingredients()
    generator = np.random.default_rng(SEED)
    x = (generator.permutation(FIT_ROWS) + 0.5) / FIT_ROWS
    inputs = generator.random((FIT_ROWS, features), dtype=np.float32)
    inputs = np.where(inputs < density, inputs / np.float32(density), np.float32(0))
    square = density / 3
    best: _Fit | None = None
    orthogonal = [Geometry(features, (0.0, 0.0, 0.0))]
    for geometry in geometries(features, width) if use.interference else orthogonal:
        kept = geometry.kept
        eta = (inputs[:, : kept - 1] @ overlaps_of(geometry).astype(np.float32)).astype(np.float64)
        scale, bias, own = _minimise(_loss(x, eta, density), use.threshold)
        loss = (kept * own + (features - kept) * (square - density**2 / 4)) / (features * square)
        if best is None or loss < best.loss:
            statistics = Statistics(
                represented=kept,
                scale=math.sqrt(scale),
                threshold=bias,
                moments=geometry.moments,
                atoms=geometry.atoms,
                dropped=density / 2,
            )
            best = _Fit(statistics, loss)
    assert best is not None
    return best


def _binomial(coin: Array, trials: int, density: float) -> npt.NDArray[np.int64]:
    """Binomial quantiles at ``coin``, by the cumulated law: common random numbers for different ``trials``."""
    k = np.arange(trials + 1)
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    log = factorial[-1] - factorial - factorial[::-1] + k * math.log(density) + (trials - k) * math.log1p(-density)
    return np.searchsorted(np.cumsum(np.exp(log)), coin * (1 - 1e-12)).clip(0, trials)


def _loss(x: Array, eta: Array, density: float) -> Callable[[float, float], float]:
    def loss(scale: float, bias: float) -> float:
        active = np.maximum(scale * (x + eta) + bias, 0) - x
        silent = np.maximum(scale * eta + bias, 0)
        return float(density * (active @ active) + (1 - density) * (silent @ silent)) / len(x)

    return loss


def _minimise(loss: Callable[[float, float], float], threshold: bool) -> tuple[float, float, float]:
    """``(c², b, loss)`` by a pattern search that halves its steps; ``b = 0`` if there is to be no threshold."""
    point, best = (1.0, 0.0), loss(1.0, 0.0)
    steps = (0.4, 0.3)
    while steps[0] > 2e-3:
        tried = [
            (point[0] + i * steps[0], point[1] + j * steps[1] * threshold)
            for i in (-1, 0, 1)
            for j in ((-1, 0, 1) if threshold else (0,))
        ]
        values = [(loss(*trial), trial) for trial in tried if trial[0] > 0]
        value, trial = min(values)
        if value < best:
            best, point = value, trial
        else:
            steps = (steps[0] / 2, steps[1] / 2)
    return point[0], point[1], best


def predicted_ratio(
    features: int, width: int, density: float, ingredients: Ingredients | None = None, contexts: int = CONTEXTS
) -> Prediction:
    """The prediction from ``(n, d, p)`` alone; deterministic. Raises :class:`InputError` where there is no model."""
    if features < 2 or width < 4 or not 0 < density < 1:
        raise InputError(
            expected="at least 2 features, 4 dimensions and a density between 0 and 1",
            got=f"features={features}, width={width}, density={density}",
            remedy="change the configuration",
        )
    found = fit(features, width, density, ingredients)
    use = ingredients or Ingredients()
    return _simulate(features, width, density, found.statistics, found.loss, use.interference, contexts)


def predicted_ratio_given(
    features: int, width: int, density: float, statistics: Statistics, contexts: int = CONTEXTS
) -> Prediction:
    """The same, with the statistics of a trained model in place of predicted ones: the error left is not theirs."""
    return _simulate(features, width, density, statistics, math.nan, True, contexts)


def boundary(features: int, width: int, level: float = 1.0, contexts: int = CONTEXTS) -> float:
    """The density above which the predicted ratio stays below ``level``, by bisection in ``log p``, to 3 %.

    Looked for from dense to sparse, between 0.005 and 0.6; 0.0 if the ratio is below the level at every density there.
    """

    def above(density: float) -> bool:
        return predicted_ratio(features, width, density, contexts=contexts).ratio > level

    grid = np.geomspace(0.6, 0.005, 10).tolist()
    for high, low in itertools.pairwise(grid):
        if not above(low):
            continue
        while high / low > 1.03:
            middle = math.sqrt(high * low)
            low, high = (middle, high) if above(middle) else (low, middle)
        return math.sqrt(low * high)
    return 0.0


@dataclasses.dataclass
class _Sums:
    """Effects per context, and what describes contexts."""

    feature: list[Array] = dataclasses.field(default_factory=list)
    random: list[Array] = dataclasses.field(default_factory=list)
    norms: list[Array] = dataclasses.field(default_factory=list)
    squares: list[Array] = dataclasses.field(default_factory=list)


def _simulate(
    features: int, width: int, density: float, model: Statistics, loss: float, interference: bool, contexts: int
) -> Prediction:
    generator = np.random.default_rng(SEED + 1)
    overlaps = overlaps_of(Geometry(model.represented, model.moments, model.atoms))
    empty = (1 - density) ** model.represented
    coin = empty + (1 - empty) * (np.arange(contexts) + 0.5) / contexts  # at least one feature is active
    active = np.maximum(1, _binomial(coin, model.represented, density))
    sums = _Sums()
    for block in np.array_split(active, max(1, contexts // 64)):
        _contexts(block, model, overlaps, width, (features - model.represented) * model.dropped**2, generator, sums)
    feature, random = np.concatenate(sums.feature), np.concatenate(sums.random)
    ratio = feature.mean() / random.mean()
    return Prediction(
        statistics=model,
        share=model.represented / features,
        interference=float(np.sqrt(np.concatenate(sums.squares).mean())) if interference else 0.0,
        norm=float(np.concatenate(sums.norms).mean()),
        loss=loss,
        feature=float(feature.mean()),
        random=float(random.mean()),
        error=float((feature - ratio * random).std() / random.mean() / math.sqrt(contexts)),
    )


def _contexts(
    active: npt.NDArray[np.int64],
    model: Statistics,
    overlaps: Array,
    width: int,
    constant: float,
    generator: np.random.Generator,
    sums: _Sums,
) -> None:
    """Simulate one context per entry of ``active [C]``: units ``[C, K + M]``, the active ones first, padded."""
    count, most, c = len(active), int(active.max()), model.scale
    here = np.arange(most)[None] < active[:, None]
    x = generator.random((count, most)) * here

    # Unit i has label l_i; the overlap of i and j is entry l_i + l_j of the shuffled list: symmetric, and along a row
    # (almost) no entry comes up twice, so that what interferes with a unit adds up as it does in a dictionary.
    size = len(overlaps)
    shuffled = generator.permutation(overlaps)
    labels = np.argsort(generator.random((count, max(size, most + UNITS))), 1)[:, : most + UNITS]
    table = shuffled[(labels[:, :, None] + labels[:, None, :most]) % size] * here[:, None, :]
    table[:, np.arange(most), np.arange(most)] = 0
    u = c**2 * (np.einsum("cij,cj->ci", table, x) + np.pad(x, ((0, 0), (0, UNITS))))
    u[:, :most] *= here
    squares = c**2 * (x**2).sum(1)
    norm = np.sqrt(np.maximum((x * u[:, :most]).sum(1), 1e-3 * squares))
    silent = (model.represented - active)[:, None]
    weight = np.concatenate([here, np.repeat(silent / UNITS, UNITS, 1)], 1)
    across = np.sqrt(np.maximum(c**2 - (u / norm[:, None]) ** 2, 0))  # length of what of w_i is orthogonal to h
    # The random direction.
    rho = (generator.standard_normal(count) / math.sqrt(width)).clip(-0.99, 0.99)
    moved = across * generator.standard_normal(u.shape) / math.sqrt(width - 1)
    # The feature: one of the k, active as often as it is; an inactive one is the first of the inactive units.
    is_active = generator.random(count) < active / model.represented
    own = np.where(is_active, (generator.random(count) * active).astype(np.int64), most)
    rows = np.arange(count)
    rho_own = (u[rows, own] / (c * norm)).clip(-0.99, 0.99)
    sine = np.sqrt(1 - rho_own**2)
    moved_own = across * generator.choice(overlaps, u.shape)
    # With active units the overlap is the one that made this feature's interference: a partner at −1 is felt twice.
    exact = c * table[rows, own] - rho_own[:, None] * u[:, :most] / norm[:, None]
    moved_own[:, :most] = exact / sine[:, None]
    moved_own[rows, own] = c * sine
    rest = np.maximum(silent - 1, 0) / (UNITS - 1)
    weight_own = np.where(is_active[:, None], weight, np.concatenate([here, np.repeat(rest, UNITS, 1)], 1))
    weight_own[rows, own] = 1
    effects = [np.zeros(count), np.zeros(count)]
    for draw in range(DRAWS):
        alpha = HIGHEST_PRESENCE * (draw + generator.random(count)) / DRAWS
        for group, (cosine, direction, weights) in enumerate(((rho_own, moved_own, weight_own), (rho, moved, weight))):
            phi = (np.arccos(cosine) - np.arccos(alpha))[:, None]
            after = np.cos(phi) * u + np.sin(phi) * norm[:, None] * direction
            effects[group] += _distance(u + model.threshold, after + model.threshold, weights, constant) / DRAWS
    sums.feature.append(effects[0])
    sums.random.append(effects[1])
    sums.norms.append(norm)
    sums.squares.append((u[:, most:] ** 2).mean(1))


def _distance(before: Array, after: Array, weights: Array, constant: float) -> Array:
    """``(1 − cos)/2`` of the read-outs; two that are zero are at 0, a zero and another at 1/2, as in the engine."""
    y, z = np.maximum(before, 0), np.maximum(after, 0)
    yy, zz, yz = ((weights * a * b).sum(1) + constant for a, b in ((y, y), (z, z), (y, z)))
    both = np.sqrt(yy * zz)
    cosine = np.where(both > 0, yz / np.where(both > 0, both, 1), np.where(yy + zz == 0, 1.0, 0.0))
    return np.asarray((1 - cosine) / 2)
