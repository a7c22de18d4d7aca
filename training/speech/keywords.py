"""The list of key phrases that the device spots: which tell most about the class, and how loud
the evidence must be.

Words and short phrases of the training texts are ranked by weighted log-odds with an informative
Dirichlet prior (Monroe, Colaresi & Quinn 2008, doi 10.1093/pan/mpn018, eq. 16 and 22). Each phrase
then gets the threshold at which speech without it sets it off no more than so often an hour, from
an exponential tail through its highest scores there (peaks over threshold, Coles 2001, ch. 4): in
real speech and in synthesized sentences alike. The false alarms that the list as a whole may give
go where they buy most: each phrase may have as many as raise the information that hearing it gives
on the class (Shannon's, in bits) by more than elsewhere. Phrases that are not found again in
synthesized sentences are left out. The sentences are spoken by flite, whose voices are made of
recorded speech; with eSpeak's formants only 2 of 66 phrases were found again.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edge_runtime.console import counted
from edge_runtime.text.phrases import Phrase, format_phrase
from edge_runtime.tokenizer import words
from training.corpora import Utterance
from training.errors import TrainingError
from training.output import at_once
from training.speech.listening import _aloud, _Heard, _listen
from training.speech.phrase_ranking import _overlap, _shares, candidates, information
from training.speech.settings import KeywordSettings, PhraseSettings

_LOWEST = -20.0  # log10 of the likelihood ratio from which detections are looked at in tuning

_TAIL = 8  # highest false alarms that the tail is fitted to
_SPREAD = 3.0  # decades that the tail is taken to fall off in, where next to nothing is known of it
_SENTENCE_WORDS = 12  # longest sentence that is spoken
_UTTERANCE = 3.0  # seconds in which a phrase is heard or not, for what that tells
_RATES = tuple(m * 10.0**e for e in (-2, -1, 0, 1) for m in (1, 2, 5))
"""False alarms an hour that a single phrase may be given."""


@dataclass
class Tuned:
    """A phrase with what was measured of it."""

    phrase: Phrase
    hits: int = 0
    """Sentences in which it was found."""
    spoken: int = 0
    """Sentences with it."""
    alarms: int = 0
    """Clips of real speech in which it was heard and is not."""
    rate: float = 0.0
    """False alarms an hour that its threshold was set for."""
    bits: float = 0.0
    """What hearing it, or not, tells about the class of an utterance."""


@dataclass
class KeywordList:
    """What was learned."""

    phrases: list[Tuned] = field(default_factory=list)
    left_out: list[Tuned] = field(default_factory=list)
    """Candidates found too rarely, or that tell less than others."""
    hours: float = 0.0
    """Real speech that the thresholds were tuned on."""
    spoken_hours: float = 0.0
    """Synthesized speech that they were tuned on."""
    corpora: tuple[str, ...] = ()
    """Where the texts come from."""
    speech: tuple[str, ...] = ()
    """Where the real speech comes from."""

    def write(self, path: Path, settings: KeywordSettings) -> None:
        """Write the list for the device, with what was measured in comments."""
        hits, spoken = (sum(getattr(t, n) for t in self.phrases) for n in ("hits", "spoken"))
        alarms = sum(t.alarms for t in self.phrases)
        header = (
            f"# {counted(len(self.phrases), 'phrase')} learned by python -m training keywords from "
            f"{', '.join(self.corpora)}",
            f"# tuned for {settings.alarms:g} false alarms an hour on {self.hours:.2f} h of real "
            f"speech ({', '.join(self.speech)}) and {self.spoken_hours:.2f} h of synthesized "
            f"speech; heard there: {alarms} in the real speech; found in {hits} of {spoken} "
            "synthesized sentences",
            "# phrase, threshold (likelihood ratio), z-score of log-odds by class, pronunciations",
        )
        lines = (*header, *(format_phrase(t.phrase) for t in self.phrases))
        with at_once(path) as new:
            new.write_text("\n".join(lines) + "\n", encoding="utf-8")


def threshold(scores: Sequence[float], hours: float, rate: float) -> float:
    """log10 of the likelihood ratio that false alarms pass `rate` times an hour.

    Parameters
    ----------
    scores : of the false alarms in `hours` of speech, log10.
    hours : length of that speech.
    rate : false alarms an hour that may remain.

    Beyond the highest scores the tail is taken for exponential. What is assumed of it counts as
    much as one alarm; where there was none, as much as one at the lowest score looked at.
    """
    top = sorted(scores, reverse=True)[:_TAIL] or [_LOWEST]
    mean = (sum(score - top[-1] for score in top) + _SPREAD) / len(top)
    return max(_LOWEST, top[-1] + mean * math.log(len(top) / hours / rate))


def learn(
    texts: Sequence[Utterance], speech: Sequence[Utterance], settings: KeywordSettings
) -> KeywordList:
    """Learn the list. TrainingError where there are no words, or no speech, to learn from.

    Parameters
    ----------
    texts : utterances whose words are ranked and spoken: of training splits.
    speech : utterances with audio, in which a phrase counts as a false alarm unless their text
        has it. What is said in ordinary speech without a text counts as false: that makes
        thresholds higher than they need be, never lower.
    """
    if settings.count < 1 or settings.alarms <= 0 or settings.longest < 1:
        raise TrainingError("--count and --longest must be at least 1, --alarms above 0")
    spare = 1.5  # candidates beyond those wanted: some are not found again
    ranked = [(u.text, u.label) for u in texts]
    phrases = candidates(ranked, settings, round(spare * settings.count))
    clips = _sample([u for u in speech if u.path is not None], settings.seed)
    if not phrases or not clips:
        what = "phrase in enough texts" if not phrases else "speech to tune on: name a corpus of it"
        raise TrainingError(f"keywords: there is no {what}")
    phrases = [replace(phrase, threshold=_LOWEST) for phrase in phrases]
    spoken = _aloud(_sentences(texts, phrases, settings), settings.seed)
    heard = _listen(phrases, spoken, clips, settings)
    shares = _shares(ranked, [p.text for p in phrases], settings.prior)
    options = {p.text: _options(p, heard, shares[p.text]) for p in phrases}
    found = [p.text for p in phrases if any(_is_found(o, settings) for o in options[p.text])]
    best = sorted(found, key=lambda text: -max(o.bits for o in options[text]))[: settings.count]
    chosen = spend({text: options[text] for text in best}, settings.alarms)
    kept = [chosen[text] for text in best if _is_found(chosen[text], settings)]
    texts_kept = {entry.phrase.text for entry in kept}
    return KeywordList(
        phrases=kept,
        left_out=[options[p.text][0] for p in phrases if p.text not in texts_kept],
        hours=heard.real_hours,
        spoken_hours=heard.spoken_hours,
        corpora=tuple(sorted({f"{u.corpus} ({u.split})" if u.split else u.corpus for u in texts})),
        speech=tuple(sorted({u.corpus for u in clips})),
    )


def spend(options: dict[str, list[Tuned]], alarms: float) -> dict[str, Tuned]:
    """One option for each phrase, so that all together tell most for `alarms` an hour.

    Greedy, by the bits that a further alarm buys; the first option of each, its cheapest, is taken
    in any case.

    Parameters
    ----------
    options : of each phrase the same phrase at rising rates of false alarms.
    alarms : an hour, of all together.
    """
    chosen = {text: mine[0] for text, mine in options.items()}
    left = alarms - sum(entry.rate for entry in chosen.values())
    offers: list[tuple[float, str, int]] = []

    def offer(text: str) -> None:
        """The best step up from where the phrase stands."""
        now = chosen[text]
        steps = [
            ((now.bits - step.bits) / (step.rate - now.rate), text, index)
            for index, step in enumerate(options[text])
            if step.rate > now.rate and step.bits > now.bits
        ]
        if steps:
            heapq.heappush(offers, min(steps))

    for text in options:
        offer(text)
    while offers:
        _, text, index = heapq.heappop(offers)
        cost = options[text][index].rate - chosen[text].rate
        if cost <= left:
            left -= cost
            chosen[text] = options[text][index]
            offer(text)
    return chosen


def _options(phrase: Phrase, heard: _Heard, shares: Sequence[float]) -> list[Tuned]:
    """The phrase with the threshold for each of `_RATES`."""
    found = heard.spoken[phrase.text]
    result = []
    for rate in _RATES:
        value = max(
            threshold([x for x in scores if x > _LOWEST], hours, rate)
            for scores, hours in (
                (heard.real[phrase.text], heard.real_hours),
                (heard.others[phrase.text], heard.spoken_hours),
            )
            if hours
        )
        hits = sum(score >= value for score in found)
        # A third of a hit in one sentence more than there were: few sentences prove little.
        hit = (hits + 1 / 3) / (len(found) + 1)
        alarm = 1 - math.exp(-rate * _UTTERANCE / 3600)
        bits = information([share * hit + (1 - share * hit) * alarm for share in shares])
        alarms = sum(score >= value for score in heard.real[phrase.text])
        tuned = replace(phrase, threshold=value)
        result.append(Tuned(tuned, hits, len(found), alarms, rate, bits))
    return result


def _is_found(entry: Tuned, settings: KeywordSettings | PhraseSettings) -> bool:
    """Whether a phrase is heard again often enough."""
    return entry.hits >= settings.min_hits * entry.spoken and entry.hits > 0


def _sample(clips: list[Utterance], seed: int) -> list[Utterance]:
    order = np.random.default_rng(seed).permutation(len(clips))
    return [clips[i] for i in order]


def _sentences(
    texts: Sequence[Utterance], phrases: Sequence[Phrase], settings: KeywordSettings
) -> list[str]:
    """Short training sentences, so many with each phrase."""
    open_ = {tuple(p.text.split()): settings.examples for p in phrases}
    chosen = []
    for utterance in _sample(list(texts), settings.seed):
        found = tuple(words(utterance.text))
        if not open_ or not 0 < len(found) <= _SENTENCE_WORDS:
            continue
        here = [gram for gram in open_ if len(gram) <= len(found) and _overlap(gram, found)]
        if here:
            chosen.append(" ".join(found))
        for gram in here:
            open_[gram] -= 1
            if open_[gram] == 0:
                del open_[gram]
    return chosen
