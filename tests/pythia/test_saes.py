"""Autoencoders on disk in three layouts, written here by hand; their latents against formulas written out in numpy."""

import json
import math
import pickle
import zipfile

import numpy
import pytest
import safetensors.torch
import torch

from pythia.saes import available, read_for
from sensverify.directions import MOST_LATENTS, living, load_directions
from sensverify.errors import InputError
from sensverify.readout import Batch
from sensverify.sae_layouts import choose, layer_of, locate, read_sae

WIDTH, LATENTS = 6, 10


def parts(seed=0, width=WIDTH, latents=LATENTS):
    """Random weights as float64 arrays; encoder and decoder ``[K, d]``."""
    random = numpy.random.default_rng(seed)
    return {
        "encoder": random.normal(size=(latents, width)),
        "decoder": random.normal(size=(latents, width)),
        "encoder_bias": random.normal(size=latents),
        "decoder_bias": random.normal(size=width),
        "threshold": random.uniform(0, 1, size=latents),
        "gate_bias": random.normal(size=latents),
        "log_magnitude": 0.3 * random.normal(size=latents),
    }


def tensors(named):
    return {name: torch.tensor(value, dtype=torch.float32).contiguous() for name, value in named.items()}


def write_sae_lens(folder, w, drop=(), **config):
    folder.mkdir(parents=True, exist_ok=True)
    named = {"W_enc": w["encoder"].T, "W_dec": w["decoder"], "b_enc": w["encoder_bias"], "b_dec": w["decoder_bias"]}
    if config.get("architecture") == "jumprelu":
        named["threshold"] = w["threshold"]
    if config.get("architecture") == "gated":
        del named["b_enc"]
        named |= {"b_gate": w["gate_bias"], "r_mag": w["log_magnitude"], "b_mag": w["encoder_bias"]}
    kept = {name: value for name, value in named.items() if name not in drop}
    safetensors.torch.save_file(tensors(kept), folder / "sae_weights.safetensors")
    settings = {"hook_name": "blocks.2.hook_resid_post", "d_in": w["decoder"].shape[1], "model_name": "pythia-70m"}
    (folder / "cfg.json").write_text(json.dumps({**settings, **config}))
    return folder


def write_sparsify(folder, w, k=3):
    folder.mkdir(parents=True)
    named = {"encoder.weight": w["encoder"], "encoder.bias": w["encoder_bias"]}
    named |= {"W_dec": w["decoder"], "b_dec": w["decoder_bias"]}
    safetensors.torch.save_file(tensors(named), folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"k": k, "d_in": w["decoder"].shape[1], "num_latents": 0}))
    return folder


def write_dictionary(folder, w, extra=None, config=None, bias="bias"):
    folder.mkdir(parents=True)
    named = {"encoder.weight": w["encoder"], "encoder.bias": w["encoder_bias"]}
    named |= {"decoder.weight": w["decoder"].T, bias: w["decoder_bias"], **(extra or {})}
    torch.save(tensors(named), folder / "ae.pt")
    if config is not None:
        (folder / "config.json").write_text(json.dumps({"trainer": config}))
    return folder


def relu_latents(w, x):
    return numpy.maximum((x - w["decoder_bias"]) @ w["encoder"].T + w["encoder_bias"], 0)


def top_latents(w, x, k):
    latents = relu_latents(w, x)
    for row in latents:
        row[numpy.argsort(row)[:-k]] = 0
    return latents


def jump_latents(w, x, threshold, *, off):
    before = (x - off * w["decoder_bias"]) @ w["encoder"].T + w["encoder_bias"]
    return numpy.where(before > threshold, numpy.maximum(before, 0), 0)


def gated_latents(w, x):
    linear = (x - w["decoder_bias"]) @ w["encoder"].T
    magnitude = numpy.maximum(numpy.exp(w["log_magnitude"]) * linear + w["encoder_bias"], 0)
    return magnitude * (linear + w["gate_bias"] > 0)


X = numpy.random.default_rng(9).normal(size=(40, WIDTH))


def agree(sae, w, latents):
    assert numpy.allclose(sae.encode(torch.tensor(X)).numpy(), latents, atol=1e-5)
    assert (latents > 0).any()
    assert numpy.allclose(sae.decoder.numpy(), w["decoder"], atol=1e-6)
    output = latents @ w["decoder"] + w["decoder_bias"]
    assert numpy.allclose(sae.decode(sae.encode(torch.tensor(X))).numpy(), output, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "latents"),
    [
        ({"architecture": "standard"}, relu_latents),
        ({"architecture": "topk", "k": 3}, lambda w, x: top_latents(w, x, 3)),
        (
            {"architecture": "standard", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 2}},
            lambda w, x: top_latents(w, x, 2),
        ),
        (
            {"architecture": "jumprelu", "apply_b_dec_to_input": False},
            lambda w, x: jump_latents(w, x, w["threshold"], off=False),
        ),
        ({"architecture": "gated"}, gated_latents),
        (
            {"architecture": "standard", "normalize_activations": "constant_norm_rescale"},
            lambda w, x: relu_latents(w, x * WIDTH**0.5 / numpy.linalg.norm(x, axis=1, keepdims=True)),
        ),
        (
            {"architecture": "standard", "normalize_activations": "layer_norm"},
            lambda w, x: relu_latents(w, (x - x.mean(1, keepdims=True)) / (x.std(1, ddof=1, keepdims=True) + 1e-5)),
        ),
        (
            {"architecture": "standard", "model_from_pretrained_kwargs": {"center_writing_weights": True}},
            lambda w, x: relu_latents(w, x - x.mean(1, keepdims=True)),
        ),
    ],
    ids=["standard", "topk", "topk of old", "jumprelu", "gated", "constant norm", "layer norm", "centred"],
)
def test_latents_of_sae_lens_are_those_of_the_formula(tmp_path, config, latents):
    w = parts()
    sae = read_sae(choose(write_sae_lens(tmp_path / "sae", w, **config)))
    agree(sae, w, latents(w, X))
    assert (sae.layer, sae.hook) == (2, "blocks.2.hook_resid_post")


def test_the_k_largest_are_chosen_by_how_much_they_write_where_the_author_says_so(tmp_path):
    w = parts()
    config = {"architecture": "topk", "k": 2, "rescale_acts_by_decoder_norm": True}
    sae = read_sae(choose(write_sae_lens(tmp_path / "sae", w, **config)))
    lengths = numpy.linalg.norm(w["decoder"], axis=1)
    written = relu_latents(w, X) * lengths
    for row in written:
        row[numpy.argsort(row)[:-2]] = 0
    expected = (written / lengths) @ w["decoder"] + w["decoder_bias"]
    assert numpy.allclose(sae.decode(sae.encode(torch.tensor(X))).numpy(), expected, atol=1e-4)


def test_latents_of_sparsify_are_those_of_the_formula(tmp_path):
    w = parts()
    sae = read_sae(choose(write_sparsify(tmp_path / "layers.1", w)))
    agree(sae, w, top_latents(w, X, 3))
    assert sae.layer == 1


@pytest.mark.parametrize(
    ("extra", "config", "bias", "latents"),
    [
        (None, None, "bias", relu_latents),
        ({"k": 3.0}, {"dict_class": "AutoEncoderTopK", "activation_dim": WIDTH}, "b_dec", None),
        ({"k": 3.0, "threshold": 0.4}, {"dict_class": "BatchTopKSAE"}, "b_dec", "threshold"),
    ],
    ids=["relu", "topk", "by batches"],
)
def test_latents_of_dictionary_learning_are_those_of_the_formula(tmp_path, extra, config, bias, latents):
    w = parts()
    folder = write_dictionary(tmp_path / "resid_out_layer3" / "10_32", w, extra, config, bias)
    expected = {None: top_latents(w, X, 3), "threshold": jump_latents(w, X, 0.4, off=True)}
    sae = read_sae(choose(folder))
    agree(sae, w, latents(w, X) if callable(latents) else expected[latents])
    assert sae.layer == 3  # of the folder's name


def test_a_gated_dictionary_and_one_in_the_names_of_sae_lens_are_read(tmp_path):
    w = parts()
    gated = tmp_path / "gated"
    gated.mkdir()
    named = {"encoder.weight": w["encoder"], "decoder.weight": w["decoder"].T, "decoder_bias": w["decoder_bias"]}
    named |= {"gate_bias": w["gate_bias"], "r_mag": w["log_magnitude"], "mag_bias": w["encoder_bias"]}
    torch.save(tensors(named), gated / "ae.pt")
    agree(read_sae(choose(gated)), w, gated_latents(w, X))
    jump = tmp_path / "jump"
    jump.mkdir()
    named = {"W_enc": w["encoder"].T, "W_dec": w["decoder"], "b_enc": w["encoder_bias"], "b_dec": w["decoder_bias"]}
    torch.save(tensors({**named, "threshold": w["threshold"]}), jump / "ae.pt")
    agree(read_sae(choose(jump)), w, jump_latents(w, X, w["threshold"], off=False))


def test_a_hook_of_several_is_chosen_by_its_layer_and_others_are_refused_by_name(tmp_path):
    kinds = {"layers.1": 1, "layers.2": 2, "layers.2.mlp": 3}
    for hook, seed in kinds.items():
        write_sparsify(tmp_path / hook, parts(seed))
    assert {one.name for one in locate(tmp_path)} == set(kinds)
    chosen = read_sae(choose(tmp_path, 2))
    assert numpy.allclose(chosen.decoder.numpy(), parts(2)["decoder"], atol=1e-6)
    with pytest.raises(InputError, match=r"that is here: 1 \(layers\.1\), 2 \(layers\.2\), got 3"):
        choose(tmp_path, 3)
    with pytest.raises(InputError, match="2 of them"):
        choose(tmp_path)
    with pytest.raises(InputError, match="residual stream"):
        choose(tmp_path / "layers.2.mlp")
    assert sorted(available(tmp_path, depth=4)) == [1, 2]
    assert sorted(available(tmp_path, depth=3)) == [1]  # block 2 is the last: nothing comes after it
    with pytest.raises(InputError, match=r"after block 0 to 0.*got layers\.1"):
        available(tmp_path, depth=2)


@pytest.mark.parametrize(
    ("hook", "layer"),
    [
        ("blocks.3.hook_resid_post", 3), ("blocks.3.hook_resid_pre", 2), ("blocks.0.hook_resid_pre", -1),
        ("blocks.3.hook_mlp_out", None), ("layers.4", 4), ("h.4", 4), ("gpt_neox.layers.11", 11),
        ("layers.4.mlp", None), ("resid_post_layer_7", 7), ("resid_out_layer7", 7),
        ("mlp_out_layer7", None), ("embed_tokens", None),
    ],
)  # fmt: skip
def test_hooks_are_the_blocks_that_their_authors_mean(hook, layer):
    assert layer_of(hook) == layer


@pytest.mark.parametrize("hook", ["blocks.{}.hook_resid_post", "blocks.{}.hook_resid_pre", "layers.{}"])
def test_a_block_with_a_number_past_all_models_is_no_block(tmp_path, hook):
    name = hook.format("9" * 5000)  # more digits than Python turns into a number
    assert layer_of(name) is None
    with pytest.raises(InputError, match="a hook on the residual stream after block 1, got") as caught:
        choose(write_sae_lens(tmp_path / "sae", parts(), hook_name=name), 1)
    assert len(str(caught.value)) < 200


def test_another_width_is_refused(tmp_path):
    place = choose(write_sae_lens(tmp_path / "sae", parts()))
    assert read_for(place, WIDTH, "mine").width == WIDTH
    with pytest.raises(InputError, match="width 32, the width of mine, got width 6"):
        read_for(place, 32, "mine")


class Bomb:
    """Unpickled, it raises an error that is none of ours."""

    def __reduce__(self):
        return (_explode, ())


def _explode():
    raise KeyboardInterrupt("a pickle was run")


def test_a_pickle_that_is_more_than_tensors_is_refused_and_not_run(tmp_path):
    folder = tmp_path / "evil"
    folder.mkdir()
    for content in ({"decoder.weight": Bomb()}, Bomb()):
        torch.save(content, folder / "ae.pt")
        with pytest.raises(InputError, match="nothing but tensors"):
            read_sae(choose(folder))
        (folder / "ae.pt").write_bytes(pickle.dumps(content))
        with pytest.raises(InputError, match="nothing but tensors"):
            read_sae(choose(folder))


@pytest.mark.parametrize("write", [write_sae_lens, write_sparsify, write_dictionary])
def test_a_truncated_file_is_refused_in_one_line(tmp_path, write):
    folder = write(tmp_path / "layers.1", parts())
    file = choose(folder).file
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    if write is write_dictionary:
        assert not zipfile.is_zipfile(file)
    with pytest.raises(InputError) as caught:
        read_sae(choose(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["W_dec", "W_enc", "b_enc", "b_dec"])
def test_a_missing_tensor_is_named(tmp_path, missing):
    with pytest.raises(InputError, match=f"a tensor {missing}"):
        read_sae(choose(write_sae_lens(tmp_path / "sae", parts(), drop=(missing,))))


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("decoder", numpy.full((LATENTS, WIDTH), numpy.nan), "NaN or infinity in W_dec"),
        ("encoder_bias", numpy.full(LATENTS, numpy.inf), "NaN or infinity in b_enc"),
        ("decoder", numpy.zeros((LATENTS, WIDTH)), "other than zero"),
        ("decoder", numpy.full((LATENTS, WIDTH), 1e30), "a length past float32"),
        ("encoder", numpy.ones((LATENTS, WIDTH + 1)), "W_enc of shape"),
        ("decoder_bias", numpy.ones(WIDTH - 1), "b_dec of shape"),
    ],
)
def test_weights_that_cannot_be_right_are_refused(tmp_path, part, value, message):
    with pytest.raises(InputError, match=message):
        read_sae(choose(write_sae_lens(tmp_path / "sae", {**parts(), part: value})))


def in_float64(value):
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("k", in_float64(numpy.nan), "NaN or infinity in k"),
        ("k", in_float64(numpy.inf), "NaN or infinity in k"),
        ("k", torch.tensor([3.0]).to_sparse(), "k as a dense tensor of real numbers"),
        ("bias", torch.ones(WIDTH).to_sparse(), "bias as a dense tensor of real numbers.*got float32, sparse_coo"),
        ("bias", torch.ones(WIDTH, dtype=torch.complex64), "bias as a dense tensor.*got complex64"),
        ("bias", torch.ones(WIDTH, dtype=torch.bool), "bias as a dense tensor.*got bool"),
        ("bias", torch.ones(WIDTH, device="meta"), "bias as a dense tensor"),
        ("decoder.weight", torch.ones(WIDTH, LATENTS).to_sparse(), r"decoder\.weight as a dense tensor"),
        ("threshold", in_float64([numpy.nan]), "NaN or infinity in threshold"),
        ("threshold", torch.ones(1, dtype=torch.complex64), "threshold as a dense tensor"),
    ],
    ids=lambda value: None if isinstance(value, torch.Tensor) else value,
)
@pytest.mark.filterwarnings("error")
def test_tensors_that_are_no_finite_real_numbers_are_refused_in_one_line(tmp_path, name, value, message):
    folder = write_dictionary(tmp_path / "resid_out_layer1", parts())
    stored = torch.load(folder / "ae.pt", weights_only=True)
    torch.save({**stored, name: value}, folder / "ae.pt")
    with pytest.raises(InputError, match=message) as caught:
        read_sae(choose(folder))
    assert "\n" not in str(caught.value)


def test_a_broken_tensor_reaches_the_user_as_one_line_of_verify_and_of_inspect(
    tmp_path, tiny_model_folder, tiny_text, capsys
):
    from sensverify.cli import run

    folder = write_dictionary(tmp_path / "resid_out_layer1", parts(width=32), {"k": numpy.inf})
    model = ["--model", str(tiny_model_folder), "--text", str(tiny_text)]
    for command in (["verify", "pythia", "--claim", "PY-3", "--sae", str(folder)], ["inspect", str(folder)]):
        assert run([*command, *model]) == 2
        complaint = capsys.readouterr().err
        assert "NaN or infinity in k" in complaint
        assert complaint.count("\n") == 1


def test_integers_and_short_floats_are_numbers_like_others(tmp_path):
    folder = write_dictionary(tmp_path / "resid_out_layer1", parts(), {"k": 3.0}, bias="b_dec")
    stored = torch.load(folder / "ae.pt", weights_only=True)
    halves = {name: value.bfloat16() for name, value in stored.items()}
    torch.save({**halves, "k": torch.tensor(3), "b_dec": torch.ones(WIDTH, dtype=torch.int8)}, folder / "ae.pt")
    sae = read_sae(choose(folder))
    assert sae.activation.k == 3
    assert sae.decoder_bias.tolist() == [1.0] * WIDTH
    assert sae.encoder.equal(stored["encoder.weight"].bfloat16().float())


@pytest.mark.parametrize("normalisation", ["none", "layer_norm", "constant_norm_rescale", "expected_average_only_in"])
def test_the_share_explained_is_that_of_the_formula_and_not_a_number_without_variance(tmp_path, normalisation):
    w = parts()
    sae = read_sae(choose(write_sae_lens(tmp_path / "sae", w, normalize_activations=normalisation)))
    x = torch.tensor(X)
    inside = sae.prepared(x).double().numpy()
    left = inside - sae.decode(sae.encode(x)).double().numpy()
    expected = 1 - (left**2).sum() / ((inside - inside.mean(0)) ** 2).sum()
    assert sae.explained([x[:7], x[7:]])[0] == pytest.approx(expected, rel=1e-5)
    assert math.isnan(sae.explained([torch.ones(5, WIDTH)])[0])
    assert all(map(math.isnan, sae.explained([])))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "temporal"}, "'temporal'"),
        ({"normalize_activations": "batch_norm"}, "'batch_norm'"),
        ({"architecture": "topk", "k": 0}, "k from 1 to 10"),
        ({"d_in": 7}, "d_in 6, as its decoder has it, .* got 7"),
        ({"d_in": "x"}, "d_in 6"),
        ({"d_sae": 24576}, "d_sae 10, .* got 24576"),
        ({"architecture": "topk", "k": 2.5}, "a whole number k"),
        ({"activation_fn": "tanh-relu"}, "activation_fn out of relu, topk .*'tanh-relu'"),
        ({"activation_fn_str": "gelu"}, "'gelu'"),
        ({"reshape_activations": "hook_z"}, "'hook_z'"),
        ({"finetuning_scaling_factor": True}, "finetuning_scaling_factor switched off"),
        ({"metadata": {"hook_head_index": 0}}, "hook_head_index switched off"),
        *(
            (
                {"normalize_activations": "expected_average_only_in", "norm_scaling_factor": scale},
                "a finite norm_scaling_factor above 0",
            )
            for scale in (0, 0.0, -1.0, math.nan, math.inf, True, "2", 10**400)
        ),
    ],
)
def test_switches_that_are_not_known_are_refused_by_name(tmp_path, config, message):
    with pytest.raises(InputError, match=message):
        read_sae(choose(write_sae_lens(tmp_path / "sae", parts(), **config)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"activation": "groupmax"}, "activation out of topk .*'groupmax'"),
        ({"signed": True}, "signed switched off"),
        ({"skip_connection": True}, "skip_connection switched off"),
        ({"transcode": True}, "transcode switched off"),
        ({"num_latents": 11}, "num_latents 10"),
    ],
)
def test_switches_of_sparsify_that_are_not_known_are_refused_by_name(tmp_path, config, message):
    folder = write_sparsify(tmp_path / "layers.1", parts())
    path = folder / "cfg.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"activation": "topk", "signed": False, "transcode": False, "num_latents": 0}))
    read_sae(choose(folder))
    path.write_text(json.dumps(told | config))
    with pytest.raises(InputError, match=message):
        read_sae(choose(folder))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dict_class": "CrossCoder"}, "a dict_class out of AutoEncoder, .*'CrossCoder'"),
        ({"dict_size": 11}, "dict_size 10"),
        ({"activation_dim": 7}, "activation_dim 6"),
    ],
)
def test_dictionaries_that_are_not_known_or_of_other_sizes_are_refused(tmp_path, config, message):
    right = {"dict_class": "<class 'dictionary_learning.AutoEncoder'>", "dict_size": 10, "activation_dim": 6}
    read_sae(choose(write_dictionary(tmp_path / "right", parts(), config=right)))
    folder = write_dictionary(tmp_path / "wrong", parts(), config=right | config)
    with pytest.raises(InputError, match=message):
        read_sae(choose(folder))


def test_a_dictionary_of_the_embedding_is_on_no_block(tmp_path):
    write_dictionary(tmp_path / "embed" / "10_32768", parts())
    with pytest.raises(InputError, match=r"after block 0 to 2, such as .* got embed"):
        available(tmp_path, depth=4)


def test_tensors_with_something_around_them_are_refused_by_what_is_there(tmp_path):
    folder = write_dictionary(tmp_path / "sae", parts())
    torch.save({"state_dict": torch.load(folder / "ae.pt")}, folder / "ae.pt")
    with pytest.raises(InputError, match=r"nothing around them.*'state_dict'"):
        read_sae(choose(folder))


@pytest.mark.parametrize("name", ["empty", "sae.pt"])
def test_a_folder_without_directions_tells_which_files_would_do(tmp_path, name):
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"directions\.safetensors, or a sparse autoencoder \(.*ae\.pt\)"):
        load_directions(folder)


def test_a_broken_configuration_and_a_folder_without_an_autoencoder_are_refused(tmp_path):
    folder = write_sae_lens(tmp_path / "sae", parts())
    for content in ("{", "[]"):
        (folder / "cfg.json").write_text(content)
        with pytest.raises(InputError, match=r"cfg\.json"):
            choose(folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="none in it"):
        locate(empty)
    with pytest.raises(InputError, match="missing"):
        locate(tmp_path / "nowhere")


class Activations:
    """Stands for a read-out of which activations alone are asked."""

    device = torch.device("cpu")

    def __init__(self, x):
        self.x = x

    def sample(self, count, generator):
        rows = torch.randint(len(self.x), (count,), generator=generator, device=self.device)
        return Batch(x=self.x[rows], state=None)


def test_directions_of_an_autoencoder_are_the_decoder_rows_of_latents_that_fire_a_sample_fixed_by_the_seed(tmp_path):
    w = parts(latents=MOST_LATENTS + 50)
    w["decoder"][0] = 0  # writes nothing, so that it has no direction
    w["encoder_bias"][1:21] = -1e6  # fire nowhere
    folder = write_sae_lens(tmp_path / "sae", w)
    readout = Activations(torch.tensor(X))
    whole = load_directions(folder)
    assert whole.latents.tolist() == list(range(1, MOST_LATENTS + 50))
    first, again, other = (living(whole, readout, seed) for seed in (0, 0, 1))
    assert len(first.latents) == MOST_LATENTS
    assert first.latents.equal(again.latents)
    assert not first.latents.equal(other.latents)
    assert min(first.latents.tolist() + other.latents.tolist()) > 20
    assert MOST_LATENTS <= first.config["sae"]["latents_that_fire"] <= MOST_LATENTS + 29
    rows = w["decoder"][first.latents.numpy()]
    expected = rows / numpy.linalg.norm(rows, axis=1, keepdims=True)
    assert numpy.allclose(first.directions.numpy(), expected, atol=1e-6)
    assert (first.config["layer"], first.config["offset"]) == (2, 1)


def test_an_autoencoder_of_which_nothing_fires_is_refused(tmp_path):
    w = parts()
    w["encoder_bias"][:] = -1e6
    with pytest.raises(InputError, match="latents that fire on this text, got none of 10"):
        living(load_directions(write_sae_lens(tmp_path / "sae", w)), Activations(torch.tensor(X)), 0)


def test_the_score_command_takes_the_folder_of_an_autoencoder(tmp_path, tiny_model_folder, tiny_text, capsys):
    from sensverify.cli import run

    for hook in ("layers.1", "layers.1.mlp"):
        write_sparsify(tmp_path / hook, parts(width=32, latents=20))
    common = ["--model", str(tiny_model_folder), "--text", str(tiny_text), "--context", "16", "--json"]
    assert run(["score", str(tmp_path), "--layer", "1", "--target", "2", *common]) == 0
    told = json.loads(capsys.readouterr().out)
    assert 3 <= len(told["latents"]) == told["sae"]["latents_that_fire"] < 20  # three fire at once
    assert len(told["scores"]) == len(told["latents"])
    assert set(told["groups"]) == {"autoencoder (+s)", "negated (−s)", "random"}
    assert told["sae"]["layout"] == "sparsify"
    assert run(["score", str(tmp_path), "--layer", "2", "--target", "3", *common]) == 2
    complaint = capsys.readouterr().err
    assert "layers.1" in complaint
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: write_sparsify(folder / "layers.1", parts(width=16)), "width 32"),
        (lambda folder: write_sparsify(folder / "layers.1.mlp", parts(width=32)), "residual stream after block 0 to 2"),
        (lambda folder: None, "a sparse autoencoder"),
    ],
    ids=["width", "hook", "nothing there"],
)
def test_verify_refuses_an_autoencoder_that_does_not_fit_before_anything_runs(
    tmp_path, tiny_model_folder, tiny_text, capsys, spoil, told
):
    from sensverify.cli import run

    spoil(tmp_path)
    model = ["--model", str(tiny_model_folder), "--text", str(tiny_text)]
    assert run(["verify", "pythia", "--claim", "PY-3", *model, "--sae", str(tmp_path)]) == 2
    complaint = capsys.readouterr().err
    assert told in complaint
    assert complaint.count("\n") == 1
