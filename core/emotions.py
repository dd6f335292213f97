"""How emotions look and what other corpora call them."""

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
"""Okabe and Ito's palette (2008), made to be told apart by people with any kind of colour blindness: all of it but the
black, in place of which `neutral` has their grey."""

OTHERWISE = "#999933"
"""For a label that a model of one's own may have: an olive of Tol's muted scheme, since theirs has no more colours."""

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
"""What corpora of emotional speech name them, to what this project does."""


def colour_of(emotion: str) -> str:
    """A colour in hexadecimal."""
    return COLOURS.get(emotion, OTHERWISE)


def letter_of(emotion: str) -> str:
    """What stands for an emotion where there is no room for its name: its first letter, but `sad` has the s."""
    return "u" if emotion == "surprise" else emotion[:1]
