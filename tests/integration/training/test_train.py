"""`audio-emotion train`, on the samples, with small random networks."""

import json
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

from core.audio.waveform import WINDOW_SAMPLES, Waveform
from core.checkpoints.architecture import InputMode
from core.checkpoints.checkpoint import Checkpoint, read_checkpoint
from core.checkpoints.geometry import geometry_of
from core.checkpoints.loading import load_classifier
from core.cli.train import train_checkpoint
from core.settings import MediaLimits, SegmentationSettings
from core.training import task
from core.training.augmentation import KINDS, Noise, conditions
from core.training.cache import ArrayCache
from core.training.head import Examples, fit_head, head_logits
from core.training.manifest import Clip
from core.training.network import start_network, write_network
from core.training.speech import LabelledSpeech, SpeechReader
from core.training.states import mean_states, network_logits, start_logits
from core.training.training import train
from tests.support.networks import SMALL_NETWORKS, SmallNetwork, write_checkpoint
from tests.support.training import FILES, LABELS, SAMPLES, options, train_with

STOCK_KINDS = [
    kind
    for kind in SMALL_NETWORKS
    if kind.architecture.has_weighted_sum
    and kind.architecture.is_normalised
    and (kind.norm == "layer") == kind.is_stable
    and str(kind).endswith(("stock-softmax", "stock-sigmoid", "stock-linear"))
    and kind.architecture.input_mode == "clip"
]
"""Each encoder with each norm."""


def loaded_by_transformers(folder: Path) -> Any:
    """Load a checkpoint with transformers, and check that no tensor is missing, surplus or of another shape."""
    network, info = AutoModelForAudioClassification.from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))
    return network.eval()


def logits_by_transformers(folder: Path, waveform: Waveform) -> np.ndarray[Any, Any]:
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    prepared = extractor(waveform, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        return np.asarray(loaded_by_transformers(folder)(prepared.input_values).logits[0].numpy())


class _Speech:
    """Waveforms in a cache, as if they had been read from files."""

    def __init__(self, waveforms: list[Waveform], folder: Path) -> None:
        self.cache = ArrayCache(folder)
        self.items = []
        for number, waveform in enumerate(waveforms):
            self.cache.write(f"clip {number}", [np.ones(1, np.float32), waveform])
            self.items.append(LabelledSpeech(Clip(Path(), "a"), f"clip {number}", (1.0,)))


@pytest.mark.parametrize("kind", STOCK_KINDS, ids=str)
def test_a_head_trained_on_means_gives_transformers_logits_on_the_clip(
    kind: SmallNetwork, tmp_path: Path, speech_like: Callable[[int, int], Waveform]
) -> None:
    start = read_checkpoint(
        write_checkpoint(kind.build(), {**kind.config, "use_weighted_layer_sum": True}, tmp_path / "start")
    )
    network = start_network(start, LABELS, seed=1)
    speech = _Speech([speech_like(8_000 + 1_700 * number, number) for number in range(8)], tmp_path / "cache")
    means = mean_states(start, network, speech.items, speech.cache)
    targets = np.arange(8) % 2

    fit_head(network, Examples.of(means, targets, np.arange(8)), None, steps=20)
    write_network(network, tmp_path / "out", "out")

    for item, rows in zip(speech.items, means, strict=True):
        (waveform,) = item.waveforms(speech.cache)
        from_means = head_logits(network, rows)[0]
        np.testing.assert_allclose(logits_by_transformers(tmp_path / "out", waveform), from_means, rtol=0, atol=1e-5)
        own = load_classifier(tmp_path / "out", threads=1).logits(waveform)
        np.testing.assert_allclose(own, from_means, rtol=0, atol=1e-5)


def test_a_start_that_classifies_padded_windows_gives_a_network_that_does(
    small_checkpoint: Path, tmp_path: Path, speech_like: Callable[[int, int], Waveform]
) -> None:
    start, out = read_checkpoint(small_checkpoint), tmp_path / "out"
    network = start_network(start, LABELS, seed=1)
    speech = _Speech([speech_like(20_000, 1)], tmp_path / "cache")
    (means,) = mean_states(start, network, speech.items, speech.cache)
    (waveform,) = speech.items[0].waveforms(speech.cache)

    write_network(network, out, "out")

    from_means = head_logits(network, means)[0]
    padded = np.pad(waveform, (0, WINDOW_SAMPLES - waveform.size))
    np.testing.assert_allclose(logits_by_transformers(out, padded), from_means, rtol=0, atol=1e-5)
    np.testing.assert_allclose(load_classifier(out, threads=1).logits(waveform), from_means, rtol=0, atol=1e-5)
    alone = logits_by_transformers(out, waveform)
    assert np.abs(alone - from_means).max() > 1e-3


def test_a_network_that_classifies_clips_replaces_one_that_classifies_windows(
    small_checkpoint: Path, tmp_path: Path
) -> None:
    (kind, *_) = STOCK_KINDS
    config = {**kind.config, "use_weighted_layer_sum": True}
    clips = write_checkpoint(kind.build(), config, tmp_path / "start")
    for start, expected in ((small_checkpoint, InputMode.PADDED_WINDOW), (clips, InputMode.CLIP)):
        write_network(start_network(read_checkpoint(start), LABELS, seed=1), tmp_path / "out", "out")

        assert read_checkpoint(tmp_path / "out").network.architecture.input_mode is expected


def test_a_head_learns_what_the_means_tell_apart(small_checkpoint: Path) -> None:
    network = start_network(read_checkpoint(small_checkpoint), LABELS, seed=1)
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, 400)
    means = random.normal(size=(400, 3, 32)).astype(np.float32)
    means[:, 1, 3] += 6 * targets  # one dimension of one layer
    training, validation = (Examples(means[part], targets[part]) for part in (slice(0, 300), slice(300, 400)))

    steps = fit_head(network, training, validation)

    predicted = np.array([head_logits(network, rows[None])[0].argmax() for rows in validation.means])
    assert (predicted == validation.targets).mean() >= 0.9
    assert network.layer_weights.argmax() == 1
    assert steps > 0


def test_a_training_writes_a_checkpoint_and_its_report(manifest: Path, small_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "trained <&> network"

    report = train_with(options(manifest, small_checkpoint, out))

    loaded_by_transformers(out)
    assert len({(out / name).stat().st_mode for name in ("model.safetensors", "config.json")}) == 1
    classifier = load_classifier(out, threads=1)
    assert classifier.identity.labels == LABELS
    written = json.loads((out / "training.json").read_text(encoding="utf-8"))
    assert written == json.loads(report.to_json())
    figures = written["figures"]["clean"]
    assert figures["clips"] == len(FILES)
    assert set(figures["recall"]) == set(LABELS)
    assert figures["unweighted_accuracy"]["low"] <= figures["unweighted_accuracy"]["value"]
    assert written["data"]["speakers"] == {"speaker 0": 4, "speaker 1": 2, "speaker 2": 2}
    assert not written["comparison"]  # the start has other labels
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "| calm | 4 |" in card
    page = (out / "training.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3 + 2  # confusion matrices and reliability diagrams
    assert report.calibration_in_words in card
    assert report.calibration_in_words in page
    assert set(written["calibration"]) == set(written["figures"])
    assert list(written["figures"]) == ["clean", "telephone", "noise, 10 dB"]
    assert all(f'<td class="name">{name}</td>' in page and f"| {name} | 8 |" in card for name in written["figures"])
    assert "trained &lt;&amp;&gt; network" in page
    assert "<script" not in page


def test_the_temperature_of_the_validation_sets_is_in_the_last_layer(
    manifest: Path, small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[tuple[int, ...]] = []

    def with_temperature(temperature: float) -> Any:
        def fit(logits: Any, targets: Any) -> float:
            assert len(logits) == len(targets)
            fitted.append(tuple(targets))
            return temperature

        monkeypatch.setattr(task, "fit_temperature", fit)
        report = train_with(options(manifest, small_checkpoint, tmp_path / str(temperature)))
        network = read_checkpoint(tmp_path / str(temperature)).network
        return report, network.get_submodule("classifier").state_dict()

    plain, last = with_temperature(1.0)
    hot, scaled = with_temperature(4.0)

    assert fitted[0]
    assert len(fitted[0]) < len(FILES)  # neither the training set nor the test set
    assert (plain.temperature, hot.temperature) == (1.0, 4.0)
    for name, tensor in last.items():
        torch.testing.assert_close(scaled[name], tensor / 4)
    assert plain.calibration["clean"].before == plain.calibration["clean"].after == hot.calibration["clean"].before
    assert hot.calibration["clean"].after != hot.calibration["clean"].before
    assert hot.figures["clean"].confusion == plain.figures["clean"].confusion


@pytest.mark.parametrize(("layers", "conditions"), [(0, 1), (1, 3)])
def test_the_temperature_of_a_head_is_that_of_clean_clips(
    layers: int,
    conditions: int,
    manifest: Path,
    small_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fitted: list[int] = []

    def fit(_: Any, targets: Any) -> float:
        fitted.append(len(targets))
        return 1.0

    monkeypatch.setattr(task, "fit_temperature", fit)
    changes = {"unfreeze": layers, "epochs": 1, "folds": 1, "augment": KINDS}

    report = train_with(options(manifest, small_checkpoint, tmp_path / "out", **changes))

    assert fitted == [conditions * 2]  # the validation set has two clips
    assert len(report.figures) == 3


def test_the_start_is_compared_on_the_labels_that_both_have(
    manifest: Path, small_checkpoint: Path, tmp_path: Path
) -> None:
    text = manifest.read_text(encoding="utf-8").replace("calm", "angry").replace("excited", "sadness")
    last = "".join(f"{SAMPLES / name},bored,speaker {n}\n" for n, name in enumerate(("happy.mp3", "fear.webm")))
    rows = [line for line in text.splitlines() if "happy.mp3" not in line and "fear.webm" not in line]
    manifest.write_text("\n".join(rows) + "\n" + last, encoding="utf-8")

    report = train_with(options(manifest, small_checkpoint, tmp_path / "out"))

    comparison = report.comparison["clean"]
    assert report.labels == ("anger", "bored", "sad")
    assert comparison.clips == len(FILES) - 2
    assert set(comparison.start.confusion) == set(comparison.trained.confusion) == {"anger", "sad"}
    start, trained = comparison.start.unweighted_accuracy.value, comparison.trained.unweighted_accuracy.value
    assert comparison.difference.value == pytest.approx(trained - start)
    page = (tmp_path / "out" / "training.html").read_text(encoding="utf-8")
    assert report.known_clips in page.partition("Figures</h2>")[0]


def test_the_same_training_gives_the_same_network(manifest: Path, small_checkpoint: Path, tmp_path: Path) -> None:
    contents = []
    for number in range(2):
        given = options(manifest, small_checkpoint, tmp_path / "out", cache=tmp_path / f"cache {number}")
        train_with(given)
        files = ("model.safetensors", "training.json", "config.json")
        contents.append([(tmp_path / "out" / name).read_bytes() for name in files])
        shutil.rmtree(tmp_path / "out")

    assert contents[0] == contents[1]


def test_a_second_run_continues_one_that_was_killed(
    manifest: Path, small_checkpoint: Path, tmp_path: Path, computed: list[Waveform], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    def killing(items: Iterable[Any], description: str, count: int) -> Iterable[Any]:
        for number, item in enumerate(items):
            if description == "Computing states" and number == 5:
                raise Killed
            yield item

    given = options(manifest, small_checkpoint, tmp_path / "out", cache=tmp_path / "cache")
    with pytest.raises(Killed):
        train(given, MediaLimits(), SegmentationSettings(), track=killing)
    assert len(computed) == 5
    monkeypatch.setattr(SpeechReader, "_decode", lambda *_: pytest.fail("a clip was decoded again"))

    train_with(given)
    assert len(computed) == 3 * len(FILES)  # clean, on a telephone and in noise
    train_with(given)
    assert len(computed) == 3 * len(FILES)


def test_the_head_is_trained_on_changed_copies_too(
    manifest: Path, small_checkpoint: Path, tmp_path: Path, computed: list[Waveform]
) -> None:
    contents, methods = [], []
    for number, kinds in enumerate([KINDS, KINDS, ("telephone",), ()]):
        given = options(manifest, small_checkpoint, tmp_path / "out", augment=kinds, cache=tmp_path / "cache")
        computed.clear()
        methods.append(train_with(given).method)
        assert len(computed) == [4, 0, 1, 0][number] * len(FILES)
        contents.append((tmp_path / "out" / "model.safetensors").read_bytes())

    assert contents[0] == contents[1]
    assert len(set(contents)) == 3
    assert methods[0].endswith("with telephone, noise, reverb, gain")
    assert methods[3].endswith("without augmentation")


def test_the_conditions_differ_for_the_network_and_for_its_start(
    small_checkpoint: Path, tmp_path: Path, speech_like: Callable[[int, int], Waveform]
) -> None:
    start = read_checkpoint(small_checkpoint)
    network = start_network(start, LABELS, seed=1)
    speech = _Speech([speech_like(16_000, 0)], tmp_path / "cache")
    copies = conditions(Noise()).values()
    (item,) = speech.items

    rows = [
        [network_logits(network, item, speech.cache, copy) for copy in copies],
        [start_logits(start, speech.items, speech.cache, copy=copy)[0] for copy in copies],
        [mean_states(start, network, speech.items, speech.cache, copy=copy)[0] for copy in copies],
    ]

    for logits, copy, means in zip(rows[0], copies, rows[2], strict=True):
        (waveform,) = item.waveforms(speech.cache)
        expected = network(torch.from_numpy(geometry_of(network).network_input(copy(waveform, "clip 0 0")))[None])
        np.testing.assert_array_equal(logits, expected.detach().numpy())
        np.testing.assert_allclose(head_logits(network, means), logits, rtol=0, atol=1e-5)
    assert all(len({row.tobytes() for row in each}) == 3 for each in rows)


def test_the_command_prints_the_figures_and_the_limits(
    manifest: Path, small_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, cache = tmp_path / "out", tmp_path.parent / "training-cache"

    train_checkpoint(manifest, small_checkpoint, out, "", cache, unfreeze=0, seed=1)

    printed = " ".join(capsys.readouterr().out.split())
    assert "clean 8" in printed
    assert "Each of the 3 speakers was tested by a network that was trained without that speaker." in printed
    assert re.search(r"expected calibration error: clean from [\d.]+ to [\d.]+; telephone from", printed)
    assert f"Checkpoint and training.html: {out}/" in printed


def test_a_checkpoint_identifies_its_encoder(small_checkpoint: Path) -> None:
    start: Checkpoint = read_checkpoint(small_checkpoint)
    network = start_network(start, LABELS, seed=1)

    for name, tensor in start.network.base_model.state_dict().items():
        torch.testing.assert_close(network.base_model.state_dict()[name], tensor, rtol=0, atol=0)
