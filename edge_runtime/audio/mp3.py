"""The length of an MP3 that was written to a pipe.

An encoder that can go back writes the number of frames into a first frame without sound (the Xing
header). Without it libsndfile guesses from the bit rate of the first frame that it sees, and stops
there: of a recording in variable bit rate half may be missing. So the frames are counted here, and
the header that is missing is put in front.
"""

from __future__ import annotations

from collections.abc import Iterator

# kbit/s by the four bits of the header; layer III of MPEG 1, and of MPEG 2 and 2.5.
_RATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_RATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_HAS_FRAMES = 1  # the Xing header's flag for a number of frames
_TAGS = (b"Xing", b"Info", b"VBRI")


def with_length(content: bytes) -> bytes | None:
    """The MP3 `content` with its number of frames in front; None where it has it, or is no MP3."""
    frames = list(_frames(content))
    if len(frames) < 2:
        return None
    start, size = frames[0]
    first = content[start : start + size]
    if any(tag in first for tag in _TAGS):
        return None
    mono = first[3] >> 6 == 3
    # The tag stands behind the side information, whose size the format fixes.
    side = (17 if mono else 32) if first[1] >> 3 & 3 == 3 else (9 if mono else 17)
    # Without a checksum, at the bit rate that has room for it.
    header = bytes((first[0], first[1] | 1, (first[2] & 0x0F) | 0x90, first[3]))
    room = _size(header)
    tag = b"Xing" + _HAS_FRAMES.to_bytes(4, "big") + len(frames).to_bytes(4, "big")
    return (header + bytes(side) + tag).ljust(room, b"\0") + content[start:]


def _frames(content: bytes) -> Iterator[tuple[int, int]]:
    """Where each frame begins, and its bytes."""
    at = _after_tags(content)
    while at + 4 <= len(content):
        size = _size(content[at : at + 4])
        if size == 0:
            at = content.find(b"\xff", at + 1)
            if at < 0:
                return
            continue
        yield at, size
        at += size


def _after_tags(content: bytes) -> int:
    """Where an ID3 tag in front ends; its size has seven bits a byte."""
    if content[:3] != b"ID3" or len(content) < 10:
        return 0
    size = 0
    for byte in content[6:10]:
        size = size << 7 | byte & 0x7F
    return size + 10


def _size(header: bytes) -> int:
    """Bytes of the frame with these four; 0 where they begin none of layer III."""
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bits, rate = header[2] >> 4, header[2] >> 2 & 3
    sync = header[0] == 0xFF and header[1] & 0xE0 == 0xE0
    if not sync or version == 1 or layer != 1 or bits in (0, 15) or rate == 3:
        return 0
    first = version == 3
    kilobits = (_RATES_1 if first else _RATES_2)[bits]
    return (144 if first else 72) * kilobits * 1000 // _HZ[version][rate] + (header[2] >> 1 & 1)
