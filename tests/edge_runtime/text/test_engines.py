"""Engines whose models are not at hand: the real packages, called as far as they go without."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import EdgeError, MissingPackageError, TextError
from edge_runtime.text import TextSource
from edge_runtime.text.engines import source_named


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vosk", "needs a model folder from https://alphacephei.com"),
        ("vosk:/nowhere", "there is no /nowhere; it needs a model folder"),
        ("sherpa:/nowhere", "there is no /nowhere"),
        ("whisper", "needs a file from"),
        ("faster-whisper", "needs a model folder from https://huggingface.co/Systran"),
        ("faster-whisper:/nowhere", "there is no /nowhere; it needs a model folder"),
        ("faster_whisper:/nowhere", "unknown text source 'faster_whisper:/nowhere'"),
        ("asr:/nowhere", "there is no folder /nowhere; it holds an acoustic model"),
    ],
)
def test_a_model_that_is_not_there_is_said_with_where_to_get_it(name: str, message: str) -> None:
    with pytest.raises(TextError, match=message):
        source_named(name)


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("vosk:x", "vosk"),
        ("sherpa:x", "sherpa"),
        ("whisper:x", "whisper"),
        ("faster-whisper:x", "faster-whisper"),
    ],
)
def test_a_missing_package_names_the_extra(
    name: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=rf"pip install 'edge-emotion\[{extra}\]'"):
        source_named(name)


def refusal(name: str) -> str:
    with pytest.raises(EdgeError) as caught:
        source_named(name)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_vosk_refuses_a_folder_of_another_kind(tmp_path: Path) -> None:
    pytest.importorskip("vosk")
    assert "expected an unpacked model from https" in refusal(f"vosk:{tmp_path}")


def test_vosk_results_as_documented_become_words() -> None:
    pytest.importorskip("vosk")
    from edge_runtime.text.engines.vosk import parse

    # The example of vosk_api.h, vosk_recognizer_result.
    final = """{"result" : [{"conf" : 1.000000, "end" : 1.110000, "start" : 0.870000,
        "word" : "what"}, {"conf" : 1.000000, "end" : 1.530000, "start" : 1.110000,
        "word" : "zero"}], "text" : "what zero"}"""
    words = parse(final, 10.0)
    assert [(w.text, w.start, w.end, w.confidence) for w in words] == [
        ("what", 10.87, pytest.approx(11.11), 1.0),
        ("zero", pytest.approx(11.11), 11.53, 1.0),
    ]
    assert [w.text for w in parse('{"partial" : "what ze"}', 1.0)] == ["what", "ze"]
    partial = json.dumps({"partial": "what", "partial_result": json.loads(final)["result"][:1]})
    assert parse(partial, 0.0)[0].start == 0.87
    assert parse('{"text" : ""}', 0.0) == []


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ((), "there is no tokens.txt"),
        (("tokens.txt",), "holds no such set"),
        (("tokens.txt", "encoder.onnx", "decoder.onnx", "joiner.onnx"), "ModelProto does not have"),
        (("tokens.txt", "model.int8.onnx"), "ModelProto does not have a graph"),
        (
            (
                *("tokens.txt", "preprocess.onnx", "encode.int8.onnx"),
                *("uncached_decode.int8.onnx", "cached_decode.int8.onnx"),
            ),
            "ModelProto does not have a graph",
        ),
    ],
)
def test_sherpa_refuses_folders_of_another_kind(
    files: tuple[str, ...], why: str, tmp_path: Path
) -> None:
    pytest.importorskip("sherpa_onnx")
    for name in files:
        (tmp_path / name).touch()
    message = refusal(f"sherpa:{tmp_path}")
    assert why in message
    assert "k2-fsa/sherpa-onnx/releases" in message


@pytest.fixture
def tiny_sense_voice(tmp_path: Path) -> TextSource:
    """A model of SenseVoice's form without its knowledge: every frame says the next token."""
    pytest.importorskip("sherpa_onnx")
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    tokens = [
        "<unk>",
        "▁",
        "▁so",
        "▁ha",
        "ppy",
        "▁now",
        *["<|en|>", "<|HAPPY|>", "<|Speech|>", "<|woitn|>"],
    ]
    (tmp_path / "tokens.txt").write_text("".join(f"{t} {i}\n" for i, t in enumerate(tokens)))
    # Language, emotion, event and style come first; then there is a frame every 60 ms.
    said = [6, 7, 8, 9, 2, 2, 0, 0, 3, 4, 0, 0, 5, *[0] * 7]
    logits = np.full((1, len(said), len(tokens)), -9.0, np.float32)
    logits[0, range(len(said)), said] = 9.0
    graph = helper.make_graph(
        [helper.make_node("Identity", ["said"], ["logits"])],
        "sense_voice",
        [
            helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, "T", 560]),
            helper.make_tensor_value_info("x_length", onnx.TensorProto.INT32, [1]),
            helper.make_tensor_value_info("language", onnx.TensorProto.INT32, [1]),
            helper.make_tensor_value_info("text_norm", onnx.TensorProto.INT32, [1]),
        ],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, logits.shape)],
        [numpy_helper.from_array(logits, "said")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    values = {
        "model_type": "sense_voice_ctc",
        "vocab_size": len(tokens),
        "lfr_window_size": 7,
        "lfr_window_shift": 6,
        "normalize_samples": 0,
        "with_itn": 14,
        "without_itn": 15,
        "lang_auto": 0,
        "lang_zh": 3,
        "lang_en": 4,
        "lang_yue": 7,
        "lang_ja": 11,
        "lang_ko": 12,
        "lang_nospeech": 13,
        "neg_mean": ",".join(["0"] * 560),
        "inv_stddev": ",".join(["1"] * 560),
    }
    for key, value in values.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, str(value)
    onnx.save(model, tmp_path / "model.onnx")
    return source_named(f"sherpa:{tmp_path}")


def test_sherpa_hears_an_utterance_through_a_model_of_sense_voices_form(
    tiny_sense_voice: TextSource,
) -> None:
    engine = tiny_sense_voice
    engine.begin(5.0)
    assert engine.feed(np.ones(8000, np.int16)) is None
    assert engine.feed(np.ones(8000, np.int16)) is None
    found = engine.end()
    # Made-up weights: what follows the three words depends on the last frames' rounding.
    assert found.text.startswith("so happy now")
    assert (found.start, found.source) == (5.0, "sherpa")
    assert [w.start for w in found.words] == sorted(w.start for w in found.words)
    assert 5.0 <= found.words[0].start < found.words[-1].end <= 6.0
    engine.begin(9.0)
    assert engine.end().words == ()
    with pytest.raises(TextError, match="had not begun"):
        engine.end()


def test_word_pieces_become_words_with_times_and_probability() -> None:
    pytest.importorskip("sherpa_onnx")
    from edge_runtime.text.engines.sherpa import words_of

    pieces = ["▁SO", "▁HA", "PP", "Y"]
    words = words_of(pieces, [0.1, 0.4, 0.5, 0.6], [math.log(0.9), 0.0, math.log(0.25), 0.0], 2, 3)
    assert [w.text for w in words] == ["so", "happy"]
    assert [(w.start, w.end) for w in words] == [(2.1, 2.4), (2.4, 3.0)]
    assert [w.confidence for w in words] == [pytest.approx(0.9), pytest.approx(0.25 ** (1 / 3))]
    assert [w.text for w in words_of(["你", "好"], [0.0, 0.2], [], 0, 1)] == ["你", "好"]
    assert [w.text for w in words_of(["a", "b"], [], [], 0, 1, "So happy")] == ["so", "happy"]


def test_whisper_refuses_what_is_no_ggml_model(tmp_path: Path) -> None:
    pytest.importorskip("pywhispercpp")
    path = tmp_path / "model.bin"
    path.write_bytes(b"GGUF and more")
    assert "is no ggml model; expected a file such as ggml-tiny.en.bin" in refusal(
        f"whisper:{path}"
    )
    assert "is no ggml model" in refusal(f"whisper:{tmp_path}")


def test_whispers_segments_become_words() -> None:
    model = pytest.importorskip("pywhispercpp.model")
    from edge_runtime.text.engines.whisper import words_of

    segments = [
        model.Segment(0, 30, " So", 0.9),
        model.Segment(30, 80, " happy!", 0.7),
        model.Segment(80, 90, " [MUSIC]", 0.5),
        model.Segment(90, 90, " ...", math.nan),
        model.Segment(90, 120, " don't", math.nan),
    ]
    words = words_of(segments, 4.0)
    assert [(w.text, w.confidence) for w in words] == [
        ("so", 0.9),
        ("happy", 0.7),
        ("don't", None),
    ]
    assert (words[1].start, words[1].end) == (pytest.approx(4.3), pytest.approx(4.8))
