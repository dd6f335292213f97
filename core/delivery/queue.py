"""The uploads' queue: when a failed message is delivered again, and messages that continue a recording.

Without the first, a failed message stays hidden for the queue's visibility timeout, which is long enough for a killed
worker. The numbers are in docs/decisions/0030-quick-retries.md.
"""

import json
import logging
import math
import random
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from core.delivery.versions import Upload
from core.errors import QueueUnavailable, RecordingInProgress
from core.formatting import first_line

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

CONTINUES = "continues"
"""Attribute of a message that continues a recording. Its value names the origin of the first delivery."""

MAX_RETRY_DELAY_S = 7200.0
"""Limit of the back-off before jitter is added."""
_MAX_JITTER = 0.25
_MAX_VISIBILITY_S = 12 * 3600 - 900
"""SQS hides a message for at most twelve hours after its receipt. Lambda's longest timeout may have passed since."""

_logger = logging.getLogger(__name__)


def sqs_client() -> "SQSClient":
    """Return a client that gives up within six seconds, because the invocation's time may be nearly over."""
    retries: Any = {"mode": "standard", "total_max_attempts": 2}
    return boto3.client("sqs", config=Config(connect_timeout=1, read_timeout=2, retries=retries))


def retry_delay_s(error: Exception, receive_count: int, first_delay_s: float) -> float:
    """Return the time until a message is delivered again: exponential back-off, at least until a lease expires.

    The back-off is also the minimum for a lease, because a delivery that waits for a long recording uses up receives.

    Parameters
    ----------
    error
        The error of the delivery.
    receive_count
        How often the message was delivered, counted from 1.
    first_delay_s
        The delay after the first delivery; each further one doubles it.
    """
    # The exponent's limit prevents an overflow.
    delay_s = min(first_delay_s * 2.0 ** min(receive_count - 1, 64), MAX_RETRY_DELAY_S)
    delay_s *= random.uniform(1.0, 1.0 + _MAX_JITTER)
    return max(delay_s, error.retry_after_s) if isinstance(error, RecordingInProgress) else delay_s


class UploadQueue:
    """The queue that delivers uploads to the function.

    Parameters
    ----------
    url
        The queue's URL.
    client
        By default, the first call creates one.
    """

    def __init__(self, url: str, client: "SQSClient | None" = None) -> None:
        self._url = url
        self._client = client

    def send(self, upload: Upload, origin: str) -> None:
        """Send a message that continues an upload, in the form of S3's event.

        Parameters
        ----------
        origin
            `upload` or `backfill`.

        Raises
        ------
        QueueUnavailable
            If SQS may not have accepted the message.
        """
        described = {
            "key": quote_plus(upload.key, safe="/"),
            "versionId": upload.version_id,
            "eTag": upload.etag or None,
            "sequencer": upload.sequencer,
            "size": upload.size_bytes,
        }
        s3 = {
            "bucket": {"name": upload.bucket},
            "object": {name: value for name, value in described.items() if value is not None},
        }
        record = {"eventSource": "aws:s3", "eventVersion": "2.1", "eventName": "ObjectCreated:Put", "s3": s3}
        try:
            self._client = self._client or sqs_client()
            self._client.send_message(
                QueueUrl=self._url,
                MessageBody=json.dumps({"Records": [record]}),
                MessageAttributes={CONTINUES: {"DataType": "String", "StringValue": origin}},
            )
        except (ClientError, BotoCoreError) as error:
            raise QueueUnavailable(f"SQS did not accept a message: {first_line(error)}") from error

    def hide(self, receipt_handle: str, delay_s: float) -> bool:
        """Deliver a message again after `delay_s` seconds.

        Returns
        -------
        Whether SQS accepted the delay. If not, the queue's visibility timeout applies, and the log says why.
        """
        timeout_s = math.ceil(min(delay_s, _MAX_VISIBILITY_S))
        try:
            self._client = self._client or sqs_client()
            self._client.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=receipt_handle, VisibilityTimeout=timeout_s
            )
        except (ClientError, BotoCoreError) as error:
            _logger.warning("The message keeps the queue's visibility timeout: %s", error)
            return False
        return True
