"""The theory of the boundary against exact geometry, and against the engine on dictionaries that were built by hand."""

from __future__ import annotations

import itertools
import json
import math
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from sensverify.claims import Run, resolve
from sensverify.errors import InputError
from sensverify.statistics import Interval
from sensverify.verdicts import Status
from toy_models import boundary_check
from toy_models.boundary import (
    POLYTOPES,
    Geometry,
    Ingredients,
    Statistics,
    boundary,
    fit,
    geometries,
    overlaps_of,
    predicted_ratio,
    predicted_ratio_given,
)
from toy_models.boundary_cells import Cell, _measure, statistics_of
from toy_models.boundary_check import crossing
from toy_models.catalogue.boundary import claims
from toy_models.superposition import SuperpositionConfig, SuperpositionModel


def _pentagon() -> np.ndarray:
    angles = 2 * math.pi * np.arange(5) / 5
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def _antiprism() -> np.ndarray:
    radius, height = math.sqrt(2 / 3), math.sqrt(1 / 3)
    corners = [(k * math.pi / 4, height if k % 2 else -height) for k in range(8)]
    return np.array([(radius * math.cos(a), radius * math.sin(a), z) for a, z in corners])


def _icosahedron() -> np.ndarray:
    golden = (1 + math.sqrt(5)) / 2
    points = [(0.0, a, b * golden) for a, b in itertools.product((-1, 1), repeat=2)]
    turned = np.array([np.roll(point, shift) for point in points for shift in range(3)])
    return np.asarray(turned / np.linalg.norm(turned, axis=1, keepdims=True))


@pytest.mark.parametrize(("index", "points"), [(0, _pentagon()), (1, _antiprism()), (2, _icosahedron())])
def test_the_small_polytopes_have_the_cosines_and_moments_that_the_theory_gives_them(
    index: int, points: np.ndarray
) -> None:
    size, dimension, atoms = POLYTOPES[index]
    assert points.shape == (size, dimension)
    gram = points @ points.T
    expected = sorted(value for value, count in atoms for _ in range(round(count)))
    for row in range(size):
        cosines = np.delete(gram[row], row)
        assert np.sort(cosines) == pytest.approx(expected)
        assert [(cosines**m).sum() for m in (1, 2, 3)] == pytest.approx([-1, size / dimension - 1, -1])


def test_every_geometry_has_the_moments_it_declares() -> None:
    for geometry in geometries(160, 20):
        overlaps = overlaps_of(geometry)
        assert len(overlaps) == geometry.kept - 1
        sums = [float((overlaps**m).sum()) for m in (1, 2, 3)]
        assert sums[:2] == pytest.approx(geometry.moments[:2], abs=1e-6)
        assert sums[2] == pytest.approx(geometry.moments[2], abs=0.08)


def test_no_third_moment_is_below_the_bound_of_schur() -> None:
    assert all(geometry.moments[2] >= -1 for features in (40, 60, 400) for geometry in geometries(features, 20))


def test_orthogonal_features_do_not_interfere() -> None:
    assert not overlaps_of(Geometry(10, (0.0, 0.0, 0.0))).any()


def test_twice_as_many_features_as_dimensions_are_read_in_pairs_without_a_threshold() -> None:
    found = fit(32, 16, 0.05)
    assert found.statistics.represented == 32
    assert found.statistics.atoms == ((-1.0, 1.0),)
    assert abs(found.statistics.threshold) < 0.02
    assert found.statistics.scale == pytest.approx(1, abs=0.02)


def test_dense_features_are_given_up_until_a_cross_polytope_is_left() -> None:
    assert fit(128, 16, 0.4).statistics.represented == 32
    assert fit(128, 16, 0.01).statistics.represented == 128


def test_a_theory_without_threshold_has_none() -> None:
    assert fit(64, 16, 0.02, Ingredients(threshold=False)).statistics.threshold == 0
    assert fit(64, 16, 0.02).statistics.threshold < -0.1


def test_the_same_arguments_give_the_same_figures() -> None:
    assert predicted_ratio(48, 12, 0.05, contexts=512) == predicted_ratio(48, 12, 0.05, contexts=512)


def _planted(weights: torch.Tensor, bias: float, density: float) -> SuperpositionModel:
    config = SuperpositionConfig(features=weights.shape[1], width=weights.shape[0], density=density)
    biases = torch.full((weights.shape[1],), bias)
    return SuperpositionModel(config=config, seed=3, weights=weights, bias=biases, loss=0.0, loss_of_zero=1.0)


def test_the_engine_agrees_on_a_cross_polytope() -> None:
    width, density = 24, 0.1
    model = _planted(torch.cat([torch.eye(width), -torch.eye(width)], 1), 0.0, density)
    statistics = statistics_of(model)
    assert statistics.moments == pytest.approx((-1, 1, -1))
    assert statistics.atoms == ((-1.0, 1.0),)
    predicted = predicted_ratio_given(2 * width, width, density, statistics)
    measured = _measure(model.config, [model])
    assert predicted.feature == pytest.approx(measured.feature, rel=0.06)
    assert predicted.random == pytest.approx(measured.random, rel=0.06)


def test_the_engine_agrees_on_random_directions_behind_a_threshold() -> None:
    generator = torch.Generator().manual_seed(5)
    weights = torch.nn.functional.normalize(torch.randn(32, 128, generator=generator), dim=0)
    model = _planted(weights, -0.25, 0.02)
    predicted = predicted_ratio_given(128, 32, 0.02, statistics_of(model))
    measured = _measure(model.config, [model])
    assert predicted.ratio == pytest.approx(measured.ratio.value, rel=0.1)
    assert measured.ratio.value > 1.3


def test_the_predicted_ratio_crosses_1_at_the_boundary() -> None:
    density = boundary(48, 16, contexts=1024)
    assert predicted_ratio(48, 16, density / 1.3, contexts=1024).ratio > 1
    assert predicted_ratio(48, 16, min(0.9, density * 1.3), contexts=1024).ratio < 1


@pytest.mark.parametrize("arguments", [(1, 16, 0.1), (32, 2, 0.1), (32, 16, 0.0), (32, 16, 1.0)])
def test_what_is_no_model_is_refused(arguments: tuple[int, int, float]) -> None:
    with pytest.raises(InputError):
        predicted_ratio(*arguments)


def test_a_crossing_is_interpolated_in_the_logarithm_of_the_density() -> None:
    assert crossing([0.1, 0.4], [1.1, 0.9]) == pytest.approx(0.2)
    assert crossing([0.05, 0.1, 0.4], [1.2, 1.1, 0.9]) == pytest.approx(0.2)
    assert math.isnan(crossing([0.1, 0.4], [1.2, 1.1]))


def _run_with(tmp_path: Path, ratios: dict[float, float]) -> Run:
    nothing = Statistics(represented=1, scale=1.0, threshold=0.0, moments=(0.0, 0.0, 0.0), atoms=(), dropped=0.0)
    cells = [
        Cell(
            features=60,
            width=20,
            density=density,
            ratio=Interval(ratio, ratio - 0.01, ratio + 0.01),
            seeds=(ratio,),
            feature=ratio,
            random=1.0,
            statistics=(nothing,),
        )
        for density, ratio in ratios.items()
    ]
    run = Run(seed=0, directory=tmp_path)
    run.shared("toy_models.boundary.cells", lambda: cells)
    return run


def test_who_knows_the_ratios_is_supported_and_who_knows_their_mean_is_refuted(tmp_path: Path) -> None:
    ratios = {0.02: 1.8, 0.05: 1.5, 0.1: 1.3, 0.2: 1.1, 0.3: 0.95, 0.4: 0.9}
    run = _run_with(tmp_path, ratios)
    knowing = boundary_check._judge(run, list(ratios.values()), {}, ())
    assert knowing.status is Status.SUPPORTED
    ignorant = boundary_check.check_constant(run)
    assert ignorant.status is Status.REFUTED
    assert ignorant.witness is not None
    assert boundary_check.check_one(run).status is Status.REFUTED


def test_where_no_measured_ratio_falls_to_1_nothing_is_said_of_the_boundary(tmp_path: Path) -> None:
    ratios = {0.02: 1.8, 0.05: 1.6, 0.1: 1.4, 0.2: 1.3}
    run = _run_with(tmp_path, ratios)
    knowing = boundary_check._judge(run, list(ratios.values()), {}, ())
    assert knowing.status is Status.INCONCLUSIVE
    assert "no boundary" in str(knowing.evidence["reason"])
    assert knowing.evidence["largest_factor_between_densities"] is None
    json.dumps(knowing.evidence, allow_nan=False)
    wrong = boundary_check.check_one(run)  # the other two figures still refute
    assert wrong.status is Status.REFUTED
    json.dumps(wrong.witness, allow_nan=False)


def test_only_three_features_to_a_dimension_are_held_to_a_crossing() -> None:
    assert "factor of 2" in boundary_check._caption(judged=True)
    assert "factor" not in boundary_check._caption(judged=False)
    assert "not judged" in boundary_check._caption(judged=False)


def test_errors_are_told_with_their_sign_group_by_group(tmp_path: Path) -> None:
    found = boundary_check.cells(_run_with(tmp_path, {0.02: 2.0, 0.2: 1.0}))
    predicted = [types.SimpleNamespace(ratio=ratio) for ratio in (1.0, 2.0)]
    errors = boundary_check._grouped(found, predicted, lambda cell, _: f"p = {cell.density:g}")
    assert errors["p = 0.02"]["mean_signed_error"] == pytest.approx(-math.log(2))
    together = boundary_check._grouped(found, predicted, lambda cell, _: f"d = {cell.width}")["d = 20"]
    assert together["mean_signed_error"] == pytest.approx(0)
    assert together["mean_error"] == together["largest_error"] == pytest.approx(math.log(2))


def test_every_check_of_the_claim_exists() -> None:
    for claim in claims:
        for reference in (claim.check, *(twin.check for twin in claim.false_twins)):
            assert callable(resolve(reference))
