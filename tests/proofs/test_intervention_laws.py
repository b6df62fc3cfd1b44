"""RN-1, RN-2 and RN-3 on concrete vectors, against rotations and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proofs.draws import DTYPES, draw, gamma
from proofs.floating import Comparison, sweep
from proofs.relative_norm_floating import compare_composition, compare_nearest, compare_others
from sensverify import formulas
from sensverify.claims import Run

seeded = settings(max_examples=60, deadline=None, derandomize=True, database=None)
SEEDS = st.integers(0, 10**6)
PRESENCES = st.floats(-0.999, 0.999)


def vectors(seed: int, dimension: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x, s, u = generator.normal(size=(3, dimension))
    return x, s / np.linalg.norm(s), u / np.linalg.norm(u)


@seeded
@given(seed=SEEDS, dimension=st.integers(2, 9), alpha=PRESENCES)
def test_norm_survives_any_presence(seed: int, dimension: int, alpha: float) -> None:
    x, s, _ = vectors(seed, dimension)
    moved = formulas.minimal_intervention(x, s, alpha)
    assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(x))
    assert moved @ s / np.linalg.norm(moved) == pytest.approx(alpha, abs=1e-9)


@seeded
@given(seed=SEEDS, alpha=PRESENCES)
def test_no_point_of_a_fine_circle_is_nearer(seed: int, alpha: float) -> None:
    """In three dimensions the points of given norm and presence form a circle: look at all of it."""
    x, s, u = vectors(seed, 3)
    first = np.cross(s, u)
    assume(np.linalg.norm(first) > 1e-3)
    first /= np.linalg.norm(first)
    second, angles = np.cross(s, first), np.linspace(0, 2 * np.pi, 2000)[:, None]
    ring = alpha * s + np.sqrt(1 - alpha**2) * (np.cos(angles) * first + np.sin(angles) * second)
    nearest = np.linalg.norm(np.linalg.norm(x) * ring - x, axis=1).min()
    assert np.linalg.norm(formulas.minimal_intervention(x, s, alpha) - x) <= nearest + 1e-12


@seeded
@given(seed=SEEDS, dimension=st.integers(2, 9), alpha=PRESENCES)
def test_the_displacement_is_a_chord(seed: int, dimension: int, alpha: float) -> None:
    x, s, _ = vectors(seed, dimension)
    length = np.linalg.norm(x)
    turned = np.arccos(x @ s / length) - np.arccos(alpha)
    moved = formulas.minimal_intervention(x, s, alpha)
    assert np.linalg.norm(moved - x) == pytest.approx(2 * length * abs(np.sin(turned / 2)), abs=1e-9)
    said = formulas.squared_displacement(length, x @ s / length, alpha)
    assert np.linalg.norm(moved - x) ** 2 == pytest.approx(said, abs=1e-9)


@seeded
@given(seed=SEEDS, dimension=st.integers(2, 9), alpha=PRESENCES, beta=PRESENCES)
def test_the_last_intervention_decides(seed: int, dimension: int, alpha: float, beta: float) -> None:
    x, s, _ = vectors(seed, dimension)
    once = formulas.minimal_intervention(x, s, alpha)
    np.testing.assert_allclose(
        formulas.minimal_intervention(once, s, beta), formulas.minimal_intervention(x, s, beta), atol=1e-8
    )


@seeded
@given(seed=SEEDS, dimension=st.integers(3, 9), alpha=PRESENCES)
def test_an_orthogonal_direction_shrinks_exactly_beyond_the_old_presence(
    seed: int, dimension: int, alpha: float
) -> None:
    x, s, u = vectors(seed, dimension)
    u = u - (u @ s) * s
    u /= np.linalg.norm(u)
    rho, before = x @ s / np.linalg.norm(x), x @ u / np.linalg.norm(x)
    assume(abs(before) > 1e-3 and abs(abs(alpha) - abs(rho)) > 1e-3)
    moved = formulas.minimal_intervention(x, s, alpha)
    after = moved @ u / np.linalg.norm(moved)
    assert after == pytest.approx(formulas.presence_of_other(before, rho, 0.0, alpha), abs=1e-9)
    assert (abs(after) < abs(before)) == (abs(alpha) > abs(rho))


@pytest.mark.parametrize("dtype", DTYPES)
def test_draws_are_as_hurtful_as_promised(dtype: torch.dtype) -> None:
    draws = draw(torch.Generator().manual_seed(0), count=2000, dimension=8, dtype=dtype)
    lengths = draws.x.double().norm(dim=1)
    assert lengths.min() < 1e-5
    assert lengths.max() > 1e5
    assert draws.sine.min() < 1e-4
    assert (1 - draws.alpha.abs()).min() < 1e-4
    assert (draws.x[:, 1:] == draws.x[:, 1:2]).all(dim=1).any()
    same = draw(torch.Generator().manual_seed(0), count=2000, dimension=8, dtype=dtype)
    assert torch.equal(draws.x, same.x)


@pytest.mark.parametrize("compare", [compare_nearest, compare_composition, compare_others])
def test_most_draws_say_something(compare: object) -> None:
    draws = draw(torch.Generator().manual_seed(1), count=500, dimension=8, dtype=torch.float64)
    for comparison in compare(draws):  # type: ignore[operator]
        assert (comparison.bound <= 0.5).double().mean() > 0.5, comparison.law


def test_the_bound_is_not_so_wide_that_anything_passes() -> None:
    """An error of a hundred round-offs per coordinate is caught."""
    draws = draw(torch.Generator().manual_seed(2), count=500, dimension=2, dtype=torch.float32)
    worst = max(float(c.fraction().max()) for c in compare_nearest(draws))
    assert 0.001 < worst <= 1
    assert gamma(10, torch.float32) < 1e-6


def test_a_failing_draw_becomes_the_witness(tmp_path: object) -> None:
    def off_by_a_percent(draws: object) -> list[Comparison]:
        x = draws.x  # type: ignore[attr-defined]
        error = torch.full((len(x), 1), 0.01, dtype=torch.float64)
        return [Comparison(law="wrong", error=error, bound=torch.full_like(error, 1e-3))]

    swept = sweep(Run(seed=0, directory=tmp_path), "test", off_by_a_percent)  # type: ignore[arg-type]
    assert swept.failure is not None
    assert swept.failure["law"] == "wrong"
    assert len(swept.failure["x"]) == 2
    assert swept.largest == {"wrong": pytest.approx(10)}


def test_nothing_computed_counts_as_a_failure() -> None:
    nan = torch.full((1, 1), torch.nan)
    assert float(Comparison(law="nan", error=nan, bound=torch.full((1, 1), 0.1)).fraction()) == torch.inf
    assert float(Comparison(law="vacuous", error=nan, bound=torch.full((1, 1), 9.0)).fraction()) == 0
