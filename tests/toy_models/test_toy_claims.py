"""The toy checkers on models small enough for a test: what they conclude, and that they can conclude otherwise."""

import json

import pytest
import torch

from sensverify.claims import Run, resolve
from sensverify.predictions import load_predictions
from sensverify.runner import run_claim
from sensverify.verdicts import Status
from toy_models import claims, predictions, trained
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


@pytest.mark.parametrize("claim", list(claims), ids=lambda claim: claim.id)
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


def test_predictions_are_derived_only_from_supported_claims(run):
    verdicts = [run_claim(BY_ID[name], "toy_models", run) for name in ("TM-1", "TM-2")]
    supported = all(verdict.status is Status.SUPPORTED for verdict in verdicts)
    path = run.directory / "predictions.json"
    predictions.derive(run, verdicts[:1])
    assert not path.exists()
    predictions.derive(run, verdicts)
    assert path.exists() == supported


def test_every_prediction_says_where_it_comes_from(run):
    made = [predictions.predict_ratio(run), predictions.predict_share(run), *predictions.predict_scaling(run)]
    assert {prediction.id for prediction in made} == {
        "PY-4", "PY-7", "PY-1.norm_output", "PY-1.residual_stream",
    }  # fmt: skip
    for prediction in made:
        assert str(trained.seeds(run)[0]) in prediction.derived_from


def test_the_shipped_predictions_are_intact():
    from pythia.subject import SHIPPED_PREDICTIONS

    shipped = load_predictions(SHIPPED_PREDICTIONS)
    assert set(shipped) == {"PY-4", "PY-7", "PY-1.norm_output", "PY-1.residual_stream"}
    assert json.loads(SHIPPED_PREDICTIONS.read_text())["date"]
    assert torch.isfinite(torch.tensor(shipped["PY-4"].low))
