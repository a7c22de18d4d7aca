"""Frames of any rate and channel count to the runtime's one form: int16, mono, 16 kHz."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.audio import BLOCK_SECONDS, Block
from edge_runtime.errors import AudioError, MissingPackageError
from edge_runtime.pcm import SAMPLE_RATE, Float32, Int16, to_pcm

LOWEST_RATE, HIGHEST_RATE = 4_000, 768_000  # Hz; below, there is no speech; above, no recorder
_PROBE_SECONDS = 1.0  # from the first sound on, by which channels are judged
_CANCELLED = 0.05  # share of what unrelated channels leave in their mix, below which it is lost
_OVERSHOT = 1.12  # peak, 1 dB over full scale: lossy codecs go beyond it by less
_LOUD = 1e-4  # root mean square from which there is anything to judge, -80 dB of full scale


class Mono:
    """Converts one stream of frames, and keeps count of what it had to mend.

    Channels are averaged, unless they cancel each other (a balanced microphone wired as stereo, a
    phase switch): then the loudest is taken alone, which is told once. Other rates are
    converted with soxr. NaN and infinity become silence.

    Parameters
    ----------
    name : what to call the source in messages.
    rate : frames a second, Hz, 4,000 to 768,000.
    warnings : where to put what was mended, a sentence each.

    Raises AudioError for a rate that cannot be meant, MissingPackageError without soxr where it is
    needed.
    """

    def __init__(self, name: str, rate: int, warnings: list[str]) -> None:
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise AudioError(
                f"{name}: a rate of {rate} Hz cannot be meant; expected {LOWEST_RATE} to "
                f"{HIGHEST_RATE}"
            )
        self._name, self._rate, self._warnings = name, rate, warnings
        self._resampler = resampler(rate)
        self._channel: int | None = None  # the one that is taken; None for the mean
        self._invalid = 0
        self._clipped = 0
        self._peak = 0.0

    def blocks(self, pieces: Iterable[Float32]) -> Iterator[Block]:
        """Blocks as `pieces` come, float, (n, channels) each; nothing is held back but 1 s once.

        Every sample is there, the resampler's last ones too.
        """
        for piece in self._judged(pieces):
            before = self._invalid
            samples = self._convert(piece)
            yield Block(samples, invalid=self._invalid - before)
        tail = self._flush()
        if tail.size:
            yield Block(tail)
        if self._invalid:
            self._warnings.append(
                f"{self._name}: {self._invalid} samples were NaN or infinite and taken for silence"
            )
        if self._peak > _OVERSHOT:
            self._warnings.append(
                f"{self._name}: {self._clipped} samples above full scale were clipped"
            )

    def _judged(self, pieces: Iterable[Float32]) -> Iterator[Float32]:
        """The pieces; of several channels, the first that are loud wait until they are judged."""
        held: list[Float32] = []
        frames = 0
        judged = False
        for window in self._windows(pieces):
            if judged or window.shape[1] < 2 or (not held and not _is_loud(window)):
                yield window
                continue
            held.append(window)
            frames += len(window)
            if frames >= _PROBE_SECONDS * self._rate:
                judged = True
                self._judge(np.concatenate(held))
                yield from held
        if held and not judged:
            self._judge(np.concatenate(held))
            yield from held

    def _windows(self, pieces: Iterable[Float32]) -> Iterator[Float32]:
        """The pieces; of several channels, cut anew: how they come must not change a judgement."""
        size = max(1, round(BLOCK_SECONDS * self._rate))
        rest: list[Float32] = []
        held = 0
        for piece in pieces:
            if piece.shape[1] < 2:
                yield piece
                continue
            rest.append(piece)
            held += len(piece)
            if held >= size:
                joined = np.concatenate(rest)
                whole = held // size * size
                for at in range(0, whole, size):
                    yield joined[at : at + size]
                rest, held = [joined[whole:]], held - whole
        if held:
            yield np.concatenate(rest)

    def _judge(self, beginning: Float32) -> None:
        energies = _energies(beginning)
        mixed = float(_energies(_finite(beginning).mean(axis=1, keepdims=True))[0])
        loud = int(np.count_nonzero(energies > _LOUD**2))
        # Of one channel that is heard among many that are not, the mix is quiet, and whole; the
        # mix of channels that have nothing to do with each other has its share of the energy.
        if loud < 2 or mixed >= _CANCELLED * float(energies.mean()) / beginning.shape[1]:
            return
        self._channel = int(energies.argmax())
        self._warnings.append(
            f"{self._name}: its channels cancel each other when mixed; channel "
            f"{self._channel + 1} is taken alone"
        )

    def _convert(self, piece: Float32) -> Int16:
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is counted next
            samples = piece.mean(axis=1) if self._channel is None else piece[:, self._channel]
        invalid = ~np.isfinite(samples)
        if invalid.any():
            # Before resampling, which would spread them.
            self._invalid += int(invalid.sum())
            samples = np.where(invalid, np.float32(0), samples)
        sizes = np.abs(samples)
        self._clipped += int(np.count_nonzero(sizes > 1.0))
        self._peak = max(self._peak, float(sizes.max(initial=0.0)))
        return to_pcm(self._bounded(self._resampler(samples, False)))[0]

    def _flush(self) -> Int16:
        return to_pcm(self._bounded(self._resampler(np.empty(0, np.float32), True)))[0]

    def _bounded(self, samples: Float32) -> Float32:
        """Clipped here, where it was counted: what is far beyond full scale is no mistake here."""
        return np.clip(samples, -1.0, 1.0)


def _finite(samples: Float32) -> npt.NDArray[np.float64]:
    return np.nan_to_num(samples.astype(np.float64), nan=0, posinf=0, neginf=0)


def _energies(samples: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Mean square of each channel of (n, channels)."""
    return np.asarray(np.mean(_finite(np.asarray(samples)) ** 2, axis=0))


def _is_loud(samples: Float32) -> bool:
    return bool(_energies(samples).max(initial=0.0) > _LOUD**2)


def resampler(rate: int, what: str = "audio", extra: str = "files") -> Any:
    """Samples (n,) at `rate`, and whether they are the last, to those at 16 kHz known by then.

    MissingPackageError, that `what` needs soxr and `extra` brings it, without it where it is
    needed.
    """
    if rate == SAMPLE_RATE:
        return lambda samples, last: samples
    try:
        import soxr
    except ImportError:
        raise MissingPackageError(f"{what} at {rate} Hz", "soxr", extra) from None
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
    return lambda samples, last: stream.resample_chunk(samples, last=last)
