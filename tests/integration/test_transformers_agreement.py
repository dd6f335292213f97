"""A checkpoint's scores are those of transformers, for each encoder, norm, input and head.

The checkpoints are saved by transformers, at reduced size and with random tensors that all have an effect. The expected
scores come from transformers' own class, or from its encoder and the published steps of a head that it does not have.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import linear
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    Trainer,
    TrainingArguments,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2Model,
    Wav2Vec2Processor,
)

from core.audio.waveform import Waveform
from core.checkpoints.architecture import (
    EHCALABRES,
    NKULULEKO,
    SOXAN,
    STOCK,
    TRANSFORMERS_ENCODERS,
    Encoder,
    Head,
    Output,
    Overrides,
    dense_layers,
)
from core.checkpoints.checkpoint import read_checkpoint
from core.checkpoints.files import record_source
from core.checkpoints.loading import load_classifier
from core.checkpoints.reference import ReferenceNetwork
from core.errors import CheckpointUnreadable
from core.export.exporter import write_package
from core.export.graph import Precision
from tests.support.networks import randomised

LABELS = ("angry", "happy", "neutral", "sad", "disgust")
SOFTMAX = partial(torch.softmax, dim=-1)
DURATIONS_S = (0.025, 0.03, 0.3, 1.7, 6.0)
TOLERANCE = 1e-4

GROUP = {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False}
LAYER = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
NORMS = {
    "group": GROUP,
    "layer": LAYER,
    # No published checkpoint combines these, but transformers does.
    "group, stable, biased": {**GROUP, "do_stable_layer_norm": True, "conv_bias": True},
    "layer, post-norm": {**LAYER, "do_stable_layer_norm": False},
}
HEADS = {"stock": STOCK, "weighted": STOCK, "soxan": SOXAN, "ehcalabres": EHCALABRES, "nkululeko": NKULULEKO}


def config_of(encoder: Encoder, **changed: Any) -> Any:
    """Return transformers' config of a network that runs in milliseconds."""
    return AutoConfig.for_model(
        encoder.value,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        conv_dim=[8, 10, 12, 14, 16, 18, 20],
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        classifier_proj_size=24,
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
        **changed,
    )


def save_stock(config: Any, folder: Path, *, do_normalize: bool = True) -> None:
    """Save a network of transformers' own class, as `Trainer.save_model` does."""
    network: Any = randomised(AutoModelForAudioClassification.from_config(config), seed=11)
    if config.use_weighted_layer_sum:
        with torch.no_grad():
            # The states before the final norm are large, and the scores would all be 0 or 1.
            network.classifier.weight.mul_(0.2)
    network.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=do_normalize, return_attention_mask=True).save_pretrained(folder)


def save_with_head(head: Head, config: Any, folder: Path, *, do_normalize: bool = True) -> None:
    """Save an encoder of transformers with a head that none of its classes has.

    nkululeko's class computes wav2vec 2.0 from the config of any base network.
    """
    if head is NKULULEKO and not hasattr(config, "add_adapter"):
        config.add_adapter = False
    encoder: Any = Wav2Vec2Model(config) if head is NKULULEKO else AutoModel.from_config(config)
    randomised(encoder, seed=11)
    prefix = "wav2vec2" if head is NKULULEKO else config.model_type
    tensors = {f"{prefix}.{name}": tensor for name, tensor in encoder.state_dict().items()}
    generator = torch.Generator().manual_seed(7)
    for layer, outputs in zip(dense_layers(head), (config.hidden_size, len(LABELS)), strict=True):
        for name, shape in zip(layer.tensors, ((outputs, config.hidden_size), (outputs,)), strict=True):
            tensors[name] = torch.randn(shape, generator=generator) / 3
    config.architectures = ["Wav2Vec2ForSequenceClassification"]  # wrong, as in published checkpoints
    config.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors")
    Wav2Vec2FeatureExtractor(do_normalize=do_normalize, return_attention_mask=True).save_pretrained(folder)


def stock_logits(folder: Path, *, tie_last_hidden_states: bool = True) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return transformers' own class, by default with the last state of a weighted sum after the final norm."""
    config = AutoConfig.from_pretrained(folder)
    config.tie_last_hidden_states = tie_last_hidden_states
    network = AutoModelForAudioClassification.from_pretrained(folder, config=config).eval()
    return lambda values: network(values).logits


def head_logits(head: Head, folder: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the mean, the dense layer, tanh and the output layer, as in the published programs."""
    config, tensors = AutoConfig.from_pretrained(folder), load_file(folder / "model.safetensors")
    prefix = "wav2vec2." if head is NKULULEKO else f"{config.model_type}."
    encoder: Any = Wav2Vec2Model(config) if head is NKULULEKO else AutoModel.from_config(config)
    encoder.load_state_dict({name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)})
    (dense, dense_bias), (out, out_bias) = ((tensors[name] for name in layer.tensors) for layer in dense_layers(head))

    def logits(values: torch.Tensor) -> torch.Tensor:
        mean = encoder(values).last_hidden_state.mean(dim=1)
        return linear(torch.tanh(linear(mean, dense, dense_bias)), out, out_bias)

    encoder.eval()
    return logits


def scores_of(folder: Path, waveforms: list[Waveform]) -> np.ndarray[Any, Any]:
    """Return this project's scores from a checkpoint or a package, shape ``(clips, labels)``."""
    classifier = load_classifier(folder, threads=1)
    return np.array([list(classifier.classify(waveform).values()) for waveform in waveforms])


def package_scores(folder: Path, waveforms: list[Waveform]) -> np.ndarray[Any, Any]:
    """Return the scores of the checkpoint's serving package in float32."""
    checkpoint, package = read_checkpoint(folder), folder / "package"
    package.mkdir()
    reference = [ReferenceNetwork(checkpoint).logits(waveform) for waveform in waveforms]
    write_package(checkpoint, package, Precision.FP32, waveforms, reference)
    return scores_of(package, waveforms)


def expected_scores(
    logits: Callable[[torch.Tensor], torch.Tensor],
    folder: Path,
    waveforms: list[Waveform],
    output: Callable[[torch.Tensor], torch.Tensor] = SOFTMAX,
) -> np.ndarray[Any, Any]:
    """Return transformers' scores, one clip at a time, as its pipeline computes them."""
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    rows = []
    with torch.inference_mode():
        for waveform in waveforms:
            values = extractor(waveform, sampling_rate=16_000, return_tensors="pt")["input_values"]
            rows.append(output(logits(values)[0]).numpy())
    return np.stack(rows)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # such small products take less time than waking a second thread
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def waveforms(speech_like: Callable[[int, int], Waveform]) -> list[Waveform]:
    return [speech_like(round(duration_s * 16_000), round(100 * duration_s)) for duration_s in DURATIONS_S]


CASES = [
    *product(TRANSFORMERS_ENCODERS, ("group", "layer"), (True, False), HEADS),
    *product(TRANSFORMERS_ENCODERS, ("group, stable, biased", "layer, post-norm"), (True,), ("stock", "weighted")),
]


@pytest.mark.parametrize(("encoder", "norm", "do_normalize", "head"), CASES)
def test_a_checkpoint_agrees_with_transformers(
    encoder: Encoder, norm: str, do_normalize: bool, head: str, waveforms: list[Waveform], tmp_path: Path
) -> None:
    config = config_of(encoder, **NORMS[norm], use_weighted_layer_sum=head == "weighted")
    if HEADS[head] is STOCK:
        save_stock(config, tmp_path, do_normalize=do_normalize)
        logits = stock_logits(tmp_path)
    else:
        save_with_head(HEADS[head], config, tmp_path, do_normalize=do_normalize)
        logits = head_logits(HEADS[head], tmp_path)

    from_checkpoint, from_package = scores_of(tmp_path, waveforms), package_scores(tmp_path, waveforms)

    expected = expected_scores(logits, tmp_path, waveforms)
    assert np.ptp(expected, axis=0).max() > 100 * TOLERANCE  # the scores depend on the clip
    np.testing.assert_allclose(from_checkpoint, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(from_package, expected, rtol=0, atol=TOLERANCE)


def test_hubert_without_a_norm_of_its_features_agrees_with_transformers(
    waveforms: list[Waveform], tmp_path: Path
) -> None:
    save_stock(config_of(Encoder.HUBERT, **GROUP, feat_proj_layer_norm=False), tmp_path)

    from_checkpoint, from_package = scores_of(tmp_path, waveforms), package_scores(tmp_path, waveforms)

    expected = expected_scores(stock_logits(tmp_path), tmp_path, waveforms)
    np.testing.assert_allclose(from_checkpoint, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(from_package, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("encoder", TRANSFORMERS_ENCODERS)
def test_a_weighted_sum_takes_the_last_state_after_the_final_norm(
    encoder: Encoder, waveforms: list[Waveform], tmp_path: Path
) -> None:
    """transformers 5.23 takes it before, unless told otherwise: docs/decisions/0029-weighted-sum.md."""
    save_stock(config_of(encoder, **LAYER, use_weighted_layer_sum=True), tmp_path)

    scores = scores_of(tmp_path, waveforms)

    after, before = (
        expected_scores(stock_logits(tmp_path, tie_last_hidden_states=tied), tmp_path, waveforms)
        for tied in (True, False)
    )
    np.testing.assert_allclose(scores, after, rtol=0, atol=TOLERANCE)
    assert np.abs(scores - before).max() > 100 * TOLERANCE


@pytest.mark.parametrize(
    ("problem_type", "output"),
    [
        ("single_label_classification", SOFTMAX),
        ("multi_label_classification", torch.sigmoid),
        ("regression", lambda logits: logits),
    ],
)
def test_the_problem_type_is_the_output(
    problem_type: str, output: Callable[[torch.Tensor], torch.Tensor], waveforms: list[Waveform], tmp_path: Path
) -> None:
    save_stock(config_of(Encoder.WAV2VEC2, **GROUP, problem_type=problem_type), tmp_path)

    from_checkpoint, from_package = scores_of(tmp_path, waveforms), package_scores(tmp_path, waveforms)

    expected = expected_scores(stock_logits(tmp_path), tmp_path, waveforms, output)
    np.testing.assert_allclose(from_checkpoint, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(from_package, expected, rtol=0, atol=TOLERANCE)


def test_nkululeko_s_regression_is_linear(tmp_path: Path) -> None:
    config = config_of(Encoder.WAV2VEC2, **LAYER, is_classifier=False)
    save_with_head(NKULULEKO, config, tmp_path)

    assert read_checkpoint(tmp_path).network.architecture.output is Output.LINEAR


def test_a_checkpoint_of_the_trainer_works_without_any_further_file(waveforms: list[Waveform], tmp_path: Path) -> None:
    network = Wav2Vec2ForSequenceClassification(config_of(Encoder.WAV2VEC2, **GROUP))
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    options = TrainingArguments(
        str(tmp_path / "run"), max_steps=2, learning_rate=1e-2, use_cpu=True, report_to=[], save_strategy="no"
    )
    clips = [{"input_values": torch.from_numpy(waveforms[2]), "labels": number} for number in range(len(LABELS))]
    trainer = Trainer(network, options, train_dataset=clips, processing_class=extractor)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))

    scores = scores_of(tmp_path / "saved", waveforms)

    expected = expected_scores(stock_logits(tmp_path / "saved"), tmp_path / "saved", waveforms)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE)


def test_a_processor_s_file_replaces_the_extractor_s(waveforms: list[Waveform], tmp_path: Path) -> None:
    """transformers 5 saves the values of an extractor with a tokenizer in processor_config.json."""
    save_stock(config_of(Encoder.WAV2VEC2, **GROUP), tmp_path, do_normalize=False)
    expected = scores_of(tmp_path, waveforms)
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "vocab.json").write_text("{}")
    processor = Wav2Vec2Processor(
        Wav2Vec2FeatureExtractor(do_normalize=False), Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"))
    )
    processor.save_pretrained(tmp_path)
    assert not (tmp_path / "preprocessor_config.json").exists()

    np.testing.assert_array_equal(scores_of(tmp_path, waveforms), expected)


@pytest.mark.parametrize("is_normalised", [True, False])
def test_a_missing_preprocessor_file_needs_a_recorded_choice(
    is_normalised: bool, waveforms: list[Waveform], tmp_path: Path
) -> None:
    save_stock(config_of(Encoder.HUBERT, **LAYER), tmp_path, do_normalize=is_normalised)
    expected = scores_of(tmp_path, waveforms)
    (tmp_path / "preprocessor_config.json").unlink()

    with pytest.raises(CheckpointUnreadable, match=r"has no preprocessor_config\.json: .* --normalise"):
        read_checkpoint(tmp_path)

    record_source(tmp_path, "someone/model", "abc", Overrides(is_normalised=is_normalised).recorded())
    np.testing.assert_array_equal(scores_of(tmp_path, waveforms), expected)


@pytest.mark.parametrize("do_normalize", [True, False])
def test_an_evident_offset_of_the_recording_changes_no_score(
    do_normalize: bool, waveforms: list[Waveform], tmp_path: Path
) -> None:
    save_stock(config_of(Encoder.WAV2VEC2, **LAYER), tmp_path, do_normalize=do_normalize)
    clip = waveforms[3] - waveforms[3].mean()

    clean, shifted = scores_of(tmp_path, [clip, clip + np.float32(0.05)])

    np.testing.assert_allclose(shifted, clean, rtol=0, atol=TOLERANCE)


def test_overrides_replace_what_the_files_say(tmp_path: Path) -> None:
    save_stock(config_of(Encoder.HUBERT, **GROUP), tmp_path)
    recorded = Overrides(labels=("a", "b", "c", "d", "e"), output=Output.SIGMOID)
    record_source(tmp_path, "someone/model", "abc", recorded.recorded())

    architecture = read_checkpoint(tmp_path, Overrides(output=Output.LINEAR)).network.architecture

    assert (architecture.labels, architecture.output) == (("a", "b", "c", "d", "e"), Output.LINEAR)
    assert architecture.is_normalised


@pytest.mark.parametrize("overrides", [{"output": "argmax"}, {"labels": "abc"}, {"normalise": True}, ["is_normalised"]])
def test_a_malformed_override_is_refused(overrides: Any, tmp_path: Path) -> None:
    save_stock(config_of(Encoder.HUBERT, **GROUP), tmp_path)
    (tmp_path / "source.json").write_text(json.dumps({"id": "a", "revision": "b", "overrides": overrides}))

    with pytest.raises(CheckpointUnreadable, match=r"source\.json is malformed: overrides"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("encoder", TRANSFORMERS_ENCODERS)
def test_keys_without_an_effect_at_inference_do_not_matter(encoder: Encoder, tmp_path: Path) -> None:
    save_stock(config_of(encoder, **LAYER), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    without_effect = {"vocab_size": None, "layerdrop": "a word", "mask_time_prob": 2, "num_feat_extract_layers": 3}
    (tmp_path / "config.json").write_text(json.dumps({**config, **without_effect}))

    assert read_checkpoint(tmp_path).labels == ("anger", "happy", "neutral", "sad", "disgust")


def test_the_shapes_decide_the_size_of_the_projector(waveforms: list[Waveform], tmp_path: Path) -> None:
    save_stock(config_of(Encoder.WAVLM, **LAYER), tmp_path)
    expected = scores_of(tmp_path, waveforms)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "classifier_proj_size": 256}))

    np.testing.assert_array_equal(scores_of(tmp_path, waveforms), expected)
