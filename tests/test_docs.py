"""The README's commands and Python are run as written, in order, by a newcomer in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\$ (sensverify .+)$", README, flags=re.MULTILINE)
STEPS = re.findall(r"^\$ (sensverify .+)$|^```python\n((?:.*\n)*?)```$", README, flags=re.MULTILINE)
"""Each a command or a block of Python; the other is empty."""
COMMANDS = {"list", "verify", "discover", "score", "bench", "colouring", "report", "inspect"}


def test_every_command_has_an_example():
    assert {example.split()[1] for example in EXAMPLES} == COMMANDS


def test_every_command_of_the_program_is_in_the_readme():
    helped = subprocess.run(
        [sys.executable, "-m", "sensverify.cli", "--help"], capture_output=True, text=True, check=True
    )
    listed = re.findall(r"^  ([a-z]+)  ", helped.stdout, flags=re.MULTILINE)
    assert set(listed) == COMMANDS


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_has_help(command):
    helped = subprocess.run(
        [sys.executable, "-m", "sensverify.cli", command, "--help"], capture_output=True, text=True, check=True
    ).stdout
    for line in helped.splitlines():
        if re.match(r"^  --[a-z-]+( [A-Z]+)?$", line):
            following = helped.splitlines()[helped.splitlines().index(line) + 1]
            assert following.startswith(" " * 10), f"{command}: {line.strip()} has no help"


def test_the_examples_run_as_written(tmp_path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command, block in STEPS:
        example = command or block
        done = subprocess.run(
            ["bash", "-c", command] if command else [sys.executable, "-c", block],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{example}\n{done.stderr}"
        assert done.stderr == "", example
    assert (tmp_path / "runs/first/report.html").exists()
    assert (tmp_path / "runs/found/directions.safetensors").exists()
    assert (tmp_path / "runs/transformer-found/directions.safetensors").exists()


def test_certificates_are_checked_as_written(tmp_path):
    section = README.partition("## Certificates")[2].partition("\n## ")[0]
    commands = [line.strip() for line in section.splitlines() if line.strip().startswith(("python ", "sensverify "))]
    assert len(commands) == 3
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command.replace(" proofs/", f" {ROOT}/proofs/")],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert "stand" in done.stdout or "all as expected" in done.stdout


def test_links_inside_the_project_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
