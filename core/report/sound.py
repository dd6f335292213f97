"""The recording that a page plays: embedded, or as a link to a file."""

import base64
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Sound:
    """The recording, in a format that browsers play.

    Attributes
    ----------
    media_type
        The format, such as ``audio/ogg``.
    content
        The content of the file.
    link
        The address of the file, relative to the page, which then does not embed it.
    """

    media_type: str
    content: bytes
    link: str | None = None


def audio_element(sound: Sound | None) -> str:
    """Return a player; without a sound, the page that frames the report sets it."""
    source = ""
    if sound and sound.link:
        source = f' src="{escape(sound.link)}"'
    elif sound:
        content = base64.b64encode(sound.content).decode()
        source = f' src="data:{escape(sound.media_type)};base64,{content}"'
    return f'<div class="player"><audio id="player" controls preload="auto"{source}></audio></div>'
