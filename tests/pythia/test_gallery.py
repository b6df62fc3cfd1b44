"""Cards say of each direction what can be measured again: its share of contexts, its histogram, its own scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pythia import compared
from pythia.browsed import browsable
from pythia.corpus import read_corpus
from pythia.gallery import LOWEST, CardGroup, extreme_excerpts, gallery
from pythia.group_scores import scores
from pythia.loading import load_model
from pythia.readout import LanguageModelReadout
from pythia.subject import searched_layer
from sensverify.claims import Run, Subject
from sensverify.exhibits import FoundRule, from_json
from sensverify.geometry import random_directions

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    return load_model(str(tiny_model_folder))


@pytest.fixture(scope="module")
def readout(model, tiny_text):
    text = read_corpus(model, tiny_text, length=16)
    return LanguageModelReadout(
        model, text.held_out[:12], layer=1, target=2, offset=1, first_position=text.first_position
    )


def group(readout, name, count, seed, **options):
    generator = torch.Generator().manual_seed(seed)
    directions = random_directions(count, readout.width, readout.centring, generator)
    scores = torch.rand(2, count, generator=generator)
    return CardGroup(name=name, directions=directions, plus=scores[0], minus=scores[1], **options)


@pytest.fixture(scope="module")
def groups(readout):
    rules = {33: FoundRule(text="after a comma", accuracy=0.9)}
    return [group(readout, "found", 40, 0, rules=rules), group(readout, "random", 5, 1)]


@pytest.fixture(scope="module")
def shown(model, readout, groups):
    return gallery(model, readout, groups, random_mean=0.25)


def by_name(shown):
    return {card.name: card for card in shown.cards}


def cosines(readout, direction):
    """Presences by numpy's own arithmetic, LayerNorm's mean taken away."""
    x = readout.residuals[:, readout.first_position :].double().numpy()
    x, s = x - x.mean(-1, keepdims=True), direction.double().numpy()
    s = s - s.mean()
    return (x @ s) / np.linalg.norm(x, axis=-1) / np.linalg.norm(s)


def test_every_direction_has_a_card_with_its_own_scores_rule_and_group(shown, groups):
    cards = by_name(shown)
    assert len(cards) == 45
    for one in groups:
        for index in range(len(one.directions)):
            card = cards[f"{one.name} {index}"]
            assert card.group == one.name
            assert (card.score_plus, card.score_minus) == (float(one.plus[index]), float(one.minus[index]))
            assert card.ratio == pytest.approx(4 * float(one.plus[index]))
            assert (card.rule is not None) == (card.name == "found 33")
    scores = [card.score_plus for card in shown.cards]
    assert scores == sorted(scores, reverse=True)


def test_shares_and_histograms_are_those_of_the_presences(shown, groups, readout):
    cards, ends = by_name(shown), set()
    farthest = 0.0
    for index in (0, 31, 32, 39):
        rho = cosines(readout, groups[0].directions[index])
        card = cards[f"found {index}"]
        assert card.presence_share == pytest.approx((abs(rho) >= 4 / readout.width**0.5).mean())
        counts, _ = np.histogram(rho, bins=40, range=(card.presences.low, card.presences.high))
        assert sum(card.presences.counts) == rho.size
        assert abs(counts - card.presences.counts).sum() <= 4  # a presence on an edge may fall to either side
        ends.add((card.presences.low, card.presences.high))
        farthest = max(farthest, abs(rho).max())
    [(low, high)] = ends  # alike for all cards, so that they can be compared
    assert low == -high
    assert high >= farthest


def test_excerpts_are_those_of_the_cards_own_direction(shown, groups, readout):
    for index in (0, 35):
        rho = cosines(readout, groups[0].directions[index]).max(axis=1)
        excerpts = by_name(shown)[f"found {index}"].excerpts
        assert [e.presence for e in excerpts] == pytest.approx(sorted(rho, reverse=True)[: len(excerpts)], abs=1e-5)


def test_the_contexts_of_lowest_presence_are_those_of_the_cards_own_direction(shown, groups, readout):
    for index in (0, 35):
        rho = cosines(readout, groups[0].directions[index]).min(axis=1)
        lowest = by_name(shown)[f"found {index}"].lowest
        assert [e.presence for e in lowest] == pytest.approx(sorted(rho)[:LOWEST], abs=1e-5)


def test_the_title_names_the_layer_and_the_caption_what_counts_as_present(shown, readout):
    assert shown.title == "Directions to browse, layer 1"
    assert f"{4 / readout.width**0.5:.2f}$ in size" in shown.caption


def test_short_tokens_are_shown_in_longer_contexts(model, readout, monkeypatch):
    rho = torch.zeros(1, 60)
    rho[0, 50] = 1.0
    windows = torch.arange(60)[None] % 7
    for letters, before, after in ((1, 48, 9), (5, 12, 6)):
        monkeypatch.setattr("pythia.gallery.text_of", lambda _, tokens, letters=letters: "x" * letters * len(tokens))
        [excerpt] = extreme_excerpts(model, windows, rho, 1, largest=True)
        assert (len(excerpt.before), len(excerpt.after)) == (before * letters, after * letters)


def test_a_present_everywhere_direction_is_counted_to_the_last_position(model, readout):
    x = readout.residuals[0, readout.first_position]
    own = CardGroup(name="own", directions=x[None] / x.norm(), plus=torch.ones(1), minus=torch.zeros(1))
    card = gallery(model, readout, [own], random_mean=0.0).cards[0]
    assert card.presences.high == 1.0
    assert sum(card.presences.counts) == readout.residuals[:, readout.first_position :, 0].numel()
    assert card.excerpts[0].presence == pytest.approx(1.0, abs=1e-5)
    assert card.ratio is None  # over a mean of nothing


def test_the_gallery_survives_strict_json(shown):
    assert from_json(json.loads(json.dumps(shown.to_json(), allow_nan=False))).groups == {"found": 40, "random": 5}


def test_every_group_of_a_run_can_be_browsed_with_scores_rules_and_its_strongest_contexts(
    tmp_path, tiny_model_folder, tiny_text
):
    run = Run(seed=0, directory=tmp_path, subject=Subject(model=str(tiny_model_folder), text=tiny_text))
    layer = searched_layer(run)
    browsed, groups, row = browsable(run, layer), compared.directions(run, layer), scores(run, layer)
    held_out = compared.language_readouts(compared.site(run, layer))[1]
    cards = by_name(browsed)
    assert browsed.groups == {name: len(group) for name, group in groups.items()}
    assert all(0 <= card.rule.low <= card.rule.accuracy <= card.rule.high <= 1 for card in browsed.cards)
    assert [card.score_minus is None for card in browsed.cards] == [card.group != "found" for card in browsed.cards]
    for name, group in groups.items():
        card = cards[f"{name} 1"]
        assert card.score_plus == pytest.approx(float(row.effects[name][1].double().mean()))
        assert card.ratio == pytest.approx(card.score_plus / float(row.effects["random"].double().mean()))
        assert card.excerpts[0].presence == pytest.approx(cosines(held_out, group[1]).max(), abs=1e-5)
