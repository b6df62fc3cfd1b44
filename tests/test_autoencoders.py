"""Autoencoders on planted sparse data, where the truth is known, and by parts against formulas written out."""

import importlib.util
import json

import numpy
import pytest
import torch

from sensverify.autoencoders import AutoencoderOptions, Penalty, TopK, _Training, train_autoencoder
from sensverify.errors import InputError
from sensverify.geometry import nearest
from toy_models.recovery import RECOVERED_COSINE, match

FEATURES, WIDTH, DENSITY = 32, 16, 0.05
KINDS = {"top-k": TopK(active=2), "penalty": Penalty(strength=0.15)}


def planted(seed=0, rows=10_000):
    """``(x, features)``: sums of few of 32 random unit directions in 16 dimensions, by U(0, 1), off the origin."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.nn.functional.normalize(torch.randn(FEATURES, WIDTH, generator=generator))
    active = torch.rand(rows, FEATURES, generator=generator) < DENSITY
    coefficients = active * torch.rand(rows, FEATURES, generator=generator)
    return coefficients @ features + 0.3 * torch.randn(WIDTH, generator=generator), features


def small(sparsity, **changes):
    return AutoencoderOptions(**{"latents": 12, "sparsity": sparsity, "steps": 30, "batch": 64, **changes})


@pytest.fixture(scope="module", params=list(KINDS))
def trained(request):
    x, features = planted()
    options = AutoencoderOptions(latents=FEATURES, sparsity=KINDS[request.param], steps=1000)
    return train_autoencoder(x, options), x, features


def test_planted_features_are_recovered(trained):
    model, _, features = trained
    recovered = nearest(features, model.directions)[0] >= RECOVERED_COSINE
    assert float(recovered.double().mean()) >= 0.9
    if importlib.util.find_spec("scipy"):
        assert match(model.directions, features).recovered_share >= 0.9


def test_the_loss_falls_and_every_step_is_recorded(trained):
    model, _, _ = trained
    assert len(model.history) == 1000
    early, late = numpy.mean(model.history[:20]), numpy.mean(model.history[-200:])
    assert late < 0.6 * early
    assert model.loss == pytest.approx(late, rel=0.1)


def test_reported_figures_are_those_of_the_returned_weights(trained):
    """Encoder, decoder and losses written out again in numpy."""
    model, x, _ = trained
    encoder, decoder, bias, shift = (
        value.double().numpy() for value in (model.encoder, model.decoder, model.encoder_bias, model.decoder_bias)
    )
    data = x.double().numpy()
    pre = (data / model.scale - shift) @ encoder.T + bias
    latents = numpy.maximum(pre, 0)
    penalty = 0.0
    if isinstance(model.options.sparsity, TopK):
        latents[latents < numpy.sort(latents)[:, [-model.options.sparsity.active]]] = 0
    else:
        penalty = model.options.sparsity.strength * latents.sum(1).mean()
    output = model.scale * (latents @ decoder + shift)
    total = ((data - data.mean(0)) ** 2).sum(1).mean()
    squared = ((data - output) ** 2).sum(1).mean()
    assert model.scale**2 == pytest.approx(total, rel=1e-4)
    assert model.variance_explained == pytest.approx(1 - squared / total, abs=1e-4)
    assert model.loss == pytest.approx(squared / total + penalty, rel=1e-3)
    assert model.mean_active == pytest.approx((latents > 0).sum(1).mean(), rel=1e-3)
    assert model.dead_share == (~(latents > 0).any(0)).mean()
    assert torch.as_tensor(output).allclose(model.decode(model.encode(x)).double(), atol=1e-4)


def test_decoder_rows_are_unit_vectors(trained):
    model, _, _ = trained
    assert model.directions.shape == (FEATURES, WIDTH)
    assert model.directions.norm(dim=1).tolist() == pytest.approx([1.0] * FEATURES, abs=1e-6)


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_decoder_moves_along_the_gradient_through_its_normalisation(kind):
    """What is left of the gradient is tangent, and is that of the loss as a function of rows divided by their norm."""
    x, _ = planted(rows=500)
    training = _Training(x, small(KINDS[kind], batch=500))
    for step in range(5):
        training.step(step)
    rows = training.decoder.detach().clone()
    free = rows.clone().requires_grad_()
    state = training.generator.get_state()
    picked = training.x[torch.randint(500, (500,), generator=training.generator)]
    training.generator.set_state(state)
    with torch.no_grad():
        latents, _ = training.forward(picked)
    error = picked - latents @ (free / free.norm(dim=1, keepdim=True)) - training.decoder_bias.detach()
    (expected,) = torch.autograd.grad(error.square().sum(1).mean(), free)

    training.step(5)
    kept = training.decoder.grad
    assert float((kept * rows).sum(1).abs().max()) < 1e-6 * float(kept.norm(dim=1).max())
    assert kept.allclose(expected, atol=1e-6)
    assert not training.decoder.detach().equal(rows)


@pytest.mark.parametrize("active", [1, 3, 7])
def test_top_k_keeps_the_largest_positive_latents(active):
    pre = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    kept = TopK(active=active).apply(pre)
    for before, after in zip(pre.tolist(), kept.tolist(), strict=True):
        largest = sorted(before, reverse=True)[:active]
        assert after == [value if value in largest and value > 0 else 0 for value in before]


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_seed_fixes_every_bit_and_another_gives_another_model(kind):
    x, _ = planted(rows=500)
    first, again, other = (train_autoencoder(x, small(KINDS[kind], seed=seed)) for seed in (1, 1, 2))
    assert first.directions.equal(again.directions)
    assert first.history == again.history
    assert not first.directions.equal(other.directions)


def test_the_unit_of_the_activations_does_not_matter():
    x, _ = planted(rows=500)
    first, doubled = (train_autoencoder(factor * x, small(KINDS["penalty"])) for factor in (1, 2))
    assert first.directions.equal(doubled.directions)
    assert doubled.scale == 2 * first.scale


def test_a_dead_latent_is_aimed_at_what_is_left_out():
    """Two features, and all latents on the first: the dead one must be sent to the second."""
    features = torch.eye(WIDTH)[:2]
    active = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0)) < 0.1
    training = _Training(active.float() @ features, small(TopK(active=1), latents=3))
    training.step(0)
    with torch.no_grad():
        training.decoder_bias.zero_()
        training.decoder.copy_(features[0].expand(3, -1))
        training.encoder.copy_(features[0].expand(3, -1))
        training.encoder_bias.zero_()
    training.resample(torch.tensor([False, False, True]))
    assert float(training.decoder[2].detach() @ features[1]) > 0.99
    assert training.decoder[:2].detach().equal(features[0].expand(2, -1))
    for parameter in (training.encoder, training.encoder_bias, training.decoder):
        assert float(training.optimiser.state[parameter]["exp_avg"][2].abs().max()) == 0


@pytest.mark.parametrize(("resample_until", "dead"), [(0.0, 6), (0.8, 0)])
def test_latents_that_never_fire_stay_dead_unless_they_are_resampled(resample_until, dead):
    x, _ = planted(rows=2000)
    training = _Training(x, small(Penalty(strength=0.15), steps=100, resample_every=20, resample_until=resample_until))
    with torch.no_grad():
        training.encoder_bias[:6] = -100.0
    for step in range(100):
        training.step(step)
    assert round(12 * training.finish(1.0, ()).dead_share) == dead


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(5),
        torch.randn(1, 4),
        torch.ones(6, 4),
        torch.ones(6, 4, dtype=torch.int64),
        torch.tensor([[1.0, float("nan")], [0.0, 1.0]]),
        torch.tensor([[1.0, float("inf")], [0.0, 1.0]]),
    ],
    ids=["vector", "one row", "constant", "integers", "nan", "infinity"],
)
def test_activations_that_cannot_be_learnt_from_are_refused(x):
    with pytest.raises(InputError, match="finite activations"):
        train_autoencoder(x, small(TopK(active=1)))


@pytest.mark.parametrize(
    "changes",
    [
        {"latents": 0},
        {"steps": 0},
        {"batch": -1},
        {"resample_every": 0},
        {"resample_until": 1.5},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"sparsity": TopK(active=0)},
        {"sparsity": TopK(active=13)},
        {"sparsity": Penalty(strength=-1.0)},
        {"sparsity": Penalty(strength=float("nan"))},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(changes):
    with pytest.raises(InputError, match="change the autoencoder's options"):
        small(**{"sparsity": TopK(active=1), **changes})


def test_options_are_plain_json():
    for name, sparsity in KINDS.items():
        told = json.loads(json.dumps(small(sparsity).to_json()))
        assert told["latents"] == 12
        assert told["sparsity"]["kind"] == {"top-k": "TopK", "penalty": "Penalty"}[name]
