"""The commands: their options, their help texts, and how their errors are printed."""

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from core import __version__
from core.audio.formats import FORMAT_NAMES
from core.checkpoints.registry import DEFAULT_CHECKPOINT
from core.cli.streams import complain, discard_unwritten, prepare_streams, reason_of
from core.errors import AudioEmotionError, FolderRefused
from core.paths import SAMPLES, default_model
from core.settings import CLI_PREFIX, SpeakerMode

if TYPE_CHECKING:
    from core.cli.tables import OutputFormat
    from core.results.csv_table import CsvRow


class _Command(TyperCommand):
    """A command whose help shows no type beside options that take no value."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters in the order of the help."""
        return _with_plain_flags(super().get_params(ctx))


class _Group(TyperGroup):
    """A group of such commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters in the order of the help."""
        return _with_plain_flags(super().get_params(ctx))


def _with_plain_flags(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


def _examples(*lines: str) -> dict[str, Any]:
    """Return the options of a command whose help ends with examples."""
    commands = "\n".join(f"  audio-emotion {line}" for line in lines)
    return {"cls": _Command, "epilog": f"Examples:\n{commands}"}


app = typer.Typer(
    cls=_Group,
    name="audio-emotion",
    help="Classify the emotion of each utterance in recorded speech.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
model_app = typer.Typer(cls=_Group, help="List, download and export models.", no_args_is_help=True)
app.add_typer(model_app, name="model")

_files = typer.Argument(
    help=f"Audio or video files, folders with such files, or - for standard input. Formats: {FORMAT_NAMES}.",
    readable=False,  # typer would check the files, and end the command at the first that cannot be read
    show_default=False,
)
Files = Annotated[list[Path], _files]
ModelDir = Annotated[
    Path | None,
    typer.Option(
        "--model",
        envvar=[f"{CLI_PREFIX}MODEL_DIR", "MODEL_DIR"],
        help="Serving package or checkpoint. Default: build/model if it exists, or the demo model.",
        show_default=False,
    ),
]

StackName = Annotated[str, typer.Option("--stack", help="Name of the deployed stack.")]
UploadsBucket = Annotated[
    str | None, typer.Option("--bucket", help="The stack's uploads bucket, instead of its name.", show_default=False)
]
Since = Annotated[
    str | None,
    typer.Option(
        help="Skip recordings from before this time (2026-01-31, 2026-01-31T14:00) or of more than this age (90m, "
        "12h, 7d).",
        show_default=False,
    ),
]
Labels = Annotated[
    str,
    typer.Option(
        help="Rename labels: LABEL_0=neutral,LABEL_1=anger. Labels with the same new name are merged, and their "
        "probabilities are added: excited=happy.",
        show_default=False,
    ),
]
Only = Annotated[
    str,
    typer.Option(
        help="Decide between these labels only: anger,neutral. Their probabilities are scaled to sum to 1.",
        show_default=False,
    ),
]
Speakers = Annotated[
    SpeakerMode | None,
    typer.Option(
        help="Separate two speakers who share a channel: always (2), or only if the voices clearly differ (auto). It "
        "needs `make speakers`. Default: off.",
        show_default=False,
    ),
]
UnsureBelow = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Mark results whose score is lower as unsure: 0.5. The label stays. Default: none are marked.",
        show_default=False,
    ),
]
JsonLines = Annotated[bool, typer.Option("--json", help="Print only one result document per line.")]
Csv = Annotated[
    bool, typer.Option("--csv", help="Print only a CSV header and one row per utterance, or as --per says.")
]
Per = Annotated[
    Literal["utterance", "channel", "recording"],
    typer.Option(
        help="With --csv: what has a row. Rows of channels and recordings have mean scores and shares of time. A "
        "channel with several speakers has a row for each."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print only the numbers, as JSON.")]
ResultsFolder = Annotated[Path, typer.Option("--out", help="Folder for the result documents.")]
Status = Literal["classified", "no_speech", "failed"]
_STACK = "audio-emotion"
_OUT_SUFFIXES = (".jsonl", ".csv", ".parquet")
_EXTRAS = {"accelerate": "train", "peft": "train", "scipy": "train", "sklearn": "train", "pyarrow": "parquet"}
"""Package -> the extra that installs it; those of `model` are not listed."""
_INTERRUPTED = 130
"""The exit status after Ctrl-C, as in a shell."""


def _show_version(is_requested: bool) -> None:
    if is_requested:
        typer.echo(f"audio-emotion {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Declare the options before the command."""


@app.command(
    **_examples(
        "classify call.mp3",
        "classify calls/ --csv --per recording > calls.csv",
        "classify calls/ --recursive --out results.jsonl --resume",
        "classify --json - < call.wav",
    )
)
def classify(  # noqa: PLR0913, PLR0917 (each is an option)
    files: Annotated[list[Path] | None, _files] = None,
    model: ModelDir = None,
    json_lines: JsonLines = False,
    as_csv: Csv = False,
    labels: Labels = "",
    only: Only = "",
    speakers: Speakers = None,
    unsure_below: UnsureBelow = None,
    per: Per = "utterance",
    recursive: Annotated[bool, typer.Option("--recursive", help="Include folders in folders.")] = False,
    files_from: Annotated[
        Path | None,
        typer.Option(
            help="Read further paths from this file, one a line, or - for standard input.",
            show_default=False,
            readable=False,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of processes. Default: one for each processor, or one for fewer than 16 files.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the results to this file as soon as they are finished: .jsonl, .csv or .parquet. "
            "FILE.progress beside it serves --resume.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="With --out: skip recordings that an earlier run has classified with the same model and settings, and "
            "that have not changed since.",
        ),
    ] = False,
) -> None:
    """Classify the emotion of each utterance in audio files.

    The exit status is 1 if a file failed. Environment variables such as AUDIO_EMOTION_CHANNELS and
    AUDIO_EMOTION_MAX_DURATION_S change the settings.
    """
    from core.cli.classify import classify_files, classify_into_file
    from core.cli.parallel import PipelineOptions
    from core.library.recordings import files_listed_in, recordings_in

    if not files and not files_from:
        raise typer.BadParameter("Name recordings or folders, or a list of them with --files-from.")
    form = _output_format(json_lines=json_lines, as_csv=as_csv, per=per, out=out)
    if resume and not out:
        raise typer.BadParameter("--resume needs --out.")
    named = [*(files or ()), *(files_listed_in(files_from) if files_from else ())]
    recordings = list(recordings_in(named, is_recursive=recursive))
    options = PipelineOptions(model or default_model(), labels, only, speakers, unsure_below)
    if out:
        raise typer.Exit(classify_into_file(recordings, options, out, per=per, jobs=jobs, resume=resume))
    raise typer.Exit(classify_files(recordings, options, form=form, per=per, jobs=jobs))


@app.command(
    **_examples(
        "report call.mp3 --out call.html --names agent,customer",
        "report call.json --audio call.mp3",
        "report calls/ --out reports",
        "report results.jsonl",
    )
)
def report(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RESULT",
            help="Result document, or a recording, which is classified. A folder or a .jsonl file gets an index.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="HTML file to write, or the folder of an index. Missing folders are created. Default: report.html, or "
            "reports.",
            show_default=False,
        ),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(
            help="The recording of a result document. The page embeds it, or links it above 20 MB, and can play it.",
            show_default=False,
        ),
    ] = None,
    names: Annotated[
        str,
        typer.Option(help="Names of the speakers, in the order of their channels: agent,customer.", show_default=False),
    ] = "",
    model: ModelDir = None,
    speakers: Speakers = None,
    unsure_below: UnsureBelow = None,
) -> None:
    """Write a result as one self-contained HTML page: who talks, the mood, where to listen, and a timeline.

    A folder gets an index with one row for each recording, worst first. Its recordings are classified if it has no
    result documents.
    """
    from core.cli.parallel import PipelineOptions
    from core.cli.report import ReportOptions, parse_names, write_report

    pipeline = PipelineOptions(model or default_model(), speakers=speakers, unsure_below=unsure_below)
    options = ReportOptions(pipeline, audio, parse_names(names))
    raise typer.Exit(write_report(source, out, options))


@app.command(**_examples("evaluate labelled.csv", "evaluate labelled.csv --map mad=anger,bored= --json"))
def evaluate(
    manifest: Annotated[
        Path, typer.Argument(help="CSV file with the columns path and emotion, or dimensions.", show_default=False)
    ],
    model: ModelDir = None,
    labels: Annotated[
        str,
        typer.Option(
            "--map", help="Translate labels: mad=anger,calm=neutral. An empty emotion (bored=) skips the label."
        ),
    ] = "",
    out: Annotated[Path, typer.Option(help="Folder for the metrics. A second run continues there.")] = Path(
        "out/evaluation"
    ),
    as_json: AsJson = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over, without the earlier results.")] = False,
    compare: Annotated[
        Path | None,
        typer.Option(help="Folder of another model to compare with on the same recordings.", show_default=False),
    ] = None,
) -> None:
    """Measure the accuracy of the model on your labelled recordings.

    The optional columns speaker and condition give intervals over speakers, and figures for each.

    The exit status is 1 if a recording failed.
    """
    from core.cli.evaluate import evaluate_manifest

    model_dir = model or default_model()
    raise typer.Exit(evaluate_manifest(manifest, model_dir, out, labels, as_json=as_json, fresh=fresh, compare=compare))


@app.command(**_examples("train labelled.csv --from build/checkpoint --out build/trained"))
def train(  # noqa: PLR0913, PLR0917 (each is an option)
    manifest: Annotated[
        Path,
        typer.Argument(
            help="CSV file with the columns path and emotion, and optionally speaker, start_s, end_s and channel.",
            show_default=False,
        ),
    ],
    start: Annotated[Path, typer.Option("--from", help="Checkpoint to start from.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder for the trained checkpoint.", show_default=False)],
    names: Annotated[
        str, typer.Option("--map", help="Translate labels: mad=anger,calm=neutral. An empty emotion (bored=) skips it.")
    ] = "",
    cache: Annotated[
        Path, typer.Option(help="Folder from which a run that was interrupted continues. It may be deleted.")
    ] = Path("out/training-cache"),
    unfreeze: Annotated[
        str | None,
        typer.Option(
            help="Train this number of upper layers of the encoder too, or `all`. Default: all for networks of less "
            "than 10 million parameters, and 0 for others.",
            show_default=False,
        ),
    ] = None,
    lora: Annotated[int, typer.Option(min=0, help="Train LoRA matrices of this rank instead of whole layers.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Maximum number of epochs for layers and LoRA.")] = 12,
    augment: Annotated[
        str,
        typer.Option(help="Also train with changed copies: some of telephone, noise, reverb and gain, or none."),
    ] = "telephone,noise,reverb,gain",
    noise: Annotated[
        Path | None,
        typer.Option(help="Folder with recordings of noise. Default: generated noise.", show_default=False),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of folds to test. Default: all; with layers or LoRA one, because each takes as long as the "
            "training.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives another split and another network.")] = 1,
) -> None:
    """Train a checkpoint on your labelled recordings, and measure it on speakers that it was not trained on."""
    from core.cli.train import train_checkpoint
    from core.training.augmentation import parse_kinds
    from core.training.tuning import ALL_LAYERS

    if unfreeze not in (None, "all") and not unfreeze.isdecimal():
        raise typer.BadParameter("--unfreeze needs a number of layers, or all.")
    layers = ALL_LAYERS if unfreeze == "all" else None if unfreeze is None else int(unfreeze)
    train_checkpoint(
        manifest,
        start,
        out,
        names,
        cache,
        augment=parse_kinds(augment),
        noise=noise,
        unfreeze=layers,
        lora_rank=lora,
        epochs=epochs,
        folds=folds,
        seed=seed,
    )


@app.command(**_examples("convert call.wma meeting.mkv --out converted"))
def convert(
    files: Files,
    out: Annotated[Path, typer.Option("--out", help="Folder for the WAV files, created if it does not exist.")],
) -> None:
    """Convert recordings to the sound that the classifier gets: 16 kHz mono WAV files.

    Channels with different speech, such as the two sides of a call, become a file each. No file is overwritten: if a
    file of this name exists, a number is added to the new name. The command says so if it changes the level.
    """
    from core.cli.convert import convert_files

    raise typer.Exit(convert_files(files, out))


@app.command(**_examples("demo", "demo --samples recordings/ --out results"))
def demo(
    samples: Annotated[
        Path | None,
        typer.Option(
            help="Folder with recordings to upload. Default: the samples of Audio Emotion.",
            show_default=False,
        ),
    ] = None,
    out: ResultsFolder = Path("out/results"),
    model: ModelDir = None,
) -> None:
    """Run the whole pipeline on this machine: upload, queue, function, results.

    The exit status is 1 if a recording has no result, or if fewer than 95 % of the samples are classified as expected.
    """
    from core.cli.local import run_demo

    raise typer.Exit(run_demo(samples or SAMPLES, out, model or default_model()))


@app.command(**_examples("local", "local --inbox calls --out results --workers 2"))
def local(
    inbox: Annotated[Path, typer.Option(help="Folder whose files are uploaded.")] = Path("inbox"),
    out: ResultsFolder = Path("out/results"),
    workers: Annotated[int, typer.Option(min=1, help="Number of worker processes.")] = 1,
    model: ModelDir = None,
    speakers: Speakers = None,
    delete_results: Annotated[
        bool, typer.Option("--delete-results", help="Delete the result of a recording that is deleted from the inbox.")
    ] = False,
) -> None:
    """Run the whole pipeline on this machine, and classify every file in a folder until Ctrl-C.

    After a restart, recordings with a result of the same model and settings are not classified again.
    """
    from core.cli.local import run_local

    model_dir = model or default_model()
    raise typer.Exit(run_local(inbox, out, model_dir, workers, speakers, delete_results=delete_results))


@app.command(**_examples("backfill --dry-run", "backfill --prefix calls/2026/ --since 30d --wait"))
def backfill(
    stack: StackName = _STACK,
    bucket: UploadsBucket = None,
    prefix: Annotated[str, typer.Option(help="Only uploads whose keys start with this text.")] = "",
    since: Since = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start without confirmation.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the estimate only.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Show the job's progress until it ends.")] = False,
    model: ModelDir = None,
) -> None:
    """Classify the uploads that are already in the bucket, with S3 Batch Operations.

    Uploads with a final result of the deployed model need no inference. The estimate takes --model for that model.
    """
    from core.cli.aws import named_stack
    from core.cli.backfill import run_backfill
    from core.operations.backfill import Scope

    deployed = named_stack(stack, bucket)
    scope = Scope(deployed.uploads_bucket, prefix, _parsed_time(since))

    def confirm() -> bool:
        return yes or typer.confirm("Start the backfill?")

    model_dir = model or default_model()
    raise typer.Exit(run_backfill(deployed, scope, model_dir, confirm=confirm, dry_run=dry_run, wait=wait))


@app.command(**_examples("redrive", "redrive --per-second 5"))
def redrive(
    stack: StackName = _STACK,
    bucket: UploadsBucket = None,
    per_s: Annotated[
        int | None,
        typer.Option("--per-second", min=1, max=500, help="Maximum number of messages per second.", show_default=False),
    ] = None,
) -> None:
    """Move the dead letters back to the queue, after the cause of their failure was fixed."""
    from core.cli.aws import named_stack
    from core.cli.redrive import run_redrive

    raise typer.Exit(run_redrive(named_stack(stack, bucket), per_s))


@app.command(**_examples("forget calls/a.wav calls/b.wav", "forget --prefix customers/4711/ --yes"))
def forget(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys of recordings.", show_default=False)] = None,
    stack: StackName = _STACK,
    bucket: UploadsBucket = None,
    prefix: Annotated[
        str | None, typer.Option(help="All recordings whose keys start with this text.", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without confirmation.")] = False,
) -> None:
    """Delete recordings and everything that is stored about them, in every version.

    The exit status is 1 if something could not be deleted.
    """
    from core.cli.aws import named_stack
    from core.cli.forget import run_forget
    from core.operations.forget import Scope

    if not keys and not prefix:
        raise typer.BadParameter("Name the keys of recordings, or a --prefix that is not empty.")

    def confirm() -> bool:
        return yes or typer.confirm("Delete all of this for good?")

    raise typer.Exit(run_forget(named_stack(stack, bucket), Scope(frozenset(keys or ()), prefix or None), confirm))


@app.command(**_examples("status", "status --stack my-stack --json"))
def status(
    stack: StackName = _STACK,
    bucket: UploadsBucket = None,
    sample: Annotated[int, typer.Option(min=0, help="Number of results to read, chosen at random.")] = 1000,
    as_json: AsJson = False,
    model: ModelDir = None,
) -> None:
    """Count the uploads, results, failures and messages of a stack."""
    from core.cli.aws import named_stack
    from core.cli.status import run_status

    raise typer.Exit(run_status(named_stack(stack, bucket), model or default_model(), sample=sample, as_json=as_json))


@app.command(**_examples("benchmark --stack my-stack", "benchmark --function my-stack-classify --json"))
def benchmark(
    stack: StackName = _STACK,
    bucket: UploadsBucket = None,
    function: Annotated[
        str | None,
        typer.Option(help="ARN or name of the function, instead of the stack's name.", show_default=False),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, max=50, help="How often each recording is classified, if the timeout permits.")
    ] = 5,
    as_json: AsJson = False,
) -> None:
    """Measure the deployed function, and calculate what a thousand hours of audio cost on it.

    The function classifies speech that its image contains: four utterances and a call. Nothing is stored.
    """
    from core.cli.aws import named_stack
    from core.cli.benchmark import run_benchmark

    name = function or named_stack(stack, bucket).classify_function
    raise typer.Exit(run_benchmark(name, rounds, as_json=as_json))


@app.command(
    **_examples(
        "results --emotion angry", "results --stack audio-emotion --since 12h --csv --per recording > calls.csv"
    )
)
def results(  # noqa: PLR0913, PLR0917 (each is an option)
    folder: Annotated[Path, typer.Option(help="Read the result documents in this folder.")] = Path("out/results"),
    stack: Annotated[
        str | None, typer.Option("--stack", help="Read the results of this deployed stack.", show_default=False)
    ] = None,
    bucket: Annotated[
        str | None, typer.Option("--bucket", help="Read the results in this bucket.", show_default=False)
    ] = None,
    results_prefix: Annotated[
        str, typer.Option("--results-prefix", help="With --bucket: prefix of the result keys.")
    ] = "results/",
    since: Since = None,
    emotion: Annotated[
        str | None,
        typer.Option(help="Only recordings with this emotion, or a synonym such as angry.", show_default=False),
    ] = None,
    utterance: Annotated[
        str | None, typer.Option(help="Only recordings with an utterance of this emotion.", show_default=False)
    ] = None,
    status: Annotated[
        Status | None, typer.Option("--status", help="Only results with this status.", show_default=False)
    ] = None,
    prefix: Annotated[str, typer.Option(help="Only recordings whose keys start with this text.")] = "",
    json_lines: JsonLines = False,
    as_csv: Csv = False,
    per: Per = "utterance",
) -> None:
    """Show stored results, from a folder, a stack or a bucket.

    The exit status is 1 if a document cannot be read.
    """
    from core.cli.results import show_results
    from core.operations.results import ResultFilter

    form = _output_format(json_lines=json_lines, as_csv=as_csv, per=per)
    if stack and bucket:
        raise typer.BadParameter("--stack and --bucket cannot be combined.")
    place: Path | tuple[str, str] = folder
    if stack:
        from core.cli.aws import named_stack

        deployed = named_stack(stack, None)
        place = (deployed.results_bucket, deployed.results_prefix)
    elif bucket:
        place = (bucket, results_prefix)
    selection = ResultFilter(
        since=_parsed_time(since), emotion=emotion, utterance=utterance, status=status, key_prefix=prefix
    )
    raise typer.Exit(show_results(place, selection, form, per))


def _output_format(*, json_lines: bool, as_csv: bool, per: "CsvRow", out: Path | None = None) -> "OutputFormat":
    if json_lines and as_csv:
        raise typer.BadParameter("--json and --csv cannot be combined.")
    if out and (json_lines or as_csv):
        raise typer.BadParameter("The ending of --out chooses the format, instead of --json and --csv.")
    if out and out.suffix not in _OUT_SUFFIXES:
        raise typer.BadParameter(f"--out must end in {', '.join(_OUT_SUFFIXES)}.")
    if per != "utterance" and not as_csv and (out is None or out.suffix == ".jsonl"):
        raise typer.BadParameter("--per needs --csv." if out is None else "--per needs --out with CSV or Parquet.")
    return "json" if json_lines else "csv" if as_csv else "table"


def _parsed_time(text: str | None) -> datetime | None:
    from core.operations.results import parse_time

    try:
        return parse_time(text) if text else None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@app.command(**_examples("schema > result.schema.json"))
def schema() -> None:
    """Print the JSON Schema of the result document."""
    from core.results import json_schema

    sys.stdout.write(json_schema() + "\n")


@model_app.command("list", **_examples("model list"))
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array with an object per checkpoint.")] = False,
) -> None:
    """List the known checkpoints: languages, size, licence, labels, training speech and published accuracy."""
    from core.cli.checkpoints import list_checkpoints

    list_checkpoints(as_json=as_json)


@model_app.command(**_examples("model pull", "model pull wav2vec2-xlsr-en --out build/checkpoint"))
def pull(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A name in `audio-emotion model list`, or the owner/name of any checkpoint on the Hub. Default: "
            f"{DEFAULT_CHECKPOINT}; with --from, the name of the folder if it has another network.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the checkpoint.")] = Path("build/checkpoint"),
    revision: Annotated[
        str | None,
        typer.Option(
            help="Branch, tag, commit, or pull request such as refs/pr/2. Default: the revision in the list of known "
            "checkpoints, or the main branch.",
            show_default=False,
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(envvar="HF_ENDPOINT", help="Another server with the Hub's API.", show_default=False),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--from", help="Copy the checkpoint from this folder instead.", show_default=False)
    ] = None,
    normalise: Annotated[
        Literal["clip", "none"] | None,
        typer.Option(
            help="Whether the network computes clips that are scaled to zero mean and unit variance. Needed if the "
            "repository has no preprocessor_config.json.",
            show_default=False,
        ),
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept a licence that forbids commercial use.")
    ] = False,
) -> None:
    """Download a checkpoint from the Hugging Face Hub, and record its commit.

    The licence is printed before the download.
    """
    from core.cli.checkpoints import pull_checkpoint

    pull_checkpoint(
        name,
        out,
        revision=revision,
        endpoint=endpoint,
        folder=folder,
        is_normalised=None if normalise is None else normalise == "clip",
        is_licence_accepted=accept_licence,
    )


@model_app.command(
    **_examples(
        "model export build/checkpoint build/model", "model export build/checkpoint build/model --labels excited=happy"
    )
)
def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="Folder with a checkpoint of Hugging Face or FunASR.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the serving package.", show_default=False)],
    precision: Annotated[
        str,
        typer.Option(help="int8, int8-ffn, fp32, or auto, which chooses the first that agrees with the checkpoint."),
    ] = "auto",
    calibration: Annotated[
        Path | None,
        typer.Option(help="Folder with speech on which to compare the package with the checkpoint too."),
    ] = None,
    labels: Labels = "",
    only: Only = "",
) -> None:
    """Export a checkpoint as a serving package, if both classify the clips alike."""
    from core.checkpoints.files import check_folder

    check_folder(checkpoint)  # before PyTorch is imported and the clips are decoded
    if calibration and not calibration.is_dir():
        raise FolderRefused(f"{calibration} is not a folder.")
    from core.cli.export import export_package

    raise typer.Exit(export_package(checkpoint, out, precision, calibration, labels=labels, only=only))


def main() -> None:
    """Run the command line. An expected error is printed as one sentence on stderr, with exit status 1."""
    prepare_streams()
    streams = (sys.stdout, sys.stderr)  # typer replaces both if the output has no reader
    try:
        status = _run()
    except KeyboardInterrupt:
        status = _INTERRUPTED
    discard_unwritten(streams)
    sys.exit(status)


def _run() -> int:
    """Run the command; return the exit status."""
    try:
        status = _status_of_command()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        return 1
    except AudioEmotionError as error:
        complain(str(error))
        return 1
    except OSError as error:
        complain(reason_of(error))
        return 1
    except ImportError as error:
        extra = _EXTRAS.get(error.name or "", "model")
        complain(f"This command needs {error.name}. Run `pip install '.[{extra}]'` in the checkout.")
        return 1
    return status


def _status_of_command() -> int:
    try:
        app()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0
