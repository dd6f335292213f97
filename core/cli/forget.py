"""`audio-emotion forget`: delete recordings and everything that is stored about them."""

from collections.abc import Callable

from rich.console import Console

from core.cli.aws import aws_client, aws_console
from core.formatting import counted, printable
from core.operations.backfill import REPORTS_PREFIX
from core.operations.deployed_stack import DeployedStack
from core.operations.forget import (
    POLL_INTERVAL_S,
    DeadLetters,
    Failure,
    Recording,
    Scope,
    StoredVersion,
    count_dead_letters,
    delete_dead_letters,
    delete_derived,
    delete_versions,
    find_recordings,
    wait_for_deliveries,
)
from handlers.events import event_from_json, uploads_in

_MAX_ROWS = 100


def run_forget(
    stack: DeployedStack, scope: Scope, confirm: Callable[[], bool], *, poll_interval_s: float = POLL_INTERVAL_S
) -> int:
    """Show what is stored, ask for confirmation, and delete it; return the exit status."""
    console = aws_console()
    s3, sqs = aws_client("s3"), aws_client("sqs")
    with console.status("Searching"):
        recordings = find_recordings(s3, stack, scope)
        dead_letters = count_dead_letters(sqs, stack, scope, _keys_in)
    _show(recordings, dead_letters, console)
    if not recordings and not dead_letters.matching and not dead_letters.mixed:
        console.print("Nothing is stored about these recordings.")
        _show_remains(stack, console)
        return 0
    if not confirm():
        console.print("Nothing was deleted.")
        return 1
    uploads = [version for recording in recordings for version in recording.of_kind("upload")]
    failures = delete_versions(s3, uploads)
    with console.status("Waiting for running deliveries"):
        wait_for_deliveries(s3, sqs, stack, recordings, poll_interval_s=poll_interval_s)
    failures += delete_derived(s3, stack, recordings)
    failures += delete_dead_letters(sqs, stack, scope, _keys_in)
    left = find_recordings(s3, stack, scope)
    return _report(failures, [recording for recording in left if not _is_new(recording, uploads)], stack, console)


def _is_new(recording: Recording, deleted: list[StoredVersion]) -> bool:
    """Return whether a recording was uploaded again during the erasure."""
    return any(version.is_latest and version not in deleted for version in recording.of_kind("upload"))


def _keys_in(body: str) -> list[str]:
    return [upload.key for upload in uploads_in(event_from_json(body))]


def _show(recordings: list[Recording], dead_letters: DeadLetters, console: Console) -> None:
    versions = [version for recording in recordings for version in recording.versions]
    for version in versions[:_MAX_ROWS]:
        size = "delete marker" if version.size_bytes is None else f"{version.size_bytes:,} bytes"
        line = f"{version.kind:6}  s3://{version.bucket}/{version.key}  {version.version_id}  {size}"
        console.print(printable(line), markup=False)
    if len(versions) > _MAX_ROWS:
        console.print(f"… and {len(versions) - _MAX_ROWS:,} more.")
    console.print(f"{counted(len(recordings), 'recording')}, {counted(len(versions), 'version')} in both buckets")
    console.print(f"{counted(dead_letters.matching, 'dead letter')}")
    if dead_letters.mixed:
        console.print(f"{counted(dead_letters.mixed, 'dead letter')} with other recordings, which will be kept")
    if dead_letters.not_understood:
        console.print(f"{counted(dead_letters.not_understood, 'dead letter')} that cannot be understood")


def _report(failures: list[Failure], left: list[Recording], stack: DeployedStack, console: Console) -> int:
    for failure in failures:
        console.print(printable(f"Not deleted: {failure.what}: {failure.reason}"), markup=False)
    for recording in left:
        for version in recording.versions:
            name = f"s3://{version.bucket}/{version.key} (version {version.version_id})"
            console.print(printable(f"Still stored: {name}"), markup=False)
    _show_remains(stack, console)
    if failures or left:
        console.print("Some data is left. Remove the cause, then run the command again.")
        return 1
    console.print("Everything else is deleted.")
    return 0


def _show_remains(stack: DeployedStack, console: Console) -> None:
    console.print("These contain keys of recordings and expire by themselves:")
    for group in stack.log_groups:
        console.print(f"  {group} after {counted(stack.log_retention_days, 'day')}", markup=False)
    console.print(f"  s3://{stack.results_bucket}/{REPORTS_PREFIX}/ after {counted(stack.log_retention_days, 'day')}")
    console.print(f"  s3://{stack.results_bucket}/queries/ after 7 days")
