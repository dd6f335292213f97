"""Segmentation: short recordings are one segment, long ones are cut at pauses, and silence has none."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from core.audio.channels import group_channels
from core.audio.segmenter import MIN_SAMPLES, Segmenter, Span
from core.audio.utterances import SpeechSegment, cut
from core.audio.voice_activity import FRAME_SAMPLES, Probabilities, VoiceActivityDetector
from core.audio.waveform import SAMPLE_RATE_HZ, WINDOW_SAMPLES, Block, Waveform
from core.settings import SegmentationSettings
from tests.conftest import ROOT

OPTIONS = SegmentationSettings()


def voice(name: str = "anger.wav") -> Waveform:
    samples, _ = soundfile.read(ROOT / "samples" / name, dtype="float32")
    return np.asarray(samples, np.float32)


def silence(seconds: float) -> Waveform:
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), np.float32)


def blocks(*channels: Waveform, samples: int = SAMPLE_RATE_HZ) -> Iterator[Block]:
    recording = np.stack(channels)
    for start in range(0, recording.shape[1], samples):
        yield recording[:, start : start + samples]


def utterances(*channels: Waveform, **options: object) -> list[SpeechSegment]:
    return list(cut(blocks(*channels), SegmentationSettings.model_validate(options), VoiceActivityDetector.load()))


def test_a_short_recording_is_one_untrimmed_segment() -> None:
    waveform = voice()

    (only,) = utterances(waveform)

    assert (only.start_s, only.end_s) == (0.0, waveform.size / SAMPLE_RATE_HZ)
    assert np.array_equal(only.waveform, waveform)


def test_six_seconds_are_one_segment_and_one_sample_more_is_cut() -> None:
    waveform = np.concatenate([voice(), silence(6)])

    assert [u.waveform.size for u in utterances(waveform[:WINDOW_SAMPLES])] == [WINDOW_SAMPLES]
    assert all(u.waveform.size < WINDOW_SAMPLES for u in utterances(waveform[: WINDOW_SAMPLES + 1]))


def test_a_shout_of_a_third_of_a_second_is_speech() -> None:
    waveform = voice()
    loudest = int(np.convolve(waveform**2, np.ones(4800), "valid").argmax())

    assert len(utterances(waveform[loudest : loudest + 4800])) == 1


@pytest.mark.parametrize("seconds", [0.1, 1.0, 5.0, 20.0])
@pytest.mark.parametrize("kind", ["silence", "hiss", "faint hiss", "tone", "low tone", "piercing tone", "dial tone"])
def test_audio_without_speech_has_no_segments(kind: str, seconds: float) -> None:
    t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    noise = np.random.default_rng(1).standard_normal(t.size)
    sound = {
        "silence": 0 * t,
        "hiss": 0.1 * noise,
        "faint hiss": 0.001 * noise,
        "tone": 0.3 * np.sin(2 * np.pi * 440 * t),
        "low tone": 0.9 * np.sin(2 * np.pi * 215 * t),
        "piercing tone": 0.9 * np.sin(2 * np.pi * 4256 * t),
        "dial tone": 0.2 * np.sin(2 * np.pi * 350 * t) + 0.2 * np.sin(2 * np.pi * 440 * t),
    }[kind]

    assert utterances(sound.astype(np.float32)) == []


def test_the_size_of_blocks_does_not_change_the_segments() -> None:
    recording = np.concatenate([silence(1), voice(), silence(2), voice("neutral.flac"), silence(3)])

    spans = {
        samples: [
            (u.start_s, u.end_s) for u in cut(blocks(recording, samples=samples), OPTIONS, VoiceActivityDetector.load())
        ]
        for samples in (160, 5_000, 16_000, 200_000)
    }

    assert len(set(map(tuple, spans.values()))) == 1
    assert len(spans[160]) >= 2


def test_a_segment_includes_the_quiet_before_it_but_no_digital_silence() -> None:
    word = np.trim_zeros(voice())
    room = (0.001 * np.random.default_rng(5).standard_normal(3 * SAMPLE_RATE_HZ)).astype(np.float32)

    (after_silence,) = utterances(np.concatenate([silence(4), room[:1600], word, silence(4)]))
    (in_a_room,) = utterances(np.concatenate([room, word, room]))

    assert abs(after_silence.waveform[0]) > 0.0001
    assert after_silence.waveform.size >= room[:1600].size + after_silence.duration_s * SAMPLE_RATE_HZ
    assert in_a_room.waveform.size >= (in_a_room.duration_s + 0.9) * SAMPLE_RATE_HZ


def test_a_word_after_a_long_silence_is_detected() -> None:
    faint_line = (0.0002 * np.random.default_rng(2).standard_normal(60 * SAMPLE_RATE_HZ)).astype(np.float32)
    recording = np.concatenate([faint_line, voice()[:12_000], silence(1)])

    assert [round(u.start_s) for u in utterances(recording)] == [60]


# The following tests use scripted probabilities, so that every case is exact.


class Script:
    """A `VadStream` that returns scripted probabilities, one for each frame."""

    def __init__(self, probabilities: list[float]) -> None:
        self._left = probabilities

    def process(self, samples: Waveform) -> Probabilities:
        count = samples.size // FRAME_SAMPLES
        taken, self._left = self._left[:count], self._left[count:]
        return np.array(taken, np.float32)

    def finish(self) -> Probabilities:
        return np.empty(0, np.float32)


def steady_sound(samples: int) -> Waveform:
    """Return a sound of constant level without an offset."""
    return np.resize(np.array([1, -1], np.float32), samples)


def spans_of(*stretches: tuple[float, float], level: Waveform | None = None) -> list[Span]:
    """Return the spans of a channel, given as pairs of a duration in seconds and a probability of speech."""
    probabilities = [p for seconds, p in stretches for _ in range(round(seconds * SAMPLE_RATE_HZ / FRAME_SAMPLES))]
    sound = steady_sound(len(probabilities) * FRAME_SAMPLES) if level is None else level
    segmenter = Segmenter(Script(probabilities), OPTIONS)  # type: ignore[arg-type]
    return [*segmenter.feed(sound), *segmenter.finish()]


def test_a_pause_ends_a_segment_and_a_hesitation_does_not() -> None:
    assert len(spans_of((1, 0), (1, 0.9), (0.5, 0), (1, 0.9), (1, 0))) == 2
    assert len(spans_of((1, 0), (1, 0.9), (0.2, 0), (1, 0.9), (1, 0))) == 1


def test_a_click_is_not_speech() -> None:
    assert spans_of((1, 0), (0.064, 0.99), (5, 0)) == []


def test_a_short_word_is_extended_to_half_a_second() -> None:
    ((start, end),) = spans_of((1, 0), (0.2, 0.9), (2, 0))

    assert end - start == MIN_SAMPLES
    assert start <= SAMPLE_RATE_HZ
    assert end >= 1.2 * SAMPLE_RATE_HZ


@pytest.mark.parametrize("last_s", [0.13, 0.2, 0.3])
def test_a_short_word_at_the_end_is_extended_into_the_segment_before(last_s: float) -> None:
    spans = spans_of((1, 0), (5.7, 0.9), (0.32, 0), (last_s, 0.9))

    assert all(MIN_SAMPLES <= end - start <= WINDOW_SAMPLES for start, end in spans)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))


def test_long_speech_is_split_at_its_quietest_point_without_loss() -> None:
    level = steady_sound(20 * SAMPLE_RATE_HZ // FRAME_SAMPLES * FRAME_SAMPLES)
    level[round(4.9 * SAMPLE_RATE_HZ) : round(5.1 * SAMPLE_RATE_HZ)] *= 0.01

    spans = spans_of((1, 0), (15, 0.9), (4, 0), level=level)

    assert abs(spans[0][1] / SAMPLE_RATE_HZ - 5.0) < 0.1
    assert all(left[1] == right[0] for left, right in pairwise(spans))
    assert all(MIN_SAMPLES <= end - start <= WINDOW_SAMPLES for start, end in spans)
    assert spans[0][0] <= SAMPLE_RATE_HZ
    assert spans[-1][1] >= 16 * SAMPLE_RATE_HZ


def test_segments_last_half_a_second_to_six_seconds_and_do_not_overlap() -> None:
    random = np.random.default_rng(3)
    for _ in range(300):
        lengths = random.choice([0.1, 0.2, 0.35, 0.5, 2.0, 5.8, 6.1, 9.0], size=8)
        spans = spans_of(
            (1, 0), *((float(s), float(p)) for s, p in zip(lengths, random.random(8), strict=True)), (1, 0)
        )
        assert all(MIN_SAMPLES <= end - start <= WINDOW_SAMPLES for start, end in spans)
        assert all(left[1] <= right[0] for left, right in pairwise(spans))


def test_the_buffer_stays_small_in_silence_and_in_speech() -> None:
    for probability in (0.0, 0.9):
        count = 60 * SAMPLE_RATE_HZ // FRAME_SAMPLES
        segmenter = Segmenter(Script([0.9] * 20 + [probability] * count), OPTIONS)  # type: ignore[arg-type]
        for fed in range(1, count):
            list(segmenter.feed(steady_sound(FRAME_SAMPLES)))
            assert fed * FRAME_SAMPLES - segmenter.needed_from <= 2 * WINDOW_SAMPLES


# Channels.


def test_the_sides_of_a_call_stay_separate_and_one_microphone_in_stereo_is_mixed() -> None:
    one = np.concatenate([voice(), silence(3)])
    other = np.concatenate([silence(3), voice()])[: one.size]
    other = np.pad(other, (0, one.size - other.size))

    assert group_channels(np.stack([one, other]), "auto") == ((0,), (1,))
    assert group_channels(np.stack([one, 0.5 * one]), "auto") == ((0, 1),)
    assert group_channels(np.stack([one, np.roll(one, 8)]), "auto") == ((0, 1),)
    assert group_channels(np.stack([one, other, 0.7 * one]), "auto") == ((0, 2), (1,))


@pytest.mark.parametrize("snr_db", [10, 20])
def test_noise_does_not_mix_the_sides_of_a_call(snr_db: float) -> None:
    one = np.concatenate([voice(), silence(2), voice("neutral.flac"), silence(10)])
    noise = np.random.default_rng(4).standard_normal((2, one.size)) * voice().std() * 10 ** (-snr_db / 20)

    assert group_channels((np.stack([one, 0 * one]) + noise).astype(np.float32), "auto") == ((0,), (1,))


def test_channels_of_opposite_phase_are_not_mixed() -> None:
    assert group_channels(np.stack([voice(), -voice()]), "auto") == ((0,), (1,))


def test_a_silent_channel_has_no_segments_and_does_not_change_others() -> None:
    (only,) = utterances(silence(voice().size / SAMPLE_RATE_HZ), voice())

    assert only.channels == (1,)
    assert np.array_equal(only.waveform, voice())


def test_short_stereo_of_one_microphone_equals_its_mix() -> None:
    left, right = voice(), 0.8 * voice()

    (only,) = utterances(left, right)

    assert only.channels == (0, 1)
    assert np.array_equal(only.waveform, np.stack([left, right]).mean(axis=0))


def test_the_setting_splits_or_mixes_channels() -> None:
    assert [u.channels for u in utterances(voice(), voice(), channels="split")] == [(0,), (1,)]
    assert [u.channels for u in utterances(voice(), silence(voice().size / 16_000), channels="mix")] == [(0, 1)]
