"""Results as rows of CSV, for spreadsheets and scripts: one for each utterance.

New columns come last, so that what counts columns goes on working.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC
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
    first = ["recording", "status", "channel", "start_s", "end_s", "emotion", "score"]
    return [*first, *labels, "error", "model", "fingerprint", "demo", "finished_at"]


def csv_rows(result: Result, labels: Sequence[str]) -> Iterator[list[object]]:
    """One row for each utterance; one that says why, if there is none.

    Parameters
    ----------
    labels
        Those of the header; what the result's model does not know stays empty.
    """
    start = [_harmless(result.source.key), result.status]
    made_by = [_harmless(result.model.id), result.model.fingerprint, "true" if result.model.demo else "false"]
    end = [*made_by, f"{result.processing.finished_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"]
    for channel in result.channels or ():
        for part in channel.utterances:
            scores = [part.scores.get(label, "") for label in labels]
            yield [*start, channel.channel, part.start_s, part.end_s, part.emotion, part.score, *scores, "", *end]
    if not result.channels:
        message = result.error.message if result.error else ""
        yield [*start, "", "", "", "", "", *("" for _ in labels), _harmless(message), *end]


def _harmless(text: str) -> str:
    """A spreadsheet takes what begins like this for a formula, and runs it."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
