"""Decoders that a test starts, and recordings that outlast it."""

import os
import subprocess
from pathlib import Path

from core.audio.ffmpeg import Decoder, run_sandboxed
from core.deadline import Deadline
from core.settings import MediaLimits

LIMITS = MediaLimits()


def hours_of_silence(path: Path, hours: int, codec: str) -> Path:
    """Write a recording that repeats one encoded minute."""
    minute = path.with_stem("minute")
    silence = ["-f", "lavfi", "-i", "anullsrc=r=48000:cl=stereo:d=60", "-c:a", codec, str(minute)]
    repeated = ["-stream_loop", str(60 * hours - 1), "-i", str(minute), "-c", "copy", str(path)]
    for command in (silence, repeated):
        subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *command], check=True, timeout=60)
    return path


def children() -> list[int]:
    return [int(child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def run_shell(program: str, limits: MediaLimits = LIMITS, size: int = 100) -> tuple[bytes, Decoder]:
    with run_sandboxed(["sh", "-c", program], limits, Deadline()) as decoder:
        output = decoder.read(size)
    return output, decoder
