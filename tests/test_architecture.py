"""Rules that the layout lives by, checked on the running program."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "--json"], ["verify", "--help"]])
def test_help_and_list_import_nothing_heavy(arguments):
    program = (
        "import sys; from sensverify.cli import run; code = run(sys.argv[1:]); "
        "heavy = {'torch', 'sympy', 'numpy', 'transformers', 'matplotlib'} & set(sys.modules); "
        "sys.exit(code or (f'imported {heavy}' if heavy else 0))"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_import_contracts_hold():
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_modules_are_one_idea_long():
    for folder in ("sensverify", "proofs", "toy_models", "pythia"):
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 420, path


def test_only_the_command_line_prints():
    for path in (ROOT / "sensverify").rglob("*.py"):
        if path.name != "cli.py":
            text = path.read_text(encoding="utf-8")
            assert "print(" not in text.replace("pprint(", ""), path
            assert "typer.echo" not in text, path
