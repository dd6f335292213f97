"""What terminal and page say alike: times, and texts that came with a recording."""


def clock(seconds: float, *, digits: int = 0) -> str:
    """Minutes and seconds, rounded, with hours where there are any: "1:02:03", "2:03.45"."""
    scale = 10**digits
    whole, fraction = divmod(round(seconds * scale), scale)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    tail = f".{fraction:0{digits}}" if digits else ""
    return f"{hours}:{minutes:02}:{rest:02}{tail}" if hours else f"{minutes}:{rest:02}{tail}"


def printable(text: str) -> str:
    """A key may hold anything, even what would move the cursor or turn the direction of what follows."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
