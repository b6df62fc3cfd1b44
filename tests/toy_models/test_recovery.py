"""Matching against brute force over every one-to-one choice."""

import importlib.util
import itertools
import sys

import networkx
import pytest
import torch

from sensverify.discovery import DUPLICATE_COSINE
from sensverify.errors import InputError, MissingExtraError
from sensverify.statistics import seed_mean
from toy_models.recovery import FIGURES, match, over_seeds, recovery

needs_scipy = pytest.mark.skipif(importlib.util.find_spec("scipy") is None, reason="the extra toys is not installed")


def unit(count, width, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, width, generator=generator, dtype=torch.float64))


def one_to_one(cosines):
    """Every way of pairing rows and columns one to one, as lists of cosines."""
    table = cosines.tolist()
    if len(table) > len(table[0]):
        table = [list(row) for row in zip(*table, strict=True)]
    for columns in itertools.permutations(range(len(table[0])), len(table)):
        yield [row[column] for row, column in zip(table, columns, strict=True)]


@needs_scipy
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(("found", "truth"), [(1, 1), (3, 5), (5, 3), (6, 6), (1, 6), (6, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_figures_agree_with_a_search_through_all_pairings(found, truth, signed, seed):
    directions, features = unit(found, 3, seed), unit(truth, 3, seed + 100)
    cosines = directions @ features.T
    cosines = cosines if signed else cosines.abs()
    threshold = 0.5  # at 0.9, hardly anything random is met
    result = match(directions, features, signed=signed, threshold=threshold)
    pairs = min(found, truth)
    assert result.mean_matched_cosine == pytest.approx(max(map(sum, one_to_one(cosines))) / pairs)
    assert result.recovered == max(sum(c >= threshold for c in choice) for choice in one_to_one(cosines))
    rows = cosines.tolist()
    columns = cosines.T.tolist()
    assert result.directions_to_features == pytest.approx(sum(map(max, rows)) / found)
    assert result.features_to_directions == pytest.approx(sum(map(max, columns)) / truth)
    assert result.covered_share == pytest.approx(sum(max(column) >= threshold for column in columns) / truth)
    assert result.precise_share == pytest.approx(sum(max(row) >= threshold for row in rows) / found)
    for (row, column), cosine in zip(result.pairs.tolist(), result.matched.tolist(), strict=True):
        assert cosine == pytest.approx(rows[row][column])
    assert len(set(result.pairs[:, 0].tolist())) == len(set(result.pairs[:, 1].tolist())) == pairs


@needs_scipy
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_no_figure_depends_on_the_order_of_directions_or_features(signed, seed):
    features = unit(20, 6, seed)
    generator = torch.Generator().manual_seed(seed)
    noise = 0.2 * torch.randn(30, 6, generator=generator, dtype=torch.float64)
    directions = torch.nn.functional.normalize(features[torch.randint(20, (30,), generator=generator)] + noise)
    result = match(directions, features, signed=signed)
    assert result.duplicates > 0
    assert 0 < result.recovered < 20
    shuffled = match(
        directions[torch.randperm(30, generator=generator)],
        features[torch.randperm(20, generator=generator)],
        signed=signed,
    )
    assert shuffled.to_json() == pytest.approx(result.to_json())


@needs_scipy
def test_features_in_another_order_are_recovered_exactly():
    features = unit(12, 4, 0)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    result = match(features[order], features)
    assert result.pairs[:, 1].tolist() == order.tolist()
    for name in FIGURES:
        duplicates = result.duplicates if name == "duplicates" else 1.0
        assert FIGURES[name](result) == pytest.approx(duplicates)


@needs_scipy
def test_a_choice_of_the_nearest_in_turn_would_be_worse():
    """The first direction is nearest to feature 0, but is needed for feature 1."""
    features = torch.eye(2, dtype=torch.float64)
    angles = torch.tensor([0.75, 0.0], dtype=torch.float64)
    directions = torch.stack([angles.cos(), angles.sin()], dim=1)
    result = match(directions, features)
    assert result.pairs.tolist() == [[0, 1], [1, 0]]
    assert result.mean_matched_cosine == pytest.approx((float(angles[0].sin()) + 1) / 2)


@needs_scipy
def test_a_negated_feature_is_recovered_only_where_signs_are_open():
    features = torch.eye(5)
    signed, unsigned = (match(-features, features, signed=choice) for choice in (True, False))
    assert signed.recovered_share == 0
    assert signed.mean_matched_cosine == 0
    assert unsigned.recovered_share == 1
    assert unsigned.mean_matched_cosine == 1


@needs_scipy
@pytest.mark.parametrize(("signed", "duplicates"), [(True, 2), (False, 3)])
def test_planted_duplicates_are_counted_and_recover_nothing_more(signed, duplicates):
    features = torch.eye(6)
    planted = torch.stack([features[0], features[1], features[1], features[1], features[2], -features[2]])
    result = match(planted, features, signed=signed)
    assert result.duplicates == duplicates
    assert result.recovered == 3
    assert result.recovered_share == 0.5
    assert result.precise_share == pytest.approx(5 / 6 if signed else 1)


@needs_scipy
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_duplicates_are_what_groups_of_linked_directions_leave_over(seed, signed):
    directions = unit(25, 2, seed)
    graph = networkx.empty_graph(25)
    for i, j in itertools.combinations(range(25), 2):
        cosine = float(directions[i] @ directions[j])
        if (cosine if signed else abs(cosine)) > DUPLICATE_COSINE:
            graph.add_edge(i, j)
    assert match(directions, directions, signed=signed).duplicates == 25 - networkx.number_connected_components(graph)


@needs_scipy
def test_fewer_directions_than_features_cannot_recover_all():
    features = torch.eye(8)
    result = match(features[:2], features)
    assert result.mean_matched_cosine == 1
    assert result.directions_to_features == 1
    assert result.features_to_directions == result.recovered_share == 2 / 8


@needs_scipy
def test_more_directions_than_features_are_not_held_against_recall():
    features = torch.eye(8)
    result = match(features, features[:2])
    assert result.recovered_share == result.features_to_directions == result.mean_matched_cosine == 1
    assert result.directions_to_features == result.precise_share == 2 / 8


@needs_scipy
def test_one_direction_between_two_features_recovers_one_and_covers_both():
    angle = torch.tensor([-0.3, 0.3])
    features = torch.stack([angle.cos(), angle.sin()], dim=1)
    result = match(torch.tensor([[1.0, 0.0]]), features)
    assert result.recovered == 1
    assert result.covered_share == 1


@needs_scipy
@pytest.mark.parametrize("seed", range(5))
def test_votes_for_the_nearest_never_count_more_than_the_matching(seed):
    directions, features = unit(30, 3, seed), unit(15, 3, seed + 50)
    votes, result = recovery(directions, features), match(directions, features)
    assert 0 < votes.distinct <= result.recovered <= round(result.covered_share * 15)
    assert votes.mean_cosine == pytest.approx(result.directions_to_features)


@needs_scipy
def test_half_precision_is_matched_in_double():
    features = unit(10, 8, 0)
    result = match(features.half(), features.float())
    assert result.matched.dtype == torch.float64
    assert result.mean_matched_cosine == pytest.approx(1, abs=1e-5)


@needs_scipy
def test_the_interval_over_seeds_holds_the_mean_and_the_range():
    features = torch.eye(10)
    found = [3, 5, 10, 8]
    matchings = [match(features[:k], features) for k in found]
    intervals = over_seeds(matchings, torch.Generator().manual_seed(0))
    assert set(intervals) == set(FIGURES)
    share = intervals["recovered_share"]
    assert share.value == pytest.approx(sum(found) / 40)
    assert 0 <= share.low < share.value < share.high <= 1
    assert intervals["covered_share"] == share
    assert intervals["mean_matched_cosine"].low == intervals["mean_matched_cosine"].high == 1


@needs_scipy
def test_shares_resample_features_within_seeds_and_other_figures_are_one_number_per_seed():
    matchings = [match(unit(4, 3, seed), torch.eye(3)) for seed in range(9)]
    intervals = over_seeds(matchings, torch.Generator().manual_seed(7))
    met = [matching.best_of_features >= 0.9 for matching in matchings]
    assert intervals["covered_share"].value == pytest.approx(float(torch.cat(met).double().mean()))
    cosines = [matching.mean_matched_cosine for matching in matchings]
    assert intervals["mean_matched_cosine"] == seed_mean(cosines)
    for name, figure in FIGURES.items():
        values = torch.tensor([figure(matching) for matching in matchings], dtype=torch.float64)
        assert intervals[name].value == pytest.approx(float(values.mean()))


@needs_scipy
def test_seeds_that_cannot_be_pooled_are_refused():
    eye = torch.eye(3)
    with pytest.raises(InputError, match="at least 2 seeds"):
        over_seeds([match(eye, eye)], torch.Generator())
    with pytest.raises(InputError, match="one kind"):
        over_seeds([match(eye, eye), match(eye, eye, signed=False)], torch.Generator())


@pytest.mark.parametrize(
    ("directions", "message"),
    [
        (torch.zeros(0, 3), "at least one row"),
        (torch.ones(3), "at least one row"),
        (torch.eye(4), "width 3"),
        (2 * torch.eye(3), "length 1"),
        (torch.zeros(2, 3), "length 1"),
        (torch.full((2, 3), float("nan")), "length 1"),
    ],
)
def test_tables_that_are_not_directions_are_refused(directions, message):
    with pytest.raises(InputError, match=message):
        match(directions, torch.eye(3))


def test_without_scipy_matching_names_the_extra_and_voting_goes_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(MissingExtraError, match=r"sensverify\[toys\]"):
        match(torch.eye(3), torch.eye(3))
    assert recovery(torch.eye(3), torch.eye(3)).coverage == 1
