"""From utterances and settings to what one model is trained on, whatever its variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_runtime.console import counted
from edge_runtime.tokenizer import Tokenizer
from training.corpora import Utterance
from training.corpora.noise import nonspeech
from training.data.features import FeatureSettings, extract
from training.data.folds import official_split
from training.data.pairs import with_drawn_words, with_own_words
from training.data.surroundings import folders_of
from training.data.teacher import teach
from training.data.tokens import encode, tokenize
from training.errors import TrainingError
from training.fit.examples import Examples, FitData
from training.fit.fit import augmentations, watched_augmentations
from training.fit.settings import FitSettings
from training.fit.warmstart import Branches
from training.network.config import ModelConfig
from training.run import Run
from training.words.asrnoise import open_noise
from training.words.embeddings import config_with, quantize_table, table_error, vocabulary_of
from training.words.settings import WordSettings


@dataclass(frozen=True)
class WordPlan:
    """Where the words of a model that reads come from."""

    settings: WordSettings = field(default_factory=WordSettings)
    train: tuple[Utterance, ...] = ()
    """Texts to pair the training clips with; none: the clips have words of their own."""
    test: tuple[Utterance, ...] = ()
    """Texts, in none of the above, to pair the test clips with."""
    seed: int = 0
    """Seed of the pairs that are tested."""


@dataclass(frozen=True)
class Prepared:
    """What `fit` takes."""

    data: FitData
    config: ModelConfig
    vocabulary: list[str]
    """The words of a model that reads, in the order of its table."""
    notes: list[str]
    """What a user should know about the words, a sentence each."""


def word_plan(
    utterances: Sequence[Utterance], config: ModelConfig, settings: WordSettings, pair: bool
) -> tuple[list[Utterance], WordPlan]:
    """The utterances that a model of `config` is trained on, and the plan for its words.

    Utterances that are text only become the texts to pair with, if `pair` asks for that.
    Raises TrainingError where a model needs what the corpora do not have.
    """
    spoken = [u for u in utterances if u.path is not None]
    texts = [u for u in utterances if u.path is None]
    parts = config.parts
    if pair and not (parts.text and spoken and texts):
        raise TrainingError(
            "--pair puts texts to clips: it needs a corpus with audio, one that is text only, and "
            "a variant that reads"
        )
    if pair and parts.speaker and not parts.audio:
        raise TrainingError(
            f"variant {config.variant} cannot learn from texts that --pair draws: nobody spoke "
            "them, so they have no speaker; leave out --pair or +speaker"
        )
    if parts.audio and not spoken:
        raise TrainingError(f"variant {config.variant} needs audio; the corpora are text only")
    if not parts.text or (parts.audio and not pair and not texts) or (not pair and not spoken):
        return (spoken if parts.audio else texts), WordPlan(settings)
    if not pair:
        if not parts.audio:
            return [u for u in utterances if u.text], WordPlan(settings)
        names = ", ".join(sorted({u.corpus for u in texts}))
        raise TrainingError(
            f"{names} is text only; to draw words from it for the clips of the same class, ask "
            "for it: --pair"
        )
    split = official_split(texts)
    if split is None or not all(split):
        raise TrainingError("texts to pair with need an official training and development split")
    return spoken, WordPlan(settings, tuple(split[0]), tuple(split[1]))


def prepare(
    train: list[Utterance],
    watched: list[Utterance],
    config: ModelConfig,
    settings: FitSettings,
    features: FeatureSettings,
    words: WordPlan,
    branches: Branches,
    workers: int | None = None,
) -> Prepared:
    """Features, tokens, pairs and the final shape of the model.

    Parameters
    ----------
    train, watched : utterances to train on, and others to watch.
    config : the model, before vocabulary and branches are known.
    settings, features, words, branches : see their types.
    workers : processes that extract features; 1: in this one, without a progress bar.
    """
    labels = list(config.labels)
    notes: list[str] = []
    vocabulary, known = None, []
    texts = list(words.train) or train
    start = branches.whole(config)
    if start:
        config, known = _shape_of(start, config), start.vocabulary
        branches = Branches()
    elif branches.text:
        known = branches.text.vocabulary
    elif config.parts.text:
        vocabulary = vocabulary_of(texts, words.settings)
        known = vocabulary.words
        config = config_with(config, vocabulary, words.settings)
        error = table_error(vocabulary.table, quantize_table(vocabulary.table))
        notes.append(
            f"{counted(len(known), 'word')} of {vocabulary.source} known; in int8 they are off by "
            f"{100 * error.relative:.1f} %"
        )
    if branches:
        config = branches.fit_to(config)
    tokenizer = Tokenizer(known, config.tokens, config.punctuation)
    if settings.asr_noise and not config.parts.text:
        raise TrainingError(f"--asr-noise corrupts words; variant {config.variant} reads none")
    noise = open_noise(settings.asr_noise, tokenizer, known)
    watch: Examples | None = None
    if not config.parts.audio:
        examples: Examples = tokenize(texts, tokenizer)
        watch = tokenize(watched, tokenizer)
    else:
        show = workers != 1
        if settings.nonspeech:
            train = [*train, *_nonspeech(settings, config)]
        clips = extract(train, features, augmentations(settings), workers=workers, progress=show)
        examples = clips
        if settings.teacher:
            teach(clips, settings.teacher, workers=workers, progress=show)
        others = None
        if watched:
            seen = watched_augmentations(settings)
            others = extract(watched, features, seen, workers=workers, progress=show)
        watch = others
        if config.parts.text:
            if words.train:
                examples = with_drawn_words(
                    clips, texts, encode(texts, tokenizer), settings.neutral_words
                )
            else:
                examples = with_own_words(clips, encode(clips.utterances, tokenizer))
            if others:
                watch = with_own_words(others, encode(others.utterances, tokenizer))
    if watch and not watch.utterances:
        watch = None
    if config.parts.text:
        notes += [
            _count(name, part, tokenizer)
            for name, part in (("training", texts), ("watched", watched))
        ]
    data = FitData(examples, watch, labels, vocabulary, branches, start=start, noise=noise)
    return Prepared(data, config, known, notes)


def _nonspeech(settings: FitSettings, config: ModelConfig) -> list[Utterance]:
    """Sounds that train to be unsure; TrainingError for a model that reads, or bad folders."""
    if config.parts.text or config.parts.speaker:
        raise TrainingError(
            "--nonspeech needs sound alone: such sounds have no words and no speaker; variant "
            f"{config.variant} starts from an audio run that has heard them (--audio-run)"
        )
    return nonspeech(map(Path, folders_of(settings.nonspeech)))


def _shape_of(start: Run, config: ModelConfig) -> ModelConfig:
    """The shape of the run that training goes on from, with the dropout of `config`."""
    if config.parts.speaker and config.speaker != start.config.speaker:
        raise TrainingError(
            f"the run takes speaker embeddings {start.config.speaker} wide, these are "
            f"{config.speaker} wide"
        )
    return replace(start.config, dropout=config.dropout)


def _count(name: str, texts: Sequence[Utterance], tokenizer: Tokenizer) -> str:
    """How many words of `texts` a tokenizer knows, as a sentence."""
    found = tokenize(texts, tokenizer)
    return (
        f"{name}: {counted(len(found.utterances), 'text')}, {counted(found.words, 'word')}, "
        f"{found.unknown} of them "
        f"unknown, {found.cut} beyond the longest text read"
    )
