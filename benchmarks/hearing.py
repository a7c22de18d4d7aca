"""What the engines hear and cost: word errors, key phrases found and imagined, time, memory."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.errors import BenchmarkError
from benchmarks.output import tracked
from edge_runtime import EmotionStream
from edge_runtime.audio.file import read_file
from edge_runtime.bundle import Bundle
from edge_runtime.errors import AudioError
from edge_runtime.manifest import KEYWORDS
from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.segment import speech_of
from edge_runtime.text import OFF
from edge_runtime.text.engines.keywords import Keywords
from edge_runtime.text.phrases import Phrase, read_keywords
from edge_runtime.tokenizer import words
from training.corpora import Utterance
from training.speech.settings import TranscribeSettings
from training.speech.synthesis import FLITE_VOICES, speak_with_flite
from training.speech.transcribe import transcribe
from training.words.asrnoise import Confusions, read_confusions

log = logging.getLogger(__name__)

MODES = (OFF, "keywords", "asr")
NOT_ENGLISH = ("emodb",)  # corpora whose words the shipped engines do not know
_BLOCK = SAMPLE_RATE // 10
_PAUSE = np.zeros(SAMPLE_RATE, np.int16)  # between two clips of a stream
_SENTENCE_WORDS = 12  # longest sentence that is spoken
_COST_CLIPS = 20


@dataclass(frozen=True)
class Cost:
    """What one mode takes, beside the emotion path."""

    mode: str
    """One of `MODES`, or another engine's name."""
    real_time_factor: float
    """Processor time of the engine's process per second of speech; 0 without one."""
    rss_mb: float
    """Memory of that process, MB."""
    emotion_real_time_factor: float
    """Processing time of the emotion path per second of audio."""


@dataclass(frozen=True)
class Spotting:
    """Key phrases in speech whose words are known."""

    hits: int
    """Phrases found where they were said."""
    said: int
    """Phrases that were said."""
    alarms: int
    """Phrases found where they were not said."""
    hours: float
    """Length of the speech."""
    clips: int
    """Sentences or recordings."""

    @property
    def hourly(self) -> float:
        """False alarms an hour of speech."""
        return self.alarms / max(self.hours, 1e-9)


def word_errors(clips: Sequence[Utterance], engine: str = "asr", jobs: int = 1) -> Confusions:
    """What `engine` makes of the words of `clips`, each end-pointed and heard by itself.

    Raises BenchmarkError where none has both audio and English words; else as `transcribe`.
    """
    spoken = [u for u in clips if u.path is not None and u.text and u.corpus not in NOT_ENGLISH]
    if not spoken:
        raise BenchmarkError("no clip with words to hear: name a corpus of speech with its text")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "heard.csv"
        transcribe(spoken, out, TranscribeSettings(engine, jobs))
        return read_confusions(out)


def phrases_of(bundle: Bundle) -> list[Phrase]:
    """The bundle's key phrases. BenchmarkError where it has none."""
    if KEYWORDS not in bundle.contents:
        raise BenchmarkError(f"bundle {bundle.manifest.name} has no key phrases")
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        Path(file.name).write_bytes(bundle.contents[KEYWORDS])
        return read_keywords(Path(file.name))


def spot_in_sentences(
    phrases: Sequence[Phrase], texts: Sequence[Utterance], examples: int = 3, seed: int = 0
) -> Spotting:
    """Phrases in sentences of `texts` that flite speaks, up to `examples` with each phrase.

    Voice and speed are drawn by `seed`. Texts from which thresholds were tuned must not be in it.
    """
    rng = np.random.default_rng(seed)
    sentences = list(_sentences(phrases, texts, examples, rng))
    if not sentences:
        raise BenchmarkError("no text has one of the key phrases")
    spoken = (
        (s, speak_with_flite(s, str(rng.choice(FLITE_VOICES)), float(rng.uniform(0.9, 1.2))))
        for s in sentences
    )
    return _spot(phrases, spoken, len(sentences), "spotting in sentences")


def spot_in_speech(phrases: Sequence[Phrase], clips: Sequence[Utterance]) -> Spotting:
    """Phrases in recordings; whatever is found and not in their text is a false alarm."""
    spoken = [u for u in clips if u.path is not None]
    read = ((u.text, samples) for u, samples in readable(spoken))
    return _spot(phrases, read, len(spoken), "spotting in speech")


def readable(clips: Iterable[Utterance]) -> Iterator[tuple[Utterance, Int16]]:
    """Clips with their samples; those that cannot be read are named in the log, and left out."""
    for clip in clips:
        try:
            yield clip, read_file(clip.audio, clip.start, clip.end)
        except AudioError as error:
            log.warning("skipped %s", error)


def costs(bundle: Bundle, clips: Sequence[Utterance], modes: Sequence[str] = MODES) -> list[Cost]:
    """Stream some of `clips`, a second apart, through each mode; what it took.

    Not at the speed of speech: time is the processor's, so other work changes it little.
    """
    spoken = [u for u in clips if u.path is not None]
    order = np.random.default_rng(0).permutation(len(spoken))[:_COST_CLIPS]
    samples = [samples for _, samples in readable(spoken[i] for i in order)]
    if not samples:
        raise BenchmarkError("none of the clips can be read")
    talk = np.concatenate([part for clip in samples for part in (clip, _PAUSE)])
    result = []
    for mode in modes:
        with EmotionStream(bundle, mode, live=False) as stream:
            stream.wait_ready()
            for start in tracked(range(0, len(talk), _BLOCK), f"streaming, {mode}"):
                stream.feed(talk[start : start + _BLOCK])
            stream.finish()
            health = stream.health()
        result.append(
            Cost(
                mode,
                health.text_real_time_factor,
                health.text_rss_mb,
                health.real_time_factor,
            )
        )
    return result


def to_dict(
    errors: Mapping[str, Confusions], spotted: Mapping[str, Spotting], found: Sequence[Cost]
) -> dict[str, Any]:
    """All of it for JSON."""
    return {
        "word_errors": {
            engine: {
                "rate": found.error_rate,
                "words": found.words,
                "substitutions": found.substitutions,
                "deletions": found.lost.total(),
                "insertions": found.added.total(),
            }
            for engine, found in errors.items()
        },
        "keywords": {
            name: {**asdict(s), "alarms_per_hour": s.hourly} for name, s in spotted.items()
        },
        "cost": [asdict(cost) for cost in found],
    }


def _spot(
    phrases: Sequence[Phrase], clips: Iterable[tuple[str, Int16]], total: int, what: str
) -> Spotting:
    engine = Keywords(list(phrases))
    hits = said = alarms = heard = 0
    seconds = 0.0
    for text, samples in tracked(clips, what, total):
        speech = speech_of(samples)
        engine.restart()
        engine.begin(0.0)
        engine.feed(speech)
        found = {word.text for word in engine.end().words}
        there = {p.text for p in phrases if _has(words(text), p.text.split())}
        # Of phrases that overlap the engine says the longest: part of what was said is no alarm.
        hits += sum(any(_has(f.split(), p.split()) for f in found) for p in there)
        said += len(there)
        alarms += sum(not _has(words(text), f.split()) for f in found)
        seconds += len(speech) / SAMPLE_RATE
        heard += 1
    return Spotting(hits, said, alarms, seconds / 3600, heard)


def _sentences(
    phrases: Sequence[Phrase],
    texts: Sequence[Utterance],
    examples: int,
    rng: np.random.Generator,
) -> Iterator[str]:
    left = {p.text: examples for p in phrases}
    for index in rng.permutation(len(texts)):
        said = words(texts[index].text)
        here = [p for p in left if _has(said, p.split())]
        if not here or len(said) > _SENTENCE_WORDS:
            continue
        yield " ".join(said)
        left = {p: n - (p in here) for p, n in left.items() if n > (p in here)}


def _has(said: Sequence[str], phrase: Sequence[str]) -> bool:
    size = len(phrase)
    return any(list(said[i : i + size]) == list(phrase) for i in range(len(said) - size + 1))
