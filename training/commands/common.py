"""What the commands of `python -m training` do, given what the command line says.

Each takes the parsed arguments and returns an exit code. What is heavy is imported where it is
used, so that --help is quick.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_runtime.settings import from_arguments


@dataclass(frozen=True)
class ModelSettings:
    """The shape of the network, as far as the command line sets it."""

    filters: int = 128
    """Filters per kernel length."""
    stride: int = 1
    """Frames of 10 ms from one audio map to the next."""
    dilations: str = ""
    """Dilation of each audio layer of kernel 3 behind the first, in maps, such as 1 or 1,2."""
    hidden: int = 128
    """Width of the hidden dense layer."""
    dropout: float = 0.5
    """Dropout before each dense layer."""


@dataclass(frozen=True)
class SpeakerSettings:
    """Speaker embeddings, for a variant with +speaker."""

    speaker: str = ""
    """Where they are from: resemblyzer (computed here), FILE.scp, FILE.ark, FILE.npy with its ids
    in FILE.txt, or a folder of ID.npy."""
    utt2spk: Path | None = None
    """Kaldi's utt2spk, where the embeddings are those of speakers it names."""


def _folds(arguments: argparse.Namespace, count: int) -> int | None:
    """Folds by speaker, `count` by default; None for one a session."""
    from training.errors import TrainingError

    if arguments.by == "speaker":
        return count if arguments.folds is None else int(arguments.folds)
    if arguments.folds is not None:
        raise TrainingError("--by session makes one fold a session; leave out --folds")
    return None


def _config(arguments: argparse.Namespace, variant: str, labels: list[str]) -> Any:
    from training.errors import TrainingError
    from training.network.config import ModelConfig

    shape = from_arguments(ModelSettings, arguments)
    try:
        return ModelConfig(
            labels=tuple(labels),
            variant=variant,
            filters=shape.filters,
            audio_stride=shape.stride,
            audio_dilations=_numbers(shape.dilations),
            hidden=(shape.hidden,),
            dropout=shape.dropout,
        )
    except ValueError as error:
        raise TrainingError(str(error)) from None


def _numbers(text: str) -> tuple[int, ...]:
    """Numbers apart by commas; ValueError, in words, for anything else."""
    try:
        return tuple(int(number) for number in text.split(",") if number)
    except ValueError:
        raise ValueError(f"--dilations {text}: expected numbers, such as 1 or 1,2") from None


def _with_speakers(
    arguments: argparse.Namespace, config: Any, utterances: list[Any]
) -> tuple[Any, Any]:
    """`config` at the width of the speaker embeddings, and those; as it is and None without."""
    from training.errors import TrainingError

    chosen = from_arguments(SpeakerSettings, arguments)
    if config.parts.speaker != bool(chosen.speaker):
        raise TrainingError(
            f"variant {config.variant} needs --speaker: resemblyzer, or a file of embeddings"
            if config.parts.speaker
            else f"variant {config.variant} takes no speaker embedding; add +speaker to it"
        )
    speakers = _speakers(chosen, utterances)
    return (replace(config, speaker=speakers.width) if speakers else config), speakers


def _speakers(chosen: SpeakerSettings, utterances: list[Any]) -> Any:
    """The speaker embeddings asked for; None for none."""
    from training.data.speaker_encoder import load_speakers

    if not chosen.speaker:
        return None
    speakers = load_speakers(chosen.speaker, utterances, chosen.utt2spk)
    print(
        f"{len(speakers.vectors)} of {len(utterances)} utterances have a speaker embedding of "
        f"{speakers.source}, {speakers.width} wide"
    )
    return speakers


def _word_plan(
    arguments: argparse.Namespace, utterances: list[Any], config: Any
) -> tuple[list[Any], Any]:
    from training.fit.prepare import word_plan
    from training.speech.transcribe import with_transcripts
    from training.words.settings import WordSettings

    settings = from_arguments(WordSettings, arguments)
    if config.parts.text and settings.text == "asr":
        utterances = with_transcripts(utterances, settings.transcripts)
    return word_plan(utterances, config, settings, arguments.pair)
