"""Speech that another interpreter or machine is held against, and how far it may be off."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_runtime.audio.file import read_file
from edge_runtime.bundle import load_bundle
from edge_runtime.manifest import HEAD
from edge_runtime.model.familiarity import SMALLEST
from edge_runtime.pcm import SAMPLE_RATE

REPOSITORY = Path(__file__).parents[2]
SCENE = REPOSITORY / "edge_runtime" / "demo" / "scene.flac"
CORPORA = Path(os.environ.get("CORPORA") or REPOSITORY.parent / "shared" / "data")
REAL_CLIPS = (
    "ravdess/Actor_01/03-01-05-02-01-01-01.flac",
    "ravdess/Actor_12/03-01-04-01-02-01-12.flac",
    "emodb/wav/03a01Fa.flac",
)
# Corpora of which some clips are heard, and where their files are.
CLIPS = {
    "ravdess": "Actor_*/*.flac",
    "emodb": "wav/*.flac",
    "nemo": "**/*.flac",
    "ased": "**/*.flac",
    "emovo": "**/*.flac",
    "koemo": "**/*.flac",
}
SCENE_PARTS = 3
DECIMALS = 4  # of the scores in an event


def read_pcm(path: Path) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == SAMPLE_RATE
    return np.asarray(samples)


def scene_parts() -> list[np.ndarray]:
    """The scene, cut where it is quietest near each third, so that every part holds speech."""
    scene = read_pcm(SCENE)
    cuts = [0]
    for part in range(1, SCENE_PARTS):
        near = len(scene) * part // SCENE_PARTS
        window = SAMPLE_RATE // 4
        starts = range(near - 2 * SAMPLE_RATE, near + 2 * SAMPLE_RATE, window // 4)
        loudness = [np.abs(scene[s : s + window].astype(np.int32)).sum() for s in starts]
        cuts.append(starts[int(np.argmin(loudness))] + window // 2)
    return [scene[begin:end] for begin, end in zip(cuts, [*cuts[1:], len(scene)], strict=True)]


def parts_of_the_scene() -> list[tuple[str, np.ndarray]]:
    """The same, by name."""
    return [(f"scene-{number}", part) for number, part in enumerate(scene_parts(), 1)]


def real_clips(per_corpus: int) -> list[tuple[str, np.ndarray]]:
    """Clips of every corpus that there is, spread over its files, by name: int16 at 16 kHz."""
    found = []
    for corpus, pattern in CLIPS.items():
        paths = sorted((CORPORA / corpus).glob(pattern))
        for path in paths[:: max(1, len(paths) // per_corpus)][:per_corpus]:
            found.append((f"{corpus}-{path.stem}", read_file(path)))
    return found


def clips() -> list[object]:
    found: list[object] = [
        pytest.param(part, id=f"scene-{number}") for number, part in enumerate(scene_parts(), 1)
    ]
    for name in REAL_CLIPS:
        if (CORPORA / name).exists():
            found.append(pytest.param(read_pcm(CORPORA / name), id=Path(name).stem))
    return found


def tolerance() -> float:
    """Largest difference of a score when every logit is within one int8 step of the other's.

    A logit z enters the softmax as z / T. With a = scale / T for one step, the worst case moves one
    logit up and all others down by a step, which moves the log odds of its score by 2a. A logistic
    function is steepest at zero, so the score moves by at most
    logistic(a) - logistic(-a) = tanh(a / 2). Both sides are printed with four decimals, and the
    largest score takes what the others' rounding leaves over. T is at least half of the bundle's,
    for what sounds most familiar.
    """
    manifest = load_bundle().manifest
    temperature = manifest.calibration["audio"].temperature * SMALLEST
    step = manifest.graphs[HEAD].outputs[0].scale / temperature
    rounding = 2 * (len(manifest.labels) - 1) * 0.5 * 10**-DECIMALS
    return math.tanh(step / 2) + rounding
