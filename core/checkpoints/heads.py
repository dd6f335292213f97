"""Finds the head of a checkpoint by the names and shapes of its tensors.

The class that config.json names is not used, because it is often wrong: transformers loads a checkpoint with another
head without an error, and then classifies with a random head. Needs neither PyTorch nor transformers.
"""

from collections.abc import Iterable, Mapping
from statistics import mode

from core.checkpoints.architecture import (
    HEADS,
    LAYER_WEIGHTS,
    STOCK,
    TRANSFORMERS_ENCODERS,
    Encoder,
    Head,
    dense_layers,
    head_tensors,
)
from core.errors import CheckpointUnreadable

Shapes = Mapping[str, tuple[int, ...]]
"""Name of a tensor -> its shape."""

_UNLABELLED = "used only in training on unlabelled speech"
_MASKED = "replaces the frames that SpecAugment masks in training"

_IGNORED: Mapping[str, str] = {
    "lm_head.": "used only in training as a speech recogniser",
    "quantizer.": _UNLABELLED,
    "project_q.": _UNLABELLED,
    "project_hid.": _UNLABELLED,
    "final_proj.": _UNLABELLED,
    "label_embs_concat": _UNLABELLED,
    f"{Encoder.EMOTION2VEC}.modality_encoders.AUDIO.decoder.": _UNLABELLED,
    **{f"{encoder}.masked_spec_embed": _MASKED for encoder in TRANSFORMERS_ENCODERS},
}
"""Prefixes of unused tensors that may be present in the file, with the reason each is safe to ignore. Any other tensor
that the network does not have is an error."""


def reason_to_ignore(tensor: str) -> str | None:
    """Return the reason why an unused tensor is safe to ignore; None if it is an error."""
    return next((reason for prefix, reason in _IGNORED.items() if tensor.startswith(prefix)), None)


def find_encoder(file: str, tensors: Iterable[str], model_type: Encoder) -> Encoder:
    """Return the encoder whose prefix the tensors have.

    nkululeko computes wav2vec 2.0 whatever the model type of the base network, whose name it keeps in config.json.

    Parameters
    ----------
    file
        The name of the weights' file, for the error message.
    tensors
        The names of all tensors.
    model_type
        The encoder that config.json names.

    Raises
    ------
    CheckpointUnreadable
        If the tensors belong to none or to several encoders, or to another one than config.json names.
    """
    found = {encoder for encoder in TRANSFORMERS_ENCODERS for name in tensors if name.startswith(f"{encoder}.")}
    if len(found) == 1 and found <= {model_type, Encoder.WAV2VEC2}:
        return found.pop()
    if not found:
        raise CheckpointUnreadable(
            f"{file} has no tensor that begins with {model_type}.: save the whole network instead of its encoder alone."
        )
    begin = " and ".join(sorted(f"{encoder}." for encoder in found))
    raise CheckpointUnreadable(
        f"{file} has tensors that begin with {begin}, but config.json has the model type {model_type.value!r}: fetch "
        "both files from the same repository."
    )


def find_head(file: str, tensors: Iterable[str]) -> Head:
    """Return the head that fits the tensors, or the most similar head, whose differences another error will list.

    Parameters
    ----------
    file
        The name of the weights' file, for the error message.
    tensors
        The names of all tensors that are not the encoder's.

    Raises
    ------
    CheckpointUnreadable
        If no head or several heads fit.
    """
    given = {name for name in tensors if name != LAYER_WEIGHTS and reason_to_ignore(name) is None}
    complete = [head for head in HEADS.values() if given >= set(head_tensors(head))]
    if len(complete) > 1:
        choices = " or ".join(_layers(head) for head in complete)
        raise CheckpointUnreadable(f"{file} has {len(complete)} heads: remove the tensors of {choices}.")
    if not given:
        raise CheckpointUnreadable(
            f"{file} has the tensors of an encoder, but none of a head: fine-tune the network to recognise emotion "
            "first."
        )
    nearest = max(HEADS.values(), key=lambda head: len(given & set(head_tensors(head))))
    if not given & set(head_tensors(nearest)):
        known = ", ".join(_layers(head) for head in HEADS.values())
        raise CheckpointUnreadable(
            f"{file} has an unknown head with {_some(sorted(given))}; the supported heads are {known}."
        )
    return complete[0] if complete else nearest


def inner_size(head: Head, shapes: Shapes) -> int | None:
    """Return the number of values between a head's two dense layers.

    Only transformers' own head may choose it; None is the size of the hidden states. The most frequent size of the
    tensors is returned, so that an error names the tensor that differs.
    """
    if head != STOCK:
        return None
    first, last = dense_layers(head)
    axes = ((f"{first.name}.weight", 0), (f"{first.name}.bias", 0), (f"{last.name}.weight", 1))
    sizes = [shapes[name][axis] for name, axis in axes if len(shapes.get(name, ())) > axis]
    return mode(sizes) if sizes else None


def check_label_count(
    file: str,
    head: Head,
    shapes: Shapes,
    labels: tuple[str, ...],
    remedy: str = "name one label for each row in config.json, or with --labels",
) -> None:
    """Check that the last layer has a row for each label.

    Parameters
    ----------
    file
        The name of the weights' file, for the error message.
    remedy
        What the user can do, for the error message.

    Raises
    ------
    CheckpointUnreadable
        If there are more or fewer rows, so that labels would be assigned to wrong logits.
    """
    rows = {shapes[name][:1] for name in dense_layers(head)[-1].tensors if name in shapes}
    if len(rows) == 1 and (count := rows.pop()) != (len(labels),):
        raise CheckpointUnreadable(
            f"{file} has {dense_layers(head)[-1].tensors[0]} with {count[0]} rows for {len(labels)} labels "
            f"({', '.join(labels)}): {remedy}."
        )


def _layers(head: Head) -> str:
    return " with ".join(layer.name for layer in dense_layers(head))


def _some(names: list[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
