"""PY-7: where "present" means something, and a twin that is present in every model."""

import pytest
import torch

from pythia import sparsity
from pythia.catalogue.presence import CLAIMS
from pythia.sparsity import check_found_presence, check_own_direction_presence, own_presences
from pythia.subject import found
from sensverify.claims import Run, Subject
from sensverify.discovery import SearchOptions
from sensverify.geometry import Centring
from sensverify.runner import run_claim
from sensverify.sparsity import LEAST_WIDTH, presence_threshold
from sensverify.verdicts import Status

pytest.importorskip("transformers")


@pytest.fixture
def run_on(make_model_folder, tiny_text, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "pythia.subject.search_options", lambda run: SearchOptions(directions=4, steps=5, seed=run.seed)
    )

    def make(width):
        folder = make_model_folder(hidden_size=width, num_attention_heads=2)
        return Run(seed=0, directory=tmp_path, subject=Subject(model=str(folder), text=tiny_text))

    return make


def test_the_least_width_is_where_half_the_length_is_needed_to_be_present():
    assert presence_threshold(LEAST_WIDTH) == 0.5
    assert presence_threshold(16) == 1.0


@pytest.mark.parametrize("width", [16, 62])
def test_a_model_too_narrow_for_rare_presence_is_skipped_before_any_search(run_on, width, monkeypatch):
    monkeypatch.setattr(sparsity, "found", None)
    verdict = run_claim(CLAIMS[0], "pythia", run_on(width))
    assert verdict.status is Status.SKIPPED
    assert f"in {width} dimensions" in verdict.finding.evidence["reason"]


def test_a_model_just_wide_enough_is_judged_and_its_twin_refuted(run_on):
    run = run_on(64)
    assert check_found_presence(run).status in (Status.SUPPORTED, Status.REFUTED, Status.INCONCLUSIVE)
    assert check_found_presence(run).evidence["mean activation"]["median_share_present"] >= 0
    twin = check_own_direction_presence(run)
    assert twin.status is Status.REFUTED
    assert twin.evidence["median_share_present"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_the_twin_is_refuted_where_the_mean_activation_is_short_too(run_on):
    """With activations that cancel in the mean, its direction is present nowhere, and said nothing of the checker."""
    run = run_on(64)
    readout = found(run).site.held_out
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(readout.residuals.shape, generator=generator)
    mean = noise[readout.counted].mean(0)
    assert float(sparsity.presence(noise.flatten(0, 1), mean[None], Centring.MEAN).abs().max()) < 0.9
    own = own_presences(noise[:, readout.first_position :], readout.counted_inside, Centring.MEAN)
    assert torch.allclose(own[0][readout.counted_inside], torch.ones(()))


def test_the_presence_of_its_own_direction_is_one_for_one_by_position():
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    counted = torch.ones(3, 5, dtype=torch.bool)
    counted[1, 2] = False
    own = own_presences(x, counted, Centring.MEAN)
    assert own.shape == (1, 3, 5)
    assert float(own[0, 1, 2]) == 0
    assert torch.allclose(own[0][counted], torch.ones(14))
