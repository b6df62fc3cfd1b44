"""The command line's options: what each is called and what its help says, once for all commands that have it.

Those that say what a run is about go together: a command that takes a ``subject`` gets all of them by
:func:`about_a_model`, so that no command can lack one that the others have.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sensverify.claims import HUB_TEXT, Packing, Subject, Weights

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
ReadoutName = Literal["residual", "next_token", "neurons", "logits"]
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
Text = Annotated[
    str | None,
    typer.Option(
        help="Text to read contexts from: a .txt file (UTF-8, a form feed between documents), a .jsonl (.ndjson) "
        "or .parquet file, or hf:NAME[@REVISION][:CONFIG][:SPLIT], a data set on the hub; held-out pages by default."
    ),
]
TextField = Annotated[str, typer.Option(help="Field or column that holds the text of a .jsonl, .parquet or hf: text.")]
PackingKind = Annotated[
    Packing,
    typer.Option(help="Windows cut one after another out of each document, or each document a context of its own."),
]
OutlierNorms = Annotated[
    bool,
    typer.Option(
        "--exclude-outlier-norms", help="Never intervene where the residual norm is an outlier; they are counted."
    ),
]
OutlierFactor = Annotated[
    float, typer.Option(help="How many times the median a norm must exceed to be such an outlier.", min=1.0)
]
WeightsKind = Annotated[
    Weights,
    typer.Option(help="Weights as stored, or with each norm folded into the maps behind it; the same function."),
]
Sae = Annotated[Path | None, typer.Option(help="Sparse autoencoder to compare with: its file, or its folder.")]
Context = Annotated[int, typer.Option(help="Tokens per context.")]
DirectionsFile = Annotated[
    Path, typer.Argument(help="directions.safetensors, the folder that holds it, or a sparse autoencoder.")
]
Index = Annotated[
    list[int] | None,
    typer.Option(help="Row of a direction, or number of a latent; may be repeated. The best-scored by default."),
]
Recorded = Annotated[int | None, typer.Option(help="As recorded in cfg.json by default.")]
RecordedReference = Annotated[
    ReferenceName | None,
    typer.Option(help="As `discover` has it; as recorded in cfg.json by default, or else clean."),
]
RecordedWeights = Annotated[
    Weights | None,
    typer.Option(
        help="Weights as stored, or with each norm folded into the maps behind it; as recorded in cfg.json by default."
    ),
]
RecordedReadout = Annotated[
    ReadoutName | None, typer.Option(help="As `discover` has it; as recorded in cfg.json by default.")
]
Tasks = Annotated[
    Path | None,
    typer.Option(help="Folder of task sets, JSON: pairs of prefixes and answers, or prompts with answers."),
]
Neighbours = Annotated[
    Path | None,
    typer.Option("--sae", help="Sparse autoencoder, or other directions, to look for the nearest ones in."),
]
Pin = Annotated[
    float | None,
    typer.Option(
        help="Presence that a direction is boosted and pinned to, above 0 and up to 1; by default the 99.9 % quantile "
        "of its presence on held-out text, but no less than that of the presence of random directions.",
        show_default=False,
    ),
]
AllowOtherModel = Annotated[
    bool, typer.Option("--allow-other-model", help="Take directions found on other weights, or of which nobody says.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask the hub; use the local cache only.")]
Out = Annotated[Path, typer.Option(help="Folder for results; made if missing.")]
ReadoutKind = Annotated[
    ReadoutName,
    typer.Option(
        help="What is measured: residual, the angle by which the residual stream turns; next_token, if the target is "
        "the last block, how far the next-token distribution moves (KL divergence in nats); neurons, those of the MLP "
        "that reads what the target's attention writes; logits, behind the last block. Single units mean something "
        "in the last two alone."
    ),
]
ScoreName = Literal["plain", "selective", "peak"]
RecordedScore = Annotated[
    ScoreName | None,
    typer.Option("--score", help="What is measured, as `discover` has it; as recorded in cfg.json by default."),
]
Score = Annotated[
    ScoreName,
    typer.Option(
        help="What is maximised: plain sensitivity; or, with --readout neurons or logits, selective, on how few units "
        "an effect is concentrated, whatever its size; or peak, large effects on few units."
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


def _subject(
    *,
    model: Model = "embedded",
    revision: Revision = None,
    weights: WeightsKind = "raw",
    text: Text = None,
    text_field: TextField = "text",
    packing: PackingKind = "packed",
    exclude_outlier_norms: OutlierNorms = False,
    outlier_factor: OutlierFactor = 10.0,
    device: Device = "cpu",
    dtype: DType = "float32",
    offline: Offline = False,
) -> Subject:
    """The subject that these options describe."""
    return Subject(
        model=model, revision=revision, weights=weights, text_field=text_field, packing=packing,
        text=text if text is None or text.startswith(HUB_TEXT) else Path(text),
        outlier_norms=outlier_factor if exclude_outlier_norms else None,
        device=device, dtype=dtype, offline=offline,
    )  # fmt: skip


def about_a_model(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with the options of :func:`_subject` in place of its parameter ``subject``; of one that it has itself
    its own is taken.

    typer reads signatures: the one that it is shown has them all.
    """
    own, described = (dict(inspect.signature(one, eval_str=True).parameters) for one in (command, _subject))
    described = {name: one for name, one in described.items() if name not in own}
    parameters = [one.replace(kind=one.KEYWORD_ONLY) for name, one in own.items() if name != "subject"]
    parameters += described.values()

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        about = {name: given.pop(name) for name in described}
        command(subject=_subject(**about), **given)

    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {one.name: one.annotation for one in parameters}
    return with_options
