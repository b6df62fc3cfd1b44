"""The published score: ours with the activation brought to norm 1, and comparisons of ratios that are paired."""

import pytest
import torch

from sensverify import formulas
from sensverify.geometry import Centring, presence, random_directions
from sensverify.published import PUBLISHED_LAW, UnitNormReadout, compare_ratios, null_share, share_interval
from sensverify.readout import Batch
from sensverify.scoring import angular_distance
from sensverify.sensitivity import PresenceLaw, Probe, estimate_on

WIDTH = 16


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Block:
    """``F(x) = x + W ReLU(V n(x))`` with the norm's own centring, or what the norm puts out alone."""

    width, device = WIDTH, torch.device("cpu")

    def __init__(self, *, centring=Centring.MEAN, residual=True):
        self.centring, self.residual = centring, residual
        self.into = torch.randn(2 * WIDTH, WIDTH, generator=seeded(1), dtype=torch.float64) / WIDTH**0.5
        self.out = torch.randn(WIDTH, 2 * WIDTH, generator=seeded(2), dtype=torch.float64) / WIDTH**0.5

    def sample(self, count, generator):
        return Batch(5 * torch.randn(count, WIDTH, generator=generator, dtype=torch.float64), None)

    def clean(self, batch):
        return self.read(batch, batch.x)

    def read(self, batch, x):
        normed = formulas.layer_norm(x) if self.centring is Centring.MEAN else formulas.rms_norm(x)
        added = torch.relu(normed @ self.into.T) @ self.out.T
        return x + added if self.residual else added

    def describe(self):
        return {"name": "block"}


@pytest.fixture
def directions():
    return random_directions(5, WIDTH, Centring.MEAN, seeded(3), dtype=torch.float64)


@pytest.mark.parametrize("centring", list(Centring))
def test_the_score_is_that_of_the_published_formula(centring, directions):
    """Against ``αs + √(1−α²)v`` row by row, of activations that have no mean, as folded weights leave them."""
    block = Block(centring=centring)
    batch = Batch(formulas.centre(block.sample(8, seeded()).x), None)
    law = PresenceLaw(low=0.4, high=0.4)
    estimate = estimate_on(UnitNormReadout(block), batch, directions, generator=seeded(), draws=1, probe=Probe(law=law))
    for i, s in enumerate(directions):
        for j, x in enumerate(batch.x):
            rotated = formulas.unit_norm_intervention(x, s, 0.4)
            assert float(rotated.norm()) == pytest.approx(1)
            expected = angular_distance(block.read(batch, x), block.read(batch, rotated))
            assert float(estimate.effects[i, j]) == pytest.approx(float(expected), rel=1e-9)


def test_what_the_norm_cannot_see_is_carried_over():
    block = Block()
    batch = block.sample(4, seeded())
    moved = {}

    class Spy(Block):
        def read(self, batch, x):
            moved["x"] = x
            return super().read(batch, x)

    UnitNormReadout(Spy()).read(batch, batch.x[None])
    assert torch.allclose(moved["x"].mean(-1), batch.x.mean(-1)[None])
    assert torch.allclose(formulas.centre(moved["x"]).norm(dim=-1), torch.ones(1, 4, dtype=torch.float64))


def test_at_the_null_rotation_the_shrinking_remains_in_a_residual_block_and_nothing_behind_a_norm(directions):
    batch = Block().sample(32, seeded())
    for residual, expected in ((True, True), (False, False)):
        block = Block(residual=residual)
        score = UnitNormReadout(block)
        estimate = estimate_on(score, batch, directions, generator=seeded())
        share = share_interval(null_share(score, batch, estimate, directions), seeded())
        assert (share.low > 0.3) is expected
        assert (share.high < 1e-12) is not expected
    centred = formulas.centre(batch.x)
    block = Block()
    shrunk = centred / centred.norm(dim=-1, keepdim=True) + batch.x - centred
    distances = angular_distance(block.clean(batch), block.read(batch, shrunk))
    estimate = estimate_on(UnitNormReadout(block), batch, directions, generator=seeded())
    torch.testing.assert_close(null_share(UnitNormReadout(block), batch, estimate, directions)[0], distances)


def test_our_own_score_has_no_null_share(directions):
    block = Block()
    batch = block.sample(16, seeded())
    estimate = estimate_on(block, batch, directions, generator=seeded())
    assert share_interval(null_share(block, batch, estimate, directions), seeded()).high < 1e-12


def test_the_published_factor_gives_the_law_of_our_default():
    assert PresenceLaw() == PUBLISHED_LAW
    rho = presence(torch.randn(3, WIDTH), torch.randn(2, WIDTH), Centring.NONE)
    assert rho.shape == (2, 3)


def test_ratios_of_a_variant_that_is_the_same_do_not_change_at_all():
    table = torch.rand(6, 40, generator=seeded()), torch.rand(9, 40, generator=seeded(1))
    found = compare_ratios(
        {"ours": table[0], "same": table[0], "scaled": 3 * table[0]},
        {"ours": table[1], "same": table[1], "scaled": 3 * table[1]},
        "ours",
        seeded(),
    )
    for name in ("same", "scaled"):
        change = found[name].change
        assert (change.low, change.value, change.high) == pytest.approx((1, 1, 1))
    assert found["ours"].ratio.value == pytest.approx(float(table[0].mean() / table[1].mean()), rel=1e-6)


def test_a_part_added_to_every_effect_draws_ratios_towards_one():
    top, bottom = 2 + torch.rand(20, 200, generator=seeded()), 1 + torch.rand(20, 200, generator=seeded(1))
    found = compare_ratios(
        {"ours": top, "shifted": top + 10}, {"ours": bottom, "shifted": bottom + 10}, "ours", seeded()
    )
    assert found["shifted"].change.high < 0.8
    assert 1 < found["shifted"].ratio.low < found["shifted"].ratio.high < found["ours"].ratio.low


def test_paired_intervals_cover_a_known_quotient():
    """Unpaired, the interval of the quotient would be several times as wide as what contexts have in common."""
    missed = 0
    for trial in range(40):
        generator = seeded(100 + trial)
        shared = torch.rand(1, 50, generator=generator) * 5 + 0.5
        top = 2 * shared + torch.rand(8, 50, generator=generator)  # mean 2·3 + 1/2
        bottom = shared + torch.rand(8, 50, generator=generator)  # mean 3 + 1/2
        expected = ((6.5 + 1) / (3.5 + 1)) / (6.5 / 3.5)
        found = compare_ratios(
            {"ours": top, "one more": top + 1}, {"ours": bottom, "one more": bottom + 1}, "ours", generator, 400
        )["one more"].change
        missed += not found.low <= expected <= found.high
    assert missed <= 7


def test_tables_of_other_contexts_are_refused():
    with pytest.raises(ValueError, match="same directions"):
        compare_ratios(
            {"ours": torch.ones(2, 3), "b": torch.ones(2, 4)},
            {"ours": torch.ones(2, 3), "b": torch.ones(2, 4)},
            "ours",
            seeded(),
        )
