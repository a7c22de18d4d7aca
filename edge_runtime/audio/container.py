"""What a file or a pipe holds, by its first bytes; WAV headers, which pipes leave unfilled."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from edge_runtime.audio.raw import ENCODINGS, RawFormat

HEAD = 4096  # bytes by which a container is told, and in which a WAV's samples begin

# Of containers that libsndfile reads.
_READ = {
    b"RIFF": "WAV",
    b"RIFX": "WAV",
    b"RF64": "WAV",
    b"riff": "W64",
    b"FORM": "AIFF",
    b"fLaC": "FLAC",
    b"OggS": "OGG",
    b"ID3": "MP3",
    b".snd": "AU",
    b"caff": "CAF",
}
# Of those that it does not.
_FOREIGN = {
    b"#!AMR": "AMR",
    b"\x1a\x45\xdf\xa3": "WebM or Matroska",
    b"0&\xb2u": "WMA",
    b"MThd": "MIDI",
    b"MAC ": "Monkey's Audio",
    b"wvpk": "WavPack",
}
_FORMAT_PCM, _FORMAT_FLOAT, _FORMAT_ALAW, _FORMAT_MULAW, _FORMAT_EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
# What recorders leave in the size of a chunk that they could not go back to.
_UNFILLED = {0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF}


def kind_of(head: bytes) -> str | None:
    """The container that begins with `head`, if libsndfile reads it: "WAV", "MP3"...; else None."""
    for magic, kind in _READ.items():
        if head.startswith(magic):
            return kind
    # A frame of MPEG audio begins with eleven ones; layer and rate must be none of the reserved.
    if len(head) > 3 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        layer, bits, rate = head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
        if layer and bits not in (0, 15) and rate != 3:
            return "MP3"
    return None


def foreign_kind_of(head: bytes) -> str | None:
    """The container that begins with `head`, if it is one that needs ffmpeg; else None."""
    if head[4:8] == b"ftyp":
        return "MP4 or M4A"
    if len(head) > 3 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC"
    return next((kind for magic, kind in _FOREIGN.items() if head.startswith(magic)), None)


def ffmpeg_advice(name: str, kind: str) -> str:
    """What to do about a container that only ffmpeg reads."""
    return (
        f"{name} is {kind}, which is not read here; convert it: "
        f"ffmpeg -i {name} -f wav - | edge-emotion run -"
    )


@dataclass(frozen=True)
class WavHead:
    """What the head of a WAV says."""

    format: RawFormat
    offset: int
    """Byte at which the samples begin."""
    size: int | None
    """Bytes of samples that it promises; None where its recorder did not fill that in."""
    total: int
    """Bytes that the whole file should have, by its first chunk."""


def wav_head(head: bytes) -> WavHead | None:
    """Read the head of a RIFF WAV of plain samples; None for anything else.

    `head` reaches at least to the samples; compressed codecs are left to libsndfile.
    """
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    at, found = 12, None
    total = struct.unpack("<I", head[4:8])[0] + 8
    while at + 8 <= len(head):
        name, (size,) = head[at : at + 4], struct.unpack("<I", head[at + 4 : at + 8])
        if name == b"fmt " and at + 24 <= len(head):
            found = _format(head[at + 8 : at + 8 + size])
        if name == b"data":
            promised = None if size in _UNFILLED else size
            return WavHead(found, at + 8, promised, total) if found else None
        at += 8 + size + size % 2
    return None


def _format(chunk: bytes) -> RawFormat | None:
    code, channels, rate, _, _, bits = struct.unpack("<HHIIHH", chunk[:16])
    if code == _FORMAT_EXTENSIBLE and len(chunk) >= 26:
        (code,) = struct.unpack("<H", chunk[24:26])
    encoding = {
        (_FORMAT_PCM, 8): "u8",
        (_FORMAT_PCM, 16): "s16le",
        (_FORMAT_PCM, 24): "s24le",
        (_FORMAT_PCM, 32): "s32le",
        (_FORMAT_FLOAT, 32): "f32le",
        (_FORMAT_FLOAT, 64): "f64le",
        (_FORMAT_ALAW, 8): "alaw",
        (_FORMAT_MULAW, 8): "mulaw",
    }.get((code, bits), "")
    if encoding not in ENCODINGS or channels < 1:
        return None
    return RawFormat(encoding, rate, channels)
