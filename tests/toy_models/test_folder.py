"""Toy models as folders: what is saved is loaded, and what is no toy model is refused with one line."""

import dataclasses
import json

import pytest
import safetensors.torch
import torch

from sensverify.errors import InputError
from sensverify.geometry import Centring
from sensverify.sensitivity import estimate_on
from toy_models.folder import is_toy_folder, load_toy, plant, save_toy
from toy_models.superposition import SuperpositionConfig, SuperpositionReadout, train

FEATURES = 3 * torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
GOOD = {"schema": 1, "kind": "superposition", "density": 0.25}


def write(folder, description=GOOD, **tensors):
    """As a user would, with nothing of this package."""
    folder.mkdir(exist_ok=True)
    text = description if isinstance(description, str) else json.dumps(description)
    (folder / "toy.json").write_text(text)
    if tensors:
        safetensors.torch.save_file(tensors, folder / "toy.safetensors")
    return folder


def test_features_alone_make_a_tied_model_without_bias(tmp_path):
    model = load_toy(write(tmp_path, features=FEATURES))
    assert is_toy_folder(tmp_path)
    assert (model.config.features, model.config.width, model.config.density) == (5, 4, 0.25)
    assert model.feature_directions.allclose(FEATURES / FEATURES.norm(dim=1, keepdim=True))
    x = torch.rand(7, 5)
    for b in range(7):
        hidden = sum(float(x[b, i]) * FEATURES[i] for i in range(5))
        assert model.write(x)[b].allclose(hidden, atol=1e-5)
        assert model.read(hidden).allclose(torch.stack([(f @ hidden).clamp_min(0) for f in FEATURES]), atol=1e-4)


def test_reading_may_differ_from_writing(tmp_path):
    readout = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    bias = torch.linspace(-1, 1, 5)
    model = load_toy(write(tmp_path, features=FEATURES, readout=readout, bias=bias))
    hidden = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    assert model.read(hidden).allclose(torch.relu(hidden @ readout.T + bias), atol=1e-5)
    assert model.write(torch.eye(5)).equal(FEATURES)


def test_a_loaded_model_is_a_subject_for_the_engine(tmp_path):
    readout = SuperpositionReadout(load_toy(write(tmp_path, features=1e-3 * FEATURES.double())))
    generator = torch.Generator().manual_seed(0)
    batch = readout.sample(50, generator)
    directions = readout.model.feature_directions
    assert directions.shape == (5, 4)
    assert bool(torch.isfinite(estimate_on(readout, batch, directions, generator=generator).mean).all())
    json.dumps(readout.describe(), allow_nan=False)


@pytest.mark.parametrize(
    "fields", [{}, {"signed": True}, {"norm": "layer"}, {"correlation": "apart", "group": 2, "importance_decay": 0.9}]
)
def test_a_trained_model_is_loaded_as_it_was_saved(tmp_path, fields):
    config = SuperpositionConfig(features=6, width=4, density=0.2, steps=30, batch=16, **fields)
    model = train(config, 3)
    save_toy(tmp_path / "new" / "toy", model)
    again = load_toy(tmp_path / "new" / "toy")
    for field in dataclasses.fields(model):
        a, b = getattr(model, field.name), getattr(again, field.name)
        assert a.equal(b) if isinstance(a, torch.Tensor) else a == b, field.name
    assert again.represented.equal(model.represented)


def test_a_planted_model_is_loaded_as_it_was_saved(tmp_path):
    model = dataclasses.replace(plant(6, 4, 1, 0.2, threshold=0.3), reading=torch.randn(4, 6))
    save_toy(tmp_path, model)
    again = load_toy(tmp_path)
    assert again.weights.equal(model.weights)
    assert again.reading.equal(model.reading)
    assert again.bias.tolist() == pytest.approx([-0.3] * 6)
    assert again.planted


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_planted_features_are_random_unit_vectors_fixed_by_their_seed(norm):
    model = plant(400, 16, 1, 0.05, norm=norm)
    directions = model.feature_directions
    assert directions.shape == (400, 16)
    assert directions.norm(dim=1).allclose(torch.ones(400), atol=1e-5)
    space = 15 if norm == "layer" else 16
    cosines = (directions @ directions.T)[~torch.eye(400, dtype=torch.bool)]
    assert float(cosines.square().mean()) == pytest.approx(1 / space, rel=0.1)
    assert model.centring.project(directions).allclose(directions, atol=1e-5)
    assert plant(400, 16, 1, 0.05, norm=norm).weights.equal(model.weights)
    assert not plant(400, 16, 2, 0.05, norm=norm).weights.equal(model.weights)


def test_short_features_count_when_planted_and_not_when_trained(tmp_path):
    assert len(load_toy(write(tmp_path, features=1e-4 * FEATURES)).feature_directions) == 5
    trained = load_toy(write(tmp_path, {**GOOD, "planted": False}, features=1e-4 * FEATURES))
    assert len(trained.feature_directions) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_point_is_read_as_float32(tmp_path, dtype):
    model = load_toy(write(tmp_path, features=FEATURES.to(dtype)))
    assert model.weights.dtype is torch.float32
    assert model.weights.T.allclose(FEATURES, rtol=0.01)


def changed(**tensors):
    return {"features": FEATURES, **tensors}


def spoilt(row, value):
    features = FEATURES.clone()
    features[row] = value
    return {"features": features}


@pytest.mark.parametrize(
    ("description", "tensors", "message"),
    [
        pytest.param("{", changed(), "expected JSON", id="no JSON"),
        pytest.param("\x00", changed(), "expected JSON", id="bytes"),
        pytest.param("[" * 100_000, changed(), "expected JSON", id="too deep"),
        pytest.param("[]", changed(), "JSON object", id="a list"),
        pytest.param({**GOOD, "schema": 2}, changed(), '"schema": 1', id="another schema"),
        pytest.param({**GOOD, "schema": True}, changed(), '"schema": 1', id="a schema that is true"),
        pytest.param({"kind": "superposition", "density": 0.1}, changed(), '"schema": 1', id="no schema"),
        pytest.param({**GOOD, "kind": "transformer"}, changed(), "transformer", id="unknown kind"),
        pytest.param({**GOOD, "desnity": 1}, changed(), "desnity", id="unknown field"),
        pytest.param({**GOOD, "features": 5}, changed(), r"\['features'\]", id="size is the tensors' business"),
        pytest.param({"schema": 1, "kind": "superposition"}, changed(), "density", id="no density"),
        *(
            pytest.param({**GOOD, "density": density}, changed(), "density", id=f"density {density}")
            for density in (0, -0.1, 1.1, float("nan"), float("inf"), "0.1", None, True, [0.1])
        ),
        pytest.param({**GOOD, "correlation": "x"}, changed(), "correlation", id="unknown correlation"),
        pytest.param({**GOOD, "correlation": []}, changed(), "correlation", id="correlation that is a list"),
        pytest.param({**GOOD, "group": 2}, changed(), "divides", id="groups that do not fit"),
        pytest.param({**GOOD, "norm": "batch"}, changed(), "norm", id="unknown norm"),
        pytest.param({**GOOD, "signed": "yes"}, changed(), "signed", id="signed is no truth value"),
        pytest.param({**GOOD, "planted": 1}, changed(), "planted", id="planted is no truth value"),
        pytest.param({**GOOD, "seed": -1}, changed(), "seed", id="seed"),
        pytest.param({**GOOD, "loss": float("nan")}, changed(), "loss", id="loss"),
        pytest.param({**GOOD, "loss": 10**400}, changed(), "loss", id="loss beyond all floats"),
        pytest.param('{"schema": ' + "1" * 5000 + "}", changed(), "expected JSON", id="too many digits"),
        pytest.param({**GOOD, "density": "0" * 5000}, changed(), "density", id="a long value"),
        pytest.param({**GOOD, "x" * 5000: 0}, changed(), "xxx", id="a long name"),
        pytest.param({**GOOD, "density": 10**400}, changed(), "density", id="density beyond all floats"),
        pytest.param(GOOD, {}, "toy.safetensors", id="no tensors"),
        pytest.param(GOOD, {"bias": torch.zeros(5)}, "tensor features", id="no features"),
        pytest.param(GOOD, changed(extra=torch.zeros(5)), "extra", id="unknown tensor"),
        pytest.param(GOOD, {"features": torch.ones(5)}, r"shape \[5\]", id="features not a matrix"),
        pytest.param(GOOD, {"features": torch.ones(0, 4)}, r"shape \[0, 4\]", id="no feature at all"),
        pytest.param(GOOD, {"features": torch.ones(3, 1)}, r"shape \[3, 1\]", id="one dimension"),
        pytest.param(GOOD, changed(readout=torch.ones(4, 5)), r"readout \[5, 4\]", id="readout transposed"),
        pytest.param(GOOD, changed(bias=torch.ones(4)), r"bias \[5\]", id="bias of another length"),
        pytest.param(GOOD, {"features": FEATURES.int()}, "floating point", id="whole numbers"),
        pytest.param(GOOD, {"features": torch.ones(5, 4, dtype=torch.bool)}, "floating point", id="truth values"),
        pytest.param(GOOD, spoilt(2, float("nan")), "finite", id="NaN"),
        pytest.param(GOOD, spoilt(2, float("inf")), "finite", id="infinity"),
        pytest.param(GOOD, {"features": 1e300 * FEATURES.double()}, "finite", id="beyond float32"),
        pytest.param(GOOD, spoilt(2, 1e30), "length is a number", id="length beyond float32"),
        pytest.param(GOOD, changed(bias=torch.full((5,), float("nan"))), "bias", id="NaN in bias"),
        pytest.param(GOOD, spoilt(2, 0.0), "feature 2", id="a zero feature"),
        pytest.param(GOOD, spoilt(2, 1e-30), "feature 2", id="a feature as good as zero"),
        pytest.param({**GOOD, "norm": "layer"}, spoilt(3, 2.0), "LayerNorm", id="all ones behind LayerNorm"),
    ],
)
def test_what_is_no_toy_model_is_refused_with_one_line(tmp_path, description, tensors, message):
    with pytest.raises(InputError, match=message) as caught:
        load_toy(write(tmp_path, description, **tensors))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_missing_folder_is_refused_and_is_no_toy(tmp_path):
    assert not is_toy_folder(tmp_path / "none")
    assert not is_toy_folder(tmp_path)
    with pytest.raises(InputError, match=r"toy\.json"):
        load_toy(tmp_path / "none")


@pytest.mark.parametrize("cut", [0, 7, 20, -5])
def test_damaged_tensors_are_refused(tmp_path, cut):
    path = write(tmp_path, features=FEATURES) / "toy.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match="safetensors file"):
        load_toy(tmp_path)


@pytest.mark.parametrize("bad", [{"density": 0.0}, {"threshold": float("nan")}, {"norm": "x"}, {"width": 0}], ids=str)
def test_what_cannot_be_planted_is_refused(bad):
    with pytest.raises(InputError):
        plant(**{"features": 6, "width": 4, "seed": 0, "density": 0.1, **bad})


def test_layer_norm_planting_is_centred():
    assert plant(6, 4, 0, 0.1, norm="layer").centring is Centring.MEAN
