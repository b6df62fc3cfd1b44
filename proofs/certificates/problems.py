"""What is certified: each number with its lemmas and a colouring that was known before.

``R(4,4)`` is the hard one. With 9 of the 17 neighbours of a point in one colour it takes CaDiCaL 0.3 s; with the pairs
of one of these nine in order as well, less than 0.1 s, and the trimmed proof has a few hundred lines. ``N(4)`` at 52
points is not refuted as one formula (it would have 812,175 clauses on sets of four points): :func:`derived_from`
names the refutation that it follows from by RA-1's argument.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from proofs.certificates import drup
from proofs.certificates.encoding import (
    Lemma,
    SharedDiagonal,
    SharedNeighbours,
    SortedNeighbours,
    encode,
    layout_of,
)
from proofs.certificates.questions import (
    Missing,
    Question,
    Ramsey,
    classes_of_points,
    cubes_of_16,
    five_cycle,
    moebius_ladder,
    paley_17,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """A number, the lemmas of its refutation, and a colouring of one point fewer without a bad set.

    ``by_solver``: whether the model that is written down is found by the solver, or is that colouring.
    """

    question: Question
    value: int
    lemmas: tuple[Lemma, ...]
    known: Callable[[], list[str]]
    by_solver: bool = True

    @property
    def name(self) -> str:
        """Such as ``R(4,4)``."""
        return self.question.name

    @property
    def stem(self) -> str:
        """The name as it begins a file's name, such as ``R_4_4``."""
        return self.name.replace("(", "_").replace(",", "_").rstrip(")")

    @property
    def model_file(self) -> str:
        """Where the colouring of one point fewer is written."""
        return f"{self.stem}_at_{self.value - 1}.model.json"

    @property
    def refutation_files(self) -> tuple[str, str] | None:
        """The formula and its refutation; None for a number that another one's refutation decides."""
        if derived_from(self.question) is not None:
            return None
        return f"{self.stem}_at_{self.value}.cnf", f"{self.stem}_at_{self.value}.drup"


PROBLEMS: Mapping[str, Problem] = {
    problem.name: problem
    for problem in (
        Problem(question=Ramsey(sizes=(3, 3)), value=6, lemmas=(SharedNeighbours(),), known=five_cycle),
        Problem(
            question=Ramsey(sizes=(3, 4)),
            value=9,
            lemmas=(SortedNeighbours(pivot=0, first=1, last=8),),
            known=moebius_ladder,
        ),
        Problem(
            question=Ramsey(sizes=(4, 4)),
            value=18,
            lemmas=(SharedNeighbours(), SortedNeighbours(pivot=1, first=2, last=9)),
            known=paley_17,
        ),
        Problem(question=Ramsey(sizes=(3, 3, 3)), value=17, lemmas=(SharedNeighbours(),), known=cubes_of_16),
        Problem(question=Missing(k=2), value=4, lemmas=(SharedDiagonal(),), known=lambda: classes_of_points(3)),
        Problem(question=Missing(k=3), value=16, lemmas=(SharedDiagonal(),), known=lambda: classes_of_points(15)),
        Problem(
            question=Missing(k=4),
            value=52,
            lemmas=(),
            known=lambda: classes_of_points(51),
            by_solver=False,
        ),
    )
}


def derived_from(question: Question) -> Ramsey | None:
    """``R(4,4)`` for ``N(4)``: the refutation that decides a question which has none of its own."""
    return Ramsey(sizes=(4, 4)) if question == Missing(k=4) else None


def class_too_small(points: int, class_size: int) -> Mapping[str, Any] | None:
    """None if some diagonal value is shared by ``class_size`` of so many points; otherwise sizes that avoid it."""
    if 3 * (class_size - 1) < points:
        return None
    return {"points": points, "class_sizes": [(points + value) // 3 for value in range(3)]}


def not_implied(k: int) -> Mapping[str, Any] | None:
    """Inside one diagonal class, "no ``k`` points miss a value" implies "no ``k`` points have all pairs p, or none p".

    Checked by unit propagation for one ``k``-set, for every diagonal value ``b`` and every ``p ≠ b``; all sets of the
    class are alike. A clause that is not implied is returned.
    """
    definition = encode(Missing(k=k), k)
    layout = layout_of(Missing(k=k), k)
    pairs = [(a, b) for a, b in layout.cells if a != b]
    for b in range(3):
        diagonal = [(layout.literal(a, a, b),) for a in range(k)]
        for p in {0, 1, 2} - {b}:
            for sign in (1, -1):
                clause = [sign * layout.literal(*pair, p) for pair in pairs]
                clauses = [*definition, *diagonal, *((-literal,) for literal in clause)]
                formula = drup.Formula(variables=layout.variables, clauses=clauses)
                if not drup.check(formula, [drup.Line(clause=())]).stands:
                    return {"diagonal": b, "p": p, "clause": clause}
    return None
