"""Hostile uploads do no harm and are not decoded as something else."""

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.waveform import Block
from core.errors import RecordingError
from core.settings import MediaLimits
from tests.conftest import MakeMedia
from tests.support import hostile

LIMITS = MediaLimits()
RATE_HZ = 16_000
FFMPEG = ("ffmpeg", "-nostdin", "-v", "error", "-y")


def decoded(path: Path) -> Block:
    return np.concatenate(list(decode(path, probe(path, LIMITS), LIMITS)), axis=1)


def outcome(path: Path) -> str:
    """Return an error's code, or the number of seconds decoded."""
    try:
        return f"{decoded(path).shape[1] / RATE_HZ:.1f} s"
    except RecordingError as error:
        sentence = str(error).endswith(".") and str(error).isprintable() and str(path) not in str(error)
        return error.code if sentence else f"not a sentence: {error}"


def outcomes(files: list[Path]) -> dict[str, str]:
    with ThreadPoolExecutor(4) as pool:
        return dict(zip((file.name for file in files), pool.map(outcome, files), strict=True))


def pitch_hz(waveform: Block) -> float:
    return float(
        np.abs(np.fft.rfft(waveform[0] * np.hanning(waveform.shape[1]))).argmax() * RATE_HZ / waveform.shape[1]
    )


@dataclass
class Canaries:
    """A recording, an address and a pipe that no upload may reach, and the folder of the uploads."""

    folder: Path
    recording: Path
    address: str
    fifo: Path
    asked: list[str]
    opened: list[bool]

    def alive(self) -> bool:
        return not self.asked and not self.opened


@pytest.fixture
def canaries(tmp_path: Path) -> Iterator[Canaries]:
    recording = tmp_path / "canary.wav"
    recording.write_bytes(hostile.wav(hostile.LOUD))
    fifo = tmp_path / "canary.fifo"
    with hostile.canary_server(hostile.wav(hostile.LOUD)) as (address, asked), hostile.canary_fifo(fifo) as opened:
        yield Canaries(tmp_path, recording, address, fifo, asked, opened)


def written(canaries: Canaries, scripts: dict[str, bytes]) -> list[Path]:
    for name, body in scripts.items():
        (canaries.folder / name).write_bytes(body)
    return [canaries.folder / name for name in scripts]


def test_no_script_reads_a_file_or_an_address(canaries: Canaries) -> None:
    targets = (str(canaries.recording), canaries.recording.name, f"{canaries.address}/canary.wav")
    scripts = {
        f"{kind} {number}{ending}": hostile.script(kind, at)
        for kind in hostile.script_kinds()
        for number, (at, ending) in enumerate(zip(targets, (".wav", ".mp3", ""), strict=True))
    }

    results = outcomes(written(canaries, scripts))

    assert {name: code for name, code in results.items() if code != "not_audio"} == {}
    assert canaries.alive()


SCRIPT_EXTENSIONS = ("concat", "ffconcat", "m3u", "m3u8", "mpd", "sdp")
"""Extensions by which ffmpeg recognises scripts."""


@pytest.mark.parametrize("turn", range(3))
def test_no_extension_makes_ffmpeg_run_a_script(turn: int, canaries: Canaries) -> None:
    """The scripts refer to a relative path, an absolute path and an address.

    Extensions of scripts get all three in every turn. Other extensions get one in each of the three turns.
    """
    kind = ("ffconcat", "hls", "dash")[turn]
    targets = ("canary.wav", str(canaries.recording), f"{canaries.address}/canary.wav")
    scripts = {
        f"{which}.{extension}": hostile.script(kind, targets[which])
        for number, extension in enumerate(hostile.EXTENSIONS.split())
        for which in (range(3) if extension in SCRIPT_EXTENSIONS else [(number + turn) % 3])
    }

    results = outcomes(written(canaries, scripts))

    # Raw GSM has no signature, so the extension decides: ffmpeg decodes a moment of noise, but not the canary.
    [gsm] = [results.pop(name) for name in list(results) if name.endswith(".gsm")]
    assert gsm == "not_audio" or float(gsm.removesuffix(" s")) < 1.0
    assert set(results.values()) <= {"not_audio", "damaged"}
    assert canaries.alive()


@pytest.mark.parametrize("kind", ["ffconcat", "hls"])
def test_no_reference_to_a_file_a_device_or_an_address_works(kind: str, canaries: Canaries) -> None:
    places = hostile.references(canaries.recording, canaries.address, canaries.fifo)
    scripts = {f"{number}.wav": hostile.script(kind, at) for number, at in enumerate(places)}

    results = outcomes(written(canaries, scripts))

    assert {places[int(name[:-4])]: code for name, code in results.items() if code != "not_audio"} == {}
    assert canaries.alive()


def test_the_scripts_work_without_the_sandbox(canaries: Canaries) -> None:
    """A control for the tests above."""
    local, remote, pipe = written(
        canaries,
        {
            "local.wav": hostile.script("ffconcat", "canary.wav"),
            "remote.m3u8": hostile.script("hls", f"{canaries.address}/canary.wav"),
            "pipe.wav": hostile.script("ffconcat", str(canaries.fifo)),
        },
    )
    everything = ["-protocol_whitelist", "file,http,tcp"]

    for script, options in ((local, []), (remote, everything), (pipe, ["-safe", "0", "-f", "concat"])):
        naive = ["ffprobe", "-v", "error", *options, "-show_streams", str(script)]
        done = subprocess.run(naive, check=False, capture_output=True, text=True, timeout=60)
        assert script is not local or "codec_type=audio" in done.stdout

    assert "/canary.wav" in canaries.asked
    assert canaries.opened


def test_formats_that_open_a_second_file_or_contain_a_program_are_not_audio(canaries: Canaries) -> None:
    results = outcomes(written(canaries, {f"{name}.wav": body for name, body in hostile.BINARIES.items()}))

    assert set(results.values()) == {"not_audio"}


def test_a_film_whose_audio_is_in_another_file_has_none(canaries: Canaries, make_media: MakeMedia) -> None:
    film = make_media("film.mov", "-c:a", "pcm_s16le")
    film.write_bytes(hostile.with_external_track(film.read_bytes(), canaries.recording))
    trusting = ["-v", "verbose", "-enable_drefs", "1", "-i", str(film)]
    done = subprocess.run(["ffprobe", *trusting], check=True, stderr=subprocess.PIPE, text=True, timeout=60)
    assert f"Opening '{canaries.recording}' for reading" in done.stderr  # the film refers to the recording

    assert outcome(film) == "empty"


def test_references_in_a_recording_are_not_followed(canaries: Canaries, make_media: MakeMedia) -> None:
    """The recording itself is decoded, whose tone is an octave below the canary's."""
    plain, mp3, mka = make_media("plain.wav"), make_media("a.mp3"), make_media("a.mka", "-c:a", "flac")
    files = written(
        canaries,
        {
            "playlist inside.wav": hostile.with_embedded_playlist(plain.read_bytes(), str(canaries.recording)),
            "picture elsewhere.mp3": hostile.with_linked_picture(mp3.read_bytes(), canaries.address),
            "segment before.mka": hostile.with_linked_segment(mka.read_bytes(), canaries.recording.name),
        },
    )

    for file in files:
        waveform = decoded(file)
        assert waveform.shape[1] / RATE_HZ == pytest.approx(2.0, abs=0.1)
        assert pitch_hz(waveform) == pytest.approx(440, abs=3)
    assert canaries.alive()


def test_a_file_with_a_false_header_is_decoded_or_refused(tmp_path: Path) -> None:
    for name, (body, _) in hostile.HEADERS.items():
        (tmp_path / name).write_bytes(body)

    assert outcomes([tmp_path / name for name in hostile.HEADERS]) == {
        name: code for name, (_, code) in hostile.HEADERS.items()
    }


TONE = ("-f", "lavfi", "-i", "sine=440:duration=2:sample_rate=16000")
OTHER_TONE = ("-f", "lavfi", "-i", "sine=1000:duration=2:sample_rate=48000")
PICTURE = ("-f", "lavfi", "-i", "color=red:duration=2:size=64x64:rate=5")
COVER = ("-i", "{jpg}")
ATTACHED = ("-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic")
SUBTITLES = "1\n00:00:00,000 --> 00:00:02,000\n<script>alert(1)</script>\n"
KEY = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "00" * 16, "-encryption_kid", "11" * 16)

# Options for ffmpeg, and the expected result; {srt}, {txt} and {jpg} are files.
FILMS: dict[str, tuple[tuple[str, ...], str]] = {
    "cover alone.m4a": ((*COVER, "-c:v", "copy", "-f", "mp4"), "no_audio_stream"),
    "cover alone.jpg": ((*COVER, "-c:v", "copy"), "not_audio"),
    "cover and sound.m4a": ((*TONE, *COVER, *ATTACHED, "-f", "mp4", "-c:a", "aac"), "2.0 s"),
    "cover and sound.mp3": ((*TONE, *COVER, *ATTACHED, "-id3v2_version", "3"), "2.0 s"),
    "picture and sound.mp4": ((*PICTURE, *TONE, "-c:v", "mpeg4", "-c:a", "aac"), "2.0 s"),
    "two languages.mka": ((*TONE, *OTHER_TONE, "-map", "0", "-map", "1", "-c:a", "flac"), "2.0 s"),
    "two languages.mp4": ((*TONE, *OTHER_TONE, "-map", "0", "-map", "1", "-c:a", "aac"), "2.0 s"),
    "subtitles and sound.mkv": (("-i", "{srt}", *TONE, "-map", "0", "-map", "1", "-c:a", "flac"), "2.0 s"),
    "subtitles and sound.mp4": (("-i", "{srt}", *TONE, "-c:s", "mov_text", "-c:a", "aac"), "2.0 s"),
    "subtitles alone.mkv": (("-i", "{srt}"), "no_audio_stream"),
    "subtitles.srt": (("-i", "{srt}"), "not_audio"),
    "attachment and sound.mkv": (
        (*TONE, "-attach", "{txt}", "-metadata:s:t", "mimetype=text/html", "-c:a", "flac"),
        "2.0 s",
    ),
    "encrypted.mp4": ((*TONE, "-c:a", "aac", *KEY), "encrypted"),
    "encrypted film.mp4": ((*PICTURE, *TONE, "-c:v", "mpeg4", "-c:a", "aac", *KEY), "encrypted"),
    "in fragments.mp4": ((*TONE, "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"), "2.0 s"),
}


def test_pictures_subtitles_attachments_and_encryption_are_distinguished_from_audio(tmp_path: Path) -> None:
    files = {"srt": tmp_path / "s.srt", "txt": tmp_path / "evil.html", "jpg": tmp_path / "red.jpg"}
    for kind in ("srt", "txt"):
        files[kind].write_text(SUBTITLES)
    red = ("-f", "lavfi", "-i", "color=red:size=64x64,format=yuvj420p", "-frames:v", "1")
    subprocess.run([*FFMPEG, *red, str(files["jpg"])], check=True, timeout=60)
    for name, (options, _) in FILMS.items():
        filled = [option.format(**files) for option in options]
        subprocess.run([*FFMPEG, *filled, str(tmp_path / name)], check=True, timeout=60)

    results = outcomes([tmp_path / name for name in FILMS])

    # Encoders may add padding, so 2.0 s has a tolerance of a tenth.
    rounded = {name: "2.0 s" if came in ("1.9 s", "2.1 s") else came for name, came in results.items()}
    assert rounded == {name: code for name, (_, code) in FILMS.items()}
    for name in ("two languages.mka", "two languages.mp4"):
        assert pitch_hz(decoded(tmp_path / name)) == pytest.approx(440, abs=3)  # the first stream


def test_the_message_for_an_encrypted_recording_says_what_to_do(make_media: MakeMedia) -> None:
    with pytest.raises(RecordingError, match=r"encrypted \(DRM\): upload a copy without protection"):
        decoded(make_media("x.mp4", "-c:a", "aac", *KEY))


def encoded(folder: Path, kind: str, sample_rate_hz: int, channels: int) -> bytes:
    """Encode two seconds of a tone in a container that can be joined to another."""
    options = {"ogg": ("-c:a", "libvorbis"), "opus": ("-c:a", "libopus"), "mp3": ("-c:a", "libmp3lame")}.get(kind, ())
    file = folder / f"{kind}-{sample_rate_hz}-{channels}.{kind}"
    tone = ("-f", "lavfi", "-i", f"sine=440:duration=2:sample_rate={sample_rate_hz}", "-ac", str(channels))
    subprocess.run([*FFMPEG, *tone, *options, str(file)], check=True, timeout=60)
    return file.read_bytes()


Encode = Callable[[str, int, int], bytes]

# Recordings of four seconds that change after two. "4 s": both halves are decoded in tune. "2 s": the container's
# header ends the recording there, and the rest does not belong to it.
CHANGES: dict[str, tuple[tuple[tuple[str, int, int], ...], str]] = {
    "another rate.ogg": ((("ogg", 48_000, 1), ("ogg", 22_050, 1)), "4 s"),
    "another number of channels.ogg": ((("ogg", 48_000, 1), ("ogg", 48_000, 2)), "4 s"),
    "another number of channels.opus": ((("opus", 48_000, 2), ("opus", 48_000, 1)), "4 s"),
    "another codec.ogg": ((("opus", 48_000, 1), ("ogg", 22_050, 1)), "damaged"),
    "another rate.mp3": ((("mp3", 44_100, 1), ("mp3", 22_050, 1)), "4 s"),
    "another number of channels.mp3": ((("mp3", 44_100, 1), ("mp3", 48_000, 2)), "4 s"),
    "another rate.aac": ((("aac", 48_000, 1), ("aac", 24_000, 1)), "4 s"),
    "another number of channels.aac": ((("aac", 24_000, 1), ("aac", 48_000, 2)), "4 s"),
    "another rate.flac": ((("flac", 48_000, 1), ("flac", 16_000, 1)), "4 s"),
    "mp3 after.wav": ((("wav", 16_000, 1), ("mp3", 44_100, 1)), "2 s"),
    "wav after.wav": ((("wav", 16_000, 1), ("wav", 48_000, 2)), "2 s"),
    "wav after.mp3": ((("mp3", 44_100, 1), ("wav", 16_000, 1)), "2 s"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_recording_that_changes_half_way_is_decoded_correctly_or_refused(name: str, tmp_path: Path) -> None:
    parts, expected = CHANGES[name]
    path = tmp_path / name
    path.write_bytes(b"".join(encoded(tmp_path, *part) for part in parts))

    results = outcome(path)

    if expected == "damaged":
        assert results == expected
        return
    waveform = decoded(path)
    assert waveform.shape[1] / RATE_HZ == pytest.approx(float(expected[0]), abs=0.15)
    for start in range(RATE_HZ // 4, waveform.shape[1] - RATE_HZ, RATE_HZ):
        assert pitch_hz(waveform[:, start : start + RATE_HZ]) == pytest.approx(440, abs=6)


def test_html_after_an_mp3_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "x.mp3"
    path.write_bytes(encoded(tmp_path, "mp3", 44_100, 1) + b"<html>" * 20_000)

    assert decoded(path).shape[1] / RATE_HZ == pytest.approx(2.0, abs=0.15)


def test_a_jump_of_timestamps_loses_no_audio(make_media: MakeMedia) -> None:
    """With ffmpeg's own limit on the duration, the recording would end at the jump."""
    jump = ("-bsf:a", r"setts=ts=if(gt(N\,100)\,PTS+48000*36000\,PTS)")

    waveform = decoded(
        make_media("x.mp4", "-c:a", "libopus", *jump, source="sine=440:duration=4", sample_rate_hz=48_000)
    )

    assert waveform.shape[1] / RATE_HZ == pytest.approx(4.0, abs=0.1)


def test_a_recording_of_mostly_undecodable_frames_is_refused(make_media: MakeMedia) -> None:
    """ffmpeg returns the decodable frames without gaps for the others."""
    path = make_media("x.flac", source="anoisesrc=duration=8:amplitude=0.3:seed=1")
    body = bytearray(path.read_bytes())
    for at in range(8_000, len(body), 2_000):
        body[at : at + 200] = bytes(200)
    path.write_bytes(body)

    assert outcome(path) == "damaged"


def test_samples_beyond_any_recorder_s_become_zero(tmp_path: Path) -> None:
    samples = np.full(RATE_HZ, 0.25, np.float32)
    samples[100:200], samples[300:400] = 3e38, -1e30
    path = tmp_path / "x.wav"
    path.write_bytes(hostile.wav(samples.tobytes(), kind=3, bits=32))

    waveform = decoded(path)

    assert not waveform[0, 120:180].any()
    assert not waveform[0, 320:380].any()
    assert waveform[0, 1_000:] == pytest.approx(0.25)
