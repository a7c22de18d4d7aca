"""Grids of maps, a frame apart: the mean of their statistics, whatever the cut."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from conversion.bundle import build
from conversion.errors import ConversionError
from conversion.targets import bundle_target
from edge_runtime.bundle import Bundle, load_bundle
from edge_runtime.errors import BundleError
from edge_runtime.manifest import AUDIO_ENCODER
from edge_runtime.mfcc import mfcc
from edge_runtime.model.audio_branch import AudioBranch, StageTimes
from edge_runtime.model.recognizer import Recognizer
from edge_runtime.model.spu import RunningStatistics
from training.run import DEFAULT_RUN, load

Int16 = npt.NDArray[np.int16]
Float32 = npt.NDArray[np.float32]
PHASES = 3


@pytest.fixture(scope="module")
def phased(model_alone: Bundle) -> Bundle:
    audio = model_alone.manifest.audio
    assert audio is not None
    assert audio.stride == PHASES
    manifest = replace(model_alone.manifest, audio=replace(audio, phases=PHASES))
    return replace(model_alone, manifest=manifest)


def pooled(bundle: Bundle, samples: Int16, block: int) -> Float32:
    branch = AudioBranch(bundle, StageTimes())
    for start in range(0, samples.size, block):
        branch.feed(samples[start : start + block])
    found = branch.finish()
    assert found is not None
    return found


def grid(bundle: Bundle, samples: Int16, phase: int) -> Float32:
    """Statistics of the maps of one grid over the whole utterance, none of it by the stream."""
    audio, encoder = bundle.manifest.audio, bundle.open_graph(AUDIO_ENCODER)
    assert audio is not None
    (spec,) = encoder.inputs
    steps = np.rint((mfcc(samples) - audio.feature_mean) / audio.feature_std / spec.scale)
    frames = np.clip(steps + spec.zero_point, -128, 127).astype(np.int8)
    silence = [(audio.context_frames, 2 * audio.chunk_frames + audio.context_frames), (0, 0)]
    padded = np.pad(frames, silence, constant_values=spec.zero_point)
    outputs = []
    for start in range(phase, len(frames), audio.chunk_frames):
        window = padded[start : start + audio.chunk_frames + 2 * audio.context_frames]
        outputs.append([maps[0, 0] for maps in encoder(window[None, None])])
    count = -(-(len(frames) - phase) // audio.stride)
    scales = []
    for maps, output in zip(zip(*outputs, strict=True), encoder.outputs, strict=True):
        statistics = RunningStatistics(bundle.manifest.filters)
        statistics.update(np.concatenate(maps)[:count], output.zero_point)
        scales.append(statistics.result(output.scale))
    return np.stack(scales)


@pytest.mark.parametrize("length", [8000, 8160, 8320, 30_000])
def test_statistics_are_the_mean_of_the_grids(phased: Bundle, sentence: Int16, length: int) -> None:
    samples = sentence[20_000 : 20_000 + length]
    grids = [grid(phased, samples, phase) for phase in range(PHASES)]
    np.testing.assert_allclose(pooled(phased, samples, 1600), np.mean(grids, axis=0), atol=1e-4)
    assert np.abs(grids[0] - grids[1]).max() > 0.1


@pytest.mark.parametrize("length", [1, 400, 401, 560, 720, 5000, 64_000])
def test_every_cut_gives_the_same_bits(phased: Bundle, sentence: Int16, length: int) -> None:
    samples = sentence[20_000 : 20_000 + length]
    whole = pooled(phased, samples, length)
    for block in (160, 777, 4000):
        np.testing.assert_array_equal(pooled(phased, samples, block), whole)


def test_where_an_utterance_begins_counts_less(
    model_alone: Bundle, phased: Bundle, recordings: list[Int16]
) -> None:
    moved: dict[int, list[float]] = {1: [], PHASES: []}
    for phases, bundle in ((1, model_alone), (PHASES, phased)):
        recognizer = Recognizer(bundle)
        for samples in recordings:
            scores = []
            for milliseconds in (0, 7, 11, 19):
                recognizer.feed(samples[8000 + 16 * milliseconds : 40_000])
                verdict = recognizer.finish()
                assert verdict is not None
                scores.append(verdict.scores)
            moved[phases] += [float(np.abs(other - scores[0]).max()) for other in scores[1:]]
    assert np.mean(moved[PHASES]) < 0.75 * np.mean(moved[1])


def test_a_bundle_says_how_many(bundle_copy: Path, tmp_path: Path) -> None:
    target, run = bundle_target("raspberry-pi"), load(DEFAULT_RUN)
    build(run, tmp_path / "phased", target, "phased", whole=False)
    made = load_bundle(tmp_path / "phased")
    assert made.manifest.audio is not None
    assert made.manifest.audio.phases == PHASES
    plain = made.plain().manifest
    assert plain.audio is not None
    assert plain.audio.phases == 1
    assert plain.plain() is plain
    build(run, tmp_path / "one", target, "one", whole=False, phases=1)
    assert "phases" not in json.loads((tmp_path / "one" / "manifest.json").read_text())["audio"]
    with pytest.raises(ConversionError, match="--phases 4: the model's stride is 3"):
        build(run, tmp_path / "more", target, "more", whole=False, phases=4)
    raw = json.loads((bundle_copy / "manifest.json").read_text())
    assert raw["audio"]["phases"] == PHASES
    for phases in (0, 4):
        raw["audio"]["phases"] = phases
        (bundle_copy / "manifest.json").write_text(json.dumps(raw))
        with pytest.raises(BundleError, match=f"{phases} phases, of which there are as many"):
            load_bundle(bundle_copy)
