"""Frames of any rate and channel count to the runtime's one form: int16, mono, 16 kHz."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from edge_runtime.audio import Block
from edge_runtime.errors import AudioError, MissingPackageError
from edge_runtime.pcm import SAMPLE_RATE, Float32, Int16, to_pcm

LOWEST_RATE, HIGHEST_RATE = 4_000, 768_000  # Hz; below, there is no speech; above, no recorder
_PROBE_SECONDS = 3.0  # of the beginning, by which channels are judged
_CANCELLED = 0.02  # share of the channels' energy below which a mix has cancelled itself
_OVERSHOT = 1.12  # peak, 1 dB over full scale: lossy codecs go beyond it by less
_LOUD = 1e-4  # root mean square from which there is anything to judge, -80 dB of full scale


class Mono:
    """Converts one stream of frames, and keeps count of what it had to mend.

    Channels are averaged, unless they cancel each other (a balanced microphone wired as stereo, a
    phase switch): then the louder of the first two is taken, which is told once. Other rates are
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
        self._resampler = _resampler(rate)
        self._channel: int | None = None  # the one that is taken; None for the mean
        self._invalid = 0
        self._clipped = 0
        self._peak = 0.0

    def blocks(self, pieces: Iterable[Float32]) -> Iterator[Block]:
        """Blocks as `pieces` come, float, (n, channels) each; nothing is held back but 3 s once.

        Every sample is there, the resampler's last ones too.
        """
        for piece in self._judged(pieces):
            yield Block(self._convert(piece))
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
        """The pieces; of several channels, the first seconds wait until they are judged."""
        held: list[Float32] = []
        frames = 0
        judged = False
        for piece in pieces:
            if judged or piece.shape[1] < 2:
                yield piece
                continue
            held.append(piece)
            frames += len(piece)
            if frames >= _PROBE_SECONDS * self._rate:
                judged = True
                self._judge(np.concatenate(held))
                yield from held
        if held and not judged:
            self._judge(np.concatenate(held))
            yield from held

    def _judge(self, beginning: Float32) -> None:
        finite = np.nan_to_num(beginning.astype(np.float64), nan=0, posinf=0, neginf=0)
        energies = np.mean(finite**2, axis=0)
        mixed = float(np.mean(finite.mean(axis=1) ** 2))
        if energies.mean() > _LOUD**2 and mixed < _CANCELLED * float(energies.mean()):
            quiet = np.count_nonzero(energies > _LOUD**2) < 2
            if quiet:  # one channel that is heard among many that are not
                return
            self._channel = int(energies.argmax())
            self._warnings.append(
                f"{self._name}: its channels cancel each other when mixed; channel "
                f"{self._channel + 1} is taken alone"
            )

    def _convert(self, piece: Float32) -> Int16:
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


def _resampler(rate: int) -> Any:
    if rate == SAMPLE_RATE:
        return lambda samples, last: samples
    try:
        import soxr
    except ImportError:
        raise MissingPackageError(f"audio at {rate} Hz", "soxr", "files") from None
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
    return lambda samples, last: stream.resample_chunk(samples, last=last)
