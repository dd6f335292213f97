"""What `template.yaml` promises: nothing public, nothing in the clear, no right too many, numbers that fit together."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from core.settings import FunctionSettings, MediaLimits, ModelSettings, SegmentationSettings, Settings, read
from tests.support.cloudformation import ACCOUNT, REGION, STACK, TEMPLATE, Deployed
from tests.support.permissions import Right, as_list, granted

ROOT = Path(__file__).parents[2]
EVERY_WAY = [
    {},
    {
        "EventBus": "calls",
        "NotifyResults": "true",
        "Analytics": "athena",
        "BackfillConcurrency": "5",
        "ApiAuth": "iam",
        "AlarmEmail": "a@example.com",
    },
]
"""Parameters with which every condition about rights was once false and once true."""
BUCKETS = ["UploadsBucket", "ResultsBucket"]
QUEUES = ["Queue", "DeadLetterQueue"]
POWERTOOLS = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_LOG_LEVEL"}

RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
FUNCTION: dict[str, Any] = RESOURCES["ClassifyFunction"]["Properties"]
BACKFILL: dict[str, Any] = RESOURCES["BackfillFunction"]["Properties"]


def properties(name: str) -> Any:
    return RESOURCES[name]["Properties"]


def statements_about(resource: str) -> list[dict[str, Any]]:
    """The statements of the policy that hangs on a bucket or a queue."""
    return list(properties(f"{resource}Policy")["PolicyDocument"]["Statement"])


# ------------------------------------------------------------------------------------------------------- security


@pytest.mark.parametrize("bucket", BUCKETS)
def test_a_bucket_is_versioned_encrypted_and_closed_to_the_public(bucket: str) -> None:
    assert properties(bucket)["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(properties(bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(properties(bucket)["PublicAccessBlockConfiguration"]) == 4
    (rule,) = properties(bucket)["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] in {"AES256", "aws:kms"}
    assert properties(bucket)["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]


@pytest.mark.parametrize("resource", BUCKETS + QUEUES)
def test_a_connection_in_the_clear_is_refused(resource: str) -> None:
    denied = [s for s in statements_about(resource) if s["Effect"] == "Deny"]
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
    assert properties(queue)["SqsManagedSseEnabled"] is True


def test_nobody_but_the_uploads_bucket_of_this_account_is_let_into_the_queue() -> None:
    (allowed,) = [s for s in statements_about("Queue") if s["Effect"] == "Allow"]
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


def names_one_thing(arn: str) -> bool:
    """Whether all is spelled out but what lies below a bucket's prefix, a log's streams and a function's versions."""
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
def test_a_wildcard_in_a_name_is_noticed(arn: str) -> None:
    assert not names_one_thing(arn)


@pytest.mark.parametrize("parameters", EVERY_WAY)
def test_no_policy_has_a_wildcard_where_a_name_belongs(parameters: dict[str, str]) -> None:
    stack = Deployed(**parameters)
    for role in stack.resources("AWS::IAM::Role"):
        for right in granted(stack, role):
            assert re.fullmatch(r"[a-z0-9-]+:[A-Za-z]+", right.action)
            assert names_one_thing(right.resource), right
            assert STACK in right.resource or right.action == "events:PutEvents"


@pytest.mark.parametrize("parameters", EVERY_WAY)
def test_no_role_is_anything_but_what_is_written_out(parameters: dict[str, str]) -> None:
    stack = Deployed(**parameters)
    for role in stack.resources("AWS::IAM::Role").values():
        assert "ManagedPolicyArns" not in role, "AWS's own policies name no bucket"
        [statement] = role["AssumeRolePolicyDocument"]["Statement"]
        assert set(statement) >= {"Effect", "Principal", "Action"}
        assert set(statement["Principal"]) == {"Service"}
    for function in stack.resources("AWS::Serverless::Function").values():
        assert "Policies" not in function, "SAM would add rights that are not written out here"
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
                Right("events:PutEvents", f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/calls"),
            },
        ),
        ("BackfillRole", set()),
    ],
)
def test_a_function_reads_uploads_and_writes_results_and_nothing_else(role: str, others: set[Right]) -> None:
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


# -------------------------------------------------------------------------------------- numbers that fit together


def test_a_message_stays_invisible_for_six_times_the_time_out() -> None:
    visibility = properties("Queue")["VisibilityTimeout"]["Fn::FindInMap"]
    assert visibility == ["VisibilityTimeout", {"Ref": "TimeoutS"}, "Seconds"]
    assert FUNCTION["Timeout"] == {"Ref": "TimeoutS"}
    table = TEMPLATE["Mappings"]["VisibilityTimeout"]
    assert set(table) == set(TEMPLATE["Parameters"]["TimeoutS"]["AllowedValues"])
    for timeout_s, row in table.items():
        assert row["Seconds"] >= 6 * int(timeout_s)


def test_the_function_knows_how_often_a_message_is_handed_out() -> None:
    redrive = properties("Queue")["RedrivePolicy"]
    assert redrive["maxReceiveCount"] >= 5
    assert int(FUNCTION["Environment"]["Variables"]["MAX_RECEIVE_COUNT"]) == redrive["maxReceiveCount"]
    assert redrive["deadLetterTargetArn"] == {"Fn::GetAtt": "DeadLetterQueue.Arn"}


def test_the_largest_upload_fits_into_tmp() -> None:
    parameters = TEMPLATE["Parameters"]
    assert parameters["MaxSizeBytes"]["Default"] < parameters["EphemeralStorageMb"]["Default"] * 1024 * 1024


def test_results_never_lie_where_the_lifecycle_deletes() -> None:
    rules = {rule["Id"]: rule for rule in properties("ResultsBucket")["LifecycleConfiguration"]["Rules"]}
    claims = FUNCTION["Environment"]["Variables"]["LEASES_PREFIX"]
    assert rules["claims"]["Prefix"] == claims
    assert rules["claims"]["ExpirationInDays"] == 1
    assert rules["claims"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert [rule["Id"] for rule in rules.values() if "ExpirationInDays" in rule] == ["claims", "queries"]
    assert rules["queries"]["Prefix"] == "queries/"
    prefix = TEMPLATE["Parameters"]["ResultsPrefix"]
    assert re.match(prefix["AllowedPattern"], prefix["Default"])
    for refused in ["", "claims/", "claims/results/", "queries/", "backfill/x/", "/", "/results/", "results"]:
        assert not re.match(prefix["AllowedPattern"], refused)


def test_only_recordings_that_came_over_the_api_are_deleted_from_the_uploads_bucket() -> None:
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
    # Until the queues forget it, an upload can be tried again.
    days = properties("DeadLetterQueue")["MessageRetentionPeriod"] / 86_400
    assert TEMPLATE["Parameters"]["ApiUploadsDays"]["Default"] > days


@pytest.mark.parametrize("bucket", BUCKETS)
def test_leftovers_are_cleared_away(bucket: str) -> None:
    rules = Deployed().resources()[bucket]["LifecycleConfiguration"]["Rules"]
    (rule,) = [rule for rule in rules if rule["Id"] == "leftovers"]
    assert rule["Status"] == "Enabled"
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert "NoncurrentVersionExpiration" in rule


# ------------------------------------------------------------------------------------------------------- function


def test_every_environment_variable_is_one_that_the_function_reads() -> None:
    fields = {
        name.upper()
        for group in (FunctionSettings, SegmentationSettings, MediaLimits, ModelSettings)
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
    [("Channels", SegmentationSettings, "channels"), ("Reports", FunctionSettings, "reports")],
)
def test_a_choice_offers_what_the_setting_takes(parameter: str, group: type[Settings], field: str) -> None:
    described = TEMPLATE["Parameters"][parameter]
    assert tuple(described["AllowedValues"]) == get_args(group.model_fields[field].annotation)
    assert described["Default"] == group.model_fields[field].default


def test_the_function_is_an_image_that_starts_the_s3_handler() -> None:
    assert FUNCTION["PackageType"] == "Image"
    assert FUNCTION["Architectures"] == ["x86_64"]
    assert FUNCTION["ImageConfig"]["Command"] == ["handlers.s3_upload.handler"]
    assert (ROOT / RESOURCES["ClassifyFunction"]["Metadata"]["Dockerfile"]).is_file()


def test_one_bad_recording_does_not_bring_its_batch_back() -> None:
    (mapping,) = FUNCTION["Events"].values()
    assert mapping["Type"] == "SQS"
    assert mapping["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["Properties"]["ScalingConfig"] == {"MaximumConcurrency": {"Ref": "MaxConcurrency"}}
    assert mapping["Properties"]["BatchSize"] == {"Ref": "BatchSize"}
    assert TEMPLATE["Parameters"]["BatchSize"]["Default"] == 1


def test_every_kind_of_upload_reaches_the_queue() -> None:
    (notification,) = properties("UploadsBucket")["NotificationConfiguration"]["QueueConfigurations"]
    assert notification == {"Event": "s3:ObjectCreated:*", "Queue": {"Fn::GetAtt": "Queue.Arn"}}
    assert RESOURCES["UploadsBucket"]["DependsOn"] == "QueuePolicy"


def test_a_result_starts_nothing_of_ours() -> None:
    assert "NotificationConfiguration" not in Deployed().resources()["ResultsBucket"]
    told = Deployed(NotifyResults="true").resources()["ResultsBucket"]["NotificationConfiguration"]
    assert told == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}


def test_a_backfill_does_as_an_upload_does_but_for_queue_and_bus() -> None:
    theirs = FUNCTION["Environment"]["Variables"]
    ours = BACKFILL["Environment"]["Variables"]
    assert set(theirs) - set(ours) == {"EVENT_BUS", "MAX_RECEIVE_COUNT"}
    assert {key for key in ours if ours[key] != theirs[key]} == {"POWERTOOLS_SERVICE_NAME"}
    alike = ("PackageType", "Architectures", "MemorySize", "Timeout", "EphemeralStorage")
    assert all(BACKFILL[name] == FUNCTION[name] for name in alike)
    assert RESOURCES["BackfillFunction"]["Metadata"] == RESOURCES["ClassifyFunction"]["Metadata"]
    assert BACKFILL["ImageConfig"] == {"Command": ["handlers.batch_operations.handler"]}


def test_a_backfill_is_pinned_to_a_version_and_limited_if_asked() -> None:
    assert BACKFILL["AutoPublishAlias"] == "live"
    assert BACKFILL["AutoPublishAliasAllProperties"] is True
    assert "ReservedConcurrentExecutions" not in Deployed().resources()["BackfillFunction"]
    assert Deployed(BackfillConcurrency="5").resources()["BackfillFunction"]["ReservedConcurrentExecutions"] == "5"


# -------------------------------------------------------------------------------------------------------- watching


@pytest.mark.parametrize("name", ["Classify", "Backfill"])
def test_a_log_is_not_kept_for_ever(name: str) -> None:
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
def test_an_alarm_tells_somebody(alarm: str, metric: str) -> None:
    assert properties(alarm)["MetricName"] == metric
    assert properties(alarm)["ComparisonOperator"] == "GreaterThanThreshold"
    assert properties(alarm)["TreatMissingData"] == "notBreaching"
    for actions in (properties(alarm)["AlarmActions"], properties(alarm)["OKActions"]):
        assert [action["Fn::If"][0] for action in actions] == ["HasAlarmEmail", "HasAlarmTopicArn"]


@pytest.mark.parametrize(
    ("alarm", "function"),
    [("ErrorsAlarm", "classify"), ("BackfillErrorsAlarm", "backfill"), ("ThrottlesAlarm", "classify")],
)
def test_an_alarm_watches_its_own_function(alarm: str, function: str) -> None:
    [dimension] = Deployed().resources()[alarm]["Dimensions"]
    assert dimension == {"Name": "FunctionName", "Value": f"{STACK}-{function}"}


def test_one_second_try_alarms_nobody() -> None:
    parameters = TEMPLATE["Parameters"]
    timeout_s = parameters["TimeoutS"]["Default"]
    invisible_s = TEMPLATE["Mappings"]["VisibilityTimeout"][timeout_s]["Seconds"]
    assert parameters["MaxQueueAgeS"]["Default"] > invisible_s + int(timeout_s)


@pytest.mark.parametrize("output", ["Upload", "ReadResult", "ListFailures", "RetryFailures", "Query", "WatchLog"])
def test_an_output_is_a_command_to_copy(output: str) -> None:
    assert Deployed(Analytics="athena").outputs()[output].startswith("aws ")


def test_every_parameter_says_what_it_does() -> None:
    listed = [
        name
        for group in TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        for name in group["Parameters"]
    ]
    assert sorted(listed) == sorted(TEMPLATE["Parameters"])
    for parameter in TEMPLATE["Parameters"].values():
        assert parameter["Description"].endswith(".")


def test_every_suppression_of_a_rule_says_why() -> None:
    text = (ROOT / "template.yaml").read_text(encoding="utf-8")
    skipped = re.findall(r"# checkov:skip=(CKV2?_[A-Z]+_\d+)(?::(.*))?$", text, re.MULTILINE)
    assert len(skipped) == text.count("checkov:skip=")
    assert all(reason.endswith(".") and len(reason) > 30 for _, reason in skipped)
