"""What searching one direction after another costs beside searching for all at once, in seconds.

The same trained superposition model, score, contexts and steps per direction for both, one torch thread; the two are
timed in turns within one run and the ratio of each turn is reported. Claim TM-5 holds their quality against each other.

Prints one JSON object with the machine it ran on; `--out` writes the same to a file, anew after every row, so that an
interrupted run leaves the rows it has. What is committed goes to `results/`.

Run: python benchmarks/parallel_and_sequential.py [--directions 16 64] [--turns 3] [--steps N] [--out FILE]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from sensverify.discovery import search, total_steps
from sensverify.files import check_writable, write_atomically
from sensverify.report import machine
from toy_models.dictionary import SEQUENTIAL_STEPS
from toy_models.searching import PLAIN
from toy_models.superposition import SuperpositionConfig, SuperpositionReadout, train

CONFIG = SuperpositionConfig(features=256, width=64, density=0.01, batch=256)


def main() -> None:
    """Time both in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directions", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=SEQUENTIAL_STEPS, help="per direction; fewer only for a trial")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.out:
        check_writable(options.out.parent)
    torch.set_num_threads(1)
    readout = SuperpositionReadout(train(CONFIG, seed=0))
    document: dict[str, Any] = {
        "schema": 1,
        "benchmark": "parallel_and_sequential",
        "machine": machine(),
        "model": CONFIG.to_json(),
        "seed": 0,
        "torch_threads": 1,
        "turns": options.turns,
        "rows": [],
    }
    for count in options.directions:
        document["rows"].append(row(readout, count, options.turns, options.steps))
        if options.out:
            write_atomically(options.out, json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1))


def row(readout: SuperpositionReadout, count: int, turns: int, steps: int) -> dict[str, Any]:
    """Seconds of both for ``count`` directions, turn by turn; the ratio's median, least and largest."""
    base = dataclasses.replace(PLAIN, directions=count, steps=steps)
    kinds = {name: dataclasses.replace(base, method=name) for name in ("parallel", "sequential")}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(turns):
        for name, search_options in kinds.items():
            began = time.perf_counter()
            search(readout, dataclasses.replace(search_options, seed=turn))
            seconds[name].append(round(time.perf_counter() - began, 3))
    ratios = [b / a for a, b in zip(seconds["parallel"], seconds["sequential"], strict=True)]
    return {
        "directions": count,
        "steps_per_direction": base.steps,
        "contexts": base.contexts,
        "passes": {name: total_steps(one) for name, one in kinds.items()},
        "seconds": seconds,
        "sequential_over_parallel": {
            "median": round(statistics.median(ratios), 2),
            "least": round(min(ratios), 2),
            "largest": round(max(ratios), 2),
        },
    }


if __name__ == "__main__":
    main()
