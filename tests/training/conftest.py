"""Speech-like clips that are made here, for commands that would need a corpus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from training.corpora import Utterance
from training.corpora.manifest import write as write_manifest

RATE = 16_000
# Class: pitch in Hz, syllables a second, words.
SOUNDS = {"angry": (300, 8, "get out"), "sad": (120, 2, "i cry")}


@pytest.fixture
def tones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Utterance]]:
    """Make clips of tones, `clips` by each of `speakers`, of two classes by turns; and no cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def make(speakers: int = 2, clips: int = 4) -> list[Utterance]:
        rng = np.random.default_rng(0)
        time = np.arange(int(0.8 * RATE)) / RATE
        found = []
        for speaker in range(speakers):
            for index in range(clips):
                label = ("angry", "sad")[index % 2]
                pitch, syllables, words = SOUNDS[label]
                pitch *= 1 + 0.1 * speaker / speakers
                tone = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 8))
                swell = 0.6 + 0.4 * np.sin(2 * np.pi * syllables * time)
                samples = 0.15 * swell * tone + 0.003 * rng.standard_normal(len(time))
                path = tmp_path / f"s{speaker}-{index}.wav"
                soundfile.write(path, samples, RATE)
                found.append(Utterance(path, label, f"s{speaker}", "manifest", text=words))
        return found

    return make


@pytest.fixture
def tones_csv(tones: Callable[..., list[Utterance]], tmp_path: Path) -> Path:
    """A manifest of four such clips by each of four speakers."""
    path = tmp_path / "tones.csv"
    write_manifest(path, tones(speakers=4))
    return path
