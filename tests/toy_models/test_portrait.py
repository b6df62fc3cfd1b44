"""The portrait shows what was measured, and its caption says no more than that."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest
import torch

from sensverify import plots
from sensverify.claims import Run
from sensverify.exhibits import Arrows, Curve, from_json
from sensverify.statistics import Interval
from toy_models import portrait
from toy_models.portrait import Plane, apart, as_arrows, as_curve, degrees, examine, standing, unit


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    return examine(Run(seed=0, directory=tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def weights(plane):
    return plane.model.weights.double().numpy()


def test_the_five_features_form_a_regular_pentagon(plane, weights):
    """Columns of a regular pentagon, turned and relabelled, have the Gram matrix of its cosines and no other."""
    gram = weights.T @ weights
    lengths = np.sqrt(np.diag(gram))
    assert lengths == pytest.approx([lengths.mean()] * 5, rel=0.02)
    cosines = np.sort(gram / np.outer(lengths, lengths), axis=1)
    expected = np.sort(np.cos(2 * np.pi * np.arange(5) / 5))
    assert cosines == pytest.approx(np.tile(expected, (5, 1)), abs=0.03)
    assert plane.gaps.sum().item() == pytest.approx(360)


def test_directions_found_lie_on_features(plane, weights):
    units = weights / np.linalg.norm(weights, axis=0)
    nearest = (plane.found.double().numpy() @ units).max(axis=1)
    near = int((nearest >= math.cos(math.radians(portrait.NEAR))).sum())
    assert near == plane.on_feature
    assert near > len(plane.found) / 2
    assert plane.chance == pytest.approx(5 * 2 * portrait.NEAR / 360, abs=0.005)


def naive_effect(weights, bias, hidden, direction, alpha):
    """One intervention in the plane, in plain numbers: turn ``hidden`` until its presence is ``alpha``."""
    length = math.hypot(*hidden)
    across = np.array([-direction[1], direction[0]])
    side = 1.0 if hidden @ across >= 0 else -1.0
    moved = length * (alpha * direction + side * math.sqrt(1 - alpha**2) * across)
    clean, changed = (np.maximum(weights.T @ point + bias, 0) for point in (hidden, moved))
    if not clean.any() or not changed.any():
        return 0.0 if clean.any() == changed.any() else 0.5
    return (1 - clean @ changed / (np.linalg.norm(clean) * np.linalg.norm(changed))) / 2


def test_the_line_agrees_with_a_plain_computation(plane, weights):
    """Inputs and presences are drawn anew, so both are noisy: four standard errors of the two together."""
    draws = np.random.default_rng(1)
    bias = plane.model.bias.double().numpy()
    x = (draws.random((60_000, 5)) < 0.05) * draws.random((60_000, 5))
    hidden = (x[x.any(axis=1)] @ weights.T)[:600]
    alphas = draws.random(len(hidden)) * 7 / 8
    chosen = list(range(0, portrait.ANGLES, 6))
    effects = np.array(
        [
            [
                naive_effect(weights, bias, h, np.array([math.cos(turn), math.sin(turn)]), alpha)
                for h, alpha in zip(hidden, alphas, strict=True)
            ]
            for turn in np.radians(plane.angles.double().numpy()[chosen])
        ]
    ).mean(axis=1)
    measured = plane.radius.numpy()[chosen]
    error = float(plane.standard_error.max()) * math.sqrt(1 + portrait.CONTEXTS / len(hidden))
    assert np.abs(effects / effects.mean() - measured / measured.mean()).max() < 4 * error


def test_sensitivity_peaks_at_the_features(plane):
    """Five peaks: the line's fifth harmonic is its strongest, and it points at the features."""
    assert plane.radius.mean().item() == pytest.approx(1)
    spectrum = np.fft.rfft(plane.radius.numpy())
    assert int(np.abs(spectrum[1:]).argmax()) + 1 == 5
    peak = -math.degrees(np.angle(spectrum[5])) / 5
    distance = apart(unit(torch.tensor([peak])), plane.columns) % 72
    assert float(torch.minimum(distance, 72 - distance).max()) < 3
    assert 1 < plane.of_features.low <= plane.of_features.value < 1.2


def test_the_same_seed_gives_the_same_figures(plane, tmp_path):
    run = Run(seed=0, directory=tmp_path)
    assert [exhibit.to_json() for exhibit in portrait.portrait(run)] == [
        as_arrows(plane).to_json(),
        as_curve(plane).to_json(),
    ]
    assert portrait.portrait(run) == portrait.portrait(run)


def test_the_arrows_are_the_columns_the_search_and_the_line(plane, weights):
    arrows = as_arrows(plane)
    assert isinstance(arrows, Arrows)
    assert np.array(arrows.groups["features"]) == pytest.approx(weights.T)
    assert np.hypot(*np.array(arrows.groups["found"]).T) == pytest.approx([1.0] * portrait.DIRECTIONS)
    (line,) = arrows.outlines.values()
    assert np.hypot(*np.array(line).T) == pytest.approx(plane.radius.numpy(), rel=1e-5)
    assert arrows.unit_circle


def test_the_curve_closes_and_its_band_holds_it(plane):
    curve = as_curve(plane)
    assert isinstance(curve, Curve)
    ((name, series),) = curve.series.items()
    assert (curve.x[0], curve.x[-1]) == (0.0, 360.0)
    assert series[0] == series[-1]
    assert all(low < value < high for value, (low, high) in zip(series, curve.bands[name], strict=True))


def test_both_come_back_from_the_record_and_can_be_drawn(plane):
    pytest.importorskip("matplotlib")
    for exhibit in (as_arrows(plane), as_curve(plane)):
        back = from_json(exhibit.to_json())
        assert back.to_json() == exhibit.to_json()
        drawing = plots.draw(back, uid="u")
        assert drawing is not None
        assert not [note for note in drawing.notes if note.startswith("Not drawn")]


def test_the_caption_counts_what_was_found(plane):
    caption = as_arrows(plane).caption
    assert f"{plane.on_feature} of them lie within 5° of a feature, where 14% of all directions lie" in caption
    assert f"they reach {plane.reached} of the features" in caption
    assert "an ascent of sensitivity ends on features" in caption
    assert f"[{plane.of_features.low:.3f}, {plane.of_features.high:.3f}]" in caption


def test_the_caption_admits_when_nothing_was_found(plane):
    between = dataclasses.replace(plane, found=unit(degrees(plane.columns) + 36))
    caption = as_arrows(between).caption
    assert "0 of them lie within" in caption
    assert "they reach 0 of the features" in caption
    assert "does not end on features" in caption


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (Interval(1.07, 1.06, 1.08), "more sensitive than random directions, but by so little"),
        (Interval(1.01, 0.99, 1.03), "do not stand out"),
        (Interval(0.9, 0.8, 0.95), "do not stand out"),
    ],
)
def test_what_is_said_of_features_follows_from_the_interval(plane, interval, words):
    assert words in standing(dataclasses.replace(plane, of_features=interval))


def test_the_start_with_the_lowest_loss_is_shown(plane, monkeypatch):
    losses = {0: (0.03, 0.1), 1: (0.012, 0.08), 2: (0.011, 0.05), 3: (0.02, 0.1)}

    def models(run, config, seeds):
        assert (config, list(seeds)) == (portrait.CONFIG, [7000, 7001, 7002, 7003])
        return [
            dataclasses.replace(plane.model, seed=seed, loss=losses[i][0], loss_of_zero=losses[i][1])
            for i, seed in enumerate(seeds)
        ]

    monkeypatch.setattr(portrait, "models", models)
    assert portrait.best_model(Run(seed=7, directory=None)).seed == 7001


def test_a_model_that_gave_features_up_is_told_as_it_is(plane):
    weights = plane.model.weights.clone()
    weights[:, 0] = 0
    poor = dataclasses.replace(plane, model=dataclasses.replace(plane.model, weights=weights))
    assert isinstance(poor, Plane)
    assert "the 4 features that it represents" in as_arrows(poor).caption
    assert len(re.findall(r"\d+°", as_curve(poor).caption)) == 4
    assert float(poor.gaps.max()) == pytest.approx(144, abs=2)
