"""What every sensitivity obeys: its range, when it vanishes, what it does not see.

- SE-1 (:func:`check_range`): ``0 ≤ SeS ≤ 1`` for any weights; an effect is zero where the read-out is constant on the
  orbit of the intervention, hence at ``α = ρ_s(x)``, the null control; and ``x → kx`` changes nothing if the read-out
  reads through a norm with ``ε = 0``.

:func:`sensverify.formulas.angular_distance` and :func:`~sensverify.formulas.minimal_intervention` themselves are run
on vectors known by their inner products. The engine around them (interventions, estimates, weights, standard errors)
is held against the definition in :mod:`proofs.sensitivity_engine`.
"""

from __future__ import annotations

import dataclasses

import sympy

from proofs.proof import Proof
from proofs.relative_norm import ALPHA, HALF_ANGLE, LENGTH, RHO, A, T, half_angle
from proofs.sensitivity_engine import hold_engine_to_definition
from proofs.steps import Given, Identity, Inequality, Setting
from proofs.symbolic import Expression, GramSpace, GramVector
from sensverify import formulas
from sensverify.claims import Finding, Run, Status

D = sympy.Symbol("d", integer=True, positive=True)
SIZE_Y, SIZE_Z, SCALE = sympy.symbols("p q k", positive=True)
COSINE, MEAN = sympy.symbols("c mu", real=True)
EFFECT, SUM, WEIGHTS = sympy.symbols("D T W", real=True)
WEIGHT = sympy.Symbol("w", nonnegative=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """SE-1 by default. ``highest``: the upper end; ``null``: the presence said to change nothing; ``weight``: that of
    a context; ``epsilon``: of the norm read through."""

    highest: Expression = 1
    null: Expression = RHO
    weight: Expression = WEIGHT
    epsilon: Expression = 0


def check_range(run: Run, statement: Range = Range()) -> Finding:
    """SE-1."""
    pair = GramSpace(
        dimension=D,
        gram={("y", "y"): SIZE_Y**2, ("z", "z"): SIZE_Z**2, ("y", "z"): SIZE_Y * SIZE_Z * COSINE},
    )
    y, z = pair.vector("y"), pair.vector("z")
    distance = formulas.angular_distance(y, z)
    # The centred part x and its mean: x ⊥ 1 and s ⊥ 1, the activation itself is x + μ1.
    plane = GramSpace(
        dimension=D,
        gram={
            ("x", "x"): LENGTH**2, ("s", "s"): 1, ("x", "s"): LENGTH * RHO, ("x", "1"): 0, ("s", "1"): 0,
        },
    )  # fmt: skip
    x, s = plane.vector("x"), plane.vector("s")
    stays = formulas.minimal_intervention(x, s, statement.null) - x
    once = formulas.layer_norm(formulas.minimal_intervention(x, s, ALPHA) + MEAN, statement.epsilon)
    scaled = formulas.layer_norm(formulas.minimal_intervention(x * SCALE, s, ALPHA) + SCALE * MEAN, statement.epsilon)
    w = statement.weight

    def root_mean_square(point: GramVector) -> GramVector:
        normed: GramVector = formulas.rms_norm(formulas.minimal_intervention(point, s, ALPHA), statement.epsilon)
        return normed

    givens = (
        Given(text="c ≥ −1, by Cauchy and Schwarz", quantity=1 + COSINE),
        Given(text="c ≤ 1, by Cauchy and Schwarz", quantity=1 - COSINE),
        Given(text="D ≥ 0, as shown on the way", quantity=EFFECT),
        Given(text="D ≤ 1, as shown on the way", quantity=1 - EFFECT),
        Given(text="T ≥ 0 for the weighted sum T so far", quantity=SUM),
        Given(text="T ≤ W for the sum W of the weights so far", quantity=WEIGHTS - SUM),
        Given(text="d ≥ 2", quantity=D - 2),
    )
    setting = Setting(givens=givens, parametrisation={RHO: half_angle(T), ALPHA: half_angle(A)}, seed=run.seed)
    proof = Proof(
        title="The range of sensitivity, and when it vanishes",
        hypotheses=(
            "y and z be nonzero read-outs with ‖y‖ = p, ‖z‖ = q and cosine c",
            "x be a centred activation of norm r > 0 with presence ρ of the centred unit vector s, μ its mean",
            HALF_ANGLE,
            "k > 0, and T and W be the weighted sum of effects and the sum of weights of the contexts so far; w be the "
            "weight of the next one and D its effect",
        ),
        setting=setting,
        spaces=(pair, plane),
        steps=(
            Identity(
                text="The distance is an affine function of the cosine:",
                left=distance,
                right=(1 - COSINE) / 2,
                shown=r"\frac{1}{4} \left\| \frac{y}{\|y\|} - \frac{z}{\|z\|} \right\|^2 = \frac{1 - c}{2}",
            ),
            Inequality(
                text="so it is never negative,",
                larger=distance,
                smaller=0,
                because=[[(1 - COSINE), 1 / 2]],
                shown=r"D \geq 0",
            ),
            Inequality(
                text=f"nor above {statement.highest}:",
                larger=statement.highest,
                smaller=distance,
                because=[[(1 + COSINE), sympy.Rational(1, 2)], [statement.highest - 1]],
                shown=rf"D \leq {sympy.latex(statement.highest)}",
            ),
            Inequality(
                text="A further context keeps the weighted sum between 0",
                larger=SUM + w * EFFECT,
                smaller=0,
                because=[[SUM], [w, EFFECT]],
                shown=r"T + wD \geq 0",
            ),
            Inequality(
                text="and the sum of the weights, so that the weighted mean stays in [0, 1], whatever the weights:",
                larger=WEIGHTS + w,
                smaller=SUM + w * EFFECT,
                because=[[WEIGHTS - SUM], [w, 1 - EFFECT]],
                shown=r"(W + w) - (T + wD) = (W - T) + w(1 - D) \geq 0",
            ),
            Identity(
                text="Where the read-out does not change, the effect is zero:",
                left=formulas.angular_distance(y, y),
                right=0,
                shown="D(y, y) = 0",
            ),
            Identity(
                text=f"It does not change where α = {statement.null}, since the activation does not:",
                left=stays.squared_norm(),
                right=0,
                shown=rf"\|I_s^\alpha(x) - x\|^2 = 0, \alpha = {sympy.latex(statement.null)}",
            ),
            Identity(
                text="A norm puts out the same for kx as for x, with the intervention and without it:",
                left=(scaled - once).squared_norm(),
                right=0,
                shown=r"\|LN(I_s^\alpha(kx)) - LN(I_s^\alpha(x))\|^2 = 0",
            ),
            Identity(
                text="So does an RMSNorm, where presence is taken without centring:",
                left=(root_mean_square(x * SCALE) - root_mean_square(x)).squared_norm(),
                right=0,
                shown=r"\|RMS(I_s^\alpha(kx)) - RMS(I_s^\alpha(x))\|^2 = 0",
            ),
        ),
    ).check()
    if proof.status is not Status.PROVED:
        return proof.finding()
    evidence = {
        "proved_for": "every dimension, every read-out, every nonnegative weighting with a positive sum",
        "zero_read_outs": "a zero vector has no direction; the engine puts it at distance 1/2 from any other vector "
        "and 0 from another zero, which keeps the range",
    }
    return hold_engine_to_definition(run).join(proof.finding(evidence))


def twin_below_one(run: Run) -> Finding:
    """False: an effect is at most 99/100."""
    return check_range(run, Range(highest=sympy.Rational(99, 100)))


def twin_null_at_zero(run: Run) -> Finding:
    """False: setting the presence to 0 changes nothing."""
    return check_range(run, Range(null=sympy.Integer(0)))


def twin_any_weights(run: Run) -> Finding:
    """False: the mean stays in [0, 1] for weights of either sign."""
    return check_range(run, Range(weight=sympy.Symbol("w", real=True)))


def twin_epsilon_does_not_matter(run: Run) -> Finding:
    """False: a read-out through a norm with ``ε = 10⁻⁵`` does not see the scale."""
    return check_range(run, Range(epsilon=sympy.Rational(1, 10**5)))
