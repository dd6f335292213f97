"""The logs and alarms of `template.yaml`."""

import pytest

from tests.support.cloudformation import STACK, TEMPLATE, Deployed, properties


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
