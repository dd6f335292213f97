"""Decoding with the real ffmpeg: valid, unusual, damaged and hostile files give audio or an error."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from core.audio.decode import decode
from core.audio.probe import MediaInfo, probe
from core.audio.waveform import Block
from core.deadline import Deadline
from core.errors import (
    DamagedAudio,
    DeadlineExceeded,
    DecoderUnavailable,
    EmptyRecording,
    NoAudioStream,
    NotAudio,
    RecordingError,
    RecordingTooLarge,
    RecordingTooLong,
    TooManyChannels,
)
from core.settings import MediaLimits
from tests.conftest import ROOT, MakeMedia
from tests.support.corpora import MISSING, corpus_files

LIMITS = MediaLimits()
RATE_HZ = 16_000

SAMPLES = sorted(file for file in (ROOT / "samples").glob("*") if file.suffix not in (".json", ".md"))
ODD_FILES = corpus_files("data/formats/*/*")


def decoded(path: Path, limits: MediaLimits = LIMITS, deadline: Deadline | None = None) -> tuple[MediaInfo, Block]:
    info = probe(path, limits)
    blocks = list(decode(path, info, limits, deadline or Deadline()))
    assert all(block.shape[1] <= RATE_HZ for block in blocks)
    return info, np.concatenate(blocks, axis=1)


def loudest_hz(waveform: npt.NDArray[np.float32]) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(waveform.size)))
    return float(spectrum.argmax() * RATE_HZ / waveform.size)


@pytest.fixture(autouse=True)
def _check_leftovers(tmp_path: Path) -> Iterator[None]:
    """Check that no ffmpeg is running or a zombie, and no file descriptor is open."""
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    yield
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    names = [Path(f"/proc/{child}/comm").read_text().strip() for child in children]
    assert not [name for name in names if name.startswith("ff")]
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.name)
def test_every_sample_is_decoded(file: Path) -> None:
    info, waveform = decoded(file)

    assert waveform.dtype == np.float32
    assert waveform.shape[0] == info.channels
    assert waveform.shape[1] > 0.5 * RATE_HZ
    assert 0.01 < np.abs(waveform).max() <= 1.5
    if info.duration_s:
        assert waveform.shape[1] / RATE_HZ == pytest.approx(info.duration_s, abs=0.15)  # mp3 counts padding


@pytest.mark.skipif(not ODD_FILES, reason=MISSING)
@pytest.mark.parametrize("file", ODD_FILES, ids=lambda file: file.name)
def test_every_odd_file_gives_audio_or_a_recording_error(file: Path) -> None:
    message, waveform = "None.", np.zeros((1, 1), np.float32)
    try:
        info, waveform = decoded(file)
        assert waveform.shape[0] == info.channels
    except RecordingError as error:
        message = str(error)

    assert message.endswith(".")
    assert "\n" not in message
    assert str(file.parent) not in message
    assert waveform.shape[1] > 0
    assert np.isfinite(waveform).all()


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("pydub/cover.jpg", NotAudio),
        ("pydub/test1.raw", NotAudio),
        ("pydub/test1_empty.wav", EmptyRecording),
        ("scipy-wav/test-44100Hz-le-1ch-4bytes-incomplete-chunk.wav", NotAudio),
    ],
)
def test_each_odd_file_gives_its_own_error(name: str, error: type[RecordingError], corpora: Path) -> None:
    with pytest.raises(error):
        decoded(corpora / "data" / "formats" / name)


@pytest.mark.parametrize(
    ("name", "options", "container", "codec"),
    [
        ("a.wav", [], "wav", "pcm_s16le"),
        ("a.mp3", [], "mp3", "mp3"),
        ("a.m4a", [], "mov", "aac"),
        ("a.ogg", ["-c:a", "libopus"], "ogg", "opus"),
        ("a.webm", ["-c:a", "libopus"], "matroska", "opus"),
        ("a.flac", [], "flac", "flac"),
        ("a.aiff", [], "aiff", "pcm_s16be"),
        ("a.au", [], "au", "pcm_s16be"),
        ("a.wma", [], "asf", "wmav2"),
        ("a.aac", [], "aac", "aac"),
        ("a.w64", [], "w64", "pcm_s16le"),
        ("mu-law.wav", ["-c:a", "pcm_mulaw"], "wav", "pcm_mulaw"),
        ("a-law.wav", ["-c:a", "pcm_alaw"], "wav", "pcm_alaw"),
        ("ima.wav", ["-c:a", "adpcm_ima_wav"], "wav", "adpcm_ima_wav"),
        ("double.wav", ["-c:a", "pcm_f64le"], "wav", "pcm_f64le"),
    ],
)
def test_a_format_is_named_and_its_tone_is_decoded(
    name: str, options: list[str], container: str, codec: str, make_media: MakeMedia
) -> None:
    info, waveform = decoded(make_media(name, *options))

    assert (info.container, info.codec, info.channels) == (container, codec, 1)
    assert waveform.shape[1] / RATE_HZ == pytest.approx(2.0, abs=0.15)
    assert loudest_hz(waveform[0, RATE_HZ // 2 : RATE_HZ * 3 // 2]) == pytest.approx(440, abs=3)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_any_rate_becomes_16_khz_with_the_same_duration(rate_hz: int, make_media: MakeMedia) -> None:
    info, waveform = decoded(make_media("tone.wav", sample_rate_hz=rate_hz))

    assert info.sample_rate_hz == rate_hz
    assert waveform.shape[1] == pytest.approx(2 * RATE_HZ, abs=RATE_HZ // 1000)
    assert loudest_hz(waveform[0]) == pytest.approx(440, abs=1)


def test_16_khz_pcm_is_decoded_bit_for_bit(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32767, 40_001, np.int16)
    soundfile.write(tmp_path / "noise.wav", samples, RATE_HZ)

    _, waveform = decoded(tmp_path / "noise.wav")

    np.testing.assert_array_equal(waveform[0], samples.astype(np.float32) / 32768)


def test_phone_quality_mu_law_is_decoded(make_media: MakeMedia) -> None:
    info, waveform = decoded(make_media("call.wav", "-c:a", "pcm_mulaw", sample_rate_hz=8_000))

    assert (info.codec, info.sample_rate_hz) == ("pcm_mulaw", 8_000)
    assert waveform.shape == (1, 2 * RATE_HZ)


@pytest.mark.parametrize("name", ["stereo.wav", "stereo.mp3", "stereo.ogg", "stereo.m4a"])
def test_two_channels_stay_separate(name: str, make_media: MakeMedia) -> None:
    source = "aevalsrc=0.4*sin(2*PI*300*t)|0.2*sin(2*PI*1100*t):d=3"

    info, waveform = decoded(make_media(name, source=source, sample_rate_hz=48_000))

    middle = waveform[:, RATE_HZ : 2 * RATE_HZ]
    assert info.channels == 2
    assert [loudest_hz(channel) for channel in middle] == pytest.approx([300, 1100], abs=2)
    assert np.abs(middle).max(axis=1) == pytest.approx([0.4, 0.2], rel=0.15)


def test_decoding_streams_in_blocks_of_at_most_a_second(make_media: MakeMedia) -> None:
    path = make_media("long.wav", source="sine=200:duration=7.25")
    info = probe(path, LIMITS)

    sizes = [block.shape for block in decode(path, info, LIMITS)]

    assert all(shape[0] == 1 and shape[1] <= RATE_HZ for shape in sizes)
    assert sum(shape[1] for shape in sizes) == 7.25 * RATE_HZ
    assert len(sizes) >= 8


def test_closing_the_iterator_stops_the_decoder(hours_of_silence: Path) -> None:
    blocks = decode(hours_of_silence, probe(hours_of_silence, LIMITS), LIMITS)
    next(blocks)

    blocks.close()  # the fixture checks for leftovers


@pytest.mark.parametrize("kind", ["concat script", "HLS playlist", "ffmetadata", "DASH manifest"])
def test_a_playlist_cannot_read_another_local_file(kind: str, tone: Path, tmp_path: Path) -> None:
    disguised = tmp_path / "x.wav"
    disguised.write_text(
        {
            "concat script": f"ffconcat version 1.0\nfile {tone.name}\n",  # a name that ffmpeg calls safe
            "HLS playlist": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:{tone}\n#EXT-X-ENDLIST\n",
            "ffmetadata": f";FFMETADATA1\ntitle={tone}\n",
            "DASH manifest": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period>'
            f'<AdaptationSet mimeType="audio/wav"><Representation id="1"><BaseURL>file:{tone}</BaseURL>'
            "</Representation></AdaptationSet></Period></MPD>",
        }[kind]
    )

    with pytest.raises(NotAudio) as refusal:
        decoded(disguised)

    assert "tone" not in str(refusal.value)


def test_forbidding_protocols_alone_would_not_stop_a_concat_script(tone: Path, tmp_path: Path) -> None:
    """A control for the test above."""
    script = tmp_path / "x.wav"
    script.write_text(f"ffconcat version 1.0\nfile {tone.name}\n")

    naive = ["ffprobe", "-v", "error", "-protocol_whitelist", "file,pipe", "-show_streams", f"file:{script}"]
    done = subprocess.run(naive, check=False, capture_output=True, text=True, timeout=60)

    assert "codec_type=audio" in done.stdout


def test_samples_that_are_not_finite_become_zero(tmp_path: Path) -> None:
    samples = np.full(RATE_HZ, 0.25, np.float32)
    samples[100:200], samples[300], samples[400] = np.nan, np.inf, -np.inf
    soundfile.write(tmp_path / "nan.wav", samples, RATE_HZ, "FLOAT")

    _, waveform = decoded(tmp_path / "nan.wav")

    assert np.isfinite(waveform).all()
    assert not waveform[0, 120:180].any()
    assert waveform[0, 1_000:] == pytest.approx(0.25)


def test_a_recording_that_is_too_long_is_refused(make_media: MakeMedia) -> None:
    limits = MediaLimits(max_duration_s=1.5)

    with pytest.raises(RecordingTooLong, match="longer than the limit of 2 s"):
        decoded(make_media("tone.wav"), limits)


def test_a_recording_of_the_maximum_duration_is_accepted(make_media: MakeMedia) -> None:
    _, waveform = decoded(make_media("tone.wav"), MediaLimits(max_duration_s=2.0))

    assert waveform.shape[1] == 2 * RATE_HZ


def test_too_many_channels_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "crowd.wav", np.zeros((800, 17)), RATE_HZ)

    with pytest.raises(TooManyChannels, match="17 channels; the limit is 16"):
        decoded(tmp_path / "crowd.wav")


def test_many_channels_within_the_limit_stay_separate(tmp_path: Path) -> None:
    levels = np.linspace(-0.5, 0.5, 16)
    soundfile.write(tmp_path / "conference.wav", np.tile(levels, (RATE_HZ, 1)), RATE_HZ, "FLOAT")

    _, waveform = decoded(tmp_path / "conference.wav")

    assert waveform.mean(axis=1) == pytest.approx(levels, abs=1e-4)


def test_a_file_with_too_many_bytes_is_refused_without_reading_it(tone: Path) -> None:
    with pytest.raises(RecordingTooLarge, match="the limit is 1,000"):
        decoded(tone, MediaLimits(max_size_bytes=1_000))


def test_an_empty_file_and_a_recording_without_samples_have_different_messages(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "no-samples.wav", np.zeros(0), RATE_HZ)

    with pytest.raises(EmptyRecording, match="0 bytes"):
        decoded(tmp_path / "empty.wav")
    with pytest.raises(EmptyRecording, match="no samples"):
        decoded(tmp_path / "no-samples.wav")


def test_a_silent_film_has_no_audio_stream(make_media: MakeMedia) -> None:
    with pytest.raises(NoAudioStream):
        decoded(make_media("film.mp4", source="color=red:duration=1:size=64x64"))


@pytest.mark.parametrize("content", [b"Dear diary, today", b"\x00" * 5_000, b"%PDF-1.4 ", b"RIFF\xff\xff\xff\xffWAVE"])
def test_bytes_that_are_not_a_recording_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(content)

    with pytest.raises((NotAudio, DamagedAudio, EmptyRecording)):
        decoded(tmp_path / "x.wav")


@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.flac", "a.ogg", "a.webm", "a.aac"])
def test_half_a_file_gives_half_of_its_audio(name: str, make_media: MakeMedia) -> None:
    path = make_media(name, source="anoisesrc=duration=8:amplitude=0.3:seed=1")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    _, waveform = decoded(path)

    assert waveform.shape[1] / RATE_HZ == pytest.approx(4.0, abs=1.0)


@pytest.mark.parametrize("kept", [0.5, 0.98])
def test_an_m4a_whose_index_is_cut_off_is_refused(kept: float, make_media: MakeMedia) -> None:
    path = make_media("a.m4a", source="anoisesrc=duration=8:amplitude=0.3:seed=1")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])

    with pytest.raises(DamagedAudio, match="index is missing or cut off"):
        decoded(path)


def test_a_header_that_claims_hours_does_not_change_the_result(tone: Path) -> None:
    lying = bytearray(tone.read_bytes())
    lying[4:8] = lying[40:44] = b"\xff\xff\xff\x7f"  # both sizes: 2 GB of samples in 64 kB
    tone.write_bytes(lying)

    _, waveform = decoded(tone)

    assert waveform.shape[1] == 2 * RATE_HZ


@pytest.fixture(scope="module")
def hours_of_silence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a few megabytes that decodes to four hours, looped from one encoded minute."""
    folder = tmp_path_factory.mktemp("silence")
    run = ["ffmpeg", "-nostdin", "-v", "error"]
    minute = [*run, "-f", "lavfi", "-i", "anullsrc=r=48000:cl=stereo:d=60", "-c:a", "libopus", str(folder / "m.ogg")]
    subprocess.run(minute, check=True, timeout=120)
    looped = [*run, "-stream_loop", "239", "-i", str(folder / "m.ogg"), "-c", "copy", str(folder / "hours.ogg")]
    subprocess.run(looped, check=True, timeout=120)
    return folder / "hours.ogg"


def test_a_slow_decode_is_stopped_by_the_deadline(hours_of_silence: Path) -> None:
    info = probe(hours_of_silence, LIMITS)
    started = time.monotonic()

    with pytest.raises(DeadlineExceeded, match="timed out"):
        for _ in decode(hours_of_silence, info, LIMITS, Deadline.after(0.3)):
            pass

    assert time.monotonic() - started < 2.0


def test_a_slow_decode_is_stopped_by_the_decoder_s_timeout(hours_of_silence: Path) -> None:
    limits = MediaLimits(decoder_timeout_s=0.3)

    with pytest.raises(DeadlineExceeded):
        for _ in decode(hours_of_silence, probe(hours_of_silence, LIMITS), limits):
            pass


def test_a_deadline_that_has_passed_ends_probing_and_decoding(tone: Path) -> None:
    with pytest.raises(DeadlineExceeded):
        probe(tone, LIMITS, Deadline.after(0))


def test_a_decoder_that_exceeds_its_memory_limit_raises_an_error(tone: Path) -> None:
    # Less than its libraries take. The decoder may crash or report an error, but must not seem to succeed.
    with pytest.raises((RecordingError, DecoderUnavailable)) as refusal:
        decoded(tone, MediaLimits.model_construct(**{**LIMITS.model_dump(), "decoder_memory_mb": 40}))

    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("program", ["ffprobe", "ffmpeg"])
def test_a_missing_decoder_is_a_transient_error(
    program: str, tone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_the_other = tmp_path / "bin"
    only_the_other.mkdir()
    other = {"ffprobe": "ffmpeg", "ffmpeg": "ffprobe"}[program]
    (only_the_other / other).symlink_to(str(shutil.which(other)))
    monkeypatch.setenv("PATH", str(only_the_other))

    with pytest.raises(DecoderUnavailable, match=f"{program} could not be started: No such file"):
        decoded(tone)


@pytest.mark.parametrize(
    "name", ["-version.wav", "a b.wav", "录音.wav", "http:x.wav", "%03d.wav", "'\";$(touch x).wav"]
)
def test_ffmpeg_does_not_interpret_file_names(name: str, tone: Path, tmp_path: Path) -> None:
    odd = tone.rename(tmp_path / name)

    _, waveform = decoded(odd)

    assert waveform.shape[1] == 2 * RATE_HZ
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_the_resampler_keeps_7_khz_and_does_not_alias(make_media: MakeMedia) -> None:
    """Aliases from above 8 kHz are at least 60 dB down."""
    high = decoded(make_media("high.wav", source="sine=10000:duration=2", sample_rate_hz=48_000))[1]
    low = decoded(make_media("low.wav", source="sine=7000:duration=2", sample_rate_hz=48_000))[1]

    assert 20 * np.log10(high[0, 2_000:-2_000].std() / low[0, 2_000:-2_000].std()) < -60
    assert loudest_hz(low[0]) == pytest.approx(7_000, abs=1)
