"""Results as CSV, with one row for each utterance.

New columns are added at the end, so that scripts that address columns by number keep working.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, TextIO

from core.results import Result

if TYPE_CHECKING:
    import _csv


class _LineFeeds:
    """A stream that ends rows with a line feed instead of a carriage return and a line feed.

    The csv module quotes a carriage return in a cell only if rows end with one. Spreadsheets would read an unquoted one
    as the end of the row.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, row: str) -> None:
        self._stream.write(row.removesuffix("\r\n") + "\n")


def csv_writer(stream: TextIO) -> "_csv.Writer":
    """Return a CSV writer that quotes every text that could break out of its cell."""
    return csv.writer(_LineFeeds(stream), lineterminator="\r\n")


def csv_header(names: Iterable[str]) -> list[str]:
    """Return the column names, with one column for each label or dimension."""
    first = ["recording", "status", "channel", "start_s", "end_s", "emotion", "score"]
    return [*first, *names, "error", "model", "fingerprint", "demo", "finished_at", "track", "speaker"]


def csv_rows(result: Result, names: Sequence[str]) -> Iterator[list[object]]:
    """Yield one row for each utterance, or one row with the error if there are none.

    Parameters
    ----------
    names
        Labels and dimensions of the header. One that the result's model lacks gets an empty cell.
    """
    start = [_harmless(result.source.key), result.status]
    made_by = [_harmless(result.model.id), result.model.fingerprint, "true" if result.model.demo else "false"]
    end = [*made_by, f"{result.processing.finished_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"]
    for channel in result.channels or ():
        for part in channel.utterances:
            values = [part.values.get(name, "") for name in names]
            row = [*start, channel.channel, part.start_s, part.end_s, part.emotion, part.score, *values, "", *end]
            yield [*row, *("" if number is None else number for number in (channel.track, part.speaker))]
    if not result.channels:
        message = result.error.message if result.error else ""
        yield [*start, "", "", "", "", "", *("" for _ in names), _harmless(message), *end, "", ""]


def _harmless(text: str) -> str:
    """Return the text, quoted if a spreadsheet would run it as a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
