"""More directions than dimensions must overlap: the crosstalk that no linear read-out avoids.

- RN-5 (:func:`check_floor`): among ``n ≥ d`` unit vectors of ``R^d``, ``n ≥ 2``, two have
  ``|⟨s_i,s_j⟩| ≥ √((n−d)/(d(n−1)))``. For ``n ≥ 2d`` that is above ``1/√(2d)``.
- Equality holds exactly for equiangular tight frames (all ``|⟨s_i,s_j⟩|`` equal and ``Σ s_i s_iᵀ = (n/d)I``): the
  simplex ``n = d + 1`` in every dimension, the 6 diagonals of the icosahedron in ``R³``. Not for every ``n``: 4 lines
  in the plane have two at 45° or less.

The proof lives in the space of ``d × d`` matrices with the Frobenius product, where ``Σ s_i s_iᵀ`` is built up one
vector at a time: ``‖Σ s_i s_iᵀ − (n/d)I‖² ≥ 0``.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import sympy
import torch

from proofs import falsify
from proofs.draws import Draws
from proofs.floating import Comparison, sweep
from proofs.norm_budget_floating import first_of
from proofs.proof import Proof
from proofs.steps import Computation, Given, Identity, Inequality, Setting, Step
from proofs.symbolic import Expression, GramSpace
from sensverify import formulas
from sensverify.claims import Finding, Run, Status

D, SOME = sympy.symbols("d m", integer=True, positive=True)
COUNT = sympy.Symbol("n", integer=True, positive=True)
OTHERS = sympy.Symbol("j", integer=True, nonnegative=True)
LARGEST, REST, ROOM, SPACE = sympy.symbols("M h g f", nonnegative=True)
OVERLAP, CROSS, SQUARED, A, B, PART = sympy.symbols("q c F a b p", real=True)
MORE_DIMENSIONS = sympy.Symbol("i", integer=True, nonnegative=True)
_SHOWN = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Floor:
    """RN-5 by default.

    ``factor`` multiplies the floor; ``absolute``: the largest overlap is that in size; ``length``: of all vectors.
    """

    factor: Expression = 1
    absolute: bool = True
    length: Expression = 1


def simplex(dimension: int) -> list[list[Expression]]:
    """``d + 1`` unit vectors of ``R^(d+1)`` orthogonal to ``1`` with inner products ``−1/d``, exactly."""
    size = dimension + 1
    scale = 1 / sympy.sqrt(1 - sympy.Rational(1, size))
    return [[scale * (int(i == j) - sympy.Rational(1, size)) for j in range(size)] for i in range(size)]


def check_floor(run: Run, statement: Floor = Floor()) -> Finding:
    """RN-5."""
    length = statement.length
    frame = COUNT**2 * length**4 / D + REST  # the squared norm of Σ s_i s_iᵀ

    def realise(numbers: Mapping[str, Any]) -> Mapping[str, Any]:
        # With its sign, the largest overlap of a simplex is negative; the equilateral triangle is one.
        dimension = int(numbers["d"]) if statement.absolute else 2
        if statement.absolute and not numbers["n"] == dimension + 1 <= _SHOWN:
            return {}
        vectors = [[falsify.to_text(sympy.simplify(length * c)) for c in v] for v in simplex(dimension)]
        floor = formulas.welch_bound(dimension + 1, sympy.Integer(dimension))
        overlap = length**2 * sympy.Rational(1 if statement.absolute else -1, dimension)
        return {"s": vectors, "floor": falsify.to_text(floor), "largest_overlap": falsify.to_text(overlap)}

    gram = {
        ("M", "M"): SQUARED, ("M", "t"): CROSS, ("t", "t"): length**4,
        ("W", "W"): frame, ("W", "I"): COUNT * length**2, ("I", "I"): D,
    }  # fmt: skip
    space = GramSpace(dimension=D, gram=gram)
    bounded = {
        COUNT: D + OTHERS,
        CROSS: SOME * LARGEST**2 - ROOM,
        SQUARED: SOME * length**4 + SOME * (SOME - 1) * LARGEST**2 - SPACE,
    }
    whole = COUNT * length**4 + COUNT * (COUNT - 1) * LARGEST**2 - frame
    sides = [Given(text="q ≤ M for every overlap q", quantity=LARGEST - OVERLAP)]
    if statement.absolute:
        sides.append(Given(text="q ≥ −M for every overlap q", quantity=LARGEST + OVERLAP))
    givens = (
        *sides,
        Given(text="‖Σ s_i s_iᵀ‖² ≤ n + n(n−1)M², the line on one more vector for all n", quantity=whole),
        Given(text="n ≥ 2", quantity=COUNT - 1, strict=True),
    )
    proof = Proof(
        title="The floor under the overlaps",
        hypotheses=(
            f"s_1, .., s_n be vectors of length {length} in R^d with n ≥ d and n ≥ 2 (written n = d + j), and M their "
            f"largest overlap {'in size' if statement.absolute else 'with its sign'}",
            "⟨A, B⟩ = Σ A_ab B_ab for matrices, and F = ‖Σ s_i s_iᵀ‖² ≤ m + m(m−1)M² for m of the vectors",
            "⟨s sᵀ, I⟩ = ‖s‖² and ⟨I, I⟩ = d, the traces",
            "c = ⟨Σ s_i s_iᵀ, t tᵀ⟩ ≤ mM² for one more vector t, each of the m terms being at most M²",
        ),
        setting=Setting(givens=givens, parametrisation=bounded, realise=realise, seed=run.seed),
        spaces=(space,),
        steps=(*_matrices(space, statement), _floor(statement, frame), *_growth(), *_attained(), _no_floor()),
    ).check()
    if proof.status is not Status.PROVED:
        return proof.finding()
    evidence = {
        "proved_for": "every d ≥ 1 and n ≥ max(2, d)",
        "constant": "above 1/√(2d) for all n ≥ 2d, and 1/√d in the limit n → ∞: Ω(d^(-1/2)) with constant 1/√2",
        "attained": "exactly where both slacks vanish: all |⟨s_i,s_j⟩| equal and Σ s_i s_iᵀ = (n/d)I. The simplex "
        "n = d + 1 in every d; 6 diagonals of the icosahedron, 1/√5 in R³",
        "not_attained": "4 lines in the plane: the best is 1/√2 against 1/√3; the orthoplex ±e_i has overlap 1 against "
        "1/√(2d−1)",
    }
    bounds = {
        "Welch, any frame": "4γ(d+8), n = 3 min(d, 6) directions",
        "Welch, simplex": "12γ(d+8): equality",
    }
    return sweep(run, "RN-5", compare_floor).join(proof.finding(evidence), bounds=bounds)


def _no_floor() -> Step:
    def broken() -> Mapping[str, Any] | None:
        for d in range(1, _SHOWN + 1):
            for n in range(2, d + 1):
                basis = torch.eye(d, dtype=torch.float64)[:n]
                overlap = float((basis @ basis.T - torch.eye(n, dtype=torch.float64)).abs().max())
                numbers = ((n, d), (float(n), float(d)), (numpy.int64(n), numpy.int64(d)))
                floors = [float(formulas.welch_bound(*pair)) for pair in numbers]
                if floors != [overlap] * 3:
                    return {"n": n, "d": d, "floor": floors, "overlap_of_a_basis": overlap}
        return None

    return Computation(
        text="Where n ≤ d, vectors of a basis have no overlap, and the engine's floor is 0.",
        run=broken,
        how=f"n ≤ d ≤ {_SHOWN}, whole numbers of Python and numpy, and floats",
    )


def _matrices(space: GramSpace, statement: Floor) -> list[Step]:
    total, term, all_terms, identity = (space.vector(name) for name in "MtWI")
    length = statement.length
    return [
        Identity(
            text="The product of two matrices aaᵀ and bbᵀ is a squared overlap; one more coordinate keeps that, p "
            "being the inner product of the others:",
            left=PART**2 + 2 * A * B * PART + (A * B) ** 2,
            right=(PART + A * B) ** 2,
            shown=r"\langle aa^T, bb^T \rangle = \sum_{i,j} a_i a_j b_i b_j = \langle a, b \rangle^2",
        ),
        Inequality(
            text="A single overlap q is at most M in size:",
            larger=LARGEST**2,
            smaller=OVERLAP**2,
            because=[[LARGEST - OVERLAP, LARGEST + OVERLAP]],
            shown=r"M^2 - q^2 = (M - q)(M + q) \geq 0",
        ),
        Inequality(
            text="One more vector: the squared length of Σssᵀ stays within its bound, as it is at m = 1,",
            larger=(SOME + 1) * length**4 + (SOME + 1) * SOME * LARGEST**2,
            smaller=(total + term).squared_norm(),
            because=[[SOME * length**4 + SOME * (SOME - 1) * LARGEST**2 - SQUARED], [2, SOME * LARGEST**2 - CROSS]],
            shown=r"F \leq m + m(m - 1)M^2 \Rightarrow \|{\textstyle\sum} ss^T + tt^T\|^2 \leq (m + 1) + (m + 1)m M^2",
        ),
        Identity(
            text="while its trace is n, so that it is at least n²/d; the excess is a squared length, written h:",
            left=(all_terms - identity * (COUNT * length**2 / D)).squared_norm(),
            right=REST,
            shown=r"\left\|\sum_i s_i s_i^T - \frac{n}{d} I\right\|^2 = \left\|\sum_i s_i s_i^T\right\|^2 - "
            r"\frac{n^2}{d} = h \geq 0",
        ),
    ]


def _floor(statement: Floor, frame: Expression) -> Step:
    length = statement.length
    return Inequality(
        text="Hence the floor, squared; both sides are not negative:",
        larger=LARGEST**2,
        smaller=(statement.factor * formulas.welch_bound(COUNT, D)) ** 2,
        because=[
            [
                COUNT * length**4 + COUNT * (COUNT - 1) * LARGEST**2 - frame,
                1 / (COUNT - 1),
                1 / COUNT,
            ],
            [REST, 1 / (COUNT - 1), 1 / COUNT],
        ],
        shown=r"M^2 - \frac{n - d}{d(n - 1)} = \frac{(n + n(n - 1)M^2 - n^2 / d - h) + h}{n(n - 1)} \geq 0",
    )


def _growth() -> list[Step]:
    dimension = 1 + MORE_DIMENSIONS
    floor = formulas.welch_bound(2 * dimension + OTHERS, dimension)
    return [
        Inequality(
            text="With n = 2d + j and d = 1 + i, twice the dimension or more, the floor is above 1/√(2d):",
            larger=floor**2,
            smaller=1 / (2 * dimension),
            because=[[OTHERS + 1, 1 / (2 * dimension), 1 / (2 * dimension + OTHERS - 1)]],
            strict=True,
            shown=r"\frac{n - d}{d(n - 1)} - \frac{1}{2d} = \frac{n - 2d + 1}{2d(n - 1)} > 0, n \geq 2d",
        ),
        Identity(
            text="and goes to 1/√d:",
            left=sympy.limit(formulas.welch_bound(COUNT, D) ** 2, COUNT, sympy.oo),
            right=1 / D,
            shown=r"\frac{n - d}{d(n - 1)} \to \frac{1}{d}, n \to \infty",
        ),
    ]


def _attained() -> list[Step]:
    size = D + 1
    gram = {("e", "e"): 1, ("f", "f"): 1, ("e", "f"): 0, ("e", "1"): 1, ("f", "1"): 1}
    space = GramSpace(dimension=size, gram=gram)
    corner = formulas.presence(formulas.centre(space.vector("e")), formulas.centre(space.vector("f")))
    return [
        Identity(
            text="The simplex attains it: unit coordinate vectors of R^(d+1), centred, lie in a space of dimension d,",
            left=corner,
            right=-1 / D,
            shown=r"\cos(P e_i, P e_j) = -\frac{1}{d}",
        ),
        Identity(
            text="and their overlap is the floor:",
            left=formulas.welch_bound(size, D),
            right=1 / D,
            shown=r"\sqrt{\frac{(d + 1) - d}{d \cdot d}} = \frac{1}{d}",
        ),
        Computation(
            text="So do the 6 diagonals of the icosahedron in R³, exactly:",
            run=lambda: _not_attained(icosahedron(), 3),
            how="all 15 overlaps compared in exact arithmetic",
            latex=r"|\langle s_i, s_j \rangle| = \frac{1}{\sqrt{5}} = \sqrt{\frac{6 - 3}{3 \cdot 5}}",
        ),
    ]


def icosahedron() -> list[list[Expression]]:
    """The 6 diagonals of the icosahedron in ``R³``, of equal but not unit length."""
    golden = (1 + sympy.sqrt(5)) / 2
    return [
        [sympy.sympify(sign if c == "±" else {"0": 0, "φ": golden}[c]) for c in pattern]
        for pattern in ("0±φ", "±φ0", "φ0±")
        for sign in (1, -1)
    ]


def _not_attained(vectors: Sequence[Sequence[Expression]], dimension: int) -> Mapping[str, Any] | None:
    """A pair whose overlap is not the floor, or None."""

    def inner(a: Sequence[Expression], b: Sequence[Expression]) -> Expression:
        return sympy.Add(*(p * q for p, q in zip(a, b, strict=True)))

    floor = formulas.welch_bound(sympy.Integer(len(vectors)), sympy.Integer(dimension)) ** 2
    for a, b in itertools.combinations(vectors, 2):
        if sympy.simplify(inner(a, b) ** 2 - floor * inner(a, a) * inner(b, b)) != 0:
            return {"pair": [[str(c) for c in a], [str(c) for c in b]], "floor_squared": falsify.to_text(floor)}
    return None


def compare_floor(draws: Draws) -> list[Comparison]:
    """RN-5 on frames made of the draws, and on simplices."""
    draws = first_of(draws)
    # A computed cosine is off by at most 2γ(d+8), and the floor, below 1, by 4u.
    gamma, dimension = draws.gamma, draws.x.shape[-1]
    x = draws.x / formulas.norm(draws.x)
    frame = torch.stack(
        [v.roll(i, -1) for i in range(max(2, min(dimension, 6))) for v in (draws.s, draws.u, x)], dim=-2
    )
    count = frame.shape[-2]
    found = _largest_overlap(frame)
    any_frame = Comparison(
        law="Welch, any frame",
        error=(formulas.welch_bound(count, dimension) - found).clamp(min=0),
        bound=torch.full_like(found, 4 * gamma),
    )
    if dimension > 64:  # a simplex of 513 vectors for each draw is no better a test than one of 65
        return [any_frame]
    # s is unit within γ, so that the reflection moves inner products by 4γ; rounding and measuring add 4γ and 2γ.
    corners = _simplex(dimension).to(x.dtype)
    turned = corners - 2 * draws.s[:, None] * formulas.inner(corners.expand(len(x), -1, -1), draws.s[:, None])
    attained = _largest_overlap(turned)
    equality = Comparison(
        law="Welch, simplex",
        error=(attained - formulas.welch_bound(dimension + 1, dimension)).abs(),
        bound=torch.full_like(attained, 12 * gamma),
    )
    return [any_frame, equality]


def _largest_overlap(frame: torch.Tensor) -> torch.Tensor:
    """``max |cos(s_i, s_j)|`` over pairs of the ``n`` rows of each case, ``[N, n, d]`` to ``[N, 1]`` in float64."""
    unit = frame / formulas.norm(frame)
    overlaps = torch.einsum("bid,bjd->bij", unit, unit).tril(-1).abs()
    return overlaps.flatten(1).amax(-1, keepdim=True).double()


def _simplex(dimension: int) -> torch.Tensor:
    """``d + 1`` unit vectors ``[d+1, d]`` in float64 with inner products ``−1/d``, built coordinate by coordinate."""
    corners = torch.zeros(dimension + 1, dimension, dtype=torch.float64)
    for i in range(dimension):
        corners[i, i] = (1 - corners[i, :i].square().sum()).sqrt()
        corners[i + 1 :, i] = (-1 / dimension - (corners[i + 1 :, :i] @ corners[i, :i])) / corners[i, i]
    return corners


def twin_one_per_cent_higher(run: Run) -> Finding:
    """False: the floor is one per cent higher."""
    return check_floor(run, Floor(factor=sympy.Rational(101, 100)))


def twin_signed(run: Run) -> Finding:
    """False: the same floor for the largest overlap with its sign."""
    return check_floor(run, Floor(absolute=False))


def twin_half_length(run: Run) -> Finding:
    """False: the same floor for vectors of length 1/2."""
    return check_floor(run, Floor(length=sympy.Rational(1, 2)))
