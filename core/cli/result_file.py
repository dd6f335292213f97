"""The file that `classify --out` writes: JSON lines, CSV or Parquet, and the journal with which a run continues."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from core.cli.journal import FileVersion, Journal
from core.errors import FolderRefused
from core.results import Model, Result
from core.results.csv_table import CsvRow, CsvTable, csv_writer

if TYPE_CHECKING:
    import pyarrow

_ROWS_PER_GROUP = 10_000
_INTEGERS = frozenset({"channel", "track", "speaker", "turns", "interruptions"})
_TEXTS = frozenset({"recording", "status", "emotion", "error", "error_code", "model", "fingerprint"})


class _Writer(Protocol):
    """Writes a file of one format."""

    is_readable_early: bool
    """Whether the file is readable before it is closed."""

    def __init__(self, file: Path, table: CsvTable) -> None: ...

    def write(self, result: Result) -> None: ...

    def close(self) -> None: ...


class _JsonLines:
    is_readable_early = True

    def __init__(self, file: Path, _: CsvTable) -> None:
        self._stream = file.open("w", encoding="utf-8")

    def write(self, result: Result) -> None:
        self._stream.write(result.to_json() + "\n")
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()


class _Csv:
    is_readable_early = True

    def __init__(self, file: Path, table: CsvTable) -> None:
        self._stream = file.open("w", encoding="utf-8", newline="")
        self._table = table
        self._rows = csv_writer(self._stream)
        self._rows.writerow(table.header)

    def write(self, result: Result) -> None:
        self._rows.writerows(self._table.rows(result))
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()


class _Parquet:
    """The columns of CSV with types. The file has no content until its footer is written."""

    is_readable_early = False

    def __init__(self, file: Path, table: CsvTable) -> None:
        import pyarrow
        from pyarrow import parquet

        self._table = table
        self._rows: list[list[object]] = []
        self._schema = pyarrow.schema([(name, _type_of(name)) for name in table.header])
        self._writer = parquet.ParquetWriter(file, self._schema)

    def write(self, result: Result) -> None:
        self._rows += self._table.values(result)
        if len(self._rows) >= _ROWS_PER_GROUP:
            self._write_group()

    def _write_group(self) -> None:
        import pyarrow

        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(self._schema)
        # Cast, because the cells of `demo` and `finished_at` are text.
        arrays = [
            pyarrow.array(cells, pyarrow.string() if field.name in ("demo", "finished_at") else field.type).cast(
                field.type
            )
            for cells, field in zip(columns, self._schema, strict=True)
        ]
        self._writer.write_table(pyarrow.Table.from_arrays(arrays, schema=self._schema))
        self._rows.clear()

    def close(self) -> None:
        self._write_group()
        self._writer.close()


def _type_of(name: str) -> "pyarrow.DataType":
    import pyarrow

    if name in _TEXTS:
        return pyarrow.string()
    if name in _INTEGERS:
        return pyarrow.int32()
    special = {"demo": pyarrow.bool_(), "finished_at": pyarrow.timestamp("s", "UTC")}
    return special.get(name, pyarrow.float64())


_WRITERS: dict[str, type[_Writer]] = {".jsonl": _JsonLines, ".csv": _Csv, ".parquet": _Parquet}


def check_result_file(file: Path, *, resume: bool) -> None:
    """Check before the model is loaded that the results can be written.

    Raises
    ------
    FolderRefused
        If a file would be overwritten, or there is nothing to continue.
    ImportError
        If the file is Parquet and pyarrow is not installed.
    """
    if file.suffix == ".parquet":
        import pyarrow  # noqa: F401
    if not file.exists():
        return
    if not resume:
        raise FolderRefused(f"{file} exists. Continue it with --resume, or choose another file with --out.")
    if not _journal_of(file).exists():
        raise FolderRefused(
            f"{file} cannot be continued, because {_journal_of(file)} is missing. Choose another file with --out."
        )


def _journal_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.progress")


@contextmanager
def delayed_interrupt() -> Iterator[None]:
    """Let Ctrl-C take effect at the end of the block, so that the journal, the results and their count agree."""
    is_interrupted = False

    def note(*_: object) -> None:
        nonlocal is_interrupted
        is_interrupted = True

    handler = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if is_interrupted and callable(handler):
        handler(signal.SIGINT, None)  # raises KeyboardInterrupt


class ResultFile:
    """The results of the files that are finished.

    The journal has each result too. A run that continues writes the file again from the journal, because a run that was
    killed may have left half a row.

    Attributes
    ----------
    finished
        The paths that need no classification. A file that failed is tried again.
    """

    def __init__(self, file: Path, writer: _Writer, journal: Journal) -> None:
        self.file = file
        self._writer = writer
        self._journal = journal
        self.finished = frozenset(self._replay())

    def _replay(self) -> set[str]:
        finished: set[str] = set()
        for version, document in self._journal.current():
            self._writer.write(Result.model_validate(document))
            finished.add(version[0])
        return finished

    def write(self, result: Result, version: FileVersion | None) -> None:
        """Append a result.

        Parameters
        ----------
        version
            The version that was classified; None for standard input.
        """
        if version and result.status != "failed":
            self._journal.add(version, result.model_dump(mode="json", exclude_none=True))
        self._writer.write(result)


@contextmanager
def open_result_file(file: Path, model: Model, made_by: str, per: CsvRow, *, resume: bool) -> Iterator[ResultFile]:
    """Open the file and its journal, and complete the file at the end, also after Ctrl-C.

    Parameters
    ----------
    made_by
        The hash of the model and the settings. Results with another hash are classified again.
    resume
        Whether to keep the results of an earlier run.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    journal = Journal(_journal_of(file), made_by, "result", fresh=not resume)
    part = file.with_name(f".{file.name}.part")
    writer = _WRITERS[file.suffix](part, CsvTable.of([model], per))
    try:
        results = ResultFile(file, writer, journal)
        if writer.is_readable_early:
            part.replace(file)
        yield results
    finally:
        writer.close()
        if not writer.is_readable_early:
            part.replace(file)
