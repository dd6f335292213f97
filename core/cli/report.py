"""`audio-emotion report`: write the report page of a result document or a recording, or an index of many."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from core.cli.parallel import PipelineOptions
from core.cli.sound import sound_for
from core.cli.tables import FailureLog, classification_progress, show_demo_notice
from core.errors import RecordingNotFound, ResultUnreadable
from core.formatting import counted, printable
from core.library.recordings import classify_file, is_recording_name, recordings_in
from core.pipeline import Pipeline
from core.report import PAGE_START, IndexRow, index_page, render
from core.results import Result

_PAGE, _FOLDER = Path("report.html"), Path("reports")
_MAX_NAME = 100


@dataclass(frozen=True)
class ReportOptions:
    """The options of the command.

    Attributes
    ----------
    pipeline
        What classifies recordings.
    audio
        The recording of a result document.
    names
        The speakers' names.
    """

    pipeline: PipelineOptions
    audio: Path | None = None
    names: tuple[str, ...] = ()


def write_report(source: Path, out: Path | None, options: ReportOptions) -> int:
    """Write the page of a result document or a recording, or pages and an index; return the exit status.

    Raises
    ------
    ResultUnreadable
        If the source is not a result document, or belongs to another recording, or if `out` is not a page.
    RecordingError
        If the audio cannot be decoded.
    """
    if source.is_dir() or source.suffix == ".jsonl":
        if options.audio:
            raise ResultUnreadable(f"--audio is the recording of one result, but {source} has several.")
        return _write_index(source, out or _FOLDER, options)
    out = out or _PAGE
    if not is_recording_name(source):
        result, audio = _read(source), options.audio
        _check_replaceable(out)
    elif options.audio:
        raise ResultUnreadable(f"--audio is the recording of a result document, and {source} is a recording.")
    else:
        _check_replaceable(out)
        result, audio = classify_file(source, _loaded(options)), source
        if result.error:
            FailureLog(Console(stderr=True)).report(str(source), result.error.message)
        if result.error and result.error.code == RecordingNotFound.code:
            return 1  # a mistyped name must not replace the page of a recording
    _write_page(result, out, audio if result.status != "failed" or options.audio else None, options)
    _say(f"Wrote {out}")
    return int(result.status == "failed" and audio is source)


def _loaded(options: ReportOptions) -> Pipeline:
    pipeline = options.pipeline.pipeline()
    if pipeline.model.demo:
        show_demo_notice()
    return pipeline


def _write_page(result: Result, out: Path, audio: Path | None, options: ReportOptions) -> None:
    if options.pipeline.unsure_below is not None:
        result = result.marked(options.pipeline.unsure_below)
    sound = sound_for(result, audio, out) if audio else None
    _write(out, render(result, sound, names=options.names))
    if sound and sound.link:
        _say(f"The page links {audio}, because the sound would exceed 20 MB. Keep both where they are.")


def _write_index(source: Path, out: Path, options: ReportOptions) -> int:
    """Write a page for each result and the index, whose rows alone are kept in memory."""
    _check_replaceable(out / "index.html")
    rows: list[IndexRow] = []
    taken: set[str] = set()
    model = None
    for result, audio in _results(source, options):
        name = _page_name(result, taken)
        _check_replaceable(out / name)
        _write_page(result, out / name, audio if result.status != "failed" else None, options)
        rows.append(IndexRow.of(result, name, options.names))
        model = result.model
    if model is None:
        raise ResultUnreadable(f"{source} has no result documents and no recordings.")
    _write(out / "index.html", index_page(source.name or str(source.absolute()), rows, model))
    _say(f"Wrote {out / 'index.html'} and {counted(len(rows), 'report')}")
    return int(any(row.is_failed for row in rows) and not _has_documents(source))


def _results(source: Path, options: ReportOptions) -> Iterator[tuple[Result, Path | None]]:
    """Yield the results of a folder's documents; without any, those of its recordings, which are classified."""
    if _has_documents(source):
        for result in _documents(source):
            yield result, None
        return
    recordings = [file for file in recordings_in([source], is_recursive=True) if file.is_file()]
    if not recordings:
        return
    pipeline = _loaded(options)
    console = Console(stderr=True)
    with classification_progress(console, disable=not console.is_terminal) as progress:
        failures = FailureLog(console)
        for file in progress.track(recordings, description="classifying"):
            result = classify_file(file, pipeline)
            if result.error:
                failures.report(str(file), result.error.message)
            yield result, file


def _has_documents(source: Path) -> bool:
    return next(_documents(source), None) is not None


def _documents(source: Path) -> Iterator[Result]:
    """Yield the result documents in a folder, or in a file with one a line; other JSON files are skipped."""
    if source.is_dir():
        for file in sorted((*source.rglob("*.json"), *source.rglob("*.jsonl"))):
            if file.suffix == ".jsonl":
                yield from _documents(file)
            elif result := _document(file.read_text(encoding="utf-8", errors="replace")):
                yield result
        return
    with source.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if result := _document(line):
                yield result


def _document(content: str) -> Result | None:
    try:
        return Result.model_validate(json.loads(content))
    except ValueError:
        return None


def _page_name(result: Result, taken: set[str]) -> str:
    """Return a file name that no other result has, and that no file system or browser misunderstands."""
    name = printable(result.source.key.replace("\\", "/").rstrip("/").rpartition("/")[2])
    stem = "".join(each if each.isalnum() or each in " ._-" else "_" for each in name).strip(". ")[:_MAX_NAME]
    stem = stem if stem and stem != "index" else f"_{stem}"
    number = 1
    while (page := f"{stem} ({number}).html" if number > 1 else f"{stem}.html") in taken:
        number += 1
    taken.add(page)
    return page


def _write(out: Path, page: str) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ResultUnreadable(f"{out} cannot be written: {error.strerror}.") from error


def _say(words: str) -> None:
    Console().print(words, highlight=False, markup=False, soft_wrap=True)


def _check_replaceable(out: Path) -> None:
    """Check that the page replaces only another page: not the result, the recording, or anything else.

    Raises
    ------
    ResultUnreadable
        If the file cannot be replaced.
    """
    try:
        with out.open("rb") as file:
            if file.read(len(PAGE_START)) == PAGE_START.encode():
                return
    except FileNotFoundError:
        return
    except OSError as error:
        raise ResultUnreadable(f"{out} cannot be written: {error.strerror}.") from error
    raise ResultUnreadable(f"{out} exists and is not a report. Choose another file with --out.")


def _read(file: Path) -> Result:
    try:
        return Result.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ResultUnreadable(f"{file} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise ResultUnreadable(
            f"{file} is not a result document. `audio-emotion classify --json RECORDING` prints one."
        ) from error


def parse_names(names: str) -> tuple[str, ...]:
    """Return the speakers' names of the option `--names`."""
    return tuple(name.strip() for name in names.split(",")) if names.strip() else ()
