"""The residual network against torch's own modules, and its laws against numbers computed otherwise."""

import dataclasses

import mpmath
import pytest
import torch

from sensverify.claims import Run
from sensverify.verdicts import Status
from toy_models import residual_check
from toy_models.residual import ResidualConfig, ResidualReadout, draw, target, train
from toy_models.residual_check import cosine_error, exact_cosine, measured_cosine

SMALL = ResidualConfig(features=6, width=8, hidden=24, steps=250)


@pytest.fixture(scope="module")
def models():
    return train(SMALL, [0, 1])


def test_inputs_are_never_zero_and_targets_have_length_one():
    x = draw(SMALL, 2000, torch.Generator().manual_seed(0))
    active = x[x != 0].abs()
    assert float(x.abs().amax(1).min()) >= 0.25
    assert float(active.min()) >= 0.25
    assert float(active.max()) <= 1
    assert float((x != 0).double().mean()) == pytest.approx(1 / 6 + 5 / 6 * SMALL.density, rel=0.05)
    assert float((x < 0).sum()) == pytest.approx(float((x > 0).sum()), rel=0.15)
    assert target(x).norm(dim=1).tolist() == pytest.approx([1.0] * 2000)


def test_the_network_is_the_one_torch_builds(models):
    model = models[0]
    norm = torch.nn.LayerNorm(SMALL.width, elementwise_affine=False, eps=model.epsilon)
    first, second = torch.nn.Linear(SMALL.width, SMALL.hidden), torch.nn.Linear(SMALL.hidden, SMALL.width)
    read = torch.nn.Linear(SMALL.width, SMALL.features)
    for layer, name in ((first, "first"), (second, "second"), (read, "read")):
        layer.weight.data, layer.bias.data = getattr(model, name), getattr(model, f"{name}_bias")
    h = torch.randn(5, SMALL.width, generator=torch.Generator().manual_seed(0))
    stream = h + second(torch.relu(first(norm(h))))
    assert torch.allclose(model.stream(h), stream, atol=1e-5)
    assert torch.allclose(model.answer(h), read(norm(stream)), atol=1e-5)


def test_the_stated_loss_is_that_of_the_weights(models):
    x = draw(SMALL, 20_000, torch.Generator().manual_seed(99))
    loss = (models[0].answer(x @ models[0].write.T) - target(x)).square().sum(1).mean()
    assert float(loss) == pytest.approx(models[0].loss, rel=0.05)


def test_training_is_fixed_by_its_seed():
    short = dataclasses.replace(SMALL, steps=10)
    first, again, other = (train(short, [seed])[0] for seed in (1, 1, 2))
    assert first.first.equal(again.first)
    assert not first.first.equal(other.first)


def test_the_task_needs_the_block(models):
    bare = train(dataclasses.replace(SMALL, block=False), [0, 1])
    for model, without in zip(models, bare, strict=True):
        assert model.loss < 0.5 * without.loss


def test_a_shift_of_the_activation_changes_no_answer(models):
    readout = ResidualReadout(models[0])
    batch = readout.sample(7, torch.Generator().manual_seed(0))
    shifted = readout.read(batch, batch.x[None] + 3.0)
    assert torch.allclose(shifted[0], readout.clean(batch), atol=1e-4)
    assert torch.allclose(readout.read(batch, batch.x[None])[0], readout.clean(batch), atol=1e-6)


def test_the_bound_on_rounding_holds_against_fifty_digits(models):
    """The whole block in 50 digits, from float32 weights: the float32 cosine stays within its bound of it."""
    model = models[0].to(torch.float32, epsilon=0.0)
    h = ResidualReadout(model).sample(4, torch.Generator().manual_seed(5)).x
    scale = 3.0
    seen, bound = measured_cosine(model, h, scale), cosine_error(model, h, scale)
    formula = exact_cosine(h, model.update(model.norm(h)), scale)
    with mpmath.workdps(50):
        for b in range(4):
            x = [mpmath.mpf(v) for v in h[b].tolist()]
            at_one, at_scale = (_block_in_mpmath(model, [k * v for v in x]) for k in (mpmath.mpf(1), mpmath.mpf(3)))
            dot = sum(p * q for p, q in zip(at_one, at_scale, strict=True))
            lengths = mpmath.sqrt(sum(p * p for p in at_one)) * mpmath.sqrt(sum(q * q for q in at_scale))
            exact = float(dot / lengths)
            assert abs(float(seen[b]) - exact) <= float(bound[b]) < 0.01
            assert abs(float(formula[b]) - exact) <= float(bound[b])


def _block_in_mpmath(model, x):
    mean = sum(x) / len(x)
    centred = [v - mean for v in x]
    root = mpmath.sqrt(sum(v * v for v in centred) / len(x))
    normed = [v / root for v in centred]

    def linear(weight, bias, z):
        return [
            sum(mpmath.mpf(w) * v for w, v in zip(row, z, strict=True)) + mpmath.mpf(c)
            for row, c in zip(weight.tolist(), bias.tolist(), strict=True)
        ]

    hidden = [max(v, mpmath.mpf(0)) for v in linear(model.first, model.first_bias, normed)]
    return [a + b for a, b in zip(x, linear(model.second, model.second_bias, hidden), strict=True)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of small networks; the check itself is the product's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(residual_check, "ResidualConfig", lambda **options: dataclasses.replace(SMALL, **options))
        yield Run(seed=3, directory=tmp_path_factory.mktemp("residual"))


def test_the_laws_hold_inside_trained_networks(run):
    finding = residual_check.check_residual(run)
    assert finding.status is Status.SUPPORTED, finding.witness
    assert max(finding.evidence["largest_error_over_bound"].values()) <= 1
    for exhibit in finding.exhibits:
        exhibit.to_json()


@pytest.mark.parametrize("twin", [residual_check.twin_invariant, residual_check.twin_smaller_gain])
def test_every_false_twin_is_refuted_with_an_activation(run, twin):
    finding = twin(run)
    assert finding.status is Status.REFUTED
    assert finding.witness["error"] > finding.witness["bound"]


def test_a_network_resumed_from_disk_is_the_same(run):
    again = Run(seed=run.seed, directory=run.directory)
    for first, second in zip(residual_check.trained(run), residual_check.trained(again), strict=True):
        assert first.model.second.equal(second.model.second)
        assert first.model.loss == second.model.loss
        assert first.h.equal(second.h)
