"""Makes the recordings in samples/ from voices and sentences outside the demo checkpoint's training data.

    python -m models.demo.make_samples

The recordings cover every emotion, several formats, unusual file names and a conversation. At the end the demo
checkpoint classifies them, and the script prints its scores. Needs espeak-ng and ffmpeg.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import torch

from core.audio.waveform import SAMPLE_RATE_HZ, Waveform
from core.checkpoints.checkpoint import read_checkpoint
from core.checkpoints.network import SpeechNetwork
from core.model.preprocessing import normalise
from models.demo.sentences import HELD_OUT_ENGLISH, HELD_OUT_MANDARIN
from models.demo.synthesise import LABELS, Line, speak
from models.demo.train import CHECKPOINT

SAMPLES = Path("samples")

_MARGIN_S = 0.2
_PAUSE_S = 1.0
"""Long enough for every voice activity detector to cut at."""
_NOISE_DB = -65.0


@dataclass(frozen=True)
class Sample:
    """One file, named after its emotion and format. `encoder` has ffmpeg's arguments."""

    file_name: str
    line: Line
    encoder: tuple[str, ...]


_OPUS = ("-c:a", "libopus", "-b:a", "24k")
_EN = HELD_OUT_ENGLISH
_CMN = HELD_OUT_MANDARIN

RECORDINGS = (
    Sample("anger.wav", Line("anger", "en-gb+m4", _EN[6], 1), ("-c:a", "pcm_s16le")),
    Sample("happy.mp3", Line("happy", "en-us+f3", _EN[0], 2), ("-c:a", "libmp3lame", "-b:a", "48k")),
    Sample("sad.m4a", Line("sad", "en-gb-scotland+m6", _EN[11], 3), ("-c:a", "aac", "-b:a", "48k")),
    Sample("surprise.ogg", Line("surprise", "en-gb+f4", _EN[1], 4), _OPUS),
    Sample("neutral.flac", Line("neutral", "en-us+travis", _EN[7], 5), ("-c:a", "flac", "-sample_fmt", "s16")),
    Sample("fear.webm", Line("fear", "en-029+f3", _EN[8], 6), _OPUS),
    Sample("sad 8kHz mu-law.wav", Line("sad", "en-us+f4", _EN[2], 7), ("-ar", "8000", "-c:a", "pcm_mulaw")),
    Sample(
        "surprise stereo 48kHz.m4a",
        Line("surprise", "en-us+m4", _EN[5], 8),
        ("-ar", "48000", "-ac", "2", "-c:a", "aac", "-b:a", "96k"),
    ),
    Sample("anger loud+clear.mp3", Line("anger", "en-us+Andrea", _EN[4], 9), ("-c:a", "libmp3lame", "-b:a", "48k")),
    Sample("happy 高兴.flac", Line("happy", "cmn-latn-pinyin+m6", _CMN[0], 10), ("-c:a", "flac", "-sample_fmt", "s16")),
    Sample("neutral 平静.ogg", Line("neutral", "cmn-latn-pinyin+f4", _CMN[3], 11), _OPUS),
)

CONVERSATION = (
    Line("neutral", "en-gb+m4", _EN[3], 21),
    Line("neutral", "en-gb+f4", _EN[4], 22),
    Line("anger", "en-gb+m4", _EN[8], 23),
    Line("anger", "en-gb+m4", _EN[7], 24),
    Line("anger", "en-gb+f4", _EN[10], 25),
    Line("anger", "en-gb+m4", _EN[6], 26),
    Line("anger", "en-gb+m4", _EN[5], 27),
)
CONVERSATION_FILE = "conversation.ogg"


class Spoken(TypedDict):
    """An utterance of the conversation in expected.json."""

    start_s: float
    end_s: float
    emotion: str


class Expected(TypedDict):
    """A file in expected.json; only the conversation has `utterances`."""

    emotion: str
    utterances: NotRequired[list[Spoken]]


def make() -> dict[str, Expected]:
    """Write every sample, and return the content of expected.json."""
    SAMPLES.mkdir(exist_ok=True)
    expected: dict[str, Expected] = {}
    for sample in RECORDINGS:
        encode(_with_room(speak(sample.line), sample.line.seed), SAMPLES / sample.file_name, sample.encoder)
        expected[sample.file_name] = {"emotion": sample.line.emotion}
    waveform, utterances = _conversation()
    encode(waveform, SAMPLES / CONVERSATION_FILE, _OPUS)
    spoken_s = {label: sum(u["end_s"] - u["start_s"] for u in utterances if u["emotion"] == label) for label in LABELS}
    expected[CONVERSATION_FILE] = {"emotion": max(spoken_s, key=spoken_s.__getitem__), "utterances": utterances}
    document = json.dumps(expected, indent=2, ensure_ascii=False)
    (SAMPLES / "expected.json").write_text(document + "\n", encoding="utf-8")
    return expected


def _with_room(waveform: Waveform, seed: int) -> Waveform:
    """Add short margins and a room's faint noise, because microphones do not record digital silence."""
    margin = round(_MARGIN_S * SAMPLE_RATE_HZ)
    padded = np.pad(waveform, (margin, margin))
    noise = 10 ** (_NOISE_DB / 20) * np.random.default_rng(seed).normal(size=padded.size)
    return (padded + noise).astype(np.float32)


def _conversation() -> tuple[Waveform, list[Spoken]]:
    pause = np.zeros(round(_PAUSE_S * SAMPLE_RATE_HZ), np.float32)
    parts: list[Waveform] = []
    utterances: list[Spoken] = []
    at = round(_MARGIN_S * SAMPLE_RATE_HZ)
    for line in CONVERSATION:
        spoken = speak(line)
        end = at + spoken.size
        start_s, end_s = round(at / SAMPLE_RATE_HZ, 2), round(end / SAMPLE_RATE_HZ, 2)
        utterances.append({"start_s": start_s, "end_s": end_s, "emotion": line.emotion})
        parts += [spoken, pause]
        at = end + pause.size
    return _with_room(np.concatenate(parts[:-1]), seed=0), utterances


def encode(waveform: Waveform, file: Path, encoder: tuple[str, ...]) -> None:
    """Write a file with ffmpeg, whose bit-exact flags omit dates, serial numbers and versions."""
    command = ["ffmpeg", "-v", "error", "-y", "-f", "f32le", "-ar", str(SAMPLE_RATE_HZ), "-ac", "1", "-i", "pipe:0"]
    command += [*encoder, "-map_metadata", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact", f"file:{file}"]
    subprocess.run(command, input=np.clip(waveform, -1, 1).astype("<f4").tobytes(), check=True, timeout=60)


def decode(file: Path) -> Waveform:
    """Read a file as mono samples at 16 kHz, shape ``(n,)``."""
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        f"file:{file}",
        "-ac",
        "1",
        "-ar",
        str(SAMPLE_RATE_HZ),
        "-f",
        "f32le",
        "-",
    ]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout, "<f4")


def classify(network: SpeechNetwork, waveform: Waveform) -> tuple[str, float]:
    """Return the emotion with the highest score, and the score."""
    with torch.inference_mode():
        scores = network(torch.from_numpy(normalise(waveform))[None]).softmax(-1)[0]
    return LABELS[int(scores.argmax())], float(scores.max())


def main() -> None:
    """Make the samples and classify them."""
    network = read_checkpoint(CHECKPOINT).network
    for file_name, expectation in make().items():
        waveform = decode(SAMPLES / file_name)
        about = f"{file_name}, {waveform.size / SAMPLE_RATE_HZ:.1f} s, {(SAMPLES / file_name).stat().st_size} bytes"
        if "utterances" not in expectation:
            emotion, score = classify(network, waveform)
            print(f"{about}: {expectation['emotion']} expected, {emotion} classified ({score:.3f})")
            continue
        print(f"{about}: {expectation['emotion']} expected")
        for utterance in expectation["utterances"]:
            start, end = utterance["start_s"] * SAMPLE_RATE_HZ, utterance["end_s"] * SAMPLE_RATE_HZ
            emotion, score = classify(network, waveform[round(start) : round(end)])
            print(f"  from {utterance['start_s']:5.2f} s: {utterance['emotion']} expected, {emotion} ({score:.3f})")


if __name__ == "__main__":
    main()
