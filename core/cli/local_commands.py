"""The commands for recordings on this machine: their options and help texts."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from core.cli.options import (
    FILES,
    Csv,
    Files,
    JsonLines,
    Labels,
    ModelDir,
    Only,
    Per,
    ResultsFolder,
    Speakers,
    UnsureBelow,
    app,
    examples,
    output_format,
)
from core.paths import SAMPLES, default_model


@app.command(
    **examples(
        "classify call.mp3",
        "classify calls/ --csv --per recording > calls.csv",
        "classify calls/ --recursive --out results.jsonl --resume",
        "classify --json - < call.wav",
    )
)
def classify(  # noqa: PLR0913, PLR0917 (each is an option)
    files: Annotated[list[Path] | None, FILES] = None,
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
    form = output_format(json_lines=json_lines, as_csv=as_csv, per=per, out=out)
    if resume and not out:
        raise typer.BadParameter("--resume needs --out.")
    named = [*(files or ()), *(files_listed_in(files_from) if files_from else ())]
    recordings = list(recordings_in(named, is_recursive=recursive))
    options = PipelineOptions(model or default_model(), labels, only, speakers, unsure_below)
    if out:
        raise typer.Exit(classify_into_file(recordings, options, out, per=per, jobs=jobs, resume=resume))
    raise typer.Exit(classify_files(recordings, options, form=form, per=per, jobs=jobs))


@app.command(
    **examples(
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


@app.command(**examples("convert call.wma meeting.mkv --out converted"))
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


@app.command(**examples("demo", "demo --samples recordings/ --out results"))
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


@app.command(**examples("local", "local --inbox calls --out results --workers 2"))
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


@app.command(**examples("schema > result.schema.json"))
def schema() -> None:
    """Print the JSON Schema of the result document."""
    from core.results import json_schema

    sys.stdout.write(json_schema() + "\n")
