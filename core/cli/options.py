"""The application, its help, and the options that several commands have."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from core.audio.formats import FORMAT_NAMES
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


def examples(*lines: str) -> dict[str, Any]:
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

FILES = typer.Argument(
    help=f"Audio or video files, folders with such files, or - for standard input. Formats: {FORMAT_NAMES}.",
    readable=False,  # typer would check the files, and end the command at the first that cannot be read
    show_default=False,
)
Files = Annotated[list[Path], FILES]
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
_OUT_SUFFIXES = (".jsonl", ".csv", ".parquet")
STACK = "audio-emotion"


def output_format(*, json_lines: bool, as_csv: bool, per: "CsvRow", out: Path | None = None) -> "OutputFormat":
    """Return the format that the options choose.

    Raises
    ------
    typer.BadParameter
        If the options contradict each other.
    """
    if json_lines and as_csv:
        raise typer.BadParameter("--json and --csv cannot be combined.")
    if out and (json_lines or as_csv):
        raise typer.BadParameter("The ending of --out chooses the format, instead of --json and --csv.")
    if out and out.suffix not in _OUT_SUFFIXES:
        raise typer.BadParameter(f"--out must end in {', '.join(_OUT_SUFFIXES)}.")
    if per != "utterance" and not as_csv and (out is None or out.suffix == ".jsonl"):
        raise typer.BadParameter("--per needs --csv." if out is None else "--per needs --out with CSV or Parquet.")
    return "json" if json_lines else "csv" if as_csv else "table"


def parsed_time(text: str | None) -> datetime | None:
    """Parse the option `--since`.

    Raises
    ------
    typer.BadParameter
        If the text is neither a time nor an age.
    """
    from core.operations.results import parse_time

    try:
        return parse_time(text) if text else None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
