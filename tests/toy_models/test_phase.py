"""The phase diagram's checker on a tiny grid, with methods whose findings are known beforehand."""

import dataclasses
import json
import statistics

import pytest
import torch

from sensverify.claims import Run, resolve
from sensverify.errors import InputError
from sensverify.statistics import Interval
from sensverify.verdicts import Status
from toy_models import phase, phase_check
from toy_models.catalogue.phase import claims
from toy_models.methods import PEAK, PLAIN, TOP_K, Directions
from toy_models.phase import Cell, all_methods, best_other, measure, quick_methods, winner
from toy_models.phase_check import Demand, anywhere, both_directions, dense, exhibits, judge, who_wins

CELLS = (Cell(width=4, load=2, density=0.05), Cell(width=4, load=4, density=0.4))


@dataclasses.dataclass
class Stub:
    """Returns ``share`` of the true features, at most ``most``, and counts how often it was asked."""

    name: str
    share: float = 1.0
    most: int = 1000
    asked: int = 0

    def find(self, subject, count, generator):
        self.asked += 1
        features = subject.readout.inner.model.feature_directions
        kept = max(1, min(self.most, round(self.share * len(features))))
        found = features[:kept]
        if not self.share:
            found = torch.nn.functional.normalize(torch.ones(1, features.shape[1])) + 0 * found[:1]
            found = features[:1].roll(1, 1) if float((found @ features.T).max()) > 0.9 else found
        return Directions(
            method=self.name,
            directions=found,
            asked=count,
            signed=True,
            figures={"presentations": subject.presentations},
            seconds=0.0,
        )


def stubs(**shares):
    names = {"plain": PLAIN, "peak": PEAK, "top_k": TOP_K}
    return {names[key]: Stub(names[key], share) for key, share in shares.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tiny models, trained once for all tests of this file."""
    folder = tmp_path_factory.mktemp("phase")
    measure(run_in(folder), CELLS, lambda cell: {})
    return folder


def run_in(folder, **options):
    return Run(seed=0, directory=folder, **options)


@pytest.fixture
def table_of(folder, tmp_path, monkeypatch):
    """A table of the given stubs; models come from ``folder``, findings are kept for this test alone."""
    kept = phase.store_of(run_in(tmp_path))
    monkeypatch.setattr(phase, "store_of", lambda run: kept)

    def make(methods):
        return measure(run_in(folder), CELLS, lambda cell: methods)

    return make


def test_perfect_recovery_supports_and_no_recovery_refutes(table_of):
    table = table_of(stubs(plain=1.0, peak=0.0))
    everywhere = Demand(method=PLAIN, region=anywhere, least=0.5)
    assert judge(table, [everywhere]).status is Status.SUPPORTED
    refuted = judge(table, [dataclasses.replace(everywhere, method=PEAK)])
    assert refuted.status is Status.REFUTED
    assert refuted.witness["found"]["high"] < 0.5
    assert refuted.witness["seeds"] == [300, 301, 302]
    plain = refuted.witness["in_the_same_cell"][PLAIN]
    assert (plain["value"], plain["high"]) == (1, 1)
    assert plain["low"] > 0.8
    json.dumps(dict(refuted.witness))


def test_the_sensitivity_claim_is_refuted_only_where_another_method_is_seen_to_recover(table_of, monkeypatch):
    monkeypatch.setattr(phase_check, "orderly", anywhere)
    good, blind = stubs(plain=0.0, peak=0.0, top_k=1.0), stubs(plain=0.0, peak=0.0, top_k=0.0)
    refuted = phase_check.judge_whatever(table_of(good))
    assert (refuted.status, refuted.evidence["positive_control"]["status"]) == (Status.REFUTED, "SUPPORTED")
    assert refuted.evidence["peak_in_every_cell"]["status"] == "REFUTED"
    assert refuted.witness
    for kept in phase.store_of(None).folder.iterdir():
        kept.unlink()
    undecided = phase_check.judge_whatever(table_of(blind))
    assert (undecided.status, undecided.witness) == (Status.INCONCLUSIVE, None)
    assert undecided.evidence["reason"]


def test_an_upper_bound_is_judged_the_other_way_round(table_of):
    table = table_of(stubs(plain=1.0, peak=0.0))
    bound = Demand(method=PLAIN, region=anywhere, most=0.5)
    assert judge(table, [bound]).status is Status.REFUTED
    assert judge(table, [dataclasses.replace(bound, method=PEAK)]).status is Status.SUPPORTED


@pytest.mark.parametrize(
    ("interval", "holds", "fails"),
    [
        ((0.5, 0.9), True, False),
        ((0.4, 0.9), False, False),
        ((0.1, 0.4), False, True),
        ((0.5, 0.95), False, False),
        ((0.92, 0.95), False, True),
    ],
)
def test_an_interval_across_a_bound_decides_nothing(interval, holds, fails):
    demand = Demand(method=PLAIN, region=anywhere, least=0.5, most=0.9)
    found = Interval(sum(interval) / 2, *interval)
    assert (demand.holds(found), demand.fails(found)) == (holds, fails)


def test_what_neither_holds_nor_fails_is_inconclusive(table_of):
    table = table_of(stubs(plain=0.5, peak=1.0))
    shares = [match.recovered_share for result in table for match in result.found[PLAIN].matchings]
    assert judge(table, [Demand(method=PLAIN, region=anywhere, least=sorted(shares)[0] + 1e-9)]).status is not (
        Status.SUPPORTED
    )


def test_a_demand_on_no_cell_is_refused(table_of):
    sparse_only = table_of(stubs(plain=1.0))[:1]
    with pytest.raises(InputError, match="none with dense"):
        judge(sparse_only, [Demand(method=PLAIN, region=dense, least=0.5)])


def test_a_method_may_return_fewer_directions_than_asked(table_of):
    few = Stub(PLAIN, most=2)
    for result in table_of({PLAIN: few, PEAK: Stub(PEAK)}):
        assert result.figure(PLAIN, "precise_share").value == 1
        for matching, represented in zip(result.found[PLAIN].matchings, result.represented, strict=True):
            assert matching.recovered_share == pytest.approx(2 / represented)
        assert result.found[PLAIN].asked == result.cell.directions > 2
        assert result.found[PLAIN].pairs == 2 * result.cell.presentations
        assert best_other(result) == PEAK
        assert winner(result, PEAK, PLAIN) == 1
        assert winner(result, PLAIN, PEAK) == -1
        assert winner(result, PEAK, PEAK) == 0


def test_a_second_call_finds_everything_kept_and_gives_the_same_figures(table_of):
    methods = stubs(plain=1.0, peak=0.5, top_k=0.0)
    first = table_of(methods)
    asked = {name: method.asked for name, method in methods.items()}
    assert set(asked.values()) == {len(CELLS) * phase.SEEDS}
    again = table_of(methods)
    assert {name: method.asked for name, method in methods.items()} == asked
    assert both_directions(first) == both_directions(again)
    assert judge(first, phase_check.WHATEVER) == judge(again, phase_check.WHATEVER)


def test_true_methods_give_the_same_figures_twice_on_another_store(folder, tmp_path, monkeypatch):
    cell, tables = CELLS[0], []
    few = ("PCA", "random", TOP_K)
    for name in ("first", "second"):
        kept = phase.store_of(run_in(tmp_path / name))
        monkeypatch.setattr(phase, "store_of", lambda run, kept=kept: kept)
        tables.append(measure(run_in(folder), [cell], lambda cell: {key: all_methods(cell)[key] for key in few}))
    figures = [{name: found.figures for name, found in table[0].found.items()} for table in tables]
    assert figures[0] == figures[1]
    assert tables[0][0].ratios == tables[1][0].ratios


def test_where_plain_holds_and_fails_is_told(table_of):
    told = both_directions(table_of(stubs(plain=0.0, peak=1.0)))
    failing = told["plain_recovers_less_than_0.1_where_another_recovers_0.9"]
    assert told["plain_recovers_at_least_half"] == []
    assert [row["best_other"]["method"] for row in failing] == [PEAK] * len(failing)


def test_where_plain_recovers_is_told(table_of):
    told = both_directions(table_of(stubs(plain=1.0, peak=1.0)))
    assert len(told["plain_recovers_at_least_half"]) == len(CELLS)
    assert told["plain_recovers_less_than_0.1_where_another_recovers_0.9"] == []
    assert set(told["cells"]) == {cell.name for cell in CELLS}


def test_exhibits_leave_cells_empty_that_were_not_measured(table_of):
    table = table_of(stubs(plain=1.0, peak=1.0, top_k=0.0))
    shown = exhibits(table)
    heatmap = shown[0]
    assert heatmap.rows == ["d = 4, n/d = 2", "d = 4, n/d = 4"]
    assert heatmap.columns == ["0.05", "0.4"]
    assert heatmap.values[0][0] == 1
    assert heatmap.values[0][1] != heatmap.values[0][1]
    assert len(shown[-1].rows) == len(table) * 3
    assert who_wins(table).values[1][1] > 0.8
    for exhibit in shown:
        json.dumps(exhibit.to_json())


def test_the_sensitivity_ratio_is_measured_with_both_references(table_of):
    for result in table_of(stubs(plain=1.0)):
        for reference in phase.REFERENCES:
            interval, ratios = result.ratio(reference), result.ratios[reference]
            assert min(ratios) > 0
            half = 4.303 * statistics.stdev(ratios) / 3**0.5  # Student's quantile for three models
            assert interval.high - interval.value == pytest.approx(half, rel=1e-3)
            assert interval.value == pytest.approx(statistics.fmean(ratios))


def test_a_cell_says_what_is_asked_in_it():
    cell = Cell(width=32, load=4, density=0.02)
    assert (cell.features, cell.active, cell.directions, cell.contexts) == (128, 3, 192, 16)
    large = Cell(width=32, load=8, density=0.0001)
    assert (large.features, large.active, large.directions, large.contexts) == (256, 1, 256, 8)
    assert set(quick_methods(cell)) == set(all_methods(cell)) - set(phase.ONLY_IN_FULL)


TWINS = [Demand(method=PLAIN, region=region) for region in (phase_check.in_pairs, phase_check.crowded)]


def test_every_region_of_the_claims_has_cells_in_both_profiles():
    for demand in (*phase_check.WHATEVER, *phase_check.SPARSE, *phase_check.METHODS, *TWINS):
        for cells in (phase.QUICK, phase.FULL):
            results = [phase.Result(cell=cell, seeds=(), represented=(), found={}, ratios={}) for cell in cells]
            assert any(demand.region(result) for result in results)


def test_every_check_can_be_found():
    for claim in claims:
        assert callable(resolve(claim.check))
        for twin in claim.false_twins:
            assert callable(resolve(twin.check))
