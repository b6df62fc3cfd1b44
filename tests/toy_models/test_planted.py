"""Planted transformers: the plan is carried out, the checks conclude as they should, the export is the same model."""

import dataclasses
import json
import shutil

import pytest
import torch

from sensverify import cli
from sensverify.claims import Run, resolve
from sensverify.errors import InputError, MissingExtraError
from sensverify.geometry import Centring, nearest, random_directions
from sensverify.sensitivity import estimate_on
from sensverify.verdicts import Status
from toy_models import planted as planted_module
from toy_models import planted_recovery
from toy_models.catalogue.transformer import claims
from toy_models.planting import PlantingConfig, export, plant, words
from toy_models.transformer import TransformerReadout

SMALL = PlantingConfig(features=24, width=48, tokens=128, most_active=4)
SITE = {"layer": 0, "target": 2, "offset": 1}


@pytest.fixture(scope="module")
def model():
    return plant(SMALL, seed=77)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    pytest.importorskip("tokenizers")
    return export(model, tmp_path_factory.mktemp("exported") / "model", text_words=6000)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on small models with a few steps of search: the checks are the product's, their subjects are not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planted_module, "CONFIG", SMALL)
        patch.setattr(planted_module, "WINDOWS", 256)
        made = planted_module.searches(Run(seed=7, directory=tmp_path_factory.mktemp("unused")))
        few = {
            name: dataclasses.replace(
                row, options=dataclasses.replace(row.options, directions=8, steps=20, contexts=16)
            )
            for name, row in made.items()
        }
        patch.setattr(planted_module, "searches", lambda run: few)
        patch.setattr("toy_models.planted_recovery.searches", lambda run: few)
        patch.setattr("toy_models.planted_recovery.CONFIG", SMALL)
        yield Run(seed=7, directory=tmp_path_factory.mktemp("planted"))


def test_the_three_subspaces_are_orthogonal_and_invisible_to_no_norm(model):
    frame = torch.cat([model.carried, model.copied, model.written])
    assert torch.allclose(frame @ frame.T, torch.eye(3 * SMALL.dimension), atol=1e-5)
    assert float(frame.sum(1).abs().max()) < 1e-5
    assert torch.allclose(model.features @ model.carried.T @ model.carried, model.features, atol=1e-5)


def test_embeddings_are_sums_of_few_planted_features(model):
    active = (model.codes > 0).sum(1)
    assert set(active.tolist()) == {1, 2, 3, 4}
    embedding = model.transformer.embedding
    assert torch.allclose(embedding.norm(dim=1), torch.ones(len(embedding)), atol=1e-5)
    alone = active == 1
    which = model.codes[alone].argmax(1)
    assert float((embedding[alone] * model.features[which]).sum(1).min()) > 0.98


def test_the_token_before_arrives_in_b_and_its_features_fire(model):
    """Against the plan written out: what is where, for one pair of tokens with a feature each."""
    single = ((model.codes > 0).sum(1) == 1).nonzero()[:2, 0]
    before, copied, final = model.transformer.residuals(single[None])
    arrived = (copied - before)[0, 1] @ model.copied.T @ model.carried  # back from B to A
    embedding = model.transformer.embedding[single[0]]
    assert torch.allclose(arrived, embedding @ model.carried.T @ model.carried, atol=1e-3)
    feature = int(model.codes[single[0]].argmax())
    block = model.transformer.blocks[2]
    units = block.mlp.units(block.norm_2(copied[0, 1]))
    assert int(units.argmax()) == feature
    assert float(units[feature]) == pytest.approx(SMALL.write * (1 - SMALL.threshold), rel=0.05)
    assert float((final - copied)[0, 1] @ model.written.T @ model.carried @ model.features[feature]) > 1


def test_nothing_passes_between_positions_without_the_value_path(model):
    cut = model.without_values().transformer
    tokens = model.windows(4, 5, torch.Generator().manual_seed(0))
    others = tokens.clone()
    others[:, :-1] = (others[:, :-1] + 1) % SMALL.tokens
    assert torch.equal(cut.residuals(tokens)[-1][:, -1], cut.residuals(others)[-1][:, -1])
    whole = model.transformer
    assert not torch.allclose(whole.residuals(tokens)[-1][:, -1], whole.residuals(others)[-1][:, -1], atol=0.1)


def test_planting_is_fixed_by_its_seed(model):
    assert plant(SMALL, 77).describe() == model.describe()
    assert plant(SMALL, 78).describe() != model.describe()


@pytest.mark.parametrize("change", [{"width": 47}, {"width": 6}, {"most_active": 25}, {"most_active": 0}])
def test_a_plan_that_cannot_be_carried_out_is_refused(change):
    with pytest.raises(InputError, match="change width"):
        PlantingConfig(**{"features": 24, "width": 48, **change})


@pytest.mark.parametrize(
    "twin", [twin for claim in claims for twin in claim.false_twins], ids=lambda twin: twin.check.split(":")[1]
)
def test_every_false_twin_is_refuted_with_a_witness(run, twin):
    finding = resolve(twin.check)(run)
    assert finding.status is Status.REFUTED
    assert json.dumps(finding.witness)


@pytest.mark.parametrize("claim", claims, ids=lambda claim: claim.id)
def test_every_check_concludes_with_plain_evidence_on_three_seeds(run, claim):
    finding = resolve(claim.check)(run)
    assert len(finding.evidence["seeds"]) >= 3
    json.dumps([finding.evidence, *(exhibit.to_json() for exhibit in finding.exhibits)])
    if claim.id == "TM-8":  # decided even on models this small
        assert finding.status is claim.expected


@pytest.mark.parametrize("check", [planted_recovery.check_plain_recovery, planted_recovery.check_selective_recovery])
def test_a_failed_search_refutes_only_beside_a_search_that_succeeds(run, check, monkeypatch):
    """The searches of this run are too short: once as they are, once with the features in the place of peak's."""
    short = check(run)
    assert (short.status, short.witness) == (Status.INCONCLUSIVE, None)
    assert short.evidence["reason"]
    true_features = [subject.planted.features for subject in planted_module.subjects(run)]
    found = planted_recovery.found_directions
    monkeypatch.setattr(
        planted_recovery,
        "found_directions",
        lambda run, name: true_features if name == planted_module.PEAK else found(run, name),
    )
    finding = check(run)
    assert finding.status is Status.REFUTED
    assert finding.witness
    assert finding.evidence["positive_control"][planted_module.PEAK]["finds_most"]


def test_a_search_of_sparse_features_is_judged_beside_controls_on_its_own_models(run):
    finding = planted_recovery.check_recovery_of_sparse_features(run)
    assert finding.evidence["model"]["threshold"] == 0.4
    assert set(finding.evidence["controls"]) == {planted_module.RISES, planted_module.FROM_ACTIVATIONS}
    for control in finding.evidence["controls"].values():
        assert set(control["by_model"]) == set(finding.evidence["seeds"])
    random = planted_recovery.check_sparse_recovery_by_random(run)
    assert random.evidence["model"] == finding.evidence["model"]


@pytest.mark.parametrize(("control", "status"), [("features", Status.REFUTED), ("random", Status.INCONCLUSIVE)])
def test_no_search_is_refuted_where_no_search_is_seen_to_succeed(run, monkeypatch, control, status):
    """The judged search returns random directions; the control what was planted, or random directions too."""

    def find(run, subject, name):
        if name == planted_module.PEAK or control == "random":
            return random_directions(8, SMALL.width, Centring.MEAN, subject.generator(9))
        return subject.planted.features[:8]

    monkeypatch.setattr(planted_recovery, "find", find)
    finding = planted_recovery.check_recovery_of_sparse_features(run)
    assert finding.status is status
    assert finding.evidence["controls"][planted_module.RISES]["finds_most"] is (control == "features")
    assert (finding.witness is None) is (status is Status.INCONCLUSIVE)
    assert ("reason" in finding.evidence) is (status is Status.INCONCLUSIVE)


def test_a_peak_of_rises_does_not_see_what_falls():
    clean, moved = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[[0.0, 4.0, 1.0]]])
    assert planted_module.rises(clean, moved).tolist() == [[16.0 + 1.0]]


def test_a_check_reaches_the_same_figures_twice(run, tmp_path):
    again = Run(seed=7, directory=tmp_path)
    for name in ("planted:check_sensitivity", "planted_recovery:check_peak_recovery"):
        check = resolve(f"toy_models.{name}")
        assert check(run).evidence == check(again).evidence


def test_the_exported_folder_is_the_same_model_to_a_language_model_loader(model, folder):
    pytest.importorskip("transformers")
    from pythia.loading import load_model
    from pythia.readout import LanguageModelReadout
    from sensverify.directions import load_directions

    loaded = load_model(str(folder))
    assert loaded.bos is None
    tokens = model.windows(40, 8, torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = loaded.network(tokens).logits
    assert torch.allclose(model.transformer.logits(tokens), theirs, atol=1e-4, rtol=1e-5)

    ours = TransformerReadout(model.transformer, tokens, **SITE)
    other = LanguageModelReadout(loaded, tokens, **SITE)
    directions = torch.cat([model.features[:6], random_directions(6, 48, Centring.MEAN, torch.Generator())])
    rows, positions = torch.arange(40), torch.arange(40) % 7
    scores = [
        estimate_on(readout, readout.at(rows, positions), directions, generator=torch.Generator().manual_seed(2)).mean
        for readout in (ours, other)
    ]
    assert torch.allclose(*scores, rtol=1e-4, atol=1e-6)
    planted = load_directions(folder / "planted")
    assert planted.config["weights_sha256"] == loaded.weights_sha256
    assert torch.allclose(planted.directions, model.features)


def test_the_text_is_read_back_as_the_tokens_that_were_drawn(model, folder):
    pytest.importorskip("transformers")
    from pythia.loading import load_model

    tokenizer = load_model(str(folder)).tokenizer
    line = (folder / "text.txt").read_text().splitlines()[3]
    ids = tokenizer(line)["input_ids"]
    expected = model.windows(375, 16, torch.Generator().manual_seed(model.seed))[3]
    assert ids == expected.tolist()
    assert [words(model)[i] for i in ids] == line.split()
    assert tokenizer("nonsense")["input_ids"] == [SMALL.tokens]


def test_the_command_line_finds_what_was_planted(model, folder, tmp_path, capsys):
    pytest.importorskip("transformers")
    out = tmp_path / "found"
    arguments = [
        "discover", "--model", folder, "--text", folder / "text.txt", "--out", out, "--layer", 0, "--target", 2,
        "--offset", 1, "--directions", 8, "--steps", 40, "--contexts", 24, "--context", 8, "--json",
    ]  # fmt: skip
    assert cli.run([str(argument) for argument in arguments]) == 0
    capsys.readouterr()
    from sensverify.directions import load_directions

    found = load_directions(out).directions
    chance = random_directions(400, SMALL.width, Centring.MEAN, torch.Generator().manual_seed(0))
    mean, by_chance = (float(nearest(group, model.features)[0].mean()) for group in (found, chance))
    assert mean > 2 * by_chance
    assert mean > 0.6


def test_without_the_extra_nothing_is_written(model, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"sensverify\[lm\]"):
        export(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_an_export_over_an_earlier_one_replaces_it(model, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    export(plant(SMALL, 78), copy, text_words=600)
    assert (copy / "model.safetensors").read_bytes() != (folder / "model.safetensors").read_bytes()
    assert sorted(path.name for path in copy.iterdir()) == sorted(path.name for path in folder.iterdir())
