"""Every method through the one interface: same data, same budget, same kind of answer."""

import importlib.util
import json
from types import SimpleNamespace

import pytest
import torch

from sensverify.autoencoders import Penalty, TopK
from sensverify.discovery import SearchOptions, search
from sensverify.errors import InputError
from sensverify.geometry import Centring
from sensverify.readout import Batch
from sensverify.selectivity import is_privileged
from toy_models.methods import (
    PEAK,
    PLAIN,
    PLAIN_ABSENT,
    RELU,
    SELECTIVE,
    SEQUENTIAL,
    TOP_K,
    EngineSearch,
    FixedSample,
    IndependentComponents,
    PrincipalComponents,
    RandomDirections,
    SparseAutoencoder,
    Spectral,
    Subject,
    draw_subject,
    standard_methods,
)
from toy_models.recovery import recovery
from toy_models.superposition import SuperpositionConfig, SuperpositionModel, SuperpositionReadout

WIDTH, FEATURES = 12, 16
SEARCHES = (PLAIN, PLAIN_ABSENT, SEQUENTIAL, SELECTIVE, PEAK)
needs_sklearn = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="the extra toys is not installed"
)
METHODS = [
    pytest.param(method, marks=needs_sklearn if method.name in ("PCA", "FastICA") else (), id=method.name)
    for method in standard_methods(active=2).values()
]


class Centred(SuperpositionReadout):
    """The same, behind a norm that does not see the all-ones direction."""

    centring = Centring.MEAN


class Noting(SuperpositionReadout):
    """Counts the contexts drawn from the model itself, and (direction, context) pairs read."""

    drawn = pairs = 0

    def sample(self, count, generator):
        self.drawn += count
        return super().sample(count, generator)

    def read(self, batch, x):
        self.pairs += x.shape[:-1].numel()
        return super().read(batch, x)


def toy(kind=SuperpositionReadout, width=WIDTH):
    """An untrained model with random unit features: enough for an interface."""
    config = SuperpositionConfig(features=FEATURES, width=width, density=0.1)
    weights = torch.nn.functional.normalize(
        torch.randn(width, FEATURES, generator=torch.Generator().manual_seed(0)), dim=0
    )
    bias = torch.full((FEATURES,), -0.1)
    return kind(
        SuperpositionModel(config=config, seed=0, weights=weights, bias=bias, loss=float("nan"), loss_of_zero=1.0)
    )


def subject(kind=SuperpositionReadout, **changes):
    return draw_subject(toy(kind), 400, torch.Generator().manual_seed(1), **{"presentations": 640, **changes})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [SuperpositionReadout, Centred])
@pytest.mark.parametrize("count", [1, 4, 14])
def test_every_method_answers_with_unit_directions_of_the_centred_space(method, kind, count):
    result = method.find(subject(kind), count, torch.Generator().manual_seed(2))
    available = WIDTH - (kind is Centred)
    limited = isinstance(method, PrincipalComponents | IndependentComponents | Spectral)
    assert result.directions.shape == (min(count, 2 * available) if limited else count, WIDTH)
    assert result.directions.dtype == torch.float32
    assert result.directions.norm(dim=1).tolist() == pytest.approx([1.0] * len(result.directions), abs=1e-5)
    if kind is Centred:
        assert float(result.directions.sum(1).abs().max()) < 1e-5
    assert (result.method, result.asked) == (method.name, count)
    assert result.seconds > 0
    json.dumps(dict(result.figures))


@pytest.mark.parametrize("method", METHODS)
def test_all_chance_comes_from_the_generator(method):
    torch.manual_seed(0)
    first = method.find(subject(), 3, torch.Generator().manual_seed(5)).directions
    torch.manual_seed(1)
    again = method.find(subject(), 3, torch.Generator().manual_seed(5)).directions
    other = method.find(subject(), 3, torch.Generator().manual_seed(6)).directions
    assert first.equal(again)
    assert method.name in ("PCA", "FastICA") or not first.equal(other)


@pytest.mark.parametrize("method", METHODS)
def test_no_method_sees_more_contexts_than_it_was_given_or_spends_more_than_its_budget(method):
    given = subject(Noting, presentations=2688)
    result = method.find(given, 3, torch.Generator().manual_seed(0))
    assert given.readout.inner.drawn == 400
    assert result.figures["presentations"] <= getattr(method, "generosity", 1) * 2688
    if isinstance(method, EngineSearch):
        passes = 2 if method.options.probe.reference == "absent" else 1
        assert result.figures["passes"] == passes * result.figures["presentations"]
        assert given.readout.inner.pairs == 3 * result.figures["passes"]
    if isinstance(method, SparseAutoencoder | PrincipalComponents | IndependentComponents | RandomDirections):
        assert given.readout.inner.pairs == 0


def test_methods_have_different_names():
    methods = standard_methods(active=2)
    assert list(methods) == [method.name for method in methods.values()]
    assert len(methods) == 11
    sparse = (TopK(active=1), TopK(active=2), Penalty(strength=0.1), Penalty(strength=0.2))
    assert len({SparseAutoencoder(sparsity=sparsity).name for sparsity in sparse}) == 4
    assert EngineSearch(label="from the spectral start").name == "from the spectral start"


def test_methods_that_leave_the_sign_open_say_so():
    found = {m.values[0].name: m for m in METHODS}
    for name, parameter in found.items():
        if not parameter.marks or importlib.util.find_spec("sklearn"):
            result = parameter.values[0].find(subject(), 2, torch.Generator().manual_seed(0))
            assert result.signed == (name in (*SEARCHES, TOP_K, RELU))


@needs_sklearn
@pytest.mark.parametrize(("name", "kept"), [("PCA", 12), ("FastICA", 12), ("spectral", 12)])
def test_beyond_their_number_components_come_with_their_negatives_at_no_cost(name, kept):
    method = standard_methods(active=2)[name]
    few, many = (method.find(subject(), count, torch.Generator().manual_seed(0)) for count in (kept, 20))
    assert (few.signed, many.signed) == (False, True)
    assert many.directions.shape == (20, WIDTH)
    assert many.directions[:kept].allclose(few.directions, atol=1e-5)
    assert many.directions[kept:].equal(-many.directions[: 20 - kept])
    assert len(method.find(subject(), 30, torch.Generator().manual_seed(0)).directions) == 2 * kept
    total = few.figures["presentations"] * kept
    assert total <= many.figures["presentations"] * 20 < total + 20


def test_the_engine_behind_the_interface_is_the_engine():
    options = SearchOptions(contexts=64)
    given = subject()
    found = EngineSearch(options=options).find(given, 3, torch.Generator().manual_seed(3))
    seed = int(torch.randint(2**31 - 1, (), generator=torch.Generator().manual_seed(3)))
    direct = search(given.readout, SearchOptions(directions=3, steps=10, contexts=64, seed=seed))
    assert found.figures["steps"] == 10
    assert found.directions.allclose(direct.directions, atol=1e-6)


def test_a_sequential_search_may_be_held_to_few_directions():
    method = standard_methods(active=2, sequential=2)[SEQUENTIAL]
    result = method.find(subject(), 5, torch.Generator().manual_seed(0))
    assert (len(result.directions), result.asked) == (2, 5)
    assert len(method.find(subject(), 1, torch.Generator().manual_seed(0)).directions) == 1


def test_a_readout_on_a_fixed_sample_has_a_privileged_basis_if_the_model_has():
    assert is_privileged(subject().readout)
    whole = toy()
    plain = FixedSample(SimpleNamespace(width=WIDTH), whole.sample(5, torch.Generator().manual_seed(0)))
    assert not is_privileged(plain)


@pytest.mark.parametrize("name", [PEAK, TOP_K])
def test_with_a_fair_budget_features_are_found(name):
    """Density 0.1, little superposition: either way of searching does much better than chance."""
    readout = toy()
    features = readout.model.feature_directions
    given = draw_subject(readout, 4000, torch.Generator().manual_seed(1), presentations=60 * 128)
    method = standard_methods(active=2)[name]
    found = method.find(given, FEATURES, torch.Generator().manual_seed(0)).directions
    chance = RandomDirections().find(given, FEATURES, torch.Generator().manual_seed(0)).directions
    assert recovery(found, features).mean_cosine > recovery(chance, features).mean_cosine + 0.2


def test_a_fixed_sample_returns_only_its_own_rows_and_reads_like_the_model():
    given = subject()
    batch = given.readout.sample(50, torch.Generator().manual_seed(0))
    rows = {tuple(row) for row in given.readout.batch.x.tolist()}
    assert {tuple(row) for row in batch.x.tolist()} <= rows
    assert given.readout.clean(batch).equal(toy().clean(batch))
    assert given.readout.describe()["fixed_contexts"] == 400
    assert given.activations.equal(given.readout.batch.x)


def test_a_state_with_a_row_per_context_goes_with_its_row():
    x = torch.arange(12.0).reshape(6, 2)
    sample = FixedSample(toy(), Batch(x, x.sum(1))).sample(20, torch.Generator().manual_seed(0))
    assert sample.state.equal(sample.x.sum(1))


def test_a_state_that_cannot_be_drawn_from_is_refused():
    with pytest.raises(InputError, match="one tensor with a row per context"):
        FixedSample(toy(), Batch(torch.eye(3), {"tokens": [1, 2, 3]}))


@pytest.mark.parametrize("method", METHODS)
def test_no_directions_at_all_are_refused(method):
    with pytest.raises(InputError, match="at least 1 direction"):
        method.find(subject(), 0, torch.Generator())


@pytest.mark.parametrize(
    ("method", "needed"),
    [(EngineSearch(), 128), (Spectral(), 21), (SparseAutoencoder(sparsity=TopK(active=1), generosity=1), 128)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_a_budget_below_one_step_is_refused(method, needed):
    with pytest.raises(InputError, match=f"at least {needed} presentations"):
        method.find(subject(presentations=20), 2, torch.Generator())


def test_a_subject_without_a_budget_and_a_search_without_steps_are_refused():
    with pytest.raises(InputError, match="at least 1 presentation"):
        Subject(readout=subject().readout, presentations=0)
    with pytest.raises(InputError, match=r"Spectral\(\)"):
        EngineSearch(options=SearchOptions(method="spectral"))
