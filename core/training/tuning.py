"""Trains layers of the encoder together with the head, by transformers' Trainer.

The clips of a batch get the same length, because padding would change a network that classifies the clip alone: a group
norm has no mask. The Trainer saves its state after each epoch, from which a killed run continues.
"""

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint

from core.checkpoints.architecture import InputMode
from core.checkpoints.geometry import geometry_of
from core.checkpoints.network import SpeechNetwork
from core.errors import TrainingRefused
from core.evaluation.figures import count, unweighted_accuracy
from core.formatting import counted
from core.training.augmentation import CLEAN, Augmentation, Copy
from core.training.batches import ChangedUtterances, Collator, Copies, LabelledClips
from core.training.cache import ArrayCache, hash_of
from core.training.head import class_weights
from core.training.masking import masked_spans
from core.training.speech import Track, untracked
from core.training.temperature import fold_temperature

ALL_LAYERS = -1
"""All layers of the encoder, and the feature encoder."""

_VERSION = 6
"""Raised when the same options give another network, so that the cache is not used."""
_BATCH = 16
_PATIENCE_SHARE = 0.6
"""Share of the epochs without a better network after which a training ends. It is more than half, because accuracy
rises when the learning rate falls: docs/decisions/0042-training.md."""
_WARM_UP_SHARE = 0.1
_WEIGHT_DECAY = 0.01
_LORA_LAYERS = ["intermediate_dense", "output_dense"]
"""The feed-forward layers, which all encoders compute as modules. WavLM's attention reads its weights directly."""
_SCORE = "unweighted_accuracy"
_NETWORK_FILE = "network.safetensors"
_SMALL = 10_000_000
"""Networks with fewer parameters are trained as a whole by default: docs/decisions/0042-training.md."""
_LEARNING_RATE = 3e-5
_LEARNING_RATE_OF_SMALL = 3e-4
_HEAD_TEMPERATURE = 4.0
"""Divides the logits of the trained head first, because a steep head makes training unstable: docs/decisions/0042."""
_LEARNING_RATE_OF_LORA = 5e-4


@dataclass(frozen=True)
class Tuning:
    """The parts of a network that are trained besides the head.

    Attributes
    ----------
    layers
        The number of upper layers, or `ALL_LAYERS`; 0 with LoRA.
    lora_rank
        The rank of the matrices that are added to the feed-forward layers, and merged at the end; 0 for none.
    epochs
        The maximum number of passes over the clips.
    learning_rate
        The highest learning rate.
    """

    layers: int
    lora_rank: int
    epochs: int
    learning_rate: float

    def __str__(self) -> str:
        """Return what is trained, in words."""
        if self.lora_rank:
            return f"the head, and LoRA of rank {self.lora_rank} in the feed-forward layers"
        if self.layers == ALL_LAYERS:
            return "the head and the whole encoder"
        return f"the head and the upper {counted(self.layers, 'layer')}"


@dataclass(frozen=True)
class Tuner:
    """Trains networks with the same options.

    Attributes
    ----------
    cache
        The waveforms of the clips, and the state of the training.
    start
        The hash of the start's weights.
    augmentation
        Changes each clip in each epoch, in another way.
    conditions
        The copies of the validation set. The mean of their unweighted accuracies chooses the epoch.
    """

    tuning: Tuning
    cache: ArrayCache
    start: str
    seed: int
    augmentation: Augmentation = field(default_factory=Augmentation)
    conditions: Sequence[Copy] = (CLEAN,)

    def tune(
        self,
        network: SpeechNetwork,
        training: LabelledClips,
        validation: LabelledClips | None,
        track: Track = untracked,
    ) -> None:
        """Train a network in place; its head is trained already.

        Parameters
        ----------
        validation
            The clips whose unweighted accuracy chooses the epoch; without them, it is the last one.
        """
        clips = (training.identity(), validation.identity() if validation else [])
        copies = (self.augmentation.identity, [copy.identity for copy in self.conditions] if validation else ())
        labels = network.architecture.labels
        key = hash_of("tuning", _VERSION, asdict(self.tuning), self.start, self.seed, clips, labels, copies)
        folder = self.cache.folder(key)
        finished = folder / "finished"
        if finished.exists():
            _load(network, folder)
            return
        fold_temperature(network, _HEAD_TEMPERATURE)
        _choose_parameters(network, self.tuning)
        trainer = self._trainer(network, training, validation, folder / "trainer", track)
        with masked_spans(network):
            trainer.train(resume_from_checkpoint=_last_state(folder / "trainer"))
        # Otherwise, the network would keep computing in bfloat16.
        trainer.accelerator.unwrap_model(network, keep_fp32_wrapper=False)
        _merge_lora(network)
        network.to("cpu").eval()
        _save(network, folder)
        finished.touch()
        shutil.rmtree(folder / "trainer", ignore_errors=True)

    def _trainer(
        self,
        network: SpeechNetwork,
        training: LabelledClips,
        validation: LabelledClips | None,
        folder: Path,
        track: Track,
    ) -> Trainer:
        epochs = self.tuning.epochs
        steps = epochs * math.ceil(sum(len(item.durations_s) for item in training.speech) / _BATCH)
        has_gpu = torch.cuda.is_available()
        arguments = TrainingArguments(
            output_dir=str(folder),
            use_cpu=not has_gpu,
            bf16=torch.cuda.is_bf16_supported() if has_gpu else torch.cpu._is_avx512_bf16_supported(),
            per_device_train_batch_size=_BATCH,
            per_device_eval_batch_size=_BATCH if network.architecture.input_mode is InputMode.PADDED_WINDOW else 1,
            num_train_epochs=epochs,
            learning_rate=self.tuning.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=round(_WARM_UP_SHARE * steps),
            weight_decay=_WEIGHT_DECAY,
            seed=self.seed,
            eval_strategy="epoch" if validation else "no",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=validation is not None,
            metric_for_best_model=_SCORE if validation else None,
            label_names=["labels"],
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        labels = len(network.architecture.labels)
        stopping = [EarlyStoppingCallback(math.ceil(_PATIENCE_SHARE * epochs))] if validation else []
        trainer = _Trainer(
            network,
            arguments,
            class_weights=class_weights(training.targets, labels),
            train_dataset=ChangedUtterances(training, self.cache, self.augmentation),
            eval_dataset=Copies(validation, self.cache, self.conditions) if validation else None,
            data_collator=Collator(geometry_of(network)),
            compute_metrics=lambda evaluated: {_SCORE: _score(evaluated.predictions, evaluated.label_ids, labels)},
            callbacks=[*stopping, _ShowProgress(track, steps)],
        )
        trainer.remove_callback(PrinterCallback)
        return trainer


def choose_tuning(network: SpeechNetwork, layers: int | None, lora_rank: int, epochs: int) -> Tuning | None:
    """Return what to train besides the head.

    Parameters
    ----------
    layers
        The number of upper layers; None for the default: the whole network if it is small, otherwise none.
    lora_rank, epochs
        As in `Tuning`.

    Raises
    ------
    TrainingRefused
        If the encoder has fewer layers, or both layers and LoRA are requested.
    """
    is_small = sum(tensor.numel() for tensor in network.parameters()) < _SMALL
    if lora_rank:
        if layers:
            raise TrainingRefused("--unfreeze and --lora cannot be combined.")
        return Tuning(0, lora_rank, epochs, _LEARNING_RATE_OF_LORA)
    if layers is None:
        layers = ALL_LAYERS if is_small else 0
    if layers > (available := network.config.num_hidden_layers):
        raise TrainingRefused(f"--unfreeze {layers} is too much: the encoder has {counted(available, 'layer')}.")
    return Tuning(layers, 0, epochs, _LEARNING_RATE_OF_SMALL if is_small else _LEARNING_RATE) if layers else None


class _Trainer(Trainer):  # type: ignore[misc]
    """transformers' Trainer with class weights."""

    def __init__(self, *arguments: Any, class_weights: torch.Tensor, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._class_weights = class_weights

    def compute_loss(
        self, model: nn.Module, inputs: Mapping[str, torch.Tensor], return_outputs: bool = False, **_: Any
    ) -> Any:
        logits = model(inputs["input_values"]).float()
        losses = nn.functional.cross_entropy(logits, inputs["labels"], reduction="none")
        # Not cross_entropy's own weights, which it divides by their sum: a batch of one label would ignore them.
        loss = (losses * self._class_weights.to(losses.device)[inputs["labels"]]).mean()
        return (loss, {"loss": loss, "logits": logits}) if return_outputs else loss


class _ShowProgress(TrainerCallback):  # type: ignore[misc]
    def __init__(self, track: Track, steps: int) -> None:
        self._steps: Iterator[int] = iter(track(range(steps), "Training layers", steps))

    def on_step_end(self, _arguments: Any, _state: Any, _control: Any, **_: Any) -> None:
        next(self._steps, None)


def _score(logits: Any, targets: Any, labels: int) -> float:
    predicted = np.asarray(logits).argmax(axis=1).astype(np.int64)
    counts = count(np.asarray(targets, np.int64), predicted, np.zeros(predicted.size, np.int64), labels)
    return float(unweighted_accuracy(counts[0]))


def _choose_parameters(network: SpeechNetwork, tuning: Tuning) -> None:
    """Freeze the encoder but for the layers to train, and add the matrices of LoRA."""
    encoder = network.base_model
    encoder.requires_grad_(tuning.layers == ALL_LAYERS)
    for layer in encoder.encoder.layers[len(encoder.encoder.layers) - max(0, tuning.layers) :]:
        layer.requires_grad_(True)
    if tuning.lora_rank:
        torch.manual_seed(0)
        adapter = LoraConfig(r=tuning.lora_rank, lora_alpha=2 * tuning.lora_rank, target_modules=_LORA_LAYERS)
        inject_adapter_in_model(adapter, network)
        for name in ("projector", "classifier"):
            network.get_submodule(name).requires_grad_(True)
        network.layer_weights.requires_grad_(True)


def _merge_lora(network: SpeechNetwork) -> None:
    """Add the matrices of LoRA to the weights that they belong to."""
    for name, module in list(network.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            network.set_submodule(name, module.get_base_layer())


def _last_state(folder: Path) -> str | None:
    """Return the newest state of an interrupted training."""
    newest: str | None = get_last_checkpoint(str(folder)) if folder.exists() else None
    return newest


def _save(network: SpeechNetwork, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / _NETWORK_FILE)


def _load(network: SpeechNetwork, folder: Path) -> None:
    network.load_state_dict(load_file(folder / _NETWORK_FILE))
