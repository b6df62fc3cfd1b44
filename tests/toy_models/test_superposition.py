import numpy
import pytest
import torch

from sensverify.discovery import SearchOptions, search
from sensverify.geometry import nearest, random_directions
from sensverify.sensitivity import estimate_on
from toy_models.recovery import recovery
from toy_models.superposition import SuperpositionConfig, SuperpositionReadout, draw_features, train

SMALL = SuperpositionConfig(features=96, width=32, density=0.02, steps=1500, batch=256, learning_rate=1e-2)


@pytest.fixture(scope="module")
def model():
    return train(SMALL, seed=0)


@pytest.fixture(scope="module")
def readout(model):
    return SuperpositionReadout(model)


def test_features_have_the_stated_density_and_range():
    x = draw_features(SMALL, 20_000, torch.Generator().manual_seed(0))
    assert float((x > 0).double().mean()) == pytest.approx(SMALL.density, rel=0.02)
    assert float(x[x > 0].mean()) == pytest.approx(0.5, rel=0.02)
    assert float(x.max()) <= 1


def test_superposition_beats_the_best_linear_code_of_equal_width(model):
    """PCA is the best linear autoencoder; a model that uses superposition must do clearly better."""
    x = draw_features(SMALL, 20_000, torch.Generator().manual_seed(1)).double().numpy()
    values = numpy.linalg.eigvalsh(numpy.cov(x.T))
    linear_loss = values[: SMALL.features - SMALL.width].sum()
    assert model.loss < 0.7 * linear_loss
    assert int(model.represented.sum()) > SMALL.width


def test_training_is_fixed_by_its_seed(model):
    short = SuperpositionConfig(features=8, width=3, steps=20, batch=16)
    first, again, other = (train(short, seed) for seed in (1, 1, 2))
    assert first.weights.equal(again.weights)
    assert not first.weights.equal(other.weights)


def test_read_is_the_formula_written_out(model, readout):
    batch = readout.sample(3, torch.Generator().manual_seed(0))
    x = torch.randn(2, 3, SMALL.width)
    y = readout.read(batch, x)
    for s in range(2):
        for b in range(3):
            for i in range(0, SMALL.features, 17):
                value = max(0.0, float(model.weights[:, i] @ x[s, b] + model.bias[i]))
                assert float(y[s, b, i]) == pytest.approx(value, abs=1e-5)
    assert readout.read(batch, batch.x[None])[0].equal(readout.clean(batch))


def test_no_zero_activation_is_ever_drawn(readout):
    batch = readout.sample(2000, torch.Generator().manual_seed(0))
    assert len(batch) == 2000
    assert float(batch.x.norm(dim=1).min()) > 0


def test_features_are_more_sensitive_than_random_directions(model, readout):
    generator = torch.Generator().manual_seed(0)
    batch = readout.sample(512, generator)
    random = random_directions(64, SMALL.width, readout.centring, generator)
    scores = [
        estimate_on(readout, batch, group, generator=torch.Generator().manual_seed(1)).mean.mean()
        for group in (model.feature_directions, random)
    ]
    assert scores[0] > 1.2 * scores[1]


def test_discovery_finds_features_more_often_than_not(model, readout):
    """Discovery power is itself a test: over seeds, most directions found are true features."""
    hits = []
    for seed in range(3):
        state = search(readout, SearchOptions(directions=24, steps=200, contexts=128, seed=seed))
        cosines, _ = nearest(state.directions, model.feature_directions)
        hits.append(float((cosines > 0.9).double().mean()))
    assert sum(hits) / len(hits) > 0.6


def test_recovery_counts_planted_directions():
    features = torch.eye(6)
    planted = torch.stack([features[0], features[0], features[3], -features[4], torch.ones(6) / 6**0.5])
    result = recovery(planted, features)
    assert result.cosines.tolist() == pytest.approx([1, 1, 1, 0, 6**-0.5])
    assert result.distinct == 2
    assert result.duplicates == 1
    assert result.coverage == pytest.approx(2 / 6)
    assert result.distinct_share == pytest.approx(2 / 5)
