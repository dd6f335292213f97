"""The sandbox of the real decoder: its limits, its environment, and its termination."""

import inspect
import os
import shutil
import signal
import threading
import time
import wave
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.audio.conversion import convert
from core.audio.decode import decode
from core.audio.ffmpeg import run_sandboxed
from core.audio.probe import probe
from core.audio.waveform import Block
from core.cli.export import _clips
from core.cli.sound import small_sound
from core.deadline import Deadline
from core.errors import DamagedAudio, DecoderUnavailable
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.results import Source
from core.settings import MediaLimits, SegmentationSettings
from tests.conftest import ROOT, MakeMedia
from tests.support.decoders import LIMITS, children, hours_of_silence, run_shell


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of an hour, whose decoding outlasts a test."""
    return hours_of_silence(tmp_path_factory.mktemp("silence") / "long.ogg", 1, "libopus")


@contextmanager
def running_decoder(path: Path) -> Iterator[tuple[int, Iterator[Block]]]:
    """Start a decoder, and return its process id and its remaining blocks."""
    info, before = probe(path, LIMITS), set(children())
    with closing(decode(path, info, LIMITS)) as blocks:
        next(blocks)
        (pid,) = set(children()) - before
        yield pid, blocks


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


# ---------------------------------------------------------------------------------------- output, messages and the end


def test_a_decoder_that_ended_in_time_has_not_timed_out() -> None:
    before = set(children())
    with run_sandboxed(["sh", "-c", "echo done; echo said >&2"], LIMITS, Deadline()) as decoder:
        (pid,) = set(children()) - before
        give_up_at_s = time.monotonic() + 5
        while _state(pid) != "Z":
            assert time.monotonic() < give_up_at_s
            time.sleep(0.01)
        decoder._timeout_s = 0.0
        output = decoder.read(100)

    assert (output, decoder.messages, decoder.status, decoder.timed_out) == (b"done\n", b"said\n", 0, False)


def test_a_decoder_never_times_out_with_status_0() -> None:
    """Each of these decoders ends at about its timeout."""
    limits = MediaLimits(decoder_timeout_s=0.02)

    ended = [run_shell("sleep 0.015; echo done", limits) for _ in range(50)]

    outcomes = {(decoder.timed_out, decoder.status, output) for output, decoder in ended}
    assert outcomes <= {(False, 0, b"done\n"), (True, -signal.SIGKILL, b""), (True, -signal.SIGKILL, b"done\n")}


def test_decoding_starts_no_thread(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise AssertionError("a thread was started")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    with running_decoder(long) as (_, blocks):
        assert sum(1 for _ in zip(range(60), blocks, strict=False)) == 60


def test_waiting_for_inference_does_not_count_towards_the_timeout(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited_s = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + waited_s)
    monkeypatch.setattr("core.audio.ffmpeg.time", clock)

    with running_decoder(long) as (_, blocks):
        for _ in range(5):
            waited_s += LIMITS.decoder_timeout_s
            assert next(blocks).size > 0


def test_output_that_is_not_read_is_discarded() -> None:
    output, decoder = run_shell("head -c 1000000 /dev/zero; echo end >&2", MediaLimits(decoder_timeout_s=10), 10)

    assert output == bytes(10)
    assert (decoder.status, decoder.messages, decoder.timed_out) == (0, b"end\n", False)


def test_a_flood_of_messages_does_not_block_the_output() -> None:
    output, decoder = run_shell("head -c 1000000 /dev/zero >&2; echo done; echo end >&2")

    assert (output, decoder.status) == (b"done\n", 0)
    assert decoder.messages == bytes(4092) + b"end\n"


@pytest.mark.parametrize("program", ["exec >&- 2>&-; sleep 600", "sleep 600 & exec sleep 600"])
def test_a_decoder_that_does_not_end_is_killed_at_its_timeout(program: str) -> None:
    started_s = time.monotonic()

    _, decoder = run_shell(program, MediaLimits(decoder_timeout_s=0.5))

    assert decoder.timed_out
    assert time.monotonic() - started_s < 60


def test_a_descendant_that_keeps_the_pipes_open_is_killed_at_the_timeout() -> None:
    started_s = time.monotonic()

    output, _ = run_shell("sleep 600 & echo done", MediaLimits(decoder_timeout_s=0.5))

    assert output in (b"done\n", b"")  # a busy machine may not have started the shell by then
    assert time.monotonic() - started_s < 60


# ------------------------------------------------------------------------------------------ callers that stop early


class Stopped(Exception):
    """Raised by a test in the middle of a recording."""


def _stop(*_: object) -> None:
    raise Stopped


def stop_classifying(conversation: Path, classifier: EmotionClassifier, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EmotionClassifier, "classify", _stop)
    with pytest.raises(Stopped):
        Pipeline(classifier, LIMITS, SegmentationSettings()).run(conversation, Source(key="x"))


def stop_converting(conversation: Path, _: EmotionClassifier, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(wave.Wave_write, "writeframesraw", _stop)
    with pytest.raises(Stopped):
        convert(conversation, conversation.parent, "converted", LIMITS, SegmentationSettings())


def stop_encoding_for_a_report(conversation: Path, _: EmotionClassifier, patch: pytest.MonkeyPatch) -> None:
    real = os.environ["PATH"]
    encoder = conversation.parent / "bin" / "ffmpeg"
    encoder.parent.mkdir()
    encoder.write_text(f"#!/bin/sh\ncase \"$*\" in *'-c:a aac'*) exit 1;; esac\nPATH='{real}' exec ffmpeg \"$@\"\n")
    encoder.chmod(0o755)
    patch.setenv("PATH", str(encoder.parent), prepend=os.pathsep)
    with pytest.raises(DecoderUnavailable, match="AAC"):
        small_sound(conversation, LIMITS)


def use_the_first_utterance(conversation: Path, _: EmotionClassifier, __: pytest.MonkeyPatch) -> None:
    assert len(list(_clips(conversation.parent, LIMITS, SegmentationSettings()))) == 1


@pytest.mark.parametrize(
    ("module", "stop"),
    [
        ("core.pipeline", stop_classifying),
        ("core.audio.conversion", stop_converting),
        ("core.cli.sound", stop_encoding_for_a_report),
        ("core.cli.export", use_the_first_utterance),
    ],
)
def test_a_caller_that_stops_early_ends_the_decoder(
    module: str,
    stop: Callable[[Path, EmotionClassifier, pytest.MonkeyPatch], None],
    classifier: EmotionClassifier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The generators are kept, so that garbage collection cannot end them."""
    kept = []

    def decode_and_keep(*arguments: Any) -> Generator[Block, None, None]:
        kept.append(decode(*arguments))
        return kept[-1]

    before = children()
    monkeypatch.setattr(f"{module}.decode", decode_and_keep)

    stop(Path(shutil.copy(ROOT / "samples" / "conversation.ogg", tmp_path)), classifier, monkeypatch)

    assert [inspect.getgeneratorstate(blocks) for blocks in kept] == [inspect.GEN_CLOSED]
    assert children() == before


def test_a_number_arrives_before_the_output_that_follows_it() -> None:
    """It takes another pipe than the output, and may come in two parts. ffmpeg 9 adds a prefix."""
    part = "printf 'a message\\n[Eval @ 0x7f1e] -%s.2' $i >&2; printf '50000\\n' >&2; printf %4000s x"
    script = f"for i in 1 2 3 4 5 6 7 8; do {part}; done; printf 'last words' >&2"
    numbers: list[float] = []
    with run_sandboxed(["sh", "-c", script], LIMITS, Deadline()) as decoder:
        for parts in range(1, 9):
            assert len(decoder.read(4000)) == 4000
            numbers += decoder.numbers()
            assert len(numbers) >= parts

    assert numbers == [-(number + 0.25) for number in range(1, 9)]
    assert decoder.messages == b"a message\n" * 8 + b"last words\n"


def test_numbers_arrive_before_the_output_however_many_they_are() -> None:
    script = "for k in $(seq 500); do echo $k.000000 >&2; done; printf 1234"

    with run_sandboxed(["sh", "-c", script], LIMITS, Deadline()) as decoder:
        assert decoder.read(4) == b"1234"
        assert decoder.numbers() == [*range(1, 501)]
