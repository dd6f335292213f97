"""The large networks of each encoder at full size: they export in float32, and classify speech in flat memory.

The weights are random with a fixed seed, because tests run without access to the Hub. Each network has 316 million
parameters; the tests need two minutes of processor time and 5 GB of memory.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from core.audio.waveform import WINDOW_SAMPLES
from core.export.exporter import export
from core.export.graph import Precision
from core.model.package import Manifest
from tests.integration.test_full_size import decoded, spoken
from tests.support.full_size import PUBLISHED_CONFIGS, full_size_config, full_size_network
from tests.support.networks import write_checkpoint

# A minute of processor time, which may take half an hour on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

LARGE = [name for name in PUBLISHED_CONFIGS if name.endswith("-large")]
COMPARED, CLASSIFIED = 4, 25

MAX_GROWTH_MB = 32
"""Above this, the arena of ONNX Runtime or a copy of the scores would grow with the number of clips."""

# A process of its own, because the peak of this one includes the export's.
_CLASSIFY_ALL = """
import json, sys
from pathlib import Path
import numpy as np
from core.model.classifier import EmotionClassifier

def peak_mb():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024

classifier = EmotionClassifier.load(Path(sys.argv[1]), threads=1)
with np.load(sys.argv[2]) as clips:
    longest = classifier.classify(clips["longest"])
    before_mb = peak_mb()
    scores = [list(classifier.classify(clips[name]).values()) for name in clips.files]
print(json.dumps({"before_mb": before_mb, "after_mb": peak_mb(), "scores": scores}))
"""


@dataclass(frozen=True)
class Exported:
    """A network's serving package, which met the parity bound."""

    folder: Path
    manifest: Manifest


@pytest.fixture(scope="module", params=LARGE)
def exported(
    request: pytest.FixtureRequest, corpora: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Exported]:
    name, folder = request.param, tmp_path_factory.mktemp("large")
    checkpoint = write_checkpoint(
        full_size_network(name), full_size_config(name), folder / "checkpoint", weights="safetensors"
    )
    clips = [decoded(path)[:32_000] for path in spoken(corpora, COMPARED)]
    manifest = export(checkpoint, folder / "package", clips, precision=Precision.FP32)
    shutil.rmtree(checkpoint)
    yield Exported(folder / "package", manifest)
    shutil.rmtree(folder)


def test_the_export_meets_the_parity_bound(exported: Exported) -> None:
    parity = exported.manifest.parity

    assert parity.clips == COMPARED
    assert parity.agreement == 1.0
    assert parity.largest_score_change < 1e-4


def test_speech_of_every_corpus_is_classified_in_flat_memory(exported: Exported, corpora: Path, tmp_path: Path) -> None:
    check_flat_memory(exported, corpora, tmp_path)


def check_flat_memory(exported: Exported, corpora: Path, folder: Path) -> None:
    """Classify speech in a process of its own, whose memory must not grow after the longest clip."""
    whole = [decoded(path) for path in spoken(corpora, CLASSIFIED)]
    longest = np.concatenate(whole)[:WINDOW_SAMPLES]
    clips = {"longest": longest, **{f"clip-{number}": clip for number, clip in enumerate(whole)}}
    np.savez(folder / "clips.npz", allow_pickle=False, **clips)

    done = subprocess.run(
        [sys.executable, "-c", _CLASSIFY_ALL, str(exported.folder), str(folder / "clips.npz")],
        check=True,
        capture_output=True,
        timeout=1200,
    )

    result = json.loads(done.stdout)
    scores = np.array(result["scores"])
    assert scores.shape == (CLASSIFIED + 1, len(exported.manifest.labels))
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-6)
    assert len(np.unique(scores.round(9), axis=0)) == CLASSIFIED + 1
    assert result["after_mb"] - result["before_mb"] < MAX_GROWTH_MB
