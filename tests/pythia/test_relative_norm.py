"""PY-2 against the Hugging Face forward pass with a hook, and a judge that has to be able to say no."""

import pytest
import torch

from pythia import relative_norm
from pythia.catalogue.norms import CLAIMS
from pythia.corpus import read_corpus
from pythia.loading import load_model
from pythia.relative_norm import MATCHED, PLAIN, check_opposite_order, check_own_direction, check_swaps, check_turns
from pythia.swaps import Swaps, layers_at, measure, paired_positions
from sensverify.claims import Run, Subject
from sensverify.errors import InputError
from sensverify.geometry import Centring
from sensverify.swaps import (
    ANYWHERE,
    DIRECTION,
    DOWN,
    HALVED,
    LADDER,
    NORM,
    OWN,
    TOWARDS,
    TURN,
    UP,
    laddered,
    swapped,
    turned,
)
from sensverify.verdicts import Status

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def loaded(tiny_model_folder):
    return load_model(str(tiny_model_folder), dtype="float64")


@pytest.fixture(scope="module")
def text(loaded, tiny_text):
    return read_corpus(loaded, tiny_text, length=16)


def log_probabilities(model, layer, tokens, position, replacement):
    """The model's own forward pass with one activation replaced; ``[L, V]``."""

    def put(_module, _args, output):
        stream = output if isinstance(output, torch.Tensor) else output[0]
        if replacement is not None:
            stream[0, position] = replacement
        return output

    handle = model.network.gpt_neox.layers[layer].register_forward_hook(put)
    try:
        return torch.log_softmax(model.network(input_ids=tokens[None], use_cache=False).logits[0], -1)
    finally:
        handle.remove()


@torch.no_grad()
def test_the_swaps_are_those_of_the_whole_model(loaded, text):
    layer, contexts = 1, 6
    swaps = measure(loaded, text, layer, contexts=contexts, later=(1, 3), seed=5)
    generator = torch.Generator().manual_seed(5)
    rows = torch.randperm(len(text.held_out), generator=generator)[:contexts]
    windows, real = text.held_out[rows], text.held_out_real[rows]
    own, positions = paired_positions(real, real, (1, 3), generator)
    streams = loaded.network(input_ids=windows, output_hidden_states=True).hidden_states[layer + 1]
    for i, (row, p) in enumerate(zip(own.tolist(), positions.tolist(), strict=True)):
        x, y = streams[row, p], streams[(row + 1) % contexts, p]
        mean, a, b = x.mean(), x - x.mean(), y - y.mean()
        made = {
            DIRECTION: b * (a.norm() / b.norm()) + mean,
            NORM: a * (b.norm() / a.norm()) + mean,
            HALVED: a / 2 + mean,
        }
        clean = log_probabilities(loaded, layer, windows[row], p, None)
        after = {name: log_probabilities(loaded, layer, windows[row], p, x) for name, x in made.items()}
        kl = {name: (clean.exp() * (clean - q)).sum(-1) for name, q in after.items()}
        for name in made:
            assert float(swaps.effects[name][i]) == pytest.approx(float(kl[name][p]), rel=1e-5, abs=1e-12)
        for name in (DIRECTION, NORM):
            expected = float(kl[name][[p + 1, p + 3]].mean())
            assert float(swaps.later[name][i]) == pytest.approx(expected, rel=1e-5, abs=1e-12)
        assert float(swaps.change[i]) == pytest.approx(abs(float(b.norm() / a.norm()) - 1))
    assert float(swaps.effects[OWN].max()) < 1e-14  # rounding


@pytest.mark.parametrize("centring", list(Centring))
def test_turns_are_as_long_as_the_change_of_norm(centring):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 60, generator=generator, dtype=torch.float64) + 1
    other = 1.5 * torch.randn(20, 60, generator=generator, dtype=torch.float64)
    made = swapped(x, other, centring, generator)
    torch.testing.assert_close((made[TURN] - x).norm(dim=-1), (made[NORM] - x).norm(dim=-1))
    project = centring.project
    for name in (DIRECTION, TURN, OWN):
        torch.testing.assert_close(project(made[name]).norm(dim=-1), project(x).norm(dim=-1))
    torch.testing.assert_close(project(made[NORM]).norm(dim=-1), project(other).norm(dim=-1))
    for name, steps in laddered(x, other, centring, generator).items():
        lengths = (steps - x).norm(dim=-1) / project(x).norm(dim=-1)
        torch.testing.assert_close(lengths, torch.tensor(LADDER, dtype=torch.float64)[:, None].expand(-1, 20))
        norms = project(steps).norm(dim=-1) / project(x).norm(dim=-1)
        changed = {UP: 1.0, DOWN: -1.0, TOWARDS: 0.0, ANYWHERE: 0.0}[name]
        torch.testing.assert_close(norms, 1 + changed * lengths)


def test_a_turn_goes_the_short_way_and_a_norm_more_than_threefold_to_the_opposite_point():
    unit, towards = torch.eye(3, dtype=torch.float64)[:2, None]
    there = turned(unit, towards, torch.tensor([[2**0.5]], dtype=torch.float64))
    torch.testing.assert_close(there, towards)
    torch.testing.assert_close(turned(unit, towards, torch.tensor([[5.0]], dtype=torch.float64)), -unit)


def test_positions_are_tokens_of_both_texts_and_never_the_first():
    counted = torch.zeros(4, 8, dtype=torch.bool)
    counted[0, :6], counted[1, :3], counted[2], counted[3, 0] = True, True, True, True
    rows, positions = paired_positions(counted, counted, (), torch.Generator().manual_seed(0))
    assert rows.tolist() == [0, 1]  # window 2 meets window 3, whose only token is the first
    assert all(0 < p < 3 for p in positions.tolist())
    with pytest.raises(InputError, match="same position"):
        paired_positions(counted[3:], counted[3:], (), torch.Generator())
    assert paired_positions(counted[:2], counted[:2], (1,), torch.Generator().manual_seed(0))[1].tolist() == [1, 1]


@pytest.mark.parametrize(("depth", "layers"), [(2, [0]), (4, [0, 1, 2]), (6, [1, 2, 4]), (36, [8, 17, 26])])
def test_depths_are_quarters_of_the_model(depth, layers):
    assert layers_at(depth) == layers


def test_places_say_which_share_of_the_depth_they_are(tmp_path):
    """The blocks nearest to 25, 50 and 75 % of six are after 2, 3 and 5 of them."""
    one = torch.ones(4)
    places = [Swaps(layer, 6, {}, {}, {}, one, one).place for layer in layers_at(6)]
    assert [place[-18:] for place in places] == [
        "(33 % of the depth)"[-18:],
        "(50 % of the depth)"[-18:],
        "(83 % of the depth)"[-18:],
    ]
    claim = next(claim for claim in CLAIMS if claim.id == PLAIN)
    assert "blocks nearest to 25, 50 and 75 %" in claim.statement


def test_curves_have_the_intervals_of_their_medians_and_say_what_is_more(tmp_path):
    steps = torch.tensor(LADDER)[:, None] ** 2 * torch.linspace(0.5, 1.5, 41)
    ladder = {UP: steps, DOWN: steps, TOWARDS: 3 * steps, ANYWHERE: steps}
    curve = relative_norm._ladder(Swaps(1, 6, {}, {}, ladder, torch.ones(41), torch.ones(41)), 0)
    assert set(curve.bands) == set(curve.series) == set(ladder)
    for name, line in curve.series.items():
        assert line == pytest.approx(ladder[name].median(dim=1).values.tolist())
        for value, (low, high) in zip(line, curve.bands[name], strict=True):
            assert 0.6 * value < low < value < high < 1.5 * value
    assert "3 times as much as making the activation longer does at a length of 0.01" in curve.caption


def planted(tmp_path, direction, norm, *, contexts=40, turn=None):
    """A run in which three depths have been measured, with these effects of each context."""
    run = Run(seed=0, directory=tmp_path)

    def swaps(layer, top, bottom):
        effects = dict.fromkeys((DIRECTION, NORM, OWN, HALVED, TURN), torch.ones(contexts))
        effects |= {DIRECTION: top, NORM: bottom, OWN: torch.zeros(contexts), TURN: top if turn is None else turn}
        return Swaps(layer, 6, effects, {}, {}, torch.ones(contexts), torch.zeros(contexts))

    run.shared("pythia.relative_norm", lambda: [swaps(i, *pair) for i, pair in enumerate(zip(direction, norm))])  # noqa: B905
    return run


def test_intervals_of_the_ledger_and_of_the_table_say_their_levels(tmp_path):
    generator = torch.Generator().manual_seed(0)
    spread = torch.exp(torch.randn(40, generator=generator))
    run = planted(tmp_path, [spread], [torch.ones(40)])
    evidence = judged(run).evidence
    assert "90 % interval: sign tests at 5 %" in evidence["predictions_judged"][0]["of"]
    assert evidence["intervals_of_median_ratios"].startswith("95 %, bootstrap")
    ledger = evidence["predictions_judged"][0]["measured"]
    inside = float(((spread > ledger["low"]) & (spread < ledger["high"])).double().mean())
    assert 0.2 < inside < 0.4  # order statistics 15 to 26 of 40, as binomial tails at 5 % have it


def judged(run, top=DIRECTION, bottom=NORM):
    return relative_norm._judge(run, PLAIN, (top, bottom))


def test_a_model_that_reads_norms_is_refuted(tmp_path):
    strong, weak = torch.full((40,), 2.0), torch.full((40,), 0.1)
    run = planted(tmp_path, [strong, strong, weak], [weak, weak, strong])
    finding = judged(run)
    assert finding.status is Status.REFUTED
    assert finding.witness["layer"] == 2
    assert judged(planted(tmp_path, [strong] * 3, [weak] * 3)).status is Status.SUPPORTED


def test_three_depths_that_would_each_pass_alone_do_not_pass_together(tmp_path):
    """26 of 40 contexts: one sided p = 0.04, and 0.12 by Holm."""
    top = torch.ones(40)
    bottom = torch.where(torch.arange(40) < 26, 0.5, 2.0)
    assert judged(planted(tmp_path, [top], [bottom])).status is Status.SUPPORTED
    assert judged(planted(tmp_path, [top] * 3, [bottom] * 3)).status is Status.INCONCLUSIVE


def test_twins_are_refuted_and_own_directions_move_nothing(tmp_path):
    strong, weak = torch.full((40,), 2.0), torch.full((40,), 0.1)
    run = planted(tmp_path, [strong] * 3, [weak] * 3)
    assert check_own_direction(run).status is Status.REFUTED
    assert check_opposite_order(run).status is Status.REFUTED


def test_matched_turns_are_judged_by_themselves(tmp_path, tiny_model_folder, tiny_text):
    strong, weak = torch.full((40,), 2.0), torch.full((40,), 0.1)
    run = planted(tmp_path, [strong] * 3, [weak] * 3, turn=torch.full((40,), 0.01))
    run.shared("pythia.relative_norm shuffled", list)
    finding = relative_norm._judge(run, MATCHED, (TURN, NORM))
    assert finding.status is Status.REFUTED


def test_the_claims_run_on_a_model_of_a_user(tmp_path, tiny_model_folder, tiny_text):
    run = Run(seed=0, directory=tmp_path, subject=Subject(model=str(tiny_model_folder), text=tiny_text))
    for check in (check_swaps, check_turns):
        finding = check(run)
        assert len(finding.evidence["depths"]) == 3
        assert finding.status in (Status.SUPPORTED, Status.REFUTED, Status.INCONCLUSIVE)
    finding = check_swaps(run)
    swapped_table, table = finding.exhibits[:2]
    for row, figures in zip(swapped_table.rows, finding.evidence["depths"].values(), strict=True):
        assert row[1] == pytest.approx(figures["median_nats"][DIRECTION], rel=0.01)
        assert row[2] == pytest.approx(figures["median_nats"][NORM], rel=0.01)
    assert "up to 4 tokens on" in table.caption
    assert table.rows[0][table.columns.index("own direction, largest")] < 1e-6
    assert table.rows[-1][table.columns.index("ratio later")] == "norm without effect"
    assert check_own_direction(run).status is Status.REFUTED
