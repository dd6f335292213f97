"""`audio-emotion results`, from a folder and from a bucket."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from core.cli.app import app
from core.local.stack import RESULTS_BUCKET, Stack, running_stack
from core.operations.results import parse_time
from core.results import (
    Audio,
    Channel,
    EmotionScores,
    Error,
    Model,
    Processing,
    Result,
    Source,
    Utterance,
    mean_values,
)
from tests.support.outputs import dimensional_result

NOW = datetime.now(UTC).replace(microsecond=0)
MODEL = Model(id="m", revision="r", precision="fp32", fingerprint="sha256:f", labels=("anger", "sad"))

Run = Callable[..., tuple[int, str, str]]


def document(key: str, emotion: str | None, *, days_ago: int = 0) -> Result:
    scores = {"anger": 0.8, "sad": 0.2} if emotion == "anger" else {"anger": 0.2, "sad": 0.8}
    scored: dict[str, Any] = {"emotion": emotion, "score": 0.8, "scores": scores} if emotion else {}
    parts = [Utterance(start_s=second, end_s=second + 1, **scored) for second in (0, 2)] if emotion else []
    if key == "calls/b.wav":
        parts[0] = Utterance(start_s=0, end_s=1, emotion="anger", score=0.6, scores={"anger": 0.6, "sad": 0.4})
    channels = (Channel(channel=0, speech_s=2, utterances=tuple(parts), **scored),) if emotion else None
    return Result(
        status="classified" if emotion else "failed",
        source=Source(key=key),
        model=MODEL,
        channels=channels,
        error=None if emotion else Error(code="damaged", message="Nothing could be decoded."),
        processing=Processing(finished_at=NOW - timedelta(days=days_ago), version="1"),
        **scored,
    )


DOCUMENTS = [document("calls/a.wav", "anger"), document("calls/b.wav", "sad", days_ago=3), document("c.txt", None)]


@pytest.fixture(scope="module")
def stack(aws_server: str) -> Iterator[Stack]:
    with running_stack(endpoint=aws_server) as running, pytest.MonkeyPatch.context() as patched:
        for name, value in running.environment(Path()).items():
            patched.setenv(name, value)
        for one in DOCUMENTS:
            key = f"results/{one.source.key}.json"
            running.s3.put_object(Bucket=RESULTS_BUCKET, Key=key, Body=one.to_json().encode())
        running.s3.put_object(Bucket=RESULTS_BUCKET, Key="results/calls/a.wav.html", Body=b"<p>")
        yield running


@pytest.fixture(params=["folder", "bucket"])
def run(request: pytest.FixtureRequest, stack: Stack, tmp_path: Path) -> Run:
    for one in DOCUMENTS:
        file = tmp_path / f"{one.source.key}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(one.to_json(), encoding="utf-8")
    (tmp_path / "folder.json").mkdir()
    where = ["--folder", str(tmp_path)] if request.param == "folder" else ["--bucket", RESULTS_BUCKET]

    def command(*options: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["results", *where, *options])
        return done.exit_code, done.stdout, done.stderr

    return command


def keys(lines: str) -> set[str]:
    return {json.loads(line)["source"]["key"] for line in lines.splitlines()}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"calls/a.wav", "calls/b.wav", "c.txt"}),
        (["--since", "1d"], {"calls/a.wav", "c.txt"}),
        (["--emotion", "sad"], {"calls/b.wav"}),
        (["--emotion", "anger"], {"calls/a.wav"}),
        (["--utterance", "anger"], {"calls/a.wav", "calls/b.wav"}),
        (["--utterance", "anger", "--emotion", "sad"], {"calls/b.wav"}),
        (["--status", "failed"], {"c.txt"}),
        (["--prefix", "calls/"], {"calls/a.wav", "calls/b.wav"}),
        (["--prefix", "calls/", "--since", "12h", "--emotion", "anger", "--status", "classified"], {"calls/a.wav"}),
        (["--emotion", "joy"], set()),
        (["--emotion", "angry"], {"calls/a.wav"}),
        (["--emotion", "Sadness"], {"calls/b.wav"}),
        (["--utterance", "ANG"], {"calls/a.wav", "calls/b.wav"}),
    ],
)
def test_options_select_results(run: Run, options: list[str], expected: set[str]) -> None:
    status, stdout, stderr = run("--json", *options)
    assert (status, keys(stdout), stderr) == (0, expected, "")


def test_csv_has_a_row_for_each_utterance_under_one_header(run: Run) -> None:
    status, stdout, _ = run("--csv")
    rows = list(csv.DictReader(io.StringIO(stdout)))
    assert status == 0
    assert [row["recording"] for row in rows].count("calls/a.wav") == 2
    assert next(row for row in rows if row["recording"] == "c.txt")["error"] == "Nothing could be decoded."
    assert [row["anger"] for row in rows if row["recording"] == "calls/b.wav"] == ["0.6", "0.2"]
    assert list(rows[0])[-11:-4] == ["error", "model", "fingerprint", "demo", "finished_at", "track", "speaker"]
    assert list(rows[0])[-4:] == ["duration_s", "speech_s", "error_code", "unsure"]
    for row in rows:
        assert (row["model"], row["fingerprint"], row["demo"]) == ("m", "sha256:f", "false")
    assert {row["finished_at"] for row in rows if row["recording"] == "calls/a.wav"} == {f"{NOW:%Y-%m-%dT%H:%M:%SZ}"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a call of two channels, a document of release 1.0, one with dimensions, and a failure."""
    texts = [
        two_channels().to_json(),
        json.dumps(json.loads(two_channels("old.wav").to_json()) | {"schema_version": "1.0"}),
        dimensional_result([[(0.0, 2.0, (0.61, 0.5, 0.25)), (4.0, 6.0, (0.41, 0.5, 0.25))]]).to_json(),
        DOCUMENTS[2].to_json(),
    ]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.json").write_text(text, encoding="utf-8")
    return tmp_path


def two_channels(key: str = "two.wav") -> Result:
    """Return a call as release 1.0 stored it, without figures."""
    parts = [
        Utterance(start_s=start, end_s=end, emotion=emotion, score=0.8, scores=scores)
        for start, end, emotion, scores in (
            (0.0, 3.0, "anger", {"anger": 0.8, "sad": 0.2}),
            (2.0, 4.0, "sad", {"anger": 0.2, "sad": 0.8}),
            (5.0, 6.0, "sad", {"anger": 0.2, "sad": 0.8}),
        )
    ]
    lanes = (parts[:1], parts[1:])
    channels = tuple(
        Channel(
            channel=number,
            speech_s=3.0,
            utterances=tuple(lane),
            **dict(EmotionScores.of(mean_values((part.values, part.duration_s) for part in lane))),
        )
        for number, lane in enumerate(lanes)
    )
    return Result(
        status="classified",
        source=Source(key=key),
        audio=Audio(container="wav", codec="pcm", sample_rate_hz=8000, channels=2, duration_s=8.0),
        model=MODEL,
        channels=channels,
        speech_s=6.0,
        processing=Processing(finished_at=NOW, version="1"),
        **dict(EmotionScores.of({"anger": 0.5, "sad": 0.5})),
    )


def table(folder: Path, *options: str) -> list[dict[str, str]]:
    done = CliRunner().invoke(app, ["results", "--folder", str(folder), "--csv", *options])
    assert (done.exit_code, done.stderr) == (0, "")
    return list(csv.DictReader(io.StringIO(done.stdout)))


@pytest.mark.parametrize("key", ["two.wav", "old.wav"])
def test_csv_may_have_a_row_for_each_channel(folder: Path, key: str) -> None:
    agent, customer = (row for row in table(folder, "--per", "channel") if row["recording"] == key)

    assert [agent["channel"], customer["channel"]] == ["0", "1"]
    assert [customer[name] for name in ("duration_s", "speech_s", "talk_share", "turns")] == ["8.0", "3.0", "0.5", "1"]
    assert [customer[name] for name in ("longest_turn_s", "mean_turn_s", "interruptions")] == ["4.0", "4.0", "1"]
    assert [agent[name] for name in ("emotion", "mean_score", "mean_anger")] == ["anger", "0.8", "0.8"]
    assert [agent[name] for name in ("margin", "share_anger", "share_sad")] == ["0.6", "1.0", "0.0"]
    assert {agent["mean_arousal"], agent["error"], agent["error_code"]} == {""}


def test_speakers_of_a_channel_have_a_row_each(tmp_path: Path) -> None:
    two = two_channels()
    parts = [
        part.model_copy(update={"speaker": channel.channel})
        for channel in two.channels or ()
        for part in channel.utterances
    ]
    means = dict(EmotionScores.of({"anger": 0.5, "sad": 0.5}))
    mono = Channel(channel=0, speech_s=6.0, utterances=tuple(parts), **means)
    (tmp_path / "a.json").write_text(two.model_copy(update={"channels": (mono,)}).with_figures().to_json())

    rows = table(tmp_path, "--per", "channel")

    assert [(row["channel"], row["speaker"], row["speech_s"], row["emotion"]) for row in rows] == [
        ("0", "0", "3.0", "anger"),
        ("0", "1", "3.0", "sad"),
    ]
    assert [(row["talk_share"], row["turns"], row["share_sad"]) for row in rows] == [
        ("0.5", "1", "0.0"),
        ("0.5", "1", "1.0"),
    ]
    assert [row["speaker"] for row in table(tmp_path)] == ["0", "1", "1"]


@pytest.mark.parametrize("key", ["two.wav", "old.wav"])
def test_csv_may_have_a_row_for_each_recording(folder: Path, key: str) -> None:
    [row] = [row for row in table(folder, "--per", "recording") if row["recording"] == key]

    numbers = ("duration_s", "speech_s", "silence_s", "overlap_s", "interruptions")
    assert [row[name] for name in numbers] == ["8.0", "6.0", "3.0", "1.0", "1"]
    assert [row[name] for name in ("emotion", "mean_score", "margin", "share_sad")] == ["anger", "0.5", "0.0", "0.5"]
    assert {"channel", "share_arousal"}.isdisjoint(row)


@pytest.mark.parametrize("per", ["utterance", "channel", "recording"])
def test_rows_of_any_kind_have_the_values_of_dimensions_and_the_error(folder: Path, per: str) -> None:
    rows = table(folder, "--per", per)

    [failed] = [row for row in rows if row["recording"] == "c.txt"]
    assert (failed["error"], failed["error_code"], failed["duration_s"]) == ("Nothing could be decoded.", "damaged", "")
    column = "arousal" if per == "utterance" else "mean_arousal"
    values = [row[column] for row in rows if row["recording"] == "call.wav"]
    assert values == (["0.61", "0.41"] if per == "utterance" else ["0.51"])


def test_rows_of_utterances_have_the_durations_of_the_recording(folder: Path) -> None:
    rows = [row for row in table(folder) if row["recording"] == "two.wav"]

    assert [(row["start_s"], row["duration_s"], row["speech_s"]) for row in rows] == [
        ("0.0", "8.0", "6.0"),
        ("2.0", "8.0", "6.0"),
        ("5.0", "8.0", "6.0"),
    ]


def test_per_needs_csv(folder: Path) -> None:
    done = CliRunner().invoke(app, ["results", "--folder", str(folder), "--per", "channel"])

    assert done.exit_code == 2
    assert "--per needs --csv." in done.stderr


def test_csv_keeps_the_scores_of_every_model(tmp_path: Path) -> None:
    other = Model(id="o", revision="r", precision="fp32", fingerprint="sha256:o", labels=("calm", "sad"), demo=True)
    scores = {"calm": 0.9, "sad": 0.1}
    part = Utterance(start_s=0, end_s=1, emotion="calm", score=0.9, scores=scores)
    channel = Channel(channel=0, speech_s=1, utterances=(part,), emotion="calm", score=0.9, scores=scores)
    calm = DOCUMENTS[0].model_copy(update={"model": other, "channels": (channel,), "source": Source(key="calm.wav")})
    for number, one in enumerate((DOCUMENTS[2], calm, DOCUMENTS[0])):
        (tmp_path / f"{number}.json").write_text(one.to_json(), encoding="utf-8")

    done = CliRunner().invoke(app, ["results", "--folder", str(tmp_path), "--csv"])

    failed, by_other, by_first, _ = csv.DictReader(io.StringIO(done.stdout))
    assert [failed[label] for label in ("anger", "sad", "calm")] == ["", "", ""]
    assert [by_other[label] for label in ("anger", "sad", "calm")] == ["", "0.1", "0.9"]
    assert [by_first[label] for label in ("anger", "sad", "calm")] == ["0.8", "0.2", ""]
    assert (by_other["model"], by_other["demo"], by_first["demo"]) == ("o", "true", "false")


def test_results_may_have_any_prefix_in_a_bucket(stack: Stack) -> None:
    stack.s3.put_object(Bucket=RESULTS_BUCKET, Key="elsewhere/a.json", Body=document("e.wav", "sad").to_json().encode())

    options = ["--bucket", RESULTS_BUCKET, "--results-prefix", "elsewhere/", "--json"]
    done = CliRunner().invoke(app, ["results", *options])

    assert keys(done.stdout) == {"e.wav"}


def test_a_table_ends_with_the_counts(run: Run) -> None:
    _, stdout, _ = run()
    assert "calls/a.wav" in stdout
    assert "3 results: " in stdout
    assert all(count in stdout for count in ("anger 1", "mixed 1", "failed 1"))
    assert len(run("--emotion", "joy")[1].splitlines()) == 1  # no table


def test_a_file_that_is_not_a_result_is_named_and_skipped(tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text(DOCUMENTS[0].to_json(), encoding="utf-8")
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    (tmp_path / "unreadable.json").symlink_to("/proc/self/mem")  # reading its start is an error, for root as well
    done = CliRunner().invoke(app, ["results", "--folder", str(tmp_path), "--json"])
    assert done.exit_code == 1
    assert keys(done.stdout) == {"calls/a.wav"}
    assert "other.json" in done.stderr
    assert "unreadable.json" in done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T14:00", datetime(2026, 1, 31, 14, tzinfo=UTC)),
        ("2026-01-31T14:00+02:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
    ],
)
def test_a_time_is_parsed(text: str, expected: datetime) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize("text", ["yesterday", "7w", "9" * 30 + "d", ""])
def test_an_invalid_time_is_rejected_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"2026-01-31"):
        parse_time(text)


def test_conflicting_options_are_rejected() -> None:
    for options in (["--json", "--csv"], ["--stack", "a", "--bucket", "b"], ["--since", "soon"]):
        assert CliRunner().invoke(app, ["results", *options]).exit_code == 2
