"""PY-8 against the Hugging Face forward pass, and on decompositions of which the answer is known."""

import pytest
import torch

from pythia import removal
from pythia.removal import (
    ABSENT,
    FOUND,
    NEGATED,
    RANDOMS,
    WITHOUT_MEAN,
    Measured,
    adding,
    check_lean,
    check_lean_of_random,
    check_mean_direction,
    check_share,
    check_share_of_adding,
    mean_lean,
    removing,
    without,
)
from pythia.subject import found, model
from sensverify.claims import Run, Subject
from sensverify.geometry import Centring, random_directions
from sensverify.removal import Decomposition, removal_threshold
from sensverify.statistics import Interval
from sensverify.verdicts import Status

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model_folder, tiny_text):
    subject = Subject(model=str(tiny_model_folder), text=tiny_text)
    return Run(seed=0, directory=tmp_path_factory.mktemp("removal"), subject=subject)


def parts(shares, contexts=60, spread=0.0):
    """Decompositions in which direction ``i`` owes ``shares[i]`` of its effect to removal."""
    generator = torch.Generator().manual_seed(0)
    effect = torch.ones(len(shares), contexts)
    noise = spread * torch.randn(len(shares), contexts, generator=generator)
    table = torch.tensor(shares)[:, None] * effect + noise
    zero = torch.zeros_like(effect)
    return Decomposition(
        effect=effect,
        removal=table,
        addition=effect - table,
        reduction=zero,
        removal_alone=zero,
        onward_alone=zero,
        presence=zero,
    )


def planted(tmp_path, found_shares, *, length=0.4, left=None, random=(0.05,) * 6, spread=0.0):
    """A run in which everything has been measured, with these removal shares."""
    run = Run(seed=0, directory=tmp_path)
    groups = {
        name: random_directions(len(found_shares), 24, Centring.MEAN, torch.Generator().manual_seed(i))
        for i, name in enumerate((FOUND, WITHOUT_MEAN, NEGATED, RANDOMS, ABSENT))
    }
    sums = torch.cat([torch.randn(30, 24, dtype=torch.float64), torch.ones(30, 1, dtype=torch.float64)], 1)
    decomposed = {name: parts(found_shares, spread=spread) for name in (FOUND, NEGATED, ABSENT)}
    decomposed |= {WITHOUT_MEAN: parts(left or found_shares, spread=spread), RANDOMS: parts(random, spread=spread)}
    at = Measured(groups, decomposed, sums, torch.zeros(24), Interval(length, length - 0.01, length + 0.01))
    run.shared("pythia.removal", lambda: at)
    return run


def test_the_mean_is_that_of_the_networks_own_activations(run):
    """Token by token, from the hidden states of a forward pass, BOS left out."""
    outcome = found(run)
    readout, network = outcome.site.held_out, model(run).network
    with torch.no_grad():
        states = network(input_ids=readout.windows, output_hidden_states=True).hidden_states[readout.layer + 1]
    total, count = torch.zeros(readout.width, dtype=torch.float64), 0
    for window in states:
        for x in window[1:].double():
            centred = x - x.mean()
            total += centred / centred.norm()
            count += 1
    expected = total / count
    at = removal.measured(run)
    assert at.length.value == pytest.approx(float(expected.norm()), rel=1e-4)
    assert at.length.low < at.length.value < at.length.high
    cosines = [float(s.double() @ expected / expected.norm()) for s in at.groups[FOUND]]
    lean = mean_lean(at.groups[FOUND], at.window_sums, run.seed)
    assert lean.value == pytest.approx(sum(cosines) / len(cosines), abs=1e-5)


def test_positions_that_are_no_text_do_not_enter_the_mean(run):
    readout = found(run).site.held_out
    sums = removal._window_sums(readout)
    assert sums[:, -1].tolist() == readout.counted.sum(1).tolist()
    kept = readout.positions.counted.clone()
    try:
        readout.positions.counted[:, 5:] = False
        fewer = removal._window_sums(readout)
        assert set(fewer[:, -1].tolist()) == {4.0}
        assert not torch.allclose(fewer, sums)
    finally:
        readout.positions.counted.copy_(kept)


def test_taking_a_direction_out_leaves_unit_rows_orthogonal_to_it():
    rows = random_directions(6, 20, Centring.NONE, torch.Generator().manual_seed(0))
    taken = random_directions(1, 20, Centring.NONE, torch.Generator().manual_seed(1))[0]
    rows[0] = taken
    left = without(rows, taken)
    assert torch.equal(left[0], rows[0])  # nothing would be left
    torch.testing.assert_close(left[1:] @ taken, torch.zeros(5), atol=1e-6, rtol=0)
    torch.testing.assert_close(left.norm(dim=1), torch.ones(6))


def test_shares_of_removing_directions_are_counted_and_their_doubt_is_shown():
    sure = removing(parts((0.9, 0.1, 0.2, 0.8)), 0)
    assert (sure.low, sure.value, sure.high) == (0.5, 0.5, 0.5)
    doubtful = removing(parts((0.9, 0.1, 0.2, 0.49), spread=1.0), 0)
    assert doubtful.low < doubtful.high
    turned = adding(parts((0.9, 0.1, 0.2, 0.1)), 0)
    assert turned.value == 0.75


def test_many_removal_directions_refute_the_claim_and_none_support_it(tmp_path):
    for shares, expected in (((0.9,) * 4 + (0.1,) * 4, Status.REFUTED), ((0.1,) * 8, Status.SUPPORTED)):
        run = planted(tmp_path, shares)
        predicted = removal.removing(removal.measured(run).parts[FOUND], 0)
        finding = removal._judge_share(run, predicted, {}, ())
        assert finding.status is expected
        assert check_share_of_adding(run).status is Status.REFUTED


def test_beyond_the_length_for_which_something_is_predicted_nothing_is_concluded(tmp_path):
    limit = -removal_threshold()
    for length, expected in ((limit + 0.1, Status.SKIPPED), (limit, Status.INCONCLUSIVE), (0.1, Status.SUPPORTED)):
        run = planted(tmp_path, (0.1,) * 8, length=length)
        finding = removal._judge_share(run, removing(removal.measured(run).parts[FOUND], 0), {}, ())
        assert finding.status is expected
        assert ("reason" in finding.evidence) is (expected is not Status.SUPPORTED)
    run = planted(tmp_path, (0.1,) * 8, length=0.1)
    assert check_lean(run).status is Status.SKIPPED  # and too short a mean to lean against
    assert check_lean(planted(tmp_path, (0.1,) * 8, length=0.25)).status is Status.INCONCLUSIVE


def test_directions_that_do_not_lean_refute_the_lean(tmp_path):
    run = planted(tmp_path, (0.1,) * 8)
    assert check_lean_of_random(run).status is Status.REFUTED
    at = removal.measured(run)
    mean = removal._mean(at.window_sums.sum(0))
    at.groups[FOUND] = (-mean / mean.norm()).expand(3, -1).float()
    assert check_lean(run).status is Status.SUPPORTED


@pytest.mark.parametrize(("left", "expected"), [((0.06,) * 8, Status.SUPPORTED), ((0.29,) * 8, Status.REFUTED)])
def test_what_the_mean_takes_with_it_is_judged_against_half_of_the_excess(tmp_path, left, expected):
    run = planted(tmp_path, (0.3,) * 8, left=left, spread=0.05)
    finding = check_mean_direction(run)
    assert finding.status is expected
    assert finding.evidence["removal_share_beyond_random"]["value"] == pytest.approx(0.25, abs=0.02)


def test_where_found_directions_remove_no_more_than_random_ones_there_is_nothing_to_explain(tmp_path):
    finding = check_mean_direction(planted(tmp_path, (0.05,) * 8, spread=0.05))
    assert finding.status is Status.INCONCLUSIVE
    assert "nothing to explain" in finding.evidence["reason"]


def test_the_claims_run_on_a_model_of_a_user(run):
    finding = check_share(run)
    table = finding.exhibits[0]
    assert [row[0] for row in table.rows] == [FOUND, WITHOUT_MEAN, NEGATED, RANDOMS, ABSENT]
    groups = finding.evidence["groups"]
    assert groups[WITHOUT_MEAN]["cosine_to_mean"]["value"] == pytest.approx(0, abs=1e-5)
    assert groups[NEGATED]["mean_presence"] == pytest.approx(-groups[FOUND]["mean_presence"], abs=1e-6)
