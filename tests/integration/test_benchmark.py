"""The benchmark event: the function classifies its built-in speech, and only for a direct invocation."""

import json
import os
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.utterances import cut
from core.audio.voice_activity import VoiceActivityDetector
from core.audio.waveform import SAMPLE_RATE_HZ
from core.benchmark import CLIPS_S, Answer, Request, run, write_recordings
from core.deadline import Deadline
from core.errors import BenchmarkFailed, EventNotUnderstood
from core.local.stack import Stack
from core.local.workers import LocalContext
from core.machine import peak_memory_mb, start_ms
from core.model.classifier import EmotionClassifier
from core.operations.costs import PAUSES_S
from core.pipeline import Pipeline
from core.results import Result, Source
from core.settings import MediaLimits, SegmentationSettings
from tests.conftest import ROOT, MakeMedia
from tests.integration.conftest import Clock

BENCHMARK = {"benchmark": {"rounds": 1}}


@pytest.fixture
def pipeline(classifier: EmotionClassifier) -> Pipeline:
    return Pipeline(classifier, MediaLimits(), SegmentationSettings())


def invoke(event: Any, timeout_s: float = 900.0) -> dict[str, Any]:
    from handlers.s3_upload import handler

    answer: dict[str, Any] = handler(event, LocalContext(timeout_s))
    return answer


def sample_event(name: str) -> Any:
    return json.loads((ROOT / "events" / f"{name}.json").read_text(encoding="utf-8"))


def test_a_direct_invocation_classifies_four_clips_and_a_call(stack: Stack) -> None:
    answer = Answer.model_validate(json.loads(json.dumps(invoke(BENCHMARK))))
    assert [each.name for each in answer.recordings] == ["1 s", "2 s", "4 s", "6 s", "conversation"]
    assert [round(each.duration_s, 3) for each in answer.clips.values()] == list(CLIPS_S)
    assert [each.utterances for each in answer.recordings] == [1, 1, 1, 1, 7]
    for each in answer.recordings:
        assert len(each.total_ms) == len(each.inference_ms) == answer.rounds == 1
        assert each.median_total_ms > each.median_inference_ms >= 0
    assert answer.call.duration_s == pytest.approx(17.9, abs=0.2)
    assert answer.architecture in ("x86_64", "arm64")
    assert answer.start_ms is not None and answer.start_ms > 0  # noqa: PT018 (for mypy)
    assert answer.peak_memory_mb is not None and answer.peak_memory_mb > 20  # noqa: PT018
    assert list(stack.results()) == []
    assert not list(Path(os.environ["TMPDIR"]).glob("recording-*"))


def test_the_number_of_rounds_has_a_default(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Request] = []

    def refuse(request: Request, *_: Any) -> Answer:
        asked.append(request)
        raise BenchmarkFailed

    monkeypatch.setattr("core.benchmark.run", refuse)
    with pytest.raises(BenchmarkFailed):
        invoke({"benchmark": {}})
    assert asked == [Request(rounds=5)]


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        ({"benchmark": {"rounds": 0}}, "benchmark.rounds: Input should be greater than or equal to 1"),
        ({"benchmark": {"rounds": 51}}, "benchmark.rounds: Input should be less than or equal to 50"),
        ({"benchmark": {"rounds": "5"}}, "benchmark.rounds: Input should be a valid integer"),
        ({"benchmark": {"rounds": True}}, "benchmark.rounds: Input should be a valid integer"),
        ({"benchmark": {"file": "/etc/passwd"}}, "benchmark.file: Extra inputs are not permitted"),
        ({"benchmark": None}, "benchmark: Input should be a valid dictionary"),
        ({"benchmark": {}, "rounds": 5}, "the key benchmark only, not rounds"),
    ],
    ids=["none", "too-many", "text", "true", "unknown", "null", "second-key"],
)
def test_an_invalid_benchmark_event_is_refused_with_a_sentence(stack: Stack, event: Any, sentence: str) -> None:
    with pytest.raises(EventNotUnderstood, match=sentence):
        invoke(event)


@pytest.mark.parametrize("name", ["s3-put", "eventbridge", "sqs-s3-put"])
def test_the_event_of_a_service_cannot_carry_a_benchmark(stack: Stack, name: str) -> None:
    with pytest.raises(EventNotUnderstood, match="A benchmark event has the key benchmark only"):
        invoke(sample_event(name) | BENCHMARK)


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "sns"])
def test_a_message_of_the_queue_cannot_carry_a_benchmark(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, wrapped: bool
) -> None:
    monkeypatch.setattr("core.benchmark.run", lambda *_: pytest.fail("A message has started the benchmark."))
    body = {"Type": "Notification", "Message": json.dumps(BENCHMARK)} if wrapped else BENCHMARK
    batch = sample_event("sqs-s3-put")
    batch["Records"][0]["body"] = json.dumps(body)
    failed = [{"itemIdentifier": batch["Records"][0]["messageId"]}]
    assert invoke(batch) == {"batchItemFailures": failed}


def test_the_backfill_function_refuses_the_event(stack: Stack) -> None:
    from handlers.batch_operations import handler

    with pytest.raises(EventNotUnderstood, match="not a task of S3 Batch Operations"):
        handler(BENCHMARK, LocalContext(60.0))


@pytest.fixture
def ten_seconds_a_round(pipeline: Pipeline, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each of the five recordings take two seconds, and have the result of a real one."""
    result = pipeline.run(ROOT / "samples" / "anger.wav", Source(key="anger.wav"))

    def classify(*_: Any) -> tuple[Result, float]:
        clock.advance(2.0)
        return result, 2000.0

    monkeypatch.setattr("core.benchmark._classify", classify)
    monkeypatch.setattr("core.benchmark.time", clock)


@pytest.mark.parametrize(("timeout_s", "rounds"), [(60.0, 4), (900.0, 16)])
@pytest.mark.usefixtures("ten_seconds_a_round")
def test_rounds_that_do_not_fit_are_left_out(pipeline: Pipeline, timeout_s: float, rounds: int) -> None:
    assert run(Request(rounds=50), pipeline, Deadline.after(timeout_s), 1).rounds == rounds


@pytest.mark.usefixtures("ten_seconds_a_round")
def test_a_timeout_that_is_too_short_for_a_round_is_explained(pipeline: Pipeline) -> None:
    with pytest.raises(BenchmarkFailed, match=r"One round takes 10 s, and .* Raise TimeoutS or MemorySizeMb\."):
        run(Request(), pipeline, Deadline.after(24.0), 1)


def test_a_timeout_that_is_too_short_for_a_recording_is_explained(pipeline: Pipeline) -> None:
    with pytest.raises(BenchmarkFailed, match=r"The built-in recording 1 s\.wav cannot be classified: "):
        run(Request(), pipeline, Deadline.after(0.0), 1)


def test_a_limit_that_refuses_the_built_in_speech_is_explained(classifier: EmotionClassifier) -> None:
    strict = Pipeline(classifier, MediaLimits(max_duration_s=10.0), SegmentationSettings())
    with pytest.raises(BenchmarkFailed, match=r"conversation\.ogg cannot be classified: .*10"):
        run(Request(), strict, Deadline(), 1)


def test_a_recording_without_speech_is_reported(
    pipeline: Pipeline, make_media: MakeMedia, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence = make_media("silence.wav", source="anullsrc=duration=1")
    monkeypatch.setattr("core.benchmark.write_recordings", lambda _folder: [silence])
    with pytest.raises(BenchmarkFailed, match=r"No speech was found in the built-in recording silence\.wav"):
        run(Request(), pipeline, Deadline(), 1)


def test_the_clips_are_the_speech_of_the_call(tmp_path: Path) -> None:
    *clips, call = write_recordings(tmp_path)
    assert call == ROOT / "samples" / "conversation.ogg"
    assert [clip.stat().st_size for clip in clips] == [44 + 32_000 * seconds for seconds in CLIPS_S]


def test_a_call_costs_the_pauses_around_its_utterances() -> None:
    call, limits = ROOT / "samples" / "conversation.ogg", MediaLimits()
    blocks = decode(call, probe(call, limits), limits)
    segments = list(cut(blocks, SegmentationSettings(), VoiceActivityDetector.load()))
    around_s = [segment.waveform.size / SAMPLE_RATE_HZ - segment.duration_s for segment in segments]
    assert median(around_s) == pytest.approx(PAUSES_S, abs=0.01)


def test_a_kernel_without_proc_leaves_out_what_it_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise OSError

    monkeypatch.setattr(Path, "read_text", refuse)
    start_ms.cache_clear()
    assert (start_ms(), peak_memory_mb()) == (None, None)
    start_ms.cache_clear()
