"""256 directions of a language model, found at once and one after another: what each costs and what comes of it.

The shipped model, one third of the way in, one block and one token later; the same score, contexts per step and steps
per direction for both, searches for one direction after another with the published penalty on overlap. What is found is
scored on one held-out sample, contexts and presences in common: mean SeS with 95 % intervals over directions and
contexts, the difference of the means (contexts resampled, in common), and overlap: the mean of squared cosines between
two directions, and the mean over directions of the largest cosine, in size, to any other.

One torch thread; what is compared is processor time. Prints one JSON object with the machine it ran on; `--out` writes
the same to a file.

Run: python benchmarks/discovery_cost.py [--directions 256] [--steps 100] [--contexts 16] [--seed 0] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pythia.site import open_site
from sensverify.claims import Subject
from sensverify.discovery import SearchOptions, search, total_steps
from sensverify.files import check_writable, write_atomically
from sensverify.geometry import gram, random_directions
from sensverify.report import machine
from sensverify.sensitivity import estimate_groups
from sensverify.sites import Site, SiteOptions
from sensverify.statistics import group_mean

SITE = SiteOptions(layer=2, target=3, offset=1)
RESAMPLES = 2000
REPULSIONS = (1.0, 10.0, 100.0)
"""Of parallel searches: as they are by default, and stronger, which trades score for less overlap."""


def main() -> None:
    """Search both ways, then score both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directions", type=int, default=256)
    parser.add_argument("--steps", type=int, default=100, help="per direction")
    parser.add_argument("--contexts", type=int, default=16, help="per step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.out:
        check_writable(options.out.parent)
    torch.set_num_threads(1)  # so that processor time is time, whatever else the machine does
    site = open_site(Subject(), SITE)
    found: dict[str, Tensor] = {}
    rows: dict[str, dict[str, Any]] = {}
    for method, repulsion in (*(("parallel", strength) for strength in REPULSIONS), ("sequential", None)):
        name = method if repulsion is None else f"parallel, repulsion {repulsion:g}"
        asked = SearchOptions(
            directions=options.directions,
            steps=options.steps,
            contexts=options.contexts,
            seed=options.seed,
            method=method,  # type: ignore[arg-type]
            repulsion=repulsion,
        )
        began, used = time.perf_counter(), time.process_time()
        found[name] = search(site.search, asked).directions
        rows[name] = {
            "seconds": round(time.perf_counter() - began, 2),
            "processor_seconds": round(time.process_time() - used, 2),
            "steps": total_steps(asked),
            **overlap(found[name]),
        }
    differences = score(site, found, rows, options.seed)
    document = {
        "schema": 1,
        "benchmark": "discovery_cost",
        "machine": machine(),
        "torch_threads": torch.get_num_threads(),
        "site": dict(site.description),
        "directions": options.directions,
        "steps_per_direction": options.steps,
        "contexts_per_step": options.contexts,
        "seed": options.seed,
        "rows": rows,
        "sequential_over_parallel": {
            name: round(rows["sequential"]["processor_seconds"] / rows[name]["processor_seconds"], 1)
            for name in differences
        },
        "mean_score_less_that_of_sequential": differences,
    }
    if options.out:
        write_atomically(options.out, json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1))


def overlap(directions: Tensor) -> dict[str, float]:
    """Mean squared cosine of two directions, and the mean largest one, in size, to any other."""
    cosines = gram(directions).fill_diagonal_(0).abs()
    count = len(cosines)
    return {
        "mean_squared_cosine": float(cosines.square().sum() / (count * (count - 1))),
        "mean_largest_cosine": float(cosines.amax(1).mean()),
    }


def score(site: Site, found: dict[str, Tensor], rows: dict[str, dict[str, Any]], seed: int) -> dict[str, Any]:
    """Put each way's mean SeS, and that of random directions, into ``rows``; differences with their intervals."""
    readout, generator = site.held_out, torch.Generator().manual_seed(seed + 1)
    random = random_directions(256, readout.width, readout.centring, generator)
    batch = readout.sample(site.independent_contexts, generator)
    estimates = estimate_groups(readout, batch, {**found, "random": random}, generator=generator)
    resampling = torch.Generator().manual_seed(seed + 2)
    for name, estimate in estimates.items():
        rows.setdefault(name, {})["mean_score"] = group_mean(estimate.effects, resampling).to_json()
    drawn = torch.randint(len(batch), (RESAMPLES, len(batch)), generator=resampling)
    ends, differences = torch.tensor([0.025, 0.975], dtype=torch.float64), {}
    for name in found:
        if name != "sequential":
            by_context = (estimates[name].effects.mean(0) - estimates["sequential"].effects.mean(0)).double()
            low, high = torch.quantile(by_context[drawn].mean(1), ends).tolist()
            differences[name] = {"value": float(by_context.mean()), "low": low, "high": high}
    return differences


if __name__ == "__main__":
    main()
