"""Ask a SAT solver; the only file that imports one. Nothing it says is believed: models and proofs are checked.

CaDiCaL 1.5.3 through python-sat. Refutations are trimmed to the clauses that the checker needed, which makes that of
R(4,4) smaller by a factor of 80, and are checked once more in that form by whoever reads them.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import time
from collections.abc import Sequence

from proofs.certificates import drup
from proofs.certificates.drup import Clause
from sensverify.errors import MissingExtraError

SOLVER, PACKAGE = "cadical153", "python-sat"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """A model (its true literals) or a proof as it came, in text, and how long the solver took."""

    model: set[int] | None
    proof: str | None
    seconds: float


def require_solver() -> None:
    """Raise :class:`~sensverify.errors.MissingExtraError` unless python-sat is installed."""
    try:
        import pysat.solvers  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(package=PACKAGE, extra="sat") from error


def solver_version() -> str:
    """The version of python-sat."""
    return importlib.metadata.version(PACKAGE)


def solve(clauses: Sequence[Clause]) -> Answer:
    """A model, or a DRUP proof that there is none.

    Raises :class:`~sensverify.errors.MissingExtraError` without python-sat.
    """
    require_solver()
    from pysat.solvers import Solver

    start = time.perf_counter()
    with Solver(name=SOLVER, bootstrap_with=[list(clause) for clause in clauses], with_proof=True) as solver:
        if solver.solve():
            model = set(solver.get_model())
            return Answer(model=model, proof=None, seconds=time.perf_counter() - start)
        proof = "\n".join(solver.get_proof()) + "\n"
        return Answer(model=None, proof=proof, seconds=time.perf_counter() - start)


def trimmed(formula: drup.Formula, proof: str, *, rounds: int = 3) -> str:
    """The added clauses that the checker needed, in order, without deletions; the whole if it does not stand."""
    lines = drup.parse_proof(proof.encode("ascii"), formula.variables)
    for _ in range(rounds):
        outcome = drup.check(formula, lines)
        if not outcome.stands:
            break
        lines = [lines[number] for number in outcome.needed]
    return "".join(("d " if line.deletes else "") + " ".join(map(str, (*line.clause, 0))) + "\n" for line in lines)
