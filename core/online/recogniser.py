"""Classify a recording sent over HTTP and store its result."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from core.deadline import Deadline
from core.errors import GivenUp, TransientError
from core.online.result_store import ResultStore, new_id
from core.pipeline import Advance, Pipeline
from core.results import Model, Result, Source
from core.scratch import disk_errors, scratch_folder
from core.settings import SpeakerMode
from core.speakers.separation import SpeakerSeparator

_logger = logging.getLogger(__name__)

_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Recognised:
    """A result and its id in the store."""

    id: str
    result: Result


class Recogniser:
    """Classify recordings and store their results. Thread-safe."""

    def __init__(self, pipeline: Pipeline, store: ResultStore) -> None:
        self._pipeline = pipeline
        self._store = store

    @property
    def model(self) -> Model:
        """The model's identity, as stored in results."""
        return self._pipeline.model

    @property
    def speakers(self) -> SpeakerSeparator:
        """Separates speakers who share a channel."""
        return self._pipeline.speakers

    def recognise(
        self,
        recording: BinaryIO,
        *,
        deadline: Deadline | None = None,
        request_id: str | None = None,
        speakers: SpeakerMode | None = None,
    ) -> Recognised:
        """Classify a recording and store its result, even a `failed` one.

        Parameters
        ----------
        speakers
            Whether to separate speakers; by default as in all recordings.

        Raises
        ------
        TransientError
            If a retry may succeed.
        """
        recording_id = new_id()
        with scratch_folder() as folder:
            # A fixed name: the client's file name is untrusted.
            path = folder / "recording"
            with disk_errors(), path.open("wb") as file:
                shutil.copyfileobj(recording, file, _CHUNK_BYTES)
            result = self._classify(recording_id, path, deadline, speakers).with_request_id(request_id)
        self._store.store(recording_id, result)
        return Recognised(recording_id, result)

    def classify_upload(
        self, recording_id: str, path: Path, speakers: SpeakerMode | None = None, advance: Advance | None = None
    ) -> Result:
        """Classify an upload, and return a `failed` result even if an error on the server prevents it."""
        try:
            return self._classify(recording_id, path, None, speakers, advance)
        except TransientError as error:
            return self.give_up(recording_id, path, str(error))
        except Exception:
            _logger.exception("An upload could not be classified.")
            return self.give_up(
                recording_id, path, "An unexpected error occurred on the server; its log has the details."
            )

    def give_up(self, recording_id: str, path: Path, why: str) -> Result:
        """Return the `failed` result of an upload that is not classified."""
        error = GivenUp(f"The recording was not classified. {why} Upload it again.")
        return Result.failed(self._source(recording_id, path), self.model, error)

    def _classify(
        self,
        recording_id: str,
        path: Path,
        deadline: Deadline | None,
        speakers: SpeakerMode | None,
        advance: Advance | None = None,
    ) -> Result:
        source = self._source(recording_id, path)
        try:
            return self._pipeline.run(path, source, deadline=deadline, speakers=speakers, advance=advance)
        except TransientError:
            # The queue would deliver the upload again. Here a client waits, so retry once.
            return self._pipeline.run(path, source, deadline=deadline, speakers=speakers, advance=advance)

    def _source(self, recording_id: str, path: Path) -> Source:
        return Source(key=self._store.key_for(recording_id), size_bytes=path.stat().st_size)
