"""Results as CSV, with one row for each utterance, channel or recording.

New columns are added at the end, so that scripts that address columns by number keep working.
"""

import csv
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TextIO

from core.results.document import Result
from core.results.fields import Model
from core.results.speech import Channel, Utterance

if TYPE_CHECKING:
    import _csv


CsvRow = Literal["utterance", "channel", "recording"]


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


class _Row(NamedTuple):
    """The subject of a row of the table; None if the row has no channel or utterance."""

    recording: Result
    channel: Channel | None = None
    utterance: Utterance | None = None


_Cell = Callable[[_Row], object]


@dataclass(frozen=True)
class CsvTable:
    """A table with a row for each utterance, channel or recording.

    A channel with several speakers has a row for each. A result without utterances has one row.

    Attributes
    ----------
    names
        The labels and dimensions. Each has a column for its score or value; one that a result's model lacks has empty
        cells.
    labels
        Those of the names that are labels.
    per
        What has a row. Rows of channels and recordings have mean scores, and the share of time of each label.
    """

    names: Sequence[str]
    labels: Container[str]
    per: CsvRow

    @classmethod
    def of(cls, models: Iterable[Model], per: CsvRow) -> "CsvTable":
        """Return the table of the results of several models, which has the labels and dimensions of all."""
        names: dict[str, None] = {}
        labels: set[str] = set()
        for model in models:
            names |= dict.fromkeys(model.names)
            labels.update(model.labels)
        return cls(tuple(names), labels, per)

    @property
    def header(self) -> list[str]:
        """The names of the columns."""
        return [name for name, _ in self._columns]

    def rows(self, result: Result) -> Iterator[list[object]]:
        """Yield the rows of a result, as cells of CSV."""
        for values in self.values(result):
            yield [_csv_cell(name, value) for name, value in zip(self.header, values, strict=True)]

    def values(self, result: Result) -> Iterator[list[object]]:
        """Yield the rows of a result, with None for a missing value."""
        result = result.with_figures()
        channels = result.channels or ()
        if self.per == "recording" or not channels:
            rows = [_Row(result)]
        elif self.per == "channel":
            rows = [_Row(result, lane) for lane in result.lanes]
        else:
            rows = [_Row(result, channel, part) for channel in channels for part in channel.utterances]
        for row in rows:
            yield [cell(row) for _, cell in self._columns]

    @cached_property
    def _columns(self) -> list[tuple[str, _Cell]]:
        start: list[tuple[str, _Cell]] = [("recording", lambda row: row.recording.source.key)]
        start += _fields("recording", "status")
        if self.per == "utterance":
            own = [*_fields("channel", "channel"), *_fields("utterance", "start_s", "end_s", "emotion", "score")]
            own += [(name, _value("utterance", name, "scores", "dimensions")) for name in self.names]
            end = [_ERROR, *_MADE_BY, *_fields("channel", "track"), *_fields("utterance", "speaker"), _DURATION]
            return [*start, *own, *end, *_fields("recording", "speech_s"), _ERROR_CODE, _unsure("utterance")]
        if self.per == "channel":
            own = [*_fields("channel", "channel", "track", "speaker"), _DURATION]
            own += [*_fields("channel", *_TURNS), *self._means("channel")]
        else:
            own = [_DURATION, *_fields("recording", *_CONVERSATION), *self._means("recording")]
        return [*start, *own, _ERROR, _ERROR_CODE, *_MADE_BY, _unsure(self.per)]

    def _means(self, part: CsvRow) -> Iterator[tuple[str, _Cell]]:
        [emotion, score, margin] = _fields(part, "emotion", "score", "margin")
        yield from (emotion, ("mean_score", score[1]), margin)
        for name in self.names:
            yield f"mean_{name}", _value(part, name, "scores", "dimensions")
        for name in self.names:
            if name in self.labels:
                yield f"share_{name}", _value(part, name, "shares")


def _fields(part: CsvRow, *names: str) -> list[tuple[str, _Cell]]:
    """Return a column for each field of a recording, channel or utterance."""
    return [(name, partial(_field, part, name)) for name in names]


def _unsure(part: CsvRow) -> tuple[str, _Cell]:
    return "unsure", lambda row: "true" if _field(part, "unsure", row) else None


def _field(part: CsvRow, name: str, row: _Row) -> object:
    return getattr(getattr(row, part), name, None)


def _value(part: CsvRow, name: str, *fields: str) -> _Cell:
    """Return the cell of a label or dimension, in the first of the fields that the part has."""

    def cell(row: _Row) -> object:
        for field in fields:
            values: Any = _field(part, field, row)
            if values:
                return values.get(name)
        return None

    return cell


def _csv_cell(column: str, value: object) -> object:
    """Return an empty cell for a missing value, and quote text that a spreadsheet would run as a formula."""
    is_formula = column in _UNTRUSTED and str(value).startswith(("=", "+", "-", "@", "\t", "\r"))
    return "" if value is None else f"'{value}" if is_formula else value


_UNTRUSTED = frozenset({"recording", "error", "model"})
_TURNS = ("speech_s", "talk_share", "turns", "longest_turn_s", "mean_turn_s", "interruptions")
_CONVERSATION = ("speech_s", "silence_s", "overlap_s", "interruptions")
_DURATION: tuple[str, _Cell] = ("duration_s", lambda row: row.recording.audio and row.recording.audio.duration_s)
_ERROR: tuple[str, _Cell] = ("error", lambda row: row.recording.error and row.recording.error.message)
_ERROR_CODE: tuple[str, _Cell] = ("error_code", lambda row: row.recording.error and row.recording.error.code)
_MADE_BY: tuple[tuple[str, _Cell], ...] = (
    ("model", lambda row: row.recording.model.id),
    ("fingerprint", lambda row: row.recording.model.fingerprint),
    ("demo", lambda row: "true" if row.recording.model.demo else "false"),
    ("finished_at", lambda row: f"{row.recording.processing.finished_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"),
)
