"""Explaining directions of a language model, and the claims that compare groups of them."""

import dataclasses
import types

import numpy
import pytest
import torch

from pythia import compared, subject
from pythia.compared import FOUND, GROUPS, RANDOM, SAE
from pythia.explain import explain, explain_all, token_string
from pythia.explained import (
    ORDER,
    Layer,
    check_found_are_detected_better,
    check_moved_presences,
    group_means,
    judge_all,
    options,
)
from pythia.loading import LanguageModel
from pythia.single_token import ON_COPY, ON_MODEL, check_shuffled_directions, check_tokens_of_other_windows
from sensverify.claims import Run, Subject
from sensverify.geometry import random_directions
from sensverify.rule_features import Contexts
from sensverify.rules import RuleOptions, explain_presence
from sensverify.statistics import Interval
from sensverify.verdicts import Status, to_plain

pytest.importorskip("transformers")
DIRECTIONS = 12
FEW = RuleOptions(shuffles=4, resamples=100)


@pytest.fixture
def run(monkeypatch, tmp_path, tiny_model_folder, tiny_text):
    """A run on a tiny random model whose groups are given, so that nothing is searched for."""
    started = Run(seed=0, directory=tmp_path, subject=Subject(model=str(tiny_model_folder), text=tiny_text))
    model = subject.model(started)
    generator, centring = torch.Generator().manual_seed(0), model.architecture.centring
    groups = {name: random_directions(DIRECTIONS, model.width, centring, generator) for name in GROUPS}
    monkeypatch.setattr("pythia.explained.ENOUGH", DIRECTIONS)
    started.shared(f"pythia.compared {subject.searched_layer(started)}", lambda: groups)
    return started


def test_a_rule_about_a_models_tokens_is_found_in_their_own_spelling(run):
    model, windows = subject.model(run), subject.corpus(run).held_out
    ids = model.tokenizer(" the", add_special_tokens=False)["input_ids"]
    assert len(ids) == 1
    presence = (windows[:, 1:] == ids[0]).float() * 0.3 - 0.5
    share = float((presence > -0.4).float().mean())
    found = explain(
        model, windows, presence, first_position=1, options=dataclasses.replace(FEW, share=share), seed=1
    )  # fmt: skip
    assert found.accuracy.value > 0.95
    assert found.rule.words == "the token is ' the'"
    assert found.p_value == pytest.approx(1 / 5)


def test_groups_are_explained_on_the_same_halves(run):
    model, windows = subject.model(run), subject.corpus(run).held_out
    presence = torch.rand(6, len(windows), windows.shape[1] - 1, generator=torch.Generator().manual_seed(0))
    together = explain_all(model, windows, presence, first_position=1, options=FEW, seed=3)
    apart = explain_all(model, windows, presence[4:], first_position=1, options=FEW, seed=3)
    assert torch.equal(together.strong[4:], apart.strong)
    assert [e.rule for e in together.each[4:]] == [e.rule for e in apart.each]


class Pieces:
    """A tokenizer that, like SentencePiece's, decodes a single token without the space before it."""

    names = ("▁she", "her", "<0xC3>", "\n")

    def convert_ids_to_tokens(self, token):
        return self.names[token]

    def decode(self, tokens, **_options):
        return ("she", "her", "\ufffd", "\n")[tokens[0]]


def test_a_token_keeps_the_space_that_its_tokenizer_leaves_out():
    model = LanguageModel("pieces", None, types.SimpleNamespace(), Pieces(), "")
    assert [token_string(model, token) for token in range(4)] == [" she", "her", "<0xC3>", "\n"]


def planted(signal, seed, directions=12):
    """Explanations of directions whose presence follows one token each by ``signal``, in a text of random words."""
    generator = numpy.random.default_rng(0)
    tokens = generator.integers(30, size=(120, 20))
    contexts = Contexts(tokens=tokens, strings={i: f" word{i}" for i in range(30)})
    noise = torch.randn(directions, 120, 20, generator=torch.Generator().manual_seed(seed))
    follows = torch.stack([torch.tensor(tokens == 2 * k).float() for k in range(directions)])
    return explain_presence(contexts, signal * follows + noise, torch.Generator().manual_seed(0), FEW)


@pytest.mark.parametrize(
    ("found", "sae", "random", "status"),
    [
        (6, 2, 1, Status.SUPPORTED),
        (3, 6, 1, Status.REFUTED),
        (3, 1, 6, Status.REFUTED),
        (3, 3, 1, Status.INCONCLUSIVE),
    ],
)
def test_the_order_of_planted_groups_is_judged_as_it_is(found, sae, random, status):
    groups = {FOUND: planted(found, 1), SAE: planted(sae, 2), RANDOM: planted(random, 3)}
    means = group_means([Layer(layer=0, groups=groups, other_end={})], seed=0)
    intervals = {name: means.difference(FOUND, name, 0.025) for name in (SAE, RANDOM)}
    assert judge_all(intervals, ORDER)[0] is status
    narrow, wide = means.difference(FOUND, SAE), intervals[SAE]
    assert wide.low <= narrow.low <= narrow.value <= narrow.high <= wide.high


def test_one_comparison_on_the_wrong_side_refutes_and_is_named():
    intervals = {"a": Interval(0.1, 0.05, 0.2), "b": Interval(-0.1, -0.2, -0.05)}
    assert judge_all(intervals, ORDER) == (Status.REFUTED, "b")


def test_random_directions_in_the_place_of_found_ones_do_not_support_the_claim(run):
    finding = check_found_are_detected_better(run)
    assert finding.status in {Status.INCONCLUSIVE, Status.REFUTED}
    to_plain(finding.evidence)
    assert finding.evidence["shuffled_labels"][FOUND] == pytest.approx(0.5, abs=0.02)
    assert check_moved_presences(run).status is Status.REFUTED
    intervals, histogram, rules, published = finding.exhibits
    assert [one.to_json()["kind"] for one in finding.exhibits] == ["intervals", "histogram", "table", "table"]
    against = finding.evidence[f"found_minus_{RANDOM}"]
    assert f"random {against['value']:+.3f} [{against['low']:+.3f}" in intervals.caption
    assert len(histogram.groups) <= 5
    least = 1 / (1 + options(run).shuffles)
    assert f"none is below 1/{1 + options(run).shuffles} = {least:.2g}" in rules.caption
    assert all(row[5] >= float(f"{least:.2g}") for row in rules.rows)
    assert published.rows[2][1:] == ["0.550", "0.746"]


def test_a_copy_that_hears_its_tokens_alone_is_single_token_and_a_model_that_mixes_them_less_so(run):
    """With the copy's attention silenced, the stream at a position is a function of its token."""
    copy, model = compared.shuffled_model(run), subject.model(run)
    with torch.no_grad():
        for block in copy.network.gpt_neox.layers:
            block.attention.dense.weight.zero_()
        for block in model.network.gpt_neox.layers:
            block.attention.dense.weight.mul_(6)
    finding = check_shuffled_directions(run)
    assert finding.status is Status.SUPPORTED
    explained = finding.evidence["median_explained_by_token"]
    assert explained[ON_COPY]["value"] > 0.99 > explained[ON_MODEL]["value"]
    assert finding.evidence["share_single_token"][ON_COPY] == 1
    # there the token decides every direction, found or drawn, and the evidence says what that makes of the claim
    beside = finding.evidence["mean_on_the_copy_found_minus_random_not_judged"]
    assert -0.01 < beside["low"] <= beside["high"] < 0.01
    assert f"{explained[ON_COPY]['value']:.3f} of a found" in finding.evidence["about"]
    assert all(0.5 <= share <= 1 for share in finding.evidence["coverage"].values())
    assert check_tokens_of_other_windows(run).status is Status.REFUTED


def test_nothing_is_concluded_where_most_tokens_are_hardly_seen_again(run, monkeypatch):
    monkeypatch.setattr("sensverify.token_identity.OFTEN_ENOUGH", 10**6)
    finding = check_shuffled_directions(run)
    assert finding.status is Status.INCONCLUSIVE
    assert set(finding.evidence["coverage"].values()) == {0}


def test_a_copy_that_mixes_its_tokens_more_than_the_model_refutes_the_claim(run):
    copy, model = compared.shuffled_model(run), subject.model(run)
    with torch.no_grad():
        for block in copy.network.gpt_neox.layers:
            block.attention.dense.weight.mul_(6)
        for block in model.network.gpt_neox.layers:
            block.attention.dense.weight.zero_()
    finding = check_shuffled_directions(run)
    assert finding.status is Status.REFUTED
    assert finding.witness["PY-6.contrast"]["outcome"] == "outside"
