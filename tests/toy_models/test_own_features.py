"""Features that a user plants: found through the command line, refused if broken, refuted honestly if hopeless."""

import dataclasses
import json

import pytest
import safetensors.torch
import torch

import sensverify.suites as suites
from sensverify import cli
from sensverify.claims import Run, Subject, Suite, resolve
from sensverify.runner import preflight
from sensverify.verdicts import Status
from toy_models import own_features
from toy_models.catalogue.own_features import claims
from toy_models.folder import load_toy, plant, save_toy
from toy_models.recovery import match


@pytest.fixture(scope="module", autouse=True)
def small():
    """The command line with this claim alone, on small models of its own and with short searches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites, "load_suites", lambda: {"toy_models": Suite(claims=claims)})
        patch.setattr(own_features, "FEATURES", 24)
        patch.setattr(own_features, "WIDTH", 16)
        patch.setattr(own_features, "BUDGET", {"quick": (60, 4)})
        patch.setattr(own_features, "USER_BUDGET", {"quick": (35, 4)})
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """One folder of results: what the suite plants itself is searched once for the whole file."""
    return tmp_path_factory.mktemp("out")


@pytest.fixture
def verify(capsys):
    def call(*arguments):
        """Exit code, the record (or None), and stderr."""
        capsys.readouterr()
        code = cli.run([str(a) for a in ("verify", "toy_models", "--json", *arguments)])
        captured = capsys.readouterr()
        return code, json.loads(captured.out)["claims"][0] if captured.out else None, captured.err

    return call


@pytest.fixture
def hurried(monkeypatch):
    """A user's model is searched so shortly that only what is not about finding can be tested."""
    monkeypatch.setattr(own_features, "USER_BUDGET", {"quick": (8, 3)})
    monkeypatch.setattr(own_features, "LARGEST_TABLE", 2**14)


def by_hand(folder, features, description=None, **tensors):
    """As a user would write it, with nothing of this package."""
    folder.mkdir(parents=True)
    safetensors.torch.save_file({"features": features, **tensors}, folder / "toy.safetensors")
    fields = description or {"schema": 1, "kind": "superposition", "density": 0.1}
    (folder / "toy.json").write_text(json.dumps(fields))
    return folder


def unit(count, width, seed):
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return rows / rows.norm(dim=1, keepdim=True)


def test_planted_features_are_found(verify, out, tmp_path):
    folder = by_hand(tmp_path / "mine", 3 * unit(20, 16, seed=0), bias=torch.full((20,), -0.3))
    code, claim, err = verify("--model", folder, "--out", out)
    assert (code, err, claim["status"]) == (0, "", "SUPPORTED")
    (judged,) = claim["evidence"]["judged"]
    assert (judged["sought"], judged["directions"], len(judged["seeds"])) == (20, 80, 3)
    assert claim["evidence"]["models"]["the folder given"]["features"] == 20
    assert len(claim["evidence"]["false_twins_refuted"]) == 3
    assert (out / "report.html").exists()
    made = {path: path.stat().st_mtime_ns for path in (out / "cache").iterdir()}
    again = verify("--model", folder, "--out", out)[1]
    assert again["evidence"] == claim["evidence"]
    assert {path: path.stat().st_mtime_ns for path in (out / "cache").iterdir()} == made


def spread_by_hand(folder, spread, seed):
    """Lengths between ``1 − spread`` and ``1 + spread``."""
    lengths = 1 + spread * torch.linspace(-1, 1, 24)[:, None]
    return by_hand(folder, lengths * unit(24, 16, seed), bias=torch.full((24,), -0.05))


def test_features_of_unequal_lengths_are_found_and_by_random_directions_are_not(out, tmp_path):
    folder = spread_by_hand(tmp_path / "spread", 0.3, seed=0)
    run = Run(seed=0, directory=out, subject=Subject(model=str(folder)))
    finding = own_features.check_planted(run)
    assert finding.status is Status.SUPPORTED
    lengths = finding.evidence["models"]["the folder given"]["lengths"]
    assert (lengths["least"], lengths["largest"]) == pytest.approx((0.7, 1.3))
    (judged,) = finding.evidence["judged"]
    first = [row["share"] for row in finding.evidence["searches"]["peak, first round alone, the folder given"]]
    assert max(first) < judged["recovered_share"]["low"]
    by_chance = own_features._judge(own_features.subjects(run), own_features._start)
    assert by_chance.status is Status.REFUTED
    assert by_chance.witness["recovered_share"]["high"] < 0.2


def test_units_that_read_duals_of_what_is_written_are_told(out, tmp_path, hurried):
    """The search finds what units read: of a pseudo-inverse these are other directions than the features."""
    features = unit(24, 16, seed=0)
    readout = torch.linalg.pinv(features).T.contiguous()
    folder = by_hand(tmp_path / "dual", features, readout=readout)
    run = Run(seed=0, directory=out, subject=Subject(model=str(folder)))
    finding = own_features.check_planted(run)
    assert finding.status is Status.REFUTED
    assert finding.witness["models"]["the folder given"]["reading"]["median"] < 0.9


def test_the_gain_of_a_unit_is_the_effect_of_its_feature():
    """By hand: one feature per dimension and presence from 0 to 7/8, so that each unit answers to its own alone."""
    readout = own_features.SuperpositionReadout(plant(3, 3, 0, 1.0))
    axes, scale = torch.eye(3), torch.tensor([1.0, 2.0, 0.0])
    readout = own_features.InUnits(readout, torch.ones(3))
    readout.inner.model = dataclasses.replace(readout.inner.model, weights=axes, reading=axes * scale)
    gains = own_features.largest_effects(readout, axes, own_features.PEAK)
    assert float(gains[1]) > 1.5 * float(gains[0]) > 0
    assert float(gains[2]) == pytest.approx(own_features.LEAST_EFFECT * float(gains.max()))
    divided = own_features.InUnits(readout.inner, gains)
    batch = divided.sample(5, torch.Generator().manual_seed(0))
    assert (divided.clean(batch) * gains).allclose(readout.clean(batch))
    assert own_features.largest_effects(divided, axes, own_features.PEAK)[:2].allclose(torch.ones(2), atol=1e-5)
    silent = own_features.InUnits(readout, torch.full((3,), torch.inf))
    assert own_features.largest_effects(silent, axes, own_features.PEAK).equal(torch.ones(3))


def test_far_beyond_the_load_that_can_be_identified_the_claim_is_refuted(verify, out, tmp_path, hurried):
    save_toy(tmp_path / "crowd", plant(2048, 24, 3, 0.05))
    code, claim, err = verify("--model", tmp_path / "crowd", "--out", out)
    assert (code, err, claim["status"]) == (1, "", "REFUTED")
    assert claim["witness"]["recovered_share"]["high"] < 0.8
    explained = claim["witness"]["models"]["the folder given"]
    assert explained["load"]["features_over_d(d+2)/3"] == pytest.approx(2048 / (24 * 26 / 3))
    assert claim["witness"]["sought"] * 2048 <= own_features.LARGEST_TABLE


def test_units_that_read_elsewhere_than_features_write_are_told(verify, out, tmp_path, hurried):
    folder = by_hand(tmp_path / "crossed", unit(12, 16, seed=0), readout=unit(12, 16, seed=1))
    code, claim, _ = verify("--model", folder, "--out", out)
    assert (code, claim["status"]) == (1, "REFUTED")
    assert abs(claim["witness"]["models"]["the folder given"]["reading"]["median"]) < 0.5


def break_description(folder):
    (folder / "toy.json").write_text("{")


def break_tensors(folder):
    (folder / "toy.safetensors").write_bytes(b"nonsense")


def remove_tensors(folder):
    (folder / "toy.safetensors").unlink()


def give_all_up(folder):
    fields = {"schema": 1, "kind": "superposition", "density": 0.1, "planted": False}
    (folder / "toy.json").write_text(json.dumps(fields))


@pytest.mark.parametrize("harm", [break_description, break_tensors, remove_tensors, give_all_up])
def test_a_broken_folder_is_refused_before_anything_is_written(verify, tmp_path, harm):
    folder = by_hand(tmp_path / "mine", 0.1 * unit(4, 4, seed=0))
    harm(folder)
    code, claim, err = verify("--model", folder, "--out", tmp_path / "new")
    assert (code, claim) == (2, None)
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for word in ("expected", "got", "remedy"):
        assert word in err
    assert not (tmp_path / "new").exists()


def test_a_folder_that_the_run_would_overwrite_is_refused(verify, tmp_path):
    folder = by_hand(tmp_path / "new" / "planted" / "500", unit(4, 4, seed=0))
    before = (folder / "toy.safetensors").read_bytes()
    code, _, err = verify("--model", folder, "--out", tmp_path / "new")
    assert code == 2
    assert "copy the folder" in err
    assert (folder / "toy.safetensors").read_bytes() == before


@pytest.mark.parametrize("model", ["embedded", "no/such/model", "a folder", "x" * 5000, "nul\0"])
def test_whatever_is_no_toy_folder_is_left_to_the_other_suites(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a folder").mkdir()
    run = Run(seed=0, directory=tmp_path / "out", subject=Subject(model=model))
    preflight([("toy_models", claims[0])], run)
    assert [group.label for group in own_features.subjects(run)] == ["p = 0.05, threshold 0.1", "p = 0.4, threshold 0"]


def test_what_the_suite_plants_itself_is_judged_from_folders(out):
    run = Run(seed=0, directory=out)
    finding = own_features.check_planted(run)
    assert finding.status is not Status.REFUTED  # three times 24 features are too few for an interval above 0.8
    assert min(row["recovered_share"]["value"] for row in finding.evidence["judged"]) > 0.8
    groups = own_features.planted(run)
    assert all(len(group.trials) == 3 for group in groups)
    folders = {int(path.name): path for path in (out / "planted").iterdir()}
    assert len(folders) == 6
    for trial in (trial for group in groups for trial in group.trials):
        model = load_toy(folders[trial.model.seed])
        assert model.weights.equal(trial.model.weights)
        threshold = -float(model.bias[0])
        assert plant(24, 16, model.seed, model.config.density, threshold=threshold).weights.equal(model.weights)
    json.dumps([finding.evidence, *(exhibit.to_json() for exhibit in finding.exhibits)], allow_nan=False)
    assert {row[0] for row in finding.exhibits[0].rows} == {
        "plain",
        "selective",
        "peak",
        "peak, first round alone",
        "random directions",
    }


@pytest.mark.parametrize("twin", claims[0].false_twins, ids=lambda twin: twin.check.split(":")[1])
def test_every_false_twin_is_refuted_with_a_witness(out, twin):
    finding = resolve(twin.check)(Run(seed=0, directory=out))
    assert finding.status is Status.REFUTED
    assert json.dumps(finding.witness)


def test_a_search_does_not_begin_at_features_drawn_with_a_seed_that_people_use(tmp_path):
    """The generator of features and that of a search are the same: with equal seeds a search would begin at the end."""
    for seed in (0, 1, 2):
        save_toy(tmp_path / str(seed), plant(30, 16, seed, 0.1))
        subject = Subject(model=str(tmp_path / str(seed)))
        (group,) = own_features.subjects(Run(seed=seed, directory=tmp_path / "out", subject=subject))
        assert len({trial.seed for trial in group.trials}) == 3
        assert all(match(trial.start(), trial.features).recovered == 0 for trial in group.trials)
        trap = own_features.Trial(model=group.trials[0].model, seed=seed, steps=1, contexts=2)
        assert match(trap.start(), trap.features).recovered == 30


def test_where_random_directions_meet_the_features_nothing_is_concluded(tmp_path, hurried):
    angles = torch.linspace(0, 6, 15)
    folder = by_hand(tmp_path / "plane", torch.stack([angles.cos(), angles.sin()], 1))
    run = Run(seed=0, directory=tmp_path / "out", subject=Subject(model=str(folder)))
    finding = own_features.check_planted(run)
    assert finding.status is Status.INCONCLUSIVE
    assert "random directions" in finding.evidence["reason"]
    assert finding.witness is None


@pytest.mark.parametrize(
    ("features", "directions", "sought"), [(1, 4, 1), (128, 512, 128), (512, 256, 64), (40_000, 4, 1)]
)
def test_large_models_are_searched_for_as_many_features_as_there_are_pairs(features, directions, sought):
    trial = own_features.Trial(model=plant(features, 4, 0, 0.1), seed=0, steps=1, contexts=1)
    assert (trial.directions, trial.sought) == (directions, sought)


@pytest.mark.parametrize(("features", "recovered", "share"), [(20, 5, 0.25), (512, 16, 0.25), (512, 80, 1.0)])
def test_a_share_is_of_the_features_sought_and_never_above_one(features, recovered, share):
    trial = own_features.Trial(model=plant(features, 16, 0, 0.1), seed=0, steps=1, contexts=1)
    matching = match(trial.features[:recovered], trial.features)
    assert trial.hits(matching).shape == (trial.sought,)
    assert trial.share(matching) == share


def test_one_trial_has_the_interval_of_its_features():
    trial = own_features.Trial(model=plant(100, 16, 0, 0.1), seed=0, steps=1, contexts=1)
    group = own_features.Group(label="one", trials=(trial,))
    hits = [trial.hits(match(trial.features[:50], trial.features))]
    found = group.interval(hits)
    error = 0.5 / 100**0.5  # of a binomial share of one half
    assert (found.value, found.low, found.high) == pytest.approx(
        (0.5, 0.5 - 1.96 * error, 0.5 + 1.96 * error), abs=0.02
    )
    assert group.text(hits).endswith("(one seed)")


def test_what_explains_a_failure_is_right_where_it_can_be_told_by_hand(tmp_path):
    features = torch.tensor([[2.0, 0, 0, 0], [0, 1, 0, 0], [0.6, 0.8, 0, 0]])
    readout = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    model = load_toy(by_hand(tmp_path / "m", features, readout=readout, bias=torch.tensor([-1e3, -1e3, -1e3])))
    told = own_features.explain(model)
    assert told["coherence"]["largest"] == pytest.approx(0.8)
    assert told["coherence"]["mean_nearest"] == pytest.approx((0.6 + 0.8 + 0.8) / 3)
    assert told["lengths"] == pytest.approx({"least": 1.0, "median": 1.0, "largest": 2.0})
    assert told["reading"] == pytest.approx({"least": 0.0, "median": 1.0, "largest": 1.0})
    assert told["load"] == pytest.approx({"features_per_dimension": 0.75, "features_over_d(d+2)/3": 9 / 24})
    assert told["threshold"]["share_of_units_firing"] == 0
    assert told["threshold"]["over_typical_preactivation"] > 500
