"""The command line: the only place that prints, and the only place that turns errors into exit codes.

Exit codes: 0 every verdict reached is the expected one (or the command did its work); 1 some verdict differs, or none
was reached because all were skipped; 2 wrong usage or bad input, told in one line on stderr; 3 interrupted (by
Ctrl-C or SIGTERM), what was finished is on disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import reprlib
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import typer

from sensverify import __version__
from sensverify.claims import Profile, Run, Subject
from sensverify.errors import InputError, Interrupted, MissingExtraError
from sensverify.files import check_writable, make_directory
from sensverify.waiting import CheckpointSaver, interruptible, progress_bars

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

Method = Literal["parallel", "sequential", "spectral"]
Start = Literal["random", "spectral", "activations"]
ReferenceName = Literal["clean", "absent"]
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
def list_claims(suites: Suites = None, as_json: AsJson = False) -> None:
    """List every claim: ID, expected verdict, statement."""
    from sensverify.suites import listing, load_suites, select

    chosen = select(load_suites(), names=suites or ())
    if as_json:
        _print_json(listing(chosen))
        return
    for name, claim in chosen:
        _say(f"{claim.id:<14} {name:<11} {claim.expected.value:<12} {claim.statement}")


@app.command()
def verify(
    suites: Suites = None,
    claim: Annotated[list[str] | None, typer.Option(help="Only this claim; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for verdicts.json, report.html, artefacts.")] = None,
    as_json: AsJson = False,
    seed: Seed = 0,
    profile: Annotated[Profile, typer.Option(help="How much is drawn and trained.")] = "quick",
    model: Model = "embedded",
    revision: Revision = None,
    device: Device = "cpu",
    dtype: DType = "float32",
    text: Text = None,
    predictions: Annotated[Path | None, typer.Option(help="Predictions to judge the model by.")] = None,
    offline: Offline = False,
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
    subject = Subject(
        model=model, revision=revision, device=device, dtype=dtype, text=text, predictions=predictions,
        offline=offline,
    )  # fmt: skip
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
def discover(
    out: Out,
    layer: Annotated[int, typer.Option(help="Block after whose output one intervenes (a).")],
    target: Annotated[int, typer.Option(help="Block after whose output one measures (b > a).")],
    model: Model = "embedded",
    offset: Annotated[int, typer.Option(help="Tokens between intervention and measurement (t).")] = 1,
    directions: Annotated[int, typer.Option(help="Number of directions.", min=1)] = 16,
    steps: Annotated[int, typer.Option(help="Steps of the search (per direction if sequential).", min=1)] = 200,
    method: Annotated[Method, typer.Option(help="How directions are searched for.")] = "parallel",
    start: Annotated[
        Start,
        typer.Option(
            help="Where an ascent begins: random directions; the spectral solution; or activations less their mean, "
            "which point near every feature about as often as it is active, where features are sparse.",
        ),
    ] = "random",
    reference: Annotated[
        ReferenceName,
        typer.Option(
            help="What an intervention is compared with: clean, the activation as it was (as published); or absent, "
            "the same with presence 0, so that effects are those of presence 0 to alpha and leaning against the mean "
            "activation is not rewarded. absent costs a second read.",
        ),
    ] = "clean",
    text: Text = None,
    context: Context = 64,
    contexts: Annotated[int, typer.Option(help="Contexts drawn per step.", min=2)] = 64,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    seed: Seed = 0,
    revision: Revision = None,
    device: Device = "cpu",
    dtype: DType = "float32",
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Find the directions to which a model's later computation is most sensitive."""
    from sensverify import checkpoints
    from sensverify.directions import save_directions
    from sensverify.discovery import SearchOptions, search, start_search, total_steps
    from sensverify.evaluation import evaluate_directions
    from sensverify.sensitivity import Probe
    from sensverify.sites import SiteOptions, open_site

    check_writable(out)
    probe = Probe(reference=reference)
    options = SearchOptions(
        directions=directions, steps=steps, method=method, start=start, contexts=contexts, seed=seed, probe=probe
    )
    subject = Subject(model=model, revision=revision, device=device, dtype=dtype, text=text, offline=offline)
    site_options = SiteOptions(layer=layer, target=target, offset=offset, context=context)
    site = open_site(subject, site_options)
    configuration = {**site.description, "search": options.to_json()}
    state = checkpoints.load_checkpoint(out, configuration, site.search.device) if resume else None
    state = state or start_search(site.search, options)  # the last thing that can refuse, so before the folder
    make_directory(out)
    with interruptible() as stop_requested, progress_bars(quiet=as_json) as progress:
        saver = CheckpointSaver(lambda s: checkpoints.save_checkpoint(out, s, configuration), stop_requested)
        state = search(site.search, options, state=state, progress=progress, after_step=saver)
        if total_steps(options):
            checkpoints.save_checkpoint(out, state, configuration)
        result = evaluate_directions(site, state.directions, seed=seed, probe=probe)
    path = save_directions(out, result.to_directions({**configuration, "version": __version__, "seed": seed}))
    if as_json:
        _print_json({"schema": 1, "directions": str(path), **result.to_json()})
        return
    _print_table(result.table())
    _say(f"directions: {path}")


@app.command()
def score(
    directions: Annotated[Path, typer.Argument(help="directions.safetensors, or the folder that holds it.")],
    model: Model = "embedded",
    layer: Annotated[int | None, typer.Option(help="As recorded in cfg.json by default.")] = None,
    target: Annotated[int | None, typer.Option(help="As recorded in cfg.json by default.")] = None,
    offset: Annotated[int | None, typer.Option(help="As recorded in cfg.json by default.")] = None,
    reference: Annotated[
        ReferenceName | None,
        typer.Option(help="As `discover` has it; as recorded in cfg.json by default, or else clean."),
    ] = None,
    text: Text = None,
    context: Context = 64,
    seed: Seed = 0,
    revision: Revision = None,
    device: Device = "cpu",
    dtype: DType = "float32",
    offline: Offline = False,
    allow_other_model: Annotated[
        bool, typer.Option("--allow-other-model", help="Score directions found on other weights.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score directions and their negatives on held-out contexts, beside random ones, with intervals."""
    from sensverify.directions import check_belongs, load_directions
    from sensverify.evaluation import evaluate_directions
    from sensverify.sensitivity import Probe
    from sensverify.sites import SiteOptions, open_site

    found = load_directions(directions)
    site_options = SiteOptions(
        layer=_recorded(found.config, "layer", layer),
        target=_recorded(found.config, "target", target),
        offset=_recorded(found.config, "offset", offset),
        context=context,
    )
    probe = Probe(reference=reference or _recorded_reference(found.config))
    subject = Subject(model=model, revision=revision, device=device, dtype=dtype, text=text, offline=offline)
    site = open_site(subject, site_options)
    check_belongs(
        found,
        width=site.held_out.width,
        weights_sha256=site.weights_sha256,
        model=model,
        allow_other_model=allow_other_model,
    )
    with progress_bars(quiet=as_json) as progress:
        result = evaluate_directions(site, found.directions, seed=seed, probe=probe, progress=progress)
    if as_json:
        _print_json({"schema": 1, **result.to_json()})
        return
    _print_table(result.table())


def _recorded(config: Any, name: str, given: int | None) -> int:
    """The option given, or else what ``cfg.json`` recorded."""
    value = config.get(name) if given is None else given
    if not isinstance(value, int):
        raise InputError(
            expected=f"{name!r} in cfg.json or on the command line", got="neither", remedy=f"pass --{name}"
        )
    return value


def _recorded_reference(config: Any) -> ReferenceName:
    """What the search in ``cfg.json`` compared interventions with; clean if it does not say."""
    search = config.get("search")
    probe = search.get("probe") if isinstance(search, dict) else None
    found = probe.get("reference", "clean") if isinstance(probe, dict) else "clean"
    if found not in get_args(ReferenceName):
        raise InputError(
            expected=f"a reference out of {', '.join(get_args(ReferenceName))} in cfg.json",
            got=reprlib.repr(found),
            remedy="pass --reference",
        )
    return cast(ReferenceName, found)


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
    as_json: AsJson = False,
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
