"""What a thousand hours of audio cost: on Lambda at each memory size, on a server of one's own, at others' prices.

`python -m benchmarks.costs` prints the tables of docs/scale.md from benchmarks/service_times.json, to which
`python -m benchmarks.service_times` adds the machine that it runs on.
"""

from benchmarks import prices
from benchmarks.tables import show
from benchmarks.workload import CALL, CLIP, MEMORY_SIZES_MB, Processor, Workload, processors
from core.operations.requests import LEASE_PUTS, RESULT_PUTS, RESULT_READS, UPLOAD_READS

_TMP_MB = 2560
"""EphemeralStorageMb of template.yaml."""


def lambda_cost(workload: Workload, processor: Processor, memory_mb: int, architecture: str) -> float:
    """Dollars for a thousand hours: the function's time, /tmp, requests, the queue, S3; without storage and logs."""
    service_s = workload.service_s(processor, memory_mb)
    time = service_s * memory_mb / 1024 * prices.LAMBDA_GB_S[architecture]
    tmp = service_s * (_TMP_MB - prices.LAMBDA_FREE_TMP_MB) / 1024 * prices.LAMBDA_TMP_GB_S
    return workload.recordings * (time + tmp + _requests())


def _requests() -> float:
    """Dollars for one recording, whatever it is. A claim's DELETE is free."""
    s3 = (RESULT_PUTS + LEASE_PUTS) * prices.S3_WRITE + (UPLOAD_READS + RESULT_READS) * prices.S3_READ
    return prices.LAMBDA_REQUEST + s3 + prices.SQS_REQUESTS * prices.SQS_REQUEST


def server_cost(workload: Workload, processor: Processor, utilisation: float) -> float:
    """Dollars for a thousand hours on a server that runs the published program, one process for each vCPU."""
    needed_s = workload.recordings * workload.utterances * processor.window_s
    return needed_s / prices.SERVER_VCPUS / 3600 * prices.SERVER_HOUR["m7i.xlarge"] / utilisation


def main() -> None:
    """Print the tables."""
    for processor in processors():
        for workload in (CLIP, CALL):
            rows = []
            for memory_mb in MEMORY_SIZES_MB:
                x86, arm = (
                    lambda_cost(workload, processor, memory_mb, architecture) for architecture in prices.LAMBDA_GB_S
                )
                service_s = workload.service_s(processor, memory_mb)
                rows.append([f"{memory_mb:,}", f"{service_s:.2f}", f"{x86:.2f}", f"{arm:.2f}"])
            title = f"{processor.name}: {workload.name}, {workload.recordings:,.0f} recordings"
            show(title, ["MB", "seconds each", "x86_64, $", "arm64, if as fast, $"], rows)
    for processor in processors():
        if not processor.name.startswith("int8"):
            continue  # transformers knows no precision: once for each machine
        rows = []
        for workload in (CLIP, CALL):
            dollars = (server_cost(workload, processor, utilisation) for utilisation in (1.0, 0.3, 0.05))
            rows.append([workload.name, *(f"{value:,.2f}" for value in dollars)])
        title = f"transformers on an m7i.xlarge, as fast as: {processor.name.removeprefix('int8, ')}, $"
        show(title, ["", "busy all the time", "30 % of it", "5 % of it"], rows)
    show(
        "Others' list prices, $",
        ["for a thousand hours", "$"],
        [[name, f"{1000 * dollars:,.0f}"] for name, dollars in prices.APIS_PER_HOUR.items()],
    )


if __name__ == "__main__":
    main()
