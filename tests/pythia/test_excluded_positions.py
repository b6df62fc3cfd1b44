"""Special tokens in the middle of windows, and outliers: nothing is measured there, and nothing is set there.

The text has end-of-text tokens everywhere. *Poisoned*, the activations at all positions that do not count are huge and
alike; whatever comes out must be what came out before.
"""

import dataclasses

import pytest
import torch

from pythia import (
    browsed,
    compared,
    explained,
    group_scores,
    inspecting,
    relative_norm,
    removal,
    subject,
)
from pythia.causal_readings import interventions_on_logits, pinned_log_ratios
from pythia.compared import GROUPS, SaeGroup, principal_components
from pythia.gallery import CardGroup, extreme_excerpts, gallery
from pythia.gallery import presences as gallery_presences
from pythia.group_scores import shuffled_tokens
from pythia.logit_weights import seen_tokens
from pythia.next_token import NextTokenReadout
from pythia.privileged import tokens_of
from pythia.readout import LanguageModelReadout
from pythia.sae_training import normalised_activations
from pythia.saes import positions
from pythia.single_token import measure
from pythia.site import site_of
from sensverify.claims import Run, Subject
from sensverify.directions import DirectionSet, save_directions
from sensverify.geometry import random_directions
from sensverify.inspection import InspectionRequest, inspect_directions
from sensverify.sites import SiteOptions

pytest.importorskip("transformers")
DIRECTIONS, LAYER = 6, 1
WORDS = "the quick brown fox jumps over a lazy dog while seven wise owls watch".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Sentences of one to four words between end-of-text tokens."""
    generator = torch.Generator().manual_seed(0)
    picks = torch.randint(len(WORDS), (500, 4), generator=generator).tolist()
    lengths = torch.randint(1, 5, (500,), generator=generator).tolist()
    path = tmp_path_factory.mktemp("special") / "special.txt"
    sentences = (" ".join(WORDS[i] for i in row[:length]) for row, length in zip(picks, lengths, strict=True))
    path.write_text("<|endoftext|>".join(sentences))
    return path


@pytest.fixture
def run(tmp_path, tiny_model_folder, text, monkeypatch):
    """A run whose directions are given, so that nothing is searched for."""
    told = Subject(model=str(tiny_model_folder), text=text, outlier_norms=1.2)
    started = Run(seed=0, directory=tmp_path, subject=told)
    model = subject.model(started)
    generator, centring = torch.Generator().manual_seed(0), model.architecture.centring
    groups = {name: random_directions(DIRECTIONS, model.width, centring, generator) for name in GROUPS}
    monkeypatch.setattr("pythia.explained.ENOUGH", DIRECTIONS)
    monkeypatch.setattr(subject, "searched_layer", lambda run: LAYER)
    started.shared(f"pythia.compared {LAYER}", lambda: groups)
    sae = SaeGroup(directions=groups["SAE"], latents=torch.arange(DIRECTIONS), description={})
    started.shared(f"pythia.sae {LAYER}", lambda: sae)
    return started


def held_out(run):
    return compared.language_readouts(compared.site(run, LAYER))[1]


def directions(run):
    return compared.directions(run, LAYER)["found"]


def poison(monkeypatch):
    clean = LanguageModelReadout.residual_blocks

    def poisoned(self):
        start = 0
        for block in clean(self):
            here = slice(start, start + len(block))
            where = ~self.counted[here] | (self.windows[here] == self.model.bos)  # whatever it holds to count
            yield torch.where(where[..., None], 1e4 * torch.linspace(-1, 2, self.width).cos(), block)
            start += len(block)

    monkeypatch.setattr(LanguageModelReadout, "residual_blocks", poisoned)


def test_the_text_has_special_tokens_and_outliers_inside_its_windows(run):
    readout, corpus = held_out(run), subject.corpus(run)
    inside = readout.windows[:, 1:] == subject.model(run).bos
    assert 0.1 < float(inside.double().mean()) < 0.5
    assert not bool(readout.counted_inside[inside].any())
    assert bool((corpus.held_out_real & ~readout.counted).any()), "outliers"


MEASUREMENTS = {
    "activations": lambda run: torch.cat(list(positions(held_out(run)))),
    "training of autoencoders": lambda run: normalised_activations(held_out(run)),
    "principal components": lambda run: principal_components(held_out(run), 4),
    "mean of unit activations": lambda run: removal._window_sums(held_out(run)),
    "rules": lambda run: explained.explain(run, LAYER, presences(run)).each,
    "rules of cards": lambda run: browsed._rules(run, held_out(run), directions(run)),
    "cards": lambda run: gallery(
        subject.model(run), held_out(run),
        [CardGroup(name="found", directions=directions(run), plus=torch.ones(DIRECTIONS))], random_mean=1.0,
    ).cards,
    "what tokens tell": lambda run: measure(run).identity["found on the model"].error,
    "contexts of one token": lambda run: measure(run).one_token["random on the copy"],
}  # fmt: skip


def presences(run):
    return gallery_presences(explained.held_out(run, LAYER), directions(run))


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_what_stands_at_excluded_positions_changes_no_measurement(run, name, monkeypatch):
    before = MEASUREMENTS[name](run)
    rho = presences(run)
    poison(monkeypatch)
    assert float((presences(run) - rho).abs().max()) > 0.3, "there is something to be seen"
    after = MEASUREMENTS[name](run)
    if isinstance(before, torch.Tensor):
        assert torch.equal(before, after)
    else:
        assert before == after


def test_every_counted_position_is_measured_and_no_other(run):
    readout = held_out(run)
    assert len(torch.cat(list(positions(readout)))) == int(readout.counted.sum()) < readout.counted[:, 1:].numel()
    seen = set(seen_tokens(subject.corpus(run)).tolist())
    assert seen
    assert subject.model(run).bos not in seen


def test_units_are_logits_of_tokens_of_the_text(run, monkeypatch):
    monkeypatch.setattr("pythia.privileged.MOST_TOKENS", 40)
    corpus = subject.corpus(run)
    place = site_of(subject.model(run), corpus, SiteOptions(layer=1, target=3, offset=1, readout="logits"))
    assert subject.model(run).bos not in place.search.tokens.tolist()
    assert subject.model(run).bos in tokens_of(subject.model(run), corpus.search).tolist()


INTERVENTIONS = {
    "scores of all groups": lambda run: group_scores.scores(run, LAYER),
    "swaps": relative_norm.measured,
    "ablation": lambda run: interventions_on_logits(next_token(run), directions(run), torch.arange(5), seed=0),
}


def next_token(run):
    corpus = subject.corpus(run)
    allowed = corpus.allowed("held_out")
    return NextTokenReadout(
        subject.model(run), corpus.held_out, layer=LAYER, offset=0, first_position=1, allowed=allowed
    )


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_nothing_is_set_at_an_excluded_position(run, name, monkeypatch):
    clean, seen = LanguageModelReadout.at, 0

    def at(self, rows, where):
        nonlocal seen
        assert bool((self.windows[rows, where] != self.model.bos).all())
        norms = self.residuals.norm(dim=-1)
        median = norms[self.counted].median()
        assert float(norms[rows, where].max()) <= 1.25 * float(median)
        seen += len(rows)
        return clean(self, rows, where)

    monkeypatch.setattr(LanguageModelReadout, "at", at)
    INTERVENTIONS[name](run)
    assert seen >= 10


def test_shuffled_tokens_leave_excluded_ones_in_their_places_and_alone(run):
    readout = held_out(run)
    other = shuffled_tokens(readout, torch.Generator().manual_seed(0))
    assert not bool((other.counted & ~readout.counted).any())
    assert torch.equal(other.windows[~readout.counted], readout.windows[~readout.counted])
    assert not torch.equal(other.windows, readout.windows)
    assert torch.equal(other.windows.sort(1).values, readout.windows.sort(1).values)


def test_text_is_written_with_prompts_pinned_where_they_are_text(run):
    readout, model = next_token(run), subject.model(run)
    entered = []
    handle = model.architecture.modules[LAYER + 1].register_forward_pre_hook(
        lambda _module, args, kwargs: entered.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    pinned_log_ratios(model, readout, directions(run)[:1], torch.arange(5), seed=0)
    handle.remove()
    plain, pinned = (x for x in entered if x.shape[1] > 1)
    chosen = torch.randperm(len(readout.windows), generator=torch.Generator().manual_seed(43))[: len(plain)]
    where = readout.counted[chosen, : plain.shape[1]]
    assert bool((~where[:, 1:]).any())
    assert torch.equal(plain[~where], pinned[~where])
    assert float((plain - pinned)[where].norm(dim=-1).min()) > 1e-3


def test_excerpts_come_from_windows_with_something_that_counts(run):
    model, windows = subject.model(run), held_out(run).windows[:4]
    rho = torch.rand(windows.shape)
    rho[1] = -torch.inf
    assert len(extreme_excerpts(model, windows, rho, 6, largest=True)) == 3


def test_inspecting_sees_nothing_of_excluded_positions(run, tmp_path, monkeypatch):
    model, text = subject.model(run), run.subject.text
    found = DirectionSet(
        directions=directions(run), config={"layer": LAYER, "weights_sha256": model.weights_sha256},
    )  # fmt: skip
    save_directions(tmp_path, found)
    request = InspectionRequest(directions=tmp_path, subject=dataclasses.replace(run.subject, text=text), context=24)
    before = inspect_directions(request, inspector=inspecting.inspect).inspections[0]
    clean, after = inspecting._Place._presences, inspecting.residuals_after
    known = {}

    def remembered(model, layer, windows):
        stream = after(model, layer, windows)
        known.update((row.numpy().tobytes(), window) for row, window in zip(stream, windows, strict=True))
        return stream

    def poisoned(self, stream, rows):
        windows = torch.stack([known[row.numpy().tobytes()] for row in stream])
        norms = stream[:, self.first :].norm(dim=-1)
        special = windows[:, self.first :] == model.bos
        assert bool(special.any())
        return clean(self, stream, rows).masked_fill(special | (norms > 1e9), 0.99)

    monkeypatch.setattr(inspecting, "residuals_after", remembered)
    monkeypatch.setattr(inspecting._Place, "_presences", poisoned)
    assert inspect_directions(request, inspector=inspecting.inspect).inspections[0] == before
