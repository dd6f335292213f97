"""How long the function takes for a recording, at each memory size, from what `service_times` measured."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.settings import MEMORY_MB_PER_VCPU

MEASURED = Path(__file__).with_name("service_times.json")

MEMORY_SIZES_MB = (1769, 3538, 5307, 7076, 10_240)

SECOND_THREAD = {"int8": 1.57, "fp32": 2.0}
"""How many times faster two threads are, of a window of six seconds on two idle cores with VNNI: 440 to 280 ms in int8,
1,050 to 501 ms in fp32. Without VNNI it was 1.56 and 1.91 times."""

DEBIANS_FFMPEG_S, OWN_FFMPEG_S = 0.214, 0.006
"""What starting ffprobe and ffmpeg takes of each recording: Debian's, and the image's own (docs/performance.md)."""

S3_WAIT_S = 0.15
"""For S3's eight answers, one after another, at some 20 ms each. An assumption: there is no S3 here to be measured."""


@dataclass(frozen=True)
class Processor:
    """What was measured on one processor, in seconds of one thread.

    Attributes
    ----------
    utterance_s, per_second_s
        Inference: for each utterance, and for each second of it.
    second_thread
        How many times faster two threads are.
    recording_s, audio_second_s
        Everything around inference: for each recording, and for each second of it.
    start_s
        From the start of Python to a handler with its model.
    window_s
        transformers, for an utterance of any length.
    """

    name: str
    utterance_s: float
    per_second_s: float
    second_thread: float
    recording_s: float
    audio_second_s: float
    start_s: float
    window_s: float

    def speedup(self, memory_mb: int) -> float:
        """Of inference, by Amdahl's law from that of the second thread; beyond two an extrapolation."""
        parallel = 2 * (1 - 1 / self.second_thread)
        vcpus = memory_mb / MEMORY_MB_PER_VCPU
        return 1 / ((1 - parallel) + parallel / vcpus)


@dataclass(frozen=True)
class Workload:
    """Recordings of one kind."""

    name: str
    duration_s: float
    utterances: float
    utterance_s: float

    @property
    def recordings(self) -> float:
        """In a thousand hours of audio."""
        return 1000 * 3600 / self.duration_s

    def inference_s(self, processor: Processor) -> float:
        """At one thread."""
        return self.utterances * (processor.utterance_s + processor.per_second_s * self.utterance_s)

    def service_s(self, processor: Processor, memory_mb: int) -> float:
        """What Lambda bills for one recording in a warm environment."""
        around_s = processor.recording_s + processor.audio_second_s * self.duration_s
        return self.inference_s(processor) / processor.speedup(memory_mb) + around_s + S3_WAIT_S


CLIP = Workload("a single utterance of 2 s", 2.0, 1, 2.0)
CALL = Workload("a call of 5 min, two thirds of it speech", 300.0, 120, 1.67)
"""As dense as samples/conversation.ogg: seven utterances of 1.7 s in 17.8 s."""


def _measured(figures: Mapping[str, float], precision: str, name: str) -> Processor:
    """From what `service_times` notes; as it would be with the image's own ffmpeg."""
    saved_s = DEBIANS_FFMPEG_S - OWN_FFMPEG_S if figures.get("debians_ffmpeg") else 0.0
    return Processor(
        name,
        figures[f"{precision}_utterance_s"],
        figures[f"{precision}_per_second_s"],
        SECOND_THREAD[precision],
        max(OWN_FFMPEG_S, figures["recording_s"] - saved_s),
        figures["audio_second_s"],
        figures[f"{precision}_start_s"],
        figures["reference_window_s"],
    )


def processors(file: Path = MEASURED) -> list[Processor]:
    """What was measured on each machine, int8 before fp32."""
    figures = json.loads(file.read_text(encoding="utf-8"))
    return [
        _measured(on_machine, precision, f"{precision}, {name}")
        for name, on_machine in figures.items()
        for precision in ("int8", "fp32")
    ]
