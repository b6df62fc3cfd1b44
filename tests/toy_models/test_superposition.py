"""Toy models: inputs as they are described, gradients as autograd has them, features more sensitive than chance."""

import dataclasses
import itertools

import numpy
import pytest
import torch

from sensverify.discovery import SearchOptions, search
from sensverify.errors import InputError
from sensverify.geometry import Centring, nearest, random_directions
from sensverify.sensitivity import estimate_on
from toy_models import training
from toy_models.features import draw_active, draw_nonempty
from toy_models.recovery import recovery
from toy_models.superposition import (
    SuperpositionConfig,
    SuperpositionReadout,
    chunks,
    draw_features,
    train,
    train_grid,
)

SMALL = SuperpositionConfig(features=96, width=32, density=0.02, steps=1500, batch=256, learning_rate=1e-2)
FEW = SuperpositionConfig(features=12, width=5, density=0.1, steps=30, batch=16, group=3)


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


@pytest.mark.parametrize(("correlation", "signed"), [*itertools.product(["none", "together", "apart"], [False, True])])
def test_every_family_of_inputs_has_its_marginal_density_and_its_correlations(correlation, signed):
    config = dataclasses.replace(FEW, correlation=correlation, signed=signed)
    x = draw_features(config, 40_000, torch.Generator().manual_seed(0)).numpy()
    active = x != 0
    assert active.mean(0) == pytest.approx(numpy.full(12, 0.1), abs=6 * (0.09 / 40_000) ** 0.5)
    inside = {"none": 0.0, "together": 1.0, "apart": -0.1 / 0.9}[correlation]
    group = numpy.arange(12) // 3
    expected = numpy.where(group[:, None] == group, inside, 0.0)
    numpy.fill_diagonal(expected, 1)
    assert numpy.abs(numpy.corrcoef(active.T) - expected).max() < 0.03
    values = x[active]
    assert values.mean() == pytest.approx(0 if signed else 0.5, abs=0.02)
    assert values.var() == pytest.approx(4 / 12 if signed else 1 / 12, rel=0.03)
    assert (values.min() < 0) == signed


def test_values_of_features_that_are_active_together_are_independent():
    config = dataclasses.replace(FEW, correlation="together")
    x = draw_features(config, 40_000, torch.Generator().manual_seed(0))[:, :3]
    values = x[x[:, 0] > 0].T.numpy()
    assert numpy.abs(numpy.corrcoef(values) - numpy.eye(3)).max() < 0.06


def test_features_that_exclude_each_other_are_never_active_together():
    config = dataclasses.replace(FEW, correlation="apart", density=1 / 3)
    x = draw_features(config, 1000, torch.Generator().manual_seed(0))
    assert bool(((x.view(1000, 4, 3) != 0).sum(2) == 1).all())  # density · group = 1: always exactly one


@pytest.mark.parametrize("density", [1e-4, 0.3, 1.0])
def test_active_entries_are_drawn_once_each_and_in_order(density):
    config = dataclasses.replace(FEW, density=density)
    positions, values = draw_active(config, 500, torch.Generator().manual_seed(3))
    assert bool((positions.diff() > 0).all())
    assert len(values) == len(positions)
    assert not len(positions) or (int(positions[0]) >= 0 and int(positions[-1]) < 6000)
    assert len(positions) == pytest.approx(6000 * density, abs=6 * (6000 * density * (1 - density)) ** 0.5 + 1)


@pytest.mark.parametrize(
    "field",
    [
        {"features": 0},
        {"width": 0},
        {"batch": 2.5},
        {"steps": -1},
        {"density": 0.0},
        {"density": 1e-10},
        {"density": 1.5},
        {"density": float("nan")},
        {"learning_rate": 0.0},
        {"importance_decay": 0.0},
        {"importance_decay": 1.1},
        {"correlation": "sometimes"},
        {"norm": "batch"},
        {"signed": 1},
        {"group": 5},
        {"group": 4, "correlation": "apart", "density": 0.3},
    ],
    ids=str,
)
def test_a_configuration_that_makes_no_model_is_refused(field):
    with pytest.raises(InputError, match=r"expected .* got .* remedy"):
        dataclasses.replace(FEW, **field)


FAMILIES = [
    pytest.param(fields, id=", ".join(map(str, fields.values())) or "plain")
    for fields in (
        {},
        {"density": 0.02},
        {"importance_decay": 0.8},
        {"signed": True},
        {"signed": True, "density": 0.02, "importance_decay": 0.8},
        {"norm": "layer"},
        {"norm": "rms", "density": 0.02},
        {"norm": "layer", "signed": True, "correlation": "together"},
    )
]


@pytest.mark.parametrize("fields", FAMILIES)
def test_the_gradient_in_closed_form_is_that_of_the_loss_written_out(fields):
    config = dataclasses.replace(FEW, **fields)
    pairs = [(config, 0), (config, 7)]
    mine, same_draws = training._Training(pairs), training._Training(pairs)
    mine.bias += 0.1 * torch.randn(2, 12, generator=torch.Generator().manual_seed(1))
    table, bias = (one.detach().double().clone() for one in (mine.table, mine.bias))
    inputs = same_draws.next_inputs()
    mine.step(0)
    for m in range(2):
        x = same_draws.dense(inputs)[m].double()
        w, b = table[m].clone().requires_grad_(), bias[m].clone().requires_grad_()
        hidden, wanted = x @ w, x
        if config.norm != "none":
            kept = x.norm(dim=1) > 0
            x, hidden = x[kept], hidden[kept]
            if config.norm == "layer":
                hidden = hidden - hidden.mean(1, keepdim=True)
            hidden, wanted = hidden / hidden.norm(dim=1, keepdim=True), x / x.norm(dim=1, keepdim=True)
        errors = torch.relu(hidden @ w.T + b) - wanted.clamp_min(0)
        loss = (config.importance * errors.square()).sum()
        if config.signed:
            errors = torch.relu(-hidden @ w.T + b) - (-wanted).clamp_min(0)
            loss = loss + (config.importance * errors.square()).sum()
        if config.norm != "none":  # rows without an active feature read ReLU(b) and shall read 0
            loss = loss + (config.units // 12) * float(config.batch - len(x)) * torch.relu(b).square().sum()
        (loss / config.batch).backward()
        assert mine.optimisers[0].gradient[m].double().allclose(w.grad, atol=1e-5)
        assert mine.optimisers[1].gradient[m].double().allclose(b.grad, atol=1e-5)


def test_steps_are_those_of_the_librarys_adam():
    generator = torch.Generator().manual_seed(0)
    mine = torch.randn(3, 4, generator=generator)
    theirs = mine.clone().requires_grad_()
    adam, reference = training._Adam(mine), torch.optim.Adam([theirs], lr=0.1)
    for rate in (0.1, 0.1, 0.05, 0.01):
        gradient = torch.randn(3, 4, generator=generator)
        adam.step(gradient, rate)
        theirs.grad, reference.param_groups[0]["lr"] = gradient, rate
        reference.step()
        assert mine.allclose(theirs, atol=1e-6)


@pytest.mark.parametrize("fields", FAMILIES)
def test_training_at_once_is_training_one_by_one(fields):
    config = dataclasses.replace(FEW, **fields, steps=12)
    other = dataclasses.replace(config, density=config.density / 2)
    together = train_grid([(config, 4), (other, 4), (config, 5)])
    alone = [train(config, 4), train(other, 4), train(config, 5)]
    for a, b in zip(together, alone, strict=True):
        assert a.config is b.config
        assert a.weights.allclose(b.weights, atol=1e-4)
        assert a.bias.allclose(b.bias, atol=1e-4)
        assert a.loss == pytest.approx(b.loss, rel=1e-3)
    assert not together[0].weights.allclose(together[2].weights, atol=0.1)


def test_chunks_hold_every_model_once_and_only_models_of_one_shape():
    wide = dataclasses.replace(FEW, width=6)
    large = dataclasses.replace(FEW, batch=2**17)
    pairs = [(config, seed) for config in (FEW, large, wide, FEW) for seed in (0, 1)]
    found = chunks(pairs)
    assert sorted(itertools.chain(*found)) == list(range(8))
    assert sorted(map(sorted, found)) == [[0, 1, 6, 7], [2], [3], [4, 5]]


@pytest.mark.parametrize(
    "fields",
    [{}, {"signed": True}, {"norm": "layer"}, {"norm": "rms"}, {"group": 4, "correlation": "together"}],
    ids=str,
)
def test_every_family_learns(fields):
    config = SuperpositionConfig(
        features=32, width=16, density=0.04, steps=500, batch=128, learning_rate=1e-2, **fields
    )
    model = train(config, 0)
    assert model.loss < 0.4 * model.loss_of_zero
    assert abs(model.loss_change) < 0.05
    assert int(model.represented.sum()) > 16
    directions = model.feature_directions
    assert directions.norm(dim=1).allclose(torch.ones(len(directions)), atol=1e-5)
    assert SuperpositionReadout(model).centring is (Centring.MEAN if config.norm == "layer" else Centring.NONE)
    if config.norm == "layer":
        assert float(directions.sum(1).abs().max()) < 1e-4


def test_important_features_are_kept_and_unimportant_ones_given_up():
    config = SuperpositionConfig(
        features=32, width=8, density=0.3, steps=500, batch=128, learning_rate=1e-2, importance_decay=0.8
    )
    norms = train(config, 0).weights.norm(dim=0)
    assert float(norms[:4].min()) > 0.8
    assert float(norms[16:].max()) < 0.2


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_a_norm_sees_neither_length_nor_what_it_takes_off(norm):
    """LN-1."""
    model = train(dataclasses.replace(FEW, norm=norm), 0)
    hidden = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    assert model.read(3.7 * hidden).allclose(model.read(hidden), atol=1e-5)
    assert model.read(hidden + 2).allclose(model.read(hidden), atol=1e-5) == (norm == "layer")


def test_a_signed_feature_is_read_by_two_units():
    model = train(dataclasses.replace(FEW, signed=True), 0)
    hidden = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    positive, negative = model.read(hidden).split(12, dim=1)
    assert positive.allclose(torch.relu(hidden @ model.weights + model.bias), atol=1e-6)
    assert negative.allclose(torch.relu(-hidden @ model.weights + model.bias), atol=1e-6)
    assert model.read(-hidden).allclose(torch.cat([negative, positive], 1), atol=1e-6)


def test_the_loss_told_is_the_loss_on_inputs_drawn_anew():
    model = train(dataclasses.replace(FEW, steps=200), 0)
    x = draw_features(model.config, 50_000, torch.Generator().manual_seed(9))
    assert float((model.read(model.write(x)) - x).square().sum(1).mean()) == pytest.approx(model.loss, rel=0.06)
    assert float(x.square().sum(1).mean()) == pytest.approx(model.loss_of_zero, rel=0.06)


def test_a_batch_knows_the_inputs_behind_its_activations():
    readout = SuperpositionReadout(train(FEW, 0))
    batch = readout.sample(200, torch.Generator().manual_seed(0))
    assert readout.model.write(batch.state).allclose(batch.x)
    assert readout.read(batch, batch.x[None]).shape == (1, 200, 12)


@pytest.mark.parametrize("density", [1e-4, 1e-9])
def test_contexts_of_very_rare_features_are_found(density):
    model = dataclasses.replace(train(FEW, 0), config=dataclasses.replace(FEW, density=density))
    batch = SuperpositionReadout(model).sample(2000, torch.Generator().manual_seed(0))
    assert len(batch) == 2000
    active = batch.state != 0
    assert float(active.sum(1).double().mean()) == pytest.approx(1, abs=0.01)
    assert active.double().mean(0).numpy() == pytest.approx(numpy.full(12, 1 / 12), abs=0.03)


@pytest.mark.parametrize(
    ("correlation", "density"), [("none", 0.1), ("together", 0.1), ("apart", 0.1), ("apart", 1 / 3)]
)
def test_inputs_with_an_active_feature_are_drawn_as_those_among_all_inputs(correlation, density):
    config = dataclasses.replace(FEW, correlation=correlation, density=density)
    every = draw_features(config, 40_000, torch.Generator().manual_seed(0))
    every = every[(every != 0).any(1)]
    some = draw_nonempty(config, 20_000, torch.Generator().manual_seed(1))
    assert len(some) == pytest.approx(20_000, rel=0.03)
    assert bool((some != 0).any(1).all())
    assert (some != 0).double().mean(0).allclose((every != 0).double().mean(0), atol=0.015)
    assert float((some != 0).sum(1).double().var()) == pytest.approx(float((every != 0).sum(1).double().var()), rel=0.1)


def test_training_survives_batches_without_any_active_feature():
    config = dataclasses.replace(FEW, density=1e-6)
    assert bool(torch.isfinite(train(config, 0).weights).all())
    assert bool(torch.isfinite(train(dataclasses.replace(config, norm="layer"), 0).weights).all())


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
        state = search(readout, SearchOptions(directions=24, steps=120, contexts=64, seed=seed))
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
