"""The whole model as one graph over a window of fixed length: for runtimes that take one graph.

The streaming graphs serve any length and are what `EmotionStream` runs; this one sees an utterance
of up to 7.5 s and 128 words at once. All its statistics are of what fills the window, so a short
utterance is repeated in it, with silence between: that changes no statistic, and keeps the int8
sums of a short utterance as fine as those of a long one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_runtime.bundle import Bundle
from edge_runtime.errors import BundleError
from edge_runtime.graph import Array
from edge_runtime.manifest import WHOLE, WINDOW_FRAMES
from edge_runtime.model.fusion import MASKED_SCORE, modality, softmax
from edge_runtime.tokenizer import Tokenizer

Float32 = npt.NDArray[np.float32]


class WholeWindow:
    """The whole-window graph of a bundle and what surrounds it.

    Raises BundleError for a bundle without that graph, EngineError when it cannot be opened.
    """

    def __init__(self, bundle: Bundle, threads: int = 1, engine: str | None = None) -> None:
        manifest = bundle.manifest.plain()
        if WHOLE not in manifest.graphs:
            raise BundleError(f"bundle {bundle.source} has no {WHOLE} graph; build it with --whole")
        self._manifest = manifest
        self._graph = bundle.open_graph(WHOLE, threads, engine)
        self._specs = {spec.name: spec for spec in self._graph.inputs}
        self._empty = {
            name: np.full(spec.shape, spec.zero_point, spec.dtype)
            for name, spec in self._specs.items()
        }
        if manifest.text:
            self._table = bundle.embeddings()
            self._tokenizer = Tokenizer(
                bundle.vocabulary(), manifest.text.tokens, manifest.text.punctuation
            )

    def scores(
        self, features: Float32 | None, text: str = "", speaker: Float32 | None = None
    ) -> Float32 | None:
        """Calibrated class probabilities, float32 (classes,); None without anything to judge.

        Parameters
        ----------
        features : raw features (n, features) of the utterance, n <= 750; None if it is not heard.
        text : its words.
        speaker : speaker embedding (width,); None if it is not known.

        Raises ValueError for an utterance that is longer than the window.
        """
        ids = self._tokenizer.encode(text).ids if self._manifest.text else np.empty(0, np.int64)
        heard = features is not None and len(features) > 0 and self._manifest.audio is not None
        if not heard and not len(ids):
            return None
        inputs = {name: value.copy() for name, value in self._empty.items()}
        if heard:
            assert features is not None
            self._hear(features, inputs)
        if len(ids):
            self._read(ids, inputs)
        if speaker is not None and "speaker" in inputs:
            place = slice(-self._manifest.speaker, None)
            standard = (speaker - self._manifest.pooled_mean[place]) / (
                self._manifest.pooled_std[place]
            )
            inputs["speaker"][0] = self._specs["speaker"].quantize(standard)
        (logits,) = self._graph(*(inputs[name] for name in self._specs))
        basis = modality(features if heard else None, ids if len(ids) else None)
        calibration = self._manifest.calibration.get(basis)
        temperature = calibration.temperature if calibration else 1.0
        return softmax(self._graph.outputs[0].dequantize(logits)[0], temperature)

    def _hear(self, features: Float32, inputs: dict[str, Array]) -> None:
        part = self._manifest.audio
        assert part is not None
        if len(features) > WINDOW_FRAMES:
            raise ValueError(
                f"{len(features)} frames are more than the {WINDOW_FRAMES} of a window"
            )
        gain = np.float32(1) / part.feature_std
        frames = self._specs["frames"].quantize((features - part.feature_mean) * gain)
        counted, stride = inputs["frames_counted"], part.stride
        one = self._specs["frames_counted"].quantize(np.ones(1, np.float32))
        for start in repetitions(len(frames), WINDOW_FRAMES, part.context_frames, stride):
            inputs["frames"][0, 0, start : start + len(frames)] = frames
            first = start // stride
            counted[0, 0, first : first + -(-len(frames) // stride)] = one
        self._set_gain("frames", inputs)

    def _read(self, ids: npt.NDArray[np.int64], inputs: dict[str, Array]) -> None:
        part = self._manifest.text
        assert part is not None
        before, after = part.context
        rows, counted = inputs["rows"], inputs["words_counted"]
        one = self._specs["words_counted"].quantize(np.ones(1, np.float32))
        for start in repetitions(len(ids), part.tokens, max(before, after)):
            begin = before + start
            rows[0, 0, begin : begin + len(ids)] = self._table.values[ids]
            counted[0, 0, start : start + len(ids)] = one
        self._set_gain("words", inputs)
        if "words_mask" in inputs:
            # Attention looks at the first repetition alone: softmax has 256 steps to share out.
            mask = np.full(self._specs["words_mask"].shape, MASKED_SCORE, np.float32)
            mask[..., : len(ids)] = 0
            inputs["words_mask"][:] = self._specs["words_mask"].quantize(mask)

    def _set_gain(self, what: str, inputs: dict[str, Array]) -> None:
        counted = inputs[f"{what}_counted"]
        share = (counted != self._specs[f"{what}_counted"].zero_point).mean()
        inputs[f"{what}_gain"][:] = self._specs[f"{what}_gain"].quantize(
            np.full(1, 1 / share, np.float32)
        )


def repetitions(length: int, window: int, gap: int, stride: int = 1) -> range:
    """Where an utterance of `length` steps begins, as often as it fits into `window` steps whole.

    At least `gap` steps lie between, so that no convolution sees two of them at once; each begins
    at a multiple of `stride`.
    """
    period = -(-(length + gap) // stride) * stride
    return range(0, window - length + 1, period)
