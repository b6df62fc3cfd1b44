"""Every refusal says what was expected, what came, and the remedy: checked on the source, wherever it is raised."""

import ast
from pathlib import Path

import pytest

from sensverify.errors import InputError, MissingExtraError

ROOT = Path(__file__).parent.parent
REFUSALS = {"InputError", "UsageError", "SuiteError"}


def refusals():
    for folder in ("sensverify", "proofs", "toy_models", "pythia"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", None) in REFUSALS:
                    yield pytest.param(node, id=f"{path.relative_to(ROOT)}:{node.lineno}")


@pytest.mark.parametrize("call", list(refusals()))
def test_every_refusal_names_expected_got_and_remedy(call):
    assert {keyword.arg for keyword in call.keywords} == {"expected", "got", "remedy"}
    assert not call.args


def test_a_message_is_one_line_whatever_came():
    message = str(InputError(expected="a\nname", got="two\n\nlines\t", remedy="write\none"))
    assert message == "expected a name, got two lines; remedy: write one"


def test_a_missing_extra_tells_how_to_install_it():
    assert "pip install 'sensverify[lm]'" in str(MissingExtraError(package="transformers", extra="lm"))
