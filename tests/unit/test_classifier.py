"""The classifier, loaded from a package or a checkpoint; and the packages that the function does not import."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.audio.waveform import Waveform
from core.checkpoints.loading import load_classifier
from core.errors import EmptyRecording
from core.model.classifier import EmotionClassifier
from core.model.output import output_values, softmax
from core.results import Output

ROOT = Path(__file__).parents[2]

SpeechLike = Callable[[int, int], Waveform]


@pytest.fixture(scope="module")
def both(small_checkpoint: Path, small_package: Path) -> tuple[EmotionClassifier, EmotionClassifier]:
    return load_classifier(small_checkpoint, 1), load_classifier(small_package, 1)


@pytest.mark.parametrize("samples", [1, 400, 20_000, 96_000, 150_000])
def test_checkpoint_and_package_give_the_same_scores(
    samples: int, both: tuple[EmotionClassifier, EmotionClassifier], speech_like: SpeechLike
) -> None:
    reference, served = (classifier.classify(speech_like(samples, 1)) for classifier in both)

    assert list(reference) == list(served)
    assert list(served.values()) == pytest.approx(list(reference.values()), abs=1e-5)


def test_checkpoint_and_package_have_an_identity(both: tuple[EmotionClassifier, EmotionClassifier]) -> None:
    reference, served = (classifier.identity for classifier in both)

    assert (reference.id, reference.revision, reference.labels) == (served.id, served.revision, served.labels)
    assert (reference.precision, served.precision) == ("pytorch-fp32", "fp32")
    assert reference.fingerprint.startswith("sha256:")
    assert reference.fingerprint != served.fingerprint


def test_a_batch_has_the_scores_of_single_waveforms(
    both: tuple[EmotionClassifier, EmotionClassifier], speech_like: SpeechLike
) -> None:
    waveforms = [speech_like(samples, samples) for samples in (5_000, 40_000, 96_000)]

    for classifier in both:
        assert classifier.classify_all(waveforms) == [classifier.classify(waveform) for waveform in waveforms]


def test_no_samples_are_refused_by_both(both: tuple[EmotionClassifier, EmotionClassifier]) -> None:
    for classifier in both:
        with pytest.raises(EmptyRecording):
            classifier.classify(np.empty(0, np.float32))


@pytest.mark.parametrize("logits", [[0.0, 0.0], [1e30, -1e30], [-3e38, -3e38], [88.0, 90.0]])
def test_probabilities_are_never_nan(logits: list[float]) -> None:
    with np.errstate(all="ignore"):
        probabilities = softmax(np.array(logits, np.float32))

    assert np.isfinite(probabilities).all()
    assert probabilities.sum() == pytest.approx(1.0)


def test_independent_scores_are_probabilities_and_values_are_the_logits() -> None:
    logits = np.array([-3e38, -2.0, 0.0, 2.0, 1e30], np.float32)

    with np.errstate(over="raise"):
        scores = output_values(logits, Output.SIGMOID)

    assert scores == pytest.approx([0.0, 1 / (1 + np.exp(2.0)), 0.5, 1 / (1 + np.exp(-2.0)), 1.0], abs=1e-15)
    assert output_values(logits, Output.LINEAR).tolist() == logits.tolist()
    assert output_values(logits[1:4], Output.SOFTMAX).tolist() == softmax(logits[1:4]).tolist()


BUILD_TIME = {"torch", "transformers", "onnx", "huggingface_hub", "safetensors", "moto", "typer"}
"""The image has none of them, and PyTorch and transformers take four seconds to import."""
SLOW = {"asyncio", "pydantic_settings", "fastapi"}
"""Each takes a tenth of a second to import, and the upload function needs none of them."""


@pytest.mark.parametrize(
    ("modules", "spared"),
    [
        ("handlers.s3_upload, handlers.batch_operations, core.pipeline", BUILD_TIME | SLOW),
        ("handlers.api.app, handlers.api.service, mangum", BUILD_TIME),
    ],
)
def test_the_functions_import_only_what_they_need(modules: str, spared: set[str]) -> None:
    program = f"import sys, {modules}; print(sorted({spared!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={"AWS_DEFAULT_REGION": "us-east-1"},
    )

    assert done.stdout.strip() == "[]", done.stderr


def test_a_package_loads_and_runs_without_build_time_packages(small_package: Path) -> None:
    program = f"""
import sys
for name in ("torch", "transformers", "onnx", "huggingface_hub", "safetensors"):
    sys.modules[name] = None
import numpy
from pathlib import Path
from core.model.classifier import EmotionClassifier
scores = EmotionClassifier.load(Path({str(small_package)!r})).classify(numpy.ones(800, numpy.float32))
print(len(scores))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True, timeout=60
    )

    assert done.stdout.strip() == "6", done.stderr
