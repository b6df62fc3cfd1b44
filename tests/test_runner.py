from pathlib import Path

import pytest

from sensverify import claims as claims_module
from sensverify.claims import Claim, FalseTwin, Run, Suite
from sensverify.errors import InputError, MissingExtraError
from sensverify.runner import preflight, run_claim, run_claims
from sensverify.verdicts import Finding, Status, Verdict, to_plain

CALLS: list[str] = []


def proves(run):
    return Finding(status=Status.PROVED, evidence={"seed": run.seed})


def supports(run):
    return Finding(status=Status.SUPPORTED, evidence={"measured": 3})


def skips(run):
    return Finding(status=Status.SKIPPED, evidence={"reason": "too narrow"})


def fails(run):
    return Finding(status=Status.ERROR, evidence={"reason": "broken"})


def does_not_know(run):
    return Finding(status=Status.INCONCLUSIVE, evidence={"reason": "out of time"})


def refutes(run):
    return Finding(status=Status.REFUTED, evidence={}, witness={"x": [1, -1]})


def crashes(run):
    raise ZeroDivisionError("one over none")


def refuses(run):
    raise InputError(expected="a model", got="none", remedy="pass one")


def lacks_an_extra(run):
    raise MissingExtraError(package="transformers", extra="lm")


def concludes(verdicts, *, run):
    CALLS.append(",".join(verdict.claim.id for verdict in verdicts))


def claim(check, *, name="X-1", expected=Status.PROVED, twins=(), **more):
    here = f"{__name__}:"
    return Claim(
        id=name, statement="A statement.", source="here", expected=expected, check=here + check.__name__,
        false_twins=tuple(FalseTwin(statement=t.__name__, check=here + t.__name__) for t in twins), **more,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def resolve_here(monkeypatch):
    """Let references point into this file, however pytest imported it."""
    real = claims_module.resolve
    table = {f"{__name__}:{name}": value for name, value in globals().items() if callable(value)}
    monkeypatch.setattr("sensverify.runner.resolve", lambda ref: table.get(ref) or real(ref))


@pytest.fixture
def run(tmp_path: Path):
    return Run(seed=3, directory=tmp_path)


def test_a_finding_becomes_a_verdict_with_seed_and_time(run):
    verdict = run_claim(claim(proves), "suite", run)
    assert verdict.status is Status.PROVED
    assert verdict.as_expected
    assert verdict.seed == 3
    assert verdict.seconds >= 0
    assert verdict.finding.evidence == {"seed": 3}


def test_the_full_profile_is_held_against_what_is_expected_of_it(tmp_path):
    said = claim(supports, expected=Status.INCONCLUSIVE, expected_full=Status.SUPPORTED)
    quick, full = (
        run_claim(said, "suite", Run(seed=3, directory=tmp_path, profile=name)) for name in ("quick", "full")
    )
    assert quick.differs
    assert full.as_expected
    assert full.to_json()["expected"] == "SUPPORTED"


def test_a_crash_is_an_error_never_a_refutation(run):
    verdict = run_claim(claim(crashes, expected=Status.REFUTED), "suite", run)
    assert verdict.status is Status.ERROR
    assert not verdict.as_expected
    assert verdict.finding.evidence["reason"] == "ZeroDivisionError: one over none"
    assert "crashes" in verdict.finding.evidence["where"]


def test_bad_input_is_the_users_to_mend_and_escapes(run):
    with pytest.raises(InputError):
        run_claim(claim(refuses), "suite", run)


def test_a_missing_extra_skips_with_the_line_that_installs_it(run):
    verdict = run_claim(claim(lacks_an_extra), "suite", run)
    assert verdict.status is Status.SKIPPED
    assert verdict.finding.evidence["remedy"] == "pip install 'sensverify[lm]'"


def test_a_refuted_twin_is_recorded(run):
    verdict = run_claim(claim(proves, twins=[refutes]), "suite", run)
    assert verdict.status is Status.PROVED
    assert verdict.finding.evidence["false_twins_refuted"] == ["refutes"]


@pytest.mark.parametrize("check", [proves, supports, refutes])
@pytest.mark.parametrize("twin", [proves, supports, fails, crashes])
def test_a_twin_that_is_accepted_or_fails_makes_the_checker_worthless(run, check, twin):
    for twins in ([twin], [refutes, twin], [does_not_know, twin]):
        assert run_claim(claim(check, twins=twins), "suite", run).status is Status.ERROR


@pytest.mark.parametrize("check", [supports, refutes])
@pytest.mark.parametrize("twin", [does_not_know, skips])
def test_a_twin_that_is_left_undecided_leaves_the_claim_undecided_and_is_named(run, check, twin):
    verdict = run_claim(claim(check, twins=[refutes, twin]), "suite", run)
    evidence = verdict.finding.evidence
    assert verdict.status is Status.INCONCLUSIVE
    assert "power to refute a false statement" in evidence["reason"]
    assert twin.__name__ in evidence["reason"]
    assert list(evidence["not_refuted"]) == [twin.__name__]
    assert evidence["without_twins"] == check(run).status.value
    assert "false_twins_refuted" not in evidence
    assert evidence.get("witness_without_twins") == check(run).witness
    assert verdict.to_json()["witness"] is None


@pytest.mark.parametrize("twin", [does_not_know, skips])
def test_what_is_proved_has_to_refute_all_its_twins(run, twin):
    assert run_claim(claim(proves, twins=[refutes, twin]), "suite", run).status is Status.ERROR


def test_what_was_measured_is_kept_where_a_twin_is_left_undecided(run):
    verdict = run_claim(claim(supports, twins=[does_not_know]), "suite", run)
    assert verdict.finding.evidence["measured"] == 3


def test_a_check_that_concluded_nothing_keeps_its_reason(run):
    verdict = run_claim(claim(does_not_know, twins=[does_not_know]), "suite", run)
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.finding.evidence["reason"] == "out of time"


def test_suites_are_concluded_after_their_last_claim(run):
    CALLS.clear()
    first = Suite(claims=(claim(proves), claim(refutes, name="X-2")), conclude=f"{__name__}:concludes")
    second = Suite(claims=(claim(proves, name="Y-1"),))
    selection = [("first", c) for c in first] + [("second", c) for c in second]
    verdicts = list(run_claims(selection, {"first": first, "second": second}, run))
    assert [verdict.claim.id for verdict in verdicts] == ["X-1", "X-2", "Y-1"]
    assert CALLS == ["X-1,X-2"]


def test_preflight_runs_once_per_reference_and_lets_missing_extras_pass(run):
    here = f"{__name__}:"
    skipped = claim(proves, preflight=here + "lacks_an_extra")
    preflight([("s", skipped), ("s", skipped)], run)
    with pytest.raises(InputError):
        preflight([("s", claim(proves, preflight=here + "refuses"))], run)


def test_shared_work_is_done_once_per_run(run):
    made = []
    for _ in range(2):
        assert run.shared("key", lambda: made.append(1) or "value") == "value"
    assert made == [1]


def test_a_refutation_without_witness_cannot_be_stated():
    with pytest.raises(ValueError, match="witness"):
        Finding(status=Status.REFUTED, evidence={})
    with pytest.raises(ValueError, match="witness"):
        Finding(status=Status.PROVED, evidence={}, witness={"x": 1})


def test_evidence_is_plain_json_or_refused():
    assert to_plain({"a": (1, float("nan")), "s": Status.PROVED}) == {"a": [1, "nan"], "s": "PROVED"}
    with pytest.raises(TypeError, match="set"):
        to_plain({"a": {1}})


def test_verdict_json_has_the_contracts_keys(run):
    verdict: Verdict = run_claim(claim(refutes, expected=Status.REFUTED), "suite", run)
    assert list(verdict.to_json()) == [
        "id", "suite", "statement", "source", "status", "expected", "evidence", "witness", "seed", "seconds",
    ]  # fmt: skip


def test_shared_work_may_use_shared_work(run):
    assert run.shared("outer", lambda: run.shared("inner", lambda: 1) + 1) == 2
