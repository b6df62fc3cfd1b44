"""Sensitivity to small interventions, in closed form.

- SE-3 (:func:`check_expansion`): with ``Δθ = arccos ρ − arccos α`` and ``v_s = (s − ρx̂)/√(1−ρ²)``, the intervention is
  the rotation ``I_s^α(x) = ‖x‖(cos Δθ·x̂ + sin Δθ·v_s)``, exactly, and its effect is

      D = (Δθ²/4)·‖x‖²‖P_y^⊥ J v_s‖²/‖y‖² + o(Δθ²),   J the Jacobian of the read-out at x, y = f(x).

  So for steps ``Δθ = τ√(1−ρ²)``, the same multiple of ``P_x^⊥ s`` in every context, the mean effect is ``(τ²/4)sᵀMs``
  with ``M = E[‖x‖² P_x^⊥ Jᵀ P_y^⊥ J P_x^⊥/‖y‖²]``, and the best directions are top eigenvectors of ``M``. (For equal
  ``Δθ`` the form is divided by ``1 − ρ²`` context by context: no eigenvalue problem, though close to one where ρ² ≪ 1.)

The expansion holds for every twice differentiable read-out: it uses the first two derivatives of the curve
``y(h) = f(I(t))`` alone, and a polynomial stands for all curves that share them. The engine's matrix-free operator
(:mod:`sensverify.spectral`) is held against dense Jacobians and against finite differences of measured effects.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import sympy
import torch
from torch import Tensor

from proofs.draws import gamma
from proofs.hunting import EXAMPLES, Witness, hunt
from proofs.proof import Proof
from proofs.relative_norm import ALPHA, DIRECTION, HALF_ANGLE, LENGTH, RHO, A, D, T, half_angle
from proofs.smooth_readouts import SmoothReadout, readouts
from proofs.steps import Given, Identity, Inequality, Setting
from proofs.symbolic import Expression, GramSpace
from sensverify import formulas
from sensverify.claims import Finding, Run, Status
from sensverify.scoring import angular_distance
from sensverify.spectral import apply_operator, spectral_directions

STEP = sympy.Symbol("h", real=True)
YY, ZZ = sympy.symbols("Y Z", positive=True)
WW, AA = sympy.symbols("W A", nonnegative=True)
YW, YA, WA, YZ = sympy.symbols("C E G P", real=True)
TOP, VALUE, FORM, PART = sympy.symbols("lambda_1 lambda q s_i", real=True)
MASS = sympy.Symbol("m", nonnegative=True)


_TENSORS = ("contexts", "inner", "outer", "skip", "probe")
QUARTER = sympy.Rational(1, 4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expansion:
    """SE-3 by default. ``factor``: of ``Δθ²``; ``projected``: whether the part of the change along ``y`` is left out;
    ``tangent``: whether the derivative is along ``v_s``, or along ``s`` itself; ``equal``: whether the quadratic form
    is said to hold for equal ``Δθ`` in all contexts, not for ``Δθ = τ√(1−ρ²)``."""

    factor: Expression = QUARTER
    projected: bool = True
    tangent: bool = True
    equal: bool = False


def check_expansion(run: Run, statement: Expansion = Expansion()) -> Finding:
    """SE-3."""
    plane = GramSpace(dimension=D, gram={("x", "x"): LENGTH**2, ("s", "s"): 1, ("x", "s"): LENGTH * RHO})
    x, s = plane.vector("x"), plane.vector("s")
    moved = formulas.minimal_intervention(x, s, ALPHA)
    sines = sympy.sqrt(1 - RHO**2), sympy.sqrt(1 - ALPHA**2)
    # cos and sin of arccos ρ − arccos α, by the addition theorems
    cosine, sine = ALPHA * RHO + sines[0] * sines[1], sines[0] * ALPHA - RHO * sines[1]
    tangent = (s - x * (RHO / LENGTH)) * (1 / sines[0]) if statement.tangent else s
    rotation = (x * (1 / LENGTH) * cosine + tangent * sine) * LENGTH
    # The curve y + hw + h²a/2 stands for every curve with these first two derivatives at h = 0.
    jet = GramSpace(
        dimension=D,
        gram={
            ("y", "y"): YY, ("w", "w"): WW, ("a", "a"): AA, ("y", "w"): YW, ("y", "a"): YA, ("w", "a"): WA,
        },
    )  # fmt: skip
    y, w, a = (jet.vector(name) for name in "ywa")
    curve = y + w * STEP + a * (STEP**2 / 2)
    pair = GramSpace(dimension=D, gram={("y", "y"): YY, ("z", "z"): ZZ, ("y", "z"): YZ})
    distance = formulas.angular_distance(pair.vector("y"), pair.vector("z"))
    cosine_of_pair = (1 - YZ / (sympy.sqrt(YY) * sympy.sqrt(ZZ))) / 2
    effect = cosine_of_pair.subs({YZ: y.inner_product(curve), ZZ: curve.squared_norm()})
    first, second = (sympy.simplify(sympy.diff(effect, STEP, n).subs(STEP, 0)) for n in (1, 2))
    change = formulas.perpendicular(w, y / formulas.norm(y)) if statement.projected else w
    said = 2 * statement.factor * change.squared_norm() / YY
    across = formulas.perpendicular(s, x / formulas.norm(x))
    step = sympy.Integer(1) if statement.equal else sines[0]
    givens = (
        Given(text="⟨y,y⟩⟨w,w⟩ ≥ ⟨y,w⟩², by Cauchy and Schwarz", quantity=YY * WW - YW**2),
        Given(text="λ ≤ λ_1, for an eigenvalue λ of M and the largest one", quantity=TOP - VALUE),
        Given(text="q ≤ λ_1·m for the sums q of λs_i² and m of s_i² so far", quantity=TOP * MASS - FORM),
    )
    proof = Proof(
        title="The second order of sensitivity",
        hypotheses=(
            DIRECTION,
            HALF_ANGLE,
            "y(h) be the read-out after a rotation by the angle h, twice differentiable at 0, y = y(0) ≠ 0, w = y'(0) "
            "= ‖x‖Jv_s and a = y''(0); Y, W, A, C, E, G their inner products ⟨y,y⟩, ⟨w,w⟩, ⟨a,a⟩, ⟨y,w⟩, ⟨y,a⟩, ⟨w,a⟩",
        ),
        setting=Setting(givens=givens, parametrisation={RHO: half_angle(T), ALPHA: half_angle(A)}, seed=run.seed),
        spaces=(plane, pair, jet),
        steps=(
            Identity(
                text="The intervention is a rotation from x towards s by the angle Δθ:",
                left=(moved - rotation).squared_norm(),
                right=0,
                shown=r"I_s^\alpha(x) = \|x\| (\cos \Delta\theta \, \hat{x} + \sin \Delta\theta \, v_s), \quad "
                r"v_s = \frac{s - \rho \hat{x}}{\sqrt{1 - \rho^2}}",
            ),
            Identity(
                text="where cos Δθ and sin Δθ do belong to one angle:",
                left=cosine**2 + sine**2,
                right=1,
                shown=r"\cos^2 \Delta\theta + \sin^2 \Delta\theta = 1",
            ),
            Identity(
                text="The distance to another read-out z ≠ 0 is (1 − cos)/2, where y(h) will be put for z:",
                left=distance,
                right=cosine_of_pair,
                shown=r"D(y, z) = \frac{1 - \cos(y, z)}{2}",
            ),
            Identity(text="It starts at zero", left=effect.subs(STEP, 0), right=0, shown="D(y, y(0)) = 0"),
            Identity(
                text="with slope zero", left=first, right=0, shown=r"\frac{d}{dh} D(y, y(h)) = 0 \text{ at } h = 0"
            ),
            Identity(
                text="and curvature",
                left=second,
                right=said,
                shown=r"\frac{d^2}{dh^2} D(y, y(h)) = \frac{"
                + (r"\|P_y^\perp w\|^2" if statement.projected else r"\|w\|^2")
                + rf"}}{{\|y\|^2}} \cdot {sympy.latex(2 * statement.factor)} \text{{ at }} h = 0",
            ),
            Inequality(
                text="which is never negative:",
                larger=said,
                smaller=0,
                because=[[(YY * WW - YW**2), 2 * statement.factor, 1 / YY**2]],
                shown=r"\|P_y^\perp w\|^2 = \frac{Y W - C^2}{Y} \geq 0",
            ),
            Identity(
                text="By Taylor's theorem D = (Δθ²/4)·‖x‖²‖P_y^⊥ J v_s‖²/‖y‖² + o(Δθ²). "
                + ("For equal Δθ" if statement.equal else "For Δθ = τ√(1−ρ²)")
                + " the rotation starts along a multiple of P_x^⊥ s that is the same in every context, so that the "
                "mean over finitely many contexts is (τ²/4)sᵀMs + o(τ²):",
                left=(tangent * step - across).squared_norm(),
                right=0,
                shown=r"\| " + ("" if statement.equal else r"\sqrt{1 - \rho^2} ") + r"v_s - P_x^\perp s \|^2 = 0",
            ),
            Inequality(
                text="M is symmetric. In an orthonormal basis of its eigenvectors sᵀMs = Σλ_i s_i² and Σs_i² = 1; a "
                "further term keeps it below λ_1, which the top eigenvector attains:",
                larger=TOP * (MASS + PART**2),
                smaller=FORM + VALUE * PART**2,
                because=[[TOP * MASS - FORM], [TOP - VALUE, PART**2]],
                shown=r"\lambda_1 (m + s_i^2) - (q + \lambda s_i^2) = "
                r"(\lambda_1 m - q) + (\lambda_1 - \lambda) s_i^2 \geq 0",
            ),
        ),
        conclusion="So for small steps the most sensitive directions are top eigenvectors of M.",
    ).check()
    if proof.status is not Status.PROVED:
        return proof.finding()
    evidence = {
        "proved_for": "every dimension, every twice differentiable read-out, |ρ| < 1 and |α| < 1",
        "eigenvectors": "exact for steps Δθ = τ√(1−ρ²), the same multiple of P_x^⊥ s in every context; for equal Δθ "
        "each context's form is divided by 1 − ρ², which is no eigenvalue problem",
    }
    failure = hunt(run, readouts(), _failure)
    finding = proof.finding({**evidence, "operator_against_jacobians_and_differences": EXAMPLES[run.profile]})
    if failure is None:
        return finding
    return Finding(status=Status.REFUTED, evidence=finding.evidence, witness=failure, exhibits=finding.exhibits)


def _failure(case: SmoothReadout) -> Witness | None:
    for law, error, bound in _laws(case):
        if not error <= bound:
            return {"law": law, **case.to_json(), "error": error, "bound": bound}
    return None


def _laws(case: SmoothReadout) -> Iterator[tuple[str, float, float]]:
    """The operator against dense Jacobians; its quadratic form against measured effects; its eigenvectors."""
    batch = case.sample(len(case.contexts), torch.Generator())
    dense, size = case.dense_operator()
    rounding = 256 * gamma(case.width + 8, torch.float64)
    identity = case.centring.project(torch.eye(case.width, dtype=torch.float64))
    applied = apply_operator(case, batch, identity)
    yield "the operator is the matrix of the theory", float((applied - identity @ dense).abs().max()), rounding * size
    values = torch.linalg.eigvalsh(dense)
    single = dataclasses.replace(case, **{name: getattr(case, name).float() for name in _TENSORS})
    small = float(gamma(case.width + 8, torch.float32))
    narrow = apply_operator(single, single.sample(len(case.contexts), torch.Generator()), identity.float())
    yield "the operator in float32", float((narrow - identity @ dense).abs().max()), 256 * small * size * case.condition
    found = spectral_directions(
        case, 3, generator=torch.Generator().manual_seed(0), contexts=len(case.contexts), iterations=12
    ).double()
    top = values.flip(0)[:3]
    if (
        top[2] > 1e-6 * top[0] and values[-4] < 0.5 * top[2]
    ):  # else so few iterations have not converged, and say nothing
        attained = torch.diagonal(found @ dense @ found.T)
        yield "the top directions attain the top eigenvalues", float((top - attained).abs().max()), 1e-3 * float(top[0])
    found = found[0]
    for direction in (found, case.probe):
        s = direction / torch.linalg.vector_norm(direction)
        form = float(s @ dense @ s)
        # D is even in the step up to the third order once ±τ are averaged, so halving τ divides the error by 4: the
        # change from 2τ to τ is three times what is left.
        coarse, fine = (_measured(case, s, step) for step in (2e-2, 1e-2))
        left = abs(coarse - fine) + 8 * gamma(case.width + 8, torch.float64) * size / 1e-4
        yield "measured effects of small steps", abs(fine - form), left


def _measured(case: SmoothReadout, s: Tensor, step: float) -> float:
    """``4D/τ²`` for steps ``Δθ = ±τ√(1−ρ²)``, the mean over the contexts and both signs."""
    x = case.contexts
    centred = case.centring.project(x)
    length = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    rho = (centred @ s)[:, None] / length
    side = s - rho * centred / length  # √(1−ρ²)·v_s
    sine = torch.linalg.vector_norm(side, dim=1, keepdim=True)
    effects = []
    for sign in (1, -1):
        angle = sign * step * sine
        moved = length * (torch.cos(angle) * centred / length + torch.sin(angle) * side / sine) + (x - centred)
        effects.append(angular_distance(case.function(x), case.function(moved)))
    return float(torch.cat(effects).mean()) * 4 / step**2


def twin_half(run: Run) -> Finding:
    """False: ``D ≈ (Δθ²/2)·…``."""
    return check_expansion(run, Expansion(factor=sympy.Rational(1, 2)))


def twin_not_projected(run: Run) -> Finding:
    """False: the part of the change along ``y`` counts as well."""
    return check_expansion(run, Expansion(projected=False))


def twin_equal_angles(run: Run) -> Finding:
    """False: the mean effect is a quadratic form in ``s`` for equal ``Δθ`` in all contexts."""
    return check_expansion(run, Expansion(equal=True))


def twin_along_the_direction(run: Run) -> Finding:
    """False: the rotation starts along ``s`` itself, whatever the presence."""
    return check_expansion(run, Expansion(tangent=False))
