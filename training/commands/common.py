"""What several commands share: options, and what becomes of them.

What is heavy is imported where it is used, so that --help is quick.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.console import counted
from edge_runtime.settings import Limits, Settings, number, setting
from training.fit.settings import FitSettings
from training.words.settings import WordSettings

if TYPE_CHECKING:
    from training.corpora import Found, Utterance
    from training.data.folds import Cut
    from training.data.speaker import SpeakerVectors
    from training.fit.prepare import WordPlan
    from training.network.config import ModelConfig

BY = ("speaker", "session", "corpus")


@dataclass(frozen=True)
class ModelSettings(Settings):
    """The shape of the network, as far as the command line sets it."""

    filters: int = setting(128, "Filters per kernel length.", minimum=1, maximum=4096)
    stride: int = setting(
        1, "Frames of 10 ms from one audio map to the next.", minimum=1, maximum=100
    )
    dilations: str = setting(
        "", "Dilation of each audio layer of kernel 3 behind the first, in maps, such as 1 or 1,2."
    )
    hidden: int = setting(128, "Width of the hidden dense layer.", minimum=1, maximum=65536)
    dropout: float = setting(0.5, "Dropout before each dense layer.", minimum=0, below=1)
    attention_scale: float = setting(
        0.0,
        "Factor of the attention scores; 0 for 1 / sqrt(filters), 1 for the paper's plain product.",
        minimum=0,
    )


@dataclass(frozen=True)
class SpeakerSettings(Settings):
    """Speaker embeddings, for a variant with +speaker."""

    speaker: str = setting(
        "",
        "Where they are from: resemblyzer (computed here), FILE.scp, FILE.ark, FILE.npy with its "
        "ids in FILE.txt, or a folder of ID.npy.",
    )
    utt2spk: Path | None = setting(
        None, "Kaldi's utt2spk, where the embeddings are those of speakers it names."
    )


@dataclass(frozen=True)
class FoldSettings(Settings):
    """How data are cut into folds."""

    folds: int | None = setting(
        None, "Folds by speaker (default: 5; table: 10, as the paper).", metavar="K", minimum=2
    )
    by: str = setting(
        "speaker",
        "What a fold is cut by; by session or corpus, each of those is a fold, judged by a model "
        "of the others.",
        choices=BY,
    )
    jobs: int | None = setting(
        None, "Folds at a time (default: cores).", metavar="N", minimum=1, maximum=1024
    )

    def cut(self, default: int) -> Cut:
        """Folds by speaker, `default` of them unless set, or what each is one of.

        Raises TrainingError where both are asked for.
        """
        from training.errors import TrainingError

        if self.by == "speaker":
            return default if self.folds is None else self.folds
        if self.folds is not None:
            raise TrainingError(f"--by {self.by} makes one fold a {self.by}; leave out --folds")
        return "session" if self.by == "session" else "corpus"


PRESETS = {
    # What the paper gives, and what it does not use switched off (docs/paper.md).
    "paper": {
        "filters": 128,
        "stride": 1,
        "dilations": "",
        "hidden": 128,
        "dropout": 0.3,
        "attention_scale": 1.0,
        "batch": 64,
        "lr": 5e-4,
        "lr_schedule": "constant",
        "balance": False,
        # Whole clips: what is shorter than 7.5 s is padded, and counts as long as it is.
        "min_frames": 750,
        "max_frames": 750,
        "weight_decay": 0.0,
        "clip_norm": 1.0,
        "label_smoothing": 0.0,
        "mixup": 0.0,
        "augment": False,
        "gain_db": 0.0,
        "time_masks": 0,
        "feature_masks": 0,
        "noise": 0.0,
        "word_dropout": 0.0,
        "punctuation_dropout": 0.0,
        "modality_dropout": 0.0,
        "embedding_lr": 1.0,
        "ema": 0.0,
        "teacher": "",
    },
}


FOUR = "four"  # the map that is meant where none is named
CLASSES = (
    "Which of a corpus's own labels are which class: four, six, seven, eight, valence or arousal, "
    "or a TOML file of your own (docs/more-emotions.md)."
)


@dataclass(frozen=True)
class Recipe(Settings):
    """What every command that trains needs to know beside its corpora."""

    classes: str = setting(FOUR, CLASSES, metavar="MAP")
    ordinary: str = setting(
        "",
        "Class that ordinary speech trains as and is judged by, such as neutral for LibriSpeech; "
        "without it such a corpus is refused.",
        metavar="CLASS",
    )
    pair: bool = setting(
        False,
        "Put to each clip a text of the same class from the text-only corpora, drawn at random; "
        "every figure and model card that rests on it says so.",
    )
    schedule: FitSettings = field(default_factory=FitSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    words: WordSettings = field(default_factory=WordSettings)
    speaker_embedding: SpeakerSettings = field(default_factory=SpeakerSettings)


@dataclass(frozen=True)
class VariantRecipe(Recipe):
    """That, of a command that trains one variant."""

    variant: str = setting(
        "audio",
        "Model: audio, text, audio+text or audio+text+att; then +swem, +speaker or both.",
    )


def add_corpora(command: argparse.ArgumentParser) -> None:
    """The positional argument of every command that reads data."""
    command.add_argument(
        "corpora", nargs="+", metavar="NAME=PATH", help="a corpus on disk, or NAME@LABEL=PATH"
    )


def add_classes(command: argparse.ArgumentParser, default: str = FOUR) -> None:
    """`--classes`, of a command whose recipe does not have it; by default as `default` says."""
    told = f"{CLASSES[0].lower()}{CLASSES[1:-1]} (default: {default})"
    command.add_argument("--classes", default="", metavar="MAP", help=told)


def add_jobs(command: argparse.ArgumentParser, what: str = "processes at a time") -> None:
    """`--jobs`."""
    command.add_argument(
        "--jobs",
        type=number(int, Limits(minimum=1)),
        metavar="N",
        help=f"{what} (default: one a core)",
    )


def as_manifest(argument: str) -> str:
    """A CSV can be named without saying that it is a manifest."""
    return f"manifest={argument}" if argument.endswith(".csv") and "=" not in argument else argument


def warn_incomplete(found: Mapping[str, Found]) -> None:
    """Say of each corpus in what it differs from the complete one, where that is known."""
    from training.corpora import incomplete

    for name, part in found.items():
        if warning := incomplete(name, part):
            logging.warning("%s", warning)


def add_preset(command: argparse.ArgumentParser) -> None:
    """`--preset`, which gives other options their defaults (`with_preset`)."""
    command.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        help="paper: schedule, loss and shape as published, all that it did not use switched off "
        "(docs/paper.md); options beside it win",
    )
    command.set_defaults(parser=command)


def with_preset(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> argparse.Namespace:
    """`arguments` parsed, over the defaults of the preset that they name, if any."""
    parsed = parser.parse_args(arguments)
    if getattr(parsed, "preset", None):
        parsed.parser.set_defaults(**PRESETS[parsed.preset])
        parsed = parser.parse_args(arguments)
    return parsed


def config_of(shape: ModelSettings, variant: str, labels: Sequence[str]) -> ModelConfig:
    """The model that the settings describe. Raises TrainingError where there is none such."""
    from training.errors import TrainingError
    from training.network.config import ModelConfig

    try:
        return ModelConfig(
            labels=tuple(labels),
            variant=variant,
            filters=shape.filters,
            audio_stride=shape.stride,
            audio_dilations=_numbers(shape.dilations),
            hidden=(shape.hidden,),
            dropout=shape.dropout,
            attention_scale=shape.attention_scale,
        )
    except ValueError as error:
        raise TrainingError(str(error)) from None


def with_speakers(
    config: ModelConfig, chosen: SpeakerSettings, utterances: Sequence[Utterance]
) -> tuple[ModelConfig, SpeakerVectors | None]:
    """`config` at the width of the speaker embeddings, and those; as it is and None without.

    Raises TrainingError where the variant takes none and some are given, or the other way round.
    """
    from training.errors import TrainingError

    if config.parts.speaker != bool(chosen.speaker):
        raise TrainingError(
            f"variant {config.variant} needs --speaker: resemblyzer, or a file of embeddings"
            if config.parts.speaker
            else f"variant {config.variant} takes no speaker embedding; add +speaker to it"
        )
    speakers = speakers_of(chosen, utterances)
    return (replace(config, speaker=speakers.width) if speakers else config), speakers


def speakers_of(chosen: SpeakerSettings, utterances: Sequence[Utterance]) -> SpeakerVectors | None:
    """The speaker embeddings asked for; None for none."""
    from training.data.speaker_encoder import load_speakers

    if not chosen.speaker:
        return None
    speakers = load_speakers(chosen.speaker, list(utterances), chosen.utt2spk)
    print(
        f"speaker embeddings of {speakers.source}, {speakers.width} wide: "
        f"{speakers.known(utterances)} of {counted(len(utterances), 'utterance')}"
    )
    return speakers


def load_data(
    corpora: Sequence[str], recipe: VariantRecipe
) -> tuple[dict[str, Found], list[Utterance], WordPlan, ModelConfig]:
    """What the corpora hold, the utterances that the variant can use, its words and its shape.

    Refuses a device that is not there before any work. Raises TrainingError.
    """
    from training.corpora import load_corpora
    from training.corpora.class_map import open_classes
    from training.data.folds import check_classes
    from training.fit.fit import accelerator_of

    accelerator_of(recipe.schedule.device)
    found = load_corpora(corpora, recipe.ordinary or None, open_classes(recipe.classes))
    warn_incomplete(found)
    utterances = [u for f in found.values() for u in f.utterances]
    config = config_of(recipe.model, recipe.variant, check_classes(utterances))
    usable, words = plan_words(recipe.words, recipe.pair, utterances, config)
    return found, usable, words, config


def refuse_finished(out: Path, resume: bool = False) -> None:
    """Raise TrainingError where `out` holds a run, or one interrupted that nobody goes on with."""
    from training.errors import TrainingError
    from training.run import RUN_FILE

    if (out / RUN_FILE).exists():
        raise TrainingError(f"{out} holds a finished run; choose another --out or remove it")
    if (out / "checkpoints").exists() and not resume:
        raise TrainingError(f"{out} holds an interrupted run; go on with --resume or remove it")


def refuse_filled(out: Path) -> None:
    """Raise TrainingError where `out` holds anything at all, for it is replaced whole."""
    from training.errors import TrainingError

    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise TrainingError(f"{out} is there and not empty; choose another --out")


def plan_words(
    words: WordSettings, pair: bool, utterances: Sequence[Utterance], config: ModelConfig
) -> tuple[list[Utterance], WordPlan]:
    """The utterances that a model of `config` can use, and where its words come from."""
    from training.fit.prepare import word_plan
    from training.speech.transcribe import with_transcripts

    if config.parts.text and words.text == "asr":
        utterances = with_transcripts(utterances, words.transcripts)
    return word_plan(list(utterances), config, words, pair)


def explain(
    metrics: dict[str, Any], calibration: dict[str, Any], training: Mapping[str, Any] | None = None
) -> None:
    """Say which weights each figure is of, and what is wrong with the figures.

    `training` is a run's record, which says what was tried already.
    """
    from training.evaluate.advice import int8_losses, miscalibrated
    from training.run import forms_of

    for form, text in forms_of(metrics).items():
        print(f"{form}: {text}")
    for warning in (*int8_losses(metrics, training), *miscalibrated(calibration, metrics)):
        logging.warning("warning: %s", warning)


def _numbers(text: str) -> tuple[int, ...]:
    """Numbers apart by commas; ValueError, in words, for anything else."""
    try:
        return tuple(int(number) for number in text.split(",") if number)
    except ValueError:
        raise ValueError(f"--dilations {text}: expected numbers, such as 1 or 1,2") from None
