"""The proof machinery is seen to accept, to refute with numbers, and to say that it does not know."""

from __future__ import annotations

from pathlib import Path

import pytest
import sympy
import torch

from proofs import claims, falsify
from proofs.draws import Draws
from proofs.floating import Comparison, sweep
from proofs.proof import Checked, Proof
from proofs.steps import Computation, Given, Identity, Inequality, Setting, Step
from proofs.symbolic import GramSpace
from sensverify import formulas
from sensverify.claims import Run, resolve
from sensverify.exhibits import Derivation
from sensverify.verdicts import Status

X, Y = sympy.symbols("x y", real=True)
P = sympy.Symbol("p", positive=True)


def check(*steps: Step, givens: tuple[Given, ...] = (), space: GramSpace | None = None) -> Checked:
    spaces, setting = (space,) if space else (), Setting(givens=givens)
    return Proof(title="t", hypotheses=("x be real",), steps=steps, setting=setting, spaces=spaces).check()


def test_a_true_identity_is_proved() -> None:
    checked = check(Identity(text="square", left=(X + Y) ** 2, right=X**2 + 2 * X * Y + Y**2))
    assert (checked.status, checked.steps, checked.witness) == (Status.PROVED, 1, None)


def test_a_wrong_identity_is_refuted_with_the_smallest_numbers() -> None:
    checked = check(Identity(text="square", left=(X + Y) ** 2, right=X**2 + Y**2))
    assert checked.status is Status.REFUTED
    assert checked.witness == {"at": {"x": 1, "y": 1}, "left": 4, "right": 2}


def test_the_steps_after_a_failing_one_are_not_claimed() -> None:
    checked = check(
        Identity(text="good", left=X, right=X),
        Identity(text="bad", left=X, right=Y),
        Identity(text="good again", left=Y, right=Y),
    )
    assert (checked.steps, checked.failed) == (1, "bad")
    assert [line.text for line in checked.derivation().lines][1:] == ["good", "bad"]


def test_an_identity_that_is_neither_shown_nor_broken_is_inconclusive() -> None:
    # Equal to zero on all numbers tried, but not identically zero as far as the machine can tell.
    unknown = sympy.Function("f")(X) * 0 + sympy.Piecewise((0, sympy.Abs(X) < 10**9), (1, True))
    checked = check(Identity(text="hidden", left=unknown))
    assert checked.status is Status.INCONCLUSIVE
    assert checked.finding().witness is None


def test_a_counterexample_after_an_undecided_step_still_refutes() -> None:
    undecided = Inequality(text="true, badly argued", larger=X**2 + 1, smaller=0, because=[[X**2]])
    checked = check(undecided, Identity(text="bad", left=X, right=0))
    assert (checked.status, checked.failed) == (Status.REFUTED, "bad")


def test_an_inequality_without_its_certificate_is_not_proved() -> None:
    slack_elsewhere = Inequality(text="true, badly argued", larger=X**2 + 1, smaller=0, because=[[X**2]])
    assert check(slack_elsewhere).status is Status.INCONCLUSIVE


def test_a_factor_of_unknown_sign_is_no_certificate() -> None:
    assert check(Inequality(text="x ≥ 0", larger=X, smaller=0, because=[[X]])).status is Status.REFUTED


def test_a_sum_of_squares_is_a_certificate() -> None:
    checked = check(Inequality(text="am-gm", larger=X**2 + Y**2, smaller=2 * X * Y, because=[[(X - Y) ** 2]]))
    assert checked.status is Status.PROVED


def test_a_strict_inequality_needs_a_positive_term() -> None:
    equal = Inequality(text="x² > −0", larger=X**2, smaller=0, because=[[X**2]], strict=True)
    assert check(equal).witness == {"at": {"x": 0}, "larger": 0, "smaller": 0}
    zero = Inequality(text="0 > 0", larger=P, smaller=P, because=[[sympy.Integer(0)]], strict=True)
    assert check(zero).status is Status.REFUTED
    positive = Inequality(text="p > 0", larger=X**2 + P, smaller=0, because=[[X**2], [P]], strict=True)
    assert check(positive).status is Status.PROVED


def test_two_nonpositive_factors_make_a_nonnegative_one() -> None:
    givens = (Given(text="x ≤ 1", quantity=1 - X), Given(text="y ≤ 1", quantity=1 - Y))
    product = (X - 1) * (Y - 1)
    holds = Inequality(text="", larger=product, smaller=0, because=[[product]])
    fails = Inequality(text="", larger=-product, smaller=0, because=[[-product]])
    assert check(holds, givens=givens).status is Status.PROVED
    assert check(fails, givens=givens).status is Status.REFUTED


def test_a_minus_before_a_square_is_seen() -> None:
    assert check(Inequality(text="", larger=-(X**2), smaller=0, because=[[-(X**2)]])).status is Status.REFUTED


def test_a_given_is_used_and_its_absence_is_felt() -> None:
    step = Inequality(text="x ≥ 1", larger=X, smaller=1, because=[[X - 1]])
    assert check(step, givens=(Given(text="x ≥ 1", quantity=X - 1),)).status is Status.PROVED
    assert check(step).status is Status.REFUTED


def test_counterexamples_respect_the_givens() -> None:
    found = falsify.search([X], lambda values, tolerance: values[0] > 1, givens=[(2 - X, True), (Y - X, False)])
    assert found is not None
    assert 1 < found[X] < 2
    assert found[Y] >= found[X]


def test_cancelling_a_possible_zero_is_no_proof() -> None:
    may_vanish = sympy.Symbol("a", nonnegative=True)
    space = GramSpace(dimension=sympy.Integer(2), gram={("x", "x"): may_vanish**2})
    x = space.vector("x")
    normed = x / formulas.norm(x)
    unit = Identity(text="a normed vector has length 1", left=normed.squared_norm(), right=1)
    checked = check(unit, space=space)
    assert checked.status is Status.REFUTED
    assert checked.witness is not None
    assert checked.witness["at"] == {"a": 0}


def test_a_scalar_division_by_zero_is_seen() -> None:
    assert check(Identity(text="x/y = x/y", left=X / Y, right=X / Y)).status is Status.REFUTED
    assert check(Identity(text="x/p = x/p", left=X / P, right=X / P)).status is Status.PROVED


def test_a_computation_with_a_counterexample_refutes() -> None:
    checked = check(Computation(text="no even prime", run=lambda: {"prime": 2}, how="all"))
    assert checked.witness == {"prime": 2}
    assert check(Computation(text="fine", run=lambda: None, how="all")).status is Status.PROVED


def test_rounding_is_no_counterexample() -> None:
    # In floats the sides differ by rounding for most values; exactly they are equal, and simplify cannot be needed.
    third = sympy.Rational(1, 3)
    left, right = (X + third) ** 3, sympy.expand((X + third) ** 3)

    def violated(values: list[float], tolerance: float) -> bool:
        return bool(abs(values[0] - values[1]) > tolerance * (1 + abs(values[0])))

    assert falsify.search([left, right], violated) is None


@pytest.mark.parametrize("seed", [0, 1])
def test_the_search_is_deterministic(seed: int) -> None:
    def draw() -> object:
        return falsify.search([X, Y], lambda v, tolerance: v[0] + 2 * v[1] > 1500, seed=seed)

    assert draw() == draw()


def test_the_derivation_names_what_checked_each_line() -> None:
    finding = check(Identity(text="same", left=X, right=X)).finding({"note": 1})
    (derivation,) = finding.exhibits
    assert isinstance(derivation, Derivation)
    assert all(line.checked_by or line.taken for line in derivation.lines)
    assert finding.evidence == {"proof": "1 steps checked by machine", "note": 1}


def test_a_proof_without_steps_is_no_proof() -> None:
    assert check().status is Status.INCONCLUSIVE


def test_from_contradictory_hypotheses_nothing_is_proved() -> None:
    givens = (Given(text="x ≥ 0", quantity=X), Given(text="x ≤ −1", quantity=-X - 1))
    step = Inequality(text="0 ≥ 1", larger=0, smaller=1, because=[[X], [-X - 1]])
    assert check(step, givens=givens).status is Status.INCONCLUSIVE


def test_an_inequality_that_divides_by_a_possible_zero_is_no_proof() -> None:
    may_vanish = sympy.Symbol("q", nonnegative=True)
    step = Inequality(text="1/q ≥ 0", larger=1 / may_vanish, smaller=0, because=[[1 / may_vanish]])
    assert check(step).status is not Status.PROVED
    assert check(Inequality(text="1/p ≥ 0", larger=1 / P, smaller=0, because=[[1 / P]])).status is Status.PROVED


def test_a_law_that_was_never_tried_is_not_proved(tmp_path: Path) -> None:
    def vacuous(draws: Draws) -> list[Comparison]:
        ones = torch.ones(len(draws.x), 1, dtype=torch.float64)
        return [Comparison(law="anything", error=ones, bound=ones * torch.inf)]

    proved = check(Identity(text="good", left=X, right=X)).finding()
    swept = sweep(Run(seed=0, directory=tmp_path), "test", vacuous)
    joined = swept.join(proved, bounds={"anything": "infinite"})
    assert swept.failure is None
    assert joined.status is Status.INCONCLUSIVE
    assert joined.evidence["not_tried"]


def test_a_bound_that_came_out_undefined_is_a_failure(tmp_path: Path) -> None:
    def undefined(draws: Draws) -> list[Comparison]:
        ones = torch.ones(len(draws.x), 1, dtype=torch.float64)
        return [Comparison(law="anything", error=ones * 0, bound=ones * torch.nan)]

    assert sweep(Run(seed=0, directory=tmp_path), "test", undefined).failure is not None


@pytest.mark.parametrize("claim", ["LN-1", "LN-2", "LN-3", "LN-4", "LN-8"])
def test_an_engine_that_returns_nothing_in_floating_point_is_noticed(
    claim: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    centre = formulas.centre
    monkeypatch.setattr(formulas, "centre", lambda x: x * 0 if torch.is_tensor(x) else centre(x))
    check_of = {c.id: c.check for c in claims}[claim]
    assert resolve(check_of)(Run(seed=0, directory=tmp_path)).status is not Status.PROVED
