"""A direction and its negative are two different interventions.

- SE-4 (:func:`check_opposite`): "``SeS(−s) = SeS(s)``" is false. The smallest witness has two dimensions, one context
  in which ``s`` is absent, and a read-out of two ReLU units. It stays false for a linear read-out, and for data that
  hold ``−x`` with every ``x`` and have no presence of ``s`` at all.
- What holds (:func:`law_of_the_opposite`): ``I_{−s}^α = I_s^{−α}``, so ``SeS(−s)`` is ``SeS(s)`` under the mirrored law
  of ``α``. They are equal if that law is symmetric about 0, or if the data hold ``−x`` with ``x`` *and* the read-out is
  odd or even. For ``f(x) = x`` the difference is ``ρ·E[α]`` in each context.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import sympy
import torch

from proofs import recheck
from proofs.counterexamples import publish
from proofs.draws import gamma
from proofs.proof import Checked, Proof
from proofs.relative_norm import ALPHA, DIRECTION, HALF_ANGLE, LENGTH, RHO, A, D, T, half_angle
from proofs.small_readouts import SmallReadout
from proofs.steps import Identity, Setting
from proofs.symbolic import GramSpace
from sensverify import formulas
from sensverify.claims import Finding, Run, Status
from sensverify.geometry import Centring
from sensverify.sensitivity import PresenceLaw, Probe, estimate

Y, Z = sympy.symbols("p q", positive=True)
COSINE = sympy.Symbol("c", real=True)
_DIRECTION, _ALPHA = (Fraction(1), Fraction(0)), Fraction(3, 5)  # √(1 − α²) = 4/5, so that all is rational
_POINTS = tuple(
    tuple(Fraction(c, 5) for c in point) for point in ((0, 5), (0, -5), (3, 4), (4, 3), (-3, 4), (3, -4), (-4, -3))
)
_ROWS = tuple(tuple(Fraction(w) for w in row) for row in ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opposite:
    """``SeS(−s) = SeS(s)``, said of every read-out (``linear``: of every linear one; ``even``: of ``|Wx|``), of all
    data (``absent``: where ``s`` has presence 0; ``mirrored``: that hold ``−x`` with every ``x``)."""

    linear: bool = False
    even: bool = False
    absent: bool = True
    mirrored: bool = False

    @property
    def activation(self) -> str:
        """What the units of the read-out do."""
        return "identity" if self.linear else "absolute value" if self.even else "relu"


def candidates(statement: Opposite) -> Iterator[tuple[Sequence[Any], Sequence[Any]]]:
    """Contexts and read-outs that the statement speaks of, small ones first."""
    points = [p for p in _POINTS if not statement.absent or p[0] == 0]
    single = [(p,) for p in points if not statement.mirrored]
    pairs = [(p, tuple(-c for c in p)) for p in points]
    for size in (2, 3):
        for contexts in (*single, *(pairs if statement.mirrored else ())):
            for rows in itertools.combinations(_ROWS, size):
                yield contexts, rows


def witness_against(statement: Opposite) -> dict[str, Any] | None:
    """The first candidate with different scores, all of them rational, or None."""
    for contexts, rows in candidates(statement):
        witness = {
            "kind": "opposite direction",
            "reading": "f(x) is the activation of W·x, unit by unit; I moves x to the nearest point of its norm "
            "with presence alpha of the direction; a score is the mean of (1 − cos(f(x), f(I(x))))/2 over contexts; "
            "all numbers exact",
            "contexts": [[str(c) for c in point] for point in contexts],
            "direction": [str(c) for c in _DIRECTION],
            "alpha": str(_ALPHA),
            "activation": statement.activation,
            "W": [[str(w) for w in row] for row in rows],
        }
        scores = recheck.opposite_scores(witness)
        if scores is not None and scores[0] != scores[1]:
            return {**witness, "score_plus": str(scores[0]), "score_minus": str(scores[1])}
    return None


def law_of_the_opposite(run: Run) -> Checked:
    """The identities behind the equality cases, for every dimension."""
    space = GramSpace(dimension=D, gram={("x", "x"): LENGTH**2, ("s", "s"): 1, ("x", "s"): LENGTH * RHO})
    x, s = space.vector("x"), space.vector("s")
    moved, opposite = (formulas.minimal_intervention(x, side, ALPHA) for side in (s, -s))
    mirrored = formulas.minimal_intervention(x, s, -ALPHA)
    reflected = formulas.minimal_intervention(-x, -s, ALPHA)
    pair = GramSpace(dimension=D, gram={("y", "y"): Y**2, ("z", "z"): Z**2, ("y", "z"): Y * Z * COSINE})
    y, z = pair.vector("y"), pair.vector("z")
    return Proof(
        title="What the opposite direction does",
        hypotheses=(DIRECTION, HALF_ANGLE, "y and z be nonzero read-outs of norms p and q with cosine c"),
        setting=Setting(parametrisation={RHO: half_angle(T), ALPHA: half_angle(A)}, seed=run.seed),
        spaces=(space, pair),
        steps=(
            Identity(
                text="To set the presence of −s to α is to set that of s to −α, so a law of α that is symmetric about "
                "0 gives both the same score:",
                left=(opposite - mirrored).squared_norm(),
                right=0,
                shown=r"\|I_{-s}^{\alpha}(x) - I_s^{-\alpha}(x)\|^2 = 0",
            ),
            Identity(
                text="For −x the opposite direction does the opposite,",
                left=(reflected + moved).squared_norm(),
                right=0,
                shown=r"\|I_{-s}^{\alpha}(-x) + I_s^{\alpha}(x)\|^2 = 0",
            ),
            Identity(
                text="which an odd or even read-out does not see: with −x in the data for each x, both score the same:",
                left=formulas.angular_distance(-y, -z) - formulas.angular_distance(y, z),
                right=0,
                shown="D(-y, -z) = D(y, z)",
            ),
            Identity(
                text="Read out as it is, the two effects differ by αρ, so that SeS(−s) − SeS(s) = E[ρ]·E[α]:",
                left=formulas.angular_distance(x, opposite) - formulas.angular_distance(x, moved),
                right=ALPHA * RHO,
                shown=r"D(x, I_{-s}^{\alpha}(x)) - D(x, I_s^{\alpha}(x)) = \alpha \rho",
            ),
        ),
    ).check()


def check_opposite(run: Run, statement: Opposite = Opposite()) -> Finding:
    """SE-4."""
    instead = run.shared("proofs: law of the opposite direction", lambda: law_of_the_opposite(run))
    witness = witness_against(statement)
    if instead.status is not Status.PROVED:
        return Finding(status=Status.INCONCLUSIVE, evidence={"law_of_the_opposite": instead.status.value})
    if witness is None:
        doubt = {"reason": "none of the small read-outs and contexts tells s from −s"}
        return Finding(status=Status.INCONCLUSIVE, evidence=doubt, exhibits=(instead.derivation(),))
    objections = recheck.recheck(witness) + _engine_objections(witness)
    if objections:
        return Finding(status=Status.INCONCLUSIVE, evidence={"objections": objections})
    if statement == Opposite():
        publish(run, "SE-4", witness)
    evidence = {
        "what_holds": f"SeS(−s) is SeS(s) under the mirrored law of α; {instead.steps} steps checked by machine",
        "equal": "if the law of α is symmetric about 0; or if the data hold −x with every x and f is odd or even",
        "linear": "for f(x) = x the difference is E[ρ]·E[α]: 7/16 of the mean presence for α ~ U(0, 7/8)",
        "engine": "gives both scores of the witness, to rounding",
    }
    return Finding(status=Status.REFUTED, evidence=evidence, witness=witness, exhibits=(instead.derivation(),))


def _engine_objections(witness: Mapping[str, Any]) -> list[str]:
    """Where the engine's own estimate of the two scores differs from the exact ones, in float64."""
    contexts, weights = (
        torch.tensor([[float(Fraction(c)) for c in row] for row in witness[name]], dtype=torch.float64)
        for name in ("contexts", "W")
    )
    if witness["activation"] == "relu":
        inner, outer = weights, torch.eye(len(weights), dtype=torch.float64)
    else:  # w = ReLU(w) − ReLU(−w), and |w| = ReLU(w) + ReLU(−w)
        sign = -1 if witness["activation"] == "identity" else 1
        inner = torch.cat([weights, -weights])
        outer = torch.cat([torch.eye(len(weights)), sign * torch.eye(len(weights))], 1).double()
    readout = SmallReadout(contexts=contexts, inner=inner, outer=outer, centring=Centring.NONE, through_norm=False)
    direction = torch.tensor([[float(Fraction(c)) for c in witness["direction"]]], dtype=torch.float64)
    alpha = float(Fraction(witness["alpha"]))
    probe = Probe(law=PresenceLaw(low=alpha, high=alpha))
    repeated = dataclasses.replace(readout, contexts=contexts.repeat(2, 1))  # an estimate takes two contexts at least
    objections = []
    for name, s in (("score_plus", direction), ("score_minus", -direction)):
        generator = torch.Generator().manual_seed(0)
        found = estimate(repeated, s, generator=generator, contexts=len(repeated.contexts), probe=probe)
        exact = float(Fraction(witness[name]))
        if abs(float(found.mean[0]) - exact) > 64 * gamma(16, torch.float64):
            objections.append(f"the engine's {name} is {float(found.mean[0])}, exactly it is {exact}")
    return objections


def twin_linear(run: Run) -> Finding:
    """False: the two are equal for a linear read-out."""
    return check_opposite(run, Opposite(linear=True, absent=False))


def twin_mirrored(run: Run) -> Finding:
    """False: the two are equal if the data hold ``−x`` with every ``x``, and ``s`` is absent from all of them."""
    return check_opposite(run, Opposite(mirrored=True))
