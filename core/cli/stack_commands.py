"""The commands for a deployed stack: their options and help texts."""

from pathlib import Path
from typing import Annotated

import typer

from core.cli.options import (
    STACK,
    AsJson,
    Csv,
    JsonLines,
    ModelDir,
    Per,
    Since,
    StackName,
    Status,
    UploadsBucket,
    app,
    examples,
    output_format,
    parsed_time,
)
from core.paths import default_model


@app.command(**examples("backfill --dry-run", "backfill --prefix calls/2026/ --since 30d --wait"))
def backfill(
    stack: StackName = STACK,
    bucket: UploadsBucket = None,
    prefix: Annotated[str, typer.Option(help="Only uploads whose keys start with this text.")] = "",
    since: Since = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start without confirmation.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the estimate only.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Show the job's progress until it ends.")] = False,
    model: ModelDir = None,
) -> None:
    """Classify the uploads that are already in the bucket, with S3 Batch Operations.

    Uploads with a final result of the deployed model need no inference. The estimate takes --model for that model.
    """
    from core.cli.aws import named_stack
    from core.cli.backfill import run_backfill
    from core.operations.backfill import Scope

    deployed = named_stack(stack, bucket)
    scope = Scope(deployed.uploads_bucket, prefix, parsed_time(since))

    def confirm() -> bool:
        return yes or typer.confirm("Start the backfill?")

    model_dir = model or default_model()
    raise typer.Exit(run_backfill(deployed, scope, model_dir, confirm=confirm, dry_run=dry_run, wait=wait))


@app.command(**examples("redrive", "redrive --per-second 5"))
def redrive(
    stack: StackName = STACK,
    bucket: UploadsBucket = None,
    per_s: Annotated[
        int | None,
        typer.Option("--per-second", min=1, max=500, help="Maximum number of messages per second.", show_default=False),
    ] = None,
) -> None:
    """Move the dead letters back to the queue, after the cause of their failure was fixed."""
    from core.cli.aws import named_stack
    from core.cli.redrive import run_redrive

    raise typer.Exit(run_redrive(named_stack(stack, bucket), per_s))


@app.command(**examples("forget calls/a.wav calls/b.wav", "forget --prefix customers/4711/ --yes"))
def forget(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys of recordings.", show_default=False)] = None,
    stack: StackName = STACK,
    bucket: UploadsBucket = None,
    prefix: Annotated[
        str | None, typer.Option(help="All recordings whose keys start with this text.", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without confirmation.")] = False,
) -> None:
    """Delete recordings and everything that is stored about them, in every version.

    The exit status is 1 if something could not be deleted.
    """
    from core.cli.aws import named_stack
    from core.cli.forget import run_forget
    from core.operations.forget import Scope

    if not keys and not prefix:
        raise typer.BadParameter("Name the keys of recordings, or a --prefix that is not empty.")

    def confirm() -> bool:
        return yes or typer.confirm("Delete all of this for good?")

    raise typer.Exit(run_forget(named_stack(stack, bucket), Scope(frozenset(keys or ()), prefix or None), confirm))


@app.command(**examples("status", "status --stack my-stack --json"))
def status(
    stack: StackName = STACK,
    bucket: UploadsBucket = None,
    sample: Annotated[int, typer.Option(min=0, help="Number of results to read, chosen at random.")] = 1000,
    as_json: AsJson = False,
    model: ModelDir = None,
) -> None:
    """Count the uploads, results, failures and messages of a stack."""
    from core.cli.aws import named_stack
    from core.cli.status import run_status

    raise typer.Exit(run_status(named_stack(stack, bucket), model or default_model(), sample=sample, as_json=as_json))


@app.command(**examples("benchmark --stack my-stack", "benchmark --function my-stack-classify --json"))
def benchmark(
    stack: StackName = STACK,
    bucket: UploadsBucket = None,
    function: Annotated[
        str | None,
        typer.Option(help="ARN or name of the function, instead of the stack's name.", show_default=False),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, max=50, help="How often each recording is classified, if the timeout permits.")
    ] = 5,
    as_json: AsJson = False,
) -> None:
    """Measure the deployed function, and calculate what a thousand hours of audio cost on it.

    The function classifies speech that its image contains: four utterances and a call. Nothing is stored.
    """
    from core.cli.aws import named_stack
    from core.cli.benchmark import run_benchmark

    name = function or named_stack(stack, bucket).classify_function
    raise typer.Exit(run_benchmark(name, rounds, as_json=as_json))


@app.command(
    **examples("results --emotion angry", "results --stack audio-emotion --since 12h --csv --per recording > calls.csv")
)
def results(  # noqa: PLR0913, PLR0917 (each is an option)
    folder: Annotated[Path, typer.Option(help="Read the result documents in this folder.")] = Path("out/results"),
    stack: Annotated[
        str | None, typer.Option("--stack", help="Read the results of this deployed stack.", show_default=False)
    ] = None,
    bucket: Annotated[
        str | None, typer.Option("--bucket", help="Read the results in this bucket.", show_default=False)
    ] = None,
    results_prefix: Annotated[
        str, typer.Option("--results-prefix", help="With --bucket: prefix of the result keys.")
    ] = "results/",
    since: Since = None,
    emotion: Annotated[
        str | None,
        typer.Option(help="Only recordings with this emotion, or a synonym such as angry.", show_default=False),
    ] = None,
    utterance: Annotated[
        str | None, typer.Option(help="Only recordings with an utterance of this emotion.", show_default=False)
    ] = None,
    status: Annotated[
        Status | None, typer.Option("--status", help="Only results with this status.", show_default=False)
    ] = None,
    prefix: Annotated[str, typer.Option(help="Only recordings whose keys start with this text.")] = "",
    json_lines: JsonLines = False,
    as_csv: Csv = False,
    per: Per = "utterance",
) -> None:
    """Show stored results, from a folder, a stack or a bucket.

    The exit status is 1 if a document cannot be read.
    """
    from core.cli.results import show_results
    from core.operations.results import ResultFilter

    form = output_format(json_lines=json_lines, as_csv=as_csv, per=per)
    if stack and bucket:
        raise typer.BadParameter("--stack and --bucket cannot be combined.")
    place: Path | tuple[str, str] = folder
    if stack:
        from core.cli.aws import named_stack

        deployed = named_stack(stack, None)
        place = (deployed.results_bucket, deployed.results_prefix)
    elif bucket:
        place = (bucket, results_prefix)
    selection = ResultFilter(
        since=parsed_time(since), emotion=emotion, utterance=utterance, status=status, key_prefix=prefix
    )
    raise typer.Exit(show_results(place, selection, form, per))
