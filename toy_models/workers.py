"""What every thread that decides claims about toys does first."""

import torch


def one_thread_each() -> None:
    """Keep torch from splitting operations: toys are small, claims run side by side, and figures do not depend on how
    many processors there are."""
    torch.set_num_threads(1)
