"""Features can be told by where their effects land: the linear case of selective sensitivity.

Let ``n ≥ d`` unit features ``w_j`` in ``R^d`` form a tight frame, ``Σ ⟨w_j, s⟩² = n/d`` for every unit ``s``, read out
linearly by ``n`` units: a step along ``s`` has the effect ``Δ_s = (⟨w_j, s⟩)_j``. Its concentration is
``C(s) = ‖Δ_s‖₄⁴/‖Δ_s‖₂⁴`` (:func:`sensverify.formulas.concentration`), between ``1/n`` and 1.

- SE-5 (:func:`check_concentration`): ``C(w_i) ≥ (d/n)²`` for every feature, and over uniformly random ``s`` the mean of
  ``C(s)`` is ``3d/(n(d+2))``, exactly (for large ``d`` the published ``3/n``). So features stand out by a factor of at
  least ``d(d+2)/(3n)``, above 1 while ``n < d(d+2)/3``, whatever the density of the data.
- Coherence: if ``μ² < d/(3n)``, ``C`` curves down in every direction of the sphere at every feature. In an equiangular
  tight frame its slope vanishes there as well, so features are strict local maxima; in general the maximum lies near
  the feature. Welch's bound leaves room for that coherence whenever ``n ≤ d²/3``: the same quadratic load.
- Behind ReLU units the effect does depend on what else is active; :func:`relu_table` measures what remains.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import sympy
import torch
from hypothesis import strategies as st
from torch import Tensor

from proofs.draws import DTYPES, gamma
from proofs.hunting import EXAMPLES, Witness, hunt
from proofs.proof import Proof
from proofs.steps import Computation, Given, Identity, Inequality, Setting
from proofs.symbolic import Expression, GramSpace
from sensverify import formulas
from sensverify.claims import Finding, Run, Status
from sensverify.exhibits import Table
from sensverify.geometry import Centring, random_directions
from sensverify.interventions import set_presence
from sensverify.statistics import group_mean, mean_interval

D, N = sympy.symbols("d n", integer=True, positive=True)
OTHERS, SQUARES, COHERENCE = sympy.symbols("q Q mu", nonnegative=True)
SUM, SUM_OF_SQUARES, TERM, ENERGY, PRODUCTS = sympy.symbols("A S a E B", nonnegative=True)
OVERLAP, TANGENT, INNER = sympy.symbols("c e o", real=True)
ONE = sympy.Integer(1)
EXACT_MEAN = 3 * D / (N * (D + 2))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Concentration:
    """SE-5 by default. ``own``: the least ``C`` of a feature over ``(d/n)²``; ``random``: the mean of ``C`` over random
    directions; ``tight``: whether the frame has to be tight."""

    own: Expression = ONE
    random: Expression = EXACT_MEAN
    tight: bool = True


def check_concentration(run: Run, statement: Concentration = Concentration()) -> Finding:
    """SE-5."""
    energy = N / D if statement.tight else 1 + SQUARES  # Σ⟨w_j, w_i⟩², the feature's own term being 1
    moment = sympy.gammasimp(
        sympy.gamma(sympy.Rational(5, 2)) * sympy.gamma(D / 2) / (sympy.gamma(ONE / 2) * sympy.gamma(D / 2 + 2))
    )
    room = D / (3 * N)
    space = GramSpace(dimension=D, gram={("w", "w"): 1, ("u", "u"): 1, ("w", "u"): INNER})
    givens = (
        Given(text="n ≥ d", quantity=N - D),
        Given(text="d ≥ 2", quantity=D - 2),
        Given(text="q ≤ Q and Q² ≤ (n − 1)q, by Cauchy and Schwarz", quantity=SQUARES - OTHERS),
        Given(text="(the second of these)", quantity=(N - 1) * OTHERS - SQUARES**2),
        Given(text="μ² < d/(3n) in the line on curvature", quantity=room - COHERENCE**2, strict=True),
        Given(text="|c| ≤ μ", quantity=COHERENCE**2 - OVERLAP**2),
        Given(text="B ≤ μ²E so far", quantity=COHERENCE**2 * ENERGY - PRODUCTS),
        Given(text="3n ≤ d² in the line on Welch's bound", quantity=D**2 - 3 * N),
        Given(text="S ≤ A² and A² ≤ nS so far, in the lines on the range", quantity=SUM**2 - SUM_OF_SQUARES),
        Given(text="(the second of these as well)", quantity=N * SUM_OF_SQUARES - SUM**2),
    )
    used = givens if statement.tight else givens[:4]
    proof = Proof(
        title="How concentrated the effect of a feature is",
        hypotheses=(
            "w_1, …, w_n be unit vectors in R^d"
            + (" with Σ_j ⟨w_j, s⟩² = n/d for every unit s" if statement.tight else "")
            + ", and Δ_s = (⟨w_j, s⟩)_j",
            "q = Σ_{j≠i} ⟨w_j, w_i⟩⁴ and Q = Σ_{j≠i} ⟨w_j, w_i⟩² for a feature w_i; u be a unit tangent at w_i, "
            "⟨w_i, u⟩ = 0",
            "one coordinate t of a uniformly random unit vector have the density ∝ (1 − t²)^((d−3)/2), as is well "
            "known",
        ),
        setting=Setting(givens=used, seed=run.seed, realise=lambda numbers: _realise(statement, numbers)),
        spaces=(space,),
        steps=(
            Inequality(
                text="A feature moves its own unit by 1, so its effect is concentrated:",
                larger=(1 + OTHERS) / energy**2,
                smaller=statement.own * (D / N) ** 2,
                because=[[OTHERS, (D / N) ** 2], [1 - statement.own, (D / N) ** 2]],
                shown=rf"C(w_i) \geq {'' if statement.own == 1 else sympy.latex(statement.own)} \frac{{d^2}}{{n^2}}",
            ),
            Identity(
                text="The fourth moment of that density is a quotient of Beta functions:",
                left=moment,
                right=3 / (D * (D + 2)),
                shown=r"E\langle w, s \rangle^4 = \frac{B(5/2, (d-1)/2)}{B(1/2, (d-1)/2)} = \frac{3}{d(d+2)}",
            ),
            Identity(
                text="The denominator of C being the same for all s, its mean over random directions is",
                left=N * moment / (N / D) ** 2,
                right=statement.random,
                shown=rf"E\, C(s) = \frac{{3n/(d(d+2))}}{{(n/d)^2}} = {sympy.latex(statement.random)}",
            ),
            Identity(
                text="so that a feature stands out by at least",
                left=(D / N) ** 2 / EXACT_MEAN,
                right=D * (D + 2) / (3 * N),
                shown=r"\frac{(d/n)^2}{3d/(n(d+2))} = \frac{d(d+2)}{3n}",
            ),
            Computation(
                text="Along the great circle cos(t)w_i + sin(t)u each term ⟨w_j, ·⟩⁴ has at t = 0 the slope 4c³e and "
                "the second derivative 12c²e² − 4c⁴, where c = ⟨w_j, w_i⟩ and e = ⟨w_j, u⟩.",
                run=_great_circle,
                how="differentiated symbolically",
            ),
            Inequality(
                text="For w_i itself e = 0. The others have c² ≤ μ², so that with B = Σc²e² and E = Σe² so far, B ≤ "
                "μ²E, a further term keeps it so:",
                larger=COHERENCE**2 * (ENERGY + TANGENT**2),
                smaller=PRODUCTS + OVERLAP**2 * TANGENT**2,
                because=[[COHERENCE**2 * ENERGY - PRODUCTS], [COHERENCE**2 - OVERLAP**2, TANGENT**2]],
                shown=r"\mu^2 (E + e^2) - (B + c^2 e^2) = (\mu^2 E - B) + (\mu^2 - c^2) e^2 \geq 0",
            ),
            Inequality(
                text="In the end E = n/d, because u is a unit vector, and Σc⁴ = 1 + q: the sum curves down.",
                larger=0,
                smaller=12 * COHERENCE**2 * N / D - 4 * (1 + OTHERS),
                because=[[12 * N / D, room - COHERENCE**2], [OTHERS, 4 * ONE]],
                strict=True,
                shown=r"12 \mu^2 \frac{n}{d} - 4(1 + q) < 0",
            ),
            *(
                Identity(
                    text=f"Where all |c| = μ the slope is linear in c; for c = {name}:",
                    left=4 * (sign * COHERENCE) ** 3 * TANGENT,
                    right=4 * COHERENCE**2 * (sign * COHERENCE) * TANGENT,
                    shown=rf"4 c^3 e = 4 \mu^2 c e, c = {name}",
                )
                for name, sign in (("μ", 1), ("−μ", -1))
            ),
            Identity(
                text="Tightness, polarised, gives Σce = (n/d)⟨w_i, u⟩ = 0 over all j, and the term of w_i is 0 too. "
                "So in an equiangular tight frame the slope vanishes at every feature. Polarised means, for w_i and u:",
                left=(space.vector("w") + space.vector("u")).squared_norm()
                - (space.vector("w") - space.vector("u")).squared_norm(),
                right=4 * space.vector("w").inner_product(space.vector("u")),
                shown=r"\|w_i + u\|^2 - \|w_i - u\|^2 = 4 \langle w_i, u \rangle",
            ),
            Inequality(
                text="Welch's bound (n − d)/(d(n − 1)) on μ² lies below d/(3n) if 3n ≤ d²:",
                larger=D**2 * (N - 1),
                smaller=3 * N * (N - D),
                because=[[D**2 - 3 * N, N - D], [D**2, D - 2], [D**2]],
                strict=True,
                shown=r"d^2 (n - 1) - 3n(n - d) = (d^2 - 3n)(n - d) + d^2 (d - 2) + d^2 > 0",
            ),
            Inequality(
                text="C is at most 1: with A = Σ Δ², S = Σ Δ⁴ so far, a further a = Δ² keeps S ≤ A²,",
                larger=(SUM + TERM) ** 2,
                smaller=SUM_OF_SQUARES + TERM**2,
                because=[[SUM**2 - SUM_OF_SQUARES], [2 * ONE, SUM, TERM]],
                shown=r"(A + a)^2 - (S + a^2) = (A^2 - S) + 2Aa \geq 0",
            ),
            Inequality(
                text="and at least 1/n:",
                larger=(N + 1) * (SUM_OF_SQUARES + TERM**2),
                smaller=(SUM + TERM) ** 2,
                because=[[N * SUM_OF_SQUARES - SUM**2, 1 + 1 / N], [(SUM - N * TERM) ** 2, 1 / N]],
                shown=r"(n + 1)(S + a^2) - (A + a)^2 = \frac{n + 1}{n} (nS - A^2) + \frac{(A - na)^2}{n} \geq 0",
            ),
            Computation(
                text="On frames that can be written out the engine's concentration is what the formulas say: "
                "orthonormal bases, the simplex, three lines in the plane, the six diagonals of the icosahedron.",
                run=_instances,
                how="exact arithmetic",
            ),
            Computation(
                text="On random tight frames of 128 and 512 features the engine's concentration of random directions "
                "has the mean that was derived, and no concentration leaves [1/n, 1].",
                run=lambda: _measured(run),
                how="4,096 directions, 5 standard errors",
            ),
        ),
    ).check()
    if proof.status is not Status.PROVED:
        return proof.finding()
    rows = run.shared("proofs: concentration behind a ReLU", lambda: relu_table(run))
    evidence = {
        "proved_for": "every tight frame of unit features and a linear read-out; no assumption on density",
        "random_direction": "3d/(n(d+2)) exactly; the figure 3/n is its limit for large d",
        "factor": "at least d(d+2)/(3n), so the load at which it may reach 1 is n = d(d+2)/3",
        "local_maxima": "negative curvature at every feature if μ² < d/(3n); no slope in an equiangular tight frame. "
        "In other tight frames the maximum lies near the feature, not on it",
        "frames": [dict(zip(_COLUMNS, row, strict=True)) for row in rows],
        "seed": run.seed,
        "hypothesis_examples": EXAMPLES[run.profile],
    }
    table = Table(
        title="Concentration of effects, linear and behind a ReLU",
        caption="Random tight frames of n features in d dimensions. Linear: what was measured beside the exact mean. "
        "ReLU: a step to presence 1/2 from inputs in which each feature is active with probability p.",
        columns=_COLUMNS,
        rows=rows,
    )
    finding = proof.finding(evidence)
    failure = hunt(run, _effects(), _failure)
    exhibits = (*finding.exhibits, table)
    status = Status.PROVED if failure is None else Status.REFUTED
    return Finding(status=status, evidence=finding.evidence, witness=failure, exhibits=exhibits)


def _realise(statement: Concentration, numbers: Mapping[str, Any]) -> Mapping[str, Any]:
    """A frame of ``n = d`` features that breaks the false statement, with the concentration of its first feature."""
    d = int(numbers.get("d", 2))
    if statement.random != EXACT_MEAN or numbers.get("n") != d or d > 8:
        return {}
    identity = [[int(i == j) for j in range(d)] for i in range(d)]
    frame = identity if statement.tight else [identity[0]] * d
    found = formulas.concentration(np.array([[Fraction(w[0]) for w in frame]]))[0, 0]
    if found >= Fraction(str(statement.own)):  # (d/n)² is 1
        return {}
    return {"features": frame, "concentration_of_the_first": str(found)}


def _great_circle() -> Mapping[str, Any] | None:
    t, c, e = sympy.symbols("t c e", real=True)
    term = (sympy.cos(t) * c + sympy.sin(t) * e) ** 4
    slope, curvature = (sympy.expand(sympy.diff(term, t, order).subs(t, 0)) for order in (1, 2))
    said = 4 * c**3 * e, 12 * c**2 * e**2 - 4 * c**4
    return None if (slope, curvature) == said else {"slope": str(slope), "curvature": str(curvature)}


def exact_frames() -> Mapping[str, Any]:
    """Tight frames of unit vectors with exact coordinates, ``[n][d]``."""
    third, root3, golden = sympy.Rational(1, 3), sympy.sqrt(3), (1 + sympy.sqrt(5)) / 2
    length = sympy.sqrt(1 + golden**2)
    tetrahedron = [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]
    diagonals = [(0, 1, golden), (0, 1, -golden), (1, golden, 0), (1, -golden, 0), (golden, 0, 1), (-golden, 0, 1)]
    return {
        "orthonormal basis": [[ONE * int(i == j) for j in range(4)] for i in range(4)],
        "three lines in the plane": [[ONE, ONE * 0], [-ONE / 2, root3 / 2], [-ONE / 2, -root3 / 2]],
        "simplex": [[c * sympy.sqrt(third) for c in vector] for vector in tetrahedron],
        "icosahedron": [[c / length for c in vector] for vector in diagonals],
    }


def _instances() -> Mapping[str, Any] | None:
    for name, frame in exact_frames().items():
        n, d = len(frame), len(frame[0])
        gram = [[sympy.simplify(sum(a * b for a, b in zip(v, w, strict=True))) for w in frame] for v in frame]
        others = sum((gram[0][j] ** 4 for j in range(1, n)), sympy.Integer(0))
        found = formulas.concentration(np.array([gram[0]], dtype=object))[0, 0]
        said = (1 + others) * sympy.Rational(d, n) ** 2
        tight = all(
            sympy.simplify(sum(w[a] * w[b] for w in frame) - (sympy.Rational(n, d) if a == b else 0)) == 0
            for a, b in itertools.product(range(d), repeat=2)
        )
        # All four frames are equiangular: there is no slope at the first feature.
        slope = [
            sympy.simplify(sum(g**3 * (w[a] - g * frame[0][a]) for g, w in zip(gram[0], frame, strict=True)))
            for a in range(d)
        ]
        if any(slope):
            return {"frame": name, "slope": [str(part) for part in slope]}
        if not tight or sympy.simplify(found - said) != 0 or said < sympy.Rational(d, n) ** 2:
            return {"frame": name, "concentration": str(found), "said": str(said)}
    return None


def _measured(run: Run) -> Mapping[str, Any] | None:
    for n, d in ((128, 64), (512, 64)):
        frame = _frame(run, n, d)
        random = random_directions(4096, d, Centring.NONE, torch.Generator().manual_seed(run.seed)).double()
        found = formulas.concentration(random @ frame.T)[..., 0]
        exact, error = 3 * d / (n * (d + 2)), float(found.std()) / len(found) ** 0.5
        own = formulas.concentration(frame @ frame.T)[..., 0]
        inside = bool(((found >= 1 / n) & (found <= 1)).all()) and bool((own >= (d / n) ** 2 * (1 - 1e-9)).all())
        if not inside or not abs(float(found.mean()) - exact) <= 5 * error:
            return {"n": n, "d": d, "mean": float(found.mean()), "derived": exact, "standard_error": error}
    return None


@st.composite
def _effects(pick: st.DrawFn) -> Tensor:
    """Effects ``[n]`` of whole numbers times a power of ten, not all zero."""
    numbers = pick(st.lists(st.integers(-1000, 1000), min_size=1, max_size=12).filter(any))
    return torch.tensor(numbers, dtype=pick(st.sampled_from(DTYPES)))


def _failure(effect: Tensor) -> Witness | None:
    """Where the engine's concentration is not the exact one, up to rounding."""
    squares = [Fraction(int(value)) ** 2 for value in effect.tolist()]
    exact = float(sum(square**2 for square in squares) / sum(squares) ** 2)
    bound = 4 * gamma(len(effect) + 8, effect.dtype) * exact  # every term is positive: all errors are relative
    for scale in (1.0, 1e-4):
        error = abs(float(formulas.concentration(effect * scale)) - exact)
        if not error <= bound:
            dtype = str(effect.dtype).removeprefix("torch.")
            return {"effect": effect.tolist(), "scale": scale, "dtype": dtype, "error": error, "bound": bound}
    return None


_COLUMNS = (
    "n", "d", "factor proved", "feature, linear", "random, linear", "exact mean", "p", "feature, ReLU", "random, ReLU",
)  # fmt: skip


def tight_frame(count: int, width: int, generator: torch.Generator, iterations: int = 40) -> Tensor:
    """``[count, width]`` unit rows, tight to rounding: alternate between tight frames and unit rows."""
    frame = torch.randn(count, width, generator=generator, dtype=torch.float64)
    for _ in range(iterations):
        values, axes = torch.linalg.eigh(frame.T @ frame)
        frame = frame @ (axes / values.sqrt()) @ axes.T
        frame = frame / torch.linalg.vector_norm(frame, dim=1, keepdim=True)
    return frame


def _frame(run: Run, n: int, d: int) -> Tensor:
    """The random tight frame of this run."""
    key = f"proofs: tight frame of {n} in {d}"
    return run.shared(key, lambda: tight_frame(n, d, torch.Generator().manual_seed(run.seed)))


def relu_table(run: Run) -> list[tuple[Any, ...]]:
    """Concentration of features and of random directions, linear and behind a ReLU, with intervals."""
    contexts = 64 if run.profile == "quick" else 512
    rows = []
    for n, d, active in itertools.product((128, 512), (64,), (0.05, 0.4)):
        generator = torch.Generator().manual_seed(run.seed)
        frame = _frame(run, n, d)
        random = random_directions(64, d, Centring.NONE, generator).double()
        features = frame[:64]
        linear = [mean_interval(formulas.concentration(s @ frame.T)[..., 0], generator) for s in (features, random)]
        on = torch.rand(contexts, n, generator=generator) < active
        x = (on * torch.rand(contexts, n, generator=generator)).double() @ frame
        behind = []
        for s in (features, random):
            moved = set_presence(x, s, 0.5, Centring.NONE)
            effect = torch.relu(moved @ frame.T) - torch.relu(x @ frame.T)
            behind.append(group_mean(formulas.concentration(effect)[..., 0], generator))
        texts = [interval.text() for interval in (*linear, *behind)]
        exact = f"{3 * d / (n * (d + 2)):.3g}"
        rows.append((n, d, f"{d * (d + 2) / (3 * n):.3g}", *texts[:2], exact, active, *texts[2:]))
    return rows


def twin_one_per_cent_more(run: Run) -> Finding:
    """False: ``C(w_i) ≥ 1.01·(d/n)²``."""
    return check_concentration(run, Concentration(own=sympy.Rational(101, 100)))


def twin_random_is_lower(run: Run) -> Finding:
    """False: random directions have the mean concentration ``2/n``."""
    return check_concentration(run, Concentration(random=2 / N))


def twin_any_frame(run: Run) -> Finding:
    """False: the frame need not be tight."""
    return check_concentration(run, Concentration(tight=False))
