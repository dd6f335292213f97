"""Every label of a model has its own colour and letter."""

import random

import pytest

from core.checkpoints.registry import CHECKPOINTS
from core.emotions import COLOURS, SYNONYMS, label_styles

SIX = ("anger", "fear", "happy", "neutral", "sad", "surprise")
THIRTEEN = (
    *("sad", "fear", "anger", "happy", "disgust", "neutral", "surprise", "positive", "negative"),
    *("excitement", "frustrated", "other", "unknown"),
)
EMOTION2VEC = ("anger", "disgust", "fear", "happy", "neutral", "other", "sad", "surprise", "unknown")
MSP = ("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise", "Other")


@pytest.mark.parametrize(
    "labels",
    [
        *(pytest.param(entry.labels, id=name) for name, entry in CHECKPOINTS.items() if entry.labels),
        pytest.param(THIRTEEN, id="13 labels"),
        pytest.param(EMOTION2VEC, id="other and unknown"),
        pytest.param(MSP, id="capitals"),
        pytest.param(("sad", "surprise", "sadness", "satisfied", "scared", "shy"), id="one initial"),
        pytest.param(("生气/angry", "难过", "开心", "ärgerlich", "großartig", "2 much", "a b", ""), id="any text"),
        pytest.param(tuple(f"label {number}" for number in range(17)), id="17 labels"),
    ],
)
def test_colours_and_letters_are_distinct_whatever_the_order(labels: tuple[str, ...]) -> None:
    styles = label_styles(labels)

    assert tuple(styles) == labels
    assert len({style.colour for style in styles.values()}) == len(labels)
    assert len({style.letter for style in styles.values()}) == len(labels)
    assert all(len(style.letter) == len(style.letter.upper()) == 1 for style in styles.values())
    assert all(style.letter.isalpha() for style in styles.values())
    shuffled = random.Random(0).sample(labels, len(labels))
    assert label_styles(shuffled) == styles


def test_known_emotions_look_the_same_in_every_model() -> None:
    for labels in (SIX, THIRTEEN, EMOTION2VEC, tuple(COLOURS)):
        for label, style in label_styles(labels).items():
            if label in COLOURS:
                assert style.colour == COLOURS[label]
    assert [style.letter for style in label_styles(SIX).values()] == list("afhnsu")
    assert [style.letter for style in label_styles(EMOTION2VEC).values()] == list("adfhnosuk")


def test_a_name_of_another_corpus_looks_like_its_emotion() -> None:
    for name, emotion in SYNONYMS.items():
        assert label_styles([name]) == {name: label_styles([emotion])[emotion]}
    both = label_styles(["angry", "anger"])
    assert both["anger"].colour != both["angry"].colour


def test_more_labels_than_colours_and_letters_have_styles() -> None:
    styles = label_styles([f"label {number}" for number in range(40)])

    assert len({style.colour for style in styles.values()}) == 17
    assert len({style.letter for style in styles.values()} - {"?"}) == 26


def contrast(colour: str, text: str) -> float:
    """Return the contrast ratio of WCAG 2."""

    def luminance(name: str) -> float:
        channels = [int(name[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(colour), luminance(text)))
    return (lighter + 0.05) / (darker + 0.05)


def test_text_on_each_colour_is_readable() -> None:
    for style in label_styles([f"label {number}" for number in range(17)]).values():
        right, wrong = ("#ffffff", "#111111") if style.is_dark else ("#111111", "#ffffff")
        assert contrast(style.colour, right) >= 4.5
        assert contrast(style.colour, right) > contrast(style.colour, wrong)
