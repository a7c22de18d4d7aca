"""A pre-trained encoder beside the model: what a network that heard much more makes of a voice.

The paper feeds a pre-trained embedding (x-vector) beside the convolutions (Peng et al. 2021, sec.
2.1). Here it is the first blocks of the encoder of Whisper-tiny (Radford et al. 2022, arXiv
2212.04356), as they are or trained further: mean and standard deviation of its states over an
utterance go through one linear layer, and what that says is joined with the model's own scores.

An utterance is heard in windows of fixed length that do not overlap: window k begins k lengths
after its first sample, and what lies beyond its end is silence. So nothing depends on how the
samples were cut. Until a first window is full, a partial verdict rests on the model alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import log

import numpy as np
import numpy.typing as npt

from edge_runtime.bundle import Bundle
from edge_runtime.errors import BundleError
from edge_runtime.graph import Array
from edge_runtime.manifest import PRETRAINED, PretrainedPart, PretrainedReferencePart
from edge_runtime.model.familiarity import factor, nearest
from edge_runtime.model.fusion import joined, log_softmax
from edge_runtime.model.reference import Opinion
from edge_runtime.pcm import FULL_SCALE, SAMPLE_RATE, Float32, Int16
from edge_runtime.pretrained_arrays import MELS, STRIDE

HOP = 160  # samples from one frame to the next: 10 ms
FFT = 400  # samples of a frame
BEFORE = FFT // 2  # samples that the first frame of a window reaches back
BLOCK = 25  # frames whose power is computed at a time: what is left to the end is little
_OVERLAP = FFT - HOP  # samples that a block's first frame shares with the last one before it
_LEAST_POWER = 1e-7  # of the samples so far, by which they are divided
_DYNAMIC = 8.0  # decades below the loudest band of a window that are told apart

Encoder = Callable[[Array], Sequence[Array]]
"""Log-mel windows (1, 80, frames), float32, to states (1, frames / 2, width)."""


class PretrainedStatistics:
    """Mean and standard deviation of an encoder's states over an utterance, as samples come.

    Parameters
    ----------
    encoder : graph of one input, log-mel windows (1, 80, frames), and one output.
    frames : length of a window, frames of 10 ms, even.
    width : width of a state.
    """

    def __init__(self, encoder: Encoder, frames: int, width: int) -> None:
        self._encoder, self._frames, self._width = encoder, frames, width
        # Of the block that is being heard: what its first frame reaches back to, and all it needs.
        self._held = np.zeros(BLOCK * HOP + _OVERLAP, np.float32)
        self._mels = np.empty((frames, MELS), np.float32)
        self._window = np.empty((1, MELS, frames), np.float32)
        self.reset()

    def reset(self) -> None:
        """Begin an utterance."""
        self._held[:BEFORE] = 0
        self._end = BEFORE
        self._known = 0  # frames of the window whose power is known
        self._heard, self._power = 0, 0.0
        self._count = 0
        self._sum, self._squares = np.zeros((2, self._width))

    def feed(self, samples: Int16 | Float32) -> None:
        """Take the next samples of the utterance, int16, or float in [-1, 1], shape (n,)."""
        scale = np.float32(1 / FULL_SCALE if samples.dtype.kind == "i" else 1.0)
        while samples.size:
            block = min(BLOCK, self._frames - self._known)
            size = block * HOP + _OVERLAP
            taken = samples[: size - self._end]
            end = self._end + taken.size
            np.multiply(taken, scale, out=self._held[self._end : end], casting="unsafe")
            self._end, samples = end, samples[taken.size :]
            if end == size:
                self._hear(block * HOP, block)
                # What the next block's first frame reaches back to comes along.
                self._held[:_OVERLAP] = self._held[block * HOP : size].copy()
                self._end = _OVERLAP
                if self._known == self._frames:
                    self._encode()

    def result(self) -> Float32 | None:
        """What is known of the windows that are complete, (2 x width,); None before the first."""
        if not self._count:
            return None
        mean = self._sum / self._count
        variance = np.maximum(self._squares / self._count - mean * mean, 0)
        return np.asarray(np.concatenate([mean, np.sqrt(variance)]), np.float32)

    def finish(self) -> Float32 | None:
        """Close the utterance and begin the next; None of one without a sample."""
        left = self._end - BEFORE  # of the block that is not complete
        if self._heard == 0 and left == 0:
            return None
        frames = min(left // HOP, self._frames - self._known)
        if self._known + frames == 0 and not self._count:
            frames = 1
        if self._known + frames:
            self._held[self._end :] = 0
            # Behind the last frame of a window the next one begins.
            last = self._known + frames == self._frames
            self._hear(min(left, frames * HOP) if last else left, frames)
            self._encode()
        found = self.result()
        self.reset()
        return found

    def _hear(self, samples: int, frames: int) -> None:
        """Take in the power of what is held, so many samples of it, and of so many frames."""
        real = self._held[BEFORE : BEFORE + samples].astype(np.float64)
        self._heard += samples
        self._power += float(real @ real)
        self._mels[self._known : self._known + frames] = mel_power(self._held, frames)
        self._known += frames

    def _encode(self) -> None:
        """Hear the window as far as its frames are known, and begin the next."""
        levels = _levels(self._mels[: self._known], self._power / self._heard)
        fill_window(self._window[0], levels)
        (states,) = self._encoder(self._window)
        valid = states[0, : max(1, self._known // STRIDE)].astype(np.float64)
        self._count += len(valid)
        self._sum += valid.sum(axis=0)
        self._squares += np.einsum("ij,ij->j", valid, valid)
        self._known = 0


def mel_levels(samples: Float32, frames: int, power: float) -> Float32:
    """`mel_power` beside the mean `power` of the samples heard so far, log10: (frames, 80)."""
    return _levels(mel_power(samples, frames), power)


def _levels(mels: Float32, power: float) -> Float32:
    own = np.float32(power + _LEAST_POWER)
    return np.asarray(np.log10(np.maximum(mels / own, np.float32(1e-10))), np.float32)


def fill_window(window: Float32, levels: Float32) -> None:
    """Put levels (n, 80) at the beginning of a window (80, frames), as Whisper scales them.

    What is quieter than 80 dB below the loudest is as quiet as that, and so is what lies behind.
    """
    floor = levels.max() - np.float32(_DYNAMIC)
    window.fill((floor + 4) / 4)
    window[:, : len(levels)] = ((np.maximum(levels, floor) + 4) / 4).T


def mel_power(samples: Float32, frames: int) -> Float32:
    """Whisper's mel spectrogram, power: (frames, 80).

    Frame n is of samples 160 n to 160 n + 400, under a periodic Hann window; 80 triangles that are
    alike on Slaney's mel scale and have an area of 1, as librosa's.
    """
    window, bank = _tables()
    rows = np.lib.stride_tricks.sliding_window_view(samples, FFT)[::HOP][:frames]
    found = np.empty((len(rows), MELS), np.float32)
    # Block by block: a product of other rows rounds otherwise.
    for first in range(0, len(rows), BLOCK):
        spectrum = np.fft.rfft(rows[first : first + BLOCK] * window, axis=1)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        found[first : first + BLOCK] = power.astype(np.float32) @ bank
    return found


@lru_cache(maxsize=1)
def _tables() -> tuple[Float32, Float32]:
    """Hann window (400,), and mel triangles (bins, 80)."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)
    edges = _slaney_hz(np.linspace(0.0, _slaney_mel(SAMPLE_RATE / 2), MELS + 2, dtype=np.float64))
    bins = np.fft.rfftfreq(FFT, 1 / SAMPLE_RATE)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    bank = np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))
    return window.astype(np.float32), bank.astype(np.float32)


_LINEAR_HZ = 200 / 3  # a mel, below 1 kHz
_BREAK_HZ, _BREAK_MEL = 1000.0, 15.0
_LOG_STEP = log(6.4) / 27  # a mel, above


def _slaney_mel(hz: float) -> float:
    return hz / _LINEAR_HZ if hz < _BREAK_HZ else _BREAK_MEL + log(hz / _BREAK_HZ) / _LOG_STEP


def _slaney_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return np.asarray(np.where(mel < _BREAK_MEL, mel * _LINEAR_HZ, above))


class Pretrained:
    """The pre-trained part of a bundle, running.

    Raises EngineError or BundleError when its graph cannot be opened, or there is none.
    """

    def __init__(self, bundle: Bundle, threads: int = 1, engine: str | None = None) -> None:
        part, arrays = bundle.manifest.pretrained, bundle.pretrained()
        if part is None or arrays is None:
            raise BundleError(f"bundle {bundle.source} has no pre-trained encoder")
        self._part, self._weights, self._bias = part, arrays.weights, arrays.bias
        self._beside = bundle.manifest.pretrained_reference
        self._known = arrays.familiarity if part.distance_slope else None
        graph = bundle.open_graph(PRETRAINED, threads, engine)
        self._statistics = PretrainedStatistics(graph, part.frames, len(arrays.weights) // 2)

    def feed(self, samples: Int16) -> None:
        """Take the next samples of the utterance, int16 or float, shape (n,)."""
        self._statistics.feed(samples)

    def result(self) -> Float32 | None:
        """Statistics of the complete windows, (2 x width,); None before the first."""
        return self._statistics.result()

    def finish(self) -> Float32 | None:
        """Close the utterance: its statistics, (2 x width,); None of one without a sample."""
        return self._statistics.finish()

    def opinion(self, states: Float32 | None) -> tuple[float, ...] | None:
        """Log probability of each class by such statistics; None of none."""
        if states is None:
            return None
        return log_softmax((states @ self._weights + self._bias).tolist())

    def factor(self, states: Float32 | None) -> float:
        """What log probabilities are to be divided by for how unlike such statistics are to those
        of all that trained, 0.5 to 4 (`edge_runtime.model.familiarity`); 1 of none.
        """
        if states is None or self._known is None:
            return 1.0
        distance = nearest(states @ self._known.projection, self._known.centres)
        return factor(distance, self._part.usual_distance, self._part.distance_slope)

    def join(
        self,
        scores: Float32,
        said: tuple[float, ...],
        modality: str,
        opinion: Opinion | None = None,
    ) -> Float32:
        """As `with_encoder`."""
        return with_encoder(scores, said, modality, self._part, self._beside, opinion)


def with_encoder(
    scores: Float32,
    said: Sequence[float],
    modality: str,
    part: PretrainedPart,
    beside: PretrainedReferencePart | None = None,
    opinion: Opinion | None = None,
) -> Float32:
    """Class probabilities of a model, (classes,), and what the encoder says, as one, calibrated.

    Parameters
    ----------
    scores : of the model, adapted to the speaker or not.
    said : log probability of each class by the encoder.
    modality : what the model's verdict rests on.
    part, beside : how both are joined, and adapted.
    opinion : what the reference says; None where verdicts are not adapted.
    """
    strength, temperature = part.strength[modality], part.temperature[modality]
    if beside is None or opinion is None or opinion.encoded is None:
        return joined(scores, said, strength, temperature)
    adapted = beside.strength * opinion.share
    both = [strength * a + adapted * b for a, b in zip(said, opinion.encoded, strict=True)]
    temperature *= 1 + (beside.temperature.get(modality, 1.0) - 1) * opinion.share
    return joined(scores, both, 1.0, temperature)
