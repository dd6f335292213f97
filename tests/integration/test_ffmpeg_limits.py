"""The limits of the real decoder's resources, and those that it inherits."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from core.audio.decode import decode
from core.audio.ffmpeg import run_sandboxed
from core.audio.probe import probe
from core.deadline import Deadline
from core.errors import DecoderUnavailable, RecordingTooLong
from core.settings import MediaLimits
from tests.conftest import ROOT, MakeMedia
from tests.support.decoders import LIMITS, children, hours_of_silence, run_shell

OWN_LIMITS = {
    "AS": (LIMITS.decoder_memory_mb << 20, LIMITS.decoder_memory_mb << 20),
    "DATA": (LIMITS.decoder_memory_mb << 20, LIMITS.decoder_memory_mb << 20),
    "CORE": (0, 0),
    "FSIZE": (0, 0),
    "NOFILE": (64, 64),
    "CPU": (1260, 1261),
}
"""Resource -> a decoder's soft and hard limit, if this process has no lower one."""

Inherit = Callable[[str, int, int], None]
UNLIMITED = resource.RLIM_INFINITY
_prlimit = resource.prlimit


def number_of(name: str) -> int:
    return int(getattr(resource, f"RLIMIT_{name}"))


@pytest.fixture
def inherit(monkeypatch: pytest.MonkeyPatch) -> Inherit:
    """A function that sets the limits which a decoder appears to inherit, without limiting the tests themselves."""
    inherited: dict[int, tuple[int, int]] = {}

    def prlimit(pid: int, number: int, limits: tuple[int, int] | None = None) -> tuple[int, int]:
        if limits is None:
            return inherited.get(number) or _prlimit(pid, number)
        hard = inherited.get(number, (UNLIMITED, UNLIMITED))[1]
        if hard != UNLIMITED and not 0 <= limits[1] <= hard:
            raise PermissionError(1, "Operation not permitted")  # as for every user but root
        return _prlimit(pid, number, limits)

    monkeypatch.setattr(resource, "prlimit", prlimit)
    return lambda name, soft, hard: inherited.update({number_of(name): (soft, hard)})


@pytest.mark.parametrize("hard", ["lower", "equal", "higher", "unlimited"])
@pytest.mark.parametrize("soft", ["lower", "equal", "higher", "unlimited"])
@pytest.mark.parametrize("name", OWN_LIMITS)
def test_the_smaller_of_two_limits_applies(name: str, soft: str, hard: str, inherit: Inherit) -> None:
    own_soft, own_hard = OWN_LIMITS[name]
    sizes = {"lower": 0.75, "equal": 1.0, "higher": 2.0, "unlimited": float("inf")}
    hard_limit = own_hard * sizes[hard] if own_hard else sizes[hard]
    # The kernel allows no soft limit above the hard one.
    soft_limit = min(own_soft * sizes[soft] if own_soft else sizes[soft], hard_limit)
    inherit(name, *(UNLIMITED if limit == float("inf") else int(limit) for limit in (soft_limit, hard_limit)))
    before = set(children())

    with suppress(InterruptedError), run_sandboxed(["sleep", "600"], LIMITS, Deadline()):
        (pid,) = set(children()) - before
        actual = {each: _prlimit(pid, number_of(each)) for each in OWN_LIMITS}
        raise InterruptedError

    expected_hard = int(min(own_hard, hard_limit))
    expected_soft = int(min(own_soft, soft_limit, expected_hard - (name == "CPU")))
    assert actual == OWN_LIMITS | {name: (expected_soft, expected_hard)}


def test_a_limit_that_cannot_be_set_ends_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(resource, "prlimit", refuse)
    before = children()

    with (
        pytest.raises(DecoderUnavailable, match="resource limits could not be set: Operation not permitted"),
        run_sandboxed(["sleep", "600"], LIMITS, Deadline()),
    ):
        pass

    assert children() == before


MB = 1 << 20


@pytest.mark.parametrize(
    ("name", "limit", "program", "reason"),
    [
        ("AS", 300 * MB, "sleep 0.1; echo 'x: Cannot allocate memory' >&2; exit 1", "memory limit .* -v or -d"),
        ("AS", 300 * MB, "sleep 0.1; kill -SEGV $$", "memory limit .* -v or -d"),
        ("DATA", 300 * MB, "sleep 0.1; echo 'Out of memory.' >&2; kill -ABRT $$", "memory limit .* -v or -d"),
        ("NOFILE", 20, "sleep 0.1; echo 'x: Too many open files' >&2; exit 1", "limit of open files .* -n"),
        ("CPU", 2, "while :; do :; done", "CPU time limit .* -t"),
        ("CPU", 1, "while :; do :; done", "CPU time limit .* -t"),
        ("CPU", 2, "trap 'exit 255' XCPU; while :; do :; done", "CPU time limit .* -t"),  # as ffmpeg does
        ("AS", 300 * MB, "exit 127", "could not be started"),
    ],
)
def test_a_decoder_that_reaches_a_lower_limit_is_a_transient_error(
    name: str, limit: int, program: str, reason: str, inherit: Inherit
) -> None:
    inherit(name, limit, limit)

    with pytest.raises(DecoderUnavailable, match=reason) as refusal:
        run_shell(program)

    assert str(refusal.value).endswith(".")


@pytest.mark.parametrize("program", ["echo 'x: Cannot allocate memory' >&2; exit 1", "kill -SEGV $$"])
def test_a_decoder_that_fails_within_its_own_limits_is_not_a_transient_error(program: str) -> None:
    _, decoder = run_shell(program)

    assert decoder.status != 0


@pytest.mark.parametrize("program", ["ffprobe", "ffmpeg"])
def test_a_decoder_without_memory_for_its_libraries_is_not_a_damaged_file(
    program: str, tone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = probe(tone, LIMITS)
    # The loader fails in the same way if a library is missing.
    failing = tmp_path / "bin" / program
    failing.parent.mkdir()
    message = f"{program}: error while loading shared libraries: libx.so.1: failed to map segment from shared object"
    failing.write_text(f"#!/bin/sh\necho '{message}' >&2\nexit 127\n")
    failing.chmod(0o755)
    monkeypatch.setenv("PATH", str(failing.parent), prepend=os.pathsep)

    with pytest.raises(DecoderUnavailable, match=f"{program} could not be started .*failed to map segment"):
        list(decode(tone, info, LIMITS)) if program == "ffmpeg" else probe(tone, LIMITS)


def test_recordings_are_classified_under_lower_hard_limits() -> None:
    """Root may raise a hard limit, unless it gives up this capability."""
    own = ["setpriv", "--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource"] if os.geteuid() == 0 else []
    limited = ["sh", "-c", 'ulimit -v 900000; ulimit -t 300; ulimit -n 50; exec "$@"', "sh"]
    classify = [sys.executable, "-m", "core.cli", "classify", "--json", "samples/anger.wav"]

    done = subprocess.run([*own, *limited, *classify], cwd=ROOT, check=False, capture_output=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert b'"emotion":"anger"' in done.stdout


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
    name: str, codec: str, tmp_path: Path, make_media: MakeMedia
) -> None:
    """Four hours would be 5.5 GB. Two minutes are decoded before the limit refuses the rest."""
    bomb = hours_of_silence(tmp_path / name, 4, codec)
    small = make_media(f"small-{name}", "-c:a", codec, "-ac", "2", sample_rate_hz=48_000)
    limits = MediaLimits(max_duration_s=120)

    assert bomb.stat().st_size < 10_000_000
    # ffmpeg reads the whole index of an mp4 file, which takes more memory than its bytes in the file.
    index_mb = 8 * bomb.stat().st_size / 1e6 if name == "x.m4a" else 0
    assert peak_mb(bomb, limits) < 1.5 * peak_mb(small, limits) + index_mb
