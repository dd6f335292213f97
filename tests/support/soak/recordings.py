"""Recordings that ffmpeg makes from the samples: formats, durations, one or two voices, and damaged files."""

import random
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLES = Path("samples")

_ENCODINGS: dict[str, Sequence[str]] = {
    "16 kHz.wav": ("-ar", "16000", "-c:a", "pcm_s16le"),
    "44 kHz float.wav": ("-ar", "44100", "-c:a", "pcm_f32le"),
    "8 kHz mu-law.wav": ("-ar", "8000", "-c:a", "pcm_mulaw"),
    "64k.mp3": ("-ar", "44100", "-c:a", "libmp3lame", "-b:a", "64k"),
    "aac.m4a": ("-ar", "48000", "-c:a", "aac", "-b:a", "64k"),
    "opus.ogg": ("-c:a", "libopus", "-b:a", "24k"),
    "opus.webm": ("-c:a", "libopus", "-b:a", "24k"),
    "48 kHz.flac": ("-ar", "48000", "-c:a", "flac"),
    "aiff.aiff": ("-ar", "22050", "-c:a", "pcm_s16be"),
}

_DURATIONS_S: dict[float | None, int] = {None: 80, 0.6: 5, 5.9: 8, 12.0: 5, 45.0: 2}
"""Weights of the durations. None keeps the sample's own."""

_LAYOUTS = {"mono": 75, "both alike": 10, "two voices": 15}
"""Weights of the channel layouts."""


@dataclass(frozen=True)
class Recording:
    """A file to upload."""

    path: Path
    kind: str
    bad: bool


def good_recordings(folder: Path, count: int, seed: int) -> list[Recording]:
    """Make different recordings of speech."""
    chance = random.Random(seed)
    samples = sorted(file for file in SAMPLES.iterdir() if file.suffix not in (".json", ".md"))
    made = []
    for number in range(count):
        encoding = chance.choice(list(_ENCODINGS))
        duration_s = chance.choices(list(_DURATIONS_S), list(_DURATIONS_S.values()))[0]
        layout = chance.choices(list(_LAYOUTS), list(_LAYOUTS.values()))[0]
        path = folder / f"{number:04d} {encoding}"
        _encode(chance.sample(samples, 2), path, encoding, duration_s, layout)
        made.append(Recording(path, f"{encoding}, {layout}, {duration_s or 'original'}", bad=False))
    return made


def _encode(voices: Sequence[Path], path: Path, encoding: str, duration_s: float | None, layout: str) -> None:
    inputs: list[str | Path] = []
    for voice in voices[: 2 if layout == "two voices" else 1]:
        inputs += ["-stream_loop", "-1" if duration_s else "0", "-i", voice]
    channels = ["-ac", "1" if layout == "mono" else "2"]
    if layout == "two voices":
        channels = ["-filter_complex", "[0:a]aresample=16000,pan=mono|c0=c0[a];[1:a]aresample=16000,pan=mono|c0=c0[b];"]
        channels[1] += "[a][b]join=inputs=2:channel_layout=stereo"
    length = ["-t", str(duration_s)] if duration_s else []
    _ffmpeg(*inputs, *channels, *_ENCODINGS[encoding], *length, path)


def _ffmpeg(*arguments: str | Path) -> None:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *arguments]
    subprocess.run(command, check=True, timeout=120)


def bad_recordings(folder: Path, seed: int) -> list[Recording]:
    """Make one file of each kind that contains no speech or cannot be decoded."""
    chance = random.Random(seed)
    whole = folder / "whole.m4a"
    _ffmpeg("-i", SAMPLES / "anger.wav", "-c:a", "aac", whole)
    makers: dict[str, Callable[[Path], object]] = {
        "empty.wav": lambda path: path.write_bytes(b""),
        "text.mp3": lambda path: path.write_text("This is not a recording.\n" * 50, encoding="utf-8"),
        "noise.ogg": lambda path: path.write_bytes(chance.randbytes(20_000)),
        "header only.wav": lambda path: path.write_bytes((SAMPLES / "anger.wav").read_bytes()[:44]),
        "truncated.m4a": lambda path: path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2]),
        "picture.mp3": lambda path: _ffmpeg("-f", "lavfi", "-i", "color=c=red:s=64x64:d=1", "-f", "apng", path),
        "silent film.mp4": lambda path: _ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x64:d=2", "-c:v", "mpeg4", path),
        "playlist.wav": lambda path: path.write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", encoding="utf-8"),
        "silence.flac": lambda path: _ffmpeg("-f", "lavfi", "-i", "anullsrc=r=16000:d=3", path),
    }
    made = []
    for name, make in makers.items():
        path = folder / f"bad {name}"
        make(path)
        made.append(Recording(path, name, bad=True))
    return made
