"""Wrapped read-outs: they change the output as they say, nothing else, and do not claim a basis they have not."""

import json
import math

import pytest
import torch

from sensverify.errors import InputError
from sensverify.readout import PrivilegedReadout
from sensverify.selectivity import check_privileged, is_privileged
from sensverify.sensitivity import estimate_on
from toy_models.readouts import BehindRotation, Linear, Mixed, Rotated, random_rotation
from toy_models.superposition import SuperpositionConfig, SuperpositionReadout, train

CONFIG = SuperpositionConfig(features=12, width=6, density=0.2, steps=100, batch=32, learning_rate=1e-2)


@pytest.fixture(scope="module")
def plain():
    return SuperpositionReadout(train(CONFIG, 0))


def every_way(plain):
    rotated = Rotated(plain, 1)
    return [rotated, Rotated(plain, 1, claims_privilege=True), BehindRotation(rotated), Mixed(plain, 0.3),
            Linear(plain.model)]  # fmt: skip


def moved(readout):
    batch = readout.sample(20, torch.Generator().manual_seed(5))
    return batch, torch.randn(3, 20, readout.width, generator=torch.Generator().manual_seed(6))


def test_every_wrapper_draws_the_contexts_of_what_it_wraps_and_can_be_described(plain):
    batch, _ = moved(plain)
    for readout in every_way(plain):
        assert moved(readout)[0].x.equal(batch.x)
        assert (readout.width, readout.centring, readout.device) == (6, plain.centring, plain.device)
        described = json.loads(json.dumps(readout.describe()))
        assert described["features"] == 12
        assert described["read_out"]["kind"] == type(readout).__name__
        assert isinstance(readout, PrivilegedReadout)


def test_clean_is_reading_what_is_there_already(plain):
    for readout in every_way(plain):
        batch, _ = moved(readout)
        assert readout.read(batch, batch.x[None])[0].allclose(readout.clean(batch), atol=1e-6)


def test_a_rotation_keeps_lengths_and_angles_and_moves_every_unit(plain):
    batch, x = moved(plain)
    before, after = plain.read(batch, x), Rotated(plain, 1).read(batch, x)
    assert (after @ after.mT).allclose(before @ before.mT, atol=1e-5)
    assert not after.allclose(before, atol=0.1)
    assert not Rotated(plain, 2).read(batch, x).allclose(after, atol=0.1)


def test_sensitivity_by_angles_does_not_see_a_rotation(plain):
    batch, _ = moved(plain)
    directions = plain.model.feature_directions
    scores = [
        estimate_on(readout, batch, directions, generator=torch.Generator().manual_seed(1)).mean
        for readout in (plain, Rotated(plain, 1))
    ]
    assert scores[0].allclose(scores[1], atol=1e-3)


def test_reading_behind_the_rotation_finds_the_units_again(plain):
    batch, x = moved(plain)
    assert BehindRotation(Rotated(plain, 1)).read(batch, x).allclose(plain.read(batch, x), atol=1e-5)


def test_mixing_is_linear_in_its_strength_and_nothing_at_zero(plain):
    batch, x = moved(plain)
    y = plain.read(batch, x)
    assert Mixed(plain, 0.0).read(batch, x).equal(y)
    half, whole = (Mixed(plain, strength).read(batch, x) - y for strength in (0.5, 1.0))
    assert (2 * half).allclose(whole, atol=1e-5)
    assert float(whole.norm() / y.norm()) == pytest.approx(1, abs=0.5)


def test_the_linear_read_out_is_the_toys_before_its_relu(plain):
    for fields in ({}, {"signed": True}, {"norm": "layer"}):
        model = train(SuperpositionConfig(features=8, width=4, density=0.2, steps=20, batch=16, **fields), 0)
        batch, x = moved(SuperpositionReadout(model))
        linear = Linear(model).read(batch, x)
        assert float(linear.min()) < 0
        assert torch.relu(linear).allclose(SuperpositionReadout(model).read(batch, x))


def test_privilege_is_said_honestly(plain):
    assert not is_privileged(Rotated(plain, 1))
    assert is_privileged(Rotated(plain, 1, claims_privilege=True))
    assert is_privileged(BehindRotation(Rotated(plain, 1)))
    assert not is_privileged(BehindRotation(Rotated(Rotated(plain, 1), 2)))
    assert is_privileged(Mixed(plain, 0.3))
    assert not is_privileged(Mixed(plain, 1.0))
    assert is_privileged(Mixed(plain, 1.0, claims_privilege=True))
    assert not is_privileged(Mixed(Rotated(plain, 1), 0.3))
    with pytest.raises(InputError, match="privileged basis"):
        check_privileged(Rotated(plain, 1))


@pytest.mark.parametrize("strength", [-0.1, math.nan, math.inf])
def test_a_strength_that_means_nothing_is_refused(plain, strength):
    with pytest.raises(InputError, match="strength"):
        Mixed(plain, strength)


def test_random_rotations_are_orthogonal_and_uniform():
    rotations = torch.stack([random_rotation(3, seed) for seed in range(600)])
    assert (rotations @ rotations.mT).allclose(torch.eye(3).expand(600, 3, 3), atol=1e-5)
    # Under the Haar measure entries have mean 0, variance 1/3, and half of all determinants are −1.
    assert float(rotations.mean(0).abs().max()) < 6 * (1 / 3 / 600) ** 0.5
    assert rotations.square().mean(0).allclose(torch.full((3, 3), 1 / 3), atol=0.08)
    assert float(torch.linalg.det(rotations).mean()) == pytest.approx(0, abs=0.2)
