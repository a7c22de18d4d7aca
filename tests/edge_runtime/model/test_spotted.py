"""Phrases of the user's own beside the sound: what they add to a verdict, and how far at most."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import EmotionStream, load_bundle
from edge_runtime.doctor import examine
from edge_runtime.errors import BundleError
from edge_runtime.events import EmotionEvent, RevisedEvent, TextEvent
from edge_runtime.model.spotted import Spotted
from edge_runtime.pcm import Int16
from edge_runtime.stream import classify

LISTED = """# weights: log-odds
by the door\t1e-10\tangry=1.2 happy=-0.4 neutral=-0.4 sad=-0.4
kids\t1e-5\tangry=-0.4 happy=1.2 neutral=-0.4 sad=-0.4
kids are\t1\tangry=0 happy=0 neutral=0.5 sad=0
"""
Made = Callable[..., Path]


@pytest.fixture
def made(deaf_to_words: Path, tmp_path: Path) -> Made:
    """A bundle that judges sound, with a list of phrases."""

    def make(listed: str = LISTED, limit: float = math.log(20)) -> Path:
        out = tmp_path / "bundle"
        shutil.copytree(deaf_to_words, out, dirs_exist_ok=True)
        (out / "keywords.txt").write_text(listed, encoding="utf-8")
        raw = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        digest = hashlib.sha256(listed.encode()).hexdigest()
        raw["phrases"] = {"keywords": {"file": "keywords.txt", "sha256": digest}, "limit": limit}
        (out / "manifest.json").write_text(json.dumps(raw), encoding="utf-8")
        return out

    return make


def scores_of(stream: EmotionStream, samples: Int16, text: str) -> dict[str, float]:
    return classify(stream, samples, text).scores


def whole(path: Path) -> EmotionStream:
    bundle = load_bundle(path)
    return EmotionStream(bundle, segment=bundle.manifest.segment.whole(), partial_seconds=0)


def test_a_phrase_adds_its_log_odds(made: Made, sentence: Int16) -> None:
    stream = whole(made())
    plain = classify(stream, sentence, "nothing of it")
    assert (plain.modality, plain.text) == ("audio", "nothing of it")
    told = classify(stream, sentence, "They play by the door.")
    assert told.modality == "audio+text"
    before = np.array(list(plain.scores.values()))
    expected = before * np.exp([1.2, -0.4, -0.4, -0.4])
    assert list(told.scores.values()) == pytest.approx(expected / expected.sum(), abs=1e-5)
    again = scores_of(stream, sentence, "by the door by the door")
    assert again == pytest.approx(told.scores)


def test_the_longer_phrase_counts_alone() -> None:
    rows = {"kids": [1.0, 0.0], "kids are": [0.0, 0.5], "are": [3.0, 0.0]}
    spotted = Spotted({k: np.array(v, np.float32) for k, v in rows.items()}, 10.0)
    assert spotted.evidence("kids are") == [0.0, 0.5]
    assert spotted.evidence("kids kids") == [1.0, 0.0]
    assert spotted.evidence("are kids") == [4.0, 0.0]
    assert spotted.evidence("skids") is None
    assert spotted.evidence("") is None


def test_many_phrases_change_the_odds_no_more_than_the_limit() -> None:
    rows = {text: np.array([1.0, -1.0, 0.0], np.float32) for text in ("a", "b", "c")}
    spotted = Spotted(rows, math.log(20))
    assert spotted.evidence("a") == [1.0, -1.0, 0.0]
    told = spotted.evidence("a b c")
    assert told is not None
    assert told[0] - told[1] == pytest.approx(math.log(20))
    assert told[2] == 0


def test_where_the_list_does_not_count_it_is_only_told(made: Made, sentence: Int16) -> None:
    stream = whole(made("by the door\n", 0.0))
    told = classify(stream, sentence, "by the door")
    assert (told.modality, told.text) == ("audio", "")
    assert told.scores == classify(stream, sentence).scores


@pytest.mark.parametrize(
    ("listed", "limit", "message"),
    [
        (LISTED.replace(" sad=-0.4", ""), 3.0, "does not say what 'by the door' tells about each"),
        (LISTED.replace("sad=0\n", "sad=inf\n"), 3.0, "does not say what 'kids are' tells"),
        (LISTED.replace("1e-10", "x"), 3.0, "line 2: could not convert"),
        (LISTED, -1.0, "the limit of its phrases is -1.0; it must be 0 to 1000"),
    ],
)
def test_a_list_that_cannot_count_is_refused(
    made: Made, listed: str, limit: float, message: str
) -> None:
    path = made(listed, limit)
    with pytest.raises(BundleError, match=message):
        whole(path)


def test_heard_words_count_in_a_verdict_on_sound(made: Made, kids: Int16) -> None:
    pytest.importorskip("pocketsphinx")
    bundle = load_bundle(made())
    with EmotionStream(bundle, "keywords", live=False, partial_seconds=0) as stream:
        events = stream.feed(np.concatenate([kids, np.zeros(16_000, np.int16)])) + stream.finish()
    assert [e.text for e in events if isinstance(e, TextEvent)][-1].endswith("by the door")
    verdict = next(e for e in events if isinstance(e, EmotionEvent))
    assert verdict.modality == "audio+text"
    assert "by the door" in verdict.text


def test_a_model_of_sound_shows_words_and_revises_nothing(
    deaf_to_words: Path, kids: Int16, tmp_path: Path
) -> None:
    pytest.importorskip("pocketsphinx")
    listed = tmp_path / "own.txt"
    listed.write_text("by the door\n", encoding="utf-8")
    sound = np.concatenate([kids, np.zeros(16_000, np.int16)])
    with EmotionStream(
        load_bundle(deaf_to_words), f"keywords:{listed}", partial_seconds=0
    ) as stream:
        events = [*stream.feed(sound), *stream.finish(), *stream.settle(60)]
    assert [e.text for e in events if isinstance(e, TextEvent)][-1] == "by the door"
    verdicts = [e for e in events if isinstance(e, EmotionEvent)]
    assert [(e.modality, e.text) for e in verdicts] == [("audio", "")]
    assert not any(isinstance(e, RevisedEvent) for e in events)


def test_doctor_says_what_words_are_worth(made: Made, deaf_to_words: Path) -> None:
    for path, said in (
        (made(), "its key phrases count in the verdict"),
        (deaf_to_words, "it judges sound alone, and only shows them; without key phrases"),
    ):
        report = examine(str(path))
        assert report.works
        assert any(said in line for line in report.lines), report.lines
