"""Where recordings that come over HTTP have their places: each gets an id of ours, and its result lies under that.

An id makes a key, and from there on everything is as for any other upload: what is posted to the uploads bucket goes
through the queue, and the result of a recording that was classified at once lies where the queue's would. So whoever
asks for a result need not know which way its recording took.
"""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from core.delivery.keys import result_key_for
from core.delivery.storage import Storage, WriteConflict
from core.errors import StorageRefused
from core.results import Result
from core.settings import ApiSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class NotThere(Enum):
    """Why a result cannot be had."""

    ON_ITS_WAY = "on its way"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class PresignedUpload:
    """Whoever has this may upload one recording, for a while: a form to post, with the file as its last field."""

    id: str
    url: str
    fields: Mapping[str, str]
    expires_at: datetime
    max_size_bytes: int


class ResultStore(Protocol):
    """What keeps results and takes uploads."""

    @property
    def upload_origin(self) -> str | None:
        """Where uploads are posted to, if that is another origin than the API's own: `https://…`."""
        ...

    def key_for(self, recording_id: str) -> str:
        """The key that an id makes."""
        ...

    def store(self, recording_id: str, result: Result) -> None:
        """Keep a result."""
        ...

    def find(self, recording_id: str) -> bytes | NotThere:
        """The document of a recording."""
        ...

    def create_upload(self, base_url: str) -> PresignedUpload:
        """Make a place for an upload."""
        ...


def new_id() -> str:
    """An id that nobody can guess, so that it may serve as the way to its result."""
    return str(uuid.uuid4())


def is_id(text: str) -> bool:
    """Whether this could be one of ours."""
    return _ID.fullmatch(text) is not None


class S3ResultStore:
    """The uploads bucket and the results bucket, as template.yaml makes them."""

    def __init__(self, storage: Storage, forms: "S3Client", settings: ApiSettings, max_size_bytes: int) -> None:
        assert settings.uploads_bucket  # the settings hold both or neither
        assert settings.results_bucket
        self._uploads_bucket, self._results_bucket = settings.uploads_bucket, settings.results_bucket
        self._storage = storage
        self._forms = forms
        self._settings = settings
        self._max_size_bytes = max_size_bytes

    @property
    def upload_origin(self) -> str | None:
        """Where S3 answers for the uploads bucket."""
        url = urlsplit(self.create_upload("").url)
        return f"{url.scheme}://{url.netloc}"

    def key_for(self, recording_id: str) -> str:
        """In the uploads bucket."""
        return self._settings.api_prefix + recording_id

    def store(self, recording_id: str, result: Result) -> None:
        """Put a result where nothing is yet.

        Raises
        ------
        StorageUnavailable, StorageRefused
            If S3 cannot or will not.
        """
        metadata = {
            "source-version": recording_id,
            "sequencer": "",
            "fingerprint": result.model.fingerprint,
            "state": "done",
        }
        body = result.to_json().encode()
        try:
            self._storage.put(
                self._results_bucket,
                self._result_key(recording_id),
                body,
                content_type="application/json",
                metadata=metadata,
                replaces=None,
            )
        except WriteConflict:
            # Nobody else has this id: the answer to our first PUT was lost, and it was repeated.
            return

    def find(self, recording_id: str) -> bytes | NotThere:
        """Read a result; without one, see whether there is an upload that will have one.

        Raises
        ------
        StorageUnavailable, StorageRefused
            If S3 cannot or will not say.
        """
        if found := self._storage.get(self._results_bucket, self._result_key(recording_id)):
            _, document = found
            return document
        upload = self._storage.head(self._uploads_bucket, self.key_for(recording_id))
        return NotThere.ON_ITS_WAY if upload else NotThere.UNKNOWN

    def create_upload(self, base_url: str) -> PresignedUpload:  # noqa: ARG002 (S3 has an address of its own)
        """Sign a form that S3 takes: for one key, up to the largest size that is classified.

        Raises
        ------
        StorageRefused
            If there are no credentials to sign with.
        """
        recording_id = new_id()
        expiry_s = self._settings.api_upload_expiry_s
        try:
            form = self._forms.generate_presigned_post(
                Bucket=self._uploads_bucket,
                Key=self.key_for(recording_id),
                # The key is a condition already.
                Conditions=[["content-length-range", 1, self._max_size_bytes]],
                ExpiresIn=expiry_s,
            )
        except (BotoCoreError, AttributeError) as error:
            # Without credentials, botocore looks for a key on None.
            raise StorageRefused("The upload cannot be signed: there are no credentials.") from error
        expires_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=expiry_s)
        return PresignedUpload(recording_id, form["url"], form["fields"], expires_at, self._max_size_bytes)

    def _result_key(self, recording_id: str) -> str:
        return result_key_for(self.key_for(recording_id), self._settings.results_prefix)


def presigning_s3_client() -> "S3Client":
    """An S3 client whose signed forms name the bucket's own region; it is used for nothing else.

    Unless told, botocore signs forms for the address that serves all regions, which sends a browser on to another one
    while a bucket is new; and a form cannot follow.
    """
    return boto3.client("s3", config=Config(signature_version="s3v4", s3={"addressing_style": "virtual"}))
