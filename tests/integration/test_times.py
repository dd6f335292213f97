"""The times of decoded sound are those that a player shows, for every container whose packets have time stamps."""

import struct
import subprocess
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.waveform import SAMPLE_RATE_HZ, Waveform
from core.settings import MediaLimits

LIMITS = MediaLimits()
TOLERANCE_S = 0.15
"""The smallest leap that counts."""

TONE = "aevalsrc=0.3*sin(2000*t):duration=4:sample_rate=48000"
WITH_TIME_STAMPS = {
    "opus.webm": ("-c:a", "libopus"),
    "vorbis.webm": ("-c:a", "libvorbis"),
    "aac.mkv": ("-c:a", "aac"),
    "flac.mkv": ("-c:a", "flac"),
    "aac.mp4": ("-c:a", "aac"),
    "opus.mp4": ("-c:a", "libopus"),
    "mp3.mp4": ("-c:a", "libmp3lame"),
    "aac.ts": ("-c:a", "aac"),
    "wma.asf": ("-c:a", "wmav2"),
    "opus.ogg": ("-c:a", "libopus"),
    "vorbis.ogg": ("-c:a", "libvorbis"),
}


def run_ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, arguments)], check=True, timeout=60)


def encoded(folder: Path, name: str, *options: str, source: str = TONE) -> Path:
    path = folder / name
    run_ffmpeg("-f", "lavfi", "-i", source, "-ac", "1", *options, "-strict", "-2", path)
    return path


def with_time_stamps(path: Path, expression: str, *options: str) -> Path:
    """Copy a file with other time stamps; `TS*TB` is the time in seconds."""
    changed = path.with_stem(path.stem + "-changed")
    run_ffmpeg("-i", path, "-c", "copy", "-bsf:a", f"setts=ts='{expression}'", *options, changed)
    return changed


def late(path: Path, late_s: float) -> Path:
    """Add pictures that start before the sound."""
    film = path.with_stem(path.stem + "-film")
    pictures = f"color=red:size=64x64:rate=5:duration={late_s + 6}"
    sources = ["-f", "lavfi", "-i", pictures, "-itsoffset", str(late_s), "-i", str(path)]
    run_ffmpeg(*sources, "-map", "0", "-map", "1", "-c:a", "copy", film)
    return film


def sound_of(path: Path, limits: MediaLimits = LIMITS) -> Waveform:
    with closing(decode(path, probe(path, limits), limits)) as blocks:
        waveform: Waveform = np.concatenate(list(blocks), axis=1)[0]
    return waveform


def stretches(path: Path, limits: MediaLimits = LIMITS) -> list[tuple[float, float]]:
    """Return the start and the end of each stretch of sound, in seconds; pauses are longer than 0.5 s."""
    loud = np.flatnonzero(np.abs(sound_of(path, limits)) > 0.01)
    pauses = np.flatnonzero(np.diff(loud) > SAMPLE_RATE_HZ // 2)
    starts, ends = loud[np.r_[0, pauses + 1]], loud[np.r_[pauses, -1]]
    return [(start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ) for start, end in zip(starts, ends, strict=True)]


def approximately(*expected: tuple[float, float]) -> list[object]:
    return [pytest.approx(stretch, abs=TOLERANCE_S) for stretch in expected]


@pytest.mark.parametrize("name", WITH_TIME_STAMPS)
def test_sound_after_missing_packets_keeps_its_time(name: str, tmp_path: Path) -> None:
    file = with_time_stamps(encoded(tmp_path, name, *WITH_TIME_STAMPS[name]), "TS+gte(TS*TB,2)*20/TB")

    assert stretches(file) == approximately((0, 2), (22, 24))


@pytest.mark.parametrize("name", WITH_TIME_STAMPS)
def test_sound_that_starts_after_the_pictures_keeps_its_time(name: str, tmp_path: Path) -> None:
    film = late(encoded(tmp_path, name, *WITH_TIME_STAMPS[name]), 3)

    assert stretches(film) == approximately((3, 7))


@pytest.mark.parametrize("start_s", [95_443, 95_442])
def test_a_broadcast_starts_at_0_wherever_its_clock_stands(start_s: int, tmp_path: Path) -> None:
    """The clock of MPEG-TS wraps after 95,443.7 s."""
    broadcast = tmp_path / "broadcast.ts"
    run_ffmpeg("-i", encoded(tmp_path, "tone.ts"), "-c", "copy", "-output_ts_offset", str(start_s), broadcast)

    assert stretches(broadcast) == approximately((0, 4))


@pytest.mark.parametrize(
    ("name", "sample_rate_hz"),
    [("opus.webm", 48_000), ("wma.asf", 8_000), ("wma.asf", 32_000), ("aac.mp4", 8_000), ("aac.ts", 48_000)],
)
def test_time_stamps_without_leaps_change_no_sample(name: str, sample_rate_hz: int, tmp_path: Path) -> None:
    """Not for rounding, priming, or the 0.128 s that a decoder of WMA holds back."""
    file = encoded(tmp_path, name, *WITH_TIME_STAMPS[name], "-ar", str(sample_rate_hz))
    resampled = ["-af", f"aresample={SAMPLE_RATE_HZ}:resampler=soxr", "-f", "f32le", "-c:a", "pcm_f32le", "-"]
    plain = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(file), *resampled]
    expected = np.frombuffer(subprocess.run(plain, check=True, capture_output=True, timeout=60).stdout, np.float32)

    np.testing.assert_array_equal(sound_of(file), expected)


def test_jitter_of_time_stamps_changes_no_sample(tmp_path: Path) -> None:
    file = encoded(tmp_path, "call.mkv", "-c:a", "pcm_s16le")
    jittery = with_time_stamps(file, "TS+20*sin(N)")

    np.testing.assert_array_equal(sound_of(jittery), sound_of(file))


@pytest.mark.parametrize(
    "expression",
    ["TS+gte(TS*TB,2)*86400/TB", "TS+gte(TS*TB,2)*7000/TB", "TS-gte(TS*TB,2)*1.9/TB", "TS-gte(TS*TB,2)*86400/TB"],
    ids=["a day ahead", "hours ahead in a small file", "back by 1.9 s", "back by a day"],
)
def test_broken_time_stamps_neither_invent_silence_nor_lose_sound(expression: str, tmp_path: Path) -> None:
    file = encoded(tmp_path, "broken.mkv", "-c:a", "libopus")

    broken = with_time_stamps(file, expression)

    assert stretches(broken) == approximately((0, 4))


def test_a_leap_beyond_the_claimed_duration_is_closed(tmp_path: Path) -> None:
    file = with_time_stamps(encoded(tmp_path, "leap.mkv", "-c:a", "libopus"), "TS+gte(TS*TB,2)*60/TB")
    before, duration, after = file.read_bytes().partition(b"\x44\x89\x88")
    file.write_bytes(before + duration + struct.pack(">d", 4000.0) + after[8:])

    assert probe(file, LIMITS).duration_s == 4.0
    assert stretches(file) == approximately((0, 4))


def test_a_recording_is_not_too_long_because_of_its_gap(tmp_path: Path) -> None:
    """The limit counts sound. A gap that would exceed it is closed."""
    file = with_time_stamps(encoded(tmp_path, "gap.webm"), "TS+gte(TS*TB,2)*20/TB")

    assert stretches(file, MediaLimits(max_duration_s=10)) == approximately((0, 4))


@pytest.mark.parametrize("codec", ["libopus", "libvorbis", "flac"])
def test_chained_recordings_follow_each_other(codec: str, tmp_path: Path) -> None:
    """Their time stamps start at 0 again, and their gaps keep their length."""
    part = with_time_stamps(encoded(tmp_path, "part.ogg", "-c:a", codec), "TS+gte(TS*TB,2)*3/TB")
    both = tmp_path / "both.ogg"
    both.write_bytes(part.read_bytes() * 2)

    assert stretches(both) == approximately((0, 2), (5, 9), (12, 14))
