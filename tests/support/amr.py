"""AMR recordings with DTX, and 3GP files with several frames in a packet, which ffmpeg does not write."""

import struct
from pathlib import Path

MEDIA = Path(__file__).parent / "media"
FRAME_S = 0.02
MAGIC = {"amr": b"#!AMR\n", "awb": b"#!AMR-WB\n"}
_FRAME_BYTES = {"amr": 21, "awb": 33}
"""Of the speech in MEDIA: 7.95 and 12.65 kbit/s."""
_COMFORT_NOISE = {"amr": bytes.fromhex("44c37e0b1c24"), "awb": bytes.fromhex("4c1a2b3c4d50")}
_NO_DATA = b"\x7c"


def speech(band: str) -> list[bytes]:
    """Return the frames of one sentence: `amr` is narrowband and `awb` wideband."""
    data = (MEDIA / f"speech.{band}").read_bytes().removeprefix(MAGIC[band])
    return [data[start : start + _FRAME_BYTES[band]] for start in range(0, len(data), _FRAME_BYTES[band])]


def pause(band: str, duration_s: float) -> list[bytes]:
    """Return a pause as DTX encodes it: comfort noise every eight frames, and nothing between."""
    return [_NO_DATA if number % 8 else _COMFORT_NOISE[band] for number in range(round(duration_s / FRAME_S))]


def three_gp(frames: list[bytes], band: str, frames_per_packet: int) -> bytes:
    """Return a 3GP file, as telephones write it."""
    kind, rate_hz = {"amr": (b"samr", 8000), "awb": (b"sawb", 16000)}[band]
    packets = [b"".join(frames[at : at + frames_per_packet]) for at in range(0, len(frames), frames_per_packet)]
    duration, step = len(frames) * rate_hz // 50, frames_per_packet * rate_hz // 50
    matrix = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    file_type = _box(b"ftyp", b"3gp5", bytes(4), b"3gp5")
    entry = _box(
        kind,
        *(bytes(6), struct.pack(">HIIHHIHH", 1, 0, 0, 2, 16, 0, rate_hz, 0)),
        _box(b"damr", b"test", struct.pack(">BHBB", 0, 0x81FF, 0, frames_per_packet)),
    )
    table = _box(
        b"stbl",
        _full_box(b"stsd", struct.pack(">I", 1), entry),
        _full_box(b"stts", struct.pack(">III", 1, len(packets), step)),
        _full_box(b"stsc", struct.pack(">IIII", 1, 1, len(packets), 1)),
        _full_box(b"stsz", struct.pack(">II", 0, len(packets)), *(struct.pack(">I", len(p)) for p in packets)),
        _full_box(b"stco", struct.pack(">II", 1, len(file_type) + 8)),
    )
    data_reference = _box(b"dinf", _full_box(b"dref", struct.pack(">I", 1), _box(b"url ", bytes([0, 0, 0, 1]))))
    media = _box(
        b"mdia",
        _full_box(b"mdhd", struct.pack(">IIIIHH", 0, 0, rate_hz, duration, 0x55C4, 0)),
        _full_box(b"hdlr", bytes(4), b"soun", bytes(13)),
        _box(b"minf", _full_box(b"smhd", bytes(4)), data_reference, table),
    )
    track_header = struct.pack(">IIIII", 0, 0, 1, 0, duration * 1000 // rate_hz)
    track = _box(
        b"trak",
        _box(b"tkhd", bytes([0, 0, 0, 7]), track_header, bytes(8), bytes([0, 0, 0, 0, 1, 0, 0, 0]), matrix, bytes(8)),
        media,
    )
    movie_header = struct.pack(">IIIIIH", 0, 0, 1000, duration * 1000 // rate_hz, 1 << 16, 1 << 8)
    header = _full_box(b"mvhd", movie_header, bytes(10), matrix, bytes(24), struct.pack(">I", 2))
    return file_type + _box(b"mdat", *packets) + _box(b"moov", header, track)


def _box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), name) + body


def _full_box(name: bytes, *parts: bytes) -> bytes:
    return _box(name, bytes(4), *parts)
