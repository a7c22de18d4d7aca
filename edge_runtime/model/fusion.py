"""Audio statistics and words to class probabilities: attention, standardization, head.

What is missing of the two is zero after standardization, the average utterance, as in training
(`training.network.model`): one head serves audio alone, words alone, and both.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log

import numpy as np
import numpy.typing as npt

from edge_runtime.bundle import Bundle
from edge_runtime.errors import EngineError
from edge_runtime.manifest import ATTENTION, AUDIO, BOTH, HEAD, TEXT
from edge_runtime.model.text_branch import Reading

Float32 = npt.NDArray[np.float32]
_SMALLEST = 1e-12  # a probability of which the logarithm is taken
MASKED_SCORE = -16.0  # added to the score of a position beyond the words: a weight of 1e-7


class Fusion:
    """The attention and head of a bundle.

    Raises EngineError or BundleError when the graphs cannot be opened.
    """

    def __init__(self, bundle: Bundle, threads: int = 1, engine: str | None = None) -> None:
        manifest = bundle.manifest
        self._manifest = manifest
        self._head = bundle.open_graph(HEAD, threads, engine)
        gain = np.float32(1) / manifest.pooled_std
        self._standard = np.empty((1, len(gain)), np.float32)
        self._branches: dict[str, tuple[Float32, Float32, Float32]] = {}
        """Of each branch mean, gain, and its place in `_standard`."""
        start = 0
        for name, width in manifest.branches.items():
            place = slice(start, start + width)
            self._branches[name] = (
                manifest.pooled_mean[place],
                gain[place],
                self._standard[0, place],
            )
            start += width
        self._attention = None
        if "attention" in self._branches:
            self._attention = bundle.open_graph(ATTENTION, threads, engine)
            spec = self._attention.inputs[-2]
            self._mask = spec.quantize(np.full(spec.shape, MASKED_SCORE, np.float32))
            self._unmasked = spec.quantize(np.zeros(1, np.float32))[0]

    @property
    def engine(self) -> str:
        """The interpreter in use."""
        return self._head.engine

    def scores(
        self,
        audio: Float32 | None,
        reading: Reading | None = None,
        speaker: Float32 | None = None,
    ) -> Float32:
        """Calibrated class probabilities, float32 (classes,).

        Parameters
        ----------
        audio : statistics of the audio maps, (scales, 3, filters); None if nothing was heard.
        reading : what the text branch made of the words; None if there are none.
        speaker : speaker embedding (width,); None if it is not known.

        Raises EngineError where a graph cannot be run, or gives no numbers.
        """
        branches: dict[str, Float32] = {}
        if audio is not None:
            branches["audio"] = audio
        if reading is not None:
            branches |= {"text": reading.statistics, "swem": reading.swem}
        if self._attention and audio is not None and reading is not None:
            branches["attention"] = self._attend(audio, reading)
        if speaker is not None:
            branches["speaker"] = speaker
        for name, (mean, gain, standard) in self._branches.items():
            if name in branches:
                np.subtract(branches[name].reshape(-1), mean, out=standard)
                standard *= gain
            else:
                standard.fill(0)
        (logits,) = self._head(self._head.inputs[0].quantize(self._standard))
        calibration = self._manifest.calibration.get(modality(audio, reading))
        temperature = calibration.temperature if calibration else 1.0
        found = self._head.outputs[0].dequantize(logits)[0]
        if not np.isfinite(found).all():
            raise EngineError("the head gives scores that are no numbers; build the bundle again")
        return softmax(found, temperature)

    def _attend(self, audio: Float32, reading: Reading) -> Float32:
        """Attended text maps, (text scales, queries, filters)."""
        assert self._attention is not None
        assert self._manifest.attention is not None
        query_spec = self._attention.inputs[-1]
        queries = audio.reshape(query_spec.shape) * np.float32(self._manifest.attention.scale)
        mask = self._mask.copy()
        mask[..., : reading.words] = self._unmasked
        outputs = self._attention(*reading.maps, mask, query_spec.quantize(queries))
        specs = self._attention.outputs
        return np.concatenate([s.dequantize(o) for s, o in zip(specs, outputs, strict=True)])


def modality(audio: object | None, words: object | None) -> str:
    """What a verdict rests on, given what there is of each: audio, text or audio+text."""
    if audio is not None and words is not None:
        return BOTH
    return TEXT if words is not None else AUDIO


def softmax(logits: npt.NDArray[np.floating], temperature: float = 1.0) -> Float32:
    """Probabilities of logits (..., classes) divided by `temperature`, over the last axis."""
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    total = exponentials.sum(axis=-1, keepdims=True)
    return np.asarray(exponentials / total, np.float32)


def log_softmax(logits: Sequence[float]) -> tuple[float, ...]:
    """Log probabilities of a few logits; for so few, faster than arrays are."""
    highest = max(logits)
    total = highest + log(sum(exp(value - highest) for value in logits))
    return tuple(value - total for value in logits)


def joined(
    scores: Float32, opinion: Sequence[float], strength: float, temperature: float
) -> Float32:
    """Two judgements as one, class probabilities (classes,): a product of experts (Hinton 2002).

    Parameters
    ----------
    scores : class probabilities of the first, (classes,).
    opinion : log probabilities of the second.
    strength : weight of the second: its exponent.
    temperature : divides the logarithm of the product.
    """
    together = [
        (log(max(first, _SMALLEST)) + strength * second) / temperature
        for first, second in zip(scores.tolist(), opinion, strict=True)
    ]
    return np.array([exp(value) for value in log_softmax(together)], np.float32)
