"""The sandbox of the real decoder: its limits, its environment, and its termination."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.audio.decode import decode
from core.audio.ffmpeg import run_sandboxed
from core.audio.probe import probe
from core.audio.waveform import Block
from core.deadline import Deadline
from core.errors import DamagedAudio, DecoderUnavailable, RecordingTooLong
from core.settings import MediaLimits
from tests.conftest import MakeMedia

LIMITS = MediaLimits()

Loop = Callable[[str, int, tuple[str, ...]], Path]


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    """A function that loops one encoded minute of silence to hours."""
    folder = tmp_path_factory.mktemp("silence")

    def make(name: str, minutes: int, options: tuple[str, ...]) -> Path:
        minute, whole = folder / f"minute-{name}", folder / name
        silence = ["-f", "lavfi", "-i", "anullsrc=r=48000:cl=stereo:d=60", *options, str(minute)]
        looped = ["-stream_loop", str(minutes - 1), "-i", str(minute), "-c", "copy", str(whole)]
        for command in (silence, looped):
            subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *command], check=True, timeout=60)
        return whole

    return make


@pytest.fixture(scope="module")
def long(loop: Loop) -> Path:
    """A recording of an hour, whose decoding outlasts a test."""
    return loop("long.ogg", 60, ("-c:a", "libopus"))


def children() -> list[int]:
    return [int(child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


@contextmanager
def running_decoder(path: Path) -> Iterator[tuple[int, Iterator[Block]]]:
    """Start a decoder, and return its process id and its remaining blocks."""
    info, before = probe(path, LIMITS), set(children())
    blocks = decode(path, info, LIMITS)
    try:
        next(blocks)
        (pid,) = set(children()) - before
        yield pid, blocks
    finally:
        blocks.close()  # type: ignore[attr-defined] # a generator


def test_the_decoder_gets_no_credentials(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "another one")
    monkeypatch.setenv("FFREPORT", "file=report.txt:level=48")

    with running_decoder(long) as (pid, _):
        known = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")

    assert {entry.split(b"=")[0] for entry in known if entry} <= {b"PATH", b"LD_LIBRARY_PATH"}


def test_the_decoder_has_limits_an_empty_input_the_root_folder_and_its_own_session(long: Path) -> None:
    with running_decoder(long) as (pid, _):
        text = Path(f"/proc/{pid}/limits").read_text()
        limits = {line[:26].strip(): line[26:].split()[0] for line in text.splitlines()[1:]}
        files = {file.name: str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
        assert str(Path(f"/proc/{pid}/cwd").readlink()) == "/"
        assert os.getsid(pid) == pid != os.getsid(0)

    assert limits["Max address space"] == str(LIMITS.decoder_memory_mb * 1024 * 1024)
    assert limits["Max file size"] == limits["Max core file size"] == "0"
    assert limits["Max open files"] == "64"
    assert limits["Max cpu time"] == "1260"
    assert files.pop("0") == "/dev/null"
    # It also has the recording and its two outputs, but no file descriptor of this process.
    assert sorted(file.split(":")[0] for file in files.values()) == [str(long), "pipe", "pipe"]


def test_a_decoder_cannot_write_a_file(tmp_path: Path) -> None:
    with run_sandboxed(["sh", "-c", f"sleep 0.3; echo taken > {tmp_path}/x; echo done"], LIMITS, Deadline()) as decoder:
        said = decoder.read(100)

    assert said == b"done\n" or decoder.status == -signal.SIGXFSZ
    assert (tmp_path / "x").read_bytes() == b""


def test_the_descendants_of_a_decoder_end_with_it() -> None:
    with run_sandboxed(["sh", "-c", "sleep 600 & echo $!; wait"], LIMITS, Deadline()) as decoder:
        # A whole block is read, so that only the timeout ends the call.
        decoder._timeout_s = 0.5
        started = int(decoder.read(100))

    assert decoder.timed_out
    give_up_at_s = time.monotonic() + 5
    while Path(f"/proc/{started}").exists() and _state(started) != "Z":
        assert time.monotonic() < give_up_at_s
        time.sleep(0.02)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "Z"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_decoder_that_another_process_kills_is_a_transient_error(number: signal.Signals, long: Path) -> None:
    """ffmpeg exits normally on SIGTERM, which must not look like the end of the recording."""
    with running_decoder(long) as (pid, blocks):
        os.kill(pid, number)
        with pytest.raises(DecoderUnavailable, match="killed by another process"):
            list(blocks)


def test_a_recording_that_is_removed_is_a_transient_error(make_media: MakeMedia) -> None:
    path = make_media("x.wav")
    info = probe(path, LIMITS)
    path.unlink()

    with pytest.raises(DecoderUnavailable, match="missing from the temporary folder"):
        probe(path, LIMITS)
    with pytest.raises(DecoderUnavailable, match="removed from the temporary folder"):
        list(decode(path, info, LIMITS))


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_decoder_that_crashes_means_a_damaged_recording(number: signal.Signals, long: Path) -> None:
    with running_decoder(long) as (pid, blocks):
        os.kill(pid, number)
        with pytest.raises(DamagedAudio, match="crashed after"):
            list(blocks)


def peak_mb(path: Path, limits: MediaLimits) -> float:
    """Return the decoder's peak memory."""
    before, peak_kb = set(children()), 0
    try:
        for _ in decode(path, probe(path, limits), limits):
            for pid in set(children()) - before:
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                peak_kb = max([peak_kb, *(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))])
    except RecordingTooLong:
        pass
    return peak_kb / 1024


@pytest.mark.parametrize(
    ("name", "codec"), [("x.ogg", "libopus"), ("x.flac", "flac"), ("x.wv", "wavpack"), ("x.m4a", "alac")]
)
def test_a_small_file_that_decodes_to_gigabytes_needs_no_more_memory_than_two_seconds(
    name: str, codec: str, loop: Loop, make_media: MakeMedia
) -> None:
    """Four hours would be 5.5 GB. Two minutes are decoded before the limit refuses the rest."""
    bomb = loop(name, 240, ("-c:a", codec))
    small = make_media(f"small-{name}", "-c:a", codec, "-ac", "2", sample_rate_hz=48_000)
    limits = MediaLimits(max_duration_s=120)

    assert bomb.stat().st_size < 10_000_000
    # ffmpeg reads the whole index of an mp4 file, which takes more memory than its bytes in the file.
    index_mb = 8 * bomb.stat().st_size / 1e6 if name == "x.m4a" else 0
    assert peak_mb(bomb, limits) < 1.5 * peak_mb(small, limits) + index_mb
