"""The status of a deployed stack, counted from its buckets, queues and metrics."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest

from core.cli.backfill import run_backfill
from core.cli.status import run_status
from core.errors import PackageRefused
from core.local.stack import UPLOADS_BUCKET, Stack
from core.model.package import read_manifest
from core.operations.backfill import Scope
from core.operations.deployed_stack import DeployedStack
from core.operations.status import read_status


def test_a_status_counts_uploads_results_and_messages(world: Stack, deployed: DeployedStack) -> None:
    status = read_status(deployed, world.s3, world.sqs, boto3.client("cloudwatch"), fingerprint="sha256:new")
    assert (status.uploads, status.uploads_bytes, status.results, status.without_result) == (5, 15, 4, 1)
    assert status.read == 4
    assert status.by_status == {
        "classified": 1, "no_speech": 1, "failed": 2, "given_up": 1, "stale": 1, "unreadable": 0,
    }  # fmt: skip
    assert status.waiting >= 5
    assert (status.in_flight, status.dead_letters, status.oldest_s) == (0, 0, None)


def test_a_status_reads_at_most_the_requested_number_of_results(world: Stack, deployed: DeployedStack) -> None:
    status = read_status(deployed, world.s3, world.sqs, boto3.client("cloudwatch"), sample=2)
    assert (status.results, status.read) == (4, 2)
    assert sum(status.by_status[name] for name in ("classified", "no_speech", "failed")) == 2
    assert status.by_status["stale"] == 0


def test_a_status_has_the_age_of_the_oldest_message_from_cloudwatch(
    deployed: DeployedStack, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dimensions = [{"Name": "QueueName", "Value": deployed.queue_url.rpartition("/")[2]}]
    now = datetime.now(UTC)  # NOW may be too old: the command reads the last 15 minutes
    points = [
        {"MetricName": "ApproximateAgeOfOldestMessage", "Dimensions": dimensions, "Value": value, "Timestamp": moment}
        for value, moment in ((30.0, now - timedelta(minutes=5)), (3725.0, now - timedelta(minutes=1)))
    ]
    boto3.client("cloudwatch").put_metric_data(Namespace="AWS/SQS", MetricData=points)
    assert run_status(deployed, package, sample=10, as_json=True) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["oldest_s"] == 3725.0
    assert printed["judged"]["failed"] == 2  # a name of 1.0
    run_status(deployed, package, sample=10, as_json=False)
    shown = capsys.readouterr().out
    assert "1:02:05" in shown
    assert "uploads without a result" in shown
    assert read_manifest(package).fingerprint not in ("sha256:new", "sha256:old")
    assert "stale" in shown


def test_a_model_that_is_no_serving_package_is_refused(deployed: DeployedStack, tmp_path: Path) -> None:
    """Otherwise, no result would count as stale, and none as final."""
    with pytest.raises(PackageRefused, match="not a serving package"):
        run_status(deployed, tmp_path, sample=10, as_json=False)
    with pytest.raises(PackageRefused, match="not a serving package"):
        run_backfill(deployed, Scope(UPLOADS_BUCKET), tmp_path, confirm=lambda: True, dry_run=True, wait=False)
