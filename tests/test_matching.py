"""What random sets of directions have in common, against a count of them and the best of all matchings."""

import dataclasses
import itertools

import pytest
import torch

from sensverify.geometry import Centring, random_directions
from sensverify.matching import (
    alike_sets,
    compare,
    compare_drawn,
    match_searches,
    matched_to,
    random_cosines,
    shared_span,
    sphere_sets,
)

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
    null = float(random_cosines(sphere_sets(32, 128, Centring.NONE), generator).mean())
    sets = [random_directions(32, 128, Centring.NONE, generator) for _ in range(3)]
    chance = match_searches(sets, null).stability(generator)
    assert abs(chance.value) < 0.02
    halves = [torch.cat([sets[0][:16], one[16:]]) for one in sets]
    stability = match_searches(halves, null).stability(generator)
    assert stability.low < 0.5 < stability.high
    assert stability.value == pytest.approx(0.5, abs=0.05)


def unrelated(dimensions, generator, sets=3, width=128):
    """Sets of 16 directions that have nothing in common but a subspace."""
    basis = torch.linalg.qr(torch.randn(width, dimensions, generator=generator)).Q
    return [
        torch.nn.functional.normalize(torch.randn(16, dimensions, generator=generator) @ basis.T) for _ in range(sets)
    ]


@pytest.mark.parametrize("dimensions", [24, 40, 64, 128])
def test_unrelated_directions_of_one_subspace_are_not_the_same(dimensions):
    """Against sets of the whole sphere they would be: in the fewer dimensions, the more."""
    generator = torch.Generator().manual_seed(dimensions)
    compared = compare(unrelated(dimensions, generator), Centring.NONE, generator, pairs=100)
    assert compared.matching.stability(generator).value < 0
    assert (compared.stability_on_the_sphere(generator).low > 0.05) == (dimensions < 100)


@pytest.mark.parametrize("dimensions", [24, 64])
def test_the_same_directions_are_the_same_in_a_subspace_too_and_half_of_them_about_half(dimensions):
    generator = torch.Generator().manual_seed(1)
    sets = unrelated(dimensions, generator)
    same = compare([sets[0], -sets[0].flip(0), sets[0]], Centring.NONE, generator, pairs=100).matching
    assert same.stability(generator).low > 0.999
    halves = compare([torch.cat([sets[0][:8], one[8:]]) for one in sets], Centring.NONE, generator, pairs=100).matching
    assert 0.2 < halves.stability(generator).value < 0.6


def test_random_sets_alike_have_the_second_moment_of_what_they_are_like():
    generator = torch.Generator().manual_seed(2)
    scales = torch.linspace(2, 0.1, 30) ** 2
    found = [torch.nn.functional.normalize(torch.randn(40, 30, generator=generator) * scales) for _ in range(3)]
    draw = alike_sets(found, Centring.MEAN)
    drawn = torch.cat([draw(generator) for _ in range(200)])
    assert drawn.sum(1).abs().max() < 1e-4
    assert drawn.norm(dim=1).allclose(torch.ones(len(drawn)))
    centred = torch.nn.functional.normalize(Centring.MEAN.project(torch.cat(found)))
    expected, moment = (rows.T @ rows / len(rows) for rows in (centred, drawn))
    assert float((moment - expected).norm() / expected.norm()) < 0.06
    # and nothing of the directions themselves: the nearest of them is as far as chance has it
    assert float((drawn[:40] @ found[0].T).abs().max(1).values.mean()) < 0.8


@pytest.mark.parametrize("steep", [0.0, 2.0])
def test_sets_drawn_alike_are_not_the_same_by_their_own_measure(steep):
    """Also where a few dimensions take most, which normalising flattens."""
    generator = torch.Generator().manual_seed(4)
    scales = torch.exp(-steep * torch.linspace(0, 1, 40))
    found = [torch.nn.functional.normalize(torch.randn(16, 40, generator=generator) * scales) for _ in range(3)]
    drawn = compare_drawn(alike_sets(found, Centring.NONE), 3, 12, Centring.NONE, generator)
    assert drawn.matching.stability(generator).high < 0
    assert drawn.matching.cosines.shape == (3, 12 * 16)


def test_where_one_line_is_all_there_is_nothing_is_known():
    line = torch.eye(8)[:1]
    generator = torch.Generator().manual_seed(3)
    matching = compare([line, -line, line], Centring.NONE, generator, pairs=5).matching
    interval = matching.stability(generator)
    assert (interval.low, interval.high) == (0, 1)
    assert dataclasses.replace(matching, null=0.5).stability(generator).value == pytest.approx(1)


def test_the_span_of_random_sets_overlaps_by_their_share_of_the_dimensions():
    generator = torch.Generator().manual_seed(0)
    first, second = (random_directions(20, 100, Centring.NONE, generator) for _ in range(2))
    assert shared_span(first, second) == pytest.approx(0.2, abs=0.04)
    assert shared_span(first, first.flip(0)) == pytest.approx(1)
