"""The manifest of a training, and what is refused before the long work starts."""

import math
from pathlib import Path

import pytest

from core.errors import ManifestUnreadable
from core.training.manifest import Clip, parse_label_names, read_clips

GOOD = "a.wav,angry,ann\nb.wav,anger,bob\nc.wav,joy,ann\nd.wav,happy,bob\n"


def write(folder: Path, rows: str, header: str = "path,emotion,speaker") -> Path:
    file = folder / "manifest.csv"
    file.write_text(f"{header}\n{rows}", encoding="utf-8")
    return file


def test_labels_get_this_projects_names(tmp_path: Path) -> None:
    clips, left_out = read_clips(write(tmp_path, GOOD), {})

    assert [clip.emotion for clip in clips] == ["anger", "anger", "happy", "happy"]
    assert [clip.speaker for clip in clips] == ["ann", "bob", "ann", "bob"]
    assert clips[0].path == tmp_path / "a.wav"
    assert not left_out


def test_own_names_translate_and_leave_out(tmp_path: Path) -> None:
    rows = GOOD + "e.wav,Bored,ann\nf.wav,mad,bob\n"

    clips, left_out = read_clips(write(tmp_path, rows), parse_label_names("bored=, mad=anger"))

    assert [clip.emotion for clip in clips][-1] == "anger"
    assert left_out == {"Bored": 1}


def test_parts_and_channels_are_read(tmp_path: Path) -> None:
    rows = "a.wav,sad,0,2.5,0\na.wav,happy,2.5,,0\na.wav,sad,0,2.5,1\nb.wav,happy,,,\n"

    clips, _ = read_clips(write(tmp_path, rows, "path,emotion,start_s,end_s,channel"), {})

    path = tmp_path / "a.wav"
    assert clips[0] == Clip(path, "sad", "", 0.0, 2.5, 0, 2)
    assert clips[1] == Clip(path, "happy", "", 2.5, math.inf, 0, 3)
    assert clips[3] == Clip(tmp_path / "b.wav", "happy", line=5)


@pytest.mark.parametrize(
    ("header", "rows", "sentence"),
    [
        ("path,label", "a.wav,sad\n", "needs a header with the columns path and emotion"),
        ("path,emotion", "a.wav,sad\nb.wav,\n", "Line 3 of .* has no emotion"),
        ("path,emotion", ",sad\n", "Line 2 of .* has no path"),
        ("path,emotion,speaker", "a.wav,sad,\n", "Line 2 of .* has no speaker"),
        ("path,emotion,start_s", "a.wav,sad,now\n", "Line 2 of .* has 'now' in the column start_s"),
        ("path,emotion,start_s", "a.wav,sad,-1\n", "Line 2 of .* has '-1' in the column start_s"),
        ("path,emotion,start_s,end_s", "a.wav,sad,2,1\n", "Line 2 of .* ends before it starts: 2 to 1 s"),
        ("path,emotion,end_s", "a.wav,sad,0\n", "Line 2 of .* ends before it starts"),
        ("path,emotion,channel", "a.wav,sad,0.5\n", "Line 2 of .* has the channel 0.5, not a whole number"),
        ("path,emotion", "a.wav,sad\nb.wav,sad\n", "needs clips of two emotions; it has sad"),
        ("path,emotion", "", "needs clips of two emotions; it has none"),
        ("path,emotion", "a.wav,sad\nb.wav,sad\nc.wav,happy\n", "has only 1 clip of happy"),
        (
            "path,emotion,speaker",
            "a.wav,sad,x\nb.wav,sad,x\nc.wav,happy,x\nd.wav,happy,x\n",
            "has only one speaker, x",
        ),
        (
            "path,emotion",
            "a.wav,sad\nb.wav,sad\na.wav,happy\nd.wav,happy\n",
            "Lines 2 and 4 of .* in .*a.wav, the emotion is sad and happy",
        ),
        (
            "path,emotion,start_s,end_s",
            "a.wav,sad,,\nb.wav,sad,,\na.wav,happy,1,2\nd.wav,happy,,\n",
            "Lines 2 and 4 of .* the emotion is sad and happy",
        ),
        (
            "path,emotion,channel",
            "a.wav,sad,1\nb.wav,sad,\na.wav,happy,\nd.wav,happy,\n",
            "Lines 2 and 4 of .* the emotion is sad and happy",
        ),
        (
            "path,emotion,speaker",
            "a.wav,sad,x\na.wav,sad,y\nc.wav,happy,x\nd.wav,happy,y\n",
            "the speaker is x and y",
        ),
    ],
)
def test_what_cannot_be_trained_with_is_one_sentence(tmp_path: Path, header: str, rows: str, sentence: str) -> None:
    with pytest.raises(ManifestUnreadable, match=sentence):
        read_clips(write(tmp_path, rows, header), {})


@pytest.mark.parametrize("text", ["mad", "=anger"])
def test_a_translation_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(ManifestUnreadable, match=r"must have the form name=emotion"):
        parse_label_names(text)
