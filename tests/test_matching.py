"""What random sets of directions have in common, against a count of them and the best of all matchings."""

import itertools

import pytest
import torch

from sensverify.geometry import Centring, random_directions
from sensverify.matching import match_searches, matched_to, random_cosines, shared_span

pytest.importorskip("scipy")


def test_no_other_matching_has_a_larger_sum_of_absolute_cosines():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        first, second = (random_directions(5, 7, Centring.NONE, generator) for _ in range(2))
        best = max(
            float((first * second[list(order)]).sum(1).abs().sum()) for order in itertools.permutations(range(5))
        )
        assert float((first * second[matched_to(first, second)]).sum(1).abs().sum()) == pytest.approx(best)


def test_random_sets_have_no_stability_and_half_of_the_same_directions_about_half():
    generator = torch.Generator().manual_seed(0)
    null = float(random_cosines(32, 128, Centring.NONE, generator).mean())
    sets = [random_directions(32, 128, Centring.NONE, generator) for _ in range(3)]
    chance = match_searches(sets, null).stability(generator)
    assert abs(chance.value) < 0.02
    halves = [torch.cat([sets[0][:16], one[16:]]) for one in sets]
    stability = match_searches(halves, null).stability(generator)
    assert stability.low < 0.5 < stability.high
    assert stability.value == pytest.approx(0.5, abs=0.05)


def test_the_span_of_random_sets_overlaps_by_their_share_of_the_dimensions():
    generator = torch.Generator().manual_seed(0)
    first, second = (random_directions(20, 100, Centring.NONE, generator) for _ in range(2))
    assert shared_span(first, second) == pytest.approx(0.2, abs=0.04)
    assert shared_span(first, first.flip(0)) == pytest.approx(1)
