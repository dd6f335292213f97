"""A serving package that does not match its manifest is refused."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.checkpoints.loading import load_classifier
from core.errors import PackageRefused
from core.model.classifier import EmotionClassifier
from core.model.package import MANIFEST_FILE, MODEL_FILE, WEIGHTS_FILE, read_manifest
from core.results import Output
from handlers.processing import delivery
from tests.support.serving import service_from_environment


@pytest.fixture
def damaged(package: Path, tmp_path: Path) -> Path:
    """A copy of a valid package, for the test to damage."""
    return Path(shutil.copytree(package, tmp_path / "package"))


def change_manifest(folder: Path, **changes: Any) -> None:
    file = folder / MANIFEST_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_package_loads_and_scores_every_label(package: Path) -> None:
    classifier = EmotionClassifier.load(package)

    scores = classifier.classify(np.random.default_rng(0).normal(0, 0.1, 30_000).astype(np.float32))

    assert tuple(scores) == classifier.identity.labels
    assert sum(scores.values()) == pytest.approx(1.0, abs=1e-12)
    assert classifier.identity.labels == ("anger", "fear", "happy", "neutral", "sad", "surprise")


def test_the_manifest_has_the_parity_with_the_reference(package: Path) -> None:
    parity = read_manifest(package).parity

    assert parity.clips > 0
    assert parity.agreement is not None
    assert parity.agreement >= 0.99
    assert parity.mean_score_change <= 0.005


@pytest.mark.parametrize("damage", ["one bit", "cut short", "something appended", "empty"])
def test_a_damaged_network_is_refused(damage: str, damaged: Path) -> None:
    model = bytearray((damaged / MODEL_FILE).read_bytes())
    if damage == "one bit":
        model[len(model) // 2] ^= 1
    contents: dict[str, bytes | bytearray] = {
        "one bit": model,
        "cut short": model[:-1],
        "something appended": model + b"\0",
        "empty": b"",
    }
    (damaged / MODEL_FILE).write_bytes(contents[damage])

    with pytest.raises(PackageRefused, match=r"model\.onnx does not match the hash"):
        EmotionClassifier.load(damaged)


def test_another_hash_in_the_manifest_is_refused(damaged: Path) -> None:
    change_manifest(damaged, sha256={MODEL_FILE: "0" * 64})

    with pytest.raises(PackageRefused, match="does not match the hash"):
        EmotionClassifier.load(damaged)


@pytest.mark.parametrize("without", [MODEL_FILE, WEIGHTS_FILE])
def test_a_manifest_without_a_hash_is_refused(without: str, damaged: Path) -> None:
    hashes = dict(read_manifest(damaged).sha256)
    del hashes[without]
    change_manifest(damaged, sha256=hashes)

    with pytest.raises(PackageRefused, match=f"{without} does not match the hash"):
        EmotionClassifier.load(damaged)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"format_version": 2}, "format 2"),
        ({"labels": "anger"}, "labels"),
        ({"parity": None}, "parity"),
        ({"surplus": 1}, "surplus"),
        ({"geometry": {"window_samples": 96_000}}, "geometry"),
    ],
)
def test_an_unusable_manifest_is_refused_with_the_problem(changes: dict[str, Any], named: str, damaged: Path) -> None:
    change_manifest(damaged, **changes)

    with pytest.raises(PackageRefused, match=named):
        EmotionClassifier.load(damaged)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_manifest_that_is_not_json_is_refused(content: bytes, damaged: Path) -> None:
    (damaged / MANIFEST_FILE).write_bytes(content)

    with pytest.raises(PackageRefused, match="malformed"):
        EmotionClassifier.load(damaged)


def test_a_missing_network_is_refused_by_name(damaged: Path) -> None:
    (damaged / MODEL_FILE).unlink()

    with pytest.raises(PackageRefused, match=r"model\.onnx is missing or unreadable"):
        EmotionClassifier.load(damaged)


def test_the_function_relies_on_the_image_build_s_check(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One bit of a weight, which only the hash shows.
    weights = bytearray((damaged / WEIGHTS_FILE).read_bytes())
    weights[0] ^= 1
    (damaged / WEIGHTS_FILE).write_bytes(weights)
    monkeypatch.setenv("RESULTS_BUCKET", "results")
    monkeypatch.setenv("UPLOADS_BUCKET", "uploads")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("MODEL_DIR", str(damaged))
    delivery.cache_clear()

    with pytest.raises(PackageRefused, match="does not match the hash"):
        delivery()
    with pytest.raises(PackageRefused, match="does not match the hash"):
        service_from_environment(damaged)

    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "3008")
    delivery()
    service_from_environment(damaged)
    delivery.cache_clear()


@pytest.mark.parametrize("folder", ["empty", "absent"])
def test_a_folder_without_a_model_is_refused_by_its_name(folder: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(PackageRefused, match=f"{folder} contains neither"):
        load_classifier(tmp_path / folder, 1)


def test_the_fingerprint_changes_with_everything_that_can_change_a_score(damaged: Path) -> None:
    manifest = read_manifest(damaged)

    changed = [
        manifest.model_copy(update=update)
        for update in (
            {"labels": tuple(reversed(manifest.labels))},
            {"sha256": {MODEL_FILE: "0" * 64}},
            {"sample_rate_hz": 8_000},
            {"output": Output.SIGMOID},
            {"output": Output.LINEAR},
        )
    ]
    unchanged = manifest.model_copy(update={"tools": {}, "revision": "another name for the same"})

    assert len({manifest.fingerprint, *(other.fingerprint for other in changed)}) == 6
    assert unchanged.fingerprint == manifest.fingerprint


def test_a_package_that_names_no_output_keeps_its_fingerprint(package: Path) -> None:
    """The published demo package was exported before manifests had outputs."""
    manifest = read_manifest(package)
    decisive = manifest.model_dump_json(
        include={"format_version", "labels", "sample_rate_hz", "geometry", "sha256"}, exclude_defaults=True
    )

    assert manifest.output is Output.SOFTMAX
    assert manifest.fingerprint == "sha256:" + hashlib.sha256(decisive.encode()).hexdigest()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dimensions_range": [0, 1]}, "only a linear output has dimensions_range"),
        ({"output": "linear", "dimensions_range": [1, 0]}, "a lower and a higher number"),
        ({"output": "linear", "dimensions_range": [0, 1, 2]}, "dimensions_range"),
        ({"output": "tanh"}, "output"),
    ],
)
def test_an_output_that_makes_no_sense_is_refused(changes: dict[str, Any], named: str, damaged: Path) -> None:
    change_manifest(damaged, **changes)

    with pytest.raises(PackageRefused, match=named):
        EmotionClassifier.load(damaged)


def test_a_fingerprint_survives_writing_and_reading(damaged: Path) -> None:
    manifest = read_manifest(damaged)
    (damaged / MANIFEST_FILE).write_text(manifest.model_dump_json())

    assert read_manifest(damaged).fingerprint == manifest.fingerprint
