"""Speakers who share a channel are separated in a second pass, without any effect on the first one."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import core.audio.decode
import core.pipeline
from core.audio.waveform import SAMPLE_RATE_HZ, Waveform
from core.deadline import Deadline
from core.errors import DecoderUnavailable, RecordingUnfinished, SpeakersUnavailable, StorageUnavailable
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.results import Channel, Result, Source
from core.settings import MediaLimits, SegmentationSettings, SpeakerMode, SpeakerSettings
from core.speakers.embedding import Embedding, SpeakerEmbedder
from core.speakers.separation import SpeakerSeparator
from tests.conftest import ROOT
from tests.integration.conftest import Clock
from tests.integration.test_any_length import MemoryStore, SlowClassifier
from tests.support.voices import two_voices, write_speaker_network

TURNS = 12


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaker_network(tmp_path_factory.mktemp("network") / "speakers.onnx")


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mono call of two voices in 38 s; each turn is one utterance."""
    return write(tmp_path_factory.mktemp("calls") / "call.wav", two_voices(TURNS)[0])


def write(file: Path, *channels: Waveform) -> Path:
    soundfile.write(file, np.stack(channels, axis=1), SAMPLE_RATE_HZ)
    return file


def separator(mode: SpeakerMode, network: Path) -> SpeakerSeparator:
    return SpeakerSeparator(SpeakerSettings(speakers=mode, speakers_model=network))


def pipeline(
    classifier: EmotionClassifier, speakers: SpeakerSeparator | None, segmentation: SegmentationSettings | None = None
) -> Pipeline:
    return Pipeline(classifier, MediaLimits(), segmentation or SegmentationSettings(), speakers)


def run(pipeline: Pipeline, file: Path, mode: SpeakerMode | None = None) -> Result:
    return pipeline.run(file, Source(key="call"), speakers=mode)


def only_channel(result: Result) -> Channel:
    assert result.channels is not None
    [channel] = result.channels
    return channel


def labels(channel: Channel) -> list[int | None]:
    return [part.speaker for part in channel.utterances]


def in_order_of_appearance(voices: list[int]) -> list[int]:
    return [int(voice != voices[0]) for voice in voices]


def document(result: Result) -> dict[str, Any]:
    """Return the result without the times of its processing."""
    found: dict[str, Any] = json.loads(result.to_json())
    del found["processing"]
    return found


def without_speakers(document: dict[str, Any]) -> dict[str, Any]:
    """Return a result of one channel as it is without separated speakers."""
    [channel] = document["channels"]
    for name in ("voices", "speakers"):
        channel.pop(name, None)
    for part in channel["utterances"]:
        part.pop("speaker", None)
    return document


@pytest.mark.parametrize("mode", ["2", "auto"])
def test_each_utterance_gets_its_speaker(
    classifier: EmotionClassifier, network: Path, call: Path, mode: SpeakerMode
) -> None:
    channel = only_channel(run(pipeline(classifier, separator(mode, network)), call))

    assert labels(channel) == in_order_of_appearance(two_voices(TURNS)[1])
    assert channel.voices is not None
    assert (channel.voices.requested, channel.voices.found) == (mode, 2)
    assert channel.voices.similarity is not None
    assert channel.voices.similarity < 0.5


def test_a_speaker_has_the_figures_of_a_channel(classifier: EmotionClassifier, network: Path, call: Path) -> None:
    result = run(pipeline(classifier, separator("2", network)), call)
    channel = only_channel(result)

    assert channel.speakers is not None
    for speaker in channel.speakers:
        own = [part for part in channel.utterances if part.speaker == speaker.speaker]
        assert speaker.speech_s == pytest.approx(sum(part.duration_s for part in own), abs=0.002)
        assert speaker.scores is not None
        for label, score in speaker.scores.items():
            mean = sum(part.values[label] * part.duration_s for part in own) / speaker.speech_s
            assert score == pytest.approx(mean, abs=1e-3)
        assert speaker.turns == len(own) - sum(
            a == b == speaker.speaker for a, b in zip(labels(channel), labels(channel)[1:], strict=False)
        )
        assert speaker.interruptions is None
    assert sum(speaker.talk_share or 0 for speaker in channel.speakers) == pytest.approx(1.0, abs=1e-5)
    # Nothing on one channel tells when both speak.
    assert (result.overlap_s, result.interruptions, channel.turns) == (None, None, None)


@pytest.mark.parametrize("mode", ["2", "auto"])
def test_the_second_pass_changes_nothing_else(
    classifier: EmotionClassifier, network: Path, call: Path, mode: SpeakerMode
) -> None:
    plain = document(run(pipeline(classifier, None), call))
    separated = document(run(pipeline(classifier, separator(mode, network)), call))

    assert without_speakers(separated) == plain != document(run(pipeline(classifier, separator(mode, network)), call))


_OFF = """
import json, sys
from pathlib import Path
from core import settings
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.results import Source
from core.settings import MediaLimits, SegmentationSettings, SpeakerSettings
from core.speakers.separation import SpeakerSeparator
speakers = SpeakerSeparator(settings.read(SpeakerSettings))
pipeline = Pipeline(EmotionClassifier.load(Path(sys.argv[1])), MediaLimits(), SegmentationSettings(), speakers)
result = pipeline.run(Path(sys.argv[2]), Source(key="call"))
loaded = [name for name in sys.modules if name.startswith("core.speakers.")]
print(json.dumps([loaded, result.model_copy(update={"processing": None}).to_json()]))
"""


def test_off_loads_nothing_and_decodes_once(
    classifier: EmotionClassifier,
    package: Path,
    network: Path,
    call: Path,
    decodings: list[Path],
) -> None:
    command = [sys.executable, "-c", _OFF, str(package), str(call)]
    environment = {**os.environ, "SPEAKERS_MODEL": str(network), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=60, cwd=ROOT)
    loaded, in_new_process = json.loads(done.stdout)
    assert loaded == ["core.speakers.separation"]

    # Equal to the bytes: whether the network is installed or not, and whether the recording or the setting says "off".
    always = pipeline(classifier, separator("2", network))
    results = [run(pipeline(classifier, None), call), run(always, call, "off")]
    texts = {result.model_copy(update={"processing": None}).to_json() for result in results}
    assert texts == {in_new_process}
    assert "speaker" not in in_new_process
    assert "voices" not in in_new_process
    assert len(decodings) == 2


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that the pipeline has decoded, one entry for each time."""
    found: list[Path] = []
    decode = core.audio.decode.decode

    def counted(path: Path, *args: Any) -> Any:
        found.append(path)
        return decode(path, *args)

    monkeypatch.setattr(core.pipeline, "decode", counted)
    return found


def test_channels_that_are_kept_apart_are_speakers_already(
    classifier: EmotionClassifier, network: Path, tmp_path: Path, decodings: list[Path]
) -> None:
    one, other = two_voices(4)[0], two_voices(4, seed=1)[0]
    size = min(one.size, other.size)
    stereo = write(tmp_path / "stereo.wav", one[:size], other[:size])
    split = SegmentationSettings(channels="split")

    separated = run(pipeline(classifier, separator("2", network), split), stereo)

    assert document(separated) == document(run(pipeline(classifier, None, split), stereo))
    assert separated.channels is not None
    assert len(separated.channels) == 2
    assert len(decodings) == 2


@pytest.mark.parametrize("channels", ["auto", "mix"])
def test_the_speakers_of_mixed_channels_are_separated(
    classifier: EmotionClassifier, network: Path, tmp_path: Path, channels: str
) -> None:
    """One microphone, saved in stereo."""
    sound, voices = two_voices(8)
    stereo = write(tmp_path / "stereo.wav", sound, 0.7 * sound)
    segmentation = SegmentationSettings.model_validate({"channels": channels})

    channel = only_channel(run(pipeline(classifier, separator("2", network), segmentation), stereo))

    assert channel.mixed == (0, 1)
    assert labels(channel) == in_order_of_appearance(voices)


def test_one_utterance_has_one_speaker_without_a_second_pass(
    classifier: EmotionClassifier, network: Path, tone: Path, decodings: list[Path]
) -> None:
    channel = only_channel(run(pipeline(classifier, separator("2", network)), tone))

    assert channel.voices is not None
    assert (channel.voices.found, channel.voices.similarity, channel.speakers) == (1, None, None)
    assert labels(channel) == [None]
    assert len(decodings) == 1


def test_auto_leaves_one_voice_as_it_is(classifier: EmotionClassifier, network: Path, tmp_path: Path) -> None:
    samples, _ = soundfile.read(ROOT / "samples" / "neutral.flac", dtype="float32")
    pause = np.zeros(SAMPLE_RATE_HZ, np.float32)
    alone = write(tmp_path / "alone.wav", np.concatenate([samples, pause] * 6))

    channel = only_channel(run(pipeline(classifier, separator("auto", network)), alone))

    assert channel.voices is not None
    assert (channel.voices.found, channel.speakers) == (1, None)
    assert set(labels(channel)) == {None}


def test_a_recording_without_speech_needs_no_second_pass(
    classifier: EmotionClassifier, network: Path, tmp_path: Path, decodings: list[Path]
) -> None:
    silence = write(tmp_path / "silence.wav", np.zeros(20 * SAMPLE_RATE_HZ, np.float32))
    assert run(pipeline(classifier, separator("2", network)), silence).status == "no_speech"
    assert len(decodings) == 1


# Recordings that take several invocations.


class SlowSeparator(SpeakerSeparator):
    """A separator whose embeddings take a simulated time."""

    def __init__(self, network: Path, clock: Clock, embedding_s: float = 0.0) -> None:
        self._clock, self._embedding_s = clock, embedding_s
        self.embedded: list[str] = []
        super().__init__(SpeakerSettings(speakers="2", speakers_model=network))

    def _load(self) -> SpeakerEmbedder:
        return _SlowEmbedder(super()._load(), self)

    def note(self, samples: Waveform) -> None:
        self._clock.advance(self._embedding_s)
        self.embedded.append(hashlib.sha256(samples.tobytes()).hexdigest())


class _SlowEmbedder(SpeakerEmbedder):
    def __init__(self, embedder: SpeakerEmbedder, separator: SlowSeparator) -> None:
        self._embedder, self._separator = embedder, separator

    def embed(self, samples: Waveform) -> Embedding:
        self._separator.note(samples)
        return self._embedder.embed(samples)


def attempt(pipeline: Pipeline, file: Path, store: MemoryStore | None, timeout_s: float) -> Result | None:
    try:
        return pipeline.run(file, Source(key="call"), deadline=Deadline.after(timeout_s), store=store)
    except RecordingUnfinished:
        return None


def test_the_next_invocation_separates_the_speakers_if_this_one_is_too_short(
    clock: Clock, network: Path, call: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.pipeline, "time", clock)
    expected = attempt(pipeline(SlowClassifier(clock), SlowSeparator(network, clock)), call, None, 1000.0)
    assert expected is not None
    store = MemoryStore()
    first = SlowClassifier(clock, inference_s=5.0)
    assert attempt(pipeline(first, SlowSeparator(network, clock, 5.0)), call, store, 100.0) is None
    assert len(first.waveforms) == TURNS
    assert store.content is not None
    stored = json.loads(store.content)
    # No embedding.
    assert stored.keys() == {"identity", "cutter", "decoded_samples", "utterances", "decode_s", "inference_s"}
    assert stored["cutter"]["channels"] == []

    second, separator = SlowClassifier(clock), SlowSeparator(network, clock, 5.0)
    result = attempt(pipeline(second, separator), call, store, 100.0)

    assert result is not None
    assert document(result) == document(expected)
    assert second.waveforms == []
    assert len(separator.embedded) == TURNS
    assert result.processing.inference_ms >= TURNS * 10_000  # of both passes


def test_an_invocation_in_the_middle_of_the_first_pass_ends_as_without_speakers(
    clock: Clock, network: Path, tmp_path: Path
) -> None:
    long = write(tmp_path / "long.wav", two_voices(30)[0])
    expected = attempt(pipeline(SlowClassifier(clock), SlowSeparator(network, clock)), long, None, 10_000.0)
    assert expected is not None
    store, separator = MemoryStore(), SlowSeparator(network, clock)
    invocations = 1
    while (result := attempt(pipeline(SlowClassifier(clock, 3.0), separator), long, store, 30.0)) is None:
        invocations += 1

    assert invocations >= 3
    assert document(result) == document(expected)
    # Each was embedded once.
    assert len(separator.embedded) == len(set(separator.embedded)) == len(only_channel(result).utterances) > 20


@pytest.mark.parametrize("has_store", [True, False])
def test_a_result_has_no_speakers_if_a_whole_invocation_is_too_short(
    clock: Clock, network: Path, call: Path, has_store: bool
) -> None:
    plain = attempt(pipeline(SlowClassifier(clock), None), call, None, 1000.0)
    assert plain is not None
    store = MemoryStore() if has_store else None
    slow = SlowSeparator(network, clock, 30.0)
    results = [attempt(pipeline(SlowClassifier(clock), slow), call, store, 100.0) for _ in range(2 if has_store else 1)]

    assert results[:-1] == [None] * (len(results) - 1)
    result = results[-1]
    assert result is not None
    voices = only_channel(result).voices
    assert voices is not None
    assert (voices.requested, voices.found, voices.similarity) == ("2", None, None)
    assert without_speakers(document(result)) == document(plain)
    assert len(slow.embedded) < TURNS * len(results)


def test_progress_between_the_passes_that_cannot_be_stored_is_retried(clock: Clock, network: Path, call: Path) -> None:
    def fail() -> None:
        raise StorageUnavailable("S3 is down.")

    store = MemoryStore(fail=fail)
    with pytest.raises(StorageUnavailable):
        attempt(pipeline(SlowClassifier(clock), SlowSeparator(network, clock, 30.0)), call, store, 100.0)


# Faults.


@pytest.fixture(params=["missing", "damaged"])
def bad_network(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file = tmp_path / "speakers.onnx"
    if request.param == "damaged":
        file.write_bytes(b"not a network")
    return file


@pytest.mark.parametrize("mode", ["2", "auto"])
def test_a_setting_without_its_network_is_one_sentence_at_the_start(bad_network: Path, mode: SpeakerMode) -> None:
    with pytest.raises(SpeakersUnavailable, match=r"speakers\.onnx.*make speakers"):
        separator(mode, bad_network)


def test_a_recording_that_requests_speakers_without_the_network_fails(
    classifier: EmotionClassifier, bad_network: Path, call: Path
) -> None:
    """Neither silently without speakers, nor with a retry that cannot help."""
    plain = pipeline(classifier, separator("off", bad_network))

    result = run(plain, call, "2")

    assert result.error is not None
    assert result.error.code == "speakers_unavailable"
    assert "make speakers" in result.error.message
    assert run(plain, call).status == "classified"


def test_a_recording_that_became_shorter_is_retried(
    classifier: EmotionClassifier, network: Path, call: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    separate = SpeakerSeparator.separate

    def shortened(self: SpeakerSeparator, blocks: Any, *args: Any) -> Any:
        whole = np.concatenate(list(blocks), axis=1)
        return separate(self, [whole[:, : -10 * SAMPLE_RATE_HZ]], *args)

    monkeypatch.setattr(SpeakerSeparator, "separate", shortened)
    with pytest.raises(DecoderUnavailable, match="became shorter"):
        run(pipeline(classifier, separator("2", network)), call)


def test_a_decoder_that_fails_in_the_second_pass_is_retried(
    classifier: EmotionClassifier, network: Path, call: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The file vanishes between the passes, as when another process cleans the temporary folder."""
    copy = write(tmp_path / "call.wav", two_voices(4)[0])
    separate: Callable[..., Any] = Pipeline._separate_speakers

    def after_removal(self: Pipeline, path: Path, *args: Any) -> None:
        path.unlink()
        separate(self, path, *args)

    monkeypatch.setattr(Pipeline, "_separate_speakers", after_removal)
    with pytest.raises(DecoderUnavailable):
        run(pipeline(classifier, separator("2", network)), copy)
