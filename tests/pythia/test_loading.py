import json
import shutil

import pytest
import safetensors.torch
import torch

from pythia.loading import load_model, weights_digest
from sensverify.errors import InputError

pytest.importorskip("transformers")


@pytest.fixture
def broken_copy(tiny_model_folder, tmp_path):
    """A copy of a good model folder for a test to damage."""
    return shutil.copytree(tiny_model_folder, tmp_path / "copy")


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_folder_loads_with_its_tokenizer(tiny_model_folder):
    model = load_model(str(tiny_model_folder))
    assert (model.depth, model.width) == (4, 32)
    text = "the quick brown fox"
    assert model.tokenizer.decode(model.tokenizer(text)["input_ids"]) == text
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_digest_changes_with_a_single_weight(tiny_model_folder):
    model = load_model(str(tiny_model_folder))
    assert weights_digest(model.network) == model.weights_sha256
    with torch.no_grad():
        next(model.network.parameters()).view(-1)[0] += 1e-3
    assert weights_digest(model.network) != model.weights_sha256


def test_nan_weights_are_refused_by_name(broken_copy):
    weights = safetensors.torch.load_file(broken_copy / "model.safetensors")
    name = "gpt_neox.layers.2.mlp.dense_h_to_4h.weight"
    weights[name][0, 0] = float("nan")
    safetensors.torch.save_file(weights, broken_copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"1 NaN or infinite values in {name}"):
        load_model(str(broken_copy))


def test_another_architecture_is_refused_by_name(broken_copy):
    (broken_copy / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="'bert'"):
        load_model(str(broken_copy))


def test_context_dependent_rotary_scaling_is_refused(broken_copy):
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "partial_rotary_factor": 0.25, "factor": 2.0}
    edit_config(broken_copy, rope_parameters=rope)
    with pytest.raises(InputError, match="rope_type 'dynamic'"):
        load_model(str(broken_copy))


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_an_incomplete_folder_is_refused(broken_copy, missing):
    (broken_copy / missing).unlink()
    with pytest.raises(InputError, match="remedy: check that the folder is complete"):
        load_model(str(broken_copy))


def test_truncated_weights_are_refused(broken_copy):
    path = broken_copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="complete and readable"):
        load_model(str(broken_copy))


def test_a_missing_folder_is_not_taken_for_a_hub_name():
    with pytest.raises(InputError, match="does not exist"):
        load_model("./no/such/folder")


def test_a_file_is_refused(tiny_text):
    with pytest.raises(InputError, match="a folder in Hugging Face layout"):
        load_model(str(tiny_text))


def test_unknown_device_and_dtype_are_refused(tiny_model_folder):
    with pytest.raises(InputError, match="--device cpu"):
        load_model(str(tiny_model_folder), device="warp")
    with pytest.raises(InputError, match="--dtype float32"):
        load_model(str(tiny_model_folder), dtype="int3")


def test_an_unreachable_hub_names_the_ways_out(monkeypatch):
    # The hub library reads the switch once, when first imported; inside one process it has to be patched.
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"(?s)--model FOLDER.*HF_HUB_OFFLINE=1"):
        load_model("nobody/no-such-model")
