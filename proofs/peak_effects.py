"""Features of any frame can be told by effects that are large on few units: the linear case of peak sensitivity.

Let ``w_1, …, w_n`` be unit vectors in ``R^d``, tight frame or not, read out linearly by ``n`` units. A step along
``s`` has the effect ``(⟨w_j, s⟩)_j``, and the part of peak sensitivity (:func:`sensverify.selectivity.peaks`) that
depends on ``s`` is ``F(s) = Σ_j ⟨w_j, s⟩⁴`` on the unit sphere. ``M = Σ w_j w_jᵀ`` has the largest eigenvalue ``λ``,
and ``μ`` is the largest ``|⟨w_j, w_i⟩|``, ``j ≠ i``, at the feature ``w_i`` in question.

- SE-5.peak (:func:`check_peak`): ``F(w_i) ≥ 1``, and over uniformly random ``s`` the mean of ``F`` is ``3n/(d(d+2))``,
  exactly: features stand out by at least ``d(d+2)/(3n)``, the same as for concentration, but in every frame.
- At a feature the gradient on the sphere is ``4 Σ_{j≠i} G_ij³ (w_j − G_ij w_i)``, of length at most ``4(n−1)μ³`` and at
  most ``4μ²√(λ(λ−1))``; the second derivative along any great circle is at most ``12μ²λ − 4``. No factor below 12
  will do: two features in the plane attain 12 in the limit of small ``μ``.
- A maximum near the feature: within the angle ``r < π/2`` of ``w_i`` all second derivatives are at most ``−κ``,
  ``κ = 4 − 20σ² − 12λ(μ+σ)²`` with ``σ = sin r``. If the gradient at ``w_i`` has length ``g < κσ``, there is exactly
  one critical point within ``r``; it is a strict maximum, at angle at most ``g/κ``. Sufficient, far from necessary.
- Duality: the quotient ``C(s) = F(s)/(Σ⟨w_j, s⟩²)²`` does not change under ``s → As``, ``w_j → A⁻ᵀw_j``. With
  ``A = M^{1/2}`` the frame becomes tight, and the partner of a feature of that frame is ``M⁻¹w_i`` in the old one. In
  the plane there is a frame, with rational coordinates, whose ``C`` is largest far from every feature and whose ``F``
  is largest near them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sympy

from proofs.concentrated_effects import COHERENCE, ENERGY, ONE, OTHERS, OVERLAP, PRODUCTS, TANGENT, D, N
from proofs.hunting import EXAMPLES, hunt
from proofs.peak_engine import against_theory, failure, pairs
from proofs.plane_frames import curvatures, maximisers_differ
from proofs.proof import Proof
from proofs.random_frames import COLUMNS, maxima_near_features, maximiser_table, within_bounds
from proofs.steps import Computation, Given, Identity, Inequality, Setting
from proofs.symbolic import Expression, GramSpace
from sensverify import formulas
from sensverify.claims import Finding, Run, Status
from sensverify.exhibits import Table

LARGEST, SUM, SIXTH, SIZE, SINE_OTHER, COSINE = sympy.symbols("lambda Q S h tau k", nonnegative=True)
SIGMA, SQUARE, PART, RADIUS, KAPPA, SLOPE, ANGLE = sympy.symbols("sigma z p r kappa g theta", nonnegative=True)
EXACT_MEAN = 3 * N / (D * (D + 2))
TWELVE = sympy.Integer(12)
KAPPA_IS = 4 - 20 * SIGMA**2 - 12 * LARGEST * (COHERENCE + SIGMA) ** 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peak:
    """SE-5.peak by default. ``random``: the mean of ``F`` over random directions; ``curvature``: the factor of ``μ²λ``
    in the bound on second derivatives; ``same``: whether ``C`` and ``F`` have the same maximisers in every frame."""

    random: Expression = EXACT_MEAN
    curvature: Expression = TWELVE
    same: bool = False


def check_peak(run: Run, statement: Peak = Peak()) -> Finding:
    """SE-5.peak."""
    moment = sympy.gammasimp(
        sympy.gamma(sympy.Rational(5, 2)) * sympy.gamma(D / 2) / (sympy.gamma(ONE / 2) * sympy.gamma(D / 2 + 2))
    )
    space = GramSpace(dimension=D, gram={("w", "w"): 1, ("v", "v"): 1, ("w", "v"): OVERLAP})
    w, v = space.vector("w"), space.vector("v")
    proof = Proof(
        title="How large the effect of a feature is on its own unit, in any frame",
        hypotheses=(
            "w_1, …, w_n be unit vectors in R^d, F(s) = Σ_j ⟨w_j, s⟩⁴ on the unit sphere, λ the largest eigenvalue of "
            "Σ_j w_j w_jᵀ, so that Σ_j ⟨w_j, u⟩² ≤ λ for every unit u, and 1 + Q ≤ λ with Q = Σ_{j≠i} ⟨w_j, w_i⟩²",
            "μ be the largest |⟨w_j, w_i⟩|, j ≠ i, at a feature w_i, and q = Σ_{j≠i} ⟨w_j, w_i⟩⁴",
            "one coordinate t of a uniformly random unit vector have the density ∝ (1 − t²)^((d−3)/2), as is well "
            "known",
        ),
        setting=Setting(givens=_AT_THE_FEATURE, seed=run.seed),
        spaces=(space,),
        steps=(
            Inequality(
                text="A feature moves its own unit by 1, whatever the others are:",
                larger=1 + OTHERS,
                smaller=1,
                because=[[OTHERS]],
                shown=r"F(w_i) = 1 + q \geq 1",
            ),
            Identity(
                text="The fourth moment of that density is a quotient of Beta functions, and F a sum of n such terms:",
                left=N * moment,
                right=statement.random,
                shown=rf"E\, F(s) = n\, E\langle w, s \rangle^4 = {sympy.latex(statement.random)}",
            ),
            Inequality(
                text="so that a feature stands out by at least d(d+2)/(3n), which is 1 at n = d(d+2)/3:",
                larger=(1 + OTHERS) / EXACT_MEAN,
                smaller=D * (D + 2) / (3 * N),
                because=[[OTHERS, D * (D + 2) / (3 * N)]],
                shown=r"\frac{F(w_i)}{E\, F(s)} \geq \frac{d(d+2)}{3n}",
            ),
            Computation(
                text="Along a great circle each y = ⟨w_j, ·⟩ is c cos t + e sin t, with c at its start and e along the "
                "tangent; y⁴ has the slope 4y³y' and the second derivative 12y²y'² − 4y⁴, at every t.",
                run=_great_circle,
                how="differentiated symbolically",
            ),
            Identity(
                text="The gradient on the sphere at w_i is the part of 4Σc³w_j perpendicular to w_i; of w_i itself "
                "nothing is left. Each term has the part",
                left=(formulas.perpendicular(v, w) - (v - w * OVERLAP)).squared_norm(),
                shown=r"w_j - c\, w_i, \quad c = \langle w_j, w_i \rangle",
            ),
            Identity(
                text="of squared length",
                left=formulas.perpendicular(v, w).squared_norm(),
                right=1 - OVERLAP**2,
                shown=r"\|w_j - c\, w_i\|^2 = 1 - c^2",
            ),
            Inequality(
                text="With h = |c| ≤ μ and τ = √(1 − c²) ≤ 1 each of the n − 1 terms is at most 4μ³ long:",
                larger=4 * COHERENCE**3,
                smaller=4 * SIZE**3 * SINE_OTHER,
                because=[
                    [4 * ONE, COHERENCE - SIZE, COHERENCE**2 + COHERENCE * SIZE + SIZE**2],
                    [4 * ONE, SIZE**3, 1 - SINE_OTHER],
                ],
                shown=r"4 \mu^3 - 4 h^3 \tau = 4(\mu - h)(\mu^2 + \mu h + h^2) + 4 h^3 (1 - \tau) \geq 0",
            ),
            Inequality(
                text="The gradient is also at most 4√(SE) long, S = Σ_{j≠i} c⁶ and E = Σe² ≤ λ, by Cauchy and Schwarz. "
                "With S ≤ μ⁴Q so far, a further term keeps it so:",
                larger=COHERENCE**4 * (SUM + OVERLAP**2),
                smaller=SIXTH + OVERLAP**6,
                because=[
                    [COHERENCE**4 * SUM - SIXTH],
                    [COHERENCE**2 - OVERLAP**2, OVERLAP**2, COHERENCE**2 + OVERLAP**2],
                ],
                shown=r"\mu^4 (Q + c^2) - (S + c^6) = (\mu^4 Q - S) + (\mu^2 - c^2) c^2 (\mu^2 + c^2) \geq 0",
            ),
            Inequality(
                text="and Q ≤ λ − 1 in the end:",
                larger=COHERENCE**4 * (LARGEST - 1) * LARGEST,
                smaller=SIXTH * ENERGY,
                because=[
                    [COHERENCE**4 * SUM - SIXTH, LARGEST],
                    [COHERENCE**4, LARGEST - 1 - SUM, LARGEST],
                    [SIXTH, LARGEST - ENERGY],
                ],
                shown=r"\mu^4 (\lambda - 1) \lambda \geq S E",
            ),
            Computation(
                text=f"In frames of the plane that can be written out the second derivative at each feature is at most "
                f"{statement.curvature}μ²λ − 4.",
                run=lambda: curvatures(statement.curvature),
                how="exact arithmetic",
            ),
            Inequality(
                text="In every frame: e = 0 for w_i itself. With B = Σ_{j≠i} c²e² and E = Σe² so far, B ≤ μ²E, a "
                "further term keeps it so:",
                larger=COHERENCE**2 * (ENERGY + TANGENT**2),
                smaller=PRODUCTS + OVERLAP**2 * TANGENT**2,
                because=[[COHERENCE**2 * ENERGY - PRODUCTS], [COHERENCE**2 - OVERLAP**2, TANGENT**2]],
                shown=r"\mu^2 (E + e^2) - (B + c^2 e^2) = (\mu^2 E - B) + (\mu^2 - c^2) e^2 \geq 0",
            ),
            Inequality(
                text="and in the end E ≤ λ, so that the second derivative has the bound",
                larger=statement.curvature * COHERENCE**2 * LARGEST - 4,
                smaller=12 * PRODUCTS - 4 * (1 + OTHERS),
                because=[
                    [statement.curvature - 12, COHERENCE**2, LARGEST],
                    [12 * ONE, COHERENCE**2 * ENERGY - PRODUCTS],
                    [12 * COHERENCE**2, LARGEST - ENERGY],
                    [4 * ONE, OTHERS],
                ],
                shown=rf"12 B - 4(1 + q) \leq {sympy.latex(statement.curvature)} \mu^2 \lambda - 4",
            ),
            Inequality(
                text="It is negative in all directions if μ²λ < 1/3:",
                larger=0,
                smaller=12 * COHERENCE**2 * LARGEST - 4,
                because=[[12 * ONE, ONE / 3 - COHERENCE**2 * LARGEST]],
                strict=True,
                shown=r"12 \mu^2 \lambda - 4 < 0",
            ),
            Computation(
                text="The quotient C depends on the numbers ⟨w_j, s⟩ alone, and A⁻ᵀw and As have the same product as w "
                "and s. With A⁻¹ = M^{−1/2} the frame becomes tight, as M^{−1/2} M M^{−1/2} = 1, and what the whitened "
                "feature M^{−1/2}w_i is in the old coordinates is the dual M⁻¹w_i.",
                run=_duality,
                how="matrices of symbolic size",
            ),
            Computation(
                text="C and F have the same maximisers in every frame."
                if statement.same
                else "In a frame of two features in the plane every maximiser of C has a cosine of at most 24/25 to "
                "every feature and its negative, and every maximiser of F one of at least 99/100 to some feature or "
                "its negative; in a basis turned by an angle both have the same.",
                run=lambda: maximisers_differ(statement.same),
                how="all real roots of the slope, isolated in exact arithmetic",
            ),
            Computation(
                text="On random frames that are not tight random directions have the mean that was derived, features "
                "at least 1, and no slope or second derivative at a feature exceeds its bound.",
                run=lambda: within_bounds(run),
                how="4,096 directions, 5 standard errors; all eigenvalues",
            ),
            Computation(
                text="For a linear read-out and the absent reference the engine's peak sensitivity is the mean of "
                "‖‖x‖W(αs + (√(1−α²) − 1)v)‖₄⁴ over that of ‖Wx‖₂⁴, v the unit rejection of x.",
                run=lambda: against_theory(run),
                how="64 contexts and 16 directions, relative error 1e-9",
            ),
        ),
    ).check()
    if proof.status is not Status.PROVED:
        return proof.finding()
    near = _near(run).check()
    if near.status is not Status.PROVED:
        return near.finding()
    rows = run.shared("proofs: maximisers in random frames", lambda: maximiser_table(run))
    broken = hunt(run, pairs(), failure)
    finding = proof.finding(
        {
            "proof": f"{proof.steps + near.steps} steps checked by machine",
            "proved_for": "any unit features and a linear read-out; no tightness, no assumption on density",
            "random_direction": "3n/(d(d+2)) exactly",
            "factor": "at least d(d+2)/(3n): identifiable up to a quadratic load",
            "local_maxima": "strict maximum within g/κ of a feature if g < κσ for some σ; sufficient only. The table "
            "shows maxima near features also where μ²λ > 1/3",
            "frames": [dict(zip(COLUMNS, row, strict=True)) for row in rows],
            "seed": run.seed,
            "hypothesis_examples": EXAMPLES[run.profile],
        }
    )
    table = Table(
        title="Where the maxima of F and of C are, in random frames that are not tight",
        caption="Ascents from every feature. Those of F end near the feature, those of C near its dual; √(1 − d/n) is "
        "what large random frames have between a feature and its dual. The last columns: how many features the theorem "
        "gives a maximum for, the largest angle it allows, and the largest that was seen, in radians.",
        columns=COLUMNS,
        rows=rows,
    )
    status = Status.PROVED if broken is None else Status.REFUTED
    return Finding(
        status=status, evidence=finding.evidence, witness=broken, exhibits=(*finding.exhibits, near.derivation(), table)
    )


_COMMON = (Given(text="h ≤ μ, where h = |c|", quantity=COHERENCE - SIZE), Given(text="τ ≤ 1", quantity=1 - SINE_OTHER))
_AT_THE_FEATURE = (
    *_COMMON,
    Given(text="|c| ≤ μ", quantity=COHERENCE**2 - OVERLAP**2),
    Given(text="S ≤ μ⁴Q so far", quantity=COHERENCE**4 * SUM - SIXTH),
    Given(text="1 + Q ≤ λ", quantity=LARGEST - 1 - SUM),
    Given(text="E ≤ λ", quantity=LARGEST - ENERGY),
    Given(text="B ≤ μ²E so far", quantity=COHERENCE**2 * ENERGY - PRODUCTS),
    Given(text="μ²λ < 1/3 in the line on signs", quantity=ONE / 3 - COHERENCE**2 * LARGEST, strict=True),
)
_NEARBY = (
    *_COMMON,
    Given(text="k ≤ 1", quantity=1 - COSINE),
    Given(text="B ≤ (μ+σ)²λ", quantity=LARGEST * (COHERENCE + SIGMA) ** 2 - PRODUCTS),
    Given(text="z ≤ σ²", quantity=SIGMA**2 - SQUARE),
    Given(text="z ≤ 1", quantity=1 - SQUARE),
    Given(text="p ≤ z", quantity=SQUARE - PART),
    Given(text="σ ≤ r, a sine and its angle", quantity=RADIUS - SIGMA),
    Given(text="κ > 0 in the lines that use it", quantity=KAPPA, strict=True),
    Given(text="g < κσ in the line on the boundary", quantity=KAPPA * SIGMA - SLOPE, strict=True),
    Given(text="0 ≤ g − κθ at the maximum, by the mean value theorem", quantity=SLOPE - KAPPA * ANGLE),
)


def _near(run: Run) -> Proof:
    """The maximum near a feature."""
    return Proof(
        title="A maximum near the feature",
        hypotheses=(
            "r < π/2 be an angle, σ = sin r, and g the length of the gradient of F at w_i; c = ⟨w_j, w_i⟩, and e the "
            "product of w_j with the unit tangent at w_i towards a point at angle φ ≤ r",
            "B = Σ_{j≠i} y²y'² for the numbers y = ⟨w_j, s⟩, y' = ⟨w_j, u⟩ of a point s and a unit tangent u at s",
        ),
        setting=Setting(givens=_NEARBY, seed=run.seed),
        steps=(
            Inequality(
                text="At angle φ ≤ r from w_i, with h = |c|, k = cos φ and τ = "
                "|e|, another feature has |y| ≤ hk + τ sin φ, at most μ + σ:",
                larger=COHERENCE + SIGMA,
                smaller=SIZE * COSINE + SINE_OTHER * SIGMA,
                because=[[COHERENCE - SIZE], [SIZE, 1 - COSINE], [SIGMA, 1 - SINE_OTHER]],
                shown=r"(\mu + \sigma) - (hk + \tau \sigma) = (\mu - h) + h (1 - k) + \sigma (1 - \tau) \geq 0",
            ),
            Inequality(
                text="For w_i itself y² = 1 − z, z = sin²φ ≤ σ², and y'² = p ≤ z by Bessel. The others add at most "
                "12B, and again B ≤ (μ+σ)²λ. So all second derivatives there are at most −κ:",
                larger=-KAPPA_IS,
                smaller=12 * (1 - SQUARE) * PART - 4 * (1 - SQUARE) ** 2 + 12 * PRODUCTS,
                because=[
                    [20 * ONE, SIGMA**2 - SQUARE],
                    [12 * ONE, 1 - SQUARE, SQUARE - PART],
                    [16 * SQUARE**2],
                    [12 * ONE, LARGEST * (COHERENCE + SIGMA) ** 2 - PRODUCTS],
                ],
                shown=r"12 (1 - z) p - 4 (1 - z)^2 + 12 B \leq -\kappa, "
                r"\quad \kappa = 4 - 20 \sigma^2 - 12 \lambda (\mu + \sigma)^2",
            ),
            Inequality(
                text="If the slope g at w_i is below κσ, every great circle from w_i goes down at angle r ≥ σ:",
                larger=0,
                smaller=SLOPE - KAPPA * RADIUS,
                because=[[KAPPA * SIGMA - SLOPE], [KAPPA, RADIUS - SIGMA]],
                strict=True,
                shown=r"g - \kappa r < 0",
            ),
            Inequality(
                text="So F, strictly concave on that convex ball, has exactly one critical point in it, a strict "
                "maximum. At its angle θ the slope 0 is at most g − κθ, hence",
                larger=SLOPE / KAPPA,
                smaller=ANGLE,
                because=[[SLOPE - KAPPA * ANGLE, 1 / KAPPA]],
                shown=r"\theta \leq \frac{g}{\kappa}",
            ),
            Computation(
                text="In a random frame of 96 features in 384 dimensions an ascent from a feature for which the "
                "theorem speaks ends within the angle that it allows.",
                run=lambda: maxima_near_features(run),
                how="100 steps from every feature",
            ),
        ),
    )


def _great_circle() -> Mapping[str, Any] | None:
    t, c, e = sympy.symbols("t c e", real=True)
    y = sympy.cos(t) * c + sympy.sin(t) * e
    slope, curvature = sympy.diff(y**4, t), sympy.diff(y**4, t, 2)
    step = sympy.diff(y, t)
    off = [sympy.expand(slope - 4 * y**3 * step), sympy.expand(curvature - (12 * y**2 * step**2 - 4 * y**4))]
    return {"differences": list(map(str, off))} if any(off) else None


def _duality() -> Mapping[str, Any] | None:
    d = sympy.Symbol("d", integer=True, positive=True)
    a, root = sympy.MatrixSymbol("A", d, d), sympy.MatrixSymbol("R", d, d)  # R = M^{−1/2}, symmetric
    w, s = sympy.MatrixSymbol("w", d, 1), sympy.MatrixSymbol("s", d, 1)
    kept = ((a.T.I * w).T * (a * s)).doit() == (w.T * s).doit()
    frame = root.I * root.I
    whitened = (root * frame * root).doit() == sympy.Identity(d)
    dual = (root * (root * w)).doit() == (frame.I * w).doit()
    return None if kept and whitened and dual else {"product": kept, "tight": whitened, "dual": dual}


def twin_third_of_the_mean(run: Run) -> Finding:
    """False: random directions have the mean ``n/(d(d+2))``."""
    return check_peak(run, Peak(random=N / (D * (D + 2))))


def twin_half_the_curvature(run: Run) -> Finding:
    """False: second derivatives are at most ``6μ²λ − 4``."""
    return check_peak(run, Peak(curvature=sympy.Integer(6)))


def twin_same_maximisers(run: Run) -> Finding:
    """False: ``C`` and ``F`` have the same maximisers in every frame."""
    return check_peak(run, Peak(same=True))
