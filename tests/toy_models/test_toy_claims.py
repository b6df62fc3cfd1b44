"""The toy checkers on models small enough for a test: what they conclude, and that they can conclude otherwise."""

import pytest
import torch

from sensverify.claims import Run, resolve
from sensverify.statistics import Interval
from sensverify.verdicts import Status
from toy_models import claims, discovery, separation, trained
from toy_models.recovery import Recovery
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


@pytest.mark.parametrize(
    ("distinct", "status"), [(64, Status.SUPPORTED), (50, Status.INCONCLUSIVE), (40, Status.REFUTED)]
)
def test_duplicates_alone_can_refute_a_recovery_and_a_few_decide_nothing(run, distinct, status):
    every = Recovery(cosines=torch.ones(64), distinct=distinct, duplicates=64 - distinct, features=256)
    finding = discovery._judge(run, [every] * 3, ())
    assert finding.status is status
    assert bool(finding.witness) == (status is Status.REFUTED)


def test_one_model_without_separation_refutes_it_on_all(run, monkeypatch):
    class Ratio:
        def __init__(self, seed, high):
            self.seed, self.high = seed, high

        def ratio(self, numerator, denominator):
            return Interval(self.high - 0.1, self.high - 0.2, self.high)

    for highs, status in [
        ((3, 3, 3), Status.SUPPORTED),
        ((3, 2.6, 3), Status.INCONCLUSIVE),
        ((3, 2.4, 9), Status.REFUTED),
    ]:
        monkeypatch.setattr(separation, "score_groups", lambda run, highs=highs: [*map(Ratio, range(3), highs)])
        finding = separation._judge(run, "feature", "random", {}, ())
        assert finding.status is status
        assert finding.witness is None or finding.witness["seed"] == 1
