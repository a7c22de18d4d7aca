"""Key phrases: the list as a file, and spotting them in real speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import TextError
from edge_runtime.pcm import Int16
from edge_runtime.text.engines import source_named

pytest.importorskip("pocketsphinx")

from edge_runtime.text.engines.keywords import Keywords
from edge_runtime.text.phrases import Phrase, format_phrase, read_keywords


def spot(phrases: list[Phrase], samples: Int16, block: int = 1600) -> tuple[list[str], Keywords]:
    engine = Keywords(phrases)
    engine.begin(0.0)
    for start in range(0, len(samples), block):
        engine.feed(samples[start : start + block])
    return [word.text for word in engine.end().words], engine


def test_phrases_of_real_speech_are_spotted_as_they_come(kids: Int16, door_list: Path) -> None:
    engine = source_named(f"keywords:{door_list}")
    # A stream's first words are held back until the channel is known: a second and a half.
    engine.begin(0.0)
    held = [engine.feed(kids[start : start + 1600]) for start in range(0, 22_400, 1600)]
    assert held == [None] * 14
    assert engine.end().text.startswith("kids")
    engine.begin(10.0)
    partials = [engine.feed(kids[start : start + 1600]) for start in range(0, len(kids), 1600)]
    final = engine.end()
    assert final.text == "kids talking by the door"
    assert next(p.text for p in partials if p) == "kids"
    times = [t for word in final.words for t in (word.start, word.end)]
    assert times == sorted(times)
    assert times[0] > 10.0
    assert all(0.5 <= (word.confidence or 0) <= 1 for word in final.words)


def test_the_threshold_is_the_likelihood_ratio_that_is_reported(kids: Int16) -> None:
    _, engine = spot([Phrase("kids", -10.0)], kids)
    ((_, _, _, best),) = [d for d in engine.detections() if d[3] > 0]
    assert spot([Phrase("kids", best - 1)], kids)[0] == ["kids"]
    assert spot([Phrase("kids", best + 1)], kids)[0] == []


def test_of_overlapping_phrases_the_longest_stays(kids: Int16) -> None:
    found, _ = spot([Phrase("door", -5.0), Phrase("by the door"), Phrase("the door", -5.0)], kids)
    assert found == ["by the door"]


def test_a_word_that_the_dictionary_lacks_needs_a_pronunciation(kids: Int16) -> None:
    with pytest.raises(TextError, match="lacks qidz, zzyzx; give the phones"):
        Keywords([Phrase("qidz zzyzx")])
    found, _ = spot([Phrase("qidz", pronunciations={"qidz": "K IH D Z"})], kids)
    assert found == ["qidz"]
    with pytest.raises(TextError, match="'K QQ' is no pronunciation of 'qidz'"):
        Keywords([Phrase("qidz", pronunciations={"qidz": "K QQ"})])


def test_a_list_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    phrases = [
        Phrase("oh my god", 4.0, {"happy": 2.5, "sad": -1.25}),
        Phrase("don't"),
        Phrase("yay", -2.0, {}, {"yay": "Y EY"}),
    ]
    path = tmp_path / "list.txt"
    path.write_text("# learned\n\n" + "\n".join(map(format_phrase, phrases)) + "\n")
    assert read_keywords(path) == phrases


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "lists no phrase"),
        ("...\n", "line 1: '...' holds no word"),
        ("ok\nhappy\tmuch\n", "line 2: could not convert string to float: 'much'"),
        ("happy\t-1\n", "line 1: threshold -1 is no likelihood ratio"),
        ("happy\t1e5\thappy\n", "line 1: 'happy': expected NAME=VALUE"),
        ("happy\nHappy!\n", "line 2: 'happy' is there twice"),
        ("a\tb\tc\td\te\n", "line 1: more than four columns"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(content)
    with pytest.raises(TextError, match=message):
        read_keywords(path)


def test_the_learned_list_can_be_heard() -> None:
    path = Path(__file__).parents[3] / "training" / "models" / "default" / "keywords.txt"
    phrases = read_keywords(path)
    assert all(p.threshold is not None and p.weights for p in phrases)
    Keywords(phrases).close()


def test_no_list_and_no_file_are_said(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="no keyword list; name one: keywords:FILE"):
        source_named("keywords")
    with pytest.raises(TextError, match="there is no file"):
        source_named(f"keywords:{tmp_path / 'absent.txt'}")
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(TextError, match="cannot be read"):
        source_named(f"keywords:{tmp_path / 'latin1.txt'}")


def test_silence_and_a_minute_without_pause_give_no_words() -> None:
    noise = np.random.default_rng(0).normal(0, 300, 60 * 16_000).astype(np.int16)
    assert spot([Phrase("happy")], noise, 16_000)[0] == []
    assert spot([Phrase("happy")], np.zeros(0, np.int16))[0] == []
