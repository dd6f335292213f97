"""All audio tracks of a recording are decoded and classified, at the same time."""

import inspect
import subprocess
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.console import Console

from core.audio import decode as decoding
from core.audio.decode import decode
from core.audio.probe import AudioTrack, MediaInfo, probe
from core.audio.tracks import align
from core.audio.waveform import SAMPLE_RATE_HZ, Block
from core.cli.tables import timelines
from core.errors import DamagedAudio, EmptyRecording, NoAudioStream, TooManyChannels
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.report import render
from core.results import Result, Source
from core.settings import MediaLimits, SegmentationSettings
from tests.conftest import ROOT

LIMITS = MediaLimits()
ANGER, SAD = ROOT / "samples" / "anger.wav", ROOT / "samples" / "sad.m4a"
CONVERSATION = ROOT / "samples" / "conversation.ogg"


def run_ffmpeg(*arguments: object) -> None:
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, arguments)], check=True, timeout=120)


def tone(hz: int, seconds: float, sample_rate_hz: int = 16_000, channels: int = 1) -> list[str]:
    waves = "|".join([f"0.3*sin(2*PI*{hz}*t)"] * channels)
    return ["-f", "lavfi", "-i", f"aevalsrc={waves}:d={seconds}:s={sample_rate_hz}"]


def decoded(path: Path, limits: MediaLimits = LIMITS) -> tuple[MediaInfo, Block]:
    info = probe(path, limits)
    return info, np.concatenate(list(decode(path, info, limits)), axis=1)


def pitch_hz(waveform: Block) -> float:
    return float(np.abs(np.fft.rfft(waveform)).argmax() * SAMPLE_RATE_HZ / waveform.size)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.mkv", ["-c:a", "pcm_s16le"]),
        ("x.mka", ["-c:a", "libopus", "-ar", "48000"]),
        ("x.m4a", ["-c:a", "aac"]),
        ("x.mov", ["-c:a", "pcm_s16le"]),
        ("x.mp4", ["-c:a:0", "aac", "-c:a:1", "libmp3lame", "-c:a:2", "ac3"]),
        ("x.ts", ["-c:a", "mp2", "-ar", "48000"]),
        ("x.avi", ["-c:a", "pcm_s16le"]),
    ],
)
def test_tracks_of_different_length_rate_and_layout_become_channels(
    name: str, options: list[str], tmp_path: Path
) -> None:
    sources = [*tone(300, 1.5, 48_000, 2), *tone(500, 4.0, 16_000), *tone(700, 2.5, 44_100)]
    maps = ["-map", "0", "-map", "1", "-map", "2"]
    run_ffmpeg(*sources, *maps, *options, tmp_path / name)

    info, waveform = decoded(tmp_path / name)

    assert (info.track_channels, info.channels) == ((2, 1, 1), 4)
    assert [info.track_of(channel) for channel in range(4)] == [0, 0, 1, 2]
    assert waveform.shape[1] / SAMPLE_RATE_HZ == pytest.approx(4.0, abs=0.15)
    middle = waveform[:, SAMPLE_RATE_HZ // 2 : SAMPLE_RATE_HZ]
    assert [pitch_hz(channel) for channel in middle] == pytest.approx([300, 300, 500, 700], abs=3)
    for channel, seconds in zip(waveform, (1.5, 1.5, 4.0, 2.5), strict=True):
        end = round(seconds * SAMPLE_RATE_HZ)
        assert np.abs(channel[end - 3_000 : end - 1_500]).max() > 0.2
        assert not np.abs(channel[end + 3_000 :]).any()


def test_the_samples_of_a_second_are_those_of_all_channels_of_all_tracks() -> None:
    tracks = (AudioTrack("aac", 8_000, 2), AudioTrack("dts", 48_000, 0), AudioTrack("aac", 44_100, 1))

    assert MediaInfo("mov", None, tracks).samples_per_s == 2 * 8_000 + 44_100


def test_tracks_have_the_same_samples_as_files_of_their_own(tmp_path: Path) -> None:
    tracks = [np.random.default_rng(k).integers(-9_000, 9_000, n, np.int16) for k, n in enumerate((40_000, 16_000, 7))]
    for number, samples in enumerate(tracks):
        soundfile.write(tmp_path / f"{number}.wav", samples, SAMPLE_RATE_HZ)
    inputs = [part for number in range(3) for part in ("-i", tmp_path / f"{number}.wav")]
    run_ffmpeg(*inputs, "-map", 0, "-map", 1, "-map", 2, "-c:a", "pcm_s16le", tmp_path / "x.mkv")

    _, waveform = decoded(tmp_path / "x.mkv")

    expected = np.zeros((3, 40_000), np.float32)
    for row, samples in zip(expected, tracks, strict=True):
        row[: samples.size] = samples / np.float32(32768)
    np.testing.assert_array_equal(waveform, expected)


def test_a_caller_that_stops_early_ends_the_decoder_of_each_track(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generators are kept, so that garbage collection cannot end them."""
    run_ffmpeg(*tone(300, 9), *tone(500, 9), "-map", 0, "-map", 1, "-c:a", "flac", tmp_path / "x.mka")
    kept: list[Generator[Block, None, None]] = []
    decode_track = decoding._decode_track

    def decode_and_keep(*arguments: Any) -> Generator[Block, None, None]:
        kept.append(decode_track(*arguments))
        return kept[-1]

    monkeypatch.setattr(decoding, "_decode_track", decode_and_keep)

    with closing(decode(tmp_path / "x.mka", probe(tmp_path / "x.mka", LIMITS), LIMITS)) as blocks:
        next(blocks)

    assert [inspect.getgeneratorstate(track) for track in kept] == [inspect.GEN_CLOSED] * 2


@pytest.fixture(scope="module")
def classify(classifier: EmotionClassifier) -> Pipeline:
    return Pipeline(classifier, LIMITS, SegmentationSettings())


def run(pipeline: Pipeline, path: Path) -> Result:
    return pipeline.run(path, Source(key=path.name))


def test_each_track_is_classified_and_named(classify: Pipeline, tmp_path: Path) -> None:
    maps = ["-map", 0, "-map", 1, "-map", 2]
    silence = ["-f", "lavfi", "-i", "anullsrc=r=16000:cl=stereo:d=1"]
    run_ffmpeg(*silence, "-i", ANGER, "-i", SAD, *maps, "-c:a", "flac", "-disposition:a:2", 0, tmp_path / "x.mka")

    result = run(classify, tmp_path / "x.mka")

    assert result.audio is not None
    assert (result.audio.channels, result.audio.track_channels) == (4, (2, 1, 1))
    assert [(c.track, c.channel, c.emotion) for c in result.channels or ()] == [(1, 2, "anger"), (2, 3, "sad")]
    page = render(result)
    assert "Track 1, channel 2" in page
    assert "4 channels on 3 tracks" in page
    shown = StringIO()
    Console(width=100, file=shown).print(*timelines([result], 100))
    assert "track 1, channel 2 " in shown.getvalue()


def test_a_single_track_is_not_named(classify: Pipeline) -> None:
    result = run(classify, ANGER)

    assert "track" not in result.to_json()
    assert "Track" not in render(result)


def test_tracks_that_carry_the_same_speech_are_mixed(classify: Pipeline, tmp_path: Path) -> None:
    run_ffmpeg("-i", ANGER, "-map", 0, "-map", 0, "-c:a", "flac", tmp_path / "x.mka")

    (channel,) = run(classify, tmp_path / "x.mka").channels or ()

    assert (channel.track, channel.channel, channel.mixed) == (0, 0, (0, 1))
    assert channel.scores == (run(classify, ANGER).channels or ())[0].scores


def test_a_disabled_track_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "x.mov"
    run_ffmpeg(*tone(300, 1), *tone(500, 1), "-map", 0, "-map", 1, "-c:a", "pcm_s16le", path)
    content = bytearray(path.read_bytes())
    second = content.index(b"tkhd", content.index(b"tkhd") + 4)
    content[second + 7] &= 0xFE  # the flag "enabled"
    path.write_bytes(content)

    info, waveform = decoded(path)

    assert info.track_channels == (1, 1)
    assert pitch_hz(waveform[1]) == pytest.approx(500, abs=3)


def test_a_track_in_a_codec_that_is_not_accepted_is_skipped(tmp_path: Path) -> None:
    codecs = ["-c:a:0", "dca", "-c:a:1", "aac", "-strict", -2]
    run_ffmpeg(*tone(300, 1, 48_000, 2), *tone(500, 1), "-map", 0, "-map", 1, *codecs, tmp_path / "x.mkv")

    info, waveform = decoded(tmp_path / "x.mkv")

    assert (info.track_channels, info.codec, info.track_of(0)) == ((0, 1), "aac", 1)
    assert pitch_hz(waveform[0]) == pytest.approx(500, abs=3)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_limit_on_channels_counts_all_tracks(channels: int, tmp_path: Path) -> None:
    tracks = 16 // channels
    source = tone(300, 0.5, channels=channels)
    run_ffmpeg(*source, *["-map", 0] * tracks, "-c:a", "flac", tmp_path / "most.mka")
    run_ffmpeg(*source, *["-map", 0] * (tracks + 1), "-c:a", "flac", tmp_path / "more.mka")

    assert decoded(tmp_path / "most.mka")[1].shape == (16, SAMPLE_RATE_HZ // 2)
    with pytest.raises(TooManyChannels, match=f"has {16 + channels} channels on {tracks + 1} audio tracks; the limit"):
        decoded(tmp_path / "more.mka")


def test_hundreds_of_tracks_start_no_decoder(tmp_path: Path) -> None:
    run_ffmpeg(*tone(300, 0.1), *["-map", 0] * 400, "-c:a", "pcm_s16le", tmp_path / "x.mka")
    started = time.monotonic()

    with pytest.raises(TooManyChannels, match="400 channels on 400 audio tracks"):
        decoded(tmp_path / "x.mka")

    assert time.monotonic() - started < 10


def test_a_damaged_track_is_an_error(tmp_path: Path) -> None:
    def track() -> Iterator[Block]:
        yield np.ones((1, 5), np.float32)
        raise DamagedAudio("The file is damaged.")

    blocks = align([track(), iter([np.ones((1, 9), np.float32)])], [1, 1])

    assert next(blocks).shape == (2, 5)
    with pytest.raises(DamagedAudio):
        next(blocks)


def empty_track() -> Iterator[Block]:
    raise EmptyRecording("The recording contains no samples.")
    yield


def test_an_empty_track_is_silent_if_another_has_samples() -> None:
    blocks = [*align([empty_track(), iter([np.ones((2, 9), np.float32)])], [1, 2])]

    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), [[0] * 9, [1] * 9, [1] * 9])
    with pytest.raises(EmptyRecording):
        next(align([empty_track(), empty_track()], [1, 1]))


def video(seconds: int) -> list[str]:
    return ["-f", "lavfi", "-i", f"testsrc2=size=160x120:rate=25:duration={seconds}"]


@pytest.mark.parametrize("codec", ["mp2", "ac3"])
@pytest.mark.parametrize("name", ["late.ts", "late.m2ts", "late.mpg", "late.vob"])
@pytest.mark.parametrize("bit_rate", ["500k", "4M"])
def test_audio_that_begins_late_in_an_mpeg_stream_is_found(
    name: str, codec: str, bit_rate: str, tmp_path: Path
) -> None:
    """With the higher rate, the audio also follows more than 5 MB of video."""
    sources = [*video(20), "-itsoffset", 14, *tone(500, 2, 48_000)]
    padded = ["-minrate", bit_rate, "-maxrate", bit_rate, "-bufsize", "1M"]
    run_ffmpeg(*sources, "-c:v", "mpeg2video", "-b:v", bit_rate, *padded, "-c:a", codec, tmp_path / name)

    info, waveform = decoded(tmp_path / name)

    assert (info.starts_late, info.channels, info.sample_rate_hz) == (True, 1, 48_000)
    assert waveform.shape[1] >= 1.9 * SAMPLE_RATE_HZ
    speech = waveform[0, np.flatnonzero(np.abs(waveform[0]) > 0.1)[0] :]
    assert speech.size == pytest.approx(2 * SAMPLE_RATE_HZ, abs=0.1 * SAMPLE_RATE_HZ)
    assert pitch_hz(speech) == pytest.approx(500, abs=3)


def test_a_second_track_that_begins_late_is_found(tmp_path: Path) -> None:
    sources = [*tone(300, 12, 48_000), "-itsoffset", 9, *tone(500, 2, 48_000)]
    run_ffmpeg(*sources, "-map", 0, "-map", 1, "-c:a", "mp2", tmp_path / "x.ts")

    info, waveform = decoded(tmp_path / "x.ts")

    assert info.track_channels == (1, 1)
    assert waveform.shape[1] / SAMPLE_RATE_HZ == pytest.approx(12, abs=0.1)
    assert np.abs(waveform[1]).max() > 0.2


@pytest.mark.parametrize("name", ["silent.ts", "silent.mpg"])
def test_a_silent_mpeg_film_has_no_audio_stream(name: str, tmp_path: Path) -> None:
    run_ffmpeg(*video(8), "-c:v", "mpeg2video", tmp_path / name)

    with pytest.raises(NoAudioStream):
        probe(tmp_path / name, LIMITS)


@pytest.mark.parametrize("name", ["x.wav", "x.ts", "x.mpg"])
def test_a_recording_whose_audio_begins_at_once_is_probed_once(name: str, tmp_path: Path) -> None:
    run_ffmpeg(*tone(300, 1, 48_000), tmp_path / name)

    assert not probe(tmp_path / name, LIMITS).starts_late
