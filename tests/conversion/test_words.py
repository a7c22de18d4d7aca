"""Models that read: their int8 and float bundles against torch, in every variant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from random_models import Case, random_case

from conversion.bundle import build
from conversion.export import AttentionGraph
from conversion.inspect import inspect_bundle
from conversion.quantize import float_tensors, tensor_details
from conversion.targets import bundle_target
from edge_runtime import EmotionStream, load_bundle
from edge_runtime.errors import BundleError
from edge_runtime.manifest import ATTENTION, HEAD, TEXT_ENCODER, WHOLE
from edge_runtime.mfcc import mfcc
from edge_runtime.model.fusion import softmax
from edge_runtime.model.recognizer import Recognizer
from edge_runtime.model.window import WholeWindow
from edge_runtime.stream import classify
from training.network.config import ModelConfig
from training.network.fakequant import Phase

SHAPES = {
    "text": ModelConfig(variant="text"),
    "text+swem": ModelConfig(variant="text+swem"),
    "audio+text": ModelConfig(variant="audio+text"),
    "all pairs": ModelConfig(variant="audio+text+att+swem", audio_stride=2),
    "matched": ModelConfig(variant="audio+text+att", attention_pairs="matched"),
}


@pytest.fixture(scope="module", params=SHAPES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return random_case(SHAPES[request.param], tmp_path_factory.mktemp("words") / "bundle")


def test_every_tensor_is_an_integer_and_nothing_moves_data(case: Case) -> None:
    graphs = list(case.path.glob("*.tflite"))
    assert graphs
    for graph in graphs:
        assert float_tensors(graph) == []
        names = [str(d["name"]).lower() for d in tensor_details(graph)]
        assert not [n for n in names if "perm" in n or "transpose" in n]


def test_the_device_computes_what_the_fake_quantized_model_computes(case: Case) -> None:
    """With both, and with each alone: the same graphs, what is missing is zero."""
    scale = case.bundle.manifest.graphs[HEAD].outputs[0].scale
    recognizer = Recognizer(case.bundle)
    for modality in case.bundle.manifest.modalities:
        hear, read = "audio" in modality, "text" in modality
        expected = case.logits(Phase.INT8, hear, read)
        for sound, text, logits in zip(case.sounds, case.texts, expected, strict=True):
            if hear:
                recognizer.feed(sound)
                verdict = recognizer.finish(text if read else "")
            else:
                verdict = recognizer.judge_text(text)
            assert verdict is not None
            assert verdict.modality == modality
            found = np.log(verdict.scores) - np.log(verdict.scores).mean()
            # A value next to the edge between two steps may fall to either side.
            np.testing.assert_allclose(found, logits - logits.mean(), atol=3 * scale)


def test_the_float_bundle_computes_what_torch_computes(case: Case, tmp_path: Path) -> None:
    out = tmp_path / "float"
    build(case.run, out, bundle_target("raspberry-pi"), "float", form="float", phases=1)
    recognizer = Recognizer(load_bundle(out))
    assert recognizer.engine == "onnxruntime"
    expected = softmax(case.logits(Phase.FLOAT))
    for sound, text, scores in zip(case.sounds, case.texts, expected, strict=True):
        recognizer.feed(sound)
        verdict = recognizer.finish(text)
        assert verdict is not None
        np.testing.assert_allclose(verdict.scores, scores, atol=1e-4)


def test_the_whole_window_graph_says_what_streaming_says(case: Case, tmp_path: Path) -> None:
    """Heard, read, and both; the float form to float precision, int8 within a few steps."""
    out = tmp_path / "float"
    build(case.run, out, bundle_target("raspberry-pi"), "float", form="float", phases=1)
    exact = load_bundle(out)
    features, _ = case.inputs()
    heard = list(features) if features else [None] * len(case.texts)  # type: ignore[call-overload]
    step = case.bundle.manifest.graphs[HEAD].outputs[0].scale
    for bundle in (exact, case.bundle):
        window, recognizer = WholeWindow(bundle), Recognizer(bundle)
        for modality in bundle.manifest.modalities:
            for sound, frames, words in zip(case.sounds, heard, case.texts, strict=True):
                text = words if "text" in modality else ""
                if "audio" in modality:
                    recognizer.feed(sound)
                    verdict = recognizer.finish(text)
                else:
                    verdict = recognizer.judge_text(text)
                found = window.scores(frames if "audio" in modality else None, text)
                # Random weights leave logits a few steps wide; the deviation over a few words is
                # the difference of two nearly equal int8 values.
                steps = 16 + (16 // len(text.split()) if text else 0)
                bound = 1e-4 if bundle is exact else steps * step
                assert verdict is not None
                assert found is not None
                difference = np.log(found) - np.log(verdict.scores)
                np.testing.assert_allclose(difference - difference.mean(), 0, atol=bound)
        assert window.scores(None, "... !") is None


def test_a_head_that_reads_one_modality_in_part_says_the_same(tmp_path: Path) -> None:
    """Rows of the first dense layer that are zero for a branch, or for all, come out in place."""
    case = random_case(SHAPES["all pairs"], tmp_path / "dense")
    config, name = case.run.config, "head.layers.0.weight"
    weight = case.run.weights[name] = case.run.weights[name].clone()
    places = dict(zip(config.branches, np.cumsum(list(config.branches.values())), strict=True))
    weight[1::4, places["audio"] :] = 0  # hears alone, every fourth row
    weight[2::4, : places["audio"]] = 0
    weight[2::4, places["text"] : places["attention"]] = 0  # reads alone
    weight[3] = 0
    target = bundle_target("raspberry-pi")
    build(case.run, tmp_path / "sparse", target, "sparse", phases=1, allow_loss=True)
    bundle = load_bundle(tmp_path / "sparse")
    reports = {report.role: report for report in inspect_bundle(bundle)}
    dense = [o for o in reports[WHOLE].operations if o.name == "FULLY_CONNECTED"]
    assert len(dense) == 4  # all; what hears; what reads; the classes
    layers = [layer.weight.numel() for layer in case.run.model().head.layers]
    assert sum(o.macs for o in dense) == reports[HEAD].macs < sum(layers)
    step = bundle.manifest.graphs[HEAD].outputs[0].scale
    window, recognizer = WholeWindow(bundle), Recognizer(bundle)
    for sound, text in zip(case.sounds, case.texts, strict=True):
        recognizer.feed(sound)
        verdict, found = recognizer.finish(text), window.scores(mfcc(sound), text)
        assert verdict is not None
        assert found is not None
        difference = np.log(found) - np.log(verdict.scores)
        bound = (16 + 16 // len(text.split())) * step  # as for any model with random weights
        np.testing.assert_allclose(difference - difference.mean(), 0, atol=bound)


def test_the_second_factor_of_a_product_has_zero_point_zero(case: Case) -> None:
    """XNNPACK takes it for zero whatever it is."""
    manifest = case.bundle.manifest
    if manifest.text:
        assert {t.zero_point for t in manifest.graphs[TEXT_ENCODER].outputs} == {0}
    if manifest.attention:
        *keys, _, _ = manifest.graphs[ATTENTION].inputs
        assert {t.zero_point for t in keys} == {0}


def test_a_text_without_words_is_no_text(case: Case) -> None:
    stream = EmotionStream(case.bundle, segment=case.bundle.manifest.segment.whole())
    assert stream.judge_text("... !") is None
    if case.bundle.manifest.audio:
        event = classify(stream, case.sounds[0], " ... ")
        assert event.modality == "audio"
        assert event.scores == classify(stream, case.sounds[0]).scores


def test_words_count_for_one_utterance(case: Case) -> None:
    if not case.bundle.manifest.audio:
        pytest.skip("it hears nothing")
    stream = EmotionStream(case.bundle, segment=case.bundle.manifest.segment.whole())
    silent = classify(stream, case.sounds[0])
    both = classify(stream, case.sounds[0], case.texts[3])
    again = classify(stream, case.sounds[0])
    assert (silent.modality, both.modality, again.modality) == ("audio", "audio+text", "audio")
    assert both.text == case.texts[3]
    assert silent.scores == again.scores != both.scores


def test_a_damaged_table_or_vocabulary_is_refused(case: Case, tmp_path: Path) -> None:
    import hashlib
    import json
    import shutil

    def refused(name: str, content: bytes, part: str) -> str:
        copy = tmp_path / name
        shutil.copytree(case.path, copy)
        (copy / name).write_bytes(content)
        with pytest.raises(BundleError, match="is damaged") as first:
            load_bundle(copy)
        assert name in str(first.value)
        manifest = json.loads((copy / "manifest.json").read_text())
        manifest["text"][part]["sha256"] = hashlib.sha256(content).hexdigest()
        (copy / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(BundleError) as second:
            load_bundle(copy)
        return str(second.value)

    assert "not a table" in refused("embeddings.npy", b"no table", "embeddings")
    assert "expected int8 (65, 10)" in refused("vocabulary.txt", b"one\n" * 63, "vocabulary")


def test_attention_on_the_device_is_the_equation() -> None:
    """softmax(e . h) h over the words alone, in the graph's own form."""
    rng = np.random.default_rng(5)
    maps, queries = rng.random((1, 9, 6)), rng.random((1, 12, 6))
    maps[:, 4:] = 0
    mask = np.where(np.arange(9) < 4, 0.0, -16.0)[None, None]
    graph = AttentionGraph(matched=False)
    (found,) = graph(*(torch.from_numpy(x) for x in (maps, mask, queries)))
    for query, result in zip(queries[0], found[0].numpy(), strict=True):
        weights = np.exp([query @ h for h in maps[0, :4]])
        expected = sum(w * h for w, h in zip(weights / weights.sum(), maps[0, :4], strict=True))
        np.testing.assert_allclose(result, expected, atol=1e-5)
