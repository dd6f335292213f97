"""The metrics of an evaluation, and the names of emotions in its manifest."""

import re
from pathlib import Path

import pytest

from core.errors import ManifestUnreadable
from core.evaluation.emotions import Prediction, compute_metrics, confusion_matrix_svg
from core.evaluation.manifest import parse_names, read_manifest, read_rated_manifest

LABELS = ("anger", "fear", "happy", "neutral", "sad", "surprise")


def test_each_emotion_has_the_same_weight_in_the_unweighted_accuracy() -> None:
    rows = [Prediction(str(n), "anger", "anger") for n in range(8)] + [
        Prediction("x", "sad", "sad"),
        Prediction("y", "sad", "no_speech"),
    ]

    figures = compute_metrics(rows)

    assert figures.unweighted_accuracy == pytest.approx(0.75)
    assert figures.weighted_accuracy == pytest.approx(0.9)
    assert figures.recall == {"anger": 1.0, "sad": 0.5}
    assert figures.confusion["sad"] == {"no_speech": 1, "sad": 1}


def test_synonyms_and_mapped_names_of_emotions_are_understood(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,emotion\na.wav,Angry\nb.wav,calm\nc.wav,disgust\nd.wav,happiness\n", encoding="utf-8")

    labelled, left_out = read_manifest(manifest, LABELS, parse_names("calm=neutral", LABELS))

    assert [(item.path, item.emotion) for item in labelled] == [
        (tmp_path / "a.wav", "anger"),
        (tmp_path / "b.wav", "neutral"),
        (tmp_path / "d.wav", "happy"),
    ]
    assert left_out == {"disgust": 1}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["", "bom"])
def test_columns_are_separated_as_spreadsheets_do(tmp_path: Path, delimiter: str, start: str) -> None:
    manifest = tmp_path / "m.csv"
    rows = (("Path", "Emotion ", "arousal"), ("a b.wav", "anger", '"0,5"' if delimiter == ";" else "0.5"))
    manifest.write_text(start + "\r\n".join(map(delimiter.join, rows)), encoding="utf-8")

    labelled, _ = read_manifest(manifest, LABELS, {})
    rated, _ = read_rated_manifest(manifest, ["arousal"])

    assert [(item.path.name, item.emotion) for item in labelled] == [("a b.wav", "anger")]
    assert [item.values for item in rated] == [{"arousal": 0.5}]


def test_a_decimal_comma_is_no_number_where_commas_separate(tmp_path: Path) -> None:
    """It could separate thousands."""
    manifest = tmp_path / "m.csv"
    manifest.write_text('path,arousal\na.wav,"1,234"\n', encoding="utf-8")

    with pytest.raises(ManifestUnreadable, match="not a number"):
        read_rated_manifest(manifest, ["arousal"])


def test_two_values_of_a_dimension_contradict_each_other(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    text = "path,valence,arousal\na.wav,0.1,\na.wav,,0.5\na.wav,0.1,0.5\n"
    manifest.write_text(text, encoding="utf-8")
    [rated], _ = read_rated_manifest(manifest, ["arousal", "valence"])
    assert rated.values == {"valence": 0.1, "arousal": 0.5}
    manifest.write_text(f"{text}a.wav,,0.7\n", encoding="utf-8")

    with pytest.raises(ManifestUnreadable, match=r"Lines 3 and 5 of .* the arousal of .*a.wav is 0.5 and 0.7"):
        read_rated_manifest(manifest, ["arousal", "valence"])


@pytest.mark.parametrize("names", ["calm", "calm=peace", "=anger"])
def test_an_invalid_map_is_refused(names: str) -> None:
    with pytest.raises(ManifestUnreadable, match="must have the form name=emotion"):
        parse_names(names, LABELS)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "needs a header with the columns path and emotion"),
        ("file,label\na,b\n", "needs a header with the columns path and emotion"),
        ("path,emotion\n", "m.csv has no line below its header"),
        ("path,emotion\na.wav,bored\n", "None of the emotions in .* is a label of the model"),
        ("path,emotion\na.wav,sad\nb.wav,sad\na.wav,happy\n", "Lines 2 and 4 of .*a.wav is sad and happy"),
        ("path,emotion\nä.wav,sad\n".encode("latin-1"), "m.csv is not UTF-8 text. Save it as CSV in UTF-8"),
        ("path,emotion\na.wav,sad\n".encode("utf-16"), "m.csv is not UTF-8 text. Save it as CSV in UTF-8"),
    ],
)
def test_an_unusable_manifest_is_refused_in_one_sentence(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(ManifestUnreadable, match=sentence):
        read_manifest(manifest, LABELS, {})


@pytest.mark.parametrize("part", ["2.5,,", ",4,", ",,1"])
def test_a_part_of_a_recording_is_refused_because_whole_recordings_are_classified(tmp_path: Path, part: str) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"path,emotion,start_s,end_s,channel\na.wav,anger,,,\nb.wav,anger,{part}\n", encoding="utf-8")

    with pytest.raises(ManifestUnreadable, match=r"Line 3 of .* describes a part of a recording"):
        read_manifest(manifest, LABELS, {})


def test_the_title_of_the_picture_of_few_labels_fits() -> None:
    figures = compute_metrics([Prediction("a", "anger", "anger"), Prediction("b", "sad", "anger")])
    svg = confusion_matrix_svg(figures, ("anger", "sad"))

    width, title = re.findall(r'width="(\d+)"', svg)[0], re.findall(r"<title>(.*)</title>", svg)[0]
    assert int(width) > 7 * len(title)


def test_the_picture_shows_every_count() -> None:
    svg = confusion_matrix_svg(compute_metrics([Prediction("a", "anger", "happy")] * 17), LABELS)

    assert ">17<" in svg
    assert svg.count("<rect") == 1 + len(LABELS)
