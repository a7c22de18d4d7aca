"""The pre-trained encoder beside the model: its features, its windows, and how it is joined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.bundle import Bundle
from edge_runtime.errors import BundleError
from edge_runtime.model.fusion import joined, log_softmax
from edge_runtime.model.pretrained import HOP, Pretrained, PretrainedStatistics, mel_power
from edge_runtime.model.recognizer import Recognizer
from edge_runtime.pcm import SAMPLE_RATE
from edge_runtime.pretrained_arrays import MELS, PretrainedArrays, read_pretrained

FRAMES, WIDTH = 50, 8  # windows of half a second
WINDOW = FRAMES * HOP
RNG = np.random.default_rng(5)
PROJECTION = RNG.standard_normal((MELS, WIDTH)).astype(np.float32)
SOUND = (RNG.standard_normal(4 * WINDOW + 999) * 2000).astype(np.int16)


def encode(window: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    """Stands for a graph: every second frame of all, projected."""
    assert window.shape == (1, MELS, FRAMES)
    assert window.dtype == np.float32
    return [(window[:, :, ::2].transpose(0, 2, 1) @ PROJECTION).astype(np.float32)]


def heard(samples: npt.NDArray[np.int16], cuts: list[int]) -> npt.NDArray[np.float32] | None:
    statistics = PretrainedStatistics(encode, FRAMES, WIDTH)
    for piece in np.split(samples, cuts):
        statistics.feed(piece)
    return statistics.finish()


def test_log_odds_are_divided_by_the_factor_of_what_the_encoder_hears(
    bundle: Bundle, sentence: npt.NDArray[np.int16]
) -> None:
    """In the bundle in the box; before a window is full a verdict rests on the model alone."""
    part, arrays = bundle.manifest.pretrained, bundle.pretrained()
    assert part is not None
    assert part.distance_slope > 0
    assert arrays is not None
    assert arrays.familiarity is not None
    manifest = replace(bundle.manifest, pretrained=replace(part, distance_slope=0.0))
    pretrained = Pretrained(bundle)
    pretrained.feed(sentence)
    states = pretrained.finish()
    assert states is not None
    known = arrays.familiarity
    places = states @ known.projection - known.centres
    nearest = np.log((places**2).sum(axis=1).min())
    expected = np.exp(part.distance_slope * (nearest - part.usual_distance))
    assert 0.5 < expected < 4
    assert expected != pytest.approx(1, abs=0.01)
    found = []
    for one in (bundle, replace(bundle, manifest=manifest)):
        recognizer = Recognizer(one)
        recognizer.feed(sentence[:30_000])
        early = recognizer.verdict()
        recognizer.feed(sentence[30_000:])
        verdict = recognizer.finish()
        assert early is not None
        assert verdict is not None
        found.append((early.scores, np.log(verdict.scores.astype(np.float64))))
    (early, here), (as_early, there) = found
    assert early.tolist() == as_early.tolist()
    best = there.argmax()
    assert here - here[best] == pytest.approx((there - there[best]) / expected, abs=1e-3)


def test_a_slope_without_what_it_is_of_is_refused(bundle: Bundle) -> None:
    arrays = bundle.pretrained()
    assert arrays is not None
    without = {**bundle.contents, "pretrained_arrays": replace(arrays, familiarity=None).content()}
    with pytest.raises(BundleError, match=r"pretrained.npz lacks what the distance_slope is of"):
        replace(bundle, contents=without).pretrained()


def test_mel_spectrogram_is_librosas() -> None:
    librosa = pytest.importorskip("librosa")
    signal = (SOUND / 32768).astype(np.float32)
    expected = librosa.feature.melspectrogram(
        y=signal, sr=SAMPLE_RATE, n_fft=400, hop_length=HOP, n_mels=MELS, center=False
    ).T
    found = mel_power(signal, len(expected))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-8)


@settings(deadline=None, max_examples=30)
@given(
    length=st.integers(1, SOUND.size)
    | st.sampled_from([WINDOW - 1, WINDOW, WINDOW + 199, WINDOW + 200, WINDOW + 201, 2 * WINDOW]),
    cuts=st.lists(st.integers(0, SOUND.size), max_size=8),
)
def test_every_cut_of_the_samples_gives_the_same_bits(length: int, cuts: list[int]) -> None:
    samples = SOUND[:length]
    whole, cut = heard(samples, []), heard(samples, sorted(cuts))
    assert whole is not None
    assert cut is not None
    assert whole.tolist() == cut.tolist()


def test_windows_are_as_slow_arithmetic_has_them() -> None:
    """Each window divided by the power of all so far, 8 decades deep, silence behind the end."""
    samples = SOUND[: 2 * WINDOW + 30 * HOP]
    signal = samples / 32768.0
    padded = np.concatenate([np.zeros(200), signal, np.zeros(3 * WINDOW)]).astype(np.float32)
    states = []
    for number, frames in enumerate((FRAMES, FRAMES, 30)):
        begin = number * WINDOW
        power = float((signal[: begin + WINDOW] ** 2).mean()) + 1e-7
        levels = np.log10(np.maximum(mel_power(padded[begin:], frames) / power, 1e-10))
        floor = levels.max() - 8
        window = np.full((1, MELS, FRAMES), (floor + 4) / 4, np.float32)
        window[0, :, :frames] = ((np.maximum(levels, floor) + 4) / 4).T
        states.append(encode(window)[0][0, : frames // 2])
    every = np.concatenate(states).astype(np.float64)
    found = heard(samples, [])
    assert found is not None
    expected = np.concatenate([every.mean(axis=0), every.std(axis=0)])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_level_does_not_matter_and_silence_is_survived() -> None:
    quiet, loud = heard(SOUND // 8 * 8 // 4, []), heard(SOUND // 8 * 8, [])
    assert quiet is not None
    assert loud is not None
    np.testing.assert_allclose(quiet, loud, atol=0.02)
    silent = heard(np.zeros(WINDOW, np.int16), [])
    assert silent is not None
    assert np.isfinite(silent).all()


def test_an_utterance_leaves_nothing_to_the_next() -> None:
    statistics = PretrainedStatistics(encode, FRAMES, WIDTH)
    assert statistics.finish() is None
    statistics.feed(SOUND)
    assert statistics.result() is not None
    statistics.finish()
    assert statistics.result() is None
    statistics.feed(SOUND[:WINDOW])
    assert statistics.result() is None  # until what the last frame reaches into is there
    again, alone = statistics.finish(), heard(SOUND[:WINDOW], [])
    assert again is not None
    assert alone is not None
    assert again.tolist() == alone.tolist()


def test_joined_scores_are_a_tempered_product() -> None:
    own = np.array([0.7, 0.2, 0.1], np.float32)
    said = log_softmax([0.3, 2.0, -1.0])
    assert sum(np.exp(said)) == pytest.approx(1)
    product = own**0.5 * np.exp(said) ** (1.5 / 2)
    found = joined(own, said, 1.5, 2.0)
    np.testing.assert_allclose(found, product / product.sum(), rtol=1e-5)
    np.testing.assert_allclose(joined(own, said, 0.0, 1.0), own, rtol=1e-5)


def test_the_layer_goes_through_its_file_and_misfits_are_refused() -> None:
    arrays = PretrainedArrays(
        RNG.standard_normal((2 * WIDTH, 3)).astype(np.float32), np.zeros(3, np.float32)
    )
    again = read_pretrained(arrays.content(), WIDTH, 3)
    assert again.weights.tolist() == arrays.weights.tolist()
    with pytest.raises(ValueError, match=r"weights is float32 \(16, 3\), expected .* \(18, 3\)"):
        read_pretrained(arrays.content(), WIDTH + 1, 3)
    with pytest.raises(ValueError, match=r"is no \.npz file"):
        read_pretrained(b"nothing", WIDTH, 3)
    infinite = PretrainedArrays(arrays.weights, np.full(3, np.inf, np.float32))
    with pytest.raises(ValueError, match="not finite"):
        read_pretrained(infinite.content(), WIDTH, 3)
