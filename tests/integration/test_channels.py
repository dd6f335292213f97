"""Channels are decoded as the recording stores them, whatever its layout, container and codec."""

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.waveform import SAMPLE_RATE_HZ, Block
from core.settings import MediaLimits

LIMITS = MediaLimits()
TURN_S = 0.4
Samples = npt.NDArray[np.float32]


def decoded(path: Path) -> Block:
    return np.concatenate(list(decode(path, probe(path, LIMITS), LIMITS)), axis=1)


def noise(channels: int) -> npt.NDArray[np.int16]:
    return np.random.default_rng(channels).integers(-30_000, 30_000, (4_001, channels), np.int16)


def turns(channels: int, sample_rate_hz: int = 48_000) -> Samples:
    """Return a recording in which one channel after the other has a tone, low enough for a subwoofer's channel."""
    samples = round(TURN_S * sample_rate_hz)
    tone = 0.4 * np.sin(2 * np.pi * 60 * np.arange(samples) / sample_rate_hz) * np.hanning(samples)
    recording = np.zeros((channels * samples, channels), np.float32)
    for channel in range(channels):
        recording[channel * samples : (channel + 1) * samples, channel] = tone
    return recording


def order(waveform: Block, channels: int) -> list[int]:
    """Return the turn of each channel; fail if a channel is louder than -30 dB in the turn of another."""
    samples = round(TURN_S * SAMPLE_RATE_HZ)
    found = []
    for channel in waveform:
        levels = [float(channel[turn * samples : (turn + 1) * samples].std()) for turn in range(channels)]
        loudest, *others = sorted(levels, reverse=True)
        assert loudest > 0.05
        assert not others or others[0] < 0.03 * loudest
        found.append(levels.index(loudest))
    return found


def run_ffmpeg(*arguments: str) -> None:
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *arguments], check=True, timeout=60)


def channels_of(layout: str) -> int:
    """Return the number of channels of one of ffmpeg's layouts."""
    listed = subprocess.run(["ffmpeg", "-v", "quiet", "-layouts"], check=True, stdout=subprocess.PIPE, text=True).stdout
    speakers = next(line.split()[1] for line in listed.splitlines() if line.split()[:1] == [layout])
    return speakers.count("+") + 1


def encode(folder: Path, name: str, channels: int, layout: str | None, *options: str) -> Path:
    """Encode a recording of turns whose channels ffmpeg assigns to the loudspeakers of a layout."""
    soundfile.write(folder / "turns.wav", turns(channels), 48_000, "FLOAT")
    mapping = [f"channelmap={'|'.join(map(str, range(channels)))}:{layout}"] if layout else []
    run_ffmpeg(
        *("-i", str(folder / "turns.wav"), *(["-af", *mapping] if mapping else [])),
        *(*options, "-strict", "-2", str(folder / name)),
    )
    return folder / name


@pytest.mark.parametrize(
    ("container", "channels"),
    [
        *((container, channels) for container in ("WAV", "WAVEX", "CAF") for channels in range(1, 17)),
        *((container, channels) for container in ("W64", "RF64", "AIFF", "AU") for channels in (3, 6, 16)),
        *(("FLAC", channels) for channels in range(1, 9)),
    ],
)
def test_every_number_of_channels_is_decoded_bit_for_bit(container: str, channels: int, tmp_path: Path) -> None:
    path = tmp_path / "recording"
    soundfile.write(path, noise(channels), SAMPLE_RATE_HZ, "PCM_16", format=container)

    waveform = decoded(path)

    expected, _ = soundfile.read(path, dtype="float32", always_2d=True)
    np.testing.assert_array_equal(waveform, expected.T)


MASKS = (0x01, 0x04, 0x03, 0x05, 0x0C, 0x30, 0x600, 0xC0, 0x07, 0x0B, 0x103, 0x33, 0x603, 0x107, 0x37, 0x607)
LARGE_MASKS = (0x3F, 0x60F, 0x70F, 0x13F, 0x63F, 0xFF, 0x3FF, 0x2D63F, 0x5F63F, 0xFFFF, 0x3F000, 0x8000_0000, 0)


@pytest.mark.parametrize(
    ("mask", "mismatch"), [*((mask, 0) for mask in MASKS + LARGE_MASKS), (0x30, 1), (0x30, -1), (0x60F, 1), (0x3FF, -1)]
)
def test_a_channel_mask_changes_nothing(mask: int, mismatch: int, tmp_path: Path) -> None:
    """A mask may assign more or fewer loudspeakers than there are channels."""
    path = tmp_path / "masked.wav"
    channels = min(16, max(1, mask.bit_count() + mismatch))
    soundfile.write(path, noise(channels), SAMPLE_RATE_HZ, "PCM_16", format="WAVEX")
    content = bytearray(path.read_bytes())
    assert content[20:22] == b"\xfe\xff"
    content[40:44] = mask.to_bytes(4, "little")
    path.write_bytes(content)

    np.testing.assert_array_equal(decoded(path), noise(channels).T.astype(np.float32) / 32768)


@pytest.mark.parametrize("channels", range(1, 9))
@pytest.mark.parametrize(("container", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("CAF", "ALAC_16")])
def test_codecs_with_an_order_of_their_own_have_the_order_of_soundfile(
    container: str, subtype: str, channels: int, tmp_path: Path
) -> None:
    path = tmp_path / "turns"
    soundfile.write(path, turns(channels), 48_000, format=container, subtype=subtype)

    waveform = decoded(path)

    stored, sample_rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    assert sample_rate_hz == 3 * SAMPLE_RATE_HZ
    assert order(waveform, channels) == order(stored[::3].T, channels) == list(range(channels))


@pytest.mark.parametrize(
    ("name", "codec", "layout"),
    [
        *(("x.m4a", "aac", layout) for layout in ("mono", "stereo", "3.0", "4.0", "5.0", "5.1")),
        *(("x.ts", "aac", layout) for layout in ("3.0", "5.1")),
        *(("x.ac3", "ac3", layout) for layout in ("3.0", "3.0(back)", "quad", "4.0", "5.0", "5.1")),
        *(("x.mp4", "eac3", layout) for layout in ("3.0", "4.0", "5.1(side)")),
        *(("x.mkv", "pcm_s16le", layout) for layout in ("2.1", "3.0", "quad", "4.0", "4.1", "6.0", "6.1", "7.1(wide)")),
        *(("x.mov", "pcm_s24be", layout) for layout in ("3.0", "4.0", "5.0", "6.0", "7.0", "octagonal")),
        *(("x.oga", "flac", layout) for layout in ("3.0", "4.0", "5.0(side)", "6.1", "7.1")),
        *(("x.wv", "wavpack", layout) for layout in ("2.1", "4.0", "6.0", "hexagonal", "7.0(front)", "octagonal")),
        ("x.tta", "tta", "quad"),
        ("x.avi", "pcm_s16le", "4.0"),
    ],
)
def test_codecs_that_soundfile_cannot_read_have_the_order_of_wav_files(
    name: str, codec: str, layout: str, tmp_path: Path
) -> None:
    channels = channels_of(layout)

    path = encode(tmp_path, name, channels, layout, "-c:a", codec, "-b:a", "640k")

    assert order(decoded(path), channels) == list(range(channels))


@pytest.mark.parametrize(
    ("family", "channels"), [("255", 2), ("255", 3), ("255", 6), ("255", 8), ("255", 16), ("2", 4), ("2", 9), ("2", 16)]
)
def test_opus_channels_without_loudspeakers_stay_separate(family: str, channels: int, tmp_path: Path) -> None:
    options = ("-c:a", "libopus", "-mapping_family", family, "-b:a", f"{64 * channels}k")
    path = encode(
        tmp_path, "x.opus", channels, f"ambisonic {int(channels**0.5) - 1}" if family == "2" else None, *options
    )

    assert order(decoded(path), channels) == list(range(channels))


@pytest.mark.parametrize(("first", "second"), [("4.0", "quad"), ("quad", "4.0"), ("3.0", "3.0(back)")])
def test_a_layout_that_changes_keeps_the_channels_separate(first: str, second: str, tmp_path: Path) -> None:
    channels = channels_of(first)
    parts = [encode(tmp_path, f"{k}.ac3", channels, name, "-b:a", "640k") for k, name in enumerate((first, second))]
    (tmp_path / "joined.ac3").write_bytes(b"".join(part.read_bytes() for part in parts))

    waveform = decoded(tmp_path / "joined.ac3")

    assert waveform.shape[0] == channels
    assert waveform.shape[1] / SAMPLE_RATE_HZ == pytest.approx(2 * channels * TURN_S, abs=0.1)
    # Encoded recordings have whole frames, so that the second one starts up to a frame later.
    second_part = waveform[:, -round(channels * TURN_S * SAMPLE_RATE_HZ) :]
    assert order(waveform[:, : second_part.shape[1]], channels) == order(second_part, channels) == list(range(channels))


@pytest.mark.parametrize(("first", "second"), [(2, 6), (6, 2), (1, 2), (2, 1)])
def test_no_channel_is_lost_when_their_number_changes(first: int, second: int, tmp_path: Path) -> None:
    """ADTS describes each frame, so that ffprobe sees the first number of channels only."""
    parts = [encode(tmp_path, f"{count}.aac", count, None, "-c:a", "aac", "-b:a", "640k") for count in (first, second)]
    (tmp_path / "joined.aac").write_bytes(b"".join(part.read_bytes() for part in parts))

    waveform = decoded(tmp_path / "joined.aac")

    assert waveform.shape[0] == first
    assert waveform.shape[1] / SAMPLE_RATE_HZ == pytest.approx((first + second) * TURN_S, abs=0.2)
    second_part = waveform[:, round(first * TURN_S * SAMPLE_RATE_HZ) + 1_500 :]
    samples = round(TURN_S * SAMPLE_RATE_HZ)
    for turn in range(second):
        levels = second_part[:, turn * samples : (turn + 1) * samples - 3_000].std(axis=1)
        assert levels.argmax() == min(turn, first - 1)
        assert levels.max() > 0.05


def test_a_four_channel_flac_of_sox_has_the_channels_that_sox_extracts(corpora: Path) -> None:
    path = corpora / "data" / "cases" / "four-channels-sox.flac"

    expected, sample_rate_hz = soundfile.read(path, dtype="float32", always_2d=True)

    assert sample_rate_hz == SAMPLE_RATE_HZ
    np.testing.assert_array_equal(decoded(path), expected.T)
