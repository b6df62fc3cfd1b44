"""What effects are measured against: the activation as it was, or with presence 0; against numpy and closed forms."""

import json
import math

import numpy as np
import pytest
import torch

from sensverify import selectivity, sensitivity
from sensverify.checkpoints import load_checkpoint, save_checkpoint
from sensverify.discovery import SearchOptions, search
from sensverify.errors import InputError
from sensverify.geometry import Centring, random_directions
from sensverify.interventions import set_presence
from sensverify.readout import Batch
from sensverify.sensitivity import PresenceLaw, Probe, Weighting

WIDTH, UNITS = 6, 9
BOTH = pytest.mark.parametrize("centring", list(Centring))
MEASURES = pytest.mark.parametrize("measure", ["plain", "concentration", "peak"])
ABSENT = Probe(reference="absent")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Layer:
    """``activation(Wx)`` of dense contexts with a mean; by default ``W`` is random and the activation a ReLU."""

    device, privileged = torch.device("cpu"), True

    def __init__(self, *, weights=None, centring=Centring.NONE, linear=False, dtype=torch.float64):
        if weights is None:
            weights = torch.randn(UNITS, WIDTH, generator=seeded(1), dtype=dtype)
        self.weights, self.centring, self.width = weights, centring, weights.shape[1]
        self.activation = (lambda y: y) if linear else torch.relu

    def sample(self, count, generator):
        return Batch(torch.randn(count, self.width, generator=generator).to(self.weights) + 0.4, None)

    def clean(self, batch):
        return self.read(batch, batch.x)

    def read(self, batch, x):
        return self.activation(x @ self.weights.T)

    def describe(self):
        return {}


def numpy_intervention(x, s, alpha, centring):
    """``I_s^α(x)`` by its definition, one activation and one direction, in numpy."""
    mean = x.mean() if centring is Centring.MEAN else 0.0
    x, s = x - mean, s - (s.mean() if centring is Centring.MEAN else 0.0)
    s = s / np.linalg.norm(s)
    rejected = x - (x @ s) * s
    v = rejected / np.linalg.norm(rejected)
    return np.linalg.norm(x) * (alpha * s + math.sqrt(1 - alpha**2) * v) + mean


def numpy_angle(y, z):
    if not y.any() or not z.any():
        return 0.0 if not y.any() and not z.any() else 0.5
    return (1 - y @ z / np.linalg.norm(y) / np.linalg.norm(z)) / 2


def scored(readout, batch, s, measure, probe, **options):
    if measure == "plain":
        return sensitivity.estimate_on(readout, batch, s, generator=seeded(5), probe=probe, **options)
    return selectivity.estimate_on(
        readout, batch, s, generator=seeded(5), probe=probe, averaging="contexts", measure=measure, **options
    )


@MEASURES
@BOTH
@pytest.mark.parametrize("kind", ["none", "soft"])
def test_against_absence_an_effect_is_its_definition_written_out(measure, centring, kind):
    layer = Layer(centring=centring)
    batch, s = layer.sample(12, seeded(2)), random_directions(3, WIDTH, centring, seeded(3), torch.float64)
    probe = Probe(reference="absent", weighting=Weighting(kind=kind, scale=0.4))
    found = scored(layer, batch, s, measure, probe, draws=3)
    alphas, w, xs = probe.law.stratified(3, 12, seeded(5)).numpy(), layer.weights.numpy(), batch.x.numpy()
    read = lambda x: np.maximum(w @ x, 0)  # noqa: E731
    typical = np.mean([np.sum(read(x) ** 2) ** 2 for x in xs])
    for i, direction in enumerate(s.numpy()):
        top = bottom = 0.0
        for b, x in enumerate(xs):
            centred = x - x.mean() if centring is Centring.MEAN else x
            rho = centred @ direction / np.linalg.norm(centred)
            weight = math.exp(-((rho / 0.4) ** 2)) if kind == "soft" else 1.0
            values = []
            for alpha in alphas[:, b]:
                without, with_it = (read(numpy_intervention(x, direction, a, centring)) for a in (0.0, alpha))
                fourth = np.sum((with_it - without) ** 4)
                values.append(
                    {
                        "plain": numpy_angle(without, with_it),
                        "concentration": fourth / np.sum((with_it - without) ** 2) ** 2,
                        "peak": fourth / typical,
                    }[measure]
                )
            top, bottom = top + weight * np.mean(values), bottom + weight
        assert float(found.mean[i]) == pytest.approx(top / bottom, rel=1e-9)
    assert found.configuration["reference"] == "absent"
    json.dumps(found.configuration)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_to_set_what_is_absent_to_zero_has_no_effect_at_all(centring, dtype):
    layer = Layer(centring=centring, dtype=dtype)
    batch, s = layer.sample(40, seeded(2)), random_directions(10, WIDTH, centring, seeded(3), dtype)
    null = Probe(law=PresenceLaw(low=0, high=0), reference="absent")
    assert scored(layer, batch, s, "plain", null).effects.equal(torch.zeros(10, 40, dtype=dtype))
    floor = (64 * torch.finfo(dtype).eps) ** 4  # what the measures of concentration put in the place of nothing
    assert float(scored(layer, batch, s, "peak", null).mean.max()) <= 10 * floor
    spread = scored(layer, batch, s, "concentration", null).effects
    assert torch.allclose(spread, torch.full_like(spread, 1 / UNITS))
    assert float(scored(layer, batch, s, "plain", Probe(law=null.law)).effects.max()) > 1e-3  # against what there was


@MEASURES
@BOTH
def test_what_was_present_does_not_matter_against_absence(measure, centring):
    """Moving the contexts along the direction, at constant norm, changes the clean figure and not the absent one."""
    layer = Layer(centring=centring)
    batch, s = layer.sample(20, seeded(6)), random_directions(1, WIDTH, centring, seeded(7), torch.float64)
    moved = Batch(set_presence(batch.x, s, -0.8, centring)[0], None)
    # Peaks are measured in units of the clean read-out, which does change; its part is taken out of the comparison.
    unit = {b: float(layer.clean(b).norm(dim=1).pow(4).mean()) if measure == "peak" else 1.0 for b in (batch, moved)}
    for probe, same in ((ABSENT, True), (Probe(), False)):
        before, after = (scored(layer, b, s, measure, probe).effects * unit[b] for b in (batch, moved))
        assert torch.allclose(before, after, rtol=1e-8, atol=1e-14) is same


def test_leaning_against_the_mean_is_rewarded_only_where_it_counts_as_removed():
    """Read out as it is, the step from ρ to α is an angle: arccos ρ − arccos α, or arcsin α from absence."""
    c, alpha = 0.6, 0.5
    across = torch.randn(30, WIDTH - 1, generator=seeded(8), dtype=torch.float64)
    x = torch.cat([torch.full((30, 1), c), math.sqrt(1 - c**2) * across / across.norm(dim=1, keepdim=True)], 1)
    layer = Layer(weights=torch.eye(WIDTH, dtype=torch.float64), linear=True)
    mean = torch.eye(WIDTH, dtype=torch.float64)[:1]
    s = torch.cat([mean, -mean, torch.eye(WIDTH, dtype=torch.float64)[3:4]])
    law = PresenceLaw(low=alpha, high=alpha)
    absent = scored(layer, Batch(x, None), s, "plain", Probe(law=law, reference="absent"))
    assert torch.allclose(absent.effects, torch.full((3, 30), (1 - math.sqrt(1 - alpha**2)) / 2, dtype=torch.float64))
    along, against, _ = scored(layer, Batch(x, None), s, "plain", Probe(law=law)).mean.tolist()
    angles = [math.acos(rho) - math.acos(alpha) for rho in (c, -c)]
    assert [along, against] == pytest.approx([(1 - math.cos(angle)) / 2 for angle in angles])
    assert against > 20 * along


def test_a_small_linear_step_has_the_concentration_and_the_peak_of_the_direction():
    """Without shrinkage, which is of second order in α, the effect is α‖x‖Ws: the case of the theory."""
    layer, alpha = Layer(linear=True), 1e-5
    batch, s = layer.sample(25, seeded(9)), random_directions(4, WIDTH, Centring.NONE, seeded(10), torch.float64)
    probe = Probe(law=PresenceLaw(low=alpha, high=alpha), reference="absent")
    reading = s.numpy() @ layer.weights.numpy().T
    concentration = (reading**4).sum(1) / (reading**2).sum(1) ** 2
    x = batch.x.numpy()
    whole = np.mean(np.linalg.norm(x @ layer.weights.numpy().T, axis=1) ** 4)
    peak = alpha**4 * np.mean(np.linalg.norm(x, axis=1) ** 4) * (reading**4).sum(1) / whole
    assert np.allclose(scored(layer, batch, s, "concentration", probe).mean, concentration, rtol=1e-3)
    assert np.allclose(scored(layer, batch, s, "peak", probe).mean, peak, rtol=1e-3)


@MEASURES
def test_chunks_do_not_change_estimates_against_absence(measure):
    layer = Layer()
    batch, s = layer.sample(16, seeded(11)), random_directions(7, WIDTH, Centring.NONE, seeded(12), torch.float64)
    whole, parts = (scored(layer, batch, s, measure, ABSENT, pairs_per_chunk=pairs) for pairs in (10**6, 32))
    assert torch.allclose(whole.effects, parts.effects, rtol=1e-12)
    assert torch.allclose(whole.standard_error, parts.standard_error, rtol=1e-9)


@BOTH
def test_the_gradient_against_absence_is_the_finite_difference(centring):
    layer = Layer(centring=centring)
    layer.activation = torch.tanh
    batch = layer.sample(5, seeded(13))
    clean, alpha = layer.clean(batch), torch.full((5,), 0.4, dtype=torch.float64)
    s = random_directions(2, WIDTH, centring, seeded(14), torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: sensitivity.effects(layer, batch, clean, s, alpha, reference="absent"), (s,), eps=1e-6, atol=1e-8
    )


def test_the_reference_is_recorded_and_tells_searches_apart(tmp_path):
    plain = SearchOptions(directions=2, steps=2, contexts=4)
    assert plain.to_json()["probe"]["reference"] == "clean"
    absent = SearchOptions(**{**vars(plain), "probe": ABSENT})
    assert absent.to_json()["probe"]["reference"] == "absent"
    save_checkpoint(tmp_path, search(Layer(), plain), plain.to_json())
    with pytest.raises(InputError, match=r"another search.*probe"):
        load_checkpoint(tmp_path, absent.to_json(), torch.device("cpu"))


@pytest.mark.parametrize("method", ["parallel", "sequential"])
def test_a_search_against_absence_is_another_search_and_beats_random_directions(method):
    layer = Layer()
    options = {"directions": 2, "steps": 40, "contexts": 32, "seed": 15, "method": method}
    found = search(layer, SearchOptions(**options, probe=ABSENT)).directions
    assert not found.equal(search(layer, SearchOptions(**options)).directions)
    random = random_directions(200, WIDTH, Centring.NONE, seeded(16), torch.float64)
    batch = layer.sample(200, seeded(17))
    scores = [scored(layer, batch, group, "plain", ABSENT).mean for group in (found, random)]
    assert float(scores[0].mean()) > float(scores[1].mean() + scores[1].std())
