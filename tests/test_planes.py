"""Coordinates in the plane of activation and direction: the shorter way leads where the longer one does."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sensverify.geometry import Centring, random_directions, unit_directions
from sensverify.interventions import set_presence
from sensverify.planes import NEARLY_PARALLEL, Plane, combine, is_planar, read_moved
from sensverify.readout import Batch
from sensverify.scoring import angular_distance
from sensverify.selectivity import concentrations
from toy_models.folder import plant
from toy_models.methods import FixedSample
from toy_models.readouts import Linear, Mixed, Rotated
from toy_models.superposition import SuperpositionReadout


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def toy(kind="plain", norm="none", seed=0):
    model = plant(12, 6, seed, 0.3)
    model = dataclasses.replace(model, config=dataclasses.replace(model.config, norm=norm, signed=kind == "signed"))
    if kind == "signed":
        model = dataclasses.replace(model, bias=torch.full_like(model.bias, -0.02))
    readout = Linear(model) if kind == "linear" else SuperpositionReadout(model)
    if kind == "wrapped":
        return Mixed(Rotated(FixedSample(readout, readout.sample(40, seeded(9))), 1), 0.3, 2)
    return readout


def long_way(readout, batch, directions, alpha):
    return readout.read(batch, set_presence(batch.x, directions, alpha, readout.centring))


@pytest.mark.parametrize("norm", ["none", "layer", "rms"])
@pytest.mark.parametrize("kind", ["plain", "signed", "linear", "wrapped"])
@pytest.mark.parametrize("alpha", [0.0, 0.4, "per context", "per pair"])
def test_the_shorter_way_reads_what_the_longer_one_reads(kind, norm, alpha):
    readout = toy(kind, norm)
    batch = readout.sample(20, seeded(1))
    directions = random_directions(7, 6, Centring.NONE, seeded(2))
    if isinstance(alpha, str):
        alpha = torch.rand(*([7] * (alpha == "per pair")), 20, generator=seeded(3))
    assert is_planar(readout)
    (short,) = read_moved(readout, batch, directions, [alpha])
    long = long_way(readout, batch, directions, alpha)
    assert (short - long).abs().max() <= 1e-5 * long.abs().max()


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_its_gradient_is_that_of_the_longer_way(norm):
    readout = toy(norm=norm)
    batch, alpha = readout.sample(20, seeded(1)), torch.rand(20, generator=seeded(3))
    cotangent = torch.randn(7, 20, 12, generator=seeded(4))
    gradients = []
    for way in (lambda *a: read_moved(*a[:3], [a[3]])[0], long_way):
        directions = random_directions(7, 6, Centring.NONE, seeded(2)).requires_grad_()
        gradients += torch.autograd.grad((way(readout, batch, directions, alpha) * cotangent).sum(), directions)
    assert (gradients[0] - gradients[1]).abs().max() <= 1e-4 * gradients[1].abs().max()


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 2e-1), st.floats(-1, 1), st.sampled_from(list(Centring)), st.integers(0, 10**6))
def test_coordinates_lead_where_the_intervention_leads_however_parallel_the_two_are(tilt, alpha, centring, seed):
    x = 3 * unit_directions(torch.randn(1, 9, generator=seeded(seed)), centring) + (centring is Centring.MEAN)
    s = x + tilt * torch.randn(1, 9, generator=seeded(seed + 1))
    plane = Plane(x, s, centring)
    alpha = torch.tensor(alpha)
    if len(plane.steep):
        where = plane.outcomes(alpha)
    else:
        along, across = plane.coordinates(alpha)
        where = along * plane.directions + across * centring.project(x) + (x - centring.project(x))
    expected = set_presence(x, s, alpha, centring)[0]
    assert (where - expected).norm() <= 2e-5 * x.norm()


def test_nearly_parallel_pairs_go_the_long_way_and_their_gradient_too():
    readout = toy()
    batch = readout.sample(20, seeded(1))
    directions = torch.cat(
        [unit_directions(batch.x[3:5], Centring.NONE), random_directions(3, 6, Centring.NONE, seeded(2))]
    )
    directions[1] += 1e-3 * torch.randn(6, generator=seeded(5))
    steep = Plane(batch.x, directions, Centring.NONE).steep.tolist()
    assert [0, 3] in steep
    assert [1, 4] in steep
    assert all(i < 2 for i, _ in steep)
    (short,) = read_moved(readout, batch, directions, [0.5])
    assert (short - long_way(readout, batch, directions, 0.5)).abs().max() <= 1e-5
    tilted = directions[1:2].clone().requires_grad_()
    (found,) = torch.autograd.grad(read_moved(readout, batch, tilted, [0.5])[0][0, 4].sum(), tilted)
    (expected,) = torch.autograd.grad(long_way(readout, batch, tilted, 0.5)[0, 4].sum(), tilted)
    assert (found - expected).norm() <= 1e-4 * expected.norm()


def test_pairs_are_told_apart_by_their_angle():
    x, across = torch.eye(3)[:1], torch.eye(3)[1]
    tilted = torch.stack([x[0] + sine * across for sine in (0.9 * NEARLY_PARALLEL, 1.1 * NEARLY_PARALLEL)])
    assert Plane(x, tilted, Centring.NONE).steep.tolist() == [[0, 0]]


def test_a_subclass_that_reads_otherwise_is_not_passed_by():
    class Doubled(SuperpositionReadout):
        def read(self, batch, x):
            return 2 * super().read(batch, x)

    readout = Doubled(toy().model)
    assert not is_planar(readout)
    assert not is_planar(Mixed(readout, 0.1))
    batch, directions = readout.sample(5, seeded()), random_directions(2, 6, Centring.NONE, seeded(1))
    assert read_moved(readout, batch, directions, [0.3])[0].equal(long_way(readout, batch, directions, 0.3))


def doubles(*shape, seed):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64).requires_grad_()


def test_the_gradients_that_are_written_out_are_those_of_the_formulas():
    shapes = [(4, 6), (3, 6), (4, 3), (4, 3)]
    check(combine, tuple(doubles(*shape, seed=i) for i, shape in enumerate(shapes)))
    for clean in ((3, 6), (4, 3, 6)):
        pair = doubles(*clean, seed=7), doubles(4, 3, 6, seed=8)
        check(angular_distance, pair)
        check(lambda y, z: concentrations(y, z).values, pair)
        check(lambda y, z: concentrations(y, z).sizes, pair)
        check(angular_distance, (pair[0].detach(), pair[1]))


def check(function, inputs):
    """First and second derivatives."""
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("alpha", [1.0, -1.0, 0.0])
def test_at_the_ends_of_the_range_the_gradient_is_that_of_the_longer_way(alpha):
    readout = toy()
    batch, gradients = readout.sample(20, seeded(1)), []
    for way in (lambda *a: read_moved(*a[:3], [a[3]])[0], long_way):
        directions = random_directions(7, 6, Centring.NONE, seeded(2)).requires_grad_()
        gradients += torch.autograd.grad(way(readout, batch, directions, alpha).square().sum(), directions)
    assert gradients[0].norm() > 0.01
    assert (gradients[0] - gradients[1]).norm() <= 1e-4 * gradients[1].norm()


def test_a_zero_activation_goes_the_long_way_and_spoils_no_gradient():
    readout = toy()
    batch = readout.sample(3, seeded(1))
    batch = dataclasses.replace(batch, x=batch.x * torch.tensor([[1.0], [0.0], [1.0]]))
    directions = random_directions(2, 6, Centring.NONE, seeded(2)).requires_grad_()
    assert Plane(batch.x, directions, Centring.NONE).steep.tolist() == [[0, 1], [1, 1]]
    (gradient,) = torch.autograd.grad(read_moved(readout, batch, directions, [0.5])[0][:, [0, 2]].sum(), directions)
    assert gradient.isfinite().all()


def test_near_the_threshold_the_norm_is_kept_to_rounding():
    x = torch.randn(1, 64, generator=seeded(1))
    s = x + 1.05 * NEARLY_PARALLEL * x.norm() * unit_directions(torch.randn(50, 64, generator=seeded(2)), Centring.NONE)
    plane = Plane(x, s, Centring.NONE)
    along, across = plane.coordinates(torch.tensor(0.3))
    lengths = (along[..., None].double() * plane.directions[:, None].double() + across[..., None].double() * x).norm(
        dim=-1
    )
    clear = torch.ones(len(s), dtype=torch.bool)
    clear[plane.steep[:, 0]] = False
    assert clear.sum() > 10
    assert (lengths[clear] / x.double().norm() - 1).abs().max() < 1e-5


def test_half_precision_goes_the_long_way():
    readout = toy()
    model = dataclasses.replace(
        readout.model, weights=readout.model.weights.bfloat16(), bias=readout.model.bias.bfloat16()
    )
    readout = SuperpositionReadout(model)
    x = torch.randn(4, 6, generator=seeded(1)).bfloat16()
    directions = random_directions(3, 6, Centring.NONE, seeded(2))
    (found,) = read_moved(readout, Batch(x, None), directions, [0.4])
    assert found.equal(long_way(readout, Batch(x, None), directions, 0.4))
