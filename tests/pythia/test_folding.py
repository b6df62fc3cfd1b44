"""Folded weights against the network's own forward pass, as the library that defines it computes it."""

import copy

import pytest
import torch

from pythia import folding
from pythia.folding import difference, fold_norms
from pythia.loading import LanguageModel
from pythia.next_token import NextTokenReadout
from pythia.readout import LanguageModelReadout
from pythia.weights import weights_digest
from sensverify.errors import InputError
from sensverify.geometry import Centring, presence, random_directions

transformers = pytest.importorskip("transformers")

SIZES = {"vocab_size": 50, "max_position_embeddings": 32}
KINDS = ["gpt_neox, parallel", "gpt_neox, sequential", "gpt2, tied", "gpt2, untied", "llama, tied", "llama, untied"]


def random_network(kind):
    """A network of this kind whose gains and shifts are far from 1 and 0, in float32."""
    name, variant = kind.split(", ")
    torch.manual_seed(3)
    if name == "gpt_neox":
        shape = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
        config = transformers.GPTNeoXConfig(**SIZES, **shape, use_parallel_residual=variant == "parallel")
        network = transformers.GPTNeoXForCausalLM(config)
    elif name == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=50, n_positions=32, n_embd=32, n_layer=3, n_head=4, tie_word_embeddings=variant == "tied"
        )
        network = transformers.GPT2LMHeadModel(config)
    else:
        shape = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
        config = transformers.LlamaConfig(
            **SIZES, **shape, num_key_value_heads=2, tie_word_embeddings=variant == "tied"
        )
        network = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(5.0) if parameter.ndim > 1 else parameter.add_(0.5 * torch.randn_like(parameter))
    config._attn_implementation = "eager"
    return network.eval().requires_grad_(False)


def tokens(count=5, length=12):
    return torch.randint(50, (count, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_folded_network_has_the_same_logits(kind):
    network = random_network(kind)
    theirs = network.double()(tokens()).logits
    folded = fold_norms(network, "it")
    assert torch.allclose(network(tokens()).logits, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))
    assert folded.parity < 1e-6
    assert folded.writes_centred == (not kind.startswith("llama"))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_in_the_norms(kind):
    network = random_network(kind)
    fold_norms(network, "it")
    norms = [module for module in network.modules() if "Norm" in type(module).__name__]
    assert len(norms) == 7
    for norm in norms:
        assert (norm.weight == 1).all()
        assert not torch.any(getattr(norm, "bias", torch.zeros(1)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_residual_stream_changes_by_its_mean_alone_and_presence_does_not(kind):
    raw = random_network(kind).double()
    network = copy.deepcopy(raw)
    folded = fold_norms(network, "it")
    # Of Llama and GPT-NeoX the library's last hidden state is behind the final norm: the streams between are compared.
    streams = [one(tokens(), output_hidden_states=True).hidden_states[:-1] for one in (raw, network)]
    centring = Centring.MEAN if folded.writes_centred else Centring.NONE
    directions = random_directions(8, 32, centring, torch.Generator().manual_seed(0)).double()
    for before, after in zip(*streams, strict=True):
        assert torch.allclose(centring.project(before), after, atol=1e-6 * float(before.abs().max()))
        flat = [presence(x.flatten(0, 1), directions, centring) for x in (before, after)]
        assert torch.allclose(*flat, atol=1e-6)


@pytest.mark.parametrize("kind", ["gpt2, tied", "llama, tied"])
def test_tied_weights_are_parted_before_the_final_gain_goes_into_the_unembedding(kind):
    network = random_network(kind)
    embedding = network.get_input_embeddings().weight.clone()
    fold_norms(network, "it")
    centred = kind.startswith("gpt2")
    kept = embedding - embedding.mean(1, keepdim=True) if centred else embedding
    assert torch.allclose(network.get_input_embeddings().weight, kept.double(), atol=1e-6)
    assert not torch.allclose(network.get_output_embeddings().weight, kept.double(), atol=1e-2)


def without_shifts(norm, maps):
    for one in maps:
        folding._rows(one).mul_(norm.weight)
    norm.weight.data.fill_(1.0)
    if getattr(norm, "bias", None) is not None:
        norm.bias.data.zero_()


def plan_without_gates(network):
    plan = folding._llama(network)
    readers = [(norm, [one for one in maps if one not in gates(network)]) for norm, maps in plan.readers]
    return folding.Plan(readers=readers, writers=(), centred=False)


def gates(network):
    return [layer.mlp.gate_proj for layer in network.model.layers]


def plan_that_centres(network):
    return folding.Plan(readers=folding._llama(network).readers, writers=[network.model.embed_tokens], centred=True)


MISTAKES = {
    "the shifts are forgotten": ("gpt_neox, parallel", "_fold", without_shifts),
    "the gain goes into a tied embedding": ("gpt2, tied", "_untie", lambda network: None),
    "a map behind a norm is forgotten": ("llama, untied", "_PLANS", {"llama": plan_without_gates}),
    "an RMSNorm, which sees the mean, loses it": ("llama, untied", "_PLANS", {"llama": plan_that_centres}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_folding_is_refused(monkeypatch, mistake):
    kind, name, wrong = MISTAKES[mistake]
    monkeypatch.setattr(folding, name, wrong)
    with pytest.raises(InputError, match=r"the same logits.*remedy: pass --weights raw"):
        fold_norms(random_network(kind), "it")


def test_difference_is_a_share_of_the_spread():
    before = torch.tensor([[1.0, 2.0, 9.0]])
    assert difference(before, before) == 0
    assert difference(before, before + torch.tensor([0.0, 0.5, 0.0])) == pytest.approx(0.1)


@pytest.mark.parametrize("kind", ["gpt_neox, parallel", "gpt2, tied", "llama, untied"])
def test_the_engine_reads_folded_weights_as_it_reads_raw_ones(kind):
    networks = [random_network(kind), random_network(kind)]
    fold_norms(networks[1], "it")
    models = [LanguageModel("random", None, network.double(), None, weights_digest(network)) for network in networks]
    centring = models[0].architecture.centring
    x = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    rows, positions = torch.arange(7) % 5, torch.arange(7) % 9
    outputs, moved = [], []
    for model in models:
        readout = LanguageModelReadout(model, tokens(), layer=0, target=1, offset=2)
        batch = readout.at(rows, positions)
        outputs.append(centring.project(readout.read(batch, x)))
        last = NextTokenReadout(model, tokens(), layer=0, offset=1)
        batch = last.at(rows, positions)
        moved.append(last.distance(last.clean(batch), last.read(batch, x)))
    assert torch.allclose(*outputs, rtol=1e-5, atol=1e-6)
    assert float(moved[0].min()) > 0
    assert torch.allclose(*moved, rtol=1e-4, atol=1e-7)
