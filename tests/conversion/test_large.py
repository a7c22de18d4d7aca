"""The large tier end to end: the encoder's graph, a bundle with it, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from packaged import need_whisper

from conversion.bundle import build
from conversion.card import model_card
from conversion.errors import ConversionError
from conversion.targets import bundle_target
from edge_runtime.bundle import Bundle, load_bundle
from edge_runtime.commands.run import open_stream
from edge_runtime.commands.settings import RunSettings
from edge_runtime.doctor import examine
from edge_runtime.enroll import Enrolment
from edge_runtime.errors import BundleError, ProfileError
from edge_runtime.graph import Graph
from edge_runtime.manifest import AUDIO, BOTH, HEAD, PRETRAINED, Manifest
from edge_runtime.model.fusion import joined
from edge_runtime.model.pretrained import PretrainedStatistics
from edge_runtime.model.recognizer import Heard, Recognizer
from edge_runtime.model.reference import Reference
from edge_runtime.pretrained_arrays import PretrainedArrays, PretrainedReferenceArrays
from edge_runtime.profile import load_profile
from edge_runtime.stream import EmotionStream, judge_clip
from training.data.teachers import whisper
from training.data.teachers.whisper import FRAMES, WIDTH
from training.data.whisper_encoder import packed_encoder, published_encoder, unpacked_encoder
from training.errors import TrainingError
from training.evaluate.judge import convert
from training.run import DEFAULT_RUN, Pretrained, PretrainedReference, load
from training.tiers import EXTENTS, LARGE, SMALL, Extent

Int16 = npt.NDArray[np.int16]

STRENGTH, TEMPERATURE, THRESHOLD = 0.8, 1.5, 0.61
ADAPTED, COOLED = 0.7, 1.6  # strength and temperature of what the encoder hears beside a reference


@pytest.fixture(autouse=True, scope="module")
def _installed() -> None:
    need_whisper()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default run with a layer drawn at random, as a bundle."""
    drawn = np.random.default_rng(3)
    weights = drawn.standard_normal((2 * WIDTH, 4)).astype(np.float32) * np.float32(0.02)
    run = load(DEFAULT_RUN)
    run.pretrained[LARGE] = Pretrained(
        PretrainedArrays(weights, np.zeros(4, np.float32)),
        {
            "frames": FRAMES,
            "strength": {AUDIO: STRENGTH, BOTH: STRENGTH},
            "temperature": {AUDIO: TEMPERATURE, BOTH: TEMPERATURE},
        },
        {AUDIO: THRESHOLD},
        {"protocol": "none"},
        PretrainedReference(
            PretrainedReferenceArrays(
                drawn.standard_normal(2 * WIDTH).astype(np.float32),
                drawn.uniform(0.5, 1.5, 2 * WIDTH).astype(np.float32),
                drawn.standard_normal((4 * WIDTH, 4)).astype(np.float32) * np.float32(0.02),
                np.zeros(4, np.float32),
            ),
            {"strength": ADAPTED, "temperature": {AUDIO: COOLED}},
        ),
    )
    folder = tmp_path_factory.mktemp("large")
    run.save(folder / "run")
    return convert(folder / "run", folder / "bundle", "--tier", LARGE)


@pytest.fixture(scope="module")
def bundle(large: Path) -> Bundle:
    """As sure of what is unlike all that trained as of the rest."""
    loaded = load_bundle(large)
    manifest = dataclasses.replace(loaded.manifest, familiarity=None)
    return dataclasses.replace(loaded, manifest=manifest)


def scores(recognizer: Recognizer, samples: Int16, block: int, text: str = "") -> list[float]:
    for start in range(0, samples.size, block):
        recognizer.feed(samples[start : start + block])
    verdict = recognizer.finish(text)
    assert verdict is not None
    return [float(score) for score in verdict.scores]


def test_the_encoder_has_the_states_of_the_graph_its_weights_are_from(scene: Int16) -> None:
    """The original quantizes every activation statically, so it is off from its own weights."""
    mel = whisper._mels(scene[:128_000].astype(np.float32) / 32768)[None]
    (expected,) = whisper._encoder().run([whisper._STATES], {"input_features": mel})
    encoder = published_encoder(Extent(4))
    with torch.no_grad():
        x = encoder_until(encoder, torch.from_numpy(mel))
    found = encoder.layers[3].self_attn_layer_norm(x).detach().numpy()
    assert np.corrcoef(found.ravel(), expected.astype(np.float32).ravel())[0, 1] > 0.8


def encoder_until(encoder: torch.nn.Module, mel: torch.Tensor) -> torch.Tensor:
    """The states behind the third block."""
    layers = encoder.layers
    encoder.layers = layers[:3]
    try:
        states: torch.Tensor = encoder(mel)
    finally:
        encoder.layers = layers
    return states


def test_the_graph_computes_what_torch_does(bundle: Bundle, scene: Int16) -> None:
    """int8 weights, each product quantized as it goes: nearly the float states."""
    graph = bundle.open_graph(PRETRAINED)
    encoder = published_encoder(EXTENTS[LARGE])

    def torch_encoder(window: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        with torch.no_grad():
            return [encoder(torch.from_numpy(window)).numpy()]

    found = []
    for computes in (graph, torch_encoder):
        statistics = PretrainedStatistics(computes, FRAMES, WIDTH)
        statistics.feed(scene)
        result = statistics.finish()
        assert result is not None
        found.append(result)
    assert np.corrcoef(*found)[0, 1] > 0.999


def test_a_bundle_joins_both_and_every_cut_gives_the_same(bundle: Bundle, scene: Int16) -> None:
    recognizer = Recognizer(bundle)
    found = scores(recognizer, scene, scene.size)
    for block in (160, 4801):
        assert scores(recognizer, scene, block) == found
    alone = dataclasses.replace(
        bundle, manifest=dataclasses.replace(bundle.manifest, pretrained=None)
    )
    own = np.array(scores(Recognizer(alone), scene, 4800))
    statistics = PretrainedStatistics(bundle.open_graph(PRETRAINED), FRAMES, WIDTH)
    statistics.feed(scene)
    result, arrays = statistics.finish(), bundle.pretrained()
    assert result is not None
    assert arrays is not None
    said = np.exp((result @ arrays.weights).astype(np.float64))
    product = (own * (said / said.sum()) ** STRENGTH) ** (1 / TEMPERATURE)
    np.testing.assert_allclose(found, product / product.sum(), atol=1e-5)
    assert max(abs(np.array(found) - own)) > 0.01


def test_what_both_say_is_less_sure_of_the_unlike(
    large: Path, bundle: Bundle, scene: Int16
) -> None:
    recognizer, before = Recognizer(load_bundle(large)), Recognizer(bundle)
    found, plain = (np.array(scores(one, scene, 4800)) for one in (recognizer, before))
    assert recognizer.last is not None
    assert recognizer.last.factor != 1
    expected = plain ** (1 / recognizer.last.factor)
    np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-5)


def test_the_model_is_adapted_to_a_speaker_and_what_the_encoder_hears_as_well(
    bundle: Bundle, scene: Int16
) -> None:
    def adapting(manifest: Manifest) -> tuple[list[float], Heard]:
        recognizer = Recognizer(dataclasses.replace(bundle, manifest=manifest))
        changed = dataclasses.replace(bundle, manifest=manifest)
        recognizer.reference = Reference(changed, running=True)
        scores(recognizer, scene[:64_000], 4800)
        found = scores(recognizer, scene[64_000:128_000], 4800)
        assert recognizer.last is not None
        return found, recognizer.last

    plain = dataclasses.replace(bundle.manifest, pretrained_reference=None)
    alone = dataclasses.replace(plain, pretrained=None)
    own, _ = adapting(alone)
    cold = scores(
        Recognizer(dataclasses.replace(bundle, manifest=alone)), scene[64_000:128_000], 4800
    )
    assert max(abs(np.array(own) - cold)) > 0.01
    joined_cold, heard = adapting(plain)
    assert heard.pretrained is not None
    expected = joined(np.array(own, np.float32), heard.pretrained, STRENGTH, TEMPERATURE)
    np.testing.assert_allclose(joined_cold, expected, atol=1e-5)

    found, heard = adapting(bundle.manifest)
    assert heard.pretrained is not None
    assert heard.opinion is not None
    states = []
    for piece in (scene[:64_000], scene[64_000:128_000]):
        statistics = PretrainedStatistics(bundle.open_graph(PRETRAINED), FRAMES, WIDTH)
        statistics.feed(piece)
        states.append(statistics.finish())
    part, arrays = bundle.manifest.reference, bundle.pretrained_reference()
    assert part is not None
    assert arrays is not None
    before, now = (
        np.clip((row - arrays.mean) / arrays.std, -part.limit, part.limit) for row in states
    )
    share = heard.opinion.share
    assert 0 < share <= 0.5
    logits = np.concatenate([now, before / 2]) @ arrays.weights + arrays.bias
    beside = logits - np.log(np.exp(logits).sum())
    product = np.log(own) + STRENGTH * np.array(heard.pretrained) + ADAPTED * share * beside
    product = np.exp(product / (TEMPERATURE * (1 + (COOLED - 1) * share)))
    np.testing.assert_allclose(found, product / product.sum(), atol=1e-4)
    assert max(abs(np.array(found) - joined_cold)) > 0.01


@pytest.mark.parametrize("block", [160, 4801])
def test_adapting_is_the_same_for_every_cut(bundle: Bundle, scene: Int16, block: int) -> None:
    def said(block: int) -> list[list[float]]:
        recognizer = Recognizer(bundle)
        recognizer.reference = Reference(bundle, running=True)
        pieces = (scene[:32_000], scene[32_000:64_000], scene[64_000:])
        return [scores(recognizer, piece, block) for piece in pieces]

    assert said(block) == said(scene.size)


def test_a_profile_holds_what_the_encoder_hears_and_is_of_this_bundle_alone(
    bundle: Bundle, scene: Int16, tmp_path: Path
) -> None:
    enrolment = Enrolment(bundle)
    enrolment.feed(scene)
    enrolment.finish()
    profile = enrolment.profile(anyway=True)
    width = bundle.manifest.branches["audio"]
    assert profile.mean.size == width + 2 * WIDTH
    profile.save(tmp_path / "anna.json")
    assert (tmp_path / "anna.json").stat().st_size < 20_000
    known = Recognizer(bundle)
    known.reference = Reference(bundle, load_profile(tmp_path / "anna.json"))
    found = scores(known, scene[:64_000], 4800)
    assert found != scores(Recognizer(bundle), scene[:64_000], 4800)
    # Nothing fades: the next utterance is judged by the same voice.
    assert scores(known, scene[:64_000], 4800) == found
    plain = dataclasses.replace(
        bundle, manifest=dataclasses.replace(bundle.manifest, pretrained_reference=None)
    )
    assert plain.identity != bundle.identity
    with pytest.raises(ProfileError, match="another bundle"):
        Reference(plain, profile)


def test_late_words_join_what_was_heard(bundle: Bundle, scene: Int16) -> None:
    recognizer = Recognizer(bundle)
    told = scores(recognizer, scene[:64_000], 4800, "i hate this")
    scores(recognizer, scene[:64_000], 4800)
    heard = recognizer.last
    scores(recognizer, scene[64_000:128_000], 4800)
    verdict = recognizer.judge(heard, "i hate this")
    assert verdict is not None
    assert verdict.scores.tolist() == told


def test_a_partial_verdict_does_not_wait_for_a_window(bundle: Bundle, scene: Int16) -> None:
    recognizer = Recognizer(bundle)
    recognizer.feed(scene[:32_000])
    assert recognizer.verdict() is not None


def test_its_threshold_is_of_both_together(bundle: Bundle) -> None:
    assert bundle.manifest.calibration[AUDIO].threshold == THRESHOLD
    own = load(DEFAULT_RUN).calibration[AUDIO]
    assert bundle.manifest.calibration[AUDIO].temperature == own.temperature
    assert EmotionStream(bundle).recognizer.manifest.pretrained is not None


def test_the_bundle_stays_within_12_mb(bundle: Bundle) -> None:
    assert bundle.file_bytes() <= 12_000_000
    integer = [o.dtype == "int8" for o in bundle.manifest.graphs[HEAD].outputs]
    assert all(integer)
    names = {spec.dtype for spec in bundle.manifest.graphs[PRETRAINED].inputs}
    assert names == {"float32"}


def test_the_card_names_the_encoder_and_its_terms(large: Path) -> None:
    card = (large / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "smart-turn v3.2 (BSD-2-Clause). Both ask" in card
    assert "Copyright (c) 2024-2026, Daily" in card


def test_the_card_says_that_the_encoder_was_trained_further(large: Path) -> None:
    manifest = load_bundle(large).manifest
    metrics = {**manifest.metrics, "encoder": {"encoder_epochs": 6}}
    card = model_card(dataclasses.replace(manifest, metrics=metrics))
    assert "smart-turn v3.2 (BSD-2-Clause), trained further on the corpora above. Both" in card


def test_a_run_that_is_joined_with_nothing_is_refused(tmp_path: Path) -> None:
    run, target = load(DEFAULT_RUN), bundle_target("raspberry-pi")
    plain = dataclasses.replace(run, pretrained={})
    with pytest.raises(ConversionError, match="python -m training pretrained RUN"):
        build(plain, tmp_path / "out", target, "large", tier=LARGE)


def test_misfits_are_refused(large: Path, tmp_path: Path) -> None:
    changed = tmp_path / "bundle"
    shutil.copytree(large, changed)
    path = changed / "manifest.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    for part, expected in (
        ({"frames": 400}, r"has shape \[\(1, 80, 800\)\], expected \[\(1, 80, 400\)\]"),
        ({"strength": {AUDIO: -1.0, BOTH: 1.0}}, "pretrained strength of 'audio' is -1.0"),
        ({"temperature": {AUDIO: 1.0}}, r"pretrained temperature of 'audio\+text' is None"),
    ):
        pretrained = {**raw["pretrained"], **part}
        path.write_text(json.dumps({**raw, "pretrained": pretrained}), encoding="utf-8")
        with pytest.raises(BundleError, match=expected):
            load_bundle(changed)
    for part, expected in (
        ({"strength": -1.0}, "pretrained_reference strength -1.0"),
        ({"temperature": {AUDIO: 0.0}}, "pretrained_reference temperature of 'audio' is 0.0"),
    ):
        beside = {"pretrained_reference": {**raw["pretrained_reference"], **part}}
        path.write_text(json.dumps({**raw, **beside}), encoding="utf-8")
        with pytest.raises(BundleError, match=expected):
            load_bundle(changed)
    voiceless = {name: part for name, part in raw.items() if name != "reference"}
    path.write_text(json.dumps(voiceless), encoding="utf-8")
    with pytest.raises(BundleError, match="needs the encoder, and a reference of voices"):
        load_bundle(changed)
    lacking = {name: graph for name, graph in raw["graphs"].items() if name != PRETRAINED}
    path.write_text(json.dumps({**raw, "graphs": lacking}), encoding="utf-8")
    with pytest.raises(BundleError, match="lacks the pretrained graph"):
        load_bundle(changed)
    path.write_text(json.dumps(raw), encoding="utf-8")
    for name in ("pretrained", "pretrained_reference"):
        before = (changed / f"{name}.npz").read_bytes()
        (changed / f"{name}.npz").write_bytes(b"x")
        with pytest.raises(BundleError, match=rf"{name}\.npz is damaged"):
            load_bundle(changed)
        (changed / f"{name}.npz").write_bytes(before)


def test_large_goes_by_its_name_once_it_is_built(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("edge_runtime.bundle.MODELS", tmp_path / "none")
    for tier in (SMALL, LARGE):
        told = rf"python -m conversion build .* --tier {tier} --keywords .* --out"
        with pytest.raises(BundleError, match=told):
            load_bundle(tier)
    shutil.copytree(large, tmp_path / "edge-emotion" / "models" / LARGE)
    assert load_bundle(LARGE).manifest.pretrained is not None


def test_where_its_encoder_comes_out_wrong_the_model_judges_alone(
    large: Path, scene: Int16, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = load_bundle(large)
    assert whole.as_computed() is whole
    # What is installed stands for tflite-runtime, see tests/device/compare_tflite_runtime.py.
    monkeypatch.setattr("edge_runtime.bundle.TFLITE_RUNTIME", "litert")
    stream = EmotionStream(whole)
    assert stream.bundle.manifest.pretrained is None
    expected = EmotionStream(load_bundle(large).plain())
    found = [judge_clip(each, scene[:64_000]) for each in (stream, expected)]
    assert all(found)
    assert found[0].scores == found[1].scores  # type: ignore[union-attr]
    assert Enrolment(whole)._encoder is None
    open_stream(whole, RunSettings(), live=False)
    assert "litert cannot compute the pre-trained encoder of bundle" in capsys.readouterr().err
    report = examine(str(large))
    (told,) = (line for line in report.lines if "runs in" in line)
    assert told.endswith(
        "LiteRT (ai-edge-litert), its model alone: the encoder beside it needs LiteRT"
    )


def test_the_encoder_alone_is_a_graph(large: Path) -> None:
    graph = Graph(large / f"{PRETRAINED}.tflite")
    assert [spec.shape for spec in graph.inputs] == [(1, 80, FRAMES)]
    assert [spec.shape for spec in graph.outputs] == [(1, FRAMES // 2, WIDTH)]
    with pytest.raises(TrainingError, match="4 blocks"):
        published_encoder(Extent(5))
    with pytest.raises(TrainingError, match="has 1536 units, not 2000"):
        published_encoder(Extent(1, 2000))


def test_an_encoder_keeps_the_units_that_weigh_most() -> None:
    every, fewer = published_encoder(Extent(1), 2), published_encoder(Extent(1, 1152), 2)
    state = every.state_dict()
    reads, gives = (state[f"layers.0.{layer}.weight"] for layer in ("fc1", "fc2"))
    weight = reads.norm(dim=1) * gives.norm(dim=0)
    kept = weight.argsort(descending=True)[:1152].sort().values
    found = fewer.state_dict()
    assert torch.equal(found["layers.0.fc1.weight"], reads[kept])
    assert torch.equal(found["layers.0.fc1.bias"], state["layers.0.fc1.bias"][kept])
    assert torch.equal(found["layers.0.fc2.weight"], gives[:, kept])
    assert torch.equal(found["layers.0.q_proj.weight"], state["layers.0.q_proj.weight"])
    again = unpacked_encoder(packed_encoder(fewer))
    assert again.layers[0].fc1.out_features == 1152
