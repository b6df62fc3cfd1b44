"""The norm budget on dictionaries whose answer is known, and on trained ones."""

import numpy
import pytest
import torch

from sensverify.claims import Run
from sensverify.verdicts import Status
from toy_models import budget
from toy_models.budget import account, most_present
from toy_models.catalogue.laws import claims
from toy_models.superposition import SuperpositionConfig, SuperpositionModel


def model_of(columns, density=0.3):
    config = SuperpositionConfig(features=columns.shape[1], width=columns.shape[0], density=density)
    return SuperpositionModel(
        config=config,
        seed=0,
        weights=columns,
        bias=torch.zeros(columns.shape[1]),
        loss=0.0,
        loss_of_zero=1.0,
        planted=True,
    )


def test_an_orthonormal_basis_spends_exactly_one():
    one = account(model_of(torch.eye(5)), 50, "basis")
    assert one.largest_eigenvalue == pytest.approx(1)
    assert one.spent.tolist() == pytest.approx([1.0] * 50)


def test_a_tight_frame_spends_all_of_its_budget_in_every_context():
    frame = torch.cat([torch.eye(4), -torch.eye(4)], 1)
    one = account(model_of(frame), 50, "opposite pairs")
    assert one.largest_eigenvalue == pytest.approx(2)
    assert one.spent.tolist() == pytest.approx([2.0] * 50)
    assert one.overlap == pytest.approx(1)


def test_equal_overlaps_along_the_sum_reach_the_bound():
    """RN-4 is sharp: k vectors with inner products μ, and x along their sum."""
    k, mu = 5, 0.3
    overlaps = torch.full((k, k), mu, dtype=torch.float64).fill_diagonal_(1)
    tau = ((1 + (k - 1) * mu) / k) ** 0.5
    sets = most_present(torch.full((1, k), tau, dtype=torch.float64), overlaps, signed=False)
    assert float(sets.bound[0, -1]) == pytest.approx(k)
    assert budget._fullness(sets) == pytest.approx(1)


@pytest.mark.parametrize("signed", [False, True])
def test_sets_are_the_most_present_features_with_their_largest_overlap(signed):
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(9, 4, generator=generator, dtype=torch.float64))
    x = torch.nn.functional.normalize(torch.randn(6, 4, generator=generator, dtype=torch.float64))
    rho, overlaps = x @ features.T, features @ features.T
    sets = most_present(rho, overlaps, signed=signed)
    for b in range(6):
        order = sorted(range(9), key=lambda i: -(float(rho[b, i]) if signed else abs(float(rho[b, i]))))
        for k in range(2, 10):
            chosen = order[:k]
            pairs = [float(overlaps[i, j]) for i in chosen for j in chosen if i != j]
            mu = max(pairs) if signed else max(map(abs, pairs))
            tau = float(rho[b, order[k - 1]])
            assert float(sets.mu[b, k - 1]) == pytest.approx(mu)
            assert float(sets.tau[b, k - 1]) == pytest.approx(tau if signed else abs(tau))
            claimed = mu < tau**2 and float(sets.tau[b, k - 1]) > 0
            assert bool(sets.claimed[b, k - 1]) == claimed
            if claimed:
                assert float(sets.bound[b, k - 1]) == pytest.approx((1 - mu) / (tau**2 - mu))
                assert k <= float(sets.bound[b, k - 1]) * (1 + 1e-12)


def test_the_statement_names_the_largest_set_that_is_looked_at():
    (claim,) = (claim for claim in claims if claim.id == "TM-6")
    assert f"k ≤ {budget.LARGEST_SET} features" in claim.statement
    assert any(f"every k from 2 to {budget.LARGEST_SET}:" in hypothesis for hypothesis in claim.hypotheses)
    many = torch.full((1, budget.LARGEST_SET + 9), 0.1)
    assert most_present(many, torch.eye(many.shape[1]), signed=True).tau.shape[1] == budget.LARGEST_SET


def test_presences_are_those_of_numpy():
    columns = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    one = account(model_of(columns), 20, "random")
    units = (columns / columns.norm(dim=0)).double().numpy()
    assert one.largest_eigenvalue == pytest.approx(numpy.linalg.norm(units, 2) ** 2)
    assert one.rho.shape == (20, 7)
    assert float(one.spent.max()) <= one.largest_eigenvalue * (1 + 1e-12)
    assert one.count(0.5).tolist() == [int((abs(row) >= 0.5).sum()) for row in one.rho.numpy()]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of small models; the check itself is the product's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "WIDTH", 8)
        patch.setattr(budget, "STEPS", 150)
        yield Run(seed=3, directory=tmp_path_factory.mktemp("budget"))


def test_no_trained_model_overspends(run):
    finding = budget.check_budget(run)
    assert finding.status is Status.SUPPORTED
    assert min(finding.evidence["sets_with_a_bound"].values()) > 0
    assert finding.evidence["seeds"] == [3600, 3601, 3602]
    for label in budget.accounts(run):
        assert finding.evidence[label]["seeds"] == [3600, 3601, 3602]
        assert [model["seed"] for model in finding.evidence[label]["trained_models"]] == [3600, 3601, 3602]
        assert all(0 < model["loss"] < model["loss_of_zero"] for model in finding.evidence[label]["trained_models"])
    for exhibit in finding.exhibits:
        exhibit.to_json()


@pytest.mark.parametrize("twin", [budget.twin_half_the_squares, budget.twin_half_the_count, budget.twin_orthonormal])
def test_every_false_twin_is_refuted_with_a_context(run, twin):
    finding = twin(run)
    assert finding.status is Status.REFUTED
    assert finding.evidence["seeds"] == [3600, 3601, 3602]
    assert finding.witness["context"] >= 0
