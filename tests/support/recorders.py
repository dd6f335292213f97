"""Recordings in formats that ffmpeg reads but cannot write."""

import random

_DSS_BLOCK_BYTES = 512


def ilbc(frames: int, seed: int = 1) -> bytes:
    """Return an iLBC file with frames of 30 ms and random content, which decodes to noise."""
    noise = random.Random(seed)
    # The last bit of a frame marks it as lost.
    frame_bits = (noise.getrandbits(50 * 8) & ~1 for _ in range(frames))
    return b"#!iLBC30\n" + b"".join(bits.to_bytes(50, "big") for bits in frame_bits)


def dss_standard_play(pairs: int, seed: int = 1) -> bytes:
    """Return a DSS file in the mode SP, with pairs of frames of 24 ms and random content, which decodes to noise."""
    return _dss(0, random.Random(seed).randbytes(82 * pairs))


def dss_long_play(g723_1: bytes) -> bytes:
    """Return a DSS file in the mode LP, which contains frames of G.723.1."""
    return _dss(2, g723_1)


def _dss(codec: int, frames: bytes) -> bytes:
    header = bytearray(2 * _DSS_BLOCK_BYTES)
    header[:4] = b"\x02dss"
    header[0x32:0x3E] = b"260131140000"
    header[0x2A4] = codec
    room = _DSS_BLOCK_BYTES - 6
    blocks = (frames[start : start + room] for start in range(0, len(frames), room))
    return bytes(header) + b"".join(bytes(6) + block.ljust(room, b"\xff") for block in blocks)


def sphere(
    body: bytes, coding: str = "pcm", *, sample_bytes: int = 2, channels: int = 1, rate_hz: int = 16_000
) -> bytes:
    """Return a NIST SPHERE file, as speech corpora have them."""
    lines = (
        f"channel_count -i {channels}",
        f"sample_rate -i {rate_hz}",
        f"sample_n_bytes -i {sample_bytes}",
        "sample_byte_format -s2 01",
        f"sample_coding -s{len(coding)} {coding}",
        "end_head",
    )
    return b"NIST_1A\n   1024\n" + "\n".join(lines).encode().ljust(1024 - 16, b"\n") + body
