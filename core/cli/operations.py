"""`audio-emotion backfill`, `redrive` and `status`: what an operator does with a stack on AWS."""

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import boto3
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from core.errors import PackageRefused
from core.formatting import clock
from core.model.package import read_manifest
from core.operations.backfill import REPORTS_PREFIX, Forecast, Scope, create_job, forecast, job_states
from core.operations.deployed_stack import DeployedStack, aws_errors, find_stack, stack_of_bucket
from core.operations.redrive import redrive, waiting_messages
from core.operations.status import Status, status_of

_AT_A_TIME = 10
"""What a backfill is said to do at the same time if nothing limits it; S3 then begins with few and goes on to more."""
_POLL_INTERVAL_S = 10.0
_BYTES_PER_GB = 1e9


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def stack_named(name: str, bucket: str | None) -> DeployedStack:
    """The stack of this name, or the one that an uploads bucket belongs to."""
    with aws_errors("CloudFormation"):
        cloudformation = boto3.client("cloudformation")
    return find_stack(stack_of_bucket(bucket) if bucket else name, cloudformation)


def _fingerprint(model_dir: Path) -> str | None:
    """Of the model that is here, which may or may not be the one that was deployed."""
    try:
        return read_manifest(model_dir).fingerprint
    except PackageRefused:
        return None


# ------------------------------------------------------------------------------------------------------ backfill


def run_backfill(
    stack: DeployedStack,
    scope: Scope,
    model_dir: Path,
    *,
    agreed: Callable[[], bool],
    dry_run: bool,
    wait: bool,
) -> int:
    """Say what a backfill would be, ask, and have S3 begin; returns the exit status."""
    console = _console()
    s3 = boto3.client("s3")
    with console.status("counting"):
        before = forecast(s3, stack, scope, _fingerprint(model_dir))
    show_forecast(before, stack, scope, model_dir, console)
    if before.recordings == 0:
        console.print("There is nothing to do.")
        return 0
    if dry_run:
        return 0
    if not agreed():
        console.print("Nothing was begun.")
        return 1
    s3control = boto3.client("s3control")
    job_id = create_job(s3control, stack, scope)
    console.print(f"S3 has begun: job {job_id}")
    console.print(f"What fails will be listed in s3://{stack.results_bucket}/{REPORTS_PREFIX}/job-{job_id}/")
    if not wait:
        look = f"aws s3control describe-job --account-id {stack.account} --job-id {job_id}"
        console.print(f"Look after it: {look}")
        return 0
    return _follow(s3control, stack, job_id, console)


def show_forecast(before: Forecast, stack: DeployedStack, scope: Scope, model_dir: Path, console: Console) -> None:
    """Say how many recordings there are, and what they will take."""
    where = f"s3://{scope.bucket}/{scope.prefix}"
    console.print(f"{before.recordings:,} recordings ({_gigabytes(before.size_bytes)}) in {where}", markup=False)
    console.print(f"{before.with_result:,} of them have a result.")
    if before.sampled:
        done = f"{before.share_done:.0%}"
        console.print(
            f"Of {before.sampled:,} of those, looked at by chance, {done} are final results of the model in "
            f"{model_dir}: they cost no inference.",
            markup=False,
        )
    if before.work_s is None or before.seconds_each is None:
        console.print("There is no result yet to judge time and cost from: begin with a few by --prefix.")
        return
    at_a_time = stack.backfill_concurrency or _AT_A_TIME
    console.print(
        f"About {before.to_classify:,} to classify at {before.seconds_each:.2f} s each: {_duration(before.work_s)} "
        f"of the function's time, {_duration(before.work_s / at_a_time)} with {at_a_time} at a time."
    )
    if not stack.backfill_concurrency:
        console.print("The stack's BackfillConcurrency is 0: the account alone limits how many run at a time.")
    cost_usd = before.cost_usd(stack.memory_size_mb)
    console.print(f"About {cost_usd:,.2f} US dollars at list prices of us-east-1, start-up and traffic not counted.")


def _follow(s3control: object, stack: DeployedStack, job_id: str, console: Console) -> int:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=None)
        for state in job_states(s3control, stack, job_id):
            ended = state.succeeded + state.failed
            progress.update(bar, description=state.status, completed=ended, total=state.tasks or None)
            last = state
            if not progress.finished:
                time.sleep(_POLL_INTERVAL_S if state.status not in ("Complete", "Failed", "Cancelled") else 0)
    console.print(f"{last.status}: {last.succeeded:,} done, {last.failed:,} failed. {last.why}", markup=False)
    return int(last.status != "Complete" or last.failed > 0)


# ------------------------------------------------------------------------------------------------------- redrive


def run_redrive(stack: DeployedStack, per_s: int | None) -> int:
    """Move the dead letters back and show how far that is; returns the exit status."""
    console = _console()
    sqs = boto3.client("sqs")
    there = waiting_messages(sqs, stack.dead_letter_queue_url)
    if there == 0:
        console.print("There are no dead letters.")
        return 0
    columns = (TextColumn("moving"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    moved = 0
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=there)
        for state in redrive(sqs, stack.dead_letter_queue_arn, per_s=per_s):
            moved = state.messages
            progress.update(bar, completed=moved, total=max(there, state.of))
    console.print(f"{moved:,} uploads are back in the queue. Their given-up results are replaced as they succeed.")
    return 0


# -------------------------------------------------------------------------------------------------------- status


def run_status(stack: DeployedStack, model_dir: Path, *, sample: int, as_json: bool) -> int:
    """Show how the stack is doing; returns the exit status."""
    clients = boto3.client("s3"), boto3.client("sqs"), boto3.client("cloudwatch")
    fingerprint = _fingerprint(model_dir)
    found = status_of(stack, *clients, fingerprint=fingerprint, sample=sample)
    if as_json:
        sys.stdout.write(json.dumps(dataclasses.asdict(found)) + "\n")
        return 0
    _console().print(status_table(found, model_dir))
    return 0


def status_table(found: Status, model_dir: Path) -> Table:
    """One row for each thing that was counted."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("uploads", f"{found.uploads:,}", _gigabytes(found.uploads_bytes))
    table.add_row("results", f"{found.results:,}", "")
    table.add_row("uploads without a result", f"{found.without_result:,}", "still waiting, or older than the stack")
    judged = "" if found.read == found.results else f"of {found.read:,} results read by chance"
    notes = {
        "given_up": "to be tried again: redrive",
        "stale": f"not by the model in {model_dir}: backfill",
        "unreadable": "no result documents",
    }
    for name, count in found.judged.items():
        if count or name in ("classified", "failed"):
            note = ", ".join(filter(None, (judged, notes.get(name, ""))))
            table.add_row(f"  {name.replace('_', ' ')}", f"{count:,}", escape(note))
    age = "" if found.oldest_s is None else f"the oldest for {clock(found.oldest_s)}"
    table.add_row("waiting in the queue", f"{found.waiting:,}", age)
    table.add_row("being worked on", f"{found.in_flight:,}", "")
    table.add_row("dead letters", f"{found.dead_letters:,}", "given up after five deliveries: redrive")
    return table


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / _BYTES_PER_GB:,.3f} GB"


def _duration(seconds: float) -> str:
    return f"{clock(seconds)} h" if seconds >= 3600 else f"{clock(seconds)} min"  # noqa: PLR2004 (an hour)
