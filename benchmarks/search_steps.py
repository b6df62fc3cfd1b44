"""What a step of a search on a toy costs when interventions are read by their coordinates in the plane, so many
directions at a time as fit the cache, beside reading whole vectors of all directions at once.

Both ways take the same steps, up to rounding, on the same planted model (random unit features), with the same draws;
they are timed in turns within one run, one torch thread, and the ratio of each turn is reported.

Prints one JSON object with the machine it ran on; `--out` writes the same to a file. What is committed goes to
`results/`.

Run: python benchmarks/search_steps.py [--turns 5] [--steps 10] [--out FILE]
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

from sensverify import sensitivity
from sensverify.discovery import search
from sensverify.files import check_writable, write_atomically
from sensverify.readout import Readout
from sensverify.report import machine
from toy_models.folder import plant
from toy_models.readouts import Wrapped
from toy_models.searching import PEAK, PLAIN
from toy_models.superposition import SuperpositionReadout

SIZES = ((64, 32), (128, 64), (512, 128))
DENSITY = 0.1
SCORES = {"plain": PLAIN, "peak": PEAK}
SHORT, LONG = "coordinates, in chunks", "whole vectors, at once"


class WholeVectors(Wrapped):
    """A read-out that does not let on that it can read coordinates."""

    @property
    def planar(self) -> bool:
        """Never."""
        return False


def main() -> None:
    """Time both in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.out:
        check_writable(options.out.parent)
    torch.set_num_threads(1)
    document = {
        "schema": 1,
        "benchmark": "search_steps",
        "machine": machine(),
        "density": DENSITY,
        "contexts": PLAIN.contexts,
        "torch_threads": 1,
        "turns": options.turns,
        "steps": options.steps,
        "rows": [row(*size, score, options.turns, options.steps) for size in SIZES for score in SCORES],
    }
    text = json.dumps(document, indent=1)
    if options.out:
        write_atomically(options.out, text + "\n")
    print(text)


def row(features: int, width: int, score: str, turns: int, steps: int) -> dict[str, Any]:
    """Milliseconds per step of both, turn by turn; the ratio's median, least and largest; how far apart they end."""
    readout = SuperpositionReadout(plant(features, width, 0, DENSITY))
    base = dataclasses.replace(SCORES[score], directions=2 * features, steps=steps)
    ways: dict[str, tuple[Readout, int]] = {SHORT: (readout, sensitivity.TABLE), LONG: (WholeVectors(readout), 2**62)}
    milliseconds: dict[str, list[float]] = {name: [] for name in ways}
    ends = {}
    usual = sensitivity.TABLE
    for turn in range(turns + 1):
        for name, (way, table) in ways.items():
            sensitivity.TABLE = table
            began = time.perf_counter()
            ends[name] = search(way, dataclasses.replace(base, seed=turn)).directions
            if turn:  # the first warms up
                milliseconds[name].append(round(1e3 * (time.perf_counter() - began) / steps, 2))
            sensitivity.TABLE = usual
    ratios = [b / a for a, b in zip(milliseconds[SHORT], milliseconds[LONG], strict=True)]
    return {
        "features": features,
        "width": width,
        "directions": base.directions,
        "score": score,
        "milliseconds_per_step": milliseconds,
        "long_over_short": {
            "median": round(statistics.median(ratios), 2),
            "least": round(min(ratios), 2),
            "largest": round(max(ratios), 2),
        },
        "least_cosine_between_ends": round(float((ends[SHORT] * ends[LONG]).sum(1).min()), 6),
    }


if __name__ == "__main__":
    main()
