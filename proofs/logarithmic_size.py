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
from typing import Any

import numpy as np
import sympy

from proofs.colourings import largest_sets, paley, random_colouring, rows, three_classes
from proofs.finder import find_missing_set
from proofs.proof import Proof
from proofs.ramsey import binomial_bound, guaranteed_size, half_logarithm, parity_bound
from proofs.steps import Computation, Given, Identity, Inequality, Setting
from proofs.symbolic import Expression
from sensverify.claims import Finding, Run, Status
from sensverify.exhibits import Table

A, B, K, P, Q = sympy.symbols("a b k p q", integer=True, positive=True)
RED, BLUE = sympy.symbols("r s", integer=True, nonnegative=True)
I, J = sympy.symbols("i j", integer=True, positive=True)
M, POWER, BINOMIAL = sympy.symbols("m W V", positive=True)
PARITY_TABLE = (2, 6, 18, 62, 222, 814, 3026)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guarantee:
    """RA-2 by default. ``saved``: points saved in every step, even or not; ``growth``: of the binomial per step;
    ``size``: the size promised from ``m``."""

    saved: int = 0
    growth: Expression = 4
    size: Callable[[int], int] = lambda m: 1 + half_logarithm(m)


def check_guarantee(run: Run, statement: Guarantee = Guarantee()) -> Finding:
    """RA-2."""
    vertices = P + Q - statement.saved
    ratio = sympy.simplify(sympy.binomial(2 * K, K) / sympy.binomial(2 * K - 2, K - 1)).rewrite(sympy.gamma)
    ratio = sympy.gammasimp(ratio)
    pascal = sympy.gammasimp(
        (sympy.binomial(A + B - 3, A - 2) + sympy.binomial(A + B - 3, A - 1)).rewrite(sympy.gamma)
        / sympy.binomial(A + B - 2, A - 1).rewrite(sympy.gamma)
    )
    givens = (
        Given(text="a vertex has r < p neighbours, p = R(a−1, b)", quantity=P - 1 - RED),
        Given(text="it has s < q others, q = R(a, b−1)", quantity=Q - 1 - BLUE),
        Given(text="V = C(2k−2, k−1) ≤ W = 4^(k−1), as shown on the way", quantity=POWER - BINOMIAL),
        Given(text="k − 1 = ⌊½ log₂ m⌋, that is 4^(k−1) ≤ m", quantity=M - POWER),
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
                text="From k to k + 1 the central binomial grows by less than a factor 4, from C(0, 0) = 1, so that "
                "C(2k−2, k−1) ≤ 4^(k−1):",
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
                text="The sizes promised are in order, and never above what exact search finds on colourings of "
                "Paley's graphs.",
                run=lambda: _order(statement),
                how="n up to 20,000 in integers; graphs of 5, 13, 17, 29 and 37 vertices",
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
        conclusion="Hence |S| ≥ 1 + ⌊½ log₂⌈n/3⌉⌋ ≥ ⌊½ log₂(n/3)⌋.",
    ).check()
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
    if statement.saved:
        return {
            "said": "R(3, 3) ≤ R(2, 3) + R(3, 2) − 1 = 5",
            "graph": {"vertices": 5, "edges": [[i, (i + 1) % 5] for i in range(5)]},
            "reading": "the 5-cycle has neither three vertices joined in pairs nor three without an edge",
        }
    growth = statement.growth
    k = next((k for k in range(1, 3000) if math.comb(2 * k - 2, k - 1) > growth ** (k - 1)), None)
    return {"said": f"C(2k−2, k−1) ≤ ({growth})^(k−1)", "first_k_that_breaks_it": k}


def _order(statement: Guarantee) -> Mapping[str, Any] | None:
    for n in range(1, 20_001):
        m = -(-n // 3)
        # ⌊½ log₂(n/3)⌋ in integers: the largest t with 3·4^t ≤ n, at least 0 where n ≥ 3
        printed = half_logarithm(n // 3) if n >= 3 else 0
        if not guaranteed_size(m) >= 1 + half_logarithm(m) >= printed:
            return {"n": n}
    for q in (5, 13, 17, 29, 37):
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
    return check_guarantee(run, Guarantee(size=lambda m: m.bit_length()))
