"""What the OpenMP wait policy costs or saves, on an idle machine and beside another job of as many threads.

The command line sets OMP_WAIT_POLICY=PASSIVE (threads sleep at barriers) unless the variable is set already. This
script trains a toy model for a number of steps under both policies, alone and beside a competing torch process, and
prints one JSON object with the seconds of each and their ratio.

Run: python benchmarks/busy_machine.py [--steps 100]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

from sensverify.report import machine

WORK = """
import sys, time, torch
from toy_models.superposition import SuperpositionConfig, train
steps = int(sys.argv[1])
train(SuperpositionConfig(steps=5), 0)
start = time.perf_counter()
train(SuperpositionConfig(steps=steps), 0)
print(time.perf_counter() - start)
"""
COMPETITOR = """
import torch
a = torch.randn(400, 400)
while True:
    a = torch.tanh(a @ a / 20)
"""


def seconds(policy: str, steps: int, *, busy: bool) -> float:
    """Seconds of ``steps`` training steps under ``policy``, beside a competitor or alone."""
    environment = {**os.environ, "OMP_WAIT_POLICY": policy}
    other = subprocess.Popen([sys.executable, "-c", COMPETITOR]) if busy else None
    try:
        command = [sys.executable, "-c", WORK, str(steps)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    finally:
        if other is not None:
            other.kill()
            other.wait()
    return float(done.stdout)


def main() -> None:
    """Measure the four cases, three times each, interleaved, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    steps = parser.parse_args().steps
    rows = []
    for busy in (False, True):
        times: dict[str, list[float]] = {"ACTIVE": [], "PASSIVE": []}
        for _ in range(3):
            for policy, found in times.items():
                found.append(seconds(policy, steps, busy=busy))
        ratios = [active / passive for active, passive in zip(*times.values(), strict=True)]
        rows.append({"busy": busy, "seconds": times, "ratio_active_to_passive": ratios})
    print(json.dumps({"schema": 1, "benchmark": "busy_machine", "machine": machine(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
