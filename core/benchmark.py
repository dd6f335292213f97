"""A benchmark of this process: the time that it takes for speech that the image contains.

`audio-emotion benchmark` invokes a deployed function with it. The recordings run through the function's own pipeline,
from the file to the result: probe, decode, segmentation and inference.
"""

import time
import wave
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
from pydantic import Field

from core import __version__
from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.waveform import SAMPLE_RATE_HZ, Waveform
from core.deadline import Deadline
from core.errors import BenchmarkFailed
from core.machine import architecture, cores, peak_memory_mb, processor_name, start_ms, vector_flags
from core.paths import SAMPLES
from core.pipeline import Pipeline
from core.results import Model, Result, Source
from core.results.fields import Part
from core.scratch import scratch_folder
from core.settings import MediaLimits

CALL_FILE = "conversation.ogg"
"""A recording in samples/ of 18 seconds, with seven utterances and pauses of one second."""

CLIPS_S = (1, 2, 4, 6)
"""Durations of the clips, each of which is one utterance."""

DEFAULT_ROUNDS, MAX_ROUNDS = 5, 50
MAX_DURATION_S = 180.0
"""No round begins after this time, so that a benchmark ends within five minutes."""

_ROUND_MARGIN = 1.5
"""A round begins only if so many of the longest one would fit, because rounds on a shared processor differ."""
_SPEECH_FROM_S = 0.2
"""Where the speech begins in the call."""


class Request(Part):
    """The options of the benchmark event."""

    rounds: int = Field(default=DEFAULT_ROUNDS, ge=1, le=MAX_ROUNDS, strict=True)


class Measurement(Part):
    """The times of one recording, one for each round.

    Attributes
    ----------
    total_ms
        From the file to the result.
    inference_ms
        The part that was spent in the model.
    """

    name: str
    duration_s: float
    utterances: int
    total_ms: tuple[float, ...]
    inference_ms: tuple[int, ...]

    @property
    def median_total_ms(self) -> float:
        """The median over the rounds."""
        return median(self.total_ms)

    @property
    def median_inference_ms(self) -> float:
        """The median over the rounds."""
        return median(self.inference_ms)


class Answer(Part):
    """The outcome of a benchmark.

    Attributes
    ----------
    start_ms
        Time from the start of the process until the model was loaded.
    peak_memory_mb
        The process's peak memory, without that of ffmpeg.
    """

    version: str
    processor: str
    architecture: str
    flags: tuple[str, ...]
    cores: int
    threads: int
    model: Model
    speakers: str
    start_ms: int | None
    peak_memory_mb: int | None
    recordings: Annotated[tuple[Measurement, ...], Field(min_length=1)]

    @property
    def rounds(self) -> int:
        """The number of measured rounds."""
        return len(self.recordings[0].total_ms)

    @property
    def clips(self) -> dict[int, Measurement]:
        """Duration in seconds -> the clip of this duration."""
        return dict(zip(CLIPS_S, self.recordings, strict=False))

    @property
    def call(self) -> Measurement:
        """The call."""
        return self.recordings[-1]


def run(request: Request, pipeline: Pipeline, deadline: Deadline, threads: int) -> Answer:
    """Classify the built-in speech in as many rounds as requested, or as fit before the deadline.

    A first round is not measured: it loads the pages of the model into memory.

    Parameters
    ----------
    threads
        The number of threads that the pipeline computes with.

    Raises
    ------
    BenchmarkFailed
        If a recording cannot be classified, or the first round leaves no time for a measured one.
    """
    until = deadline.sooner(MAX_DURATION_S)
    with scratch_folder() as folder:
        files = write_recordings(folder)
        started = time.monotonic()
        results = [_classify(file, pipeline, deadline)[0] for file in files]
        round_s = time.monotonic() - started
        times: list[list[tuple[Result, float]]] = []
        while len(times) < request.rounds and _ROUND_MARGIN * round_s < until.remaining_s:
            started = time.monotonic()
            times.append([_classify(file, pipeline, deadline) for file in files])
            round_s = max(round_s, time.monotonic() - started)
    if not times:
        raise BenchmarkFailed(
            f"One round takes {round_s:.0f} s, and the function's timeout leaves no time for a second one. Raise "
            "TimeoutS or MemorySizeMb."
        )
    rounds_of_each = list(zip(*times, strict=True))
    return Answer(
        version=__version__,
        processor=processor_name(),
        architecture=architecture(),
        flags=vector_flags(),
        cores=cores(),
        threads=threads,
        model=pipeline.model,
        speakers=pipeline.speakers.mode,
        start_ms=start_ms(),
        peak_memory_mb=peak_memory_mb(),
        recordings=tuple(_measurement(*each) for each in zip(files, results, rounds_of_each, strict=True)),
    )


def write_recordings(folder: Path) -> list[Path]:
    """Write the clips, and return their paths and that of the call, with the name of each as its stem."""
    call = SAMPLES / CALL_FILE
    limits = MediaLimits()
    speech = np.concatenate(list(decode(call, probe(call, limits), limits)), axis=1)[0]
    first = round(_SPEECH_FROM_S * SAMPLE_RATE_HZ)
    files = []
    for duration_s in CLIPS_S:
        file = folder / f"{duration_s} s.wav"
        _write_wav(file, speech[first : first + duration_s * SAMPLE_RATE_HZ])
        files.append(file)
    return [*files, call]


def _write_wav(file: Path, waveform: Waveform) -> None:
    with wave.open(str(file), "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(SAMPLE_RATE_HZ)
        written.writeframes(np.rint(np.clip(waveform, -1, 1) * 32_767).astype("<i2").tobytes())


def _classify(file: Path, pipeline: Pipeline, deadline: Deadline) -> tuple[Result, float]:
    """Return the result of a recording, and the time that it took in milliseconds."""
    started = time.perf_counter()
    result = pipeline.run(file, Source(key=file.name), deadline=deadline)
    took_ms = (time.perf_counter() - started) * 1000
    if result.error:
        raise BenchmarkFailed(f"The built-in recording {file.name} cannot be classified: {result.error.message}")
    if not result.utterances:
        raise BenchmarkFailed(f"No speech was found in the built-in recording {file.name}.")
    return result, took_ms


def _measurement(file: Path, result: Result, rounds: Sequence[tuple[Result, float]]) -> Measurement:
    assert result.audio is not None  # because it was classified
    return Measurement(
        name=file.stem,
        duration_s=result.audio.duration_s,
        utterances=len(result.utterances),
        total_ms=tuple(round(took_ms, 2) for _, took_ms in rounds),
        inference_ms=tuple(each.processing.inference_ms for each, _ in rounds),
    )
