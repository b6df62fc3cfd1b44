import json

import pytest
import safetensors.torch
import torch

from sensverify.directions import DirectionSet, check_belongs, load_directions, save_directions
from sensverify.errors import InputError


@pytest.fixture
def saved(tmp_path):
    rows = torch.nn.functional.normalize(torch.randn(3, 5, generator=torch.Generator().manual_seed(0)))
    found = DirectionSet(
        directions=rows, config={"model": "m", "weights_sha256": "ab" * 32}, score_plus=torch.arange(3.0)
    )
    save_directions(tmp_path, found)
    return tmp_path, found


def test_what_was_saved_is_loaded(saved):
    folder, found = saved
    for path in (folder, folder / "directions.safetensors"):
        loaded = load_directions(path)
        assert loaded.directions.equal(found.directions)
        assert loaded.score_plus.equal(found.score_plus)
        assert loaded.score_minus is None
        assert loaded.config["model"] == "m"


def test_a_pair_that_is_replaced_while_it_is_read_is_not_mixed(saved, monkeypatch):
    """The tensors in hand are those that the digest is of."""
    folder, found = saved
    real = json.loads

    def replaced_meanwhile(text):
        monkeypatch.setattr("sensverify.directions.json.loads", real)
        save_directions(folder, DirectionSet(directions=found.directions.flip(0), config={"model": "B"}))
        return real((folder / "cfg.json").read_text())

    monkeypatch.setattr("sensverify.directions.json.loads", replaced_meanwhile)
    with pytest.raises(InputError, match="of one search"):
        load_directions(folder)


def test_rows_lie_under_the_name_that_sae_tools_read(saved):
    assert safetensors.torch.load_file(saved[0] / "directions.safetensors")["W_dec"].shape == (3, 5)


def test_directions_belong_to_their_weights(saved):
    loaded = load_directions(saved[0])
    site = {"width": 5, "weights_sha256": "ab" * 32, "model": "m", "allow_other_model": False}
    check_belongs(loaded, **site)
    with pytest.raises(InputError, match="--allow-other-model"):
        check_belongs(loaded, **{**site, "weights_sha256": "cd" * 32})
    check_belongs(loaded, **{**site, "weights_sha256": "cd" * 32, "allow_other_model": True})
    with pytest.raises(InputError, match="width 5"):
        check_belongs(loaded, **{**site, "width": 6, "allow_other_model": True})


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "directions.safetensors").write_bytes(b"junk"),
        lambda folder: (folder / "cfg.json").unlink(),
        lambda folder: (folder / "cfg.json").write_text("{"),
        lambda folder: (folder / "cfg.json").write_text(json.dumps([1])),
        lambda folder: (folder / "cfg.json").write_text("[" * 100_000),
        lambda folder: safetensors.torch.save_file({"W": torch.ones(1)}, folder / "directions.safetensors"),
        lambda folder: safetensors.torch.save_file({"W_dec": torch.zeros(2, 5)}, folder / "directions.safetensors"),
        lambda folder: safetensors.torch.save_file(
            {"W_dec": torch.full((2, 5), float("nan"))}, folder / "directions.safetensors"
        ),
    ],
)
def test_damaged_files_are_refused(saved, damage):
    damage(saved[0])
    with pytest.raises(InputError, match="remedy"):
        load_directions(saved[0])


def test_tensors_of_another_search_are_not_taken_for_those_that_the_configuration_tells_of(saved, tmp_path_factory):
    folder, found = saved
    other = tmp_path_factory.mktemp("other")
    save_directions(other, DirectionSet(directions=found.directions.flip(0), config=found.config))
    (folder / "directions.safetensors").write_bytes((other / "directions.safetensors").read_bytes())
    with pytest.raises(InputError, match="of one search"):
        load_directions(folder)
    config = json.loads((folder / "cfg.json").read_text())
    del config["directions_sha256"]  # as other tools and earlier versions write it
    (folder / "cfg.json").write_text(json.dumps(config))
    assert load_directions(folder).directions.equal(found.directions.flip(0))
