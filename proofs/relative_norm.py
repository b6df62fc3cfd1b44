"""How the minimal intervention composes, and what it does to all other directions.

- RN-2 (:func:`check_composition`): ``I_s^β∘I_s^α = I_s^β`` for ``|α| < 1``; ``I_s^ρ(x) = x`` at ``x``'s own presence;
  ``I_s^α(kx) = k·I_s^α(x)`` for ``k > 0``.
- RN-3 (:func:`check_presence_of_others`): the presence of any other direction afterwards; one orthogonal to ``s``
  is multiplied by ``√((1−α²)/(1−ρ²))``, which is below 1 exactly when ``|α| > |ρ|``.

The formulas of the engine are run on vectors known by their inner products, in any dimension. A presence in
``(−1, 1)`` is written ``(1 − t²)/(1 + t²)`` with ``t = tan(θ/2) > 0``, which reaches each once and makes
``√(1 − ρ²) = 2t/(1 + t²)`` rational, so that every identity is decided exactly. RN-1 is in :mod:`proofs.nearest_point`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sympy

from proofs import falsify
from proofs.floating import sweep
from proofs.proof import Proof
from proofs.relative_norm_floating import compare_composition, compare_others
from proofs.steps import Given, Identity, Inequality, Setting
from proofs.symbolic import Expression, GramSpace
from sensverify import formulas
from sensverify.claims import Finding, Run, Status

D = sympy.Symbol("d", integer=True, positive=True)
LENGTH, SCALE = sympy.symbols("r k", positive=True)
RHO, ALPHA, BETA = sympy.symbols("rho alpha beta", real=True)
OTHER, OVERLAP, ORTHOGONAL, CLOSENESS = sympy.symbols("rho_u q omega tau", real=True)
T, A, B = sympy.symbols("t a b", positive=True)
MAY_VANISH = sympy.Symbol("a", nonnegative=True)
DIRECTION = "s be a unit vector and x a vector of norm r > 0 with presence ρ = ⟨x, s⟩/r, in any dimension"
HALF_ANGLE = "|ρ| < 1 and |α| < 1, written ρ = (1 − t²)/(1 + t²) with t > 0, and so on"


def half_angle(t: Expression) -> Expression:
    """``cos θ`` by ``t = tan(θ/2)``."""
    return (1 - t**2) / (1 + t**2)


def realise(numbers: Mapping[str, Any]) -> Mapping[str, Any]:
    """The vectors of a counterexample: ``s`` and ``x`` in a plane, a third vector with them in space."""
    rho, length = numbers["rho"], numbers.get("r", sympy.Integer(1))
    height = sympy.sqrt(1 - rho**2)
    vectors = {"s": [1, 0, 0], "x": [length * rho, length * height, 0]}
    if "tau" in numbers:  # a competitor z of norm n (‖x‖ unless said otherwise), ⟨v, w⟩ = τ
        size, alpha, tau = numbers.get("n", length), numbers["alpha"], numbers["tau"]
        root = sympy.sqrt(1 - alpha**2)
        vectors["z"] = [size * alpha, size * root * tau, size * root * sympy.sqrt(1 - tau**2)]
    for name, overlap in (("rho_u", numbers.get("q")), ("omega", sympy.Integer(0))):
        if name in numbers and overlap is not None:  # a unit vector of that presence and that overlap with s
            side = (numbers[name] - rho * overlap) / height
            vectors["u"] = [overlap, side, sympy.sqrt(1 - overlap**2 - side**2)]
    return {name: [falsify.to_text(sympy.simplify(c)) for c in vector] for name, vector in vectors.items()}


def setting(run: Run, *givens: Given, alpha: Expression = A) -> Setting:
    """Half-angles for all presences, and whatever else is given."""
    return Setting(
        givens=givens,
        parametrisation={RHO: half_angle(T), ALPHA: half_angle(alpha), BETA: half_angle(B)},
        realise=realise,
        seed=run.seed,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Composition:
    """RN-2 by default. ``alpha``: the half-angle of ``α``, positive for ``|α| < 1``; ``scale``: the factor ``k``."""

    alpha: Expression = A
    scale: Expression = SCALE


def check_composition(run: Run, statement: Composition = Composition()) -> Finding:
    """RN-2."""
    gram = {("x", "x"): LENGTH**2, ("s", "s"): 1, ("x", "s"): LENGTH * RHO}
    space = GramSpace(dimension=D, gram=gram)
    x, s, k = space.vector("x"), space.vector("s"), statement.scale
    once = formulas.minimal_intervention(x, s, ALPHA)
    twice = formulas.minimal_intervention(once, s, BETA) - formulas.minimal_intervention(x, s, BETA)
    own = formulas.minimal_intervention(x, s, formulas.presence(x, s)) - x
    scaled = formulas.minimal_intervention(x * k, s, ALPHA) - once * k
    closed = bool(statement.alpha.is_positive)
    proof = Proof(
        title="Composition, identity and homogeneity of the intervention",
        hypotheses=(
            DIRECTION,
            "|ρ| < 1, |β| < 1 and " + ("|α| < 1" if closed else "−1 < α ≤ 1") + ", written by half-angles",
            f"k {'>' if k.is_positive else '<'} 0",
        ),
        setting=setting(run, alpha=statement.alpha),
        spaces=(space,),
        steps=(
            Identity(
                text="The last intervention decides:",
                left=twice.squared_norm(),
                shown=r"\|I_s^\beta(I_s^\alpha(x)) - I_s^\beta(x)\|^2 = 0",
            ),
            Identity(
                text="At the presence that is there already, nothing moves:",
                left=own.squared_norm(),
                shown=r"\|I_s^{\rho}(x) - x\|^2 = 0, \rho = \rho_s(x)",
            ),
            Identity(
                text="Scaling before or after is the same:",
                left=scaled.squared_norm(),
                shown=r"\|I_s^\alpha(kx) - k I_s^\alpha(x)\|^2 = 0",
            ),
            *(
                Identity(
                    text=f"The last intervention decides also if β = {sign}, where both sides are βrs:",
                    left=twice.squared_norm().subs(BETA, sign),
                    shown=r"\|I_s^\beta(I_s^\alpha(x)) - I_s^\beta(x)\|^2 = 0",
                )
                for sign in (1, -1)
            ),
            *(
                Identity(
                    text=f"Scaling before or after is the same also if α = {sign}:",
                    left=scaled.squared_norm().subs(ALPHA, sign),
                    shown=r"\|I_s^\alpha(kx) - k I_s^\alpha(x)\|^2 = 0",
                )
                for sign in (1, -1)
            ),
        ),
    ).check()
    if proof.status is not Status.PROVED:
        return proof.finding()
    evidence = {
        "proved_for": "every dimension, ‖x‖ > 0, |ρ| < 1, |α| < 1, |β| ≤ 1, k > 0",
        "why_alpha_below_one": "I(x) = ±‖x‖s at α = ±1: which side x came from is forgotten",
        "in_floating_point": "ρ_s(x) may come out above 1 by a rounding when x is nearly parallel to s; as a presence "
        "to set it must then be clipped to [−1, 1]",
    }
    bounds = {
        "I^β∘I^α = I^β": "32γ(d+8)‖x‖/√(1−α²), ‖x⊥‖ ≥ 16γ‖x‖, √(1−α²) ≥ 16γ",
        "I^ρ(x) = x": "16γ(d+8)(1 + ‖x‖/‖x⊥‖)‖x‖, ‖x⊥‖² ≥ 16γ‖x‖²",
        "I(kx) = kI(x)": "16γ(d+8)(1 + ‖x‖/‖x⊥‖)k‖x‖, ‖x⊥‖ ≥ 16γ‖x‖",
        "I(2ʲx) = 2ʲI(x)": "0: the bits agree",
    }
    return sweep(run, "RN-2", compare_composition).join(proof.finding(evidence), bounds=bounds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Others:
    """RN-3 by default. ``premise ≥ 0``: when orthogonal directions are said to shrink; ``factor``: on the formula."""

    premise: Expression = ALPHA**2 - RHO**2
    premise_text: str = "|α| ≥ |ρ|"
    factor: Expression = 1


def check_presence_of_others(run: Run, statement: Others = Others()) -> Finding:
    """RN-3."""
    gram = {
        ("x", "x"): LENGTH**2, ("s", "s"): 1, ("x", "s"): LENGTH * RHO,
        ("u", "u"): 1, ("s", "u"): OVERLAP, ("x", "u"): LENGTH * OTHER,
    }  # fmt: skip
    space = GramSpace(dimension=D, gram=gram)
    x, s, u = (space.vector(name) for name in "xsu")
    after = formulas.presence(formulas.minimal_intervention(x, s, ALPHA), u)
    said = formulas.presence_of_other(OTHER, RHO, OVERLAP, ALPHA) * statement.factor
    before = ORTHOGONAL**2
    later = formulas.presence_of_other(ORTHOGONAL, RHO, sympy.Integer(0), ALPHA) ** 2
    givens = (
        Given(
            text="(1−ρ²)(1−q²) ≥ (ρ_u−ρq)², as for any three vectors",
            quantity=(1 - RHO**2) * (1 - OVERLAP**2) - (OTHER - RHO * OVERLAP) ** 2,
        ),
        Given(text="ω² ≤ 1 − ρ², as for any presence orthogonal to s", quantity=1 - RHO**2 - ORTHOGONAL**2),
        Given(text=f"{statement.premise_text} in the last line", quantity=statement.premise),
    )
    proof = Proof(
        title="What one intervention does to all other directions",
        hypotheses=(
            DIRECTION,
            HALF_ANGLE,
            "u be a unit vector with presence ρ_u = ⟨x, u⟩/r and ⟨s, u⟩ = q, written ω instead of ρ_u where q = 0",
        ),
        setting=setting(run, *givens),
        spaces=(space,),
        steps=(
            Identity(
                text="The presence of u afterwards:",
                left=after,
                right=said,
                shown=r"\rho_u(x') = \alpha q + \sqrt{\frac{1 - \alpha^2}{1 - \rho^2}} (\rho_u - \rho q)",
            ),
            Identity(
                text="For u orthogonal to s the square of its presence changes by a number with the sign of α² − ρ²:",
                left=before - later,
                right=ORTHOGONAL**2 * (ALPHA**2 - RHO**2) / (1 - RHO**2),
                shown=r"\omega^2 - \omega(x')^2 = \frac{\omega^2 (\alpha^2 - \rho^2)}{1 - \rho^2}",
            ),
            Inequality(
                text=f"so that it shrinks if {statement.premise_text}:",
                larger=before,
                smaller=later,
                because=[[ORTHOGONAL**2, ALPHA**2 - RHO**2, 1 / (1 - RHO**2)]],
                shown=r"\omega(x')^2 \leq \omega^2",
            ),
        ),
    ).check()
    if proof.status is not Status.PROVED:
        return proof.finding()
    evidence = {
        "proved_for": "every dimension, every unit u, |ρ| < 1, |α| < 1",
        "shrinking": "an orthogonal presence other than 0 shrinks exactly when |α| > |ρ|, stays when |α| = |ρ|, and "
        "grows when |α| < |ρ|: removal is built into addition only beyond the size of the presence already there",
    }
    bounds = {"presence of u": "32γ(d+8)‖x‖²/‖x⊥‖², ‖x⊥‖² ≥ 16γ‖x‖²"}
    return sweep(run, "RN-3", compare_others).join(proof.finding(evidence), bounds=bounds)


def twin_composition_at_the_pole(run: Run) -> Finding:
    """False: composition holds at ``α = 1`` too."""
    return check_composition(run, Composition(alpha=MAY_VANISH))


def twin_negative_homogeneity(run: Run) -> Finding:
    """False: homogeneity for ``k < 0``."""
    return check_composition(run, Composition(scale=sympy.Symbol("k", negative=True)))


def twin_addition_always_shrinks(run: Run) -> Finding:
    """False: raising the presence of ``s`` shrinks every orthogonal presence."""
    return check_presence_of_others(run, Others(premise=ALPHA - RHO, premise_text="α ≥ ρ"))


def twin_one_per_cent_less(run: Run) -> Finding:
    """False: the presence of another direction is one per cent lower than RN-3 says."""
    return check_presence_of_others(run, Others(factor=sympy.Rational(99, 100)))
