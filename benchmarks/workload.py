"""How long the function takes for a recording, at each memory size, from what `service_times` measured."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.settings import MEMORY_MB_PER_VCPU, FunctionSettings

MEASURED = Path(__file__).with_name("service_times.json")

MEMORY_SIZES_MB = (1769, 3538, 5307, 7076, 10_240)

DURATIONS_S = (1.0, 2.0, 4.0, 6.0)
"""Of the utterances that were measured."""

SECOND_THREAD = 1.7
"""How many times faster two threads are: without VNNI, on two idle cores, 1.62, 1.71, 1.75 and 1.73 times for 1, 2, 4
and 6 s in int8, and 1.71, 1.75, 1.69 and 1.72 in fp32. With VNNI it is an assumption."""

S3_WAIT_S = 0.15
"""For S3's eight answers, one after another, at some 20 ms each. An assumption: there is no S3 here to be measured."""


@dataclass(frozen=True)
class Processor:
    """What was measured on one processor, in seconds of one thread.

    Attributes
    ----------
    utterance_s, per_second_s
        Inference: for each utterance, and for each second of it.
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
    recording_s: float
    audio_second_s: float
    start_s: float
    window_s: float


def speedup(memory_mb: int) -> float:
    """Of inference, by Amdahl's law from that of the second thread; beyond two an extrapolation."""
    parallel = 2 * (1 - 1 / SECOND_THREAD)
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
        return self.inference_s(processor) / speedup(memory_mb) + around_s + S3_WAIT_S


CLIP = Workload("a single utterance of 2 s", 2.0, 1, 2.0)
CALL = Workload("a call of 5 min, two thirds of it speech", 300.0, 120, 1.67)
"""As dense as samples/conversation.ogg: seven utterances of 1.7 s in 17.8 s."""


def longest_call_s(processor: Processor, memory_mb: int, timeout_s: float) -> float:
    """How long a call may be, with as much speech in it as `CALL`, to be finished before the function's time is up."""
    margin_s: float = FunctionSettings.model_fields["deadline_margin_s"].default
    once_s = processor.recording_s + S3_WAIT_S
    per_second_s = (CALL.service_s(processor, memory_mb) - once_s) / CALL.duration_s
    return (timeout_s - margin_s - once_s) / per_second_s


def _measured(figures: Mapping[str, Any], precision: str, name: str) -> Processor:
    """From what `service_times` notes; an utterance's time is a line through the four durations."""
    per_second_s, utterance_s = np.polyfit(DURATIONS_S, figures[f"{precision}_s"], 1)
    return Processor(
        name,
        float(utterance_s),
        float(per_second_s),
        figures["recording_s"],
        figures["audio_second_s"],
        figures[f"{precision}_start_s"],
        figures["reference_window_s"],
    )


def processors(file: Path = MEASURED) -> list[Processor]:
    """What was measured on each machine, or is assumed of it, int8 before fp32."""
    figures = json.loads(file.read_text(encoding="utf-8"))
    return [
        _measured({**on_machine, **on_machine.get("assumed", {})}, precision, f"{precision}, {name}")
        for name, on_machine in figures.items()
        for precision in ("int8", "fp32")
    ]
