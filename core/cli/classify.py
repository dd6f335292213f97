"""`audio-emotion classify`: files in, a table or JSON lines out."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console

from core import settings
from core.cli.tables import result_table, show_demo_notice
from core.errors import NotAudio
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.results import Result, Source


def classify_files(files: Iterable[Path], model_dir: Path, *, json_lines: bool) -> int:
    """Classify each file and show the results; returns the exit status."""
    classifier = EmotionClassifier.load(model_dir)
    if classifier.identity.demo:
        show_demo_notice()
    pipeline = Pipeline(classifier, settings.read(settings.MediaLimits))
    results = _results(files, pipeline)
    failed = False
    if json_lines:
        for result in results:
            failed |= result.status == "failed"
            sys.stdout.write(result.to_json() + "\n")
            sys.stdout.flush()
        return int(failed)
    done = list(results)
    Console().print(result_table(done))
    return int(any(result.status == "failed" for result in done))


def _results(files: Iterable[Path], pipeline: Pipeline) -> Iterator[Result]:
    for file in files:
        source = Source(key=str(file), size_bytes=file.stat().st_size if file.is_file() else None)
        if not file.exists():
            yield pipeline.failed(source, NotAudio("There is no such file."))
        elif not file.is_file():
            yield pipeline.failed(source, NotAudio("This is a folder or a device, not a file."))
        else:
            yield pipeline.run(file.resolve(), source)
