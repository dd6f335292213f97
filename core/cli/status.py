"""`audio-emotion status`: count the uploads, results and messages of a stack."""

import sys
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from core.cli.aws import aws_client, aws_console, gigabytes
from core.formatting import clock
from core.model.package import read_manifest
from core.operations.deployed_stack import DeployedStack
from core.operations.status import Status, read_status


def run_status(stack: DeployedStack, model_dir: Path, *, sample: int, as_json: bool) -> int:
    """Show the counts of a stack; return the exit status.

    Raises
    ------
    PackageRefused
        If the model is not a serving package.
    """
    clients = aws_client("s3"), aws_client("sqs"), aws_client("cloudwatch")
    status = read_status(stack, *clients, fingerprint=read_manifest(model_dir).fingerprint, sample=sample)
    if as_json:
        sys.stdout.write(status.to_json() + "\n")
    else:
        aws_console().print(_status_table(status, model_dir))
    return 0


def _status_table(status: Status, model_dir: Path) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("uploads", f"{status.uploads:,}", gigabytes(status.uploads_bytes))
    table.add_row("uploads without a result", f"{status.without_result:,}", "still waiting, or older than the stack")
    sampled = "" if status.read == status.results else f"below: {status.read:,} of them, chosen at random"
    table.add_row("results", f"{status.results:,}", sampled)
    notes = {
        "given_up": "redrive retries them",
        "stale": f"not from the model in {model_dir}: backfill classifies them again",
        "unreadable": "not result documents",
    }
    for name, count in status.by_status.items():
        if count or name in ("classified", "failed"):
            table.add_row(f"  {name.replace('_', ' ')}", f"{count:,}", escape(notes.get(name, "")))
    age = "" if status.oldest_s is None else f"oldest: {clock(status.oldest_s)}"
    table.add_row("messages in the queue", f"{status.waiting:,}", age)
    table.add_row("messages in flight", f"{status.in_flight:,}", "")
    table.add_row("dead letters", f"{status.dead_letters:,}", "failed every delivery: redrive retries them")
    return table
