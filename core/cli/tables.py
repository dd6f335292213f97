"""What results look like in a terminal."""

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.results import Result

_DEMO_NOTICE = (
    "This is the demo model: it tells the prosodies of a speech synthesiser apart, and knows nothing of real people. "
    "`make model` fetches the real one."
)


def show_demo_notice() -> None:
    """Say once, on stderr, that the demo model judges nobody."""
    Console(stderr=True).print(_DEMO_NOTICE, style="yellow")


def result_table(results: Iterable[Result]) -> Table:
    """One row for each recording: duration, emotion, score, and the time it took."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("recording", overflow="fold")
    table.add_column("duration", justify="right")
    table.add_column("emotion")
    table.add_column("score", justify="right")
    table.add_column("time", justify="right")
    for result in results:
        duration = f"{result.audio.duration_s:.1f} s" if result.audio else ""
        time_ms = result.processing.decode_ms + result.processing.inference_ms
        table.add_row(escape(_printable(result.source.key)), duration, *_judged(result), f"{time_ms} ms")
    return table


def _judged(result: Result) -> tuple[str, str]:
    if result.error:
        return f"[red]failed: {escape(_printable(result.error.message))}[/red]", ""
    if result.emotion is None or result.score is None:
        return "[dim]no speech[/dim]", ""
    return result.emotion, f"{result.score:.1%}"


def _printable(text: str) -> str:
    """A key may hold anything, even what would move the cursor."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
