"""The roles of the functions grant exactly the calls that the functions make."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx2
import pytest

import handlers.processing
from core.delivery.lease import lease
from core.delivery.storage import Storage
from core.errors import RecordingUnfinished, StorageUnavailable
from core.local.stack import Stack, running_stack
from core.local.workers import LocalContext
from core.pipeline import Pipeline
from core.results import Result, Source
from core.resumption import ProgressStore
from tests.support.cloudformation import Deployed
from tests.support.permissions import S3, SQS, Right, granted, needed, needed_for_key, recorded
from tests.support.serving import service_from_environment, serving

KEY, OTHER_KEY = (f"arn:aws:kms:us-east-1:123456789012:key/{name}" for name in ("1", "2"))
DEPLOYED = Deployed(
    EventBus="default",
    Reports="html",
    DeleteResults="true",
    ApiAuth="iam",
    KmsKeyArn=KEY,
    UploadsKmsKeyArns=OTHER_KEY,
    Tracing="xray",
)
UPLOADS, RESULTS = (DEPLOYED.resources()[name]["BucketName"] for name in ("UploadsBucket", "ResultsBucket"))

WITHOUT_A_CALL = {
    "s3:ListBucket": "without it S3 answers 403, not 404, for an absent object",
    "sqs:ReceiveMessage": "Lambda's event source mapping takes messages in the function's name",
    "sqs:DeleteMessage": "the same",
    "sqs:GetQueueAttributes": "the same",
    "logs:CreateLogStream": "Lambda writes what the function prints, in the function's name",
    "logs:PutLogEvents": "the same",
    "xray:PutTraceSegments": "Lambda sends the traces in the function's name",
    "xray:PutTelemetryRecords": "the same",
}
"""Rights that no call of a function needs, and the reason for each."""
OF_THE_POLLER = Right("kms:Decrypt", OTHER_KEY, f"{SQS}*")
"""Lambda's event source mapping also decrypts messages that a former key encrypted."""


@pytest.fixture
def stack(aws_server: str, package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """The embedded stack, with buckets and settings as template.yaml names them."""
    with running_stack(endpoint=aws_server) as running:
        for name, bucket in (("UploadsBucket", UPLOADS), ("ResultsBucket", RESULTS)):
            running.s3.create_bucket(Bucket=bucket)
            encrypt(running, name)
            running.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        for name, value in running.environment(package).items():
            monkeypatch.setenv(name, value)
        yield running


def set_environment(monkeypatch: pytest.MonkeyPatch, function: str, package: Path) -> None:
    variables = DEPLOYED.resources()[function]["Environment"]["Variables"]
    monkeypatch.delenv("EVENT_BUS", raising=False)
    for name, value in {**variables, "MODEL_DIR": str(package)}.items():
        monkeypatch.setenv(name, str(value))
    handlers.processing.delivery.cache_clear()
    handlers.processing.queue.cache_clear()
    handlers.processing._publisher.cache_clear()


def encrypt(stack: Stack, name: str) -> None:
    """Set the default encryption of a bucket as the template does."""
    bucket = DEPLOYED.resources()[name]
    [rule] = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    by_default = rule.pop("ServerSideEncryptionByDefault")
    configuration: Any = {"Rules": [{**rule, "ApplyServerSideEncryptionByDefault": by_default}]}
    stack.s3.put_bucket_encryption(Bucket=bucket["BucketName"], ServerSideEncryptionConfiguration=configuration)


def put(stack: Stack, key: str, body: bytes, **encryption: Any) -> str:
    return stack.s3.put_object(Bucket=UPLOADS, Key=key, Body=body, **encryption)["VersionId"]


def put_encrypted(stack: Stack, speech: bytes) -> dict[str, str]:
    """Upload recordings whose uploader chose the key, or no bucket key, and return their versions."""
    own: dict[str, Any] = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KEY, "BucketKeyEnabled": False}
    kinds = {
        "no-bucket-key.wav": own,
        "other-key.wav": {**own, "SSEKMSKeyId": OTHER_KEY, "BucketKeyEnabled": True},
        "other-key-no-bucket-key.wav": {**own, "SSEKMSKeyId": OTHER_KEY},
    }
    return {key: put(stack, key, speech, **encryption) for key, encryption in kinds.items()}


def encrypt_result_with_former_key(stack: Stack, key: str) -> None:
    """Store a result again, encrypted with another key, as after a change of the stack's key."""
    place = {"Bucket": RESULTS, "Key": f"results/{key}.json"}
    stored = stack.s3.get_object(**place)
    stack.s3.put_object(
        **place,
        Body=stored["Body"].read(),
        Metadata=stored["Metadata"],
        ServerSideEncryption="aws:kms",
        SSEKMSKeyId=OTHER_KEY,
        BucketKeyEnabled=True,
    )


def message(key: str, version_id: str | None, receive_count: int = 1) -> dict[str, Any]:
    file = Path(__file__).parents[2] / "events" / "sqs-s3-put.json"
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["Records"][0]
    body = json.loads(record["body"])
    body["Records"][0]["s3"]["bucket"]["name"] = UPLOADS
    body["Records"][0]["s3"]["object"] = {"key": key, **({"versionId": version_id} if version_id else {})}
    record["body"] = json.dumps(body)
    record["attributes"]["ApproximateReceiveCount"] = str(receive_count)
    return {"Records": [record]}


def removal(key: str) -> dict[str, Any]:
    batch = message(key, None)
    body = json.loads(batch["Records"][0]["body"])
    body["Records"][0]["eventName"] = "ObjectRemoved:DeleteMarkerCreated"
    batch["Records"][0]["body"] = json.dumps(body)
    return batch


def task(key: str, version_id: str | None) -> dict[str, Any]:
    return {
        "invocationSchemaVersion": "2.0",
        "invocationId": "i",
        "job": {"id": "j"},
        "tasks": [{"taskId": "t", "s3Key": key, "s3VersionId": version_id, "s3Bucket": UPLOADS}],
    }


def leave_expired_leases(stack: Stack, patched: pytest.MonkeyPatch) -> None:
    """Have every delivery find the lease of a crashed one, which the delivery reads and replaces."""

    def contested(storage: Storage, bucket: str, key: str, duration_s: float) -> Any:
        stack.s3.put_object(Bucket=bucket, Key=key, Body=b"x", Metadata={"expires-at": "0", "holder": "x"})
        return lease(storage, bucket, key, duration_s)

    patched.setattr("core.delivery.delivery.lease", contested)


def continue_in_another_invocation(stack: Stack, monkeypatch: pytest.MonkeyPatch, speech: bytes, origin: str) -> None:
    """Deliver a recording whose first invocation stores progress and sends a message for the rest."""
    key = f"{origin}.wav"
    version_id = put(stack, key, speech)
    event = message(key, version_id) if origin == "upload" else task(key, version_id)
    module = "handlers.s3_upload" if origin == "upload" else "handlers.batch_operations"
    handle = importlib.import_module(module).handler

    def run(self: Pipeline, path: Path, source: Source, *, store: ProgressStore, **_: Any) -> Result:
        assert store.load(is_short=False) is None
        store.save(b"progress")
        store.save(b"more progress")
        raise RecordingUnfinished(key)

    with monkeypatch.context() as patched:
        patched.setattr(Pipeline, "run", run)
        handle(event, LocalContext(60.0))
    assert key not in _with_result(stack)
    original = Pipeline.run

    def resumed(self: Pipeline, path: Path, source: Source, *, store: ProgressStore, **options: Any) -> Result:
        assert store.load(is_short=False) == b"more progress"
        return original(self, path, source, **options)

    # A retry of the event takes the place of the sent message.
    with monkeypatch.context() as patched:
        patched.setattr(Pipeline, "run", resumed)
        handle(event if origin == "backfill" else message(key, version_id, 2), LocalContext(60.0))
    assert key in _with_result(stack)


def check(calls: list[Right], role: str) -> None:
    rights = granted(DEPLOYED, role)
    assert not [call for call in set(calls) if not any(right.covers(call) for right in rights)]
    unused = {right for right in rights if not any(right.covers(call) for call in calls)} - {OF_THE_POLLER}
    assert {right for right in unused if right.action not in WITHOUT_A_CALL} == set()


def test_the_function_uses_every_right_of_its_role_and_no_other(
    stack: Stack, package: Path, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from handlers.s3_upload import handler

    set_environment(monkeypatch, "ClassifyFunction", package)
    leave_expired_leases(stack, monkeypatch)
    with recorded(KEY) as calls:
        versions = {key: put(stack, key, speech) for key in ("a.wav", "down.wav", "old.wav")}
        put(stack, "old.wav", speech)
        handler(message("a.wav", versions["a.wav"]), LocalContext(60.0))
        encrypt_result_with_former_key(stack, "a.wav")
        handler(message("a.wav", versions["a.wav"]), LocalContext(60.0))  # a duplicate
        encrypted = put_encrypted(stack, speech)
        for key, version_id in encrypted.items():
            handler(message(key, version_id), LocalContext(60.0))
        handler(message("old.wav", versions["old.wav"]), LocalContext(60.0))  # superseded
        handler(message("text.wav", put(stack, "text.wav", b"text")), LocalContext(60.0))  # failed
        handler(message("gone.wav", "x"), LocalContext(60.0))  # deleted
        with monkeypatch.context() as patched:
            patched.setattr(Storage, "download", _down)
            handler(message("down.wav", versions["down.wav"], receive_count=12), LocalContext(60.0))
        continue_in_another_invocation(stack, monkeypatch, speech, "upload")
        put(stack, "removed.wav", speech)
        handler(message("removed.wav", None), LocalContext(60.0))
        stack.s3.delete_object(Bucket=UPLOADS, Key="removed.wav")
        assert handler(removal("removed.wav"), LocalContext(60.0)) == {"batchItemFailures": []}
    assert {"a.wav", "text.wav", "down.wav", "upload.wav", *encrypted} == _with_result(stack)
    check(calls, "ClassifyRole")


def test_the_backfill_uses_every_right_of_its_role_and_no_other(
    stack: Stack, package: Path, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from handlers.batch_operations import handler

    set_environment(monkeypatch, "BackfillFunction", package)
    leave_expired_leases(stack, monkeypatch)
    with recorded(KEY) as calls:
        handler(task("a.wav", put(stack, "a.wav", speech)), LocalContext(60.0))
        encrypt_result_with_former_key(stack, "a.wav")
        handler(task("a.wav", None), LocalContext(60.0))
        encrypted = put_encrypted(stack, speech)
        for key, version_id in encrypted.items():
            handler(task(key, version_id), LocalContext(60.0))
        handler(task("gone.wav", None), LocalContext(60.0))
        put(stack, "removed.wav", speech)
        handler(task("removed.wav", None), LocalContext(60.0))
        stack.s3.delete_object(Bucket=UPLOADS, Key="removed.wav")
        handler(task("removed.wav", None), LocalContext(60.0))  # the job's list is outdated
        continue_in_another_invocation(stack, monkeypatch, speech, "backfill")
    assert _with_result(stack) == {"a.wav", "backfill.wav", *encrypted}
    check(calls, "BackfillRole")


def test_the_api_uses_every_right_of_its_role_and_no_other(
    stack: Stack, package: Path, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, "ApiFunction", package)
    # Clients are created within the block. The page's content security policy needs a presigned form, too.
    with (
        recorded() as calls,
        serving(service_from_environment(package)) as address,
        httpx2.Client(base_url=address) as client,
    ):
        assert client.get("/").status_code == 200
        kept = client.post("/recognize/", files={"file": speech}, timeout=200).headers["content-location"]
        assert client.get(kept).json()["status"] == "classified"
        encrypt_result_with_former_key(stack, f"api/{kept.rpartition('/')[2]}")
        assert client.get(kept).json()["status"] == "classified"
        assert client.get(f"{kept}/report").status_code == 200
        place = client.post("/uploads").json()
        assert client.get(place["result"]).status_code == 404
        assert httpx2.post(place["url"], data=place["fields"], files={"file": speech}).status_code == 204
        assert client.get(place["result"]).status_code == 202
    # A presigned POST uses the rights of its signer.
    upload = {"Bucket": UPLOADS, "Key": place["fields"]["key"]}
    stored = stack.s3.head_object(**upload)
    form = {*needed("s3", "PutObject", upload), *needed_for_key("PutObject", upload, stored)}
    assert len(form) == 3
    assert not form & set(calls)
    check([*calls, *form], "ApiRole")


def test_without_a_bus_the_function_may_not_publish_events() -> None:
    assert not any(right.action.startswith("events:") for right in granted(Deployed(), "ClassifyRole"))


def test_without_tracing_no_function_may_send_traces() -> None:
    for role in ("ClassifyRole", "BackfillRole", "ApiRole"):
        rights = granted(Deployed(ApiAuth="iam"), role)
        assert not any(right.action.startswith("xray:") for right in rights)
        traces = {Right("xray:PutTraceSegments", "*"), Right("xray:PutTelemetryRecords", "*")}
        assert granted(Deployed(ApiAuth="iam", Tracing="xray"), role) == rights | traces


def test_a_call_that_the_role_does_not_allow_fails_the_check() -> None:
    """A control for the tests above."""
    for call in (
        Right("s3:PutObject", f"arn:aws:s3:::{UPLOADS}/a.wav"),
        Right("s3:GetObject", f"arn:aws:s3:::{RESULTS}/elsewhere/a.wav.json"),
        Right("s3:DeleteObject", f"arn:aws:s3:::{UPLOADS}/a.wav"),
        Right("sqs:ChangeMessageVisibility", "arn:aws:sqs:us-east-1:123456789012:audio-emotion-dead-letters"),
        Right("kms:Decrypt", KEY, S3, f"arn:aws:s3:::{UPLOADS}-elsewhere"),
        Right("kms:Decrypt", KEY, S3),
        Right("kms:Decrypt", KEY, "secretsmanager.us-east-1.amazonaws.com"),
        Right("kms:Decrypt", KEY, "sqs.us-west-1.amazonaws.com"),
        Right("kms:GenerateDataKey", KEY, S3, f"arn:aws:s3:::{UPLOADS}"),
        Right("kms:GenerateDataKey", OTHER_KEY, S3, f"arn:aws:s3:::{RESULTS}"),
        Right("kms:Decrypt", KEY.replace("key/1", "key/3"), S3, f"arn:aws:s3:::{UPLOADS}"),
    ):
        with pytest.raises(AssertionError):
            check([call], "ClassifyRole")
    with recorded() as calls, pytest.raises(KeyError):
        boto3.client("s3", region_name="us-east-1").delete_bucket(Bucket=UPLOADS)
    assert calls == []


def test_a_write_with_if_match_needs_the_right_to_read() -> None:
    there = {"Bucket": "b", "Key": "k"}
    for operation, action in (("PutObject", "s3:PutObject"), ("DeleteObject", "s3:DeleteObject")):
        plain, read = Right(action, "arn:aws:s3:::b/k"), Right("s3:GetObject", "arn:aws:s3:::b/k")
        assert needed("s3", operation, there) == needed("s3", operation, {**there, "IfNoneMatch": "*"}) == {plain}
        assert needed("s3", operation, {**there, "IfMatch": '"etag"'}) == {plain, read}


def _down(*_: Any) -> None:
    raise StorageUnavailable("S3 is down.")


def _with_result(stack: Stack) -> set[str]:
    listed = stack.s3.list_objects_v2(Bucket=RESULTS, Prefix="results/")["Contents"]
    return {item["Key"].removeprefix("results/").removesuffix(".json") for item in listed if ".json" in item["Key"]}
