"""The commands, what they are told, and how their errors look."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from core import __version__
from core.checkpoints.registry import CHECKPOINTS, DEFAULT_CHECKPOINT
from core.errors import AudioEmotionError
from core.paths import SAMPLES, default_model
from core.settings import CLI_PREFIX

app = typer.Typer(
    name="audio-emotion",
    help="Hears which emotion is in recorded speech, how surely, and when.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
model_app = typer.Typer(
    help="Fetch a checkpoint, and make the serving package that the function loads.", no_args_is_help=True
)
app.add_typer(model_app, name="model")

Files = Annotated[list[Path], typer.Argument(help="Media files; anything that ffmpeg reads.", show_default=False)]
ModelDir = Annotated[
    Path | None,
    typer.Option(
        "--model",
        envvar=[f"{CLI_PREFIX}MODEL_DIR", "MODEL_DIR"],
        help="A serving package or a checkpoint. Without it: build/model if that exists, else the demo model.",
        show_default=False,
    ),
]

StackName = Annotated[str, typer.Option("--stack", help="The stack's name, as deployed.")]
UploadsBucket = Annotated[
    str | None, typer.Option("--bucket", help="Instead of a name: the stack's uploads bucket.", show_default=False)
]
Since = Annotated[
    str | None,
    typer.Option(help="Only from then on: 2026-01-31, 2026-01-31T14:00, 90m, 12h or 7d.", show_default=False),
]
Status = Literal["classified", "no_speech", "failed"]
_STACK = "audio-emotion"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"audio-emotion {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before the command."""


@app.command()
def classify(
    files: Files,
    model: ModelDir = None,
    json_lines: Annotated[
        bool, typer.Option("--json", help="One result document a line on stdout, and nothing else.")
    ] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="One utterance a row on stdout, under one header, and nothing else.")
    ] = False,
) -> None:
    """Say which emotion is heard in each file, and when.

    Exit status 1 if any of them failed. Settings such as AUDIO_EMOTION_CHANNELS and
    AUDIO_EMOTION_MAX_DURATION_S are read from the environment.
    """
    from core.cli.classify import classify_files

    if json_lines and as_csv:
        raise typer.BadParameter("--json and --csv cannot go together.")
    form: Literal["table", "json", "csv"] = "json" if json_lines else "csv" if as_csv else "table"
    raise typer.Exit(classify_files(files, model or default_model(), form=form))


@app.command()
def report(
    result: Annotated[Path, typer.Argument(help="A result document.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("report.html"),
    audio: Annotated[
        Path | None,
        typer.Option(help="The recording, to be played in the page; it becomes part of it.", show_default=False),
    ] = None,
) -> None:
    """Draw a result as one HTML page that needs nothing else: who sounds how, and when."""
    from core.cli.report import write_report

    write_report(result, out, audio)


@app.command()
def evaluate(
    manifest: Annotated[Path, typer.Argument(help="A CSV file with the columns path and emotion.", show_default=False)],
    model: ModelDir = None,
    labels: Annotated[
        str, typer.Option("--map", help="What its labels mean here: mad=anger,calm=neutral. An empty name leaves out.")
    ] = "",
    out: Annotated[Path, typer.Option(help="The folder for what is measured; a second run goes on there.")] = Path(
        "out/evaluation"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="The figures as JSON on stdout, and nothing else.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin again, whatever is in the folder.")] = False,
) -> None:
    """Measure how often the model is right on labelled recordings of your own."""
    from core.cli.evaluate import evaluate_manifest

    raise typer.Exit(evaluate_manifest(manifest, model or default_model(), out, labels, as_json=as_json, fresh=fresh))


@app.command()
def convert(
    files: Files,
    out: Annotated[Path, typer.Option("--out", help="The folder to write into; made if it is not there.")],
) -> None:
    """Convert media files to 16 kHz mono WAV, as the classifier hears them.

    Nothing is overwritten: a name that is taken gets a number.
    """
    from core.cli.convert import convert_files

    raise typer.Exit(convert_files(files, out))


@app.command()
def demo(
    samples: Annotated[
        Path | None,
        typer.Option(
            help="The folder of recordings to upload. Default: the samples that come with Audio Emotion.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the result documents go.")] = Path("out/results"),
    model: ModelDir = None,
) -> None:
    """Run the whole stack on this machine: upload, queue, function, results.

    Exit status 1 if a recording got no result, or if fewer than 95 % of those with a known emotion were heard as meant.
    """
    from core.cli.local import run_demo

    raise typer.Exit(run_demo(samples or SAMPLES, out, model or default_model()))


@app.command()
def local(
    inbox: Annotated[Path, typer.Option(help="Files dropped here are uploaded.")] = Path("inbox"),
    out: Annotated[Path, typer.Option(help="Where the result documents go.")] = Path("out/results"),
    workers: Annotated[int, typer.Option(min=1, help="How many instances of the function.")] = 1,
    model: ModelDir = None,
) -> None:
    """Keep the stack running and classify whatever is dropped into a folder, until Ctrl-C."""
    from core.cli.local import run_local

    raise typer.Exit(run_local(inbox, out, model or default_model(), workers))


@app.command()
def backfill(
    stack: StackName = _STACK,
    bucket: UploadsBucket = None,
    prefix: Annotated[str, typer.Option(help="Only uploads whose keys begin so.")] = "",
    since: Since = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count and estimate only.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Show the job's progress until it has ended.")] = False,
    model: ModelDir = None,
) -> None:
    """Classify what is in the uploads bucket already, by S3 Batch Operations: all that the deployed model has not done.

    The model that is here, if it is the deployed one, tells how many results are stale; the estimate rests on that.
    """
    from core.cli.aws import named_stack
    from core.cli.backfill import run_backfill
    from core.operations.backfill import Scope

    found = named_stack(stack, bucket)
    scope = Scope(found.uploads_bucket, prefix, _moment(since))

    def confirm() -> bool:
        return yes or typer.confirm("Start the backfill?")

    model_dir = model or default_model()
    raise typer.Exit(run_backfill(found, scope, model_dir, confirm=confirm, dry_run=dry_run, wait=wait))


@app.command()
def redrive(
    stack: StackName = _STACK,
    bucket: UploadsBucket = None,
    per_s: Annotated[
        int | None, typer.Option("--per-second", min=1, max=500, help="At most so many.", show_default=False)
    ] = None,
) -> None:
    """Bring the uploads that were given up back into the queue, once the reason is mended."""
    from core.cli.aws import named_stack
    from core.cli.redrive import run_redrive

    raise typer.Exit(run_redrive(named_stack(stack, bucket), per_s))


@app.command()
def status(
    stack: StackName = _STACK,
    bucket: UploadsBucket = None,
    sample: Annotated[int, typer.Option(min=0, help="Read at most so many results to judge the others by.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as JSON on stdout, and nothing else.")] = False,
    model: ModelDir = None,
) -> None:
    """Count a stack's uploads, results, failures, and messages that wait."""
    from core.cli.aws import named_stack
    from core.cli.status import run_status

    raise typer.Exit(run_status(named_stack(stack, bucket), model or default_model(), sample=sample, as_json=as_json))


@app.command()
def results(  # noqa: PLR0913, PLR0917 (each is an option)
    folder: Annotated[Path, typer.Option(help="Read the documents below this folder.")] = Path("out/results"),
    stack: Annotated[
        str | None, typer.Option("--stack", help="Read those of a deployed stack instead.", show_default=False)
    ] = None,
    bucket: Annotated[str | None, typer.Option("--bucket", help="Or those in a bucket.", show_default=False)] = None,
    results_prefix: Annotated[
        str, typer.Option("--results-prefix", help="With --bucket: what the documents' keys begin with there.")
    ] = "results/",
    since: Since = None,
    emotion: Annotated[
        str | None, typer.Option(help="Only recordings that sound so on average.", show_default=False)
    ] = None,
    utterance: Annotated[
        str | None, typer.Option(help="Only recordings with an utterance that sounds so.", show_default=False)
    ] = None,
    status: Annotated[
        Status | None, typer.Option("--status", help="Only results with this status.", show_default=False)
    ] = None,
    prefix: Annotated[str, typer.Option(help="Only recordings whose keys begin so.")] = "",
    json_lines: Annotated[bool, typer.Option("--json", help="One document a line on stdout.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="One utterance a row on stdout.")] = False,
) -> None:
    """Show many results: those in a folder, or those in a results bucket.

    Exit status 1 if a document could not be read.
    """
    from core.cli.results import show_results
    from core.operations.results import ResultFilter

    if json_lines and as_csv:
        raise typer.BadParameter("--json and --csv cannot go together.")
    if stack and bucket:
        raise typer.BadParameter("--stack and --bucket cannot go together.")
    place: Path | tuple[str, str] = folder
    if stack:
        from core.cli.aws import named_stack

        found = named_stack(stack, None)
        place = (found.results_bucket, found.results_prefix)
    elif bucket:
        place = (bucket, results_prefix)
    wanted = ResultFilter(since=_moment(since), emotion=emotion, utterance=utterance, status=status, key_prefix=prefix)
    raise typer.Exit(show_results(place, wanted, "json" if json_lines else "csv" if as_csv else "table"))


def _moment(text: str | None) -> datetime | None:
    from core.operations.results import parse_time

    try:
        return parse_time(text) if text else None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@app.command()
def schema() -> None:
    """Print the JSON Schema of the result document."""
    from core.results import json_schema

    typer.echo(json_schema())


@model_app.command("list")
def list_models() -> None:
    """List the checkpoints that are known by name: what they hear, and what they learned it from."""
    from core.cli.checkpoints import list_checkpoints

    list_checkpoints()


@model_app.command()
def pull(
    name: Annotated[
        str, typer.Argument(help=f"{' or '.join(CHECKPOINTS)}; or any owner/name on the Hub, in one of their layouts.")
    ] = DEFAULT_CHECKPOINT,
    out: Annotated[Path, typer.Option("--out", help="The folder to fill.")] = Path("build/checkpoint"),
    revision: Annotated[
        str | None, typer.Option(help="A branch, tag or commit; the Hub's main branch unless told.", show_default=False)
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(envvar="HF_ENDPOINT", help="Another server that speaks the Hub's protocol.", show_default=False),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--from", help="Copy from this folder instead.", show_default=False)
    ] = None,
) -> None:
    """Fetch a checkpoint from the Hugging Face Hub, and record the commit it came from."""
    from core.cli.checkpoints import pull_checkpoint

    pull_checkpoint(name, out, revision=revision, endpoint=endpoint, folder=folder)


@model_app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A Hugging Face folder.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Where the serving package goes.", show_default=False)],
    precision: Annotated[
        str, typer.Option(help="auto tries int8, int8-ffn and fp32 in this order, and keeps the first that holds.")
    ] = "auto",
    calibration: Annotated[
        Path | None,
        typer.Option(help="A folder of speech to compare on, besides samples/. 50 clips or more tell something."),
    ] = None,
) -> None:
    """Make a serving package, if it says what the checkpoint says."""
    from core.cli.export import export_package

    raise typer.Exit(export_package(checkpoint, out, precision, calibration))


def main() -> None:
    """Run the command line; our own errors and the file system's are one sentence on stderr and exit status 1."""
    try:
        app()
    except AudioEmotionError as error:
        typer.echo(f"audio-emotion: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        typer.echo(f"audio-emotion: {where}{error.strerror or error}.", err=True)
        sys.exit(1)
    except ImportError as error:
        typer.echo(f"audio-emotion: this needs the package {error.name}: install requirements/model.txt.", err=True)
        sys.exit(1)
