"""The description of a deployed stack, from its outputs and parameters."""

import pytest

from core.cli.aws import aws_client
from core.errors import AwsRefused, StackUnknown
from core.operations.deployed_stack import find_stack, stack_name_from_bucket
from tests.support.cloudformation import STACK, Deployed
from tests.support.operations import cloudformation, described_by_cloudformation


@pytest.mark.parametrize(("given", "architecture"), [("arm64", "arm64"), (None, "x86_64")], ids=["arm64", "absent"])
def test_a_stack_without_an_architecture_is_on_x86_64(given: str | None, architecture: str) -> None:
    described = described_by_cloudformation()
    named = [each for each in described["Parameters"] if each["ParameterKey"] != "Architecture"]
    chosen = [{"ParameterKey": "Architecture", "ParameterValue": given}] if given else []
    with cloudformation({**described, "Parameters": named + chosen}) as client:
        assert find_stack(STACK, client).architecture == architecture


def test_a_stack_is_read_from_its_outputs_and_parameters() -> None:
    with cloudformation(described_by_cloudformation(BackfillConcurrency="7", ResultsPrefix="r/")) as client:
        found = find_stack(STACK, client)
    deployed = Deployed(BackfillConcurrency="7", ResultsPrefix="r/")
    assert found.uploads_bucket == deployed.resources()["UploadsBucket"]["BucketName"]
    assert (found.results_prefix, found.backfill_concurrency, found.memory_size_mb) == ("r/", 7, 3008)
    assert (found.account, found.partition) == ("123456789012", "aws")
    assert stack_name_from_bucket(found.uploads_bucket) == STACK


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_region_is_read_from_either_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, "eu-west-3")

    assert aws_client("sqs").meta.region_name == "eu-west-3"


def test_a_missing_region_is_reported_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")

    with pytest.raises(AwsRefused, match=r"^No AWS region is set\. Set AWS_REGION"):
        aws_client("sqs")


def test_an_empty_answer_means_that_the_stack_is_unknown() -> None:
    class Empty:
        def describe_stacks(self, **_: str) -> dict[str, list[object]]:
            return {"Stacks": []}

    with pytest.raises(StackUnknown, match="cannot find the stack"):
        find_stack(STACK, Empty())


def test_an_unknown_stack_is_named_in_the_error() -> None:
    with cloudformation(None) as client, pytest.raises(StackUnknown, match=STACK):
        find_stack(STACK, client)
    with (
        cloudformation({**described_by_cloudformation(), "Outputs": []}) as client,
        pytest.raises(StackUnknown, match="Deploy it again"),
    ):
        find_stack(STACK, client)
    with pytest.raises(StackUnknown, match="holidays"):
        stack_name_from_bucket("holidays")
