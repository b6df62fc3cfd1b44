"""What is predicted of language models: from which runs, on which conditions, and that nobody can edit it unseen."""

import ast
import dataclasses
import functools
import json
from pathlib import Path

import pytest
import torch

import toy_models
from pythia import author, discovered, explained, invariance, relative_norm, single_token, sparsity
from pythia import stability as stability_at_scale
from pythia.subject import SHIPPED_PREDICTIONS, prediction
from sensverify import cli
from sensverify.claims import Run, Subject
from sensverify.discovery import SearchOptions
from sensverify.errors import InputError, Interrupted
from sensverify.predictions import Prediction, load_predictions, write_predictions
from sensverify.sparsity import CHANCE_MULTIPLE
from sensverify.statistics import Interval, group_ratio
from sensverify.suites import load_suites
from sensverify.verdicts import Finding, Status, Verdict
from toy_models import (
    budget,
    claims,
    planted,
    planted_predictions,
    predictions,
    removal_found,
    sae_sensitivity,
    separation,
    stability,
    swapping,
    trained,
    two_tokens,
)
from toy_models.planting import PlantingConfig
from toy_models.recovery import match
from toy_models.superposition import SuperpositionConfig

IDS = [
    "PY-1.norm_output", "PY-1.residual_stream", "PY-2", "PY-2.matched", "PY-3", "PY-4", "PY-4.sae", "PY-4.stable",
    "PY-5", "PY-6", "PY-6.contrast", "PY-7", "PY-7.budget", "PY-8", "PY-8.lean", "PY-10", "PY-11.peak",
]  # fmt: skip
SEEDS = {name: [0, 1, 2] for name in IDS} | {"PY-7.budget": [600, 601, 602], "PY-8": [0], "PY-8.lean": [0]}
"""Which seeds a run of seed 0 uses, with one for removal in the small toys below; 1000 more for every further seed."""


RATIOS = {"PY-3", "PY-4", "PY-4.sae", "PY-4.stable", "PY-5", "PY-6", "PY-6.contrast", "PY-11.peak"}
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
    for module in (separation, planted, sae_sensitivity, planted_predictions):
        patch.setattr(module, "group_ratio", functools.partial(group_ratio, resamples=100))
    for module, name, value in (
        (trained, "DIRECTIONS", 16),
        (separation, "DIRECTIONS", 16),
        (separation, "EVALUATION_CONTEXTS", 64),
        (planted, "EVALUATION_CONTEXTS", 64),
        (sae_sensitivity, "ACTIVATIONS", 512),
        (sae_sensitivity, "STEPS", 30),
        (sae_sensitivity, "CONTEXTS", 64),
        (budget, "LOADS", (2,)),
        (budget, "STEPS", 20),
        (stability, "NULL_PAIRS", 3),
        (swapping, "CONTEXTS", 64),
        (two_tokens, "TEXT_WINDOWS", 64),
        (two_tokens, "RESAMPLES", 100),
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


def conclude(run, verdicts):
    """As the runner does it when the toys have been decided."""
    run.conclusions["toy_models"] = predictions.derive(verdicts, run=run)


def derived(folder, seed, without=()):
    """The file that a run of the small toys writes when every claim but those ``without`` is decided as expected."""
    run = Run(seed=seed, directory=folder)
    conclude(run, [decided(claim) for claim in claims if claim.id not in without])
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
    conclude(run, rest)
    assert set(load_predictions(tmp_path / "predictions.json")) == expected
    unexpected = [decided(claim, Status.INCONCLUSIVE) for claim in claims if claim.id == missing]
    conclude(run, rest + unexpected)
    assert set(load_predictions(tmp_path / "predictions.json")) == expected


def test_nothing_is_written_where_nothing_can_be_derived(cheap, tmp_path):
    run = Run(seed=0, directory=tmp_path)
    conclude(run, [])
    assert not list(tmp_path.iterdir())
    assert run.conclusions == {"toy_models": {}}


def test_what_an_earlier_run_left_is_gone_where_nothing_can_be_derived(cheap, tmp_path):
    everything = [decided(claim) for claim in claims]
    conclude(Run(seed=0, directory=tmp_path), everything)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.json"]
    later = Run(seed=0, directory=tmp_path)
    conclude(later, [])
    assert not list(tmp_path.iterdir())
    assert prediction(later, "PY-4")[1] == "shipped with the package"


def test_what_an_earlier_run_left_is_gone_while_rules_are_applied(cheap, monkeypatch, tmp_path):
    everything = [decided(claim) for claim in claims]
    conclude(Run(seed=0, directory=tmp_path), everything)

    def stopped(run):
        raise Interrupted("stopped")

    monkeypatch.setitem(predictions.RULES, "PY-7", stopped)
    with pytest.raises(Interrupted):
        conclude(Run(seed=0, directory=tmp_path), everything)
    assert not list(tmp_path.iterdir())


def test_a_model_is_judged_by_this_runs_predictions_before_those_of_an_earlier_run(cheap, tmp_path):
    everything = [decided(claim) for claim in claims]
    first = Run(seed=0, directory=tmp_path)
    assert prediction(first, "PY-4")[1] == "shipped with the package"
    conclude(first, everything)
    derived, origin = prediction(first, "PY-4")
    assert (derived.derived_from, origin) == ("a test", "derived by the toy suite in this run")
    later = Run(seed=0, directory=tmp_path)
    left, origin = prediction(later, "PY-4")
    assert (left, origin) == (derived, "left in the results folder by an earlier run of the toy suite")
    conclude(later, [one for one in everything if one.claim.id == "TM-2"])
    assert prediction(later, "PY-7")[1] == "derived by the toy suite in this run"
    assert prediction(later, "PY-4")[1] == "shipped with the package"
    assert set(load_predictions(tmp_path / "predictions.json")) == {"PY-7"}


@pytest.mark.parametrize("ids", [set(), {"TM-2"}, set().union(*predictions.NEEDED.values())])
def test_a_file_that_the_user_gave_is_not_written_over(cheap, tmp_path, ids):
    given = tmp_path / "predictions.json"
    given.write_bytes(SHIPPED_PREDICTIONS.read_bytes())
    run = Run(seed=0, directory=tmp_path, subject=Subject(predictions=tmp_path / "." / "predictions.json"))
    conclude(run, [decided(claim) for claim in claims if claim.id in ids])
    assert given.read_bytes() == SHIPPED_PREDICTIONS.read_bytes()
    assert prediction(run, "PY-4")[0] == load_predictions(SHIPPED_PREDICTIONS)["PY-4"]


def test_an_edited_file_in_the_results_folder_is_refused_before_anything_is_computed(cheap, monkeypatch, tmp_path):
    conclude(Run(seed=0, directory=tmp_path), [decided(claim) for claim in claims])
    path = tmp_path / "predictions.json"
    path.write_text(path.read_text().replace('"PY-4"', '"PY-5"', 1))
    monkeypatch.setattr("pythia.subject.corpus", lambda run: pytest.fail("the corpus was read first"))
    with pytest.raises(InputError, match="hash"):
        discovered.preflight(Run(seed=0, directory=tmp_path))


def test_what_the_toys_themselves_do_not_show_is_not_predicted(cheap, monkeypatch, tmp_path):
    monkeypatch.setitem(predictions.RULES, "PY-3", lambda run: None)
    conclude(Run(seed=0, directory=tmp_path), [decided(claim) for claim in claims])
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
    for name in ("_seeds", "planted_seeds"):
        monkeypatch.setattr(predictions, name, lambda run: "0")
    made = predictions.predict_ratio(Run(seed=0, directory=tmp_path))
    assert (made and made.low) == low
    assert made is None or made.high is None


NOTHING = Interval(1.0, 0.9, 1.1)


@pytest.mark.parametrize(("values", "made"), [((2.0, 1.1), True), ((2.0, 0.99), False)])
def test_an_order_is_predicted_only_if_every_toy_obeys_it(monkeypatch, tmp_path, values, made):
    rows = [
        sae_sensitivity.Ratios(toy, 7, Interval(value, value - 0.05, value + 0.05), Interval(1.2, 1.1, 1.3), NOTHING)
        for toy, value in zip(("TM-1", "TM-8"), values, strict=True)
    ]
    monkeypatch.setattr(sae_sensitivity, "ratios", lambda run: rows)
    run = Run(seed=0, directory=tmp_path)
    order = predictions.predict_sae(run)
    assert (order is not None) == made
    assert order is None or (order.low, order.high) == (1.0, None)
    assert predictions.predict_found_over_sae(run) is not None


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        (((1.6, 2.0), (1.5, 1.9)), Status.SUPPORTED),
        (((1.6, 2.0), (1.49, 1.9)), Status.INCONCLUSIVE),
        (((1.6, 2.0), (0.9, 1.49)), Status.REFUTED),
    ],
)
def test_autoencoders_are_judged_model_by_model(ends, status):
    rows = [
        sae_sensitivity.Ratios(toy, 7, Interval((low + high) / 2, low, high), NOTHING, NOTHING)
        for toy, (low, high) in zip(("TM-1", "TM-8"), ends, strict=True)
    ]
    finding = sae_sensitivity._judge(rows, lambda row: row.sae_to_random)
    assert finding.status is status
    assert (finding.witness or {}).get("toy") == ("TM-8" if status is Status.REFUTED else None)


def test_an_autoencoder_keeps_the_latents_that_fire_and_they_are_the_features():
    """Rows that are multiples of three orthonormal directions: three latents are enough, the others may die."""
    generator = torch.Generator().manual_seed(0)
    features = torch.linalg.qr(torch.randn(16, 16, generator=generator)).Q[:3]
    which = torch.randint(3, (2000,), generator=generator)
    x = (0.5 + torch.rand(2000, 1, generator=generator)) * features[which]
    kept = sae_sensitivity.living_directions(x, latents=12, active=1, seed=0, progress=lambda *_: None)
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
    monkeypatch.setattr("pythia.subject.load_subject", lambda *_, **__: pytest.fail("a model was read"))
    text = SHIPPED_PREDICTIONS.read_text()
    entry = text.index(f'"id": "{name}"')
    digit = next(i for i in range(text.index('"low": ', entry), len(text)) if text[i].isdigit())
    edited = tmp_path / "predictions.json"
    edited.write_text(f"{text[:digit]}{(int(text[digit]) + 1) % 10}{text[digit + 1 :]}")
    code = cli.run(["verify", "pythia", "--predictions", str(edited), "--out", str(tmp_path / "out")])
    assert code == 2
    assert "predictions" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


SIDES = {
    **invariance.NEEDED, discovered.PREDICTION: discovered.SIDE, sparsity.PREDICTION: sparsity.SIDE,
    relative_norm.PLAIN: relative_norm.SIDE, relative_norm.MATCHED: relative_norm.SIDE,
    stability_at_scale.PREDICTION: stability_at_scale.SIDE, explained.PREDICTION: explained.SIDE,
    single_token.MOSTLY: single_token.SIDE, single_token.MORE: single_token.SIDE, author.PREDICTION: author.SIDE,
}  # fmt: skip
CLAIM_OF = {
    "PY-1.norm_output": "PY-1", "PY-1.residual_stream": "PY-1", "PY-6.contrast": "PY-6",
    **{name: name for name in ("PY-2", "PY-2.matched", "PY-4", "PY-4.stable", "PY-5", "PY-6", "PY-7", "PY-10")},
}  # fmt: skip
NEEDED_TOGETHER = {
    "PY-2": {"PY-2", "PY-2.matched"}, "PY-2.matched": {"PY-2", "PY-2.matched"}, "PY-4": {"PY-4", "PY-4.sae"},
}  # fmt: skip
"""Claims that one module decides ask for all predictions of theirs."""


@pytest.fixture
def no_model(monkeypatch):
    """A language model that must not be read."""
    monkeypatch.setattr("pythia.subject.load_subject", lambda *_, **__: pytest.fail("a model was read"))


def judged_by(path, out, *claim_ids):
    more = [argument for claim_id in claim_ids for argument in ("--claim", claim_id)]
    return cli.run(["verify", "pythia", "--predictions", str(path), "--out", str(out), *more])


def assert_refused(code, capsys, out, *fragments):
    told = capsys.readouterr()
    assert code == 2
    assert told.out == ""
    assert told.err.count("\n") == 1
    for fragment in ("expected", "got", "remedy", *fragments):
        assert fragment in told.err
    assert not out.exists()


def test_the_shipped_file_has_every_side_that_a_claim_needs():
    shipped = load_predictions(SHIPPED_PREDICTIONS)
    assert set(SIDES) == set(CLAIM_OF)
    for name, side in SIDES.items():
        assert getattr(shipped[name], side) is not None


@pytest.mark.parametrize("name", sorted(CLAIM_OF))
def test_a_file_without_what_a_claim_of_this_run_needs_is_refused_before_any_model_is_read(
    name, tmp_path, no_model, capsys
):
    rest = [one for one in load_predictions(SHIPPED_PREDICTIONS).values() if one.id != name]
    write_predictions(tmp_path / "mine.json", rest)
    code = judged_by(tmp_path / "mine.json", tmp_path / "out", CLAIM_OF[name])
    assert_refused(code, capsys, tmp_path / "out", f"a prediction {name}", "PY-3", "mine.json")


@pytest.mark.parametrize("name", sorted(CLAIM_OF))
def test_a_side_that_is_open_where_a_claim_of_this_run_needs_it_is_refused_before_any_model_is_read(
    name, tmp_path, no_model, capsys
):
    shipped = load_predictions(SHIPPED_PREDICTIONS)
    other = {"low": "high", "high": "low"}[SIDES[name]]
    shipped[name] = dataclasses.replace(shipped[name], **{SIDES[name]: None, other: 1.0})
    write_predictions(tmp_path / "mine.json", shipped.values())
    code = judged_by(tmp_path / "mine.json", tmp_path / "out", CLAIM_OF[name])
    assert_refused(code, capsys, tmp_path / "out", f"a number as {SIDES[name]} of the prediction {name}", "null")


class _ModelRead(Exception):
    """Past all refusals of predictions."""


@pytest.mark.parametrize("name", sorted(CLAIM_OF))
def test_what_no_claim_of_this_run_needs_may_be_missing(name, tmp_path, monkeypatch):
    def read(*_, **__):
        raise _ModelRead

    monkeypatch.setattr("pythia.subject.load_subject", read)
    together = NEEDED_TOGETHER.get(name, {name})
    needed = [
        one
        for one in load_predictions(SHIPPED_PREDICTIONS).values()
        if one.id in together or CLAIM_OF.get(one.id) == CLAIM_OF[name]
    ]
    write_predictions(tmp_path / "mine.json", needed)
    with pytest.raises(_ModelRead):
        judged_by(tmp_path / "mine.json", tmp_path / "out", CLAIM_OF[name])


def test_proofs_and_toys_need_no_predictions(tmp_path):
    write_predictions(tmp_path / "mine.json", [])
    assert cli.run(["verify", "proofs", "--claim", "LN-1", "--predictions", str(tmp_path / "mine.json")]) == 0


@pytest.mark.parametrize("content", [None, b"", b"not json", b"{}", b"\xff\xfe"])
def test_a_folder_or_a_file_that_holds_no_predictions_is_refused(content, tmp_path, no_model, capsys):
    path = tmp_path / "mine.json"
    path.mkdir() if content is None else path.write_bytes(content)
    assert_refused(judged_by(path, tmp_path / "out", "PY-7"), capsys, tmp_path / "out", "predictions", "mine.json")


def test_what_was_checked_before_the_run_is_what_judges(tmp_path, monkeypatch):
    mine = tmp_path / "mine.json"
    mine.write_bytes(SHIPPED_PREDICTIONS.read_bytes())
    run = Run(seed=0, directory=tmp_path, subject=Subject(predictions=mine))
    monkeypatch.setattr("pythia.subject.corpus", lambda run: None)
    discovered.preflight(run)
    mine.unlink()
    assert prediction(run, "PY-4") == (load_predictions(SHIPPED_PREDICTIONS)["PY-4"], "given by --predictions")


def test_toys_are_read_before_language_models_and_never_read_one():
    assert list(load_suites()).index("toy_models") < list(load_suites()).index("pythia")
    for path in Path(toy_models.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(module.split(".")[0] == "pythia" for module in modules), path
