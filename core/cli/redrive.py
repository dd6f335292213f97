"""`audio-emotion redrive`: move the dead letters back to the queue."""

from core.cli.aws import aws_client, aws_console
from core.cli.tables import progress_bar
from core.formatting import counted
from core.operations.deployed_stack import DeployedStack
from core.operations.redrive import redrive
from core.operations.status import message_counts


def run_redrive(stack: DeployedStack, per_s: int | None) -> int:
    """Move the dead letters and show the progress; return the exit status."""
    console = aws_console()
    sqs = aws_client("sqs")
    total, _ = message_counts(sqs, stack.dead_letter_queue_url)
    if total == 0:
        console.print("There are no dead letters.")
        return 0
    moved = 0
    with progress_bar(console) as progress:
        bar = progress.add_task("moving", total=total)
        for state in redrive(sqs, stack.dead_letter_queue_arn, per_s=per_s):
            moved = state.messages
            progress.update(bar, completed=moved, total=max(total, state.of))
    console.print(
        f"Moved {counted(moved, 'upload')} back to the queue. Each successful retry replaces a `given_up` result."
    )
    return 0
