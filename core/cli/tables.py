"""Results in a terminal: a table, and a timeline for each recording with several utterances."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, Group
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from core.emotions import LabelStyle, label_styles
from core.formatting import DEMO_NOTICE, clock, printable
from core.results import Channel, Model, Result, Utterance
from core.results.verdict import conversation_in_words, verdict

OutputFormat = Literal["table", "json", "csv"]
"""The output formats of `classify` and `results`."""

_LEVELS = "▁▂▃▄▅▆▇█"


def show_demo_notice() -> None:
    """Print the notice about the demo model on stderr."""
    Console(stderr=True).print(f"{DEMO_NOTICE} Run `make model` to get a real model.", style="yellow")


def progress_bar(console: Console, *, transient: bool = False, disable: bool = False) -> Progress:
    """Return a progress bar that shows its description, the number of finished items and the elapsed time."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=transient, redirect_stdout=False, disable=disable)


class _Rate(ProgressColumn):
    """The number of recordings per second."""

    def render(self, task: Task) -> Text:
        """Return the rate, once there is one."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="dim")


def classification_progress(console: Console, *, disable: bool = False) -> Progress:
    """Return a progress bar of recordings that vanishes at the end: file name, count, rate and remaining time."""
    wide = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    name = TextColumn("{task.description}", markup=False, table_column=wide)
    columns = (name, BarColumn(20), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, expand=True, redirect_stdout=False, disable=disable)


class FailureLog:
    """Prints one sentence on a console for each recording that fails, and counts them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.count = 0
        self._notes: set[str] = set()

    def note(self, sentence: str) -> None:
        """Print a sentence about something else, once."""
        if sentence not in self._notes:
            self.console.print(sentence, markup=False)
        self._notes.add(sentence)

    def report(self, name: str, reason: object) -> None:
        """Print the reason why a recording failed."""
        self.count += 1
        self.console.print(f"[red]{escape(printable(f'{name}: {reason}'))}[/red]", soft_wrap=True)


def result_table(results: Iterable[Result]) -> Table:
    """Return a table with one row for each recording: duration, emotions or dimensions, processing time."""
    results = list(results)
    columns = _Columns.of(*(result.model for result in results))
    table = columns.table()
    for result in results:
        table.add_row(*columns.cells(result))
    return table


class ResultRows:
    """The same table, printed row by row, with widths that do not depend on later rows.

    Parameters
    ----------
    names
        The names of the recordings, as far as they are known.
    """

    _DURATION_CELLS = 10
    _TIME_CELLS = 10
    _GAPS = 2 * 3

    def __init__(self, console: Console, model: Model, names: Iterable[str] = ()) -> None:
        self._console = console
        self._columns = _Columns.of(model)
        half = console.width // 2
        longest = max((cell_len(printable(name)) for name in names), default=half)
        name = min(half, max(longest, len("recording")))
        outcome = console.width - name - self._DURATION_CELLS - self._TIME_CELLS - self._GAPS
        outcomes = sum((self._columns.has_emotions, self._columns.has_dimensions))
        shared = (outcome - 2 * (outcomes - 1)) // outcomes
        self._widths = (name, self._DURATION_CELLS, *[max(10, shared)] * outcomes, self._TIME_CELLS)
        console.print(self._columns.table(self._widths))

    def print(self, result: Result) -> None:
        """Print the row of a result."""
        row = self._columns.table(self._widths, show_header=False)
        row.add_row(*self._columns.cells(result))
        self._console.print(row)


@dataclass(frozen=True)
class _Columns:
    """The columns of a table of results."""

    has_emotions: bool
    has_dimensions: bool

    @classmethod
    def of(cls, *models: Model) -> "_Columns":
        has_dimensions = any(model.dimensions for model in models)
        return cls(not has_dimensions or any(model.labels for model in models), has_dimensions)

    def table(self, widths: Sequence[int] = (), *, show_header: bool = True) -> Table:
        """Return an empty table; without widths, they follow from its rows."""
        table = Table(box=None, pad_edge=False, header_style="bold", show_header=show_header)
        outcomes = [*(["emotion"] if self.has_emotions else []), *(["dimensions"] if self.has_dimensions else [])]
        for number, name in enumerate(("recording", "duration", *outcomes, "time")):
            is_number = name in ("duration", "time")
            width = widths[number] if widths else None
            table.add_column(name, justify="right" if is_number else "left", overflow="fold", width=width)
        return table

    def cells(self, result: Result) -> list[str]:
        """Return a row."""
        duration = f"{result.audio.duration_s:.1f} s" if result.audio else ""
        time_ms = result.processing.decode_ms + result.processing.inference_ms
        emotion, dimensions = ("", _outcome(result)) if result.model.dimensions else (_outcome(result), "")
        outcomes = [*([emotion] if self.has_emotions else []), *([dimensions] if self.has_dimensions else [])]
        return [escape(printable(result.source.key)), duration, *outcomes, f"{time_ms} ms"]


def _outcome(result: Result) -> str:
    if result.error:
        return f"[red]failed: {escape(printable(result.error.message))}[/red]"
    if not result.utterances:
        return "[dim]no speech[/dim]"
    return escape(verdict(result.utterances)) + (", unsure" if result.unsure else "")


def timelines(results: Iterable[Result], width: int) -> Iterator[Group]:
    """Yield a timeline for each recording with several utterances: a bar for each lane, a row for each utterance."""
    for result in (result.with_figures() for result in results):
        if result.audio and len(result.utterances) > 1:
            yield Group("", Text(printable(result.source.key), style="bold"), *_lines(result, result.lanes, width))


def _figures(result: Result, channels: Sequence[Channel]) -> Iterator[Text | Table]:
    """Yield a row for each of several channels, and the figures of the conversation."""
    if len(channels) > 1:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("channel")
        table.add_column("dimensions" if result.dimensions else "emotion")
        for name in ("talk", "turns", "longest turn", "interruptions"):
            table.add_column(name, justify="right")
        for channel in channels:
            table.add_row(
                _channel_name(channel).removeprefix("channel "),
                escape(verdict(channel.utterances)) + (", unsure" if channel.unsure else ""),
                f"{channel.talk_share:.0%}",
                str(channel.turns),
                clock(channel.longest_turn_s or 0.0),
                "" if channel.interruptions is None else str(channel.interruptions),
            )
        yield table
    if conversation := conversation_in_words(result):
        yield Text(conversation, style="dim")


def _lines(result: Result, channels: tuple[Channel, ...], width: int) -> Iterator[Text | Table]:
    assert result.audio is not None  # checked by the caller
    duration_s = result.audio.duration_s
    dimensions = result.model.dimensions or ()
    emotions = {part.emotion for channel in channels for part in channel.utterances if part.emotion}
    styles = label_styles((*result.model.labels, *sorted(emotions)))
    low, high = result.model.dimensions_range or _range(channels)
    side = max((12, *(len(name) + 3 for name in (*dimensions, *map(_channel_name, channels)))))
    cells = max(10, min(100, width - side - 2))
    yield from _figures(result, channels)
    for channel in channels:
        name = _channel_name(channel)
        if dimensions:
            yield Text(name)
            yield from (_level_bar(channel, each, (low, high), duration_s, cells, side) for each in dimensions)
        else:
            yield _bar(f"{name:<{side}}", channel, duration_s, cells, styles)
    ends = f"0:00{clock(duration_s):>{cells - 4}}"
    yield Text(" " * side + ends, style="dim")
    if dimensions:
        yield Text(f"{'':<{side}}{_LEVELS[0]} {low:g}  {_LEVELS[-1]} {high:g}", style="dim")
    else:
        yield _legend({name: style for name, style in sorted(styles.items()) if name in emotions})
    yield _utterance_table(channels, dimensions, styles)


def _channel_name(channel: Channel) -> str:
    track = "" if channel.track is None else f"track {channel.track}, "
    speaker = "" if channel.speaker is None else f", speaker {channel.speaker}"
    return f"{track}channel {channel.channel}{speaker}"


def _range(channels: Iterable[Channel]) -> tuple[float, float]:
    values = [value for channel in channels for part in channel.utterances for value in part.values.values()]
    return min(values), max(values)


def _cells_of(part: Utterance, duration_s: float, cells: int) -> range:
    first = min(int(part.start_s / duration_s * cells), cells - 1)
    last = min(max(first, int(part.end_s / duration_s * cells) - 1), cells - 1)
    return range(first, last + 1)


def _bar(name: str, channel: Channel, duration_s: float, cells: int, looks: Mapping[str, LabelStyle]) -> Text:
    """Return a bar of letters, readable without colour. A capital marks the start of an utterance."""
    letters, styles = ["·"] * cells, ["dim"] * cells
    for part in channel.utterances:
        look = looks[part.best[0]]
        places = _cells_of(part, duration_s, cells)
        for cell in places:
            letters[cell] = look.letter if cell > places[0] else look.letter.upper()
            styles[cell] = _on_colour(look)
    bar = Text(name)
    for letter, style in zip(letters, styles, strict=True):
        bar.append(letter, style)
    return bar


def _level_bar(
    channel: Channel, name: str, limits: tuple[float, float], duration_s: float, cells: int, side: int
) -> Text:
    """Return a bar of blocks whose heights are the values of a dimension; values beyond the limits are cut."""
    low, high = limits
    bar = ["·"] * cells
    for part in channel.utterances:
        share = (part.values[name] - low) / (high - low) if high > low else 0.5
        for cell in _cells_of(part, duration_s, cells):
            bar[cell] = _LEVELS[min(max(int(share * len(_LEVELS)), 0), len(_LEVELS) - 1)]
    return Text(f"  {printable(name):<{side - 2}}{''.join(bar)}")


def _on_colour(style: LabelStyle) -> str:
    return f"{'white' if style.is_dark else 'black'} on {style.colour}"


def _legend(styles: Mapping[str, LabelStyle]) -> Text:
    legend = Text(" " * 12)
    for emotion, style in styles.items():
        legend.append(f" {style.letter} ", _on_colour(style))
        legend.append(f" {emotion}  ")
    return legend


def _utterance_table(channels: Sequence[Channel], dimensions: Sequence[str], styles: Mapping[str, LabelStyle]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    has_tracks = any(channel.track is not None for channel in channels)
    has_speakers = any(channel.speaker is not None for channel in channels)
    names = (*(["track"] if has_tracks else []), "channel", *(["speaker"] if has_speakers else []))
    for name in (*names, "from", "to", *dimensions):
        table.add_column(name, justify="right")
    if not dimensions:
        table.add_column("emotion")
        table.add_column("score", justify="right")
    parts = [(part, channel) for channel in channels for part in channel.utterances]
    for part, channel in sorted(parts, key=lambda pair: (pair[0].start_s, pair[1].channel)):
        numbers = [*([str(channel.track)] if has_tracks else []), str(channel.channel)]
        if has_speakers:
            numbers.append("" if part.speaker is None else str(part.speaker))
        times = (clock(part.start_s, digits=1), clock(part.end_s, digits=1))
        if dimensions:
            table.add_row(*numbers, *times, *(f"{part.values[name]:.2f}" for name in dimensions))
        else:
            emotion, score = part.best
            mark = ", unsure" if part.unsure else ""
            table.add_row(*numbers, *times, Text(emotion + mark, styles[emotion].colour), f"{score:.1%}")
    return table
