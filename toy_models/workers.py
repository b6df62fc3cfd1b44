"""What every thread that decides claims about toys, or derives predictions from them, does first.

Toys are small and claims run side by side, so torch must not split operations; and sums that are split otherwise round
otherwise, so that figures would depend on how many processors there are.

In torch as it is shipped (OpenMP), ``set_num_threads`` sets two things: the number for the thread that calls it, and
the number with which threads that have not used torch yet will begin. A thread that has used torch keeps its own. So
the setting of a worker never reaches the main thread, but it would reach whatever thread is made later, in this suite
or the next: the second number has to be put back.
"""

import threading
from collections.abc import Callable

import torch

_guard = threading.Lock()


def one_thread_each() -> None:
    """Keep torch from splitting operations in the calling thread, and in no other."""
    with _guard:  # of two at once, one would take the other's 1 for what was set before
        before = default_threads()
        torch.set_num_threads(1)
        torch.get_num_threads()  # a thread's first use of torch takes the number over; let it be now
        _in_new_thread(lambda: torch.set_num_threads(before))


def default_threads() -> int:
    """With how many threads torch would split operations in a thread that has not used it yet."""
    found: list[int] = []
    _in_new_thread(lambda: found.append(torch.get_num_threads()))
    return found[0]


def _in_new_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
