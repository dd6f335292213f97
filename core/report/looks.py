"""The look of an emotion on the page: its colour, as a class of the style sheet, and its letter."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from core.emotions import LabelStyle, label_styles
from core.formatting import printable
from core.results import Result


class Look(NamedTuple):
    """The look of an emotion: a class of the style sheet, and a letter, escaped."""

    style: str
    letter: str


Looks = Mapping[str, Look]
PLAIN = Look("plain", "")
"""The look of speech without an emotion."""


def styles_of(result: Result) -> dict[str, LabelStyle]:
    """Return the style of each label of a result, in the order of the model's labels."""
    emotions = (part.emotion for part in result.utterances if part.emotion)
    return label_styles((*result.model.labels, *emotions))


def looks_of(styles: Mapping[str, LabelStyle]) -> dict[str, Look]:
    """Return the look of each emotion."""
    return {
        label: Look(f"e{number}", escape(style.letter.upper())) for number, (label, style) in enumerate(styles.items())
    }


def style_rules(styles: Mapping[str, LabelStyle]) -> str:
    """Return the style rules of the looks: the page's policy forbids style attributes."""
    colours = "".join(f".e{number}{{--c:{style.colour}}}\n" for number, style in enumerate(styles.values()))
    dark = ",".join(f".e{number}" for number, style in enumerate(styles.values()) if style.is_dark)
    return f"{colours}{dark}{{--on-c:#fff}}\n" if dark else colours


def legend(labels: Sequence[str], looks: Looks) -> str:
    """Return the legend of colours and letters."""
    items = [f"<li>{swatch(looks[label])}{text(label)}</li>" for label in labels]
    return f'<ul class="legend">{"".join(items)}</ul>'


def swatch(look: Look) -> str:
    """Return a square with the colour and the letter of an emotion."""
    return f'<i class="swatch {look.style}">{look.letter}</i>'


def text(untrusted: str) -> str:
    """Return text from outside as HTML."""
    return escape(printable(untrusted))


def capitalised(sentence: str) -> str:
    """Return a sentence with a capital first letter."""
    return sentence[:1].upper() + sentence[1:]
