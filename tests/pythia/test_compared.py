"""Groups of directions, their controls and the claims about them, each held against something computed elsewhere."""

import dataclasses
import math
import types

import numpy
import pytest
import safetensors.torch
import torch

from pythia import compared, compared_exhibits, stability, subject
from pythia.autoencoded import (
    check_sae_against_random,
    check_untouched_against_random,
    unless_it_explains_nothing,
)
from pythia.catalogue.sensitivity import CLAIMS
from pythia.corpus import read_corpus
from pythia.discovered import check_found_against_random, check_found_against_sae
from pythia.group_scores import (
    FOUND_UNTOUCHED,
    LONGER,
    NEGATED,
    RANDOM_AGAIN,
    ROUNDING,
    SHORTER,
    UNTOUCHED,
    LayerScores,
    norm_only,
    scores,
    shuffled_tokens,
)
from pythia.layerwise import judge_layers, p_above, p_below
from pythia.loading import load_model
from pythia.readout import LanguageModelReadout
from sensverify.autoencoders import AutoencoderOptions, TopK
from sensverify.claims import Run, Subject
from sensverify.discovery import SearchOptions
from sensverify.errors import InputError
from sensverify.exhibits import from_json
from sensverify.geometry import Centring, random_directions
from sensverify.matching import match_searches
from sensverify.predictions import Prediction
from sensverify.runner import run_claim
from sensverify.statistics import Interval
from sensverify.verdicts import Status

AT_LEAST_ONE = Prediction(id="T", quantity="a ratio", low=1.0, high=None, derived_from="a test")


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model_folder, tiny_text):
    """A run on a model that was never trained, with a short search and little training."""
    told = Subject(model=str(tiny_model_folder), text=tiny_text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "search_options", lambda run: SearchOptions(directions=8, steps=40, seed=run.seed))
        few = AutoencoderOptions(latents=64, sparsity=TopK(active=4), steps=60, batch=64)
        patch.setattr(compared, "default_options", lambda width, **options: few)
        yield Run(seed=0, directory=tmp_path_factory.mktemp("compared"), subject=told)


def made(**means):
    """Effects of 24 directions on 100 contexts around the given means; whatever is not given is 1."""
    generator = torch.Generator().manual_seed(0)
    names = [*compared.GROUPS, NEGATED, RANDOM_AGAIN, LONGER, SHORTER]

    def table(mean, directions=24):
        return mean * (1 + 0.3 * torch.randn(directions, 100, generator=generator)).clamp_min(0.01)

    effects = {name: table(means.get(name, 1.0)) for name in names}
    effects |= {name: table(means.get("null", 1e-12)) for name in (UNTOUCHED, FOUND_UNTOUCHED)}
    return LayerScores(layer=0, effects=effects, shuffled_tokens=effects, sae={}, seed=0)


def judged(rows, top="SAE", bottom="random", predicted=AT_LEAST_ONE):
    ratios = {layer: row.ratio(top, bottom) for layer, row in rows.items()}
    return judge_layers(ratios, predicted, "a test", rows=rows)


def test_groups_are_unit_directions_of_what_the_norm_sees_at_the_searched_layer(run):
    groups = compared.directions(run)
    assert tuple(groups) == compared.GROUPS
    for name, rows in groups.items():
        assert rows.norm(dim=1).allclose(torch.ones(len(rows)), atol=1e-5), name
        assert rows.sum(1).abs().max() < 1e-4, name
    assert groups["found"].equal(subject.found(run).evaluation.directions)
    assert compared.directions(run, subject.searched_layer(run)) is groups
    assert compared.layers(run) == (1,)
    full = Run(seed=0, directory=run.directory, subject=run.subject, profile="full")
    assert compared.layers(full) == (0, 1, 2)


def test_principal_components_are_those_of_a_singular_value_decomposition(run):
    readout, _ = compared.language_readouts(compared.site(run, 1))
    rows = readout.residuals[:, readout.first_position :].flatten(0, 1).double().numpy()
    rows = rows - rows.mean(1, keepdims=True)
    rows = rows - rows.mean(0)
    expected = numpy.linalg.svd(rows, full_matrices=False)[2][:5]
    components = compared.principal_components(readout, 5).double().numpy()
    assert numpy.abs((components * expected).sum(1)) == pytest.approx(numpy.ones(5), abs=1e-4)
    assert (((rows @ components.T) ** 3).mean(0) >= 0).all()


def test_shuffled_weights_are_the_same_numbers_elsewhere_and_the_model_itself_is_untouched(run):
    model = subject.model(run)
    before = model.weights_sha256
    shuffled = compared.shuffled_model(run)
    moved = dict(shuffled.network.named_parameters())
    for name, parameter in model.network.named_parameters():
        assert moved[name].flatten().sort().values.equal(parameter.flatten().sort().values), name
        assert moved[name].equal(parameter) == (parameter.ndim == 1), name
    assert shuffled.weights_sha256 != before == model.weights_sha256
    assert compared.shuffle_weights(model, seed=0).weights_sha256 == shuffled.weights_sha256
    assert compared.shuffle_weights(model, seed=1).weights_sha256 != shuffled.weights_sha256


def test_tied_embeddings_stay_tied_when_weights_are_shuffled(make_model_folder):
    model = load_model(str(make_model_folder(tie_word_embeddings=True)))
    network = compared.shuffle_weights(model, seed=0).network
    assert network.get_input_embeddings().weight.equal(network.get_output_embeddings().weight)
    assert not network.get_input_embeddings().weight.equal(model.network.get_input_embeddings().weight)


def test_shuffled_tokens_are_the_same_tokens_of_each_window_with_bos_in_its_place(run):
    _, held_out = compared.language_readouts(compared.site(run, 1))
    other = shuffled_tokens(held_out, torch.Generator().manual_seed(0))
    assert other.windows[:, 0].equal(held_out.windows[:, 0])
    assert other.windows.sort(1).values.equal(held_out.windows.sort(1).values)
    assert not other.windows.equal(held_out.windows)
    assert not other.windows[0].argsort().equal(other.windows[1].argsort())


def test_scaling_alone_is_unseen_one_token_later_and_seen_at_the_same_token(run, tiny_text):
    """LN-1 and LN-6: one block and one token later x is read through a norm; at the same token it is added."""
    model = subject.model(run)
    text = read_corpus(model, tiny_text, length=16)
    effects = {}
    for offset in (0, 1):
        readout = LanguageModelReadout(model, text.held_out, layer=1, target=2, offset=offset, first_position=1)
        batch = readout.sample(20, torch.Generator().manual_seed(0))
        effects[offset] = norm_only(readout, batch, torch.Generator().manual_seed(0))
    for name in (LONGER, SHORTER):
        assert float(effects[1][name].max()) < 1e-6
        assert float(effects[0][name].min()) > 1e-5


def test_the_null_control_is_zero_and_every_group_meets_the_same_contexts(run):
    row = scores(run, 1)
    assert row.null_share < 1e-4
    assert len({effects.shape[1] for effects in row.effects.values()}) == 1
    assert row.mean("found").value > row.mean("random").value
    assert row.ratio("found", "found").value == pytest.approx(1)


def test_one_large_rounding_among_many_does_not_fail_the_null_control():
    """The largest of S × B roundings is no measure of what they add to a mean: in few digits it is always large."""
    row = made()
    spoilt = row.effects[UNTOUCHED].clone()
    spoilt[3, 7] = 0.05
    one = dataclasses.replace(row, effects={**row.effects, UNTOUCHED: spoilt})
    assert one.largest_null_share == pytest.approx(0.05, rel=0.1)
    assert one.null_share == pytest.approx(0.05 / (24 * 100), rel=0.1)
    assert one.null_share < ROUNDING < one.largest_null_share
    everywhere = dataclasses.replace(row, effects={**row.effects, UNTOUCHED: torch.full_like(spoilt, 0.05)})
    assert everywhere.null_share == pytest.approx(0.05, rel=0.1)
    assert judged({0: everywhere}).status is Status.INCONCLUSIVE


@pytest.mark.parametrize(
    ("means", "status"),
    [({"SAE": 1.5}, Status.SUPPORTED), ({"SAE": 0.7}, Status.REFUTED), ({}, Status.INCONCLUSIVE)],
)
def test_a_ratio_is_judged_by_the_side_of_the_prediction_on_which_its_interval_lies(means, status):
    finding = judged({0: made(**means)})
    assert finding.status is status
    if status is Status.REFUTED:
        assert finding.witness["ratio"]["value"] == pytest.approx(0.7, rel=0.05)


def test_one_layer_below_refutes_and_one_layer_undecided_leaves_open():
    good, bad, neither = made(SAE=1.5), made(SAE=0.7), made()
    assert judged({0: good, 1: good}).status is Status.SUPPORTED
    refuted = judged({0: good, 1: bad, 2: good})
    assert refuted.status is Status.REFUTED
    assert refuted.witness["layer"] == 1
    assert judged({0: good, 1: neither}).status is Status.INCONCLUSIVE
    assert judged({0: good}, top="random", bottom="SAE").status is Status.REFUTED  # turned upside down


def test_nothing_is_concluded_where_leaving_presence_as_it_is_has_an_effect():
    finding = judged({0: made(SAE=1.5), 1: made(SAE=1.5, null=0.05)})
    assert finding.status is Status.INCONCLUSIVE
    assert finding.evidence["null_control_failed_at_layers"] == [1]


def test_nothing_is_concluded_where_no_direction_has_an_effect():
    silent = made()
    silent = dataclasses.replace(silent, effects={name: 0 * table for name, table in silent.effects.items()})
    assert judged({0: silent}).status is Status.INCONCLUSIVE


def test_many_layers_need_more_than_one_does():
    """A ratio 2.2 standard errors below 1 refutes by itself, and not as the worst of ten (Holm: 10 · 0.014)."""
    se = 0.05
    below = Interval(math.exp(-2.2 * se), math.exp(-2.2 * se - 1.96 * se), math.exp(-2.2 * se + 1.96 * se))
    rows = dict.fromkeys(range(10), made())
    alone = judge_layers({0: below}, AT_LEAST_ONE, "a test", rows={0: rows[0]})
    assert alone.status is Status.REFUTED
    others = {layer: Interval(1.0, 0.9, 1.1) for layer in range(1, 10)}
    assert judge_layers({0: below, **others}, AT_LEAST_ONE, "a test", rows=rows).status is Status.INCONCLUSIVE


def test_chances_are_those_of_a_normal_logarithm():
    interval = Interval(math.exp(0.2), math.exp(0.2 - 1.96 * 0.1), math.exp(0.2 + 1.96 * 0.1))
    draws = torch.randn(400_000, generator=torch.Generator().manual_seed(0)) * 0.1
    assert p_above(interval, 1.0) == pytest.approx(float((draws >= 0.2).double().mean()), abs=1e-3)
    assert p_above(interval, 1.0) + p_below(interval, 1.0) == pytest.approx(1)
    assert p_above(Interval(math.nan, math.nan, math.nan), 1.0) == p_below(Interval(math.inf, 1, 2), 1.0) == 1
    assert p_below(Interval(0.0, 0.0, 0.0), 1.0) == 0


def test_the_twins_of_the_claims_are_refuted_on_a_model_that_was_never_trained(run):
    finding = check_sae_against_random(run)
    assert finding.status in (Status.SUPPORTED, Status.REFUTED, Status.INCONCLUSIVE)
    assert check_untouched_against_random(run).status is Status.REFUTED
    for exhibit in finding.exhibits:
        assert from_json(exhibit.to_json()).title == exhibit.title


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_claims_come_to_a_verdict_on_a_model_that_was_never_trained(run, claim):
    pytest.importorskip("scipy")
    verdict = run_claim(claim, "pythia", run)
    assert verdict.status in (Status.SUPPORTED, Status.REFUTED, Status.INCONCLUSIVE), verdict.finding
    if verdict.status is not Status.INCONCLUSIVE:
        assert len(verdict.finding.evidence["false_twins_refuted"]) == len(claim.false_twins)


def test_the_full_profile_judges_every_layer_and_draws_the_curve_over_them(run, tmp_path):
    full = Run(seed=0, directory=tmp_path, subject=run.subject, profile="full")
    finding = check_found_against_random(full)
    assert list(finding.evidence["ratio"]) == ["layer 0", "layer 1", "layer 2"]
    assert finding.evidence["test"].endswith("Holm over 3 layers")
    assert compared.directions(full, 0)["found"].shape == compared.directions(full)["found"].shape
    assert not compared.directions(full, 0)["found"].allclose(compared.directions(full)["found"])
    curves = [exhibit for exhibit in finding.exhibits if "layer by layer" in exhibit.title]
    assert list(curves[0].x) == [0, 1, 2]


PUBLISHED_CONFIG = {
    "model_type": "gpt_neox", "num_hidden_layers": 6, "hidden_size": 512, "vocab_size": 50304, "num_attention_heads": 8,
}  # fmt: skip


def named(name, **config):
    """As much of a model as tells whether it is the one of the published figures."""
    return types.SimpleNamespace(name=name, config=types.SimpleNamespace(**config))


def test_published_figures_stand_beside_ours_and_are_headed_as_published_whatever_the_model():
    rows = {0: made(), 7: made()}
    for name in ("EleutherAI/pythia-70m-deduped", "EleutherAI/pythia-160m-deduped"):
        table = compared_exhibits.exhibits(rows, named(name))[0]
        assert table.columns == [
            "layer", "found", "SAE", "random", "published SAE", "published random", "published SAE / random",
        ]  # fmt: skip
        assert [row[0] for row in table.rows] == [0, 1, 2, 3, 4, 7]
        assert table.rows[0][1:4] == [rows[0].mean(group) for group in ("found", "SAE", "random")]
        assert table.rows[1] == [1, "–", "–", "–", "0.1494", "0.0440", "3.40"]  # as printed, with every zero
        assert table.rows[-1][-3:] == ["–"] * 3
        assert [float(row[-1]) for row in table.rows[:5]] == [2.11, 3.40, 3.76, 4.15, 2.23]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (named("EleutherAI/pythia-70m-deduped"), "by its name, the published one"),
        (named("/models/snapshot", **PUBLISHED_CONFIG), "has the configuration of pythia-70m-deduped"),
        (named("/models/snapshot", **{**PUBLISHED_CONFIG, "num_hidden_layers": 12}), "is another one"),
        (named("EleutherAI/pythia-160m-deduped"), "is another one"),
    ],
)
def test_the_model_of_the_published_figures_is_known_by_its_name_or_its_configuration(model, words):
    assert words in compared_exhibits.exhibits({0: made()}, model)[0].caption


def told(name="embedded", shuffled_tokens=None, **means):
    """The caption of the ratios where groups have these means, and others on shuffled tokens."""
    row = made(**means)
    mixed = made(**(means if shuffled_tokens is None else shuffled_tokens)).effects
    row = dataclasses.replace(row, shuffled_tokens=mixed)
    return next(one for one in compared_exhibits.exhibits({3: row}, named(name)) if one.title == "Ratios by layer")


@pytest.mark.parametrize(
    ("on_shuffled", "words"),
    [
        (2.0, "smaller than on text at layer 3"),
        (9.0, "larger than on text at layer 3"),
        (5.0, "as on text at layer 3"),
    ],
)
def test_the_caption_says_whether_a_ratio_needs_the_order_of_tokens(on_shuffled, words):
    caption = told(found=5.0, SAE=3.0, shuffled_tokens={"found": on_shuffled, "SAE": 1.0}).caption
    assert f"On shuffled tokens found / random is {words}, and SAE / random is smaller than on text" in caption
    assert ("does not show that the order of tokens matters" in caption) == (on_shuffled != 2.0)


def test_the_caption_names_groups_that_are_no_more_sensitive_than_directions_of_a_shuffled_model():
    table = told(found=5.0, SAE=1.5, **{"shuffled model": 1.6})
    assert "The group “SAE” is not shown to exceed the latter at layer 3." in table.caption
    assert "“found” is not shown" not in table.caption
    ratio = next(row[2] for row in table.rows if row[1] == "shuffled model / random")
    assert f"shuffled weights have {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] times" in table.caption
    [row] = [row for row in table.rows if row[1] == "SAE / random"]
    assert row[2].value == pytest.approx(1.5, rel=0.05)


def test_controls_that_are_nothing_but_rounding_do_not_share_an_axis_with_the_groups():
    shown = compared_exhibits.group_intervals(made())
    assert {row.name for row in shown.rows} == {*compared.GROUPS, NEGATED}
    assert "shown with" not in shown.caption
    assert "shown with PY-3" in compared_exhibits.group_intervals(made(), "PY-3").caption


def test_captions_of_single_directions_say_on_which_side_they_lie():
    for found, times, above in ((5.0, "found 5", "found 24 of 24"), (0.2, "found 0.2", "found 0 of 24")):
        row = made(found=found)
        caption = compared_exhibits.histogram("Sensitivity", row, ("found", "random")).caption
        assert times in caption
        assert above in caption


def test_no_p_value_is_given_as_nothing():
    sure = Interval(100.0, 99.9, 100.1)
    assert p_above(sure, 1.0) == 0
    evidence = judge_layers({0: sure}, AT_LEAST_ONE, "a test", rows={0: made()}).evidence
    assert evidence["p_inside"] == {"layer 0": pytest.approx(1 / 2001)}
    assert "2000 resamples" in evidence["p_values"]


def write_sae(folder, width, hook="blocks.2.hook_resid_post", dead=6, scale=1.0):
    """40 latents; of the first ``dead`` the bias is so low that they never fire."""
    folder.mkdir()
    decoder = scale * torch.randn(40, width, generator=torch.Generator().manual_seed(1))
    bias = torch.zeros(40)
    bias[:dead] = -1e6
    weights = {"W_enc": decoder.T.contiguous(), "W_dec": decoder, "b_enc": bias, "b_dec": torch.zeros(width)}
    safetensors.torch.save_file(weights, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(f'{{"architecture": "standard", "hook_name": "{hook}", "d_in": {width}}}')
    return folder


def test_a_given_autoencoder_is_compared_at_its_own_layer_without_its_dead_latents(run, tmp_path):
    folder = write_sae(tmp_path / "sae", 32)
    told = dataclasses.replace(run.subject, sae=folder)
    given = Run(seed=0, directory=tmp_path, subject=told)
    subject.preflight(given)
    assert compared.layers(given) == (2,)
    group = compared.sae_group(given, 2)
    assert group.latents.tolist() == list(range(6, 40))
    assert group.to_json()["dead"] == 6
    assert group.to_json()["origin"] == "given by --sae"
    decoder = safetensors.torch.load_file(folder / "sae_weights.safetensors")["W_dec"][6:]
    decoder = decoder - decoder.mean(1, keepdim=True)
    assert group.directions.allclose(decoder / decoder.norm(dim=1, keepdim=True), atol=1e-5)
    finding = check_sae_against_random(given)
    assert finding.evidence["layers"]["layer 2"]["sae"]["hook"] == "blocks.2.hook_resid_post"
    assert finding.evidence["hook_name"] == "blocks.2.hook_resid_post"
    # its decoder is of random directions: it is no more sensitive than those
    assert finding.evidence["ratio"]["layer 2"]["value"] == pytest.approx(1, abs=0.25)


def explaining(share, **means):
    return dataclasses.replace(made(**means), sae={"held_out_variance_explained": share})


@pytest.mark.parametrize("share", [0.0, -3.5e61, math.nan, -math.inf])
@pytest.mark.parametrize(("ratio", "status"), [(1.5, Status.SUPPORTED), (0.7, Status.REFUTED)])
def test_nothing_is_concluded_from_an_autoencoder_that_explains_nothing_of_the_model(share, ratio, status):
    good, bad = explaining(0.01, SAE=ratio), explaining(share, SAE=ratio)
    finding = judged({0: good, 1: good})
    assert finding.status is status
    assert unless_it_explains_nothing(finding, {0: good, 1: good}) is finding
    told = unless_it_explains_nothing(judged({0: good, 1: bad}), {0: good, 1: bad})
    assert told.status is Status.INCONCLUSIVE
    assert "layer 1" in told.evidence["reason"]
    assert "layer 0" not in told.evidence["reason"]


def test_both_claims_about_an_autoencoder_of_no_model_are_left_open_with_the_reason(run, tmp_path):
    """Random weights, ever so large: what they make of an activation is farther from it than the mean is."""
    folder = write_sae(tmp_path / "sae", 32, scale=100.0)
    given = Run(seed=0, directory=tmp_path, subject=dataclasses.replace(run.subject, sae=folder))
    findings = [check(given) for check in (check_sae_against_random, check_found_against_sae)]
    for finding in findings:
        assert finding.status is Status.INCONCLUSIVE
        assert "none of this model" in finding.evidence["reason"]
    assert findings[0].evidence["layers"]["layer 2"]["sae"]["held_out_variance_explained"] < 0
    about_random = check_found_against_random(given)
    assert "reason" not in about_random.evidence
    shown_once([*findings, about_random])


def shown_once(findings):
    """Tables and configuration are with the claim that comes first; the others say where."""
    first, *others = findings
    assert "Ratios by layer" in [exhibit.title for exhibit in first.exhibits]
    assert "hook_name" in first.evidence
    for finding in others:
        assert not {"Ratios by layer", "Controls by layer"} & {exhibit.title for exhibit in finding.exhibits}
        assert finding.evidence["comparison"].endswith("shown with PY-3")
        assert not {"layers", "hook_name"} & set(finding.evidence)
    assert "shown with PY-3" in " ".join(exhibit.caption for exhibit in others[-1].exhibits)


@pytest.mark.parametrize(
    ("width", "hook", "message"),
    [(16, "blocks.2.hook_resid_post", "width 32"), (32, "blocks.3.hook_resid_post", "after block 0 to 2")],
)
def test_an_autoencoder_of_another_model_is_refused_before_anything_runs(run, tmp_path, width, hook, message):
    told = dataclasses.replace(run.subject, sae=write_sae(tmp_path / "sae", width, hook))
    with pytest.raises(InputError, match=message):
        subject.preflight(Run(seed=0, directory=tmp_path, subject=told))


def test_the_same_directions_in_another_order_and_sign_are_stable():
    pytest.importorskip("scipy")
    generator = torch.Generator().manual_seed(0)
    first = random_directions(12, 64, Centring.NONE, generator)
    turned = first[torch.randperm(12, generator=generator)] * torch.where(torch.arange(12) % 2 == 0, -1.0, 1.0)[:, None]
    matching = match_searches([first, turned, first.flip(0)], 0.2)
    assert matching.cosines.min() > 0.9999
    assert matching.span == pytest.approx(1)
    assert matching.stability(torch.Generator().manual_seed(0)).low > 0.999


def test_the_same_subspace_with_other_directions_shares_its_span_and_little_else():
    pytest.importorskip("scipy")
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(64, 12, generator=generator)).Q.T
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=generator)).Q
    matching = match_searches([basis, rotation @ basis], 0.2)
    assert matching.span == pytest.approx(1, abs=1e-5)
    assert matching.cosines.mean() < 0.8


def test_the_best_matching_is_found_where_the_greedy_one_is_not():
    """Greedy takes 0.9 and is left with 0.1; the best sum is 0.8 + 0.8."""
    pytest.importorskip("scipy")
    first = torch.eye(2)
    second = torch.tensor([[0.9, 0.8], [0.8, 0.1]]).T
    matching = match_searches([first, second], 0.0)
    assert matching.cosines.flatten().tolist() == pytest.approx([0.8, 0.8])


def test_random_sets_are_refuted_as_stable(run):
    pytest.importorskip("scipy")
    for check in (stability.check_random_sets, stability.check_sets_of_the_same_moment):
        assert check(run).status is Status.REFUTED


def test_searches_that_share_no_direction_but_a_subspace_are_refuted_and_those_that_share_all_supported(run):
    pytest.importorskip("scipy")
    generator = torch.Generator().manual_seed(0)
    width = compared.directions(run)[compared.FOUND].shape[1]
    basis = Centring.MEAN.project(torch.linalg.qr(torch.randn(width, 12, generator=generator)).Q.T)
    sets = [torch.nn.functional.normalize(torch.randn(8, 12, generator=generator) @ basis) for _ in range(3)]
    finding = stability._judge(run, stability._compare(run, sets))
    assert finding.status is Status.REFUTED
    on_sphere = finding.evidence["over_random_sets_of_the_whole_sphere_not_judged"]["stability"]
    assert on_sphere["low"] > finding.witness["predicted"]["low"]
    same = stability._judge(run, stability._compare(run, [sets[0], -sets[0], sets[0].flip(0)]))
    assert same.status is Status.SUPPORTED
