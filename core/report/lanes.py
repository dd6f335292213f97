"""The lanes of a report: one for each speaker, with the name that the page gives it."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import ResultUnreadable
from core.formatting import counted
from core.results import Channel, Result, Utterance


@dataclass(frozen=True)
class Lane:
    """One channel, or one speaker of a channel.

    Attributes
    ----------
    key
        Identifies the lane for the page's script.
    name
        Plain text, such as "Channel 0, speaker 1".
    """

    channel: Channel
    key: str
    name: str

    @property
    def utterances(self) -> tuple[Utterance, ...]:
        """The utterances, in order of time."""
        return self.channel.utterances


def lanes_of(result: Result, names: Sequence[str] = ()) -> tuple[Lane, ...]:
    """Return the lanes of a result with figures.

    Parameters
    ----------
    names
        Names of the speakers: in the order of the channels, or of the speakers if they share a channel. Speakers
        without a name get their number.

    Raises
    ------
    ResultUnreadable
        If there are more names than speakers.
    """
    lanes = result.lanes
    is_split = any(channel.speaker is not None for channel in lanes)
    count = len(lanes) if is_split else result.audio.channels if result.audio else 0
    if lanes and len(names) > count:
        noun = "speaker" if is_split else "channel"
        raise ResultUnreadable(f"There are {len(names)} names, but the recording has {counted(count, noun)}.")
    return tuple(
        Lane(channel, _key(channel), _name(channel, names, position if is_split else channel.channel))
        for position, channel in enumerate(lanes)
    )


def _key(channel: Channel) -> str:
    return str(channel.channel) if channel.speaker is None else f"{channel.channel}.{channel.speaker}"


def _name(channel: Channel, names: Sequence[str], number: int) -> str:
    if number < len(names) and names[number]:
        return names[number]
    name = (
        f"Channel {channel.channel}" if channel.track is None else f"Track {channel.track}, channel {channel.channel}"
    )
    if channel.mixed:
        name = f"Channels {', '.join(map(str, channel.mixed))}, mixed"
    return name if channel.speaker is None else f"{name}, speaker {channel.speaker}"
