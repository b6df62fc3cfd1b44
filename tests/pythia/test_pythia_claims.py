"""The claims of this suite: on the shipped model as a user runs them, and on models built so that they must fail."""

import pytest
import torch

from pythia import claims
from pythia.corpus import read_corpus
from pythia.invariance import FACTORS, check_scaling, measure_scaling
from pythia.loading import load_model
from pythia.logit_weights import logit_weights
from pythia.sparsity import median_share_interval
from pythia.subject import corpus, model, prediction, preflight
from sensverify.claims import Run, Subject, resolve
from sensverify.errors import InputError
from sensverify.geometry import Centring, random_directions
from sensverify.predictions import JUDGED, Prediction, judged
from sensverify.runner import run_claim
from sensverify.statistics import Interval
from sensverify.verdicts import Finding, Status, Verdict

pytest.importorskip("transformers")
OUTCOMES = {Status.SUPPORTED: "inside", Status.REFUTED: "outside"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on the shipped model."""
    started = Run(seed=0, directory=tmp_path_factory.mktemp("pythia"))
    preflight(started)
    return started


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory, tiny_model_folder, tiny_text):
    subject = Subject(model=str(tiny_model_folder), text=tiny_text)
    return Run(seed=0, directory=tmp_path_factory.mktemp("tiny"), subject=subject)


@pytest.mark.parametrize("claim", list(claims), ids=lambda claim: claim.id)
def test_the_shipped_model_gives_the_expected_verdict(run, claim):
    verdict = run_claim(claim, "pythia", run)
    assert verdict.as_expected, verdict.finding
    if verdict.status is Status.INCONCLUSIVE:  # its twins were not asked
        assert all(resolve(twin.check)(run).status is Status.REFUTED for twin in claim.false_twins)
    else:
        assert len(verdict.finding.evidence["false_twins_refuted"]) == len(claim.false_twins)
    assert_predictions_are_told(verdict)


def assert_predictions_are_told(verdict):
    """A claim that is decided tells by which predictions; if by one interval, that outcome is the verdict's."""
    told = verdict.finding.evidence.get(JUDGED, [])
    if verdict.status in OUTCOMES:
        assert told
        if len(told) == 1:
            assert OUTCOMES[verdict.status] == told[0]["outcome"]
    for row in told:
        predicted = Prediction(**{name: row[name] for name in ("id", "quantity", "low", "high", "derived_from")})
        assert row["outcome"] == predicted.judge(Interval(**row["measured"]))
        assert row["origin"]


def test_a_ledger_without_the_prediction_or_with_another_outcome_than_the_verdict_is_noticed():
    ratio = Prediction(id="T", quantity="a ratio", low=1.0, high=None, derived_from="a test")
    inside, outside = (judged(ratio, Interval(x, x, x), origin="a test") for x in (2.0, 0.5))

    def told(**evidence):
        finding = Finding(status=Status.SUPPORTED, evidence=evidence)
        assert_predictions_are_told(
            Verdict(claim=next(iter(claims)), suite="pythia", finding=finding, seed=0, seconds=0)
        )

    told(**{JUDGED: [inside]})
    for wrong in ({}, {JUDGED: []}, {JUDGED: [outside]}, {JUDGED: [{**outside, "outcome": "inside"}]}):
        with pytest.raises(AssertionError):
            told(**wrong)


def test_a_block_that_adds_nothing_leaves_the_stream_invariant_and_refutes_the_claim(tiny_run):
    """LN-6 needs an update: with all blocks silenced, scaling no longer turns the residual stream."""
    silenced = Run(seed=0, directory=tiny_run.directory, subject=tiny_run.subject)
    network = model(silenced).network
    with torch.no_grad():
        for block in network.gpt_neox.layers:
            for layer in (block.attention.dense, block.mlp.dense_4h_to_h):
                layer.weight.zero_()
                layer.bias.zero_()
    finding = check_scaling(silenced)
    assert finding.status is Status.REFUTED
    assert finding.witness["residual"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("parallel", [True, False])
def test_norms_see_only_direction_in_models_of_both_kinds(make_model_folder, tiny_text, parallel):
    loaded = load_model(str(make_model_folder(use_parallel_residual=parallel)))
    text = read_corpus(loaded, tiny_text, length=16)
    rows = measure_scaling(loaded, text.held_out[:8], text.held_out_real[:8])
    assert len(rows) == loaded.depth * len(FACTORS)
    for row in rows:
        assert row.norm_output < 1e-11
        assert row.gain_excess <= 1
        assert row.residual > 1e-4


def test_a_model_with_a_short_context_is_read_in_windows_of_its_length(make_model_folder, tiny_text, tmp_path):
    subject = Subject(model=str(make_model_folder(max_position_embeddings=24)), text=tiny_text)
    assert corpus(Run(seed=0, directory=tmp_path, subject=subject)).search.shape[1] == 24


def test_a_model_of_one_block_is_refused_before_anything_is_decided(make_model_folder, tiny_text, tmp_path):
    subject = Subject(model=str(make_model_folder(num_hidden_layers=1)), text=tiny_text)
    with pytest.raises(InputError, match=r"a model of 2 blocks at least.* got 1"):
        preflight(Run(seed=0, directory=tmp_path, subject=subject))


def test_logit_weights_are_what_the_model_writes_for_the_direction_alone(tiny_run):
    """With the direction as the whole residual stream, the logits are √d times its weights, plus the norm's bias."""
    loaded = model(tiny_run)
    generator = torch.Generator().manual_seed(0)
    directions = random_directions(3, loaded.width, Centring.MEAN, generator)
    network = loaded.network
    logits = network.lm_head(network.gpt_neox.final_layer_norm(1000 * directions))
    bias = network.lm_head(network.gpt_neox.final_layer_norm.bias)
    expected = (logits - bias) / loaded.width**0.5
    assert torch.allclose(logit_weights(loaded, directions), expected, atol=1e-3)


def test_median_share_is_the_share_of_a_planted_presence():
    rho = torch.zeros(3, 50, 10)
    rho[:, :, 0] = 0.9  # present at one position of ten, in every window
    interval = median_share_interval(rho, 0.5, torch.Generator().manual_seed(0))
    assert (interval.low, interval.value, interval.high) == pytest.approx((0.1, 0.1, 0.1))


def test_predictions_given_by_the_user_come_first_and_edited_ones_are_refused(run, tmp_path):
    from pythia.subject import SHIPPED_PREDICTIONS

    copy = tmp_path / "mine.json"
    copy.write_text(SHIPPED_PREDICTIONS.read_text())
    mine = Run(seed=0, directory=tmp_path, subject=Subject(predictions=copy))
    assert prediction(mine, "PY-4")[1] == "given by --predictions"
    assert prediction(run, "PY-4")[1] == "shipped with the package"
    with pytest.raises(InputError, match="PY-99"):
        prediction(mine, "PY-99")
    copy.write_text(copy.read_text().replace('"PY-4"', '"PY-5"'))
    with pytest.raises(InputError, match="hash"):
        preflight(Run(seed=0, directory=tmp_path, subject=Subject(predictions=copy)))
