"""The API's result store on S3."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from core.delivery.storage import Storage
from core.errors import EmptyRecording, SettingsInvalid, StorageRefused
from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET, Stack, running_stack
from core.online.result_store import Missing, S3ResultStore, is_id, new_id, presigning_s3_client
from core.results import Model, Processing, Result, Source, now
from core.settings import ApiSettings, read
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def stack(aws_server: str) -> Iterator[Stack]:
    with running_stack(endpoint=aws_server) as stack:
        yield stack


@pytest.fixture
def store(stack: Stack, package: Path, monkeypatch: pytest.MonkeyPatch) -> S3ResultStore:
    for name, value in stack.environment(package).items():
        monkeypatch.setenv(name, value)
    return S3ResultStore(Storage(stack.s3), presigning_s3_client(), read(ApiSettings), 1_000_000)


def result(recording_id: str) -> Result:
    model = Model(id="m", revision="r", precision="int8", fingerprint="sha256:0", labels=("anger",))
    return Result(
        status="no_speech",
        source=Source(key=f"api/{recording_id}"),
        model=model,
        processing=Processing(finished_at=now(), version="1"),
    )


def test_a_result_is_unknown_then_pending_then_stored(store: S3ResultStore, stack: Stack) -> None:
    upload = store.create_upload("")
    assert store.find(upload.id) is Missing.UNKNOWN

    answer = httpx2.post(upload.url, data=dict(upload.fields), files={"file": b"recording"})
    assert answer.status_code == 204
    assert store.find(upload.id) is Missing.PENDING
    assert stack.s3.get_object(Bucket=UPLOADS_BUCKET, Key=f"api/{upload.id}")["Body"].read() == b"recording"

    store.store(upload.id, result(upload.id))
    store.store(upload.id, result(upload.id))  # a PUT that is repeated because its first answer was lost
    found = store.find(upload.id)
    assert isinstance(found, bytes)
    assert json.loads(found)["source"]["key"] == f"api/{upload.id}"


def test_a_stored_result_has_the_metadata_of_the_queue_s_results(store: S3ResultStore, stack: Stack) -> None:
    recording_id = new_id()
    store.store(recording_id, result(recording_id))

    head = stack.s3.head_object(Bucket=RESULTS_BUCKET, Key=f"results/api/{recording_id}.json")

    assert head["ContentType"] == "application/json"
    assert {"source-version", "sequencer", "fingerprint", "state"} <= set(head["Metadata"])


def test_the_metadata_of_a_failed_result_names_its_error(store: S3ResultStore, stack: Stack) -> None:
    recording_id = new_id()
    stored = result(recording_id)
    store.store(recording_id, Result.failed(stored.source, stored.model, EmptyRecording("The file is empty.")))

    head = stack.s3.head_object(Bucket=RESULTS_BUCKET, Key=f"results/api/{recording_id}.json")

    assert head["Metadata"]["error"] == "empty"


def test_a_form_is_limited_to_one_key_one_size_and_a_time(store: S3ResultStore) -> None:
    upload = store.create_upload("")

    policy = json.loads(base64.b64decode(upload.fields["policy"]))
    assert {"bucket": UPLOADS_BUCKET} in policy["conditions"]
    assert {"key": f"api/{upload.id}"} in policy["conditions"]
    assert ["content-length-range", 1, 1_000_000] in policy["conditions"]
    assert not any("starts-with" in condition for condition in policy["conditions"])
    assert policy["expiration"][:16] == upload.expires_at.isoformat()[:16]


def test_a_form_posts_to_the_bucket_s_region(
    store: S3ResultStore, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    there = S3ResultStore(Storage(stack.s3), presigning_s3_client(), read(ApiSettings), 1_000_000)

    assert there.create_upload("").url == f"https://{UPLOADS_BUCKET}.s3.eu-central-1.amazonaws.com/"
    assert there.upload_origin == f"https://{UPLOADS_BUCKET}.s3.eu-central-1.amazonaws.com"


def test_signing_without_credentials_is_refused(
    store: S3ResultStore, stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it caches credentials
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    without_credentials = S3ResultStore(Storage(stack.s3), presigning_s3_client(), read(ApiSettings), 1_000_000)

    with pytest.raises(StorageRefused, match="cannot be signed"):
        without_credentials.create_upload("")


def test_the_buckets_are_set_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESULTS_BUCKET", "results")
    monkeypatch.delenv("UPLOADS_BUCKET", raising=False)

    with pytest.raises(SettingsInvalid, match="must both be set, or neither"):
        read(ApiSettings)


def test_only_a_lower_case_uuid4_is_an_id() -> None:
    assert is_id(new_id())
    assert len({new_id() for _ in range(100)}) == 100
    for text in ["", "x", "../evil", new_id() + "\n", new_id().upper(), new_id().replace("-", "")]:
        assert not is_id(text)


def test_the_upload_function_does_not_import_the_http_api() -> None:
    program = "import sys, handlers.s3_upload; print([n for n in sys.modules if n.partition('.')[0] in sys.argv[1:]])"
    frameworks = ["fastapi", "starlette", "mangum", "uvicorn", "anyio", "python_multipart"]
    environment = {"PATH": "/usr/bin:/bin", "RESULTS_BUCKET": "results"}

    printed = subprocess.run(
        [sys.executable, "-c", program, *frameworks],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout

    assert printed == "[]\n"
