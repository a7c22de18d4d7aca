"""The whole-window graph says what the stream says."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.bundle import Bundle, load_bundle
from edge_runtime.errors import BundleError
from edge_runtime.manifest import WHOLE, WINDOW_FRAMES
from edge_runtime.mfcc import mfcc
from edge_runtime.model.recognizer import Recognizer
from edge_runtime.model.window import WholeWindow, repetitions
from edge_runtime.segment import speech_of

Int16 = npt.NDArray[np.int16]


def test_real_clips_get_the_verdict_of_the_stream(small: Bundle, recordings: list[Int16]) -> None:
    window, recognizer = WholeWindow(small), Recognizer(small.plain())
    for samples in recordings:
        speech = speech_of(samples)
        recognizer.feed(speech)
        streamed, whole = recognizer.finish(), window.scores(mfcc(speech))
        assert streamed is not None
        assert whole is not None
        assert whole.argmax() == streamed.scores.argmax()
        # A few int8 steps of a logit; 0.07 at most on all shared clips.
        np.testing.assert_allclose(whole, streamed.scores, atol=0.1)


@pytest.mark.parametrize("frames", [25, 100, 374, 375, 749, 750])
def test_any_length_up_to_the_window_agrees(small: Bundle, scene: Int16, frames: int) -> None:
    window, recognizer = WholeWindow(small), Recognizer(small.plain())
    parameters = small.manifest.mfcc
    samples = scene[16_000 : 16_000 + parameters.window + (frames - 1) * parameters.hop]
    features = mfcc(samples)
    assert len(features) == frames
    recognizer.feed(samples)
    streamed, whole = recognizer.finish(), window.scores(features)
    assert streamed is not None
    # The statistics of a quarter of a second lie beyond what the ranges were made for.
    np.testing.assert_allclose(whole, streamed.scores, atol=0.15 if frames < 50 else 0.1)


def test_what_does_not_fit_is_refused(small: Bundle) -> None:
    window = WholeWindow(small)
    with pytest.raises(ValueError, match="751 frames are more than the 750 of a window"):
        window.scores(np.zeros((WINDOW_FRAMES + 1, 96), np.float32))
    assert window.scores(None) is None
    assert window.scores(np.empty((0, 96), np.float32)) is None


def test_a_bundle_without_the_graph_is_named(bundle: Bundle) -> None:
    graphs = {role: spec for role, spec in bundle.manifest.graphs.items() if role != WHOLE}
    without = Bundle(replace(bundle.manifest, graphs=graphs), bundle.contents, "mine")
    with pytest.raises(BundleError, match="bundle mine has no whole graph"):
        WholeWindow(without)


def test_a_graph_that_does_not_fit_the_manifest_is_refused(
    small_path: Path, tmp_path: Path
) -> None:
    import json

    bundle_copy = Path(shutil.copytree(small_path, tmp_path / "bundle"))

    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    manifest["graphs"][WHOLE]["inputs"][0]["shape"] = [1, 1, 500, 96]
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"whole\.tflite inputs has shape .*500"):
        load_bundle(bundle_copy)


@given(st.integers(1, 750), st.integers(0, 6), st.integers(1, 4))
def test_repetitions_lie_apart_and_inside(length: int, gap: int, stride: int) -> None:
    starts = list(repetitions(length, WINDOW_FRAMES, gap, stride))
    assert starts[0] == 0
    assert starts[-1] + length <= WINDOW_FRAMES
    assert all(start % stride == 0 for start in starts)
    assert all(b - a >= length + gap for a, b in itertools.pairwise(starts))
    # One more would not fit.
    assert starts[-1] + length + gap + stride + length > WINDOW_FRAMES
