"""Data has a fingerprint of what it holds, wherever it lies and in whatever order."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from training.corpora import Utterance
from training.data.fingerprint import (
    TRAINED,
    clip_keys,
    fingerprint,
    read_trained,
    seen_before,
    write_trained,
)
from training.errors import TrainingError


def test_where_data_lies_and_its_order_do_not_count(
    tones: Callable[..., list[Utterance]], tmp_path: Path
) -> None:
    here = tones(speakers=2)
    there = []
    for number, utterance in enumerate(reversed(here)):
        path = tmp_path / "moved" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(utterance.audio, path)
        there.append(replace(utterance, path=path, corpus="manifest@other"))
    assert clip_keys(there) == clip_keys(here)[::-1]
    assert fingerprint(there) == fingerprint(here)


def test_whatever_else_is_other_counts(tones: Callable[..., list[Utterance]]) -> None:
    first, *rest = tones(speakers=1)
    texts = [Utterance(None, "sad", None, "x", text=text) for text in ("i cry", "i weep")]
    others = [
        [*rest],
        [first, *rest, first],
        [replace(first, label="sad"), *rest],
        [replace(first, speaker=None), *rest],
        [replace(first, text="go"), *rest],
        [replace(first, start=0.1), *rest],
        [replace(first, end=0.7), *rest],
        [replace(first, path=rest[0].path), *rest],
        texts[:1],
        texts[1:],
    ]
    prints = [fingerprint(clips) for clips in ([first, *rest], *others)]
    assert len(set(prints)) == len(prints)
    # What a clip is called does not tell it from others; what it sounds like does.
    assert clip_keys([replace(first, label="sad")]) == clip_keys([first])
    assert clip_keys([replace(first, start=0.1)]) != clip_keys([first])


def test_what_trained_a_run_is_known_with_what_trained_those_it_came_from(
    tones: Callable[..., list[Utterance]], tmp_path: Path
) -> None:
    clips = tones(speakers=2)
    base, run = tmp_path / "base", tmp_path / "run"
    assert write_trained(base / TRAINED, clips[:4], {})
    whole, part = {"data": {"complete": True}}, {"data": {"complete": False}}
    assert write_trained(run / TRAINED, clips[4:], {base: whole})
    assert read_trained(run) == dict(zip(clip_keys(clips), [u.speaker for u in clips], strict=True))
    assert not write_trained(run / TRAINED, clips[4:], {tmp_path: whole})
    # What a run does not know of those it came from, one that comes from it does not either.
    assert not write_trained(run / TRAINED, clips[4:], {base: part})
    assert read_trained(tmp_path) is None
    (run / TRAINED).write_text("who,what\n1,2\n")
    with pytest.raises(TrainingError, match="no list of clips that can be read"):
        read_trained(run)


def test_whose_clips_trained_a_run_is_seen(
    tones: Callable[..., list[Utterance]], tmp_path: Path
) -> None:
    clips = [replace(u, corpus="mine") for u in tones(speakers=2)]
    first, second = [
        [u for u in clips if u.speaker == s] for s in sorted({u.speaker for u in clips})
    ]
    whole, part = {"data": {"complete": True}}, {"corpora": {"mine@a": {}, "manifest": {}}}
    write_trained(tmp_path / TRAINED, first[:1], {})
    assert seen_before(second, {tmp_path: whole}) == []
    assert seen_before(first[1:], {tmp_path: whole}) == ["mine"]  # the speaker
    nameless = [replace(u, speaker=None) for u in first]
    assert seen_before(nameless[1:], {tmp_path: whole}) == []
    assert seen_before(nameless, {tmp_path: whole}) == ["mine"]
    # A run that does not list what trained it names corpora; two manifests are not one.
    assert seen_before(second, {tmp_path: part}) == ["mine"]
    assert seen_before([replace(u, corpus="manifest@b") for u in second], {tmp_path: part}) == []
    assert seen_before(second, {}) == []
