"""Hearing phrases in real speech with the device's engine, over several processes."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import signal
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import track

from edge_runtime.audio.file import read_file
from edge_runtime.errors import AudioError
from edge_runtime.pcm import FULL_SCALE, SAMPLE_RATE, Int16
from edge_runtime.segment import speech_of
from edge_runtime.text.phrases import Phrase
from edge_runtime.tokenizer import words
from training.corpora import Utterance
from training.errors import TrainingError
from training.speech.phrase_ranking import _overlap
from training.speech.settings import KeywordSettings, PhraseSettings
from training.speech.synthesis import FLITE_VOICES, Synthesizer, Voice, speak_with_flite
from training.workers import beginning

if TYPE_CHECKING:
    from edge_runtime.text.engines.keywords import Keywords
    from edge_runtime.text.engines.sphinx import SphinxModel


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Task:
    """Something to listen to."""

    text: str
    clip: Utterance | None = None
    """None: the text is spoken."""
    voice: str = ""
    """One of flite's, or else eSpeak's."""
    stretch: float = 1.0
    """Duration of its phones, relative."""
    pitch: float = 1.0
    """Mean of its fundamental frequency, relative."""
    phones: str = ""
    """What flite says in place of the text."""


_engine: Keywords | None = None  # of a worker process


def _load(phrases: list[Phrase], model: SphinxModel | None = None) -> None:
    from edge_runtime.text.engines.keywords import Keywords

    global _engine
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _engine = Keywords(phrases, model)


def _hear(task: _Task) -> tuple[_Task, float, dict[str, float]] | str:
    """In a worker process: seconds of the task's audio, and each phrase's best score there."""
    assert _engine is not None
    try:
        samples = _audio(task)
    except AudioError as error:
        return str(error)
    _engine.restart()  # else what is heard depends on which clips this process heard before
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
    if task.voice in FLITE_VOICES:
        flite = speak_with_flite(
            task.text, task.voice, task.stretch, task.pitch, phones=task.phones
        )
        return speech_of(flite)
    voice = Voice(task.voice, rate=round(Voice.rate / task.stretch))
    return speech_of((FULL_SCALE * _synthesizer().speak(task.text, voice)).astype(np.int16))


@cache
def _synthesizer() -> Synthesizer:
    return Synthesizer()


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
    spoken: list[_Task],
    clips: list[Utterance],
    settings: KeywordSettings | PhraseSettings,
    model: SphinxModel | None = None,
) -> _Heard:
    """What the engine makes of all phrases in what is spoken and in clips."""
    heard = _Heard([p.text for p in phrases])
    everything = [*spoken, *_until(clips, settings)]
    # Interrupted in here, it would keep its processes at work until somebody collects it.
    with closing(_outcomes(phrases, everything, settings, model)) as outcomes:
        for task, length, best in outcomes:
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
    if clips and not heard.real_hours:
        raise TrainingError("keywords: none of the speech to tune on can be read")
    return heard


def _aloud(sentences: list[str], seed: int) -> list[_Task]:
    """Each sentence in a voice of flite, at a pace of its own."""
    rng = np.random.default_rng(seed)
    return [
        _Task(text, None, str(rng.choice(FLITE_VOICES)), float(rng.uniform(0.85, 1.3)))
        for text in sentences
    ]


def _until(clips: list[Utterance], settings: KeywordSettings | PhraseSettings) -> Iterator[_Task]:
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
    phrases: list[Phrase],
    tasks: list[_Task],
    settings: KeywordSettings | PhraseSettings,
    model: SphinxModel | None = None,
) -> Generator[tuple[_Task, float, dict[str, float]], None, None]:
    """What `_hear` makes of each task; closed, it gives up those that nobody hears yet."""
    context = multiprocessing.get_context("spawn")
    jobs = settings.jobs or os.cpu_count() or 1
    pool = ProcessPoolExecutor(jobs, context, _load, (phrases, model))
    try:
        with beginning():
            outcomes = pool.map(_hear, tasks)
        for outcome in track(
            outcomes,
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
