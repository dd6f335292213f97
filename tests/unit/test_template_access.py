"""Access in `template.yaml`: nothing is public, connections are encrypted, and roles have only the rights they need."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.cloudformation import ACCOUNT, REGION, STACK, Deployed, properties
from tests.support.permissions import Right, as_list, granted

ROOT = Path(__file__).parents[2]
PARAMETER_SETS = [
    {},
    {
        "EventBus": "calls",
        "NotifyResults": "true",
        "Analytics": "athena",
        "DeleteResults": "true",
        "BackfillConcurrency": "5",
        "ApiAuth": "iam",
        "AlarmEmail": "a@example.com",
        "KmsKeyArn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1",
        "UploadsKmsKeyArns": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/2",
        "Tracing": "xray",
    },
]
"""With these sets of parameters, every condition about permissions is false once and true once."""
BUCKETS = ["UploadsBucket", "ResultsBucket"]
QUEUES = ["Queue", "DeadLetterQueue"]


def policy_statements(resource: str) -> list[dict[str, Any]]:
    """Return the statements of the policy of a bucket or a queue, for a stack with its own uploads bucket."""
    statements = properties(f"{resource}Policy")["PolicyDocument"]["Statement"]
    return [statement.get("Fn::If", [statement])[-1] for statement in statements]


@pytest.mark.parametrize("bucket", BUCKETS)
def test_a_bucket_is_versioned_encrypted_and_closed_to_the_public(bucket: str) -> None:
    assert properties(bucket)["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(properties(bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(properties(bucket)["PublicAccessBlockConfiguration"]) == 4
    (rule,) = Deployed().resources()[bucket]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    assert properties(bucket)["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]


@pytest.mark.parametrize("resource", BUCKETS + QUEUES)
def test_an_unencrypted_connection_is_refused(resource: str) -> None:
    denied = [s for s in policy_statements(resource) if s["Effect"] == "Deny"]
    (statement,) = denied
    assert statement["Principal"] == "*"
    assert statement["Action"] in {"s3:*", "sqs:*"}
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    arn = {"Fn::GetAtt": f"{resource}.Arn"}
    assert arn in as_list(statement["Resource"])
    if resource in BUCKETS:
        assert {"Fn::Sub": f"${{{resource}.Arn}}/*"} in statement["Resource"]


@pytest.mark.parametrize("queue", QUEUES)
def test_a_queue_is_encrypted(queue: str) -> None:
    assert Deployed().resources()[queue]["SqsManagedSseEnabled"] is True


def test_only_the_uploads_bucket_of_this_account_may_send_to_the_queue() -> None:
    (allowed,) = [s for s in policy_statements("Queue") if s["Effect"] == "Allow"]
    assert allowed["Principal"] == {"Service": "s3.amazonaws.com"}
    assert allowed["Action"] == "sqs:SendMessage"
    assert allowed["Condition"]["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    bucket_name = properties("UploadsBucket")["BucketName"]["Fn::Sub"]
    assert allowed["Condition"]["ArnEquals"] == {
        "aws:SourceArn": {"Fn::Sub": f"arn:${{AWS::Partition}}:s3:::{bucket_name}"}
    }


def test_only_the_queue_may_use_the_dead_letter_queue() -> None:
    allow = properties("DeadLetterQueue")["RedriveAllowPolicy"]
    assert allow["redrivePermission"] == "byQueue"
    (source,) = allow["sourceQueueArns"]
    assert source["Fn::Sub"].endswith(properties("Queue")["QueueName"]["Fn::Sub"])


def has_no_wildcard_in_a_name(arn: str) -> bool:
    """Return whether an asterisk stands only for the keys of a prefix, a log's streams or a function's versions."""
    return re.fullmatch(r"arn:aws:((s3:::[^*?]+/|logs:[^*?]+:|lambda:[^*?]+:)\*|[^*?]+)", arn) is not None


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:s3:::audio-emotion-*",
        "arn:aws:s3:::*/*",
        "arn:aws:sqs:us-east-1:1:audio-emotion*",
        "arn:aws:s3:::a?c/*",
        "*",
    ],
)
def test_a_wildcard_in_a_name_is_found(arn: str) -> None:
    assert not has_no_wildcard_in_a_name(arn)


@pytest.mark.parametrize("parameters", PARAMETER_SETS)
def test_no_policy_has_a_wildcard_in_a_name(parameters: dict[str, str]) -> None:
    stack = Deployed(**parameters)
    for role in stack.resources("AWS::IAM::Role"):
        for right in granted(stack, role):
            assert re.fullmatch(r"[a-z0-9-]+:[A-Za-z]+", right.action)
            if right.action.startswith("xray:"):
                continue  # X-Ray's actions accept no other resource than *
            assert has_no_wildcard_in_a_name(right.resource), right
            assert STACK in right.resource or right.action.startswith(("events:PutEvents", "kms:"))
            assert bool(right.via) is right.action.startswith("kms:")


@pytest.mark.parametrize("parameters", PARAMETER_SETS)
def test_every_role_has_only_the_policies_of_the_template(parameters: dict[str, str]) -> None:
    stack = Deployed(**parameters)
    for role in stack.resources("AWS::IAM::Role").values():
        assert "ManagedPolicyArns" not in role, "AWS's managed policies allow every bucket"
        [statement] = role["AssumeRolePolicyDocument"]["Statement"]
        assert set(statement) >= {"Effect", "Principal", "Action"}
        assert set(statement["Principal"]) == {"Service"}
    for function in stack.resources("AWS::Serverless::Function").values():
        assert "Policies" not in function, "SAM would add permissions that the template does not list"
        assert "Role" in function


@pytest.mark.parametrize(
    ("role", "others"),
    [
        (
            "ClassifyRole",
            {
                Right("sqs:ReceiveMessage", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{STACK}-uploads"),
                Right("sqs:DeleteMessage", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{STACK}-uploads"),
                Right("sqs:GetQueueAttributes", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{STACK}-uploads"),
                Right("sqs:ChangeMessageVisibility", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{STACK}-uploads"),
                Right("sqs:SendMessage", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{STACK}-uploads"),
                Right("events:PutEvents", f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/calls"),
            },
        ),
        ("BackfillRole", {Right("sqs:SendMessage", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{STACK}-uploads")}),
    ],
)
def test_a_function_may_only_read_uploads_and_write_results(role: str, others: set[Right]) -> None:
    stack = Deployed(EventBus="calls")
    log_group = stack.resources()[role.replace("Role", "LogGroup")]["LogGroupName"]
    logs = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{log_group}:*"
    uploads, results = (f"arn:aws:s3:::{STACK}-{name}-{ACCOUNT}-{REGION}" for name in ("uploads", "results"))
    assert granted(stack, role) == others | {
        Right("s3:GetObject", f"{uploads}/*"),
        Right("s3:GetObjectVersion", f"{uploads}/*"),
        Right("s3:ListBucket", uploads),
        Right("s3:ListBucket", results),
        Right("s3:GetObject", f"{results}/results/*"),
        Right("s3:PutObject", f"{results}/results/*"),
        Right("s3:GetObject", f"{results}/claims/*"),
        Right("s3:PutObject", f"{results}/claims/*"),
        Right("s3:DeleteObject", f"{results}/claims/*"),
        Right("logs:CreateLogStream", logs),
        Right("logs:PutLogEvents", logs),
    }


def test_a_backfill_may_invoke_versions_of_one_function_and_write_its_report() -> None:
    uploads, results = (f"arn:aws:s3:::{STACK}-{name}-{ACCOUNT}-{REGION}" for name in ("uploads", "results"))
    rights = granted(Deployed(), "BatchOperationsRole")
    assert rights == {
        Right("lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{STACK}-backfill:*"),
        Right("s3:PutInventoryConfiguration", uploads),
        Right("s3:PutObject", f"{results}/backfill/*"),
        Right("s3:GetBucketLocation", results),
    }
    pinned = Right("lambda:InvokeFunction", Deployed().outputs()["BackfillVersionArn"])
    assert any(right.covers(pinned) for right in rights)
    [statement] = properties("BatchOperationsRole")["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "batchoperations.s3.amazonaws.com"}
    assert statement["Condition"] == {"StringEqualsIfExists": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_every_suppressed_rule_has_a_reason() -> None:
    text = (ROOT / "template.yaml").read_text(encoding="utf-8")
    skipped = re.findall(r"# checkov:skip=(CKV2?_[A-Z]+_\d+)(?::(.*))?$", text, re.MULTILINE)
    assert len(skipped) == text.count("checkov:skip=")
    assert all(reason.endswith(".") and len(reason) > 30 for _, reason in skipped)
