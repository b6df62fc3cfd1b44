"""Exact clique search on the colourings that refute the printed bound, and networkx on the smaller one beside it.

Prints one JSON object: for k = 6 (303 points) and k = 7 (612 points) the seconds that it takes to find the largest set
missing each of the three values, median and range; the same by networkx for k = 6, and the ratio in this run.

Run: python benchmarks/clique_search.py [--runs 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import networkx
import numpy as np

from proofs.colourings import VALUES, Colouring, doubled, largest_sets, paley, three_classes
from sensverify.report import machine


def by_networkx(table: Colouring) -> dict[int, int]:
    """The size of the largest set missing each value."""
    sizes = {}
    for value in VALUES:
        allowed = table != value
        points = np.flatnonzero(allowed.diagonal())
        graph = networkx.from_numpy_array(allowed[np.ix_(points, points)])
        graph.remove_edges_from(networkx.selfloop_edges(graph))
        sizes[value] = networkx.max_weight_clique(graph, weight=None)[1]
    return sizes


def by_us(table: Colouring) -> dict[int, int]:
    """The same."""
    return {value: len(points) for value, points in largest_sets(table).items()}


def main() -> None:
    """Measure, interleaved, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    small, large = three_classes(paley(101)), three_classes(doubled(paley(101)))
    cases: dict[str, tuple[Callable[[Colouring], dict[int, int]], Colouring]] = {
        "ours, 303 points": (by_us, small),
        "networkx, 303 points": (by_networkx, small),
        "ours, 612 points": (by_us, large),
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    found: dict[str, dict[int, int]] = {}
    for _ in range(runs):
        for name, (search, table) in cases.items():
            start = time.process_time()  # one thread
            found[name] = search(table)
            seconds[name].append(time.process_time() - start)
    assert found["ours, 303 points"] == found["networkx, 303 points"]
    rows: list[dict[str, Any]] = [
        {
            "case": name,
            "largest_sets": sorted(found[name].values()),
            "cpu_seconds": {"median": statistics.median(t), "min": min(t), "max": max(t)},
        }
        for name, t in seconds.items()
    ]
    ratio = statistics.median(seconds["networkx, 303 points"]) / statistics.median(seconds["ours, 303 points"])
    print(json.dumps({"runs": runs, "rows": rows, "networkx_over_ours": ratio, "machine": machine()}, indent=1))


if __name__ == "__main__":
    main()
