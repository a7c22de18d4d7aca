"""Samples in, MFCC frames with deltas out: one code path for training, files and live streams.

Reproduces `python_speech_features.mfcc(..., winfunc=numpy.hamming)` followed by two passes of its
`delta(..., N=2)`, in float32 and frame by frame as the samples arrive: however the samples are cut
into chunks, the frames are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Int16 = npt.NDArray[np.int16]

SAMPLE_RATE = 16_000  # Hz, mono
DELTA_SPAN = 2  # frames on each side of a delta
DELTA_ORDERS = 2  # delta and delta-delta
LOOKAHEAD = DELTA_SPAN * DELTA_ORDERS  # frames of audio that a finished frame waits for
_BLOCK = 256  # frames transformed at a time: the work arrays stay inside the CPU's cache
_LONGEST_FFT = 1 << 16  # points; beyond, a frame is no longer a moment of speech
_ENERGY_FLOOR = float(np.finfo(np.float64).eps)  # what python_speech_features puts for a zero


@dataclass(frozen=True)
class MfccParams:
    """Every number that fixes what a feature means; a bundle carries them all."""

    sample_rate: int = SAMPLE_RATE
    """Samples a second."""
    window: int = 400
    """Samples in a frame (25 ms)."""
    hop: int = 160
    """Samples from one frame to the next (10 ms)."""
    fft: int = 512
    """Points of the Fourier transform."""
    preemphasis: float = 0.97
    """Coefficient of the first-order high-pass filter."""
    mels: int = 40
    """Triangular mel filters."""
    low_hz: float = 20.0
    """Lower edge of the first filter, Hz."""
    high_hz: float = 8000.0
    """Upper edge of the last filter, Hz."""
    cepstra: int = 32
    """Cepstral coefficients kept; the first is replaced by the log energy."""
    lifter: int = 22
    """Sinusoidal lifter length L: c_n is scaled by 1 + L/2 sin(pi n / L)."""

    def __post_init__(self) -> None:
        """ValueError for numbers that do not fit together."""
        if not (
            0 < self.hop <= self.window <= self.fft <= _LONGEST_FFT
            and 0 < self.cepstra <= self.mels <= self.fft // 2
            and self.lifter > 0
            and 0 <= self.low_hz < self.high_hz <= self.sample_rate / 2
        ):
            raise ValueError(f"these do not fit together: {self}")

    @property
    def features(self) -> int:
        """Width of a frame: cepstra, deltas and delta-deltas."""
        return self.cepstra * (1 + DELTA_ORDERS)

    def frame_count(self, samples: int) -> int:
        """Frames that `samples` samples give, the last one zero-padded; 0 for none."""
        if samples <= 0:
            return 0
        return 1 + max(0, -(-(samples - self.window) // self.hop))

    def seconds(self, frames: int) -> float:
        """Length in seconds of `frames` hops."""
        return frames * self.hop / self.sample_rate


DEFAULT_PARAMS = MfccParams()


def mfcc(samples: npt.ArrayLike, params: MfccParams = DEFAULT_PARAMS) -> Float32:
    """MFCC, delta and delta-delta of a whole signal.

    Parameters
    ----------
    samples : array of shape (n,), mono at `params.sample_rate`; float in [-1, 1] or int16.
    params : the feature definition.

    Returns
    -------
    float32 array of shape (frames, params.features): [cepstra | delta | delta-delta].

    Raises
    ------
    ValueError : samples that are not one-dimensional, not float or int16, or not finite.
    """
    stream = MfccStream(params)
    return np.concatenate([stream.feed(samples), stream.flush()])


def to_pcm_scale(samples: npt.ArrayLike) -> Float32:
    """Checked mono samples as float32 on the int16 scale: floats in [-1, 1] times 32768.

    Features are defined on that scale, as python_speech_features applied to a 16-bit WAV: the log
    energies of near-silent frames then stay clear of the floor that replaces log(0).
    Raises ValueError for another shape or type, and for NaN or infinity.
    """
    array = np.asarray(samples)
    if array.ndim != 1:
        raise ValueError(f"samples must be mono, shape (n,), not {array.shape}")
    if array.dtype == np.int16:
        return array.astype(np.float32)
    if array.dtype.kind != "f":
        raise ValueError(f"samples must be float or int16, not {array.dtype}")
    scaled = array.astype(np.float32) * np.float32(32768.0)
    # A sum is not finite as soon as one term is not, and costs no temporary array.
    if not np.isfinite(scaled.sum()) and not np.isfinite(scaled).all():
        raise ValueError("samples hold NaN or infinity")
    return scaled


class MfccStream:
    """Features of one utterance, computed as its samples arrive.

    `feed` returns the frames that are final: they lag the samples by a window and by `LOOKAHEAD`
    frames for the deltas. `flush` zero-pads the last window, repeats the edge frame for the
    deltas as python_speech_features does, returns what is left and resets for the next utterance.
    """

    def __init__(self, params: MfccParams = DEFAULT_PARAMS) -> None:
        self.params = params
        self._projection = _projection(params)
        self._window = np.hamming(params.window).astype(np.float32)
        self._frames = np.zeros((_BLOCK, params.fft), np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget the running utterance."""
        self._previous: np.float32 | None = None
        self._pending: Float32 = np.empty(0, np.float32)
        self._emitted = 0
        self._received = 0
        self._first_delta = _Delta()
        self._second_delta = _Delta()
        self._cepstra: Float32 = np.empty((0, self.params.cepstra), np.float32)
        self._deltas: Float32 = np.empty((0, self.params.cepstra), np.float32)

    def feed(self, samples: npt.ArrayLike) -> Float32:
        """Take samples, shape (n,); return the finished frames, shape (k, features)."""
        signal = to_pcm_scale(samples)
        if signal.size == 0:
            return self._assemble(np.empty((0, self.params.cepstra), np.float32))
        self._received += signal.size
        self._pending = np.concatenate([self._pending, self._emphasize(signal)])
        window, hop = self.params.window, self.params.hop
        ready = max(0, (self._pending.size - window) // hop + 1)
        cepstra = self._static(ready)
        self._pending = self._pending[ready * hop :]
        return self._assemble(cepstra)

    def flush(self) -> Float32:
        """Close the utterance: its remaining frames, shape (k, features)."""
        window, hop = self.params.window, self.params.hop
        left = self.params.frame_count(self._received) - self._emitted
        if left > 0:
            padding = (left - 1) * hop + window - self._pending.size
            self._pending = np.concatenate([self._pending, np.zeros(padding, np.float32)])
        cepstra = self._static(left)
        frames = self._assemble(cepstra, final=True)
        self.reset()
        return frames

    def _emphasize(self, signal: Float32) -> Float32:
        coefficient = np.float32(self.params.preemphasis)
        out = signal.copy()
        out[1:] -= coefficient * signal[:-1]
        if self._previous is not None:
            out[0] -= coefficient * self._previous
        self._previous = signal[-1]
        return out

    def _static(self, count: int) -> Float32:
        """Log energy and cepstra 1.. of the first `count` windows of the pending signal."""
        params = self.params
        result = np.empty((count, params.cepstra), np.float32)
        if count == 0:
            return result
        self._emitted += count
        windows = np.lib.stride_tricks.sliding_window_view(self._pending, params.window)
        windows = windows[:: params.hop][:count]
        mel, cepstral = self._projection
        for start in range(0, count, _BLOCK):
            block = windows[start : start + _BLOCK]
            padded = self._frames[: len(block)]
            np.multiply(block, self._window, out=padded[:, : params.window])
            spectrum = np.fft.rfft(padded)
            parts = spectrum.view(np.float32)  # (n, 2 x bins), real and imaginary interleaved
            np.square(parts, out=parts)
            energies = parts @ mel
            np.maximum(energies, np.float32(_ENERGY_FLOOR), out=energies)
            np.log(energies, out=energies)
            np.matmul(energies, cepstral, out=result[start : start + _BLOCK])
        return result

    def _assemble(self, cepstra: Float32, final: bool = False) -> Float32:
        """Join the static frames with the deltas that have become known."""
        delta = self._first_delta.feed(cepstra, final)
        acceleration = self._second_delta.feed(delta, final)
        self._cepstra = np.concatenate([self._cepstra, cepstra])
        self._deltas = np.concatenate([self._deltas, delta])
        ready = len(acceleration)
        frames = np.concatenate([self._cepstra[:ready], self._deltas[:ready], acceleration], axis=1)
        self._cepstra = self._cepstra[ready:]
        self._deltas = self._deltas[ready:]
        return frames


class _Delta:
    """Regression deltas over +-2 frames, edges repeated: d_t = sum_n n (c_{t+n} - c_{t-n}) / 10."""

    def __init__(self) -> None:
        self._context: Float32 | None = None

    def feed(self, frames: Float32, final: bool) -> Float32:
        """Deltas of all frames that have two successors (or, when final, of all)."""
        if self._context is None:
            if len(frames) == 0:
                return frames
            self._context = np.repeat(frames[:1], DELTA_SPAN, axis=0)
        padded = np.concatenate([self._context, frames])
        if final:
            padded = np.concatenate([padded, np.repeat(padded[-1:], DELTA_SPAN, axis=0)])
        count = len(padded) - 2 * DELTA_SPAN
        if count <= 0:
            self._context = padded
            return np.empty((0, frames.shape[1]), np.float32)
        self._context = padded[count:]
        # Written for DELTA_SPAN == 2; 2 (1^2 + 2^2) = 10.
        near = padded[3 : 3 + count] - padded[1 : 1 + count]
        far = padded[4 : 4 + count] - padded[:count]
        return np.asarray((near + np.float32(2) * far) / np.float32(10), np.float32)


@lru_cache(maxsize=4)
def _projection(params: MfccParams) -> tuple[Float32, Float32]:
    """The two constant matrices of the transform.

    The first, (2 x bins, mels + 1), sums the squared real and imaginary parts into mel energies
    and, in its last column, the total energy; 1 / fft of the periodogram is folded in. The second,
    (mels + 1, cepstra), is the orthonormal DCT-II times the lifter; its first column picks the log
    energy in place of c0.
    """
    bins = params.fft // 2 + 1
    edges = np.floor(
        (params.fft + 1)
        * _mel_to_hz(
            np.linspace(_hz_to_mel(params.low_hz), _hz_to_mel(params.high_hz), params.mels + 2)
        )
        / params.sample_rate
    )
    bank = np.zeros((bins, params.mels + 1))
    for index in range(params.mels):
        left, centre, right = edges[index : index + 3]
        for k in range(int(left), int(centre)):
            bank[k, index] = (k - left) / (centre - left)
        for k in range(int(centre), int(right)):
            bank[k, index] = (right - k) / (right - centre)
    bank[:, -1] = 1.0
    mel = np.repeat(bank / params.fft, 2, axis=0).astype(np.float32)

    n = np.arange(params.cepstra)
    m = np.arange(params.mels)
    dct = np.sqrt(2.0 / params.mels) * np.cos(np.pi * np.outer(m + 0.5, n) / params.mels)
    lift = 1.0 + params.lifter / 2.0 * np.sin(np.pi * n / params.lifter)
    cepstral = np.zeros((params.mels + 1, params.cepstra))
    cepstral[:-1, 1:] = (dct * lift)[:, 1:]
    cepstral[-1, 0] = 1.0
    return mel, cepstral.astype(np.float32)


def _hz_to_mel(hz: float) -> float:
    return 2595.0 * float(np.log10(1.0 + hz / 700.0))


def _mel_to_hz(mel: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))
