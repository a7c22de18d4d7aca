"""What is fitted to adapt to speakers: on made-up voices, of which the truth is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from packaged import need_whisper
from voices import adapting_run, write_crossval

from benchmarks.speakers import COLD, worth
from edge_runtime import load_bundle
from edge_runtime.bundle import Bundle
from edge_runtime.manifest import Calibration
from training.commands.pretrained import PretrainedRecipe, join_folds, join_run
from training.commands.reference import fit_folds, fit_run
from training.corpora import Utterance
from training.errors import TrainingError
from training.evaluate.adapted import (
    adapt,
    calibrate_adapted,
    crossval_parts,
    enrolment_ratios,
    settings_of,
    with_reference,
)
from training.evaluate.histories import CHANGES, TRAINED, Speakers
from training.evaluate.reference import Heard, fit_arrays
from training.fit.encoder import TUNED_FRAMES
from training.fit.settings import EncoderSettings
from training.run import load
from training.tiers import MEDIUM, SMALL

LABELS = ["angry", "happy", "neutral", "sad"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(adapting_run(tmp_path_factory.mktemp("voices"))[1])


def people(width: int, speakers: int, first: int = 0, clips: int = 8) -> Heard:
    """Speakers who differ far more from one another than their classes do from theirs."""
    directions = np.random.default_rng(0).normal(0, 1, (len(LABELS), width))
    utterances, rows = [], []
    for speaker in range(first, first + speakers):
        rng = np.random.default_rng(100 + speaker)
        own = np.zeros(width)
        own[: width // 2] = rng.normal(0, 2, width // 2)
        for number, label in enumerate(LABELS):
            for clip in range(clips):
                path = Path(f"{speaker}-{label}-{clip}.wav")
                utterances.append(Utterance(path, label, f"s{speaker}", "made"))
                felt = directions[number] * (0.0 if label == "neutral" else 0.4)
                rows.append(own + felt + rng.normal(0, 1, width))
    standard = np.array(rows, np.float32)
    return Heard(utterances, standard, np.full(len(rows), 2.0))


def truth(heard: Heard) -> np.ndarray:
    return np.array([LABELS.index(u.label) for u in heard.utterances])


def test_knowing_the_speaker_helps_and_a_change_is_noticed(bundle: Bundle) -> None:
    width = bundle.manifest.branches["audio"]
    adapting = with_reference(bundle, fit_arrays(people(width, 12), LABELS), settings_of())
    heard = people(width, 4, first=12)
    even = np.full((len(heard.utterances), 4), 0.25, np.float32)
    right = {}
    for kind in ("1 of any", "20 balanced"):
        found = adapt(adapting, heard, even, TRAINED[kind], Speakers(heard.utterances, LABELS))
        right[kind] = float((found.scores.argmax(axis=1) == truth(heard)).mean())
        assert np.nanmean(found.changed > 0.5) < 0.1
    assert right["20 balanced"] >= right["1 of any"] > 0.6
    speakers = Speakers(heard.utterances, LABELS)
    foreign = adapt(adapting, heard, even, CHANGES["15 of another"], speakers)
    assert (foreign.changed > 0.5).mean() > 0.9
    # Nobody believes a reference of somebody else.
    assert np.abs(foreign.scores - even).mean() < 0.02


def test_confidence_is_fitted_and_two_people_are_told_apart(bundle: Bundle) -> None:
    width = bundle.manifest.branches["audio"]
    adapting = with_reference(bundle, fit_arrays(people(width, 12), LABELS), settings_of())
    heard = people(width, 6, first=12)
    cold = np.full((len(heard.utterances), 4), 0.25, np.float32)
    settings = calibrate_adapted([(adapting, heard, {"audio": cold})], LABELS)
    assert settings["temperature"].keys() == {"audio"}
    assert 0.5 <= settings["temperature"]["audio"] <= 20
    one = np.array(enrolment_ratios(adapting, heard, LABELS))
    two = np.array(enrolment_ratios(adapting, heard, LABELS, strangers=1))
    assert (one < settings["one_voice"]).mean() == pytest.approx(0.05, abs=0.02)
    assert (two < settings["one_voice"]).mean() > 0.9


def test_histories_are_of_earlier_utterances_of_the_speaker() -> None:
    heard = people(4, 3)
    speakers = Speakers(heard.utterances, LABELS)
    who = [u.speaker for u in heard.utterances]
    labels = [u.label for u in heard.utterances]
    for place in range(0, len(who), 5):
        for draw in TRAINED.values():
            drawn = draw(speakers, place)
            assert place not in drawn
            assert {who[i] for i in drawn} == {who[place]}
            assert len(set(drawn)) == len(drawn)
        balanced = speakers.balanced(place)
        assert all([labels[i] for i in balanced].count(label) == 5 for label in LABELS)
        turns = speakers.turns(place)
        assert turns
        assert [who[i] == who[place] for i in turns] == [True, False] * (len(turns) // 2)
        after = speakers.after(place, 2)
        assert [who[i] == who[place] for i in after] == [False] * 15 + [True] * 2


def test_without_speakers_there_is_nothing_to_fit() -> None:
    heard = people(4, 1)
    with pytest.raises(TrainingError, match="two and more speakers"):
        fit_arrays(heard, LABELS)
    nobody = [Utterance(u.path, u.label, None, "made") for u in heard.utterances]
    with pytest.raises(TrainingError, match="two and more speakers"):
        fit_arrays(Heard(nobody, heard.standard, heard.seconds), LABELS)


def test_a_run_keeps_its_reference(tmp_path: Path) -> None:
    run, _ = adapting_run(tmp_path)
    run.save(tmp_path / "run")
    again = load(tmp_path / "run")
    assert run.reference is not None
    assert again.reference is not None
    assert again.reference.settings == run.reference.settings
    # Kept as float16.
    found, kept = again.reference.arrays.weights, run.reference.arrays.weights
    assert found == pytest.approx(kept, abs=1e-3)


def test_clips_are_found_in_the_plan_of_a_crossval(tmp_path: Path) -> None:
    utterances = people(4, 2, clips=1).utterances
    names = [f"{u.corpus}/{u.audio.name}/0.0/None/with / a slash" for u in utterances]
    (tmp_path / "plan.json").write_text(json.dumps({"test": [names[:4], names[4:]]}))
    for number in (1, 2):
        fold = tmp_path / f"fold{number}"
        fold.mkdir()
        logits = np.arange(16.0).reshape(4, 4) + number
        np.savez(fold / "predictions.npz", **{"audio/int8": logits, "audio/float": logits * 0})
    known = [u for u in utterances if u.label != "happy"]
    parts = crossval_parts(tmp_path, known)
    assert [u for _, found, _ in parts for u in found] == known
    for number, (_, _, logits) in enumerate(parts, 1):
        assert logits["audio"][:, 0].tolist() == [number, 8 + number, 12 + number]
    with pytest.raises(TrainingError, match="none of these clips"):
        crossval_parts(tmp_path, [])
    with pytest.raises(TrainingError, match="not a finished crossval"):
        crossval_parts(tmp_path / "fold1", known)


def test_folds_and_then_a_run_learn_to_adapt(
    clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three speakers of four clips each, a fold for each; nothing but the reference changes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    of_ravdess = {"01": "neutral", "03": "happy", "04": "sad", "05": "angry"}
    of_emodb = {"F": "happy", "N": "neutral", "W": "angry", "T": "sad"}
    spoken = [
        Utterance(clip, of_ravdess[clip.stem[6:8]], clip.parent.name, "ravdess")
        if "-" in clip.stem
        else Utterance(clip, of_emodb[clip.stem[5]], "emodb-03", "emodb")
        for clip in clips
    ]
    speakers = sorted({str(u.speaker) for u in spoken})
    run, _ = adapting_run(tmp_path / "work")
    run.reference = None
    folds = [[u for u in spoken if u.speaker == speaker] for speaker in speakers]
    plain = tmp_path / "work" / "plain"
    calibration = Calibration(1.25, 0.4)
    folder = write_crossval(tmp_path / "crossval", folds, run, plain, calibration)

    settings = fit_folds(folder, spoken, jobs=1)
    for fold in sorted(folder.glob("fold*")):
        built = load_bundle(fold / "bundle")
        assert built.manifest.reference is not None
        assert built.manifest.reference.temperature == settings["temperature"]
        assert built.manifest.calibration["audio"].temperature == 1.25
        before = load_bundle(plain).manifest.graphs
        assert {k: v.sha256 for k, v in built.manifest.graphs.items() if k in before} == {
            k: v.sha256 for k, v in before.items()
        }

    run.save(tmp_path / "run")
    with pytest.raises(TrainingError, match="kept no clip of these corpora out"):
        fit_run(tmp_path / "run", spoken, None, jobs=1)
    assert fit_run(tmp_path / "run", spoken, folder, jobs=1) == settings
    assert load(tmp_path / "run").reference is not None

    # The encoder hears along, and what is adapted rests on what both say.
    need_whisper()
    with pytest.raises(TrainingError, match="fold1 has no medium: python -m training pretrained"):
        worth(folder, spoken, [], jobs=1, tier=MEDIUM)
    trained_further = PretrainedRecipe(MEDIUM, jobs=1, encoder=EncoderSettings(encoder_epochs=1))
    found = join_folds(folder, spoken, trained_further)
    joined, adapting = found["metrics"]["corpora"], found["reference"]
    assert adapting["temperature"].keys() == {"audio"}
    for fold in sorted(folder.glob("fold*")):
        beside = load_bundle(fold / MEDIUM).manifest.pretrained_reference
        assert beside is not None
        assert beside.temperature == adapting["temperature"]
    as_published = PretrainedRecipe(
        MEDIUM, crossval=folder, encoder=EncoderSettings(encoder_epochs=0)
    )
    with pytest.raises(TrainingError, match="made with --encoder-epochs 1, not 0"):
        join_run(tmp_path / "run", spoken, as_published)
    part = join_run(tmp_path / "run", spoken, replace(trained_further, crossval=folder)).reference
    assert part is not None
    assert part.settings == adapting
    kept = load(tmp_path / "run").pretrained[MEDIUM]
    assert kept.reference is not None
    assert kept.encoder is not None
    assert kept.settings["frames"] == TUNED_FRAMES
    of_folds = [load(fold).pretrained[MEDIUM] for fold in sorted(folder.glob("fold*"))]
    assert len({of.encoder for of in of_folds} | {kept.encoder}) == len(speakers) + 1
    np.testing.assert_allclose(kept.reference.arrays.mean, part.arrays.mean)
    medium, alone = (worth(folder, spoken, [], jobs=1, tier=tier) for tier in (MEDIUM, SMALL))
    for corpus, metrics in medium.cells[COLD].items():
        figures = joined[corpus]["audio"]["int8"]
        assert (metrics.n, round(metrics.ua, 4)) == (figures["n"], figures["ua"])
    assert medium.cells.keys() == alone.cells.keys()
    assert all(0 <= share <= 1 for share in (*medium.doubted.values(), *alone.doubted.values()))
    assert medium.calibration_error != alone.calibration_error
