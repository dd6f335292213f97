"""`audio-emotion benchmark`: measure a deployed function, and calculate what a thousand hours cost on it."""

import json
import sys
from dataclasses import asdict

from botocore.config import Config
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.benchmark import Measurement
from core.cli.aws import aws_client, aws_console
from core.cli.tables import show_demo_notice
from core.formatting import printable
from core.operations.benchmark import MAX_TIMEOUT_S, FunctionBenchmark, run_on
from core.operations.costs import CALL, CLIP, HOURS, PROCESSORS, expected_usd, speedup

_CONFIG = Config(
    read_timeout=MAX_TIMEOUT_S + 30,
    # A retry would run the benchmark a second time.
    retries={"total_max_attempts": 1},
    # NAT gateways drop connections that are idle for 350 seconds.
    tcp_keepalive=True,
)
_ARN_PARTS = 7


def run_benchmark(function: str, rounds: int, *, as_json: bool) -> int:
    """Measure a function and show the figures beside those of the documents; return the exit status."""
    parts = function.split(":")
    region = parts[3] if len(parts) >= _ARN_PARTS else None
    client = aws_client("lambda", region=region, config=_CONFIG)
    console = aws_console()
    with Console(stderr=True).status("The function classifies its built-in speech"):
        measured = run_on(client, function, rounds)
    if as_json:
        sys.stdout.write(_to_json(measured) + "\n")
        return 0
    console.print(_facts(measured))
    console.print()
    console.print(_times(measured))
    console.print()
    console.print(_costs(measured))
    console.print(
        f"The columns beside this function are calculated for the int8 package at the published size, one thread per "
        f"vCPU and {measured.function.memory_mb:,} MB. List prices in us-east-1, without storage and logs.",
        style="dim",
    )
    if measured.answer.model.demo:
        show_demo_notice()
    return 0


def _to_json(measured: FunctionBenchmark) -> str:
    answer = measured.answer
    return json.dumps(
        {
            "function": asdict(measured.function),
            "report": asdict(measured.report) if measured.report else None,
            "benchmark": answer.model_dump(mode="json", exclude_none=True),
            "usd_per_1000_hours": {"utterances": measured.usd(CLIP), "calls": measured.usd(CALL)},
        }
    )


def _facts(measured: FunctionBenchmark) -> Table:
    function, answer, report = measured.function, measured.answer, measured.report
    table = Table(box=None, pad_edge=False, show_header=False)
    size = f"{function.memory_mb:,} MB, timeout {function.timeout_s} s"
    speakers = "" if answer.speakers == "off" else f", Speakers={answer.speakers}"
    model = f"{answer.model.id}, {answer.model.precision}, version {answer.version}{speakers}"
    table.add_row("function", escape(f"{function.name} in {function.region}: {function.architecture}, {size}"))
    table.add_row("model", escape(printable(model)))
    processor = f"{answer.processor}, cores: {answer.cores}, threads: {answer.threads}, {', '.join(answer.flags)}"
    table.add_row("processor", escape(printable(processor)))
    if report and report.init_ms:
        table.add_row("start", f"{report.init_ms:,.0f} ms, a cold start")
    elif answer.start_ms is not None:
        table.add_row("start", f"{answer.start_ms:,} ms; the environment was already warm")
    memory_mb = report.max_memory_mb if report else answer.peak_memory_mb
    if memory_mb is not None:
        table.add_row("memory used", f"{memory_mb:,} MB")
    table.add_row("rounds", str(answer.rounds))
    return table


def _times(measured: FunctionBenchmark) -> Table:
    table = _columns("median of the rounds", "whole", "inference")
    memory_mb = measured.function.memory_mb
    for duration_s, clip in measured.answer.clips.items():
        others = (each.inference_s(duration_s) * 1000 / speedup(memory_mb) for each in PROCESSORS)
        table.add_row(f"utterance of {duration_s} s", *_milliseconds(clip), *(f"{each:,.0f} ms" for each in others))
    call = measured.answer.call
    table.add_row(f"call of {call.duration_s:.0f} s, {call.utterances} utterances", *_milliseconds(call))
    return table


def _milliseconds(recording: Measurement) -> tuple[str, str]:
    return f"{recording.median_total_ms:,.0f} ms", f"{recording.median_inference_ms:,.0f} ms"


def _costs(measured: FunctionBenchmark) -> Table:
    table = _columns(f"US dollars for {HOURS:,} hours", "this function")
    for workload, name in ((CLIP, "utterances of 2 s"), (CALL, "calls of 5 min")):
        others = (expected_usd(workload, each, measured.function.memory_mb) for each in PROCESSORS)
        table.add_row(name, f"{measured.usd(workload):,.2f}", *(f"{each:,.2f}" for each in others))
    return table


def _columns(first: str, *own: str) -> Table:
    """Return an empty table with columns of this function and of `PROCESSORS`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for name in own:
        table.add_column(name, justify="right")
    for processor in PROCESSORS:
        table.add_column(processor.label, justify="right", style="dim")
    return table
