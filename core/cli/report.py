"""`audio-emotion report`: write the report page of a result document."""

import subprocess
import tempfile
from contextlib import closing, suppress
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from core import settings
from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.waveform import SAMPLE_RATE_HZ
from core.errors import DecoderUnavailable, RecordingError, ResultUnreadable
from core.recordings import check_file
from core.report import PAGE_START, Sound, render
from core.results import Result
from core.settings import CLI_PREFIX, MediaLimits

_STEREO = 2
_BITS_PER_S_PER_CHANNEL = 32_000
"""Speech in AAC is clear at this rate. A minute of a stereo call adds 0.6 MB to the page."""
_MAX_DURATION_DIFFERENCE_S = 1.0
"""A change of the container alone adds or removes less."""


def write_report(result_file: Path, out: Path, audio: Path | None) -> None:
    """Write the report page of a result.

    Raises
    ------
    ResultUnreadable
        If the file is not a result document, or belongs to another recording, or if `out` is not a page.
    RecordingError
        If the audio cannot be decoded.
    """
    result = _read(result_file)
    _check_replaceable(out)
    # A failed result has the duration of the decoded part only.
    expected_s = result.audio.duration_s if result.audio and result.status != "failed" else None
    sound = small_sound(audio, settings.read(MediaLimits, prefix=CLI_PREFIX), expected_s) if audio else None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(render(result, sound), encoding="utf-8")
    except OSError as error:
        raise ResultUnreadable(f"{out} cannot be written: {error.strerror}.") from error
    Console().print(f"Wrote {out}", highlight=False, markup=False, soft_wrap=True)


def _check_replaceable(out: Path) -> None:
    """Check that the page replaces only another page: not the result, the recording, or anything else.

    Raises
    ------
    ResultUnreadable
        If the file cannot be replaced.
    """
    try:
        with out.open("rb") as file:
            if file.read(len(PAGE_START)) == PAGE_START.encode():
                return
    except FileNotFoundError:
        return
    except OSError as error:
        raise ResultUnreadable(f"{out} cannot be written: {error.strerror}.") from error
    raise ResultUnreadable(f"{out} exists and is not a report. Choose another file with --out.")


def _read(file: Path) -> Result:
    try:
        return Result.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ResultUnreadable(f"{file} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise ResultUnreadable(
            f"{file} is not a result document. `audio-emotion classify --json RECORDING` prints one."
        ) from error


def small_sound(audio: Path, limits: MediaLimits, expected_s: float | None = None) -> Sound:
    """Return the recording as AAC at a low bit rate, which every browser plays.

    Raises
    ------
    ResultUnreadable
        If the file cannot be read, or its duration is not the expected one.
    DecoderUnavailable
        If ffmpeg cannot be started, or cannot write AAC.
    """
    try:
        path = check_file(audio)
    except RecordingError as error:
        raise ResultUnreadable(f"{audio}: {error}") from error
    info = probe(path, limits)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "sound.m4a"
        channels = min(info.channels, _STEREO)
        raw = ["-f", "f32le", "-ar", str(SAMPLE_RATE_HZ), "-ac", str(channels), "-i", "pipe:0"]
        coded = ["-c:a", "aac", "-b:a", str(_BITS_PER_S_PER_CHANNEL * channels), "-movflags", "+faststart"]
        try:
            encoder = subprocess.Popen(
                ["ffmpeg", "-v", "error", "-xerror", "-y", *raw, *coded, str(target)], stdin=subprocess.PIPE
            )
        except OSError as error:
            raise DecoderUnavailable(f"ffmpeg could not be started: {error.strerror}.") from error
        samples = 0
        with suppress(BrokenPipeError), encoder, closing(decode(path, info, limits)) as blocks:
            # If ffmpeg ends early, its exit status says why.
            assert encoder.stdin is not None  # because of PIPE
            for block in blocks:
                samples += block.shape[1]
                sound = block if info.channels <= _STEREO else block.mean(axis=0, keepdims=True).repeat(_STEREO, axis=0)
                encoder.stdin.write(sound.T.tobytes())
        if encoder.returncode != 0:
            raise DecoderUnavailable(
                "ffmpeg could not encode the recording for the page: it may lack an AAC encoder, or the temporary "
                "folder may be full."
            )
        duration_s = samples / SAMPLE_RATE_HZ
        if expected_s is not None and abs(duration_s - expected_s) > _MAX_DURATION_DIFFERENCE_S:
            raise ResultUnreadable(
                f"{audio} lasts {duration_s:.1f} s, but the result belongs to a recording of {expected_s:.1f} s."
            )
        return Sound("audio/mp4", target.read_bytes())
