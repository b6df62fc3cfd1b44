"""The formulas of the theory, written once, for sympy symbols, numpy arrays and torch tensors alike.

The proofs prove *these* functions and the engine runs *these* functions. A "vector" below is one of

- a torch tensor or numpy array, the last axis being the activation's coordinates (any leading shape);
- an abstract vector (:class:`AbstractVector`): an element of an inner-product space of symbolic dimension,
  known only by its inner products. What is proved for it holds in every dimension.

Scalars that belong to array vectors keep a last axis of length one, so that they broadcast. Adding a scalar
to a vector adds it to every coordinate, as in numpy.

Source of the definitions: the sensitivity and relative-norm hypotheses (Stambler 2025); LayerNorm as in
Ba et al. 2016, with the biased variance, before the affine part.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any, Protocol, runtime_checkable

Scalar = Any
Vector = Any


@runtime_checkable
class AbstractVector(Protocol):
    """What a symbolic vector must offer beside ``+``, ``-`` and multiplication by scalars."""

    @property
    def dimension(self) -> Scalar:
        """The dimension ``d`` of the space, possibly a symbol."""

    def inner_product(self, other: Any) -> Scalar:
        """``⟨self, other⟩``."""

    def coordinate_sum(self) -> Scalar:
        """``⟨self, 1⟩``, the sum of the coordinates."""


def _namespace(value: Any) -> Any:
    """The module whose ``sqrt``, ``exp`` and ``arccos`` fit ``value``; nothing is imported that was not yet."""
    root = type(value).__module__.partition(".")[0]
    if root == "torch":
        return sys.modules["torch"]
    if root == "sympy":
        return sys.modules["sympy"]
    import numpy

    return numpy


def _is_abstract(value: Any) -> bool:
    return hasattr(value, "inner_product")  # isinstance with a protocol takes longer than the product of small arrays


def sqrt(value: Scalar) -> Scalar:
    """The square root, in the caller's own arithmetic."""
    return _namespace(value).sqrt(value)


def exp(value: Scalar) -> Scalar:
    """The exponential, in the caller's own arithmetic."""
    return _namespace(value).exp(value)


def arccos(value: Scalar) -> Scalar:
    """The angle in ``[0, π]`` radians whose cosine is ``value``."""
    namespace = _namespace(value)
    return namespace.arccos(value) if hasattr(namespace, "arccos") else namespace.acos(value)


def cos(value: Scalar) -> Scalar:
    """The cosine of an angle in radians."""
    return _namespace(value).cos(value)


def inner(a: Vector, b: Vector) -> Scalar:
    """``⟨a, b⟩``; for arrays over the last axis, which is kept with length one."""
    if _is_abstract(a):
        return a.inner_product(b)
    if _is_outer(a, b):  # [S,1,d] against [1,B,d]: one matrix product instead of an [S,B,d] table
        return _namespace(a).einsum("...i,...i->...", a, b)[..., None]
    return (a * b).sum(-1)[..., None]  # einsum would multiply row by row, several times slower


def _is_outer(a: Any, b: Any) -> bool:
    """Whether each of two arrays is repeated along an axis of the other, so that their product is larger than both."""
    pairs = list(itertools.zip_longest(reversed(a.shape[:-1]), reversed(b.shape[:-1]), fillvalue=1))
    return any(m == 1 < n for m, n in pairs) and any(n == 1 < m for m, n in pairs)


def norm(x: Vector) -> Scalar:
    """``‖x‖``, the Euclidean norm."""
    return sqrt(inner(x, x))


def dimension(x: Vector) -> Scalar:
    """``d``, the number of coordinates."""
    return x.dimension if _is_abstract(x) else x.shape[-1]


def mean(x: Vector) -> Scalar:
    """``μ = ⟨x, 1⟩/d``, the mean coordinate."""
    total = x.coordinate_sum() if _is_abstract(x) else x.sum(-1)[..., None]
    return total / dimension(x)


def centre(x: Vector) -> Vector:
    """``Px = x − μ1``: what is left of ``x`` when the all-ones direction, invisible to LayerNorm, is taken out."""
    return x - mean(x)


def variance(x: Vector) -> Scalar:
    """``σ² = ‖Px‖²/d``, the biased variance of the coordinates."""
    centred = centre(x)
    return inner(centred, centred) / dimension(x)


def layer_norm(x: Vector, epsilon: Scalar = 0) -> Vector:
    """``LN(x) = (x − μ)/√(σ² + ε)``, before the affine part."""
    return centre(x) / sqrt(variance(x) + epsilon)


def rms_norm(x: Vector, epsilon: Scalar = 0) -> Vector:
    """``x/√(‖x‖²/d + ε)``, before the affine part."""
    return x / sqrt(inner(x, x) / dimension(x) + epsilon)


def layer_norm_gain_squared(variance_of_x: Scalar, epsilon: Scalar, scale: Scalar) -> Scalar:
    """``g²`` with ``LN(kx) = g·LN(x)``: ``(σ² + ε)/(σ² + ε/k²)`` for scale ``k > 0`` (claim LN-2)."""
    return (variance_of_x + epsilon) / (variance_of_x + epsilon / scale**2)


def layer_norm_gain_bound(variance_of_x: Scalar, epsilon: Scalar, scale: Scalar) -> Scalar:
    """The bound on ``|g² − 1|`` for ``k ≥ 1``: ``ε(1 − k⁻²)/σ²`` (claim LN-2)."""
    return epsilon * (1 - scale**-2) / variance_of_x


def layer_norm_gain_bound_shrinking(variance_of_x: Scalar, epsilon: Scalar, scale: Scalar) -> Scalar:
    """The bound on ``|g² − 1|`` for ``0 < k ≤ 1``: ``ε(k⁻² − 1)/(σ² + ε)``, or 1 where that is smaller (claim LN-2).

    With ``k < 1`` the gain falls, ``g² = 1 − ε(k⁻²−1)/(σ² + ε/k²)``: the denominator is at least ``σ² + ε``, and
    ``g²`` stays positive.
    """
    return epsilon * (scale**-2 - 1) / (variance_of_x + epsilon)


def presence(x: Vector, s: Vector) -> Scalar:
    """``ρ_s(x) = ⟨x, s⟩/(‖x‖‖s‖)``, the cosine; give centred vectors for a LayerNorm model."""
    return inner(x, s) / (norm(x) * norm(s))


def perpendicular(x: Vector, s: Vector) -> Vector:
    """``x − ⟨x, s⟩s``, the part of ``x`` orthogonal to the unit vector ``s``."""
    return x - s * inner(x, s)


def rejection(x: Vector, s: Vector) -> Vector:
    """The part of ``x`` orthogonal to the unit vector ``s``, orthogonalised twice.

    The second pass changes nothing in exact arithmetic and, in floating point, leaves the inner product with
    ``s`` at rounding level even when ``x`` is nearly parallel to ``s`` ("twice is enough", Kahan).
    """
    return perpendicular(perpendicular(x, s), s)


def perpendicular_unit(x: Vector, s: Vector) -> Vector:
    """``v``, the unit vector along the part of ``x`` orthogonal to the unit vector ``s``; undefined if ``x ∥ s``."""
    rejected = rejection(x, s)
    return rejected / norm(rejected)


def at_presence(length: Scalar, s: Vector, v: Vector, alpha: Scalar) -> Vector:
    """``length·(αs + √(1−α²)v)``: the vector of that length with presence ``α`` of ``s``, in the half-plane of ``v``.

    ``s`` and ``v`` are orthonormal. The factored root is exact near ``|α| = 1``, where ``1 − α²`` cancels.
    """
    return length * (s * alpha + v * sqrt((1 - alpha) * (1 + alpha)))


def minimal_intervention(x: Vector, s: Vector, alpha: Scalar) -> Vector:
    """``I_s^α(x)``: the nearest vector to ``x`` of the same norm with presence ``α`` of the unit vector ``s``.

    Undefined if ``x ∥ s``; :func:`sensverify.interventions.set_presence` picks a ``v`` there.
    """
    return at_presence(norm(x), s, perpendicular_unit(x, s), alpha)


def unit_norm_intervention(x: Vector, s: Vector, alpha: Scalar) -> Vector:
    """``αs + √(1−α²)v``: presence ``α`` of the unit vector ``s``, but norm 1 whatever the norm of ``x`` was.

    The published score compares this with the untouched ``x`` (claim SE-2); the engine never does.
    """
    return at_presence(1, s, perpendicular_unit(x, s), alpha)


def squared_displacement(length: Scalar, rho: Scalar, alpha: Scalar) -> Scalar:
    """``‖I_s^α(x) − x‖² = 2‖x‖²(1 − cos(arccos ρ − arccos α))`` (claim RN-1)."""
    return 2 * length**2 * (1 - cos(arccos(rho) - arccos(alpha)))


def presence_of_other(rho_other: Scalar, rho: Scalar, overlap: Scalar, alpha: Scalar) -> Scalar:
    """Presence of another unit direction ``u`` after ``I_s^α``, from before: ``ρ_u``, ``ρ_s`` and ``⟨s, u⟩`` (RN-3)."""
    shrink = sqrt((1 - alpha) * (1 + alpha)) / sqrt((1 - rho) * (1 + rho))
    return alpha * overlap + shrink * (rho_other - rho * overlap)


def angular_distance(y: Vector, z: Vector) -> Scalar:
    """``D(y, z) = (1 − cos(y, z))/2 ∈ [0, 1]`` of nonzero vectors.

    Computed as ``‖y/‖y‖ − z/‖z‖‖²/4``, the same number without the cancellation of ``1 − cos``: a distance of
    1e-9 survives float32, and equal inputs give exactly 0.
    """
    difference = unit_difference(y, z)
    return inner(difference, difference) / 4


def unit_difference(y: Vector, z: Vector) -> Vector:
    """``y/‖y‖ − z/‖z‖`` of nonzero vectors."""
    # The reciprocal once per vector: the gradient of a quotient costs three more passes over its numerator.
    return y * (1 / norm(y)) - z * (1 / norm(z))


def concentration(effect: Vector) -> Scalar:
    """``C = ‖Δ‖₄⁴/‖Δ‖₂⁴`` of an effect over the units of a privileged basis: 1 on one unit, ``1/n`` spread over ``n``.

    Source: the participation ratio's inverse; ℓ4 maximisation over the sphere (claim SE-5).
    """
    squares = effect * effect
    return inner(squares, squares) / inner(effect, effect) ** 2


def inactive_weight(rho: Scalar, sigma: Scalar) -> Scalar:
    """``w = exp(−ρ²/σ²)``, which asks for contexts where the direction is not already present."""
    return exp(-(rho**2) / sigma**2)


def norm_budget(presence_threshold: Scalar, coherence: Scalar) -> Scalar:
    """The most unit directions, pairwise ``|⟨s_i,s_j⟩| ≤ μ < τ²``, that can have ``|ρ_i| ≥ τ`` at once (RN-4)."""
    return (1 - coherence) / (presence_threshold**2 - coherence)


def welch_bound(count: Scalar, dimension: Scalar) -> Scalar:
    """``√((n−d)/(d(n−1)))``: among ``n`` unit vectors of ``R^d`` two have ``|⟨s_i,s_j⟩|`` at least that (RN-5).

    For ``n ≥ 2``. Where ``n ≤ d`` orthonormal vectors exist, and the floor is 0 (for plain numbers; symbols are
    taken to have ``n ≥ d``). Source: Welch 1974.
    """
    spare = count - dimension
    if _namespace(spare).__name__ == "numpy" and not getattr(spare, "shape", ()) and spare <= 0:  # a plain number
        return 0.0
    return sqrt(spare / (dimension * (count - 1)))


def fold_affine(weight: Vector, bias: Vector, gain: Vector, shift: Vector) -> tuple[Vector, Vector]:
    """``(Wγ, Wβ + b)``: the linear map that gives ``W(γ⊙z + β) + b`` from ``z`` (claim LN-8).

    ``weight [d_out, d]`` and ``bias [d_out]`` as in ``torch.nn.Linear``, ``gain [d]`` and ``shift [d]`` as in
    ``torch.nn.LayerNorm``; arrays only. To fold the centring as well, take :func:`centre` of the folded weight.
    """
    return weight * gain, weight @ shift + bias


def layer_norm_jvp(x: Vector, h: Vector, epsilon: Scalar = 0) -> Vector:
    """``J h``, the derivative of :func:`layer_norm` at ``x`` along ``h`` (claim LN-4).

    ``J = (P − ccᵀ/(d(σ² + ε)))/√(σ² + ε)`` with ``c = Px``; it is symmetric, so this is also the backward pass.
    """
    centred, spread = centre(x), variance(x) + epsilon
    return (centre(h) - centred * (inner(centred, h) / (dimension(x) * spread))) / sqrt(spread)
