"""Every symmetric colouring has a set of logarithmic size that misses a value, and it can be found.

- RA-2 (:func:`check_guarantee`): for symmetric ``F`` with three values on ``n`` points, diagonal included, and
  ``m = ⌈n/3⌉``: there is a set ``S`` that misses a value with ``|S| ≥ k`` for the largest ``k`` with
  ``C(2k−2, k−1) ≤ m``, hence ``|S| ≥ 1 + ⌊½ log₂ m⌋ ≥ ⌊½ log₂(n/3)⌋``. With the parity step in place of the
  binomial, ``m`` of 2, 6, 18, 62, 222, 814, 3026 are enough for ``k = 2 … 8``.

The chain: ``R(a,b) ≤ R(a−1,b) + R(a,b−1)``, one less if both terms are even; Pascal's rule; growth by less than 4 per
step; and RA-1's majority class. The finder of :mod:`proofs.finder` is run on colourings meant to defeat it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import sympy

from proofs.colourings import largest_sets, paley, random_colouring, rows, three_classes
from proofs.finder import find_missing_set
from proofs.judgement import Judgement, only_if_contradicted
from proofs.proof import Proof
from proofs.ramsey import binomial_bound, guaranteed_size, half_logarithm, parity_bound
from proofs.steps import Computation, Decision, Given, Identity, Inequality, Setting
from proofs.symbolic import Expression
from sensverify.claims import Finding, Run, Status
from sensverify.exhibits import Table

A, B, K, P, Q = sympy.symbols("a b k p q", integer=True, positive=True)
RED, BLUE = sympy.symbols("r s", integer=True, nonnegative=True)
I, J = sympy.symbols("i j", integer=True, positive=True)
M, POWER, BINOMIAL = sympy.symbols("m W V", positive=True)
PARITY_TABLE = (2, 6, 18, 62, 222, 814, 3026)
MOST_POINTS = 20_000  # up to which the promised sizes are compared one by one


@dataclasses.dataclass(frozen=True, kw_only=True)
class Logarithm:
    """The size ``1 + ⌊share · log₂ m⌋``, in integers."""

    share: Fraction = Fraction(1, 2)

    def __post_init__(self) -> None:
        if self.share <= 0:
            raise ValueError(f"expected a positive share of the logarithm, got {self.share}")

    def __call__(self, m: int) -> int:
        """The size promised from ``m`` points of one class."""
        power: int = m**self.share.numerator
        return 1 + (power.bit_length() - 1) // self.share.denominator

    @property
    def base(self) -> Expression:
        """``k − 1 = ⌊share · log₂ m⌋`` is the largest with ``base^(k−1) ≤ m``."""
        return sympy.Integer(2) ** sympy.Rational(self.share.denominator, self.share.numerator)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guarantee:
    """RA-2 by default. ``saved``: points saved in every step, even or not; ``growth``: of the binomial per step;
    ``size``: the size promised from ``m``; any function can be refuted, but only a :class:`Logarithm` proved."""

    saved: int = 0
    growth: Expression = 4
    size: Callable[[int], int] = Logarithm()


def check_guarantee(run: Run, statement: Guarantee = Guarantee()) -> Finding:
    """RA-2."""
    vertices = P + Q - statement.saved
    words, base = _in_words(statement.size)
    ratio = sympy.simplify(sympy.binomial(2 * K, K) / sympy.binomial(2 * K - 2, K - 1)).rewrite(sympy.gamma)
    ratio = sympy.gammasimp(ratio)
    pascal = sympy.gammasimp(
        (sympy.binomial(A + B - 3, A - 2) + sympy.binomial(A + B - 3, A - 1)).rewrite(sympy.gamma)
        / sympy.binomial(A + B - 2, A - 1).rewrite(sympy.gamma)
    )
    givens = (
        Given(text="a vertex has r < p neighbours, p = R(a−1, b)", quantity=P - 1 - RED),
        Given(text="it has s < q others, q = R(a, b−1)", quantity=Q - 1 - BLUE),
        Given(text=f"V = C(2k−2, k−1) ≤ W = {base}^(k−1), as shown on the way", quantity=POWER - BINOMIAL),
        Given(text=f"the size promised is k = {words}: it means W ≤ m", quantity=M - POWER),
    )
    setting = Setting(givens=givens, realise=lambda numbers: _realise(statement), seed=run.seed)
    proof = Proof(
        title="A set of logarithmic size that misses a value",
        hypotheses=("F be symmetric with three values on n points and m = ⌈n/3⌉",),
        setting=setting,
        steps=(
            Inequality(
                text="A vertex, its r neighbours and its s others do not fill p + q vertices: r ≥ p or s ≥ q, so that "
                "R(a, b) ≤ R(a−1, b) + R(a, b−1):",
                larger=vertices,
                smaller=1 + RED + BLUE,
                because=[[P - 1 - RED], [Q - 1 - BLUE], [sympy.Integer(1 - statement.saved)]],
                strict=True,
            ),
            Identity(
                text="On p + q − 1 vertices they do only if r = p − 1 at every vertex; if p = 2i and q = 2j are even, "
                "the degrees would sum to an odd number, but each edge counts twice. So one vertex is saved:",
                left=(2 * I + 2 * J - 1) * (2 * I - 1),
                right=2 * (2 * I**2 + 2 * I * J - 2 * I - J) + 1,
            ),
            Identity(
                text="The recursion of R is Pascal's, and R(1, b) = R(a, 1) = 1 as for the binomial, so that R(a, b) ≤ "
                "C(a+b−2, a−1); the quotient of the two sides of Pascal's rule:",
                left=pascal,
                right=1,
                shown=r"\frac{C(a+b-3, a-2) + C(a+b-3, a-1)}{C(a+b-2, a-1)} = 1",
            ),
            Inequality(
                text=f"From k to k + 1 the central binomial grows by less than a factor {statement.growth}, from "
                f"C(0, 0) = 1, so that C(2k−2, k−1) ≤ ({statement.growth})^(k−1):",
                larger=statement.growth,
                smaller=ratio,
                because=[[2 / K]],
                strict=True,
            ),
            Inequality(
                text="One diagonal class has m points at least (RA-1); they are enough for k:",
                larger=M,
                smaller=BINOMIAL,
                because=[[M - POWER], [POWER - BINOMIAL]],
                shown=r"m - V = (m - W) + (W - V) \geq 0",
            ),
            Computation(
                text="The sizes promised are never above what exact search finds on colourings of Paley's graphs.",
                run=lambda: _not_above(statement),
                how="graphs of 5, 13, 17, 29, 37 and 101 vertices",
            ),
            Judgement(
                text=f"The size promised, {words}, follows: its k satisfies W ≤ m with W as above. It is never above "
                "the largest k with C(2k−2, k−1) ≤ m, nor below ⌊½ log₂(n/3)⌋.",
                judge=lambda: _follows(statement),
            ),
            Computation(
                text="With the parity step m = 2, 6, 18, 62, 222, 814, 3026 are enough for k = 2, …, 8.",
                run=_parity_table,
                how="the recursion, recomputed",
            ),
            Computation(
                text="The finder returns a set at least as large as promised that misses a value.",
                run=lambda: _run_finder(run),
                how="random and adversarial colourings, each result verified",
            ),
        ),
        conclusion=f"Hence |S| ≥ {words}, for m = ⌈n/3⌉; that is at least ⌊½ log₂(n/3)⌋.",
    ).check()
    proof = only_if_contradicted(proof)
    if proof.status is not Status.PROVED:
        return proof.finding()
    runs = run.shared("proofs: finder", lambda: finder_table(run))
    evidence = {
        "proved_for": "every n ≥ 1 and every symmetric F with three values",
        "enough_points_per_class": {
            str(k): {"binomial": binomial_bound(k, k), "parity": parity_bound(k, k)} for k in range(2, 9)
        },
        "finder": [dict(zip(_COLUMNS, row, strict=True)) for row in runs],
    }
    finding = proof.finding(evidence)
    table = Table(
        title="The finder at work",
        caption="Found never falls below guaranteed; evaluations count the calls of F.",
        columns=_COLUMNS,
        rows=runs,
    )
    return Finding(status=finding.status, evidence=finding.evidence, exhibits=(*finding.exhibits, table))


def _realise(statement: Guarantee) -> Mapping[str, Any]:
    """What a false guarantee would say, and a graph or a number that says otherwise."""
    if statement.saved > 0:
        return {
            "said": f"R(3, 3) ≤ R(2, 3) + R(3, 2) − {statement.saved} = {6 - statement.saved}",
            "graph": {"vertices": 5, "edges": [[i, (i + 1) % 5] for i in range(5)]},
            "reading": "the 5-cycle has neither three vertices joined in pairs nor three without an edge",
        }
    growth = sympy.Rational(statement.growth)
    binomial = power = Fraction(1)
    for k in range(1, 3000):
        if binomial > power:
            return {"said": f"C(2k−2, k−1) ≤ ({growth})^(k−1)", "first_k_that_breaks_it": k}
        binomial *= Fraction(2 * (2 * k - 1), k)
        power *= Fraction(int(growth.p), int(growth.q))
    return {}  # so far it holds, and may be true


def _in_words(size: Callable[[int], int]) -> tuple[str, str]:
    """The size as text, and the number of which it is a logarithm."""
    if not isinstance(size, Logarithm):
        return "a given function of m", "b"
    share = "½ " if size.share == Fraction(1, 2) else "" if size.share == 1 else f"{size.share}·"
    return f"1 + ⌊{share}log₂ m⌋", str(size.base) if size.base.is_Integer else f"({size.base})"


def _follows(statement: Guarantee) -> Decision:
    """Whether the chain gives the size that is promised; what it does not give may be true all the same."""
    for n in range(1, MOST_POINTS + 1):
        m = -(-n // 3)
        # ⌊½ log₂(n/3)⌋ in integers: the largest t with 3·4^t ≤ n, at least 0 where n ≥ 3
        printed = half_logarithm(n // 3) if n >= 3 else 0
        if not guaranteed_size(m) >= statement.size(m) >= printed:
            how = f"at m = {m} the size promised is {statement.size(m)}, the one guaranteed {guaranteed_size(m)}"
            return Decision(holds=None, how=how)
    if not isinstance(statement.size, Logarithm):
        return Decision(holds=None, how=f"compared up to n = {MOST_POINTS:,} only, as it is no logarithm")
    if not bool(statement.size.base >= statement.growth):
        return Decision(holds=None, how=f"W = {statement.size.base}^(k−1) may be below C(2k−2, k−1)")
    return Decision(
        holds=True,
        how=f"C(2k−2, k−1) grows by less than {statement.growth} ≤ {statement.size.base} per step, and 2^(k−1) ≤ "
        f"m^({statement.size.share}) is {statement.size.base}^(k−1) ≤ m; besides, n up to {MOST_POINTS:,} in integers",
    )


def _not_above(statement: Guarantee) -> Mapping[str, Any] | None:
    for q in (5, 13, 17, 29, 37, 101):
        table = three_classes(paley(q))
        largest = max(len(points) for points in largest_sets(table).values())
        if statement.size(q) > largest:
            return {"points": 3 * q, "promised": statement.size(q), "largest": largest, "F": rows(table)}
    return None


def _parity_table() -> Mapping[str, Any] | None:
    computed = tuple(parity_bound(k, k) for k in range(2, 9))
    return None if computed == PARITY_TABLE else {"computed": list(computed)}


_COLUMNS = ("colouring", "points", "promised", "guaranteed", "found", "evaluations")


def finder_table(run: Run) -> list[tuple[Any, ...]]:
    """The finder on each kind of colouring: the worst of its runs, by size and by evaluations."""
    sizes = (30, 256, 1000) if run.profile == "quick" else (30, 256, 1000, 10_000)
    generator = np.random.default_rng(run.seed)
    result = []
    for n in sizes:
        run.progress("finder of RA-2", sizes.index(n), len(sizes))
        for name, colour in trial_colourings(n, generator):
            found = find_missing_set(colour, n)
            values = {colour(a, b) for a in found.points for b in found.points}
            size = len(found.points) if found.missed not in values else -1
            promised = 1 + half_logarithm(-(-n // 3))
            result.append((name, n, promised, found.guaranteed, size, found.evaluations))
    run.progress("finder of RA-2", len(sizes), len(sizes))
    return result


def trial_colourings(n: int, generator: np.random.Generator) -> list[tuple[str, Callable[[int, int], int]]]:
    """Colourings of ``n ≥ 15`` points with three values: a random one, arithmetical ones, and one meant to defeat."""
    # Only the points that are looked at need a table, however many there are.
    wanted = binomial_bound(*2 * (guaranteed_size(-(-n // 3)),))
    table = random_colouring(generator, min(n, 3 * wanted))
    paley_points = next(q for q in (1009, 641, 317, 101, 73, 61, 29, 13, 5) if 3 * q <= n)
    adversary = three_classes(paley(paley_points))
    order = generator.permutation(len(adversary))
    prime, root = 2_147_483_647, 7  # 7 generates the multiplicative group

    def adversarial(a: int, b: int) -> int:
        return int(adversary[order[a % len(order)], order[b % len(order)]])

    return [
        ("random", lambda a, b: int(table[a, b])),
        ("x xor y modulo 3", lambda a, b: (a ^ b) % 3),
        ("ones in x xor y, modulo 3", lambda a, b: (a ^ b).bit_count() % 3),
        ("gcd(x, y) modulo 3", lambda a, b: math.gcd(a + 1, b + 1) % 3),
        ("xy modulo 3", lambda a, b: a * b % 3),
        ("Diffie–Hellman: g^(xy) modulo 2³¹ − 1, modulo 3", lambda a, b: pow(root, a * b, prime) % 3),
        (f"three classes on Paley's graph of {paley_points}", adversarial),
    ]


def _run_finder(run: Run) -> Mapping[str, Any] | None:
    for row in run.shared("proofs: finder", lambda: finder_table(run)):
        entry = dict(zip(_COLUMNS, row, strict=True))
        if not entry["found"] >= entry["guaranteed"] >= entry["promised"]:
            return entry
    return None


def twin_parity_always(run: Run) -> Finding:
    """False: the recursion saves a vertex whether or not its terms are even."""
    return check_guarantee(run, Guarantee(saved=1))


def twin_growth_one_per_cent_slower(run: Run) -> Finding:
    """False: the central binomial grows by less than a factor 3.96."""
    return check_guarantee(run, Guarantee(growth=sympy.Rational(396, 100)))


def twin_whole_logarithm(run: Run) -> Finding:
    """False: ``|S| ≥ 1 + ⌊log₂ m⌋``, without the half."""
    return check_guarantee(run, Guarantee(size=Logarithm(share=Fraction(1))))
