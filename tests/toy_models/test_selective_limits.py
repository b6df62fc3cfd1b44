"""Where selective search ends, on small models and against independent oracles."""

import dataclasses
import json
import math

import pytest
import torch

from sensverify import selectivity
from sensverify.claims import Run, resolve
from sensverify.discovery import search
from sensverify.errors import InputError
from sensverify.geometry import Centring, random_directions
from sensverify.verdicts import Status
from toy_models import searching, selective_basis, selective_families, selective_load
from toy_models.catalogue.selective_limits import claims
from toy_models.folder import plant
from toy_models.readouts import Linear
from toy_models.recovery import match
from toy_models.superposition import SuperpositionConfig

TINY = SuperpositionConfig(features=16, width=8, density=0.1, batch=64, steps=100)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def measured(shares, directions=100, by_chance=0.0):
    """A cell in which these shares of the directions are at a feature."""
    hits = [torch.arange(directions) < round(share * directions) for share in shares]
    return selective_load.Measured(hits=hits, by_chance=by_chance)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One quick run with everything small: verdicts mean nothing in it, forms do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selective_load, "WIDTHS", {"quick": (8, 12)})
        patch.setattr(selective_load, "LOADS", {"quick": (0.18, 1.4)})
        patch.setattr(selective_load, "RELU_WIDTHS", {"quick": (8,)})
        shorter = {"directions": 8, "steps": 10}
        patch.setattr(selective_load, "LINEAR_SEARCH", dataclasses.replace(selective_load.LINEAR_SEARCH, **shorter))
        patch.setattr(
            selective_load,
            "RELU_SEARCHES",
            {name: dataclasses.replace(one, **shorter) for name, one in selective_load.RELU_SEARCHES.items()},
        )
        for module in (selective_basis, selective_families):
            patch.setattr(module, "SIZE", {"quick": TINY})
        patch.setattr(selective_basis, "BUDGET", {"quick": (15, 3)})
        patch.setattr(selective_families, "PRESENTATIONS", 160)
        yield Run(seed=3, directory=tmp_path_factory.mktemp("run"))


def test_chance_is_the_share_of_random_directions_that_meet_a_random_feature():
    for signed in (True, False):
        features = random_directions(60, 5, Centring.NONE, seeded(0))
        drawn = random_directions(200_000, 5, Centring.NONE, seeded(1))
        cosines = drawn @ features.T if signed else (drawn @ features.T).abs()
        met = float((cosines.amax(1) >= 0.9).double().mean())
        assert selective_load.chance(60, 5, signed=signed) == pytest.approx(met, rel=0.15)


def test_chance_alone_counts_as_nothing_and_all_as_all():
    assert selective_load.corrected(0.3, 0.3) == 0
    assert selective_load.corrected(1.0, 0.3) == pytest.approx(1)


def test_the_share_beyond_chance_and_its_interval_are_corrected_alike(tmp_path):
    run = Run(seed=0, directory=tmp_path)
    raw, freed = measured([0.4, 0.5, 0.6]), measured([0.4, 0.5, 0.6], by_chance=0.3)
    assert freed.shares == pytest.approx([(share - 0.3) / 0.7 for share in raw.shares])
    whole, corrected = raw.interval(run), freed.interval(run)
    assert corrected.value == pytest.approx((0.5 - 0.3) / 0.7)
    assert corrected.low == pytest.approx((whole.low - 0.3) / 0.7)
    assert corrected.high == pytest.approx((whole.high - 0.3) / 0.7)
    assert whole.high - whole.low > 0.1  # one number for each of three seeds, resampled alone, has less


def test_a_boundary_whose_seeds_disagree_is_not_told(tmp_path, monkeypatch):
    """A mean inside the range is not enough: five numbers are judged by Student's interval."""
    run = Run(seed=0, directory=tmp_path)
    cells = {
        (width, at): measured([0.9 if at < edge else 0.1 for edge in (0.2, 0.4, 0.4, 1.0, 1.0)])
        for width in selective_load.WIDTHS["quick"]
        for at in selective_load.loads(run)
    }
    monkeypatch.setattr(selective_load, "_linear_cells", lambda run: cells)
    monkeypatch.setattr(selective_load, "_relu_cells", lambda run, score: {(24, 1.0): measured([0.9] * 3)})
    finding = selective_load._judge(run, selective_load.Expected(exponent=(1.0, 3.0)))
    assert finding.status is Status.INCONCLUSIVE


def test_the_crossing_is_found_between_loads():
    assert selective_load.crossing((0.5, 2.0), (0.75, 0.25)) == pytest.approx(1.0)  # the geometric middle
    assert selective_load.crossing((1.0, 2.0, 4.0), (0.9, 0.5, 0.1)) == pytest.approx(2.0)


def test_a_boundary_outside_the_loads_is_put_at_their_end():
    assert selective_load.crossing((1.0, 2.0), (0.4, 0.1)) == 1.0
    assert selective_load.crossing((1.0, 2.0), (0.9, 0.8)) == 2.0


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_search_that_finds_nothing_or_everything_refutes_the_boundary(tmp_path, monkeypatch, share):
    run = Run(seed=0, directory=tmp_path)
    widths, all_loads = selective_load.WIDTHS["quick"], selective_load.loads(run)
    cells = {(width, at): measured([share] * 5) for width in widths for at in all_loads}
    monkeypatch.setattr(selective_load, "_linear_cells", lambda run: cells)
    monkeypatch.setattr(selective_load, "_relu_cells", lambda run, score: {(24, 1.0): measured([0.9] * 3)})
    assert selective_load._judge(run, selective_load.Expected()).status is Status.REFUTED


def test_a_power_law_has_its_exponent():
    assert selective_load.slope((8, 16, 24), [3 * d**1.7 for d in (8, 16, 24)]) == pytest.approx(1.7)


def test_with_small_presences_and_a_linear_readout_peak_sensitivity_is_the_fourth_power_sum():
    model = plant(40, 12, 5, selective_load.DENSITY)
    readout, directions = Linear(model), random_directions(30, 12, Centring.NONE, seeded(6))
    probe = selective_load.LINEAR_SEARCH.probe
    measured = selectivity.estimate(
        readout, directions, generator=seeded(7), contexts=64, draws=1, probe=probe, measure="peak"
    ).effects.mean(1)
    truth = (directions @ model.feature_directions.T).pow(4).sum(1)
    assert torch.allclose(measured / measured.mean(), truth / truth.mean(), rtol=0.03)


def test_the_search_ends_where_a_plain_ascent_of_the_fourth_power_sum_does():
    """An ascent without repulsion, momentum or fresh starts: shares of starts that end at a feature agree."""
    width, at = 24, 0.25
    model = plant(round(at * selective_load.load(width)), width, 9000, selective_load.DENSITY)
    features, s = model.feature_directions, random_directions(200, width, Centring.NONE, seeded(8))
    for _ in range(200):
        cosines = s @ features.T
        gradient = cosines**3 @ features / (cosines**4).sum(1, keepdim=True)
        s = torch.nn.functional.normalize(s + 0.7 * gradient, dim=1)
    plain = float(((s @ features.T).abs().amax(1) >= 0.9).double().mean())
    options = dataclasses.replace(selective_load.LINEAR_SEARCH, seed=searching.search_seed(selective_load.LABEL, 1))
    found = match(search(Linear(model), options).directions, features, signed=False).precise_share
    assert abs(found - plain) < 0.2
    assert found > 0.5


def test_seeds_of_searches_are_not_those_that_features_are_drawn_with():
    drawn = {searching.search_seed(selective_load.LABEL, seed, width) for seed in range(200) for width in (8, 16)}
    assert len(drawn) == 400
    assert min(drawn) > 10**6
    assert searching.search_seed(selective_load.LABEL, 1) == searching.search_seed(selective_load.LABEL, 1)


def test_a_rotated_readout_is_refused_unless_it_claims_privilege(run):
    model = selective_basis.subjects(run)[0]
    assert selective_basis.refuses(selective_basis.honestly_rotated(model))
    assert not selective_basis.refuses(selective_basis.rotated(model))
    assert not selective_basis.refuses(selective_basis.behind(model))
    with pytest.raises(InputError, match="privileged"):
        selective_basis.start_search(selective_basis.honestly_rotated(model), selective_basis.PEAK)


def test_plain_sensitivity_does_not_see_the_rotation(run):
    assert selective_basis._difference_of_plain(selective_basis.subjects(run)[0]) < 1e-3


def test_of_signed_features_both_signs_are_sought(run):
    (model, *_) = selective_families.family(run, "signed")
    sought = selective_families.sought(model)
    assert len(sought) == 2 * int(model.represented.sum())
    assert torch.equal(sought[: len(sought) // 2], -sought[len(sought) // 2 :])


def test_families_differ_from_independent_features_only_in_what_they_name(run):
    for name in selective_families.QUICK:
        config = selective_families.family(run, name)[0].config.to_json()
        changed = {key: value for key, value in config.items() if value != TINY.to_json()[key]}
        assert changed == dict(selective_families.FAMILIES[name])


def test_a_group_that_one_method_was_not_measured_on_is_left_out_of_the_curve_and_named(run):
    curve = selective_families.check_families(run).exhibits[0]
    assert list(curve.x) == [1.0, 4.0]
    assert all(math.isfinite(value) for values in curve.series.values() for value in values)
    assert "not measured on groups of 2" in curve.caption


@pytest.mark.parametrize("claim", claims, ids=lambda claim: claim.id)
def test_every_check_and_twin_answers_in_plain_json_with_intervals(run, claim):
    finding = resolve(claim.check)(run)
    json.dumps(finding.evidence, allow_nan=False)
    assert finding.exhibits
    assert all(exhibit.caption for exhibit in finding.exhibits)
    for exhibit in finding.exhibits:
        exhibit.to_json()
    for twin in claim.false_twins:
        other = resolve(twin.check)(run)
        json.dumps(other.witness, allow_nan=False)
        assert (other.status is Status.REFUTED) == bool(other.witness)


def test_what_is_measured_does_not_depend_on_the_folder(run, tmp_path):
    again = Run(seed=run.seed, directory=tmp_path)
    first, second = (selective_load.check_load(one) for one in (run, again))
    assert first.evidence == second.evidence


def test_an_open_end_of_a_range_is_written_as_none():
    assert selective_load._number(math.inf) is None
    assert selective_load._number(2.0) == 2.0
