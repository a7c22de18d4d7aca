"""Audio statistics and words to class probabilities: attention, standardization, head.

What is missing of the two is zero after standardization, the average utterance, as in training
(`training.model`): one head serves audio alone, words alone, and both.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_runtime.bundle import ATTENTION, AUDIO, BOTH, HEAD, TEXT, Bundle
from edge_runtime.text.encoder import Reading

Float32 = npt.NDArray[np.float32]
MASKED_SCORE = -16.0  # added to the score of a position beyond the words: a weight of 1e-7


class Fusion:
    """The attention and head of a bundle.

    Raises EngineError or BundleError when the graphs cannot be opened.
    """

    def __init__(self, bundle: Bundle, threads: int = 1, engine: str | None = None) -> None:
        manifest = bundle.manifest
        self._manifest = manifest
        self._head = bundle.open_graph(HEAD, threads, engine)
        self._gain = np.float32(1) / manifest.pooled_std
        self._places: dict[str, slice] = {}
        for name, width in manifest.branches.items():
            start = max((place.stop for place in self._places.values()), default=0)
            self._places[name] = slice(start, start + width)
        self._attention = (
            bundle.open_graph(ATTENTION, threads, engine) if "attention" in self._places else None
        )

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
        standard = np.zeros(len(self._gain), np.float32)
        for name, place in self._places.items():
            if name in branches:
                raw = branches[name].reshape(-1)
                standard[place] = (raw - self._manifest.pooled_mean[place]) * self._gain[place]
        (logits,) = self._head(self._head.inputs[0].quantize(standard[None]))
        calibration = self._manifest.calibration.get(modality(audio, reading))
        temperature = calibration.temperature if calibration else 1.0
        return softmax(self._head.outputs[0].dequantize(logits)[0], temperature)

    def _attend(self, audio: Float32, reading: Reading) -> Float32:
        """Attended text maps, (text scales, queries, filters)."""
        assert self._attention is not None
        assert self._manifest.attention is not None
        *_, mask_spec, query_spec = self._attention.inputs
        queries = audio.reshape(query_spec.shape) * np.float32(self._manifest.attention.scale)
        mask = np.zeros(mask_spec.shape, np.float32)
        mask[..., reading.words :] = MASKED_SCORE
        outputs = self._attention(
            *reading.maps, mask_spec.quantize(mask), query_spec.quantize(queries)
        )
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
