"""`KmsKeyArn` and `UploadsKmsKeyArns` in `template.yaml`, and the key policy that an operator copies."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cloudformation import ACCOUNT, REGION, STACK, TEMPLATE, Deployed
from tests.support.permissions import S3, SQS, Right, granted

KEY, OTHER_KEY, THIRD_KEY = (f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{name}" for name in ("1", "2", "mrk-3"))
EVERYTHING = {"KmsKeyArn": KEY, "Analytics": "athena", "AlarmEmail": "a@example.com"}
KEY_OF: dict[str, Callable[[Any], Any]] = {
    "AWS::S3::Bucket": lambda bucket: bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0][
        "ServerSideEncryptionByDefault"
    ].get("KMSMasterKeyID"),
    "AWS::SQS::Queue": lambda queue: queue.get("KmsMasterKeyId"),
    "AWS::Logs::LogGroup": lambda group: group.get("KmsKeyId"),
    "AWS::SNS::Topic": lambda topic: topic.get("KmsMasterKeyId"),
    "AWS::Athena::WorkGroup": lambda group: group["WorkGroupConfiguration"]["ResultConfiguration"][
        "EncryptionConfiguration"
    ].get("KmsKey"),
}
"""Every kind of resource that stores data, and the function that returns its key."""
POLICY_FILE = Path(__file__).parents[2] / "docs" / "how-to" / "key-policy.json"


def keys(stack: Deployed) -> dict[str, Any]:
    found = [(kind, *item) for kind in KEY_OF for item in stack.resources(kind).items()]
    return {name: KEY_OF[kind](resource) for kind, name, resource in found}


def of_kms(stack: Deployed, role: str) -> set[Right]:
    return {right for right in granted(stack, role) if right.action.startswith("kms:")}


@pytest.mark.parametrize("api", ["off", "iam"])
def test_one_key_encrypts_everything_that_a_stack_stores(api: str) -> None:
    encrypted = keys(Deployed(**EVERYTHING, ApiAuth=api))
    assert set(encrypted.values()) == {KEY}
    assert len(encrypted) == (8 if api == "off" else 10)
    without = keys(Deployed(**{**EVERYTHING, "KmsKeyArn": ""}, ApiAuth=api))
    assert without == dict.fromkeys(encrypted)


def test_a_bucket_has_a_bucket_key_and_a_queue_has_only_one_kind_of_encryption() -> None:
    stack = Deployed(KmsKeyArn=KEY)
    for bucket in stack.resources("AWS::S3::Bucket").values():
        [rule] = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["BucketKeyEnabled"] is True
        assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert [queue["SqsManagedSseEnabled"] for queue in stack.resources("AWS::SQS::Queue").values()] == [False, False]


@pytest.mark.parametrize("role", ["ClassifyRole", "BackfillRole", "ApiRole", "BatchOperationsRole"])
def test_without_a_key_no_role_may_call_kms(role: str) -> None:
    assert not of_kms(Deployed(ApiAuth="iam"), role)


@pytest.mark.parametrize("parameters", [{}, {"ExistingUploadsBucket": "recordings"}])
def test_a_function_decrypts_objects_of_the_stack_s_buckets_and_encrypts_only_results(
    parameters: dict[str, str],
) -> None:
    stack = Deployed(**parameters, KmsKeyArn=KEY, UploadsKmsKeyArns=f"{OTHER_KEY},{THIRD_KEY}")
    uploads, results = (f"arn:aws:s3:::{stack.outputs()[f'{name}BucketName']}" for name in ("Uploads", "Results"))
    common = {
        Right("kms:GenerateDataKey", KEY, f"{S3}*", results),
        Right("kms:Decrypt", KEY, f"{SQS}*"),
        Right("kms:GenerateDataKey", KEY, f"{SQS}*"),
    } | {
        Right("kms:Decrypt", key, f"{S3}*", context)
        for key in (KEY, OTHER_KEY, THIRD_KEY)
        for context in (uploads, f"{uploads}/*", results)
    }
    assert of_kms(stack, "BackfillRole") == common
    former = {Right("kms:Decrypt", key, f"{SQS}*") for key in (OTHER_KEY, THIRD_KEY)}
    assert of_kms(stack, "ClassifyRole") == common | former
    assert of_kms(stack, "BatchOperationsRole") == {
        Right(action, KEY, f"{S3}*", results) for action in ("kms:Decrypt", "kms:GenerateDataKey")
    }


def test_the_keys_of_uploads_need_no_key_of_the_stack() -> None:
    stack = Deployed(UploadsKmsKeyArns=OTHER_KEY)
    for role in ("ClassifyRole", "BackfillRole"):
        rights = of_kms(stack, role)
        assert {(right.action, right.resource) for right in rights} == {("kms:Decrypt", OTHER_KEY)}
    assert not of_kms(stack, "BatchOperationsRole")


def test_the_conditions_also_hold_in_china() -> None:
    for right in of_kms(Deployed(KmsKeyArn=KEY), "ClassifyRole"):
        service = right.via.split(".")[0]
        assert right.via == f"{service}.{REGION}.amazonaws.com*"
        assert Right("a", "b", f"{service}.{REGION}.amazonaws.com*").covers(
            Right("a", "b", f"{service}.{REGION}.amazonaws.com.cn")
        )


@pytest.mark.parametrize(
    ("arn", "is_accepted"),
    [
        ("", True),
        (KEY, True),
        ("arn:aws-cn:kms:cn-north-1:123456789012:key/11111111-2222-3333-4444-555555555555", True),
        ("arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/mrk-1", True),
        ("arn:aws:kms:us-east-1:123456789012:alias/recordings", False),
        ("alias/recordings", False),
        ("11111111-2222-3333-4444-555555555555", False),
        ("arn:aws:kms:us-east-1:123456789012:key/*", False),
    ],
)
def test_a_key_is_named_by_its_arn(arn: str, *, is_accepted: bool) -> None:
    """IAM policies match ARNs of keys, not aliases."""
    for name in ("KmsKeyArn", "UploadsKmsKeyArns"):
        assert bool(re.match(TEMPLATE["Parameters"][name]["AllowedPattern"], arn)) is is_accepted


# --------------------------------------------------------------------------------------------------- the key's policy


def key_policy() -> dict[str, dict[str, Any]]:
    """Return the statements of the policy in the documentation, with the test stack's names."""
    text = POLICY_FILE.read_text(encoding="utf-8")
    for name, value in (("STACK", STACK), ("ACCOUNT", ACCOUNT), ("REGION", REGION)):
        text = text.replace(name, value)
    return {statement["Sid"]: statement for statement in json.loads(text)["Statement"]}


def test_the_policy_enables_the_policies_of_the_roles() -> None:
    statement = key_policy()["RolesAndAdministrators"]
    assert statement["Principal"] == {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    assert (statement["Action"], statement["Resource"]) == ("kms:*", "*")


@pytest.mark.parametrize(
    ("sid", "parameters"),
    [("S3SendsToQueue", {}), ("EventBridgeSendsToQueue", {"ExistingUploadsBucket": "recordings"})],
)
def test_a_service_that_may_send_to_the_queue_may_use_the_key(sid: str, parameters: dict[str, str]) -> None:
    allowed = Deployed(**parameters).resources()["QueuePolicy"]["PolicyDocument"]["Statement"][0]
    statement = key_policy()[sid]
    assert statement["Principal"] == allowed["Principal"]
    assert set(statement["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey"}
    source = allowed["Condition"]["ArnEquals"]["aws:SourceArn"]
    pattern = statement["Condition"]["ArnLike"]["aws:SourceArn"]
    assert Right("a", pattern).covers(Right("a", source))
    # CloudFormation adds random characters to the name of a rule, but not to the bucket's.
    assert Right("a", pattern).covers(Right("a", f"{source}-1A2B")) is ("events" in source)


def test_cloudwatch_logs_may_use_the_key_for_every_log_group() -> None:
    statement = key_policy()["LogsOfTheStack"]
    assert statement["Principal"] == {"Service": f"logs.{REGION}.amazonaws.com"}
    patterns = statement["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"]
    groups = Deployed(ApiAuth="iam").resources("AWS::Logs::LogGroup").values()
    assert len(groups) == 4
    for group in groups:
        arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group['LogGroupName']}"
        assert any(Right("a", pattern).covers(Right("a", arn)) for pattern in patterns), arn


def test_a_service_that_may_publish_alarms_may_use_the_key() -> None:
    stack = Deployed(**EVERYTHING)
    [allowed, _] = stack.resources()["AlarmTopicPolicy"]["PolicyDocument"]["Statement"]
    statement = key_policy()["CloudWatchPublishesAlarms"]
    assert statement["Principal"] == allowed["Principal"]
    pattern = statement["Condition"]["ArnLike"]["aws:SourceArn"]
    for alarm in stack.resources("AWS::CloudWatch::Alarm"):
        arn = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{STACK}-{alarm}-1A2B"
        assert Right("a", pattern).covers(Right("a", arn))


def test_the_policy_has_a_condition_for_each_service() -> None:
    statements = key_policy().values()
    assert len(statements) == 5
    for statement in statements:
        assert ("Condition" in statement) is ("Service" in statement["Principal"])
