"""The colours of emotions, and the names that other corpora give them."""

from collections.abc import Mapping

COLOURS: Mapping[str, str] = {
    "neutral": "#999999",
    "happy": "#E69F00",
    "anger": "#D55E00",
    "fear": "#CC79A7",
    "surprise": "#009E73",
    "sad": "#56B4E9",
    "calm": "#0072B2",
    "disgust": "#F0E442",
}
"""Okabe and Ito's palette (2008), which people with any kind of colour blindness can tell apart. `neutral` is grey
instead of the palette's black."""

DEFAULT_COLOUR = "#999933"
"""For any other label: an olive of Tol's muted scheme, since the palette has no more colours."""

SYNONYMS: Mapping[str, str] = {
    "angry": "anger",
    "ang": "anger",
    "happiness": "happy",
    "hap": "happy",
    "joy": "happy",
    "fearful": "fear",
    "afraid": "fear",
    "fea": "fear",
    "surprised": "surprise",
    "sur": "surprise",
    "pleasant_surprise": "surprise",
    "sadness": "sad",
    "neu": "neutral",
    "disgusted": "disgust",
    "dis": "disgust",
    "cal": "calm",
}
"""A corpus's name for an emotion -> this project's name."""


def standard_name(label: str) -> str:
    """Return this project's name for an emotion; any other label as it is."""
    name = SYNONYMS.get(label.lower(), label.lower())
    return name if name in COLOURS else label


def colour_of(emotion: str) -> str:
    """Return an emotion's colour in hexadecimal."""
    return COLOURS.get(emotion, DEFAULT_COLOUR)


def letter_of(emotion: str) -> str:
    """Return the letter that abbreviates an emotion: the first letter, but u for `surprise` because `sad` uses s."""
    return "u" if emotion == "surprise" else emotion[:1]
