"""What selective sensitivity finds beside plain sensitivity, over the density of the features.

For each density and seed a superposition model is made, trained or with random unit features tied and no bias. On it:
how selective and how sensitive features and random directions are, contexts averaged by effect and one by one; and the
share of all features that a parallel search meets at cosine 0.9 with twice as many directions as there are features,
plain beside selective, at several strengths of repulsion; and how noisy the gradients of both averages are.

Trained, 128 features in 64 dimensions lie in opposite pairs along orthogonal axes, the easiest case; 32 dimensions, or
no training, give features that overlap.

Prints one JSON object; with `--out` rows already there are kept, so that a long table can be made in short runs.

Run: python benchmarks/selective_search.py [--densities 0.05 0.1 0.2 0.4] [--seeds 0 1] [--width 64]
     [--untrained] [--out FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import torch

from sensverify import selectivity, sensitivity
from sensverify.discovery import SearchOptions, search
from sensverify.geometry import Centring, random_directions, tangent, unit_directions
from sensverify.report import machine
from toy_models.recovery import RECOVERED_COSINE, recovery
from toy_models.superposition import SuperpositionConfig, SuperpositionModel, SuperpositionReadout, train

FEATURES, TRAINING_STEPS = 128, 1500
STEPS, CONTEXTS, EVALUATION_CONTEXTS = 200, 32, 256
SEARCHES: dict[str, dict[str, Any]] = {
    "plain, repulsion 1": {"score": "plain", "repulsion": 1.0},
    "selective, repulsion 1": {"score": "selective", "repulsion": 1.0},
    "selective, repulsion 0.1": {"score": "selective", "repulsion": 0.1},
    "selective, repulsion 0": {"score": "selective", "repulsion": 0.0},
    "selective one by one, repulsion 0": {"score": "selective", "repulsion": 0.0, "averaging": "contexts"},
}


def make(density: float, seed: int, width: int, untrained: bool) -> SuperpositionModel:
    """A model of 128 features in ``width`` dimensions."""
    config = SuperpositionConfig(features=FEATURES, width=width, density=density, steps=TRAINING_STEPS)
    if not untrained:
        return train(config, seed)
    weights = random_directions(FEATURES, width, Centring.NONE, torch.Generator().manual_seed(seed)).T.contiguous()
    zero, unknown = torch.zeros(FEATURES), float("nan")
    return SuperpositionModel(config=config, seed=seed, weights=weights, bias=zero, loss=unknown, loss_of_zero=unknown)


def scores(readout: SuperpositionReadout, seed: int) -> dict[str, Any]:
    """Mean over features and over random directions, the least and the largest of them, the mean standard error."""
    generator = torch.Generator().manual_seed(seed + 100)
    batch = readout.sample(EVALUATION_CONTEXTS, generator)
    features = readout.model.feature_directions
    groups = {"feature": features, "random": random_directions(FEATURES, readout.width, Centring.NONE, generator)}
    answer: dict[str, Any] = {}
    for name, directions in groups.items():
        again = torch.Generator().manual_seed(seed + 101)
        plain = sensitivity.estimate_on(readout, batch, directions, generator=again)
        answer[name] = {"plain": summary(plain)}
        for averaging in ("effects", "contexts"):
            again = torch.Generator().manual_seed(seed + 101)
            found = selectivity.estimate_on(readout, batch, directions, generator=again, averaging=averaging)
            answer[name][f"selective by {averaging}"] = summary(found)
    return answer


def summary(found: sensitivity.SensitivityEstimate) -> dict[str, float]:
    """Plain numbers of one group."""
    mean = found.mean
    return {
        "mean": round(float(mean.mean()), 4),
        "least": round(float(mean.min()), 4),
        "largest": round(float(mean.max()), 4),
        "standard_error": round(float(found.standard_error.mean()), 4),
    }


def begin(model: SuperpositionModel, trained: bool) -> dict[str, Any]:
    """A row before its searches."""
    features = model.feature_directions
    return {
        "density": model.config.density,
        "seed": model.seed,
        "width": model.config.width,
        "trained": trained,
        "loss": round(model.loss / model.loss_of_zero, 4) if trained else None,
        "represented": len(features),
        "features_with_an_opposite": int(((features @ features.T).amin(1) < -RECOVERED_COSINE).sum()),
        "scores": scores(SuperpositionReadout(model), model.seed),
        "searches": {},
    }


def gradient_noise(model: SuperpositionModel, batches: int = 40, count: int = 32) -> dict[str, float]:
    """How noisy the gradient of ``log C`` on one batch is, over its mean: root mean squares, at random directions and
    at cosine 0.75 to a feature, for both ways of averaging."""
    readout, generator = SuperpositionReadout(model), torch.Generator().manual_seed(model.seed + 300)
    random = random_directions(count, readout.width, Centring.NONE, generator)
    near = unit_directions(model.feature_directions[:count] + 0.9 * random, Centring.NONE)
    averagings: tuple[selectivity.Averaging, ...] = ("effects", "contexts")
    answer = {}
    for (where, directions), averaging in itertools.product((("random", random), ("near", near)), averagings):
        drawn = []
        for _ in range(batches):
            batch = readout.sample(CONTEXTS, generator)
            alpha = sensitivity.PresenceLaw().stratified(1, CONTEXTS, generator)[0].to(batch.x)
            moving = directions.clone().requires_grad_()
            found = selectivity.effects(readout, batch, readout.clean(batch), moving, alpha)
            weights = found.weights(averaging)
            score = (weights * found.values).sum(1) / weights.sum(1)
            drawn.append(tangent(directions, torch.autograd.grad(score.log().sum(), moving)[0]))
        gradients = torch.stack(drawn)
        variance = gradients.var(0).sum(-1).mean()
        signal = gradients.mean(0).square().sum(-1).mean() - variance / batches
        answer[f"{where}, by {averaging}"] = round(float((variance / signal.clamp_min(1e-12)).sqrt()), 3)
    return answer


def searched(model: SuperpositionModel, fields: dict[str, Any]) -> dict[str, float]:
    """What one search meets."""
    began = time.perf_counter()
    options = SearchOptions(directions=2 * FEATURES, steps=STEPS, contexts=CONTEXTS, seed=model.seed + 200, **fields)
    found = recovery(search(SuperpositionReadout(model), options).directions, model.feature_directions)
    return {
        "share_of_all_features": round(found.distinct / FEATURES, 4),
        "mean_cosine": round(found.mean_cosine, 4),
        "share_of_directions": round(float((found.cosines >= RECOVERED_COSINE).double().mean()), 4),
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> None:
    """Measure what is not there yet and print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--densities", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--untrained", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    table: dict[str, Any] = {
        "machine": machine(),
        "features": FEATURES,
        "steps": STEPS,
        "contexts": CONTEXTS,
        "rows": [],
    }
    if options.out and options.out.exists():
        table = json.loads(options.out.read_text(encoding="utf-8"))
    rows = {key(row): row for row in table["rows"]}
    for density, seed in itertools.product(options.densities, options.seeds):
        wanted = (options.untrained, -options.width, density, seed)
        there = rows.get(wanted, {"searches": {}})
        if "gradient_noise" in there and there["searches"].keys() >= SEARCHES.keys():
            continue
        model = make(density, seed, options.width, options.untrained)
        row = rows[wanted] = rows.get(wanted) or begin(model, not options.untrained)
        if "gradient_noise" not in row:
            row["gradient_noise"] = gradient_noise(model)
        for name, fields in SEARCHES.items():
            if name not in row["searches"]:
                row["searches"][name] = searched(model, fields)
                write(table, rows, options.out)
        write(table, rows, options.out)
    print(json.dumps(table, indent=1))


def write(table: dict[str, Any], rows: dict[Any, dict[str, Any]], path: Path | None) -> None:
    """Keep what is measured so far."""
    table["rows"] = [rows[one] for one in sorted(rows)]
    if path:
        path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def key(row: dict[str, Any]) -> tuple[bool, int, float, int]:
    """By what rows are told apart and sorted."""
    return not row["trained"], -row["width"], row["density"], row["seed"]


if __name__ == "__main__":
    main()
