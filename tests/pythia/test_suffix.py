"""The suffix computation against an independent oracle: the whole Hugging Face model, hooked, once per direction."""

import contextlib
import dataclasses
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pythia.architectures import adapt
from pythia.loading import LanguageModel, load_model
from pythia.one_block import OneBlock
from pythia.readout import LanguageModelReadout
from sensverify import formulas
from sensverify.errors import InputError
from sensverify.geometry import presence
from sensverify.interventions import set_presence
from sensverify.planes import Plane, read_moved
from sensverify.scoring import angular_distance
from sensverify.sensitivity import effects

transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5  # relative, float32


KINDS = ("gpt_neox", "gpt2", "llama")


def random_model(
    kind="gpt_neox", *, heads=4, groups=None, depth=4, rotary=0.25, parallel=True, bias=True, seed=0, dtype=None
) -> LanguageModel:
    """A small network of one of the three families with weights so large that every part of it matters."""
    if kind == "gpt_neox":
        config = transformers.GPTNeoXConfig(
            vocab_size=60, hidden_size=32, num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=48,
            max_position_embeddings=64, use_parallel_residual=parallel, attention_bias=bias,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": rotary},
        )  # fmt: skip
    elif kind == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=60, n_embd=32, n_layer=depth, n_head=heads, n_inner=48, n_positions=64,
            scale_attn_by_inverse_layer_idx=bias,
        )  # fmt: skip
    else:
        config = transformers.LlamaConfig(
            vocab_size=60, hidden_size=32, num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=48,
            num_key_value_heads=groups or heads, head_dim=10, max_position_embeddings=64, attention_bias=bias,
            mlp_bias=bias,
            rope_parameters={"rope_type": "llama3", "rope_theta": 1000.0, "factor": 4.0, "low_freq_factor": 1.0,
                             "high_freq_factor": 4.0, "original_max_position_embeddings": 16},
        )  # fmt: skip
    torch.manual_seed(seed)
    network = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter) + (parameter.ndim == 1) * parameter)

    class Tokenizer:
        bos_token_id = None

    network = network.to(dtype or torch.float32)
    return LanguageModel("random", None, network.eval().requires_grad_(False), Tokenizer(), "0" * 64)


def layers_of(network):
    """The blocks, found without the adapters that are tested here."""
    return {
        "gpt_neox": lambda: network.gpt_neox.layers,
        "gpt2": lambda: network.transformer.h,
        "llama": lambda: network.model.layers,
    }[network.config.model_type]()


def hooked_forward(model, windows, positions, x, *, layer, target, offset):
    """``[S, B, d]`` by running the full model once per direction with the residual replaced."""
    rows = torch.arange(len(windows))
    layers = layers_of(model.network)
    results = []
    for replacement in x:
        kept = {}

        def replace(_module, _inputs, output, replacement=replacement):
            changed = output.clone()
            changed[rows, positions] = replacement
            return changed

        def keep(_module, _inputs, output, kept=kept):
            kept["y"] = output

        handles = [
            layers[layer].register_forward_hook(replace),
            layers[target].register_forward_hook(keep),
        ]
        model.network(windows)
        for handle in handles:
            handle.remove()
        results.append(kept["y"][rows, positions + offset])
    return torch.stack(results)


def relative_error(ours, theirs):
    return float(((ours - theirs).norm() / theirs.norm()).detach())


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_suffix_equals_the_full_forward_and_its_gradient(data):
    depth = data.draw(st.integers(2, 5), label="depth")
    layer = data.draw(st.integers(0, depth - 2), label="layer")
    target = data.draw(st.integers(layer + 1, depth - 1), label="target")
    offset = data.draw(st.integers(0, 5), label="offset")
    kind = data.draw(st.sampled_from(KINDS), label="kind")
    heads, groups = data.draw(st.sampled_from([(1, 1), (2, 1), (4, 2), (4, 4)]), label="heads, groups")
    model = random_model(
        kind,
        depth=depth,
        heads=heads,
        groups=groups,
        rotary=data.draw(st.sampled_from([0.25, 0.5, 1.0]), label="rotary"),
        parallel=data.draw(st.booleans(), label="parallel residual"),
        bias=data.draw(st.booleans(), label="bias"),
        seed=data.draw(st.integers(0, 999), label="seed"),
    )
    windows = torch.randint(60, (5, 14))
    readout = LanguageModelReadout(model, windows, layer=layer, target=target, offset=offset)
    positions = torch.tensor([0, 1, 4, 7, 13 - offset])
    batch = readout.at(torch.arange(5), positions)
    x = torch.randn(3, 5, 32, requires_grad=True)
    twin = x.detach().clone().requires_grad_()

    ours = readout.read(batch, x)
    theirs = hooked_forward(model, windows, positions, twin, layer=layer, target=target, offset=offset)
    assert relative_error(ours, theirs) < TOLERANCE

    cotangent = torch.randn_like(theirs)
    (our_gradient,) = torch.autograd.grad(ours, x, cotangent)
    (their_gradient,) = torch.autograd.grad(theirs, twin, cotangent)
    assert relative_error(our_gradient, their_gradient) < TOLERANCE


@pytest.mark.parametrize(("layer", "target", "offset"), [(2, 3, 1), (0, 5, 3), (3, 4, 0)])
def test_embedded_model_has_parity_too(layer, target, offset):
    model = load_model()
    windows = torch.randint(1, 500, (4, 40), generator=torch.Generator().manual_seed(0))
    readout = LanguageModelReadout(model, windows, layer=layer, target=target, offset=offset)
    positions = torch.tensor([0, 5, 20, 39 - offset])
    batch = readout.at(torch.arange(4), positions)
    scale = batch.x.norm(dim=-1, keepdim=True) / 32**0.5
    x = batch.x + scale * torch.randn(2, 4, model.width, generator=torch.Generator().manual_seed(1))
    theirs = hooked_forward(model, windows, positions, x, layer=layer, target=target, offset=offset)
    assert relative_error(readout.read(batch, x), theirs) < TOLERANCE


def test_untouched_activations_read_as_the_clean_run():
    model = random_model()
    readout = LanguageModelReadout(model, torch.randint(60, (6, 12)), layer=0, target=3, offset=2)
    batch = readout.sample(6, torch.Generator().manual_seed(0))
    assert relative_error(readout.read(batch, batch.x[None])[0], readout.clean(batch)) < TOLERANCE


def test_parity_test_would_notice_a_missing_rotation():
    """The oracle is only worth something if a plausible mistake fails it."""
    model = random_model()
    windows, positions = torch.randint(60, (4, 12)), torch.tensor([2, 4, 6, 8])
    readout = LanguageModelReadout(model, windows, layer=0, target=2, offset=1)
    batch = readout.at(torch.arange(4), positions)
    shifted = dataclasses.replace(batch.state, positions=batch.state.positions + 1)
    x = torch.randn(1, 4, 32)
    theirs = hooked_forward(model, windows, positions, x, layer=0, target=2, offset=1)
    assert relative_error(readout._suffix.read(shifted, x), theirs) > 100 * TOLERANCE


def test_sampled_positions_avoid_bos_and_leave_room_for_the_offset():
    readout = LanguageModelReadout(
        random_model(), torch.randint(60, (9, 12)), layer=0, target=1, offset=4, first_position=1
    )
    positions = readout.sample(500, torch.Generator().manual_seed(0)).state.positions
    assert set(positions.tolist()) == set(range(1, 8))


def test_a_sample_no_larger_than_the_corpus_repeats_no_window():
    windows = torch.arange(40)[:, None].expand(40, 12) % 60
    readout = LanguageModelReadout(random_model(), windows, layer=0, target=1, offset=0, first_position=1)
    batch = readout.sample(40, torch.Generator().manual_seed(0))
    assert len(torch.unique(batch.x, dim=0)) == 40


@pytest.mark.parametrize(
    ("site", "message"),
    [
        ({"layer": 3, "target": 4, "offset": 0}, "a layer from 0 to 2"),
        ({"layer": -1, "target": 1, "offset": 0}, "a layer from 0 to 2"),
        ({"layer": 1, "target": 1, "offset": 0}, "a target from 2 to 3"),
        ({"layer": 1, "target": 4, "offset": 0}, "a target from 2 to 3"),
        ({"layer": 0, "target": 1, "offset": -1}, "an offset of 0 or more"),
        ({"layer": 0, "target": 1, "offset": 12}, "an offset from 0 to 11"),
    ],
)
def test_a_site_outside_the_model_is_refused(site, message):
    with pytest.raises(InputError, match=message):
        LanguageModelReadout(random_model(), torch.randint(60, (9, 12)), **site)


# --- Interventions by their coordinates -------------------------------------------------------------------------------


@contextlib.contextmanager
def softmax_as_precise_as_its_input():
    """Hugging Face takes every softmax in float32, whatever the dtype: too coarse for an oracle in float64."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "softmax", lambda x, dim=-1, dtype=None: torch.softmax(x, dim))
        yield


def judged_by_hooks(model, windows, positions, directions, alpha, clean, x, **site):
    """Angular distances ``[S, B]`` through the whole network, every direction by itself."""
    moved = set_presence(x, directions, alpha, adapt(model.network).centring)
    theirs = hooked_forward(model, windows, positions, moved, **site)
    return formulas.angular_distance(clean.expand_as(theirs), theirs)[..., 0]


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_effects_and_their_gradients_are_those_of_the_full_forward(data):
    """In float64, whatever way the engine takes: long, by coordinates, or in closed form."""
    depth = data.draw(st.integers(2, 4), label="depth")
    layer = data.draw(st.integers(0, depth - 2), label="layer")
    site = {
        "layer": layer,
        "target": data.draw(st.integers(layer + 1, depth - 1), label="target"),
        "offset": data.draw(st.integers(0, 4), label="offset"),
    }
    kind = data.draw(st.sampled_from(("gpt_neox", "gpt2")), label="kind")  # Llama's norm computes in float32
    parallel, bias = data.draw(st.booleans(), label="parallel"), data.draw(st.booleans(), label="bias")
    model = random_model(
        kind,
        depth=depth,
        heads=data.draw(st.sampled_from([1, 2, 4]), label="heads"),
        parallel=parallel,
        bias=bias,
        seed=data.draw(st.integers(0, 999), label="seed"),
        dtype=torch.float64,
    )
    windows = torch.randint(60, (5, 14))
    with softmax_as_precise_as_its_input():
        readout = LanguageModelReadout(model, windows, **site)
        positions = torch.tensor([0, 1, 4, 7, 13 - site["offset"]])
        batch = readout.at(torch.arange(5), positions)
        directions = torch.randn(4, 32, dtype=torch.float64)
        directions[1] = batch.x[1] + 1e-3 * directions[1]  # too nearly parallel for coordinates
        alpha = torch.rand(4, 5, dtype=torch.float64) * 2 - 1
        mine, twin = (directions.clone().requires_grad_() for _ in range(2))
        clean = readout.clean(batch)
        ours = effects(readout, batch, clean, mine, alpha)
        theirs = judged_by_hooks(model, windows, positions, twin, alpha, clean, batch.x, **site)
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=0)
        cotangent = torch.rand_like(theirs)
        (our_gradient,) = torch.autograd.grad(ours, mine, cotangent)
        (their_gradient,) = torch.autograd.grad(theirs, twin, cotangent)
        for one, other in zip(our_gradient, their_gradient, strict=True):
            assert relative_error(one, other) < 1e-7


def one_block_later(**options):
    model = random_model(**options)
    windows = torch.randint(60, (6, 14), generator=torch.Generator().manual_seed(0))
    readout = LanguageModelReadout(model, windows, layer=1, target=2, offset=2)
    batch = readout.at(torch.arange(6), torch.tensor([0, 1, 3, 5, 8, 11]))
    return readout, batch, torch.randn(5, 32, generator=torch.Generator().manual_seed(1))


def test_the_closed_form_is_taken_where_there_is_one():
    for options, closed in (({}, True), ({"parallel": False}, False), ({"kind": "gpt2"}, False)):
        readout, batch, directions = one_block_later(**options)
        coordinates = Plane(batch.x, directions, readout.centring).coordinates(torch.tensor(0.5))
        assert (readout.read_angles(batch, directions, *coordinates) is not None) == closed


@pytest.mark.parametrize("many", [1, 40])
def test_folding_the_query_into_the_key_projection_changes_nothing(monkeypatch, many):
    readout, batch, _ = one_block_later(dtype=torch.float64)
    directions = torch.randn(many, 32, dtype=torch.float64)
    found = []
    for folds in (False, True):
        monkeypatch.setattr(OneBlock, "_folds", lambda *_, folds=folds: folds)
        leaf = directions.clone().requires_grad_()
        distances = effects(readout, batch, readout.clean(batch), leaf, torch.full((6,), 0.3))
        found.append((distances.detach(), *torch.autograd.grad(distances.sum(), leaf)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-14)


def test_tiny_effects_keep_their_digits_in_float32():
    """A step of a ten-thousandth: distances of 1e-12 and less, far below what ``1 − cos`` can tell from 0."""
    readout, batch, directions = one_block_later()
    exact, batch_exact, _ = one_block_later(dtype=torch.float64)
    alpha = presence(batch.x, directions, readout.centring) + 1e-4
    ours = effects(readout, batch, readout.clean(batch), directions, alpha)
    theirs = effects(exact, batch_exact, exact.clean(batch_exact), directions.double(), alpha.double())
    assert 0 < float(theirs.max()) < 1e-9
    assert relative_error(ours.double(), theirs) < 5e-3  # the step itself has lost three of its seven digits


def test_large_logits_neither_overflow_nor_vanish():
    """Attention that is certain before and after, of the position or of any other."""
    model = random_model(dtype=torch.float64)
    for layer in layers_of(model.network):
        layer.attention.query_key_value.weight.mul_(30.0)
    again = LanguageModelReadout(model, torch.randint(60, (6, 14)), layer=1, target=2, offset=2)
    batch = again.at(torch.arange(6), torch.tensor([0, 1, 3, 5, 8, 11]))
    directions = torch.randn(5, 32)
    leaf = directions.double().requires_grad_()
    distances = effects(again, batch, again.clean(batch), leaf, torch.full((6,), 0.9))
    (gradient,) = torch.autograd.grad(distances.sum(), leaf)
    assert bool(torch.isfinite(gradient).all())
    (moved,) = read_moved(again, batch, directions.double(), [torch.full((6,), 0.9)])
    torch.testing.assert_close(distances.detach(), angular_distance(again.clean(batch), moved), rtol=1e-7, atol=1e-15)


@pytest.mark.parametrize("part", ["log_odds", "forms", "squares", "along_clean", "queries", "logits", "rate", "length"])
def test_every_part_of_the_closed_form_matters(part):
    """The parity above is only worth something if a wrong part fails it."""
    readout, batch, directions = one_block_later(dtype=torch.float64)
    clean, alpha = readout.clean(batch), torch.full((6,), 0.5)
    right = effects(readout, batch, clean, directions.double(), alpha)
    context = batch.state.one_block
    wrong = {part: getattr(context, part) * 1.01}
    state = dataclasses.replace(batch.state, one_block=dataclasses.replace(context, **wrong))
    other = effects(readout, dataclasses.replace(batch, state=state), clean, directions.double(), alpha)
    assert relative_error(other, right) > 1e-4


@pytest.mark.parametrize("sine", [0.02, 0.1, 0.2, 0.3, 0.5])
def test_directions_near_an_activation_keep_their_digits(sine):
    """There the closed form would lose twice the digits that a read loses."""
    readout, batch, directions = one_block_later()
    exact, batch_exact, _ = one_block_later(dtype=torch.float64)
    x = readout.centring.project(batch_exact.x)[0]
    x = x / x.norm()
    across = readout.centring.project(directions.double())
    across = across - (across @ x)[:, None] * x
    near = math.sqrt(1 - sine**2) * x + sine * across / across.norm(dim=1, keepdim=True)
    alpha = torch.full((len(batch),), 0.5)
    ours = effects(readout, batch, readout.clean(batch), near.float(), alpha)
    theirs = effects(exact, batch_exact, exact.clean(batch_exact), near.float().double(), alpha.double())
    assert relative_error(ours[:, :1].double(), theirs[:, :1]) < 5e-5
