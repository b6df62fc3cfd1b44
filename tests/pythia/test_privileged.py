"""Neurons and logits of interventions against an independent oracle: the whole Hugging Face model, hooked at its own
modules, once per direction."""

import pytest
import torch

from pythia.loading import LanguageModel
from pythia.positions import Allowed
from pythia.privileged import LogitReadout, NeuronReadout, tokens_of
from pythia.site import open_site
from sensverify import selectivity
from sensverify.claims import Subject
from sensverify.cli import run as command
from sensverify.directions import load_directions
from sensverify.discovery import SearchOptions, search
from sensverify.errors import InputError
from sensverify.geometry import random_directions
from sensverify.interventions import set_presence
from sensverify.planes import is_planar, read_moved
from sensverify.scoring import angular_distance
from sensverify.sensitivity import Probe
from sensverify.sites import SiteOptions

transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5  # relative, float32
VOCABULARY, WIDTH, NEURONS, DEPTH = 97, 32, 48, 4
KINDS = ("gpt_neox", "gpt_neox sequential", "gpt2", "llama")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def random_model(kind, *, tied=False, depth=DEPTH):
    """A small network of one of the three families with weights so large that every part of it matters."""
    common = {"vocab_size": VOCABULARY, "tie_word_embeddings": tied}
    stream = {"hidden_size": WIDTH, "num_hidden_layers": depth, "num_attention_heads": 4, "intermediate_size": NEURONS}
    name, _, sequential = kind.partition(" ")
    config = {
        "gpt_neox": lambda: transformers.GPTNeoXConfig(
            **common, **stream, max_position_embeddings=64, use_parallel_residual=not sequential
        ),
        "gpt2": lambda: transformers.GPT2Config(
            **common, n_embd=WIDTH, n_layer=depth, n_head=4, n_inner=NEURONS, n_positions=64
        ),
        "llama": lambda: transformers.LlamaConfig(**common, **stream, num_key_value_heads=2),
    }[name]()
    torch.manual_seed(0)
    network = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter) + (parameter.ndim == 1) * parameter)
    return LanguageModel("random", None, network.eval().requires_grad_(False), None, "0" * 64)


def layers_of(network):
    return {
        "gpt_neox": lambda: network.gpt_neox.layers,
        "gpt2": lambda: network.transformer.h,
        "llama": lambda: network.model.layers,
    }[network.config.model_type]()


def output_map(layer, kind):
    """The module that neurons are the input of."""
    return {"gpt_neox": "dense_4h_to_h", "gpt2": "c_proj", "llama": "down_proj"}[kind], layer.mlp


def hooked(model, windows, positions, x, *, layer, offset, block=None):
    """Neurons of ``block`` at ``p + offset``, or logits, ``[S, B, n]``: the full model once per direction with the
    residual stream replaced."""
    network, rows, results = model.network, torch.arange(len(windows)), []
    for replacement in x:
        kept = {}

        def replace(_module, _inputs, output, replacement=replacement):
            changed = output.clone()
            changed[rows, positions] = replacement
            return changed

        handles = [layers_of(network)[layer].register_forward_hook(replace)]
        if block is not None:
            name, mlp = output_map(layers_of(network)[block], network.config.model_type)
            handles.append(
                getattr(mlp, name).register_forward_pre_hook(lambda _m, inputs, kept=kept: kept.update(y=inputs[0]))
            )
        logits = network(windows).logits
        for handle in handles:
            handle.remove()
        results.append((logits if block is None else kept["y"])[rows, positions + offset])
    return torch.stack(results)


def relative_error(ours, theirs):
    return float(((ours - theirs).norm() / theirs.norm()).detach())


class Case:
    """One model at one site."""

    def __init__(self, kind, *, layer=0, target=1, offset=1, logits=False, tied=False):
        self.model, self.layer, self.offset = random_model(kind, tied=tied), layer, offset
        self.windows = torch.randint(VOCABULARY, (5, 14), generator=seeded(1))
        self.positions = torch.tensor([0, 1, 4, 7, 13 - offset])
        if logits:
            self.readout, self.block = LogitReadout(self.model, self.windows, layer=layer, offset=offset), None
        else:
            self.readout = NeuronReadout(self.model, self.windows, layer=layer, target=target, offset=offset)
            self.block = target + 1 if kind == "gpt_neox" else target
        self.batch = self.readout.at(torch.arange(5), self.positions)

    def theirs(self, x):
        site = {"layer": self.layer, "offset": self.offset, "block": self.block}
        return hooked(self.model, self.windows, self.positions, x, **site)

    def hooked_clean(self):
        return self.theirs(self.batch.x[None])[0]


def centred(logits):
    return logits - logits.mean(-1, keepdim=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("layer", "target", "offset"), [(0, 1, 1), (1, 2, 0), (0, 2, 3)])
def test_neurons_and_their_gradient_are_those_of_the_full_forward(kind, layer, target, offset):
    case = Case(kind, layer=layer, target=target, offset=offset)
    x = torch.randn(3, 5, WIDTH, generator=seeded(3)).requires_grad_()
    twin = x.detach().clone().requires_grad_()
    ours, theirs = case.readout.read(case.batch, x), case.theirs(twin)
    assert relative_error(ours, theirs) < TOLERANCE
    cotangent = torch.randn(theirs.shape, generator=seeded(4))
    (gradient,) = torch.autograd.grad(ours, x, cotangent)
    (their_gradient,) = torch.autograd.grad(theirs, twin, cotangent)
    assert relative_error(gradient, their_gradient) < TOLERANCE
    assert relative_error(case.readout.clean(case.batch), case.hooked_clean()) < TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_an_intervention_moves_neurons_one_block_and_one_token_later(kind):
    """In a parallel block the block's own neurons would not move: that is why the next one's are read."""
    case = Case(kind)
    moved = set_presence(case.batch.x, random_directions(3, WIDTH, case.readout.centring, seeded(5)), 0.5,
                         case.readout.centring)  # fmt: skip
    assert relative_error(case.readout.read(case.batch, moved), case.hooked_clean().expand(3, -1, -1)) > 1e-3
    if kind == "gpt_neox":
        own = {"layer": 0, "offset": 1, "block": 1}
        before, after = (
            hooked(case.model, case.windows, case.positions, x, **own) for x in (case.batch.x[None], moved)
        )
        assert relative_error(after, before.expand_as(after)) < 1e-6


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_parity_would_notice_the_neurons_of_another_block_or_the_wrong_end_of_a_gate(kind):
    case = Case(kind)
    x = torch.randn(2, 5, WIDTH, generator=seeded(3))
    ours = case.readout.read(case.batch, x)
    case.block += 1
    assert relative_error(ours, case.theirs(x)) > 100 * TOLERANCE
    if kind == "llama":
        block = case.model.architecture.blocks[1]
        seen = torch.randn(4, WIDTH, generator=seeded(6))
        swapped = block.mlp.activation(block.mlp_sees(seen)) * block.gate_sees(seen)
        assert relative_error(case.readout.units(seen), swapped) > 100 * TOLERANCE


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_full_forward_less_their_mean(kind, tied):
    case = Case(kind, logits=True, tied=tied)
    x = torch.randn(3, 5, WIDTH, generator=seeded(3))
    ours, theirs = case.readout.read(case.batch, x), case.theirs(x)
    assert relative_error(ours, centred(theirs)) < TOLERANCE
    assert relative_error(case.readout.clean(case.batch), centred(case.hooked_clean())) < TOLERANCE
    assert relative_error(ours.softmax(-1), theirs.softmax(-1)) < 10 * TOLERANCE


def test_logits_of_some_tokens_are_the_distribution_among_these():
    case = Case("gpt2", logits=True)
    tokens = torch.tensor([3, 17, 18, 60])
    readout = LogitReadout(case.model, case.windows, layer=0, offset=1, tokens=tokens)
    x = torch.randn(2, 5, WIDTH, generator=seeded(3))
    kept = case.theirs(x).softmax(-1)[..., tokens]
    batch = readout.at(torch.arange(5), case.positions)
    assert relative_error(readout.read(batch, x).softmax(-1), kept / kept.sum(-1, keepdim=True)) < 10 * TOLERANCE


def test_of_a_large_vocabulary_the_tokens_that_the_text_uses_most_are_read(monkeypatch):
    model = random_model("gpt2")
    assert tokens_of(model, torch.tensor([[1, 2]])).tolist() == list(range(VOCABULARY))
    monkeypatch.setattr("pythia.privileged.MOST_TOKENS", 3)
    windows = torch.tensor([[9, 9, 9, 5, 5, 70, 4, 70]])
    assert tokens_of(model, windows).tolist() == [5, 9, 70]
    assert tokens_of(model, torch.tensor([[8, 8, 2]])).tolist() == [2, 8]


@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_reading_by_planes_and_by_pairs_is_reading(kind, logits):
    case = Case(kind, logits=logits)
    readout, directions = case.readout, random_directions(3, WIDTH, case.readout.centring, seeded(2))
    directions[0] = case.batch.x[2]  # parallel to one activation: goes the long way
    alpha = torch.linspace(0.1, 0.8, 5)
    assert is_planar(readout)
    by_planes = read_moved(readout, case.batch, directions, [alpha])[0]
    moved = set_presence(case.batch.x, directions, alpha, readout.centring)
    assert relative_error(by_planes, readout.read(case.batch, moved)) < 10 * TOLERANCE
    contexts = torch.tensor([4, 0, 2])
    pairs = readout.read_pairs(case.batch, contexts, moved[1, contexts])
    assert relative_error(pairs, readout.read(case.batch, moved)[1, contexts]) < TOLERANCE


def test_a_rotation_keeps_lengths_and_angles_and_spreads_single_units():
    case = Case("gpt2")
    readout, turned = case.readout, case.readout.rotated(0)
    batch = turned.at(torch.arange(5), case.positions)
    assert readout.privileged
    assert not turned.privileged
    assert turned.rotated(0, claims_privilege=True).privileged
    x = torch.randn(3, 5, WIDTH, generator=seeded(3))
    straight, rotated = readout.read(case.batch, x), turned.read(batch, x)
    assert relative_error(rotated.norm(dim=-1), straight.norm(dim=-1)) < TOLERANCE
    angles = angular_distance(readout.clean(case.batch), straight)
    assert relative_error(angular_distance(turned.clean(batch), rotated), angles) < TOLERANCE
    units = turned._turn(torch.eye(NEURONS))
    assert torch.allclose(units @ units.T, torch.eye(NEURONS), atol=1e-5)
    assert float(units.pow(4).sum(1).max()) <= 1.5 / NEURONS + 1e-6  # an effect on one unit is on all of them
    assert not torch.equal(turned._signs, readout.rotated(1)._signs)
    with pytest.raises(InputError, match="privileged"):
        selectivity.estimate_on(turned, batch, x[:, 0], generator=seeded(0))


def test_untouched_activations_read_as_the_clean_run():
    for kind in KINDS:
        for logits in (True, False):
            case = Case(kind, logits=logits)
            same = case.readout.read(case.batch, case.batch.x[None])[0]
            assert relative_error(same, case.readout.clean(case.batch)) < TOLERANCE


def test_neurons_behind_the_last_parallel_block_are_refused_and_those_of_a_sequential_one_are_not():
    windows = torch.randint(VOCABULARY, (4, 12), generator=seeded(0))
    with pytest.raises(InputError, match="a target below 3, the last block"):
        NeuronReadout(random_model("gpt_neox"), windows, layer=0, target=3, offset=1)
    last = NeuronReadout(random_model("gpt2"), windows, layer=0, target=3, offset=1)
    assert last.describe()["read_hook_name"] == "blocks.3.mlp.hook_post"
    with pytest.raises(InputError, match="the last block, 3, as target"):
        LogitReadout(random_model("gpt2"), windows, layer=0, target=1, offset=1)


def test_positions_that_are_not_allowed_are_not_drawn():
    windows = torch.randint(VOCABULARY, (6, 12), generator=seeded(0))
    real = torch.arange(12).expand(6, 12) < 5
    for kind in (NeuronReadout, LogitReadout):
        target = {"target": 1} if kind is NeuronReadout else {}
        readout = kind(random_model("llama"), windows, layer=0, offset=1, allowed=Allowed(real=real), **target)
        assert int(readout.sample(60, seeded(1)).state.positions.max()) <= 3


@pytest.mark.parametrize("score", ["plain", "selective", "peak"])
def test_a_search_on_neurons_raises_what_it_maximises(score):
    windows = torch.randint(VOCABULARY, (40, 12), generator=seeded(0))
    readout = NeuronReadout(random_model("llama"), windows, layer=0, target=1, offset=1)
    probe = Probe(reference="absent")
    options = SearchOptions(directions=3, steps=30, contexts=24, score=score, probe=probe)
    state = search(readout, options)
    assert sum(state.history[-5:]) / 5 > 1.3 * state.history[0]


def test_discover_records_readout_and_score_and_score_reads_them_back(tiny_model_folder, tiny_text, tmp_path, capsys):
    about = ["--model", str(tiny_model_folder), "--text", str(tiny_text), "--context", "16"]
    site = ["--layer", "0", "--target", "1", "--readout", "neurons", "--score", "peak", "--reference", "absent"]
    small = ["--directions", "3", "--steps", "4", "--contexts", "8", "--out", str(tmp_path)]
    assert command(["discover", *about, *site, *small]) == 0
    config = load_directions(tmp_path).config
    assert (config["readout"], config["search"]["score"], config["units"]) == ("neurons", "peak", 64)
    assert config["read_hook_name"] == "blocks.2.mlp.hook_post"
    found = capsys.readouterr().out
    assert "peak sensitivity, from presence 0" in " ".join(found.split())
    assert command(["score", str(tmp_path), *about]) == 0
    assert table(capsys.readouterr().out) == table(found)  # read back: the same figures
    assert command(["score", str(tmp_path), *about, "--score", "selective"]) == 0
    assert "concentration of effects" in " ".join(capsys.readouterr().out.split())
    assert command(["score", str(tmp_path), *about, "--readout", "residual"]) == 2
    assert "privileged basis" in capsys.readouterr().err


def table(text):
    return [line for line in text.splitlines() if "│" in line]


def test_selective_scores_are_refused_on_the_residual_stream(tiny_model_folder, tiny_text, tmp_path, capsys):
    about = [
        "--model",
        str(tiny_model_folder),
        "--text",
        str(tiny_text),
        "--context",
        "16",
        "--out",
        str(tmp_path / "o"),
    ]
    assert command(["discover", *about, "--layer", "0", "--target", "1", "--score", "selective"]) == 2
    assert "privileged basis" in capsys.readouterr().err


def test_search_and_held_out_windows_read_the_same_tokens(tiny_model_folder, tiny_text, monkeypatch):
    monkeypatch.setattr("pythia.privileged.MOST_TOKENS", 20)
    subject = Subject(model=str(tiny_model_folder), text=tiny_text)
    options = SiteOptions(layer=0, target=3, offset=1, context=16, limit=24, readout="logits")
    place = open_site(subject, options)
    assert torch.equal(place.search.tokens, place.held_out.tokens)
    assert place.description["units"] == 20
    assert place.description["readout"] == "logits"
