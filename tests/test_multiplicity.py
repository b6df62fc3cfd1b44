"""Several comparisons at once, against enumeration and the textbook."""

import itertools

import pytest
import torch

from sensverify.multiplicity import holm, median_interval, sign_interval, sign_test


@pytest.mark.parametrize("trials", [1, 4, 7])
def test_sign_tests_count_tosses(trials):
    tosses = list(itertools.product((0, 1), repeat=trials))
    for wins in range(trials + 1):
        assert sign_test(wins, trials) == sum(sum(toss) >= wins for toss in tosses) / len(tosses)


def test_no_trials_decide_nothing():
    assert sign_test(0, 0) == 1


def test_holm_agrees_with_its_rejections_at_every_level():
    """Step down: reject the smallest while it is at most level/(how many are left)."""
    p_values = [0.012, 0.2, 0.004, 0.03, 0.012]
    adjusted = holm(p_values)
    for level in (0.01, 0.02, 0.04, 0.05, 0.06, 0.1, 0.2, 0.3):
        rejected, left = set(), sorted(range(5), key=lambda i: p_values[i])
        for rank, index in enumerate(left):
            if p_values[index] > level / (5 - rank):
                break
            rejected.add(index)
        assert {i for i in range(5) if adjusted[i] <= level} == rejected


def test_holm_rejects_no_true_hypothesis_too_often():
    """Of families of five true hypotheses, one in twenty has a rejection."""
    generator = torch.Generator().manual_seed(0)
    families = torch.rand(4000, 5, generator=generator).tolist()
    rate = sum(min(holm(family)) <= 0.05 for family in families) / len(families)
    assert rate == pytest.approx(0.05, abs=0.012)


def test_median_intervals_cover_the_median_and_live_with_infinities():
    missed = 0
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        values = torch.randn(81, generator=generator).exp()
        interval = median_interval(values, generator, resamples=400)
        missed += not interval.low <= 1 <= interval.high
    assert missed <= 8
    values = torch.tensor([1.0, 2.0, 3.0, float("inf"), 4.0])
    interval = median_interval(values, torch.Generator().manual_seed(0))
    assert (interval.value, interval.high) == (3.0, float("inf"))


@pytest.mark.parametrize("count", [4, 8, 21, 64])
def test_an_interval_of_sign_tests_lies_beyond_a_number_where_the_test_against_it_rejects(count):
    generator = torch.Generator().manual_seed(count)
    rejections = 0
    for shift in torch.linspace(-1, 1, 80).tolist():
        values = torch.randn(count, generator=generator) + shift
        interval = sign_interval(values, 0.1)
        assert interval.low <= interval.value <= interval.high
        assert (interval.low > 0) == (sign_test(int((values > 0).sum()), count) < 0.1)
        assert (interval.high < 0) == (sign_test(int((values < 0).sum()), count) < 0.1)
        rejections += interval.low > 0
    assert 5 < rejections < 60
