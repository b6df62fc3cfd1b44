"""Every exact claim gets the verdict it expects, its false twins are refuted, and its proof can be shown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from proofs import claims
from sensverify.claims import Claim, Run, resolve
from sensverify.exhibits import Derivation, from_json
from sensverify.mathematics import mathml
from sensverify.runner import run_claim
from sensverify.verdicts import Finding, Status, to_plain

BY_ID = {claim.id: claim for claim in claims}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(seed=3, directory=tmp_path_factory.mktemp("proofs"))


def skip_where_a_tool_is_absent(finding: Finding) -> None:
    if finding.status is Status.SKIPPED:
        pytest.skip(finding.evidence["remedy"])


@pytest.mark.parametrize("claim", claims.claims, ids=lambda claim: claim.id)
def test_the_verdict_is_the_expected_one_and_can_be_shown(claim: Claim, run: Run) -> None:
    finding = resolve(claim.check)(run)
    skip_where_a_tool_is_absent(finding)
    assert finding.status is claim.expected, finding.evidence
    json.dumps(to_plain([finding.evidence, finding.witness]), allow_nan=False)
    for exhibit in finding.exhibits:
        data = json.loads(json.dumps(exhibit.to_json(), allow_nan=False))
        assert from_json(data).to_json() == data
        if isinstance(exhibit, Derivation):
            assert len(exhibit.lines) > 3
            for line in exhibit.lines:
                if line.latex:
                    mathml(line.latex)


@pytest.mark.parametrize(
    "twin", [twin for claim in claims for twin in claim.false_twins], ids=lambda twin: twin.check.partition(":")[2]
)
def test_each_false_twin_has_a_concrete_witness(twin: object, run: Run) -> None:
    finding = resolve(twin.check)(run)  # type: ignore[attr-defined]
    skip_where_a_tool_is_absent(finding)
    assert finding.status is Status.REFUTED
    assert any(character.isdigit() for character in json.dumps(finding.witness))


@pytest.mark.parametrize("claim", claims.claims, ids=lambda claim: claim.id)
def test_each_claim_reads_like_a_theorem(claim: Claim) -> None:
    assert claim.statement.endswith(".")
    assert claim.hypotheses
    assert claim.source
    assert claim.false_twins
    mathml(claim.formula)


def test_listing_the_claims_imports_nothing_heavy() -> None:
    heavy = "('torch', 'sympy', 'numpy', 'networkx', 'hypothesis')"
    code = f"import sys, proofs; assert len(proofs.claims.claims); assert not [m for m in {heavy} if m in sys.modules]"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_another_seed_changes_no_verdict(tmp_path: Path) -> None:
    verdict = run_claim(BY_ID["RN-3"], "proofs", Run(seed=12345, directory=tmp_path))
    assert verdict.status is Status.PROVED
    assert len(verdict.finding.evidence["false_twins_refuted"]) == len(BY_ID["RN-3"].false_twins)
