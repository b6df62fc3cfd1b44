"""PY-1 in dtypes of few digits: rounding refutes nothing, and hides nothing that is larger than it."""

import dataclasses
from pathlib import Path

import pytest
import torch

from pythia import invariance
from pythia.invariance import (
    FACTORS,
    Scaling,
    check_residual_invariance,
    check_scaling,
    check_tightened_gain,
    rounding_limit,
    widened,
)
from pythia.subject import SHIPPED_PREDICTIONS, model
from sensverify.claims import Run, Subject
from sensverify.predictions import JUDGED, load_predictions
from sensverify.verdicts import Status

pytest.importorskip("transformers")
PREDICTED = load_predictions(SHIPPED_PREDICTIONS)["PY-1.norm_output"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model_folder, tiny_text):
    told = Subject(model=str(tiny_model_folder), text=tiny_text, dtype="bfloat16")
    return Run(seed=0, directory=tmp_path_factory.mktemp("bfloat16"), subject=told)


def test_the_rule_gives_what_was_predicted_for_float32_and_more_for_fewer_digits():
    assert rounding_limit(torch.float32) == PREDICTED.high
    assert rounding_limit(torch.bfloat16) == (64 / 128) ** 2 / 4
    assert rounding_limit(torch.float32, invariance.STREAM_ROUNDINGS) < PREDICTED.high, "nothing changes there"
    assert widened(PREDICTED, torch.float32) is widened(PREDICTED, torch.float64) is PREDICTED
    wide = widened(PREDICTED, torch.bfloat16)
    assert (wide.id, wide.low, wide.high) == (PREDICTED.id, None, 0.0625)
    assert wide.derived_from.startswith(PREDICTED.derived_from)
    assert "bfloat16" in wide.derived_from


def test_sixty_four_roundings_of_a_unit_vector_stay_within_the_limit():
    x = torch.randn(200, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rounded, generator = x.clone(), torch.Generator().manual_seed(1)
    for _ in range(64):
        factor = 1 + torch.rand(200, 64, generator=generator, dtype=torch.float64)
        rounded = ((rounded * factor).bfloat16().double() / factor).bfloat16().double()
    assert 0 < float(invariance.angular_distance(x, rounded).max()) < rounding_limit(torch.bfloat16)


def test_a_model_in_bfloat16_is_judged_by_the_rounding_of_bfloat16_and_says_so(run):
    finding = check_scaling(run)
    assert finding.status is Status.SUPPORTED
    evidence = finding.evidence
    assert evidence["dtype"] == "bfloat16"
    assert evidence["model"] == Path(run.subject.model).name, "nobody is told in which folders the model lies"
    assert evidence["largest_norm_output_distance"] > evidence["predicted_norm_output_distance_at_most"]
    assert evidence["largest_norm_output_distance"] < evidence["judged_norm_output_distance_at_most"] == 0.0625
    told = {row["id"]: row for row in evidence[JUDGED]}
    assert told["PY-1.norm_output"]["outcome"] == "inside"
    assert told["PY-1.norm_output"]["high"] == 0.0625
    assert check_tightened_gain(run).status is Status.REFUTED
    assert check_residual_invariance(run).status is Status.REFUTED


def judged(run, rows, check):
    """``check`` on a model whose blocks behave as ``rows`` say, whatever the factor."""
    rows = [dataclasses.replace(row, block=i, factor=k) for i, row in enumerate(rows) for k in FACTORS]
    one = Run(seed=0, directory=run.directory, subject=run.subject)
    one.shared("pythia.model", lambda: model(run))
    one.shared("pythia.scaling", lambda: rows)
    return check(one)


def test_a_norm_that_turns_by_more_than_rounding_is_refuted_in_bfloat16_too(run):
    good = Scaling(block=0, factor=2.0, norm_output=0.001, gain_excess=0.5, residual=0.2)
    assert judged(run, [good], check_scaling).status is Status.SUPPORTED
    turned = dataclasses.replace(good, norm_output=0.07)
    refuted = judged(run, [good, turned], check_scaling)
    assert refuted.status is Status.REFUTED
    assert "turn by 0.07 at most" in refuted.exhibits[0].caption  # what came out, not what was hoped for
    assert judged(run, [good], check_residual_invariance).status is Status.REFUTED
    less = dataclasses.replace(good, residual=0.002)
    assert judged(run, [less], check_residual_invariance).status is Status.REFUTED


def test_a_stream_that_turns_by_no_more_than_rounding_might_is_not_called_invariant(run):
    little = Scaling(block=0, factor=2.0, norm_output=0.001, gain_excess=0.5, residual=0.0005)
    finding = judged(run, [little], check_residual_invariance)
    assert finding.status is Status.INCONCLUSIVE
    assert "bfloat16" in finding.evidence["reason"]
