"""The suffix computation against an independent oracle: the whole Hugging Face model, hooked, once per direction."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pythia.loading import LanguageModel, load_model
from pythia.readout import LanguageModelReadout
from sensverify.errors import InputError

transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5  # relative, float32


def random_model(*, heads=4, depth=4, rotary=0.25, parallel=True, seed=0) -> LanguageModel:
    config = transformers.GPTNeoXConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=48,
        max_position_embeddings=64, use_parallel_residual=parallel,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": rotary},
    )  # fmt: skip
    torch.manual_seed(seed)
    network = transformers.GPTNeoXForCausalLM._from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter) + (parameter.ndim == 1) * parameter)

    class Tokenizer:
        bos_token_id = None

    return LanguageModel("random", None, network.eval().requires_grad_(False), Tokenizer(), "0" * 64)


def hooked_forward(model, windows, positions, x, *, layer, target, offset):
    """``[S, B, d]`` by running the full model once per direction with the residual replaced."""
    rows = torch.arange(len(windows))
    layers = model.network.gpt_neox.layers
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
    model = random_model(
        depth=depth,
        heads=data.draw(st.sampled_from([1, 2, 4]), label="heads"),
        rotary=data.draw(st.sampled_from([0.25, 0.5, 1.0]), label="rotary"),
        parallel=data.draw(st.booleans(), label="parallel residual"),
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
    shifted = type(batch.state)(
        positions=batch.state.positions + 1,
        residuals=batch.state.residuals,
        target=batch.state.target,
        blocks=batch.state.blocks,
    )
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
