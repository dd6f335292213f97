"""The manifest of a training: a CSV file of clips with their emotions, and optionally speakers, times and channels."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.emotions import standard_name
from core.errors import ManifestUnreadable
from core.evaluation.manifest import read_columns
from core.formatting import counted

MIN_CLIPS = 2
"""An emotion needs a clip to learn from, and one to test with."""

Row = Mapping[str, str | None]


@dataclass(frozen=True)
class Clip:
    """A labelled recording, or a part of it.

    Attributes
    ----------
    emotion
        The label, under this project's name.
    speaker
        Empty if the manifest does not name speakers.
    start_s, end_s
        The part of the recording; infinity for its end.
    channel
        The channel, numbered over all tracks; None for all that carry speech.
    line
        The line of the manifest, for error messages.
    """

    path: Path
    emotion: str
    speaker: str = ""
    start_s: float = 0.0
    end_s: float = math.inf
    channel: int | None = None
    line: int = 0

    def __str__(self) -> str:
        """Return the name of the clip in a message: its path, and the part if it is one."""
        part = "" if (self.start_s, self.end_s) == (0.0, math.inf) else f" from {self.start_s:g} to {self.end_s:g} s"
        return f"{self.path}{part}{'' if self.channel is None else f', channel {self.channel}'}"

    def contains(self, other: "Clip") -> bool:
        """Return whether another clip is a part of this one."""
        is_same = self.path == other.path and self.channel in (None, other.channel)
        return is_same and self.start_s <= other.start_s and other.end_s <= self.end_s


def parse_label_names(text: str) -> dict[str, str]:
    """Parse a list such as "mad=anger,bored="; an empty emotion leaves the name's clips out.

    Raises
    ------
    ManifestUnreadable
        If an entry does not have the form ``name=emotion``.
    """
    names: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, sign, emotion = (part.strip() for part in pair.partition("="))
        if not sign or not name:
            raise ManifestUnreadable(f"{pair!r} in --map must have the form name=emotion.")
        names[name.lower()] = emotion
    return names


def read_clips(manifest: Path, names: Mapping[str, str]) -> tuple[list[Clip], Counter[str]]:
    """Read a CSV file with the columns ``path`` and ``emotion``, and optionally the others of `Clip`.

    Parameters
    ----------
    manifest
        The file. Relative paths start at its folder.
    names
        The manifest's name for an emotion, in lower case -> the label, or empty text to leave its clips out. The names
        in `core.emotions.SYNONYMS` need no entry.

    Returns
    -------
    The clips, and the number of clips left out for each name.

    Raises
    ------
    ManifestUnreadable
        If a column is missing or a cell is malformed, if one recording has several emotions, if an emotion has one
        clip, or if there is only one emotion or one speaker.
    """
    header, rows = read_columns(manifest)
    if not {"path", "emotion"} <= set(header):
        raise ManifestUnreadable(f"{manifest} needs a header with the columns path and emotion.")
    clips, left_out = [], Counter[str]()
    for line, row in rows:
        clip = _clip(manifest, line, row, names, has_speakers="speaker" in header)
        if clip.emotion:
            clips.append(clip)
        else:
            left_out[_cell(row, "emotion")] += 1
    _check_contradictions(manifest, clips)
    check_counts(manifest, clips)
    return clips, left_out


def _clip(manifest: Path, line: int, row: Row, names: Mapping[str, str], *, has_speakers: bool) -> Clip:
    name, speaker = _cell(row, "emotion"), _cell(row, "speaker")
    if not name or not _cell(row, "path"):
        raise ManifestUnreadable(f"Line {line} of {manifest} has no {'path' if name else 'emotion'}.")
    if has_speakers and not speaker:
        raise ManifestUnreadable(f"Line {line} of {manifest} has no speaker: name one on each line, or on none.")
    start_s, end_s, channel = (_number(manifest, line, row, column) for column in ("start_s", "end_s", "channel"))
    start_s, end_s = start_s or 0.0, math.inf if end_s is None else end_s
    if start_s >= end_s:
        raise ManifestUnreadable(f"Line {line} of {manifest} ends before it starts: {start_s:g} to {end_s:g} s.")
    if channel is not None and not channel.is_integer():
        raise ManifestUnreadable(f"Line {line} of {manifest} has the channel {channel:g}, not a whole number.")
    emotion = names.get(name.lower(), standard_name(name))
    path = manifest.parent / _cell(row, "path")
    return Clip(path, emotion, speaker, start_s, end_s, None if channel is None else int(channel), line)


def _cell(row: Row, column: str) -> str:
    return (row.get(column) or "").strip()


def _number(manifest: Path, line: int, row: Row, column: str) -> float | None:
    text = _cell(row, column)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise ManifestUnreadable(f"Line {line} of {manifest} has {text!r} in the column {column}, not a number from 0.")
    return value


def _check_contradictions(manifest: Path, clips: Sequence[Clip]) -> None:
    """Check that no recording, and no part of it, has two emotions or two speakers."""
    by_path: dict[Path, list[Clip]] = {}
    for clip in clips:
        for other in by_path.setdefault(clip.path, []):
            if clip.contains(other) or other.contains(clip):
                check_agreement(manifest, other, clip)
        by_path[clip.path].append(clip)


def check_agreement(manifest: Path, one: Clip, other: Clip) -> None:
    """Check that two clips with the same sound have the same emotion and the same speaker.

    Raises
    ------
    ManifestUnreadable
        If they have not.
    """
    is_one_file = one.path == other.path
    same = f"in {one.path}, " if is_one_file else f"{one.path} and {other.path} have the same sound, but "
    for column, first, second in (("emotion", one.emotion, other.emotion), ("speaker", one.speaker, other.speaker)):
        if first != second:
            raise ManifestUnreadable(
                f"Lines {one.line} and {other.line} of {manifest} contradict each other: {same}the {column} is {first} "
                f"and {second}."
            )


def check_counts(manifest: Path, clips: Sequence[Clip]) -> None:
    """Check that there are emotions, clips and speakers enough to train and to test with.

    Raises
    ------
    ManifestUnreadable
        If there are not.
    """
    counts = Counter(clip.emotion for clip in clips)
    if len(counts) < MIN_CLIPS:
        raise ManifestUnreadable(f"{manifest} needs clips of two emotions; it has {', '.join(counts) or 'none'}.")
    if rare := [emotion for emotion, count in counts.items() if count < MIN_CLIPS]:
        raise ManifestUnreadable(
            f"{manifest} has only {counted(1, 'clip')} of {', '.join(rare)}: add clips, or leave the emotion out with "
            f"--map {rare[0]}=."
        )
    if len({clip.speaker for clip in clips}) == 1 and clips[0].speaker:
        raise ManifestUnreadable(
            f"{manifest} has only one speaker, {clips[0].speaker}: add another, because the figures need speakers that "
            "the network was not trained on."
        )
