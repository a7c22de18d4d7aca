"""Samples without a container, as a pipe or a socket carries them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from edge_runtime.audio import BLOCK_SECONDS
from edge_runtime.pcm import SAMPLE_RATE, Float32

_MOST_BYTES = 4 << 20  # read at a time: a head may name any rate and number of channels

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class RawFormat:
    """How bytes are read as frames."""

    encoding: str = "s16le"
    """One of `ENCODINGS`, named as ffmpeg does."""
    rate: int = SAMPLE_RATE
    """Frames a second, Hz."""
    channels: int = 1
    """Samples a frame."""

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame."""
        return ENCODINGS[self.encoding].width * self.channels

    @property
    def block_bytes(self) -> int:
        """Bytes to read at a time: those of about 0.1 s."""
        frames = min(round(BLOCK_SECONDS * self.rate), _MOST_BYTES // self.frame_bytes)
        return max(1, frames) * self.frame_bytes

    def frames(self, data: bytes) -> Float32:
        """Whole frames as float in [-1, 1], (n, channels)."""
        with np.errstate(over="ignore"):  # becomes infinity, which is counted where it is mended
            samples = ENCODINGS[self.encoding].decode(np.frombuffer(data, np.uint8))
        return samples.reshape(-1, self.channels)

    def pieces(
        self, read: Callable[[int], bytes], warnings: list[str], name: str
    ) -> Iterator[Float32]:
        """Frames as they arrive, (n, channels) each, until `read` brings nothing more."""
        size = self.block_bytes
        rest = b""
        while data := read(size):
            data = rest + data
            whole = len(data) // self.frame_bytes * self.frame_bytes
            rest = data[whole:]
            if whole:
                yield self.frames(data[:whole])
        if rest:
            warnings.append(f"{name} ended in the middle of a sample")


@dataclass(frozen=True)
class _Encoding:
    width: int
    """Bytes of a sample."""
    decode: Callable[[Bytes], Float32]


def _integers(kind: str, scale: float, offset: float = 0.0) -> Callable[[Bytes], Float32]:
    def decode(data: Bytes) -> Float32:
        values = data.view(kind).astype(np.float64)
        return np.asarray((values - offset) / scale, np.float32)

    return decode


def _floats(kind: str) -> Callable[[Bytes], Float32]:
    return lambda data: data.view(kind).astype(np.float32)


def _s24(big: bool) -> Callable[[Bytes], Float32]:
    def decode(data: Bytes) -> Float32:
        three = data.reshape(-1, 3)
        four = np.zeros((len(three), 4), np.uint8)
        four[:, 1:] = three[:, ::-1] if big else three
        return np.asarray(four.view("<i4")[:, 0] / 2.0**31, np.float32)

    return decode


def _mulaw() -> Float32:
    """ITU-T G.711, by the formula of its table 2a: sign, 3 bits exponent, 4 bits mantissa."""
    code = ~np.arange(256, dtype=np.uint8)
    value = ((code & 0x0F).astype(np.int32) << 3) + 0x84 << ((code >> 4) & 7).astype(np.int32)
    value -= 0x84
    return np.asarray(np.where(code & 0x80, -value, value) / 32768.0, np.float32)


def _alaw() -> Float32:
    """ITU-T G.711, table 1a."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent = ((code >> 4) & 7).astype(np.int32)
    value = ((code & 0x0F).astype(np.int32) << 4) + 8
    value = np.where(exponent > 0, (value + 0x100) << np.maximum(exponent - 1, 0), value)
    return np.asarray(np.where(code & 0x80, value, -value) / 32768.0, np.float32)


def _looked_up(table: Float32) -> Callable[[Bytes], Float32]:
    return lambda data: table[data]


ENCODINGS = {
    "s16le": _Encoding(2, _integers("<i2", 2.0**15)),
    "s16be": _Encoding(2, _integers(">i2", 2.0**15)),
    "s24le": _Encoding(3, _s24(False)),
    "s24be": _Encoding(3, _s24(True)),
    "s32le": _Encoding(4, _integers("<i4", 2.0**31)),
    "s32be": _Encoding(4, _integers(">i4", 2.0**31)),
    "f32le": _Encoding(4, _floats("<f4")),
    "f32be": _Encoding(4, _floats(">f4")),
    "f64le": _Encoding(8, _floats("<f8")),
    "f64be": _Encoding(8, _floats(">f8")),
    "s8": _Encoding(1, _integers("i1", 2.0**7)),
    "u8": _Encoding(1, _integers("u1", 2.0**7, 128.0)),
    "mulaw": _Encoding(1, _looked_up(_mulaw())),
    "alaw": _Encoding(1, _looked_up(_alaw())),
}
"""What `--format` takes."""


def read_some(stream: BinaryIO, size: int) -> bytes:
    """What has arrived, at most `size` bytes: a live stream must not wait for a full block."""
    reader = getattr(stream, "read1", stream.read)
    return bytes(reader(size))
