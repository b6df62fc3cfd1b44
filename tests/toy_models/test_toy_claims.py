"""The toy checkers on models small enough for a test: what they conclude, and that they can conclude otherwise."""

import pytest

from sensverify.claims import Run, resolve
from sensverify.verdicts import Status
from toy_models import claims, trained
from toy_models.superposition import SuperpositionConfig

SMALL = SuperpositionConfig(features=256, width=64, density=0.01, steps=600, batch=256, learning_rate=1e-2)
BY_ID = {claim.id: claim for claim in claims}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose shared models are small; the checks themselves are the product's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained, "CONFIG", SMALL)
        small = Run(seed=5, directory=tmp_path_factory.mktemp("toys"))
        trained.found_directions(small)
    return small


@pytest.mark.parametrize("claim", [BY_ID["TM-1"], BY_ID["TM-2"]], ids=lambda claim: claim.id)
def test_every_false_twin_is_refuted_with_a_witness(run, claim):
    for twin in claim.false_twins:
        finding = resolve(twin.check)(run)
        assert finding.status is Status.REFUTED, twin.statement
        assert finding.witness


def test_the_checks_reach_the_same_figures_twice(run, tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "CONFIG", SMALL)
    again = Run(seed=5, directory=tmp_path)
    first, second = (resolve(BY_ID["TM-1"].check)(r).evidence for r in (run, again))
    assert first == second


def test_other_seeds_train_other_models(tmp_path):
    seeds = [trained.seeds(Run(seed=seed, directory=tmp_path)) for seed in (0, 1)]
    assert not set(seeds[0]) & set(seeds[1])
    assert all(len(group) >= 3 for group in seeds)
