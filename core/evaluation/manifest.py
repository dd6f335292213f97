"""The manifest of an evaluation: a CSV file of recordings with their emotions or their values of dimensions."""

import csv
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.emotions import SYNONYMS
from core.errors import ManifestUnreadable

_DELIMITERS = ",;\t"
"""The separators of columns; if the header has as many of each, the first."""
_PART_COLUMNS = ("start_s", "end_s", "channel")
"""The columns with which a manifest of a training describes a part of a recording."""
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d*,\d+(e[-+]?\d+)?\s*", re.IGNORECASE)


@dataclass(frozen=True)
class LabelledRecording:
    """A recording and its label.

    Attributes
    ----------
    speaker, condition
        From the columns of these names; empty if they are not known.
    """

    path: Path
    emotion: str
    speaker: str = ""
    condition: str = ""


@dataclass(frozen=True)
class RatedRecording:
    """A recording and its known values, by dimension."""

    path: Path
    values: Mapping[str, float]


def read_manifest(
    manifest: Path, labels: Sequence[str], own_names: Mapping[str, str]
) -> tuple[list[LabelledRecording], Counter[str]]:
    """Read a CSV file with the columns ``path`` and ``emotion``, and optionally ``speaker`` and ``condition``.

    Parameters
    ----------
    manifest
        The file. Relative paths start at its folder.
    labels
        The model's labels.
    own_names
        The manifest's name for an emotion, in lower case -> the model's label, or empty text to leave its recordings
        out. The model's labels and the names in `SYNONYMS` need no entry.

    Returns
    -------
    The recordings, and the number of recordings left out for each name without a label.

    Raises
    ------
    ManifestUnreadable
        If the file or a column is missing, if a line describes a part of a recording, or if no recording has one of the
        model's labels.
    """
    header, rows = read_columns(manifest)
    if not {"path", "emotion"} <= set(header):
        raise ManifestUnreadable(
            f"{manifest} needs a header with the columns path and emotion, because the model returns emotions."
        )
    if not rows:
        raise ManifestUnreadable(f"{manifest} has no line below its header.")
    labelled, left_out = [], Counter[str]()
    lines = _Lines(manifest)
    for line, row in rows:
        if part := next((column for column in _PART_COLUMNS if (row.get(column) or "").strip()), None):
            raise ManifestUnreadable(
                f"Line {line} of {manifest} describes a part of a recording ({part}). An evaluation classifies whole "
                "recordings: write the part to a file of its own."
            )
        name = (row["emotion"] or "").strip()
        emotion = _meaning(name, labels, own_names)
        if emotion is None:
            left_out[name] += 1
        else:
            path = manifest.parent / (row["path"] or "")
            lines.add(line, path, {"emotion": emotion})
            speaker, condition = ((row.get(column) or "").strip() for column in ("speaker", "condition"))
            labelled.append(LabelledRecording(path, emotion, speaker, condition))
    if not labelled:
        raise ManifestUnreadable(
            f"None of the emotions in {manifest} is a label of the model ({', '.join(labels)}). "
            "Use --map to translate their names."
        )
    return labelled, left_out


class _Lines:
    """The lines of a manifest, which must not contradict each other."""

    def __init__(self, manifest: Path) -> None:
        self._manifest = manifest
        self._seen: dict[tuple[Path, str], tuple[int, object]] = {}

    def add(self, line: int, path: Path, labels: Mapping[str, object]) -> None:
        for name, label in labels.items():
            other_line, other = self._seen.setdefault((path, name), (line, label))
            if other != label:
                raise ManifestUnreadable(
                    f"Lines {other_line} and {line} of {self._manifest} contradict each other: the {name} of {path} is "
                    f"{other} and {label}."
                )


def _meaning(name: str, labels: Sequence[str], own_names: Mapping[str, str]) -> str | None:
    plain = name.lower()
    if plain in own_names:
        return own_names[plain] or None
    for candidate in (plain, SYNONYMS.get(plain)):
        if candidate in labels:
            return candidate
    return None


def parse_names(text: str, labels: Sequence[str]) -> dict[str, str]:
    """Parse a list such as "mad=anger,calm=neutral"; "calm=" leaves the name's recordings out.

    Raises
    ------
    ManifestUnreadable
        If an entry does not have the form ``name=emotion``, or its emotion is not a label of the model.
    """
    names: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, sign, emotion = (part.strip() for part in pair.partition("="))
        if not sign or not name or (emotion and emotion not in labels):
            raise ManifestUnreadable(
                f"{pair!r} in --map must have the form name=emotion, with one of the emotions {', '.join(labels)}."
            )
        names[name.lower()] = emotion
    return names


def read_rated_manifest(manifest: Path, dimensions: Sequence[str]) -> tuple[list[RatedRecording], bool]:
    """Read a CSV file with the column ``path`` and a column of numbers for at least one dimension.

    An empty cell means that the value is not known. Lines about the same recording complete each other.

    Parameters
    ----------
    manifest
        The file. Relative paths start at its folder.
    dimensions
        The model's dimensions.

    Returns
    -------
    The recordings with at least one known value, and whether the file has emotions too.

    Raises
    ------
    ManifestUnreadable
        If the file or the columns are missing, or a cell is not a number.
    """
    header, rows = read_columns(manifest)
    columns = {name: column for name in dimensions for column in header if column.strip().lower() == name.lower()}
    if "path" not in header or not columns:
        raise ManifestUnreadable(
            f"{manifest} needs a header with the column path and at least one of {', '.join(dimensions)}, because the "
            "model returns values instead of emotions."
        )
    by_path: dict[Path, dict[str, float]] = {}
    lines = _Lines(manifest)
    for line, row in rows:
        path, values = manifest.parent / (row["path"] or ""), dict(_values(manifest, line, row, columns))
        if values:
            lines.add(line, path, values)
            by_path.setdefault(path, {}).update(values)
    if not by_path:
        raise ManifestUnreadable(f"The columns {', '.join(columns)} in {manifest} have no values.")
    return [RatedRecording(path, values) for path, values in by_path.items()], "emotion" in header


def _values(
    manifest: Path, line: int, row: Mapping[str, str | None], columns: Mapping[str, str]
) -> Iterator[tuple[str, float]]:
    for name, column in columns.items():
        text = (row[column] or "").strip()
        if not text:
            continue
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ManifestUnreadable(f"Line {line} of {manifest} has {text!r} in the column {column}, not a number.")
        yield name, value


def read_columns(manifest: Path) -> tuple[list[str], list[tuple[int, dict[str, str | None]]]]:
    """Read a CSV file; return its header, and each row's line number and cells by column.

    Spreadsheets separate columns by semicolons where the comma is the decimal sign. Decimal commas become points then.

    Raises
    ------
    ManifestUnreadable
        If the file cannot be read.
    """
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            first_line = file.readline()
            file.seek(0)
            delimiter = max(_DELIMITERS, key=first_line.count)
            reader = csv.DictReader(file, delimiter=delimiter)
            reader.fieldnames = header = [name.strip().lower() for name in reader.fieldnames or ()]
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise ManifestUnreadable(f"{manifest} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ManifestUnreadable(f"{manifest} is not UTF-8 text. Save it as CSV in UTF-8.") from error
    except csv.Error as error:
        raise ManifestUnreadable(f"{manifest} cannot be read as CSV: {error}.") from error
    if delimiter == ";":
        rows = [
            (line, {name: cell if name == "path" else _with_decimal_point(cell) for name, cell in row.items()})
            for line, row in rows
        ]
    return header, rows


def _with_decimal_point(cell: str | None) -> str | None:
    return cell.replace(",", ".") if isinstance(cell, str) and _DECIMAL_COMMA.fullmatch(cell) else cell
