"""`audio-emotion results`: many result documents as a table, JSON lines or CSV."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import boto3
from rich.console import Console

from core.cli.rows import csv_header, csv_rows, csv_writer
from core.cli.tables import result_table
from core.operations.results import ResultFilter, StoredResult, results_in_bucket, results_in_folder
from core.results import Result

Form = Literal["table", "json", "csv"]


def show_results(place: Path | tuple[str, str], wanted: ResultFilter, form: Form) -> int:
    """Show the results that are wanted; returns the exit status.

    Parameters
    ----------
    place
        A folder, or a bucket and a prefix.
    """
    found = (
        results_in_folder(place)
        if isinstance(place, Path)
        else results_in_bucket(boto3.client("s3"), place[0], place[1], wanted)
    )
    left_out: list[str] = []
    results = (result for result in _read(found, left_out) if wanted.matches(result))
    if form == "table":
        _show_table(results)
    elif form == "csv":
        _write_csv(results)
    else:
        for result in results:
            sys.stdout.write(result.to_json() + "\n")
    for document in left_out:
        sys.stderr.write(f"audio-emotion: {document!a} is no result document, and is left out.\n")
    return int(bool(left_out))


def _read(found: Iterator[StoredResult], left_out: list[str]) -> Iterator[Result]:
    for one in found:
        if one.result is None:
            left_out.append(one.place)
        else:
            yield one.result


def _show_table(results: Iterator[Result]) -> None:
    console = Console()
    done = sorted(results, key=lambda result: result.processing.finished_at)
    if not done:
        console.print("There is no such result.")
        return
    console.print(result_table(done))
    counts: dict[str, int] = {}
    for result in done:
        heard = result.emotion or result.status.replace("_", " ")
        counts[heard] = counts.get(heard, 0) + 1
    told = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1]))
    console.print(f"{len(done):,} results: {told}", highlight=False)


def _write_csv(results: Iterator[Result]) -> None:
    """Under one header with the labels of all models; which those are is known once all documents are read."""
    labels: dict[str, None] = {}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as kept:
        for result in results:
            labels |= dict.fromkeys(result.model.labels)
            kept.write(result.to_json() + "\n")
        kept.seek(0)
        rows = csv_writer(sys.stdout)
        rows.writerow(csv_header(labels))
        for line in kept:
            rows.writerows(csv_rows(Result.model_validate_json(line), tuple(labels)))
