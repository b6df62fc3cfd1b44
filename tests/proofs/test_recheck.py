"""Published witnesses stand by themselves: checked without this package, and not when tampered with."""

from __future__ import annotations

import ast
import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx
import pytest

from proofs import recheck
from proofs.colourings import paley
from proofs.printed_bound import refute_bound
from proofs.residual_block import check_block
from sensverify.claims import Run
from sensverify.verdicts import Status


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("witnesses")
    run = Run(seed=0, directory=directory)
    check_block(run)
    refute_bound(run, graph=paley(101), k=6)
    return directory / "witnesses"


@pytest.fixture(scope="module")
def colouring(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "RA-3.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def block(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "LN-6.json").read_text(encoding="utf-8"))


def test_the_recheck_runs_alone_in_a_bare_interpreter(folder: Path, tmp_path: Path) -> None:
    shutil.copy(recheck.__file__, tmp_path / "recheck.py")
    command = [sys.executable, "-P", "recheck.py", str(folder / "LN-6.json"), str(folder / "RA-3.json")]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("the witness stands") == 2


def test_the_recheck_imports_nothing_of_this_project() -> None:
    tree = ast.parse(Path(recheck.__file__).read_text(encoding="utf-8"))
    modules = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert {name.partition(".")[0] for name in modules} <= set(sys.stdlib_module_names) | {"networkx"}


def test_nothing_is_left_half_written(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["LN-6.json", "RA-3.json"]


def test_a_stranger_can_check_the_colouring(colouring: dict[str, Any]) -> None:
    """Twenty lines that know only the witness's own reading of itself."""
    table, subset = colouring["F"], colouring["subset_256"]
    assert len(table) == colouring["points"] == 303
    assert len(set(subset)) == 256 == 2 ** (colouring["k"] + 2)
    assert all(table[i][j] == table[j][i] for i in range(303) for j in range(303))
    assert {digit for row in table for digit in row} == {"0", "1", "2"}
    for missing in "012":
        graph = networkx.Graph()
        graph.add_nodes_from(i for i in range(303) if table[i][i] != missing)
        graph.add_edges_from((i, j) for i in graph for j in graph if i < j and table[i][j] != missing)
        largest = max(len(clique) for clique in networkx.find_cliques(graph))
        assert largest == colouring["largest_set_missing"][missing] == 5 < colouring["k"]


def with_a_larger_set(witness: dict[str, Any]) -> None:
    """Make six points of the first class miss the value 2."""
    points = range(6)
    witness["F"] = [
        "".join(("0" if i == j else "1") if i in points and j in points else digit for j, digit in enumerate(row))
        for i, row in enumerate(witness["F"])
    ]


def not_symmetric(witness: dict[str, Any]) -> None:
    row = witness["F"][0]
    witness["F"][0] = row[0] + ("1" if row[1] != "1" else "2") + row[2:]


def too_few_points(witness: dict[str, Any]) -> None:
    witness["subset_256"].pop()


def repeated_point(witness: dict[str, Any]) -> None:
    witness["subset_256"][0] = witness["subset_256"][1]


def other_value(witness: dict[str, Any]) -> None:
    witness["F"][0] = "3" + witness["F"][0][1:]


def smaller_k(witness: dict[str, Any]) -> None:
    witness["k"] = 5


def overstated(witness: dict[str, Any]) -> None:
    witness["largest_set_missing"]["0"] = 4


@pytest.mark.parametrize(
    "tamper",
    [with_a_larger_set, not_symmetric, too_few_points, repeated_point, other_value, smaller_k, overstated],
    ids=lambda tamper: tamper.__name__,
)
def test_a_tampered_colouring_is_rejected(tamper: Callable[[dict[str, Any]], None], colouring: dict[str, Any]) -> None:
    witness = copy.deepcopy(colouring)
    tamper(witness)
    assert recheck.recheck(witness)


@pytest.mark.parametrize(
    "change",
    [
        {"F(kx)": [4, 0]},
        {"branches": [[[0, 0], [0, 0]]]},
        {"branches": [[[1, 0], [0, 1]]]},
        {"k": 1},
        {"k": -2},
        {"x": [1, 1]},
        {"x": [1, 0, 5]},
        {
            "branches": [[[1, 0], [0, 1]]],
            "F(x)": [2, -2],
            "F(kx)": [3, -3],
            "kF(x)": [4, -4],
            "law": "F(kx) is parallel to F(x)",
        },
    ],
    ids=str,
)
def test_a_tampered_block_is_rejected(change: dict[str, Any], block: dict[str, Any]) -> None:
    assert recheck.recheck(block) == []
    assert recheck.recheck({**block, **change})


def test_a_colouring_that_does_not_refute_is_not_passed_off_as_one(tmp_path: Path) -> None:
    run = Run(seed=0, directory=tmp_path)
    assert refute_bound(run, graph=paley(101), k=5).status is Status.INCONCLUSIVE  # five points miss a value
    assert refute_bound(run, graph=paley(37), k=6).status is Status.INCONCLUSIVE  # too few points
    assert not (tmp_path / "witnesses").exists()
