"""Result stores of the HTTP API, which also create forms for uploading large recordings.

Each recording gets an unguessable id, which is part of its key. An upload posted to the bucket goes through the queue
like any other. The result of a recording classified during its request is stored under the same kind of key, so a
client reads both in the same way.
"""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from core.delivery.keys import result_key_for
from core.delivery.metadata import SPEAKERS_KEY, ResultMetadata
from core.delivery.s3_errors import WriteConflict
from core.delivery.storage import Storage
from core.errors import StorageRefused
from core.results import Result, now
from core.settings import ApiSettings, SpeakerMode

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
ID_LENGTH = 36


class Missing(Enum):
    """The reason why an id has no result."""

    PENDING = "pending"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class PresignedUpload:
    """A form that uploads one recording until it expires; the file is its last field."""

    id: str
    url: str
    fields: Mapping[str, str]
    expires_at: datetime
    max_size_bytes: int


class ResultStore(Protocol):
    """Stores results and issues upload forms."""

    @property
    def upload_origin(self) -> str | None:
        """Origin that uploads are posted to, `https://…`; None for the API's own."""
        ...

    def key_for(self, recording_id: str) -> str:
        """Return the key of the recording with this id."""
        ...

    def store(self, recording_id: str, result: Result) -> None:
        """Store a result."""
        ...

    def find(self, recording_id: str) -> bytes | Missing:
        """Return the result document of a recording, or why there is none."""
        ...

    def progress(self, recording_id: str) -> float | None:
        """Return the share of an upload that is classified, from 0 to 1; None if it is not known."""
        ...

    def create_upload(self, base_url: str, speakers: SpeakerMode | None = None) -> PresignedUpload:
        """Create a form for one upload, in which speakers are separated as requested or, by default, as in others."""
        ...


def new_id() -> str:
    """Return an unguessable id, because every client that knows the id can read the result."""
    return str(uuid.uuid4())


def is_id(text: str) -> bool:
    """Return whether a text has the form of an id."""
    return _ID.fullmatch(text) is not None


class S3ResultStore:
    """Store results in the results bucket and sign forms for the uploads bucket."""

    def __init__(self, storage: Storage, forms: "S3Client", settings: ApiSettings, max_size_bytes: int) -> None:
        assert settings.uploads_bucket  # ApiSettings has both or neither
        assert settings.results_bucket
        self._uploads_bucket, self._results_bucket = settings.uploads_bucket, settings.results_bucket
        self._storage = storage
        self._forms = forms
        self._settings = settings
        self._max_size_bytes = max_size_bytes

    @property
    def upload_origin(self) -> str | None:
        """Origin of the uploads bucket."""
        url = urlsplit(self.create_upload("").url)
        return f"{url.scheme}://{url.netloc}"

    def key_for(self, recording_id: str) -> str:
        """Return the key of an id in the uploads bucket."""
        return self._settings.api_prefix + recording_id

    def store(self, recording_id: str, result: Result) -> None:
        """Store a result with a conditional PUT.

        Raises
        ------
        StorageUnavailable, StorageRefused
            If S3 fails or refuses access.
        """
        metadata = ResultMetadata(
            source_version=recording_id,
            fingerprint=result.model.fingerprint,
            state="done",
            error=result.error.code if result.error else "",
        )
        body = result.to_json().encode()
        try:
            self._storage.put(
                self._results_bucket,
                self._result_key(recording_id),
                body,
                content_type="application/json",
                metadata=metadata.to_s3(),
                replaces=None,
            )
        except WriteConflict:
            # No other request has this id: botocore retried a PUT whose first answer was lost.
            return

    def find(self, recording_id: str) -> bytes | Missing:
        """Return a result document; without one, check whether the upload exists.

        Raises
        ------
        StorageUnavailable, StorageRefused
            If S3 fails or refuses access.
        """
        if found := self._storage.get(self._results_bucket, self._result_key(recording_id)):
            _, document = found
            return document
        upload = self._storage.head(self._uploads_bucket, self.key_for(recording_id))
        return Missing.PENDING if upload else Missing.UNKNOWN

    def progress(self, recording_id: str) -> float | None:  # noqa: ARG002 (the store on S3 knows none)
        """Return None: the function that classifies reports no progress."""
        return None

    def create_upload(
        self,
        base_url: str,  # noqa: ARG002 (S3 has its own address)
        speakers: SpeakerMode | None = None,
    ) -> PresignedUpload:
        """Sign a presigned POST for one key and for recordings up to the size limit.

        Raises
        ------
        StorageRefused
            If there are no credentials to sign with.
        """
        recording_id = new_id()
        expiry_s = self._settings.api_upload_expiry_s
        metadata = {f"x-amz-meta-{SPEAKERS_KEY}": speakers} if speakers else {}
        try:
            form = self._forms.generate_presigned_post(
                Bucket=self._uploads_bucket,
                Key=self.key_for(recording_id),
                Fields=dict(metadata),
                # botocore adds the key as a condition.
                Conditions=[["content-length-range", 1, self._max_size_bytes], *({k: v} for k, v in metadata.items())],
                ExpiresIn=expiry_s,
            )
        except (BotoCoreError, AttributeError) as error:
            # Without credentials, botocore raises AttributeError on None.
            raise StorageRefused("The upload cannot be signed without AWS credentials.") from error
        expires_at = now() + timedelta(seconds=expiry_s)
        return PresignedUpload(recording_id, form["url"], form["fields"], expires_at, self._max_size_bytes)

    def _result_key(self, recording_id: str) -> str:
        return result_key_for(self.key_for(recording_id), self._settings.results_prefix)


def presigning_s3_client() -> "S3Client":
    """Return an S3 client that signs forms for the bucket's own region.

    By default, botocore signs them for the global endpoint. While a bucket is new, that endpoint redirects to the
    bucket's region, and a browser does not repost a form after such a redirect.
    """
    return boto3.client("s3", config=Config(signature_version="s3v4", s3={"addressing_style": "virtual"}))
