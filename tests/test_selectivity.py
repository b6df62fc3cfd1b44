"""Selective sensitivity against its definition written out in numpy, and what a search for it finds."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sensverify import parts, selectivity, sensitivity
from sensverify.checkpoints import load_checkpoint, save_checkpoint
from sensverify.discovery import SearchOptions, search, start_search
from sensverify.errors import InputError
from sensverify.geometry import Centring, nearest, presence, random_directions
from sensverify.interventions import set_presence
from sensverify.readout import Batch
from sensverify.selectivity import concentrations, estimate, estimate_on, null_effects, peaks
from sensverify.sensitivity import PresenceLaw, Probe, Weighting
from toy_models.recovery import recovery
from toy_models.superposition import SuperpositionConfig, SuperpositionModel, SuperpositionReadout, train

WIDTH, UNITS = 8, 14
AVERAGINGS = pytest.mark.parametrize("averaging", ["effects", "contexts"])
ASCENTS = pytest.mark.parametrize("method", ["parallel", "sequential"])
BOTH = pytest.mark.parametrize("centring", list(Centring))


SCORES = pytest.mark.parametrize("score", ["selective", "peak"])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Units:
    """``activation(Wx)``, read unit by unit; contexts are dense, or ``active`` of the units' own directions at once."""

    device = torch.device("cpu")

    def __init__(
        self, weights=None, *, privileged=True, rotation=None, smooth=False, centring=Centring.NONE, active=0, scale=1.0
    ):
        if weights is None:
            weights = torch.randn(UNITS, WIDTH, generator=seeded(1), dtype=torch.float64) / WIDTH**0.5
        self.weights, self.privileged, self.rotation, self.active = weights, privileged, rotation, active
        self.scale = scale
        self.activation = torch.nn.functional.softplus if smooth else torch.relu
        self.centring, self.width = centring, weights.shape[1]

    def sample(self, count, generator):
        if self.active:
            chosen = torch.rand(count, len(self.weights), generator=generator).argsort(1) < self.active
            return Batch(
                (chosen * torch.rand(count, len(self.weights), generator=generator)).to(self.weights) @ self.weights,
                None,
            )
        return Batch(torch.randn(count, self.width, generator=generator).to(self.weights), None)

    def clean(self, batch):
        return self.read(batch, batch.x)

    def read(self, batch, x):
        out = self.scale * self.activation(x @ self.weights.T)
        return out if self.rotation is None else out @ self.rotation

    def describe(self):
        return {}


class Silent(Units):
    """Says nothing about its basis."""

    def __init__(self):
        super().__init__()
        del self.privileged


def definition(effects):
    """``C`` of each row of a numpy table, by the definition, in float64."""
    effects = np.asarray(effects, dtype=np.float64)
    return (effects**4).sum(-1) / (effects**2).sum(-1) ** 2


# --- One effect ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-8)])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3])
def test_concentration_is_its_definition(dtype, tolerance, scale):
    clean = torch.randn(5, UNITS, generator=seeded(2), dtype=dtype)
    perturbed = clean + scale * torch.randn(3, 5, UNITS, generator=seeded(3), dtype=dtype)
    found = concentrations(clean, perturbed)
    effect = perturbed.double().numpy() - clean.double().numpy()
    assert np.allclose(found.values, definition(effect), rtol=tolerance)
    assert np.allclose(found.sizes, np.linalg.norm(effect, axis=-1), rtol=tolerance)


def test_one_unit_has_concentration_one_and_all_units_one_nth():
    effect = torch.stack([torch.eye(UNITS)[3], torch.ones(UNITS)])[:, None]
    values = concentrations(torch.zeros(1, UNITS), effect).values
    assert values.flatten().tolist() == pytest.approx([1, 1 / UNITS])


@given(
    seed=st.integers(0, 1000),
    scale=st.sampled_from([0.0, 1e-30, 1e-9, 1e-6, 1.0, 1e15]),
    size=st.sampled_from([0.0, 1e-12, 1.0]),
    count=st.integers(1, 20),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_concentration_never_leaves_its_range(seed, scale, size, count):
    generator = seeded(seed)
    clean = size * torch.randn(3, count, generator=generator)
    on = torch.rand(2, 3, count, generator=generator) < 0.5
    found = concentrations(clean, clean + scale * on * torch.randn(2, 3, count, generator=generator))
    assert bool(((found.values >= 1 / count * (1 - 1e-5)) & (found.values <= 1 + 1e-5)).all())
    for averaging in ("effects", "contexts"):
        weights = found.weights(averaging)
        assert bool(((weights >= 0) & (weights <= 1 + 1e-5)).all())
        assert float(weights.amax(-1).min()) > 0.9


@pytest.mark.parametrize("clean", [torch.zeros(2, UNITS), torch.ones(2, UNITS)], ids=["silent", "active"])
def test_no_effect_counts_as_spread_and_pulls_nowhere(clean):
    perturbed = clean.repeat(3, 1, 1).requires_grad_()
    found = concentrations(clean, perturbed)
    assert torch.allclose(found.values, torch.full((3, 2), 1 / UNITS))
    (gradient,) = torch.autograd.grad((found.values * found.weights("effects")).sum(), perturbed)
    assert gradient.equal(torch.zeros_like(perturbed))


def test_nothing_jumps_as_an_effect_vanishes():
    clean, effect = torch.ones(1, UNITS, dtype=torch.float64), torch.eye(UNITS, dtype=torch.float64)[:1, None]
    floor = 64 * torch.finfo(torch.float64).eps * UNITS**0.5
    values = torch.cat([concentrations(clean, clean + t * floor * effect).values for t in np.geomspace(0.1, 1000, 400)])
    assert float(values[0]) == pytest.approx(1 / UNITS, abs=1e-3)
    assert float(values[-1]) == pytest.approx(1, abs=1e-8)
    assert 0 < float(values.diff(dim=0).max()) < 0.05


@pytest.mark.parametrize("factor", [2.0**-60, 2.0**-20, 2.0**40])
def test_a_read_out_in_other_units_of_measurement_is_as_selective(factor):
    clean = torch.randn(4, UNITS, generator=seeded(4))
    perturbed = clean + torch.randn(3, 4, UNITS, generator=seeded(5))
    one, other = concentrations(clean, perturbed), concentrations(factor * clean, factor * perturbed)
    assert torch.allclose(one.values, other.values, rtol=1e-6)
    assert torch.allclose(factor * one.sizes, other.sizes, rtol=1e-6)
    assert torch.allclose(one.weights("effects"), other.weights("effects"), rtol=1e-5)


@pytest.mark.parametrize("factor", [1e-4, 0.1, -1.0, 100.0])
def test_the_size_and_sign_of_an_effect_do_not_matter(factor):
    clean = torch.randn(4, UNITS, generator=seeded(6), dtype=torch.float64)
    effect = torch.randn(3, 4, UNITS, generator=seeded(7), dtype=torch.float64)
    one, other = concentrations(clean, clean + effect), concentrations(clean, clean + factor * effect)
    assert torch.allclose(one.values, other.values, rtol=1e-7)


def test_the_gradient_of_concentration_is_the_finite_difference():
    clean = torch.randn(4, 5, generator=seeded(8), dtype=torch.float64)
    perturbed = (clean + torch.randn(2, 4, 5, generator=seeded(9), dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: concentrations(clean, z).values, perturbed)
    assert torch.autograd.gradcheck(lambda z: concentrations(clean, z).sizes, perturbed)


@AVERAGINGS
@BOTH
def test_the_gradient_of_the_score_is_the_finite_difference(averaging, centring):
    units = Units(smooth=True, centring=centring)
    batch = units.sample(6, seeded(10))
    clean = units.clean(batch)
    s = random_directions(2, WIDTH, centring, seeded(11), torch.float64).requires_grad_()
    alpha = torch.full((6,), 0.4, dtype=torch.float64)

    def score(s):
        found = selectivity.effects(units, batch, clean, s, alpha)
        weights = found.weights(averaging)
        return (weights * found.values).sum(1) / weights.sum(1)

    assert torch.autograd.gradcheck(score, (s,), eps=1e-6, atol=1e-7)


# --- Peak sensitivity ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-8)])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3])
def test_a_peak_is_its_definition(dtype, tolerance, scale):
    clean = torch.randn(5, UNITS, generator=seeded(40), dtype=dtype)
    clean[2] = 0  # behind a ReLU one context may move nothing; the mean over contexts stays
    perturbed = clean + scale * torch.randn(3, 5, UNITS, generator=seeded(41), dtype=dtype)
    found = peaks(concentrations(clean, perturbed), clean)
    before, after = clean.double().numpy(), perturbed.double().numpy()
    expected = ((after - before) ** 4).sum(-1) / np.mean(np.sum(before**2, -1) ** 2)
    assert np.allclose(found, expected, rtol=tolerance)


@pytest.mark.parametrize("factor", [2.0**-60, 2.0**-20, 2.0**40])
def test_a_peak_does_not_depend_on_the_unit_of_measurement(factor):
    clean = torch.randn(4, UNITS, generator=seeded(42))
    perturbed = clean + torch.randn(3, 4, UNITS, generator=seeded(43))
    one, other = (peaks(concentrations(k * clean, k * perturbed), k * clean) for k in (1.0, factor))
    assert torch.allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 20.0])
@pytest.mark.parametrize("reference", ["clean", "absent"])
def test_a_read_out_times_a_factor_has_the_same_peaks(scale, reference):
    s = random_directions(4, WIDTH, Centring.NONE, seeded(44), torch.float64)
    probe, batch = Probe(reference=reference), Units().sample(20, seeded(45))
    one, other = (
        estimate_on(units, batch, s, generator=seeded(46), probe=probe, measure="peak").mean
        for units in (Units(), Units(scale=scale))
    )
    assert torch.allclose(one, other, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shift", [0.0, 1e-30, 1e-6, 1.0])
@pytest.mark.parametrize("clean", ["silent", "active"])
def test_peaks_and_their_gradients_are_finite_where_nothing_happens(dtype, shift, clean):
    before = (torch.ones if clean == "active" else torch.zeros)(3, UNITS, dtype=dtype)
    perturbed = before.repeat(2, 1, 1)
    perturbed[1] += shift
    perturbed.requires_grad_()
    found = peaks(concentrations(before, perturbed), before)
    (gradient,) = torch.autograd.grad(found.sum(), perturbed)
    assert torch.isfinite(found).all()
    assert torch.isfinite(gradient).all()
    assert float(found[0].detach().max()) <= (64 * torch.finfo(dtype).eps) ** 4
    assert gradient[0].equal(torch.zeros_like(gradient[0]))


def test_the_gradient_of_a_peak_is_the_finite_difference():
    clean = torch.randn(4, 5, generator=seeded(47), dtype=torch.float64)
    perturbed = (clean + torch.randn(2, 4, 5, generator=seeded(48), dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: peaks(concentrations(clean, z), clean), perturbed)


@pytest.mark.parametrize(
    ("score", "averaging"),
    [("plain", "effects"), ("selective", "effects"), ("selective", "contexts"), ("peak", "effects")],
)
@pytest.mark.parametrize("reference", ["clean", "absent"])
@pytest.mark.parametrize("kind", ["none", "soft"])
def test_the_gradient_that_a_search_follows_is_the_finite_difference(score, reference, kind, averaging):
    units = Units(smooth=True)
    batch, alpha = units.sample(6, seeded(49)), torch.rand(6, generator=seeded(50), dtype=torch.float64)
    s = random_directions(2, WIDTH, Centring.NONE, seeded(51), torch.float64).requires_grad_()
    probe = Probe(reference=reference, weighting=Weighting(kind=kind, scale=0.5))
    options = SearchOptions(score=score, averaging=averaging, probe=probe)

    def objective(s):
        return parts.score(units, options, batch, units.clean(batch), s, alpha)

    # Weights by effect are divided by a number that carries no gradient; it cancels, and so must its gradient.
    assert torch.autograd.gradcheck(objective, (s,), eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("reference", ["clean", "absent"])
def test_a_search_scores_what_the_estimate_says(reference):
    units, probe = Units(), Probe(law=PresenceLaw(low=0.5, high=0.5), reference=reference)
    batch, s = units.sample(20, seeded(52)), random_directions(4, WIDTH, Centring.NONE, seeded(53), torch.float64)
    alpha = torch.full((20,), 0.5, dtype=torch.float64)
    for score, measure in (("selective", "concentration"), ("peak", "peak")):
        scored = parts.score(units, SearchOptions(score=score, probe=probe), batch, units.clean(batch), s, alpha)
        estimated = estimate_on(units, batch, s, generator=seeded(), draws=1, probe=probe, measure=measure)
        assert torch.allclose(scored, estimated.mean, rtol=1e-12)
        assert (estimated.configuration["score"], estimated.configuration["reference"]) == (score, reference)


# --- The estimate --------------------------------------------------------------------------------------------------


@AVERAGINGS
@pytest.mark.parametrize("kind", ["none", "soft", "hard"])
@BOTH
def test_the_estimate_is_its_definition_written_out(averaging, kind, centring):
    units = Units(centring=centring)
    s, batch = random_directions(4, WIDTH, centring, seeded(12), torch.float64), units.sample(15, seeded(13))
    probe = Probe(weighting=Weighting(kind=kind, scale=0.3))
    found = estimate_on(units, batch, s, generator=seeded(14), draws=2, probe=probe, averaging=averaging)
    alphas = probe.law.stratified(2, 15, seeded(14))
    rho = presence(batch.x, s, centring).numpy()
    inactive = {"none": np.ones_like(rho), "soft": np.exp(-((rho / 0.3) ** 2)), "hard": np.abs(rho) < 0.3}[kind]
    for i in range(4):
        top = bottom = 0.0
        for b in range(15):
            for j in range(2):
                moved = set_presence(batch.x[b : b + 1], s[i : i + 1], alphas[j, b], centring)[0]
                effect = (units.read(batch, moved) - units.read(batch, batch.x[b : b + 1]))[0].numpy()
                weight = inactive[i, b] * (np.sum(effect**2) ** 2 if averaging == "effects" else 1)
                top, bottom = top + weight * definition(effect), bottom + weight
        assert float(found.mean[i]) == pytest.approx(top / bottom, rel=1e-6)
    assert found.configuration["averaging"] == averaging
    assert found.configuration["distance"] is None
    json.dumps(found.configuration)


@AVERAGINGS
def test_the_standard_error_is_the_spread_over_repetitions(averaging):
    units, s = Units(), random_directions(3, WIDTH, Centring.NONE, seeded(15))
    results = [
        estimate(units, s, generator=seeded(seed), contexts=128, draws=1, averaging=averaging) for seed in range(150)
    ]
    spread = torch.stack([result.mean for result in results]).std(0)
    stated = torch.stack([result.standard_error for result in results]).mean(0)
    assert torch.allclose(stated, spread, rtol=0.25)


@pytest.mark.parametrize("measure", ["concentration", "peak"])
@AVERAGINGS
def test_neither_chunks_nor_company_change_an_estimate(averaging, measure):
    """Groups that are scored apart on one batch are paired: the same contexts, the same presences."""
    units, s = Units(), random_directions(7, WIDTH, Centring.NONE, seeded(16), torch.float64)
    batch = units.sample(40, seeded(17))

    def means(directions, pairs=10**6):
        return estimate_on(
            units,
            batch,
            directions,
            generator=seeded(18),
            averaging=averaging,
            measure=measure,
            pairs_per_chunk=pairs,
        ).mean

    assert torch.allclose(means(s), means(s, 80), rtol=1e-12)
    assert torch.allclose(means(s), torch.cat([means(s[:3]), means(s[3:])]), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_presence_set_to_what_it_is_has_no_effect(dtype):
    units = Units(Units().weights.to(dtype))
    batch = units.sample(200, seeded(19))
    s = random_directions(20, WIDTH, Centring.NONE, seeded(20), dtype)
    found, clean = null_effects(units, batch, s), units.clean(batch)
    assert torch.allclose(found.values, torch.tensor(1 / UNITS, dtype=dtype), atol=0.02)
    allowed = 2 * 64 * torch.finfo(dtype).eps * clean.norm(dim=-1)
    assert bool((found.sizes <= allowed).all())


def test_an_estimate_needs_two_contexts():
    with pytest.raises(ValueError, match="two contexts"):
        estimate(Units(), torch.eye(WIDTH), generator=seeded(), contexts=1)


# --- The search ----------------------------------------------------------------------------------------------------


def same(first, second):
    return first.directions.equal(second.directions) and first.history == second.history


@ASCENTS
@AVERAGINGS
def test_a_resumed_selective_search_takes_the_same_steps(method, averaging, tmp_path):
    units = Units()
    options = SearchOptions(
        directions=3, steps=24, method=method, contexts=8, seed=20, score="selective", averaging=averaging
    )

    def keep(state):
        if state.step == 10:
            save_checkpoint(tmp_path, state, options.to_json())

    whole = search(units, options, after_step=keep)
    resumed = load_checkpoint(tmp_path, options.to_json(), units.device)
    assert resumed.step == 10
    assert same(whole, search(units, options))
    assert same(whole, search(units, options, state=resumed))
    assert not same(whole, search(units, SearchOptions(**{**vars(options), "seed": 21})))
    assert not same(whole, search(units, SearchOptions(**{**vars(options), "score": "plain"})))


@ASCENTS
def test_a_resumed_search_for_peaks_against_absence_takes_the_same_steps(method, tmp_path):
    units, probe = Units(), Probe(reference="absent")
    options = SearchOptions(directions=3, steps=16, method=method, contexts=8, seed=22, score="peak", probe=probe)

    def keep(state):
        if state.step == 10:
            save_checkpoint(tmp_path, state, options.to_json())

    whole = search(units, options, after_step=keep)
    resumed = load_checkpoint(tmp_path, options.to_json(), units.device)
    assert resumed.step == 10
    assert same(whole, search(units, options, state=resumed))
    for other in ({"score": "selective"}, {"probe": Probe()}):
        changed = SearchOptions(**{**vars(options), **other})
        assert not same(whole, search(units, changed))
        with pytest.raises(InputError, match="another search"):
            load_checkpoint(tmp_path, changed.to_json(), units.device)


def test_a_search_of_one_score_does_not_go_on_with_the_other(tmp_path):
    options = SearchOptions(directions=2, steps=4, contexts=8)
    save_checkpoint(tmp_path, search(Units(), options), options.to_json())
    other = SearchOptions(directions=2, steps=4, contexts=8, score="selective")
    with pytest.raises(InputError, match="another search"):
        load_checkpoint(tmp_path, other.to_json(), torch.device("cpu"))


def test_the_score_is_recorded():
    assert SearchOptions().to_json()["score"] == "plain"
    assert "averaging" not in SearchOptions().to_json()
    recorded = SearchOptions(score="selective").to_json()
    assert (recorded["score"], recorded["averaging"], recorded["probe"]["distance"]) == ("selective", "effects", None)
    recorded = SearchOptions(score="peak", probe=Probe(reference="absent")).to_json()
    assert "averaging" not in recorded
    assert (recorded["score"], recorded["probe"]["distance"], recorded["probe"]["reference"]) == (
        "peak",
        None,
        "absent",
    )
    json.dumps(recorded)


def test_the_repulsion_in_force_is_recorded():
    in_force = {score: SearchOptions(score=score).to_json()["repulsion"] for score in ("plain", "selective", "peak")}
    assert in_force == {"plain": 1.0, "selective": 0.1, "peak": 0.1}
    assert SearchOptions(score="peak", repulsion=0.0).to_json()["repulsion"] == 0.0


@pytest.mark.parametrize("readout", [Silent(), Units(privileged=False)], ids=["silent", "rotatable"])
@SCORES
def test_a_read_out_without_a_privileged_basis_is_refused(readout, score):
    options = SearchOptions(directions=2, steps=2, contexts=4, score=score)
    begun = start_search(readout, SearchOptions(directions=2, steps=2, contexts=4))
    for attempt in (
        lambda: start_search(readout, options),
        lambda: search(readout, options, state=copy.copy(begun)),
        lambda: estimate(readout, torch.eye(WIDTH), generator=seeded()),
        lambda: estimate(readout, torch.eye(WIDTH), generator=seeded(), measure="peak"),
    ):
        with pytest.raises(InputError, match="privileged basis"):
            attempt()
    search(readout, SearchOptions(directions=2, steps=2, contexts=4))  # the plain score needs none


def test_the_toys_read_out_units():
    config = SuperpositionConfig(features=6, width=3, density=0.5, steps=2, batch=8)
    options = SearchOptions(directions=2, steps=2, contexts=4, score="selective")
    assert torch.isfinite(search(SuperpositionReadout(train(config, 0)), options).directions).all()


@SCORES
def test_the_spectral_method_has_the_plain_score_alone(score):
    with pytest.raises(InputError, match=f"with the score {score}.*spectral"):
        search(Units(), SearchOptions(directions=2, method="spectral", score=score))
    started = SearchOptions(directions=2, steps=2, contexts=4, start="spectral", score=score)
    assert torch.isfinite(search(Units(), started).directions).all()


def dense_features(opposites):
    """12 directions in 16 dimensions, or 8 and their opposites, half of them active at once."""
    basis = torch.linalg.qr(torch.randn(16, 16, generator=seeded(30))).Q
    features = torch.cat([basis[:8], -basis[:8]]) if opposites else basis[:12]
    return features, {"active": len(features) // 2}


def along(directions, features):
    """The largest cosine to a feature or its negative: taking a dense feature away lands on its unit as well."""
    return (directions @ features.T).abs().amax(1)


@ASCENTS
def test_dense_features_are_found_by_where_their_effects_land(method):
    features, law = dense_features(False)
    units = Units(features, **law)
    options = {"directions": 6, "steps": 60, "method": method, "contexts": 32, "seed": 31}
    selective, plain = (
        along(search(units, SearchOptions(**options, score=score)).directions, features)
        for score in ("selective", "plain")
    )
    assert float(selective.mean()) > float(plain.mean()) + 0.15
    assert int((selective > 0.9).sum()) >= 3 > int((plain > 0.9).sum())


def test_a_rotated_output_hides_the_features():
    features, law = dense_features(False)
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=seeded(32))).Q
    hidden = Units(features, rotation=rotation, **law)  # it says that its basis is privileged, which is not so
    options = SearchOptions(directions=8, steps=60, contexts=32, seed=33, score="selective")
    assert int((along(search(hidden, options).directions, features) > 0.9).sum()) <= 1


def test_a_feature_and_its_opposite_are_two():
    features, law = dense_features(True)
    options = SearchOptions(directions=24, steps=60, contexts=32, seed=34, score="selective", repulsion=0.1)
    found = search(Units(features, **law), options).directions
    cosine, index = nearest(found, features)
    met = set(index[cosine > 0.9].tolist())
    pairs = [i for i in range(8) if {i, i + 8} <= met]
    assert len(pairs) >= 4


def untrained(features=64, width=32):
    """Random unit columns, tied, no bias: a frame that is not tight. The read-out, its features and their duals."""
    columns = random_directions(features, width, Centring.NONE, seeded(40))
    config = SuperpositionConfig(features=features, width=width, density=0.1)
    model = SuperpositionModel(
        config=config,
        seed=0,
        weights=columns.T.contiguous(),
        bias=torch.zeros(features),
        loss=math.nan,
        loss_of_zero=math.nan,
    )
    dual = torch.linalg.solve(columns.T @ columns, columns.T).T
    return SuperpositionReadout(model), columns, dual / dual.norm(dim=1, keepdim=True)


def test_the_largest_effects_on_few_units_are_features_of_any_frame():
    readout, features, dual = untrained()
    options = {"directions": 128, "steps": 100, "contexts": 32, "seed": 41, "probe": Probe(reference="absent")}
    found, selective = (
        search(readout, SearchOptions(**options, score=score)).directions for score in ("peak", "selective")
    )
    assert recovery(found, features).coverage >= 0.8 > 0.7 > recovery(selective, features).coverage
    cosine, index = nearest(found, features)
    assert float(cosine.mean()) > float((found * dual[index]).sum(1).mean()) + 0.2
    to_feature, to_dual = (float(nearest(selective, frame)[0].mean()) for frame in (features, dual))
    assert to_dual > to_feature  # behind a ReLU a tendency, for a linear read-out the rule: see the next test


def test_concentration_is_highest_at_duals_and_peaks_at_features_where_the_frame_is_not_tight():
    """A linear read-out and small steps, as in the theory; signs left open, as the effect's is."""
    _, features, dual = untrained()
    units = Units(features, active=6)
    units.activation = lambda y: y
    probe = Probe(law=PresenceLaw(high=0.1), reference="absent")
    options = {"directions": 64, "steps": 100, "contexts": 16, "seed": 42, "probe": probe}
    for score, at, not_at in (("selective", dual, features), ("peak", features, dual)):
        found = search(units, SearchOptions(**options, score=score)).directions
        assert float(along(found, at).median()) > 0.9
        assert float(along(found, not_at).median()) < 0.8


def test_features_are_more_selective_than_random_directions_where_they_are_no_more_sensitive():
    features, law = dense_features(False)
    units = Units(features, **law)
    batch, random = units.sample(200, seeded(35)), random_directions(100, 16, Centring.NONE, seeded(36))
    ratios = []
    for estimate_group in (estimate_on, sensitivity.estimate_on):
        means = [estimate_group(units, batch, group, generator=seeded(37)).mean for group in (features, random)]
        ratios.append(float(means[0].mean() / means[1].mean()))
    assert ratios[0] > 2
    assert ratios[1] < 1.5


def test_a_model_in_float64_is_searched_in_float64():
    state = search(Units(), SearchOptions(directions=2, steps=3, score="selective"))
    assert all(math.isfinite(score) for score in state.history)
    assert torch.isfinite(state.directions).all()
