"""The model, running: the same verdict as a slow computation over the whole utterance at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.peers.speech_features import reference as reference_features
from edge_runtime.bundle import Bundle
from edge_runtime.manifest import AUDIO_ENCODER, HEAD
from edge_runtime.model.familiarity import LARGEST, SMALLEST
from edge_runtime.model.fusion import softmax
from edge_runtime.model.recognizer import Recognizer
from edge_runtime.model.spu import STD_EPSILON
from edge_runtime.segment import speech_of

Int16 = npt.NDArray[np.int16]
Float64 = npt.NDArray[np.float64]


def recognize(recognizer: Recognizer, samples: Int16, block: int) -> npt.NDArray[np.float32]:
    for start in range(0, samples.size, block):
        recognizer.feed(samples[start : start + block])
    verdict = recognizer.finish()
    assert verdict is not None
    assert verdict.modality == "audio"
    return verdict.scores


def whole_array_scores(bundle: Bundle, samples: Int16) -> Float64:
    """The same graphs over the whole utterance, with nothing of the runtime's streaming.

    Features by python_speech_features; all frames quantized at once; the encoder run on windows
    that lie otherwise than the runtime's (7 maps further left), zero point where there is no
    audio; float64 statistics over all maps; the head once.
    """
    manifest = bundle.manifest
    encoder, head = bundle.open_graph(AUDIO_ENCODER), bundle.open_graph(HEAD)
    (spec,) = encoder.inputs
    audio = manifest.audio
    assert audio is not None
    features = reference_features(samples, manifest.mfcc)
    steps = np.rint((features - audio.feature_mean) / audio.feature_std / spec.scale)
    frames = np.clip(steps + spec.zero_point, -128, 127).astype(np.int8)

    count, chunk, context = len(frames), audio.chunk_frames, audio.context_frames
    stride, skipped = audio.stride, 7
    shift = stride * skipped
    silence = np.full((context + shift, frames.shape[1]), spec.zero_point, np.int8)
    after = np.full((2 * chunk + context, frames.shape[1]), spec.zero_point, np.int8)
    padded = np.concatenate([silence, frames, after])
    maps: list[list[npt.NDArray[np.int8]]] = [[] for _ in audio.kernels]
    for start in range(0, count + shift, chunk):
        outputs = encoder(padded[None, None, start : start + chunk + 2 * context])
        for kernel, output in zip(maps, outputs, strict=True):
            kernel.append(output[0, 0])
    pooled = []
    for kernel, output_spec in zip(maps, encoder.outputs, strict=True):
        valid = np.concatenate(kernel)[skipped : skipped - (-count // stride)].astype(np.float64)
        real = (valid - output_spec.zero_point) * output_spec.scale
        pooled += [real.max(axis=0), real.mean(axis=0), np.sqrt(real.var(axis=0) + STD_EPSILON)]
    heard = np.concatenate(pooled)
    # What is not there of the other modality is zero.
    standardized = np.zeros(head.inputs[0].shape[1])
    standardized[: len(heard)] = (heard - manifest.pooled_mean[: len(heard)]) / manifest.pooled_std[
        : len(heard)
    ]
    (logits,) = head(head.inputs[0].quantize(standardized[None]))
    real_logits = head.outputs[0].dequantize(logits)[0].astype(np.float64)
    temperature = manifest.calibration["audio"].temperature
    known, arrays = manifest.familiarity, bundle.familiarity()
    assert known is not None
    assert arrays is not None
    clipped = np.clip(standardized[: len(heard)], -known.limit, known.limit)
    away = ((clipped @ arrays.projection - arrays.centres) ** 2).sum(axis=1).min()
    temperature *= np.clip(np.exp(known.slope * (np.log(away) - known.usual)), SMALLEST, LARGEST)
    exponentials = np.exp(real_logits / temperature)
    return np.asarray(exponentials / exponentials.sum())


def step_of_a_score(bundle: Bundle) -> float:
    """What one int8 step of the logits can move a probability by: p(1-p) <= 1/4 of it."""
    scale = bundle.open_graph(HEAD).outputs[0].scale
    return scale / (bundle.manifest.calibration["audio"].temperature * SMALLEST) / 4


def test_streaming_gives_the_verdict_of_a_whole_array_computation(
    model_alone: Bundle, recordings: list[Int16]
) -> None:
    recognizer = Recognizer(model_alone)
    steps = []
    for samples in recordings:
        speech = speech_of(samples)
        expected = whole_array_scores(model_alone, speech)
        found = recognize(recognizer, speech, 1600)
        steps.append(np.abs(found - expected).max() / step_of_a_score(model_alone))
    # Some thousandths of the int8 frames lie so close to a half that float32 and float64 features
    # round them apart; that can move a logit by one step, or two that move against each other.
    assert max(steps) <= 2
    # Mostly it moves none: then the probabilities differ by float32 alone.
    assert np.median(steps) < 0.01


def test_the_scene_agrees_with_a_whole_array_computation(model_alone: Bundle, scene: Int16) -> None:
    found = recognize(Recognizer(model_alone), scene, 1600)
    bound = 2 * step_of_a_score(model_alone)  # as above
    assert np.abs(found - whole_array_scores(model_alone, scene)).max() <= bound


@pytest.mark.parametrize("length", [1, 160, 399, 400, 401, 4000, 4160, 5600, 5601, 20_000])
def test_utterances_of_every_length_agree_with_a_whole_array_computation(
    model_alone: Bundle, sentence: Int16, length: int
) -> None:
    samples = sentence[20_000 : 20_000 + length]
    found = recognize(Recognizer(model_alone), samples, 700)
    bound = 2 * step_of_a_score(model_alone)  # as above
    assert np.abs(found - whole_array_scores(model_alone, samples)).max() <= bound


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, 64_000), max_size=30))
def test_any_cut_of_the_samples_gives_the_same_scores(
    bundle: Bundle, sentence: Int16, cuts: list[int]
) -> None:
    samples = sentence[:64_000]
    recognizer = Recognizer(bundle)
    for piece in np.split(samples, sorted(cuts)):
        recognizer.feed(piece)
    verdict = recognizer.finish()
    assert verdict is not None
    found = verdict.scores
    # A cut regroups float32 sums in the features; a frame next to a half can round the other way.
    bound = 2 * step_of_a_score(bundle)
    assert np.abs(found - recognize(Recognizer(bundle), samples, 64_000)).max() <= bound


def test_an_utterance_does_not_hear_the_one_before_it(bundle: Bundle, sentence: Int16) -> None:
    recognizer = Recognizer(bundle)
    first = recognize(recognizer, sentence, 1600)
    recognize(recognizer, sentence[::-1].copy(), 1600)
    assert np.array_equal(recognize(recognizer, sentence, 1600), first)


def test_asking_for_scores_does_not_change_them(bundle: Bundle, sentence: Int16) -> None:
    asked, silent = Recognizer(bundle), Recognizer(bundle)
    for start in range(0, sentence.size, 1600):
        for recognizer in (asked, silent):
            recognizer.feed(sentence[start : start + 1600])
        asked.verdict()
    one, other = asked.finish(), silent.finish()
    assert one is not None
    assert other is not None
    assert np.array_equal(one.scores, other.scores)


def test_there_is_no_verdict_before_anything_was_heard(bundle: Bundle) -> None:
    recognizer = Recognizer(bundle)
    assert recognizer.verdict() is None
    assert recognizer.finish() is None
    recognizer.feed(np.zeros(1600, np.int16))
    assert recognizer.verdict() is None  # the first chunk needs more than that


def test_scores_are_probabilities(bundle: Bundle, sentence: Int16) -> None:
    scores = recognize(Recognizer(bundle), sentence, 1600)
    assert scores.shape == (len(bundle.manifest.labels),)
    assert (scores >= 0).all()
    assert scores.sum() == pytest.approx(1.0, abs=1e-6)  # a few float32 roundings


def test_softmax_of_extreme_logits_is_finite_and_sums_to_one() -> None:
    scores = softmax(np.array([1e4, -1e4, 9999.0], np.float32))
    assert scores == pytest.approx([np.e / (1 + np.e), 0, 1 / (1 + np.e)])


def test_a_higher_temperature_is_less_sure_of_the_same_class() -> None:
    logits = np.array([2.0, 1.0, 0.0, -1.0])
    sharp, soft = softmax(logits, 0.5), softmax(logits, 3.0)
    assert sharp.argmax() == soft.argmax() == 0
    assert sharp[0] > softmax(logits)[0] > soft[0]
