"""A recording that takes many invocations gets, utterance for utterance, the result of one long invocation."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.audio.waveform import SAMPLE_RATE_HZ, Waveform
from core.deadline import Deadline
from core.delivery.metadata import ResultMetadata
from core.errors import RecordingUnfinished, StorageUnavailable
from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET, Stack, StackOptions, running_stack
from core.local.workers import EventSourceMapping, LocalContext
from core.model.classifier import EmotionClassifier, Scores
from core.model.output import Logits
from core.pipeline import Pipeline
from core.results import Model, Result, Source
from core.settings import MediaLimits, SegmentationSettings
from tests.conftest import ROOT
from tests.integration.conftest import Clock
from tests.support.quick_pipeline import LABELS, scores_for

MODEL = Model(id="tests/any_length", revision="1", precision="none", fingerprint="sha256:1", labels=LABELS)


class _NoNetwork:
    def logits(self, waveform: Waveform) -> Logits:
        raise AssertionError("there is no network")


class SlowClassifier(EmotionClassifier):
    """Returns a hash of the waveform's samples, after a simulated time."""

    def __init__(self, clock: Clock, inference_s: float = 0.3, model: Model = MODEL) -> None:
        super().__init__(_NoNetwork(), model)
        self._clock, self._inference_s = clock, inference_s
        self.waveforms: list[str] = []

    def classify(self, waveform: Waveform) -> Scores:
        self._clock.advance(self._inference_s)
        content = waveform.tobytes()
        self.waveforms.append(hashlib.sha256(content).hexdigest())
        return dict(scores_for(content))


@dataclass
class MemoryStore:
    """Progress in memory."""

    content: bytes | None = None
    saves: int = 0
    fail: Callable[[], None] = field(default=lambda: None)

    def load(self, *, is_short: bool) -> bytes | None:
        return self.content

    def save(self, content: bytes) -> None:
        self.fail()
        self.saves += 1
        self.content = content


def speech(seconds: float, channels: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Return speech of different utterances on each channel, with pauses and an offset, by repeating the samples."""
    clips = []
    for name in ("anger.wav", "neutral.flac", "conversation.ogg"):
        samples, rate_hz = soundfile.read(ROOT / "samples" / name, dtype="float32", always_2d=True)
        assert rate_hz == SAMPLE_RATE_HZ
        clips.append(samples.mean(axis=1))
    random = np.random.default_rng(0)
    sound = np.zeros((channels, round(seconds * SAMPLE_RATE_HZ)), np.float32)
    for channel in sound:
        at = 0
        while at < channel.size:
            clip = clips[random.integers(len(clips))]
            room = channel[at : at + clip.size]
            room += clip[: room.size]
            at += clip.size + int(random.uniform(0, 2) * SAMPLE_RATE_HZ)
    noise: np.ndarray[tuple[int, int], np.dtype[np.float32]] = random.standard_normal(sound.shape, np.float32)
    return sound + 0.001 * noise + np.float32(0.01)


def write(file: Path, seconds: float, channels: int = 2) -> Path:
    soundfile.write(file, speech(seconds, channels).T, SAMPLE_RATE_HZ)
    return file


def pipeline(classifier: EmotionClassifier, **options: float) -> Pipeline:
    return Pipeline(classifier, MediaLimits(), SegmentationSettings.model_validate(options))


def run(pipeline: Pipeline, file: Path, store: MemoryStore | None, timeout_s: float) -> Result | None:
    try:
        return pipeline.run(file, Source(key="long"), deadline=Deadline.after(timeout_s), store=store)
    except RecordingUnfinished:
        return None


def document(result: Result) -> object:
    """Return the result without the times of its processing."""
    return json.loads(result.model_copy(update={"processing": None}).to_json())


def utterances(result: Result) -> int:
    assert result.channels is not None
    return sum(len(channel.utterances) for channel in result.channels)


@pytest.mark.timeout(300)
def test_invocations_of_20_s_give_the_utterances_of_one_long_invocation(clock: Clock, tmp_path: Path) -> None:
    file = write(tmp_path / "long.flac", 30 * 60.0)
    at_once = SlowClassifier(clock)
    expected = run(pipeline(at_once), file, None, 10_000.0)
    assert expected is not None
    assert expected.status == "classified"

    classifier = SlowClassifier(clock)
    store = MemoryStore()
    invocations = 1
    while (result := run(pipeline(classifier), file, store, 20.0)) is None:
        invocations += 1
        assert invocations < 100

    assert invocations >= 10
    assert document(result) == document(expected)
    # Equal waveforms, and each was classified once.
    assert classifier.waveforms == at_once.waveforms
    assert utterances(result) == len(set(classifier.waveforms)) > 400


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes of speech on two channels."""
    return write(tmp_path_factory.mktemp("call") / "call.flac", 120.0)


def test_a_killed_invocation_costs_at_most_two_minutes(clock: Clock, call: Path) -> None:
    """The invocation ends without any last step, between two inferences."""
    expected = run(pipeline(SlowClassifier(clock)), call, None, 10_000.0)
    assert expected is not None
    store = MemoryStore()

    class Killed(SlowClassifier):
        def classify(self, waveform: Waveform) -> Scores:
            if len(self.waveforms) == 30:
                raise KeyboardInterrupt
            return super().classify(waveform)

    killed = Killed(clock, inference_s=7.0)
    with pytest.raises(KeyboardInterrupt):
        run(pipeline(killed), call, store, 885.0)
    assert store.saves == 1
    classifier = SlowClassifier(clock)
    result = run(pipeline(classifier), call, store, 885.0)
    assert result is not None
    assert document(result) == document(expected)
    repeated = set(killed.waveforms) & set(classifier.waveforms)
    assert 0 < len(repeated) * 7.0 <= 120.0


def test_progress_that_cannot_be_stored_is_lost_only_in_between(clock: Clock, call: Path) -> None:
    store = MemoryStore()
    failures = 0

    def fail() -> None:
        nonlocal failures
        failures += 1
        if failures <= 2:
            raise StorageUnavailable("S3 is down.")

    store.fail = fail
    # The first failure is between two parts, the second one at the end of the invocation: the queue retries.
    with pytest.raises(StorageUnavailable):
        run(pipeline(SlowClassifier(clock, 7.0)), call, store, 200.0)
    assert failures == 2
    assert run(pipeline(SlowClassifier(clock, 7.0)), call, store, 200.0) is None
    result = run(pipeline(SlowClassifier(clock)), call, store, 200.0)
    expected = run(pipeline(SlowClassifier(clock)), call, None, 10_000.0)
    assert result is not None
    assert expected is not None
    assert document(result) == document(expected)


@pytest.mark.parametrize("change", ["model", "settings", "version"])
def test_progress_of_another_model_or_setting_is_not_used(
    clock: Clock, call: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    store = MemoryStore()
    assert run(pipeline(SlowClassifier(clock)), call, store, 10.0) is None
    if change == "version":
        monkeypatch.setattr("core.resumption.__version__", "0.0.1")
    model = MODEL.model_copy(update={"fingerprint": "sha256:2"}) if change == "model" else MODEL
    options = {"min_silence_s": 0.5} if change == "settings" else {}
    classifier = SlowClassifier(clock, model=model)
    result = run(pipeline(classifier, **options), call, store, 10_000.0)
    assert result is not None
    assert len(classifier.waveforms) == utterances(result)


@pytest.mark.parametrize(("timeout_s", "inference_s"), [(3.0, 3.1), (500.0, 200.0)])
def test_a_recording_that_does_not_advance_fails(
    clock: Clock, call: Path, timeout_s: float, inference_s: float
) -> None:
    """One utterance takes longer than an invocation; or an invocation finishes a few seconds of audio only."""
    store = MemoryStore()
    result = run(pipeline(SlowClassifier(clock, inference_s)), call, store, timeout_s)
    assert result is not None
    assert result.error is not None
    assert result.error.code == "deadline_exceeded"


def test_a_recording_with_one_channel_of_mixed_channels_continues(clock: Clock, tmp_path: Path) -> None:
    one = speech(100.0, 1)
    file = tmp_path / "mixed.wav"
    soundfile.write(file, np.concatenate([one, one * 0.9]).T, SAMPLE_RATE_HZ)
    expected = run(pipeline(SlowClassifier(clock)), file, None, 10_000.0)
    store = MemoryStore()
    while (result := run(pipeline(SlowClassifier(clock)), file, store, 5.0)) is None:
        assert store.saves < 50
    assert store.saves > 1
    assert expected is not None
    assert [channel.mixed for channel in expected.channels or ()] == [(0, 1)]
    assert document(result) == document(expected)


@pytest.fixture
def stack(
    aws_server: str, package: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Stack, SlowClassifier]]:
    """The local stack, whose function has 20 s for a recording and a slow classifier."""
    import handlers.processing

    classifier = SlowClassifier(clock)
    options = StackOptions(35.0, 210)  # 15 s are reserved for the end of an invocation
    with running_stack(options, aws_server) as running:
        running.sqs.purge_queue(QueueUrl=running.queue_url)  # S3's test event
        for name, value in running.environment(package).items():
            monkeypatch.setenv(name, value)
        handlers.processing.queue.cache_clear()
        monkeypatch.setattr(handlers.processing, "load_classifier", lambda *_, **__: classifier)
        handlers.processing.delivery.cache_clear()
        yield running, classifier
        handlers.processing.delivery.cache_clear()
        handlers.processing.queue.cache_clear()


def process_queue(stack: Stack, clock: Clock) -> int:
    """Deliver messages until the queue is empty, and return the number of deliveries."""
    from handlers.s3_upload import handler

    mapping = EventSourceMapping(stack.sqs, stack.queue_url, handler, stack.options)
    deliveries = 0
    while mapping.poll(wait_s=0):
        deliveries += 1
        assert deliveries < 50
    return deliveries


def stored(stack: Stack) -> dict[str, object]:
    result: dict[str, object] = json.loads(stack.result("results/call.flac.json"))
    return result


def leftovers(stack: Stack) -> list[str]:
    """Return the keys of leases and progress."""
    listed = stack.s3.list_objects_v2(Bucket=RESULTS_BUCKET, Prefix="claims/")
    return [item["Key"] for item in listed.get("Contents", [])]


@pytest.mark.parametrize("origin", ["upload", "backfill"])
def test_a_long_recording_goes_through_the_queue_until_it_is_finished(
    stack: tuple[Stack, SlowClassifier], clock: Clock, call: Path, origin: str
) -> None:
    running, classifier = stack
    expected = run(pipeline(SlowClassifier(clock)), call, None, 10_000.0)
    assert expected is not None
    running.upload(call, "call.flac")
    if origin == "backfill":
        from handlers.batch_operations import handler

        # A backfill replaces the recoverable failure of an earlier release, in every invocation.
        [message] = running.sqs.receive_message(QueueUrl=running.queue_url)["Messages"]
        running.sqs.delete_message(QueueUrl=running.queue_url, ReceiptHandle=message["ReceiptHandle"])
        newest = running.s3.head_object(Bucket=UPLOADS_BUCKET, Key="call.flac")
        metadata = ResultMetadata(newest["VersionId"], MODEL.fingerprint, "done", error="deadline_exceeded")
        running.s3.put_object(
            Bucket=RESULTS_BUCKET, Key="results/call.flac.json", Body=b"{}", Metadata=metadata.to_s3()
        )
        task = {"taskId": "t", "s3Key": "call.flac", "s3VersionId": newest["VersionId"], "s3Bucket": UPLOADS_BUCKET}
        event = {"invocationSchemaVersion": "2.0", "invocationId": "i", "tasks": [task]}
        [answer] = handler(event, LocalContext(35.0))["results"]
        assert (answer["resultCode"], answer["resultString"]) == ("Succeeded", "continued")
    else:
        assert running.results() == {}
    assert process_queue(running, clock) >= (2 if origin == "upload" else 1)
    assert stored(running)["channels"] == json.loads(expected.to_json())["channels"]
    assert len(classifier.waveforms) == utterances(expected)
    assert leftovers(running) == []
    assert running.dead_letters() == 0


@pytest.mark.parametrize("variable", ["LEASES_PREFIX", "QUEUE_URL"])
def test_without_leases_or_a_queue_a_recording_must_fit_into_one_invocation(
    stack: tuple[Stack, SlowClassifier], clock: Clock, call: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    running, _ = stack
    monkeypatch.setenv(variable, "")
    running.upload(call, "call.flac")
    assert process_queue(running, clock) == 1
    assert stored(running)["error"]["code"] == "deadline_exceeded"  # type: ignore[index]
