"""Service times, drain times and prices, calculated from processor times and AWS's documented limits.

`python -m benchmarks.costs` prints the tables of docs/scale.md and docs/decisions/0034-prices.md. Nothing runs on AWS.
"""

from collections.abc import Sequence

from core.operations.costs import CALL, CLIP, HOURS, PROCESSORS, S3_WAIT_S, Processor, Workload, expected_usd
from core.operations.prices import GB_S_USD, LEASE_DELETES, LEASE_PUTS, RESULT_PUTS
from core.settings import FunctionSettings
from tests.support.tables import show

MEMORY_SIZES_MB = (1769, 3008, 5307, 7076, 10_240)
DEPLOYED_MEMORY_MB = 3008
"""MemorySizeMb of template.yaml."""
TIMEOUTS_S = (300, 600, 900)

S3_WRITES_PER_S = 3500
"""PUT and DELETE requests for each partition; a new bucket has one."""
FIRST_POLLERS, POLLERS_PER_S = 5, 5
"""An event source mapping starts with 5 concurrent batches and adds 300 a minute."""

# US dollars. docs/decisions/0034-prices.md has the source and date of each.
SERVER_HOUR, SERVER_VCPUS = 0.2016, 4
"""m7i.xlarge."""
APIS_PER_HOUR = {
    "Hume AI, Expression Measurement, audio only ($0.0639 a minute)": 0.0639 * 60,
    "AssemblyAI, transcription with sentiment of the text ($0.37 + $0.02 an hour)": 0.39,
    "Deepgram, Nova-3 transcription, without sentiment ($0.0048 a minute)": 0.0048 * 60,
}


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


def break_even_share(workload: Workload, fast: Processor, slow: Processor, other: Processor) -> float:
    """Return the share of a fast processor in a mixture with a slow one that costs what another does."""
    fast_usd, slow_usd, other_usd = (expected_usd(workload, each, DEPLOYED_MEMORY_MB) for each in (fast, slow, other))
    return (slow_usd - other_usd) / (slow_usd - fast_usd)


def server_cost(workload: Workload, reference_s: float, utilisation: float) -> float:
    """Return dollars for a thousand hours on a server that runs transformers, one process for each vCPU.

    Parameters
    ----------
    reference_s
        Inference in transformers for one utterance.
    """
    needed_s = workload.recordings * workload.utterances * reference_s
    return needed_s / SERVER_VCPUS / 3600 * SERVER_HOUR / utilisation


def main() -> None:
    """Print the tables."""
    kinds = [(processor, workload) for workload in (CLIP, CALL) for processor in PROCESSORS]
    names = [f"{workload.name}, {processor.label}" for processor, workload in kinds]
    show(
        "Billed seconds for one recording",
        ["MB", *names],
        [
            [f"{mb:,}", *(f"{workload.service_s(processor, mb):.2f}" for processor, workload in kinds)]
            for mb in MEMORY_SIZES_MB
        ],
    )
    show(
        f"Lambda, each processor at the price of its architecture, $ for {HOURS:,} hours",
        ["MB", *names],
        [
            [f"{mb:,}", *(f"{expected_usd(workload, processor, mb):.2f}" for processor, workload in kinds)]
            for mb in MEMORY_SIZES_MB
        ],
    )
    _show_break_even()
    on_server = [(p.reference_s, p.name, w) for p, w in kinds if p.reference_s is not None]
    show(
        f"transformers on an m7i.xlarge, $ for {HOURS:,} hours",
        ["busy", *(f"{workload.name}, {name}" for _, name, workload in on_server)],
        [
            [f"{busy:.0%}", *(f"{server_cost(workload, s, busy):,.2f}" for s, _, workload in on_server)]
            for busy in (1.0, 0.3, 0.05)
        ],
    )
    show(
        "List prices of other services",
        [f"for {HOURS:,} hours", "$"],
        [[name, f"{HOURS * dollars:,.0f}"] for name, dollars in APIS_PER_HOUR.items()],
    )
    _show_drains(kinds)
    show(
        "Longest call that finishes",
        ["MB", *(f"{processor.label}, {timeout_s} s" for processor in PROCESSORS for timeout_s in TIMEOUTS_S)],
        [
            [f"{mb:,}", *(_duration(longest_call_s(p, mb, timeout_s)) for p in PROCESSORS for timeout_s in TIMEOUTS_S)]
            for mb in MEMORY_SIZES_MB
        ],
    )


def _show_break_even() -> None:
    """Print how large the share of fast x86 processors must be for x86_64 to cost what arm64 does."""
    vnni, avx2, arm = PROCESSORS
    price_ratio = GB_S_USD["x86_64"] / GB_S_USD["arm64"]
    print(f"\narm64 costs less if it bills less than {price_ratio:.2f} times the time of x86_64.")
    for workload in (CLIP, CALL):
        arm_s, *x86_s = (workload.service_s(each, DEPLOYED_MEMORY_MB) for each in (arm, vnni, avx2))
        ratios = {vnni.name: arm_s / x86_s[0], avx2.name: arm_s / x86_s[1]}
        share = break_even_share(workload, vnni, avx2, arm)
        times = " and ".join(f"{ratio:.2f} times that of {name}" for name, ratio in ratios.items())
        print(f"{workload.name}: its time is {times}. {share:.0%} of {vnni.name} make x86_64 as cheap.")


def _show_drains(kinds: Sequence[tuple[Processor, Workload]]) -> None:
    services_s = [workload.service_s(processor, DEPLOYED_MEMORY_MB) for processor, workload in kinds]
    names = [f"{workload.name}, {processor.label}" for processor, workload in kinds]
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
