"""`template.yaml`: no public access, encrypted connections, least privilege, and consistent limits."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from core.model.classifier import default_threads
from core.operations.backfill import REPORTS_PREFIX
from core.settings import (
    FunctionSettings,
    MediaLimits,
    MetricSettings,
    ModelSettings,
    ScoreSettings,
    SegmentationSettings,
    Settings,
    SpeakerSettings,
    read,
)
from tests.support.cloudformation import ACCOUNT, REGION, STACK, TEMPLATE, Deployed
from tests.support.permissions import Right, as_list, granted
from tools.container import ARCHITECTURES
from tools.deploy import DEFAULT_ARCHITECTURE

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
POWERTOOLS = {"POWERTOOLS_LOG_LEVEL"}

RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
FUNCTION: dict[str, Any] = RESOURCES["ClassifyFunction"]["Properties"]
BACKFILL: dict[str, Any] = RESOURCES["BackfillFunction"]["Properties"]


def properties(name: str) -> Any:
    return RESOURCES[name]["Properties"]


def policy_statements(resource: str) -> list[dict[str, Any]]:
    """Return the statements of the policy of a bucket or a queue, for a stack with its own uploads bucket."""
    statements = properties(f"{resource}Policy")["PolicyDocument"]["Statement"]
    return [statement.get("Fn::If", [statement])[-1] for statement in statements]


# ------------------------------------------------------------------------------------------------------- security


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


# ---------------------------------------------------------------------------------------------------------- limits


def test_the_visibility_timeout_is_six_times_the_function_s_timeout() -> None:
    visibility = properties("Queue")["VisibilityTimeout"]["Fn::FindInMap"]
    assert visibility == ["VisibilityTimeout", {"Ref": "TimeoutS"}, "Seconds"]
    assert FUNCTION["Timeout"] == {"Ref": "TimeoutS"}
    table = TEMPLATE["Mappings"]["VisibilityTimeout"]
    assert set(table) == set(TEMPLATE["Parameters"]["TimeoutS"]["AllowedValues"])
    for timeout_s, row in table.items():
        assert row["Seconds"] >= 6 * int(timeout_s)


def test_the_function_knows_the_maximum_number_of_deliveries() -> None:
    redrive = properties("Queue")["RedrivePolicy"]
    assert redrive["maxReceiveCount"] == FunctionSettings.model_fields["max_receive_count"].default
    assert int(FUNCTION["Environment"]["Variables"]["MAX_RECEIVE_COUNT"]) == redrive["maxReceiveCount"]
    assert FUNCTION["Environment"]["Variables"]["QUEUE_URL"] == {"Ref": "Queue"}
    assert redrive["deadLetterTargetArn"] == {"Fn::GetAtt": "DeadLetterQueue.Arn"}


def test_the_default_memory_is_accepted_by_a_new_account_and_runs_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 1})
    memory_mb = TEMPLATE["Parameters"]["MemorySizeMb"]["Default"]
    # https://github.com/alexcasalboni/aws-lambda-power-tuning/issues/217
    assert memory_mb <= 3008
    assert default_threads(ModelSettings(aws_lambda_function_memory_size=memory_mb)) == 2
    functions = Deployed(ApiAuth="iam").resources("AWS::Serverless::Function").values()
    assert [function["MemorySize"] for function in functions] == [str(memory_mb)] * 3


@pytest.mark.parametrize("value", ["Default", "MaxValue"])
def test_the_largest_upload_fits_into_tmp(value: str) -> None:
    """A file system may take 5 % of the space."""
    parameters = TEMPLATE["Parameters"]
    assert parameters["MaxSizeBytes"][value] <= 0.95 * parameters["EphemeralStorageMb"][value] * 1024 * 1024


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


# ------------------------------------------------------------------------------------------------------- function


def test_every_environment_variable_is_a_setting() -> None:
    fields = {
        name.upper()
        for group in (
            FunctionSettings,
            MetricSettings,
            SegmentationSettings,
            SpeakerSettings,
            MediaLimits,
            ModelSettings,
            ScoreSettings,
        )
        for name in group.model_fields
    } | POWERTOOLS
    for function in (FUNCTION, BACKFILL):
        assert set(function["Environment"]["Variables"]) <= fields


def test_every_required_setting_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = {name: str(parameter["Default"]) for name, parameter in TEMPLATE["Parameters"].items()}
    for name, value in FUNCTION["Environment"]["Variables"].items():
        monkeypatch.setenv(name, value if isinstance(value, str) else defaults.get(value["Ref"], "a-bucket"))
    function = read(FunctionSettings)
    assert (function.results_bucket, function.results_prefix) == ("a-bucket", "results/")
    assert function.leases_prefix == "claims/"
    assert read(MediaLimits).max_duration_s == TEMPLATE["Parameters"]["MaxDurationS"]["Default"]
    assert read(ModelSettings).model_dir == Path("/opt/model")


@pytest.mark.parametrize(
    ("parameter", "group", "field"),
    [
        ("Channels", SegmentationSettings, "channels"),
        ("Speakers", SpeakerSettings, "speakers"),
        ("Reports", FunctionSettings, "reports"),
    ],
)
def test_a_parameter_and_its_setting_have_the_same_values(parameter: str, group: type[Settings], field: str) -> None:
    described = TEMPLATE["Parameters"][parameter]
    assert tuple(described["AllowedValues"]) == get_args(group.model_fields[field].annotation)
    assert described["Default"] == group.model_fields[field].default


def test_the_function_is_an_image_that_starts_the_s3_handler() -> None:
    assert FUNCTION["PackageType"] == "Image"
    assert FUNCTION["ImageConfig"]["Command"] == ["handlers.s3_upload.handler"]
    assert (ROOT / RESOURCES["ClassifyFunction"]["Metadata"]["Dockerfile"]).is_file()


@pytest.mark.parametrize(
    ("architecture", "debian", "compilers", "name"),
    [
        ("x86_64", "debian:bookworm-slim", "debian:bookworm-slim", "amd64"),
        ("arm64", "arm64v8/debian:bookworm-slim", "audio-emotion-compilers", "arm64"),
    ],
)
def test_every_function_and_its_image_have_the_same_architecture(
    architecture: str, debian: str, compilers: str, name: str
) -> None:
    stack = Deployed(Architecture=architecture, ApiAuth="iam")
    functions = stack.described("AWS::Serverless::Function")
    assert len(functions) == 3
    for function in functions.values():
        assert stack.resolve(function["Properties"]["Architectures"]) == [architecture]
        built = stack.resolve(function["Metadata"])
        assert built["DockerTag"] == architecture
        assert built["DockerBuildArgs"] == {"BASE_IMAGE": debian, "BUILD_IMAGE": compilers, "DEBIAN_ARCH": name}


def test_the_default_architecture_is_x86_64_in_every_place() -> None:
    assert TEMPLATE["Parameters"]["Architecture"]["Default"] == DEFAULT_ARCHITECTURE == ARCHITECTURES[0]
    assert TEMPLATE["Parameters"]["Architecture"]["AllowedValues"] == list(ARCHITECTURES)
    dockerfile = (ROOT / "layers" / "Dockerfile").read_text(encoding="utf-8")
    defaults = dict(re.findall(r"^ARG (\w+)=(\S+)$", dockerfile, re.MULTILINE))
    assert defaults == Deployed().resolve(RESOURCES["ClassifyFunction"]["Metadata"])["DockerBuildArgs"]


def test_the_function_reports_the_failed_messages_of_a_batch() -> None:
    (mapping,) = FUNCTION["Events"].values()
    assert mapping["Type"] == "SQS"
    assert mapping["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["Properties"]["ScalingConfig"] == {"MaximumConcurrency": {"Ref": "MaxConcurrency"}}
    assert mapping["Properties"]["BatchSize"] == {"Ref": "BatchSize"}
    assert TEMPLATE["Parameters"]["BatchSize"]["Default"] == 1


def test_a_reservation_is_as_large_as_the_concurrency_of_the_event_source() -> None:
    """A smaller reservation would throttle, and each throttled receive counts towards the dead-letter queue."""
    for parameters in ({"UploadsConcurrency": "reserved"}, {"UploadsConcurrency": "reserved", "MaxConcurrency": "70"}):
        function = Deployed(**parameters).resources()["ClassifyFunction"]
        mapping = function["Events"]["Upload"]["Properties"]["ScalingConfig"]
        assert function["ReservedConcurrentExecutions"] == mapping["MaximumConcurrency"]
    assert "ReservedConcurrentExecutions" not in Deployed().resources()["ClassifyFunction"]
    # Half of a new account's quota, so that the API and a backfill can run beside the uploads.
    assert TEMPLATE["Parameters"]["MaxConcurrency"]["Default"] == 5


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


def test_the_backfill_function_differs_only_in_queue_and_bus() -> None:
    classify = FUNCTION["Environment"]["Variables"]
    backfill = BACKFILL["Environment"]["Variables"]
    assert set(classify) - set(backfill) == {"EVENT_BUS", "MAX_RECEIVE_COUNT"}
    assert {key for key in backfill if backfill[key] != classify[key]} == set()
    shared = ("PackageType", "Architectures", "MemorySize", "Timeout", "EphemeralStorage")
    assert all(BACKFILL[name] == FUNCTION[name] for name in shared)
    assert RESOURCES["BackfillFunction"]["Metadata"] == RESOURCES["ClassifyFunction"]["Metadata"]
    assert BACKFILL["ImageConfig"] == {"Command": ["handlers.batch_operations.handler"]}


def test_a_backfill_runs_a_published_version_with_optional_reserved_concurrency() -> None:
    assert BACKFILL["AutoPublishAlias"] == "live"
    assert BACKFILL["AutoPublishAliasAllProperties"] is True
    assert "ReservedConcurrentExecutions" not in Deployed().resources()["BackfillFunction"]
    assert Deployed(BackfillConcurrency="5").resources()["BackfillFunction"]["ReservedConcurrentExecutions"] == "5"


# ------------------------------------------------------------------------------------------------- logs and alarms


@pytest.mark.parametrize("name", ["Classify", "Backfill"])
def test_a_log_has_a_retention_time(name: str) -> None:
    assert properties(f"{name}LogGroup")["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    assert properties(f"{name}Function")["LoggingConfig"] == {"LogGroup": {"Ref": f"{name}LogGroup"}}


@pytest.mark.parametrize(
    ("alarm", "metric"),
    [
        ("DeadLettersAlarm", "ApproximateNumberOfMessagesVisible"),
        ("QueueAgeAlarm", "ApproximateAgeOfOldestMessage"),
        ("ErrorsAlarm", "Errors"),
        ("BackfillErrorsAlarm", "Errors"),
        ("CrashesAlarm", "Crashed"),
        ("ThrottlesAlarm", "Throttles"),
        ("ApiErrorsAlarm", "5xx"),
    ],
)
def test_an_alarm_notifies_the_configured_addresses(alarm: str, metric: str) -> None:
    assert properties(alarm)["MetricName"] == metric
    assert properties(alarm)["ComparisonOperator"] == "GreaterThanThreshold"
    assert properties(alarm)["TreatMissingData"] == "notBreaching"
    for actions in (properties(alarm)["AlarmActions"], properties(alarm)["OKActions"]):
        assert [action["Fn::If"][0] for action in actions] == ["HasAlarmEmail", "HasAlarmTopicArn"]


@pytest.mark.parametrize(
    ("alarm", "function"),
    [("ErrorsAlarm", "classify"), ("BackfillErrorsAlarm", "backfill"), ("ThrottlesAlarm", "classify")],
)
def test_an_alarm_watches_one_function(alarm: str, function: str) -> None:
    [dimension] = Deployed().resources()[alarm]["Dimensions"]
    assert dimension == {"Name": "FunctionName", "Value": f"{STACK}-{function}"}


def test_one_retry_does_not_set_off_the_queue_age_alarm() -> None:
    parameters = TEMPLATE["Parameters"]
    timeout_s = parameters["TimeoutS"]["Default"]
    invisible_s = TEMPLATE["Mappings"]["VisibilityTimeout"][timeout_s]["Seconds"]
    assert parameters["MaxQueueAgeS"]["Default"] > invisible_s + int(timeout_s)


@pytest.mark.parametrize("output", ["Upload", "ReadResult", "ListFailures", "RetryFailures", "Query", "WatchLog"])
def test_an_output_is_a_command_to_copy(output: str) -> None:
    assert Deployed(Analytics="athena").outputs()[output].startswith("aws ")


def test_every_parameter_is_in_a_group_and_described() -> None:
    listed = [
        name
        for group in TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        for name in group["Parameters"]
    ]
    assert sorted(listed) == sorted(TEMPLATE["Parameters"])
    for parameter in TEMPLATE["Parameters"].values():
        assert parameter["Description"].endswith(".")


def test_every_suppressed_rule_has_a_reason() -> None:
    text = (ROOT / "template.yaml").read_text(encoding="utf-8")
    skipped = re.findall(r"# checkov:skip=(CKV2?_[A-Z]+_\d+)(?::(.*))?$", text, re.MULTILINE)
    assert len(skipped) == text.count("checkov:skip=")
    assert all(reason.endswith(".") and len(reason) > 30 for _, reason in skipped)
