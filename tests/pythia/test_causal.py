"""PY-9: agreement of causal readings, on readings made up to agree or not, and on models whose effects are known."""

import dataclasses
import itertools

import pytest
import torch

from pythia import causal, compared
from pythia.catalogue.causal import CLAIMS
from pythia.causal import (
    ABLATION,
    JUDGED_READINGS,
    PAIRS,
    PINNED,
    WEIGHTS,
    Measured,
    against_random,
    check_agreement,
    check_reversed,
    difference,
    judge,
)
from pythia.causal_readings import (
    PRESENCE,
    PROMPT,
    PROMPTS,
    STEPS,
    Agreement,
    agree,
    interventions_on_logits,
    largest_null_change,
    pinned_log_ratios,
    ranks,
)
from pythia.corpus import read_corpus
from pythia.loading import load_model
from pythia.next_token import NextTokenReadout
from sensverify.claims import Run, Subject
from sensverify.geometry import Centring, random_directions
from sensverify.statistics import Interval, seed_mean
from sensverify.verdicts import Status

pytest.importorskip("transformers")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- Agreement -------------------------------------------------------------------------------------------------


def test_rank_correlations_are_spearmans_with_ties():
    scipy = pytest.importorskip("scipy.stats")
    first, second = normal(3, 50).round(decimals=0), normal(3, 50, seed=1).round(decimals=1)
    table = agree(first, second).table
    for i, j in itertools.product(range(3), range(3)):
        assert float(table[i, j]) == pytest.approx(scipy.spearmanr(first[i], second[j]).statistic, abs=1e-9)


def test_a_reading_that_is_the_same_for_all_tokens_agrees_with_nothing():
    assert torch.equal(ranks(torch.ones(1, 5)), torch.zeros(1, 5, dtype=torch.float64))


def test_agreement_beyond_chance_leaves_out_what_all_directions_share():
    shape = normal(1, 400)
    first, second = 3 * shape + normal(8, 400, seed=1), 3 * shape + normal(8, 400, seed=2)
    agreement = agree(first, second)
    assert float(agreement.matched.mean()) > 0.8, "they look alike"
    assert abs(float(agreement.beyond_chance.mean())) < 0.15, "but no more than any two of them"
    chance = float(sum(agreement.table[2, j] + agreement.table[j, 2] for j in range(8) if j != 2) / 14)
    by_hand = (float(agreement.table[2, 2]) - chance) / (1 - chance)
    assert float(agreement.beyond_chance[2]) == pytest.approx(by_hand)


def test_directions_that_nearly_point_the_same_way_can_still_agree_beyond_chance():
    shape, own = 5 * normal(1, 400), normal(8, 400, seed=1)
    exact = agree(shape + own, shape + own)
    assert float(exact.mispaired.mean()) > 0.9
    assert torch.allclose(exact.beyond_chance, torch.ones(8, dtype=torch.float64))


def test_p_values_are_those_of_all_permutations_of_tokens():
    first, second = normal(3, 5), normal(3, 5) + 2 * normal(3, 5, seed=1)
    means = [float(agree(first, second[:, order]).beyond_chance.mean()) for order in itertools.permutations(range(5))]
    expected = sum(mean >= means[0] - 1e-9 for mean in means) / len(means)
    assert 0.05 < expected < 0.6
    found = agree(first, second).p_by_tokens(torch.Generator().manual_seed(0), 9999)
    assert found == pytest.approx(expected, abs=0.02)


def test_p_values_are_those_of_all_permutations_of_directions_where_these_are_larger():
    first, second = normal(5, 40), normal(5, 40) + 4 * normal(5, 40, seed=1)
    agreement = agree(first, second)
    table = agreement.table
    own = float(table.diagonal().mean())
    means = [sum(float(table[i, order[i]]) for i in range(5)) / 5 for order in itertools.permutations(range(5))]
    expected = sum(mean >= own - 1e-12 for mean in means) / len(means)
    found = agreement.p_by_directions(torch.Generator().manual_seed(0), 9999)
    assert found == pytest.approx(expected, abs=0.02)
    by_tokens = agreement.p_by_tokens(torch.Generator().manual_seed(0), 999)
    assert agreement.p_value(torch.Generator().manual_seed(0), 999) == pytest.approx(max(by_tokens, found), abs=0.03)


def test_p_values_do_not_depend_on_how_many_permutations_are_held_at_once(monkeypatch):
    agreement = agree(normal(3, 40), normal(3, 40, seed=5))
    together = agreement.p_by_tokens(torch.Generator().manual_seed(0), 1999)
    monkeypatch.setattr("pythia.causal_readings.AT_ONCE", 3 * 40 * 7)
    assert agreement.p_by_tokens(torch.Generator().manual_seed(0), 1999) == pytest.approx(together, abs=0.04)
    assert 0.05 < together < 0.95


def test_a_resample_is_the_correlation_of_the_ranks_of_tokens_drawn_again():
    first, second = ranks(normal(4, 9)), ranks(normal(4, 9) + normal(4, 9, seed=1))
    drawn = torch.tensor([0, 0, 3, 5, 5, 5, 7, 8, 1])
    weights = torch.bincount(drawn, minlength=9)[None] / 9.0
    both = torch.corrcoef(torch.cat([first[:, drawn], second[:, drawn]]))[:4, 4:]
    off = [sum(float(both[i, j] + both[j, i]) for j in range(4) if j != i) / 6 for i in range(4)]
    by_hand = [(float(both[i, i]) - off[i]) / (1 - off[i]) for i in range(4)]
    found = Agreement(first=first, second=second).resampled(weights.double())[0]
    assert found.tolist() == pytest.approx(by_hand)


def low_dimensional(seed, directions=16, tokens=60, dimensions=4):
    """Two readings that have nothing to do with each other, but in each a direction is the same mixture of a few."""
    mixtures = normal(directions, dimensions, seed=3 * seed)
    return [mixtures @ normal(dimensions, tokens, seed=3 * seed + side) for side in (1, 2)]


def shared_by_all(seed, directions=16, tokens=60):
    """Readings that agree in what all directions share, alone, and which weighs more in some."""
    own = [normal(directions, tokens, seed=3 * seed + side) for side in (1, 2)]
    shape = 2 * normal(1, tokens, seed=900 + seed)
    return [one + shape * normal(directions, 1, seed=700 + seed + 1000 * i).exp() for i, one in enumerate(own)]


@pytest.mark.parametrize("readings", [low_dimensional, shared_by_all])
def test_readings_without_agreement_agree_by_chance_no_more_often_than_is_said(readings):
    """60 tokens, 16 directions that are no independent samples."""
    draws, missed, small, by_student, by_one_null = 120, 0, 0, 0, 0
    for seed in range(draws):
        first, second = readings(seed)
        row = Measured(layer=0, groups={"g": {"a": first, "b": second}}, tokens=60, largest_null_change=0.0)
        (one,) = causal.compare(row, "g", [("a", "b")], seed=seed, resamples=400)
        missed += one.beyond_chance.low > 0 or one.beyond_chance.high < 0
        small += one.p_value(199) <= 0.05
        student = seed_mean(one.agreement.beyond_chance)
        by_student += student.low > 0 or student.high < 0
        other = one.agreement.p_by_directions if readings is low_dimensional else one.agreement.p_by_tokens
        by_one_null += other(torch.Generator().manual_seed(seed), 199) <= 0.05
    assert by_one_null / draws > 0.15, "else these readings show nothing"
    assert readings is shared_by_all or by_student / draws > 0.15, "nor do these"
    assert missed / draws < 0.1
    assert small / draws < 0.1


# --- Judging ---------------------------------------------------------------------------------------------------


def made_up(*, shared=0.0, agreeing=JUDGED_READINGS, directions=12, tokens=500, noise=0.7):
    """Readings that agree but for noise, apart from those not in ``agreeing``, which are of nothing."""
    signal, shape = normal(directions, tokens), shared * normal(1, tokens, seed=9)
    found = {}
    for number, name in enumerate(JUDGED_READINGS, 1):
        own = signal if name in agreeing else normal(directions, tokens, seed=20 + number)
        found[name] = own + shape + noise * normal(directions, tokens, seed=number)
    found[causal.BOOST] = found[ABLATION]
    return [Measured(layer=0, groups={compared.FOUND: found}, tokens=tokens, largest_null_change=0.0)]


def test_readings_that_agree_are_supported_whatever_all_directions_share():
    for shared in (0.0, 2.0):
        finding = judge(made_up(shared=shared), seed=0)
        assert finding.status is Status.SUPPORTED
        assert finding.evidence["directions"] == 12
        for control in finding.evidence["shuffled_tokens"].values():
            assert control["low"] < 0.02
            assert abs(control["value"]) < 0.05
        assert max(pair["p_value"] for pair in finding.evidence["pairs"].values()) == pytest.approx(1 / 2000)


@pytest.mark.parametrize("odd", JUDGED_READINGS)
def test_one_reading_of_something_else_refutes_the_claim_and_is_named(odd):
    finding = judge(made_up(shared=2.0, agreeing=tuple(set(JUDGED_READINGS) - {odd}), tokens=1500), seed=0)
    assert finding.status is Status.REFUTED
    assert odd in finding.witness["pair"]
    untouched = next(name for name in finding.evidence["pairs"] if odd not in name)
    assert finding.evidence["pairs"][untouched]["beyond_chance"]["low"] > 0


def test_captions_say_whether_found_directions_agree_more_than_random_ones():
    more, alike, less = Interval(0.3, 0.2, 0.4), Interval(0.01, -0.1, 0.1), Interval(-0.3, -0.4, -0.2)
    mixed = against_random({"a": more, "b": alike, "c": less})
    assert "more than random ones in 1 of 3 judged rows and less in 1" in mixed
    assert "-0.30 to +0.30" in mixed
    assert "what any direction shows" in mixed
    assert "any direction" not in against_random({"a": more})
    assert against_random({}) == ""
    found = made_up()[0].groups[compared.FOUND]
    both = dataclasses.replace(made_up()[0], groups={compared.FOUND: found, compared.RANDOM: found})
    intervals, table, heatmap = judge([both], seed=0).exhibits
    for exhibit in (intervals, table):
        assert "more than random ones in 0 of 3 judged rows and less in 0" in exhibit.caption
    assert "by 1999 permutations, so that none is below 0.0005" in table.caption
    assert heatmap.x_label.startswith("direction")
    assert heatmap.y_label.startswith("direction")
    assert list(heatmap.rows) == list(heatmap.columns) == [str(i) for i in range(12)]


def test_few_directions_with_weak_agreement_decide_nothing():
    weak = judge(made_up(directions=4, tokens=30, noise=3.0), seed=0)
    assert weak.status is Status.INCONCLUSIVE
    assert weak.witness is None


def test_p_values_are_corrected_for_the_number_of_pairs():
    pairs = judge(made_up(agreeing=()), seed=0).evidence["pairs"].values()
    smallest = min(pairs, key=lambda pair: pair["p_value"])
    assert len(pairs) == len(PAIRS)
    assert smallest["p_value_holm"] == pytest.approx(min(1.0, 3 * smallest["p_value"]))


def test_one_interval_of_several_that_lies_outside_by_itself_alone_refutes_nothing():
    """As noise grows, the first pair to leave the prediction does so by its own interval, not by all together."""
    for noise in torch.linspace(3.0, 8.0, 26).tolist():
        finding = judge(made_up(directions=8, tokens=400, noise=noise), seed=0)
        pairs = finding.evidence["pairs"].values()
        alone = min(pair["beyond_chance"]["high"] for pair in pairs)
        if alone < causal.PREDICTION.low:
            break
    assert alone < causal.PREDICTION.low <= min(pair["beyond_chance_all_together"]["high"] for pair in pairs)
    assert finding.status is Status.INCONCLUSIVE


def test_intervals_that_hold_together_leave_enough_resamples_beyond_their_ends():
    rows = [dataclasses.replace(made_up(directions=4, tokens=20)[0], layer=layer) for layer in range(20)]
    evidence = judge(rows, seed=0).evidence
    assert evidence["resamples"] * 0.025 / 60 >= 5
    assert 60 / (1 + evidence["permutations"]) < causal.LEVEL, "else none could be supported"


def against_noise(first, second, seed):
    row = Measured(layer=0, groups={"g": {"a": first, "b": second}}, tokens=first.shape[1], largest_null_change=0.0)
    return causal.compare(row, "g", [("a", "b")], seed=seed)[0]


def test_the_difference_of_two_groups_leaves_out_the_tokens_that_they_share():
    """Groups that differ in nothing but directions: what is common to both cannot widen the interval."""
    first, second = normal(12, 300), normal(12, 300) + normal(12, 300, seed=1)
    one, same = against_noise(first, second, 0), against_noise(first.flip(0), second.flip(0), 0)
    interval = difference(one, same, torch.Generator().manual_seed(0))
    assert interval.value == pytest.approx(0, abs=1e-12)
    assert interval.low < 0 < interval.high
    worse = against_noise(first, second + 2 * normal(12, 300, seed=2), 0)
    assert difference(one, worse, torch.Generator().manual_seed(0)).low > 0.1
    spread = [float(part.means(torch.Generator().manual_seed(i)).var()) for i, part in enumerate((one, same))]
    assert interval.high - interval.low < 2 * 1.96 * sum(spread) ** 0.5 * 1.05


# --- Readings of models ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tiny_model_folder, tiny_text):
    model = load_model(str(tiny_model_folder))
    corpus = read_corpus(model, tiny_text, length=16)
    readout = NextTokenReadout(model, corpus.held_out[:12], layer=1, offset=0, first_position=corpus.first_position)
    return model, readout, random_directions(3, 32, Centring.MEAN, torch.Generator().manual_seed(0))


def moved_by_hand(x, s, alpha):
    """``x [d]`` with presence ``alpha`` along the centred unit vector ``s``, by the angle between them."""
    mean, centred = x.mean(), x - x.mean()
    across = centred - (centred @ s) * s
    return mean + centred.norm() * (alpha * s + (1 - alpha**2) ** 0.5 * across / across.norm())


def logits_by_hand(model, window, position, moved):
    """Logits at ``position`` of the library's own forward pass with another activation there behind block 1."""

    def replace(_module, args, kwargs):
        x = (args[0] if args else kwargs["hidden_states"]).clone()
        x[0, position] = moved
        return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": x})

    handle = model.network.gpt_neox.layers[2].register_forward_pre_hook(replace, with_kwargs=True)
    try:
        return model.network(input_ids=window[None]).logits[0, position]
    finally:
        handle.remove()


def test_ablation_and_boost_are_those_of_the_library_with_hooks(place, monkeypatch):
    model, readout, directions = place
    monkeypatch.setattr("pythia.causal_readings.CONTEXTS", 8)
    tokens = torch.tensor([5, 60, 200])
    ablated, boosted = interventions_on_logits(readout, directions[:1], tokens, seed=2)
    rows, positions = readout.draw(8, torch.Generator().manual_seed(2 + 41))
    s, above, below, raised = directions[0], 0.0, 0.0, 0.0
    for row, position in zip(rows.tolist(), positions.tolist(), strict=True):
        window = readout.windows[row]
        out = model.network(input_ids=window[None], output_hidden_states=True)
        x, clean = out.hidden_states[2][0, position], out.logits[0, position]
        rho = float((x - x.mean()) @ s / (x - x.mean()).norm())
        without = logits_by_hand(model, window, position, moved_by_hand(x, s, 0.0))
        above, below = above + rho * (clean - without), below + rho**2
        raised += (logits_by_hand(model, window, position, moved_by_hand(x, s, PRESENCE)) - without) / 8
    assert torch.allclose(ablated[0], (above / below)[tokens], atol=2e-3)
    assert torch.allclose(boosted[0], raised[tokens], atol=1e-3)


def test_setting_each_presence_to_what_it_is_changes_no_logit(place):
    model, readout, directions = place
    tokens = torch.arange(300)
    moved = interventions_on_logits(readout, directions, tokens, seed=0)[1].abs().max()
    assert largest_null_change(readout, directions, tokens, seed=0) < 1e-3 * float(moved)
    assert model.depth == 4


def test_pinned_log_ratios_do_not_depend_on_how_many_directions_are_written_at_once(place, monkeypatch):
    model, readout, directions = place
    tokens = torch.arange(300)
    together = pinned_log_ratios(model, readout, directions, tokens, seed=0)
    monkeypatch.setattr("pythia.causal_readings.LOGITS_AT_ONCE", 1)
    apart = pinned_log_ratios(model, readout, directions, tokens, seed=0)
    assert torch.allclose(together, apart, atol=1e-3)
    assert together.abs().max() > 0.1
    assert PROMPTS * STEPS * PROMPT > 0


@pytest.fixture
def run_on(tiny_text, tmp_path, monkeypatch):
    """A run with random directions in the place of found ones: no search, no autoencoder."""

    def make(folder, count=10):
        run = Run(seed=0, directory=tmp_path, subject=Subject(model=str(folder), text=tiny_text))
        directions = random_directions(2 * count, 32, Centring.MEAN, torch.Generator().manual_seed(0))
        groups = {compared.FOUND: directions[:count], compared.RANDOM: directions[count:]}
        monkeypatch.setattr(compared, "layers", lambda _run: (1,))
        monkeypatch.setattr(compared, "directions", lambda _run, _layer=None: groups)
        monkeypatch.setattr(causal, "GROUPS", tuple(groups))
        return run

    return make


def silenced(model, *, readers):
    """Blocks behind block 1 add nothing; of the unembedding's columns only ``readers`` are read."""
    network = model.network
    with torch.no_grad():
        for block in network.gpt_neox.layers[2:]:
            for layer in (block.attention.dense, block.mlp.dense_4h_to_h):
                layer.weight.zero_()
                layer.bias.zero_()
        network.get_output_embeddings().weight.mul_(readers)


def test_where_nothing_lies_between_direction_and_logits_the_readings_agree_and_the_twin_is_refuted(
    run_on, make_model_folder
):
    run = run_on(make_model_folder(seed=3))
    silenced(causal.model(run), readers=torch.ones(32))
    finding = check_agreement(run)
    assert finding.status is Status.SUPPORTED
    pairs = finding.evidence["pairs"]
    assert pairs[f"{WEIGHTS} and {ABLATION}, layer 1"]["beyond_chance"]["value"] > 0.8
    assert all(over["low"] < 0 < over["high"] for over in finding.evidence["over_random_directions"].values())
    twin = check_reversed(run)
    assert twin.status is Status.REFUTED
    assert ABLATION in twin.witness["pair"]
    assert [exhibit.to_json()["kind"] for exhibit in finding.exhibits] == ["intervals", "table", "heatmap"]


def test_a_model_that_drowns_the_direct_path_is_not_said_to_agree_with_it(run_on, make_model_folder):
    """Ablation and sampling go through last blocks that drown the stream; logit weights know nothing of them."""
    run = run_on(make_model_folder(seed=3))
    with torch.no_grad():
        for block in causal.model(run).network.gpt_neox.layers[2:]:
            block.mlp.dense_4h_to_h.weight.mul_(60.0)
            block.attention.dense.weight.mul_(60.0)
    finding = check_agreement(run)
    assert finding.status is not Status.SUPPORTED
    beyond = {name: pair["beyond_chance"] for name, pair in finding.evidence["pairs"].items()}
    assert beyond[f"{ABLATION} and {PINNED}, layer 1"]["low"] > 0.3, "what runs the model agrees"
    for other in (ABLATION, PINNED):
        assert beyond[f"{WEIGHTS} and {other}, layer 1"]["high"] < beyond[f"{ABLATION} and {PINNED}, layer 1"]["low"]


def test_a_control_of_one_direction_which_no_other_can_be_mistaken_for_is_left_out_and_named(
    run_on, make_model_folder, monkeypatch
):
    run = run_on(make_model_folder(seed=3))
    groups = compared.directions(run)
    groups = {**groups, compared.SAE: groups[compared.RANDOM][:1]}
    monkeypatch.setattr(compared, "directions", lambda _run, _layer=None: groups)
    monkeypatch.setattr(causal, "GROUPS", tuple(groups))
    evidence = check_agreement(run).evidence
    assert set(evidence["controls"]) == {compared.RANDOM}
    assert evidence["controls_left_out_for_want_of_a_second_direction"] == [f"{compared.SAE}, layer 1"]


def test_the_claim_is_registered_with_its_twin_and_reads_its_own_group_alone():
    (claim,) = CLAIMS
    assert claim.id == "PY-9"
    rows = made_up()
    noise = {name: normal(12, 500, seed=70 + i) for i, name in enumerate([*JUDGED_READINGS, causal.BOOST])}
    with_control = [dataclasses.replace(row, groups={**row.groups, compared.RANDOM: noise}) for row in rows]
    alone, beside = judge(rows, seed=0), judge(with_control, seed=0)
    assert alone.status is beside.status is Status.SUPPORTED
    assert beside.evidence["controls"]["random"][f"{WEIGHTS} and {PINNED}, layer 0"]["beyond_chance"]["low"] < 0.05
    assert all(over["low"] > 0 for over in beside.evidence["over_random_directions"].values())
