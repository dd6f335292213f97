"""The buckets of `template.yaml`: events, expiry, import, and an existing bucket in place of the own one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from core.operations.backfill import REPORTS_PREFIX
from tests.support.cloudformation import ACCOUNT, REGION, RESOURCES, STACK, TEMPLATE, Deployed, properties
from tests.support.permissions import Right, granted

ROOT = Path(__file__).parents[2]
BUCKETS = ["UploadsBucket", "ResultsBucket"]
FUNCTION: dict[str, Any] = RESOURCES["ClassifyFunction"]["Properties"]
BACKFILL: dict[str, Any] = RESOURCES["BackfillFunction"]["Properties"]


def test_a_stack_for_an_existing_bucket_creates_no_uploads_bucket() -> None:
    own, existing = Deployed(), Deployed(ExistingUploadsBucket="recordings")
    assert set(own.resources()) - set(existing.resources()) == {"UploadsBucket", "UploadsBucketPolicy"}
    assert set(existing.resources()) - set(own.resources()) == {"ExistingUploadsRule"}
    assert "-uploads-" not in str([*existing.resources("AWS::IAM::Role").values(), existing.outputs()])
    assert existing.outputs()["UploadsBucketName"] == "recordings"
    assert existing.outputs()["Upload"].endswith("s3://recordings/call.wav")
    transformed = existing.transformed().resources()
    assert "UploadsBucket" not in transformed
    assert "ExistingUploadsRule" in transformed
    assert "ExistingUploadsRule" not in own.transformed().resources()


@pytest.mark.parametrize("role", ["ClassifyRole", "BackfillRole", "BatchOperationsRole"])
def test_the_roles_have_the_same_rights_on_an_existing_bucket(role: str) -> None:
    own = f"{STACK}-uploads-{ACCOUNT}-{REGION}"
    moved = {
        Right(right.action, right.resource.replace(f"arn:aws:s3:::{own}", "arn:aws:s3:::recordings"))
        for right in granted(Deployed(), role)
    }
    assert granted(Deployed(ExistingUploadsBucket="recordings"), role) == moved
    assert any("arn:aws:s3:::recordings" in right.resource for right in moved)


def test_only_the_rule_of_this_stack_may_send_the_events_of_an_existing_bucket() -> None:
    stack = Deployed(ExistingUploadsBucket="recordings")
    [allowed, denied] = stack.resources()["QueuePolicy"]["PolicyDocument"]["Statement"]
    assert allowed["Principal"] == {"Service": "events.amazonaws.com"}
    assert allowed["Action"] == "sqs:SendMessage"
    rule = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{STACK}-ExistingUploadsRule"
    assert allowed["Condition"] == {"ArnEquals": {"aws:SourceArn": rule}}
    assert denied["Effect"] == "Deny"
    [target] = stack.resources()["ExistingUploadsRule"]["Targets"]
    assert target["Arn"] == stack.resolve({"Fn::GetAtt": "Queue.Arn"}) == allowed["Resource"]


@pytest.mark.parametrize(
    ("parameters", "kinds", "keys"),
    [
        ({}, ["Object Created"], [{"exists": True}]),
        ({"DeleteResults": "true"}, ["Object Created", "Object Deleted"], [{"exists": True}]),
        ({"ExistingUploadsKeys": "calls/*.wav"}, ["Object Created"], [{"wildcard": "calls/*.wav"}]),
    ],
)
def test_the_rule_selects_the_events_of_an_existing_bucket(
    parameters: dict[str, str], kinds: list[str], keys: list[Any]
) -> None:
    stack = Deployed(ExistingUploadsBucket="recordings", **parameters)
    assert stack.resources()["ExistingUploadsRule"]["EventPattern"] == {
        "source": ["aws.s3"],
        "detail-type": kinds,
        "detail": {"bucket": {"name": ["recordings"]}, "object": {"key": keys}},
    }


def test_the_api_needs_the_stack_s_own_uploads_bucket() -> None:
    rule = TEMPLATE["Rules"]["TheApiHasItsOwnBucket"]
    assert rule["RuleCondition"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "ExistingUploadsBucket"}, ""]}]}
    [assertion] = rule["Assertions"]
    assert assertion["Assert"] == {"Fn::Equals": [{"Ref": "ApiAuth"}, "off"]}


def lifecycle_rules(stack: Deployed, bucket: str) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = stack.resources()[bucket]["LifecycleConfiguration"]["Rules"]
    return rules


def test_the_lifecycle_rules_delete_no_results_by_default() -> None:
    rules = {rule["Id"]: rule for rule in lifecycle_rules(Deployed(LogRetentionDays="90"), "ResultsBucket")}
    claims = FUNCTION["Environment"]["Variables"]["LEASES_PREFIX"]
    assert rules["claims"]["Prefix"] == claims
    assert rules["claims"]["ExpirationInDays"] == 1
    assert rules["claims"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert [rule["Id"] for rule in rules.values() if "ExpirationInDays" in rule] == ["claims", "queries", "backfill"]
    assert rules["queries"]["Prefix"] == "queries/"
    assert rules["backfill"]["Prefix"] == f"{REPORTS_PREFIX}/"
    assert rules["backfill"]["ExpirationInDays"] == "90"
    prefix = TEMPLATE["Parameters"]["ResultsPrefix"]
    assert re.match(prefix["AllowedPattern"], prefix["Default"])
    for refused in ["", "claims/", "claims/results/", "queries/", "backfill/x/", "/", "/results/", "results"]:
        assert not re.match(prefix["AllowedPattern"], refused)


def test_uploads_and_results_expire_if_requested() -> None:
    stack = Deployed(UploadsDays="20", ResultsDays="40", ResultsPrefix="r/")
    uploads, results = (lifecycle_rules(stack, bucket) for bucket in BUCKETS)
    assert {"Id": "uploads", "Status": "Enabled", "ExpirationInDays": "20"} in uploads
    assert {"Id": "results", "Status": "Enabled", "Prefix": "r/", "ExpirationInDays": "40"} in results


def test_the_function_gets_deletions_and_may_delete_results_only_if_requested() -> None:
    def events(stack: Deployed) -> set[str]:
        configurations = stack.resources()["UploadsBucket"]["NotificationConfiguration"]["QueueConfigurations"]
        assert {configuration["Queue"] for configuration in configurations} == {
            stack.resolve({"Fn::GetAtt": "Queue.Arn"})
        }
        return {configuration["Event"] for configuration in configurations}

    kept, deleted = Deployed(), Deployed(DeleteResults="true", ResultsPrefix="r/")
    assert events(kept) == {"s3:ObjectCreated:*"}
    assert events(deleted) == {"s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"}
    may_delete = Right("s3:DeleteObject", f"arn:aws:s3:::{STACK}-results-{ACCOUNT}-{REGION}/r/*")
    for role in ("ClassifyRole", "BackfillRole"):
        assert granted(deleted, role) - granted(Deployed(ResultsPrefix="r/"), role) == {may_delete}
    for function in (FUNCTION, BACKFILL):
        assert function["Environment"]["Variables"]["DELETE_RESULTS"] == {"Ref": "DeleteResults"}


def test_the_uploads_bucket_expires_only_uploads_of_the_api() -> None:
    def expiring(stack: Deployed) -> list[Any]:
        rules = stack.resources()["UploadsBucket"]["LifecycleConfiguration"]["Rules"]
        return [rule for rule in rules if "ExpirationInDays" in rule]

    assert expiring(Deployed()) == []
    stack = Deployed(ApiAuth="jwt", ApiUploadsDays="20")
    assert expiring(stack) == [
        {
            "Id": "api",
            "Status": "Enabled",
            "Prefix": stack.resources()["ApiFunction"]["Environment"]["Variables"]["API_PREFIX"],
            "ExpirationInDays": "20",
            "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
        }
    ]
    # An upload can be retried until the queues delete its message.
    days = properties("DeadLetterQueue")["MessageRetentionPeriod"] / 86_400
    assert TEMPLATE["Parameters"]["ApiUploadsDays"]["Default"] > days


@pytest.mark.parametrize("bucket", BUCKETS)
def test_incomplete_uploads_and_old_versions_are_deleted(bucket: str) -> None:
    rules = Deployed().resources()[bucket]["LifecycleConfiguration"]["Rules"]
    (rule,) = [rule for rule in rules if rule["Id"] == "leftovers"]
    assert rule["Status"] == "Enabled"
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert "NoncurrentVersionExpiration" in rule


@pytest.mark.parametrize(("partition", "region"), [("aws", REGION), ("aws-cn", "cn-north-1")])
def test_the_buckets_of_a_deleted_stack_can_be_imported(partition: str, region: str) -> None:
    """CloudFormation imports a bucket by a name without functions, and only with a DeletionPolicy."""
    text = (ROOT / "docs" / "how-to" / "retained-buckets.json").read_text(encoding="utf-8")
    for name, value in (("STACK", "calls"), ("ACCOUNT", ACCOUNT), ("REGION", region)):
        text = text.replace(name, value)
    imported = json.loads(text)
    assert set(imported) == {"AWSTemplateFormatVersion", "Resources"}
    created = Deployed(stack="calls", partition=partition, region=region).resources("AWS::S3::Bucket")
    assert imported["Resources"] == {
        name: {
            "Type": "AWS::S3::Bucket",
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": {"BucketName": bucket["BucketName"]},
        }
        for name, bucket in created.items()
    }


def test_every_kind_of_upload_reaches_the_queue() -> None:
    notification, *_ = properties("UploadsBucket")["NotificationConfiguration"]["QueueConfigurations"]
    assert notification == {"Event": "s3:ObjectCreated:*", "Queue": {"Fn::GetAtt": "Queue.Arn"}}
    assert RESOURCES["UploadsBucket"]["DependsOn"] == "QueuePolicy"


def test_a_result_notifies_nothing_by_default() -> None:
    assert "NotificationConfiguration" not in Deployed().resources()["ResultsBucket"]
    notification = Deployed(NotifyResults="true").resources()["ResultsBucket"]["NotificationConfiguration"]
    assert notification == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
