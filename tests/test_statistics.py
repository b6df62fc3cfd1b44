"""Intervals hold what they claim to hold: checked by drawing many samples whose truth is known."""

import pytest
import torch

from sensverify.statistics import mean_interval, seed_mean, share_interval


def coverage(make, truth, repetitions=400):
    return sum(one.low <= truth <= one.high for one in map(make, range(repetitions))) / repetitions


def hits(seed, spread):
    """Three models of 128 items, whose shares lie around 0.95 with standard deviation ``spread``."""
    generator = torch.Generator().manual_seed(seed)
    shares = (0.95 + spread * torch.randn(3, generator=generator)).clamp(0, 1)
    return [torch.rand(128, generator=generator) < share for share in shares]


@pytest.mark.parametrize("spread", [0.0, 0.015])
def test_a_share_lies_in_its_interval_19_times_of_20(spread):
    covered = coverage(lambda seed: share_interval(hits(seed, spread), torch.Generator().manual_seed(seed)), 0.95)
    assert covered >= 0.92


def test_resampling_three_seeds_alone_misses_the_truth_in_one_case_of_five():
    def of_means(seed):
        means = torch.stack([one.double().mean() for one in hits(seed, 0.015)])
        return mean_interval(means, torch.Generator().manual_seed(seed), resamples=500)

    assert coverage(of_means, 0.95) < 0.82


def test_an_interval_over_seeds_has_students_coverage():
    def of_normals(seed):
        return seed_mean(torch.randn(3, generator=torch.Generator().manual_seed(seed)))

    assert 0.93 <= coverage(of_normals, 0.0, 2000) <= 0.97


def test_students_interval_of_two_numbers_is_known():
    interval = seed_mean([0.0, 2.0])
    assert interval.value == 1
    assert interval.high - 1 == pytest.approx(12.7062047, rel=1e-7)


def test_of_one_model_only_its_items_are_resampled():
    interval = share_interval([torch.tensor([True] * 90 + [False] * 10)], torch.Generator().manual_seed(0))
    assert interval.value == pytest.approx(0.9)
    assert interval.low == pytest.approx(0.9 - 1.96 * 0.03, abs=0.015)
    assert interval.high == pytest.approx(0.9 + 1.96 * 0.03, abs=0.015)


@pytest.mark.parametrize(("hit", "end"), [(True, "low"), (False, "high")])
def test_where_all_are_hit_or_none_the_interval_still_has_a_width(hit, end):
    """Of 100 of 100, a true share of 0.97 would show that in one case of 20."""
    interval = share_interval([torch.full((100,), hit)], torch.Generator().manual_seed(0))
    assert interval.value == float(hit)
    assert abs(getattr(interval, end) - float(hit)) == pytest.approx(0.02, abs=0.01)


def test_one_seed_has_no_interval_over_seeds():
    with pytest.raises(ValueError, match="at least two"):
        seed_mean([1.0])
