"""Results as rows of CSV, for spreadsheets and scripts: one for each utterance."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from core.results import Result

if TYPE_CHECKING:
    import _csv


class _LineFeeds:
    """What rows are written to that are to end with a line feed alone.

    The csv module quotes a carriage return within a cell only where rows end with one, and a spreadsheet takes one that
    is not quoted for the end of the row: what follows would begin a cell of its own.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, row: str) -> None:
        self._stream.write(row.removesuffix("\r\n") + "\n")


def csv_writer(stream: TextIO) -> "_csv.Writer":
    """What writes rows in which no text can break out of its cell."""
    return csv.writer(_LineFeeds(stream), lineterminator="\r\n")


def csv_header(labels: Iterable[str]) -> list[str]:
    """The columns of a table of utterances."""
    return ["recording", "status", "channel", "start_s", "end_s", "emotion", "score", *labels, "error"]


def csv_rows(result: Result, labels: Sequence[str]) -> Iterator[list[object]]:
    """One row for each utterance; one that says why, if there is none."""
    start = [_harmless(result.source.key), result.status]
    for channel in result.channels or ():
        for part in channel.utterances:
            scores = [part.scores.get(label, "") for label in labels]
            yield [*start, channel.channel, part.start_s, part.end_s, part.emotion, part.score, *scores, ""]
    if not result.channels:
        message = result.error.message if result.error else ""
        yield [*start, "", "", "", "", "", *("" for _ in labels), _harmless(message)]


def _harmless(text: str) -> str:
    """A spreadsheet takes what begins like this for a formula, and runs it."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
