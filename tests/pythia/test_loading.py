import json
import os
import shutil
import subprocess
import sys

import pytest
import safetensors.torch
import torch

from pythia import hub
from pythia.hub import first_words, without_tokens
from pythia.loading import load_model
from pythia.weights import weights_digest
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


# --- What weights are, whatever they came in ------------------------------------------------------------------


def logits(model):
    tokens = torch.arange(12)[None] + 1
    with torch.no_grad():
        return model.network(tokens).logits


@pytest.fixture(scope="module")
def tied_folder(tiny_model_folder, tmp_path_factory):
    """A function that writes a random GPT-2 or Llama, embedding and unembedding one, beside the tiny tokenizer."""
    transformers = pytest.importorskip("transformers")

    def make(kind):
        folder = tmp_path_factory.mktemp(kind)
        if kind == "gpt2":
            config = transformers.GPT2Config(vocab_size=300, n_positions=64, n_embd=32, n_layer=3, n_head=4)
            network = transformers.GPT2LMHeadModel(config)
        else:
            config = transformers.LlamaConfig(
                vocab_size=300, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64,
                max_position_embeddings=64, tie_word_embeddings=True,
            )  # fmt: skip
            network = transformers.LlamaForCausalLM(config)
        network.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny_model_folder / name, folder)
        return folder

    return make


def as_bin(folder, weights):
    """The folder with ``weights`` in a file that is opened by unpickling, in place of safetensors."""
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    torch.save(weights, folder / "pytorch_model.bin")


def test_shards_are_the_same_model_as_one_file(tiny_model_folder, broken_copy):
    whole = load_model(str(tiny_model_folder))
    (broken_copy / "model.safetensors").unlink()
    whole.network.save_pretrained(broken_copy, max_shard_size="40KB")
    shards = sorted(broken_copy.glob("*.safetensors"))
    assert len(shards) > 3
    model = load_model(str(broken_copy))
    assert model.weights_sha256 == whole.weights_sha256
    assert logits(model).equal(logits(whole))
    shards[1].unlink()
    with pytest.raises(InputError, match="complete and readable"):
        load_model(str(broken_copy))


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_tied_weights_are_one_however_they_are_written(tied_folder, kind):
    folder = tied_folder(kind)
    model = load_model(str(folder))
    weights = model.network.state_dict()
    assert model.network.get_output_embeddings().weight is model.network.get_input_embeddings().weight
    as_bin(folder, {**weights, "lm_head.weight": weights["lm_head.weight"].clone()})
    again = load_model(str(folder))
    assert again.weights_sha256 == model.weights_sha256
    assert logits(again).equal(logits(model))


def test_bin_files_of_tensors_are_read(tiny_model_folder, broken_copy):
    whole = load_model(str(tiny_model_folder))
    as_bin(broken_copy, whole.network.state_dict())
    assert logits(load_model(str(broken_copy))).equal(logits(whole))


class Payload:
    """What a malicious file holds: opened by an unpickler, it does as it likes."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_a_bin_file_that_would_run_code_is_refused_unopened(broken_copy, tmp_path, capsys):
    from sensverify import cli

    marker = tmp_path / "ran"
    as_bin(broken_copy, {"gpt_neox.embed_in.weight": Payload(marker)})
    assert cli.run(["verify", "pythia", "--claim", "PY-1", "--model", str(broken_copy)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "safetensors" in told
    assert not marker.exists()
    torch.load(broken_copy / "pytorch_model.bin", weights_only=False)
    assert marker.exists()  # it would have


def test_safetensors_are_preferred_to_a_bin_file(tiny_model_folder, broken_copy, tmp_path):
    torch.save({"a": Payload(tmp_path / "ran")}, broken_copy / "pytorch_model.bin")
    assert load_model(str(broken_copy)).weights_sha256 == load_model(str(tiny_model_folder)).weights_sha256
    assert not (tmp_path / "ran").exists()


def test_a_missing_weight_is_refused_and_not_made_up(broken_copy):
    weights = safetensors.torch.load_file(broken_copy / "model.safetensors")
    del weights["gpt_neox.layers.1.attention.dense.weight"]
    safetensors.torch.save_file(weights, broken_copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 missing, first gpt_neox\.layers\.1\.attention\.dense\.weight"):
        load_model(str(broken_copy))


def test_blocks_that_the_configuration_leaves_out_are_refused(broken_copy):
    edit_config(broken_copy, num_hidden_layers=2)
    with pytest.raises(InputError, match=r"further blocks, first gpt_neox\.layers\.2\."):
        load_model(str(broken_copy))


def test_the_digest_is_of_the_weights_and_not_of_their_use(tiny_model_folder):
    plain = load_model(str(tiny_model_folder))
    others = [
        load_model(str(tiny_model_folder), **options)
        for options in ({"dtype": "bfloat16"}, {"dtype": "float64"}, {"weights": "folded"})
    ]
    assert {model.weights_sha256 for model in others} == {plain.weights_sha256}
    plain.network.register_buffer("made_by_some_version", torch.zeros(3))
    assert weights_digest(plain.network) == plain.weights_sha256


def test_the_embedded_model_is_known_by_the_digest_that_directions_were_saved_with():
    digest = "e048fad876e9fb73f9433d1b09282df675a19807916b43f35a772fbd9a69ab1d"
    assert load_model().weights_sha256 == digest


def test_weights_in_bfloat16_leave_rotary_frequencies_as_they_were(tiny_model_folder):
    model = load_model(str(tiny_model_folder), dtype="bfloat16")
    assert {parameter.dtype for parameter in model.network.parameters()} == {torch.bfloat16}
    assert model.network.gpt_neox.rotary_emb.inv_freq.dtype == torch.float32
    assert model.describe()["dtype"] == "bfloat16"


def test_folded_weights_are_recorded_as_such(tiny_model_folder):
    raw, folded = (load_model(str(tiny_model_folder), weights=kind) for kind in ("raw", "folded"))
    assert raw.describe()["weight_processing"] == "raw"
    assert folded.describe()["weight_processing"] == "folded"
    assert folded.describe()["folding"]["writes_centred"]
    assert torch.allclose(logits(folded), logits(raw), atol=1e-4 * float(logits(raw).abs().max()))


# --- The hub ---------------------------------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SECRET = "hf_" + "s3cr3tOfTheUser" * 2


@pytest.fixture(scope="module")
def filled_cache(tiny_model_folder, tmp_path_factory):
    """HF_HOME with a model, and a half, in the hub library's cache, at one commit, under the branch step3000."""
    home = tmp_path_factory.mktemp("home")
    for name in ("tiny", "half"):
        model = home / "hub" / f"models--somebody--{name}"
        shutil.copytree(tiny_model_folder, model / "snapshots" / COMMIT)
        (model / "refs").mkdir()
        (model / "refs" / "step3000").write_text(COMMIT)
    (model / "snapshots" / COMMIT / "model.safetensors").unlink()  # an interrupted download
    return home


def in_a_process_of_its_own(home, program, **environment):
    """The hub library reads its environment when it is imported."""
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HF_HOME": str(home), "HF_TOKEN": SECRET, **environment},
        capture_output=True,
        text=True,
    )


def test_a_pinned_revision_is_read_from_the_cache_and_its_commit_recorded(filled_cache, tiny_model_folder):
    program = (
        "import json; from pythia.loading import load_model; from sensverify import cli;"
        "model = load_model('somebody/tiny', revision='step3000', offline=True);"
        "print(json.dumps(model.describe()));"
        "print(cli.run(['score', '/nowhere', '--model', 'somebody/tiny', '--offline']),"
        "cli.run(['verify', '--claim', 'PY-1', '--model', 'somebody/tiny', '--revision', 'step7', '--offline']))"
    )
    done = in_a_process_of_its_own(filled_cache, program)
    described, codes = done.stdout.splitlines()
    assert json.loads(described)["commit"] == COMMIT
    assert json.loads(described)["revision"] == "step3000"
    assert json.loads(described)["weights_sha256"] == load_model(str(tiny_model_folder)).weights_sha256
    assert codes == "2 2"
    assert done.stderr.count("\n") == 2
    assert "--offline" in done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_a_folder_of_the_hubs_cache_tells_its_commit(filled_cache, tiny_model_folder):
    folder = filled_cache / "hub" / "models--somebody--tiny" / "snapshots" / COMMIT
    assert load_model(str(folder)).commit == COMMIT
    assert load_model(str(tiny_model_folder)).commit is None


def test_a_token_is_blotted_out_of_a_librarys_words(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "a-token-of-no-known-form")
    told = without_tokens(f"401 for https://hub/x?token=a-token-of-no-known-form with {SECRET}.")
    assert told == "401 for https://hub/x?token=*** with ***."
    told = without_tokens("401 for url 'http://me:my-password@mirror:8080/api' and 302 for https://me@mirror/x")
    assert told == "401 for url 'http://***@mirror:8080/api' and 302 for https://***@mirror/x"


def test_a_token_at_the_end_of_what_is_told_is_not_cut_in_two(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "a-token-of-no-known-form")
    told = first_words(OSError("refused:\n" + "x" * 380 + " a-token-of-no-known-form"))
    assert "a-tok" not in told


def test_an_error_of_the_hub_does_not_tell_the_token(monkeypatch, tiny_model_folder):
    import huggingface_hub

    def refuse(*_arguments, **_options):
        raise OSError(f"401: Bearer {SECRET} is not allowed here")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(InputError, match=r"401: Bearer \*\*\*") as refused:
        load_model("somebody/gated")
    assert SECRET not in str(refused.value)
    assert "HF_TOKEN" in str(refused.value)


@pytest.fixture(scope="module")
def unconnected(filled_cache):
    """What came of three models in a process without a network: text, connections tried, waits between them."""
    program = """
import json, socket, time
tried, waits, told = [], [], []
def refuse(*arguments, **options):
    tried.append(arguments)
    raise socket.gaierror(-2, "Name or service not known")
socket.getaddrinfo, time.sleep = refuse, waits.append
from pythia.loading import load_model
from sensverify.errors import InputError
for name, revision, offline in (
    ("somebody/tiny", "step3000", False), ("somebody/else", None, False), ("somebody/else", None, True),
    ("somebody/half", "step3000", False)
):
    tried.clear(), waits.clear()
    try:
        model = load_model(name, revision=revision, offline=offline)
        text = f"{model.commit} {model.weights_sha256}"
    except InputError as error:
        text = str(error)
    told.append([text, len(tried), len(waits)])
print(json.dumps(told))
"""
    done = in_a_process_of_its_own(filled_cache, program, HF_HUB_OFFLINE="0")
    return json.loads(done.stdout)


def test_without_a_connection_the_hub_is_asked_twice_and_then_the_cache_is_read(unconnected, tiny_model_folder):
    text, tried, waits = unconnected[0]
    assert text == f"{COMMIT} {load_model(str(tiny_model_folder)).weights_sha256}"
    assert waits == 1  # the hub library's own patience is five waits for every file
    assert 2 <= tried <= 3  # it looks something up for itself, once


def test_what_is_neither_reached_nor_cached_is_refused_at_once_and_for_the_right_reason(unconnected, filled_cache):
    for (text, tried, waits), offline in zip(unconnected[1:3], (False, True), strict=True):
        assert ("no connection to" in text) == ("Name or service not known" in text) == (not offline)
        assert ("the model 'somebody/else' in the local cache" in text) == offline
        assert f"no config.json of main in the cache, {filled_cache}" in text
        assert "--model FOLDER" in text
        assert waits == (0 if offline else 1)
        assert (tried == 0) == offline


def test_a_cache_that_lacks_the_weights_is_refused_with_a_remedy_for_a_cache(unconnected):
    text, _, waits = unconnected[3]
    assert "weights in the cache for 'somebody/half'" in text
    assert "fill the cache" in text
    assert waits == 1


class ConnectError(Exception):
    """As the hub's library calls it, of whichever package it is."""


class ConnectTimeout(ConnectError, TimeoutError):
    """A network that is slow, not absent."""


@pytest.mark.parametrize(
    ("errors", "asked", "value", "unreachable"),
    [
        ([ConnectError("no"), ConnectError("no")], 2, None, True),
        ([ConnectError("no")], 2, "yes", False),
        ([ConnectTimeout("slow")], 1, None, False),
        ([TimeoutError("slow")], 1, None, False),
        ([ConnectionResetError("broken off")], 1, None, False),
        ([OSError("503")], 1, None, False),
        ([], 1, "yes", False),
    ],
)
def test_only_a_connection_that_is_never_made_counts_as_no_hub(monkeypatch, errors, asked, value, unreachable):
    monkeypatch.setattr(hub, "PAUSE", 0.0)
    left, calls = list(errors), []

    def question():
        calls.append(1)
        if left:
            raise left.pop(0)
        return "yes"

    answer = hub.ask(question)
    assert (len(calls), answer.value, answer.unreachable is not None) == (asked, value, unreachable)


def test_the_hubs_address_is_told_without_the_password_in_it(monkeypatch):
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "ENDPOINT", "https://me:secret@mirror.example:8443/hub")
    assert hub.host() == "mirror.example"


# --- A configuration that lies ---------------------------------------------------------------------------------


@pytest.fixture
def nothing_is_built(monkeypatch):
    """The library may describe a network, but must not be asked to make one."""
    transformers = pytest.importorskip("transformers")

    def refuse(*_arguments, **_options):
        raise AssertionError("a network was built")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", refuse)


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},  # and 7 billion weights by default
            r"missing, first model\.embed_tokens\.weight of shape \[300, 4096\]; there is transformer\.",
        ),
        ({"vocab_size": 290}, r"transformer\.wte\.weight of shape \[290, 32\].*got shape \[300, 32\]"),
        ({"n_embd": 64}, r"transformer\.wte\.weight of shape \[300, 64\].*got shape \[300, 32\]"),
        ({"n_inner": 10**9}, r"h\.0\.mlp\.c_fc\.weight of shape \[32, 1000000000\].*got shape \[32, 128\]"),
        ({"n_layer": 4}, r"got 12 missing, first transformer\.h\.3\.ln_1\.weight of shape \[32\]"),
        ({"n_layer": 10**8}, r"got at least \d+ missing, first transformer\.h\.3\.ln_1\.weight"),
        ({"n_layer": 0}, "one block at least.*got n_layer = 0"),
        ({"vocab_size": 10**18}, "a network that can be built as config.json"),
        ({"n_head": 3}, "n_embd in config.json of .* divisible by n_head, got 32 and 3"),
        ({"activation_function": "swishfoo"}, "as activation_function in config.json .*got 'swishfoo'"),
    ],
)  # fmt: skip
def test_a_configuration_of_another_network_is_refused_before_anything_is_built(tied_folder, changes, told):
    folder = tied_folder("gpt2")
    edit_config(folder, **changes)
    with pytest.raises(InputError, match=told) as refused:
        load_model(str(folder))
    assert "ignore_mismatched_sizes" not in str(refused.value)


@pytest.mark.usefixtures("nothing_is_built")
def test_a_bin_file_is_held_against_the_configuration_too(tied_folder):
    folder = tied_folder("gpt2")
    as_bin(folder, safetensors.torch.load_file(folder / "model.safetensors"))
    edit_config(folder, vocab_size=290)
    with pytest.raises(InputError, match=r"wte\.weight of shape \[290, 32\].*got shape \[300, 32\]"):
        load_model(str(folder))


@pytest.mark.usefixtures("nothing_is_built")
def test_an_unembedding_of_its_own_that_is_not_there_is_refused(tied_folder):
    folder = tied_folder("gpt2")
    edit_config(folder, tie_word_embeddings=False)
    with pytest.raises(InputError, match=r"1 missing, first lm_head\.weight of shape \[300, 32\]"):
        load_model(str(folder))


def test_weights_named_without_the_networks_prefix_are_the_same_weights(tied_folder):
    folder = tied_folder("gpt2")
    whole = load_model(str(folder))
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    bare = {key.removeprefix("transformer."): value for key, value in weights.items()}
    assert not bare.keys() & weights.keys()
    safetensors.torch.save_file(bare, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_model(str(folder)).weights_sha256 == whole.weights_sha256


def test_a_list_of_shards_cannot_point_out_of_the_folder(broken_copy):
    (broken_copy / "model.safetensors").rename(broken_copy.parent / "outside.safetensors")
    index = {"weight_map": {"gpt_neox.embed_in.weight": "../outside.safetensors"}}
    (broken_copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="a weight_map from weights to files beside it"):
        load_model(str(broken_copy))


# --- A folder that lacks something -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, r"config\.json in .*, got none;"),
        ("{", r"config\.json of .* as JSON, got JSONDecodeError"),
        ("[]", "got no JSON object"),
        ("{}", "a model_type out of gpt_neox, gpt2, llama, got model_type None"),
        ('{"model_type": "foo"}', "an architecture out of gpt_neox, gpt2, llama, got 'foo'"),
    ],
)
def test_what_is_wrong_with_config_json_is_told(broken_copy, content, told):
    path = broken_copy / "config.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=told):
        load_model(str(broken_copy))


def test_an_empty_folder_is_called_that(tmp_path):
    with pytest.raises(InputError, match=r"config\.json in .*, got an empty folder"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("removed", [["tokenizer.json"], ["tokenizer.json", "tokenizer_config.json"]])
def test_a_missing_tokenizer_is_told_by_name(tied_folder, removed):
    folder = tied_folder("gpt2")  # of which family the library makes an empty tokenizer up
    for name in removed:
        (folder / name).unlink()
    with pytest.raises(InputError, match=r"a tokenizer in .*, got no tokenizer\.json"):
        load_model(str(folder))


def test_a_tokenizer_without_a_vocabulary_is_refused(tied_folder):
    folder = tied_folder("gpt2")
    settings = json.loads((folder / "tokenizer.json").read_text())
    settings["model"] = {**settings["model"], "vocab": {"<|endoftext|>": 0}, "merges": []}
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=r"a tokenizer of .* with a vocabulary, got an empty one"):
        load_model(str(folder))


def test_a_tokenizer_of_bytes_needs_no_file_with_a_vocabulary(make_model_folder):
    folder = make_model_folder(vocab_size=400)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    model = load_model(str(folder))
    assert model.tokenizer("fox", add_special_tokens=False)["input_ids"] == [ord(letter) + 3 for letter in "fox"]
