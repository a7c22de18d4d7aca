"""tflite-runtime 2.14 on CPython 3.11 says what LiteRT says: make test-tflite-runtime."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import REPOSITORY, clips, tolerance

from edge_runtime import EmotionStream, load_bundle
from edge_runtime.bundle import Bundle
from edge_runtime.manifest import WHOLE
from edge_runtime.stream import classify
from training.evaluate.judge import convert
from training.run import DEFAULT_RUN
from training.tiers import LARGE

TIMEOUT = 300  # seconds

# Reads clips and graph inputs from an .npz, writes verdicts of the large tier, and the outputs of
# the small one's graphs, as JSON.
_THERE = """
import json, platform, sys
import numpy as np
from edge_runtime import EmotionStream, load_bundle
from edge_runtime.stream import classify
data = np.load(sys.argv[1])
bundle = load_bundle(sys.argv[2])
stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole(), engine="tflite-runtime")
events = [classify(stream, data[name]) for name in data.files if name.startswith("clip")]
other = load_bundle(sys.argv[3])
graphs = {
    role: [
        o.tolist()
        for o in other.open_graph(role)(*(data[f"{role}/{t.name}"] for t in spec.inputs))
    ]
    for role, spec in other.manifest.graphs.items()
}
json.dump({
    "python": platform.python_version(), "numpy": np.__version__,
    "engine": stream.recognizer.engine, "alone": stream.bundle is not bundle, "graphs": graphs,
    "verdicts": [{"label": e.label, "scores": e.scores} for e in events],
}, sys.stdout)
"""
SAMPLES = [clip.values[0] for clip in clips()]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def large_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a pre-trained encoder beside it."""
    return convert(DEFAULT_RUN, tmp_path_factory.mktemp("large") / "large", "--tier", LARGE)


@pytest.fixture(scope="module")
def inputs(small: Bundle) -> dict[str, np.ndarray]:
    """Random values for the inputs of each graph of the model, by role and name."""
    rng = np.random.default_rng(0)
    values = {
        f"{role}/{spec.name}": rng.integers(-128, 128, spec.shape).astype(spec.dtype)
        for role, graph in small.manifest.graphs.items()
        for spec in graph.inputs
    }
    for name, value in values.items():
        if name.endswith("_counted"):
            value[:] = 127
        if name.endswith("_gain"):
            value[:] = -43  # 1, of 3 over 255 steps from -128
    return values


@pytest.fixture(scope="module")
def there(
    inputs: dict[str, np.ndarray],
    small_path: Path,
    large_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """What the other environment makes of the clips and the inputs."""
    path = tmp_path_factory.mktemp("there") / "data.npz"
    np.savez(path, **{f"clip{i:02d}": clip for i, clip in enumerate(SAMPLES)}, **inputs)
    done = subprocess.run(
        [
            os.environ["TEST_TFLITE_PYTHON"],
            "-c",
            _THERE,
            str(path),
            str(large_path),
            str(small_path),
        ],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_is_the_other_interpreter(there: Any) -> None:
    assert there["engine"] == "tflite-runtime"
    assert there["python"].startswith("3.11.")
    assert there["numpy"].startswith("1.")


def test_every_clip_gets_the_verdict_of_the_model_alone(there: Any, large_path: Path) -> None:
    """Its pre-trained encoder comes out wrong there (`Bundle.as_computed`)."""
    assert there["alone"]
    bundle = load_bundle(large_path).plain()
    stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole(), engine="litert")
    assert len(there["verdicts"]) == len(SAMPLES)
    for clip, verdict in zip(SAMPLES, there["verdicts"], strict=True):
        expected = classify(stream, clip)
        assert verdict["label"] == expected.label
        for label, score in expected.scores.items():
            assert verdict["scores"][label] == pytest.approx(score, abs=tolerance())


def test_every_graph_computes_the_same_integers(
    there: Any, inputs: dict[str, np.ndarray], small: Bundle
) -> None:
    # The two round the product with a scale in their own ways: one step at most, and as much in
    # each of the stages of the whole window.
    for role, spec in small.manifest.graphs.items():
        given = [inputs[f"{role}/{tensor.name}"] for tensor in spec.inputs]
        expected = small.open_graph(role, engine="litert")(*given)
        for ours, theirs in zip(expected, there["graphs"][role], strict=True):
            difference = np.abs(ours.astype(int) - np.array(theirs))
            assert difference.max() <= (4 if role == WHOLE else 1), role
