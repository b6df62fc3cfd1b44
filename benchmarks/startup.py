"""How long `sensverify --help` and `sensverify list` take as whole processes, in seconds.

Prints one JSON object: median, minimum and maximum over repetitions, and a bare interpreter beside it.

Run: python benchmarks/startup.py [--runs 15]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

from sensverify.report import machine

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "sensverify --help": [sys.executable, "-m", "sensverify.cli", "--help"],
    "sensverify list": [sys.executable, "-m", "sensverify.cli", "list"],
}


def seconds(command: list[str]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure every command, interleaved, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for repetition in range(runs + 1):
        for name, command in COMMANDS.items():
            elapsed = seconds(command)
            if repetition:  # the first round only warms the caches
                times[name].append(elapsed)
    rows = [
        {"command": name, "median": statistics.median(t), "min": min(t), "max": max(t), "runs": runs}
        for name, t in times.items()
    ]
    print(json.dumps({"schema": 1, "benchmark": "startup", "machine": machine(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
