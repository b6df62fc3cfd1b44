"""The minimal intervention is the nearest point of the same norm at a given presence.

- RN-1 (:func:`check_nearest`): ``I_s^α(x)`` has norm ``‖x‖`` and presence ``α``; no other point that has both is as
  near to ``x``, unless ``x ∥ s``; and ``‖I_s^α(x) − x‖² = 2‖x‖²(1 − cos(arccos ρ − arccos α))``.

The symbols, and why presences are written by half-angles, are those of :mod:`proofs.relative_norm`.
"""

from __future__ import annotations

import dataclasses

import sympy

from proofs.floating import sweep
from proofs.proof import Proof
from proofs.relative_norm import ALPHA, CLOSENESS, DIRECTION, HALF_ANGLE, LENGTH, RHO, D, setting
from proofs.relative_norm_floating import compare_nearest
from proofs.steps import Given, Identity, Inequality
from proofs.symbolic import Expression, GramSpace
from sensverify import formulas
from sensverify.claims import Finding, Run, Status


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nearest:
    """RN-1 by default. ``norm``: what ``‖I(x)‖`` is said to be; ``competitor``: the norm of the points that it is
    said to be nearest among; ``factor``: by how much their squared distances are said to exceed its own."""

    norm: Expression = LENGTH
    competitor: Expression = LENGTH
    factor: Expression = 1


def check_nearest(run: Run, statement: Nearest = Nearest()) -> Finding:
    """RN-1."""
    root_alpha, root_rho = (sympy.sqrt((1 - p) * (1 + p)) for p in (ALPHA, RHO))
    n = statement.competitor
    overlap = n * LENGTH * (ALPHA * RHO + root_alpha * root_rho * CLOSENESS)  # defines τ
    gram = {
        ("x", "x"): LENGTH**2, ("s", "s"): 1, ("x", "s"): LENGTH * RHO,
        ("z", "z"): n**2, ("z", "s"): n * ALPHA, ("x", "z"): overlap,
    }  # fmt: skip
    space = GramSpace(dimension=D, gram=gram)
    x, s, z = (space.vector(name) for name in "xsz")
    moved = formulas.minimal_intervention(x, s, ALPHA)
    v, w = formulas.perpendicular_unit(x, s), formulas.perpendicular_unit(z, s)
    gap = (z - x).squared_norm() - statement.factor * (moved - x).squared_norm()
    angles = formulas.squared_displacement(LENGTH, RHO, ALPHA)
    cauchy_schwarz = (
        Given(text="τ = ⟨v, w⟩, which is ≤ 1 by Cauchy and Schwarz", quantity=1 - CLOSENESS),
        Given(text="τ ≥ −1 likewise", quantity=1 + CLOSENESS),
    )
    proof = Proof(
        title="The nearest point of equal norm and given presence",
        hypotheses=(
            DIRECTION,
            HALF_ANGLE,
            f"z be any vector of norm {n} and presence α, with v and w the unit vectors along the parts of x and z "
            "orthogonal to s",
        ),
        setting=setting(run, *cauchy_schwarz),
        spaces=(space,),
        steps=(
            Identity(
                text="The intervention has the stated norm:",
                left=formulas.norm(moved),
                right=statement.norm,
                shown=rf"\|I_s^\alpha(x)\| = {sympy.latex(statement.norm)}",
            ),
            Identity(
                text="and the stated presence:",
                left=formulas.presence(moved, s),
                right=ALPHA,
                shown=r"\rho_s(I_s^\alpha(x)) = \alpha",
            ),
            Identity(
                text="Every competitor has the same form, with w in place of v:",
                left=(z - formulas.at_presence(n, s, w, ALPHA)).squared_norm(),
                shown=r"\|z - \|z\| (\alpha s + \sqrt{1 - \alpha^2} w)\|^2 = 0",
            ),
            Identity(
                text="and τ is the cosine between v and w:",
                left=formulas.inner(v, w),
                right=CLOSENESS,
                shown=r"\langle v, w \rangle = \tau",
            ),
            Inequality(
                text="No competitor is nearer; the slack is a product of nonnegative factors:",
                larger=gap,
                smaller=0,
                because=[[2, LENGTH**2, root_alpha, root_rho, 1 - CLOSENESS]],
                shown=r"\|z - x\|^2 - \|I_s^\alpha(x) - x\|^2 = "
                r"2 r^2 \sqrt{1 - \alpha^2} \sqrt{1 - \rho^2} (1 - \tau) \geq 0",
            ),
            Identity(
                text="and it is equally near only if w = v, that is only if it is the same point:",
                left=gap,
                right=LENGTH**2 * root_alpha * root_rho * (w - v).squared_norm(),
                shown=r"\|z - x\|^2 - \|I_s^\alpha(x) - x\|^2 = "
                r"r^2 \sqrt{1 - \alpha^2} \sqrt{1 - \rho^2} \|w - v\|^2",
            ),
            Identity(
                text="How far the intervention moves:",
                left=(moved - x).squared_norm(),
                right=sympy.expand_trig(angles),
                shown=r"\|I_s^\alpha(x) - x\|^2 = 2 r^2 (1 - \cos(\arccos \rho - \arccos \alpha))",
            ),
            *_boundary_cases(),
        ),
    ).check()
    if proof.status is not Status.PROVED:
        return proof.finding()
    evidence = {
        "proved_for": "every dimension, ‖x‖ > 0, |ρ| < 1 and |α| < 1; then the nearest point is unique",
        "boundary": "|α| = 1: αrs is the only such point; |ρ| = 1: all such points are equally near",
    }
    bounds = {
        "‖I(x)‖ = ‖x‖": "8γ(d+8)‖x‖, ‖x⊥‖ ≥ 16γ‖x‖",
        "ρ(I(x)) = α": "8γ(d+8), ‖x⊥‖ ≥ 16γ‖x‖",
        "no competitor is nearer": "72γ(d+8)‖x‖²",
        "displacement": "48γ(d+8)(1 + ‖x‖/‖x⊥‖)‖x‖², ‖x⊥‖² ≥ 16γ‖x‖²",
    }
    return sweep(run, "RN-1", compare_nearest).join(proof.finding(evidence), bounds=bounds)


def _boundary_cases() -> list[Identity]:
    """``|α| = 1``, where only one point has the presence, and ``x ∥ s``, where all that have it are equally near."""
    gram = {("s", "s"): 1, ("z", "z"): LENGTH**2, ("z", "s"): LENGTH * ALPHA}
    space = GramSpace(dimension=D, gram={**gram, ("w", "w"): 1, ("w", "s"): 0})
    s, z, w = (space.vector(name) for name in "szw")
    pole = (z - s * (LENGTH * ALPHA)).squared_norm()
    steps = [
        Identity(
            text=f"If α = {sign:+d}, the point is unique: it is αrs.",
            left=pole.subs(ALPHA, sign),
            shown=r"\|z - \alpha r s\|^2 = r^2 (1 - \alpha^2) = 0",
        )
        for sign in (1, -1)
    ]
    plane = GramSpace(dimension=D, gram={("x", "x"): LENGTH**2, ("s", "s"): 1, ("x", "s"): LENGTH * RHO})
    x, axis = plane.vector("x"), plane.vector("s")
    for sign in (1, -1):
        alpha = sympy.Integer(sign)
        moved = formulas.minimal_intervention(x, axis, alpha)
        steps += [
            Identity(
                text=f"The intervention is that point at α = {sign:+d},",
                left=(moved - axis * (alpha * LENGTH)).squared_norm(),
                shown=rf"\|I_s^{{{sign}}}(x) - ({sign}) r s\|^2 = 0",
            ),
            Identity(
                text="and as far from x as said:",
                left=(moved - x).squared_norm(),
                right=sympy.expand_trig(formulas.squared_displacement(LENGTH, RHO, alpha)),
                shown=rf"\|({sign}) r s - x\|^2 = 2 r^2 (1 - ({sign}) \rho)",
            ),
        ]
    for sign in (1, -1):
        around = formulas.at_presence(LENGTH, s, w, ALPHA) - s * (sign * LENGTH)
        steps.append(
            Identity(
                text=f"If x = {'' if sign > 0 else '−'}rs, every unit w orthogonal to s gives a point equally near:",
                left=around.squared_norm(),
                right=sympy.expand_trig(formulas.squared_displacement(LENGTH, sympy.Integer(sign), ALPHA)),
                shown=r"\|r (\alpha s + \sqrt{1 - \alpha^2} w) - x\|^2 = 2 r^2 "
                + (r"(1 - \alpha)" if sign > 0 else r"(1 + \alpha)"),
            )
        )
    return steps


def twin_unit_norm(run: Run) -> Finding:
    """False: the intervention has norm 1."""
    return check_nearest(run, Nearest(norm=sympy.Integer(1)))


def twin_nearest_of_any_norm(run: Run) -> Finding:
    """False: the intervention is nearest among all points of that presence, whatever their norm."""
    return check_nearest(run, Nearest(competitor=sympy.Symbol("n", positive=True)))


def twin_nearest_by_one_per_cent(run: Run) -> Finding:
    """False: every point of that norm and presence is farther by one per cent of the squared distance."""
    return check_nearest(run, Nearest(factor=sympy.Rational(101, 100)))
