"""PY-10 against the Hugging Face forward pass of folded weights, and on tables of which the answer is known."""

import pytest
import torch

from pythia import author
from pythia.author import (
    FOLDED,
    FOUND,
    NEXT_TOKEN,
    OURS,
    PADDED,
    PUBLISHED,
    RANDOM,
    SAE,
    SAME_TOKEN,
    UNIT,
    AtSite,
    check_construction,
    check_next_token,
    check_ours,
    folded,
    padded,
    padding_token,
)
from pythia.loading import load_model
from pythia.readout import LanguageModelReadout
from pythia.subject import model, searched_layer
from sensverify.claims import Run, Subject
from sensverify.geometry import Centring, random_directions
from sensverify.published import UnitNormReadout
from sensverify.sensitivity import PresenceLaw, Probe, effects, estimate_on
from sensverify.verdicts import Status

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def loaded(tiny_model_folder):
    return load_model(str(tiny_model_folder), dtype="float64")


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model_folder, tiny_text):
    """A run in which directions are random ones: what is compared is the score."""
    subject = Subject(model=str(tiny_model_folder), text=tiny_text)
    started = Run(seed=0, directory=tmp_path_factory.mktemp("author"), subject=subject)
    groups = {
        name: random_directions(6, model(started).width, Centring.MEAN, torch.Generator().manual_seed(i))
        for i, name in enumerate((FOUND, SAE, RANDOM))
    }
    started.shared(f"pythia.compared {searched_layer(started)}", lambda: groups)
    return started


def after(network, layer, tokens, position, replacement):
    """Block ``layer + 1``'s output at ``position`` with block ``layer``'s replaced there, by hooks."""
    kept = {}

    def put(_module, _args, output):
        stream = output if isinstance(output, torch.Tensor) else output[0]
        kept["x"] = stream[0, position].clone()
        if replacement is not None:
            stream[0, position] = replacement(kept["x"])
        return output

    def keep(_module, _args, output):
        kept["y"] = (output if isinstance(output, torch.Tensor) else output[0])[0, position].clone()

    handles = [
        network.gpt_neox.layers[layer].register_forward_hook(put),
        network.gpt_neox.layers[layer + 1].register_forward_hook(keep),
    ]
    try:
        network(input_ids=tokens[None], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return kept["x"], kept["y"]


@torch.no_grad()
def test_the_published_score_is_that_of_the_whole_folded_model(loaded):
    """Rotate a unit vector, put it in the place of the activation, and compare what the next block writes there."""
    other, layer, alpha = folded(loaded), 1, 0.3
    tokens = torch.randint(1, 300, (4, 12), generator=torch.Generator().manual_seed(0))
    readout = LanguageModelReadout(other, tokens, layer=layer, target=layer + 1, offset=0)
    positions = torch.tensor([3, 0, 11, 7])
    batch = readout.at(torch.arange(4), positions)
    s = random_directions(2, loaded.width, Centring.MEAN, torch.Generator().manual_seed(1), dtype=torch.float64)
    score = UnitNormReadout(readout)
    measured = effects(score, batch, score.clean(batch), s, torch.full((4,), alpha, dtype=torch.float64))
    for i in range(2):
        for j, p in enumerate(positions.tolist()):

            def rotate(x, s=s[i]):
                across = x - (x @ s) * s
                return alpha * s + (1 - alpha**2) ** 0.5 * across / across.norm()

            x, before = after(other.network, layer, tokens[j], p, None)
            _, y = after(other.network, layer, tokens[j], p, rotate)
            cosine = torch.nn.functional.cosine_similarity(before, y, dim=0)
            assert float(x.mean()) == pytest.approx(0, abs=1e-12)  # folded weights write no mean
            assert float(measured[i, j]) == pytest.approx(float((1 - cosine) / 2), rel=1e-7)


@torch.no_grad()
def test_folding_changes_no_logit_and_not_the_model_that_was_given(loaded):
    before = {key: value.clone() for key, value in loaded.network.state_dict().items()}
    other = folded(loaded)
    tokens = torch.randint(1, 300, (3, 10), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        torch.log_softmax(other.network(input_ids=tokens).logits, -1),
        torch.log_softmax(loaded.network(input_ids=tokens).logits, -1),
    )
    assert all(torch.equal(value, before[key]) for key, value in loaded.network.state_dict().items())
    assert folded(other) is other


def test_windows_are_cut_in_their_second_half_and_filled():
    windows = torch.arange(1, 401).view(40, 10)
    filled = padded(windows, 0, torch.Generator().manual_seed(0))
    ends = (filled != 0).sum(1)
    assert int(ends.min()) == 5
    assert int(ends.max()) == 10
    for row, kept, end in zip(windows, filled, ends.tolist(), strict=True):
        assert torch.equal(kept[:end], row[:end])
        assert not kept[end:].any()


def test_padding_is_a_token_that_the_model_knows(loaded):
    class Tokenizer:
        pad_token_id, eos_token_id = 10**6, 7

    class Model:
        tokenizer, vocabulary = Tokenizer(), 300

    assert padding_token(Model()) == 7
    assert 0 <= padding_token(loaded) < loaded.vocabulary


def at_site(null, score):
    generator = torch.Generator().manual_seed(0)
    tables = {name: score + 0.01 * torch.rand(4, 50, generator=generator) for name in (FOUND, SAE, RANDOM)}
    parts = torch.stack([torch.full((50,), null), torch.full((50,), score)])
    return AtSite({OURS: tables, PUBLISHED: tables}, {OURS: torch.stack([torch.zeros(50), parts[1]]), PUBLISHED: parts})


@pytest.mark.parametrize(("null", "expected"), [(0.9, Status.SUPPORTED), (0.1, Status.REFUTED)])
def test_the_share_at_the_null_rotation_decides(tmp_path, null, expected):
    run = Run(seed=0, directory=tmp_path)
    run.shared("pythia.author", lambda: {SAME_TOKEN: at_site(null, 1.0), NEXT_TOKEN: at_site(0.0, 1.0)})
    share = author.measured(run)[SAME_TOKEN].null_share(PUBLISHED, 0)
    assert author._judge(run, share).status is expected
    assert check_ours(run).status is Status.REFUTED
    assert check_next_token(run).status is Status.REFUTED


@torch.no_grad()
def test_every_ingredient_is_measured_on_the_same_directions_and_windows(run):
    finding = check_construction(run)
    same, later = finding.evidence["same_token"], finding.evidence["one_token_later"]
    assert list(same) == [OURS, UNIT, author.UNLIMITED, PADDED, FOLDED, PUBLISHED]
    for figures in (same, later):
        change = figures[OURS]["found_over_random_against_ours"]
        assert (change["low"], change["value"], change["high"]) == pytest.approx((1, 1, 1))
        assert figures[OURS]["null_share"]["high"] < 1e-6
    # the score keeps to the stream's centred part where weights are folded; everything else is as it was
    assert same[FOLDED]["mean_random"] == pytest.approx(same[OURS]["mean_random"], rel=0.1)
    assert same[UNIT]["null_share"]["value"] > 0.01
    assert later[UNIT]["null_share"]["value"] < 0.01
    assert finding.exhibits[0].rows[0][-1] == "less than 0.1 %"
    assert finding.exhibits[0].rows[-1][-1].startswith(f"{100 * same[PUBLISHED]['null_share']['value']:.2g} % [")
    shares = [figures[PUBLISHED]["null_share"]["value"] for figures in (same, later)]
    told = [f"{100 * share:.2g} %" if share >= 0.001 else "less than 0.1 %" for share in shares]
    assert f"{told[0]} at the same token, {told[1]} one token later" in finding.exhibits[-1].caption
    assert f"Of the published score it is {told[0]}, of ours less than 0.1 %" in finding.exhibits[0].caption
    assert check_ours(run).status is Status.REFUTED
    assert check_next_token(run).status is Status.REFUTED


@torch.no_grad()
def test_our_variant_is_our_score(run):
    at = author.measured(run)[NEXT_TOKEN]
    layer, loaded = searched_layer(run), model(run)
    from pythia import compared

    held_out = compared.site(run, layer).held_out
    generator = torch.Generator().manual_seed(run.seed + 53)
    batch = held_out.at(*held_out.draw(at.effects[OURS][FOUND].shape[1], generator))
    groups = run.shared(f"pythia.compared {layer}", dict)
    expected = estimate_on(
        held_out,
        batch,
        groups[SAE],
        generator=torch.Generator().manual_seed(run.seed + 54),
        draws=2,
        probe=Probe(law=PresenceLaw()),
    )
    torch.testing.assert_close(at.effects[OURS][SAE], expected.effects, rtol=1e-3, atol=1e-7)
    assert loaded.folded is None
