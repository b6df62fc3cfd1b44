"""What `inspect` shows, against models whose directions are known and against the library's own forward pass."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from pythia import inspecting
from pythia.contexts import contexts_at
from pythia.corpus import read_corpus
from pythia.inspecting import WINDOWS, inspect
from pythia.intervened import Pin, last_log_probabilities, presences_in, residuals_after, window_losses, write
from pythia.loading import LanguageModel, load_model
from pythia.logit_weights import how_weighed, logit_weights, tied
from pythia.setting_effects import Level, Quantity, quantile_of_chance
from pythia.tasks import TaskItem, TaskSet, log_odds, read_tasks, tokenise
from sensverify.claims import Subject
from sensverify.directions import DirectionSet, load_directions, save_directions
from sensverify.errors import InputError
from sensverify.geometry import Centring, random_directions, unit_directions
from sensverify.inspection import InspectionRequest, inspect_directions, write_inspection
from sensverify.naming import public_name
from sensverify.rules import NO_RULE

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
scipy_stats = pytest.importorskip("scipy.stats")

LAYER, TOKEN = 1, 297  # " wise"
KINDS = ("gpt_neox", "gpt2", "llama")
CENTRING = {"gpt_neox": Centring.MEAN, "gpt2": Centring.MEAN, "llama": Centring.NONE}


def bare(kind, *, vocabulary=80):
    """A random network of three blocks, without a tokenizer."""
    common = {"vocab_size": vocabulary, "bos_token_id": None, "eos_token_id": None}
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    config = {
        "gpt_neox": lambda: transformers.GPTNeoXConfig(**common, **sizes, max_position_embeddings=48),
        "gpt2": lambda: transformers.GPT2Config(**common, n_embd=24, n_layer=3, n_head=4, n_positions=48),
        "llama": lambda: transformers.LlamaConfig(**common, **sizes, num_key_value_heads=2, max_position_embeddings=48),
    }[kind]()
    config._attn_implementation = "eager"
    torch.manual_seed(1)
    network = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.mul_(8.0) if parameter.ndim > 1 else parameter.add_(0.1 * torch.randn_like(parameter))
    return LanguageModel(kind, None, network.double(), None, "none")


def moved_by_hand(x, direction, alpha, centring):
    """``x`` with presence ``alpha`` along ``direction``, by angles: no line of it is shared with the package."""
    mean = x.mean(-1, keepdim=True) if centring is Centring.MEAN else torch.zeros_like(x[..., :1])
    s = direction - direction.mean() if centring is Centring.MEAN else direction
    s, centred = s / s.norm(), x - mean
    size = centred.norm(dim=-1, keepdim=True)
    across = centred - (centred @ s)[..., None] * s
    across = across / across.norm(dim=-1, keepdim=True)
    angle = torch.acos(torch.tensor(alpha, dtype=x.dtype))
    return mean + size * (torch.cos(angle) * s + torch.sin(angle) * across)


def logits_by_hand(model, tokens, direction, alpha, *, skip=0):
    """Logits of the library's own forward pass, block ``LAYER + 1`` given another input than it would get."""
    blocks = model.architecture.modules
    before = model.network(input_ids=tokens, output_hidden_states=True, use_cache=False).hidden_states[LAYER + 1]
    given = before.clone()
    given[:, skip:] = moved_by_hand(before[:, skip:], direction, alpha, model.architecture.centring)

    def replace(_module, args, kwargs):
        return ((given, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": given})

    handle = blocks[LAYER + 1].register_forward_pre_hook(replace, with_kwargs=True)
    try:
        return model.network(input_ids=tokens, use_cache=False).logits
    finally:
        handle.remove()


def pin_of(direction, alpha):
    return Pin(layer=LAYER, directions=direction[None], presence=torch.tensor([alpha]))


@pytest.mark.parametrize("kind", KINDS)
def test_losses_with_a_presence_set_are_those_of_a_network_given_the_moved_activations(kind):
    model = bare(kind)
    windows = torch.randint(80, (6, 20), generator=torch.Generator().manual_seed(0))
    direction = torch.randn(24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for alpha, first in ((0.0, 0), (0.6, 1), (-0.3, 0)):
        logits = logits_by_hand(model, windows, direction, alpha, skip=first)[:, first:-1]
        expected = -logits.log_softmax(-1).gather(-1, windows[:, first + 1 :, None])[..., 0].mean(1)
        found = window_losses(model, windows, pin_of(direction, alpha), first=first)
        assert torch.allclose(found.double(), expected, atol=1e-5)
        assert not torch.allclose(found, window_losses(model, windows, first=first), atol=1e-3)


def test_positions_that_hold_no_text_are_neither_moved_nor_counted():
    model = bare("gpt_neox")
    windows = torch.randint(80, (3, 12), generator=torch.Generator().manual_seed(0))
    direction = torch.randn(24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    where = torch.ones(3, 12, dtype=torch.bool)
    where[:, 0] = where[1, 4] = where[2, 7:] = False
    found = window_losses(model, windows, pin_of(direction, 0.5), where=where)
    before = model.network(input_ids=windows, output_hidden_states=True).hidden_states[LAYER + 1]
    moved = torch.where(where[..., None], moved_by_hand(before, direction, 0.5, Centring.MEAN), before)
    handle = model.architecture.modules[LAYER].register_forward_hook(lambda *_: moved)
    logits = model.network(input_ids=windows).logits[:, :-1]
    handle.remove()
    each = -logits.log_softmax(-1).gather(-1, windows[:, 1:, None])[..., 0]
    for row in range(3):
        assert float(found[row]) == pytest.approx(float(each[row, where[row, :-1] & where[row, 1:]].mean()), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_presence_after_setting_is_what_was_set_and_the_null_intervention_changes_nothing(kind):
    model = bare(kind)
    windows = torch.randint(80, (4, 12), generator=torch.Generator().manual_seed(0))
    direction = torch.randn(24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rho = presences_in(residuals_after(model, LAYER, windows[:1, :1]), direction[None], CENTRING[kind])
    same = pin_of(direction, float(rho))
    assert torch.allclose(
        last_log_probabilities(model, windows[:1, :1], torch.arange(80)[None], same),
        last_log_probabilities(model, windows[:1, :1], torch.arange(80)[None]),
        atol=1e-5,
    )
    by_hand = moved_by_hand(torch.randn(5, 24, dtype=torch.float64), direction, 0.4, CENTRING[kind])
    units = unit_directions(direction[None], CENTRING[kind])
    centred = CENTRING[kind].project(by_hand)
    assert torch.allclose((centred @ units[0]) / centred.norm(dim=1), torch.full((5,), 0.4, dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_text_written_with_a_direction_pinned_has_the_frequencies_of_forward_passes_over_the_whole_text(kind):
    """Position by position, without a cache, by the library's own forward pass."""
    model = bare(kind)
    prompts = torch.randint(80, (2, 5), generator=torch.Generator().manual_seed(0))
    direction = torch.randn(24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    written = write(model, prompts, 6, seed=3, pin=pin_of(direction, 0.5), first=1)
    whole = torch.cat([prompts, written.tokens], 1)
    logits = logits_by_hand(model, whole, direction, 0.5, skip=1)
    expected = logits[:, 4:-1].softmax(-1).mean(1)
    assert torch.allclose(written.frequencies.double(), expected, atol=1e-5)


def test_text_is_drawn_from_the_distribution_that_it_is_said_to_be_drawn_from():
    model = bare("gpt2", vocabulary=12)
    prompt = torch.tensor([[1, 5, 2]])
    expected = model.network(input_ids=prompt).logits[0, -1].softmax(-1)
    written = write(model, prompt.repeat(4000, 1), 1, seed=0)
    shares = torch.bincount(written.tokens[:, 0], minlength=12) / 4000
    assert torch.allclose(shares.double(), expected, atol=4 * (0.25 / 4000) ** 0.5)


def test_rows_with_directions_of_their_own_are_written_as_each_alone_and_share_their_noise():
    model = bare("llama")
    prompts = torch.randint(80, (3, 4), generator=torch.Generator().manual_seed(0))
    directions = torch.randn(2, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pin = Pin(layer=LAYER, directions=directions.repeat_interleave(3, 0), presence=torch.full((6,), 0.7))
    together = write(model, prompts.repeat(2, 1), 5, seed=9, pin=pin, copies=2)
    for i in range(2):
        alone = write(model, prompts, 5, seed=9, pin=pin_of(directions[i], 0.7))
        assert torch.equal(together.tokens[3 * i : 3 * i + 3], alone.tokens)


def test_nothing_is_written_past_the_end_of_the_context():
    model = bare("gpt2")
    assert write(model, torch.zeros(1, 40, dtype=torch.long), 30, seed=0).tokens.shape[1] == 8


# --- A model in which a direction writes a known token ------------------------------------------------------


@pytest.fixture(scope="module")
def planted(make_model_folder, tmp_path_factory):
    """A model whose blocks add nothing behind ``LAYER``, with a direction that raises one token alone."""
    folder = make_model_folder()
    network = transformers.GPTNeoXForCausalLM.from_pretrained(folder)
    direction = random_directions(1, 32, Centring.MEAN, torch.Generator().manual_seed(4))[0]
    with torch.no_grad():
        for block in network.gpt_neox.layers[LAYER + 1 :]:
            for layer in (block.attention.dense, block.mlp.dense_4h_to_h):
                layer.weight.zero_()
                layer.bias.zero_()
        network.gpt_neox.final_layer_norm.weight.fill_(1.0)
        rows = network.get_output_embeddings().weight
        rows -= (rows @ direction)[:, None] * direction  # nobody else reads it
        rows[TOKEN] = 3.0 * direction
    network.save_pretrained(folder)
    others = random_directions(3, 32, Centring.MEAN, torch.Generator().manual_seed(5))
    found = tmp_path_factory.mktemp("planted")
    rows = torch.cat([others, direction[None]])
    model = load_model(str(folder))
    config = {"layer": LAYER, "target": 2, "offset": 1, "model": str(folder), "weights_sha256": model.weights_sha256}
    scores = torch.tensor([0.1, 0.2, 0.3, 0.4])
    save_directions(found, DirectionSet(directions=rows, config=config, score_plus=scores, score_minus=scores / 2))
    return model, found


def ask(planted, tiny_text, **changes):
    model, found = planted
    asked = {"context": 24, "pin": 0.9, **changes}
    request = InspectionRequest(directions=found, subject=Subject(model=model.name, text=tiny_text), **asked)
    return inspect_directions(request, inspector=inspect)


@pytest.fixture(scope="module")
def looked_at(planted, tiny_text):
    """The planted direction, with nothing else asked for."""
    return ask(planted, tiny_text)


def held_out_presences(model, tiny_text, direction):
    """Those of ``direction`` at all held-out positions behind BOS, from the library's hidden states."""
    corpus = read_corpus(model, tiny_text, length=24)
    hidden = model.network(input_ids=corpus.held_out, output_hidden_states=True).hidden_states[LAYER + 1]
    x = hidden[:, corpus.first_position :] - hidden[:, corpus.first_position :].mean(-1, keepdim=True)
    return (x @ direction / x.norm(dim=-1)).flatten()


def planted_direction():
    return random_directions(1, 32, Centring.MEAN, torch.Generator().manual_seed(4))[0]


def test_the_token_that_a_planted_direction_writes_is_named_by_weights_and_by_pinned_sampling(
    planted, looked_at, tiny_text
):
    model, _ = planted
    text = model.tokenizer.decode([TOKEN])
    assert model.tokenizer(tiny_text.read_text())["input_ids"].count(TOKEN) > 0, "the token must occur in the text"
    (seen,) = looked_at.inspections
    assert seen.index == 3, "the best score is looked at by default"
    assert seen.promoted[0][0] == text
    assert seen.promoted[0][1] == pytest.approx(3.0, rel=1e-4)
    assert max(weight for _, weight in seen.promoted[1:]) < 0.01
    for sample in seen.samples:
        assert sample.pinned.count(text) > 5 * (1 + sample.plain.count(text))
    boosted = [e for e in seen.effects if e.where == "held-out text" and e.intervention == "0.9"]
    assert boosted[0].change.low > max(0.0, boosted[0].control.mean.high, boosted[0].control.greatest)


def test_what_is_shown_is_measured_on_held_out_windows_in_order_of_presence(planted, tiny_text):
    (seen,) = ask(planted, tiny_text, indices=(1,)).inspections
    top, bottom, uniform = ([e.presence for e in chosen.excerpts] for chosen in seen.contexts)
    assert top == sorted(top, reverse=True)
    assert bottom == sorted(bottom)
    assert bottom[-1] < min(uniform) + 1e-9 or bottom[0] <= min(seen.presences) + 1e-6
    assert seen.score_plus == pytest.approx(0.2)
    assert seen.score_minus == pytest.approx(0.1)


@pytest.mark.parametrize("kept", [7, 10**6])
def test_the_greatest_presence_is_that_of_the_top_context_however_few_are_kept(planted, tiny_text, kept, monkeypatch):
    monkeypatch.setattr(inspecting, "PRESENCES", kept)
    model, _ = planted
    (seen,) = ask(planted, tiny_text).inspections
    expected = held_out_presences(model, tiny_text, planted_direction())
    assert seen.positions == len(expected)
    assert len(seen.presences) == min(kept, len(expected))
    top, bottom, _ = (chosen.excerpts[0].presence for chosen in seen.contexts)
    for shown in (seen.quantiles["greatest"], seen.presences[-1], float(expected.max())):
        assert shown == pytest.approx(top, abs=1e-6)
    for shown in (seen.quantiles["least"], seen.presences[0], float(expected.min())):
        assert shown == pytest.approx(bottom, abs=1e-6)
    ordered = expected.sort().values
    for name, share in (("1 %", 0.01), ("median", 0.5), ("99 %", 0.99)):
        low, high = (float(ordered[round(share * (len(ordered) - 1)) + d]) for d in (-1, 1))
        assert low - 1e-6 <= seen.quantiles[name] <= high + 1e-6


def test_what_is_pinned_to_by_default_occurs_in_the_text_or_in_random_directions(planted, tiny_text, monkeypatch):
    model, _ = planted
    ordered = held_out_presences(model, tiny_text, planted_direction()).sort().values
    high = float(ordered[round(0.999 * (len(ordered) - 1))])
    (seen,) = ask(planted, tiny_text, pin=None).inspections
    # a LayerNorm sees 31 of 32 dimensions
    floor = scipy_stats.beta(0.5, 15).ppf(0.998) ** 0.5
    assert high < floor, "in so few dimensions chance gives much"
    assert seen.pinned_presence == pytest.approx(floor, abs=1e-9)
    assert "99.9 % quantile of the presence of random directions" in seen.pin_note
    monkeypatch.setattr(inspecting, "quantile_of_chance", lambda *_: 0.0)
    (seen,) = ask(planted, tiny_text, pin=None).inspections
    assert seen.pinned_presence == pytest.approx(high, abs=1e-6)
    assert seen.pin_note == "the 99.9 % quantile of its presence on held-out text"
    assert seen.effects[2].intervention == f"{high:.3g}"


@pytest.mark.parametrize("dimensions", [2, 8, 16, 64, 768])
@pytest.mark.parametrize("share", [0.9, 0.999])
def test_the_quantile_of_chance_is_that_of_random_unit_vectors(dimensions, share):
    found = quantile_of_chance(dimensions, share)
    exact = scipy_stats.beta(0.5, (dimensions - 1) / 2).ppf(2 * share - 1) ** 0.5
    assert found == pytest.approx(exact, abs=1e-9)
    x = torch.randn(200_000, dimensions if dimensions < 100 else 1, generator=torch.Generator().manual_seed(0))
    if dimensions < 100:
        above = float((x[:, 0] / x.norm(dim=1) > found).double().mean())
        assert above == pytest.approx(1 - share, abs=5 * ((1 - share) * share / len(x)) ** 0.5)


def test_along_a_line_every_direction_is_fully_present():
    assert quantile_of_chance(1, 0.999) == 1.0


def test_a_presence_beyond_all_of_the_text_is_said_to_be(planted, tiny_text):
    (seen,) = ask(planted, tiny_text, pin=0.99).inspections
    assert f"beyond {seen.quantiles['greatest']:.3g}, the greatest presence on held-out text" in seen.pin_note
    (seen,) = ask(planted, tiny_text, pin=seen.quantiles["greatest"] / 2).inspections
    assert seen.pin_note == "as asked"


def test_random_directions_are_set_to_their_own_means_to_0_and_to_what_is_pinned_to(planted, looked_at, tiny_text):
    model, _ = planted
    (seen,) = looked_at.inspections
    corpus = read_corpus(model, tiny_text, length=24)
    windows, first = corpus.held_out[:WINDOWS], corpus.first_position
    random = random_directions(8, 32, Centring.MEAN, torch.Generator().manual_seed(5))
    hidden = model.network(input_ids=corpus.search[:WINDOWS], output_hidden_states=True).hidden_states[LAYER + 1]
    x = hidden[:, first:] - hidden[:, first:].mean(-1, keepdim=True)
    means = ((x / x.norm(dim=-1, keepdim=True)) @ random.T).flatten(0, 1).mean(0)

    def loss(logits):
        return float(-logits[:, first:-1].log_softmax(-1).gather(-1, windows[:, first + 1 :, None]).mean())

    clean = loss(model.network(input_ids=windows).logits)
    text = [effect for effect in seen.effects if effect.where == "held-out text"]
    assert len(text) == 3
    for effect, levels in zip(text, (means.tolist(), [0.0] * 8, [0.9] * 8), strict=True):
        changes = [
            loss(logits_by_hand(model, windows, s, alpha, skip=first)) - clean
            for s, alpha in zip(random, levels, strict=True)
        ]
        assert effect.control.directions == 8
        assert effect.control.mean.value == pytest.approx(sum(changes) / 8, abs=1e-4)
        assert effect.control.least == pytest.approx(min(changes), abs=1e-4)
        assert effect.control.greatest == pytest.approx(max(changes), abs=1e-4)
        assert effect.control.mean.low <= effect.control.mean.value <= effect.control.mean.high


def test_no_context_shows_half_a_word_without_saying_so(looked_at, tiny_text):
    words = set(re.findall(r"\w+", tiny_text.read_text()))
    (seen,) = looked_at.inspections
    for chosen in seen.contexts:
        for excerpt in chosen.excerpts:
            shown = re.findall(r"…?\w+…?", excerpt.before + excerpt.token + excerpt.after)
            assert shown
            whole = [word for word in shown if "…" not in word]
            assert set(whole) <= words
            assert len(shown) - len(whole) <= 2


def test_the_parts_of_a_context_are_what_decoding_the_window_gives():
    """Decoded alone, what stands behind the token would lose the space in front of it."""
    words = {word: i for i, word in enumerate(["BOS", "The", "quick", "fox", "jumps", "!"])}
    model = words_model(words, unknown="BOS")
    rho = torch.tensor([[0.1, 0.2, 0.5, 0.3, -0.4]])
    (excerpt,) = contexts_at(model, torch.tensor([[1, 2, 3, 4, 5]]), rho, torch.tensor([0]), torch.tensor([2]))
    assert (excerpt.before, excerpt.token, excerpt.after) == ("The quick", " fox", " jumps !")
    assert excerpt.presence == pytest.approx(0.5)
    (excerpt,) = contexts_at(model, torch.tensor([[2, 3]]), rho, torch.tensor([0]), torch.tensor([1]))
    assert (excerpt.before, excerpt.token, excerpt.after) == ("…quick", " fox", "…"), "either may be half a word"


def test_a_search_that_finds_no_rule_is_told_so(planted, looked_at, tiny_text, monkeypatch):
    own = inspecting.explain

    def none(*given, **named):
        found = own(*given, **named)
        return dataclasses.replace(found, rule=dataclasses.replace(found.rule, words=NO_RULE))

    (seen,) = looked_at.inspections
    assert any(note.startswith("the rule says where the direction is strongly present") for note in seen.notes)
    monkeypatch.setattr(inspecting, "explain", none)
    (seen,) = ask(planted, tiny_text).inspections
    assert seen.rule is None
    assert any(note.startswith("no rule") for note in seen.notes)


def test_what_else_could_be_asked_is_said_once_and_only_where_it_was_not(planted, looked_at, tiny_text):
    _, found = planted
    hints = " ".join(looked_at.hints)
    assert hints.count("--tasks") == hints.count("--sae") == 1
    assert "score" not in hints
    assert "--sae" not in " ".join(ask(planted, tiny_text, sae=found).hints)


def test_the_effect_of_ablation_is_that_of_the_library_with_hooks(planted, looked_at, tiny_text):
    model, _ = planted
    (seen,) = looked_at.inspections
    corpus = read_corpus(model, tiny_text, length=24)
    windows, first = corpus.held_out[:WINDOWS], corpus.first_position
    direction = random_directions(1, 32, Centring.MEAN, torch.Generator().manual_seed(4))[0]
    logits = logits_by_hand(model, windows, direction, 0.0, skip=first)[:, first:-1]
    ablated = -logits.log_softmax(-1).gather(-1, windows[:, first + 1 :, None]).mean()
    logits = model.network(input_ids=windows).logits[:, first:-1]
    clean = -logits.log_softmax(-1).gather(-1, windows[:, first + 1 :, None]).mean()
    effect = next(e for e in seen.effects if e.where == "held-out text" and e.intervention == "0")
    assert effect.items == len(windows)
    assert effect.change.value == pytest.approx(float(ablated - clean), abs=1e-4)
    assert effect.clean.value == pytest.approx(float(clean), abs=1e-4)


def test_neighbours_are_the_nearest_of_the_file_but_not_the_direction_itself(planted, tiny_text):
    (seen,) = ask(planted, tiny_text, indices=(0,)).inspections
    assert "direction 0" not in {one.name for one in seen.neighbours}
    assert len(seen.neighbours) == 3
    assert [one.cosine for one in seen.neighbours] == sorted((one.cosine for one in seen.neighbours), reverse=True)


def test_a_direction_is_not_its_own_neighbour_by_whatever_path_its_file_is_named_twice(planted, tiny_text, tmp_path):
    _, found = planted
    (alone,) = ask(planted, tiny_text, indices=(0,)).inspections
    linked = tmp_path / "linked"
    linked.symlink_to(found, target_is_directory=True)
    for same in (found, found / "directions.safetensors", linked):
        (seen,) = ask(planted, tiny_text, indices=(0,), sae=same).inspections
        assert [one.name for one in seen.neighbours] == [f"latent {one.name.split()[1]}" for one in alone.neighbours]
        assert seen.neighbours_of == alone.neighbours_of == "the others of the same file"
    copied = shutil.copytree(found, tmp_path / "copied")
    (other,) = ask(planted, tiny_text, indices=(0,), sae=copied).inspections
    assert other.neighbours[0].name == "latent 0", "the same row of another file is somebody else"
    assert other.neighbours[0].cosine == pytest.approx(1, abs=1e-5)


def test_of_a_local_model_only_its_own_name_is_told(planted, looked_at, tmp_path):
    model, _ = planted
    folder = Path(model.name)
    assert folder.is_absolute()
    assert looked_at.facts["model"] == folder.name
    page = write_inspection(tmp_path, looked_at).page.read_text()
    for written in (page, (tmp_path / "inspection.json").read_text()):
        assert str(folder.parent) not in written
        assert folder.name in written


def test_a_name_on_the_hub_stays_whole_and_that_of_a_folder_is_its_last_part(tmp_path, monkeypatch):
    assert public_name("some-lab/some-model") == "some-lab/some-model"
    (tmp_path / "mine").mkdir()
    assert public_name(str(tmp_path / "mine")) == public_name(f"{tmp_path}/mine/") == "mine"
    monkeypatch.chdir(tmp_path / "mine")
    assert public_name(".") == "mine"


def test_captions_say_which_positions_of_this_text_were_left_alone(planted, looked_at, tiny_text, tmp_path):
    (seen,) = looked_at.inspections
    assert seen.left_alone == ("BOS",)
    assert seen.left_alone_in_tasks is None, "there are no tasks"
    model, found = planted
    text = tmp_path / "special.txt"
    text.write_text(tiny_text.read_text().replace(".\n", ".<|endoftext|>"))
    assert "<|endoftext|>" in text.read_text()
    pairs = [{"clean_prefix": "The owls", "clean_answer": " wise", "patch_answer": " oaks"}] * 2
    (tmp_path / "tasks.json").write_text("\n".join(map(json.dumps, pairs)))
    told = Subject(model=model.name, text=text, outlier_norms=7.0)
    request = InspectionRequest(directions=found, subject=told, context=24, pin=0.9, tasks=tmp_path)
    (seen,) = inspect_directions(request, inspector=inspect).inspections
    outliers = "those of a residual norm above 7 times the median"
    assert seen.left_alone == ("BOS", "special tokens inside windows", outliers)
    assert {effect.where for effect in seen.effects} == {"held-out text", "tasks"}
    assert (
        f"set at every position but BOS, special tokens inside windows and {outliers} (in prompts of tasks, every "
        "position but BOS):" in seen.effects_caption()
    )


def test_random_directions_are_read_once_for_levels_in_common_and_once_for_each_high_presence():
    asked = []

    def read(pin):
        asked.append(pin)
        return torch.arange(3.0)

    random = torch.eye(4)[:2]
    measured = Quantity("text", "loss", read, layer=0, random=random, seed=0)
    for pin in (0.5, 0.5, 0.75):
        levels = [
            Level(name="0", key="0", own=torch.zeros(1), control=torch.zeros(2)),
            Level(name="high", key=repr(pin), own=torch.full((1,), pin), control=torch.full((2,), pin)),
        ]
        measured.effects(torch.eye(4)[2:3], levels)
    controls = [
        float(pin.presence) for pin in asked if pin is not None and not torch.equal(pin.directions[0], torch.eye(4)[2])
    ]
    assert sorted(controls) == [0.0] * 2 + [0.5] * 2 + [0.75] * 2


def test_the_exact_opposite_is_among_the_neighbours_however_many_are_nearer(planted, tiny_text, tmp_path):
    model, found = planted
    first = load_directions(found).directions[:1]
    others = torch.randn(40, 32, generator=torch.Generator().manual_seed(5))
    rows = torch.cat([others, -first])
    config = {"layer": LAYER, "model": model.name, "weights_sha256": model.weights_sha256}
    save_directions(tmp_path, DirectionSet(directions=rows / rows.norm(dim=1, keepdim=True), config=config))
    (seen,) = ask(planted, tiny_text, indices=(0,), sae=tmp_path).inspections
    assert seen.neighbours[-1].name == "latent 40"
    assert seen.neighbours[-1].cosine == pytest.approx(-1, abs=1e-5)
    assert seen.neighbours[0].cosine > 0


def test_a_row_that_the_norm_cannot_see_is_refused_and_is_nobodys_neighbour(planted, tiny_text, tmp_path):
    """All-ones before a LayerNorm: centred, nothing is left of it."""
    model, found = planted
    rows = load_directions(found).directions.clone()
    rows[1] = torch.ones(32) / 32**0.5
    config = {"layer": LAYER, "model": model.name, "weights_sha256": model.weights_sha256}
    save_directions(tmp_path, DirectionSet(directions=rows, config=config))
    with pytest.raises(InputError, match=r"row 1: .*parallel to the all-ones vector; remedy: pass another --index"):
        ask((model, tmp_path), tiny_text, indices=(0, 1))
    (seen,) = ask((model, tmp_path), tiny_text, indices=(2,)).inspections
    assert {one.name for one in seen.neighbours} == {"direction 0", "direction 3"}
    (other,) = ask(planted, tiny_text, indices=(0,), sae=tmp_path).inspections
    assert other.neighbours_of.startswith("3 decoder directions")
    assert {one.name for one in other.neighbours} == {"latent 0", "latent 2", "latent 3"}
    assert other.neighbours[0].name == "latent 0"
    units = rows[[0, 2, 3]] - rows[[0, 2, 3]].mean(1, keepdim=True)
    units = units / units.norm(dim=1, keepdim=True)
    expected = sorted((units @ units[0]).tolist(), reverse=True)
    assert [one.cosine for one in other.neighbours] == pytest.approx(expected, abs=1e-5)


def test_directions_of_other_weights_and_layers_out_of_range_are_refused(planted, tiny_text, tiny_model_folder):
    _, found = planted
    elsewhere = InspectionRequest(
        directions=found, subject=Subject(model=str(tiny_model_folder), text=tiny_text), context=24
    )
    with pytest.raises(InputError, match="sha256"):
        inspect_directions(elsewhere, inspector=inspect)
    allowed = inspect_directions(dataclasses.replace(elsewhere, allow_other_model=True), inspector=inspect)
    assert allowed.inspections[0].index == 3
    with pytest.raises(InputError, match="a layer from 0 to 3"):
        ask(planted, tiny_text, layer=4)
    with pytest.raises(InputError, match=r"missing\.txt"):
        ask(planted, tiny_text.with_name("missing.txt"))


# --- Tied weights, a small vocabulary, no BOS: a model that reads characters ---------------------------------


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def characters(request, tmp_path_factory, tiny_text):
    """A tied character model of this kind, and directions for it."""
    folder = tmp_path_factory.mktemp(f"characters-{request.param}")
    alphabet = sorted(set(tiny_text.read_text()))
    words = {character: i for i, character in enumerate(alphabet)} | {"<unk>": len(alphabet)}
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    core.decoder = tokenizers.decoders.Fuse()
    transformers.PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>").save_pretrained(folder)
    network = bare(request.param, vocabulary=len(words)).network.float()
    network.config.tie_word_embeddings = True
    network.tie_weights()
    network.save_pretrained(folder)
    model = load_model(str(folder))
    found = tmp_path_factory.mktemp(f"found-{request.param}")
    directions = random_directions(2, 24, CENTRING[request.param], torch.Generator().manual_seed(0))
    config = {"layer": 0, "model": str(folder), "weights_sha256": model.weights_sha256}
    save_directions(found, DirectionSet(directions=directions, config=config))
    return model, found


def test_a_tied_character_model_is_inspected_from_end_to_end(characters, tiny_text, tmp_path):
    model, found = characters
    assert tied(model)
    assert "tied" in how_weighed(model)
    assert model.bos is None
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    pairs = [{"clean_prefix": "The fox", "clean_answer": " jumps", "patch_answer": " jump"}] * 3
    (tasks / "agreement.json").write_text("\n".join(map(json.dumps, pairs)))
    request = InspectionRequest(
        directions=found, subject=Subject(model=model.name, text=tiny_text), context=40, tasks=tasks, indices=(0, 1)
    )
    answer = inspect_directions(request, inspector=inspect)
    assert [one.index for one in answer.inspections] == [0, 1]
    assert answer.facts["model"] == Path(model.name).name
    for one in answer.inspections:
        assert one.left_alone == ()
        assert "at every position:" in one.effects_caption(), "without BOS nothing is left out"
        assert any("agreement 3 of 3" in note for note in one.notes), "what is left out is counted and told"
        assert {e.where for e in one.effects} == {"held-out text"}
        assert {e.control.directions for e in one.effects} == {8}
        assert all(len(text) <= 2 for text, _ in one.promoted)
    assert json.loads(json.dumps(answer.to_json(), allow_nan=False))["schema"] == 1


def test_logit_weights_of_a_tied_rms_model_are_gains_times_embeddings():
    model = bare("llama")
    direction = torch.randn(1, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = logit_weights(model, direction)[0]
    head = model.network.get_output_embeddings().weight
    expected = [sum(float(head[v, i] * model.network.model.norm.weight[i] * direction[0, i]) for i in range(24))
                for v in range(5)]  # fmt: skip
    assert torch.allclose(weights[:5], torch.tensor(expected, dtype=torch.float64))
    assert "untied" in how_weighed(model)


# --- Task sets ---------------------------------------------------------------------------------------------


@pytest.fixture
def task_folder(tmp_path):
    pairs = [
        {"clean_prefix": "The quick brown", "clean_answer": " lazy", "patch_answer": " dog", "case": "x"},
        {"clean_prefix": "The owls", "clean_answer": " wise", "patch_answer": " oaks"},
        {"clean_prefix": "The owls", "clean_answer": " zebra crossing", "patch_answer": " jumps"},
    ]
    (tmp_path / "agreement").mkdir()
    (tmp_path / "agreement" / "simple.json").write_text("\n".join(map(json.dumps, pairs)))
    prompts = [
        {"case_id": 0, "prompt": "When Paula and Lee got a plum, Lee gave it to", "answer": "Paula"},
        {"case_id": 1, "prompt": "Nobody is named twice by Paula to", "answer": "Paula"},
    ]
    (tmp_path / "ioi.json").write_text(json.dumps(prompts))
    (tmp_path / "notes.jsonl").write_text("not a task")
    return tmp_path


def test_both_formats_are_read_and_the_wrong_name_is_the_one_that_occurs_twice(task_folder):
    first, second = read_tasks(task_folder)
    assert first.name == "agreement/simple"
    assert first.items[0] == TaskItem(prompt="The quick brown", right=" lazy", wrong=" dog")
    assert second.items == (
        TaskItem(prompt="When Paula and Lee got a plum, Lee gave it to", right=" Paula", wrong=" Lee"),
    )


def test_folders_without_task_sets_and_broken_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="task sets"):
        read_tasks(tmp_path)
    for content in ("{", "[" * 100_000, '{"prompt": ' * 100_000):
        (tmp_path / "broken.json").write_text(content)
        with pytest.raises(InputError, match=r"broken\.json") as caught:
            read_tasks(tmp_path)
        assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_a_task_set(task_folder):
    file = task_folder / "ioi.json"
    expected = read_tasks(task_folder)
    file.write_text("\ufeff" + file.read_text(), encoding="utf-8")
    assert read_tasks(task_folder) == expected


def test_items_whose_answers_are_more_than_one_token_are_left_out_and_counted(task_folder, tiny_model_folder):
    model = load_model(str(tiny_model_folder))
    task = tokenise(model, read_tasks(task_folder)[0], seed=0)
    assert (task.items, task.left_out, len(task.prompts)) == (3, 1, 2)


def words_model(words, *, unknown, vocabulary=None):
    """A network with a tokenizer of whole words, the first of which is BOS; ``unknown`` is what it says to others."""
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token=unknown))
    core.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, bos_token=min(words, key=words.get))
    return dataclasses.replace(bare("gpt2", vocabulary=vocabulary or len(words)), tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("unknown", "vocabulary", "prompt", "right"),
    [
        ("BOS", None, "the 漢 fox", " jumps"),
        ("BOS", None, "the BOS fox", " jumps"),
        ("BOS", None, "the quick fox", " sings"),
        ("nothing", None, "the 漢 fox", " jumps"),
        ("BOS", None, "the \ud800 fox", " jumps"),
        ("BOS", 6, "the quick late", " jumps"),
        ("BOS", 6, "the quick fox", " late"),
    ],
    ids=["unknown is BOS", "BOS in text", "unknown answer", "no unknown", "half a pair", "id too large", "answer too"],
)
def test_items_that_the_tokenizer_has_no_tokens_for_are_left_out(unknown, vocabulary, prompt, right):
    words = {word: i for i, word in enumerate(["BOS", "the", "quick", "fox", "jumps", "sleeps", "late"])}
    model = words_model(words, unknown=unknown, vocabulary=vocabulary)
    items = [("the quick fox", " jumps"), (prompt, right)]
    task = TaskSet(name="x", items=tuple(TaskItem(prompt=p, right=r, wrong=" sleeps") for p, r in items))
    tokenised = tokenise(model, task, seed=0)
    assert (tokenised.items, tokenised.left_out) == (2, 1)
    assert tokenised.prompts == ((0, 1, 2, 3),)
    assert tokenised.answers.tolist() == [[4, 5]]
    assert len(log_odds(model, tokenised)) == 1


def test_log_odds_are_those_of_the_library_one_prompt_at_a_time(tiny_model_folder):
    model = load_model(str(tiny_model_folder))
    items = [("The quick brown", " lazy", " dog"), ("The owls", " wise", " over"), ("Seven", " oaks", " dog")]
    task = TaskSet(name="x", items=tuple(TaskItem(prompt=p, right=r, wrong=w) for p, r, w in items))
    tokenised = tokenise(model, task, seed=0)
    assert len(tokenised.prompts) == 3
    found = log_odds(model, tokenised)
    for number, prompt in enumerate(tokenised.prompts):
        logits = model.network(input_ids=torch.tensor([prompt])).logits[0, -1]
        right, wrong = tokenised.answers[number]
        assert found[number] == pytest.approx(float(logits[right] - logits[wrong]), abs=1e-4)
