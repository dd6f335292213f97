"""An evident DC offset is removed, and a recording without one stays exactly as it is."""

from collections.abc import Iterator

import numpy as np
import pytest
import soundfile

from core.audio.channels import group_channels
from core.audio.offset import evident_offset, remove_offset
from core.audio.utterances import SpeechSegment, cut
from core.audio.voice_activity import VoiceActivityDetector
from core.audio.waveform import SAMPLE_RATE_HZ, Block, Waveform
from core.settings import SegmentationSettings
from tests.conftest import ROOT

SPEECH = ("anger.wav", "neutral.flac", "happy 高兴.flac")


def speech(name: str = "anger.wav") -> Waveform:
    return np.asarray(soundfile.read(ROOT / "samples" / name, dtype="float32")[0], np.float32)


def noise(samples: int, level: float, seed: int = 0) -> Waveform:
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def segments(*channels: Waveform, block_samples: int = SAMPLE_RATE_HZ) -> list[SpeechSegment]:
    def blocks() -> Iterator[Block]:
        recording = np.stack(channels)
        for start in range(0, recording.shape[1], block_samples):
            yield recording[:, start : start + block_samples]

    return list(cut(blocks(), SegmentationSettings(), VoiceActivityDetector.load()))


@pytest.mark.parametrize("name", SPEECH)
@pytest.mark.parametrize("offset", [0.02, -0.02, 0.1, -0.5])
def test_an_offset_is_removed_up_to_rounding(name: str, offset: float) -> None:
    clean = speech(name)

    centred = remove_offset(clean + np.float32(offset))

    np.testing.assert_allclose(centred, clean - clean.mean(), atol=1e-6)


@pytest.mark.parametrize("name", SPEECH)
@pytest.mark.parametrize("offset", [0.0, 0.004, -0.004])
def test_a_recording_without_an_evident_offset_is_the_same_array(name: str, offset: float) -> None:
    waveform = speech(name) + np.float32(offset)

    assert remove_offset(waveform) is waveform


@pytest.mark.parametrize("gain", [0.01, 0.001])
def test_a_small_offset_is_evident_if_it_exceeds_faint_speech(gain: float) -> None:
    clean = np.float32(gain) * speech()

    centred = remove_offset(clean + np.float32(0.005))

    np.testing.assert_allclose(centred, clean - clean.mean(), atol=1e-8)


def test_a_pop_and_a_rumble_are_no_offset() -> None:
    pop, rumble = speech(), speech()
    pop[5_000:7_000] += 0.5
    rumble += (0.1 * np.sin(np.arange(rumble.size) * 2 * np.pi * 0.7 / SAMPLE_RATE_HZ)).astype(np.float32)

    assert abs(pop.mean()) > 0.01 < abs(rumble.mean())
    assert remove_offset(pop) is pop
    assert remove_offset(rumble) is rumble


def test_float_samples_beyond_full_scale_are_measured_by_their_loudest() -> None:
    waveform = np.float32(32_768) * (speech() + np.float32(0.004))

    assert remove_offset(waveform) is waveform
    assert evident_offset(np.float32(32_768) * (speech() + np.float32(0.1))) == pytest.approx(3_280, rel=0.01)


def test_a_sound_of_a_few_samples_has_no_offset() -> None:
    for samples in (0, 1, 3, 4, 130, 1_600):
        assert evident_offset(np.full(samples, 0.5, np.float32)) == 0


@pytest.mark.parametrize("offset", [0.002, 0.01, 0.02, -0.05, 0.2, 0.9])
@pytest.mark.parametrize("level", [0.0, 1e-4, 1e-3])
@pytest.mark.parametrize("seconds", [1.0, 3.0, 5.6, 20.3])
def test_silence_with_an_offset_is_not_speech(offset: float, level: float, seconds: float) -> None:
    samples = round(seconds * SAMPLE_RATE_HZ)

    found = segments(noise(samples, level) + np.float32(offset))

    # Noise of -80 dB without an offset is at the threshold for short recordings.
    assert len(found) <= len(segments(noise(samples, level)))


@pytest.mark.parametrize("offset", [0.02, -0.2, 0.5])
def test_an_offset_does_not_change_where_a_long_recording_is_cut(offset: float) -> None:
    pause = np.zeros(SAMPLE_RATE_HZ, np.float32)
    recording = np.concatenate([part for name in SPEECH * 3 for part in (speech(name), pause)])
    recording = np.float32(0.1) * recording + noise(recording.size, 1e-5)

    expected, found = segments(recording), segments(recording + np.float32(offset))

    # The speech in each block has a mean too, which may move a border by a frame.
    np.testing.assert_allclose(
        [(s.start_s, s.end_s) for s in found], [(s.start_s, s.end_s) for s in expected], atol=0.033
    )


def test_the_cuts_do_not_depend_on_the_size_of_the_blocks_or_on_what_follows() -> None:
    recording = np.concatenate([speech(name) for name in SPEECH * 3]) + np.float32(0.02)
    late = recording.copy()
    late[recording.size // 2 :] += np.float32(0.1)

    whole, split, changed = segments(recording), segments(recording, block_samples=999), segments(late)

    assert [(s.start_s, s.end_s) for s in split] == [(s.start_s, s.end_s) for s in whole]
    half = [s.end_s for s in whole if s.end_s < recording.size / 2 / SAMPLE_RATE_HZ - 2]
    assert half
    assert [s.end_s for s in changed][: len(half)] == half


def test_an_offset_on_each_channel_does_not_change_their_groups() -> None:
    one = np.concatenate([speech(name) for name in SPEECH])
    other = np.roll(one, 8)
    assert group_channels(np.stack([one, other]), "auto") == ((0, 1),)
    assert group_channels(np.stack([one + np.float32(0.2), other - np.float32(0.2)]), "auto") == ((0, 1),)

    # Loud noise hides the swing in level between two speakers, so that only the correlation separates them.
    sides = np.stack([one + noise(one.size, 0.1, 1), one[::-1] + noise(one.size, 0.1, 2)])
    assert group_channels(sides, "auto") == ((0,), (1,))
    assert group_channels(sides + np.float32(0.5), "auto") == ((0,), (1,))
