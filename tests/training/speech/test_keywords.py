"""The list of key phrases: what is chosen, and how loud the evidence must be."""

# ruff: noqa: RUF001 - phonetic letters are meant

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.text.phrases import Phrase
from training.corpora import Utterance
from training.errors import TrainingError
from training.speech import listening
from training.speech.keywords import Tuned, learn, spend, threshold
from training.speech.phrase_ranking import candidates, information, log_odds
from training.speech.settings import KeywordSettings
from training.speech.synthesis import Synthesizer, Voice, arpabet

TEXTS = [
    *[("I am so happy today", "happy")] * 20,
    *[("happy with the yummylicious table", "happy")] * 14,
    *[("I am crying over the table", "sad")] * 20,
    *[("the table is over there today", "neutral")] * 20,
]
SMALL = KeywordSettings(count=3, min_score=1.0, examples=1, negatives=0.1, jobs=1, longest=2)


def test_log_odds_are_those_of_the_paper() -> None:
    counts = {"a": Counter({("x",): 8, ("y",): 2}), "b": Counter({("x",): 1, ("y",): 9})}
    found = log_odds(counts, prior=10.0)
    # Monroe et al. 2008, eq. 15 to 22, written out for x in a: 9 of 20 words are x.
    alpha = 10 * 9 / 20
    here, there = 8 + alpha, 1 + alpha
    delta = math.log(here / (10 + 10 - here)) - math.log(there / (10 + 10 - there))
    assert found[("x",)]["a"] == pytest.approx(delta / math.sqrt(1 / here + 1 / there))
    assert found[("x",)]["b"] == pytest.approx(-found[("x",)]["a"])
    assert found[("y",)]["b"] > 0


def test_a_rare_word_tells_less_than_a_frequent_one_of_the_same_purity() -> None:
    rest = {("other",): 500}
    counts = {
        "a": Counter({("often",): 40, ("once",): 1, **rest}),
        "b": Counter({("often",): 1, **rest}),
    }
    found = log_odds(counts, prior=100.0)
    assert found[("often",)]["a"] > 3 * found[("once",)]["a"] > 0


def test_candidates_are_telling_distinct_and_pronounced() -> None:
    pytest.importorskip("pocketsphinx")
    found = {p.text: p for p in candidates(TEXTS, SMALL, 6)}
    assert "happy" in found
    assert "so happy" not in found  # holds a better one
    assert "am" not in found  # too short
    assert found["crying"].weights["sad"] > found["crying"].weights["happy"]
    unknown = [p for p in found.values() if p.pronunciations]
    assert [p.pronunciations for p in unknown] == [
        {"yummylicious": "Y AH M IH L IH SH AH S"}
    ] * len(unknown)


def test_a_threshold_keeps_the_rate() -> None:
    rng = np.random.default_rng(0)
    scores = 2.0 + rng.exponential(3.0, 400)  # 400 alarms in 10 h
    for rate in (2.0, 0.1):
        value = threshold(list(scores), 10.0, rate)
        # True rate above the value, of the distribution that was drawn from.
        true = 40 * math.exp(-(value - 2.0) / 3.0)
        assert rate / 4 < true < rate * 4
    alone = threshold([-15.0], 1.0, 1.0)
    assert threshold([], 1.0, 1.0) < alone == -15.0
    assert threshold([-15.0], 1.0, 0.1) > alone


def test_information_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import mutual_info_score

    shares = (0.5, 0.25, 0.0, 0.05)
    # 100 utterances of each class, in so many of which the phrase is heard.
    classes = np.repeat(np.arange(4), 100)
    heard = np.concatenate([np.arange(100) < 100 * share for share in shares])
    expected = mutual_info_score(classes, heard) / math.log(2)
    assert information(shares) == pytest.approx(expected, abs=1e-9)
    assert information([0.3] * 4) == pytest.approx(0, abs=1e-12)


def rising(text: str, *bits: float) -> list[Tuned]:
    return [
        Tuned(Phrase(text), rate=float(rate), bits=b)
        for rate, b in zip((1, 2, 5), bits, strict=True)
    ]


def test_alarms_are_spent_where_they_tell_most() -> None:
    options = {"good": rising("good", 1.0, 3.0, 3.5), "poor": rising("poor", 0.1, 0.2, 0.9)}
    for alarms, rates in ((2.0, (1, 1)), (3.0, (2, 1)), (8.0, (2, 5)), (10.0, (5, 5))):
        chosen = spend(options, alarms)
        assert (chosen["good"].rate, chosen["poor"].rate) == rates
    # A step that only costs is never taken, whatever there is to spend.
    assert spend({"flat": rising("flat", 1.0, 1.0, 0.5)}, 100.0)["flat"].rate == 1


def test_phones_of_espeak_become_those_of_the_dictionary() -> None:
    assert arpabet("hˈæpi") == "HH AE P IY"
    assert arpabet("tʃˈiːɹfəl") == "CH IY R F AH L"
    assert Synthesizer().pronounce("yay") == "Y EY"
    assert len(Synthesizer().speak("no", Voice("en-us+f3"))) > 1000


def test_a_clip_is_heard_as_if_it_were_the_first(corpora: Path) -> None:
    """An engine gets used to a voice; which clips a process heard before must not matter."""
    pytest.importorskip("pocketsphinx")
    folder = corpora / "ravdess"
    clips = ("Actor_01/03-01-05-02-01-01-01", "Actor_02/03-01-01-01-02-01-02")
    loud, plain = (
        listening._Task("", Utterance(folder / f"{clip}.flac", "neutral", "x", "ravdess"))
        for clip in clips
    )
    listening._load([Phrase("sitting", -20.0), Phrase("by the door", -20.0)])
    alone = listening._hear(plain)
    listening._hear(loud)
    assert not isinstance(alone, str)
    assert alone[2]
    assert listening._hear(plain) == alone


def test_interrupted_it_gives_up_what_is_not_heard_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, not when somebody collects what is left of it."""
    given_up = []

    def hearing(_: object, tasks: list[Any], *__: object) -> Iterator[tuple[Any, float, Any]]:
        try:
            yield tasks[0], 1.0, {}
        finally:
            given_up.append(True)

    def interrupted(_: str) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(listening, "_outcomes", hearing)
    monkeypatch.setattr(listening, "words", interrupted)
    phrases = [Phrase("happy", 1.0)]
    with pytest.raises(KeyboardInterrupt) as caught:
        listening._listen(phrases, [listening._Task("so happy")], [], SMALL)
    assert caught.tb  # which keeps all that nobody closed
    assert given_up


def test_a_list_is_learned_and_heard_again(corpora: Path, tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    if shutil.which("flite") is None:
        pytest.skip("no flite: apt-get install flite")
    from edge_runtime.text.phrases import read_keywords

    texts = [Utterance(None, label, "x", "made", text=t, split="train") for t, label in TEXTS]
    clip = corpora / "ravdess/Actor_01/03-01-01-01-01-02-01.flac"
    speech = [Utterance(clip, "neutral", "y", "ravdess", text="kids are talking by the door")]
    result = learn(texts, speech, SMALL)
    assert "crying" in [t.phrase.text for t in result.phrases]
    assert all(t.spoken >= 1 and t.hits >= 0.1 * t.spoken for t in result.phrases)
    assert sum(t.rate for t in result.phrases) <= SMALL.alarms
    assert 0 < result.hours < 0.01
    assert result.spoken_hours > 0
    out = tmp_path / "sub" / "keywords.txt"
    result.write(out, SMALL)
    assert "of real speech (ravdess)" in out.read_text()
    again = read_keywords(out)
    assert [p.text for p in again] == [t.phrase.text for t in result.phrases]
    for phrase, entry in zip(again, result.phrases, strict=True):
        assert phrase.threshold == pytest.approx(entry.phrase.threshold, abs=0.01)
        assert phrase.weights.keys() == {"happy", "neutral", "sad"}
    with pytest.raises(TrainingError, match="no speech to tune on"):
        learn(texts, [], SMALL)
    with pytest.raises(TrainingError, match="no phrase in enough texts"):
        learn(texts[:2], speech, SMALL)
