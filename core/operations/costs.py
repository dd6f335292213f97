"""Billed seconds and dollars of recordings on Lambda, calculated from processor times and list prices.

docs/scale.md has the tables (`python -m benchmarks.costs`). `audio-emotion benchmark` compares a deployed function with
them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from core.operations.prices import (
    INVOCATION_USD,
    LEASE_PUTS,
    RESULT_PUTS,
    RESULT_READS,
    S3_READ_USD,
    S3_WRITE_USD,
    SQS_REQUEST_USD,
    SQS_REQUESTS,
    UPLOAD_READS,
    function_usd,
)
from core.settings import MEMORY_MB_PER_VCPU

HOURS = 1000
"""Costs are those of this many hours of audio."""

TMP_MB = 2560
"""EphemeralStorageMb of template.yaml."""
S3_WAIT_S = 0.15
"""Seven S3 requests of about 21 ms each. An assumption."""
SECOND_THREAD = 1.7
"""Two threads on two vCPUs are 1.62 to 1.75 times as fast as one with AVX2 only (`benchmarks.speed`). VNNI and arm64
are not measured."""


@dataclass(frozen=True)
class Processor:
    """Processor times of one thread, in seconds, with the int8 package at the published size.

    Attributes
    ----------
    architecture
        `x86_64` or `arm64`, as Lambda names them.
    utterances_s
        Inference, by the utterance's duration in seconds (`benchmarks.speed`).
    reference_s
        Inference in transformers, for any duration; None if unknown.
    is_modelled
        Whether the inference times are calculated from instruction counts instead of measured.
    recording_s, audio_second_s
        Decoding and segmentation, for a recording and for each second of it (`benchmarks.stages`).
    """

    name: str
    architecture: str
    utterances_s: Mapping[int, float]
    reference_s: float | None = None
    is_modelled: bool = False
    recording_s: float = 0.0095
    audio_second_s: float = 0.0052

    @property
    def label(self) -> str:
        """The name, with a mark if the times are modelled."""
        return f"{self.name} (modelled)" if self.is_modelled else self.name

    def inference_s(self, duration_s: float) -> float:
        """Return the time of one utterance, from the line through the given durations."""
        slope, offset = np.polyfit(list(self.utterances_s), list(self.utterances_s.values()), 1)
        return float(offset + slope * duration_s)


PROCESSORS = (
    Processor("VNNI", "x86_64", {1: 0.155, 2: 0.219, 4: 0.335, 6: 0.414}, 1.349),
    Processor("AVX2 only", "x86_64", {1: 0.661, 2: 1.053, 4: 1.888, 6: 2.328}, 2.575),
    Processor("Graviton2", "arm64", {1: 0.286, 2: 0.451, 6: 1.022}, is_modelled=True),
)
"""AMD EPYC, measured on 23 and 24 November 2026, and Lambda's arm64, modelled (docs/decisions/0051-costs-of-arm64.md).

Decoding and segmentation were measured with AVX2 only, and are assumed for the others.
"""


@dataclass(frozen=True)
class Workload:
    """Recordings of one kind.

    Attributes
    ----------
    utterance_s
        Duration of what the classifier gets of each utterance.
    """

    name: str
    duration_s: float
    utterances: int
    utterance_s: float

    @property
    def recordings(self) -> float:
        """The number of recordings in a thousand hours."""
        return HOURS * 3600 / self.duration_s

    def service_s(self, processor: Processor, memory_mb: int) -> float:
        """Return the time that Lambda bills for one recording in a warm environment."""
        inference_s = self.utterances * processor.inference_s(self.utterance_s)
        around_s = processor.recording_s + processor.audio_second_s * self.duration_s
        return inference_s / speedup(memory_mb) + around_s + S3_WAIT_S


CLIP = Workload("utterance of 2 s", 2.0, 1, 2.0)
SPEECH_S, PAUSES_S = 1.67, 1.0
"""Speech of an utterance in a call, and the parts of the pauses around it that the classifier gets too
(docs/decisions/0013-audio-around-an-utterance.md)."""
CALL = Workload("call of 5 min", 300.0, 120, SPEECH_S + PAUSES_S)
"""Speech in two thirds of it, as in samples/conversation.ogg."""


def speedup(memory_mb: int) -> float:
    """Return inference's speed by Amdahl's law, relative to one vCPU. One and two vCPUs are measured."""
    parallel = 2 * (1 - 1 / SECOND_THREAD)
    return 1 / ((1 - parallel) + parallel * MEMORY_MB_PER_VCPU / memory_mb)


def lambda_usd(
    workload: Workload, service_s: float, memory_mb: int, architecture: str, *, tmp_mb: int = TMP_MB
) -> float:
    """Return dollars for a thousand hours: the function, /tmp, the queue and S3, without storage and logs.

    Parameters
    ----------
    service_s
        Billed time of one recording.
    """
    time = function_usd(service_s, memory_mb, architecture, tmp_mb=tmp_mb)
    s3 = (RESULT_PUTS + LEASE_PUTS) * S3_WRITE_USD + (UPLOAD_READS + RESULT_READS) * S3_READ_USD
    return workload.recordings * (time + INVOCATION_USD + s3 + SQS_REQUESTS * SQS_REQUEST_USD)


def expected_usd(workload: Workload, processor: Processor, memory_mb: int) -> float:
    """Return dollars for a thousand hours on one of `PROCESSORS`."""
    return lambda_usd(workload, workload.service_s(processor, memory_mb), memory_mb, processor.architecture)
