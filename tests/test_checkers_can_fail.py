"""Every checker must be able to fail: each claim has a false twin, and each twin is refuted by the same code."""

import inspect

import pytest

from sensverify.claims import resolve
from sensverify.suites import load_suites

CLAIMS = [claim for suite in load_suites().values() for claim in suite]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_every_claim_is_complete(claim):
    assert claim.false_twins, "a checker without a false twin may be unable to fail"
    assert claim.statement.endswith(".")
    assert claim.source
    references = [claim.check, *(twin.check for twin in claim.false_twins), claim.preflight]
    for reference in filter(None, references):
        assert callable(resolve(reference))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_twin_runs_code_of_the_claims_own_module(claim):
    module = inspect.getmodule(resolve(claim.check))
    for twin in claim.false_twins:
        assert inspect.getmodule(resolve(twin.check)) is module
        assert resolve(twin.check) is not resolve(claim.check)
