"""The encoder of Whisper-tiny as teacher: the states behind its third block.

Its weights are those of smart-turn v3.2 (BSD-2-Clause, in the wheel of pipecat-ai), which was
trained from Whisper-tiny (Radford et al. 2022, arXiv 2212.04356) to tell whether somebody has
finished speaking, and is kept in int8. The third of its four blocks tells more of emotions than the
last (docs/experiments.md).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.pcm import FULL_SCALE, SAMPLE_RATE, Float32, Int16
from training.data.teachers import ROW, Int8, Teacher, packaged

WIDTH = 384
FRAMES = 800
"""Windows in which the published encoder hears along with a model, frames of 10 ms."""
_PACKAGE = "pipecat-ai"
_GRAPH = "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx"
_STATES = "layer_norm_6_QuantizeLinear_Output"  # what the fourth block begins with, in int8
_MELS, _FFT, _HOP = 80, 400, 160
_WINDOW = 8 * SAMPLE_RATE  # samples that the encoder takes at a time
_STATE = 320  # samples from one of its states to the next


def states_of(samples: Int16) -> Int8:
    """The states of the third block, the graph's steps less 128: int8 (max(1, n // 160), 384).

    A clip of more than 8 s is heard in pieces of 8 s. The encoder has a state every 20 ms: each
    stands in two rows.
    """
    rows = max(1, samples.size // ROW)
    graph = _encoder()
    pieces = []
    for start in range(0, max(1, samples.size), _WINDOW):
        piece = samples[start : start + _WINDOW].astype(np.float32) / FULL_SCALE
        (states,) = graph.run([_STATES], {"input_features": _mels(piece)[None]})
        pieces.append((states[0].astype(np.int16) - 128).astype(np.int8))
    every = np.concatenate(pieces)
    places = (np.arange(rows) + 1) * ROW // _STATE
    return np.ascontiguousarray(every[np.minimum(places, len(every) - 1)])


def weights() -> Path:
    """The graph in the installed package; TrainingError without it, librosa or onnxruntime."""
    return packaged("whisper", _PACKAGE, "1.14", _GRAPH, ("librosa", "onnx", "onnxruntime"))


def _mels(signal: Float32) -> Float32:
    """Whisper's log-mel features of 8 s, zeros behind the clip: (80, 800).

    Levelled to variance 1 first, as smart-turn was trained.
    """
    import librosa

    padded = np.zeros(_WINDOW, np.float32)
    padded[: signal.size] = signal
    padded = (padded - padded.mean()) / np.sqrt(padded.var() + 1e-7)
    power = librosa.feature.melspectrogram(
        y=padded, sr=SAMPLE_RATE, n_fft=_FFT, hop_length=_HOP, n_mels=_MELS, pad_mode="reflect"
    )[:, :-1]
    levels = np.log10(np.maximum(power, 1e-10))
    levels = np.maximum(levels, levels.max() - 8.0)
    return np.asarray((levels + 4.0) / 4.0, np.float32)


@lru_cache(maxsize=1)
def _encoder() -> Any:
    """The graph as far as the states; one a process, one thread."""
    import onnx
    import onnxruntime

    model = onnx.load(weights())
    model.graph.value_info.append(
        onnx.helper.make_tensor_value_info(_STATES, onnx.TensorProto.UINT8, None)
    )
    extractor = onnx.utils.Extractor(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    part = extractor.extract_model(["input_features"], [_STATES])
    return onnxruntime.InferenceSession(
        part.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


TEACHER = Teacher("whisper", WIDTH, 1, False, weights, states_of)
