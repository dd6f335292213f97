"""Maps the channels of a recording to the order in which the file stores them.

ffmpeg's decoders return channels in the order of WAV files, such as left, right, centre. Vorbis, Opus and ALAC store
them in another order, such as left, centre, right. soundfile and SoX return the stored order, and so does this project.
"""

_XIPH = {3: (0, 2, 1), 5: (0, 2, 1, 3, 4), 6: (0, 2, 1, 4, 5, 3), 7: (0, 2, 1, 5, 6, 4, 3), 8: (0, 2, 1, 6, 7, 4, 5, 3)}
_APPLE = {
    3: (2, 0, 1),
    4: (2, 0, 1, 3),
    5: (2, 0, 1, 3, 4),
    6: (2, 0, 1, 4, 5, 3),
    7: (2, 0, 1, 4, 5, 6, 3),
    8: (2, 6, 7, 0, 1, 4, 5, 3),
}
_REORDERED = {"vorbis": _XIPH, "opus": _XIPH, "alac": _APPLE}
"""By codec and number of channels: for each stored channel, the number that ffmpeg's decoder gives it."""
_MAX_CHANNELS = 64
"""The limit of ffmpeg's filter `pan`."""


def pan_filter(codec: str, channels: int, *, has_layout: bool) -> str:
    """Return a filter of ffmpeg that yields the stored channels without mixing them.

    The option `-ac` would remix a recording whose layout is not the default of its number of channels. A recording may
    also change its layout. Missing channels become silent, and additional ones are added to the last channel, so that
    no sound is lost.

    Parameters
    ----------
    codec
        ffmpeg's name.
    channels
        The number of channels to return.
    has_layout
        Whether the recording assigns its channels to loudspeakers. The decoders reorder no others.
    """
    order = _REORDERED.get(codec, {}).get(channels) if has_layout else None
    sources = [f"c{number}" for number in order or range(channels)]
    sources[-1] = "+".join([sources[-1], *(f"c{number}" for number in range(channels, _MAX_CHANNELS))])
    # `C` makes no assumption about loudspeakers, so ffmpeg does not remix the output either.
    return "|".join([f"pan={channels}C", *(f"c{number}={source}" for number, source in enumerate(sources))])
