"""Keys of results, the order of events, and the meaning of S3's answers."""

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from core import errors
from core.delivery.keys import is_earlier, result_key_for
from core.delivery.queue import UploadQueue
from core.delivery.s3_errors import WriteConflict, error_for
from core.delivery.versions import Upload
from core.local.folders import path_for


def test_a_result_key_is_the_prefix_and_the_source_key() -> None:
    assert result_key_for("calls/a b.wav", "results/") == "results/calls/a b.wav.json"


@given(st.text(min_size=1, max_size=1100), st.sampled_from(["", "results/"]))
def test_no_result_key_exceeds_the_limit_of_s3(key: str, prefix: str) -> None:
    result_key = result_key_for(key, prefix)
    assert len(result_key.encode()) <= 1024
    assert result_key.startswith(prefix)
    assert result_key.endswith(".json")


def test_long_keys_that_differ_only_at_their_end_have_different_result_keys() -> None:
    assert result_key_for("录" * 341 + "a", "results/") != result_key_for("录" * 341 + "b", "results/")


@given(st.text(min_size=300, max_size=1100), st.sampled_from(["", "results/"]))
def test_no_key_has_the_shortened_result_key_of_another(key: str, prefix: str) -> None:
    shortened = result_key_for(key, prefix)
    impostor = shortened.removeprefix(prefix).removesuffix(".json")
    if impostor != key:
        assert result_key_for(impostor, prefix) != shortened


def test_only_keys_at_the_limit_of_s3_are_shortened() -> None:
    for characters in range(900, 1024):
        result_key = result_key_for("x" * characters, "results/")
        assert (result_key == f"results/{'x' * characters}.json") is (characters <= 1020 - len("results/.json"))


@pytest.mark.parametrize(
    ("first", "second"),
    [("0055AED6DCD90281E5", "0055AED6DCD90281E6"), ("00A1", "00A15"), ("00A", "00B1"), ("0", "1")],
)
def test_sequencers_are_compared_as_padded_text(first: str, second: str) -> None:
    assert is_earlier(first, second)
    assert not is_earlier(second, first)


def test_a_sequencer_is_not_earlier_than_itself_padded() -> None:
    assert not is_earlier("00A1", "00A100")
    assert not is_earlier("00A100", "00A1")


KEY = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
ROLE = "arn:aws:sts::123456789012:assumed-role/audio-emotion-classify/audio-emotion-classify"


def _client_error(code: str, status: int, message: str = "") -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "GetObject",
    )


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("NoSuchKey", 404, errors.RecordingSuperseded),
        ("NoSuchVersion", 404, errors.RecordingSuperseded),
        ("404", 404, errors.RecordingSuperseded),
        ("MethodNotAllowed", 405, errors.RecordingSuperseded),
        ("PreconditionFailed", 412, errors.RecordingSuperseded),
        ("InvalidObjectState", 403, errors.RecordingArchived),
        ("AccessDenied", 403, errors.StorageRefused),
        ("403", 403, errors.StorageRefused),
        ("ExpiredToken", 400, errors.StorageRefused),
        ("NoSuchBucket", 404, errors.StorageRefused),
        ("KMS.DisabledException", 400, errors.StorageRefused),
        ("KMS.NotFoundException", 404, errors.StorageRefused),
        ("KMS.KMSInvalidStateException", 409, errors.StorageRefused),
        ("KMS.ThrottlingException", 400, errors.StorageUnavailable),
        ("KMS.KMSInternalException", 500, errors.StorageUnavailable),
        ("ThrottlingException", 400, errors.StorageUnavailable),
        ("SlowDown", 503, errors.StorageUnavailable),
        ("InternalError", 500, errors.StorageUnavailable),
        ("RequestTimeout", 400, errors.StorageUnavailable),
        ("Whatever", 418, errors.StorageUnavailable),
    ],
)
def test_answers_to_reads_are_translated(code: str, status: int, expected: type) -> None:
    assert type(error_for(_client_error(code, status), "b/k", is_write=False)) is expected


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("PreconditionFailed", 412, WriteConflict),
        ("ConditionalRequestConflict", 409, WriteConflict),
        ("NoSuchKey", 404, WriteConflict),
        ("NoSuchBucket", 404, errors.StorageRefused),
        ("AccessDenied", 403, errors.StorageRefused),
        ("KMS.NotFoundException", 404, errors.StorageRefused),
        ("KMS.KMSInvalidStateException", 409, errors.StorageRefused),
        ("KMS.ThrottlingException", 400, errors.StorageUnavailable),
        ("SlowDown", 503, errors.StorageUnavailable),
    ],
)
def test_answers_to_writes_are_translated(code: str, status: int, expected: type) -> None:
    assert type(error_for(_client_error(code, status), "b/k", is_write=True)) is expected


@pytest.mark.parametrize(
    ("code", "message", "reason", "cause"),
    [
        (
            "AccessDenied",
            f"User: {ROLE} is not authorized to perform: kms:Decrypt on resource: {KEY} because no identity-based "
            "policy allows the kms:Decrypt action",
            f"The caller is not authorized to perform kms:Decrypt on resource: {KEY} because no identity-based policy "
            "allows the kms:Decrypt action.",
            "kms:Decrypt",
        ),
        (
            "AccessDenied",
            f'User: {ROLE} is not authorized to perform: s3:GetObject on resource: "arn:aws:s3:::b/k"',
            'The caller is not authorized to perform s3:GetObject on resource: "arn:aws:s3:::b/k".',
            "s3:GetObject",
        ),
        ("AccessDenied", "Access Denied", "Check the caller's permissions.", "AccessDenied"),
        ("KMS.DisabledException", f"{KEY} is disabled.", f"KMS: {KEY} is disabled.", "KMS.DisabledException"),
        (
            "KMS.KMSInvalidStateException",
            f"{KEY} is pending deletion. (Service: AWSKMS; Status Code: 400; Request ID: 1)",
            f"KMS: {KEY} is pending deletion.",
            "KMS.KMSInvalidStateException",
        ),
        ("KMS.DisabledException", "", "KMS cannot use the object's key.", "KMS.DisabledException"),
    ],
)
def test_a_refusal_names_the_action_and_the_key(code: str, message: str, reason: str, cause: str) -> None:
    refused = error_for(_client_error(code, 403, message), "b/k", is_write=False)
    assert isinstance(refused, errors.StorageRefused)
    assert refused.cause == cause
    assert str(refused) == f"S3 denied access to b/k ({code}). {reason}"
    assert ROLE not in str(refused)


def test_a_refusal_names_the_key_that_aws_does_not_name() -> None:
    """AWS does not name a key of another account."""
    refused = error_for(_client_error("AccessDenied", 403, "Access Denied"), "b/k", is_write=False, kms_key_id=KEY)
    assert str(refused).endswith(f"Check the caller's permissions. Reading it needs kms:Decrypt on {KEY}.")


def test_a_queue_that_may_not_use_its_key_names_the_action_and_the_key() -> None:
    """SQS has its own codes for errors of KMS."""
    client = boto3.client("sqs", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    reason = f"User: {ROLE} is not authorized to perform: kms:GenerateDataKey on resource: {KEY}"
    with Stubber(client) as sqs:
        sqs.add_client_error("send_message", "KmsAccessDenied", reason)
        with pytest.raises(errors.QueueUnavailable, match=f"kms:GenerateDataKey on resource: {KEY}"):
            UploadQueue("https://sqs.us-east-1.amazonaws.com/1/q", client).send(Upload("b", "k"), "upload")


def test_an_sse_c_upload_is_a_permanent_error() -> None:
    message = "The object was stored using a form of Server Side Encryption."
    error = error_for(_client_error("InvalidRequest", 400, message), "b/k", is_write=False)
    assert isinstance(error, errors.RecordingEncrypted)


@given(st.text(min_size=1, max_size=400))
def test_every_key_has_a_file_below_the_folder(key: str) -> None:
    from pathlib import Path

    folder = Path("out/results")
    path = path_for(folder, key)
    assert path.is_relative_to(folder)
    assert path != folder
    assert not {"..", ""} & set(path.relative_to(folder).parts)
    assert all(len(part.encode()) <= 255 for part in path.parts)
