"""The toy transformer against two oracles: the Hugging Face model on the same weights, and the full forward pass."""

import json

import pytest
import safetensors.torch
import torch

from sensverify.errors import InputError
from toy_models.planting import neox_config, neox_weights
from toy_models.transformer import Attention, Block, Linear, Mlp, Norm, Transformer, TransformerReadout

TOLERANCE = 1e-5
PARTS = ("both", "attention", "mlp", "neither")


def random_transformer(parts=("both",) * 3, *, heads=2, width=16, units=24, vocabulary=30, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return 0.4 * torch.randn(*shape, generator=generator)

    def linear(rows, columns):
        return Linear(normal(rows, columns), normal(rows))

    def norm():
        return Norm(1 + normal(width), normal(width))

    blocks = tuple(
        Block(
            norm(),
            norm(),
            Attention(*(linear(width, width) for _ in range(4))) if part in ("both", "attention") else None,
            Mlp(linear(units, width), linear(width, units)) if part in ("both", "mlp") else None,
        )
        for part in parts
    )
    return Transformer(normal(vocabulary, width) * 2, blocks, norm(), normal(vocabulary, width), heads=heads)


def some_tokens(count=5, length=9):
    return torch.randint(30, (count, length), generator=torch.Generator().manual_seed(1))


def relative_error(ours, theirs):
    return float(((ours - theirs).norm() / theirs.norm()).detach())


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_the_forward_pass_is_that_of_gpt_neox(tmp_path, heads):
    transformers = pytest.importorskip("transformers")
    model = random_transformer(("both", "attention", "mlp", "neither"), heads=heads)
    (tmp_path / "config.json").write_text(json.dumps(neox_config(model)))
    safetensors.torch.save_file(neox_weights(model), tmp_path / "model.safetensors", metadata={"format": "pt"})
    network = transformers.GPTNeoXForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    tokens = some_tokens()
    with torch.no_grad():
        theirs = network(tokens, output_hidden_states=True)
    assert relative_error(model.logits(tokens), theirs.logits) < TOLERANCE
    for ours, stream in zip(model.residuals(tokens)[:-1], theirs.hidden_states[1:-1], strict=True):
        assert relative_error(ours, stream) < TOLERANCE


def full_forward_from(model, layer, stream):
    """Every block after ``layer`` on a whole stream ``[N, L, d]``, through the model's own embedding."""
    rest = Transformer(
        stream.flatten(0, 1), model.blocks[layer + 1 :], model.final_norm, model.unembedding, model.heads
    )
    return rest.residuals.__wrapped__(rest, torch.arange(stream[..., 0].numel()).view(stream.shape[:2]))


@pytest.mark.parametrize("parts", [("both",) * 4, ("neither", "attention", "mlp", "both"), ("mlp", "attention") * 2])
@pytest.mark.parametrize(("layer", "target", "offset"), [(0, 1, 1), (0, 3, 2), (1, 3, 0), (0, 2, 3)])
def test_recomputing_what_is_reached_equals_recomputing_everything(parts, layer, target, offset):
    model, tokens = random_transformer(parts), some_tokens()
    readout = TransformerReadout(model, tokens, layer=layer, target=target, offset=offset)
    positions = torch.tensor([0, 1, 3, 4, 8 - offset])
    rows = torch.arange(5)
    batch = readout.at(rows, positions)
    x = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(2)).requires_grad_()
    ours = readout.read(batch, x)
    whole = []
    for replacement in x:
        stream = model.residuals(tokens)[layer].index_put((rows, positions), replacement)
        whole.append(full_forward_from(model, layer, stream)[target - layer - 1][rows, positions + offset])
    theirs = torch.stack(whole)
    assert relative_error(ours, theirs) < TOLERANCE
    if not theirs.requires_grad or float((theirs[0] - theirs[1]).detach().abs().max()) == 0:
        return  # nothing reaches that position
    cotangent = torch.randn_like(theirs)
    (our_gradient,) = torch.autograd.grad(ours, x, cotangent, retain_graph=True)
    (their_gradient,) = torch.autograd.grad(theirs, x, cotangent)
    assert relative_error(our_gradient, their_gradient) < TOLERANCE


def test_units_are_the_mlp_before_its_output():
    model, tokens = random_transformer(), some_tokens()
    site = {"layer": 0, "target": 2, "offset": 1}
    units, stream = (TransformerReadout(model, tokens, **site, units=flag) for flag in (True, False))
    rows, positions = torch.arange(5), torch.tensor([0, 2, 3, 5, 7])
    before = model.residuals(tokens)[1][rows, positions + 1]
    block = model.blocks[2]
    by_hand = torch.relu(block.norm_2(before) @ block.mlp.enter.weight.T + block.mlp.enter.bias)
    assert relative_error(units.clean(units.at(rows, positions)), by_hand) < TOLERANCE
    assert units.privileged
    assert not stream.privileged


def test_a_constant_map_equals_one_with_a_weight_of_zero():
    model, tokens = random_transformer(), some_tokens()

    def with_weight(weight):
        blocks = tuple(
            Block(b.norm_1, b.norm_2, Attention(Linear(weight, b.attention.query.bias), Linear(weight,
                  b.attention.key.bias), b.attention.value, b.attention.out), b.mlp) for b in model.blocks
        )  # fmt: skip
        return Transformer(model.embedding, blocks, model.final_norm, model.unembedding, model.heads)

    constant, zero = with_weight(None), with_weight(torch.zeros(16, 16))
    assert relative_error(constant.logits(tokens), zero.logits(tokens)) < TOLERANCE
    reads = []
    for one in (constant, zero):
        readout = TransformerReadout(one, tokens, layer=0, target=2, offset=2)
        batch = readout.at(torch.arange(5), torch.tensor([0, 1, 2, 3, 6]))
        reads.append(readout.read(batch, torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(3))))
    assert relative_error(*reads) < TOLERANCE


def test_what_reads_nothing_of_the_intervention_returns_the_clean_run_for_every_direction():
    readout = TransformerReadout(random_transformer(("mlp",) * 3), some_tokens(), layer=0, target=2, offset=1)
    batch = readout.sample(7, torch.Generator().manual_seed(0))
    y = readout.read(batch, torch.randn(4, 7, 16))
    assert y.shape == (4, 7, 16)
    assert (y == readout.clean(batch)).all()


def test_the_digest_changes_with_a_single_weight():
    model = random_transformer()
    before = model.digest()
    assert before == random_transformer().digest()
    model.blocks[1].mlp.enter.bias[0] += 1
    assert model.digest() != before


@pytest.mark.parametrize("site", [(2, 3, 0), (1, 1, 0), (0, 1, 9), (-1, 1, 0)])
def test_a_site_outside_the_model_is_refused(site):
    layer, target, offset = site
    with pytest.raises(InputError, match="inside the model"):
        TransformerReadout(random_transformer(), some_tokens(), layer=layer, target=target, offset=offset)


def test_units_of_a_block_without_an_mlp_are_refused():
    model = random_transformer(("both", "attention"))
    with pytest.raises(InputError, match="units=False"):
        TransformerReadout(model, some_tokens(), layer=0, target=1, offset=1, units=True)
