"""How many directions can be present at once: sparsity that need not be assumed.

- RN-4 (:func:`check_budget`): for unit ``s_1..s_n`` with Gram matrix ``G``, ``Σρ_i² ≤ λ_max(G)``; if ``k`` of them have
  ``|ρ_i| ≥ τ`` and pairwise ``|⟨s_i,s_j⟩| ≤ μ < τ²`` then ``k ≤ (1−μ)/(τ²−μ)``.
- Both are sharp. Equal inner products ``μ`` and ``x`` along the sum give equality in both, and every whole ``k`` up to
  the bound occurs, so that the exact maximum is its integer part wherever ``d`` is at least that. In fewer
  dimensions equality is impossible: ``k`` vectors with equal inner products are independent.
- ``μ < τ²`` is needed: at ``τ² ≤ μ`` every ``k`` occurs.

Sums over any number of directions are built up one by one: what is checked is the step from ``m`` to ``m + 1``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sympy

from proofs import falsify
from proofs.floating import sweep
from proofs.norm_budget_floating import compare_budget
from proofs.proof import Proof
from proofs.steps import Given, Identity, Inequality, Setting, Step
from proofs.symbolic import Expression, GramSpace
from sensverify import formulas
from sensverify.claims import Finding, Run, Status

D, COUNT, SOME = sympy.symbols("d k m", integer=True, positive=True)
LENGTH, SQUARES, LARGEST, TAU = sympy.symbols("r P lambda tau", positive=True)
MU, BEYOND, REST, MORE, ROOM, SPACE = sympy.symbols("mu e h f g l", nonnegative=True)
RHO, QUADRATIC, CROSS, SUM_SQUARED, TOTAL = sympy.symbols("rho Q c T S", real=True)
WEIGHT = sympy.Symbol("N", positive=True)
OTHERS = sympy.Symbol("j", integer=True, nonnegative=True)  # k = 1 + j, so that signs of 1 + (k−1)μ are seen
ALONG = COUNT * TAU + BEYOND  # ⟨x̂, Σs_i⟩ of k directions with ρ_i ≥ τ
CROWD = 1 + (COUNT - 1) * MU
_SHOWN = 12  # a witness with more vectors than this keeps its numbers only


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """RN-4 by default.

    ``tightness`` multiplies the bound on ``k``; ``separated``: ``μ < τ²`` is assumed, or else ``μ > τ²``;
    ``largest``: what the sum of the squares is said not to exceed.
    """

    tightness: Expression = 1
    separated: bool = True
    largest: Expression = LARGEST


def crowd_of(numbers: Mapping[str, Any]) -> Mapping[str, Any]:
    """A counterexample to the count: ``k`` unit vectors with inner products ``μ``, and ``⟨x, Σs⟩ = kτ + e``."""
    k, mu, along = int(numbers["k"]), numbers["mu"], numbers["k"] * numbers["tau"] + numbers.get("e", 0)
    squared = k * (1 + (k - 1) * mu)
    if k > _SHOWN or along**2 > squared:
        return {}
    vectors = equiangular(k, mu)
    total = [sum(column) for column in zip(*vectors, strict=True)]
    x = [along / squared * t for t in total] + [sympy.sqrt(1 - along**2 / squared)]
    return _as_text([[*v, sympy.Integer(0)] for v in vectors], x)


def copies_of_one(numbers: Mapping[str, Any]) -> Mapping[str, Any]:
    """A counterexample to the sum of the squares: one direction, ``⌈λ⌉`` times."""
    copies = int(sympy.ceiling(numbers["lambda"]))
    rho = sympy.sqrt(numbers["P"] / copies)
    if copies > _SHOWN:
        return {}
    return _as_text([[sympy.Integer(1), sympy.Integer(0)]] * copies, [rho, sympy.sqrt(1 - rho**2)])


def _as_text(vectors: list[list[Expression]], x: list[Expression]) -> Mapping[str, Any]:
    exact = [[falsify.to_text(sympy.simplify(c)) for c in vector] for vector in [*vectors, x]]
    return {"s": exact[:-1], "x": exact[-1]}


def equiangular(k: int, mu: Expression) -> list[list[Expression]]:
    """``k`` unit vectors of ``R^k`` with all inner products ``μ``, exactly: the rows of the root of ``(1−μ)I + μJ``."""
    mu = sympy.sympify(mu)
    own = sympy.sqrt(1 - mu)
    common = (sympy.sqrt(1 + (k - 1) * mu) - own) / k
    return [[common + (own if i == j else 0) for j in range(k)] for i in range(k)]


def check_budget(run: Run, statement: Budget = Budget()) -> Finding:
    """RN-4."""
    sums, crowd = _sums(), _crowd()
    bounded = {
        COUNT: 1 + OTHERS,
        QUADRATIC: SQUARES**2 + REST,
        CROSS: SOME * MU - ROOM,
        SUM_SQUARED: SOME + SOME * (SOME - 1) * MU - SPACE,
    }
    givens = [
        Given(text="vᵀGv ≤ λ‖v‖² at v = (ρ_1, .., ρ_n), as for λ = λ_max(G)", quantity=LARGEST * SQUARES - QUADRATIC),
        Given(
            text="‖z‖² ≤ k + k(k−1)μ, the line on one more direction for all k",
            quantity=COUNT * CROWD - ALONG**2 - REST,
        ),
        Given(text="μ ≤ 1", quantity=1 - MU),
        Given(text="τ ≤ 1", quantity=1 - TAU),
        Given(text="(Σv_i)² ≤ k‖v‖², written S² ≤ kN, by Cauchy and Schwarz", quantity=COUNT * WEIGHT - TOTAL**2),
    ]
    sign = 1 if statement.separated else -1
    relation = "μ < τ²" if statement.separated else "μ > τ²"
    givens.append(Given(text=relation, quantity=sign * (TAU**2 - MU), strict=True))
    proof = Proof(
        title="The norm budget",
        hypotheses=(
            "x be a vector of norm r > 0 in any dimension, s_1, .., s_n unit vectors, ρ_i = ⟨x, s_i⟩/r",
            "P = Σρ_i² and w = Σρ_i s_i, so that Q = ‖w‖² = ρᵀGρ",
            "T = ‖t‖² ≤ m + m(m−1)μ for the sum t of m directions, and c = ⟨t, s⟩ ≤ mμ for one more, each of the "
            "m terms being at most μ",
            "k of the presences be at least τ in size, and the inner products of those k at most μ",
        ),
        setting=Setting(
            givens=tuple(givens),
            parametrisation=bounded,
            realise=crowd_of if statement.largest is LARGEST else copies_of_one,
            seed=run.seed,
        ),
        spaces=(sums, crowd),
        steps=(*_energy(sums, statement), *_count(sums, statement), *_sharpness(crowd)),
        conclusion="So the bound on Σρ² is sharp, and the exact maximum of k is the integer part of its bound wherever "
        "d is at least that.",
    ).check()
    if proof.status is not Status.PROVED:
        return proof.finding()
    evidence = {
        "proved_for": "every dimension, every number of directions, 0 ≤ μ < τ² ≤ 1",
        "sharp": "equal inner products μ and x along the sum: Σρ² = λ_max(G), and k = (1−μ)/(τ²−μ); orthonormal "
        "directions give k = 1/τ². The exact maximum of k is the integer part of the bound in all R^d with d ≥ that",
        "not_sharp": "when the bound is no whole number, and in R^d when it exceeds d: k vectors with equal inner "
        "products μ < 1 are independent. At τ² ≤ μ there is no bound: every k occurs",
    }
    bounds = {
        "Σρ² ≤ λ_max(G)": "12nγ(d+8) + defect of the computed eigenvectors, n = 6 directions",
        "Σρ² = λ_max(G), equal inner products": "48kγ(d+8) + defect of the computed eigenvectors",
        "k ≤ (1−μ)/(τ²−μ), any frame": "12kγ(d+8) on k(τ²−μ) − (1−μ)",
        "k = (1−μ)/(τ²−μ), equal inner products": "48kγ(d+8) on |k(τ²−μ) − (1−μ)|",
    }
    return sweep(run, "RN-4", compare_budget).join(proof.finding(evidence), bounds=bounds)


def _sums() -> GramSpace:
    """``x``, the weighted sum ``w``, the sum ``t`` of ``m`` directions, one more ``s``, the sum ``z`` of ``k``."""
    gram = {
        ("x", "x"): LENGTH**2, ("s", "s"): 1, ("x", "s"): LENGTH * RHO,
        ("w", "w"): QUADRATIC, ("x", "w"): LENGTH * SQUARES,
        ("t", "t"): SUM_SQUARED, ("t", "s"): CROSS, ("x", "t"): LENGTH * (SOME * TAU + BEYOND),
        ("z", "z"): ALONG**2 + REST, ("x", "z"): LENGTH * ALONG,
    }  # fmt: skip
    return GramSpace(dimension=D, gram=gram)


def _crowd() -> GramSpace:
    """``k`` unit vectors with inner products ``μ``: one of them, ``s``, and their sum ``t``."""
    return GramSpace(dimension=D, gram={("s", "s"): 1, ("s", "t"): CROWD, ("t", "t"): COUNT * CROWD})


def _energy(space: GramSpace, statement: Budget) -> list[Step]:
    x, s, w = (space.vector(name) for name in "xsw")
    unit = x / formulas.norm(x)
    return [
        Identity(
            text="The presence is the ρ of the table:",
            left=formulas.presence(x, s),
            right=RHO,
            shown=r"\frac{\langle x, s \rangle}{\|x\| \|s\|} = \rho",
        ),
        Identity(
            text="Every term ρs adds ρ² to the inner product with the unit vector along x, which for all n terms is "
            "the sum of the squares:",
            left=unit.inner_product(w + s * RHO),
            right=SQUARES + RHO**2,
            shown=r"\langle \hat{x}, w + \rho s \rangle = \langle \hat{x}, w \rangle + \rho^2",
        ),
        Identity(
            text="A squared length, hence not negative; written h below:",
            left=(w - unit * SQUARES).squared_norm(),
            right=QUADRATIC - SQUARES**2,
            shown=r"\|w - P \hat{x}\|^2 = Q - P^2 = h \geq 0",
        ),
        Inequality(
            text="The squares sum to no more than the largest eigenvalue (if P = 0 there is nothing to show):",
            larger=statement.largest,
            smaller=SQUARES,
            because=[[LARGEST * SQUARES - QUADRATIC, 1 / SQUARES], [REST, 1 / SQUARES]],
            shown=r"\lambda - P = \frac{(\lambda P - Q) + h}{P} \geq 0",
        ),
    ]


def _count(space: GramSpace, statement: Budget) -> list[Step]:
    x, s, t, z = (space.vector(name) for name in "xstz")
    unit = x / formulas.norm(x)
    grown = (SOME + 1) + (SOME + 1) * SOME * MU
    return [
        Identity(
            text="Signs can be chosen so that every presence is at least τ:",
            left=formulas.presence(x, -s),
            right=-RHO,
            shown=r"\rho_{-s}(x) = -\rho_s(x)",
        ),
        Inequality(
            text="One more direction with ρ = τ + f ≥ τ: the inner product with their sum t grows by τ or more,",
            larger=unit.inner_product(t + s).subs(RHO, TAU + MORE),
            smaller=(SOME + 1) * TAU,
            because=[[BEYOND], [MORE]],
            shown=r"\langle \hat{x}, t \rangle \geq m\tau \Rightarrow \langle \hat{x}, t + s \rangle \geq (m + 1)\tau",
        ),
        Inequality(
            text="while the squared length of the sum stays within its bound; at m = 1 both sides are 1:",
            larger=grown,
            smaller=(t + s).squared_norm(),
            because=[[SOME + SOME * (SOME - 1) * MU - SUM_SQUARED], [2, SOME * MU - CROSS]],
            shown=r"\|t\|^2 \leq m + m(m - 1)\mu \Rightarrow \|t + s\|^2 \leq (m + 1) + (m + 1)m\mu",
        ),
        Identity(
            text="For all k of them, with A = ⟨x̂, z⟩ = kτ + e and z the sum, a squared length again:",
            left=(z - unit * ALONG).squared_norm(),
            right=REST,
            shown=r"\|z - A\hat{x}\|^2 = \|z\|^2 - A^2 = h \geq 0",
        ),
        Inequality(
            text="Hence the bound on their number, from k²τ² ≤ A² ≤ k + k(k−1)μ:",
            larger=statement.tightness * formulas.norm_budget(TAU, MU),
            smaller=COUNT,
            because=[
                [COUNT * CROWD - ALONG**2 - REST, 1 / COUNT, 1 / (TAU**2 - MU)],
                [REST, 1 / COUNT, 1 / (TAU**2 - MU)],
                [BEYOND, 2 * COUNT * TAU + BEYOND, 1 / COUNT, 1 / (TAU**2 - MU)],
            ],
            shown=r"\frac{1 - \mu}{\tau^2 - \mu} - k = \frac{(k + k(k - 1)\mu - \|z\|^2) + h + (A^2 - k^2\tau^2)}"
            r"{k(\tau^2 - \mu)} \geq 0",
        ),
    ]


def _sharpness(space: GramSpace) -> list[Step]:
    s, t = space.vector("s"), space.vector("t")
    reached = CROWD / COUNT
    form = (1 - MU) * WEIGHT + MU * TOTAL**2
    below_one = MU / (1 + MU)  # every number in [0, 1), for a divisor 1 − μ that must not vanish
    presence = formulas.presence(t, s).subs(MU, below_one)
    return [
        Identity(
            text="For k unit vectors with inner products μ and x along their sum t, every presence is the same:",
            left=formulas.presence(t, s) ** 2,
            right=reached,
            shown=r"\rho_s(t)^2 = \frac{1 + (k - 1)\mu}{k}",
        ),
        Identity(
            text="and the bound on their number is k itself, for every μ < 1 (written μ/(1 + μ)):",
            left=formulas.norm_budget(presence, below_one),
            right=COUNT,
            shown=r"\frac{1 - \mu}{\rho_s(t)^2 - \mu} = k",
        ),
        Identity(
            text="They all reach τ exactly if k is within the bound, so every whole number up to it occurs:",
            left=reached - TAU**2,
            right=(TAU**2 - MU) * (formulas.norm_budget(TAU, MU) - COUNT) / COUNT,
            shown=r"\rho_s(t)^2 - \tau^2 = \frac{\tau^2 - \mu}{k} \left(\frac{1 - \mu}{\tau^2 - \mu} - k\right)",
        ),
        Inequality(
            text="Their squared presences sum to 1 + (k−1)μ, which is the largest eigenvalue: no v does better, with "
            "N = ‖v‖² and S = Σv,",
            larger=CROWD * WEIGHT,
            smaller=form,
            because=[[MU, COUNT * WEIGHT - TOTAL**2]],
            shown=r"(1 + (k - 1)\mu)\|v\|^2 - v^T G v = \mu(kN - S^2) \geq 0",
        ),
        Inequality(
            text="They are independent if μ < 1, hence equality needs d ≥ k:",
            larger=form.subs(MU, below_one),
            smaller=0,
            because=[[1 - below_one, WEIGHT], [below_one, TOTAL**2]],
            strict=True,
            shown=r"v^T G v = (1 - \mu)N + \mu S^2 > 0",
        ),
        Inequality(
            text="If τ² ≤ μ instead, every k occurs, because the same arrangement has presences above the root of μ:",
            larger=reached,
            smaller=MU,
            because=[[1 - MU, 1 / COUNT]],
            shown=r"\frac{1 + (k - 1)\mu}{k} - \mu = \frac{1 - \mu}{k} \geq 0",
        ),
    ]


def twin_one_per_cent_fewer(run: Run) -> Finding:
    """False: the bound on the number of directions can be lowered by one per cent."""
    return check_budget(run, Budget(tightness=sympy.Rational(99, 100)))


def twin_any_coherence(run: Run) -> Finding:
    """False: the same bound where ``μ > τ²``."""
    return check_budget(run, Budget(separated=False))


def twin_unit_budget(run: Run) -> Finding:
    """False: ``Σρ_i² ≤ 1`` for directions that are not orthogonal."""
    return check_budget(run, Budget(largest=sympy.Integer(1)))
