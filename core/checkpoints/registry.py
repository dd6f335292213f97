"""The known published checkpoints.

A checkpoint needs no entry to be read, because its files describe its network. An entry has a name, what
`audio-emotion model list` prints, and what the repository's files leave open or get wrong.

Needs neither PyTorch nor transformers, because the command line lists the names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from core.checkpoints.architecture import InputMode, Overrides


@dataclass(frozen=True, kw_only=True)
class PublishedCheckpoint:
    """A checkpoint that `audio-emotion model pull` can fetch by name.

    Attributes
    ----------
    repo_id
        The repository on the Hugging Face Hub.
    revision
        The commit that `model pull` fetches unless another is requested; None for the main branch.
    licence
        The licence of the weights; None if the repository states none.
    languages
        The languages of the speech that it was trained on.
    speech
        That speech.
    labels
        The labels, or the dimensions, in the order of the logits and under this project's names.
    size_mb
        The size of the weights in float32.
    accuracy
        The published accuracy, and how the test speech was chosen; None if it is not known.
    overrides
        What the repository's files leave open or get wrong.
    """

    repo_id: str
    revision: str | None = None
    licence: str | None
    languages: tuple[str, ...]
    speech: str
    labels: tuple[str, ...]
    size_mb: int
    accuracy: str | None = None
    overrides: Overrides = field(default_factory=Overrides)

    @property
    def has_dimensions(self) -> bool:
        """Whether the labels are dimensions such as arousal."""
        return self.overrides.dimensions_range is not None


_SIX = ("anger", "fear", "happy", "neutral", "sad", "surprise")
_IEMOCAP = "IEMOCAP: acted and improvised dialogues, 10 speakers"
_IEMOCAP_LABELS = ("neutral", "happy", "anger", "sad")
_FUNASR_LICENCE = "FunASR Model License 1.0 (name the source and the authors)"
_NINE = ("anger", "disgust", "fear", "happy", "neutral", "other", "sad", "surprise", "unknown")
_ORUK_SPLIT = "on 64,384 clips of other corpora, some of which are in its training data"
_IEMOCAP_SPLIT = "on session 1 of IEMOCAP, whose speakers were not in training"

CHECKPOINTS: Mapping[str, PublishedCheckpoint] = {
    "hubert-base-ch": PublishedCheckpoint(
        repo_id="xmj2002/hubert-base-ch-speech-emotion-recognition",
        licence="Apache-2.0",
        languages=("Mandarin",),
        speech="CASIA: acted, 4 speakers, 300 sentences",
        labels=_SIX,
        size_mb=380,
        accuracy="97.2 % on a random split of CASIA, which shares speakers and sentences",
        # Both from its model card and its training program.
        overrides=Overrides(input_mode=InputMode.PADDED_WINDOW, labels=_SIX),
    ),
    "wav2vec2-xlsr-en": PublishedCheckpoint(
        repo_id="ehcalabres/wav2vec2-lg-xlsr-en-speech-emotion-recognition",
        licence="Apache-2.0",
        languages=("English",),
        speech="RAVDESS: acted, 24 speakers, 2 sentences",
        labels=("anger", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
        size_mb=1266,
        accuracy="82.2 % on RAVDESS, split not stated",
    ),
    "hubert-large-superb-er": PublishedCheckpoint(
        repo_id="superb/hubert-large-superb-er",
        licence="Apache-2.0",
        languages=("English",),
        speech=_IEMOCAP,
        labels=_IEMOCAP_LABELS,
        size_mb=1263,
        accuracy=f"67.6 % {_IEMOCAP_SPLIT}",
    ),
    "hubert-base-superb-er": PublishedCheckpoint(
        repo_id="superb/hubert-base-superb-er",
        licence="Apache-2.0",
        languages=("English",),
        speech=_IEMOCAP,
        labels=_IEMOCAP_LABELS,
        size_mb=378,
    ),
    "wav2vec2-large-superb-er": PublishedCheckpoint(
        repo_id="superb/wav2vec2-large-superb-er",
        revision="306186e4b83667e06d6817940b2c1c823b8e1487",
        licence="Apache-2.0",
        languages=("English",),
        speech=_IEMOCAP,
        labels=_IEMOCAP_LABELS,
        size_mb=1263,
        accuracy=f"65.6 % {_IEMOCAP_SPLIT}",
    ),
    "wav2vec2-base-superb-er": PublishedCheckpoint(
        repo_id="superb/wav2vec2-base-superb-er",
        revision="441a7599c3b22107314dcbd9166621c5c83f2cc5",
        licence="Apache-2.0",
        languages=("English",),
        speech=_IEMOCAP,
        labels=_IEMOCAP_LABELS,
        size_mb=378,
        accuracy=f"63.4 % {_IEMOCAP_SPLIT}",
    ),
    "wav2vec2-msp-dim": PublishedCheckpoint(
        repo_id="audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim",
        licence="CC-BY-NC-SA-4.0",
        languages=("English",),
        speech="MSP-Podcast 1.7: podcasts, not acted",
        labels=("arousal", "dominance", "valence"),
        size_mb=661,
        accuracy="concordance 0.64 for valence on MSP-Podcast's test set, whose speakers were not in training",
        overrides=Overrides(dimensions_range=(0.0, 1.0)),
    ),
    "hubert-dusha-ru": PublishedCheckpoint(
        repo_id="xbgoose/hubert-large-speech-emotion-recognition-russian-dusha-finetuned",
        licence="Apache-2.0",
        languages=("Russian",),
        speech="Dusha: half of its training set",
        labels=("neutral", "anger", "positive", "sad", "other"),
        size_mb=1263,
        accuracy="86 % (balanced 76 %) on Dusha's test set",
        # The model card names the labels, and takes the extractor of facebook/hubert-large-ls960-ft.
        overrides=Overrides(labels=("neutral", "anger", "positive", "sad", "other"), is_normalised=True),
    ),
    "wav2vec2-resd-ru": PublishedCheckpoint(
        repo_id="Aniemore/wav2vec2-emotion-russian-resd",
        licence=None,
        languages=("Russian",),
        speech="RESD: acted dialogues",
        labels=("anger", "disgust", "enthusiasm", "fear", "happy", "neutral", "sad"),
        size_mb=1266,
        accuracy="75 % on RESD, split not stated",
    ),
    "wav2vec2-shemo-fa": PublishedCheckpoint(
        repo_id="m3hrdadfi/wav2vec2-xlsr-persian-speech-emotion-recognition",
        revision="a71bf01ccb1cfc182c37550938d78c958f18a5eb",
        licence="Apache-2.0",
        languages=("Persian",),
        speech="ShEMO: radio plays",
        labels=("anger", "fear", "happy", "neutral", "sad", "surprise"),
        size_mb=1266,
    ),
    "wav2vec2-aesdd-el": PublishedCheckpoint(
        repo_id="harshit345/xlsr-wav2vec-speech-emotion-recognition",
        licence="Apache-2.0",
        languages=("Greek",),
        speech="AESDD: acted. The repository is tagged as English, but AESDD is Greek",
        labels=("anger", "disgust", "fear", "happy", "sad"),
        size_mb=1266,
    ),
    "wav2vec2-base-en": PublishedCheckpoint(
        repo_id="DunnBC22/wav2vec2-base-Speech_Emotion_Recognition",
        revision="d91ed56a7288a7b1db5922273ee42cc2bb065a3f",
        licence="Apache-2.0",
        languages=("English",),
        speech="CREMA-D, RAVDESS, SAVEE and TESS: acted",
        labels=("sad", "anger", "disgust", "fear", "happy", "neutral"),
        size_mb=378,
        accuracy="75.4 % on the same corpora, split not stated",
    ),
    "emotion2vec-plus-seed": PublishedCheckpoint(
        repo_id="emotion2vec/emotion2vec_plus_seed",
        licence=_FUNASR_LICENCE,
        languages=("Mandarin", "English", "others"),
        speech="EmoBox: 201 hours of academic corpora",
        labels=_NINE,
        size_mb=373,
        accuracy=f"68.7 % {_ORUK_SPLIT}",
    ),
    "emotion2vec-plus-base": PublishedCheckpoint(
        repo_id="emotion2vec/emotion2vec_plus_base",
        licence=_FUNASR_LICENCE,
        languages=("Mandarin", "English", "others"),
        speech="4,788 hours with filtered pseudo-labels",
        labels=_NINE,
        size_mb=373,
        accuracy=f"68.5 % {_ORUK_SPLIT}",
    ),
    "emotion2vec-plus-large": PublishedCheckpoint(
        repo_id="emotion2vec/emotion2vec_plus_large",
        revision="6c303ba987b86b93193de93e34bb2b077a6bedc4",
        licence=_FUNASR_LICENCE,
        languages=("Mandarin", "English", "others"),
        speech="42,526 hours with filtered pseudo-labels",
        labels=_NINE,
        size_mb=648,
        accuracy=f"68.6 % {_ORUK_SPLIT}",
    ),
}

DEFAULT_CHECKPOINT = "hubert-base-ch"


def known_checkpoint(name: object) -> PublishedCheckpoint | None:
    """Return the entry with this name or this repository; None if there is none."""
    return next((entry for key, entry in CHECKPOINTS.items() if name in (key, entry.repo_id)), None)


def overrides_for(repo_id: object, config: Mapping[str, Any]) -> Overrides:
    """Return what a checkpoint's files leave open or get wrong.

    Parameters
    ----------
    repo_id
        The repository, or None for a folder without a record of its source.
    config
        The content of config.json. The key `num_class` is written only by the training program of hubert-base-ch, whose
        networks classify a padded window in every repository.
    """
    if entry := known_checkpoint(repo_id):
        return entry.overrides
    if config.get("model_type") == "hubert" and "num_class" in config:
        overrides = CHECKPOINTS["hubert-base-ch"].overrides
        return replace(overrides, labels=None) if config.get("id2label") else overrides
    return Overrides()
