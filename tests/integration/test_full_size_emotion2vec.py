"""emotion2vec at its published sizes: fp32 equals the checkpoint, int8 passes the gate or is refused, memory is flat.

The weights are random, because tests run without access to the Hub. The seed network has the sizes of the base network.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.audio.waveform import WINDOW_SAMPLES
from core.errors import ParityMissed
from core.export.exporter import export
from core.export.graph import Precision
from core.export.parity import meets_bound
from core.model.package import MANIFEST_FILE, ParityReport
from tests.integration.test_full_size import decoded, spoken
from tests.integration.test_full_size_families import Exported, check_flat_memory
from tests.support.emotion2vec import SIZES, document, random_emotion2vec, write_folder

# A minute of processor time, which may take half an hour on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

LENGTHS = (400, 719, 720, 8_000, 32_000, WINDOW_SAMPLES)
"""25 ms to 6 s."""
TOLERANCE = 1e-4
MAX_BASE_PACKAGE_BYTES = 130_000_000


@pytest.fixture(scope="module", params=["emotion2vec-plus-base", "emotion2vec-plus-large"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    sizes, folder = SIZES[request.param], tmp_path_factory.mktemp("checkpoint") / request.param
    yield write_folder(random_emotion2vec(sizes), document(sizes), folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def exported(checkpoint: Path, corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    folder = tmp_path_factory.mktemp("package")
    speech = (decoded(path) for path in spoken(corpora, len(LENGTHS)))
    clips = [clip[:samples] for clip, samples in zip(speech, LENGTHS, strict=True)]
    yield Exported(folder, export(checkpoint, folder, clips, precision=Precision.FP32))
    shutil.rmtree(folder)


def test_fp32_has_the_checkpoint_s_logits(exported: Exported) -> None:
    assert exported.manifest.parity.clips == len(LENGTHS)
    assert exported.manifest.parity.largest_logit_change < TOLERANCE


def test_speech_of_every_corpus_is_classified_in_flat_memory(exported: Exported, corpora: Path, tmp_path: Path) -> None:
    check_flat_memory(exported, corpora, tmp_path)


def test_int8_passes_the_gate_or_is_refused_with_its_report(checkpoint: Path, corpora: Path, tmp_path: Path) -> None:
    reports: list[tuple[ParityReport, bool]] = []
    clips = [decoded(path) for path in spoken(corpora, 20)]
    refusal = ""

    try:
        export(
            checkpoint,
            tmp_path,
            clips,
            precision=Precision.INT8,
            report=lambda _, parity, is_accepted: reports.append((parity, is_accepted)),
        )
    except ParityMissed as error:
        refusal = str(error)

    ((parity, is_accepted),) = reports
    assert is_accepted == meets_bound(parity) == (tmp_path / MANIFEST_FILE).exists()
    assert is_accepted != ("of 20 clips" in refusal)
    if checkpoint.name == "emotion2vec-plus-base" and is_accepted:
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) < MAX_BASE_PACKAGE_BYTES
