"""`audio-emotion train` with layers of the encoder or LoRA, by transformers' Trainer, with small random networks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.checkpoints.architecture import InputMode
from core.checkpoints.checkpoint import read_checkpoint
from core.checkpoints.geometry import geometry_of
from core.checkpoints.network import SpeechNetwork
from core.errors import TrainingRefused
from core.training import batches, tuning
from core.training.augmentation import CLEAN, KINDS, Augmentation, Clean, Copy, Telephone
from core.training.batches import LabelledClips
from core.training.cache import ArrayCache
from core.training.head import Examples, fit_head
from core.training.manifest import Clip
from core.training.network import start_network
from core.training.speech import LabelledSpeech
from core.training.states import mean_states, network_logits
from core.training.tuning import ALL_LAYERS, Tuner, Tuning, choose_tuning
from tests.conftest import ROOT
from tests.support.networks import SMALL_NETWORKS, write_checkpoint

LABELS = ("calm", "excited")
CLIPS = 24


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[ArrayCache, LabelledClips]:
    """Short tones of two pitches in noise, in a cache, as if they had been read from files."""
    cache, random = ArrayCache(tmp_path_factory.mktemp("clips")), np.random.default_rng(0)
    speech = []
    for number in range(CLIPS):
        samples = random.integers(3_000, 5_000)
        tone = np.sin(2 * np.pi * (180 + 90 * (number % 2)) * np.arange(samples) / 16_000)
        waveform = (0.1 * tone + 0.05 * random.standard_normal(samples)).astype(np.float32)
        cache.write(f"clip {number}", [np.array([samples / 16_000], np.float32), waveform])
        speech.append(LabelledSpeech(Clip(Path(), LABELS[number % 2]), f"clip {number}", (samples / 16_000,)))
    return cache, LabelledClips(speech, np.arange(CLIPS) % 2)


def part(clips: LabelledClips, start: int, end: int) -> LabelledClips:
    return LabelledClips(clips.speech[start:end], clips.targets[start:end])


def with_head(start: Path, clips: LabelledClips, cache: ArrayCache) -> SpeechNetwork:
    checkpoint = read_checkpoint(start)
    network = start_network(checkpoint, LABELS, seed=1)
    means = mean_states(checkpoint, network, clips.speech, cache)
    fit_head(network, Examples.of(means, clips.targets, np.arange(len(clips.speech))), None, steps=5)
    return network


def checkpoint_of_clips(folder: Path) -> Path:
    """Write a checkpoint that classifies clips without padding."""
    kind = next(kind for kind in SMALL_NETWORKS if kind.architecture.input_mode is InputMode.CLIP)
    return write_checkpoint(kind.build(), kind.config, folder)


def changed(before: dict[str, torch.Tensor], after: SpeechNetwork) -> set[str]:
    """Return the parts of the network whose tensors differ: `head`, `features`, `layer 0` and so on, or `other`."""
    parts = set()
    for name, tensor in after.state_dict().items():
        if torch.equal(before[name], tensor):
            continue
        if ".encoder.layers." in name:
            parts.add(f"layer {name.split('.encoder.layers.')[1].split('.')[0]}")
        elif ".feature_extractor." in name:
            parts.add("features")
        else:
            parts.add("head" if name.startswith(("projector", "classifier", "layer_weights")) else "other")
    return parts


@pytest.mark.parametrize(
    ("tuning", "expected"),
    [
        (Tuning(1, 0, 1, 1e-3), {"head", "layer 1"}),
        (Tuning(2, 0, 1, 1e-3), {"head", "layer 0", "layer 1"}),
        (Tuning(ALL_LAYERS, 0, 1, 1e-3), {"head", "features", "layer 0", "layer 1", "other"}),
        (Tuning(0, 4, 1, 1e-2), {"head", "layer 0", "layer 1"}),
    ],
    ids=lambda value: str(value) if isinstance(value, Tuning) else "",
)
def test_only_the_chosen_layers_change(
    tuning: Tuning, expected: set[str], small_checkpoint: Path, clips: tuple[ArrayCache, LabelledClips], tmp_path: Path
) -> None:
    cache, labelled = clips
    network = with_head(small_checkpoint, labelled, cache)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    Tuner(tuning, _cache(cache, tmp_path), "start", seed=1).tune(network, labelled, None)

    assert changed(before, network) == expected
    assert before.keys() == network.state_dict().keys()
    assert not network.training


@pytest.mark.parametrize("encoder", ["hubert", "wav2vec2", "wavlm"])
def test_lora_is_merged_into_the_layers_that_it_was_trained_in(
    encoder: str, clips: tuple[ArrayCache, LabelledClips], tmp_path: Path
) -> None:
    kind = next(kind for kind in SMALL_NETWORKS if str(kind).startswith(encoder) and "stock" in str(kind))
    cache, labelled = clips
    config = {**kind.config, "use_weighted_layer_sum": kind.architecture.has_weighted_sum}
    network = with_head(write_checkpoint(kind.build(), config, tmp_path / "start"), labelled, cache)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    Tuner(Tuning(0, 2, 1, 1e-2), _cache(cache, tmp_path), "start", seed=1).tune(network, labelled, None)

    differing = {name for name, tensor in network.state_dict().items() if not torch.equal(before[name], tensor)}
    layers = {name for name in differing if ".encoder.layers." in name}
    assert layers
    assert all(name.endswith(("intermediate_dense.weight", "output_dense.weight")) for name in layers)
    for name in layers:
        assert torch.linalg.matrix_rank(network.state_dict()[name] - before[name], rtol=1e-3) <= 2


def test_the_network_learns(clips: tuple[ArrayCache, LabelledClips], tmp_path: Path) -> None:
    cache, labelled = clips
    training, validation = part(labelled, 0, 16), part(labelled, 16, CLIPS)
    # The short tones would hardly change the means of padded windows.
    network = with_head(checkpoint_of_clips(tmp_path / "start"), training, cache)
    tuner = Tuner(Tuning(ALL_LAYERS, 0, 20, 2e-3), _cache(cache, tmp_path), "start", seed=1)

    tuner.tune(network, training, validation)

    predicted = [network_logits(network, item, cache)[0].argmax() for item in validation.speech]
    assert np.mean(predicted == validation.targets) >= 0.9  # 0.75 with the head alone


def test_the_best_epoch_is_kept(
    small_checkpoint: Path, clips: tuple[ArrayCache, LabelledClips], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, labelled = clips
    network = with_head(small_checkpoint, labelled, cache)
    scores, epochs = [0.2, 0.9, 0.1], []

    def scoring(*_: Any) -> float:
        epochs.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return scores[len(epochs) - 1]

    monkeypatch.setattr(tuning, "_score", scoring)
    tuner = Tuner(Tuning(1, 0, 3, 1e-3), _cache(cache, tmp_path), "start", seed=1)
    tuner.tune(network, part(labelled, 0, 16), part(labelled, 16, CLIPS))

    assert len(epochs) == 3
    assert changed(epochs[1], network) == set()
    assert changed(epochs[2], network)


def test_a_tuning_starts_with_softer_scores_and_the_same_decisions(
    small_checkpoint: Path, clips: tuple[ArrayCache, LabelledClips], tmp_path: Path
) -> None:
    cache, labelled = clips
    network = with_head(small_checkpoint, labelled, cache)
    item = labelled.speech[0]
    before = network_logits(network, item, cache)

    Tuner(Tuning(1, 0, 1, 0.0), _cache(cache, tmp_path), "start", seed=1).tune(network, labelled, None)

    np.testing.assert_allclose(network_logits(network, item, cache) * 4, before, rtol=1e-4, atol=1e-5)


def test_the_learning_rate_of_a_whole_training_falls_to_zero(
    small_checkpoint: Path, clips: tuple[ArrayCache, LabelledClips], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, labelled = clips
    trainers: list[Any] = []
    make = Tuner._trainer

    def making(*given: Any) -> Any:
        trainers.append(make(*given))
        return trainers[-1]

    monkeypatch.setattr(Tuner, "_trainer", making)

    tuner = Tuner(Tuning(1, 0, 2, 1e-3), _cache(cache, tmp_path), "start", seed=1)
    tuner.tune(with_head(small_checkpoint, labelled, cache), labelled, None)

    (trainer,) = trainers
    assert trainer.state.epoch == 2
    assert trainer.lr_scheduler.get_last_lr() == pytest.approx([0.0, 0.0], abs=1e-9)


def test_the_same_tuning_gives_the_same_network_and_a_finished_one_is_not_repeated(
    small_checkpoint: Path,
    clips: tuple[ArrayCache, LabelledClips],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache, labelled = clips

    def tuned(folder: Path) -> dict[str, torch.Tensor]:
        network = with_head(small_checkpoint, labelled, cache)
        tuner = Tuner(Tuning(1, 0, 1, 1e-3), _cache(cache, folder), "start", seed=1)
        tuner.tune(network, labelled, None)
        return network.state_dict()

    first, second = tuned(tmp_path / "a"), tuned(tmp_path / "b")
    monkeypatch.setattr(Tuner, "_trainer", lambda *_: pytest.fail("the network was trained again"))
    third = tuned(tmp_path / "a")

    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
        assert torch.equal(tensor, third[name]), name


@pytest.mark.parametrize(
    "tuning", [Tuning(1, 0, 3, 1e-3), pytest.param(Tuning(0, 2, 3, 1e-2), marks=pytest.mark.slow)], ids=str
)
def test_a_tuning_that_was_killed_continues_with_the_same_result(
    tuning: Tuning, small_checkpoint: Path, clips: tuple[ArrayCache, LabelledClips], tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    cache, labelled = clips
    steps_per_epoch = -(-CLIPS // 16)
    seen: list[int] = []

    def killing(items: Iterable[Any], description: str, count: int) -> Iterable[Any]:
        for number, item in enumerate(items):
            if number == 2 * steps_per_epoch:
                raise Killed
            yield item

    def counting(items: Iterable[Any], description: str, count: int) -> Iterable[Any]:
        for item in items:
            seen.append(1)
            yield item

    def tuned(folder: Path, **options: Any) -> dict[str, torch.Tensor]:
        network = with_head(small_checkpoint, labelled, cache)
        tuner = Tuner(tuning, _cache(cache, folder), "start", seed=1, augmentation=Augmentation(KINDS))
        tuner.tune(network, labelled, None, **options)
        return network.state_dict()

    expected = tuned(tmp_path / "whole")
    with pytest.raises(Killed):
        tuned(tmp_path / "killed", track=killing)
    continued = tuned(tmp_path / "killed", track=counting)

    assert len(seen) == steps_per_epoch  # of the third epoch, whose copies are those of the whole training
    for name, tensor in expected.items():
        torch.testing.assert_close(continued[name], tensor, rtol=0, atol=0)


def test_each_epoch_changes_the_clips_in_another_way(clips: tuple[ArrayCache, LabelledClips]) -> None:
    cache, labelled = clips
    changed = batches.ChangedUtterances(labelled, cache, Augmentation(("noise",)))
    unchanged = batches.ChangedUtterances(labelled, cache, Augmentation())

    def copies() -> list[bytes]:
        return [changed[0][0].tobytes() for _ in range(10)]

    torch.manual_seed(1)
    first, second = copies(), copies()
    torch.manual_seed(1)
    assert copies() == first != second
    assert len(set(first)) > 3
    np.testing.assert_array_equal(unchanged[0][0], labelled.speech[0].waveforms(cache)[0])


def test_the_mean_over_the_conditions_chooses_the_epoch(
    small_checkpoint: Path, clips: tuple[ArrayCache, LabelledClips], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, labelled = clips
    scored: list[int] = []
    score = tuning._score

    def counting(logits: Any, targets: Any, labels: int) -> float:
        scored.append(len(targets))
        return score(logits, targets, labels)

    monkeypatch.setattr(tuning, "_score", counting)

    def keys(conditions: tuple[Copy, ...], augmentation: Augmentation) -> set[str]:
        tuner = Tuner(Tuning(1, 0, 1, 1e-3), _cache(cache, tmp_path), "start", 1, augmentation, conditions)
        tuner.tune(with_head(small_checkpoint, labelled, cache), part(labelled, 0, 16), part(labelled, 16, CLIPS))
        return {folder.parent.name for folder in (tmp_path / "cache").glob("*/finished")}

    keys((CLEAN,), Augmentation())
    keys((Clean(), Telephone()), Augmentation())
    found = keys((Clean(), Telephone()), Augmentation(("gain",)))

    assert scored == [8, 16, 16]
    assert len(found) == 3  # each has its own place in the cache
    copies = batches.Copies(part(labelled, 16, CLIPS), cache, (CLEAN, Telephone()))
    assert [copies[number][1] for number in range(len(copies))] == [0, 1] * 8
    (waveform,) = labelled.speech[16].waveforms(cache)
    np.testing.assert_array_equal(copies[0][0], waveform)
    np.testing.assert_array_equal(copies[8][0], Telephone()(waveform, ""))


def test_a_batch_of_windows_has_each_clip_as_in_inference(small_checkpoint: Path) -> None:
    geometry = geometry_of(start_network(read_checkpoint(small_checkpoint), LABELS, seed=1))
    ramp = np.linspace(-1, 1, 6_000, dtype=np.float32)

    batch = batches.Collator(geometry)([(ramp[:2_000], 0), (ramp, 1)])["input_values"].numpy()

    np.testing.assert_array_equal(batch, [geometry.network_input(ramp[:2_000]), geometry.network_input(ramp)])


def test_the_clips_of_a_batch_get_their_median_length(tmp_path: Path) -> None:
    geometry = geometry_of(start_network(read_checkpoint(checkpoint_of_clips(tmp_path)), LABELS, seed=1))
    ramp = np.linspace(-1, 1, 6_000, dtype=np.float32)
    rows = [(ramp[:2_000], 0), (ramp[:3_000], 1), (ramp, 0)]

    batch = batches.Collator(geometry)(rows)["input_values"].numpy()
    (alone,) = batches.Collator(geometry)([(ramp, 0)])["input_values"].numpy()

    assert batch.shape == (3, 3_000)
    np.testing.assert_array_equal(batch[1], geometry.network_input(ramp[:3_000]))
    np.testing.assert_allclose(batch[0], geometry.network_input(np.concatenate([ramp[:2_000], ramp[:1_000]])))
    assert np.all(np.diff(batch[2]) > 0)  # a part of the ramp
    np.testing.assert_array_equal(alone, geometry.network_input(ramp))  # as in inference


def test_the_default_is_the_whole_of_a_small_network_and_the_head_of_a_large_one(small_checkpoint: Path) -> None:
    small = start_network(read_checkpoint(small_checkpoint), LABELS, seed=1)
    large = start_network(read_checkpoint(small_checkpoint), LABELS, seed=1)
    large.add_module("more", torch.nn.Linear(4_000, 3_000, device="meta"))

    chosen = choose_tuning(small, None, 0, 5)

    assert chosen is not None
    assert chosen.layers == ALL_LAYERS
    assert choose_tuning(small, 0, 0, 5) is None
    assert choose_tuning(large, None, 0, 5) is None
    upper = choose_tuning(large, 2, 0, 5)
    assert upper is not None
    assert upper.layers == 2
    assert upper.learning_rate < chosen.learning_rate


def test_more_layers_than_the_encoder_has_and_two_ways_at_once_are_refused(small_checkpoint: Path) -> None:
    network = start_network(read_checkpoint(small_checkpoint), LABELS, seed=1)

    with pytest.raises(TrainingRefused, match=r"--unfreeze 3 is too much: the encoder has 2 layers"):
        choose_tuning(network, 3, 0, 5)
    with pytest.raises(TrainingRefused, match=r"cannot be combined"):
        choose_tuning(network, 1, 4, 5)


@pytest.mark.slow
@pytest.mark.timeout(900)  # it starts three processes that import PyTorch
def test_a_command_that_was_killed_continues(small_checkpoint: Path, tmp_path: Path) -> None:
    names = ("anger.wav", "happy.mp3", "neutral.flac", "sad.m4a", "fear.webm", "surprise.ogg")
    rows = [
        f"{ROOT / 'samples' / name},{LABELS[number % 2]},speaker {number // 2}" for number, name in enumerate(names)
    ]
    (tmp_path / "manifest.csv").write_text("path,emotion,speaker\n" + "\n".join(rows) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "core.cli", "train", "manifest.csv", "--from", str(small_checkpoint)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "AUDIO_EMOTION_INFERENCE_THREADS": "1"}

    def options(out: str, cache: str) -> list[str]:
        return [*command, "--out", out, "--cache", cache, "--unfreeze", "1", "--epochs", "4"]

    killed = subprocess.Popen(options("out", "cache"), cwd=tmp_path, env=environment)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("cache/*/trainer/checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    for out, cache in (("out", "cache"), ("other", "other-cache")):
        subprocess.run(options(out, cache), cwd=tmp_path, env=environment, check=True, timeout=400)

    contents = [(tmp_path / out / "model.safetensors").read_bytes() for out in ("out", "other")]
    assert contents[0] == contents[1]
    report = json.loads((tmp_path / "out" / "training.json").read_text(encoding="utf-8"))
    assert (report["folds"], report["tested_folds"], report["tested_speakers"]) == (3, 1, 1)
    assert "the upper 1 layer, trained in" in report["method"]


def _cache(clips: ArrayCache, folder: Path) -> ArrayCache:
    """Return a cache with the clips and a state of its own."""
    shutil.copytree(clips.folder("."), folder / "cache", dirs_exist_ok=True)
    return ArrayCache(folder / "cache")
