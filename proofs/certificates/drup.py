"""An independent checker of refutations: is this DRUP proof a proof that this CNF formula has no model?

It knows nothing of the solver that wrote the proof and imports nothing but the standard library, so the file may be
copied and run alone::

    python drup.py FORMULA.cnf PROOF.drup

Exit code 0 if the proof stands, 1 with the reason if it does not, 2 with one line if a file cannot be read as what it
should be, or if the outcome cannot be written.

The formula is DIMACS CNF, read strictly: comments, one line ``p cnf VARIABLES CLAUSES``, exactly so many clauses, each
closed by 0, every literal in range. The proof is DRUP as text: a clause closed by 0 is added, ``d`` before it deletes.
The binary format is refused. What counts as a proof:

- Every added clause, in order, must follow by reverse unit propagation (RUP): with all its literals false, unit
  propagation in the clauses present runs into a contradiction. The empty clause must be added, and is checked like
  every other. All that comes after it has to be well-formed, and follows from it.
- A literal of a variable that the formula does not have is malformed: DRUP introduces no variables.
- Literals repeated in a clause count once. A clause that holds a literal and its negation always holds: adding it is
  right, and no inference ever uses it.
- Deleting a clause removes one copy of it. Deletions only take premises away, so that to ignore one can never make a
  satisfiable formula appear refuted. Two kinds are ignored, and counted in the outcome: of a clause that is not
  there, and of a clause from which a literal was derived once and for all (units among them), as other checkers do.

Method: forward checking. Two literals of each clause are watched (Moskewicz et al. 2001). What unit propagation derives
without any assumption is kept; it is not taken back, as no clause that it rests on is ever deleted. Source of the
format: Heule, Hunt and Wetzler, Trimming while checking clausal proofs, 2013.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

Clause = tuple[int, ...]
MOST_VARIABLES = 10_000_000
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,9}")
_COUNT = re.compile(r"0|[1-9][0-9]{0,9}")
_NO_TEXT = re.compile(rb"[^\t\r -~]")


class Malformed(ValueError):
    """A file that is not what it should be; the message is one line."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Formula:
    """Clauses over the variables ``1 … variables``; a literal is a variable or its negative."""

    variables: int
    clauses: Sequence[Clause]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a proof: a clause to add, or to delete."""

    clause: Clause
    deletes: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """Whether the proof stands; if not, why.

    ``lemmas`` counts the added clauses that were checked, ``ignored`` the deletions without effect, and ``needed``
    lists the lines, counted from 0, without which the proof would not stand as it was checked.
    """

    stands: bool
    reason: str = ""
    lemmas: int = 0
    ignored: int = 0
    needed: Sequence[int] = ()


# --- Reading --------------------------------------------------------------------------------------------


def parse_formula(data: bytes) -> Formula:
    """Read DIMACS CNF; raises :class:`Malformed`."""
    header: tuple[int, int] | None = None
    numbers: list[str] = []
    for line in _lines(data, "formula"):
        if line.startswith("p"):
            words = line.split()
            if header is not None or numbers:
                raise Malformed("the formula has a header where clauses should be")
            counts = [int(word) for word in words[2:] if _COUNT.fullmatch(word)]
            if words[:2] != ["p", "cnf"] or len(words) != 4 or len(counts) != 2:
                raise Malformed(f"the formula's header should read 'p cnf VARIABLES CLAUSES', got {line[:60]!r}")
            header = counts[0], counts[1]
        else:
            numbers += line.split()
            if header is None:
                raise Malformed(f"the formula should begin with 'p cnf VARIABLES CLAUSES', got {line[:60]!r}")
    if header is None:
        raise Malformed("the formula has no header 'p cnf VARIABLES CLAUSES'")
    variables, count = header
    if variables > MOST_VARIABLES:
        raise Malformed(f"the formula has {variables} variables, more than the {MOST_VARIABLES} that are read")
    clauses = [line.clause for line in _clauses(numbers, variables, "formula")]
    if len(clauses) != count:
        raise Malformed(f"the formula announces {count} clauses and has {len(clauses)}")
    return Formula(variables=variables, clauses=clauses)


def parse_proof(data: bytes, variables: int) -> list[Line]:
    """Read a DRUP proof over so many variables as text; raises :class:`Malformed`."""
    comment = data[:1] == b"c" and data[1:2] in (b"", b" ", b"\t", b"\r", b"\n")
    if data[:1] == b"a" or (not comment and any(byte < 9 for byte in data[:4096])):
        raise Malformed("the proof is in the binary format, which is not read: write it as text")
    words = [word for line in _lines(data, "proof") for word in line.split()]
    return list(_clauses(words, variables, "proof"))


def _lines(data: bytes, what: str) -> Iterator[str]:
    """The lines that are neither blank nor comments; a comment may be in any encoding."""
    start = 0
    for line in data.split(b"\n"):
        if not (line[:1] == b"c" and line[1:2] in (b"", b" ", b"\t", b"\r")):
            if control := _NO_TEXT.search(line):
                position = start + control.start()
                raise Malformed(f"the {what} is no text: byte {data[position]} at position {position}")
            if line.strip():
                yield line.decode("ascii")
        start += len(line) + 1


def _clauses(words: Sequence[str], variables: int, what: str) -> Iterator[Line]:
    literals: list[int] = []
    deletes = opened = False
    for word in words:
        if word == "d" and what == "proof" and not opened:
            deletes = opened = True
        elif _NUMBER.fullmatch(word) is None:
            raise Malformed(f"the {what} should hold whole numbers, got {word[:40]!r}")
        elif word == "0":
            yield Line(clause=tuple(literals), deletes=deletes)
            literals, deletes, opened = [], False, False
        else:
            literal, opened = int(word), True
            if abs(literal) > variables:
                raise Malformed(f"the {what} has the literal {literal}, but the variables are 1 to {variables}")
            literals.append(literal)
    if opened:
        raise Malformed(f"the {what} ends inside a clause: the last one is not closed by 0")


# --- Checking -------------------------------------------------------------------------------------------


def check(formula: Formula, proof: Sequence[Line]) -> Outcome:
    """Check every added clause, in order, up to the empty one."""
    checker = _Checker(formula)
    ignored = lemmas = 0
    origin: dict[int, int] = {}  # the proof's line that added a clause
    used: dict[int, set[int]] = {}
    for number, line in enumerate(proof):
        if line.deletes:
            ignored += not checker.delete(line.clause)
            continue
        lemmas += 1
        premises = checker.follows(line.clause)
        if premises is None:
            shown = " ".join(map(str, line.clause[:12])) + (" …" if len(line.clause) > 12 else "")
            reason = (
                f"the added clause number {lemmas} ({shown or 'the empty one'}) does not follow by unit propagation"
            )
            return Outcome(stands=False, reason=reason, lemmas=lemmas, ignored=ignored)
        used[number] = premises
        if not line.clause:
            needed: set[int] = set()
            waiting = [number]
            while waiting:
                current = waiting.pop()
                if current not in needed:
                    needed.add(current)
                    waiting += [origin[index] for index in used[current] if index in origin]
            return Outcome(stands=True, lemmas=lemmas, ignored=ignored, needed=sorted(needed))
        origin[checker.add(line.clause)] = number
    return Outcome(stands=False, reason="the proof ends without the empty clause", lemmas=lemmas, ignored=ignored)


class _Checker:
    """The clauses present, two watched literals in each, and what they imply without assumptions.

    Inside, the literal of variable ``v`` is ``2v``, its negation ``2v + 1``. A clause is a list, its first two
    literals are watched, and its place in ``clauses`` is its name; a deleted one is an empty list, which those who
    still watch it drop when they come upon it.
    """

    def __init__(self, formula: Formula) -> None:
        size = 2 * formula.variables + 2
        self.clauses: list[list[int]] = []
        self.watchers: list[list[int]] = [[] for _ in range(size)]
        self.true, self.false = bytearray(size), bytearray(size)
        self.trail: list[int] = []
        self.reasons: list[int] = [-1] * (formula.variables + 1)
        self.contradiction: int | None = None  # the clause that is false without any assumption
        self.copies: dict[tuple[int, ...], list[int]] = {}
        for clause in formula.clauses:
            self.add(clause)

    def add(self, clause: Sequence[int]) -> int:
        """Add a clause with what follows from it at once; the place where it is kept."""
        literals = _inner(clause)
        place = len(self.clauses)
        self.copies.setdefault(tuple(literals), []).append(place)
        if _always_holds(literals):
            self.clauses.append([])  # it always holds
            return place
        # Literals that are false for good go last, where no one watches them.
        literals.sort(key=self.false.__getitem__)
        self.clauses.append(literals)
        if len(literals) > 1:
            self.watchers[literals[0]].append(place)
            self.watchers[literals[1]].append(place)
        if self.contradiction is None:
            if not literals or self.false[literals[0]]:
                self.contradiction = place
            elif (len(literals) == 1 or self.false[literals[1]]) and not self.true[literals[0]]:
                start = len(self.trail)
                self._assign(literals[0], place)
                self.contradiction = self._propagate(start)
        return place

    def delete(self, clause: Sequence[int]) -> bool:
        """Remove one copy of a clause, or leave it where that is none, or one on which a kept literal rests."""
        literals = tuple(_inner(clause))
        places = self.copies.get(literals)
        if not places:
            return False
        kept = {self.reasons[literal >> 1] for literal in literals} | {self.contradiction}
        for position in range(len(places) - 1, -1, -1):  # from the end, where to delete costs nothing
            if places[position] not in kept:
                self.clauses[places.pop(position)] = []
                return True
        return False

    def follows(self, clause: Sequence[int]) -> set[int] | None:
        """The clauses from which this one follows by reverse unit propagation, or None if it does not."""
        literals = _inner(clause)
        if _always_holds(literals):
            return set()
        if self.contradiction is not None:
            return self._premises(self.clauses[self.contradiction], {self.contradiction})
        kept = len(self.trail)
        premises: set[int] | None
        for literal in literals:
            if self.true[literal]:
                premises = self._premises([literal], set())
                break
            if not self.false[literal]:
                self._assign(literal ^ 1, -1)
        else:
            conflict = self._propagate(kept)
            premises = None if conflict is None else self._premises(self.clauses[conflict], {conflict})
        for literal in self.trail[kept:]:
            self.true[literal] = self.false[literal ^ 1] = 0
            self.reasons[literal >> 1] = -1
        del self.trail[kept:]
        return premises

    def _assign(self, literal: int, reason: int) -> None:
        self.true[literal] = self.false[literal ^ 1] = 1
        self.reasons[literal >> 1] = reason
        self.trail.append(literal)

    def _premises(self, literals: Sequence[int], found: set[int]) -> set[int]:
        """``found`` and the clauses by which the variables of these literals got their values."""
        waiting = [literal >> 1 for literal in literals]
        seen = set(waiting)
        while waiting:
            reason = self.reasons[waiting.pop()]
            if reason >= 0 and reason not in found:
                found.add(reason)
                new = {literal >> 1 for literal in self.clauses[reason]} - seen
                seen |= new
                waiting += new
        return found

    def _propagate(self, position: int) -> int | None:
        """Derive all that follows from the trail, from ``position`` on; the clause that became false, or None."""
        true, false, trail, clauses, watchers = self.true, self.false, self.trail, self.clauses, self.watchers
        while position < len(trail):
            fallen = trail[position] ^ 1
            position += 1
            visited, kept = watchers[fallen], []
            for count, place in enumerate(visited):
                clause = clauses[place]
                if not clause:
                    continue
                if clause[0] == fallen:
                    clause[0], clause[1] = clause[1], fallen
                first = clause[0]
                if true[first]:
                    kept.append(place)
                    continue
                for other in range(2, len(clause)):
                    literal = clause[other]
                    if not false[literal]:
                        clause[1], clause[other] = literal, fallen
                        watchers[literal].append(place)
                        break
                else:
                    kept.append(place)
                    if false[first]:
                        watchers[fallen] = kept + visited[count + 1 :]
                        return place
                    self._assign(first, place)
            watchers[fallen] = kept
        return None


def _inner(clause: Sequence[int]) -> list[int]:
    """The different literals in the form used inside, in order."""
    return sorted({2 * literal if literal > 0 else 1 - 2 * literal for literal in clause})


def _always_holds(literals: Sequence[int]) -> bool:
    """Whether a literal and its negation are among these, which are in order: then they are neighbours."""
    return any(not a & 1 and b == a + 1 for a, b in itertools.pairwise(literals))


def main(arguments: Sequence[str]) -> int:
    """Check one proof; the exit code counts for a script, the text for a person."""
    if len(arguments) != 2:
        _say(sys.stderr, "expected two files: python drup.py FORMULA.cnf PROOF.drup")
        return 2
    try:
        formula = parse_formula(Path(arguments[0]).read_bytes())
        proof = parse_proof(Path(arguments[1]).read_bytes(), formula.variables)
    except (Malformed, OSError) as error:
        _say(sys.stderr, " ".join(str(error).split()))
        return 2
    outcome = check(formula, proof)
    said = f"the proof does not stand: {outcome.reason}"
    if outcome.stands:
        said = f"the proof stands: {outcome.lemmas} clauses checked, {outcome.ignored} deletions ignored"
    if not _say(sys.stdout, said):
        _say(sys.stderr, f"{said}; but this could not be written where it should be")
        return 2
    return 0 if outcome.stands else 1


def _say(stream: TextIO | None, line: str) -> bool:
    """Write one line; False if the stream is closed or full, which must not end in a traceback."""
    if stream is None:  # closed before Python began
        return False
    try:
        stream.write(line + "\n")
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):  # what is left in the buffer goes nowhere when Python ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
