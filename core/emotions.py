"""The colours and letters of labels, and the names that other corpora give them."""

import string
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from itertools import cycle
from unicodedata import east_asian_width

COLOURS: Mapping[str, str] = {
    "neutral": "#999999",
    "happy": "#E69F00",
    "anger": "#D55E00",
    "fear": "#CC79A7",
    "surprise": "#009E73",
    "sad": "#56B4E9",
    "calm": "#0072B2",
    "disgust": "#F0E442",
    "other": "#AA4499",
    "unknown": "#999933",
}
"""Okabe and Ito's palette (2008), which people with any kind of colour blindness can tell apart. `neutral` is grey
instead of the palette's black. `other` and `unknown`, which models return too, have colours of Tol's muted scheme."""

_MORE_COLOURS = (
    "#117733",
    "#CC6677",
    "#882255",
    "#332288",
    "#DDCC77",
    "#44AA99",
    "#88CCEE",
)
"""The rest of Tol's muted scheme (2021), for further labels. Colours that differ most from Okabe and Ito's come first,
but the darkest are later, because they are hard to see on a dark page."""
_DARK_COLOURS = frozenset(("#0072B2", "#AA4499", "#117733", "#882255", "#332288"))
"""Colours on which white has more contrast than black."""

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
    "oth": "other",
    "unk": "unknown",
    "<unk>": "unknown",
}
"""A corpus's name for an emotion -> this project's name."""


def standard_name(label: str) -> str:
    """Return this project's name for an emotion; any other label as it is."""
    name = SYNONYMS.get(label.lower(), label.lower())
    return name if name in COLOURS else label


@dataclass(frozen=True)
class LabelStyle:
    """The look of a label.

    Attributes
    ----------
    colour
        In hexadecimal.
    letter
        The abbreviation, in lower case.
    """

    colour: str
    letter: str

    @property
    def is_dark(self) -> bool:
        """Whether text on the colour is white."""
        return self.colour in _DARK_COLOURS


def label_styles(labels: Iterable[str]) -> dict[str, LabelStyle]:
    """Return a style for each label of a model, in the same order.

    The known labels have the same colour in every model. Up to 17 labels have different colours, and up to 26 have
    different letters. The styles do not depend on the order of the labels.
    """
    labels = tuple(dict.fromkeys(labels))
    known = {label: standard_name(label) for label in labels}
    ranks = {name: rank for rank, name in enumerate(COLOURS)}
    ranked = sorted(labels, key=lambda label: (ranks.get(known[label], len(ranks)), label))
    own = {known[label]: label for label in reversed(ranked)}
    more = cycle((*(colour for name, colour in COLOURS.items() if name not in own), *_MORE_COLOURS))
    styles: dict[str, LabelStyle] = {}
    for label in ranked:
        name = known[label]
        colour = COLOURS[name] if name in COLOURS and own[name] == label else next(more)
        letter = _free_letter(name, {style.letter for style in styles.values()})
        styles[label] = LabelStyle(colour, letter)
    return {label: styles[label] for label in labels}


def _free_letter(name: str, taken: Container[str]) -> str:
    """Return the first letter of the name that no other label has."""
    # The s belongs to `sad`.
    candidates = ("u" if name == "surprise" else "") + name.lower() + string.ascii_lowercase
    return next((letter for letter in candidates if _is_narrow_letter(letter) and letter not in taken), "?")


def _is_narrow_letter(character: str) -> bool:
    """Return whether a character is a letter that fills one cell of a terminal, in lower and in upper case."""
    return character.isalpha() and len(character.upper()) == 1 and east_asian_width(character) not in {"W", "F"}
