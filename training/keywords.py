"""The list of key phrases that the device spots: which tell most about the class, and how loud
the evidence must be.

Words and short phrases of the training texts are ranked by weighted log-odds with an informative
Dirichlet prior (Monroe, Colaresi & Quinn 2008, doi 10.1093/pan/mpn018, eq. 16 and 22). Each phrase
then gets the threshold at which real speech without it sets it off no more than so often an hour,
from an exponential tail through its highest scores there (peaks over threshold, Coles 2001, ch. 4);
phrases that are not found again in synthesized sentences at that threshold are left out. The
sentences are spoken by flite, whose voices are made of recorded speech; with eSpeak's formants only
2 of 66 phrases were found again.
"""

from __future__ import annotations

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
Gram = tuple[str, ...]


@dataclass(frozen=True)
class KeywordSettings:
    """How the list is learned."""

    count: int = 48
    """Phrases in the list, at most."""
    longest: int = 3
    """Words of a phrase, at most."""
    min_count: int = 12
    """Texts that a phrase must be in."""
    min_phones: int = 4
    """Phones of a phrase: shorter ones are set off by everything."""
    min_score: float = 5.0
    """z-score of the log-odds in the class it tells most for."""
    prior: float = 1000.0
    """Weight of the prior, in words."""
    alarms: float = 10.0
    """False alarms an hour of speech, of the whole list."""
    examples: int = 3
    """Sentences spoken with each phrase."""
    negatives: float = 20.0
    """Minutes of real speech to tune on, at most."""
    min_hits: float = 0.3
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
    """Times it was heard in real speech, which it is not in."""


@dataclass
class KeywordList:
    """What was learned."""

    phrases: list[Tuned] = field(default_factory=list)
    left_out: list[Tuned] = field(default_factory=list)
    """Candidates found too rarely."""
    hours: float = 0.0
    """Real speech that the thresholds were tuned on."""
    corpora: tuple[str, ...] = ()
    """Where the texts and the speech come from."""

    def write(self, path: Path, settings: KeywordSettings) -> None:
        """Write the list for the device, with what was measured in comments."""
        hits, spoken = (sum(getattr(t, n) for t in self.phrases) for n in ("hits", "spoken"))
        alarms = sum(t.alarms for t in self.phrases)
        header = (
            f"# {len(self.phrases)} phrases learned by python -m training keywords from "
            f"{', '.join(self.corpora)}",
            f"# tuned for {settings.alarms:g} false alarms an hour; on the {self.hours:.2f} h of "
            f"real speech that was tuned on: {alarms}; found in {hits} of {spoken} synthesized "
            "sentences",
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
            grams = {tuple(found[i : i + length]) for i in range(len(found) - length + 1)}
            by_class[label].update(grams)
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
    phrases = candidates(
        ((u.text, u.label) for u in texts), settings, round(spare * settings.count)
    )
    clips = _sample([u for u in speech if u.path is not None], settings.seed)
    if not phrases or not clips:
        what = "phrase in enough texts" if not phrases else "speech to tune on: name a corpus of it"
        raise TrainingError(f"keywords: there is no {what}")
    tuned = {p.text: Tuned(replace(p, threshold=_LOWEST)) for p in phrases}
    sentences = _sentences(texts, phrases, settings)
    spoken, real, hours = _listen([t.phrase for t in tuned.values()], sentences, clips, settings)
    result = KeywordList(
        hours=hours,
        corpora=tuple(sorted({f"{u.corpus} ({u.split})" if u.split else u.corpus for u in texts})),
    )
    for text, entry in tuned.items():
        _tune(entry, spoken[text], real[text], hours, settings)
        kept = (
            entry.hits >= settings.min_hits * entry.spoken and len(result.phrases) < settings.count
        )
        (result.phrases if kept else result.left_out).append(entry)
    return result


def _tune(
    entry: Tuned,
    spoken: list[float],
    alarms: list[float],
    hours: float,
    settings: KeywordSettings,
) -> None:
    """Set the threshold, and measure at it; -infinity stands for not found at all."""
    value = threshold([a for a in alarms if a > _LOWEST], hours, settings.alarms / settings.count)
    entry.phrase = replace(entry.phrase, threshold=value)
    entry.spoken, entry.hits = len(spoken), sum(score >= value for score in spoken)
    entry.alarms = sum(score >= value for score in alarms)


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


def _listen(
    phrases: list[Phrase],
    sentences: list[str],
    clips: list[Utterance],
    settings: KeywordSettings,
) -> tuple[dict[str, list[float]], dict[str, list[float]], float]:
    """Best scores of each phrase where it is spoken, and where not, and hours of the latter."""
    rng = np.random.default_rng(settings.seed)
    tasks = [
        _Task(text, None, str(rng.choice(FLITE_VOICES)), float(rng.uniform(0.9, 1.2)))
        for text in sentences
    ]
    spoken: dict[str, list[float]] = {p.text: [] for p in phrases}
    real: dict[str, list[float]] = {p.text: [] for p in phrases}
    seconds = 0.0
    for task, length, best in _outcomes(phrases, [*tasks, *_until(clips, settings)], settings):
        said = tuple(words(task.text))
        for text in spoken:
            if _overlap(tuple(text.split()), said) and said:
                spoken[text].append(best.get(text, -math.inf)) if task.clip is None else None
            elif task.clip is not None and text in best:
                real[text].append(best[text])
        seconds += length if task.clip else 0.0
    if not seconds:
        raise TrainingError("keywords: none of the speech to tune on can be read")
    return spoken, real, seconds / 3600


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
