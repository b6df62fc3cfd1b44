"""Work side by side in processes: in order, in the same process where it shares, stopped when asked."""

import importlib
import os
import subprocess
import sys
import time

import pytest

from sensverify.claims import Claim, FalseTwin, Run, Status, Suite
from sensverify.errors import InputError, Interrupted, MissingExtraError
from sensverify.runner import run_claims
from sensverify.workers import ENVIRONMENT, side_by_side

WORKS = """
import os, pathlib, signal, threading, time
from sensverify.claims import Finding, Status
from sensverify.files import write_atomically
from sensverify.errors import InputError, Interrupted, MissingExtraError

def slow_first(item, *, run):
    time.sleep(0.2 * (item == 0))
    return 10 * item

def where(item, *, run):
    time.sleep(0.1)
    return os.getpid(), run.shared("pid", os.getpid)

def told(item, *, run):
    run.progress(f"item {item}", 1, 1)
    return run.seed, run.profile, str(run.directory), run.subject.model

def earlier(item, *, run):
    return run.conclusions

def meet(item, *, run):
    (run.directory / f"here {item}").touch()
    end = time.monotonic() + 20
    while len(list(run.directory.glob("here *"))) < 2:
        if time.monotonic() > end:
            return "alone"
        time.sleep(0.01)
    return "met"

def refuse_one(item, *, run):
    if item == 1:
        raise InputError(expected="a", got="b", remedy="c")
    return item

def die(item, *, run):
    if item == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return item

def die_answering(item, *, run):
    if item == 1:
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return bytes(2**28)  # on its way for much longer
    return item

class Odd(Exception):
    def __init__(self, *, needed):
        super().__init__(needed)

def fail_oddly(item, *, run):
    if item == "extra":
        raise MissingExtraError(package="p", extra="e")
    if item == "stopped":
        raise Interrupted("on its own")
    raise Odd(needed="this")

def once_there(path):
    end = time.monotonic() + 20
    while not (path.exists() and time.monotonic() < end):
        time.sleep(0.01)
    return 0

def for_ever(item, *, run):
    if item == 0:
        return once_there(run.directory / "begun 1")
    (run.directory / f"begun {item}").touch()
    try:
        while True:
            run.progress("working", 0, 1)
            time.sleep(0.005)
    except Interrupted:
        (run.directory / f"stopped {item}").touch()
        raise

def deaf(item, *, run):
    if item == 0:
        return once_there(run.directory / "pid")
    write_atomically(run.directory / "pid", str(os.getpid()))
    time.sleep(300)

def threads(item, *, run):
    import torch
    seen = [torch.get_num_threads()]
    x = torch.ones(2, requires_grad=True)
    x.register_hook(lambda gradient: seen.append(torch.get_num_threads()))
    x.sum().backward()
    return seen

def check(run):
    return Finding(status=Status.SUPPORTED, evidence={"seed": run.seed})

def twin(run):
    return Finding(status=Status.REFUTED, evidence={}, witness={"n": 1})

def conclude(verdicts, *, run):
    return [verdict.claim.id for verdict in verdicts]

def refuse_to_conclude(verdicts, *, run):
    raise InputError(expected="a", got="b", remedy="c")
"""


@pytest.fixture(scope="module")
def works(tmp_path_factory):
    """Functions in a module that another process can import."""
    folder = tmp_path_factory.mktemp("works")
    (folder / "works_of_tests.py").write_text(WORKS)
    sys.path.insert(0, str(folder))
    yield importlib.import_module("works_of_tests")
    sys.path.remove(str(folder))


@pytest.fixture
def run(tmp_path):
    return Run(seed=7, directory=tmp_path, profile="full")


def test_results_come_in_the_order_of_the_items(run, works):
    assert list(side_by_side(works.slow_first, range(4), run, count=2)) == [0, 10, 20, 30]


def test_items_really_run_side_by_side(run, works):
    assert list(side_by_side(works.meet, range(2), run, count=2)) == ["met", "met"]


def test_items_of_one_kind_share_a_process_and_what_is_shared_in_it(run, works):
    found = list(side_by_side(works.where, range(6), run, count=3, kind=lambda item: item % 2))
    assert len({pid for pid, _ in found[::2]}) == len({pid for pid, _ in found[1::2]}) == 1
    assert all(pid == shared != os.getpid() for pid, shared in found)


def test_processes_have_the_callers_run_and_its_listener(run, works):
    heard = []
    run.progress = lambda *report: heard.append(report)
    found = list(side_by_side(works.told, range(3), run, count=2))
    assert found == [(7, "full", str(run.directory), "embedded")] * 3
    assert sorted(heard) == [(f"item {i}", 1, 1) for i in range(3)]


@pytest.mark.parametrize("kind", [id, lambda item: "one"])
def test_an_exception_comes_when_its_items_turn_comes(run, works, kind):
    answers = side_by_side(works.refuse_one, range(3), run, count=2, kind=kind)
    assert next(answers) == 0
    with pytest.raises(InputError, match="expected a, got b; remedy: c"):
        next(answers)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", ["die", "die_answering"])
def test_a_process_that_is_killed_is_told_in_one_line_after_what_is_done(run, works, name, count):
    answers = side_by_side(getattr(works, name), range(2), run, count=count)
    assert next(answers) == 0
    with pytest.raises(InputError, match="memory"):
        next(answers)


@pytest.mark.parametrize(
    ("item", "kind", "said"),
    [
        ("extra", MissingExtraError, "p, got none"),
        ("stopped", Interrupted, "on its own"),
        ("odd", RuntimeError, "Odd: this"),
    ],
)
def test_whatever_fails_is_told_as_it_is(run, works, item, kind, said):
    with pytest.raises(kind, match=said):
        list(side_by_side(works.fail_oddly, [item], run))


def test_a_listener_that_fails_is_heard_of(run, works):
    def broken(*report):
        raise OSError("no terminal")

    run.progress = broken
    with pytest.raises(OSError, match="no terminal"):
        list(side_by_side(works.told, range(3), run, count=2))


def test_a_process_that_cannot_begin_is_told_in_one_line(tmp_path):
    """A program without a guard would run itself in every process."""
    program = (
        "from sensverify.claims import Run\nfrom sensverify.errors import InputError\n"
        "from sensverify.workers import side_by_side\nimport pathlib, operator\n"
        "try:\n    list(side_by_side(operator.index, [1], Run(seed=0, directory=pathlib.Path())))\n"
        "except InputError as error:\n    print('told:', error)\n"
    )
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "told: expected a process that begins" in done.stdout
    assert "__main__" in done.stdout


def test_later_work_knows_earlier_conclusions(run, works):
    run.conclusions["earlier"] = 3
    assert list(side_by_side(works.earlier, [0], run)) == [{"earlier": 3}]


def test_when_the_caller_goes_away_nothing_more_is_begun_and_what_runs_is_stopped(run, works):
    answers = side_by_side(works.for_ever, range(50), run, count=2)
    assert next(answers) == 0
    answers.close()
    begun, stopped = (
        sorted(p.name.split()[1] for p in run.directory.glob(f"{word} *")) for word in ("begun", "stopped")
    )
    assert begun == stopped
    assert 1 <= len(begun) <= 4


def test_a_process_that_does_not_listen_is_killed(run, works, monkeypatch):
    monkeypatch.setattr("sensverify.workers.GRACE", 0.2)
    answers = side_by_side(works.deaf, range(2), run, count=2)
    assert next(answers) == 0
    began = time.monotonic()
    answers.close()
    assert time.monotonic() - began < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int((run.directory / "pid").read_text()), 0)


def test_nothing_to_do_is_no_error(run, works):
    assert list(side_by_side(works.slow_first, [], run)) == []


def test_each_process_has_one_thread_and_the_callers_environment_is_left_alone(run, works):
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    assert list(side_by_side(works.threads, range(2), run, count=2)) == [[1, 1], [1, 1]]
    assert {name: os.environ.get(name) for name in ENVIRONMENT} == before


def claims_of_tests(count):
    twin = FalseTwin(statement="It does not.", check="works_of_tests:twin")
    return tuple(
        Claim(
            id=f"X-{i}",
            statement="It holds.",
            source="here",
            expected=Status.SUPPORTED,
            check="works_of_tests:check",
            false_twins=(twin,),
        )
        for i in range(count)
    )


def test_a_suite_side_by_side_gives_the_verdicts_of_one_that_is_not(run, works):
    rows = []
    for way in (False, True):
        suite = Suite(claims=claims_of_tests(3), conclude="works_of_tests:conclude", side_by_side=way)
        verdicts = list(run_claims([("toys", claim) for claim in suite], {"toys": suite}, run))
        rows.append([(v.claim.id, v.status, v.finding.evidence) for v in verdicts])
        assert run.conclusions.pop("toys") == ["X-0", "X-1", "X-2"]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("way", [False, True])
def test_an_error_in_the_conclusion_reaches_the_caller(run, works, way):
    suite = Suite(claims=claims_of_tests(1), conclude="works_of_tests:refuse_to_conclude", side_by_side=way)
    decided = run_claims([("toys", claim) for claim in suite], {"toys": suite}, run)
    assert next(decided).status is Status.SUPPORTED
    with pytest.raises(InputError):
        next(decided)
    assert not run.conclusions


def test_an_error_that_is_raised_on_purpose_survives_the_way_between_processes():
    import pickle

    error = pickle.loads(pickle.dumps(InputError(expected="a", got="b", remedy="c")))
    assert (type(error), error.expected, str(error)) == (InputError, "a", "expected a, got b; remedy: c")
    assert isinstance(pickle.loads(pickle.dumps(Interrupted("stopped"))), Interrupted)
