"""Words and voice together, and against each other: sentences spoken by a machine, on the fly.

No free corpus at hand has both natural words and acted voices, so this makes one: sentences of a
text corpus's development split, each spoken twice by flite, with the prosody of its own class and
with that of another. The speech is **synthetic**: it has pace, pitch, its spread and loudness of an
emotion (the directions of Juslin & Laukka 2003, doi 10.1037/0033-2909.129.5.770, table 7), and
nothing of a voice's quality, so audio alone has little to go by. It shows whether words help the
verdict, not how well people are understood.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.errors import BenchmarkError
from benchmarks.output import tracked
from edge_runtime import EmotionStream
from edge_runtime.bundle import Bundle
from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.stream import classify
from edge_runtime.text import OFF
from edge_runtime.tokenizer import words
from training.corpora import Utterance
from training.evaluate.metrics import Metrics, measure
from training.speech.synthesis import FLITE_F0, speak_with_flite
from training.words.asrnoise import confusions

TRANSCRIPT = "transcript"
MODES = (OFF, "keywords", "asr", TRANSCRIPT)
_EDGE = np.zeros(3 * SAMPLE_RATE // 10, np.int16)  # silence before and after
_SHORTEST, _LONGEST = 3, 14  # words of a sentence


@dataclass(frozen=True)
class Prosody:
    """How an emotion is spoken, against neutral speech."""

    stretch: float
    """Duration of the phones."""
    pitch: float
    """Mean fundamental frequency."""
    spread: float
    """Its standard deviation."""
    level_db: float
    """Peak level, dB relative to full scale."""


PROSODY = {
    "angry": Prosody(0.85, 1.25, 1.8, -2.0),
    "happy": Prosody(0.9, 1.35, 2.2, -6.0),
    "neutral": Prosody(1.0, 1.0, 1.0, -12.0),
    "sad": Prosody(1.3, 0.9, 0.5, -20.0),
}
"""Chosen from the literature before anything was measured, and not changed afterwards."""


@dataclass(frozen=True)
class Sentence:
    """One that is spoken."""

    text: str
    words: str
    """The class of its words."""
    voice: str
    """The class of its prosody."""
    speaker: str
    """flite's voice."""

    def speak(self) -> Int16:
        """int16, 16 kHz, with silence at both ends."""
        how = PROSODY[self.voice]
        samples = speak_with_flite(self.text, self.speaker, how.stretch, how.pitch, how.spread)
        peak = 32767 * 10 ** (how.level_db / 20)
        level = samples * (peak / max(1, int(np.abs(samples.astype(np.int32)).max())))
        return np.concatenate([_EDGE, np.rint(level).astype(np.int16), _EDGE])


@dataclass
class Outcome:
    """The verdicts of one mode."""

    mode: str
    agreeing: Metrics
    """Where words and voice are of one class."""
    conflicts: Counter[str] = field(default_factory=Counter)
    """Where they are not: verdicts that go with the "words", the "voice", or "neither"."""
    heard: int = 0
    """Sentences of which the mode had any word."""
    word_error_rate: float = 1.0
    """Of what it had, against what was spoken."""
    sentences: int = 0
    """Sentences in all."""
    helped: int = 0
    """Agreeing sentences that are right now and were wrong by the first mode, by sound alone."""
    harmed: int = 0
    """Those that were right by that and are wrong now."""
    confusion: dict[str, Counter[str]] = field(default_factory=dict)
    """Of the conflicts: verdicts by "words/voice"."""

    @property
    def chance(self) -> float:
        """How likely a coin is to lean as far as `helped` and `harmed` do: two-sided exact sign
        test (McNemar's, exact), 0 to 1.
        """
        from scipy.stats import binomtest

        changed = self.helped + self.harmed
        return float(binomtest(self.helped, changed).pvalue) if changed else 1.0

    def share(self, what: str) -> float:
        """Of the conflicts, the share that went with "words", "voice" or "neither"."""
        return self.conflicts[what] / max(1, self.conflicts.total())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "mode": self.mode,
            "agreeing": self.agreeing.to_dict(),
            "conflicts": dict(self.conflicts),
            "heard": self.heard,
            "word_error_rate": self.word_error_rate,
            "sentences": self.sentences,
            "helped": self.helped,
            "harmed": self.harmed,
            "chance": self.chance,
            "confusion": {case: dict(counts) for case, counts in self.confusion.items()},
        }


def sentences_of(texts: Sequence[Utterance], count: int, seed: int = 0) -> list[Sentence]:
    """`count` texts, as many of each class, each with its own and another class's prosody.

    Raises BenchmarkError for a class without prosody, or with too few texts.
    """
    labels = sorted(PROSODY)
    rng = np.random.default_rng(seed)
    result = []
    for label in labels:
        pool = [u.text for u in texts if u.label == label]
        pool = [t for t in dict.fromkeys(pool) if _SHORTEST <= len(words(t)) <= _LONGEST]
        need = -(-count // len(labels))
        if len(pool) < need:
            raise BenchmarkError(f"{label}: {len(pool)} sentences to speak, {need} are asked for")
        for index in rng.permutation(len(pool))[:need]:
            speaker = str(rng.choice(list(FLITE_F0)))
            other = str(rng.choice([x for x in labels if x != label]))
            text = " ".join(words(pool[index]))  # as an engine writes it: no marks
            result += [Sentence(text, label, voice, speaker) for voice in (label, other)]
    return result


def judge_spoken(
    bundle: Bundle, sentences: Sequence[Sentence], modes: Sequence[str] = MODES
) -> list[Outcome]:
    """Verdicts on all sentences by what each mode has of their words, beside their sound.

    The first mode is what the others are held against. Raises BenchmarkError for another bundle.
    """
    missing = set(PROSODY) - set(bundle.manifest.labels)
    if missing or "audio+text" not in bundle.manifest.modalities:
        raise BenchmarkError(
            f"bundle {bundle.manifest.name} does not judge {', '.join(sorted(PROSODY))} by sound "
            "and words"
        )
    clips = [s.speak() for s in tracked(sentences, "speaking")]
    outcomes: list[Outcome] = []
    alone: list[str] = []
    for mode in modes:
        outcome, verdicts = _judge(bundle, sentences, clips, mode)
        for sentence, verdict, before in zip(sentences, verdicts, alone or verdicts, strict=True):
            if sentence.words == sentence.voice:
                outcome.helped += verdict == sentence.words != before
                outcome.harmed += before == sentence.words != verdict
        outcomes.append(outcome)
        alone = alone or verdicts
    return outcomes


def _judge(
    bundle: Bundle, sentences: Sequence[Sentence], clips: Sequence[Int16], mode: str
) -> tuple[Outcome, list[str]]:
    """What came of it, and the verdict on each sentence."""
    labels = list(bundle.manifest.labels)
    truth, found, verdicts, heard = [], [], [], []
    outcome = Outcome(mode, measure(np.array([0]), np.array([0]), labels))
    engine = OFF if mode == TRANSCRIPT else mode
    segment = bundle.manifest.segment.whole()
    with EmotionStream(bundle, engine, segment=segment, partial_seconds=0, live=False) as stream:
        stream.wait_ready()
        pairs = list(zip(sentences, clips, strict=True))
        for sentence, clip in tracked(pairs, f"judging, {mode}"):
            event = classify(stream, clip, sentence.text if mode == TRANSCRIPT else "")
            best = max(event.scores, key=lambda label: event.scores[label])
            verdicts.append(best)
            outcome.sentences += 1
            outcome.heard += bool(event.text)
            heard.append((sentence.text, event.text))
            if sentence.words == sentence.voice:
                truth.append(labels.index(sentence.words))
                found.append(labels.index(best))
                continue
            sides = {sentence.words: "words", sentence.voice: "voice"}
            outcome.conflicts[sides.get(best, "neither")] += 1
            case = f"{sentence.words}/{sentence.voice}"
            outcome.confusion.setdefault(case, Counter())[best] += 1
    outcome.word_error_rate = confusions(heard).error_rate
    outcome.agreeing = measure(np.array(truth), np.array(found), labels)
    return outcome, verdicts
