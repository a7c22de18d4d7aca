"""Phrases of the user's own become the device's list: pronunciations, thresholds, what they tell.

Each phrase is spoken by several voices, alone and within sentences, and searched for in that, in
sentences without it, in the other phrases, and in real speech where corpora are named. Thresholds
and their share of the false alarms are as for a list that is learned (`training.speech.keywords`).
One voice takes no part in this, and says how well the list does.

What a phrase tells follows from two beliefs of the user's, `PhraseSettings.trust` and `said`, and
from what was measured of it: said so often an hour, found in a share h of its takes, and set off by
other speech r times an hour, a detection is the phrase with probability p = said h / (said h + r).
The class is then one of those named with q = p trust + (1 - p) k / C, for k of C classes, and each
of them has the log-odds ln(q / k C), each other ln((1 - q) / (C - k) C), all classes being as
likely before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.console import counted
from edge_runtime.text.phrases import LOG_ODDS, Phrase, format_phrase
from training.corpora import Utterance
from training.errors import TrainingError
from training.output import at_once
from training.speech.carriers import CARRIERS, PLAIN, fillers
from training.speech.keywords import _LOWEST, _UTTERANCE, Tuned, _is_found, _options, _sample, spend
from training.speech.listening import _Heard, _listen, _Task
from training.speech.own_phrases import OwnPhrase
from training.speech.settings import PhraseSettings
from training.speech.synthesis import FLITE_F0, PHONES, Synthesizer

if TYPE_CHECKING:
    from edge_runtime.text.engines.sphinx import SphinxModel

TUNING_VOICES, HELD_OUT_VOICE = ("slt", "rms", "kal16"), "awb"
_VARIANTS, _HELD_OUT_VARIANT = ("", "+f3", "+m3"), "+f5"  # of a voice of eSpeak
_SHORT = 6  # phones; shorter phrases are set off by much else
_PACE, _PITCH = (0.85, 1.3), (0.9, 1.15)  # relative to the voice's own


@dataclass(frozen=True)
class HeldOut:
    """What the list does on a voice that it was not tuned on."""

    voice: str
    found: int
    spoken: int
    alarms: int
    hours: float
    """Of sentences, each of which lacks most of the phrases."""


@dataclass
class OwnList:
    """The list, and what to tell of it."""

    kept: list[Tuned]
    dropped: list[Tuned]
    """Not found again often enough."""
    held_out: HeldOut
    read: dict[str, str]
    """Words that no dictionary has, with the phones they were given by rule."""
    hours: float = 0.0
    """Real speech that the thresholds were tuned on."""
    spoken_hours: float = 0.0
    """Synthesized speech that they were tuned on."""
    speech: tuple[str, ...] = ()
    """Where the real speech comes from."""
    notes: list[str] = field(default_factory=list)
    """What is doubtful, a sentence each."""

    def write(self, path: Path, source: Path, settings: PhraseSettings) -> None:
        """Write the list for the device, with what was measured in comments."""
        real = (
            f"{self.hours:.2f} h of real speech ({', '.join(self.speech)}) and "
            if self.speech
            else ""
        )
        tested = self.held_out
        header = (
            f"# {counted(len(self.kept), 'phrase')} of {source.name} by python -m training phrases",
            f"# tuned for {settings.alarms:g} false alarms an hour on {real}"
            f"{self.spoken_hours:.2f} h of synthesized speech; voice {tested.voice}, not tuned on: "
            f"found {tested.found} of {tested.spoken}, {counted(tested.alarms, 'false alarm')} in "
            f"{tested.hours:.2f} h",
            f"# log-odds for a phrase that is right {100 * settings.trust:g} % of the times it is "
            f"said, {settings.said:g} times an hour",
            LOG_ODDS,
            "# phrase, threshold (likelihood ratio), log-odds by class, pronunciations",
        )
        lines = (*header, *(format_phrase(entry.phrase) for entry in self.kept))
        with at_once(path) as new:
            new.write_text("\n".join(lines) + "\n", encoding="utf-8")


def log_odds_of(
    entry: Tuned, classes: Sequence[str], labels: Sequence[str], settings: PhraseSettings
) -> dict[str, float]:
    """What hearing a phrase tells of each of `labels`, natural logarithms; see above."""
    hit = (entry.hits + 1 / 3) / (entry.spoken + 1)
    really = settings.said * hit / (settings.said * hit + entry.rate)
    named, count = len(classes), len(labels)
    if named == count:
        return dict.fromkeys(labels, 0.0)
    by_chance = named / count
    right = really * max(settings.trust, by_chance) + (1 - really) * by_chance
    return {
        label: math.log(right / named * count)
        if label in classes
        else math.log((1 - right) / (count - named) * count)
        for label in labels
    }


def tune(
    own: Sequence[OwnPhrase],
    labels: Sequence[str],
    speech: Sequence[Utterance],
    settings: PhraseSettings,
) -> OwnList:
    """The list of the phrases `own`.

    Parameters
    ----------
    labels : all classes that there are.
    speech : utterances with audio, in which a phrase counts as a false alarm unless their text
        has it; may be empty.

    Raises TrainingError for a word that cannot be pronounced, a model or a voice that does not fit,
    or where nothing can be spoken or found.
    """
    reader = Reader(settings)
    phrases = [Phrase(p.text, _LOWEST, {}, reader.lacking(p)) for p in own]
    rng = np.random.default_rng(settings.seed)
    cast = _Cast(reader, settings, rng)
    spoken, tested = cast.takes(own, settings.takes), cast.takes(own, 4, held_out=True)
    plain = () if settings.voice or settings.model else PLAIN
    sentences = fillers(settings.fillers, reader.dictionary, rng, plain)
    # A fifth of the sentences tells what the list does to a voice that it was not tuned on.
    apart = len(sentences) // 5
    spoken += [cast.task(text) for text in sentences[apart:]]
    tested += [cast.task(text, held_out=True) for text in sentences[:apart]]
    clips = _sample([u for u in speech if u.path is not None], settings.seed)
    heard = _listen(phrases, spoken, clips, settings, reader.model)
    options = {
        p.text: _options(p, heard, _shares_of(mine, labels, settings))
        for p, mine in zip(phrases, own, strict=True)
    }
    chosen = spend(options, settings.alarms)
    kept: list[Tuned] = []
    dropped: list[Tuned] = []
    for mine in own:
        entry = chosen[mine.text]
        entry.phrase = replace(
            entry.phrase, weights=log_odds_of(entry, mine.classes, labels, settings)
        )
        (kept if settings.voice or _is_found(entry, settings) else dropped).append(entry)
    judged = _listen([e.phrase for e in kept], tested, [], settings, reader.model) if kept else None
    return OwnList(
        kept,
        dropped,
        _held_out(kept, judged, cast.voice(0, held_out=True)),
        reader.read,
        heard.real_hours,
        heard.spoken_hours,
        tuple(sorted({u.corpus for u in clips})),
        [*reader.notes(own), *_notes(settings, bool(clips))],
    )


class Reader:
    """How words are pronounced: as the user says, by the dictionary, or by rule."""

    def __init__(self, settings: PhraseSettings) -> None:
        from edge_runtime.text.engines.sphinx import knows, model_in, open_decoder

        if settings.dictionary and not settings.model:
            raise TrainingError("--dictionary goes with --model, the folder of an acoustic model")
        self._settings = settings
        self.model: SphinxModel | None = (
            model_in(settings.model, settings.dictionary) if settings.model else None
        )
        self._decoder = open_decoder(self.model, lm=None)
        self.english = all(knows(self._decoder, phone) for phone in sorted(PHONES))
        """Whether the acoustic model has the phones of US English."""
        if not (self.english or settings.voice):
            raise TrainingError(
                f"the model in {settings.model} has other phones than US English, which flite "
                "cannot speak: name a voice of eSpeak NG, such as --voice de"
            )
        self.dictionary = _words_of(self.model)
        self.read: dict[str, str] = {}
        self._given: dict[str, str] = {}
        self._phones: dict[str, int] = {}

    def lacking(self, phrase: OwnPhrase) -> dict[str, str]:
        """Pronunciations of words of a phrase that the device's dictionary lacks, or has otherwise.

        Raises TrainingError for a word that nobody knows how to say.
        """
        found = {}
        for word in phrase.text.split():
            if word in phrase.pronunciations:
                found[word] = self._given[word] = phrase.pronunciations[word]
                self._check(phrase, word)
            elif self._looked_up(word) is None:
                found[word] = self._by_rule(phrase, word)
        self._phones[phrase.text] = len(self.phones(phrase.text).split())
        return found

    def phones(self, text: str) -> str:
        """Phones of a text, spaces between; words that are not known are passed over."""
        return " ".join(filter(None, map(self._phones_of, text.split())))

    def said_by_phones(self, text: str) -> bool:
        """Whether flite has to be told how to say it: it reads English by rules of its own."""
        return self.model is not None or any(word in self._given for word in text.split())

    def notes(self, own: Sequence[OwnPhrase]) -> list[str]:
        """What is doubtful about how phrases sound."""
        short = [f"{p.text!r}" for p in own if self._phones[p.text] < _SHORT]
        if not short:
            return []
        return [
            f"{', '.join(short)}: fewer than {_SHORT} phones are hard to tell from other speech; "
            "a longer phrase is found better"
        ]

    def _phones_of(self, word: str) -> str | None:
        return self._given.get(word) or self.read.get(word) or self._looked_up(word)

    def _looked_up(self, word: str) -> str | None:
        from edge_runtime.text.engines.sphinx import pronunciation

        return pronunciation(self._decoder, word)

    def _by_rule(self, phrase: OwnPhrase, word: str) -> str:
        if self._settings.voice or not self.english or not word.isascii():
            where = self.model.dictionary if self.model else "the dictionary of US English"
            raise TrainingError(
                f"{phrase.place}: {where} lacks {word!r} of {phrase.written!r}; add it there, "
                f"or give its phones in the column pronunciation: {word}=..."
            )
        if word not in self.read:
            self.read[word] = Synthesizer().pronounce(word)
            if not self.read[word]:
                raise TrainingError(f"{phrase.place}: nobody knows how to say {word!r}")
        return self.read[word]

    def _check(self, phrase: OwnPhrase, word: str) -> None:
        from edge_runtime.text.engines.sphinx import knows

        foreign = [p for p in self._given[word].split() if not knows(self._decoder, p)]
        if foreign:
            raise TrainingError(
                f"{phrase.place}: the acoustic model has no phone {', '.join(foreign)}, as in "
                f"{word}={self._given[word]}"
            )


class _Cast:
    """Who speaks what."""

    def __init__(self, reader: Reader, settings: PhraseSettings, rng: np.random.Generator) -> None:
        self._reader, self._settings, self._rng, self._turn = reader, settings, rng, 0

    def voice(self, turn: int, held_out: bool) -> str:
        """The voice whose turn it is, or the one that is held out."""
        if self._settings.voice:
            variant = _HELD_OUT_VARIANT if held_out else _VARIANTS[turn % len(_VARIANTS)]
            return self._settings.voice + variant
        return HELD_OUT_VOICE if held_out else TUNING_VOICES[turn % len(TUNING_VOICES)]

    def task(self, text: str, held_out: bool = False) -> _Task:
        """The text in the next voice, at a pace and pitch of its own."""
        voice = self.voice(self._turn, held_out)
        self._turn += 1
        pitch = float(self._rng.uniform(*_PITCH))
        return _Task(
            text,
            None,
            voice,
            float(self._rng.uniform(*_PACE)),
            pitch if voice in FLITE_F0 else 1.0,
            self._reader.phones(text) if self._reader.said_by_phones(text) else "",
        )

    def takes(self, own: Sequence[OwnPhrase], number: int, held_out: bool = False) -> list[_Task]:
        """Each phrase so many times: every other time alone, else within a sentence.

        The sentences are English; in another language two phrases are said in a row.
        """
        foreign = bool(self._settings.voice or self._settings.model)
        result = []
        for phrase in own:
            for turn in range(number):
                around = CARRIERS[1 + turn // 2 % (len(CARRIERS) - 1)]
                if foreign:
                    around = f"{self._rng.choice([p.text for p in own])} {{}}"
                text = around.format(phrase.text) if turn % 2 else phrase.text
                result.append(self.task(text, held_out))
        return result


def _words_of(model: SphinxModel | None) -> dict[str, str]:
    """Words of a dictionary, lower-cased, with their first pronunciations."""
    import pocketsphinx

    path = (
        model.dictionary if model else Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict"))
    )
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        word, _, phones = line.partition(" ")
        found.setdefault(word.lower(), phones.strip())
    return found


def _shares_of(phrase: OwnPhrase, labels: Sequence[str], settings: PhraseSettings) -> list[float]:
    """The share of utterances of each class in which a phrase is said, by the user's beliefs."""
    overall = min(0.5, settings.said * _UTTERANCE / 3600)
    named, count = len(phrase.classes), len(labels)
    if named == count:
        return [overall] * count
    trust = max(settings.trust, named / count)
    inside, outside = trust * count / named, (1 - trust) * count / (count - named)
    return [min(1.0, overall * (inside if c in phrase.classes else outside)) for c in labels]


def _held_out(kept: Sequence[Tuned], heard: _Heard | None, voice: str) -> HeldOut:
    if heard is None:
        return HeldOut(voice, 0, 0, 0, 0.0)

    def passed(scores: Mapping[str, Sequence[float]]) -> int:
        return sum(
            score >= (entry.phrase.threshold or 0.0)
            for entry in kept
            for score in scores[entry.phrase.text]
        )

    spoken = sum(len(heard.spoken[entry.phrase.text]) for entry in kept)
    return HeldOut(voice, passed(heard.spoken), spoken, passed(heard.others), heard.spoken_hours)


def _notes(settings: PhraseSettings, real: bool) -> list[str]:
    notes = []
    if not real:
        notes.append(
            "no corpus of real speech is named: thresholds rest on synthesized sentences alone, "
            "and people may set them off more often (name one, such as librispeech=DIR)"
        )
    if settings.voice:
        notes.append(
            "eSpeak's formants are seldom understood by models of people: nothing was dropped for "
            "not being found; say the phrases yourself before you rely on them"
        )
    return notes
