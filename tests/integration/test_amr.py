"""AMR recordings with pauses that were not transmitted (DTX) keep their duration and the times of their speech."""

import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.waveform import SAMPLE_RATE_HZ, Waveform
from core.errors import (
    AudioEmotionError,
    DamagedAudio,
    DeadlineExceeded,
    DecoderUnavailable,
    RecordingError,
    RecordingTooLong,
)
from core.settings import MediaLimits
from tests.support import amr

LIMITS = MediaLimits()
BANDS = ["amr", "awb"]
FRAME_SAMPLES = round(amr.FRAME_S * SAMPLE_RATE_HZ)
PAUSE_S = 3.0


def sound_of(path: Path, limits: MediaLimits = LIMITS) -> Waveform:
    with closing(decode(path, probe(path, limits), limits)) as blocks:
        waveform: Waveform = np.concatenate(list(blocks), axis=1)[0]
    return waveform


def conversation(band: str) -> list[bytes]:
    """Return a pause, speech, a pause, speech, and a pause."""
    pause = amr.pause(band, PAUSE_S)
    return [*pause, *amr.speech(band), *pause, *amr.speech(band), *pause]


def write(path: Path, band: str, frames: list[bytes]) -> Path:
    path.write_bytes(amr.MAGIC[band] + b"".join(frames))
    return path


def copied(path: Path, name: str, *options: str, output: tuple[str, ...] = ()) -> Path:
    """Copy the frames into another container."""
    copy = path.with_name(name)
    command = ["ffmpeg", "-nostdin", "-v", "error", *options, "-i", str(path), "-c", "copy", *output, str(copy)]
    subprocess.run(command, check=True, timeout=60)
    return copy


def check_speech(file: Path, band: str, folder: Path, starts_s: tuple[float, ...], duration_s: float) -> None:
    """Check that speech is at these times, and that the rest is silent."""
    speech = sound_of(write(folder / f"speech.{band}", band, amr.speech(band)))
    whole = sound_of(file)

    assert whole.size == round(duration_s * SAMPLE_RATE_HZ)
    for start in (round(start_s * SAMPLE_RATE_HZ) for start_s in starts_s):
        assert np.corrcoef(whole[start : start + speech.size], speech)[0, 1] > 0.98
        whole[start : start + speech.size + 2 * FRAME_SAMPLES] = 0.0
    assert np.abs(whole).max() < 1e-3


def check_conversation(file: Path, band: str, folder: Path, late_s: float = 0.0) -> None:
    speech_s = len(amr.speech(band)) * amr.FRAME_S
    starts_s = (late_s + PAUSE_S, late_s + 2 * PAUSE_S + speech_s)
    check_speech(file, band, folder, starts_s, late_s + 3 * PAUSE_S + 2 * speech_s)


@pytest.mark.parametrize("band", BANDS)
def test_pauses_keep_their_duration(band: str, tmp_path: Path) -> None:
    file = write(tmp_path / f"call.{band}", band, conversation(band))

    check_conversation(file, band, tmp_path)


@pytest.mark.parametrize("extension", ["3gp", "mov"])
@pytest.mark.parametrize("band", BANDS)
def test_pauses_keep_their_duration_in_other_containers(band: str, extension: str, tmp_path: Path) -> None:
    file = write(tmp_path / f"call.{band}", band, conversation(band))

    check_conversation(copied(file, f"call.{extension}"), band, tmp_path)


@pytest.mark.parametrize("band", BANDS)
def test_speech_after_a_pause_in_the_same_packet_is_kept(band: str, tmp_path: Path) -> None:
    file = tmp_path / "call.3gp"
    file.write_bytes(amr.three_gp(conversation(band), band, frames_per_packet=10))

    check_conversation(file, band, tmp_path)


@pytest.mark.parametrize("band", BANDS)
def test_speech_that_starts_after_the_pictures_keeps_its_time(band: str, tmp_path: Path) -> None:
    call = write(tmp_path / f"call.{band}", band, conversation(band))
    pictures = ("-f", "lavfi", "-i", "color=red:size=128x96:rate=5:duration=6", "-itsoffset", "2")

    film = copied(call, "film.3gp", *pictures, output=("-map", "0", "-map", "1", "-c:v", "mpeg4"))

    check_conversation(film, band, tmp_path, late_s=2.0)


@pytest.mark.parametrize("band", BANDS)
def test_speech_after_missing_packets_keeps_its_time(band: str, tmp_path: Path) -> None:
    speech_s = len(amr.speech(band)) * amr.FRAME_S
    call = write(tmp_path / f"call.{band}", band, amr.speech(band) * 2)

    gap = copied(call, "gap.3gp", output=("-bsf:a", f"setts=ts='TS+gte(N,{len(amr.speech(band))})*3/TB'"))

    check_speech(gap, band, tmp_path, (0.0, speech_s + 3.0), 2 * speech_s + 3.0)


def test_speech_has_its_time_wherever_the_clock_of_the_file_stands(tmp_path: Path) -> None:
    file = write(tmp_path / "call.amr", "amr", conversation("amr"))

    check_conversation(copied(file, "clock.mkv", output=("-output_ts_offset", "100")), "amr", tmp_path)


def test_pauses_keep_their_duration_on_each_track(tmp_path: Path) -> None:
    call = write(tmp_path / "call.amr", "amr", conversation("amr"))
    both = copied(call, "both.mov", "-i", str(call), output=("-map", "0", "-map", "1"))

    with closing(decode(both, probe(both, LIMITS), LIMITS)) as blocks:
        first, second = np.concatenate(list(blocks), axis=1)

    np.testing.assert_array_equal(first, sound_of(call))
    np.testing.assert_array_equal(second, first)


def test_lost_frames_keep_their_duration(tmp_path: Path) -> None:
    """Type 14 of wideband marks a frame that the network has lost."""
    speech_s = len(amr.speech("awb")) * amr.FRAME_S
    frames = [*amr.speech("awb"), *[b"\x74"] * 50, *amr.speech("awb")]

    check_speech(
        write(tmp_path / "call.awb", "awb", frames), "awb", tmp_path, (0.0, speech_s + 1.0), 2 * speech_s + 1.0
    )


@pytest.mark.parametrize("band", BANDS)
def test_a_recording_that_is_mostly_silent_is_accepted(band: str, tmp_path: Path) -> None:
    frames = [*amr.speech(band), *amr.pause(band, 60.0)]

    assert sound_of(write(tmp_path / f"quiet.{band}", band, frames)).size == len(frames) * FRAME_SAMPLES


@pytest.mark.parametrize("band", BANDS)
def test_speech_without_pauses_is_decoded_sample_for_sample(band: str, tmp_path: Path) -> None:
    file = write(tmp_path / f"speech.{band}", band, amr.speech(band))
    plain = ["ffmpeg", "-v", "error", "-i", str(file), "-af", "aresample=16000:resampler=soxr", "-f", "f32le", "-"]

    expected = np.frombuffer(subprocess.run(plain, check=True, capture_output=True, timeout=60).stdout, np.float32)

    np.testing.assert_array_equal(sound_of(file), expected)


@pytest.mark.parametrize("kept_bytes", [-10, -3000])
def test_a_recording_that_is_cut_off_keeps_its_beginning(kept_bytes: int, tmp_path: Path) -> None:
    file = write(tmp_path / "call.amr", "amr", conversation("amr") * 2)
    whole = sound_of(file)
    file.write_bytes(file.read_bytes()[:kept_bytes])

    part = sound_of(file)

    assert 0 < part.size < whole.size
    np.testing.assert_array_equal(part[: -2 * FRAME_SAMPLES], whole[: part.size - 2 * FRAME_SAMPLES])


def test_bytes_that_are_not_frames_are_damaged(tmp_path: Path) -> None:
    file = write(tmp_path / "noise.amr", "amr", [b"\x5c" * 2000])  # a type that is reserved

    with pytest.raises(DamagedAudio):
        sound_of(file)


def test_a_recording_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError):
        sound_of(write(tmp_path / "empty.amr", "amr", []))


def test_a_pause_that_exceeds_the_limit_is_too_long(tmp_path: Path) -> None:
    file = write(tmp_path / "hours.amr", "amr", [*amr.speech("amr"), *amr.pause("amr", 3600.0)])

    with pytest.raises(RecordingTooLong):
        sound_of(file, MediaLimits(max_duration_s=60.0))


@pytest.mark.parametrize(
    ("end", "error"),
    [("kill -SEGV $$", DamagedAudio), ("kill -KILL $$", DecoderUnavailable), ("exec sleep 60", DeadlineExceeded)],
)
def test_frames_that_ffmpeg_did_not_finish_copying_are_an_error(
    end: str, error: type[AudioEmotionError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ffmpeg of this test copies the first frames only."""
    file = write(tmp_path / "call.amr", "amr", conversation("amr"))
    real, stub = shutil.which("ffmpeg"), tmp_path / "bin" / "ffmpeg"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\ncase "$*" in *"-f amr"*) {real} "$@" | head -c 2000; {end};; esac\nexec {real} "$@"\n')
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(stub.parent), prepend=":")

    with pytest.raises(error):
        sound_of(file, MediaLimits(decoder_timeout_s=2))
