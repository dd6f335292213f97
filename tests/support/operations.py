"""A deployed stack: what CloudFormation answers, and recordings with results in its buckets."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.stub import Stubber

from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET, Stack
from core.results import Error, Model, Processing, Result, Source
from tests.support.cloudformation import STACK, TEMPLATE, Deployed

NOW = datetime.now(UTC).replace(microsecond=0)
MODEL = Model(id="m", revision="r", precision="fp32", fingerprint="sha256:new", labels=("anger", "sad"))


def described_by_cloudformation(**parameters: str) -> dict[str, Any]:
    """Return the answer of DescribeStacks for the stack of template.yaml."""
    given = {name: str(described["Default"]) for name, described in TEMPLATE["Parameters"].items()} | parameters
    outputs = Deployed(**parameters).outputs()
    return {
        "StackName": STACK,
        "CreationTime": NOW,
        "StackStatus": "CREATE_COMPLETE",
        "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()],
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
    }


@contextmanager
def cloudformation(stack: dict[str, Any] | None) -> Iterator[Any]:
    client = boto3.client("cloudformation", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stub:
        if stack is None:
            message = f"Stack with id {STACK} does not exist"
            stub.add_client_error("describe_stacks", "ValidationError", message)
        else:
            stub.add_response("describe_stacks", {"Stacks": [stack]}, {"StackName": STACK})
        yield client


def fill(world: Stack) -> None:
    """Upload five recordings: two results of the newest model, one of an older model, one given up, one missing."""
    for key in ("a/new.wav", "a/failed.txt", "a/old.wav", "b/given-up.wav", "b/waiting.wav"):
        world.s3.put_object(Bucket=UPLOADS_BUCKET, Key=key, Body=b"123")
    world.s3.put_object(Bucket=UPLOADS_BUCKET, Key="b/", Body=b"")  # a folder marker
    store(world, "a/new.wav", document("a/new.wav"))
    store(world, "a/failed.txt", document("a/failed.txt", status="failed"))
    old = MODEL.model_copy(update={"fingerprint": "sha256:old"})
    store(world, "a/old.wav", document("a/old.wav", model=old, status="no_speech"))
    store(world, "b/given-up.wav", document("b/given-up.wav", status="failed"), state="given-up")
    world.s3.put_object(Bucket=RESULTS_BUCKET, Key="results/a/new.wav.html", Body=b"<p>")


def document(
    key: str,
    *,
    status: Any = "classified",
    model: Model = MODEL,
    finished_at: datetime = NOW,
    error: str = "damaged",
) -> Result:
    scored: dict[str, Any] = {"emotion": "sad", "score": 0.9, "scores": {"sad": 0.9, "anger": 0.1}}
    return Result(
        status=status,
        source=Source(key=key),
        model=model,
        error=Error(code=error, message="No.") if status == "failed" else None,
        processing=Processing(
            finished_at=finished_at,
            decode_ms=0 if status == "failed" else 100,
            inference_ms=600 if status == "classified" else 0,
            version="1",
        ),
        **(scored if status == "classified" else {}),
    )


def store(world: Stack, key: str, result: Result, state: str = "done") -> None:
    world.s3.put_object(
        Bucket=RESULTS_BUCKET, Key=f"results/{key}.json", Body=result.to_json().encode(), Metadata={"state": state}
    )
