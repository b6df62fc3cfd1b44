"""Small Ramsey numbers and small ``N(k)``, each by a colouring on one side and a checked refutation on the other.

- RA-4 (:func:`check_small_numbers`): ``N(2) = 4``, ``N(3) = 16``, ``N(4) = 52``, ``R(3,3) = 6``, ``R(3,4) = 9``,
  ``R(4,4) = 18``, ``R(3,3,3) = 17``.

Below: a colouring of one point fewer, held against the definition by looking at every set. Above: a formula that says
"no bad set", with symmetry breaking whose lemmas are proved here and checked for what is finite in them, and a DRUP
refutation that an independent checker accepts. ``N(4) ≤ 52`` follows from ``R(4,4) ≤ 18`` by RA-1's argument. The
certificates are in ``certificates/`` of the run's folder; where they exist they are checked again, not made again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from proofs.certificates.encoding import Lemma, SharedNeighbours, SortedNeighbours, dimacs, with_lemmas
from proofs.certificates.folder import REMEDY, Knowledge, certificates, refute, with_derived
from proofs.certificates.problems import PROBLEMS, Problem, class_too_small, derived_from, not_implied
from proofs.certificates.questions import Ramsey, objection_to_model
from proofs.proof import Proof
from proofs.steps import Computation, Decision, Setting, Step
from sensverify.claims import Finding, Run, Status
from sensverify.exhibits import Table


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmallNumbers:
    """What the numbers are said to be; the default is RA-4, other values are false twins.

    ``lemmas`` replaces the symmetry breaking of a number. A twin needs no certificates: ``built_in`` takes what can be
    written down by hand, the known colourings and the refutation of ``R(3,3) > 6``.
    """

    numbers: Mapping[str, int] = dataclasses.field(default_factory=lambda: {p.name: p.value for p in PROBLEMS.values()})
    lemmas: Mapping[str, tuple[Lemma, ...]] = dataclasses.field(default_factory=dict)
    built_in: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Certified:
    """A step that a certificate decides; ``latex`` is empty, the sentence says it all."""

    text: str
    decision: Decision
    latex: str = ""

    def decide(self, setting: Setting) -> Decision:
        """As it was found."""
        return self.decision


def check_small_numbers(run: Run, statement: SmallNumbers = SmallNumbers()) -> Finding:
    """RA-4."""
    if statement.built_in:
        knowledge = _built_in(run, tuple(statement.numbers))
    else:
        folder = run.directory / "certificates"
        knowledge = run.shared("proofs: certificates", lambda: certificates(folder, run.progress))
    steps: list[Step] = []
    for name, value in statement.numbers.items():
        steps += _steps(name, value, statement.lemmas.get(name, PROBLEMS[name].lemmas), knowledge)
        source = derived_from(PROBLEMS[name].question)
        if source is not None and (source.name not in statement.numbers or source.name in statement.lemmas):
            steps += _lemmas(PROBLEMS[source.name], PROBLEMS[source.name].lemmas)  # its refutation is used
    said = ", ".join(f"{name} = {value}" for name, value in statement.numbers.items())
    proof = Proof(
        title="Small numbers by certificate",
        hypotheses=(
            "R(a, b, …) be the least number of points such that each colouring of their pairs has a points with all "
            "pairs of the first colour, or b of the second, and so on",
            "N(k) be the least number of points such that each symmetric F with three values, diagonal included, has k "
            "points that miss a value",
            "a bad set be one of these; so a colouring without one has none when points are left out",
        ),
        steps=steps,
        conclusion=f"Hence {said}.",
    ).check()
    finding = proof.finding(_evidence(statement, knowledge))
    if statement.built_in or finding.status is Status.REFUTED:
        return finding
    if knowledge.objections and finding.status is Status.PROVED:  # a damaged folder decides nothing
        finding = dataclasses.replace(finding, status=Status.INCONCLUSIVE)
    return dataclasses.replace(finding, exhibits=(*finding.exhibits, _table(statement, knowledge)))


# --- The steps of one number ----------------------------------------------------------------------------


def _steps(name: str, value: int, lemmas: Sequence[Lemma], knowledge: Knowledge) -> Iterator[Step]:
    """The colouring below, the lemmas, the refutation above."""
    problem = PROBLEMS[name]
    question, above = problem.question, _above(name, value, lemmas, knowledge)
    yield Certified(
        text=f"{name} > {value - 1}: a colouring of {value - 1} points has no bad set.",
        decision=_below(name, value, knowledge),
    )
    if above.holds is False:  # a colouring needs no lemma
        yield Certified(text=f"{name} ≤ {value}: no colouring of {value} points is without a bad set.", decision=above)
        return
    yield from _lemmas(problem, lemmas)
    source = derived_from(question)
    if source is not None:
        k, enough = source.sizes[0], knowledge.refuted.get(source.name, PROBLEMS[source.name].value)
        yield Computation(
            text=f"{name} at {value} points: {enough} points share a diagonal value b, as 3·{enough - 1} < {value}.",
            run=lambda: class_too_small(value, enough),
            how="in integers",
        )
        yield Computation(
            text=f'Colour the pairs of these by "is p" and "is not p", for a p ≠ b. If no {k} of them miss a value, '
            f"no {k} have all pairs of one colour, which {source.name} = {enough} forbids.",
            run=lambda: not_implied(k),
            how=f"unit propagation in the formula for {k} points, for all 6 choices of b and p",
        )
    yield Certified(text=f"{name} ≤ {value}: no colouring of {value} points is without a bad set.", decision=above)


def _lemmas(problem: Problem, lemmas: Sequence[Lemma]) -> Iterator[Step]:
    """What may be assumed without loss of generality, in the order in which it is."""
    for position, lemma in enumerate(lemmas):
        yield Computation(
            text=lemma.text(problem.question, problem.value),
            run=lambda position=position: lemma_objection(problem, lemmas, position),  # type: ignore[misc]
            how=("" if isinstance(lemma, SortedNeighbours) else "the count in integers; ")
            + "the image of each clause under generators of the group is a clause",
        )


def lemma_objection(problem: Problem, lemmas: Sequence[Lemma], position: int) -> Mapping[str, Any] | None:
    """What is wrong with one of the lemmas, given those before it, where the refutation uses it; None if nothing."""
    before = with_lemmas(problem.question, problem.value, lemmas[:position])
    return lemmas[position].objection(problem.question, problem.value, before)


def _below(name: str, value: int, knowledge: Knowledge) -> Decision:
    """Is there a colouring of ``value − 1`` points without a bad set?"""
    rows, refuted = knowledge.models.get(name, ()), knowledge.refuted.get(name)
    if len(rows) >= value - 1:
        return Decision(holds=True, how=f"a colouring of {len(rows)} points, each set of points looked at")
    source = derived_from(PROBLEMS[name].question)
    problem = PROBLEMS[source.name if source is not None else name]  # whose formula was refuted
    objections = (lemma_objection(problem, problem.lemmas, i) for i in range(len(problem.lemmas)))
    if refuted is not None and refuted <= value - 1 and not any(objections):
        witness = {
            "number": name,
            "said": value,
            "no_colouring_of_points": refuted,
            **_derivation(source, refuted),
            "formula": dimacs(problem.question, problem.value, problem.lemmas).splitlines(),
            "reading": "the formula, in DIMACS format, says that there is a colouring of so many points without a bad "
            "set, without loss of generality as its comments say; it has no model",
        }
        return Decision(holds=False, how="a checked refutation says otherwise", counterexample=witness)
    return Decision(holds=None, how="no colouring that could be checked")


def _derivation(source: Ramsey | None, refuted: int) -> dict[str, Any]:
    """How the refutation of another number decides this one."""
    if source is None:
        return {}
    points = PROBLEMS[source.name].value
    return {
        "formula_of": f"{source.name} at {points} points",
        "derivation": f"of {refuted} points {points} share a diagonal value b, as 3·{points - 1} < {refuted}; by their "
        'pairs, "is p" or "is not p" for a p ≠ b, they would be a colouring such as the formula says there is (RA-1)',
    }


def _above(name: str, value: int, lemmas: Sequence[Lemma], knowledge: Knowledge) -> Decision:
    """Is there no colouring of ``value`` points without a bad set? A refutation counts for its own lemmas only."""
    rows, refuted = knowledge.models.get(name, ()), knowledge.refuted.get(name)
    if refuted is not None and refuted <= value and tuple(lemmas) == PROBLEMS[name].lemmas:
        source = derived_from(PROBLEMS[name].question)
        of = f"{(source or PROBLEMS[name].question).name}, {knowledge.refuted[source.name] if source else refuted}"
        return Decision(holds=True, how=f"DRUP refutation ({of} points), checked clause by clause")
    if len(rows) >= value:
        witness = {
            "number": name,
            "said": value,
            "points": len(rows),
            "F": list(rows),
            "reading": "F[i][j] is the digit j of row i; this symmetric colouring has no bad set",
        }
        return Decision(holds=False, how="a colouring says otherwise", counterexample=witness)
    return Decision(holds=None, how="no refutation that could be checked")


def _built_in(run: Run, names: Sequence[str]) -> Knowledge:
    """The known colourings, each held against the definition, and the refutation of ``R(3,3) > 6``.

    With its lemma that formula falls to unit propagation: the proof is the empty clause alone.
    """
    models: dict[str, Sequence[str]] = {}
    refuted: dict[str, int] = {}
    for name in names:
        problem = PROBLEMS[name]
        rows = run.shared(f"proofs: known colouring for {name}", problem.known)
        if objection_to_model(problem.question, problem.value - 1, rows) is None:
            models[name] = rows
        if name == "R(3,3)":
            refute(problem, dimacs(problem.question, problem.value, problem.lemmas).encode(), b"0\n")
            refuted[name] = problem.value
    return Knowledge(models=models, refuted=with_derived(refuted))


# --- What is shown --------------------------------------------------------------------------------------


def _evidence(statement: SmallNumbers, knowledge: Knowledge) -> dict[str, Any]:
    if statement.built_in:
        return {"said": dict(statement.numbers)}
    evidence: dict[str, Any] = {
        "certificates": "made in this run, then checked"
        if knowledge.made_now
        else "found in the folder, checked again",
        "folder": "certificates",
        "solver": dict(knowledge.solver),
        "numbers": {
            name: {
                **{key: knowledge.details[name][key] for key in _DETAILS if key in knowledge.details.get(name, {})},
                "value": value,
                "colouring_of_points": len(knowledge.models[name]) if name in knowledge.models else None,
                "refuted_at_points": knowledge.refuted.get(name),
                **_refutation(name),
            }
            for name, value in statement.numbers.items()
        },
        "recheck": "python drup.py FORMULA.cnf PROOF.drup, with proofs/certificates/drup.py and nothing else",
    }
    if knowledge.objections:
        evidence |= {"objections": [dict(o) for o in knowledge.objections], "remedy": REMEDY}
    return evidence


# What is told of a certificate beside what was checked; nothing else that a file says reaches the evidence.
_DETAILS = (
    "model_from", "seconds_model", "seconds_refutation", "solver_proof_bytes", "variables", "clauses", "proof_lemmas",
    "proof_bytes", "seconds_checking",
)  # fmt: skip


def _refutation(name: str) -> dict[str, Any]:
    """The formula that was refuted, where it is of another number, and the lemmas in it."""
    source = derived_from(PROBLEMS[name].question)
    problem = PROBLEMS[source.name if source is not None else name]
    lemmas = [lemma.text(problem.question, problem.value) for lemma in problem.lemmas]
    files = problem.refutation_files or ("", "")
    return {**({"follows_from": problem.name} if source is not None else {}), "formula": files[0], "lemmas": lemmas}


_COLUMNS = (
    "number", "value", "colouring of points", "refuted at", "clauses", "proof: clauses", "proof: bytes",
    "seconds to solve", "seconds to check",
)  # fmt: skip


def _table(statement: SmallNumbers, knowledge: Knowledge) -> Table:
    rows = []
    for name, value in statement.numbers.items():
        about = knowledge.details.get(name, {})
        source = derived_from(PROBLEMS[name].question)
        refuted = knowledge.refuted.get(name, "–")
        rows.append(
            (
                name,
                value,
                len(knowledge.models[name]) if name in knowledge.models else "–",
                f"{refuted} (by {source.name})" if source is not None else refuted,
                *(about.get(key, "–") for key in ("clauses", "proof_lemmas", "proof_bytes", "seconds_refutation")),
                about.get("seconds_checking", "–"),
            )
        )
    return Table(
        title="Certificates",
        caption="Each colouring was held against the definition, each proof checked by a program that shares nothing "
        "with the solver. The seconds to solve are those of the run that made the certificates.",
        columns=_COLUMNS,
        rows=rows,
    )


# --- False twins ----------------------------------------------------------------------------------------


def _said(name: str, value: int) -> Callable[[Run], Finding]:
    """The check of a wrong value of one number."""

    def twin(run: Run) -> Finding:
        return check_small_numbers(run, SmallNumbers(numbers={name: value}, built_in=True))

    return twin


def _with(name: str, *lemmas: Lemma) -> Callable[[Run], Finding]:
    """The check of one number by lemmas of which one is wrong."""

    def twin(run: Run) -> Finding:
        numbers = {name: PROBLEMS[name].value}
        return check_small_numbers(run, SmallNumbers(numbers=numbers, lemmas={name: lemmas}, built_in=True))

    return twin


twin_r33_is_5 = _said("R(3,3)", 5)
twin_r33_is_7 = _said("R(3,3)", 7)
twin_r34_is_8 = _said("R(3,4)", 8)
twin_r333_is_16 = _said("R(3,3,3)", 16)
twin_n3_is_15 = _said("N(3)", 15)
twin_n4_is_51 = _said("N(4)", 51)
# R(3,4) treats its colours differently, so they may not be swapped.
twin_colours_swapped = _with("R(3,4)", SharedNeighbours())
# 17 neighbours need not have 10 in one colour: 9 and 8 have not.
twin_ten_neighbours = _with("R(4,4)", SharedNeighbours(more=1))
# Point 10 is no neighbour of 0 in that colour, and may not change places with those that are.
twin_sorted_too_far = _with("R(4,4)", SharedNeighbours(), SortedNeighbours(pivot=1, first=2, last=10))
