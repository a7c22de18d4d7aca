"""Every word: pocketsphinx on real clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.audio.file import read_file
from edge_runtime.errors import TextError
from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.segment import speech_of
from edge_runtime.text import TextSource, Transcript, spell
from edge_runtime.text.engines import source_named
from training.words.asrnoise import confusions

pytest.importorskip("pocketsphinx")


@pytest.fixture(scope="module")
def engine() -> TextSource:
    return source_named("asr")


def hear(engine: TextSource, samples: Int16, t: float = 0.0, block: int = 1600) -> list[Transcript]:
    """What the engine says of one utterance, partials first."""
    engine.begin(t)
    said = [engine.feed(samples[i : i + block]) for i in range(0, len(samples), block)]
    return [*(s for s in said if s is not None), engine.end()]


def test_words_of_a_real_clip_come_with_times_and_confidence(
    engine: TextSource, corpora: Path
) -> None:
    samples = read_file(corpora / "ravdess/Actor_02/03-01-01-01-01-01-02.flac")
    *partials, final = hear(engine, samples, 10.0)
    assert final.final
    assert final.start == 10.0
    assert final.source == "asr"
    assert final.text.startswith("kids are talking")
    times = [t for word in final.words for t in (word.start, word.end)]
    assert times == sorted(times)
    assert times[0] >= 10.0
    assert times[-1] <= 10.0 + len(samples) / SAMPLE_RATE + 0.01
    assert all(w.confidence is not None and 0 < w.confidence <= 1 for w in final.words)
    assert partials
    assert not any(p.final or p.text.startswith("<") for p in partials)


def test_how_the_samples_are_cut_does_not_matter(corpora: Path) -> None:
    samples = read_file(corpora / "ravdess/Actor_02/03-01-01-01-01-01-02.flac")
    fine, coarse = (hear(source_named("asr"), samples, 0.0, b)[-1] for b in (377, 16_000))
    assert [(w.text, w.start, w.end) for w in fine.words] == [
        (w.text, w.start, w.end) for w in coarse.words
    ]
    # Cepstral means adapt with every block, so that the posteriors differ a little.
    for one, other in zip(fine.words, coarse.words, strict=True):
        assert one.confidence == pytest.approx(other.confidence, abs=0.01)


def test_nothing_said_and_nothing_fed_give_no_words(engine: TextSource) -> None:
    assert hear(engine, np.zeros(SAMPLE_RATE // 2, np.int16))[-1].words == ()
    assert hear(engine, np.zeros(0, np.int16)) == [Transcript((), True, 0.0, "asr")]
    assert hear(engine, np.zeros(10, np.int16))[-1].words == ()


def test_the_first_utterance_of_a_stream_is_heard_with_its_own_means(
    corpora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its beginning tells how the channel sounds; the means of the package are nobody's."""
    clips = [
        speech_of(read_file(corpora / f"ravdess/Actor_{actor}/03-01-01-01-01-01-{actor}.flac"))
        for actor in ("02", "04", "06", "08", "10")
    ]

    def error_rate() -> float:
        heard = [hear(source_named("asr"), clip)[-1].text for clip in clips]
        return confusions(("kids are talking by the door", text) for text in heard).error_rate

    measured = error_rate()
    monkeypatch.setattr("edge_runtime.text.engines.sphinx._LEAST", 10**9)
    assert measured < error_rate()


def test_silence_at_first_says_nothing_of_the_channel(corpora: Path) -> None:
    engine, quiet = source_named("asr"), source_named("asr")
    samples = read_file(corpora / "ravdess/Actor_02/03-01-01-01-01-01-02.flac")
    hear(quiet, np.zeros(2 * SAMPLE_RATE, np.int16))
    assert hear(quiet, samples)[-1].text == hear(engine, samples)[-1].text


def test_an_utterance_left_open_is_dropped(engine: TextSource) -> None:
    engine.begin(0.0)
    engine.feed(np.zeros(1600, np.int16))
    engine.begin(5.0)
    assert engine.end().start == 5.0


def test_out_of_turn_is_an_error(engine: TextSource) -> None:
    with pytest.raises(TextError, match="ended that had not begun"):
        engine.end()
    with pytest.raises(TextError, match="before an utterance began"):
        engine.feed(np.zeros(10, np.int16))


def test_another_language_is_words_or_none_but_no_error(engine: TextSource, corpora: Path) -> None:
    final = hear(engine, read_file(corpora / "emodb/wav/03a01Fa.flac"))[-1]
    assert final.final


@pytest.mark.parametrize(
    ("name", "message"),
    [("nonsense", "unknown text source 'nonsense'; there is off"), ("", "has no name")],
)
def test_names_that_are_none(name: str, message: str) -> None:
    with pytest.raises(TextError, match=message):
        source_named(name)


def test_a_dictionary_entry_is_spelled_as_a_word() -> None:
    assert [spell(w) for w in ("read(2)", "Don't", "o'clock")] == ["read", "don't", "o'clock"]
