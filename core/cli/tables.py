"""Results in a terminal: a table, and a timeline for each recording with several utterances."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from rich.console import Console, Group
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from core.emotions import colour_of, letter_of
from core.formatting import DEMO_NOTICE, clock, printable
from core.results import Channel, Result

OutputFormat = Literal["table", "json", "csv"]
"""The output formats of `classify` and `results`."""


def show_demo_notice() -> None:
    """Print the notice about the demo model on stderr."""
    Console(stderr=True).print(f"{DEMO_NOTICE} Run `make model` to get a real model.", style="yellow")


def progress_bar(console: Console, *, transient: bool = False, disable: bool = False) -> Progress:
    """Return a progress bar that shows its description, the number of finished items and the elapsed time."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=transient, redirect_stdout=False, disable=disable)


def result_table(results: Iterable[Result]) -> Table:
    """Return a table with one row for each recording: duration, emotion, score and processing time."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("recording", overflow="fold")
    table.add_column("duration", justify="right")
    table.add_column("emotion")
    table.add_column("score", justify="right")
    table.add_column("time", justify="right")
    for result in results:
        duration = f"{result.audio.duration_s:.1f} s" if result.audio else ""
        time_ms = result.processing.decode_ms + result.processing.inference_ms
        table.add_row(escape(printable(result.source.key)), duration, *_emotion_cells(result), f"{time_ms} ms")
    return table


def _emotion_cells(result: Result) -> tuple[str, str]:
    if result.error:
        return f"[red]failed: {escape(printable(result.error.message))}[/red]", ""
    if result.emotion is None or result.score is None:
        return "[dim]no speech[/dim]", ""
    return result.emotion, f"{result.score:.1%}"


def timelines(results: Iterable[Result], width: int) -> Iterator[Group]:
    """Yield a timeline for each recording with several utterances: a bar for each channel, a row for each utterance."""
    for result in results:
        channels = result.channels or ()
        if result.audio and sum(len(channel.utterances) for channel in channels) > 1:
            yield Group("", Text(printable(result.source.key), style="bold"), *_lines(result, channels, width))


def _lines(result: Result, channels: tuple[Channel, ...], width: int) -> Iterator[Text | Table]:
    assert result.audio is not None  # checked by the caller
    duration_s = result.audio.duration_s
    cells = max(10, min(100, width - 14))
    for channel in channels:
        yield _bar(channel, duration_s, cells)
    ends = f"0:00{clock(duration_s):>{cells - 4}}"
    yield Text(" " * 12 + ends, style="dim")
    yield _legend(channels)
    yield _utterance_table(channels)


def _bar(channel: Channel, duration_s: float, cells: int) -> Text:
    """Return a bar of letters, readable without colour. A capital marks the start of an utterance."""
    letters, styles = ["·"] * cells, ["dim"] * cells
    for part in channel.utterances:
        first = min(int(part.start_s / duration_s * cells), cells - 1)
        last = min(max(first, int(part.end_s / duration_s * cells) - 1), cells - 1)
        for cell in range(first, last + 1):
            letters[cell] = letter_of(part.emotion) if cell > first else letter_of(part.emotion).upper()
            styles[cell] = f"black on {colour_of(part.emotion)}"
    bar = Text(f"channel {channel.channel:<3} ")
    for letter, style in zip(letters, styles, strict=True):
        bar.append(letter, style)
    return bar


def _legend(channels: Iterable[Channel]) -> Text:
    legend = Text(" " * 12)
    for emotion in sorted({part.emotion for channel in channels for part in channel.utterances}):
        legend.append(f" {letter_of(emotion)} ", f"black on {colour_of(emotion)}")
        legend.append(f" {emotion}  ")
    return legend


def _utterance_table(channels: Sequence[Channel]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    has_tracks = any(channel.track is not None for channel in channels)
    for name in (*(["track"] if has_tracks else []), "channel", "from", "to"):
        table.add_column(name, justify="right")
    table.add_column("emotion")
    table.add_column("score", justify="right")
    parts = [(part, channel) for channel in channels for part in channel.utterances]
    for part, channel in sorted(parts, key=lambda pair: (pair[0].start_s, pair[1].channel)):
        numbers = [str(channel.track)] if has_tracks else []
        times = (clock(part.start_s, digits=1), clock(part.end_s, digits=1))
        table.add_row(
            *numbers, str(channel.channel), *times, Text(part.emotion, colour_of(part.emotion)), f"{part.score:.1%}"
        )
    return table
