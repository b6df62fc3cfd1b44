"""The command line as a user meets it: exit codes, one-line errors, JSON, resuming, stopping."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import get_args

import pytest
import safetensors.torch
import torch

from sensverify import __version__, cli, options

COMMAND = [sys.executable, "-m", "sensverify.cli"]


def invoke(capsys, *arguments):
    """Exit code, stdout and stderr of one command, in this process."""
    capsys.readouterr()
    code = cli.run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def assert_refused(outcome, *expected):
    """Exit code 2, nothing on stdout, one line on stderr that says what was expected, what came, and the remedy."""
    code, out, err = outcome
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for fragment in ("expected", "got", "remedy", *expected):
        assert fragment in err


def discover(model, text, out, *more):
    return [
        "discover", "--model", model, "--text", text, "--out", out, "--layer", 1, "--target", 2, "--offset", 1,
        "--directions", 4, "--contexts", 8, "--context", 16, *more,
    ]  # fmt: skip


def test_list_names_every_claim_with_its_expected_verdict(capsys):
    code, out, _ = invoke(capsys, "list", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["schema"] == 1
    rows = {row["id"]: row for row in document["claims"]}
    assert rows["RA-3"]["expected"] == "REFUTED"
    assert {row["suite"] for row in rows.values()} >= {"proofs", "toy_models", "pythia"}
    assert set(rows["RA-3"]) == {"id", "suite", "statement", "source", "expected"}


def test_list_of_one_suite_names_only_its_claims(capsys):
    _, out, _ = invoke(capsys, "list", "pythia")
    assert "PY-1" in out
    assert "RA-3" not in out


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["list", "nonsense"], ["'nonsense'", "proofs"]),
        (["verify", "nonsense"], ["'nonsense'", "sensverify list"]),
        (["verify", "--claim", "XX-9"], ["'XX-9'", "LN-1"]),
        (["verify", "proofs", "--claim", "PY-1"], ["'PY-1'"]),
        (["verify", "--profile", "slow"], ["slow"]),
        (["verify", "--no-such-option"], ["--no-such-option"]),
        (["no-such-command"], ["no-such-command"]),
        (["discover", "--layer", "1"], ["--out"]),
        (["report", "/no/such/folder"], ["/no/such/folder"]),
        (["score", "/no/such/file"], ["/no/such/file"]),
        (["verify", "pythia", "--model", "./no/such/model"], ["does not exist"]),
        (["verify", "pythia", "--text", "/no/such/text"], ["/no/such/text"]),
        (["verify", "pythia", "--predictions", "/no/such/file"], ["/no/such/file"]),
    ],
)
def test_bad_input_gets_one_line_and_code_2(capsys, arguments, fragments):
    assert_refused(invoke(capsys, *arguments), *fragments)


def test_an_out_that_is_a_file_is_refused_before_anything_runs(capsys, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("keep me")
    assert_refused(invoke(capsys, "verify", "proofs", "--out", blocked), "--out")
    assert blocked.read_text() == "keep me"


def test_bad_input_leaves_no_folder_behind(capsys, tmp_path):
    out = tmp_path / "new"
    assert_refused(invoke(capsys, "verify", "pythia", "--model", "./nowhere", "--out", out))
    assert not out.exists()


def test_a_search_that_cannot_start_leaves_no_folder(capsys, tmp_path, tiny_model_folder, tiny_text):
    arguments = discover(tiny_model_folder, tiny_text, tmp_path / "new", "--method", "spectral", "--directions", 500)
    assert_refused(invoke(capsys, *arguments), "at most 31 spectral directions")
    assert not (tmp_path / "new").exists()


def test_the_version_is_told(capsys):
    assert invoke(capsys, "--version")[:2] == (0, f"sensverify {__version__}\n")


def test_verify_writes_the_record_and_the_page(capsys, tmp_path):
    code, out, err = invoke(capsys, "verify", "--claim", "LN-1", "--claim", "rn-2", "--out", tmp_path, "--json")
    document = json.loads(out)
    assert code == 0
    assert err == ""
    assert [claim["id"] for claim in document["claims"]] == ["LN-1", "RN-2"]
    assert json.loads((tmp_path / "verdicts.json").read_text()) == document
    page = (tmp_path / "report.html").read_text()
    assert invoke(capsys, "report", tmp_path)[0] == 0
    assert (tmp_path / "report.html").read_text() == page


def test_an_unexpected_verdict_ends_with_code_1(capsys, monkeypatch):
    import dataclasses

    import sensverify.suites as suites
    from sensverify.verdicts import Status

    loaded = suites.load_suites()
    changed = dataclasses.replace(
        loaded["proofs"],
        claims=tuple(dataclasses.replace(c, expected=Status.REFUTED) for c in loaded["proofs"] if c.id == "LN-1"),
    )
    monkeypatch.setattr(suites, "load_suites", lambda: {"proofs": changed})
    assert invoke(capsys, "verify", "--json")[0] == 1


def test_discover_writes_directions_that_score_accepts(capsys, tmp_path, tiny_model_folder, tiny_text):
    code, out, _ = invoke(capsys, *discover(tiny_model_folder, tiny_text, tmp_path, "--steps", 30, "--json"))
    assert code == 0
    found = json.loads(out)
    assert found["groups"]["found (+s)"]["low"] > found["groups"]["random"]["high"]
    tensors = safetensors.torch.load_file(tmp_path / "directions.safetensors")
    assert tensors["W_dec"].shape == (4, 32)
    assert torch.allclose(tensors["W_dec"].norm(dim=1), torch.ones(4), atol=1e-5)
    assert not torch.allclose(tensors["score_plus"], tensors["score_minus"])
    config = json.loads((tmp_path / "cfg.json").read_text())
    assert config["hook_name"] == "blocks.1.hook_resid_post"
    assert (config["layer"], config["target"], config["offset"]) == (1, 2, 1)

    code, out, _ = invoke(
        capsys,
        "score",
        tmp_path,
        "--model",
        tiny_model_folder,
        "--text",
        tiny_text,
        "--context",
        16,
        "--json",
    )
    assert code == 0
    scored = json.loads(out)
    for one, other in zip(scored["scores"], found["scores"], strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_weights_are_read_as_recorded_unless_one_says_otherwise(
    capsys, monkeypatch, tmp_path, tiny_model_folder, tiny_text
):
    from sensverify import sites
    from sensverify.claims import Subject
    from sensverify.inspection import Inspected, InspectionRequest, inspect_directions

    arguments = discover(tiny_model_folder, tiny_text, tmp_path, "--steps", 2, "--weights", "folded", "--json")
    assert invoke(capsys, *arguments)[0] == 0
    opened, read = [], sites.open_site
    monkeypatch.setattr(sites, "open_site", lambda about, *more: opened.append(about.weights) or read(about, *more))
    score = ["score", tmp_path, "--model", tiny_model_folder, "--text", tiny_text, "--context", 16, "--json"]
    for more in ((), ("--weights", "raw"), ("--weights", "folded")):
        assert invoke(capsys, *score, *more)[0] == 0
    assert opened == ["folded", "raw", "folded"]

    def inspector(request, *_):
        opened.append(request.subject.weights)
        return Inspected(facts={}, inspections=())

    for recorded in (True, False):
        request = InspectionRequest(directions=tmp_path, subject=Subject(), recorded_weights=recorded)
        inspect_directions(request, inspector=inspector)
    assert opened[3:] == ["folded", "raw"]
    config = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps({**config, "weight_processing": "boiled"}))
    assert_refused(invoke(capsys, *score), "raw, folded", "'boiled'")


def test_the_reference_is_recorded_and_scored_with(capsys, tmp_path, tiny_model_folder, tiny_text):
    arguments = discover(tiny_model_folder, tiny_text, tmp_path, "--steps", 10, "--reference", "absent", "--json")
    code, out, _ = invoke(capsys, *arguments)
    assert code == 0
    found = json.loads(out)
    assert found["evaluation"]["reference"] == "absent"
    assert found["largest_null_effect"] < 1e-6
    config = json.loads((tmp_path / "cfg.json").read_text())
    assert config["search"]["probe"]["reference"] == config["evaluation"]["reference"] == "absent"

    score = ["score", tmp_path, "--model", tiny_model_folder, "--text", tiny_text, "--context", 16, "--json"]
    recorded, given, other = (
        json.loads(invoke(capsys, *score, *more)[1])
        for more in ((), ("--reference", "absent"), ("--reference", "clean"))
    )
    assert recorded == given
    assert recorded["evaluation"]["reference"] == "absent"
    for one, same in zip(recorded["scores"], found["scores"], strict=True):
        assert one == pytest.approx(same, rel=1e-4)
    assert other["evaluation"]["reference"] == "clean"
    assert other["largest_null_effect"] < 1e-6
    assert other["scores"] != recorded["scores"]


def test_a_search_is_not_resumed_with_another_reference(capsys, tmp_path, tiny_model_folder, tiny_text):
    arguments = discover(tiny_model_folder, tiny_text, tmp_path, "--steps", 2)
    assert invoke(capsys, *arguments)[0] == 0
    assert_refused(invoke(capsys, *arguments, "--resume", "--reference", "absent"), "(search)")
    assert invoke(capsys, *arguments, "--resume", "--reference", "clean")[0] == 0


def test_the_reference_decides_what_is_found(capsys, tmp_path, tiny_model_folder, tiny_text):
    tables = []
    for reference in ("clean", "absent"):
        out = tmp_path / reference
        invoke(capsys, *discover(tiny_model_folder, tiny_text, out, "--steps", 10, "--reference", reference))
        tables.append(safetensors.torch.load_file(out / "directions.safetensors")["W_dec"])
    assert not torch.allclose(*tables)


@pytest.mark.parametrize("search", [None, {}, {"probe": None}, {"probe": {}}])
def test_directions_that_record_no_reference_are_scored_from_the_clean_activation(
    capsys, tmp_path, tiny_model_folder, tiny_text, search
):
    invoke(capsys, *discover(tiny_model_folder, tiny_text, tmp_path, "--steps", 2, "--reference", "absent"))
    config = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps({**config, "search": search}))
    score = ["score", tmp_path, "--model", tiny_model_folder, "--text", tiny_text, "--context", 16, "--json"]
    assert json.loads(invoke(capsys, *score)[1])["evaluation"]["reference"] == "clean"


@pytest.mark.parametrize("recorded", ["nothing", 3, None, ["absent"]])
def test_a_reference_that_is_none_is_refused(capsys, tmp_path, tiny_model_folder, tiny_text, recorded):
    arguments = discover(tiny_model_folder, tiny_text, tmp_path, "--steps", 2)
    assert_refused(invoke(capsys, *arguments, "--reference", "nothing"), "--reference")
    assert not (tmp_path / "cfg.json").exists()
    invoke(capsys, *arguments)
    config = json.loads((tmp_path / "cfg.json").read_text())
    config["search"]["probe"]["reference"] = recorded
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    score = ["score", tmp_path, "--model", tiny_model_folder, "--text", tiny_text, "--context", 16, "--json"]
    assert_refused(invoke(capsys, *score), "--reference")
    assert invoke(capsys, *score, "--reference", "clean")[0] == 0


def test_directions_of_other_weights_are_refused_unless_allowed(
    capsys, tmp_path, tiny_model_folder, tiny_text, make_model_folder
):
    invoke(capsys, *discover(tiny_model_folder, tiny_text, tmp_path, "--steps", 2))
    other = make_model_folder(seed=1)
    score = ["score", tmp_path, "--model", other, "--text", tiny_text, "--context", 16]
    assert_refused(invoke(capsys, *score), "--allow-other-model")
    assert invoke(capsys, *score, "--allow-other-model", "--json")[0] == 0
    wider = make_model_folder(hidden_size=48)
    assert_refused(
        invoke(capsys, "score", tmp_path, "--model", wider, "--text", tiny_text, "--allow-other-model"),
        "width 48",
    )


@pytest.mark.parametrize("method", ["parallel", "sequential"])
def test_a_killed_search_resumes_to_the_same_bits(tmp_path, tiny_model_folder, tiny_text, method):
    steps = {"parallel": 400, "sequential": 100}[method]
    arguments = discover(tiny_model_folder, tiny_text, tmp_path / "killed", "--steps", steps, "--method", method)
    command = [*COMMAND, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "search.checkpoint").exists():
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "directions.safetensors").exists()
    subprocess.run([*command, "--resume"], check=True, capture_output=True)
    command[command.index(str(tmp_path / "killed"))] = str(tmp_path / "whole")
    subprocess.run(command, check=True, capture_output=True)
    killed, whole = (tmp_path / name / "directions.safetensors" for name in ("killed", "whole"))
    assert killed.read_bytes() == whole.read_bytes()


def test_ctrl_c_saves_and_ends_with_code_3(tmp_path, tiny_model_folder, tiny_text):
    arguments = discover(tiny_model_folder, tiny_text, tmp_path, "--steps", 100_000)
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "search.checkpoint").exists():
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert out == ""
    assert err.startswith("sensverify: interrupted: stopped after step")
    assert err.count("\n") == 1


def test_an_interrupt_that_passed_through_exec_ends_with_code_3_too(tmp_path):
    """As it does in a library that makes code: `python -m` would end by the signal, whatever the exit code."""
    (tmp_path / "interrupted.py").write_text(
        "from sensverify import cli\n"
        "def run(arguments):\n"
        "    try:\n"
        "        exec('raise KeyboardInterrupt')\n"
        "    except KeyboardInterrupt:\n"
        "        return 3\n"
        "cli.run = run\n"
        "cli.main()\n"
    )
    assert subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path).returncode == 3


def test_an_interrupted_verify_leaves_what_was_decided(tmp_path):
    command = [*COMMAND, "verify", "proofs", "--out", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "verdicts.json").exists():
        assert time.monotonic() < deadline, "no verdict was written"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert err == "sensverify: interrupted: what was finished is on disk\n"
    record = json.loads((tmp_path / "verdicts.json").read_text())
    assert 1 <= len(record["claims"]) < 9
    assert record["environment"]["complete"] is False
    assert (tmp_path / "report.html").exists()


SLOW_CHECKS = """
import time
from sensverify.files import write_atomically
from sensverify.verdicts import Finding, Status

def short(run):
    return Finding(status=Status.SUPPORTED, evidence={})

def computing(run):  # writes again and again
    write_atomically(run.directory / "artefact", "a" * 100_000)
    print("begun", flush=True)
    while True:
        write_atomically(run.directory / "artefact", "a" * 100_000)
        run.progress("computing", 0, 1)

def calling(run):  # inside one long call
    print("begun", flush=True)
    time.sleep(300)
"""

SLOW_SUITE = """
import sys
import sensverify.suites, sensverify.workers
from sensverify.claims import Claim, Suite
from sensverify.cli import main
from sensverify.verdicts import Status

def claim(name, check):
    return Claim(id=name, statement="It holds.", source="here", expected=Status.SUPPORTED, check=f"slow:{check}")

if __name__ == "__main__":
    kind, way, *arguments = sys.argv[1:]
    claims = (claim("X-1", "short"), claim("X-2", kind), claim("X-3", kind))
    suite = Suite(claims=claims, side_by_side=way == "processes")
    sensverify.suites.load_suites = lambda: {"slow": suite}
    sensverify.workers.GRACE = 1.0
    sys.argv[1:] = arguments
    main()
"""


@pytest.mark.parametrize(
    ("number", "kind", "way"),
    [
        (signal.SIGINT, "computing", "processes"),
        (signal.SIGTERM, "computing", "processes"),
        (signal.SIGTERM, "computing", "alone"),
        (signal.SIGINT, "calling", "processes"),
    ],
)
def test_an_interrupt_ends_a_long_claim_in_seconds_and_leaves_nothing_half_written(tmp_path, number, kind, way):
    program, out = tmp_path / "program.py", tmp_path / "out"
    program.write_text(SLOW_SUITE)
    (tmp_path / "slow.py").write_text(SLOW_CHECKS)
    command = [sys.executable, str(program), kind, way, "verify", "slow", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    deadline = time.monotonic() + 60
    while not (out / "verdicts.json").exists():
        assert time.monotonic() < deadline, "no verdict was written"
        time.sleep(0.02)
    process.send_signal(number)
    sent = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - sent < 15  # 6 s at most, on a machine that has nothing else to do
    assert process.returncode == 3
    assert err == "sensverify: interrupted: what was finished is on disk\n"
    record = json.loads((out / "verdicts.json").read_text())
    assert [claim["id"] for claim in record["claims"]] == ["X-1"]
    assert record["environment"]["complete"] is False
    artefacts = {"artefact"} if kind == "computing" else set()
    assert {path.name for path in out.iterdir()} == {"verdicts.json", "exhibits.json", "report.html"} | artefacts
    assert not artefacts or len((out / "artefact").read_text()) == 100_000


def test_every_start_of_a_search_can_be_asked_for(capsys, tmp_path, tiny_model_folder, tiny_text):
    from sensverify import discovery

    assert options.StartName == discovery.Start
    found = {}
    for start in get_args(options.StartName):
        out = tmp_path / start
        assert invoke(capsys, *discover(tiny_model_folder, tiny_text, out, "--steps", 1, "--start", start))[0] == 0
        assert json.loads((out / "cfg.json").read_text())["search"]["start"] == start
        found[start] = safetensors.torch.load_file(out / "directions.safetensors")["W_dec"]
    assert not torch.allclose(found["random"], found["activations"])
    assert_refused(invoke(capsys, *discover(tiny_model_folder, tiny_text, tmp_path / "no", "--start", "x")), "'x'")


def test_a_search_may_be_left_to_stop_and_to_mend_itself(capsys, tmp_path, tiny_model_folder, tiny_text):
    arguments = discover(tiny_model_folder, tiny_text, tmp_path, "--steps", 1000, "--stop-on-plateau", "--revive")
    assert invoke(capsys, *arguments)[0] == 0
    search = json.loads((tmp_path / "cfg.json").read_text())["search"]
    assert search["revive"] is True
    assert search["plateau"]["patience"] >= 1
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["frozen"] == 4
    assert record["steps_done"] < record["steps_planned"] == 1000


def test_the_help_tells_where_a_search_may_begin(capsys):
    code, out, _ = invoke(capsys, "discover", "--help")
    assert code == 0
    assert "activations" in out


def test_resuming_with_other_options_is_refused(capsys, tmp_path, tiny_model_folder, tiny_text):
    invoke(capsys, *discover(tiny_model_folder, tiny_text, tmp_path, "--steps", 2))
    changed = discover(tiny_model_folder, tiny_text, tmp_path, "--steps", 3, "--resume")
    assert_refused(invoke(capsys, *changed), "(search)")


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_and_refused_if_there_is_none(
    capsys, tmp_path, tiny_model_folder, tiny_text
):
    arguments = discover(tiny_model_folder, tiny_text, tmp_path, "--steps", 2)
    invoke(capsys, *arguments)
    whole = (tmp_path / "directions.safetensors").read_bytes()

    newest, previous = tmp_path / "search.checkpoint", tmp_path / "search.checkpoint.previous"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(bytes(content))
    code, _, err = invoke(capsys, *arguments, "--resume")
    assert code == 0
    assert err.count("\n") == 1
    assert err.startswith("sensverify: warning: the checksum")
    assert (tmp_path / "directions.safetensors").read_bytes() == whole
    for path in (newest, previous):
        path.write_bytes(path.read_bytes()[:-1])
    assert_refused(invoke(capsys, *arguments, "--resume"), "checksum")


@pytest.mark.skipif(shutil.which("head") is None, reason="needs head")
def test_a_closed_pipe_is_no_error():
    line = f"{' '.join(COMMAND)} list | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0
    assert done.stderr == ""


def test_what_a_run_is_about_is_in_its_record_and_an_access_token_is_not(
    capsys, monkeypatch, tmp_path, tiny_model_folder, tiny_text
):
    secret = "hf_" + "aTokenThatNobodyMaySee" * 2
    monkeypatch.setenv("HF_TOKEN", secret)
    lines = tmp_path / "lines.jsonl"
    documents = tiny_text.read_text().split("\n")
    lines.write_text("\n".join(json.dumps({"body": "\n".join(documents[i : i + 4])}) for i in range(0, 400, 4)))
    about = [
        "--weights", "folded", "--packing", "documents", "--exclude-outlier-norms", "--outlier-factor", 3,
        "--text-field", "body",
    ]  # fmt: skip
    told = [
        invoke(capsys, *discover(tiny_model_folder, lines, tmp_path / "out", "--steps", 2, *about)),
        invoke(capsys, "score", tmp_path / "out", "--model", tiny_model_folder, "--text", tiny_text, "--context", 16),
        invoke(
            capsys, "verify", "--claim", "PY-1", "--model", tiny_model_folder, "--text", lines, *about,
            "--out", tmp_path / "verified", "--json",
        ),
    ]  # fmt: skip
    assert [code for code, _, _ in told] == [0, 0, 0]
    config = json.loads((tmp_path / "out" / "cfg.json").read_text())
    assert config["weight_processing"] == "folded"
    assert config["packing"] == "documents"
    assert config["outlier_norms"]["times_the_median"] == 3
    environment = json.loads(told[2][1])["environment"]
    assert (environment["weights"], environment["packing"], environment["outlier_norms"]) == ("folded", "documents", 3)
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 6
    assert not any(secret.encode() in content for content in written)
    assert secret not in "".join(out + err for _, out, err in told)
