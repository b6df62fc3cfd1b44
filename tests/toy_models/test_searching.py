"""Searches by name: their seeds, what is kept of them on disk, and that nothing is made twice."""

import dataclasses

import pytest
import torch

from sensverify.autoencoders import TopK
from sensverify.claims import Run
from sensverify.discovery import search
from toy_models import methods, searching, trained
from toy_models.superposition import SuperpositionConfig, SuperpositionReadout, train

TINY = SuperpositionConfig(features=16, width=8, density=0.1, batch=64, steps=50)
OPTIONS = dataclasses.replace(searching.PLAIN, directions=6, steps=5)


@pytest.fixture(scope="module")
def readout():
    return SuperpositionReadout(train(TINY, 0))


def test_no_search_begins_with_the_draws_that_a_model_is_trained_on():
    run_seeds = {1000 * run + i for run in range(50) for i in range(8)}
    model = train(dataclasses.replace(TINY, steps=1), 0)
    searches = {searching.twice(dataclasses.replace(model, seed=seed), OPTIONS).seed for seed in run_seeds}
    assert len(searches) == len(run_seeds)
    assert min(searches) > 10**6


def test_seeds_of_searches_differ_by_label_and_by_part_and_are_the_same_each_time():
    seeds = {searching.search_seed(label, i, j) for label in "ab" for i in range(20) for j in range(20)}
    assert len(seeds) == 800
    assert searching.search_seed("a", 1, 2) in seeds
    assert all(seed < 2**48 for seed in seeds)


def test_the_course_of_a_search_is_kept_with_its_directions(readout, tmp_path):
    run = Run(seed=0, directory=tmp_path)
    direct = search(readout, OPTIONS)
    for again in (run, Run(seed=0, directory=tmp_path)):
        kept = searching.outcome(again, readout, OPTIONS)
        assert kept.directions.equal(direct.directions)
        assert kept.history == direct.history  # to the last bit
    assert searching.searched(run, readout, OPTIONS).equal(direct.directions)


def test_an_interrupted_run_goes_on_with_the_searches_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "CONFIG", TINY)
    monkeypatch.setattr(trained, "DIRECTIONS", 4)
    real, calls = searching.search, []

    def interrupted(*args, **kwargs):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(searching, "search", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trained.found_directions(Run(seed=0, directory=tmp_path))
    calls.clear()
    assert len(trained.found_directions(Run(seed=0, directory=tmp_path))) == 3
    assert len(calls) == 1
    monkeypatch.setattr(searching, "search", None)
    found = trained.found_directions(Run(seed=0, directory=tmp_path))
    assert all(len(one.history) == 300 and one.directions.shape == (4, 8) for one in found)


def test_an_autoencoder_is_trained_once_for_each_recipe(readout, tmp_path, monkeypatch):
    method, run = methods.SparseAutoencoder(sparsity=TopK(active=2)), Run(seed=0, directory=tmp_path)
    size = {"directions": 10, "contexts": 128, "presentations": 64, "seed": 5}
    generator = torch.Generator().manual_seed(5)
    subject = methods.draw_subject(readout, 128, generator, presentations=64)
    direct = method.find(subject, 10, generator).directions
    assert searching.autoencoded(run, readout, method, **size).equal(direct)
    assert not searching.autoencoded(run, readout, method, **{**size, "seed": 6}).equal(direct)
    monkeypatch.setattr(methods.SparseAutoencoder, "find", None)
    assert searching.autoencoded(Run(seed=0, directory=tmp_path), readout, method, **size).equal(direct)
