"""Renames and merges the labels of a model, and restricts its decision to some of them.

Labels are merged and left out at the logits, so that the parity gate compares what the package returns. The softmax of
the logits that remain gives the probabilities, scaled to sum to 1. The logarithm of the sum of exponentials gives the
sum of probabilities.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.emotions import standard_name
from core.errors import LabelsInvalid
from core.model.output import Logits
from core.results import Model, Output


@dataclass(frozen=True)
class LabelChoice:
    """The labels under which the scores of a network are returned.

    Attributes
    ----------
    network_labels
        The network's labels in the order of the logits.
    returned_as
        The label under which each score is returned; None for a label that is left out. The score of several labels
        that are returned as one is the sum of their probabilities. For a sigmoid, it is the highest of them, because
        an utterance can have several labels.
    """

    network_labels: tuple[str, ...]
    returned_as: tuple[str | None, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that are returned, in the order of their first logit."""
        return tuple(dict.fromkeys(label for label in self.returned_as if label is not None))

    @property
    def merged(self) -> dict[str, tuple[str, ...]]:
        """Returned label -> the network's labels, if they are several."""
        sources = {label: self.sources(label) for label in self.labels}
        return {label: names for label, names in sources.items() if len(names) > 1}

    @property
    def excluded(self) -> tuple[str, ...]:
        """The network's labels that are left out."""
        return self.sources(None)

    @property
    def is_renaming(self) -> bool:
        """Whether each label of the network is returned on its own."""
        return not self.merged and not self.excluded

    def logits(self, logits: Logits, output: Output) -> Logits:
        """Return a logit for each returned label.

        Parameters
        ----------
        logits
            The network's, shape ``(network_labels,)``.
        output
            The function from the logits to the scores.
        """
        join = np.max if output is Output.SIGMOID else np.logaddexp.reduce
        parts = ([row for row, name in enumerate(self.returned_as) if name == label] for label in self.labels)
        return np.asarray([join(logits[part].astype(np.float64)) for part in parts], np.float32)

    def sources(self, returned: str | None) -> tuple[str, ...]:
        """Return the network's labels that are returned as a label, or that are left out."""
        pairs = zip(self.network_labels, self.returned_as, strict=True)
        return tuple(label for label, name in pairs if name == returned)


def choose_labels(
    network_labels: Sequence[str], output: Output, renamed: Mapping[str, str], only: Sequence[str] = ()
) -> LabelChoice:
    """Return the choice that the options `--labels` and `--only` describe.

    Parameters
    ----------
    network_labels
        The network's labels in the order of the logits.
    renamed
        Label of the network -> its new name. Labels with one name are merged.
    only
        The labels that remain, under their new names; empty for all.

    Raises
    ------
    LabelsInvalid
        If a label does not exist, if fewer than two labels of a softmax remain, or if dimensions would be merged or
        left out.
    """
    new_names: dict[str, str] = {}
    for name, new in renamed.items():
        old = _find(name, network_labels, "--labels")
        if new_names.setdefault(old, new) != new:
            raise LabelsInvalid(f"--labels has two new names for {old}.")
    names = [new_names.get(label, label) for label in network_labels]
    kept = {_find(name, names, "--only") for name in only} or set(names)
    choice = LabelChoice(tuple(network_labels), tuple(name if name in kept else None for name in names))
    if output is Output.LINEAR and not choice.is_renaming:
        raise LabelsInvalid("The model returns dimensions, which --labels cannot merge and --only cannot leave out.")
    if output is Output.SOFTMAX and len(choice.labels) == 1:
        raise LabelsInvalid(f"Only the label {choice.labels[0]} would remain, and its score would always be 1.")
    return choice


def relabelled(model: Model, choice: LabelChoice) -> Model:
    """Return the identity of a model after a choice, which may already have merged or excluded labels.

    The fingerprint differs from the model's, because the scores do.
    """
    merged = model.merged or {}

    def of_the_network(labels: Sequence[str]) -> tuple[str, ...]:
        return tuple(source for label in labels for source in merged.get(label, (label,)))

    own = {label: of_the_network(choice.sources(label)) for label in choice.labels}
    decisive = json.dumps([model.fingerprint, choice.network_labels, choice.returned_as])
    return model.model_copy(
        update={
            "fingerprint": "sha256:" + hashlib.sha256(decisive.encode()).hexdigest(),
            "dimensions" if model.output is Output.LINEAR else "labels": choice.labels,
            "merged": {label: names for label, names in own.items() if len(names) > 1} or None,
            "excluded": (*(model.excluded or ()), *of_the_network(choice.excluded)) or None,
        }
    )


def parse_renamed(text: str) -> dict[str, str]:
    """Parse the option `--labels`: comma-separated pairs OLD=NEW.

    Raises
    ------
    LabelsInvalid
        If a part is not a pair, or a label has two new names.
    """
    renamed: dict[str, str] = {}
    for part in parse_only(text):
        old, _, new = (piece.strip() for piece in part.partition("="))
        if not (old and new) or "=" in new:
            raise LabelsInvalid(f"--labels has {part!r} instead of a pair such as excited=happy.")
        if renamed.setdefault(old, new) != new:
            raise LabelsInvalid(f"--labels has two new names for {old}.")
    return renamed


def parse_only(text: str) -> tuple[str, ...]:
    """Parse the option `--only`: comma-separated labels."""
    return tuple(filter(None, (part.strip() for part in text.split(","))))


def _find(name: str, labels: Sequence[str], option: str) -> str:
    """Return the label with this name, or with this project's name for it."""
    found = next((label for label in (name, standard_name(name)) if label in labels), None)
    if found is None:
        raise LabelsInvalid(f"{option} has {name}, but the model's labels are {', '.join(dict.fromkeys(labels))}.")
    return found
