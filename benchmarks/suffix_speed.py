"""How much the suffix computation saves against the usual way, in one run, gradient included.

The usual way hooks the full Hugging Face model and runs it twice per direction, clean and perturbed, then
backward. Ours keeps the clean pass and recomputes what the intervention reaches. Same random weights (exactly
Pythia-70M's shape), tokens and thread count; prints one JSON object with pairs per second and the ratio. Each
figure is the median over repetitions; the spread is given beside it.

Run: python benchmarks/suffix_speed.py [--seconds 10]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
import transformers

from pythia.loading import LanguageModel
from pythia.readout import LanguageModelReadout
from sensverify.geometry import random_directions
from sensverify.interventions import set_presence
from sensverify.report import machine
from sensverify.scoring import angular_distance
from sensverify.sensitivity import effects

CONTEXTS, LENGTH, LAYER = 16, 150, 2
CASES = [(1, 1, 1), (1, 1, 16), (1, 1, 64), (1, 0, 64), (3, 1, 64)]  # (b - a, t, S)


def pythia_70m_shape() -> LanguageModel:
    """A random model of exactly Pythia-70M's shape; the tokenizer is not needed."""
    torch.manual_seed(0)
    config = transformers.GPTNeoXConfig(
        vocab_size=50304, hidden_size=512, num_hidden_layers=6, num_attention_heads=8, intermediate_size=2048
    )
    network = transformers.GPTNeoXForCausalLM._from_config(config, attn_implementation="eager")
    return LanguageModel("random", None, network.eval().requires_grad_(False), None, "")


def median_seconds(work: Callable[[], None], budget: float) -> tuple[float, float, int]:
    """Median and relative spread (half the interquartile range over the median) of the time of ``work``."""
    work()
    times: list[float] = []
    end = time.perf_counter() + budget
    while len(times) < 3 or (time.perf_counter() < end and len(times) < 200):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    lower, middle, upper = statistics.quantiles(times, n=4)
    return middle, (upper - lower) / 2 / middle, len(times)


def plain_hooks(model: LanguageModel, windows: torch.Tensor, readout: LanguageModelReadout) -> Callable[[], None]:
    """One direction on all contexts: clean forward, perturbed forward through hooks, backward."""
    generator = torch.Generator().manual_seed(1)
    batch = readout.at(torch.arange(CONTEXTS), torch.full((CONTEXTS,), LENGTH - 1 - readout.offset))
    positions, rows = batch.state.positions, torch.arange(CONTEXTS)
    direction = random_directions(1, model.width, readout.centring, generator)
    layers = model.network.gpt_neox.layers

    def work() -> None:
        s = direction.clone().requires_grad_()
        kept: list[torch.Tensor] = []

        def replace(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
            moved = set_presence(output[rows, positions], s, 0.5, readout.centring)[0]
            return output.index_put((rows, positions), moved)

        def keep(_module: object, _inputs: object, output: torch.Tensor) -> None:
            kept.append(output[rows, positions + readout.offset])

        reading = layers[readout.target].register_forward_hook(keep)
        with torch.no_grad():
            model.network(windows)
        writing = layers[readout.layer].register_forward_hook(replace)
        model.network(windows)
        reading.remove()
        writing.remove()
        angular_distance(kept[0], kept[1]).mean().backward()

    return work


def ours(readout: LanguageModelReadout, directions: int) -> Callable[[], None]:
    """``directions`` at once on all contexts, the clean pass kept, gradient included."""
    generator = torch.Generator().manual_seed(1)
    batch = readout.at(torch.arange(CONTEXTS), torch.full((CONTEXTS,), LENGTH - 1 - readout.offset))
    clean = readout.clean(batch)
    start = random_directions(directions, readout.width, readout.centring, generator)

    def work() -> None:
        s = start.clone().requires_grad_()
        effects(readout, batch, clean, s, torch.full((CONTEXTS,), 0.5)).mean().backward()

    return work


def main() -> None:
    """Measure every case and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="budget per figure")
    budget = parser.parse_args().seconds
    model = pythia_70m_shape()
    windows = torch.randint(50_000, (CONTEXTS, LENGTH), generator=torch.Generator().manual_seed(0))
    rows = []
    for reach, offset, count in CASES:
        readout = LanguageModelReadout(model, windows, layer=LAYER, target=LAYER + reach, offset=offset)
        plain, plain_spread, plain_runs = median_seconds(plain_hooks(model, windows, readout), budget)
        mine, spread, runs = median_seconds(ours(readout, count), budget)
        rows.append(
            {
                "case": f"b=a+{reach},t={offset}",
                "S": count,
                "B": CONTEXTS,
                "context": LENGTH,
                "pairs_per_s": count * CONTEXTS / mine,
                "spread": spread,
                "runs": runs,
                "plain_pairs_per_s": CONTEXTS / plain,
                "plain_spread": plain_spread,
                "plain_runs": plain_runs,
                "ratio_plain": count * plain / mine,
            }
        )
    environment = {**machine(), "threads": torch.get_num_threads(), "dtype": "float32", "seed": 0}
    print(json.dumps({"schema": 1, "benchmark": "suffix_speed", "machine": environment, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
