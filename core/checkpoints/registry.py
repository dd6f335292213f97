"""The known published checkpoints.

A checkpoint needs no entry to be read, because its files describe its network. An entry has a name, what
`audio-emotion model list` prints, and what the repository's files leave open or get wrong.

Needs neither PyTorch nor transformers, because the command line lists the names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from core.checkpoints.architecture import InputMode, Overrides


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A checkpoint that `audio-emotion model pull` can fetch by name.

    Attributes
    ----------
    repo_id
        The repository on the Hugging Face Hub.
    licence
        The licence of the weights.
    speech
        The speech that it was trained on.
    labels
        The labels in the order of the logits, under this project's names.
    overrides
        What the repository's files leave open or get wrong.
    """

    repo_id: str
    licence: str
    speech: str
    labels: tuple[str, ...]
    overrides: Overrides = field(default_factory=Overrides)


_SIX = ("anger", "fear", "happy", "neutral", "sad", "surprise")

CHECKPOINTS: Mapping[str, PublishedCheckpoint] = {
    "hubert-base-ch": PublishedCheckpoint(
        repo_id="xmj2002/hubert-base-ch-speech-emotion-recognition",
        licence="Apache-2.0",
        speech="acted Mandarin (CASIA)",
        labels=_SIX,
        # Both from its model card and its training program.
        overrides=Overrides(input_mode=InputMode.PADDED_WINDOW, labels=_SIX),
    ),
    "wav2vec2-xlsr-en": PublishedCheckpoint(
        repo_id="ehcalabres/wav2vec2-lg-xlsr-en-speech-emotion-recognition",
        licence="Apache-2.0",
        speech="acted English (RAVDESS)",
        labels=("anger", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
    ),
}

DEFAULT_CHECKPOINT = "hubert-base-ch"


def overrides_for(repo_id: object, config: Mapping[str, Any]) -> Overrides:
    """Return what a checkpoint's files leave open or get wrong.

    Parameters
    ----------
    repo_id
        The repository, or None for a folder without a record of its source.
    config
        The content of config.json. The key `num_class` is written only by the training program of hubert-base-ch, whose
        networks classify a padded window, whoever trained them and wherever they are stored.
    """
    for entry in CHECKPOINTS.values():
        if entry.repo_id == repo_id:
            return entry.overrides
    if config.get("model_type") == "hubert" and "num_class" in config:
        overrides = CHECKPOINTS["hubert-base-ch"].overrides
        return replace(overrides, labels=None) if config.get("id2label") else overrides
    return Overrides()
