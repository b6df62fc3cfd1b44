"""What the planted transformers say for language models: measured against what was planted, and able to say no."""

import dataclasses

import pytest
import torch

from sensverify.claims import Run, resolve
from sensverify.geometry import Centring
from sensverify.matching import Comparison, Matching
from sensverify.statistics import Interval
from sensverify.swaps import DIRECTION, HALVED, NORM, OWN, TURN
from sensverify.verdicts import Status
from toy_models import claims, planted, planted_predictions, published_score, stability, swapping, two_tokens
from toy_models.extrapolation import half_the_excess, order
from toy_models.planted import Subject
from toy_models.planting import PlantingConfig, plant

SMALL = PlantingConfig(features=16, width=48, tokens=128, most_active=4)
BY_ID = {claim.id: claim for claim in claims}


@pytest.fixture(scope="module")
def subject():
    return Subject(plant(SMALL, 5))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two small models, hastily searched; the checks are the product's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(two_tokens, "TEXT_WINDOWS", 128)
        patch.setattr(two_tokens, "RESAMPLES", 300)
        patch.setattr(swapping, "CONTEXTS", 64)
        started = Run(seed=0, directory=tmp_path_factory.mktemp("planted"))
        rows = planted.searches(started)
        hasty = {"directions": 10, "steps": 80, "contexts": 24}
        patch.setattr(planted, "searches", lambda run: {
            name: dataclasses.replace(row, options=dataclasses.replace(row.options, **hasty))
            for name, row in rows.items()
        })  # fmt: skip
        patch.setattr(planted, "subjects", lambda run: [Subject(plant(SMALL, seed)) for seed in (0, 1)])
        yield started


# --- What is measured ------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_longer_stream_computes_the_same_and_a_longer_embedding_alone_does_not(subject):
    model = subject.planted.transformer
    tokens = subject.planted.windows(8, 6, torch.Generator().manual_seed(0))
    before = model.logits(tokens).log_softmax(-1)
    long = model.scaled(20.0)
    torch.testing.assert_close(long.logits(tokens).log_softmax(-1), before, atol=0.05, rtol=0)
    for one, other in zip(model.residuals(tokens), long.residuals(tokens), strict=True):
        torch.testing.assert_close(other / 20, one, atol=0.01, rtol=0.01)
    alone = dataclasses.replace(model, embedding=20 * model.embedding)
    assert float((alone.logits(tokens).log_softmax(-1) - before).abs().max()) > 0.5


@torch.no_grad()
def test_a_shuffled_copy_has_the_entries_of_every_matrix_elsewhere(subject):
    model = subject.planted.transformer
    copy = model.shuffled(torch.Generator().manual_seed(0))
    mlp, other = model.blocks[2].mlp, copy.blocks[2].mlp
    for one, shuffled in ((model.embedding, copy.embedding), (mlp.enter.weight, other.enter.weight)):
        assert one.flatten().sort().values.equal(shuffled.flatten().sort().values)
        assert not one.equal(shuffled)
    assert mlp.enter.bias.equal(other.enter.bias)
    assert copy.blocks[0].attention is None


@torch.no_grad()
def test_divergences_are_those_of_the_whole_model_with_one_activation_replaced(subject):
    """Against a forward pass that is written out: block 2 and the final norm on the stream that was swapped."""
    row = swapping._measure(subject)
    model, windows = subject.planted.transformer, subject.readout(1, layer=1, offset=0).windows
    generator = subject.generator(30)
    positions = torch.randint(1, planted.LENGTH, (swapping.CONTEXTS,), generator=generator)
    stream = model.residuals(windows)[1]
    block = model.blocks[2]

    def log_probabilities(x):
        after = x + block.mlp.out(block.mlp.units(block.norm_2(x)))
        return (model.final_norm(after) @ model.unembedding.T).double().log_softmax(-1)

    for i in (0, 7, 31):
        x, y = (Centring.MEAN.project(stream[w, positions[i]]) for w in (i, i + 1))
        clean = log_probabilities(x)
        for name, moved in ((DIRECTION, y * x.norm() / y.norm()), (HALVED, x / 2)):
            expected = float((clean.exp() * (clean - log_probabilities(moved))).sum())
            assert float(row.effects[name][i]) == pytest.approx(expected, rel=1e-3)
        assert float(row.effects[OWN][i]) < 1e-9
        assert float(row.change[i]) == pytest.approx(abs(float(y.norm() / x.norm()) - 1), abs=1e-5)


@torch.no_grad()
def test_presences_after_block_1_say_what_the_token_before_was_where_attention_copied_it(subject):
    """The ground truth of TM-8.rules: a direction of A is the token's own, its copy in B is the token before's."""
    model, features = subject.planted.transformer, subject.planted.features
    windows = subject.planted.windows(256, 8, torch.Generator().manual_seed(0))
    copied = features @ subject.planted.carried.T @ subject.planted.copied
    stream = model.residuals(windows)[two_tokens.CARRIES_TWO][:, 1:]
    codes = subject.planted.codes @ features  # in the stream of each token, up to its length
    own, before = codes[windows[:, 1:]], codes[windows[:, :-1]]
    rho = two_tokens._presences(stream, torch.cat([features, copied]))

    def correlation(a, b):
        return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])

    for k in range(4):
        assert correlation(rho[k], own @ features[k]) > 0.9
        assert correlation(rho[len(features) + k], before @ features[k]) > 0.9
        assert abs(correlation(rho[len(features) + k], own @ features[k])) < 0.1


# --- What is concluded -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TM-8.swaps", "TM-8.published", "TM-8.rules", "TM-8.shuffled"])
def test_small_models_agree_with_the_claim_and_refute_its_twins(run, name):
    claim = BY_ID[name]
    assert resolve(claim.check)(run).status is claim.expected
    for twin in claim.false_twins:
        finding = resolve(twin.check)(run)
        assert finding.status is Status.REFUTED, twin.statement
        assert finding.witness


def test_the_published_share_is_not_seen_by_a_score_that_keeps_the_norm(run):
    for row in published_score.measured(run):
        assert row.ours_changed == pytest.approx(1, abs=0.01)
        assert row.largest_change < 0.05
        assert max(share.high for share in row.shares[published_score.OURS]) < 1e-6


def test_searches_of_a_subspace_that_share_no_direction_are_refuted(monkeypatch, tmp_path):
    """Against sets of the whole sphere they would be the same by more than the claim asks for."""
    pytest.importorskip("scipy")
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(64, 20, generator=generator)).Q
    sets = [torch.nn.functional.normalize(torch.randn(12, 20, generator=generator) @ basis.T) for _ in range(3)]
    row = stability._compared("TM-8", 7, sets, Centring.NONE, generator)
    assert row.found.stability_on_the_sphere(generator).low > 0.05
    monkeypatch.setattr(stability, "measured", lambda run: [row])
    run = Run(seed=0, directory=tmp_path)
    for check in (stability.check_stability, stability.check_random_sets, stability.check_sets_of_the_same_moment):
        assert check(run).status is Status.REFUTED


def test_nothing_is_concluded_of_tokens_that_are_hardly_seen_again(run, monkeypatch):
    monkeypatch.setattr("sensverify.token_identity.OFTEN_ENOUGH", 10**6)
    finding = two_tokens._judge_identity(two_tokens._identities(run, moved=0))
    assert finding.status is Status.INCONCLUSIVE
    assert {row["coverage"] for name, row in finding.evidence.items() if name.startswith("seed ")} == {0}


def row_of(low, random=0.0):
    cosines = torch.full((3, 4), 0.5)
    found = Comparison(matching=Matching(cosines=cosines, null=0.2, span=0.3), alike=cosines, sphere=cosines)
    chance = Interval(random, random, random)
    return stability.Stability("TM-2", 7, found, Interval(low + 0.1, low, low + 0.2), chance, chance)


@pytest.mark.parametrize(
    ("lows", "status"),
    [((0.03, 0.5), Status.SUPPORTED), ((0.02, 0.5), Status.INCONCLUSIVE), ((-0.2, 0.5), Status.REFUTED)],
)
def test_searches_are_judged_model_by_model(monkeypatch, tmp_path, lows, status):
    monkeypatch.setattr(stability, "measured", lambda run: [row_of(low) for low in lows])
    run = Run(seed=0, directory=tmp_path)
    assert stability.check_stability(run).status is status
    assert stability.check_random_sets(run).status is Status.REFUTED
    assert stability.check_sets_of_the_same_moment(run).status is Status.REFUTED


def test_stability_is_predicted_by_half_of_its_smallest_and_not_at_all_without_any(monkeypatch, tmp_path):
    run = Run(seed=0, directory=tmp_path)
    monkeypatch.setattr(stability, "measured", lambda run: [row_of(0.4), row_of(0.1)])
    assert planted_predictions.predict_stability(run).low == pytest.approx(0.05)
    monkeypatch.setattr(stability, "measured", lambda run: [row_of(0.4), row_of(-0.01)])
    assert planted_predictions.predict_stability(run) is None


def test_a_turn_that_does_less_than_a_norm_predicts_no_order(monkeypatch, tmp_path):
    def row(turn):
        effects = {DIRECTION: torch.full((50,), 9.0), NORM: torch.ones(50), HALVED: torch.full((50,), 3.0)}
        return swapping.Swapped(7, effects | {TURN: torch.full((50,), turn)}, torch.ones(50))

    monkeypatch.setattr(planted_predictions, "planted_seeds", lambda run: "7")
    run = Run(seed=0, directory=tmp_path)
    for turn, made in ((2.0, True), (0.5, False)):
        monkeypatch.setattr(swapping, "measured", lambda run, turn=turn: [row(2.0), row(turn)])
        assert (planted_predictions.predict_turns(run) is not None) == made
        assert planted_predictions.predict_swaps(run).low == 1


def test_rules_of_extrapolation():
    figures = [Interval(2.0, 1.5, 3.0), Interval(1.2, 1.1, 1.3)]
    assert order("X", "q", figures, "d").low == 1
    assert order("X", "q", [*figures, Interval(1.2, 1.0, 1.3)], "d") is None
    assert order("X", "q", figures, "d", above=1.1) is None
    assert half_the_excess("X", "q", 0.4, 0.0, "d").low == pytest.approx(0.2)
    assert half_the_excess("X", "q", 3.0, 1.0, "d").low == pytest.approx(2)
    assert half_the_excess("X", "q", 0.0, 0.0, "d") is None
