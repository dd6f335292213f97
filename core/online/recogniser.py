"""A recording that came over HTTP in, its result out, and kept."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from core.deadline import Deadline
from core.errors import EmptyRecording, GivenUp, TransientError
from core.online.result_store import ResultStore, new_id
from core.pipeline import Pipeline
from core.results import Model, Result, Source
from core.scratch import scratch_folder

_logger = logging.getLogger(__name__)

_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Recognised:
    """A result, and the id that it is kept under."""

    id: str
    result: Result


class Recogniser:
    """Classifies recordings and keeps what comes out. Several threads may call it at the same time."""

    def __init__(self, pipeline: Pipeline, store: ResultStore) -> None:
        self._pipeline = pipeline
        self._store = store

    @property
    def model(self) -> Model:
        """What the results say of the model."""
        return self._pipeline.model

    def recognise(
        self, recording: BinaryIO, *, deadline: Deadline | None = None, request_id: str | None = None
    ) -> Recognised:
        """Classify a recording and keep its result, whatever that is.

        Raises
        ------
        TransientError
            If the surroundings are at fault, so that trying again may help.
        """
        recording_id = new_id()
        with scratch_folder() as folder:
            # A name of ours: what the client calls it may be anything.
            path = Path(folder) / "recording"
            with path.open("wb") as file:
                shutil.copyfileobj(recording, file, _CHUNK_BYTES)
            result = self._classify(recording_id, path, deadline).with_request_id(request_id)
        self._store.store(recording_id, result)
        return Recognised(recording_id, result)

    def classify_upload(self, recording_id: str, path: Path) -> Result:
        """Classify what was uploaded under an id; trouble of ours becomes a `failed` result, as on the queue."""
        try:
            return self._classify(recording_id, path, None)
        except TransientError as error:
            return self.give_up(recording_id, path, str(error))
        except Exception:
            _logger.exception("an upload was not classified")
            return self.give_up(recording_id, path, "This is a fault of the server's; its log says more.")

    def give_up(self, recording_id: str, path: Path, why: str) -> Result:
        """The `failed` result of an upload that is not classified."""
        gone = GivenUp(f"The recording was not classified: {why} Upload it again.")
        return Result.failed(self._source(recording_id, path), self.model, gone)

    def _classify(self, recording_id: str, path: Path, deadline: Deadline | None) -> Result:
        source = self._source(recording_id, path)
        if source.size_bytes == 0:
            empty = EmptyRecording("The file is empty (0 bytes).")
            return Result.failed(source, self.model, empty)
        try:
            return self._pipeline.run(path, source, deadline=deadline)
        except TransientError:
            # Where a queue would deliver it again. Once: somebody is waiting.
            return self._pipeline.run(path, source, deadline=deadline)

    def _source(self, recording_id: str, path: Path) -> Source:
        return Source(key=self._store.key_for(recording_id), size_bytes=path.stat().st_size)
