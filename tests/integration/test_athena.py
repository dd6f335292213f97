"""The Athena table and view match the result document, and the view returns what the documents contain."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlglot

from core.model.classifier import EmotionClassifier
from core.operations.athena import columns, hive_type
from core.pipeline import Pipeline
from core.results import Result, Source
from core.settings import MediaLimits, SegmentationSettings
from tests.support.cloudformation import ACCOUNT, REGION, STACK, Deployed
from tests.support.outputs import DIMENSIONS, dimensional_result

ROOT = Path(__file__).parents[2]
DEPLOYED = Deployed(Analytics="athena", ResultsPrefix="out/results/")
TABLE: dict[str, Any] = DEPLOYED.resources()["ResultsTable"]["TableInput"]
VIEW: dict[str, Any] = DEPLOYED.resources()["UtterancesView"]["TableInput"]
HIVE_OF_TRINO = {"varchar": "string", "timestamp(3)": "timestamp", "map(varchar, double)": "map<string,double>"}


def view() -> dict[str, Any]:
    """Return the definition that Athena stores for a view: base64 in a comment."""
    match = re.fullmatch(r"/\* Presto View: (\S+) \*/", VIEW["ViewOriginalText"])
    assert match
    decoded: dict[str, Any] = json.loads(base64.b64decode(match[1]))
    return decoded


def test_the_table_has_a_column_for_each_field_of_the_document() -> None:
    described = {column["Name"]: column["Type"] for column in TABLE["StorageDescriptor"]["Columns"]}
    assert described == columns(), "python -m core.operations.athena prints the columns for template.yaml"


def test_the_table_covers_the_results_and_is_off_by_default() -> None:
    location = f"s3://{STACK}-results-{ACCOUNT}-{REGION}/out/results/"
    assert TABLE["StorageDescriptor"]["Location"] == location
    assert not any(name.startswith("AWS::Glue") for name in Deployed().resources("AWS::Glue::Table"))
    assert not Deployed().resources("AWS::Athena::WorkGroup")
    assert "Query" not in Deployed().outputs()


@pytest.fixture(scope="module")
def documents(classifier: EmotionClassifier) -> list[Result]:
    """Return the results of a conversation, a stereo recording and a failure."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CHANNELS", "split")
        pipeline = Pipeline(classifier, MediaLimits(), SegmentationSettings())
        files = ("conversation.ogg", "surprise stereo 48kHz.m4a", "README.md")
        return [pipeline.run(ROOT / "samples" / name, Source(bucket="uploads", key=f"calls/{name}")) for name in files]


def test_a_document_is_one_line_as_athena_requires(documents: list[Result]) -> None:
    assert all("\n" not in document.to_json() for document in documents)


def test_a_query_scans_a_limited_number_of_bytes() -> None:
    workgroup = Deployed(Analytics="athena", QueryLimitMb="25").resources()["AnalyticsWorkgroup"]
    configuration = workgroup["WorkGroupConfiguration"]
    assert int(configuration["BytesScannedCutoffPerQuery"]) == 25_000_000
    assert configuration["EnforceWorkGroupConfiguration"] is True
    assert configuration["ResultConfiguration"]["EncryptionConfiguration"] == {"EncryptionOption": "SSE_S3"}
    assert configuration["ResultConfiguration"]["OutputLocation"].endswith("/queries/")


def test_the_three_definitions_of_the_views_columns_agree() -> None:
    """Athena rejects a view as stale if they differ."""
    decoded = view()
    stated = [(column["name"], HIVE_OF_TRINO.get(column["type"], column["type"])) for column in decoded["columns"]]
    assert stated == [(column["Name"], column["Type"]) for column in VIEW["StorageDescriptor"]["Columns"]]
    casts = re.findall(r"AS ((?:map\(.*?\)|[a-z]+)(?:\(\d\))?)\) AS ([a-z_]+)", decoded["originalSql"])
    assert [(name, kind) for kind, name in casts] == [(c["name"], c["type"]) for c in decoded["columns"]]
    assert decoded["schema"] == DEPLOYED.resources()["AnalyticsDatabase"]["DatabaseInput"]["Name"]
    assert (VIEW["TableType"], VIEW["Parameters"]) == ("VIRTUAL_VIEW", {"presto_view": "true"})


def test_a_type_that_hive_lacks_is_an_error() -> None:
    with pytest.raises(ValueError, match="Hive has no type"):
        hive_type({"type": "null"}, {})


def rows_of(documents: list[Result], folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the view for these documents."""
    rows = query_rows(view()["originalSql"], documents, folder)
    assert all(list(row) == [column["name"] for column in view()["columns"]] for row in rows)
    return rows


def query_rows(sql: str, documents: list[Result], folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a query of Athena for these documents, from DuckDB."""
    for number, document in enumerate(documents):
        (folder / f"{number}.json").write_text(document.to_json() + "\n", encoding="utf-8")
    (folder / "page.html").write_text("<!doctype html>\n<p>A page beside the documents.\n", encoding="utf-8")
    types = {name: sqlglot.exp.DataType.build(kind, dialect="hive").sql("duckdb") for name, kind in columns().items()}
    database = duckdb.connect()
    database.execute(f"CREATE SCHEMA {view()['schema']}")
    read = f"read_json(?, columns = {types}, ignore_errors = true, format = 'newline_delimited')"
    database.execute(f"CREATE TABLE {view()['schema']}.results AS SELECT * FROM {read}", [str(folder / "*")])
    database.execute("CREATE MACRO from_iso8601_timestamp(text) AS CAST(text AS TIMESTAMPTZ)")
    database.execute(f"CREATE VIEW {view()['schema']}.utterances AS {_duckdb(view()['originalSql'])}")
    found = database.execute(_duckdb(sql))
    names = [described[0] for described in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _duckdb(sql: str) -> str:
    [translated] = sqlglot.transpile(sql, read="athena", write="duckdb")
    return translated


def test_the_documented_queries_find_what_they_say(documents: list[Result], tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "how-to" / "operate.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```sql\n(.*?)```", guide, re.DOTALL)
    angry, talkers = (sql.replace("audio_emotion", view()["schema"]) for sql in block.split(";")[:2])
    real = documents[0].model_copy(update={"model": documents[0].model.model_copy(update={"demo": None})})
    talk = ((0.0, 9.0, (0.6, 0.5, 0.3)),), ((9.5, 10.5, (0.4, 0.5, 0.3)),)
    call = dimensional_result(talk).with_figures()

    [found] = query_rows(angry, [real, documents[1]], tmp_path)
    talking = query_rows(talkers, [*documents, call], tmp_path)

    angry_s = sum(part.duration_s for part in real.utterances if part.emotion == "anger" and part.best[1] > 0.6)
    assert (found["recording"], found["angry_s"]) == (real.source.key, pytest.approx(angry_s))
    assert talking == [{"recording": "call.wav", "channel": 0, "talk_share": pytest.approx(0.9)}]


def test_the_view_has_a_row_for_each_utterance_of_real_documents(documents: list[Result], tmp_path: Path) -> None:
    assert [document.status for document in documents] == ["classified", "classified", "failed"]
    rows = rows_of(documents, tmp_path)
    expected = [
        (d.source.key, c.channel, n, u.start_s, u.end_s, u.emotion, u.score, u.scores, d.model.fingerprint, d.emotion)
        for d in documents
        for c in d.channels or ()
        for n, u in enumerate(c.utterances, start=1)
    ]
    fields = ("recording", "channel", "utterance", "start_s", "end_s", "emotion", "score", "scores", "fingerprint")
    found_rows = [tuple(row[name] for name in (*fields, "recording_emotion")) for row in rows]
    by_place = {(row[0], row[1], row[2]): row for row in found_rows}
    assert len(found_rows) == len(expected) > len(documents)
    assert by_place == {(row[0], row[1], row[2]): row for row in expected}
    finished = {d.source.key: d.processing.finished_at.replace(tzinfo=None) for d in documents}
    assert all(row["finished_at"] == finished[row["recording"]] for row in rows)
    assert {row["demo"] for row in rows} == {True}
    mixes = {d.source.key: (d.margin, d.shares) for d in documents}
    assert all((row["recording_margin"], row["recording_shares"]) == mixes[row["recording"]] for row in rows)


def test_the_view_has_the_values_of_dimensions(documents: list[Result], tmp_path: Path) -> None:
    values = ((0.0, 2.0, (0.61, 0.5, 0.25)), (4.0, 8.0, (1.04, 0.55, -0.1)))
    call = dimensional_result([list(values)])

    rows = rows_of([call, documents[0]], tmp_path)

    named = [dict(zip(DIMENSIONS, each, strict=True)) for _, _, each in values]
    of_call = sorted((row for row in rows if row["recording"] == "call.wav"), key=lambda row: int(row["utterance"]))
    assert [row["dimensions"] for row in of_call] == named
    assert [row["recording_dimensions"] for row in of_call] == [call.dimensions, call.dimensions]
    assert {(row["emotion"], row["score"], row["scores"]) for row in of_call} == {(None, None, None)}
    others = [row for row in rows if row["recording"] != "call.wav"]
    assert others
    assert {row["dimensions"] for row in others} == {None}
    assert all(row["emotion"] for row in others)


def test_the_view_has_the_speaker_of_each_utterance(documents: list[Result], tmp_path: Path) -> None:
    assert documents[0].channels
    [channel] = documents[0].channels
    parts = [part.model_copy(update={"speaker": n % 2}) for n, part in enumerate(channel.utterances)]
    separated = documents[0].model_copy(update={"channels": (channel.model_copy(update={"utterances": tuple(parts)}),)})

    rows = rows_of([separated, documents[1]], tmp_path)

    of_call = [row for row in rows if row["recording"] == separated.source.key]
    assert {row["utterance"]: row["speaker"] for row in of_call} == {n + 1: n % 2 for n in range(len(parts))}
    assert {row["speaker"] for row in rows if row not in of_call} == {None}


def test_the_view_flags_the_utterances_that_are_unsure(documents: list[Result], tmp_path: Path) -> None:
    scores = sorted(part.best[1] for part in documents[0].utterances)
    marked = documents[0].marked(scores[1])

    rows = rows_of([marked, documents[1]], tmp_path)

    assert [row["score"] for row in rows if row["unsure"]] == [scores[0]]
    assert {row["unsure"] for row in rows} == {True, False}
