"""The engine against independent oracles: interventions, distances, estimates, the search, the spectral operator."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sensverify import discovery
from sensverify.discovery import SearchOptions, count_duplicates, search, start_search
from sensverify.errors import InputError
from sensverify.geometry import (
    Centring,
    nearest,
    presence,
    random_directions,
    step_on_sphere,
    tangent,
    unit_directions,
)
from sensverify.interventions import scale_norm, set_presence
from sensverify.readout import Batch
from sensverify.scoring import angular_distance, kullback_leibler
from sensverify.sensitivity import PresenceLaw, Probe, Weighting, effects, estimate, estimate_on, null_effects
from sensverify.sparsity import summarise_presence
from sensverify.spectral import apply_operator, spectral_directions
from sensverify.statistics import group_ratio, mean_interval

WIDTH, OUT = 12, 9
BOTH = pytest.mark.parametrize("centring", list(Centring))


class Network:
    """A small random network as a read-out: ``tanh(W₂ tanh(W₁ x))``."""

    width, device = WIDTH, torch.device("cpu")

    def __init__(self, centring=Centring.MEAN, dtype=torch.float32, gain=1.0):
        generator = torch.Generator().manual_seed(7)
        self.centring, self.dtype = centring, dtype
        self.first = gain * torch.randn(WIDTH, 20, generator=generator).to(dtype) / WIDTH**0.5
        self.second = torch.randn(20, OUT, generator=generator).to(dtype) / 20**0.5

    def sample(self, count, generator):
        return Batch(torch.randn(count, WIDTH, generator=generator).to(self.dtype) + 0.3, None)

    def clean(self, batch):
        return self.read(batch, batch.x)

    def read(self, batch, x):
        return torch.tanh(torch.tanh(x @ self.first) @ self.second)

    def describe(self):
        return {}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@BOTH
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.float64, 1e-14)])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), alpha=st.floats(-1, 1), scale=st.sampled_from([1e-6, 1.0, 1e6]))
def test_norm_and_presence_are_as_stated(centring, dtype, tolerance, seed, alpha, scale):
    generator = seeded(seed)
    x = scale * torch.randn(4, WIDTH, generator=generator, dtype=dtype)
    s = torch.randn(3, WIDTH, generator=generator, dtype=dtype)
    moved = set_presence(x, s, alpha, centring)
    before, after = centring.project(x).norm(dim=-1), centring.project(moved).norm(dim=-1)
    assert torch.allclose(after, before.expand_as(after), rtol=tolerance)
    for b in range(4):
        achieved = presence(moved[:, b], s, centring).diagonal()
        assert torch.allclose(achieved, torch.full_like(achieved, alpha), atol=4 * tolerance)
    if centring is Centring.MEAN:
        assert torch.allclose(moved.mean(-1), x.mean(-1).expand(3, 4), atol=scale * tolerance)


def test_no_other_point_of_that_norm_and_presence_is_nearer():
    x, s = torch.randn(1, WIDTH, generator=seeded(1), dtype=torch.float64), torch.zeros(1, WIDTH, dtype=torch.float64)
    s[0, 2] = 1
    ours = float((set_presence(x, s, 0.6, Centring.NONE)[0] - x).norm())
    others = torch.randn(20_000, WIDTH, generator=seeded(2), dtype=torch.float64)
    others[:, 2] = 0
    others = x.norm() * (0.6 * s + 0.8 * torch.nn.functional.normalize(others))
    distances = (others - x).norm(dim=1)
    assert float(distances.min()) >= ours
    assert float(distances.min()) < 3 * ours  # the brute force does come near, so it could have won


@BOTH
def test_a_parallel_activation_gets_one_fixed_valid_point(centring):
    s = random_directions(1, WIDTH, centring, seeded(3))
    x = torch.cat([2.5 * s, -1.5 * s, 2.5 * s + 1e-9])
    moved = set_presence(x, s, 0.25, centring)
    assert torch.isfinite(moved).all()
    assert moved.equal(set_presence(x, s, 0.25, centring))
    assert torch.allclose(presence(moved[0], s, centring)[0], torch.tensor(0.25), atol=1e-5)


def test_alpha_may_be_one_number_one_per_context_or_one_per_pair():
    x, s = torch.randn(4, WIDTH), torch.randn(3, WIDTH)
    table = torch.rand(3, 4)
    whole = set_presence(x, s, table, Centring.NONE)
    for i in range(3):
        assert torch.allclose(whole[i], set_presence(x, s[i : i + 1], table[i], Centring.NONE)[0], atol=1e-6)
    assert set_presence(x, s, 0.5, Centring.NONE).equal(set_presence(x, s, torch.full((4,), 0.5), Centring.NONE))


@BOTH
def test_scaling_the_norm_keeps_every_presence_and_the_mean(centring):
    x, s = torch.randn(5, WIDTH), torch.randn(3, WIDTH)
    scaled = scale_norm(x, 3.0, centring)
    assert torch.allclose(presence(scaled, s, centring), presence(x, s, centring), atol=1e-6)
    assert torch.allclose(centring.project(scaled), 3 * centring.project(x), atol=1e-5)


@pytest.mark.parametrize("bad", [torch.zeros(WIDTH), torch.ones(WIDTH), torch.full((WIDTH,), math.nan)])
def test_a_direction_without_presence_is_refused(bad):
    with pytest.raises(ValueError, match="direction"):
        unit_directions(bad[None], Centring.MEAN)


def test_presence_never_leaves_its_range():
    x = torch.randn(4000, WIDTH, generator=seeded(4))
    rho = presence(x, x[:50] * 1.0000001, Centring.NONE)
    assert float(rho.abs().max()) <= 1
    assert float(rho.max()) > 1 - 1e-6


def test_a_step_on_the_sphere_travels_its_length_as_an_angle():
    s = random_directions(6, WIDTH, Centring.NONE, seeded(5), torch.float64)
    steps = tangent(s, torch.randn(6, WIDTH, generator=seeded(6), dtype=torch.float64))
    assert float((steps * s).sum(1).abs().max()) < 1e-14
    steps = 0.7 * torch.nn.functional.normalize(steps)
    assert torch.allclose((step_on_sphere(s, steps) * s).sum(1), torch.tensor(math.cos(0.7), dtype=torch.float64))
    torch.testing.assert_close(step_on_sphere(s, torch.zeros_like(s)), s, rtol=1e-15, atol=0)


def test_nearest_is_signed():
    cosine, index = nearest(torch.tensor([[-1.0, 0.0]]), torch.eye(2))
    assert (float(cosine), int(index)) == (0.0, 1)


@given(seed=st.integers(0, 1000), angle=st.floats(1e-4, 3.14))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_angular_distance_in_float32_is_that_of_float64(seed, angle):
    y = torch.randn(OUT, generator=seeded(seed), dtype=torch.float64)
    z = tangent(torch.nn.functional.normalize(y[None]), torch.randn(1, OUT, generator=seeded(seed + 1)).double())[0]
    z = math.cos(angle) * y / y.norm() + math.sin(angle) * z / z.norm()
    exact = (1 - math.cos(angle)) / 2
    # Two unit vectors rounded to float32 differ by a few ulp: an error of 1e-6 in the chord, not in its square.
    assert float(angular_distance(y.float(), z.float())) == pytest.approx(exact, abs=1e-6 * exact**0.5 + 1e-13)


def test_angular_distance_keeps_its_conventions_at_zero():
    zero, one = torch.zeros(OUT), torch.ones(OUT, requires_grad=True)
    assert float(angular_distance(zero, zero)) == 0
    assert float(angular_distance(zero, one)) == 0.5
    assert float(angular_distance(one, one)) == 0
    assert float(angular_distance(one, -one)) == pytest.approx(1)
    (gradient,) = torch.autograd.grad(angular_distance(zero, one), one)
    assert torch.isfinite(gradient).all()


def test_kullback_leibler_is_torchs_own():
    a, b = torch.randn(5, OUT), torch.randn(5, OUT)
    oracle = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=a), torch.distributions.Categorical(logits=b)
    )
    assert torch.allclose(kullback_leibler(a, b), oracle, atol=1e-6)


@pytest.mark.parametrize(
    ("one", "other"),
    [((1, 5, 7), (5, 7)), ((7,), (3, 5, 7)), ((1, 1, 7), (7,)), ((3, 1, 7), (1, 5, 7)), ((0, 7), (1, 7))],
)
def test_angular_distance_broadcasts_as_products_do(one, other):
    generator = torch.Generator().manual_seed(0)
    y, z = (torch.randn(shape, generator=generator) for shape in (one, other))
    for first, second in ((y, z), (z, y), (y.double(), z), (y, z.double())):
        expected = (1 - torch.nn.functional.cosine_similarity(*torch.broadcast_tensors(first, second), dim=-1)) / 2
        found = angular_distance(first, second)
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_sensitivity_lies_between_zero_and_one_and_vanishes_under_the_null():
    network = Network()
    batch = network.sample(64, seeded(8))
    s = random_directions(20, WIDTH, network.centring, seeded(9))
    result = estimate_on(network, batch, s, generator=seeded(10))
    assert 0 < float(result.mean.min()) <= float(result.mean.max()) <= 1
    assert float(null_effects(network, batch, s).max()) < 1e-11


def test_standard_error_is_the_spread_over_repetitions():
    network, s = Network(), random_directions(3, WIDTH, Centring.MEAN, seeded(11))
    results = [estimate(network, s, generator=seeded(seed), contexts=64, draws=1) for seed in range(200)]
    spread = torch.stack([result.mean for result in results]).std(0)
    stated = torch.stack([result.standard_error for result in results]).mean(0)
    assert torch.allclose(stated, spread, rtol=0.2)


def test_chunking_never_changes_results():
    network, s = Network(), random_directions(7, WIDTH, Centring.MEAN, seeded(12))
    whole, parts = (
        estimate(network, s, generator=seeded(13), contexts=32, pairs_per_chunk=pairs).effects for pairs in (10**6, 64)
    )
    assert torch.allclose(whole, parts, atol=1e-7)


@pytest.mark.parametrize("kind", ["none", "soft", "hard"])
def test_weighting_is_the_weighted_mean(kind):
    network, s = Network(), random_directions(4, WIDTH, Centring.MEAN, seeded(14))
    batch = network.sample(200, seeded(15))
    result = estimate_on(
        network, batch, s, generator=seeded(16), probe=Probe(weighting=Weighting(kind=kind, scale=0.2))
    )
    rho = presence(batch.x, s, network.centring)
    expected = {"none": torch.ones_like(rho), "soft": torch.exp(-((rho / 0.2) ** 2)), "hard": (rho.abs() < 0.2).float()}
    weights = expected[kind]
    assert torch.allclose(result.mean, (weights * result.effects).sum(1) / weights.sum(1), atol=1e-6)


def test_a_law_outside_the_range_of_presence_is_refused():
    with pytest.raises(ValueError, match="presence"):
        PresenceLaw(low=0.5, high=1.5)
    draws = PresenceLaw(low=0.0, high=0.8).stratified(4, 100, seeded(17))
    for j in range(4):
        assert float(draws[j].min()) >= 0.2 * j
        assert float(draws[j].max()) <= 0.2 * (j + 1)


@BOTH
def test_gradient_of_sensitivity_is_the_finite_difference(centring):
    network = Network(centring, torch.float64)
    batch = network.sample(6, seeded(18))
    clean = network.clean(batch)
    s = random_directions(2, WIDTH, centring, seeded(19), torch.float64)
    alpha = torch.full((6,), 0.4, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda s: effects(network, batch, clean, s, alpha), (s.requires_grad_(),), eps=1e-6, atol=1e-7
    )


def same(first, second):
    return first.directions.equal(second.directions) and first.history == second.history


@pytest.mark.parametrize("method", ["parallel", "sequential"])
def test_a_resumed_search_takes_the_same_steps(method):
    network = Network()
    options = SearchOptions(directions=3, steps=24, method=method, contexts=8, seed=20)
    kept = []

    def keep(state):
        if state.step == 10:
            kept.append((copy.copy(state), state.directions.clone(), state.momentum.clone()))
            kept[0][0].directions, kept[0][0].momentum = kept[0][1], kept[0][2]
            kept[0][0].second_moment = state.second_moment.clone()
            kept[0][0].running_score = state.running_score.clone()
            kept[0][0].history = list(state.history)
            kept[0][0].generator = torch.Generator()
            kept[0][0].generator.set_state(state.generator.get_state())

    whole = search(network, options, after_step=keep)
    assert same(whole, search(network, options))
    assert same(whole, search(network, options, state=kept[0][0]))
    assert not same(whole, search(network, SearchOptions(**{**vars(options), "seed": 21})))


@pytest.mark.parametrize("method", ["parallel", "sequential", "spectral"])
def test_what_is_found_beats_random_directions_on_fresh_contexts(method):
    network = Network()
    found = search(network, SearchOptions(directions=3, steps=80, method=method, seed=22)).directions
    random = random_directions(200, WIDTH, network.centring, seeded(23))
    batch = network.sample(500, seeded(24))
    scores = [estimate_on(network, batch, group, generator=seeded(25)).mean for group in (found, random)]
    assert float(scores[0].mean()) > float(scores[1].mean() + scores[1].std())
    assert torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-5)
    assert float(found.mean(1).abs().max()) < 1e-5


def test_repulsion_keeps_directions_apart_while_it_lasts(monkeypatch):
    monkeypatch.setattr(discovery, "RESEEDINGS", ())  # which would do the same by other means
    duplicates = {}
    for repulsion in (None, 0.0):

        def count(state, repulsion=repulsion):
            if state.step == 80:
                duplicates[repulsion] = count_duplicates(state.directions)

        options = SearchOptions(directions=8, steps=160, contexts=32, seed=26, repulsion=repulsion)
        search(Network(), options, after_step=count)
    assert duplicates[None] == 0
    assert duplicates[0.0] > 0


@pytest.mark.parametrize("method", ["parallel", "sequential"])
def test_repulsion_fades_out_over_the_second_half_unless_one_searches_in_sequence(method, monkeypatch):
    """Where every direction has the same score, repulsion is all that moves them."""
    strengths, pushed = [], torch.eye(Network().width)[1:2]
    monkeypatch.setattr(discovery, "_climb", lambda *given: (torch.ones(1), torch.zeros_like(pushed)))
    monkeypatch.setattr(discovery, "_repulsion", lambda *given: pushed)
    monkeypatch.setattr(discovery, "step_on_sphere", lambda directions, steps: directions)
    options = SearchOptions(directions=1, steps=10, contexts=4, method=method, repulsion=3.0)
    state = start_search(Network(), options)
    for step in range(10):
        before = state.second_moment.clone()
        discovery._ascend_once(Network(), options, state)
        added = (state.second_moment - 0.99 * before) / 0.01  # the square of this step's gradient
        strengths.append(float(added.sqrt()))
        state.step = step + 1
    fading = [1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2] if method == "parallel" else [1] * 10
    assert strengths == pytest.approx([3.0 * share for share in fading], rel=1e-3)


@pytest.mark.parametrize("score", ["plain", "peak"])
def test_repulsion_is_the_gradient_of_what_it_says(score):
    directions, found = (torch.randn(n, 6, generator=seeded(n), dtype=torch.float64) for n in (5, 3))
    directions, found = (d / d.norm(dim=1, keepdim=True) for d in (directions, found))
    directions[4] = directions[3]  # the same: neither can be pushed off the other
    leaf = directions.clone().requires_grad_()
    for method, others in (("parallel", found[:0]), ("parallel", found), ("sequential", found)):
        among, beside = leaf @ leaf.T, leaf @ others.T
        if score != "plain":
            among, beside = among.clamp_min(0), beside.clamp_min(0)
        if method == "parallel":
            pairs = [among[i, j] for i in range(5) for j in range(i) if (i, j) != (4, 3)]
            squared = torch.cat([torch.stack(pairs), beside.flatten()]).square()
            penalty = (-torch.log(1 - squared) - squared).sum()
        else:
            penalty = beside.square().sum()
        (expected,) = torch.autograd.grad(penalty, leaf)
        options = SearchOptions(method=method, score=score)
        torch.testing.assert_close(discovery._repulsion(directions, others, options), expected)


def test_duplicates_start_afresh_at_the_times_that_are_stated(monkeypatch):
    seen = []
    original = discovery._reseed_duplicates

    def reseed(readout, options, state):
        seen.append(state.step)
        state.directions[1] = state.directions[0]
        state.running_score[0], state.running_score[1] = 1.0, 0.5
        before = state.directions.clone()
        original(readout, options, state)
        assert state.directions[[0, 2]].equal(before[[0, 2]])
        assert not state.directions[1].equal(before[1])
        assert state.momentum[1].equal(torch.zeros_like(state.momentum[1]))

    monkeypatch.setattr(discovery, "_reseed_duplicates", reseed)
    state = start_search(Network(), SearchOptions(directions=3, steps=40, contexts=4, seed=27))
    state.directions[:] = torch.nn.functional.normalize(torch.eye(WIDTH)[:3] - 1 / WIDTH)  # no duplicates
    search(Network(), SearchOptions(directions=3, steps=40, contexts=4, seed=27), state=state)
    assert seen == [5, 10, 15, 20]


def test_the_spectral_operator_is_its_definition_written_out():
    network = Network(Centring.MEAN, torch.float64)
    batch = network.sample(5, seeded(27))
    identity, centre = torch.eye(WIDTH, dtype=torch.float64), torch.full((WIDTH, WIDTH), 1 / WIDTH).double()
    expected = torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
    for x in batch.x:
        jacobian = torch.autograd.functional.jacobian(lambda z: network.read(batch, z), x)
        y, centred = network.read(batch, x), (identity - centre) @ x
        unit = centred / centred.norm()
        across = (identity - torch.outer(unit, unit)) @ (identity - centre)
        beyond = torch.eye(OUT, dtype=torch.float64) - torch.outer(y, y) / y.square().sum()
        jacobian = beyond @ jacobian @ across
        expected += centred.square().sum() / y.square().sum() * jacobian.T @ jacobian / 5
    vectors = random_directions(4, WIDTH, Centring.MEAN, seeded(28), torch.float64)
    assert torch.allclose(apply_operator(network, batch, vectors), vectors @ expected, atol=1e-10)


def test_more_spectral_directions_than_dimensions_are_refused():
    with pytest.raises(InputError, match=f"at most {WIDTH - 1}"):
        spectral_directions(Network(), WIDTH, generator=seeded())


def test_intervals_cover_the_truth_as_often_as_they_say():
    """95 % intervals over 200 simulated experiments, directions and contexts both drawn at random."""
    covered = {"mean": 0, "ratio": 0}
    for seed in range(200):
        generator = seeded(seed)
        context = 1 + torch.rand(1, 60, generator=generator)
        top = (3 + torch.randn(30, 1, generator=generator)) * context
        bottom = (2 + 0.5 * torch.randn(30, 1, generator=generator)) * context
        ratio = group_ratio(top, bottom, generator, resamples=300)
        covered["ratio"] += ratio.low <= 1.5 <= ratio.high
        mean = mean_interval(context[0], generator, resamples=300)
        covered["mean"] += mean.low <= 1.5 <= mean.high
    assert 0.88 <= covered["ratio"] / 200 <= 0.99
    assert 0.88 <= covered["mean"] / 200 <= 0.99
    with pytest.raises(ValueError, match="same contexts"):
        group_ratio(torch.rand(3, 4), torch.rand(3, 5), seeded())


def test_the_norm_budget_is_used_up_exactly_by_a_basis():
    x = torch.randn(40, WIDTH, generator=seeded(29))
    basis = torch.eye(WIDTH)
    full = summarise_presence(presence(x, basis, Centring.NONE), basis)
    assert full.budget_used == pytest.approx(1, abs=1e-5)
    part = summarise_presence(presence(x, basis[:3], Centring.NONE), basis[:3])
    assert part.budget_used < 1
    assert 0 <= part.median_share <= 1


def test_a_present_direction_is_counted():
    rho = torch.zeros(2, 100)
    rho[0, :7] = 0.9
    rho[1, :3] = 0.9
    summary = summarise_presence(rho, torch.eye(100)[:2])
    assert summary.threshold == pytest.approx(0.4)
    assert summary.shares.tolist() == pytest.approx([0.07, 0.03])
    assert summary.most_present_at_once == 2
    assert float(summary.excess_kurtosis.min()) > 3


def test_the_norm_survives_where_almost_nothing_is_left_of_the_activation():
    """A large mean leaves rounding noise in the centred part, which must not pass for a direction."""
    generator = seeded(31)
    for offset in (0.0, 10.0, 1000.0):
        s = torch.randn(20, 6, generator=generator)
        x = 2 * s + offset
        for i in range(20):
            moved = set_presence(x[i : i + 1], s[i : i + 1], 0.0, Centring.MEAN)[0].double()
            before, after = (v.double() - v.double().mean(-1, keepdim=True) for v in (x[i : i + 1], moved))
            allowed = 16 * torch.finfo(torch.float32).eps * float(x[i].norm() / before.norm())
            assert abs(float(after.norm() / before.norm()) - 1) < allowed


@pytest.mark.parametrize("method", ["parallel", "sequential", "spectral"])
def test_a_model_in_float64_is_searched_in_float64(method):
    network = Network(dtype=torch.float64)
    state = search(network, SearchOptions(directions=2, steps=3, method=method, seed=32))
    assert torch.isfinite(state.directions).all()
    batch = network.sample(5, seeded(33))
    assert float(null_effects(network, batch, state.directions).abs().max()) < 1e-13


def test_more_spectral_directions_than_the_rank_stay_in_the_centred_space():
    """Rounding fills up a basis whose rank is too low; it must not let in what the norm cannot see."""
    network = Network(dtype=torch.float64)
    found = spectral_directions(network, WIDTH - 1, generator=seeded(34), contexts=1)
    assert float(found.mean(1).abs().max()) < 1e-12
    assert torch.allclose(found @ found.T, torch.eye(WIDTH - 1, dtype=torch.float64), atol=1e-10)


@pytest.mark.parametrize("count", [4, WIDTH + 3])
def test_a_search_may_start_from_the_spectral_solution(count):
    network = Network()
    options = SearchOptions(directions=count, steps=5, start="spectral", seed=35)
    begun = start_search(network, options).directions
    alone = spectral_directions(network, min(count, WIDTH - 1), generator=seeded(35))
    assert torch.allclose(begun[: len(alone)], alone, atol=1e-6)
    assert begun.shape == (count, WIDTH)
    assert torch.isfinite(search(network, options).directions).all()
