"""`audio-emotion report`: a result document in, an HTML page out."""

import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from core import settings
from core.audio.decode import decode, probe
from core.audio.waveform import SAMPLE_RATE_HZ
from core.errors import DecoderUnavailable, ResultUnreadable
from core.report import Sound, render
from core.results import Result
from core.settings import CLI_PREFIX, MediaLimits

_STEREO = 2
_BITS_PER_S_A_CHANNEL = 32_000
"""AAC's speech is clear at that: a minute of a call becomes half a megabyte of page."""
_SAME_S = 1.0
"""A recording and its result differ in duration by less than that, whatever has been done to its container."""


def write_report(result_file: Path, out: Path, audio: Path | None) -> None:
    """Draw one result.

    Raises
    ------
    ResultUnreadable
        If the file is no result document, or that of another recording.
    RecordingError
        If the audio cannot be decoded.
    """
    result = _read(result_file)
    # Of a failed one, the duration is how far it got.
    expected_s = result.audio.duration_s if result.audio and result.status != "failed" else None
    sound = small_sound(audio, settings.read(MediaLimits, prefix=CLI_PREFIX), expected_s) if audio else None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(render(result, sound), encoding="utf-8")
    except OSError as error:
        raise ResultUnreadable(f"{out} cannot be written: {error.strerror}.") from error
    Console().print(f"The report is in {out}", highlight=False, markup=False, soft_wrap=True)


def _read(file: Path) -> Result:
    try:
        return Result.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ResultUnreadable(f"{file} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise ResultUnreadable(
            f"{file} is no result document: {error.error_count()} of its fields are wrong or missing. "
            "`audio-emotion classify FILE --json` writes one."
        ) from error


def small_sound(audio: Path, limits: MediaLimits, expected_s: float | None = None) -> Sound:
    """The recording as the classifier hears it, made small: every browser plays AAC.

    Raises
    ------
    ResultUnreadable
        If the file cannot be read, or does not last as long as it is said to.
    DecoderUnavailable
        If ffmpeg cannot be started, or cannot write AAC.
    """
    try:
        path = audio.resolve(strict=True)
    except OSError as error:
        raise ResultUnreadable(f"{audio} cannot be read: {error.strerror}.") from error
    info = probe(path, limits)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "sound.m4a"
        channels = min(info.channels, _STEREO)
        raw = ["-f", "f32le", "-ar", str(SAMPLE_RATE_HZ), "-ac", str(channels), "-i", "pipe:0"]
        coded = ["-c:a", "aac", "-b:a", str(_BITS_PER_S_A_CHANNEL * channels), "-movflags", "+faststart"]
        try:
            encoder = subprocess.Popen(
                ["ffmpeg", "-v", "error", "-y", *raw, *coded, str(target)], stdin=subprocess.PIPE
            )
        except OSError as error:
            raise DecoderUnavailable(f"ffmpeg could not be started: {error.strerror}.") from error
        samples = 0
        with suppress(BrokenPipeError), encoder:  # one that ends early is told by its status
            assert encoder.stdin is not None  # PIPE was asked for
            for block in decode(path, info, limits):
                samples += block.shape[1]
                heard = block if info.channels <= _STEREO else block.mean(axis=0, keepdims=True).repeat(_STEREO, axis=0)
                encoder.stdin.write(heard.T.tobytes())
        if encoder.returncode != 0:
            raise DecoderUnavailable("ffmpeg could not make a small copy of the recording: it may lack an AAC encoder.")
        lasts_s = samples / SAMPLE_RATE_HZ
        if expected_s is not None and abs(lasts_s - expected_s) > _SAME_S:
            raise ResultUnreadable(
                f"{audio} lasts {lasts_s:.1f} s, but the result is that of {expected_s:.1f} s: it is another one."
            )
        return Sound("audio/mp4", target.read_bytes())
