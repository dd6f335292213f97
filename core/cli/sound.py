"""The sound of a report: the recording as AAC within the page, or a link to a long one."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from rich.console import Console

from core import settings
from core.audio.decode import decode
from core.audio.probe import MediaInfo, probe
from core.audio.waveform import SAMPLE_RATE_HZ, Block
from core.cli.tables import progress_bar
from core.errors import DecoderUnavailable, RecordingError, ResultUnreadable
from core.formatting import printable
from core.library.recordings import check_file
from core.report import Sound
from core.results import Result
from core.settings import CLI_PREFIX, MediaLimits

_STEREO = 2
_BITS_PER_S_PER_CHANNEL = 32_000
"""Speech in AAC is clear at this rate. A minute of a stereo call adds 0.6 MB to the page."""
MAX_EMBEDDED_BYTES = 20_000_000
"""A page with a longer recording opens slowly: 41 minutes of a stereo call."""
_MAX_DURATION_DIFFERENCE_S = 1.0
"""A change of the container alone adds or removes less."""
_Progress = Callable[[float], None]


def sound_for(result: Result, audio: Path, page: Path) -> Sound:
    """Return the sound of a result's page, and show the progress on a terminal.

    Parameters
    ----------
    page
        The file that the page is written to, from which a link is relative.

    Raises
    ------
    ResultUnreadable, RecordingError
        If the file cannot be read or decoded, or its duration is not that of the result.
    """
    limits = settings.read(MediaLimits, prefix=CLI_PREFIX)
    # A failed result has the duration of the decoded part only.
    expected_s = result.audio.duration_s if result.audio and result.status != "failed" else None
    channels = min(result.audio.channels, _STEREO) if result.audio else _STEREO
    is_linked = (expected_s or 0.0) * _BITS_PER_S_PER_CHANNEL * channels / 8 > MAX_EMBEDDED_BYTES
    with _progress("checking" if is_linked else "embedding", audio, expected_s) as advance:
        if is_linked:
            return linked_sound(audio, page, limits, expected_s, advance)
        return small_sound(audio, limits, expected_s, advance)


@contextmanager
def _progress(verb: str, audio: Path, expected_s: float | None) -> Iterator[_Progress]:
    """Provide a function that moves the bar on to a number of seconds."""
    console = Console(stderr=True)
    with progress_bar(console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{verb} {printable(audio.name)}, s", total=round(expected_s) if expected_s else None)
        yield lambda seconds: bar.update(task, completed=round(seconds))


def linked_sound(
    audio: Path, page: Path, limits: MediaLimits, expected_s: float | None = None, advance: _Progress | None = None
) -> Sound:
    """Return a link to the recording, whose duration is checked.

    Raises
    ------
    ResultUnreadable
        If the file cannot be read, or its duration is not the expected one.
    """
    path = _readable(audio)
    _check_duration(audio, _decoded_s(path, probe(path, limits), limits, lambda _: None, advance), expected_s)
    relative = Path(os.path.relpath(path, page.absolute().parent)).as_posix()
    return Sound("", b"", link=quote(os.fsencode(relative)))


def small_sound(
    audio: Path, limits: MediaLimits, expected_s: float | None = None, advance: _Progress | None = None
) -> Sound:
    """Return the recording as AAC at a low bit rate, which every browser plays.

    Parameters
    ----------
    advance
        Is called with the number of seconds that are encoded.

    Raises
    ------
    ResultUnreadable
        If the file cannot be read, or its duration is not the expected one.
    DecoderUnavailable
        If ffmpeg cannot be started, or cannot write AAC.
    """
    path = _readable(audio)
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
        assert encoder.stdin is not None  # because of PIPE
        stdin, duration_s = encoder.stdin, 0.0

        def encode(block: Block) -> None:
            sound = block if info.channels <= _STEREO else block.mean(axis=0, keepdims=True).repeat(_STEREO, axis=0)
            stdin.write(sound.T.tobytes())

        # If ffmpeg ends early, its exit status says why.
        with suppress(BrokenPipeError), encoder:
            duration_s = _decoded_s(path, info, limits, encode, advance)
        if encoder.returncode != 0:
            raise DecoderUnavailable(
                "ffmpeg could not encode the recording for the page: it may lack an AAC encoder, or the temporary "
                "folder may be full."
            )
        _check_duration(audio, duration_s, expected_s)
        return Sound("audio/mp4", target.read_bytes())


def _decoded_s(
    path: Path, info: MediaInfo, limits: MediaLimits, use: Callable[[Block], None], advance: _Progress | None
) -> float:
    """Decode a recording, pass on each block, and return the duration."""
    samples = 0
    with closing(decode(path, info, limits)) as blocks:
        for block in blocks:
            samples += block.shape[1]
            use(block)
            if advance:
                advance(samples / SAMPLE_RATE_HZ)
    return samples / SAMPLE_RATE_HZ


def _readable(audio: Path) -> Path:
    try:
        return check_file(audio)
    except RecordingError as error:
        raise ResultUnreadable(f"{audio}: {error}") from error


def _check_duration(audio: Path, duration_s: float, expected_s: float | None) -> None:
    if expected_s is not None and abs(duration_s - expected_s) > _MAX_DURATION_DIFFERENCE_S:
        raise ResultUnreadable(
            f"{audio} lasts {duration_s:.1f} s, but the result belongs to a recording of {expected_s:.1f} s."
        )
