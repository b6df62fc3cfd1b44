"""What is predicted of language models: from which runs, on which conditions, and that nobody can edit it unseen."""

import ast
import dataclasses
import functools
import json
from pathlib import Path

import pytest
import torch

import toy_models
from pythia.subject import SHIPPED_PREDICTIONS
from sensverify import cli
from sensverify.claims import Run
from sensverify.discovery import SearchOptions
from sensverify.predictions import Prediction, load_predictions
from sensverify.sparsity import CHANCE_MULTIPLE
from sensverify.statistics import Interval, group_ratio
from sensverify.suites import load_suites
from sensverify.verdicts import Finding, Status, Verdict
from toy_models import budget, claims, planted, prediction_sae, predictions, removal_found, separation, trained
from toy_models.planting import PlantingConfig
from toy_models.recovery import match
from toy_models.superposition import SuperpositionConfig

IDS = [
    "PY-1.norm_output", "PY-1.residual_stream", "PY-3", "PY-4", "PY-4.sae", "PY-7", "PY-7.budget", "PY-8", "PY-8.lean",
    "PY-11.peak",
]  # fmt: skip
SEEDS = {name: [0, 1, 2] for name in IDS} | {"PY-7.budget": [600, 601, 602], "PY-8": [0], "PY-8.lean": [0]}
"""Which seeds a run of seed 0 uses, with one for removal in the small toys below; 1000 more for every further seed."""


RATIOS = {"PY-3", "PY-4", "PY-4.sae", "PY-11.peak"}
"""Toys as small and as hastily searched as those below need not obey these."""


def shrink(patch):
    """Toys that take a second or two."""
    small = SuperpositionConfig(features=64, width=16, density=0.02, steps=300, batch=128, learning_rate=2e-2)
    patch.setattr(trained, "CONFIG", small)
    patch.setattr(planted, "CONFIG", PlantingConfig(features=16, width=48, tokens=128, most_active=4))
    hasty = {"directions": 8, "steps": 15, "contexts": 16}
    patch.setattr(trained, "SearchOptions", lambda **options: SearchOptions(**(options | hasty)))
    rows = planted.searches(Run(seed=0, directory=Path()))
    searches = {
        name: dataclasses.replace(row, options=dataclasses.replace(row.options, **hasty)) for name, row in rows.items()
    }
    patch.setattr(planted, "searches", lambda run: searches)
    for module in (separation, planted, prediction_sae, predictions):
        patch.setattr(module, "group_ratio", functools.partial(group_ratio, resamples=100))
    for module, name, value in (
        (trained, "DIRECTIONS", 16),
        (separation, "DIRECTIONS", 16),
        (separation, "EVALUATION_CONTEXTS", 64),
        (planted, "EVALUATION_CONTEXTS", 64),
        (prediction_sae, "ACTIVATIONS", 512),
        (prediction_sae, "STEPS", 30),
        (prediction_sae, "CONTEXTS", 64),
        (budget, "LOADS", (2,)),
        (budget, "STEPS", 20),
        (removal_found, "QUICK_SEEDS", 1),
        (removal_found, "STEPS", 15),
        (removal_found, "SEARCH_CONTEXTS", 16),
        (removal_found, "CONTEXTS", 64),
        (removal_found, "QUICK", tuple(
            removal_found.Setting(trained=False, density=0.1, constant=constant) for constant in (False, True)
        )),
    ):  # fmt: skip
        patch.setattr(module, name, value)


def decided(claim, status=None):
    """A verdict on ``claim``: the expected one, or ``status``."""
    status = status or claim.expected
    finding = Finding(status=status, evidence={}, witness={} if status is Status.REFUTED else None)
    return Verdict(claim=claim, suite="toy_models", finding=finding, seed=0, seconds=0.0)


def derived(folder, seed, without=()):
    """The file that a run of the small toys writes when every claim but those ``without`` is decided as expected."""
    run = Run(seed=seed, directory=folder)
    predictions.derive(run, [decided(claim) for claim in claims if claim.id not in without])
    return folder / "predictions.json"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Of a run with seed 0, of one with seed 3, and of the first repeated without the claims that take longest."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        folders = [tmp_path_factory.mktemp("toys") for _ in range(3)]
        return [derived(folders[0], 0), derived(folders[1], 3), derived(folders[2], 0, {"TM-1", "TM-8"})]


def entries(path):
    return {one["id"]: one for one in json.loads(path.read_text())["predictions"]}


def test_all_predictions_are_made_that_claims_and_toys_allow(files):
    for path in files[:2]:
        made = list(load_predictions(path))
        assert set(IDS) - RATIOS <= set(made)
        assert made == [name for name in IDS if name in made]
        assert json.loads(path.read_text())["date"]


@pytest.mark.parametrize("name", IDS)
def test_every_prediction_names_its_seeds(files, name):
    for path, first in ((files[0], 0), (files[1], 3000)):
        names = ", ".join(str(first + seed) for seed in SEEDS[name])
        made = load_predictions(path)
        assert name in made or name in RATIOS
        assert name not in made or names in made[name].derived_from


def test_a_run_repeated_predicts_the_same_and_another_seed_something_else(files):
    first, other, repeated = (entries(path) for path in files)
    assert {"PY-7", "PY-7.budget", "PY-8"} <= set(repeated)
    for name, one in repeated.items():
        assert one == first[name]
        assert one != other.get(name)


def test_laws_do_not_depend_on_the_seed(files):
    first, other = (load_predictions(path) for path in files[:2])
    for name in ("PY-1.norm_output", "PY-1.residual_stream", "PY-7.budget"):
        assert (first[name].low, first[name].high) == (other[name].low, other[name].high)


def test_conditions_stand_in_the_quantity(files):
    made = load_predictions(files[0])
    assert "‖E x̂‖ ≤ 0.53" in made["PY-8"].quantity
    assert "‖E x̂‖ ≥ 0.25" in made["PY-8.lean"].quantity
    assert f"{CHANCE_MULTIPLE:g}/√d" in made["PY-7"].quantity


# --- Which claims a prediction needs ---------------------------------------------------------------------------------


@pytest.fixture
def cheap(monkeypatch):
    """Rules that cost nothing, for tests of when they are applied."""

    def rule(name):
        return lambda run: Prediction(id=name, quantity="a ratio", low=1.0, high=None, derived_from="a test")

    monkeypatch.setattr(predictions, "RULES", {name: rule(name) for name in predictions.RULES})


def test_every_rule_names_the_claims_it_needs_and_they_exist():
    known = {claim.id for claim in claims}
    assert set(predictions.NEEDED) == set(predictions.RULES) == set(IDS)
    for needed in predictions.NEEDED.values():
        assert needed
        assert needed <= known


@pytest.mark.parametrize("missing", sorted(set().union(*predictions.NEEDED.values())))
def test_a_prediction_is_not_made_without_its_claims(cheap, tmp_path, missing):
    run = Run(seed=0, directory=tmp_path)
    expected = {name for name, needed in predictions.NEEDED.items() if missing not in needed}
    rest = [decided(claim) for claim in claims if claim.id != missing]
    predictions.derive(run, rest)
    assert set(load_predictions(tmp_path / "predictions.json")) == expected
    unexpected = [decided(claim, Status.INCONCLUSIVE) for claim in claims if claim.id == missing]
    predictions.derive(run, rest + unexpected)
    assert set(load_predictions(tmp_path / "predictions.json")) == expected


def test_nothing_is_written_where_nothing_can_be_derived(cheap, tmp_path):
    predictions.derive(Run(seed=0, directory=tmp_path), [])
    assert not list(tmp_path.iterdir())


def test_what_the_toys_themselves_do_not_show_is_not_predicted(cheap, monkeypatch, tmp_path):
    monkeypatch.setitem(predictions.RULES, "PY-3", lambda run: None)
    predictions.derive(Run(seed=0, directory=tmp_path), [decided(claim) for claim in claims])
    assert set(load_predictions(tmp_path / "predictions.json")) == set(IDS) - {"PY-3"}


# --- The rules -------------------------------------------------------------------------------------------------------


class _Scores:
    """Stands for the scores of one model, on which found over random has the lowest end ``low``."""

    def __init__(self, low):
        self.low = low

    def ratio(self, top, bottom):
        assert (top, bottom) == ("found", "random")
        return Interval(self.low + 1, self.low, self.low + 2)


@pytest.mark.parametrize(
    ("sparse", "transformer", "low"),
    [((3.0, 5.0), 9.0, 2.0), ((3.0, 5.0), 1.5, 1.25), ((1.0, 5.0), 9.0, None), ((3.0, 5.0), 0.9, None)],
)
def test_half_of_the_smallest_excess_is_predicted(monkeypatch, tmp_path, sparse, transformer, low):
    monkeypatch.setattr(predictions, "score_groups", lambda run: [_Scores(value) for value in sparse])
    monkeypatch.setattr(predictions, "_found_to_random", lambda run: [Interval(9.5, transformer, 10.0)])
    for name in ("_seeds", "_planted_seeds"):
        monkeypatch.setattr(predictions, name, lambda run: "0")
    made = predictions.predict_ratio(Run(seed=0, directory=tmp_path))
    assert (made and made.low) == low
    assert made is None or made.high is None


@pytest.mark.parametrize(("values", "made"), [((2.0, 1.1), True), ((2.0, 0.99), False)])
def test_an_order_is_predicted_only_if_every_toy_obeys_it(monkeypatch, tmp_path, values, made):
    rows = [
        prediction_sae.Ratios(toy, 7, Interval(value, value - 0.05, value + 0.05), Interval(1.2, 1.1, 1.3))
        for toy, value in zip(("TM-1", "TM-8"), values, strict=True)
    ]
    monkeypatch.setattr(prediction_sae, "ratios", lambda run: rows)
    run = Run(seed=0, directory=tmp_path)
    order = predictions.predict_sae(run)
    assert (order is not None) == made
    assert order is None or (order.low, order.high) == (1.0, None)
    assert predictions.predict_found_over_sae(run) is not None


def test_an_autoencoder_keeps_the_latents_that_fire_and_they_are_the_features():
    """Rows that are multiples of three orthonormal directions: three latents are enough, the others may die."""
    generator = torch.Generator().manual_seed(0)
    features = torch.linalg.qr(torch.randn(16, 16, generator=generator)).Q[:3]
    which = torch.randint(3, (2000,), generator=generator)
    x = (0.5 + torch.rand(2000, 1, generator=generator)) * features[which]
    kept = prediction_sae.living_directions(x, latents=12, active=1, seed=0, progress=lambda *_: None)
    assert 3 <= len(kept) <= 12
    assert float(match(features, kept).best_of_directions.min()) > 0.95


# --- The file --------------------------------------------------------------------------------------------------------


def test_the_shipped_file_is_intact_and_has_all_predictions_of_seed_0():
    shipped = load_predictions(SHIPPED_PREDICTIONS)
    assert list(shipped) == IDS
    assert json.loads(SHIPPED_PREDICTIONS.read_text())["date"]
    for name, one in shipped.items():
        seeds = [600, 601, 602] if name == "PY-7.budget" else [0, 1, 2]
        assert ", ".join(map(str, seeds)) in one.derived_from


@pytest.mark.parametrize("name", IDS)
def test_a_single_edited_digit_is_refused_before_any_model_is_read(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pythia.subject.load_model", lambda *_, **__: pytest.fail("a model was read"))
    text = SHIPPED_PREDICTIONS.read_text()
    entry = text.index(f'"id": "{name}"')
    digit = next(i for i in range(text.index('"low": ', entry), len(text)) if text[i].isdigit())
    edited = tmp_path / "predictions.json"
    edited.write_text(f"{text[:digit]}{(int(text[digit]) + 1) % 10}{text[digit + 1 :]}")
    code = cli.run(["verify", "pythia", "--predictions", str(edited), "--out", str(tmp_path / "out")])
    assert code == 2
    assert "predictions" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_toys_are_read_before_language_models_and_never_read_one():
    assert list(load_suites()).index("toy_models") < list(load_suites()).index("pythia")
    for path in Path(toy_models.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(module.split(".")[0] == "pythia" for module in modules), path
