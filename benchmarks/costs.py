"""Service times, drain times and prices, calculated from measured processor times and AWS's documented limits.

`python -m benchmarks.costs` prints the tables of docs/scale.md and docs/decisions/0034-prices.md. Nothing runs on AWS.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.operations.backfill import (
    GB_S_USD,
    INVOCATION_USD,
    LEASE_DELETES,
    LEASE_PUTS,
    RESULT_PUTS,
    RESULT_READS,
    S3_READ_USD,
    S3_WRITE_USD,
    UPLOAD_READS,
)
from core.settings import MEMORY_MB_PER_VCPU, FunctionSettings
from tests.support.tables import show

MEMORY_SIZES_MB = (1769, 3008, 5307, 7076, 10_240)
DEPLOYED_MEMORY_MB = 3008
"""MemorySizeMb of template.yaml."""
TIMEOUTS_S = (300, 600, 900)

SECOND_THREAD = 1.7
"""Two threads on two vCPUs are 1.62 to 1.75 times as fast as one with AVX2 only (`benchmarks.speed`). VNNI is not
measured."""
S3_WAIT_S = 0.15
"""Seven S3 requests of about 21 ms each. An assumption."""

S3_WRITES_PER_S = 3500
"""PUT and DELETE requests for each partition; a new bucket has one."""
FIRST_POLLERS, POLLERS_PER_S = 5, 5
"""An event source mapping starts with 5 concurrent batches and adds 300 a minute."""

# US dollars in us-east-1. docs/scale.md has the source and date of each.
LAMBDA_GB_S = {"x86_64": GB_S_USD, "arm64": 0.0000133334}
LAMBDA_TMP_GB_S = 0.0000000309
TMP_MB, FREE_TMP_MB = 2560, 512
"""EphemeralStorageMb of template.yaml. Lambda bills the part above 512 MB."""
SQS_REQUEST, SQS_REQUESTS = 0.40 / 1e6, 3
"""A message is sent, received and deleted."""
SERVER_HOUR, SERVER_VCPUS = 0.2016, 4
"""m7i.xlarge."""
APIS_PER_HOUR = {
    "Hume AI, Expression Measurement, audio only ($0.0639 a minute)": 0.0639 * 60,
    "AssemblyAI, transcription with sentiment of the text ($0.37 + $0.02 an hour)": 0.39,
    "Deepgram, Nova-3 transcription, without sentiment ($0.0048 a minute)": 0.0048 * 60,
}


@dataclass(frozen=True)
class Processor:
    """Processor times of one thread, in seconds, with the int8 package at the published size.

    Attributes
    ----------
    utterances_s
        Inference, by the utterance's duration in seconds (`benchmarks.speed`).
    reference_s
        Inference in transformers, for any duration.
    recording_s, audio_second_s
        Decoding and segmentation, for a recording and for each second of it (`benchmarks.stages`).
    """

    name: str
    utterances_s: Mapping[int, float]
    reference_s: float
    recording_s: float = 0.0095
    audio_second_s: float = 0.0052

    def inference_s(self, duration_s: float) -> float:
        """Return the time of one utterance, from the line through the measured durations."""
        slope, offset = np.polyfit(list(self.utterances_s), list(self.utterances_s.values()), 1)
        return float(offset + slope * duration_s)


PROCESSORS = (
    Processor("VNNI", {1: 0.155, 2: 0.219, 4: 0.335, 6: 0.414}, 1.349),
    Processor("AVX2 only", {1: 0.661, 2: 1.053, 4: 1.888, 6: 2.328}, 2.575),
)
"""AMD EPYC, measured on 23 and 24 November 2026. Decoding and segmentation were measured with AVX2 only."""


@dataclass(frozen=True)
class Workload:
    """Recordings of one kind."""

    name: str
    duration_s: float
    utterances: int
    utterance_s: float

    @property
    def recordings(self) -> float:
        """The number of recordings in a thousand hours."""
        return 1000 * 3600 / self.duration_s

    def service_s(self, processor: Processor, memory_mb: int) -> float:
        """Return the time that Lambda bills for one recording in a warm environment."""
        inference_s = self.utterances * processor.inference_s(self.utterance_s)
        around_s = processor.recording_s + processor.audio_second_s * self.duration_s
        return inference_s / speedup(memory_mb) + around_s + S3_WAIT_S


CLIP = Workload("utterance of 2 s", 2.0, 1, 2.0)
CALL = Workload("call of 5 min", 300.0, 120, 1.67)
"""Speech in two thirds of it, as in samples/conversation.ogg."""


def speedup(memory_mb: int) -> float:
    """Return inference's speed by Amdahl's law, relative to one vCPU. One and two vCPUs are measured."""
    parallel = 2 * (1 - 1 / SECOND_THREAD)
    return 1 / ((1 - parallel) + parallel * MEMORY_MB_PER_VCPU / memory_mb)


def longest_call_s(processor: Processor, memory_mb: int, timeout_s: float) -> float:
    """Return how long a call like `CALL` may be to finish within the function's timeout."""
    margin_s: float = FunctionSettings.model_fields["deadline_margin_s"].default
    once_s = processor.recording_s + S3_WAIT_S
    per_second_s = (CALL.service_s(processor, memory_mb) - once_s) / CALL.duration_s
    return (timeout_s - margin_s - once_s) / per_second_s


def recordings_per_s(partitions: int) -> float:
    """Return how many recordings a second the results bucket's write limit allows, leases included."""
    return partitions * S3_WRITES_PER_S / (RESULT_PUTS + LEASE_PUTS + LEASE_DELETES)


def drain_s(count: float, service_s: float, max_concurrency: int, partitions: int = 1) -> float:
    """Return how long a backlog takes: the pollers' ramp, then `max_concurrency` environments, or S3's write limit."""
    needed_s = count * service_s
    ramp_s = (max_concurrency - FIRST_POLLERS) / POLLERS_PER_S
    during_ramp_s = FIRST_POLLERS * ramp_s + POLLERS_PER_S * ramp_s**2 / 2
    if needed_s > during_ramp_s:
        fleet_s = ramp_s + (needed_s - during_ramp_s) / max_concurrency
    else:
        fleet_s = (-FIRST_POLLERS + (FIRST_POLLERS**2 + 2 * POLLERS_PER_S * needed_s) ** 0.5) / POLLERS_PER_S
    return max(fleet_s, count / recordings_per_s(partitions))


def lambda_cost(workload: Workload, processor: Processor, memory_mb: int, architecture: str) -> float:
    """Return dollars for a thousand hours: the function, /tmp, the queue and S3, without storage and logs."""
    service_s = workload.service_s(processor, memory_mb)
    time = service_s * memory_mb / 1024 * LAMBDA_GB_S[architecture]
    tmp = service_s * (TMP_MB - FREE_TMP_MB) / 1024 * LAMBDA_TMP_GB_S
    s3 = (RESULT_PUTS + LEASE_PUTS) * S3_WRITE_USD + (UPLOAD_READS + RESULT_READS) * S3_READ_USD  # DELETE is free
    return workload.recordings * (time + tmp + INVOCATION_USD + s3 + SQS_REQUESTS * SQS_REQUEST)


def server_cost(workload: Workload, processor: Processor, utilisation: float) -> float:
    """Return dollars for a thousand hours on a server that runs transformers, one process for each vCPU."""
    needed_s = workload.recordings * workload.utterances * processor.reference_s
    return needed_s / SERVER_VCPUS / 3600 * SERVER_HOUR / utilisation


def main() -> None:
    """Print the tables."""
    kinds = [(processor, workload) for processor in PROCESSORS for workload in (CLIP, CALL)]
    names = [f"{workload.name}, {processor.name}" for processor, workload in kinds]
    show(
        "Billed seconds for one recording",
        ["MB", *names],
        [
            [f"{mb:,}", *(f"{workload.service_s(processor, mb):.2f}" for processor, workload in kinds)]
            for mb in MEMORY_SIZES_MB
        ],
    )
    show(
        "Lambda on x86_64, $ for a thousand hours",
        ["MB", *names],
        [
            [f"{mb:,}", *(f"{lambda_cost(workload, processor, mb, 'x86_64'):.2f}" for processor, workload in kinds)]
            for mb in MEMORY_SIZES_MB
        ],
    )
    arm = [lambda_cost(workload, processor, DEPLOYED_MEMORY_MB, "arm64") for processor, workload in kinds]
    print(f"\narm64 at {DEPLOYED_MEMORY_MB:,} MB, if as fast: {', '.join(f'{dollars:.2f}' for dollars in arm)}")
    show(
        "transformers on an m7i.xlarge, $ for a thousand hours",
        ["busy", *names],
        [
            [f"{busy:.0%}", *(f"{server_cost(workload, processor, busy):,.2f}" for processor, workload in kinds)]
            for busy in (1.0, 0.3, 0.05)
        ],
    )
    show(
        "List prices of other services",
        ["for a thousand hours", "$"],
        [[name, f"{1000 * dollars:,.0f}"] for name, dollars in APIS_PER_HOUR.items()],
    )
    _show_drains(names)
    show(
        "Longest call that finishes",
        ["MB", *(f"{processor.name}, {timeout_s} s" for processor in PROCESSORS for timeout_s in TIMEOUTS_S)],
        [
            [f"{mb:,}", *(_duration(longest_call_s(p, mb, timeout_s)) for p in PROCESSORS for timeout_s in TIMEOUTS_S)]
            for mb in MEMORY_SIZES_MB
        ],
    )


def _show_drains(names: Sequence[str]) -> None:
    services_s = [workload.service_s(p, DEPLOYED_MEMORY_MB) for p in PROCESSORS for workload in (CLIP, CALL)]
    rows = []
    for max_concurrency, partitions in ((5, 1), (10, 1), (100, 1), (1000, 1), (1000, 4)):
        drains_s = [drain_s(1e6, service_s, max_concurrency, partitions) for service_s in services_s]
        rows.append([f"{max_concurrency:,}", str(partitions), *map(_duration, drains_s)])
    show("A million recordings drain in", ["MaxConcurrency", "S3 partitions", *names], rows)


def _duration(seconds: float) -> str:
    for unit, length_s in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.1f} {unit}"
    return f"{seconds:.0f} s"


if __name__ == "__main__":
    main()
