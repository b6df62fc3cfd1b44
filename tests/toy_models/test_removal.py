"""Removal directions: parts that add up, held against plain distances, and directions planted to remove or to add."""

import itertools
import math

import pytest
import torch

from sensverify.claims import Run, resolve
from sensverify.errors import InputError
from sensverify.geometry import Centring, presence, random_directions
from sensverify.interventions import set_presence
from sensverify.readout import Batch
from sensverify.scoring import angular_distance
from sensverify.sensitivity import PresenceLaw, estimate_on
from sensverify.verdicts import Status, to_plain
from toy_models import removal_check, removal_classifier, removal_found, removal_found_check
from toy_models.catalogue.removal import claims
from toy_models.removal import (
    Decomposition,
    classify,
    decompose,
    lean,
    mean_direction,
    mechanisms,
    on_sphere,
    predicted_share,
    removal_threshold,
    step_gain,
)
from toy_models.removal_found import over_models, proportion, share_over_models
from toy_models.removal_planted import cases, planted

WIDTH = 12


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def model(*, orthonormal=False, features=20, density=0.2, constant=0.0):
    return planted(
        features=features,
        width=WIDTH,
        density=density,
        constant=constant,
        orthonormal=orthonormal,
        generator=seeded(),
    )


@pytest.fixture
def subject():
    readout = model()
    return readout, readout.sample(64, seeded(1)), random_directions(6, WIDTH, Centring.NONE, seeded(2))


class Identity:
    """Reads the activation itself, so that everything has a closed form in the plane of ``x`` and ``s``."""

    width, centring, device = 2, Centring.NONE, torch.device("cpu")

    def clean(self, batch):
        return batch.x

    def read(self, batch, x):
        return x

    def sample(self, count, generator):
        return Batch(torch.randn(count, 2, generator=generator), None)


def at(rho):
    """One activation whose presence along the first axis is ``rho``."""
    return Batch(torch.tensor([[rho, math.sqrt(1 - rho**2)]], dtype=torch.float64), None)


AXIS = torch.tensor([[1.0, 0.0]], dtype=torch.float64)


def test_squared_chords_are_angular_distances_also_of_zeros():
    y = torch.randn(5, 3, generator=seeded())
    y[0] = 0
    z = torch.randn(5, 3, generator=seeded(1))
    z[:2] = 0
    chords = (on_sphere(y) - on_sphere(z)).square().sum(-1) / 4
    torch.testing.assert_close(chords, angular_distance(y, z))


def test_the_parts_add_up_to_what_the_engine_measures(subject):
    readout, batch, directions = subject
    parts = decompose(readout, directions, batch=batch, generator=seeded(3), draws=2)
    engine = estimate_on(readout, batch, directions, generator=seeded(3), draws=2)
    torch.testing.assert_close(parts.effect, engine.effects, atol=1e-6, rtol=0)
    torch.testing.assert_close(parts.removal + parts.addition + parts.reduction, parts.effect, atol=1e-6, rtol=0)


def test_each_leg_gets_its_shapley_value(subject):
    readout, batch, directions = subject
    alpha = 0.5
    law = PresenceLaw(low=alpha, high=alpha)
    parts = decompose(readout, directions, batch=batch, generator=seeded(), draws=1, law=law)
    rho = presence(batch.x, directions, Centring.NONE)
    clean = readout.clean(batch)
    waypoint = readout.read(batch, set_presence(batch.x, directions, rho.clamp_min(0), Centring.NONE))
    end = readout.read(batch, set_presence(batch.x, directions, alpha, Centring.NONE))
    first, second, whole = (
        angular_distance(clean, waypoint),
        angular_distance(waypoint, end),
        angular_distance(clean, end),
    )
    torch.testing.assert_close(parts.removal, (first + whole - second) / 2, atol=1e-6, rtol=0)
    torch.testing.assert_close(parts.addition + parts.reduction, (second + whole - first) / 2, atol=1e-6, rtol=0)


def test_nothing_is_removed_where_nothing_is_opposite(subject):
    readout, batch, directions = subject
    parts = decompose(readout, directions, batch=batch, generator=seeded())
    assert bool((parts.removal[parts.presence >= 0] == 0).all())
    assert bool((parts.removal[parts.presence < -0.1] > 0).any())


def test_presence_beyond_alpha_is_reduced_not_added():
    law = PresenceLaw(low=0.2, high=0.2)
    parts = decompose(Identity(), AXIS, batch=at(0.6), generator=seeded(), draws=1, law=law)
    assert parts.addition.item() == 0
    assert parts.removal.item() == 0
    assert parts.reduction.item() == pytest.approx((1 - math.cos(math.acos(0.2) - math.acos(0.6))) / 2)


def test_shares_by_presence_add_up_to_one(subject):
    readout, batch, directions = subject
    shares = decompose(readout, directions, batch=batch, generator=seeded()).by_presence(0.2)
    torch.testing.assert_close(sum(shares.values()), torch.ones(len(directions)))


def test_chunks_do_not_change_the_parts(subject):
    readout, batch, directions = subject
    whole = decompose(readout, directions, batch=batch, generator=seeded())
    chunked = decompose(readout, directions, batch=batch, generator=seeded(), pairs_per_chunk=1)
    torch.testing.assert_close(whole.removal, chunked.removal)


def test_the_mechanisms_add_up_to_the_effect(subject):
    readout, batch, directions = subject
    found = mechanisms(readout, directions, batch=batch, generator=seeded(3), draws=2)
    engine = estimate_on(readout, batch, directions, generator=seeded(3), draws=2)
    torch.testing.assert_close(found.effect, engine.effects, atol=1e-5, rtol=0)
    torch.testing.assert_close(sum(found.shapley.values()), found.effect, atol=1e-5, rtol=0)


def test_the_mechanisms_are_those_of_the_plane():
    rho, alpha = -0.3, 0.6
    law = PresenceLaw(low=alpha, high=alpha)
    found = mechanisms(Identity(), AXIS, batch=at(rho), generator=seeded(), draws=1, law=law)
    rest, shrunk = math.sqrt(1 - rho**2), math.sqrt(1 - alpha**2)

    def distance(removes, moves, shrinks):
        x = ((0 if removes else rho) + (alpha if moves else 0), shrunk if shrinks else rest)
        return (1 - (x[0] * rho + x[1] * rest) / math.hypot(*x)) / 2

    assert found.alone["shrinkage"].item() == pytest.approx(distance(False, False, True))
    for player, name in enumerate(("removal", "positive part", "shrinkage")):
        gains = []
        for order in itertools.permutations(range(3)):
            before = set(order[: order.index(player)])
            gains.append(
                distance(*(i in before | {player} for i in range(3))) - distance(*(i in before for i in range(3)))
            )
        assert found.shapley[name].item() == pytest.approx(sum(gains) / 6)


def test_a_negated_orthonormal_feature_only_removes_and_the_feature_only_adds():
    readout = model(orthonormal=True, features=9, density=0.4)
    features = readout.directions
    assert bool(classify(readout, -features, seeded()).removes.all())
    added = classify(readout, features, seeded())
    assert not bool(added.removes.any())
    assert bool(added.decided.all())
    torch.testing.assert_close(classify(readout, -features, seeded()).share, torch.ones(9))


def test_a_direction_without_effect_is_not_classified():
    class Constant(Identity):
        def clean(self, batch):
            return torch.ones(len(batch), 2)

        def read(self, batch, x):
            return torch.ones(*x.shape[:2], 2)

    found = classify(Constant(), AXIS, seeded())
    assert bool(found.share.isnan().all())
    assert not bool(found.removes.any())
    assert not bool(found.decided.any())


def test_one_context_is_refused():
    with pytest.raises(InputError, match="at least two contexts"):
        classify(model(), torch.eye(WIDTH)[:1], seeded(), contexts=1)


def test_mean_presence_is_the_lean_times_the_length_of_the_mean(subject):
    readout, batch, directions = subject
    _, length = mean_direction(batch.x, readout.centring)
    mean_presence = presence(batch.x, directions, readout.centring).mean(1)
    torch.testing.assert_close(lean(batch.x, directions, readout.centring) * length, mean_presence)


def test_a_negative_presence_gives_larger_steps_by_the_stated_slope():
    slope = (math.log(step_gain(1e-4)) - math.log(step_gain(-1e-4))) / 2e-4
    assert slope == pytest.approx(-3.03, abs=0.01)
    alphas = torch.linspace(0, 0.875, 100_001, dtype=torch.float64)
    squared = [(math.acos(rho) - alphas.arccos()).square().mean() for rho in (-0.4, 0.0)]
    assert step_gain(-0.4) == pytest.approx(float(squared[0] / squared[1]), rel=1e-3)


def test_removal_is_the_majority_just_below_the_threshold():
    threshold = removal_threshold()
    assert threshold == pytest.approx(-0.53, abs=0.005)
    shares = predicted_share(torch.tensor([[threshold - 0.01], [threshold + 0.01], [0.3]]))
    assert shares[0] > 0.5 > shares[1]
    assert shares[2] == 0


@pytest.mark.parametrize("rho", [-0.1, -0.3, -0.6])
def test_the_predicted_share_is_that_of_a_read_out_that_turns_as_its_input_does(rho):
    parts = decompose(Identity(), AXIS, batch=at(rho), generator=seeded(), draws=256)
    assert parts.removal_share.item() == pytest.approx(float(predicted_share(parts.presence)), abs=0.03)


def test_as_many_planted_directions_remove_as_add():
    counts = [sum(len(case.directions) for case in cases(0, 3) if case.removes is kind) for kind in (True, False)]
    assert counts[0] == counts[1] == 15


def test_planted_contexts_hold_the_amplitudes_they_are_made_of():
    readout = model(constant=0.7)
    batch = readout.sample(50, seeded())
    torch.testing.assert_close(batch.state @ readout.features + readout.constant, batch.x)
    assert readout.clean(batch).shape == (50, 21)
    assert len(batch) == len(batch.state) == 50


def test_a_share_of_all_has_an_interval_with_width():
    interval = proportion(10, 10)
    assert interval.value == interval.high == 1
    assert interval.low == pytest.approx(0.722, abs=1e-3)


def parts_of(removal, addition, reduction):
    """A decomposition ``[1, 2]`` of one direction on two contexts alike."""
    tables = [torch.full((1, 2), value, dtype=torch.float64) for value in (removal, addition, reduction)]
    none = torch.zeros(1, 2, dtype=torch.float64)
    return Decomposition(
        effect=sum(tables), removal=tables[0], addition=tables[1], reduction=tables[2],
        removal_alone=none, onward_alone=none, presence=none,
    )  # fmt: skip


def test_addition_counts_no_reduction():
    """By hand: an effect of 0.9 against 0.4; of the difference 0.5, removal is 0.1, addition 0.15, reduction 0.25."""
    item = removal_check.Negatives(
        model="by hand", seed=0, negated=parts_of(0.2, 0.25, 0.45), random=parts_of(0.1, 0.1, 0.2),
        active=torch.zeros(1, 2, dtype=torch.bool), closest=torch.ones(1), by_mechanism=(),
    )  # fmt: skip
    found = removal_check.excess(item)
    assert found.ratio.value == pytest.approx(0.9 / 0.4)
    assert found.addition.value == pytest.approx(0.3)
    assert found.reduction.value == pytest.approx(0.5)
    assert removal_check.excess(item, lambda parts: parts.removal).addition.value == pytest.approx(0.2)
    assert found.inactive.value == pytest.approx(1)
    assert removal_check._judge_excess([found], {}, ()).status is Status.REFUTED


def test_in_the_plane_one_move_adds_and_another_reduces():
    """From presence 1/2, at 60 degrees, back to α = 0 or on to α = √3/2: by 30 degrees, a distance (1 − cos 30°)/2."""
    moved = (1 - math.cos(math.pi / 6)) / 2
    for alpha, added, reduced in ((0.0, 0, moved), (math.sqrt(3) / 2, moved, 0)):
        law = PresenceLaw(low=alpha, high=alpha)
        parts = decompose(Identity(), AXIS, batch=at(0.5), generator=seeded(), draws=1, law=law)
        found = [parts.removal.item(), parts.addition.item(), parts.reduction.item()]
        assert found == pytest.approx([0, added, reduced])


def test_models_and_not_their_directions_are_the_unit_of_chance():
    means = over_models([torch.full((50,), value) for value in (0.1, 0.2, 0.3)], 0)
    assert (means.value, means.high - means.value) == pytest.approx((0.2, 4.303 * 0.1 / 3**0.5), rel=1e-3)
    unlike = [torch.zeros(50, dtype=torch.bool), torch.ones(50, dtype=torch.bool)]
    assert (share_over_models(unlike, 0).low, share_over_models(unlike, 0).high) == (0, 1)
    none = share_over_models([torch.zeros(5, dtype=torch.bool)] * 2, 0)
    assert (none.low, none.value) == (0, 0)
    assert none.high >= proportion(0, 10).high


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with one seed and three kinds of model; the checks are the product's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(removal_found, "QUICK_SEEDS", 1)
        kept = (
            "random features, p = 0.4",
            "random features, p = 0.1, one direction always there",
            "trained, p = 0.02",
            "trained, p = 0.02, one direction always there",
            "trained, n = 2d, p = 0.02",
        )
        patch.setattr(removal_found, "QUICK", tuple(s for s in removal_found.QUICK if s.label in kept))
        yield Run(seed=40, directory=tmp_path_factory.mktemp("removal"))


@pytest.mark.parametrize("claim", claims, ids=lambda claim: claim.id)
def test_every_claim_comes_out_as_expected_and_every_twin_refuted(run, claim):
    finding = resolve(claim.check)(run)
    assert finding.status is claim.expected
    assert finding.exhibits
    assert to_plain(finding.evidence)
    for exhibit in finding.exhibits:
        assert exhibit.caption
        assert exhibit.to_json()
    for twin in claim.false_twins:
        refuted = resolve(twin.check)(run)
        assert refuted.status is Status.REFUTED, twin.statement
        assert to_plain(refuted.witness)


def test_evidence_names_the_losses_with_which_training_ended(run):
    for check in (removal_check.check_negatives, removal_found_check.check_found, removal_found_check.check_bias):
        for model in losses_in(check(run)):
            assert model["seed"] == 40000
            assert 0 < model["loss"] < model["loss_of_zero"] / 4
            assert math.isfinite(model["loss_change"])


def losses_in(finding):
    """Of every model that the evidence lists; none is an error."""
    losses = finding.evidence["trained_models"]
    assert losses
    return losses


def test_features_of_converged_models_with_two_per_dimension_are_in_opposite_pairs(run):
    (item,) = removal_check.converged_pairs(run)
    assert float(item.closest.min()) > 0.999
    assert removal_check.excess(item).ratio.value < 1.1


def test_the_prediction_says_how_it_follows(run):
    found = removal_found.removal_prediction(run)
    assert 0 == found["low"] < found["high"] <= 1
    assert found["lean_sign"] == -1
    assert found["lean_low"] < found["lean_high"] < 0
    assert "40000" in found["derived_from"]
    assert to_plain(found)


def test_the_classifier_reaches_the_same_figures_twice(run, tmp_path):
    again = Run(seed=40, directory=tmp_path)
    first, second = (removal_classifier.check_classifier(r).evidence for r in (run, again))
    assert first == second
