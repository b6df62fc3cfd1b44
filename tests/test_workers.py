"""Claims decided side by side: in order, stopped when asked, and never twice."""

import threading
import time

import pytest
import torch

from sensverify.claims import Claim, FalseTwin, Run, Status, Suite
from sensverify.errors import InputError, Interrupted
from sensverify.runner import run_claims
from sensverify.verdicts import Finding
from sensverify.workers import side_by_side
from toy_models.workers import default_threads

CALLED: list[str] = []
HERE = __name__


def begin():
    """What each worker calls first."""
    CALLED.append(threading.current_thread().name)


@pytest.fixture
def run(tmp_path):
    CALLED.clear()
    return Run(seed=0, directory=tmp_path)


@pytest.fixture
def worker(monkeypatch):
    """``begin`` under a reference that resolves, wherever the tests are imported from."""
    monkeypatch.setattr("sensverify.workers.resolve", lambda reference: begin)
    return "anything:at_all"


def test_results_come_in_the_order_of_the_items(run, worker):
    def slow_first(item):
        time.sleep(0.05 * (3 - item))
        return 10 * item

    assert list(side_by_side(slow_first, range(4), worker, run, count=4)) == [0, 10, 20, 30]
    assert len(CALLED) == 4


def test_items_really_run_side_by_side(run, worker):
    meeting = threading.Barrier(3, timeout=10)
    assert len(list(side_by_side(lambda item: meeting.wait(), range(3), worker, run, count=3))) == 3


def test_an_exception_comes_when_its_items_turn_comes(run, worker):
    def decide(item):
        if item == 1:
            raise InputError(expected="a", got="b", remedy="c")
        return item

    answers = side_by_side(decide, range(3), worker, run, count=2)
    assert next(answers) == 0
    with pytest.raises(InputError):
        next(answers)


def test_when_the_caller_goes_away_nothing_more_is_begun_and_what_runs_is_stopped(run, worker):
    begun, stopped = [], threading.Event()

    def decide(item):
        begun.append(item)
        if item == 0:
            return item
        try:
            while True:
                run.progress("working", 0, 1)
                time.sleep(0.005)
        except Interrupted:
            stopped.set()
            raise

    listener = run.progress
    answers = side_by_side(decide, range(50), worker, run, count=2)
    assert next(answers) == 0
    answers.close()
    assert stopped.wait(5)
    assert len(begun) <= 4
    assert run.progress is listener


def test_shared_work_is_done_once_however_many_ask_for_it(run, worker):
    made = []

    def make():
        made.append(1)
        time.sleep(0.05)
        return "value"

    decided = list(side_by_side(lambda item: run.shared("key", make), range(6), worker, run, count=3))
    assert decided == ["value"] * 6
    assert made == [1]


def test_different_shared_work_does_not_wait(run, worker):
    meeting = threading.Barrier(2, timeout=10)

    def decide(item):
        return run.shared(f"key {item}", meeting.wait)

    assert len(list(side_by_side(decide, range(2), worker, run, count=2))) == 2


def test_a_suite_with_workers_gives_the_verdicts_of_one_without(run, worker, monkeypatch):
    def check(run):
        return Finding(status=Status.SUPPORTED, evidence={"seed": run.seed})

    def twin(run):
        return Finding(status=Status.REFUTED, evidence={}, witness={"n": 1})

    concluded = []
    named = {"m:check": check, "m:twin": twin, "m:conclude": lambda run, verdicts: concluded.append(len(verdicts))}
    monkeypatch.setattr("sensverify.runner.resolve", named.__getitem__)
    claims = tuple(
        Claim(
            id=f"X-{i}",
            statement="It holds.",
            source="here",
            expected=Status.SUPPORTED,
            check="m:check",
            false_twins=(FalseTwin(statement="It does not.", check="m:twin"),),
        )
        for i in range(5)
    )
    rows = []
    for reference in (None, worker):
        suites = {"toys": Suite(claims=claims, conclude="m:conclude", worker=reference)}
        verdicts = list(run_claims([("toys", claim) for claim in claims], suites, run))
        rows.append([(v.claim.id, v.status, v.finding.evidence) for v in verdicts])
    assert rows[0] == rows[1]
    assert concluded == [5, 5]


def test_nothing_to_decide_is_no_error(run, worker):
    assert list(side_by_side(lambda item: item, [], worker, run)) == []


# --- How many threads torch uses -------------------------------------------------------------------------------------


@pytest.fixture
def three_threads():
    """A main thread, and a default for new ones, that differ from what toys use."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def threads_seen():
    """Torch's number of threads where this is called and in the backward pass of what is computed there."""
    seen = [torch.get_num_threads()]
    x = torch.ones(2, requires_grad=True)
    x.register_hook(lambda gradient: seen.append(torch.get_num_threads()))
    x.sum().backward()
    return seen


def test_toys_use_one_thread_each_also_when_they_conclude_and_nothing_else_is_changed(run, monkeypatch, three_threads):
    seen = {}

    def check(run):
        time.sleep(0.01)
        return Finding(status=Status.SUPPORTED, evidence={"threads": threads_seen()})

    def conclude(run, verdicts):
        seen["conclude"] = [*threads_seen(), len(verdicts)]

    monkeypatch.setattr("sensverify.runner.resolve", {"m:check": check, "m:conclude": conclude}.__getitem__)
    claims = tuple(
        Claim(id=f"X-{i}", statement="It holds.", source="here", expected=Status.SUPPORTED, check="m:check")
        for i in range(6)
    )
    for reference, expected in (("toy_models.workers:one_thread_each", [1, 1]), (None, [3, 3])):
        suites = {"toys": Suite(claims=claims, conclude="m:conclude", worker=reference)}
        verdicts = list(run_claims([("toys", claim) for claim in claims], suites, run))
        assert [verdict.finding.evidence["threads"] for verdict in verdicts] == [expected] * 6
        assert seen["conclude"] == [*expected, 6]
        assert torch.get_num_threads() == default_threads() == 3


def test_an_error_in_the_conclusion_reaches_the_caller(run, worker, monkeypatch):
    def conclude(run, verdicts):
        raise InputError(expected="a", got="b", remedy="c")

    check = Finding(status=Status.SUPPORTED, evidence={})
    monkeypatch.setattr("sensverify.runner.resolve", {"m:check": lambda run: check, "m:end": conclude}.__getitem__)
    claim = Claim(id="X-1", statement="It holds.", source="here", expected=Status.SUPPORTED, check="m:check")
    decided = run_claims([("toys", claim)], {"toys": Suite(claims=(claim,), conclude="m:end", worker=worker)}, run)
    assert next(decided).status is Status.SUPPORTED
    with pytest.raises(InputError):
        next(decided)
