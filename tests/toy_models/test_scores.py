"""The scores against formulas written out by hand, and the comparison against cases whose answer is known."""

import json
import math
import re

import numpy
import pytest
import torch

from sensverify.claims import Run
from sensverify.errors import InputError
from sensverify.geometry import Centring, random_directions
from sensverify.statistics import Interval
from sensverify.verdicts import Status, to_plain
from toy_models import score_check, score_survey, scores
from toy_models.score_survey import Family, area, crossing, planted, separate
from toy_models.scores import SCORES, estimate_all
from toy_models.superposition import SuperpositionConfig, SuperpositionReadout

CLEAN = torch.tensor([[0.0, 2.0, 1.0]])
PERTURBED = torch.tensor([[[3.0, 0.0, 1.5]]])


@pytest.fixture(scope="module")
def readout():
    config = SuperpositionConfig(features=24, width=8, density=0.2)
    return SuperpositionReadout(planted(config, 1, bias=-0.1))


@pytest.mark.parametrize(
    ("distance", "value"),
    [
        (scores.largest_change, 3.0),
        (scores.largest_rise, 3.0),
        (scores.fourth_powers, 81 + 16 + 0.5**4),
        (scores.switched, 9.0 + 4.0),
        (scores.switched_on, 9.0),
    ],
)
def test_each_distance_is_its_formula(distance, value):
    assert distance(CLEAN, PERTURBED).tolist() == [[pytest.approx(value)]]


def test_a_fall_is_a_change_and_no_rise():
    lower = CLEAN - 1
    assert float(scores.largest_change(CLEAN, lower)) == 1
    assert float(scores.largest_rise(CLEAN, lower)) == 0


def test_kl_at_low_temperature_is_that_of_scaled_logits():
    def softmax(y):
        return numpy.exp(10 * y) / numpy.exp(10 * y).sum()

    p, q = softmax(CLEAN.double().numpy()[0]), softmax(PERTURBED.double().numpy()[0, 0])
    assert float(scores.kl_cold(CLEAN, PERTURBED)) == pytest.approx(float((p * numpy.log(p / q)).sum()), rel=1e-4)


def test_jensen_shannon_is_between_zero_and_log_two():
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 5.0])
    assert float(scores.jensen_shannon(one, other)) == pytest.approx(math.log(2))
    assert float(scores.jensen_shannon(one, 7 * one)) == pytest.approx(0, abs=1e-7)
    assert float(scores.jensen_shannon(torch.zeros(2), torch.ones(2))) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("name", SCORES)
def test_scores_computed_together_are_those_computed_alone(name, readout):
    batch = readout.sample(40, torch.Generator().manual_seed(0))
    directions = random_directions(150, readout.width, Centring.NONE, torch.Generator().manual_seed(1))
    together = estimate_all(readout, batch, directions, torch.Generator().manual_seed(2))[name]
    alone = SCORES[name].estimate(readout, batch, directions, torch.Generator().manual_seed(2))
    assert together == pytest.approx(alone.mean, rel=1e-4, abs=1e-7, nan_ok=True)
    assert bool((alone.standard_error.nan_to_num() >= 0).all())


def test_no_score_but_kl_depends_on_the_scale_of_the_read_out(readout):
    batch = readout.sample(40, torch.Generator().manual_seed(0))
    directions = random_directions(5, readout.width, Centring.NONE, torch.Generator().manual_seed(1))

    class Scaled(SuperpositionReadout):
        def clean(self, batch):
            return 3 * super().clean(batch)

        def read(self, batch, x):
            return 3 * super().read(batch, x)

    plain, scaled = (
        estimate_all(r, batch, directions, torch.Generator().manual_seed(2)) for r in (readout, Scaled(readout.model))
    )
    for name in set(SCORES) - {"kl", "kl_cold"}:
        assert scaled[name] == pytest.approx(plain[name], rel=1e-4), name


def test_a_read_out_without_privileged_units_has_no_selective_score(readout):
    class Rotated(SuperpositionReadout):
        privileged = False

    blind = Rotated(readout.model)
    batch = blind.sample(4, torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="privileged"):
        estimate_all(blind, batch, torch.eye(8), torch.Generator().manual_seed(0), ["selective"])


def test_area_counts_pairs_and_leaves_undefined_directions_out():
    higher = torch.tensor([2.0, 3.0, math.nan])
    assert area(higher, torch.tensor([1.0, 2.0])) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert math.isnan(area(torch.tensor([math.nan]), torch.tensor([1.0])))


def test_the_boundary_is_interpolated_where_the_curve_falls():
    assert crossing([0.01, 0.1, 1.0], [1.0, 1.0, 0.5]) == pytest.approx(10**-0.5)
    assert crossing([0.01, 0.1], [0.6, 1.0]) == 0
    assert crossing([0.01, 0.1], [0.8, 0.9]) == math.inf


def test_a_feature_whose_negative_is_a_feature_is_not_negated():
    config = SuperpositionConfig(features=4, width=3, density=0.3)
    model = planted(config, 0)
    model.weights[:] = torch.tensor([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    assert len(separate(model, ["angular"]).means["angular"]["negated feature"]) == 2


def test_the_boundary_has_the_interval_of_the_curve(monkeypatch):
    """Three seeds whose AUC spread by hand: Student's quantile for three is 4.303."""
    family, densities = Family(trained=False, load=2), (0.01, 0.1, 1.0)
    curves = {0.01: (0.99, 0.99, 0.99), 0.1: (0.8, 0.8, 0.8), 1.0: (0.5, 0.6, 0.7)}
    separations = {
        (family, p): [score_survey.Separation({}, torch.tensor(v)) for v in row] for p, row in curves.items()
    }
    monkeypatch.setattr(score_survey.Separation, "auc", lambda self, score, group="", against="": float(self.presence))
    found = score_survey.Survey(densities, separations, {}, {}, (1, 2, 3)).boundary(family, "any")
    half = 4.303 * 0.1 / 3**0.5
    expected = [10 ** -(1 - 0.05 / (0.8 - end)) for end in (0.6, 0.6 - half)]
    assert (found.value, found.low) == pytest.approx(expected, rel=1e-3)
    assert found.high == math.inf


@pytest.mark.parametrize(
    ("boundary", "said"),
    [
        (Interval(math.inf, math.inf, math.inf), "beyond the densities tried"),
        (Interval(0.0, 0.0, 0.0), "below the densities tried"),
        (Interval(0.1, 0.05, 0.2), {"value": 0.1, "low": 0.05, "high": 0.2}),
        (
            Interval(0.1, 0.0, math.inf),
            {"value": 0.1, "low": "below the densities tried", "high": "beyond the densities tried"},
        ),
    ],
)
def test_a_boundary_that_was_not_reached_is_said_in_words(boundary, said):
    assert score_check.boundary_in_words(boundary) == said


def test_an_auc_has_no_interval_beyond_one(monkeypatch):
    monkeypatch.setattr(score_survey.Separation, "auc", lambda self, **_: float(self.presence))
    separations = [score_survey.Separation({}, torch.tensor(value)) for value in (0.98, 0.99, 1.0)]
    found = score_survey.Survey((), {}, {}, {}, ()).area(separations, "any")
    assert found.value == pytest.approx(0.99)
    assert found.high == 1
    assert found.low == pytest.approx(0.99 - 4.303 * 0.01 / 3**0.5, rel=1e-3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of small models; the check itself is the product's."""
    small = (Family(trained=True, load=2), Family(trained=False, load=2), Family(trained=False, load=4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_survey, "WIDTH", 8)
        patch.setattr(score_survey, "STEPS", 20)
        patch.setattr(score_survey, "CONTEXTS", 32)
        patch.setattr(score_survey, "BIASES", (0.0,))
        patch.setattr(score_survey, "FAMILIES", small)
        patch.setattr(score_survey, "DENSE", tuple((family, 0.2) for family in small))
        patch.setattr(score_check, "FAMILIES", small)
        patch.setattr(score_check, "DENSE", tuple((family, 0.2) for family in small))
        patch.setattr(score_check, "BIASES", (0.0,))
        yield Run(seed=3, directory=tmp_path_factory.mktemp("scores"))


@pytest.mark.parametrize("twin", [score_check.twin_random, score_check.twin_angular])
def test_every_false_twin_is_refuted_with_a_witness(run, twin):
    finding = twin(run)
    assert finding.status is Status.REFUTED
    assert finding.witness["auc"]["high"] < score_check.SEPARATES
    assert finding.evidence["seeds"] == finding.witness["seeds"] == [3900, 3901, 3902]
    assert all(len(row["auc_by_seed"]) == 3 for row in finding.evidence["judged"])


def test_the_check_shows_what_it_judges(run):
    finding = score_check.check_scores(run)
    assert {exhibit.kind for exhibit in finding.exhibits} == {"heatmap", "curve", "table"}
    for exhibit in finding.exhibits:
        exhibit.to_json()
    assert not {"inf", "nan"} & set(re.findall(r'"(\w+)"', json.dumps(to_plain(finding.evidence))))
    assert set(finding.evidence["boundary"]) == {family.label for family in score_survey.FAMILIES}
