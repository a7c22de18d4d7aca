"""Golden vectors: what the bundle makes of a piece of the scene that ships, for a test in C.

The oracles are the device's own code and the interpreter: `edge_runtime.mfcc`, the recognizer, and
LiteRT's own kernels without a delegate, which round as TensorFlow Lite for Microcontrollers does.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from math import ceil, tanh
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import edge_runtime
from conversion.c99.library import Library
from conversion.c99.text import comment, table
from edge_runtime.audio.file import read_file
from edge_runtime.bundle import Bundle
from edge_runtime.manifest import AUDIO, AUDIO_ENCODER, HEAD
from edge_runtime.mfcc import mfcc
from edge_runtime.model.audio_branch import AudioBranch, StageTimes
from edge_runtime.model.fusion import Fusion
from edge_runtime.pcm import Int16
from edge_runtime.system import native_stderr_silenced

NAME = "edge_emotion_golden"
TEST = Path(__file__).parent / "edge_emotion_test.c"
SCENE = Path(edge_runtime.__file__).parent / "demo" / "scene.flac"
PIECE = (0.5, 1.8)  # seconds of the scene: speech from the first word on
FEATURES_APART = 0.002
"""Largest difference of a feature, in its own unit, from `edge_runtime.mfcc`; half a step of the
narrowest feature of the default bundle, and a hundredth of one of its widest."""
VALUES_APART = 0.005
"""Share of the int8 values that may be one step off: features close to the middle of two steps."""
_ROWS = 40  # rows of features; all of them as int8
_RUNS = 2  # of the encoder
_MILLION = 1_000_000


@dataclass(frozen=True, eq=False)
class Golden:
    """Inputs and what must come of them."""

    samples: Int16
    features: npt.NDArray[np.float32]
    """(`_ROWS`, features)."""
    frames: npt.NDArray[np.int8]
    """Normalized and quantized, (frames, features)."""
    maps: npt.NDArray[np.int8]
    """Of the encoder over the first windows of `frames`, (`_RUNS`, scales, steps, filters)."""
    pooled: npt.NDArray[np.int8]
    """Standardized statistics of all samples, (width,)."""
    logits: npt.NDArray[np.int8]
    """Of `pooled`, (classes,)."""
    scores: npt.NDArray[np.float32]
    """Of the samples, (classes,)."""


def golden_of(library: Library) -> Golden:
    """Run the bundle of `library` over the piece."""
    bundle, part = library.bundle, library.part
    manifest = bundle.manifest
    samples = read_file(SCENE, *PIECE)
    features = mfcc(samples, manifest.mfcc)
    window = manifest.graphs[AUDIO_ENCODER].inputs[0]
    frames = window.quantize((features - part.feature_mean) / part.feature_std)
    names = [spec.name for spec in manifest.graphs[AUDIO_ENCODER].outputs]
    maps = []
    for begin in range(0, _RUNS * part.chunk_frames, part.chunk_frames):
        given = frames[begin : begin + window.shape[2]]
        found = _run(bundle, AUDIO_ENCODER, given.reshape(window.shape))
        maps.append(np.stack([found[name][0, 0] for name in names]))
    branch = AudioBranch(bundle, StageTimes())
    branch.feed(samples)
    statistics = branch.finish()
    assert statistics is not None
    head = manifest.graphs[HEAD].inputs[0]
    width = statistics.size
    standard = np.zeros(head.shape, np.float32)
    standard[0, :width] = (
        statistics.reshape(-1) - manifest.pooled_mean[:width]
    ) / manifest.pooled_std[:width]
    pooled = head.quantize(standard)
    (logits,) = _run(bundle, HEAD, pooled).values()
    return Golden(
        samples,
        features[:_ROWS],
        frames,
        np.stack(maps),
        pooled[0, :width],
        logits[0],
        Fusion(bundle).scores(statistics),
    )


def write_golden(library: Library, out: Path) -> None:
    """Write the vectors, and the test that holds the library against them, into `out`."""
    golden = golden_of(library)
    shutil.copyfile(TEST, out / TEST.name)
    manifest, unit = library.bundle.manifest, 2.0**library.features.feature_bits
    calibration = manifest.calibration.get(AUDIO)
    step = manifest.graphs[HEAD].outputs[0].scale / (calibration.temperature if calibration else 1)
    bounds = {
        "SAMPLES": golden.samples.size,
        "ROWS": len(golden.features),
        "FRAMES": len(golden.frames),
        "RUNS": _RUNS,
        "FEATURES_APART": round(FEATURES_APART * unit),
        "VALUES_APART": ceil(VALUES_APART * golden.frames.size),
        # Every logit one step off moves the log odds of a score by two (tests/device/clips.py).
        "SCORES_APART": ceil(_MILLION * tanh(step / 2)),
    }
    tables = [
        ("int16_t", "samples", golden.samples),
        ("int32_t", "features", np.rint(golden.features * unit).astype(np.int64)),
        ("int8_t", "frames", golden.frames),
        ("int8_t", "maps", golden.maps),
        ("int8_t", "pooled", golden.pooled),
        ("int8_t", "logits", golden.logits),
        ("float", "scores", golden.scores.astype(float)),
    ]
    about = comment(
        [
            f"Golden vectors of bundle {manifest.name!r}: seconds {PIECE[0]} to {PIECE[1]} of the",
            "scene that ships with edge-emotion, spoken by eSpeak NG.",
        ]
    )
    (out / f"{NAME}.h").write_text(
        about
        + "#ifndef EDGE_EMOTION_GOLDEN_H\n#define EDGE_EMOTION_GOLDEN_H\n\n#include <stdint.h>\n\n"
        + "\n".join(f"#define ES_GOLDEN_{name} {value}" for name, value in bounds.items())
        + "\n\n"
        + "\n".join(
            f"extern const {kind} es_golden_{name}{''.join(f'[{n}]' for n in values.shape)};"
            for kind, name, values in tables
        )
        + "\n\n#endif\n",
        encoding="utf-8",
    )
    (out / f"{NAME}.c").write_text(
        about
        + f'#include "{NAME}.h"\n\n'
        + "\n".join(table(kind, f"es_golden_{name}", values) for kind, name, values in tables),
        encoding="utf-8",
    )


def _run(bundle: Bundle, role: str, values: npt.NDArray[np.int8]) -> dict[str, npt.NDArray[Any]]:
    """Outputs by name of LiteRT's kernels without a delegate."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with native_stderr_silenced():
        interpreter = Interpreter(
            model_content=bundle.contents[role],
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    interpreter.set_tensor(entry["index"], values)
    interpreter.invoke()
    return {d["name"]: interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()}
