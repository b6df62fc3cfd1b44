"""Draw `results/effects.json` as `docs/speed.svg`, the picture in the README.

Left: (direction, context) pairs per second against the number of directions, ours and the usual ways. Right: time of
one evaluation as one thing grows and all else stays. Bars are half the interquartile range.

Run: python benchmarks/draw_effects.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "sensverify"  # the same figures give the same file
from matplotlib import pyplot  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

HERE = Path(__file__).parent
SITES = ("b=a+1,t=1", "b=a+1,t=0", "b=a+1,t=5", "a=2,b=5,t=1")
OTHERS = {"plain": "hooks, whole model", "cached": "hooks, stopped early", "transformer_lens": "TransformerLens"}
USUAL = {"S": 64, "B": 16, "context": 150, "depth": 6}
GROWING = {
    "S": "directions",
    "B": "contexts",
    "context": "tokens in a context",
    "depth": "blocks of the model, all but 3 recomputed",
}


def main() -> None:
    """Read, draw, write."""
    rows = json.loads((HERE / "results" / "effects.json").read_text(encoding="utf-8"))["rows"]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    rates(left, rows)
    growth(right, rows)
    out = HERE.parent / "docs" / "speed.svg"
    figure.savefig(out, metadata={"Date": None})
    print(json.dumps({"schema": 1, "drawn": out.name}))


def rates(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Pairs per second by number of directions."""
    usual = [row for row in rows if all(row[name] == USUAL[name] for name in ("B", "context", "depth"))]
    for site in SITES:
        line = sorted((row for row in usual if row["case"] == site), key=lambda row: row["S"])
        values = [row["pairs_per_s"] for row in line]
        errors = [row["pairs_per_s"] * row["spread"] for row in line]
        axes.errorbar([row["S"] for row in line], values, yerr=errors, marker="o", capsize=2, label=f"ours, {site}")
    line = sorted((row for row in usual if row["case"] == SITES[0]), key=lambda row: row["S"])
    for name, label in OTHERS.items():
        points = [(row["S"], row[f"{name}_pairs_per_s"]) for row in line if row[f"{name}_pairs_per_s"] is not None]
        if points:
            axes.plot(*zip(*points, strict=True), linestyle="--", marker=".", label=f"{label}, {SITES[0]}")
    axes.set(xscale="log", yscale="log", xlabel="directions at once (S)", ylabel="pairs per second")
    axes.set_title("Effects with their gradient, 16 contexts of 150 tokens", fontsize=10)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.16), ncol=2, frameon=False)


def growth(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Milliseconds as one thing grows, as multiples of what they are at the usual size."""
    for name, label in GROWING.items():
        line = [
            row
            for row in rows
            if all(row[other] == USUAL[other] for other in USUAL if other != name)
            and (row["case"] == SITES[0] if name != "depth" else row["case"] in ("a=2,b=5,t=1",) or row["depth"] != 6)
        ]
        line.sort(key=lambda row: row[name])
        start = next(row for row in line if row[name] == USUAL[name])
        times = [row["S"] * row["B"] / row["pairs_per_s"] for row in line]
        usual = start["S"] * start["B"] / start["pairs_per_s"]
        axes.plot([row[name] / USUAL[name] for row in line], [time / usual for time in times], marker="o", label=label)
    ends = axes.get_xlim()
    axes.plot(ends, ends, color="grey", linewidth=0.7, linestyle=":", label="in proportion")
    axes.set(xscale="log", yscale="log", xlabel="times the usual size", ylabel="times the usual time")
    axes.set_title("How the time of one evaluation grows", fontsize=10)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.16), ncol=2, frameon=False)


if __name__ == "__main__":
    main()
