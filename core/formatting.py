"""Formats for the terminal and the report page: times, counts and untrusted text."""

from collections.abc import Mapping

DEMO_NOTICE = "This is the demo model, trained on synthetic speech. Its results for real people are meaningless."


def clock(seconds: float, *, digits: int = 0) -> str:
    """Format a time as minutes and rounded seconds, with hours if needed: "1:02:03", "2:03.45"."""
    scale = 10**digits
    whole, fraction = divmod(round(seconds * scale), scale)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    tail = f".{fraction:0{digits}}" if digits else ""
    return f"{hours}:{minutes:02}:{rest:02}{tail}" if hours else f"{minutes}:{rest:02}{tail}"


def named_values(values: Mapping[str, float], *, digits: int = 2) -> str:
    """Format values with their names: "arousal 0.61, valence 0.34"."""
    # Adding zero turns -0.0 into 0.0.
    return ", ".join(f"{name} {round(value, digits) + 0.0:.{digits}f}" for name, value in values.items())


def counted(count: int, noun: str) -> str:
    """Format a count with its noun: "1 recording", "2 recordings", "1,000 recordings"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def printable(text: str) -> str:
    """Replace control characters, with which a key could move the cursor or reverse the direction of text."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
