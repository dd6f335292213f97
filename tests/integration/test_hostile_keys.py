"""Keys are untrusted input: no key that S3 accepts has a side effect in any part of the stack."""

import csv
import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from rich.console import Console

from core.cli.tables import result_table
from core.delivery.keys import result_key_for
from core.delivery.report_pages import page_key_for
from core.errors import EventNotUnderstood
from core.local.folders import result_files
from core.local.stack import RESULTS_BUCKET, RESULTS_PREFIX, UPLOADS_BUCKET, Stack, running_stack
from core.local.workers import running_workers
from core.report import render
from core.results import Result
from core.results.csv_table import CsvTable, csv_writer
from handlers.events import uploads_in

KEYS = [
    "../../etc/passwd",
    "/etc/passwd",
    "a/./b/../c//d.wav",
    "results/x.wav",
    "x.wav.json",
    "-rf",
    "--help=x.wav",
    "$(touch owned) `touch owned`; touch owned | & > owned.wav",
    "%2e%2e%2f%00%0d%0a.wav",
    "a+b c%20d%2Be&f=g?h#i.wav",
    "<script>alert('x')</script><img src=x onerror=alert(1)>.wav",
    "=HYPERLINK(\"http://127.0.0.1/\",\"x\").wav",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "tab\treturn\r.wav",
    "\x1b[2J\x1b]0;owned\x07[red]bold[/red].wav",
    "null\0byte\x01\x08\x0b\x7f\x9b.wav",
    "right\u202eto left \u2066\ufeff\u200b.wav",
    "e\u0301 is not \u00e9.wav",
    "\u00e9 is not e\u0301.wav",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \u5f55\u97f3.wav",
    "\u5f55" * 341 + "x",  # 1,024 bytes
    "x" * 1024,
    "C:\\windows\\..\\con.wav",
    "\\\\server\\share\\x.wav",
    "{0.__class__} ${jndi:ldap://127.0.0.1/x} {{7*7}} %s%n.wav",
    '","status":"classified","x":"',
]  # fmt: skip
NOT_WITH_MOTO = "new\nline.wav"
"""A key that S3 accepts and moto does not."""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "function.log"


@pytest.fixture(scope="module")
def stack(aws_server: str, package: Path, log: Path) -> Iterator[Stack]:
    """A stack with a result and a report for every key."""
    with pytest.MonkeyPatch.context() as patch, running_stack(endpoint=aws_server) as running:
        patch.setenv("REPORTS", "html")
        for key in KEYS:
            running.s3.put_object(Bucket=UPLOADS_BUCKET, Key=key, Body=b"no recording at all")
        with running_workers(running, package, log):
            give_up_at_s = time.monotonic() + 120
            while len(running.results()) < 2 * len(KEYS):
                assert time.monotonic() < give_up_at_s, sorted(running.results())
                time.sleep(0.2)
        yield running


@pytest.fixture(scope="module")
def results(stack: Stack) -> dict[str, Result]:
    """The result of every key, and a copy for the key that moto does not accept."""
    found = {key: Result.model_validate_json(stack.result(result_key_for(key, RESULTS_PREFIX))) for key in KEYS}
    source = found[KEYS[0]].source.model_copy(update={"key": NOT_WITH_MOTO})
    return {**found, NOT_WITH_MOTO: found[KEYS[0]].model_copy(update={"source": source})}


def test_every_key_has_its_own_result_and_report(stack: Stack, results: dict[str, Result]) -> None:
    documents = {result_key_for(key, RESULTS_PREFIX) for key in KEYS}

    assert set(stack.results()) == documents | {page_key_for(key) for key in documents}
    assert all(result.source.key == key for key, result in results.items())
    assert {result.error.code for result in results.values() if result.error} == {"not_audio"}
    assert stack.dead_letters() == 0


def test_no_key_becomes_a_header(stack: Stack) -> None:
    """S3 sends metadata as headers, which are ASCII."""
    for key in stack.results():
        head = stack.s3.head_object(Bucket=RESULTS_BUCKET, Key=key)
        # Versions, hashes, states and codes have no character that only a key could contribute.
        assert all(re.fullmatch(r"[A-Za-z0-9_.:-]*", value) for value in head["Metadata"].values())


def test_each_key_is_in_exactly_one_line_of_the_log(stack: Stack, log: Path) -> None:
    lines = log.read_text(encoding="utf-8").splitlines()

    entries = [json.loads(line) for line in lines]
    assert sorted(line["key"] for line in entries if line.get("message") == "recording") == sorted(KEYS)
    assert all(line.isprintable() for line in lines)


def test_every_key_becomes_a_separate_file_below_the_folder(stack: Stack, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "results"

    with result_files(stack, folder, "local") as files:
        written = files.fetch_new()

    assert len(set(written)) == len({file.stat().st_ino for file in written}) == len(stack.results())
    assert all(file.resolve().is_relative_to(folder) for file in written)
    assert [file.name for file in tmp_path.iterdir()] == ["deep"]
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["results"]


def test_no_key_moves_a_cursor_or_styles_a_terminal(results: dict[str, Result]) -> None:
    screen = io.StringIO()

    Console(file=screen, width=2000, force_terminal=False).print(result_table(results.values()))

    assert screen.getvalue().replace("\n", "").isprintable()
    assert "[red]bold[/red]" in screen.getvalue()


def test_no_key_is_a_formula_or_leaves_its_cell_in_a_spreadsheet(results: dict[str, Result]) -> None:
    table = io.StringIO(newline="")
    rows = csv_writer(table)
    for result in results.values():
        rows.writerows(CsvTable(result.model.labels, result.model.labels, "utterance").rows(result))

    assert table.getvalue().count("\r") == 1  # of the one key that contains it
    cells = [row[0] for row in csv.reader(io.StringIO(table.getvalue(), newline=""))]
    assert [cell.removeprefix("'") for cell in cells] == list(results)
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_no_key_is_markup_in_its_report(stack: Stack, results: dict[str, Result]) -> None:
    for key, result in results.items():
        page = render(result)
        assert key == NOT_WITH_MOTO or page.encode() == stack.result(page_key_for(result_key_for(key, RESULTS_PREFIX)))
        assert page.count("<script") == 2  # the report's own
        assert "<img" not in page
        assert page.replace("\n", "").isprintable()


def test_an_event_with_a_key_that_is_not_text_is_rejected() -> None:
    """S3 has no such keys, but a message in the queue may contain one."""
    detail = {"bucket": {"name": "b"}, "object": {"key": "half a pair: \ud83d"}}
    event = {"source": "aws.s3", "detail-type": "Object Created", "detail": detail}

    with pytest.raises(EventNotUnderstood, match="not valid Unicode"):
        uploads_in(event)


def test_keys_in_records_are_decoded_as_they_were_encoded() -> None:
    for key in (*KEYS, NOT_WITH_MOTO):
        s3 = {"bucket": {"name": "b"}, "object": {"key": quote_plus(key)}}
        record = {"eventSource": "aws:s3", "eventVersion": "2.1", "eventName": "ObjectCreated:Put", "s3": s3}
        assert [upload.key for upload in uploads_in({"Records": [record]})] == [key]
