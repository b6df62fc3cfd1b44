"""Directions dealt out among threads, each of which computes alone.

The libraries below use several threads for one matrix product or one table, and all of these wait for each other after
every step, of which an evaluation has hundreds. Directions do not see each other inside an evaluation, so that each
thread may take some of them all the way through, and wait once. Results do not depend on which thread was faster: who
computes what is settled before.
"""

from __future__ import annotations

import concurrent.futures
import functools
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def in_threads(work: Callable[[T], R], lots: Sequence[T], threads: int) -> list[R]:
    """``work`` of each of ``lots``, in their order, ``threads`` at a time, with one thread of torch's for each.

    Gradients are recorded if they are here. Raises what ``work`` raises, when all that had begun has ended.
    """
    usual, recording = torch.get_num_threads(), torch.is_grad_enabled()

    def alone(lot: T) -> R:
        torch.set_num_threads(1)  # of the calling thread
        with torch.set_grad_enabled(recording):
            return work(lot)

    futures: list[concurrent.futures.Future[R]] = []
    try:
        for lot in lots:
            futures.append(_pool(os.getpid(), threads).submit(alone, lot))
        concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_EXCEPTION)
    finally:
        for future in futures:
            future.cancel()
        concurrent.futures.wait(futures)
        torch.set_num_threads(usual)  # of threads that torch is yet to begin
    return [future.result() for future in futures]


@functools.cache
def _pool(_process: int, threads: int) -> concurrent.futures.ThreadPoolExecutor:
    """Kept for the next evaluation; a process that was forked begins one of its own."""
    return concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="sensverify")
