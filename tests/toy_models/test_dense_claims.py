"""Full dictionaries, parallel against sequential, dense features, growth: the product's checks on small models."""

import dataclasses

import pytest
import torch

from sensverify.claims import Run, resolve
from sensverify.discovery import SearchOptions, start_search
from sensverify.geometry import nearest
from sensverify.verdicts import Status
from toy_models import claims, dictionary, growth, searching, selective
from toy_models.recovery import match
from toy_models.superposition import SuperpositionConfig, SuperpositionReadout, train

BY_ID = {claim.id: claim for claim in claims}
IDS = ("TM-1.growth", "TM-2.full", "TM-5", "TM-9", "TM-9.crowded")
TINY = SuperpositionConfig(features=32, width=16, density=0.05, steps=500, batch=256, learning_rate=1e-2)


def small(options):
    return dataclasses.replace(options, steps=280)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Small models and short searches; judged by the same code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dictionary, "QUICK", dataclasses.replace(TINY, features=96, width=24, density=0.02))
        patch.setattr(dictionary, "SEARCHES", {name: small(o) for name, o in dictionary.SEARCHES.items()})
        patch.setattr(dictionary, "SEQUENTIAL_STEPS", 60)
        patch.setattr(dictionary, "SEQUENTIAL_QUICK", 10)
        patch.setattr(selective, "QUICK_SIZE", TINY)
        patch.setattr(selective, "SEARCHES", {name: small(o) for name, o in selective.SEARCHES.items()})
        patch.setattr(selective, "CONTEXTS", 512)
        patch.setattr(selective, "PLAIN", small(searching.PLAIN))
        patch.setattr(selective, "_crowded", lambda run: selective.subjects(run, 0.05))
        patch.setattr(growth, "WIDTHS", {"quick": (4, 16)})
        yield Run(seed=3, directory=tmp_path_factory.mktemp("dense"))


@pytest.mark.parametrize("name", IDS)
def test_every_false_twin_is_refuted_with_a_witness(run, name):
    for twin in BY_ID[name].false_twins:
        finding = resolve(twin.check)(run)
        assert finding.status is Status.REFUTED, twin.statement
        assert finding.witness


@pytest.mark.parametrize("name", IDS)
def test_the_check_itself_is_not_refuted_and_shows_something(run, name):
    finding = resolve(BY_ID[name].check)(run)
    assert finding.status in (Status.SUPPORTED, Status.INCONCLUSIVE)
    assert finding.exhibits
    assert all(exhibit.caption for exhibit in finding.exhibits)


def test_figures_are_the_same_in_a_fresh_folder(run, tmp_path):
    again = Run(seed=3, directory=tmp_path)
    first, second = (resolve(BY_ID["TM-1.growth"].check)(r).evidence for r in (run, again))
    assert first == second


def test_a_run_that_goes_on_searches_nothing_again(run, monkeypatch):
    resolve(BY_ID["TM-2.full"].check)(run)
    monkeypatch.setattr(searching, "search", None)
    again = Run(seed=3, directory=run.directory)
    assert resolve(BY_ID["TM-2.full"].check)(again).evidence["recovered_share"]


def test_plain_and_selective_stand_beside_peak(run):
    evidence = resolve(BY_ID["TM-9"].check)(run).evidence
    for density in ("p = 0.05", "p = 0.4"):
        assert {"peak", "selective", "plain", selective.AUTOENCODER} <= set(evidence[density])
        assert set(evidence[density]["feature_to_random"]) == {"peak", "selective", "plain"}


def test_independent_components_more_or_fewer_directions_and_the_geometry_are_told(run):
    finding = resolve(BY_ID["TM-9"].check)(run)
    for density in ("p = 0.05", "p = 0.4"):
        row = finding.evidence[density]
        assert row[selective.INDEPENDENT]["per_seed"][0]["directions"] == 2 * TINY.width
        assert 0 <= row["geometry"]["share_with_an_opposite"]["value"] <= 1
        assert selective.MORE not in row  # it takes long: the full profile alone has it
    counted = finding.evidence["peak_with_K_directions"]
    assert [counted[f"K = {name}n"]["recovered_share"]["value"] <= most for name, most in (("0.5", 0.5), ("2", 1))] == [
        True,
        True,
    ]
    assert finding.exhibits[-1].x == [0.5, 1, 2]


def test_the_geometry_of_opposite_pairs_on_orthogonal_axes_is_recognised(run):
    def model(weights):
        first = selective.subjects(run, 0.05)[0]
        return dataclasses.replace(first, weights=weights, bias=torch.zeros(weights.shape[1]))

    pairs, alone = torch.cat([torch.eye(16), -torch.eye(16)], dim=1), torch.eye(16)
    of_pairs, of_alone = (selective._geometry(run, [model(weights)] * 2) for weights in (pairs, alone))
    assert of_pairs["share_with_an_opposite"]["value"] == 1
    assert of_alone["share_with_an_opposite"]["value"] == 0
    assert of_pairs["largest_cosine_with_others"] == of_alone["largest_cosine_with_others"] == [0, 0]


def test_other_weights_or_options_are_another_search(tmp_path):
    model = train(TINY, 0)
    readout = SuperpositionReadout(model)
    other = dataclasses.replace(model, bias=model.bias + 1e-3)
    assert searching.fingerprint(readout) != searching.fingerprint(SuperpositionReadout(other))
    run = Run(seed=0, directory=tmp_path)
    options = dataclasses.replace(searching.PEAK, directions=6, steps=5)
    first = searching.searched(run, readout, options)
    assert first.equal(searching.searched(run, readout, options))
    assert not first.equal(searching.searched(run, readout, dataclasses.replace(options, seed=9)))


def test_starting_at_activations_is_nearer_to_sparse_features_than_starting_anywhere():
    model = train(dataclasses.replace(TINY, features=64, width=32, density=0.02), 0)
    readout = SuperpositionReadout(model)
    cosines = {}
    for start in ("random", "activations"):
        state = start_search(readout, SearchOptions(directions=64, start=start, seed=11))
        torch.testing.assert_close(state.directions.norm(dim=1), torch.ones(64))
        cosines[start] = float(nearest(state.directions, model.feature_directions)[0].mean())
    assert cosines["activations"] > cosines["random"] + 0.2


def test_the_judge_of_dictionaries_knows_all_three_answers(run):
    features = torch.eye(16)
    everything, nothing = match(features, features), match(features.roll(1, 1) * 0 + features[:1], features)
    judge = dictionary._judge_dictionary
    assert judge(run, [everything] * 3, {}, ()).status is Status.SUPPORTED
    assert judge(run, [nothing] * 3, {}, ()).status is Status.REFUTED
    assert judge(run, [everything, everything, nothing], {}, ()).status is Status.INCONCLUSIVE


def quality(effects, directions):
    return dictionary.Quality(effects=effects, matching=match(directions, torch.eye(16)), largest_overlap=0.0)


def test_parallel_search_is_refuted_by_poor_recovery_alone(run):
    """The scores are equal to the last bit."""
    effects = torch.rand(16, 40, generator=torch.Generator().manual_seed(0))
    between = torch.nn.functional.normalize(torch.eye(16) + torch.eye(16).roll(1, 1), dim=1)
    good, poor = (
        [quality(effects, torch.eye(16))] * dictionary.QUICK_MODELS,
        [quality(effects, between)] * dictionary.QUICK_MODELS,
    )
    finding = dictionary._judge_parallel(run, poor, good, {}, ())
    assert finding.status is Status.REFUTED
    assert all(ratio["value"] == pytest.approx(1) for ratio in finding.witness["score_ratio"].values())
    assert finding.witness["difference_in_share_of_directions_at_a_feature"]["high"] < -0.1
    assert dictionary._judge_parallel(run, good, poor, {}, ()).status is not Status.REFUTED


def test_a_loss_of_directions_that_may_be_chance_decides_nothing(run):
    effects = 1 + torch.rand(16, 400, generator=torch.Generator().manual_seed(0)) / 100
    some = torch.eye(16)
    some[:2] = torch.nn.functional.normalize(torch.ones(16), dim=0)
    good, fair = (
        [quality(effects, torch.eye(16))] * dictionary.QUICK_MODELS,
        [quality(effects, some)] * dictionary.QUICK_MODELS,
    )
    assert dictionary._judge_parallel(run, fair, good, {}, ()).status is Status.INCONCLUSIVE
    assert dictionary._judge_parallel(run, good, good, {}, ()).status is Status.SUPPORTED


def test_the_interval_of_a_difference_of_shares_is_the_normal_one_where_models_are_alike():
    ones, others = torch.arange(400) < 300, torch.arange(400) < 200
    interval = dictionary.difference_of_shares([ones] * 4, [others] * 4)
    half = 1.96 * ((0.75 * 0.25 + 0.5 * 0.5) / 1600) ** 0.5
    assert interval.value == pytest.approx(0.25)
    assert interval.low == pytest.approx(0.25 - half, abs=0.001)
    assert interval.high == pytest.approx(0.25 + half, abs=0.001)


def test_models_that_differ_widen_the_interval_of_a_difference_but_not_what_they_share():
    yes, no = torch.ones(400, dtype=torch.bool), torch.zeros(400, dtype=torch.bool)
    interval = dictionary.difference_of_shares([yes, yes, no], [no, yes, no])
    assert interval.low < 0 < 0.9 < interval.high
    paired = dictionary.difference_of_shares([yes, no], [yes, no])
    assert paired.value == 0
    assert -0.01 < paired.low < 0 < paired.high < 0.01  # all of few is not all of any


def test_the_interval_of_a_difference_of_shares_holds_it_as_often_as_it_says():
    """Five models whose shares differ by more than their sixteen directions make them differ."""
    generator = torch.Generator().manual_seed(0)

    def drawn(mean):
        shares = (mean + 0.1 * torch.randn(5, generator=generator)).clamp(0, 1)
        return list(torch.rand(5, 16, generator=generator) < shares[:, None])

    intervals = [dictionary.difference_of_shares(drawn(0.7), drawn(0.5)) for _ in range(1000)]
    assert sum(one.low <= 0.2 <= one.high for one in intervals) >= 940
