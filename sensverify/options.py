"""The command line's options: what each is called and what its help says, once for all commands that have it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Method = Literal["parallel", "sequential", "spectral"]
StartName = Literal["random", "spectral", "activations"]
Start = Annotated[
    StartName,
    typer.Option(
        help="Where an ascent begins: random directions; the spectral solution; or activations less their mean, "
        "which point near every feature about as often as it is active, where features are sparse.",
    ),
]
ReferenceName = Literal["clean", "absent"]
Reference = Annotated[
    ReferenceName,
    typer.Option(
        help="What an intervention is compared with: clean, the activation as it was (as published); or absent, the "
        "same with presence 0, so that effects are those of presence 0 to alpha and leaning against the mean "
        "activation is not rewarded. absent costs a second read.",
    ),
]
Suites = Annotated[list[str] | None, typer.Argument(help="Suites; all by default.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Seed = Annotated[int, typer.Option(help="Seed of every random draw.", min=0)]
Model = Annotated[str, typer.Option(help="'embedded', a folder in Hugging Face layout, or a hub name.")]
Revision = Annotated[str | None, typer.Option(help="Revision of a hub model, e.g. step3000.")]
Device = Annotated[str, typer.Option(help="Torch device, e.g. cpu or cuda.")]
DType = Annotated[str, typer.Option(help="float32, float64 or bfloat16.")]
Text = Annotated[Path | None, typer.Option(help="UTF-8 text to read contexts from; held-out pages by default.")]
Context = Annotated[int, typer.Option(help="Tokens per context.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask the hub; use the local cache only.")]
Out = Annotated[Path, typer.Option(help="Folder for results; made if missing.")]
ReadoutName = Literal["residual", "next_token"]
ReadoutKind = Annotated[
    ReadoutName,
    typer.Option(
        help="What is measured: the angle by which the residual stream turns, or, if the target is the last block, how "
        "far the next-token distribution moves (KL divergence in nats)."
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(help="Memory that activations and tables may take, e.g. 3GB; a quarter of what is free by default."),
]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder for activations that do not fit in memory; safe to delete, made again when missing."),
]
Shard = Annotated[
    Literal["contexts", "directions"],
    typer.Option(help="What several processes, started by torchrun, share out among them."),
]
StopOnPlateau = Annotated[
    bool, typer.Option("--stop-on-plateau", help="Freeze directions whose score on held-out contexts rises no more.")
]
Revive = Annotated[
    bool, typer.Option("--revive", help="Start dead directions afresh too, with a step size of their own.")
]
