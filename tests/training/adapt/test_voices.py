"""Clips in which two people speak are in the list of doubtful ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_runtime.audio.file import read_file
from edge_runtime.pcm import SAMPLE_RATE
from edge_runtime.segment import speech_of
from training.adapt import voices
from training.adapt.doubtful import Doubt, with_two_voices
from training.adapt.voices import THRESHOLD, distance, two_voices
from training.corpora import Utterance, load_corpora
from training.errors import TrainingError

pytest.importorskip("resemblyzer")


def test_two_speakers_of_a_clip_are_told_from_one(
    corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of nEMO, which the threshold is not from: 2 of 40 clips joined from two actors' each."""
    if not (corpora / "nemo").is_dir():
        pytest.skip(f"no nEMO in {corpora}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = load_corpora([f"nemo={corpora / 'nemo'}"])["nemo"].utterances
    rng = np.random.default_rng(0)
    drawn = [found[place] for place in rng.permutation(len(found))[:40]]
    clips = []
    for number, clip in enumerate(drawn):
        samples = read_file(clip.audio)
        assert number != 27 or distance(speech_of(samples)) < THRESHOLD
        if number % 20 == 7:
            other = next(u for u in found if u.speaker != clip.speaker and u.label == clip.label)
            samples = np.concatenate([samples, read_file(other.audio)])
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, samples, SAMPLE_RATE)
        clips.append(replace(clip, path=path))
    flagged = two_voices(clips, jobs=1, progress=False)
    assert 27 in flagged[:2]
    assert len(flagged) <= 3
    assert two_voices(clips, jobs=1, progress=False) == flagged  # of the cache


def test_what_is_too_short_or_silent_is_nobody_s(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    assert distance(np.zeros(5 * SAMPLE_RATE, np.int16)) == 0
    assert distance((1000 * rng.standard_normal(SAMPLE_RATE)).astype(np.int16)) == 0
    assert distance(np.empty(0, np.int16)) == 0


def test_one_voice_said_twice_is_one(corpora: Path) -> None:
    sentence, other = (
        speech_of(read_file(corpora / "emodb" / "wav" / f"{name}.flac"))
        for name in ("03a01Nc", "08a01Na")
    )
    assert distance(np.concatenate([sentence, sentence])) < THRESHOLD
    assert distance(np.concatenate([sentence, other])) > THRESHOLD


def test_without_the_encoder_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices, "RESEMBLYZER", "no_such_package")
    with pytest.raises(TrainingError, match="pip install --no-deps resemblyzer"):
        two_voices([], jobs=1, progress=False)


def test_wrong_labels_keep_their_place_before_two_voices() -> None:
    clips = [Utterance(Path(f"{number}.wav"), "calm", None, "made") for number in range(6)]
    labels = [Doubt(clip, "tired", 0.9, "hardly calm") for clip in clips[:4]]
    found = with_two_voices(labels, [clips[5], clips[3], clips[4]])
    assert [clips.index(doubt.utterance) for doubt in found] == [0, 1, 5, 4, 2, 3]
    assert [doubt.reason for doubt in found[2:]] == [
        "two people seem to speak",
        "two people seem to speak",
        "hardly calm",
        "hardly calm; two people seem to speak",
    ]
