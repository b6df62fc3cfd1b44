"""Intervals hold what they claim to hold: checked by drawing many samples whose truth is known."""

import pytest
import torch

from sensverify.statistics import mean_interval, seed_mean, share_interval


def coverage(make, truth, repetitions=400):
    return sum(one.low <= truth <= one.high for one in map(make, range(repetitions))) / repetitions


def hits(seed, spread, models=3, items=128, share=0.95):
    """Models whose shares lie around ``share`` with standard deviation ``spread``."""
    generator = torch.Generator().manual_seed(seed)
    shares = (share + spread * torch.randn(models, generator=generator)).clamp(0, 1)
    return [torch.rand(items, generator=generator) < one for one in shares]


@pytest.mark.parametrize(
    ("spread", "models", "items", "share", "least"),
    [
        (0.0, 1, 16, 0.8, 0.93),
        (0.0, 1, 64, 0.95, 0.93),
        (0.0, 3, 128, 0.95, 0.93),
        (0.015, 3, 128, 0.95, 0.93),
        (0.05, 3, 512, 0.9, 0.87),  # three models that differ by much: the hardest case
        (0.1, 3, 128, 0.8, 0.89),
        (0.05, 5, 512, 0.9, 0.91),
    ],
)
def test_a_share_lies_in_its_interval_about_19_times_of_20(spread, models, items, share, least):
    def of_hits(seed):
        drawn = hits(seed, spread, models, items, share)
        return share_interval(drawn, torch.Generator().manual_seed(seed), resamples=500)

    assert coverage(of_hits, share) >= least


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
    """Jeffreys' interval of 100 of 100 ends at 0.9753."""
    interval = share_interval([torch.full((100,), hit)], torch.Generator().manual_seed(0), resamples=20_000)
    assert interval.value == float(hit)
    assert abs(getattr(interval, end) - float(hit)) == pytest.approx(1 - 0.9753, abs=0.002)


def test_an_interval_ends_where_the_possible_ends():
    assert seed_mean([0.9, 1.0, 1.0], within=(0, 1)).high == 1
    assert seed_mean([0.9, 1.0, 1.0]).high > 1
    assert seed_mean([0.0, 0.0, 0.1], within=(0, 1)).low == 0


def test_one_seed_has_no_interval_over_seeds():
    with pytest.raises(ValueError, match="at least two"):
        seed_mean([1.0])
