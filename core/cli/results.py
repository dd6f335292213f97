"""`audio-emotion results`: print stored results as a table, JSON lines or CSV."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from core.cli.aws import aws_client
from core.cli.tables import OutputFormat, result_table
from core.formatting import counted
from core.operations.results import ResultFilter, StoredResult, results_in_bucket, results_in_folder
from core.results import Model, Result
from core.results.csv_table import CsvRow, CsvTable, csv_writer
from core.results.verdict import main_emotion


def show_results(
    place: Path | tuple[str, str], selection: ResultFilter, form: OutputFormat, per: CsvRow = "utterance"
) -> int:
    """Print the selected results; return the exit status.

    Parameters
    ----------
    place
        A folder, or a bucket and a prefix.
    """
    found = (
        results_in_folder(place)
        if isinstance(place, Path)
        else results_in_bucket(aws_client("s3"), place[0], place[1], selection)
    )
    skipped: list[str] = []
    results = (result for result in _read(found, skipped) if selection.matches(result))
    if form == "table":
        _show_table(results)
    elif form == "csv":
        _write_csv(results, per)
    else:
        for result in results:
            sys.stdout.write(result.to_json() + "\n")
    for document in skipped:
        sys.stderr.write(f"audio-emotion: {document!a} is not a readable result document and was skipped.\n")
    return int(bool(skipped))


def _read(found: Iterator[StoredResult], skipped: list[str]) -> Iterator[Result]:
    for one in found:
        if one.result is None:
            skipped.append(one.place)
        else:
            yield one.result


def _show_table(results: Iterator[Result]) -> None:
    console = Console()
    done = sorted(results, key=lambda result: result.processing.finished_at)
    if not done:
        console.print("No results match.")
        return
    console.print(result_table(done))
    counts: dict[str, int] = {}
    for result in done:
        name = _outcome(result)
        counts[name] = counts.get(name, 0) + 1
    summary = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1]))
    console.print(f"{counted(len(done), 'result')}: {summary}", highlight=False)


def _outcome(result: Result) -> str:
    if result.emotion and result.utterances:
        return main_emotion(result.utterances) or "mixed"
    return result.status.replace("_", " ")


def _write_csv(results: Iterator[Result], per: CsvRow) -> None:
    """Print a header with the labels and dimensions of all models, and then the rows.

    They are known only after the last document, so the results are buffered in a temporary file.
    """
    models: list[Model] = []
    with tempfile.TemporaryFile("w+", encoding="utf-8") as buffer:
        for result in results:
            if result.model not in models:
                models.append(result.model)
            buffer.write(result.to_json() + "\n")
        buffer.seek(0)
        rows = csv_writer(sys.stdout)
        table = CsvTable.of(models, per)
        rows.writerow(table.header)
        for line in buffer:
            rows.writerows(table.rows(Result.model_validate_json(line)))
