"""What it costs to find a set that misses a value: a number of evaluations of ``F`` that no number of points raises.

- RA-6 (:func:`check_cost`): on ``|X| ≥ 3m − 2`` points, ``m = C(2k−2, k−1)``, the finder of :mod:`proofs.finder`, told
  to stop at ``k``, returns a ``k``-set and a value that it misses after at most ``3m − 1 + (k−2)(2m − 2k + 3)``
  evaluations, whatever ``|X|`` and ``F``; on the adversary it takes exactly as many, for ``k = 2, …, 7``. That is the
  cost of this finder: others may need fewer. Going on until no point is left can take all ``(3m−2)(3m−1)/2`` pairs of
  the points looked at, and no more.

The adversary: ``F(x, x) = x mod 3`` and ``F(x, y) = 1 + ⌊min(x, y)/3⌋ mod 2``. It fills the diagonal classes evenly,
and then every point sends all the others to one side, in turns, so that the pool hardly shrinks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import sympy

from proofs.colourings import random_colouring
from proofs.finder import find_missing_set, plan, points_needed
from proofs.judgement import only_if_contradicted
from proofs.logarithmic_size import trial_colourings
from proofs.proof import Proof
from proofs.ramsey import binomial_bound, enough
from proofs.steps import Computation, Given, Identity, Inequality, Setting
from sensverify.claims import Finding, Run, Status
from sensverify.exhibits import Curve, Table

K, M, P, Q, U = sympy.symbols("k m p q u", integer=True, positive=True)
RED, BLUE, SUM, REST, OTHERS, FLOOR = sympy.symbols("r s P d n h", integer=True, nonnegative=True)
T = U + 1  # at least two targets
J = sympy.Symbol("j", integer=True, positive=True)
ADVERSARY = "F(x, x) = x mod 3, F(x, y) = 1 + ⌊min(x, y)/3⌋ mod 2"
MANY = 10**6  # points of the colourings below; few of them are ever looked at


def worst_case(k: int) -> int:
    """``3m − 1 + (k−2)(2m − 2k + 3)`` for ``k ≥ 2``; 1 for ``k = 1``."""
    m = binomial_bound(k, k)
    return 3 * m - 1 + (k - 2) * (2 * m - 2 * k + 3) if k > 1 else 1


def adversary(x: int, y: int) -> int:
    """The symmetric colouring on which the finder needs :func:`worst_case` evaluations."""
    return x % 3 if x == y else 1 + min(x, y) // 3 % 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """RA-6 by default. ``less``: points not looked at; ``steps``: halvings at most; ``share``: of the evaluations."""

    less: int = 0
    steps: Any = 2 * K - 4
    share: Fraction = Fraction(1)


def check_cost(run: Run, statement: Cost = Cost()) -> Finding:
    """RA-6."""
    givens = (
        Given(text="the three diagonal classes have at most m − 1 points each: d ≤ 3m − 3", quantity=3 * M - 3 - REST),
        Given(text="p are enough with one more of the first kind, r < p are on its side", quantity=P - 1 - RED),
        Given(text="q are enough with one more of the second, s < q are on its side", quantity=Q - 1 - BLUE),
        Given(text="of t = u + 1 sides each has at most p_i − 1 points", quantity=SUM - T - (T - 1) * OTHERS),
        Given(text="h = ⌊(P − t)/(t − 1)⌋, P = Σ p_i", quantity=(T - 1) * (FLOOR + 1) - (SUM - T), strict=True),
        Given(text="k ≥ 2", quantity=K - 2),
    )
    setting = Setting(givens=givens, realise=lambda numbers: _realise(statement), seed=run.seed)
    proof = Proof(
        title="What the finder costs",
        hypotheses=("F be symmetric with three values on |X| ≥ 3m − 2 points, m = C(2k−2, k−1) and k ≥ 2",),
        setting=setting,
        steps=(
            Inequality(
                text="After 3m − 2 evaluations on the diagonal, or before, some class has m points, the pool:",
                larger=3 * M - 2 - statement.less,
                smaller=REST,
                because=[[3 * M - 3 - REST], [sympy.Integer(1 - statement.less)]],
                strict=True,
            ),
            Inequality(
                text="A pool of p + q points, enough for k by Pascal's rule, leaves p on the first side of a point or "
                "q on the second, so the better promise is never below k:",
                larger=P + Q,
                smaller=1 + RED + BLUE,
                because=[[P - 1 - RED], [Q - 1 - BLUE], [sympy.Integer(1)]],
                strict=True,
            ),
            Inequality(
                text="For t targets a point has each of its n others on t − 1 of t sides, (t−1)n in all. So h + 2 "
                "points, h = ⌊(P−t)/(t−1)⌋, are more than the 1 + n of which no side has p_i:",
                larger=(T - 1) * (FLOOR + 2),
                smaller=(T - 1) * (1 + OTHERS),
                because=[[(T - 1) * (FLOOR + 1) - (SUM - T)], [SUM - T - (T - 1) * OTHERS]],
                strict=True,
            ),
            Inequality(
                text="A kind of k − 1 points is completed by any point, and costs nothing. If both have k − 2, two "
                "points of the pool complete one of them, whatever their pair: it costs one evaluation. So before a "
                "halving both have at most k − 2 and not both so many, 2k − 5 in all; then there are at most this many "
                "halvings, each of which takes a point:",
                larger=statement.steps,
                smaller=2 * K - 5 + 1,
                because=[[sympy.expand(statement.steps - 2 * K + 4)]],
            ),
            Identity(
                text="The pool shrinks with each halving, so that number j costs at most m − j; with the diagonal and "
                "the one pair at the end:",
                left=3 * M - 2 + sympy.summation(M - J, (J, 1, 2 * K - 4)) + 1,
                right=3 * M - 1 + (K - 2) * (2 * M - 2 * K + 3),
                shown=r"3m - 2 + \sum_{j=1}^{2k-4} (m - j) + 1 = 3m - 1 + (k-2)(2m-2k+3)",
            ),
            Computation(
                text="On the adversary this finder takes exactly that many, of a million points.",
                run=lambda: _attained(run, statement),
                how="k = 2, …, 7 (8 in the full profile); each set returned is verified",
            ),
            Computation(
                text="Stopping at k, the finder returns k points that miss a value; the size of X does not matter.",
                run=lambda: _verified(run),
                how="random, xor, popcount, gcd, product, Diffie–Hellman and Paley colourings, each result "
                "verified; the same F on 3m − 2 and on a million points",
            ),
            Computation(
                text="Going on until no point is left takes at most all pairs of 3m − 2 points, as a constant F does.",
                run=lambda: _to_the_end(run),
                how="the same colourings, and a constant one",
            ),
            Computation(
                text="For r = 4, …, 8 values it keeps its guarantee as well.",
                run=lambda: _more_values(run),
                how="random tables and x + y, xy and x xor y modulo r, each result verified",
            ),
        ),
        conclusion="Hence this finder's evaluations are bounded by k alone, and by no less for the k that were run.",
    ).check()  # fmt: skip
    proof = only_if_contradicted(proof)
    if proof.status is not Status.PROVED:
        return proof.finding()
    table = _table(run)
    evidence = {
        "proved_for": "at most so many: every k ≥ 2, every |X| ≥ 3m − 2 and every symmetric F with three values; by "
        "this finder, others may need fewer",
        "exactly_so_many_on_the_adversary": f"k = 2, …, {_largest(run) + 1}, counted",
        "worst_case": [
            {"k": k, "points looked at": points_needed(k, 3, 2), "evaluations": worst_case(k)} for k in range(2, 9)
        ],
        "random F": _random(run),
    }
    ks = list(range(2, 13))
    shown = Table(
        title="Evaluations of F",
        caption="On $3m-2$ points; more change nothing. The bound holds for every $F$, other counts for these alone.",
        columns=_COLUMNS,
        rows=table,
    )
    curve = Curve(
        title="Cost of a set of k points",
        caption="At most $3m-1+(k-2)(2m-2k+3)$ evaluations, $m = C(2k-2,k-1)$, beside all pairs of the points looked "
        "at.",
        x_label="k",
        y_label="evaluations of F",
        x=ks,
        series={"stopping at k": [worst_case(k) for k in ks], "all pairs": [_all_pairs(k) for k in ks]},
        log_y=True,
    )
    finding = proof.finding(evidence)
    return Finding(status=finding.status, evidence=finding.evidence, exhibits=(*finding.exhibits, shown, curve))


def _all_pairs(k: int) -> int:
    points = points_needed(k, 3, 2)
    return points * (points + 1) // 2


def _realise(statement: Cost) -> Mapping[str, Any]:
    if statement.less > 0:
        return {
            "said": f"for k = 2, {4 - statement.less} points are enough",
            "F": ["021", "210", "102"],
            "reading": "no two of these points miss a value",
        }
    for k in (5, *range(6, 8)):
        found = find_missing_set(adversary, MANY, wanted=k)
        m = binomial_bound(k, k)
        said = 3 * m - 1 + sum(m - j for j in range(1, 1 + int(sympy.sympify(statement.steps).subs(K, k))))
        if said < found.evaluations:
            return {
                "k": k,
                "said": said,
                "needed": found.evaluations,
                "by": "the finder of this project",
                "F": ADVERSARY,
            }
    return {}


def _largest(run: Run) -> int:
    return 6 if run.profile == "quick" else 7


def _attained(run: Run, statement: Cost) -> Mapping[str, Any] | None:
    for k in range(2, _largest(run) + 2):
        found = find_missing_set(adversary, MANY, wanted=k)
        allowed = statement.share * worst_case(k)
        if found.evaluations > allowed or (statement.share == 1 and found.evaluations != allowed):
            return {"k": k, "F": ADVERSARY, "allowed": int(allowed), "needed": found.evaluations}
    return None


def _misses(colour: Callable[[int, int], int], points: Any, missed: int) -> bool:
    return len(set(points)) == len(points) and all(colour(a, b) != missed for a in points for b in points)


_COLUMNS = ("k", "F", "stopping at k", "proved bound", "until no point is left", "size then")


def _table(run: Run) -> list[tuple[Any, ...]]:
    """A row per ``k`` and colouring: evaluations either way; -1 in place of a count that belongs to a wrong set."""

    def make() -> list[tuple[Any, ...]]:
        generator = np.random.default_rng(run.seed)
        result: list[tuple[Any, ...]] = []
        for k in range(3, _largest(run) + 1):
            run.progress("RA-6: finder", k - 3, _largest(run) - 2)
            points = points_needed(k, 3, 2)
            for name, colour in [*trial_colourings(points, generator), ("the adversary", adversary)]:
                stopped = find_missing_set(colour, points, wanted=k)
                whole = find_missing_set(colour, points)
                good = _misses(colour, stopped.points, stopped.missed) and len(stopped.points) == k
                size = len(whole.points) if _misses(colour, whole.points, whole.missed) else -1
                result.append((k, name, stopped.evaluations if good else -1, worst_case(k), whole.evaluations, size))
        run.progress("RA-6: finder", 1, 1)
        return result

    return run.shared("proofs: finder cost", make)


def _random(run: Run) -> list[dict[str, Any]]:
    """The most evaluations that random tables took, either way."""
    generator = np.random.default_rng(run.seed)
    result = []
    for k in range(3, _largest(run)):
        points, draws = points_needed(k, 3, 2), 100 if k < 7 else 10
        stopped: list[int] = []
        whole: list[int] = []
        for _ in range(draws):
            table = random_colouring(generator, points)
            for counts, wanted in ((stopped, k), (whole, None)):
                found = find_missing_set(lambda a, b, table=table: int(table[a, b]), points, wanted=wanted)  # type: ignore[misc]
                counts.append(found.evaluations)
        row = {"k": k, "draws": draws, "most, stopping at k": max(stopped), "most, until no point is left": max(whole)}
        result.append({**row, "proved bound": worst_case(k)})
    return result


def _verified(run: Run) -> Mapping[str, Any] | None:
    for row in _table(run):
        entry = dict(zip(_COLUMNS, row, strict=True))
        if not 0 < entry["stopping at k"] <= entry["proved bound"]:
            return entry
    for k in (3, 4, 5):
        points = points_needed(k, 3, 2)
        few, many = (find_missing_set(lambda a, b: (a ^ b) % 3, n, wanted=k) for n in (points, MANY))
        if (few.points, few.evaluations) != (many.points, many.evaluations):
            return {"k": k, "evaluations": [few.evaluations, many.evaluations]}
    return None


def _to_the_end(run: Run) -> Mapping[str, Any] | None:
    for row in _table(run):
        entry = dict(zip(_COLUMNS, row, strict=True))
        if entry["until no point is left"] > _all_pairs(entry["k"]) or entry["size then"] < entry["k"]:
            return entry
    for k in (2, 3, 4, 5):
        constant = find_missing_set(lambda a, b: 0, points_needed(k, 3, 2))
        if constant.evaluations != _all_pairs(k):
            return {"k": k, "evaluations": constant.evaluations}
    return None


def _symmetric(r: int, generator: np.random.Generator, points: int) -> Iterator[tuple[str, Callable[[int, int], int]]]:
    table = generator.integers(r, size=(points, points))
    yield "random", lambda a, b: int(table[min(a, b), max(a, b)])
    yield "x + y", lambda a, b: (a + b) % r
    yield "xy", lambda a, b: a * b % r
    yield "x xor y", lambda a, b: (a ^ b) % r


def _more_values(run: Run) -> Mapping[str, Any] | None:
    generator = np.random.default_rng(run.seed)
    for r in range(4, 9):
        for points in (5, 40, 200):
            for name, colour in _symmetric(r, generator, points):
                sure = plan(points, r)
                for wanted in (None, sure.size):
                    found = find_missing_set(colour, points, values=range(r), wanted=wanted)
                    if len(found.points) < sure.size or not _misses(colour, found.points, found.missed):
                        return {"r": r, "points": points, "F": name, "found": len(found.points), "sure": sure.size}
    table = {t: [enough((k,) * t) for k in range(1, 5)] for t in (2, 3)}
    return None if table == {2: [1, 2, 6, 20], 3: [1, 2, 5, 12]} else {"enough": {str(t): n for t, n in table.items()}}


def twin_one_per_cent_cheaper(run: Run) -> Finding:
    """False: one per cent fewer evaluations are enough for this finder, on every ``F``."""
    return check_cost(run, Cost(share=Fraction(99, 100)))


def twin_one_step_less(run: Run) -> Finding:
    """False: this finder halves at most ``2k − 5`` times."""
    return check_cost(run, Cost(steps=2 * K - 5))


def twin_linear(run: Run) -> Finding:
    """False: this finder halves at most ``k`` times."""
    return check_cost(run, Cost(steps=K))


def twin_one_point_fewer(run: Run) -> Finding:
    """False: ``3m − 3`` points are enough for this finder to look at."""
    return check_cost(run, Cost(less=1))
