"""What `template.yaml` promises: nothing public, nothing in the clear, no right too many, numbers that fit together."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic_settings import BaseSettings

from core.settings import FunctionSettings, ListeningSettings, MediaLimits, ModelSettings, read
from layers.template import read_template

ROOT = Path(__file__).parents[2]
BUCKETS = ["UploadsBucket", "ResultsBucket"]
QUEUES = ["Queue", "DeadLetterQueue"]
POWERTOOLS = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_LOG_LEVEL"}


TEMPLATE = read_template(ROOT / "template.yaml")
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
FUNCTION: dict[str, Any] = RESOURCES["ClassifyFunction"]["Properties"]


def properties(name: str) -> Any:
    return RESOURCES[name]["Properties"]


def statements_about(resource: str) -> list[dict[str, Any]]:
    """The statements of the policy that hangs on a bucket or a queue."""
    return list(properties(f"{resource}Policy")["PolicyDocument"]["Statement"])


def role_statements() -> list[dict[str, Any]]:
    (policy,) = properties("ClassifyRole")["Policies"]
    return list(policy["PolicyDocument"]["Statement"])


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


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


def test_the_role_has_no_wildcard_where_a_name_belongs() -> None:
    for statement in role_statements():
        assert statement["Effect"] == "Allow"
        for action in as_list(statement["Action"]):
            assert "*" not in action
        for resource in as_list(statement["Resource"]):
            assert resource != "*"
            ((kind, value),) = resource.items()
            assert kind == "Fn::GetAtt" or re.match(r"\$\{(Uploads|Results)Bucket\.Arn\}/", value)
    assert "Policies" not in FUNCTION, "SAM would add rights that are not written out here"


def test_the_role_holds_exactly_the_rights_that_the_function_uses() -> None:
    granted = {
        (action, str(next(iter(resource.values()))))
        for statement in role_statements()
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }
    assert granted == {
        ("s3:GetObject", "${UploadsBucket.Arn}/*"),
        ("s3:GetObjectVersion", "${UploadsBucket.Arn}/*"),
        ("s3:ListBucket", "UploadsBucket.Arn"),
        ("s3:ListBucket", "ResultsBucket.Arn"),
        ("s3:GetObject", "${ResultsBucket.Arn}/${ResultsPrefix}*"),
        ("s3:PutObject", "${ResultsBucket.Arn}/${ResultsPrefix}*"),
        ("s3:GetObject", "${ResultsBucket.Arn}/claims/*"),
        ("s3:PutObject", "${ResultsBucket.Arn}/claims/*"),
        ("s3:DeleteObject", "${ResultsBucket.Arn}/claims/*"),
        ("sqs:ReceiveMessage", "Queue.Arn"),
        ("sqs:DeleteMessage", "Queue.Arn"),
        ("sqs:GetQueueAttributes", "Queue.Arn"),
        ("logs:CreateLogStream", "ClassifyLogGroup.Arn"),
        ("logs:PutLogEvents", "ClassifyLogGroup.Arn"),
    }


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
    claims = FUNCTION["Environment"]["Variables"]["CLAIMS_PREFIX"]
    assert rules["claims"]["Prefix"] == claims
    assert rules["claims"]["ExpirationInDays"] == 1
    assert rules["claims"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert [rule["Id"] for rule in rules.values() if "ExpirationInDays" in rule] == ["claims"]
    prefix = TEMPLATE["Parameters"]["ResultsPrefix"]
    assert re.match(prefix["AllowedPattern"], prefix["Default"])
    for refused in ["", "claims/", "claims/results/", "/", "/results/", "results"]:
        assert not re.match(prefix["AllowedPattern"], refused)


@pytest.mark.parametrize("bucket", BUCKETS)
def test_leftovers_are_cleared_away(bucket: str) -> None:
    (rule,) = [r for r in properties(bucket)["LifecycleConfiguration"]["Rules"] if r["Id"] == "leftovers"]
    assert rule["Status"] == "Enabled"
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert "NoncurrentVersionExpiration" in rule


# ------------------------------------------------------------------------------------------------------- function


def test_every_environment_variable_is_one_that_the_function_reads() -> None:
    fields = {
        name.upper()
        for group in (FunctionSettings, ListeningSettings, MediaLimits, ModelSettings)
        for name in group.model_fields
    } | POWERTOOLS
    assert set(FUNCTION["Environment"]["Variables"]) <= fields


def test_every_required_setting_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = {name: str(parameter["Default"]) for name, parameter in TEMPLATE["Parameters"].items()}
    for name, value in FUNCTION["Environment"]["Variables"].items():
        monkeypatch.setenv(name, value if isinstance(value, str) else defaults.get(value["Ref"], "a-bucket"))
    function = read(FunctionSettings)
    assert (function.results_bucket, function.results_prefix) == ("a-bucket", "results/")
    assert function.claims_prefix == "claims/"
    assert read(MediaLimits).max_duration_s == TEMPLATE["Parameters"]["MaxDurationS"]["Default"]
    assert read(ModelSettings).model_dir == Path("/opt/model")


@pytest.mark.parametrize(
    ("parameter", "group", "field"),
    [("Channels", ListeningSettings, "channels"), ("Reports", FunctionSettings, "reports")],
)
def test_a_choice_offers_what_the_setting_takes(parameter: str, group: type[BaseSettings], field: str) -> None:
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
    assert "NotificationConfiguration" not in properties("ResultsBucket"), "a result must not start the function"


# -------------------------------------------------------------------------------------------------------- watching


def test_the_log_is_not_kept_for_ever() -> None:
    assert properties("ClassifyLogGroup")["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    assert FUNCTION["LoggingConfig"] == {"LogGroup": {"Ref": "ClassifyLogGroup"}}


@pytest.mark.parametrize(
    ("alarm", "metric"),
    [
        ("DeadLettersAlarm", "ApproximateNumberOfMessagesVisible"),
        ("QueueAgeAlarm", "ApproximateAgeOfOldestMessage"),
        ("ErrorsAlarm", "Errors"),
        ("ThrottlesAlarm", "Throttles"),
    ],
)
def test_an_alarm_tells_somebody(alarm: str, metric: str) -> None:
    assert properties(alarm)["MetricName"] == metric
    assert properties(alarm)["ComparisonOperator"] == "GreaterThanThreshold"
    assert properties(alarm)["TreatMissingData"] == "notBreaching"
    for actions in (properties(alarm)["AlarmActions"], properties(alarm)["OKActions"]):
        assert [action["Fn::If"][0] for action in actions] == ["HasAlarmEmail", "HasAlarmTopicArn"]


@pytest.mark.parametrize("output", ["Upload", "ReadResult", "ListFailures", "RetryFailures", "WatchLog"])
def test_an_output_is_a_command_to_copy(output: str) -> None:
    assert TEMPLATE["Outputs"][output]["Value"]["Fn::Sub"].startswith("aws ")


def test_every_parameter_says_what_it_does() -> None:
    listed = [
        name
        for group in TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        for name in group["Parameters"]
    ]
    assert sorted(listed) == sorted(TEMPLATE["Parameters"])
    for parameter in TEMPLATE["Parameters"].values():
        assert parameter["Description"].endswith(".")
