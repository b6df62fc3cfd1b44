"""PY-11 where the truth is known: on a transformer with planted features, exported as a language model, whose neurons
detect one feature each; and its judge on figures made so that it has to say no."""

import dataclasses

import pytest
import torch

from pythia import compared, concentrations, explained, selective, selective_rules, subject
from pythia.compared import FOUND, PCA, RANDOM, SAE, SHUFFLED
from pythia.concentrations import CONCENTRATION, PEAK
from pythia.gallery import presences
from pythia.positions import permuted
from sensverify.claims import Run, Subject
from sensverify.geometry import Centring, nearest, random_directions
from sensverify.sensitivity import SensitivityEstimate
from sensverify.statistics import Interval, group_mean, group_ratio
from sensverify.verdicts import Status, to_plain
from toy_models.planting import PlantingConfig, export, plant

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def planted():
    return plant(PlantingConfig(), 0)


@pytest.fixture(scope="module")
def run(planted, tmp_path_factory):
    """A run on the planted model, at the planted site; what is not found selectively is drawn at random."""
    folder = export(planted, tmp_path_factory.mktemp("planted"), text_words=16_000)
    started = Run(
        seed=0,
        directory=tmp_path_factory.mktemp("results"),
        subject=Subject(model=str(folder), text=folder / "text.txt"),
    )
    drawn = {
        name: random_directions(12, planted.config.width, Centring.MEAN, seeded(i))
        for i, name in enumerate((FOUND, SAE, PCA, SHUFFLED))
    }
    drawn[RANDOM] = random_directions(32, planted.config.width, Centring.MEAN, seeded(9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compared, "layers", lambda run: (0,))
        patch.setattr(compared, "directions", lambda run, layer=None: drawn)
        patch.setattr(explained, "MORE_SEEDS", ())
        yield started


def test_planted_features_are_found_and_the_claim_is_supported(run, planted):
    """The neurons one block on detect one feature each: a search for peaks has to come upon features."""
    finding = selective.check_peak_concentration(run)
    assert finding.status is Status.SUPPORTED, finding.evidence["ratio_peak_to_random"]
    assert finding.evidence["read"] == "neurons"
    cosine, _ = nearest(concentrations.searched(run, 0, PEAK), planted.features)
    assert float((cosine > 0.9).double().mean()) > 0.5
    layer = finding.evidence["layers"]["0"]
    assert layer["site"]["read_hook_name"] == "blocks.2.mlp.hook_post"
    assert layer["site"]["units"] == planted.config.features
    assert layer["peak_sensitivity_ratio_to_random"][PEAK]["low"] > 2
    assert layer["controls"]["presences set to what they are"]["value"] == pytest.approx(1 / 64, rel=0.05)
    to_plain(finding.evidence)
    levels, single, table = finding.exhibits
    ratio = finding.evidence["ratio_peak_to_random"]["0"]
    assert f"peak / random is {ratio['value']:.3g} [{ratio['low']:.3g}, {ratio['high']:.3g}]" in levels.caption
    assert {row.name for row in levels.rows} == {*concentrations.measured(run, 0).groups}  # no controls at 1/n
    assert set(single.groups) == {PEAK, CONCENTRATION, FOUND, SAE, RANDOM}  # no more than can be told apart
    assert {"presences set to what they are", SHUFFLED} <= {row[1] for row in table.rows}
    for exhibit in finding.exhibits:
        exhibit.to_json()


@pytest.mark.parametrize("twin", [selective.check_peak_in_a_rotated_basis, selective.check_nothing_set])
def test_false_twins_are_refuted_where_the_claim_is_true(run, twin):
    finding = twin(run)
    assert finding.status is Status.REFUTED
    assert finding.witness["ratio"]["high"] < 1


def test_random_directions_in_the_place_of_the_found_ones_are_not_supported(run, monkeypatch):
    row = concentrations.measured(run, 0)
    swapped = dataclasses.replace(row, groups={**row.groups, PEAK: row.groups[SAE]})
    monkeypatch.setattr(selective, "measured", lambda run, layer: swapped)
    assert selective.check_peak_concentration(run).status is not Status.SUPPORTED


def estimate(level, contexts, *, seed):
    """Concentrations of twelve directions about ``level``."""
    values = level * (1 + 0.1 * torch.randn(12, contexts, generator=seeded(seed)))
    return SensitivityEstimate(effects=values, weights=torch.ones_like(values), configuration={})


def judged(run, monkeypatch, levels, layers=(0,)):
    """The finding of PY-11 if concentrations were ``levels``, one mapping for each layer."""
    row = concentrations.measured(run, 0)
    contexts = row.groups[RANDOM].effects.shape[1]
    rows = {}
    for layer, one in zip(layers, levels, strict=True):
        made = {name: estimate(level, contexts, seed=i) for i, (name, level) in enumerate(one.items())}
        rows[layer] = dataclasses.replace(row, layer=layer, groups={**row.groups, **made})
    monkeypatch.setattr(selective, "layers", lambda run: layers)
    monkeypatch.setattr(selective, "measured", lambda run, layer: rows[layer])
    monkeypatch.setattr(selective, "on_logits", lambda run, layer: rows[layer].groups)
    return selective.check_peak_concentration(run)


def test_less_concentrated_peaks_refute_only_beside_a_search_that_succeeds(run, monkeypatch):
    spread, narrow = {PEAK: 0.03, RANDOM: 0.04, CONCENTRATION: 0.05}, {PEAK: 0.03, RANDOM: 0.04, CONCENTRATION: 0.04}
    finding = judged(run, monkeypatch, [spread])
    assert finding.status is Status.REFUTED
    assert finding.witness["layer"] == 0
    without = judged(run, monkeypatch, [narrow])
    assert without.status is Status.INCONCLUSIVE
    assert without.witness is None
    assert "no search" in without.evidence["reason"]


def test_every_layer_has_to_agree_and_intervals_widen_with_their_number(run, monkeypatch):
    more, fewer = {PEAK: 0.05, RANDOM: 0.04, CONCENTRATION: 0.06}, {PEAK: 0.03, RANDOM: 0.04, CONCENTRATION: 0.06}
    alone = judged(run, monkeypatch, [more])
    assert alone.status is Status.SUPPORTED
    both = judged(run, monkeypatch, [more, more], (0, 1))
    assert both.status is Status.SUPPORTED
    assert "Bonferroni" in both.evidence["multiple_testing"]
    wide, narrow = (f.evidence["ratio_peak_to_random"]["0"] for f in (both, alone))
    assert wide["high"] - wide["low"] > narrow["high"] - narrow["low"]
    mixed = judged(run, monkeypatch, [more, fewer], (0, 1))
    assert mixed.status is Status.REFUTED
    assert mixed.witness["layer"] == 1


def test_a_model_without_neurons_to_read_is_read_at_its_logits(make_model_folder, tiny_text, tmp_path):
    """Two parallel blocks: no MLP sees what attention writes one block on."""
    folder = make_model_folder(num_hidden_layers=2)
    shallow = Run(seed=0, directory=tmp_path, subject=Subject(model=str(folder), text=tiny_text))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compared, "layers", lambda run: (0,))
        assert concentrations.kind_of(shallow) == "logits"
        assert concentrations.layers(shallow) == (0,)
        place = concentrations.site(shallow, 0)
    assert place.description["readout"] == "logits"
    assert place.description["target"] == 1


def test_shuffling_moves_tokens_of_the_text_and_nothing_else():
    windows = torch.arange(40).view(4, 10)
    real = (torch.arange(10) >= 1) & (torch.arange(10) < 8) & (torch.arange(10) != 4)
    mixed = permuted(windows, real.expand(4, 10), seeded(0))
    assert torch.equal(mixed[:, ~real], windows[:, ~real])
    assert torch.equal(mixed[:, real].sort(dim=1).values, windows[:, real])
    assert not torch.equal(mixed, windows)


def test_weighted_group_means_are_quotients_of_sums():
    """Averages by effect: each direction's own quotient, not the mean of the contexts' concentrations."""
    effects, weights = torch.rand(5, 40, generator=seeded(0)).double(), torch.rand(5, 40, generator=seeded(1)).double()
    expected = [float((w * e).sum() / w.sum()) for w, e in zip(weights, effects, strict=True)]
    found = group_mean(effects, seeded(2), weights=weights)
    assert found.value == pytest.approx(sum(expected) / 5)
    assert found.low < found.value < found.high
    assert found.value != pytest.approx(float(effects.mean()), rel=1e-3)
    alike = torch.ones_like(weights)
    assert_same(group_mean(effects, seeded(2), weights=alike), group_mean(effects, seeded(2)))
    other = effects.flip(0)
    assert_same(group_ratio(effects, other, seeded(2), weights=(alike, alike)), group_ratio(effects, other, seeded(2)))
    wider = group_ratio(effects, other, seeded(2), tail=0.005)
    assert wider.low < group_ratio(effects, other, seeded(2)).low


def assert_same(one: Interval, other: Interval) -> None:
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


def test_weighted_intervals_cover_the_truth_as_often_as_they_say():
    """Each direction's contexts have weights of heavy tails, as effects do."""
    hits, truth = 0, 1.0
    for seed in range(60):
        generator = seeded(seed)
        weights = torch.exp(torch.randn(12, 150, generator=generator))
        effects = (
            truth + 0.5 * torch.randn(12, 150, generator=generator) + 0.2 * torch.randn(12, 1, generator=generator)
        )
        interval = group_mean(effects, generator, 400, weights=weights)
        hits += interval.low <= truth <= interval.high
    assert hits >= 50


# --- Rules ------------------------------------------------------------------------------------------------------------


def test_rules_of_what_is_found_selectively_are_judged_beside_those_of_the_other_groups(run):
    finding = selective_rules.check_peak_rules(run)
    accuracy = finding.evidence["detection_accuracy"]
    assert set(accuracy) == {PEAK, CONCENTRATION, FOUND, SAE, RANDOM, PCA, SHUFFLED}
    assert finding.evidence["peak_minus_found"]["value"] == pytest.approx(
        accuracy[PEAK]["value"] - accuracy[FOUND]["value"]
    )
    assert selective_rules.check_moved_presences(run).status is Status.REFUTED
    for exhibit in finding.exhibits:
        exhibit.to_json()


def test_groups_are_explained_on_the_same_windows_with_the_same_search(run):
    """The group 'found' explained here is, figure for figure, that of PY-5."""
    row = selective_rules.measured(run)[0]
    rho = presences(explained.held_out(run, 0), compared.directions(run)[FOUND])
    again = explained.explain(run, 0, rho)
    ours = [one.accuracy for one in again.each]
    assert ours == [one.accuracy for one in explained.measured(run)[0].groups[FOUND].each]
    assert row.groups[FOUND] is explained.measured(run)[0].groups[FOUND]


def test_the_prediction_is_there_before_anything_is_measured(run):
    selective.preflight(run)
    predicted, _ = subject.prediction(run, selective.PREDICTION, selective.SIDE)
    assert predicted.low == 1.0
