"""Work dealt out among threads: the same results in the same order, whatever happens on the way."""

import threading
import time

import pytest
import torch

from sensverify import parts, sensitivity
from sensverify.chunking import Chunking
from sensverify.discovery import SearchOptions
from sensverify.threads import in_threads

transformers = pytest.importorskip("transformers")


def test_results_come_in_the_order_of_the_lots_whoever_is_faster():
    def work(number):
        time.sleep(0.01 * (5 - number))
        return number, threading.get_ident()

    found = in_threads(work, range(5), 3)
    assert [number for number, _ in found] == list(range(5))
    assert threading.get_ident() not in {thread for _, thread in found}


@pytest.mark.parametrize("recording", [True, False])
def test_each_thread_has_one_of_torchs_and_records_gradients_as_its_caller_does(recording):
    usual = torch.get_num_threads()
    with torch.set_grad_enabled(recording):
        found = in_threads(lambda _: (torch.get_num_threads(), torch.is_grad_enabled()), range(4), 2)
    assert found == [(1, recording)] * 4
    assert torch.get_num_threads() == usual
    after = []
    thread = threading.Thread(target=lambda: after.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert after == [usual]


def test_what_one_thread_raises_is_raised_when_nothing_runs_any_more():
    ended = []

    def work(number):
        if number == 0:
            raise ZeroDivisionError(number)
        time.sleep(0.02)
        ended.append(number)

    with pytest.raises(ZeroDivisionError):
        in_threads(work, range(40), 2)
    count = len(ended)
    assert count < 39  # what had not begun never did
    time.sleep(0.05)
    assert len(ended) == count


@pytest.mark.parametrize("target", [1, 3])
def test_directions_dealt_out_among_threads_have_the_scores_and_gradients_of_one(
    tiny_model_folder, target, monkeypatch
):
    from pythia.loading import load_model
    from pythia.readout import LanguageModelReadout

    windows = torch.randint(300, (8, 16), generator=torch.Generator().manual_seed(0))
    model = load_model(str(tiny_model_folder), dtype="float64")
    readout = LanguageModelReadout(model, windows, layer=0, target=target, offset=1)
    directions = torch.randn(24, readout.width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    directions /= directions.norm(dim=1, keepdim=True)
    options, usual = SearchOptions(directions=24), torch.get_num_threads()
    dealt = []
    monkeypatch.setattr(
        parts, "in_threads", lambda work, lots, threads: dealt.append(threads) or in_threads(work, lots, threads)
    )
    found = []
    for least in (10**9, 1):
        monkeypatch.setattr(sensitivity, "LEAST_LOT", least)
        monkeypatch.setattr(sensitivity, "LEAST_CLOSED_LOT", least)
        try:
            torch.set_num_threads(3)
            given = parts.draw(readout, options, 8, torch.Generator().manual_seed(2), Chunking())
            scores, gradients = parts.climb(readout, options, given, directions, Chunking())
            found.append((scores, gradients, parts.look(readout, options, given, directions, Chunking())))
        finally:
            torch.set_num_threads(usual)
    assert dealt == [3, 3]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)
