"""Small files as attackers and broken recorders make them.

Scripts are texts that refer to other files or addresses. The others are media files with false headers.
"""

import base64
import http.server
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

EXTENSIONS = (
    "3gp aac ac3 aiff amr ape asf au avi caf concat cue ffconcat flac gsm idx m3u m3u8 m4a mka mkv mov mp3 mp4 mpd mpg "
    "oga ogg opus pls sdp smil sub ts tta txt vpy w64 wav wave webm wma wv xml xspf"
)

LOUD = b"\x00\x10\x00\xf0" * 16_000
"""Two seconds of a tone of 8 kHz, as 16-bit PCM at 16 kHz."""

_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_HLS = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:9\n"

_SCRIPTS: dict[str, Callable[[str], str]] = {
    "ffconcat": lambda at: f"ffconcat version 1.0\nfile '{at}'\n",
    "ffconcat with options": lambda at: f"ffconcat version 1.0\nfile '{at}'\noption safe 0\ninpoint 0\nduration 9\n",
    "hls": lambda at: f"{_HLS}#EXTINF:9,\n{at}\n#EXT-X-ENDLIST\n",
    "hls byte ranges": lambda at: f"{_HLS}#EXTINF:9,\n#EXT-X-BYTERANGE:1000@0\n{at}\n#EXT-X-ENDLIST\n",
    "hls key": lambda at: f'{_HLS}#EXT-X-KEY:METHOD=AES-128,URI="{at}"\n#EXTINF:9,\n{at}\n#EXT-X-ENDLIST\n',
    "hls map": lambda at: f'{_HLS}#EXT-X-MAP:URI="{at}"\n#EXTINF:9,\n{at}\n#EXT-X-ENDLIST\n',
    "hls master": lambda at: f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{at}\n",
    "hls after an id3 tag": lambda at: f"ID3\x04\0\0\0\0\0\0{_HLS}#EXTINF:9,\n{at}\n#EXT-X-ENDLIST\n",
    "m3u": lambda at: f"{at}\n",
    "dash": lambda at: (
        f'{_XML}<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT9S"><Period>'
        f'<AdaptationSet mimeType="audio/mp4"><Representation id="1" bandwidth="1"><BaseURL>{at}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>\n"
    ),
    "sdp": lambda at: (
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\na=control:{at}\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n"
    ),
    "rtsp text": lambda at: f"RTSPtext\n{at}\n",
    "asf reference": lambda at: f"[Reference]\nRef1={at}\nRef2={at}\n",
    "asx": lambda at: f'<asx version="3.0"><entry><ref href="{at}"/></entry></asx>\n',
    "pls": lambda at: f"[playlist]\nNumberOfEntries=1\nFile1={at}\nVersion=2\n",
    "xspf": lambda at: (
        f'{_XML}<playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList><track><location>{at}</location></track>'
        "</trackList></playlist>\n"
    ),
    "smil": lambda at: f'<smil><body><audio src="{at}"/></body></smil>\n',
    "imf": lambda at: (
        f'{_XML}<CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"><Id>{at}</Id>'
        "</CompositionPlaylist>\n"
    ),
    "vobsub": lambda at: f"# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\nfile: {at}\n",
    "ffmetadata": lambda at: f";FFMETADATA1\ntitle={at}\n",
    "cue sheet": lambda at: f'FILE "{at}" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n',
    "lavfi graph": lambda at: f"amovie=filename='{at}'\n",
    "avisynth": lambda at: f'WAVSource("{at}")\n',
    "vapoursynth": lambda at: f"import vapoursynth as vs\nvs.core.ffms2.Source(r'{at}').set_output()\n",
    "sbagen": lambda at: f"-SE -m {at}\nallon: mix/100\nNOW allon\n",
    "xml entity": lambda at: f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "{at}">]><MPD>&e;</MPD>\n',
    "html": lambda at: (
        f'<!doctype html><audio autoplay src="{at}"></audio><meta http-equiv=refresh content="0;{at}">\n'
    ),
    "svg": lambda at: f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{at}"/></svg>\n',
    "shell script": lambda at: f"#!/bin/sh\ncat '{at}'\n",
}

# Binary formats whose demuxers open a second file, or that contain programs for a player.
BINARIES: dict[str, bytes] = {
    "magic lantern video": b"MLVI" + struct.pack("<I", 52) + b"v2.0\0\0\0\0" + bytes(40),
    "amiga module": b"song".ljust(1080, b"\0") + b"M.K." + bytes(1024 + 4096),
    "scream tracker module": b"song".ljust(28, b"\0") + b"\x1a\x10\0\0" + bytes(12) + b"SCRM" + bytes(400),
    "nintendo sound": b"NESM\x1a\x01\x01\x01" + bytes(120),
    "picture": bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489") + bytes(50),
}


def script_kinds() -> list[str]:
    """Return the names of all kinds of scripts."""
    return list(_SCRIPTS)


def script(kind: str, at: str) -> bytes:
    """Return a script of a kind that refers to a target."""
    return _SCRIPTS[kind](at).encode()


def references(file: Path, address: str, fifo: Path) -> list[str]:
    """Return references to a file, a device, this process's secrets and an address."""
    data = base64.b64encode(file.read_bytes()).decode()
    return [
        str(file),
        file.name,
        f"./{file.name}",
        f"../{file.parent.name}/{file.name}",
        f"file:{file}",
        f"file://{file}",
        f"{address}/canary.wav",
        f"{address.replace('http:', 'tcp:')}",
        f"subfile,,start,0,end,40000,,:{file}",
        f"concat:{file}|{file}",
        f"crypto:{file}",
        f"async:{file}",
        f"cache:{file}",
        f"data:audio/wav;base64,{data}",
        "pipe:0",
        "/dev/zero",
        "/dev/stdin",
        "/proc/self/environ",
        "/proc/1/environ",
        str(fifo),
        "%03d.wav",
    ]


@contextmanager
def canary_server(body: bytes) -> Iterator[tuple[str, list[str]]]:
    """Serve an address on this machine, and return it with the requests received so far."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (named by its base class)
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def canary_fifo(path: Path) -> Iterator[list[bool]]:
    """Make a named pipe, and record whether a process has opened it for reading."""
    os.mkfifo(path)
    opened: list[bool] = []

    def wait() -> None:
        path.open("wb").close()  # returns once there is a reader
        opened.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield opened
    finally:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        thread.join()


def wav(
    body: bytes,
    *,
    kind: int = 1,
    channels: int = 1,
    sample_rate_hz: int = 16_000,
    bits: int = 16,
    block_bytes: int | None = None,
    claimed_bytes: int | None = None,
) -> bytes:
    """Return a WAV file with the given values in its header."""
    block_bytes = channels * bits // 8 if block_bytes is None else block_bytes
    per_second = sample_rate_hz * block_bytes & 0xFFFFFFFF
    form = struct.pack("<HHIIHH", kind, channels, sample_rate_hz, per_second, block_bytes & 0xFFFF, bits)
    size = len(body) if claimed_bytes is None else claimed_bytes
    riff = struct.pack("<I", min(size + 36, 0xFFFFFFFF))
    return b"RIFF" + riff + b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", size) + body


def rf64(body: bytes, claimed_bytes: int) -> bytes:
    """Return a WAV file with 64-bit sizes that claims a number of bytes."""
    plain = wav(body, claimed_bytes=0xFFFFFFFF)
    sizes = b"ds64" + struct.pack("<IQQQI", 28, claimed_bytes, claimed_bytes, claimed_bytes // 2, 0)
    return b"RF64\xff\xff\xff\xffWAVE" + sizes + plain[12:]


def w64(body: bytes, claimed_bytes: int) -> bytes:
    """Return a Sony Wave64 file that claims a number of bytes."""
    tail = bytes.fromhex("f3acd3118cd100c04f8edb8a")
    form = struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16)
    riff = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000") + struct.pack("<Q", claimed_bytes)
    return (
        riff + b"wave" + tail + b"fmt " + tail + struct.pack("<Q", 24 + len(form)) + form
        + b"data" + tail + struct.pack("<Q", claimed_bytes) + body
    )  # fmt: skip


def au(body: bytes, *, claimed_bytes: int, channels: int = 1, sample_rate_hz: int = 16_000) -> bytes:
    """Return an AU file with the given values in its header."""
    return b".snd" + struct.pack(">IIIII", 24, claimed_bytes, 3, sample_rate_hz, channels) + body


def avi_of_tiny_packets(count: int) -> bytes:
    """Return an AVI file with a packet for each 16-bit sample."""
    stream = struct.pack("<4s4sIHHIIIIIIII4H", b"auds", b"\0" * 4, 0, 0, 0, 0, 1, 16_000, 0, count, 4, 0, 2, 0, 0, 0, 0)
    form = struct.pack("<HHIIHHH", 1, 1, 16_000, 32_000, 2, 16, 0)
    listed = _chunk(b"strh", stream) + _chunk(b"strf", form)
    main = struct.pack("<14I", 40_000, 64_000, 0, 0x100, count, 0, 1, 64, 0, 0, 0, 0, 0, 0)
    header = _chunk(b"LIST", b"hdrl" + _chunk(b"avih", main) + _chunk(b"LIST", b"strl" + listed))
    return _chunk(b"RIFF", b"AVI " + header + _chunk(b"LIST", b"movi" + _chunk(b"00wb", b"\0\x10") * count))


def with_embedded_playlist(recording: bytes, at: str) -> bytes:
    """Return a WAV file with a playlist in a chunk before the audio."""
    hidden = _chunk(b"LIST", b"INFO" + _chunk(b"ICMT", script("hls", at))) + _chunk(b"list", script("ffconcat", at))
    return (
        recording[:4] + struct.pack("<I", len(recording) + len(hidden) - 8) + recording[8:12] + hidden + recording[12:]
    )


def with_linked_picture(recording: bytes, address: str) -> bytes:
    """Return an MP3 file whose tag has the address of its cover: the MIME type of a link is an arrow."""
    picture = b"\0-->\0\x03\0" + f"{address}/cover.png".encode()
    frame = b"APIC" + struct.pack(">I", len(picture)) + b"\0\0" + picture
    size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + size + frame + recording


def with_linked_segment(recording: bytes, name: str) -> bytes:
    """Return a Matroska file that names a previous segment, in place of the program that wrote it."""
    at = recording.index(b"\x4d\x80")
    length = recording[at + 2] & 0x7F
    linked = name.encode()[: length - 1].ljust(length - 1, b"\0")
    return recording[:at] + b"\x3c\x83\xab" + bytes([0x80 | length - 1]) + linked + recording[at + 3 + length :]


def with_external_track(recording: bytes, file: Path) -> bytes:
    """Return a QuickTime film that refers to the audio in another file by a macOS alias."""
    alias = bytes(10) + bytes(28) + bytes(12) + bytes([len(file.name)]) + file.name.encode().ljust(63, b"\0")
    path = str(file).encode()
    path += b"\0" * (len(path) % 2)
    alias += (
        bytes(16) + struct.pack(">HH", 1, 1) + bytes(16) + struct.pack(">HH", 2, len(path)) + path + b"\xff\xff\0\0"
    )
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    old = recording.index(b"dref") - 4
    size = struct.unpack(">I", recording[old : old + 4])[0]
    new = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    changed = bytearray(recording[:old] + new + recording[old + size :])
    # Every enclosing atom has grown. The samples come before them, so their offsets stay.
    for name in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        at = changed.rindex(name, 0, old) - 4
        around = struct.unpack(">I", changed[at : at + 4])[0]
        changed[at : at + 4] = struct.pack(">I", around + len(new) - size)
    return bytes(changed)


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


HEADERS: dict[str, tuple[bytes, str]] = {
    "no channel.wav": (wav(LOUD, channels=0), "not_audio"),
    "255 channels.wav": (wav(LOUD, channels=255), "too_many_channels"),
    "65,535 channels.wav": (wav(LOUD, channels=65_535), "not_audio"),
    "2,147,483,647 channels.au": (au(LOUD, claimed_bytes=0, channels=2**31 - 1), "not_audio"),
    "0 Hz.wav": (wav(LOUD, sample_rate_hz=0), "not_audio"),
    "1 Hz.wav": (wav(LOUD, sample_rate_hz=1), "damaged"),
    "1 Hz.au": (au(LOUD, claimed_bytes=0, sample_rate_hz=1), "damaged"),
    "999 Hz.wav": (wav(LOUD, sample_rate_hz=999), "damaged"),
    "1 kHz.wav": (wav(LOUD, sample_rate_hz=1_000), "32.0 s"),
    "1 MHz.wav": (wav(LOUD * 10, sample_rate_hz=1_000_000), "0.3 s"),
    "10 MHz.wav": (wav(LOUD, sample_rate_hz=10_000_000), "damaged"),
    "4 GHz.wav": (wav(LOUD, sample_rate_hz=2**32 - 1), "not_audio"),
    "blocks of no bytes.wav": (wav(LOUD, block_bytes=0), "2.0 s"),
    "no bits.wav": (wav(LOUD, bits=0), "not_audio"),
    "255 bits.wav": (wav(LOUD, bits=255), "not_audio"),
    "unknown codec.wav": (wav(LOUD, kind=0xFFFF), "not_audio"),
    "pcm labelled mp3.wav": (wav(LOUD, kind=0x55), "damaged"),
    "data of 0 bytes.wav": (wav(LOUD, claimed_bytes=0), "2.0 s"),
    "data of 4 GB.wav": (wav(LOUD, claimed_bytes=2**32 - 1), "2.0 s"),
    "data of 2 GB.au": (au(LOUD, claimed_bytes=2**31 - 1), "2.0 s"),
    "an exabyte.rf64": (rf64(LOUD, 2**60), "2.0 s"),
    "eight exabytes.rf64": (rf64(LOUD, 2**63 - 1), "2.0 s"),
    "sixteen exabytes.rf64": (rf64(LOUD, 2**64 - 1), "not_audio"),
    "its true size.w64": (w64(LOUD, len(LOUD) + 24), "2.0 s"),
    "an exabyte.w64": (w64(LOUD, 2**60), "not_audio"),
    "sixteen exabytes.w64": (w64(LOUD, 2**64 - 1), "not_audio"),
    "only a header.wav": (wav(b""), "empty"),
    "one byte.wav": (b"R", "not_audio"),
    "zeros.mp3": (bytes(100_000), "damaged"),
    "sync words.mp3": (b"\xff\xfb" * 50_000, "damaged"),
    "tiny packets.avi": (avi_of_tiny_packets(32_000), "2.0 s"),
}
"""Files with false headers, and the expected result of each: an error's code, or a number of seconds."""
