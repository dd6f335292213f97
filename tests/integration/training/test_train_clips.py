"""The clips of a training: what is read, left out, noted and refused."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from core.audio.waveform import Waveform
from core.errors import CheckpointUnreadable, FolderRefused, ManifestUnreadable, TrainingRefused
from core.settings import MediaLimits, SegmentationSettings
from core.training.cache import ArrayCache
from core.training.manifest import Clip
from core.training.speech import SpeechReader
from tests.conftest import MakeMedia
from tests.support import emotion2vec
from tests.support.training import FILES, LABELS, SAMPLES, options, train_with


def test_noise_that_is_missing_is_refused_before_the_clips_are_read(
    manifest: Path, small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SpeechReader, "read", lambda *_: pytest.fail("clips were read"))

    with pytest.raises(TrainingRefused, match=r"--noise .* is not a folder"):
        train_with(options(manifest, small_checkpoint, tmp_path / "out", noise=tmp_path / "missing"))


def test_parts_and_channels_of_one_recording_are_clips(
    make_media: MakeMedia, tmp_path: Path, small_checkpoint: Path
) -> None:
    speech, other = SAMPLES / "anger.wav", SAMPLES / "neutral.flac"
    joined = tmp_path / "call.wav"
    graph = "[0:a]apad=whole_dur=4[a];[1:a]apad=whole_dur=4[b];[a][b]join=inputs=2:channel_layout=stereo"
    command = ["ffmpeg", "-v", "error", "-i", str(speech), "-i", str(other), "-filter_complex", graph, str(joined)]
    subprocess.run(command, check=True)
    clips = [
        Clip(joined, "a", channel=0, line=2),
        Clip(joined, "b", channel=1, line=3),
        Clip(joined, "a", start_s=0.25, end_s=1.5, channel=0, line=4),
    ]
    reader = SpeechReader(ArrayCache(tmp_path / "cache"), MediaLimits(), SegmentationSettings())

    first, second, part = reader.read(tmp_path / "manifest.csv", clips)

    (left,), (right,), (cut,) = (item.waveforms(reader.cache) for item in (first, second, part))
    np.testing.assert_array_equal(cut, left[4_000:24_000])
    assert np.abs(left - right[: left.size]).max() > 0.01
    assert part.durations_s == (1.25,)


def test_a_long_clip_is_cut_into_utterances(tmp_path: Path) -> None:
    clip = Clip(SAMPLES / "conversation.ogg", "a", line=2)
    reader = SpeechReader(ArrayCache(tmp_path / "cache"), MediaLimits(), SegmentationSettings())

    (item,) = reader.read(tmp_path / "manifest.csv", [clip])

    assert len(item.durations_s) == len(item.waveforms(reader.cache)) > 1


def test_clips_that_cannot_be_read_are_named_before_the_long_work(
    manifest: Path, small_checkpoint: Path, tmp_path: Path, computed: list[Waveform]
) -> None:
    (tmp_path / "text.wav").write_text("not a recording")
    (tmp_path / "empty.wav").touch()
    with manifest.open("a", encoding="utf-8") as file:
        file.write("text.wav,calm,speaker 0\nempty.wav,calm,speaker 0\nmissing.wav,calm,speaker 0\n")
        file.write(f"{SAMPLES / 'anger.wav'},calm,speaker 0\nother.wav,calm,speaker 0\n")

    with pytest.raises(TrainingRefused) as refused:
        train_with(options(manifest, small_checkpoint, tmp_path / "out"))

    sentence = str(refused.value)
    assert sentence.startswith("4 recordings cannot be read. ")
    assert f"{tmp_path / 'missing.wav'}: There is no such file." in sentence
    assert "text.wav: " in sentence
    assert "empty.wav: " in sentence
    assert sentence.endswith("And 1 more.")
    assert not computed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ("start_s,end_s", "There are no samples from 100 to 101 s"),
        ("channel,start_s", "There is no channel 100: it has 1"),
    ],
)
def test_a_part_that_does_not_exist_is_named(
    columns: str, problem: str, small_checkpoint: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "manifest.csv"
    cells = "100,101" if columns.startswith("start_s") else "100,0"
    rows = "".join(f"{SAMPLES / name},{LABELS[number % 2]},,\n" for number, name in enumerate(FILES[:4]))
    manifest.write_text(f"path,emotion,{columns}\n{rows}{SAMPLES / 'anger.wav'},calm,{cells}\n", encoding="utf-8")

    with pytest.raises(TrainingRefused, match=problem):
        train_with(options(manifest, small_checkpoint, tmp_path / "out"))


def test_two_copies_of_one_recording_must_agree(manifest: Path, small_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copy(SAMPLES / "anger.wav", tmp_path / "copy.wav")
    with manifest.open("a", encoding="utf-8") as file:
        file.write("copy.wav,excited,speaker 0\n")

    with pytest.raises(ManifestUnreadable, match=r"anger.wav and .*copy.wav have the same sound, but the emotion is"):
        train_with(options(manifest, small_checkpoint, tmp_path / "out"))


def test_clips_without_speech_are_left_out_with_a_note(
    manifest: Path, small_checkpoint: Path, tmp_path: Path, make_media: MakeMedia
) -> None:
    make_media("silence.wav", source="anullsrc=d=1")
    with manifest.open("a", encoding="utf-8") as file:
        file.write("silence.wav,calm,speaker 0\n")
    notes: list[str] = []

    report = train_with(options(manifest, small_checkpoint, tmp_path / "out"), notes)

    assert "Left out 1 clip without speech." in notes
    assert report.data.without_speech == 1
    assert report.figures["clean"].clips == len(FILES)


def test_without_speakers_it_says_that_the_figures_are_too_good(
    manifest: Path, small_checkpoint: Path, tmp_path: Path
) -> None:
    rows = [line.rpartition(",")[0] for line in manifest.read_text(encoding="utf-8").splitlines()]
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    notes: list[str] = []

    report = train_with(options(manifest, small_checkpoint, tmp_path / "out"), notes)

    assert any("the figures are too good" in sentence for sentence in notes)
    assert "the figures are too good" in report.split
    for name in ("README.md", "training.html"):
        assert report.split in (tmp_path / "out" / name).read_text(encoding="utf-8")


def test_a_label_of_one_speaker_is_named(manifest: Path, small_checkpoint: Path, tmp_path: Path) -> None:
    rows = manifest.read_text(encoding="utf-8").replace("calm,speaker 1", "calm,speaker 0")
    rows = rows.replace("calm,speaker 2", "calm,speaker 0")
    manifest.write_text(rows, encoding="utf-8")
    notes: list[str] = []

    train_with(options(manifest, small_checkpoint, tmp_path / "out"), notes)

    assert "Only speaker 0 has clips of calm, so no network learns and tests it: add other speakers." in notes


def test_files_of_another_program_are_not_replaced(manifest: Path, small_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("mine")

    with pytest.raises(FolderRefused, match=r"has files that are not those of a training"):
        train_with(options(manifest, small_checkpoint, out))

    assert [file.read_text() for file in out.iterdir()] == ["mine"]
    with pytest.raises(FolderRefused, match=r"README.md is not a folder"):
        train_with(options(manifest, small_checkpoint, out / "README.md"))


def test_a_serving_package_is_neither_replaced_nor_a_start(
    manifest: Path, small_checkpoint: Path, small_package: Path, tmp_path: Path
) -> None:
    """A package in the same folder would be used instead of the checkpoint."""
    out = tmp_path / "out"
    train_with(options(manifest, small_checkpoint, out))
    shutil.copy(small_package / "manifest.json", out)

    with pytest.raises(FolderRefused, match=r"has a serving package, which would hide the checkpoint"):
        train_with(options(manifest, small_checkpoint, out))
    with pytest.raises(CheckpointUnreadable, match=r"is a serving package. Name the checkpoint"):
        train_with(options(manifest, small_package, tmp_path / "other"))


def test_a_start_that_is_no_checkpoint_is_refused_first(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnreadable, match=r"There is no folder .*nothing"):
        train_with(options(manifest, tmp_path / "nothing", tmp_path / "out"))


def test_an_encoder_that_transformers_lacks_is_refused_first(manifest: Path, tmp_path: Path) -> None:
    start = emotion2vec.write_folder(
        emotion2vec.random_emotion2vec(emotion2vec.SMALL), emotion2vec.document(emotion2vec.SMALL), tmp_path / "start"
    )

    with pytest.raises(TrainingRefused, match=r"transformers has no classifier for its encoder"):
        train_with(options(manifest, start, tmp_path / "out", cache=tmp_path / "cache"))

    assert not (tmp_path / "cache").exists()
