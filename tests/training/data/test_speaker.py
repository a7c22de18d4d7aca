"""Speaker embeddings from every source, and models that take them."""

from __future__ import annotations

import json
import pickle
import queue
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from training.__main__ import main
from training.corpora import Utterance, load_corpora
from training.corpora.manifest import write as write_manifest
from training.data.features import FeatureSet, FeatureSettings
from training.data.folds import speaker_folds
from training.data.pairs import draw_words
from training.data.speaker import SpeakerVectors
from training.data.speaker_encoder import embed, load_speakers
from training.data.speaker_files import read_speakers
from training.errors import TrainingError
from training.evaluate.crossval import Training, _FoldTask, _run_fold
from training.evaluate.predict import predict
from training.fit.examples import FitData
from training.fit.fit import fit, run_of
from training.fit.prepare import WordPlan, word_plan
from training.fit.settings import FitSettings
from training.network.config import ModelConfig
from training.network.fakequant import Phase
from training.run import load
from training.speech.transcribe import COLUMNS, with_transcripts
from training.words.settings import WordSettings

Vectors = dict[str, NDArray[np.float32]]
WIDTH = 512  # Kaldi's x-vectors
NAMES = ("03-01-05-01-01-01-01", "03a01Fa", "Ses01F_impro01_F000")


def utterance(name: str, speaker: str = "s1", **fields: float) -> Utterance:
    return Utterance(Path(f"corpus/{name}.wav"), "sad", speaker, "toy", **fields)


UTTERANCES = [utterance(name) for name in NAMES]


def vectors(keys: tuple[str, ...] = NAMES, width: int = WIDTH) -> Vectors:
    rng = np.random.default_rng(0)
    return {key: rng.normal(0, 1, width).astype(np.float32) for key in keys}


def write_kaldi(folder: Path, content: Vectors, text: bool = False) -> tuple[Path, Path]:
    ark, scp = folder / "xvector.ark", folder / "xvector.scp"
    kind = "ark,t,scp" if text else "ark,scp"
    with kaldiio.WriteHelper(f"{kind}:{ark},{scp}") as writer:
        for key, values in content.items():
            writer(key, values)
    return ark, scp


def write_folder(folder: Path, content: Vectors) -> Path:
    path = folder / "vectors"
    path.mkdir()
    for key, values in content.items():
        np.save(path / f"{key}.npy", values)
    return path


def write_matrix(folder: Path, content: Vectors) -> Path:
    path = folder / "vectors.npy"
    np.save(path, np.stack(list(content.values())))
    path.with_suffix(".txt").write_text("".join(f"{key}\n" for key in content))
    return path


@pytest.mark.parametrize("form", ["ark", "scp", "text ark", "text scp", "folder", "matrix"])
def test_every_form_gives_each_utterance_its_vector(tmp_path: Path, form: str) -> None:
    content = vectors(("someone_else", *NAMES))
    if form == "folder":
        path = write_folder(tmp_path, content)
    elif form == "matrix":
        path = write_matrix(tmp_path, content)
    else:
        ark, scp = write_kaldi(tmp_path, content, text="text" in form)
        path = scp if "scp" in form else ark
    found = read_speakers(path, UTTERANCES)
    assert found.width == WIDTH
    expected = np.stack([content[name] for name in NAMES])
    # The text form has as many digits as kaldiio prints.
    np.testing.assert_allclose(found.of(UTTERANCES), expected, rtol=1e-5 if "text" in form else 0)
    assert found.of(UTTERANCES).dtype == np.float32
    with pytest.raises(TrainingError, match="lack 1 of 2 utterances: new"):
        found.of([utterance("new"), UTTERANCES[0]])


def test_double_precision_and_matrices_of_one_row_are_vectors_too(tmp_path: Path) -> None:
    content = {k: v.astype(np.float64)[None] for k, v in vectors().items()}
    ark, _ = write_kaldi(tmp_path, content)
    np.testing.assert_allclose(
        read_speakers(ark, UTTERANCES).of(UTTERANCES)[1], content[NAMES[1]][0]
    )


def test_an_scp_finds_its_ark_beside_it_when_the_two_have_moved(tmp_path: Path) -> None:
    _, scp = write_kaldi(tmp_path, vectors())
    scp.write_text(scp.read_text().replace(f"{tmp_path}/", ""))
    np.testing.assert_array_equal(
        read_speakers(scp, UTTERANCES).of(UTTERANCES)[0], vectors()[NAMES[0]]
    )


def test_an_utterance_without_its_own_vector_takes_its_speaker_s(tmp_path: Path) -> None:
    content = vectors(("anna", "ben", NAMES[2]))
    ark, _ = write_kaldi(tmp_path, content)
    utt2spk = tmp_path / "utt2spk"
    utt2spk.write_text(f"{NAMES[0]} anna\n{NAMES[1]} ben\n{NAMES[2]} ben\n")
    found = read_speakers(ark, UTTERANCES, utt2spk).of(UTTERANCES)
    for row, key in zip(found, ("anna", "ben", NAMES[2]), strict=True):
        np.testing.assert_array_equal(row, content[key])
    by_corpus = [
        replace(u, speaker=s) for u, s in zip(UTTERANCES, ("ben", "anna", "anna"), strict=True)
    ]
    np.testing.assert_array_equal(read_speakers(ark, by_corpus).of(by_corpus)[0], content["ben"])


def test_names_that_two_files_share_need_the_speaker_in_front(tmp_path: Path) -> None:
    twins = [replace(utterance("a", s), path=Path(s) / "a.wav") for s in ("s1", "s2")]
    ark, _ = write_kaldi(tmp_path, vectors(("a",)))
    with pytest.raises(TrainingError, match="no vector for 2 of 2"):
        read_speakers(ark, twins)
    content = vectors(("a", "s1-a", "s2-a"))
    ark, _ = write_kaldi(tmp_path, content)
    np.testing.assert_array_equal(read_speakers(ark, twins).of(twins)[1], content["s2-a"])


def test_parts_of_a_file_are_told_apart_by_their_times(tmp_path: Path) -> None:
    parts = [utterance("call", start=0.0, end=5.25), utterance("call", start=5.25, end=61.0)]
    content = vectors(("call-0000000-0000525", "call-0000525-0006100"))
    ark, _ = write_kaldi(tmp_path, content)
    np.testing.assert_array_equal(
        read_speakers(ark, parts).of(parts), np.stack(list(content.values()))
    )


def test_missing_keys_are_counted_and_the_first_few_named(tmp_path: Path) -> None:
    ark, scp = write_kaldi(tmp_path, vectors(NAMES[:1]))
    wanted = [*UTTERANCES, *(utterance(f"u{i}") for i in range(5))]
    for path in (ark, scp):
        with pytest.raises(TrainingError) as error:
            read_speakers(path, wanted)
        assert f"no vector for 7 of 8 utterances: {NAMES[1]}, {NAMES[2]}, u0, ..." in str(
            error.value
        )
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v: {**v, NAMES[1]: np.where(np.arange(WIDTH) == 7, np.nan, 0)}, "NaN .* 03a01Fa"),
        (lambda v: {**v, NAMES[1]: v[NAMES[1]][:256]}, r"1 of 3 .* not 512 wide.* 03a01Fa \(256\)"),
        (lambda v: {**v, NAMES[0]: np.zeros((120, 24), "f")}, r"of shape \(120, 24\), not one"),
    ],
)
def test_vectors_that_will_not_do_are_named(tmp_path: Path, spoil, message: str) -> None:  # type: ignore[no-untyped-def]
    for path in (
        *write_kaldi(tmp_path, spoil(vectors())),
        write_folder(tmp_path, spoil(vectors())),
    ):
        with pytest.raises(TrainingError, match=message):
            read_speakers(path, UTTERANCES)


# From within the last vector, at a value's end and inside one; within its header; within its key.
@pytest.mark.parametrize("left", [4 * 100, 4 * 100 + 1, 4 * WIDTH + 3, 4 * WIDTH + 15])
def test_an_archive_that_breaks_off_is_said_to(tmp_path: Path, left: int) -> None:
    ark, scp = write_kaldi(tmp_path, vectors())
    ark.write_bytes(ark.read_bytes()[:-left])
    for path in (ark, scp):
        with pytest.raises(TrainingError, match=r"xvector\.ark is truncated: "):
            read_speakers(path, UTTERANCES)


def test_text_that_breaks_off_is_truncated_too(tmp_path: Path) -> None:
    ark, _ = write_kaldi(tmp_path, vectors(), text=True)
    ark.write_bytes(ark.read_bytes()[:-30])
    with pytest.raises(TrainingError, match="is truncated"):
        read_speakers(ark, UTTERANCES)


def test_an_archive_runs_no_code(tmp_path: Path) -> None:
    """kaldiio alone would unpickle the one and start the other."""
    trace = tmp_path / "trace"

    class Touch:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (trace,)

    ark = tmp_path / "evil.ark"
    ark.write_bytes(b"x PKL" + pickle.dumps(Touch()))
    with pytest.raises(TrainingError, match="x is not a vector of Kaldi's"):
        read_speakers(ark, UTTERANCES)
    scp = tmp_path / "evil.scp"
    scp.write_text(f"{NAMES[0]} touch {trace} |\n")
    with pytest.raises(TrainingError, match=r"line 1: expected KEY FILE\.ark:OFFSET"):
        read_speakers(scp, UTTERANCES)
    assert not trace.exists()


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    def message(path: Path, utt2spk: Path | None = None) -> str:
        with pytest.raises(TrainingError) as error:
            read_speakers(path, UTTERANCES, utt2spk)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "no such speaker embeddings" in message(tmp_path / "none.ark")
    (tmp_path / "empty").mkdir()
    assert "holds no .npy" in message(tmp_path / "empty")
    (tmp_path / "x.csv").write_text("a,1,2\n")
    assert "FILE.scp" in message(tmp_path / "x.csv")
    (tmp_path / "noise.ark").write_bytes(np.random.default_rng(0).bytes(9999))
    assert "noise.ark" in message(tmp_path / "noise.ark")
    (tmp_path / "gone.scp").write_text(f"{NAMES[0]} gone.ark:5\n")
    assert "line 1: cannot read gone.ark" in message(tmp_path / "gone.scp")
    matrix = write_matrix(tmp_path, vectors())
    matrix.with_suffix(".txt").write_text("only\n")
    assert "has 1 ids, vectors.npy is of shape (3, 512)" in message(matrix)
    matrix.with_suffix(".txt").unlink()
    assert "needs its ids" in message(matrix)
    np.save(matrix, np.array([{}], object))
    assert "not a NumPy array" in message(matrix)
    ark, _ = write_kaldi(tmp_path, vectors())
    (tmp_path / "utt2spk").write_text("one two three\n")
    assert "utt2spk, line 1" in message(ark, tmp_path / "utt2spk")
    with pytest.raises(TrainingError, match="--utt2spk needs a file"):
        load_speakers("resemblyzer", UTTERANCES, tmp_path / "utt2spk")


def test_the_encoder_is_resemblyzer_s_and_hears_who_speaks(corpora: Path, tmp_path: Path) -> None:
    resemblyzer = pytest.importorskip("resemblyzer", reason="pip install --no-deps resemblyzer")
    found = load_corpora([f"ravdess={corpora / 'ravdess'}"])["ravdess"].utterances
    chosen = [u for s in ("ravdess-01", "ravdess-02") for u in found if u.speaker == s][:56:7]
    assert {u.speaker for u in chosen} == {"ravdess-01", "ravdess-02"}
    embedded = embed(chosen, cache=tmp_path, workers=1, progress=False)
    assert embedded.width == 256
    samples, rate = soundfile.read(chosen[0].audio, dtype="float32")
    assert rate == 16_000
    oracle = resemblyzer.VoiceEncoder("cpu", verbose=False).embed_utterance(
        resemblyzer.preprocess_wav(samples)
    )
    np.testing.assert_allclose(embedded.vectors[chosen[0].clip], oracle, atol=1e-6)
    rows = embedded.of(chosen)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    same = np.array([[a.speaker == b.speaker for a in chosen] for b in chosen])
    likeness = rows @ rows.T
    others = ~np.eye(len(chosen), dtype=bool)
    assert likeness[same & others].mean() > likeness[~same].mean() + 0.1


def test_embeddings_are_cached_whole_and_clips_without_voice_have_none(
    corpora: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("resemblyzer", reason="pip install --no-deps resemblyzer")
    (clip,) = sorted((corpora / "emodb").glob("wav/03a01Fa.*"))
    silence = tmp_path / "silence.wav"
    soundfile.write(silence, np.zeros(16_000, np.int16), 16_000)
    spoken = Utterance(clip, "happy", "s", "toy")
    others = [
        Utterance(silence, "sad", "s", "toy"),
        Utterance(tmp_path / "gone.wav", "sad", "s", "toy"),
        Utterance(None, "sad", "s", "toy", text="words alone"),
    ]
    cache = tmp_path / "cache"
    first = embed([spoken, *others], cache=cache, workers=1, progress=False)
    (found,) = [key for key, vector in first.vectors.items() if vector is not None]
    assert found == spoken.clip
    assert np.isnan(first.of([spoken, *others])).all(axis=1).tolist() == [False, True, True, True]
    for reason in (
        "silence.wav: no voice",
        "gone.wav: No such file",
        "1 utterance without sound",
    ):
        assert reason in caplog.text
    (kept,) = cache.glob("*.npy")
    kept.write_bytes(kept.read_bytes()[:-5])  # a disk that was full
    np.testing.assert_array_equal(
        embed([spoken], cache=cache, workers=1, progress=False).vectors[spoken.clip],
        first.vectors[spoken.clip],
    )
    np.save(kept, np.ones(256, np.float32))
    assert (embed([spoken], cache=cache, workers=1, progress=False).vectors[spoken.clip] == 1).all()
    with pytest.raises(TrainingError, match="no clip has a speaker embedding"):
        embed(others, cache=cache, workers=1, progress=False)


def test_a_model_learns_what_only_the_speaker_vector_tells(tmp_path: Path) -> None:
    """Sound is noise here; the vector has the class. Without one, it is the average speaker."""
    config = ModelConfig(
        labels=("high", "low"), variant="audio+speaker", filters=4, hidden=(8,), speaker=24
    )
    rng = np.random.default_rng(0)
    examples = [
        Utterance(Path(f"{i}.wav"), config.labels[i % 2], f"s{i % 5}", "toy") for i in range(80)
    ]
    known = {
        u.clip: rng.normal(1.5 if u.label == "high" else -1.5, 1, 24).astype(np.float32)
        for u in examples
    }
    known[examples[3].clip] = None  # no voice was found in it
    speakers = SpeakerVectors(24, known, "toy")
    frames = [[rng.normal(0, 1, (50, 96)).astype(np.float32)] for _ in examples]
    train, test = (FeatureSet(examples[p], frames[p], []) for p in (slice(0, 56), slice(56, 80)))
    settings = FitSettings(epochs=8, qat_epochs=2, batch=8, lr=5e-3, augment=False)
    labels = list(config.labels)
    with pytest.raises(TrainingError, match="needs speaker embeddings"):
        fit(FitData(train, None, labels), config, settings, tmp_path)
    data = FitData(train, test, labels, speakers=speakers)
    module = fit(data, config, settings, tmp_path, progress=lambda *_: None)
    run_of(module, FeatureSettings()).save(tmp_path)
    clips, rows = [v[0] for v in test.variants], speakers.of(test.utterances)
    truth = np.array([labels.index(u.label) for u in test.utterances])
    for phase in (Phase.FLOAT, Phase.INT8):
        model = load(tmp_path).model(phase)
        right = predict(model, clips, speakers=rows).argmax(axis=1) == truth
        wrong = predict(model, clips, speakers=np.roll(rows, 1, axis=0)).argmax(axis=1) == truth
        assert right.mean() >= 0.95
        assert wrong.mean() <= 0.05
        without = predict(model, clips, speakers=np.full_like(rows, np.nan))
        assert np.isfinite(without).all()
        average = model.pooled_statistics()[0][-24:].detach().numpy()
        # Standardization makes the average zero only up to rounding.
        np.testing.assert_allclose(
            without, predict(model, clips, speakers=np.tile(average, (len(rows), 1))), atol=1e-4
        )
        some = rows.copy()
        some[0] = np.nan
        mixed = predict(model, clips, speakers=some)
        np.testing.assert_allclose(mixed[0], without[0], atol=1e-5)
        np.testing.assert_allclose(mixed[1:], predict(model, clips, speakers=rows)[1:], atol=1e-5)


def test_crossval_and_fit_take_vectors_by_their_options(
    corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = load_corpora([f"ravdess={corpora / 'ravdess'}"])["ravdess"].utterances
    chosen = [
        next(u for u in found if (u.speaker, u.label) == (speaker, label))
        for speaker in ("ravdess-01", "ravdess-02", "ravdess-03", "ravdess-04")
        for label in ("angry", "happy", "neutral", "sad")
    ]
    manifest = tmp_path / "few.csv"
    write_manifest(manifest, chosen)
    _, scp = write_kaldi(tmp_path, vectors(tuple(u.audio.stem for u in chosen), 24))
    small = ["--epochs", "1", "--qat-epochs", "1", "--no-augment", "--filters", "8"]
    taking = ["--variant", "audio+speaker", "--speaker", str(scp), *small]
    out = tmp_path / "cv"
    crossval = ["crossval", f"manifest={manifest}", "--folds", "2", "--jobs", "1"]
    assert main([*crossval, "--out", str(out), *taking]) == 0
    assert "speaker embeddings of xvector.scp, 24 wide: 16 of 16 utterances" in (
        capsys.readouterr().out
    )
    summary = json.loads((out / "crossval.json").read_text())
    forms = set(summary["metrics"]["corpora"]["manifest"]["audio"])
    assert forms == {"float", "fake-quant", "int8"}
    other = tmp_path / "other"
    other.mkdir()
    _, twice = write_kaldi(other, {k: 2 * v for k, v in kaldiio.load_scp(str(scp)).items()})
    assert main([*crossval, "--out", str(out), *taking, "--speaker", str(twice)]) == 2
    assert "other data or settings (speakers)" in capsys.readouterr().err

    run = tmp_path / "run"
    assert main(["fit", f"manifest={manifest}", "--out", str(run), "--watch", "0.25", *taking]) == 0
    saved = load(run)
    assert saved.config.speaker == 24
    assert saved.training["speaker_embedding"] == "xvector.scp"
    assert saved.weights["head.layers.0.weight"].shape[1] == saved.config.audio_statistics + 24

    capsys.readouterr()
    fit_again = ["fit", f"manifest={manifest}", "--out", str(tmp_path / "no"), *small]
    assert main([*fit_again, "--variant", "audio+speaker"]) == 2
    assert "needs --speaker" in capsys.readouterr().err
    assert main([*fit_again, "--speaker", str(scp)]) == 2
    assert "takes no speaker embedding; add +speaker" in capsys.readouterr().err
    assert not torch.isnan(saved.weights["head.layers.0.weight"]).any()


def heard_by_an_engine(spoken: list[Utterance], folder: Path) -> list[Utterance]:
    """`spoken` with the words of a file that `training transcribe` could have written."""
    path = folder / "transcripts.csv"
    rows = [",".join(COLUMNS)]
    for u in spoken:
        given = {"path": str(u.audio.resolve()), "start": "0.0", "text": "i see", "engine": "asr"}
        rows.append(",".join(given.get(column, "") for column in COLUMNS))
    path.write_text("\n".join(rows) + "\n")
    return with_transcripts(spoken, path)


@pytest.mark.parametrize("words", ["drawn", "heard"])
def test_the_words_put_to_a_clip_leave_it_its_speaker(
    words: str, tmp_path: Path, tones: Callable[..., list[Utterance]]
) -> None:
    spoken = tones()
    names = ("get", "out", "i", "cry", "see")
    glove = tmp_path / "glove.txt"
    glove.write_text("".join(f"{n} {k} 1 {k % 2} 0.5\n" for k, n in enumerate(names)))
    texts = tuple(Utterance(None, u.label, "t", "texts", text=u.text + " out") for u in spoken)
    plan = WordPlan(WordSettings(vectors=glove), texts if words == "drawn" else ())
    given = (
        draw_words(spoken, texts, 0) if words == "drawn" else heard_by_an_engine(spoken, tmp_path)
    )
    assert all(a.text != b.text for a, b in zip(given, spoken, strict=True))
    found = []
    for seed in (1, 2):
        matrix = np.random.default_rng(seed).standard_normal((len(spoken), 6))
        voices = tmp_path / f"voices{seed}.npy"
        np.save(voices, matrix.astype(np.float32))
        voices.with_suffix(".txt").write_text("".join(f"{u.audio.stem}\n" for u in spoken))
        task = _FoldTask(
            number=1,
            utterances=given,
            fold=speaker_folds(given, 2)[0],
            folder=tmp_path / f"fold{seed}",
            queue=queue.SimpleQueue(),
            training=Training(
                config=ModelConfig(
                    labels=("angry", "sad"),
                    variant="audio+text+speaker",
                    filters=4,
                    hidden=(4,),
                    speaker=6,
                ),
                settings=FitSettings(epochs=2, qat_epochs=1, augment=False),
                features=FeatureSettings(),
                words=plan,
                speakers=read_speakers(voices, spoken),
                int8=False,
            ),
        )
        found.append(_run_fold(task)["audio+text/float"])
    assert not np.array_equal(*found), "two sets of speaker embeddings gave the same logits"


def test_an_embedding_that_nobody_loaded_is_an_error_not_a_zero() -> None:
    known, other = UTTERANCES[:2]
    speakers = SpeakerVectors(3, {known.clip: np.ones(3, np.float32)}, "toy.ark")
    again = replace(known, text="other words", label="happy")
    np.testing.assert_array_equal(speakers.of([known, again]), np.ones((2, 3)))
    part = replace(known, start=1.0, end=2.0)
    for absent in (other, part):
        with pytest.raises(TrainingError, match=r"toy\.ark lack 1 of 2 utterances"):
            speakers.of([known, absent])


def test_texts_that_nobody_spoke_have_no_speaker() -> None:
    texts = [
        Utterance(None, "sad", "t", "texts", text="i cry", split=split)
        for split in ("train", "dev")
    ]
    config = ModelConfig(variant="text+speaker")
    with pytest.raises(TrainingError, match="nobody spoke them"):
        word_plan([*UTTERANCES, *texts], config, WordSettings(), pair=True)
