"""What a file or a pipe holds, by its first bytes, and what to do where it is not read here."""

from __future__ import annotations

import shlex

from edge_runtime.audio import mpeg

HEAD = 4096  # bytes by which a container is told

# Of containers that libsndfile reads.
_READ = {
    b"RIFF": "WAV",
    b"RIFX": "WAV",
    b"RF64": "WAV",
    b"BW64": "WAV",
    b"riff": "W64",
    b"FORM": "AIFF",
    b"fLaC": "FLAC",
    b"OggS": "OGG",
    b"ID3": mpeg.KIND,
    b".snd": "AU",
    b"dns.": "AU",
    b"caff": "CAF",
    b"NIST_1A": "NIST",
    b"Creative Voice File": "VOC",
    b"\x64\xa3\1\0": "IRCAM",
    b"\x64\xa3\2\0": "IRCAM",
    b"\x64\xa3\3\0": "IRCAM",
    b"\0\1\xa3\x64": "IRCAM",
    b"\0\2\xa3\x64": "IRCAM",
    b"\0\3\xa3\x64": "IRCAM",
    b" paf": "PAF",
    b"fap ": "PAF",
    b"PVF1": "PVF",
    b"2BIT": "AVR",
    b"ALawSoundFile": "WVE",
    b"MATLAB 5.0": "MATLAB",
    b"Extended Instrument": "XI",
}
# Of those that it does not.
_FOREIGN = {
    b"#!AMR": "AMR",
    b"#!SILK": "SILK",
    b"\x1a\x45\xdf\xa3": "WebM or Matroska",
    b"0&\xb2u": "WMA",
    b"MThd": "MIDI",
    b"MAC ": "Monkey's Audio",
    b"wvpk": "WavPack",
    b"TTA1": "TTA",
    b"MPCK": "Musepack",
    b"MP+": "Musepack",
    b"DSD ": "DSD",
    b"FRM8": "DSD",
    b".RMF": "RealAudio",
    b".ra\xfd": "RealAudio",
    b".SoX": "SoX's own",
    b"XoS.": "SoX's own",
    b"FLV\1": "Flash video",
    b"\0\0\1\xba": "MPEG video",
    b"\x7f\xfe\x80\x01": "DTS",
}
_TRANSPORT_PACKET = 188  # bytes of MPEG-TS, each of which begins with 0x47
# Of things that are no audio at all.
_NO_AUDIO = {
    b"PK\3\4": "a zip archive",
    b"\x1f\x8b\x08": "compressed by gzip",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff\xe0": "a picture",
    b"\x7fELF": "a program",
}
_TEXT = bytes(range(0x20, 0x7F)) + b"\t\n\r"


def kind_of(head: bytes) -> str | None:
    """The container that begins with `head`, if libsndfile reads it: "WAV", "MP3"...; else None.

    `head` is best of `HEAD` bytes: samples without a container may look like one frame of MPEG
    audio, but not like two.
    """
    if head[:4] == b"RIFF" and head[8:12] not in (b"WAVE", b""):
        return None
    for magic, kind in _READ.items():
        if head.startswith(magic):
            return kind
    return mpeg.KIND if mpeg.begins(head) else None


def foreign_kind_of(head: bytes) -> str | None:
    """The container that begins with `head`, if it is one that needs ffmpeg; else None."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "MP4 or M4A"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "AVI"
    if mpeg.begins_aac(head):
        return "AAC"
    if head.startswith(b"\x0b\x77") and head[5:6] and head[5] >> 3 in (6, 8, 16):
        return "AC-3"
    packets = head[::_TRANSPORT_PACKET]
    if len(packets) > 3 and packets.strip(b"\x47") == b"":
        return "MPEG-TS"
    return next((kind for magic, kind in _FOREIGN.items() if head.startswith(magic)), None)


def no_audio_of(head: bytes) -> str | None:
    """What else begins with `head`: "text", "a picture"...; None where it may be samples."""
    if len(head) >= 32 and not head.translate(None, _TEXT):
        return "text"
    return next((what for magic, what in _NO_AUDIO.items() if head.startswith(magic)), None)


def may_be_frames(head: bytes) -> bool:
    """Whether it takes `HEAD` bytes, rather than the first few, to tell MPEG from samples."""
    return mpeg.frame_bytes(head[:4]) > 0 or mpeg.aac_bytes(head[:7]) > 0 or head[:1] == b"\x47"


def ffmpeg_command(name: str) -> str:
    """How ffmpeg brings what is not read here."""
    return f"ffmpeg -i {shlex.quote(name)} -f wav - | edge-emotion run -"


def ffmpeg_advice(name: str, kind: str) -> str:
    """What to do about a container that only ffmpeg reads."""
    return f"{name} is {kind}, which is not read here; convert it: {ffmpeg_command(name)}"
