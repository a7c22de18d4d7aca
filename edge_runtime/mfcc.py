"""Samples in, MFCC frames with deltas out: one code path for training, files and live streams.

Reproduces `python_speech_features.mfcc(..., winfunc=numpy.hamming)` followed by two passes of its
`delta(..., N=2)`, in float32 and frame by frame as the samples arrive: however the samples are cut
into chunks, the frames are the same.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.pcm import FULL_SCALE, SAMPLE_RATE, Float32, Int16

DELTA_SPAN = 2  # frames on each side of a delta
DELTA_ORDERS = 2  # delta and delta-delta
LOOKAHEAD = DELTA_SPAN * DELTA_ORDERS  # frames of audio that a finished frame waits for
_BLOCK = 64  # frames transformed at a time: the work arrays stay inside the CPU's cache
_GROUP = 8  # frames in a product: see `_Work`
_ROWS = 512  # cepstra held until their deltas are taken: long files in constant memory
_LONGEST_FFT = 1 << 16  # points; beyond, a frame is no longer a moment of speech
ENERGY_FLOOR = float(np.finfo(np.float64).eps)  # what python_speech_features puts for a zero


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
    stream = _idle.stream
    if stream is None or stream.params != params:
        stream = _idle.stream = MfccStream(params)
    stream.reset()  # an interrupt may have left an utterance half done
    return stream.whole(samples)


class _Idle(threading.local):
    """The stream that `mfcc` uses again: its work arrays need not be made for every clip."""

    stream: MfccStream | None = None


_idle = _Idle()


def _checked(samples: npt.ArrayLike) -> Int16 | Float32:
    """Checked mono samples on the int16 scale: floats in [-1, 1] times 32768, as float32.

    Features are defined on that scale, as python_speech_features applied to a 16-bit WAV: the log
    energies of near-silent frames then stay clear of the floor that replaces log(0).
    Raises ValueError for another shape or type, and for NaN or infinity.
    """
    array = np.asarray(samples)
    if array.ndim != 1:
        raise ValueError(f"samples must be mono, shape (n,), not {array.shape}")
    if array.dtype == np.int16:
        return array
    if array.dtype.kind != "f":
        raise ValueError(f"samples must be float or int16, not {array.dtype}")
    scaled = array.astype(np.float32) * np.float32(FULL_SCALE)
    # A sum is not finite as soon as one term is not, and costs no temporary array.
    with np.errstate(invalid="ignore"):
        finite = np.isfinite(scaled.sum())
    if not finite and not np.isfinite(scaled).all():
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
        self._transform = _transform(params)
        longest = params.window + (_BLOCK - 1) * params.hop
        self._raw = np.zeros(1 + longest, np.float32)  # the sample before it, then the samples
        self._signal = np.zeros(longest, np.float32)  # emphasized, not yet past every window
        windows = np.lib.stride_tricks.sliding_window_view(self._signal, params.window)
        self._windows = windows[:: params.hop]
        self._work = _Work(self._transform)
        self._deltas = _Deltas(params.cepstra)
        self.reset()

    def reset(self) -> None:
        """Forget the running utterance."""
        self._raw[0] = 0.0
        self._pending = 0  # samples in `_signal`
        self._received = 0
        self._transformed = 0
        self._emitted = 0
        self._deltas.reset()

    def feed(self, samples: npt.ArrayLike) -> Float32:
        """Take samples, shape (n,); return the finished frames, shape (k, features)."""
        return self._advance(_checked(samples), False)

    def flush(self) -> Float32:
        """Close the utterance: its remaining frames, shape (k, features)."""
        return self._advance(np.empty(0, np.int16), True)

    def whole(self, samples: npt.ArrayLike) -> Float32:
        """Take the last samples, shape (n,), and close the utterance: its remaining frames."""
        return self._advance(_checked(samples), True)

    def _advance(self, signal: Int16 | Float32, final: bool) -> Float32:
        params = self.params
        self._received += signal.size
        complete = max(0, (self._received - params.window) // params.hop + 1)
        frames = params.frame_count(self._received) if final else max(0, complete - LOOKAHEAD)
        out = np.empty((frames - self._emitted, params.features), np.float32)
        done = 0
        while signal.size:
            room = self._signal.size - self._pending
            self._emphasize(signal[:room])
            signal = signal[room:]
            self._transform_windows(max(0, (self._pending - params.window) // params.hop + 1))
            if self._deltas.full:
                done += self._deltas.take(False, out[done:])
        if final:
            # What no complete window covers is at most one window, padded with zeros.
            self._signal[self._pending : params.window] = 0.0
            self._transform_windows(frames - self._transformed)
            self._deltas.take(True, out[done:])
            self.reset()
        else:
            self._deltas.take(False, out[done:])
            self._emitted = frames
        return out

    def _emphasize(self, signal: Int16 | Float32) -> None:
        """Append samples to the pending signal, through the high-pass filter."""
        count = signal.size
        raw, end = self._raw, self._pending + count
        emphasized = self._signal[self._pending : end]
        raw[1 : 1 + count] = signal
        np.multiply(raw[:count], np.float32(-self.params.preemphasis), out=emphasized)
        emphasized += raw[1 : 1 + count]
        raw[0] = raw[count]
        self._pending = end

    def _transform_windows(self, count: int) -> None:
        """Cepstra of the first `count` windows of the pending signal, which are used up."""
        if count <= 0:
            return
        lane = self._transformed % _GROUP
        self._deltas.append(self._work.run(self._windows[:count], lane))
        used = count * self.params.hop
        left = max(0, self._pending - used)
        self._signal[:left] = self._signal[used : self._pending]
        self._pending = left
        self._transformed += count


class _Deltas:
    """Cepstra in, frames of cepstra, deltas and delta-deltas out, as soon as they are known.

    python_speech_features takes d_t = sum_n n (c_{t+n} - c_{t-n}) / 10 over n = 1, 2, twice, and
    repeats the edge of what it is given each time. All three orders are linear in the nine cepstra
    around a frame: one small product a frame, always of the same shape (see `_Work`). At an edge,
    four rows stand for what lies beyond: two repeat the first cepstra, and two are chosen so that
    the deltas repeat as well.
    """

    def __init__(self, width: int) -> None:
        self._rows = np.zeros((_ROWS, width), np.float32)
        self._taps, self._edge = _delta_taps()
        around = np.lib.stride_tricks.sliding_window_view(self._rows, self._taps.shape[1], axis=0)
        self._around = around.swapaxes(1, 2)  # (frames, nine rows, width)
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        self._filled = LOOKAHEAD  # the left edge, written when its cepstra are known
        self._started = False

    @property
    def full(self) -> bool:
        """Whether `take` must come before the next block of cepstra."""
        return self._filled + _BLOCK + LOOKAHEAD > _ROWS

    def append(self, cepstra: Float32) -> None:
        """Take the next rows, (n, width) with n from 1 to `_BLOCK`."""
        self._rows[self._filled : self._filled + len(cepstra)] = cepstra
        self._filled += len(cepstra)

    def take(self, final: bool, out: Float32) -> int:
        """Write the frames now known into the first rows of `out`; returns how many.

        With `final` all of them; `reset` must follow.
        """
        rows = self._rows
        if final and self._filled > LOOKAHEAD:
            end = self._filled
            rows[end : end + LOOKAHEAD] = rows[end - 1]
            self._begin()
            rows[end : end + LOOKAHEAD] = self._edge[::-1, ::-1] @ rows[end - 3 : end]
            self._filled += LOOKAHEAD
        frames = self._filled - 2 * LOOKAHEAD
        if frames <= 0:
            return 0
        self._begin()
        orders = out[:frames].reshape(frames, 1 + DELTA_ORDERS, -1)
        np.matmul(self._taps, self._around[:frames], out=orders)
        rows[: 2 * LOOKAHEAD] = rows[frames : self._filled]
        self._filled = 2 * LOOKAHEAD
        return frames

    def _begin(self) -> None:
        if not self._started:
            self._started = True
            self._rows[:LOOKAHEAD] = self._edge @ self._rows[LOOKAHEAD : LOOKAHEAD + 3]


@lru_cache(maxsize=1)
def _delta_taps() -> tuple[Float32, Float32]:
    """What the three orders take from the cepstra around a frame, and the rows before the first.

    The first, (3, 9), takes cepstra from four rows before the frame to four after it. The second,
    (4, 3), gives c_-4 to c_-1 from c_0 to c_2: c_-1 = c_-2 = c_0, and c_-3, c_-4 solve
    d_-1 = d_0 and d_-2 = d_0.
    """
    delta = np.array([-2, -1, 0, 1, 2]) / 10
    taps = np.zeros((1 + DELTA_ORDERS, 2 * LOOKAHEAD + 1), np.float32)
    taps[0, LOOKAHEAD] = 1.0
    taps[1, DELTA_SPAN : DELTA_SPAN + len(delta)] = delta
    taps[2] = np.convolve(delta, delta)
    edge = np.array([[2.25, -0.75, -0.5], [1.5, 0.5, -1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    return taps, edge.astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Transform:
    """The constant matrices that take a window to its cepstra.

    The Fourier transform is Cooley and Tukey's (1965) with two factors, fft = A B, each stage a
    product of small dense matrices: three times the multiplications of a fast transform, at many
    times their rate, because a BLAS runs them on whole vectors. numpy's own transform takes one
    window at a time and was 70 % of the time of all features.
    """

    window: Float32
    """Hamming window, (window,)."""
    first: Float32
    """Over every B-th sample: (2 G, ceil(window / B)) with G = A / 2 + 1 frequencies, real and
    imaginary row in turn; the other half of the A frequencies is theirs mirrored."""
    second: Float32
    """Over the B phases, twiddle factors folded in: (2, 1, G, 2 B, B), to the real parts and to
    the imaginary parts; in the rows both of what the first stage gives."""
    mel: Float32
    """Power to mel energies, and in the last column the total energy: (G B, mels + 1); the
    periodogram's 1 / fft is folded in."""
    cepstral: Float32
    """Log energies to cepstra, (mels + 1, cepstra)."""


class _Work:
    """Runs `_Transform` over windows, in arrays that are used again and again.

    Every product has one fixed shape, of one window or of `_GROUP` windows side by side, in which
    a window's place is its number in the utterance: a BLAS has other kernels for other shapes and
    for the edges of a matrix, which round differently. So a frame has the same bits whatever it
    is computed together with. The products are also too small for a BLAS to use threads.
    """

    def __init__(self, transform: _Transform) -> None:
        self._transform = transform
        _, _, frequencies, _, phases = transform.second.shape
        blocks = transform.first.shape[1]
        groups = _BLOCK // _GROUP + 1  # one more, for a block that begins inside a group
        in_groups = (groups, _GROUP)
        self._windowed = np.zeros((*in_groups, blocks * phases), np.float32)
        self._partial = np.empty((*in_groups, 2 * frequencies, phases), np.float32)
        self._spectrum = np.empty((2, *in_groups, frequencies * phases), np.float32)
        self._power = np.empty((*in_groups, frequencies * phases), np.float32)
        self._energies = np.empty((*in_groups, transform.mel.shape[1]), np.float32)
        self._cepstra = np.empty((*in_groups, transform.cepstral.shape[1]), np.float32)
        self._windows = self._windowed.reshape(groups * _GROUP, -1)
        self._blocks = self._windowed.reshape(*in_groups, blocks, phases)
        # (groups, frequencies, windows, phases): in the second stage windows stand side by side.
        self._phases = self._partial.reshape(*in_groups, frequencies, -1).swapaxes(1, 2)
        self._bins = self._spectrum.reshape(2, *in_groups, frequencies, phases).swapaxes(2, 3)

    def run(self, windows: Float32, lane: int) -> Float32:
        """Windows of the signal (n, window), n <= `_BLOCK`, to their cepstra, (n, cepstra).

        `lane` is the place of the first in its group. What comes back is overwritten by the next
        call.
        """
        transform, end = self._transform, lane + len(windows)
        groups = -(-end // _GROUP)
        spectrum, power = self._spectrum[:, :groups], self._power[:groups]
        energies, cepstra = self._energies[:groups], self._cepstra[:groups]
        np.multiply(windows, transform.window, out=self._windows[lane:end, : windows.shape[1]])
        np.matmul(transform.first, self._blocks[:groups], out=self._partial[:groups])
        np.matmul(self._phases[:groups], transform.second, out=self._bins[:, :groups])
        np.square(spectrum, out=spectrum)
        np.add(spectrum[0], spectrum[1], out=power)
        np.matmul(power, transform.mel, out=energies)
        np.maximum(energies, np.float32(ENERGY_FLOOR), out=energies)
        np.log(energies, out=energies)
        np.matmul(energies, transform.cepstral, out=cepstra)
        return cepstra.reshape(groups * _GROUP, -1)[lane:end]


@lru_cache(maxsize=4)
def _transform(params: MfccParams) -> _Transform:
    fft = params.fft
    phases = max(n for n in range(1, fft + 1) if fft % n == 0 and n * n <= fft)  # B
    factor = fft // phases  # A
    groups = np.arange(factor // 2 + 1)
    blocks = np.arange(-(-params.window // phases))
    angle = -2 * np.pi * np.outer(groups, blocks) / factor
    first = np.stack([np.cos(angle), np.sin(angle)], axis=1).reshape(-1, len(blocks))
    frequency = groups[:, None] + factor * np.arange(phases)  # (G, B)
    angle = -2 * np.pi * np.arange(phases)[:, None] * frequency[:, None] / fft
    cos, sin = np.cos(angle), np.sin(angle)
    real, imaginary = np.concatenate([cos, -sin], axis=1), np.concatenate([sin, cos], axis=1)
    second = np.stack([real, imaginary])[:, None]
    # Mirrored frequencies have the same power; those that occur twice count half each.
    bins = np.minimum(frequency, fft - frequency).reshape(-1)
    occurrences = np.bincount(bins)[bins]
    mel = (_mel_bank(params) / fft)[bins] / occurrences[:, None]
    return _Transform(
        np.hamming(params.window).astype(np.float32),
        first.astype(np.float32),
        second.astype(np.float32),
        mel.astype(np.float32),
        cepstral_matrix(params).astype(np.float32),
    )


def _mel_bank(params: MfccParams) -> npt.NDArray[np.float64]:
    """Weight of each bin in each triangular filter, and 1 in the last column: (bins, mels + 1)."""
    bins = params.fft // 2 + 1
    edges = mel_edges(params)
    bank = np.zeros((bins, params.mels + 1))
    for index in range(params.mels):
        left, centre, right = edges[index : index + 3]
        for k in range(left, centre):
            bank[k, index] = (k - left) / (centre - left)
        for k in range(centre, right):
            bank[k, index] = (right - k) / (right - centre)
    bank[:, -1] = 1.0
    return bank


def mel_edges(params: MfccParams) -> npt.NDArray[np.int64]:
    """Bins at which the triangular filters begin, peak and end, (mels + 2,)."""
    mels = np.linspace(_hz_to_mel(params.low_hz), _hz_to_mel(params.high_hz), params.mels + 2)
    return np.floor((params.fft + 1) * _mel_to_hz(mels) / params.sample_rate).astype(np.int64)


def cepstral_matrix(params: MfccParams) -> npt.NDArray[np.float64]:
    """Log energies to cepstra, (mels + 1, cepstra).

    The orthonormal DCT-II times the lifter; its first column picks the log energy in place of c0.
    """
    n = np.arange(params.cepstra)
    m = np.arange(params.mels)
    dct = np.sqrt(2.0 / params.mels) * np.cos(np.pi * np.outer(m + 0.5, n) / params.mels)
    lift = 1.0 + params.lifter / 2.0 * np.sin(np.pi * n / params.lifter)
    cepstral = np.zeros((params.mels + 1, params.cepstra))
    cepstral[:-1, 1:] = (dct * lift)[:, 1:]
    cepstral[-1, 0] = 1.0
    return cepstral


def _hz_to_mel(hz: float) -> float:
    return 2595.0 * float(np.log10(1.0 + hz / 700.0))


def _mel_to_hz(mel: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))
