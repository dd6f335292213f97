"""Events on Amazon EventBridge that publish results, so that consumers need not poll.

An event is published at most once, after its result was stored. A failure to publish never affects the result, and a
duplicate delivery publishes nothing. A consumer that must not miss a result uses S3's notifications of the results
bucket, which arrive at least once (`NotifyResults` in template.yaml).
"""

import json
import logging
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from core.results import Result

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

SOURCE = "audio-emotion"
CLASSIFIED = "Recording Classified"
FAILED = "Recording Failed"

_logger = logging.getLogger(__name__)


def events_client() -> "EventBridgeClient":
    """Return a client that gives up within six seconds, because the invocation's time is nearly over.

    It repeats no call: after a timeout, EventBridge may have published the event, and a retry would publish a second.
    """
    return boto3.client("events", config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1}))


class ResultPublisher:
    """Publishes an event for each stored result.

    Parameters
    ----------
    event_bus
        Name or ARN of the bus.
    """

    def __init__(self, event_bus: str, client: "EventBridgeClient | None" = None) -> None:
        self._event_bus = event_bus
        self._client = client or events_client()

    def publish(self, result: Result, bucket: str, key: str) -> bool:
        """Publish one result.

        Parameters
        ----------
        bucket, key
            The location of the result.

        Returns
        -------
        Whether the event was published. If not, the log says why.
        """
        detail = json.dumps(event_detail(result, bucket, key), ensure_ascii=False)
        kind = FAILED if result.status == "failed" else CLASSIFIED
        entry: Any = {"EventBusName": self._event_bus, "Source": SOURCE, "DetailType": kind, "Detail": detail}
        try:
            answer = self._client.put_events(Entries=[entry])
        except (ClientError, BotoCoreError) as error:
            _logger.warning("The event for %s was not published: %s", key, error)
            return False
        if answer["FailedEntryCount"]:
            refused = answer["Entries"][0]
            code, message = refused.get("ErrorCode"), refused.get("ErrorMessage")
            _logger.warning("The event for %s was not published: %s: %s", key, code, message)
            return False
        return True


def event_detail(result: Result, bucket: str, key: str) -> dict[str, Any]:
    """Return the event's detail: the location of the result, and the fields that a rule may filter by."""
    detail = {
        "result": {"bucket": bucket, "key": key},
        "source": result.source.model_dump(exclude_none=True),
        **result.summary(),
        "error": result.error.model_dump() if result.error else None,
        "model": {"id": result.model.id, "fingerprint": result.model.fingerprint},
        "demo": result.model.demo,
        "finished_at": result.model_dump(mode="json")["processing"]["finished_at"],
    }
    return {name: value for name, value in detail.items() if value is not None}
