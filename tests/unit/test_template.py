"""The functions of `template.yaml`, their limits and settings, and the parameters and outputs of a stack."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from core.model.classifier import default_threads
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
from tests.support.cloudformation import RESOURCES, TEMPLATE, Deployed, properties
from tools.container import ARCHITECTURES
from tools.deploy import DEFAULT_ARCHITECTURE

ROOT = Path(__file__).parents[2]
POWERTOOLS = {"POWERTOOLS_LOG_LEVEL"}
FUNCTION: dict[str, Any] = RESOURCES["ClassifyFunction"]["Properties"]
BACKFILL: dict[str, Any] = RESOURCES["BackfillFunction"]["Properties"]


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
