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
import logging
import math
import multiprocessing
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import track

from edge_runtime.audio.file import read_file
from edge_runtime.errors import AudioError
from edge_runtime.mfcc import SAMPLE_RATE, Int16
from edge_runtime.segment import speech_of
from edge_runtime.text.phrases import Phrase, format_phrase
from edge_runtime.text.tokenizer import words
from training.corpora import Utterance
from training.errors import TrainingError
from training.speech import FLITE_VOICES, Synthesizer, speak_with_flite

if TYPE_CHECKING:
    from edge_runtime.text.keywords import Keywords

log = logging.getLogger(__name__)

_LOWEST = -20.0  # log10 of the likelihood ratio from which detections are looked at in tuning
_TAIL = 8  # highest false alarms that the tail is fitted to
_SPREAD = 3.0  # decades that the tail is taken to fall off in, where next to nothing is known of it
_SENTENCE_WORDS = 12  # longest sentence that is spoken
_UTTERANCE = 3.0  # seconds in which a phrase is heard or not, for what that tells
_RATES = tuple(m * 10.0**e for e in (-2, -1, 0, 1) for m in (1, 2, 5))
"""False alarms an hour that a single phrase may be given."""
Gram = tuple[str, ...]


@dataclass(frozen=True)
class KeywordSettings:
    """How the list is learned."""

    count: int = 400
    """Phrases in the list, at most."""
    longest: int = 3
    """Words of a phrase, at most."""
    min_count: int = 10
    """Texts that a phrase must be in."""
    min_phones: int = 3
    """Phones of a phrase: shorter ones are set off by everything."""
    min_score: float = 2.5
    """z-score of the log-odds in the class it tells most for."""
    prior: float = 1000.0
    """Weight of the prior, in words for the ranking and in texts for the shares of a class."""
    alarms: float = 100.0
    """False alarms an hour of speech, of the whole list."""
    examples: int = 6
    """Sentences spoken with each phrase."""
    negatives: float = 60.0
    """Minutes of real speech to tune on, at most."""
    min_hits: float = 0.1
    """Share of its sentences in which a phrase must be found."""
    jobs: int = 0
    """Processes; 0 for one per core."""
    seed: int = 0
    """Of the choice of sentences, voices and clips."""


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
    """Where the texts and the speech come from."""

    def write(self, path: Path, settings: KeywordSettings) -> None:
        """Write the list for the device, with what was measured in comments."""
        hits, spoken = (sum(getattr(t, n) for t in self.phrases) for n in ("hits", "spoken"))
        alarms = sum(t.alarms for t in self.phrases)
        header = (
            f"# {len(self.phrases)} phrases learned by python -m training keywords from "
            f"{', '.join(self.corpora)}",
            f"# tuned for {settings.alarms:g} false alarms an hour on {self.hours:.2f} h of real "
            f"and {self.spoken_hours:.2f} h of synthesized speech; heard there: {alarms} in the "
            f"real speech; found in {hits} of {spoken} synthesized sentences",
            "# phrase, threshold (likelihood ratio), z-score of log-odds by class, pronunciations",
        )
        lines = (*header, *(format_phrase(t.phrase) for t in self.phrases))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".part")
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        temporary.replace(path)


def log_odds(
    counts: dict[str, Counter[Gram]], prior: float, min_count: int = 1
) -> dict[Gram, dict[str, float]]:
    """z-scores of how much more often each gram is said in a class than in all others.

    Parameters
    ----------
    counts : per class, how often each gram occurs.
    prior : total weight of the Dirichlet prior, which has the proportions of all classes together.
    min_count : rarer grams count for the totals but are not scored.
    """
    total = sum(counts.values(), Counter[Gram]())
    size = sum(total.values())
    scored = {gram: count for gram, count in total.items() if count >= min_count}
    alpha = {gram: prior * count / size for gram, count in scored.items()}
    result: dict[Gram, dict[str, float]] = defaultdict(dict)
    for label, mine in counts.items():
        n_mine = sum(mine.values())
        n_rest = size - n_mine
        for gram, count in scored.items():
            here = mine[gram] + alpha[gram]
            there = count - mine[gram] + alpha[gram]
            delta = math.log(here / (n_mine + prior - here)) - math.log(
                there / (n_rest + prior - there)
            )
            result[gram][label] = delta / math.sqrt(1 / here + 1 / there)
    return dict(result)


def candidates(
    texts: Iterable[tuple[str, str]], settings: KeywordSettings, number: int
) -> list[Phrase]:
    """The phrases that tell most, in turn for each class, without thresholds.

    Parameters
    ----------
    texts : (text, class).
    settings : counts and lengths.
    number : how many at most.

    A phrase that contains a better one, or is contained in one, is left out.
    """
    counts = [defaultdict[str, Counter[Gram]](Counter) for _ in range(settings.longest)]
    for text, label in texts:
        found = words(text)
        for length, by_class in enumerate(counts, 1):
            by_class[label].update(_grams(found, length))
    scores: dict[Gram, dict[str, float]] = {}
    for by_class in counts:
        scores.update(log_odds(dict(by_class), settings.prior, settings.min_count))
    return _in_turn(scores, settings, number)


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
        has it.
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
    heard = _listen(phrases, _sentences(texts, phrases, settings), clips, settings)
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


def information(shares: Sequence[float]) -> float:
    """Bits that an event tells about the class of an utterance, all classes being as likely.

    `shares` are the probabilities of the event in each class, 0 to 1: the mutual information
    (Cover & Thomas 2006, eq. 2.35).
    """
    by_class = np.clip(np.array(shares, float), 1e-12, 1 - 1e-12)
    mean = by_class.mean()
    yes, no = by_class * np.log2(by_class / mean), 1 - by_class
    return float((yes + no * np.log2(no / (1 - mean))).mean())


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


def _is_found(entry: Tuned, settings: KeywordSettings) -> bool:
    """Whether a phrase is heard again often enough."""
    return entry.hits >= settings.min_hits * entry.spoken and entry.hits > 0


def _shares(
    texts: Sequence[tuple[str, str]], phrases: Sequence[str], prior: float
) -> dict[str, list[float]]:
    """Of each phrase the share of texts of each class that have it, drawn towards that of all."""
    grams = {tuple(phrase.split()) for phrase in phrases}
    longest = max(map(len, grams))
    sizes = Counter(label for _, label in texts)
    counts: dict[str, Counter[Gram]] = {label: Counter() for label in sizes}
    for text, label in texts:
        found = words(text)
        for length in range(1, longest + 1):
            counts[label].update(_grams(found, length) & grams)
    result = {}
    for gram in grams:
        overall = sum(mine[gram] for mine in counts.values()) / len(texts)
        result[" ".join(gram)] = [
            (mine[gram] + prior * overall) / (sizes[label] + prior)
            for label, mine in counts.items()
        ]
    return result


def _in_turn(
    scores: dict[Gram, dict[str, float]], settings: KeywordSettings, number: int
) -> list[Phrase]:
    """The best of each class, then the second best of each..."""
    labels = sorted({label for z in scores.values() for label in z})
    ranked = {c: iter(sorted(scores, key=lambda g, c=c: (-scores[g][c], g))) for c in labels}  # type: ignore[misc]
    pronounce = _Pronouncer()
    chosen: list[Phrase] = []
    grams: list[Gram] = []
    while ranked and len(chosen) < number:
        for label in list(ranked):
            for gram in ranked[label]:
                if scores[gram][label] < settings.min_score:
                    del ranked[label]
                    break
                phones, lacking = pronounce(gram)
                if phones < settings.min_phones or any(_overlap(gram, other) for other in grams):
                    continue
                grams.append(gram)
                chosen.append(Phrase(" ".join(gram), None, scores[gram], lacking))
                break
            else:
                del ranked[label]
    return chosen[:number]


class _Pronouncer:
    """Phones of a phrase: from the engine's dictionary, else as eSpeak reads the word."""

    def __init__(self) -> None:
        from edge_runtime.text.sphinx import open_decoder

        self._dictionary = open_decoder(lm=None)
        self._synthesizer = Synthesizer()

    def __call__(self, gram: Gram) -> tuple[int, dict[str, str]]:
        """Number of phones, and the pronunciations that the dictionary lacks."""
        phones, lacking = 0, {}
        for word in gram:
            found = self._dictionary.lookup_word(word)
            if found is None:
                found = lacking[word] = self._synthesizer.pronounce(word)
            phones += len(found.split())
        return phones, lacking


def _grams(said: Sequence[str], length: int) -> set[Gram]:
    """Every run of `length` words, once."""
    return {tuple(said[i : i + length]) for i in range(len(said) - length + 1)}


def _overlap(one: Gram, other: Gram) -> bool:
    short, long = sorted((one, other), key=len)
    return any(long[i : i + len(short)] == short for i in range(len(long) - len(short) + 1))


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


@dataclass(frozen=True)
class _Task:
    """Something to listen to."""

    text: str
    clip: Utterance | None = None
    """None: the text is spoken."""
    voice: str = ""
    """Of flite."""
    stretch: float = 1.0
    """Duration of its phones, relative."""


_engine: Keywords | None = None  # of a worker process


def _load(phrases: list[Phrase]) -> None:
    from edge_runtime.text.keywords import Keywords

    global _engine
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _engine = Keywords(phrases)


def _hear(task: _Task) -> tuple[_Task, float, dict[str, float]] | str:
    """In a worker process: seconds of the task's audio, and each phrase's best score there."""
    assert _engine is not None
    try:
        samples = _audio(task)
    except AudioError as error:
        return str(error)
    _engine.begin(0.0)
    _engine.feed(samples)
    _engine.end()
    best: dict[str, float] = {}
    for phrase, _, _, score in _engine.detections():
        best[phrase] = max(score, best.get(phrase, -math.inf))
    return task, len(samples) / SAMPLE_RATE, best


def _audio(task: _Task) -> Int16:
    if task.clip is not None:
        return speech_of(read_file(task.clip.audio, task.clip.start, task.clip.end))
    return speech_of(speak_with_flite(task.text, task.voice, task.stretch))


class _Heard:
    """Best scores of each phrase in a clip or sentence, log10, where it is found at all."""

    def __init__(self, phrases: Sequence[str]) -> None:
        self.spoken: dict[str, list[float]] = {text: [] for text in phrases}
        """In synthesized sentences with it; -infinity where it is not found."""
        self.others: dict[str, list[float]] = {text: [] for text in phrases}
        """In synthesized sentences without it."""
        self.real: dict[str, list[float]] = {text: [] for text in phrases}
        """In real speech without it."""
        self.spoken_hours = 0.0
        """Length of the synthesized speech."""
        self.real_hours = 0.0
        """Length of the real speech."""


def _listen(
    phrases: list[Phrase],
    sentences: list[str],
    clips: list[Utterance],
    settings: KeywordSettings,
) -> _Heard:
    """What the engine makes of all phrases in all sentences and clips."""
    rng = np.random.default_rng(settings.seed)
    tasks = [
        _Task(text, None, str(rng.choice(FLITE_VOICES)), float(rng.uniform(0.85, 1.3)))
        for text in sentences
    ]
    heard = _Heard([p.text for p in phrases])
    for task, length, best in _outcomes(phrases, [*tasks, *_until(clips, settings)], settings):
        said = tuple(words(task.text))
        without = heard.others if task.clip is None else heard.real
        for phrase in phrases:
            text = phrase.text
            if said and _overlap(tuple(text.split()), said):
                if task.clip is None:
                    heard.spoken[text].append(best.get(text, -math.inf))
            elif text in best:
                without[text].append(best[text])
        if task.clip is None:
            heard.spoken_hours += length / 3600
        else:
            heard.real_hours += length / 3600
    if not heard.real_hours:
        raise TrainingError("keywords: none of the speech to tune on can be read")
    return heard


def _until(clips: list[Utterance], settings: KeywordSettings) -> Iterator[_Task]:
    """Clips until there is enough speech; their lengths are known before they are read."""
    from edge_runtime.audio.file import FileSource

    left = 60 * settings.negatives
    for clip in clips:
        if left <= 0:
            return
        try:
            left -= FileSource(clip.audio, clip.start, clip.end).seconds
        except AudioError as error:
            log.warning("%s", error)
            continue
        yield _Task(clip.text, clip)


def _outcomes(
    phrases: list[Phrase], tasks: list[_Task], settings: KeywordSettings
) -> Iterator[tuple[_Task, float, dict[str, float]]]:
    context = multiprocessing.get_context("spawn")
    jobs = settings.jobs or os.cpu_count() or 1
    pool = ProcessPoolExecutor(jobs, context, _load, (phrases,))
    try:
        for outcome in track(
            pool.map(_hear, tasks),
            "listening for phrases",
            total=len(tasks),
            transient=True,
            console=Console(stderr=True),
        ):
            if isinstance(outcome, str):
                log.warning("%s", outcome)
            else:
                yield outcome
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
