"""A pipeline for worker processes in which a file with a certain name kills its process, as a full memory would."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from core.cli.parallel import PipelineOptions
from core.errors import DiskUnavailable
from core.pipeline import Pipeline
from core.results import Model, Processing, Result, Source
from core.settings import MediaLimits

MODEL = Model(id="quick", revision="1", precision="fp32", fingerprint="sha256:0", labels=("anger",))


class _QuickPipeline:
    limits = MediaLimits()
    model = MODEL

    def run(self, path: Path, source: Source) -> Result:
        if path.name == "kill.wav" or (path.name == "kill-once.wav" and not _was_seen(path)):
            os.kill(os.getpid(), signal.SIGKILL)
        if path.name == "full.wav":
            raise DiskUnavailable("The temporary folder is full.")
        return Result(status="no_speech", source=source, model=MODEL, processing=Processing.finished_now())


def _was_seen(path: Path) -> bool:
    mark = path.with_suffix(".seen")
    existed = mark.exists()
    mark.touch()
    return existed


@dataclass(frozen=True)
class DeadlyOptions(PipelineOptions):
    """Options of such a pipeline. The model `unloadable` kills the process that loads it."""

    def pipeline(self, threads: int | None = None) -> Pipeline:
        if self.model_dir.name == "unloadable":
            os.kill(os.getpid(), signal.SIGKILL)
        pipeline: Any = _QuickPipeline()
        return cast(Pipeline, pipeline)
