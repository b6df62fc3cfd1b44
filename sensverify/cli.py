"""The command line: the only place that prints, and the only place that turns errors into exit codes.

Exit codes: 0 every verdict reached is the expected one (or the command did its work); 1 some verdict differs, or none
was reached because all were skipped; 2 wrong usage or bad input, told in one line on stderr; 3 interrupted (by
Ctrl-C or SIGTERM), what was finished is on disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sensverify import __version__
from sensverify import options as offered
from sensverify.claims import Profile, Run, Subject
from sensverify.errors import InputError, Interrupted, MissingExtraError
from sensverify.files import check_writable, make_directory, write_atomically
from sensverify.memory import parse_size
from sensverify.waiting import progress_bars

if TYPE_CHECKING:
    from sensverify.verdicts import Verdict

app = typer.Typer(
    name="sensverify",
    help="State, prove, test and try to break claims about features in language models.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        _say(f"sensverify {__version__}")
        raise typer.Exit


@app.callback()
def sensverify(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """State, prove, test and try to break claims about features in language models."""


@app.command("list")
def list_claims(suites: offered.Suites = None, as_json: offered.AsJson = False) -> None:
    """List every claim: ID, expected verdict, statement."""
    from sensverify.suites import line_of, listing, load_suites, select

    chosen = select(load_suites(), names=suites or ())
    if as_json:
        _print_json(listing(chosen))
        return
    for name, claim in chosen:
        _say(line_of(name, claim))


@app.command()
@offered.about_a_model
def verify(
    subject: Subject,
    suites: offered.Suites = None,
    claim: Annotated[list[str] | None, typer.Option(help="Only this claim; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for verdicts.json, report.html, artefacts.")] = None,
    as_json: offered.AsJson = False,
    seed: offered.Seed = 0,
    profile: Annotated[Profile, typer.Option(help="How much is drawn and trained.")] = "quick",
    predictions: Annotated[Path | None, typer.Option(help="Predictions to judge the model by.")] = None,
    sae: offered.Sae = None,
) -> None:
    """Check claims and write a report; exit 0 only if every verdict is the expected one."""
    from sensverify import report
    from sensverify.runner import preflight, run_claims
    from sensverify.suites import load_suites, select
    from sensverify.verdicts import Status

    loaded = load_suites()
    selection = select(loaded, names=suites or (), ids=claim or ())
    if out is not None:
        check_writable(out)
    subject = dataclasses.replace(subject, predictions=predictions, sae=sae)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sensverify-")))
        progress = stack.enter_context(progress_bars(quiet=as_json))
        run = Run(seed=seed, directory=out or scratch, profile=profile, subject=subject, progress=progress)
        preflight(selection, run)
        if out is not None:
            make_directory(out)
        environment = report.environment(run)
        verdicts: list[Verdict] = []
        progress("claims", 0, len(selection))
        try:
            with contextlib.closing(run_claims(selection, loaded, run)) as decisions:
                for verdict in decisions:
                    verdicts.append(verdict)
                    complete = len(verdicts) == len(selection)
                    progress("claims", len(verdicts), len(selection))
                    if out is not None:
                        report.write_verdicts(out, verdicts, environment, complete=complete)
                    if _interrupted.is_set() and not complete:  # and a library of the claim's kept it to itself
                        raise KeyboardInterrupt
        finally:  # an interrupted run leaves a page of what was decided, which says that it was interrupted
            if out is not None and verdicts:
                report.write_html(out)
    if as_json:
        _print_json(report.verdicts_document(verdicts, {**environment, "complete": True}))
    else:
        _print_table(report.terminal_table(verdicts))
        _say(report.summary_line(verdicts))
        if out is not None:
            _say(f"report: {out / 'report.html'}")
    decided = [verdict for verdict in verdicts if verdict.status is not Status.SKIPPED]
    raise typer.Exit(0 if decided and not any(verdict.differs for verdict in verdicts) else 1)


@app.command()
@offered.about_a_model
def discover(
    subject: Subject,
    out: offered.Out,
    layer: Annotated[int, typer.Option(help="Block after whose output one intervenes (a).")],
    target: Annotated[int, typer.Option(help="Block after whose output one measures (b > a).")],
    offset: Annotated[int, typer.Option(help="Tokens between intervention and measurement (t).")] = 1,
    directions: Annotated[int, typer.Option(help="Number of directions.", min=1)] = 16,
    steps: Annotated[int, typer.Option(help="Steps of the search (per direction if sequential).", min=1)] = 200,
    method: Annotated[offered.Method, typer.Option(help="How directions are searched for.")] = "parallel",
    start: offered.Start = "random",
    reference: offered.Reference = "clean",
    context: offered.Context = 64,
    contexts: Annotated[int, typer.Option(help="Contexts drawn per step.", min=2)] = 64,
    readout: offered.ReadoutKind = "residual",
    score: offered.Score = "plain",
    memory: offered.Memory = None,
    cache: offered.Cache = None,
    shard: offered.Shard = "contexts",
    stop_on_plateau: offered.StopOnPlateau = False,
    revive: offered.Revive = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    seed: offered.Seed = 0,
    as_json: offered.AsJson = False,
) -> None:
    """Find the directions to which a model's later computation is most sensitive."""
    from sensverify import unattended
    from sensverify.plateau import Plateau
    from sensverify.search_state import SearchOptions
    from sensverify.sensitivity import Probe
    from sensverify.sites import SiteOptions

    options = SearchOptions(
        directions=directions, steps=steps, method=method, start=start, contexts=contexts, seed=seed, score=score,
        probe=Probe(reference=reference), revive=revive, plateau=Plateau() if stop_on_plateau else None,
    )  # fmt: skip
    request = unattended.Request(
        subject=subject,
        site=SiteOptions(
            layer=layer, target=target, offset=offset, context=context, readout=readout, cache=cache,
            memory=None if memory is None else parse_size(memory),
        ),
        search=options, out=out, resume=resume, shard=shard,
    )  # fmt: skip
    with progress_bars(quiet=as_json) as listener:
        outcome = unattended.discover(request, listener=listener, warn=lambda line: _complain(f"warning: {line}"))
    if outcome is None:  # one of several processes, and not the one that writes
        return
    if as_json:
        _print_json({"schema": 1, "directions": str(outcome.path), **outcome.evaluation.to_json()})
        return
    _print_table(outcome.evaluation.table())
    _say(f"directions: {outcome.path}")


@app.command()
@offered.about_a_model
def score(
    subject: Subject,
    directions: Annotated[Path, typer.Argument(help="directions.safetensors, its folder, or a sparse autoencoder's.")],
    layer: offered.Recorded = None,
    target: offered.Recorded = None,
    offset: offered.Recorded = None,
    reference: offered.RecordedReference = None,
    readout: offered.RecordedReadout = None,
    weights: offered.RecordedWeights = None,
    measure: offered.RecordedScore = None,
    context: offered.Context = 64,
    memory: offered.Memory = None,
    cache: offered.Cache = None,
    seed: offered.Seed = 0,
    allow_other_model: offered.AllowOtherModel = False,
    as_json: offered.AsJson = False,
) -> None:
    """Score directions and their negatives on held-out contexts, beside random ones, with intervals."""
    from sensverify import recorded
    from sensverify.directions import check_belongs, living, load_directions
    from sensverify.evaluation import evaluate_directions, measured_as
    from sensverify.sensitivity import Probe
    from sensverify.sites import SiteOptions, open_site

    found = load_directions(directions, layer=layer)
    site_options = SiteOptions(
        layer=recorded.recorded_number(found.config, "layer", layer),
        target=recorded.recorded_number(found.config, "target", target),
        offset=recorded.recorded_number(found.config, "offset", offset),
        context=context,
        readout=readout or recorded.recorded_readout(found.config),
        memory=None if memory is None else parse_size(memory),
        cache=cache,
    )
    probe = Probe(reference=reference or recorded.recorded_reference(found.config))
    subject = dataclasses.replace(subject, weights=weights or recorded.recorded_weights(found.config))
    site = open_site(subject, site_options)
    check_belongs(
        found, width=site.held_out.width, weights_sha256=site.weights_sha256, model=subject.model,
        allow_other_model=allow_other_model,
    )  # fmt: skip
    found = living(found, site.held_out, seed)
    with progress_bars(quiet=as_json) as progress:
        result = evaluate_directions(
            site, found.directions, seed=seed, probe=measured_as(probe, site.held_out), progress=progress,
            score=measure or recorded.recorded_score(found.config), called=found.called,
        )  # fmt: skip
    if as_json:
        _print_json({"schema": 1, **result.to_json(), **found.autoencoder_json()})
        return
    _print_table(result.table())


@app.command()
@offered.about_a_model
def inspect(
    subject: Subject,
    directions: offered.DirectionsFile,
    index: offered.Index = None,
    layer: offered.Recorded = None,
    weights: offered.RecordedWeights = None,
    context: offered.Context = 64,
    tasks: offered.Tasks = None,
    sae: offered.Neighbours = None,
    pin: offered.Pin = None,
    out: Annotated[Path | None, typer.Option(help="Folder for inspection.json and inspection.html.")] = None,
    seed: offered.Seed = 0,
    allow_other_model: offered.AllowOtherModel = False,
    as_json: offered.AsJson = False,
) -> None:
    """Look at directions one by one: contexts, a rule, logit weights, ablation, pinned sampling, neighbours."""
    from sensverify.inspection import InspectionRequest, inspect_directions

    subject = subject if weights is None else dataclasses.replace(subject, weights=weights)
    request = InspectionRequest(
        directions=directions, subject=subject, indices=tuple(index or ()), layer=layer, context=context, tasks=tasks,
        sae=sae, pin=pin, seed=seed, allow_other_model=allow_other_model, out=out, recorded_weights=weights is None,
    )  # fmt: skip
    with progress_bars(quiet=as_json) as progress:
        inspected = inspect_directions(request, progress)
    if as_json:
        _print_json(inspected.to_json())
        return
    _print_table(inspected.terminal())
    if inspected.page is not None:
        _say(f"page: {inspected.page}")


@app.command()
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Only the rows that the README has ratios for.")] = False,
    alone: Annotated[bool, typer.Option("--alone", help="Without the other ways, which take longest.")] = False,
    as_json: offered.AsJson = False,
    out: Annotated[Path | None, typer.Option(help="File for the figures, written anew after every row.")] = None,
    seconds: Annotated[float, typer.Option(help="Time for each way of measuring.", min=0.01)] = 3.0,
) -> None:
    """Measure how fast effects are computed here, beside hooks on the whole model and beside the floor."""
    from sensverify.benchmarks import document, run_benchmark, table

    if out is not None:
        check_writable(out)

    def keep(rows: list[dict[str, Any]]) -> None:
        if out is not None:
            write_atomically(out, json.dumps(document(rows), indent=1, allow_nan=False) + "\n")

    with progress_bars(quiet=as_json) as progress:
        rows = run_benchmark(quick=quick, alone=alone, seconds=seconds, progress=progress, after_row=keep)
    if as_json:
        _print_json(document(rows))
    else:
        _print_table(table(rows))


@app.command()
def colouring(
    file: Annotated[
        str | None, typer.Argument(help="A square table, lines 'i j value', a witness, or module:function.")
    ] = None,
    paley: Annotated[int | None, typer.Option(help="Three classes on Paley's graph of this prime instead.")] = None,
    points: Annotated[int | None, typer.Option(help="Number of points, with module:function.")] = None,
    k: Annotated[int | None, typer.Option(help="Ask about sets of this size.")] = None,
    time_limit: Annotated[float, typer.Option(help="Seconds for the exact search.")] = 60.0,
    out: Annotated[Path | None, typer.Option(help="Folder for colouring.json and colouring.html.")] = None,
    as_json: offered.AsJson = False,
) -> None:
    """Find a large set of points on which a symmetric F(x, y) misses a value."""
    from sensverify.colouring import ColouringRequest, examine_colouring, write_answer

    if out is not None:
        check_writable(out)
    request = ColouringRequest(source=file, paley=paley, points=points, k=k, seconds=time_limit)
    with progress_bars(quiet=as_json) as progress:
        answer = examine_colouring(request, progress)
    page = write_answer(out, answer) if out is not None else None
    if as_json:
        _print_json(answer.to_json())
        return
    for line in answer.lines():
        _say(line)
    if page is not None:
        _say(f"page: {page}")


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(help="A folder that `verify --out` wrote.")],
) -> None:
    """Draw report.html again from the verdicts and exhibits in a folder."""
    from sensverify.report import write_html

    _say(f"report: {write_html(directory)}")


def _say(line: str) -> None:
    try:
        typer.echo(line)
    except BrokenPipeError:
        # The reader went away (`sensverify list | head`): the work goes on, its words go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_json(document: Any) -> None:
    _say(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False))


def _print_table(table: Any) -> None:
    from rich.console import Console

    console = Console()
    with console.capture() as capture:
        console.print(table)
    _say(capture.get().rstrip())


_interrupted = threading.Event()


def _interrupt(_number: int, _frame: object) -> None:
    _interrupted.set()
    raise KeyboardInterrupt


def main() -> None:
    """The entry point: run a command and turn every outcome into an exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):  # whoever asks politely gets the report and the code too
        if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell leaves it to jobs in the background
            signal.signal(number, _interrupt)
    code = run(sys.argv[1:])
    exec(
        ""
    )  # `python -m` ends by SIGINT if an interrupt has ever passed through exec, whoever caught it; this forgets it
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line on ``arguments`` and return the exit code; never raises but for defects of ours."""
    # Read by OpenMP when torch is imported. Threads that spin at barriers are at best a little faster on an idle
    # machine; beside another job they were measured to be up to 23 times slower on two cores (benchmarks/README.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # or a lost process is told with a trace of torch's own
    usage_error = typer.BadParameter.__mro__[1]  # click's UsageError, wherever this typer keeps it
    try:
        result = app(arguments, standalone_mode=False, prog_name="sensverify")
        if result == 130:  # how some versions of typer tell of a KeyboardInterrupt; others raise Abort
            raise typer.Abort
        return result if isinstance(result, int) else 0
    except usage_error as error:  # type: ignore[misc]
        return _fail(f"expected a valid command line, got: {error.format_message()}; remedy: see --help")
    except MissingExtraError as error:
        return _fail(str(error))
    except InputError as error:
        return _fail(str(error))
    except Interrupted as error:
        _complain(f"interrupted: {error}")
        return 3
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted: what was finished is on disk")
        return 3


def _fail(message: str) -> int:
    _complain(message)
    return 2


def _complain(message: str) -> None:
    typer.echo(f"sensverify: {' '.join(message.split())}", err=True)


if __name__ == "__main__":
    main()
