"""Telling others that a result is there: an event on Amazon EventBridge, so that nobody has to poll.

The event follows the result and never stands in its way. So it comes at most once: a delivery that finds its result
there already announces nothing, and one that dies between the two has announced nothing. Who must not miss any turns on
S3's own notifications of the results bucket, which come at least once (`NotifyResults` in template.yaml).
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
    """A client that gives up within six seconds: the result is stored, and the invocation's time is nearly over."""
    retries: Any = {"mode": "standard", "max_attempts": 2}
    return boto3.client("events", config=Config(connect_timeout=1, read_timeout=2, retries=retries))


class ResultPublisher:
    """Puts an event on a bus for each result that was stored.

    Parameters
    ----------
    event_bus
        Its name, or its ARN.
    """

    def __init__(self, event_bus: str, client: "EventBridgeClient | None" = None) -> None:
        self._event_bus = event_bus
        self._client = client or events_client()

    def publish(self, result: Result, bucket: str, key: str) -> bool:
        """Announce one result.

        Parameters
        ----------
        bucket, key
            Where it lies.

        Returns
        -------
        Whether it was announced; if not, the log says why. The result is stored either way, so nothing is raised.
        """
        detail = json.dumps(summary(result, bucket, key), ensure_ascii=False)
        kind = FAILED if result.status == "failed" else CLASSIFIED
        entry: Any = {"EventBusName": self._event_bus, "Source": SOURCE, "DetailType": kind, "Detail": detail}
        try:
            answer = self._client.put_events(Entries=[entry])
        except (ClientError, BotoCoreError) as error:
            _logger.warning("no event for %s: %s", key, error)
            return False
        if answer["FailedEntryCount"]:
            refused = answer["Entries"][0]
            _logger.warning("no event for %s: %s: %s", key, refused.get("ErrorCode"), refused.get("ErrorMessage"))
            return False
        return True


def summary(result: Result, bucket: str, key: str) -> dict[str, Any]:
    """What the event tells of a result: where it lies, and as much of it as a rule may want to filter by."""
    told = {
        "result": {"bucket": bucket, "key": key},
        "source": result.source.model_dump(exclude_none=True),
        "status": result.status,
        "emotion": result.emotion,
        "score": result.score,
        "duration_s": result.audio.duration_s if result.audio else None,
        "speech_s": result.speech_s,
        "error": result.error.model_dump() if result.error else None,
        "model": {"id": result.model.id, "fingerprint": result.model.fingerprint},
        "demo": result.model.demo,
        "finished_at": result.model_dump(mode="json")["processing"]["finished_at"],
    }
    return {name: value for name, value in told.items() if value is not None}
