"""How emotions look and what other corpora call them."""

from collections.abc import Mapping

COLOURS: Mapping[str, str] = {
    "neutral": "#999999",
    "happy": "#E69F00",
    "anger": "#D55E00",
    "fear": "#CC79A7",
    "surprise": "#009E73",
    "sad": "#56B4E9",
}
"""Okabe and Ito's palette (2008), made to be told apart by people with any kind of colour blindness."""

OTHERWISE = "#0072B2"
"""For a label that a model of one's own may have."""

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
}
"""What corpora of emotional speech name them, to what this project does."""


def colour_of(emotion: str) -> str:
    """A colour in hexadecimal."""
    return COLOURS.get(emotion, OTHERWISE)


LETTERS: Mapping[str, str] = {"surprise": "u"}
"""What stands for an emotion where there is no room for its name: its first letter, but `sad` has the s."""


def letter_of(emotion: str) -> str:
    """The same, for any emotion, as a capital."""
    return LETTERS.get(emotion, emotion[:1]).upper()
