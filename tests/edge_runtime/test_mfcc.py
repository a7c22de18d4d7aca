"""Features: the same as python_speech_features, and the same however the samples arrive."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.peers.speech_features import reference
from edge_runtime.mfcc import DEFAULT_PARAMS, MfccParams, MfccStream, mfcc
from edge_runtime.pcm import SAMPLE_RATE

SAME_FRAMES = Path(__file__).parents[1] / "same_frames.py"
Int16 = npt.NDArray[np.int16]
Float32 = npt.NDArray[np.float32]

# A thousandth of a natural logarithm or cepstral step, where coefficients spread over +-20: what
# 99.5 % of the frames of every clip keep to. All of it is float32 against float64: where a filter
# of one or two bins falls into a spectral null, its logarithm has the rounding errors of the
# strong bins beside it. Over 65 real clips 99.9 % of the frames are within 4.4e-4, one in 10,000
# is beyond 1e-3, and the worst is at 1.6e-3 (AMD EPYC; with numpy's FFT in float32 at 7e-4).
ORACLE = 1e-3
WORST = 3e-3


def noise(length: int, seed: int, level: float) -> Int16:
    return np.asarray(np.random.default_rng(seed).normal(0, level, length), np.int16)


def streamed(signal: npt.NDArray[np.generic], cuts: list[int]) -> Float32:
    stream = MfccStream()
    frames = [stream.feed(piece) for piece in np.split(signal, cuts)]
    return np.concatenate([*frames, stream.flush()])


def test_real_speech_gives_the_features_of_python_speech_features(recordings: list[Int16]) -> None:
    for samples in recordings:
        expected = reference(samples)
        found = mfcc(samples)
        assert found.shape == expected.shape
        difference = np.abs(found - expected).max(axis=1)
        assert np.quantile(difference, 0.995) <= ORACLE
        assert difference.max() <= WORST


def test_the_demo_scene_gives_the_features_of_python_speech_features(scene: Int16) -> None:
    expected = reference(scene)
    assert mfcc(scene).shape == expected.shape
    assert np.abs(mfcc(scene) - expected).max() <= ORACLE


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 10_000), st.integers(0, 2**32 - 1), st.sampled_from([3.0, 300.0, 10_000.0]))
def test_every_length_has_the_frames_of_python_speech_features(
    length: int, seed: int, level: float
) -> None:
    samples = np.clip(noise(length, seed, level).astype(np.int32), -32768, 32767).astype(np.int16)
    expected = reference(samples)
    found = mfcc(samples)
    assert found.shape == expected.shape == (DEFAULT_PARAMS.frame_count(length), 96)
    assert np.abs(found - expected).max() <= ORACLE


@pytest.mark.parametrize(
    "params",
    [
        MfccParams(window=512, hop=256),  # the whole transform, a window of a power of two
        MfccParams(window=200, hop=200, fft=200, mels=20, cepstra=13),  # no overlap
        MfccParams(fft=509),  # a prime: nothing to factor
        MfccParams(hop=100, fft=441, mels=26, cepstra=13),  # an odd factor
        MfccParams(8000, 200, 80, 256, high_hz=4000.0),
    ],
)
def test_any_parameters_give_the_features_of_python_speech_features(params: MfccParams) -> None:
    samples = noise(9000, 8, 2000)
    expected = reference(samples, params)
    found = mfcc(samples, params)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= ORACLE


def test_digital_silence_gives_finite_features_like_the_reference() -> None:
    silence = np.zeros(8000, np.int16)
    assert np.abs(mfcc(silence) - reference(silence)).max() <= ORACLE


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 12_000), max_size=40))
def test_any_cut_of_the_samples_gives_the_same_frames(cuts: list[int]) -> None:
    signal = noise(12_000, 1, 1000)
    whole = mfcc(signal)
    parts = streamed(signal, sorted(cuts))
    assert np.array_equal(parts, whole)


def test_one_sample_at_a_time_gives_the_same_frames() -> None:
    signal = noise(2000, 2, 1000)
    assert np.array_equal(streamed(signal, list(range(1, 2000))), mfcc(signal))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names kernels for x86-64")
@pytest.mark.parametrize(
    ("kernels", "needs"), [("Prescott", "pni"), ("Haswell", "avx2"), ("SkylakeX", "avx512f")]
)
def test_every_kind_of_processor_gives_the_same_frames_for_any_cut(
    kernels: str, needs: str
) -> None:
    """OpenBLAS takes other kernels for other processors; they differ in what rounds alike."""
    if needs not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip(f"this processor has no {needs}")
    environment = {**os.environ, "OPENBLAS_CORETYPE": kernels}
    subprocess.run([sys.executable, str(SAME_FRAMES)], env=environment, check=True)


def test_threads_do_not_share_what_features_are_computed_in() -> None:
    signals = [noise(30_000, seed, 1000) for seed in range(8)]
    expected = [mfcc(signal) for signal in signals]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(mfcc, signals * 4))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected * 4, strict=True))


def test_frames_arrive_as_soon_as_the_lookahead_allows() -> None:
    # 4 frames of look-ahead for the deltas: after 10 complete windows, 6 frames are final.
    stream = MfccStream()
    assert len(stream.feed(noise(400 + 9 * 160, 3, 1000))) == 6
    assert len(stream.flush()) == 4


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_float_and_int16_samples_give_the_same_features(kind: type[np.floating]) -> None:
    # A scale of 2^15 is exact in every float type: equal, not just close.
    signal = noise(16_000, 4, 3000)
    assert np.array_equal(mfcc(signal.astype(kind) / 32768), mfcc(signal))


def test_no_samples_give_no_frames() -> None:
    assert mfcc(np.empty(0, np.int16)).shape == (0, 96)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 400), np.int16), "mono"),
        (np.int16(3), "mono"),
        (np.zeros(400, np.uint8), "uint8"),
        (np.zeros(400, np.int32), "int32"),
        (np.zeros(400, np.complex64), "complex64"),
        (np.array(["a"]), "float or int16"),
        (np.array([0.0, np.nan]), "NaN"),
        (np.array([0.0, np.inf]), "NaN or infinity"),
        (np.array([np.inf, -np.inf]), "NaN or infinity"),
    ],
)
def test_samples_that_mean_nothing_are_refused(
    samples: npt.NDArray[np.generic], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        mfcc(samples)


def test_an_utterance_does_not_hear_the_one_before_it() -> None:
    stream = MfccStream()
    first, second = noise(5000, 5, 3000), noise(7000, 6, 300)
    stream.feed(first)
    stream.flush()
    again = np.concatenate([stream.feed(second), stream.flush()])
    assert np.array_equal(again, mfcc(second))


def test_reset_forgets_the_running_utterance() -> None:
    stream = MfccStream()
    stream.feed(noise(5000, 5, 3000))
    stream.reset()
    second = noise(7000, 6, 300)
    assert np.array_equal(np.concatenate([stream.feed(second), stream.flush()]), mfcc(second))


def test_half_an_hour_of_streaming_needs_no_more_memory_than_a_minute() -> None:
    stream = MfccStream()
    block = noise(SAMPLE_RATE, 7, 1000)
    tracemalloc.start()
    try:
        for _ in range(60):
            stream.feed(block)
        gc.collect()  # numpy leaves reference cycles behind
        after_a_minute = tracemalloc.get_traced_memory()[0]
        for _ in range(29 * 60):
            stream.feed(block)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - after_a_minute
    finally:
        tracemalloc.stop()
    # One frame of features kept each second would be 400 bytes x 1740 s = 700 kB.
    assert grown < 20_000


@pytest.mark.parametrize(
    "changes",
    [
        {"hop": 0},
        {"window": 600},
        {"hop": 500},
        {"cepstra": 41},
        {"cepstra": 0},
        {"lifter": 0},
        {"low_hz": 9000.0},
        {"high_hz": 8001.0},
    ],
)
def test_parameters_that_do_not_fit_together_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="do not fit together"):
        MfccParams(**changes)  # type: ignore[arg-type]
