"""`audio-emotion backfill`: classify the uploads that are already in the bucket."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from core.cli.aws import aws_client, aws_console, gigabytes
from core.cli.tables import progress_bar
from core.formatting import clock, counted
from core.model.package import read_manifest
from core.operations.backfill import ENDED, REPORTS_PREFIX, Forecast, Scope, activate, create_job, forecast, job_states
from core.operations.deployed_stack import DeployedStack

_ASSUMED_CONCURRENCY = 10
"""For the estimate, if the stack sets no limit. S3 Batch Operations starts with few invocations and adds more."""
_POLL_INTERVAL_S = 10.0


def run_backfill(
    stack: DeployedStack,
    scope: Scope,
    model_dir: Path,
    *,
    confirm: Callable[[], bool],
    dry_run: bool,
    wait: bool,
) -> int:
    """Show the estimate, ask for confirmation, and start the job; return the exit status."""
    console = aws_console()
    s3 = aws_client("s3")
    with console.status("Counting"):
        estimate = forecast(s3, stack, scope, read_manifest(model_dir).fingerprint)
    _show_forecast(estimate, stack, scope, model_dir, console)
    if estimate.recordings == 0:
        console.print("There is nothing to do.")
        return 0
    if dry_run:
        return 0
    if not confirm():
        console.print("The backfill was not started.")
        return 1
    with console.status("Starting the function"):
        activate(aws_client("lambda"), stack)
    s3control = aws_client("s3control")
    job_id = create_job(s3control, stack, scope)
    console.print(f"Job {job_id} has started.")
    console.print(f"S3 will list failures in s3://{stack.results_bucket}/{REPORTS_PREFIX}/job-{job_id}/")
    if not wait:
        command = f"aws s3control describe-job --account-id {stack.account} --job-id {job_id}"
        console.print(f"To see its progress: {command}")
        return 0
    return _follow(s3control, stack, job_id, console)


def _show_forecast(estimate: Forecast, stack: DeployedStack, scope: Scope, model_dir: Path, console: Console) -> None:
    where = f"s3://{scope.bucket}/{scope.prefix}"
    console.print(
        f"{counted(estimate.recordings, 'recording')} ({gigabytes(estimate.size_bytes)}) in {where}", markup=False
    )
    console.print(f"{estimate.with_result:,} of them have a result.")
    if estimate.sampled:
        console.print(
            f"{estimate.share_done:.0%} of {estimate.sampled:,} results, chosen at random, are final results of the "
            f"model in {model_dir}. Such recordings need no inference.",
            markup=False,
        )
    if estimate.work_s is None or estimate.seconds_each is None:
        console.print(
            "Without results, time and cost cannot be estimated. Use --prefix to start with a few recordings."
        )
        return
    concurrency = stack.backfill_concurrency or _ASSUMED_CONCURRENCY
    console.print(
        f"About {estimate.to_classify:,} recordings to classify, {estimate.seconds_each:.2f} s each: "
        f"{_duration(estimate.work_s)} of function time, {_duration(estimate.work_s / concurrency)} with {concurrency} "
        "at once."
    )
    if not stack.backfill_concurrency:
        console.print("BackfillConcurrency is 0: only the concurrency limit of the account applies.")
    cost_usd = estimate.cost_usd(stack.memory_size_mb, stack.architecture)
    console.print(f"About {cost_usd:,.2f} US dollars at list prices in us-east-1, without cold starts and traffic.")


def _follow(s3control: Any, stack: DeployedStack, job_id: str, console: Console) -> int:
    with progress_bar(console) as progress:
        bar = progress.add_task("", total=None)
        for state in job_states(s3control, stack, job_id):
            processed = state.succeeded + state.failed
            progress.update(bar, description=state.status, completed=processed, total=state.tasks or None)
            last = state
            if state.status not in ENDED:
                time.sleep(_POLL_INTERVAL_S)
    console.print(f"{last.status}: {last.succeeded:,} succeeded, {last.failed:,} failed. {last.why}", markup=False)
    return int(last.status != "Complete" or last.failed > 0)


def _duration(seconds: float) -> str:
    return f"{clock(seconds)} h" if seconds >= 3600 else f"{clock(seconds)} min"  # noqa: PLR2004 (an hour)
